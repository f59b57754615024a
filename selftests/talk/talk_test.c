// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * talk_test.c - what vine_talk.h says about its calls, on the back ends local and null
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <vine_serve.h>

#include "subject.h"

static const char *const backends[] = { "local", "null" };
#define BACKENDS	2

/* Runs a test on each back end. */
#define ON_EACH(test)							\
	static void test(const char *backend);				\
	static void test##_on_each(void)				\
	{								\
		for (int b = 0; b < BACKENDS && !tap_failed; b++)	\
			test(backends[b]);				\
	}								\
	static void test(const char *backend)

/* ---- init and exit ---- */

ON_EACH(inits_are_counted)
{
	vine_data *data;

	subject_begin(backend, "");
	vine_talk_init();
	vine_talk_init();
	data = subject_data(10, 0);
	vine_talk_exit();
	CHECK(vine_data_size(data) == 10);
	vine_talk_exit();
	CHECK(vine_data_size(data) == 10);
	vine_talk_exit();
	CHECK(vine_data_size(data) == 0);
	CHECK(vine_accel_type(subject_accel[CPU]) == ANY);
	subject_end();
}

static void exit_without_init(void)
{
	subject_begin("null", "");
	subject_end();
	subject_said();
	vine_talk_exit();
	CHECK(strstr(subject_said(), "vine: vine_talk_exit() without vine_talk_init()\n"));
}

/* A call that needs no handle opens what is closed, and says so. */
static bool opens(const char *call)
{
	bool said = strstr(subject_said(), call), was_open = !vine_talk_backend(NULL);

	subject_second();
	vine_talk_exit();
	return said && was_open && vine_talk_backend(NULL);
}

ON_EACH(calls_without_init)
{
	subject_begin(backend, "");
	subject_end();
	EXPECT(vine_accel_list(ANY, NULL) == 4);
	EXPECT(opens("vine_accel_list() without vine_talk_init(), which is tried now\n"));
	EXPECT(vine_proc_register(ANY, "noop", NULL, 0));
	EXPECT(opens("vine_proc_register() without vine_talk_init()"));
	EXPECT(!vine_proc_get(ANY, "nobody's"));
	EXPECT(opens("vine_proc_get() without vine_talk_init()"));
	EXPECT(vine_data_alloc(1, Both));
	EXPECT(opens("vine_data_alloc() without vine_talk_init()"));
	/* an init that follows is counted as the first */
	EXPECT(vine_data_alloc(1, Both));
	vine_talk_init();
	vine_talk_exit();
	EXPECT(vine_talk_backend(NULL));
}

static void handles_do_not_open(void)
{
	vine_accel *accel, *same;
	vine_data *data;

	subject_begin("null", "");
	accel = same = subject_accel[CPU];
	data = subject_data(1, 0);
	subject_end();
	EXPECT(vine_accel_type(accel) == ANY);
	EXPECT(vine_accel_stat(accel, NULL) == accel_failed);
	EXPECT(!vine_accel_acquire(&same) && same == accel);
	EXPECT(!vine_data_size(data));
	EXPECT(!vine_task_issue(accel, accel, NULL, 0, NULL, 0, NULL));
	vine_data_free(data);
	vine_data_free(NULL);
	vine_task_free(NULL);
	EXPECT(subject_lines() == 6);
	EXPECT(vine_talk_backend(NULL));
}

/* ---- which back end ---- */

static const char *segment(void)
{
	static vine_accel_loc_s loc;
	vine_accel **list;

	if (!vine_accel_list(ANY, &list))
		return "none";
	loc = vine_accel_location(list[0]);
	free(list);
	return loc.segment;
}

static void backend_is_chosen(void)
{
	subject_begin("local", "");
	EXPECT(!strcmp(segment(), "local"));
	subject_said();
	EXPECT(!vine_talk_backend("null"));
	EXPECT(strstr(subject_said(), "too late"));
	subject_end();

	EXPECT(!vine_talk_backend("cloud"));
	EXPECT(strstr(subject_said(), "there is no back end \"cloud\""));
	EXPECT(vine_talk_backend("null") == 1);
	vine_talk_init();
	EXPECT(!strcmp(segment(), "null"));
	vine_talk_exit();
	vine_talk_init();
	EXPECT(!strcmp(segment(), "null"));
	vine_talk_exit();
	EXPECT(vine_talk_backend(NULL) == 1);
	vine_talk_init();
	EXPECT(!strcmp(segment(), "local"));
	vine_talk_exit();
}

/* ---- failure to open ---- */

static void every_call_fails(void)
{
	vine_accel **list = (vine_accel **)&list, *accel = NULL;
	vine_accel_stats_s accel_stats;
	vine_task_stats_s task_stats;

	EXPECT(!vine_accel_list(ANY, &list) && !list);
	EXPECT(!*vine_accel_location(NULL).segment);
	EXPECT(vine_accel_type(NULL) == ANY);
	EXPECT(vine_accel_stat(NULL, &accel_stats) == accel_failed);
	EXPECT(!vine_accel_acquire(&accel) && !vine_accel_release(&accel));
	EXPECT(!vine_proc_register(ANY, "noop", NULL, 0) && !vine_proc_get(ANY, "noop"));
	EXPECT(!vine_proc_put(NULL));
	EXPECT(!vine_data_alloc(1, Both) && !vine_data_size(NULL) && !vine_data_deref(NULL));
	vine_data_mark_ready(NULL);
	vine_data_free(NULL);
	EXPECT(!vine_task_issue(NULL, NULL, NULL, 0, NULL, 0, NULL));
	EXPECT(vine_task_stat(NULL, &task_stats) == task_failed);
	EXPECT(vine_task_wait(NULL) == task_failed);
	vine_task_free(NULL);
	/* the reason was said once */
	EXPECT(subject_lines() == 0);
}

static void bad_configuration(void)
{
	subject_said();
	subject_config("null", "colour blue\n");
	vine_talk_init();
	EXPECT(strstr(subject_said(), "vine: config:3: unknown key \"colour\": expected backend,"));
	every_call_fails();
	vine_talk_init();
	EXPECT(strstr(subject_said(), "vine: config:3: "));
	subject_config("null", "");
	every_call_fails();
	vine_talk_init();
	EXPECT(vine_accel_list(ANY, NULL) == 4);
	vine_talk_exit();
	vine_talk_exit();
	EXPECT(vine_accel_list(ANY, NULL) == 4);
	vine_talk_exit();
	EXPECT(vine_talk_backend(NULL));
	/* each line is right, but what they mean together is not */
	subject_config("device", "shm_file /nowhere\n");
	vine_talk_init();
	EXPECT(strstr(subject_said(), "vine: config:3: shm_file is /nowhere, which is no device: "));
	every_call_fails();
	vine_talk_exit();
	/* an implicit init fails for the same reasons */
	subject_config("null", "colour blue\n");
	EXPECT(!vine_data_alloc(1, Both));
	EXPECT(subject_lines() == 2);
	every_call_fails();
	vine_talk_exit();
}

