// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * hostile_test.c - somebody scribbles over the segment while peers live on it
 *
 *   hostile_test [seed [rounds]]
 *
 * No result is right any more, but every call returns, nothing outside the segment is
 * touched (there are guard pages), and no private record contradicts itself.
 */
#include "actors.h"
#include "tap.h"

#define VICTIMS	3

static u64 seed = 1, rounds;
static struct world *w;
static struct actor victim[VICTIMS];

static u64 nasty(u64 *s, u64 now, __le64 *words, u64 n)
{
	switch (rnd(s) % 9) {
	case 0:
		return 0;
	case 1:
		return ~0ULL;
	case 2:
		return rnd(s);
	case 3:
		return now ^ 1ULL << rnd(s) % 64;
	case 4:
		return now + 1;
	case 5:
		return now - 1;
	case 6:		/* a state, of the same generation and owner */
		return (now & ~0xffULL) | rnd(s) % 7;
	case 7:		/* something that makes sense elsewhere */
		return vine_ld64(&words[rnd(s) % n]);
	default:
		return (now << 32) | (now >> 32);
	}
}

/* One word at a place where something is: most of the tables is empty. */
static void scribble(u64 *s, bool rings)
{
	u64 chunk_off = w->geo.chunk_off, i, n, tries;
	__le64 *words;

	switch (rnd(s) % (rings ? 8 : 6)) {
	case 0:
		words = (__le64 *)(w->base + VINE_OFF_PEERS);
		n = 5 * 8192 / 8;
		break;
	case 1:
		words = (__le64 *)(w->base + VINE_OFF_SERVICES);
		n = 8 * 1024 / 8;
		break;
	case 2:
		words = (__le64 *)(w->base + VINE_OFF_QUEUES);
		n = 40 * 512 / 8;
		break;
	case 3:
		words = (__le64 *)(w->base + VINE_OFF_REGIONS);
		n = 40 * 320 / 8;
		break;
	case 4:
		words = (__le64 *)(w->base + VINE_OFF_CHUNKMAP);
		n = w->geo.chunks;
		break;
	case 5:
		words = (__le64 *)(w->base + VINE_OFF_PEERS);
		n = (chunk_off - VINE_OFF_PEERS) / 8;
		break;
	default:
		words = (__le64 *)(w->base + chunk_off);
		n = 16 * 65536 / 8;
		break;
	}
	i = rnd(s) % n;
	for (tries = 0; tries < 64 && !vine_ld64(&words[i]); tries++)
		i = (i + 1) % n;
	vine_st64(&words[i], nasty(s, vine_ld64(&words[i]), words, n));
}

static void begin(void)
{
	u32 i;

	memset(victim, 0, sizeof(victim));
	w = world_new(0);
	for (i = 0; i < VICTIMS; i++) {
		victim[i].peer = world_peer(w, i);
		victim[i].peer->timeout = 40;
		victim[i].peer->vectors = i;
		victim[i].seed = seed * 1000 + i;
		victim[i].hostile_world = true;
	}
}

/* A segment that nobody can use any more is wiped, as an administrator would. */
static void wipe(void)
{
	struct vine_geometry g;
	u32 i;

	for (i = 0; i < VICTIMS; i++)
		if (victim[i].joined)
			actor_quit(&victim[i]);
	memset(w->base, 0, w->size);
	EXPECT(!vine_segment_open(w->base, w->size, &g));
}

static void end(void)
{
	u64 messages = 0, connections = 0, imports = 0, fenced = 0, broken = 0;
	u32 i;

	for (i = 0; i < VICTIMS; i++) {
		messages += victim[i].messages;
		connections += victim[i].connections;
		imports += victim[i].imports;
		fenced += victim[i].fenced;
		broken += victim[i].broken;
	}
	printf("# %llu connections, %llu messages, %llu imports, %llu fenced, %llu broken\n",
	       (unsigned long long)connections, (unsigned long long)messages,
	       (unsigned long long)imports, (unsigned long long)fenced,
	       (unsigned long long)broken);
	EXPECT(connections && messages && fenced);
	world_free(w);
}

/* Are there rounds to go? Messages are to arrive and slots to be lost, whatever words are hit. */
static bool goes_on(u64 round)
{
	u64 messages = 0, fenced = 0;
	u32 i;

	for (i = 0; i < VICTIMS; i++) {
		messages += victim[i].messages;
		fenced += victim[i].fenced;
	}
	return !tap_failed && round < (messages && fenced ? rounds : 100 * rounds);
}

static void between(u32 per_step)
{
	u64 round, step, s = seed + per_step;
	u32 i, k;

	printf("# seed %llu, %llu rounds\n", (unsigned long long)seed,
	       (unsigned long long)rounds);
	begin();
	for (round = 0; goes_on(round); round++) {
		wipe();
		for (step = 0; step < 1500; step++) {
			i = (u32)(rnd(&s) % VICTIMS);
			actor_step(&victim[i]);
			if (step < 100)
				continue;	/* something has to be there first */
			for (k = 0; k < per_step; k++)
				if (rnd(&s) % 4 == 0)
					scribble(&s, true);
		}
		for (i = 0; i < VICTIMS; i++)
			EXPECT(!victim[i].joined || peer_private_ok(victim[i].peer));
	}
	wipe();
	end();
}

static void rarely(void)
{
	between(1);
}

static void often(void)
{
	between(20);
}

#define FLIPS	200	/* at least, in a round: the scribbler may be slow to begin */

static bool stop;
static u32 flips;

static void *scribbler(void *arg)
{
	u64 *s = arg;
	u32 pause;

	while (!READ_ONCE(stop)) {
		scribble(s, false);
		WRITE_ONCE(flips, flips + 1);
		for (pause = (u32)(rnd(s) % 4096); pause; pause--)
			vine_mb();
	}
	return NULL;
}

static void meanwhile(void)
{
	u64 round, step, s = seed, scribbles = seed + 99;
	pthread_t t;
	u32 i;

	begin();
	for (round = 0; goes_on(round); round++) {
		wipe();
		for (step = 0; step < 100; step++)
			actor_step(&victim[rnd(&s) % VICTIMS]);
		stop = false;
		flips = 0;
		pthread_create(&t, NULL, scribbler, &scribbles);
		for (step = 0; step < 1500 || READ_ONCE(flips) < FLIPS; step++)
			actor_step(&victim[rnd(&s) % VICTIMS]);
		WRITE_ONCE(stop, true);
		pthread_join(t, NULL);
		for (i = 0; i < VICTIMS; i++)
			EXPECT(!victim[i].joined || peer_private_ok(victim[i].peer));
	}
	wipe();
	end();
}

static const struct tap_test tests[] = {
	{ "words that flip now and then between calls hurt nobody's records", rarely },
	{ "words that flip all the time between calls hurt nobody's records", often },
	{ "words that flip during calls hurt nobody's records", meanwhile },
};

int main(int argc, char **argv)
{
	rounds = SCALED(80ULL);
	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0);
	if (argc > 2)
		rounds = strtoull(argv[2], NULL, 0);
	return tap_main(tests, ARRAY_SIZE(tests));
}
