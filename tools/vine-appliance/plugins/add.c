// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * add - puts two strings together, as the first example of VineTalk did
 *
 * in 0, in 1: strings; each ends at its first zero byte, or with its buffer
 * out 0: the second, followed by the first and a zero byte
 *
 * Errors: EINVAL the number of buffers; ENOSPC the output is too small.
 */
#include <errno.h>
#include <string.h>

#include <vine_serve.h>

static int add(const struct vine_call *call)
{
	size_t first, second;
	char *to;

	if (call->in_count != 2 || call->out_count != 1)
		return EINVAL;
	/* measured once: the strings are another machine's */
	first = strnlen(call->in[0].address, call->in[0].size);
	second = strnlen(call->in[1].address, call->in[1].size);
	if (call->out[0].size <= first || call->out[0].size - first <= second)
		return ENOSPC;
	to = call->out[0].address;
	memcpy(to, call->in[1].address, second);
	memcpy(to + second, call->in[0].address, first);
	to[second + first] = 0;
	return 0;
}

static const struct vine_procedure procedures[] = {
	{ "add", VINE_TYPES_ALL, add, "two strings in; the second and the first out" },
	{ NULL, 0, NULL, NULL },
};

const struct vine_plugin vine_plugin = {
	.size = sizeof(vine_plugin), .name = "add", .procedures = procedures,
};
