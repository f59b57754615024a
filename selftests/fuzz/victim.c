// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * victim.c - runs an input: calls of two victims, and lies about the segment
 *
 * An input is a head and instructions of eight bytes. What has the highest bit set arms a
 * change for the next call; the next highest changes a word at once; the rest are calls.
 * The victims do what a shell does, and only what a shell may.
 */
#include <stdio.h>
#include "fuzz.h"
#include <linux/vine.h>

#define MAX_INSNS	200
#define MAX_ACCESSES	1000000		/* of one input: then it ends */
#define TIMEOUT_TICKS	3

struct victim victim[VICTIMS + 1];

static struct victim *caller;
static bool bystander;		/* it has a queue with victim 0 */

/* ---- the most accesses that a call may make: to the tables, and to the chunk map ---- */

#define MARK		7
#define TABLES		(VINE_MAX_PEERS * (1 + MARK))
#define HELD		(VINE_MAX_PEERS * 3)
#define FINISH		(6 + HELD)
#define PUT		(3 + FINISH)
#define SWEEP_SERVICES	(VINE_MAX_SERVICES * 3)
#define SWEEP_QUEUES	(VINE_MAX_QUEUES * 8 + core()->closing * PUT)
#define SWEEP_REGIONS	(VINE_MAX_REGIONS * FINISH + 2 * 1024)
#define REAP		(2 * VINE_MAX_PEERS + SWEEP_SERVICES + SWEEP_QUEUES + \
			 VINE_MAX_REGIONS * (HELD + FINISH) + TABLES)
#define BURY		(5 + REAP)
#define JOIN		(VINE_MAX_PEERS * (1 + 3 + 2 + 4) + REAP + VINE_LEAVES)
#define TICK		(5 + VINE_MAX_PEERS * (5 + TABLES) + REAP + SWEEP_SERVICES + \
			 SWEEP_QUEUES + SWEEP_REGIONS)
#define LEAVE		(4 + BURY)
#define DRAIN		(1 + 2 * VINE_SUMMARIES + VINE_LEAVES)
#define READ_SERVICE	(6 + VINE_NAME_SIZE)
#define FIND		(VINE_MAX_SERVICES * READ_SERVICE)
#define OFFER		(VINE_MAX_SERVICES * (READ_SERVICE + 2) + VINE_NAME_SIZE + 2 + TABLES)
#define WAITING		(2 * VINE_MAX_QUEUES / 64)
#define WITHDRAW	(2 + WAITING + VINE_MAX_QUEUES * (3 + MARK) + TABLES)
/* 64 rollbacks, twice */
#define CLAIM		(VINE_MAX_REGIONS * 4 + 2 * 65 + 1 + PUT)
#define IMPORT		(4 + PUT)
#define CLOSE		(10 + MARK + 2 * PUT)
#define CONNECT		(VINE_MAX_QUEUES * 2 + CLAIM + 1 + VINE_MAX_ATTACH + 6 + MARK + CLOSE)
#define ACCEPT		(WAITING + VINE_MAX_QUEUES * (7 + IMPORT + PUT + MARK))
#define RESULT		3
#define CELL		(1 + VINE_CELL_PAYLOAD / 8)
#define COUNT		13	/* 2^12 cells at most */
#define DESCRIBE_PEER	2
#define DESCRIBE_SERVICE (2 + VINE_NAME_SIZE + VINE_MAX_QUEUES / 64 + 2 * VINE_MAX_QUEUES)
#define DESCRIBE_QUEUE	(3 + VINE_MAX_ATTACH)
#define DESCRIBE_REGION	(2 + VINE_MAX_PEERS)
#define USAGE		(VINE_MAX_PEERS + VINE_MAX_SERVICES + VINE_MAX_QUEUES + VINE_MAX_REGIONS)

/* What is freed in a call is no more than there is, or was ours; two accesses for each. */
#define CHUNKS_ALL	((u64)world->geo.chunks)
#define CHUNKS_FREED	(2 * CHUNKS_ALL)
#define CHUNKS_SWEPT	(2 * CHUNKS_FREED)	/* and our rings */
#define CHUNKS_TICK	(3 * CHUNKS_FREED)	/* and the sweep for garbage */
#define CHUNKS_RINGS	((2 * VINE_RING_BYTES(VINE_MAX_DEPTH) >> world->geo.shift) + 1)
#define CHUNKS_CLAIM(n)	(2 * (CHUNKS_ALL + 64 * 3 * (n)) + CHUNKS_FREED)
#define CHUNKS_IMPORT	(CHUNKS_ALL + CHUNKS_FREED)
#define CHUNKS_ACCEPT	(VINE_MAX_QUEUES * 5 * CHUNKS_RINGS)

