// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * vine_bulk.c - regions: the server finds what the client wrote, and the other way
 *
 * A client fills a slice of a region with a pattern and sends (region, offset, length,
 * seed); the server, which has imported the region, checks the slice, and writes
 * another pattern that the client checks. Regions come and go meanwhile: half of them
 * are closed while the server still maps them.
 */
#define _GNU_SOURCE
#include "common.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/mman.h>

static const char usage[] =
"Usage: vine_bulk --serve | --drive [OPTION]...\n"
"Moves data through regions, and checks every byte on both sides.\n"
"\n"
"  --serve           import regions, check them, write into them\n"
"  --drive           make regions, fill them, check what the server wrote\n"
"  --device PATH     default: $VINE_DEVICE, or /dev/vine0\n"
"  --name NAME       of the service (default: bulk)\n"
"  --queues N        default 4: one thread each; both sides must be told the same\n"
"  --timeout SECONDS default 120\n"
"  --alone           nobody else uses the segment: in the end all of it must be free\n"
"Of --drive:\n"
"  --transfers N     of all queues together (default 1000)\n"
"  --seed N          default 1\n";

#define SLICE		(256 << 10)	/* bytes, the most of one transfer */
#define SLICES		4		/* in flight on a queue */
#define GUARD		64		/* bytes before and behind that stay as they are */
#define IMPORTS		4		/* that a server keeps of one queue */
#define LIFE		24		/* transfers through one region */

enum { WORK, DONE, BAD, DROP, DROPPED };

struct bulk {
	uint32_t op, slice;
	uint64_t region, offset, length, seed;
};

static const char *device_path, *service = "bulk";
static bool serve, drive, alone;
static long queues = 4, transfers = 1000, seed = 1, time_limit = 120;
static int device;

/* Word I of a pattern: cheap, and wrong when the place, the seed or the turn is. */
static inline uint64_t pattern_word(uint64_t seed, uint64_t i)
{
	return (seed + i) * 0x9e3779b97f4a7c15ULL;
}

static void pattern_write(uint8_t *to, uint64_t n, uint64_t seed)
{
	uint64_t i, word;

	for (i = 0; i < n / 8; i++) {
		word = pattern_word(seed, i);
		memcpy(to + i * 8, &word, 8);
	}
	word = pattern_word(seed, i);
	memcpy(to + i * 8, &word, n % 8);
}

/* The first byte that is wrong, or @n. */
static uint64_t pattern_check(const uint8_t *from, uint64_t n, uint64_t seed)
{
	uint64_t i, word, is = 0;

	for (i = 0; i < n / 8; i++) {
		memcpy(&is, from + i * 8, 8);
		if (is != pattern_word(seed, i))
			return i * 8;
	}
	word = pattern_word(seed, i);
	return memcmp(from + i * 8, &word, n % 8) ? i * 8 : n;
}

static struct vine_msg bulk_message(const struct bulk *b)
{
	struct vine_msg m = { .len = sizeof(*b) };

	memcpy(m.data, b, sizeof(*b));
	return m;
}

/* ---- the server ---- */

struct import {
	uint64_t id, bytes, used;	/* id 0: none */
	uint8_t *at;
};

struct served {
	int fd;
	uint64_t count;
	struct import import[IMPORTS];
};

static unsigned long server_wrong, server_broken, server_imports, server_evicted;

static void forget(struct import *im)
{
	if (im->id)
		munmap(im->at, im->bytes);
	im->id = 0;
}

/* The region's import, made when it is not there. */
static struct import *find_import(struct served *s, uint64_t id)
{
	struct import *im, *oldest = s->import;
	void *at;
	int fd, err;

	for (im = s->import; im < s->import + IMPORTS; im++) {
		if (im->id == id)
			return im;
		if (!im->id || (oldest->id && im->used < oldest->used))
			oldest = im;
	}
	server_evicted += oldest->id != 0;
	forget(oldest);
	fd = vine_import(s->fd, id, &oldest->bytes);
	err = fd < 0 ? fd : vine_map(fd, oldest->bytes, &at);
	if (fd >= 0)
		close(fd);	/* the mapping keeps it */
	if (err < 0) {
		if (server_broken++ < 5)
			tap_note("server: import of %#llx: %s", (unsigned long long)id,
				 strerror(-err));
		return NULL;
	}
	oldest->at = at;
	oldest->id = id;
	server_imports++;
	return oldest;
}

static void work(struct served *s, struct bulk *b)
{
	struct import *im;
	uint64_t wrong;

	if (b->op == DROP) {
		for (im = s->import; im < s->import + IMPORTS; im++)
			if (im->id == b->region)
				forget(im);
		b->op = DROPPED;
		return;
	}
	im = find_import(s, b->region);
	if (!im || b->length > im->bytes || b->offset > im->bytes - b->length) {
		b->op = BAD;
		return;
	}
	im->used = ++s->count;
	wrong = pattern_check(im->at + b->offset, b->length, b->seed);
	if (wrong < b->length && server_wrong++ < 5)
		tap_note("server: %#llx: byte %llu of %llu is wrong",
			 (unsigned long long)b->region, (unsigned long long)wrong,
			 (unsigned long long)b->length);
	b->op = wrong < b->length ? BAD : DONE;
	pattern_write(im->at + b->offset, b->length, ~b->seed);
}

