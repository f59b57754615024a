/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * vine_test.h - what the vine selftests share: calls, waiting, counting
 *
 * The tests need a device that can talk to itself, and to themselves: they count
 * what is in use of it. $VINE_DEVICE names it; default is /dev/vine0.
 *
 * Nothing here asserts: the functions give 0 or a negative errno, and the tests
 * judge. Nothing sleeps in the hope that something has happened meanwhile: what is
 * waited for is looked at until it is there or VT_PATIENCE is over.
 */
#ifndef VINE_TEST_H
#define VINE_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <time.h>

#include <linux/vine.h>
#include <linux/vine_wire.h>

#include "kselftest_harness.h"

/* Guests that are emulated, with KASAN, are slow. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	240
#ifndef VT_PATIENCE
#define VT_PATIENCE		60	/* seconds */
#endif

#define VT_DEPTH		8
#define VT_NSEC			1000000000ULL

/* ---- time ---- */

static inline __u64 vt_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * VT_NSEC + ts.tv_nsec;
}

/* A deadline so many milliseconds from now. */
static inline __u64 vt_in(unsigned int ms)
{
	return vt_now() + ms * 1000000ULL;
}

static inline __u64 vt_patience(void)
{
	return vt_in(VT_PATIENCE * 1000);
}

/* A breath between two looks. True when the time is up. */
static inline bool vt_late(__u64 deadline)
{
	struct timespec ts = { .tv_nsec = 1000000 };

	nanosleep(&ts, NULL);
	return vt_now() > deadline;
}

/* True as soon as @condition is; false when patience is over. */
#define vt_until(condition)						\
({									\
	__u64 __end = vt_patience();					\
	bool __ok;							\
									\
	while (!(__ok = (condition)) && !vt_late(__end))		\
		;							\
	__ok;								\
})

/* ---- the device ---- */

static inline const char *vt_path(void)
{
	return getenv("VINE_DEVICE") ?: "/dev/vine0";
}

