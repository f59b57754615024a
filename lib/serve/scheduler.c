// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * scheduler.c - which task an accelerator runs next
 *
 * Per accelerator, the connections that have tasks for it take turns, one task each. So
 * neither a connection with many tasks nor another accelerator holds anybody up. While a
 * session holds an accelerator, only its own connections get turns.
 */
#include <stdlib.h>

#include "serve/serve.h"
#include "talk/trace.h"

void task_free(struct vine_serve *s, struct task *task)
{
	unsigned int i;

	list_del(&task->link);
	list_del(&task->tag_link);
	for (i = 0; i < task->have; i++)
		region_put(s, task->buffer[i].region);
	if (task->procedure)
		procedures_put(s, task->procedure, task->connection->peer);
	task->connection->tasks--;
	task->connection->buffers -= task->buffers;
	free(task);
}

static struct flow *flow_of(struct vine_serve *s, const struct task *task)
{
	unsigned int i = 0;

	while (s->accelerators[i] != task->accelerator)
		i++;
	return &task->connection->flows[i];
}

void scheduler_add(struct vine_serve *s, struct task *task)
{
	struct flow *flow = flow_of(s, task);

	if (list_empty(&flow->tasks))
		list_add_tail(&task->accelerator->flows, &flow->link);
	list_add_tail(&flow->tasks, &task->link);
	task->accelerator->queued++;
	s->work = true;
}

void scheduler_drop(struct vine_serve *s, struct connection *c)
{
	struct list *item, *next;
	unsigned int i;

	for (i = 0; i < s->accelerator_count; i++) {
		list_each(item, next, &c->flows[i].tasks) {
			s->accelerators[i]->queued--;
			task_free(s, container_of(item, struct task, link));
		}
		list_del(&c->flows[i].link);
	}
}

static struct task *first_task(const struct flow *flow)
{
	return container_of(flow->tasks.next, struct task, link);
}

static struct lane *free_lane(struct vine_serve *s, struct accelerator *a,
			      const struct task *task)
{
	unsigned int i;

	for (i = 0; i < a->lane_count; i++)
		if (lane_free(&a->lane[i], task))
			return &a->lane[i];
	for (i = 0; !task->handler && i < a->lane_count; i++)
		if (lane_clear(s, &a->lane[i]))
			break;
	return NULL;
}

/* Gives the flow's first task away, and the turn to the next. False: no lane can take it. */
static bool take_turn(struct vine_serve *s, struct accelerator *a, struct flow *flow)
{
	struct task *task = first_task(flow);
	struct connection *c = task->connection;
	struct lane *lane;

	lane = free_lane(s, a, task);
	if (!lane)
		return false;
	list_del(&task->link);
	list_del(&flow->link);
	if (!list_empty(&flow->tasks))
		list_add_tail(&a->flows, &flow->link);
	a->queued--;
	a->running++;
	c->running++;
	lane_give(s, lane, task);
	return true;
}

void scheduler_run(struct vine_serve *s, struct accelerator *a)
{
	struct list *item, *next;
	bool again;

	do {
		again = false;
		list_each(item, next, &a->flows) {
			struct flow *flow = container_of(item, struct flow, link);
			struct connection *c = first_task(flow)->connection;

			if (!a->holder || a->holder == c->session)
				again |= take_turn(s, a, flow);
		}
	} while (again);
}

/* In the trace of a client the task has the same pid and tag. */
static void trace_task(const struct task *task)
{
	const struct connection *c = task->connection;
	uint64_t in = 0, out = 0;
	unsigned int i;

	for (i = 0; i < task->buffers; i++)
		*(i < task->buffers - task->out_count ? &in : &out) += task->buffer[i].size;
	TRACE_SPAN(task->procedure->name, task->worker, task->started, task->ended,
		   TRACE_TEXT("return", talk_reason_text(task->reason)),
		   TRACE_SIGNED("detail", task->detail),
		   TRACE_TEXT("accelerator", task->accelerator->name),
		   TRACE_NUMBER("peer", c->peer), TRACE_NUMBER("pid", c->session->pid),
		   TRACE_NUMBER("tid", c->tid), TRACE_NUMBER("tag", task->tag),
		   TRACE_NUMBER("in_bytes", in), TRACE_NUMBER("out_bytes", out),
		   TRACE_NUMBER("waited", task->started - task->received));
}

/* Where both are known that a task has run, and how it went. */
void scheduler_finish(struct vine_serve *s, struct task *task, vine_task_reason_e reason,
		      int detail)
{
	struct accelerator *a = task->accelerator;
	struct connection *c = task->connection;

	task->reason = reason;
	task->detail = detail;
	a->running--;
	c->running--;
	if (reason == vine_reason_none)
		a->done++;
	else
		a->failed++;
	a->busy_ns += task->ended - task->started;
	if (TRACE_ON())
		trace_task(task);
	s->work = true;
	if (c->gone)
		task_free(s, task);
	else
		connection_answer(s, task);
}

/* ---- shared and exclusive ---- */

struct accelerator *scheduler_find(struct vine_serve *s, const struct session *session,
				   uint32_t id)
{
	unsigned int i;

	if (id < s->accelerator_count)
		return s->accelerators[id];
	for (i = 0; i < s->accelerator_count; i++)
		if (s->accelerators[i]->holder == session && s->accelerators[i]->virtual_id == id)
			return s->accelerators[i];
	return NULL;
}

uint32_t scheduler_acquire(struct accelerator *a, struct session *session)
{
	if (a->holder || session->next_virtual == UINT32_MAX)
		return 0;
	a->holder = session;
	a->virtual_id = session->next_virtual++;
	return a->virtual_id;
}

void scheduler_release(struct vine_serve *s, struct accelerator *a)
{
	a->holder = NULL;
	s->work = true;
}
