// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * vine_query_test.c - VINE_QUERY and VINE_BURY: what is told to whom, and who is buried
 *
 * What holds for every call is in vine_api_test.c.
 */
#include "vine_test.h"

#include <sys/wait.h>

#define NOBODY	65534

/* ---- records ---- */

#define FIND(name, what, record, most, condition)			\
static int name(int dev, __u64 key, struct record *found)		\
{									\
	static struct record array[most];				\
	int i, n = vt_query(dev, what, array, most);			\
									\
	for (i = 0; i < n && i < most; i++) {				\
		const struct record *r = &array[i];			\
									\
		*found = *r;						\
		if (condition)						\
			return 0;					\
	}								\
	return n < 0 ? n : -ENOENT;					\
}

/* Each gives 0 with the record, -ENOENT when there is none, or another -errno. */
FIND(find_peer, VINE_QUERY_PEERS, vine_query_peer, VINE_MAX_PEERS, r->peer == key)
FIND(find_service, VINE_QUERY_SERVICES, vine_query_service, VINE_MAX_SERVICES,
     !strcmp((char *)r->name, (char *)(uintptr_t)key))
FIND(find_queue, VINE_QUERY_QUEUES, vine_query_queue, VINE_MAX_QUEUES, r->service == key)
FIND(find_queue_by_number, VINE_QUERY_QUEUES, vine_query_queue, VINE_MAX_QUEUES,
     r->queue == key)
FIND(find_region, VINE_QUERY_REGIONS, vine_query_region, VINE_MAX_REGIONS, r->id == key)

static __u64 service_id(int dev, const char *name)
{
	struct vine_query_service s;

	return find_service(dev, (uintptr_t)name, &s) ? 0 : s.id;
}

/* Gives up all privileges. False when it cannot. */
static bool become_nobody(void)
{
	return !setegid(NOBODY) && !seteuid(NOBODY);
}

/* What a child without privileges gets. */
static int bury_as_nobody(int dev, __u32 peer, __u32 incarnation)
{
	pid_t pid = vt_fork();

	if (!pid)
		_exit(become_nobody() ? -vt_bury(dev, peer, incarnation) : 255);
	return pid < 0 ? pid : -vt_reap(pid);
}

/* ---- VINE_QUERY ---- */

VT_FIXTURE(query)

static const __u32 all_tables[] = {
	VINE_QUERY_PEERS, VINE_QUERY_SERVICES, VINE_QUERY_QUEUES, VINE_QUERY_REGIONS,
};

static size_t record_size(__u32 what)
{
	return what == VINE_QUERY_PEERS ? sizeof(struct vine_query_peer) :
	       what == VINE_QUERY_SERVICES ? sizeof(struct vine_query_service) :
	       what == VINE_QUERY_QUEUES ? sizeof(struct vine_query_queue) :
					   sizeof(struct vine_query_region);
}

TEST_F(query, unknown_what)
{
	static const __u32 none[] = { 0, 5, 6, 64, 0x80000001, ~0U };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(none); i++) {
		EXPECT_EQ(-EINVAL, vt_query(DEV, none[i], NULL, 0)) TH_LOG("%u", none[i]);
	}
}

/* More than there is room for: their number, and nothing behind the room. */
TEST_F(query, room)
{
	int other = vt_listen(DEV, "vt-other", 0), client, server, n, room;
	unsigned int t;
	size_t size;
	char *mem;

	ASSERT_LE(0, other);
	ASSERT_EQ(0, vt_pair(DEV, LISTENER, self->w.name, 64, &client, &server));
	for (t = 0; t < ARRAY_SIZE(all_tables); t++) {
		size = record_size(all_tables[t]);
		n = vt_query(DEV, all_tables[t], NULL, 0);
		ASSERT_LE(all_tables[t] == VINE_QUERY_PEERS ? 1 : 2, n) TH_LOG("table %u", t);
		mem = malloc((n + 1) * size);
		ASSERT_NE(NULL, mem);
		for (room = 0; room <= n; room++) {
			memset(mem, 0x5a, (n + 1) * size);
			EXPECT_EQ(n, vt_query(DEV, all_tables[t], mem, room));
			EXPECT_TRUE(vt_all_are(mem + room * size, 0x5a, (n + 1 - room) * size));
			EXPECT_FALSE(room && vt_all_are(mem + (room - 1) * size, 0x5a, size));
		}
		free(mem);
	}
	close(server);
	close(client);
	close(other);
}

