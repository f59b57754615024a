// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * host_test.c - endpoints in user space: two of one process, on one mapping
 *
 * TSan sees what two processes do to each other only when they are one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include <linux/vine_wire.h>
#include <host/host.h>
#include <vine.h>

#include "tap.h"

#define SECONDS(n)	vine_deadline_ms((n) * 1000)

static char shm[64], path[96], name[96];

/* A segment of its own for each test. */
static void fresh(void)
{
	static unsigned int count;

	shm_unlink(shm);
	snprintf(shm, sizeof(shm), "vine-test-%d-%u", getpid(), count++);
	snprintf(path, sizeof(path), "/dev/shm/%s", shm);
	snprintf(name, sizeof(name), "shm:%s?size=16M", shm);
}

/* ---- scenes ---- */

static int a, b, listener, client, server;

static void two(void)
{
	fresh();
	a = vine_open(name);
	b = vine_open(name);
	EXPECT(a >= 0 && b >= 0);
}

static void connected(unsigned int depth)
{
	struct vine_connect c;
	struct vine_accept s;

	two();
	listener = vine_listen(b, "test", 3, 0);
	EXPECT(listener >= 0);
	client = vine_connect(a, "test", depth, VINE_NONBLOCK, 0, &c);
	EXPECT(client >= 0);
	server = vine_accept(listener, 0, SECONDS(10), &s);
	EXPECT(server >= 0 && s.depth == depth);
	fcntl(client, F_SETFL, 0);
}

static struct vine_info info_of(int device)
{
	struct vine_info info = { 0 };

	EXPECT(!vine_info(device, &info));
	return info;
}

/* Everything is closed: what is left in the segment? */
static void nothing_left(void)
{
	struct vine_info info;
	int d = vine_open(name);

	info = info_of(d);
	EXPECT(info.peers == 1 && !info.services && !info.queues && !info.regions &&
	       info.chunks_free == info.chunks);
	vine_close(d);
	shm_unlink(shm);
}

static void curtain(void)
{
	EXPECT(!vine_close(client) && !vine_close(server) && !vine_close(listener));
	EXPECT(!vine_close(a) && !vine_close(b));
	nothing_left();
}

static int events(int fd, int timeout)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP };

	poll(&p, 1, timeout);
	return p.revents;
}

/* Until @wanted is among its events, or ten seconds have passed. */
static bool comes(int fd, short wanted)
{
	struct pollfd p = { .fd = fd, .events = wanted };
	uint64_t until = SECONDS(10);

	while (vine_deadline_ms(1) < until)
		if (poll(&p, 1, 100) > 0 && p.revents & wanted)
			return true;
	return false;
}

static struct vine_msg message(unsigned int n)
{
	struct vine_msg m = { .len = sizeof(n) };

	memcpy(m.data, &n, sizeof(n));
	return m;
}

static unsigned int number(const struct vine_msg *m)
{
	unsigned int n;

	memcpy(&n, m->data, sizeof(n));
	return n;
}

static int send_number(int queue, unsigned int n)
{
	struct vine_msg m = message(n);

	return vine_push(queue, &m, 1);
}

/* ---- names ---- */

static void names(void)
{
	char text[128];
	struct stat st;
	int fd;

	fresh();
	snprintf(text, sizeof(text), "shm:%s", shm);
	CHECK(vine_open(text) == -ENOENT && strstr(vine_why(), "with a size it is made"));
	CHECK(vine_open("shm:") == -EINVAL && strstr(vine_why(), "expected shm:NAME"));
	CHECK(vine_open("shm:a/b") == -EINVAL);
	CHECK(vine_open("shm:x?bytes=3") == -EINVAL);
	CHECK(vine_open("shm:x?size") == -EINVAL && vine_open("shm:x?size=K") == -EINVAL);
	CHECK(vine_open("shm:x?trunc=2") == -EINVAL);
	CHECK(vine_open("server:/x?size=1M") == -EINVAL);
	CHECK(vine_open("shm:x?size=3Q") == -EINVAL);
	CHECK(vine_open("shm:x?size=17179869184G") == -EINVAL);	/* 2^64 */
	CHECK(vine_open("shm:x?off=4097&size=16M") == -EINVAL);
	CHECK(vine_open("shm:/dev/zero") == -EINVAL);
	CHECK(vine_open("server:/nonexistent/socket") == -ENOENT);
	snprintf(text, sizeof(text), "shm:%s?size=64K", shm);
	CHECK(vine_open(text) == -ENOSPC);
	a = vine_open(name);
	CHECK(a >= 0 && !*vine_why());
	vine_close(a);
	CHECK(!stat(path, &st) && st.st_size == 16 << 20);
	snprintf(text, sizeof(text), "shm:%s", path);
	a = vine_open(text);
	CHECK(a >= 0 && info_of(a).kind == VINE_KIND_HOST);
	vine_close(a);
	fd = open(path, O_RDWR);
	CHECK(fd >= 0 && pwrite(fd, "somebody else's", 15, 0) == 15);
	CHECK(vine_open(text) == -EUCLEAN);
	CHECK(pwrite(fd, "vin\x63", 4, 0) == 4);
	CHECK(vine_open(text) == -EPROTONOSUPPORT);
	close(fd);
	shm_unlink(shm);
}

/* One file, two segments: neither sees the other. */
static void parts(void)
{
	char one[128], other[128];
	struct vine_service s[4];

	fresh();
	snprintf(one, sizeof(one), "shm:%s?size=16M", shm);
	snprintf(other, sizeof(other), "shm:%s?off=16M&size=16M", shm);
	a = vine_open(one);
	b = vine_open(other);
	CHECK(a >= 0 && b >= 0);
	listener = vine_listen(a, "here", 1, 0);
	CHECK(listener >= 0);
	CHECK(vine_services(a, s, 4) == 1 && vine_services(b, s, 4) == 0);
	CHECK(info_of(a).peers == 1 && info_of(b).peers == 1);
	vine_close(listener);
	vine_close(a);
	vine_close(b);
	shm_unlink(shm);
}

/* At the same place, and of the same size. */
static void files(void)
{
	struct vine_service s[4];

	fresh();
	a = vine_open(name);
	listener = vine_listen(a, "here", 1, 0);
	CHECK(a >= 0 && listener >= 0);
	shm_unlink(shm);	/* and then another of that name */
	b = vine_open(name);
	EXPECT(b >= 0 && vine_services(b, s, 4) == 0 && vine_services(a, s, 4) == 1);
	CHECK(!vine_close(listener) && !vine_close(a) && !vine_close(b));
	shm_unlink(shm);
}

