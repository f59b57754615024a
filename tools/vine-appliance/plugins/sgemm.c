// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * sgemm - multiplies matrices: C = alpha * A * B + beta * C
 *
 * args: m, n, k: three uint32_t, alpha, beta: two floats; all of 4 bytes, little-endian
 * in 0: A, m rows of k floats; in 1: B, k rows of n floats; row by row without gaps
 * out 0: C, m rows of n floats; it is read, too, unless beta is 0
 *
 * In single precision: C becomes beta * C, and then (alpha * A) * B is added in the order of
 * k, without fused multiplications: so a host can compare bit by bit.
 *
 * Errors: EINVAL the number of buffers, a dimension of 0, or a matrix that is not aligned to
 * 4 bytes; ENOSPC a buffer is smaller than its matrix.
 */
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <vine_serve.h>

struct args {
	uint32_t m, n, k;
	float alpha, beta;
};

_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "floats are little-endian");

static bool aligned(const struct vine_buffer *b)
{
	return (uintptr_t)b->address % sizeof(float) == 0;
}

static bool fits(const struct vine_buffer *b, uint64_t rows, uint64_t columns)
{
	return b->size / sizeof(float) / columns >= rows;
}

static int sgemm(const struct vine_call *call)
{
	const float *a, *b;
	struct args g;
	size_t i, j, l;
	float *c, f;

	if (call->in_count != 2 || call->out_count != 1 || call->args.size != sizeof(g))
		return EINVAL;
	memcpy(&g, call->args.address, sizeof(g));
	if (!g.m || !g.n || !g.k || !aligned(&call->in[0]) || !aligned(&call->in[1]) ||
	    !aligned(&call->out[0]))
		return EINVAL;
	if (!fits(&call->in[0], g.m, g.k) || !fits(&call->in[1], g.k, g.n) ||
	    !fits(&call->out[0], g.m, g.n))
		return ENOSPC;
	a = call->in[0].address;
	b = call->in[1].address;
	c = call->out[0].address;
	for (i = 0; i < g.m; i++, a += g.k, c += g.n) {
		for (j = 0; j < g.n; j++)
			c[j] = g.beta == 0 ? 0 : g.beta * c[j];
		/* along the rows of B and C */
		for (l = 0; l < g.k; l++) {
			f = g.alpha * a[l];
			for (j = 0; j < g.n; j++)
				c[j] += f * b[l * g.n + j];
		}
	}
	return 0;
}

static const struct vine_procedure procedures[] = {
	{ "sgemm", VINE_TYPES_ALL, sgemm, "m, n, k, alpha, beta; A, B in; C out" },
	{ NULL, 0, NULL, NULL },
};

const struct vine_plugin vine_plugin = {
	.size = sizeof(vine_plugin), .name = "sgemm", .procedures = procedures,
};
