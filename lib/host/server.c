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
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define MOST_IDS	65536
#define PATIENCE_MS	5000	/* for all of the server's first words */
#define LAST_MS		50	/* after a vector of ours: another one? */

struct neighbour {
	struct neighbour *next;
	u32 id, vectors;
	int eventfd[64];
};

struct host_server {
	int socket, stop[2];
	uint8_t bytes[8];		/* of a value: those that have come */
	size_t have;
	int fd;				/* and what came with them, or -1 */
	u32 id, vectors;		/* ours, and how many: fixed by the greeting */
	bool greeted;
	int eventfd[64];
	struct host_endpoint *ep;
	pthread_t thread;
	bool running;
	pthread_mutex_t lock;		/* once the thread runs: what a fork's child closes */
	struct neighbour *neighbours;
};

/*
 * One value, and the descriptor that came with it, or -1. 0; -EAGAIN: not all of it is there
 * yet; -EPROTO: several descriptors, or no end; -ECONNRESET: the server has gone. Does not wait.
 */
static int receive(struct host_server *s, int64_t *value, int *fd)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { s->bytes + s->have, sizeof(s->bytes) - s->have };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = CMSG_LEN(sizeof(int)),	/* the space would hold two */
	};
	struct cmsghdr *c;
	ssize_t n;
	int got = -1;

	n = recvmsg(s->socket, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (n <= 0)
		return s->have ? -EPROTO : -ECONNRESET;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&got, CMSG_DATA(c), sizeof(int));
	if (msg.msg_flags & MSG_CTRUNC || (got >= 0 && s->fd >= 0)) {
		if (got >= 0)
			close(got);
		return -EPROTO;
	}
	if (got >= 0)
		s->fd = got;
	s->have += n;
	if (s->have < sizeof(s->bytes))
		return -EAGAIN;
	memcpy(value, s->bytes, sizeof(*value));
	*fd = s->fd;
	s->have = 0;
	s->fd = -1;
	return 0;
}

/* The same until @deadline, then -ETIMEDOUT. */
static int await(struct host_server *s, uint64_t deadline, int64_t *value, int *fd)
{
	struct pollfd p = { .fd = s->socket, .events = POLLIN };
	uint64_t now;
	int err;

	while ((now = host_now()) < deadline) {
		err = receive(s, value, fd);
		if (err != -EAGAIN)
			return err;
		poll(&p, 1, (int)((deadline - now) / 1000000 + 1));
	}
	return -ETIMEDOUT;
}

/* One without a descriptor. */
static int await_plain(struct host_server *s, uint64_t deadline, int64_t *value)
{
	int fd, err = await(s, deadline, value, &fd);

	if (err || fd < 0)
		return err;
	close(fd);
	return -EPROTO;
}

/* Whatever else can be written to might kill us (SIGPIPE), or never take it. */
static bool is_eventfd(int fd)
{
	static const char is[] = "anon_inode:[eventfd]";
	char path[40], what[sizeof(is)];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, what, sizeof(what)) == sizeof(is) - 1 &&
		!memcmp(what, is, sizeof(is) - 1);
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

/* What the server says of a peer, ourselves too. 0 or -EPROTO. With the lock. */
static int hear(struct host_server *s, int64_t value, int fd)
{
	if (value < 0 || value >= MOST_IDS || (fd >= 0 && !is_eventfd(fd))) {
		if (fd >= 0)
			close(fd);
		return -EPROTO;
	}
	if ((u32)value != s->id) {
		if (fd >= 0)
			learn(s, (u32)value, fd);
		else
			forget(s, (u32)value);
	} else if (fd >= 0 && !s->greeted && s->vectors < VINE_MAX_VECTORS) {
		s->eventfd[s->vectors++] = fd;
	} else if (fd >= 0) {
		close(fd);	/* our slot has said how many there are */
	}
	return 0;
}

/* Something has come. 0, or an error: it will say no more that makes sense. */
static int listen_on(struct host_server *s)
{
	int64_t value;
	int fd, err;

	pthread_mutex_lock(&s->lock);
	err = receive(s, &value, &fd);
	if (!err)
		err = hear(s, value, fd);
	pthread_mutex_unlock(&s->lock);
	return err == -EAGAIN ? 0 : err;
}

void host_server_ring(struct host_server *s, u32 ivposition, u32 vector)
{
	static const uint64_t one = 1;
	struct pollfd p = { .events = POLLOUT };
	struct neighbour *n;

	pthread_mutex_lock(&s->lock);
	n = find(s, ivposition);
	if (n && vector < n->vectors) {
		p.fd = n->eventfd[vector];
		/* whose counter is full has it still; it may be one that would block then */
		if (poll(&p, 1, 0) > 0 && p.revents & POLLOUT &&
		    write(p.fd, &one, sizeof(one)) < 0)
			(void)n;
	}
	pthread_mutex_unlock(&s->lock);
}