static void missing_file(void)
{
	setenv("VINE_CONFIG", "/nowhere", 1);
	subject_said();
	vine_talk_init();
	setenv("VINE_CONFIG", "config", 1);
	EXPECT(strstr(subject_said(), "vine: /nowhere: No such file or directory: expected a "));
	every_call_fails();
	vine_talk_exit();
}

static void shm_file_is_no_file(void)
{
	subject_said();
	unlink("config");
	if (system("printf 'shm_file /tmp/\nshm_size 4096\n' >config"))
		abort();
	vine_talk_init();
	EXPECT(strstr(subject_said(), "vine: cannot open shm:/tmp/?off=0&size=4096: "));
	every_call_fails();
	vine_talk_exit();
}

static void backend_that_does_not_open(void)
{
	subject_said();
	if (system("printf 'backend local\nplugins /nowhere\n' >config"))
		abort();
	vine_talk_init();
	EXPECT(strstr(subject_said(), "vine: folder of plugins /nowhere: No such file"));
	every_call_fails();
	vine_talk_exit();
}

/* ---- warnings ---- */

static void warnings_are_limited(void)
{
	int i;

	subject_begin("null", "");
	subject_second();
	for (i = 0; i < 1000; i++)
		vine_data_size(NULL);
	/* a real second may have passed too */
	i = subject_lines();
	EXPECT(i == 20 || i == 40);
	subject_second();
	vine_data_size(NULL);
	EXPECT(!strcmp(subject_said(), "vine: vine_data_size(): (nil) is no handle of a buffer, "
				       "or no more\n"));
	subject_end();
}

static void nobody_to_warn(void)
{
	int screen = dup(STDERR_FILENO);

	subject_begin("null", "");
	close(STDERR_FILENO);
	EXPECT(!vine_data_size(NULL));
	dup2(screen, STDERR_FILENO);
	close(screen);
	subject_end();
}

/* ---- accelerators ---- */

ON_EACH(one_accelerator_of_each_type)
{
	vine_accel **list, **again;
	vine_accel_loc_s loc;
	int i;

	subject_begin(backend, "");
	EXPECT(vine_accel_list(ANY, NULL) == 4);
	EXPECT(vine_accel_list(ANY, &list) == 4);
	EXPECT(vine_accel_list(ANY, &again) == 4);
	EXPECT(!memcmp(list, again, 4 * sizeof(*list)));
	free(list);
	free(again);
	for (i = GPU; i < VINE_ACCEL_TYPES; i++) {
		EXPECT(vine_accel_list(i, NULL) == 1);
		EXPECT(vine_accel_list(i, &list) == 1);
		EXPECT(vine_accel_type(list[0]) == (vine_accel_type_e)i);
		EXPECT(list[0] == subject_accel[i]);
		loc = vine_accel_location(list[0]);
		EXPECT(!strcmp(loc.segment, backend));
		EXPECT(*loc.name && !*loc.appliance && !*loc.pci);
		EXPECT(vine_accel_stat(list[0], NULL) == accel_idle);
		free(list);
	}
	EXPECT(!subject_lines());
	subject_end();
}

static void no_such_type(void)
{
	static const int types[] = { VINE_ACCEL_TYPES, -1, 1000 };
	vine_accel **list;
	size_t i;

	subject_begin("null", "");
	for (i = 0; i < 3; i++) {
		list = (vine_accel **)&list;
		EXPECT(vine_accel_list(types[i], &list) == 0);
		EXPECT(!list);
		EXPECT(!vine_proc_register(types[i], "noop", NULL, 0));
		EXPECT(!vine_proc_get(types[i], "noop"));
		EXPECT(subject_lines() == 3);
	}
	subject_end();
}

ON_EACH(exclusive)
{
	vine_accel *physical, *accel, *virtual, *other;

	subject_begin(backend, "");
	physical = accel = other = subject_accel[FPGA];
	EXPECT(!vine_accel_release(&accel) && accel == physical);
	EXPECT(vine_accel_acquire(&accel) == 1);
	EXPECT(accel != physical);
	virtual = accel;
	EXPECT(vine_accel_type(virtual) == FPGA);
	EXPECT(!strcmp(vine_accel_location(virtual).segment, backend));
	EXPECT(vine_accel_stat(virtual, NULL) == accel_busy);
	EXPECT(vine_accel_stat(physical, NULL) == accel_busy);
	EXPECT(vine_accel_stat(subject_accel[CPU], NULL) == accel_idle);
	/* nobody has it twice */
	EXPECT(!vine_accel_acquire(&accel) && accel == virtual);
	EXPECT(!vine_accel_acquire(&other) && other == physical);
	EXPECT(vine_accel_list(ANY, NULL) == 4);
	EXPECT(vine_accel_release(&accel) == 1);
	EXPECT(!accel);
	EXPECT(vine_accel_stat(physical, NULL) == accel_idle);
	EXPECT(vine_accel_stat(virtual, NULL) == accel_failed);
	other = virtual;
	EXPECT(!vine_accel_release(&other) && other == virtual);
	EXPECT(!vine_accel_release(&accel) && !vine_accel_acquire(&accel));
	EXPECT(!vine_accel_acquire(NULL) && !vine_accel_release(NULL));
	/* held at the end */
	other = physical;
	EXPECT(vine_accel_acquire(&other) == 1);
	subject_end();
	subject_begin(backend, "");
	EXPECT(vine_accel_stat(subject_accel[FPGA], NULL) == accel_idle);
	subject_end();
}

/* ---- procedures ---- */

ON_EACH(same_bytes_same_procedure)
{
	vine_proc *proc;

	subject_begin(backend, "");
	proc = vine_proc_register(CPU, "mine", "bytes", 5);
	CHECK(proc);
	EXPECT(vine_proc_register(CPU, "mine", "bytes", 5) == proc);
	EXPECT(!vine_proc_register(CPU, "mine", "bytez", 5));
	EXPECT(!vine_proc_register(CPU, "mine", "byte", 4));
	EXPECT(!vine_proc_register(CPU, "mine", "", 0));
	EXPECT(vine_proc_get(CPU, "mine") == proc);
	EXPECT(!vine_proc_get(GPU, "mine"));
	EXPECT(!vine_proc_get(ANY, "mine"));
	EXPECT(!vine_proc_get(CPU, "mine "));
	EXPECT(!vine_proc_get(CPU, "min"));
	/* three references */
	EXPECT(vine_proc_put(proc) == 1);
	EXPECT(vine_proc_put(proc) == 1);
	EXPECT(vine_proc_get(CPU, "mine") == proc);
	EXPECT(vine_proc_put(proc) == 1);
	EXPECT(vine_proc_put(proc) == 1);
	EXPECT(vine_proc_put(proc) == 0);
	EXPECT(!vine_proc_get(CPU, "mine"));
	/* forgotten: other bytes are as good */
	proc = vine_proc_register(CPU, "mine", "others", 6);
	EXPECT(proc && vine_proc_put(proc) == 1);
	subject_end();
}

