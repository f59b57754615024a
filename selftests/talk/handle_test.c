// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * handle_test.c - handles: stale, foreign and forged ones are seen, by one thread or many
 */
#include <errno.h>
#include <sys/wait.h>

#include "talk/talk.h"
#include "tap.h"

struct object {
	struct handle h;
	atomic_int destroyed;
	atomic_int alive;
};

static void destroyed(struct handle *h)
{
	struct object *o = (struct object *)h;

	atomic_store(&o->alive, 0);
	atomic_fetch_add(&o->destroyed, 1);
}

static void open_object(struct object *o, enum handle_kind kind)
{
	*o = (struct object){ .alive = 1 };
	if (handle_open(&o->h, kind, destroyed))
		abort();
}

static void get_gives_the_object(void)
{
	struct object o;

	open_object(&o, HANDLE_DATA);
	CHECK(o.h.value);
	CHECK(handle_get(HANDLE_DATA, o.h.value) == &o);
	handle_put(&o.h);
	CHECK(!o.destroyed);
	CHECK(handle_close(HANDLE_DATA, o.h.value));
	CHECK(o.destroyed == 1);
}

static void closed_is_stale(void)
{
	struct object o;

	open_object(&o, HANDLE_DATA);
	CHECK(handle_close(HANDLE_DATA, o.h.value));
	CHECK(!handle_get(HANDLE_DATA, o.h.value));
	CHECK(!handle_close(HANDLE_DATA, o.h.value));
	CHECK(o.destroyed == 1);
}

static void used_again_is_another(void)
{
	struct object o;
	void *old;
	int i;

	open_object(&o, HANDLE_DATA);
	old = o.h.value;
	handle_close(HANDLE_DATA, old);
	for (i = 0; i < SCALED(100000); i++) {
		open_object(&o, HANDLE_DATA);
		CHECK(o.h.value != old);
		CHECK(!handle_get(HANDLE_DATA, old));
		handle_close(HANDLE_DATA, o.h.value);
	}
}

static void kinds_differ(void)
{
	enum handle_kind kinds[] = { HANDLE_ACCEL, HANDLE_PROC, HANDLE_DATA, HANDLE_TASK };
	struct object o;
	int i, j;

	for (i = 0; i < 4; i++) {
		open_object(&o, kinds[i]);
		for (j = 0; j < 4; j++) {
			struct object *got = handle_get(kinds[j], o.h.value);

			CHECK(got == (i == j ? &o : NULL));
			if (got)
				handle_put(&got->h);
			CHECK(i == j || !handle_close(kinds[j], o.h.value));
		}
		CHECK(handle_close(kinds[i], o.h.value));
	}
}

static void foreign_is_none(void)
{
	uintptr_t values[] = { 0, 1, 4096, UINTPTR_MAX, UINTPTR_MAX >> 1, 1ULL << 63,
			       (uintptr_t)values, (uintptr_t)foreign_is_none };
	struct object o;
	uintptr_t value;
	size_t i, k;

	open_object(&o, HANDLE_DATA);
	value = (uintptr_t)o.h.value;
	for (k = HANDLE_ACCEL; k <= HANDLE_TASK; k++) {
		for (i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
			CHECK(!handle_get(k, (void *)values[i]));
			CHECK(!handle_close(k, (void *)values[i]));
		}
		/* each bit counts */
		for (i = 0; i < 64; i++) {
			CHECK(!handle_get(k, (void *)(value ^ 1ULL << i)));
			CHECK(!handle_close(k, (void *)(value ^ 1ULL << i)));
		}
	}
	CHECK(!o.destroyed);
	handle_close(HANDLE_DATA, o.h.value);
}

static void last_put_destroys(void)
{
	struct object o;

	open_object(&o, HANDLE_TASK);
	handle_hold(&o.h);
	CHECK(handle_get(HANDLE_TASK, o.h.value));
	CHECK(handle_close(HANDLE_TASK, o.h.value));
	CHECK(!o.destroyed);
	handle_put(&o.h);
	CHECK(!o.destroyed);
	handle_put(&o.h);
	CHECK(o.destroyed == 1);
}

static void close_all_closes_a_kind(void)
{
	static struct object data[10000], task;
	size_t i, n = sizeof(data) / sizeof(data[0]);

	open_object(&task, HANDLE_TASK);
	for (i = 0; i < n; i++)
		open_object(&data[i], HANDLE_DATA);
	handle_close_all(HANDLE_DATA);
	for (i = 0; i < n; i++)
		CHECK(data[i].destroyed == 1);
	CHECK(!task.destroyed);
	handle_close_all(HANDLE_TASK);
	CHECK(task.destroyed == 1);
}

