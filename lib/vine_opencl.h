/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * vine_opencl.h - for applications: tasks whose procedure is OpenCL C
 *
 * A kernel's source is registered as a procedure,
 *
 *	proc = vine_proc_register(GPU, "blur", source, strlen(source));
 *
 * with a name that no handler has, and an appliance that has the plugin "opencl" and allows
 * source (vine-appliance --allow-source) compiles it for its device with the first task. What
 * is to run, and with which arguments, is in the task's args, a struct vine_opencl:
 *
 *	struct vine_opencl *call = vine_data_deref(args);
 *
 *	*call = (struct vine_opencl){
 *		.magic = VINE_OPENCL_MAGIC, .version = VINE_OPENCL_VERSION,
 *		.kernel = "scale", .dimensions = 1, .global = { n }, .arg_count = 3,
 *		.arg = {
 *			{ .kind = VINE_OPENCL_IN, .value.buffer = 0 },
 *			{ .kind = VINE_OPENCL_OUT, .value.buffer = 0 },
 *			{ .kind = VINE_OPENCL_VALUE, .size = 4, .value.f = 2.5f },
 *		},
 *	};
 *	task = vine_task_issue(accel, proc, args, 1, &in, 1, &out);
 *
 * is for __kernel void scale(__global const float *in, __global float *out, float factor).
 *
 * All numbers are little-endian. The outputs' contents are there when the kernel begins, and
 * what it does not write stays. Buffers at a multiple of 64 bytes, as vine_data_alloc() makes
 * them, are not copied where the device shares its memory with the processor; so a kernel that
 * writes past one of those is noticed like any handler.
 *
 * The task fails with vine_reason_not_compiled when the source does not compile, and the
 * appliance's log says why; with vine_reason_handler, and as its detail
 *
 *	EINVAL	the args are no such structure, or name an input or output that is not there
 *	ENOENT	the source has no such kernel
 *	E2BIG	the kernel has another number of arguments
 *	EDOM	an argument is of another kind than the kernel's
 *	< 0	OpenCL's own error, as in CL/cl.h: -54 CL_INVALID_WORK_GROUP_SIZE, -61
 *		CL_INVALID_BUFFER_SIZE (the device takes none that large), -4, -5 and -6 it is
 *		short of memory or of something else
 *
 * Works with C99 and C++98.
 */
#ifndef VINE_OPENCL_H
#define VINE_OPENCL_H

#include <stdint.h>

#define VINE_OPENCL_MAGIC	0x6c636f76U	/* "vocl" */
#define VINE_OPENCL_VERSION	1
#define VINE_OPENCL_NAME	64		/* bytes of a kernel's name, with its zero */
#define VINE_OPENCL_ARGS	32

enum vine_opencl_kind {
	VINE_OPENCL_IN = 1,	/* __global or __constant: input number @value.buffer */
	VINE_OPENCL_OUT,	/* __global: output number @value.buffer */
	VINE_OPENCL_VALUE,	/* the first @size bytes of @value: a number, or a vector of some */
	VINE_OPENCL_LOCAL	/* __local: @size bytes */
};

/*
 * @kind: enum vine_opencl_kind
 * @size: bytes; 0 for IN and OUT
 */
struct vine_opencl_arg {
	uint32_t kind;
	uint32_t size;
	union {
		uint32_t buffer;
		int32_t i;
		uint32_t u;
		int64_t l;
		uint64_t ul;
		float f;
		double d;
		uint8_t bytes[16];
	} value;
};

/*
 * @kernel: ends with a zero
 * @dimensions: 1 to 3; of @global and @local that many count
 * @global: work items
 * @local: work items of a group; all 0: as the device likes
 * @arg_count: of the kernel's arguments, in their order; what follows may be cut off
 */
struct vine_opencl {
	uint32_t magic;
	uint32_t version;
	char kernel[VINE_OPENCL_NAME];
	uint32_t dimensions;
	uint32_t arg_count;
	uint64_t global[3];
	uint64_t local[3];
	struct vine_opencl_arg arg[VINE_OPENCL_ARGS];
};

#endif /* VINE_OPENCL_H */
