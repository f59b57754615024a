// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * server_test.c - tests of vine-server, one behaviour each, as seen by clients and by
 * who starts it.
 *
 *	server_test PATH-OF-VINE-SERVER [PATH-OF-FOREIGN-SERVER]
 *
 * Prints TAP 13. Every test is a process of its own in a fresh directory; the servers it
 * starts die with it. Nothing waits for time to pass: a server says when it listens, and
 * everything else is seen on a descriptor, within LIMIT_MS.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vine_wire.h>

#define LIMIT_MS 20000		/* for one step */
#define TEST_LIMIT_S 200	/* for one test */
#define MAX_PEERS 64
#define MAX_VECTORS 64
#define SOCK "s"		/* tests run in their own directory */

enum { PASS = 0, FAIL = 1, SKIP = 4 };

static const char *vine_server, *foreign_server;

/* In a test: whatever does not hold ends the test. */
#define CHECK(cond)                                                             \
	do {                                                                    \
		if (!(cond)) {                                                  \
			printf("# line %d: not true: %s (errno: %s)\n", __LINE__, #cond, \
			       strerror(errno));                                \
			fflush(stdout);                                         \
			_exit(FAIL);                                            \
		}                                                               \
	} while (0)

static void __attribute__((noreturn)) skip(const char *why)
{
	printf("# skipped: %s\n", why);
	fflush(stdout);
	_exit(SKIP);
}

static bool readable(int fd, int ms)
{
	struct pollfd p = { fd, POLLIN, 0 };

	return poll(&p, 1, ms) == 1;
}

/* ---- servers ---- */

struct server {
	pid_t pid;
	int ready;	/* a byte when it listens */
	int err;	/* its stderr */
	char said[65536];
	size_t len;
};

/* What the process that becomes a server does to itself first. */
struct before {
	rlim_t nofile;		/* soft and hard; 0: as it is */
	bool no_stdio;		/* descriptors 0 to 2 closed */
};

static void become(const struct before *b)
{
	if (b->nofile) {
		struct rlimit r = { b->nofile, b->nofile };

		if (setrlimit(RLIMIT_NOFILE, &r))
			_exit(99);
	}
	if (b->no_stdio)
		for (int fd = 0; fd < 3; fd++)
			close(fd);
}

/*
 * From here on the test is a user who cannot exceed limits and, if we were root, has no
 * other process: descriptors in flight are counted by user. Such a user may not be able
 * to reach vine-server by its path.
 */
static int program = -1;

static void become_unprivileged(void)
{
	uid_t uid = 100000 + getpid();

	program = fcntl(open(vine_server, O_RDONLY | O_CLOEXEC), F_DUPFD_CLOEXEC, 4);
	CHECK(program >= 4);	/* 3 is taken in spawn() */
	if (geteuid() == 0)
		CHECK(!chown(".", uid, uid) && !setresgid(uid, uid, uid) &&
		      !setresuid(uid, uid, uid));
}

static void spawn(struct server *s, const char *path, const struct before *b, va_list ap)
{
	char *argv[32] = { (char *)path };
	int ready[2], err[2], argc = 1;

	s->len = 0;
	s->said[0] = 0;
	while ((argv[argc] = va_arg(ap, char *)))
		argc++;
	CHECK(!pipe2(ready, O_CLOEXEC) && !pipe2(err, O_CLOEXEC));
	argv[argc++] = "--ready-fd";
	argv[argc++] = "3";
	argv[argc] = NULL;
	s->pid = fork();
	CHECK(s->pid >= 0);
	if (!s->pid) {
		dup2(err[1], 2);
		if (ready[1] == 3)
			fcntl(3, F_SETFD, 0);
		else
			dup2(ready[1], 3);
		close_range(4, ~0U, CLOSE_RANGE_CLOEXEC);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (b)
			become(b);
		if (program >= 0)
			fexecve(program, argv, environ);
		else
			execv(path, argv);
		_exit(98);
	}
	close(ready[1]);
	close(err[1]);
	s->ready = ready[0];
	s->err = err[0];
}

/* Starts a server that is to listen. */
static void start_as(struct server *s, const char *path, const struct before *b, ...)
{
	va_list ap;
	char byte;

	va_start(ap, b);
	spawn(s, path, b, ap);
	va_end(ap);
	CHECK(readable(s->ready, LIMIT_MS));
	CHECK(read(s->ready, &byte, 1) == 1 && byte == '\n');
}

#define start(s, ...) start_as(s, vine_server, NULL, "--socket", SOCK, __VA_ARGS__, NULL)
#define start_small(s) start(s, "--size", "8M")

/* Waits until the server has said @text. */
static bool said(struct server *s, const char *text)
{
	while (!strstr(s->said, text)) {
		ssize_t n;

		if (!readable(s->err, LIMIT_MS))
			return false;
		n = read(s->err, s->said + s->len, sizeof(s->said) - 1 - s->len);
		if (n <= 0)
			return false;
		s->len += n;
		s->said[s->len] = 0;
	}
	return true;
}

