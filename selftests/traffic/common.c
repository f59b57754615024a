// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * common.c - what the traffic programs share: TAP, options, time, counts
 */
#define _GNU_SOURCE
#include "common.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

/* ---- TAP ---- */

static int tap_planned, tap_run, tap_failed;

void tap_plan(int tests)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	tap_planned = tests;
	printf("TAP version 13\n1..%d\n", tests);
}

bool tap_ok(bool good, const char *format, ...)
{
	va_list args;

	printf("%sok %d - ", good ? "" : "not ", ++tap_run);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	tap_failed += !good;
	return good;
}

void tap_skip(int tests, const char *format, ...)
{
	va_list args;

	while (tests--) {
		printf("ok %d # SKIP ", ++tap_run);
		va_start(args, format);
		vprintf(format, args);
		va_end(args);
		putchar('\n');
	}
}

void tap_note(const char *format, ...)
{
	char line[512];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	printf("# %s\n", line);	/* one call: threads and children write too */
}

int tap_end(void)
{
	if (tap_run != tap_planned)
		printf("# planned %d tests, but ran %d\n", tap_planned, tap_run);
	fflush(stdout);
	return tap_failed || tap_run != tap_planned;
}

void tap_bail(const char *format, ...)
{
	va_list args;

	printf("Bail out! ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	_exit(1);
}

/* ---- command line ---- */

void parse_options(int argc, char **argv, const char *usage,
		   const struct option_value *options)
{
	const struct option_value *o;
	char *end;
	int i;

	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			fputs(usage, stdout);
			exit(0);
		}
		for (o = options; o->name && strcmp(o->name, argv[i]); o++)
			;
		if (!o->name || (!o->flag && i + 1 == argc)) {
			fprintf(stderr, "not understood: %s; see --help\n", argv[i]);
			exit(2);
		}
		if (o->flag) {
			*o->flag = true;
		} else if (o->text) {
			*o->text = argv[++i];
		} else {
			*o->number = strtol(argv[++i], &end, 0);
			if (*end || end == argv[i]) {
				fprintf(stderr, "%s %s: not a number\n", o->name, argv[i]);
				exit(2);
			}
		}
	}
}

static void out_of_time(int sig)
{
	static const char text[] = "Bail out! time ran out\n";

	(void)sig;
	if (write(1, text, sizeof(text) - 1) < 0)
		_exit(2);
	_exit(1);
}

void limit_time(long seconds)
{
	signal(SIGALRM, out_of_time);
	alarm(seconds);
}

/* ---- time ---- */

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

bool late(uint64_t deadline)
{
	struct timespec ts = { .tv_nsec = 1000000 };

	nanosleep(&ts, NULL);
	return now_ns() > deadline;
}

/* ---- the device ---- */

int open_device(const char *path)
{
	int fd = vine_open(path);

	if (fd < 0)
		tap_bail("%s: %s", path ? path : "/dev/vine0", strerror(-fd));
	return fd;
}

struct vine_info device_info(int device)
{
	struct vine_info info;
	int err = vine_info(device, &info);

	if (err)
		tap_bail("VINE_INFO: %s", strerror(-err));
	return info;
}

static bool is_back(int device, bool alone, struct vine_info *i)
{
	*i = device_info(device);
	if (!alone)
		return !i->own_queues && !i->own_regions;
	return !i->queues && !i->regions && i->chunks_free == i->chunks;
}

bool all_back(int device, bool alone, int seconds)
{
	struct vine_info i;

	if (until(is_back(device, alone, &i), seconds))
		return true;
	tap_note("still in use: %u queues (%u ours), %u regions (%u ours), %u of %u chunks",
		 i.queues, i.own_queues, i.regions, i.own_regions,
		 i.chunks - i.chunks_free, i.chunks);
	return false;
}

bool meet(int device, bool offer, const char *name, uint64_t tell, uint64_t *told,
	  int seconds)
{
	uint64_t deadline = vine_deadline_ms(seconds * 1000);
	struct vine_msg out = { .len = 8 }, in;
	int listener = -1, queue, n;

	memcpy(out.data, &tell, 8);
	if (offer) {
		listener = vine_listen(device, name, 0, 0);
		if (listener < 0) {
			tap_note("%s: cannot offer: %s", name, strerror(-listener));
			return false;
		}
		queue = vine_accept(listener, 0, deadline, NULL);
	} else {
		queue = vine_connect(device, name, 8, VINE_WAIT_SERVICE, deadline, NULL);
	}
	n = queue;
	if (queue >= 0) {
		n = vine_push(queue, &out, 1);
		if (n == 1)
			n = vine_pull(queue, &in, 1, 1, deadline);
		if (n == 1 && told)
			memcpy(told, in.data, 8);
		/* stay until the other has read it, too: it hangs up then */
		if (n == 1 && offer) {
			struct pollfd p = { .fd = queue };

			poll(&p, 1, seconds * 1000);
		}
		close(queue);
	}
	if (listener >= 0)
		close(listener);
	if (n != 1)
		tap_note("%s: nobody met: %s", name, strerror(-n));
	return n == 1;
}
