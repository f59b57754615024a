// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * queue_test.c - services, connect, accept, cancel, close, attach, and every death
 */
#include "tap.h"
#include "world.h"

/* s serves, k connects, o looks on */
static struct world *w;
static struct vine_core *s, *k, *o;
static struct vine_listener l;
static struct vine_service_seen seen;
static struct vine_queue cq, sq;

static void scene(void)
{
	int i;

	w = world_with(3);
	for (i = 0; i < 3; i++)
		w->peer[i]->core.timeout_ticks = 1000000;
	s = &w->peer[0]->core;
	k = &w->peer[1]->core;
	o = &w->peer[2]->core;
	EXPECT(!vine_service_offer(s, &l, "service", 7));
	EXPECT(!world_find(w->peer[1], "service", &seen));
}

static void curtain(void)
{
	int i;

	EXPECT(world_private_ok(w));
	for (i = 0; i < 3; i++)
		if (w->peer[i]->core.inc)
			peer_leave(w->peer[i]);
	EXPECT(world_clean(w));
	world_free(w);
}

static void tick(void)
{
	int i;

	for (i = 0; i < 3; i++)
		if (w->peer[i]->core.inc)
			vine_tick(&w->peer[i]->core);
}

static void die(u32 i)
{
	world_bury(w, i);
	vine_core_init(&w->peer[i]->core, w->base, &w->geo, w->peer[i]->chunk_use,
		       w->peer[i]->core.ops);
	vine_tick(o);
}

/* Entries, regions, chunks that are in use; services apart. */
static bool all_back(void)
{
	struct vine_usage u;

	vine_usage(o, &u);
	return !u.queues && !u.regions && u.chunks_free == u.chunks;
}

static u32 state(const struct vine_queue *q)
{
	return VINE_CTL_STATE(vine_ld64(&vine_queue_entry(o, q->index)->ctl));
}

static void connect(void)
{
	EXPECT(!vine_queue_connect(k, &cq, &seen, 4));
}

static void pair(void)
{
	connect();
	EXPECT(!vine_queue_accept(s, &l, &sq));
	EXPECT(!vine_connect_result(&cq));
}

/* ---- services ---- */

static void offered(void)
{
	scene();
	CHECK(seen.slot == s->slot && seen.inc == s->inc && seen.type == 7);
	CHECK(seen.index == l.index && seen.gen == l.gen);
	CHECK(peer_drain(w->peer[1], VINE_LEAF_TABLES) == 1);
	curtain();
}

static void name_in_use(void)
{
	struct vine_listener second;

	scene();
	CHECK(vine_service_offer(s, &second, "service", 1) == -EADDRINUSE);
	CHECK(!vine_service_offer(s, &second, "servic", 1));
	CHECK(!vine_service_offer(k, &second, "service", 1));
	curtain();
}

static void name_again(void)
{
	struct vine_listener again;

	scene();
	vine_service_withdraw(s, &l);
	CHECK(world_find(w->peer[1], "service", &seen) == -ENOENT);
	CHECK(!vine_service_offer(s, &again, "service", 1));
	CHECK(again.gen != l.gen);
	curtain();
}

static void long_name(void)
{
	const char *name = "0123456789abcdefghijklmnopqrstu";
	struct vine_listener second;

	scene();
	CHECK(strlen(name) == VINE_NAME_SIZE - 1);
	CHECK(!vine_service_offer(s, &second, name, 1));
	CHECK(!world_find(w->peer[1], name, &seen));
	CHECK(vine_service_offer(s, &second, name, 1) == -EADDRINUSE);
	CHECK(!vine_service_offer(s, &second, name + 1, 1));
	curtain();
}

static void unterminated_name(void)
{
	struct vine_service_seen got;

	scene();
	memset(vine_service(o, l.index)->name, 'x', VINE_NAME_SIZE);
	CHECK(vine_service_read(k, l.index, &got));
	CHECK(strlen(got.name) == VINE_NAME_SIZE - 1);
	curtain();
}

static void service_dies(void)
{
	struct vine_service_seen got;

	scene();
	world_bury(w, 0);
	CHECK(!vine_service_read(k, l.index, &got));
	vine_tick(o);
	CHECK(VINE_CTL_STATE(vine_ld64(&vine_service(o, l.index)->ctl)) == VINE_SERVICE_FREE);
	CHECK(!peer_join(w->peer[0]));
	curtain();
}

static void suspect_service(void)
{
	struct vine_service_seen got;
	u32 i;

	scene();
	o->timeout_ticks = 3;
	for (i = 0; i < 10; i++)
		vine_tick(o);
	CHECK(!vine_service_read(k, l.index, &got));
	curtain();
}

static void all_services(void)
{
	struct vine_listener *all = calloc(VINE_MAX_SERVICES, sizeof(*all));
	char name[16];
	u32 i;

	scene();
	for (i = 0; i < VINE_MAX_SERVICES; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		CHECK(vine_service_offer(s, &all[i], name, i) ==
		      (i < VINE_MAX_SERVICES - 1 ? 0 : -ENOSPC));
	}
	for (i = 0; i < VINE_MAX_SERVICES - 1; i++)
		vine_service_withdraw(s, &all[i]);
	CHECK(!vine_service_offer(s, &all[0], "s", 1));
	free(all);
	curtain();
}

