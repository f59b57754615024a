// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * application.c - the demo's application: gives the accelerators of an appliance in
 * another virtual machine real work on a real file
 *
 * One thread and one queue per accelerator. Each thread reads the file in chunks straight
 * into a region, keeps several tasks in flight, and writes what comes back from another
 * region to a file. The regions are rings of slots, so a file of any size will do.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "protocol.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define SLOTS		16	/* of each region; also the depth of the queues */
#define DIGEST_BYTES	32
#define TASKS_MAX	1000000	/* names of chunks have six digits */

static const char help[] =
	"Usage: application --input FILE --out DIR [OPTION]...\n"
	"Has FILE digested and compressed by an appliance that offers sha256 and deflate over\n"
	"vine, in chunks.\n"
	"\n"
	"  --input FILE    a file, or a block device\n"
	"  --out DIR       results go here: sha256.txt (a digest for each chunk, as sha256sum\n"
	"                  writes them), deflate.gz (the compressed file) and report.tsv\n"
	"  --bytes N       take only the first N bytes of FILE\n"
	"  --chunk N       bytes of one task (default 262144)\n"
	"  --in-flight N   tasks in flight for each accelerator, 1 to 16 (default 8)\n"
	"  --timeout S     give up when nothing comes for so many seconds (default 120)\n"
	"  --device PATH   default: $VINE_DEVICE, or /dev/vine0\n"
	"  --help          this text\n"
	"\n"
	"Exit status: 0 done, 1 it failed, 2 wrong usage.\n";

struct options {
	const char *device, *input, *out;
	uint64_t bytes;
	uint32_t chunk;
	unsigned int in_flight;
	unsigned int timeout;
};

struct buffer {
	int region;
	uint64_t id;
	uint64_t bytes;
	uint8_t *address;
};

/* A slot is taken from reading its chunk until its result is written. */
struct slot {
	bool in_flight;
	uint32_t in_bytes;
	uint32_t out_bytes;
	uint64_t since;		/* ns: when it was given away */
};

/* What one thread does. Task i uses slot i % SLOTS. */
struct stream {
	const char *name;
	const char *file;	/* of the results, in --out */
	int (*write)(struct stream *s, uint64_t task);
	uint32_t out_room;	/* of one task */

	const struct options *options;
	pthread_t thread;
	int input;
	int queue;
	FILE *out;
	struct buffer in_buffer, out_buffer;
	struct slot slots[SLOTS];
	uint64_t tasks;
	/* Tasks given <= read, and written <= done, in order but for what is in flight. */
	uint64_t given, written;
	unsigned int in_flight;

