// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * peer_test.c - slots, beats, suspicion, death
 */
#include "tap.h"
#include "world.h"

static void tick(struct peer *p, u32 n)
{
	while (n--)
		vine_tick(&p->core);
}

static u32 state_of(struct peer *by, u32 slot)
{
	return VINE_PEER_STATE(vine_ld64(&vine_peer(&by->core, slot)->word));
}

static void join_leave(void)
{
	struct world *w = world_with(1);

	CHECK(vine_peer_live(&w->peer[0]->core, 0, w->peer[0]->core.inc));
	peer_leave(w->peer[0]);
	CHECK(world_clean(w));
	world_free(w);
}

static void word_says_all(void)
{
	struct world *w = world_new(0);
	struct peer *p = world_peer(w, 9);
	u64 word;

	p->vectors = 63;
	p->ivpos = 65535;
	CHECK(!peer_join(p));
	word = vine_ld64(&vine_peer(&p->core, p->core.slot)->word);
	CHECK(VINE_PEER_IVPOS(word) == 65535 && VINE_PEER_VECTORS(word) == 63);
	CHECK(VINE_PEER_INC(word) == p->core.inc && VINE_PEER_STATE(word) == VINE_PEER_LIVE);
	peer_leave(p);
	world_free(w);
}

static void sixty_four(void)
{
	struct world *w = world_with(64);
	u64 slots = 0;
	u32 i;

	for (i = 0; i < 64; i++)
		slots |= 1ULL << w->peer[i]->core.slot;
	CHECK(slots == ~0ULL);
	CHECK(peer_join(world_peer(w, 64)) == -EUSERS);
	peer_leave(w->peer[17]);
	CHECK(!peer_join(w->peer[64]) && w->peer[64]->core.slot == 17);
	for (i = 0; i < 65; i++)
		if (i != 17)
			peer_leave(w->peer[i]);
	CHECK(world_clean(w));
	world_free(w);
}

static void incarnations(void)
{
	struct world *w = world_with(1);
	u32 i, last = w->peer[0]->core.inc;

	for (i = 0; i < 10; i++) {
		peer_leave(w->peer[0]);
		CHECK(!peer_join(w->peer[0]) && w->peer[0]->core.inc == last + 1);
		last++;
	}
	world_free(w);
}

static void incarnation_wraps(void)
{
	struct world *w = world_new(0);
	struct peer *p = world_peer(w, 0);
	__le64 *word = (__le64 *)(w->base + VINE_OFF_PEERS);

	vine_st64(word, VINE_PEER(0xffffff, 0, 0, VINE_PEER_FREE));
	CHECK(!peer_join(p) && p->core.inc == 1);
	peer_leave(p);
	/* and what no honest peer writes */
	vine_st64(word, VINE_PEER(0xffffffff, 0, 0, VINE_PEER_FREE));
	CHECK(!peer_join(p) && p->core.inc && p->core.inc < 1 << 24);
	peer_leave(p);
	CHECK(world_clean(w));
	world_free(w);
}

static void predecessor_buried(void)
{
	struct world *w = world_with(2);
	struct peer *old = w->peer[1], *new = world_peer(w, 2);
	u64 id;

	peer_leave(old);
	old->unique = new->unique = true;
	CHECK(!peer_join(old));
	CHECK(!vine_region_claim(&old->core, 100000, &id));
	new->ivpos = old->ivpos;
	CHECK(!peer_join(new));
	CHECK(!vine_peer_current(&new->core, old->core.slot, old->core.inc));
	CHECK(world_chunks_free(w) == w->geo.chunks);
	CHECK(vine_tick(&old->core) & VINE_TICK_FENCED);
	/* the dead one's kernel says so itself, late: its successor lives on */
	peer_leave(old);
	CHECK(vine_peer_live(&new->core, new->core.slot, new->core.inc));
	world_free(w);
}

