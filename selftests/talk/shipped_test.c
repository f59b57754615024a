// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * shipped_test.c - the plugins of vine-appliance do what their contracts say
 *
 * Buffers are as small as they may be: a byte too far is seen by ASan.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"
#include "serve/plugin.h"
#include "tap.h"

static struct plugins plugins;

/* A copy on the heap, of just that size. */
static struct vine_buffer buffer(const void *from, size_t size)
{
	struct vine_buffer b = { malloc(size), size };

	if (from)
		memcpy(b.address, from, size);
	else
		memset(b.address, 0x55, size);
	return b;
}

static int run(const char *name, struct vine_buffer args, unsigned int in_count,
	       const struct vine_buffer *in, unsigned int out_count, const struct vine_buffer *out)
{
	const struct vine_procedure *p = plugins_named(&plugins, CPU, name);
	const struct vine_call call = {
		.size = sizeof(call), .procedure = name, .accelerator = "cpu0", .type = CPU,
		.in_count = in_count, .out_count = out_count, .args = args, .in = in, .out = out,
	};

	return p ? p->run(&call) : -1;
}

static const struct vine_buffer no_args;

static void test_all_there(void)
{
	static const char *const names[] = {
		"noop", "add", "sha256", "deflate", "inflate", "grayscale", "sgemm",
	};
	unsigned int i, type;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (type = ANY; type < VINE_ACCEL_TYPES; type++)
			CHECK(plugins_named(&plugins, type, names[i]));
	CHECK(plugins.count == i);
}

static void test_noop(void)
{
	const struct vine_buffer b[2] = { buffer("in", 2), buffer("out", 3) };

	CHECK(run("noop", no_args, 0, NULL, 0, NULL) == 0);
	CHECK(run("noop", b[0], 1, b, 1, b + 1) == 0);
	CHECK(!memcmp(b[0].address, "in", 2) && !memcmp(b[1].address, "out", 3));
	free(b[0].address);
	free(b[1].address);
}

static void test_add(void)
{
	/* one ends with its buffer, the other one before */
	const struct vine_buffer in[2] = { buffer("world", 5), buffer("hello \0more", 11) };
	struct vine_buffer out = buffer(NULL, 12);

	CHECK(run("add", no_args, 2, in, 1, &out) == 0);
	CHECK(!strcmp(out.address, "hello world"));
	out.size = 11;
	CHECK(run("add", no_args, 2, in, 1, &out) == ENOSPC);
	out.size = 1;
	CHECK(run("add", no_args, 2, in, 1, &out) == ENOSPC);
	CHECK(run("add", no_args, 1, in, 1, &out) == EINVAL);
	CHECK(run("add", no_args, 2, in, 0, NULL) == EINVAL);
	free(in[0].address);
	free(in[1].address);
	free(out.address);
}

static void test_sha256(void)
{
	static const uint8_t digest[32] = {	/* FIPS 180-2, B.1 */
		0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae,
		0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61,
		0xf2, 0x00, 0x15, 0xad,
	};
	struct vine_buffer in = buffer("abc", 3), out = buffer(NULL, 32);

	CHECK(run("sha256", no_args, 1, &in, 1, &out) == 0);
	CHECK(!memcmp(out.address, digest, 32));
	out.size = 31;
	CHECK(run("sha256", no_args, 1, &in, 1, &out) == ENOSPC);
	CHECK(run("sha256", no_args, 0, NULL, 1, &out) == EINVAL);
	CHECK(run("sha256", no_args, 1, &in, 2, &out) == EINVAL);
	free(in.address);
	free(out.address);
}

/* Something that can be compressed, but not to nothing. */
static struct vine_buffer text(size_t size)
{
	struct vine_buffer b = buffer(NULL, size);
	uint32_t x = 1;
	size_t i;

	for (i = 0; i < size; i++) {
		x = x * 1664525 + 1013904223;
		((char *)b.address)[i] = 'a' + (x >> 24) % 16;
	}
	return b;
}

static uint64_t number(const struct vine_buffer *b)
{
	uint64_t n;

	memcpy(&n, b->address, sizeof(n));
	return n;
}