/* ---- what a shell has ---- */

static struct vine_core *core(void)
{
	return &caller->peer->core;
}

/* A place in a victim's table; @v itself says which. */
static u32 free_queue(void)
{
	u32 i;

	for (i = 0; i < QUEUES && caller->queue[i]; i++)
		;
	return i;
}

static struct grant *free_grant(struct grant *g)
{
	u32 i;

	for (i = 0; i < GRANTS; i++)
		if (!g[i].id)
			return &g[i];
	return NULL;
}

/* As vine_region_set() of the driver: from now on a process may map it. */
static void set_grant(struct grant *g, u64 id)
{
	const struct vine_use *use = vine_region_use(core(), id);

	MUST(use, "granted region");
	*g = (struct grant){ id, use->first, use->count, use->slot, use->inc };
}

/* All descriptors become void; their memory is freed when they are closed. */
static void forget_all(struct victim *v)
{
	u32 i;

	for (i = 0; i <= QUEUES; i++)
		free(v->queue[i]);
	memset(v->queue, 0, sizeof(v->queue));
	memset(v->up, 0, sizeof(v->up));
	memset(v->offers, 0, sizeof(v->offers));
	memset(v->own, 0, sizeof(v->own));
	memset(v->import, 0, sizeof(v->import));
	v->joined = false;
}

#define CALL(q, bound, chunks, call)	(segment_call(caller, q, bound, chunks), call)

/* ---- peers ---- */

static void call_join(const struct insn *in)
{
	struct peer *p = caller->peer;
	int err;

	p->vectors = in->b % 65 == 64 ? 0 : in->b % 64;
	p->unique = !(in->c & 1);
	p->host = in->c & 4;
	p->timeout = TIMEOUT_TICKS;
	p->ivpos = (u32)(caller - victim);
	if (!bystander && in->c & 2) {
		p->ivpos = in->v % 4;
		lied = true;	/* somebody else's: it is taken for dead */
	}
	err = CALL(NULL, JOIN + 64 * (DRAIN + 1), CHUNKS_FREED, peer_join(p));
	MUST(!err || err == -EUSERS || (p->host && err == -EADDRINUSE), "join");
	caller->joined = !err;
	if (!err)
		MUST(core()->slot < VINE_MAX_PEERS && core()->inc, "join");
}

/* The kernel drops the lock of a process that has ended. */
static void unlock(void)
{
	struct peer **lock = &world->locked[core()->slot];

	if (*lock == caller->peer)
		*lock = NULL;
}

static void call_leave(void)
{
	forget_all(caller);
	CALL(NULL, LEAVE, CHUNKS_SWEPT, vine_leave(core()));
	unlock();
}

/* The machine dies: nothing is said, and its memory is lost. */
static void call_crash(void)
{
	forget_all(caller);
	unlock();
	lied = true;	/* nobody buries it: what it had is not free in the end */
}

static void call_tick(void)
{
	unsigned int what;
	struct vine_core *c;
	__le64 *beat;
	u32 i;

	/* the bystander and its partner are alive */
	for (i = 0; bystander && i <= BYSTANDER; i += BYSTANDER) {
		c = &victim[i].peer->core;
		beat = &vine_peer(c, c->slot)->beat;
		vine_st64(beat, vine_ld64(beat) + 1);
	}
	what = CALL(NULL, TICK, CHUNKS_TICK, vine_tick(core()));
	MUST(what <= (VINE_TICK_FENCED | VINE_TICK_CHANGED), "tick");
	if (what & VINE_TICK_FENCED) {
		segment_called();
		call_leave();
	}
}

static void marked(void *arg, u32 leaf, u64 bits)
{
	u32 *n = arg;

	MUST(leaf < VINE_LEAVES && bits && ++*n <= VINE_LEAVES, "drain");
}

static void call_drain(const struct insn *in)
{
	u32 vectors = core()->vectors ? core()->vectors : 1, n = 0;

	CALL(NULL, DRAIN, 0, vine_drain(core(), in->b % vectors, marked, &n));
}

static void call_bury(const struct insn *in)
{
	u32 slot = in->b % 66, inc = in->c ? in->v : victim[in->v % VICTIMS].peer->core.inc;
	int err = CALL(NULL, BURY, CHUNKS_SWEPT, vine_peer_bury(core(), slot, inc));

	MUST(!err || err == -ENOENT || err == -EBUSY, "bury");
	MUST(err || slot != core()->slot, "bury");
	lied |= !err;	/* it may be alive */
}

