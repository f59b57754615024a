/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * vine_serve.h - the appliance's side of VineTalk: handlers, plugins, and the loop that
 *                serves them
 *
 * A handler is a function that does the work of a procedure. It runs in a worker: a
 * process of its own, which the appliance forks per accelerator and starts again when the
 * handler crashes or overstays its time limit: other tasks go on. A worker keeps the regions of
 * clients that it has served mapped, but only those of its task's client are within reach: a
 * stray pointer ends in a crash, and not in another's data. In the back end "local" the same
 * handlers run in the application's own process.
 */
#ifndef VINE_SERVE_H
#define VINE_SERVE_H

#include <stddef.h>
#include <stdint.h>

#include <vine_talk.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A piece of the client's memory. It may change under the handler at any time: read what
 * must be checked once, into memory of your own. */
struct vine_buffer {
	void *address;			/* NULL when there is none (no arguments) */
	size_t size;			/* bytes */
};

/*
 * What a handler is called with. All pointers end with the call.
 *
 * @size: sizeof(struct vine_call) of the appliance, for later additions
 * @procedure: the name the client registered
 * @type: of the accelerator; never ANY
 * @accelerator: its name
 * @bytes, @bytes_size: the procedure's bytes, read-only; NULL and 0 when it has none
 * @args, @in, @out: buffers; only @out may be written
 */
struct vine_call {
	size_t size;
	const char *procedure;
	const char *accelerator;
	vine_accel_type_e type;
	unsigned int in_count;
	unsigned int out_count;
	const void *bytes;
	size_t bytes_size;
	struct vine_buffer args;
	const struct vine_buffer *in;
	const struct vine_buffer *out;
};

/*
 * A handler. Returns 0 when the outputs are complete, or an error of its own choice
 * (errno's numbers are good ones): the task fails with vine_reason_handler and that
 * number. It is called in one thread per worker, one call at a time; in the back end
 * "local", by several threads at once.
 */
typedef int (*vine_handler)(const struct vine_call *call);

/* The types of accelerators that a procedure runs on, as a mask. */
#define VINE_TYPE(type)		(1U << (type))
#define VINE_TYPES_ALL		(VINE_TYPE(GPU) | VINE_TYPE(GPU_SOFT) | VINE_TYPE(CPU) | \
				 VINE_TYPE(FPGA))

/*
 * @name: 1 to 48 bytes, or "*": every name that no other handler has
 * @types: a mask of VINE_TYPE()
 * @run: the handler
 * @about: one line for people: buffers in, buffers out
 */
struct vine_procedure {
	const char *name;
	unsigned int types;
	vine_handler run;
	const char *about;
};

/*
 * A compiler runs procedures whose bytes are source: those of a name that no handler has. What
 * it is given comes from a client and is treated like uploaded code: it runs only when the
 * administrator allows it, in a process that serves one client only, and is found by clients
 * of the machine that registered it alone.
 *
 * That process has threads and children as it likes, a /tmp of its own that ends with it
 * (VINE_SOURCE_TMP bytes; $HOME and $TMPDIR are there), and nothing else that it could write
 * to; no network; standard error leads nowhere. In the back end "local" it is the application.
 *
 * @name: of the language, for people
 * @types: a mask of VINE_TYPE(); no two compilers have one in common
 * @probe: called once per accelerator before anything is served, in a process that ends then: can
 *         it be used? 0; or not 0: that accelerator runs no source, and when none does, the
 *         appliance does not start. @text: what it is, or why not: for the log
 * @compile: makes what @run is called with, or gives NULL: the task fails with
 *           vine_reason_not_compiled, and @text says why: for the appliance's log
 * @run: as a handler
 * @release: ends what @compile made
 * @about: one line for people
 *
 * @probe and @compile are told @accelerator and @type of a call without buffers, @compile the
 * procedure and its bytes as well, which are its own only during that call. @text has room for
 * VINE_COMPILER_TEXT bytes, and is empty before. A procedure is compiled with its first task in
 * a process, in that task's time, and released when it is forgotten; or never, when the process
 * ends before. In a process of the appliance all of them are called by one thread, in the back
 * end "local" by several at once.
 */
#define VINE_COMPILER_TEXT	256
#define VINE_SOURCE_TMP		(256U << 20)

struct vine_compiler {
	const char *name;
	unsigned int types;
	int (*probe)(const struct vine_call *call, char *text);
	void *(*compile)(const struct vine_call *call, char *text);
	int (*run)(void *compiled, const struct vine_call *call);
	void (*release)(void *compiled);
	const char *about;
};

/*
 * A plugin: a shared object that exports this, under the name vine_plugin:
 *
 *	const struct vine_plugin vine_plugin = {
 *		.size = sizeof(struct vine_plugin), .name = "mine", .procedures = procs,
 *	};
 *
 * @procedures ends with one whose name is NULL, and lives as long as the plugin. So does
 * @compiler; NULL: it has none.
 */
