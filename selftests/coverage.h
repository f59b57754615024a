/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * coverage.h - included before each file that is compiled with COVERAGE=1
 *
 * gcov's counters are written by exit(). A worker of the appliance does not come to that: it
 * is killed in the end; nor does who ends by a signal. So the library writes them with _exit()
 * and raise() too, and with what a worker sends: the first few times, for it is slow.
 */
#if defined(VINE_TRACER) && !defined(__cplusplus)
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

void __gcov_dump(void);
void __gcov_reset(void);

static inline void coverage_write(void)
{
	static unsigned int times;

	if (times++ > 8)
		return;
	__gcov_dump();
	__gcov_reset();
}

#define _exit(status)	(coverage_write(), (_exit)(status))
#define raise(sig)	(coverage_write(), (raise)(sig))
#define send(...)	(coverage_write(), (send)(__VA_ARGS__))
#endif
