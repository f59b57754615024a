// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * connection.c - queues: what clients say is checked here, and answered
 *
 * A message is one of a table, exactly as long as its structure, and comes to the right kind
 * of queue at the right time; every field is in its range, reserved ones are zero. If not,
 * the queue is closed, and only that.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "serve/serve.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "messages are little-endian");

union talk_message {
	struct talk_head head;
	struct talk_hello hello;
	struct talk_welcome welcome;
	struct talk_host host;
	struct talk_region region;
	struct talk_accel accel;
	struct talk_accel_op accel_op;
	struct talk_stat stat;
	struct talk_acquired acquired;
	struct talk_name name;
	struct talk_bytes bytes;
	struct talk_proc proc;
	struct talk_put put;
	struct talk_task task;
	struct talk_refs refs;
	struct talk_done done;
};

static void connection_ready(struct vine_serve *s, struct source *source, uint32_t events);

/* ---- lives ---- */

void connection_dirty(struct vine_serve *s, struct connection *c)
{
	list_del(&c->dirty);
	list_add_tail(&s->dirty, &c->dirty);
}

static const char *const too_many[] = {
	[LIMIT_QUEUES] = "queues", [LIMIT_STRANGERS] = "queues that do not say HELLO",
	[LIMIT_DESCRIPTORS] = "queues, regions and procedures",
};

/* What a new queue takes. False: its machine has had its share. */
static bool take_limits(struct vine_serve *s, unsigned int peer)
{
	enum limited what;

	for (what = LIMIT_QUEUES; what <= LIMIT_DESCRIPTORS; what++) {
		if (limit_take(s, peer, what))
			continue;
		serve_log_client(s, peer, NULL,
				 "machine %u has too many %s: one more is turned away", peer,
				 too_many[what]);
		while (what-- > LIMIT_QUEUES)
			limit_give(s, peer, what);
		return false;
	}
	return true;
}

/* It is none of those any more that may be turned away at any time. */
static void no_stranger(struct vine_serve *s, struct connection *c)
{
	if (list_empty(&c->strange))
		return;
	list_del(&c->strange);
	limit_give(s, c->peer, LIMIT_STRANGERS);
}

void connections_expire(struct vine_serve *s, uint64_t now)
{
	struct list *item, *next;

	list_each(item, next, &s->strangers) {
		struct connection *c = container_of(item, struct connection, strange);

		if (c->hello_by > now)
			break;
		connection_close(s, c, c->kind == CONNECTION_NEW ? "it says no HELLO" : NULL);
	}
}

uint64_t connections_deadline(const struct vine_serve *s)
{
	return list_empty(&s->strangers) ? VINE_FOREVER :
	       container_of(s->strangers.next, struct connection, strange)->hello_by;
}

