// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * limits_test.c - one client, or one machine, does not use up what all of them need
 *
 * Machine 1 is the greedy one, machine 0 the one that must not notice. Without a fake device
 * each endpoint is a machine, and its number another one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fake_vine.h"
#include "peer.h"
#include "serve/serve.h"
#include "tap.h"

#pragma weak fake_vine_machine

#define BYTES	(1 << 16)

static const struct vine_serve_options plain = { .size = sizeof(plain) };
static const struct vine_serve_options small = { .size = sizeof(small), .bytes_max = 1000 };

static void be(unsigned int machine)
{
	if (peer_fake())
		fake_vine_machine = machine;
}

static bool open_on(unsigned int machine, struct peer *p)
{
	bool ok;

	be(machine);
	ok = peer_open(p, BYTES);
	be(0);
	return ok;
}

/* One more session of machine 1. */
static bool open_beside(struct peer *p, const struct peer *first)
{
	bool ok;

	be(1);
	ok = peer_open_beside(p, first, BYTES);
	be(0);
	return ok;
}

/* Does the log say that @p's machine has too many of something? */
static bool said_too_many(const struct peer *p)
{
	struct vine_info info = { .peer = 1 };
	char text[64];

	if (!peer_fake() && vine_info(p->device, &info))
		return false;
	snprintf(text, sizeof(text), "machine %u has too many", info.peer);
	return appliance_said(text);
}

/* A client of machine 0 gets all that it needs. */
static bool others_work(void)
{
	struct peer p;
	bool ok;

	ok = open_on(0, &p) && peer_works(&p, CPU0, peer_get(&p, ANY, "add", NULL)) &&
	     peer_register(&p, ANY, "of machine 0", "x", 1, NULL) &&
	     peer_hold(&p, TALK_ACQUIRE, FPGA0);
	peer_close(&p);
	return ok;
}

/* An appliance that may have so many descriptors. */
static pid_t start_with(unsigned int files)
{
	pid_t pid;

	appliance_files = files;
	pid = appliance_start(&plain);
	appliance_files = 0;
	return pid;
}

static int connect_only(const struct peer *p)
{
	return vine_connect(p->device, "vinetalk", TALK_DEPTH, 0, vine_deadline_ms(PATIENCE_MS),
			    NULL);
}

/* ---- queues ---- */

enum { FILES = 400, QUEUES = 300 };

