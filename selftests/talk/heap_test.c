// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * heap_test.c - buffers in regions, on a segment of memfds that runs out when told to
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

#include "talk/device.h"

#define MB	(1ULL << 20)

/* ---- the device, and what heap.c calls ---- */

int device = 3;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t room;		/* bytes that vine_region() has left */
static uint64_t largest;	/* that it gives at once */
static unsigned int made, forgotten, warned, alive;
static unsigned int interrupts;	/* -EINTR so often first */
static unsigned int info_interrupts;
static bool mmap_fails;		/* with MAP_FIXED: what was there is gone all the same */
static int region_error, map_error, info_error;
static struct vine_info info = { .generation = 1, .peer = 2, .incarnation = 3 };
static uint64_t serials[1000];	/* of regions that were forgotten */

int vine_info(int fd, struct vine_info *out)
{
	(void)fd;
	if (info_interrupts) {
		info_interrupts--;
		return -EINTR;
	}
	*out = info;
	return info_error;
}

int vine_region(int fd, uint64_t bytes, uint64_t *rounded)
{
	int ret;

	(void)fd;
	bytes = (bytes + 65535) & ~65535ULL;
	if (interrupts) {
		interrupts--;
		return -EINTR;
	}
	if (region_error)
		return region_error;
	pthread_mutex_lock(&lock);
	ret = bytes > room || bytes > largest ? -ENOSPC : 0;
	if (!ret) {
		room -= bytes;
		made++;
		alive++;
	}
	pthread_mutex_unlock(&lock);
	if (ret)
		return ret;
	ret = memfd_create("region", MFD_CLOEXEC);
	if (ret < 0 || ftruncate(ret, bytes))
		abort();
	*rounded = bytes;
	return ret;
}

int vine_map(int region, uint64_t bytes, void **address)
{
	if (map_error)
		return map_error;
	*address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, region, 0);
	return *address == MAP_FAILED ? -errno : 0;
}

int vine_unmap(void *address, uint64_t bytes)
{
	return munmap(address, bytes) ? -errno : 0;
}

int vine_close(int descriptor)
{
	return close(descriptor) ? -errno : 0;
}

/* The linker gives heap.c this in place of the real one. */
void *__real_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);

void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	if (!mmap_fails || !(flags & MAP_FIXED))
		return __real_mmap(at, size, prot, flags, fd, offset);
	munmap(at, size);
	errno = ENOMEM;
	return MAP_FAILED;
}

void connections_forget(const struct heap_region *r)
{
	pthread_mutex_lock(&lock);
	serials[forgotten++ % 1000] = r->serial;
	room += r->bytes;
	alive--;
	pthread_mutex_unlock(&lock);
}

/* Tasks that nobody waits for are done; one of them had that buffer. */
static struct heap_block *of_done_task;

void connections_poll(void)
{
	if (of_done_task)
		heap_free(of_done_task);
	of_done_task = NULL;
}

void talk_warn(const char *format, ...)
{
	(void)format;
	__atomic_add_fetch(&warned, 1, __ATOMIC_RELAXED);
}

static void begin(void)
{
	room = largest = 1ULL << 40;
	made = forgotten = warned = alive = interrupts = info_interrupts = 0;
	region_error = map_error = info_error = 0;
	info.incarnation = 3;
}

/* ---- blocks ---- */

static int redzone_is_whole(const struct heap_block *b, uint64_t size)
{
	const uint8_t *p = (const uint8_t *)b->address + size;
	uint64_t n = ((size + 63) & ~63ULL) - size + TALK_REDZONE;

	while (n--)
		if (*p++ != TALK_REDZONE_BYTE)
			return 0;
	return 1;
}

