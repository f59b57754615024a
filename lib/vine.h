/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * vine.h - libvine: the calls of /dev/vineN as C functions, one to one
 *
 * <linux/vine.h> says what each call does; this page says how it looks from C. An endpoint
 * of this process, on a mapped file, has the same calls and no device: see vine_open().
 *
 * Return values, as in liburing: a descriptor, a count or 0 when it went well, and
 * -errno when not. errno itself means nothing afterwards. The errors listed at each
 * function are those with a meaning of its own; every call on a descriptor may also
 * give -EINVAL, -ENOTTY, -EOPNOTSUPP, -ENODEV, -ENOTCONN, -ENOMEM, -EMFILE, -ENFILE
 * and -EFAULT, as <linux/vine.h> says, and -EINTR where it says that it blocks.
 *
 * Ownership: the caller owns every descriptor it gets, and ends it with vine_close(). All
 * are close-on-exec. Pointers are used during the call only, and none are kept.
 *
 * Threads: every function may be called by any thread at any time, also on one descriptor;
 * what the caller's pointers lead to must not be used by two calls at once. For devices the
 * library has no state of its own. Each endpoint has a thread or two. Calls on endpoints take
 * mutexes: none of them in signal handlers. A thread that blocks SIGBUS dies when the file is
 * truncated; a bad pointer is SIGSEGV, not -EFAULT; a signal in the first 50 us of a wait may
 * not end it.
 *
 * fork(): devices' descriptors are the child's too. Those of endpoints are nothing there:
 * calls give -EBADF, -ENOTTY or -ENODEV, and mappings of their regions are missing.
 *
 * Structures: the library fills in @size (and @flags, unless they are said to be In).
 *
 * C++: the functions have the names of the structures, so write "struct vine_info".
 */
#ifndef VINE_H
#define VINE_H

#include <stdint.h>

#include <linux/vine.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * vine_open - open a device, or make an endpoint of this process
 *
 * @path: In: the node, or the name of an endpoint: "shm:NAME" (shm_open(3)), "shm:/path" (a
 *        file) or "server:/socket" (vine-server), and options after a "?", joined by "&":
 *        "off=BYTES" (a multiple of 64K), "size=BYTES" (of 4K, 8M at least; a missing file is
 *        made), "trunc=1" (begin anew); with "server:" only the first.
 *        NULL: $VINE_DEVICE (not for set-user-ID programs), or /dev/vine0
 *
 * Returns a device descriptor. Of a device, else what open(2) gives: -ENOENT there is no
 * such node, -EACCES it is not yours. It is not checked that the node is vine's; -ENOTTY
 * from vine_info() says that it is not. Does not block.
 *
 * Of an endpoint: -EINVAL the name; -ENOENT there is no such file or socket; -EACCES, and
 * others of open(2); -ENOSPC it has less than 8 MiB, or its file system is full; -EUCLEAN it
 * holds somebody else's data; -EPROTONOSUPPORT another version's; -EFBIG it was made larger
 * than what is there, or is damaged; -EUSERS all 64 peer slots are taken; -EBUSY somebody
 * lives in what is to be truncated, or another segment shares bytes with this one, or it
 * is being truncated; -EOPNOTSUPP it is on hugetlbfs; -ENOLCK, and others of fcntl(2), its
 * bytes cannot be locked; -ECONNREFUSED no server listens; -ETIMEDOUT the server is silent;
 * -EPROTO it refuses, or speaks another protocol; -EADDRINUSE it was started anew, and gives
 * out the ID of a process that lives. May take seconds with "trunc=1" or a server, and up to
 * 5 s for each of the others who truncate or begin in the same file just then; else a few
 * milliseconds. Documentation/host.md says how endpoints work.
 */
int vine_open(const char *path);

/*
 * vine_why - why an endpoint could not be opened: a sentence, for people
 *
 * Returns what was wrong in this thread's last vine_open() of an endpoint; "" when it went well,
 * or there was none. It is the library's, and the same until the next one. Does not block.
 */
const char *vine_why(void);

/*
 * vine_info - what a device is, and how full
 *
 * @device: from vine_open()
 * @info: Out: everything; what an older kernel does not know is zero
 *
 * Returns 0. Does not block.
 */
int vine_info(int device, struct vine_info *info);

/*
 * vine_services - what can be connected to
 *
 * @device: from vine_open()
 * @array: Out: the first of them; may be NULL when @room is 0
 * @room: In: structures that @array has room for
 *
 * Returns how many there are, which may be more than @room. They come and go: a second
 * call can give another number. Does not block.
 */
int vine_services(int device, struct vine_service *array, unsigned int room);