/* ---- messages ---- */

static void ping(void)
{
	struct vine_msg m;

	connected(8);
	CHECK(send_number(client, 17) == 1);
	CHECK(vine_pull(server, &m, 1, 1, SECONDS(10)) == 1 && number(&m) == 17);
	CHECK(send_number(server, 18) == 1);
	CHECK(vine_pull(client, &m, 1, 1, SECONDS(10)) == 1 && number(&m) == 18);
	curtain();
}

static void refusals(void)
{
	struct vine_transfer t = { .pull_min = 1 };
	struct vine_msg m = message(1);
	uint64_t id;

	connected(8);
	CHECK(vine_transfer(client, &t) == -EINVAL);
	CHECK(vine_pull(client, &m, 1, 1, 0) == -EAGAIN);
	CHECK(vine_pull(client, &m, 1, 1, vine_deadline_ms(20)) == -ETIMEDOUT);
	fcntl(client, F_SETFL, O_NONBLOCK);
	CHECK(vine_pull(client, &m, 1, 1, SECONDS(10)) == -EAGAIN);
	m.len = 57;
	CHECK(vine_push(client, &m, 1) == -EMSGSIZE);
	m.len = 4;
	m.reserved = 1;
	CHECK(vine_push(client, &m, 1) == -EINVAL);
	CHECK(vine_accept(listener, 0, 0, NULL) == -EAGAIN);
	CHECK(vine_accept(listener, 0, vine_deadline_ms(20), NULL) == -ETIMEDOUT);
	CHECK(vine_connect(a, "nobody", 8, 0, 0, NULL) == -ENOENT);
	CHECK(vine_connect(a, "nobody", 8, VINE_WAIT_SERVICE, vine_deadline_ms(20), NULL) ==
	      -ETIMEDOUT);
	CHECK(vine_connect(a, "test", 8, 0, vine_deadline_ms(20), NULL) == -ETIMEDOUT);
	CHECK(vine_connect(a, "test", 7, 0, 0, NULL) == -EINVAL);
	CHECK(vine_listen(b, "test", 1, 0) == -EADDRINUSE);
	CHECK(vine_attach(client, a, &id) == -EINVAL);
	CHECK(vine_attach(client, -1, &id) == -EBADF);
	CHECK(vine_import(server, 12345, NULL) == -ENOENT);
	CHECK(vine_push(a, &m, 1) == -ENOTTY);
	CHECK(vine_region(a, 1ULL << 40, NULL) == -ENOSPC);
	curtain();
}

/* Of a short message the rest is zero: whatever its sender had there stays with it. */
static void short_message(void)
{
	struct vine_msg m = { .len = 1 };
	unsigned int i;

	connected(8);
	memset(m.data, 0xff, sizeof(m.data));
	CHECK(vine_push(client, &m, 1) == 1);
	CHECK(vine_pull(server, &m, 1, 1, SECONDS(10)) == 1 && m.len == 1 && m.data[0] == 0xff);
	for (i = 1; i < sizeof(m.data); i++)
		CHECK(!m.data[i]);
	curtain();
}

/* A call that cannot be right does nothing else, either. */
static void bad_push(void)
{
	struct vine_msg bad = { .len = 57 }, m;
	struct vine_transfer t = {
		.push = (uintptr_t)&bad, .push_count = 1, .pull = (uintptr_t)&m, .pull_count = 1,
	};

	connected(8);
	CHECK(send_number(server, 3) == 1);
	CHECK(vine_transfer(client, &t) == -EMSGSIZE && !t.pull_count);
	CHECK(vine_pull(client, &m, 1, 1, SECONDS(10)) == 1 && number(&m) == 3);
	curtain();
}

static void full(void)
{
	struct vine_msg m[16];
	unsigned int i;

	connected(8);
	for (i = 0; i < 16; i++)
		m[i] = message(i);
	CHECK(comes(client, POLLOUT));
	CHECK(vine_push(client, m, 16) == 8);
	CHECK(vine_push(client, m, 1) == -EAGAIN);
	CHECK(!(events(client, 0) & POLLOUT));
	CHECK(vine_pull(server, m, 16, 8, SECONDS(10)) == 8);
	for (i = 0; i < 8; i++)
		CHECK(number(&m[i]) == i);
	CHECK(comes(client, POLLOUT));
	CHECK(vine_push(client, m, 1) == 1);
	curtain();
}

/* Level: readable until the pull that says EAGAIN; after that only when there is something. */
static void level(void)
{
	struct vine_msg m;
	unsigned int i;

	connected(8);
	for (i = 0; i < 100; i++) {
		CHECK(vine_pull(server, &m, 1, 0, 0) == -EAGAIN);
		CHECK(!(events(server, 0) & POLLIN));
		CHECK(send_number(client, i) == 1);
		CHECK(comes(server, POLLIN));
		CHECK(vine_pull(server, &m, 1, 0, 0) == 1 && number(&m) == i);
	}
	curtain();
}

/* Edges: each message that comes after EAGAIN raises one; and room, after it was full. */
static void edges(void)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT | EPOLLET };
	int set = epoll_create1(EPOLL_CLOEXEC);
	struct vine_msg m[8];
	unsigned int i;

	connected(8);
	CHECK(vine_pull(server, m, 1, 0, 0) == -EAGAIN);
	CHECK(!epoll_ctl(set, EPOLL_CTL_ADD, server, &e));
	CHECK(epoll_wait(set, &e, 1, 10000) == 1 && e.events == EPOLLOUT);
	for (i = 0; i < 100; i++) {
		CHECK(send_number(client, i) == 1);
		do
			CHECK(epoll_wait(set, &e, 1, 10000) == 1);
		while (!(e.events & EPOLLIN));
		CHECK(vine_pull(server, m, 8, 0, 0) == 1);
		CHECK(vine_pull(server, m, 8, 0, 0) == -EAGAIN);
	}
	for (i = 0; i < 8; i++)
		CHECK(send_number(server, i) == 1);
	CHECK(send_number(server, 8) == -EAGAIN);
	while (epoll_wait(set, &e, 1, 0) > 0)
		;
	CHECK(vine_pull(client, m, 8, 8, SECONDS(10)) == 8);
	CHECK(epoll_wait(set, &e, 1, 10000) == 1 && e.events & EPOLLOUT);
	close(set);
	curtain();
}

