// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * connect.c - connections to appliances: queues, what is in flight on them, and who waits
 *
 * Each thread has a queue of its own to each appliance that it issues tasks to; it alone
 * pushes tasks there. But any thread may wait for any task: one of those that wait on a
 * connection pulls, for all of them, while the others sleep on a condition; when its own task
 * is done, the next one pulls.
 *
 * What is to be pushed goes through a list, so that messages which belong together stay
 * together, whoever pushes them.
 *
 * A thread that ends with tasks in flight leaves its connections behind as orphans. The next
 * thread that needs one adopts it; or it is closed when the last task there is done.
 *
 * Tasks may be in flight that nobody waits for: they were freed. Their completions are pulled
 * when a thread needs a connection, when appliances are looked for, or when memory runs out.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "talk/device.h"

#define BATCH		32	/* messages pulled at once */
#define IN_FLIGHT_MAX	512	/* tasks on one connection */
#define IN_FLIGHT_LAZY	32	/* with more than that in flight, an issue pulls as well */
#define SLICE_MS	1000	/* of a sleep: then look whether the connection was given up */

int device_patience_ms = 10000;

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct connection *all;

/* The connections of this thread are of an earlier life when @life is another one. */
static atomic_uint life;
static __thread struct {
	unsigned int life;
	struct connection *owned;
} mine;
static pthread_key_t thread_end;

/* ---- messages ---- */

void message_set(struct vine_msg *msg, const void *body, size_t size)
{
	*msg = (struct vine_msg){ .len = size };
	memcpy(msg->data, body, size);
}