static void call_usage(void)
{
	struct vine_usage u;

	CALL(NULL, USAGE, CHUNKS_ALL, vine_usage(core(), &u));
	MUST(u.peers <= VINE_MAX_PEERS && u.services <= VINE_MAX_SERVICES &&
	     u.queues <= VINE_MAX_QUEUES && u.regions <= VINE_MAX_REGIONS &&
	     u.chunks_free <= u.chunks && u.chunks == core()->geo.chunks, "usage");
}

/* What a query tells of one entry of each table. */
static void call_describe(const struct insn *in)
{
	const struct vine_listener *own = caller->offers[in->c % LISTENERS] ?
					  &caller->listener[in->c % LISTENERS] : NULL;
	struct vine_query_peer p = { 0 };
	struct vine_query_service s = { 0 };
	struct vine_query_queue q = { 0 };
	struct vine_query_region r = { 0 };

	CALL(NULL, DESCRIBE_PEER, 0, vine_describe_peer(core(), in->b % VINE_MAX_PEERS, 1, &p));
	segment_called();
	CALL(NULL, DESCRIBE_SERVICE, 0,
	     vine_describe_service(core(), in->b % VINE_MAX_SERVICES, own, &s));
	segment_called();
	MUST(!s.name[VINE_NAME_SIZE - 1] && s.waiting <= VINE_MAX_QUEUES, "describe");
	CALL(NULL, DESCRIBE_QUEUE, 0, vine_describe_queue(core(), in->v % VINE_MAX_QUEUES, &q));
	segment_called();
	MUST(q.depth <= VINE_MAX_DEPTH && !(q.depth & (q.depth - 1)) &&
	     q.attached <= VINE_MAX_ATTACH, "describe");
	CALL(NULL, DESCRIBE_REGION, 0,
	     vine_describe_region(core(), in->b % VINE_MAX_REGIONS, &r));
	MUST(r.bytes <= core()->geo.size, "describe");
}

/* ---- services ---- */

static void call_offer(const struct insn *in)
{
	u32 i = in->b % LISTENERS;
	char name[VINE_NAME_SIZE] = "service ?";
	int err;

	if (caller->offers[i])
		return;
	name[8] = 'a' + in->c % 4;
	err = CALL(NULL, OFFER, 0, vine_service_offer(core(), &caller->listener[i], name, in->v));
	MUST(!err || err == -EADDRINUSE || err == -ENOSPC, "offer");
	caller->offers[i] = !err;
	if (!err)
		MUST(caller->listener[i].index < VINE_MAX_SERVICES, "offer");
}

static void call_withdraw(const struct insn *in)
{
	u32 i = in->b % LISTENERS;

	if (!caller->offers[i])
		return;
	CALL(NULL, WITHDRAW, 0, vine_service_withdraw(core(), &caller->listener[i]));
	caller->offers[i] = false;
}

static void call_waiting(const struct insn *in)
{
	u32 i = in->b % LISTENERS;

	if (caller->offers[i])
		CALL(NULL, WAITING, 0, vine_service_waiting(core(), &caller->listener[i]));
}

static bool read_service(u32 index, struct vine_service_seen *seen)
{
	bool there = CALL(NULL, READ_SERVICE, 0, vine_service_read(core(), index, seen));

	segment_called();
	if (there)
		MUST(seen->slot < VINE_MAX_PEERS && seen->index == index &&
		     memchr(seen->name, 0, sizeof(seen->name)), "service");
	return there;
}

static bool find_service(const struct insn *in, struct vine_service_seen *seen)
{
	u8 name[VINE_NAME_SIZE] = "service ?";
	bool there;

	if (!(in->b & 0x80))
		return read_service(in->b % 8, seen);
	name[8] = 'a' + in->b % 4;
	there = CALL(NULL, FIND, 0, vine_service_find(core(), 0, name, seen));
	segment_called();
	if (there)
		MUST(seen->slot < VINE_MAX_PEERS && seen->index < VINE_MAX_SERVICES &&
		     !strcmp(seen->name, (const char *)name), "find");
	return there;
}

/* ---- queues ---- */

static void drop_queue(u32 i)
{
	struct vine_queue *q = caller->queue[i];

	caller->queue[i] = NULL;
	caller->up[i] = false;
	CALL(NULL, CLOSE, CHUNKS_SWEPT, vine_queue_close(q));
	free(q);
}