static void hang_up(void)
{
	struct vine_msg m;
	uint64_t id;
	int region;

	connected(8);
	CHECK(send_number(client, 5) == 1);
	CHECK(!vine_close(client));
	CHECK(comes(server, POLLHUP) && events(server, 0) & POLLIN);
	CHECK(vine_pull(server, &m, 1, 1, SECONDS(10)) == 1 && number(&m) == 5);
	CHECK(vine_pull(server, &m, 1, 1, SECONDS(10)) == -EPIPE);
	CHECK(vine_push(server, &m, 1) == -EPIPE);
	client = vine_connect(a, "test", 8, VINE_NONBLOCK, 0, NULL);
	region = vine_region(a, 1, NULL);
	CHECK(client >= 0 && region >= 0 && !vine_close(listener));
	CHECK(vine_attach(client, region, &id) == -EPIPE);
	CHECK(!vine_close(client) && !vine_close(region));
	CHECK(!vine_close(server) && !vine_close(a) && !vine_close(b));
	CHECK(vine_close(server) == -EBADF);
	nothing_left();
}

static void refused(void)
{
	struct vine_msg m;

	two();
	listener = vine_listen(b, "test", 3, 0);
	CHECK(events(listener, 0) == 0);
	client = vine_connect(a, "test", 8, VINE_NONBLOCK, 0, NULL);
	CHECK(client >= 0 && events(client, 0) == 0);
	CHECK(vine_pull(client, &m, 1, 0, 0) == -ENOTCONN);
	CHECK(comes(listener, POLLIN));
	CHECK(!vine_close(listener));
	CHECK(comes(client, POLLHUP) && !(events(client, 0) & POLLERR));
	CHECK(vine_pull(client, &m, 1, 0, 0) == -ECONNREFUSED);
	CHECK(!vine_close(client) && !vine_close(a) && !vine_close(b));
	nothing_left();
}

static void listener_polls(void)
{
	two();
	listener = vine_listen(b, "test", 3, 0);
	client = vine_connect(a, "test", 8, VINE_NONBLOCK, 0, NULL);
	CHECK(comes(listener, POLLIN));
	server = vine_accept(listener, 0, 0, NULL);
	CHECK(server >= 0 && !(events(listener, 0) & POLLIN));
	CHECK(comes(client, POLLOUT));
	curtain();
}

static void *late_listener(void *arg)
{
	(void)arg;
	listener = vine_listen(b, "late", 3, 0);
	server = vine_accept(listener, 0, SECONDS(10), NULL);
	return NULL;
}

static void waited_for(void)
{
	pthread_t t;

	two();
	pthread_create(&t, NULL, late_listener, NULL);
	client = vine_connect(a, "late", 8, VINE_WAIT_SERVICE, SECONDS(10), NULL);
	pthread_join(t, NULL);
	CHECK(client >= 0 && server >= 0);
	curtain();
}

static void on_signal(int number)
{
	(void)number;
}

static void *interrupted(void *arg)
{
	struct vine_msg m;

	(void)arg;
	return (void *)(intptr_t)vine_pull(client, &m, 1, 1, VINE_FOREVER);
}

static void signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	void *ret = NULL;
	pthread_t t;

	sigaction(SIGUSR1, &action, NULL);
	connected(8);
	pthread_create(&t, NULL, interrupted, NULL);
	do {
		pthread_kill(t, SIGUSR1);
		poll(NULL, 0, 1);
	} while (pthread_tryjoin_np(t, &ret) == EBUSY);
	CHECK((intptr_t)ret == -EINTR);
	curtain();
}

static void *echo(void *arg)
{
	struct vine_msg m;
	int n;

	(void)arg;
	for (;;) {
		n = vine_pull(server, &m, 1, 1, SECONDS(30));
		if (n != 1 || vine_push(server, &m, 1) != 1)
			return (void *)(intptr_t)n;
	}
}

static void round_trips(void)
{
	struct vine_msg out, in;
	struct vine_transfer t;
	void *ret;
	pthread_t thread;
	unsigned int i;

	connected(8);
	pthread_create(&thread, NULL, echo, NULL);
	for (i = 0; i < SCALED(20000); i++) {
		out = message(i);
		t = (struct vine_transfer){
			.push = (uintptr_t)&out, .push_count = 1, .pull = (uintptr_t)&in,
			.pull_count = 1, .pull_min = 1, .deadline = SECONDS(30),
		};
		CHECK(!vine_transfer(client, &t) && t.pull_count == 1 && number(&in) == i);
	}
	vine_close(client);
	pthread_join(thread, &ret);
	CHECK((intptr_t)ret == -EPIPE);
	CHECK(!vine_close(server) && !vine_close(listener) && !vine_close(a) && !vine_close(b));
	nothing_left();
}

/* A stream in bursts, by poll and without blocking: nothing is lost, nobody sleeps for ever. */
static void *source(void *arg)
{
	unsigned int i = 0, n = SCALED(100000), k;
	struct vine_msg m[16];
	int ret;

	(void)arg;
	while (i < n) {
		for (k = 0; k < 16; k++)
			m[k] = message(i + k);
		ret = vine_push(client, m, n - i < 16 ? n - i : 16);
		if (ret == -EAGAIN && !comes(client, POLLOUT))
			break;
		i += ret > 0 ? ret : 0;
	}
	return NULL;
}

static void stream(void)
{
	unsigned int i = 0, n = SCALED(100000);
	struct vine_msg m[8];
	pthread_t t;
	int ret, k;

	connected(16);
	pthread_create(&t, NULL, source, NULL);
	while (i < n) {
		ret = vine_pull(server, m, 8, 0, 0);
		if (ret == -EAGAIN)
			CHECK(comes(server, POLLIN));
		for (k = 0; k < ret; k++)
			CHECK(number(&m[k]) == i++);
	}
	pthread_join(t, NULL);
	curtain();
}

/* ---- regions ---- */

