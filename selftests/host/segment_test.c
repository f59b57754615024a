// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * segment_test.c - files behind endpoints: parts of one file, truncation, locks, no room
 *
 * What two processes do at the same time is made to happen at the worst moment: the library's
 * fcntl(), fallocate(), ftruncate() and nanosleep() are ours, and call whoever is to come in
 * between.
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
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/vine_wire.h>
#include <host/host.h>
#include <vine.h>

#include "tap.h"

#define SECONDS(n)	vine_deadline_ms((n) * 1000)
#define MIB		(1 << 20)
#define BEGIN_BYTE	64

static char path[64];

/* A file of its own for each test. */
static void fresh(void)
{
	static unsigned int count;

	unlink(path);
	snprintf(path, sizeof(path), "/dev/shm/vine-segment-%d-%u", getpid(), count++);
}

static int endpoint(const char *options)
{
	char name[160];

	snprintf(name, sizeof(name), "shm:%s?%s", path, options);
	return vine_open(name);
}

static bool works(int device)
{
	struct vine_info info;

	return !vine_info(device, &info) && info.peers == 1;
}

static off_t file_size(void)
{
	struct stat st;

	return stat(path, &st) ? -1 : st.st_size;
}

/* ---- who comes in between ---- */

typedef void allocation_hook(int mode);
typedef bool room_hook(int mode, off_t bytes);		/* is there none? */
typedef int lock_hook(const struct flock *l);		/* an errno, or 0 */
typedef void locked_hook(const struct flock *l);

static _Atomic(allocation_hook *) before_allocation;	/* once */
static _Atomic(room_hook *) full;
static _Atomic(lock_hook *) before_lock;
static _Atomic(locked_hook *) after_lock;
static atomic_uint most_bytes;				/* that are written at once; 0: all */
static atomic_bool impatient;				/* who waits for somebody does not sleep */

int fallocate(int fd, int mode, off_t first, off_t bytes)
{
	allocation_hook *before = atomic_exchange(&before_allocation, NULL);
	room_hook *no_room = full;

	if (before)
		before(mode);
	if (!no_room || !no_room(mode, bytes))
		return (int)syscall(SYS_fallocate, fd, mode, first, bytes);
	errno = ENOSPC;
	return -1;
}

int ftruncate(int fd, off_t length)
{
	allocation_hook *before = atomic_exchange(&before_allocation, NULL);

	if (before)
		before(0);
	return (int)syscall(SYS_ftruncate, fd, length);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at)
{
	if (most_bytes && count > most_bytes)
		count = most_bytes;
	return syscall(SYS_pwrite64, fd, bytes, count, at);
}

int nanosleep(const struct timespec *time, struct timespec *rest)
{
	return impatient ? 0 : (int)syscall(SYS_nanosleep, time, rest);
}

int fcntl(int fd, int cmd, ...)
{
	lock_hook *before = cmd == F_OFD_SETLK ? before_lock : NULL;
	locked_hook *after;
	va_list args;
	void *arg;
	int ret;

	va_start(args, cmd);
	arg = va_arg(args, void *);
	va_end(args);
	ret = before ? before(arg) : 0;
	if (ret) {
		errno = ret;
		return -1;
	}
	ret = (int)syscall(SYS_fcntl, fd, cmd, arg);
	after = cmd == F_OFD_SETLK && !ret ? after_lock : NULL;
	if (after)
		after(arg);
	return ret;
}

/* ---- parts of one file ---- */

static void longer(int mode)
{
	(void)mode;
	EXPECT(!truncate(path, 16 * MIB));
}

/* Between mapping it and looking at it. */
static void gone(int mode)
{
	EXPECT(mode == FALLOC_FL_KEEP_SIZE && !truncate(path, 0));
}

