// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * query_test.c - what the tables say, also when they say nonsense; services by name
 */
#include "tap.h"
#include "world.h"
#include <linux/vine.h>

#define TICK_MS	10

/* ---- peers ---- */

static void peers(void)
{
	struct world *w = world_with(2);
	struct vine_core *c = &w->peer[0]->core;
	struct vine_query_peer own = { 0 }, other = { 0 }, none = { 0 };

	vine_st64(&vine_peer(c, 1)->beat, 7);
	CHECK(vine_describe_peer(c, 0, TICK_MS, &own));
	CHECK(own.peer == 0 && own.incarnation == c->inc && own.flags == VINE_QUERY_OWN &&
	      own.state == VINE_QUERY_PEER_LIVE && own.vectors == 2);
	CHECK(vine_describe_peer(c, 1, TICK_MS, &other));
	CHECK(other.peer == 1 && other.incarnation == w->peer[1]->core.inc && !other.flags &&
	      other.ivposition == 1 && other.beats == 7);
	CHECK(!vine_describe_peer(c, 2, TICK_MS, &none));
	world_free(w);
}

static void silence(void)
{
	struct world *w = world_with(2);
	struct vine_core *c = &w->peer[0]->core;
	struct vine_query_peer r = { 0 };
	u32 i;

	/* the first tick sees it, three more see nothing new of it */
	for (i = 0; i < 4; i++)
		vine_tick(c);
	CHECK(vine_describe_peer(c, 1, TICK_MS, &r) && r.silent_ms == 3 * TICK_MS);
	/* of its successor nothing is known yet */
	peer_leave(w->peer[1]);
	CHECK(!peer_join(w->peer[1]));
	r.silent_ms = 0;
	CHECK(vine_describe_peer(c, 1, TICK_MS, &r) && !r.silent_ms);
	world_free(w);
}

/* ---- services ---- */

static void service(void)
{
	struct world *w = world_with(2);
	struct vine_core *c = &w->peer[0]->core;
	struct vine_query_service r = { 0 }, foreign = { 0 };
	struct vine_listener l;

	CHECK(!vine_describe_service(c, 0, NULL, &r));
	CHECK(!vine_service_offer(c, &l, "name", 5));
	CHECK(vine_describe_service(c, l.index, &l, &r));
	CHECK(r.id == vine_service_id(l.index, l.gen) && r.type == 5 && r.peer == 0 &&
	      r.incarnation == c->inc && r.state == VINE_QUERY_SERVICE_LIVE);
	CHECK(r.flags == VINE_QUERY_OWN && !strcmp((char *)r.name, "name") && !r.waiting);
	CHECK(vine_describe_service(&w->peer[1]->core, l.index, NULL, &foreign) && !foreign.flags);
	world_free(w);
}

static void endless_name(void)
{
	struct world *w = world_with(1);
	struct vine_core *c = &w->peer[0]->core;
	struct vine_query_service r = { 0 };
	struct vine_listener l;

	CHECK(!vine_service_offer(c, &l, "name", 0));
	memset(vine_service(c, l.index)->name, 'x', VINE_NAME_SIZE);
	CHECK(vine_describe_service(c, l.index, &l, &r));
	CHECK(strlen((char *)r.name) == VINE_NAME_SIZE - 1);
	world_free(w);
}

/* Two wait, one has given up; the listener has seen the bits of some of them. */
static void waiting(void)
{
	struct world *w = world_with(2);
	struct vine_core *server = &w->peer[0]->core, *client = &w->peer[1]->core;
	struct vine_query_service r = { 0 };
	struct vine_service_seen seen;
	struct vine_queue q[3];
	struct vine_listener l;
	u32 i;

	CHECK(!world_offer(w->peer[0], &l, "name") && !world_find(w->peer[1], "name", &seen));
	for (i = 0; i < 3; i++) {
		CHECK(!vine_queue_connect(client, &q[i], &seen, 4));
		CHECK(i || vine_service_waiting(server, &l));
	}
	vine_connect_cancel(&q[1]);
	CHECK(vine_describe_service(server, l.index, &l, &r) && r.waiting == 2);
	/* who does not own it sees the shared words only */
	r.waiting = 0;
	CHECK(vine_describe_service(client, l.index, NULL, &r) && r.waiting == 1);
	world_free(w);
}

static void find(void)
{
	struct world *w = world_with(3);
	struct vine_core *c = &w->peer[0]->core;
	struct vine_service_seen seen;
	struct vine_listener l[4];

	CHECK(!world_offer(w->peer[2], &l[2], "name") && !world_offer(w->peer[1], &l[1], "name"));
	CHECK(!world_offer(w->peer[0], &l[0], "names"));
	CHECK(vine_service_find(c, 0, (const u8 *)"name", &seen) && seen.slot == 1);
	CHECK(vine_service_find(c, vine_service_id(l[2].index, l[2].gen), NULL, &seen));
	CHECK(seen.slot == 2);
	CHECK(!vine_service_find(c, vine_service_id(l[2].index, l[2].gen + 1), NULL, &seen));
	CHECK(!vine_service_find(c, 0, (const u8 *)"nam", &seen));
	vine_service_withdraw(&w->peer[1]->core, &l[1]);
	CHECK(vine_service_find(c, 0, (const u8 *)"name", &seen) && seen.slot == 2);
	world_free(w);
}