ON_EACH(types_are_apart)
{
	vine_proc *proc[VINE_ACCEL_TYPES];
	int i, j;

	subject_begin(backend, "");
	for (i = 0; i < VINE_ACCEL_TYPES; i++) {
		char byte = 'a' + i;

		proc[i] = vine_proc_register(i, "mine", &byte, 1);
		EXPECT(proc[i]);
		for (j = 0; j < i; j++)
			EXPECT(proc[i] != proc[j]);
	}
	for (i = 0; i < VINE_ACCEL_TYPES; i++) {
		EXPECT(vine_proc_get(i, "mine") == proc[i]);
		EXPECT(vine_proc_put(proc[i]) && vine_proc_put(proc[i]));
	}
	/* in another order than that of registration */
	for (i = 0; i < VINE_ACCEL_TYPES; i++)
		proc[i] = vine_proc_register(i, "mine", NULL, 0);
	EXPECT(vine_proc_put(proc[2]) && vine_proc_put(proc[4]) && vine_proc_put(proc[0]));
	EXPECT(vine_proc_put(proc[3]) && vine_proc_put(proc[1]));
	subject_end();
}

#define NAME48	"0123456789abcdefghijklmnopqrstuvwxyz0123456789ab"

ON_EACH(names)
{
	vine_proc *proc;

	subject_begin(backend, "");
	EXPECT(!vine_proc_register(CPU, NULL, NULL, 0));
	EXPECT(!vine_proc_register(CPU, "", NULL, 0));
	EXPECT(!vine_proc_register(CPU, NAME48 "c", NULL, 0));
	EXPECT(!vine_proc_get(CPU, NULL));
	EXPECT(!vine_proc_get(CPU, ""));
	EXPECT(!vine_proc_get(CPU, NAME48 "c"));
	EXPECT(subject_lines() == 6);
	proc = vine_proc_register(CPU, NAME48, NULL, 0);
	EXPECT(proc);
	EXPECT(vine_proc_get(CPU, NAME48) == proc);
	EXPECT(vine_proc_put(proc) && vine_proc_put(proc));
	proc = vine_proc_register(CPU, "x", NULL, 0);
	EXPECT(proc && vine_proc_put(proc));
	EXPECT(!vine_proc_register(CPU, "x", NULL, 1));
	EXPECT(strstr(subject_said(), "the bytes are NULL, and their size is 1"));
	subject_end();
}

ON_EACH(too_many_bytes)
{
	subject_begin(backend, "");
	EXPECT(!vine_proc_register(CPU, "large", "", SIZE_MAX));
	EXPECT(!vine_proc_register(CPU, "large", "", SIZE_MAX / 2));
	EXPECT(!vine_proc_get(CPU, "large"));
	subject_end();
}

static void no_plugins(void)
{
	vine_proc *proc;

	if (system("echo backend local >config"))
		abort();
	subject_open();
	EXPECT(!vine_proc_get(ANY, "noop"));
	proc = vine_proc_register(ANY, "noop", NULL, 0);
	EXPECT(vine_task_wait(vine_task_issue(subject_accel[CPU], proc, NULL, 0, NULL, 0, NULL)) ==
	       task_failed);
	EXPECT(!subject_lines());
	subject_end();
}

static void handlers_are_procedures(void)
{
	vine_proc *proc;

	subject_begin("local", "");
	proc = vine_proc_get(CPU, "cpu only");
	EXPECT(proc);
	EXPECT(vine_proc_get(CPU, "cpu only") == proc);
	EXPECT(vine_proc_register(CPU, "cpu only", NULL, 0) == proc);
	EXPECT(!vine_proc_get(GPU, "cpu only"));
	EXPECT(vine_proc_put(proc) && vine_proc_put(proc) && vine_proc_put(proc));
	proc = vine_proc_get(ANY, "noop");
	EXPECT(proc && vine_proc_put(proc));
	subject_end();
}

/* ---- buffers ---- */

ON_EACH(buffers)
{
	static const size_t sizes[] = { 1, 63, 64, 65, 4095, 4096, 4097, 1 << 20 };
	static const vine_data_alloc_place_e places[] = { HostOnly, AccelOnly, Both };
	vine_data *data;
	size_t i, j;
	char *bytes;

	subject_begin(backend, "");
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (j = 0; j < 3; j++) {
			data = vine_data_alloc(sizes[i], places[j]);
			EXPECT(data);
			EXPECT(vine_data_size(data) == sizes[i]);
			bytes = vine_data_deref(data);
			EXPECT(!bytes == (places[j] == AccelOnly));
			EXPECT((uintptr_t)bytes % 64 == 0);
			if (bytes)
				memset(bytes, 1, sizes[i]);
			vine_data_mark_ready(data);
			vine_data_free(data);
			EXPECT(!vine_data_size(data));
		}
	}
	subject_end();
}

ON_EACH(buffers_that_cannot_be)
{
	static const size_t sizes[] = { 0, SIZE_MAX, SIZE_MAX - 63, SIZE_MAX - 64, SIZE_MAX / 2,
					1ULL << 62 };
	static const int places[] = { 0, 4, -1, 100 };
	size_t i;

	subject_begin(backend, "");
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		EXPECT(!vine_data_alloc(sizes[i], Both));
	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		EXPECT(!vine_data_alloc(64, places[i]));
	EXPECT(strstr(subject_said(), "100 is no place"));
	subject_end();
}

static void freed_twice(void)
{
	vine_data *data;

	subject_begin("null", "");
	data = subject_data(10, 0);
	vine_data_free(data);
	EXPECT(subject_lines() == 0);
	vine_data_free(data);
	EXPECT(strstr(subject_said(), "vine_data_free(): ") && subject_lines() == 0);
	vine_data_free(NULL);
	vine_task_free(NULL);
	EXPECT(subject_lines() == 0);
	subject_end();
}

/* ---- handles that are none ---- */

static vine_accel *good_accel;
static vine_proc *good_proc;
static vine_data *good_data;

static bool bad_location(void *h)
{
	static const vine_accel_loc_s empty;
	vine_accel_loc_s loc = vine_accel_location(h);

	return !memcmp(&loc, &empty, sizeof(loc));
}

static bool bad_type(void *h)
{
	return vine_accel_type(h) == ANY;
}

