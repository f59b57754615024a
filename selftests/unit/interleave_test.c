// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * interleave_test.c - one peer does something at every step of what another does
 *
 * For k = 1, 2, ... the first peer's operation stops before its k-th access to the
 * segment (step.h), the second's operation runs wholly, and the first goes on. Then
 * what must hold is checked, and all is undone. This finds dropped second looks,
 * stores where there should be a compare-and-swap, and wrong orders; missing barriers
 * it cannot find (ring_test and ready_test run on two processors).
 */
#include "tap.h"
#include "world.h"

#undef vine_ld32	/* of step.h: this file looks without stopping */
#undef vine_ld64
#undef vine_cas64
#undef vine_st64

static u64 countdown;
static void (*intruder)(void);
static bool intruding;
static void (*toggler)(__le64 *p, u64 now, bool write);	/* sees every access */

void vine_step(const void *p, u64 now, bool write)
{
	void (*fn)(void) = intruder;

	if (toggler)
		toggler((__le64 *)p, now, write);
	if (!countdown || intruding || (!now && !write) || --countdown)
		return;
	intruder = NULL;
	intruding = true;
	fn();
	intruding = false;
}

/* What the operations below work on. */
static struct world *w;
static struct peer *a, *b, *c;
static u64 id, id2;
static int res, res2;
static struct vine_queue cq, sq, cq2;
static struct vine_listener l;
static struct vine_service_seen seen;

/*
 * Runs @first with @second at each of its steps. @before makes the scene, @after looks
 * and tidies up. At least @least steps: else the hook is not where we think.
 */
static void each_step(void (*before)(void), void (*first)(void), void (*second)(void),
		      void (*after)(void), u64 least)
{
	u64 k;

	for (k = 1; !tap_failed; k++) {
		before();
		if (tap_failed)
			break;
		intruder = second;
		countdown = k;
		first();
		countdown = 0;
		if (intruder) {		/* there is no k-th step */
			intruder = NULL;
			second();
			after();
			break;
		}
		after();
		if (tap_failed)
			printf("# at step %llu\n", (unsigned long long)k);
	}
	if (!tap_failed)
		EXPECT(k > least);
	if (k <= least)
		printf("# only %llu steps\n", (unsigned long long)k - 1);
}

static void scene(void)
{
	int i;

	w = world_with(3);
	a = w->peer[0];
	b = w->peer[1];
	c = w->peer[2];
	for (i = 0; i < 3; i++)		/* they tick unevenly */
		w->peer[i]->core.timeout_ticks = w->peer[i]->timeout = 1000000;
}

/* Everybody leaves; is all free? */
static void curtain(void)
{
	EXPECT(world_private_ok(w));
	peer_leave(a);
	peer_leave(b);
	peer_leave(c);
	EXPECT(world_clean(w));
	world_free(w);
}

static void tick_a(void)
{
	vine_tick(&a->core);
}

static void tick_b(void)
{
	vine_tick(&b->core);
}

static void tick_c(void)
{
	vine_tick(&c->core);
}

static void nothing(void)
{
}

static u32 slot_state(u32 slot)
{
	return VINE_PEER_STATE(vine_ld64(&vine_peer(&c->core, slot)->word));
}

/* ---- peers ---- */

static void leave_a(void)
{
	vine_leave(&a->core);
}

static void suspect_a(void)
{
	u64 word = a->core.word;

	vine_cas64(&vine_peer(&c->core, 0)->word, word, (word & ~0xffULL) | VINE_PEER_SUSPECT);
}

static void before_leave(void)
{
	peer_join(a);
	EXPECT(!vine_region_claim(&a->core, 1, &id));
}

static void after_leave(void)
{
	EXPECT(slot_state(0) == VINE_PEER_FREE);
	EXPECT(world_chunks_free(w) == w->geo.chunks);
}

static void leave_suspect(void)
{
	scene();
	peer_leave(a);
	each_step(before_leave, leave_a, suspect_a, after_leave, 10);
	peer_join(a);
	curtain();
}

