// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * region_test.c - chunks, regions, holds, and peers that lie about them
 */
#include "tap.h"
#include "world.h"

/* a owns, b imports, c looks on */
static struct world *w;
static struct vine_core *a, *b, *c;

static void scene(void)
{
	int i;

	w = world_with(3);
	for (i = 0; i < 3; i++)
		w->peer[i]->core.timeout_ticks = 1000000;
	a = &w->peer[0]->core;
	b = &w->peer[1]->core;
	c = &w->peer[2]->core;
}

static void curtain(void)
{
	int i;

	EXPECT(world_private_ok(w));
	for (i = 0; i < 3; i++)
		peer_leave(w->peer[i]);
	EXPECT(world_clean(w));
	world_free(w);
}

static u32 chunks_free(void)
{
	return world_chunks_free(w);
}

static u64 publish(struct vine_core *core, u64 bytes)
{
	u64 id = 0;

	EXPECT(!vine_region_claim(core, bytes, &id));
	EXPECT(!vine_region_publish(core, id));
	return id;
}

static int import(u64 id)
{
	return vine_region_import(b, id, a->slot, a->inc, false);
}

static struct vine_wire_region *entry(u64 id)
{
	return vine_region_entry(c, VINE_REGION_INDEX(id));
}

static void claim_gives_back(void)
{
	u64 sizes[] = { 1, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1 };
	u32 i;
	u64 id;

	scene();
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		id = publish(a, sizes[i]);
		CHECK(w->geo.chunks - chunks_free() == (sizes[i] + 65535) / 65536);
		CHECK(vine_region_use(a, id)->count == (sizes[i] + 65535) / 65536);
		CHECK(vine_ld64(&entry(id)->bytes) == sizes[i]);
		vine_region_retire(a, id);
		CHECK(chunks_free() == w->geo.chunks && !vine_region_use(a, id));
	}
	curtain();
}

static void unpublished_gives_back(void)
{
	u64 id;

	scene();
	CHECK(!vine_region_claim(a, 100000, &id));
	CHECK(import(id) == -ENOENT);
	vine_region_retire(a, id);
	CHECK(chunks_free() == w->geo.chunks);
	curtain();
}

static void no_bytes(void)
{
	u64 id;

	scene();
	CHECK(vine_region_claim(a, 0, &id) == -EINVAL);
	curtain();
}

static void too_many_bytes(void)
{
	u64 id, sizes[] = { ~0ULL, ~0ULL - 65536, 1ULL << 63, 1ULL << 48, 1ULL << 32, 0 };
	u32 i;

	scene();
	sizes[5] = ((u64)w->geo.chunks << 16) + 1;
	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		CHECK(vine_region_claim(a, sizes[i], &id) == -ENOSPC);
	CHECK(chunks_free() == w->geo.chunks);
	id = publish(a, (u64)w->geo.chunks << 16);
	CHECK(!chunks_free());
	vine_region_retire(a, id);
	curtain();
}

static void import_put(void)
{
	u64 id;

	scene();
	id = publish(a, 300000);
	CHECK(!import(id));
	CHECK(vine_region_use(b, id)->first == vine_region_use(a, id)->first);
	CHECK(vine_region_use(b, id)->count == 5 && !vine_region_use(b, id)->own);
	vine_region_put(b, id);
	CHECK(!vine_region_use(b, id) && vine_region_use(a, id));
	vine_region_retire(a, id);
	CHECK(chunks_free() == w->geo.chunks);
	curtain();
}

static void import_counts(void)
{
	u64 id;

	scene();
	id = publish(a, 1);
	CHECK(!import(id) && !import(id) && !import(id));
	vine_region_retire(a, id);
	vine_region_put(b, id);
	vine_region_put(b, id);
	CHECK(chunks_free() == w->geo.chunks - 1);
	vine_region_put(b, id);
	CHECK(chunks_free() == w->geo.chunks);
	curtain();
}

static void import_retired(void)
{
	u64 id;

	scene();
	id = publish(a, 1);
	vine_region_retire(a, id);
	CHECK(import(id) == -ENOENT);
	curtain();
}