static void withdraw_refuses(void)
{
	struct vine_queue q[5];
	u32 i;

	scene();
	for (i = 0; i < 5; i++)
		CHECK(!vine_queue_connect(k, &q[i], &seen, 2));
	peer_drain(w->peer[1], 0);
	vine_service_withdraw(s, &l);
	CHECK(peer_drain(w->peer[1], VINE_LEAF_CLIENT) == 0x1f);
	for (i = 0; i < 5; i++) {
		CHECK(vine_connect_result(&q[i]) == -ECONNREFUSED);
		vine_queue_close(&q[i]);
	}
	CHECK(all_back());
	curtain();
}

static void withdraw_keeps(void)
{
	u64 v;

	scene();
	pair();
	vine_service_withdraw(s, &l);
	CHECK(!vine_queue_hung(&cq) && !vine_queue_hung(&sq));
	CHECK(send_one(&cq, 5, 8) && recv_one(&sq, &v) == 1 && v == 5);
	curtain();
}

static void connect_withdrawn(void)
{
	scene();
	vine_service_withdraw(s, &l);
	CHECK(vine_queue_connect(k, &cq, &seen, 2) == -ECONNREFUSED);
	CHECK(all_back());
	curtain();
}

static void connect_successor(void)
{
	struct vine_listener again;

	scene();
	vine_service_withdraw(s, &l);
	CHECK(!vine_service_offer(s, &again, "service", 7));
	CHECK(vine_queue_connect(k, &cq, &seen, 2) == -ECONNREFUSED);
	CHECK(vine_queue_accept(s, &again, &sq) == -EAGAIN);
	CHECK(all_back());
	curtain();
}

/* ---- connect, accept, close ---- */

static void connects(void)
{
	u64 v = 0;
	u32 i;

	scene();
	CHECK(!vine_service_waiting(s, &l));
	peer_drain(w->peer[0], 0);
	connect();
	CHECK(vine_connect_result(&cq) == -EINPROGRESS);
	CHECK(peer_drain(w->peer[0], VINE_LEAF_SERVICE) == 1ULL << l.index);
	CHECK(vine_service_waiting(s, &l));
	peer_drain(w->peer[1], 0);
	CHECK(!vine_queue_accept(s, &l, &sq));
	CHECK(peer_drain(w->peer[1], VINE_LEAF_CLIENT) == 1ULL << cq.index);
	CHECK(!vine_connect_result(&cq));
	CHECK(!vine_service_waiting(s, &l) && vine_queue_accept(s, &l, &sq) == -EAGAIN);
	for (i = 0; i < 100; i++) {
		CHECK(send_one(&cq, i, 56) && recv_one(&sq, &v) == 1 && v == i);
		CHECK(send_one(&sq, i + 7, 56) && recv_one(&cq, &v) == 1 && v == i + 7);
	}
	curtain();
}

static void bad_depth(void)
{
	u32 bad[] = { 0, 1, 3, 5, 100, 4095, 4097, 8192, 1u << 31, ~0u }, i;

	scene();
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(vine_queue_connect(k, &cq, &seen, bad[i]) == -EINVAL);
	CHECK(all_back());
	curtain();
}

static void all_depths(void)
{
	u64 v = 0;
	u32 d, i;

	scene();
	for (d = 2; d <= VINE_MAX_DEPTH; d *= 2) {
		CHECK(!vine_queue_connect(k, &cq, &seen, d) && !vine_queue_accept(s, &l, &sq));
		for (i = 0; i < d; i++)
			CHECK(send_one(&cq, i, 8) && send_one(&sq, i + 9, 8));
		CHECK(!send_one(&cq, 0, 8) && !send_one(&sq, 0, 8));
		for (i = 0; i < d; i++) {
			CHECK(recv_one(&sq, &v) == 1 && v == i);
			CHECK(recv_one(&cq, &v) == 1 && v == i + 9);
		}
		vine_queue_close(&cq);
		vine_queue_close(&sq);
		tick();
		CHECK(all_back());
	}
	curtain();
}

static void client_first(void)
{
	scene();
	pair();
	peer_drain(w->peer[0], 0);
	vine_queue_close(&cq);
	CHECK(peer_drain(w->peer[0], VINE_LEAF_SERVER) == 1ULL << sq.index);
	CHECK(vine_queue_hung(&sq) && state(&sq) == VINE_QUEUE_ACCEPTED);
	tick();
	CHECK(state(&sq) == VINE_QUEUE_ACCEPTED);
	vine_queue_close(&sq);
	CHECK(state(&sq) == VINE_QUEUE_FREE);
	tick();
	CHECK(all_back());
	curtain();
}

static void server_first(void)
{
	scene();
	pair();
	peer_drain(w->peer[1], 0);
	vine_queue_close(&sq);
	CHECK(peer_drain(w->peer[1], VINE_LEAF_CLIENT) == 1ULL << sq.index);
	CHECK(vine_queue_hung(&cq) && state(&cq) == VINE_QUEUE_ACCEPTED);
	tick();
	CHECK(state(&cq) == VINE_QUEUE_ACCEPTED);
	vine_queue_close(&cq);
	CHECK(all_back());
	curtain();
}

static void last_words(void)
{
	u64 v = 0;

	scene();
	pair();
	CHECK(send_one(&sq, 1, 8) && send_one(&sq, 2, 8));
	vine_queue_close(&sq);
	CHECK(vine_queue_hung(&cq));
	CHECK(recv_one(&cq, &v) == 1 && v == 1);
	CHECK(recv_one(&cq, &v) == 1 && v == 2);
	CHECK(recv_one(&cq, &v) == 0);
	curtain();
}

