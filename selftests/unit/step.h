/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * step.h - a hook before every access of the core to the segment
 *
 * Compiled with `-include step.h`, the core (and the ring code in the test) calls
 * vine_step() before each access. So a test can stop a peer at any one of them: to
 * let another peer do something just there, or to let it die there. Deterministic,
 * on one thread. Loads that find zero are not stops: tables are mostly empty.
 */
#ifndef STEP_H
#define STEP_H

#include <env.h>

void vine_step(const void *p, u64 now, bool write);

#define STEP(p, ld, write, call)	(vine_step(p, ld(p), write), call)

static inline u64 step_ld64(const __le64 *p)
{
	return vine_ld64(p);
}

static inline u64 step_ld32(const __le32 *p)
{
	return vine_ld32(p);
}

#define vine_ld32(p)		STEP(p, step_ld32, false, vine_ld32(p))
#define vine_ld32_acquire(p)	STEP(p, step_ld32, false, vine_ld32_acquire(p))
#define vine_cas32(p, o, n)	STEP(p, step_ld32, true, vine_cas32(p, o, n))
#define vine_ld64(p)		STEP(p, step_ld64, false, vine_ld64(p))
#define vine_ld64_acquire(p)	STEP(p, step_ld64, false, vine_ld64_acquire(p))
#define vine_st64(p, v)		STEP(p, step_ld64, true, vine_st64(p, v))
#define vine_st64_release(p, v)	STEP(p, step_ld64, true, vine_st64_release(p, v))
#define vine_xchg64(p, v)	STEP(p, step_ld64, true, vine_xchg64(p, v))
#define vine_cas64(p, o, n)	STEP(p, step_ld64, true, vine_cas64(p, o, n))
#define vine_set_bit64(p, b)	STEP(p, step_ld64, true, vine_set_bit64(p, b))

#endif /* STEP_H */
