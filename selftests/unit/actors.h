/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * actors.h - peers that do all that a peer can do, at random
 *
 * An actor is a peer with what its shell would hold: listeners, queues, regions.
 * actor_step() does one thing that is allowed in its state, and checks what it gets.
 * All randomness comes from the actor's own seed.
 */
#ifndef ACTORS_H
#define ACTORS_H

#include "world.h"

#define ACTOR_QUEUES	12
#define ACTOR_REGIONS	8
#define ACTOR_LISTENERS	2

enum link_state { LINK_NONE, LINK_CONNECTING, LINK_UP };

struct link {
	enum link_state state;
	struct vine_queue q;
	u64 sent, received;	/* sequence numbers */
	u64 imported[4];	/* server: by this queue */
};

struct actor {
	struct peer *peer;
	u64 seed;
	bool joined;
	bool silent;		/* does not beat: paused or dead */
	bool hostile_world;	/* somebody scribbles: results are not checked */
	struct vine_listener listener[ACTOR_LISTENERS];
	bool offering[ACTOR_LISTENERS];
	struct link link[ACTOR_QUEUES];
	u64 region[ACTOR_REGIONS];
	/* what was done, to see that the test is not idle */
	u64 messages, connections, imports, fenced, broken;
};

void actor_join(struct actor *a);
/* Closes everything, in a random order, and leaves. */
void actor_quit(struct actor *a);
/* Forgets everything, as a machine that dies. */
void actor_drop(struct actor *a);
void actor_step(struct actor *a);

#endif /* ACTORS_H */
