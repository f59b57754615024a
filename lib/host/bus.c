// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * bus.c - SIGBUS: the file has become shorter under a mapping
 */
#include "host/endpoint.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_RANGES	65536

/* Zeroed memory of the process's own. Not by mmap(), which TSan takes for a write to it. */
bool host_replace(void *address, uint64_t bytes)
{
	return syscall(SYS_mmap, address, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != -1;
}

/*
 * Ranges that are watched, for a signal handler: no lock, no memory that goes. A place is
 * free when its end is 0.
 */
static struct range {
	atomic_uintptr_t first, end;
	_Atomic(struct host_segment *) segment;
} *ranges;
static atomic_uint range_count;	/* places that were ever used */
static pthread_mutex_t range_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction before;

/*
 * The file has become shorter under a mapping of ours: memory of its own takes the page's
 * place, so that whoever touches it goes on, and the endpoint is dead.
 */
static void bus_error(int number, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr, page = sysconf(_SC_PAGESIZE);
	unsigned int i, n = atomic_load(&range_count);
	struct host_segment *s;
	int saved = errno;

	for (i = 0; i < n && info->si_code > 0; i++) {
		if (at < atomic_load(&ranges[i].first) || at >= atomic_load(&ranges[i].end))
			continue;
		s = atomic_load(&ranges[i].segment);
		atomic_store(&s->dead, true);	/* before others can find the zeroes there */
		if (!host_replace((void *)(at & ~(page - 1)), page))
			break;
		errno = saved;
		return;
	}
	errno = saved;
	if (before.sa_flags & SA_SIGINFO) {
		before.sa_sigaction(number, info, context);
	} else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
		signal(number, SIG_DFL);	/* it comes again */
		if (info->si_code <= 0)		/* somebody has sent it */
			raise(number);
	} else {
		before.sa_handler(number);
	}
}

static void watch_bus_errors(void)
{
	struct sigaction action = { .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };

	action.sa_sigaction = bus_error;
	sigaction(SIGBUS, &action, &before);
}

int host_guard(void *address, uint64_t bytes, struct host_segment *s)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	unsigned int i, n;
	void *room;

	pthread_mutex_lock(&range_lock);
	if (!ranges) {
		room = mmap(NULL, MOST_RANGES * sizeof(*ranges), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (room == MAP_FAILED) {
			pthread_mutex_unlock(&range_lock);
			return -ENOMEM;
		}
		ranges = room;
	}
	n = atomic_load(&range_count);
	for (i = 0; i < n && atomic_load(&ranges[i].end); i++)
		;
	if (i < MOST_RANGES) {
		atomic_store(&ranges[i].segment, s);
		atomic_store(&ranges[i].end, (uintptr_t)address + bytes);
		atomic_store(&ranges[i].first, (uintptr_t)address);
		if (i == n)
			atomic_store(&range_count, n + 1);
	}
	pthread_mutex_unlock(&range_lock);
	pthread_once(&once, watch_bus_errors);
	return i < MOST_RANGES ? 0 : -ENOMEM;
}

void host_unguard(void *address)
{
	unsigned int i, n;

	pthread_mutex_lock(&range_lock);
	n = atomic_load(&range_count);
	for (i = 0; i < n; i++) {
		if (atomic_load(&ranges[i].first) != (uintptr_t)address)
			continue;
		atomic_store(&ranges[i].first, UINTPTR_MAX);
		atomic_store(&ranges[i].end, 0);
		break;
	}
	pthread_mutex_unlock(&range_lock);
}

/* The child has no mapping of any. */
void host_guards_forked(void)
{
	unsigned int i, n = atomic_load(&range_count);

	for (i = 0; i < n; i++) {
		atomic_store(&ranges[i].first, UINTPTR_MAX);
		atomic_store(&ranges[i].end, 0);
	}
	pthread_mutex_init(&range_lock, NULL);
}
