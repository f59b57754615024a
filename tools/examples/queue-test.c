// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * queue-test.c - messages there and back over a queue: are they all right, and how fast?
 *
 *	cc queue-test.c -o queue-test $(pkg-config --cflags --libs libvine)
 *	queue-test serve		(in one machine: sends back what comes)
 *	queue-test 1000000		(in another, or in the same)
 *
 * First one message at a time, a tenth as many, each there and back before the next; then
 * as many on their way as the queue holds.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <vine.h>

#define SERVICE	"queue-test"
#define DEPTH	64

/* A result of libvine; it ends the program when it is an error. */
static int check(int ret, const char *what)
{
	if (ret >= 0)
		return ret;
	fprintf(stderr, "queue-test: cannot %s: %s\n", what, strerror(-ret));
	exit(1);
}

static void serve(int device)
{
	struct vine_msg msgs[DEPTH];
	int listener, queue, n, sent;

	listener = check(vine_listen(device, SERVICE, 0, 0), "offer " SERVICE);
	queue = check(vine_accept(listener, 0, VINE_FOREVER, NULL), "accept");
	for (;;) {
		n = vine_pull(queue, msgs, DEPTH, 1, VINE_FOREVER);
		if (n == -EPIPE)
			return;		/* the client has closed it */
		check(n, "receive");
		/* There is room: the client never has more on their way than the ring holds. */
		sent = check(vine_push(queue, msgs, n), "send");
		if (sent < n)
			check(-EMSGSIZE, "send all");
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Message @number: its length and its bytes follow from the number. */
static struct vine_msg message(uint64_t number)
{
	struct vine_msg msg = { .len = sizeof(number) + number % 49 };

	memset(msg.data, number * 167 >> 3, msg.len);
	memcpy(msg.data, &number, sizeof(number));
	return msg;
}

/* Sends @count messages with at most @window on their way; returns the seconds it took. */
static double run(int queue, uint64_t count, unsigned int window)
{
	uint64_t sent = 0, back = 0;
	double since = now();
	struct vine_msg out[DEPTH], in[DEPTH], expected;
	struct vine_transfer t;
	unsigned int i;

	while (back < count) {
		memset(&t, 0, sizeof(t));
		t.push = (uintptr_t)out;
		t.pull = (uintptr_t)in;
		while (sent + t.push_count < count && sent + t.push_count - back < window) {
			out[t.push_count] = message(sent + t.push_count);
			t.push_count++;
		}
		t.pull_count = window;
		t.pull_min = 1;
		t.deadline = vine_deadline_ms(60000);
		check(vine_transfer(queue, &t), "send and receive");
		sent += t.push_count;
		for (i = 0; i < t.pull_count; i++, back++) {
			expected = message(back);
			if (in[i].len == expected.len &&
			    !memcmp(in[i].data, expected.data, expected.len))
				continue;
			fprintf(stderr, "queue-test: message %" PRIu64 " came back wrong\n", back);
			exit(1);
		}
	}
	return now() - since;
}

int main(int argc, char **argv)
{
	uint64_t count;
	double seconds;
	int device, queue;

	if (argc != 2 || (strcmp(argv[1], "serve") && strtoull(argv[1], NULL, 10) < 10)) {
		fputs("Usage: queue-test serve\n"
		      "       queue-test COUNT	(at least 10)\n", stderr);
		return 2;
	}
	device = check(vine_open(NULL), "open the device");
	if (!strcmp(argv[1], "serve")) {
		serve(device);
		return 0;
	}
	count = strtoull(argv[1], NULL, 10);
	queue = check(vine_connect(device, SERVICE, DEPTH, VINE_WAIT_SERVICE,
				   vine_deadline_ms(60000), NULL), "connect");
	seconds = run(queue, count / 10, 1);
	printf("%" PRIu64 " round trips, one at a time: %.1f us each\n", count / 10,
	       seconds * 1e6 / (count / 10));
	seconds = run(queue, count, DEPTH);
	printf("%" PRIu64 " round trips, %d at a time: %.1f us each\n", count, DEPTH,
	       seconds * 1e6 / count);
	puts("all came back, in order and unchanged");
	return 0;
}
