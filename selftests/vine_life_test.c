// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * vine_life_test.c - ends: of processes, of descriptors, of the device, of the module
 *
 * What takes the device or the module away comes last, each test with its way back.
 * The node may have another number then; so every test looks for it anew, by the
 * device that it belongs to.
 */
#include "vine_test.h"
#include "vine_sysfs.h"

#include <linux/userfaultfd.h>
#include <setjmp.h>

#define LIFE_FIXTURE(name)						\
	FIXTURE(name) { struct vt_world w; };				\
	FIXTURE_SETUP(name)						\
	{								\
		ASSERT_TRUE(find_node());				\
		ASSERT_EQ(0, vt_world_open(&self->w));			\
	}								\
	FIXTURE_TEARDOWN(name) { EXPECT_TRUE(vt_world_close(&self->w)); }

/* A child closes what it has of our world, but for @keep. */
static void forget_world(struct vt_world *w, int keep)
{
	int k;

	for (k = 0; k < VT_KINDS; k++)
		if (k != keep)
			vt_drop(&w->fd[k]);
	vt_drop(&w->mon);
}

/* ---- processes that are killed ---- */

enum state {
	IDLE_CLIENT, IDLE_SERVER, SLEEPING_CLIENT, SLEEPING_SERVER,
	CONNECTING, WAITING_FOR_SERVICE, ACCEPTING, MANY_QUEUES, SENDING,
};

FIXTURE(killed) { struct vt_world w; };
FIXTURE_VARIANT(killed) { enum state state; };
FIXTURE_SETUP(killed)
{
	ASSERT_TRUE(find_node());
	ASSERT_EQ(0, vt_world_open(&self->w));
}
FIXTURE_TEARDOWN(killed)
{
	/* a bystander's queue was not disturbed */
	EXPECT_EQ(1, vt_push_one(CLIENT, 99));
	EXPECT_EQ(1, vt_pull_one(SERVER, 99));
	EXPECT_TRUE(vt_world_close(&self->w));
}

FIXTURE_VARIANT_ADD(killed, idle_client)	{ .state = IDLE_CLIENT };
FIXTURE_VARIANT_ADD(killed, idle_server)	{ .state = IDLE_SERVER };
FIXTURE_VARIANT_ADD(killed, sleeping_client)	{ .state = SLEEPING_CLIENT };
FIXTURE_VARIANT_ADD(killed, sleeping_server)	{ .state = SLEEPING_SERVER };
FIXTURE_VARIANT_ADD(killed, connecting)		{ .state = CONNECTING };
FIXTURE_VARIANT_ADD(killed, waiting_for_service)	{ .state = WAITING_FOR_SERVICE };
FIXTURE_VARIANT_ADD(killed, accepting)		{ .state = ACCEPTING };
FIXTURE_VARIANT_ADD(killed, many_queues)	{ .state = MANY_QUEUES };
FIXTURE_VARIANT_ADD(killed, sending)		{ .state = SENDING };

#define MANY	20

/* The one that is killed: gets into the state, and stays in it. */
static void victim(struct vt_world *w, enum state state)
{
	int dev = vt_open(), listener = -1, queue = -1, i;
	struct vine_msg m;
	char name[26];
	__u64 n;

	strcpy(name, w->name);
	forget_world(w, -1);
	if (state == IDLE_SERVER || state == SLEEPING_SERVER || state == ACCEPTING)
		listener = vt_listen(dev, "vt-victim", 0);
	switch (state) {
	case IDLE_CLIENT:
	case SLEEPING_CLIENT:
	case SENDING:
	case CONNECTING:
		queue = vt_connect(dev, name, 0, VINE_FOREVER, VT_DEPTH);
		break;
	case WAITING_FOR_SERVICE:
		queue = vt_connect(dev, "vt-none", VINE_WAIT_SERVICE, VINE_FOREVER, VT_DEPTH);
		break;
	case IDLE_SERVER:
	case SLEEPING_SERVER:
	case ACCEPTING:
		queue = vt_accept(listener, 0, VINE_FOREVER);
		break;
	case MANY_QUEUES:
		for (i = 0; i < MANY; i++)
			queue = vt_connect(dev, name, 0, VINE_FOREVER, VT_DEPTH);
		break;
	}
	if (queue < 0)
		_exit(1);
	if (state == SENDING) {
		for (n = 1; ; ) {
			i = vt_push_one(queue, n);
			if (i == 1)
				n++;
			else if (i == -EAGAIN)
				vt_poll(queue, POLLOUT);
			else
				_exit(2);
		}
	}
	vt_push_one(queue, 1);
	if (state == SLEEPING_CLIENT || state == SLEEPING_SERVER)
		vt_pull(queue, &m, 1, 1, VINE_FOREVER);
	for (;;)
		pause();
}

/* The other side has heard of it, has lost nothing that was sent, and gets no more. */
static void survive(struct __test_metadata *_metadata, int queue, __u64 first)
{
	struct vine_msg m;
	__u64 n = first;
	int ret;

	EXPECT_TRUE(vt_poll(queue, 0) & POLLHUP);
	while ((ret = vt_pull(queue, &m, 1, 1, VINE_FOREVER)) == 1 && vt_is_msg(&m, n))
		n++;
	EXPECT_EQ(-EPIPE, ret) TH_LOG("after message %llu", n);
	EXPECT_LT(first, n);
	EXPECT_EQ(-EPIPE, vt_push(queue, &m, 1));
	close(queue);
}

