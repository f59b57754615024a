/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compat.h - what older kernels lack; the driver is written for the newest
 */
#ifndef VINE_COMPAT_H
#define VINE_COMPAT_H

#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
/* backported to some 6.1 stable releases under the same name */
#define vm_flags_set(vma, flags)	((vma)->vm_flags |= (flags))
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
static inline void vine_hrtimer_setup(struct hrtimer *timer,
				      enum hrtimer_restart (*fn)(struct hrtimer *),
				      clockid_t clock, enum hrtimer_mode mode)
{
	hrtimer_init(timer, clock, mode);
	timer->function = fn;
}

#define hrtimer_setup vine_hrtimer_setup
#endif

#endif /* VINE_COMPAT_H */