static void sizes(void)
{
	static const uint64_t some[] = { 1, 63, 64, 65, 4095, 4096, MB - 64, MB, 3 * MB + 1 };
	struct heap_block *b[9];
	unsigned int i;

	begin();
	for (i = 0; i < 9; i++) {
		CHECK(!heap_alloc(some[i], &b[i]));
		CHECK((uintptr_t)b[i]->address % 64 == 0 && b[i]->offset % 64 == 0);
		CHECK(b[i]->region->slot < TALK_REGIONS);
		memset(b[i]->address, 0x11 * i, some[i]);
	}
	for (i = 0; i < 9; i++) {
		uint8_t *p = b[i]->address;

		CHECK(redzone_is_whole(b[i], some[i]));
		CHECK(p[0] == (uint8_t)(0x11 * i) && p[some[i] - 1] == (uint8_t)(0x11 * i));
		p[some[i]] = 0;
		CHECK(!redzone_is_whole(b[i], some[i]));
		heap_redzone(b[i], some[i]);
		CHECK(redzone_is_whole(b[i], some[i]));
	}
	for (i = 0; i < 9; i++)
		heap_free(b[i]);
	CHECK(alive == 1);
	heap_close();
}

/* What is in the region at the block's offset is what the application sees. */
static void address_and_offset(void)
{
	struct heap_block *a, *b;
	char word[6] = "";

	begin();
	CHECK(!heap_alloc(100, &a) && !heap_alloc(100, &b));
	strcpy(b->address, "hello");
	CHECK(pread(b->region->descriptor.fd, word, 5, b->offset) == 5);
	CHECK(!strcmp(word, "hello"));
	heap_free(a);
	heap_free(b);
	heap_close();
}

/* Freed in any order, all of it is one gap again: a block of that size fits there. */
static void coalesces(void)
{
	static const unsigned char orders[][4] = {
		{ 0, 1, 2, 3 }, { 3, 2, 1, 0 }, { 0, 2, 1, 3 }, { 1, 3, 0, 2 }, { 2, 0, 3, 1 },
	};
	struct heap_block *b[4], *all;
	unsigned int i, j;

	begin();
	largest = MB;
	for (i = 0; i < 5; i++) {
		for (j = 0; j < 4; j++)
			CHECK(!heap_alloc(MB / 4 - TALK_REDZONE, &b[j]));
		CHECK(made == 1);
		for (j = 0; j < 4; j++)
			heap_free(b[orders[i][j]]);
		CHECK(!heap_alloc(MB - TALK_REDZONE, &all));
		CHECK(made == 1);
		heap_free(all);
	}
	heap_close();
}

static uint64_t random_number(void)
{
	static uint64_t x = 88172645463325252ULL;

	x ^= x << 13;
	x ^= x >> 7;
	return x ^= x << 17;
}

/* No two blocks overlap: each keeps what was written to it. */
static void random_lives(void)
{
	struct {
		struct heap_block *b;
		uint64_t size;
		uint8_t byte;
	} lives[200] = { };
	unsigned int i, step;

	begin();
	for (step = 0; step < SCALED(40000); step++) {
		i = random_number() % 200;
		if (lives[i].b) {
			uint8_t *p = lives[i].b->address;

			CHECK(p[0] == lives[i].byte && p[lives[i].size / 2] == lives[i].byte &&
			      p[lives[i].size - 1] == lives[i].byte);
			CHECK(redzone_is_whole(lives[i].b, lives[i].size));
			heap_free(lives[i].b);
			lives[i].b = NULL;
		} else {
			lives[i].size = 1 + random_number() % (random_number() % 10 ? 2000 : 100000);
			lives[i].byte = step;
			CHECK(!heap_alloc(lives[i].size, &lives[i].b));
			memset(lives[i].b->address, lives[i].byte, lives[i].size);
		}
	}
	for (i = 0; i < 200; i++)
		if (lives[i].b)
			heap_free(lives[i].b);
	CHECK(alive == 1);
	heap_close();
}

/* ---- regions ---- */

static void regions_grow(void)
{
	static struct heap_block *b[20000];
	unsigned int i, n = 0;
	uint64_t all = 0;

	begin();
	/* 20 GB in buffers of 1 MB */
	for (n = 0; n < 20000; n++) {
		int ret = heap_alloc(MB - TALK_REDZONE, &b[n]);

		CHECK(!ret);
		all += b[n]->bytes;
	}
	CHECK(all == 20000 * MB);
	CHECK(made <= TALK_REGIONS);
	CHECK((1ULL << 40) - room < all + all / 3);	/* not much more than is needed */
	for (i = 0; i < n; i++)
		heap_free(b[i]);
	CHECK(alive == 1);
	heap_close();
}