/* Processes: the lock says whether the one before has ended, whoever gives out IDs. */
static void namesake_locked(void)
{
	struct world *w = world_new(0);
	struct peer *old = world_peer(w, 0), *new = world_peer(w, 1);
	struct peer *machine = world_peer(w, 2);
	u64 id;

	old->host = new->host = true;
	new->ivpos = machine->ivpos = old->ivpos;
	CHECK(!peer_join(old) && !vine_region_claim(&old->core, 1, &id));
	CHECK(peer_join(new) == -EADDRINUSE);
	tick(old, 1);
	CHECK(state_of(old, 0) == VINE_PEER_LIVE && world_chunks_free(w) == w->geo.chunks - 1);
	/* nor when others suspect it */
	vine_st64(&vine_peer(&old->core, 0)->word,
		  (old->core.word & ~0xffULL) | VINE_PEER_SUSPECT);
	CHECK(peer_join(new) == -EADDRINUSE);
	CHECK(state_of(old, 0) == VINE_PEER_SUSPECT);
	/* but who was counted out is so, and who has ended */
	world_bury(w, 0);
	CHECK(!peer_join(new) && world_chunks_free(w) == w->geo.chunks);
	w->locked[new->core.slot] = NULL;
	w->locked[0] = NULL;
	CHECK(!peer_join(old) && state_of(old, old->core.slot) == VINE_PEER_LIVE);
	/* a machine sees no locks */
	CHECK(!peer_join(machine));
	CHECK(vine_tick(&old->core) & VINE_TICK_FENCED);
	world_free(w);
}

static void suspect_predecessor_buried(void)
{
	struct world *w = world_with(2);
	struct peer *old = w->peer[1], *new = world_peer(w, 2);

	peer_leave(old);
	old->unique = new->unique = true;
	old->vectors = 0;	/* its interrupts did not work */
	CHECK(!peer_join(old));
	tick(w->peer[0], 10);
	CHECK(state_of(w->peer[0], 1) == VINE_PEER_SUSPECT);
	new->ivpos = old->ivpos;
	CHECK(!peer_join(new));
	CHECK(!vine_peer_current(&new->core, 1, old->core.inc));
	world_free(w);
}

static void namesake_lives(void)
{
	struct world *w = world_with(2);
	struct peer *old = w->peer[1], *new = world_peer(w, 2);
	int i;

	/* one of the two is a plain device, and those all read the same */
	for (i = 0; i < 2; i++) {
		peer_leave(old);
		old->unique = i;
		new->unique = !i;
		new->ivpos = old->ivpos;
		CHECK(!peer_join(old) && !peer_join(new));
		CHECK(state_of(w->peer[0], 1) == VINE_PEER_LIVE && new->core.slot == 2);
		peer_leave(new);
	}
	world_free(w);
}

static void others_live(void)
{
	struct world *w = world_with(2);
	struct peer *new = world_peer(w, 2);

	new->unique = true;
	CHECK(!peer_join(new));
	CHECK(state_of(w->peer[0], 0) == VINE_PEER_LIVE);
	CHECK(state_of(w->peer[0], 1) == VINE_PEER_LIVE);
	world_free(w);
}

static void silent_suspect(void)
{
	struct world *w = world_with(2);

	w->peer[0]->core.timeout_ticks = 7;
	tick(w->peer[0], 7);	/* the first one only makes its acquaintance */
	CHECK(state_of(w->peer[0], 1) == VINE_PEER_LIVE);
	CHECK(vine_tick(&w->peer[0]->core) == VINE_TICK_CHANGED);
	CHECK(state_of(w->peer[0], 1) == VINE_PEER_SUSPECT);
	world_free(w);
}

static void beating_live(void)
{
	struct world *w = world_with(2);
	u32 i;

	for (i = 0; i < 200; i++) {
		tick(w->peer[0], w->peer[0]->timeout - 1);
		tick(w->peer[1], 1);
		CHECK(state_of(w->peer[0], 1) == VINE_PEER_LIVE);
	}
	world_free(w);
}

static void stalled_observer(void)
{
	struct world *w = world_with(2);
	u32 i;

	w->peer[1]->core.timeout_ticks = 1000;
	tick(w->peer[0], 4);
	/* the observer stands still while the other beats on, then stops too */
	for (i = 0; i < 100; i++)
		tick(w->peer[1], 1);
	tick(w->peer[0], w->peer[0]->timeout);
	CHECK(state_of(w->peer[0], 1) == VINE_PEER_LIVE);
	tick(w->peer[0], 1);
	CHECK(state_of(w->peer[0], 1) == VINE_PEER_SUSPECT);
	world_free(w);
}

