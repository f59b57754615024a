// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * opencl - a compiler: runs procedures whose bytes are OpenCL C on an OpenCL device
 *
 * What a task's args are, and its errors, are in vine_opencl.h. The device of an accelerator is
 * what $VINE_OPENCL says, or else one that befits its type. An output that is also an input, as
 * a whole, is one buffer.
 *
 * Nothing of OpenCL is touched before @probe or @compile: its drivers make threads, which do
 * not live through a fork().
 */
#define _GNU_SOURCE
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vine_opencl.h>
#include <vine_serve.h>

#define PLATFORMS	16
#define DEVICES		64	/* of a platform */
#define ALIGNMENT	64	/* of the widest vectors that compilers load at once */
#define BUFFERS		64	/* of a task */

_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "struct vine_opencl is little-endian");
_Static_assert(sizeof(struct vine_opencl_arg) == 24, "arg");
_Static_assert(offsetof(struct vine_opencl, global) == 80, "global");
_Static_assert(offsetof(struct vine_opencl, arg) == 128, "arg");
_Static_assert(sizeof(cl_mem) == sizeof(void *), "cl_mem");

/* What an accelerator is, made when it is first used, for good. */
struct device {
	struct device *next;
	char accelerator[32];
	cl_device_id id;
	bool shared;			/* its memory is the processor's */
	cl_context context;
	cl_command_queue queue;
};

struct program {
	struct device *device;
	cl_program program;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* for @devices */
static struct device *devices;
static pid_t owner;		/* of @devices */

static int fail(char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(char *text, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(text, VINE_COMPILER_TEXT, format, args);
	va_end(args);
	return -1;
}

/* ---- the device ---- */

/* "NUMBER.NUMBER", of platform and device, as clinfo -l counts; or a part of either's name. */
struct wish {
	char text[64];		/* empty: none */
	bool numbers;
	unsigned int platform, device;
};

/* What $VINE_OPENCL says of an accelerator: WISH, or ACCELERATOR=WISH,... */
static int read_wish(const char *accelerator, struct wish *w, char *text)
{
	const char *all = getenv("VINE_OPENCL"), *end, *is;
	int length = 0;

	*w = (struct wish){ 0 };
	for (; all && *all; all = *end ? end + 1 : end) {
		end = strchrnul(all, ',');
		is = memchr(all, '=', end - all);
		if (is && ((size_t)(is - all) != strlen(accelerator) ||
			   strncmp(all, accelerator, is - all)))
			continue;
		is = is ? is + 1 : all;
		if (is == end || end - is >= (int)sizeof(w->text))
			return fail(text, "VINE_OPENCL=%.100s: expected [ACCELERATOR=]DEVICE,...",
				    getenv("VINE_OPENCL"));
		memcpy(w->text, is, end - is);
		w->text[end - is] = 0;
		break;
	}
	w->numbers = sscanf(w->text, "%u.%u%n", &w->platform, &w->device, &length) == 2 &&
		!w->text[length];
	return 0;
}

/* How well a device befits an accelerator; 0: not at all. */
static int fitness(vine_accel_type_e type, cl_device_type is)
{
	static const cl_device_type best[VINE_ACCEL_TYPES] = {
		[GPU] = CL_DEVICE_TYPE_GPU, [GPU_SOFT] = CL_DEVICE_TYPE_CPU,
		[CPU] = CL_DEVICE_TYPE_CPU, [FPGA] = CL_DEVICE_TYPE_ACCELERATOR,
	};

	if (is & best[type])
		return 2;
	/* a GPU's work can be done by anything; others are what they are called */
	return type == GPU;
}

struct candidate {
	cl_device_id id;
	char name[130];			/* with its platform's */
};

static void name_of(cl_platform_id platform, cl_device_id id, char *name, size_t room)
{
	char p[64] = "", d[64] = "";

	/* what does not fit leaves them empty, or cut off */
	clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof(p) - 1, p, NULL);
	clGetDeviceInfo(id, CL_DEVICE_NAME, sizeof(d) - 1, d, NULL);
	snprintf(name, room, "%s, %s", d, p);
}

/* The first of the devices that befit best. */
static int choose(const char *accelerator, vine_accel_type_e type, struct candidate *chosen,
		  char *text)
{
	cl_platform_id platforms[PLATFORMS];
	cl_device_id ids[DEVICES];
	cl_uint platform_count = 0, count, i, j;
	int best = 0, fit;
	struct wish w;

	if (read_wish(accelerator, &w, text))
		return -1;
	if (clGetPlatformIDs(PLATFORMS, platforms, &platform_count) != CL_SUCCESS ||
	    !platform_count)
		return fail(text, "there is no OpenCL platform: install its driver, such as "
			    "pocl-opencl-icd");
	for (i = 0; i < platform_count && i < PLATFORMS; i++) {
		if (clGetDeviceIDs(platforms[i], CL_DEVICE_TYPE_ALL, DEVICES, ids, &count) !=
		    CL_SUCCESS)
			continue;
		for (j = 0; j < count && j < DEVICES; j++) {
			cl_device_type is = 0;
			struct candidate c = { .id = ids[j] };

			clGetDeviceInfo(ids[j], CL_DEVICE_TYPE, sizeof(is), &is, NULL);
			name_of(platforms[i], ids[j], c.name, sizeof(c.name));
			if (w.numbers)
				fit = i == w.platform && j == w.device;
			else if (*w.text)
				fit = !!strcasestr(c.name, w.text);
			else
				fit = fitness(type, is);
			if (fit <= best)
				continue;
			best = fit;
			*chosen = c;
		}
	}
	if (best)
		return 0;
	if (*w.text)
		return fail(text, "there is no OpenCL device %s: see clinfo -l", w.text);
	return fail(text, "no OpenCL device is of this type; $VINE_OPENCL may name one: see "
		    "clinfo -l");
}

static bool shares_memory(cl_device_id id)
{
	cl_bool unified = CL_FALSE;

	return clGetDeviceInfo(id, CL_DEVICE_HOST_UNIFIED_MEMORY, sizeof(unified), &unified,
			       NULL) == CL_SUCCESS && unified;
}

static int probe(const struct vine_call *call, char *text)
{
	struct candidate c;

	if (choose(call->accelerator, call->type, &c, text))
		return -1;
	snprintf(text, VINE_COMPILER_TEXT, "%s: buffers are %s", c.name,
		 shares_memory(c.id) ? "used where they are" : "copied");
	return 0;
}

static struct device *device_new(const struct vine_call *call, char *text)
{
	struct device *d = calloc(1, sizeof(*d));
	struct candidate c;
	cl_int err;

