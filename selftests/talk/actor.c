// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * actor.c - an appliance that can be told to misbehave; see actor.h
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <vine.h>

#include "actor.h"
#include "talk/protocol.h"

#define QUEUES		256
#define PROCS		256
#define PENDING		4096
#define TOKEN		0x746f6b656eULL
#define VIRTUAL		1000		/* id of the only accelerator that is held */

struct attached {
	bool used;
	uint8_t *base;		/* NULL: it could not be imported any more */
	uint64_t bytes;
};

/* A task whose messages come. */
struct coming {
	bool any;
	struct talk_task task;
	struct talk_ref ref[TALK_BUFFERS];
	unsigned int refs, wanted;
	uint64_t received;
};

struct queue {
	int fd;
	bool greeted, control, registering;
	struct talk_name name;
	struct attached region[TALK_REGIONS];
	struct coming coming;
};

struct pending {
	struct queue *q;
	struct talk_done done;
};

static struct actor *actor;
static pthread_t thread;
static int device, listener;
static atomic_bool stop, dead;
static struct queue queues[QUEUES];
static unsigned int procs[PROCS];	/* references, by id - 1 */
static struct pending pending[PENDING];
static unsigned int pendings;
static uint32_t holder;			/* VIRTUAL, or 0 */
static unsigned int sessions;		/* control queues */

static void violation(const char *what)
{
	printf("# the client: %s\n", what);
	actor->violations++;
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec + actor->offset;
}

static void detach(struct queue *q, unsigned int i)
{
	if (q->region[i].base)
		vine_unmap(q->region[i].base, q->region[i].bytes);
	q->region[i] = (struct attached){ .used = false };
	actor->regions--;
}

static void close_queue(struct queue *q)
{
	unsigned int i, n = 0;

	if (q->fd < 0)
		return;
	vine_close(q->fd);
	for (i = 0; i < TALK_REGIONS; i++)
		if (q->region[i].used)
			detach(q, i);
	for (i = 0; i < pendings; i++)
		if (pending[i].q != q)
			pending[n++] = pending[i];
	pendings = n;
	if (q->control && !--sessions) {
		memset(procs, 0, sizeof(procs));
		actor->procedures = 0;
		actor->held = 0;
		holder = 0;
	}
	memset(q, 0, sizeof(*q));
	q->fd = -1;
	actor->queues--;
}

static void die(void)
{
	unsigned int i;

	dead = true;
	vine_close(listener);
	for (i = 0; i < QUEUES; i++)
		close_queue(&queues[i]);
}

/* ---- sending ---- */

static void push(struct queue *q, const struct vine_msg *msg)
{
	struct pollfd p = { .fd = q->fd, .events = POLLOUT };

	/* a client always takes what comes, as soon as it needs to */
	while (q->fd >= 0 && vine_push(q->fd, msg, 1) == -EAGAIN && !stop)
		poll(&p, 1, 10);
}

static void send_message(struct queue *q, const void *body, size_t size)
{
	enum actor_trick trick = (int)actor->sent++ == actor->trick_at ? actor->trick : HONEST;
	struct vine_msg msg = { .len = size };
	struct talk_head *head = (struct talk_head *)msg.data;

	memcpy(msg.data, body, size);
	switch (trick) {
	case CLOSE:
		close_queue(q);
		return;
	case DIE:
		die();
		return;
	case SILENT:
		return;
	case TWICE:
		push(q, &msg);
		break;
	case SHORT:
		msg.len--;
		break;
	case EMPTY:
		msg.len = 0;
		break;
	case LONG:
		msg.len = size == sizeof(msg.data) ? 0 : sizeof(msg.data);
		break;
	case OP:
		head->op ^= 0x40;
		break;
	case A:
		head->a = 0x77;
		break;
	case B:
		head->b = 1;
		break;
	case C:
		head->c = 1;
		break;
	case TAG:
		head->tag += 1000;
		break;
	case NO:
		head->a = 1;
		break;
	case ONES:
		memset(msg.data + sizeof(*head), 0xff, size - sizeof(*head));
		break;
	default:
		break;
	}
	push(q, &msg);
}

/* ---- tasks ---- */

static uint8_t *resolve(struct queue *q, struct talk_ref ref, bool redzone)
{
	unsigned int i = TALK_WHERE_INDEX(ref.where);
	uint64_t offset = TALK_WHERE_OFFSET(ref.where);
	struct attached *r = &q->region[i];

	if (i >= TALK_REGIONS || !r->used) {
		violation("a buffer in no region");
		return NULL;
	}
	if (!r->base)
		return NULL;
	if (!ref.size || offset > r->bytes ||
	    ref.size + (redzone ? TALK_REDZONE : 0) > r->bytes - offset) {
		violation("a buffer beyond its region");
		return NULL;
	}
	return r->base + offset;
}