TEST_F(killed, process)
{
	int queue[MANY], n = 0, i, got = 0;
	enum state state = variant->state;
	pid_t pid = vt_fork();
	struct vine_msg m;

	ASSERT_LE(0, pid);
	if (!pid)
		victim(&self->w, state);
	switch (state) {
	case IDLE_CLIENT:
	case SLEEPING_CLIENT:
	case SENDING:
	case MANY_QUEUES:
		for (n = 0; n < (state == MANY_QUEUES ? MANY : 1); n++) {
			queue[n] = vt_accept(LISTENER, 0, vt_patience());
			ASSERT_LE(0, queue[n]);
		}
		break;
	case IDLE_SERVER:
	case SLEEPING_SERVER:
		queue[n] = vt_connect(DEV, "vt-victim", VINE_WAIT_SERVICE, vt_patience(),
				      VT_DEPTH);
		ASSERT_LE(0, queue[n++]);
		break;
	case CONNECTING:
		EXPECT_EQ(POLLIN, vt_poll(LISTENER, POLLIN));
		break;
	default:
		break;
	}
	/* it is where we want it */
	switch (state) {
	case SLEEPING_CLIENT:
	case SLEEPING_SERVER:
		ASSERT_TRUE(vt_wait_asleep(pid, 0, VINE_TRANSFER));
		break;
	case CONNECTING:
	case WAITING_FOR_SERVICE:
		ASSERT_TRUE(vt_wait_asleep(pid, 0, VINE_CONNECT));
		break;
	case ACCEPTING:
		ASSERT_TRUE(vt_wait_asleep(pid, 0, VINE_ACCEPT));
		break;
	case SENDING:
		while (got < 200) {
			ASSERT_EQ(1, vt_pull(queue[0], &m, 1, 1, vt_patience()));
			ASSERT_TRUE(vt_is_msg(&m, ++got));
		}
		/* there is more that it has sent */
		EXPECT_EQ(POLLIN, vt_poll(queue[0], POLLIN));
		break;
	case MANY_QUEUES:
		EXPECT_EQ(POLLIN, vt_poll(queue[n - 1], POLLIN));
		break;
	default:
		EXPECT_EQ(POLLIN, vt_poll(queue[0], POLLIN));
	}
	ASSERT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(256 + SIGKILL, vt_reap(pid));
	if (state == MANY_QUEUES) {
		survive(_metadata, queue[--n], 1);
		while (n) {
			EXPECT_TRUE(vt_poll(queue[--n], 0) & POLLHUP);
			EXPECT_EQ(-EPIPE, vt_pull(queue[n], &m, 1, 1, VINE_FOREVER));
			close(queue[n]);
		}
	}
	for (i = 0; i < n; i++)
		survive(_metadata, queue[i], got + 1);
	/* nobody waits to be accepted, and nobody offers anything */
	EXPECT_EQ(-EAGAIN, vt_accept(LISTENER, 0, 0));
	EXPECT_EQ(-ENOENT, vt_connect(DEV, "vt-victim", 0, 0, 2));
}

LIFE_FIXTURE(death)

/* Both ends of a queue at once. */
TEST_F(death, of_both_sides)
{
	pid_t client, server;

	server = vt_fork();
	ASSERT_LE(0, server);
	if (!server)
		victim(&self->w, SLEEPING_SERVER);
	client = vt_fork();
	ASSERT_LE(0, client);
	if (!client) {
		struct vine_msg m[2];
		int queue = vt_connect(DEV, "vt-victim", VINE_WAIT_SERVICE, VINE_FOREVER, 2);

		forget_world(&self->w, -1);
		vt_pull(queue, m, 2, 2, VINE_FOREVER);
		_exit(1);
	}
	ASSERT_TRUE(vt_wait_asleep(client, 0, VINE_TRANSFER));
	ASSERT_TRUE(vt_wait_asleep(server, 0, VINE_TRANSFER));
	kill(client, SIGKILL);
	kill(server, SIGKILL);
	EXPECT_EQ(256 + SIGKILL, vt_reap(client));
	EXPECT_EQ(256 + SIGKILL, vt_reap(server));
}

/* The client dies; the server goes on with its memory as long as it likes. */
TEST_F(death, of_a_region_owner)
{
	size_t bytes = 2 * self->w.chunk;
	int server, import, go[2];
	struct vine_msg m;
	pid_t pid;
	__u64 id;
	char *p;

	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	pid = vt_fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int dev = vt_open(), queue, region;
		char *mem;

		queue = vt_connect(dev, self->w.name, 0, VINE_FOREVER, VT_DEPTH);
		forget_world(&self->w, -1);
		region = vt_region(dev, bytes);
		mem = vt_map(region, bytes);
		if (queue < 0 || !mem || vt_attach(queue, region, &id))
			_exit(1);
		memset(mem, 0x77, bytes);
		m = (struct vine_msg){ .len = sizeof(id) };
		memcpy(m.data, &id, sizeof(id));
		vt_push(queue, &m, 1);
		for (;;)
			pause();
	}
	server = vt_accept(LISTENER, 0, vt_patience());
	ASSERT_LE(0, server);
	ASSERT_EQ(1, vt_pull(server, &m, 1, 1, vt_patience()));
	memcpy(&id, m.data, sizeof(id));
	import = vt_import(server, id);
	ASSERT_LE(0, import);
	kill(pid, SIGKILL);
	EXPECT_EQ(256 + SIGKILL, vt_reap(pid));
	EXPECT_EQ(-EPIPE, vt_pull(server, &m, 1, 1, VINE_FOREVER));
	p = vt_map(import, bytes);
	ASSERT_NE(NULL, p);
	EXPECT_TRUE(vt_all_are(p, 0x77, bytes));
	close(import);
	close(server);
	EXPECT_TRUE(vt_all_are(p, 0x77, bytes));
	munmap(p, bytes);
	close(go[0]);
	close(go[1]);
}

/* The server dies with our region mapped; it is ours alone again. */
TEST_F(death, of_an_importer)
{
	int region = vt_region(DEV, 1), client, ret;
	struct vine_msg m;
	pid_t pid;
	__u64 id;
	char *p;

	ASSERT_LE(0, region);
	p = vt_map(region, self->w.chunk);
	ASSERT_NE(NULL, p);
	pid = vt_fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int server = vt_accept(LISTENER, 0, VINE_FOREVER);
		char *mem;

		munmap(p, self->w.chunk);
		close(region);
		forget_world(&self->w, -1);
		if (vt_pull(server, &m, 1, 1, VINE_FOREVER) != 1)
			_exit(1);
		memcpy(&id, m.data, sizeof(id));
		mem = vt_map(vt_import(server, id), self->w.chunk);
		if (!mem)
			_exit(2);
		mem[0] = 1;
		vt_push_one(server, 1);
		for (;;)
			mem[1]++;
	}
	client = vt_connect(DEV, self->w.name, 0, vt_patience(), VT_DEPTH);
	ASSERT_LE(0, client);
	ASSERT_EQ(0, vt_attach(client, region, &id));
	m = (struct vine_msg){ .len = sizeof(id) };
	memcpy(m.data, &id, sizeof(id));
	ASSERT_EQ(1, vt_push(client, &m, 1));
	EXPECT_EQ(1, vt_pull_one(client, 1));
	EXPECT_EQ(1, p[0]);
	kill(pid, SIGKILL);
	ret = vt_reap(pid);
	EXPECT_EQ(256 + SIGKILL, ret);
	EXPECT_EQ(-EPIPE, vt_pull(client, &m, 1, 1, VINE_FOREVER));
	p[2] = 3;
	EXPECT_EQ(1, p[0]);
	munmap(p, self->w.chunk);
	close(client);
	close(region);
}

