/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * waiting.h - how waits wait: make WAIT=
 */
#ifndef WAITING_H
#define WAITING_H

enum {
	WAIT_ADAPTIVE,		/* spin for about as long as a sleep would cost, then sleep */
	WAIT_SPIN,
	WAIT_SLEEP,
};

#ifndef VINE_WAIT
#define VINE_WAIT WAIT_ADAPTIVE
#endif

#endif /* WAITING_H */
