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
#define LOST		-2	/* a descriptor for which this process had no room */

struct neighbour {
	struct neighbour *next;
	u32 id, vectors;
	int eventfd[64];		/* -1: it was lost */
};

struct host_server {
	pthread_mutex_t lock;		/* all descriptors below: a fork's child closes them */
	int socket, stop[2];
	uint8_t bytes[8];		/* of a value: those that have come */
	size_t have;
	int fd;				/* and what came with them, or -1, or LOST */
	int memory;			/* -1: it has not come yet */
	enum { VERSION, ID, MEMORY, PEERS, GREETED } next;
	u32 id, vectors;		/* ours, and how many: fixed by the greeting */
	int eventfd[64];
	struct neighbour *neighbours;
	struct host_endpoint *ep;
	pthread_t thread;
	bool running;
};

/*
 * One value, and the descriptor that came with it, or -1, or LOST. 0; -EAGAIN: not all of it is there
 * yet; -EPROTO: several descriptors, or no end; -ECONNRESET: the server has gone. Does not wait.
 * With the lock.
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
	/* cut off without any: it was us, who could not take it */
	if (msg.msg_flags & MSG_CTRUNC && got < 0)
		got = LOST;
	else if (msg.msg_flags & MSG_CTRUNC || (got != -1 && s->fd != -1)) {
		*fd = got;
		return -EPROTO;
	}
	if (got != -1)
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
		if (n->eventfd[v] >= 0)
			close(n->eventfd[v]);
	free(n);
}

/* Of one that was lost the place is kept: they come in order. */
static void learn(struct host_server *s, u32 id, int *fd)
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
	if (n && n->vectors < ARRAY_SIZE(n->eventfd)) {
		n->eventfd[n->vectors++] = *fd == LOST ? -1 : *fd;
		*fd = -1;
	}
}

/* ---- what the server says: all with the lock; @fd is -1 afterwards if it was taken ---- */

/* One of the first three words. 0 or -EPROTO. */
static int hear_greeting(struct host_server *s, int64_t value, int *fd)
{
	switch (s->next++) {
	case VERSION:
		return value || *fd >= 0 ? -EPROTO : 0;
	case ID:
		s->id = (u32)value;
		return value < 0 || value >= MOST_IDS || *fd >= 0 ? -EPROTO : 0;
	default:
		if (value != -1 || *fd < 0)
			return -EPROTO;
		s->memory = *fd;
		*fd = -1;
		return 0;
	}
}

/* Of a peer, ourselves too. 0 or -EPROTO. */
static int hear_of_peer(struct host_server *s, int64_t value, int *fd)
{
	if (value < 0 || value >= MOST_IDS || (*fd >= 0 && !is_eventfd(*fd)))
		return -EPROTO;
	if ((u32)value != s->id) {
		if (*fd != -1)
			learn(s, (u32)value, fd);
		else
			forget(s, (u32)value);
	} else if (*fd >= 0 && s->next == PEERS && s->vectors < VINE_MAX_VECTORS) {
		s->eventfd[s->vectors++] = *fd;	/* later ones our slot does not tell of */
		*fd = -1;
	}
	return 0;
}

/*
 * What has come. 0; -EAGAIN: that was not all of a word; another error: it will say no more
 * that makes sense. Without the lock.
 */
static int listen_on(struct host_server *s)
{
	int64_t value;
	int fd = -1, err;

	pthread_mutex_lock(&s->lock);
	err = receive(s, &value, &fd);
	if (!err && fd == LOST && s->next < GREETED)
		err = -EMFILE;
	else if (!err)
		err = s->next < PEERS ? hear_greeting(s, value, &fd) : hear_of_peer(s, value, &fd);
	pthread_mutex_unlock(&s->lock);
	if (fd >= 0)
		close(fd);	/* see drop() */
	return err;
}

void host_server_ring(struct host_server *s, u32 ivposition, u32 vector)
{
	static const uint64_t one = 1;
	struct pollfd p = { .events = POLLOUT };
	struct neighbour *n;

	pthread_mutex_lock(&s->lock);
	n = find(s, ivposition);
	if (n && vector < n->vectors && n->eventfd[vector] >= 0) {
		p.fd = n->eventfd[vector];
		/* whose counter is full has it still; it may be one that would block then */
		if (poll(&p, 1, 0) > 0 && p.revents & POLLOUT &&
		    write(p.fd, &one, sizeof(one)) < 0)
			(void)n;
	}
	pthread_mutex_unlock(&s->lock);
}

/* ---- the thread ---- */

/*
 * False: it has not been rung. Others have it too, and may have taken it back or made it block.
 * A sandbox may refuse the call that does not care; then it must not block.
 */
static bool take_ring(int eventfd)
{
	uint64_t count;
	struct iovec iov = { &count, sizeof(count) };

	if (preadv2(eventfd, &iov, 1, -1, RWF_NOWAIT) >= 0)
		return true;
	if (errno == EAGAIN)
		return false;
	fcntl(eventfd, F_SETFL, O_RDWR | O_NONBLOCK);
	return read(eventfd, &count, sizeof(count)) >= 0 || errno != EAGAIN;
}

