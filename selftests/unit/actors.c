// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * actors.c - peers that do all that a peer can do, at random
 */
#include <stdio.h>
#include "actors.h"
#include "tap.h"

static u32 pick(struct actor *a, u32 n)
{
	return (u32)(rnd(&a->seed) % n);
}

/* What honest peers promise; a hostile one may break it. */
#define HONEST(a, cond)	((void)((a)->hostile_world || EXPECT(cond)))

void actor_drop(struct actor *a)
{
	memset(a->offering, 0, sizeof(a->offering));
	memset(a->link, 0, sizeof(a->link));
	memset(a->region, 0, sizeof(a->region));
	a->joined = a->silent = false;
	vine_core_init(&a->peer->core, a->peer->w->base, &a->peer->w->geo,
		       a->peer->chunk_use, a->peer->core.ops);
}

void actor_join(struct actor *a)
{
	int err = peer_join(a->peer);

	EXPECT(!err || err == -EUSERS);
	if (!err)
		a->joined = true;
	a->silent = false;
}

static void unlink_queue(struct actor *a, struct link *l)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(l->imported); i++)
		if (l->imported[i])
			vine_region_put(&a->peer->core, l->imported[i]);
	vine_queue_close(&l->q);
	memset(l, 0, sizeof(*l));
}

void actor_quit(struct actor *a)
{
	u32 i;

	if (!a->joined)
		return;
	for (i = 0; i < ACTOR_QUEUES; i++)
		if (a->link[i].state && pick(a, 2))
			unlink_queue(a, &a->link[i]);
	for (i = 0; i < ACTOR_LISTENERS; i++)
		if (a->offering[i] && pick(a, 2))
			vine_service_withdraw(&a->peer->core, &a->listener[i]);
	/* the rest is left for whoever reaps us */
	peer_leave(a->peer);
	actor_drop(a);
}

static struct link *free_link(struct actor *a)
{
	u32 i;

	for (i = 0; i < ACTOR_QUEUES; i++)
		if (!a->link[i].state)
			return &a->link[i];
	return NULL;
}

static void offer(struct actor *a)
{
	u32 i = pick(a, ACTOR_LISTENERS);
	char name[VINE_NAME_SIZE];
	int err;

	if (a->offering[i]) {
		if (!pick(a, 8)) {
			vine_service_withdraw(&a->peer->core, &a->listener[i]);
			a->offering[i] = false;
		}
		return;
	}
	snprintf(name, sizeof(name), "service %u of %u", i, a->peer->ivpos);
	err = vine_service_offer(&a->peer->core, &a->listener[i], name, i);
	HONEST(a, !err);
	a->offering[i] = !err;
}

static void connect(struct actor *a)
{
	struct vine_service_seen seen;
	struct link *l = free_link(a);
	u32 at = pick(a, 32), i, n;
	int err;

	if (!l)
		return;
	for (i = 0; i < 32; i++) {
		if (!vine_service_read(&a->peer->core, (at + i) % 32, &seen))
			continue;
		HONEST(a, sscanf(seen.name, "service %u of", &n) == 1 && n == seen.type);
		err = vine_queue_connect(&a->peer->core, &l->q, &seen, 2u << pick(a, 5));
		HONEST(a, !err || err == -ENOSPC || err == -ECONNREFUSED);
		if (!err)
			l->state = LINK_CONNECTING;
		return;
	}
}

static void accept(struct actor *a)
{
	u32 i = pick(a, ACTOR_LISTENERS);
	struct link *l = free_link(a);

	if (!l || !a->offering[i] ||
	    vine_queue_accept(&a->peer->core, &a->listener[i], &l->q))
		return;
	l->state = LINK_UP;
	a->connections++;
}

static void push(struct actor *a, struct link *l)
{
	struct vine_queue *q = &l->q;
	u32 n = 1 + pick(a, 6);
	struct vine_cell m;
	int room;

	room = vine_ring_space(&q->tx, n);
	HONEST(a, room >= 0);
	if (room < 0) {
		a->broken++;
		unlink_queue(a, l);
		return;
	}
	for (; n && room > 0; n--, room--) {
		m.bytes = (u32)(l->sent % 57);
		m.word[0] = l->sent++;
		m.word[1] = (u64)q->index << 32 | q->gen;
		m.word[2] = q->side;
		vine_ring_push(&q->tx, &m);
	}
	if (vine_ring_pushed(&q->tx))
		vine_queue_notify(q);
	if (!room)
		vine_ring_arm_space(&q->tx);
}