/* While the kernel zeroes the memory that it has just claimed for it. */
TEST_F(death, while_claiming)
{
	struct vt_counts was;
	struct vine_info info;
	pid_t pid;
	int i;

	ASSERT_EQ(0, vt_count(self->w.mon, &was));
	for (i = 0; i < 10; i++) {
		pid = vt_fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			for (;;)
				close(vt_region(DEV, was.chunks_free * self->w.chunk / 2));
		}
		EXPECT_TRUE(vt_until(!vt_info(self->w.mon, &info) &&
				     info.chunks_free < was.chunks_free));
		kill(pid, SIGKILL);
		EXPECT_EQ(256 + SIGKILL, vt_reap(pid));
		EXPECT_TRUE(vt_all_back(self->w.mon, &was));
	}
}

/* A process that makes and closes everything all the time, at any moment. */
TEST_F(death, at_any_moment)
{
	struct vt_counts was;
	__u64 until;
	pid_t pid;
	int i;

	ASSERT_EQ(0, vt_count(self->w.mon, &was));
	for (i = 0; i < 30; i++) {
		pid = vt_fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			struct vt_world w;

			forget_world(&self->w, -1);
			for (;;) {
				int k;

				if (vt_world_open(&w))
					_exit(1);
				for (k = 0; k < VT_KINDS; k++)
					vt_drop(&w.fd[k]);
				vt_drop(&w.mon);
			}
		}
		/* it is under way at the latest when it has a service; then, a while on */
		until = vt_in(i % 10);
		while (vt_now() < until)
			sched_yield();
		kill(pid, SIGKILL);
		EXPECT_EQ(256 + SIGKILL, vt_reap(pid));
		EXPECT_TRUE(vt_all_back(self->w.mon, &was));
	}
}

/* ---- exec ---- */

/* What is executed: a program that has no idea of vine, and lives until it is told. */
static void __attribute__((constructor(101))) executed(void)
{
	char *fd = getenv("VT_EXECUTED"), c;

	if (fd)
		_exit(read(atoi(fd), &c, 1) == 0 ? 0 : 1);
}

TEST_F(death, by_exec)
{
	int go[2], server;
	char fd[16];
	pid_t pid;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, fcntl(go[1], F_SETFD, FD_CLOEXEC));
	snprintf(fd, sizeof(fd), "%d", go[0]);
	pid = vt_fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *argv[] = { "executed", NULL };
		int dev = vt_open(), queue, region;

		queue = vt_connect(dev, self->w.name, 0, VINE_FOREVER, VT_DEPTH);
		region = vt_region(dev, 1);
		if (queue < 0 || region < 0 || !vt_map(region, self->w.chunk))
			_exit(2);
		setenv("VT_EXECUTED", fd, 1);
		execv("/proc/self/exe", argv);
		_exit(3);
	}
	server = vt_accept(LISTENER, 0, vt_patience());
	ASSERT_LE(0, server);
	/* its queue is closed, its memory is back, and it lives */
	EXPECT_TRUE(vt_poll(server, 0) & POLLHUP);
	EXPECT_EQ(0, waitpid(pid, NULL, WNOHANG));
	close(server);
	close(go[0]);
	close(go[1]);
	EXPECT_EQ(0, vt_reap(pid));
}

/* ---- over and over ---- */

#define CYCLES	1000

LIFE_FIXTURE(cycles)

TEST_F(cycles, queues)
{
	int client, server, i;

	for (i = 0; i < CYCLES; i++) {
		ASSERT_EQ(0, vt_pair(DEV, LISTENER, self->w.name, 2 << i % 6, &client, &server));
		ASSERT_EQ(1, vt_push_one(client, i));
		ASSERT_EQ(1, vt_pull_one(server, i));
		/* who closes first */
		close(i % 2 ? client : server);
		close(i % 2 ? server : client);
	}
}

TEST_F(cycles, regions)
{
	int region, import, i;
	char *p, *q;
	__u64 id;

	for (i = 0; i < CYCLES; i++) {
		size_t bytes = (1 + i % 3) * self->w.chunk;

		region = vt_region(DEV, bytes);
		ASSERT_LE(0, region);
		ASSERT_EQ(0, vt_attach(CLIENT, region, &id));
		import = vt_import(SERVER, id);
		ASSERT_LE(0, import);
		p = vt_map(region, bytes);
		q = vt_map(import, bytes);
		ASSERT_NE(NULL, p);
		ASSERT_NE(NULL, q);
		if (i % 4 < 2)
			close(region);
		if (i % 8 < 4)
			close(import);
		p[i % bytes] = 1;
		ASSERT_EQ(1, q[i % bytes]);
		munmap(p, bytes);
		munmap(q, bytes);
		if (i % 4 >= 2)
			close(region);
		if (i % 8 >= 4)
			close(import);
	}
}

TEST_F(cycles, listeners)
{
	int listener, client, i;

	for (i = 0; i < CYCLES; i++) {
		listener = vt_listen(DEV, "vt-again", 0);
		ASSERT_LE(0, listener);
		client = vt_connect(DEV, "vt-again", VINE_NONBLOCK, 0, 2);
		ASSERT_LE(0, client);
		/* refused, or cancelled */
		close(i % 2 ? client : listener);
		close(i % 2 ? listener : client);
	}
}

/* ---- taken for dead ---- */

/*
 * Others may count this machine out; it sees that, gives up what it has, and joins anew.
 * Here we say so ourselves, in the segment: $VINE_SEGMENT.
 */
FIXTURE(fenced) {
	struct vt_world w;
	char *segment;
	struct vine_info was;
};
FIXTURE_SETUP(fenced)
{
	ASSERT_TRUE(find_node());
	ASSERT_EQ(0, vt_world_open(&self->w));
	ASSERT_EQ(0, vt_info(DEV, &self->was));
	self->segment = vt_segment(self->was.segment_size);
}
FIXTURE_TEARDOWN(fenced)
{
	if (self->segment)
		munmap(self->segment, self->was.segment_size);
	EXPECT_TRUE(vt_world_close(&self->w));
}

/* Says of our machine that it has gone quiet. */
static void fence(char *segment, const struct vine_info *us)
{
	struct vine_wire_peer *p = (struct vine_wire_peer *)(segment + VINE_OFF_PEERS) + us->peer;

	vt_poke(&p->word, (vt_peek(&p->word) & ~0xffULL) | VINE_PEER_SUSPECT);
}