static bool bad_stat(void *h)
{
	static const vine_accel_stats_s zero;
	vine_accel_stats_s stats;

	memset(&stats, 1, sizeof(stats));
	return vine_accel_stat(h, &stats) == accel_failed && !memcmp(&stats, &zero, sizeof(stats));
}

static bool bad_acquire(void *h)
{
	vine_accel *accel = h;

	return !vine_accel_acquire(&accel) && accel == h;
}

static bool bad_release(void *h)
{
	vine_accel *accel = h;

	return !vine_accel_release(&accel) && accel == h;
}

static bool bad_put(void *h)
{
	return !vine_proc_put(h);
}

static bool bad_size(void *h)
{
	return vine_data_size(h) == 0;
}

static bool bad_deref(void *h)
{
	return !vine_data_deref(h);
}

static bool bad_mark_ready(void *h)
{
	vine_data_mark_ready(h);
	return true;
}

static bool bad_data_free(void *h)
{
	vine_data_free(h);
	return true;
}

static bool bad_task_free(void *h)
{
	vine_task_free(h);
	return true;
}

static bool bad_task_stat(void *h)
{
	static const vine_task_stats_s zero;
	vine_task_stats_s stats;

	memset(&stats, 1, sizeof(stats));
	return vine_task_stat(h, &stats) == task_failed && !memcmp(&stats, &zero, sizeof(stats));
}

static bool bad_wait(void *h)
{
	return vine_task_wait(h) == task_failed;
}

static bool bad_issue_accel(void *h)
{
	return !vine_task_issue(h, good_proc, NULL, 1, &good_data, 1, &good_data);
}

static bool bad_issue_proc(void *h)
{
	return !vine_task_issue(good_accel, h, NULL, 1, &good_data, 1, &good_data);
}

static bool bad_issue_args(void *h)
{
	return !vine_task_issue(good_accel, good_proc, h, 1, &good_data, 1, &good_data);
}

static bool bad_issue_in(void *h)
{
	vine_data *in[] = { good_data, h, good_data };

	return !vine_task_issue(good_accel, good_proc, good_data, 3, in, 1, &good_data);
}

static bool bad_issue_out(void *h)
{
	vine_data *out[] = { good_data, good_data, h };

	return !vine_task_issue(good_accel, good_proc, NULL, 1, &good_data, 3, out);
}

enum kind { ACCEL, PROC, DATA, TASK, KINDS };

static const struct {
	bool (*fails)(void *h);
	enum kind kind;
	bool null_is_allowed;
} handle_calls[] = {
	{ bad_location, ACCEL, false },
	{ bad_type, ACCEL, false },
	{ bad_stat, ACCEL, false },
	{ bad_acquire, ACCEL, false },
	{ bad_release, ACCEL, false },
	{ bad_put, PROC, false },
	{ bad_size, DATA, false },
	{ bad_deref, DATA, false },
	{ bad_mark_ready, DATA, false },
	{ bad_data_free, DATA, true },
	{ bad_task_free, TASK, true },
	{ bad_task_stat, TASK, false },
	{ bad_wait, TASK, false },
	{ bad_issue_accel, ACCEL, false },
	{ bad_issue_proc, PROC, false },
	{ bad_issue_args, DATA, true },
	{ bad_issue_in, DATA, false },
	{ bad_issue_out, DATA, false },
};

ON_EACH(wrong_handles)
{
	char object[64];
	void *values[] = { NULL, (void *)1, (void *)-1, object, (void *)wrong_handles_on_each };
	void *stale[KINDS], *good[KINDS];
	size_t i, k;

	subject_begin(backend, "");
	stale[ACCEL] = good[ACCEL] = good_accel = subject_accel[CPU];
	EXPECT(vine_accel_acquire(&stale[ACCEL]));
	k = (uintptr_t)stale[ACCEL];
	EXPECT(vine_accel_release(&stale[ACCEL]));
	stale[ACCEL] = (void *)k;
	good[PROC] = good_proc = vine_proc_register(CPU, "noop", NULL, 0);
	stale[PROC] = vine_proc_register(CPU, "stale", NULL, 0);
	vine_proc_put(stale[PROC]);
	good[DATA] = good_data = subject_data(64, 0);
	stale[DATA] = subject_data(64, 0);
	vine_data_free(stale[DATA]);
	good[TASK] = vine_task_issue(good_accel, good_proc, NULL, 0, NULL, 0, NULL);
	stale[TASK] = vine_task_issue(good_accel, good_proc, NULL, 0, NULL, 0, NULL);
	vine_task_free(stale[TASK]);

	for (i = 0; i < sizeof(handle_calls) / sizeof(handle_calls[0]); i++) {
		for (k = 0; k < sizeof(values) / sizeof(values[0]); k++) {
			if (!values[k] && handle_calls[i].null_is_allowed)
				continue;
			subject_second();
			EXPECT(handle_calls[i].fails(values[k]));
			EXPECT(subject_lines() == 1);
		}
		for (k = 0; k < KINDS; k++) {
			subject_second();
			EXPECT(handle_calls[i].fails(stale[k]));
			EXPECT(subject_lines() == 1);
			if (handle_calls[i].kind == k)
				continue;
			EXPECT(handle_calls[i].fails(good[k]));
			EXPECT(subject_lines() == 1);
		}
	}
	/* nothing came of it */
	EXPECT(vine_accel_stat(good_accel, NULL) == accel_idle);
	EXPECT(vine_data_size(good_data) == 64);
	EXPECT(vine_task_wait(good[TASK]) == task_completed);
	EXPECT(vine_proc_put(good_proc) == 1);
	subject_end();
}

/* ---- tasks ---- */

static vine_task *issue(vine_accel_type_e type, const char *name, vine_data *args, size_t in_count,
			vine_data **in, size_t out_count, vine_data **out)
{
	vine_proc *proc = vine_proc_register(ANY, name, NULL, 0);
	vine_task *task = vine_task_issue(subject_accel[type], proc, args, in_count, in, out_count,
					  out);

	EXPECT(vine_proc_put(proc));
	return task;
}

static vine_task_stats_s result(vine_task *task, vine_task_state_e expected)
{
	vine_task_stats_s stats = { .issue_ns = 0 };

	EXPECT(vine_task_wait(task) == expected);
	EXPECT(vine_task_stat(task, NULL) == expected);
	EXPECT(vine_task_stat(task, &stats) == expected);
	vine_task_free(task);
	return stats;
}

