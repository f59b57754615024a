// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * device_sweep_test.c - the back end "device", when anything at all goes wrong
 *
 * One scenario with a little of everything. It is played again and again: each time another
 * message of the appliance is not what it should be (actor.h), or another call that the
 * library makes fails. Nothing crashes, hangs or is left; what is done is done right.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "descriptors.h"
#include "tap.h"

#include "actor.h"
#include "fake_vine.h"
#include "talk/device.h"

#pragma weak fake_vine_error	/* there is none on a device: $VINE_DEVICE */

/*
 * The message or call after @at; slow builds leave out the more, the further on they are: a
 * thread that spins makes many calls.
 */
#define NEXT(at)	((at) + (UNIT_PERCENT < 20 ? 3 + (at) / 2 : 1))

static struct actor actor;

/* The actor sees the end of a queue a little later. */
static bool all_closed(void)
{
	const struct timespec t = { 0, 500000 };
	unsigned int left = 40000;

	while (actor.queues && left--)
		nanosleep(&t, NULL);
	return !actor.queues;
}

/* ---- calls that fail ---- */

/*
 * The linker gives the library these in place of the real ones: call number @fail_at of
 * @fail_what, counted from 0, fails. Only in the thread that plays the scenario.
 */
static const char *fail_what;
static int fail_at, fail_error;
static bool failed;
static __thread bool armed;

static bool fails(const char *what)
{
	if (!armed || strcmp(fail_what, what) || fail_at-- != 0)
		return false;
	failed = true;
	return true;
}

