// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * wait_test.c - what a queue's descriptor shows, and what ends a wait: whoever the other side
 * is, and whatever our other threads do
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/vine_wire.h>
#include <vine.h>

#include "descriptors.h"
#include "tap.h"

#define SECONDS(n)	vine_deadline_ms((n) * 1000)

/* The library's send(2), which fails while this counts down. */
static atomic_int sends_to_fail;

ssize_t send(int fd, const void *data, size_t bytes, int flags)
{
	if (atomic_load(&sends_to_fail) > 0) {
		atomic_fetch_sub(&sends_to_fail, 1);
		errno = ENOBUFS;
		return -1;
	}
	return syscall(SYS_sendto, fd, data, bytes, flags, NULL, 0);
}

/* Its fcntl(2): whoever is to come in between a call's look and its sleep comes then. */
static void (*_Atomic before_sleep)(void);

int fcntl(int fd, int cmd, ...)
{
	void (*before)(void) = cmd == F_GETFL ? atomic_exchange(&before_sleep, NULL) : NULL;
	va_list args;
	void *arg;

	va_start(args, cmd);
	arg = va_arg(args, void *);
	va_end(args);
	if (before)
		before();
	return (int)syscall(SYS_fcntl, fd, cmd, arg);
}

/* ---- a scene: two endpoints, a queue ---- */

static char shm[64], name[96];
static int a, b, listener, client, server;

static void two(void)
{
	static unsigned int count;

	snprintf(shm, sizeof(shm), "vine-wait-%d-%u", getpid(), count++);
	snprintf(name, sizeof(name), "shm:%s?size=16M", shm);
	shm_unlink(shm);
	a = vine_open(name);
	b = vine_open(name);
	listener = vine_listen(b, "test", 3, 0);
	EXPECT(a >= 0 && b >= 0 && listener >= 0);
}

static void connected(unsigned int depth)
{
	two();
	client = vine_connect(a, "test", depth, VINE_NONBLOCK, 0, NULL);
	server = vine_accept(listener, 0, SECONDS(10), NULL);
	EXPECT(client >= 0 && server >= 0);
	fcntl(client, F_SETFL, 0);
}

static void curtain(void)
{
	EXPECT(!vine_close(client) && !vine_close(server) && !vine_close(listener));
	EXPECT(!vine_close(a) && !vine_close(b));
	shm_unlink(shm);
}

static short events(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	poll(&p, 1, 0);
	return p.revents;
}

static bool comes(int fd, short wanted)
{
	struct pollfd p = { .fd = fd, .events = wanted };

	return poll(&p, 1, 10000) > 0 && p.revents & wanted;
}

static int send_one(int queue)
{
	struct vine_msg m = { .len = 1 };

	return vine_push(queue, &m, 1);
}

/* What the server's thread was told before, it has done: it shows messages one by one, too. */
static void settled(void)
{
	struct vine_msg m;
	unsigned int i;

	for (i = 0; i < 4; i++) {
		EXPECT(send_one(client) == 1 && comes(server, POLLIN));
		EXPECT(vine_pull(server, &m, 1, 0, 0) == 1);
	}
}

static int edges_of(int fd)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLET };
	int set = epoll_create1(EPOLL_CLOEXEC);

	EXPECT(!epoll_ctl(set, EPOLL_CTL_ADD, fd, &e));
	epoll_wait(set, &e, 1, 0);
	return set;
}

static bool edge(int set)
{
	struct epoll_event e;

	return epoll_wait(set, &e, 1, 10000) == 1;
}

/* The segment as another process has it. */
static unsigned char *mapped(void)
{
	int fd = shm_open(shm, O_RDWR, 0);
	unsigned char *base = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	EXPECT(base != MAP_FAILED);
	close(fd);
	return base;
}

/* The rings of the only queue are in the first chunk. */
static unsigned char *rings(unsigned char *base)
{
	struct vine_info info;

	EXPECT(!vine_info(a, &info));
	return base + info.segment_size - info.chunks * info.chunk_size;
}

/* ---- edges ---- */

static void after_timeout(void)
{
	struct vine_msg m[2];
	int set;

	connected(8);
	set = edges_of(server);
	CHECK(send_one(client) == 1 && edge(set));
	CHECK(vine_pull(server, m, 2, 2, vine_deadline_ms(20)) == 1);
	CHECK(!(events(server) & POLLIN));
	CHECK(send_one(client) == 1 && edge(set));
	close(set);
	curtain();
}