static void import_dying(void)
{
	u64 id;

	scene();
	id = publish(a, 1);
	CHECK(!import(id));
	vine_region_retire(a, id);
	CHECK(import(id) == -ENOENT);	/* not even another by who holds it */
	CHECK(vine_region_import(c, id, a->slot, a->inc, false) == -ENOENT);
	vine_region_put(b, id);
	CHECK(chunks_free() == w->geo.chunks);
	curtain();
}

static void import_next_generation(void)
{
	u64 id, next;

	scene();
	id = publish(a, 1);
	vine_region_retire(a, id);
	next = publish(a, 1);
	CHECK(VINE_REGION_INDEX(id) == VINE_REGION_INDEX(next) && id != next);
	CHECK(import(id) == -ENOENT);
	CHECK(!import(next));
	vine_region_put(b, next);
	curtain();
}

/* An honest server may be slow: that is no lie. */
static void import_predecessor(void)
{
	u64 id, next;

	scene();
	id = publish(a, 1);
	vine_region_retire(a, id);
	next = publish(a, 1);
	CHECK(VINE_REGION_INDEX(id) == VINE_REGION_INDEX(next));
	CHECK(!import(next) && import(id) == -ENOENT);
	CHECK(vine_region_import(a, id, a->slot, a->inc, false) == -ENOENT);
	curtain();
}

static void import_nonsense(void)
{
	u64 id;

	scene();
	id = publish(a, 1);
	CHECK(import(0) == -ENOENT && import(~0ULL) == -ENOENT);
	CHECK(import(id | 1ULL << 38) == -ENOENT && import(id ^ 1ULL << 39) == -ENOENT);
	CHECK(import(id | VINE_MAX_REGIONS) == -ENOENT);
	CHECK(vine_region_import(b, id, a->slot + 1, a->inc, false) == -ENOENT);
	CHECK(vine_region_import(b, id, a->slot, a->inc + 1, false) == -ENOENT);
	CHECK(!vine_ld32(&entry(id)->hold[b->slot]));
	curtain();
}

static void hold_keeps(void)
{
	u64 id;
	u32 i;

	scene();
	id = publish(a, 200000);
	CHECK(!import(id));
	vine_region_retire(a, id);
	for (i = 0; i < 5; i++) {
		vine_tick(a);
		vine_tick(b);
		vine_tick(c);
	}
	CHECK(chunks_free() == w->geo.chunks - 4);
	CHECK(VINE_CTL_STATE(vine_ld64(&entry(id)->ctl)) == VINE_REGION_DYING);
	vine_region_put(b, id);
	CHECK(chunks_free() == w->geo.chunks);
	curtain();
}

static void importer_dies(void)
{
	u64 id;

	scene();
	id = publish(a, 200000);
	CHECK(!import(id));
	vine_region_retire(a, id);
	world_bury(w, 1);
	vine_tick(c);
	CHECK(chunks_free() == w->geo.chunks);
	vine_core_init(b, w->base, &w->geo, w->peer[1]->chunk_use, b->ops);
	CHECK(!peer_join(w->peer[1]));
	curtain();
}

static void importer_dies_first(void)
{
	u64 id;

	scene();
	id = publish(a, 200000);
	CHECK(!import(id));
	world_bury(w, 1);
	vine_tick(c);
	CHECK(!vine_ld32(&entry(id)->hold[1]));
	CHECK(chunks_free() == w->geo.chunks - 4);
	vine_region_retire(a, id);
	CHECK(chunks_free() == w->geo.chunks);
	CHECK(!peer_join(w->peer[1]));
	curtain();
}

static void owner_dies(void)
{
	u64 id;

	scene();
	id = publish(a, 200000);
	CHECK(!import(id));
	CHECK(!vine_region_import(c, id, a->slot, a->inc, false));
	world_bury(w, 0);
	vine_tick(c);
	CHECK(chunks_free() == w->geo.chunks - 4);
	vine_region_put(b, id);
	CHECK(chunks_free() == w->geo.chunks - 4);
	vine_region_put(c, id);
	CHECK(chunks_free() == w->geo.chunks);
	CHECK(!peer_join(w->peer[0]));
	curtain();
}

