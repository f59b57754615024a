// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * fake_vine.c - the calls of vine.h without a device; see fake_vine.h
 *
 * No state but what the kernel keeps for the descriptors: so fork(), exec() and close()
 * need nothing.
 *
 *   a service   listens at the abstract address "vine/DEVICE/TYPE/NAME", all but NAME in
 *               hexadecimal; /proc/net/unix lists them, and its inode is the service's id
 *   a client    binds its socket to "vine-DEPTH-MACHINE-N" before it connects: so accept
 *               knows the depth, and whose it is, at once
 *   a queue     carries packets of 4 bytes, a kind, and the message's data; the server's
 *               first one says that it has accepted
 *   a region    has the id PID << 42 | DESCRIPTOR << 28 | the last 28 bits of its inode's
 *               number, and is imported from /proc/PID/fd
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <vine.h>

#include "fake_vine.h"

#define PREFIX		"vine/"
#define INODE_BITS	28
#define INODE_MASK	((1ULL << INODE_BITS) - 1)
#define FD_BITS		14
#define FD_MASK		((1ULL << FD_BITS) - 1)
#define SKB_BYTES	768	/* of a socket's buffer that a small packet takes */

enum kind { ACCEPTED = 1, MESSAGE };

struct found {
	struct vine_service service;
	struct sockaddr_un address;
	socklen_t length;
};

atomic_int fake_vine_error;
atomic_uint fake_vine_machine;

static uint64_t device_id(int device)
{
	struct stat st;

	return fstat(device, &st) ? 0 : (uint64_t)st.st_dev << 32 ^ st.st_ino;
}

/* An abstract address: no zero at its end. */
static socklen_t set_address(struct sockaddr_un *a, const char *text)
{
	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(a->sun_path + 1, text, strlen(text));
	return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(text);
}

/* Waits for @events until @deadline. 0, -ETIMEDOUT, -EAGAIN (deadline 0) or -EINTR. */
static int wait_for(int fd, short events, uint64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = events };
	struct timespec now, left;
	uint64_t ns;
	int n;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ns = now.tv_sec * 1000000000ULL + now.tv_nsec;
	ns = deadline > ns ? deadline - ns : 0;
	left = (struct timespec){ ns / 1000000000, ns % 1000000000 };
	n = ppoll(&p, 1, deadline == VINE_FOREVER ? NULL : &left, NULL);
	if (n < 0)
		return -errno;
	return n ? 0 : deadline ? -ETIMEDOUT : -EAGAIN;
}

static bool nonblocking(int fd)
{
	return fcntl(fd, F_GETFL) & O_NONBLOCK;
}

/* Room for about @depth packets. */
static void set_depth(int fd, unsigned int depth)
{
	int bytes = depth * SKB_BYTES / 2;	/* the kernel doubles it */

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

int vine_open(const char *path)
{
	int fd;

	if (!path)
		path = getenv("VINE_DEVICE");
	if (!path || !*path)
		path = "/tmp";
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && fake_vine_error == ENODEV)
		fake_vine_error = 0;
	return fd < 0 ? -errno : fd;
}

int vine_info(int device, struct vine_info *info)
{
	struct stat st;

	if (fake_vine_error == ENODEV)
		return -ENODEV;
	if (fstat(device, &st))
		return -errno;
	*info = (struct vine_info){
		.size = sizeof(*info), .segment_size = FAKE_VINE_SEGMENT, .generation = st.st_ino,
		.chunk_size = FAKE_VINE_CHUNK, .chunks = FAKE_VINE_SEGMENT / FAKE_VINE_CHUNK,
		.chunks_free = FAKE_VINE_SEGMENT / FAKE_VINE_CHUNK, .incarnation = 1,
		.memory_type = VINE_MEMORY_CACHED, .kind = VINE_KIND_LOOPBACK, .peers = 1,
	};
	return 0;
}

/* ---- services ---- */

