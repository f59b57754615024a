/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * host.h - endpoints in user space, as the rest of libvine sees them
 *
 * Their descriptors are known by number: host_find() says whether one is ours, and
 * host_call() is then what ioctl(2) is for a device.
 */
#ifndef HOST_H
#define HOST_H

#include <stdbool.h>
#include <stdint.h>

struct host_object;

/* Is it the name of an endpoint, and not of a device? */
bool host_name(const char *name);

/* A device descriptor, or -errno: see vine_open(). */
int host_open(const char *name);

/* What was wrong with this thread's last host_open(): a sentence, or "". */
const char *host_why(void);

/* What @fd stands for, with a reference; NULL: nothing here. */
struct host_object *host_find(int fd);
void host_put(struct host_object *o);

/* As ioctl(2) on a device's descriptor; 0 or -errno. Drops the reference. */
int host_call(struct host_object *o, unsigned long request, void *arg);

/* Drops the reference. */
int host_map(struct host_object *o, uint64_t bytes, void **address);

/* -ENOENT: it is none of ours. */
int host_close(int fd);
int host_unmap(void *address);

/*
 * As dup3() onto @to, which may be in use by others, and close(@from): of any descriptors.
 * 0 or -errno; @from is closed in any case.
 */
int host_move(int from, int to);

#endif /* HOST_H */