static void truncated_at_once(void)
{
	int d;

	fresh();
	d = endpoint("size=16M");
	CHECK(d >= 0 && !vine_close(d));
	before_allocation = gone;
	CHECK(endpoint("size=16M") == -ENODEV && !before_allocation);
	unlink(path);
}

/* Another process makes the part behind ours, just after we have seen that the file is short. */
static void never_shorter(void)
{
	int d;

	fresh();
	before_allocation = longer;
	d = endpoint("size=8M");
	CHECK(d >= 0 && !before_allocation);
	CHECK(file_size() == 16 * MIB);
	vine_close(d);
	CHECK(!truncate(path, 0));
	before_allocation = longer;
	d = endpoint("size=8M&trunc=1");
	CHECK(d >= 0 && !before_allocation);
	CHECK(file_size() == 16 * MIB);
	vine_close(d);
	unlink(path);
}

static pthread_barrier_t together;

static void *open_part(void *options)
{
	return (void *)(intptr_t)endpoint(options);
}

static void *open_together(void *options)
{
	pthread_barrier_wait(&together);
	return open_part(options);
}

static void parts_at_once(void)
{
	pthread_t first, second;
	void *a, *b;
	unsigned int i;

	pthread_barrier_init(&together, NULL, 2);
	for (i = 0; i < SCALED(200); i++) {
		fresh();
		pthread_create(&first, NULL, open_together, "off=0&size=8M");
		pthread_create(&second, NULL, open_together, "off=8M&size=8M");
		pthread_join(first, &a);
		pthread_join(second, &b);
		unlink(path);
		CHECK((intptr_t)a >= 0 && (intptr_t)b >= 0);
		CHECK(works((intptr_t)a) && works((intptr_t)b));
		vine_close((intptr_t)a);
		vine_close((intptr_t)b);
	}
	pthread_barrier_destroy(&together);
}

/* What would hold another living segment, or be held by it, is not made. */
static void overlaps(void)
{
	int part, whole;

	fresh();
	part = endpoint("off=16M&size=16M");
	CHECK(part >= 0);
	CHECK(endpoint("off=0") == -EBUSY && strstr(host_why(), "16777216"));
	CHECK(endpoint("size=24M") == -EBUSY);
	CHECK(file_size() == 32 * MIB && works(part));
	whole = endpoint("size=16M");
	CHECK(whole >= 0 && works(whole));
	vine_close(whole);
	/* the first part's size is known now: who does not say it gets no more */
	whole = endpoint("off=0");
	CHECK(whole >= 0 && works(whole) && works(part));
	vine_close(part);
	vine_close(whole);
	unlink(path);

	fresh();
	whole = endpoint("size=32M");
	CHECK(whole >= 0);
	CHECK(endpoint("off=16M") == -EBUSY);
	CHECK(endpoint("off=24M&size=16M") == -EBUSY && file_size() == 32 * MIB);
	CHECK(endpoint("off=16M&trunc=1") == -EBUSY);
	CHECK(works(whole));
	part = endpoint("off=32M&size=16M");
	CHECK(part >= 0 && works(part));
	vine_close(part);
	vine_close(whole);
	unlink(path);
}

/* ---- machines' segments ---- */

#define SLOT_5	(VINE_OFF_PEERS + 5 * sizeof(struct vine_wire_peer))

/* Of @bytes at @off; then its slot 5 is that of a machine, which is there or was. */
static void machines_segment(uint64_t off, uint64_t bytes)
{
	const uint64_t word = VINE_PEER(1, 3, 1, VINE_PEER_LIVE);
	char options[64];
	int d, fd;

	snprintf(options, sizeof(options), "off=%llu&size=%llu", (unsigned long long)off,
		 (unsigned long long)bytes);
	d = endpoint(options);
	fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(d >= 0 && !vine_close(d) && fd >= 0);
	CHECK(pwrite(fd, &word, 8, off + SLOT_5) == 8);
	close(fd);
}