struct vine_plugin {
	size_t size;
	const char *name;
	const struct vine_procedure *procedures;
	const struct vine_compiler *compiler;
};

extern
#ifdef __GNUC__
__attribute__((visibility("default")))
#endif
const struct vine_plugin vine_plugin;

/*
 * Uploaded code is a shared object as well, sent as the bytes of a procedure. It exports
 * a handler under this name. Other than other procedures it is not global by its name: only
 * clients of the machine that uploaded it find it.
 */
#define VINE_UPLOAD_SYMBOL	"vine_procedure"

struct vine_serve;

#define VINE_SERVE_ERROR	1024	/* bytes of each @error below, with its zero */

/*
 * @size: sizeof(struct vine_serve_options)
 * @device: the node, or an endpoint's name, as for vine_open(); NULL: $VINE_DEVICE, or /dev/vine0
 * @name: of the service, 1 to 31 bytes; NULL: "vinetalk"
 * @time_limit_ms: of a task; 0: none
 * @allow_code: run uploaded shared objects, each task in a process of its own, which has few
 *              system calls: see vine-appliance(8) for what that promises
 * @code_user: the user that they, and what compilers make, run as, when the appliance runs as root;
 *             NULL: "nobody". When it does not, they have all of the appliance's own rights, and
 *             this must be NULL
 * @bytes_max: of a procedure; 0: 16 MiB
 * @once: vine_serve_run() returns when there were clients and the last one has gone
 * @log: called with one line (no newline) for what an administrator wants to know, about each
 *       client machine at most 20 a second; NULL: standard error
 * @allow_source: run source that clients register, where a plugin has a compiler for it
 */
struct vine_serve_options {
	size_t size;
	const char *device;
	const char *name;
	unsigned int time_limit_ms;
	int allow_code;
	const char *code_user;
	size_t bytes_max;
	int once;
	void (*log)(const char *line);
	int allow_source;
};

/*
 * vine_serve_new - an appliance that offers nothing yet
 *
 * @options: may be NULL; strings are copied
 * @error: Out: when it fails, what to tell the user; room for VINE_SERVE_ERROR bytes
 *
 * Returns NULL on failure. Ended by vine_serve_free().
 */
struct vine_serve *vine_serve_new(const struct vine_serve_options *options, char *error);

/*
 * vine_serve_plugin - offer the procedures of a plugin
 * vine_serve_plugins - of every *.so in a folder; NULL: $VINE_PLUGINS, or the one that
 *                      libvine was installed with. Returns how many.
 * vine_serve_procedure - offer one procedure; @procedure and its strings must live on
 * vine_serve_accelerator - offer an accelerator
 *
 * @name: 1 to 31 bytes, one of its own
 * @type: not ANY
 * @workers: tasks it runs at a time: 1 to 64
 * @pci: "0000:01:00.0", or NULL
 *
 * To be called before vine_serve_run(). 0 (or a count), or -1 with the reason in @error. A
 * procedure of the same name and a common type: the first stands, and the second is refused.
 */
int vine_serve_plugin(struct vine_serve *serve, const char *path, char *error);
int vine_serve_plugins(struct vine_serve *serve, const char *folder, char *error);
int vine_serve_procedure(struct vine_serve *serve, const struct vine_procedure *procedure,
			 char *error);
int vine_serve_accelerator(struct vine_serve *serve, const char *name,
			   vine_accel_type_e type, unsigned int workers, const char *pci,
			   char *error);

/*
 * vine_serve_procedures - what is offered so far
 *
 * @array: Out: the first of them, which live as long as @serve; may be NULL when @room is 0
 * @room: pointers that @array has room for
 *
 * Returns how many there are, which may be more than @room.
 */
unsigned int vine_serve_procedures(const struct vine_serve *serve,
				   const struct vine_procedure **array, unsigned int room);

/* The compiler of a type that is not ANY; NULL: there is none. It lives as long as @serve. */
const struct vine_compiler *vine_serve_compiler(const struct vine_serve *serve,
						vine_accel_type_e type);

/*
 * vine_serve_run - serve until vine_serve_stop(), or until the device is gone
 *
 * To be called once, by a process with one thread: it forks workers. SIGCHLD is blocked
 * meanwhile, SIGPIPE ignored, and the limit of descriptors is raised as far as it can be.
 * Returns 0, or -1 with the reason in @error.
 *
 * vine_serve_stop - end it: tasks that run are lost. Async-signal-safe; no handler may be left
 * that calls it when vine_serve_free() does.
 */
int vine_serve_run(struct vine_serve *serve, char *error);
void vine_serve_stop(struct vine_serve *serve);
void vine_serve_free(struct vine_serve *serve);

#ifdef __cplusplus
}
#endif

#endif /* VINE_SERVE_H */