/* Room for more than any segment holds, said of memory that ends behind the last. */
TEST_F(query, huge_count)
{
	unsigned int t;
	char *end;
	int n;

	end = vt_guarded(64);
	ASSERT_NE(NULL, end);
	end += 64 * self->w.page;
	for (t = 0; t < ARRAY_SIZE(all_tables); t++) {
		n = vt_query(DEV, all_tables[t], NULL, 0);
		ASSERT_LE(1, n);
		ASSERT_GE(64 * self->w.page, n * record_size(all_tables[t]));
		EXPECT_EQ(n, vt_query(DEV, all_tables[t],
				      end - n * record_size(all_tables[t]), ~0U));
	}
}

TEST_F(query, bad_array)
{
	char *end = vt_guarded(1);
	unsigned int t;

	ASSERT_NE(NULL, end);
	end += self->w.page;
	for (t = 0; t < ARRAY_SIZE(all_tables); t++) {
		EXPECT_EQ(-EFAULT, vt_query(DEV, all_tables[t], NULL, 1));
		EXPECT_EQ(-EFAULT, vt_query(DEV, all_tables[t], end, 1));
		EXPECT_EQ(-EFAULT, vt_query(DEV, all_tables[t], end - 1, 1));
		EXPECT_EQ(-EFAULT, vt_query(DEV, all_tables[t], (void *)0xffff888000000000UL, 1));
		EXPECT_EQ(-EFAULT, vt_query(DEV, all_tables[t], (void *)(-1UL - 31), ~0U));
	}
}

/* Ourselves; we live. */
TEST_F(query, peers)
{
	struct vine_query_peer p[VINE_MAX_PEERS], later;
	struct vine_info info;
	int i, n, own = 0;

	ASSERT_EQ(0, vt_info(DEV, &info));
	n = vt_query(DEV, VINE_QUERY_PEERS, p, VINE_MAX_PEERS);
	EXPECT_EQ((int)info.peers, n);
	for (i = 0; i < n; i++) {
		if (!(p[i].flags & VINE_QUERY_OWN))
			continue;
		own++;
		EXPECT_EQ(info.peer, p[i].peer);
		EXPECT_EQ(info.incarnation, p[i].incarnation);
		EXPECT_EQ(info.ivposition, p[i].ivposition);
		EXPECT_EQ(info.vectors, p[i].vectors);
		EXPECT_EQ(VINE_QUERY_PEER_LIVE, p[i].state);
		EXPECT_EQ(0, p[i].silent_ms);
		EXPECT_TRUE(vt_until(!find_peer(DEV, info.peer, &later) &&
				     later.beats > p[i].beats));
	}
	EXPECT_EQ(1, own);
}