static void suspect_keeps_memory(void)
{
	struct world *w = world_with(2);
	u64 id, other;
	u32 i, free;

	CHECK(!vine_region_claim(&w->peer[1]->core, 1 << 20, &id));
	CHECK(!vine_region_publish(&w->peer[1]->core, id));
	free = world_chunks_free(w);
	tick(w->peer[0], 50);
	CHECK(state_of(w->peer[0], 1) == VINE_PEER_SUSPECT);
	CHECK(world_chunks_free(w) == free);
	for (i = 0; i < free; i++)
		CHECK(!vine_region_claim(&w->peer[0]->core, 1, &other));
	CHECK(vine_region_claim(&w->peer[0]->core, 1, &other) == -ENOSPC);
	CHECK(!peer_join(world_peer(w, 2)) && w->peer[2]->core.slot == 2);
	world_free(w);
}

static void suspect_not_live(void)
{
	struct world *w = world_with(2);

	tick(w->peer[0], 50);
	CHECK(!vine_peer_live(&w->peer[0]->core, 1, w->peer[1]->core.inc));
	CHECK(vine_peer_current(&w->peer[0]->core, 1, w->peer[1]->core.inc));
	CHECK(!vine_peer_current(&w->peer[0]->core, 1, w->peer[1]->core.inc + 1));
	world_free(w);
}

static void fenced_returns(void)
{
	struct world *w = world_with(2);
	u32 inc = w->peer[1]->core.inc;
	u64 id;

	CHECK(!vine_region_claim(&w->peer[1]->core, 1 << 20, &id));
	tick(w->peer[0], 50);
	CHECK(vine_tick(&w->peer[1]->core) == VINE_TICK_FENCED);
	peer_leave(w->peer[1]);
	CHECK(world_chunks_free(w) == w->geo.chunks);
	CHECK(!peer_join(w->peer[1]) && w->peer[1]->core.inc == inc + 1);
	CHECK(!(vine_tick(&w->peer[1]->core) & VINE_TICK_FENCED));
	peer_leave(w->peer[0]);
	peer_leave(w->peer[1]);
	CHECK(world_clean(w));
	world_free(w);
}

static void gone_reaped_by_tick(void)
{
	struct world *w = world_with(3);
	u64 id;

	CHECK(!vine_region_claim(&w->peer[1]->core, 1 << 20, &id));
	world_bury(w, 1);
	CHECK(vine_tick(&w->peer[2]->core) & VINE_TICK_CHANGED);
	CHECK(state_of(w->peer[0], 1) == VINE_PEER_FREE);
	CHECK(world_chunks_free(w) == w->geo.chunks);
	world_free(w);
}

static void gone_reaped_by_join(void)
{
	struct world *w = world_with(2);
	u64 id;

	CHECK(!vine_region_claim(&w->peer[1]->core, 1 << 20, &id));
	world_bury(w, 1);
	CHECK(!peer_join(world_peer(w, 2)));
	CHECK(w->peer[2]->core.slot == 1);
	CHECK(world_chunks_free(w) == w->geo.chunks);
	world_free(w);
}

static void death_is_told(void)
{
	struct world *w = world_with(3);

	peer_drain(w->peer[0], 0);
	CHECK(peer_drain(w->peer[0], VINE_LEAF_TABLES) == 0);
	peer_leave(w->peer[1]);
	CHECK(peer_drain(w->peer[0], VINE_LEAF_TABLES) == 1);
	tick(w->peer[0], 50);
	CHECK(state_of(w->peer[0], 2) == VINE_PEER_SUSPECT);
	world_free(w);
}

static void suspicion_is_told(void)
{
	struct world *w = world_with(3);
	u32 i;

	for (i = 0; i < 20; i++) {
		tick(w->peer[0], 1);
		tick(w->peer[1], 1);
		if (i == 3)
			peer_drain(w->peer[1], 0);
	}
	CHECK(peer_drain(w->peer[1], VINE_LEAF_TABLES) == 1);
	world_free(w);
}

static void wiped_fences(void)
{
	struct world *w = world_with(1);

	memset(w->base, 0, w->size);
	CHECK(vine_tick(&w->peer[0]->core) == VINE_TICK_FENCED);
	world_free(w);
}

static void new_generation_fences(void)
{
	struct world *w = world_with(1);
	struct vine_geometry g;
	u64 word = w->peer[0]->core.word;

	memset(w->base, 0, w->size);
	CHECK(!vine_segment_open(w->base, w->size, &g));
	vine_st64(&vine_peer(&w->peer[0]->core, 0)->word, word);
	CHECK(vine_tick(&w->peer[0]->core) == VINE_TICK_FENCED);
	world_free(w);
}