static void *server_thread(void *arg)
{
	struct pollfd p[2 + 64] = { { 0 } };
	struct host_server *s = arg;
	int err;
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
		err = p[1].revents ? listen_on(s) : 0;
		if (err && err != -EAGAIN)
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

/*
 * Forks take the lock, and a server may let us wait: it is held while a descriptor is made, and
 * not while we wait.
 */
static int make_descriptors(struct host_server *s)
{
	int err = 0;

	pthread_mutex_lock(&s->lock);
	s->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->socket < 0 || pipe2(s->stop, O_CLOEXEC))
		err = -errno;
	pthread_mutex_unlock(&s->lock);
	return err;
}

static int dial(struct host_server *s, const char *path, uint64_t deadline)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int err;

	if (strlen(path) >= sizeof(a.sun_path))
		return host_fail(-EINVAL, "%.60s... is longer than a socket's path may be", path);
	strcpy(a.sun_path, path);
	while (connect(s->socket, (struct sockaddr *)&a, sizeof(a))) {
		/* it does not take those who wait already */
		err = errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (err != -ETIMEDOUT || host_now() >= deadline)
			return host_fail(err, "no server answers at %s: %s", path, strerror(-err));
		poll(NULL, 0, 10);
	}
	return 0;
}

/* The next word, until @deadline, then -ETIMEDOUT. */
static int await(struct host_server *s, uint64_t deadline)
{
	struct pollfd p = { .fd = s->socket, .events = POLLIN };
	uint64_t now;
	int err;

	while ((now = host_now()) < deadline) {
		err = listen_on(s);
		if (err != -EAGAIN)
			return err;
		poll(&p, 1, (int)((deadline - now) / 1000000 + 1));
	}
	return -ETIMEDOUT;
}

/* All that belongs to those who are there: ours come last. */
static int greet_peers(struct host_server *s, uint64_t deadline)
{
	uint64_t until = deadline;
	int err;

	/*
	 * It does not say how many vectors there are. Ours are the last: when there is one
	 * and no more comes for a while, that was all.
	 */
	while (!(err = await(s, until))) {
		if (s->vectors)
			until = host_now() + LAST_MS * 1000000ULL;
		if (until > deadline)
			until = deadline;
	}
	return s->vectors && (err == -ETIMEDOUT || err == -ECONNRESET) ? 0 : err;
}

/* Not under a lock that forks take: it may be anything, and take long. */
static void drop(struct host_server *s, int *fd)
{
	int was;

	pthread_mutex_lock(&s->lock);
	was = *fd;
	*fd = -1;
	pthread_mutex_unlock(&s->lock);
	if (was >= 0)
		close(was);
}

/* The memory, our ID, and the peers. */
static int greet(struct host_server *s, const char *path, uint64_t deadline)
{
	struct stat st;
	int err = 0;

	while (!err && s->next < PEERS)
		err = await(s, deadline);
	/* it is opened again, which of other things than files waits, or does something */
	if (!err && (fstat(s->memory, &st) || !S_ISREG(st.st_mode))) {
		drop(s, &s->memory);
		err = -EPROTO;
	}
	if (!err)
		err = greet_peers(s, deadline);
	if (err == -ECONNRESET)
		return host_fail(-EPROTO, "the server at %s hangs up", path);
	if (err == -EMFILE)
		return host_fail(err, "no descriptor is free for what the server at %s gives", path);
	if (err)
		return host_fail(err == -ETIMEDOUT ? err : -EPROTO,
				 err == -ETIMEDOUT ? "the server at %s is silent" :
				 "the server at %s refuses, or does not speak ivshmem's protocol",
				 path);
	s->next = GREETED;
	return 0;
}

struct host_server *host_server_new(void)
{
	struct host_server *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	pthread_mutex_init(&s->lock, NULL);
	s->socket = s->stop[0] = s->stop[1] = s->fd = s->memory = -1;
	return s;
}

int host_server_open(struct host_server *s, const char *path, u32 *ivposition, u32 *vectors)
{
	uint64_t deadline = host_now() + PATIENCE_MS * 1000000ULL;
	int fd, err;

	err = make_descriptors(s);
	if (!err)
		err = dial(s, path, deadline);
	if (!err)
		err = greet(s, path, deadline);
	if (err)
		return err;
	*ivposition = s->id;
	*vectors = s->vectors;
	fd = host_reopen(s->memory);
	if (fd < 0)
		host_fail(fd, "cannot open what the server at %s gave again through /proc: %s", path,
			  strerror(-fd));
	return fd;
}

static void close_all(struct host_server *s)
{
	u32 v;

	if (s->socket >= 0)
		close(s->socket);
	if (s->fd >= 0)		/* in a fork's child */
		close(s->fd);
	if (s->memory >= 0)
		close(s->memory);
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
	if (s->running) {
		s->running = false;
		/* not closed: a fork's child may be about to */
		while (write(s->stop[1], "", 1) < 0 && errno == EINTR)
			;
		pthread_join(s->thread, NULL);
	}
	drop(s, &s->fd);
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