static uint64_t word_at(uint64_t at)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t word = 0;

	EXPECT(pread(fd, &word, sizeof(word), at) == sizeof(word));
	close(fd);
	return word;
}

static void within_machines(void)
{
	fresh();
	machines_segment(0, 64 * MIB);
	CHECK(endpoint("off=32M&size=32M") == -EBUSY && strstr(host_why(), "at byte 0,"));
	CHECK(endpoint("off=32M") == -EBUSY);
	CHECK(endpoint("off=32M&trunc=1") == -EBUSY);
	CHECK(endpoint("off=48M&size=64M") == -EBUSY && file_size() == 64 * MIB);
	CHECK(!word_at(32 * MIB) && !word_at(48 * MIB));
	unlink(path);
}

static void around_machines(void)
{
	int d;

	fresh();
	machines_segment(16 * MIB + 65536, 16 * MIB);
	CHECK(endpoint("size=32M") == -EBUSY && strstr(host_why(), "at byte 16842752,"));
	CHECK(endpoint("") == -EBUSY && !word_at(0));
	d = endpoint("size=16M");
	CHECK(d >= 0 && works(d));
	vine_close(d);
	d = endpoint("trunc=1");	/* it does not beat */
	CHECK(d >= 0 && works(d) && !word_at(16 * MIB + 65536));
	vine_close(d);
	unlink(path);
}

/* What users keep in their regions may well look like a segment. */
static void looks_like_segment(void)
{
	const uint64_t format = VINE_FORMAT(16, 512);
	int whole, joined, behind, fd;

	fresh();
	whole = endpoint("size=32M");
	fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(whole >= 0 && pwrite(fd, &format, 8, 16 * MIB) == 8);
	close(fd);
	joined = endpoint("size=32M");
	CHECK(joined >= 0);
	vine_close(joined);
	behind = endpoint("off=32M&size=16M");
	CHECK(behind >= 0);
	vine_close(behind);
	vine_close(whole);
	unlink(path);
}

/* ---- what is somebody else's ---- */

static void put(const void *bytes, size_t count, off_t at)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	EXPECT(fd >= 0 && pwrite(fd, bytes, count, at) == (ssize_t)count);
	close(fd);
}

/* It is as long as it was, and has the memory that it had. */
static bool untouched(const char *options, int err)
{
	struct stat before, after;

	return EXPECT(!stat(path, &before)) && EXPECT(endpoint(options) == err) &&
		EXPECT(!stat(path, &after)) && EXPECT(after.st_size == before.st_size) &&
		EXPECT(after.st_blocks == before.st_blocks);
}

static void foreign_untouched(void)
{
	const uint64_t newer = VINE_FORMAT(16, 100) + (1 << 24), large = VINE_FORMAT(16, 512);

	fresh();
	put("somebody else\n", 14, 0);
	CHECK(untouched("size=16M", -EUCLEAN));
	fresh();
	put("x", 1, 0x3456);
	CHECK(untouched("size=16M", -EUCLEAN));
	CHECK(!truncate(path, 16 * MIB) && untouched("", -EUCLEAN));
	fresh();
	put(&newer, 8, 0);
	CHECK(untouched("size=16M", -EPROTONOSUPPORT));
	fresh();
	put(&large, 8, 0);
	CHECK(untouched("size=16M", -EFBIG));
	CHECK(untouched("size=4M", -ENOSPC));
	CHECK(untouched("off=64K", -ENOSPC));
	unlink(path);
	/* and none is made */
	CHECK(endpoint("size=4M") == -ENOSPC && access(path, F_OK));
}

static void huge_pages(void)
{
	int fd = memfd_create("vine", MFD_CLOEXEC | MFD_HUGETLB);
	char name[64];

	if (fd < 0)
		return;		/* this kernel has none */
	snprintf(name, sizeof(name), "shm:/proc/self/fd/%d?size=16M", fd);
	EXPECT(vine_open(name) == -EOPNOTSUPP && strstr(host_why(), "hugetlbfs"));
	close(fd);
}

