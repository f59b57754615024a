// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * task.c - VineTalk tasks over the back end shm, 64 bytes in and 64 bytes out: one sample, of
 *          an application on one core and an appliance on another one
 *
 * How the application waits is how libvine was built: WAIT=spin or WAIT=sleep.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vine_serve.h>
#include <vine_talk.h>

#include "bench.h"

#define BYTES	64
#define SEGMENT	(64UL << 20)

static char name[64];		/* of the shared memory */

static void remove_segment(void)
{
	shm_unlink(name);
}

static void stopped(int signal)
{
	remove_segment();
	_exit(128 + signal);
}

/* ---- the appliance ---- */

static int echo(const struct vine_call *call)
{
	if (call->in_count != 1 || call->out_count != 1 || call->in[0].size != BYTES ||
	    call->out[0].size != BYTES)
		return EINVAL;
	memcpy(call->out[0].address, call->in[0].address, BYTES);
	return 0;
}

static const struct vine_procedure procedure = { "echo", VINE_TYPE(CPU), echo, "64 bytes" };

/* What it says of itself is not for whoever waits for figures. */
static void no_log(const char *line)
{
	(void)line;
}

/* Serves in a process of its own, until its client has gone. */
static pid_t start_appliance(int cpu)
{
	struct vine_serve_options options = {
		.size = sizeof(options), .once = 1, .log = no_log
	};
	char device[128], error[VINE_SERVE_ERROR];
	struct vine_serve *serve;
	pid_t pid = fork();

	if (pid < 0)
		die_errno("no process for the appliance");
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	pin(cpu);
	snprintf(device, sizeof(device), "shm:%s?size=%lu", name + 1, SEGMENT);
	options.device = device;
	serve = vine_serve_new(&options, error);
	if (!serve || vine_serve_procedure(serve, &procedure, error) ||
	    vine_serve_accelerator(serve, "cpu", CPU, 1, NULL, error) ||
	    vine_serve_run(serve, error)) {
		fprintf(stderr, "vine-bench: the appliance: %s\n", error);
		_exit(1);
	}
	_exit(0);
}

/* ---- the application ---- */

static vine_accel *accel;
static vine_proc *proc;
static vine_data *in, *out;

/* The library reads its configuration from a file: one in memory. */
static void configure(void)
{
	int fd = memfd_create("vinetalk", 0);
	char path[64];

	if (fd < 0 || dprintf(fd, "backend shm\nshm_file %s\nshm_size %lu\n", name, SEGMENT) < 0)
		die_errno("no configuration");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	setenv("VINE_CONFIG", path, 1);
}

static void connect_to(pid_t appliance)
{
	uint64_t until = now_ns() + 20000000000;
	vine_accel **accels = NULL;

	vine_talk_init();
	while (vine_accel_list(CPU, &accels) < 1) {
		if (waitpid(appliance, NULL, WNOHANG) || now_ns() > until)
			die("no appliance came");
		usleep(10000);		/* it starts */
	}
	accel = accels[0];
	free(accels);
	proc = vine_proc_get(CPU, "echo");
	in = vine_data_alloc(BYTES, Both);
	out = vine_data_alloc(BYTES, Both);
	if (!proc || !in || !out)
		die("VineTalk gives no procedure, or no buffers");
}

/* Nanoseconds for @count tasks, one at a time. */
static uint64_t tasks(void *arg, uint64_t count)
{
	uint64_t begin = now_ns(), i;
	vine_task *task;

	(void)arg;
	for (i = 0; i < count; i++) {
		memcpy(vine_data_deref(in), &i, sizeof(i));
		task = vine_task_issue(accel, proc, NULL, 1, &in, 1, &out);
		if (vine_task_wait(task) != task_completed)
			die("a task has failed");
		vine_task_free(task);
		if (memcmp(vine_data_deref(out), vine_data_deref(in), BYTES))
			die("a task brought other data back");
	}
	return now_ns() - begin;
}

int main(int argc, char **argv)
{
	pid_t appliance;
	int status;

	if (argc != 5) {
		fputs("Usage: vine-bench-task-spin CPU CPU SAMPLE_US NAME\n"
		      "\n"
		      "Prints \"NAME NANOSECONDS\", of a task between these two processors.\n"
		      "tools/vine-bench/vine-bench makes sense of it.\n", stderr);
		return 2;
	}
	snprintf(name, sizeof(name), "/vine-bench-%d", (int)getpid());
	atexit(remove_segment);
	appliance = start_appliance(atoi(argv[2]));
	signal(SIGINT, stopped);
	signal(SIGTERM, stopped);
	pin(atoi(argv[1]));
	configure();
	connect_to(appliance);
	say_sample(argv[4], sample(strtoull(argv[3], NULL, 10) * 1000, tasks, NULL));
	vine_talk_exit();
	if (waitpid(appliance, &status, 0) != appliance || status)
		die("the appliance ended with status %#x", (unsigned int)status);
	return 0;
}
