// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * tasks.c - between two guests: VineTalk tasks, large ones whose data is touched or not, and
 *           small ones, as many as there is room for
 */
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

#include <vine_serve.h>
#include <vine_talk.h>

#include "guest.h"

#define SMALL		64
#define IN_FLIGHT	8	/* large tasks */
#define MANY		256	/* small ones */

/* ---- the appliance ---- */

static int sum(const struct vine_call *call)
{
	uint64_t s;

	if (call->in_count != 1 || call->out_count != 1 || call->out[0].size != sizeof(s))
		return 1;
	s = data_sum(call->in[0].address, call->in[0].size);
	memcpy(call->out[0].address, &s, sizeof(s));
	return 0;
}

static int nothing(const struct vine_call *call)
{
	(void)call;
	return 0;
}

static const struct vine_procedure procedures[] = {
	{ "sum", VINE_TYPE(CPU), sum, "reads all of its input" },
	{ "nothing", VINE_TYPE(CPU), nothing, "touches nothing" },
};

void tasks_serve(void)
{
	struct vine_serve_options options = { .size = sizeof(options) };
	struct vine_serve *serve;
	pid_t pid = fork();
	char error[VINE_SERVE_ERROR];

	if (pid < 0)
		die_errno("no process for the appliance");
	if (pid)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	serve = vine_serve_new(&options, error);
	if (!serve || vine_serve_procedure(serve, &procedures[0], error) ||
	    vine_serve_procedure(serve, &procedures[1], error) ||
	    vine_serve_accelerator(serve, "cpu", CPU, 1, NULL, error) ||
	    vine_serve_run(serve, error))
		die("the appliance: %s", error);
	_exit(0);
}

/* ---- the client ---- */

static vine_accel *accel;
static vine_proc *proc_sum, *proc_nothing;
static vine_data *large[IN_FLIGHT], *sums[IN_FLIGHT], *small, *result;

static void *need(void *p, const char *what)
{
	if (!p)
		die("VineTalk gives no %s", what);
	return p;
}

void tasks_init(void)
{
	uint64_t until = now_ns() + 60000000000;
	vine_accel **accels = NULL;
	unsigned int i;

	if (!vine_talk_backend("device"))
		die("VineTalk has no back end device");
	vine_talk_init();
	while (vine_accel_list(CPU, &accels) < 1) {
		if (now_ns() > until)
			die("no appliance came");
		usleep(100000);		/* the other guest still boots */
	}
	accel = accels[0];
	free(accels);
	proc_sum = need(vine_proc_get(CPU, "sum"), "procedure");
	proc_nothing = need(vine_proc_get(CPU, "nothing"), "procedure");
	for (i = 0; i < IN_FLIGHT; i++) {
		large[i] = need(vine_data_alloc(MIB, Both), "buffer of 1 MiB");
		sums[i] = need(vine_data_alloc(sizeof(uint64_t), Both), "buffer");
	}
	small = need(vine_data_alloc(SMALL, Both), "buffer");
	result = need(vine_data_alloc(SMALL, Both), "buffer");
}

static void end_task(vine_task *task)
{
	if (vine_task_wait(task) != task_completed)
		die("a task has failed");
	vine_task_free(task);
}

void tasks_bulk(uint64_t count)
{
	vine_task *task[IN_FLIGHT] = { NULL };
	uint64_t i, value;
	unsigned int k;

	for (i = 0; i < count + IN_FLIGHT; i++) {
		k = i % IN_FLIGHT;
		if (task[k]) {
			end_task(task[k]);
			task[k] = NULL;
			memcpy(&value, vine_data_deref(sums[k]), sizeof(value));
			if (value != data_expected(MIB, i - IN_FLIGHT))
				die("the appliance has read other data");
		}
		if (i >= count)
			continue;
		data_fill(vine_data_deref(large[k]), MIB, i);
		task[k] = need(vine_task_issue(accel, proc_sum, NULL, 1, &large[k], 1, &sums[k]),
			       "task");
	}
}

static void one_at_a_time(vine_data *in, uint64_t count)
{
	for (; count; count--)
		end_task(need(vine_task_issue(accel, proc_nothing, NULL, 1, &in, 1, &result),
			      "task"));
}

void tasks_small(uint64_t count)
{
	one_at_a_time(small, count);
}

void tasks_large(uint64_t count)
{
	one_at_a_time(large[0], count);
}

void tasks_saturate(uint64_t count)
{
	vine_task *task[MANY] = { NULL };
	uint64_t i;

	for (i = 0; i < count + MANY; i++) {
		if (task[i % MANY])
			end_task(task[i % MANY]);
		task[i % MANY] = i >= count ? NULL :
			need(vine_task_issue(accel, proc_nothing, NULL, 1, &small, 0, NULL),
			     "task");
	}
}