static inline int vt_open(void)
{
	int fd = open(vt_path(), O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* A program that has no device to test skips as a whole. */
static void __attribute__((constructor)) vt_need_device(void)
{
	int fd = vt_open();

	if (fd == -ENOENT || fd == -ENXIO || fd == -EACCES || fd == -EPERM)
		ksft_exit_skip("%s: %s; load vine with loopback=1, or set VINE_DEVICE\n",
			       vt_path(), strerror(-fd));
	if (fd >= 0)
		close(fd);
}

/* ---- calls: 0 or -errno ---- */

/* Any ioctl. A return value other than 0 or -1 breaks the ABI's promise. */
static inline int vt_ioctl(int fd, unsigned int cmd, void *arg)
{
	int ret = ioctl(fd, cmd, arg);

	if (ret > 0)
		return -10000 - ret;
	return ret ? -errno : 0;
}

static inline int vt_info(int dev, struct vine_info *info)
{
	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	return vt_ioctl(dev, VINE_INFO, info);
}

/* How many records there are, or -errno; @room of them at @array. */
static inline int vt_query(int dev, __u32 what, void *array, __u32 room)
{
	struct vine_query q = { .size = sizeof(q), .what = what, .count = room,
				.array = (uintptr_t)array };
	int err = vt_ioctl(dev, VINE_QUERY, &q);

	return err ?: (int)q.count;
}

static inline int vt_bury(int dev, __u32 peer, __u32 incarnation)
{
	struct vine_bury b = { .size = sizeof(b), .peer = peer, .incarnation = incarnation };

	return vt_ioctl(dev, VINE_BURY, &b);
}

static inline void vt_name(__u8 *to, const char *name)
{
	size_t n = strlen(name);

	memset(to, 0, VINE_SERVICE_NAME);
	memcpy(to, name, n < VINE_SERVICE_NAME ? n : VINE_SERVICE_NAME);
}

/* The next four give a descriptor or -errno. */

static inline int vt_listen(int dev, const char *name, __u32 flags)
{
	struct vine_listen l = { .size = sizeof(l), .flags = flags, .fd = -1 };
	int err;

	vt_name(l.name, name);
	err = vt_ioctl(dev, VINE_LISTEN, &l);
	return err ?: l.fd;
}

static inline int vt_connect(int dev, const char *name, __u32 flags, __u64 deadline,
			     __u32 depth)
{
	struct vine_connect c = { .size = sizeof(c), .flags = flags, .depth = depth,
				  .deadline = deadline, .fd = -1 };
	int err;

	vt_name(c.name, name);
	err = vt_ioctl(dev, VINE_CONNECT, &c);
	return err ?: c.fd;
}

static inline int vt_accept(int listener, __u32 flags, __u64 deadline)
{
	struct vine_accept a = { .size = sizeof(a), .flags = flags,
				 .deadline = deadline, .fd = -1 };
	int err = vt_ioctl(listener, VINE_ACCEPT, &a);

	return err ?: a.fd;
}

static inline int vt_region(int dev, __u64 bytes)
{
	struct vine_region r = { .size = sizeof(r), .bytes = bytes, .fd = -1 };
	int err = vt_ioctl(dev, VINE_REGION, &r);

	return err ?: r.fd;
}

static inline int vt_attach(int queue, int region, __u64 *id)
{
	struct vine_attach a = { .size = sizeof(a), .region_fd = region };
	int err = vt_ioctl(queue, VINE_ATTACH, &a);

	if (!err && id)
		*id = a.id;
	return err;
}

/* A descriptor or -errno. */
static inline int vt_import(int queue, __u64 id)
{
	struct vine_import i = { .size = sizeof(i), .id = id, .fd = -1 };
	int err = vt_ioctl(queue, VINE_IMPORT, &i);

	return err ?: i.fd;
}

/* How many were pushed, or -errno. */
static inline int vt_push(int queue, const struct vine_msg *msg, __u32 count)
{
	struct vine_transfer t = { .size = sizeof(t), .push = (uintptr_t)msg,
				   .push_count = count };
	int err = vt_ioctl(queue, VINE_TRANSFER, &t);

	return err ?: (int)t.push_count;
}

/* How many were pulled, or -errno. */
static inline int vt_pull(int queue, struct vine_msg *msg, __u32 count, __u32 min,
			  __u64 deadline)
{
	struct vine_transfer t = { .size = sizeof(t), .pull = (uintptr_t)msg,
				   .pull_count = count, .pull_min = min,
				   .deadline = deadline };
	int err = vt_ioctl(queue, VINE_TRANSFER, &t);

	return err ?: (int)t.pull_count;
}

/* A message that carries a number, and is as long as the number says. */
static inline struct vine_msg vt_msg(__u64 n)
{
	struct vine_msg m = { .len = 8 + n % (VINE_MSG_DATA - 7) };

	memset(m.data, 'a' + n % 26, m.len);
	memcpy(m.data, &n, sizeof(n));
	return m;
}

static inline bool vt_is_msg(const struct vine_msg *m, __u64 n)
{
	struct vine_msg want = vt_msg(n);

	return m->len == want.len && !m->reserved && !memcmp(m->data, want.data, want.len);
}

/* 1 when message @n was pushed, or -errno. */
static inline int vt_push_one(int queue, __u64 n)
{
	struct vine_msg m = vt_msg(n);

	return vt_push(queue, &m, 1);
}

/* 1 when message @n was pulled, -EBADMSG when another was, or -errno. Waits. */
static inline int vt_pull_one(int queue, __u64 n)
{
	struct vine_msg m;
	int ret = vt_pull(queue, &m, 1, 1, vt_patience());

	if (ret != 1)
		return ret;
	return vt_is_msg(&m, n) ? 1 : -EBADMSG;
}

static inline void vt_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

/* What poll() says now, of @events and of what it always says. */
static inline int vt_poll_now(int fd, int events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, 0) < 0 ? -errno : p.revents;
}

/* Waits until poll() says any of @events (0: HUP or ERR), and gives all it said. */
static inline int vt_poll(int fd, int events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, VT_PATIENCE * 1000) < 0 ? -errno : p.revents;
}

/* Both sides of a new queue, blocking. 0 or -errno. */
static inline int vt_pair(int dev, int listener, const char *name, __u32 depth,
			  int *client, int *server)
{
	int err;

	*client = vt_connect(dev, name, VINE_NONBLOCK, 0, depth);
	if (*client < 0)
		return *client;
	*server = vt_accept(listener, 0, vt_patience());
	if (*server < 0) {
		err = *server;
		goto close;
	}
	if (vt_poll(*client, POLLOUT) & POLLOUT) {
		vt_nonblock(*client, false);
		return 0;
	}
	err = -ETIME;
	close(*server);
close:
	close(*client);
	return err;
}

/* ---- what is in use ---- */

struct vt_counts {
	int fds;
	__u32 chunks_free, services, queues, regions, own_queues, own_regions;
};