static void given_back_but_one(void)
{
	struct heap_block *a, *b, *c;
	uint64_t first;

	begin();
	CHECK(!heap_alloc(1, &a));
	first = a->region->serial;
	CHECK(!heap_alloc(5 * MB, &b) && !heap_alloc(50 * MB, &c));
	CHECK(made == 3 && alive == 3);
	heap_free(b);
	CHECK(alive == 3);		/* the one that is kept */
	heap_free(c);
	CHECK(alive == 2);		/* now this is it */
	heap_free(a);
	CHECK(alive == 1 && serials[1] != first);
	CHECK(!heap_alloc(1, &a));	/* no new one */
	CHECK(made == 3 && a->region->serial == first);
	heap_free(a);
	heap_close();
}

static void spare_is_given_back_for_room(void)
{
	struct heap_block *b;

	begin();
	room = 10 * MB;
	CHECK(!heap_alloc(6 * MB, &b));
	heap_free(b);
	CHECK(!heap_alloc(8 * MB, &b));	/* does not fit beside the first */
	CHECK(made == 2 && alive == 1 && !warned);
	heap_free(b);
	heap_close();
}

/* The slot and the serial of a region name it. */
static void slots_and_serials(void)
{
	struct heap_block *a, *b, *c;
	unsigned int slot;
	uint64_t serial;

	begin();
	CHECK(!heap_alloc(1, &a) && !heap_alloc(10 * MB, &b) && !heap_alloc(20 * MB, &c));
	slot = b->region->slot;
	serial = b->region->serial;
	CHECK(a->region->slot != slot && c->region->slot != slot);
	heap_free(b);
	heap_free(c);
	CHECK(!heap_alloc(30 * MB, &b) && !heap_alloc(40 * MB, &c));
	CHECK(b->region->slot == slot || c->region->slot == slot);
	CHECK(b->region->serial > serial && c->region->serial > serial);
	heap_free(a);
	heap_free(b);
	heap_free(c);
	heap_close();
}

static void no_room(void)
{
	struct heap_block *a, *b;

	begin();
	room = MB + MB / 2;
	CHECK(!heap_alloc(MB, &a));		/* smaller than it would like */
	CHECK(heap_alloc(MB, &b) == -ENOSPC);
	CHECK(warned == 1);
	CHECK(heap_alloc(UINT64_MAX, &b) == -ENOSPC);
	CHECK(heap_alloc(UINT64_MAX - 63, &b) == -ENOSPC);
	CHECK(heap_alloc(1ULL << 48, &b) == -ENOSPC);
	CHECK(warned == 4);
	CHECK(!heap_alloc(MB / 4, &b));		/* the rest can still be had */
	heap_free(a);
	heap_free(b);
	heap_close();
}

/* The segment is fragmented: no large regions. */
static void smaller_regions(void)
{
	struct heap_block *b[60];
	unsigned int i;

	begin();
	largest = 8 * MB;
	for (i = 0; i < 40; i++)
		CHECK(!heap_alloc(8 * MB - 64 - 64, &b[i]));
	CHECK(heap_alloc(9 * MB, &b[40]) == -ENOSPC);
	for (i = 0; i < 40; i++)
		heap_free(b[i]);
	heap_close();
}

/* What tasks hold that are done, but that nobody has asked for, comes back before that. */
static void held_by_tasks(void)
{
	struct heap_block *a, *b;

	begin();
	room = MB;
	CHECK(!heap_alloc(MB / 2, &a));
	CHECK(heap_alloc(MB / 2, &b) == -ENOSPC && warned == 1);
	of_done_task = a;
	CHECK(!heap_alloc(MB / 2, &b) && warned == 1);
	heap_free(b);
	heap_close();
}