static void suspect_holds(void)
{
	u64 id;
	u32 i;

	scene();
	c->timeout_ticks = 5;
	id = publish(a, 200000);
	CHECK(!import(id));
	vine_region_retire(a, id);
	for (i = 0; i < 20; i++)
		vine_tick(c);
	CHECK(!vine_peer_live(c, b->slot, b->inc));
	CHECK(chunks_free() == w->geo.chunks - 4);
	curtain();
}

static void loopback(void)
{
	u64 id;

	scene();
	id = publish(a, 200000);
	CHECK(!vine_region_import(a, id, a->slot, a->inc, false));
	vine_region_retire(a, id);
	CHECK(chunks_free() == w->geo.chunks - 4 && vine_region_use(a, id));
	vine_region_put(a, id);
	CHECK(chunks_free() == w->geo.chunks && !vine_region_use(a, id));
	curtain();
}

/* ---- liars ---- */

static void lying_extent(void)
{
	u64 id, good, chunks;
	u32 i;

	scene();
	chunks = w->geo.chunks;
	u64 bad[] = {
		VINE_EXTENT(chunks, 1), VINE_EXTENT(0, chunks + 1), VINE_EXTENT(chunks - 1, 2),
		VINE_EXTENT(0xffffffff, 0xffffffff), VINE_EXTENT(1, 0xffffffff),
		VINE_EXTENT(0xffffffff, 1), VINE_EXTENT(0, 0), VINE_EXTENT(10, 3),
		VINE_EXTENT(0, 4),
	};
	id = publish(a, 200000);
	(void)publish(a, 65536);
	good = vine_ld64(&entry(id)->extent);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		if (bad[i] == good)
			bad[i] = VINE_EXTENT(VINE_EXTENT_FIRST(good), 5);
		vine_st64(&entry(id)->extent, bad[i]);
		CHECK(import(id) == -EBADE);
		CHECK(!vine_ld32(&entry(id)->hold[b->slot]) && !vine_region_use(b, id));
	}
	vine_st64(&entry(id)->extent, good);
	CHECK(!import(id));
	curtain();
}

static void lying_tag(void)
{
	u64 id;
	u32 i, first;

	scene();
	id = publish(a, 200000);
	first = vine_region_use(a, id)->first;
	for (i = 0; i < 4; i++) {
		vine_st64(vine_chunk_word(c, first + i), i & 1 ? 0 : VINE_REGION_ID(1, 9));
		CHECK(import(id) == -EBADE);
		vine_st64(vine_chunk_word(c, first + i), id);
	}
	CHECK(!import(id));
	curtain();
}

static void foreign_hold(void)
{
	u64 id;

	scene();
	id = publish(a, 1);
	vine_st32(&entry(id)->hold[b->slot], 77);
	CHECK(import(id) == -EBADE);
	CHECK(vine_ld32(&entry(id)->hold[b->slot]) == 77);
	/* and it does not keep the chunks: nobody is called so */
	vine_region_retire(a, id);
	CHECK(chunks_free() == w->geo.chunks);
	curtain();
}

static void foreign_hold_at_claim(void)
{
	u64 id;

	scene();
	vine_st32(&vine_region_entry(c, 0)->hold[a->slot], 77);
	CHECK(!vine_region_claim(a, 1, &id));
	CHECK(VINE_REGION_INDEX(id) == 1);
	vine_tick(c);
	CHECK(VINE_CTL_STATE(vine_ld64(&vine_region_entry(c, 0)->ctl)) == VINE_REGION_FREE);
	curtain();
}

/* @id of a's is made to say that it has the chunks of @of. */
static void lie(u64 id, const struct vine_use *of)
{
	u32 i;

	vine_st64(&entry(id)->extent, VINE_EXTENT(of->first, of->count));
	for (i = 0; i < of->count; i++)
		vine_st64(vine_chunk_word(c, of->first + i), id);
}

