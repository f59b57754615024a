// SPDX-License-Identifier: GPL-2.0-only
/*
 * listener.c - a service: VINE_LISTEN, VINE_ACCEPT
 */
#include <linux/module.h>
#include <linux/slab.h>

#include "driver.h"

static void vine_listener_set(struct vine_listener_file *lf, struct vine_listener_file *to)
{
	struct vine_dev *vdev = lf->vdev;
	unsigned long flags;

	spin_lock_irqsave(&vdev->ready, flags);
	if (to || vdev->listeners[lf->listener.index] == lf)
		vdev->listeners[lf->listener.index] = to;
	spin_unlock_irqrestore(&vdev->ready, flags);
}

static void vine_listener_free(struct vine_listener_file *lf)
{
	struct vine_dev *vdev = lf->vdev;
	int srcu;

	if (lf->session && vine_control_enter_release(vdev, lf->session, &srcu)) {
		vine_listener_set(lf, NULL);
		vine_service_withdraw(vdev->core, &lf->listener);
		vine_control_exit(vdev, srcu);
	} else {
		vine_listener_set(lf, NULL);
	}
	vine_maker_drop(&lf->maker);
	put_device(&vdev->dev);
	kfree(lf);
}

static int vine_listener_release(struct inode *inode, struct file *file)
{
	vine_listener_free(file->private_data);
	return 0;
}

static __poll_t vine_listener_poll(struct file *file, poll_table *wait)
{
	struct vine_listener_file *lf = file->private_data;
	struct vine_dev *vdev = lf->vdev;
	bool waiting;
	int err, srcu;

	poll_wait(file, &lf->wait, wait);
	mutex_lock(&vdev->control);
	err = vine_enter(vdev, lf->session, &srcu);
	if (err) {
		mutex_unlock(&vdev->control);
		return EPOLLERR | EPOLLHUP;
	}
	waiting = vine_service_waiting(vdev->core, &lf->listener);
	vine_control_exit(vdev, srcu);
	return waiting ? EPOLLIN | EPOLLRDNORM : 0;
}

static bool vine_listener_news(struct vine_listener_file *lf, unsigned int seen)
{
	return READ_ONCE(lf->news) != seen || READ_ONCE(lf->vdev->dead) ||
		READ_ONCE(lf->vdev->session) != lf->session;
}

/* One look for a connection. 0, -EAGAIN, or an error. */
static int vine_try_accept(struct vine_listener_file *lf, struct vine_queue_file *qf)
{
	struct vine_dev *vdev = lf->vdev;
	int err, srcu;

	err = vine_control_enter(vdev, lf->session, &srcu);
	if (err)
		return err;
	err = vine_queue_accept(vdev->core, &lf->listener, &qf->queue);
	if (!err)
		vine_queue_publish(qf);
	vine_control_exit(vdev, srcu);
	return err;
}

static int vine_do_accept(struct file *file, void *arg, struct vine_new *new)
{
	struct vine_listener_file *lf = file->private_data;
	struct vine_accept *a = arg;
	bool wait = a->deadline && !(file->f_flags & O_NONBLOCK);
	struct vine_queue_file *qf;
	unsigned int seen;
	int err;

	if (a->flags & ~VINE_NONBLOCK)
		return -EOPNOTSUPP;
	qf = vine_queue_new(lf->vdev);
	if (!qf)
		return -ENOMEM;
	/* the descriptor first: a connection that cannot get one stays waiting */
	err = vine_new_file(new, lf->vdev, "[vine-queue]", &vine_queue_fops, qf,
			    a->flags & VINE_NONBLOCK ? O_NONBLOCK : 0);
	if (err) {
		vine_queue_free(qf);
		return err;
	}
	for (;;) {
		seen = READ_ONCE(lf->news);	/* before the look */
		err = vine_try_accept(lf, qf);
		if (err != -EAGAIN || !wait)
			break;
		err = vine_wait_until(lf->wait, vine_listener_news(lf, seen), a->deadline);
		if (err)
			break;
	}
	if (err)
		return err;
	a->fd = new->fd;
	a->depth = qf->queue.tx.depth;
	a->peer = qf->queue.slot;
	a->incarnation = qf->queue.inc;
	return 0;
}

static const struct vine_call vine_listener_calls[] = {
	VINE_CALL(VINE_ACCEPT, vine_accept, incarnation, vine_do_accept),
};

static long vine_listener_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return vine_call(file, cmd, arg, vine_listener_calls,
			 ARRAY_SIZE(vine_listener_calls));
}

static const struct file_operations vine_listener_fops = {
	.owner = THIS_MODULE,
	.release = vine_listener_release,
	.poll = vine_listener_poll,
	.unlocked_ioctl = vine_listener_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

int vine_do_listen(struct file *file, void *arg, struct vine_new *new)
{
	struct vine_dev *vdev = file->private_data;
	struct vine_listen *l = arg;
	struct vine_listener_file *lf;
	int err, srcu;

	if (l->flags & ~VINE_NONBLOCK)
		return -EOPNOTSUPP;
	if (l->reserved || vine_check_name(l->name))
		return -EINVAL;
	lf = kzalloc(sizeof(*lf), GFP_KERNEL_ACCOUNT);
	if (!lf)
		return -ENOMEM;
	lf->vdev = vdev;
	vine_maker_set(&lf->maker);
	get_device(&vdev->dev);
	init_waitqueue_head(&lf->wait);
	err = vine_new_file(new, vdev, "[vine-listener]", &vine_listener_fops, lf,
			    l->flags & VINE_NONBLOCK ? O_NONBLOCK : 0);
	if (err) {
		vine_listener_free(lf);
		return err;
	}
	err = vine_control_enter(vdev, VINE_SESSION_ANY, &srcu);
	if (err)
		return err;
	err = vine_service_offer(vdev->core, &lf->listener, l->name, l->type);
	if (!err) {
		lf->session = vdev->session;
		vine_listener_set(lf, lf);
	}
	vine_control_exit(vdev, srcu);
	l->fd = new->fd;
	return err;
}