static void call_connect(const struct insn *in)
{
	u32 i = free_queue(), depth = 2u << in->c % 12;
	struct vine_service_seen seen;
	struct vine_queue *q;
	int err;

	if (i == QUEUES || !find_service(in, &seen))
		return;
	if (in->c >= 240)
		depth = in->v;
	q = malloc(sizeof(*q));
	/* what is said of the service may be old by now */
	seen.gen += in->v >> 31;
	err = CALL(NULL, CONNECT, CHUNKS_CLAIM(CHUNKS_RINGS),
		   vine_queue_connect(core(), q, &seen, depth));
	MUST(!err || err == -EINVAL || err == -ENOSPC || err == -ECONNREFUSED, "connect");
	if (!err)
		caller->queue[i] = q;
	else
		free(q);
}

static void call_result(u32 i)
{
	struct vine_queue *q = caller->queue[i];
	int err;

	if (q->side != VINE_SIDE_CLIENT || caller->up[i])
		return;
	err = CALL(q, RESULT, 0, vine_connect_result(q));
	MUST(!err || err == -EINPROGRESS || err == -ECONNREFUSED || err == -EIO, "result");
	MUST(err != -EIO || lied, "result");
	caller->up[i] = !err;
	if (err && err != -EINPROGRESS)
		drop_queue(i);
}

static void call_cancel(u32 i)
{
	struct vine_queue *q = caller->queue[i];

	if (q->side == VINE_SIDE_CLIENT && !caller->up[i])
		CALL(q, 1, 0, vine_connect_cancel(q));
}

static void call_accept(const struct insn *in)
{
	u32 i = free_queue(), l = in->b % LISTENERS;
	struct vine_queue *q;
	int err;

	if (i == QUEUES || !caller->offers[l])
		return;
	q = malloc(sizeof(*q));
	err = CALL(NULL, ACCEPT, CHUNKS_ACCEPT, vine_queue_accept(core(), &caller->listener[l], q));
	MUST(!err || err == -EAGAIN, "accept");
	if (err) {
		free(q);
		return;
	}
	MUST(q->index < VINE_MAX_QUEUES && q->slot < VINE_MAX_PEERS &&
	     q->side == VINE_SIDE_SERVER, "accept");
	caller->queue[i] = q;
	caller->up[i] = true;
}

static void call_attach(u32 i, const struct insn *in)
{
	struct grant *g = &caller->own[in->c % GRANTS];
	struct vine_queue *q = caller->queue[i];
	u64 id = in->c & 0x80 ? in->v : in->c & 0x40 ? q->region : g->id;
	int err = CALL(q, 1, 0, vine_queue_attach(q, id));

	MUST(!err || err == -EINVAL || err == -ENOSPC, "attach");
	if (!err)
		MUST(id && id == g->id && q->side == VINE_SIDE_CLIENT, "attach");
}

/* A region that the client names in a message: of its first ones, or anything. */
static u64 named_region(const struct vine_queue *q, const struct insn *in)
{
	const struct vine_core *c = &victim[in->v % VICTIMS].peer->core;

	if (in->c & 0x40)
		return VINE_REGION_ID(in->v >> 8, in->v & 0xff);
	if (in->c & 0x20)
		return c->use[in->c % 16].id;
	return vine_ld64(&vine_queue_entry(core(), q->index)->attach[in->c % 4]);
}

static void call_import(u32 i, const struct insn *in)
{
	struct grant *g = free_grant(caller->import);
	struct vine_queue *q = caller->queue[i];
	const struct vine_use *use;
	bool known = false;
	u64 id;
	u32 k;
	int err;

	if (!g)
		return;
	id = named_region(q, in);
	err = CALL(q, VINE_MAX_ATTACH + IMPORT, CHUNKS_IMPORT, vine_queue_import(q, id));
	segment_called();
	MUST(!err || err == -EINVAL || err == -ENOENT || err == -EBADE, "import");
	MUST(err != -EBADE || lied, "import");
	if (err)
		return;
	use = vine_region_use(core(), id);
	MUST(use && use->slot == q->slot && use->inc == q->inc && !use->rings, "import");
	/* what is ours, only if our own client's side was given it, not if the entry says so */
	for (k = 0; k < QUEUES; k++)
		known |= caller->queue[k] && caller->queue[k]->side == VINE_SIDE_CLIENT &&
			caller->queue[k]->index == q->index &&
			memmem(caller->queue[k]->attach, sizeof(q->attach), &id, sizeof(id));
	MUST(!use->own || known, "import");
	set_grant(g, id);
}