/* ---- the thread ---- */

/* Has it been rung? Others have it too, and may have taken it back or made it block. */
static bool take_ring(int eventfd)
{
	uint64_t count;
	struct iovec iov = { &count, sizeof(count) };

	return preadv2(eventfd, &iov, 1, -1, RWF_NOWAIT) == sizeof(count);
}

static void *server_thread(void *arg)
{
	struct pollfd p[2 + 64] = { { 0 } };
	struct host_server *s = arg;
	u32 v;

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
		if (p[1].revents && listen_on(s))
			p[1].fd = -1;
		for (v = 0; v < s->vectors; v++)
			if (p[2 + v].revents && take_ring(s->eventfd[v]))
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

static int dial(const char *path, uint64_t deadline)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd, err;

	if (strlen(path) >= sizeof(a.sun_path))
		return host_fail(-EINVAL, "%.60s... is longer than a socket's path may be", path);
	strcpy(a.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	while (connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		/* it does not take those who wait already */
		err = errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (err == -ETIMEDOUT && host_now() < deadline) {
			poll(NULL, 0, 10);
			continue;
		}
		close(fd);
		return host_fail(err, "no server answers at %s: %s", path, strerror(-err));
	}
	return fd;
}

/* All that belongs to those who are there: ours come last. */
static int greet_peers(struct host_server *s, uint64_t deadline)
{
	uint64_t until = deadline;
	int64_t value;
	int fd, err;

	/*
	 * It does not say how many vectors there are. Ours are the last: when there is one
	 * and no more comes for a while, that was all.
	 */
	for (;;) {
		err = await(s, until, &value, &fd);
		if (err)
			break;
		err = hear(s, value, fd);
		if (err)
			return err;
		if (s->vectors)
			until = host_now() + LAST_MS * 1000000ULL;
		if (until > deadline)
			until = deadline;
	}
	return s->vectors && (err == -ETIMEDOUT || err == -ECONNRESET) ? 0 : err;
}

/* The memory, our ID, and the peers. */
static int greet(struct host_server *s, const char *path, uint64_t deadline, int *memory)
{
	int64_t version, id, value = 0;
	struct stat st;
	int err;

	err = await_plain(s, deadline, &version);
	if (!err && version)
		err = -EPROTO;
	if (!err)
		err = await_plain(s, deadline, &id);
	if (!err && (id < 0 || id >= MOST_IDS))
		err = -EPROTO;
	if (!err)
		err = await(s, deadline, &value, memory);
	/* it is opened again, which of other things than files waits, or does something */
	if (!err && (value != -1 || *memory < 0 || fstat(*memory, &st) || !S_ISREG(st.st_mode)))
		err = -EPROTO;
	if (err)
		goto out;
	s->id = (u32)id;
	err = greet_peers(s, deadline);
	s->greeted = true;
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
	uint64_t deadline = host_now() + PATIENCE_MS * 1000000ULL;
	struct host_server *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	*memory = -1;
	s->fd = -1;
	s->stop[0] = s->stop[1] = -1;
	s->socket = dial(path, deadline);
	err = s->socket < 0 ? s->socket : 0;
	if (!err && pipe2(s->stop, O_CLOEXEC))
		err = -errno;
	if (!err)
		err = greet(s, path, deadline, memory);
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
	if (s->fd >= 0)
		close(s->fd);
	if (s->stop[0] >= 0) {
		close(s->stop[0]);
		close(s->stop[1]);
	}
	for (v = 0; v < s->vectors; v++)
		close(s->eventfd[v]);
	while (s->neighbours)
		forget(s, s->neighbours->id);
}

void host_server_stop(struct host_server *s)
{
	if (!s->running)
		return;
	s->running = false;
	/* not closed: a fork's child may be about to */
	while (write(s->stop[1], "", 1) < 0 && errno == EINTR)
		;
	pthread_join(s->thread, NULL);
}

void host_server_close(struct host_server *s)
{
	host_server_stop(s);
	close_all(s);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- forks ---- */

void host_server_lock(struct host_server *s)
{
	pthread_mutex_lock(&s->lock);
}

void host_server_unlock(struct host_server *s)
{
	pthread_mutex_unlock(&s->lock);
}

void host_server_forked(struct host_server *s)
{
	close_all(s);
	pthread_mutex_unlock(&s->lock);
}