/* Plain devices: the newcomer's word looks just like the old one's. */
static void wiped_leaves_newcomer(void)
{
	struct world *w = world_new(0);
	struct peer *old = world_peer(w, 0), *new = world_peer(w, 1);
	struct vine_geometry g;

	old->vectors = new->vectors = 0;
	new->ivpos = 0;
	CHECK(!peer_join(old));
	memset(w->base, 0, w->size);
	CHECK(!vine_segment_open(w->base, w->size, &g));
	CHECK(!peer_join(new));
	CHECK(new->core.word == old->core.word);
	CHECK(vine_tick(&old->core) == VINE_TICK_FENCED);
	peer_leave(old);
	CHECK(!(vine_tick(&new->core) & VINE_TICK_FENCED));
	world_free(w);
}

/* A hostile peer has changed our word; it still says whose it is. */
static void leave_mangled(void)
{
	struct world *w = world_with(2);
	u64 id;

	CHECK(!vine_region_claim(&w->peer[0]->core, 1 << 20, &id));
	vine_st64(&vine_peer(&w->peer[0]->core, 0)->word,
		  VINE_PEER(w->peer[0]->core.inc, 500, 3, VINE_PEER_SUSPECT));
	CHECK(vine_tick(&w->peer[0]->core) == VINE_TICK_FENCED);
	peer_leave(w->peer[0]);
	CHECK(state_of(w->peer[1], 0) == VINE_PEER_FREE);
	CHECK(world_chunks_free(w) == w->geo.chunks);
	world_free(w);
}

/* ---- threads ---- */

static pthread_barrier_t start;

static void *ticker(void *arg)
{
	pthread_barrier_wait(&start);
	vine_tick(&((struct peer *)arg)->core);
	return NULL;
}

static void reaped_twice(void)
{
	struct world *w = world_with(3);
	pthread_t t[2];
	u32 round, i;
	u64 id;

	pthread_barrier_init(&start, NULL, 2);
	for (round = 0; round < SCALED(500) && !tap_failed; round++) {
		for (i = 0; i < 8; i++) {
			EXPECT(!vine_region_claim(&w->peer[2]->core, 70000, &id));
			EXPECT(!vine_region_publish(&w->peer[2]->core, id));
			if (i & 1)
				EXPECT(!vine_region_import(&w->peer[0]->core, id, 2,
							   w->peer[2]->core.inc, false));
			if (i & 1)
				vine_region_put(&w->peer[0]->core, id);
		}
		world_bury(w, 2);
		for (i = 0; i < 2; i++)
			pthread_create(&t[i], NULL, ticker, w->peer[i]);
		for (i = 0; i < 2; i++)
			pthread_join(t[i], NULL);
		EXPECT(state_of(w->peer[0], 2) == VINE_PEER_FREE);
		EXPECT(world_chunks_free(w) == w->geo.chunks);
		EXPECT(!peer_join(w->peer[2]));
	}
	for (i = 0; i < 3; i++)
		peer_leave(w->peer[i]);
	EXPECT(world_clean(w));
	world_free(w);
}

/* An administrator's word, about who is silent. */
static void suspect_buried(void)
{
	struct world *w = world_with(2);
	u32 inc = w->peer[1]->core.inc;
	u64 id, all;

	CHECK(!vine_region_claim(&w->peer[1]->core, 1 << 20, &id));
	CHECK(!vine_region_publish(&w->peer[1]->core, id));
	tick(w->peer[0], 50);
	CHECK(state_of(w->peer[0], 1) == VINE_PEER_SUSPECT);
	w->peer[0]->core.budget = 0;	/* used up in this pass */
	peer_drain(w->peer[0], 0);
	CHECK(!vine_peer_bury(&w->peer[0]->core, 1, inc));
	CHECK(state_of(w->peer[0], 1) == VINE_PEER_FREE);
	CHECK(world_chunks_free(w) == w->geo.chunks);
	CHECK(peer_drain(w->peer[0], VINE_LEAF_TABLES) == 1);
	CHECK(!vine_region_claim(&w->peer[0]->core, w->geo.chunks << w->geo.shift, &all));
	/* it was only paused: it wakes, sees that it is counted out, and comes as another */
	CHECK(vine_tick(&w->peer[1]->core) == VINE_TICK_FENCED);
	peer_leave(w->peer[1]);
	CHECK(!peer_join(w->peer[1]) && w->peer[1]->core.inc != inc);
	CHECK(vine_region_use(&w->peer[0]->core, all));
	peer_leave(w->peer[1]);
	peer_leave(w->peer[0]);
	CHECK(world_clean(w));
	world_free(w);
}