static void call_push(u32 i, const struct insn *in)
{
	struct vine_queue *q = caller->queue[i];
	struct vine_cell m = { .bytes = in->v % 57 };
	u32 n = 1 + in->c % 40, done = 0;
	bool tell;
	int space;

	segment_call(caller, q, 4 + n * (CELL + 2), 0);
	while (done < n) {
		space = vine_ring_space(&q->tx, n - done);
		if (!space)
			space = vine_ring_arm_space(&q->tx);
		MUST(space >= 0 || space == -EIO, "space");
		MUST(space <= (int)q->tx.depth, "space");
		if (space <= 0)
			break;
		for (; done < n && space; space--, done++) {
			m.word[0] = done;
			vine_ring_push(&q->tx, &m);
		}
	}
	tell = done && vine_ring_pushed(&q->tx);
	if (done < n && space < 0) {
		MUST(lied, "push");
		WRITE_ONCE(q->broken, true);
	}
	segment_called();
	if (tell)
		CALL(NULL, MARK, 0, vine_queue_notify(q));
}

static void call_pull(u32 i, const struct insn *in)
{
	struct vine_queue *q = caller->queue[i];
	u32 n = 1 + in->c % 16, got;
	struct vine_cell m;
	bool tell;
	int ret = 0;

	segment_call(caller, q, n * CELL + 4, 0);
	for (got = 0; got < n; got++) {
		ret = vine_ring_peek(&q->rx, got, &m);
		if (ret <= 0)
			break;
		MUST(ret == 1 && m.bytes <= VINE_CELL_PAYLOAD, "peek");
	}
	MUST(ret >= 0 || (ret == -EIO && lied), "peek");
	if (ret < 0)
		WRITE_ONCE(q->broken, true);
	/* not all of them reach the user */
	tell = vine_ring_consume(&q->rx, in->v & 1 ? got : got / 2);
	if (in->v & 2)
		tell |= vine_ring_publish(&q->rx);
	segment_called();
	if (tell)
		CALL(NULL, MARK, 0, vine_queue_notify(q));
}

/* poll(): hang-up, cells, space; both rings are left armed. */
static void call_poll(u32 i)
{
	struct vine_queue *q = caller->queue[i];
	bool tell;
	int ret;

	CALL(q, 2, 0, vine_queue_hung(q));
	segment_call(caller, q, 6, 0);
	tell = vine_ring_publish(&q->rx);
	ret = vine_ring_arm(&q->rx);
	MUST(ret == 0 || ret == 1 || (ret == -EIO && lied), "arm");
	ret = vine_ring_arm_space(&q->tx);
	MUST(ret >= 0 || (ret == -EIO && lied), "arm");
	MUST(ret <= (int)q->tx.depth, "arm");
	segment_called();
	if (tell)
		CALL(NULL, MARK, 0, vine_queue_notify(q));
}

/* What a query tells of a queue. */
static void call_count(u32 i)
{
	struct vine_queue *q = caller->queue[i];
	u32 n = CALL(q, COUNT, 0, vine_ring_waiting(&q->rx));

	MUST(n <= q->rx.depth, "count");
	MUST(CALL(q, 1, 0, vine_ring_space(&q->tx, q->tx.depth)) <= (int)q->tx.depth, "count");
}

/* ---- regions ---- */

static void call_claim(const struct insn *in)
{
	struct grant *g = free_grant(caller->own);
	u64 bytes = in->b & 0x80 ? (u64)in->v << in->c % 64 : 1 + in->v % (12 << 16), id, from;
	const struct vine_use *use;
	int err;

	if (!g)
		return;
	err = CALL(NULL, CLAIM, CHUNKS_CLAIM(CHUNKS_ALL), vine_region_claim(core(), bytes, &id));
	segment_called();
	MUST(!err || err == -EINVAL || err == -ENOSPC, "claim");
	if (err)
		return;
	set_grant(g, id);
	use = vine_region_use(core(), id);
	MUST(use->own && use->refs == 1 && (u64)use->count << core()->geo.shift >= bytes, "claim");
	/* the shell zeroes it */
	from = vine_chunk_offset(core(), use->first);
	MUST(from >= core()->geo.chunk_off &&
	     from + ((u64)use->count << core()->geo.shift) <= core()->geo.size, "claim");
	if (!(in->b & 1))
		return;
	err = CALL(NULL, 1, 0, vine_region_publish(core(), id));
	MUST(!err || (err == -ENOSPC && lied), "publish");
}