/* A line of /proc/net/unix: a service of @device? */
static bool parse_service(const char *line, uint64_t device, struct found *found)
{
	unsigned int flags;
	uint64_t type, where;
	unsigned long inode;
	char text[128], name[128];

	if (sscanf(line, "%*[^:]: %*s %*s %x %*s %*s %lu @%127s", &flags, &inode, text) != 3 ||
	    !(flags & 0x10000) ||
	    sscanf(text, PREFIX "%" SCNx64 "/%" SCNx64 "/%31s", &where, &type, name) != 3 ||
	    where != device)
		return false;
	*found = (struct found){ .service = { .id = inode, .type = type, .incarnation = 1 } };
	memcpy(found->service.name, name, strlen(name));
	found->length = set_address(&found->address, text);
	return true;
}

/* Calls @see for each service until it returns true. */
static int each_service(int device, bool (*see)(void *context, const struct found *found),
			void *context)
{
	uint64_t id = device_id(device);
	FILE *f = fopen("/proc/net/unix", "re");
	struct found found;
	char line[512];

	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		if (parse_service(line, id, &found) && see(context, &found))
			break;
	fclose(f);
	return 0;
}

struct list {
	struct vine_service *array;
	unsigned int room, count;
};

static bool see_all(void *context, const struct found *found)
{
	struct list *l = context;

	if (l->count < l->room)
		l->array[l->count] = found->service;
	l->count++;
	return false;
}

int vine_services(int device, struct vine_service *array, unsigned int room)
{
	struct list l = { .array = array, .room = room };
	int ret;

	if (fake_vine_error == ENODEV)
		return -ENODEV;
	ret = each_service(device, see_all, &l);
	return ret ? ret : (int)l.count;
}

struct search {
	const char *name;
	uint64_t id;
	struct found found;
	bool done;
};

static bool see_one(void *context, const struct found *found)
{
	struct search *s = context;

	if (s->name ? strcmp(s->name, (const char *)found->service.name) != 0 :
		      s->id != found->service.id)
		return false;
	s->found = *found;
	s->done = true;
	return true;
}

static bool name_is_bad(const char *name)
{
	size_t length = strnlen(name, VINE_SERVICE_NAME);

	return length == 0 || length == VINE_SERVICE_NAME || strpbrk(name, " \t\n");
}

int vine_listen(int device, const char *name, uint64_t type, unsigned int flags)
{
	struct search s = { .name = name };
	struct sockaddr_un address;
	socklen_t length;
	char text[96];
	int fd, err;

	if (fake_vine_error == ENOTCONN)
		fake_vine_error = 0;
	if (fake_vine_error)
		return -fake_vine_error;
	if (name_is_bad(name))
		return -EINVAL;
	err = each_service(device, see_one, &s);
	if (err || s.done)
		return err ? err : -EADDRINUSE;
	snprintf(text, sizeof(text), PREFIX "%" PRIx64 "/%" PRIx64 "/%s", device_id(device), type,
		 name);
	length = set_address(&address, text);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC |
		    (flags & VINE_NONBLOCK ? SOCK_NONBLOCK : 0), 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, length) || listen(fd, 4096)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* ---- queues ---- */

int vine_accept(int listener, unsigned int flags, uint64_t deadline, struct vine_accept *out)
{
	bool wait = deadline && !nonblocking(listener);
	struct sockaddr_un client = { };
	socklen_t length = sizeof(client);
	uint32_t kind = ACCEPTED;
	unsigned int depth = 0, peer = 0;
	int fd, err;

	if (fake_vine_error)
		return -fake_vine_error;
	err = wait_for(listener, POLLIN, wait ? deadline : 0);
	if (err)
		return err;
	fd = accept4(listener, (struct sockaddr *)&client, &length,
		     SOCK_CLOEXEC | (flags & VINE_NONBLOCK ? SOCK_NONBLOCK : 0));
	if (fd < 0)
		return -errno;
	sscanf(client.sun_path + 1, "vine-%u-%u-", &depth, &peer);
	set_depth(fd, depth);
	/* may fail when the client has gone already: the first transfer says so */
	send(fd, &kind, sizeof(kind), MSG_NOSIGNAL);
	if (out)
		*out = (struct vine_accept){
			.size = sizeof(*out), .fd = fd, .peer = peer, .depth = depth,
			.incarnation = 1,
		};
	return fd;
}

/* Waits until the server's first packet has come. */
static int wait_accepted(int fd, uint64_t deadline)
{
	uint32_t kind;
	int err = wait_for(fd, POLLIN, deadline);

	if (err)
		return err;
	return recv(fd, &kind, sizeof(kind), 0) == sizeof(kind) ? 0 : -ECONNREFUSED;
}

