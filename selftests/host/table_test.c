// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * table_test.c - descriptors and their numbers, when something else happens in between
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <host/host.h>
#include <vine.h>

#include "tap.h"

static char name[96], path[64];
static int device;

static void scene(void)
{
	snprintf(path, sizeof(path), "/dev/shm/vine-table-test-%d", getpid());
	snprintf(name, sizeof(name), "shm:%s?size=16M", path);
	device = vine_open(name);
	EXPECT(device >= 0);
}

static void curtain(void)
{
	EXPECT(!vine_close(device));
	unlink(path);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* ---- a number is moved ---- */

static int asked = -1, answer;	/* a number, and what vine_info() gave when it was moved */

int dup3(int from, int to, int flags)
{
	int (*next)(int, int, int) = (int (*)(int, int, int))dlsym(RTLD_NEXT, "dup3");
	struct vine_info info;
	int ret = next(from, to, flags);

	if (to == asked)
		answer = vine_info(to, &info);
	return ret;
}

/* Another thread's call finds the old one or the new one. */
static void moved(void)
{
	struct vine_info info;
	int other;

	scene();
	other = vine_open(name);
	CHECK(other >= 0);
	asked = device;
	answer = -1;
	CHECK(!host_move(other, device) && !answer && !is_open(other));
	asked = -1;
	CHECK(!vine_info(device, &info) && info.peers == 1);
	curtain();
}

/* Of any descriptor, which is closed in any case; and what was there stays. */
static void not_moved(void)
{
	struct vine_info info;
	int p[2];

	scene();
	CHECK(!pipe(p));
	CHECK(host_move(p[0], 1 << 30) == -ENOMEM && !is_open(p[0]));
	CHECK(host_move(p[0], device) == -EBADF);
	CHECK(!vine_info(device, &info) && info.peers == 1);
	close(p[1]);
	curtain();
}

#ifndef __SANITIZE_THREAD__

/* ---- forks ---- */

static int end[2];
static pid_t child;

/* Has nothing to do with the library. */
static void *fork_elsewhere(void *arg)
{
	char c;

	(void)arg;
	child = fork();
	if (!child) {
		close(end[1]);
		_exit(read(end[0], &c, 1));
	}
	return NULL;
}

static bool fork_at_close;
static pthread_t forker;

/* While the library closes a descriptor, another thread forks: before it, if that is possible. */
int close(int fd)
{
	int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "close");

	if (fork_at_close) {
		fork_at_close = false;
		pthread_create(&forker, NULL, fork_elsewhere, NULL);
		for (int i = 0; i < 50 && !__atomic_load_n(&child, __ATOMIC_SEQ_CST); i++)
			poll(NULL, 0, 2);
	}
	return next(fd);
}

/* The child does not keep what shows that the segment is gone from doing so. */
static void forked_at_close(void)
{
	struct pollfd p;
	struct vine_info info;

	scene();
	p = (struct pollfd){ .fd = device };
	CHECK(!pipe(end));
	fork_at_close = true;
	CHECK(!truncate(path, 0));
	CHECK(poll(&p, 1, 10000) == 1 && p.revents & POLLERR);
	pthread_join(forker, NULL);
	CHECK(child > 0 && vine_info(device, &info) == -ENODEV);
	close(end[1]);
	CHECK(waitpid(child, NULL, 0) == child);
	close(end[0]);
	curtain();
}

#endif

static const struct tap_test tests[] = {
	{ "a number that is moved is always somebody's", moved },
	{ "what cannot be moved is closed, and nothing else happens", not_moved },
#ifndef __SANITIZE_THREAD__	/* which has no threads after a fork */
	{ "a fork while the library closes an end leaves the child none", forked_at_close },
#endif
};

TAP_MAIN(tests)
