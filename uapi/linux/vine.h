/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT */
/*
 * vine.h - the ioctl interface of /dev/vineN
 *
 * Descriptors: a device (open of /dev/vineN) makes listeners (VINE_LISTEN), queues
 * (VINE_CONNECT) and regions (VINE_REGION); a listener makes queues (VINE_ACCEPT);
 * a queue makes regions of the other side (VINE_IMPORT). A new descriptor comes
 * back in the field @fd, close-on-exec. What a descriptor stands for lives as long
 * as the descriptor, and a region also as long as its mappings.
 *
 * Every structure begins with its own size. A caller built against an older header
 * passes a smaller one, and the missing fields are zero; one built against a newer
 * header passes a larger one, and the fields that this kernel does not know must be
 * zero. No call returns data in its return value: 0, or -1 and errno.
 *
 * Errors that every call may give:
 *   ENOTTY      this kind of descriptor has no such call
 *   EINVAL      size below the smallest, or a reserved field is not zero, or a
 *               value is out of its range
 *   E2BIG       size beyond what this kernel knows, with non-zero bytes there
 *   EOPNOTSUPP  an unknown flag
 *   EFAULT      a bad pointer
 *   ENODEV      the device has been unplugged or unbound
 *   ENOTCONN    this machine was taken for dead and has joined anew: what was
 *               made before is lost (device descriptors go on working)
 *   EINTR       a signal came before anything was done
 *   ENOMEM, EMFILE, ENFILE  as everywhere
 *
 * Deadlines are absolute, in nanoseconds of CLOCK_MONOTONIC; 0 does not wait (the
 * call gives EAGAIN), VINE_FOREVER has no end. All calls may be made from any
 * thread at any time.
 */
#ifndef _UAPI_LINUX_VINE_H
#define _UAPI_LINUX_VINE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define VINE_SERVICE_NAME	32	/* bytes, with the terminating zero */
#define VINE_MSG_DATA		56	/* bytes of one message */
#define VINE_FOREVER		(~(__u64)0)

/*
 * VINE_INFO (device): what this device is, and how full its segment is.
 * All fields but @size and @flags are Out.
 *
 * @size: In: sizeof(struct vine_info)
 * @flags: In: 0
 * @features: VINE_FEATURE_* of this kernel
 * @segment_size: bytes of shared memory, tables included
 * @generation: random number of this segment
 * @chunk_size: bytes; regions take whole chunks
 * @chunks, @chunks_free: in the segment
 * @peer, @incarnation: who we are: slot 0..63, and how often it was taken
 * @vectors: MSI-X vectors served; 0: the device polls
 * @ivposition: ivshmem's number of this machine
 * @memory_type: VINE_MEMORY_*: how the kernel's mapping is cached
 * @kind: VINE_KIND_*
 * @peers, @services, @queues, @regions: entries in use in the segment, by all
 * @own_queues, @own_regions: of this machine (regions: those that hold rings too)
 */
struct vine_info {
	__u32 size;
	__u32 flags;
	__u64 features;
	__u64 segment_size;
	__u64 generation;
	__u64 chunk_size;
	__u32 chunks;
	__u32 chunks_free;
	__u32 peer;
	__u32 incarnation;
	__u32 vectors;
	__u32 ivposition;
	__u32 memory_type;
	__u32 kind;
	__u32 peers;
	__u32 services;
	__u32 queues;
	__u32 regions;
	__u32 own_queues;
	__u32 own_regions;
};

#define VINE_MEMORY_UNKNOWN	0
#define VINE_MEMORY_CACHED	1	/* write-back */
#define VINE_MEMORY_UNCACHED	2	/* slow: see Documentation/memory.md */

#define VINE_KIND_DOORBELL	0	/* ivshmem-doorbell */
#define VINE_KIND_PLAIN		1	/* ivshmem-plain, or its interrupts do not work */
#define VINE_KIND_LOOPBACK	2	/* kernel memory; this machine only */