/* ---- truncation ---- */

static void living_part_behind(void)
{
	struct vine_service s;
	int part, listener, d;

	fresh();
	part = endpoint("off=16M&size=16M");
	listener = vine_listen(part, "behind", 1, 0);
	CHECK(part >= 0 && listener >= 0);
	d = endpoint("size=16M");
	CHECK(d >= 0);
	vine_close(d);
	CHECK(endpoint("trunc=1") == -EBUSY && strstr(host_why(), "peer 0 of the segment at byte 16777216 lives"));
	CHECK(endpoint("trunc=1&size=24M") == -EBUSY);
	CHECK(works(part) && vine_services(part, &s, 1) == 1);
	/* up to it, it may */
	d = endpoint("trunc=1&size=16M");
	CHECK(d >= 0 && works(d) && vine_services(part, &s, 1) == 1);
	vine_close(d);
	vine_close(listener);
	vine_close(part);
	d = endpoint("trunc=1");
	CHECK(d >= 0 && works(d));
	vine_close(d);
	unlink(path);
}

static atomic_bool paused;
static struct vine_wire_peer *machine;

static void *beat(void *arg)
{
	(void)arg;
	while (!atomic_load(&paused)) {
		__atomic_fetch_add(&machine->beat, 1, __ATOMIC_SEQ_CST);
		poll(NULL, 0, 1);
	}
	return NULL;
}

/* One that has no lock, in a part that begins in the middle. */
static void living_machine_behind(void)
{
	struct vine_wire_header *header;
	pthread_t t;
	char *base;
	int d, fd;

	fresh();
	d = endpoint("off=16M&size=16M");
	CHECK(d >= 0);
	vine_close(d);
	fd = open(path, O_RDWR | O_CLOEXEC);
	base = mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 16 * MIB);
	close(fd);
	CHECK(base != MAP_FAILED);
	header = (struct vine_wire_header *)base;
	machine = (struct vine_wire_peer *)(base + VINE_OFF_PEERS) + 5;
	machine->word = VINE_PEER(1, 3, 1, VINE_PEER_LIVE);
	atomic_store(&paused, false);
	pthread_create(&t, NULL, beat, NULL);
	CHECK(endpoint("trunc=1") == -EBUSY && strstr(host_why(), "peer 5"));
	CHECK(header->format);
	atomic_store(&paused, true);
	pthread_join(t, NULL);
	d = endpoint("trunc=1");
	CHECK(d >= 0 && works(d) && !header->format);
	vine_close(d);
	munmap(base, 16 * MIB);
	unlink(path);
}

static bool no_holes(int mode, off_t bytes)
{
	(void)bytes;
	return mode & FALLOC_FL_PUNCH_HOLE;
}

/* Zeroes are written where holes cannot be made, and a little at a time. */
static void written_over(void)
{
	int d;

	fresh();
	machines_segment(16 * MIB, 16 * MIB);
	most_bytes = 4096;
	full = no_holes;
	d = endpoint("trunc=1");
	full = NULL;
	most_bytes = 0;
	CHECK(d >= 0 && works(d) && !word_at(16 * MIB) && !word_at(16 * MIB + SLOT_5));
	vine_close(d);
	unlink(path);
}

/* Another process is about to format the part behind. */
static void begun_behind(void)
{
	struct flock l = {
		.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 16 * MIB + BEGIN_BYTE, .l_len = 1,
	};
	int fd;

	fresh();
	put("", 1, 32 * MIB - 1);
	fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0 && !fcntl(fd, F_OFD_SETLK, &l));
	CHECK(endpoint("size=32M") == -EBUSY && strstr(host_why(), "at byte 16777216"));
	close(fd);
	unlink(path);
}