TEST_F(query, services)
{
	struct vine_services list = { .size = sizeof(list), .count = VINE_MAX_SERVICES };
	static struct vine_service services[VINE_MAX_SERVICES];
	struct vine_listen l = { .size = sizeof(l), .type = 0x123456789abcdef0ULL,
				 .name = "vt-0123456789-0123456789-012345" };
	struct vine_query_service s;
	struct vine_info info;
	unsigned int i;
	int client[3];

	ASSERT_EQ(0, vt_info(DEV, &info));
	ASSERT_EQ(0, vt_ioctl(DEV, VINE_LISTEN, &l));
	ASSERT_EQ(0, find_service(DEV, (uintptr_t)l.name, &s));
	EXPECT_EQ(l.type, s.type);
	EXPECT_EQ(info.peer, s.peer);
	EXPECT_EQ(info.incarnation, s.incarnation);
	EXPECT_EQ(VINE_QUERY_SERVICE_LIVE, s.state);
	EXPECT_EQ(VINE_QUERY_OWN, s.flags);
	EXPECT_EQ(0, s.waiting);
	EXPECT_EQ(getpid(), s.pid);
	/* the id is that of VINE_SERVICES */
	list.array = (uintptr_t)services;
	ASSERT_EQ(0, vt_ioctl(DEV, VINE_SERVICES, &list));
	for (i = 0; i < list.count; i++)
		if (!strcmp((char *)services[i].name, (char *)l.name))
			break;
	ASSERT_GT(list.count, i);
	EXPECT_EQ(services[i].id, s.id);
	/* who waits is counted, whether the server has looked or not */
	for (i = 0; i < 3; i++) {
		client[i] = vt_connect(DEV, (char *)l.name, VINE_NONBLOCK, 0, 2);
		ASSERT_LE(0, client[i]);
		if (i == 1) {
			EXPECT_EQ(POLLIN, vt_poll_now(l.fd, POLLIN));
		}
		ASSERT_EQ(0, find_service(DEV, (uintptr_t)l.name, &s));
		EXPECT_EQ(i + 1, s.waiting);
	}
	for (i = 0; i < 3; i++) {
		close(client[i]);
		ASSERT_EQ(0, find_service(DEV, (uintptr_t)l.name, &s));
		EXPECT_EQ(2 - i, s.waiting);
	}
	close(l.fd);
	EXPECT_EQ(-ENOENT, find_service(DEV, (uintptr_t)l.name, &s));
}

TEST_F(query, queues)
{
	struct vine_query_queue q;
	struct vine_info info;
	struct vine_msg m;
	__u64 id;
	int i;

	ASSERT_EQ(0, vt_info(DEV, &info));
	id = service_id(DEV, self->w.name);
	ASSERT_EQ(0, find_queue(DEV, id, &q));
	EXPECT_EQ(VINE_QUERY_QUEUE_ACCEPTED, q.state);
	EXPECT_EQ(VINE_QUERY_CLIENT | VINE_QUERY_SERVER, q.flags);
	EXPECT_EQ(VT_DEPTH, q.depth);
	EXPECT_EQ(info.peer, q.client);
	EXPECT_EQ(info.incarnation, q.client_incarnation);
	EXPECT_EQ(info.peer, q.server);
	EXPECT_EQ(info.incarnation, q.server_incarnation);
	EXPECT_EQ(getpid(), q.client_pid);
	EXPECT_EQ(getpid(), q.server_pid);
	EXPECT_EQ(1, q.attached);
	EXPECT_EQ(0, q.reserved);
	/* what is under way */
	for (i = 0; i < VT_DEPTH; i++) {
		ASSERT_EQ(0, find_queue(DEV, id, &q));
		EXPECT_EQ(i, q.to_server);
		EXPECT_EQ(0, q.to_client);
		ASSERT_EQ(1, vt_push_one(CLIENT, i));
	}
	ASSERT_EQ(1, vt_push_one(SERVER, 7));
	for (i = 0; i < VT_DEPTH; i++) {
		ASSERT_EQ(0, find_queue(DEV, id, &q));
		EXPECT_EQ(VT_DEPTH - i, q.to_server);
		EXPECT_EQ(1, q.to_client);
		ASSERT_EQ(1, vt_pull_one(SERVER, i));
	}
	ASSERT_EQ(1, vt_pull(CLIENT, &m, 1, 0, 0));
	ASSERT_EQ(0, find_queue(DEV, id, &q));
	EXPECT_EQ(0, q.to_server);
	EXPECT_EQ(0, q.to_client);
	/* a side that is closed is nobody's */
	vt_drop(&SERVER);
	ASSERT_EQ(0, find_queue(DEV, id, &q));
	EXPECT_EQ(VINE_QUERY_CLIENT, q.flags);
	EXPECT_EQ(0, q.server_pid);
	vt_drop(&CLIENT);
	EXPECT_TRUE(vt_until(find_queue(DEV, id, &q) == -ENOENT));
}