/* Room for @n more messages. -ENOMEM. With the lock held, as all here. */
static int out_reserve(struct connection *c, unsigned int n)
{
	struct vine_msg *grown;
	unsigned int room = c->out_room ? c->out_room : 32;

	if (c->out_first == c->out_end)
		c->out_first = c->out_end = 0;
	while (room - c->out_end < n)
		room *= 2;
	if (room == c->out_room)
		return 0;
	grown = realloc(c->out, room * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	c->out = grown;
	c->out_room = room;
	return 0;
}

static void out_add(struct connection *c, const void *body, size_t size)
{
	message_set(&c->out[c->out_end++], body, size);
}

static bool out_waits(const struct connection *c)
{
	return c->out_first < c->out_end;
}

/*
 * Pushes what there is room for, and pulls up to @room messages, without waiting. How many
 * were pulled, or an error that is the queue's end.
 */
static int exchange(struct connection *c, struct vine_msg *msgs, unsigned int room)
{
	struct vine_transfer t;
	int ret;

	do {
		t = (struct vine_transfer){
			.push = (uintptr_t)(c->out + c->out_first),
			.push_count = c->out_end - c->out_first,
			.pull = (uintptr_t)msgs, .pull_count = room,
		};
		ret = vine_transfer(c->queue.fd, &t);
	} while (ret == -EINTR);
	if (ret)
		return ret == -EAGAIN ? 0 : ret;
	c->out_first += t.push_count;
	return t.pull_count;
}

/* ---- tasks in flight ---- */

static uint32_t tag_of(const struct device_task *t)
{
	return t->obj.id;
}

static struct device_task **find(struct connection *c, uint32_t tag)
{
	struct device_task **t = &c->flight[tag % CONNECTION_HASH];

	while (*t && tag_of(*t) != tag)
		t = &(*t)->next;
	return t;
}

static void take_off(struct connection *c, struct device_task **link, struct device_task **done)
{
	struct device_task *t = *link;

	*link = t->next;
	t->in_flight = false;
	c->in_flight--;
	t->next = *done;
	*done = t;
}

static struct device_data *output(const struct device_task *t, unsigned int i)
{
	return (struct device_data *)t->obj.buffer[t->obj.has_args + t->obj.in_count + i];
}

/* A DONE. -EPROTO: it is none, or of no task here. */
static int take_done(struct connection *c, const struct vine_msg *msg, uint64_t now,
		     struct device_task **done)
{
	struct appliance *a = c->appliance;
	struct device_task **link, *t;
	struct talk_done d;
	unsigned int i;

	memcpy(&d, msg->data, sizeof(d));
	if (msg->len != sizeof(d) || d.head.op != TALK_DONE || d.head.a >= VINE_TASK_REASONS ||
	    d.head.b || d.head.c || d.reserved)
		return -EPROTO;
	link = find(c, d.head.tag);
	t = *link;
	if (!t)
		return -EPROTO;
	take_off(c, link, done);
	t->reason = d.head.a;
	t->detail = d.detail;
	pthread_mutex_lock(&a->clock_lock);
	clock_sample(&a->clock, t->obj.stats.issue_ns, d.received, d.sent, now);
	clock_convert(&a->clock, d.started, d.ended, now, &t->obj.stats);
	pthread_mutex_unlock(&a->clock_lock);
	/* the next task that has the buffer is not to blame */
	for (i = 0; t->reason == vine_reason_overrun && i < t->obj.out_count; i++)
		heap_redzone(output(t, i)->block, output(t, i)->obj.size);
	return 0;
}

/* The connection is over: everything is lost. */
static void die(struct connection *c, struct device_task **done)
{
	struct device_task *t;
	unsigned int i, j;

	c->dead = true;
	c->out_first = c->out_end = 0;
	for (i = 0; i < CONNECTION_HASH; i++) {
		while ((t = c->flight[i])) {
			take_off(c, &c->flight[i], done);
			t->reason = vine_reason_lost;
			t->detail = 0;
			/* the handler may be at work all the same */
			for (j = 0; j < t->obj.out_count; j++)
				heap_distrust(output(t, j)->block);
		}
	}
}

static void wake(struct connection *c)
{
	if (c->waiters)
		pthread_cond_broadcast(&c->wake);
}

static void close_if_over(struct connection *c)
{
	if (c->orphan && !c->in_flight)
		c->dead = true;
	if (c->dead && !c->users)
		descriptor_close(&c->queue);
}

/* Deals with @n messages that were pulled, or with an error. Lets go of the lock meanwhile. */
static void deal(struct connection *c, const struct vine_msg *msgs, int n)
{
	struct device_task *done = NULL, *t;
	uint64_t now;
	int i, ret = n < 0 ? n : 0;

	if (!n || c->dead)
		return;
	now = talk_now();
	for (i = 0; i < n && !ret; i++)
		ret = take_done(c, &msgs[i], now, &done);
	if (ret == -EPROTO)
		talk_warn("appliance %s sends nonsense", c->appliance->name);
	if (ret)
		die(c, &done);
	pthread_mutex_unlock(&c->lock);
	while ((t = done)) {
		done = t->next;
		talk_task_done(&t->obj, t->reason, t->detail);
	}
	if (ret == -ENOTCONN || ret == -ENODEV)
		heap_check();
	pthread_mutex_lock(&c->lock);
	wake(c);
}

/* ---- waiting ---- */

static int ms_until(uint64_t deadline)
{
	uint64_t now = talk_now();

	return deadline > now ? (deadline - now + 999999) / 1000000 : 0;
}

/* Waits for @events, without the lock. */
static int poll_queue(struct connection *c, short events, int ms)
{
	struct pollfd p = { .fd = c->queue.fd, .events = events };
	int n;

	c->users++;
	pthread_mutex_unlock(&c->lock);
	n = poll(&p, 1, ms);
	pthread_mutex_lock(&c->lock);
	c->users--;
	return n > 0 ? p.revents : 0;
}

static void sleep_on_wake(struct connection *c)
{
	c->waiters++;
	pthread_cond_wait(&c->wake, &c->lock);
	c->waiters--;
}

/*
 * Waits for messages, without the lock: how many, 0 or an error. A sleep costs the interrupts
 * of two machines; so make WAIT=adaptive spins for about as long as that takes before it
 * sleeps, but only while waits are short.
 */
static const uint64_t spin_ns = VINE_WAIT == WAIT_SPIN ? UINT64_MAX :
				VINE_WAIT == WAIT_SLEEP ? 0 : 50000;

/* The call does it itself: without a system call, which each look here is one of. */
static bool call_spins(void)
{
	return VINE_WAIT == WAIT_ADAPTIVE && device_spins;
}

static int await(struct connection *c, struct vine_msg *msgs)
{
	uint64_t begin = talk_now(), spent = 0;
	int n = -EAGAIN;

	/* twice: a short wait that was slept through looks that long */
	while (n == -EAGAIN && spent < spin_ns && c->typical_ns / 2 < spin_ns && !c->dead &&
	       !call_spins()) {
		n = vine_pull(c->queue.fd, msgs, BATCH, 0, 0);
		if (n == -EAGAIN)
			sched_yield();
		spent = talk_now() - begin;
	}
	if (n == -EAGAIN && !c->dead)
		n = vine_pull(c->queue.fd, msgs, BATCH, 1, vine_deadline_ms(SLICE_MS));
	spent = talk_now() - begin;
	c->typical_ns = (c->typical_ns * 3 + spent) / 4;
	return n == -EAGAIN || n == -EINTR || n == -ETIMEDOUT ? 0 : n;
}

/* Waits for completions, and @events, when there are too many tasks here to go on. */
static void wait_for_room(struct connection *c, short events)
{
	struct vine_msg msgs[BATCH];

	if (c->pulling && !events) {
		sleep_on_wake(c);
		return;
	}
	poll_queue(c, POLLIN | events, SLICE_MS);
	if (c->dead)
		return;
	deal(c, msgs, exchange(c, msgs, c->pulling ? 0 : BATCH));
	if (c->pulling)
		sched_yield();	/* what woke us may be a message that is not for us to pull */
}

void connection_wait(struct connection *c, struct device_task *t)
{
	struct vine_msg msgs[BATCH];
	int n;

	pthread_mutex_lock(&c->lock);
	while (atomic_load(&t->obj.state) == task_issued) {
		/* not in flight: somebody is about to say that it is done */
		if (c->pulling || !t->in_flight) {
			sleep_on_wake(c);
			continue;
		}
		c->pulling = true;
		c->users++;
		pthread_mutex_unlock(&c->lock);
		n = await(c, msgs);
		pthread_mutex_lock(&c->lock);
		c->pulling = false;
		c->users--;
		deal(c, msgs, n);
		close_if_over(c);
	}
	pthread_mutex_unlock(&c->lock);
}

void connection_poll(struct connection *c)
{
	struct vine_msg msgs[BATCH];
	int n = BATCH;

	pthread_mutex_lock(&c->lock);
	while (n == BATCH && c->in_flight && !c->pulling) {
		n = exchange(c, msgs, BATCH);
		deal(c, msgs, n);
	}
	close_if_over(c);
	pthread_mutex_unlock(&c->lock);
}

/* ---- issuing ---- */

static void add_region(struct connection *c, unsigned int slot, uint64_t id)
{
	struct talk_region r = { .head = { .op = TALK_REGION, .tag = slot }, .id = id };

	out_add(c, &r, sizeof(r));
}

static void add_region_gone(struct connection *c, unsigned int slot)
{
	struct talk_region_gone g = { .head = { .op = TALK_REGION_GONE, .tag = slot } };

	out_add(c, &g, sizeof(g));
}

static int attach(struct connection *c, const struct heap_region *r)
{
	uint64_t id;
	int ret;

	if (r->lost)
		return -ENOTCONN;
	if (c->attached[r->slot] == r->serial)
		return 0;
	ret = out_reserve(c, 2);
	while (!ret) {
		ret = vine_attach(c->queue.fd, r->descriptor.fd, &id);
		if (ret != -EINTR)
			break;
		ret = 0;
	}
	if (ret)
		return ret;
	if (c->attached[r->slot])	/* no memory to say so, at the time */
		add_region_gone(c, r->slot);
	add_region(c, r->slot, id);
	c->attached[r->slot] = r->serial;
	return 0;
}

/* Whose fault is it that a region cannot be attached? -EPIPE: the connection's, which is dead. */
static int attach_failed(struct connection *c, const struct heap_region *r, int error)
{
	if (error == -ENOTCONN || error == -ENODEV) {
		pthread_mutex_unlock(&c->lock);
		heap_check();
		pthread_mutex_lock(&c->lock);
		if (r->lost)
			return -ENOTCONN;
		error = -EPIPE;
	}
	if (error == -EPIPE)
		deal(c, NULL, error);
	return error;
}

static struct talk_ref ref_of(const struct device_task *t, unsigned int i)
{
	struct device_data *d;

	if (i >= t->obj.buffers)
		return (struct talk_ref){ 0, 0 };
	d = (struct device_data *)t->obj.buffer[i];
	return (struct talk_ref){
		TALK_WHERE(d->block->region->slot, d->block->offset), d->obj.size,
	};
}

static void add_task(struct connection *c, const struct device_task *t, uint32_t accel,
		     uint32_t proc)
{
	struct talk_task task = {
		.head = {
			.op = TALK_TASK, .a = TALK_REDZONES | (t->obj.has_args ? TALK_ARGS : 0),
			.b = t->obj.in_count, .c = t->obj.out_count, .tag = tag_of(t),
		},
		.accel = accel, .proc = proc, .ref = { ref_of(t, 0), ref_of(t, 1) },
	};
	struct talk_refs refs;
	unsigned int i, left;

	out_add(c, &task, sizeof(task));
	for (i = 2; i < t->obj.buffers; i += 3) {
		left = t->obj.buffers - i;
		refs = (struct talk_refs){
			.head = { .op = TALK_REFS, .a = left < 3 ? left : 3, .tag = tag_of(t) },
			.ref = { ref_of(t, i), ref_of(t, i + 1), ref_of(t, i + 2) },
		};
		out_add(c, &refs, sizeof(refs));
	}
}

/* Attaches what the task needs, and makes room for its messages. */
static int prepare(struct connection *c, const struct device_task *t)
{
	const struct heap_region *r;
	unsigned int i;
	int ret;

	for (i = 0; i < t->obj.buffers; i++) {
		r = ((struct device_data *)t->obj.buffer[i])->block->region;
		ret = attach(c, r);
		if (ret)
			return attach_failed(c, r, ret);
	}
	return out_reserve(c, 1 + (TALK_BUFFERS - 2 + 2) / 3);
}

static void push_all(struct connection *c)
{
	struct vine_msg msgs[BATCH];
	bool pull;

	while (!c->dead && out_waits(c)) {
		/* looking for none costs the appliance a doorbell for the next one */
		pull = !c->pulling && c->in_flight > IN_FLIGHT_LAZY;
		deal(c, msgs, exchange(c, msgs, pull ? BATCH : 0));
		if (!c->dead && out_waits(c))
			wait_for_room(c, POLLOUT);
	}
}

int connection_issue(struct connection *c, struct device_task *t, uint32_t accel, uint32_t proc)
{
	struct device_task **link;
	int ret;

	pthread_mutex_lock(&c->lock);
	while (!c->dead && (c->in_flight >= IN_FLIGHT_MAX || *find(c, tag_of(t))))
		wait_for_room(c, 0);
	ret = c->dead ? -EPIPE : prepare(c, t);
	if (!ret) {
		atomic_fetch_add(&c->references, 1);
		atomic_store(&t->connection, c);
		link = &c->flight[tag_of(t) % CONNECTION_HASH];
		t->next = *link;
		*link = t;
		t->in_flight = true;
		c->in_flight++;
		add_task(c, t, accel, proc);
		push_all(c);
	}
	close_if_over(c);
	pthread_mutex_unlock(&c->lock);
	return ret;
}

/* ---- requests ---- */

void connection_tell(struct connection *c, const struct vine_msg *msg)
{
	pthread_mutex_lock(&c->lock);
	if (!c->dead && !out_reserve(c, 1)) {
		c->out[c->out_end++] = *msg;
		exchange(c, NULL, 0);	/* should it fail, who comes next will see */
	}
	pthread_mutex_unlock(&c->lock);
}

static int pull_answers(struct connection *c, struct vine_msg *answer, unsigned int answers,
			uint64_t deadline)
{
	unsigned int got = 0;
	int n;

	while (got < answers) {
		n = vine_pull(c->queue.fd, answer + got, answers - got, 1, deadline);
		if (n < 0 && n != -EINTR)
			return n;
		got += n > 0 ? n : 0;
	}
	return 0;
}

int connection_request(struct connection *c, const struct heap_block *block,
		       const struct vine_msg *msgs, unsigned int n, struct vine_msg *answer,
		       unsigned int answers)
{
	uint64_t deadline = vine_deadline_ms(device_patience_ms);
	unsigned int i;
	int ret = 0, ms;

	pthread_mutex_lock(&c->lock);
	if (c->dead)
		ret = -EPIPE;
	if (!ret && block) {
		ret = attach(c, block->region);
		if (ret)
			ret = attach_failed(c, block->region, ret);
	}
	if (!ret)
		ret = out_reserve(c, n);
	if (ret)
		goto unlock;
	for (i = 0; i < n; i++)
		c->out[c->out_end++] = msgs[i];
	for (;;) {
		ret = c->dead ? -EPIPE : exchange(c, NULL, 0);
		if (ret || !out_waits(c))
			break;
		ms = ms_until(deadline);
		if (!ms) {
			ret = -ETIMEDOUT;
			break;
		}
		poll_queue(c, POLLOUT, ms);
	}
	c->users++;
	pthread_mutex_unlock(&c->lock);
	if (!ret)
		ret = pull_answers(c, answer, answers, deadline);
	pthread_mutex_lock(&c->lock);
	c->users--;
	if (ret)
		deal(c, NULL, ret);
	close_if_over(c);
unlock:
	pthread_mutex_unlock(&c->lock);
	return ret;
}

int connection_check(struct connection *c)
{
	struct vine_msg msg;
	int n = -EPIPE;

	pthread_mutex_lock(&c->lock);
	if (!c->dead) {
		n = exchange(c, &msg, 1);
		/* nothing was asked, so a message is no DONE either */
		deal(c, &msg, n);
	}
	close_if_over(c);
	pthread_mutex_unlock(&c->lock);
	return n > 0 ? -EPROTO : n;
}

/* ---- lives ---- */

static struct connection *connection_new(struct appliance *a)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->queue.fd = -1;
	c->appliance = a;
	c->references = 1;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wake, NULL);
	pthread_mutex_lock(&list_lock);
	c->next = all;
	c->link = &all;
	if (all)
		all->link = &c->next;
	all = c;
	pthread_mutex_unlock(&list_lock);
	return c;
}