static void too_many_regions(void)
{
	struct heap_block *b[TALK_REGIONS], *c;
	unsigned int i;

	begin();
	largest = MB;
	for (i = 0; i < TALK_REGIONS; i++)
		CHECK(!heap_alloc(MB - TALK_REDZONE, &b[i]));
	CHECK(heap_alloc(1, &c) == -ENOSPC);
	CHECK(made == TALK_REGIONS && warned == 1);
	heap_free(b[7]);
	CHECK(!heap_alloc(1, &c));
	heap_free(c);
	/* that one's region is too small, and goes for a larger one */
	largest = 2 * MB;
	CHECK(!heap_alloc(2 * MB - TALK_REDZONE, &c) && alive == TALK_REGIONS);
	heap_free(c);
	for (i = 0; i < TALK_REGIONS; i++)
		if (i != 7)
			heap_free(b[i]);
	CHECK(alive == 1);
	heap_close();
}

static void errors(void)
{
	struct heap_block *b;

	begin();
	interrupts = 3;
	info_interrupts = 2;
	CHECK(!heap_alloc(1, &b) && !interrupts && !info_interrupts);
	heap_free(b);
	heap_close();

	begin();
	region_error = -EMFILE;
	CHECK(heap_alloc(1, &b) == -EMFILE && warned == 1);
	region_error = 0;
	map_error = -ENOMEM;
	CHECK(heap_alloc(1, &b) == -ENOMEM && warned == 2);
	map_error = 0;
	info_error = -ENODEV;
	CHECK(heap_alloc(1, &b) == -ENODEV);
	info_error = 0;
	CHECK(!heap_alloc(1, &b));		/* nothing of it is left: slot 0 is free */
	CHECK(b->region->slot == 0);
	heap_free(b);
	heap_close();
}

/* ---- what became unsafe ---- */

static void distrusted(void)
{
	struct heap_block *a, *b, *c;
	uint64_t serial;

	begin();
	CHECK(!heap_alloc(100, &a) && !heap_alloc(100, &b));
	serial = a->region->serial;
	heap_distrust(a);
	heap_free(a);
	CHECK(!heap_alloc(100, &c));	/* somewhere else */
	CHECK(c->region->serial != serial);
	CHECK(alive == 2);
	strcpy(b->address, "mine");	/* still there */
	heap_distrust(b);
	heap_free(b);			/* the last one there */
	CHECK(alive == 1 && serials[0] == serial);
	heap_free(c);
	CHECK(alive == 1);
	heap_close();
}

static void taken_for_dead(void)
{
	struct heap_block *a, *b, *c;
	uint8_t *p;

	begin();
	CHECK(!heap_alloc(100, &a) && !heap_alloc(10 * MB, &b));
	heap_free(b);			/* b's region is the spare one */
	memset(a->address, 1, 100);
	heap_check();			/* all is well: nothing happens */
	p = a->address;
	CHECK(p[0] == 1 && !a->region->lost && alive == 2);
	info_interrupts = 1;
	heap_check();
	info_error = -EPERM;		/* nobody knows */
	heap_check();
	info_error = 0;
	CHECK(p[0] == 1 && !a->region->lost && alive == 2);

	info.incarnation = 4;
	if (ftruncate(a->region->descriptor.fd, 0))	/* as a device does it: SIGBUS */
		return;
	heap_check();
	CHECK(a->region->lost && p[0] == 0);
	p[0] = 5;
	CHECK(alive == 1);		/* the spare one went */
	CHECK(!heap_alloc(100, &c) && !c->region->lost && c->region != a->region);
	heap_check();			/* twice does no harm */
	CHECK(p[0] == 5);
	heap_free(a);
	CHECK(alive == 1);
	info_error = -ENODEV;		/* unplugged: everything is lost */
	CHECK(!c->region->lost);
	heap_check();
	CHECK(c->region->lost);
	heap_free(c);
	CHECK(alive == 0);
	heap_close();
}

