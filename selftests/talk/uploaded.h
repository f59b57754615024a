/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * uploaded.h - what a test and the code that it uploads tell each other
 */
#ifndef UPLOADED_H
#define UPLOADED_H

#include <stdint.h>

/* in 0 */
struct uploaded_order {
	uint64_t secret[2];	/* inverted: something to look for */
	uint64_t crash;
};

/* out 0 */
struct uploaded_facts {
	uint32_t uid, pid;
	uint32_t fds;		/* open descriptors */
	uint32_t forks;		/* it can make processes */
	uint32_t own_clock;	/* the C library knows its thread's number: its clock is there */
	int32_t sees;		/* how often it found the secret; -1: it could not look */
};

#endif /* UPLOADED_H */