ON_EACH(a_task)
{
	vine_data *in[2], *out[2];
	vine_task_stats_s stats;
	struct timespec t;
	uint64_t before;

	subject_begin(backend, "");
	in[0] = subject_bytes("hello", 5);
	in[1] = subject_bytes("world", 6);
	out[0] = subject_data(6, 'u');
	out[1] = subject_data(20, 'u');
	clock_gettime(CLOCK_MONOTONIC, &t);
	before = t.tv_sec * 1000000000ULL + t.tv_nsec;
	stats = result(issue(GPU, "copy", in[0], 2, in, 2, out), task_completed);
	clock_gettime(CLOCK_MONOTONIC, &t);
	EXPECT(!memcmp(vine_data_deref(out[0]), *backend == 'l' ? "hellou" : "uuuuuu", 6));
	EXPECT(!memcmp(vine_data_deref(out[1]), *backend == 'l' ? "world\0u" : "uuuuuuu", 7));
	EXPECT(stats.in_bytes == 5 + 5 + 6 && stats.out_bytes == 6 + 20);
	EXPECT(before <= stats.issue_ns && stats.issue_ns <= stats.start_ns);
	EXPECT(stats.start_ns <= stats.end_ns);
	EXPECT(stats.end_ns <= t.tv_sec * 1000000000ULL + t.tv_nsec);
	EXPECT(!stats.error_ns && stats.reason == vine_reason_none && !stats.detail);
	subject_end();
}

static void what_a_handler_sees(void)
{
	vine_data *in[2], *out[2];
	struct vine_call call;
	vine_accel *held;
	vine_proc *proc;

	subject_begin("local", "");
	in[0] = subject_data(1, 0);
	in[1] = subject_data(2, 0);
	out[0] = subject_data(sizeof(call), 0);
	out[1] = subject_data(4, 0);
	proc = vine_proc_register(ANY, "describe", "1234567", 7);
	result(vine_task_issue(subject_accel[FPGA], proc, in[1], 2, in, 2, out), task_completed);
	memcpy(&call, vine_data_deref(out[0]), sizeof(call));
	EXPECT(call.size == sizeof(call));
	EXPECT(call.type == FPGA && call.in_count == 2 && call.out_count == 2);
	EXPECT(call.args.address == vine_data_deref(in[1]) && call.args.size == 2);
	EXPECT(call.bytes && call.bytes_size == 7);

	held = subject_accel[GPU_SOFT];
	EXPECT(vine_accel_acquire(&held));
	result(vine_task_issue(held, proc, NULL, 0, NULL, 1, out), task_completed);
	memcpy(&call, vine_data_deref(out[0]), sizeof(call));
	EXPECT(call.type == GPU_SOFT && call.in_count == 0 && call.out_count == 1);
	EXPECT(!call.args.address && !call.args.size);
	/* a tasks's accelerator may be released before the task is looked at */
	EXPECT(vine_accel_release(&held));
	subject_end();
}

static void handlers_get_their_bytes(void)
{
	vine_data *out;
	vine_proc *proc;

	subject_begin("local", "");
	out = subject_data(5, 0);
	proc = vine_proc_register(GPU, "bytes", "12345", 5);
	result(vine_task_issue(subject_accel[GPU], proc, NULL, 0, NULL, 1, &out), task_completed);
	EXPECT(!memcmp(vine_data_deref(out), "12345", 5));
	vine_proc_put(proc);
	subject_end();
}

ON_EACH(how_many_buffers)
{
	static const struct {
		size_t args, in, out;
		bool fits;
	} rows[] = {
		{ 0, 0, 0, true },
		{ 1, 0, 0, true },
		{ 0, 64, 0, true },
		{ 0, 0, 64, true },
		{ 1, 31, 32, true },
		{ 0, 32, 32, true },
		{ 0, 65, 0, false },
		{ 0, 0, 65, false },
		{ 1, 64, 0, false },
		{ 1, 0, 64, false },
		{ 0, 32, 33, false },
		{ 1, 32, 32, false },
		{ 0, SIZE_MAX, 0, false },
		{ 0, 0, SIZE_MAX, false },
		{ 0, SIZE_MAX, 1, false },
		{ 1, SIZE_MAX / 2, SIZE_MAX / 2 + 1, false },
	};
	vine_data *args, *in[65], *out[65];
	vine_task *task;
	size_t i, j;

	subject_begin(backend, "");
	args = subject_data(1, 0);
	for (i = 0; i < 65; i++) {
		in[i] = subject_data(1, i);
		out[i] = subject_data(1, 'u');
	}
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		task = issue(CPU, "copy", rows[i].args ? args : NULL, rows[i].in, in, rows[i].out,
			     out);
		EXPECT(!task == !rows[i].fits);
		EXPECT(!rows[i].fits == !!strstr(subject_said(), "a task has at most 64 buffers"));
		if (task)
			result(task, task_completed);
		for (j = 0; task && j < rows[i].in && j < rows[i].out && *backend == 'l'; j++)
			EXPECT(*(char *)vine_data_deref(out[j]) == (char)j);
	}
	subject_second();
	EXPECT(!issue(CPU, "copy", NULL, 1, NULL, 1, out));
	EXPECT(!issue(CPU, "copy", NULL, 1, in, 1, NULL));
	EXPECT(subject_lines() == 2);
	result(issue(CPU, "copy", NULL, 0, NULL, 0, NULL), task_completed);
	subject_end();
}

static void one_buffer_twice(void)
{
	vine_data *data, *both[2];

	subject_begin("local", "");
	data = both[0] = both[1] = subject_bytes("abc", 4);
	result(issue(CPU, "noop", data, 2, both, 2, both), task_completed);
	EXPECT(!strcmp(vine_data_deref(data), "abc"));
	/* it is nobody's output any more */
	result(issue(CPU, "noop", data, 2, both, 2, both), task_completed);
	vine_data_free(data);
	subject_end();
}

static void why_tasks_fail(void)
{
	int error = 42, output;
	vine_data *args, *out[3];
	vine_task_stats_s stats;
	vine_accel_stats_s totals;
	vine_proc *proc;

	subject_begin("local", "");
	args = subject_bytes(&error, sizeof(error));
	stats = result(issue(CPU, "fail", args, 0, NULL, 0, NULL), task_failed);
	EXPECT(stats.reason == vine_reason_handler && stats.detail == 42);
	EXPECT(stats.start_ns && stats.end_ns >= stats.start_ns);

	stats = result(issue(CPU, "nobody's", NULL, 0, NULL, 0, NULL), task_failed);
	EXPECT(stats.reason == vine_reason_no_procedure && !stats.detail);
	EXPECT(!stats.start_ns && !stats.end_ns);

	/* a handler for another type, a procedure for another type */
	stats = result(issue(GPU, "cpu only", NULL, 0, NULL, 0, NULL), task_failed);
	EXPECT(stats.reason == vine_reason_no_procedure);
	result(issue(CPU, "cpu only", NULL, 0, NULL, 0, NULL), task_completed);
	proc = vine_proc_register(GPU, "noop", NULL, 0);
	stats = result(vine_task_issue(subject_accel[CPU], proc, NULL, 0, NULL, 0, NULL),
		       task_failed);
	EXPECT(stats.reason == vine_reason_no_procedure);

	for (output = 0; output < 3; output++)
		out[output] = subject_data(10 + output, 0);
	for (output = 0; output < 3; output++) {
		memcpy(vine_data_deref(args), &output, sizeof(output));
		stats = result(issue(FPGA, "overrun", args, 0, NULL, 3, out), task_failed);
		EXPECT(stats.reason == vine_reason_overrun && stats.detail == output);
	}
	/* the next task does not suffer */
	result(issue(FPGA, "noop", args, 0, NULL, 3, out), task_completed);

	vine_accel_stat(subject_accel[FPGA], &totals);
	EXPECT(totals.failed == 3 && totals.done == 1 && !totals.running && !totals.queued);
	vine_accel_stat(subject_accel[CPU], &totals);
	EXPECT(totals.failed == 3 && totals.done == 1);
	vine_accel_stat(subject_accel[GPU_SOFT], &totals);
	EXPECT(!totals.failed && !totals.done && !totals.busy_ns);
	subject_end();
}

