// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * blur.c - the demo of OpenCL: a VineTalk program that has an appliance's GPU run a kernel of
 *          its own, which blurs a picture, a band of rows per task
 */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <vine_opencl.h>
#include <vine_talk.h>

#include "blur.h"
#include "picture.h"

#define BAND		64	/* rows of a task */
#define WEIGHTS		(2 * BLUR_RADIUS + 1)
#define PATIENCE_S	120	/* until the appliance is there */

/* Bytes of a whole picture in, of a band out; a work item per byte. */
static const char source[] =
	"__kernel void blur(__global const uchar *picture, __constant float *weights,\n"
	"		   __global uchar *band, int width, int height, int first, int radius)\n"
	"{\n"
	"	int i = get_global_id(0), row = get_global_id(1), dx, dy, x, y;\n"
	"	float sum = 0;\n"
	"\n"
	"	for (dy = -radius; dy <= radius; dy++) {\n"
	"		y = clamp(first + row + dy, 0, height - 1);\n"
	"		for (dx = -radius; dx <= radius; dx++) {\n"
	"			x = clamp(i / 3 + dx, 0, width - 1);\n"
	"			sum += weights[radius + dy] * weights[radius + dx] *\n"
	"			       picture[((size_t)y * width + x) * 3 + i % 3];\n"
	"		}\n"
	"	}\n"
	"	band[(size_t)row * width * 3 + i] = convert_uchar_sat_rte(sum);\n"
	"}\n";

struct band {
	uint32_t first, rows;
	vine_data *args, *out;
	vine_task *task;
};

static _Noreturn void __attribute__((format(printf, 1, 2))) fail(const char *format, ...)
{
	va_list ap;

	fputs("blur: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static vine_data *data(size_t size)
{
	vine_data *d = vine_data_alloc(size, Both);

	if (!d)
		fail("no memory that the appliance sees");
	return d;
}

/* The appliance may still be on its way. */
static vine_accel *find_gpu(void)
{
	uint64_t until = now() + PATIENCE_S * 1000000000ULL;
	vine_accel **accels, *gpu;

	while (vine_accel_list(GPU, &accels) < 1) {
		if (now() > until)
			fail("nobody offers a GPU");
		usleep(100000);
	}
	gpu = accels[0];
	free(accels);
	return gpu;
}

static vine_data *make_weights(void)
{
	vine_data *d = data(WEIGHTS * sizeof(float));
	float *w = vine_data_deref(d);
	double sum = 0;
	int i;

	for (i = -BLUR_RADIUS; i <= BLUR_RADIUS; i++)
		sum += exp(-i * i / (2 * BLUR_SIGMA * BLUR_SIGMA));
	for (i = -BLUR_RADIUS; i <= BLUR_RADIUS; i++)
		w[BLUR_RADIUS + i] = exp(-i * i / (2 * BLUR_SIGMA * BLUR_SIGMA)) / sum;
	return d;
}

static struct vine_opencl_arg number(int32_t n)
{
	return (struct vine_opencl_arg){ .kind = VINE_OPENCL_VALUE, .size = 4, .value.i = n };
}

static void issue(struct band *b, vine_accel *gpu, vine_proc *blur, vine_data **in, uint32_t width,
		  uint32_t height)
{
	b->args = data(sizeof(struct vine_opencl));
	b->out = data((size_t)b->rows * width * RGB);
	*(struct vine_opencl *)vine_data_deref(b->args) = (struct vine_opencl){
		.magic = VINE_OPENCL_MAGIC, .version = VINE_OPENCL_VERSION, .kernel = "blur",
		.dimensions = 2, .global = { (uint64_t)width * RGB, b->rows }, .arg_count = 7,
		.arg = {
			{ .kind = VINE_OPENCL_IN, .value.buffer = 0 },
			{ .kind = VINE_OPENCL_IN, .value.buffer = 1 },
			{ .kind = VINE_OPENCL_OUT, .value.buffer = 0 },
			number(width), number(height), number(b->first), number(BLUR_RADIUS),
		},
	};
	b->task = vine_task_issue(gpu, blur, b->args, 2, in, 1, &b->out);
	if (!b->task)
		fail("the appliance took no task");
}

/* Waits for it, and writes its rows. Returns how long the GPU was at it, in ns. */
static uint64_t finish(struct band *b, struct picture *to)
{
	vine_task_stats_s stats;

	vine_task_wait(b->task);
	vine_task_stat(b->task, &stats);
	if (stats.reason)
		fail("rows from %" PRIu32 " on: %s (%d)", b->first,
		     vine_task_reason_text(stats.reason), stats.detail);
	picture_write(to, vine_data_deref(b->out), b->rows);
	vine_task_free(b->task);
	vine_data_free(b->args);
	vine_data_free(b->out);
	return stats.end_ns - stats.start_ns;
}

int main(int argc, char **argv)
{
	struct picture *from, *to;
	uint32_t width, height, count, i;
	uint64_t begin, busy = 0, first;
	vine_accel_loc_s where;
	struct band *bands;
	vine_data *in[2];
	vine_accel *gpu;
	vine_proc *blur;

	if (argc != 3) {
		fputs("Usage: blur PICTURE RESULT\nHas a GPU blur a PNG. Exit status: 0 done, 1 it "
		      "failed, 2 wrong usage.\n", stderr);
		return 2;
	}
	vine_talk_init();
	from = picture_open(argv[1]);
	width = picture_width(from);
	height = picture_height(from);
	gpu = find_gpu();
	where = vine_accel_location(gpu);
	blur = vine_proc_register(GPU, "blur", source, sizeof(source) - 1);
	if (!blur)
		fail("the kernel cannot be registered");

	in[0] = data((size_t)width * height * RGB);
	in[1] = make_weights();
	picture_read(from, vine_data_deref(in[0]), height);
	to = picture_create(argv[2], width, height, RGB);
	count = (height + BAND - 1) / BAND;
	bands = calloc(count, sizeof(*bands));
	if (!bands)
		fail("no memory");

	begin = now();
	for (i = 0; i < count; i++) {
		bands[i].first = i * BAND;
		bands[i].rows = i < count - 1 ? BAND : height - i * BAND;
		issue(&bands[i], gpu, blur, in, width, height);
	}
	first = finish(&bands[0], to);
	for (i = 1; i < count; i++)
		busy += finish(&bands[i], to);
	printf("blur: %" PRIu32 " tasks on %s of %s (machine %u): %.0f ms; the first, which "
	       "compiles, %.0f ms, the others %.1f ms each\n", count, where.name, where.host,
	       where.peer, (now() - begin) / 1e6, first / 1e6,
	       count > 1 ? busy / 1e6 / (count - 1) : 0.0);

	picture_close(from);
	picture_close(to);
	free(bands);
	vine_talk_exit();
	return 0;
}