static int ended(struct server *s)
{
	int status, pidfd = syscall(SYS_pidfd_open, s->pid, 0);

	while (said(s, "\xff"))	/* reads to the end */
		;
	CHECK(readable(pidfd, LIMIT_MS));
	close(pidfd);
	CHECK(waitpid(s->pid, &status, 0) == s->pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int stop(struct server *s, int signo)
{
	kill(s->pid, signo);
	return ended(s);
}

/* Starts a server that is to refuse; returns its exit status. */
static int refusal_as(struct server *s, const struct before *b, ...)
{
	va_list ap;
	char byte;

	va_start(ap, b);
	spawn(s, vine_server, b, ap);
	va_end(ap);
	CHECK(readable(s->ready, LIMIT_MS));
	CHECK(read(s->ready, &byte, 1) == 0);	/* it never listened */
	close(s->ready);
	return ended(s);
}

#define refusal(s, ...) refusal_as(s, NULL, __VA_ARGS__, NULL)

/* How many descriptors it has open, and the highest of them. */
static int open_fds(pid_t pid, int *highest)
{
	struct dirent *e;
	char path[64];
	int n = 0;
	DIR *d;

	*highest = -1;
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	CHECK(d);
	while ((e = readdir(d))) {
		if (*e->d_name == '.')
			continue;
		n++;
		if (atoi(e->d_name) > *highest)
			*highest = atoi(e->d_name);
	}
	closedir(d);
	return n;
}

/* ---- clients ---- */

static int dial(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	CHECK(fd >= 0);
	CHECK(!connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
	return fd;
}

/* One message: its eight bytes, and its descriptor or -1. False: end, error or limit. */
static bool hear_raw(int sock, unsigned char bytes[8], int *fd)
{
	size_t have = 0;

	*fd = -1;
	while (have < 8) {
		char control[CMSG_SPACE(4 * sizeof(int))];
		struct iovec iov = { bytes + have, 8 - have };
		struct msghdr msg = {
			.msg_iov = &iov, .msg_iovlen = 1,
			.msg_control = control, .msg_controllen = sizeof(control),
		};
		struct cmsghdr *c;
		ssize_t n;

		if (!readable(sock, LIMIT_MS))
			return false;
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
		if (n <= 0)
			return false;
		have += n;
		CHECK(!(msg.msg_flags & MSG_CTRUNC));
		c = CMSG_FIRSTHDR(&msg);
		if (!c)
			continue;
		CHECK(c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)));
		CHECK(*fd < 0);
		memcpy(fd, CMSG_DATA(c), sizeof(int));
	}
	return true;
}

static bool hear(int sock, int64_t *value, int *fd)
{
	unsigned char b[8];
	uint64_t v = 0;

	if (!hear_raw(sock, b, fd))
		return false;
	for (int i = 7; i >= 0; i--)
		v = v << 8 | b[i];
	*value = v;
	return true;
}

static void hear_end(int sock)
{
	char byte;

	CHECK(readable(sock, LIMIT_MS));
	CHECK(recv(sock, &byte, 1, 0) <= 0);
}

/* A version that QEMU does not know: a mere end would leave it waiting. */
static void hear_refusal(int sock)
{
	int64_t value;
	int fd;

	CHECK(hear(sock, &value, &fd));
	CHECK(value != 0 && fd < 0);
	hear_end(sock);
}

struct client {
	int sock, id, mem;
	int own[MAX_VECTORS];
	int nr_others;
	struct other {
		int id, event[MAX_VECTORS];
	} other[MAX_PEERS];
};

/* The next @vectors messages are @id's eventfds. With @keep NULL they are closed. */
static void hear_join(int sock, int id, int vectors, int *keep)
{
	for (int v = 0; v < vectors; v++) {
		int64_t value;
		int fd;

		CHECK(hear(sock, &value, &fd));
		CHECK(value == id);
		CHECK(fd >= 0);
		if (keep)
			keep[v] = fd;
		else
			close(fd);
	}
}

static void hear_leave(int sock, int id)
{
	int64_t value;
	int fd;

	CHECK(hear(sock, &value, &fd));
	CHECK(value == id);
	CHECK(fd < 0);
}

/* A whole handshake in which @others, from first to last, are the peers there. */
static void join_at(const char *path, struct client *c, int vectors, int nr_others,
		    const int *others)
{
	int64_t value;
	int fd;

	c->sock = dial(path);
	CHECK(hear(c->sock, &value, &fd));
	CHECK(value == 0 && fd < 0);		/* the version */
	CHECK(hear(c->sock, &value, &fd));
	CHECK(value >= 0 && value <= 65535 && fd < 0);
	c->id = value;
	CHECK(hear(c->sock, &value, &fd));
	CHECK(value == -1 && fd >= 0);
	c->mem = fd;
	c->nr_others = nr_others;
	for (int i = 0; i < nr_others; i++) {
		c->other[i].id = others[i];
		hear_join(c->sock, others[i], vectors, c->other[i].event);
	}
	hear_join(c->sock, c->id, vectors, c->own);
}

#define join(c, vectors, nr, ...) join_at(SOCK, c, vectors, nr, (const int[]){ __VA_ARGS__ })

/* A client that lets go of all descriptors, when there are too many of them. */
static int join_light(int vectors, int nr_others)
{
	int64_t value;
	int fd, sock = dial(SOCK);

	for (int i = 0; i < 3 + (nr_others + 1) * vectors; i++) {
		CHECK(hear(sock, &value, &fd));
		CHECK((fd >= 0) == (i >= 2));
		if (fd >= 0)
			close(fd);
	}
	return sock;
}

static bool rings(int fd)
{
	uint64_t n;

	return readable(fd, LIMIT_MS) && read(fd, &n, sizeof(n)) == sizeof(n) && n == 1;
}

/* @from rings every vector of @to, and the right one is heard. */
static void check_doorbells(struct client *from, struct client *to, int vectors)
{
	struct other *o = from->other;

	while (o->id != to->id)
		CHECK(++o < from->other + from->nr_others);
	for (int v = 0; v < vectors; v++) {
		CHECK(write(o->event[v], &(uint64_t){ 1 }, 8) == 8);
		CHECK(rings(to->own[v]));
		for (int w = 0; w < vectors; w++)
			CHECK(!readable(to->own[w], 0));
	}
}

/* ---- what clients see ---- */

static void handshake(const char *server)
{
	static const unsigned char zero[8], one[8] = { 1 }, two[8] = { 2 },
		minus_one[8] = { 255, 255, 255, 255, 255, 255, 255, 255 };
	const unsigned char *expected[] = {
		zero, two, minus_one, zero, zero, zero, one, one, one, two, two, two
	};
	struct client a, b;
	struct server s;
	int sock;

	start_as(&s, server, NULL, "--socket", SOCK, "--size", "8388608", "--vectors", "3", NULL);
	join(&a, 3, 0, 0);
	CHECK(a.id == 0);
	join(&b, 3, 1, 0);
	CHECK(b.id == 1);
	sock = dial(SOCK);
	for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++) {
		unsigned char bytes[8];
		int fd;

		CHECK(hear_raw(sock, bytes, &fd));
		CHECK(!memcmp(bytes, expected[i], 8));
		CHECK((fd >= 0) == (i >= 2));
	}
	CHECK(!readable(sock, 0));
	hear_join(a.sock, 1, 3, NULL);
	hear_join(a.sock, 2, 3, NULL);
	close(sock);
	hear_leave(a.sock, 2);
}

static void test_handshake(void)
{
	handshake(vine_server);
}