/*
 * VINE_SERVICES (device): the services that can be connected to.
 *
 * @size: In
 * @flags: In: 0
 * @count: In: room at @array, in structures; Out: how many there are (if larger
 *         than the room, the rest was left out)
 * @reserved: In: 0
 * @array: In: user address of struct vine_service[]; may be 0 when @count is 0
 */
struct vine_services {
	__u32 size;
	__u32 flags;
	__u32 count;
	__u32 reserved;
	__u64 array;
};

/*
 * @id: for VINE_CONNECT; not 0
 * @type: as the offerer said
 * @peer, @incarnation: who offers it
 * @name: zero-terminated, zero-padded
 */
struct vine_service {
	__u64 id;
	__u64 type;
	__u32 peer;
	__u32 incarnation;
	__u8 name[VINE_SERVICE_NAME];
};

/*
 * VINE_LISTEN (device): offer a service.
 *
 * @size: In
 * @flags: In: VINE_NONBLOCK or 0
 * @type: In: any number; VineTalk's accelerator type
 * @name: In: 1 to 31 bytes, zero-terminated, zero-padded
 * @fd: Out: the listener
 * @reserved: In: 0
 *
 * EINVAL the name; EADDRINUSE this machine offers that name already; ENOSPC the
 * segment has no free service entry.
 */
struct vine_listen {
	__u32 size;
	__u32 flags;
	__u64 type;
	__u8 name[VINE_SERVICE_NAME];
	__s32 fd;
	__u32 reserved;
};

/*
 * VINE_ACCEPT (listener): take the next connection.
 *
 * @size: In
 * @flags: In: VINE_NONBLOCK (the new queue has O_NONBLOCK) or 0
 * @deadline: In: how long to wait; O_NONBLOCK on the listener does not wait
 * @fd: Out: the queue
 * @depth: Out: messages that each ring holds
 * @peer, @incarnation: Out: whose connection it is
 *
 * EAGAIN, ETIMEDOUT nobody came.
 */
struct vine_accept {
	__u32 size;
	__u32 flags;
	__u64 deadline;
	__s32 fd;
	__u32 depth;
	__u32 peer;
	__u32 incarnation;
};

/*
 * VINE_CONNECT (device): make a queue to a service.
 *
 * @size: In
 * @flags: In: VINE_NONBLOCK: return at once, with O_NONBLOCK on the queue: it
 *         polls EPOLLOUT when it is accepted, EPOLLHUP when it is refused, and
 *         transfers give ENOTCONN until then. VINE_WAIT_SERVICE: if there is no
 *         such service, wait for it.
 * @deadline: In: until when it must be accepted
 * @id: In: a service, from VINE_SERVICES, or 0: by name
 * @name: In: as in VINE_LISTEN; all zero when @id is given. Of several services
 *        of that name, the one of the lowest peer slot
 * @depth: In: messages that each ring holds, a power of two, 2 to 4096
 * @fd: Out: the queue
 * @peer, @incarnation: Out: who serves it
 *
 * EINVAL name, id or depth; ENOENT there is no such service; ECONNREFUSED it was
 * withdrawn, or its machine died; EAGAIN (deadline 0), ETIMEDOUT it has not
 * accepted; ENOSPC the segment has no free queue, region or chunk.
 */
struct vine_connect {
	__u32 size;
	__u32 flags;
	__u64 deadline;
	__u64 id;
	__u8 name[VINE_SERVICE_NAME];
	__u32 depth;
	__s32 fd;
	__u32 peer;
	__u32 incarnation;
};

#define VINE_NONBLOCK		(1U << 0)
#define VINE_WAIT_SERVICE	(1U << 1)

/*
 * VINE_REGION (device): shared memory for bulk data, zeroed. mmap() the new
 * descriptor with MAP_SHARED.
 *
 * @size: In
 * @flags: In: 0
 * @bytes: In: > 0; Out: rounded up to whole chunks: what can be mapped
 * @fd: Out: the region
 * @reserved: In: 0
 *
 * EINVAL no bytes; ENOSPC no run of free chunks is that long, or no free entry.
 */
struct vine_region {
	__u32 size;
	__u32 flags;
	__u64 bytes;
	__s32 fd;
	__u32 reserved;
};