static void bury_refused(void)
{
	struct world *w = world_with(3);
	struct vine_core *c = &w->peer[0]->core;
	u32 inc = w->peer[1]->core.inc;
	u64 id, word;

	/* nobody, or somebody else */
	CHECK(vine_peer_bury(c, 3, 0) == -ENOENT);
	CHECK(vine_peer_bury(c, 3, 1) == -ENOENT);
	CHECK(vine_peer_bury(c, 64, inc) == -ENOENT);
	CHECK(vine_peer_bury(c, 64 + 1, inc) == -ENOENT);
	CHECK(vine_peer_bury(c, ~0U, inc) == -ENOENT);
	/* who lives */
	CHECK(vine_peer_bury(c, 1, inc) == -EBUSY);
	CHECK(state_of(w->peer[0], 1) == VINE_PEER_LIVE);
	/* ourselves, though others say that we are silent */
	CHECK(vine_peer_bury(c, 0, c->inc) == -EBUSY);
	word = vine_ld64(&vine_peer(c, 0)->word);
	vine_st64(&vine_peer(c, 0)->word, (word & ~0xffULL) | VINE_PEER_SUSPECT);
	CHECK(vine_peer_bury(c, 0, c->inc) == -EBUSY);
	CHECK(state_of(w->peer[0], 0) == VINE_PEER_SUSPECT);
	vine_st64(&vine_peer(c, 0)->word, word);
	/* a suspect of another incarnation */
	CHECK(!vine_region_claim(&w->peer[1]->core, 1, &id));
	tick(w->peer[0], 50);
	CHECK(vine_peer_bury(c, 1, inc + 1) == -ENOENT);
	CHECK(vine_peer_bury(c, 1, 0) == -ENOENT);
	CHECK(state_of(w->peer[0], 1) == VINE_PEER_SUSPECT);
	CHECK(world_chunks_free(w) == w->geo.chunks - 1);
	/* who is buried already is so once more; who is forgotten is not */
	world_bury(w, 1);
	CHECK(!vine_peer_bury(c, 1, inc));
	CHECK(vine_peer_bury(c, 1, inc) == -ENOENT);
	CHECK(world_chunks_free(w) == w->geo.chunks);
	world_free(w);
}

/* For people: how long has it been silent? */
static void silence_counts_on(void)
{
	struct world *w = world_with(2);
	struct vine_seen *seen = &w->peer[0]->core.seen[1];

	tick(w->peer[0], 50);
	CHECK(state_of(w->peer[0], 1) == VINE_PEER_SUSPECT && seen->idle == 49);
	tick(w->peer[0], 50);
	CHECK(seen->idle == 99);
	world_free(w);
}

/* Two processes on one host; the first is killed: its lock drops, and that is all. */
static void killed_process_is_found(bool tick_finds_it)
{
	struct world *w = world_new(0);
	struct peer *victim = world_peer(w, 0), *other = world_peer(w, 1);
	u64 id;

	victim->host = other->host = true;
	victim->unique = other->unique = false;
	EXPECT(!peer_join(victim));
	if (tick_finds_it)
		EXPECT(!peer_join(other));
	CHECK(!vine_region_claim(&victim->core, 1, &id) &&
	      !vine_region_publish(&victim->core, id));
	if (tick_finds_it)
		tick(other, 1);
	CHECK(vine_peer_live(&victim->core, victim->core.slot, victim->core.inc));
	w->locked[victim->core.slot] = NULL;
	if (tick_finds_it)
		CHECK(vine_tick(&other->core) & VINE_TICK_CHANGED);
	else
		CHECK(!peer_join(other));
	CHECK(world_chunks_free(w) == w->geo.chunks);
	peer_leave(other);
	CHECK(world_clean(w));
	world_free(w);
}

static void killed_found_by_tick(void)
{
	killed_process_is_found(true);
}

static void killed_found_by_join(void)
{
	killed_process_is_found(false);
}