static void bury_a(void)
{
	world_bury(w, 0);
}

static void bury_reap_a(void)
{
	world_bury(w, 0);
	vine_tick(&c->core);
}

static void leave_buried(void)
{
	scene();
	peer_leave(a);
	each_step(before_leave, leave_a, bury_a, after_leave, 10);
	peer_join(a);
	each_step(before_leave, leave_a, bury_reap_a, after_leave, 10);
	peer_join(a);
	curtain();
}

/* a leaves; its slot goes to b, which claims a region and a name there and then */
static void bury_join_b(void)
{
	struct vine_listener other;

	world_bury(w, 0);
	vine_tick(&c->core);
	EXPECT(!peer_join(b) && b->core.slot == 0);
	EXPECT(!vine_region_claim(&b->core, 300000, &id));
	EXPECT(!vine_region_publish(&b->core, id));
	EXPECT(!world_offer(b, &other, "new"));
}

static void before_reuse(void)
{
	EXPECT(!peer_join(a) && a->core.slot == 0);
	EXPECT(!vine_region_claim(&a->core, 300000, &id));
	EXPECT(!vine_region_publish(&a->core, id));
	EXPECT(!world_offer(a, &l, "old"));
}

static void after_reuse(void)
{
	u32 i;

	/* nobody has taken what is b's */
	EXPECT(vine_peer_live(&c->core, 0, b->core.inc));
	EXPECT(!world_find(c, "new", &seen));
	EXPECT(!vine_region_import(&c->core, id, 0, b->core.inc, false));
	for (i = 0; vine_region_use(&b->core, id) && i < 5; i++)
		EXPECT(vine_ld64(vine_chunk_word(&c->core,
						 vine_region_use(&b->core, id)->first + i)) == id);
	vine_region_put(&c->core, id);
	peer_leave(b);
}

static void slow_reaper(void)
{
	scene();
	peer_leave(a);
	peer_leave(b);
	each_step(before_reuse, leave_a, bury_join_b, after_reuse, 20);
	peer_join(a);
	peer_join(b);
	curtain();
}

static void join_a(void)
{
	res = peer_join(a);
}

static void join_b(void)
{
	res2 = peer_join(b);
}

static void before_join(void)
{
}

static void after_join(void)
{
	EXPECT(!res && !res2 && a->core.slot != b->core.slot);
	EXPECT(vine_peer_live(&c->core, a->core.slot, a->core.inc));
	EXPECT(vine_peer_live(&c->core, b->core.slot, b->core.inc));
	peer_leave(a);
	peer_leave(b);
}

static void join_join(void)
{
	scene();
	peer_leave(a);
	peer_leave(b);
	each_step(before_join, join_a, join_b, after_join, 4);
	peer_join(a);
	peer_join(b);
	curtain();
}

/* ---- regions; a owns, b imports ---- */

static void make_region(void)
{
	EXPECT(!vine_region_claim(&a->core, 200000, &id));
	EXPECT(!vine_region_publish(&a->core, id));
}

static void retire(void)
{
	vine_region_retire(&a->core, id);
}

static void import(void)
{
	res = vine_region_import(&b->core, id, a->core.slot, a->core.inc, false);
}

/* An import that succeeded holds its chunks, and they come back after it. */
static void after_import(void)
{
	const struct vine_use *use = vine_region_use(&b->core, id);
	u32 i;

	EXPECT(res == 0 || res == -ENOENT);
	EXPECT(!res == !!use);
	tick_a();
	tick_b();
	for (i = 0; use && i < use->count; i++)
		EXPECT(vine_ld64(vine_chunk_word(&b->core, use->first + i)) == id);
	vine_region_put(&b->core, id);
	tick_b();
	EXPECT(world_chunks_free(w) == w->geo.chunks);
}

static void import_retire(void)
{
	scene();
	each_step(make_region, import, retire, after_import, 3);
	curtain();
}

static void retire_import(void)
{
	scene();
	each_step(make_region, retire, import, after_import, 3);
	curtain();
}