static void overlap_own(void)
{
	u64 own, id;

	scene();
	own = publish(b, 200000);
	id = publish(a, 200000);
	lie(id, vine_region_use(b, own));
	CHECK(import(id) == -EBADE && !vine_region_use(b, id));
	curtain();
}

static void overlap_import(void)
{
	u64 first, id;

	scene();
	first = publish(a, 200000);
	CHECK(!import(first));
	id = publish(a, 200000);
	lie(id, vine_region_use(b, first));
	CHECK(import(id) == -EBADE && !vine_region_use(b, id));
	curtain();
}

static void overlap_partly(void)
{
	u64 own, id;

	scene();
	own = publish(b, 65536 * 3);
	id = publish(a, 65536 * 3);
	vine_st64(&entry(id)->extent, VINE_EXTENT(2, 4));	/* the last of b's */
	CHECK(vine_region_use(b, own)->first == 0 && vine_region_use(b, own)->count == 3);
	vine_st64(vine_chunk_word(c, 2), id);
	CHECK(import(id) == -EBADE);
	curtain();
}

static void mapped_not_claimed(void)
{
	u64 id, other;
	u32 i;

	scene();
	id = publish(a, 200000);
	CHECK(!import(id));
	/* the owner frees them under us */
	for (i = 0; i < 4; i++)
		vine_st64(vine_chunk_word(c, vine_region_use(b, id)->first + i), 0);
	CHECK(!vine_region_claim(b, 65536, &other));
	CHECK(vine_region_use(b, other)->first == 4);
	vine_region_retire(b, other);
	CHECK(vine_region_claim(b, (u64)w->geo.chunks << 16, &other) == -ENOSPC);
	curtain();
}

static void entry_not_claimed(void)
{
	u64 id, other;

	scene();
	id = publish(a, 1);
	CHECK(!import(id));
	/* somebody frees the entry under us, in another generation, hold and all */
	vine_st64(&entry(id)->ctl, VINE_CTL(99, 0, 0, VINE_REGION_FREE));
	vine_st32(&entry(id)->hold[b->slot], 0);
	CHECK(!vine_region_claim(b, 1, &other));
	CHECK(VINE_REGION_INDEX(other) != VINE_REGION_INDEX(id));
	CHECK(world_private_ok(w));
	curtain();
}

static void garbage_swept(void)
{
	u32 i;

	scene();
	for (i = 0; i < w->geo.chunks; i++)
		vine_st64(vine_chunk_word(c, i),
			  i & 1 ? VINE_REGION_ID(i + 1, i) : ~0ULL - i);
	vine_tick(c);
	CHECK(chunks_free() == w->geo.chunks);
	curtain();
}

static void sweep_spares(void)
{
	u64 id, claim;

	scene();
	id = publish(a, 200000);
	CHECK(!vine_region_claim(a, 200000, &claim));
	CHECK(!import(id));
	vine_tick(b);
	vine_tick(c);
	vine_tick(a);
	CHECK(chunks_free() == w->geo.chunks - 8);
	curtain();
}

static void stolen_claim(void)
{
	u64 id;

	scene();
	CHECK(!vine_region_claim(a, 200000, &id));
	vine_st64(&entry(id)->ctl, VINE_CTL(VINE_REGION_GEN(id), 0, 0, VINE_REGION_FREE));
	CHECK(vine_region_publish(a, id) == -ENOSPC);
	vine_region_retire(a, id);
	vine_tick(c);
	CHECK(chunks_free() == w->geo.chunks);
	curtain();
}

static void kinds(void)
{
	u64 data, rings;

	scene();
	data = publish(a, 1);
	rings = publish(a, 1);
	CHECK(!vine_region_import(b, data, a->slot, a->inc, false));
	CHECK(vine_region_import(b, data, a->slot, a->inc, true) == -EBADE);
	CHECK(!vine_region_import(b, rings, a->slot, a->inc, true));
	CHECK(vine_region_import(b, rings, a->slot, a->inc, false) == -EBADE);
	CHECK(vine_region_use(b, data)->refs == 1 && vine_region_use(b, rings)->refs == 1);
	curtain();
}

