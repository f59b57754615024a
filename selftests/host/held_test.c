// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * held_test.c - memory is others' when nobody can write there any more, in whatever process
 *
 * Who is given a region's descriptor maps it without the library, as is done here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/vine_wire.h>
#include <vine.h>

#include "tap.h"

#define SIZE	(16 << 20)

static char path[96], name[128];
static unsigned char *base;
static int a, b, listener, client, server;	/* @b serves */
static int region, import;			/* @import: @b's, of @a's @region */
static uint64_t id, bytes;

/* ---- scenes ---- */

static struct vine_info info_of(int device)
{
	struct vine_info info = { 0 };

	EXPECT(!vine_info(device, &info));
	return info;
}

static void segment(void)
{
	static unsigned int count;
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/vine-held-test-%d-%u", getpid(), count++);
	snprintf(name, sizeof(name), "shm:%s?size=16M", path);
	a = vine_open(name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	base = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	EXPECT(a >= 0 && base != MAP_FAILED);
	close(fd);
}

/* b begins, and serves a. */
static void connected(void)
{
	b = vine_open(name);
	listener = vine_listen(b, "test", 1, 0);
	client = vine_connect(a, "test", 8, VINE_NONBLOCK, 0, NULL);
	server = vine_accept(listener, 0, vine_deadline_ms(10000), NULL);
}

static void imported(void)
{
	segment();
	connected();
	region = vine_region(a, 65536, &bytes);
	EXPECT(b >= 0 && server >= 0 && region >= 0 && !vine_attach(client, region, &id));
	import = vine_import(server, id, NULL);
	EXPECT(import >= 0);
}

static void *map_elsewhere(int fd)
{
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, lseek(fd, 0, SEEK_CUR));
}

static void curtain(void)
{
	struct vine_info info;

	EXPECT(!vine_close(client) && !vine_close(server) && !vine_close(listener));
	EXPECT(!vine_close(a) && !vine_close(b));
	a = vine_open(name);
	info = info_of(a);
	EXPECT(info.peers == 1 && !info.regions && info.chunks_free == info.chunks);
	EXPECT(!vine_close(a));
	munmap(base, SIZE);
	unlink(path);
}

static struct vine_wire_peer *slot(unsigned int n)
{
	return (struct vine_wire_peer *)(base + VINE_OFF_PEERS) + n;
}

static void suspect(unsigned int n)
{
	__atomic_store_n(&slot(n)->word, (slot(n)->word & ~0xffULL) | VINE_PEER_SUSPECT,
			 __ATOMIC_SEQ_CST);
}

static unsigned int state(unsigned int n)
{
	return VINE_PEER_STATE(__atomic_load_n(&slot(n)->word, __ATOMIC_SEQ_CST));
}

/* Until the endpoint in that slot has looked at the others some times. */
static void beats(unsigned int n)
{
	uint64_t before = __atomic_load_n(&slot(n)->beat, __ATOMIC_SEQ_CST);

	while (__atomic_load_n(&slot(n)->beat, __ATOMIC_SEQ_CST) - before < 4)
		poll(NULL, 0, 10);
}

static bool fails(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 10000) == 1 && p.revents & POLLERR;
}

/* Within ten seconds. */
static bool joins(int device, struct vine_info *info)
{
	uint64_t until = vine_deadline_ms(10000);
	int ret;

	while ((ret = vine_info(device, info)) == -ENOTCONN && vine_deadline_ms(1) < until)
		poll(NULL, 0, 10);
	return !ret;
}

/* Is the region that @a has let go of still somebody's? */
static bool is_held(void)
{
	struct vine_query_region r[8];
	int i, n = vine_query(a, VINE_QUERY_REGIONS, r, 8);

	for (i = 0; i < n && i < 8; i++)
		if (r[i].id == id)
			return true;
	return false;
}

static bool is_let_go(void)
{
	uint64_t until = vine_deadline_ms(10000);

	while (is_held() && vine_deadline_ms(1) < until)
		poll(NULL, 0, 10);
	return !is_held();
}

/* ---- tests ---- */

static void closed(void)
{
	char *memory;

	imported();
	memory = map_elsewhere(import);
	CHECK(memory != MAP_FAILED);
	CHECK(!vine_close(import) && !vine_close(region) && is_held());
	beats(0);
	CHECK(is_held());
	munmap(memory, bytes);
	CHECK(is_let_go());
	curtain();
}

/* Of two imports of one region each holds it. */
static void closed_twice(void)
{
	int again;

	imported();
	again = vine_import(server, id, NULL);
	CHECK(again >= 0);
	CHECK(!vine_close(region) && !vine_close(import) && is_held());
	CHECK(!vine_close(again) && !is_held());
	curtain();
}

static void fenced(void)
{
	struct vine_info before, now;
	struct vine_msg m;
	char *memory;

	imported();
	before = info_of(b);
	memory = map_elsewhere(import);
	CHECK(memory != MAP_FAILED);
	suspect(before.peer);
	CHECK(fails(server) && fails(listener));
	/* all is lost, and nothing is handed back */
	CHECK(vine_info(b, &now) == -ENOTCONN && vine_pull(server, &m, 1, 0, 0) == -ENOTCONN);
	CHECK(vine_listen(b, "other", 1, 0) == -ENOTCONN);
	CHECK(!vine_close(region) && state(before.peer) == VINE_PEER_SUSPECT && is_held());
	CHECK(vine_bury(a, before.peer, before.incarnation) == -EBUSY);
	CHECK(!vine_close(import));
	beats(info_of(a).peer);
	CHECK(state(before.peer) == VINE_PEER_SUSPECT && is_held());
	CHECK(vine_info(b, &now) == -ENOTCONN);
	munmap(memory, bytes);
	CHECK(joins(b, &now) && now.incarnation != before.incarnation && !is_held());
	curtain();
}

