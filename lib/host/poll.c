// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * poll.c - descriptors that poll as the driver's do
 *
 *   IN       the library has sent a byte
 *   not OUT  the library has filled the user's end, which has a small buffer
 *   HUP      the library has shut its end down
 *   ERR      the library has closed its end with unread data in it
 *
 * All of it edges too: what comes back raises a new one.
 */
#include "host/endpoint.h"

#include <sys/socket.h>
#include <unistd.h>

#define FILL	2048	/* bytes: of the smallest buffer, so much that it is not writable */

int host_poll_open(struct host_poll *p, bool filled, bool nonblock)
{
	int fds[2], least = 1;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (nonblock ? SOCK_NONBLOCK : 0), 0,
		       fds))
		return -errno;
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
	*p = (struct host_poll){ .user = fds[0], .lib = fds[1] };
	host_poll_out(p, !filled);
	return 0;
}

void host_poll_in(struct host_poll *p, bool on)
{
	char byte = 0;

	if (p->byte == on || p->hung || p->user < 0 || p->lib < 0)
		return;
	if (on)
		send(p->lib, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		recv(p->user, &byte, 1, MSG_DONTWAIT);
	p->byte = on;
}

void host_poll_out(struct host_poll *p, bool on)
{
	char bytes[FILL] = { 0 };

	if (p->filled == !on || p->hung || p->user < 0 || p->lib < 0)
		return;
	if (!on)
		send(p->user, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		while (recv(p->lib, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
			;
	p->filled = !on;
}

void host_poll_hang(struct host_poll *p)
{
	if (p->hung || p->lib < 0)
		return;
	host_poll_out(p, true);
	shutdown(p->lib, SHUT_RDWR);
	p->hung = true;
}

void host_poll_fail(struct host_poll *p)
{
	char byte = 0;

	if (p->lib < 0)
		return;
	if (!p->hung && p->user >= 0)
		send(p->user, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(p->lib);
	p->lib = -1;
}

void host_poll_close(struct host_poll *p)
{
	if (p->lib >= 0)
		close(p->lib);
	p->lib = -1;
}
