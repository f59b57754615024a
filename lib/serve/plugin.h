/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * plugin.h - the procedures that this process can run: its own, those of plugins, and
 * uploaded code
 *
 * A registry is filled by one thread, and may then be read by many.
 */
#ifndef SERVE_PLUGIN_H
#define SERVE_PLUGIN_H

#include <vine_serve.h>

#define PLUGIN_ERROR	256	/* bytes of each @error below; written only on failure */
#define PLUGIN_NAME	48	/* bytes of a procedure's name, without the zero */

/* All zero to begin with. */
struct plugins {
	const struct vine_procedure **procedures;
	unsigned int count;
	const struct vine_compiler *compilers[VINE_ACCEL_TYPES];	/* by type */
	void **opened;			/* from dlopen() */
	unsigned int opened_count;
};

/*
 * Each returns 0, or -1 with the reason in @error, and has added nothing then: a bad name,
 * types or handler; or a procedure of that name and a common type is there already; the same of
 * a compiler.
 */
int plugins_add(struct plugins *plugins, const struct vine_procedure *procedure, char *error);
int plugins_load(struct plugins *plugins, const char *path, char *error);

/*
 * Loads every *.so of a folder, in the order of their names, and returns how many; -1 at
 * the first that cannot be loaded. @folder: NULL: $VINE_PLUGINS (not for set-user-ID
 * programs), or the one that libvine was installed with, which need not exist.
 */
int plugins_load_folder(struct plugins *plugins, const char *folder, char *error);

/*
 * Who runs @name on accelerators of @type (ANY: on any), or NULL. Handlers of "*" come
 * last; plugins_named() leaves them out.
 */
const struct vine_procedure *plugins_find(const struct plugins *plugins,
					  vine_accel_type_e type, const char *name);
const struct vine_procedure *plugins_named(const struct plugins *plugins,
					   vine_accel_type_e type, const char *name);

/* The compiler of source for a type; ANY: of any. NULL: there is none. */
const struct vine_compiler *plugins_compiler(const struct plugins *plugins,
					     vine_accel_type_e type);

/* Unloads: no handler may run any more. @plugins is all zero then. */
void plugins_free(struct plugins *plugins);

/* Uploaded code, opened. */
struct plugin_code {
	vine_handler run;
	void *opened;
	int fd;
};

/*
 * Loads a shared object from @bytes, which are copied, and finds its VINE_UPLOAD_SYMBOL.
 * Its constructors run. 0, or with the reason in @error -ENOMEM, when memory or descriptors ran
 * short, or else -1; but what is damaged may crash the process, as its code may.
 */
int plugin_code_open(struct plugin_code *code, const void *bytes, size_t size, char *error);
/* The same from a file that is sealed already. Takes over @fd, also on failure. */
int plugin_code_open_file(struct plugin_code *code, int fd, char *error);
void plugin_code_close(struct plugin_code *code);

#endif /* SERVE_PLUGIN_H */