static void call_publish(const struct insn *in)
{
	struct grant *g = &caller->own[in->b % GRANTS];

	if (g->id)
		CALL(NULL, 1, 0, vine_region_publish(core(), g->id));
}

static void drop_own(struct grant *g)
{
	u64 id = g->id;

	g->id = 0;
	if (id)
		CALL(NULL, 2 + PUT, CHUNKS_FREED, vine_region_retire(core(), id));
}

static void drop_import(struct grant *g)
{
	u64 id = g->id;

	g->id = 0;
	if (id)
		CALL(NULL, PUT, CHUNKS_FREED, vine_region_put(core(), id));
}

/* ---- instructions ---- */

static void queue_call(const struct insn *in)
{
	u32 i = in->b % QUEUES;
	struct vine_queue *q = caller->queue[i];
	bool up = caller->up[i];

	if (!q)
		return;
	switch (in->op % DO_CALLS) {
	case DO_RESULT:
		call_result(i);
		break;
	case DO_CANCEL:
		call_cancel(i);
		break;
	case DO_ATTACH:
		call_attach(i, in);
		break;
	case DO_CLOSE:
		drop_queue(i);
		break;
	case DO_COUNT:
		call_count(i);
		break;
	case DO_IMPORT: case DO_IMPORT_2:
		if (up)
			call_import(i, in);
		break;
	case DO_PUSH: case DO_PUSH_2:
		if (up)
			call_push(i, in);
		break;
	case DO_PULL: case DO_PULL_2:
		if (up)
			call_pull(i, in);
		break;
	case DO_POLL:
		if (up)
			call_poll(i);
		break;
	}
}

static void call(const struct insn *in)
{
	caller = &victim[in->a % VICTIMS];
	if (!caller->joined) {
		/* its partner is to live as long as the bystander's queue does */
		call_join(in);
		goto out;
	}
	switch (in->op % DO_CALLS) {
	case DO_JOIN:
		break;
	case DO_LEAVE:
		if (!bystander || caller != &victim[0])
			call_leave();
		break;
	case DO_CRASH:
		if (!bystander || caller != &victim[0])
			call_crash();
		break;
	case DO_TICK: case DO_TICK_2:
		call_tick();
		break;
	case DO_DRAIN:
		call_drain(in);
		break;
	case DO_BURY:
		call_bury(in);
		break;
	case DO_USAGE:
		call_usage();
		break;
	case DO_DESCRIBE:
		call_describe(in);
		break;
	case DO_OFFER:
		call_offer(in);
		break;
	case DO_WITHDRAW:
		call_withdraw(in);
		break;
	case DO_WAITING:
		call_waiting(in);
		break;
	case DO_CONNECT: case DO_CONNECT_2:
		call_connect(in);
		break;
	case DO_ACCEPT: case DO_ACCEPT_2:
		call_accept(in);
		break;
	case DO_CLAIM: case DO_CLAIM_2:
		call_claim(in);
		break;
	case DO_PUBLISH:
		call_publish(in);
		break;
	case DO_RETIRE:
		drop_own(&caller->own[in->b % GRANTS]);
		break;
	case DO_PUT:
		drop_import(&caller->import[in->b % GRANTS]);
		break;
	case DO_SWEEP:
		CALL(NULL, SWEEP_QUEUES, CHUNKS_SWEPT, vine_queue_sweep(core()));
		break;
	default:
		queue_call(in);
	}
out:
	segment_called();
	check_victim(caller);
	if (bystander)
		check_bystander(vine_region_use(&victim[0].peer->core,
						victim[0].queue[QUEUES]->region));
}

static void step(const struct insn *in)
{
	if (in->op & 0x80)
		segment_arm(in);
	else if (in->op & 0x40)
		segment_poke(in);
	else
		call(in);
}

/* An honest beginning: the deeper states are a few instructions away. */
static const struct insn prologue[] = {
	{ DO_JOIN, 0, 2, 0, 0 }, { DO_JOIN, 1, 2, 0, 0 },
	{ DO_OFFER, 0, 0, 0, 7 }, { DO_CONNECT, 1, 0, 2, 0 }, { DO_ACCEPT, 0, 0, 0, 0 },
	{ DO_RESULT, 1, 0, 0, 0 }, { DO_CLAIM, 1, 1, 0, 100000 }, { DO_ATTACH, 1, 0, 0, 0 },
	{ DO_PUSH, 1, 0, 2, 8 }, { DO_IMPORT, 0, 0, 0, 0 }, { DO_PULL, 0, 0, 2, 3 },
	{ DO_OFFER, 1, 0, 1, 7 }, { DO_CONNECT, 0, 1, 1, 0 }, { DO_ACCEPT, 1, 0, 0, 0 },
	{ DO_RESULT, 0, 1, 0, 0 }, { DO_CLAIM, 0, 1, 0, 70000 }, { DO_ATTACH, 0, 1, 0, 0 },
	{ DO_PUSH, 0, 1, 3, 8 }, { DO_PUSH, 0, 0, 2, 8 }, { DO_POLL, 1, 0, 0, 0 },
	{ DO_OFFER, 0, 1, 2, 7 }, { DO_CONNECT, 0, 2, 3, 0 }, { DO_ACCEPT, 0, 1, 0, 0 },
	{ DO_RESULT, 0, 2, 0, 0 }, { DO_ATTACH, 0, 2, 0, 0 }, { DO_IMPORT, 0, 3, 0, 0 },
};

