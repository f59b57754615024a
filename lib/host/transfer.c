// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * transfer.c - push, pull, wait
 *
 * A call that waits, and finds messages while it spins ("lazy"), leaves the ring unarmed and
 * the descriptor readable, so that neither side makes a system call. Every other that leaves
 * the ring empty leaves it armed, and the descriptor not readable.
 */
#include "host/endpoint.h"
#include "waiting.h"

#include <sched.h>
#include <unistd.h>

#define SPIN_NS		50000	/* what a sleep costs on both sides, and being woken */
#define SPIN_LOOKS	32	/* between two looks at the clock */
#define SLEEPS		8	/* in a row, and nobody is lazy any more */
#define TRY		8	/* of so many waits one spins in any case */
#define BELLS		16	/* that are others', and one leaves hearing to the thread */

/* Whether there is a second CPU that could bring something while we spin. */
static bool may_spin(void)
{
	static atomic_int answer;	/* 0: not known yet */
	cpu_set_t cpus;

	if (!atomic_load_explicit(&answer, memory_order_relaxed))
		atomic_store(&answer, !sched_getaffinity(0, sizeof(cpus), &cpus) &&
				      CPU_COUNT(&cpus) < 2 ? 1 : 2);
	return atomic_load_explicit(&answer, memory_order_relaxed) == 2;
}

static inline void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* With tx or rx. */
static int enter_connected(struct host_queue *q)
{
	int err = host_entered(q->o.ep, q->o.session);

	if (!err)
		err = host_queue_connected(q);
	return err == -EINPROGRESS ? -ENOTCONN : err;
}

static void queue_break(struct host_queue *q)
{
	WRITE_ONCE(q->queue.broken, true);
	host_queue_refresh(q);
}

/* ---- push ---- */

/* 0, -EINVAL or -EMSGSIZE. */
static int get_message(struct vine_cell *cell, const struct vine_msg *msg)
{
	u32 length = READ_ONCE(msg->len);

	if (msg->reserved)
		return -EINVAL;
	if (length > VINE_MSG_DATA)
		return -EMSGSIZE;
	memcpy(cell->word, msg->data, length);
	/* nothing of the user's travels along */
	memset((char *)cell->word + length, 0, VINE_MSG_DATA - length);
	cell->bytes = length;
	return 0;
}

/* Room for one cell: 1; 0: none, and the descriptor says so until there is; -EIO. */
static int room(struct host_queue *q)
{
	int space = vine_ring_space(&q->queue.tx, 1);

	if (space)
		return space;
	space = vine_ring_arm_space(&q->queue.tx);
	if (!space)
		host_poll_out(&q->poll, false);
	return space;
}

/* Pushes what there is room for. *@done counts; 0 or the error that stopped it. */
static int push(struct host_queue *q, const struct vine_msg *from, u32 n, u32 *done)
{
	struct vine_cell cell;
	int err, space = 0;

	pthread_mutex_lock(&q->tx);
	err = enter_connected(q);
	if (!err && READ_ONCE(q->queue.broken))
		err = -EIO;
	else if (!err && vine_queue_hung(&q->queue))
		err = -EPIPE;
	while (!err && *done < n) {
		err = get_message(&cell, &from[*done]);
		if (err)
			break;
		space = room(q);
		if (space <= 0) {
			err = space ? -EIO : -EAGAIN;
			break;
		}
		vine_ring_push(&q->queue.tx, &cell);
		++*done;
	}
	if (*done && vine_ring_pushed(&q->queue.tx))
		vine_queue_notify(&q->queue);
	pthread_mutex_unlock(&q->tx);
	if (space < 0)
		queue_break(q);
	return err;
}

/* ---- pull ---- */

/* What somebody who spins looks at. */
struct look {
	__le64 *head;
	u64 was;
	unsigned int news;
};

/* Makes the descriptor say what is there. True: a message is. With rx. */
static bool show_left(struct host_queue *q)
{
	if (!q->armed)
		q->armed = !vine_ring_arm(&q->queue.rx);
	host_queue_readable(q, !q->armed);
	return !q->armed;
}

static void put_message(struct vine_msg *to, const struct vine_cell *cell)
{
	to->len = cell->bytes;
	to->reserved = 0;
	memcpy(to->data, cell->word, VINE_MSG_DATA);
}

