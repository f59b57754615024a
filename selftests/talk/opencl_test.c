// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * opencl_test.c - the plugin opencl: OpenCL C that clients register runs, and fails well
 *
 * Skipped, with the reason, where the plugin cannot be built or there is no OpenCL platform.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <vine_opencl.h>

#include "peer.h"
#include "serve/plugin.h"
#include "sources.h"
#include "tap.h"

#define N	1000	/* work items */

static const struct vine_serve_options allowed = { .allow_source = 1 };

static const char sum[] =
	"__kernel void sum(__global const int *a, __global const int *b, __global int *c, int k)\n"
	"{ size_t i = get_global_id(0); c[i] = a[i] + b[i] + k; }\n";

/* A call of "sum": in 0, in 1, out 0, 7. */
static struct vine_opencl call_of_sum(void)
{
	return (struct vine_opencl){
		.magic = VINE_OPENCL_MAGIC, .version = VINE_OPENCL_VERSION, .kernel = "sum",
		.dimensions = 1, .global = { N }, .arg_count = 4,
		.arg = {
			{ .kind = VINE_OPENCL_IN, .value.buffer = 0 },
			{ .kind = VINE_OPENCL_IN, .value.buffer = 1 },
			{ .kind = VINE_OPENCL_OUT, .value.buffer = 0 },
			{ .kind = VINE_OPENCL_VALUE, .size = 4, .value.i = 7 },
		},
	};
}

static vine_task_reason_e run_call(vine_accel *gpu, vine_proc *proc,
				   const struct vine_opencl *call, vine_data **in, vine_data **out,
				   int *detail)
{
	vine_data *args = sources_data(call, sizeof(*call));
	vine_task_reason_e reason = sources_run(gpu, proc, args, 2, in, 1, out, detail);

	vine_data_free(args);
	return reason;
}

/* Adds, and looks at each number. */
static bool adds(vine_accel *gpu, vine_proc *proc)
{
	const struct vine_opencl call = call_of_sum();
	vine_data *in[2] = { sources_data(NULL, N * 4), sources_data(NULL, N * 4) };
	vine_data *out = sources_data(NULL, N * 4);
	int *a = vine_data_deref(in[0]), *b = vine_data_deref(in[1]), *c = vine_data_deref(out), i;
	vine_task_reason_e reason;
	bool right;

	for (i = 0; i < N; i++) {
		a[i] = i * 3;
		b[i] = i * 5 - 2000;
	}
	reason = run_call(gpu, proc, &call, in, &out, NULL);
	right = reason == vine_reason_none;
	for (i = 0; i < N; i++)
		right &= c[i] == 8 * i - 2000 + 7;
	vine_data_free(in[0]);
	vine_data_free(in[1]);
	vine_data_free(out);
	return right;
}

static void sum_is_right(vine_accel *gpu)
{
	vine_proc *proc = sources_register("sum", sum);
	int i;

	CHECK(proc);
	for (i = 0; i < 20; i++)
		CHECK(adds(gpu, proc));
	CHECK(vine_proc_put(proc));
}

static void test_sum(void)
{
	CHECK(sources_start("opencl/opencl.so", &allowed));
	CHECK(sources_said("gpu0 runs OpenCL C: ") == 1);
	CHECK(sources_client("device", sum_is_right));
	CHECK(sources_stop());
}

static void test_local(void)
{
	CHECK(sources_client("local", sum_is_right));
}

static void not_allowed(vine_accel *gpu)
{
	const struct vine_opencl call = call_of_sum();
	vine_data *in[2] = { sources_data(NULL, N * 4), sources_data(NULL, N * 4) };
	vine_data *out = sources_data(NULL, N * 4);

	CHECK(run_call(gpu, sources_register("sum", sum), &call, in, &out, NULL) ==
	      vine_reason_not_allowed);
}

static void test_not_allowed(void)
{
	const struct vine_serve_options code = { .allow_code = 1 };

	CHECK(sources_start("opencl/opencl.so", &code));
	CHECK(sources_client("device", not_allowed));
	CHECK(sources_stop());
}

static void does_not_compile(vine_accel *gpu)
{
	const struct vine_opencl call = call_of_sum();
	vine_data *in[2] = { sources_data(NULL, N * 4), sources_data(NULL, N * 4) };
	vine_data *out = sources_data(NULL, N * 4);
	vine_proc *wrong = sources_register("wrong", "__kernel void sum(__global int *a)\n"
					    "{ a[0] = nobody_knows_it; }\n");
	vine_proc *zero = vine_proc_register(GPU, "zero", "__kernel\0", 9);

	CHECK(run_call(gpu, wrong, &call, in, &out, NULL) == vine_reason_not_compiled);
	CHECK(run_call(gpu, zero, &call, in, &out, NULL) == vine_reason_not_compiled);
	CHECK(adds(gpu, sources_register("sum", sum)));
	CHECK(run_call(gpu, wrong, &call, in, &out, NULL) == vine_reason_not_compiled);
}

