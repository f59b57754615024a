// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * worker.c - workers as the appliance sees them: they are started, given tasks, and buried
 *
 * A worker is a process that answers one request at a time. What is sent to it never waits:
 * its socket is empty when it is idle. A task whose worker was killed, or died by itself, is
 * finished when the process is dead, and not before: until then it might write to the
 * client's memory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "serve/serve.h"

#define ANSWER_MS	10000	/* for what is not a task */
#define PROBE_S		60	/* a driver may have a compiler to load, from a cold disk */

static void receive(struct vine_serve *s, struct worker *w);
static void worker_ready(struct vine_serve *s, struct source *source, uint32_t events);

/* ---- birth ---- */

int worker_start(struct vine_serve *s, struct worker *w)
{
	int pair[2], err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	err = forker_order(s, w, pair[1]);
	close(pair[1]);
	if (err) {
		close(pair[0]);
		return err;
	}
	w->pid = 0;
	w->socket = pair[0];
	w->state = WORKER_IDLE;
	w->killed_for = vine_reason_none;
	w->source.ready = worker_ready;
	err = serve_watch(s, w->socket, EPOLLIN, &w->source);
	if (err)
		worker_kill(s, w, vine_reason_no_memory);
	return err;
}

/* ---- death ---- */

static void stop_listening(struct vine_serve *s, struct worker *w)
{
	if (w->socket < 0)
		return;
	epoll_ctl(s->epoll, EPOLL_CTL_DEL, w->socket, NULL);
	close(w->socket);
	w->socket = -1;
}

void worker_kill(struct vine_serve *s, struct worker *w, vine_task_reason_e why)
{
	if (w->state == WORKER_NONE || w->state == WORKER_ENDING)
		return;
	w->killed_for = why;
	w->state = WORKER_ENDING;
	w->deadline = VINE_FOREVER;
	if (w->pid)
		kill(w->pid, SIGKILL);	/* else as soon as it is known */
	stop_listening(s, w);
}

static void lose_slots(struct worker *w)
{
	unsigned int i;

	for (i = 0; i < WORK_SLOTS; i++)
		if (w->slot[i].memory)
			w->slot[i].memory->slot[w->number] = -1;
	memset(w->slot, 0, sizeof(w->slot));
	w->forgets = 0;
	w->next_slot = 0;
}

/* About a task that failed. @what: a client cannot have written it. */
static void report(struct vine_serve *s, const struct task *task, const char *what)
{
	struct session *session = task->connection->session;

	serve_log_client(s, session->peer, session,
			 "%s: procedure %s of process %u on machine %u %s",
			 task->accelerator->name, serve_text(task->procedure->name).text,
			 session->pid, session->peer, what);
}

/* The task's end, for a worker that died. */
static void finish_task(struct vine_serve *s, struct worker *w, struct task *task, int status)
{
	vine_task_reason_e reason = w->killed_for;
	int detail = 0;
	char what[64];

	task->worker = w->pid;
	task->ended = serve_now();
	switch (reason) {
	case vine_reason_none:
		reason = vine_reason_crashed;
		detail = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
		if (detail)
			snprintf(what, sizeof(what), "crashed: %s", strsignal(detail));
		else
			snprintf(what, sizeof(what), "%s",
				 WEXITSTATUS(status) == WORK_UNFIT ?
				 "has no worker: it could not be prepared" : "called exit()");
		report(s, task, what);
		break;
	case vine_reason_timeout:
		report(s, task, task->connection->gone ?
		       "was ended: its client has gone" : "was ended: it took too long");
		break;
	default:
		break;
	}
	scheduler_finish(s, task, reason, detail);
}

/* @task: NULL: it was to be there before there are any. */
static void cannot_start(struct vine_serve *s, const struct worker *w, const struct task *task,
			 int err)
{
	char what[64];

	snprintf(what, sizeof(what), "has no worker: %s", strerror(-err));
	if (task)
		report(s, task, what);
	else
		serve_log(s, "%s: cannot start a worker: %s", w->lane->accelerator->name,
			  strerror(-err));
}

static void died(struct vine_serve *s, struct worker *w, int status)
{
	struct task *task = w->task;
	bool again = w->again;

	stop_listening(s, w);
	lose_slots(w);
	w->state = WORKER_NONE;
	w->deadline = VINE_FOREVER;
	w->session = NULL;
	w->task = NULL;
	w->again = false;
	s->work = true;
	if (again && !task->connection->gone)
		lane_give(s, w->lane, task);
	else if (task)
		finish_task(s, w, task, status);
}

