// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * vine_mmap_test.c - regions: what can be mapped, by whom, and for how long
 *
 * "Everything" below is all free memory of the device: whoever has it all and finds
 * his own pattern untouched knows that nothing was given to two.
 */
#include "vine_test.h"

#include <linux/futex.h>
#include <sys/uio.h>

VT_FIXTURE(map)

/* ---- helpers ---- */

static void *map_at(int fd, size_t bytes, int prot, int flags, __u64 offset)
{
	return (void *)syscall(SYS_mmap, NULL, bytes, prot, flags, fd, offset);
}

/* The error of a mapping that is to fail; 0 when it does not. */
static int map_error(int fd, size_t bytes, int prot, int flags, __u64 offset)
{
	void *p = map_at(fd, bytes, prot, flags, offset);

	if (p == MAP_FAILED)
		return -errno;
	munmap(p, bytes);
	return 0;
}

#define RW	(PROT_READ | PROT_WRITE)

/* A number in every page that tells the page. */
static void fill(void *mem, size_t bytes, __u64 seed)
{
	size_t page = sysconf(_SC_PAGESIZE), at;

	for (at = 0; at < bytes; at += page) {
		__u64 v[2] = { seed, at };

		memcpy((char *)mem + at, v, sizeof(v));
		memcpy((char *)mem + at + page - sizeof(v), v, sizeof(v));
	}
}

static bool is_filled(const void *mem, size_t bytes, __u64 seed)
{
	size_t page = sysconf(_SC_PAGESIZE), at;

	for (at = 0; at < bytes; at += page) {
		__u64 v[2] = { seed, at };

		if (memcmp((char *)mem + at, v, sizeof(v)) ||
		    memcmp((char *)mem + at + page - sizeof(v), v, sizeof(v)))
			return false;
	}
	return true;
}

/* All free memory, in as few regions as it takes, each mapped. */
struct everything {
	int n;
	struct {
		int fd;
		size_t bytes;
		void *mem;
	} of[200];
};

static bool take_everything(int dev, struct everything *e)
{
	struct vine_info info;
	struct vine_region r;
	__u64 bytes;

	e->n = 0;
	if (vt_info(dev, &info))
		return false;
	bytes = info.chunks_free * info.chunk_size;
	while (bytes >= info.chunk_size && e->n < (int)ARRAY_SIZE(e->of)) {
		r = (struct vine_region){ .size = sizeof(r), .bytes = bytes };
		if (vt_ioctl(dev, VINE_REGION, &r)) {
			bytes = bytes / 2 / info.chunk_size * info.chunk_size;
			continue;
		}
		e->of[e->n].fd = r.fd;
		e->of[e->n].bytes = r.bytes;
		e->of[e->n].mem = vt_map(r.fd, r.bytes);
		if (!e->of[e->n++].mem)
			return false;
	}
	return !vt_info(dev, &info) && !info.chunks_free;
}

static void give_back(struct everything *e)
{
	while (e->n--) {
		if (e->of[e->n].mem)
			munmap(e->of[e->n].mem, e->of[e->n].bytes);
		close(e->of[e->n].fd);
	}
}

/*
 * Takes everything, writes to each chunk of it, and gives it back. Whatever was given
 * away twice is zero after that, or has lost a page.
 */
static bool scribble(int dev, size_t chunk)
{
	static struct everything e;
	bool ok = take_everything(dev, &e);
	size_t at;
	int i;

	for (i = 0; i < e.n && e.of[i].mem; i++)
		for (at = 0; at < e.of[i].bytes; at += chunk)
			memset((char *)e.of[i].mem + at, 0xdb, 64);
	give_back(&e);
	return ok;
}

/* ---- what can be mapped ---- */

TEST_F(map, shared)
{
	size_t bytes = self->w.chunk;
	char *a, *b, *other;
	size_t i;

	a = vt_map(REGION, bytes);
	b = vt_map(REGION, bytes);
	other = vt_map(IMPORT, bytes);
	ASSERT_NE(NULL, a);
	ASSERT_NE(NULL, b);
	ASSERT_NE(NULL, other);
	EXPECT_TRUE(vt_all_are(a, 0, bytes));
	for (i = 0; i < bytes; i++)
		a[i] = i * 7 + i / 256;
	EXPECT_EQ(0, memcmp(a, b, bytes));
	/* the server sees what the client writes, and the other way round */
	EXPECT_EQ(0, memcmp(a, other, bytes));
	for (i = 0; i < bytes; i++)
		other[i] = i * 5 + i / 512;
	EXPECT_EQ(0, memcmp(other, a, bytes));
	munmap(a, bytes);
	munmap(b, bytes);
	munmap(other, bytes);
}

