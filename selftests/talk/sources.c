// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * sources.c - an appliance with a compiler, and clients; see sources.h
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peer.h"
#include "sources.h"
#include "tap.h"

#define LINES	64

struct shared {
	unsigned int lines;
	char line[LINES][640];
};

static struct shared *shared;
static struct vine_serve *served;	/* in the appliance */
static pid_t appliance;
static char folder[] = "/tmp/vine-sources-XXXXXX";
static int ready[2];

static void note(const char *line)
{
	unsigned int n = shared->lines;

	if (n == LINES)
		return;
	snprintf(shared->line[n], sizeof(shared->line[n]), "%s", line);
	__atomic_store_n(&shared->lines, n + 1, __ATOMIC_RELEASE);
	if (strstr(line, "offers") && write(ready[1], "", 1) != 1)
		_exit(2);
}

unsigned int sources_said(const char *text)
{
	unsigned int i, n = 0;

	for (i = 0; i < __atomic_load_n(&shared->lines, __ATOMIC_ACQUIRE); i++)
		n += !!strstr(shared->line[i], text);
	return n;
}

static void stop(int sig)
{
	(void)sig;
	vine_serve_stop(served);
}

static int serve(const char *plugin, struct vine_serve_options options)
{
	char error[VINE_SERVE_ERROR] = "";
	int ret = 1;

	options.size = sizeof(options);
	options.log = note;
	served = vine_serve_new(&options, error);
	signal(SIGTERM, stop);
	if (!served || vine_serve_plugin(served, peer_file(plugin), error) ||
	    vine_serve_accelerator(served, "gpu0", GPU, 1, NULL, error) ||
	    vine_serve_run(served, error))
		note(error);
	else
		ret = 0;
	signal(SIGTERM, SIG_IGN);
	vine_serve_free(served);
	return ret;
}

static void forget_folder(void)
{
	unlink("device");
	unlink("config");
	if (chdir("/") || rmdir(folder))
		_exit(2);
}

/* A device of this program's own, if it is a fake one, and a configuration. */
static void make_folder(void)
{
	int fd;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED || !mkdtemp(folder) || chdir(folder))
		exit(2);
	if (peer_fake()) {
		fd = open("device", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		if (fd < 0 || close(fd) || setenv("VINE_DEVICE", "device", 1))
			exit(2);
	}
	if (setenv("VINE_CONFIG", "config", 1) || unsetenv("VINE_TRACE"))
		exit(2);
	atexit(forget_folder);
}

void sources_fork(const char *plugin, const struct vine_serve_options *options)
{
	if (!shared)
		make_folder();
	if (appliance > 0)	/* of a test that has failed */
		sources_stop();
	shared->lines = 0;
	if (pipe2(ready, O_CLOEXEC))
		exit(2);
	fflush(stdout);
	appliance = fork();
	if (!appliance) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(serve(plugin, *options));
	}
	close(ready[1]);
}

bool sources_start(const char *plugin, const struct vine_serve_options *options)
{
	unsigned int i;
	char byte;

	sources_fork(plugin, options);
	if (read(ready[0], &byte, 1) == 1)
		return true;
	waitpid(appliance, NULL, 0);
	for (i = 0; i < shared->lines; i++)
		printf("# %s\n", shared->line[i]);
	close(ready[0]);
	appliance = 0;
	return false;
}

bool sources_stop(void)
{
	int status = 1;

	kill(appliance, SIGTERM);
	waitpid(appliance, &status, 0);
	close(ready[0]);
	appliance = 0;
	return status == 0;
}

void sources_kill(void)
{
	kill(appliance, SIGKILL);
	sources_stop();
}

static void client(const char *backend, void (*test)(vine_accel *gpu))
{
	vine_accel **accels = NULL;
	FILE *f = fopen("config", "we");

	if (!f || fprintf(f, "backend %s\nplugins %s\n", backend, peer_file("opencl")) < 0 ||
	    fclose(f))
		_exit(2);
	vine_talk_init();
	if (EXPECT(vine_accel_list(GPU, &accels) == 1))
		test(accels[0]);
	free(accels);
	vine_talk_exit();
}

bool sources_client(const char *backend, void (*test)(vine_accel *gpu))
{
	int status = 1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		tap_failed = 0;
		client(backend, test);
		fflush(stdout);
		_exit(!!tap_failed);
	}
	return waitpid(pid, &status, 0) == pid && status == 0;
}

vine_task_reason_e sources_run(vine_accel *gpu, vine_proc *proc, vine_data *args,
			       unsigned int in_count, vine_data **in, unsigned int out_count,
			       vine_data **out, int *detail)
{
	vine_task *task = vine_task_issue(gpu, proc, args, in_count, in, out_count, out);
	vine_task_stats_s stats;

	if (!EXPECT(task))
		return vine_reason_lost;
	vine_task_wait(task);
	vine_task_stat(task, &stats);
	vine_task_free(task);
	if (detail)
		*detail = stats.detail;
	return stats.reason;
}

vine_data *sources_data(const void *bytes, size_t size)
{
	vine_data *data = vine_data_alloc(size, Both);

	if (!data)
		_exit(2);
	if (bytes)
		memcpy(vine_data_deref(data), bytes, size);
	return data;
}

vine_proc *sources_register(const char *name, const char *source)
{
	return vine_proc_register(GPU, name, source, strlen(source));
}