static void test_doorbells(void)
{
	struct client a, b;
	struct server s;

	start(&s, "--size", "8M", "--vectors", "4");
	join(&a, 4, 0, 0);
	join(&b, 4, 1, 0);
	a.nr_others = 1;
	a.other[0].id = b.id;
	hear_join(a.sock, b.id, 4, a.other[0].event);
	check_doorbells(&a, &b, 4);
	check_doorbells(&b, &a, 4);
	/* the server has gone: the doorbells work all the same */
	CHECK(stop(&s, SIGTERM) == 0);
	check_doorbells(&a, &b, 4);
}

static void test_full_doorbell(void)
{
	struct client a, b;
	struct server s;

	start_small(&s);
	join(&a, 1, 0, 0);
	join(&b, 1, 1, 0);
	/* A peer that does not listen must not block one that rings. */
	CHECK(write(b.other[0].event[0], &(uint64_t){ UINT64_MAX - 1 }, 8) == 8);
	CHECK(write(b.other[0].event[0], &(uint64_t){ 1 }, 8) == -1 && errno == EAGAIN);
}

static void test_join(void)
{
	struct client a, b, c;
	struct server s;

	start(&s, "--size", "8M", "--vectors", "2");
	join(&a, 2, 0, 0);
	join(&b, 2, 1, 0);
	join(&c, 2, 2, 0, 1);
	hear_join(a.sock, 1, 2, NULL);
	hear_join(a.sock, 2, 2, NULL);
	hear_join(b.sock, 2, 2, NULL);
}

static void test_leave(void)
{
	struct client a, b, c;
	struct server s;

	start_small(&s);
	join(&a, 1, 0, 0);
	join(&b, 1, 1, 0);
	join(&c, 1, 2, 0, 1);
	hear_join(a.sock, 1, 1, NULL);
	hear_join(a.sock, 2, 1, NULL);
	close(b.sock);
	hear_leave(a.sock, 1);
	hear_leave(c.sock, 1);
	close(a.sock);
	hear_leave(c.sock, 0);
}

static void test_ids_grow(void)
{
	struct client stays, c;
	struct server s;

	start_small(&s);
	join(&stays, 1, 0, 0);
	for (int id = 1; id < 300; id++) {
		join(&c, 1, 1, 0);
		CHECK(c.id == id);
		close(c.sock);
		close(c.mem);
		close(c.own[0]);
		close(c.other[0].event[0]);
		hear_join(stays.sock, id, 1, NULL);
		hear_leave(stays.sock, id);
	}
}

/* @last: that a peer gets; a slot bears the one behind it, if there is one. */
static void ids_run_out(int last)
{
	static const uint64_t format = VINE_FORMAT(16, 32);
	const uint64_t slot = VINE_PEER(1, last + 1, 1, VINE_PEER_GONE);
	struct client stays, c;
	struct server s;
	int sock;

	start(&s, "--size", "8M", "--quiet");
	join(&stays, 1, 0, 0);
	for (int id = 1; id <= last; id++) {
		sock = dial(SOCK);
		if (id % 32 == 0) {
			unsigned char bytes[8];
			int fd;

			CHECK(hear_raw(sock, bytes, &fd) && hear_raw(sock, bytes, &fd));
			CHECK((bytes[0] | bytes[1] << 8) == id);
		}
		close(sock);
	}
	if (last < 65535)
		CHECK(pwrite(stays.mem, &format, 8, VINE_OFF_HEADER) == 8 &&
		      pwrite(stays.mem, &slot, 8, VINE_OFF_PEERS) == 8);
	sock = dial(SOCK);
	hear_refusal(sock);
	CHECK(said(&s, "refused") && said(&s, "IDs are used up"));
	/* When the one that stays has left too, all starts again. */
	close(stays.sock);
	do {	/* the server hears of that in its own time */
		int64_t value;
		int fd;

		sock = dial(SOCK);
		if (hear(sock, &value, &fd) && value == 0 && hear(sock, &value, &fd)) {
			CHECK(value == 0);
			break;
		}
		close(sock);
	} while (true);
	join(&c, 1, 1, 0);
	CHECK(c.id == 1);
}

static void test_ids_run_out(void)
{
	ids_run_out(65535);
}

static void test_last_id_in_slot(void)
{
	ids_run_out(65534);
}

static void test_65th(void)
{
	static struct client c[MAX_PEERS];
	int others[MAX_PEERS], sock;
	struct client more;
	struct server s;

	start_small(&s);
	for (int i = 0; i < MAX_PEERS; i++) {
		others[i] = i;
		join_at(SOCK, &c[i], 1, i, others);
		CHECK(c[i].id == i);
	}
	sock = dial(SOCK);
	hear_refusal(sock);
	CHECK(said(&s, "refused") && said(&s, "stop one"));
	for (int i = 0; i < MAX_PEERS; i++) {
		for (int j = i + 1; j < MAX_PEERS; j++)
			hear_join(c[i].sock, j, 1, c[i].other[j - 1].event);
		CHECK(!readable(c[i].sock, 0));
	}
	check_doorbells(&c[63], &c[0], 1);
	/* One leaves, one may join, and the refused one has not used up an ID. */
	close(c[7].sock);
	for (int i = 0; i < MAX_PEERS; i++)
		if (i != 7)
			hear_leave(c[i].sock, 7);
	for (int i = 7; i < MAX_PEERS - 1; i++)
		others[i]++;
	join_at(SOCK, &more, 1, MAX_PEERS - 1, others);
	CHECK(more.id == 64);
}

/* What a client has been told so far: how many doorbells of each ID. */
struct story {
	int sock, vectors;
	unsigned char told[512];
};

/* The next message must make sense after the others. */
static void hear_story(struct story *s)
{
	int64_t value;
	int fd;

	CHECK(hear(s->sock, &value, &fd));
	CHECK(value >= 0 && value < (int64_t)sizeof(s->told));
	if (fd >= 0) {
		CHECK(close(fd) == 0);
		CHECK(s->told[value]++ < s->vectors);
	} else {
		CHECK(s->told[value] > 0);
		s->told[value] = 0;
	}
}

static void story_begin(struct story *s, int vectors)
{
	*s = (struct story){ .sock = dial(SOCK), .vectors = vectors };
}

static void story_skip_start(struct story *s)
{
	int64_t value;
	int fd;

	for (int i = 0; i < 3; i++)
		CHECK(hear(s->sock, &value, &fd));
	CHECK(value == -1 && fd >= 0);
	close(fd);
}