/* A page in the middle is that page. */
TEST_F(map, at_an_offset)
{
	size_t bytes = 2 * self->w.chunk, page = self->w.page, at;
	int region = vt_region(DEV, bytes);
	char *all, *one;

	ASSERT_LE(0, region);
	all = vt_map(region, bytes);
	ASSERT_NE(NULL, all);
	fill(all, bytes, 1);
	for (at = 0; at < bytes; at += page) {
		one = map_at(region, page, PROT_READ, MAP_SHARED, at);
		ASSERT_NE(MAP_FAILED, one);
		ASSERT_EQ(0, memcmp(one, all + at, page)) TH_LOG("at %zu", at);
		munmap(one, page);
	}
	/* less than a page is a page */
	one = map_at(region, 1, RW, MAP_SHARED, bytes - page);
	ASSERT_NE(MAP_FAILED, one);
	EXPECT_EQ(0, memcmp(one, all + bytes - page, page));
	munmap(one, page);
	munmap(all, bytes);
	close(region);
}

/* Faulted in at once. */
TEST_F(map, populated)
{
	size_t bytes = self->w.chunk;
	char *p = map_at(REGION, bytes, RW, MAP_SHARED | MAP_POPULATE | MAP_LOCKED, 0);

	ASSERT_NE(MAP_FAILED, p);
	EXPECT_TRUE(vt_all_are(p, 0, bytes));
	fill(p, bytes, 3);
	EXPECT_TRUE(is_filled(p, bytes, 3));
	munmap(p, bytes);
}

TEST_F(map, read_only)
{
	size_t bytes = self->w.chunk;
	char *p = map_at(REGION, bytes, PROT_READ, MAP_SHARED, 0);

	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(0, touch(p, false));
	EXPECT_EQ(256 + SIGSEGV, touch(p, true));
	ASSERT_EQ(0, mprotect(p, bytes, RW));
	EXPECT_EQ(0, touch(p, true));
	EXPECT_EQ(1, p[0]);
	ASSERT_EQ(0, mprotect(p, bytes, PROT_NONE));
	EXPECT_EQ(256 + SIGSEGV, touch(p, false));
	munmap(p, bytes);
}

/* A private copy would be no shared memory. */
TEST_F(map, private)
{
	EXPECT_EQ(-EINVAL, map_error(REGION, self->w.page, RW, MAP_PRIVATE, 0));
	EXPECT_EQ(-EINVAL, map_error(REGION, self->w.page, PROT_READ, MAP_PRIVATE, 0));
	EXPECT_EQ(-EINVAL, map_error(IMPORT, self->w.page, RW, MAP_PRIVATE, 0));
}

TEST_F(map, beyond_the_end)
{
	size_t page = self->w.page, bytes = self->w.chunk;
	int fd[2] = { REGION, IMPORT }, i;

	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, map_error(fd[i], bytes, RW, MAP_SHARED, 0));
		EXPECT_EQ(0, map_error(fd[i], page, RW, MAP_SHARED, bytes - page));
		EXPECT_EQ(-EINVAL, map_error(fd[i], bytes + 1, RW, MAP_SHARED, 0));
		EXPECT_EQ(-EINVAL, map_error(fd[i], bytes + page, RW, MAP_SHARED, 0));
		EXPECT_EQ(-EINVAL, map_error(fd[i], page, RW, MAP_SHARED, bytes));
		EXPECT_EQ(-EINVAL, map_error(fd[i], page + 1, RW, MAP_SHARED, bytes - page));
		EXPECT_EQ(-EINVAL, map_error(fd[i], bytes, RW, MAP_SHARED, page));
		EXPECT_EQ(-EINVAL, map_error(fd[i], 1UL << 40, RW, MAP_SHARED, 0));
	}
}