TEST_F(query, queues_that_wait)
{
	int other = vt_listen(DEV, "vt-other", 0), client;
	struct vine_query_queue q;
	__u64 id;

	ASSERT_LE(0, other);
	id = service_id(DEV, "vt-other");
	client = vt_connect(DEV, "vt-other", VINE_NONBLOCK, 0, 4096);
	ASSERT_LE(0, client);
	ASSERT_EQ(0, find_queue(DEV, id, &q));
	EXPECT_EQ(VINE_QUERY_QUEUE_CONNECTING, q.state);
	EXPECT_EQ(VINE_QUERY_CLIENT, q.flags);
	EXPECT_EQ(4096, q.depth);
	EXPECT_EQ(0, q.attached);
	close(other);
	ASSERT_EQ(0, find_queue(DEV, id, &q));
	EXPECT_EQ(VINE_QUERY_QUEUE_REFUSED, q.state);
	close(client);
}

TEST_F(query, regions)
{
	struct vine_query_queue q;
	struct vine_query_region r, rings[VINE_MAX_REGIONS];
	struct vine_info info;
	int i, n, found = 0;

	ASSERT_EQ(0, vt_info(DEV, &info));
	ASSERT_EQ(0, find_region(DEV, self->w.id, &r));
	EXPECT_EQ(self->w.chunk, r.bytes);
	EXPECT_EQ(1ULL << info.peer, r.holders);
	EXPECT_EQ(info.peer, r.peer);
	EXPECT_EQ(info.incarnation, r.incarnation);
	EXPECT_EQ(VINE_QUERY_REGION_LIVE, r.state);
	EXPECT_EQ(VINE_QUERY_OWN, r.flags);
	EXPECT_EQ(2, r.users);	/* it was made, and imported */
	EXPECT_EQ(getpid(), r.pid);
	/* the owner lets go, the importer does not */
	vt_drop(&REGION);
	ASSERT_EQ(0, find_region(DEV, self->w.id, &r));
	EXPECT_EQ(VINE_QUERY_REGION_DYING, r.state);
	EXPECT_EQ(1, r.users);
	EXPECT_EQ(getpid(), r.pid);
	vt_drop(&IMPORT);
	EXPECT_EQ(-ENOENT, find_region(DEV, self->w.id, &r));
	/* the rings of the queue; no process has made them a region */
	ASSERT_EQ(0, find_queue(DEV, service_id(DEV, self->w.name), &q));
	n = vt_query(DEV, VINE_QUERY_REGIONS, rings, VINE_MAX_REGIONS);
	for (i = 0; i < n; i++) {
		if (!(rings[i].flags & VINE_QUERY_RINGS))
			continue;
		found++;
		EXPECT_EQ(0, rings[i].pid);
		EXPECT_LE(1, rings[i].users);
	}
	EXPECT_LE(1, found);
}

/* What belongs to another process bears its number, as long as it lives. */
TEST_F(query, of_another_process)
{
	struct vine_query_region r;
	int pidfd, region, pipes[2];
	__u64 id;
	pid_t pid;

	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC));
	pid = vt_fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		region = vt_region(DEV, 1);
		if (write(pipes[1], &region, sizeof(region)) != sizeof(region))
			_exit(1);
		for (;;)
			pause();
	}
	ASSERT_EQ((ssize_t)sizeof(region), read(pipes[0], &region, sizeof(region)));
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	ASSERT_LE(0, pidfd);
	region = syscall(SYS_pidfd_getfd, pidfd, region, 0);
	ASSERT_LE(0, region);
	ASSERT_EQ(0, vt_attach(CLIENT, region, &id));
	ASSERT_EQ(0, find_region(DEV, id, &r));
	EXPECT_EQ(pid, r.pid);
	kill(pid, SIGKILL);
	EXPECT_EQ(256 + SIGKILL, vt_reap(pid));
	/* we keep what it made; its number may be another's any time */
	ASSERT_EQ(0, find_region(DEV, id, &r));
	EXPECT_EQ(1, r.users);
	EXPECT_EQ(0, r.pid);
	close(region);
	close(pidfd);
	close(pipes[0]);
	close(pipes[1]);
}