/*
 * vine_query - what the tables of the segment say, entry by entry
 *
 * @device: from vine_open()
 * @what: In: VINE_QUERY_PEERS, _SERVICES, _QUEUES or _REGIONS
 * @array: Out: the first of them: struct vine_query_peer[] and so on; may be NULL when
 *         @room is 0
 * @room: In: structures that @array has room for
 *
 * Returns how many there are, which may be more than @room. They come and go: a second
 * call can give another number. Of a device, only what is the caller's own is told without
 * CAP_SYS_ADMIN, see <linux/vine.h>; of an endpoint everything is, but of processes only this
 * one. -EINVAL there is no such @what. Does not block.
 */
int vine_query(int device, unsigned int what, void *array, unsigned int room);

/*
 * vine_bury - declare a silent peer gone, so that what it had is free again
 *
 * @device: from vine_open()
 * @peer, @incarnation: In: who, from vine_query()
 *
 * For administrators who know that its machine is dead: one that is merely paused goes
 * on writing when it wakes. Returns 0. -EPERM without CAP_SYS_ADMIN, or of an
 * endpoint: for others than root and who owns the file; -ENOENT there is no such peer (any
 * more); -EBUSY it is not known to be silent, or it is ourselves, or, of an endpoint, a
 * process of this host that lives. Does not block.
 */
int vine_bury(int device, unsigned int peer, unsigned int incarnation);

/*
 * vine_listen - offer a service
 *
 * @device: from vine_open()
 * @name: In: 1 to 31 bytes
 * @type: In: any number; VineTalk's accelerator type
 * @flags: In: VINE_NONBLOCK (the listener has O_NONBLOCK) or 0
 *
 * Returns a listener. Closing it withdraws the service; its queues live on. -EINVAL the
 * name; -EADDRINUSE this machine offers that name already; -ENOSPC the segment has no
 * free entry. Does not block.
 */
int vine_listen(int device, const char *name, uint64_t type, unsigned int flags);

/*
 * vine_accept - take the next connection
 *
 * @listener: from vine_listen()
 * @flags: In: VINE_NONBLOCK (the queue has O_NONBLOCK) or 0
 * @deadline: In: see vine_deadline_ms()
 * @out: Out: @depth, and whose connection it is; NULL: not wanted. Unchanged on error
 *
 * Returns a queue (the server's side). Blocks until @deadline, unless the listener has
 * O_NONBLOCK. -EAGAIN (not to wait), -ETIMEDOUT nobody came.
 */
int vine_accept(int listener, unsigned int flags, uint64_t deadline, struct vine_accept *out);

/*
 * vine_connect - make a queue to a service, by its name
 * vine_connect_id - the same, by an id from vine_services()
 *
 * @device: from vine_open()
 * @name: In: 1 to 31 bytes; @id: In: not 0
 * @depth: In: messages that each of the two rings holds: a power of two, 2 to 4096
 * @flags: In: VINE_NONBLOCK: return at once, see <linux/vine.h>; VINE_WAIT_SERVICE: if
 *         there is no such service, wait for it; or 0
 * @deadline: In: until when it must be accepted; see vine_deadline_ms()
 * @out: Out: who serves it; NULL: not wanted. Unchanged on error
 *
 * Returns a queue (the client's side). Blocks until @deadline, unless VINE_NONBLOCK is
 * given. -EINVAL name, id or depth; -ENOENT there is no such service; -ECONNREFUSED it
 * was withdrawn, or its machine died; -EAGAIN (deadline 0), -ETIMEDOUT it has not
 * accepted; -ENOSPC the segment has no free queue, region or chunk.
 */
int vine_connect(int device, const char *name, unsigned int depth, unsigned int flags,
		 uint64_t deadline, struct vine_connect *out);
int vine_connect_id(int device, uint64_t id, unsigned int depth, unsigned int flags,
		    uint64_t deadline, struct vine_connect *out);

/*
 * vine_region - shared memory for bulk data, zeroed
 *
 * @device: from vine_open()
 * @bytes: In: how much, not 0
 * @rounded: Out: how much it became, in whole chunks; NULL: not wanted. Unchanged on
 *           error
 *
 * Returns a region. It lives as long as its descriptor and its mappings; of an endpoint, those
 * of this process by vine_map(): others that were given the descriptor unmap it before.
 * -EINVAL no bytes; -ENOSPC no run of free chunks is that long, or no free entry; of an endpoint
 * also when its file system is full, and -EACCES or -ENOENT after setuid() or chroot(): the file
 * is opened again through /proc, as vine_import() does. Does not wait for anybody, but zeroes the
 * memory, and that takes its time.
 */
int vine_region(int device, uint64_t bytes, uint64_t *rounded);

/*
 * vine_attach - let a server import one of our regions
 *
 * @queue: from vine_connect()
 * @region: from vine_region(), of the same device
 * @id: Out: the region's name, for messages. Unchanged on error
 *
 * Returns 0. A queue has up to 48. -EBADF @region is no descriptor; -EINVAL it is not
 * such a region, or @queue is the server's side; -ENOSPC too many are attached; -EPIPE
 * the other side is gone. Does not block.
 */
