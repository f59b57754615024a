// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * server_test.c - an endpoint whose ivshmem server lies, is silent, or forgets
 *
 * The server is a thread here, and a machine in the segment is what it says of one.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <linux/sockios.h>
#include <linux/vine_wire.h>
#include <vine.h>

#include "descriptors.h"
#include "tap.h"

#define SIZE	(16 << 20)
#define SELF	3	/* the ID that is given */
#define MACHINE	7	/* that of another peer */

struct server {
	char path[64], name[80];
	int listener, to;	/* @to: the client */
	int memory, own, other;	/* eventfds: the client's, the machine's */
	unsigned char *base;
	void (*says)(struct server *s);
	pthread_t thread;
};

/* ---- the protocol ---- */

/* @bytes of @value, with @n descriptors. False: nobody is there any more. */
static bool say(int to, const void *value, size_t bytes, const int *fds, int n)
{
	union {
		char room[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { (void *)value, bytes };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (n) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		*c = (struct cmsghdr){ CMSG_LEN(n * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	return sendmsg(to, &msg, MSG_NOSIGNAL) == (ssize_t)bytes;
}

static void tell(struct server *s, int64_t value, int fd)
{
	EXPECT(say(s->to, &value, sizeof(value), &fd, fd >= 0));
}

/* It may have been refused already. */
static void try_to_tell(struct server *s, int64_t value, int fd)
{
	say(s->to, &value, sizeof(value), &fd, fd >= 0);
}

static void begin(struct server *s)
{
	tell(s, 0, -1);
	tell(s, SELF, -1);
	tell(s, -1, s->memory);
}

/* As it should be: a machine, and one vector each. */
static void greets(struct server *s)
{
	begin(s);
	tell(s, MACHINE, s->other);
	tell(s, SELF, s->own);
}

/* Until the client has read what was said. */
static void all_read(struct server *s)
{
	uint64_t until = vine_deadline_ms(10000);
	int left = 1;

	while (!ioctl(s->to, SIOCOUTQ, &left) && left && vine_deadline_ms(0) < until)
		poll(NULL, 0, 1);
	EXPECT(!left);
}

/* All but the last of what was said is known when that has been read. */
static void heard(struct server *s)
{
	tell(s, 60000, -1);	/* somebody has left who never came */
	all_read(s);
}

/* ---- scenes ---- */

static void server_begin(struct server *s)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	static atomic_uint count;

	*s = (struct server){ .to = -1 };
	snprintf(s->path, sizeof(s->path), "/tmp/vine-server-test-%d-%u.sock", getpid(),
		 atomic_fetch_add(&count, 1));
	snprintf(s->name, sizeof(s->name), "server:%s", s->path);
	strcpy(address.sun_path, s->path);
	unlink(s->path);
	s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	EXPECT(!bind(s->listener, (struct sockaddr *)&address, sizeof(address)) &&
	       !listen(s->listener, 4));
	s->memory = memfd_create("vine", MFD_CLOEXEC);
	EXPECT(!ftruncate(s->memory, SIZE));
	s->base = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, s->memory, 0);
	EXPECT(s->base != MAP_FAILED);
	s->own = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static void hang_up(struct server *s)
{
	if (s->to >= 0)
		close(s->to);
	s->to = -1;
}

static void server_end(struct server *s)
{
	hang_up(s);
	munmap(s->base, SIZE);
	close(s->memory);
	close(s->own);
	close(s->other);
	close(s->listener);
	unlink(s->path);
}

static void *server_thread(void *arg)
{
	struct server *s = arg;

	s->to = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
	s->says(s);
	return NULL;
}

static int open_while(struct server *s, void (*says)(struct server *s))
{
	int device;

	s->says = says;
	pthread_create(&s->thread, NULL, server_thread, s);
	device = vine_open(s->name);
	pthread_join(s->thread, NULL);
	return device;
}

static struct vine_wire_peer *slot(struct server *s, unsigned int n)
{
	return (struct vine_wire_peer *)(s->base + VINE_OFF_PEERS) + n;
}

/* A machine joins, as its driver would. */
static void machine_joins(struct server *s, unsigned int id)
{
	__atomic_store_n(&slot(s, 2 + id)->word,
			 VINE_PEER(1, id, 1, VINE_PEER_LIVE) | VINE_PEER_UNIQUE, __ATOMIC_SEQ_CST);
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* Somebody rings the endpoint, in slot 0, by its eventfd: does it take that, and look? */
static bool looks_when_rung(struct server *s)
{
	struct vine_wire_peer *self = slot(s, 0);
	uint64_t one = 1, until = vine_deadline_ms(10000), bits = 1;

	__atomic_fetch_or(&self->leaf[VINE_LEAF_TABLES], 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_or(&self->vector[0].summary[VINE_LEAF_TABLES / 64],
			  1ULL << VINE_LEAF_TABLES % 64, __ATOMIC_SEQ_CST);
	EXPECT(write(s->own, &one, sizeof(one)) == sizeof(one));
	while ((bits || readable(s->own)) && vine_deadline_ms(0) < until) {
		poll(NULL, 0, 1);
		bits = __atomic_load_n(&self->leaf[VINE_LEAF_TABLES], __ATOMIC_SEQ_CST);
	}
	return !bits && !readable(s->own);
}

/* It is refused, and leaves nothing behind. */
static bool refused(void (*says)(struct server *s))
{
	struct server s;
	unsigned int before;
	int device;
	bool good;

	server_begin(&s);
	before = count_descriptors(NULL);
	device = open_while(&s, says);
	good = EXPECT(device == -EPROTO);
	if (device >= 0)
		vine_close(device);
	hang_up(&s);
	good &= EXPECT(count_descriptors(NULL) == before);
	server_end(&s);
	return good;
}

/* ---- life ---- */

static void leaving_is_rung(void)
{
	struct server s;
	int device;

	server_begin(&s);
	device = open_while(&s, greets);
	CHECK(device >= 0);
	machine_joins(&s, MACHINE);
	CHECK(!vine_close(device) && readable(s.other));
	server_end(&s);
}

/* One that forgets gives every client the same ID. */
static void ids_begin_anew(void)
{
	struct server s;
	int first, listener;

	server_begin(&s);
	first = open_while(&s, greets);
	CHECK(first >= 0);
	hang_up(&s);
	listener = vine_listen(first, "test", 1, VINE_NONBLOCK);
	CHECK(listener >= 0);
	CHECK(open_while(&s, greets) == -EADDRINUSE);
	CHECK(looks_when_rung(&s));
	CHECK(vine_accept(listener, 0, 0, NULL) == -EAGAIN);
	CHECK(!vine_close(listener) && !vine_close(first));
	/* now nobody has it */
	hang_up(&s);
	first = open_while(&s, greets);
	CHECK(first >= 0 && !vine_close(first));
	server_end(&s);
}

#ifndef __SANITIZE_THREAD__

static atomic_bool enough;

/* Peers come and go, until there is no client or enough was said. */
static void comes_and_goes(struct server *s)
{
	int64_t id = 100;

	while (!atomic_load(&enough) && say(s->to, &id, sizeof(id), &s->other, 1) &&
	       say(s->to, &id, sizeof(id), NULL, 0))
		;
}

static void *babble(void *arg)
{
	comes_and_goes(arg);
	return NULL;
}

static void forks_have_nothing(void)
{
	static const char eventfd_name[] = "anon_inode:[eventfd]";
	int device, i, status = 0;
	unsigned int before;
	struct server s;
	pthread_t t;
	pid_t pid;

	server_begin(&s);
	before = count_descriptors(eventfd_name);
	device = open_while(&s, greets);
	CHECK(device >= 0);
	atomic_store(&enough, false);
	pthread_create(&t, NULL, babble, &s);
	for (i = 0; i < SCALED(1000) && !status; i++) {
		pid = fork();
		if (!pid)
			_exit(count_descriptors(eventfd_name) != before);
		EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid);
	}
	EXPECT(!status);
	atomic_store(&enough, true);
	pthread_join(t, NULL);
	CHECK(!vine_close(device));
	server_end(&s);
}

static unsigned int fork_at;	/* so many halves of words are said before */
static unsigned int descriptors;

/* In the greeting: has the child more than we had, and our end of the connection? */
static void fork_when_read(struct server *s)
{
	int status = -1;
	pid_t pid;

	all_read(s);
	pid = fork();
	if (!pid)
		_exit(count_descriptors(NULL) != descriptors + 1);
	EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid && !status);
}

static void greets_with_fork(struct server *s)
{
	const int64_t value[] = { 0, SELF, -1, MACHINE, SELF };
	const int fd[] = { -1, -1, s->memory, s->other, s->own };
	unsigned int i;

	for (i = 0; i < 10; i++) {
		if (i == fork_at)
			fork_when_read(s);
		EXPECT(say(s->to, (char *)&value[i / 2] + i % 2 * 4, 4, &fd[i / 2],
			   i % 2 == 0 && fd[i / 2] >= 0));
	}
}

/* Nor is it the fork that waits for the server. */
static void forked_while_greeted(void)
{
	struct server s;
	int device;

	for (fork_at = 0; fork_at < 10; fork_at++) {
		server_begin(&s);
		descriptors = count_descriptors(NULL);
		device = open_while(&s, greets_with_fork);
		CHECK(device >= 0 && !vine_close(device));
		server_end(&s);
	}
}

#endif

/* ---- descriptors ---- */

static int odd;		/* one that is not what it should be */

static void own_is_odd(struct server *s)
{
	begin(s);
	tell(s, SELF, odd);
}

static void others_is_odd(struct server *s)
{
	begin(s);
	tell(s, MACHINE, odd);
	try_to_tell(s, SELF, s->own);
}

static void memory_is_odd(struct server *s)
{
	tell(s, 0, -1);
	tell(s, SELF, -1);
	tell(s, -1, odd);
	try_to_tell(s, SELF, s->own);
}

static void no_eventfd(void)
{
	int p[2];

	CHECK(!pipe(p));
	close(p[0]);
	odd = p[1];	/* SIGPIPE for who writes */
	CHECK(refused(own_is_odd) && refused(others_is_odd));
	close(p[1]);
	odd = memfd_create("odd", MFD_CLOEXEC);
	CHECK(refused(own_is_odd) && refused(others_is_odd));
	close(odd);
}

static void no_file(void)
{
	int p[2];

	CHECK(!pipe(p));
	odd = p[0];
	CHECK(refused(memory_is_odd));
	close(p[0]);
	close(p[1]);
	odd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	CHECK(refused(memory_is_odd));
	close(odd);
}

static int several_with;	/* which message: 0 to 4 with two, 5 to 9 with three */

static void several(struct server *s)
{
	const int64_t value[] = { 0, SELF, -1, MACHINE, SELF };
	const int right[] = { -1, -1, s->memory, s->other, s->own };
	int i, many[3];

	for (i = 0; i < 5; i++) {
		many[0] = right[i] < 0 ? s->own : right[i];
		many[1] = many[2] = s->other;
		if (i == several_with % 5)
			say(s->to, &value[i], 8, many, several_with < 5 ? 2 : 3);
		else
			try_to_tell(s, value[i], right[i]);
	}
}

/* Each half of a value has one. */
static void half_and_half(struct server *s)
{
	const int64_t value = MACHINE;

	begin(s);
	say(s->to, &value, 4, &s->other, 1);
	say(s->to, (char *)&value + 4, 4, &s->other, 1);
}

static void with_version(struct server *s)
{
	tell(s, 0, s->other);
}

static void too_many_descriptors(void)
{
	for (several_with = 0; several_with < 10; several_with++)
		CHECK(refused(several));
	CHECK(refused(half_and_half) && refused(with_version));
}

/* Its slot has said how many vectors it has. */
static void late_vector(void)
{
	unsigned int before, all;
	int device;
	struct server s;

	server_begin(&s);
	all = count_descriptors(NULL);
	device = open_while(&s, greets);
	CHECK(device >= 0);
	before = count_descriptors(NULL);
	tell(&s, SELF, s.other);
	tell(&s, MACHINE + 1, s.other);
	heard(&s);
	CHECK(count_descriptors(NULL) == before + 1);
	CHECK(looks_when_rung(&s) && !vine_close(device));
	hang_up(&s);
	CHECK(count_descriptors(NULL) == all);
	server_end(&s);
}

/* ---- this process's own troubles ---- */

static struct rlimit room_before;

/* No descriptor can be made any more. */
static void fill_up(void)
{
	struct rlimit none;
	int fd = dup(0);

	close(fd);
	getrlimit(RLIMIT_NOFILE, &room_before);
	none = (struct rlimit){ fd, room_before.rlim_max };
	EXPECT(!setrlimit(RLIMIT_NOFILE, &none));
}

static void make_room(void)
{
	EXPECT(!setrlimit(RLIMIT_NOFILE, &room_before));
}

static void greets_the_full(struct server *s)
{
	tell(s, 0, -1);
	tell(s, SELF, -1);
	all_read(s);
	fill_up();
	try_to_tell(s, -1, s->memory);
	all_read(s);
	make_room();
}

/* A machine comes of which the doorbell cannot be had; of the next one it can. */
static void no_descriptor(void)
{
	struct server s;
	int device, listener;

	server_begin(&s);
	device = open_while(&s, greets);
	CHECK(device >= 0);
	fill_up();
	tell(&s, MACHINE + 1, s.other);
	heard(&s);
	make_room();
	tell(&s, MACHINE + 2, s.other);
	heard(&s);
	machine_joins(&s, MACHINE + 1);
	listener = vine_listen(device, "test", 1, 0);
	CHECK(listener >= 0 && !vine_close(listener) && !readable(s.other));
	machine_joins(&s, MACHINE + 2);
	listener = vine_listen(device, "test", 1, 0);
	CHECK(listener >= 0 && readable(s.other));
	tell(&s, MACHINE + 1, -1);
	heard(&s);
	CHECK(!vine_close(listener) && !vine_close(device));
	hang_up(&s);
	CHECK(open_while(&s, greets_the_full) == -EMFILE);
	server_end(&s);
}

static atomic_int refuse_with;	/* what preadv2() gives; 0: what it finds */

ssize_t preadv2(int fd, const struct iovec *iov, int count, off_t at, int flags)
{
	ssize_t (*next)(int, const struct iovec *, int, off_t, int) =
		(ssize_t (*)(int, const struct iovec *, int, off_t, int))dlsym(RTLD_NEXT,
									       "preadv2");

	if (!atomic_load(&refuse_with))
		return next(fd, iov, count, at, flags);
	errno = atomic_load(&refuse_with);
	return -1;
}

/* A sandbox refuses what reads without waiting; and the eventfd is one that waits. */
static void cannot_read(void)
{
	struct server s;
	int device;

	server_begin(&s);
	close(s.own);
	s.own = eventfd(0, EFD_CLOEXEC);
	device = open_while(&s, greets);
	CHECK(device >= 0);
	atomic_store(&refuse_with, EOPNOTSUPP);
	CHECK(looks_when_rung(&s) && looks_when_rung(&s));
	atomic_store(&refuse_with, EPERM);
	CHECK(looks_when_rung(&s));
	atomic_store(&refuse_with, 0);
	CHECK(!vine_close(device));
	server_end(&s);
}

/* ---- waiting ---- */

/* The machine's eventfd blocks, and its counter is full. */
static void full_counter(void)
{
	uint64_t full = UINT64_MAX - 1;
	struct server s;
	int device, listener;

	server_begin(&s);
	close(s.other);
	s.other = eventfd(0, EFD_CLOEXEC);
	CHECK(write(s.other, &full, sizeof(full)) == sizeof(full));
	device = open_while(&s, greets);
	CHECK(device >= 0);
	machine_joins(&s, MACHINE);
	listener = vine_listen(device, "test", 1, 0);
	CHECK(listener >= 0 && !vine_close(listener) && !vine_close(device));
	server_end(&s);
}

/* While the rest of a word is missing, it hears the others, and then the word. */
static void half_a_word(void)
{
	const int64_t value = MACHINE + 1;
	struct server s;
	int device, listener;

	server_begin(&s);
	device = open_while(&s, greets);
	CHECK(device >= 0);
	CHECK(say(s.to, &value, 3, &s.other, 1));
	CHECK(looks_when_rung(&s));
	CHECK(say(s.to, (char *)&value + 3, 5, NULL, 0));
	heard(&s);
	machine_joins(&s, MACHINE + 1);
	listener = vine_listen(device, "test", 1, 0);
	CHECK(listener >= 0 && readable(s.other));
	/* and it ends while one is missing */
	CHECK(say(s.to, &value, 3, &s.other, 1));
	CHECK(!vine_close(listener) && !vine_close(device));
	server_end(&s);
}

static void is_silent(struct server *s)
{
	(void)s;
}

/* It says the first things, and then one of others again and again. */
static void never_ends(struct server *s)
{
	int64_t id = MACHINE;

	begin(s);
	while (say(s->to, &id, sizeof(id), NULL, 0))
		poll(NULL, 0, 1);
}

static void *patience(void *arg)
{
	struct server s;
	int device;

	server_begin(&s);
	device = open_while(&s, arg);
	EXPECT(device == -ETIMEDOUT);
	server_end(&s);
	return NULL;
}

/* It accepts nobody, and there is no more room to wait. */
static void *no_room(void *arg)
{
	int waiting[8], n = 0, device;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct server s;

	(void)arg;
	server_begin(&s);
	listen(s.listener, 0);
	strcpy(address.sun_path, s.path);
	do
		waiting[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	while (!connect(waiting[n], (struct sockaddr *)&address, sizeof(address)) && ++n < 8);
	EXPECT(n < 8);
	device = vine_open(s.name);
	EXPECT(device == -ETIMEDOUT);
	while (n >= 0)
		close(waiting[n--]);
	server_end(&s);
	return NULL;
}

static void patience_ends(void)
{
	pthread_t t[3];
	int i;

	pthread_create(&t[0], NULL, patience, is_silent);
	pthread_create(&t[1], NULL, patience, never_ends);
	pthread_create(&t[2], NULL, no_room, NULL);
	for (i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
}

static const struct tap_test tests[] = {
	{ "a machine is rung when an endpoint leaves", leaving_is_rung },
	{ "a server that gives out IDs anew does not harm who has one", ids_begin_anew },
#ifndef __SANITIZE_THREAD__	/* has no threads after a fork */
	{ "a fork's child has none of the server's descriptors", forks_have_nothing },
	{ "nor has one that is forked in the middle of the greeting", forked_while_greeted },
#endif
	{ "what is no eventfd is not taken for one", no_eventfd },
	{ "what is no file is not taken for memory", no_file },
	{ "too many descriptors are refused and closed", too_many_descriptors },
	{ "a vector of ours that comes late is closed", late_vector },
	{ "a descriptor for which there is no room is missing, and no more", no_descriptor },
	{ "a ring is taken where preadv2() is refused", cannot_read },
	{ "a machine whose counter is full stops nobody", full_counter },
	{ "half a word stops nobody", half_a_word },
	{ "a server that is silent, or never ends, is given up", patience_ends },
};

TAP_MAIN(tests)
