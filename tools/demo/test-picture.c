// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * test-picture.c - on the host: makes the demo's picture, and compares what came back
 *
 * The gray of a pixel, and its blur, are computed here anew, in another way than the plugin's and
 * the kernel's.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "blur.h"
#include "picture.h"

#define WIDTH	960
#define HEIGHT	640
#define PIXELS_MAX	(64U << 20)

static const char help[] =
	"Usage: test-picture make FILE          write a test image\n"
	"       test-picture size FILE          print its width and its height\n"
	"       test-picture check FILE GRAY    is GRAY the gray of FILE, in each pixel?\n"
	"       test-picture blurred FILE RESULT  is it FILE, blurred? Within 1 of 255\n"
	"Exit status: 0 yes, 1 no, 2 wrong usage.\n";

/* Gradients, with a chessboard of bands, rings and some grain: little of it is alike. */
static void pixel(uint32_t x, uint32_t y, uint8_t *to)
{
	static uint32_t grain = 1;
	double distance = hypot(x - WIDTH / 2.0, y - HEIGHT / 2.0);
	unsigned int ring = (unsigned int)(distance / 24) & 1;
	unsigned int square = (x / 60 + y / 80) & 1;

	grain = grain * 1664525 + 1013904223;
	to[0] = x * 255 / (WIDTH - 1);
	to[1] = ring && distance < 240 ? 255 - y * 255 / (HEIGHT - 1) : y * 255 / (HEIGHT - 1);
	to[2] = (square ? 200 : 40) + (grain >> 28);
}

static void make(const char *path)
{
	struct picture *p = picture_create(path, WIDTH, HEIGHT, RGB);
	uint8_t row[WIDTH * RGB];

	for (uint32_t y = 0; y < HEIGHT; y++) {
		for (uint32_t x = 0; x < WIDTH; x++)
			pixel(x, y, row + x * RGB);
		picture_write(p, row, 1);
	}
	picture_close(p);
}

static uint8_t *row_of(const struct picture *p)
{
	uint8_t *row = malloc((size_t)picture_width(p) * RGB);

	if (!row)
		abort();
	return row;
}

/* Reads all of it, to see that it can be read. */
static void size(const char *path)
{
	struct picture *p = picture_open(path);
	uint64_t pixels = (uint64_t)picture_width(p) * picture_height(p);
	uint8_t *row;

	if (pixels > PIXELS_MAX) {
		fprintf(stderr, "it has %" PRIu64 " pixels; the demo takes at most %u\n", pixels,
			PIXELS_MAX);
		exit(1);
	}
	row = row_of(p);
	for (uint32_t y = 0; y < picture_height(p); y++)
		picture_read(p, row, 1);
	free(row);
	printf("%" PRIu32 " %" PRIu32 "\n", picture_width(p), picture_height(p));
	picture_close(p);
}

/* The weights of ITU-R BT.601, in whole 256ths, rounded. */
static uint8_t gray(const uint8_t *rgb)
{
	return floor(77.0 / 256 * rgb[0] + 150.0 / 256 * rgb[1] + 29.0 / 256 * rgb[2] + 0.5);
}

static int same_size(const struct picture *in, const struct picture *out)
{
	if (picture_width(out) == picture_width(in) && picture_height(out) == picture_height(in))
		return 1;
	printf("it is %" PRIu32 " x %" PRIu32 ", not %" PRIu32 " x %" PRIu32 "\n",
	       picture_width(out), picture_height(out), picture_width(in), picture_height(in));
	return 0;
}

