// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * poll.c - descriptors that poll as the driver's do
 *
 *   IN       the library has sent a byte
 *   not OUT  the library has filled the user's end, which has a small buffer
 *   HUP      the library has shut its end down
 *   ERR      the library has closed its end with unread data in it, also after HUP
 *
 * All of it edges too: what comes back raises a new one.
 *
 * A forked child must not keep the library's ends open, or closing them shows nothing: so all
 * of them are known, also those of queues that are only just being accepted.
 */
#include "host/endpoint.h"

#include <sys/socket.h>
#include <unistd.h>

#define FILL	2048	/* bytes: of the smallest buffer, so much that it is not writable */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct host_poll *all;

int host_poll_open(struct host_poll *p, bool filled, bool nonblock)
{
	int fds[2], least = 1, err;

	pthread_mutex_lock(&lock);
	err = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (nonblock ? SOCK_NONBLOCK : 0), 0,
			 fds) ? -errno : 0;
	if (err) {
		*p = (struct host_poll){ .user = -1, .lib = -1 };
	} else {
		*p = (struct host_poll){ .user = fds[0], .lib = fds[1], .next = all };
		all = p;
	}
	pthread_mutex_unlock(&lock);
	if (err)
		return err;
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
	host_poll_out(p, !filled);
	return 0;
}

bool host_poll_in(struct host_poll *p, bool on)
{
	char byte = 0;

	if (p->byte == on || p->hung || p->user < 0 || p->lib < 0)
		return true;
	if (on && send(p->lib, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1)
		return false;
	if (!on)
		recv(p->user, &byte, 1, MSG_DONTWAIT);
	p->byte = on;
	return true;
}

void host_poll_out(struct host_poll *p, bool on)
{
	char bytes[FILL] = { 0 };

	if (p->filled == !on || p->hung || p->user < 0 || p->lib < 0)
		return;
	/* if it cannot be filled now, then by the next push that finds no room */
	if (!on && send(p->user, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return;
	if (on)
		while (recv(p->lib, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
			;
	p->filled = !on;
}

/* What makes an error of it when the library closes its end. */
static void leave_unread(struct host_poll *p)
{
	char byte = 0;

	if (!p->hung && p->user >= 0)
		send(p->user, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void host_poll_hang(struct host_poll *p)
{
	if (p->hung || p->lib < 0)
		return;
	host_poll_out(p, true);
	leave_unread(p);	/* afterwards there is no way any more */
	shutdown(p->lib, SHUT_RDWR);
	p->hung = true;
}

/* With the lock: a fork in between would leave it to the child, or close another's. */
static void close_lib(struct host_poll *p)
{
	if (p->lib >= 0)
		close(p->lib);
	p->lib = -1;
}

void host_poll_fail(struct host_poll *p)
{
	if (p->lib < 0)
		return;
	leave_unread(p);
	pthread_mutex_lock(&lock);
	close_lib(p);
	pthread_mutex_unlock(&lock);
}

void host_poll_close(struct host_poll *p)
{
	struct host_poll **at;

	pthread_mutex_lock(&lock);
	close_lib(p);
	for (at = &all; *at && *at != p; at = &(*at)->next)
		;
	if (*at)
		*at = p->next;
	pthread_mutex_unlock(&lock);
}

void host_polls_lock(void)
{
	pthread_mutex_lock(&lock);
}

void host_polls_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

void host_polls_forked(void)
{
	for (; all; all = all->next)
		close_lib(all);
	pthread_mutex_unlock(&lock);
}
