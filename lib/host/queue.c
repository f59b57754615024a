// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * queue.c - a queue: connect, attach, its state, and how its descriptor tells it
 *
 * The descriptor is readable unless the ring is armed, so that nobody who finds messages
 * without sleeping makes a system call: see host_queue_refresh() and transfer.c.
 */
#include "host/endpoint.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_NS	10000000	/* the longest that a caller keeps the thread waiting */

bool host_nonblocking(int fd)
{
	return fcntl(fd, F_GETFL) & O_NONBLOCK;
}

/* A queue that is not connected yet. */
int host_queue_new(struct host_endpoint *ep, bool filled, bool nonblock, struct host_queue **queue)
{
	struct host_queue *q = (struct host_queue *)host_object_new(ep, HOST_QUEUE);
	int err;

	if (!q)
		return -ENOMEM;
	pthread_mutex_init(&q->tx, NULL);
	pthread_mutex_init(&q->rx, NULL);
	err = host_poll_open(&q->poll, filled, nonblock);
	if (err)
		host_put(&q->o);
	else
		*queue = q;
	return err;
}

/* From now on readiness wakes it. With control, after connect or accept. */
void host_queue_publish(struct host_queue *q)
{
	struct host_endpoint *ep = q->o.ep;

	q->o.session = atomic_load(&ep->session);
	atomic_store(&q->connected, q->queue.side == VINE_SIDE_SERVER);
	pthread_mutex_lock(&ep->ready);
	ep->queues[q->queue.side][q->queue.index] = q;
	pthread_mutex_unlock(&ep->ready);
}

static void queue_renumber(struct host_object *o, int fd)
{
	struct host_queue *q = (struct host_queue *)o;

	pthread_mutex_lock(&q->tx);
	pthread_mutex_lock(&q->rx);
	q->poll.user = fd;
	pthread_mutex_unlock(&q->rx);
	pthread_mutex_unlock(&q->tx);
}

static void queue_end(struct host_object *o)
{
	struct host_queue *q = (struct host_queue *)o;
	struct host_endpoint *ep = o->ep;

	if (o->session) {
		pthread_mutex_lock(&ep->ready);
		if (ep->queues[q->queue.side][q->queue.index] == q)
			ep->queues[q->queue.side][q->queue.index] = NULL;
		pthread_mutex_unlock(&ep->ready);
	}
	/* of an earlier session: all was handed back then */
	if (host_control_end(ep, o->session)) {
		vine_queue_close(&q->queue);
		pthread_mutex_unlock(&ep->control);
	}
	host_poll_close(&q->poll);
	pthread_mutex_destroy(&q->tx);
	pthread_mutex_destroy(&q->rx);
}

const struct host_class host_queue_class = { queue_renumber, queue_end };

/* ---- state ---- */

int host_queue_connected(struct host_queue *q)
{
	int err;

	if (atomic_load_explicit(&q->connected, memory_order_acquire))
		return 0;
	err = vine_connect_result(&q->queue);
	if (!err)
		atomic_store_explicit(&q->connected, true, memory_order_release);
	return err;
}

/* The endpoint's thread tries again in a while: something could not be shown now. */
static void show_later(struct host_queue *q)
{
	atomic_store(&q->late, true);
	atomic_store(&q->o.ep->late, true);
}

void host_queue_readable(struct host_queue *q, bool on)
{
	if (!host_poll_in(&q->poll, on))
		show_later(q);
}

/* Readable, or armed; who sleeps looks itself, and leaves it so. With rx. */
static int show_messages(struct host_queue *q)
{
	int any;

	if (q->poll.byte)
		return 0;
	any = vine_ring_arm(&q->queue.rx);
	q->armed = !any;
	if (any && !q->waiting)
		host_queue_readable(q, true);
	return any < 0 ? any : 0;
}

/* With tx. */
static int show_room(struct host_queue *q)
{
	int space;

	if (!q->poll.filled)
		return 0;
	space = vine_ring_space(&q->queue.tx, 1);
	if (!space)
		space = vine_ring_arm_space(&q->queue.tx);
	if (space > 0)
		host_poll_out(&q->poll, true);
	return space < 0 ? space : 0;
}

