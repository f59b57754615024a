// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * death_test.c - a peer dies at every step of everything it does
 *
 * For k = 1, 2, ... a peer's operation ends for ever before its k-th access to the
 * segment (step.h, longjmp). It is declared GONE, another peer ticks, the survivors
 * close what they have, and then everything must be free.
 */
#include <setjmp.h>
#include "tap.h"
#include "world.h"

#undef vine_ld32	/* of step.h: this file looks without stopping */
#undef vine_ld64

static u64 countdown;
static jmp_buf grave;

void vine_step(const void *p, u64 now, bool write)
{
	(void)p;
	if (countdown && (now || write) && !--countdown)
		longjmp(grave, 1);
}

/* d dies; b is its partner; c looks on */
static struct world *w;
static struct peer *d, *b, *c;
static u64 id, id2;
static struct vine_queue dq, bq;	/* their sides of one queue */
static bool b_up;			/* is there something to close? */
static struct vine_listener l;
static struct vine_service_seen seen;

static void tick(struct peer *p)
{
	vine_tick(&p->core);
}

/* @op of d's ends at each of its steps. */
static void each_death(void (*before)(void), void (*op)(void), u64 least)
{
	u64 k;
	u32 i;
	volatile bool died = true;
	struct peer *all[3];

	for (k = 1; died && !tap_failed; k++) {
		w = world_with(3);
		d = w->peer[0];
		b = w->peer[1];
		c = w->peer[2];
		all[0] = d;
		all[1] = b;
		all[2] = c;
		for (i = 0; i < 3; i++)
			all[i]->core.timeout_ticks = 1000000;
		b_up = false;
		id = id2 = 0;
		before();
		died = setjmp(grave);
		if (!died) {
			countdown = k;
			op();
			countdown = 0;
		}
		for (i = 0; i < VINE_MAX_PEERS; i++)
			if (i != b->core.slot && i != c->core.slot)
				world_bury(w, i);
		EXPECT(peer_private_ok(b) && peer_private_ok(c));
		tick(c);
		if (b_up) {
			int err = bq.side == VINE_SIDE_CLIENT ? vine_connect_result(&bq) : 0;

			EXPECT(!err || err == -ECONNREFUSED);
			EXPECT(vine_queue_hung(&bq));
			vine_queue_close(&bq);
		}
		if (vine_region_use(&b->core, id) && !vine_region_use(&b->core, id)->own)
			vine_region_put(&b->core, id);
		if (vine_region_use(&b->core, id2) && vine_region_use(&b->core, id2)->own)
			vine_region_retire(&b->core, id2);
		tick(b);
		tick(c);
		EXPECT(world_chunks_free(w) == w->geo.chunks);
		peer_leave(b);
		peer_leave(c);
		EXPECT(world_clean(w));
		if (tap_failed)
			printf("# at step %llu\n", (unsigned long long)k);
		world_free(w);
	}
	/* k - 2 steps there were, in which it died */
	if (!tap_failed && !EXPECT(k - 2 >= least))
		printf("# only %llu steps\n", (unsigned long long)k - 2);
}

static void nothing(void)
{
}

static void claim(void)
{
	EXPECT(!vine_region_claim(&d->core, 300000, &id));
}

static void publish(void)
{
	vine_region_publish(&d->core, id);
}

static void region(void)
{
	claim();
	publish();
}

static void retire(void)
{
	vine_region_retire(&d->core, id);
}

static void region_of_b(void)
{
	EXPECT(!vine_region_claim(&b->core, 300000, &id2));
	EXPECT(!vine_region_publish(&b->core, id2));
}

static void import(void)
{
	vine_region_import(&d->core, id2, b->core.slot, b->core.inc, false);
}

static void imported_dying(void)
{
	region_of_b();
	import();
	vine_region_retire(&b->core, id2);
}

static void put(void)
{
	vine_region_put(&d->core, id2);
}

static void held_by_b(void)
{
	region();
	EXPECT(!vine_region_import(&b->core, id, d->core.slot, d->core.inc, false));
}

static void b_offers(void)
{
	EXPECT(!world_offer(b, &l, "service"));
	EXPECT(!world_find(d, "service", &seen));
}

static void connect(void)
{
	vine_queue_connect(&d->core, &dq, &seen, 4);
}

static void d_offers(void)
{
	EXPECT(!world_offer(d, &l, "service"));
	EXPECT(!world_find(b, "service", &seen));
}

static void b_waits(void)
{
	d_offers();
	EXPECT(!vine_queue_connect(&b->core, &bq, &seen, 4));
	b_up = true;
}

static void accept(void)
{
	vine_queue_accept(&d->core, &l, &dq);
}

static void withdraw(void)
{
	vine_service_withdraw(&d->core, &l);
}

static void offer(void)
{
	vine_service_offer(&d->core, &l, "service", 3);
}