/* Waits until it has joined again: the device's descriptors go on. */
static bool joined_anew(int dev, const struct vine_info *was)
{
	struct vine_info now;

	return vt_until(!vt_info(dev, &now) && now.incarnation != was->incarnation);
}

#define NO_SEGMENT "VINE_SEGMENT names no file that is the device's memory"

TEST_F(fenced, every_call)
{
	struct vine_msg m = vt_msg(1);
	int region, listener;
	char *p;

	if (!self->segment)
		SKIP(return, NO_SEGMENT);
	p = vt_map(REGION, self->w.chunk);
	ASSERT_NE(NULL, p);
	p[0] = 1;
	fence(self->segment, &self->was);
	ASSERT_TRUE(joined_anew(DEV, &self->was));
	/* what was made before is lost */
	EXPECT_EQ(-ENOTCONN, vt_accept(LISTENER, 0, 0));
	EXPECT_EQ(-ENOTCONN, vt_accept(LISTENER, 0, VINE_FOREVER));
	EXPECT_EQ(-ENOTCONN, vt_push(CLIENT, &m, 1));
	EXPECT_EQ(-ENOTCONN, vt_pull(SERVER, &m, 1, 1, VINE_FOREVER));
	EXPECT_EQ(-ENOTCONN, vt_pull(SERVER, &m, 0, 0, 0));
	EXPECT_EQ(-ENOTCONN, vt_attach(CLIENT, REGION, NULL));
	EXPECT_EQ(-ENOTCONN, vt_import(SERVER, self->w.id));
	EXPECT_EQ(POLLHUP | POLLERR, vt_poll_now(LISTENER, 0));
	EXPECT_EQ(POLLHUP | POLLERR, vt_poll_now(CLIENT, 0));
	EXPECT_EQ(POLLHUP | POLLERR, vt_poll_now(SERVER, 0));
	EXPECT_EQ(256 + SIGBUS, touch(p, false));
	EXPECT_EQ(256 + SIGBUS, touch(p, true));
	munmap(p, self->w.chunk);
	/* what is made from now on is not; but the old does not go with the new */
	region = vt_region(DEV, 1);
	EXPECT_LE(0, region);
	EXPECT_EQ(-ENOTCONN, vt_attach(CLIENT, region, NULL));
	listener = vt_listen(DEV, self->w.name, 0);
	EXPECT_LE(0, listener);
	vt_drop(&CLIENT);
	vt_drop(&SERVER);
	EXPECT_EQ(0, vt_pair(DEV, listener, self->w.name, 2, &CLIENT, &SERVER));
	EXPECT_EQ(-ENOTCONN, vt_attach(CLIENT, REGION, NULL));
	EXPECT_EQ(0, vt_attach(CLIENT, region, NULL));
	EXPECT_EQ(1, vt_push_one(CLIENT, 2));
	EXPECT_EQ(1, vt_pull_one(SERVER, 2));
	close(region);
	close(listener);
}

TEST_F(fenced, sleepers)
{
	struct vine_accept a = { .size = sizeof(a), .deadline = VINE_FOREVER };
	struct vine_msg m;
	struct vine_transfer t = { .size = sizeof(t), .pull = (uintptr_t)&m,
		.pull_count = 1, .pull_min = 1, .deadline = VINE_FOREVER };
	struct vt_thread accepting, pulling;

	if (!self->segment)
		SKIP(return, NO_SEGMENT);
	ASSERT_EQ(0, vt_thread_start(&accepting, LISTENER, VINE_ACCEPT, &a));
	ASSERT_EQ(0, vt_thread_start(&pulling, CLIENT, VINE_TRANSFER, &t));
	ASSERT_TRUE(vt_thread_asleep(&accepting));
	ASSERT_TRUE(vt_thread_asleep(&pulling));
	fence(self->segment, &self->was);
	EXPECT_EQ(-ENOTCONN, vt_thread_join(&accepting));
	EXPECT_EQ(-ENOTCONN, vt_thread_join(&pulling));
	ASSERT_TRUE(joined_anew(DEV, &self->was));
}

/* Has the kernel's log said this, since it was last asked? */
static bool logged(int kmsg, const char *text)
{
	char record[8192];
	ssize_t n;

	while ((n = read(kmsg, record, sizeof(record) - 1)) > 0) {
		record[n] = 0;
		if (strstr(record, text))
			return true;
	}
	return false;
}

/* Its own was cleared, and somebody has begun another one in the middle of what it was. */
TEST_F(fenced, another_segment)
{
	struct vine_wire_header *h = (void *)self->segment, *other;
	int kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct vine_info now;

	if (!self->segment)
		SKIP(return, NO_SEGMENT);
	ASSERT_LE(0, kmsg);
	ASSERT_LE(0, lseek(kmsg, 0, SEEK_END));
	vt_poke(&h->format, 1);		/* somebody else's data, for now */
	ASSERT_TRUE(vt_until(vt_info(DEV, &now) == -ENOTCONN));
	other = (void *)(self->segment + (self->was.segment_size / 2 & -(1 << 20)));
	vt_poke(&other->format, VINE_FORMAT(16, 50));
	memset(self->segment + 8, 0,
	       self->was.segment_size - self->was.chunks * self->was.chunk_size - 8);
	vt_poke(&h->format, 0);
	EXPECT_TRUE(vt_until(logged(kmsg, "would share bytes with it")));
	EXPECT_EQ(-ENOTCONN, vt_info(DEV, &now));
	EXPECT_EQ(0, vt_peek(&h->format));
	vt_poke(&other->format, 0);
	EXPECT_TRUE(vt_until(!vt_info(DEV, &now) && now.generation != self->was.generation));
	close(kmsg);
}

/* ---- a call that is stuck in a page fault ---- */

/* A page that is not there until somebody says what is in it: gives what says so. */
static int missing_page(void **page)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_api api = { .api = UFFD_API };
	size_t size = sysconf(_SC_PAGESIZE);
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	*page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = (uintptr_t)*page;
	reg.range.len = size;
	if (*page == MAP_FAILED || ioctl(fd, UFFDIO_API, &api) ||
	    ioctl(fd, UFFDIO_REGISTER, &reg)) {
		close(fd);
		return -EIO;
	}
	return fd;
}

/* Waits until somebody is stuck there. */
static bool is_stuck(int fd)
{
	struct uffd_msg msg;

	return (vt_poll(fd, POLLIN) & POLLIN) && read(fd, &msg, sizeof(msg)) == sizeof(msg) &&
		msg.event == UFFD_EVENT_PAGEFAULT;
}

