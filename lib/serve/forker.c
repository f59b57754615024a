// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * forker.c - the process that workers are forked from
 *
 * It is forked itself before there are clients. So a worker inherits nothing of theirs: not
 * the tokens of other sessions, which uploaded code would look for, nor memory to be copied.
 * All the same workers are children of the appliance, which hears of their deaths.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "serve/serve.h"

#define ANSWER_S	10

/* Comes with the worker's socket. The answer is its process, or -errno. */
struct order {
	uint32_t number;
	uint32_t source;	/* it will run source */
};

static _Noreturn void become_worker(const struct vine_serve *s, const struct order *order,
				    int socket, pid_t parent)
{
	const struct worker *w = s->workers[order->number];
	const struct accelerator *a = w->lane->accelerator;
	struct work_self self = {
		.socket = socket, .parent = parent, .accelerator = a->name, .type = a->type,
		.code = w == &w->lane->code, .source = order->source,
		.uid = s->code_uid, .gid = s->code_gid,
		.bytes_max = s->bytes_max,
	};

	work(&self);
}

/* The worker's socket, or -1: the appliance is no more. */
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
 * fork(), but that the child is the appliance's. The C library keeps a thread's number where
 * the kernel is told to write the child's.
 */
static pid_t fork_sibling(void)
{
	struct clone_args args = {
		.flags = CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID,
	};
	int *tid = NULL;

	prctl(PR_GET_TID_ADDRESS, &tid);	/* a kernel may lack it: NULL is written nowhere */
	args.child_tid = (uintptr_t)tid;
	return syscall(SYS_clone3, &args, sizeof(args));
}

static _Noreturn void forker(const struct vine_serve *s, int socket, pid_t parent)
{
	struct order order;
	int32_t answer;
	int fd;

	/* a session of its own: what runs in workers has no business with our terminal */
	setsid();
	if (work_begin(socket))
		_exit(WORK_UNFIT);
	prctl(PR_SET_NAME, "vine-forker");
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		_exit(0);
	while ((fd = receive_order(socket, &order)) >= 0) {
		answer = fork_sibling();
		if (answer == 0)
			become_worker(s, &order, fd, parent);
		if (answer < 0)
			answer = -errno;
		close(fd);
		if (send(socket, &answer, sizeof(answer), MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(0);
}

int forker_start(struct vine_serve *s)
{
	struct timeval patience = { .tv_sec = ANSWER_S };
	pid_t parent = getpid();
	int pair[2], err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	s->forker = fork();
	if (s->forker == 0)
		forker(s, pair[1], parent);
	err = -errno;
	close(pair[1]);
	if (s->forker < 0) {
		close(pair[0]);
		return err;
	}
	s->forker_socket = pair[0];
	setsockopt(s->forker_socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return 0;
}

pid_t forker_fork(struct vine_serve *s, const struct worker *w, int socket)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct order order = { w->number, w->for_source };
	struct iovec v = { &order, sizeof(order) };
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int32_t answer;
	ssize_t n;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &socket, sizeof(socket));
	if (sendmsg(s->forker_socket, &m, MSG_NOSIGNAL) < 0)
		goto gone;
	do
		n = recv(s->forker_socket, &answer, sizeof(answer), 0);
	while (n < 0 && errno == EINTR);
	if (n == sizeof(answer))
		return answer;
gone:
	s->failed = "the process that workers are forked from has died";
	return -ECHILD;
}

void forker_end(struct vine_serve *s)
{
	int status;

	if (s->forker <= 0)
		return;
	kill(s->forker, SIGKILL);
	while (waitpid(s->forker, &status, 0) < 0 && errno == EINTR)
		;
	s->forker = 0;
	close(s->forker_socket);
}

void forker_check(struct vine_serve *s)
{
	siginfo_t info = { .si_pid = 0 };

	if (!waitid(P_PID, s->forker, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid)
		s->failed = "the process that workers are forked from has died";
}