static void regions(void)
{
	uint64_t bytes, rounded, id;
	char *ours, *theirs, *passed;
	int region, import;

	connected(8);
	region = vine_region(a, 100000, &rounded);
	CHECK(region >= 0 && rounded == 131072);
	CHECK(!vine_map(region, rounded, (void **)&ours));
	CHECK(vine_map(region, rounded + 1, (void **)&passed) == -EINVAL);
	CHECK(!vine_attach(client, region, &id));
	import = vine_import(server, id, &bytes);
	CHECK(import >= 0 && bytes == rounded);
	CHECK(!vine_map(import, bytes, (void **)&theirs));
	CHECK(!theirs[0] && !theirs[bytes - 1]);
	strcpy(ours + 777, "in both");
	CHECK(!strcmp(theirs + 777, "in both"));
	/* as a process that was given the descriptor does */
	passed = mmap(NULL, bytes, PROT_READ, MAP_SHARED, import, lseek(import, 0, SEEK_CUR));
	CHECK(passed != MAP_FAILED && !strcmp(passed + 777, "in both"));
	munmap(passed, bytes);
	/* it lives as long as somebody maps it */
	CHECK(!vine_close(region) && !vine_close(import));
	CHECK(info_of(a).own_regions >= 1);
	CHECK(!vine_unmap(ours, rounded));
	CHECK(!strcmp(theirs + 777, "in both"));
	CHECK(!vine_unmap(theirs, bytes));
	curtain();
}

/* All that is free is written to, and then had again. */
static void zeroed(void)
{
	struct vine_info info;
	uint64_t bytes, i;
	char *memory;
	int region;

	two();
	info = info_of(a);
	bytes = info.chunks_free * (uint64_t)info.chunk_size;
	region = vine_region(a, bytes, NULL);
	CHECK(region >= 0 && !vine_map(region, bytes, (void **)&memory));
	memset(memory, 0xff, bytes);
	CHECK(!vine_unmap(memory, bytes) && !vine_close(region));
	region = vine_region(b, bytes, NULL);
	CHECK(region >= 0 && !vine_map(region, bytes, (void **)&memory));
	for (i = 0; i < bytes && !memory[i]; i++)
		;
	CHECK(i == bytes);
	CHECK(!vine_unmap(memory, bytes) && !vine_close(region));
	CHECK(!vine_close(a) && !vine_close(b));
	nothing_left();
}

/* Of another segment, where one of ours may have the same ID; one that was imported. */
static void attached(void)
{
	char elsewhere[128];
	uint64_t bytes, id;
	int d, own, others[3], import;
	unsigned int i;

	two();
	listener = vine_listen(a, "test", 3, 0);
	client = vine_connect(a, "test", 8, VINE_NONBLOCK, 0, NULL);
	server = vine_accept(listener, 0, SECONDS(10), NULL);
	own = vine_region(a, 1, NULL);
	CHECK(server >= 0 && own >= 0);
	CHECK(vine_attach(server, own, &id) == -EINVAL);
	snprintf(elsewhere, sizeof(elsewhere), "shm:%s?off=16M&size=16M", shm);
	d = vine_open(elsewhere);
	for (i = 0; i < 3; i++) {
		others[i] = vine_region(d, 1, NULL);
		CHECK(others[i] >= 0 && vine_attach(client, others[i], &id) == -EINVAL);
	}
	CHECK(!vine_attach(client, own, &id));
	import = vine_import(server, id, &bytes);
	CHECK(import >= 0 && vine_attach(client, import, &id) == -EINVAL);
	/* it ends, and the region does not */
	CHECK(!vine_close(import));
	import = vine_import(server, id, &bytes);
	CHECK(import >= 0);
	for (i = 0; i < 3; i++)
		CHECK(!vine_close(others[i]));
	CHECK(!vine_close(d) && !vine_close(import) && !vine_close(own));
	curtain();
}

static void queried(void)
{
	struct vine_query_queue q[4];
	struct vine_query_peer p[4];
	struct vine_query_service s[4];

	connected(8);
	CHECK(send_number(client, 1) == 1);
	CHECK(vine_query(a, VINE_QUERY_PEERS, p, 4) == 2);
	CHECK(p[0].flags & VINE_QUERY_OWN && p[0].state == VINE_QUERY_PEER_LIVE);
	CHECK(vine_query(a, VINE_QUERY_SERVICES, s, 4) == 1 && !strcmp((char *)s[0].name, "test"));
	CHECK(vine_query(b, VINE_QUERY_QUEUES, q, 4) == 1 && q[0].depth == 8 && q[0].to_server == 1);
	CHECK(vine_query(a, 99, NULL, 0) == -EINVAL);
	CHECK(vine_bury(a, p[1].peer, p[1].incarnation) == -EBUSY);
	CHECK(vine_bury(a, 40, 1) == -ENOENT);
	curtain();
}

/* ---- life ---- */

static void closed_by_another(void)
{
	struct vine_msg m;
	void *ret;
	pthread_t t;

	connected(8);
	pthread_create(&t, NULL, interrupted, NULL);
	/* the call keeps what it uses; the server's side ends it */
	CHECK(!vine_close(server));
	pthread_join(t, &ret);
	CHECK((intptr_t)ret == -EPIPE);
	CHECK(!vine_close(client));
	CHECK(vine_pull(client, &m, 1, 0, 0) == -EBADF);
	CHECK(!vine_close(listener) && !vine_close(a) && !vine_close(b));
	nothing_left();
}

/* Its number is another's now: then it ends. */
static void closed_otherwise(void)
{
	int number;

	connected(8);
	number = client;
	CHECK(!close(number));
	client = vine_listen(a, "other", 3, 0);
	CHECK(client == number && comes(server, POLLHUP));
	curtain();
}

static atomic_int broken_pipes;

static void on_broken_pipe(int number)
{
	(void)number;
	atomic_fetch_add(&broken_pipes, 1);
}

/* Nobody has the other end of the descriptor's socket pair, and a message is to be shown. */
static void no_broken_pipe(void)
{
	struct sigaction action = { .sa_handler = on_broken_pipe }, old;
	struct vine_msg m;

	sigaction(SIGPIPE, &action, &old);
	connected(8);
	CHECK(send_number(client, 1) == 1 && send_number(client, 2) == 1);
	CHECK(!close(server));
	CHECK(vine_pull(server, &m, 1, 0, 0) == 1);
	CHECK(!atomic_load(&broken_pipes));
	sigaction(SIGPIPE, &old, NULL);
	curtain();
}

