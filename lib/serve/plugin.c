// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * plugin.c - the procedures that this process can run; see plugin.h
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "serve/plugin.h"

#define ANY_NAME	"*"

static int fail(char *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(char *error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, PLUGIN_ERROR, format, args);
	va_end(args);
	return -1;
}

/* ---- the registry ---- */

/* @types: a mask; @name: ANY_NAME is a name like the others here. */
static const struct vine_procedure *find(const struct plugins *plugins, unsigned int types,
					 const char *name)
{
	unsigned int i;

	for (i = 0; i < plugins->count; i++) {
		const struct vine_procedure *p = plugins->procedures[i];

		if ((p->types & types) && !strcmp(p->name, name))
			return p;
	}
	return NULL;
}

static unsigned int mask_of(vine_accel_type_e type)
{
	return type == ANY ? VINE_TYPES_ALL : VINE_TYPE(type);
}

const struct vine_procedure *plugins_named(const struct plugins *plugins,
					   vine_accel_type_e type, const char *name)
{
	/* a client may call a procedure "*", but that is nobody's name */
	return strcmp(name, ANY_NAME) ? find(plugins, mask_of(type), name) : NULL;
}

const struct vine_procedure *plugins_find(const struct plugins *plugins,
					  vine_accel_type_e type, const char *name)
{
	const struct vine_procedure *p = plugins_named(plugins, type, name);

	return p ? p : find(plugins, mask_of(type), ANY_NAME);
}

const struct vine_compiler *plugins_compiler(const struct plugins *plugins,
					     vine_accel_type_e type)
{
	vine_accel_type_e t = type == ANY ? ANY + 1 : type;

	while (type == ANY && t < VINE_ACCEL_TYPES - 1 && !plugins->compilers[t])
		t++;
	return plugins->compilers[t];
}

int plugins_add(struct plugins *plugins, const struct vine_procedure *procedure, char *error)
{
	const struct vine_procedure **grown;
	size_t length = procedure->name ? strnlen(procedure->name, PLUGIN_NAME + 1) : 0;

	if (length == 0 || length > PLUGIN_NAME)
		return fail(error, "a procedure's name has %s: it must have 1 to %d bytes",
			    length ? "too many bytes" : "no bytes", PLUGIN_NAME);
	if (!procedure->types || (procedure->types & ~VINE_TYPES_ALL))
		return fail(error, "procedure %s: the types 0x%x are no mask of VINE_TYPE()s",
			    procedure->name, procedure->types);
	if (!procedure->run)
		return fail(error, "procedure %s has no handler", procedure->name);
	if (find(plugins, procedure->types, procedure->name))
		return fail(error, "procedure %s: there is one already, for the same type",
			    procedure->name);

	grown = realloc(plugins->procedures, (plugins->count + 1) * sizeof(*grown));
	if (!grown)
		return fail(error, "no memory");
	plugins->procedures = grown;
	grown[plugins->count++] = procedure;
	return 0;
}

static int add_compiler(struct plugins *plugins, const struct vine_compiler *c, char *error)
{
	int type;

	if (!c->name || !c->probe || !c->compile || !c->run || !c->release || !c->types ||
	    (c->types & ~VINE_TYPES_ALL))
		return fail(error, "its compiler is not whole");
	for (type = ANY + 1; type < VINE_ACCEL_TYPES; type++)
		if ((c->types & VINE_TYPE(type)) && plugins->compilers[type])
			return fail(error, "there is a compiler already for the same type, of "
				    "%.40s", plugins->compilers[type]->name);
	for (type = ANY + 1; type < VINE_ACCEL_TYPES; type++)
		if (c->types & VINE_TYPE(type))
			plugins->compilers[type] = c;
	return 0;
}

static int add_all(struct plugins *plugins, const struct vine_plugin *plugin, char *error)
{
	const struct vine_procedure *p;

	if (plugin->size != sizeof(*plugin))
		return fail(error, "it was built for another version of vine");
	if (!plugin->procedures && !plugin->compiler)
		return fail(error, "it has no procedures");
	for (p = plugin->procedures; p && p->name; p++) {
		if (plugins_add(plugins, p, error))
			return -1;
	}
	return plugin->compiler ? add_compiler(plugins, plugin->compiler, error) : 0;
}

/* dlopen() would search the libraries' folders for a name without a slash. */
static void *open_file(const char *path, char *error)
{
	char here[PATH_MAX];
	void *opened;

	if (!strchr(path, '/')) {
		if (snprintf(here, sizeof(here), "./%s", path) >= (int)sizeof(here)) {
			fail(error, "%s", strerror(ENAMETOOLONG));
			return NULL;
		}
		path = here;
	}
	opened = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!opened)
		fail(error, "%s", dlerror());
	return opened;
}

