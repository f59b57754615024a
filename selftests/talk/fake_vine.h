/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * fake_vine.h - the calls of vine.h without a device, for native tests
 *
 * Link fake_vine.c in place of lib/vine.c. A "device" is any file or folder that exists
 * ($VINE_DEVICE, or /tmp): all processes of this machine that open the same one are
 * connected with each other, as on loopback. Queues are SEQPACKET sockets, services
 * abstract addresses, regions memfds: so their lives, poll() and death are the kernel's.
 *
 * What differs from a device:
 *  - a ring holds about as many messages as asked for, at least ten, and poll() says
 *    EPOLLOUT only when it is three quarters empty
 *  - VINE_ATTACH does not count (48), and a region can be imported as long as the descriptor
 *    that was attached is open, whatever queue it was attached to
 *  - vine_info() counts nothing
 */
#ifndef FAKE_VINE_H
#define FAKE_VINE_H

#include <stdatomic.h>

#define FAKE_VINE_SEGMENT	(1ULL << 30)	/* no region is larger */
#define FAKE_VINE_CHUNK		(1ULL << 16)

/*
 * When not 0, accept, transfer and import give it, negative, in this process: -ENOTCONN, which
 * ends with the next vine_listen(), or -ENODEV, which a device gives as well, and which ends
 * when one is opened. May be set by a signal handler.
 */
extern atomic_int fake_vine_error;

/* What connections of this process are accepted as: their peer. */
extern atomic_uint fake_vine_machine;

#endif /* FAKE_VINE_H */