/* Descriptors that a program has which we execute. */
static unsigned int inherited(void)
{
	unsigned int n = 0;
	int fd, flags;

	for (fd = 0; fd < 1024; fd++) {
		flags = fcntl(fd, F_GETFD);
		n += flags >= 0 && !(flags & FD_CLOEXEC);
	}
	return n;
}

static void close_on_exec(void)
{
	unsigned int before = inherited();
	int region, import;
	uint64_t id;

	connected(8);
	region = vine_region(a, 1, NULL);
	CHECK(region >= 0 && !vine_attach(client, region, &id));
	import = vine_import(server, id, NULL);
	CHECK(import >= 0 && inherited() == before);
	CHECK(!vine_close(region) && !vine_close(import));
	curtain();
}

static void *churner(void *arg)
{
	unsigned int i, n = SCALED(300);
	int d, l, c;

	(void)arg;
	for (i = 0; i < n; i++) {
		d = vine_open(name);
		l = d >= 0 ? vine_listen(d, "churn", 1, 0) : -1;
		c = d >= 0 ? vine_connect(d, "churn", 8, VINE_NONBLOCK, 0, NULL) : -1;
		/* it may have been another's, who has gone */
		EXPECT(d >= 0 && l >= 0 && (c >= 0 || c == -ECONNREFUSED || c == -ENOENT));
		vine_close(c);
		vine_close(l);
		vine_close(d);
	}
	return NULL;
}

static void churn(void)
{
	pthread_t t[4];
	unsigned int i;

	two();
	for (i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, churner, NULL);
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	CHECK(!vine_close(a) && !vine_close(b));
	nothing_left();
}

/* The segment as another process has it. */
static unsigned char *segment_of(int device, struct vine_info *info)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	unsigned char *base;

	*info = info_of(device);
	base = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return base;
}

#ifndef __SANITIZE_THREAD__

/* Waits for a child that exits with 0. */
static bool well(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status);
}

/* A child has nothing of it, and keeps nothing of it alive. */
static void forked(void)
{
	struct vine_info info;
	struct vine_msg m;
	pid_t pid;

	connected(8);
	pid = fork();
	if (!pid) {
		int d, bad = 0;

		bad |= vine_pull(client, &m, 1, 0, 0) >= 0 || vine_info(a, &info) >= 0;
		bad |= !!vine_close(client) || !!vine_close(a);
		d = vine_open(name);	/* one of its own */
		bad |= d < 0 || vine_info(d, &info) || info.peers != 3;
		vine_close(d);
		_exit(bad);
	}
	CHECK(well(pid));
	CHECK(send_number(client, 1) == 1 && vine_pull(server, &m, 1, 1, SECONDS(10)) == 1);
	CHECK(!(events(server, 0) & POLLHUP));
	curtain();
}

/* Is a part of the segment mapped? */
static bool mapped_here(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	bool found = false;
	char line[512];

	while (fgets(line, sizeof(line), maps))
		found |= !!strstr(line, path);
	fclose(maps);
	return found;
}

/* It would go on using what is others' when the parent has let go. */
static void forked_mappings(void)
{
	void *memory;
	int region;
	pid_t pid;

	two();
	region = vine_region(a, 65536, NULL);
	CHECK(region >= 0 && !vine_map(region, 65536, &memory));
	CHECK(mapped_here());
	pid = fork();
	if (!pid)
		_exit(mapped_here());
	CHECK(well(pid));
	CHECK(!vine_unmap(memory, 65536) && !vine_close(region));
	CHECK(!vine_close(a) && !vine_close(b));
	nothing_left();
}

/* ---- two processes ---- */

static void wait_peers(int device, unsigned int n)
{
	uint64_t until = SECONDS(10);

	while (info_of(device).peers != n && vine_deadline_ms(1) < until)
		poll(NULL, 0, 10);
	EXPECT(info_of(device).peers == n);
}

/* Serves one client's echo, until it is killed or hung up. */
static pid_t start_server(void)
{
	pid_t pid = fork();
	struct vine_msg m;
	int d, l, q;

	if (pid)
		return pid;
	d = vine_open(name);
	l = vine_listen(d, "other", 1, 0);
	q = vine_accept(l, 0, SECONDS(20), NULL);
	while (vine_pull(q, &m, 1, 1, SECONDS(20)) == 1 && vine_push(q, &m, 1) == 1)
		;
	vine_close(q);
	vine_close(l);
	_exit(vine_close(d));
}

static void processes(void)
{
	struct vine_msg m;
	unsigned int i;
	pid_t pid;

	fresh();
	pid = start_server();
	a = vine_open(name);
	client = vine_connect(a, "other", 8, VINE_WAIT_SERVICE, SECONDS(10), NULL);
	CHECK(client >= 0);
	for (i = 0; i < SCALED(2000); i++) {
		CHECK(send_number(client, i) == 1);
		CHECK(vine_pull(client, &m, 1, 1, SECONDS(10)) == 1 && number(&m) == i);
	}
	vine_close(client);
	CHECK(well(pid));
	vine_close(a);
	nothing_left();
}

/* How often we have beaten, and looked at the others. */
static uint64_t looks(int device)
{
	struct vine_info info;
	unsigned char *base = segment_of(device, &info);
	uint64_t beat;

	if (!EXPECT(base != MAP_FAILED))
		return 0;
	beat = ((volatile struct vine_wire_peer *)(base + VINE_OFF_PEERS))[info.peer].beat;
	munmap(base, 16 << 20);
	return beat;
}

/* It is found by its lock: soon, where a missing beat takes twenty looks; all comes back. */
static void killed(void)
{
	uint64_t begin;
	struct vine_msg m;
	pid_t pid;

	fresh();
	pid = start_server();
	a = vine_open(name);
	client = vine_connect(a, "other", 8, VINE_WAIT_SERVICE, SECONDS(10), NULL);
	CHECK(client >= 0 && info_of(a).peers == 2);
	begin = looks(a);
	kill(pid, SIGKILL);
	CHECK(vine_pull(client, &m, 1, 1, VINE_FOREVER) == -EPIPE);
	CHECK(looks(a) - begin < 10);
	CHECK(events(client, 0) & POLLHUP || comes(client, POLLHUP));
	wait_peers(a, 1);
	waitpid(pid, NULL, 0);
	vine_close(client);
	vine_close(a);
	nothing_left();
}