static void close_waiting(void)
{
	scene();
	connect();
	vine_queue_close(&cq);
	CHECK(all_back());
	CHECK(vine_queue_accept(s, &l, &sq) == -EAGAIN);
	curtain();
}

static void cancel_first(void)
{
	scene();
	connect();
	CHECK(vine_connect_cancel(&cq));
	CHECK(vine_queue_accept(s, &l, &sq) == -EAGAIN);
	CHECK(vine_connect_result(&cq) == -ECONNREFUSED);
	vine_queue_close(&cq);
	CHECK(all_back());
	curtain();
}

static void accept_first(void)
{
	scene();
	pair();
	CHECK(!vine_connect_cancel(&cq));
	CHECK(!vine_connect_result(&cq) && !vine_queue_hung(&sq));
	curtain();
}

static void refused_sticks(void)
{
	scene();
	connect();
	vine_service_withdraw(s, &l);
	CHECK(!vine_connect_cancel(&cq));
	CHECK(vine_connect_result(&cq) == -ECONNREFUSED);
	CHECK(state(&cq) == VINE_QUEUE_REFUSED);
	tick();
	CHECK(state(&cq) == VINE_QUEUE_REFUSED);
	vine_queue_close(&cq);
	CHECK(all_back());
	curtain();
}

static void stale_backlog(void)
{
	struct vine_queue q;

	scene();
	connect();
	vine_queue_close(&cq);	/* its bit stands in the backlog still */
	connect();		/* for the same entry, in CONNECTING again */
	CHECK(!vine_queue_accept(s, &l, &sq) && sq.gen == cq.gen);
	CHECK(vine_queue_accept(s, &l, &q) == -EAGAIN);
	curtain();
}

static void wrong_backlog(void)
{
	struct vine_listener other;
	u32 i;

	scene();
	CHECK(!vine_service_offer(o, &other, "other", 1));
	connect();
	/* every bit of the other service is set by a liar */
	for (i = 0; i < VINE_MAX_QUEUES / 64; i++)
		vine_st64(&vine_service(o, other.index)->backlog[i], ~0ULL);
	CHECK(vine_queue_accept(o, &other, &sq) == -EAGAIN);
	CHECK(state(&cq) == VINE_QUEUE_CONNECTING);
	CHECK(!vine_queue_accept(s, &l, &sq));
	curtain();
}

/* ---- deaths ---- */

static void server_dies_connecting(void)
{
	scene();
	connect();
	die(0);
	CHECK(vine_connect_result(&cq) == -ECONNREFUSED);
	CHECK(state(&cq) == VINE_QUEUE_CANCELLED);
	vine_queue_close(&cq);
	CHECK(all_back());
	curtain();
}

static void server_suspect_connecting(void)
{
	u32 i;

	scene();
	connect();
	o->timeout_ticks = 3;
	for (i = 0; i < 10; i++) {
		vine_tick(o);
		vine_tick(k);
	}
	CHECK(vine_connect_result(&cq) == -ECONNREFUSED);
	CHECK(vine_queue_accept(s, &l, &sq) == -EAGAIN);
	vine_queue_close(&cq);
	curtain();
}

static void server_dies_accepted(void)
{
	scene();
	pair();
	die(0);
	CHECK(vine_queue_hung(&cq));
	CHECK(state(&cq) == VINE_QUEUE_ACCEPTED);
	vine_queue_close(&cq);
	CHECK(all_back());
	curtain();
}

static void suspect_keeps_rings(void)
{
	struct vine_queue again;
	u32 i;

	scene();
	pair();
	o->timeout_ticks = 3;
	for (i = 0; i < 10; i++) {
		vine_tick(o);
		vine_tick(k);
	}
	CHECK(vine_queue_hung(&cq));
	vine_queue_close(&cq);
	for (i = 0; i < 10; i++)
		vine_tick(k);
	CHECK(state(&cq) == VINE_QUEUE_ACCEPTED);
	/* k serves now, to itself: other rings than those of the suspect */
	CHECK(!world_pair(w->peer[1], w->peer[2], 4, &again, &sq));
	CHECK(again.tx.ring != cq.tx.ring && again.index != cq.index);
	peer_leave(w->peer[0]);		/* it wakes, fenced */
	vine_tick(k);
	CHECK(state(&cq) == VINE_QUEUE_FREE);
	vine_queue_close(&again);
	vine_queue_close(&sq);
	vine_tick(k);
	CHECK(all_back());
	curtain();
}

static void client_dies_claim(void)
{
	struct vine_wire_queue *e;

	scene();
	/* as vine_queue_connect() leaves it when the machine stops there */
	e = vine_queue_entry(o, 0);
	vine_st64(&e->ctl, VINE_CTL(1, k->inc, k->slot, VINE_QUEUE_CLAIM));
	tick();
	CHECK(VINE_CTL_STATE(vine_ld64(&e->ctl)) == VINE_QUEUE_CLAIM);
	die(1);
	CHECK(all_back());
	curtain();
}

static void client_dies_connecting(void)
{
	scene();
	connect();
	die(1);
	CHECK(all_back());
	CHECK(vine_queue_accept(s, &l, &sq) == -EAGAIN);
	curtain();
}