/* ---- the bystander ---- */

static void protect(const void *p, u64 bytes)
{
	segment_protect((u64)((const u8 *)p - world->base), bytes);
}

/* Victim 0 serves a third peer, and nobody lies about their queue. */
static void meet_bystander(void)
{
	struct victim *v = &victim[0], *by = &victim[BYSTANDER];
	struct vine_core *c = &v->peer->core;
	struct vine_queue *q = malloc(sizeof(*q)), *its = malloc(sizeof(*its));
	const struct vine_use *use;
	u64 from, to;

	v->peer->ivpos = 0;
	by->peer->ivpos = BYSTANDER;
	v->joined = !peer_join(v->peer);
	by->joined = !peer_join(by->peer);
	if (!v->joined || !by->joined || world_pair(by->peer, v->peer, 4, its, q)) {
		free(q);
		free(its);
		return;
	}
	bystander = true;
	v->queue[QUEUES] = q;
	by->queue[QUEUES] = its;
	use = vine_region_use(c, q->region);
	queue_rings(q, &from, &to);
	protect(vine_header(c), sizeof(struct vine_wire_header));
	protect(vine_peer(c, c->slot), offsetof(struct vine_wire_peer, vector));
	protect(vine_peer(c, by->peer->core.slot), offsetof(struct vine_wire_peer, vector));
	protect(vine_queue_entry(c, q->index), sizeof(struct vine_wire_queue));
	protect(vine_region_entry(c, VINE_REGION_INDEX(use->id)), sizeof(struct vine_wire_region));
	protect(vine_chunk_word(c, use->first), 8ULL * use->count);
	segment_protect(from, to - from);
}

/* A lie breaks what it is about, and no other queue. */
static void ask_bystander(void)
{
	struct vine_queue *q = victim[0].queue[QUEUES], *its = victim[BYSTANDER].queue[QUEUES];
	u64 value = 0, i;

	MUST(!vine_connect_result(its), "bystander");
	for (i = 0; i < 9; i++) {
		MUST(!vine_queue_hung(q) && !vine_queue_hung(its), "bystander");
		MUST(send_one(q, 100 + i, 56) && recv_one(its, &value) == 1 &&
		     value == 100 + i, "bystander");
		MUST(send_one(its, 200 + i, 8) && recv_one(q, &value) == 1 &&
		     value == 200 + i, "bystander");
	}
	bystander = false;
}

/* ---- an input ---- */

/* The segment's geometry, by way of an open that is lied to. False: it is refused. */
static bool open_segment(const struct head *head, const struct insn **in, u32 *n)
{
	u64 size = VINE_MIN_SEGMENT + head->size * 4096ULL, format = vine_format_for(size);
	struct vine_wire_header *h = (struct vine_wire_header *)world->base;
	struct vine_geometry geo;
	int err;

	if (HEAD_FORMAT(head->flags))
		format = VINE_FORMAT(head->shift, head->chunks & VINE_MAX_CHUNKS);
	if (!HEAD_BLANK(head->flags))
		vine_st64(&h->format, format);
	world->geo = (struct vine_geometry){ .size = VINE_OFF_CHUNKMAP,
					     .chunk_off = VINE_OFF_CHUNKMAP };
	caller = &victim[0];
	if (HEAD_BLANK(head->flags) || HEAD_FORMAT(head->flags))
		for (; *n && (*in)->op & 0xc0; (*in)++, (*n)--)
			step(*in);
	err = CALL(NULL, VINE_OFF_CHUNKMAP / 8 + 16, 0, vine_segment_open(world->base, size, &geo));
	segment_called();
	MUST(!err || err == -EINVAL || err == -EPROTONOSUPPORT || err == -EFBIG, "open");
	if (err) {
		MUST(lied || HEAD_FORMAT(head->flags), "open");
		return false;
	}
	MUST(geo.chunks && geo.shift >= VINE_MIN_CHUNK_SHIFT && geo.size <= size, "open");
	MUST(geo.chunk_off >= VINE_OFF_CHUNKMAP + 8ULL * geo.chunks, "open");
	MUST(geo.chunk_off % (1ULL << geo.shift) == 0, "open");
	MUST(geo.size == geo.chunk_off + ((u64)geo.chunks << geo.shift), "open");
	vine_st64(&h->generation, 4711);	/* inputs are to do the same each time */
	world->geo = geo;
	return true;
}