/* In the child: are only the things of its user told? The line that says no, or 0. */
static int told_its_own(struct vt_world *w, const struct vine_info *info)
{
	static struct vine_query_service services[VINE_MAX_SERVICES];
	struct vine_query_region r[4];
	struct vine_query_queue q[4];
	int dev = w->fd[VT_DEV], region, client, i, n;

	if (vt_query(dev, VINE_QUERY_PEERS, NULL, 0) != (int)info->peers)
		return __LINE__;
	n = vt_query(dev, VINE_QUERY_SERVICES, services, VINE_MAX_SERVICES);
	if (n != (int)info->services)
		return __LINE__;
	for (i = 0; i < n; i++)
		if (services[i].pid)
			return __LINE__;
	if (vt_query(dev, VINE_QUERY_QUEUES, q, 4) || vt_query(dev, VINE_QUERY_REGIONS, r, 4))
		return __LINE__;
	/* of its own it is told; of the other side of its queue, not who that is */
	region = vt_region(dev, 2 * w->chunk);
	client = vt_connect(dev, w->name, 0, vt_patience(), 2);
	if (region < 0 || client < 0)
		return __LINE__;
	if (vt_query(dev, VINE_QUERY_REGIONS, r, 4) != 1 || r[0].pid != (__u32)getpid() ||
	    r[0].bytes != 2 * w->chunk)
		return __LINE__;
	if (vt_query(dev, VINE_QUERY_QUEUES, q, 4) != 1 || q[0].client_pid != (__u32)getpid() ||
	    q[0].flags != (VINE_QUERY_CLIENT | VINE_QUERY_SERVER) || q[0].server_pid)
		return __LINE__;
	return 0;
}

TEST_F(query, unprivileged)
{
	struct vine_info info;
	int server;
	pid_t pid;

	if (geteuid())
		SKIP(return, "needs root, to become nobody");
	ASSERT_EQ(0, vt_info(DEV, &info));
	pid = vt_fork();
	ASSERT_LE(0, pid);
	if (!pid)	/* a line is more than an exit status holds: modulo */
		_exit(become_nobody() ? told_its_own(&self->w, &info) % 251 : 255);
	server = vt_accept(LISTENER, 0, vt_patience());
	EXPECT_LE(0, server);
	EXPECT_EQ(0, vt_reap(pid));
	close(server);
	/* the same user with the privilege is told all */
	EXPECT_LE(1, vt_query(DEV, VINE_QUERY_QUEUES, NULL, 0));
	EXPECT_LE(2, vt_query(DEV, VINE_QUERY_REGIONS, NULL, 0));
}

/* ---- VINE_BURY ---- */

VT_FIXTURE(bury)

TEST_F(bury, unprivileged)
{
	struct vine_info info;

	if (geteuid())
		SKIP(return, "needs root, to become nobody");
	ASSERT_EQ(0, vt_info(DEV, &info));
	EXPECT_EQ(-EPERM, bury_as_nobody(DEV, info.peer, info.incarnation));
	EXPECT_EQ(-EPERM, bury_as_nobody(DEV, VINE_MAX_PEERS, 1));
}

TEST_F(bury, nobody)
{
	struct vine_query_peer p;
	struct vine_info info;
	__u32 slot;

	ASSERT_EQ(0, vt_info(DEV, &info));
	EXPECT_EQ(-ENOENT, vt_bury(DEV, info.peer, info.incarnation + 1));
	EXPECT_EQ(-ENOENT, vt_bury(DEV, info.peer, 0));
	EXPECT_EQ(-ENOENT, vt_bury(DEV, info.peer + VINE_MAX_PEERS, info.incarnation));
	EXPECT_EQ(-ENOENT, vt_bury(DEV, ~0U, info.incarnation));
	for (slot = 0; slot < VINE_MAX_PEERS; slot++) {
		if (find_peer(DEV, slot, &p) != -ENOENT)
			continue;
		EXPECT_EQ(-ENOENT, vt_bury(DEV, slot, 0));
		EXPECT_EQ(-ENOENT, vt_bury(DEV, slot, 1));
	}
}

/* We live, and go on. */
TEST_F(bury, ourselves)
{
	struct vine_info was, now;

	ASSERT_EQ(0, vt_info(DEV, &was));
	EXPECT_EQ(-EBUSY, vt_bury(DEV, was.peer, was.incarnation));
	EXPECT_EQ(1, vt_push_one(CLIENT, 1));
	EXPECT_EQ(1, vt_pull_one(SERVER, 1));
	ASSERT_EQ(0, vt_info(DEV, &now));
	EXPECT_EQ(was.incarnation, now.incarnation);
}