static void die_a(void)
{
	world_bury(w, 0);
	vine_tick(&c->core);
}

static void before_death(void)
{
	peer_join(a);
	make_region();
}

static void after_death(void)
{
	const struct vine_use *use = vine_region_use(&b->core, id);
	u32 i;

	EXPECT(res == 0 || res == -ENOENT);
	for (i = 0; use && i < use->count; i++)
		EXPECT(vine_ld64(vine_chunk_word(&b->core, use->first + i)) == id);
	vine_region_put(&b->core, id);
	tick_b();
	EXPECT(world_chunks_free(w) == w->geo.chunks);
}

static void import_death(void)
{
	scene();
	peer_leave(a);
	each_step(before_death, import, die_a, after_death, 3);
	peer_join(a);
	curtain();
}

static void before_finish(void)
{
	make_region();
	import();
	EXPECT(!res);
	retire();
}

static void put_b(void)
{
	vine_region_put(&b->core, id);
}

/* c finishes too, and claims the same chunks at once: for good */
static void finish_and_claim(void)
{
	vine_tick(&c->core);
	EXPECT(!vine_region_claim(&c->core, 16 << 20, &id2) ||
	       !vine_region_claim(&c->core, 200000, &id2));
}

static void after_finish(void)
{
	const struct vine_use *use = vine_region_use(&c->core, id2);
	u32 i;

	for (i = 0; use && i < use->count; i++)
		EXPECT(vine_ld64(vine_chunk_word(&c->core, use->first + i)) == id2);
	EXPECT(!vine_region_publish(&c->core, id2));
	vine_region_retire(&c->core, id2);
	tick_b();
	EXPECT(world_chunks_free(w) == w->geo.chunks);
}

static void finish_claim(void)
{
	scene();
	each_step(before_finish, put_b, finish_and_claim, after_finish, 5);
	curtain();
}

static void claim_c(void)
{
	EXPECT(!vine_region_claim(&c->core, 200000, &id2));
}

static void after_held(void)
{
	put_b();
	after_finish();
}

static void sweep_claim(void)
{
	scene();
	each_step(nothing, tick_b, claim_c, after_finish, 2);
	each_step(before_finish, tick_b, claim_c, after_held, 2);
	curtain();
}

static void garbage(void)
{
	u32 i;

	for (i = 0; i < 8; i++)
		vine_st64(vine_chunk_word(&c->core, i), VINE_REGION_ID(77, i));
}

static void sweep_garbage_claim(void)
{
	scene();
	each_step(garbage, tick_b, finish_and_claim, after_finish, 8);
	curtain();
}

static void claim_b(void)
{
	res = vine_region_claim(&b->core, 200000, &id);
}

static void after_claims(void)
{
	EXPECT(!res && world_private_ok(w));
	EXPECT(!vine_region_publish(&b->core, id));
	EXPECT(world_chunks_free(w) == w->geo.chunks - 8);
	vine_region_retire(&b->core, id);
	after_finish();
}

static void claim_claim(void)
{
	scene();
	each_step(nothing, claim_b, claim_c, after_claims, 5);
	curtain();
}

/* A hostile peer takes each chunk just before we tag it, and lets go at once after. */
static u64 steps;

static void toggle_chunk(__le64 *p, u64 now, bool write)
{
	static __le64 *taken;

	steps++;
	if (taken)
		vine_st64(taken, 0);
	taken = NULL;
	if (!write || now || (u8 *)p < w->base + VINE_OFF_CHUNKMAP)
		return;
	vine_st64(p, 1);
	taken = p;
}

static void claim_bounded(void)
{
	u64 count;

	w = world_new(64 << 20);
	b = world_peer(w, 1);
	EXPECT(!peer_join(b));
	count = w->geo.chunks / 2;
	steps = 0;
	toggler = toggle_chunk;
	res = vine_region_claim(&b->core, count << w->geo.shift, &id);
	toggler = NULL;
	EXPECT(res == -ENOSPC);
	/* some times the size of the region, not the square of it */
	EXPECT(steps < count * 200);
	memset(vine_chunk_word(&b->core, 0), 0, 8 * w->geo.chunks);
	peer_leave(b);
	EXPECT(world_clean(w));
	world_free(w);
}

