/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * hook.h - each access of the core to the segment calls vine_step() before it
 *
 * Words by ../unit/step.h; here the bytes of names, which are read one by one.
 */
#ifndef HOOK_H
#define HOOK_H

#include "../unit/step.h"

/* As vine_step(); what is not in the segment is private, and no business of its. */
void vine_step_byte(const void *p, bool write);

#undef READ_ONCE
#define READ_ONCE(x)							\
	(vine_step_byte(&(x), false), __atomic_load_n(&(x), __ATOMIC_RELAXED))
#undef WRITE_ONCE
#define WRITE_ONCE(x, v)						\
	(vine_step_byte(&(x), true), __atomic_store_n(&(x), v, __ATOMIC_RELAXED))

#endif /* HOOK_H */