	uint64_t *latency;	/* ns of each task */
	uint64_t ns;		/* from the first task given to the last one done */
	int failed;
};

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int fail(const struct stream *s, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void say(const char *format, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	fprintf(stderr, "application: %s\n", line);
}

static int fail(const struct stream *s, const char *format, ...)
{
	char line[400];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	say("%s: %s", s->name, line);
	return -1;
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* ---- results ---- */

static uint8_t *result(const struct stream *s, uint64_t task)
{
	return s->out_buffer.address + task % SLOTS * s->out_room;
}

/* The line that sha256sum would write for a chunk that split(1) has named. */
static int write_digest(struct stream *s, uint64_t task)
{
	const uint8_t *digest = result(s, task);

	if (s->slots[task % SLOTS].out_bytes != DIGEST_BYTES)
		return fail(s, "task %" PRIu64 ": no digest came", task);
	for (unsigned int i = 0; i < DIGEST_BYTES; i++)
		fprintf(s->out, "%02x", digest[i]);
	fprintf(s->out, "  chunk.%06" PRIu64 "\n", task);
	return 0;
}

/* Members of gzip, one after the other, are a gzip file. */
static int write_member(struct stream *s, uint64_t task)
{
	fwrite(result(s, task), 1, s->slots[task % SLOTS].out_bytes, s->out);
	return 0;
}

/* ---- tasks ---- */

/* Reads the chunk of @task into its slot. */
static int read_chunk(struct stream *s, uint64_t task)
{
	const struct options *o = s->options;
	uint64_t offset = task * o->chunk;
	uint8_t *to = s->in_buffer.address + task % SLOTS * o->chunk;
	uint32_t bytes = o->bytes - offset < o->chunk ? o->bytes - offset : o->chunk;
	uint32_t done = 0;
	ssize_t n;

	while (done < bytes) {
		n = pread(s->input, to + done, bytes - done, offset + done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(s, "cannot read %s: %m", o->input);
		if (n == 0)
			return fail(s, "%s has become shorter", o->input);
		done += n;
	}
	s->slots[task % SLOTS].in_bytes = bytes;
	return 0;
}

/* Gives the next task to the appliance. */
static int give(struct stream *s)
{
	uint64_t task = s->given, at = task % SLOTS;
	struct demo_task t = {
		.tag = task,
		.in_region = s->in_buffer.id, .in_offset = at * s->options->chunk,
		.out_region = s->out_buffer.id, .out_offset = at * s->out_room,
		.out_room = s->out_room,
	};
	struct vine_msg msg = { .len = sizeof(t) };
	int ret;

	if (read_chunk(s, task))
		return -1;
	t.in_bytes = s->slots[at].in_bytes;
	memcpy(msg.data, &t, sizeof(t));
	s->slots[at].in_flight = true;
	s->slots[at].since = now();
	do
		ret = vine_push(s->queue, &msg, 1);
	while (ret == -EINTR);
	if (ret < 0)	/* -EAGAIN too: no more are in flight than the ring holds */
		return fail(s, "cannot send task %" PRIu64 ": %s", task, strerror(-ret));
	s->given++;
	s->in_flight++;
	return 0;
}

static int take_reply(struct stream *s, const struct vine_msg *msg)
{
	struct demo_reply r;
	struct slot *slot;

	if (msg->len != sizeof(r))
		return fail(s, "a reply of %u bytes came", msg->len);
	memcpy(&r, msg->data, sizeof(r));
	slot = &s->slots[r.tag % SLOTS];
	if (r.tag < s->written || r.tag >= s->given || !slot->in_flight)
		return fail(s, "a reply to no task came");
	if (r.status != DEMO_OK)
		return fail(s, "task %" PRIu64 ": %s", r.tag, demo_status_text(r.status));
	if (r.out_bytes > s->out_room)
		return fail(s, "task %" PRIu64 ": a result of %u bytes came", r.tag, r.out_bytes);
	slot->out_bytes = r.out_bytes;
	slot->in_flight = false;
	s->latency[r.tag] = now() - slot->since;
	s->in_flight--;
	return 0;
}

/* Takes all replies that are there; if @wait, at least one. */
static int take_replies(struct stream *s, bool wait)
{
	int ms = wait ? s->options->timeout * 1000 : 0;
	struct vine_msg msgs[SLOTS];
	int n;

	do
		n = vine_pull(s->queue, msgs, SLOTS, wait, vine_deadline_ms(ms));
	while (n == -EINTR);
	if (n == -EAGAIN && !wait)
		return 0;
	if (n == -ETIMEDOUT)
		return fail(s, "no reply came in %u seconds", s->options->timeout);
	if (n == -EPIPE)
		return fail(s, "the appliance has gone");
	if (n < 0)
		return fail(s, "cannot receive: %s", strerror(-n));
	for (int i = 0; i < n; i++)
		if (take_reply(s, &msgs[i]))
			return -1;
	return 0;
}

static int work(struct stream *s)
{
	uint64_t begin = now();
	bool more;

	while (s->written < s->tasks) {
		more = s->given < s->tasks && s->given - s->written < SLOTS &&
			s->in_flight < s->options->in_flight;
		if (more && give(s))
			return -1;
		if (take_replies(s, !more))
			return -1;
		/* Replies may come in any order; results are written in that of the file. */
		while (s->written < s->given && !s->slots[s->written % SLOTS].in_flight)
			if (s->write(s, s->written++))
				return -1;
	}
	s->ns = now() - begin;
	if (fflush(s->out) || ferror(s->out))
		return fail(s, "cannot write the results: %m");
	say("%s: all tasks done: %" PRIu64, s->name, s->tasks);
	return 0;
}

static void *thread(void *arg)
{
	struct stream *s = arg;

	s->failed = work(s);
	return NULL;
}

/* ---- set-up ---- */

static int make_buffer(struct stream *s, int device, uint32_t slot_bytes, struct buffer *b)
{
	void *address;
	int ret;

	b->region = vine_region(device, (uint64_t)SLOTS * slot_bytes, &b->bytes);
	if (b->region < 0)
		return fail(s, "cannot get %u KiB of shared memory: %s",
			    (unsigned int)((uint64_t)SLOTS * slot_bytes >> 10),
			    strerror(-b->region));
	ret = vine_map(b->region, b->bytes, &address);
	if (!ret)
		ret = vine_attach(s->queue, b->region, &b->id);
	if (ret)
		return fail(s, "cannot share memory: %s", strerror(-ret));
	b->address = address;
	return 0;
}

static int set_up(struct stream *s, const struct options *o, int device, int input)
{
	char path[4096];

	s->options = o;
	s->input = input;
	s->tasks = (o->bytes + o->chunk - 1) / o->chunk;
	s->latency = calloc(s->tasks, sizeof(*s->latency));
	if (!s->latency)
		return fail(s, "out of memory");
	if (snprintf(path, sizeof(path), "%s/%s", o->out, s->file) >= (int)sizeof(path))
		return fail(s, "the name of the folder of results is too long");
	s->out = fopen(path, "we");
	if (!s->out)
		return fail(s, "cannot create %s: %m", path);

	/* The appliance may boot after us. */
	s->queue = vine_connect(device, s->name, SLOTS, VINE_WAIT_SERVICE,
				vine_deadline_ms(o->timeout * 1000), NULL);
	if (s->queue == -ETIMEDOUT)
		return fail(s, "no machine offers it, after %u seconds", o->timeout);
	if (s->queue < 0)
		return fail(s, "cannot connect: %s", strerror(-s->queue));
	say("connected to %s", s->name);
	if (make_buffer(s, device, o->chunk, &s->in_buffer))
		return -1;
	return make_buffer(s, device, s->out_room, &s->out_buffer);
}

/* Leaves out what was not made. */
static void tear_down(struct stream *s)
{
	struct buffer *buffers[] = { &s->in_buffer, &s->out_buffer };

	if (s->queue > 0)
		close(s->queue);
	for (unsigned int i = 0; i < ARRAY_SIZE(buffers); i++) {
		if (buffers[i]->address)
			munmap(buffers[i]->address, buffers[i]->bytes);
		if (buffers[i]->region > 0)
			close(buffers[i]->region);
	}
	if (s->out)
		fclose(s->out);
	free(s->latency);
}

/* ---- the report ---- */

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Of sorted latencies: the one that so many percent do not exceed, in us. */
static uint64_t percentile(const struct stream *s, unsigned int percent)
{
	return s->latency[(s->tasks * percent + 99) / 100 - 1] / 1000;
}

static int report(struct stream *streams, unsigned int n, const struct options *o)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/report.tsv", o->out);
	f = fopen(path, "we");
	if (!f) {
		say("cannot create %s: %m", path);
		return -1;
	}
	fprintf(f, "accelerator\ttasks\tbytes\tseconds\tp50_us\tp99_us\n");
	for (struct stream *s = streams; s < streams + n; s++) {
		qsort(s->latency, s->tasks, sizeof(*s->latency), compare);
		fprintf(f, "%s\t%" PRIu64 "\t%" PRIu64 "\t%.6f\t%" PRIu64 "\t%" PRIu64 "\n",
			s->name, s->tasks, o->bytes, s->ns / 1e9, percentile(s, 50),
			percentile(s, 99));
	}
	if (fclose(f)) {
		say("cannot write %s: %m", path);
		return -1;
	}
	return 0;
}

static int run(struct stream *streams, unsigned int n, const struct options *o, int device,
	       int input)
{
	unsigned int started = 0;
	int failed = 0, err;

	/* Connect all before any works: the appliance may end when the last client goes. */
	for (unsigned int i = 0; i < n; i++)
		if (set_up(&streams[i], o, device, input))
			return -1;
	for (; started < n; started++) {
		err = pthread_create(&streams[started].thread, NULL, thread, &streams[started]);
		if (err) {
			failed = fail(&streams[started], "cannot start: %s", strerror(err));
			break;
		}
	}
	for (unsigned int i = 0; i < started; i++) {
		pthread_join(streams[i].thread, NULL);
		failed |= streams[i].failed;
	}
	return failed ? failed : report(streams, n, o);
}

/* ---- command line ---- */

static _Noreturn void usage(const char *what, const char *value)
{
	fprintf(stderr, "application: %s%s (see application --help)\n", what, value);
	exit(2);
}

static uint64_t number(const char *option, const char *text, uint64_t min, uint64_t max)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || n < min || n > max) {
		fprintf(stderr,
			"application: %s %s: give a number from %" PRIu64 " to %" PRIu64 "\n",
			option, text, min, max);
		exit(2);
	}
	return n;
}

