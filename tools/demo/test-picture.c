// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * test-picture.c - on the host: makes the demo's picture, and compares what came back
 *
 * The gray of a pixel is computed here anew, in another way than the plugin's.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "picture.h"

#define WIDTH	960
#define HEIGHT	640
#define PIXELS_MAX	(64U << 20)

static const char help[] =
	"Usage: test-picture make FILE          write a test image\n"
	"       test-picture size FILE          print its width and its height\n"
	"       test-picture check FILE GRAY    is GRAY the gray of FILE, in each pixel?\n"
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

/* A gray pixel is read as one with three same colours. */
static int check(const char *path, const char *gray_path)
{
	struct picture *in = picture_open(path), *out = picture_open(gray_path);
	uint32_t width = picture_width(in), height = picture_height(in);
	uint8_t *row, *result, expected;
	int wrong = 0;

	if (picture_width(out) != width || picture_height(out) != height) {
		printf("it is %" PRIu32 " x %" PRIu32 ", not %" PRIu32 " x %" PRIu32 "\n",
		       picture_width(out), picture_height(out), width, height);
		return 1;
	}
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

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (argc == 4 && !strcmp(verb, "check"))
		return check(argv[2], argv[3]);
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