/* Offsets that wrap around, alone or with where the region lies, lead nowhere. */
TEST_F(map, offset_overflow)
{
	size_t page = self->w.page, bytes = self->w.chunk;
	struct vine_info info;
	int bit, err;
	__u64 at;

	ASSERT_EQ(0, vt_info(DEV, &info));
	for (bit = 20; bit < 64; bit++) {
		at = 1ULL << bit;
		if (at < bytes)
			continue;
		err = map_error(REGION, page, RW, MAP_SHARED, at);
		EXPECT_TRUE(err == -EINVAL || err == -EOVERFLOW) TH_LOG("at %llx: %d", at, err);
		err = map_error(REGION, page, RW, MAP_SHARED, -at);
		EXPECT_TRUE(err == -EINVAL || err == -EOVERFLOW) TH_LOG("at %llx: %d", -at, err);
	}
	/* page by page, as far back as the whole segment */
	for (at = page; at <= info.segment_size; at += at < 64 * page ? page : info.chunk_size) {
		err = map_error(REGION, page, RW, MAP_SHARED, -at);
		ASSERT_TRUE(err == -EINVAL || err == -EOVERFLOW) TH_LOG("at %llx: %d", -at, err);
		err = map_error(REGION, bytes, RW, MAP_SHARED, -at);
		ASSERT_TRUE(err == -EINVAL || err == -EOVERFLOW) TH_LOG("at %llx: %d", -at, err);
	}
}

/*
 * vine has no rule of its own for PROT_EXEC. Kernels that mount anonymous inodes noexec
 * refuse it with EPERM, in mmap as in mprotect.
 */
TEST_F(map, executable)
{
	size_t page = self->w.page;
	int err = map_error(REGION, page, PROT_READ | PROT_EXEC, MAP_SHARED, 0);
	char *p = map_at(REGION, page, PROT_READ, MAP_SHARED, 0);

	ASSERT_NE(MAP_FAILED, p);
	EXPECT_TRUE(!err || err == -EPERM) TH_LOG("error %d", err);
	EXPECT_EQ(!err, !mprotect(p, page, PROT_READ | PROT_EXEC));
	EXPECT_TRUE(vt_all_are(p, 0, page));
	munmap(p, page);
}

/* Only regions. */
TEST_F(map, other_descriptors)
{
	int k;

	for (k = 0; k < VT_KINDS; k++) {
		if (k == VT_REGION || k == VT_IMPORT)
			continue;
		EXPECT_EQ(-ENODEV, map_error(self->w.fd[k], self->w.page, RW, MAP_SHARED, 0))
			TH_LOG("kind %d", k);
		EXPECT_EQ(-ENODEV, map_error(self->w.fd[k], self->w.page, PROT_READ,
					     MAP_PRIVATE, 0)) TH_LOG("kind %d", k);
	}
}

/* ---- mappings that change ---- */

/* It does not grow: not even to what the region has behind it. */
TEST_F(map, growth)
{
	size_t page = self->w.page, bytes = self->w.chunk;
	char *p = map_at(REGION, page, RW, MAP_SHARED, 0), *end;

	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(MAP_FAILED, mremap(p, page, 2 * page, MREMAP_MAYMOVE));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(MAP_FAILED, mremap(p, page, 2 * page, 0));
	end = vt_map(REGION, bytes);
	ASSERT_NE(NULL, end);
	EXPECT_EQ(MAP_FAILED, mremap(end, bytes, bytes + page, MREMAP_MAYMOVE));
	/* both are as they were */
	p[0] = 1;
	EXPECT_EQ(1, end[0]);
	munmap(p, page);
	munmap(end, bytes);
}

/* It can be moved, and made smaller, and is the same memory. */
TEST_F(map, moved)
{
	size_t page = self->w.page, bytes = self->w.chunk;
	char *p = vt_map(REGION, bytes), *other = vt_map(IMPORT, bytes), *to, *q;

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, other);
	fill(p, bytes, 5);
	to = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, to);
	q = mremap(p, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	ASSERT_EQ(to, q);
	EXPECT_EQ(256 + SIGSEGV, touch(p, false));
	EXPECT_TRUE(is_filled(q, bytes, 5));
	fill(q, bytes, 6);
	EXPECT_TRUE(is_filled(other, bytes, 6));
	q = mremap(q, bytes, page, 0);
	ASSERT_EQ(to, q);
	vt_drop(&REGION);
	EXPECT_TRUE(is_filled(q, page, 6));
	EXPECT_EQ(256 + SIGSEGV, touch(to + page, false));
	munmap(q, page);
	munmap(other, bytes);
}