/* With the list's lock held. */
static void connection_free(struct connection *c)
{
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	descriptor_close(&c->queue);
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock);
	free(c->out);
	free(c);
}

/* False: the last reference has gone. */
static bool connection_get(struct connection *c)
{
	unsigned int n = atomic_load(&c->references);

	while (n && !atomic_compare_exchange_weak(&c->references, &n, n + 1))
		;
	return n;
}

void connection_put(struct connection *c)
{
	if (atomic_fetch_sub(&c->references, 1) > 1)
		return;
	pthread_mutex_lock(&list_lock);
	connection_free(c);
	pthread_mutex_unlock(&list_lock);
}

static int make_queue(struct connection *c, struct greeting *g)
{
	struct vine_connect peer;
	int fd;

	descriptors_lock();
	do
		fd = vine_connect_id(device, g->service, TALK_DEPTH, VINE_NONBLOCK, 0, &peer);
	while (fd == -EINTR);
	descriptor_is(&c->queue, fd);
	descriptors_unlock();
	if (fd < 0)
		return fd;
	g->peer = peer.peer;
	g->incarnation = peer.incarnation;
	return 0;
}

/* Until it is accepted. With the lock held. */
static int await_acceptance(struct connection *c)
{
	uint64_t deadline = vine_deadline_ms(device_patience_ms);
	int seen = 0, ms;

	while (!seen && !c->dead) {
		ms = ms_until(deadline);
		if (!ms)
			return -ETIMEDOUT;
		seen = poll_queue(c, POLLOUT, ms < SLICE_MS ? ms : SLICE_MS);
	}
	if (c->dead)
		return -EPIPE;
	return seen & (POLLHUP | POLLERR) ? -ECONNREFUSED : 0;
}

