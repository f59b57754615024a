// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * guest.c - the measurements between two guests: who says what is next, and what the samples
 *           are
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"

#define SERVICE_CONTROL	"bench-control"
#define SERVICE_QUEUE	"bench-queue"
#define DEPTH		64
#define EACH		2000	/* round trips of which percentiles are made */

int check(int ret, const char *what)
{
	if (ret >= 0)
		return ret;
	errno = -ret;
	die_errno("cannot %s", what);
}

/* ---- orders ---- */

struct order_message {
	uint64_t order, count;
};

static void put(int queue, uint64_t order, uint64_t count)
{
	struct order_message o = { order, count };
	struct vine_msg msg = { .len = sizeof(o) };

	memcpy(msg.data, &o, sizeof(o));
	check(vine_push(queue, &msg, 1), "order");
}

static struct order_message get(int queue)
{
	struct order_message o;
	struct vine_msg msg;

	check(vine_pull(queue, &msg, 1, 1, VINE_FOREVER), "wait for the other guest");
	if (msg.len != sizeof(o))
		die("an order of %u bytes", msg.len);
	memcpy(&o, msg.data, sizeof(o));
	return o;
}

static void order(struct link *l, enum order what, uint64_t count)
{
	put(l->control, what, count);
}

/* Until it is done there; what it says. */
static uint64_t done(struct link *l)
{
	return get(l->control).count;
}

/* ---- the guest that serves ---- */

static void accept_link(struct link *l)
{
	int device = check(vine_open(NULL), "open the device"), region;
	int control = check(vine_listen(device, SERVICE_CONTROL, 0, 0), "listen");
	int queue = check(vine_listen(device, SERVICE_QUEUE, 0, 0), "listen");
	struct order_message o;
	void *lines;

	l->tcp = tcp_accept();
	l->control = check(vine_accept(control, 0, VINE_FOREVER, NULL), "accept");
	l->queue = check(vine_accept(queue, 0, VINE_FOREVER, NULL), "accept");
	o = get(l->control);
	region = check(vine_import(l->control, o.count, NULL), "import");
	check(vine_map(region, sizeof(struct pingpong), &lines), "map");
	l->lines = lines;
	put(l->control, 0, 0);
}

static void serve(void)
{
	struct order_message o;
	struct link l = { 0 };
	uint64_t said;

	tasks_serve();
	accept_link(&l);
	for (;;) {
		o = get(l.control);
		said = 0;
		switch (o.order) {
		case ORDER_END:
			return;
		case ORDER_PINGPONG:
			lines_pong(&l, o.count);
			break;
		case ORDER_XFER:
		case ORDER_BLOCK:
			queue_pong(&l, o.count, o.order == ORDER_XFER);
			break;
		case ORDER_TCP:
			tcp_pong(&l, o.count);
			break;
		case ORDER_TCP_BULK:
			tcp_receive(&l, o.count);
			break;
		case ORDER_BELLS:
			if (o.count)
				said = bells_count();
			else
				said = bells_rung(), bells_stop();
			break;
		default:
			die("an order that is none: %llu", (unsigned long long)o.order);
		}
		put(l.control, 0, said);
	}
}

/* ---- the guest that drives ---- */

static void connect_link(struct link *l, const char *address)
{
	int device = check(vine_open(NULL), "open the device"), region;
	uint64_t soon = vine_deadline_ms(60000), id;
	void *lines;

	l->tcp = tcp_connect(address);
	l->control = check(vine_connect(device, SERVICE_CONTROL, DEPTH, VINE_WAIT_SERVICE, soon,
					NULL), "connect");
	l->queue = check(vine_connect(device, SERVICE_QUEUE, DEPTH, VINE_WAIT_SERVICE, soon,
				      NULL), "connect");
	region = check(vine_region(device, sizeof(struct pingpong), NULL), "make a region");
	check(vine_map(region, sizeof(struct pingpong), &lines), "map");
	l->lines = lines;
	check(vine_attach(l->control, region, &id), "attach");
	put(l->control, 0, id);
	done(l);
}

/* What runs here while the other guest has its order: @count times. */
static void pingpong(struct link *l, uint64_t count)
{
	lines_ping(l, count);
}

static void xfer(struct link *l, uint64_t count)
{
	queue_ping(l, count, true, NULL);
}

static void copy(struct link *l, uint64_t count)
{
	(void)l;
	data_copy(count);
}

static void bulk(struct link *l, uint64_t count)
{
	(void)l;
	tasks_bulk(count);
}

static void task_small(struct link *l, uint64_t count)
{
	(void)l;
	tasks_small(count);
}

static void task_large(struct link *l, uint64_t count)
{
	(void)l;
	tasks_large(count);
}

