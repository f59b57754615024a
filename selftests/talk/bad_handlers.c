// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * bad_handlers.c - a client whose tasks' handlers do what they should not, and others beside it
 *
 * The appliance has the plugins "faults" and "add", a time limit, and two accelerators or more.
 * Each bad task has to fail with its reason, on every accelerator; the next one there has to be
 * right, and so has every task of the other clients, which go on meanwhile. Exit status 0: all
 * was so.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vine_talk.h>

#define OTHERS	3

static const struct bad {
	const char *name;
	vine_task_reason_e reason;
	int detail;
} bads[] = {
	{ "crash", vine_reason_crashed, SIGSEGV },
	{ "abort", vine_reason_crashed, SIGABRT },
	{ "exit", vine_reason_crashed, 0 },
	{ "hang", vine_reason_timeout, 0 },
	{ "past", vine_reason_overrun, 0 },
	{ "error", vine_reason_handler, EDOM },
};

static struct {
	atomic_bool stop;
	atomic_uint done[OTHERS];	/* tasks of the other clients */
} *shared;

static vine_accel **accels;
static int accel_count;
static vine_proc *add;
static vine_data *in[2], *out;
static int wrong;

static void complain(const char *name, const char *what)
{
	fprintf(stderr, "bad_handlers: %s: %s\n", name, what);
	wrong++;
}

static bool begin(void)
{
	vine_talk_init();
	accel_count = vine_accel_list(ANY, &accels);
	add = vine_proc_get(ANY, "add");
	in[0] = vine_data_alloc(16, Both);
	in[1] = vine_data_alloc(16, Both);
	out = vine_data_alloc(32, Both);
	return accel_count >= 2 && add && in[0] && in[1] && out;
}

/* A task that is right, with a result of its own. */
static bool works(vine_accel *accel)
{
	static unsigned int number;
	vine_task_stats_s stats;
	vine_task *task;
	char sum[32];
	bool good;

	snprintf(vine_data_deref(in[0]), 16, "%u", ++number);
	snprintf(vine_data_deref(in[1]), 16, "%d-", (int)getpid());
	snprintf(sum, sizeof(sum), "%d-%u", (int)getpid(), number);
	task = vine_task_issue(accel, add, NULL, 2, in, 1, &out);
	good = vine_task_wait(task) == task_completed && !strcmp(vine_data_deref(out), sum);
	if (!good) {
		vine_task_stat(task, &stats);
		complain("add", vine_task_reason_text(stats.reason));
	}
	vine_task_free(task);
	return good;
}

/* Another client: goes on until it is told to stop. */
static int other(int number)
{
	if (!begin()) {
		complain("another client", "it has not what is needed here");
		return 1;
	}
	while (!atomic_load(&shared->stop)) {
		if (!works(accels[(number + shared->done[number]) % accel_count]))
			return 1;
		atomic_fetch_add(&shared->done[number], 1);
	}
	vine_talk_exit();
	return 0;
}

/* The others get on: each of them with two tasks more. False: one has ended. */
static bool others_go_on(void)
{
	unsigned int before[OTHERS], i;
	int status;

	for (i = 0; i < OTHERS; i++)
		before[i] = shared->done[i];
	for (i = 0; i < OTHERS; i++) {
		while (shared->done[i] < before[i] + 2) {
			if (waitpid(-1, &status, WNOHANG))
				return false;
			usleep(1000);
		}
	}
	return true;
}

static void try(const struct bad *bad, vine_accel *accel)
{
	vine_accel_stats_s before, after;
	vine_proc *proc = vine_proc_get(ANY, bad->name);
	vine_data *data = vine_data_alloc(64, Both);
	vine_task_stats_s stats;
	vine_task *task;

	vine_accel_stat(accel, &before);
	task = vine_task_issue(accel, proc, NULL, 1, in, 1, &data);
	if (!others_go_on())
		complain(bad->name, "another client has failed");
	if (vine_task_wait(task) != task_failed)
		complain(bad->name, "it did not fail");
	vine_task_stat(task, &stats);
	if (stats.reason != bad->reason || stats.detail != bad->detail)
		complain(bad->name, vine_task_reason_text(stats.reason));
	vine_task_free(task);
	vine_accel_stat(accel, &after);
	if (after.failed != before.failed + 1)
		complain(bad->name, "it is not counted once among those that failed");
	if (!works(accel))
		complain(bad->name, "the next task has failed");
	vine_data_free(data);
	vine_proc_put(proc);
}

static void try_all(void)
{
	size_t i;
	int j;

	for (i = 0; i < sizeof(bads) / sizeof(bads[0]); i++)
		for (j = 0; j < accel_count; j++)
			try(&bads[i], accels[j]);
}

int main(void)
{
	int i, status;
	pid_t pid;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return 1;
	for (i = 0; i < OTHERS; i++) {
		pid = fork();
		if (!pid)
			_exit(other(i));
	}
	if (begin())
		try_all();
	else
		complain("appliance", "it has not what is needed here");
	atomic_store(&shared->stop, true);
	while (wait(&status) > 0)
		if (status)
			complain("add", "another client has failed");
	vine_talk_exit();
	printf("bad_handlers: %d accelerators, %d wrong\n", accel_count, wrong);
	return wrong ? 1 : 0;
}