/* ---- services and queues; a serves, b connects ---- */

static void offer(void)
{
	EXPECT(!world_offer(a, &l, "service"));
	EXPECT(!world_find(b, "service", &seen));
}

static void withdraw(void)
{
	vine_service_withdraw(&a->core, &l);
}

static void connect_b(void)
{
	res = vine_queue_connect(&b->core, &cq, &seen, 2);
}

static void after_connect(void)
{
	if (!res) {
		EXPECT(vine_connect_result(&cq) == -ECONNREFUSED);
		vine_queue_close(&cq);
	} else {
		EXPECT(res == -ECONNREFUSED);
	}
	tick_b();
	EXPECT(world_chunks_free(w) == w->geo.chunks);
}

static void connect_withdraw(void)
{
	scene();
	each_step(offer, connect_b, withdraw, after_connect, 10);
	curtain();
}

static void before_withdraw(void)
{
	offer();
	res = 1;
}

static void withdraw_connect(void)
{
	scene();
	each_step(before_withdraw, withdraw, connect_b, after_connect, 3);
	curtain();
}

static struct vine_listener next;

/* Another offers, perhaps in the same entry, and has a client at once. */
static void succeed(void)
{
	struct vine_service_seen their;

	EXPECT(!world_offer(b, &next, "next"));
	EXPECT(!world_find(c, "next", &their));
	EXPECT(!vine_queue_connect(&c->core, &cq, &their, 2));
}

/* One waits already, so that there is a backlog to take. */
static void before_succeed(void)
{
	offer();
	EXPECT(!vine_queue_connect(&c->core, &cq2, &seen, 2));
}

static void after_succeed(void)
{
	EXPECT(vine_connect_result(&cq2) == -ECONNREFUSED);
	vine_queue_close(&cq2);
	EXPECT(!vine_queue_accept(&b->core, &next, &sq));
	EXPECT(!vine_connect_result(&cq));
	vine_queue_close(&sq);
	vine_queue_close(&cq);
	vine_service_withdraw(&b->core, &next);
	vine_tick(&c->core);
	EXPECT(world_chunks_free(w) == w->geo.chunks);
}

static void withdraw_succeed(void)
{
	scene();
	each_step(before_succeed, withdraw, succeed, after_succeed, 5);
	curtain();
}

static void before_accept(void)
{
	offer();
	connect_b();
	EXPECT(!res);
}

static void accept_a(void)
{
	res = vine_queue_accept(&a->core, &l, &sq);
}

static void cancel(void)
{
	res2 = vine_connect_cancel(&cq);
}

/* Exactly one of both has won, and both know who. */
static void after_cancel(void)
{
	EXPECT(res == 0 || res == -EAGAIN);
	EXPECT(!res == !res2);
	EXPECT(vine_connect_result(&cq) == (res ? -ECONNREFUSED : 0));
	vine_queue_close(&cq);
	if (!res) {
		EXPECT(vine_queue_hung(&sq));
		vine_queue_close(&sq);
	}
	tick_b();
	withdraw();
	EXPECT(world_chunks_free(w) == w->geo.chunks);
}

static void accept_cancel(void)
{
	scene();
	each_step(before_accept, accept_a, cancel, after_cancel, 10);
	curtain();
}

static void cancel_accept(void)
{
	scene();
	each_step(before_accept, cancel, accept_a, after_cancel, 1);
	curtain();
}

/* The client closes, and has the same entry and ring again for another connection. */
static void close_connect(void)
{
	vine_queue_close(&cq);
	res2 = vine_queue_connect(&b->core, &cq2, &seen, 2);
}

