// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * forker.c - the process that workers are forked from, and a spare one
 *
 * It is forked itself before there are clients. So a worker inherits nothing of theirs: not
 * the tokens of other sessions, which uploaded code would look for, nor memory to be copied.
 * All the same workers are children of the appliance, which hears of their deaths.
 *
 * Nobody waits for it: it is told to fork, and later there is a word that it was done. Who was
 * forked says so, and not the forker. So when their socket comes to its end, all that were ever
 * born are known. If the forker dies the spare goes on, and forks the next spare.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "serve/serve.h"

#define ANSWER_MS	10000
#define SPARE		UINT32_MAX	/* no worker's number */

/* Comes with the socket of who is to be forked. */
struct order {
	uint32_t number;
	uint32_t source;	/* it will run source */
};

/* Comes with the credentials of who says so. */
struct birth {
	uint32_t number;
	int32_t err;		/* 0: it is born; or -errno: nobody was */
};

/* ---- the other side ---- */

static _Noreturn void become_worker(const struct vine_serve *s, const struct order *order,
				    int socket)
{
	const struct worker *w = s->workers[order->number];
	const struct accelerator *a = w->lane->accelerator;
	struct work_self self = {
		.socket = socket, .accelerator = a->name, .type = a->type,
		.code = w == &w->lane->code, .source = order->source,
		.uid = s->code_uid, .gid = s->code_gid,
	};

	work(&self);
}

/* The socket, or -1: the appliance is no more. */
static int receive_order(int socket, struct order *order)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec v = { order, sizeof(*order) };
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;
	int fd;

	do
		n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(*order) || !CMSG_FIRSTHDR(&m))
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

/*
 * Where the C library keeps this thread's number: the kernel was told. NULL: it does not say, as it
 * was built without CHECKPOINT_RESTORE.
 */
static int *thread_number(void)
{
	int *number = NULL;

	prctl(PR_GET_TID_ADDRESS, &number);
	return number;
}

bool forker_numbers(void)
{
	return thread_number();
}

/*
 * fork(), but that the child is the appliance's. What the C library goes by, for clocks and
 * mutexes, is the thread's number: the kernel is told to write the child's. @namespaces: to begin
 * in.
 */
static pid_t fork_sibling(uint64_t namespaces)
{
	struct clone_args args = {
		.flags = namespaces | CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID,
		.child_tid = (uintptr_t)thread_number(),	/* NULL is written nowhere */
	};

	return syscall(SYS_clone3, &args, sizeof(args));
}

static bool say(int socket, uint32_t number, int32_t err)
{
	struct birth birth = { number, err };

	return send(socket, &birth, sizeof(birth), MSG_NOSIGNAL) == sizeof(birth);
}

static void prepare(int socket, pid_t parent)
{
	/* a session of its own: what runs in workers has no business with our terminal */
	setsid();
	if (work_begin(socket))
		_exit(WORK_UNFIT);
	prctl(PR_SET_NAME, "vine-forker");
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		_exit(0);
}

static _Noreturn void forker(const struct vine_serve *s, int socket, pid_t parent)
{
	struct order order;
	pid_t pid;
	int fd;

	prepare(socket, parent);
	while ((fd = receive_order(socket, &order)) >= 0) {
		pid = fork_sibling(order.source ? source_namespaces() : 0);
		if (pid == 0) {
			if (!say(socket, order.number, 0))
				_exit(0);
			if (order.number != SPARE)
				become_worker(s, &order, fd);
			socket = fd;
			prepare(socket, parent);
			continue;
		}
		if (pid < 0 && !say(socket, order.number, -errno))
			break;
		close(fd);
	}
	_exit(0);
}

/* ---- this side ---- */

static void forker_ready(struct vine_serve *s, struct source *source, uint32_t events);

static int watch(struct vine_serve *s, struct forker *f)
{
	f->source.ready = forker_ready;
	f->pending = 0;
	f->deadline = VINE_FOREVER;
	return serve_watch(s, f->socket, EPOLLIN, &f->source);
}

static int send_order(struct vine_serve *s, const struct order *order, int socket)
{
	struct forker *f = &s->forker[s->forking];
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec v = { (void *)order, sizeof(*order) };
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &socket, sizeof(socket));
	/* it has just died: that will be heard of, and the order given again */
	if (sendmsg(f->socket, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EPIPE &&
	    errno != ECONNRESET)
		return -errno;
	if (!f->pending++)
		serve_deadline(s, &f->deadline, serve_now() + ANSWER_MS * 1000000ULL);
	return 0;
}

int forker_order(struct vine_serve *s, struct worker *w, int socket)
{
	const struct order order = { w->number, w->for_source };

	w->forker = s->forking;
	return send_order(s, &order, socket);
}

/* The first one is ours, and hears who speaks. */
static int make_pair(int pair[2])
{
	const int yes = 1;
	int err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	if (!setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)))
		return 0;
	err = -errno;
	close(pair[0]);
	close(pair[1]);
	return err;
}