/* Nobody was there when it was killed: who comes next finds it. */
static void killed_alone(void)
{
	pid_t pid;
	int ready[2];
	char c;

	fresh();
	EXPECT(!pipe(ready));
	pid = fork();
	if (!pid) {
		int d = vine_open(name);

		vine_region(d, 1 << 20, NULL);
		vine_listen(d, "gone", 1, 0);
		EXPECT(write(ready[1], "", 1) == 1);
		pause();
	}
	CHECK(read(ready[0], &c, 1) == 1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	nothing_left();
	close(ready[0]);
	close(ready[1]);
}

#endif

/* ---- a peer that lies, and being taken for dead ---- */

static void impossible(void)
{
	struct vine_msg m = message(1);
	struct vine_info info;
	unsigned char *base;

	connected(8);
	base = segment_of(a, &info);
	CHECK(base != MAP_FAILED);
	CHECK(vine_pull(server, &m, 1, 0, 0) == -EAGAIN);
	/* the first chunk holds the rings */
	memset(base + info.segment_size - info.chunks * info.chunk_size + 256, 0xff, 4096);
	CHECK(vine_pull(server, &m, 1, 0, 0) == -EIO);
	CHECK(events(server, 0) & POLLERR);
	CHECK(vine_push(server, &m, 1) == -EIO);
	munmap(base, 16 << 20);
	curtain();
}

static void taken_for_dead(void)
{
	struct vine_wire_peer *slot;
	struct vine_msg m = message(1);
	struct vine_info info, now;
	unsigned char *base;
	uint64_t until = SECONDS(10), id;
	char *memory;
	void *again;
	int region;

	connected(8);
	base = segment_of(a, &info);
	region = vine_region(a, 65536, NULL);
	CHECK(base != MAP_FAILED && !vine_map(region, 65536, (void **)&memory));
	memory[0] = 'x';
	slot = (struct vine_wire_peer *)(base + VINE_OFF_PEERS) + info.peer;
	__atomic_store_n(&slot->word, (slot->word & ~0xffULL) | VINE_PEER_SUSPECT,
			 __ATOMIC_SEQ_CST);
	CHECK(comes(client, POLLERR));
	CHECK(vine_push(client, &m, 1) == -ENOTCONN);
	CHECK(comes(server, POLLHUP));
	CHECK(!memory[0]);	/* memory of its own: what it was is others' */
	do
		now = info_of(a);
	while (now.incarnation == info.incarnation && vine_deadline_ms(1) < until);
	CHECK(now.incarnation == info.incarnation + 1 && !now.own_regions);
	CHECK(vine_push(client, &m, 1) == -ENOTCONN);
	CHECK(vine_map(region, 65536, &again) == -ENOTCONN);
	CHECK(!vine_unmap(memory, 65536) && !vine_close(client));
	/* and goes on */
	client = vine_connect(a, "test", 8, VINE_NONBLOCK, 0, NULL);
	CHECK(client >= 0 && !vine_close(server));
	CHECK(vine_attach(client, region, &id) == -ENOTCONN && !vine_close(region));
	server = vine_accept(listener, 0, SECONDS(10), NULL);
	CHECK(server >= 0);
	munmap(base, 16 << 20);
	curtain();
}

/* As VineTalk does when a device was lost: others have the number. */
static void renumbered(void)
{
	int c, number;

	connected(8);
	c = vine_open(name);
	number = client;
	CHECK(c >= 0 && !host_move(c, number));
	CHECK(info_of(number).peers == 3);
	CHECK(comes(server, POLLHUP));
	CHECK(vine_close(c) == -EBADF);
	CHECK(!vine_close(number));
	CHECK(info_of(a).peers == 2);
	CHECK(!vine_close(server) && !vine_close(listener) && !vine_close(a) && !vine_close(b));
	nothing_left();
}

/* ---- through a server ---- */

static char socket_path[64];
static int server_socket, server_memory;

static int server_listens(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(socket_path, sizeof(socket_path), "/tmp/vine-test-%d.sock", getpid());
	strcpy(address.sun_path, socket_path);
	unlink(socket_path);
	server_socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(name, sizeof(name), "server:%s", socket_path);
	return bind(server_socket, (struct sockaddr *)&address, sizeof(address)) ||
	       listen(server_socket, 4);
}

/* One value of the protocol, with a descriptor or -1. */
static void tell(int to, int64_t value, int fd)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { &value, sizeof(value) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&msg);
		*c = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	EXPECT(sendmsg(to, &msg, MSG_NOSIGNAL) == sizeof(value));
}

#define VECTORS	2

/* Two clients, which are told of each other; then it goes away. */
static void *serve_two(void *arg)
{
	int client_of[2], fds[2][VECTORS], i, v, n;

	(void)arg;
	for (n = 0; n < 2; n++) {
		client_of[n] = accept(server_socket, NULL, NULL);
		for (v = 0; v < VECTORS; v++)
			fds[n][v] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		tell(client_of[n], 0, -1);
		tell(client_of[n], 40 + n, -1);
		tell(client_of[n], -1, server_memory);
		for (i = 0; i < n; i++) {
			for (v = 0; v < VECTORS; v++) {
				tell(client_of[n], 40 + i, fds[i][v]);
				tell(client_of[i], 40 + n, fds[n][v]);
			}
		}
		for (v = 0; v < VECTORS; v++)
			tell(client_of[n], 40 + n, fds[n][v]);
	}
	tell(client_of[0], 41, -1);	/* it says that the other has left, too */
	for (n = 0; n < 2; n++) {
		for (v = 0; v < VECTORS; v++)
			close(fds[n][v]);
		close(client_of[n]);
	}
	return NULL;
}

