// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * faults.c - a plugin for the tests: handlers that do what handlers should not do
 *
 * Those that go on for a while say so first: they set the first byte of their first output.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <vine_serve.h>

static void begin(const struct vine_call *call)
{
	if (call->out_count)
		*(volatile char *)call->out[0].address = 'r';
}

static int crash(const struct vine_call *call)
{
	(void)call;
	raise(SIGSEGV);
	return 0;
}

/* Past the end of the client's region: the redzone does not see that. */
static int far(const struct vine_call *call)
{
	volatile char *p = call->out[0].address;

	for (;;)
		*p++ = 'f';
	return 0;
}

static int hang(const struct vine_call *call)
{
	begin(call);
	for (;;)
		pause();
	return 0;
}

static int leave(const struct vine_call *call)
{
	(void)call;
	exit(0);
}

static int give_up(const struct vine_call *call)
{
	(void)call;
	abort();
}

/* The compiler is not to see that it never ends. */
static int deeper(volatile int *depth)
{
	volatile char frame[4096];

	frame[0] = (char)*depth;
	*depth += 1;
	return *depth > 0 ? deeper(depth) + frame[0] : 0;
}

static int stack(const struct vine_call *call)
{
	volatile int depth = 1;

	(void)call;
	return deeper(&depth);
}

static int past(const struct vine_call *call)
{
	char *end = (char *)call->out[call->out_count - 1].address +
		call->out[call->out_count - 1].size;

	memset(end, 0, 8);
	return 0;
}

static int error(const struct vine_call *call)
{
	(void)call;
	return EDOM;
}

/* Says something that is no answer, on the only socket it has. */
static int forge(const struct vine_call *call)
{
	int fd;

	(void)call;
	for (fd = 3; fd < 64; fd++)
		if (write(fd, "forged", 6) == 6)
			break;
	return 0;
}

/* Leaves its socket, and goes on. */
static int desert(const struct vine_call *call)
{
	close_range(3, ~0U, 0);
	return hang(call);
}

/* Both: a child of its own, which goes on; its number comes out, after 4 bytes. */
static void make_child(const struct vine_call *call)
{
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	memcpy((char *)call->out[0].address + 4, &pid, sizeof(pid));
}

static int child(const struct vine_call *call)
{
	make_child(call);
	return hang(call);
}

static int orphan(const struct vine_call *call)
{
	make_child(call);
	return crash(call);
}

/* Goes on until the first byte of its input is not zero: a client's. */
static int wait_input(const struct vine_call *call)
{
	const struct timespec nap = { 0, 200000 };

	begin(call);
	while (!*(volatile char *)call->in[0].address)
		nanosleep(&nap, NULL);
	return 0;
}

/* Takes a little time: so accelerators are what everybody waits for. */
static int nap(const struct vine_call *call)
{
	const struct timespec t = { 0, 200000 };

	(void)call;
	nanosleep(&t, NULL);
	return 0;
}

static volatile char *kept;

static int keep(const struct vine_call *call)
{
	kept = call->out[0].address;
	*kept = 'k';
	return 0;
}

/* Through what another call has had. */
static int stray(const struct vine_call *call)
{
	(void)call;
	*kept = 's';
	return 0;
}

static const struct vine_procedure procedures[] = {
	{ "crash", VINE_TYPES_ALL, crash, "SIGSEGV" },
	{ "far", VINE_TYPES_ALL, far, "writes until something stops it" },
	{ "hang", VINE_TYPES_ALL, hang, "does not end" },
	{ "exit", VINE_TYPES_ALL, leave, "calls exit()" },
	{ "abort", VINE_TYPES_ALL, give_up, "calls abort()" },
	{ "stack", VINE_TYPES_ALL, stack, "needs more stack than there is" },
	{ "past", VINE_TYPES_ALL, past, "writes past its last output" },
	{ "error", VINE_TYPES_ALL, error, "fails with EDOM" },
	{ "forge", VINE_TYPES_ALL, forge, "sends the appliance a message" },
	{ "desert", VINE_TYPES_ALL, desert, "closes all it has, and does not end" },
	{ "child", VINE_TYPES_ALL, child, "forks, and does not end" },
	{ "orphan", VINE_TYPES_ALL, orphan, "forks, and crashes" },
	{ "wait", VINE_TYPES_ALL, wait_input, "until the first byte of its input is not 0" },
	{ "keep", VINE_TYPES_ALL, keep, "keeps a pointer to its output" },
	{ "stray", VINE_TYPES_ALL, stray, "writes to that" },
	{ "nap", VINE_TYPES_ALL, nap, "takes 200 us" },
	{ NULL, 0, NULL, NULL },
};

const struct vine_plugin vine_plugin = {
	.size = sizeof(vine_plugin), .name = "faults", .procedures = procedures,
};