/* There is no memory in place of what is lost: then somebody else's may come there. */
static void not_replaced(void)
{
	struct heap_block *a;
	uint8_t *p;

	begin();
	CHECK(!heap_alloc(100, &a));
	info.incarnation = 4;
	mmap_fails = true;
	heap_check();
	mmap_fails = false;
	p = mmap(a->region->first->address, MB, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	CHECK(p == a->address);
	p[0] = 1;
	heap_free(a);
	CHECK(alive == 0 && !msync(p, MB, MS_ASYNC) && p[0] == 1);
	munmap(p, MB);
	heap_close();
}

/* A child neither maps nor has open what was its parent's. */
static void forked(void)
{
	struct heap_block *b;
	int status, fd;
	pid_t pid;

	begin();
	CHECK(!descriptors_init() && !heap_alloc(100, &b));
	fd = b->region->descriptor.fd;
	pid = fork();
	if (!pid) {
		unsigned char vec;
		int mapped = !mincore((void *)((uintptr_t)b->address & ~4095UL), 1, &vec);
		int bad = mapped;

		descriptors_forked();
		heap_forked();
		bad |= fcntl(fd, F_GETFD) >= 0 ? 2 : 0;
		bad |= heap_alloc(100, &b) ? 4 : 0;	/* and begins anew */
		_exit(bad);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	memset(b->address, 1, 100);
	heap_free(b);
	heap_close();
}

/* ---- threads ---- */

static void *churn(void *arg)
{
	uint64_t x = (uintptr_t)arg, size;
	struct heap_block *b[8] = { };
	unsigned int i, n;

	for (n = 0; n < SCALED(20000); n++) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		i = x >> 61;
		if (b[i]) {
			EXPECT(*(uint8_t *)b[i]->address == (uint8_t)(uintptr_t)arg);
			heap_free(b[i]);
			b[i] = NULL;
			continue;
		}
		size = 1 + (x >> 40) % (n % 64 ? 5000 : 2 * MB);
		if (heap_alloc(size, &b[i]))
			return (void *)1;
		*(uint8_t *)b[i]->address = (uintptr_t)arg;
		if (n % 1000 == 0)
			heap_distrust(b[i]);
		if (n % 512 == 0)
			heap_check();
	}
	for (i = 0; i < 8; i++)
		if (b[i])
			heap_free(b[i]);
	return NULL;
}

static void threads(void)
{
	pthread_t t[4];
	uintptr_t i;
	void *ret;

	begin();
	for (i = 0; i < 4; i++)
		CHECK(!pthread_create(&t[i], NULL, churn, (void *)(i + 1)));
	for (i = 0; i < 4; i++) {
		pthread_join(t[i], &ret);
		EXPECT(!ret);
	}
	CHECK(alive <= 1);
	heap_close();
}

static const struct tap_test tests[] = {
	{ "blocks of any size are aligned, apart, and followed by a redzone", sizes },
	{ "a block is at its offset in its region", address_and_offset },
	{ "neighbours that are freed become one gap, in any order", coalesces },
	{ "random lives: nothing overlaps, all memory comes back", random_lives },
	{ "20 GB need no more regions than can be attached, and little more memory", regions_grow },
	{ "regions without blocks are given back, but for the latest", given_back_but_one },
	{ "that one too, when there is no room", spare_is_given_back_for_room },
	{ "a slot is used again, a serial never", slots_and_serials },
	{ "no room is -ENOSPC and said; what fits can still be had", no_room },
	{ "a fragmented segment gives smaller regions", smaller_regions },
	{ "buffers of tasks that are done are room, too", held_by_tasks },
	{ "as many regions as can be attached, and no more", too_many_regions },
	{ "errors leave nothing behind; EINTR is no error", errors },
	{ "where a lost task may write, there is no new block", distrusted },
	{ "this machine was taken for dead: zeroed memory, no SIGBUS, new regions", taken_for_dead },
	{ "lost memory that nothing can replace is never unmapped", not_replaced },
	{ "a forked child has nothing of it", forked },
	{ "four threads", threads },
};

TAP_MAIN(tests)