/* A machine has no lock, and a machine cannot see any. */
static void locks_are_of_processes(void)
{
	struct world *w = world_new(0);
	struct peer *process = world_peer(w, 0), *machine = world_peer(w, 1);

	process->host = true;
	EXPECT(!peer_join(process) && !peer_join(machine));
	tick(process, 1);
	CHECK(vine_peer_live(&process->core, machine->core.slot, machine->core.inc));
	w->locked[process->core.slot] = NULL;
	tick(machine, 1);
	CHECK(vine_peer_live(&process->core, process->core.slot, process->core.inc));
	peer_leave(process);
	peer_leave(machine);
	CHECK(world_clean(w));
	world_free(w);
}

/* A slot that is free, but still locked by who left it just now, is not taken. */
static void locked_slot_passed_over(void)
{
	struct world *w = world_new(0);
	struct peer *p = world_peer(w, 0), *leaving = world_peer(w, 1);

	p->host = true;
	w->locked[0] = leaving;
	EXPECT(!peer_join(p));
	CHECK(p->core.slot == 1 && w->locked[1] == p && w->locked[0] == leaving);
	peer_leave(p);
	CHECK(world_clean(w));
	world_free(w);
}

static void *joiner(void *arg)
{
	struct peer *p = arg;
	u32 i;

	pthread_barrier_wait(&start);
	for (i = 0; i < SCALED(200); i++) {
		EXPECT(!peer_join(p));
		vine_tick(&p->core);
		EXPECT(vine_peer_live(&p->core, p->core.slot, p->core.inc));
		peer_leave(p);
	}
	return NULL;
}

static void join_race(void)
{
	struct world *w = world_new(0);
	pthread_t t[4];
	int i;

	pthread_barrier_init(&start, NULL, 4);
	for (i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, joiner, world_peer(w, i));
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	EXPECT(world_clean(w));
	world_free(w);
}

static const struct tap_test tests[] = {
	{ "a peer joins and leaves, and nothing is left", join_leave },
	{ "the slot word says what others need to ring it", word_says_all },
	{ "64 peers join, the 65th gets EUSERS until one leaves", sixty_four },
	{ "the incarnation grows with every join", incarnations },
	{ "the incarnation wraps within 24 bits and is never 0", incarnation_wraps },
	{ "a predecessor of the same unique IVPosition is buried", predecessor_buried },
	{ "a suspect predecessor of the same unique IVPosition is buried",
	  suspect_predecessor_buried },
	{ "a process does not bury another one of its IVPosition that lives", namesake_locked },
	{ "a peer of the same IVPosition lives on when that is not unique", namesake_lives },
	{ "peers of other IVPositions live on when a unique one joins", others_live },
	{ "a silent peer is suspect after timeout_ticks of the observer's", silent_suspect },
	{ "a beating peer is never suspect", beating_live },
	{ "an observer that was stalled starts counting anew", stalled_observer },
	{ "nothing of a suspect is reused", suspect_keeps_memory },
	{ "a suspect is current but not live", suspect_not_live },
	{ "a suspect that wakes is fenced, leaves and joins again", fenced_returns },
	{ "a peer that is GONE is reaped by anybody's tick", gone_reaped_by_tick },
	{ "a peer that is GONE is reaped by anybody's join", gone_reaped_by_join },
	{ "the others are told when a peer leaves", death_is_told },
	{ "the others are told when a peer is suspect", suspicion_is_told },
	{ "a wiped segment fences", wiped_fences },
	{ "another generation fences, though the slot word is ours", new_generation_fences },
	{ "a fenced peer does not bury who joined the wiped segment", wiped_leaves_newcomer },
	{ "a peer whose slot word was mangled is fenced and leaves nothing", leave_mangled },
	{ "an administrator buries a suspect, and what it had is free", suspect_buried },
	{ "nobody else can be buried so", bury_refused },
	{ "the silence of a suspect is counted on", silence_counts_on },
	{ "a process that was killed is found by the next tick of another", killed_found_by_tick },
	{ "a process that was killed is found by the next that joins", killed_found_by_join },
	{ "no machine is taken for a killed process, and none judges one", locks_are_of_processes },
	{ "a process passes over a slot that is locked", locked_slot_passed_over },
	{ "reaping twice at once is harmless", reaped_twice },
	{ "peers that join and leave at once do not disturb each other", join_race },
};

TAP_MAIN(tests)