/* Hears the rest: @last is the last one that joined, and just @alive are there. */
static void story_end(struct story *s, int last, const int *alive, int nr_alive)
{
	while (s->told[last] < s->vectors)
		hear_story(s);
	CHECK(!readable(s->sock, 0));
	for (int id = 0; id < (int)sizeof(s->told); id++) {
		bool lives = false;

		for (int i = 0; i < nr_alive; i++)
			lives |= alive[i] == id;
		CHECK(s->told[id] == (lives ? s->vectors : 0));
	}
}

static void test_sleeper(void)
{
	struct story sleeper;
	struct client a, b;
	struct server s;

	start(&s, "--size", "8M", "--vectors", "64", "--quiet");
	join(&a, 64, 0, 0);
	story_begin(&sleeper, 64);
	hear_join(a.sock, 1, 64, NULL);
	/* It reads nothing while the others come and go. */
	for (int id = 2; id < 202; id++) {
		int sock = join_light(64, 2);

		hear_join(a.sock, id, 64, NULL);
		if (id == 201)
			break;
		close(sock);
		hear_leave(a.sock, id);
	}
	join(&b, 64, 3, 0, 1, 201);
	CHECK(b.id == 202);
	check_doorbells(&b, &a, 64);
	/* It wakes up, and all is well. */
	story_skip_start(&sleeper);
	story_end(&sleeper, 202, (int[]){ 0, 1, 201, 202 }, 4);
}

/* The sockets of sleepers are full, each at another message, when peers leave. */
static void test_half_told(void)
{
	enum { PEERS = 20, SLEEPERS = 16, VECTORS = 5 };
	static struct story sleeper[SLEEPERS];
	int peer[PEERS], alive[SLEEPERS + 3], nr_alive = 0, id = 1;
	struct client a;
	struct server s;

	start(&s, "--size", "8M", "--vectors", "5", "--quiet");
	join(&a, VECTORS, 0, 0);
	alive[nr_alive++] = 0;
	for (int i = 0; i < PEERS; i++) {
		peer[i] = dial(SOCK);
		hear_join(a.sock, id++, VECTORS, NULL);
	}
	for (int i = 0; i < SLEEPERS; i++) {
		story_begin(&sleeper[i], VECTORS);
		story_skip_start(&sleeper[i]);
		alive[nr_alive++] = id;
		hear_join(a.sock, id++, VECTORS, NULL);
		for (int n = 0; n < i; n++)
			hear_story(&sleeper[i]);
	}
	for (int i = 0; i < PEERS; i++) {
		close(peer[i]);
		hear_leave(a.sock, i + 1);
		for (int j = 0; j < SLEEPERS / 2; j++)
			hear_story(&sleeper[j]);
	}
	dial(SOCK);
	alive[nr_alive++] = id;
	hear_join(a.sock, id, VECTORS, NULL);
	for (int i = 0; i < SLEEPERS; i++)
		story_end(&sleeper[i], id, alive, nr_alive);
}

/*
 * Descriptors in flight count against RLIMIT_NOFILE: however little of that there is,
 * sleepers must leave enough to serve the one who reads.
 */
static void test_sleepers_in_flight(void)
{
	const struct before b = { .nofile = 4400 };
	struct server s;

	become_unprivileged();
	start_as(&s, vine_server, &b, "--socket", SOCK, "--size", "8M", "--vectors", "64",
		 "--quiet", NULL);
	for (int i = 0; i < MAX_PEERS - 1; i++)
		dial(SOCK);
	join_light(64, MAX_PEERS - 1);
}

/* When there is no room for one more descriptor in flight, it is sent later. */
static void test_in_flight_full(void)
{
	struct rlimit few, old;
	struct server s;
	int64_t value;
	int fd, sock, n = 0;

	become_unprivileged();
	start(&s, "--size", "8M", "--vectors", "64", "--verbose");
	dial(SOCK);
	CHECK(said(&s, "peer 0 joined"));
	sock = dial(SOCK);
	CHECK(said(&s, "peer 1 joined"));
	CHECK(!prlimit(s.pid, RLIMIT_NOFILE, NULL, &old));
	few = (struct rlimit){ 20, old.rlim_max };
	CHECK(!prlimit(s.pid, RLIMIT_NOFILE, &few, NULL));
	for (; readable(sock, 0); n++) {
		CHECK(hear(sock, &value, &fd));
		close(fd);
	}
	CHECK(said(&s, "peer 1 must wait"));
	CHECK(!prlimit(s.pid, RLIMIT_NOFILE, &old, NULL));
	for (; n < 3 + 2 * 64; n++) {
		CHECK(hear(sock, &value, &fd));
		close(fd);
	}
	CHECK(said(&s, "peer 1 has been told everything"));
}

static void test_nonsense(void)
{
	struct client a, b;
	struct server s;
	int sock;

	start_small(&s);
	join(&a, 1, 0, 0);
	sock = dial(SOCK);
	hear_join(a.sock, 1, 1, NULL);
	CHECK(send(sock, "GET / HTTP/1.0\r\n\r\n", 18, 0) == 18);
	hear_leave(a.sock, 1);
	CHECK(said(&s, "peer 1 dropped"));
	while (recv(sock, &(char){ 0 }, 1, 0) > 0)
		;
	join(&b, 1, 1, 0);
	CHECK(b.id == 2);
	check_doorbells(&b, &a, 1);
}

static void test_half_closed(void)
{
	struct client a;
	struct server s;
	int sock;

	start_small(&s);
	join(&a, 1, 0, 0);
	sock = dial(SOCK);
	hear_join(a.sock, 1, 1, NULL);
	CHECK(!shutdown(sock, SHUT_WR));
	hear_leave(a.sock, 1);
}

static void test_vectors(void)
{
	static const int counts[] = { 1, 2, 63, 64 };

	for (int i = 0; i < 4; i++) {
		struct client a, b;
		struct server s;
		char n[8];

		snprintf(n, sizeof(n), "%d", counts[i]);
		start(&s, "--size", "8M", "--vectors", n);
		join(&a, counts[i], 0, 0);
		CHECK(!readable(a.sock, 0));
		join(&b, counts[i], 1, 0);
		hear_join(a.sock, 1, counts[i], NULL);
		CHECK(!readable(a.sock, 0));
		CHECK(stop(&s, SIGTERM) == 0);
	}
}