/* Copies what is there. 1: all that was wanted; 0: no more is there; -EIO. */
static int take(struct host_queue *q, struct vine_msg *to, u32 n, u32 *done)
{
	struct vine_consumer *rx = &q->queue.rx;
	struct vine_cell cell;
	u32 before = *done;
	bool tell = false;
	int ret = 1;

	while (*done < n) {
		ret = vine_ring_peek(rx, 0, &cell);
		if (ret <= 0)
			break;
		put_message(&to[*done], &cell);
		tell |= vine_ring_consume(rx, 1);
		++*done;
	}
	if (*done == before)
		return ret;
	q->armed = false;
	/* the other side sees all that we consumed */
	tell |= vine_ring_publish(rx);
	if (tell)
		vine_queue_notify(&q->queue);
	return ret;
}

/*
 * Pulls what is there. *@done counts; 0 or the error that stopped it: -EAGAIN also when the
 * caller is to wait, and look at @look first. @min: who gets less, waits; 0: nobody does.
 */
static int pull(struct host_queue *q, struct vine_msg *to, u32 n, u32 min, u32 *done,
		struct look *look)
{
	bool hung, again = false;
	int err, ret = 0;

	pthread_mutex_lock(&q->rx);
	for (;;) {
		u32 before = *done;

		err = enter_connected(q);
		if (err)
			goto out;
		/* first: what was sent before the hang-up is drained before it shows */
		hung = vine_queue_hung(&q->queue);
		ret = take(q, to, n, done);
		if (ret < 0 || READ_ONCE(q->queue.broken)) {
			err = -EIO;
			goto out;
		}
		if (!ret && hung) {
			err = -EPIPE;
			goto out;
		}
		if (!ret && *done < min) {
			look->head = &vine_ring_cell(q->queue.rx.ring, q->queue.rx.depth,
						     q->queue.rx.head)->head;
			look->was = vine_ld64(look->head);
			look->news = atomic_load(&q->news);
			err = -EAGAIN;
			goto out;
		}
		if (min && atomic_load_explicit(&q->lazy, memory_order_relaxed)) {
			host_queue_readable(q, true);
			break;
		}
		/* one that came just now is pulled too; a producer that lies is not chased */
		if (!show_left(q) || ret || (again && *done == before))
			break;
		again = true;
	}
	err = ret ? 0 : -EAGAIN;
out:
	pthread_mutex_unlock(&q->rx);
	if (ret < 0)
		queue_break(q);
	return err;
}

/* ---- wait ---- */

static void note_wait(struct host_queue *q, uint64_t ns)
{
	uint64_t typical = atomic_load_explicit(&q->typical_ns, memory_order_relaxed);

	atomic_store_explicit(&q->typical_ns, (typical * 3 + ns) / 4, memory_order_relaxed);
}

/*
 * Were waits so short lately that one more is worth it? A short wait that was slept through
 * looks twice as long, or more when both sides sleep: so now and then it is tried.
 */
static bool worth_spinning(struct host_queue *q)
{
	return VINE_WAIT != WAIT_SLEEP && may_spin() &&
		(atomic_load_explicit(&q->typical_ns, memory_order_relaxed) / 2 < SPIN_NS ||
		 atomic_load_explicit(&q->slept, memory_order_relaxed) % TRY == 0);
}

/* True: there is something to be looked at. */
static bool spin(struct host_queue *q, const struct look *look, uint64_t until)
{
	unsigned int i;

	do {
		for (i = 0; i < SPIN_LOOKS; i++) {
			/* what is in the segment: another machine may change it, or not */
			if (vine_ld64(look->head) != look->was ||
			    atomic_load_explicit(&q->news, memory_order_relaxed) != look->news)
				return true;
			relax();
		}
	} while (host_now() < until);
	return false;
}

/* Is there a reason to look again? Arms the ring if it is empty. With rx. */
static bool must_look(struct host_queue *q)
{
	int ret;

	if (enter_connected(q) || READ_ONCE(q->queue.broken) || vine_queue_hung(&q->queue))
		return true;
	ret = vine_ring_arm(&q->queue.rx);
	q->armed = !ret;
	return ret;
}

/*
 * The library's thread is told of a message, and tells who waits. That is one sleeper more
 * than is needed, so one of those who wait hears the bell itself, if it likes to (@hear).
 */
static int sleep_once(struct host_queue *q, unsigned int seen, const __le64 *bell, u32 rung,
		      uint64_t deadline, bool hear)
{
	struct host_endpoint *ep = q->o.ep;
	int err;

	if (!hear || atomic_flag_test_and_set(&ep->heard))
		return host_sleep(&q->news, seen, deadline);
	err = host_sleep_or_bell(&q->news, seen, bell, rung, deadline);
	atomic_flag_clear(&ep->heard);
	if (!err)
		host_take_marks(ep, VINE_MAX_VECTORS);
	return err;
}