static void reasons_have_words(void)
{
	int i, j;

	for (i = 0; i < VINE_TASK_REASONS; i++) {
		EXPECT(strlen(vine_task_reason_text(i)) > 3);
		EXPECT(strcmp(vine_task_reason_text(i), vine_task_reason_text(VINE_TASK_REASONS)));
		for (j = 0; j < i; j++)
			EXPECT(strcmp(vine_task_reason_text(i), vine_task_reason_text(j)));
	}
	EXPECT(!strcmp(vine_task_reason_text(-1), vine_task_reason_text(VINE_TASK_REASONS)));
}

ON_EACH(used_after_free)
{
	vine_data *data[2];
	vine_proc *proc;
	vine_task *task;

	subject_begin(backend, "");
	data[0] = subject_data(64, 1);
	data[1] = subject_data(64, 2);
	proc = vine_proc_register(ANY, "copy", NULL, 0);
	task = vine_task_issue(subject_accel[CPU], proc, NULL, 1, data, 1, data + 1);
	vine_data_free(data[0]);
	vine_data_free(data[1]);
	EXPECT(vine_proc_put(proc));
	EXPECT(!vine_task_issue(subject_accel[CPU], proc, NULL, 0, NULL, 0, NULL));
	result(task, task_completed);
	EXPECT(vine_task_wait(task) == task_failed);
	/* never freed: exit does */
	EXPECT(issue(CPU, "noop", NULL, 0, NULL, 0, NULL));
	EXPECT(subject_data(10, 0));
	subject_end();
}

/* ---- uploaded code ---- */

static vine_proc *upload(const char *name, const char *path)
{
	static char bytes[1 << 20];
	FILE *f = fopen(path, "re");
	size_t size;

	if (!f)
		abort();
	size = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	return vine_proc_register(ANY, name, bytes, size);
}

static void uploaded_code_runs(void)
{
	vine_proc *a, *b, *again;
	vine_data *out;

	subject_begin("local", "");
	out = subject_data(3, 'u');
	a = upload("a", VARIANTS "/upload_a.so");
	b = upload("b", VARIANTS "/upload_b.so");
	again = upload("a", VARIANTS "/upload_a.so");
	EXPECT(a && b && a == again);
	EXPECT(!upload("a", VARIANTS "/upload_b.so"));
	result(vine_task_issue(subject_accel[CPU], a, NULL, 0, NULL, 1, &out), task_completed);
	EXPECT(!memcmp(vine_data_deref(out), "aaa", 3));
	result(vine_task_issue(subject_accel[GPU], b, NULL, 0, NULL, 1, &out), task_completed);
	EXPECT(!memcmp(vine_data_deref(out), "bbb", 3));
	EXPECT(vine_proc_put(a) && vine_proc_put(again) && vine_proc_put(b));
	EXPECT(!subject_lines());
	subject_end();
}

static void handlers_come_before_code(void)
{
	vine_data *out;
	vine_proc *proc;

	subject_begin("local", "");
	out = subject_data(1 << 20, 'u');
	proc = upload("bytes", VARIANTS "/upload_a.so");
	result(vine_task_issue(subject_accel[CPU], proc, NULL, 0, NULL, 1, &out), task_completed);
	EXPECT(!memcmp(vine_data_deref(out), "\177ELF", 4));
	subject_end();
}

static void bad_code(void)
{
	vine_proc *proc;

	subject_begin("local", "");
	proc = vine_proc_register(ANY, "broken", "\177ELF", 4);
	EXPECT(proc);
	EXPECT(strstr(subject_said(), "procedure broken: "));
	EXPECT(result(vine_task_issue(subject_accel[CPU], proc, NULL, 0, NULL, 0, NULL),
		      task_failed).reason == vine_reason_no_procedure);
	proc = upload("no code", VARIANTS "/no_symbol.so");
	EXPECT(proc);
	EXPECT(strstr(subject_said(), "procedure no code: it exports no vine_procedure()"));
	EXPECT(result(vine_task_issue(subject_accel[CPU], proc, NULL, 0, NULL, 0, NULL),
		      task_failed).reason == vine_reason_no_procedure);
	subject_end();
}

/* ---- threads ---- */

/* A task that another thread issues, and that waits for a byte. */
struct gate {
	int runs[2], go[2];
	pthread_t thread;
	vine_proc *proc;
	vine_data *args, *out;
	vine_task *task;
};

static void *issue_gate(void *arg)
{
	struct gate *g = arg;

	g->task = vine_task_issue(subject_accel[CPU], g->proc, g->args, 0, NULL, 1, &g->out);
	return NULL;
}

static void gate_close(struct gate *g)
{
	int fds[2];
	char byte;

	if (pipe2(g->runs, O_CLOEXEC) || pipe2(g->go, O_CLOEXEC))
		abort();
	fds[0] = g->runs[1];
	fds[1] = g->go[0];
	g->proc = vine_proc_register(CPU, "gate", NULL, 0);
	g->args = subject_bytes(fds, sizeof(fds));
	g->out = subject_data(4, '.');
	pthread_create(&g->thread, NULL, issue_gate, g);
	EXPECT(read(g->runs[0], &byte, 1) == 1);
}

static void gate_open(struct gate *g, char byte)
{
	EXPECT(write(g->go[1], &byte, 1) == 1);
	pthread_join(g->thread, NULL);
	close(g->runs[0]);
	close(g->runs[1]);
	close(g->go[0]);
	close(g->go[1]);
}

/* A thread that is expected to wait for something. */
struct waiter {
	pthread_t thread;
	_Atomic(pid_t) tid;
	atomic_bool done;
	void (*run)(struct waiter *w);
	struct gate *gate;
	vine_data *data;
	vine_task *task;
};