	if (!d) {
		fail(text, "no memory");
		return NULL;
	}
	if (choose(call->accelerator, call->type, &c, text))
		goto free;
	snprintf(d->accelerator, sizeof(d->accelerator), "%s", call->accelerator);
	d->id = c.id;
	d->shared = shares_memory(c.id);
	d->context = clCreateContext(NULL, 1, &d->id, NULL, NULL, &err);
	if (!d->context) {
		fail(text, "%s: no context: OpenCL's error %d", c.name, err);
		goto free;
	}
	d->queue = clCreateCommandQueue(d->context, d->id, 0, &err);
	if (!d->queue) {
		fail(text, "%s: no queue: OpenCL's error %d", c.name, err);
		goto release;
	}
	return d;

release:
	clReleaseContext(d->context);
free:
	free(d);
	return NULL;
}

static struct device *device_of(const struct vine_call *call, char *text)
{
	struct device *d;

	pthread_mutex_lock(&lock);
	if (!devices)
		owner = getpid();
	for (d = devices; d && strcmp(d->accelerator, call->accelerator); d = d->next)
		;
	if (owner != getpid()) {
		fail(text, "OpenCL does not work in the child of a process that has used it");
		d = NULL;
	} else if (!d) {
		d = device_new(call, text);
		if (d) {
			d->next = devices;
			devices = d;
		}
	}
	pthread_mutex_unlock(&lock);
	return d;
}

/* ---- programs ---- */

/* The build log from its first error on, on one line. */
static void explain(const struct program *p, cl_int err, char *text)
{
	char *log = NULL, *from, *to = text;
	size_t size = 0;

	fail(text, "OpenCL's error %d", err);
	if (clGetProgramBuildInfo(p->program, p->device->id, CL_PROGRAM_BUILD_LOG, 0, NULL,
				  &size) != CL_SUCCESS || !size)
		return;
	log = calloc(1, size + 1);
	if (!log || clGetProgramBuildInfo(p->program, p->device->id, CL_PROGRAM_BUILD_LOG, size,
					  log, NULL) != CL_SUCCESS)
		goto free;
	from = strcasestr(log, "error:");
	for (from = from ? from : log; *from && to < text + VINE_COMPILER_TEXT - 1; from++)
		if (!isspace((unsigned char)*from))
			*to++ = *from;
		else if (to > text && to[-1] != ' ')
			*to++ = ' ';
	if (to > text)
		*to = 0;
free:
	free(log);
}

static void *compile(const struct vine_call *call, char *text)
{
	const char *source = call->bytes;
	size_t size = call->bytes_size;
	struct program *p;
	cl_int err;

	if (memchr(source, 0, size)) {
		fail(text, "it has a zero byte: no source");
		return NULL;
	}
	p = calloc(1, sizeof(*p));
	if (!p) {
		fail(text, "no memory");
		return NULL;
	}
	p->device = device_of(call, text);
	if (!p->device)
		goto free;
	p->program = clCreateProgramWithSource(p->device->context, 1, &source, &size, &err);
	if (!p->program) {
		fail(text, "OpenCL's error %d", err);
		goto free;
	}
	err = clBuildProgram(p->program, 1, &p->device->id, "-cl-kernel-arg-info", NULL, NULL);
	if (err == CL_SUCCESS)
		return p;
	explain(p, err, text);
	clReleaseProgram(p->program);
free:
	free(p);
	return NULL;
}

static void release(void *compiled)
{
	struct program *p = compiled;

	clReleaseProgram(p->program);
	free(p);
}

/* ---- tasks ---- */

/* @mem: NULL: not made yet. @copied: its contents are the device's. */
struct buffer {
	cl_mem mem;
	bool copied;
};

struct run {
	const struct program *program;
	const struct vine_call *call;
	struct vine_opencl what;	/* our copy */
	cl_kernel kernel;
	struct buffer in[BUFFERS], out[BUFFERS];
};

/* What the client said is copied once and checked. */
static int read_args(struct run *r)
{
	const struct vine_call *call = r->call;
	struct vine_opencl *w = &r->what;
	size_t size = call->args.size < sizeof(*w) ? call->args.size : sizeof(*w);
	bool sizes = false, empty = false;
	unsigned int i;

	if (size < offsetof(struct vine_opencl, arg))
		return EINVAL;
	memcpy(w, call->args.address, size);
	if (w->magic != VINE_OPENCL_MAGIC || w->version != VINE_OPENCL_VERSION ||
	    !memchr(w->kernel, 0, sizeof(w->kernel)) || !w->dimensions || w->dimensions > 3 ||
	    w->arg_count > VINE_OPENCL_ARGS ||
	    size < offsetof(struct vine_opencl, arg[w->arg_count]))
		return EINVAL;
	for (i = 0; i < w->dimensions; i++) {
		if (!w->global[i])
			return EINVAL;
		sizes |= w->local[i] != 0;
		empty |= w->local[i] == 0;
	}
	return sizes && empty ? EINVAL : 0;
}

/* Makes what an argument names a buffer of OpenCL, if it is not yet. 0 or an error. */
static int make_buffer(struct run *r, struct buffer *b, const struct vine_buffer *from)
{
	bool in_place = r->program->device->shared && (uintptr_t)from->address % ALIGNMENT == 0;
	cl_int err = CL_SUCCESS;

	if (b->mem)
		return 0;
	b->copied = !in_place;
	b->mem = clCreateBuffer(r->program->device->context, CL_MEM_READ_WRITE |
				(in_place ? CL_MEM_USE_HOST_PTR : CL_MEM_COPY_HOST_PTR),
				from->size, from->address, &err);
	return err;
}

static int in_buffer(struct run *r, unsigned int n)
{
	return make_buffer(r, &r->in[n], &r->call->in[n]);
}

/* Two buffers of OpenCL must not be in the same place. */
static int out_buffer(struct run *r, unsigned int n)
{
	const struct vine_buffer *out = &r->call->out[n];
	unsigned int i;
	int err;

	for (i = 0; !r->out[n].mem && i < r->call->in_count; i++) {
		if (r->call->in[i].address != out->address || r->call->in[i].size != out->size)
			continue;
		err = in_buffer(r, i);
		if (err)
			return err;
		clRetainMemObject(r->in[i].mem);
		r->out[n] = r->in[i];
	}
	return make_buffer(r, &r->out[n], out);
}

/* Whether argument @i of the kernel is of that kind, as far as the device tells. */
static bool is_kind(const struct run *r, unsigned int i, uint32_t kind)
{
	cl_kernel_arg_address_qualifier is;

	if (clGetKernelArgInfo(r->kernel, i, CL_KERNEL_ARG_ADDRESS_QUALIFIER, sizeof(is), &is,
			       NULL) != CL_SUCCESS)
		return true;
	switch (kind) {
	case VINE_OPENCL_VALUE:
		return is == CL_KERNEL_ARG_ADDRESS_PRIVATE;
	case VINE_OPENCL_LOCAL:
		return is == CL_KERNEL_ARG_ADDRESS_LOCAL;
	default:
		return is == CL_KERNEL_ARG_ADDRESS_GLOBAL ||
		       is == CL_KERNEL_ARG_ADDRESS_CONSTANT;
	}
}

static int set_arg(struct run *r, unsigned int i)
{
	const struct vine_opencl_arg *arg = &r->what.arg[i];
	uint32_t n = arg->value.buffer;
	int err;

	if (arg->kind >= VINE_OPENCL_IN && arg->kind <= VINE_OPENCL_LOCAL &&
	    !is_kind(r, i, arg->kind))
		return EDOM;
	switch (arg->kind) {
	case VINE_OPENCL_IN:
		if (arg->size || n >= r->call->in_count)
			return EINVAL;
		err = in_buffer(r, n);
		return err ? err : clSetKernelArg(r->kernel, i, sizeof(cl_mem), &r->in[n].mem);
	case VINE_OPENCL_OUT:
		if (arg->size || n >= r->call->out_count)
			return EINVAL;
		err = out_buffer(r, n);
		return err ? err : clSetKernelArg(r->kernel, i, sizeof(cl_mem), &r->out[n].mem);
	case VINE_OPENCL_VALUE:
		if (!arg->size || arg->size > sizeof(arg->value))
			return EINVAL;
		return clSetKernelArg(r->kernel, i, arg->size, &arg->value);
	case VINE_OPENCL_LOCAL:
		return arg->size ? clSetKernelArg(r->kernel, i, arg->size, NULL) : EINVAL;
	default:
		return EINVAL;
	}
}

/* Finds the kernel and sets all of its arguments. */
static int prepare(struct run *r)
{
	cl_uint count = 0, i;
	cl_int err;
	int ret;

	r->kernel = clCreateKernel(r->program->program, r->what.kernel, &err);
	if (!r->kernel)
		return err == CL_INVALID_KERNEL_NAME ? ENOENT : err;
	err = clGetKernelInfo(r->kernel, CL_KERNEL_NUM_ARGS, sizeof(count), &count, NULL);
	if (err != CL_SUCCESS)
		return err;
	if (count != r->what.arg_count)
		return E2BIG;
	for (i = 0; i < count; i++) {
		ret = set_arg(r, i);
		if (ret)
			return ret;
	}
	return 0;
}

/* Brings an output's contents to where the client has it: behind the kernel in the queue. */
static int fetch(struct run *r, const struct buffer *b, const struct vine_buffer *to)
{
	cl_command_queue queue = r->program->device->queue;
	cl_int err;
	void *at;

	if (b->copied)
		return clEnqueueReadBuffer(queue, b->mem, CL_TRUE, 0, to->size, to->address, 0,
					   NULL, NULL);
	/* a map makes it so; at no cost where it is there already */
	at = clEnqueueMapBuffer(queue, b->mem, CL_TRUE, CL_MAP_READ, 0, to->size, 0, NULL, NULL,
				&err);
	if (!at)
		return err;
	return clEnqueueUnmapMemObject(queue, b->mem, at, 0, NULL, NULL);
}

static int execute(struct run *r)
{
	cl_command_queue queue = r->program->device->queue;
	const struct vine_opencl *w = &r->what;
	size_t global[3], local[3];
	cl_int status = CL_COMPLETE;
	cl_event done;
	unsigned int i;
	int err;

	for (i = 0; i < 3; i++) {
		global[i] = w->global[i];
		local[i] = w->local[i];
	}
	err = clEnqueueNDRangeKernel(queue, r->kernel, w->dimensions, NULL, global,
				     local[0] ? local : NULL, 0, NULL, &done);
	if (err)
		return err;
	err = clWaitForEvents(1, &done);
	clGetEventInfo(done, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof(status), &status, NULL);
	clReleaseEvent(done);
	if (status < 0)
		return status;
	for (i = 0; i < r->call->out_count && !err; i++)
		if (r->out[i].mem)
			err = fetch(r, &r->out[i], &r->call->out[i]);
	return err;
}

static void clean_up(struct run *r)
{
	unsigned int i;

	/* nothing of the client's memory is used any more */
	clFinish(r->program->device->queue);
	for (i = 0; i < r->call->in_count; i++)
		if (r->in[i].mem)
			clReleaseMemObject(r->in[i].mem);
	for (i = 0; i < r->call->out_count; i++)
		if (r->out[i].mem)
			clReleaseMemObject(r->out[i].mem);
	if (r->kernel)
		clReleaseKernel(r->kernel);
}

static int run(void *compiled, const struct vine_call *call)
{
	struct run r = { .program = compiled, .call = call };
	int ret = read_args(&r);

	if (ret)
		return ret;
	ret = prepare(&r);
	if (!ret)
		ret = execute(&r);
	clean_up(&r);
	return ret;
}

static const struct vine_compiler compiler = {
	.name = "OpenCL C", .types = VINE_TYPES_ALL, .probe = probe, .compile = compile, .run = run,
	.release = release, .about = "args: struct vine_opencl (vine_opencl.h)",
};

const struct vine_plugin vine_plugin = {
	.size = sizeof(vine_plugin), .name = "opencl", .compiler = &compiler,
};
