// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * vine.c - the calls of vine.h: ioctls of a device, or lib/host's
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "host/host.h"
#include "vine.h"

#define EXPORT __attribute__((visibility("default")))

/*
 * Programs bring these structures, so their sizes are part of our ABI. One that grows
 * needs a new version of the functions that take it, in libvine.map too: an older
 * program has room for the old one only.
 */
_Static_assert(sizeof(struct vine_info) == 96, "vine_info() has another size");
_Static_assert(sizeof(struct vine_service) == 56, "vine_services() has another size");
_Static_assert(sizeof(struct vine_accept) == 32, "vine_accept() has another size");
_Static_assert(sizeof(struct vine_connect) == 72, "vine_connect() has another size");
_Static_assert(sizeof(struct vine_msg) == 64, "vine_push() and others have another size");
_Static_assert(sizeof(struct vine_transfer) == 48, "vine_transfer() has another size");
_Static_assert(sizeof(struct vine_query_peer) == 40, "vine_query() has another size");
_Static_assert(sizeof(struct vine_query_service) == 72, "vine_query() has another size");
_Static_assert(sizeof(struct vine_query_queue) == 64, "vine_query() has another size");
_Static_assert(sizeof(struct vine_query_region) == 48, "vine_query() has another size");

static int call(int fd, unsigned long request, void *arg)
{
	struct host_object *o = host_find(fd);

	if (o)
		return host_call(o, request, arg);
	return ioctl(fd, request, arg) < 0 ? -errno : 0;
}

static uint64_t address_of(const void *p)
{
	return (uintptr_t)p;
}

/* @to is all zero. Too long a name must not become another name. */
static int copy_name(__u8 *to, const char *name)
{
	size_t length = strnlen(name, VINE_SERVICE_NAME);

	if (length == 0 || length == VINE_SERVICE_NAME)
		return -EINVAL;
	memcpy(to, name, length);
	return 0;
}

EXPORT int vine_open(const char *path)
{
	int fd;

	if (!path)
		path = secure_getenv("VINE_DEVICE");
	if (!path || !*path)
		path = "/dev/vine0";
	if (host_name(path))
		return host_open(path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

EXPORT const char *vine_why(void)
{
	return host_why();
}

EXPORT int vine_info(int device, struct vine_info *info)
{
	*info = (struct vine_info){ .size = sizeof(*info) };
	return call(device, VINE_INFO, info);
}

EXPORT int vine_services(int device, struct vine_service *array, unsigned int room)
{
	struct vine_services s = {
		.size = sizeof(s), .count = room, .array = address_of(array),
	};
	int ret = call(device, VINE_SERVICES, &s);

	return ret ? ret : (int)s.count;
}

EXPORT int vine_query(int device, unsigned int what, void *array, unsigned int room)
{
	struct vine_query q = {
		.size = sizeof(q), .what = what, .count = room, .array = address_of(array),
	};
	int ret = call(device, VINE_QUERY, &q);

	return ret ? ret : (int)q.count;
}

EXPORT int vine_bury(int device, unsigned int peer, unsigned int incarnation)
{
	struct vine_bury b = {
		.size = sizeof(b), .peer = peer, .incarnation = incarnation,
	};

	return call(device, VINE_BURY, &b);
}

EXPORT int vine_listen(int device, const char *name, uint64_t type, unsigned int flags)
{
	struct vine_listen l = { .size = sizeof(l), .flags = flags, .type = type };
	int ret = copy_name(l.name, name);

	if (!ret)
		ret = call(device, VINE_LISTEN, &l);
	return ret ? ret : l.fd;
}

EXPORT int vine_accept(int listener, unsigned int flags, uint64_t deadline,
		       struct vine_accept *out)
{
	struct vine_accept a = { .size = sizeof(a), .flags = flags, .deadline = deadline };
	int ret = call(listener, VINE_ACCEPT, &a);

	if (ret)
		return ret;
	if (out)
		*out = a;
	return a.fd;
}

static int connect_to(int device, struct vine_connect *c, struct vine_connect *out)
{
	int ret = call(device, VINE_CONNECT, c);

	if (ret)
		return ret;
	if (out)
		*out = *c;
	return c->fd;
}

EXPORT int vine_connect(int device, const char *name, unsigned int depth, unsigned int flags,
			uint64_t deadline, struct vine_connect *out)
{
	struct vine_connect c = {
		.size = sizeof(c), .flags = flags, .deadline = deadline, .depth = depth,
	};
	int ret = copy_name(c.name, name);

	return ret ? ret : connect_to(device, &c, out);
}

EXPORT int vine_connect_id(int device, uint64_t id, unsigned int depth, unsigned int flags,
			   uint64_t deadline, struct vine_connect *out)
{
	struct vine_connect c = {
		.size = sizeof(c), .flags = flags, .deadline = deadline, .id = id,
		.depth = depth,
	};

	return connect_to(device, &c, out);
}

EXPORT int vine_region(int device, uint64_t bytes, uint64_t *rounded)
{
	struct vine_region r = { .size = sizeof(r), .bytes = bytes };
	int ret = call(device, VINE_REGION, &r);

	if (ret)
		return ret;
	if (rounded)
		*rounded = r.bytes;
	return r.fd;
}

EXPORT int vine_attach(int queue, int region, uint64_t *id)
{
	struct vine_attach a = { .size = sizeof(a), .region_fd = region };
	int ret = call(queue, VINE_ATTACH, &a);

	if (!ret)
		*id = a.id;
	return ret;
}

EXPORT int vine_import(int queue, uint64_t id, uint64_t *bytes)
{
	struct vine_import i = { .size = sizeof(i), .id = id };
	int ret = call(queue, VINE_IMPORT, &i);

	if (ret)
		return ret;
	if (bytes)
		*bytes = i.bytes;
	return i.fd;
}

EXPORT int vine_transfer(int queue, struct vine_transfer *transfer)
{
	transfer->size = sizeof(*transfer);
	return call(queue, VINE_TRANSFER, transfer);
}

EXPORT int vine_push(int queue, const struct vine_msg *msgs, unsigned int n)
{
	struct vine_transfer t = { .push = address_of(msgs), .push_count = n };
	int ret = vine_transfer(queue, &t);

	return ret ? ret : (int)t.push_count;
}

EXPORT int vine_pull(int queue, struct vine_msg *msgs, unsigned int room, unsigned int min,
		     uint64_t deadline)
{
	struct vine_transfer t = {
		.pull = address_of(msgs), .pull_count = room, .pull_min = min,
		.deadline = deadline,
	};
	int ret = vine_transfer(queue, &t);

	return ret ? ret : (int)t.pull_count;
}

EXPORT int vine_close(int descriptor)
{
	int ret = host_close(descriptor);

	if (ret != -ENOENT)
		return ret;
	return close(descriptor) ? -errno : 0;
}

EXPORT uint64_t vine_deadline_ms(int ms)
{
	struct timespec now;

	if (ms < 0)
		return VINE_FOREVER;
	if (ms == 0)
		return 0;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec + ms * 1000000ULL;
}

EXPORT int vine_map(int region, uint64_t bytes, void **address)
{
	struct host_object *o = host_find(region);
	void *p;

	if (o)
		return host_map(o, bytes, address);
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, region, 0);
	if (p == MAP_FAILED)
		return -errno;
	*address = p;
	return 0;
}

EXPORT int vine_unmap(void *address, uint64_t bytes)
{
	if (!host_unmap(address))
		return 0;
	return munmap(address, bytes) ? -errno : 0;
}
