// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * hostile_test.c - clients that send the appliance nonsense: their queue is closed, and
 *                  nobody else notices
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "peer.h"
#include "tap.h"

#define BYTES		(1 << 16)
#define REGION_HERE	TALK_WHERE(0, 4096)

static const struct vine_serve_options options = { .size = sizeof(options) };

static struct peer p, bystander;
static uint32_t noop, known, bystander_add;	/* known: a procedure only @p knows */

/* ---- one good message of each kind, and what must come before it ---- */

enum queue { NEW, CONTROL, TASKS };
enum before { NOTHING, A_REGISTER, A_TASK };

union any {
	struct talk_head head;
	struct talk_hello hello;
	struct talk_region region;
	struct talk_region_gone region_gone;
	struct talk_accel_get accel_get;
	struct talk_accel_op accel_op;
	struct talk_name name;
	struct talk_bytes bytes;
	struct talk_put put;
	struct talk_task task;
	struct talk_refs refs;
	uint8_t byte[VINE_MSG_DATA];
};

struct good {
	const char *name;
	enum queue queue;
	enum before before;
	size_t size;
	union any m;
};

enum { HELLO, REGION, REGION_GONE, ACCEL, STAT, ACQUIRE, RELEASE, REGISTER, BYTES_OF, GET, PUT,
       TASK_REGION, TASK_REGION_GONE, TASK, TASK_ONE, REFS, GOODS };

static struct good good[GOODS] = {
	[HELLO] = { "HELLO", NEW, NOTHING, sizeof(struct talk_hello),
		{ .hello = { .head = { TALK_HELLO }, .version = TALK_VERSION } } },
	[REGION] = { "REGION", CONTROL, NOTHING, sizeof(struct talk_region),
		{ .region = { .head = { TALK_REGION, .tag = 47 } } } },
	[REGION_GONE] = { "REGION_GONE", CONTROL, NOTHING, sizeof(struct talk_region_gone),
		{ .region_gone = { .head = { TALK_REGION_GONE } } } },
	[ACCEL] = { "ACCEL", CONTROL, NOTHING, sizeof(struct talk_accel_get),
		{ .accel_get = { .head = { TALK_ACCEL, .tag = ACCELERATORS - 1 } } } },
	[STAT] = { "STAT", CONTROL, NOTHING, sizeof(struct talk_accel_op),
		{ .accel_op = { .head = { TALK_STAT } } } },
	[ACQUIRE] = { "ACQUIRE", CONTROL, NOTHING, sizeof(struct talk_accel_op),
		{ .accel_op = { .head = { TALK_ACQUIRE } } } },
	[RELEASE] = { "RELEASE", CONTROL, NOTHING, sizeof(struct talk_accel_op),
		{ .accel_op = { .head = { TALK_RELEASE } } } },
	[REGISTER] = { "REGISTER", CONTROL, NOTHING, sizeof(struct talk_name),
		{ .name = { .head = { TALK_REGISTER, CPU, 4, 0, 9 }, .name = "noop" } } },
	[BYTES_OF] = { "BYTES", CONTROL, A_REGISTER, sizeof(struct talk_bytes),
		{ .bytes = { .head = { TALK_BYTES, .tag = 9 }, .ref = { REGION_HERE, 8 } } } },
	[GET] = { "GET", CONTROL, NOTHING, sizeof(struct talk_name),
		{ .name = { .head = { TALK_GET, CPU, 4, 0, 9 }, .name = "noop" } } },
	[PUT] = { "PUT", CONTROL, NOTHING, sizeof(struct talk_put),
		{ .put = { .head = { TALK_PUT } } } },
	[TASK_REGION] = { "REGION (tasks)", TASKS, NOTHING, sizeof(struct talk_region),
		{ .region = { .head = { TALK_REGION, .tag = 47 } } } },
	[TASK_REGION_GONE] = { "REGION_GONE (tasks)", TASKS, NOTHING,
		sizeof(struct talk_region_gone),
		{ .region_gone = { .head = { TALK_REGION_GONE } } } },
	[TASK] = { "TASK", TASKS, NOTHING, sizeof(struct talk_task),
		{ .task = { .head = { TALK_TASK, TALK_REDZONES, 1, 1, 500 },
			    .ref = { { REGION_HERE, 8 }, { REGION_HERE + 8, 8 } } } } },
	[TASK_ONE] = { "TASK (one buffer)", TASKS, NOTHING, sizeof(struct talk_task),
		{ .task = { .head = { TALK_TASK, TALK_ARGS, 0, 0, 500 },
			    .ref = { { REGION_HERE, 8 } } } } },
	[REFS] = { "REFS", TASKS, A_TASK, sizeof(struct talk_refs),
		{ .refs = { .head = { TALK_REFS, 3, 0, 0, 600 },
			    .ref = { { REGION_HERE, 8 }, { REGION_HERE + 8, 8 },
				     { REGION_HERE + 16, 8 } } } } },
};

