// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * serve_test.c - the appliance, seen by clients that speak the protocol message by message
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_vine.h"
#include "peer.h"
#include "tap.h"
#include "uploaded.h"

#define BYTES	(1 << 16)

/* Without fake_vine.c there is a device. */
#pragma weak fake_vine_machine

static const struct vine_serve_options plain = { .size = sizeof(plain) };

/* ---- tasks ---- */

static unsigned int in_our_session(pid_t pid)
{
	return getsid(pid) == getsid(0);
}

static void test_runs(void)
{
	pid_t pid = appliance_start(&plain);
	struct peer p;
	uint32_t add;
	int i;

	CHECK(peer_open(&p, BYTES));
	CHECK(p.accels == ACCELERATORS);
	CHECK(EVENTUALLY(count_children(pid) == 2 + 5));	/* one forks workers, one is spare */
	CHECK(!each_child(pid, in_our_session));	/* nor on our terminal */
	add = peer_get(&p, ANY, "add", NULL);
	CHECK(add);
	for (i = 0; i < ACCELERATORS; i++)
		CHECK(peer_works(&p, i, add));
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

/* 32 inputs and 31 outputs, with arguments: all that a task can have. */
static void test_many_buffers(void)
{
	pid_t pid = appliance_start(&plain);
	struct talk_ref ref[TALK_BUFFERS];
	struct talk_done done;
	unsigned int i, n;
	struct peer p;
	uint32_t copy;

	CHECK(peer_open(&p, BYTES));
	copy = peer_get(&p, ANY, "copy", NULL);
	for (n = 0; n <= 31; n++) {
		memset(p.base, 0, BYTES);
		ref[0] = (struct talk_ref){ TALK_WHERE(0, 40000), 1 };
		for (i = 0; i < n; i++) {
			ref[1 + i] = (struct talk_ref){ TALK_WHERE(0, 16 * i), 16 };
			ref[1 + n + i] = (struct talk_ref){ TALK_WHERE(0, 20000 + 16 * i), 16 };
			sprintf((char *)p.base + 16 * i, "number %u", i);
		}
		CHECK(peer_issue(&p, CPU0, copy, TALK_ARGS, n, n, ref));
		CHECK(peer_done(&p, &done) && done.head.a == vine_reason_none);
		CHECK(!memcmp(p.base, p.base + 20000, 16 * n));
	}
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

static void test_call(void)
{
	const struct talk_ref ref[3] = { { 10, 3 }, { 100, 70 }, { 4096, 512 } };
	pid_t pid = appliance_start(&plain);
	struct talk_done done;
	struct vine_call call;
	struct peer p;

	CHECK(peer_open(&p, BYTES));
	CHECK(peer_issue(&p, GPU0, peer_get(&p, GPU, "describe", NULL), TALK_ARGS, 1, 1, ref));
	CHECK(peer_done(&p, &done) && done.head.a == vine_reason_none);
	memcpy(&call, p.base + 4096, sizeof(call));
	CHECK(call.size == sizeof(call) && call.type == GPU && call.in_count == 1 &&
	      call.out_count == 1 && !call.bytes && !call.bytes_size && call.args.size == 3 &&
	      call.args.address);
	/* without arguments */
	CHECK(peer_issue(&p, GPU0, peer_get(&p, GPU, "describe", NULL), 0, 1, 1, ref + 1));
	CHECK(peer_done(&p, &done) && done.head.a == vine_reason_none);
	memcpy(&call, p.base + 4096, sizeof(call));
	CHECK(!call.args.address && !call.args.size);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

static void test_accelerators(void)
{
	static const struct { const char *name; int type; uint64_t pci; } is[] = {
		{ "cpu0", CPU, 0 }, { "cpu1", CPU, 0 }, { "gpu0", GPU, 1ULL << 63 | 1 << 8 },
		{ "fpga0", FPGA, 0 },
	};
	pid_t pid = appliance_start(&plain);
	struct talk_accel_get get = { .head.op = TALK_ACCEL };
	struct talk_accel accel;
	struct peer p;
	uint32_t i;

	CHECK(peer_open(&p, BYTES));
	for (i = 0; i < ACCELERATORS; i++) {
		get.head.tag = i;
		CHECK(peer_ask(p.control, &get, sizeof(get), &accel, sizeof(accel)));
		CHECK(accel.head.op == TALK_ACCEL && accel.head.tag == i && accel.id == i &&
		      !strcmp(accel.name, is[i].name) && accel.head.a == is[i].type &&
		      accel.pci == is[i].pci);
	}
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

static void test_statistics(void)
{
	const struct talk_ref ref[2] = { { 0, 1 }, { 64, 1 } };
	pid_t pid = appliance_start(&plain);
	uint32_t add, wait, error;
	struct talk_done done;
	struct talk_stat stat;
	struct peer p;

	CHECK(peer_open(&p, BYTES));
	add = peer_get(&p, ANY, "add", NULL);
	wait = peer_get(&p, ANY, "wait", NULL);
	error = peer_get(&p, ANY, "error", NULL);
	CHECK(peer_works(&p, CPU0, add) && peer_run(&p, CPU0, error, 0, &done));
	stat = peer_stat(&p, CPU0);
	CHECK(stat.head.a == accel_idle && stat.done == 1 && stat.failed == 1 &&
	      !stat.queued && !stat.running && stat.busy_ns);
	p.base[64] = 0;
	CHECK(peer_issue(&p, CPU0, wait, 0, 1, 1, ref) && peer_issue(&p, CPU0, wait, 0, 1, 1, ref));
	/* tasks come on another queue than what asks for them */
	CHECK(EVENTUALLY((stat = peer_stat(&p, CPU0)).queued == 1 && stat.running == 1));
	CHECK(stat.head.a == accel_busy);
	CHECK(peer_stat(&p, CPU1).head.a == accel_idle);
	p.base[0] = 1;
	CHECK(peer_done(&p, &done) && peer_done(&p, &done));
	CHECK(peer_stat(&p, CPU0).done == 3);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

/* ---- handlers that fail ---- */

static bool fails_on(const char *name, unsigned int flags, int reason, int detail,
		     const struct vine_serve_options *options)
{
	pid_t pid = appliance_start(options);
	uint32_t add, bad, bystander_add;
	struct peer p, bystander;
	struct talk_done done;
	int i;

	if (!EXPECT(peer_open(&p, BYTES) && peer_open(&bystander, BYTES)))
		return false;
	add = peer_get(&p, ANY, "add", NULL);
	bystander_add = peer_get(&bystander, ANY, "add", NULL);
	bad = peer_get(&p, ANY, name, NULL);
	if (!EXPECT(add && bad && bystander_add))
		return false;
	memset(p.base + 4096 + 64, TALK_REDZONE_BYTE, TALK_REDZONE);
	for (i = 0; i < 3; i++) {
		unsigned int said = appliance_said(NULL);

		if (!EXPECT(peer_run(&p, GPU0, bad, flags, &done)))
			return false;
		EXPECT(done.head.a == reason && done.detail == detail && done.started &&
		       done.started <= done.ended && done.ended <= done.sent);
		EXPECT(appliance_said(NULL) == said + 1 && appliance_said(name));
		EXPECT(peer_works(&p, GPU0, add) && peer_works(&bystander, GPU0, bystander_add));
		memset(p.base + 4096 + 64, TALK_REDZONE_BYTE, TALK_REDZONE);
	}
	EXPECT(peer_stat(&p, GPU0).failed == 3);
	peer_close(&p);
	peer_close(&bystander);
	EXPECT(appliance_stop(pid) == 0);
	return true;
}

static void test_crashes(void)
{
	fails_on("crash", 0, vine_reason_crashed, SIGSEGV, &plain);
	fails_on("far", 0, vine_reason_crashed, SIGSEGV, &plain);
	fails_on("stack", 0, vine_reason_crashed, SIGSEGV, &plain);
	fails_on("abort", 0, vine_reason_crashed, SIGABRT, &plain);
}

static void test_exits(void)
{
	fails_on("exit", 0, vine_reason_crashed, 0, &plain);
}

static void test_error(void)
{
	fails_on("error", 0, vine_reason_handler, EDOM, &plain);
}

static void test_overrun(void)
{
	fails_on("past", TALK_REDZONES, vine_reason_overrun, 0, &plain);
}

static void test_forged(void)
{
	fails_on("forge", 0, vine_reason_crashed, SIGKILL, &plain);
	fails_on("desert", 0, vine_reason_crashed, SIGKILL, &plain);
}

/* In a slow guest what does not hang may take its time, too. */
static const struct vine_serve_options limited = {
	.size = sizeof(limited), .time_limit_ms = UNIT_PERCENT < 10 ? 5000 : 1000,
};

static void test_hangs(void)
{
	fails_on("hang", 0, vine_reason_timeout, 0, &limited);
}

/* The second one begins when the first has its limit already. */
static void test_both_hang(void)
{
	const struct talk_ref ref[2][2] = { { { 0, 64 }, { 4096, 64 } }, { { 0, 64 }, { 8192, 64 } } };
	pid_t pid = appliance_start(&limited);
	struct talk_done done;
	struct peer p;
	uint32_t hang;
	int i;

	CHECK(peer_open(&p, BYTES));
	hang = peer_get(&p, ANY, "hang", NULL);
	for (i = 0; i < 2; i++) {
		CHECK(peer_issue(&p, i ? CPU1 : CPU0, hang, 0, 1, 1, ref[i]));
		CHECK(EVENTUALLY(*(volatile uint8_t *)(p.base + ref[i][1].where) == 'r'));
	}
	for (i = 0; i < 2; i++)
		CHECK(peer_done(&p, &done) && done.head.a == vine_reason_timeout);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

/* What the client has done to a redzone itself, and what it has not asked for. */
static void test_own_damage(void)
{
	pid_t pid = appliance_start(&plain);
	struct talk_done done;
	struct peer p;
	uint32_t noop, past;

	CHECK(peer_open(&p, BYTES));
	noop = peer_get(&p, ANY, "noop", NULL);
	past = peer_get(&p, ANY, "past", NULL);
	memset(p.base + 4096 + 64, TALK_REDZONE_BYTE, TALK_REDZONE);
	p.base[4096 + 64 + TALK_REDZONE - 1]++;
	CHECK(peer_run(&p, CPU0, noop, TALK_REDZONES, &done) && !done.head.a);
	CHECK(peer_run(&p, CPU0, past, 0, &done) && !done.head.a);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

static bool ends(pid_t pid)
{
	return EVENTUALLY(!process_state(pid) || process_state(pid) == 'Z');
}

/* What a handler leaves behind goes with its worker, and with the appliance. */
static void test_children(void)
{
	const struct talk_ref ref[2] = { { 0, 64 }, { 4096, 64 } };
	static const struct { const char *name; int reason; } by[] = {
		{ "child", vine_reason_timeout }, { "orphan", vine_reason_crashed },
	};
	pid_t pid = appliance_start(&limited), child;
	struct talk_done done;
	struct peer p;
	int i;

	CHECK(peer_open(&p, BYTES));
	for (i = 0; i < 2; i++) {
		CHECK(peer_issue(&p, CPU0, peer_get(&p, ANY, by[i].name, NULL), 0, 1, 1, ref));
		CHECK(peer_done(&p, &done) && done.head.a == by[i].reason);
		memcpy(&child, p.base + 4096 + 4, sizeof(child));
		CHECK(child > 0 && ends(child));
	}
	CHECK(appliance_stop(pid) == 0);
	peer_close(&p);
	pid = appliance_start(&plain);
	CHECK(peer_open(&p, BYTES));
	CHECK(peer_issue(&p, CPU0, peer_get(&p, ANY, "child", NULL), 0, 1, 1, ref));
	CHECK(EVENTUALLY(*(volatile uint8_t *)(p.base + 4096) == 'r'));
	memcpy(&child, p.base + 4096 + 4, sizeof(child));
	CHECK(appliance_stop(pid) == 0);
	CHECK(child > 0 && ends(child));
	peer_close(&p);
}

/* Beyond a region there is nothing that could be written to. */
static void test_guard(void)
{
	const struct talk_ref ref[2] = { { 0, 64 }, { BYTES - 64, 64 } };
	pid_t pid = appliance_start(&plain);
	struct talk_done done;
	struct peer p;

	CHECK(peer_open(&p, BYTES));
	CHECK(p.bytes == BYTES);
	CHECK(peer_issue(&p, CPU0, peer_get(&p, ANY, "past", NULL), 0, 1, 1, ref));
	CHECK(peer_done(&p, &done) && done.head.a == vine_reason_crashed &&
	      done.detail == SIGSEGV);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

/* A stray pointer leads to no other client's memory. */
static void test_reach(void)
{
	pid_t pid = appliance_start(&plain);
	uint32_t add[2], keep[2], stray[2];
	struct talk_done done;
	struct peer p[2];
	int i;

	for (i = 0; i < 2; i++) {
		CHECK(peer_open(&p[i], BYTES));
		add[i] = peer_get(&p[i], ANY, "add", NULL);
		keep[i] = peer_get(&p[i], ANY, "keep", NULL);
		stray[i] = peer_get(&p[i], ANY, "stray", NULL);
	}
	for (i = 0; i < 6; i++)
		CHECK(peer_works(&p[i % 2], CPU0, add[i % 2]));
	/* its own it may write to, also when another one was there meanwhile */
	CHECK(peer_run(&p[0], CPU0, keep[0], 0, &done) && !done.head.a);
	CHECK(peer_works(&p[1], CPU0, add[1]));
	CHECK(peer_run(&p[0], CPU0, stray[0], 0, &done) && !done.head.a && p[0].base[4096] == 's');
	CHECK(peer_run(&p[0], CPU0, keep[0], 0, &done) && p[0].base[4096] == 'k');
	CHECK(peer_run(&p[1], CPU0, stray[1], 0, &done));
	CHECK(done.head.a == vine_reason_crashed && done.detail == SIGSEGV);
	CHECK(p[0].base[4096] == 'k');
	for (i = 0; i < 2; i++)
		peer_close(&p[i]);
	CHECK(appliance_stop(pid) == 0);
}

/* ---- procedures ---- */

static void test_procedures(void)
{
	pid_t pid = appliance_start(&plain);
	uint32_t one, two;
	struct peer p, q;
	struct talk_done done;
	int status;

	CHECK(peer_open(&p, BYTES) && peer_open(&q, BYTES));
	one = peer_register(&p, CPU, "bytes", "abc", 3, &status);
	CHECK(one && !status);
	CHECK(peer_register(&q, CPU, "bytes", "abc", 3, &status) && !status);
	CHECK(peer_register(&p, CPU, "bytes", "abc", 3, &status) == one);
	CHECK(!peer_register(&q, CPU, "bytes", "abd", 3, &status) && status == 1);
	CHECK(!peer_register(&q, CPU, "bytes", "abcd", 4, &status) && status == 1);
	CHECK(!peer_register(&q, CPU, "bytes", NULL, 0, &status) && status == 1);
	CHECK(peer_get(&p, CPU, "bytes", &status) == one && !status);
	CHECK(peer_get(&q, CPU, "bytes", &status) && !status);
	/* another type, another procedure */
	two = peer_register(&q, GPU, "bytes", "other", 5, &status);
	CHECK(two && two != peer_get(&q, CPU, "bytes", NULL));
	CHECK(!peer_register(&q, GPU_SOFT, "bytes", "abc", 3, &status) && status == 2);
	CHECK(!peer_get(&q, GPU_SOFT, "noop", &status) && status == 2);
	CHECK(!peer_get(&q, ANY, "nobody knows it", &status) && status == 1);
	CHECK(!peer_get(&q, GPU, "cpu only", &status) && status == 1);
	CHECK(peer_get(&q, CPU, "cpu only", &status) && !status);
	/* the handler sees the bytes of its own */
	CHECK(peer_run(&p, CPU0, one, 0, &done) && !done.head.a);
	CHECK(!memcmp(p.base + 4096, "abc", 3));
	CHECK(peer_run(&q, GPU0, two, 0, &done) && !done.head.a);
	CHECK(!memcmp(q.base + 4096, "other", 5));
	CHECK(peer_run(&q, CPU1, peer_get(&q, CPU, "bytes", NULL), 0, &done) && !done.head.a);
	CHECK(!memcmp(q.base + 4096, "abc", 3));
	CHECK(peer_run(&q, CPU1, two, 0, &done) && done.head.a == vine_reason_no_procedure);
	CHECK(peer_run(&p, GPU0, peer_get(&p, ANY, "cpu only", NULL), 0, &done) &&
	      done.head.a == vine_reason_no_procedure);
	peer_close(&p);
	peer_close(&q);
	CHECK(appliance_stop(pid) == 0);
}

static bool put(struct peer *p, uint32_t id)
{
	struct talk_put put = { .head.op = TALK_PUT, .id = id };

	return peer_send(p->control, &put, sizeof(put));
}

static void test_references(void)
{
	pid_t pid = appliance_start(&plain);
	struct peer p, q, r;
	uint32_t id, qs;
	int status;

	CHECK(peer_open(&p, BYTES) && peer_open(&q, BYTES) && peer_open(&r, BYTES));
	id = peer_register(&p, ANY, "bytes", "first", 5, NULL);
	CHECK(peer_register(&p, ANY, "bytes", "first", 5, NULL) == id);
	qs = peer_get(&q, ANY, "bytes", NULL);
	CHECK(id && qs);
	/* one put of two, the death of one client of two: still there */
	CHECK(put(&p, id));
	CHECK(!peer_register(&r, ANY, "bytes", "second", 6, &status) && status == 1);
	peer_close(&p);
	CHECK(!peer_register(&r, ANY, "bytes", "second", 6, &status) && status == 1);
	CHECK(put(&q, qs));
	/* q's put and r's request come on two queues */
	CHECK(EVENTUALLY(peer_register(&r, ANY, "bytes", "second", 6, &status)));
	peer_close(&r);
	/* an id is not used again */
	CHECK(EVENTUALLY((id = peer_register(&q, ANY, "bytes", "third", 5, &status))));
	CHECK(id != qs);
	peer_close(&q);
	CHECK(appliance_stop(pid) == 0);
}

/* A task in flight keeps its procedure, and its region. */
static void test_in_flight(void)
{
	const struct talk_ref ref[2] = { { 0, 1 }, { 64, 1 } };
	struct talk_region_gone gone = { .head = { .op = TALK_REGION_GONE } };
	pid_t pid = appliance_start(&plain);
	struct talk_done done;
	struct peer p;
	uint32_t wait;

	CHECK(peer_open(&p, BYTES));
	wait = peer_register(&p, ANY, "wait", "x", 1, NULL);
	p.base[0] = 0;
	CHECK(peer_issue(&p, CPU0, wait, 0, 1, 1, ref) && peer_issue(&p, CPU0, wait, 0, 1, 1, ref));
	CHECK(EVENTUALLY(*(volatile uint8_t *)(p.base + 64) == 'r'));
	CHECK(peer_send(p.queue, &gone, sizeof(gone)));
	CHECK(put(&p, wait));
	/* the index is free again: the message has come */
	CHECK(peer_attach(&p, p.queue, 0) && peer_works(&p, CPU1, peer_get(&p, ANY, "add", NULL)));
	p.base[0] = 1;
	CHECK(peer_done(&p, &done) && !done.head.a && peer_done(&p, &done) && !done.head.a);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

static void test_limits(void)
{
	struct vine_serve_options small = { .size = sizeof(small), .bytes_max = 1000 };
	pid_t pid = appliance_start(&small);
	static const char bytes[1001];
	char name[24];
	struct peer p;
	int status, i;

	CHECK(peer_open(&p, BYTES));
	CHECK(!peer_register(&p, ANY, "large", bytes, 1001, &status) && status == 3);
	for (i = 0; i < 4; i++) {
		sprintf(name, "full %d", i);
		CHECK(peer_register(&p, ANY, name, bytes, 1000, &status) && !status);
	}
	CHECK(!peer_register(&p, ANY, "one more", bytes, 1, &status) && status == 3);
	CHECK(peer_register(&p, ANY, "no bytes", NULL, 0, &status) && !status);
	for (i = 0; i < 251; i++) {
		sprintf(name, "name %d", i);
		CHECK(peer_register(&p, ANY, name, NULL, 0, &status) && !status);
	}
	CHECK(!peer_register(&p, ANY, "too many", NULL, 0, &status) && status == 3);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

/* The client's memory is away: an error for the client, and no signal. */
static void test_memory_away(void)
{
	pid_t pid = appliance_start(&plain);
	struct talk_name n = { .head = { TALK_REGISTER, ANY, 1, 0, 9 }, .name = "b" };
	struct talk_bytes b = { .head = { .op = TALK_BYTES, .tag = 9 }, .ref = { 0, 8 } };
	struct talk_proc proc;
	struct talk_done done;
	struct peer p, q;

	CHECK(peer_open(&p, BYTES) && peer_open(&q, BYTES));
	CHECK(peer_works(&p, CPU0, peer_get(&p, ANY, "add", NULL)));
	vine_unmap(p.base, p.bytes);
	p.base = NULL;
	CHECK(!ftruncate(p.region, 0));
	CHECK(peer_send(p.control, &n, sizeof(n)) &&
	      peer_ask(p.control, &b, sizeof(b), &proc, sizeof(proc)) && proc.head.a == 3);
	CHECK(peer_run(&p, CPU0, peer_get(&p, ANY, "copy", NULL), 0, &done));
	CHECK(done.head.a == vine_reason_crashed && done.detail == SIGBUS);
	CHECK(peer_works(&q, CPU0, peer_get(&q, ANY, "add", NULL)));
	peer_close(&p);
	peer_close(&q);
	CHECK(appliance_stop(pid) == 0);
}

static void test_bad_region(void)
{
	struct talk_region region = { .head = { .op = TALK_REGION, .tag = 1 }, .id = 12345 };
	const struct talk_ref ref[2] = { { TALK_WHERE(1, 0), 8 }, { 64, 8 } };
	pid_t pid = appliance_start(&plain);
	struct talk_done done;
	struct peer p;
	uint32_t noop;

	CHECK(peer_open(&p, BYTES));
	noop = peer_get(&p, ANY, "noop", NULL);
	CHECK(peer_send(p.queue, &region, sizeof(region)));
	CHECK(peer_issue(&p, CPU0, noop, 0, 1, 1, ref));
	CHECK(peer_done(&p, &done) && done.head.a == vine_reason_bad_data && !done.started);
	CHECK(peer_works(&p, CPU0, peer_get(&p, ANY, "add", NULL)));
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

/* That a region is known already does not mean that it is attached to this queue, too. */
static void test_not_attached(void)
{
	const struct talk_ref ref[2] = { { TALK_WHERE(1, 0), 8 }, { TALK_WHERE(1, 64), 8 } };
	struct talk_region region = { .head = { .op = TALK_REGION, .tag = 1 } };
	pid_t pid = appliance_start(&plain);
	struct talk_done done;
	struct peer p;
	uint32_t add;

	CHECK(peer_open(&p, BYTES));
	add = peer_get(&p, ANY, "add", NULL);
	CHECK(peer_works(&p, CPU0, add) && !vine_attach(p.queue, p.region, &region.id));
	/* the fake device imports what is open */
	close(p.region);
	p.region = -1;
	CHECK(peer_send(p.queue, &region, sizeof(region)));
	CHECK(peer_issue(&p, CPU0, peer_get(&p, ANY, "noop", NULL), 0, 1, 1, ref));
	CHECK(peer_done(&p, &done) && done.head.a == vine_reason_bad_data);
	CHECK(peer_works(&p, CPU0, add));
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

/* ---- exclusive and shared ---- */

static void test_exclusive(void)
{
	const struct talk_ref ref[2] = { { 0, 8 }, { 64, 8 } };
	pid_t pid = appliance_start(&plain);
	struct talk_done done;
	struct peer p, q;
	uint32_t held, noop, add;

	CHECK(peer_open(&p, BYTES) && peer_open(&q, BYTES));
	noop = peer_get(&q, ANY, "noop", NULL);
	add = peer_get(&p, ANY, "add", NULL);
	held = peer_hold(&p, TALK_ACQUIRE, CPU0);
	CHECK(held >= ACCELERATORS);
	/* ids are a session's own: this was one of q's, and is none any more */
	CHECK(peer_hold(&q, TALK_ACQUIRE, CPU1) == held);
	CHECK(peer_hold(&q, TALK_RELEASE, held) == held);
	CHECK(!peer_hold(&q, TALK_ACQUIRE, CPU0) && !peer_hold(&p, TALK_ACQUIRE, CPU0));
	CHECK(!peer_hold(&p, TALK_ACQUIRE, held) && !peer_hold(&p, TALK_RELEASE, CPU0));
	CHECK(!peer_hold(&q, TALK_RELEASE, held));
	CHECK(peer_stat(&q, CPU0).head.a == accel_busy);
	CHECK(peer_stat(&p, held).head.a == accel_busy);
	CHECK(peer_stat(&q, held).head.a == accel_failed);
	/* another's virtual accelerator is none */
	CHECK(peer_run(&q, held, noop, 0, &done) && done.head.a == vine_reason_no_accelerator);
	/* its own tasks run, by either number; others wait */
	CHECK(peer_issue(&q, CPU0, noop, 0, 1, 1, ref));
	CHECK(EVENTUALLY(peer_stat(&q, CPU0).queued == 1));
	CHECK(peer_works(&p, held, add) && peer_works(&p, CPU0, add));
	CHECK(peer_stat(&q, CPU0).queued == 1);
	CHECK(peer_hold(&p, TALK_RELEASE, held) == held);
	CHECK(peer_done(&q, &done) && !done.head.a);
	CHECK(!peer_hold(&p, TALK_RELEASE, held));
	CHECK(peer_run(&p, held, add, 0, &done) && done.head.a == vine_reason_no_accelerator);
	/* a death releases */
	CHECK(peer_hold(&p, TALK_ACQUIRE, CPU0));
	CHECK(peer_issue(&q, CPU0, noop, 0, 1, 1, ref));
	peer_close(&p);
	CHECK(peer_done(&q, &done) && !done.head.a);
	peer_close(&q);
	CHECK(appliance_stop(pid) == 0);
}

/* ---- who waits for whom ---- */

static void test_slow_accelerator(void)
{
	const struct talk_ref ref[2] = { { 0, 1 }, { 64, 1 } };
	pid_t pid = appliance_start(&plain);
	struct talk_done done;
	struct peer p;
	uint32_t wait, add;
	int i;

	CHECK(peer_open(&p, BYTES));
	wait = peer_get(&p, ANY, "wait", NULL);
	add = peer_get(&p, ANY, "add", NULL);
	for (i = 0; i < 100; i++)
		CHECK(peer_issue(&p, CPU0, wait, 0, 1, 1, ref));
	for (i = 0; i < 100; i++)
		CHECK(peer_works(&p, CPU1, add));
	p.base[0] = 1;
	for (i = 0; i < 100; i++)
		CHECK(peer_done(&p, &done) && !done.head.a);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

/* It fills its own rings, and the appliance goes on with others; nothing is lost. */
static void test_does_not_read(void)
{
	const struct talk_ref ref[2] = { { 0, 8 }, { 64, 8 } };
	pid_t pid = appliance_start(&plain);
	struct vine_msg msg = { .len = sizeof(struct talk_task) };
	struct talk_task task = { .head = { .op = TALK_TASK, .b = 1, .c = 1 }, .accel = CPU0 };
	unsigned int sent = 0, got = 0, idle = 0;
	struct talk_done done;
	struct peer p, q;
	uint32_t add;

	CHECK(peer_open(&p, BYTES) && peer_open(&q, BYTES));
	add = peer_get(&q, ANY, "add", NULL);
	task.proc = peer_get(&p, ANY, "noop", NULL);
	memcpy(task.ref, ref, sizeof(ref));
	/* until it has not taken any for a while */
	while (idle < 200) {
		task.head.tag = sent;
		memcpy(msg.data, &task, sizeof(task));
		if (vine_push(p.queue, &msg, 1) == 1) {
			sent++;
			idle = 0;
		} else {
			idle++;
			CHECK(peer_works(&q, CPU0, add));
		}
	}
	CHECK(sent > 512 && sent < 2048);
	for (; got < sent; got++)
		CHECK(peer_done(&p, &done) && !done.head.a);
	peer_close(&p);
	peer_close(&q);
	CHECK(appliance_stop(pid) == 0);
}

/* Of 64 endpoints one is the appliance's, and a client that is to die may not be gone yet. */
enum { CLIENTS = 64, ENDPOINTS = 60, EACH = 100 };

/* Keeps @depth tasks in flight. */
struct runner {
	struct peer p;
	uint32_t nap;
	unsigned int depth, issued, done;
};

static bool push_tasks(struct runner *r)
{
	struct vine_msg msg = { .len = sizeof(struct talk_task) };
	struct talk_task task = {
		.head = { .op = TALK_TASK, .b = 1, .c = 1 }, .proc = r->nap,
		.ref = { { 0, 8 }, { 64, 8 } },
	};
	int n;

	while (r->issued < EACH && r->issued - r->done < r->depth) {
		task.accel = r->issued % ACCELERATORS;
		task.head.tag = r->issued;
		memcpy(msg.data, &task, sizeof(task));
		n = vine_push(r->p.queue, &msg, 1);
		if (n != 1)
			return n == -EAGAIN;
		r->issued++;
	}
	return true;
}

static bool pull_tasks(struct runner *r)
{
	struct vine_msg msgs[16];
	int n = vine_pull(r->p.queue, msgs, 16, 0, 0);

	if (n > 0)
		r->done += n;
	return n > 0 || n == -EAGAIN;
}

/* Some are greedy, some are not; when the first is done, all have come as far. */
static void test_fair(void)
{
	static struct runner r[CLIENTS];
	pid_t pid = appliance_start(&plain);
	double sum = 0, squares = 0, jain;
	int clients = peer_endpoint() ? ENDPOINTS : CLIENTS, i;
	bool first = false;

	for (i = 0; i < clients; i++) {
		CHECK(peer_open(&r[i].p, BYTES));
		r[i].nap = peer_get(&r[i].p, ANY, "nap", NULL);
		r[i].depth = i % 2 ? 16 : 128;
	}
	while (!first) {
		for (i = 0; i < clients; i++)
			CHECK(push_tasks(&r[i]));
		for (i = 0; i < clients; i++)
			CHECK(pull_tasks(&r[i]));
		for (i = 0; i < clients; i++)
			first |= r[i].done == EACH;
	}
	for (i = 0; i < clients; i++) {
		sum += r[i].done;
		squares += (double)r[i].done * r[i].done;
		peer_close(&r[i].p);
	}
	jain = sum * sum / (clients * squares);
	printf("# Jain's index %.4f\n", jain);
	CHECK(jain >= 0.98);
	CHECK(appliance_stop(pid) == 0);
}

/* ---- deaths ---- */

/* Mappings of clients' memory in a process. */
static unsigned int mappings(pid_t pid)
{
	char path[64], line[512];
	unsigned int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, "vine-region") || strstr(line, "vine-procedure");
	if (f)
		fclose(f);
	return n;
}

static unsigned int is_zombie(pid_t pid)
{
	return process_state(pid) == 'Z';
}

/* Nothing is left of clients; the appliance has @fds descriptors. */
static bool quiet(pid_t pid, unsigned int fds)
{
	return count_fds(pid) == fds && !each_child(pid, mappings) && !each_child(pid, is_zombie);
}

/* One child process per death: it kills itself after so many messages. */
static void test_deaths(void)
{
	const struct talk_ref ref[2] = { { 0, 1 }, { 64, 1 } };
	pid_t pid = appliance_start(&plain), child;
	struct peer q, p;
	unsigned int idle = count_fds(pid), fds;
	uint32_t add;
	int i, n;

	CHECK(peer_open(&q, BYTES));
	add = peer_get(&q, ANY, "add", NULL);
	fds = count_fds(pid);
	for (i = 0; i < SCALED(60); i++) {
		child = fork();
		if (child == 0) {
			uint32_t procedures[3];

			if (!peer_open(&p, BYTES))
				_exit(1);
			procedures[0] = peer_register(&p, ANY, "bytes", "abc", 3, NULL);
			procedures[1] = peer_get(&p, ANY, "wait", NULL);
			procedures[2] = peer_get(&p, ANY, "crash", NULL);
			if (i % 3 == 0)
				peer_hold(&p, TALK_ACQUIRE, i % ACCELERATORS);
			for (n = 0; n < i; n++)
				peer_issue(&p, n % ACCELERATORS, procedures[n % 3], 0, 1, 1, ref);
			raise(SIGKILL);
		}
		waitpid(child, NULL, 0);
		CHECK(peer_works(&q, i % ACCELERATORS, add));
	}
	/* but for q's own region */
	CHECK(EVENTUALLY(count_fds(pid) == fds));
	peer_close(&q);
	CHECK(EVENTUALLY(quiet(pid, idle)));
	CHECK(appliance_stop(pid) == 0);
}

/* Nobody waits for it any more; and no time limit is needed. */
static void test_dies_at_work(void)
{
	const struct talk_ref ref[2] = { { 0, 64 }, { 4096, 64 } };
	pid_t pid = appliance_start(&plain);
	unsigned int fds = count_fds(pid);
	struct peer p, q;

	CHECK(peer_open(&p, BYTES) && peer_open(&q, BYTES));
	CHECK(peer_issue(&p, CPU0, peer_get(&p, ANY, "hang", NULL), 0, 1, 1, ref));
	CHECK(EVENTUALLY(*(volatile uint8_t *)(p.base + 4096) == 'r'));
	peer_close(&p);
	CHECK(peer_works(&q, CPU0, peer_get(&q, ANY, "add", NULL)));
	CHECK(appliance_said("its client has gone") == 1);
	peer_close(&q);
	CHECK(EVENTUALLY(quiet(pid, fds)));
	CHECK(appliance_stop(pid) == 0);
}

/* A process has many queues, and its region is imported once. */
static void test_many_queues(void)
{
	pid_t pid = appliance_start(&plain);
	unsigned int idle = count_fds(pid), fds, own, i;
	struct talk_welcome welcome;
	int queues[20];
	struct peer p;
	uint32_t add;

	CHECK(peer_open(&p, BYTES));
	add = peer_get(&p, ANY, "add", NULL);
	CHECK(peer_works(&p, CPU0, add));
	fds = count_fds(pid);
	own = count_fds(getpid());
	for (i = 0; i < 20; i++) {
		queues[i] = peer_queue(&p, p.token, &welcome);
		CHECK(queues[i] >= 0 && !welcome.head.a && peer_attach(&p, queues[i], 3));
	}
	CHECK(peer_works(&p, CPU0, add));
	/* a queue takes as many on each side */
	own = count_fds(getpid()) - own;
	CHECK(own == 20 * (peer_endpoint() ? 2 : 1));
	CHECK(EVENTUALLY(count_fds(pid) == fds + own));
	CHECK(each_child(pid, mappings) == 1);
	for (i = 0; i < 20; i++)
		vine_close(queues[i]);
	CHECK(EVENTUALLY(count_fds(pid) == fds));
	CHECK(peer_works(&p, CPU0, add));
	peer_close(&p);
	CHECK(EVENTUALLY(quiet(pid, idle)));
	CHECK(appliance_stop(pid) == 0);
}

/* More regions than a worker keeps mapped. */
static void test_many_regions(void)
{
	pid_t pid = appliance_start(&plain);
	struct peer p, q;
	uint32_t add;
	int i;

	CHECK(peer_open(&q, BYTES));
	CHECK(peer_works(&q, CPU0, peer_get(&q, ANY, "add", NULL)));
	for (i = 0; i < 600; i++) {
		CHECK(peer_open(&p, BYTES));
		add = peer_get(&p, ANY, "add", NULL);
		CHECK(peer_works(&p, CPU0, add));
		peer_close(&p);
	}
	CHECK(peer_works(&q, CPU0, peer_get(&q, ANY, "add", NULL)));
	peer_close(&q);
	CHECK(EVENTUALLY(!each_child(pid, mappings)));
	CHECK(appliance_stop(pid) == 0);
}

/* ---- who is let in ---- */

static void test_strangers(void)
{
	struct talk_hello hello = { .head.op = TALK_HELLO, .version = TALK_VERSION + 1 };
	pid_t pid = appliance_start(&plain);
	struct talk_welcome welcome;
	uint64_t token[2];
	struct peer p;
	int queue;

	CHECK(peer_open(&p, BYTES));
	CHECK(p.token[0] && p.token[1]);
	memcpy(token, p.token, sizeof(token));
	token[1] ^= 1ULL << 63;
	queue = peer_queue(&p, token, &welcome);
	CHECK(queue >= 0 && welcome.head.a == 1 && !welcome.token[0] && !welcome.token[1]);
	vine_close(queue);
	queue = vine_connect(p.device, "vinetalk", 64, 0, vine_deadline_ms(PATIENCE_MS), NULL);
	CHECK(peer_ask(queue, &hello, sizeof(hello), &welcome, sizeof(welcome)));
	CHECK(welcome.head.a == 1 && welcome.version == TALK_VERSION);
	vine_close(queue);
	/* a session that is over lets nobody in */
	vine_close(p.control);
	p.control = -1;
	CHECK(EVENTUALLY((queue = peer_queue(&p, p.token, &welcome)) >= 0 &&
			 (vine_close(queue), welcome.head.a == 1)));
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

/* Its control queue has gone: task queues stay, and know nothing any more. */
static void test_session_over(void)
{
	pid_t pid = appliance_start(&plain);
	struct talk_done done;
	struct peer p;
	uint32_t noop;

	CHECK(peer_open(&p, BYTES));
	noop = peer_get(&p, ANY, "noop", NULL);
	CHECK(peer_run(&p, CPU0, noop, 0, &done) && !done.head.a);
	vine_close(p.control);
	p.control = -1;
	CHECK(EVENTUALLY(peer_run(&p, CPU0, noop, 0, &done) &&
			 done.head.a == vine_reason_no_procedure));
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

/* ---- uploaded code ---- */

static char *read_object(const char *name, size_t *size)
{
	FILE *f = fopen(peer_file(name), "r");
	struct stat st;
	char *bytes;

	if (!f || fstat(fileno(f), &st))
		return NULL;
	bytes = malloc(st.st_size);
	*size = fread(bytes, 1, st.st_size, f);
	fclose(f);
	return *size == (size_t)st.st_size ? bytes : NULL;
}

static char *read_upload(size_t *size)
{
	return read_object("faults/uploaded.so", size);
}

static void test_code_not_allowed(void)
{
	pid_t pid = appliance_start(&plain);
	struct talk_done done;
	struct peer p;
	size_t size;
	char *bytes = read_upload(&size);

	CHECK(bytes && peer_open(&p, size));
	CHECK(peer_run(&p, CPU0, peer_register(&p, ANY, "mine", bytes, size, NULL), 0, &done));
	CHECK(done.head.a == vine_reason_not_allowed);
	CHECK(peer_run(&p, CPU0, peer_register(&p, ANY, "text", "no code", 7, NULL), 0, &done));
	CHECK(done.head.a == vine_reason_no_procedure);
	free(bytes);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

static bool run_order(struct peer *p, uint32_t accel, uint32_t mine,
		      const struct uploaded_order *order, struct talk_done *done)
{
	const struct talk_ref ref[2] = { { 0, sizeof(*order) },
					 { 4096, sizeof(struct uploaded_facts) } };

	memcpy(p->base, order, sizeof(*order));
	return peer_issue(p, accel, mine, 0, 1, 1, ref) && peer_done(p, done);
}

/* Runs it, and finds out what it can see of @of. */
static bool run_code(struct peer *p, uint32_t accel, uint32_t mine, const struct peer *of,
		     struct uploaded_facts *facts)
{
	struct uploaded_order order = { .secret = { ~of->token[0], ~of->token[1] } };
	struct talk_done done;

	if (!run_order(p, accel, mine, &order, &done) || done.head.a != vine_reason_none)
		return false;
	memcpy(facts, p->base + 4096, sizeof(*facts));
	return true;
}

static void test_code(void)
{
	const struct vine_serve_options allow = { .size = sizeof(allow), .allow_code = 1 };
	const struct uploaded_order crash = { .what = UPLOADED_CRASH };
	const struct uploaded_order give_up = { .what = UPLOADED_ABORT };
	pid_t pid = appliance_start(&allow);
	struct uploaded_facts facts[2], again;
	struct talk_done done;
	struct peer p[2];
	uint32_t mine[2];
	unsigned int fds, i;
	char name[24];
	size_t size;
	char *bytes = read_upload(&size);

	CHECK(bytes);
	fds = count_fds(pid);
	for (i = 0; i < 2; i++) {
		CHECK(peer_open(&p[i], size));
		mine[i] = peer_register(&p[i], ANY, "mine", bytes, size, NULL);
		CHECK(run_code(&p[i], CPU0, mine[i], &p[0], &facts[i]));
		CHECK(facts[i].uid && (geteuid() == 0) == (facts[i].uid != geteuid()));
		/* input, output and errors, its socket, its code; and maps that it looks into */
		CHECK(!facts[i].forks && facts[i].fds <= 6);
		CHECK(facts[i].own_clock && facts[i].sees == 0);
	}
	/* each task in a process of its own */
	CHECK(facts[0].pid != facts[1].pid);
	CHECK(run_code(&p[1], CPU0, mine[1], &p[0], &again) && again.pid != facts[1].pid);
	CHECK(run_order(&p[1], CPU0, mine[1], &crash, &done));
	CHECK(done.head.a == vine_reason_crashed);
	CHECK(run_order(&p[1], CPU0, mine[1], &give_up, &done));
	CHECK(done.head.a == vine_reason_crashed && done.detail == SIGABRT);
	CHECK(run_code(&p[0], GPU0, mine[0], &p[1], &again) && again.sees == 0);
	CHECK(peer_works(&p[0], CPU0, peer_get(&p[0], ANY, "add", NULL)));
	/* as many as a task has buffers, and more */
	for (i = 0; i < 70; i++) {
		sprintf(name, "mine %u", i);
		CHECK(run_code(&p[0], CPU0, peer_register(&p[0], ANY, name, bytes, size, NULL),
			       &p[1], &again));
	}
	/* what cannot be loaded */
	CHECK(peer_run(&p[0], CPU0, peer_register(&p[0], ANY, "bad", "\177ELF...", 7, NULL), 0,
		       &done) && done.head.a == vine_reason_no_procedure);
	CHECK(appliance_said("cannot be loaded"));
	free(bytes);
	peer_close(&p[0]);
	peer_close(&p[1]);
	CHECK(EVENTUALLY(quiet(pid, fds)));
	CHECK(appliance_stop(pid) == 0);
}

/* Also with what it could have from the appliance's environment. */
static void test_sandbox(void)
{
	struct uploaded_order order = { .what = UPLOADED_TRY, .victim = getpid() };
	const struct vine_serve_options allow = { .size = sizeof(allow), .allow_code = 1 };
	/* the name has 16 bytes with its "=", so the value is where numbers are */
	static char variable[] __attribute__((aligned(16))) = "VINE_TEST_SECRT=0123456789abcdef";
	char *secret = variable + 16;
	struct uploaded_facts facts;
	struct talk_done done;
	struct peer p;
	size_t size;
	char *bytes = read_upload(&size);
	pid_t pid;
	int i;

	for (i = 0; i < 16; i++)
		secret[i] = 'a' + (getpid() >> i) % 16;
	putenv(variable);	/* setenv() leaves a copy on the stack */
	for (i = 0; i < 16; i++)
		((char *)order.secret)[i] = ~secret[i];
	pid = appliance_start(&allow);
	unsetenv("VINE_TEST_SECRT");
	order.no_landlock = syscall(SYS_landlock_create_ruleset, NULL, 0,
				    LANDLOCK_CREATE_RULESET_VERSION) < 0;
	CHECK(appliance_said("no Landlock") == order.no_landlock);
	CHECK(bytes && peer_open(&p, size));
	i = peer_register(&p, ANY, "mine", bytes, size, NULL);
	CHECK(run_order(&p, CPU0, i, &order, &done) && !done.head.a);
	memcpy(&facts, p.base + 4096, sizeof(facts));
	if (*facts.did)
		printf("# it can:%s\n", facts.did);
	CHECK(!*facts.did);
	CHECK(!facts.environment);
	CHECK(facts.sees == 0);
	free(bytes);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

/* Not the same as code that is bad. */
static void test_large_code(void)
{
	const struct vine_serve_options allow = { .size = sizeof(allow), .allow_code = 1 };
	pid_t pid = appliance_start(&allow);
	struct talk_done done;
	struct peer p;
	size_t size;
	char *bytes = read_object("faults/large.so", &size);

	CHECK(bytes && peer_open(&p, size));
	CHECK(peer_run(&p, CPU0, peer_register(&p, ANY, "mine", bytes, size, NULL), 0, &done));
	CHECK(done.head.a == vine_reason_no_memory);
	CHECK(appliance_said("found no memory"));
	free(bytes);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

/* It answers for itself, and goes on: its task is done, and it is dead. */
static void test_forged_answer(void)
{
	const struct vine_serve_options allow = { .size = sizeof(allow), .allow_code = 1 };
	const struct uploaded_order order = { .what = UPLOADED_FORGE };
	pid_t pid = appliance_start(&allow);
	struct talk_done done;
	struct peer p;
	size_t size;
	char *bytes = read_upload(&size);
	uint32_t mine;

	CHECK(bytes && peer_open(&p, size));
	mine = peer_register(&p, ANY, "mine", bytes, size, NULL);
	CHECK(run_order(&p, CPU0, mine, &order, &done) && !done.head.a);
	CHECK(EVENTUALLY(count_children(pid) == 2 + 5));
	free(bytes);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

/* Two clients of one machine, and one of another. */
static void test_whose_code(void)
{
	static const char one[] = "\177ELF one", two[] = "\177ELF two";
	pid_t pid = appliance_start(&plain);
	struct peer p, q, other;
	uint32_t mine, others;
	int status;

	CHECK(peer_open(&p, BYTES) && peer_open(&q, BYTES));
	fake_vine_machine = 1;
	CHECK(peer_open(&other, BYTES));
	fake_vine_machine = 0;
	mine = peer_register(&p, ANY, "mine", one, sizeof(one), NULL);
	CHECK(mine && peer_get(&q, ANY, "mine", NULL));
	CHECK(!peer_register(&q, ANY, "mine", two, sizeof(two), &status) && status == 1);
	CHECK(!peer_get(&other, ANY, "mine", &status) && status == 1);
	others = peer_register(&other, ANY, "mine", two, sizeof(two), NULL);
	CHECK(others && peer_get(&other, ANY, "mine", NULL) == others);
	/* nor does what is everybody's get in its way */
	CHECK(peer_register(&other, ANY, "mine", "text", 4, NULL));
	CHECK(peer_get(&p, ANY, "mine", NULL) == mine);
	peer_close(&p);
	peer_close(&q);
	peer_close(&other);
	CHECK(appliance_stop(pid) == 0);
}

/* ---- the machine ---- */

static void test_rejoins(void)
{
	const struct talk_ref ref[2] = { { 0, 1 }, { 64, 1 } };
	pid_t pid = appliance_start(&plain);
	struct peer p, q;
	uint32_t wait;

	CHECK(peer_open(&p, BYTES) && peer_open(&q, BYTES));
	wait = peer_get(&p, ANY, "wait", NULL);
	CHECK(peer_issue(&p, CPU0, wait, 0, 1, 1, ref));
	CHECK(EVENTUALLY(*(volatile uint8_t *)(p.base + 64) == 'r'));
	kill(pid, SIGUSR1);
	peer_issue(&p, CPU0, wait, 0, 1, 1, ref);	/* it looks at a queue, and finds out */
	CHECK(peer_closed(p.queue) && peer_closed(p.control) && peer_closed(q.queue));
	peer_close(&p);
	peer_close(&q);
	CHECK(EVENTUALLY(peer_open(&p, BYTES) || (peer_close(&p), false)));
	CHECK(peer_works(&p, CPU0, peer_get(&p, ANY, "add", NULL)));
	CHECK(appliance_said("offered anew") == 1);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

static void test_device_gone(void)
{
	pid_t pid = appliance_start(&plain);
	struct peer p;

	CHECK(peer_open(&p, BYTES));
	kill(pid, SIGUSR2);
	peer_send(p.control, "x", 1);
	CHECK(appliance_wait(pid) == 1);
	CHECK(appliance_said("the device is gone"));
	peer_close(&p);
}

static void test_once(void)
{
	const struct vine_serve_options once = { .size = sizeof(once), .once = 1 };
	pid_t pid = appliance_start(&once);
	struct peer p, q;

	CHECK(peer_open(&p, BYTES) && peer_open(&q, BYTES));
	peer_close(&p);
	CHECK(peer_works(&q, CPU0, peer_get(&q, ANY, "add", NULL)));
	peer_close(&q);
	CHECK(appliance_wait(pid) == 0);
}

/* Connections wait while descriptors are short, and it does not try all the time. */
static void test_no_descriptors(void)
{
	pid_t pid = appliance_start(&plain);
	struct rlimit few, before;
	struct peer p, q;
	int queue;
	uint32_t add;

	CHECK(peer_open(&p, BYTES));
	add = peer_get(&p, ANY, "add", NULL);
	CHECK(peer_works(&p, CPU0, add));
	CHECK(!prlimit(pid, RLIMIT_NOFILE, NULL, &before));
	few = before;
	few.rlim_cur = 3;
	CHECK(!prlimit(pid, RLIMIT_NOFILE, &few, NULL));
	queue = vine_connect(p.device, "vinetalk", 64, VINE_NONBLOCK, 0, NULL);
	CHECK(queue >= 0);
	CHECK(EVENTUALLY(appliance_said("cannot accept")));
	CHECK(peer_works(&p, CPU0, add));
	CHECK(!prlimit(pid, RLIMIT_NOFILE, &before, NULL));
	CHECK(peer_open(&q, BYTES));
	vine_close(queue);
	peer_close(&p);
	peer_close(&q);
	CHECK(appliance_stop(pid) == 0);
}

static bool has_name(pid_t pid, const char *name)
{
	char path[64], comm[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "r");
	if (f && !fgets(comm, sizeof(comm), f))
		*comm = 0;
	if (f)
		fclose(f);
	comm[strcspn(comm, "\n")] = 0;
	return !strcmp(comm, name);
}

static unsigned int is_worker(pid_t pid)
{
	return has_name(pid, "vine-worker");
}

static unsigned int kill_worker(pid_t pid)
{
	return is_worker(pid) && !kill(pid, SIGKILL);
}

/* Also when the task comes just then: then it may have been given to the dying. */
static void test_worker_dies_idle(void)
{
	pid_t pid = appliance_start(&plain);
	struct talk_done done;
	struct peer p;
	uint32_t add, noop;
	int i;

	CHECK(peer_open(&p, BYTES));
	add = peer_get(&p, ANY, "add", NULL);
	noop = peer_get(&p, ANY, "noop", NULL);
	CHECK(EVENTUALLY(each_child(pid, is_worker) == 5));	/* all have their name */
	for (i = 0; i < 20; i++) {
		CHECK(peer_works(&p, CPU0, add));
		CHECK(each_child(pid, kill_worker));
		CHECK(EVENTUALLY(count_children(pid) == 2));
		CHECK(peer_works(&p, CPU0, add));
		CHECK(each_child(pid, kill_worker));
		CHECK(peer_run(&p, CPU0, noop, 0, &done));
		CHECK(!done.head.a || (done.head.a == vine_reason_crashed && done.detail == SIGKILL));
	}
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

static unsigned int starve_worker(pid_t pid)
{
	const struct rlimit none = { 0, 0 };

	return is_worker(pid) && !prlimit(pid, RLIMIT_AS, &none, NULL);
}

/* Its task says so, and the next one has a worker that has memory. */
static void test_no_memory(void)
{
	pid_t pid = appliance_start(&plain);
	struct talk_done done;
	struct peer p;
	uint32_t add;

	CHECK(peer_open(&p, BYTES));
	add = peer_get(&p, ANY, "add", NULL);
	CHECK(EVENTUALLY(each_child(pid, is_worker) == 5));
	CHECK(each_child(pid, starve_worker) == 5);
	CHECK(peer_run(&p, CPU0, add, 0, &done) && done.head.a == vine_reason_no_memory);
	CHECK(peer_works(&p, CPU0, add));
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

static pid_t forkers[2];
static unsigned int forkers_seen;

/*
 * The older one, which is in use, comes first. A worker has their name, too, before it gets its
 * own; but it leads no session.
 */
static unsigned int note_forker(pid_t pid)
{
	if (!has_name(pid, "vine-forker") || getsid(pid) != pid)
		return 0;
	forkers[forkers_seen++ % 2] = pid;
	return 1;
}

static bool find_forkers(pid_t pid)
{
	return EVENTUALLY((forkers_seen = 0, each_child(pid, note_forker) == 2));
}

static bool all_work(struct peer *p, uint32_t add)
{
	unsigned int i;

	for (i = 0; i < ACCELERATORS; i++)
		if (!peer_works(p, i, add))
			return false;
	return true;
}

static void test_forker_dies(void)
{
	pid_t pid = appliance_start(&plain);
	unsigned int fds, i;
	struct peer p;
	uint32_t add;

	CHECK(peer_open(&p, BYTES));
	add = peer_get(&p, ANY, "add", NULL);
	CHECK(EVENTUALLY(each_child(pid, is_worker) == 5));
	CHECK(all_work(&p, add));
	fds = count_fds(pid);
	for (i = 0; i < 6; i++) {
		CHECK(find_forkers(pid));
		/* the one in use, and the spare */
		CHECK(!kill(forkers[i % 2], SIGKILL));
		CHECK(EVENTUALLY(process_state(forkers[i % 2]) == 0));
		each_child(pid, kill_worker);	/* those that the list has, while it changes */
		/* a task that is given to a dying one fails */
		CHECK(EVENTUALLY(all_work(&p, add)));
		CHECK(EVENTUALLY(count_fds(pid) == fds));
	}
	CHECK(appliance_said("another one goes on") == 6);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

static void test_forkers_die(void)
{
	pid_t pid = appliance_start(&plain);

	CHECK(EVENTUALLY(each_child(pid, is_worker) == 5) && find_forkers(pid));
	/* at once */
	CHECK(!kill(pid, SIGSTOP));
	CHECK(!kill(forkers[0], SIGKILL) && !kill(forkers[1], SIGKILL));
	CHECK(!kill(pid, SIGCONT));
	CHECK(appliance_wait(pid) == 1);
	CHECK(appliance_said("forked from have died"));
}

/* Others do not wait; and it is not waited for without end. */
static void test_forker_stops(void)
{
	const struct talk_ref ref[2] = { { 0, 64 }, { 4096, 64 } };
	pid_t pid = appliance_start(&plain);
	struct talk_done done;
	struct peer p, q;
	uint32_t add, noop;
	int i;

	CHECK(peer_open(&p, BYTES) && peer_open(&q, BYTES));
	add = peer_get(&q, ANY, "add", NULL);
	noop = peer_get(&p, ANY, "noop", NULL);
	CHECK(EVENTUALLY(each_child(pid, is_worker) == 5) && find_forkers(pid));
	CHECK(peer_run(&p, CPU0, peer_get(&p, ANY, "crash", NULL), 0, &done));
	CHECK(!kill(forkers[0], SIGSTOP));
	CHECK(peer_issue(&p, CPU0, noop, 0, 1, 1, ref));
	CHECK(EVENTUALLY(peer_stat(&q, CPU0).running == 1));
	for (i = 0; i < 100; i++)
		CHECK(peer_works(&q, CPU1, add));
	CHECK(peer_stat(&q, CPU0).running == 1);
	CHECK(peer_done(&p, &done) && !done.head.a);
	CHECK(process_state(forkers[0]) == 0);
	peer_close(&p);
	peer_close(&q);
	CHECK(appliance_stop(pid) == 0);
}

/* What is lost with them is said; the rest works. */
static void test_small_kernel(void)
{
	const struct vine_serve_options allow = { .size = sizeof(allow), .allow_code = 1 };
	struct uploaded_facts facts;
	uint32_t mine;
	struct peer p;
	size_t size;
	char *bytes = read_upload(&size);
	pid_t pid;

	appliance_small_kernel = true;
	pid = appliance_start(&allow);
	appliance_small_kernel = false;
	CHECK(appliance_said("no Landlock") == 1 && appliance_said("CHECKPOINT_RESTORE") == 1);
	CHECK(bytes && peer_open(&p, size));
	mine = peer_register(&p, ANY, "mine", bytes, size, NULL);
	CHECK(run_code(&p, CPU0, mine, &p, &facts) && facts.sees == 0);
	free(bytes);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

static const struct tap_test tests[] = {
	{ "tasks run on every accelerator", test_runs },
	{ "a task has up to 64 buffers", test_many_buffers },
	{ "a handler is told what it is called with", test_call },
	{ "accelerators are described", test_accelerators },
	{ "statistics count tasks", test_statistics },
	{ "a handler that crashes fails its task alone", test_crashes },
	{ "a handler that calls exit() fails its task alone", test_exits },
	{ "a handler's error reaches the client", test_error },
	{ "a handler that writes past its output is found out", test_overrun },
	{ "a handler that misuses its socket is stopped", test_forged },
	{ "a handler that hangs is stopped at its time limit", test_hangs },
	{ "two that hang are stopped, each at its own", test_both_hang },
	{ "a redzone that the client has damaged is not held against the handler",
	  test_own_damage },
	{ "a handler's own processes end with it", test_children },
	{ "a handler cannot write beyond a region", test_guard },
	{ "a handler cannot write to another client's region", test_reach },
	{ "procedures are global by name and type, and keep their bytes", test_procedures },
	{ "references to procedures end by put and by death", test_references },
	{ "a task in flight keeps procedure and region", test_in_flight },
	{ "procedures are limited in number and bytes", test_limits },
	{ "a region that cannot be imported fails its tasks", test_bad_region },
	{ "an accelerator that is held serves its holder alone", test_exclusive },
	{ "a slow accelerator holds up no other", test_slow_accelerator },
	{ "a client that reads no answers stalls itself alone", test_does_not_read },
	{ "64 clients on 4 accelerators get the same (of endpoints, 60)", test_fair },
	{ "clients may die at any moment, and leave nothing", test_deaths },
	{ "what runs for a client that has gone is ended", test_dies_at_work },
	{ "a process with many queues has its region imported once", test_many_queues },
	{ "workers forget regions, and map more of them than they keep", test_many_regions },
	{ "other versions and unknown tokens are turned away", test_strangers },
	{ "a session ends with its control queue", test_session_over },
	{ "uploaded code does not run when it is not allowed", test_code_not_allowed },
	{ "uploaded code runs in a process of its own, as another user", test_code },
	{ "uploaded code has what it needs, and no more", test_sandbox },
	{ "on a kernel without Landlock and CHECKPOINT_RESTORE, too, and both are said",
	  test_small_kernel },
	{ "uploaded code that finds no memory is told from bad code", test_large_code },
	{ "uploaded code that answers for itself does not go on", test_forged_answer },
	{ "once: it ends with its last client", test_once },
	{ "connections wait while descriptors are short", test_no_descriptors },
	{ "workers that die idle are replaced", test_worker_dies_idle },
	{ "a worker that finds no memory is replaced", test_no_memory },
	{ "when the process that workers are forked from dies another one goes on",
	  test_forker_dies },
	{ "without both of them it ends", test_forkers_die },
	{ "when it stops others do not notice, and it is replaced", test_forker_stops },
	/* the last ones need a fake device */
	{ "memory that is away is an error, no signal", test_memory_away },
	{ "a region that is not attached to a queue is not there, known or not", test_not_attached },
	{ "uploaded code is found by its own machine's sessions alone", test_whose_code },
	{ "a machine that was taken for dead offers its service anew", test_rejoins },
	{ "without its device the appliance ends with the reason", test_device_gone },
};

#define FAKE_ONLY	5

int main(void)
{
	return tap_main(tests, sizeof(tests) / sizeof(tests[0]) - (peer_fake() ? 0 : FAKE_ONLY));
}