static void many_at_once(void)
{
	int i, n = 100000;
	struct object *o = calloc(n, sizeof(*o));

	for (i = 0; i < n; i++)
		open_object(&o[i], HANDLE_DATA);
	for (i = 0; i < n; i++)
		EXPECT(handle_get(HANDLE_DATA, o[i].h.value) == &o[i]);
	for (i = 0; i < n; i++) {
		handle_put(&o[i].h);
		handle_close(HANDLE_DATA, o[i].h.value);
		EXPECT(o[i].destroyed == 1);
	}
	free(o);
}

/* ---- threads ---- */

#define THREADS	4

static void *in_threads(void *(*run)(void *), void *arg)
{
	pthread_t t[THREADS];
	int i;

	for (i = 0; i < THREADS; i++)
		EXPECT(!pthread_create(&t[i], NULL, run, arg));
	for (i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	return NULL;
}

static struct object shared;
static pthread_barrier_t barrier;
static atomic_int closed;

static void *get_and_close(void *arg)
{
	void *value;
	int i;

	(void)arg;
	for (i = 0; i < SCALED(20000); i++) {
		if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) {
			EXPECT(i == 0 || shared.destroyed == 1);
			EXPECT(i == 0 || atomic_exchange(&closed, 0) == 1);
			open_object(&shared, HANDLE_DATA);
		}
		pthread_barrier_wait(&barrier);
		value = shared.h.value;
		if (handle_get(HANDLE_DATA, value)) {
			EXPECT(atomic_load(&shared.alive));
			handle_put(&shared.h);
		}
		if (handle_close(HANDLE_DATA, value))
			atomic_fetch_add(&closed, 1);
		EXPECT(!handle_get(HANDLE_DATA, value));
	}
	pthread_barrier_wait(&barrier);
	return NULL;
}

static void one_closes(void)
{
	pthread_barrier_init(&barrier, NULL, THREADS);
	in_threads(get_and_close, NULL);
	pthread_barrier_destroy(&barrier);
}

static void *open_and_close(void *arg)
{
	struct object o[64];
	int i, j;

	(void)arg;
	for (i = 0; i < SCALED(3000); i++) {
		for (j = 0; j < 64; j++)
			open_object(&o[j], HANDLE_DATA);
		for (j = 0; j < 64; j++) {
			EXPECT(handle_get(HANDLE_DATA, o[j].h.value) == &o[j]);
			handle_put(&o[j].h);
			EXPECT(handle_close(HANDLE_DATA, o[j].h.value));
			EXPECT(o[j].destroyed == 1);
		}
	}
	return NULL;
}

static void threads_open_and_close(void)
{
	in_threads(open_and_close, NULL);
}

/* ---- fork ---- */

static int child(void *value, struct object *o)
{
	struct object own;
	int i;

	handle_forked();
	if (handle_get(HANDLE_DATA, value) || handle_close(HANDLE_DATA, value) || o->destroyed)
		return 1;
	for (i = 0; i < 1000; i++) {
		open_object(&own, HANDLE_DATA);
		if (own.h.value == value || handle_get(HANDLE_DATA, own.h.value) != &own)
			return 2;
		handle_put(&own.h);
		handle_close(HANDLE_DATA, own.h.value);
		if (own.destroyed != 1)
			return 3;
	}
	handle_close_all(HANDLE_DATA);
	return o->destroyed ? 4 : 0;
}

static void stale_in_a_child(void)
{
	struct object o;
	int status;
	pid_t pid;

	open_object(&o, HANDLE_DATA);
	pid = fork();
	if (!pid)
		_exit(child(o.h.value, &o));
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(status == 0);
	CHECK(handle_close(HANDLE_DATA, o.h.value));
}

static const struct tap_test tests[] = {
	{ "a handle gives its object", get_gives_the_object },
	{ "a closed handle gives nothing, and is closed once", closed_is_stale },
	{ "a handle is not given again", used_again_is_another },
	{ "a handle of one kind is none of another", kinds_differ },
	{ "what is no handle gives nothing", foreign_is_none },
	{ "the last put destroys", last_put_destroys },
	{ "all of a kind can be closed", close_all_closes_a_kind },
	{ "a hundred thousand at once", many_at_once },
	{ "of threads that close, one does; of those that get, none gets the dead", one_closes },
	{ "threads open and close their own", threads_open_and_close },
	{ "all are stale in a child, and none is destroyed", stale_in_a_child },
};

TAP_MAIN(tests)