static int connect_to(const struct found *found, unsigned int depth, unsigned int flags,
		      uint64_t deadline, struct vine_connect *out)
{
	static atomic_uint count;
	struct sockaddr_un own;
	socklen_t length;
	char text[64];
	int fd, err;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	snprintf(text, sizeof(text), "vine-%u-%u-%d-%u", depth, fake_vine_machine, getpid(),
		 count++);
	length = set_address(&own, text);
	set_depth(fd, depth);
	err = -ENOENT;
	if (bind(fd, (struct sockaddr *)&own, length) ||
	    connect(fd, (const struct sockaddr *)&found->address, found->length))
		goto fail;
	if (flags & VINE_NONBLOCK)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	err = flags & VINE_NONBLOCK ? 0 : wait_accepted(fd, deadline);
	if (err)
		goto fail;
	if (out)
		*out = (struct vine_connect){
			.size = sizeof(*out), .flags = flags, .depth = depth, .fd = fd,
			.id = found->service.id, .incarnation = 1,
		};
	return fd;
fail:
	close(fd);
	return err;
}

static int find_and_connect(int device, struct search *s, unsigned int depth,
			    unsigned int flags, uint64_t deadline, struct vine_connect *out)
{
	int err;

	if (depth < 2 || depth > 4096 || depth & (depth - 1))
		return -EINVAL;
	for (;;) {
		err = each_service(device, see_one, s);
		if (err)
			return err;
		if (s->done)
			return connect_to(&s->found, depth, flags, deadline, out);
		if (!(flags & VINE_WAIT_SERVICE) || flags & VINE_NONBLOCK)
			return -ENOENT;
		if (deadline != VINE_FOREVER && vine_deadline_ms(1) > deadline)
			return deadline ? -ETIMEDOUT : -EAGAIN;
		poll(NULL, 0, 1);	/* nothing tells of a new service here */
	}
}

int vine_connect(int device, const char *name, unsigned int depth, unsigned int flags,
		 uint64_t deadline, struct vine_connect *out)
{
	struct search s = { .name = name };

	if (name_is_bad(name))
		return -EINVAL;
	return find_and_connect(device, &s, depth, flags, deadline, out);
}

int vine_connect_id(int device, uint64_t id, unsigned int depth, unsigned int flags,
		    uint64_t deadline, struct vine_connect *out)
{
	struct search s = { .id = id };

	if (!id)
		return -EINVAL;
	return find_and_connect(device, &s, depth, flags, deadline, out);
}

/* ---- transfers ---- */