static void *echo(void *arg)
{
	atomic_bool *quit = arg;
	struct vine_msg m;

	while (!atomic_load(quit))
		if (vine_pull(client, &m, 1, 1, vine_deadline_ms(50)) == 1)
			vine_push(client, &m, 1);
	return NULL;
}

/* Round trips until one leaves the descriptor readable: that one was found by spinning. */
static void get_lazy(void)
{
	atomic_bool quit = false;
	struct vine_msg m;
	unsigned int i;
	pthread_t t;

	pthread_create(&t, NULL, echo, &quit);
	for (i = 0; i < 20000; i++) {
		EXPECT(send_one(server) == 1);
		EXPECT(vine_pull(server, &m, 1, 1, SECONDS(30)) == 1);
		if (events(server) & POLLIN)
			break;
	}
	atomic_store(&quit, true);
	pthread_join(t, NULL);
}

static void exact(void)
{
	struct vine_msg m[4];
	unsigned int i;
	int set;

	connected(8);
	get_lazy();
	set = edges_of(server);
	CHECK(vine_pull(server, m, 4, 0, 0) == -EAGAIN && !(events(server) & POLLIN));
	for (i = 0; i < 4; i++) {
		CHECK(send_one(client) == 1 && edge(set));
		CHECK(vine_pull(server, m, 4, 0, 0) == 1 && !(events(server) & POLLIN));
	}
	/* what is left shows, too */
	CHECK(send_one(client) == 1 && send_one(client) == 1 && edge(set));
	CHECK(vine_pull(server, m, 1, 0, 0) == 1 && events(server) & POLLIN);
	CHECK(vine_pull(server, m, 1, 0, 0) == 1 && !(events(server) & POLLIN));
	close(set);
	curtain();
}

/* A wait that is not to wait is exact as well, though waits before it were not. */
static void exact_nonblocking(void)
{
	struct vine_msg m;
	int set;

	connected(8);
	get_lazy();
	fcntl(server, F_SETFL, O_NONBLOCK);
	CHECK(vine_pull(server, &m, 1, 1, SECONDS(10)) == -EAGAIN);
	CHECK(!(events(server) & POLLIN));
	set = edges_of(server);
	CHECK(send_one(client) == 1 && edge(set));
	CHECK(vine_pull(server, &m, 1, 1, SECONDS(10)) == 1 && !(events(server) & POLLIN));
	close(set);
	curtain();
}

static void no_buffers(void)
{
	struct vine_msg m;
	int set;

	connected(8);
	CHECK(vine_pull(server, &m, 1, 0, 0) == -EAGAIN);
	settled();	/* nothing else tries */
	set = edges_of(server);
	atomic_store(&sends_to_fail, 3);
	CHECK(send_one(client) == 1);
	CHECK(edge(set) && !atomic_load(&sends_to_fail));
	close(set);
	curtain();
}

static void no_buffers_listening(void)
{
	two();
	atomic_store(&sends_to_fail, 0);
	client = vine_connect(a, "test", 8, VINE_NONBLOCK, 0, NULL);
	CHECK(comes(listener, POLLIN));
	server = vine_accept(listener, 0, SECONDS(10), NULL);
	curtain();
	two();
	server = -1;
	/* the first is the filler of the client's descriptor */
	atomic_store(&sends_to_fail, 2);
	client = vine_connect(a, "test", 8, VINE_NONBLOCK, 0, NULL);
	CHECK(comes(listener, POLLIN) && !atomic_load(&sends_to_fail));
	server = vine_accept(listener, 0, SECONDS(10), NULL);
	curtain();
}

/* ---- in between ---- */

static int second_client;

static void connect_now(void)
{
	second_client = vine_connect(a, "test", 8, VINE_NONBLOCK, 0, NULL);
	EXPECT(second_client >= 0);
	settled();
}

static void connected_in_between(void)
{
	struct vine_msg m;
	int second;

	connected(8);
	CHECK(vine_pull(server, &m, 1, 0, 0) == -EAGAIN);
	settled();
	before_sleep = connect_now;
	second = vine_accept(listener, 0, SECONDS(10), NULL);
	CHECK(!before_sleep && second >= 0);
	CHECK(!vine_close(second) && !vine_close(second_client));
	curtain();
}

