// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * descriptor.c - the descriptors of the back end "device", so that a forked child can close
 *                them
 *
 * A child that kept a queue open would keep it from ending with its parent. Mappings need
 * nothing here: they are not inherited (heap.c).
 */
#include <unistd.h>

#include "talk/device.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct descriptor *all;

void descriptors_lock(void)
{
	pthread_mutex_lock(&lock);
}

void descriptors_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

void descriptor_is(struct descriptor *d, int fd)
{
	d->fd = fd;
	if (fd < 0)
		return;
	d->next = all;
	d->link = &all;
	if (all)
		all->link = &d->next;
	all = d;
}

void descriptor_close(struct descriptor *d)
{
	descriptors_lock();
	if (d->fd >= 0) {
		*d->link = d->next;
		if (d->next)
			d->next->link = d->link;
		vine_close(d->fd);
		d->fd = -1;
	}
	descriptors_unlock();
}

void descriptors_forked(void)
{
	for (; all; all = all->next)
		close(all->fd);
}

/*
 * Before talk.c's own handlers are there: then a fork takes this lock after talk.c's, as
 * everybody else does.
 */
static int error;
static __attribute__((constructor)) void watch_forks(void)
{
	error = pthread_atfork(descriptors_lock, descriptors_unlock, descriptors_unlock);
}

int descriptors_init(void)
{
	return -error;
}