static int connect_queue(struct connection *c, struct greeting *g)
{
	int ret, flags;

	pthread_mutex_lock(&c->lock);
	c->users++;		/* should the session be given up meanwhile */
	pthread_mutex_unlock(&c->lock);
	ret = make_queue(c, g);
	pthread_mutex_lock(&c->lock);
	if (!ret)
		ret = await_acceptance(c);
	if (!ret) {
		flags = fcntl(c->queue.fd, F_GETFL);
		if (flags < 0 || fcntl(c->queue.fd, F_SETFL, flags & ~O_NONBLOCK))
			ret = -errno;
	}
	c->users--;
	close_if_over(c);
	pthread_mutex_unlock(&c->lock);
	return ret;
}

static int greet(struct connection *c, struct greeting *g)
{
	struct talk_hello hello = {
		.head = { .op = TALK_HELLO }, .version = TALK_VERSION,
		.token = { g->token[0], g->token[1] }, .pid = getpid(),
		.tid = syscall(SYS_gettid),
	};
	struct talk_welcome welcome;
	struct talk_host host;
	struct vine_msg msg, answer;
	int ret;

	message_set(&msg, &hello, sizeof(hello));
	g->pushed = talk_now();
	ret = connection_request(c, NULL, &msg, 1, &answer, 1);
	g->pulled = talk_now();
	if (ret)
		return ret;
	memcpy(&welcome, answer.data, sizeof(welcome));
	if (answer.len != sizeof(welcome) || welcome.head.op != TALK_WELCOME ||
	    welcome.head.a > 1 || welcome.head.b || welcome.head.c || welcome.head.tag)
		return -EPROTO;
	if (welcome.head.a)
		return -EACCES;
	ret = connection_request(c, NULL, NULL, 0, &answer, 1);
	if (ret)
		return ret;
	memcpy(&host, answer.data, sizeof(host));
	if (answer.len != sizeof(host) || host.head.op != TALK_HOST || host.head.a ||
	    host.head.b || host.head.c || host.head.tag ||
	    !memchr(host.host, 0, sizeof(host.host)) || welcome.version != TALK_VERSION ||
	    !(welcome.token[0] | welcome.token[1]))
		return -EPROTO;
	memcpy(g->host, host.host, sizeof(g->host));
	memcpy(g->token, welcome.token, sizeof(g->token));
	g->accels = welcome.accels;
	g->received = welcome.received;
	g->sent = welcome.sent;
	return 0;
}

