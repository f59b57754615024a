// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * sandbox.c - the process that runs uploaded code
 *
 * Code needs little: memory, its task, and the shared libraries that it was linked with. So it
 * gets a list of system calls, and no other; of files those below the folders of libraries,
 * to be read, where the kernel has Landlock; and limits. It is another user when the appliance is
 * root. There is no call left by which it could reach the network, other processes, or make
 * something that outlives it: so namespaces would add nothing, and they are dear.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "serve/work.h"

#define CODE_FILES	(TALK_BUFFERS + 32)	/* a task brings one for each buffer, and one */
#define CODE_MEMORY	(1UL << 30)		/* besides what is mapped before it is loaded */

/* ---- memory ---- */

static int limit(int resource, rlim_t most)
{
	struct rlimit l = { most, most };

	return setrlimit(resource, &l);
}

/* All address space: RLIMIT_DATA would not see what replaces other mappings. */
static int limit_memory(void)
{
	unsigned long pages;
	FILE *f = fopen("/proc/self/statm", "re");
	int n;

	if (!f)
		return -1;
	n = fscanf(f, "%lu", &pages);
	fclose(f);
	return n == 1 ? limit(RLIMIT_AS, pages * sysconf(_SC_PAGESIZE) + CODE_MEMORY) : -1;
}

/* ---- system calls ---- */

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

/* With any arguments: what they reach is the process's own, or it has had it before. */
static const uint16_t calls[] = {
	/* its task */
	SYS_recvmsg, SYS_sendto, SYS_read, SYS_write, SYS_writev, SYS_pread64, SYS_lseek,
	SYS_close, SYS_fstat, SYS_newfstatat, SYS_ppoll,
	/* memory; no mremap(), by which a region would grow into the next one of its file */
	SYS_brk, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise,
	/* time */
	SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday,
	SYS_restart_syscall, SYS_times, SYS_getrusage,
	/* itself */
	SYS_getpid, SYS_gettid, SYS_getppid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid,
	SYS_sched_yield, SYS_sched_getaffinity, SYS_getcpu, SYS_futex, SYS_getrandom, SYS_uname,
	SYS_sysinfo, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack,
	SYS_exit, SYS_exit_group,
#if defined(__x86_64__)
	SYS_time, SYS_poll, SYS_pause,
#endif
};

#define ARG(n)		offsetof(struct seccomp_data, args[n])	/* its lower half */
#define ARG_HIGH(n)	(ARG(n) + 4)
#define LOAD(what)	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, what)
#define RETURN(what)	BPF_STMT(BPF_RET | BPF_K, what)
#define ALLOW		RETURN(SECCOMP_RET_ALLOW)
#define REFUSE		RETURN(SECCOMP_RET_ERRNO | EPERM)
#define IS(value, yes, no)	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define HAS(bits, yes, no)	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, yes, no)

#define MAX_FILTER	(2 * sizeof(calls) / sizeof(calls[0]) + 64)

#ifdef ARCH

static unsigned int add(struct sock_filter *to, const struct sock_filter *what, size_t bytes)
{
	memcpy(to, what, bytes);
	return bytes / sizeof(*what);
}

#define ADD(...)							\
	(n += add(filter + n, (const struct sock_filter[]){ __VA_ARGS__ },	\
		  sizeof((const struct sock_filter[]){ __VA_ARGS__ })))

/* The call's number is loaded whenever one is looked at; what is allowed or refused ends. */
int sandbox_close(void)
{
	struct sock_filter filter[MAX_FILTER];
	struct sock_fprog program = { .filter = filter };
	uint32_t pid = getpid();
	unsigned int i, n = 0;

	ADD(LOAD(offsetof(struct seccomp_data, arch)), IS(ARCH, 1, 0),
	    RETURN(SECCOMP_RET_KILL_PROCESS), LOAD(offsetof(struct seccomp_data, nr)));
	for (i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		ADD(IS(calls[i], 0, 1), ALLOW);
	/* files: to be read */
	ADD(IS(SYS_openat, 0, 4), LOAD(ARG(2)),
	    HAS(O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND, 0, 1), REFUSE, ALLOW);
	/* signals: to itself, as abort() does */
	ADD(IS(SYS_kill, 2, 0), IS(SYS_tgkill, 1, 0), IS(SYS_tkill, 0, 4), LOAD(ARG(0)),
	    IS(pid, 0, 1), ALLOW, REFUSE);
	/* no owner of descriptors, who gets signals */
	ADD(IS(SYS_fcntl, 0, 6), LOAD(ARG(1)), IS(F_GETFD, 2, 0), IS(F_SETFD, 1, 0),
	    IS(F_GETFL, 0, 1), ALLOW, REFUSE);
	/* limits: to be read, its own */
	ADD(IS(SYS_prlimit64, 0, 8), LOAD(ARG(0)), IS(0, 0, 4), LOAD(ARG(2)), IS(0, 0, 2),
	    LOAD(ARG_HIGH(2)), IS(0, 1, 0), REFUSE, ALLOW);
	ADD(REFUSE);
	program.len = n;
	return limit_memory() || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) ? -1 : 0;
}

#else

/* Nobody has written the list for this architecture: uploaded code does not run. */
int sandbox_close(void)
{
	return -1;
}

#endif

/* ---- files ---- */

/* A path that is not there needs no permission. */
static void permit(int ruleset, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = access, .parent_fd = open(path, O_PATH | O_CLOEXEC),
	};

	if (rule.parent_fd < 0)
		return;
	syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	close(rule.parent_fd);
}

/* A kernel may have no Landlock, or be started without. */
bool sandbox_keeps_files(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0,
		       LANDLOCK_CREATE_RULESET_VERSION) >= 0 ||
	       (errno != ENOSYS && errno != EOPNOTSUPP);
}

/* Where there is no Landlock it is left what its user may read. */
static int restrict_files(void)
{
	static const char *const folders[] = {
		"/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64",
		"/usr/local/lib",
	};
	struct landlock_ruleset_attr attr = {
		/* all of the first */
		.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1,
	};
	int ruleset = syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0), ret;
	unsigned int i;

	if (ruleset < 0)
		return sandbox_keeps_files() ? -1 : 0;
	for (i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		permit(ruleset, folders[i],
		       LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE);
	permit(ruleset, "/etc/ld.so.cache", LANDLOCK_ACCESS_FS_READ_FILE);
	permit(ruleset, "/proc/self", LANDLOCK_ACCESS_FS_READ_FILE);
	ret = syscall(SYS_landlock_restrict_self, ruleset, 0);
	close(ruleset);
	return ret;
}

/* ---- rights ---- */

/* Nobody's secrets are handed on: not the strings either, which would stay on the stack. */
static int wipe_environment(void)
{
	char **e;

	for (e = environ; e && *e; e++)
		explicit_bzero(*e, strlen(*e));
	return clearenv();
}

int sandbox_rights(const struct work_self *self)
{
	if (work_silence() || wipe_environment() || limit(RLIMIT_CORE, 0) ||
	    limit(RLIMIT_NOFILE, CODE_FILES) || limit(RLIMIT_FSIZE, 0) ||
	    limit(RLIMIT_MEMLOCK, 0) || limit(RLIMIT_MSGQUEUE, 0) || work_change_user(self))
		return -1;
	/* nobody debugs it, not even another of its kind */
	return limit(RLIMIT_NPROC, 0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       work_drop_capabilities() || prctl(PR_SET_DUMPABLE, 0) || restrict_files() ? -1 : 0;
}