/* Without one all goes on, until the forker dies. */
static void order_spare(struct vine_serve *s)
{
	static const struct order order = { .number = SPARE };
	struct forker *f = &s->forker[!s->forking];
	int pair[2], err;

	err = make_pair(pair);
	if (err)
		goto out;
	f->socket = pair[0];
	err = send_order(s, &order, pair[1]);
	close(pair[1]);
	if (!err)
		err = watch(s, f);
	if (err) {
		close(f->socket);
		f->socket = -1;
	}
out:
	if (err)
		serve_log(s, "no second process to fork workers from: %s", strerror(-err));
}

static void born(struct vine_serve *s, struct forker *f, const struct birth *birth, pid_t pid)
{
	f->deadline = VINE_FOREVER;
	if (--f->pending)
		serve_deadline(s, &f->deadline, serve_now() + ANSWER_MS * 1000000ULL);
	if (birth->number != SPARE)
		worker_born(s, s->workers[birth->number], birth->err ? birth->err : pid);
	else if (!birth->err)
		s->forker[!s->forking].pid = pid;
}

/*
 * Takes one. 0: there is none; -1: it has come to its end. Who was born is the kernel's word: in
 * a namespace it has another number, and does not know ours.
 */
static int receive_birth(struct vine_serve *s, struct forker *f, int flags)
{
	char control[CMSG_SPACE(sizeof(struct ucred))];
	struct birth birth;
	struct iovec v = { &birth, sizeof(birth) };
	struct msghdr m;
	struct ucred who;
	ssize_t n;

	/* ECONNRESET comes before what was sent */
	do {
		m = (struct msghdr){
			.msg_iov = &v, .msg_iovlen = 1, .msg_control = control,
			.msg_controllen = sizeof(control),
		};
		n = recvmsg(f->socket, &m, flags);
	} while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n != sizeof(birth) || !CMSG_FIRSTHDR(&m))
		return n < 0 && errno == EAGAIN ? 0 : -1;
	memcpy(&who, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(who));
	born(s, f, &birth, who.pid);
	return 1;
}

void forker_settle(struct vine_serve *s)
{
	struct forker *f = &s->forker[s->forking];

	while (f->pending && receive_birth(s, f, 0) > 0)
		;
}

static void bury(struct forker *f)
{
	int status;

	if (f->pid <= 0)
		return;
	kill(f->pid, SIGKILL);
	while (waitpid(f->pid, &status, 0) < 0 && errno == EINTR)
		;
	f->pid = 0;
}

static void forker_ready(struct vine_serve *s, struct source *source, uint32_t events)
{
	struct forker *f = container_of(source, struct forker, source);
	unsigned int i, which = f - s->forker;
	bool was_born;
	int ret;

	(void)events;
	do
		ret = receive_birth(s, f, MSG_DONTWAIT);
	while (ret > 0);
	workers_reap(s);	/* who has died before it was known */
	if (!ret)
		return;
	/* the spare's own birth is told by the other one */
	while (which != s->forking &&
	       receive_birth(s, &s->forker[s->forking], MSG_DONTWAIT) > 0)
		;
	epoll_ctl(s->epoll, EPOLL_CTL_DEL, f->socket, NULL);
	close(f->socket);
	f->socket = -1;
	f->deadline = VINE_FOREVER;
	was_born = f->pid > 0;
	bury(f);
	if (which == s->forking) {
		s->forking = !which;
		if (s->forker[!which].socket < 0) {
			s->failed = "the processes that workers are forked from have died";
			return;
		}
	}
	serve_log(s, "a process that workers are forked from has died: another one goes on");
	if (was_born)	/* else another one would not be, either */
		order_spare(s);
	for (i = 0; i < s->worker_count; i++)
		if (s->workers[i]->forker == which)
			worker_unborn(s, s->workers[i]);
}

int forker_start(struct vine_serve *s)
{
	struct forker *f = &s->forker[0];
	pid_t parent = getpid();
	int pair[2], err;

	err = make_pair(pair);
	if (err)
		return err;
	f->pid = fork();
	if (f->pid == 0)
		forker(s, pair[1], parent);
	err = -errno;
	close(pair[1]);
	f->socket = pair[0];
	if (f->pid > 0)
		err = watch(s, f);
	if (!err)
		order_spare(s);
	return err;
}

void forker_expire(struct vine_serve *s, uint64_t now)
{
	struct forker *f = &s->forker[s->forking];

	if (f->deadline > now) {
		serve_deadline(s, &f->deadline, f->deadline);
		return;
	}
	f->deadline = VINE_FOREVER;
	/* what follows begins at its socket's end */
	if (f->pid > 0)
		kill(f->pid, SIGKILL);
}

void forker_end(struct vine_serve *s)
{
	unsigned int i;

	/* the spare may be one that has not said so yet */
	for (i = 0; i < 2; i++) {
		struct forker *f = &s->forker[i ^ s->forking];

		bury(f);
		if (f->socket < 0)
			continue;
		while (receive_birth(s, f, 0) > 0)
			;
		close(f->socket);
		f->socket = -1;
	}
}
