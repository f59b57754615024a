// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * wipe_test.c - vinectl wipe and files with several segments
 *
 * Those who live there are processes with an endpoint, and a thread that beats as a machine.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <linux/vine_wire.h>
#include <vine.h>

#include "tap.h"

#define MIB		(1ULL << 20)
#define PART		(16 * MIB)

static char path[64];
static int file;

/* A file of its own for each test; sparse. */
static void fresh(uint64_t bytes)
{
	snprintf(path, sizeof(path), "/dev/shm/vine-wipe-%d", getpid());
	file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	EXPECT(file >= 0 && !ftruncate(file, (off_t)bytes));
}

static void remove_file(void)
{
	close(file);
	unlink(path);
}

static int endpoint(uint64_t off, uint64_t size)
{
	char name[128];

	snprintf(name, sizeof(name), "shm:%s?off=%llu&size=%llu", path, (unsigned long long)off,
		 (unsigned long long)size);
	return vine_open(name);
}

/* A segment in which nobody lives any more. */
static void left(uint64_t off, uint64_t size)
{
	int device = endpoint(off, size);

	EXPECT(device >= 0 && !vine_close(device));
}

/* A segment becomes one of another version, what is blank somebody else's. */
static void spoil(uint64_t off)
{
	uint64_t format = 0, end = 1;

	EXPECT(pread(file, &format, 8, (off_t)off) == 8);
	format += VINE_FORMAT_MAGIC(format) == VINE_WIRE_MAGIC ? 1ULL << 24 : 1;
	EXPECT(pwrite(file, &format, 8, (off_t)off) == 8);
	/* in the chunk map */
	EXPECT(pwrite(file, &end, 8, (off_t)(off + VINE_OFF_CHUNKMAP + 64)) == 8);
}

static unsigned char *map(uint64_t off, uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, (off_t)off);

	EXPECT(p != MAP_FAILED);
	return p;
}

/* A copy of a part, to compare. */
static unsigned char *copy_of(uint64_t off)
{
	unsigned char *copy = malloc(PART);

	EXPECT(copy && pread(file, copy, PART, (off_t)off) == (ssize_t)PART);
	return copy;
}

/* As it was? Frees @was. */
static bool unchanged(uint64_t off, unsigned char *was)
{
	unsigned char *now = copy_of(off);
	bool same = !memcmp(now, was, PART);

	free(now);
	free(was);
	return same;
}

/* "vinectl wipe TARGET --yes": does it end so, and say that? */
static bool __attribute__((format(printf, 3, 4))) wipe(int status, const char *words,
						       const char *target, ...)
{
	char command[512], name[200], said[1024] = "";
	size_t n;
	va_list args;
	FILE *f;
	int is;

	va_start(args, target);
	vsnprintf(name, sizeof(name), target, args);
	va_end(args);
	snprintf(command, sizeof(command), "%s wipe '%s' --yes 2>&1", VINECTL, name);
	f = popen(command, "r");
	if (!EXPECT(f))
		return false;
	n = fread(said, 1, sizeof(said) - 1, f);
	said[n] = 0;
	is = pclose(f);
	if (WIFEXITED(is) && WEXITSTATUS(is) == status && strstr(said, words))
		return true;
	printf("# %s\n# %d: %s", command, is, said);
	return false;
}

/* ---- what is wiped, and what is not ---- */

static void one_of_three(void)
{
	unsigned char *last;
	struct vine_info info;
	int first, second;

	fresh(3 * PART);
	first = endpoint(0, PART);
	CHECK(first >= 0);
	left(PART, PART);
	left(2 * PART, PART);
	spoil(PART);
	spoil(2 * PART);
	last = copy_of(2 * PART);
	CHECK(endpoint(PART, PART) == -EPROTONOSUPPORT);
	CHECK(wipe(0, "is blank", "shm:%s?off=16M&size=16M", path));
	second = endpoint(PART, PART);
	CHECK(second >= 0 && !vine_info(second, &info) && info.peers == 1 &&
	      info.chunks_free == info.chunks);
	CHECK(unchanged(2 * PART, last));
	CHECK(!vine_info(first, &info) && info.peers == 1);
	vine_close(second);
	/* as a file, to its end */
	CHECK(wipe(0, "is blank", "%s?off=32M", path));
	second = endpoint(2 * PART, PART);
	CHECK(second >= 0);
	vine_close(second);
	vine_close(first);
	remove_file();
}