static void never_ready(void)
{
	struct flock l = {
		.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = BEGIN_BYTE, .l_len = 1,
	};
	int fd;

	fresh();
	put("", 1, 32 * MIB - 1);
	fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0 && !fcntl(fd, F_OFD_SETLK, &l));
	impatient = true;
	CHECK(endpoint("off=16M") == -EBUSY);
	impatient = false;
	CHECK(strstr(host_why(), "begins at byte 0 there, and does not get ready"));
	CHECK(!word_at(16 * MIB));
	close(fd);
	unlink(path);
}

/* Of somebody who is no endpoint. */
static void locked_to_the_end(void)
{
	struct flock l = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	int fd;

	fresh();
	put("", 1, MIB);
	fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0 && !fcntl(fd, F_OFD_SETLK, &l));
	CHECK(endpoint("off=16M") == -ENOSPC);
	CHECK(endpoint("off=16M&size=16M") == -EBUSY);
	CHECK(endpoint("off=16M&trunc=1&size=16M") == -EBUSY);
	close(fd);
	unlink(path);
}

static int second;

static void truncate_too(int mode)
{
	if (EXPECT(mode & FALLOC_FL_PUNCH_HOLE))
		second = endpoint("trunc=1&size=16M");
}

static void two_truncate(void)
{
	int first;

	fresh();
	first = endpoint("size=16M");
	CHECK(first >= 0);
	vine_close(first);
	second = 0;
	before_allocation = truncate_too;
	first = endpoint("trunc=1&size=16M");
	CHECK(second == -EBUSY);
	CHECK(first >= 0 && works(first));
	vine_close(first);
	unlink(path);
}

static atomic_bool tried;

/* The part's byte of those who begin. */
static int note_try(const struct flock *l)
{
	if (l->l_start == 16 * MIB + BEGIN_BYTE && l->l_len == 1)
		atomic_store(&tried, true);
	return 0;
}

static pthread_t part_thread;

static void part_too(int mode)
{
	uint64_t until = SECONDS(10);

	EXPECT(mode & FALLOC_FL_PUNCH_HOLE);
	before_lock = note_try;
	EXPECT(!pthread_create(&part_thread, NULL, open_part, "off=16M&size=16M"));
	while (!atomic_load(&tried) && vine_deadline_ms(1) < until)
		poll(NULL, 0, 1);
}

/* Who wants to begin there waits until it is, and overlaps then. */
static void truncated_meanwhile(void)
{
	void *part;
	int first;

	fresh();
	first = endpoint("size=32M");
	CHECK(first >= 0);
	vine_close(first);
	before_allocation = part_too;
	first = endpoint("trunc=1&size=32M");
	pthread_join(part_thread, &part);
	before_lock = NULL;
	CHECK(atomic_load(&tried) && first >= 0 && works(first));
	CHECK((intptr_t)part == -EBUSY);
	vine_close(first);
	unlink(path);
}

/* Of the thread that truncates: after how many of its locks another one comes. */
static __thread unsigned int locks_left;
static __thread bool waits;
static atomic_uint waiter_tries;
static atomic_bool waiter_done;

static int count_tries(const struct flock *l)
{
	if (waits && l->l_type == F_RDLCK && l->l_start == BEGIN_BYTE)
		atomic_fetch_add(&waiter_tries, 1);
	return 0;
}

static void *open_larger(void *arg)
{
	int d;

	(void)arg;
	waits = true;
	d = endpoint("size=32M");
	atomic_store(&waiter_done, true);
	return (void *)(intptr_t)d;
}

/* It goes on when the other one has opened the file, or waits: it tries again. */
static void come_now(const struct flock *l)
{
	uint64_t until = SECONDS(10);

	(void)l;
	if (!locks_left || --locks_left)
		return;
	EXPECT(!pthread_create(&part_thread, NULL, open_larger, NULL));
	while (!atomic_load(&waiter_done) && atomic_load(&waiter_tries) < 2 &&
	       vine_deadline_ms(1) < until)
		poll(NULL, 0, 1);
}