/* ---- somebody else, who is silent: put into the segment ($VINE_SEGMENT) ---- */

#define INC	77
#define SLOT	(VINE_MAX_PEERS - 1)
#define LAST	(VINE_MAX_REGIONS - 1)	/* queues and regions: as many */

FIXTURE(suspect) {
	struct vt_world w;
	struct vine_info info;
	char *segment;
	struct vine_wire_peer *peer;
	struct vine_wire_service *service;
	struct vine_wire_queue *queue;
	struct vine_wire_region *region;
	__le64 *chunk;
};

/* A peer in the last slot, with a service, a queue and a region of one chunk. */
FIXTURE_SETUP(suspect)
{
	ASSERT_EQ(0, vt_world_open(&self->w));
	ASSERT_EQ(0, vt_info(DEV, &self->info));
	self->segment = vt_segment(self->info.segment_size);
	if (!self->segment)
		SKIP(return, "VINE_SEGMENT names no file that is the device's memory");
	self->peer = (struct vine_wire_peer *)(self->segment + VINE_OFF_PEERS) + SLOT;
	self->service = (struct vine_wire_service *)(self->segment + VINE_OFF_SERVICES) +
		VINE_MAX_SERVICES - 1;
	self->queue = (struct vine_wire_queue *)(self->segment + VINE_OFF_QUEUES) + LAST;
	self->region = (struct vine_wire_region *)(self->segment + VINE_OFF_REGIONS) + LAST;
	self->chunk = (__le64 *)(self->segment + VINE_OFF_CHUNKMAP) + self->info.chunks - 1;
	ASSERT_EQ(VINE_PEER_FREE, VINE_PEER_STATE(vt_peek(&self->peer->word)));
	ASSERT_EQ(0, vt_peek(&self->service->ctl) & 0xff);
	ASSERT_EQ(0, vt_peek(&self->queue->ctl) & 0xff);
	ASSERT_EQ(0, vt_peek(&self->region->ctl) & 0xff);
	ASSERT_EQ(0, vt_peek(self->chunk));
	vt_poke(&self->peer->word, VINE_PEER(INC, 63, 0, VINE_PEER_SUSPECT));
	vt_name(self->service->name, "vt-remote");
	vt_poke(&self->service->ctl, VINE_CTL(9, INC, SLOT, VINE_SERVICE_LIVE));
	vt_poke(&self->queue->server, VINE_SERVER(9, INC, SLOT, VINE_MAX_SERVICES - 1));
	vt_poke(&self->queue->rings, VINE_RINGS(6, 0));
	vt_poke(&self->queue->ctl, VINE_CTL(9, INC, SLOT, VINE_QUEUE_CONNECTING));
	vt_poke(&self->region->extent, VINE_EXTENT(self->info.chunks - 1, 1));
	self->region->hold[SLOT] = INC;
	vt_poke(&self->region->ctl, VINE_CTL(9, INC, SLOT, VINE_REGION_LIVE));
	vt_poke(self->chunk, VINE_REGION_ID(9, LAST));
}

/* Nothing of it is left, whatever the test did. */
FIXTURE_TEARDOWN(suspect)
{
	if (self->segment) {
		if (VINE_PEER_STATE(vt_peek(&self->peer->word)))
			vt_poke(&self->peer->word, VINE_PEER(INC, 63, 0, VINE_PEER_GONE));
		EXPECT_TRUE(vt_until(!VINE_PEER_STATE(vt_peek(&self->peer->word))));
		EXPECT_EQ(0, vt_peek(&self->service->ctl) & 0xff);
		EXPECT_EQ(0, vt_peek(&self->queue->ctl) & 0xff);
		EXPECT_EQ(0, vt_peek(&self->region->ctl) & 0xff);
		EXPECT_TRUE(vt_until(!vt_peek(self->chunk)));
		munmap(self->segment, self->info.segment_size);
	}
	EXPECT_TRUE(vt_world_close(&self->w));
}