static void test_deflate(void)
{
	const size_t size = 300000;
	struct vine_buffer in = text(size), packed[2] = { buffer(NULL, size), buffer(NULL, 8) };
	struct vine_buffer out[2] = { buffer(NULL, size), buffer(NULL, 8) }, exact;
	size_t n;

	CHECK(run("deflate", no_args, 1, &in, 2, packed) == 0);
	n = number(&packed[1]);
	CHECK(n > size / 4 && n < size);
	CHECK(!memcmp(packed[0].address, "\x1f\x8b", 2));	/* gzip's */
	/* to the byte, and with more after it */
	exact = buffer(packed[0].address, n);
	CHECK(run("inflate", no_args, 1, &exact, 2, out) == 0);
	CHECK(number(&out[1]) == size && !memcmp(out[0].address, in.address, size));
	memset(out[0].address, 0, size);
	CHECK(run("inflate", no_args, 1, packed, 1, out) == 0);
	CHECK(!memcmp(out[0].address, in.address, size));
	/* too small, by one */
	out[0].size = size - 1;
	CHECK(run("inflate", no_args, 1, &exact, 1, out) == ENOSPC);
	out[0].size = size;
	packed[0].size = n;
	CHECK(run("deflate", no_args, 1, &in, 1, packed) == 0);
	packed[0].size = n - 1;
	CHECK(run("deflate", no_args, 1, &in, 1, packed) == ENOSPC);
	/* not whole, and spoilt */
	exact.size = n - 1;
	CHECK(run("inflate", no_args, 1, &exact, 1, out) == EBADMSG);
	exact.size = n;
	((uint8_t *)exact.address)[n / 2] ^= 0x10;
	CHECK(run("inflate", no_args, 1, &exact, 1, out) == EBADMSG);
	CHECK(run("inflate", no_args, 1, &in, 1, out) == EBADMSG);
	/* the length has 8 bytes */
	out[1].size = 4;
	CHECK(run("inflate", no_args, 1, packed, 2, out) == EINVAL);
	CHECK(run("deflate", no_args, 1, &in, 2, out) == EINVAL);
	CHECK(run("deflate", no_args, 2, out, 1, packed) == EINVAL);
	CHECK(run("deflate", no_args, 1, &in, 0, NULL) == EINVAL);
	free(in.address);
	free(exact.address);
	free(packed[0].address);
	free(packed[1].address);
	free(out[0].address);
	free(out[1].address);
}

/* A stream of zlib, whose header is another one. */
static void test_zlib(void)
{
	struct vine_buffer in = buffer("\x78\x9c\x4b\x4c\x4a\x06\x00\x02\x4d\x01\x27", 11);
	struct vine_buffer out = buffer(NULL, 3);

	CHECK(run("inflate", no_args, 1, &in, 1, &out) == 0);
	CHECK(!memcmp(out.address, "abc", 3));
	free(in.address);
	free(out.address);
}

static void test_grayscale(void)
{
	uint32_t args[3] = { 17, 5, 3 }, i, channels;
	struct vine_buffer a, in, out;

	for (channels = 3; channels <= 4; channels++) {
		in = text(17 * 5 * channels);
		out = buffer(NULL, 17 * 5);
		args[2] = channels;
		a = buffer(args, sizeof(args));
		CHECK(run("grayscale", a, 1, &in, 1, &out) == 0);
		for (i = 0; i < 17 * 5; i++) {
			const uint8_t *p = (const uint8_t *)in.address + i * channels;

			CHECK(((uint8_t *)out.address)[i] ==
			      (p[0] * 77 + p[1] * 150 + p[2] * 29 + 128) >> 8);
		}
		in.size--;
		CHECK(run("grayscale", a, 1, &in, 1, &out) == ENOSPC);
		in.size++;
		out.size--;
		CHECK(run("grayscale", a, 1, &in, 1, &out) == ENOSPC);
		free(a.address);
		free(in.address);
		free(out.address);
	}
}

static void test_white(void)
{
	const uint32_t args[3] = { 1, 2, 3 };
	struct vine_buffer a = buffer(args, sizeof(args)), out = buffer(NULL, 2);
	struct vine_buffer in = buffer("\xff\xff\xff\0\0\0", 6);

	CHECK(run("grayscale", a, 1, &in, 1, &out) == 0);
	CHECK(!memcmp(out.address, "\xff\0", 2));
	free(a.address);
	free(in.address);
	free(out.address);
}

static void test_bad_pictures(void)
{
	static const uint32_t bad[][3] = {
		{ 0, 1, 3 }, { 1, 0, 3 }, { 1, 1, 0 }, { 1, 1, 2 }, { 1, 1, 5 }, { 1, 1, ~0U },
	};
	/* their product is 0, or little, in 32 bits; times 3, in 64 */
	static const uint32_t large[][3] = {
		{ 1 << 16, 1 << 16, 3 }, { 1U << 31, 2, 4 }, { ~0U, ~0U, 4 }, { 65537, 65535, 3 },
	};
	struct vine_buffer a, b[2] = { buffer(NULL, 16), buffer(NULL, 16) };
	unsigned int i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		a = buffer(bad[i], sizeof(bad[i]));
		CHECK(run("grayscale", a, 1, b, 1, b + 1) == EINVAL);
		free(a.address);
	}
	for (i = 0; i < sizeof(large) / sizeof(large[0]); i++) {
		a = buffer(large[i], sizeof(large[i]));
		CHECK(run("grayscale", a, 1, b, 1, b + 1) == ENOSPC);
		a.size--;
		CHECK(run("grayscale", a, 1, b, 1, b + 1) == EINVAL);
		free(a.address);
	}
	CHECK(run("grayscale", no_args, 1, b, 1, b + 1) == EINVAL);
	free(b[0].address);
	free(b[1].address);
}