/* A gray pixel is read as one with three same colours. */
static int check(const char *path, const char *gray_path)
{
	struct picture *in = picture_open(path), *out = picture_open(gray_path);
	uint32_t width = picture_width(in), height = picture_height(in);
	uint8_t *row, *result, expected;
	int wrong = 0;

	if (!same_size(in, out))
		return 1;
	row = row_of(in);
	result = row_of(out);
	for (uint32_t y = 0; y < height && !wrong; y++) {
		picture_read(in, row, 1);
		picture_read(out, result, 1);
		for (size_t i = 0; i < (size_t)width * RGB && !wrong; i++) {
			expected = gray(row + i / RGB * RGB);
			if (result[i] == expected)
				continue;
			printf("pixel %zu,%" PRIu32 " is %u, not %u\n", i / RGB, y, result[i],
			       expected);
			wrong = 1;
		}
	}
	free(row);
	free(result);
	picture_close(in);
	picture_close(out);
	return wrong;
}

/* ---- the blur ---- */

/* All pixels of a picture. */
static uint8_t *pixels_of(struct picture *p)
{
	uint8_t *all = malloc((size_t)picture_width(p) * picture_height(p) * RGB);

	if (!all)
		abort();
	picture_read(p, all, picture_height(p));
	return all;
}

static int64_t clamped(int64_t n, int64_t count)
{
	return n < 0 ? 0 : n < count ? n : count - 1;
}

/* @from: @count values, @step apart; so is @to. Weighted sums of those around each. */
static void blur_line(const double *from, double *to, int64_t count, int64_t step)
{
	double weights[BLUR_RADIUS + 1], all = 0;

	for (int d = 0; d <= BLUR_RADIUS; d++) {
		weights[d] = exp(-d * d / (2 * BLUR_SIGMA * BLUR_SIGMA));
		all += d ? 2 * weights[d] : weights[d];
	}
	for (int64_t i = 0; i < count; i++) {
		double sum = weights[0] * from[i * step];

		for (int d = 1; d <= BLUR_RADIUS; d++)
			sum += weights[d] * (from[clamped(i - d, count) * step] +
					     from[clamped(i + d, count) * step]);
		to[i * step] = sum / all;
	}
}

/* In doubles, rows first and then columns: the kernel does both at once, in floats. */
static int blurred(const char *path, const char *result_path)
{
	struct picture *in = picture_open(path), *out = picture_open(result_path);
	int64_t width = picture_width(in), height = picture_height(in), bytes, i;
	double *a, *b, worst = 0;
	uint8_t *pixels, *result;

	if (!same_size(in, out))
		return 1;
	bytes = width * height * RGB;
	pixels = pixels_of(in);
	result = pixels_of(out);
	a = malloc(bytes * sizeof(*a));
	b = malloc(bytes * sizeof(*b));
	if (!a || !b)
		abort();
	for (i = 0; i < bytes; i++)
		a[i] = pixels[i];
	for (i = 0; i < height * RGB; i++)
		blur_line(a + i / RGB * width * RGB + i % RGB, b + i / RGB * width * RGB + i % RGB,
			  width, RGB);
	for (i = 0; i < width * RGB; i++)
		blur_line(b + i, a + i, height, width * RGB);
	for (i = 0; i < bytes && worst <= 1; i++)
		worst = fmax(worst, fabs(result[i] - a[i]));
	if (worst > 1)
		printf("pixel %" PRId64 ",%" PRId64 " is %u, not %.2f\n", (i - 1) / RGB % width,
		       (i - 1) / RGB / width, result[i - 1], a[i - 1]);
	else
		printf("%.3f\n", worst);
	free(a);
	free(b);
	free(pixels);
	free(result);
	picture_close(in);
	picture_close(out);
	return worst > 1;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (argc == 4 && !strcmp(verb, "check"))
		return check(argv[2], argv[3]);
	if (argc == 4 && !strcmp(verb, "blurred"))
		return blurred(argv[2], argv[3]);
	if (argc == 3 && !strcmp(verb, "make")) {
		make(argv[2]);
		return 0;
	}
	if (argc == 3 && !strcmp(verb, "size")) {
		size(argv[2]);
		return 0;
	}
	fputs(help, stderr);
	return 2;
}
