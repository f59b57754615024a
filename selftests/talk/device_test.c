// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * device_test.c - the back end "device", with an appliance that misbehaves (actor.h)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "descriptors.h"
#include "tap.h"

#include "actor.h"
#include "fake_vine.h"
#include "subject.h"
#include "talk/device.h"

/* On a device ($VINE_DEVICE) there is none, and what needs it is left out. */
#pragma weak fake_vine_error

/* What does not hold at once is looked at again, for as long as a test may take. */
static bool nap(void)
{
	const struct timespec t = { 0, 500000 };

	nanosleep(&t, NULL);
	return true;
}
#define EVENTUALLY(cond)							\
	({									\
		unsigned int left_ = 40000;					\
		while (!(cond) && left_-- && nap())				\
			;							\
		(bool)(cond);							\
	})

static struct actor actor;
static const char *device_path;
static vine_accel **accels;
static int accel_count;

/* Of both ends of a queue: two on a device, four of endpoints. */
static unsigned int queue_fds(void)
{
	int own = vine_open(NULL), listener = vine_listen(own, "own", 0, VINE_NONBLOCK);
	unsigned int before = count_descriptors(NULL), n;
	int client = vine_connect(own, "own", 2, VINE_NONBLOCK, 0, NULL);
	int server = vine_accept(listener, 0, VINE_FOREVER, NULL);

	EXPECT(client >= 0 && server >= 0);
	n = count_descriptors(NULL) - before;
	vine_close(client);
	vine_close(server);
	vine_close(listener);
	vine_close(own);
	return n;
}