int connection_open(struct appliance *a, struct greeting *g, struct connection **out)
{
	struct connection *c = connection_new(a);
	int ret;

	if (!c)
		return -ENOMEM;
	ret = connect_queue(c, g);
	if (!ret)
		ret = greet(c, g);
	if (ret)
		connection_put(c);
	else
		*out = c;
	return ret;
}

/* ---- threads ---- */

/* Its thread ends, but tasks may be in flight there. With the list's lock held. */
static void abandon(struct connection *c)
{
	pthread_mutex_lock(&c->lock);
	c->orphan = true;
	close_if_over(c);
	pthread_mutex_unlock(&c->lock);
	if (!c->dead) {
		c->next_owned = c->appliance->orphans;
		c->appliance->orphans = c;
	} else if (atomic_fetch_sub(&c->references, 1) == 1) {
		connection_free(c);
	}
}

/* At the end of a thread. */
static void abandon_all(void *unused)
{
	struct connection *c;

	(void)unused;
	pthread_mutex_lock(&list_lock);
	while (mine.life == atomic_load(&life) && (c = mine.owned)) {
		mine.owned = c->next_owned;
		abandon(c);
	}
	pthread_mutex_unlock(&list_lock);
}

/* An orphan that lives, with its reference. NULL: none. */
static struct connection *adopt(struct appliance *a)
{
	struct connection *c;

