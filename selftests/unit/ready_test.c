// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * ready_test.c - readiness bits, summaries, drains and doorbells
 */
#include "tap.h"
#include "world.h"

static struct world *w;
static struct peer *d;			/* drains */
static struct vine_core *a, *b;		/* mark */

static void scene(u32 vectors)
{
	w = world_new(0);
	d = world_peer(w, 0);
	d->vectors = vectors;
	d->ivpos = 7;
	EXPECT(!peer_join(d) && !peer_join(world_peer(w, 1)) && !peer_join(world_peer(w, 2)));
	a = &w->peer[1]->core;
	b = &w->peer[2]->core;
}

static void curtain(void)
{
	u32 i;

	for (i = 0; i < 3; i++)
		peer_leave(w->peer[i]);
	EXPECT(world_clean(w));
	world_free(w);
}

static void mark_drain(void)
{
	scene(2);
	vine_ready_mark(a, d->core.slot, 5, 9);
	CHECK(peer_drain(d, 5) == 1ULL << 9);
	CHECK(!peer_drain(d, 5));
	curtain();
}

static void every_bit(void)
{
	u32 leaf, bit, i;

	scene(3);
	for (leaf = 0; leaf < VINE_LEAVES; leaf++) {
		for (bit = 0; bit < 64; bit++) {
			vine_ready_mark(a, d->core.slot, leaf, bit);
			CHECK(peer_drain(d, leaf) == 1ULL << bit);
			for (i = 0; i < VINE_LEAVES; i++)
				CHECK(i == leaf || !d->got[i]);
		}
	}
	curtain();
}

/* Two processes of one host, and a machine that has interrupts. */
static void processes_ring(void)
{
	u64 bell;

	w = world_new(0);
	d = world_peer(w, 0);
	d->vectors = 0;
	d->unique = false;
	d->host = true;
	world_peer(w, 1)->host = true;
	EXPECT(!peer_join(d) && !peer_join(world_peer(w, 1)) && !peer_join(world_peer(w, 2)));
	a = &w->peer[1]->core;
	b = &w->peer[2]->core;
	bell = vine_ld64(&vine_peer(a, d->core.slot)->vector[0].bell);
	vine_ready_mark(a, d->core.slot, 5, 9);
	CHECK(w->wakes == 1 && !w->bells);
	CHECK(vine_ld64(&vine_peer(a, d->core.slot)->vector[0].bell) == bell + 1);
	/* once per drain */
	vine_ready_mark(a, d->core.slot, 5, 10);
	CHECK(w->wakes == 1);
	CHECK(peer_drain(d, 5) == 3ULL << 9);
	vine_ready_mark(a, d->core.slot, 5, 9);
	CHECK(w->wakes == 2);
	peer_drain(d, 5);
	/* one that has a device too is rung the same way by its like, and by it otherwise */
	vine_ready_mark(&d->core, a->slot, 7, 1);
	CHECK(w->wakes == 3 && !w->bells);
	vine_ready_mark(b, a->slot, 9, 1);
	CHECK(w->wakes == 3 && w->bells == 1);
	/* for a machine it polls */
	vine_ready_mark(b, d->core.slot, 5, 11);
	CHECK(w->wakes == 3 && w->bells == 1);
	CHECK(peer_drain(d, 5) == 1ULL << 11);
	curtain();
}

/* Who has to look by itself, because a living peer cannot ring it? */
static void who_polls(void)
{
	w = world_new(0);
	d = world_peer(w, 0);
	d->vectors = 0;
	d->unique = false;
	d->host = true;
	world_peer(w, 1)->host = true;
	EXPECT(!peer_join(d) && !peer_join(world_peer(w, 1)));
	a = &w->peer[1]->core;
	vine_tick(&d->core);
	vine_tick(a);
	CHECK(!d->core.polled_peers && !a->polled_peers);
	EXPECT(!peer_join(world_peer(w, 2)));
	b = &w->peer[2]->core;
	vine_tick(&d->core);
	vine_tick(a);
	vine_tick(b);
	CHECK(d->core.polled_peers && !a->polled_peers && b->polled_peers);
	peer_leave(d);
	vine_tick(b);
	CHECK(!b->polled_peers);
	EXPECT(!peer_join(d));
	curtain();
}