static int queue_of(const struct good *g)
{
	return g->queue == TASKS ? p.queue : p.control;
}

/* Opens what is closed, and fills in what is known only now. */
static bool renew(void)
{
	struct talk_welcome welcome;

	if (p.queue >= 0 && p.control >= 0)
		return true;
	if (p.control >= 0) {
		p.queue = peer_queue(&p, p.token, &welcome);
		return p.queue >= 0 && peer_attach(&p, p.queue, 0);
	}
	peer_close(&p);
	if (!peer_open(&p, BYTES))
		return false;
	noop = peer_get(&p, ANY, "noop", NULL);
	known = peer_register(&p, ANY, "known", "x", 1, NULL);
	good[REGION].m.region.id = p.id;
	good[TASK_REGION].m.region.id = p.id;
	good[PUT].m.put.id = known;
	good[TASK].m.task.proc = noop;
	good[TASK_ONE].m.task.proc = noop;
	return noop && known;
}

static bool begin(pid_t *pid)
{
	*pid = appliance_start(&options);
	p = (struct peer){ .device = -1, .control = -1, .queue = -1, .region = -1 };
	if (!peer_open(&bystander, BYTES) || !renew())
		return false;
	bystander_add = peer_get(&bystander, ANY, "add", NULL);
	return bystander_add;
}