void connection_new(struct vine_serve *s, int queue, unsigned int peer)
{
	struct connection *c;
	unsigned int i;

	if (peer >= VINE_MAX_PEERS || !take_limits(s, peer)) {
		vine_close(queue);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		goto no_memory;
	c->flows = calloc(s->accelerator_count, sizeof(*c->flows));
	if (!c->flows)
		goto no_memory;
	c->source.ready = connection_ready;
	c->queue = queue;
	c->peer = peer;
	c->events = EPOLLIN;
	list_init(&c->dirty);
	list_init(&c->strange);
	list_init(&c->done);
	for (i = 0; i < TAG_HASH; i++)
		list_init(&c->tags[i]);
	for (i = 0; i < s->accelerator_count; i++) {
		list_init(&c->flows[i].link);
		list_init(&c->flows[i].tasks);
	}
	if (serve_watch(s, queue, c->events, &c->source))
		goto no_memory;
	list_add_tail(&s->connections, &c->link);
	c->hello_by = serve_now() + s->limits.hello_ms * 1000000ULL;
	list_add_tail(&s->strangers, &c->strange);
	s->served = true;
	return;

no_memory:
	serve_log_client(s, peer, NULL, "no memory for a connection of machine %u: turned away",
			 peer);
	limit_give(s, peer, LIMIT_QUEUES);
	limit_give(s, peer, LIMIT_STRANGERS);
	limit_give(s, peer, LIMIT_DESCRIPTORS);
	if (c)
		free(c->flows);
	free(c);
	vine_close(queue);
}

void connection_close(struct vine_serve *s, struct connection *c, const char *why)
{
	struct list *item, *next;
	unsigned int i;

	if (c->gone)
		return;
	if (why)
		serve_log_client(s, c->peer, c->session,
				 "closed a queue of process %u on machine %u: %s",
				 c->session ? c->session->pid : 0, c->peer, why);
	c->gone = true;
	epoll_ctl(s->epoll, EPOLL_CTL_DEL, c->queue, NULL);
	vine_close(c->queue);
	list_del(&c->dirty);
	list_del(&c->link);
	list_add_tail(&s->gone, &c->link);
	no_stranger(s, c);
	limit_give(s, c->peer, LIMIT_QUEUES);
	limit_give(s, c->peer, LIMIT_DESCRIPTORS);

	scheduler_drop(s, c);
	list_each(item, next, &c->done)
		task_free(s, container_of(item, struct task, link));
	if (c->partial)
		task_free(s, c->partial);
	c->partial = NULL;
	for (i = 0; i < TALK_REGIONS; i++)
		if (c->region[i])
			region_put(s, c->region[i]);
	if (c->kind == CONNECTION_CONTROL)
		session_end(s, c->session);
	if (c->running)
		workers_hurry(s, c);
}

void connection_free(struct vine_serve *s, struct connection *c)
{
	list_del(&c->link);
	if (c->session)
		session_put(s, c->session);
	free(c->flows);
	free(c);
}

/* ---- answers ---- */

static void answer(struct connection *c, const void *message, size_t size)
{
	struct vine_msg *msg = &c->answer[c->answers++];	/* there is room: see pull() */

	*msg = (struct vine_msg){ .len = size };
	memcpy(msg->data, message, size);
}

/* 0, or an error after which nothing more is to be sent now. */
static int push(struct vine_serve *s, struct connection *c, const struct vine_msg *msgs,
		unsigned int n, unsigned int *pushed)
{
	int ret = vine_push(c->queue, msgs, n);

	*pushed = ret > 0 ? ret : 0;
	if (ret == (int)n)
		return 0;
	if (ret < 0 && ret != -EAGAIN && ret != -EINTR && !serve_lost(s, ret))
		connection_close(s, c, NULL);
	return -EAGAIN;
}

static int push_answers(struct vine_serve *s, struct connection *c)
{
	struct talk_welcome welcome;
	unsigned int pushed;
	int err;

	if (!c->answers)
		return 0;
	memcpy(&welcome, c->answer[0].data, sizeof(welcome));
	if (welcome.head.op == TALK_WELCOME) {
		welcome.sent = serve_now();
		memcpy(c->answer[0].data, &welcome, sizeof(welcome));
	}
	err = push(s, c, c->answer, c->answers, &pushed);
	c->answers -= pushed;
	memmove(c->answer, c->answer + pushed, c->answers * sizeof(*c->answer));
	return err;
}

static int push_done(struct vine_serve *s, struct connection *c)
{
	struct vine_msg msgs[BATCH];
	struct list *item, *next;
	uint64_t now = serve_now();
	unsigned int n = 0, pushed;
	int err;

	list_each(item, next, &c->done) {
		const struct task *task = container_of(item, struct task, link);
		struct talk_done done = {
			.head = { .op = TALK_DONE, .a = task->reason, .tag = task->tag },
			.detail = task->detail, .received = task->received,
			.started = task->started, .ended = task->ended, .sent = now,
		};

		msgs[n] = (struct vine_msg){ .len = sizeof(done) };
		memcpy(msgs[n].data, &done, sizeof(done));
		if (++n == BATCH)
			break;
	}
	err = push(s, c, msgs, n, &pushed);
	while (pushed--)
		task_free(s, container_of(c->done.next, struct task, link));
	return err;
}

/* How many messages may be pulled now. */
static unsigned int room(const struct connection *c)
{
	unsigned int tasks = TASKS_MAX - c->tasks;

	if (c->answers || !tasks || c->buffers >= BUFFERS_MAX)
		return 0;
	/* copying a procedure takes its time: one REGISTER at a time; it may become such a queue */
	if (c->kind == CONNECTION_CONTROL || c->kind == CONNECTION_NEW)
		return 2;
	return tasks < BATCH ? tasks : BATCH;
}

void connection_flush(struct vine_serve *s, struct connection *c)
{
	struct epoll_event ev = { .data.ptr = &c->source };
	int err = push_answers(s, c);

	while (!err && !list_empty(&c->done))
		err = push_done(s, c);
	if (c->gone)
		return;
	ev.events = (err ? EPOLLOUT : 0) | (room(c) ? EPOLLIN : 0);
	if (ev.events == c->events)
		return;
	c->events = ev.events;
	epoll_ctl(s->epoll, EPOLL_CTL_MOD, c->queue, &ev);
}

void connection_answer(struct vine_serve *s, struct task *task)
{
	struct connection *c = task->connection;

	list_add_tail(&c->done, &task->link);
	connection_dirty(s, c);
}

/* ---- messages: each taker returns false when one makes no sense ---- */

static bool plain(const struct talk_head *h)
{
	return !h->a && !h->b && !h->c;
}

/* Ids were given out in turn: one that was once may be stale, another never was an id. */
static bool was_accelerator(const struct connection *c, uint32_t id)
{
	return id < c->session->next_virtual;
}

static bool take_hello(struct vine_serve *s, struct connection *c, const union talk_message *m,
		       uint64_t now)
{
	const struct talk_hello *h = &m->hello;
	struct talk_host host = { .head = { .op = TALK_HOST, .tag = h->head.tag } };
	struct talk_welcome welcome = {
		.head = { .op = TALK_WELCOME, .tag = h->head.tag }, .version = TALK_VERSION,
		.accels = s->accelerator_count, .received = now,
	};

	if (!plain(&h->head) || h->reserved)
		return false;
	c->tid = h->tid;
	c->kind = CONNECTION_REFUSED;
	if (h->version == TALK_VERSION) {
		if (h->token[0] || h->token[1]) {
			c->session = session_find(s, c->peer, h->token);
			c->kind = CONNECTION_TASKS;
		} else {
			c->session = session_new(s, c->peer, h->pid);
			c->kind = CONNECTION_CONTROL;
		}
		if (!c->session)
			c->kind = CONNECTION_REFUSED;
		else
			no_stranger(s, c);
	}
	if (c->session)
		memcpy(welcome.token, c->session->token, sizeof(welcome.token));
	else
		welcome.head.a = 1;
	answer(c, &welcome, sizeof(welcome));
	memcpy(host.host, s->host, sizeof(host.host));
	answer(c, &host, sizeof(host));
	return true;
}

static bool take_region(struct vine_serve *s, struct connection *c,
			const union talk_message *m, uint64_t now)
{
	uint32_t index = m->head.tag;

	(void)now;
	if (!plain(&m->head) || index >= TALK_REGIONS || c->region[index])
		return false;
	c->region[index] = session_region(s, c->session, c->queue, m->region.id);
	if (!c->region[index])
		connection_close(s, c, "no memory");
	return true;
}

static bool take_region_gone(struct vine_serve *s, struct connection *c,
			     const union talk_message *m, uint64_t now)
{
	uint32_t index = m->head.tag;

	(void)now;
	if (!plain(&m->head) || index >= TALK_REGIONS || !c->region[index])
		return false;
	region_put(s, c->region[index]);
	c->region[index] = NULL;
	return true;
}

static bool take_accel(struct vine_serve *s, struct connection *c,
		       const union talk_message *m, uint64_t now)
{
	struct talk_accel accel = {
		.head = { .op = TALK_ACCEL, .tag = m->head.tag }, .id = m->head.tag,
	};
	const struct accelerator *a;

	(void)now;
	if (!plain(&m->head) || m->head.tag >= s->accelerator_count)
		return false;
	a = s->accelerators[m->head.tag];
	accel.head.a = a->type;
	accel.pci = a->pci;
	memcpy(accel.name, a->name, sizeof(accel.name));
	answer(c, &accel, sizeof(accel));
	return true;
}

static bool take_stat(struct vine_serve *s, struct connection *c,
		      const union talk_message *m, uint64_t now)
{
	struct talk_stat stat = {
		.head = { .op = TALK_STAT, .a = accel_failed, .tag = m->head.tag },
	};
	const struct accelerator *a = scheduler_find(s, c->session, m->accel_op.id);

	(void)now;
	if (!plain(&m->head) || m->accel_op.reserved || !was_accelerator(c, m->accel_op.id))
		return false;
	if (a) {
		stat.head.a = a->running || a->holder ? accel_busy : accel_idle;
		stat.queued = a->queued;
		stat.running = a->running;
		stat.done = a->done;
		stat.failed = a->failed;
		stat.busy_ns = a->busy_ns;
	}
	answer(c, &stat, sizeof(stat));
	return true;
}

/* ACQUIRE and RELEASE */
static bool take_hold(struct vine_serve *s, struct connection *c,
		      const union talk_message *m, uint64_t now)
{
	struct talk_acquired acquired = { .head = { .op = m->head.op, .tag = m->head.tag } };
	struct accelerator *a = scheduler_find(s, c->session, m->accel_op.id);
	bool is_virtual = m->accel_op.id >= s->accelerator_count;

	(void)now;
	if (!plain(&m->head) || m->accel_op.reserved || !was_accelerator(c, m->accel_op.id))
		return false;
	if (m->head.op == TALK_ACQUIRE && a && !is_virtual) {
		acquired.id = scheduler_acquire(a, c->session);
	} else if (m->head.op == TALK_RELEASE && a && is_virtual) {
		acquired.id = m->accel_op.id;
		scheduler_release(s, a);
	}
	acquired.head.a = !acquired.id;
	answer(c, &acquired, sizeof(acquired));
	return true;
}

/* ---- messages about procedures ---- */

static bool good_name(const struct talk_name *n)
{
	unsigned int i;

	if (n->head.a >= VINE_ACCEL_TYPES || !n->head.b || n->head.b > TALK_NAME || n->head.c)
		return false;
	for (i = 0; i < TALK_NAME; i++)
		if (!n->name[i] != (i >= n->head.b))
			return false;
	return true;
}

static void name_of(const struct talk_name *n, char name[TALK_NAME + 1])
{
	memcpy(name, n->name, TALK_NAME);
	name[TALK_NAME] = 0;
}

static void answer_procedure(struct connection *c, uint32_t tag, int status, uint32_t id)
{
	struct talk_proc proc = {
		.head = { .op = TALK_PROC, .a = status, .tag = tag }, .id = id,
	};

	answer(c, &proc, sizeof(proc));
}

static bool take_register(struct vine_serve *s, struct connection *c,
			  const union talk_message *m, uint64_t now)
{
	(void)s;
	(void)now;
	if (!good_name(&m->name))
		return false;
	c->name = m->name;
	return true;
}

static bool take_get(struct vine_serve *s, struct connection *c,
		     const union talk_message *m, uint64_t now)
{
	char name[TALK_NAME + 1];
	uint32_t id = 0;
	int status;

	(void)now;
	if (!good_name(&m->name))
		return false;
	name_of(&m->name, name);
	status = procedures_get(s, c->session, m->head.a, name, &id);
	answer_procedure(c, m->head.tag, status, id);
	return true;
}

/* The region that @ref, @beyond bytes more included, is in; NULL: it makes no sense. */
static struct region *resolve(const struct connection *c, const struct talk_ref *ref,
			      uint64_t beyond)
{
	unsigned int index = TALK_WHERE_INDEX(ref->where);
	uint64_t offset = TALK_WHERE_OFFSET(ref->where), left;
	struct region *r;

	if (index >= TALK_REGIONS || !c->region[index] || !ref->size)
		return NULL;
	r = c->region[index];
	if (r->memory.fd < 0)	/* nobody knows how large it is, or will touch it */
		return r;
	left = r->memory.bytes;
	if (offset > left || ref->size > left - offset || beyond > left - offset - ref->size)
		return NULL;
	return r;
}

static bool take_bytes(struct vine_serve *s, struct connection *c,
		       const union talk_message *m, uint64_t now)
{
	const struct talk_ref *ref = &m->bytes.ref;
	struct region *r = NULL;
	char name[TALK_NAME + 1];
	uint32_t id = 0;
	int status;

	(void)now;
	if (!plain(&m->head) || !c->name.head.op || m->head.tag != c->name.head.tag)
		return false;
	if (ref->where || ref->size) {
		r = resolve(c, ref, 0);
		if (!r)
			return false;
	}
	name_of(&c->name, name);
	status = procedures_register(s, c->session, c->name.head.a, name, r,
				     TALK_WHERE_OFFSET(ref->where), ref->size, &id);
	c->name.head.op = 0;
	answer_procedure(c, m->head.tag, status, id);
	return true;
}

static bool take_put(struct vine_serve *s, struct connection *c,
		     const union talk_message *m, uint64_t now)
{
	(void)now;
	return plain(&m->head) && !m->head.tag && !m->put.reserved &&
		session_unknow(s, c->session, m->put.id);
}

/* ---- messages about tasks ---- */

static bool in_flight(const struct connection *c, uint32_t tag)
{
	const struct list *head = &c->tags[tag % TAG_HASH];
	struct list *item, *next;

	list_each(item, next, head)
		if (container_of(item, struct task, tag_link)->tag == tag)
			return true;
	return false;
}

/* Who is to run it; or why it cannot be run. */
static vine_task_reason_e choose_handler(struct vine_serve *s, struct task *task)
{
	const struct accelerator *a = task->accelerator;
	const struct procedure *p = task->procedure;

	if (!a)
		return vine_reason_no_accelerator;
	if (!p || (p->type != ANY && p->type != a->type))
		return vine_reason_no_procedure;
	task->handler = plugins_find(&s->plugins, a->type, p->name);
	if (task->handler)
		return vine_reason_none;
	if (!p->code)
		return vine_reason_no_procedure;
	if (!(p->source ? s->allow_source : s->allow_code))
		return vine_reason_not_allowed;
	task->compiler = p->source ? a->compiler : NULL;
	return p->source && !task->compiler ? vine_reason_no_procedure : vine_reason_none;
}

/* @ref: @n of them; what the task does not need is zero. */
static bool add_buffers(struct task *task, const struct talk_ref *ref, unsigned int n)
{
	unsigned int i, outputs = task->buffers - task->out_count;
	uint64_t redzone = task->flags & TALK_REDZONES ? TALK_REDZONE : 0;
	struct region *r;

	for (i = 0; i < n; i++) {
		if (task->have == task->buffers) {
			if (ref[i].where || ref[i].size)
				return false;
			continue;
		}
		r = resolve(task->connection, &ref[i], task->have >= outputs ? redzone : 0);
		if (!r)
			return false;
		r->references++;
		task->buffer[task->have++] = (struct buffer){
			r, TALK_WHERE_OFFSET(ref[i].where), ref[i].size,
		};
		if (task->reason == vine_reason_none)
			task->reason = r->reason;
	}
	return true;
}

/* It is whole, if it is. */
static void go_on(struct vine_serve *s, struct connection *c, struct task *task)
{
	if (task->have < task->buffers)
		return;
	c->partial = NULL;
	if (task->reason == vine_reason_none) {
		scheduler_add(s, task);
		return;
	}
	if (task->accelerator)
		task->accelerator->failed++;
	connection_answer(s, task);
}

static bool take_task(struct vine_serve *s, struct connection *c,
		      const union talk_message *m, uint64_t now)
{
	const struct talk_task *t = &m->task;
	unsigned int buffers = !!(t->head.a & TALK_ARGS) + t->head.b + t->head.c;
	struct task *task;

	if (t->head.a & ~(TALK_ARGS | TALK_REDZONES) || buffers > TALK_BUFFERS || t->reserved ||
	    !was_accelerator(c, t->accel) || !t->proc || t->proc >= c->session->next_procedure ||
	    in_flight(c, t->head.tag))
		return false;
	task = calloc(1, sizeof(*task) + buffers * sizeof(task->buffer[0]));
	if (!task) {
		connection_close(s, c, "no memory");
		return true;
	}
	task->connection = c;
	task->accelerator = scheduler_find(s, c->session, t->accel);
	task->procedure = session_procedure(c->session, t->proc);
	if (task->procedure)	/* its session has it already */
		procedures_hold(s, task->procedure, c->peer);
	task->tag = t->head.tag;
	task->flags = t->head.a;
	task->in_count = t->head.b;
	task->out_count = t->head.c;
	task->buffers = buffers;
	task->received = now;
	task->reason = choose_handler(s, task);
	list_init(&task->link);
	list_add_tail(&c->tags[task->tag % TAG_HASH], &task->tag_link);
	c->tasks++;
	c->buffers += buffers;
	c->partial = task;
	if (!add_buffers(task, t->ref, 2))
		return false;
	go_on(s, c, task);
	return true;
}

static bool take_refs(struct vine_serve *s, struct connection *c,
		      const union talk_message *m, uint64_t now)
{
	struct task *task = c->partial;
	unsigned int left;

	(void)now;
	if (!task || m->head.tag != task->tag || m->head.b || m->head.c)
		return false;
	left = task->buffers - task->have;
	if (m->head.a != (left < 3 ? left : 3) || !add_buffers(task, m->refs.ref, 3))
		return false;
	go_on(s, c, task);
	return true;
}

/* ---- all messages ---- */

#define CONTROL		(1U << CONNECTION_CONTROL)
#define TASKS		(1U << CONNECTION_TASKS)

static const struct {
	size_t size;
	unsigned int kinds;	/* of queues it may come to */
	bool (*take)(struct vine_serve *s, struct connection *c, const union talk_message *m,
		     uint64_t now);
} messages[] = {
	[TALK_HELLO] = { sizeof(struct talk_hello), 1U << CONNECTION_NEW, take_hello },
	[TALK_REGION] = { sizeof(struct talk_region), CONTROL | TASKS, take_region },
	[TALK_REGION_GONE] = { sizeof(struct talk_region_gone), CONTROL | TASKS,
			       take_region_gone },
	[TALK_ACCEL] = { sizeof(struct talk_accel_get), CONTROL, take_accel },
	[TALK_STAT] = { sizeof(struct talk_accel_op), CONTROL, take_stat },
	[TALK_ACQUIRE] = { sizeof(struct talk_accel_op), CONTROL, take_hold },
	[TALK_RELEASE] = { sizeof(struct talk_accel_op), CONTROL, take_hold },
	[TALK_REGISTER] = { sizeof(struct talk_name), CONTROL, take_register },
	[TALK_BYTES] = { sizeof(struct talk_bytes), CONTROL, take_bytes },
	[TALK_GET] = { sizeof(struct talk_name), CONTROL, take_get },
	[TALK_PUT] = { sizeof(struct talk_put), CONTROL, take_put },
	[TALK_TASK] = { sizeof(struct talk_task), TASKS, take_task },
	[TALK_REFS] = { sizeof(struct talk_refs), TASKS, take_refs },
};

static bool take(struct vine_serve *s, struct connection *c, const struct vine_msg *msg,
		 uint64_t now)
{
	union talk_message m = { .head = { 0 } };
	uint8_t op;

	if (msg->len < sizeof(m.head) || msg->len > sizeof(m))
		return false;
	memcpy(&m, msg->data, msg->len);
	op = m.head.op;
	if (op >= sizeof(messages) / sizeof(messages[0]) || !messages[op].take ||
	    msg->len != messages[op].size || !(messages[op].kinds & 1U << c->kind))
		return false;
	/* what has to follow directly */
	if ((c->partial && op != TALK_REFS) || (c->name.head.op && op != TALK_BYTES))
		return false;
	return messages[op].take(s, c, &m, now);
}

static void pull(struct vine_serve *s, struct connection *c)
{
	struct vine_msg msgs[BATCH];
	uint64_t now;
	int i, n;

	/* epoll tells of it again, after others */
	if (!room(c) || (c->kind == CONNECTION_CONTROL && s->copied >= COPY_ROUND))
		return;
	n = vine_pull(c->queue, msgs, room(c), 0, 0);
	if (n == -EAGAIN || n == -EINTR || serve_lost(s, n))
		return;
	if (n < 0) {
		connection_close(s, c, n == -EPIPE ? NULL : strerror(-n));
		return;
	}
	now = serve_now();
	for (i = 0; i < n && !c->gone; i++)
		if (!take(s, c, &msgs[i], now))
			connection_close(s, c, "a message that makes no sense");
	if (!c->gone)
		connection_dirty(s, c);
}

static void connection_ready(struct vine_serve *s, struct source *source, uint32_t events)
{
	struct connection *c = container_of(source, struct connection, source);

	if (c->gone)
		return;
	/* what somebody who is gone has asked for is of no use to anybody */
	if (events & (EPOLLHUP | EPOLLERR))
		connection_close(s, c, NULL);
	else if (events & EPOLLIN)
		pull(s, c);
	if (events & EPOLLOUT && !c->gone)
		connection_dirty(s, c);
}