/* A hole is a hole; both sides of it go on, and hold the region, without descriptors. */
TEST_F(map, hole)
{
	size_t page = self->w.page, bytes = self->w.chunk;
	char *p = vt_map(REGION, bytes), *end = p + bytes - page;

	ASSERT_NE(NULL, p);
	fill(p, bytes, 7);
	ASSERT_EQ(0, munmap(p + page, bytes - 2 * page));
	vt_drop(&REGION);
	vt_drop(&IMPORT);
	EXPECT_EQ(256 + SIGSEGV, touch(p + page, false));
	EXPECT_EQ(256 + SIGSEGV, touch(end - 1, false));
	ASSERT_TRUE(scribble(DEV, self->w.chunk));
	EXPECT_EQ(7, *(__u64 *)p);
	EXPECT_EQ(7, *(__u64 *)end);
	EXPECT_EQ(bytes - page, ((__u64 *)end)[1]);
	munmap(p, page);
	ASSERT_TRUE(scribble(DEV, self->w.chunk));
	EXPECT_EQ(7, *(__u64 *)end);
	munmap(end, page);
}

/* A child shares the mapping, and holds it when we have let go of it. */
TEST_F(map, child)
{
	size_t bytes = self->w.chunk;
	volatile char *p = vt_map(REGION, bytes), *other = vt_map(IMPORT, bytes);
	int go[2], ret;
	pid_t pid;
	char c;
	int k;

	ASSERT_NE(NULL, (void *)p);
	ASSERT_NE(NULL, (void *)other);
	fill((void *)p, bytes, 8);
	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	pid = vt_fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(go[1]);
		munmap((void *)other, bytes);
		for (k = 0; k < VT_KINDS; k++)
			vt_drop(&self->w.fd[k]);
		if (!is_filled((void *)p, bytes, 8))
			_exit(1);
		p[100] = 42;
		if (read(go[0], &c, 1) != 1)
			_exit(2);
		/* the parent has no mapping and no descriptor now; has it got our memory? */
		_exit(p[100] == 42 && is_filled((void *)p, bytes, 8) ? 0 : 3);
	}
	EXPECT_TRUE(vt_until(other[100] == 42));
	munmap((void *)p, bytes);
	munmap((void *)other, bytes);
	vt_drop(&REGION);
	vt_drop(&IMPORT);
	vt_drop(&CLIENT);
	vt_drop(&SERVER);
	EXPECT_TRUE(scribble(DEV, self->w.chunk));
	EXPECT_EQ(1, write(go[1], "", 1));
	ret = vt_reap(pid);
	EXPECT_EQ(0, ret);
	close(go[0]);
	close(go[1]);
}

/* ---- how long memory is held ---- */

/* Without a single descriptor, as long as it is mapped. */
TEST_F(map, outlives_its_descriptors)
{
	size_t bytes = 3 * self->w.chunk;
	int region = vt_region(DEV, bytes), i;
	struct vt_counts was, is;
	char *p;

	ASSERT_LE(0, region);
	p = vt_map(region, bytes);
	ASSERT_NE(NULL, p);
	fill(p, bytes, 9);
	ASSERT_EQ(0, vt_count(self->w.mon, &was));
	close(region);
	ASSERT_EQ(0, vt_count(self->w.mon, &is));
	EXPECT_EQ(was.chunks_free, is.chunks_free);
	for (i = 0; i < 2; i++) {
		ASSERT_TRUE(scribble(DEV, self->w.chunk));
		EXPECT_TRUE(is_filled(p, bytes, 9));
	}
	/* even pages that were never touched are ours */
	munmap(p, bytes);
	ASSERT_EQ(0, vt_count(self->w.mon, &is));
	EXPECT_EQ(was.chunks_free + 3, is.chunks_free);
}