static void test_all_of_everything(void)
{
	struct server s;

	start(&s, "--size", "8M", "--vectors", "64", "--quiet");
	for (int i = 0; i < MAX_PEERS; i++)
		join_light(64, i);
}

static void test_size(void)
{
	static const struct {
		const char *option;
		off_t size;
	} sizes[] = {
		{ "8M", 8 << 20 }, { "16777216", 16 << 20 }, { "16384k", 16 << 20 },
		{ "1G", 1 << 30 }, { "8g", 8LL << 30 },
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct client c;
		struct server s;
		struct stat st;

		start(&s, "--size", sizes[i].option);
		join(&c, 1, 0, 0);
		CHECK(!fstat(c.mem, &st));
		CHECK(st.st_size == sizes[i].size);
		CHECK(st.st_blocks == 0);	/* nothing is used before it is touched */
		CHECK(stop(&s, SIGTERM) == 0);
	}
}

static void test_memory_shared(void)
{
	struct client a, b;
	char *ma, *mb;
	struct server s;

	start_small(&s);
	join(&a, 1, 0, 0);
	join(&b, 1, 1, 0);
	ma = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, a.mem, 0);
	mb = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, b.mem, 0);
	CHECK(ma != MAP_FAILED && mb != MAP_FAILED);
	CHECK(!memchr(ma, 1, 8 << 20));
	strcpy(ma + 4000000, "hello");
	CHECK(!strcmp(mb + 4000000, "hello"));
}

static void test_memory_sealed(void)
{
	struct client c;
	struct server s;

	start_small(&s);
	join(&c, 1, 0, 0);
	CHECK(ftruncate(c.mem, 0) == -1 && errno == EPERM);
	CHECK(ftruncate(c.mem, 16 << 20) == -1 && errno == EPERM);
}

/* ---- what who starts it sees ---- */

static void test_file_kept(void)
{
	struct client c;
	struct server s;
	struct stat st;
	char text[6];

	start(&s, "--size", "8M", "--file", "mem");
	join(&c, 1, 0, 0);
	CHECK(!stat("mem", &st) && st.st_size == 8 << 20 && (st.st_mode & 0777) == 0600);
	CHECK(pwrite(c.mem, "hello", 6, 1000000) == 6);
	close(c.mem);
	CHECK(stop(&s, SIGTERM) == 0);
	start(&s, "--size", "8M", "--file", "mem");
	join(&c, 1, 0, 0);
	CHECK(pread(c.mem, text, 6, 1000000) == 6 && !strcmp(text, "hello"));
}

static void make_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static bool file_holds(const char *path, const char *text)
{
	char buf[64] = "";
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);

	close(fd);
	return n == (ssize_t)strlen(text) && !strcmp(buf, text);
}

static void test_file_wrong_size(void)
{
	struct server s;
	struct stat st;

	make_file("mem", "something of value");
	CHECK(refusal(&s, "--socket", SOCK, "--size", "8M", "--file", "mem") == 1);
	CHECK(strstr(s.said, "--file mem") && strstr(s.said, "remove it"));
	CHECK(file_holds("mem", "something of value"));
	CHECK(access(SOCK, F_OK));
	CHECK(!truncate("mem", 16 << 20));
	CHECK(refusal(&s, "--socket", SOCK, "--size", "8M", "--file", "mem") == 1);
	CHECK(!stat("mem", &st) && st.st_size == 16 << 20);
}

static void test_file_not_regular(void)
{
	struct server s;

	CHECK(!mkdir("dir", 0700) && !mkfifo("fifo", 0600) && !symlink("target", "link"));
	CHECK(refusal(&s, "--socket", SOCK, "--size", "8M", "--file", "dir") == 1);
	CHECK(refusal(&s, "--socket", SOCK, "--size", "8M", "--file", "fifo") == 1);
	CHECK(strstr(s.said, "not a regular file"));
	CHECK(refusal(&s, "--socket", SOCK, "--size", "8M", "--file", "link") == 1);
	CHECK(strstr(s.said, "symbolic link"));
	CHECK(access("target", F_OK));
}

/* Of a memory; little-endian machines only, as vine. */
struct word {
	off_t at;
	uint64_t word;
};

/* "mem", of @size bytes, in which these stand. */
static bool make_memory(off_t size, const struct word *words, size_t count)
{
	int fd = open("mem", O_RDWR | O_CREAT, 0600);
	bool good = fd >= 0 && !ftruncate(fd, size);

	for (; good && count; words++, count--)
		good = pwrite(fd, &words->word, 8, words->at) == 8;
	close(fd);
	return good;
}

/* A driver that finds its own ID in a slot takes the former owner for dead. */
static void test_ids_in_segment(void)
{
	static const struct word words[] = {
		{ VINE_OFF_HEADER, VINE_FORMAT(16, 32) },
		{ VINE_OFF_PEERS, VINE_PEER(1, 1, 1, VINE_PEER_FREE) },
		{ VINE_OFF_PEERS + 3 * sizeof(struct vine_wire_peer),
		  VINE_PEER(1, 0, 1, VINE_PEER_GONE) },
		{ VINE_OFF_PEERS + 63 * sizeof(struct vine_wire_peer),
		  VINE_PEER(7, 2, 1, VINE_PEER_LIVE) },
	};
	struct client a, b;
	struct server s;

	CHECK(make_memory(8 << 20, words, sizeof(words) / sizeof(*words)));
	start(&s, "--size", "8M", "--file", "mem");
	join(&a, 1, 0, 0);
	CHECK(a.id == 1);
	join(&b, 1, 1, 1);
	CHECK(b.id == 3);
}

/* A VM wrote it, and it cannot be: more chunks than there is memory. */
static void test_ids_of_no_segment(void)
{
	static const struct word words[] = {
		{ VINE_OFF_HEADER, VINE_FORMAT(16, 1000) },
		{ VINE_OFF_PEERS, VINE_PEER(1, 0, 1, VINE_PEER_LIVE) },
	};
	struct client a;
	struct server s;

	CHECK(make_memory(8 << 20, words, sizeof(words) / sizeof(*words)));
	start(&s, "--size", "8M", "--file", "mem");
	join(&a, 1, 0, 0);
	CHECK(a.id == 0);
}