static int sleep_for_cell(struct host_queue *q, uint64_t deadline)
{
	unsigned int seen, bells;
	const __le64 *bell;
	int err = 0;
	u32 rung;

	pthread_mutex_lock(&q->rx);
	q->waiting++;
	for (bells = 0;; bells++) {
		seen = atomic_load(&q->news);
		if (host_entered(q->o.ep, q->o.session)) {
			err = 0;
			break;
		}
		/* the word stays mapped, whatever comes */
		bell = host_bell(q->o.ep);
		rung = (u32)vine_ld64_acquire(bell);
		if (must_look(q)) {
			err = 0;
			break;
		}
		if (err)
			break;
		pthread_mutex_unlock(&q->rx);
		err = sleep_once(q, seen, bell, rung, deadline, bells < BELLS);
		if (!err && host_now() >= deadline)	/* bells may ring all the time */
			err = -ETIMEDOUT;
		pthread_mutex_lock(&q->rx);
	}
	q->waiting--;
	pthread_mutex_unlock(&q->rx);
	return err;
}

/* Who does not wait polls. */
static int stay_exact(struct host_queue *q)
{
	atomic_store_explicit(&q->lazy, false, memory_order_relaxed);
	return -EAGAIN;
}

/*
 * Waits for a cell, or for the end. 0: look again; -ETIMEDOUT, -EINTR; -EAGAIN: the
 * descriptor says not to wait, which is only asked when that may not be the last system
 * call. Spins for about as long as a sleep costs, if waits were that short lately.
 * @in_vain: this call's last so many waits brought nothing, as a producer that lies can make
 * them: then it does not spin, and sleeps somewhat in any case, so that a signal ends it.
 */
static int await(struct host_queue *q, const struct look *look, uint64_t deadline,
		 unsigned int in_vain)
{
	uint64_t begin = host_now(), until = min_t(uint64_t, begin + SPIN_NS, deadline);
	bool lazy = atomic_load_explicit(&q->lazy, memory_order_relaxed) && !in_vain;
	atomic_uint never = 0;
	int err;

	if (begin >= deadline)
		return -ETIMEDOUT;
	if (!lazy && host_nonblocking(q->poll.user))
		return stay_exact(q);
	if (!in_vain && worth_spinning(q) && spin(q, look, until)) {
		atomic_store_explicit(&q->typical_ns, host_now() - begin, memory_order_relaxed);
		atomic_store_explicit(&q->slept, 0, memory_order_relaxed);
		atomic_store_explicit(&q->lazy, true, memory_order_relaxed);
		return 0;
	}
	if (lazy && host_nonblocking(q->poll.user))
		return stay_exact(q);
	if (in_vain > 1 && host_sleep(&never, 0, until) == -EINTR)
		return -EINTR;
	if (atomic_fetch_add_explicit(&q->slept, 1, memory_order_relaxed) >= SLEEPS)
		atomic_store_explicit(&q->lazy, false, memory_order_relaxed);
	err = sleep_for_cell(q, deadline);
	note_wait(q, host_now() - begin);
	return err;
}

/* Pulls, and waits for the least that is wanted. 0 or what ended it. */
static int pull_min(struct host_queue *q, const struct vine_transfer *t, u32 *pulled)
{
	struct vine_msg *to = (struct vine_msg *)(uintptr_t)t->pull;
	u32 min = t->deadline ? t->pull_min : 0;
	struct look look = { 0 };
	unsigned int in_vain = 0;
	int err, end = 0;
	u32 before;

	for (;;) {
		before = *pulled;
		err = pull(q, to, t->pull_count, min, pulled, &look);
		if (err == -EAGAIN && end)
			return end;
		if (err != -EAGAIN || *pulled >= min)
			return err;
		if (*pulled != before)
			in_vain = 0;
		end = await(q, &look, t->deadline, in_vain++);
		if (end)	/* one more look, which leaves the descriptor as it should be */
			min = 0;
	}
}

int host_do_transfer(struct host_queue *q, struct vine_transfer *t)
{
	u32 pushed = 0, pulled = 0;
	int err = 0;

	if (t->flags)
		return -EOPNOTSUPP;
	if (t->reserved || t->pull_min > t->pull_count)
		return -EINVAL;
	if (!t->push_count && !t->pull_count)
		return host_entered(q->o.ep, q->o.session);
	if (t->push_count)
		err = push(q, (const struct vine_msg *)(uintptr_t)t->push, t->push_count,
			   &pushed);
	/* what keeps us from pushing need not keep us from pulling; a bad call does */
	if (t->pull_count && (!err || err == -EAGAIN || err == -EPIPE || err == -EIO))
		err = pull_min(q, t, &pulled);
	t->push_count = pushed;
	t->pull_count = pulled;
	return pushed || pulled ? 0 : err;
}
