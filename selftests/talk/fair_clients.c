// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * fair_clients.c - many clients, each a process: how far is each when the first one is done?
 *
 *	fair_clients [CLIENTS [TASKS [PROCEDURE]]]	64 clients with 200 "nap"s each
 *
 * All begin at once, and give every accelerator tasks in turn; every other client has four times
 * as many in flight. The time at which a task ended is the appliance's, which is to be in this
 * machine: so it does not matter when a client hears of it. Exit status 0 when every task was
 * right and Jain's index of fairness is at least 0.98.
 */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vine_talk.h>

#define FLIGHT	64	/* tasks of a client at a time, or a quarter of it */
#define JAIN	0.98

/* @ended: times of its tasks' ends, client by client. */
static struct shared {
	atomic_int ready;
	atomic_bool go;
	uint64_t ended[];
} *shared;

static int clients = 64, tasks = 200;
static const char *procedure = "nap";

/* When the task ended; 0: not as it should. */
static uint64_t end_of(vine_task *task)
{
	vine_task_stats_s stats;
	bool good;

	if (!task)
		return 0;
	good = vine_task_wait(task) == task_completed;
	vine_task_stat(task, &stats);
	vine_task_free(task);
	return good ? stats.end_ns : 0;
}

static int client(int number)
{
	uint64_t *ended = &shared->ended[(size_t)number * tasks];
	int flight = number % 2 ? FLIGHT : FLIGHT / 4, i, n;
	vine_task *task[FLIGHT];
	vine_accel **accels;
	vine_proc *proc;

	vine_talk_init();
	n = vine_accel_list(ANY, &accels);
	proc = vine_proc_get(ANY, procedure);
	atomic_fetch_add(&shared->ready, 1);
	if (!n || !proc)
		return 1;
	while (!atomic_load(&shared->go))
		usleep(1000);
	for (i = 0; i < tasks + flight; i++) {
		if (i >= flight)
			ended[i - flight] = end_of(task[i % flight]);
		if (i < tasks)
			task[i % flight] = vine_task_issue(accels[(number + i) % n], proc, NULL, 0,
							   NULL, 0, NULL);
		else
			task[i % flight] = NULL;
		if (i >= flight && !ended[i - flight])
			return 1;
	}
	free(accels);
	vine_proc_put(proc);
	vine_talk_exit();
	return 0;
}

static bool run_clients(void)
{
	int i, status, wrong = 0;
	pid_t pid;

	for (i = 0; i < clients; i++) {
		pid = fork();
		if (pid < 0) {
			perror("fair_clients: fork");
			atomic_fetch_add(&shared->ready, 1);
			wrong++;
		} else if (!pid) {
			_exit(client(i));
		}
	}
	while (atomic_load(&shared->ready) < clients)
		usleep(1000);
	atomic_store(&shared->go, true);
	while (wait(&status) > 0)
		wrong += status != 0;
	if (wrong)
		fprintf(stderr, "fair_clients: %d of %d clients did not get on\n", wrong, clients);
	return !wrong;
}

static uint64_t last_of(int number)
{
	uint64_t last = 0;
	int i;

	for (i = 0; i < tasks; i++) {
		uint64_t end = shared->ended[(size_t)number * tasks + i];

		last = end > last ? end : last;
	}
	return last;
}

static int done_by(int number, uint64_t when)
{
	int i, n = 0;

	for (i = 0; i < tasks; i++)
		n += shared->ended[(size_t)number * tasks + i] <= when;
	return n;
}

static double jain(void)
{
	uint64_t first = UINT64_MAX, last;
	double sum = 0, squares = 0;
	int i, n, least = tasks;

	for (i = 0; i < clients; i++) {
		last = last_of(i);
		first = last < first ? last : first;
	}
	for (i = 0; i < clients; i++) {
		n = done_by(i, first);
		least = n < least ? n : least;
		sum += n;
		squares += (double)n * n;
	}
	printf("fair_clients: %d clients, %d tasks each; when the first one was done, the last one "
	       "had done %d; Jain's index %.4f\n", clients, tasks, least,
	       sum * sum / (clients * squares));
	return sum * sum / (clients * squares);
}

int main(int argc, char **argv)
{
	if (argc > 4 || (argc > 1 && (clients = atoi(argv[1])) < 1) ||
	    (argc > 2 && (tasks = atoi(argv[2])) < 1)) {
		fprintf(stderr, "usage: fair_clients [CLIENTS [TASKS [PROCEDURE]]]\n");
		return 2;
	}
	if (argc > 3)
		procedure = argv[3];
	shared = mmap(NULL, sizeof(*shared) + sizeof(uint64_t) * clients * tasks,
		      PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		perror("fair_clients: memory");
		return 1;
	}
	return run_clients() && jain() >= JAIN ? 0 : 1;
}