static void client_dies_accepted(void)
{
	u64 v;

	scene();
	pair();
	CHECK(send_one(&cq, 3, 8));
	die(1);
	CHECK(state(&sq) == VINE_QUEUE_ACCEPTED && !all_back());
	CHECK(vine_queue_hung(&sq));
	CHECK(recv_one(&sq, &v) == 1 && v == 3);	/* its memory is still there */
	CHECK(send_one(&sq, 3, 8));
	vine_queue_close(&sq);
	CHECK(all_back());
	curtain();
}

static void client_dies_refused(void)
{
	scene();
	connect();
	vine_service_withdraw(s, &l);
	die(1);
	CHECK(all_back());
	curtain();
}

static void client_dies_cancelled(void)
{
	scene();
	connect();
	vine_connect_cancel(&cq);
	die(1);
	CHECK(all_back());
	curtain();
}

static void client_dies_closed(void)
{
	scene();
	pair();
	vine_queue_close(&cq);
	die(1);
	CHECK(state(&sq) == VINE_QUEUE_ACCEPTED);
	vine_queue_close(&sq);
	CHECK(all_back());
	curtain();
}

static void both_die(void)
{
	scene();
	pair();
	world_bury(w, 0);
	world_bury(w, 1);
	vine_tick(o);
	vine_tick(o);
	CHECK(all_back());
	CHECK(!peer_join(w->peer[0]) && !peer_join(w->peer[1]));
	curtain();
}

static void server_reborn(void)
{
	scene();
	pair();
	world_bury(w, 0);
	CHECK(!peer_join(w->peer[0]) && w->peer[0]->core.slot == 0);
	/* slot 0 lives, but it is another */
	CHECK(vine_queue_hung(&cq));
	vine_queue_close(&cq);
	CHECK(state(&cq) == VINE_QUEUE_FREE);
	CHECK(all_back());
	curtain();
}

/* ---- recycling ---- */

static void stale_closed(void)
{
	u32 i;

	scene();
	for (i = 0; i < 5; i++) {
		pair();
		CHECK(cq.index == 0);	/* always the same entry */
		CHECK(!vine_queue_hung(&cq) && !vine_queue_hung(&sq));
		vine_queue_close(&cq);
		CHECK(!vine_queue_hung(&cq) && state(&sq) == VINE_QUEUE_ACCEPTED);
		tick();
		CHECK(state(&sq) == VINE_QUEUE_ACCEPTED);
		vine_queue_close(&sq);
		tick();
	}
	curtain();
}

static void rings_not_reused(void)
{
	struct vine_queue again, peer;

	scene();
	pair();
	vine_queue_close(&cq);
	tick();
	CHECK(!vine_queue_connect(k, &again, &seen, 4) && !vine_queue_accept(s, &l, &peer));
	CHECK(again.tx.ring != cq.tx.ring && again.index != cq.index);
	vine_queue_close(&again);
	vine_queue_close(&peer);
	vine_queue_close(&sq);
	tick();
	CHECK(all_back());
	curtain();
}

static void rings_reused(void)
{
	struct vine_queue more[3];
	void *ring;

	scene();
	pair();
	CHECK(!vine_queue_connect(k, &more[0], &seen, 4));
	ring = cq.tx.ring;
	CHECK(send_one(&cq, 1, 8) && send_one(&sq, 1, 8));
	vine_queue_close(&cq);
	vine_queue_close(&sq);
	tick();
	CHECK(!vine_queue_connect(k, &more[1], &seen, 4));
	CHECK(more[1].tx.ring == ring);
	/* nothing of the earlier messages */
	CHECK(!vine_ring_ready(&more[1].rx));
	CHECK(!vine_queue_accept(s, &l, &more[2]) && !vine_ring_ready(&more[2].rx));
	curtain();
}

static void all_queues(void)
{
	static struct vine_queue c4[VINE_MAX_QUEUES], s4[VINE_MAX_QUEUES];
	u64 v = 0;
	u32 i, n;

	scene();
	for (i = 0; i < VINE_MAX_QUEUES; i++)
		CHECK(!vine_queue_connect(k, &c4[i], &seen, 4));
	CHECK(vine_queue_connect(k, &cq, &seen, 4) == -ENOSPC);
	for (n = 0; n < VINE_MAX_QUEUES; n++)
		CHECK(!vine_queue_accept(s, &l, &s4[n]));
	CHECK(vine_queue_accept(s, &l, &sq) == -EAGAIN);
	for (i = 0; i < VINE_MAX_QUEUES; i++)
		CHECK(!vine_connect_result(&c4[i]) && send_one(&c4[i], c4[i].index, 8));
	for (i = 0; i < VINE_MAX_QUEUES; i++)
		CHECK(recv_one(&s4[i], &v) == 1 && v == s4[i].index);
	for (i = 0; i < VINE_MAX_QUEUES; i++) {
		vine_queue_close(i & 1 ? &c4[i] : &s4[i]);
		vine_queue_close(i & 1 ? &s4[i] : &c4[i]);
	}
	tick();
	CHECK(all_back());
	pair();
	curtain();
}

static void connect_no_chunks(void)
{
	struct vine_usage u;
	u64 id;

	scene();
	CHECK(!vine_region_claim(o, (u64)w->geo.chunks << 16, &id));
	CHECK(vine_queue_connect(k, &cq, &seen, 4) == -ENOSPC);
	vine_usage(k, &u);
	CHECK(!u.queues && !u.own_queues && !u.own_regions && u.regions == 1);
	vine_region_retire(o, id);
	pair();
	curtain();
}

/* ---- liars ---- */