static int push(int queue, const struct vine_msg *msg)
{
	uint32_t kind = MESSAGE;
	struct iovec v[2] = {
		{ &kind, sizeof(kind) }, { (void *)msg->data, msg->len },
	};
	struct msghdr h = { .msg_iov = v, .msg_iovlen = 2 };

	if (msg->reserved)
		return -EINVAL;
	if (msg->len > VINE_MSG_DATA)
		return -EMSGSIZE;
	if (sendmsg(queue, &h, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		return 0;
	return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
}

/* 0, -EAGAIN, -EPIPE */
static int pull(int queue, struct vine_msg *msg)
{
	uint32_t kind;
	struct iovec v[2] = { { &kind, sizeof(kind) }, { msg->data, sizeof(msg->data) } };
	struct msghdr h = { .msg_iov = v, .msg_iovlen = 2 };
	ssize_t n;

	do {
		memset(msg, 0, sizeof(*msg));
		n = recvmsg(queue, &h, MSG_DONTWAIT);
		/* ECONNRESET comes once, before what the other side had sent */
	} while ((n > 0 && kind == ACCEPTED) || (n < 0 && (errno == ECONNRESET || errno == EINTR)));
	if (n < 0)
		return errno == EAGAIN ? -EAGAIN : -EPIPE;
	if (n == 0)
		return -EPIPE;
	msg->len = n - sizeof(kind);
	return 0;
}

int vine_transfer(int queue, struct vine_transfer *t)
{
	const struct vine_msg *out = (const void *)(uintptr_t)t->push;
	struct vine_msg *in = (void *)(uintptr_t)t->pull;
	bool wait = t->deadline && !nonblocking(queue);
	unsigned int pushed = 0, pulled = 0;
	int err = 0;

	if (fake_vine_error)
		return -fake_vine_error;
	if (t->pull_min > t->pull_count)
		return -EINVAL;
	while (pushed < t->push_count && !err) {
		err = push(queue, &out[pushed]);
		pushed += !err;
	}
	if (t->pull_count && (!err || err == -EAGAIN || err == -EPIPE)) {
		err = 0;
		while (pulled < t->pull_count && !err) {
			err = pull(queue, &in[pulled]);
			pulled += !err;
			if (err == -EAGAIN && wait && pulled < t->pull_min)
				err = wait_for(queue, POLLIN, t->deadline);
		}
	}
	t->push_count = pushed;
	t->pull_count = pulled;
	return pushed || pulled ? 0 : err;
}

int vine_push(int queue, const struct vine_msg *msgs, unsigned int n)
{
	struct vine_transfer t = { .push = (uintptr_t)msgs, .push_count = n };
	int ret = vine_transfer(queue, &t);

	return ret ? ret : (int)t.push_count;
}

int vine_pull(int queue, struct vine_msg *msgs, unsigned int room, unsigned int min,
	      uint64_t deadline)
{
	struct vine_transfer t = {
		.pull = (uintptr_t)msgs, .pull_count = room, .pull_min = min,
		.deadline = deadline,
	};
	int ret = vine_transfer(queue, &t);

	return ret ? ret : (int)t.pull_count;
}

uint64_t vine_deadline_ms(int ms)
{
	struct timespec now;

	if (ms <= 0)
		return ms ? VINE_FOREVER : 0;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec + ms * 1000000ULL;
}

/* ---- regions ---- */

int vine_region(int device, uint64_t bytes, uint64_t *rounded)
{
	struct stat st;
	int fd, err;

	if (fake_vine_error == ENODEV)
		return -ENODEV;
	if (fstat(device, &st))
		return -errno;
	if (!bytes)
		return -EINVAL;
	if (bytes > FAKE_VINE_SEGMENT)
		return -ENOSPC;
	bytes = (bytes + FAKE_VINE_CHUNK - 1) & ~(FAKE_VINE_CHUNK - 1);
	fd = memfd_create("vine-region", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, bytes)) {
		err = -errno;
		close(fd);
		return err;
	}
	if (rounded)
		*rounded = bytes;
	return fd;
}

int vine_attach(int queue, int region, uint64_t *id)
{
	struct pollfd p = { .fd = queue };
	struct stat st;

	if (fstat(region, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)region > FD_MASK)
		return -EINVAL;
	if (poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR))
		return -EPIPE;
	*id = (uint64_t)getpid() << (FD_BITS + INODE_BITS) | (uint64_t)region << INODE_BITS |
		(st.st_ino & INODE_MASK);
	return 0;
}

int vine_import(int queue, uint64_t id, uint64_t *bytes)
{
	char path[64], what[64];
	struct stat st;
	ssize_t n;
	int fd;

	(void)queue;
	if (fake_vine_error)
		return -fake_vine_error;
	snprintf(path, sizeof(path), "/proc/%" PRIu64 "/fd/%" PRIu64, id >> (FD_BITS + INODE_BITS),
		 (uint64_t)(id >> INODE_BITS & FD_MASK));
	n = readlink(path, what, sizeof(what) - 1);
	if (n < 0)
		return -ENOENT;
	what[n] = 0;
	if (strncmp(what, "/memfd:vine-region", 18))
		return -ENOENT;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno == EMFILE || errno == ENFILE ? -errno : -ENOENT;
	if (fstat(fd, &st) || (st.st_ino & INODE_MASK) != (id & INODE_MASK)) {
		close(fd);
		return -ENOENT;
	}
	if (bytes)
		*bytes = st.st_size;
	return fd;
}

int vine_map(int region, uint64_t bytes, void **address)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, region, 0);

	if (p == MAP_FAILED)
		return -errno;
	*address = p;
	return 0;
}

int vine_unmap(void *address, uint64_t bytes)
{
	return munmap(address, bytes) ? -errno : 0;
}

int vine_close(int descriptor)
{
	return close(descriptor) ? -errno : 0;
}