/* An import holds it too: when the queue, the client and the region are gone. */
TEST_F(map, import_outlives_the_client)
{
	size_t bytes = self->w.chunk;
	char *p = vt_map(REGION, bytes), *other;

	ASSERT_NE(NULL, p);
	fill(p, bytes, 10);
	munmap(p, bytes);
	vt_drop(&CLIENT);
	vt_drop(&REGION);
	vt_drop(&SERVER);
	vt_drop(&LISTENER);
	ASSERT_TRUE(scribble(DEV, self->w.chunk));
	/* mapped only now */
	other = vt_map(IMPORT, bytes);
	ASSERT_NE(NULL, other);
	EXPECT_TRUE(is_filled(other, bytes, 10));
	fill(other, bytes, 11);
	vt_drop(&IMPORT);
	ASSERT_TRUE(scribble(DEV, self->w.chunk));
	EXPECT_TRUE(is_filled(other, bytes, 11));
	munmap(other, bytes);
}

/* Nobody sees what was there before: not a byte, wherever it lies. */
TEST_F(map, zeroed_when_used_again)
{
	const size_t most = 16 << 20;	/* emulated guests are slow */
	int i, ballast = -1, fd[2];
	struct vine_info info;
	size_t bytes;
	char *p;

	ASSERT_EQ(0, vt_info(DEV, &info));
	bytes = info.chunks_free * info.chunk_size;
	if (bytes > most) {
		ballast = vt_region(DEV, bytes - most);
		ASSERT_LE(0, ballast);
		bytes = most;
	}
	for (i = 0; i < 2; i++) {
		/* two, so that the second time they lie otherwise */
		fd[0] = vt_region(DEV, i ? self->w.chunk : bytes / 2);
		fd[1] = vt_region(DEV, bytes / 2);
		ASSERT_LE(0, fd[0]);
		ASSERT_LE(0, fd[1]);
		p = vt_map(fd[1], bytes / 2);
		ASSERT_NE(NULL, p);
		EXPECT_TRUE(vt_all_are(p, 0, bytes / 2));
		memset(p, 0xdb, bytes / 2);
		munmap(p, bytes / 2);
		p = vt_map(fd[0], self->w.chunk);
		ASSERT_NE(NULL, p);
		EXPECT_TRUE(vt_all_are(p, 0, self->w.chunk));
		memset(p, 0xdb, self->w.chunk);
		munmap(p, self->w.chunk);
		close(fd[0]);
		close(fd[1]);
	}
	if (ballast >= 0)
		close(ballast);
}

/* All of it at once: no two regions share a chunk, nor does one with our rings. */
TEST_F(map, everything_is_distinct)
{
	size_t chunk = self->w.chunk, page = self->w.page, at;
	static struct everything e;
	int i;

	EXPECT_EQ(1, vt_push_one(CLIENT, 1));
	EXPECT_EQ(1, vt_push_one(SERVER, 2));
	ASSERT_TRUE(take_everything(DEV, &e));
	for (i = 0; i < e.n; i++) {
		for (at = 0; at < e.of[i].bytes; at += chunk) {
			fill((char *)e.of[i].mem + at, page, at + i);
			fill((char *)e.of[i].mem + at + chunk - page, page, ~(at + i));
		}
	}
	for (i = 0; i < e.n; i++) {
		for (at = 0; at < e.of[i].bytes; at += chunk) {
			ASSERT_TRUE(is_filled((char *)e.of[i].mem + at, page, at + i));
			ASSERT_TRUE(is_filled((char *)e.of[i].mem + at + chunk - page, page,
					      ~(at + i)));
		}
	}
	EXPECT_EQ(1, vt_pull_one(SERVER, 1));
	EXPECT_EQ(1, vt_pull_one(CLIENT, 2));
	EXPECT_EQ(0, vt_attach(CLIENT, e.of[0].fd, NULL));
	give_back(&e);
}

/* ---- what is not ours ---- */

/*
 * Numbers that regions of this segment could have: only what is attached to the queue can
 * be imported, and mapped.
 */