/*
 * VINE_ATTACH (queue, the client's side): let the server import one of our
 * regions. A region can be attached to many queues, a queue has up to 48.
 *
 * @size: In
 * @flags: In: 0
 * @region_fd: In: from VINE_REGION, of the same device
 * @reserved: In: 0
 * @id: Out: the region's name, for messages
 *
 * EBADF not a descriptor; EINVAL not a region of this device that we own, or the
 * server's side; ENOSPC too many are attached; EPIPE the other side is gone.
 */
struct vine_attach {
	__u32 size;
	__u32 flags;
	__s32 region_fd;
	__u32 reserved;
	__u64 id;
};

/*
 * VINE_IMPORT (queue, the server's side): a descriptor for a region that the
 * client has attached. It outlives the queue, the client, and the client's machine.
 *
 * @size: In
 * @flags: In: 0
 * @id: In: what the client's VINE_ATTACH gave
 * @bytes: Out: what can be mapped
 * @fd: Out: the region
 * @reserved: In: 0
 *
 * EINVAL the client's side; ENOENT no such living region is attached; EBADE the
 * client claims memory that is not its own.
 */
struct vine_import {
	__u32 size;
	__u32 flags;
	__u64 id;
	__u64 bytes;
	__s32 fd;
	__u32 reserved;
};

/* One message. @len: 0 to 56 bytes of @data. @reserved: 0. */
struct vine_msg {
	__u32 len;
	__u32 reserved;
	__u8 data[VINE_MSG_DATA];
};

/*
 * VINE_TRANSFER (queue): push and pull messages, and wait for some.
 *
 * Pushes what there is room for, without waiting; pulls what is there; if that is
 * less than @pull_min, waits for more until @deadline (O_NONBLOCK: does not wait).
 * When anything was pushed or pulled the call gives 0, and the counts say how much;
 * only without any progress does it give an error.
 *
 * @size: In
 * @flags: In: 0
 * @push: In: user address of struct vine_msg[]
 * @pull: In: user address of struct vine_msg[]
 * @push_count: In: messages at @push; Out: how many of them were pushed
 * @pull_count: In: room at @pull; Out: how many were pulled
 * @pull_min: In: how many to wait for, at most @pull_count
 * @reserved: In: 0
 * @deadline: In: how long to wait for them
 *
 * EINVAL counts; EMSGSIZE a message is longer than 56 bytes (those before it are
 * pushed); EAGAIN no room, or nothing there, and not to wait; ETIMEDOUT nothing
 * came; ENOTCONN not accepted yet; ECONNREFUSED it was refused; EPIPE the other
 * side is gone, and everything that it had sent was pulled; EIO it did something
 * impossible: the queue is broken for good.
 */
struct vine_transfer {
	__u32 size;
	__u32 flags;
	__u64 push;
	__u64 pull;
	__u32 push_count;
	__u32 pull_count;
	__u32 pull_min;
	__u32 reserved;
	__u64 deadline;
};

/*
 * poll() on a queue: EPOLLIN a message is there, or the other side is gone;
 * EPOLLOUT there is room (after VINE_CONNECT: it is accepted); EPOLLHUP the other
 * side is gone, or has refused; EPOLLERR the queue is broken, or the device gone.
 * On a listener: EPOLLIN a connection waits.
 */

/* Without sizes: each structure carries its own. */
#define VINE_IOC	'v'
#define VINE_INFO	_IO(VINE_IOC, 0x40)
#define VINE_SERVICES	_IO(VINE_IOC, 0x41)
#define VINE_LISTEN	_IO(VINE_IOC, 0x42)
#define VINE_ACCEPT	_IO(VINE_IOC, 0x43)
#define VINE_CONNECT	_IO(VINE_IOC, 0x44)
#define VINE_REGION	_IO(VINE_IOC, 0x45)
#define VINE_ATTACH	_IO(VINE_IOC, 0x46)
#define VINE_IMPORT	_IO(VINE_IOC, 0x47)
#define VINE_TRANSFER	_IO(VINE_IOC, 0x48)

#endif /* _UAPI_LINUX_VINE_H */