static void after_reconnect(void)
{
	EXPECT(!res2);
	if (!res && sq.gen == cq2.gen && sq.index == cq2.index) {
		/* it is the new one that was accepted */
		EXPECT(!vine_connect_result(&cq2));
		EXPECT(!vine_queue_hung(&sq));
	} else if (!res) {
		EXPECT(vine_queue_hung(&sq));
		EXPECT(cq2.index != cq.index && cq2.tx.ring != cq.tx.ring);
	}
	if (!res)
		vine_queue_close(&sq);
	if (!vine_queue_accept(&a->core, &l, &sq)) {
		EXPECT(!vine_connect_result(&cq2));
		vine_queue_close(&sq);
	}
	vine_queue_close(&cq2);
	tick_b();
	withdraw();
	EXPECT(world_chunks_free(w) == w->geo.chunks);
}

static void accept_reconnect(void)
{
	scene();
	each_step(before_accept, accept_a, close_connect, after_reconnect, 10);
	curtain();
}

static void before_close(void)
{
	EXPECT(!world_pair(b, a, 2, &cq, &sq));
}

static void close_client(void)
{
	vine_queue_close(&cq);
}

static void close_server(void)
{
	vine_queue_close(&sq);
}

static void after_close(void)
{
	struct vine_usage u;

	tick_b();
	vine_usage(&b->core, &u);
	EXPECT(!u.queues && !u.own_queues && !u.own_regions && !u.regions);
	EXPECT(world_chunks_free(w) == w->geo.chunks);
}

static void close_close(void)
{
	scene();
	each_step(before_close, close_client, close_server, after_close, 5);
	each_step(before_close, close_server, close_client, after_close, 5);
	curtain();
}

/* Closes the other side; then two others take the entry, if it is free. */
static struct vine_queue sq2;

static void close_client_reuse(void)
{
	vine_queue_close(&cq);
	EXPECT(!world_pair(c, b, 2, &cq2, &sq2));
}

static void close_server_reuse(void)
{
	vine_queue_close(&sq);
	EXPECT(!world_pair(c, a, 2, &cq2, &sq2));
}

static void after_entry(void)
{
	u64 v = 0;

	/* the connection that came into the entry is whole */
	EXPECT(!vine_connect_result(&cq2));
	EXPECT(!vine_queue_hung(&cq2) && !vine_queue_hung(&sq2));
	EXPECT(send_one(&cq2, 77, 8) && recv_one(&sq2, &v) == 1 && v == 77);
	vine_queue_close(&cq2);
	vine_queue_close(&sq2);
	tick_b();
	vine_tick(&c->core);
	EXPECT(world_chunks_free(w) == w->geo.chunks);
}

static void entry_reused(void)
{
	scene();
	each_step(before_close, close_server, close_client_reuse, after_entry, 5);
	each_step(before_close, close_client, close_server_reuse, after_entry, 5);
	curtain();
}

static void after_pair(void)
{
	EXPECT(!vine_queue_hung(&cq) && !vine_queue_hung(&sq));
	vine_queue_close(&cq);
	vine_queue_close(&sq);
	after_close();
}

static void sweep_connect(void)
{
	scene();
	each_step(nothing, tick_c, before_close, after_pair, 1);
	curtain();
}

static void read_service(void)
{
	res = vine_service_read(&c->core, l.index, &seen);
}

static void swap_service(void)
{
	struct vine_listener other;

	vine_service_withdraw(&a->core, &l);
	EXPECT(!vine_service_offer(&b->core, &other, "bbbbbbbbbbbbbbbb", 2));
	EXPECT(other.index == l.index);
	l = other;
}

static void offer_a(void)
{
	EXPECT(!vine_service_offer(&a->core, &l, "aaaaaaaaaaaaaaaa", 1));
}

static void after_read(void)
{
	if (res) {
		EXPECT((seen.type == 1 && !strcmp(seen.name, "aaaaaaaaaaaaaaaa") &&
			seen.slot == 0) ||
		       (seen.type == 2 && !strcmp(seen.name, "bbbbbbbbbbbbbbbb") &&
			seen.slot == 1));
	}
	vine_service_withdraw(&b->core, &l);
}

static void service_mixed(void)
{
	scene();
	each_step(offer_a, read_service, swap_service, after_read, 3);
	curtain();
}