TEST_F(map, guessed_numbers)
{
	int hidden = vt_region(DEV, 1), client, server, fd, found = 0;
	__u64 id, elsewhere;
	__u32 index, gen;

	ASSERT_LE(0, hidden);
	ASSERT_EQ(0, vt_pair(DEV, LISTENER, self->w.name, 2, &client, &server));
	ASSERT_EQ(0, vt_attach(client, hidden, &elsewhere));
	for (index = 0; index < VINE_MAX_REGIONS; index++) {
		id = VINE_REGION_ID(1, index);
		if (id == self->w.id)
			continue;
		ASSERT_EQ(-ENOENT, vt_import(SERVER, id)) TH_LOG("id %llx", id);
	}
	/* near those that there are: the rings' region is among them */
	for (index = 0; index < 256; index++) {
		for (gen = 0; gen < 4; gen++) {
			id = VINE_REGION_ID(VINE_REGION_GEN(elsewhere) + gen - 2, index);
			if (id == self->w.id)
				continue;
			ASSERT_EQ(-ENOENT, vt_import(SERVER, id)) TH_LOG("id %llx", id);
		}
	}
	fd = vt_import(SERVER, elsewhere);
	EXPECT_EQ(-ENOENT, fd);
	fd = vt_import(server, elsewhere);
	found = fd >= 0;
	EXPECT_TRUE(found);
	close(fd);
	close(client);
	close(server);
	close(hidden);
}

/* ---- memory of ours in calls ---- */

/* Messages and structures that lie in a region, in pages not touched before. */
TEST_F(map, messages_in_a_region)
{
	size_t bytes = self->w.chunk, page = self->w.page;
	char *p = vt_map(REGION, bytes), *other = vt_map(IMPORT, bytes);
	struct vine_transfer *t;
	struct vine_msg *m;
	int i;

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, other);
	/* fill it through another mapping, so that this one faults in the call */
	m = vt_map(REGION, bytes);
	ASSERT_NE(NULL, m);
	/* across the border of two pages */
	m = (struct vine_msg *)((char *)m + page - 2 * sizeof(*m) - 32);
	for (i = 0; i < 4; i++)
		m[i] = vt_msg(i);
	munmap((char *)m + 2 * sizeof(*m) + 32 - page, bytes);
	m = (struct vine_msg *)(p + page - 2 * sizeof(*m) - 32);
	ASSERT_EQ(4, vt_push(CLIENT, m, 4));
	m = (struct vine_msg *)(other + 5 * page - 2 * sizeof(*m) - 32);
	ASSERT_EQ(4, vt_pull(SERVER, m, 4, 4, vt_patience()));
	for (i = 0; i < 4; i++) {
		EXPECT_TRUE(vt_is_msg(&m[i], i));
	}
	/* the structure itself, and both at once */
	t = (struct vine_transfer *)(p + 7 * page - 20);
	memset(t, 0, sizeof(*t));
	t->size = sizeof(*t);
	t->push = t->pull = (uintptr_t)p + 9 * page - 32;
	t->push_count = t->pull_count = 1;
	ASSERT_EQ(1, vt_push_one(SERVER, 77));
	*(struct vine_msg *)(other + 9 * page - 32) = vt_msg(78);
	ASSERT_EQ(0, vt_ioctl(CLIENT, VINE_TRANSFER, t));
	EXPECT_EQ(1, t->push_count);
	EXPECT_EQ(1, t->pull_count);
	EXPECT_TRUE(vt_is_msg((struct vine_msg *)(other + 9 * page - 32), 77));
	EXPECT_EQ(1, vt_pull_one(SERVER, 78));
	munmap(p, bytes);
	munmap(other, bytes);
}

/* Other calls with their structures in a region that nothing has touched. */
TEST_F(map, structures_in_a_region)
{
	size_t bytes = self->w.chunk, page = self->w.page;
	char *p = vt_map(REGION, bytes);
	struct vine_services *s;
	struct vine_attach *a;
	struct vine_region *r;

	ASSERT_NE(NULL, p);
	s = (void *)p;
	s->size = sizeof(*s);
	s->count = 1;
	s->array = (uintptr_t)p + 2 * page - 8;
	ASSERT_EQ(0, vt_ioctl(DEV, VINE_SERVICES, s));
	EXPECT_NE(0, ((struct vine_service *)(p + 2 * page - 8))->id);
	r = (void *)(p + 4 * page - 8);
	r->size = sizeof(*r);
	r->bytes = 1;
	ASSERT_EQ(0, vt_ioctl(DEV, VINE_REGION, r));
	a = (void *)(p + 6 * page - 8);
	a->size = sizeof(*a);
	a->region_fd = r->fd;
	ASSERT_EQ(0, vt_ioctl(CLIENT, VINE_ATTACH, a));
	EXPECT_NE(self->w.id, a->id);
	close(r->fd);
	munmap(p, bytes);
}