/* With what of @tx and @rx we have. The end takes both. */
static void show(struct host_queue *q, bool tx, bool rx)
{
	bool both = tx && rx;
	int err;

	if (host_entered(q->o.ep, q->o.session)) {
		if (both)
			host_poll_fail(&q->poll);
		return;
	}
	err = host_queue_connected(q);
	if (err == -ECONNREFUSED && both) {
		host_poll_hang(&q->poll);
	} else if (!err) {
		if ((tx && show_room(q)) || (rx && show_messages(q)))
			WRITE_ONCE(q->queue.broken, true);
		/* nor is it the zeroes of a file that is gone */
		if (both && vine_queue_hung(&q->queue) && !host_entered(q->o.ep, q->o.session))
			host_poll_hang(&q->poll);
	}
	if (both && READ_ONCE(q->queue.broken))
		host_poll_fail(&q->poll);
}

/*
 * Callers have tx and rx while they touch their own memory, which may take for ever: a page
 * that is not there, a debugger. The thread that beats must not wait so long, and at the next
 * try not at all. After the end calls give them back at once.
 */
static bool lock_soon(struct host_queue *q, pthread_mutex_t *mutex, bool patient)
{
	struct timespec until;

	if (host_entered(q->o.ep, q->o.session))
		return !pthread_mutex_lock(mutex);
	if (!patient)
		return !pthread_mutex_trylock(mutex);
	/* by the time of day: TSan does not know pthread_mutex_clocklock() */
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += PATIENCE_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	return !pthread_mutex_timedlock(mutex, &until);
}

static void refresh(struct host_queue *q, bool patient)
{
	bool tx, rx, waiting = true;

	atomic_store(&q->late, false);
	tx = lock_soon(q, &q->tx, patient);
	rx = lock_soon(q, &q->rx, patient);
	if (tx || rx)
		show(q, tx, rx);
	/* what was not shown is not lost: it is looked for again */
	if (!tx || !rx)
		show_later(q);
	atomic_fetch_add(&q->news, 1);
	if (rx) {
		waiting = q->waiting;
		pthread_mutex_unlock(&q->rx);
	}
	if (tx)
		pthread_mutex_unlock(&q->tx);
	if (waiting)
		host_wake(&q->news);
}

void host_queue_refresh(struct host_queue *q)
{
	refresh(q, true);
}

void host_queues_late(struct host_endpoint *ep)
{
	u32 side, i;

	if (!atomic_exchange(&ep->late, false))
		return;
	pthread_mutex_lock(&ep->ready);
	for (side = 0; side < 2; side++)
		for (i = 0; i < VINE_MAX_QUEUES; i++)
			if (ep->queues[side][i] && atomic_load(&ep->queues[side][i]->late))
				refresh(ep->queues[side][i], false);
	pthread_mutex_unlock(&ep->ready);
}

/* ---- connect ---- */

/* One try. -ENOENT: there is no such service (now). */
static int try_connect(struct host_queue *q, const struct vine_connect *c)
{
	struct host_endpoint *ep = q->o.ep;
	struct vine_service_seen service;
	int err = host_control(ep, 0);

	if (err)
		return err;
	if (!vine_service_find(&ep->core, c->id, c->name, &service))
		err = -ENOENT;
	else
		err = vine_queue_connect(&ep->core, &q->queue, &service, c->depth);
	if (!err)
		host_queue_publish(q);
	pthread_mutex_unlock(&ep->control);
	return err;
}

static int connect_state(struct host_queue *q)
{
	int err;

	pthread_mutex_lock(&q->tx);
	err = host_entered(q->o.ep, q->o.session);
	if (!err)
		err = host_queue_connected(q);
	pthread_mutex_unlock(&q->tx);
	return err;
}

/* The deadline has come, or a signal: unless the server was faster. */
static int give_up(struct host_queue *q, int err)
{
	pthread_mutex_lock(&q->tx);
	if (!host_entered(q->o.ep, q->o.session)) {
		vine_connect_cancel(&q->queue);
		if (!host_queue_connected(q))
			err = 0;
	}
	pthread_mutex_unlock(&q->tx);
	return err;
}