/* The server refuses, and takes the next. */
static void refused_next(void)
{
	struct vine_queue good;

	EXPECT(!vine_queue_connect(o, &good, &seen, 4));
	EXPECT(!vine_queue_accept(s, &l, &sq));
	EXPECT(sq.index == good.index && sq.slot == o->slot);
	EXPECT(vine_connect_result(&cq) == -ECONNREFUSED);
	vine_queue_close(&good);
	vine_queue_close(&sq);
	vine_queue_close(&cq);
	vine_tick(o);
	EXPECT(all_back());
}

static void lying_rings(void)
{
	u64 bad[] = {
		VINE_RINGS(0, 0), VINE_RINGS(13, 0), VINE_RINGS(63, 0), VINE_RINGS(255, 0),
		VINE_RINGS(2, 65536 - 1024 + 64), VINE_RINGS(2, 65536), VINE_RINGS(2, 1ULL << 40),
		~0ULL, ~0ULL << 8 | 2, VINE_RINGS(12, 0), VINE_RINGS(9, 64),
	};
	u32 i;

	scene();
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		connect();
		vine_st64(&vine_queue_entry(o, cq.index)->rings, bad[i]);
		refused_next();
	}
	CHECK(!vine_region_use(s, cq.region));
	curtain();
}

static void lying_region(void)
{
	u64 id, bad[5];
	u32 i;

	scene();
	CHECK(!vine_region_claim(o, 1, &id) && !vine_region_publish(o, id));
	bad[0] = 0;
	bad[1] = ~0ULL;
	bad[2] = id;			/* of somebody else */
	bad[3] = VINE_REGION_ID(1, 4000);
	bad[4] = VINE_REGION_ID(9, 1);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		connect();
		vine_st64(&vine_queue_entry(o, cq.index)->region, bad[i]);
		if (!i)
			vine_region_retire(o, id);
		refused_next();
	}
	curtain();
}

static void lying_server(void)
{
	struct vine_queue good;
	u64 bad[] = {
		0, ~0ULL, VINE_SERVER(seen.gen, seen.inc, 99, seen.index),
		VINE_SERVER(seen.gen + 1, seen.inc, seen.slot, seen.index),
		VINE_SERVER(seen.gen, seen.inc + 1, seen.slot, seen.index),
		VINE_SERVER(seen.gen, seen.inc, seen.slot, seen.index + 1),
	};
	u32 i;

	scene();
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		connect();
		vine_st64(&vine_queue_entry(o, cq.index)->server, bad[i]);
		CHECK(!vine_queue_connect(o, &good, &seen, 4));
		CHECK(!vine_queue_accept(s, &l, &sq) && sq.index == good.index);
		CHECK(state(&cq) == VINE_QUEUE_CONNECTING);
		vine_queue_close(&sq);
		vine_queue_close(&good);
		vine_queue_close(&cq);
		vine_tick(o);
		CHECK(all_back());
	}
	curtain();
}

static void lying_slot(void)
{
	u32 bad[] = { 64, 65, 128, 255 }, i;

	scene();
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		connect();
		vine_st64(&vine_queue_entry(o, cq.index)->ctl,
			  VINE_CTL(cq.gen, k->inc, bad[i], VINE_QUEUE_CONNECTING));
		CHECK(vine_queue_accept(s, &l, &sq) == -EAGAIN);
		CHECK(vine_connect_result(&cq) == -EIO && cq.broken);
		tick();		/* nobody is called so: it is nobody's */
		vine_queue_close(&cq);
		tick();
		CHECK(all_back());
	}
	curtain();
}

static void lying_data_region(void)
{
	u64 id;

	scene();
	/* the server maps a region of the client's as data; then it is to be rings */
	pair();
	CHECK(!vine_region_claim(k, 65536, &id) && !vine_region_publish(k, id));
	CHECK(!vine_queue_attach(&cq, id) && !vine_queue_import(&sq, id));
	CHECK(!vine_queue_connect(k, &cq, &seen, 4));
	vine_st64(&vine_queue_entry(o, cq.index)->region, id);
	CHECK(vine_queue_accept(s, &l, &sq) == -EAGAIN);
	CHECK(vine_connect_result(&cq) == -ECONNREFUSED);
	curtain();
}

static void impossible_state(void)
{
	u32 st;

	scene();
	for (st = 0; st < 256; st++) {
		if (st >= VINE_QUEUE_CONNECTING && st <= VINE_QUEUE_CANCELLED)
			continue;
		connect();
		vine_st64(&vine_queue_entry(o, cq.index)->ctl,
			  VINE_CTL(cq.gen, k->inc, k->slot, st));
		CHECK(vine_connect_result(&cq) == -EIO && cq.broken);
		vine_queue_close(&cq);
		tick();
		CHECK(all_back());
	}
	curtain();
}

static bool flip_stop;

static void *flipper(void *arg)
{
	__le64 *ctl = arg;
	u64 a = vine_ld64(ctl), b = (a & ~0xffULL) | VINE_QUEUE_CANCELLED;

	while (!READ_ONCE(flip_stop)) {
		vine_st64(ctl, b);
		vine_st64(ctl, a);
	}
	return NULL;
}

static void result_bounded(void)
{
	pthread_t t;
	u32 i;
	int err;

	scene();
	connect();
	die(0);		/* so that each look tries to cancel */
	flip_stop = false;
	pthread_create(&t, NULL, flipper, &vine_queue_entry(o, cq.index)->ctl);
	for (i = 0; i < SCALED(300000); i++) {
		err = vine_connect_result(&cq);
		EXPECT(err == -EINPROGRESS || err == -ECONNREFUSED);
	}
	WRITE_ONCE(flip_stop, true);
	pthread_join(t, NULL);
	vine_queue_close(&cq);
	tick();
	CHECK(all_back());
	curtain();
}