static void begin(void)
{
	u32 i;

	if (!world) {
		struct world *w = world_new(VINE_MIN_SEGMENT + (1 << 20));

		for (i = 0; i < ARRAY_SIZE(victim); i++) {
			victim[i].peer = world_peer(w, i);
			free(victim[i].peer->chunk_use);	/* each input has its own */
		}
		world = w;
	}
	segment_reset();
	memset(world->locked, 0, sizeof(world->locked));
	for (i = 0; i < ARRAY_SIZE(victim); i++) {
		memset(&victim[i].peer->core, 0, sizeof(victim[i].peer->core));
		memset(victim[i].listener, 0, sizeof(victim[i].listener));
		victim[i].peer->host = victim[i].peer->unique = false;
	}
}

/* The memory that the core keeps its records in: not a word more than it is promised. */
static void make_records(void)
{
	struct victim *v;

	for (v = victim; v < victim + ARRAY_SIZE(victim); v++) {
		v->peer->chunk_use = malloc(world->geo.chunks * sizeof(*v->peer->chunk_use));
		v->peer->core.base = world->base;
		v->peer->core.geo = world->geo;
	}
}

static void free_records(void)
{
	struct victim *v;

	for (v = victim; v < victim + ARRAY_SIZE(victim); v++) {
		forget_all(v);
		free(v->peer->chunk_use);
		v->peer->chunk_use = NULL;
	}
}

static void close_all(void)
{
	u32 i;

	for (i = 0; i <= QUEUES; i++)
		if (caller->queue[i])
			drop_queue(i);
	for (i = 0; i < GRANTS; i++) {
		drop_import(&caller->import[i]);
		drop_own(&caller->own[i]);
	}
	for (i = 0; i < LISTENERS; i++)
		call_withdraw(&(struct insn){ .b = (u8)i });
	segment_called();
	check_victim(caller);
}

/* The other side of each queue that we have closed has closed it, too. */
static void free_queues(void)
{
	__le64 *ctl;
	u32 i;

	for (i = 0; lied && i < VINE_MAX_QUEUES; i++) {
		ctl = &vine_queue_entry(core(), i)->ctl;
		if (core()->own_queue[i].gen)
			vine_st64(ctl, vine_ld64(ctl) & ~0xffULL);
	}
}

static void end(bool leave)
{
	struct victim *all = victim + ARRAY_SIZE(victim);

	if (bystander)
		ask_bystander();
	for (caller = victim; caller < all; caller++)
		if (caller->joined)
			close_all();
	for (caller = victim; caller < all; caller++) {
		if (!caller->joined)
			continue;
		if (core()->closing) {
			free_queues();
			CALL(NULL, SWEEP_QUEUES, CHUNKS_SWEPT, vine_queue_sweep(core()));
			segment_called();
		}
		check_empty(caller);
	}
	if (!leave)
		return;
	for (caller = victim; caller < all; caller++)
		if (caller->joined)
			call_leave();
	segment_called();
	if (!lied)
		check_clean();
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct insn insns[MAX_INSNS];
	const struct insn *in = insns;
	struct head head;
	u32 n;
	u8 i;

	if (size < sizeof(head))
		return -1;
	memcpy(&head, data, sizeof(head));
	n = min_t(u32, (size - sizeof(head)) / sizeof(*in), MAX_INSNS);
	memcpy(insns, data + sizeof(head), n * sizeof(*in));
	begin();
	if (!open_segment(&head, &in, &n))
		return 0;	/* refused */
	make_records();
	if (HEAD_BYSTANDER(head.flags))
		meet_bystander();
	for (i = 0; i < head.prologue && i < ARRAY_SIZE(prologue); i++)
		step(&prologue[i]);
	for (; n && segment_accesses() < MAX_ACCESSES; n--, in++)
		step(in);
	end(HEAD_LEAVE(head.flags));
	free_records();
	return 0;
}