static inline int vt_count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = -3;	/* ".", "..", and the directory itself */

	if (!d)
		return -errno;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static inline int vt_count(int dev, struct vt_counts *c)
{
	struct vine_info info;
	int err = vt_info(dev, &info);

	memset(c, 0, sizeof(*c));
	c->fds = vt_count_fds();
	c->chunks_free = info.chunks_free;
	c->services = info.services;
	c->queues = info.queues;
	c->regions = info.regions;
	c->own_queues = info.own_queues;
	c->own_regions = info.own_regions;
	return err;
}

/* Waits until everything is as it was. What is still used after that has leaked. */
static inline bool vt_all_back(int dev, const struct vt_counts *was)
{
	struct vt_counts is;
	int err = 0;

	if (vt_until((err = vt_count(dev, &is)) || !memcmp(&is, was, sizeof(is))) && !err)
		return true;
	ksft_print_msg("not as before: fds %d (was %d), free chunks %u (%u), services %u (%u), queues %u (%u), own %u (%u), regions %u (%u), own %u (%u), error %d\n",
		       is.fds, was->fds, is.chunks_free, was->chunks_free,
		       is.services, was->services, is.queues, was->queues,
		       is.own_queues, was->own_queues, is.regions, was->regions,
		       is.own_regions, was->own_regions, err);
	return false;
}

/* ---- a small world: one of everything ---- */

enum vt_kind { VT_DEV, VT_LISTENER, VT_CLIENT, VT_SERVER, VT_REGION, VT_IMPORT, VT_KINDS };

struct vt_world {
	int fd[VT_KINDS];
	int mon;		/* another descriptor of the device, for counting */
	__u64 id;		/* of the region, as attached */
	__u64 chunk;		/* bytes */
	size_t page;
	char name[26];
	struct vt_counts before;
};

static inline int vt_world_open(struct vt_world *w)
{
	static unsigned int worlds;
	struct vine_info info;
	int i, err;

	for (i = 0; i < VT_KINDS; i++)
		w->fd[i] = -1;
	w->page = sysconf(_SC_PAGESIZE);
	snprintf(w->name, sizeof(w->name), "vt-%d.%u", getpid(), worlds++);
	w->mon = vt_open();
	if (w->mon < 0)
		return w->mon;
	err = vt_count(w->mon, &w->before) ?: vt_info(w->mon, &info);
	if (err)
		return err;
	w->chunk = info.chunk_size;
	w->fd[VT_DEV] = vt_open();
	if (w->fd[VT_DEV] < 0)
		return w->fd[VT_DEV];
	w->fd[VT_LISTENER] = vt_listen(w->fd[VT_DEV], w->name, 0);
	if (w->fd[VT_LISTENER] < 0)
		return w->fd[VT_LISTENER];
	err = vt_pair(w->fd[VT_DEV], w->fd[VT_LISTENER], w->name, VT_DEPTH,
		      &w->fd[VT_CLIENT], &w->fd[VT_SERVER]);
	if (err)
		return err;
	w->fd[VT_REGION] = vt_region(w->fd[VT_DEV], 1);
	if (w->fd[VT_REGION] < 0)
		return w->fd[VT_REGION];
	err = vt_attach(w->fd[VT_CLIENT], w->fd[VT_REGION], &w->id);
	if (err)
		return err;
	w->fd[VT_IMPORT] = vt_import(w->fd[VT_SERVER], w->id);
	return w->fd[VT_IMPORT] < 0 ? w->fd[VT_IMPORT] : 0;
}

static inline void vt_drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Closes what is left. False when anything has leaked. */
static inline bool vt_world_close(struct vt_world *w)
{
	bool clean;
	int i;

	for (i = VT_KINDS; i--; )
		vt_drop(&w->fd[i]);
	clean = vt_all_back(w->mon, &w->before);
	vt_drop(&w->mon);
	return clean;
}

/* A fixture that is such a world. Tests use the names below for what is in it. */
#define VT_FIXTURE(name)						\
	FIXTURE(name) { struct vt_world w; };				\
	FIXTURE_SETUP(name) { ASSERT_EQ(0, vt_world_open(&self->w)); }	\
	FIXTURE_TEARDOWN(name) { EXPECT_TRUE(vt_world_close(&self->w)); }

#define DEV		(self->w.fd[VT_DEV])
#define LISTENER	(self->w.fd[VT_LISTENER])
#define CLIENT		(self->w.fd[VT_CLIENT])
#define SERVER		(self->w.fd[VT_SERVER])
#define REGION		(self->w.fd[VT_REGION])
#define IMPORT		(self->w.fd[VT_IMPORT])

/* ---- calls that sleep ---- */

/*
 * Is thread @tid of process @pid asleep in an ioctl(.., @cmd, ..)? The kernel says
 * "running" of a thread that is not blocked, and else the call that it is in.
 */