static bool free_stuck(int fd, void *page)
{
	struct uffdio_zeropage zero = { { (uintptr_t)page, sysconf(_SC_PAGESIZE) }, 0, 0 };

	return !ioctl(fd, UFFDIO_ZEROPAGE, &zero);
}

LIFE_FIXTURE(stuck)

/* A sender whose memory does not come: it holds up nobody else. */
TEST_F(stuck, in_a_push)
{
	void *page;
	int fd = missing_page(&page), client, server;
	struct vine_transfer t = { .size = sizeof(t), .push_count = 1 };
	struct vt_counts counts;
	struct vt_thread thread;
	struct vine_msg m;

	if (fd < 0)
		SKIP(return, "no userfaultfd for faults of the kernel");
	t.push = (uintptr_t)page;
	ASSERT_EQ(0, vt_thread_start(&thread, CLIENT, VINE_TRANSFER, &t));
	ASSERT_TRUE(is_stuck(fd));
	EXPECT_EQ(0, vt_count(DEV, &counts));
	EXPECT_EQ(0, vt_pair(DEV, LISTENER, self->w.name, 2, &client, &server));
	EXPECT_EQ(1, vt_push_one(client, 1));
	EXPECT_EQ(1, vt_pull_one(server, 1));
	close(client);
	close(server);
	/* the other direction of this queue, and its other side */
	EXPECT_EQ(1, vt_push_one(SERVER, 2));
	EXPECT_EQ(1, vt_pull_one(CLIENT, 2));
	EXPECT_EQ(POLLOUT, vt_poll_now(CLIENT, POLLIN | POLLOUT));
	EXPECT_EQ(-EAGAIN, vt_pull(SERVER, &m, 1, 0, 0));
	EXPECT_TRUE(free_stuck(fd, page));
	EXPECT_EQ(0, vt_thread_join(&thread));
	EXPECT_EQ(1, vt_pull(SERVER, &m, 1, 1, vt_patience()));
	EXPECT_EQ(0, m.len);
	munmap(page, self->w.page);
	close(fd);
}

/* A receiver: the message waits for it, and the sender does not. */
TEST_F(stuck, in_a_pull)
{
	void *page;
	int fd = missing_page(&page), i;
	struct vine_transfer t = { .size = sizeof(t), .pull_count = 1, .pull_min = 1,
				   .deadline = VINE_FOREVER };
	struct vt_counts counts;
	struct vt_thread thread;

	if (fd < 0)
		SKIP(return, "no userfaultfd for faults of the kernel");
	t.pull = (uintptr_t)page;
	ASSERT_EQ(0, vt_thread_start(&thread, SERVER, VINE_TRANSFER, &t));
	for (i = 0; i < VT_DEPTH; i++) {
		ASSERT_EQ(1, vt_push_one(CLIENT, i));
	}
	ASSERT_TRUE(is_stuck(fd));
	EXPECT_EQ(0, vt_count(DEV, &counts));
	EXPECT_EQ(1, vt_push_one(SERVER, 2));
	EXPECT_EQ(1, vt_pull_one(CLIENT, 2));
	EXPECT_EQ(POLLIN | POLLOUT, vt_poll_now(SERVER, POLLIN | POLLOUT));
	EXPECT_EQ(-EAGAIN, vt_push_one(CLIENT, 8));
	/* the sender goes */
	vt_drop(&CLIENT);
	EXPECT_TRUE(vt_poll(SERVER, 0) & POLLHUP);
	EXPECT_TRUE(free_stuck(fd, page));
	EXPECT_EQ(0, vt_thread_join(&thread));
	EXPECT_EQ(1, t.pull_count);
	EXPECT_TRUE(vt_is_msg(page, 0));
	for (i = 1; i < VT_DEPTH; i++) {
		EXPECT_EQ(1, vt_pull_one(SERVER, i));
	}
	munmap(page, self->w.page);
	close(fd);
}

/* Killed there. */
TEST_F(stuck, and_killed)
{
	pid_t pid = vt_fork();
	int server, k;

	ASSERT_LE(0, pid);
	if (!pid) {
		int dev = vt_open(), queue, fd;
		struct vine_transfer t = { .size = sizeof(t), .push_count = 1 };
		void *page;

		queue = vt_connect(dev, self->w.name, 0, VINE_FOREVER, VT_DEPTH);
		fd = missing_page(&page);
		if (fd < 0)
			_exit(4);
		t.push = (uintptr_t)page;
		_exit(vt_ioctl(queue, VINE_TRANSFER, &t) ? 1 : 2);
	}
	server = vt_accept(LISTENER, 0, vt_patience());
	ASSERT_LE(0, server);
	k = 0;
	ASSERT_TRUE(vt_until(vt_asleep(pid, pid, VINE_TRANSFER) ||
			     (k = waitpid(pid, NULL, WNOHANG))));
	if (k) {
		close(server);
		SKIP(return, "no userfaultfd for faults of the kernel");
	}
	kill(pid, SIGKILL);
	EXPECT_EQ(256 + SIGKILL, vt_reap(pid));
	EXPECT_TRUE(vt_poll(server, 0) & POLLHUP);
	close(server);
}

/* ---- the module ---- */

LIFE_FIXTURE(module)

/* Tries to remove it. 0 or -errno. */
static int remove_module(void)
{
	return syscall(SYS_delete_module, "vine", O_NONBLOCK) ? -errno : 0;
}

/*
 * Any descriptor, and any mapping, alone keeps it, and loses nothing by the attempt. The
 * system call says EAGAIN; rmmod says of it that the module is in use.
 */
TEST_F(module, in_use)
{
	struct vine_msg m;
	int only, k, err;

	err = remove_module();
	if (err == -EPERM || err == -ENOENT || err == -ENOSYS)
		SKIP(return, "vine is no module that we may remove");
	ASSERT_EQ(-EAGAIN, err);
	for (only = 0; only <= VT_KINDS; only++) {
		struct vt_world w;
		char *p = NULL;

		ASSERT_EQ(0, vt_world_open(&w));
		/* our own world would be a reason too */
		for (k = 0; k < VT_KINDS; k++)
			vt_drop(&self->w.fd[k]);
		vt_drop(&self->w.mon);
		if (only == VT_KINDS) {
			p = vt_map(w.fd[VT_IMPORT], w.chunk);
			ASSERT_NE(NULL, p);
			p[0] = 1;
		}
		if (only == VT_SERVER) {
			ASSERT_EQ(1, vt_push_one(w.fd[VT_CLIENT], 1));
		}
		for (k = 0; k < VT_KINDS; k++)
			if (k != only)
				vt_drop(&w.fd[k]);
		vt_drop(&w.mon);
		EXPECT_EQ(-EAGAIN, remove_module()) TH_LOG("with %d alone", only);
		if (only == VT_KINDS) {
			EXPECT_EQ(1, p[0]);
			munmap(p, w.chunk);
			break;
		}
		if (only == VT_SERVER) {
			EXPECT_EQ(1, vt_pull_one(w.fd[only], 1));
			EXPECT_EQ(-EPIPE, vt_pull(w.fd[only], &m, 1, 1, VINE_FOREVER));
		}
		vt_drop(&w.fd[only]);
	}
	self->w.mon = vt_open();
	ASSERT_LE(0, self->w.mon);
}