static void work(struct queue *q, struct coming *c)
{
	unsigned int args = !!(c->task.head.a & TALK_ARGS), i, j;
	unsigned int outs = c->task.head.c, first = c->wanted - outs;
	uint8_t *from, *to;

	if (!(c->task.head.a & TALK_REDZONES))
		violation("no redzones");
	for (i = 0; i < args + c->task.head.b; i++)
		resolve(q, c->ref[i], false);
	for (i = 0; i < outs; i++) {
		to = resolve(q, c->ref[first + i], true);
		if (!to)
			continue;
		for (j = 0; j < TALK_REDZONE; j++)
			if (to[c->ref[first + i].size + j] != TALK_REDZONE_BYTE) {
				violation("a redzone is not whole");
				break;
			}
		if (actor->reason == vine_reason_overrun)
			to[c->ref[first + i].size] = 0;
		if (i || c->wanted == outs) {
			memset(to, i, c->ref[first + i].size);
			continue;
		}
		from = resolve(q, c->ref[0], false);
		for (j = 0; from && j < c->ref[0].size && j < c->ref[first].size; j++)
			to[j] = from[j] + 1;
	}
}

static void finish(struct queue *q, struct coming *c)
{
	struct talk_done done = {
		.head = { .op = TALK_DONE, .a = actor->reason, .tag = c->task.head.tag },
		.detail = actor->detail, .received = c->received,
	};

	c->any = false;
	actor->tasks++;
	/* a session's end is seen on the control queue, and perhaps only then on others */
	if (sessions && (!c->task.proc || c->task.proc > PROCS || !procs[c->task.proc - 1]))
		violation("a task of a procedure that it does not know");
	if (c->task.accel >= actor->accels && c->task.accel != VIRTUAL)
		violation("a task for no accelerator");
	done.started = now();
	work(q, c);
	done.ended = now();
	if (pendings == PENDING)
		abort();
	pending[pendings++] = (struct pending){ q, done };
}

static void take_refs(struct queue *q, const struct talk_ref *ref, unsigned int n)
{
	struct coming *c = &q->coming;

	for (; n && c->refs < c->wanted; n--)
		c->ref[c->refs++] = *ref++;
	for (; n; n--, ref++)
		if (ref->where || ref->size)
			violation("an unused ref is not zero");
	if (c->refs == c->wanted)
		finish(q, c);
}

static void on_task(struct queue *q, const struct talk_task *t)
{
	unsigned int i;

	if (q->control || q->coming.any || t->reserved)
		violation("TASK");
	for (i = 0; i < pendings; i++)
		if (pending[i].q == q && pending[i].done.head.tag == t->head.tag)
			violation("a tag that is in flight");
	q->coming = (struct coming){
		.any = true, .task = *t, .received = now(),
		.wanted = !!(t->head.a & TALK_ARGS) + t->head.b + t->head.c,
	};
	if (q->coming.wanted > TALK_BUFFERS)
		violation("too many buffers");
	take_refs(q, t->ref, 2);
}

static void on_refs(struct queue *q, const struct talk_refs *r)
{
	unsigned int left = q->coming.wanted - q->coming.refs;

	if (!q->coming.any || r->head.tag != q->coming.task.head.tag ||
	    r->head.a != (left < 3 ? left : 3))
		violation("REFS");
	else
		take_refs(q, r->ref, 3);
}

static void send_done(void)
{
	struct pending p;

	while (pendings && !actor->hold && !dead) {
		p = pending[0];
		memmove(pending, pending + 1, --pendings * sizeof(p));
		p.done.sent = now();
		send_message(p.q, &p.done, sizeof(p.done));
	}
}

/* ---- the rest ---- */

static void on_region(struct queue *q, const struct talk_region *r)
{
	struct attached *at = &q->region[r->head.tag % TALK_REGIONS];
	void *base;
	int fd;

	if (r->head.tag >= TALK_REGIONS || at->used) {
		violation("REGION");
		return;
	}
	at->used = true;
	actor->regions++;
	fd = vine_import(q->fd, r->id, &at->bytes);
	if (fd < 0)
		return;
	if (!vine_map(fd, at->bytes, &base))
		at->base = base;
	vine_close(fd);
}

