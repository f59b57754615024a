// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * listener.c - a service: listen, accept
 */
#include "host/endpoint.h"

#include <unistd.h>

static void listener_renumber(struct host_object *o, int fd)
{
	struct host_listener *lf = (struct host_listener *)o;

	pthread_mutex_lock(&lf->lock);
	lf->poll.user = fd;
	pthread_mutex_unlock(&lf->lock);
}

static void listener_end(struct host_object *o)
{
	struct host_listener *lf = (struct host_listener *)o;
	struct host_endpoint *ep = o->ep;

	if (o->session) {
		pthread_mutex_lock(&ep->ready);
		if (ep->listeners[lf->listener.index] == lf)
			ep->listeners[lf->listener.index] = NULL;
		pthread_mutex_unlock(&ep->ready);
	}
	if (host_control_end(ep, o->session)) {
		vine_service_withdraw(&ep->core, &lf->listener);
		pthread_mutex_unlock(&ep->control);
	}
	host_poll_close(&lf->poll);
	pthread_mutex_destroy(&lf->lock);
}

const struct host_class host_listener_class = { listener_renumber, listener_end };

/* With lock. */
static void readable(struct host_listener *lf)
{
	struct host_endpoint *ep = lf->o.ep;

	if (host_poll_in(&lf->poll, true))
		return;
	/* then everybody looks again */
	atomic_store(&ep->tables_news, true);
	atomic_store(&ep->tidy, true);
}

void host_listener_news(struct host_listener *lf)
{
	pthread_mutex_lock(&lf->lock);
	if (host_entered(lf->o.ep, lf->o.session))
		host_poll_fail(&lf->poll);
	else
		readable(lf);
	atomic_fetch_add(&lf->news, 1);
	pthread_mutex_unlock(&lf->lock);
	host_wake(&lf->news);
}

/* The descriptor says whether somebody waits. With control. */
static void show_waiting(struct host_listener *lf)
{
	pthread_mutex_lock(&lf->lock);
	host_poll_in(&lf->poll, false);
	/* the look comes after: what is marked meanwhile sends another byte */
	if (vine_service_waiting(&lf->o.ep->core, &lf->listener))
		readable(lf);
	pthread_mutex_unlock(&lf->lock);
}

void host_listener_refresh(struct host_listener *lf)
{
	if (host_entered(lf->o.ep, lf->o.session)) {
		host_listener_news(lf);
		return;
	}
	show_waiting(lf);
	atomic_fetch_add(&lf->news, 1);
	host_wake(&lf->news);
}

/* One look for a connection. 0, -EAGAIN, or an error. */
static int try_accept(struct host_listener *lf, struct host_queue *q)
{
	struct host_endpoint *ep = lf->o.ep;
	int err = host_control(ep, lf->o.session);

	if (err)
		return err;
	err = vine_queue_accept(&ep->core, &lf->listener, &q->queue);
	if (!err)
		host_queue_publish(q);
	show_waiting(lf);
	pthread_mutex_unlock(&ep->control);
	return err;
}

static int accept_wait(struct host_listener *lf, struct host_queue *q, uint64_t deadline)
{
	unsigned int seen;
	int err;

	for (;;) {
		seen = atomic_load(&lf->news);	/* before the look */
		err = try_accept(lf, q);
		if (err != -EAGAIN || !deadline || host_nonblocking(lf->poll.user))
			return err;
		err = host_sleep(&lf->news, seen, deadline);
		if (err)
			return err;
	}
}

int host_do_accept(struct host_listener *lf, struct vine_accept *a)
{
	struct host_queue *q;
	int err, fd;

	if (a->flags & ~VINE_NONBLOCK)
		return -EOPNOTSUPP;
	/* the descriptor first: a connection that cannot get one stays waiting */
	err = host_queue_new(lf->o.ep, false, a->flags & VINE_NONBLOCK, &q);
	if (err)
		return err;
	fd = q->poll.user;
	err = accept_wait(lf, q, a->deadline);
	if (!err) {
		host_queue_refresh(q);
		a->depth = q->queue.tx.depth;
		a->peer = q->queue.slot;
		a->incarnation = q->queue.inc;
		a->fd = fd;
		err = host_install(&q->o, fd);
	}
	if (err)
		host_discard(&q->o, fd);
	return err;
}

int host_do_listen(struct host_endpoint *ep, struct vine_listen *l)
{
	struct host_listener *lf;
	int err, fd;

	if (l->flags & ~VINE_NONBLOCK)
		return -EOPNOTSUPP;
	if (l->reserved || vine_check_name(l->name))
		return -EINVAL;
	lf = (struct host_listener *)host_object_new(ep, HOST_LISTENER);
	if (!lf)
		return -ENOMEM;
	pthread_mutex_init(&lf->lock, NULL);
	err = host_poll_open(&lf->poll, true, l->flags & VINE_NONBLOCK);
	if (err) {
		host_put(&lf->o);
		return err;
	}
	fd = lf->poll.user;
	err = host_control(ep, 0);
	if (!err) {
		err = vine_service_offer(&ep->core, &lf->listener, (const char *)l->name, l->type);
		if (!err) {
			lf->o.session = atomic_load(&ep->session);
			pthread_mutex_lock(&ep->ready);
			ep->listeners[lf->listener.index] = lf;
			pthread_mutex_unlock(&ep->ready);
		}
		pthread_mutex_unlock(&ep->control);
	}
	if (!err)
		err = host_install(&lf->o, fd);
	if (err)
		host_discard(&lf->o, fd);
	l->fd = fd;
	return err;
}