/* ---- attach and import ---- */

static u64 region_of(struct vine_core *core)
{
	u64 id = 0;

	EXPECT(!vine_region_claim(core, 1, &id) && !vine_region_publish(core, id));
	return id;
}

static void attaches(void)
{
	u64 id;

	scene();
	pair();
	id = region_of(k);
	CHECK(vine_queue_import(&sq, id) == -ENOENT);
	CHECK(!vine_queue_attach(&cq, id));
	CHECK(!vine_queue_import(&sq, id) && vine_region_use(s, id));
	vine_region_put(s, id);
	curtain();
}

static void attach_not_own(void)
{
	u64 id;

	scene();
	pair();
	id = region_of(o);
	CHECK(vine_queue_attach(&cq, id) == -EINVAL && vine_queue_attach(&cq, 0) == -EINVAL);
	CHECK(vine_queue_attach(&cq, cq.region) == -EINVAL);	/* rings are not for mapping */
	CHECK(!vine_region_import(k, id, o->slot, o->inc, false));
	CHECK(vine_queue_attach(&cq, id) == -EINVAL);		/* nor what is only imported */
	id = region_of(s);
	CHECK(vine_queue_attach(&sq, id) == -EINVAL && vine_queue_import(&cq, id) == -EINVAL);
	curtain();
}

static void attach_twice(void)
{
	u64 id;
	u32 i, n = 0;

	scene();
	pair();
	id = region_of(k);
	CHECK(!vine_queue_attach(&cq, id) && !vine_queue_attach(&cq, id));
	for (i = 0; i < VINE_MAX_ATTACH; i++)
		n += vine_ld64(&vine_queue_entry(o, cq.index)->attach[i]) == id;
	CHECK(n == 1);
	curtain();
}

static void attach_all(void)
{
	u64 id[VINE_MAX_ATTACH + 1];
	u32 i;

	scene();
	pair();
	for (i = 0; i <= VINE_MAX_ATTACH; i++)
		id[i] = region_of(k);
	for (i = 0; i < VINE_MAX_ATTACH; i++)
		CHECK(!vine_queue_attach(&cq, id[i]));
	CHECK(vine_queue_attach(&cq, id[VINE_MAX_ATTACH]) == -ENOSPC);
	vine_region_retire(k, id[7]);
	CHECK(!vine_queue_attach(&cq, id[VINE_MAX_ATTACH]));
	CHECK(vine_queue_import(&sq, id[7]) == -ENOENT);
	CHECK(!vine_queue_import(&sq, id[VINE_MAX_ATTACH]));
	curtain();
}

static void attach_one_queue(void)
{
	struct vine_queue c2, s2;
	u64 id;

	scene();
	pair();
	CHECK(!vine_queue_connect(k, &c2, &seen, 4) && !vine_queue_accept(s, &l, &s2));
	id = region_of(k);
	CHECK(!vine_queue_attach(&c2, id));
	CHECK(vine_queue_import(&sq, id) == -ENOENT && !vine_queue_import(&s2, id));
	curtain();
}

static void attach_forgotten(void)
{
	u64 id[VINE_MAX_ATTACH];
	u32 i;

	scene();
	pair();
	for (i = 0; i < VINE_MAX_ATTACH; i++) {
		id[i] = region_of(k);
		CHECK(!vine_queue_attach(&cq, id[i]));
	}
	vine_queue_close(&cq);
	vine_queue_close(&sq);
	tick();
	pair();
	for (i = 0; i < VINE_MAX_ATTACH; i++)
		CHECK(sq.index == 0 && vine_queue_import(&sq, id[i]) == -ENOENT);
	curtain();
}

static void import_stranger(void)
{
	u64 id;

	scene();
	pair();
	/* the client lies: it attaches what is not its own */
	id = region_of(o);
	vine_st64(&vine_queue_entry(o, cq.index)->attach[3], id);
	CHECK(vine_queue_import(&sq, id) == -ENOENT && !vine_region_use(s, id));
	id = region_of(s);
	vine_st64(&vine_queue_entry(o, cq.index)->attach[3], id);
	CHECK(vine_queue_import(&sq, id) == -ENOENT);
	CHECK(vine_region_use(s, id)->refs == 1);
	vine_st64(&vine_queue_entry(o, cq.index)->attach[3], cq.region);
	CHECK(vine_queue_import(&sq, cq.region) == -EBADE);
	curtain();
}

static void loopback(void)
{
	struct vine_queue a, b;
	u64 id, v = 0;

	scene();
	CHECK(!world_pair(w->peer[1], w->peer[1], 4, &a, &b));
	CHECK(send_one(&a, 1, 8) && recv_one(&b, &v) == 1 && v == 1);
	CHECK(send_one(&b, 2, 8) && recv_one(&a, &v) == 1 && v == 2);
	id = region_of(k);
	CHECK(!vine_queue_attach(&a, id) && !vine_queue_import(&b, id));
	vine_region_retire(k, id);
	CHECK(vine_region_use(k, id));
	vine_region_put(k, id);
	vine_queue_close(&a);
	CHECK(vine_queue_hung(&b));
	vine_queue_close(&b);
	tick();
	CHECK(all_back());
	CHECK(!world_pair(w->peer[1], w->peer[1], 4, &a, &b));
	vine_queue_close(&b);
	vine_queue_close(&a);
	CHECK(all_back());
	curtain();
}

