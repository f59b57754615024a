// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * handlers.c - a plugin for the tests: handlers that do one checkable thing each
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <vine_serve.h>

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static int noop(const struct vine_call *call)
{
	(void)call;
	return 0;
}

/* Each output is a copy of the input of the same number. */
static int copy(const struct vine_call *call)
{
	unsigned int i;

	for (i = 0; i < call->out_count && i < call->in_count; i++)
		memcpy(call->out[i].address, call->in[i].address,
		       least(call->in[i].size, call->out[i].size));
	return 0;
}

/* Out: the bytes of the procedure. */
static int bytes(const struct vine_call *call)
{
	if (call->out_count != 1 || call->out[0].size < call->bytes_size)
		return EINVAL;
	if (call->bytes_size)
		memcpy(call->out[0].address, call->bytes, call->bytes_size);
	return 0;
}

/* Out: everything about the call, as a struct vine_call whose pointers are not to be used. */
static int describe(const struct vine_call *call)
{
	if (call->out_count < 1 || call->out[0].size < sizeof(*call))
		return EINVAL;
	memcpy(call->out[0].address, call, sizeof(*call));
	return 0;
}

/* Fails with the number in its arguments. */
static int fail(const struct vine_call *call)
{
	int error = EINVAL;

	if (call->args.size >= sizeof(error))
		memcpy(&error, call->args.address, sizeof(error));
	return error;
}

/* Writes one byte past the output whose number is in its arguments. */
static int overrun(const struct vine_call *call)
{
	unsigned int i;

	memcpy(&i, call->args.address, sizeof(i));
	((char *)call->out[i].address)[call->out[i].size] = 1;
	return 0;
}

/*
 * Arguments: two descriptors. Writes a byte to the first: it runs; and waits for one from the
 * second. Then the outputs are filled with that byte.
 */
static int gate(const struct vine_call *call)
{
	unsigned int i;
	int fds[2];
	char byte = 'r';

	memcpy(fds, call->args.address, sizeof(fds));
	if (write(fds[0], &byte, 1) != 1 || read(fds[1], &byte, 1) != 1)
		return EIO;
	for (i = 0; i < call->out_count; i++)
		memset(call->out[i].address, byte, call->out[i].size);
	return 0;
}

static const struct vine_procedure procedures[] = {
	{ "noop", VINE_TYPES_ALL, noop, "nothing" },
	{ "copy", VINE_TYPES_ALL, copy, "inputs to outputs" },
	{ "bytes", VINE_TYPES_ALL, bytes, "out: the procedure's bytes" },
	{ "describe", VINE_TYPES_ALL, describe, "out: the call" },
	{ "fail", VINE_TYPES_ALL, fail, "args: the error" },
	{ "overrun", VINE_TYPES_ALL, overrun, "args: past which output" },
	{ "gate", VINE_TYPES_ALL, gate, "args: two descriptors" },
	{ "cpu only", VINE_TYPE(CPU), noop, "nothing" },
	{ NULL, 0, NULL, NULL },
};

const struct vine_plugin vine_plugin = {
	.size = sizeof(vine_plugin), .name = "handlers", .procedures = procedures,
};
