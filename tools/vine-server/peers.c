// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * peers.c - the connected VMs and processes of the host, and what each is told of the others.
 *
 * The protocol is a stream of 64-bit little-endian values, from the server only; a
 * descriptor may come with a value:
 *	to a new peer: 0 (the version), its ID, -1 with the memory, then for every other
 *		peer that peer's ID once per vector, each with an eventfd, and its own ID
 *		likewise;
 *	to the others: the new peer's ID once per vector, each with an eventfd;
 *	later: the ID of a peer, without a descriptor: it has left;
 *	to who is refused: REFUSED for a version.
 *
 * Nothing here blocks and nothing here recurses: events only put messages into queues
 * and mark peers as leaving, and peers_settle() does the rest.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server.h"

/*
 * Descriptors on their way through sockets may be no more than RLIMIT_NOFILE, or all
 * sending ends. So a peer that does not read gets a small buffer: the kernel counts
 * twice this, and 768 bytes for a message, which makes 43 and thus less than IN_FLIGHT.
 */
#define SEND_BUFFER 16384

/*
 * QEMU waits for ever, at full speed, for more of a handshake that has ended early; a
 * version that it does not know makes it stop and say so.
 */
#define REFUSED (-1)

struct message {
	int64_t value;
	int fd;		/* -1: none; belongs to a peer or to the caller */
};

struct peer {
	bool used;
	bool leaving;
	const char *why;	/* why we drop it; NULL: it has hung up itself */
	uint16_t id;
	int sock;
	pid_t pid;		/* for the log only */
	int eventfd[MAX_VECTORS];

	struct message *queue;	/* a ring of queue_size */
	unsigned int head, count;
	unsigned int sent;	/* bytes of the message at the head */
	enum { READY, WAIT_FOR_ROOM, WAIT_FOR_RETRY } state;
};

static struct peer peers[MAX_PEERS];
static unsigned int nr_peers, next_id;
static unsigned int nr_vectors, queue_size;
static int epoll_fd, mem_fd;

#define for_each_peer(p) \
	for ((p) = peers; (p) < peers + MAX_PEERS; (p)++) \
		if ((p)->used)

void peers_init(int epoll, int mem, unsigned int vectors)
{
	epoll_fd = epoll;
	mem_fd = mem;
	nr_vectors = vectors;
	/*
	 * The announcement of a peer that leaves is taken back where it was not sent, so
	 * the queue of a peer that does not read holds the first three messages, those of
	 * the peers alive, and one for each that has left and was alive when the oldest
	 * of these was put in: it cannot overflow, however long it sleeps.
	 */
	queue_size = 3 + MAX_PEERS * vectors + MAX_PEERS;
}

static void peer_drop(struct peer *p, const char *why)
{
	if (p->leaving)
		return;
	p->leaving = true;
	p->why = why;
}

static void queue_put(struct peer *p, int64_t value, int fd)
{
	if (p->count == queue_size) {
		peer_drop(p, "it does not read what it is told");
		return;
	}
	p->queue[(p->head + p->count++) % queue_size] = (struct message){ value, fd };
}

static void announce(struct peer *to, const struct peer *about)
{
	for (unsigned int v = 0; v < nr_vectors; v++)
		queue_put(to, about->id, about->eventfd[v]);
}

/*
 * Tells @to that @gone has left. Messages that bear its eventfds are taken back, for
 * these are about to be closed. If that is all of them, there is nothing to tell.
 */
static void announce_leaving(struct peer *to, const struct peer *gone)
{
	unsigned int i, kept = 0, taken = 0;

	for (i = 0; i < to->count; i++) {
		struct message m = to->queue[(to->head + i) % queue_size];
		bool begun = i == 0 && to->sent;

		if (m.fd >= 0 && m.value == gone->id && !begun)
			taken++;
		else
			to->queue[(to->head + kept++) % queue_size] = m;
	}
	to->count = kept;
	if (taken < nr_vectors)
		queue_put(to, gone->id, -1);
}

static int send_message(const struct peer *p, const struct message *m)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	uint64_t value = htole64(m->value);
	struct iovec iov = {
		.iov_base = (char *)&value + p->sent,
		.iov_len = sizeof(value) - p->sent,
	};
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (m->fd >= 0 && !p->sent) {	/* it goes with the first byte */
		struct cmsghdr *c;

		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &m->fd, sizeof(int));
	}
	return sendmsg(p->sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void want_room(struct peer *p, bool want)
{
	struct epoll_event ev = {
		.events = EPOLLIN | (want ? EPOLLOUT : 0),
		.data.u64 = p->id,
	};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, p->sock, &ev))
		peer_drop(p, strerror(errno));
}

static void flush(struct peer *p)
{
	while (p->count) {
		int n = send_message(p, &p->queue[p->head]);

		if (n < 0) {
			switch (errno) {
			case EINTR:
				continue;
			case EAGAIN:
				p->state = WAIT_FOR_ROOM;
				want_room(p, true);
				return;
			case ETOOMANYREFS:	/* see SEND_BUFFER */
			case ENOBUFS:
			case ENOMEM:
				detail("peer %u must wait: %m", p->id);
				p->state = WAIT_FOR_RETRY;
				return;
			case EPIPE:
			case ECONNRESET:
				peer_drop(p, NULL);
				return;
			default:
				peer_drop(p, strerror(errno));
				return;
			}
		}
		p->sent += n;
		if (p->sent < sizeof(uint64_t))
			continue;
		p->sent = 0;
		p->head = (p->head + 1) % queue_size;
		if (!--p->count)
			detail("peer %u has been told everything", p->id);
	}
}

