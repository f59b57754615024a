// SPDX-License-Identifier: GPL-2.0-only
/*
 * queue.c - a queue's descriptor: VINE_CONNECT, VINE_ATTACH, poll, release
 */
#include <linux/file.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "driver.h"

/* A queue that is not connected yet. Holds the device. */
struct vine_queue_file *vine_queue_new(struct vine_dev *vdev)
{
	struct vine_queue_file *qf = kzalloc(sizeof(*qf), GFP_KERNEL_ACCOUNT);

	if (!qf)
		return NULL;
	qf->vdev = vdev;
	vine_maker_set(&qf->maker);
	get_device(&vdev->dev);
	mutex_init(&qf->push);
	mutex_init(&qf->pull);
	spin_lock_init(&qf->tx);
	spin_lock_init(&qf->rx);
	init_waitqueue_head(&qf->wait);
	return qf;
}

/* From now on readiness wakes it. Under control, after connect or accept. */
void vine_queue_publish(struct vine_queue_file *qf)
{
	struct vine_dev *vdev = qf->vdev;
	struct vine_queue *q = &qf->queue;
	unsigned long flags;

	qf->session = vdev->session;
	qf->connected = q->side == VINE_SIDE_SERVER;
	spin_lock_irqsave(&vdev->ready, flags);
	vdev->queues[q->side][q->index] = qf;
	spin_unlock_irqrestore(&vdev->ready, flags);
}

static void vine_queue_unpublish(struct vine_queue_file *qf)
{
	struct vine_dev *vdev = qf->vdev;
	struct vine_queue *q = &qf->queue;
	unsigned long flags;

	spin_lock_irqsave(&vdev->ready, flags);
	if (vdev->queues[q->side][q->index] == qf)
		vdev->queues[q->side][q->index] = NULL;
	spin_unlock_irqrestore(&vdev->ready, flags);
}

void vine_queue_free(struct vine_queue_file *qf)
{
	struct vine_dev *vdev = qf->vdev;
	int srcu;

	vine_queue_unpublish(qf);
	/* of an earlier session, or of a dead device: all was handed back then */
	if (qf->session && vine_control_enter_release(vdev, qf->session, &srcu)) {
		vine_queue_close(&qf->queue);
		vine_control_exit(vdev, srcu);
	}
	vine_maker_drop(&qf->maker);
	put_device(&vdev->dev);
	kfree(qf);
}

static int vine_queue_release(struct inode *inode, struct file *file)
{
	vine_queue_free(file->private_data);
	return 0;
}

/* ---- state ---- */

int vine_queue_connected(struct vine_queue_file *qf)
{
	int err;

	if (READ_ONCE(qf->connected))
		return 0;
	err = vine_connect_result(&qf->queue);
	if (!err)
		WRITE_ONCE(qf->connected, true);
	return err;
}

/* The other side did the impossible. Whoever waits for it is told. */
void vine_queue_break(struct vine_queue_file *qf)
{
	if (READ_ONCE(qf->queue.broken))
		return;
	WRITE_ONCE(qf->queue.broken, true);
	wake_up_all(&qf->wait);
}

static int vine_queue_check(struct vine_queue_file *qf, int ret)
{
	if (ret < 0)
		vine_queue_break(qf);
	return ret;
}

/*
 * Is there a message? If not, the other side will tell us of the next one: every
 * look at an empty ring leaves it armed. 1, 0 or -EIO; entered.
 */
int vine_queue_readable(struct vine_queue_file *qf)
{
	int ret;

	spin_lock(&qf->rx);
	ret = vine_ring_arm(&qf->queue.rx);
	spin_unlock(&qf->rx);
	return vine_queue_check(qf, ret);
}

/* Is there room? If not, we will be told. > 0, 0 or -EIO; entered. */
int vine_queue_writable(struct vine_queue_file *qf)
{
	int ret;

	spin_lock(&qf->tx);
	ret = vine_ring_space(&qf->queue.tx, 1);
	if (!ret)
		ret = vine_ring_arm_space(&qf->queue.tx);
	spin_unlock(&qf->tx);
	return vine_queue_check(qf, ret);
}

static __poll_t vine_queue_poll(struct file *file, poll_table *wait)
{
	struct vine_queue_file *qf = file->private_data;
	struct vine_dev *vdev = qf->vdev;
	__poll_t mask = 0;
	int err, srcu;

	poll_wait(file, &qf->wait, wait);
	if (vine_enter(vdev, qf->session, &srcu))
		return EPOLLERR | EPOLLHUP;
	err = vine_queue_connected(qf);
	if (err == -ECONNREFUSED) {
		mask = EPOLLHUP | EPOLLIN | EPOLLRDNORM;
	} else if (!err) {
		/* the hang-up first: what was sent before it must not be missed */
		if (vine_queue_hung(&qf->queue))
			mask |= EPOLLHUP | EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
		if (vine_queue_readable(qf) > 0)
			mask |= EPOLLIN | EPOLLRDNORM;
		if (vine_queue_writable(qf) > 0)
			mask |= EPOLLOUT | EPOLLWRNORM;
	}
	if (READ_ONCE(qf->queue.broken))
		mask |= EPOLLERR;
	vine_exit(vdev, srcu);
	return mask;
}

/* ---- VINE_CONNECT ---- */

