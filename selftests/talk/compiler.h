/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * compiler.h - what a test and its compiler tell each other
 */
#ifndef COMPILER_H
#define COMPILER_H

#include <stdint.h>

/*
 * In its environment. COMPILER_BROKEN: it cannot do its work, for this reason. COMPILER_SLEEPS: the
 * address of a uint32_t that they share: it becomes 1 when the compiler is asked, which then never
 * answers.
 */

/* in 0 of the source "see" is a process of the same user, its number as others see it; out 0: */
struct compiler_facts {
	uint32_t uid;
	uint32_t pid;		/* as others see it */
	uint32_t compiled;	/* how often, in this process */
	uint32_t files;		/* in /tmp */
	uint32_t can_write_tmp;	/* it has left one more there */
	uint32_t can_write;	/* elsewhere */
	uint32_t has_network;	/* an interface that is up */
	uint32_t can_fork;
	uint32_t can_reach;	/* a bit for each way to do something to the process that in 0 names */
	uint32_t home_is_tmp;
	uint32_t shared;	/* files in /run and /dev/shm */
};

#endif /* COMPILER_H */