static inline bool vt_asleep(pid_t pid, pid_t tid, unsigned int cmd)
{
	unsigned long nr, a0, a1;
	char path[64], line[256];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (n <= 0)
		return false;
	line[n] = 0;
	return sscanf(line, "%lu %lx %lx", &nr, &a0, &a1) == 3 &&
		nr == SYS_ioctl && a1 == cmd;
}

/* Waits until it is. A child that has one thread: @tid is 0. */
static inline bool vt_wait_asleep(pid_t pid, pid_t tid, unsigned int cmd)
{
	return vt_until(vt_asleep(pid, tid ?: pid, cmd));
}

/* One call in a thread of its own. */
struct vt_thread {
	pthread_t thread;
	int fd;
	unsigned int cmd;
	void *arg;
	atomic_int tid;
	atomic_bool done;
	int ret;
};

static inline void *vt_thread_main(void *arg)
{
	struct vt_thread *t = arg;

	t->tid = syscall(SYS_gettid);
	t->ret = vt_ioctl(t->fd, t->cmd, t->arg);
	t->done = true;
	return NULL;
}

/* Starts it. With vt_thread_asleep() it is known to wait. 0 or -errno. */
static inline int vt_thread_start(struct vt_thread *t, int fd, unsigned int cmd, void *arg)
{
	t->fd = fd;
	t->cmd = cmd;
	t->arg = arg;
	t->tid = 0;
	t->done = false;
	t->ret = -10000;
	return -pthread_create(&t->thread, NULL, vt_thread_main, t);
}

static inline bool vt_thread_asleep(struct vt_thread *t)
{
	return vt_until(t->done || (t->tid && vt_asleep(getpid(), t->tid, t->cmd))) &&
		!t->done;
}

/* What the call gave; -ETIME when it does not end. */
static inline int vt_thread_join(struct vt_thread *t)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += VT_PATIENCE;
	if (pthread_timedjoin_np(t->thread, NULL, &ts))
		return -ETIME;
	return t->ret;
}

static inline void vt_no_op(int sig)
{
	(void)sig;
}

/* SIGUSR1 interrupts from now on; with @flags SA_RESTART calls go on after it. */
static inline void vt_catch_usr1(int flags)
{
	struct sigaction sa = { .sa_handler = vt_no_op, .sa_flags = flags };

	sigaction(SIGUSR1, &sa, NULL);
}

/* ---- children ---- */

/* A child that dies with us. 0 in the child. */
static inline pid_t vt_fork(void)
{
	pid_t parent = getpid(), pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(127);
	}
	return pid < 0 ? -errno : pid;
}

/* Its exit status, 256 + the signal that ended it, or -ETIME (it is killed then). */
static inline int vt_reap(pid_t pid)
{
	int status = 0;

	if (!vt_until(waitpid(pid, &status, WNOHANG) == pid)) {
		kill(pid, SIGKILL);
		return -ETIME;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

/* ---- memory ---- */

/*
 * @pages pages that can be written, with a page behind them that cannot be touched.
 * NULL when there is no memory.
 */
static inline char *vt_guarded(size_t pages)
{
	size_t page = sysconf(_SC_PAGESIZE);
	char *p = mmap(NULL, (pages + 1) * page, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + pages * page, page, PROT_NONE))
		return NULL;
	return p;
}

/* All of a region, shared. NULL on failure. */
static inline void *vt_map(int fd, size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* What a child that touches @p comes to: 0, or 256 + the signal. */
static inline int touch(volatile char *p, bool write)
{
	pid_t pid = vt_fork();

	if (!pid) {
		if (write)
			*p = *p + 1;
		else
			(void)*p;
		_exit(0);
	}
	return pid < 0 ? pid : vt_reap(pid);
}

/*
 * The segment itself, to do to it what only a broken or hostile peer does. $VINE_SEGMENT
 * names a file that is the device's memory: resource2 of another ivshmem device on the
 * same memory, to which no driver is bound. NULL when there is none.
 */
static inline char *vt_segment(size_t bytes)
{
	const char *path = getenv("VINE_SEGMENT");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *p;

	if (fd < 0)
		return NULL;
	p = vt_map(fd, bytes);
	close(fd);
	return p;
}

static inline __u64 vt_peek(const __le64 *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static inline void vt_poke(__le64 *word, __u64 value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

/* Does every byte have this value? */
static inline bool vt_all_are(const void *mem, int value, size_t bytes)
{
	const unsigned char *p = mem;

	return !bytes || (p[0] == (unsigned char)value && !memcmp(p, p + 1, bytes - 1));
}

#endif /* VINE_TEST_H */