static void on_hello(struct queue *q, const struct talk_hello *h, uint64_t received)
{
	struct talk_welcome w = {
		.head = { .op = TALK_WELCOME }, .version = TALK_VERSION, .accels = actor->accels,
		.token = { TOKEN, 1 }, .received = received,
	};
	struct talk_host host = { .head = { .op = TALK_HOST }, .host = "stage" };

	if (q->greeted || h->version != TALK_VERSION || h->reserved || !h->pid || !h->tid)
		violation("HELLO");
	q->greeted = true;
	q->control = !h->token[0] && !h->token[1];
	sessions += q->control;
	if (!q->control && (h->token[0] != TOKEN || h->token[1] != 1))
		violation("a token");
	w.sent = now();
	send_message(q, &w, sizeof(w));
	if (q->fd >= 0)
		send_message(q, &host, sizeof(host));
}

static void on_accel(struct queue *q, const struct talk_accel_get *g)
{
	static const vine_accel_type_e types[] = { CPU, GPU, FPGA };
	struct talk_accel a = {
		.head = { .op = TALK_ACCEL, .a = types[g->head.tag % 3], .tag = g->head.tag },
		.id = g->head.tag,
		/* of the others it is none: without the highest bit */
		.pci = g->head.tag == 1 ? 1ULL << 63 | 0x12 << 16 | 0x345 : g->head.tag,
	};

	if (g->head.tag >= actor->accels)
		violation("ACCEL");
	snprintf(a.name, sizeof(a.name), "actor%u", g->head.tag);
	usleep(actor->slow_ms * 1000);
	send_message(q, &a, sizeof(a));
}

static void on_accel_op(struct queue *q, const struct talk_accel_op *o)
{
	struct talk_acquired r = { .head = { .op = o->head.op, .tag = o->head.tag } };
	struct talk_stat s = {
		.head = { .op = TALK_STAT, .a = accel_idle, .tag = o->head.tag },
		.queued = 1, .running = 2, .done = 3, .failed = 4, .busy_ns = 5,
	};

	if ((o->id >= actor->accels && o->id != holder) || o->reserved)
		violation("an id of no accelerator");
	if (o->head.op == TALK_STAT) {
		s.head.a = actor->broken ? accel_failed :
			   o->id == holder && holder ? accel_busy : accel_idle;
		send_message(q, &s, sizeof(s));
		return;
	}
	if (o->head.op == TALK_ACQUIRE && !holder) {
		holder = VIRTUAL;
		r.id = holder;
		actor->held = 1;
	} else if (o->head.op == TALK_RELEASE && o->id == holder) {
		holder = 0;
		actor->held = 0;
	} else {
		r.head.a = 1;
	}
	send_message(q, &r, sizeof(r));
}

static void send_proc(struct queue *q, uint32_t tag, unsigned int status)
{
	static unsigned int last;
	struct talk_proc p = { .head = { .op = TALK_PROC, .a = status, .tag = tag } };

	if (!status) {
		while (procs[last % PROCS])
			last++;
		procs[last % PROCS] = 1;
		p.id = last++ % PROCS + 1;
		actor->procedures++;
	}
	send_message(q, &p, sizeof(p));
}

static void on_name(struct queue *q, const struct talk_name *n)
{
	unsigned int i;

	if (n->head.a >= VINE_ACCEL_TYPES || !n->head.b || n->head.b > TALK_NAME)
		violation("a name");
	for (i = n->head.b; i < TALK_NAME; i++)
		if (n->name[i])
			violation("a name's padding");
	if (n->head.op == TALK_REGISTER) {
		q->registering = true;
		q->name = *n;
		return;
	}
	send_proc(q, n->head.tag, strncmp(n->name, "none", 4) ? 0 : 1);
}

static void on_bytes(struct queue *q, const struct talk_bytes *b)
{
	const uint8_t *bytes;

	if (!q->registering || b->head.tag != q->name.head.tag)
		violation("BYTES");
	q->registering = false;
	if (b->ref.size) {
		bytes = resolve(q, b->ref, false);
		if (bytes && memcmp(bytes, q->name.name, 1))	/* the tests make it so */
			violation("other bytes have come");
	}
	actor->registered++;
	if (!strncmp(q->name.name, "large", 5))
		send_proc(q, b->head.tag, 3);
	else if (!strncmp(q->name.name, "typeless", 8))
		send_proc(q, b->head.tag, 2);
	else
		send_proc(q, b->head.tag, actor->no_register);
}

static void on_put(const struct talk_put *p)
{
	if (!p->id || p->id > PROCS || !procs[p->id - 1]) {
		violation("PUT");
		return;
	}
	procs[p->id - 1] = 0;
	actor->procedures--;
}