/* False: there are not so many locks. */
static bool waited_after(unsigned int n)
{
	struct vine_info info;
	void *other;
	bool came;
	int d;

	fresh();
	put("", 1, 32 * MIB - 1);
	atomic_store(&waiter_tries, 0);
	atomic_store(&waiter_done, false);
	before_lock = count_tries;
	after_lock = come_now;
	locks_left = n;
	d = endpoint("trunc=1&size=16M");
	came = !locks_left;
	locks_left = 0;
	if (came)
		pthread_join(part_thread, &other);
	after_lock = NULL;
	before_lock = NULL;
	EXPECT(d >= 0 && !vine_info(d, &info) && info.segment_size <= 16 * MIB);
	if (came && EXPECT((intptr_t)other >= 0))
		vine_close((intptr_t)other);
	if (d >= 0)
		vine_close(d);
	unlink(path);
	return came;
}

/* Whenever it comes: it finds what the other has made. */
static void waited_for_format(void)
{
	unsigned int n;

	for (n = 1; waited_after(n); n++)
		;
	CHECK(n > 4);
}

/* ---- who is taken for dead, while somebody truncates ---- */

static void back_while_truncated(void)
{
	struct flock l = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = BEGIN_BYTE, .l_len = 1,
	};
	struct flock its = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
	uint64_t until = SECONDS(10);
	struct vine_wire_peer *slot;
	struct vine_info info;
	struct pollfd p;
	int d, fd, listener;
	char *base;

	fresh();
	d = endpoint("size=16M");
	listener = vine_listen(d, "here", 1, 0);
	CHECK(d >= 0 && listener >= 0 && !vine_info(d, &info));
	fd = open(path, O_RDWR | O_CLOEXEC);
	base = mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(base != MAP_FAILED && !fcntl(fd, F_OFD_SETLK, &l));
	slot = (struct vine_wire_peer *)(base + VINE_OFF_PEERS) + info.peer;
	__atomic_store_n(&slot->word, (slot->word & ~0xffULL) | VINE_PEER_SUSPECT,
			 __ATOMIC_SEQ_CST);
	p = (struct pollfd){ .fd = listener, .events = POLLIN };
	CHECK(poll(&p, 1, 10000) == 1 && p.revents & POLLERR);
	CHECK(vine_info(d, &info) == -ENOTCONN);
	/* nor has it the lock of its slot, which may be another's soon */
	its.l_start = info.peer;
	CHECK(!fcntl(fd, F_OFD_GETLK, &its) && its.l_type == F_UNLCK);
	l.l_type = F_UNLCK;
	CHECK(!fcntl(fd, F_OFD_SETLK, &l));
	while (vine_info(d, &info) && vine_deadline_ms(1) < until)
		poll(NULL, 0, 10);
	CHECK(works(d));
	munmap(base, 16 * MIB);
	close(fd);
	vine_close(listener);
	vine_close(d);
	unlink(path);
}

/* Of somebody else's data under it, until that is cleared. */
static void spoil_under(int d, off_t off)
{
	uint64_t until = SECONDS(10);
	struct vine_info info;

	put("KVMFR---", 8, off);
	while (!vine_info(d, &info) && vine_deadline_ms(1) < until)
		poll(NULL, 0, 10);
	EXPECT(vine_info(d, &info) == -ENOTCONN);
}

/* It comes back when all of the tables are blank. */
static void blank(off_t off, off_t bytes)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	EXPECT(fd >= 0 &&
	       !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, bytes));
	close(fd);
}

static bool works_again(int d)
{
	uint64_t until = SECONDS(10);
	struct vine_info info;

	while (vine_info(d, &info) && vine_deadline_ms(1) < until)
		poll(NULL, 0, 10);
	return works(d);
}