static void through_server(void)
{
	struct vine_info info;
	struct vine_msg m;
	pthread_t t;

	server_memory = memfd_create("vine", MFD_CLOEXEC);
	CHECK(!server_listens() && !ftruncate(server_memory, 16 << 20));
	pthread_create(&t, NULL, serve_two, NULL);
	a = vine_open(name);
	b = vine_open(name);
	CHECK(a >= 0 && b >= 0);
	info = info_of(b);
	CHECK(info.ivposition == 41 && info.vectors == VECTORS && info.peers == 2);
	listener = vine_listen(b, "test", 3, 0);
	client = vine_connect(a, "test", 8, VINE_NONBLOCK, 0, NULL);
	server = vine_accept(listener, 0, SECONDS(10), NULL);
	CHECK(server >= 0 && comes(client, POLLOUT));
	pthread_join(t, NULL);
	/* without the server, too */
	CHECK(send_number(client, 17) == 1);
	CHECK(vine_pull(server, &m, 1, 1, SECONDS(10)) == 1 && number(&m) == 17);
	CHECK(!vine_close(client) && !vine_close(server) && !vine_close(listener));
	CHECK(!vine_close(a) && !vine_close(b));
	close(server_memory);
	close(server_socket);
	unlink(socket_path);
}

#ifndef __SANITIZE_THREAD__

/* A doorbell from a machine: by eventfd, and not by the bell. */
static void machine_rings(void)
{
	int to, rung = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int deaf = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct vine_wire_peer *slot, *machine;
	uint64_t one = 1, until = SECONDS(10);
	unsigned char *base;
	struct vine_info info;
	pid_t pid;

	server_memory = memfd_create("vine", MFD_CLOEXEC);
	CHECK(!server_listens() && !ftruncate(server_memory, 16 << 20));
	pid = fork();
	if (!pid) {
		to = accept(server_socket, NULL, NULL);
		tell(to, 0, -1);
		tell(to, 7, -1);
		tell(to, -1, server_memory);
		tell(to, 3, deaf);
		tell(to, 7, rung);
		pause();
	}
	a = vine_open(name);
	CHECK(a >= 0);
	info = info_of(a);
	base = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, server_memory, 0);
	slot = (struct vine_wire_peer *)(base + VINE_OFF_PEERS) + info.peer;
	/* a machine joins: as its driver would, by hand */
	machine = (struct vine_wire_peer *)(base + VINE_OFF_PEERS) + 9;
	__atomic_store_n(&machine->word, VINE_PEER(1, 3, 1, VINE_PEER_LIVE) | VINE_PEER_UNIQUE,
			 __ATOMIC_SEQ_CST);
	/* it is told of what we offer: through its eventfd */
	listener = vine_listen(a, "test", 3, 0);
	CHECK(listener >= 0 && events(deaf, 10000) & POLLIN);
	/* and tells us that something waits, though nothing does: we look */
	__atomic_fetch_or(&slot->leaf[VINE_LEAF_TABLES], 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_or(&slot->vector[0].summary[VINE_LEAF_TABLES / 64],
			  1ULL << VINE_LEAF_TABLES % 64, __ATOMIC_SEQ_CST);
	CHECK(write(rung, &one, sizeof(one)) == sizeof(one));
	while (__atomic_load_n(&slot->leaf[VINE_LEAF_TABLES], __ATOMIC_SEQ_CST) &&
	       vine_deadline_ms(1) < until)
		poll(NULL, 0, 1);
	CHECK(!__atomic_load_n(&slot->leaf[VINE_LEAF_TABLES], __ATOMIC_SEQ_CST));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	CHECK(!vine_close(listener) && !vine_close(a));
	munmap(base, 16 << 20);
	close(rung);
	close(deaf);
	close(server_memory);
	close(server_socket);
	unlink(socket_path);
}

#endif

static int64_t nonsense;	/* the first word; 1 << 40: hang up at once */

static void *serve_nonsense(void *arg)
{
	int to = accept(server_socket, NULL, NULL);

	(void)arg;
	if (nonsense != 1LL << 40)
		tell(to, nonsense, -1);
	if (!nonsense) {
		tell(to, 5, -1);
		tell(to, 6, -1);	/* the memory is expected here */
	}
	close(to);
	return NULL;
}

static void server_speaks_nonsense(void)
{
	static const int64_t words[] = { -1, 77, 0, 1LL << 40 };
	unsigned int i;
	pthread_t t;

	CHECK(!server_listens());
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		nonsense = words[i];
		pthread_create(&t, NULL, serve_nonsense, NULL);
		CHECK(vine_open(name) == -EPROTO);
		pthread_join(t, NULL);
	}
	close(server_socket);
	CHECK(vine_open(name) == -ECONNREFUSED);
	unlink(socket_path);
}

/* ---- truncation ---- */

static void truncated_under_us(void)
{
	struct vine_msg m;
	char *memory;
	int region;

	connected(8);
	region = vine_region(a, 1 << 20, NULL);
	CHECK(!vine_map(region, 1 << 20, (void **)&memory));
	CHECK(!truncate(path, 0));
	memory[5] = 1;	/* no crash */
	CHECK(comes(client, POLLERR) && comes(server, POLLERR) && comes(a, POLLERR));
	CHECK(vine_push(client, &m, 1) == -ENODEV);
	CHECK(vine_region(a, 1, NULL) == -ENODEV);
	CHECK(!vine_unmap(memory, 1 << 20) && !vine_close(region));
	CHECK(!vine_close(client) && !vine_close(server) && !vine_close(listener));
	CHECK(!vine_close(a) && !vine_close(b));
	/* it grows again, and can be used again */
	nothing_left();
}

static void hung_up_and_truncated(void)
{
	connected(8);
	CHECK(!vine_close(client) && comes(server, POLLHUP) && !(events(server, 0) & POLLERR));
	CHECK(!truncate(path, 0) && comes(server, POLLERR) && events(server, 0) & POLLHUP);
	CHECK(!vine_close(server) && !vine_close(listener) && !vine_close(a) && !vine_close(b));
	nothing_left();
}

/* Who has the old one still shares nothing with who opens it then. */
static void opened_after_truncation(void)
{
	two();
	CHECK(!truncate(path, 0) && comes(a, POLLERR) && comes(b, POLLERR));
	CHECK(!vine_close(b));
	b = vine_open(name);
	CHECK(b >= 0 && info_of(b).peers == 1);
	CHECK(!vine_close(a) && !vine_close(b));
	nothing_left();
}

#ifndef __SANITIZE_THREAD__

static void other_bus_error(int number)
{
	(void)number;
	_exit(7);
}

