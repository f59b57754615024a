// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * segment_test.c - blank, foreign, older and newer segments; geometry
 */
#include <sys/mman.h>
#include "tap.h"
#include "world.h"

#define MB	(1ULL << 20)

static void *blank(u64 size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		printf("Bail out! no memory\n");
		exit(2);
	}
	return p;
}

static void formats_blank(void)
{
	struct vine_wire_header *h = blank(16 * MB);
	struct vine_geometry g;
	u64 i, sum = 0;

	CHECK(!vine_segment_open(h, 16 * MB, &g));
	CHECK(h->format && h->generation && g.format == h->format);
	for (i = 3; i < 16 * MB / 8; i++)
		sum |= ((u64 *)h)[i];
	CHECK(!sum);
	munmap(h, 16 * MB);
}

static void uses_all(void)
{
	u64 size;
	struct vine_geometry g;
	void *p;

	for (size = 8 * MB; size <= 1024 * MB; size += 8 * MB + (size > 64 * MB ? 56 * MB : 0)) {
		p = blank(size);
		CHECK(!vine_segment_open(p, size, &g));
		/* no whole chunk is left over, beyond the rounding of the tables */
		CHECK(g.size <= size && size - g.size < 2ULL << g.shift);
		CHECK(g.shift == 16);
		CHECK(!(g.chunk_off & 0xffff));
		CHECK(g.chunk_off >= VINE_OFF_CHUNKMAP + g.chunks * 8ULL);
		CHECK(g.chunk_off + ((u64)g.chunks << g.shift) == g.size);
		munmap(p, size);
	}
}

static void opens_again(void)
{
	struct vine_wire_header *h = blank(16 * MB);
	struct vine_geometry a, b;
	u64 generation;

	CHECK(!vine_segment_open(h, 16 * MB, &a));
	generation = h->generation;
	CHECK(!vine_segment_open(h, 16 * MB, &b));
	CHECK(!memcmp(&a, &b, sizeof(a)) && h->generation == generation);
	munmap(h, 16 * MB);
}

static void sees_larger(void)
{
	void *p = blank(32 * MB);
	struct vine_geometry a, b;

	CHECK(!vine_segment_open(p, 16 * MB, &a));
	CHECK(!vine_segment_open(p, 32 * MB, &b));
	CHECK(!memcmp(&a, &b, sizeof(a)));
	munmap(p, 32 * MB);
}

static void sees_smaller(void)
{
	void *p = blank(32 * MB);
	struct vine_geometry a;

	CHECK(!vine_segment_open(p, 32 * MB, &a));
	CHECK(vine_segment_open(p, 16 * MB, &a) == -EFBIG);
	CHECK(vine_segment_open(p, a.size - 1, &a) == -EFBIG);
	CHECK(!vine_segment_open(p, a.size, &a));
	munmap(p, 32 * MB);
}

/* One word of somebody else's at each of these places. */
static void foreign(void)
{
	static const u64 at[] = {
		0, 8, 16, 24, 4088, VINE_OFF_PEERS, VINE_OFF_PEERS + 8, VINE_OFF_SERVICES,
		VINE_OFF_QUEUES, VINE_OFF_REGIONS, VINE_OFF_CHUNKMAP - 8,
	};
	u8 *p = blank(8 * MB), *copy = blank(8 * MB);
	struct vine_geometry g;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		*(u64 *)(p + at[i]) = 0x464d524b;
		memcpy(copy, p, 8 * MB);
		CHECK(vine_segment_open(p, 8 * MB, &g) == -EINVAL);
		CHECK(!memcmp(copy, p, 8 * MB));
		*(u64 *)(p + at[i]) = 0;
	}
	CHECK(!vine_segment_open(p, 8 * MB, &g));
	munmap(p, 8 * MB);
	munmap(copy, 8 * MB);
}

static void newer(void)
{
	struct vine_wire_header *h = blank(16 * MB);
	struct vine_geometry g;
	u8 *copy = blank(16 * MB);

	CHECK(!vine_segment_open(h, 16 * MB, &g));
	h->format += 1ULL << 24;
	memcpy(copy, h, 16 * MB);
	CHECK(vine_segment_open(h, 16 * MB, &g) == -EPROTONOSUPPORT);
	CHECK(!memcmp(copy, h, 16 * MB));
	munmap(h, 16 * MB);
	munmap(copy, 16 * MB);
}

static void incompatible(void)
{
	struct vine_wire_header *h = blank(16 * MB);
	struct vine_geometry g;
	int bit;

	CHECK(!vine_segment_open(h, 16 * MB, &g));
	for (bit = 32; bit < 64; bit++) {
		h->features = 1ULL << bit;
		h->generation = 0;
		CHECK(vine_segment_open(h, 16 * MB, &g) == -EPROTONOSUPPORT);
		CHECK(!h->generation);
	}
	munmap(h, 16 * MB);
}

static void compatible(void)
{
	struct vine_wire_header *h = blank(16 * MB);
	struct vine_geometry g;

	CHECK(!vine_segment_open(h, 16 * MB, &g));
	h->features = 0xffffffff;
	CHECK(!vine_segment_open(h, 16 * MB, &g));
	munmap(h, 16 * MB);
}

