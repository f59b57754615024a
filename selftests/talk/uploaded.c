// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * uploaded.c - a procedure that a test uploads: it says who it is and what it can see, or
 *              crashes
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <vine_serve.h>

#include "serve/work.h"
#include "uploaded.h"

static unsigned int count_fds(void)
{
	unsigned int n = 0;
	int fd;

	for (fd = 0; fd < 4096; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static int can_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid > 0;
}

static int may_read(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static int has_clock(void)
{
	clockid_t clock;

	/* how the kernel names a thread's clock; not every kernel has them (POSIX_TIMERS) */
	return !pthread_getcpuclockid(pthread_self(), &clock) &&
		clock == (clockid_t)(~(unsigned int)gettid() << 3 | 6);
}

/* Whether the inverse of @secret is anywhere in this process's memory. */
__attribute__((no_sanitize("address", "thread", "undefined")))
static int sees(const uint64_t secret[2])
{
	char line[256], access[8];
	unsigned long from, to;
	const uint64_t *p;
	int found = 0;
	FILE *f = fopen("/proc/self/maps", "re");

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		/* not vvar and its like; the sanitizers' shadow is terabytes */
		if (sscanf(line, "%lx-%lx %7s", &from, &to, access) != 3 || access[0] != 'r' ||
		    access[1] != 'w' || to - from > 1UL << 30)
			continue;
		for (p = (const uint64_t *)from; p + 1 < (const uint64_t *)to; p++)
			found += p[0] == ~secret[0] && p[1] == ~secret[1];
	}
	fclose(f);
	return found;
}

/* What should be refused. */
static void try_all(char did[120], pid_t victim, int no_landlock)
{
	const struct iovec v = { did, 1 };
	void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct rlimit more = { RLIM_INFINITY, RLIM_INFINITY };
	const struct {
		const char *name;
		int done;
	} tries[] = {
		{ "kill", kill(victim, 0) == 0 },
		{ "tgkill", syscall(SYS_tgkill, victim, victim, 0) == 0 },
		{ "group", kill(0, 0) == 0 },
		{ "ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0) == 0 },
		{ "process_vm", process_vm_readv(getpid(), &v, 1, &v, 1, 0) == 1 },
		{ "pidfd", syscall(SYS_pidfd_open, getpid(), 0) >= 0 },
		{ "socket", socket(AF_UNIX, SOCK_STREAM, 0) >= 0 },
		{ "inet", socket(AF_INET, SOCK_DGRAM, 0) >= 0 },
		{ "exec", execl("/proc/self/exe", "x", NULL) == 0 || errno != EPERM },
		{ "unshare", unshare(CLONE_NEWUSER) == 0 },
		{ "memfd", memfd_create("x", 0) >= 0 },
		{ "shm", shmget(IPC_PRIVATE, 4096, 0600) >= 0 },
		{ "memory", mmap(NULL, 3UL << 29, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) !=
			    MAP_FAILED },
		{ "mremap", mremap(page, 4096, 8192, MREMAP_MAYMOVE) != MAP_FAILED },
		{ "owner", fcntl(0, F_SETOWN, getpid()) == 0 },
		{ "limits", setrlimit(RLIMIT_CORE, &more) == 0 },
		{ "create", open("/tmp/vine-uploaded", O_CREAT | O_RDWR, 0600) >= 0 },
		{ "write", open("/dev/null", O_WRONLY) >= 0 },
		{ "io_uring", syscall(SYS_io_uring_setup, 1, NULL) >= 0 || errno != EPERM },
		{ "keyctl", syscall(SYS_keyctl, 0, -3, 0) >= 0 },
		{ "bpf", syscall(SYS_bpf, 0, NULL, 0) >= 0 || errno != EPERM },
		{ "mount", mount("x", "/tmp", "tmpfs", 0, NULL) == 0 || errno != EPERM },
		{ "prctl", prctl(PR_SET_DUMPABLE, 1) == 0 },
		{ "file", may_read("/etc/passwd") && !no_landlock },
	};
	unsigned int i;

	for (i = 0; i < sizeof(tries) / sizeof(tries[0]); i++)
		if (tries[i].done && strlen(did) + strlen(tries[i].name) + 2 < 120)
			strcat(strcat(did, " "), tries[i].name);
}

/* What the appliance takes for an answer, on the only socket there is. */
static void forge(void)
{
	struct work_done done = { .serial = 1 };
	struct timespec t;
	int fd;

	clock_gettime(CLOCK_MONOTONIC, &t);
	done.started = done.ended = t.tv_sec * 1000000000ULL + t.tv_nsec;
	for (fd = 3; fd < 64; fd++)
		if (send(fd, &done, sizeof(done), MSG_NOSIGNAL) > 0)
			break;
	for (;;)
		pause();
}

__attribute__((visibility("default")))
int vine_procedure(const struct vine_call *call)
{
	const struct uploaded_order *order = call->in[0].address;
	struct uploaded_facts facts;

	if (call->in[0].size < sizeof(*order) || call->out[0].size < sizeof(facts))
		return 1;
	if (order->what == UPLOADED_CRASH)
		__builtin_trap();
	if (order->what == UPLOADED_ABORT)
		abort();
	if (order->what == UPLOADED_FORGE)
		forge();
	facts = (struct uploaded_facts){
		.uid = getuid(), .pid = getpid(), .fds = count_fds(), .forks = can_fork(),
		.own_clock = has_clock(), .sees = sees(order->secret),
		.environment = environ && *environ,
	};
	if (order->what == UPLOADED_TRY)
		try_all(facts.did, order->victim, order->no_landlock);
	memcpy(call->out[0].address, &facts, sizeof(facts));
	return 0;
}