	for (;;) {
		pthread_mutex_lock(&list_lock);
		c = a->orphans;
		if (c)
			a->orphans = c->next_owned;
		pthread_mutex_unlock(&list_lock);
		if (!c)
			return NULL;
		pthread_mutex_lock(&c->lock);
		c->orphan = false;
		pthread_mutex_unlock(&c->lock);
		if (!c->dead)
			return c;
		connection_put(c);
	}
}

static int open_for_thread(struct appliance *a, struct connection **out)
{
	struct greeting g = {
		.service = a->service, .token = { a->token[0], a->token[1] },
	};
	int ret = connection_open(a, &g, out);

	if (ret)
		return ret;
	pthread_mutex_lock(&a->clock_lock);
	clock_sample(&a->clock, g.pushed, g.received, g.sent, g.pulled);
	pthread_mutex_unlock(&a->clock_lock);
	return 0;
}

int connection_of_thread(struct appliance *a, struct connection **out)
{
	struct connection **link = &mine.owned, *c;
	int ret;

	if (mine.life != atomic_load(&life)) {
		mine.life = atomic_load(&life);
		mine.owned = NULL;
	}
	while ((c = *link)) {
		if (c->appliance == a && !c->dead)
			goto found;
		if (c->dead) {
			*link = c->next_owned;
			connection_put(c);
		} else {
			link = &c->next_owned;
		}
	}
	if (pthread_setspecific(thread_end, &mine))
		return -ENOMEM;
	c = adopt(a);
	connections_poll();
	if (!c) {
		ret = open_for_thread(a, &c);
		if (ret)
			return ret;
	}
	c->next_owned = mine.owned;
	mine.owned = c;
found:
	connection_get(c);
	*out = c;
	return 0;
}