/* From @id on. */
static unsigned int skip_taken(const bool *taken, unsigned int id)
{
	while (id <= MAX_ID && taken[id])
		id++;
	return id;
}

/* An ID that nobody connected has seen yet, or -1. */
static int take_id(void)
{
	static bool taken[MAX_ID + 1];
	unsigned int id;

	ids_in_memory(mem_fd, taken);
	id = skip_taken(taken, next_id);
	/* While a QEMU lives, it may keep pointers to peers of all the IDs it has seen. */
	if (id > MAX_ID && !nr_peers)
		id = skip_taken(taken, 0);
	if (id > MAX_ID)
		return -1;
	next_id = id + 1;
	return id;
}

static int eventfds_open(struct peer *p)
{
	for (unsigned int v = 0; v < nr_vectors; v++) {
		p->eventfd[v] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (p->eventfd[v] < 0) {
			while (v--)
				close(p->eventfd[v]);
			return -1;
		}
	}
	return 0;
}

static void eventfds_close(struct peer *p)
{
	for (unsigned int v = 0; v < nr_vectors; v++)
		close(p->eventfd[v]);
}

static pid_t pid_of(int sock)
{
	struct ucred cred = { .pid = -1 };
	socklen_t len = sizeof(cred);

	getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	return cred.pid;
}

void peers_add(int sock)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct peer *p = peers, *other;
	const uint64_t refused = htole64(REFUSED);
	int id, size = SEND_BUFFER;
	pid_t pid = pid_of(sock);

	while (p < peers + MAX_PEERS && p->used)
		p++;
	if (p == peers + MAX_PEERS) {
		error("refused process %d: %d peers are connected, which is the most; stop one, or start another server with a --socket of its own",
		      pid, MAX_PEERS);
		goto refuse;
	}
	*p = (struct peer){ .sock = sock, .pid = pid };
	p->queue = calloc(queue_size, sizeof(*p->queue));
	if (!p->queue || eventfds_open(p)) {
		error("refused process %d: %m", pid);
		goto free_queue;
	}
	id = take_id();
	if (id < 0) {
		error("refused process %d: the IDs are used up; stop all peers, after that they start at 0 again",
		      pid);
		goto close_eventfds;
	}
	p->id = id;
	ev.data.u64 = id;
	if (setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) ||
	    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, sock, &ev)) {
		error("refused process %d: %m", pid);
		goto close_eventfds;
	}

	queue_put(p, 0, -1);
	queue_put(p, id, -1);
	queue_put(p, -1, mem_fd);
	for_each_peer(other) {
		announce(p, other);
		announce(other, p);
	}
	announce(p, p);
	p->used = true;
	nr_peers++;
	info("peer %d joined (process %d; %u of %d)", id, pid, nr_peers, MAX_PEERS);
	return;

close_eventfds:
	eventfds_close(p);
free_queue:
	free(p->queue);
refuse:
	send(sock, &refused, sizeof(refused), MSG_NOSIGNAL | MSG_DONTWAIT);
	close(sock);
}

static void bury(struct peer *p)
{
	struct peer *other;

	/*
	 * Who has hung up is gone; whom we drop may live on and go on writing to the
	 * memory.
	 */
	if (p->why)
		error("peer %u dropped (process %d): %s", p->id, p->pid, p->why);
	else
		info("peer %u left (process %d; %u of %d)", p->id, p->pid, nr_peers - 1, MAX_PEERS);
	p->used = false;
	nr_peers--;
	for_each_peer(other)
		announce_leaving(other, p);
	close(p->sock);
	eventfds_close(p);
	free(p->queue);
}

static void listen_to(struct peer *p)
{
	char nonsense[64];
	ssize_t n = recv(p->sock, nonsense, sizeof(nonsense), MSG_DONTWAIT);

	if (n > 0)
		peer_drop(p, "it sent something, which no ivshmem client does; is it a QEMU?");
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		peer_drop(p, NULL);
}

void peers_event(uint16_t id, uint32_t events)
{
	struct peer *p;

	for_each_peer(p) {
		if (p->id != id)
			continue;
		if (events & EPOLLOUT && p->state == WAIT_FOR_ROOM) {
			p->state = READY;
			want_room(p, false);
		}
		if (events & ~EPOLLOUT)
			listen_to(p);
		return;
	}
}

bool peers_settle(bool retry)
{
	bool waiting = false, again;
	struct peer *p;

	for_each_peer(p)
		if (retry && p->state == WAIT_FOR_RETRY)
			p->state = READY;
	do {	/* a peer that is buried gives the others something to hear */
		again = false;
		for_each_peer(p) {
			if (p->state == READY && !p->leaving)
				flush(p);
			if (p->leaving) {
				bury(p);
				again = true;
			}
		}
	} while (again);
	for_each_peer(p)
		waiting |= p->state == WAIT_FOR_RETRY;
	return waiting;
}

void peers_exit(void)
{
	struct peer *p;

	for_each_peer(p) {
		close(p->sock);
		eventfds_close(p);
		free(p->queue);
		p->used = false;
	}
	nr_peers = 0;
}