/* ---- the device is taken away, and comes back ---- */

FIXTURE(unplugged) { struct vt_world w; };
FIXTURE_SETUP(unplugged)
{
	ASSERT_TRUE(find_node());
	ASSERT_EQ(0, vt_world_open(&self->w));
}

/* The driver is bound again, nothing of what was is left, and everything works. */
FIXTURE_TEARDOWN(unplugged)
{
	struct vine_info info;
	int k;

	for (k = 0; k < VT_KINDS; k++)
		vt_drop(&self->w.fd[k]);
	if (vt_info(self->w.mon, &info)) {
		vt_drop(&self->w.mon);
		tell_driver("bind");	/* if the test did not */
		EXPECT_TRUE(vt_until(find_node()));
		self->w.mon = vt_open();
	}
	EXPECT_TRUE(vt_world_close(&self->w));
	ASSERT_EQ(0, vt_world_open(&self->w));
	EXPECT_EQ(1, vt_push_one(CLIENT, 1));
	EXPECT_EQ(1, vt_pull_one(SERVER, 1));
	EXPECT_TRUE(vt_world_close(&self->w));
}

/* Every call on every descriptor. */
TEST_F(unplugged, every_call)
{
	struct vine_services services = { .size = sizeof(services) };
	struct vine_msg m = vt_msg(1);
	struct vine_transfer nothing = { .size = sizeof(nothing) };
	struct vine_info info;
	int k, client;

	if (no_unbind())
		SKIP(return, "%s", no_unbind());
	client = vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, 2);
	ASSERT_LE(0, client);
	/* a message that was there before */
	ASSERT_EQ(1, vt_push_one(CLIENT, 1));
	ASSERT_EQ(0, tell_driver("unbind"));
	EXPECT_EQ(-ENODEV, vt_info(DEV, &info));
	EXPECT_EQ(-ENODEV, vt_ioctl(DEV, VINE_SERVICES, &services));
	EXPECT_EQ(-ENODEV, vt_query(DEV, VINE_QUERY_PEERS, NULL, 0));
	EXPECT_EQ(-ENODEV, vt_bury(DEV, VINE_MAX_PEERS, 1));
	EXPECT_EQ(-ENODEV, vt_listen(DEV, "vt-other", 0));
	EXPECT_EQ(-ENODEV, vt_connect(DEV, self->w.name, 0, VINE_FOREVER, 2));
	EXPECT_EQ(-ENODEV, vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, 2));
	EXPECT_EQ(-ENODEV, vt_connect(DEV, "vt-none", VINE_WAIT_SERVICE, VINE_FOREVER, 2));
	EXPECT_EQ(-ENODEV, vt_region(DEV, 1));
	EXPECT_EQ(-ENODEV, vt_accept(LISTENER, 0, 0));
	EXPECT_EQ(-ENODEV, vt_accept(LISTENER, 0, VINE_FOREVER));
	EXPECT_EQ(-ENODEV, vt_attach(CLIENT, REGION, NULL));
	EXPECT_EQ(-ENODEV, vt_import(SERVER, self->w.id));
	EXPECT_EQ(-ENODEV, vt_push(CLIENT, &m, 1));
	EXPECT_EQ(-ENODEV, vt_push(SERVER, &m, 1));
	EXPECT_EQ(-ENODEV, vt_pull(SERVER, &m, 1, 0, 0));
	EXPECT_EQ(-ENODEV, vt_pull(SERVER, &m, 1, 1, VINE_FOREVER));
	EXPECT_EQ(-ENODEV, vt_pull(client, &m, 1, 1, VINE_FOREVER));
	EXPECT_EQ(-ENODEV, vt_ioctl(CLIENT, VINE_TRANSFER, &nothing));
	for (k = VT_DEV; k <= VT_SERVER; k++) {
		EXPECT_EQ(POLLHUP | POLLERR, vt_poll_now(self->w.fd[k], 0))
			TH_LOG("kind %d", k);
	}
	EXPECT_EQ(POLLHUP | POLLERR, vt_poll_now(client, 0));
	/* the node is gone; its number may name nothing, or something else */
	EXPECT_NE(0, access(vt_path(), F_OK));
	close(client);
	ASSERT_EQ(0, tell_driver("bind"));
}

/* Memory that is mapped is not there any more; and none can be mapped. */
TEST_F(unplugged, mappings)
{
	size_t bytes = self->w.chunk, page = self->w.page;
	char *p = vt_map(REGION, bytes), *q = vt_map(IMPORT, bytes), *r;
	struct vine_msg m = vt_msg(1);
	int fd[2] = { REGION, IMPORT }, i, ret;

	if (no_unbind())
		SKIP(return, "%s", no_unbind());
	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	memset(p, 1, page);	/* one page that was touched, the others not */
	ASSERT_EQ(1, q[0]);
	ASSERT_EQ(0, tell_driver("unbind"));
	EXPECT_EQ(256 + SIGBUS, touch(p, false));
	EXPECT_EQ(256 + SIGBUS, touch(p, true));
	EXPECT_EQ(256 + SIGBUS, touch(q, false));
	EXPECT_EQ(256 + SIGBUS, touch(q, true));
	EXPECT_EQ(256 + SIGBUS, touch(p + bytes - 1, true));
	/* the kernel gets no signal for it */
	ret = vt_push(CLIENT, (void *)p, 1);
	EXPECT_TRUE(ret == -EFAULT || ret == -ENODEV) TH_LOG("error %d", ret);
	ret = vt_ioctl(DEV, VINE_INFO, p);
	EXPECT_TRUE(ret == -EFAULT || ret == -ENODEV) TH_LOG("error %d", ret);
	for (i = 0; i < 2; i++) {
		r = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd[i], 0);
		if (r == MAP_FAILED) {
			EXPECT_EQ(ENODEV, errno);
			continue;
		}
		EXPECT_EQ(256 + SIGBUS, touch(r, false));
		munmap(r, page);
	}
	/* nor when the device has come back */
	ASSERT_EQ(0, tell_driver("bind"));
	EXPECT_EQ(256 + SIGBUS, touch(p, true));
	EXPECT_EQ(-ENODEV, vt_push(CLIENT, &m, 1));
	munmap(p, bytes);
	munmap(q, bytes);
}