/* Is the device an endpoint of this process? Then the actor's is another one. */
static bool on_endpoint(void)
{
	int own = vine_open(NULL);
	struct vine_info info;
	bool is = !vine_info(own, &info) && info.kind == VINE_KIND_HOST;

	vine_close(own);
	return is;
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

/* An actor with 4 accelerators, and a client that knows them; and all others' there are. */
static bool begin_with(int all)
{
	memset(&actor, 0, sizeof(actor));
	actor.accels = 4;
	actor.trick_at = -1;
	actor_start(&actor);
	vine_talk_backend("device");
	vine_talk_init();
	accel_count = vine_accel_list(ANY, &accels);
	return EXPECT(accel_count == all);
}

static bool begin(void)
{
	return begin_with(4);
}

static void end(void)
{
	vine_talk_exit();
	free(accels);
	accels = NULL;
	EXPECT(EVENTUALLY(!actor.queues));	/* nothing stays open */
	actor_stop(&actor);
	EXPECT(!actor.violations);
}

/* ---- jobs: a task of two buffers, whose result is checked ---- */

struct job {
	vine_data *in, *out;
	vine_task *task;
	uint8_t byte;
	size_t size;
};

static bool job_new(struct job *j, size_t size)
{
	*j = (struct job){ .in = vine_data_alloc(size, Both), .out = vine_data_alloc(size, Both),
			   .size = size };
	return j->in && j->out;
}

static bool job_issue(struct job *j, vine_accel *accel, vine_proc *proc, uint8_t byte)
{
	j->byte = byte;
	memset(vine_data_deref(j->in), byte, j->size);
	memset(vine_data_deref(j->out), 0xee, j->size);
	j->task = vine_task_issue(accel, proc, NULL, 1, &j->in, 1, &j->out);
	return j->task;
}

static bool job_right(const struct job *j)
{
	const uint8_t *out = vine_data_deref(j->out);

	return out[0] == (uint8_t)(j->byte + 1) && out[j->size - 1] == (uint8_t)(j->byte + 1);
}

static bool job_wait(struct job *j)
{
	bool good = vine_task_wait(j->task) == task_completed && job_right(j);

	vine_task_free(j->task);
	j->task = NULL;
	return good;
}

static void job_free(struct job *j)
{
	vine_data_free(j->in);
	vine_data_free(j->out);
}

/* ---- when all is well ---- */

static void accelerators(void)
{
	vine_accel_stats_s stats;
	vine_accel **again;
	vine_accel_loc_s loc;

	if (!begin())
		return;
	loc = vine_accel_location(accels[1]);
	EXPECT(!strcmp(loc.segment, device_path) && !strcmp(loc.appliance, "actor") &&
	       !strcmp(loc.name, "actor1") && !strcmp(loc.host, "stage") &&
	       !strcmp(loc.pci, "0012:03:08.5"));
	loc = vine_accel_location(accels[0]);
	EXPECT(!*loc.pci && loc.incarnation == 1);
	EXPECT(!*vine_accel_location(accels[2]).pci);	/* not 0, but none all the same */
	EXPECT(vine_accel_type(accels[1]) == GPU);
	EXPECT(vine_accel_stat(accels[1], &stats) == accel_idle);
	EXPECT(stats.queued == 1 && stats.running == 2 && stats.done == 3 && stats.failed == 4 &&
	       stats.busy_ns == 5);
	actor.broken = true;
	EXPECT(vine_accel_stat(accels[1], &stats) == accel_failed);
	EXPECT(!stats.queued && !stats.running && !stats.done && !stats.failed && !stats.busy_ns);
	EXPECT(vine_accel_list(CPU, NULL) == 2 && vine_accel_list(GPU_SOFT, NULL) == 0);
	EXPECT(vine_accel_list(FPGA, &again) == 1 && again[0] == accels[2]);
	free(again);
	EXPECT(actor.accepted == 1);	/* one control queue */
	end();
}

/* Whoever writes the shared table writes to no terminal. */
static void strange_name(void)
{
	memset(&actor, 0, sizeof(actor));
	actor.name = "a\x1b[2J\x9b\x7f~";
	actor.accels = 1;
	actor.trick_at = -1;
	actor_start(&actor);
	vine_talk_backend("device");
	vine_talk_init();
	CHECK(vine_accel_list(ANY, &accels) == 1);
	EXPECT(!strcmp(vine_accel_location(accels[0]).appliance, "a?[2J??~"));
	end();
}

/* 0 to 64 buffers, with and without arguments, in any number of messages. */
static void buffers(void)
{
	vine_data *in[TALK_BUFFERS], *out[TALK_BUFFERS], *args;
	unsigned int ins, outs, i;
	vine_proc *proc;
	vine_task *task;

	if (!begin())
		return;
	proc = vine_proc_register(ANY, "p", "p", 1);
	args = vine_data_alloc(77, Both);
	memset(vine_data_deref(args), 7, 77);
	for (i = 0; i < TALK_BUFFERS; i++) {
		in[i] = vine_data_alloc(100 + i, Both);
		out[i] = vine_data_alloc(200 + i, i % 3 ? Both : AccelOnly);
		memset(vine_data_deref(in[i]), 50, 100 + i);
	}
	for (ins = 0; ins <= 64; ins += ins < 8 ? 1 : 7) {
		for (outs = 0; ins + outs <= 64; outs += outs < 8 ? 1 : 7) {
			bool with = ins + outs < 64 && (ins + outs) % 2;

			task = vine_task_issue(accels[0], proc, with ? args : NULL, ins, in, outs,
					       out);
			EXPECT(vine_task_wait(task) == task_completed);
			vine_task_free(task);
			if (outs > 1)
				EXPECT(*(uint8_t *)vine_data_deref(out[1]) == 1);
		}
	}
	/* the first output is seen through AccelOnly by being an input */
	task = vine_task_issue(accels[0], proc, args, 1, in, 2, out + 1);
	EXPECT(vine_task_wait(task) == task_completed);
	EXPECT(*(uint8_t *)vine_data_deref(out[1]) == 8);	/* made of args, not of in[0] */
	vine_task_free(task);
	for (i = 0; i < TALK_BUFFERS; i++) {
		vine_data_free(in[i]);
		vine_data_free(out[i]);
	}
	vine_data_free(args);
	vine_proc_put(proc);
	end();
}

#define JOBS	40

static vine_proc *shared_proc;
static atomic_uint wrong;

static void *stress(void *arg)
{
	unsigned int i, n, rounds = SCALED(20);
	struct job jobs[JOBS];
	uint8_t byte = (uintptr_t)arg;

	for (i = 0; i < JOBS; i++)
		wrong += !job_new(&jobs[i], 1 + i * 50);
	for (n = 0; n < rounds; n++) {
		for (i = 0; i < JOBS; i++)
			wrong += !job_issue(&jobs[i], accels[i % 4], shared_proc, byte++);
		for (i = 0; i < JOBS; i++)
			while (i % 3 == 0 && vine_task_stat(jobs[i].task, NULL) == task_issued)
				sched_yield();
		for (i = 0; i < JOBS; i++)
			wrong += !job_wait(&jobs[i]);
	}
	for (i = 0; i < JOBS; i++)
		job_free(&jobs[i]);
	return NULL;
}

static void run_threads(unsigned int n, void *(*run)(void *))
{
	pthread_t t[16];
	uintptr_t i;

	for (i = 0; i < n; i++)
		EXPECT(!pthread_create(&t[i], NULL, run, (void *)i));
	for (i = 0; i < n; i++)
		pthread_join(t[i], NULL);
}

static void threads(void)
{
	if (!begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	wrong = 0;
	run_threads(8, stress);
	EXPECT(!wrong);
	EXPECT(actor.accepted == 9);			/* a queue per thread */
	EXPECT(EVENTUALLY(actor.queues == 1));		/* closed at their ends */
	EXPECT(actor.tasks == 8 * JOBS * SCALED(20));	/* none twice, none lost */
	EXPECT(actor.registered == 1);
	vine_proc_put(shared_proc);
	EXPECT(EVENTUALLY(!actor.procedures));
	end();
}

/* ---- signals ---- */

static atomic_uint ticks;

static void tick(int sig)
{
	(void)sig;
	ticks++;
}

static void signals(void)
{
	struct sigaction action = { .sa_handler = tick };	/* no SA_RESTART */
	struct itimerspec often = { { 0, 200000 }, { 0, 200000 } };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	timer_t timer;

	if (!begin())
		return;
	sigaction(SIGUSR1, &action, NULL);
	CHECK(!timer_create(CLOCK_MONOTONIC, &event, &timer));
	timer_settime(timer, 0, &often, NULL);
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	wrong = 0;
	run_threads(4, stress);
	timer_delete(timer);
	EXPECT(!wrong);
	EXPECT(ticks > 10);
	EXPECT(actor.tasks == 4 * JOBS * SCALED(20));
	vine_proc_put(shared_proc);
	end();
}

/* ---- waiting ---- */

static struct job *waited_for;
static atomic_uint waiting, woken;

static void *wait_for_one(void *arg)
{
	struct job *j = &waited_for[(uintptr_t)arg];

	waiting++;
	wrong += vine_task_wait(j->task) != task_completed || !job_right(j);
	woken++;
	return NULL;
}

/* Tasks of one thread, each waited for by another one, all on one queue. */
static void any_thread_waits(void)
{
	struct job jobs[12];
	pthread_t t[12];
	uintptr_t i;

	if (!begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	actor.hold = true;
	wrong = waiting = woken = 0;
	waited_for = jobs;
	for (i = 0; i < 12; i++) {
		EXPECT(job_new(&jobs[i], 100));
		EXPECT(job_issue(&jobs[i], accels[0], shared_proc, i));
		EXPECT(vine_task_stat(jobs[i].task, NULL) == task_issued);
	}
	for (i = 0; i < 12; i++)
		pthread_create(&t[i], NULL, wait_for_one, (void *)(11 - i));
	EXPECT(EVENTUALLY(waiting == 12));
	EXPECT(!woken);
	actor.hold = false;
	for (i = 0; i < 12; i++)
		pthread_join(t[i], NULL);
	EXPECT(!wrong && woken == 12);
	for (i = 0; i < 12; i++) {
		EXPECT(job_wait(&jobs[i]));
		job_free(&jobs[i]);
	}
	vine_proc_put(shared_proc);
	end();
}

static atomic_uint issued;

/* Until the issuing thread gets on no more: the rings are full, or too many in flight. */
static void wait_until_stuck(void)
{
	unsigned int before;

	EXPECT(EVENTUALLY(actor.accepted == 2));
	do {
		before = issued;
		for (int i = 0; i < 40; i++)
			nap();
	} while (before != issued);
}

static void *let_go(void *arg)
{
	wait_until_stuck();
	EXPECT(actor.tasks <= 1 + 512);		/* one before; and what may be in flight */
	if (arg)
		actor.trick_at = actor.sent;	/* dies at the next message */
	actor.deaf = false;
	actor.hold = false;
	return NULL;
}

/*
 * More tasks than there is room for: the issue waits, and goes on. @deaf: the appliance takes
 * nothing; else it does nothing. @waits: another thread waits for the first one, and pulls.
 * @dies: the appliance dies then.
 */
static void issue_many(bool deaf, bool waits, bool dies)
{
	static struct job jobs[700];
	pthread_t t, w;
	unsigned int i;

	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	for (i = 0; i < 700; i++)
		EXPECT(job_new(&jobs[i], 10));
	EXPECT(job_issue(&jobs[0], accels[0], shared_proc, 0) && job_wait(&jobs[0]));
	issued = wrong = 0;
	actor.trick = DIE;
	actor.deaf = deaf;
	actor.hold = !deaf;
	pthread_create(&t, NULL, let_go, dies ? &jobs : NULL);
	waited_for = jobs;
	EXPECT(job_issue(&jobs[0], accels[0], shared_proc, 5));
	if (waits)
		pthread_create(&w, NULL, wait_for_one, (void *)0);
	for (i = 1; i < 700; i++) {
		EXPECT(job_issue(&jobs[i], accels[0], shared_proc, i) || dies);
		issued++;
	}
	pthread_join(t, NULL);
	if (waits)
		pthread_join(w, NULL);
	EXPECT(dies || !wrong);
	for (i = 0; i < 700; i++) {
		EXPECT((jobs[i].task && job_wait(&jobs[i])) || dies);
		job_free(&jobs[i]);
	}
	vine_proc_put(shared_proc);
}

static void full(void)
{
	int how;

	for (how = 0; how < 8; how++) {
		if (!begin())
			return;
		issue_many(how & 1, how & 2, how & 4);
		end();
	}
}

/*
 * The linker gives the library this in place of the real one: so a thread stops between taking
 * a completion and saying so.
 */
void __real_talk_task_done(struct talk_task_obj *task, vine_task_reason_e reason, int detail);
void __wrap_talk_task_done(struct talk_task_obj *task, vine_task_reason_e reason, int detail);

static atomic_bool stop_before_done, stopped;

void __wrap_talk_task_done(struct talk_task_obj *task, vine_task_reason_e reason, int detail)
{
	if (stop_before_done) {
		stopped = true;
		EXPECT(EVENTUALLY(!stop_before_done));
	}
	__real_talk_task_done(task, reason, detail);
}

static void *look(void *task)
{
	while (vine_task_stat(task, NULL) == task_issued && !stopped)
		sched_yield();
	return NULL;
}

static atomic_int waiter;

static void *wait_for(void *task)
{
	waiter = gettid();
	wrong += vine_task_wait(task) != task_completed;
	return NULL;
}

/* One thread has the completion already, when another one begins to wait for it. */
static void almost_done(void)
{
	struct job j;
	pthread_t t[2];

	if (!begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	EXPECT(job_new(&j, 10));
	wrong = 0;
	stopped = false;
	stop_before_done = true;
	EXPECT(job_issue(&j, accels[0], shared_proc, 1));
	pthread_create(&t[0], NULL, look, j.task);
	EXPECT(EVENTUALLY(stopped));
	waiter = 0;
	pthread_create(&t[1], NULL, wait_for, j.task);
	EXPECT(EVENTUALLY(waiter));
	subject_sleeps(waiter);
	stop_before_done = false;
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	EXPECT(!wrong && job_wait(&j));
	job_free(&j);
	vine_proc_put(shared_proc);
	end();
}

/* ---- lives of threads ---- */

static struct job left[4];

static void *issue_and_leave(void *arg)
{
	unsigned int i = (uintptr_t)arg;

	EXPECT(job_issue(&left[i], accels[0], shared_proc, i));
	return NULL;
}

static void orphans(void)
{
	unsigned int i;

	if (!begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	for (i = 0; i < 4; i++)
		EXPECT(job_new(&left[i], 100));
	actor.hold = true;
	for (i = 0; i < 3; i++) {	/* one after the other */
		pthread_t t;

		pthread_create(&t, NULL, issue_and_leave, (void *)(uintptr_t)i);
		pthread_join(t, NULL);
	}
	/* each adopted the one before it */
	EXPECT(EVENTUALLY(actor.tasks == 3));
	EXPECT(actor.accepted == 2 && actor.queues == 2);
	actor.hold = false;
	EXPECT(job_wait(&left[1]));
	EXPECT(job_wait(&left[0]));
	EXPECT(job_wait(&left[2]));
	/* whoever took the last one has closed it */
	EXPECT(EVENTUALLY(actor.queues == 1));
	/* nothing in flight: closed at the thread's end */
	EXPECT(job_issue(&left[3], accels[0], shared_proc, 9) && job_wait(&left[3]));
	EXPECT(actor.accepted == 3);
	for (i = 0; i < 4; i++)
		job_free(&left[i]);
	vine_proc_put(shared_proc);
	end();
}

static pthread_barrier_t all_issued;

static void *issue_and_forget(void *arg)
{
	vine_data *d = vine_data_alloc(100, Both);
	vine_task *t = vine_task_issue(accels[0], shared_proc, NULL, 0, NULL, 1, &d);

	EXPECT(t);
	vine_data_free(d);
	vine_task_free(t);
	pthread_barrier_wait(&all_issued);
	return arg;
}

/* So many tasks have come, and their DONEs have been pushed. */
static void actor_did(unsigned int tasks)
{
	unsigned int rounds;

	EXPECT(EVENTUALLY(actor.tasks == tasks));
	rounds = actor.rounds;
	EXPECT(EVENTUALLY(actor.rounds - rounds > 2));
}

static void forget_six(void)
{
	unsigned int tasks = actor.tasks;
	pthread_t t[6];
	int i;

	pthread_barrier_init(&all_issued, NULL, 6);
	for (i = 0; i < 6; i++)
		pthread_create(&t[i], NULL, issue_and_forget, NULL);
	for (i = 0; i < 6; i++)
		pthread_join(t[i], NULL);
	pthread_barrier_destroy(&all_issued);
	actor_did(tasks + 6);
}

/* Nobody waits for their tasks: whoever looks around, or needs a queue, does away with theirs. */
static void forgotten(void)
{
	struct job j;

	if (!begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	forget_six();
	EXPECT(vine_accel_list(ANY, NULL) == 4);
	EXPECT(EVENTUALLY(actor.queues == 1));	/* control */
	forget_six();
	EXPECT(job_new(&j, 100) && job_issue(&j, accels[0], shared_proc, 1));
	EXPECT(EVENTUALLY(actor.queues == 2));	/* control, and ours */
	EXPECT(job_wait(&j));
	job_free(&j);
	vine_proc_put(shared_proc);
	end();
}

/* Nor is memory kept by them: this thread has a queue already, but needs their room. */
static void forgotten_buffers(void)
{
	vine_data *d[200];
	size_t size = 1 << 29;
	vine_task *task;
	int n = 0, quiet;

	if (!begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	quiet = mute();
	while (!(d[0] = vine_data_alloc(size, Both)))
		size /= 2;
	while (d[n] && n < 199)
		d[++n] = vine_data_alloc(size, Both);
	unmute(quiet);
	EXPECT(!d[n]);
	task = vine_task_issue(accels[0], shared_proc, NULL, 1, d, 0, NULL);
	EXPECT(task);
	vine_task_free(task);
	vine_data_free(d[0]);
	actor_did(1);
	d[0] = vine_data_alloc(size, Both);
	EXPECT(d[0]);
	while (n)
		vine_data_free(d[--n]);
	vine_proc_put(shared_proc);
	end();
}

/* ---- the appliance dies ---- */

static void *issue_until_lost(void *arg)
{
	struct job jobs[JOBS];
	unsigned int i, n;
	vine_task_stats_s stats;

	(void)arg;
	for (i = 0; i < JOBS; i++)
		wrong += !job_new(&jobs[i], 100);
	for (n = 0; n < JOBS; n++)
		if (!job_issue(&jobs[n], accels[n % 4], shared_proc, n))
			break;
	for (i = 0; i < n; i++) {
		vine_task_wait(jobs[i].task);
		if (vine_task_stat(jobs[i].task, &stats) == task_failed) {
			wrong += stats.reason != vine_reason_lost;
			woken++;
		}
		vine_task_free(jobs[i].task);
	}
	for (i = 0; i < JOBS; i++)
		job_free(&jobs[i]);
	return NULL;
}

static void dies(void)
{
	vine_accel **others;
	vine_proc *got;
	struct job j;
	unsigned int fds, both = queue_fds();
	int n;

	if (!begin())
		return;
	fds = count_descriptors(NULL);
	shared_proc = vine_proc_register(CPU, "p", "p", 1);
	got = vine_proc_get(CPU, "got");
	wrong = woken = 0;
	actor.trick = DIE;
	actor.trick_at = actor.sent + 100;	/* with a lot in flight, of all threads */
	run_threads(6, issue_until_lost);
	EXPECT(!wrong && woken > 0);
	EXPECT(vine_accel_stat(accels[0], NULL) == accel_failed);
	EXPECT(vine_accel_type(accels[1]) == GPU);	/* handles stay what they are */
	EXPECT(vine_accel_list(ANY, NULL) == 0);
	EXPECT(!vine_task_issue(accels[0], shared_proc, NULL, 0, NULL, 0, NULL));
	actor_stop(&actor);
	EXPECT(!actor.violations);

	/* it comes back: a new session; the procedure is registered there when it is used */
	memset(&actor, 0, sizeof(actor));
	actor.accels = 2;
	actor.trick_at = -1;
	actor_start(&actor);
	n = vine_accel_list(ANY, &others);
	EXPECT(n == 2 && others[0] != accels[0]);
	EXPECT(vine_accel_stat(accels[0], NULL) == accel_failed);
	EXPECT(!actor.registered);
	EXPECT(job_new(&j, 1000) && job_issue(&j, others[0], shared_proc, 3) && job_wait(&j));
	EXPECT(actor.registered == 1);
	EXPECT(job_issue(&j, others[0], got, 3) && job_wait(&j));	/* this one is looked up */
	EXPECT(actor.registered == 1 && actor.procedures == 2);
	job_free(&j);
	free(others);
	vine_proc_put(shared_proc);
	vine_proc_put(got);
	EXPECT(count_descriptors(NULL) <= fds + both + 1);	/* both ends of a task queue, a region */
	end();
}

/* Memory that a lost task may write to is not used again. */
static void lost_memory(void)
{
	struct job a, b;
	vine_data *c;

	if (!begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	EXPECT(job_new(&a, 100) && job_new(&b, 100));
	actor.trick = CLOSE;
	actor.trick_at = actor.sent + 2;	/* the answer, after WELCOME and HOST */
	EXPECT(job_issue(&a, accels[0], shared_proc, 1));
	EXPECT(vine_task_wait(a.task) == task_failed);
	vine_task_free(a.task);
	job_free(&a);
	c = vine_data_alloc(100, Both);
	EXPECT((char *)vine_data_deref(c) > (char *)vine_data_deref(b.in) + (1 << 20) ||
	       (char *)vine_data_deref(c) < (char *)vine_data_deref(b.in) - (1 << 20));
	vine_data_free(c);
	/* the session goes on, on another queue */
	EXPECT(job_issue(&b, accels[0], shared_proc, 1) && job_wait(&b));
	EXPECT(actor.accepted == 3);
	job_free(&b);
	EXPECT(vine_accel_stat(accels[0], NULL) == accel_idle);
	vine_proc_put(shared_proc);
	end();
}

/* ---- it misbehaves ---- */

/* A task in flight, and meanwhile the session is given up. */
static void does_not_answer_tasks_lost(void)
{
	vine_task_stats_s stats;
	unsigned int rounds;
	struct job j;
	pthread_t t;

	if (!begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	EXPECT(job_new(&j, 100));
	actor.hold = true;
	EXPECT(job_issue(&j, accels[0], shared_proc, 1));
	EXPECT(EVENTUALLY(actor.tasks == 1));
	waited_for = &j;
	waiting = woken = wrong = 0;
	pthread_create(&t, NULL, wait_for_one, NULL);
	EXPECT(EVENTUALLY(waiting == 1));
	actor.deaf = true;
	rounds = actor.rounds;
	EXPECT(EVENTUALLY(actor.rounds - rounds > 2));
	device_patience_ms = 200;
	EXPECT(vine_accel_stat(accels[1], NULL) == accel_failed);
	device_patience_ms = 10000;
	pthread_join(t, NULL);
	EXPECT(vine_task_stat(j.task, &stats) == task_failed && stats.reason == vine_reason_lost);
	vine_task_free(j.task);
	job_free(&j);
	vine_proc_put(shared_proc);
	actor.deaf = false;
	EXPECT(EVENTUALLY(vine_accel_list(ANY, NULL) == 4));	/* a new session */
	end();
}

/*
 * The linker gives the library this in place of the real one: so a session is given up while a
 * thread makes its queue.
 */
int __real_fcntl(int fd, int command, long arg);
int __wrap_fcntl(int fd, int command, long arg);

static struct appliance *given_up;	/* by then; NULL: goes on */

static void *give_up(void *arg)
{
	waiter = gettid();
	EXPECT(vine_accel_stat(accels[0], NULL) == accel_failed);
	return arg;
}

int __wrap_fcntl(int fd, int command, long arg)
{
	static pthread_t t;

	if (command == F_SETFL && !(arg & O_NONBLOCK) && given_up) {
		pthread_create(&t, NULL, give_up, NULL);
		EXPECT(EVENTUALLY(given_up->lost));
		subject_sleeps(waiter);		/* or has ended */
		given_up = NULL;
		EXPECT(__real_fcntl(fd, F_GETFD, 0) >= 0);
		pthread_detach(t);
	}
	return __real_fcntl(fd, command, arg);
}

static void given_up_meanwhile(void)
{
	struct device_accel *accel;
	vine_task *task;

	if (!begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	accel = handle_get(HANDLE_ACCEL, accels[0]);
	given_up = accel->appliance;
	handle_put(&accel->obj.h);
	actor.trick = A;
	actor.trick_at = actor.sent;
	/* the other thread may have said that it is lost, and come no further: then all is well */
	task = vine_task_issue(accels[0], shared_proc, NULL, 0, NULL, 0, NULL);
	EXPECT(!task || vine_task_wait(task) != task_issued);
	vine_task_free(task);
	vine_proc_put(shared_proc);
	end();
}

/* It is tried again, but not at once. */
static void tried_again(void)
{
	int quiet = mute();

	memset(&actor, 0, sizeof(actor));
	actor.accels = 5000;		/* more than it can have */
	actor.trick_at = -1;
	actor_start(&actor);
	vine_talk_backend("device");
	vine_talk_init();
	EXPECT(vine_accel_list(ANY, NULL) == 0 && actor.accepted == 1);
	EXPECT(vine_accel_list(ANY, NULL) == 0 && actor.accepted == 1);
	vine_talk_exit();
	vine_talk_init();
	device_patience_ms = 100;
	EXPECT(EVENTUALLY(vine_accel_list(ANY, NULL) == 0 && actor.accepted >= 4));
	actor.accels = 4;
	EXPECT(EVENTUALLY((accel_count = vine_accel_list(ANY, NULL)) == 4));
	device_patience_ms = 10000;
	unmute(quiet);
	end();
}

/* Nonsense, or the end, before it has said what it has: that, too, is not tried again at once. */
static void greeting_fails(void)
{
	/* WELCOME; the second ACCEL */
	static const struct { enum actor_trick trick; int at; } plays[] = {
		{ CLOSE, 0 }, { A, 3 }, { CLOSE, 3 },
	};
	unsigned int i;

	for (i = 0; i < 3; i++) {
		memset(&actor, 0, sizeof(actor));
		actor.accels = 4;
		actor.trick = plays[i].trick;
		actor.trick_at = plays[i].at;
		actor_start(&actor);
		vine_talk_backend("device");
		vine_talk_init();
		EXPECT(vine_accel_list(ANY, NULL) == 0 && actor.accepted == 1);
		EXPECT(EVENTUALLY(!actor.queues));
		EXPECT(vine_accel_list(ANY, NULL) == 0 && actor.accepted == 1);
		end();
	}
}

/* Each answer in time, but all of them together not. */
static void greeting_takes_long(void)
{
	memset(&actor, 0, sizeof(actor));
	actor.accels = 40;
	actor.slow_ms = 50;
	actor.trick_at = -1;
	actor_start(&actor);
	vine_talk_backend("device");
	vine_talk_init();
	device_patience_ms = 400;
	EXPECT(vine_accel_list(ANY, NULL) == 0);
	device_patience_ms = 10000;
	end();
}

/* An appliance in a process of its own. */
static pid_t second_actor(void)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC))
		return -1;
	pid = fork();
	if (!pid) {
		memset(&actor, 0, sizeof(actor));
		actor.name = "second";
		actor.accels = 1;
		actor.trick_at = -1;
		actor_start(&actor);
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	EXPECT(read(ready[0], &byte, 1) == 1);
	close(ready[0]);
	return pid;
}

static void two_appliances(void)
{
	struct job here, there;
	pid_t pid = second_actor();
	vine_accel *second = NULL;
	int i, n;

	memset(&actor, 0, sizeof(actor));
	actor.accels = 4;
	actor.trick_at = -1;
	actor_start(&actor);
	vine_talk_backend("device");
	vine_talk_init();
	n = vine_accel_list(ANY, &accels);
	EXPECT(n == 5);
	for (i = 0; i < n; i++)
		if (!strcmp(vine_accel_location(accels[i]).appliance, "second"))
			second = accels[i];
	EXPECT(second);
	if (second == accels[0])	/* @accels[0] is to be one of the actor's */
		accels[0] = accels[1];
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	EXPECT(job_new(&here, 100) && job_new(&there, 100));
	for (i = 0; i < 20; i++) {	/* one thread, a queue to each */
		EXPECT(job_issue(&here, accels[0], shared_proc, i));
		EXPECT(job_issue(&there, second, shared_proc, i));
		EXPECT(job_wait(&there) && job_wait(&here));
	}
	EXPECT(actor.accepted == 2 && actor.tasks == 20);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	EXPECT(vine_accel_stat(second, NULL) == accel_failed);
	EXPECT(vine_accel_list(ANY, NULL) == 4);
	EXPECT(job_issue(&here, accels[0], shared_proc, i) && job_wait(&here));
	job_free(&here);
	job_free(&there);
	vine_proc_put(shared_proc);
	end();
}

/* Two appliances. The second one, alone in @silent, has a CPU, and does not answer any more. */
static pid_t silent_pid;
static vine_accel *silent;
static atomic_bool told;

static bool begin_silent(void)
{
	int i;

	silent_pid = second_actor();
	if (!begin_with(5)) {
		kill(silent_pid, SIGKILL);
		waitpid(silent_pid, NULL, 0);
		return false;
	}
	for (i = 0; i < 5; i++)
		if (!strcmp(vine_accel_location(accels[i]).appliance, "second"))
			silent = accels[i];
	if (silent == accels[0])
		accels[0] = accels[1];
	device_patience_ms = 60000;
	wrong = waiter = 0;
	told = false;
	return true;
}

static void fall_silent(void)
{
	int status;

	kill(silent_pid, SIGSTOP);
	waitpid(silent_pid, &status, WUNTRACED);
}

/* @t asks it something. It answers. */
static void speak(pthread_t t)
{
	EXPECT(!told);
	kill(silent_pid, SIGCONT);
	pthread_join(t, NULL);
	EXPECT(!wrong);
}

static void end_silent(void)
{
	device_patience_ms = 10000;
	kill(silent_pid, SIGKILL);
	waitpid(silent_pid, NULL, 0);
	end();
}

/* It was never told of @shared_proc. */
static void *issue_to_silent(void *arg)
{
	vine_task *task;

	waiter = gettid();
	task = vine_task_issue(silent, shared_proc, NULL, 0, NULL, 0, NULL);
	told = true;
	wrong += vine_task_wait(task) != task_completed;
	vine_task_free(task);
	return arg;
}

/* A procedure is used on one appliance while another one is told of it, and says nothing. */
static void silent_appliance(void)
{
	struct job j;
	pthread_t t;

	if (!begin_silent())
		return;
	shared_proc = vine_proc_register(GPU, "p", "p", 1);	/* the other one has none */
	EXPECT(job_new(&j, 100));
	fall_silent();
	pthread_create(&t, NULL, issue_to_silent, NULL);
	EXPECT(EVENTUALLY(waiter));
	subject_sleeps(waiter);
	EXPECT(job_issue(&j, accels[0], shared_proc, 1) && job_wait(&j));
	speak(t);
	EXPECT(actor.registered == 1);
	job_free(&j);
	vine_proc_put(shared_proc);
	end_silent();
}

static void *register_with_silent(void *arg)
{
	vine_proc *p;

	waiter = gettid();
	p = vine_proc_register(CPU, "q", "q", 1);
	told = true;
	wrong += !p || !vine_proc_put(p);
	return arg;
}

/* While a thread waits for it, those that need nothing of it get on with theirs. */
static void silent_procedures(void)
{
	vine_proc *known, *got, *other;
	pthread_t t;

	if (!begin_silent())
		return;
	known = vine_proc_register(CPU, "known", "k", 1);
	got = vine_proc_get(CPU, "got");
	EXPECT(known && got);
	fall_silent();
	pthread_create(&t, NULL, register_with_silent, NULL);
	EXPECT(EVENTUALLY(waiter));
	subject_sleeps(waiter);
	EXPECT(vine_proc_register(CPU, "known", "k", 1) == known);
	EXPECT(!vine_proc_register(CPU, "known", "kk", 2));
	EXPECT(vine_proc_get(CPU, "known") == known && vine_proc_get(CPU, "got") == got);
	other = vine_proc_register(GPU, "other", "o", 1);	/* it has none */
	EXPECT(other && vine_proc_get(GPU, "got"));
	EXPECT(vine_proc_put(known) && vine_proc_put(known) && vine_proc_put(known));
	EXPECT(vine_proc_put(got) && vine_proc_put(other));
	speak(t);
	end_silent();
}

static void refused(void)
{
	if (!begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	actor.trick = A;
	actor.trick_at = actor.sent;	/* WELCOME of a task queue: 0x77 */
	EXPECT(!vine_task_issue(accels[0], shared_proc, NULL, 0, NULL, 0, NULL));
	EXPECT(vine_accel_stat(accels[0], NULL) == accel_failed);
	vine_proc_put(shared_proc);
	end();
}

/* ---- procedures ---- */

static void procedures(void)
{
	vine_proc *a, *b, *c;
	struct job j;

	if (!begin())
		return;
	a = vine_proc_register(CPU, "same", "s1", 2);
	EXPECT(a && actor.registered == 1);	/* at once */
	b = vine_proc_register(CPU, "same", "s1", 2);
	EXPECT(b == a && actor.registered == 1);
	EXPECT(!vine_proc_register(CPU, "same", "s2", 2));
	EXPECT(!vine_proc_register(CPU, "same", "s", 1));
	EXPECT(vine_proc_get(CPU, "same") == a);
	c = vine_proc_register(GPU, "same", "s2", 2);	/* of another type: another one */
	EXPECT(c && c != a && actor.procedures == 2);
	EXPECT(vine_proc_put(a) && vine_proc_put(a));
	EXPECT(vine_proc_get(CPU, "same") == a);
	EXPECT(vine_proc_put(a) && vine_proc_put(a));
	EXPECT(!vine_proc_put(a));			/* that was the last one */
	EXPECT(EVENTUALLY(actor.procedures == 1));
	EXPECT(vine_proc_put(c));
	EXPECT(EVENTUALLY(actor.procedures == 0));

	EXPECT(!vine_proc_get(ANY, "none") && !vine_proc_get(GPU_SOFT, "any"));
	EXPECT(!vine_proc_register(CPU, "large", "l", 1));
	EXPECT(!vine_proc_register(GPU_SOFT, "large", "l", 1) == 0);	/* nobody to ask */
	a = vine_proc_register(CPU, "typeless", "t", 1);
	EXPECT(a);

	/* got, then registered: one reference there */
	b = vine_proc_get(CPU, "known");
	EXPECT(b && actor.procedures == 1);
	EXPECT(vine_proc_register(CPU, "known", "k", 1) == b);
	EXPECT(EVENTUALLY(actor.procedures == 1));
	EXPECT(!vine_proc_register(CPU, "known", "kk", 2));
	EXPECT(vine_proc_put(b) && vine_proc_put(b));
	EXPECT(EVENTUALLY(!actor.procedures));

	/* no bytes; of a size that needs a region of its own */
	c = vine_proc_register(CPU, "zero", NULL, 0);
	EXPECT(c && vine_proc_register(CPU, "zero", NULL, 0) == c);
	EXPECT(vine_proc_put(c) && vine_proc_put(c));

	/* a task keeps it */
	c = vine_proc_register(CPU, "p", "p", 1);
	EXPECT(EVENTUALLY(actor.procedures == 1));
	actor.hold = true;
	EXPECT(job_new(&j, 10) && job_issue(&j, accels[0], c, 1));
	EXPECT(vine_proc_put(c));
	EXPECT(EVENTUALLY(actor.tasks == 1));
	EXPECT(actor.procedures == 1);
	actor.hold = false;
	EXPECT(job_wait(&j));
	EXPECT(EVENTUALLY(!actor.procedures));

	/* "typeless" was refused there: the task says so */
	{
		vine_task *t = vine_task_issue(accels[0], a, NULL, 0, NULL, 0, NULL);
		vine_task_stats_s stats;

		EXPECT(vine_task_stat(t, &stats) == task_failed &&
		       stats.reason == vine_reason_no_procedure);
		vine_task_free(t);
	}
	job_free(&j);
	vine_proc_put(a);
	end();
}

/* All at once, with one of two bytes: either all of some bytes have the same one, or none. */
#define AT_ONCE	8

static pthread_barrier_t at_once;
static vine_proc *answers[AT_ONCE];

static void *register_at_once(void *arg)
{
	uintptr_t i = (uintptr_t)arg;
	unsigned int n;

	for (n = 0; n < SCALED(300); n++) {
		pthread_barrier_wait(&at_once);
		answers[i] = i == AT_ONCE - 1 ? vine_proc_get(CPU, "p") :
				vine_proc_register(CPU, "p", i % 2 ? "p1" : "p2", 2);
		pthread_barrier_wait(&at_once);
		wrong += !answers[0] == !answers[1];
		if (i < AT_ONCE - 1)
			wrong += answers[i] != answers[i % 2];
		else
			wrong += answers[i] != answers[!answers[0]];
		pthread_barrier_wait(&at_once);
		wrong += answers[i] && !vine_proc_put(answers[i]);
	}
	return NULL;
}

static void procedures_at_once(void)
{
	if (!begin())
		return;
	wrong = 0;
	pthread_barrier_init(&at_once, NULL, AT_ONCE);
	run_threads(AT_ONCE, register_at_once);
	pthread_barrier_destroy(&at_once);
	EXPECT(!wrong);
	EXPECT(EVENTUALLY(!actor.procedures));	/* nothing of those that were refused is left */
	end();
}

/* Nobody takes them at the moment: they are told with what comes next. */
static void many_puts(void)
{
	static vine_proc *procs[200];
	unsigned int i, rounds;
	char name[8];

	if (!begin())
		return;
	for (i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "p%u", i);
		procs[i] = vine_proc_register(ANY, name, "p", 1);
	}
	EXPECT(actor.procedures == 200);
	actor.deaf = true;
	rounds = actor.rounds;
	EXPECT(EVENTUALLY(actor.rounds - rounds > 2));
	for (i = 0; i < 200; i++)
		EXPECT(vine_proc_put(procs[i]));
	EXPECT(actor.procedures > 100);
	actor.deaf = false;
	EXPECT(vine_accel_stat(accels[0], NULL) == accel_idle);
	EXPECT(!actor.procedures);
	end();
}

static void other_bytes(void)
{
	if (!begin())
		return;
	actor.no_register = true;
	EXPECT(!vine_proc_register(CPU, "p", "p", 1));
	EXPECT(vine_proc_register(GPU_SOFT, "p", "p", 1));	/* none of that type there */
	end();
}

/* ---- accelerators held ---- */

static void exclusive(void)
{
	vine_accel *virtual, *second;
	struct job j;

	if (!begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	virtual = second = accels[0];
	EXPECT(vine_accel_acquire(&virtual) && virtual != accels[0] && actor.held == 1);
	EXPECT(!vine_accel_acquire(&second) && second == accels[0]);
	second = virtual;
	EXPECT(!vine_accel_acquire(&second));
	EXPECT(vine_accel_type(virtual) == CPU && vine_accel_stat(virtual, NULL) == accel_busy);
	EXPECT(!strcmp(vine_accel_location(virtual).name, "actor0"));
	EXPECT(job_new(&j, 10) && job_issue(&j, virtual, shared_proc, 1) && job_wait(&j));
	EXPECT(!vine_accel_release(&second) == 0 && !second);
	EXPECT(!actor.held);
	EXPECT(vine_accel_stat(virtual, NULL) == accel_failed);		/* stale */
	job_free(&j);

	virtual = accels[0];
	EXPECT(vine_accel_acquire(&virtual));
	actor.trick = DIE;
	actor.trick_at = actor.sent;
	EXPECT(vine_accel_stat(virtual, NULL) == accel_failed);
	EXPECT(vine_accel_release(&virtual) && !virtual);	/* what is gone is released */
	vine_proc_put(shared_proc);
	end();
}

/* ---- tasks ---- */

static void reasons(void)
{
	vine_task_stats_s stats;
	struct job j;
	int reason;

	if (!begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	EXPECT(job_new(&j, 61));
	for (reason = 0; reason < VINE_TASK_REASONS; reason++) {
		actor.reason = reason;
		actor.detail = -reason;
		EXPECT(job_issue(&j, accels[0], shared_proc, 1));
		EXPECT(vine_task_wait(j.task) == (reason ? task_failed : task_completed));
		vine_task_stat(j.task, &stats);
		EXPECT((int)stats.reason == reason && stats.detail == -reason);
		vine_task_free(j.task);
	}
	/* a task wrote into a redzone, above: the next one finds it whole */
	EXPECT(!actor.violations);
	job_free(&j);
	vine_proc_put(shared_proc);
	end();
}

static void times(void)
{
	static const int64_t offsets[] = { 0, 3600000000000, -1000000000 };
	bool two_peers = on_endpoint();
	vine_task_stats_s stats;
	struct job j;
	unsigned int i, n;
	uint64_t done;

	for (i = 0; i < 3; i++) {
		memset(&actor, 0, sizeof(actor));
		actor.accels = 1;
		actor.trick_at = -1;
		actor.offset = offsets[i];
		actor_start(&actor);
		vine_talk_backend("device");
		vine_talk_init();
		accel_count = vine_accel_list(ANY, &accels);
		CHECK(accel_count == 1);
		shared_proc = vine_proc_register(ANY, "p", "p", 1);
		EXPECT(job_new(&j, 10));
		for (n = 0; n < 20; n++) {
			EXPECT(job_issue(&j, accels[0], shared_proc, n));
			EXPECT(vine_task_wait(j.task) == task_completed);
			done = talk_now();
			vine_task_stat(j.task, &stats);
			EXPECT(stats.issue_ns <= stats.start_ns && stats.start_ns <= stats.end_ns &&
			       stats.end_ns <= done);
			EXPECT(stats.error_ns <= done - stats.issue_ns);
			/* a peer knows no other one's clock, even if it is the same */
			EXPECT(!stats.error_ns == (!offsets[i] && !two_peers));
			vine_task_free(j.task);
		}
		job_free(&j);
		vine_proc_put(shared_proc);
		end();
	}
}

/* ---- regions ---- */

static void regions(void)
{
	struct job small, large[3];
	unsigned int i, round;

	if (!begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	EXPECT(job_new(&small, 10));
	EXPECT(job_issue(&small, accels[0], shared_proc, 1) && job_wait(&small));
	for (round = 0; round < 3; round++) {
		for (i = 0; i < 3; i++) {
			EXPECT(job_new(&large[i], (3 + i) << 20));
			EXPECT(job_issue(&large[i], accels[0], shared_proc, i));
		}
		for (i = 0; i < 3; i++) {
			EXPECT(job_wait(&large[i]));
			job_free(&large[i]);
		}
		/* on both queues the first one, here also the spare one */
		EXPECT(EVENTUALLY(actor.regions == 3));
	}
	job_free(&small);
	vine_proc_put(shared_proc);
	end();
}

/* ---- processes ---- */

/* What a child has executed counts, too. */
extern void __gcov_dump(void) __attribute__((weak));

static _Noreturn void child_ends(int status)
{
	if (__gcov_dump)
		__gcov_dump();
	_exit(status);
}

/* In the child, which is to have @fds descriptors. What is wrong. */
static int child(const struct job *j, unsigned int fds)
{
	int bad = 0, quiet = mute();

	bad |= count_descriptors(NULL) != fds + 1 ? 1 : 0;	/* one more, by mute() */
	bad |= vine_task_wait(j->task) != task_failed ? 2 : 0;
	bad |= vine_data_deref(j->in) ? 4 : 0;
	/* its own life; the parent's actor serves it as well */
	vine_talk_init();
	bad |= vine_accel_list(ANY, NULL) != 4 ? 8 : 0;
	vine_talk_exit();
	unmute(quiet);
	return bad;
}

/* What a child has of its parent's. */
static void forked(void)
{
	int status, told[2], end_of[2];
	bool endpoints = on_endpoint();
	unsigned int fds, idle = count_descriptors(NULL);
	struct job j;
	char byte;
	pid_t pid;

	if (!begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	EXPECT(job_new(&j, 10));
	actor.hold = true;
	EXPECT(job_issue(&j, accels[0], shared_proc, 1));
	EXPECT(EVENTUALLY(actor.tasks == 1));
	CHECK(!pipe2(told, O_CLOEXEC) && !pipe2(end_of, O_CLOEXEC));
	/*
	 * No device, two queues and a region. Of endpoints nothing but the actor's numbers of
	 * those, and of its listener.
	 */
	fds = endpoints ? idle + 4 + 4 : count_descriptors(NULL) - 4;
	pid = fork();
	if (!pid) {
		int bad = child(&j, fds);

		close(end_of[1]);
		bad |= write(told[1], "x", 1) != 1;
		/* lives until the parent's queues have gone */
		bad |= read(end_of[0], &byte, 1) != 0;
		child_ends(bad);
	}
	EXPECT(read(told[0], &byte, 1) == 1);
	actor.hold = false;
	EXPECT(job_wait(&j));
	job_free(&j);
	vine_proc_put(shared_proc);
	end();		/* all queues are closed, though the child lives */
	close(end_of[1]);
	EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
	close(end_of[0]);
	close(told[0]);
	close(told[1]);
}

static void *fork_often(void *arg)
{
	unsigned int i;
	int status;
	pid_t pid;

	(void)arg;
	for (i = 0; i < SCALED(100); i++) {
		pid = fork();
		if (!pid) {
			unsigned int n = 0, fd;

			/* what is left of regions, fake ones and real ones */
			for (fd = 3; fd < 200; fd++) {
				char path[64], what[64];
				ssize_t length;

				snprintf(path, sizeof(path), "/proc/self/fd/%u", fd);
				length = readlink(path, what, sizeof(what));
				n += length > 6 && (!memcmp(what, "/memfd", 6) ||
						    memmem(what, length, "vine-region", 11));
			}
			_exit(n);
		}
		waitpid(pid, &status, 0);
		wrong += status != 0;
	}
	return NULL;
}

static void *regions_come_and_go(void *arg)
{
	unsigned int i;

	(void)arg;
	for (i = 0; i < SCALED(400); i++)
		vine_data_free(vine_data_alloc((2 + i % 7) << 20, Both));
	return NULL;
}

/* While other threads make and close descriptors. */
static void forked_meanwhile(void)
{
	pthread_t t[3];
	unsigned int i;

	if (!begin())
		return;
	wrong = 0;
	pthread_create(&t[0], NULL, fork_often, NULL);
	pthread_create(&t[1], NULL, regions_come_and_go, NULL);
	pthread_create(&t[2], NULL, regions_come_and_go, NULL);
	for (i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	EXPECT(!wrong);
	end();
}

static void exit_in_flight(void)
{
	vine_task *task;
	struct job j;
	unsigned int fds = count_descriptors(NULL);
	int round;

	for (round = 0; round < 3; round++) {
		if (!begin())
			return;
		shared_proc = vine_proc_register(ANY, "p", "p", 1);
		EXPECT(job_new(&j, 10));
		actor.hold = true;
		EXPECT(job_issue(&j, accels[0], shared_proc, 1));
		task = vine_task_issue(accels[0], shared_proc, NULL, 1, &j.in, 0, NULL);
		vine_task_free(task);		/* and nobody knows it any more */
		vine_data_free(j.in);
		end();
		EXPECT(vine_task_wait(j.task) == task_failed);	/* stale */
		EXPECT(count_descriptors(NULL) == fds);
	}
}

/* ---- the machine ---- */

static void taken_for_dead(void)
{
	vine_task_stats_s stats;
	struct job j;

	if (!&fake_vine_error || !begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	EXPECT(job_new(&j, 100));
	actor.hold = true;
	EXPECT(job_issue(&j, accels[0], shared_proc, 1));
	EXPECT(EVENTUALLY(actor.tasks == 1));
	fake_vine_error = ENOTCONN;
	EXPECT(vine_task_wait(j.task) == task_failed);
	vine_task_stat(j.task, &stats);
	EXPECT(stats.reason == vine_reason_lost);
	vine_task_free(j.task);
	EXPECT(vine_accel_stat(accels[0], NULL) == accel_failed);
	EXPECT(vine_accel_list(ANY, NULL) == 0);
	EXPECT(!vine_task_issue(accels[0], shared_proc, NULL, 0, NULL, 0, NULL));
	fake_vine_error = 0;
	job_free(&j);
	vine_proc_put(shared_proc);
	actor_stop(&actor);
	memset(&actor, 0, sizeof(actor));
	actor.accels = 4;
	actor.trick_at = -1;
	actor_start(&actor);
	free(accels);
	EXPECT(vine_accel_list(ANY, &accels) == 4);
	end();
}

static void unplugged(void)
{
	struct job j;
	char *p;

	if (!&fake_vine_error || !begin())
		return;
	shared_proc = vine_proc_register(ANY, "p", "p", 1);
	EXPECT(job_new(&j, 100));
	actor.hold = true;
	EXPECT(job_issue(&j, accels[0], shared_proc, 1));
	EXPECT(EVENTUALLY(actor.tasks == 1));
	p = vine_data_deref(j.in);
	EXPECT(p[0] == 1);
	fake_vine_error = ENODEV;
	EXPECT(!vine_data_alloc(100 << 20, Both));
	EXPECT(vine_task_wait(j.task) == task_failed);
	EXPECT(p[0] == 0);			/* what was there is lost, and no SIGBUS */
	vine_task_free(j.task);
	actor.hold = false;
	/* looking for appliances opens the device that is there now */
	free(accels);
	EXPECT(vine_accel_list(ANY, &accels) == 4 && !fake_vine_error);
	EXPECT(!vine_task_issue(accels[0], shared_proc, NULL, 1, &j.in, 0, NULL));
	job_free(&j);
	EXPECT(job_new(&j, 100) && job_issue(&j, accels[0], shared_proc, 1) && job_wait(&j));
	job_free(&j);
	vine_proc_put(shared_proc);
	end();
}

static void no_device(void)
{
	int quiet = mute();

	setenv("VINE_DEVICE", "/nonexistent", 1);
	vine_talk_backend("device");
	vine_talk_init();
	EXPECT(vine_accel_list(ANY, NULL) == 0);
	EXPECT(!vine_data_alloc(1, Both));
	vine_talk_exit();
	setenv("VINE_DEVICE", device_path, 1);
	unmute(quiet);
}

/* The handler of a task whose thread is gone, and whose task nobody holds. */
static void no_appliance(void)
{
	vine_proc *p;
	vine_data *d;

	vine_talk_backend("device");
	vine_talk_init();
	EXPECT(vine_accel_list(ANY, &accels) == 0 && !accels);
	p = vine_proc_register(ANY, "p", "p", 1);
	EXPECT(p && vine_proc_get(ANY, "p") == p && !vine_proc_get(CPU, "p"));
	d = vine_data_alloc(1, Both);
	EXPECT(d);
	vine_talk_exit();
}

/* The procedure is known here before there is an appliance, which has no room for it. */
static void told_later(void)
{
	vine_task_stats_s stats;
	vine_task *task;

	vine_talk_backend("device");
	vine_talk_init();
	shared_proc = vine_proc_register(ANY, "large", "l", 1);
	EXPECT(shared_proc);
	if (begin()) {
		task = vine_task_issue(accels[0], shared_proc, NULL, 0, NULL, 0, NULL);
		EXPECT(vine_task_wait(task) == task_failed);
		vine_task_stat(task, &stats);
		EXPECT(stats.reason == vine_reason_no_memory);
		vine_task_free(task);
		vine_proc_put(shared_proc);
		vine_talk_exit();
	}
	end();
}

/* A service, and nobody behind it. */
static void does_not_accept(void)
{
	int device = vine_open(NULL), listener = vine_listen(device, "nobody", TALK_SERVICE, 0);
	unsigned int quiet = mute();

	CHECK(listener >= 0);
	vine_talk_backend("device");
	vine_talk_init();
	device_patience_ms = 200;
	EXPECT(vine_accel_list(ANY, NULL) == 0);
	device_patience_ms = 10000;
	vine_talk_exit();
	unmute(quiet);
	vine_close(listener);
	vine_close(device);
}

static const struct tap_test tests[] = {
	{ "accelerators: where they are, what they do, the same handle each time", accelerators },
	{ "an appliance's name has no control characters", strange_name },
	{ "a task of 0 to 64 buffers, with and without arguments", buffers },
	{ "eight threads, a queue each: every task once, every result right", threads },
	{ "signals lose and double nothing", signals },
	{ "tasks of one thread, each waited for by another", any_thread_waits },
	{ "a wait for a task that another thread is about to say is done", almost_done },
	{ "more tasks than there is room for: the issue waits", full },
	{ "a thread ends with tasks in flight: its queue is adopted, and closed at last", orphans },
	{ "threads that have ended, tasks that nobody waits for: their queues go", forgotten },
	{ "tasks that nobody waits for: their buffers are room again", forgotten_buffers },
	{ "the appliance dies: every task is lost once; it comes back as a new one", dies },
	{ "memory of a lost task's output is not used again", lost_memory },
	{ "no answer on the control queue: the tasks are lost too", does_not_answer_tasks_lost },
	{ "a session is given up while a thread makes its queue", given_up_meanwhile },
	{ "an appliance that sends nonsense is tried again, later", tried_again },
	{ "a greeting that fails half way: it is tried again, later",
	  greeting_fails },
	{ "a greeting as a whole has a time limit", greeting_takes_long },
	{ "two appliances: the other one goes on when one dies", two_appliances },
	{ "a silent appliance that is told of a procedure keeps no other one from it",
	  silent_appliance },
	{ "a silent appliance that is told of a procedure keeps nobody from theirs",
	  silent_procedures },
	{ "a task queue that is refused ends the session", refused },
	{ "procedures: one for the same bytes, counted, registered where they are used", procedures },
	{ "procedures of one name, registered by many threads at once", procedures_at_once },
	{ "more puts than there is room for", many_puts },
	{ "other bytes are registered there: NULL", other_bytes },
	{ "an accelerator that is held", exclusive },
	{ "each reason of a failure comes through; a redzone is mended", reasons },
	{ "times are this machine's, in order, with the error stated", times },
	{ "regions that go are gone on all queues", regions },
	{ "a forked child has nothing of its parent's, and a life of its own", forked },
	{ "forks while descriptors come and go", forked_meanwhile },
	{ "exit with tasks in flight, and a new start", exit_in_flight },
	{ "this machine was taken for dead", taken_for_dead },
	{ "the device was unplugged, and another one is there", unplugged },
	{ "no device", no_device },
	{ "no appliance", no_appliance },
	{ "an appliance that comes later, and has no room for a procedure", told_later },
	{ "a service that nobody accepts for", does_not_accept },
};

int main(void)
{
	static char folder[] = "/tmp/device-test-XXXXXX";	/* will do for a fake device */
	int ret;

	if (!mkdtemp(folder))
		return 1;
	if (&fake_vine_error)
		setenv("VINE_DEVICE", folder, 1);
	device_path = getenv("VINE_DEVICE");
	if (!device_path)
		device_path = "/dev/vine0";
	unsetenv("VINE_CONFIG");
	unsetenv("VINE_TRACE");
	setenv("HOME", folder, 1);
	ret = tap_main(tests, sizeof(tests) / sizeof(tests[0]));
	rmdir(folder);
	return ret;
}