/* The memory is split: three segments, and what users have written in the first. */
static void test_ids_in_parts(void)
{
#define PART(at, id)							\
	{ (at), VINE_FORMAT(16, 128) },					\
	{ (at) + VINE_OFF_PEERS, VINE_PEER(1, id, 1, VINE_PEER_LIVE) }
	static const struct word words[] = {
		/* 0x410000 and 128 chunks of 64K are 0xc10000 bytes */
		PART(0, 1), PART(8 << 20, 0), PART(0xc10000, 2), PART(30 << 20, 4),
	};
	struct client a, b, c;
	struct server s;

	CHECK(make_memory(64 << 20, words, sizeof(words) / sizeof(*words)));
	start(&s, "--size", "64M", "--file", "mem");
	join(&a, 1, 0, 0);
	CHECK(a.id == 0);
	join(&b, 1, 1, 0);
	CHECK(b.id == 3);
	join(&c, 1, 2, 0, 3);
	CHECK(c.id == 5);
}

static void test_file_in_use(void)
{
	struct client c;
	struct server s, t;

	start(&s, "--size", "8M", "--file", "mem");
	join(&c, 1, 0, 0);
	CHECK(refusal(&t, "--socket", "t", "--size", "8M", "--file", "mem") == 1);
	CHECK(strstr(t.said, "in use"));
	/* The server is gone, but a VM still has the memory. */
	CHECK(stop(&s, SIGKILL) == -SIGKILL);
	CHECK(refusal(&t, "--socket", "t", "--size", "8M", "--file", "mem") == 1);
	close(c.mem);
	start(&s, "--size", "8M", "--file", "mem");
}

static void test_file_no_room(void)
{
	struct server s;

	CHECK(refusal(&s, "--socket", SOCK, "--size", "4096T", "--file", "mem") == 1);
	CHECK(strstr(s.said, "--file mem") && strstr(s.said, "smaller --size"));
	CHECK(access("mem", F_OK));	/* what it had created is removed */
}

static void test_hugepages(void)
{
	struct server s;

	CHECK(refusal(&s, "--socket", SOCK, "--size", "512T", "--hugepages") == 1);
	CHECK(strstr(s.said, "--hugepages"));
	CHECK(strstr(s.said, "nr_hugepages"));
	CHECK(access(SOCK, F_OK));
}

static void test_live_socket(void)
{
	struct client a, b;
	struct server s, t;

	start_small(&s);
	join(&a, 1, 0, 0);
	CHECK(refusal(&t, "--socket", SOCK, "--size", "8M") == 1);
	CHECK(strstr(t.said, "another server is listening on " SOCK));
	/* The other server is where it was and has noticed nothing. */
	join(&b, 1, 1, 0);
	CHECK(b.id == 1);
	hear_join(a.sock, 1, 1, NULL);
}

static void test_stale_socket(void)
{
	struct client c;
	struct server s;

	start_small(&s);
	CHECK(stop(&s, SIGKILL) == -SIGKILL);
	CHECK(!access(SOCK, F_OK));
	start_small(&s);
	join(&c, 1, 0, 0);
}

static void test_not_a_socket(void)
{
	struct server s;
	struct stat st;

	make_file(SOCK, "something of value");
	CHECK(refusal(&s, "--socket", SOCK, "--size", "8M") == 1);
	CHECK(strstr(s.said, "not a socket") && strstr(s.said, "--socket " SOCK));
	CHECK(file_holds(SOCK, "something of value"));
	CHECK(!symlink("nowhere", "link"));
	CHECK(refusal(&s, "--socket", "link", "--size", "8M") == 1);
	CHECK(!lstat("link", &st) && S_ISLNK(st.st_mode) && access("nowhere", F_OK));
}

static void test_socket_mode(void)
{
	struct server s;
	struct stat st;

	umask(0);
	start_small(&s);
	CHECK(!stat(SOCK, &st) && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0600);
}

static void clean_stop(int signo)
{
	struct client c;
	struct server s;
	char pid[16];

	start(&s, "--size", "8M", "--pidfile", "pid");
	snprintf(pid, sizeof(pid), "%d\n", s.pid);
	CHECK(file_holds("pid", pid));
	join(&c, 1, 0, 0);
	CHECK(stop(&s, signo) == 0);
	CHECK(access(SOCK, F_OK) && errno == ENOENT);
	CHECK(access("pid", F_OK) && errno == ENOENT);
	hear_end(c.sock);
}

static void test_sigterm(void)
{
	clean_stop(SIGTERM);
}

static void test_sigint(void)
{
	clean_stop(SIGINT);
}

static void test_not_my_socket(void)
{
	struct server s, t;
	struct client c;

	start_small(&s);
	CHECK(!rename(SOCK, "moved"));
	start_small(&t);
	CHECK(stop(&s, SIGTERM) == 0);
	join(&c, 1, 0, 0);
}

static void test_pidfile(void)
{
	struct server s, t;

	make_file("pid", "12345\n");	/* of a server that was killed */
	start(&s, "--size", "8M", "--pidfile", "pid");
	CHECK(refusal(&t, "--socket", "t", "--size", "8M", "--pidfile", "pid") == 1);
	CHECK(strstr(t.said, "--pidfile pid") && access("t", F_OK));
	CHECK(stop(&s, SIGTERM) == 0);
	make_file("precious", "something of value");
	CHECK(refusal(&t, "--socket", "t", "--size", "8M", "--pidfile", "precious") == 1);
	CHECK(strstr(t.said, "--pidfile precious") && file_holds("precious", "something of value"));
}