#define WRAP(name, proto, args)							\
	int __real_##name proto;						\
	int __wrap_##name proto;						\
	int __wrap_##name proto							\
	{									\
		return fails(#name) ? fail_error : __real_##name args;		\
	}

WRAP(vine_open, (const char *path), (path))
WRAP(vine_info, (int d, struct vine_info *i), (d, i))
WRAP(vine_services, (int d, struct vine_service *a, unsigned int n), (d, a, n))
WRAP(vine_connect_id, (int d, uint64_t id, unsigned int depth, unsigned int flags,
		       uint64_t deadline, struct vine_connect *out),
     (d, id, depth, flags, deadline, out))
WRAP(vine_region, (int d, uint64_t bytes, uint64_t *rounded), (d, bytes, rounded))
WRAP(vine_attach, (int q, int r, uint64_t *id), (q, r, id))
WRAP(vine_map, (int r, uint64_t bytes, void **address), (r, bytes, address))
WRAP(vine_transfer, (int q, struct vine_transfer *t), (q, t))
WRAP(vine_pull, (int q, struct vine_msg *m, unsigned int room, unsigned int min,
		 uint64_t deadline),
     (q, m, room, min, deadline))
WRAP(handle_open, (struct handle *h, enum handle_kind kind, void (*destroy)(struct handle *)),
     (h, kind, destroy))
WRAP(pthread_setspecific, (pthread_key_t key, const void *value), (key, value))

/* Nothing happens, or a hang-up. */
int __real_poll(struct pollfd *p, nfds_t n, int ms);
int __wrap_poll(struct pollfd *p, nfds_t n, int ms);
int __wrap_poll(struct pollfd *p, nfds_t n, int ms)
{
	if (!fails("poll"))
		return __real_poll(p, n, ms);
	p->revents = fail_error;
	return !!fail_error;
}

int __real_fcntl(int fd, int cmd, ...);
int __wrap_fcntl(int fd, int cmd, ...);
int __wrap_fcntl(int fd, int cmd, ...)
{
	va_list args;
	void *arg;

	va_start(args, cmd);
	arg = va_arg(args, void *);	/* or a number */
	va_end(args);
	if (!fails("fcntl"))
		return __real_fcntl(fd, cmd, arg);
	errno = fail_error;
	return -1;
}

#define WRAP_MEMORY(name, proto, args)						\
	void *__real_##name proto;						\
	void *__wrap_##name proto;						\
	void *__wrap_##name proto						\
	{									\
		return fails("memory") ? NULL : __real_##name args;		\
	}

WRAP_MEMORY(malloc, (size_t size), (size))
WRAP_MEMORY(calloc, (size_t n, size_t size), (n, size))
WRAP_MEMORY(realloc, (void *p, size_t size), (p, size))

/* ---- the scenario ---- */

#define JOBS	6

struct job {
	vine_data *data[2];
	vine_task *task;
	size_t size;
};

static void job_issue(struct job *j, unsigned int i, vine_accel *accel, vine_proc *proc)
{
	if (!j->data[0] || !j->data[1])
		return;
	memset(vine_data_deref(j->data[0]), i, j->size);
	j->task = vine_task_issue(accel, proc, NULL, 1, &j->data[0], 1, &j->data[1]);
}

/* True: it is completed. */
static bool job_wait(struct job *j, unsigned int i)
{
	const uint8_t *out = j->data[1] ? vine_data_deref(j->data[1]) : NULL;
	vine_task_stats_s stats;
	vine_task_state_e end;

	if (!j->task)
		return false;
	if (i == 3)
		vine_task_stat(j->task, NULL);
	end = vine_task_wait(j->task);
	EXPECT(vine_task_stat(j->task, &stats) == end && end != task_issued);
	EXPECT((end == task_failed) == (stats.reason != vine_reason_none));
	EXPECT(stats.reason != vine_reason_no_memory);	/* the actor has enough; we have no task */
	if (end == task_completed)
		EXPECT(out[0] == i + 1 && out[j->size - 1] == i + 1);
	vine_task_free(j->task);
	return end == task_completed;
}

/* True: nothing went wrong. */
static bool scenario(void)
{
	vine_accel **list = NULL, *held;
	vine_proc *proc, *other, *late;
	struct job jobs[JOBS] = { };
	vine_accel_state_e state;
	bool worked = true;
	unsigned int i;
	int k, n;

	vine_talk_init();
	n = vine_accel_list(ANY, &list);
	worked &= n == 2;
	for (k = 0; k < n; k++) {
		vine_accel_location(list[k]);
		state = vine_accel_stat(list[k], NULL);
		EXPECT(state <= accel_busy);
		worked &= state == accel_idle;
	}
	proc = vine_proc_register(CPU, "p", "pppp", 4);
	other = vine_proc_get(ANY, "other");
	late = vine_proc_register(FPGA, "late", "llll", 4);	/* told with its first task */
	for (i = 0; i < JOBS; i++) {
		jobs[i].size = i == 5 ? 3 << 20 : 100;
		jobs[i].data[0] = vine_data_alloc(jobs[i].size, Both);
		jobs[i].data[1] = vine_data_alloc(jobs[i].size, Both);
	}
	held = n ? list[0] : NULL;
	if (!held || !vine_accel_acquire(&held))
		held = NULL;
	for (i = 0; n && proc && other && late && i < JOBS; i++)
		job_issue(&jobs[i], i, held && i % 2 ? held : list[0],
			  i == 4 ? late : i % 3 ? proc : other);
	for (i = 0; i < JOBS; i++)
		worked &= job_wait(&jobs[i], i);
	worked &= held && vine_accel_release(&held);
	for (i = 0; i < JOBS; i++) {
		vine_data_free(jobs[i].data[0]);
		vine_data_free(jobs[i].data[1]);
	}
	if (proc)
		EXPECT(vine_proc_put(proc));
	if (other)
		EXPECT(vine_proc_put(other));
	if (late)
		EXPECT(vine_proc_put(late));
	free(list);
	vine_talk_exit();
	return worked;
}

/* Plays it with a new actor, and looks whether anything is left. True: nothing went wrong. */
static bool play(enum actor_trick trick, int at)
{
	unsigned int fds = count_descriptors(NULL);
	bool worked;

	memset(&actor, 0, sizeof(actor));
	actor.accels = 2;
	actor.trick = trick;
	actor.trick_at = at;
	actor_start(&actor);
	armed = fail_what;
	worked = scenario();
	armed = false;
	EXPECT(all_closed());
	actor_stop(&actor);
	EXPECT(!actor.violations);
	EXPECT(count_descriptors(NULL) == fds);
	return worked;
}

/* The library warns a lot here. */
static int mute(void)
{
	int old = dup(2), null = open("/dev/null", O_WRONLY);

	dup2(null, 2);
	close(null);
	return old;
}

static void unmute(int old)
{
	dup2(old, 2);
	close(old);
}

/* ---- the appliance's messages ---- */

/* How many there are when all is well. */
static int messages(void)
{
	EXPECT(play(HONEST, -1));
	return actor.sent;
}

static void sweep(enum actor_trick trick, int to)
{
	bool worked;
	int at;

	for (at = 0; at < to && !tap_failed; at = NEXT(at)) {
		worked = play(trick, at);
		/* what these do is noticed; but of RELEASE, the last one, nothing depends on it */
		if ((trick >= SHORT && trick <= TAG && at < to - 1) || (trick == ONES && at < 4))
			EXPECT(!worked);
		if (tap_failed)
			printf("# trick %d at message %d\n", trick, at);
	}
}

static void hangs_up(void)
{
	int quiet = mute(), n = messages();

	CHECK(n > 15);
	sweep(CLOSE, n);
	sweep(DIE, n);
	unmute(quiet);
}

static void nonsense(void)
{
	int quiet = mute(), n = messages(), trick;

	for (trick = TWICE; trick < ACTOR_TRICKS; trick++)
		sweep(trick, n);
	unmute(quiet);
}

static void does_not_answer(void)
{
	int quiet = mute();

	device_patience_ms = 300;
	sweep(SILENT, 9);	/* WELCOME, HOST, ACCEL, ACCEL, STAT, STAT, PROC, PROC, ACQUIRE */
	device_patience_ms = 10000;
	unmute(quiet);
}

/* ---- the library's calls ---- */

/*
 * Each call of @what fails once, in one play after the other. @harmless: it goes on as if
 * nothing had been.
 */
static void sweep_calls(const char *what, int error, bool harmless)
{
	int at, quiet = mute();
	bool worked;

	failed = true;
	for (at = 0; failed && !tap_failed && at < 1000; at = NEXT(at)) {
		fail_what = what;
		fail_at = at;
		fail_error = error;
		failed = false;
		worked = play(HONEST, -1);
		EXPECT(worked || (failed && !harmless));
		if (tap_failed)
			printf("# %s number %d gives %d\n", what, at, error);
	}
	EXPECT(at > 1);
	fail_what = NULL;
	unmute(quiet);
}

static void interrupted(void)
{
	sweep_calls("vine_info", -EINTR, true);
	sweep_calls("vine_services", -EINTR, true);
	sweep_calls("vine_connect_id", -EINTR, true);
	sweep_calls("vine_region", -EINTR, true);
	sweep_calls("vine_attach", -EINTR, true);
	sweep_calls("vine_transfer", -EINTR, true);
	sweep_calls("vine_pull", -EINTR, true);
	sweep_calls("poll", 0, true);
}

static void no_room(void)
{
	sweep_calls("vine_connect_id", -ENOSPC, false);
	sweep_calls("vine_connect_id", -EMFILE, false);
	sweep_calls("vine_attach", -ENOSPC, false);
	sweep_calls("vine_region", -ENOSPC, false);
	sweep_calls("vine_region", -EMFILE, false);
	sweep_calls("vine_map", -ENOMEM, false);
	sweep_calls("vine_transfer", -EAGAIN, true);
}

static void no_memory(void)
{
	sweep_calls("memory", 0, false);
	sweep_calls("handle_open", -ENOMEM, false);
	sweep_calls("pthread_setspecific", ENOMEM, false);
}

static void queue_gone(void)
{
	sweep_calls("vine_connect_id", -ENOENT, false);
	sweep_calls("vine_connect_id", -ECONNREFUSED, false);
	sweep_calls("poll", POLLHUP, false);
	sweep_calls("fcntl", EBADF, false);
	sweep_calls("vine_attach", -EPIPE, false);
	sweep_calls("vine_transfer", -EPIPE, false);
	sweep_calls("vine_transfer", -EIO, false);
	sweep_calls("vine_pull", -EPIPE, false);
	sweep_calls("vine_pull", -EIO, false);
}

static void device_gone(void)
{
	sweep_calls("vine_open", -ENOENT, false);
	sweep_calls("vine_open", -EACCES, false);
	sweep_calls("vine_info", -ENODEV, false);
	sweep_calls("vine_info", -ENOTTY, false);
	sweep_calls("vine_services", -ENODEV, false);
	sweep_calls("vine_services", -ENOMEM, false);
	sweep_calls("vine_attach", -ENODEV, false);
	sweep_calls("vine_attach", -ENOTCONN, false);
	sweep_calls("vine_transfer", -ENODEV, false);
	sweep_calls("vine_transfer", -ENOTCONN, false);
	sweep_calls("vine_pull", -ENOTCONN, false);
}

static const struct tap_test tests[] = {
	{ "the appliance hangs up, or dies, instead of any of its messages", hangs_up },
	{ "nonsense in any field of any message", nonsense },
	{ "no answer: given up after a while", does_not_answer },
	{ "signals interrupt any call: nothing comes of it", interrupted },
	{ "the segment, or this process, is full, at any call", no_room },
	{ "no memory, at any allocation", no_memory },
	{ "a queue breaks at any call", queue_gone },
	{ "the device goes at any call", device_gone },
};

int main(void)
{
	static char folder[] = "/tmp/device-sweep-XXXXXX";	/* will do for a fake device */
	int ret;

	if (!mkdtemp(folder))
		return 1;
	if (&fake_vine_error)
		setenv("VINE_DEVICE", folder, 1);
	setenv("HOME", folder, 1);
	unsetenv("VINE_CONFIG");
	unsetenv("VINE_TRACE");
	vine_talk_backend("device");
	ret = tap_main(tests, sizeof(tests) / sizeof(tests[0]));
	rmdir(folder);
	return ret;
}
