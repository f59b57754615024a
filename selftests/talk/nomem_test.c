// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * nomem_test.c - the library without memory: each allocation fails once, and all after it
 *
 * The linker gives the library these functions in place of libc's. What a call that failed
 * would have left behind, the leak checker finds.
 */
#include <errno.h>
#include <stdbool.h>

#include "serve/plugin.h"
#include "subject.h"
#include "talk/talk.h"

#define CHUNK	4096	/* slots that handle.c allocates at a time */

static bool armed, forever, no_chunks;
static unsigned int left, failures;

static bool fails(void)
{
	if (!armed)
		return false;
	if (left) {
		left--;
		return false;
	}
	failures++;
	armed = forever;
	errno = ENOMEM;
	return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
int __real_posix_memalign(void **p, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
int __wrap_posix_memalign(void **p, size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	if (no_chunks && n == CHUNK) {
		failures++;
		return NULL;
	}
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return fails() ? NULL : __real_realloc(p, size);
}

int __wrap_posix_memalign(void **p, size_t alignment, size_t size)
{
	return fails() ? ENOMEM : __real_posix_memalign(p, alignment, size);
}

/*
 * Runs a scenario, first with its first allocation failing, then the second, and so on until
 * none does any more. It gives false when a call failed; then an allocation must have.
 */
static void sweep(bool (*scenario)(void), bool all_after)
{
	unsigned int n;
	bool worked;

	for (n = 0; n < 1000; n++) {
		forever = all_after;
		left = n;
		failures = 0;
		armed = true;
		worked = scenario();
		armed = false;
		EXPECT(worked || failures);
		if (!failures)
			break;
	}
	EXPECT(worked && n > 0 && n < 1000);
}

/* ---- the calls ---- */

static bool tasks(void)
{
	vine_proc *proc = vine_proc_register(ANY, "copy", "bytes", 5), *again;
	vine_data *in = vine_data_alloc(100, Both), *out = vine_data_alloc(100, Both);
	vine_task *task = NULL;
	bool worked = false;

	if (!proc || !in || !out)
		goto end;
	again = vine_proc_get(ANY, "copy");
	task = vine_task_issue(subject_accel[CPU], proc, in, 1, &in, 1, &out);
	/* on null there is the registered one alone, on local there are handlers' too */
	worked = again == proc && vine_task_wait(task) == task_completed;
	vine_proc_put(again);
end:
	vine_task_free(task);
	vine_data_free(in);
	vine_data_free(out);
	if (proc)
		EXPECT(vine_proc_put(proc));
	return worked;
}

static bool upload(void)
{
	static char code[1 << 20];
	static size_t size;
	vine_proc *proc;
	FILE *f;

	if (!size) {
		f = fopen(VARIANTS "/upload_a.so", "re");
		size = fread(code, 1, sizeof(code), f);
		fclose(f);
	}
	proc = vine_proc_register(ANY, "uploaded", code, size);
	return proc && EXPECT(vine_proc_put(proc));
}

static bool handlers_procedure(void)
{
	vine_proc *proc = vine_proc_get(CPU, "cpu only");

	return proc && EXPECT(vine_proc_put(proc));
}

static bool acquire(void)
{
	vine_accel *accel = subject_accel[CPU], *before = accel;

	if (!vine_accel_acquire(&accel)) {
		EXPECT(accel == before);
		return false;
	}
	return EXPECT(vine_accel_release(&accel));
}

static bool everything(const char *backend)
{
	bool worked;

	subject_begin(backend, "profile -\n");
	worked = vine_accel_list(ANY, NULL) == 4;
	if (worked)
		worked = subject_accel[CPU] && tasks() && acquire() &&
			 (*backend == 'n' || (handlers_procedure() && upload()));
	subject_end();
	return worked;
}

static bool on_local(void)
{
	return everything("local");
}

static bool on_null(void)
{
	return everything("null");
}

static void null_once(void)
{
	sweep(on_null, false);
}

static void null_all(void)
{
	sweep(on_null, true);
}

static void local_once(void)
{
	sweep(on_local, false);
}

static void local_all(void)
{
	sweep(on_local, true);
}

/* ---- no more handles ---- */

static void nothing(struct handle *h)
{
	(void)h;
}

/* All handles of the chunks that are there but @n are taken. */
static struct handle taken[2 * CHUNK];
static unsigned int taken_count;

static void leave_handles(unsigned int n)
{
	while (!handle_open(&taken[taken_count], HANDLE_TASK, nothing))
		taken_count++;
	while (n--)
		handle_close(HANDLE_TASK, taken[--taken_count].value);
}

static void few_handles(bool (*scenario)(void))
{
	unsigned int n;
	bool worked;

	no_chunks = true;
	for (n = 0; n < 100; n++) {
		leave_handles(n);
		failures = 0;
		worked = scenario();
		EXPECT(worked == !failures);
		/* the back end closes those too */
		taken_count = 0;
		if (worked)
			break;
	}
	no_chunks = false;
	EXPECT(worked && n > 4);
}

static void null_handles(void)
{
	few_handles(on_null);
}

static void local_handles(void)
{
	few_handles(on_local);
}

/* ---- the registry ---- */

static bool load_plugins(void)
{
	struct plugins plugins = { 0 };
	char error[PLUGIN_ERROR] = "";
	int n = plugins_load_folder(&plugins, PLUGINS, error);

	EXPECT(n == 1 ? plugins_find(&plugins, CPU, "noop") != NULL :
			plugins.count == 0 && plugins.opened_count == 0);
	EXPECT(n == 1 || strstr(error, "no memory"));
	plugins_free(&plugins);
	return n == 1;
}

static void plugins_once(void)
{
	sweep(load_plugins, false);
}

static const struct tap_test tests[] = {
	{ "null: one allocation fails", null_once },
	{ "null: it and all after it fail", null_all },
	{ "local: one allocation fails", local_once },
	{ "local: it and all after it fail", local_all },
	{ "null: handles run out", null_handles },
	{ "local: handles run out", local_handles },
	{ "plugins: one allocation fails", plugins_once },
};

int main(void)
{
	return subject_main(tests, sizeof(tests) / sizeof(tests[0]));
}
