// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * vine-server.c - an ivshmem server: gives virtual machines one shared memory and
 * doorbells. This file sets it up, runs its loop and takes it down.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "server.h"

/* What epoll says something about; smaller values are the IDs of peers. */
enum { LISTENER = MAX_ID + 1, SIGNALS, TIMER };

/* What fails for want of memory or descriptors is tried again so often. */
#define RETRY_MS 100

struct server {
	int epoll, listener, signals, timer;
	bool resting;	/* accept() failed; the listener waits for the timer */
};

/* Descriptors 0 to 2 must be open, or the memory becomes one and the log goes into it. */
static void reserve_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd >= 0)
		close(fd);
}

static int raise_nofile(unsigned int vectors)
{
	/*
	 * Eventfds and sockets, and one more each for the rest and what we have inherited;
	 * and room for those in flight, which count separately.
	 */
	const rlim_t need = MAX_PEERS * (vectors + 2 > IN_FLIGHT ? vectors + 2 : IN_FLIGHT);
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return error("cannot read the limit of open files: %m");
	if (r.rlim_max < need)
		r.rlim_max = need;	/* the privileged may */
	r.rlim_cur = r.rlim_max;
	if (!setrlimit(RLIMIT_NOFILE, &r))
		return 0;
	return error("%d peers with %u vectors need %ju open files, more than the hard limit: raise it (ulimit -Hn, or LimitNOFILE= in a systemd unit), or give fewer --vectors",
	      MAX_PEERS, vectors, (uintmax_t)need);
}

static int watch(struct server *s, int op, int fd, uint32_t events, uint64_t what)
{
	struct epoll_event ev = { .events = events, .data.u64 = what };

	return epoll_ctl(s->epoll, op, fd, &ev);
}

static void retry_later(struct server *s)
{
	const struct itimerspec t = { .it_value.tv_nsec = RETRY_MS * 1000000L };

	timerfd_settime(s->timer, 0, &t, NULL);
}

static void accept_one(struct server *s)
{
	int sock = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (sock >= 0)
		peers_add(sock);
	if (sock >= 0 || errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) {
		s->resting = false;
		return;
	}
	/* The connection stays pending and epoll would tell us of it without end. */
	if (!s->resting)
		error("cannot accept a peer: %m; trying again ten times a second");
	s->resting = true;
	watch(s, EPOLL_CTL_MOD, s->listener, 0, LISTENER);
	retry_later(s);
}

/* Returns an exit status. */
static int run(struct server *s)
{
	for (;;) {
		struct signalfd_siginfo si;
		struct epoll_event ev;
		bool retry = false;
		uint64_t ticks;

		/* One at a time: what one event changes may make the next one stale. */
		if (epoll_wait(s->epoll, &ev, 1, -1) < 0) {
			if (errno == EINTR)
				continue;
			error("cannot wait for events: %m");
			return EXIT_RUNTIME;
		}
		switch (ev.data.u64) {
		case LISTENER:
			accept_one(s);
			break;
		case SIGNALS:
			if (read(s->signals, &si, sizeof(si)) != sizeof(si))
				break;
			info("stopped by %s", strsignal(si.ssi_signo));
			return EXIT_CLEAN;
		case TIMER:
			if (read(s->timer, &ticks, sizeof(ticks)) != sizeof(ticks))
				break;
			watch(s, EPOLL_CTL_MOD, s->listener, EPOLLIN, LISTENER);
			retry = true;
			break;
		default:
			peers_event(ev.data.u64, ev.events);
		}
		if (peers_settle(retry))
			retry_later(s);
	}
}

static int open_loop(struct server *s)
{
	sigset_t stop;

	/* Blocked before anything is created, so that everything is cleaned up. */
	sigemptyset(&stop);
	sigaddset(&stop, SIGINT);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGHUP);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	signal(SIGPIPE, SIG_IGN);	/* stderr may be a pipe whose reader has left */

	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	s->signals = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);
	s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->epoll < 0 || s->signals < 0 || s->timer < 0 ||
	    watch(s, EPOLL_CTL_ADD, s->signals, EPOLLIN, SIGNALS) ||
	    watch(s, EPOLL_CTL_ADD, s->timer, EPOLLIN, TIMER))
		return error("cannot set up the main loop: %m");
	return 0;
}

static void tell_ready(const struct options *o)
{
	info("listening on %s: %" PRIu64 " MiB, %u vector%s", o->socket, o->size >> 20,
	     o->vectors, o->vectors > 1 ? "s" : "");
	if (o->ready_fd < 0)
		return;
	if (write(o->ready_fd, "\n", 1) != 1)
		error("--ready-fd %d: cannot write to it: %m", o->ready_fd);
	if (o->ready_fd > 2)
		close(o->ready_fd);
}

int main(int argc, char **argv)
{
	struct place socket_place = { 0 }, pidfile_place = { 0 };
	struct server s = { .epoll = -1, .signals = -1, .timer = -1 };
	int status = EXIT_RUNTIME;
	struct options o;
	int pidfile = -1, mem;

	reserve_standard_fds();
	options_parse(&o, argc, argv);
	if (raise_nofile(o.vectors))
		return EXIT_RUNTIME;
	if (open_loop(&s))
		goto close_loop;
	s.listener = socket_take(&socket_place, o.socket);
	if (s.listener < 0)
		goto close_loop;
	if (o.pidfile) {
		pidfile = pidfile_take(&pidfile_place, o.pidfile);
		if (pidfile < 0)
			goto leave_socket;
	}
	mem = memory_open(&o);
	if (mem < 0)
		goto leave_pidfile;
	peers_init(s.epoll, mem, o.vectors);
	if (listen(s.listener, MAX_PEERS) ||
	    watch(&s, EPOLL_CTL_ADD, s.listener, EPOLLIN, LISTENER)) {
		error("cannot listen on %s: %m", o.socket);
		goto close_memory;
	}
	tell_ready(&o);

	status = run(&s);

	peers_exit();
close_memory:
	close(mem);
leave_pidfile:
	place_leave(&pidfile_place);
	if (pidfile >= 0)
		close(pidfile);
leave_socket:
	place_leave(&socket_place);
	close(s.listener);
close_loop:
	if (s.timer >= 0)
		close(s.timer);
	if (s.signals >= 0)
		close(s.signals);
	if (s.epoll >= 0)
		close(s.epoll);
	return status;
}