static void *run_waiter(void *arg)
{
	struct waiter *w = arg;

	atomic_store(&w->tid, syscall(SYS_gettid));
	w->run(w);
	atomic_store(&w->done, true);
	return NULL;
}

/* Returns when it waits; if it does not, it is done. */
static void waiter_begin(struct waiter *w)
{
	pthread_create(&w->thread, NULL, run_waiter, w);
	while (!atomic_load(&w->tid))
		;
	subject_sleeps(w->tid);
}

static void reads_the_output(struct waiter *w)
{
	w->task = issue(GPU, "copy", NULL, 1, &w->gate->out, 1, &w->data);
}

static void writes_the_output(struct waiter *w)
{
	w->task = issue(GPU, "copy", NULL, 1, &w->data, 1, &w->gate->out);
}

static void ignores_the_output(struct waiter *w)
{
	w->task = issue(GPU, "copy", w->gate->args, 1, &w->data, 1, &w->data);
}

static void a_writer_is_waited_for(void)
{
	struct gate gate;
	struct waiter reader = { .run = reads_the_output, .gate = &gate };
	struct waiter writer = { .run = writes_the_output, .gate = &gate };
	struct waiter other = { .run = ignores_the_output, .gate = &gate };

	subject_begin("local", "");
	gate_close(&gate);
	other.data = subject_data(4, 'o');
	waiter_begin(&other);
	pthread_join(other.thread, NULL);
	EXPECT(other.done);

	reader.data = subject_data(4, 'r');
	waiter_begin(&reader);
	EXPECT(!reader.done);
	gate_open(&gate, 'x');
	pthread_join(reader.thread, NULL);
	EXPECT(!memcmp(vine_data_deref(reader.data), "xxxx", 4));
	result(gate.task, task_completed);
	result(reader.task, task_completed);

	gate_close(&gate);
	writer.data = subject_data(4, 'w');
	waiter_begin(&writer);
	EXPECT(!writer.done);
	gate_open(&gate, 'y');
	pthread_join(writer.thread, NULL);
	EXPECT(!memcmp(vine_data_deref(gate.out), "wwww", 4));
	result(writer.task, task_completed);
	subject_end();
}

static void exits(struct waiter *w)
{
	(void)w;
	vine_talk_exit();
}

static void inits(struct waiter *w)
{
	vine_talk_init();
	w->data = vine_data_alloc(7, Both);
}

static void exit_waits_for_calls(void)
{
	struct gate gate;
	struct waiter exiter = { .run = exits };
	struct waiter initer = { .run = inits };

	subject_begin("local", "");
	gate_close(&gate);
	EXPECT(vine_accel_stat(subject_accel[CPU], NULL) == accel_busy);
	waiter_begin(&exiter);
	EXPECT(!exiter.done);
	/* it is about to close: handles are none, what opens waits */
	EXPECT(!vine_data_size(gate.args));
	EXPECT(!vine_talk_backend("null"));
	waiter_begin(&initer);
	EXPECT(!initer.done);
	gate_open(&gate, 'x');
	pthread_join(exiter.thread, NULL);
	pthread_join(initer.thread, NULL);
	EXPECT(gate.task && vine_task_wait(gate.task) == task_failed);
	EXPECT(vine_data_size(initer.data) == 7);
	vine_talk_exit();
	EXPECT(vine_talk_backend(NULL));
}

/* Handles are closed and opened under the hands of other threads. */
static _Atomic(vine_data *) common_data;
static _Atomic(vine_proc *) common_proc;
static atomic_bool stop;

static void *use_common(void *arg)
{
	vine_data *data[2];
	vine_task *task;
	int i;

	(void)arg;
	for (i = 0; !atomic_load(&stop); i++) {
		data[0] = atomic_load(&common_data);
		data[1] = subject_data(8, 0);
		task = vine_task_issue(subject_accel[GPU + i % 4], atomic_load(&common_proc),
				       data[0], 2, data, 1, data + 1);
		vine_data_size(data[0]);
		vine_data_mark_ready(data[0]);
		vine_task_wait(task);
		vine_task_free(task);
		vine_data_free(data[1]);
	}
	return NULL;
}

static void *replace_common(void *arg)
{
	vine_proc *proc;
	int i;

	(void)arg;
	for (i = 0; i < SCALED(20000); i++) {
		vine_data_free(atomic_exchange(&common_data, subject_data(8, i)));
		proc = vine_proc_register(ANY, "copy", &i, sizeof(i) * (i % 2));
		vine_proc_put(atomic_exchange(&common_proc, proc));
	}
	return NULL;
}

ON_EACH(handles_go_away)
{
	pthread_t users[3], replacers[2];
	int i;

	subject_begin(backend, "");
	atomic_store(&stop, false);
	for (i = 0; i < 3; i++)
		pthread_create(&users[i], NULL, use_common, NULL);
	for (i = 0; i < 2; i++)
		pthread_create(&replacers[i], NULL, replace_common, NULL);
	for (i = 0; i < 2; i++)
		pthread_join(replacers[i], NULL);
	atomic_store(&stop, true);
	for (i = 0; i < 3; i++)
		pthread_join(users[i], NULL);
	atomic_store(&common_data, NULL);
	atomic_store(&common_proc, NULL);
	subject_end();
}

static atomic_int acquired;

static void *acquire_and_release(void *arg)
{
	vine_accel *accel;
	int i;

	(void)arg;
	for (i = 0; i < SCALED(20000); i++) {
		accel = subject_accel[CPU];
		if (!vine_accel_acquire(&accel))
			continue;
		EXPECT(atomic_fetch_add(&acquired, 1) == 0);
		atomic_fetch_sub(&acquired, 1);
		EXPECT(vine_accel_release(&accel));
	}
	return NULL;
}

ON_EACH(one_holds)
{
	pthread_t threads[4];
	int i;

	subject_begin(backend, "");
	for (i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, acquire_and_release, NULL);
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	EXPECT(vine_accel_stat(subject_accel[CPU], NULL) == accel_idle);
	subject_end();
}

static pthread_barrier_t barrier;
static atomic_int put_count;

static void *put_common(void *arg)
{
	int i;

	(void)arg;
	for (i = 0; i < SCALED(3000); i++) {
		if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) {
			EXPECT(atomic_exchange(&put_count, 0) == 2 * !!i);
			atomic_store(&common_proc, vine_proc_register(ANY, "noop", NULL, 0));
			EXPECT(vine_proc_get(ANY, "noop") == common_proc);
		}
		pthread_barrier_wait(&barrier);
		atomic_fetch_add(&put_count, vine_proc_put(atomic_load(&common_proc)));
	}
	return NULL;
}

/* Two references, four threads that put one. */
ON_EACH(as_many_puts_as_references)
{
	pthread_t threads[4];
	int i;

	subject_begin(backend, "");
	atomic_store(&put_count, 0);
	pthread_barrier_init(&barrier, NULL, 4);
	for (i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, put_common, NULL);
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&barrier);
	EXPECT(!vine_proc_put(atomic_load(&common_proc)));
	subject_end();
}