static void test_bad_options(void)
{
	static const char *const bad[][3] = {
		{ "--frobnicate", NULL, "--frobnicate" }, { "-z", NULL, "z" },
		{ "surplus", NULL, "surplus" }, { "--socket", "", "--socket" },
		{ "--size", "", "--size" }, { "--size", "0", "--size 0" },
		{ "--size", "4M", "--size 4M" }, { "--size", "5M", "--size 5M" },
		{ "--size", "-8M", "--size -8M" }, { "--size", " 8M", "--size  8M" },
		{ "--size", "4X", "--size 4X" }, { "--size", "4MB", "--size 4MB" },
		{ "--size", "M", "--size M" }, { "--size", "0x400000", "--size 0x400000" },
		{ "--size", "8388608T", "--size 8388608T" },
		{ "--size", "18446744073709551616", "--size 18446744073709551616" },
		{ "--vectors", "0", "--vectors 0" }, { "--vectors", "65", "--vectors 65" },
		{ "--vectors", "-1", "--vectors -1" }, { "--vectors", "1x", "--vectors 1x" },
		{ "--vectors", "", "--vectors" }, { "--vectors", "4294967297", "--vectors" },
		{ "--ready-fd", "999", "--ready-fd 999" }, { "--ready-fd", "a", "--ready-fd a" },
		{ "--file", "", "--file" }, { "--pidfile", "", "--pidfile" },
		{ "--hugepages", "--file=mem", "--hugepages" }, { "--quiet=1", NULL, "--quiet" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct server s;

		printf("# %s %s\n", bad[i][0], bad[i][1] ? bad[i][1] : "");
		CHECK(refusal(&s, "--socket", SOCK, bad[i][0], bad[i][1]) == 2);
		CHECK(strstr(s.said, bad[i][2]));
		CHECK(access(SOCK, F_OK) && access("mem", F_OK));
	}
}

static void test_path_length(void)
{
	char path[109];
	struct client c;
	struct server s;

	memset(path, 'p', 108);
	path[108] = 0;
	CHECK(refusal(&s, "--socket", path, "--size", "8M") == 2);
	CHECK(strstr(s.said, "--socket ppp") && strstr(s.said, "107"));
	path[107] = 0;
	start_as(&s, vine_server, NULL, "--socket", path, "--size", "8M", NULL);
	join_at(path, &c, 1, 0, NULL);
	CHECK(stop(&s, SIGTERM) == 0);
	CHECK(access(path, F_OK));
}

static void test_nofile(void)
{
	const struct before few = { .nofile = 3100 }, fewer = { .nofile = 3000 };
	struct server s;

	become_unprivileged();
	CHECK(refusal_as(&s, &few, "--socket", SOCK, "--size", "8M", "--vectors", "64", NULL) == 1);
	CHECK(strstr(s.said, "LimitNOFILE") && strstr(s.said, "--vectors"));
	/* One vector needs few eventfds, but others are in flight. */
	CHECK(refusal_as(&s, &fewer, "--socket", SOCK, "--size", "8M", NULL) == 1);
	start_as(&s, vine_server, &few, "--socket", SOCK, "--size", "8M", NULL);
	for (int i = 0; i < MAX_PEERS; i++)
		join_light(1, i);	/* and reads no more */
}

static long long cpu_ms(pid_t pid)
{
	long long user, sys;
	char path[64], buf[1024];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	CHECK(n > 0);
	buf[n] = 0;
	CHECK(sscanf(strrchr(buf, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld",
		     &user, &sys) == 2);
	return (user + sys) * 1000 / sysconf(_SC_CLK_TCK);
}

static void test_no_descriptors(void)
{
	struct rlimit none = { 0 }, old;
	struct client a, b;
	struct server s;
	long long cpu;
	int sock;

	start_small(&s);
	join(&a, 1, 0, 0);
	CHECK(!prlimit(s.pid, RLIMIT_NOFILE, NULL, &old));
	none.rlim_max = old.rlim_max;
	CHECK(!prlimit(s.pid, RLIMIT_NOFILE, &none, NULL));
	sock = dial(SOCK);
	CHECK(said(&s, "cannot accept"));
	cpu = cpu_ms(s.pid);
	CHECK(!readable(sock, 1000));	/* measures a second, waits for nothing */
	CHECK(cpu_ms(s.pid) - cpu < 200);
	CHECK(!prlimit(s.pid, RLIMIT_NOFILE, &old, NULL));
	hear_join(a.sock, 1, 1, NULL);
	join(&b, 1, 2, 0, 1);
	CHECK(said(&s, "peer 2 joined"));
	CHECK(!strstr(strstr(s.said, "cannot accept") + 1, "cannot accept"));
}

/* It can accept, but not create all the doorbells. */
static void test_few_descriptors(void)
{
	struct rlimit few = { 0 }, old;
	struct client a, b;
	struct server s;
	int highest, n;

	start(&s, "--size", "8M", "--vectors", "64");
	join(&a, 64, 0, 0);
	CHECK(!prlimit(s.pid, RLIMIT_NOFILE, NULL, &old));
	n = open_fds(s.pid, &highest);
	few = (struct rlimit){ highest + 20, old.rlim_max };
	CHECK(!prlimit(s.pid, RLIMIT_NOFILE, &few, NULL));
	hear_refusal(dial(SOCK));
	CHECK(said(&s, "refused"));
	CHECK(!prlimit(s.pid, RLIMIT_NOFILE, &old, NULL));
	CHECK(open_fds(s.pid, &highest) == n);
	join(&b, 64, 1, 0);
	CHECK(b.id == 1);
}

static void test_no_leaks(void)
{
	struct client a;
	struct server s;
	int before, highest;

	start(&s, "--size", "8M", "--vectors", "8", "--quiet");
	join(&a, 8, 0, 0);
	before = open_fds(s.pid, &highest);
	for (int id = 1; id <= 1000; id++) {
		int sock = dial(SOCK);

		hear_join(a.sock, id, 8, NULL);
		if (id % 4 == 1) {	/* sends nonsense with a descriptor in it */
			union {
				char room[CMSG_SPACE(sizeof(int))];
				struct cmsghdr hdr;
			} control = { .hdr = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
			struct iovec iov = { "x", 1 };
			struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
				.msg_control = &control, .msg_controllen = sizeof(control.room) };

			memcpy(CMSG_DATA(&control.hdr), &a.mem, sizeof(int));
			CHECK(sendmsg(sock, &msg, 0) == 1);
			hear_leave(a.sock, id);
			close(sock);
		} else {
			close(sock);
			hear_leave(a.sock, id);
		}
	}
	CHECK(open_fds(s.pid, &highest) == before);	/* it closes first, then announces */
	CHECK(stop(&s, SIGTERM) == 0);
}

static void test_no_stdio(void)
{
	const struct before closed = { .no_stdio = true };
	struct client c;
	struct server s;
	char path[64], target[64];
	ssize_t n;

	start_as(&s, vine_server, &closed, "--socket", SOCK, "--size", "8M", NULL);
	join(&c, 1, 0, 0);
	for (int fd = 0; fd < 3; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", s.pid, fd);
		n = readlink(path, target, sizeof(target) - 1);
		CHECK(n > 0);
		target[n] = 0;
		CHECK(!strcmp(target, "/dev/null"));
	}
}

static void test_log_reader_gone(void)
{
	struct client a, b;
	struct server s;

	start_small(&s);
	close(s.err);
	join(&a, 1, 0, 0);
	join(&b, 1, 1, 0);
}

static void test_help(void)
{
	CHECK(!system("test \"$VINE_SERVER\" && $VINE_SERVER --help | grep -q -e --ready-fd"));
	CHECK(!system("$VINE_SERVER --version | grep -q '^vine-server [0-9]'"));
}

/* ---- the foreign server, which other tests rely upon ---- */

static void test_foreign_handshake(void)
{
	if (!foreign_server)
		skip("no foreign server given");
	handshake(foreign_server);
}

static void test_foreign_doorbells(void)
{
	struct client a, b, c;
	struct server s;

	if (!foreign_server)
		skip("no foreign server given");
	start_as(&s, foreign_server, NULL, "--socket", SOCK, "--vectors", "4", NULL);
	join(&a, 4, 0, 0);
	join(&b, 4, 1, 0);
	check_doorbells(&b, &a, 4);
	hear_join(a.sock, 1, 4, NULL);
	close(b.sock);
	hear_leave(a.sock, 1);
	join(&c, 4, 1, 0);
	CHECK(c.id == 2);
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "the handshake: order, byte order, descriptors", test_handshake },
	{ "doorbells work both ways, also without the server", test_doorbells },
	{ "a full doorbell does not block", test_full_doorbell },
	{ "who joins is announced to the others", test_join },
	{ "who leaves is announced to the others", test_leave },
	{ "no ID is used again while a VM stays", test_ids_grow },
	{ "when the IDs have run out VMs are refused until all have left", test_ids_run_out },
	{ "the same when a slot bears the last ID", test_last_id_in_slot },
	{ "64 VMs join, the 65th is refused, the others are unharmed", test_65th },
	{ "a VM that does not read blocks nobody and misses nothing", test_sleeper },
	{ "a VM that has been told half misses nothing", test_half_told },
	{ "63 VMs that do not read leave descriptors in flight for the 64th",
	  test_sleepers_in_flight },
	{ "with too many descriptors in flight it waits and goes on", test_in_flight_full },
	{ "who sends nonsense is dropped, the others live on", test_nonsense },
	{ "who closes one direction has left", test_half_closed },
	{ "--vectors is honoured", test_vectors },
	{ "64 VMs with 64 vectors each", test_all_of_everything },
	{ "--size is honoured", test_size },
	{ "all VMs have the same memory, zeroed", test_memory_shared },
	{ "no VM can change the memory's size", test_memory_sealed },
	{ "--file is kept and used again", test_file_kept },
	{ "--file of another size is refused and untouched", test_file_wrong_size },
	{ "--file that is no regular file is refused", test_file_not_regular },
	{ "IDs that slots of the segment bear are not handed out", test_ids_in_segment },
	{ "but those of what cannot be a segment are", test_ids_of_no_segment },
	{ "nor those of any segment of a memory that is split", test_ids_in_parts },
	{ "--file that others still use is refused", test_file_in_use },
	{ "--file without room is refused and removed", test_file_no_room },
	{ "--hugepages without huge pages says how to get some", test_hugepages },
	{ "a live socket is refused, its server does not notice", test_live_socket },
	{ "a stale socket is replaced", test_stale_socket },
	{ "what is not a socket is refused and left alone", test_not_a_socket },
	{ "the socket has mode 0600", test_socket_mode },
	{ "SIGTERM cleans up", test_sigterm },
	{ "SIGINT cleans up", test_sigint },
	{ "a socket that another server has put there is left alone", test_not_my_socket },
	{ "--pidfile replaces a stale one only", test_pidfile },
	{ "bad options: exit status 2 and the option's name", test_bad_options },
	{ "a path of 107 bytes works, a longer one is refused", test_path_length },
	{ "too low a limit of open files is refused", test_nofile },
	{ "without descriptors it neither spins nor gives up", test_no_descriptors },
	{ "with too few descriptors it refuses and leaks none", test_few_descriptors },
	{ "1000 joins leak no descriptor", test_no_leaks },
	{ "closed standard descriptors do no harm", test_no_stdio },
	{ "a log that nobody reads does no harm", test_log_reader_gone },
	{ "--help and --version", test_help },
	{ "foreign server: the handshake", test_foreign_handshake },
	{ "foreign server: doorbells, IDs grow", test_foreign_doorbells },
};

static int run_in_child(int i, const char *top)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		char dir[16];

		snprintf(dir, sizeof(dir), "%d", i);
		if (chdir(top) || mkdir(dir, 0700) || chdir(dir)) {
			perror(top);
			_exit(FAIL);
		}
		alarm(TEST_LIMIT_S);
		tests[i].run();
		fflush(stdout);
		_exit(PASS);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return FAIL;
	if (WIFSIGNALED(status))
		printf("# ended by signal %d\n", WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : FAIL;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

int main(int argc, char **argv)
{
	const int n = sizeof(tests) / sizeof(*tests);
	char top[] = "/tmp/vine-server-test.XXXXXX";
	struct rlimit r;
	int failed = 0;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "Usage: %s VINE-SERVER [FOREIGN-SERVER]\n", argv[0]);
		return 2;
	}
	vine_server = realpath(argv[1], NULL);
	foreign_server = argc > 2 ? realpath(argv[2], NULL) : NULL;
	if (!vine_server || (argc > 2 && !foreign_server) || !mkdtemp(top)) {
		perror(argv[0]);
		return 1;
	}
	setenv("VINE_SERVER", vine_server, 1);
	/* 64 clients have 64 * 64 doorbells. */
	getrlimit(RLIMIT_NOFILE, &r);
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);

	printf("TAP version 13\n1..%d\n", n);
	for (int i = 0; i < n; i++) {
		int result = run_in_child(i, top);

		failed += result != PASS && result != SKIP;
		printf("%sok %d - %s%s\n", result == PASS || result == SKIP ? "" : "not ", i + 1,
		       tests[i].name, result == SKIP ? " # SKIP" : "");
	}
	nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return failed ? 1 : 0;
}