/* Linux before 5.16 has no futex_waitv(2), and others' filters may not know it. */
static void *waits_without(void *arg)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 449, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { 4, code };
	struct vine_msg m;

	(void)arg;
	EXPECT(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter));
	EXPECT(vine_pull(server, &m, 1, 1, vine_deadline_ms(20)) == -ETIMEDOUT);
	EXPECT(send_one(server) == 1);
	EXPECT(vine_pull(server, &m, 1, 1, SECONDS(10)) == 1);
	return NULL;
}

static void no_waitv(void)
{
	struct vine_msg m;
	pthread_t t;

	connected(8);
	pthread_create(&t, NULL, waits_without, NULL);
	EXPECT(vine_pull(client, &m, 1, 1, SECONDS(10)) == 1 && send_one(client) == 1);
	pthread_join(t, NULL);
	curtain();
}

/* ---- a producer that lies ---- */

static atomic_bool lies;

/* Its next cell's head changes all the time, and is never a message. */
static void *lie(void *arg)
{
	unsigned char *head = arg;
	unsigned char i;

	for (i = 0; atomic_load(&lies); i++)
		__atomic_store_n(head, i, __ATOMIC_RELAXED);
	return NULL;
}

static void start_lies(pthread_t *t, unsigned char *base)
{
	struct vine_wire_ring *submit = (struct vine_wire_ring *)rings(base);

	atomic_store(&lies, true);
	pthread_create(t, NULL, lie, &((struct vine_wire_cell *)(submit + 1))->head);
}

static void stop_lies(pthread_t t, unsigned char *base)
{
	atomic_store(&lies, false);
	pthread_join(t, NULL);
	munmap(base, 16 << 20);
}

static void deadline_kept(void)
{
	unsigned char *base;
	struct vine_msg m;
	pthread_t t;

	connected(8);
	base = mapped();
	start_lies(&t, base);
	CHECK(vine_pull(server, &m, 1, 1, vine_deadline_ms(100)) == -ETIMEDOUT);
	fcntl(server, F_SETFL, O_NONBLOCK);
	CHECK(vine_pull(server, &m, 1, 1, VINE_FOREVER) == -EAGAIN);
	stop_lies(t, base);
	curtain();
}

static void on_signal(int number)
{
	(void)number;
}

static void *pulls(void *arg)
{
	struct vine_msg m;

	(void)arg;
	return (void *)(intptr_t)vine_pull(server, &m, 1, 1, VINE_FOREVER);
}

static void signal_kept(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	void *ret = NULL;
	unsigned char *base;
	pthread_t t, puller;

	sigaction(SIGUSR1, &action, NULL);
	connected(8);
	base = mapped();
	start_lies(&t, base);
	pthread_create(&puller, NULL, pulls, NULL);
	do {
		pthread_kill(puller, SIGUSR1);
		poll(NULL, 0, 1);
	} while (pthread_tryjoin_np(puller, &ret) == EBUSY);
	CHECK((intptr_t)ret == -EINTR);
	stop_lies(t, base);
	curtain();
}

/* ---- our other threads ---- */

static struct vine_msg *missing;
static atomic_bool stuck, go_on;

/* The page comes late, as from a slow disk, or through a debugger. */
static void on_fault(int number)
{
	(void)number;
	atomic_store(&stuck, true);
	while (!atomic_load(&go_on))
		poll(NULL, 0, 1);
	mprotect(missing, 4096, PROT_READ | PROT_WRITE);
}

static void *pulls_into_nothing(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)vine_pull(server, missing, 1, 1, SECONDS(10));
}

