// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * kill_test.c - processes are killed at random moments; the others go on
 *
 * Servers offer "kill" and answer; clients connect, attach a region with data in it, ask for
 * its sum, and check the answer. One after the other is killed and started again. In the end
 * nobody is stuck, no survivor has seen wrong data, and all memory is free again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <vine.h>

#include "tap.h"

#define SERVERS		2
#define CLIENTS		4
#define QUEUES		8	/* of a server */
#define BYTES		65536
#define STUCK_MS	60000	/* nothing here takes so long */
#define WRONG		7	/* exit status */
#define STUCK		8

static char name[96], shm[64];

/* What survivors say of themselves. */
static struct {
	uint64_t rounds, wrong, stuck;
} *shared;

struct ask {
	uint64_t region, seed, sum;
};

static uint64_t next(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return *state >> 33;
}

static uint64_t sum_of(const uint64_t *words)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < BYTES / 8; i++)
		sum += words[i] * (i + 1);
	return sum;
}

static void report(uint64_t *count)
{
	__atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
}

/* ---- the server ---- */

/* The sum of the region that is attached as msg says. */
static void answer(int queue, struct vine_msg *msg)
{
	struct ask ask;
	uint64_t bytes;
	void *words;
	int region;

	memcpy(&ask, msg->data, sizeof(ask));
	region = vine_import(queue, ask.region, &bytes);
	if (region < 0)
		return;		/* the client is gone already */
	if (!vine_map(region, BYTES, &words)) {
		ask.sum = sum_of(words);
		vine_unmap(words, BYTES);
	}
	vine_close(region);
	memcpy(msg->data, &ask, sizeof(ask));
	vine_push(queue, msg, 1);
}

static void serve(void)
{
	struct pollfd p[QUEUES + 1];
	struct vine_msg msg;
	int n = 1, i, ret, device = vine_open(name);

	p[0] = (struct pollfd){ vine_listen(device, "kill", 1, VINE_NONBLOCK), POLLIN, 0 };
	while (p[0].fd >= 0) {
		poll(p, n, 1000);
		if (p[0].revents && n <= QUEUES) {
			ret = vine_accept(p[0].fd, VINE_NONBLOCK, 0, NULL);
			if (ret >= 0)
				p[n++] = (struct pollfd){ ret, POLLIN, 0 };
			else if (ret != -EAGAIN)
				break;
		}
		for (i = 1; i < n; i++) {
			ret = p[i].revents ? vine_pull(p[i].fd, &msg, 1, 0, 0) : -EAGAIN;
			if (ret == 1)
				answer(p[i].fd, &msg);
			else if (ret != -EAGAIN) {
				vine_close(p[i].fd);
				p[i--] = p[--n];
			}
		}
		p[0].events = n <= QUEUES ? POLLIN : 0;
	}
	_exit(9);
}

/* ---- the client ---- */

/* One question. 0, or what ended the queue. */
static int question(int queue, uint64_t id, uint64_t *words, uint64_t *state)
{
	struct ask ask = { .region = id, .seed = next(state) };
	struct vine_msg msg = { .len = sizeof(ask) };
	uint64_t seed = ask.seed;
	unsigned int i;
	int ret;

	for (i = 0; i < BYTES / 8; i++)
		words[i] = next(&seed);
	memcpy(msg.data, &ask, sizeof(ask));
	ret = vine_push(queue, &msg, 1);
	if (ret == 1)
		ret = vine_pull(queue, &msg, 1, 1, vine_deadline_ms(STUCK_MS));
	if (ret == -ETIMEDOUT) {
		report(&shared->stuck);
		_exit(STUCK);
	}
	if (ret != 1)
		return ret;
	i = ask.seed != ((struct ask *)msg.data)->seed;
	memcpy(&ask, msg.data, sizeof(ask));
	if (i || ask.sum != sum_of(words)) {
		report(&shared->wrong);
		_exit(WRONG);
	}
	report(&shared->rounds);
	return 0;
}

static void drive(uint64_t state)
{
	int device = vine_open(name), queue, region, ret;
	uint64_t id;
	void *words;

	for (;;) {
		queue = vine_connect(device, "kill", 8, VINE_WAIT_SERVICE,
				     vine_deadline_ms(STUCK_MS), NULL);
		if (queue == -ETIMEDOUT) {
			report(&shared->stuck);
			_exit(STUCK);
		}
		if (queue == -ECONNREFUSED)
			continue;
		region = vine_region(device, BYTES, NULL);
		if (queue < 0 || region < 0 || vine_map(region, BYTES, &words)) {
			printf("# a client: device %d (%s), queue %d, region %d\n", device,
			       vine_why(), queue, region);
			fflush(stdout);
			_exit(9);
		}
		ret = vine_attach(queue, region, &id);
		while (!ret && next(&state) % 50)
			ret = question(queue, id, words, &state);
		vine_unmap(words, BYTES);
		vine_close(region);
		vine_close(queue);
	}
}

/* ---- the killer ---- */

static pid_t start(int i, uint64_t seed)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (i < SERVERS)
		serve();
	drive(seed);
	_exit(0);
}

static void kills(void)
{
	unsigned int n = SCALED(1000), i, victim;
	pid_t pid[SERVERS + CLIENTS];
	uint64_t state = getpid(), before, until;
	struct vine_info info = { 0 };
	int status, device;

	snprintf(shm, sizeof(shm), "vine-kill-%d", getpid());
	snprintf(name, sizeof(name), "shm:%s?size=32M", shm);
	for (i = 0; i < SERVERS + CLIENTS; i++)
		pid[i] = start(i, next(&state));
	for (i = 0; i < n && !shared->wrong && !shared->stuck; i++) {
		/* in the midst of things: no time is right, and any is */
		usleep(next(&state) % 30000);
		alarm(120);
		victim = next(&state) % (SERVERS + CLIENTS);
		kill(pid[victim], SIGKILL);
		if (!EXPECT(waitpid(pid[victim], &status, 0) == pid[victim] &&
			    WIFSIGNALED(status)))
			printf("# %s ended with %#x\n", victim < SERVERS ? "a server" : "a client",
			       status);
		pid[victim] = start(victim, next(&state));
	}
	/* those who are left go on */
	before = __atomic_load_n(&shared->rounds, __ATOMIC_RELAXED);
	until = vine_deadline_ms(STUCK_MS);
	while (__atomic_load_n(&shared->rounds, __ATOMIC_RELAXED) < before + 100 &&
	       vine_deadline_ms(1) < until)
		poll(NULL, 0, 10);
	EXPECT(shared->rounds >= before + 100);
	for (i = 0; i < SERVERS + CLIENTS; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], &status, 0);
	}
	printf("# %u kills, %llu answers\n", n, (unsigned long long)shared->rounds);
	CHECK(!shared->wrong && !shared->stuck);
	device = vine_open(name);
	CHECK(device >= 0 && !vine_info(device, &info));
	printf("# left: %u peers, %u services, %u queues, %u regions, %u of %u chunks free\n",
	       info.peers, info.services, info.queues, info.regions, info.chunks_free,
	       info.chunks);
	CHECK(info.peers == 1 && !info.services && !info.queues && !info.regions &&
	      info.chunks_free == info.chunks);
	vine_close(device);
	shm_unlink(shm);
}

static const struct tap_test tests[] = {
	{ "clients and servers are killed: the others' data is right, nobody is stuck, nothing is lost",
	  kills },
};

int main(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	return tap_main(tests, 1);
}
