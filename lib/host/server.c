// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * server.c - a client of an ivshmem server: memory, eventfds and IDs come from there
 *
 * The protocol is that of QEMU (docs/specs/ivshmem-spec.txt there): 64-bit little-endian
 * values from the server only, of which some come with a descriptor. First a version, our
 * ID, and -1 with the memory; then for each peer its ID once per vector, each with an
 * eventfd; an ID without one: that peer has left. Our own come the same way.
 *
 * When the server goes away, those who are known can still be rung.
 */
#include "host/endpoint.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MOST_IDS	65536
#define PATIENCE_MS	5000	/* for the server's first words */

struct neighbour {
	struct neighbour *next;
	u32 id, vectors;
	int eventfd[64];
};

struct host_server {
	int socket, stop[2];
	u32 id, vectors;		/* ours: that have come so far */
	int eventfd[64];
	struct host_endpoint *ep;
	pthread_t thread;
	bool running;
	pthread_mutex_t lock;
	struct neighbour *neighbours;
};

/*
 * One value, and the descriptor that came with it, or -1. 0; -EAGAIN: none in time; -EPROTO,
 * or what recvmsg() gave; -ECONNRESET: the server has gone.
 */
static int receive(int socket, int timeout, int64_t *value, int *fd)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	uint8_t bytes[8];
	size_t have = 0;
	struct pollfd p = { .fd = socket, .events = POLLIN };

	*fd = -1;
	while (have < sizeof(bytes)) {
		struct iovec iov = { bytes + have, sizeof(bytes) - have };
		struct msghdr msg = {
			.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			.msg_controllen = sizeof(control),
		};
		struct cmsghdr *c;
		ssize_t n;

		n = poll(&p, 1, timeout);
		if (n < 0 && errno == EINTR)
			continue;
		if (!n)
			goto lost;
		n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			goto lost;
		c = CMSG_FIRSTHDR(&msg);
		if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
		    c->cmsg_len == CMSG_LEN(sizeof(int)) && *fd < 0)
			memcpy(fd, CMSG_DATA(c), sizeof(int));
		have += n;
	}
	memcpy(value, bytes, sizeof(*value));
	return 0;
lost:
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	return have ? -EPROTO : p.revents ? -ECONNRESET : -ETIMEDOUT;
}

/* ---- neighbours ---- */

static struct neighbour *find(struct host_server *s, u32 id)
{
	struct neighbour *n = s->neighbours;

	while (n && n->id != id)
		n = n->next;
	return n;
}

static void forget(struct host_server *s, u32 id)
{
	struct neighbour **at = &s->neighbours, *n;
	u32 v;

	while (*at && (*at)->id != id)
		at = &(*at)->next;
	n = *at;
	if (!n)
		return;
	*at = n->next;
	for (v = 0; v < n->vectors; v++)
		close(n->eventfd[v]);
	free(n);
}

static void learn(struct host_server *s, u32 id, int fd)
{
	struct neighbour *n = find(s, id);

	if (!n) {
		n = calloc(1, sizeof(*n));
		if (n) {
			n->id = id;
			n->next = s->neighbours;
			s->neighbours = n;
		}
	}
	if (n && n->vectors < ARRAY_SIZE(n->eventfd))
		n->eventfd[n->vectors++] = fd;
	else
		close(fd);
}