/* Batches: nanoseconds for each time. */
static const struct {
	const char *name;
	enum order order;	/* ORDER_END: the other guest needs none */
	void (*here)(struct link *l, uint64_t count);
} batches[] = {
	{ "pingpong", ORDER_PINGPONG, pingpong },
	{ "xfer_rtt", ORDER_XFER, xfer },
	{ "tcp_bulk", ORDER_TCP_BULK, tcp_send },
	{ "task_bulk", ORDER_END, bulk },
	{ "memcpy", ORDER_END, copy },
	{ "task_64", ORDER_END, task_small },
	{ "task_1M", ORDER_END, task_large },
};

struct batch {
	struct link *link;
	unsigned int which;
};

static uint64_t run_batch(void *arg, uint64_t count)
{
	const struct batch *b = arg;
	enum order o = batches[b->which].order;
	uint64_t begin, end;

	if (o != ORDER_END)
		order(b->link, o, count);
	begin = now_ns();
	batches[b->which].here(b->link, count);
	end = now_ns();
	if (o != ORDER_END)
		done(b->link);
	return end - begin;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void say_percentiles(const char *name, uint64_t *each, unsigned int n)
{
	char said[64];

	qsort(each, n, sizeof(*each), compare);
	snprintf(said, sizeof(said), "%s_p50", name);
	say_sample(said, (double)each[n / 2]);
	snprintf(said, sizeof(said), "%s_p99", name);
	say_sample(said, (double)each[n - 1 - n / 100]);
}

/* Round trips with both sides asleep, one by one. */
static void measure_block(struct link *l, unsigned int n)
{
	static uint64_t each[EACH];

	order(l, ORDER_BLOCK, n);
	queue_ping(l, n, false, each);
	done(l);
	say_percentiles("block_rtt", each, n);
	order(l, ORDER_TCP, n);
	tcp_ping(l, n, each);
	done(l);
	say_percentiles("tcp_rtt", each, n);
}

/* Doorbells of both guests for each of @count times. */
static double doorbells(struct link *l, void (*run)(struct link *l, uint64_t count),
			uint64_t count)
{
	uint64_t before, rung;

	order(l, ORDER_BELLS, true);
	if (!done(l))
		return -1;
	before = bells_rung();
	run(l, count);
	rung = bells_rung() - before;
	order(l, ORDER_BELLS, false);
	return (double)(rung + done(l)) / (double)count;
}

static void run_block(struct link *l, uint64_t count)
{
	order(l, ORDER_BLOCK, count);
	queue_ping(l, count, false, NULL);
	done(l);
}

static void run_tasks(struct link *l, uint64_t count)
{
	(void)l;
	tasks_saturate(count);
}

static void measure_doorbells(struct link *l, unsigned int n)
{
	double edge, saturated;

	if (!bells_count()) {
		puts("skip bells this kernel has no probes (CONFIG_KPROBE_EVENTS)");
		return;
	}
	/* there and back, and both fall idle in between */
	edge = doorbells(l, run_block, n) / 2;
	saturated = doorbells(l, run_tasks, 4 * (uint64_t)n);
	bells_stop();
	if (edge < 0 || saturated < 0) {
		puts("skip bells the other kernel has no probes (CONFIG_KPROBE_EVENTS)");
		return;
	}
	say_sample("bells_edge", edge);
	say_sample("bells_saturated", saturated);
}

static void drive(const char *address, unsigned int reps, uint64_t sample_ns, unsigned int n)
{
	const unsigned int subjects = sizeof(batches) / sizeof(batches[0]);
	struct link l = { 0 };
	struct batch b = { .link = &l };

	connect_link(&l, address);
	tasks_init();
	for (; reps; reps--) {
		for (b.which = 0; b.which < subjects; b.which++)
			say_sample(batches[b.which].name, sample(sample_ns, run_batch, &b));
		measure_block(&l, n);
		measure_doorbells(&l, n);
		puts("rep");
		fflush(stdout);
	}
	order(&l, ORDER_END, 0);
}

int main(int argc, char **argv)
{
	int n;

	if (argc == 2 && !strcmp(argv[1], "serve")) {
		serve();
		return 0;
	}
	if (argc == 6 && !strcmp(argv[1], "drive")) {
		n = atoi(argv[5]);
		if (n > 0 && n <= EACH) {
			drive(argv[2], (unsigned int)atoi(argv[3]),
			      strtoull(argv[4], NULL, 10) * 1000, (unsigned int)n);
			return 0;
		}
	}
	fprintf(stderr, "Usage: vine-bench-guest serve\n"
		"       vine-bench-guest drive ADDRESS REPS SAMPLE_US ROUND-TRIPS (up to %d)\n"
		"\n"
		"In two guests; the second prints \"SUBJECT VALUE\", nanoseconds a time, and what\n"
		"doorbells there were. tools/vine-bench/vine-bench makes sense of it.\n", EACH);
	return 2;
}