/* It sees the bytes of the part behind as well. */
static void back_not_larger(void)
{
	struct vine_info before, after;
	int d, behind;

	fresh();
	d = endpoint("size=8M");
	CHECK(d >= 0 && !vine_close(d));
	behind = endpoint("off=8M&size=8M");
	d = endpoint("");
	CHECK(behind >= 0 && d >= 0 && !vine_info(d, &before));
	spoil_under(d, 0);
	blank(0, 8 * MIB);
	CHECK(works_again(d) && works(behind));
	CHECK(!vine_info(d, &after) && after.segment_size == before.segment_size);
	vine_close(d);
	vine_close(behind);
	unlink(path);
}

static atomic_uint begun;

static void count_begun(const struct flock *l)
{
	if (l->l_type == F_UNLCK && l->l_start % 65536 == BEGIN_BYTE)
		atomic_fetch_add(&begun, 1);
}

/* Another one is there now, at @at, which shares bytes with what it had. */
static void not_back_over(const char *options, off_t off, const uint64_t *format, off_t at)
{
	uint64_t until = SECONDS(10), none = 0;
	struct vine_info info;
	int d;

	fresh();
	d = endpoint(options);
	CHECK(d >= 0);
	spoil_under(d, off);
	put(format, 8, at);
	blank(off, 8 * MIB);
	atomic_store(&begun, 0);
	after_lock = count_begun;
	while (atomic_load(&begun) < 2 && vine_deadline_ms(1) < until)
		poll(NULL, 0, 10);
	after_lock = NULL;
	CHECK(atomic_load(&begun) >= 2 && vine_info(d, &info) == -ENOTCONN && !word_at(off));
	put(&none, 8, at);
	CHECK(works_again(d));
	vine_close(d);
	unlink(path);
}

static void back_over_another(void)
{
	const uint64_t small = VINE_FORMAT(16, 50), large = VINE_FORMAT(16, 300);

	not_back_over("size=16M", 0, &small, 8 * MIB);
	not_back_over("off=16M&size=16M", 16 * MIB, &large, 0);
}

/* ---- no locks, no room ---- */

static int no_locks(const struct flock *l)
{
	(void)l;
	return EINVAL;
}

static int no_slots(const struct flock *l)
{
	return l->l_type == F_WRLCK ? ENOLCK : 0;
}

static void without_locks(void)
{
	fresh();
	before_lock = no_locks;
	EXPECT(endpoint("size=16M") == -EINVAL && strstr(host_why(), "lock"));
	before_lock = no_slots;
	EXPECT(endpoint("size=16M") == -ENOLCK && strstr(host_why(), "lock"));
	EXPECT(endpoint("size=16M&trunc=1") == -ENOLCK && strstr(host_why(), "lock"));
	before_lock = NULL;
	unlink(path);
}

static bool tables_full(int mode, off_t bytes)
{
	return mode == FALLOC_FL_KEEP_SIZE && bytes > 65536;
}

static bool growth_full(int mode, off_t bytes)
{
	(void)bytes;
	return !mode;
}

static void no_room(void)
{
	struct vine_info before, after;
	int d, region, listener;

	fresh();
	full = growth_full;
	EXPECT(endpoint("size=16M") == -ENOSPC);
	full = tables_full;
	EXPECT(endpoint("size=16M") == -ENOSPC && strstr(host_why(), "full"));
	full = NULL;
	d = endpoint("size=16M");
	listener = vine_listen(d, "here", 1, 0);
	CHECK(d >= 0 && listener >= 0 && !vine_info(d, &before));
	full = tables_full;
	EXPECT(vine_region(d, MIB, NULL) == -ENOSPC);
	EXPECT(vine_connect(d, "here", 4096, VINE_NONBLOCK, 0, NULL) == -ENOSPC);
	region = vine_region(d, 65536, NULL);
	full = NULL;
	CHECK(region >= 0);
	vine_close(region);
	CHECK(works(d) && !vine_info(d, &after) && after.chunks_free == before.chunks_free);
	vine_close(listener);
	vine_close(d);
	unlink(path);
}