/* One try. -ENOENT: there is no such service (now). */
static int vine_try_connect(struct vine_queue_file *qf, const struct vine_connect *c)
{
	struct vine_dev *vdev = qf->vdev;
	struct vine_service_seen service;
	int err, srcu;

	err = vine_control_enter(vdev, VINE_SESSION_ANY, &srcu);
	if (err)
		return err;
	if (!vine_service_find(vdev->core, c->id, c->name, &service))
		err = -ENOENT;
	else
		err = vine_queue_connect(vdev->core, &qf->queue, &service, c->depth);
	if (!err)
		vine_queue_publish(qf);
	vine_control_exit(vdev, srcu);
	return err;
}

/* The queue's state as the sleeper in CONNECT sees it. */
static int vine_connect_state(struct vine_queue_file *qf)
{
	int err, srcu;

	err = vine_enter(qf->vdev, qf->session, &srcu);
	if (err)
		return err;
	err = vine_queue_connected(qf);
	vine_exit(qf->vdev, srcu);
	return err;
}

/* The deadline has come, or a signal: unless the server was faster. */
static int vine_connect_give_up(struct vine_queue_file *qf, int err)
{
	int srcu;

	if (!vine_enter(qf->vdev, qf->session, &srcu)) {
		vine_connect_cancel(&qf->queue);
		if (!vine_queue_connected(qf))
			err = 0;
		vine_exit(qf->vdev, srcu);
	}
	return err;
}

static int vine_connect_wait(struct vine_queue_file *qf, u64 deadline)
{
	int state = -EINPROGRESS, err;

	err = vine_wait_until(qf->wait, (state = vine_connect_state(qf)) != -EINPROGRESS,
			      deadline);
	if (state != -EINPROGRESS)
		return state;
	if (err == -ETIMEDOUT && !deadline)
		err = -EAGAIN;
	return vine_connect_give_up(qf, err);
}

static bool vine_tables_changed(struct vine_dev *vdev, unsigned int seq)
{
	return READ_ONCE(vdev->tables_seq) != seq || READ_ONCE(vdev->dead);
}

int vine_do_connect(struct file *file, void *arg, struct vine_new *new)
{
	struct vine_dev *vdev = file->private_data;
	struct vine_connect *c = arg;
	bool nonblock = c->flags & VINE_NONBLOCK;
	struct vine_queue_file *qf;
	unsigned int seq;
	int err;

	if (c->flags & ~(VINE_NONBLOCK | VINE_WAIT_SERVICE))
		return -EOPNOTSUPP;
	if (c->id ? !!memchr_inv(c->name, 0, sizeof(c->name)) : vine_check_name(c->name))
		return -EINVAL;
	if (c->depth < VINE_MIN_DEPTH || c->depth > VINE_MAX_DEPTH || !is_power_of_2(c->depth))
		return -EINVAL;
	qf = vine_queue_new(vdev);
	if (!qf)
		return -ENOMEM;
	err = vine_new_file(new, vdev, "[vine-queue]", &vine_queue_fops, qf,
			    nonblock ? O_NONBLOCK : 0);
	if (err) {
		vine_queue_free(qf);
		return err;
	}
	for (;;) {
		seq = READ_ONCE(vdev->tables_seq);
		err = vine_try_connect(qf, c);
		if (err != -ENOENT || !(c->flags & VINE_WAIT_SERVICE) || nonblock)
			break;
		err = vine_wait_until(vdev->tables, vine_tables_changed(vdev, seq),
				      c->deadline);
		if (err)
			return err == -ETIMEDOUT && !c->deadline ? -EAGAIN : err;
	}
	if (!err && !nonblock)
		err = vine_connect_wait(qf, c->deadline);
	if (err)
		return err;
	c->fd = new->fd;
	c->peer = qf->queue.slot;
	c->incarnation = qf->queue.inc;
	return 0;
}

/* ---- VINE_ATTACH ---- */

int vine_do_attach(struct file *file, void *arg, struct vine_new *new)
{
	struct vine_queue_file *qf = file->private_data;
	struct vine_dev *vdev = qf->vdev;
	struct vine_attach *a = arg;
	struct vine_region_file *rf;
	struct file *region;
	int err, srcu;

	if (a->flags)
		return -EOPNOTSUPP;
	if (a->reserved)
		return -EINVAL;
	region = fget(a->region_fd);
	if (!region)
		return -EBADF;
	err = -EINVAL;
	if (region->f_op != &vine_region_fops)
		goto put;
	rf = region->private_data;
	if (rf->vdev != vdev || !rf->own || qf->queue.side != VINE_SIDE_CLIENT)
		goto put;
	err = vine_control_enter(vdev, qf->session, &srcu);
	if (err)
		goto put;
	err = vine_queue_connected(qf);
	if (rf->session != qf->session)
		err = -ENOTCONN;
	else if (err == -ECONNREFUSED || (!err && vine_queue_hung(&qf->queue)))
		err = -EPIPE;
	else	/* before it is accepted, too: the server finds it then */
		err = vine_queue_attach(&qf->queue, rf->id);
	a->id = rf->id;
	vine_control_exit(vdev, srcu);
put:
	fput(region);
	return err;
}

static const struct vine_call vine_queue_calls[] = {
	VINE_CALL(VINE_TRANSFER, vine_transfer, deadline, vine_do_transfer),
	VINE_CALL(VINE_ATTACH, vine_attach, id, vine_do_attach),
	VINE_CALL(VINE_IMPORT, vine_import, reserved, vine_do_import),
};

static long vine_queue_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return vine_call(file, cmd, arg, vine_queue_calls, ARRAY_SIZE(vine_queue_calls));
}

const struct file_operations vine_queue_fops = {
	.owner = THIS_MODULE,
	.release = vine_queue_release,
	.poll = vine_queue_poll,
	.unlocked_ioctl = vine_queue_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
