// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * application.c - the demo's application: a VineTalk program that gives the accelerators of
 * an appliance in another virtual machine real work on a real file, and on a picture
 *
 * One thread per procedure, and so one queue. Each reads its input, a piece at a time, into
 * memory that the accelerator sees too, keeps several tasks in flight, and writes what comes
 * back in the order of the input.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <vine_talk.h>

#include "picture.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define IN_FLIGHT_MAX	64
#define DIGEST_BYTES	32
#define TASKS_MAX	1000000	/* names of chunks have six digits */

static const char help[] =
	"Usage: application --input FILE --picture FILE --out DIR [OPTION]...\n"
	"Has accelerators digest and compress a file, in chunks, and make a picture gray.\n"
	"\n"
	"  --input FILE    a file, or a block device\n"
	"  --picture FILE  a PNG, on a block device too\n"
	"  --out DIR       results go here: sha256.txt (a digest for each chunk, as sha256sum\n"
	"                  writes them), deflate.gz (the compressed file), gray.png, report.tsv\n"
	"  --bytes N       take only the first N bytes of the input\n"
	"  --chunk N       bytes of one task (default 262144)\n"
	"  --in-flight N   tasks in flight for each accelerator, 1 to 64 (default 8)\n"
	"  --timeout S     wait so many seconds for the accelerators (default 120)\n"
	"  --help          this text\n"
	"\n"
	"Exit status: 0 done, 1 it failed, 2 wrong usage.\n";

struct options {
	const char *input, *picture, *out;
	uint64_t bytes;
	uint32_t chunk;
	unsigned int in_flight;
	unsigned int timeout;
};

/* One task, from reading its piece until its result is written. */
struct job {
	uint64_t number;
	vine_data *args;	/* NULL: none */
	vine_data *in;
	vine_data *out[2];	/* the second may be NULL */
	vine_task *task;
};

/* What one thread does. */
struct stream {
	const char *procedure;
	vine_accel_type_e type;
	unsigned int accel_number;	/* of that type, if there are so many */
	const char *file;		/* of the results, in --out */

	/* Opens input and results; sets @tasks and @bytes. */
	int (*open)(struct stream *s);
	/* Allocates a job's buffers, and reads its piece. */
	int (*read)(struct stream *s, struct job *job);
	int (*write)(struct stream *s, const struct job *job);
	/* Completes the results. */
	int (*close)(struct stream *s);

	const struct options *options;
	char path[4096];		/* of the results */
	int input;
	FILE *out;
	struct picture *in_picture, *out_picture;
	uint64_t tasks, bytes;