static void count_waiting(struct host_queue *q, int n)
{
	pthread_mutex_lock(&q->rx);
	q->waiting += n;
	pthread_mutex_unlock(&q->rx);
}

static int connect_wait(struct host_queue *q, uint64_t deadline)
{
	unsigned int seen;
	int err;

	count_waiting(q, 1);
	for (;;) {
		seen = atomic_load(&q->news);
		err = connect_state(q);
		if (err != -EINPROGRESS)
			break;
		err = deadline ? host_sleep(&q->news, seen, deadline) : -EAGAIN;
		if (err) {
			err = give_up(q, err);
			break;
		}
	}
	count_waiting(q, -1);
	return err;
}

/* Connects, and waits for the service if that is wanted. */
static int find_and_connect(struct host_queue *q, const struct vine_connect *c)
{
	bool wait = c->flags & VINE_WAIT_SERVICE && !(c->flags & VINE_NONBLOCK);
	struct host_endpoint *ep = q->o.ep;
	unsigned int seen;
	int err;

	for (;;) {
		seen = atomic_load(&ep->tables);
		err = try_connect(q, c);
		if (err != -ENOENT || !wait)
			return err;
		err = c->deadline ? host_sleep(&ep->tables, seen, c->deadline) : -EAGAIN;
		if (err)
			return err;
	}
}

int host_do_connect(struct host_endpoint *ep, struct vine_connect *c)
{
	static const u8 none[VINE_SERVICE_NAME];
	bool nonblock = c->flags & VINE_NONBLOCK;
	struct host_queue *q;
	int err, fd;

	if (c->flags & ~(VINE_NONBLOCK | VINE_WAIT_SERVICE))
		return -EOPNOTSUPP;
	if (c->id ? memcmp(c->name, none, sizeof(none)) : vine_check_name(c->name))
		return -EINVAL;
	if (c->depth < VINE_MIN_DEPTH || c->depth > VINE_MAX_DEPTH || c->depth & (c->depth - 1))
		return -EINVAL;
	err = host_queue_new(ep, true, nonblock, &q);
	if (err)
		return err;
	fd = q->poll.user;
	err = find_and_connect(q, c);
	if (!err && !nonblock)
		err = connect_wait(q, c->deadline);
	if (!err) {
		host_queue_refresh(q);
		err = host_install(&q->o, fd);
	}
	if (err) {
		host_discard(&q->o, fd);
		return err;
	}
	c->fd = fd;
	c->peer = q->queue.slot;
	c->incarnation = q->queue.inc;
	return 0;
}

/* ---- attach ---- */

static int attach(struct host_queue *q, struct host_object *o, u64 *id)
{
	struct host_region *r = (struct host_region *)o;
	struct host_endpoint *ep = q->o.ep;
	int err;

	if (o->kind != HOST_REGION || o->ep != ep || !r->own ||
	    q->queue.side != VINE_SIDE_CLIENT)
		return -EINVAL;
	err = host_control(ep, q->o.session);
	if (err)
		return err;
	err = host_queue_connected(q);
	if (o->session != q->o.session)
		err = -ENOTCONN;
	else if (err == -ECONNREFUSED || (!err && vine_queue_hung(&q->queue)))
		err = -EPIPE;
	else	/* before it is accepted, too: the server finds it then */
		err = vine_queue_attach(&q->queue, r->id);
	*id = r->id;
	pthread_mutex_unlock(&ep->control);
	return err;
}

int host_do_attach(struct host_queue *q, struct vine_attach *a)
{
	struct host_object *o;
	u64 id;
	int err;

	if (a->flags)
		return -EOPNOTSUPP;
	if (a->reserved)
		return -EINVAL;
	o = host_find(a->region_fd);
	if (!o)
		return fcntl(a->region_fd, F_GETFD) < 0 ? -EBADF : -EINVAL;
	err = attach(q, o, &id);
	if (!err)
		a->id = id;
	host_put(o);
	return err;
}