static void d_client(void)
{
	EXPECT(!world_pair(d, b, 4, &dq, &bq));
	b_up = true;
}

static void d_server(void)
{
	EXPECT(!world_pair(b, d, 4, &bq, &dq));
	b_up = true;
}

static void close_d(void)
{
	vine_queue_close(&dq);
}

static void b_closed_client(void)
{
	d_server();
	vine_queue_close(&bq);
	b_up = false;
}

static void b_closed_server(void)
{
	d_client();
	vine_queue_close(&bq);
	b_up = false;
}

static void waiting(void)
{
	b_offers();
	connect();
}

static void cancel_close(void)
{
	vine_connect_cancel(&dq);
	vine_queue_close(&dq);
}

static void client_with_region(void)
{
	d_client();
	region();
}

static void attach(void)
{
	vine_queue_attach(&dq, id);
}

static void server_of_region(void)
{
	u64 theirs;

	d_server();
	EXPECT(!vine_region_claim(&b->core, 300000, &theirs));
	EXPECT(!vine_region_publish(&b->core, theirs));
	EXPECT(!vine_queue_attach(&bq, theirs));
	id2 = theirs;
}

static void import_queue(void)
{
	vine_queue_import(&dq, id2);
}

static void everything(void)
{
	struct vine_listener other;

	held_by_b();
	EXPECT(!world_offer(d, &other, "other"));
	d_client();
}

static void leave(void)
{
	vine_leave(&d->core);
}

/* d, ticking, is about to reap somebody who had everything too */
static void corpse(void)
{
	struct peer *e = world_peer(w, 3);
	struct vine_listener other;
	struct vine_queue eq;
	u64 theirs;

	EXPECT(!peer_join(e));
	EXPECT(!vine_region_claim(&e->core, 100000, &theirs));
	EXPECT(!vine_region_publish(&e->core, theirs));
	EXPECT(!world_offer(e, &other, "other"));
	EXPECT(!world_pair(e, b, 4, &eq, &bq));
	b_up = true;
	world_bury(w, e->core.slot);
}

static void tick_d(void)
{
	vine_tick(&d->core);
}

static void d_not_there(void)
{
	peer_leave(d);
}

static void join(void)
{
	peer_join(d);
}

static void push(void)
{
	struct vine_cell m = { { 1 }, 8 };

	vine_ring_push(&dq.tx, &m);
	vine_ring_pushed(&dq.tx);
	vine_queue_notify(&dq);
}

#define DEATH(name, before, op, least)			\
	static void name(void)				\
	{						\
		each_death(before, op, least);		\
	}

DEATH(die_claim, nothing, claim, 8)
DEATH(die_publish, claim, publish, 1)
DEATH(die_retire, region, retire, 10)
DEATH(die_retire_held, held_by_b, retire, 4)
DEATH(die_import, region_of_b, import, 5)
DEATH(die_put, imported_dying, put, 8)
DEATH(die_offer, nothing, offer, 5)
DEATH(die_withdraw, b_waits, withdraw, 5)
DEATH(die_connect, b_offers, connect, 30)
DEATH(die_cancel, waiting, cancel_close, 5)
DEATH(die_accept, b_waits, accept, 15)
DEATH(die_client_close, d_client, close_d, 5)
DEATH(die_server_close, d_server, close_d, 5)
DEATH(die_second_close, b_closed_client, close_d, 5)
DEATH(die_second_close_client, b_closed_server, close_d, 5)
DEATH(die_attach, client_with_region, attach, 1)
DEATH(die_import_queue, server_of_region, import_queue, 5)
DEATH(die_push, d_client, push, 8)
DEATH(die_leave, everything, leave, 30)
DEATH(die_tick, corpse, tick_d, 30)
DEATH(die_join, d_not_there, join, 5)

static const struct tap_test tests[] = {
	{ "death at each step of claim", die_claim },
	{ "death at each step of publish", die_publish },
	{ "death at each step of retire", die_retire },
	{ "death at each step of retire, imported by another", die_retire_held },
	{ "death at each step of import", die_import },
	{ "death at each step of put", die_put },
	{ "death at each step of offer", die_offer },
	{ "death at each step of withdraw", die_withdraw },
	{ "death at each step of connect", die_connect },
	{ "death at each step of cancel and close", die_cancel },
	{ "death at each step of accept", die_accept },
	{ "death at each step of the client's close", die_client_close },
	{ "death at each step of the server's close", die_server_close },
	{ "death at each step of the server's close, after the client's", die_second_close },
	{ "death at each step of the client's close, after the server's",
	  die_second_close_client },
	{ "death at each step of attach", die_attach },
	{ "death at each step of importing by a queue", die_import_queue },
	{ "death at each step of push and notify", die_push },
	{ "death at each step of leave", die_leave },
	{ "death at each step of a tick that reaps another", die_tick },
	{ "death at each step of join", die_join },
};

TAP_MAIN(tests)