/* ---- readiness and rings ---- */

static u64 bells;

static void before_mark(void)
{
	peer_drain(a, 0);
	/* b has rung for this drain already, of another bit */
	vine_ready_mark(&b->core, 0, 5, 10);
	bells = w->bells;
	res = 0;
}

static void mark(void)
{
	vine_ready_mark(&b->core, 0, 5, 9);
}

static void drain(void)
{
	if (peer_drain(a, 5) & 1 << 9)
		res = 1;
	bells = w->bells;
}

/* Either that drain has the bit, or a doorbell after it says that there is one. */
static void after_mark(void)
{
	EXPECT(res || w->bells > bells);
	if (!res)
		EXPECT(peer_drain(a, 5) & 1 << 9);
}

static void mark_drain(void)
{
	scene();
	each_step(before_mark, mark, drain, after_mark, 3);
	curtain();
}

static void drain_once(void)
{
	if (peer_drain(a, 5) & 1 << 9)
		res = 1;
}

static void drain_mark(void)
{
	scene();
	each_step(before_mark, drain_once, mark, after_mark, 4);
	curtain();
}

static void reborn(void)
{
	peer_leave(a);
	a->ivpos = 30 - a->ivpos;	/* its doorbells go elsewhere now */
	EXPECT(!peer_join(a));
	bells = w->bell[a->ivpos][1];
}

/* Whoever that mark rang, what comes for the successor after its drain is rung to it. */
static void after_reborn(void)
{
	vine_ready_mark(&b->core, 0, 5, 11);
	EXPECT(w->bell[a->ivpos][1] > bells);
}

static void mark_reborn(void)
{
	scene();
	each_step(before_mark, mark, reborn, after_reborn, 3);
	curtain();
}

static u64 out;
static bool told;
static u32 room;

static void before_ring(void)
{
	res2 = 0;
	told = false;
}

static void push(void)
{
	struct vine_cell m = { { 0, 1, 2, 3, 4, 5, 6 }, 8 };

	vine_ring_push(&cq.tx, &m);
	told = vine_ring_pushed(&cq.tx);
}

static void arm(void)
{
	vine_ring_publish(&sq.rx);
	res2 = vine_ring_arm(&sq.rx);
}

/* Either the consumer saw the cell as it armed, or the producer tells it. */
static void after_ring(void)
{
	EXPECT(res2 == 1 || told);
	EXPECT(recv_one(&sq, &out) == 1);
	vine_ring_publish(&sq.rx);
}

static void push_arm(void)
{
	scene();
	CHECK(!world_pair(b, a, 4, &cq, &sq));
	each_step(before_ring, push, arm, after_ring, 3);
	each_step(before_ring, arm, push, after_ring, 2);
	vine_queue_close(&cq);
	vine_queue_close(&sq);
	curtain();
}

static void before_space(void)
{
	while (vine_ring_space(&cq.tx, 1) > 0)
		send_one(&cq, 1, 8);
	told = false;
	room = 0;
}

static void take(void)
{
	struct vine_cell m;

	EXPECT(vine_ring_peek(&sq.rx, 0, &m) == 1);
	told = vine_ring_consume(&sq.rx, 1);
	told |= vine_ring_publish(&sq.rx);
}

static void arm_space(void)
{
	room = vine_ring_arm_space(&cq.tx);
}

static void after_space(void)
{
	EXPECT(room == 1 || told);
}

static void space_arm(void)
{
	scene();
	CHECK(!world_pair(b, a, 4, &cq, &sq));
	each_step(before_space, take, arm_space, after_space, 3);
	each_step(before_space, arm_space, take, after_space, 2);
	vine_queue_close(&cq);
	vine_queue_close(&sq);
	curtain();
}

/* A hostile client's rings die each time when they are held, and claim all chunks. */
static u64 looks;