/* A liar says that we want to connect to ourselves, with rings where it likes. */
static void forged_self(void)
{
	struct vine_wire_queue *e;
	u64 data, rings;
	u32 i;

	scene();
	data = region_of(s);
	CHECK(!vine_region_claim(s, 65536, &rings) && !vine_region_publish(s, rings));
	s->use[VINE_REGION_INDEX(rings)].rings = true;
	for (i = 0; i < 2; i++) {
		e = vine_queue_entry(o, i);
		vine_st64(&e->region, i ? data : rings);
		vine_st64(&e->rings, VINE_RINGS(2, 0));
		vine_st64(&e->server, VINE_SERVER(l.gen, s->inc, s->slot, l.index));
		vine_st64(&e->ctl, VINE_CTL(1, s->inc, s->slot, VINE_QUEUE_CONNECTING));
		vine_set_bit64(&vine_service(o, l.index)->backlog[0], i);
	}
	CHECK(vine_queue_accept(s, &l, &sq) == -EAGAIN);
	CHECK(vine_region_use(s, data)->refs == 1 && vine_region_use(s, rings)->refs == 1);
	curtain();
}

/* The entry of a connection to ourselves points to the rings of another. */
static void forged_rings(void)
{
	struct vine_queue a, b;
	struct vine_service_seen self;

	scene();
	CHECK(!world_find(w->peer[0], "service", &self));
	CHECK(!vine_queue_connect(s, &a, &self, 4) && !vine_queue_connect(s, &b, &self, 4));
	vine_st64(&vine_queue_entry(o, b.index)->rings,
		  vine_ld64(&vine_queue_entry(o, a.index)->rings));
	CHECK(!vine_queue_accept(s, &l, &sq) && sq.index == a.index);
	CHECK(vine_queue_accept(s, &l, &cq) == -EAGAIN);
	CHECK(vine_connect_result(&b) == -ECONNREFUSED);
	curtain();
}

static void forged_attach(void)
{
	struct vine_queue a, b;
	u64 id;

	scene();
	CHECK(!world_pair(w->peer[1], w->peer[1], 4, &a, &b));
	id = region_of(k);
	vine_st64(&vine_queue_entry(o, a.index)->attach[5], id);
	CHECK(vine_queue_import(&b, id) == -ENOENT);
	CHECK(vine_region_use(k, id)->refs == 1);
	vine_queue_close(&a);
	CHECK(vine_queue_import(&b, id) == -ENOENT);
	curtain();
}

static void forged_free(void)
{
	struct vine_queue a, b, c2, d2;

	scene();
	CHECK(!world_pair(w->peer[1], w->peer[1], 4, &a, &b));
	vine_queue_close(&a);
	vine_st64(&vine_queue_entry(o, a.index)->ctl, VINE_CTL(a.gen, 0, 0, VINE_QUEUE_FREE));
	tick();
	/* our own server has it open still */
	CHECK(!world_pair(w->peer[1], w->peer[2], 4, &c2, &d2));
	CHECK(c2.tx.ring != a.tx.ring && c2.index != a.index);
	vine_queue_close(&b);
	curtain();
}

/* ---- threads ---- */

static pthread_barrier_t start;
static int outcome;

static void *acceptor(void *arg)
{
	(void)arg;
	pthread_barrier_wait(&start);
	outcome = vine_queue_accept(s, &l, &sq);
	pthread_barrier_wait(&start);
	return NULL;
}

static void cancel_race(void)
{
	u32 round, accepted = 0;
	bool cancelled;
	pthread_t t;
	volatile u32 spin;

	scene();
	pthread_barrier_init(&start, NULL, 2);
	for (round = 0; round < SCALED(20000) && !tap_failed; round++) {
		connect();
		pthread_create(&t, NULL, acceptor, NULL);
		pthread_barrier_wait(&start);
		for (spin = 0; spin < round % 256; spin++)
			;
		cancelled = vine_connect_cancel(&cq);
		pthread_barrier_wait(&start);
		pthread_join(t, NULL);
		EXPECT(cancelled == !!outcome);
		EXPECT(vine_connect_result(&cq) == (cancelled ? -ECONNREFUSED : 0));
		vine_queue_close(&cq);
		if (!outcome)
			vine_queue_close(&sq);
		vine_tick(k);
		accepted += !outcome;
	}
	printf("# %u of %u accepted\n", accepted, round);
	EXPECT(all_back());
	curtain();
}

static int connectors_done;