static void no_chunks_left(void)
{
	u64 id, big;
	u32 i;

	scene();
	big = publish(a, (u64)(w->geo.chunks - 1) << 16);
	for (i = 0; i < 10; i++)
		CHECK(vine_region_claim(b, 2 << 16, &id) == -ENOSPC);
	CHECK(chunks_free() == 1);
	vine_region_retire(a, big);
	curtain();
}

static void no_entries_left(void)
{
	struct vine_usage u;
	u32 i;
	u64 id, n = 0;

	/* one chunk each: more chunks than entries */
	w = world_new(300ULL << 20);
	for (i = 0; i < 3; i++)
		CHECK(!peer_join(world_peer(w, i)));
	a = &w->peer[0]->core;
	while (!vine_region_claim(a, 1, &id))
		n++;
	CHECK(n == VINE_MAX_REGIONS);
	CHECK(world_chunks_free(w) == w->geo.chunks - n);
	for (i = 0; i < VINE_MAX_REGIONS; i++)
		vine_region_retire(a, a->use[i].id);
	vine_usage(a, &u);
	CHECK(!u.regions && u.chunks_free == u.chunks);
	curtain();
}

static void fragmented(void)
{
	u64 id[8], run;
	u32 i;

	scene();
	for (i = 0; i < 8; i++)
		id[i] = publish(a, 2 << 16);
	/* holes of 2 at 2, of 4 at 6 */
	vine_region_retire(a, id[1]);
	vine_region_retire(a, id[3]);
	vine_region_retire(a, id[4]);
	run = publish(a, 3 << 16);
	CHECK(vine_region_use(a, run)->first == 6);
	vine_region_retire(a, run);
	run = publish(a, 5 << 16);
	CHECK(vine_region_use(a, run)->first == 16);
	run = publish(a, 2 << 16);
	CHECK(vine_region_use(a, run)->first == 2);
	run = publish(a, 4 << 16);
	CHECK(vine_region_use(a, run)->first == 6);
	curtain();
}

static void last_chunk(void)
{
	u64 id, tail;

	scene();
	id = publish(a, (u64)(w->geo.chunks - 3) << 16);
	tail = publish(a, 3 << 16);
	CHECK(vine_region_use(a, tail)->first == w->geo.chunks - 3);
	vine_region_retire(a, id);
	curtain();
}

/* ---- threads ---- */

static pthread_barrier_t start;

static void *claimer(void *arg)
{
	struct vine_core *core = &((struct peer *)arg)->core;
	u64 seed = core->slot, id[8];
	u32 round, i, k, n;

	pthread_barrier_wait(&start);
	for (round = 0; round < SCALED(3000); round++) {
		for (n = 0; n < 8; n++)
			if (vine_region_claim(core, 1 + rnd(&seed) % (6 << 16), &id[n]))
				break;
		for (i = 0; i < n; i++) {
			const struct vine_use *use = vine_region_use(core, id[i]);

			for (k = 0; k < use->count; k++) {
				u64 *word = (u64 *)(core->base +
						    vine_chunk_offset(core, use->first + k));

				EXPECT(vine_ld64(vine_chunk_word(core, use->first + k)) == id[i]);
				*word = id[i];	/* TSan sees who else writes here */
			}
			EXPECT(!vine_region_publish(core, id[i]));
		}
		for (i = 0; i < n; i++) {
			const struct vine_use *use = vine_region_use(core, id[i]);

			EXPECT(*(u64 *)(core->base + vine_chunk_offset(core, use->first)) == id[i]);
			vine_region_retire(core, id[i]);
		}
		if (round % 64 == 0)
			vine_tick(core);
	}
	return NULL;
}