static void test_does_not_compile(void)
{
	CHECK(sources_start("opencl/opencl.so", &allowed));
	CHECK(sources_client("device", does_not_compile));
	CHECK(sources_said("procedure wrong") == 2);
	CHECK(sources_said("does not compile: error: ") == 2);
	CHECK(sources_said("use of undeclared identifier 'nobody_knows_it'") == 2);
	CHECK(sources_said("procedure zero") == 1);
	CHECK(sources_stop());
}

/* What is wrong with a call, and the error it gives. */
static void wrong_calls(vine_accel *gpu)
{
	vine_data *in[2] = { sources_data(NULL, N * 4), sources_data(NULL, N * 4) };
	vine_data *out = sources_data(NULL, N * 4), *args;
	vine_proc *proc = sources_register("sum", sum);
	struct vine_opencl call;
	int detail, i;

	for (i = 0; i < 16; i++) {
		int expected = EINVAL;

		call = call_of_sum();
		switch (i) {
		case 0: call.magic++; break;
		case 1: call.version++; break;
		case 2: memset(call.kernel, 'x', sizeof(call.kernel)); break;
		case 3: strcpy(call.kernel, "sun"); expected = ENOENT; break;
		case 4: call.dimensions = 0; break;
		case 5: call.dimensions = 4; break;
		case 6: call.global[0] = 0; break;
		case 7: call.arg_count = 3; expected = E2BIG; break;
		case 8: call.arg_count = 5; expected = E2BIG; break;
		case 9: call.arg_count = ~0U; break;
		case 10: call.arg[1].value.buffer = 2; break;
		case 11: call.arg[2].value.buffer = 1; break;
		case 12: call.arg[3].kind = VINE_OPENCL_IN; expected = EDOM; break;
		case 13: call.arg[0].kind = VINE_OPENCL_VALUE; expected = EDOM; break;
		case 14: call.arg[3].size = 17; break;
		case 15: call.local[0] = 3; expected = -54; break;	/* not a part of N */
		}
		detail = 0;
		EXPECT(run_call(gpu, proc, &call, in, &out, &detail) == vine_reason_handler);
		if (!EXPECT(detail == expected))
			printf("# case %d: %d instead of %d\n", i, detail, expected);
	}
	CHECK(sources_run(gpu, proc, NULL, 2, in, 1, &out, &detail) == vine_reason_handler &&
	      detail == EINVAL);
	/* cut off behind its arguments, and within them */
	call = call_of_sum();
	args = sources_data(&call, offsetof(struct vine_opencl, arg[4]));
	CHECK(sources_run(gpu, proc, args, 2, in, 1, &out, NULL) == vine_reason_none);
	args = sources_data(&call, offsetof(struct vine_opencl, arg[4]) - 1);
	CHECK(sources_run(gpu, proc, args, 2, in, 1, &out, &detail) == vine_reason_handler &&
	      detail == EINVAL);
	CHECK(adds(gpu, proc));
}

static void test_wrong_calls(void)
{
	CHECK(sources_start("opencl/opencl.so", &allowed));
	CHECK(sources_client("device", wrong_calls));
	CHECK(sources_stop());
}

static void second_client(vine_accel *gpu)
{
	vine_proc *proc = sources_register("sum", sum);

	CHECK(proc && adds(gpu, proc));
	CHECK(vine_proc_get(GPU, "sum"));
	CHECK(!sources_register("sum", "__kernel void sum(void) {}\n"));
}

static void first_client(vine_accel *gpu)
{
	vine_proc *proc = sources_register("sum", sum);

	CHECK(proc && adds(gpu, proc));
	CHECK(sources_client("device", second_client));
	CHECK(adds(gpu, proc));
	/* when nobody knows it any more, the name is free */
	CHECK(vine_proc_put(proc));
	proc = sources_register("sum", "__kernel void other(void) {}\n");
	CHECK(proc && !adds(gpu, proc));
}

static void test_two_clients(void)
{
	CHECK(sources_start("opencl/opencl.so", &allowed));
	CHECK(sources_client("device", first_client));
	CHECK(sources_stop());
}

static const char bad[] =
	"#define ARGS __global const int *a, __global const int *b, __global volatile int *c, int k\n"
	"__kernel void past(ARGS) { c[get_global_size(0)] = k; }\n"
	"__kernel void crash(ARGS) { *(__global volatile int *)16 = k; }\n"
	"__kernel void hang(ARGS) { while (k) c[0]++; }\n";

static void bad_kernels(vine_accel *gpu)
{
	vine_data *in[2] = { sources_data(NULL, N * 4), sources_data(NULL, N * 4) };
	vine_data *out = sources_data(NULL, N * 4);
	vine_proc *proc = sources_register("bad", bad), *good = sources_register("sum", sum);
	struct vine_opencl call = call_of_sum();
	int detail;

	strcpy(call.kernel, "past");
	CHECK(run_call(gpu, proc, &call, in, &out, &detail) == vine_reason_overrun && !detail);
	CHECK(adds(gpu, good));
	strcpy(call.kernel, "crash");
	CHECK(run_call(gpu, proc, &call, in, &out, &detail) == vine_reason_crashed &&
	      detail == SIGSEGV);
	CHECK(adds(gpu, good));
	strcpy(call.kernel, "hang");
	CHECK(run_call(gpu, proc, &call, in, &out, NULL) == vine_reason_timeout);
	CHECK(adds(gpu, good));
}