static void *init_and_exit(void *arg)
{
	vine_data *data;
	int i;

	(void)arg;
	for (i = 0; i < SCALED(2000); i++) {
		vine_talk_init();
		data = vine_data_alloc(64, Both);
		EXPECT(data && vine_data_size(data) == 64);
		vine_talk_exit();
	}
	return NULL;
}

ON_EACH(threads_init_and_exit)
{
	pthread_t threads[4];
	int i;

	subject_begin(backend, "");
	subject_end();
	for (i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, init_and_exit, NULL);
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	EXPECT(vine_talk_backend(NULL));
}

/* ---- fork and exec ---- */

static int child(vine_data *data)
{
	vine_proc *proc;
	vine_data *own;

	subject_said();
	subject_second();
	if (vine_data_size(data) || vine_accel_type(subject_accel[CPU]) != ANY)
		return 1;
	if (subject_lines() != 2)
		return 2;
	if (!vine_talk_backend(NULL))
		return 3;
	vine_talk_init();
	own = vine_data_alloc(10, Both);
	proc = vine_proc_register(ANY, "noop", "child", 5);
	if (!own || own == data || !proc || vine_data_size(data) || vine_data_size(own) != 10)
		return 4;
	subject_begin("local", "");
	if (vine_task_wait(issue(CPU, "copy", NULL, 1, &own, 1, &own)) != task_completed)
		return 5;
	vine_talk_exit();
	vine_talk_exit();
	return vine_data_size(own) ? 6 : 0;
}

static int status_of(pid_t pid)
{
	int status = -1;

	return waitpid(pid, &status, 0) == pid ? status : -1;
}

ON_EACH(a_child_begins_anew)
{
	vine_data *data;
	vine_proc *proc;
	pid_t pid;

	subject_begin(backend, "");
	data = subject_data(20, 0);
	proc = vine_proc_register(ANY, "noop", "parent", 6);
	pid = fork();
	if (!pid)
		_exit(child(data));
	EXPECT(status_of(pid) == 0);
	EXPECT(vine_data_size(data) == 20);
	EXPECT(vine_proc_put(proc));
	subject_end();

	pid = fork();
	if (!pid)
		_exit(vine_accel_list(ANY, NULL) == 4 ? 0 : 1);
	EXPECT(status_of(pid) == 0);
}

/* While other threads are in the middle of anything. */
static void forks_among_threads(void)
{
	pthread_t users[2];
	pid_t pid;
	int i;

	subject_begin("local", "");
	atomic_store(&stop, false);
	atomic_store(&common_data, subject_data(8, 0));
	atomic_store(&common_proc, vine_proc_register(ANY, "copy", NULL, 0));
	for (i = 0; i < 2; i++)
		pthread_create(&users[i], NULL, use_common, NULL);
	for (i = 0; i < SCALED(100); i++) {
		pid = fork();
		if (!pid) {
			alarm(60);
			_exit(child(common_data));
		}
		EXPECT(status_of(pid) == 0);
	}
	atomic_store(&stop, true);
	for (i = 0; i < 2; i++)
		pthread_join(users[i], NULL);
	atomic_store(&common_data, NULL);
	subject_end();
}

static void exec_closes_all(void)
{
	bool was_open[256];
	vine_proc *proc;
	int fd;

	for (fd = 0; fd < 256; fd++)
		was_open[fd] = fcntl(fd, F_GETFD) >= 0;
	subject_begin("local", "");
	proc = upload("a", VARIANTS "/upload_a.so");
	EXPECT(proc);
	for (fd = 0; fd < 256; fd++) {
		if (!was_open[fd] && fcntl(fd, F_GETFD) >= 0)
			EXPECT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	}
	subject_end();
	for (fd = 0; fd < 256; fd++)
		EXPECT(was_open[fd] == (fcntl(fd, F_GETFD) >= 0));
}

static const struct tap_test tests[] = {
	{ "inits are counted, the last exit closes", inits_are_counted_on_each },
	{ "exit without init warns", exit_without_init },
	{ "calls without init warn, and init", calls_without_init_on_each },
	{ "calls with handles do not", handles_do_not_open },
	{ "a call chooses the back end", backend_is_chosen },
	{ "a bad configuration: every call fails until the next init", bad_configuration },
	{ "the configuration that is named is missing", missing_file },
	{ "shm_file that is no file", shm_file_is_no_file },
	{ "a back end that does not open", backend_that_does_not_open },
	{ "at most 20 warnings a second", warnings_are_limited },
	{ "standard error may be closed", nobody_to_warn },
	{ "one accelerator of each type", one_accelerator_of_each_type_on_each },
	{ "types that are none", no_such_type },
	{ "acquire and release", exclusive_on_each },
	{ "the same bytes give the same procedure", same_bytes_same_procedure_on_each },
	{ "procedures of different types are different", types_are_apart_on_each },
	{ "names of procedures", names_on_each },
	{ "a procedure of more bytes than there are", too_many_bytes_on_each },
	{ "there need not be any handlers", no_plugins },
	{ "handlers are procedures", handlers_are_procedures },
	{ "buffers", buffers_on_each },
	{ "buffers that cannot be", buffers_that_cannot_be_on_each },
	{ "freed twice", freed_twice },
	{ "handles that are none, everywhere", wrong_handles_on_each },
	{ "a task", a_task_on_each },
	{ "what a handler sees", what_a_handler_sees },
	{ "a handler gets the procedure's bytes", handlers_get_their_bytes },
	{ "up to 64 buffers", how_many_buffers_on_each },
	{ "one buffer twice", one_buffer_twice },
	{ "why tasks fail", why_tasks_fail },
	{ "each reason has words of its own", reasons_have_words },
	{ "what a task uses may be freed before its end", used_after_free_on_each },
	{ "uploaded code runs", uploaded_code_runs },
	{ "a handler comes before uploaded code", handlers_come_before_code },
	{ "uploaded code that is none", bad_code },
	{ "a task that writes to a buffer is waited for", a_writer_is_waited_for },
	{ "exit waits for calls under way", exit_waits_for_calls },
	{ "handles go away while others use them", handles_go_away_on_each },
	{ "one thread holds an accelerator", one_holds_on_each },
	{ "a procedure can be put as often as it was got", as_many_puts_as_references_on_each },
	{ "threads init and exit", threads_init_and_exit_on_each },
	{ "a child begins anew", a_child_begins_anew_on_each },
	{ "a child begins anew, whatever other threads did", forks_among_threads },
	{ "exec closes all", exec_closes_all },
};

int main(void)
{
	return subject_main(tests, sizeof(tests) / sizeof(tests[0]));
}