/* How a process ends that touches what is not there, where a region of ours was mapped. */
static int end_by_bus_error(void (*handler)(int))
{
	int status = -1, region, fd;
	volatile char *p;
	void *address;
	pid_t pid;

	pid = fork();
	if (!pid) {
		signal(SIGBUS, handler);
		a = vine_open(name);
		region = vine_region(a, 4096, NULL);
		if (vine_map(region, 4096, &address) || vine_unmap(address, 4096))
			_exit(1);
		fd = memfd_create("short", MFD_CLOEXEC);
		p = mmap(address, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
		_exit(p[0]);
	}
	EXPECT(waitpid(pid, &status, 0) == pid);
	return status;
}

/* The library's is there from the first endpoint on: before this, none was made here. */
static void foreign_bus_error(void)
{
	int status;

	fresh();
	status = end_by_bus_error(other_bus_error);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	status = end_by_bus_error(SIG_DFL);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	shm_unlink(shm);
}

#endif

static void truncation(void)
{
	char text[128], longer[128];
	struct stat st;

	connected(8);
	snprintf(text, sizeof(text), "shm:%s?size=16M&trunc=1", shm);
	snprintf(longer, sizeof(longer), "shm:%s?size=32M&trunc=1", shm);
	CHECK(vine_open(text) == -EBUSY);
	CHECK(send_number(client, 1) == 1);
	curtain();
	/* what is left is cleared, and no more than that */
	fresh();
	a = vine_open(name);
	listener = vine_listen(a, "old", 1, 0);
	vine_close(listener);
	vine_close(a);
	snprintf(longer, sizeof(longer), "shm:%s?size=32M&trunc=1", shm);
	a = vine_open(longer);
	CHECK(a >= 0 && info_of(a).incarnation == 1 && info_of(a).segment_size > 30 << 20);
	CHECK(!stat(path, &st) && st.st_size == 32 << 20);
	vine_close(a);
	shm_unlink(shm);
}

/* A flag that is not known, on each kind of descriptor. */
static void unknown_flags(void)
{
	struct vine_transfer t = { .flags = 1u << 31 };

	connected(8);
	CHECK(vine_listen(b, "other", 3, 1u << 31) == -EOPNOTSUPP);
	CHECK(vine_accept(listener, 1u << 31, 0, NULL) == -EOPNOTSUPP);
	CHECK(vine_connect(a, "test", 8, 1u << 31, 0, NULL) == -EOPNOTSUPP);
	CHECK(vine_transfer(client, &t) == -EOPNOTSUPP);
	t.flags = 0;
	CHECK(!vine_transfer(client, &t));	/* nothing to do */
	curtain();
}

/* What the tables say of regions, from both sides. */
static void queried_regions(void)
{
	struct vine_query_region r[8];
	uint64_t bytes, id;
	int region, import, i, n, found = 0;

	connected(8);
	region = vine_region(a, 1, &bytes);
	CHECK(region >= 0 && !vine_attach(client, region, &id));
	import = vine_import(server, id, NULL);
	CHECK(import >= 0);
	n = vine_query(b, VINE_QUERY_REGIONS, r, 8);
	CHECK(n == 2);		/* the rings are one, too */
	for (i = 0; i < n; i++) {
		if (r[i].id != id)
			continue;
		found++;
		CHECK(r[i].bytes == bytes && r[i].peer == info_of(a).peer && r[i].users == 1);
		CHECK(r[i].holders & 1ULL << info_of(b).peer && !(r[i].flags & VINE_QUERY_RINGS));
	}
	CHECK(found == 1);
	CHECK(!vine_close(import) && !vine_close(region));
	curtain();
}

static const struct tap_test tests[] = {
#ifndef __SANITIZE_THREAD__	/* which has no threads after a fork */
	{ "a bus error of somebody else's goes to who handled it before", foreign_bus_error },
#endif
	{ "a name that is wrong, and a file that cannot be used, have errors of their own", names },
	{ "two parts of a file are two segments", parts },
	{ "two files are two segments", files },
	{ "a message goes there and back", ping },
	{ "what the driver refuses is refused in the same way", refusals },
	{ "of a short message the rest is zero", short_message },
	{ "what cannot be pushed keeps a call from pulling", bad_push },
	{ "a full ring is not writable until there is room", full },
	{ "a descriptor is readable when there is a message, and not before", level },
	{ "what comes back raises an edge", edges },
	{ "a hang-up shows after what was sent before", hang_up },
	{ "a connection that is refused hangs up", refused },
	{ "a listener is readable while a connection waits", listener_polls },
	{ "a service is waited for", waited_for },
	{ "a signal ends a wait", signals },
	{ "round trips between threads", round_trips },
	{ "a stream by poll arrives whole and in order", stream },
	{ "a region is one memory for both, until the last has let go", regions },
	{ "a region is zeroed, whoever had its memory before", zeroed },
	{ "a client attaches regions that it made in this segment, and no others", attached },
	{ "a flag that is not known is refused", unknown_flags },
	{ "the tables can be asked", queried },
	{ "the tables tell of regions", queried_regions },
	{ "a queue that is closed by another thread lives as long as a call", closed_by_another },
	{ "a queue that was closed by close(2) ends with its number's next use", closed_otherwise },
	{ "a message for it is no SIGPIPE", no_broken_pipe },
	{ "all descriptors are close-on-exec", close_on_exec },
	{ "endpoints that come and go leave nothing", churn },
	{ "a queue whose other side does the impossible is broken, and says so", impossible },
	{ "who was taken for dead loses what it had, and joins anew", taken_for_dead },
	{ "an endpoint takes another descriptor's number", renumbered },
	{ "processes meet through a server, and stay when it goes", through_server },
	{ "a server that speaks nonsense is an error", server_speaks_nonsense },
	{ "a file that is truncated under us is an error, not a crash", truncated_under_us },
	{ "a queue that had hung up has an error when the file is truncated", hung_up_and_truncated },
	{ "a file that was truncated can be opened anew at once", opened_after_truncation },
	{ "nothing is truncated under a living process", truncation },
#ifndef __SANITIZE_THREAD__
	{ "a forked child has nothing of its parent's, and can open its own", forked },
	{ "a forked child has no mapping of its parent's", forked_mappings },
	{ "round trips between processes", processes },
	{ "a process that was killed is found by its lock, and what it had comes back", killed },
	{ "what a killed process left is cleaned by the next that comes", killed_alone },
	{ "a machine is rung through the server, and rings", machine_rings },
#endif
};

int main(void)
{
	return tap_main(tests, (int)(sizeof(tests) / sizeof(tests[0])));
}
