// SPDX-License-Identifier: GPL-2.0-only
/*
 * transfer.c - VINE_TRANSFER: push, pull, wait
 *
 * Messages pass through a small buffer on the stack, so that neither a ring nor
 * the segment is held while user memory is touched. A pulled message leaves the
 * ring only when it has reached the user.
 */
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "driver.h"

#define VINE_BATCH	8

static_assert(sizeof(struct vine_msg) == 64);

/* vine_enter() for a queue that is connected; ENOTCONN, ECONNREFUSED if it is not. */
static int vine_enter_connected(struct vine_queue_file *qf, int *srcu)
{
	int err = vine_enter(qf->vdev, qf->session, srcu);

	if (err)
		return err;
	err = vine_queue_connected(qf);
	if (err)
		vine_exit(qf->vdev, *srcu);
	return err == -EINPROGRESS ? -ENOTCONN : err;
}

/*
 * Pushes up to VINE_BATCH cells. Returns how many, or an error; the other side
 * knows of them.
 */
static int vine_push_cells(struct vine_queue_file *qf, const struct vine_cell *cells, u32 n)
{
	struct vine_queue *q = &qf->queue;
	int err, srcu, space = 0;
	bool tell = false;
	u32 i = 0;

	err = vine_enter_connected(qf, &srcu);
	if (err)
		return err;
	if (READ_ONCE(q->broken))
		err = -EIO;
	else if (vine_queue_hung(q))
		err = -EPIPE;
	if (err)
		goto out;
	spin_lock(&qf->tx);
	while (i < n) {
		space = vine_ring_space(&q->tx, n - i);
		if (!space)	/* full: be told when it is not */
			space = vine_ring_arm_space(&q->tx);
		if (space <= 0)
			break;
		for (; i < n && space; space--)
			vine_ring_push(&q->tx, &cells[i++]);
	}
	tell = i && vine_ring_pushed(&q->tx);
	spin_unlock(&qf->tx);
	if (space < 0) {
		vine_queue_break(qf);
		err = i ? 0 : -EIO;
	}
	if (tell)
		vine_queue_notify(q);
out:
	vine_exit(qf->vdev, srcu);
	return err ?: (int)i;
}

/* Gets cells from user messages. Returns how many are good before *@err. */
static u32 vine_get_messages(struct vine_cell *cells, const struct vine_msg __user *from,
			     u32 n, int *err)
{
	struct vine_msg msg;
	u32 i;

	for (i = 0; i < n; i++) {
		if (copy_from_user(&msg, from + i, sizeof(msg)))
			*err = -EFAULT;
		else if (msg.reserved)
			*err = -EINVAL;
		else if (msg.len > VINE_MSG_DATA)
			*err = -EMSGSIZE;
		if (*err)
			break;
		/* nothing of this kernel's stack, nor of the user's, travels along */
		memset(msg.data + msg.len, 0, VINE_MSG_DATA - msg.len);
		memcpy(cells[i].word, msg.data, VINE_MSG_DATA);
		cells[i].bytes = msg.len;
	}
	return i;
}

/* Pushes what there is room for. *@done counts; 0 or the error that stopped it. */
static int vine_push(struct vine_queue_file *qf, u64 user, u32 n, u32 *done)
{
	const struct vine_msg __user *from = u64_to_user_ptr(user);
	struct vine_cell cells[VINE_BATCH];
	int err = 0, pushed;
	u32 got;

	if (mutex_lock_interruptible(&qf->push))
		return -ERESTARTSYS;
	while (*done < n && !err) {
		got = vine_get_messages(cells, from + *done,
					min_t(u32, n - *done, VINE_BATCH), &err);
		if (!got)
			break;
		pushed = vine_push_cells(qf, cells, got);
		if (pushed < 0) {
			err = pushed;
			break;
		}
		*done += pushed;
		if (pushed < got) {
			err = -EAGAIN;
			break;
		}
		if (fatal_signal_pending(current))
			break;
		cond_resched();
	}
	mutex_unlock(&qf->push);
	return err;
}

/* Copies up to @n waiting cells. Returns how many, or an error when there is none. */
static int vine_peek_cells(struct vine_queue_file *qf, struct vine_cell *cells, u32 n)
{
	struct vine_queue *q = &qf->queue;
	int err, srcu, ret = 0;
	bool hung;
	u32 i;

	err = vine_enter_connected(qf, &srcu);
	if (err)
		return err;
	/* read first: what was sent before the hang-up is drained before it shows */
	hung = vine_queue_hung(q);
	spin_lock(&qf->rx);
	for (i = 0; i < n; i++) {
		ret = vine_ring_peek(&q->rx, i, &cells[i]);
		if (ret <= 0)
			break;
	}
	spin_unlock(&qf->rx);
	if (ret < 0)
		vine_queue_break(qf);
	if (i)
		err = i;
	else if (READ_ONCE(q->broken))
		err = -EIO;
	else
		err = hung ? -EPIPE : -EAGAIN;
	vine_exit(qf->vdev, srcu);
	return err;
}