static void end(pid_t pid)
{
	CHECK(peer_works(&bystander, CPU0, bystander_add));
	peer_close(&bystander);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

static bool send_before(const struct good *g)
{
	struct talk_task task = good[TASK].m.task;
	int queue = queue_of(g);

	task.head.tag = 600;
	task.head.b = 4;
	task.head.c = 1;
	switch (g->before) {
	case A_REGISTER:
		return peer_send(queue, &good[REGISTER].m, good[REGISTER].size);
	case A_TASK:
		return peer_send(queue, &task, sizeof(task));
	default:
		return true;
	}
}

/* Sends it where @g would go, and sees that queue closed, and the other one not. */
static bool closes(const struct good *g, const union any *m, size_t size)
{
	struct vine_msg msg = { .len = size };
	struct talk_done done;
	int queue = queue_of(g), fresh = -1;
	bool ok;

	if (g->queue == NEW) {
		fresh = vine_connect(p.device, "vinetalk", TALK_DEPTH, 0,
				     vine_deadline_ms(PATIENCE_MS), NULL);
		queue = fresh;
	}
	memcpy(msg.data, m, sizeof(*m));
	ok = queue >= 0 && send_before(g) && vine_push(queue, &msg, 1) == 1 && peer_closed(queue);
	if (g->queue == NEW) {
		vine_close(fresh);
		return ok && peer_stat(&p, CPU0).head.a <= accel_busy;
	}
	vine_close(queue);
	if (g->queue == TASKS) {
		p.queue = -1;
		ok &= peer_stat(&p, CPU0).head.a <= accel_busy;
	} else {
		p.control = -1;
		ok &= peer_run(&p, CPU0, noop, 0, &done) && done.head.a == vine_reason_no_procedure;
	}
	return renew() && ok;
}

/* ---- fields ---- */

struct field {
	int of;				/* a good message */
	size_t offset, size;
	uint64_t bad[8];
	unsigned int count;
};

#define FIELD(of, type, field, ...)						\
	{ of, offsetof(struct type, field), sizeof(((struct type *)0)->field),	\
	  { __VA_ARGS__ }, sizeof((uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t) }
#define UNUSED(of, field)	FIELD(of, talk_head, field, 1, 2, 0x80, 0xff)
#define ABC(of)			UNUSED(of, a), UNUSED(of, b), UNUSED(of, c)
/* regions that are not there, and offsets beyond the one that is */
#define WHERE(of, type, field)							\
	FIELD(of, type, field.where, TALK_WHERE(1, 0), TALK_WHERE(47, 4096),	\
	      TALK_WHERE(48, 4096), TALK_WHERE(0xffff, 4096), TALK_WHERE(0, BYTES), \
	      TALK_WHERE(0, BYTES - 7), TALK_WHERE(0, (1ULL << 48) - 1), ~0ULL)
#define SIZE(of, type, field)							\
	FIELD(of, type, field.size, 0, BYTES, BYTES - 4095, 1ULL << 48,		\
	      1ULL << 63, ~0ULL, ~0ULL - 4095)

static const struct field fields[] = {
	ABC(HELLO),
	FIELD(HELLO, talk_hello, reserved, 1, ~0U),
	ABC(REGION),
	FIELD(REGION, talk_head, tag, 0, 48, 64, ~0U),
	ABC(REGION_GONE),
	FIELD(REGION_GONE, talk_head, tag, 1, 47, 48, ~0U),
	ABC(ACCEL),
	FIELD(ACCEL, talk_head, tag, ACCELERATORS, 1 << 16, ~0U),
	ABC(STAT),
	FIELD(STAT, talk_accel_op, id, ACCELERATORS, 1 << 16, ~0U),
	FIELD(STAT, talk_accel_op, reserved, 1, ~0U),
	ABC(ACQUIRE),
	FIELD(ACQUIRE, talk_accel_op, id, ACCELERATORS, ~0U),
	FIELD(ACQUIRE, talk_accel_op, reserved, 1, ~0U),
	ABC(RELEASE),
	FIELD(RELEASE, talk_accel_op, id, ACCELERATORS, ~0U),
	FIELD(RELEASE, talk_accel_op, reserved, 1, ~0U),
	FIELD(REGISTER, talk_head, a, VINE_ACCEL_TYPES, 0xff),
	FIELD(REGISTER, talk_head, b, 0, 1, 3, 5, 48, 49, 0xff),
	UNUSED(REGISTER, c),
	FIELD(REGISTER, talk_name, name[0], 0),
	FIELD(REGISTER, talk_name, name[4], 'x', 0xff),
	FIELD(REGISTER, talk_name, name[47], 1),
	ABC(BYTES_OF),
	FIELD(BYTES_OF, talk_head, tag, 0, 8, ~0U),
	WHERE(BYTES_OF, talk_bytes, ref),
	SIZE(BYTES_OF, talk_bytes, ref),
	FIELD(GET, talk_head, a, VINE_ACCEL_TYPES, 0xff),
	FIELD(GET, talk_head, b, 0, 3, 5, 49, 0xff),
	UNUSED(GET, c),
	FIELD(GET, talk_name, name[3], 0),
	FIELD(GET, talk_name, name[5], 'x'),
	ABC(PUT),
	FIELD(PUT, talk_head, tag, 1, ~0U),
	FIELD(PUT, talk_put, id, 0, 1 << 20, ~0U),
	FIELD(PUT, talk_put, reserved, 1, ~0U),
	ABC(TASK_REGION),
	FIELD(TASK_REGION, talk_head, tag, 0, 48, 64, ~0U),
	ABC(TASK_REGION_GONE),
	FIELD(TASK_REGION_GONE, talk_head, tag, 1, 47, 48, ~0U),
	FIELD(TASK, talk_head, a, 4, 0x80, 0xff),
	FIELD(TASK, talk_head, b, 0, 64, 0xff),
	FIELD(TASK, talk_head, c, 0, 64, 0xff),
	FIELD(TASK, talk_task, accel, ACCELERATORS, 1 << 16, ~0U),
	FIELD(TASK, talk_task, proc, 0, 1 << 20, ~0U),
	FIELD(TASK, talk_task, reserved, 1, ~0ULL),
	WHERE(TASK, talk_task, ref[0]),
	SIZE(TASK, talk_task, ref[0]),
	WHERE(TASK, talk_task, ref[1]),
	SIZE(TASK, talk_task, ref[1]),
	/* an output whose redzone would be beyond the region */
	FIELD(TASK, talk_task, ref[1].where, BYTES - 8, BYTES - 8 - TALK_REDZONE + 1),
	/* what is not needed */
	FIELD(TASK_ONE, talk_task, ref[1].where, 1, REGION_HERE),
	FIELD(TASK_ONE, talk_task, ref[1].size, 1, ~0ULL),
	FIELD(REFS, talk_head, a, 0, 1, 2, 4, 0xff),
	UNUSED(REFS, b),
	UNUSED(REFS, c),
	FIELD(REFS, talk_head, tag, 0, 599, ~0U),
	WHERE(REFS, talk_refs, ref[0]),
	SIZE(REFS, talk_refs, ref[1]),
	WHERE(REFS, talk_refs, ref[2]),
};

static void test_fields(void)
{
	unsigned int i, j, n = 0;
	union any m;
	pid_t pid;

	CHECK(begin(&pid));
	for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		const struct field *f = &fields[i];

		for (j = 0; j < f->count; j++, n++) {
			m = good[f->of].m;
			memcpy(m.byte + f->offset, &f->bad[j], f->size);
			if (!EXPECT(closes(&good[f->of], &m, good[f->of].size))) {
				printf("# %s: %#llx in %zu bytes at %zu\n", good[f->of].name,
				       (unsigned long long)f->bad[j], f->size, f->offset);
				return;
			}
		}
	}
	printf("# %u values\n", n);
	end(pid);
}

/* What the tests above begin with is no nonsense. */
static void test_good(void)
{
	struct talk_stat stat;
	struct talk_done done;
	unsigned int i;
	pid_t pid;

	CHECK(begin(&pid));
	for (i = 0; i < GOODS; i++) {
		const struct good *g = &good[i];

		if (g->queue == NEW)
			continue;
		CHECK(send_before(g));
		CHECK(peer_send(queue_of(g), &g->m, g->size));
		if (i == TASK || i == TASK_ONE || i == REFS)
			CHECK(peer_done(&p, &done) && !done.head.a);
		peer_close(&p);
		p.queue = -1;
		p.control = -1;
		CHECK(renew());
		stat = peer_stat(&p, CPU0);
		CHECK(stat.head.a <= accel_busy);
	}
	CHECK(!appliance_said("no sense"));
	end(pid);
}

static void test_lengths(void)
{
	unsigned int i;
	size_t size;
	pid_t pid;

	CHECK(begin(&pid));
	for (i = 0; i < GOODS; i++)
		for (size = 0; size <= VINE_MSG_DATA; size += size < 8 || size > 48 ? 1 : 4)
			if (size != good[i].size)
				CHECK(closes(&good[i], &good[i].m, size));
	end(pid);
}

/* Messages that come to the wrong queue, or are none, or an answer. */
static void test_ops(void)
{
	static const uint8_t on[3][32] = {
		[NEW] = { [TALK_HELLO] = 1 },
		[CONTROL] = { [TALK_REGION] = 1, [TALK_REGION_GONE] = 1, [TALK_ACCEL] = 1,
			      [TALK_STAT] = 1, [TALK_ACQUIRE] = 1, [TALK_RELEASE] = 1,
			      [TALK_REGISTER] = 1, [TALK_GET] = 1, [TALK_PUT] = 1 },
		[TASKS] = { [TALK_REGION] = 1, [TALK_REGION_GONE] = 1, [TALK_TASK] = 1 },
	};
	static const int where[3] = { HELLO, STAT, TASK };
	static const size_t sizes[] = { 8, 16, 24, 40, 48, 56 };
	unsigned int op, q, i;
	union any m;
	pid_t pid;

	CHECK(begin(&pid));
	for (q = NEW; q <= TASKS; q++) {
		for (op = 0; op < 256; op += op < 31 ? 1 : 32) {
			if (op < 32 && on[q][op])
				continue;
			for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
				memset(&m, 0, sizeof(m));
				m.head.op = op;
				CHECK(closes(&good[where[q]], &m, sizes[i]));
			}
		}
		/* with what would be right elsewhere */
		for (i = 0; i < GOODS; i++)
			if (!on[q][good[i].m.head.op])
				CHECK(closes(&good[where[q]], &good[i].m, good[i].size));
	}
	end(pid);
}

