// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * noop_stress.c - many threads, each with many tasks; the data of every one is checked
 *
 *	noop_stress [THREADS [TASKS]]		10 threads with 10000 tasks each
 *
 * In the style of Arax's noop_stress. Runs on whatever back end is configured, on all of its
 * accelerators in turn, with several tasks of a thread in flight. Every other task is a
 * "noop", which must leave its output as it was; the others "add" two strings of their own.
 * (On the back end null all are as noop.) Exit status 0 when every task was right.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <vine_talk.h>

#define FLIGHT	8	/* tasks of a thread at a time */
#define ROOM	64	/* bytes of a buffer */

struct slot {
	vine_data *in[2], *out;
	vine_task *task;
	char expected[ROOM];
	size_t size;		/* of what is expected */
};

static vine_accel **accels;
static int accel_count;
static vine_proc *noop, *add;
static bool does_nothing;	/* the back end is null */
static int threads = 10, tasks = 10000;
static atomic_int done, wrong;

static void complain(int thread, int i, const char *what)
{
	if (atomic_fetch_add(&wrong, 1) < 10)
		fprintf(stderr, "noop_stress: thread %d, task %d: %s\n", thread, i, what);
}

static void issue(struct slot *s, int thread, int i)
{
	bool is_noop = i % 2;
	char *out = vine_data_deref(s->out);

	snprintf(vine_data_deref(s->in[0]), ROOM, "%d-%d", thread, i);
	snprintf(vine_data_deref(s->in[1]), ROOM, "%d+", i * 7);
	memset(out, 'u', ROOM);
	snprintf(out, ROOM, "untouched %d %d", thread, i);
	memcpy(s->expected, out, ROOM);
	s->size = ROOM;
	if (!is_noop && !does_nothing)
		s->size = snprintf(s->expected, ROOM, "%d+%d-%d", i * 7, thread, i) + 1;
	s->task = vine_task_issue(accels[(thread + i) % accel_count], is_noop ? noop : add, NULL,
				  2, s->in, 1, &s->out);
}

static void verify(struct slot *s, int thread, int i)
{
	vine_task_stats_s stats;

	if (!s->task) {
		complain(thread, i, "it was not issued");
		return;
	}
	if (vine_task_wait(s->task) != task_completed) {
		vine_task_stat(s->task, &stats);
		complain(thread, i, vine_task_reason_text(stats.reason));
	} else if (memcmp(vine_data_deref(s->out), s->expected, s->size)) {
		complain(thread, i, "the output is not what it must be");
	} else {
		atomic_fetch_add(&done, 1);
	}
	vine_task_free(s->task);
}

static void *run(void *arg)
{
	struct slot slots[FLIGHT];
	int thread = *(int *)arg, i;

	for (i = 0; i < FLIGHT; i++) {
		slots[i].in[0] = vine_data_alloc(ROOM, Both);
		slots[i].in[1] = vine_data_alloc(ROOM, Both);
		slots[i].out = vine_data_alloc(ROOM, Both);
		if (!slots[i].in[0] || !slots[i].in[1] || !slots[i].out) {
			complain(thread, 0, "no memory");
			exit(1);
		}
	}
	for (i = 0; i < tasks + FLIGHT; i++) {
		if (i >= FLIGHT)
			verify(&slots[i % FLIGHT], thread, i - FLIGHT);
		if (i < tasks)
			issue(&slots[i % FLIGHT], thread, i);
	}
	for (i = 0; i < FLIGHT; i++) {
		vine_data_free(slots[i].in[0]);
		vine_data_free(slots[i].in[1]);
		vine_data_free(slots[i].out);
	}
	return NULL;
}

static int run_threads(void)
{
	pthread_t *ids = calloc(threads, sizeof(*ids));
	int *numbers = calloc(threads, sizeof(*numbers));
	int i, n;

	if (!ids || !numbers)
		return -1;
	for (n = 0; n < threads; n++) {
		numbers[n] = n;
		if (pthread_create(&ids[n], NULL, run, &numbers[n]))
			break;
	}
	for (i = 0; i < n; i++)
		pthread_join(ids[i], NULL);
	free(ids);
	free(numbers);
	return n == threads ? 0 : -1;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	double begin;
	int ret = 1;

	if (argc > 3 || (argc > 1 && (threads = atoi(argv[1])) < 1) ||
	    (argc > 2 && (tasks = atoi(argv[2])) < 1)) {
		fprintf(stderr, "usage: noop_stress [THREADS [TASKS]]\n");
		return 2;
	}
	vine_talk_init();
	accel_count = vine_accel_list(ANY, &accels);
	noop = vine_proc_register(ANY, "noop", NULL, 0);
	add = vine_proc_register(ANY, "add", NULL, 0);
	if (!accel_count || !noop || !add) {
		fprintf(stderr, "noop_stress: %d accelerators, %s, %s\n", accel_count,
			noop ? "noop" : "no noop", add ? "add" : "no add");
		goto exit;
	}
	does_nothing = !strcmp(vine_accel_location(accels[0]).segment, "null");
	begin = seconds();
	ret = run_threads() || done != threads * tasks || wrong;
	printf("noop_stress: %d threads, %d tasks right, %d wrong, %.3f s\n", threads, done, wrong,
	       seconds() - begin);
	vine_proc_put(noop);
	vine_proc_put(add);
exit:
	free(accels);
	vine_talk_exit();
	return ret;
}