/* Lets go of @n cells. */
static void vine_consume_cells(struct vine_queue_file *qf, u32 n)
{
	struct vine_queue *q = &qf->queue;
	bool tell;
	int srcu;

	if (vine_enter(qf->vdev, qf->session, &srcu))
		return;
	spin_lock(&qf->rx);
	tell = vine_ring_consume(&q->rx, n);
	spin_unlock(&qf->rx);
	if (tell)
		vine_queue_notify(q);
	vine_exit(qf->vdev, srcu);
}

/* The end of a call: the other side sees all that we consumed. */
static void vine_publish_consumed(struct vine_queue_file *qf)
{
	struct vine_queue *q = &qf->queue;
	bool tell;
	int srcu;

	if (vine_enter(qf->vdev, qf->session, &srcu))
		return;
	spin_lock(&qf->rx);
	tell = vine_ring_publish(&q->rx);
	spin_unlock(&qf->rx);
	if (tell)
		vine_queue_notify(q);
	vine_exit(qf->vdev, srcu);
}

static int vine_put_messages(struct vine_msg __user *to, const struct vine_cell *cells, u32 n)
{
	struct vine_msg msg;
	u32 i;

	for (i = 0; i < n; i++) {
		msg.len = cells[i].bytes;
		msg.reserved = 0;
		memcpy(msg.data, cells[i].word, VINE_MSG_DATA);
		if (copy_to_user(to + i, &msg, sizeof(msg)))
			break;
	}
	return i;
}

/* Pulls what is there. *@done counts; 0 or the error that stopped it. */
static int vine_pull(struct vine_queue_file *qf, u64 user, u32 n, u32 *done)
{
	struct vine_msg __user *to = u64_to_user_ptr(user);
	struct vine_cell cells[VINE_BATCH];
	u32 before = *done;
	int err = 0, got, put;

	if (mutex_lock_interruptible(&qf->pull))
		return -ERESTARTSYS;
	while (*done < n) {
		got = vine_peek_cells(qf, cells, min_t(u32, n - *done, VINE_BATCH));
		if (got < 0) {
			err = got;
			break;
		}
		put = vine_put_messages(to + *done, cells, got);
		if (put)
			vine_consume_cells(qf, put);
		*done += put;
		if (put < got) {
			err = -EFAULT;
			break;
		}
		if (fatal_signal_pending(current))
			break;
		cond_resched();
	}
	if (*done != before)
		vine_publish_consumed(qf);
	mutex_unlock(&qf->pull);
	return err;
}

/* Is there a reason to look again? Arms the ring if it is empty. */
static bool vine_pull_ready(struct vine_queue_file *qf)
{
	bool ready;
	int srcu;

	if (vine_enter(qf->vdev, qf->session, &srcu))
		return true;
	ready = vine_queue_readable(qf) || READ_ONCE(qf->queue.broken) ||
		vine_queue_hung(&qf->queue);
	vine_exit(qf->vdev, srcu);
	return ready;
}

/* Pulls, and waits for the least that is wanted. 0 or what ended it. */
static int vine_pull_min(struct vine_queue_file *qf, const struct vine_transfer *t,
			 bool wait, u32 *pulled)
{
	bool ready = false;
	u32 before;
	int err;

	for (;;) {
		before = *pulled;
		err = vine_pull(qf, t->pull, t->pull_count, pulled);
		if (err != -EAGAIN)
			return err;
		if (*pulled >= t->pull_min || !wait || signal_pending(current)) {
			err = signal_pending(current) ? -ERESTARTSYS : -EAGAIN;
			/*
			 * Leave it armed, for an edge-triggered poll. Who does not poll
			 * needs no doorbell: the next poll arms before it looks.
			 */
			if (!waitqueue_active(&qf->wait) || (ready && *pulled == before))
				return err;
			ready = vine_pull_ready(qf);
			if (!ready)
				return err;
			continue;
		}
		err = vine_wait_until(qf->wait, vine_pull_ready(qf), t->deadline);
		if (err)
			return err;
		cond_resched();
	}
}

int vine_do_transfer(struct file *file, void *arg, struct vine_new *new)
{
	struct vine_queue_file *qf = file->private_data;
	struct vine_transfer *t = arg;
	bool wait = t->deadline && !(file->f_flags & O_NONBLOCK);
	u32 pushed = 0, pulled = 0;
	int err = 0, srcu;

	if (t->flags)
		return -EOPNOTSUPP;
	if (t->reserved || t->pull_min > t->pull_count)
		return -EINVAL;
	if (!t->push_count && !t->pull_count) {
		err = vine_enter(qf->vdev, qf->session, &srcu);
		if (!err)
			vine_exit(qf->vdev, srcu);
		return err;
	}
	if (t->push_count)
		err = vine_push(qf, t->push, t->push_count, &pushed);
	/* what keeps us from pushing need not keep us from pulling; a bad call does */
	if (t->pull_count && (!err || err == -EAGAIN || err == -EPIPE || err == -EIO))
		err = vine_pull_min(qf, t, wait, &pulled);
	t->push_count = pushed;
	t->pull_count = pulled;
	return pushed || pulled ? 0 : err;
}