/* What the server says of a peer, ourselves too. 0 or -EPROTO. */
static int hear(struct host_server *s, int64_t value, int fd)
{
	if (value < 0 || value >= MOST_IDS) {
		if (fd >= 0)
			close(fd);
		return -EPROTO;
	}
	if ((u32)value == s->id) {
		if (fd >= 0 && s->vectors < VINE_MAX_VECTORS)
			s->eventfd[s->vectors++] = fd;
		else if (fd >= 0)
			close(fd);
		return 0;
	}
	pthread_mutex_lock(&s->lock);
	if (fd >= 0)
		learn(s, (u32)value, fd);
	else
		forget(s, (u32)value);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

void host_server_ring(struct host_server *s, u32 ivposition, u32 vector)
{
	static const uint64_t one = 1;
	struct neighbour *n;

	pthread_mutex_lock(&s->lock);
	n = find(s, ivposition);
	/* who does not take it has it still: the counter is full */
	if (n && vector < n->vectors && write(n->eventfd[vector], &one, sizeof(one)) < 0)
		(void)n;
	pthread_mutex_unlock(&s->lock);
}

/* ---- the thread ---- */

static void *server_thread(void *arg)
{
	struct pollfd p[2 + 64] = { { 0 } };
	struct host_server *s = arg;
	uint64_t count;
	int64_t value;
	u32 v;
	int fd;

	pthread_setname_np(pthread_self(), "vine-server");
	p[0] = (struct pollfd){ .fd = s->stop[0], .events = POLLIN };
	p[1] = (struct pollfd){ .fd = s->socket, .events = POLLIN };
	for (v = 0; v < s->vectors; v++)
		p[2 + v] = (struct pollfd){ .fd = s->eventfd[v], .events = POLLIN };
	for (;;) {
		if (poll(p, 2 + s->vectors, -1) < 0)
			continue;
		if (p[0].revents)
			return NULL;
		if (p[1].revents && (receive(s->socket, PATIENCE_MS, &value, &fd) ||
				     hear(s, value, fd)))
			p[1].fd = -1;
		for (v = 0; v < s->vectors; v++)
			if (p[2 + v].revents &&
			    read(s->eventfd[v], &count, sizeof(count)) == sizeof(count))
				host_drain(s->ep, v);
	}
}

int host_server_start(struct host_server *s, struct host_endpoint *ep)
{
	int err;

	s->ep = ep;
	err = pthread_create(&s->thread, NULL, server_thread, s);
	s->running = !err;
	return -err;
}

/* ---- opening and closing ---- */

static int dial(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd, err;

	if (strlen(path) >= sizeof(a.sun_path))
		return host_fail(-EINVAL, "%.60s... is longer than a socket's path may be", path);
	strcpy(a.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (!connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return fd;
	err = -errno;
	close(fd);
	return host_fail(err, "no server answers at %s: %s", path, strerror(-err));
}

/* The memory, our ID, and all that belongs to those who are there: ours come last. */
static int greet(struct host_server *s, const char *path, int *memory)
{
	int64_t version, id, value = 0;
	int fd, none, err;

	*memory = -1;
	err = receive(s->socket, PATIENCE_MS, &version, &none);
	if (!err && (version || none >= 0))
		err = -EPROTO;
	if (!err)
		err = receive(s->socket, PATIENCE_MS, &id, &none);
	if (!err && (id < 0 || id >= MOST_IDS || none >= 0))
		err = -EPROTO;
	if (!err)
		err = receive(s->socket, PATIENCE_MS, &value, memory);
	if (!err && (value != -1 || *memory < 0))
		err = -EPROTO;
	if (err)
		goto out;
	s->id = (u32)id;
	/*
	 * It does not say how many vectors there are. Ours are the last: when there is one
	 * and no more comes for a while, that was all.
	 */
	for (;;) {
		err = receive(s->socket, s->vectors ? 50 : PATIENCE_MS, &value, &fd);
		if ((err == -ETIMEDOUT || err == -ECONNRESET) && s->vectors) {
			err = 0;
			break;
		}
		if (!err)
			err = hear(s, value, fd);
		if (err)
			break;
	}
out:
	if (err == -ECONNRESET)
		return host_fail(-EPROTO, "the server at %s hangs up", path);
	if (err)
		return host_fail(err == -ETIMEDOUT ? err : -EPROTO,
				 err == -ETIMEDOUT ? "the server at %s is silent" :
				 "the server at %s refuses, or does not speak ivshmem's protocol",
				 path);
	return 0;
}

int host_server_open(const char *path, struct host_server **server, int *memory,
		     u32 *ivposition, u32 *vectors)
{
	struct host_server *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	*memory = -1;
	s->socket = dial(path);
	s->stop[0] = s->stop[1] = -1;
	err = s->socket < 0 ? s->socket : 0;
	if (!err && pipe2(s->stop, O_CLOEXEC))
		err = -errno;
	if (!err)
		err = greet(s, path, memory);
	if (err) {
		if (*memory >= 0)
			close(*memory);
		host_server_close(s);
		return err;
	}
	*server = s;
	*ivposition = s->id;
	*vectors = s->vectors;
	return 0;
}

static void close_all(struct host_server *s)
{
	u32 v;

	if (s->socket >= 0)
		close(s->socket);
	if (s->stop[0] >= 0) {
		close(s->stop[0]);
		close(s->stop[1]);
	}
	for (v = 0; v < s->vectors; v++)
		close(s->eventfd[v]);
	while (s->neighbours)
		forget(s, s->neighbours->id);
}

void host_server_close(struct host_server *s)
{
	if (s->running) {
		close(s->stop[1]);	/* the thread hears the end */
		pthread_join(s->thread, NULL);
		close(s->stop[0]);
		s->stop[0] = s->stop[1] = -1;
	}
	close_all(s);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void host_server_forked(struct host_server *s)
{
	close_all(s);
}