int vine_attach(int queue, int region, uint64_t *id);

/*
 * vine_import - a region that a client has attached
 *
 * @queue: from vine_accept()
 * @id: In: what the client's vine_attach() gave it
 * @bytes: Out: what can be mapped; NULL: not wanted. Unchanged on error
 *
 * Returns a region, another one each time, which outlives the queue and the client, and lasts
 * as long as its descriptors and mappings in all processes. An endpoint that was taken for dead
 * gives -ENOTCONN from every call until the last of its imports is closed and unmapped.
 * -EINVAL @queue is the client's side; -ENOENT no such living region is attached; -EBADE
 * the client claims memory that is not its own; of an endpoint -EACCES, -ENOENT as vine_region().
 * Does not block.
 */
int vine_import(int queue, uint64_t id, uint64_t *bytes);

/*
 * vine_transfer - push messages, pull messages and wait for some, all in one call
 *
 * @queue: from vine_connect() or vine_accept()
 * @transfer: In: @push, @push_count, @pull, @pull_count, @pull_min, @deadline, @flags;
 *            Out: @push_count and @pull_count. An address is given as
 *            (uint64_t)(uintptr_t)pointer
 *
 * Returns 0 when anything was pushed or pulled: the counts say how much. Pushing never
 * blocks; pulling blocks until @pull_min messages are there or @deadline has come,
 * unless the queue has O_NONBLOCK. Without any progress: -EAGAIN no room, or nothing
 * there, and not to wait; -ETIMEDOUT nothing came; -EMSGSIZE a message is longer than
 * 56 bytes; -ENOTCONN, -ECONNREFUSED not accepted yet, or refused; -EPIPE the other side
 * is gone, and all that it had sent was pulled; -EIO it did something impossible: the
 * queue is broken for good.
 *
 * An endpoint's queue polls as a device's, with two exceptions. After a call that waited and
 * got messages, IN may be there when nothing is, and edges may be missing, until one that does
 * not wait (@pull_min or @deadline 0) has said what there is. OUT stays until a push has
 * found no room.
 */
int vine_transfer(int queue, struct vine_transfer *transfer);

/*
 * vine_push - push messages, without waiting
 *
 * @queue: from vine_connect() or vine_accept()
 * @msgs: In: @n messages
 *
 * Returns how many of them were pushed: fewer than @n when the ring has become full, or
 * before one that is longer than 56 bytes. Errors as in vine_transfer(): -EAGAIN there
 * is no room.
 */
int vine_push(int queue, const struct vine_msg *msgs, unsigned int n);

/*
 * vine_pull - pull messages, and wait for some
 *
 * @queue: from vine_connect() or vine_accept()
 * @msgs: Out: room for @room messages
 * @min: In: how many to wait for, at most @room; 0 does not wait
 * @deadline: In: how long to wait for them; see vine_deadline_ms()
 *
 * Returns how many were pulled: fewer than @min when the deadline came, or a signal, or
 * the other side went. Errors as in vine_transfer(): -EAGAIN nothing is there, and not to
 * wait; -ETIMEDOUT nothing came.
 */
int vine_pull(int queue, struct vine_msg *msgs, unsigned int room, unsigned int min,
	      uint64_t deadline);

/*
 * vine_close - end a descriptor of any kind
 *
 * @descriptor: from any of these functions
 *
 * Returns 0, or -EBADF. Of a device's descriptors close(2) does the same; of an endpoint's it
 * does not. An endpoint ends with its last descriptor and mapping: then its threads are waited
 * for. Does not block otherwise.
 */
int vine_close(int descriptor);

/*
 * vine_deadline_ms - a deadline that many milliseconds from now
 *
 * @ms: In: 0: do not wait; negative: VINE_FOREVER, no end
 *
 * Returns nanoseconds of CLOCK_MONOTONIC, for the functions above. Cannot fail.
 */
uint64_t vine_deadline_ms(int ms);

/*
 * vine_map - map a region, readable and writable
 *
 * @region: from vine_region() or vine_import()
 * @bytes: In: how much, from its beginning: at most what those two said
 * @address: Out: where. Unchanged on error
 *
 * Returns 0. The caller owns the mapping, ends it with vine_unmap(), and may close the
 * region's descriptor before. Errors are mmap(2)'s: -EINVAL too much. Does not block.
 */
int vine_map(int region, uint64_t bytes, void **address);

/*
 * vine_unmap - end a mapping, all of it
 *
 * @address, @bytes: In: as vine_map() gave it, and was asked for
 *
 * Returns 0, or -EINVAL. Blocks no more than vine_close(). Of a device's regions munmap(2) does
 * the same; of an endpoint's it does not.
 */
int vine_unmap(void *address, uint64_t bytes);

#ifdef __cplusplus
}
#endif

#endif /* VINE_H */