/* Messages that have to follow directly. */
static void test_order(void)
{
	struct good after_register = good[BYTES_OF], after_task = good[REFS];
	unsigned int i;
	union any m;
	pid_t pid;

	CHECK(begin(&pid));
	for (i = 0; i < GOODS; i++) {
		if (good[i].m.head.op != TALK_BYTES)
			CHECK(closes(&after_register, &good[i].m, good[i].size));
		if (good[i].m.head.op != TALK_REFS)
			CHECK(closes(&after_task, &good[i].m, good[i].size));
	}
	/* a tag that is in flight: the task waits, as the accelerator is held by another */
	{
		uint32_t held = peer_hold(&bystander, TALK_ACQUIRE, CPU0);

		m = good[TASK].m;
		CHECK(held && peer_send(p.queue, &m, good[TASK].size));
		CHECK(closes(&good[TASK], &m, good[TASK].size));
		CHECK(peer_hold(&bystander, TALK_RELEASE, held));
	}
	end(pid);
}

/* ---- any message ---- */

static uint64_t seed = 20160226;

static uint64_t any(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint64_t any_of(uint64_t n)
{
	return any() % n;
}

/* A good message, often spoilt. Its size. */
static size_t spoil(union any *m)
{
	static const uint64_t edges[] = {
		0, 1, 2, 3, 4, 7, 8, 47, 48, 49, 63, 64, 65, 127, 128, 255, 256, 4095, 4096,
		BYTES - 1, BYTES, BYTES + 1, ~0U, 1ULL << 32, 1ULL << 48, 1ULL << 63, ~0ULL,
	};
	const struct good *g = &good[1 + any_of(GOODS - 1)];
	unsigned int n = any_of(4), i;
	size_t width;
	uint64_t value;

	*m = g->m;
	if (m->head.op == TALK_TASK) {
		m->head.tag = any();
		m->task.accel = any_of(ACCELERATORS);
		m->head.b = any_of(4);
		m->head.c = any_of(4);
	}
	if (m->head.op == TALK_REGION || m->head.op == TALK_REGION_GONE)
		m->head.tag = any_of(TALK_REGIONS);
	for (i = 0; i < n && any_of(2); i++) {
		width = 1 << any_of(4);
		value = any_of(4) ? edges[any_of(sizeof(edges) / sizeof(edges[0]))] : any();
		memcpy(m->byte + any_of(g->size / width) * width, &value, width);
	}
	return any_of(50) ? g->size : any_of(VINE_MSG_DATA + 1);
}

enum { ATTACKERS = 8 };

static void reopen(struct peer *a)
{
	peer_close(a);
	if (!EXPECT(peer_open(a, BYTES)))
		return;
	peer_get(a, ANY, "noop", NULL);
	peer_get(a, ANY, "nap", NULL);
	peer_get(a, ANY, "crash", NULL);
}

static void test_any(void)
{
	static struct peer attackers[ATTACKERS];
	struct vine_msg msg, answers[64];
	unsigned int i, closed = 0, fds;
	uint32_t held;
	union any m;
	pid_t pid;
	int ret;

	CHECK(begin(&pid));
	/* that attackers hold accelerators is their right; one is the bystander's */
	held = peer_hold(&bystander, TALK_ACQUIRE, CPU1);
	CHECK(held);
	fds = count_fds(pid);
	for (i = 0; i < ATTACKERS; i++)
		attackers[i] = (struct peer){ .device = -1, .control = -1, .queue = -1, .region = -1 };
	for (i = 0; i < ATTACKERS; i++)
		reopen(&attackers[i]);
	for (i = 0; i < SCALED(100000) && !tap_failed; i++) {
		struct peer *a = &attackers[any_of(ATTACKERS)];
		int queue;

		msg = (struct vine_msg){ .len = spoil(&m) };
		memcpy(msg.data, &m, sizeof(m));
		queue = m.head.op >= TALK_TASK || !any_of(8) ? a->queue : a->control;
		ret = vine_push(queue, &msg, 1);
		while (vine_pull(queue, answers, 64, 0, 0) > 0)
			;
		if (ret == -EPIPE) {
			closed++;
			reopen(a);
		}
		if (i % 500 == 0)
			CHECK(peer_works(&bystander, held, bystander_add));
	}
	printf("# %u messages, %u queues closed\n", i, closed);
	for (i = 0; i < ATTACKERS; i++)
		peer_close(&attackers[i]);
	CHECK(EVENTUALLY(count_fds(pid) == fds));
	end(pid);
}

static const struct tap_test tests[] = {
	{ "good messages are not refused", test_good },
	{ "a value that makes no sense closes its queue alone, in every field", test_fields },
	{ "so does a message of another length", test_lengths },
	{ "so does a message that is none, an answer, or comes to the wrong queue", test_ops },
	{ "so does a message that comes when another has to follow", test_order },
	{ "a bystander does not notice 100000 spoilt messages", test_any },
};

TAP_MAIN(tests)
