// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * bury_test.c - vinectl peers and bury on an endpoint, which has only just come when it is asked
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <linux/vine_wire.h>
#include <vine.h>

#include "tap.h"

#define SIZE		(16 << 20)
#define MACHINE		9	/* the slot of one that never beats */

static char path[64], name[80];
static struct vine_wire_peer *slots;
static char said[1024];

static void scene(void)
{
	int device, fd;

	snprintf(path, sizeof(path), "/dev/shm/vine-bury-%d", getpid());
	snprintf(name, sizeof(name), "shm:%s?size=16M", path);
	device = vine_open(name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	slots = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) + VINE_OFF_PEERS;
	EXPECT(device >= 0 && fd >= 0 && !vine_close(device));
	close(fd);
	__atomic_store_n(&slots[MACHINE].word, VINE_PEER(1, 0, 1, VINE_PEER_LIVE), __ATOMIC_SEQ_CST);
}

static void curtain(void)
{
	munmap((char *)slots - VINE_OFF_PEERS, SIZE);
	unlink(path);
}

/* Its exit status; -1: it did not end by itself. */
static int vinectl(const char *words)
{
	char command[512];
	int status;
	size_t n;
	FILE *f;

	snprintf(command, sizeof(command), VINECTL " %s --device 'shm:%s' 2>&1", words, path);
	f = popen(command, "re");
	n = fread(said, 1, sizeof(said) - 1, f);
	said[n] = '\0';
	status = pclose(f);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void unknown_beat(void)
{
	scene();
	CHECK(!vinectl("peers") && strstr(said, "9.1") && !strstr(said, "just now"));
	CHECK(!vinectl("peers --json") && strstr(said, "\"silent_ms\": null"));
	curtain();
}

static void silent(void)
{
	scene();
	CHECK(!vinectl("bury 9 --yes") && strstr(said, "peer 9.1 is gone"));
	CHECK(VINE_PEER_STATE(slots[MACHINE].word) == VINE_PEER_FREE);
	curtain();
}

static void living(void)
{
	int device;

	scene();
	device = vine_open(name);
	CHECK(device >= 0);
	CHECK(vinectl("bury 0 --yes") == 1 && strstr(said, "is alive: it beat"));
	CHECK(!vine_close(device));
	curtain();
}

/* It has not beaten for long, and its lock says that it is there. */
static void stopped(void)
{
	int ready[2], status;
	pid_t pid;
	char c;

	scene();
	CHECK(!pipe(ready));
	pid = fork();
	if (!pid) {
		vine_open(name);
		EXPECT(write(ready[1], "", 1) == 1);
		raise(SIGSTOP);
		_exit(0);
	}
	CHECK(read(ready[0], &c, 1) == 1 && waitpid(pid, &status, WUNTRACED) == pid);
	CHECK(vinectl("bury 0 --yes") == 1 && strstr(said, "can be killed"));
	CHECK(!kill(pid, SIGKILL) && waitpid(pid, &status, 0) == pid);
	close(ready[0]);
	close(ready[1]);
	curtain();
}

static const struct tap_test tests[] = {
	{ "of a peer that nobody has watched it is not said when it beat", unknown_beat },
	{ "a silent peer is watched until it is suspect, and buried", silent },
	{ "a peer that beats is not", living },
	{ "nor is a process that is stopped", stopped },
};

TAP_MAIN(tests)