/* True when it has hung up. The answers fit: no client has more than SLICES open. */
static bool serve_queue(struct served *s)
{
	struct vine_msg m[SLICES], answer;
	struct import *im;
	struct bulk b;
	int n, i;

	n = vine_pull(s->fd, m, SLICES, 0, 0);
	for (i = 0; i < n; i++) {
		memcpy(&b, m[i].data, sizeof(b));
		if (m[i].len != sizeof(b) && server_wrong++ < 5)
			tap_note("server: a message of %u bytes", m[i].len);
		work(s, &b);
		answer = bulk_message(&b);
		if (vine_push(s->fd, &answer, 1) != 1)
			server_broken++;
	}
	if (n >= 0 || n == -EAGAIN)
		return false;
	if (n != -EPIPE && server_broken++ < 5)
		tap_note("server: pull: %s", strerror(-n));
	for (im = s->import; im < s->import + IMPORTS; im++)
		forget(im);
	close(s->fd);
	return true;
}

static int do_serve(void)
{
	struct served *served = calloc(queues, sizeof(*served)), *s;
	struct epoll_event e = { .events = EPOLLIN }, events[64];
	int ep = epoll_create1(EPOLL_CLOEXEC), listener, n, i, fd;
	long accepted = 0, gone = 0;
	uint64_t total = 0;

	tap_plan(3);
	device = open_device(device_path);
	listener = vine_listen(device, service, 0, VINE_NONBLOCK);
	if (listener < 0 || !served || epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e))
		tap_bail("cannot offer %s: %s", service, strerror(-listener));
	while (gone < queues) {
		n = epoll_wait(ep, events, 64, -1);
		for (i = 0; i < n; i++) {
			s = events[i].data.ptr;
			if (s) {
				gone += serve_queue(s);
				continue;
			}
			fd = vine_accept(listener, VINE_NONBLOCK, 0, NULL);
			if (fd == -EAGAIN)
				continue;
			if (fd < 0 || accepted == queues)
				tap_bail("accept: %s", strerror(-fd));
			served[accepted].fd = fd;
			e.data.ptr = &served[accepted++];
			if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e))
				tap_bail("epoll_ctl: %s", strerror(errno));
		}
	}
	close(listener);
	for (i = 0; i < queues; i++)
		total += served[i].count;
	tap_note("server: %llu transfers through %lu imports, %lu of which outlived their region's use",
		 (unsigned long long)total, server_imports, server_evicted);
	tap_ok(!server_wrong, "server: every byte of %llu transfers was as the client wrote it",
	       (unsigned long long)total);
	tap_ok(!server_broken, "server: every region could be imported, every answer sent");
	tap_ok(all_back(device, alone, 60), "server: all queues and memory came back");
	return tap_end();
}

/* ---- the client ---- */

struct region {
	int fd;
	uint64_t id, bytes;
	uint8_t *at;
};

struct driver {
	pthread_t thread;
	int queue;
	long left, done;
	uint64_t bytes, random;
	struct region region;
	struct bulk flying[SLICES];	/* length 0: none */
};

static atomic_ulong client_wrong, client_failed, client_regions;

static bool fail(const char *what, int err)
{
	if (client_failed++ < 5)
		tap_note("client: %s: %s", what, strerror(-err));
	return false;
}

static bool region_make(struct driver *d)
{
	struct region *r = &d->region;
	void *at;
	int err;

	r->fd = vine_region(device, SLICES * (SLICE + 2 * GUARD), &r->bytes);
	if (r->fd < 0)
		return fail("region", r->fd);
	err = vine_map(r->fd, r->bytes, &at);
	if (err)
		return fail("mmap", err);
	r->at = at;
	/* a look at some places: it was zeroed */
	for (uint64_t i = 0; i < r->bytes; i += 4096 - 8)
		if (r->at[i] && client_wrong++ < 5)
			tap_note("client: byte %llu of a new region is not zero",
				 (unsigned long long)i);
	err = vine_attach(d->queue, r->fd, &r->id);
	if (err)
		return fail("attach", err);
	client_regions++;
	return true;
}

static bool region_drop(struct driver *d)
{
	struct region *r = &d->region;
	struct bulk b = { .op = DROP, .region = r->id };
	struct vine_msg m = bulk_message(&b);
	int n;

	if (next_random(&d->random) & 1) {	/* else the server still maps it */
		n = vine_push(d->queue, &m, 1);
		if (n == 1)
			n = vine_pull(d->queue, &m, 1, 1, vine_deadline_ms(60000));
		if (n != 1)
			return fail("drop", n);
	}
	munmap(r->at, r->bytes);
	close(r->fd);
	return true;
}