/* A region and a system call that neither knows of the other. */
TEST_F(map, other_system_calls)
{
	size_t bytes = self->w.chunk, page = self->w.page;
	char *p = vt_map(REGION, bytes), *other = vt_map(IMPORT, bytes), *buf = malloc(bytes);
	int pipes[2], advice, fd;
	struct iovec here, there;
	unsigned char vec[64];

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, other);
	ASSERT_NE(NULL, buf);
	fill(p, bytes, 12);
	/* from and to a pipe: copied by the kernel */
	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC | O_NONBLOCK));
	EXPECT_EQ((ssize_t)page, write(pipes[1], other, page));
	EXPECT_EQ((ssize_t)page, read(pipes[0], p + page, page));
	EXPECT_EQ(0, memcmp(p, other + page, page));
	fill(p, bytes, 12);
	/* pages of it are no pages that can be lent to anybody */
	here = (struct iovec){ buf, page };
	there = (struct iovec){ p, page };
	EXPECT_EQ(-1, vmsplice(pipes[1], &there, 1, 0));
	EXPECT_EQ(-1, process_vm_readv(getpid(), &here, 1, &there, 1, 0));
	EXPECT_EQ(-1, process_vm_writev(getpid(), &here, 1, &there, 1, 0));
	EXPECT_EQ(-1, syscall(SYS_futex, p, FUTEX_WAKE, 1, NULL, NULL, 0));
	fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		EXPECT_EQ(-1, pread(fd, buf, page, (off_t)(uintptr_t)p));
		close(fd);
	}
	/* all advice but to poison it; what it answers is not ours to say */
	for (advice = 0; advice < 32; advice++)
		madvise(p, bytes, advice);
	madvise(p, bytes, MADV_NORMAL);
	EXPECT_EQ(0, mlock(p, bytes));
	EXPECT_EQ(0, munlock(p, bytes));
	msync(p, bytes, MS_SYNC);
	mincore(p, bytes < 64 * page ? bytes : 64 * page, vec);
	EXPECT_TRUE(is_filled(p, bytes, 12));
	EXPECT_TRUE(is_filled(other, bytes, 12));
	close(pipes[0]);
	close(pipes[1]);
	free(buf);
	munmap(p, bytes);
	munmap(other, bytes);
}

/* Many mappings of many regions come and go in several threads. */

struct mapper {
	pthread_t thread;
	int dev, bad;
	size_t chunk;
	__u64 seed;
};

static void *mapper(void *arg)
{
	struct mapper *m = arg;
	int i, fd;
	char *p;

	for (i = 0; i < 50 && !m->bad; i++) {
		size_t bytes = (1 + i % 3) * m->chunk;

		fd = vt_region(m->dev, bytes);
		p = fd < 0 ? NULL : vt_map(fd, bytes);
		if (!p) {
			m->bad = 1;
			break;
		}
		close(fd);
		if (!vt_all_are(p, 0, bytes))
			m->bad = 2;
		fill(p, bytes, m->seed + i);
		sched_yield();
		if (!is_filled(p, bytes, m->seed + i))
			m->bad = 3;
		munmap(p, bytes);
	}
	return NULL;
}

TEST_F(map, threads)
{
	struct mapper m[4];
	int i;

	for (i = 0; i < 4; i++) {
		m[i] = (struct mapper){ .dev = DEV, .chunk = self->w.chunk, .seed = 1000 * i };
		ASSERT_EQ(0, pthread_create(&m[i].thread, NULL, mapper, &m[i]));
	}
	for (i = 0; i < 4; i++) {
		pthread_join(m[i].thread, NULL);
		EXPECT_EQ(0, m[i].bad);
	}
}

TEST_HARNESS_MAIN