static void all_bits(void)
{
	u32 leaf, bit;

	scene(5);
	for (leaf = 0; leaf < VINE_LEAVES; leaf++)
		for (bit = 0; bit < 64; bit++)
			vine_ready_mark(leaf & 1 ? a : b, d->core.slot, leaf, bit);
	peer_drain(d, 0);
	for (leaf = 0; leaf < VINE_LEAVES; leaf++)
		CHECK(d->got[leaf] == ~0ULL);
	curtain();
}

static u32 calls;

static void count(void *arg, u32 leaf, u64 bits)
{
	(void)leaf;
	(void)bits;
	calls++;
	if (arg)
		vine_ready_mark(arg, d->core.slot, 3, 3);
}

static void vector_of_leaf(void)
{
	u32 vectors, leaf, v;

	for (vectors = 1; vectors <= VINE_MAX_VECTORS; vectors++) {
		scene(vectors);
		for (leaf = 0; leaf < VINE_LEAVES; leaf += 7) {
			memset(w->bell, 0, sizeof(w->bell));
			vine_ready_mark(a, d->core.slot, leaf, leaf % 64);
			CHECK(w->bell[7][leaf % vectors] == 1);
			for (v = 0; v < vectors; v++) {
				calls = 0;
				vine_drain(&d->core, v, count, NULL);
				CHECK(calls == (v == leaf % vectors));
			}
		}
		curtain();
	}
}

static void one_bell(void)
{
	u32 i;

	scene(1);
	w->bells = 0;
	for (i = 0; i < 100; i++)
		vine_ready_mark(a, d->core.slot, i, i % 64);
	CHECK(w->bells == 1);
	peer_drain(d, 0);
	for (i = 0; i < 100; i++)
		vine_ready_mark(a, d->core.slot, i, i % 64);
	CHECK(w->bells == 2);
	curtain();
}

static void one_bell_each(void)
{
	u32 i;

	scene(1);
	w->bells = 0;
	/* b rings though a has: a may have been paused before its doorbell */
	for (i = 0; i < 100; i++) {
		vine_ready_mark(a, d->core.slot, 4, 4);
		vine_ready_mark(b, d->core.slot, 4, 4);
	}
	CHECK(w->bells == 2);
	curtain();
}

static void bell_per_vector(void)
{
	u32 v;

	scene(4);
	memset(w->bell, 0, sizeof(w->bell));
	for (v = 0; v < 4; v++) {
		vine_ready_mark(a, d->core.slot, v, 0);
		vine_ready_mark(a, d->core.slot, v + 4, 0);
	}
	for (v = 0; v < 4; v++)
		CHECK(w->bell[7][v] == 1);
	/* draining one vector does not ask for the others */
	vine_drain(&d->core, 2, count, NULL);
	for (v = 0; v < 4; v++)
		vine_ready_mark(a, d->core.slot, v, 0);
	for (v = 0; v < 4; v++)
		CHECK(w->bell[7][v] == (v == 2 ? 2 : 1));
	curtain();
}

static void dropped_bell(void)
{
	scene(1);
	w->deaf = true;
	vine_ready_mark(a, d->core.slot, 5, 9);
	vine_ready_mark(a, d->core.slot, 6, 9);
	CHECK(peer_drain(d, 5) == 1ULL << 9 && d->got[6] == 1ULL << 9);
	w->deaf = false;
	w->bells = 0;
	vine_ready_mark(a, d->core.slot, 5, 9);
	CHECK(w->bells == 1);
	curtain();
}

static void summary_always(void)
{
	scene(1);
	/* a has set the leaf bit and is paused before the summary */
	vine_set_bit64(&vine_peer(a, d->core.slot)->leaf[5], 9);
	vine_ready_mark(b, d->core.slot, 5, 9);
	CHECK(peer_drain(d, 5) == 1ULL << 9);
	curtain();
}