static void on_message(struct queue *q, const struct vine_msg *msg)
{
	static const unsigned int sizes[] = {
		[TALK_HELLO] = sizeof(struct talk_hello),
		[TALK_REGION] = sizeof(struct talk_region),
		[TALK_REGION_GONE] = sizeof(struct talk_region_gone),
		[TALK_ACCEL] = sizeof(struct talk_accel_get),
		[TALK_STAT] = sizeof(struct talk_accel_op),
		[TALK_ACQUIRE] = sizeof(struct talk_accel_op),
		[TALK_RELEASE] = sizeof(struct talk_accel_op),
		[TALK_REGISTER] = sizeof(struct talk_name),
		[TALK_BYTES] = sizeof(struct talk_bytes),
		[TALK_GET] = sizeof(struct talk_name),
		[TALK_PUT] = sizeof(struct talk_put),
		[TALK_TASK] = sizeof(struct talk_task),
		[TALK_REFS] = sizeof(struct talk_refs),
	};
	_Alignas(16) uint8_t body[VINE_MSG_DATA];
	const struct talk_head *head = (const void *)body;
	const void *m = body;

	memcpy(body, msg->data, sizeof(body));
	if (!head->op || head->op > TALK_REFS || msg->len != sizes[head->op] ||
	    (!q->greeted && head->op != TALK_HELLO) ||
	    (q->registering && head->op != TALK_BYTES) ||
	    (q->coming.any && head->op != TALK_REFS)) {
		violation("a message that makes no sense");
		return;
	}
	switch (head->op) {
	case TALK_HELLO:
		on_hello(q, m, now());
		break;
	case TALK_REGION:
		on_region(q, m);
		break;
	case TALK_REGION_GONE:
		if (head->tag >= TALK_REGIONS || !q->region[head->tag].used)
			violation("GONE");
		else
			detach(q, head->tag);
		break;
	case TALK_ACCEL:
		on_accel(q, m);
		break;
	case TALK_STAT:
	case TALK_ACQUIRE:
	case TALK_RELEASE:
		on_accel_op(q, m);
		break;
	case TALK_REGISTER:
	case TALK_GET:
		on_name(q, m);
		break;
	case TALK_BYTES:
		on_bytes(q, m);
		break;
	case TALK_PUT:
		on_put(m);
		break;
	case TALK_TASK:
		on_task(q, m);
		break;
	case TALK_REFS:
		on_refs(q, m);
		break;
	}
}

static void serve(struct queue *q)
{
	struct vine_msg msgs[16];
	int i, n;

	n = vine_pull(q->fd, msgs, 16, 0, 0);
	for (i = 0; i < n && q->fd >= 0; i++)
		on_message(q, &msgs[i]);
	if (n == -EPIPE || n == -ENOTCONN || n == -ENODEV)
		close_queue(q);
}

static void accept_one(void)
{
	unsigned int i;
	int fd = vine_accept(listener, 0, 0, NULL);

	for (i = 0; fd >= 0 && i < QUEUES; i++) {
		if (queues[i].fd < 0) {
			memset(&queues[i], 0, sizeof(queues[i]));
			queues[i].fd = fd;
			actor->queues++;
			actor->accepted++;
			return;
		}
	}
}

static void *act(void *unused)
{
	struct pollfd p[QUEUES + 1];
	unsigned int i;

	(void)unused;
	while (!stop && !dead) {
		for (i = 0; i < QUEUES; i++)
			p[i] = (struct pollfd){ .fd = actor->deaf ? -1 : queues[i].fd,
						.events = POLLIN };
		p[QUEUES] = (struct pollfd){ .fd = listener, .events = POLLIN };
		/* the time limit: for what others change in *actor */
		poll(p, QUEUES + 1, 2);
		actor->rounds++;
		if (p[QUEUES].revents)
			accept_one();
		for (i = 0; i < QUEUES && !dead; i++)
			if (p[i].revents && p[i].fd == queues[i].fd)
				serve(&queues[i]);
		send_done();
	}
	if (!dead)
		die();
	return NULL;
}

void actor_start(struct actor *a)
{
	unsigned int i;

	actor = a;
	stop = dead = false;
	pendings = 0;
	holder = 0;
	sessions = 0;
	memset(procs, 0, sizeof(procs));
	for (i = 0; i < QUEUES; i++)
		queues[i].fd = -1;
	device = vine_open(NULL);
	listener = vine_listen(device, a->name ? a->name : "actor", TALK_SERVICE, 0);
	if (listener < 0 || pthread_create(&thread, NULL, act, NULL))
		abort();
}

void actor_stop(struct actor *a)
{
	(void)a;
	stop = true;
	pthread_join(thread, NULL);
	vine_close(device);
}