static void too_small(void)
{
	u64 *p = blank(8 * MB);
	struct vine_geometry g;

	CHECK(vine_segment_open(p, 8 * MB - 1, &g) == -ENOSPC);
	CHECK(vine_segment_open(p, 0, &g) == -ENOSPC);
	CHECK(!p[0] && !p[2]);
	munmap(p, 8 * MB);
}

static void no_chunks(void)
{
	struct vine_geometry g;

	CHECK(vine_geometry_of(VINE_FORMAT(16, 0), ~0ULL, &g) == -EFBIG);
}

static void bad_shifts(void)
{
	struct vine_geometry g;
	u32 s;

	for (s = 0; s < 256; s++)
		if (s < VINE_MIN_CHUNK_SHIFT || s > VINE_MAX_CHUNK_SHIFT)
			CHECK(vine_geometry_of(VINE_FORMAT(s, 1), ~0ULL, &g) == -EFBIG);
}

static void most_chunks(void)
{
	struct vine_geometry g;
	u32 s;

	for (s = VINE_MIN_CHUNK_SHIFT; s <= VINE_MAX_CHUNK_SHIFT; s++) {
		CHECK(vine_geometry_of(VINE_FORMAT(s, VINE_MAX_CHUNKS), 1 << 30, &g) == -EFBIG);
		CHECK(!vine_geometry_of(VINE_FORMAT(s, VINE_MAX_CHUNKS), ~0ULL, &g));
		CHECK(g.size == g.chunk_off + ((u64)VINE_MAX_CHUNKS << s));
		CHECK(g.chunk_off >= VINE_OFF_CHUNKMAP + 8ULL * VINE_MAX_CHUNKS);
	}
}

/* Of each kind of segment: the check says what opening would, and writes nothing. */
static void check_only(void)
{
	static const struct { u64 format, features, data; } kind[] = {
		{ 0, 0, 0 },
		{ VINE_FORMAT(16, 40), 0, 1 },
		{ VINE_FORMAT(16, 400), 0, 0 },
		{ VINE_FORMAT(16, 40), 1ULL << 40, 0 },
		{ VINE_FORMAT(16, 40) + (1ULL << 24), 0, 0 },
		{ 0, 0, 1 },
	};
	u8 *p = blank(16 * MB), *copy = blank(16 * MB);
	struct vine_geometry g;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(kind); i++) {
		struct vine_wire_header *h = (void *)p;
		int err;

		h->format = kind[i].format;
		h->features = kind[i].features;
		h->generation = 0;
		*(u64 *)(p + VINE_OFF_CHUNKMAP - 8) = kind[i].data;
		memcpy(copy, p, 16 * MB);
		err = vine_segment_check(p, 16 * MB);
		CHECK(!memcmp(copy, p, 16 * MB));
		CHECK(err == vine_segment_open(p, 16 * MB, &g));
	}
	CHECK(vine_segment_check(p, 8 * MB - 1) == -ENOSPC);
	munmap(p, 16 * MB);
	munmap(copy, 16 * MB);
}

static void *race_base;
static pthread_barrier_t race_start;

static void *opener(void *arg)
{
	pthread_barrier_wait(&race_start);
	if (vine_segment_open(race_base, 8 * MB, arg))
		((struct vine_geometry *)arg)->format = 0;
	else	/* both words, as the first call that came back saw them */
		((struct vine_geometry *)arg)->size =
			vine_ld64(&((struct vine_wire_header *)race_base)->generation);
	return NULL;
}

static void formats_race(void)
{
	struct vine_geometry g[2];
	pthread_t t[2];
	int round, i;

	pthread_barrier_init(&race_start, NULL, 2);
	for (round = 0; round < SCALED(200); round++) {
		race_base = blank(8 * MB);
		for (i = 0; i < 2; i++)
			pthread_create(&t[i], NULL, opener, &g[i]);
		for (i = 0; i < 2; i++)
			pthread_join(t[i], NULL);
		EXPECT(g[0].format && g[0].format == g[1].format);
		EXPECT(g[0].size && g[0].size == g[1].size);
		munmap(race_base, 8 * MB);
	}
}

static const struct tap_test tests[] = {
	{ "a blank segment is formatted by two words and no other", formats_blank },
	{ "geometry uses all of a segment, whatever its size", uses_all },
	{ "opening again changes nothing", opens_again },
	{ "a peer that sees a larger mapping uses the format that is there", sees_larger },
	{ "a peer that sees less than the format says is refused", sees_smaller },
	{ "foreign data is refused and not one byte changed", foreign },
	{ "a newer version is refused and not one byte changed", newer },
	{ "an unknown incompatible feature is refused", incompatible },
	{ "unknown compatible features are accepted", compatible },
	{ "less than the smallest segment is refused and not written", too_small },
	{ "a check says what opening would, and writes nothing", check_only },
	{ "a format without chunks is refused", no_chunks },
	{ "chunk sizes out of range are refused", bad_shifts },
	{ "the largest geometry does not overflow", most_chunks },
	{ "two peers that format at once agree on format and generation", formats_race },
};

TAP_MAIN(tests)
