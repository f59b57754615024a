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
	uint64_t what;		/* to do: enum uploaded_what */
	uint32_t victim;	/* a process that it should not reach */
	uint32_t no_landlock;	/* the kernel has none: files cannot be kept from it */
};

enum uploaded_what {
	UPLOADED_LOOK,		/* says what it sees */
	UPLOADED_CRASH,
	UPLOADED_ABORT,
	UPLOADED_FORGE,		/* answers for itself, and goes on */
	UPLOADED_TRY,		/* says what it can do */
};

/* out 0 */
struct uploaded_facts {
	uint32_t uid, pid;
	uint32_t fds;		/* open descriptors */
	uint32_t forks;		/* it can make processes */
	uint32_t own_clock;	/* the C library knows its thread's number: its clock is there */
	int32_t sees;		/* how often it found the secret; -1: it could not look */
	uint32_t environment;	/* strings */
	char did[120];		/* UPLOADED_TRY: names of what it could do, and should not */
};

#endif /* UPLOADED_H */