TEST_F(suspect, is_told)
{
	struct vine_query_service s;
	struct vine_query_region r;
	struct vine_query_queue q;
	struct vine_query_peer p;
	struct vine_service services[2];
	struct vine_services list = { .size = sizeof(list), .count = 2,
				      .array = (uintptr_t)services };

	if (!self->segment)
		return;
	ASSERT_EQ(0, find_peer(DEV, SLOT, &p));
	EXPECT_EQ(INC, p.incarnation);
	EXPECT_EQ(VINE_QUERY_PEER_SUSPECT, p.state);
	EXPECT_EQ(63, p.ivposition);
	EXPECT_EQ(0, p.flags | p.vectors | p.beats);
	/* it is silent for longer and longer, until it beats */
	EXPECT_TRUE(vt_until(!find_peer(DEV, SLOT, &p) && p.silent_ms >= 500));
	vt_poke(&self->peer->beat, 12345);
	EXPECT_TRUE(vt_until(!find_peer(DEV, SLOT, &p) && p.silent_ms < 500));
	EXPECT_EQ(12345, p.beats);
	vt_poke(&self->peer->beat, 0);
	/* its service can be seen, though nobody can connect to it */
	ASSERT_EQ(0, find_service(DEV, (uintptr_t)"vt-remote", &s));
	EXPECT_EQ(SLOT, s.peer);
	EXPECT_EQ(INC, s.incarnation);
	EXPECT_EQ(VINE_QUERY_SERVICE_LIVE, s.state);
	EXPECT_EQ(0, s.flags | s.pid | s.waiting);
	ASSERT_EQ(0, vt_ioctl(DEV, VINE_SERVICES, &list));
	EXPECT_EQ(self->info.services, list.count);
	ASSERT_EQ(0, find_queue(DEV, s.id, &q));
	EXPECT_EQ(LAST, q.queue);
	EXPECT_EQ(VINE_QUERY_QUEUE_CONNECTING, q.state);
	EXPECT_EQ(64, q.depth);
	EXPECT_EQ(SLOT, q.client);
	EXPECT_EQ(SLOT, q.server);
	EXPECT_EQ(VINE_QUERY_UNKNOWN, q.to_server);
	EXPECT_EQ(VINE_QUERY_UNKNOWN, q.to_client);
	EXPECT_EQ(0, q.flags | q.client_pid | q.server_pid);
	ASSERT_EQ(0, find_region(DEV, VINE_REGION_ID(9, LAST), &r));
	EXPECT_EQ(SLOT, r.peer);
	EXPECT_EQ(INC, r.incarnation);
	EXPECT_EQ(self->w.chunk, r.bytes);
	EXPECT_EQ(1ULL << SLOT, r.holders);
	EXPECT_EQ(0, r.flags | r.users | r.pid);
}

/* What cannot be is passed on as it is, and nothing comes of it. */
TEST_F(suspect, that_lies)
{
	struct vine_query_region r;
	struct vine_query_queue q;
	unsigned int i;

	if (!self->segment)
		return;
	vt_poke(&self->queue->rings, ~0ULL);
	vt_poke(&self->queue->server, ~0ULL);
	for (i = 0; i < VINE_MAX_ATTACH; i++)
		vt_poke(&self->queue->attach[i], ~0ULL);
	vt_poke(&self->queue->ctl, VINE_CTL(9, INC, SLOT, 99));
	vt_poke(&self->region->extent, ~0ULL);
	vt_poke(&self->region->ctl, VINE_CTL(9, INC, SLOT, 98));
	ASSERT_EQ(0, find_queue_by_number(DEV, LAST, &q));
	EXPECT_EQ(99, q.state);
	EXPECT_EQ(255, q.server);
	EXPECT_EQ(0, q.depth);
	EXPECT_EQ(VINE_MAX_ATTACH, q.attached);
	vt_poke(&self->queue->rings, VINE_RINGS(13, 0));
	ASSERT_EQ(0, find_queue_by_number(DEV, LAST, &q));
	EXPECT_EQ(0, q.depth);
	ASSERT_EQ(0, find_region(DEV, VINE_REGION_ID(9, LAST), &r));
	EXPECT_EQ(98, r.state);
	EXPECT_EQ(0, r.bytes);
	for (i = 0; i < VINE_MAX_ATTACH; i++)
		vt_poke(&self->queue->attach[i], 0);
	vt_poke(&self->region->extent, VINE_EXTENT(self->info.chunks - 1, 1));
}