/* Waits for its death; how it died. Children of its own go with it. */
static int bury(const struct worker *w)
{
	siginfo_t info;
	int status = 0;

	if (!w->pid)
		return 0;
	while (waitid(P_PID, w->pid, &info, WEXITED | WNOWAIT) && errno == EINTR)
		;
	/* while it is a zombie the number is nobody else's */
	kill(-w->pid, SIGKILL);
	while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

void workers_reap(struct vine_serve *s)
{
	unsigned int i;

	for (i = 0; i < s->worker_count; i++) {
		struct worker *w = s->workers[i];
		siginfo_t info = { .si_pid = 0 };

		if (w->state == WORKER_NONE || !w->pid ||
		    waitid(P_PID, w->pid, &info, WEXITED | WNOHANG | WNOWAIT) || !info.si_pid)
			continue;
		if (w->state != WORKER_ENDING)
			receive(s, w);	/* what it has said before */
		died(s, w, bury(w));
	}
}

void worker_born(struct vine_serve *s, struct worker *w, pid_t pid)
{
	if (pid < 0) {
		cannot_start(s, w, w->task, pid);
		worker_kill(s, w, vine_reason_no_memory);
		died(s, w, 0);
		return;
	}
	w->pid = pid;
	if (w->state == WORKER_ENDING)
		kill(pid, SIGKILL);
}

void worker_unborn(struct vine_serve *s, struct worker *w)
{
	if (w->state == WORKER_NONE || w->pid)
		return;
	w->again = w->task && w->state != WORKER_ENDING;
	worker_kill(s, w, vine_reason_lost);
	died(s, w, 0);
}

void workers_expire(struct vine_serve *s, uint64_t now)
{
	unsigned int i;

	for (i = 0; i < s->worker_count; i++) {
		struct worker *w = s->workers[i];

		if (w->deadline <= now)
			receive(s, w);	/* it may have ended in time */
		if (w->deadline <= now)
			worker_kill(s, w, w->task ? vine_reason_timeout : vine_reason_none);
		else
			serve_deadline(s, &w->deadline, w->deadline);
	}
}

void workers_hurry(struct vine_serve *s, const struct connection *c)
{
	uint64_t deadline = serve_now() + GRACE_MS * 1000000ULL;
	unsigned int i;

	for (i = 0; i < s->worker_count; i++) {
		struct worker *w = s->workers[i];

		if (w->state == WORKER_BUSY && w->task && w->task->connection == c &&
		    w->deadline > deadline)
			serve_deadline(s, &w->deadline, deadline);
	}
}

void workers_end(struct vine_serve *s)
{
	unsigned int i;

	for (i = 0; i < s->worker_count; i++)
		worker_kill(s, s->workers[i], vine_reason_lost);
	forker_end(s);
	for (i = 0; i < s->worker_count; i++) {
		struct worker *w = s->workers[i];

		if (w->state == WORKER_NONE)
			continue;
		w->again = false;
		died(s, w, bury(w));
	}
}

/* ---- requests ---- */

/* 0, or -errno; -EPIPE: nobody is there any more. */
static int send_request(struct worker *w, void *request, size_t length, const int *fds,
			unsigned int fd_count)
{
	char control[CMSG_SPACE(sizeof(int) * (TALK_BUFFERS + 1))] = { 0 };
	struct iovec v = { request, length };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (fd_count) {
		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
	}
	if (sendmsg(w->socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	return errno == ECONNRESET || errno == ECONNREFUSED || errno == ENOTCONN ? -EPIPE : -errno;
}

static void send_forget(struct vine_serve *s, struct worker *w)
{
	struct work_forget f = { .op = WORK_FORGET, .serial = ++w->serial };
	unsigned int i;

	for (i = 0; i < WORK_SLOTS; i++) {
		if (!w->slot[i].forget)
			continue;
		w->slot[i].forget = false;
		f.slot[f.slots++] = i;
	}
	w->forgets = 0;
	w->state = WORKER_BUSY;
	if (send_request(w, &f, offsetof(struct work_forget, slot[f.slots]), NULL, 0))
		worker_kill(s, w, vine_reason_none);
	else
		serve_deadline(s, &w->deadline, serve_now() + ANSWER_MS * 1000000ULL);
}

void worker_forget(struct vine_serve *s, struct worker *w, unsigned int slot)
{
	w->slot[slot] = (struct worker_slot){ .forget = true };
	w->forgets++;
	if (w->state == WORKER_IDLE)
		send_forget(s, w);
}

/* A slot that this request does not use; the oldest, as they are taken in turn. */
static unsigned int take_slot(struct worker *w)
{
	struct worker_slot *slot;
	unsigned int i;

	do
		i = w->next_slot++ % WORK_SLOTS;
	while (w->slot[i].used == w->serial);
	slot = &w->slot[i];
	if (slot->memory)
		slot->memory->slot[w->number] = -1;
	if (slot->forget)
		w->forgets--;
	return i;
}

/* Where the worker has it, or will have it from this request on. */
static unsigned int slot_of(struct worker *w, struct memory *m, struct work_run *run, int *fds)
{
	int16_t *slot = &m->slot[w->number];

	if (*slot < 0) {
		*slot = take_slot(w);
		w->slot[*slot] = (struct worker_slot){ .memory = m };
		fds[run->maps] = m->fd;
		run->map[run->maps++] = (struct work_map){
			.slot = *slot, .read_only = m->read_only, .beginning = m->beginning,
			.bytes = m->bytes, .client = m->client,
		};
	}
	w->slot[*slot].used = w->serial;
	return *slot;
}

static int send_run(struct worker *w, struct task *task)
{
	struct procedure *p = task->procedure;
	struct work_run run = {
		.op = WORK_RUN, .serial = ++w->serial,
		.client = task->connection->session->number, .handler = task->handler,
		.compiler = task->compiler, .bytes_size = p->bytes.bytes,
		.has_args = task->flags & TALK_ARGS, .redzones = !!(task->flags & TALK_REDZONES),
		.in_count = task->in_count, .out_count = task->out_count,
	};
	int fds[TALK_BUFFERS + 1];
	unsigned int i;

	strcpy(run.name, p->name);
	if (p->bytes.bytes)
		run.bytes_slot = slot_of(w, &p->bytes, &run, fds);
	for (i = 0; i < task->buffers; i++)
		run.buffer[i] = (struct work_buffer){
			.slot = slot_of(w, &task->buffer[i].region->memory, &run, fds),
			.offset = task->buffer[i].offset, .size = task->buffer[i].size,
		};
	return send_request(w, &run, offsetof(struct work_run, buffer[task->buffers]), fds,
			    run.maps);
}

/* Waits for its answer. False: none, as that takes too long, or we are to stop. */
static bool answers(struct vine_serve *s, const struct worker *w)
{
	struct pollfd p[] = {
		{ .fd = w->socket, .events = POLLIN }, { .fd = s->stop, .events = POLLIN },
	};
	uint64_t until = serve_now() + PROBE_S * 1000000000ULL, now;
	int n;

	do {
		now = serve_now();
		n = poll(p, 2, now < until ? (until - now) / 1000000 + 1 : 0);
	} while (n < 0 && errno == EINTR);
	s->stopped = n > 0 && p[1].revents;
	return n > 0 && !s->stopped;
}

int worker_probe(struct vine_serve *s, struct accelerator *a)
{
	struct worker *w = &a->lane[0].code;
	struct work_run run = { .op = WORK_PROBE, .serial = ++w->serial };
	struct work_done d = { .why = "" };
	ssize_t n = -1;
	bool unborn;
	int status;

	run.compiler = plugins_compiler(&s->plugins, a->type);
	w->for_source = true;
	if (worker_start(s, w)) {
		serve_log(s, "%s runs no source: cannot start a worker", a->name);
		return -1;
	}
	forker_settle(s);
	unborn = w->state == WORKER_NONE;
	if (!send_request(w, &run, offsetof(struct work_run, bytes_size), NULL, 0) && answers(s, w))
		n = recv(w->socket, &d, sizeof(d), MSG_DONTWAIT);
	worker_kill(s, w, vine_reason_none);
	status = bury(w);
	died(s, w, status);
	if (s->stopped)
		return -1;
	if (n == sizeof(d) && d.reason == vine_reason_none) {
		a->compiler = run.compiler;
		serve_log(s, "%s runs %s: %s", a->name, run.compiler->name, serve_text(d.why).text);
		return 0;
	}
	if (unborn || (WIFEXITED(status) && WEXITSTATUS(status) == WORK_UNFIT))
		serve_log(s, "%s runs no source: its processes need namespaces of users, "
			  "processes, mounts and the network, which this system refuses", a->name);
	else
		serve_log(s, "%s runs no source: %s", a->name,
			  *d.why ? serve_text(d.why).text : "its driver does not answer");
	return -1;
}

/* ---- answers ---- */

static bool plausible(const struct worker *w, const struct work_done *d)
{
	const struct task *task = w->task;

	if (d->serial != w->serial)
		return false;
	if (!task)
		return true;
	if (d->started < task->started || d->ended < d->started || d->ended > serve_now())
		return false;
	switch (d->reason) {
	case vine_reason_none:
	case vine_reason_handler:
	case vine_reason_no_procedure:
	case vine_reason_not_compiled:
	case vine_reason_no_memory:
		return true;
	case vine_reason_overrun:
		return d->detail >= 0 && d->detail < task->out_count;
	default:
		return false;
	}
}

static void report_done(struct vine_serve *s, const struct task *task,
			const struct work_done *d)
{
	char what[WORK_WHY + 32];

	switch (d->reason) {
	case vine_reason_handler:
		snprintf(what, sizeof(what), "failed with %d", d->detail);
		break;
	case vine_reason_overrun:
		snprintf(what, sizeof(what), "wrote past its output %d", d->detail);
		break;
	case vine_reason_no_procedure:
		snprintf(what, sizeof(what), "cannot be loaded: %s", serve_text(d->why).text);
		break;
	case vine_reason_not_compiled:
		snprintf(what, sizeof(what), "does not compile: %s", serve_text(d->why).text);
		break;
	case vine_reason_no_memory:
		snprintf(what, sizeof(what), "found no memory");
		break;
	default:
		return;
	}
	report(s, task, what);
}

static void receive(struct vine_serve *s, struct worker *w)
{
	struct task *task = w->task;
	struct work_done d;
	ssize_t n;

	n = recv(w->socket, &d, sizeof(d), MSG_DONTWAIT | MSG_TRUNC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != sizeof(d) || w->state != WORKER_BUSY || !plausible(w, &d)) {
		worker_kill(s, w, vine_reason_none);
		return;
	}
	w->state = WORKER_IDLE;
	w->deadline = VINE_FOREVER;
	w->task = NULL;
	s->work = true;
	if (task) {
		d.why[WORK_WHY - 1] = 0;
		task->worker = w->pid;
		task->started = d.started;
		task->ended = d.ended;
		report_done(s, task, &d);
		scheduler_finish(s, task, d.reason, d.detail);
		/*
		 * Something has eaten up what it had; or it is uploaded code, which may have
		 * answered for itself and go on.
		 */
		if (d.reason == vine_reason_no_memory || (w == &w->lane->code && !w->for_source))
			worker_kill(s, w, vine_reason_none);
	}
	/* not sooner: what @task used may be forgotten by now */
	if (w->forgets && w->state == WORKER_IDLE)
		send_forget(s, w);
}

static void worker_ready(struct vine_serve *s, struct source *source, uint32_t events)
{
	(void)events;
	receive(s, container_of(source, struct worker, source));
}

/* ---- lanes ---- */

bool lane_free(const struct lane *lane, const struct task *task)
{
	const struct worker *w = task->handler ? &lane->plain : &lane->code;

	if (lane->plain.task || lane->code.task)
		return false;
	if (w->state == WORKER_IDLE)
		return task->handler || (w->session == task->connection->session &&
					 w->for_source == !!task->compiler);
	return w->state == WORKER_NONE;
}

bool lane_clear(struct vine_serve *s, struct lane *lane)
{
	if (lane->plain.task || lane->code.task)
		return false;
	if (lane->code.state == WORKER_IDLE)
		worker_kill(s, &lane->code, vine_reason_none);
	return lane->code.state == WORKER_ENDING;
}

void lane_give(struct vine_serve *s, struct lane *lane, struct task *task)
{
	struct worker *w = task->handler ? &lane->plain : &lane->code;
	bool fresh = w->state == WORKER_NONE;
	int err = 0;

	task->started = serve_now();
	task->ended = task->started;
	w->for_source = task->compiler;
	if (fresh)
		err = worker_start(s, w);
	if (err) {
		cannot_start(s, w, task, err);
		scheduler_finish(s, task, vine_reason_no_memory, 0);
		return;
	}
	w->session = task->handler ? NULL : task->connection->session;
	w->task = task;
	w->state = WORKER_BUSY;
	err = send_run(w, task);
	if (err) {
		w->again = err == -EPIPE && !fresh;
		worker_kill(s, w, w->again ? vine_reason_lost :
			    err == -EPIPE ? vine_reason_none : vine_reason_no_memory);
	} else if (s->time_limit) {
		serve_deadline(s, &w->deadline, task->started + s->time_limit);
	}
}