/* ---- forks ---- */

#ifndef __SANITIZE_THREAD__	/* which has no threads after a fork */

static unsigned int lock_count, fork_at;
static int children[2];

/* The child says when it is there: what forks do to it is done then. */
static void fork_now(const struct flock *l)
{
	pid_t pid;

	if (l->l_type == F_UNLCK || lock_count++ != fork_at)
		return;
	after_lock = NULL;
	if (fork())
		return;
	pid = getpid();
	EXPECT(write(children[1], &pid, sizeof(pid)) == sizeof(pid));
	alarm(60);
	pause();
	_exit(0);
}

/*
 * A process ends after vine_open(), in the middle of which it has forked: after its first
 * lock, after its second, ... Has it a lock still? -1: there are not so many.
 */
static int forked_after(unsigned int n)
{
	struct flock l = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = BEGIN_BYTE + 1,
	};
	pid_t pid, child = -1;
	int fd;

	fresh();
	EXPECT(!pipe(children));
	pid = fork();
	if (!pid) {
		close(children[0]);
		lock_count = 0;
		fork_at = n;
		after_lock = fork_now;
		_exit(endpoint("size=16M") < 0);
	}
	close(children[1]);
	waitpid(pid, NULL, 0);
	if (read(children[0], &child, sizeof(child)) != sizeof(child))
		child = -1;
	close(children[0]);
	fd = open(path, O_RDWR | O_CLOEXEC);
	EXPECT(fd >= 0 && !fcntl(fd, F_OFD_GETLK, &l));
	close(fd);
	if (child > 0)
		kill(child, SIGKILL);
	unlink(path);
	return child < 0 ? -1 : l.l_type != F_UNLCK;
}

static void forked_while_opening(void)
{
	unsigned int n;
	int held;

	for (n = 0; (held = forked_after(n)) >= 0; n++)
		CHECK(!held);
	CHECK(n >= 2);
}

#endif

static const struct tap_test tests[] = {
	{ "a file that others make longer at the same time stays so", never_shorter },
	{ "a file that is truncated while it is opened is no endpoint", truncated_at_once },
	{ "two parts of a new file are made at once", parts_at_once },
	{ "a segment that would overlap a living one is refused, and says which", overlaps },
	{ "no segment is made in that of machines, which have no locks", within_machines },
	{ "no segment is made around that of machines", around_machines },
	{ "what looks like a segment within one says nothing", looks_like_segment },
	{ "what is refused is as long as it was, and has the memory that it had", foreign_untouched },
	{ "hugetlbfs is refused, and named", huge_pages },
	{ "nothing is truncated over a living part", living_part_behind },
	{ "nothing is truncated over a living machine's part", living_machine_behind },
	{ "where no holes can be made, all is written over", written_over },
	{ "a part that is only just begun is not covered", begun_behind },
	{ "what begins before and does not get ready is said to", never_ready },
	{ "a lock to the end of the file is one", locked_to_the_end },
	{ "of two who truncate at once one is refused", two_truncate },
	{ "nobody begins a part of what is being truncated", truncated_meanwhile },
	{ "who wants to begin waits until what was truncated is a segment again", waited_for_format },
	{ "who was taken for dead does not come back while somebody truncates", back_while_truncated },
	{ "what was cleared comes back as large as it was", back_not_larger },
	{ "what was cleared does not come back over another segment", back_over_another },
	{ "without locks there is no endpoint, and it says why", without_locks },
	{ "a full file system is an error of its own, and the endpoint goes on", no_room },
#ifndef __SANITIZE_THREAD__
	{ "a child that is forked while an endpoint opens keeps no lock of it", forked_while_opening },
#endif
};

int main(void)
{
	int ret = tap_main(tests, (int)(sizeof(tests) / sizeof(tests[0])));

	unlink(path);
	return ret;
}