static void *poll_thread(void *arg)
{
	int *fd = arg;

	*fd = vt_poll(*fd, POLLIN);
	return NULL;
}

/* Whoever sleeps is woken. */
TEST_F(unplugged, sleepers)
{
	struct vine_accept a = { .size = sizeof(a), .deadline = VINE_FOREVER };
	struct vine_connect later = { .size = sizeof(later), .depth = 2, .name = "vt-none",
				      .flags = VINE_WAIT_SERVICE, .deadline = VINE_FOREVER };
	struct vine_connect now = { .size = sizeof(now), .depth = 2, .name = "vt-other",
				    .deadline = VINE_FOREVER };
	struct vine_msg m[2];
	struct vine_transfer t[2] = {
		{ .size = sizeof(t[0]), .pull = (uintptr_t)m, .pull_count = 1,
		  .pull_min = 1, .deadline = VINE_FOREVER },
		{ .size = sizeof(t[1]), .pull = (uintptr_t)(m + 1), .pull_count = 1,
		  .pull_min = 1, .deadline = vt_patience() },
	};
	struct vt_thread thread[5];
	pthread_t poller[3];
	int listener, i, fd[3];

	if (no_unbind())
		SKIP(return, "%s", no_unbind());
	listener = vt_listen(DEV, "vt-other", 0);
	ASSERT_LE(0, listener);
	ASSERT_EQ(0, vt_thread_start(&thread[0], LISTENER, VINE_ACCEPT, &a));
	ASSERT_EQ(0, vt_thread_start(&thread[1], DEV, VINE_CONNECT, &later));
	ASSERT_EQ(0, vt_thread_start(&thread[2], DEV, VINE_CONNECT, &now));
	ASSERT_EQ(0, vt_thread_start(&thread[3], CLIENT, VINE_TRANSFER, &t[0]));
	ASSERT_EQ(0, vt_thread_start(&thread[4], SERVER, VINE_TRANSFER, &t[1]));
	for (i = 0; i < 5; i++) {
		ASSERT_TRUE(vt_thread_asleep(&thread[i]));
	}
	for (i = 0; i < 3; i++) {
		fd[i] = self->w.fd[VT_LISTENER + i];
		ASSERT_EQ(0, pthread_create(&poller[i], NULL, poll_thread, &fd[i]));
	}
	ASSERT_EQ(0, tell_driver("unbind"));
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(-ENODEV, vt_thread_join(&thread[i])) TH_LOG("thread %d", i);
	}
	for (i = 0; i < 3; i++) {
		pthread_join(poller[i], NULL);
		EXPECT_EQ(POLLHUP | POLLERR, fd[i] & (POLLHUP | POLLERR));
	}
	close(listener);
	ASSERT_EQ(0, tell_driver("bind"));
}

/* The old descriptors stay dead; the new node knows nothing of them. */
TEST_F(unplugged, new_node)
{
	struct vine_info info, was;
	struct vt_world w;
	struct vine_msg m;
	int i;

	if (no_unbind())
		SKIP(return, "%s", no_unbind());
	ASSERT_EQ(0, vt_info(DEV, &was));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, tell_driver("unbind"));
		EXPECT_FALSE(find_node());
		ASSERT_EQ(0, tell_driver("bind"));
		ASSERT_TRUE(vt_until(find_node()));
		/* a service of the same name, for one */
		ASSERT_EQ(0, vt_world_open(&w));
		ASSERT_EQ(0, vt_info(w.fd[VT_DEV], &info));
		EXPECT_EQ(was.chunks, info.chunks);
		EXPECT_EQ(was.kind, info.kind);
		EXPECT_EQ(was.queues, info.queues);
		EXPECT_EQ(was.regions, info.regions);
		EXPECT_EQ(1, vt_push_one(w.fd[VT_CLIENT], i));
		EXPECT_EQ(1, vt_pull_one(w.fd[VT_SERVER], i));
		EXPECT_EQ(-ENODEV, vt_info(DEV, &info));
		EXPECT_EQ(-ENODEV, vt_pull(SERVER, &m, 1, 0, 0));
		/* of another device, though it is the same one */
		EXPECT_EQ(-EINVAL, vt_attach(w.fd[VT_CLIENT], REGION, NULL));
		EXPECT_TRUE(vt_world_close(&w));
	}
}

/* A call that is stuck in a page fault does not hold up the unplugging. */
TEST_F(unplugged, stuck)
{
	struct vine_transfer push = { .size = sizeof(push), .push_count = 1 };
	struct vine_transfer pull = { .size = sizeof(pull), .pull_count = 1, .pull_min = 1,
				      .deadline = VINE_FOREVER };
	struct vt_thread pusher, puller;
	void *from, *to;
	int a, b;

	if (no_unbind())
		SKIP(return, "%s", no_unbind());
	a = missing_page(&from);
	if (a < 0)
		SKIP(return, "no userfaultfd for faults of the kernel");
	b = missing_page(&to);
	ASSERT_LE(0, b);
	push.push = (uintptr_t)from;
	pull.pull = (uintptr_t)to;
	ASSERT_EQ(1, vt_push_one(SERVER, 1));
	ASSERT_EQ(0, vt_thread_start(&pusher, CLIENT, VINE_TRANSFER, &push));
	ASSERT_EQ(0, vt_thread_start(&puller, CLIENT, VINE_TRANSFER, &pull));
	ASSERT_TRUE(is_stuck(a));
	ASSERT_TRUE(is_stuck(b));
	ASSERT_EQ(0, tell_driver("unbind"));
	EXPECT_TRUE(free_stuck(a, from));
	EXPECT_TRUE(free_stuck(b, to));
	EXPECT_EQ(-ENODEV, vt_thread_join(&pusher));
	/* it has its message, or not: what it copied may not be taken back */
	EXPECT_TRUE(!vt_thread_join(&puller) || puller.ret == -ENODEV);
	munmap(from, self->w.page);
	munmap(to, self->w.page);
	close(a);
	close(b);
	ASSERT_EQ(0, tell_driver("bind"));
}

/* ---- under load ---- */