static void stuck_thread(void)
{
	struct sigaction action = { .sa_handler = on_fault }, old;
	int other_client, other_server, other;
	struct vine_msg m;
	pthread_t t;
	void *ret;

	missing = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigaction(SIGSEGV, &action, &old);
	connected(8);
	other_client = vine_connect(a, "test", 8, VINE_NONBLOCK, 0, NULL);
	other_server = vine_accept(listener, 0, SECONDS(10), NULL);
	CHECK(other_client >= 0 && other_server >= 0);
	CHECK(vine_pull(other_server, &m, 1, 0, 0) == -EAGAIN);
	atomic_store(&stuck, false);
	atomic_store(&go_on, false);
	pthread_create(&t, NULL, pulls_into_nothing, NULL);
	CHECK(send_one(client) == 1);
	while (!atomic_load(&stuck))
		poll(NULL, 0, 1);
	/* every queue is looked at, and the thread goes on */
	other = vine_listen(a, "other", 1, 0);
	CHECK(other >= 0 && send_one(client) == 1);
	CHECK(send_one(other_client) == 1 && comes(other_server, POLLIN));
	CHECK(vine_pull(other_server, &m, 1, 0, 0) == 1);
	CHECK(send_one(other_client) == 1 && comes(other_server, POLLIN));
	atomic_store(&go_on, true);
	pthread_join(t, &ret);
	CHECK((intptr_t)ret == 1);
	CHECK(comes(server, POLLIN) && vine_pull(server, &m, 1, 0, 0) == 1);
	sigaction(SIGSEGV, &old, NULL);
	munmap(missing, 4096);
	CHECK(!vine_close(other) && !vine_close(other_client) && !vine_close(other_server));
	curtain();
}

static void *pulls_until_closed(void *arg)
{
	atomic_bool *begun = arg;
	struct vine_msg m;

	while (vine_pull(server, &m, 1, 1, vine_deadline_ms(1)) == -ETIMEDOUT)
		atomic_store(begun, true);
	return NULL;
}

/* Its number goes while a call asks what it says: TSan looks on. */
static void closed_meanwhile(void)
{
	atomic_bool begun = false;
	pthread_t t;

	connected(8);
	pthread_create(&t, NULL, pulls_until_closed, &begun);
	while (!atomic_load(&begun))
		;
	CHECK(!vine_close(server));
	pthread_join(t, NULL);
	CHECK(!vine_close(client) && !vine_close(listener) && !vine_close(a) && !vine_close(b));
	shm_unlink(shm);
}

#ifndef __SANITIZE_THREAD__

static void *accepts(void *arg)
{
	(void)arg;
	server = vine_accept(listener, 0, SECONDS(30), NULL);
	return NULL;
}

/* A child must not keep the ends of what is only being accepted. */
static void forked_meanwhile(void)
{
	unsigned char *base;
	struct vine_msg m;
	unsigned int before;
	int forked[2];
	pthread_t t;
	pid_t pid;
	char byte;

	two();
	EXPECT(!pipe2(forked, O_CLOEXEC));
	before = count_descriptors(NULL);
	pthread_create(&t, NULL, accepts, NULL);
	while (count_descriptors(NULL) < before + 2)
		poll(NULL, 0, 1);
	pid = fork();
	if (!pid) {
		/* what fork() has the child do is done */
		if (write(forked[1], "", 1) == 1)
			pause();
		_exit(0);
	}
	EXPECT(read(forked[0], &byte, 1) == 1);
	close(forked[0]);
	close(forked[1]);
	client = vine_connect(a, "test", 8, VINE_NONBLOCK, 0, NULL);
	pthread_join(t, NULL);
	base = mapped();
	memset(rings(base) + 256, 0xff, 4096);
	EXPECT(vine_pull(server, &m, 1, 0, 0) == -EIO);
	EXPECT(events(server) & POLLERR);
	munmap(base, 16 << 20);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	curtain();
}

#endif

static const struct tap_test tests[] = {
	{ "a wait that ends with less leaves an edge for what comes", after_timeout },
	{ "a pull that does not wait leaves the descriptor exact", exact },
	{ "so does one that asks to wait of a descriptor that does not", exact_nonblocking },
	{ "a wake-up that finds no memory is tried again", no_buffers },
	{ "of a listener, too", no_buffers_listening },
	{ "a connection that comes between an accept's look and its sleep ends that",
	  connected_in_between },
	{ "without futex_waitv(2) a wait is as it should be", no_waitv },
	{ "a producer that lies cannot keep a call beyond its deadline", deadline_kept },
	{ "nor from a signal", signal_kept },
	{ "a thread that is stuck in its own memory holds up its queue only", stuck_thread },
	{ "a queue is closed while another thread waits", closed_meanwhile },
#ifndef __SANITIZE_THREAD__	/* which has no threads after a fork */
	{ "a fork in the middle of an accept does not hide failures", forked_meanwhile },
#endif
};

TAP_MAIN(tests)