static void *connector(void *arg)
{
	struct peer *p = arg;
	struct vine_service_seen got;
	struct vine_queue q;
	u32 i;
	int err;

	pthread_barrier_wait(&start);
	for (i = 0; i < SCALED(20000); i++) {
		if (world_find(p, "service", &got))
			continue;
		EXPECT(got.type == 7);
		err = vine_queue_connect(&p->core, &q, &got, 2);
		EXPECT(!err || err == -ECONNREFUSED);
		if (err)
			continue;
		do {
			err = vine_connect_result(&q);
		} while (err == -EINPROGRESS);
		EXPECT(!err || err == -ECONNREFUSED);
		if (!err)
			send_one(&q, i, 8);
		vine_queue_close(&q);
		if (i % 32 == 0)
			vine_tick(&p->core);
	}
	__atomic_fetch_add(&connectors_done, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* A name goes from server to server, of one length and then another. */
static void offer_race(void)
{
	struct vine_listener other;
	u32 round, accepted = 0;
	pthread_t t[2];
	u64 v;

	scene();
	pthread_barrier_init(&start, NULL, 3);
	pthread_create(&t[0], NULL, connector, w->peer[1]);
	pthread_create(&t[1], NULL, connector, w->peer[2]);
	pthread_barrier_wait(&start);
	connectors_done = 0;
	for (round = 0; READ_ONCE(connectors_done) < 2; round++) {
		if (!vine_queue_accept(s, &l, &sq)) {
			accepted++;
			recv_one(&sq, &v);
			vine_queue_close(&sq);
		}
		if (round % 4096)
			continue;
		vine_service_withdraw(s, &l);
		EXPECT(!vine_service_offer(s, &other, "a longer name than before", 1));
		vine_service_withdraw(s, &other);
		EXPECT(!vine_service_offer(s, &l, "service", 7));
	}
	vine_service_withdraw(s, &l);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	printf("# %u accepted\n", accepted);
	vine_service_waiting(s, &l);
	vine_service_withdraw(s, &l);
	tick();
	EXPECT(all_back());
	curtain();
}

static const struct tap_test tests[] = {
	{ "an offered service is seen, with its type and server", offered },
	{ "a name that this peer offers already is EADDRINUSE", name_in_use },
	{ "a name can be offered again after it was withdrawn", name_again },
	{ "a name of 31 bytes is kept whole", long_name },
	{ "a name without an end is read with one", unterminated_name },
	{ "a service dies with its server", service_dies },
	{ "a suspect's service is not seen", suspect_service },
	{ "256 services, then ENOSPC, then all back", all_services },
	{ "withdraw refuses who waits, and tells them", withdraw_refuses },
	{ "withdraw keeps the queues that were accepted", withdraw_keeps },
	{ "connecting to a withdrawn service is refused", connect_withdrawn },
	{ "connecting to an earlier offer of the same name is refused", connect_successor },
	{ "connect, accept and messages both ways", connects },
	{ "a depth that is no power of two or out of range is EINVAL", bad_depth },
	{ "every depth works, to the last cell", all_depths },
	{ "the client closes first: hung, and all back after the server", client_first },
	{ "the server closes first: hung, and all back after the client", server_first },
	{ "what was sent before the close can be read after it", last_words },
	{ "a client that closes while it waits leaves nothing", close_waiting },
	{ "cancel before accept: nobody is accepted", cancel_first },
	{ "accept before cancel: the queue lives", accept_first },
	{ "a refused queue stays refused until its client closes", refused_sticks },
	{ "a backlog bit of an earlier connection does no harm", stale_backlog },
	{ "a backlog bit in the wrong service takes no queue away", wrong_backlog },
	{ "the server dies while CONNECTING: refused", server_dies_connecting },
	{ "the server is suspect while CONNECTING: cancelled", server_suspect_connecting },
	{ "the server dies while ACCEPTED: hung, then all back", server_dies_accepted },
	{ "rings and entry of a queue to a suspect are not reused", suspect_keeps_rings },
	{ "the client dies in CLAIM: all back", client_dies_claim },
	{ "the client dies while CONNECTING: all back", client_dies_connecting },
	{ "the client dies while ACCEPTED: all back after the server closes",
	  client_dies_accepted },
	{ "the client dies when REFUSED: all back", client_dies_refused },
	{ "the client dies when CANCELLED: all back", client_dies_cancelled },
	{ "the client dies after it closed: all back after the server closes",
	  client_dies_closed },
	{ "both die: all back", both_die },
	{ "a new peer in the server's slot is not the server", server_reborn },
	{ "a closed word of an earlier generation does not close", stale_closed },
	{ "rings are not used again before the server has closed", rings_not_reused },
	{ "rings that are used again are empty", rings_reused },
	{ "4096 queues at once, then ENOSPC, then all back", all_queues },
	{ "connect without chunks is ENOSPC and leaves nothing", connect_no_chunks },
	{ "rings beyond their region are refused, and the listener lives on", lying_rings },
	{ "a ring region that is not the client's is refused, and the listener lives on",
	  lying_region },
	{ "a queue for another server is left alone", lying_server },
	{ "a client slot out of range is no client", lying_slot },
	{ "a region that is mapped as data is refused as rings", lying_data_region },
	{ "an impossible queue state is EIO", impossible_state },
	{ "connect_result is bounded while somebody flips the word", result_bounded },
	{ "an attached region can be imported by the server", attaches },
	{ "only the client attaches, only what it owns, no rings", attach_not_own },
	{ "attaching twice takes one place", attach_twice },
	{ "48 attachments, and places of dead regions are used again", attach_all },
	{ "a region attached to one queue is not attached to another", attach_one_queue },
	{ "the next queue in an entry has no attachments", attach_forgotten },
	{ "an attached region of somebody else is not imported", import_stranger },
	{ "one peer is both sides", loopback },
	{ "an entry that falsely says we connect to ourselves is refused", forged_self },
	{ "a connection to ourselves whose rings were changed is refused", forged_rings },
	{ "an attachment that was forged on a connection to ourselves is not imported",
	  forged_attach },
	{ "rings that we serve ourselves are not used again though the entry is freed",
	  forged_free },
	{ "cancel and accept race: exactly one outcome", cancel_race },
	{ "offer, withdraw, connect, accept and close race, and all is back", offer_race },
};

TAP_MAIN(tests)
