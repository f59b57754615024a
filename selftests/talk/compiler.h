/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * compiler.h - what a test and its compiler tell each other
 */
#ifndef COMPILER_H
#define COMPILER_H

#include <stdint.h>

/* out 0 of the source "see" */
struct compiler_facts {
	uint32_t uid, pid;
	uint32_t compiled;	/* how often, in this process */
	uint32_t files;		/* in /tmp */
	uint32_t can_write_tmp;	/* it has left one more there */
	uint32_t can_write;	/* elsewhere */
	uint32_t has_network;	/* an interface that is up */
	uint32_t can_fork;
	uint32_t can_signal;	/* another process of its user */
	uint32_t home_is_tmp;
	uint32_t shared;	/* files in /run and /dev/shm */
};

#endif /* COMPILER_H */