static void test_queues(void)
{
	struct talk_welcome welcome;
	unsigned int i, n = 0;
	int queues[QUEUES];
	struct peer p;
	pid_t pid;

	pid = start_with(FILES);
	CHECK(open_on(1, &p));
	be(1);
	for (i = 0; i < QUEUES; i++) {
		queues[i] = peer_queue(&p, NULL, &welcome);
		n += queues[i] >= 0;
	}
	be(0);
	printf("# %u queues\n", n);
	CHECK(n > 100 && n < FILES / 2);
	CHECK(said_too_many(&p));
	CHECK(others_work());
	CHECK(peer_works(&p, CPU0, peer_get(&p, ANY, "add", NULL)));
	/* what is given back can be had again */
	for (i = 0; i < QUEUES; i++)
		if (queues[i] >= 0)
			vine_close(queues[i]);
	peer_close(&p);
	CHECK(EVENTUALLY(open_on(1, &p) || (peer_close(&p), false)));
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

static void test_session_queues(void)
{
	static int queues[1100];
	pid_t pid = appliance_start(&plain);
	struct talk_welcome welcome = { .head.a = 0 };
	unsigned int n, i;
	struct peer p, q;

	CHECK(peer_open(&p, BYTES) && peer_open(&q, BYTES));
	for (n = 0; n < 1100 && !welcome.head.a; n++) {
		queues[n] = peer_queue(&p, p.token, &welcome);
		CHECK(queues[n] >= 0);
	}
	/* two more were there, and the last one is none */
	CHECK(n == 1024 - 2 + 1);
	CHECK(peer_works(&p, CPU0, peer_get(&p, ANY, "add", NULL)));
	CHECK((i = peer_queue(&q, q.token, &welcome)) > 0 && !welcome.head.a);
	vine_close(i);
	for (i = 0; i < n; i++)
		vine_close(queues[i]);
	peer_close(&p);
	peer_close(&q);
	CHECK(appliance_stop(pid) == 0);
}

/* They are many, and then they are closed, as is one that was refused. */
static void test_strangers(void)
{
	struct talk_hello hello = { .head.op = TALK_HELLO, .version = TALK_VERSION + 1 };
	pid_t pid = appliance_start(&plain);
	struct talk_welcome welcome;
	static int queues[600];
	unsigned int i, turned_away = 0;
	struct peer p;
	int refused;

	CHECK(open_on(1, &p));
	be(1);
	refused = connect_only(&p);
	CHECK(peer_ask(refused, &hello, sizeof(hello), &welcome, sizeof(welcome)));
	for (i = 0; i < 600; i++)
		queues[i] = connect_only(&p);
	be(0);
	/* a message makes the oldest tell */
	CHECK(EVENTUALLY((turned_away = appliance_said("do not say HELLO"))));
	CHECK(others_work());
	CHECK(peer_closed(queues[599]));
	CHECK(peer_closed(refused) && peer_closed(queues[0]));
	CHECK(appliance_said("says no HELLO"));
	CHECK(peer_works(&p, CPU0, peer_get(&p, ANY, "add", NULL)));
	for (i = 0; i < 600; i++)
		vine_close(queues[i]);
	vine_close(refused);
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

/* ---- procedures ---- */

/* Registers @bytes under new names until the appliance says that it ran short. */
static unsigned int register_all(struct peer *p, const char *bytes, size_t size)
{
	static unsigned int number;
	unsigned int n = 0;
	char name[24];
	int status;

	do
		sprintf(name, "greedy %u", number++);
	while (peer_register(p, ANY, name, bytes, size, &status) && ++n);
	EXPECT(status == 3);
	return n;
}

static void test_bytes(void)
{
	static const char bytes[1000];
	pid_t pid = appliance_start(&small);
	struct peer p[3];
	int i;

	for (i = 0; i < 3; i++)
		CHECK(i ? open_beside(&p[i], &p[0]) : open_on(1, &p[0]));
	CHECK(register_all(&p[0], bytes, 1000) == 4 && register_all(&p[1], bytes, 1000) == 4);
	CHECK(register_all(&p[2], bytes, 1000) == 0);
	CHECK(others_work());
	peer_close(&p[0]);
	CHECK(EVENTUALLY(register_all(&p[2], bytes, 1000) == 4));
	for (i = 1; i < 3; i++)
		peer_close(&p[i]);
	CHECK(appliance_stop(pid) == 0);
}

/* A task in flight keeps its procedure, and so does the account. */
static void test_bytes_in_flight(void)
{
	/* with handlers */
	static const char *const names[] = { "noop", "copy", "nap", "error", "past" };
	const struct talk_ref ref[2] = { { 0, 1 }, { 4096, 1 } };
	struct talk_put put = { .head.op = TALK_PUT };
	static const char bytes[1000];
	pid_t pid = appliance_start(&small);
	struct talk_done done;
	unsigned int n;
	struct peer p;
	uint32_t held;

	CHECK(open_on(1, &p));
	held = peer_hold(&p, TALK_ACQUIRE, CPU1);
	CHECK(held && peer_issue(&p, CPU1, peer_get(&p, ANY, "wait", NULL), 0, 1, 1, ref));
	for (n = 0; n < 10; n++) {
		put.id = peer_register(&p, n % 2 ? ANY : CPU, names[n / 2], bytes, 1000, NULL);
		if (!put.id)
			break;
		CHECK(peer_issue(&p, CPU1, put.id, 0, 1, 1, ref));
		/* the task has come when its queue has been read */
		CHECK(EVENTUALLY(peer_stat(&p, CPU1).queued == n + 1));
		CHECK(peer_send(p.control, &put, sizeof(put)));
	}
	CHECK(n == 8);
	CHECK(others_work());
	p.base[0] = 1;
	for (n = 0; n < 9; n++)
		CHECK(peer_done(&p, &done));
	CHECK(peer_register(&p, ANY, "again", bytes, 1000, NULL));
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

static void test_procedures(void)
{
	pid_t pid = appliance_start(&plain);
	struct peer p[9];
	int i;

	for (i = 0; i < 9; i++)
		CHECK(i ? open_beside(&p[i], &p[0]) : open_on(1, &p[0]));
	for (i = 0; i < 8; i++)
		CHECK(register_all(&p[i], NULL, 0) == 256);
	CHECK(register_all(&p[8], NULL, 0) == 0);
	CHECK(others_work());
	for (i = 0; i < 9; i++)
		peer_close(&p[i]);
	CHECK(appliance_stop(pid) == 0);
}

/* ---- regions ---- */

/* Attaches new regions, @count to a queue, and says how a task with the last one ended. */
static int attach_many(struct peer *p, int queue, unsigned int count, int *regions)
{
	struct peer of = *p;
	struct talk_done done = { .head.a = 0xff };
	struct talk_ref ref[2];
	uint64_t bytes;
	unsigned int i;

	for (i = 0; i < count; i++) {
		of.region = regions[i] = vine_region(p->device, 1, &bytes);
		if (of.region < 0 || !peer_attach(&of, queue, i))
			return -1;
	}
	of.queue = queue;
	for (i = 0; i < 2; i++)
		ref[i] = (struct talk_ref){ TALK_WHERE(count - 1, 64 * i), 64 };
	if (!peer_issue(&of, CPU0, peer_get(p, ANY, "noop", NULL), 0, 1, 1, ref) ||
	    !peer_done(&of, &done))
		return -1;
	return done.head.a;
}

static void regions(unsigned int files, unsigned int fit)
{
	int queues[6], region[6][TALK_REGIONS];
	struct talk_welcome welcome;
	struct peer p, other;
	unsigned int i, j;
	pid_t pid;

	pid = start_with(files);
	CHECK(open_on(1, &p));
	be(1);
	for (i = 0; i < 6; i++)
		CHECK((queues[i] = peer_queue(&p, p.token, &welcome)) >= 0);
	be(0);
	for (i = 0; i < 6; i++)
		CHECK(attach_many(&p, queues[i], TALK_REGIONS, region[i]) ==
		      (i < fit ? vine_reason_none : vine_reason_no_memory));
	CHECK(others_work());
	/* what needs none is not refused when others have taken of what was left */
	CHECK(open_on(0, &other));
	CHECK(peer_works(&p, CPU0, peer_get(&p, ANY, "add", NULL)));
	peer_close(&other);
	for (i = 0; i < 6; i++) {
		vine_close(queues[i]);
		for (j = 0; j < TALK_REGIONS; j++)
			vine_close(region[i][j]);
	}
	peer_close(&p);
	CHECK(appliance_stop(pid) == 0);
}

/* 192, with the one that was there */
static void test_session_regions(void)
{
	regions(0, 3);
}

/* 163 descriptors, 8 of them queues */
static void test_regions(void)
{
	regions(FILES, 3);
}

/* ---- ids ---- */

static int nothing(const struct vine_call *call)
{
	(void)call;
	return 0;
}

/* From within: to use them up takes half a day. */
static void test_ids(void)
{
	static const struct vine_procedure noop = { "noop", VINE_TYPES_ALL, nothing, "" };
	struct session *greedy, *other;
	struct vine_serve *s;
	char error[VINE_SERVE_ERROR];
	uint32_t id;

	s = vine_serve_new(NULL, error);
	CHECK(s && !vine_serve_procedure(s, &noop, error) &&
	      !vine_serve_accelerator(s, "cpu0", CPU, 1, NULL, error));
	limits_init(s);
	greedy = session_new(s, 0, 1);
	other = session_new(s, 0, 2);
	greedy->next_procedure = UINT32_MAX - 1;
	greedy->next_virtual = UINT32_MAX - 1;
	CHECK(!procedures_get(s, greedy, ANY, "noop", &id) && id == UINT32_MAX - 1);
	CHECK(session_unknow(s, greedy, id));
	CHECK(procedures_get(s, greedy, ANY, "noop", &id) == 3);
	CHECK(!procedures_get(s, other, ANY, "noop", &id) && id == 1);
	CHECK(scheduler_acquire(s->accelerators[0], greedy) == UINT32_MAX - 1);
	scheduler_release(s, s->accelerators[0]);
	CHECK(!scheduler_acquire(s->accelerators[0], greedy));
	CHECK(scheduler_acquire(s->accelerators[0], other) == 1);
	session_end(s, greedy);
	session_end(s, other);
	session_put(s, greedy);
	session_put(s, other);
	vine_serve_free(s);
}

/* ---- copying ---- */

/* In this process: @p's control queue to it, and its region, and a procedure of 1 MiB on the way. */
static struct connection *connect_to(struct vine_serve *s, int listener, struct peer *p)
{
	struct talk_hello hello = { .head.op = TALK_HELLO, .version = TALK_VERSION };
	struct talk_name name = { .head = { TALK_REGISTER, ANY, 1, 0, 9 }, .name = "b" };
	struct talk_bytes bytes = { .head = { .op = TALK_BYTES, .tag = 9 }, .ref = { 0, COPY_ROUND } };
	struct connection *c;
	int queue;

	*p = (struct peer){ .device = vine_open(NULL), .queue = -1 };
	p->region = vine_region(p->device, COPY_ROUND, &p->bytes);
	p->control = vine_connect(p->device, "limits", TALK_DEPTH, VINE_NONBLOCK, 0, NULL);
	queue = vine_accept(listener, VINE_NONBLOCK, 0, NULL);
	if (p->region < 0 || p->control < 0 || queue < 0)
		return NULL;
	connection_new(s, queue, 0);
	c = container_of(s->connections.prev, struct connection, link);
	if (!peer_send(p->control, &hello, sizeof(hello)))
		return NULL;
	c->source.ready(s, &c->source, EPOLLIN);
	connection_flush(s, c);
	if (!peer_attach(p, p->control, 0))
		return NULL;
	c->source.ready(s, &c->source, EPOLLIN);
	connection_flush(s, c);
	return peer_send(p->control, &name, sizeof(name)) &&
	       peer_send(p->control, &bytes, sizeof(bytes)) ? c : NULL;
}

/* From within: what one round takes from queues that all have something. */
static void test_copies(void)
{
	struct vine_serve *s;
	struct connection *c[3];
	struct peer p[3];
	char error[VINE_SERVE_ERROR];
	int i, device = vine_open(NULL), listener = vine_listen(device, "limits", 0, VINE_NONBLOCK);

	s = vine_serve_new(NULL, error);
	CHECK(listener >= 0 && s && !vine_serve_accelerator(s, "cpu0", CPU, 1, NULL, error));
	limits_init(s);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	for (i = 0; i < 3; i++)
		CHECK((c[i] = connect_to(s, listener, &p[i])));
	for (i = 0; i < 3; i++)
		c[i]->source.ready(s, &c[i]->source, EPOLLIN);
	CHECK(s->copied == COPY_ROUND);
	/* the next round */
	s->copied = 0;
	for (i = 0; i < 3; i++)
		c[i]->source.ready(s, &c[i]->source, EPOLLIN);
	CHECK(s->copied == COPY_ROUND);
	for (i = 0; i < 3; i++) {
		connection_close(s, c[i], NULL);
		connection_free(s, c[i]);
		peer_close(&p[i]);
	}
	close(s->epoll);
	vine_serve_free(s);
	vine_close(listener);
	vine_close(device);
}

/* ---- the log ---- */

static void test_log_machine(void)
{
	pid_t pid = appliance_start(&plain);
	struct talk_done done;
	struct peer p, q;
	unsigned int i;
	int queue;

	CHECK(open_on(1, &p) && open_on(0, &q));
	be(1);
	for (i = 0; i < 200; i++) {
		queue = connect_only(&p);
		CHECK(peer_send(queue, "nonsense", 8) && peer_closed(queue));
		vine_close(queue);
	}
	be(0);
	CHECK(peer_run(&q, CPU0, peer_get(&q, ANY, "error", NULL), 0, &done));
	CHECK(appliance_said("makes no sense") >= 20 && appliance_said("makes no sense") < 200);
	CHECK(appliance_said("procedure error") == 1);
	peer_close(&p);
	peer_close(&q);
	CHECK(appliance_stop(pid) == 0);
}

static void test_log_session(void)
{
	pid_t pid = appliance_start(&plain);
	struct talk_done done;
	struct peer p, q;
	unsigned int i;
	uint32_t bad;

	CHECK(peer_open(&p, BYTES) && peer_open(&q, BYTES));
	bad = peer_get(&p, ANY, "error", NULL);
	for (i = 0; i < 200; i++)
		CHECK(peer_run(&p, CPU0, bad, 0, &done));
	CHECK(peer_run(&q, CPU1, peer_get(&q, ANY, "error", NULL), 0, &done));
	CHECK(appliance_said("cpu0: procedure error") >= 10);
	CHECK(appliance_said("cpu0: procedure error") < 200);
	CHECK(appliance_said("cpu1: procedure error") == 1);
	peer_close(&p);
	peer_close(&q);
	CHECK(appliance_stop(pid) == 0);
}

static const struct tap_test tests[] = {
	{ "a machine's queues leave room for others", test_queues },
	{ "a session's queues leave room for its machine's others", test_session_queues },
	{ "queues that do not say HELLO are few, and closed", test_strangers },
	{ "a machine's bytes of procedures leave room for others", test_bytes },
	{ "also those that tasks in flight keep", test_bytes_in_flight },
	{ "a machine's procedures leave room for others", test_procedures },
	{ "a session's regions are limited", test_session_regions },
	{ "a machine's regions leave descriptors for others", test_regions },
	{ "ids are a session's own, and end without wrapping", test_ids },
	{ "bytes of procedures are copied a few at a time", test_copies },
	{ "a machine's lines in the log hide no other machine's", test_log_machine },
	{ "a session's lines in the log hide no other session's", test_log_session },
};

int main(void)
{
	struct rlimit files;

	/* thousands of queues, in this process */
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	return tap_main(tests, sizeof(tests) / sizeof(tests[0]));
}