	vine_accel *accel;
	vine_proc *proc;
	pthread_t thread;
	struct job jobs[IN_FLIGHT_MAX];	/* task i has job i % in_flight */
	uint64_t *latency;		/* ns of each task, from its issue to its end */
	uint64_t ns;			/* from the first task issued to the last result written */
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
	say("%s: %s", s->procedure, line);
	return -1;
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static vine_data *buffer(const struct stream *s, size_t size)
{
	vine_data *data = vine_data_alloc(size, Both);

	if (!data)
		fail(s, "no shared memory for %zu bytes", size);
	return data;
}

/* ---- the file, in chunks ---- */

static int file_open(struct stream *s)
{
	const struct options *o = s->options;

	s->tasks = (o->bytes - 1) / o->chunk + 1;
	s->bytes = o->bytes;
	s->input = open(o->input, O_RDONLY | O_CLOEXEC);
	if (s->input < 0)
		return fail(s, "cannot open %s: %m", o->input);
	s->out = fopen(s->path, "we");
	if (!s->out)
		return fail(s, "cannot create %s: %m", s->path);
	return 0;
}

static int file_read(struct stream *s, struct job *job)
{
	const struct options *o = s->options;
	uint64_t offset = job->number * o->chunk;
	size_t bytes = o->bytes - offset < o->chunk ? o->bytes - offset : o->chunk, done = 0;
	char *to;
	ssize_t n;

	job->in = buffer(s, bytes);
	if (!job->in)
		return -1;
	to = vine_data_deref(job->in);
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
	return 0;
}

static int file_close(struct stream *s)
{
	int failed = ferror(s->out);

	failed |= fclose(s->out);
	s->out = NULL;
	return failed ? fail(s, "cannot write %s", s->path) : 0;
}

static int digest_read(struct stream *s, struct job *job)
{
	if (file_read(s, job))
		return -1;
	job->out[0] = buffer(s, DIGEST_BYTES);
	return job->out[0] ? 0 : -1;
}

/* The line that sha256sum would write for a chunk that split(1) has named. */
static int digest_write(struct stream *s, const struct job *job)
{
	const uint8_t *digest = vine_data_deref(job->out[0]);

	for (unsigned int i = 0; i < DIGEST_BYTES; i++)
		fprintf(s->out, "%02x", digest[i]);
	fprintf(s->out, "  chunk.%06" PRIu64 "\n", job->number);
	return 0;
}

static int member_read(struct stream *s, struct job *job)
{
	size_t bytes;

	if (file_read(s, job))
		return -1;
	bytes = vine_data_size(job->in);
	/* Room for what does not compress, too. */
	job->out[0] = buffer(s, bytes + bytes / 1024 + 64);
	job->out[1] = buffer(s, sizeof(uint64_t));
	return job->out[0] && job->out[1] ? 0 : -1;
}

/* Members of gzip, one after the other, are a gzip file. */
static int member_write(struct stream *s, const struct job *job)
{
	const void *member = vine_data_deref(job->out[0]);
	uint64_t bytes = le64toh(*(uint64_t *)vine_data_deref(job->out[1]));

	if (bytes > vine_data_size(job->out[0]))
		return fail(s, "task %" PRIu64 ": a result of %" PRIu64 " bytes came",
			    job->number, bytes);
	fwrite(member, 1, bytes, s->out);
	return 0;
}

/* ---- the picture, in bands of rows ---- */

/* So that a band is about a chunk. */
static uint32_t band_rows(const struct stream *s)
{
	size_t row = (size_t)picture_width(s->in_picture) * RGB;

	return row < s->options->chunk ? s->options->chunk / row : 1;
}

static uint32_t rows_of(const struct stream *s, const struct job *job)
{
	uint32_t rows = band_rows(s), left = picture_height(s->in_picture) - job->number * rows;

	return left < rows ? left : rows;
}

static int picture_begin(struct stream *s)
{
	uint32_t width, height, rows;

	s->in_picture = picture_open(s->options->picture);
	width = picture_width(s->in_picture);
	height = picture_height(s->in_picture);
	rows = band_rows(s);
	s->tasks = (height - 1) / rows + 1;
	s->bytes = (uint64_t)width * height * RGB;
	s->out_picture = picture_create(s->path, width, height, 1);
	return 0;
}

static int band_read(struct stream *s, struct job *job)
{
	uint32_t width = picture_width(s->in_picture), rows = rows_of(s, job);
	const uint32_t args[] = { htole32(width), htole32(rows), htole32(RGB) };
	size_t pixels = (size_t)width * rows;

	job->args = buffer(s, sizeof(args));
	job->in = buffer(s, pixels * RGB);
	job->out[0] = buffer(s, pixels);
	if (!job->args || !job->in || !job->out[0])
		return -1;
	memcpy(vine_data_deref(job->args), args, sizeof(args));
	picture_read(s->in_picture, vine_data_deref(job->in), rows);
	return 0;
}

static int band_write(struct stream *s, const struct job *job)
{
	picture_write(s->out_picture, vine_data_deref(job->out[0]), rows_of(s, job));
	return 0;
}

static int picture_end(struct stream *s)
{
	picture_close(s->in_picture);
	picture_close(s->out_picture);
	return 0;
}

/* ---- tasks ---- */

static int issue(struct stream *s, struct job *job, uint64_t number)
{
	*job = (struct job){ .number = number };
	if (s->read(s, job))
		return -1;
	job->task = vine_task_issue(s->accel, s->proc, job->args, 1, &job->in,
				    job->out[1] ? 2 : 1, job->out);
	if (!job->task)
		return fail(s, "task %" PRIu64 " was not accepted", number);
	return 0;
}

static void job_free(struct job *job)
{
	vine_task_free(job->task);
	vine_data_free(job->args);
	vine_data_free(job->in);
	for (unsigned int i = 0; i < ARRAY_SIZE(job->out); i++)
		vine_data_free(job->out[i]);
	*job = (struct job){ };
}

static int complete(struct stream *s, struct job *job)
{
	vine_task_state_e state = vine_task_wait(job->task);
	vine_task_stats_s stats;

	vine_task_stat(job->task, &stats);
	if (state != task_completed)
		return fail(s, "task %" PRIu64 ": %s (%d)", job->number,
			    vine_task_reason_text(stats.reason), stats.detail);
	/* Not the time it is now: it may have ended while we were busy with others. */
	s->latency[job->number] = stats.end_ns - stats.issue_ns;
	if (s->write(s, job))
		return -1;
	job_free(job);
	return 0;
}

static int work(struct stream *s)
{
	const unsigned int in_flight = s->options->in_flight;
	uint64_t begin = now();

	for (uint64_t i = 0; i < s->tasks + in_flight; i++) {
		struct job *job = &s->jobs[i % in_flight];

		if (job->task && complete(s, job))
			return -1;
		if (i < s->tasks && issue(s, job, i))
			return -1;
	}
	s->ns = now() - begin;
	if (s->close(s))
		return -1;
	say("%s: all tasks done: %" PRIu64, s->procedure, s->tasks);
	return 0;
}

static void *thread(void *arg)
{
	struct stream *s = arg;

	s->failed = work(s);
	return NULL;
}

/* ---- set-up ---- */

/* The stream's accelerator: the appliance may boot after us. */
static vine_accel *find_accel(const struct stream *s)
{
	const struct timespec breath = { .tv_nsec = 100000000 };
	uint64_t deadline = now() + s->options->timeout * 1000000000ULL;
	vine_accel **list, *found;
	int count;

	while (!(count = vine_accel_list(s->type, &list))) {
		if (now() > deadline)
			return NULL;
		nanosleep(&breath, NULL);
	}
	found = list[s->accel_number % count];
	free(list);
	return found;
}

static int set_up(struct stream *s, const struct options *o)
{
	vine_accel_loc_s where;

	s->options = o;
	s->input = -1;
	if (snprintf(s->path, sizeof(s->path), "%s/%s", o->out, s->file) >= (int)sizeof(s->path))
		return fail(s, "the name of the folder of results is too long");
	if (s->open(s))
		return -1;
	s->latency = calloc(s->tasks, sizeof(*s->latency));
	if (!s->latency)
		return fail(s, "out of memory");
	s->accel = find_accel(s);
	if (!s->accel)
		return fail(s, "no machine has an accelerator for it, after %u seconds", o->timeout);
	s->proc = vine_proc_get(s->type, s->procedure);
	if (!s->proc)
		return fail(s, "no accelerator runs it");
	where = vine_accel_location(s->accel);
	say("%s: on %s of %s", s->procedure, where.name, where.host);
	return 0;
}

/* Leaves out what was not made. What vine_talk_exit() ends is left to it. */
static void tear_down(struct stream *s)
{
	if (s->input > 0)
		close(s->input);
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
	fprintf(f, "procedure\ttasks\tbytes\tseconds\tp50_us\tp99_us\n");
	for (struct stream *s = streams; s < streams + n; s++) {
		qsort(s->latency, s->tasks, sizeof(*s->latency), compare);
		fprintf(f, "%s\t%" PRIu64 "\t%" PRIu64 "\t%.6f\t%" PRIu64 "\t%" PRIu64 "\n",
			s->procedure, s->tasks, s->bytes, s->ns / 1e9, percentile(s, 50),
			percentile(s, 99));
	}
	if (fclose(f)) {
		say("cannot write %s: %m", path);
		return -1;
	}
	return 0;
}

static int run(struct stream *streams, unsigned int n, const struct options *o)
{
	unsigned int started = 0;
	int failed = 0, err;

	for (unsigned int i = 0; i < n; i++)
		if (set_up(&streams[i], o))
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
	enum { INPUT = 256, PICTURE, OUT, BYTES, CHUNK, IN_FLIGHT, TIMEOUT, HELP };
	static const struct option options[] = {
		{ "input", required_argument, NULL, INPUT },
		{ "picture", required_argument, NULL, PICTURE },
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
		case INPUT:
			o.input = optarg;
			break;
		case PICTURE:
			o.picture = optarg;
			break;
		case OUT:
			o.out = optarg;
			break;
		case BYTES:
			o.bytes = number("--bytes", optarg, 1, INT64_MAX);
			break;
		case CHUNK:
			o.chunk = number("--chunk", optarg, 1, UINT32_MAX / 2);
			break;
		case IN_FLIGHT:
			o.in_flight = number("--in-flight", optarg, 1, IN_FLIGHT_MAX);
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
	if (!o.input || !o.picture || !o.out)
		usage("--input, --picture and --out are needed", "");
	return o;
}

/* Finds out how large the input is. */
static int measure(struct options *o)
{
	int fd = open(o->input, O_RDONLY | O_CLOEXEC);
	off_t size;

	if (fd < 0) {
		say("cannot open %s: %m", o->input);
		return -1;
	}
	size = lseek(fd, 0, SEEK_END);
	close(fd);
	if (size < 0) {
		say("%s: not a file whose size is known", o->input);
		return -1;
	}
	if (size == 0) {
		say("%s is empty", o->input);
		return -1;
	}
	if (o->bytes > (uint64_t)size) {
		say("%s has only %jd bytes", o->input, (intmax_t)size);
		return -1;
	}
	if (!o->bytes)
		o->bytes = size;
	if ((o->bytes - 1) / o->chunk < TASKS_MAX)
		return 0;
	say("%s: more than %u chunks; give a larger --chunk", o->input, TASKS_MAX);
	return -1;
}

int main(int argc, char **argv)
{
	struct options o = parse(argc, argv);
	struct stream streams[] = {
		{ .procedure = "sha256", .type = CPU, .file = "sha256.txt",
		  .open = file_open, .read = digest_read, .write = digest_write,
		  .close = file_close },
		{ .procedure = "deflate", .type = CPU, .accel_number = 1, .file = "deflate.gz",
		  .open = file_open, .read = member_read, .write = member_write,
		  .close = file_close },
		{ .procedure = "grayscale", .type = GPU_SOFT, .file = "gray.png",
		  .open = picture_begin, .read = band_read, .write = band_write,
		  .close = picture_end },
	};
	int failed;

	if (measure(&o))
		return 1;
	vine_talk_init();
	failed = run(streams, ARRAY_SIZE(streams), &o);
	vine_talk_exit();
	for (unsigned int i = 0; i < ARRAY_SIZE(streams); i++)
		tear_down(&streams[i]);
	return failed ? 1 : 0;
}