static struct options parse(int argc, char **argv)
{
	enum { DEVICE = 256, INPUT, OUT, BYTES, CHUNK, IN_FLIGHT, TIMEOUT, HELP };
	static const struct option options[] = {
		{ "device", required_argument, NULL, DEVICE },
		{ "input", required_argument, NULL, INPUT },
		{ "out", required_argument, NULL, OUT },
		{ "bytes", required_argument, NULL, BYTES },
		{ "chunk", required_argument, NULL, CHUNK },
		{ "in-flight", required_argument, NULL, IN_FLIGHT },
		{ "timeout", required_argument, NULL, TIMEOUT },
		{ "help", no_argument, NULL, HELP },
		{ }
	};
	struct options o = { .chunk = 256 << 10, .in_flight = 8, .timeout = 120 };
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case DEVICE:
			o.device = optarg;
			break;
		case INPUT:
			o.input = optarg;
			break;
		case OUT:
			o.out = optarg;
			break;
		case BYTES:
			o.bytes = number("--bytes", optarg, 1, INT64_MAX);
			break;
		case CHUNK:
			o.chunk = number("--chunk", optarg, 1, DEMO_INPUT_MAX);
			break;
		case IN_FLIGHT:
			o.in_flight = number("--in-flight", optarg, 1, SLOTS);
			break;
		case TIMEOUT:
			o.timeout = number("--timeout", optarg, 1, INT32_MAX / 1000);
			break;
		case HELP:
			fputs(help, stdout);
			exit(0);
		default:
			exit(2);
		}
	}
	if (optind < argc)
		usage("not understood: ", argv[optind]);
	if (!o.input || !o.out)
		usage("--input and --out are needed", "");
	return o;
}

