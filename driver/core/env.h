/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * env.h - all that the core needs from its surroundings
 *
 * Atomics and barriers here hold between machines, not only between the CPUs of
 * this one. A kernel that booted with one CPU strips the lock prefix from
 * cmpxchg() and set_bit() and turns smp_mb() into barrier(); virt_*(), xchg() and
 * sync_*() keep theirs (asm-generic/barrier.h, arch/x86/include/asm/alternative.h).
 * A read-modify-write that takes place is a full barrier.
 */
#ifndef VINE_CORE_ENV_H
#define VINE_CORE_ENV_H

#ifdef __KERNEL__

#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/cache.h>
#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/nospec.h>
#include <linux/random.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/types.h>
#include <asm/barrier.h>
#include <asm/sync_bitops.h>

/* The full barrier; each use names its pair. */
static inline void vine_mb(void)
{
	virt_mb();	/* see the caller */
}

static inline u64 vine_ld64(const __le64 *p)
{
	return le64_to_cpu(READ_ONCE(*p));
}

static inline u64 vine_ld64_acquire(const __le64 *p)
{
	return le64_to_cpu(virt_load_acquire(p));	/* see the caller */
}

static inline void vine_st64(__le64 *p, u64 v)
{
	WRITE_ONCE(*p, cpu_to_le64(v));
}

static inline void vine_st64_release(__le64 *p, u64 v)
{
	virt_store_release(p, cpu_to_le64(v));	/* see the caller */
}

static inline u64 vine_xchg64(__le64 *p, u64 v)
{
	return le64_to_cpu((__force __le64)xchg((__force u64 *)p,
						(__force u64)cpu_to_le64(v)));
}

/* Returns what was there: @old when the exchange took place. */
static inline u64 vine_cas64(__le64 *p, u64 old, u64 new)
{
	return le64_to_cpu((__force __le64)sync_cmpxchg((__force u64 *)p,
							(__force u64)cpu_to_le64(old),
							(__force u64)cpu_to_le64(new)));
}

static inline u32 vine_cas32(__le32 *p, u32 old, u32 new)
{
	return le32_to_cpu((__force __le32)sync_cmpxchg((__force u32 *)p,
							(__force u32)cpu_to_le32(old),
							(__force u32)cpu_to_le32(new)));
}

static inline u32 vine_ld32(const __le32 *p)
{
	return le32_to_cpu(READ_ONCE(*p));
}

static inline u32 vine_ld32_acquire(const __le32 *p)
{
	return le32_to_cpu(virt_load_acquire(p));	/* see the caller */
}

static inline void vine_set_bit64(__le64 *p, unsigned int bit)
{
	sync_set_bit(bit, (__force unsigned long *)p);
#ifdef CONFIG_ARM64
	virt_mb();	/* sync_set_bit() is unordered there */
#endif
}

static inline unsigned int vine_lowest_bit(u64 v)
{
	return __ffs64(v);
}

static inline u64 vine_random64(void)
{
	return get_random_u64();
}

#define vine_nospec(i, n)	array_index_nospec(i, n)

/* Private to one attachment; taken in process context only. */
struct vine_lock {
	spinlock_t lock;
};

#define vine_lock_init(l)	spin_lock_init(&(l)->lock)
#define vine_lock(l)		spin_lock(&(l)->lock)
#define vine_unlock(l)		spin_unlock(&(l)->lock)

#else /* user space */

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <linux/types.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__ || __SIZEOF_POINTER__ != 8
#error "vine runs on 64-bit little-endian machines only"
#endif

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#define READ_ONCE(x)	__atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v)	__atomic_store_n(&(x), v, __ATOMIC_RELAXED)
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define min_t(type, a, b)	((type)(a) < (type)(b) ? (type)(a) : (type)(b))
#define vine_nospec(i, n)	(i)

static inline void vine_mb(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* On arm64 a seq_cst read-modify-write does not order what stands around it. */
static inline void vine_rmw_mb(void)
{
#ifndef __x86_64__
	vine_mb();
#endif
}

static inline u64 vine_ld64(const __le64 *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline u64 vine_ld64_acquire(const __le64 *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline void vine_st64(__le64 *p, u64 v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static inline void vine_st64_release(__le64 *p, u64 v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static inline u64 vine_xchg64(__le64 *p, u64 v)
{
	vine_rmw_mb();
	v = __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);
	vine_rmw_mb();
	return v;
}

static inline u64 vine_cas64(__le64 *p, u64 old, u64 new)
{
	__le64 o = old;

	vine_rmw_mb();
	__atomic_compare_exchange_n(p, &o, new, false, __ATOMIC_SEQ_CST,
				    __ATOMIC_SEQ_CST);
	vine_rmw_mb();
	return o;
}

static inline u32 vine_cas32(__le32 *p, u32 old, u32 new)
{
	__le32 o = old;

	vine_rmw_mb();
	__atomic_compare_exchange_n(p, &o, new, false, __ATOMIC_SEQ_CST,
				    __ATOMIC_SEQ_CST);
	vine_rmw_mb();
	return o;
}

static inline u32 vine_ld32(const __le32 *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline u32 vine_ld32_acquire(const __le32 *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline void vine_set_bit64(__le64 *p, unsigned int bit)
{
	vine_rmw_mb();
	(void)__atomic_fetch_or(p, 1ULL << bit, __ATOMIC_SEQ_CST);
	vine_rmw_mb();
}

static inline unsigned int vine_lowest_bit(u64 v)
{
	return (unsigned int)__builtin_ctzll(v);
}

static inline u64 vine_random64(void)
{
	u64 v;

	if (getrandom(&v, sizeof(v), 0) != sizeof(v))
		abort();
	return v;
}

struct vine_lock {
	pthread_mutex_t lock;
};

#define vine_lock_init(l)	pthread_mutex_init(&(l)->lock, NULL)
#define vine_lock(l)		pthread_mutex_lock(&(l)->lock)
#define vine_unlock(l)		pthread_mutex_unlock(&(l)->lock)

#endif /* __KERNEL__ */

#endif /* VINE_CORE_ENV_H */