static bool slice_send(struct driver *d, int i)
{
	struct bulk *b = &d->flying[i];
	uint64_t place = (uint64_t)i * (SLICE + 2 * GUARD);
	struct vine_msg m;
	int n;

	/* small ones and large ones alike, and the largest now and then */
	b->op = WORK;
	b->slice = i;
	b->region = d->region.id;
	b->length = next_random(&d->random) & 15 ?
		1 + next_random(&d->random) % (1 << (next_random(&d->random) % 19)) : SLICE;
	b->offset = place + GUARD + next_random(&d->random) % (SLICE - b->length + 1);
	b->seed = next_random(&d->random);
	memset(d->region.at + b->offset - GUARD, 0x5a, GUARD);
	memset(d->region.at + b->offset + b->length, 0xa5, GUARD);
	pattern_write(d->region.at + b->offset, b->length, b->seed);
	m = bulk_message(b);
	n = vine_push(d->queue, &m, 1);
	return n == 1 || fail("push", n);
}

static bool all_are(const uint8_t *p, uint8_t value)
{
	int i;

	for (i = 0; i < GUARD && p[i] == value; i++)
		;
	return i == GUARD;
}

static bool slice_check(struct driver *d, const struct vine_msg *m)
{
	struct bulk b, *was;
	uint8_t *at;

	memcpy(&b, m->data, sizeof(b));
	if (m->len != sizeof(b) || b.slice >= SLICES)
		return fail("answer", -EBADMSG);
	was = &d->flying[b.slice];
	at = d->region.at + was->offset;
	if (b.op != DONE || b.region != was->region || b.offset != was->offset ||
	    b.length != was->length || b.seed != was->seed ||
	    pattern_check(at, b.length, ~b.seed) != b.length ||
	    !all_are(at - GUARD, 0x5a) || !all_are(at + b.length, 0xa5)) {
		if (client_wrong++ < 5)
			tap_note("client: %#llx: a slice of %llu bytes is wrong, answer %u",
				 (unsigned long long)b.region,
				 (unsigned long long)was->length, b.op);
		return false;
	}
	d->bytes += b.length;
	d->done++;
	was->length = 0;
	return true;
}

/* Up to @n transfers through one region, with SLICES in flight. */
static bool drive_region(struct driver *d, long n)
{
	struct vine_msg m[SLICES];
	int flying = 0, i, got;

	while (n || flying) {
		for (i = 0; i < SLICES && n; i++) {
			if (d->flying[i].length)
				continue;
			if (!slice_send(d, i))
				return false;
			n--;
			flying++;
		}
		got = vine_pull(d->queue, m, SLICES, 1, vine_deadline_ms(60000));
		if (got < 1)
			return fail("pull", got);
		for (i = 0; i < got; i++)
			if (!slice_check(d, &m[i]))
				return false;
		flying -= got;
	}
	return true;
}

static void *drive_thread(void *arg)
{
	struct driver *d = arg;
	long n;

	d->queue = vine_connect(device, service, 16, VINE_WAIT_SERVICE,
				vine_deadline_ms(120000), NULL);
	if (d->queue < 0) {
		fail("connect", d->queue);
		return NULL;
	}
	while (d->left) {
		n = d->left < LIFE ? d->left : LIFE;
		if (!region_make(d) || !drive_region(d, n) || !region_drop(d))
			break;
		d->left -= n;
	}
	close(d->queue);
	return NULL;
}

static int do_drive(void)
{
	struct driver *drivers = calloc(queues, sizeof(*drivers));
	uint64_t begin, end, bytes = 0;
	long i, done = 0;

	tap_plan(3);
	device = open_device(device_path);
	begin = now_ns();
	for (i = 0; i < queues; i++) {
		drivers[i].left = transfers / queues + (i < transfers % queues);
		drivers[i].random = seed * 1000 + i;
		if (pthread_create(&drivers[i].thread, NULL, drive_thread, &drivers[i]))
			tap_bail("no thread");
	}
	for (i = 0; i < queues; i++) {
		pthread_join(drivers[i].thread, NULL);
		done += drivers[i].done;
		bytes += drivers[i].bytes;
	}
	end = now_ns();
	tap_note("client: %ld transfers, %.1f MB, %lu regions in %.2f s", done, bytes / 1e6,
		 client_regions, (end - begin) / 1e9);
	tap_ok(!client_failed && done == transfers,
	       "client: %ld transfers of up to %d KiB through regions", transfers, SLICE >> 10);
	tap_ok(!client_wrong, "client: every byte was as the server wrote it, none beside");
	tap_ok(all_back(device, alone, 60), "client: all queues and memory came back");
	return tap_end();
}

int main(int argc, char **argv)
{
	const struct option_value options[] = {
		{ .name = "--serve", .flag = &serve },
		{ .name = "--drive", .flag = &drive },
		{ .name = "--alone", .flag = &alone },
		{ .name = "--device", .text = &device_path },
		{ .name = "--name", .text = &service },
		{ .name = "--queues", .number = &queues },
		{ .name = "--transfers", .number = &transfers },
		{ .name = "--seed", .number = &seed },
		{ .name = "--timeout", .number = &time_limit },
		{ }
	};

	parse_options(argc, argv, usage, options);
	if (serve == drive || queues < 1 || queues > 256) {
		fputs("wrong usage; see --help\n", stderr);
		return 2;
	}
	limit_time(time_limit);
	return serve ? do_serve() : do_drive();
}