/* Opens the input and finds out how large it is. */
static int open_input(struct options *o)
{
	int fd = open(o->input, O_RDONLY | O_CLOEXEC);
	off_t size;

	if (fd < 0) {
		say("cannot open %s: %m", o->input);
		return -1;
	}
	size = lseek(fd, 0, SEEK_END);
	if (size < 0) {
		say("%s: not a file whose size is known", o->input);
	} else if (size == 0) {
		say("%s is empty", o->input);
	} else if (o->bytes > (uint64_t)size) {
		say("%s has only %jd bytes", o->input, (intmax_t)size);
	} else {
		o->bytes = o->bytes ? o->bytes : (uint64_t)size;
		if ((o->bytes - 1) / o->chunk < TASKS_MAX)
			return fd;
		say("%s: more than %u chunks; give a larger --chunk", o->input, TASKS_MAX);
	}
	close(fd);
	return -1;
}

int main(int argc, char **argv)
{
	struct options o = parse(argc, argv);
	struct stream streams[] = {
		{ .name = DEMO_SHA256, .file = "sha256.txt", .write = write_digest,
		  .out_room = DIGEST_BYTES },
		/* More than zlib's bound for what does not compress, in whole cache lines. */
		{ .name = DEMO_DEFLATE, .file = "deflate.gz", .write = write_member,
		  .out_room = (o.chunk + o.chunk / 1024 + 127) & ~63U },
	};
	int device, input, failed;

	input = open_input(&o);
	if (input < 0)
		return 1;
	device = vine_open(o.device);
	if (device < 0) {
		say("cannot open %s: %s", o.device ? o.device : "vine's device",
		    strerror(-device));
		return 1;
	}
	failed = run(streams, ARRAY_SIZE(streams), &o, device, input);
	for (unsigned int i = 0; i < ARRAY_SIZE(streams); i++)
		tear_down(&streams[i]);
	close(device);
	close(input);
	return failed ? 1 : 0;
}