static void kill_held(__le64 *p, u64 now, bool write)
{
	u64 at = (u64)((u8 *)p - w->base), in;

	(void)now;
	looks += at >= VINE_OFF_CHUNKMAP;
	if (!write || at < VINE_OFF_REGIONS || at >= VINE_OFF_CHUNKMAP)
		return;
	in = (at - VINE_OFF_REGIONS) % sizeof(struct vine_wire_region);
	p -= in / 8;
	if (in >= offsetof(struct vine_wire_region, hold))
		vine_st64(p, (vine_ld64(p) & ~0xffULL) | VINE_REGION_DYING);
}

static void accept_bounded(void)
{
	struct vine_wire_region *r;
	struct vine_wire_queue *e;
	u32 i;

	scene();
	CHECK(!world_offer(a, &l, "x"));
	for (i = 0; i < VINE_MAX_QUEUES; i++) {
		r = vine_region_entry(&b->core, i);
		vine_st64(&r->extent, VINE_EXTENT(0, w->geo.chunks));
		vine_st64(&r->ctl, VINE_CTL(1, b->core.inc, b->core.slot, VINE_REGION_LIVE));
		e = vine_queue_entry(&b->core, i);
		vine_st64(&e->server, VINE_SERVER(l.gen, a->core.inc, a->core.slot, l.index));
		vine_st64(&e->region, VINE_REGION_ID(1, i));
		vine_st64(&e->ctl, VINE_CTL(1, b->core.inc, b->core.slot,
					    VINE_QUEUE_CONNECTING));
		vine_set_bit64(&vine_service(&b->core, l.index)->backlog[i / 64], i % 64);
	}
	looks = 0;
	toggler = kill_held;
	EXPECT(vine_queue_accept(&a->core, &l, &sq) == -EAGAIN);
	toggler = NULL;
	EXPECT(looks <= w->geo.chunks);
	EXPECT(VINE_CTL_STATE(vine_ld64(&r->ctl)) == VINE_REGION_DYING);
	world_free(w);
}

static const struct tap_test tests[] = {
	{ "who leaves while it becomes suspect is gone all the same", leave_suspect },
	{ "who leaves while it is buried is gone once", leave_buried },
	{ "a slow reaper takes nothing of the slot's next peer", slow_reaper },
	{ "two that join at once get two slots", join_join },
	{ "import, interrupted by retire: held or refused", import_retire },
	{ "retire, interrupted by import: held or refused", retire_import },
	{ "import, interrupted by its owner's death: held or refused", import_death },
	{ "a slow finisher frees nothing of the chunks' next owner", finish_claim },
	{ "sweeping, interrupted by a claim, frees nothing in use", sweep_claim },
	{ "sweeping garbage, interrupted by a claim, frees nothing in use",
	  sweep_garbage_claim },
	{ "two that claim at once get different chunks and entries", claim_claim },
	{ "a claim is bounded though a hostile peer toggles the chunk map", claim_bounded },
	{ "connect, interrupted by withdraw, is refused and never left waiting",
	  connect_withdraw },
	{ "withdraw, interrupted by connect, refuses or is seen", withdraw_connect },
	{ "withdraw takes no connection of its entry's next service", withdraw_succeed },
	{ "accept, interrupted by cancel: exactly one of them wins", accept_cancel },
	{ "cancel, interrupted by accept: exactly one of them wins", cancel_accept },
	{ "an accept is bounded though a hostile peer's rings die when they are held",
	  accept_bounded },
	{ "accept, interrupted by close and a new connect, takes a whole one",
	  accept_reconnect },
	{ "both sides close at once, and all is free", close_close },
	{ "closing late does not close the entry's next queue", entry_reused },
	{ "sweeping, interrupted by connect and accept, frees nothing in use", sweep_connect },
	{ "reading a service, interrupted by a change, gives one or the other", service_mixed },
	{ "mark, interrupted by drain, is seen or rings", mark_drain },
	{ "a doorbell to the dead does not stand for one to the successor", mark_reborn },
	{ "drain, interrupted by mark, sees it or is rung again", drain_mark },
	{ "push and arm: the cell is seen or the consumer is told", push_arm },
	{ "publish and arm_space: the space is seen or the producer is told", space_arm },
};

TAP_MAIN(tests)