/* The tables of so large a one have more than the 8 MiB at which the next one begins. */
static void not_into_the_next(void)
{
	unsigned char *next;
	int device;

	fresh(65536 * MIB);
	left(8 * MIB, PART);
	spoil(0);
	next = copy_of(8 * MIB);
	CHECK(wipe(1, "another segment begins at byte 8388608", "%s", path));
	CHECK(wipe(1, "another segment begins at byte 8388608", "shm:%s", path));
	CHECK(wipe(0, "is blank", "%s?size=8M", path));
	CHECK(unchanged(8 * MIB, next));
	device = endpoint(0, 8 * MIB);
	CHECK(device >= 0 && !vine_close(device));
	remove_file();
}

static void not_within_another(void)
{
	unsigned char *whole;

	fresh(2 * PART);
	left(0, 2 * PART);
	whole = copy_of(PART);
	CHECK(wipe(1, "lies within the segment at byte 0", "shm:%s?off=16M&size=16M", path));
	CHECK(unchanged(PART, whole));
	remove_file();
}

/* ---- who lives there ---- */

/* It does not beat, and will go on. */
static void stopped_process(void)
{
	unsigned char *was;
	int status = 0;
	pid_t pid;

	fresh(2 * PART);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (endpoint(PART, PART) >= 0)
			raise(SIGSTOP);
		_exit(1);
	}
	CHECK(pid > 0 && waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
	was = copy_of(PART);
	CHECK(wipe(1, "is in use: peer 0.1, a process on this host, is alive",
		   "shm:%s?off=16M&size=16M", path));
	CHECK(unchanged(PART, was));
	CHECK(wipe(0, "is blank already", "shm:%s?size=16M", path));
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, NULL, 0) == pid);
	CHECK(wipe(0, "is blank", "shm:%s?off=16M&size=16M", path));
	remove_file();
}

static atomic_bool enough;

static void *beats(void *arg)
{
	struct vine_wire_peer *peer = arg;
	uint64_t n;

	for (n = 1; !atomic_load(&enough); n++) {
		__atomic_store_n((uint64_t *)&peer->beat, n, __ATOMIC_SEQ_CST);
		poll(NULL, 0, 10);
	}
	return NULL;
}

static void machine(void)
{
	struct vine_wire_peer *peer;
	unsigned char *base;
	uint64_t format = 0;
	pthread_t t;

	fresh(2 * PART);
	left(PART, PART);
	base = map(PART, PART);
	peer = (struct vine_wire_peer *)(base + VINE_OFF_PEERS) + 3;
	__atomic_store_n((uint64_t *)&peer->word, VINE_PEER(5, 7, 1, VINE_PEER_LIVE),
			 __ATOMIC_SEQ_CST);
	atomic_store(&enough, false);
	pthread_create(&t, NULL, beats, peer);
	CHECK(wipe(1, "is in use: peer 3.5 (IVPosition 7) is alive", "%s?off=16M", path));
	atomic_store(&enough, true);
	pthread_join(t, NULL);
	CHECK(pread(file, &format, 8, PART) == 8 && VINE_FORMAT_MAGIC(format) == VINE_WIRE_MAGIC);
	munmap(base, PART);
	remove_file();
}

/* ---- words ---- */

static void words(void)
{
	fresh(2 * PART);
	CHECK(wipe(2, "off must be a multiple of 64K", "shm:%s?off=1", path));
	CHECK(wipe(2, "the option \"of\" is unknown", "%s?of=1M", path));
	CHECK(wipe(2, "trunc", "shm:%s?trunc=1", path));
	CHECK(wipe(2, "name the file", "server:%s", path));
	CHECK(wipe(1, "too few", "shm:%s?off=16M&size=32M", path));
	CHECK(wipe(1, "too few", "shm:%s?off=64M", path));
	CHECK(wipe(1, "at least 8 MiB", "%s?size=4M", path));
	CHECK(wipe(1, "No such file", "shm:%s?size=16M", "vine-wipe-nothing"));
	CHECK(wipe(1, "no such PCI device", "0000:99:00.0?off=16M"));
	remove_file();
}

static const struct tap_test tests[] = {
	{ "one of three segments is wiped, the others are as they were", one_of_three },
	{ "a segment is not wiped into the next one", not_into_the_next },
	{ "nor is one that lies within another", not_within_another },
	{ "nor where a process lives that is stopped, and it is named", stopped_process },
	{ "nor where a machine beats, and it is named", machine },
	{ "a part is named as endpoints are, and it must be there", words },
};

TAP_MAIN(tests)
