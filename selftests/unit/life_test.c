// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * life_test.c - many lives on one segment; at the end everything is free
 *
 *   life_test [seed [steps]]
 */
#include "actors.h"
#include "tap.h"

#define ACTORS	8
#define THREADS	4

static u64 seed = 1, steps;
static struct world *w;
static struct actor actor[ACTORS];

static void world_of_actors(u32 n)
{
	u32 i;

	w = world_new(0);
	memset(actor, 0, sizeof(actor));
	for (i = 0; i < n; i++) {
		actor[i].peer = world_peer(w, i);
		actor[i].peer->timeout = 40;
		actor[i].peer->vectors = i % 4;
		actor[i].peer->unique = true;
		actor[i].seed = seed * 1000 + i;
		actor_join(&actor[i]);
	}
}

static void end_of_world(u32 n)
{
	u64 messages = 0, connections = 0, imports = 0, fenced = 0;
	u32 i;

	for (i = 0; i < n; i++) {
		if (actor[i].joined)
			actor_quit(&actor[i]);
		messages += actor[i].messages;
		connections += actor[i].connections;
		imports += actor[i].imports;
		fenced += actor[i].fenced;
	}
	printf("# %llu connections, %llu messages, %llu imports, %llu fenced\n",
	       (unsigned long long)connections, (unsigned long long)messages,
	       (unsigned long long)imports, (unsigned long long)fenced);
	EXPECT(connections && messages && imports);
	EXPECT(world_clean(w));
	world_free(w);
}

/* Death and return, one actor now and then. */
static void fate(struct actor *a, u64 *s)
{
	u32 slot = a->peer->core.slot;

	switch (rnd(s) % 5) {
	case 0:			/* its machine stops; the server sees it, or never */
		a->silent = true;
		break;
	case 1:
		if (a->joined) {	/* the server sees the socket close */
			world_bury(w, slot);
			actor_drop(a);
		}
		break;
	case 2:
		actor_quit(a);
		break;
	case 3:			/* rebooted: the same IVPosition, nothing else */
		if (a->joined && a->peer->vectors) {
			actor_drop(a);
			actor_join(a);
		}
		break;
	default:		/* it wakes */
		a->silent = false;
	}
}

static void alone(void)
{
	u64 i, s = seed;
	struct actor *a;

	printf("# seed %llu, %llu steps\n", (unsigned long long)seed,
	       (unsigned long long)steps);
	world_of_actors(ACTORS);
	for (i = 0; i < steps && !tap_failed; i++) {
		a = &actor[rnd(&s) % ACTORS];
		if (rnd(&s) % 2000 == 0)
			fate(a, &s);
		else if (!a->silent)
			actor_step(a);
		if (i % 1000 == 0)
			EXPECT(world_private_ok(w));
	}
	if (tap_failed)
		printf("# at step %llu\n", (unsigned long long)i);
	for (i = 0; i < ACTORS; i++)
		actor[i].silent = false;
	end_of_world(ACTORS);
}

static void *live(void *arg)
{
	struct actor *a = arg;
	u64 i, s = a->seed + 7;

	for (i = 0; i < steps / THREADS && !READ_ONCE(tap_failed); i++) {
		if (rnd(&s) % 5000 == 0)
			actor_quit(a);
		actor_step(a);
	}
	return NULL;
}

static void together(void)
{
	pthread_t t[THREADS];
	u32 i;

	world_of_actors(THREADS);
	for (i = 0; i < THREADS; i++) {
		/* they are not scheduled evenly */
		actor[i].peer->timeout = actor[i].peer->core.timeout_ticks = 1000000;
		pthread_create(&t[i], NULL, live, &actor[i]);
	}
	for (i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	EXPECT(world_private_ok(w));
	end_of_world(THREADS);
}

static const struct tap_test tests[] = {
	{ "peers live, die and return at random: messages are right, and all is free after",
	  alone },
	{ "peers live at the same time: messages are right, and all is free after", together },
};

int main(int argc, char **argv)
{
	steps = SCALED(1000000ULL);
	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0);
	if (argc > 2)
		steps = strtoull(argv[2], NULL, 0);
	return tap_main(tests, ARRAY_SIZE(tests));
}