static void names(void)
{
	u8 name[VINE_NAME_SIZE] = "";

	CHECK(vine_check_name(name) == -EINVAL);
	name[0] = 'a';
	CHECK(!vine_check_name(name));
	name[2] = 'c';
	CHECK(vine_check_name(name) == -EINVAL);
	memset(name, 'x', VINE_NAME_SIZE - 1);
	CHECK(!vine_check_name(name));
	name[VINE_NAME_SIZE - 1] = 'x';
	CHECK(vine_check_name(name) == -EINVAL);
}

/* ---- queues ---- */

static void queue(void)
{
	struct world *w = world_with(2);
	struct vine_core *c = &w->peer[0]->core;
	struct vine_query_queue r = { 0 };
	struct vine_queue cq, sq;
	u64 id;

	CHECK(!vine_describe_queue(c, 0, &r));
	CHECK(!world_pair(w->peer[1], w->peer[0], 8, &cq, &sq));
	CHECK(!vine_region_claim(cq.core, 1, &id) && !vine_region_publish(cq.core, id) &&
	      !vine_queue_attach(&cq, id));
	CHECK(vine_describe_queue(c, cq.index, &r));
	CHECK(r.queue == cq.index && r.state == VINE_QUERY_QUEUE_ACCEPTED && r.depth == 8);
	CHECK(r.client == 1 && r.client_incarnation == w->peer[1]->core.inc);
	CHECK(r.server == 0 && r.server_incarnation == c->inc && r.service);
	CHECK(r.attached == 1);
	CHECK(r.to_server == VINE_QUERY_UNKNOWN && r.to_client == VINE_QUERY_UNKNOWN);
	world_free(w);
}

static void impossible_depth(void)
{
	static const u32 shifts[] = { 0, 13, 31, 32, 33, 255 };
	struct world *w = world_with(2);
	struct vine_core *c = &w->peer[0]->core;
	struct vine_query_queue r;
	struct vine_queue cq, sq;
	u32 i;

	CHECK(!world_pair(w->peer[1], w->peer[0], 8, &cq, &sq));
	for (i = 0; i < ARRAY_SIZE(shifts); i++) {
		memset(&r, 0, sizeof(r));
		vine_st64(&vine_queue_entry(c, cq.index)->rings, shifts[i]);
		CHECK(vine_describe_queue(c, cq.index, &r) && !r.depth);
	}
	world_free(w);
}

/* ---- regions ---- */

static void region(void)
{
	struct world *w = world_with(2);
	struct vine_core *c = &w->peer[0]->core;
	struct vine_query_region own = { 0 }, other = { 0 }, rings = { 0 };
	struct vine_queue cq, sq;
	u64 id;

	CHECK(!vine_describe_region(c, 0, &own));
	CHECK(!world_pair(w->peer[0], w->peer[1], 4, &cq, &sq));
	CHECK(!vine_region_claim(c, 100000, &id) && !vine_region_publish(c, id));
	CHECK(!vine_queue_attach(&cq, id) && !vine_queue_import(&sq, id));
	CHECK(vine_describe_region(c, VINE_REGION_INDEX(id), &own));
	CHECK(own.id == id && own.bytes == 2 * 65536 && own.peer == 0 &&
	      own.incarnation == c->inc && own.state == VINE_QUERY_REGION_LIVE);
	CHECK(own.flags == VINE_QUERY_OWN && own.users == 1 && own.holders == 3);
	CHECK(vine_describe_region(&w->peer[1]->core, VINE_REGION_INDEX(id), &other));
	CHECK(!other.flags && other.users == 1 && other.bytes == own.bytes);
	CHECK(vine_describe_region(c, VINE_REGION_INDEX(cq.region), &rings));
	CHECK(rings.flags == (VINE_QUERY_OWN | VINE_QUERY_RINGS));
	world_free(w);
}

static void impossible_extent(void)
{
	struct world *w = world_with(1);
	struct vine_core *c = &w->peer[0]->core;
	struct vine_query_region r = { 0 };
	u64 id;

	CHECK(!vine_region_claim(c, 1, &id));
	vine_st64(&vine_region_entry(c, VINE_REGION_INDEX(id))->extent, ~0ULL);
	CHECK(vine_describe_region(c, VINE_REGION_INDEX(id), &r) && !r.bytes);
	world_free(w);
}

static const struct tap_test tests[] = {
	{ "of a peer, its word, its beats, and whether it is ourselves", peers },
	{ "silence counts in ticks, and not for a successor", silence },
	{ "of a service, all but the process", service },
	{ "a name of 32 bytes that do not end is cut", endless_name },
	{ "waiting are those who have not given up, seen by the listener or not", waiting },
	{ "by its name the service of the lowest slot is found, by its id exactly that one", find },
	{ "a name has 1 to 31 bytes, and zeroes behind them", names },
	{ "of a queue, both peers, the service, the depth and what is attached", queue },
	{ "a depth that cannot be is 0", impossible_depth },
	{ "of a region, its size, its users here and who holds it", region },
	{ "more chunks than there are is 0 bytes", impossible_extent },
};

TAP_MAIN(tests)