/* Something that is done over and over until the device is gone. */
struct load {
	pthread_t thread;
	struct vt_world *w;
	int what;
	atomic_int rounds;
	int ret;
};

static __thread sigjmp_buf on_sigbus;

static void sigbus(int sig)
{
	siglongjmp(on_sigbus, sig);
}

/* One round. 1 to go on, or what ended it. */
static int load_round(struct load *l, __u64 n)
{
	struct vt_world *w = l->w;
	struct vine_info info;
	struct vine_msg m;
	volatile char *p;
	int fd, ret;

	switch (l->what) {
	case 0:		/* sends; waits when it is full */
		ret = vt_push_one(w->fd[VT_CLIENT], n);
		if (ret == -EAGAIN)
			ret = vt_poll(w->fd[VT_CLIENT], POLLOUT) & POLLERR ? -ENODEV : 1;
		return ret;
	case 1:		/* receives */
		return vt_pull(w->fd[VT_SERVER], &m, 1, 1, VINE_FOREVER);
	case 2:		/* writes to memory */
		if (sigsetjmp(on_sigbus, 1))
			return -ENODEV;
		p = vt_map(w->fd[VT_REGION], w->chunk);
		if (!p)
			return -errno;
		memset((void *)p, n, w->chunk);
		munmap((void *)p, w->chunk);
		return 1;
	case 3:		/* claims memory */
		fd = vt_region(w->fd[VT_DEV], 4 * w->chunk);
		if (fd < 0)
			return fd;
		close(fd);
		return 1;
	case 4:		/* connects */
		fd = vt_connect(w->fd[VT_DEV], w->name, 0, VINE_FOREVER, 2);
		if (fd < 0)
			return fd;
		close(fd);
		return 1;
	case 5:		/* accepts */
		fd = vt_accept(w->fd[VT_LISTENER], 0, VINE_FOREVER);
		if (fd < 0)
			return fd;
		close(fd);
		return 1;
	default:	/* looks */
		ret = vt_info(w->mon, &info);
		return ret ?: 1;
	}
}

static void *load(void *arg)
{
	struct load *l = arg;
	__u64 n;

	for (n = 0; (l->ret = load_round(l, n)) == 1; n++)
		l->rounds++;
	return NULL;
}

#define LOADS	7

TEST_F(unplugged, under_load)
{
	struct load l[LOADS];
	int round, i, k;

	if (no_unbind())
		SKIP(return, "%s", no_unbind());
	signal(SIGBUS, sigbus);
	for (round = 0; round < 10; round++) {
		struct vt_world w;
		struct timespec ts;

		ASSERT_TRUE(vt_until(find_node()));
		ASSERT_EQ(0, vt_world_open(&w));
		for (i = 0; i < LOADS; i++) {
			l[i] = (struct load){ .w = &w, .what = i };
			ASSERT_EQ(0, pthread_create(&l[i].thread, NULL, load, &l[i]));
		}
		for (i = 0; i < LOADS; i++) {
			EXPECT_TRUE(vt_until(l[i].rounds > 3)) TH_LOG("load %d: %d", i, l[i].ret);
		}
		ASSERT_EQ(0, tell_driver("unbind"));
		for (i = 0; i < LOADS; i++) {
			clock_gettime(CLOCK_REALTIME, &ts);
			ts.tv_sec += VT_PATIENCE;
			ASSERT_EQ(0, pthread_timedjoin_np(l[i].thread, NULL, &ts))
				TH_LOG("load %d", i);
			/* who was in the middle of it may see its queue or listener go first */
			EXPECT_TRUE(l[i].ret == -ENODEV) TH_LOG("load %d: %d", i, l[i].ret);
		}
		for (k = 0; k < VT_KINDS; k++)
			vt_drop(&w.fd[k]);
		vt_drop(&w.mon);
		ASSERT_EQ(0, tell_driver("bind"));
	}
	signal(SIGBUS, SIG_DFL);
}

/* ---- the module goes, and comes back ---- */

/* Runs modprobe. False when it fails. */
static bool modprobe(char *const argv[])
{
	pid_t pid = vt_fork();

	if (!pid) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 1);
		dup2(null, 2);
		execvp("modprobe", argv);
		_exit(127);
	}
	return pid > 0 && vt_reap(pid) == 0;
}

/* The parameters that it was loaded with, as words for modprobe. */
static int module_parameters(char *argv[], int room)
{
	DIR *d = opendir("/sys/module/vine/parameters");
	char path[PATH_MAX], value[64];
	struct dirent *e;
	int n = 0, fd;
	ssize_t len;

	while (d && n < room && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/module/vine/parameters/%s", e->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		len = fd < 0 ? 0 : read(fd, value, sizeof(value) - 1);
		close(fd);
		if (len <= 1)
			continue;
		value[len - 1] = 0;	/* the end of the line */
		if (asprintf(&argv[n], "%s=%s", e->d_name, value) > 0)
			n++;
	}
	if (d)
		closedir(d);
	return n;
}

FIXTURE(reload) { };
FIXTURE_SETUP(reload) { ASSERT_TRUE(find_node()); }
FIXTURE_TEARDOWN(reload) { }

/*
 * Without descriptors it can be removed; loaded again, it is as it was. The device may
 * have got another number before, and may get its first one now.
 */
TEST_F(reload, module)
{
	char *known[] = { "modprobe", "-D", "vine", NULL };
	char *argv[32] = { "modprobe", "vine" };
	struct vine_info was, info;
	struct vt_world w;
	int fd, err;

	if (geteuid() || !modprobe(known))
		SKIP(return, "modprobe would not find vine again");
	module_parameters(argv + 2, 29);
	fd = vt_open();
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, vt_info(fd, &was));
	close(fd);
	err = remove_module();
	if (err == -EAGAIN)
		SKIP(return, "others have it open");
	ASSERT_EQ(0, err);
	EXPECT_FALSE(find_node());
	ASSERT_TRUE(modprobe(argv));
	ASSERT_TRUE(vt_until(find_node()));
	ASSERT_EQ(0, vt_world_open(&w));
	ASSERT_EQ(0, vt_info(w.mon, &info));
	EXPECT_EQ(was.kind, info.kind);
	EXPECT_EQ(was.chunks, info.chunks);
	EXPECT_EQ(was.vectors, info.vectors);
	EXPECT_EQ(1, vt_push_one(w.fd[VT_CLIENT], 1));
	EXPECT_EQ(1, vt_pull_one(w.fd[VT_SERVER], 1));
	EXPECT_TRUE(vt_world_close(&w));
}

TEST_HARNESS_MAIN