static void reborn_rung(void)
{
	scene(1);
	vine_ready_mark(a, d->core.slot, 5, 9);	/* its answer never comes */
	peer_leave(d);
	CHECK(!peer_join(d));
	CHECK(!peer_drain(d, 5));
	w->bells = 0;
	vine_ready_mark(a, d->core.slot, 5, 9);
	CHECK(w->bells == 1 && peer_drain(d, 5) == 1ULL << 9);
	curtain();
}

static void reborn_elsewhere(void)
{
	scene(2);
	vine_ready_mark(a, d->core.slot, 5, 9);
	peer_leave(d);
	d->vectors = 5;
	d->ivpos = 30;
	CHECK(!peer_join(d));
	memset(w->bell, 0, sizeof(w->bell));
	vine_ready_mark(a, d->core.slot, 4, 9);
	CHECK(w->bell[30][4] == 1);
	CHECK(peer_drain(d, 4) == 1ULL << 9);
	curtain();
}

static void predecessor_bits(void)
{
	u32 leaf;

	scene(2);
	for (leaf = 0; leaf < VINE_LEAVES; leaf++)
		vine_ready_mark(a, d->core.slot, leaf, 3);
	peer_leave(d);
	CHECK(!peer_join(d));
	for (leaf = 0; leaf < VINE_LEAVES; leaf++)
		CHECK(!d->got[leaf]);
	/* nor together with one of its own */
	for (leaf = 0; leaf < VINE_LEAVES; leaf++)
		vine_ready_mark(a, d->core.slot, leaf, 5);
	peer_drain(d, 0);
	for (leaf = 0; leaf < VINE_LEAVES; leaf++)
		CHECK(d->got[leaf] == 1 << 5);
	curtain();
}

static void polled(void)
{
	scene(0);
	w->bells = 0;
	vine_ready_mark(a, d->core.slot, 5, 9);
	vine_ready_mark(a, d->core.slot, 150, 9);
	CHECK(!w->bells);
	CHECK(peer_drain(d, 5) == 1ULL << 9 && d->got[150] == 1ULL << 9);
	curtain();
}

static void tables(void)
{
	scene(1);
	world_bury(w, 2);	/* GONE: not told */
	peer_drain(d, 0);
	w->bells = 0;
	vine_ready_tables(a);
	CHECK(peer_drain(d, VINE_LEAF_TABLES) == 1);
	CHECK(!w->bell[2][VINE_LEAF_TABLES % 2]);
	curtain();
}

static void one_pass(void)
{
	u32 v;

	scene(1);
	/* who marks from within, as a hostile peer that never stops */
	vine_ready_mark(a, d->core.slot, 3, 3);
	calls = 0;
	vine_drain(&d->core, 0, count, a);
	CHECK(calls == 1);
	w->bells = 0;
	for (v = 0; v < 10; v++)
		vine_drain(&d->core, 0, count, a);
	CHECK(calls == 11);
	curtain();
}

static void garbage(void)
{
	struct vine_wire_peer *p;
	u64 seed = 3, *word;
	u32 round, i;

	scene(63);
	p = vine_peer(a, d->core.slot);
	for (round = 0; round < SCALED(200); round++) {
		for (word = (u64 *)p->vector; word < (u64 *)(p + 1); word++)
			*word = round ? rnd(&seed) : ~0ULL;
		calls = 0;
		for (i = 0; i < 64; i++)
			vine_drain(&d->core, i, count, NULL);
		CHECK(calls <= 64 * VINE_LEAVES);
		vine_ready_mark(a, d->core.slot, 3, 3);
	}
	curtain();
}

static void seq_garbage(void)
{
	__le64 *seq;
	u32 i;

	scene(1);
	seq = &vine_peer(a, d->core.slot)->vector[0].drain_seq;
	/* what others write there is not believed: the owner counts by itself */
	for (i = 0; i < 10; i++) {
		vine_st64(seq, i & 1 ? 1000 + i : vine_ld64(seq) - 1);
		peer_drain(d, 0);
		w->bells = 0;
		vine_ready_mark(a, d->core.slot, 1, 1);
		CHECK(w->bells == 1);
	}
	curtain();
}