int plugins_load(struct plugins *plugins, const char *path, char *error)
{
	unsigned int before = plugins->count;
	char why[PLUGIN_ERROR];
	const struct vine_plugin *plugin;
	void **grown, *opened;

	opened = open_file(path, why);
	if (!opened)
		goto failed;
	plugin = dlsym(opened, "vine_plugin");
	if (!plugin) {
		fail(why, "it exports no vine_plugin: see vine_serve.h");
		goto close;
	}
	grown = realloc(plugins->opened, (plugins->opened_count + 1) * sizeof(*grown));
	if (!grown) {
		fail(why, "no memory");
		goto close;
	}
	plugins->opened = grown;
	if (add_all(plugins, plugin, why))
		goto take_back;
	grown[plugins->opened_count++] = opened;
	return 0;

take_back:
	plugins->count = before;
close:
	dlclose(opened);
failed:
	/* dlopen() often names the file itself */
	if (strstr(why, path))
		return fail(error, "%s", why);
	return fail(error, "%.120s: %.130s", path, why);
}

static int is_plugin(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);

	return length > 3 && entry->d_name[0] != '.' &&
	       !strcmp(entry->d_name + length - 3, ".so");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

int plugins_load_folder(struct plugins *plugins, const char *folder, char *error)
{
	bool may_be_missing = false;
	struct dirent **entries;
	char path[PATH_MAX];
	int i, n, ret = 0;

	if (!folder)
		folder = secure_getenv("VINE_PLUGINS");
	if (!folder || !*folder) {
		folder = VINE_PLUGIN_DIR;
		may_be_missing = true;
	}
	n = scandir(folder, &entries, is_plugin, by_name);
	if (n < 0 && errno == ENOENT && may_be_missing)
		return 0;
	if (n < 0)
		return fail(error, "folder of plugins %.150s: %s", folder, strerror(errno));
	for (i = 0; i < n && !ret; i++) {
		if (snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name) >=
		    (int)sizeof(path))
			ret = fail(error, "folder of plugins: %s", strerror(ENAMETOOLONG));
		else
			ret = plugins_load(plugins, path, error);
	}
	for (i = 0; i < n; i++)
		free(entries[i]);
	free(entries);
	return ret ? ret : n;
}

void plugins_free(struct plugins *plugins)
{
	free(plugins->procedures);
	while (plugins->opened_count)
		dlclose(plugins->opened[--plugins->opened_count]);
	free(plugins->opened);
	*plugins = (struct plugins){ 0 };
}

/* ---- uploaded code ---- */

/* To a memfd: no signal interrupts that. */
static int write_all(int fd, const char *bytes, size_t size)
{
	while (size) {
		ssize_t n = write(fd, bytes, size);

		if (n < 0)
			return -1;
		bytes += n;
		size -= n;
	}
	return 0;
}

static void path_of(int fd, char path[32])
{
	snprintf(path, 32, "/proc/self/fd/%d", fd);
}

/* Something that others may have eaten up is not the code's fault. */
static int code_error(int err)
{
	return err == ENOMEM || err == EMFILE || err == ENFILE ? -ENOMEM : -1;
}

/* dlopen() leaves no errno; where it maps the object, not even its text. */
static int load_error(const char *text)
{
	return strstr(text, strerror(EMFILE)) || strstr(text, strerror(ENFILE)) ||
	       strstr(text, strerror(ENOMEM)) || strstr(text, "failed to map segment") ||
	       strstr(text, "cannot map zero-fill pages") ? -ENOMEM : -1;
}

int plugin_code_open_file(struct plugin_code *code, int fd, char *error)
{
	const char *text;
	char path[32];

	code->fd = fd;
	path_of(fd, path);
	code->opened = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!code->opened) {
		text = dlerror();
		fail(error, "%s", text);
		close(fd);
		return load_error(text);
	}
	code->run = (vine_handler)dlsym(code->opened, VINE_UPLOAD_SYMBOL);
	if (!code->run) {
		fail(error, "it exports no " VINE_UPLOAD_SYMBOL "()");
		plugin_code_close(code);
		return -1;
	}
	return 0;
}

int plugin_code_open(struct plugin_code *code, const void *bytes, size_t size, char *error)
{
	int fd, err;

	/* sealed: code that is mapped must not change */
	fd = memfd_create("vine-procedure", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		goto failed;
	if (write_all(fd, bytes, size) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL))
		goto failed;
	return plugin_code_open_file(code, fd, error);

failed:
	err = errno;
	fail(error, "memfd: %s", strerror(err));
	if (fd >= 0)
		close(fd);
	return code_error(err);
}

void plugin_code_close(struct plugin_code *code)
{
	char path[32];
	void *stays;

	dlclose(code->opened);
	/*
	 * dlopen() knows an object by its path. One that does not go (it may ask for that)
	 * keeps its descriptor, or the next code would get the same path, and be this one.
	 */
	path_of(code->fd, path);
	stays = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
	if (stays)
		dlclose(stays);
	else
		close(code->fd);
}
