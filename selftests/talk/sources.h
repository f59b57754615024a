/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * sources.h - for tests of compilers: an appliance with one of them, and clients that call
 *             vine_talk.h, each in a process of its own, on a fake device
 */
#ifndef SOURCES_H
#define SOURCES_H

#include <stdbool.h>

#include <vine_serve.h>
#include <vine_talk.h>

/*
 * Forks an appliance with the plugin of that name, beside this program, and gpu0, a GPU with one
 * worker. False: it does not serve; its log says why.
 */
bool sources_start(const char *plugin, const struct vine_serve_options *options);
/* Forks it alone, and does not wait until it serves. */
void sources_fork(const char *plugin, const struct vine_serve_options *options);
/* Ends it. True: it ended well. */
bool sources_stop(void);
/* Kills it. */
void sources_kill(void);
/* Lines of its log that contain @text. */
unsigned int sources_said(const char *text);

/*
 * Runs @test in a child, with a back end and its first GPU. True: nothing was wrong there. A
 * client may start another one.
 */
bool sources_client(const char *backend, void (*test)(vine_accel *gpu));

/* In a client: one task; how it ended. @detail: Out, may be NULL. */
vine_task_reason_e sources_run(vine_accel *gpu, vine_proc *proc, vine_data *args,
			       unsigned int in_count, vine_data **in, unsigned int out_count,
			       vine_data **out, int *detail);
vine_data *sources_data(const void *bytes, size_t size);
vine_proc *sources_register(const char *name, const char *source);

#endif /* SOURCES_H */