/* It ends before it could come back. */
static void ends_fenced(void)
{
	struct vine_info before;

	imported();
	before = info_of(b);
	suspect(before.peer);
	CHECK(fails(server));
	CHECK(!vine_close(server) && !vine_close(listener) && !vine_close(b));
	CHECK(!vine_close(region) && is_held());
	CHECK(!vine_close(import) && !is_held() && state(before.peer) == VINE_PEER_FREE);
	CHECK(!vine_close(client));
	connected();
	CHECK(server >= 0);
	curtain();
}

/* Nor does the end of the endpoint end what others map. */
static void ended(void)
{
	unsigned int n;
	char *memory;

	imported();
	n = info_of(b).peer;
	memory = map_elsewhere(import);
	CHECK(memory != MAP_FAILED && !vine_close(import) && !vine_close(region));
	CHECK(!vine_close(server) && !vine_close(listener) && !vine_close(b));
	beats(0);
	CHECK(state(n) != VINE_PEER_FREE && is_held());
	munmap(memory, bytes);
	CHECK(is_let_go());
	CHECK(!vine_close(client));
	connected();
	CHECK(server >= 0);
	curtain();
}

/* Others come while somebody maps a region, and find the segment in order. */
static void joined_meanwhile(void)
{
	int other;

	imported();
	other = vine_open(name);
	CHECK(other >= 0 && info_of(other).peers == 3 && !vine_close(other));
	CHECK(!vine_close(import) && !vine_close(region));
	curtain();
}

/* ---- a mapping that cannot be replaced ---- */

static atomic_bool no_memory;	/* for mmap() by the library */
static void *no_memory_at;

long syscall(long number, ...)
{
	long (*next)(long number, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	long arg[6];
	va_list args;
	int i;

	va_start(args, number);
	for (i = 0; i < 6; i++)
		arg[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_mmap && atomic_load(&no_memory) && (void *)arg[0] == no_memory_at) {
		errno = ENOMEM;
		return -1;
	}
	return next(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

/* Can the byte be read? By the kernel, so that it is no crash if not. */
static bool touchable(const void *address)
{
	int p[2];
	bool can;

	EXPECT(!pipe(p));
	can = write(p[1], address, 1) == 1;
	close(p[0]);
	close(p[1]);
	return can;
}

static void not_replaced(void)
{
	struct vine_info before, now;
	void *memory;

	imported();
	before = info_of(b);
	CHECK(!vine_map(import, bytes, &memory) && touchable(memory));
	no_memory_at = memory;
	atomic_store(&no_memory, true);
	CHECK(!vine_close(import));
	suspect(before.peer);
	CHECK(fails(server) && !touchable(memory));
	CHECK(joins(b, &now) && !vine_unmap(memory, bytes) && !vine_close(region));
	atomic_store(&no_memory, false);
	curtain();
}

/* ---- processes ---- */

#ifndef __SANITIZE_THREAD__

/* Serves, and gives what it imports to a child of its own, which is told to end by @end. */
static _Noreturn void serve(const int *ready, const int *end)
{
	uint64_t its;
	char c;

	b = vine_open(name);
	listener = vine_listen(b, "test", 1, 0);
	server = vine_accept(listener, 0, vine_deadline_ms(20000), NULL);
	if (server < 0 || read(end[0], &its, sizeof(its)) != sizeof(its))
		_exit(1);
	import = vine_import(server, its, NULL);
	if (import < 0 || map_elsewhere(import) == MAP_FAILED)
		_exit(1);
	if (!fork()) {
		close(end[1]);
		if (write(ready[1], "", 1) != 1 || read(end[0], &c, 1))
			_exit(1);
		_exit(0);
	}
	pause();
	_exit(0);
}

/* It is killed, and a child of its own goes on: it may write there. */
static void killed(void)
{
	int ready[2], end[2];
	unsigned int n;
	pid_t pid;
	char c;

	segment();
	CHECK(!pipe(ready) && !pipe(end));
	pid = fork();
	if (!pid)
		serve(ready, end);
	client = vine_connect(a, "test", 8, VINE_WAIT_SERVICE, vine_deadline_ms(10000), NULL);
	region = vine_region(a, 65536, &bytes);
	CHECK(client >= 0 && region >= 0 && !vine_attach(client, region, &id));
	CHECK(write(end[1], &id, sizeof(id)) == sizeof(id) && read(ready[0], &c, 1) == 1);
	n = !info_of(a).peer;
	CHECK(!kill(pid, SIGKILL) && waitpid(pid, NULL, 0) == pid);
	CHECK(!vine_close(region));
	beats(info_of(a).peer);
	CHECK(state(n) != VINE_PEER_FREE && is_held());
	close(end[1]);
	CHECK(is_let_go());
	close(end[0]);
	close(ready[0]);
	close(ready[1]);
	CHECK(!vine_close(client) && !vine_close(a));
	munmap(base, SIZE);
	unlink(path);
}

#endif

static const struct tap_test tests[] = {
	{ "an import that is closed holds its region while somebody maps it", closed },
	{ "each import holds its region", closed_twice },
	{ "who is taken for dead leaves when nobody maps what it had imported", fenced },
	{ "or when it ends", ends_fenced },
	{ "an endpoint that has ended leaves when nobody maps what it had imported", ended },
	{ "others join while somebody maps a region", joined_meanwhile },
	{ "a mapping that cannot be replaced is out of reach", not_replaced },
#ifndef __SANITIZE_THREAD__	/* which has no threads after a fork */
	{ "a killed process is dead when its children let go of its imports", killed },
#endif
};

TAP_MAIN(tests)