static void claim_race(void)
{
	pthread_t t[3];
	int i;

	scene();
	pthread_barrier_init(&start, NULL, 3);
	for (i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, claimer, w->peer[i]);
	for (i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	EXPECT(chunks_free() == w->geo.chunks);
	curtain();
}

static u64 race_id;

static void *importer(void *arg)
{
	struct vine_core *core = &((struct peer *)arg)->core;
	u32 i, held = 0;

	pthread_barrier_wait(&start);
	for (i = 0; i < SCALED(20000); i++) {
		u64 id = __atomic_load_n(&race_id, __ATOMIC_ACQUIRE);
		int err = vine_region_import(core, id, a->slot, a->inc, false);

		EXPECT(!err || err == -ENOENT);
		if (!err) {
			/* the owner wrote this before it published */
			EXPECT(*(u64 *)(core->base + vine_chunk_offset(core,
						vine_region_use(core, id)->first)) == id);
			vine_region_put(core, id);
			held++;
		}
	}
	return (void *)(unsigned long)held;
}

static void import_race(void)
{
	pthread_t t[2];
	void *held[2];
	u64 id, i;

	scene();
	pthread_barrier_init(&start, NULL, 3);
	pthread_create(&t[0], NULL, importer, w->peer[1]);
	pthread_create(&t[1], NULL, importer, w->peer[2]);
	pthread_barrier_wait(&start);
	for (i = 0; i < SCALED(20000); i++) {
		CHECK(!vine_region_claim(a, 1 << (i & 17), &id));
		*(u64 *)(a->base + vine_chunk_offset(a, vine_region_use(a, id)->first)) = id;
		CHECK(!vine_region_publish(a, id));
		__atomic_store_n(&race_id, id, __ATOMIC_RELEASE);
		vine_region_retire(a, id);
	}
	pthread_join(t[0], &held[0]);
	pthread_join(t[1], &held[1]);
	EXPECT(chunks_free() == w->geo.chunks);
	curtain();
}

static const struct tap_test tests[] = {
	{ "a claimed and published region gives every chunk back", claim_gives_back },
	{ "a region that was never published cannot be imported and gives all back",
	  unpublished_gives_back },
	{ "a region without bytes is refused", no_bytes },
	{ "more bytes than there are is ENOSPC, also when the sum overflows", too_many_bytes },
	{ "an import has the owner's chunks until it is put", import_put },
	{ "imports by one peer are counted and hold until the last", import_counts },
	{ "an import after retire is refused", import_retired },
	{ "an import while DYING is refused, to holders too", import_dying },
	{ "an identifier of an earlier generation is refused", import_next_generation },
	{ "a dead region is gone, not a lie, though we use its successor", import_predecessor },
	{ "identifiers and owners that make no sense are refused", import_nonsense },
	{ "a hold keeps the chunks of a DYING region", hold_keeps },
	{ "an importer's death releases a DYING region", importer_dies },
	{ "an importer's death clears its hold of a LIVE region", importer_dies_first },
	{ "after its owner's death a region stays until importers let go", owner_dies },
	{ "a suspect's hold still holds", suspect_holds },
	{ "an owner that imports its own region holds it until both are done", loopback },
	{ "an extent that lies is EBADE", lying_extent },
	{ "chunks that bear another tag are EBADE", lying_tag },
	{ "a hold in our name that is not ours is EBADE", foreign_hold },
	{ "an entry with a hold in our name is not claimed, and recovers",
	  foreign_hold_at_claim },
	{ "an import that overlaps our own chunks is EBADE", overlap_own },
	{ "an import that overlaps imported chunks is EBADE", overlap_import },
	{ "an import that overlaps in one chunk is EBADE", overlap_partly },
	{ "chunks that we map are not claimed though the table says free", mapped_not_claimed },
	{ "a region entry that we use is not claimed though it says FREE", entry_not_claimed },
	{ "garbage tags are swept", garbage_swept },
	{ "sweeping spares claimed, published and imported chunks", sweep_spares },
	{ "a claim that somebody took away is ENOSPC and gives all back", stolen_claim },
	{ "a region is for rings or for data, never both", kinds },
	{ "a claim that finds too few chunks leaves nothing", no_chunks_left },
	{ "4096 regions, then ENOSPC, then all back", no_entries_left },
	{ "a run is found behind a hole that is too small", fragmented },
	{ "the last chunk can be claimed", last_chunk },
	{ "claimers that race get different chunks", claim_race },
	{ "imports that race with retire see the region or are refused", import_race },
};

TAP_MAIN(tests)