/* ---- threads ---- */

static bool stop;
static int pending;	/* an interrupt is pending for vector 0 */

static void pend(struct world *world, u32 ivpos, u32 vector)
{
	(void)world;
	(void)vector;
	if (ivpos == 7)
		__atomic_store_n(&pending, 1, __ATOMIC_RELEASE);
}

/* One word per marker: counts up before its mark. */
static u64 sent[2], seen[2];

static void look(void *arg, u32 leaf, u64 bits)
{
	(void)arg;
	(void)bits;
	if (leaf < 2)
		WRITE_ONCE(seen[leaf], __atomic_load_n(&sent[leaf], __ATOMIC_ACQUIRE));
}

static void *marker(void *arg)
{
	u32 me = ((struct peer *)arg)->ivpos - 1, i;
	u64 until;

	for (i = 1; i <= SCALED(300000) && !READ_ONCE(stop); i++) {
		__atomic_store_n(&sent[me], i, __ATOMIC_RELEASE);
		vine_ready_mark(&((struct peer *)arg)->core, d->core.slot, me, 5);
		if (i % 16)
			continue;
		/* it must be seen, with no other mark and no tick */
		for (until = 0; READ_ONCE(seen[me]) < i; until++) {
			if (until > 400000000 / (UNIT_PERCENT < 100 ? 20 : 1)) {
				tap_fail(__FILE__, __LINE__, "every mark is seen");
				WRITE_ONCE(stop, true);
				break;
			}
			if (until % 1024 == 1023)
				usleep(0);
		}
	}
	return NULL;
}

static void *drainer(void *arg)
{
	(void)arg;
	while (!READ_ONCE(stop))
		if (__atomic_exchange_n(&pending, 0, __ATOMIC_ACQ_REL))
			vine_drain(&d->core, 0, look, NULL);
		else
			usleep(0);
	return NULL;
}

static void race(void)
{
	pthread_t t[3];

	scene(1);
	w->on_bell = pend;
	stop = false;
	pthread_create(&t[0], NULL, drainer, NULL);
	pthread_create(&t[1], NULL, marker, w->peer[1]);
	pthread_create(&t[2], NULL, marker, w->peer[2]);
	pthread_join(t[1], NULL);
	pthread_join(t[2], NULL);
	WRITE_ONCE(stop, true);
	pthread_join(t[0], NULL);
	printf("# %llu doorbells\n", (unsigned long long)w->bells);
	w->on_bell = NULL;
	curtain();
}

static const struct tap_test tests[] = {
	{ "a mark is seen by the next drain, once", mark_drain },
	{ "every bit of every leaf arrives as itself", every_bit },
	{ "all bits arrive in one drain of every vector", all_bits },
	{ "a leaf belongs to vector leaf % vectors, for 1 to 63", vector_of_leaf },
	{ "one producer rings once per drain", one_bell },
	{ "each producer rings, whatever the others did", one_bell_each },
	{ "each vector is rung and answered by itself", bell_per_vector },
	{ "what a dropped doorbell meant comes with the next drain", dropped_bell },
	{ "the summary bit is set though the leaf bit was", summary_always },
	{ "a new incarnation is rung though its predecessor never answered", reborn_rung },
	{ "a new incarnation is rung at its own address and vector", reborn_elsewhere },
	{ "a new incarnation does not see its predecessor's bits", predecessor_bits },
	{ "a peer without vectors is marked and not rung", polled },
	{ "processes of one host ring each other by the bell, machines do not", processes_ring },
	{ "who has a living peer that cannot ring it polls", who_polls },
	{ "every living peer is told of the tables, no dead one", tables },
	{ "a drain is one pass though marks keep coming", one_pass },
	{ "a drain ends whatever stands in the readiness words", garbage },
	{ "a drain counts by itself, whatever stands in drain_seq", seq_garbage },
	{ "marks that race with drains are seen without a tick", race },
};

TAP_MAIN(tests)