static void pull(struct actor *a, struct link *l)
{
	struct vine_queue *q = &l->q;
	u32 n = 1 + pick(a, 6);
	struct vine_cell m;
	int got;

	while (n--) {
		got = vine_ring_peek(&q->rx, 0, &m);
		HONEST(a, got >= 0);
		if (got < 0) {
			a->broken++;
			unlink_queue(a, l);
			return;
		}
		if (!got) {
			if (vine_ring_publish(&q->rx))
				vine_queue_notify(q);
			vine_ring_arm(&q->rx);
			return;
		}
		HONEST(a, m.bytes == l->received % 57 && m.word[0] == l->received &&
		       m.word[1] == ((u64)q->index << 32 | q->gen) &&
		       m.word[2] == !q->side);
		l->received++;
		a->messages++;
		if (vine_ring_consume(&q->rx, 1))
			vine_queue_notify(q);
	}
	if (vine_ring_publish(&q->rx))
		vine_queue_notify(q);
}

/* Server: one of what the client has attached; the table is what it says. */
static void import(struct actor *a, struct link *l)
{
	struct vine_wire_queue *e = vine_queue_entry(&a->peer->core, l->q.index);
	u64 id = vine_ld64(&e->attach[pick(a, 3)]);
	u32 i = pick(a, ARRAY_SIZE(l->imported));
	const struct vine_use *use;
	u32 k;
	int err;

	if (l->imported[i]) {
		vine_region_put(&a->peer->core, l->imported[i]);
		l->imported[i] = 0;
		return;
	}
	err = vine_queue_import(&l->q, id);
	HONEST(a, !err || err == -ENOENT);
	if (err)
		return;
	l->imported[i] = id;
	a->imports++;
	use = vine_region_use(&a->peer->core, id);
	EXPECT(use && use->id == id && !use->rings);
	if (!use)
		return;
	for (k = 0; k < use->count; k++)
		HONEST(a, *(volatile u64 *)(a->peer->core.base +
			vine_chunk_offset(&a->peer->core, use->first + k)) == id);
}

static void queue_step(struct actor *a)
{
	struct link *l = &a->link[pick(a, ACTOR_QUEUES)];
	int err;

	if (l->state == LINK_NONE)
		return;
	if (l->state == LINK_CONNECTING) {
		if (!pick(a, 30)) {
			vine_connect_cancel(&l->q);
			unlink_queue(a, l);
			return;
		}
		err = vine_connect_result(&l->q);
		HONEST(a, !err || err == -EINPROGRESS || err == -ECONNREFUSED);
		if (!err)
			l->state = LINK_UP;
		else if (err != -EINPROGRESS)
			unlink_queue(a, l);
		return;
	}
	switch (pick(a, 12)) {
	case 0:
		if (!pick(a, 10))
			unlink_queue(a, l);
		break;
	case 1:
		if (vine_queue_hung(&l->q)) {
			while (l->state == LINK_UP && vine_ring_ready(&l->q.rx) == 1)
				pull(a, l);	/* the last words */
			if (l->state == LINK_UP)
				unlink_queue(a, l);
		}
		break;
	case 2:
		if (l->q.side == VINE_SIDE_SERVER)
			import(a, l);
		else if (a->region[0])
			vine_queue_attach(&l->q, a->region[pick(a, ACTOR_REGIONS)]);
		break;
	case 3: case 4: case 5: case 6:
		push(a, l);
		break;
	default:
		pull(a, l);
	}
}

static void region_step(struct actor *a)
{
	struct vine_core *core = &a->peer->core;
	u32 i = pick(a, ACTOR_REGIONS), k;
	const struct vine_use *use;
	int err;

	if (a->region[i]) {
		use = vine_region_use(core, a->region[i]);
		EXPECT(use && use->own);
		for (k = 0; use && k < use->count; k++)
			HONEST(a, *(u64 *)(core->base + vine_chunk_offset(core, use->first + k)) ==
			       a->region[i]);
		vine_region_retire(core, a->region[i]);
		a->region[i] = 0;
		return;
	}
	err = vine_region_claim(core, 1 + pick(a, 4 << 16), &a->region[i]);
	HONEST(a, !err || err == -ENOSPC);
	if (err) {
		a->region[i] = 0;
		return;
	}
	use = vine_region_use(core, a->region[i]);
	for (k = 0; k < use->count; k++)
		*(u64 *)(core->base + vine_chunk_offset(core, use->first + k)) = a->region[i];
	if (!pick(a, 8))
		return;		/* claimed, not yet published */
	err = vine_region_publish(core, a->region[i]);
	HONEST(a, !err);
}

static void tick(struct actor *a)
{
	if (vine_tick(&a->peer->core) & VINE_TICK_FENCED) {
		/* as a shell does: stop all, leave, join again */
		peer_leave(a->peer);
		actor_drop(a);
		a->fenced++;
		return;
	}
	peer_drain(a->peer, 0);
}

void actor_step(struct actor *a)
{
	u32 n = pick(a, 100);

	if (!a->joined)
		actor_join(a);
	else if (n < 3)
		tick(a);
	else if (n < 6)
		offer(a);
	else if (n < 12)
		connect(a);
	else if (n < 20)
		accept(a);
	else if (n < 26)
		region_step(a);
	else
		queue_step(a);
}