struct gemm {
	uint32_t m, n, k;
	float alpha, beta;
};

static void test_sgemm(void)
{
	const float a[6] = { 1, 2, 3, 4, 5, 6 }, b[6] = { 7, 8, 9, 10, 11, 12 };
	const float product[4] = { 58, 64, 139, 154 };
	struct gemm g = { 2, 2, 3, 1, 0 };
	struct vine_buffer args = buffer(&g, sizeof(g)), in[2], out = buffer(NULL, 16);
	float *c = out.address;
	int i;

	in[0] = buffer(a, sizeof(a));
	in[1] = buffer(b, sizeof(b));
	/* what was there does not count, whatever it was */
	for (i = 0; i < 4; i++)
		c[i] = NAN;
	CHECK(run("sgemm", args, 2, in, 1, &out) == 0);
	CHECK(!memcmp(c, product, sizeof(product)));
	g.alpha = 2;
	g.beta = -1;
	memcpy(args.address, &g, sizeof(g));
	CHECK(run("sgemm", args, 2, in, 1, &out) == 0);
	CHECK(!memcmp(c, product, sizeof(product)));
	/* each one a byte too small */
	in[0].size--;
	CHECK(run("sgemm", args, 2, in, 1, &out) == ENOSPC);
	in[0].size++;
	in[1].size--;
	CHECK(run("sgemm", args, 2, in, 1, &out) == ENOSPC);
	in[1].size++;
	out.size--;
	CHECK(run("sgemm", args, 2, in, 1, &out) == ENOSPC);
	out.size++;
	/* nor aligned to a float */
	in[0].address = (char *)in[0].address + 1;
	CHECK(run("sgemm", args, 2, in, 1, &out) == EINVAL);
	in[0].address = (char *)in[0].address - 1;
	CHECK(run("sgemm", args, 1, in, 1, &out) == EINVAL);
	CHECK(run("sgemm", no_args, 2, in, 1, &out) == EINVAL);
	free(args.address);
	free(in[0].address);
	free(in[1].address);
	free(out.address);
}

static void test_bad_matrices(void)
{
	static const struct gemm bad[] = { { 0, 1, 1, 1, 0 }, { 1, 0, 1, 1, 0 }, { 1, 1, 0, 1, 0 } };
	static const struct gemm large[] = {
		{ 1 << 16, 1 << 16, 1, 1, 0 }, { 1 << 31, 1 << 31, 1 << 31, 1, 0 },
		{ ~0U, ~0U, ~0U, 1, 0 }, { 1, 1, 1 << 30, 1, 0 }, { 1 << 30, 1, 1, 1, 0 },
	};
	struct vine_buffer b[3] = { buffer(NULL, 16), buffer(NULL, 16), buffer(NULL, 16) }, args;
	unsigned int i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		args = buffer(&bad[i], sizeof(bad[i]));
		CHECK(run("sgemm", args, 2, b, 1, b + 2) == EINVAL);
		free(args.address);
	}
	for (i = 0; i < sizeof(large) / sizeof(large[0]); i++) {
		args = buffer(&large[i], sizeof(large[i]));
		CHECK(run("sgemm", args, 2, b, 1, b + 2) == ENOSPC);
		free(args.address);
	}
	for (i = 0; i < 3; i++)
		free(b[i].address);
}

static const struct tap_test tests[] = {
	{ "all are there, for all types", test_all_there },
	{ "noop takes anything, and touches nothing", test_noop },
	{ "add puts the second before the first", test_add },
	{ "sha256 is SHA-256", test_sha256 },
	{ "deflate makes gzip, inflate the reverse", test_deflate },
	{ "inflate takes zlib's streams, too", test_zlib },
	{ "grayscale is what its formula says, for RGB and RGBA", test_grayscale },
	{ "white stays white, black stays black", test_white },
	{ "pictures that cannot be are refused", test_bad_pictures },
	{ "sgemm multiplies matrices", test_sgemm },
	{ "matrices that cannot be are refused", test_bad_matrices },
};

int main(void)
{
	char error[PLUGIN_ERROR];
	int ret;

	if (plugins_load_folder(&plugins, peer_file("shipped"), error) < 0) {
		printf("Bail out! %s\n", error);
		return 1;
	}
	ret = tap_main(tests, sizeof(tests) / sizeof(tests[0]));
	plugins_free(&plugins);
	return ret;
}