/* A queue to ourselves, whose other end says that it has pulled what was never sent. */
TEST_F(suspect, count_that_cannot_be)
{
	struct vine_wire_region *rings;
	struct vine_wire_queue *entry;
	struct vine_wire_ring *ring;
	struct vine_query_queue q;
	__u64 at;

	if (!self->segment)
		return;
	ASSERT_EQ(0, find_queue(DEV, service_id(DEV, self->w.name), &q));
	entry = (struct vine_wire_queue *)(self->segment + VINE_OFF_QUEUES) + q.queue;
	rings = (struct vine_wire_region *)(self->segment + VINE_OFF_REGIONS) +
		VINE_REGION_INDEX(entry->region);
	at = VINE_OFF_CHUNKMAP + 8ULL * self->info.chunks;
	at = (at + self->w.chunk - 1) / self->w.chunk * self->w.chunk;
	at += VINE_EXTENT_FIRST(rings->extent) * self->w.chunk;
	ring = (struct vine_wire_ring *)(self->segment + at + VINE_RINGS_OFFSET(entry->rings));
	ASSERT_EQ(1, vt_push_one(CLIENT, 1));
	vt_drop(&SERVER);
	ASSERT_EQ(0, find_queue_by_number(DEV, q.queue, &q));
	EXPECT_EQ(1, q.to_server);
	vt_poke(&ring->consumed, 2);
	ASSERT_EQ(0, find_queue_by_number(DEV, q.queue, &q));
	EXPECT_EQ(VINE_QUERY_UNKNOWN, q.to_server);
	/* who only asks breaks nothing */
	EXPECT_EQ(0, q.flags & VINE_QUERY_BROKEN);
	vt_poke(&ring->consumed, 0);
}

TEST_F(suspect, is_buried)
{
	struct vine_query_peer p;

	if (!self->segment)
		return;
	EXPECT_EQ(0, vt_bury(DEV, SLOT, INC));
	EXPECT_EQ(-ENOENT, find_peer(DEV, SLOT, &p));
	EXPECT_EQ(VINE_PEER_FREE, VINE_PEER_STATE(vt_peek(&self->peer->word)));
	/* and all that it had is free again at once */
	EXPECT_EQ(0, vt_peek(&self->service->ctl) & 0xff);
	EXPECT_EQ(0, vt_peek(&self->queue->ctl) & 0xff);
	EXPECT_EQ(0, vt_peek(&self->region->ctl) & 0xff);
	EXPECT_EQ(0, vt_peek(self->chunk));
	EXPECT_EQ(-ENOENT, vt_bury(DEV, SLOT, INC));
	/* we are still there */
	EXPECT_EQ(1, vt_push_one(CLIENT, 1));
	EXPECT_EQ(1, vt_pull_one(SERVER, 1));
}

TEST_F(suspect, that_beats)
{
	if (!self->segment)
		return;
	vt_poke(&self->peer->word, VINE_PEER(INC, 63, 0, VINE_PEER_LIVE));
	EXPECT_EQ(-EBUSY, vt_bury(DEV, SLOT, INC));
	EXPECT_EQ(VINE_PEER_LIVE, VINE_PEER_STATE(vt_peek(&self->peer->word)));
	EXPECT_NE(0, vt_peek(self->chunk));
}

TEST_F(suspect, of_another_incarnation)
{
	if (!self->segment)
		return;
	EXPECT_EQ(-ENOENT, vt_bury(DEV, SLOT, INC - 1));
	EXPECT_EQ(-ENOENT, vt_bury(DEV, SLOT, INC + 1));
	EXPECT_EQ(-ENOENT, vt_bury(DEV, SLOT, 0));
	EXPECT_EQ(VINE_PEER_SUSPECT, VINE_PEER_STATE(vt_peek(&self->peer->word)));
	EXPECT_NE(0, vt_peek(self->chunk));
}

TEST_HARNESS_MAIN