static void test_bad_kernels(void)
{
	/* compiling is part of a task, and takes longer the less this machine is idle */
	const struct vine_serve_options limited = { .allow_source = 1, .time_limit_ms = 10000 };

	CHECK(sources_start("opencl/opencl.so", &limited));
	CHECK(sources_client("device", bad_kernels));
	CHECK(sources_stop());
}

/* The plugin alone: inputs and outputs anywhere, one of them both, and memory of the group. */
static void anywhere(vine_accel *gpu)
{
	static const char source[] =
		"__kernel void inc(__global const uchar *a, __global uchar *b, __local uchar *l)\n"
		"{ size_t i = get_global_id(0), j = get_local_id(0);\n"
		"  l[j] = a[i]; b[i] = l[j] + 1; }\n";
	struct vine_opencl what = {
		.magic = VINE_OPENCL_MAGIC, .version = VINE_OPENCL_VERSION, .kernel = "inc",
		.dimensions = 1, .global = { 96 }, .local = { 32 }, .arg_count = 3,
		.arg = { { .kind = VINE_OPENCL_IN }, { .kind = VINE_OPENCL_OUT },
			 { .kind = VINE_OPENCL_LOCAL, .size = 32 } },
	};
	static uint8_t memory[1024] __attribute__((aligned(64)));
	struct plugins plugins = { .count = 0 };
	char error[PLUGIN_ERROR], text[VINE_COMPILER_TEXT] = "";
	struct vine_buffer in, out;
	struct vine_call call = {
		.size = sizeof(call), .procedure = "inc", .accelerator = "gpu0", .type = GPU,
		.bytes = source, .bytes_size = sizeof(source) - 1,
	};
	const struct vine_compiler *c;
	unsigned int at, to, i;
	void *inc;

	(void)gpu;
	CHECK(!plugins_load(&plugins, peer_file("opencl/opencl.so"), error));
	c = plugins_compiler(&plugins, GPU);
	inc = c->compile(&call, text);
	if (!EXPECT(inc))
		printf("# %s\n", text);
	CHECK(inc);
	call.args = (struct vine_buffer){ &what, sizeof(what) };
	call.in_count = 1;
	call.out_count = 1;
	call.in = &in;
	call.out = &out;
	for (at = 64; at <= 66; at++)
		for (to = 64; to <= 512; to += to < 66 ? 1 : 223) {
			if (to != at && to < 256)
				continue;
			for (i = 0; i < sizeof(memory); i++)
				memory[i] = i;
			in = (struct vine_buffer){ memory + at, 96 };
			out = (struct vine_buffer){ memory + to, 97 - (at == to) };
			CHECK(c->run(inc, &call) == 0);
			for (i = 0; i < sizeof(memory); i++)
				CHECK(memory[i] == (uint8_t)(i - to < 96 ? i - to + at + 1 : i));
		}
	c->release(inc);
	plugins_free(&plugins);
}

static void test_anywhere(void)
{
	CHECK(sources_client("null", anywhere));
}

static const struct tap_test tests[] = {
	{ "a sum of vectors is right", test_sum },
	{ "the same in the back end local", test_local },
	{ "source does not run when only code is allowed", test_not_allowed },
	{ "what does not compile fails, and the log says why", test_does_not_compile },
	{ "calls that do not fit the kernel fail, each with its error", test_wrong_calls },
	{ "two clients with the same source; other source under that name", test_two_clients },
	{ "kernels that write past, crash or hang fail alone", test_bad_kernels },
	{ "buffers may be anywhere, and both of a call", test_anywhere },
};

/* NULL: there is OpenCL. */
static const char *missing(void)
{
	static char reason[200];
	bool serves;

	if (access(peer_file("opencl/opencl.so"), R_OK))
		return "ocl-icd-opencl-dev is not installed";
	serves = sources_start("opencl/opencl.so", &allowed);
	if (serves)
		sources_stop();
	if (sources_said("no OpenCL platform"))
		return "no driver of OpenCL is installed: pocl-opencl-icd is one";
	if (!serves && sources_said("refuses"))
		return "this system has no namespaces for us";
	return serves ? NULL : reason;
}

int main(void)
{
	const char *why = missing();

	if (!why)
		return tap_main(tests, sizeof(tests) / sizeof(tests[0]));
	if (!*why)
		printf("TAP version 13\n1..1\nnot ok 1 - the appliance serves\n");
	else
		printf("TAP version 13\n1..1\nok 1 - OpenCL # SKIP %s\n", why);
	return !*why;
}