/* ---- all of them ---- */

void connections_forget(const struct heap_region *r)
{
	struct connection *c;

	pthread_mutex_lock(&list_lock);
	for (c = all; c; c = c->next) {
		pthread_mutex_lock(&c->lock);
		if (!c->dead && c->attached[r->slot] == r->serial && !out_reserve(c, 1)) {
			c->attached[r->slot] = 0;
			add_region_gone(c, r->slot);
			exchange(c, NULL, 0);	/* as in connection_tell() */
		}
		pthread_mutex_unlock(&c->lock);
	}
	pthread_mutex_unlock(&list_lock);
}

static struct connection *first_living(struct appliance *a)
{
	struct connection *c;

	pthread_mutex_lock(&list_lock);
	for (c = all; c; c = c->next) {
		if (c->appliance == a && !c->dead && connection_get(c))
			break;
	}
	pthread_mutex_unlock(&list_lock);
	return c;
}

/* The one after @c, NULL: the first, with a reference; that to @c goes. */
static struct connection *next_of(struct connection *c)
{
	struct connection *next;

	pthread_mutex_lock(&list_lock);
	next = c ? c->next : all;
	while (next && !connection_get(next))
		next = next->next;
	pthread_mutex_unlock(&list_lock);
	if (c)
		connection_put(c);
	return next;
}

void connections_poll(void)
{
	struct connection *c = NULL;

	while ((c = next_of(c)))
		connection_poll(c);
}

void connections_fail(struct appliance *a)
{
	struct connection *c;

	while ((c = first_living(a))) {
		pthread_mutex_lock(&c->lock);
		deal(c, NULL, -EPIPE);
		close_if_over(c);
		pthread_mutex_unlock(&c->lock);
		connection_put(c);
	}
}

int connections_open(void)
{
	static bool done;	/* talk.c opens one back end at a time */

	if (!done && pthread_key_create(&thread_end, abandon_all))
		return -ENOMEM;
	done = true;
	return 0;
}

/* The tasks have gone, so the references left are those of threads, and of orphans. */
void connections_close(void)
{
	pthread_mutex_lock(&list_lock);
	atomic_fetch_add(&life, 1);
	while (all)
		connection_free(all);
	pthread_mutex_unlock(&list_lock);
}

void connections_forked(void)
{
	atomic_fetch_add(&life, 1);
	all = NULL;
	pthread_mutex_init(&list_lock, NULL);
}
