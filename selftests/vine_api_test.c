// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * vine_api_test.c - the ioctls, poll and epoll: what is promised, and every refusal
 *
 * Documentation/errors.md names a test of this file for each errno that a call may
 * give. The first fixtures take each call as a variant and try on it what holds for
 * all of them; then there is a fixture per call.
 */
#include "vine_test.h"

#include <sys/resource.h>

/* ---- every call: what it looks like ---- */

struct call {
	unsigned int cmd;
	size_t size;
	unsigned int kinds;	/* of descriptors that have it */
	enum vt_kind on;	/* that it is tried on */
	__u32 flags;		/* that it knows */
	size_t reserved;	/* where, or 0 */
	size_t fd;		/* where the new descriptor comes back, or 0 */
	int good;		/* what it gives when nothing is wrong with it: 0, mostly */
};

#define ON(kind)	.kinds = 1U << (kind), .on = (kind)

#define CALL_INFO							\
	{ VINE_INFO, sizeof(struct vine_info), ON(VT_DEV) }
#define CALL_SERVICES							\
	{ VINE_SERVICES, sizeof(struct vine_services), ON(VT_DEV),	\
	  .reserved = offsetof(struct vine_services, reserved) }
#define CALL_LISTEN							\
	{ VINE_LISTEN, sizeof(struct vine_listen), ON(VT_DEV),		\
	  .flags = VINE_NONBLOCK,					\
	  .reserved = offsetof(struct vine_listen, reserved),		\
	  .fd = offsetof(struct vine_listen, fd) }
#define CALL_ACCEPT							\
	{ VINE_ACCEPT, sizeof(struct vine_accept), ON(VT_LISTENER),	\
	  .flags = VINE_NONBLOCK,					\
	  .fd = offsetof(struct vine_accept, fd) }
#define CALL_CONNECT							\
	{ VINE_CONNECT, sizeof(struct vine_connect), ON(VT_DEV),	\
	  .flags = VINE_NONBLOCK | VINE_WAIT_SERVICE,			\
	  .fd = offsetof(struct vine_connect, fd) }
#define CALL_REGION							\
	{ VINE_REGION, sizeof(struct vine_region), ON(VT_DEV),		\
	  .reserved = offsetof(struct vine_region, reserved),		\
	  .fd = offsetof(struct vine_region, fd) }
/* Queues of either side know these; of the wrong side, they say EINVAL. */
#define ON_QUEUE(side)	.kinds = 1U << VT_CLIENT | 1U << VT_SERVER, .on = (side)
#define CALL_ATTACH							\
	{ VINE_ATTACH, sizeof(struct vine_attach), ON_QUEUE(VT_CLIENT),	\
	  .reserved = offsetof(struct vine_attach, reserved) }
#define CALL_IMPORT							\
	{ VINE_IMPORT, sizeof(struct vine_import), ON_QUEUE(VT_SERVER),	\
	  .reserved = offsetof(struct vine_import, reserved),		\
	  .fd = offsetof(struct vine_import, fd) }
#define CALL_TRANSFER							\
	{ VINE_TRANSFER, sizeof(struct vine_transfer),			\
	  ON_QUEUE(VT_SERVER),						\
	  .reserved = offsetof(struct vine_transfer, reserved) }

#define CALL_QUERY							\
	{ VINE_QUERY, sizeof(struct vine_query), ON(VT_DEV) }
/* There is nobody to bury: vine_query_test.c does that. */
#define CALL_BURY							\
	{ VINE_BURY, sizeof(struct vine_bury), ON(VT_DEV), .good = -ENOENT }

union args {
	struct {
		__u32 size;
		__u32 flags;
	};
	struct vine_info info;
	struct vine_services services;
	struct vine_listen listen;
	struct vine_accept accept;
	struct vine_connect connect;
	struct vine_region region;
	struct vine_attach attach;
	struct vine_import import;
	struct vine_transfer transfer;
	struct vine_query query;
	struct vine_bury bury;
};

/* A call that would succeed, and what it needs for that. */
struct ready {
	union args a;
	int pending;		/* a connection that waits for ACCEPT */
	struct vine_service services[4];
	struct vine_query_peer peers[4];
	struct vine_msg msg;
};

#define MSG	4711

static int prepare(struct vt_world *w, const struct call *c, struct ready *r)
{
	int ret = 0;

	memset(r, 0, sizeof(*r));
	r->pending = -1;
	r->a.size = c->size;
	switch (c->cmd) {
	case VINE_SERVICES:
		r->a.services.count = ARRAY_SIZE(r->services);
		r->a.services.array = (uintptr_t)r->services;
		break;
	case VINE_QUERY:
		r->a.query.what = VINE_QUERY_PEERS;
		r->a.query.count = ARRAY_SIZE(r->peers);
		r->a.query.array = (uintptr_t)r->peers;
		break;
	case VINE_BURY:
		r->a.bury.peer = VINE_MAX_PEERS;
		break;
	case VINE_LISTEN:
		snprintf((char *)r->a.listen.name, VINE_SERVICE_NAME, "%s-2", w->name);
		break;
	case VINE_ACCEPT:
		r->pending = vt_connect(w->fd[VT_DEV], w->name, VINE_NONBLOCK, 0, 2);
		ret = r->pending < 0 ? r->pending : 0;
		r->a.accept.deadline = vt_patience();
		break;
	case VINE_CONNECT:
		r->a.connect.flags = VINE_NONBLOCK;
		strcpy((char *)r->a.connect.name, w->name);
		r->a.connect.depth = 2;
		break;
	case VINE_REGION:
		r->a.region.bytes = 1;
		break;
	case VINE_ATTACH:
		r->a.attach.region_fd = w->fd[VT_REGION];
		break;
	case VINE_IMPORT:
		r->a.import.id = w->id;
		break;
	case VINE_TRANSFER:
		ret = vt_push_one(w->fd[VT_CLIENT], MSG);
		ret = ret == 1 ? 0 : ret;
		r->a.transfer.pull = (uintptr_t)&r->msg;
		r->a.transfer.pull_count = 1;
		break;
	}
	return ret;
}

/* Undoes what the call at @mem has @done, if it has, and what prepare() did. */
static int undo(struct vt_world *w, const struct call *c, struct ready *r, void *mem,
		bool done)
{
	int fd, ret = 0;

	if (done && c->fd) {
		memcpy(&fd, (char *)mem + c->fd, sizeof(fd));
		ret = close(fd) ? -errno : 0;
	}
	if (c->cmd == VINE_TRANSFER) {
		if (!done) {
			ret = vt_pull_one(w->fd[VT_SERVER], MSG) - 1;
		} else {
			__u32 count;

			memcpy(&count, (char *)mem + offsetof(struct vine_transfer, pull_count),
			       sizeof(count));
			if (count != 1 || !vt_is_msg(&r->msg, MSG))
				ret = -EBADMSG;
		}
	}
	vt_drop(&r->pending);
	return ret;
}

/* The call as it was prepared, and its undoing: all that it needs must be there. */
static int succeed(struct vt_world *w, const struct call *c, struct ready *r)
{
	int err = vt_ioctl(w->fd[c->on], c->cmd, &r->a);

	if (err != c->good)
		return err ?: -ENOMSG;
	return undo(w, c, r, &r->a, true);
}

#define CALL_FIXTURE(name)						\
	FIXTURE(name) { struct vt_world w; };				\
	FIXTURE_VARIANT(name) { struct call c; };			\
	FIXTURE_SETUP(name) { ASSERT_EQ(0, vt_world_open(&self->w)); }	\
	FIXTURE_TEARDOWN(name) { EXPECT_TRUE(vt_world_close(&self->w)); }

#define TARGET	(self->w.fd[c->on])

/* ---- what holds for every call ---- */

CALL_FIXTURE(call)
FIXTURE_VARIANT_ADD(call, info)		{ .c = CALL_INFO };
FIXTURE_VARIANT_ADD(call, services)	{ .c = CALL_SERVICES };
FIXTURE_VARIANT_ADD(call, listen)	{ .c = CALL_LISTEN };
FIXTURE_VARIANT_ADD(call, accept)	{ .c = CALL_ACCEPT };
FIXTURE_VARIANT_ADD(call, connect)	{ .c = CALL_CONNECT };
FIXTURE_VARIANT_ADD(call, region)	{ .c = CALL_REGION };
FIXTURE_VARIANT_ADD(call, attach)	{ .c = CALL_ATTACH };
FIXTURE_VARIANT_ADD(call, import)	{ .c = CALL_IMPORT };
FIXTURE_VARIANT_ADD(call, transfer)	{ .c = CALL_TRANSFER };
FIXTURE_VARIANT_ADD(call, query)	{ .c = CALL_QUERY };
FIXTURE_VARIANT_ADD(call, bury)		{ .c = CALL_BURY };

/*
 * Every size up to 64 bytes more than the structure: EINVAL when it is too small, and
 * with zeroes behind it when it is larger, success. The memory ends where the size
 * says: nothing behind it is touched.
 */
TEST_F(call, size)
{
	const struct call *c = &variant->c;
	char *end, *mem;
	struct ready r;
	__u32 size;
	int ret;

	end = vt_guarded(2);
	ASSERT_NE(NULL, end);
	end += 2 * self->w.page;
	ASSERT_EQ(0, prepare(&self->w, c, &r));
	for (size = 0; size <= c->size + 64; size++) {
		mem = end - (size < 4 ? 4 : size);
		memset(mem, 0, end - mem);
		memcpy(mem, &r.a, size < c->size ? end - mem : (long)c->size);
		memcpy(mem, &size, sizeof(size));
		ret = vt_ioctl(TARGET, c->cmd, mem);
		ASSERT_EQ(size < c->size ? -EINVAL : c->good, ret)
			TH_LOG("size %u of %zu", size, c->size);
		if (ret == c->good) {
			ASSERT_EQ(0, undo(&self->w, c, &r, mem, true));
			ASSERT_EQ(0, prepare(&self->w, c, &r));
		}
	}
	ASSERT_EQ(0, succeed(&self->w, c, &r));
}

/* A larger structure with anything but zeroes behind what the kernel knows. */
TEST_F(call, tail_not_zero)
{
	const struct call *c = &variant->c;
	char mem[512] = { 0 };
	struct ready r;
	__u32 i, size;

	ASSERT_EQ(0, prepare(&self->w, c, &r));
	for (size = c->size + 1; size <= c->size + 64; size++) {
		for (i = c->size; i < size; i++) {
			memcpy(mem, &r.a, c->size);
			memcpy(mem, &size, sizeof(size));
			mem[i] = 1 << i % 8;
			ASSERT_EQ(-E2BIG, vt_ioctl(TARGET, c->cmd, mem))
				TH_LOG("byte %u of %u", i, size);
			mem[i] = 0;
		}
	}
	ASSERT_EQ(0, succeed(&self->w, c, &r));
}

/* Larger than a page: never, whatever is in it. A page is good. */
TEST_F(call, larger_than_a_page)
{
	const struct call *c = &variant->c;
	static const __u32 more[] = { 1, 4, 4096, 0x7fffffff, 0x80000000 };
	struct ready r;
	unsigned int i;
	__u32 size;
	char *mem;

	mem = vt_guarded(3);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, prepare(&self->w, c, &r));
	memcpy(mem, &r.a, c->size);
	for (i = 0; i < ARRAY_SIZE(more); i++) {
		size = self->w.page + more[i];
		memcpy(mem, &size, sizeof(size));
		ASSERT_EQ(-E2BIG, vt_ioctl(TARGET, c->cmd, mem)) TH_LOG("size %u", size);
	}
	size = ~0U;
	memcpy(mem, &size, sizeof(size));
	ASSERT_EQ(-E2BIG, vt_ioctl(TARGET, c->cmd, mem));
	size = self->w.page;
	memcpy(mem, &size, sizeof(size));
	ASSERT_EQ(c->good, vt_ioctl(TARGET, c->cmd, mem));
	ASSERT_EQ(0, undo(&self->w, c, &r, mem, true));
}

TEST_F(call, unknown_flags)
{
	const struct call *c = &variant->c;
	struct ready r;
	union args a;
	int bit;

	ASSERT_EQ(0, prepare(&self->w, c, &r));
	for (bit = 0; bit < 32; bit++) {
		if (c->flags & 1U << bit)
			continue;
		a = r.a;
		a.flags |= 1U << bit;
		ASSERT_EQ(-EOPNOTSUPP, vt_ioctl(TARGET, c->cmd, &a)) TH_LOG("bit %d", bit);
	}
	ASSERT_EQ(0, succeed(&self->w, c, &r));
}

/* Pointers that lead nowhere, or to where a program has nothing to look for. */
static void *const nowhere[] = {
	NULL, (void *)1,
	(void *)0x00007ffffffff000UL,	/* x86: the end of user space */
	(void *)0x0000800000000000UL,	/* x86: no address */
	(void *)0xffff888000000000UL,	/* x86: all memory */
	(void *)0xffffffff81000000UL,	/* x86: the kernel */
	(void *)-1UL, (void *)-4UL, (void *)-64UL,
};

TEST_F(call, bad_pointer)
{
	const struct call *c = &variant->c;
	struct ready r;
	char *end;
	size_t n;

	end = vt_guarded(2);
	ASSERT_NE(NULL, end);
	end += 2 * self->w.page;
	ASSERT_EQ(0, prepare(&self->w, c, &r));
	for (n = 0; n < ARRAY_SIZE(nowhere); n++) {
		ASSERT_EQ(-EFAULT, vt_ioctl(TARGET, c->cmd, nowhere[n]))
			TH_LOG("pointer %p", nowhere[n]);
	}
	for (n = 0; n < 4; n++) {
		ASSERT_EQ(-EFAULT, vt_ioctl(TARGET, c->cmd, end - n)) TH_LOG("%zu bytes", n);
	}
	/* the size is there, what follows is not, or not all of it */
	for (n = 4; n < c->size; n++) {
		memcpy(end - n, &r.a, n);
		ASSERT_EQ(-EFAULT, vt_ioctl(TARGET, c->cmd, end - n)) TH_LOG("%zu bytes", n);
	}
	ASSERT_EQ(0, succeed(&self->w, c, &r));
}

/* The answer cannot be written: then nothing has been done either. */
TEST_F(call, read_only)
{
	const struct call *c = &variant->c;
	struct ready r;
	char *mem;

	mem = vt_guarded(1);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, prepare(&self->w, c, &r));
	memcpy(mem, &r.a, c->size);
	ASSERT_EQ(0, mprotect(mem, self->w.page, PROT_READ));
	ASSERT_EQ(-EFAULT, vt_ioctl(TARGET, c->cmd, mem));
	ASSERT_EQ(0, succeed(&self->w, c, &r));
}

/* Every descriptor that does not have the call. */
TEST_F(call, wrong_descriptor)
{
	const struct call *c = &variant->c;
	struct ready r;
	union args a;
	int k;

	ASSERT_EQ(0, prepare(&self->w, c, &r));
	for (k = 0; k < VT_KINDS; k++) {
		if (c->kinds & 1U << k)
			continue;
		a = r.a;
		ASSERT_EQ(-ENOTTY, vt_ioctl(self->w.fd[k], c->cmd, &a)) TH_LOG("kind %d", k);
		/* it is no such call, so what it points to does not matter */
		ASSERT_EQ(-ENOTTY, vt_ioctl(self->w.fd[k], c->cmd, NULL)) TH_LOG("kind %d", k);
	}
	ASSERT_EQ(0, succeed(&self->w, c, &r));
}

TEST_F(call, closed_descriptor)
{
	const struct call *c = &variant->c;
	struct ready r;
	int fd;

	ASSERT_EQ(0, prepare(&self->w, c, &r));
	fd = dup(TARGET);
	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(-EBADF, vt_ioctl(fd, c->cmd, &r.a));
	ASSERT_EQ(0, succeed(&self->w, c, &r));
}

/* The number with a size or a direction in it is another call. */
TEST_F(call, other_number)
{
	const struct call *c = &variant->c;
	struct ready r;

	ASSERT_EQ(0, prepare(&self->w, c, &r));
	ASSERT_EQ(-ENOTTY, vt_ioctl(TARGET, c->cmd | _IOC(_IOC_WRITE, 0, 0, c->size), &r.a));
	ASSERT_EQ(-ENOTTY, vt_ioctl(TARGET, c->cmd | _IOC(_IOC_READ, 0, 0, 0), &r.a));
	ASSERT_EQ(-ENOTTY, vt_ioctl(TARGET, c->cmd | _IOC(0, 0, 0, 4), &r.a));
	ASSERT_EQ(-ENOTTY, vt_ioctl(TARGET, c->cmd ^ _IOC(0, 1, 0, 0), &r.a));
	ASSERT_EQ(0, succeed(&self->w, c, &r));
}

/* The size and the flags are the caller's, so that it may use the structure again. */
TEST_F(call, size_is_kept)
{
	const struct call *c = &variant->c;
	char mem[512] = { 0 };
	__u32 size = c->size + 16;
	struct ready r;
	union args after;

	ASSERT_EQ(0, prepare(&self->w, c, &r));
	memcpy(mem, &r.a, c->size);
	memcpy(mem, &size, sizeof(size));
	ASSERT_EQ(c->good, vt_ioctl(TARGET, c->cmd, mem));
	memcpy(&after, mem, c->size);
	EXPECT_EQ(size, after.size);
	EXPECT_EQ(r.a.flags, after.flags);
	EXPECT_TRUE(vt_all_are(mem + c->size, 0, 16));
	ASSERT_EQ(0, undo(&self->w, c, &r, mem, true));
}

/* ---- fault injection ---- */

static bool set_debugfs(const char *name, const char *value)
{
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = write(fd, value, strlen(value));
	close(fd);
	return n == (ssize_t)strlen(value);
}

/*
 * Lets the n-th point of failure in the call fail, for n = 1, 2, ... until the call
 * has no more of them. The kernel counts in a file: 0 is left when one has failed.
 * What fails is memory, or the copying from or to the caller.
 */
TEST_F(call, no_memory)
{
	const struct call *c = &variant->c;
	char path[64], buf[16];
	struct vt_counts was;
	struct ready r;
	int fd, n, ret, no_memory = 0;
	bool failed = true;
	union args a;

	snprintf(path, sizeof(path), "/proc/self/task/%ld/fail-nth", syscall(SYS_gettid));
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		SKIP(return, "this kernel has no fault injection");
	if (!set_debugfs("failslab/ignore-gfp-wait", "N") ||
	    !set_debugfs("fail_page_alloc/ignore-gfp-wait", "N"))
		SKIP(return, "no debugfs, or not root");
	set_debugfs("failslab/verbose", "0");
	set_debugfs("fail_page_alloc/verbose", "0");
	set_debugfs("fail_usercopy/verbose", "0");
	ASSERT_EQ(0, vt_count(self->w.mon, &was));
	for (n = 1; failed; n++) {
		ASSERT_GT(1000, n);
		ASSERT_EQ(0, prepare(&self->w, c, &r));
		a = r.a;
		snprintf(buf, sizeof(buf), "%d\n", n);
		ASSERT_EQ((ssize_t)strlen(buf), pwrite(fd, buf, strlen(buf), 0));
		ret = vt_ioctl(TARGET, c->cmd, &a);
		/* reading and writing this file may be what fails: then the call had less */
		memset(buf, 0, sizeof(buf));
		failed = pread(fd, buf, sizeof(buf) - 1, 0) > 0 && buf[0] == '0';
		if (pwrite(fd, "0\n", 2, 0) != 2) {
			failed = false;
			ASSERT_EQ(2, pwrite(fd, "0\n", 2, 0));
		}
		ASSERT_TRUE(ret == c->good || ret == -ENOMEM || ret == -EFAULT)
			TH_LOG("failing at %d: error %d", n, ret);
		if (!failed) {
			ASSERT_EQ(c->good, ret);
		}
		no_memory += ret == -ENOMEM;
		/* a connection or a message is lost if the last copy of the answer fails */
		if (c->cmd == VINE_TRANSFER && ret) {
			vt_pull(SERVER, &r.msg, 1, 0, 0);
			continue;
		}
		ASSERT_EQ(0, undo(&self->w, c, &r, &a, !ret));
	}
	EXPECT_TRUE(vt_all_back(self->w.mon, &was));
	close(fd);
	/* the first is the copy of the size; a descriptor needs memory */
	EXPECT_LT(3, n);
	if (c->fd) {
		EXPECT_LT(0, no_memory);
	}
}

/* ---- calls with a reserved field ---- */

CALL_FIXTURE(reserved)
FIXTURE_VARIANT_ADD(reserved, services)	{ .c = CALL_SERVICES };
FIXTURE_VARIANT_ADD(reserved, listen)	{ .c = CALL_LISTEN };
FIXTURE_VARIANT_ADD(reserved, region)	{ .c = CALL_REGION };
FIXTURE_VARIANT_ADD(reserved, attach)	{ .c = CALL_ATTACH };
FIXTURE_VARIANT_ADD(reserved, import)	{ .c = CALL_IMPORT };
FIXTURE_VARIANT_ADD(reserved, transfer)	{ .c = CALL_TRANSFER };

TEST_F(reserved, not_zero)
{
	const struct call *c = &variant->c;
	struct ready r;
	union args a;
	__u32 bad;
	int bit;

	ASSERT_EQ(0, prepare(&self->w, c, &r));
	for (bit = 0; bit < 32; bit++) {
		a = r.a;
		bad = 1U << bit;
		memcpy((char *)&a + c->reserved, &bad, sizeof(bad));
		ASSERT_EQ(-EINVAL, vt_ioctl(TARGET, c->cmd, &a)) TH_LOG("bit %d", bit);
	}
	ASSERT_EQ(0, succeed(&self->w, c, &r));
}

/* ---- calls that make a descriptor ---- */

CALL_FIXTURE(makes)
FIXTURE_VARIANT_ADD(makes, listen)	{ .c = CALL_LISTEN };
FIXTURE_VARIANT_ADD(makes, accept)	{ .c = CALL_ACCEPT };
FIXTURE_VARIANT_ADD(makes, connect)	{ .c = CALL_CONNECT };
FIXTURE_VARIANT_ADD(makes, region)	{ .c = CALL_REGION };
FIXTURE_VARIANT_ADD(makes, import)	{ .c = CALL_IMPORT };

TEST_F(makes, close_on_exec)
{
	const struct call *c = &variant->c;
	struct ready r;
	int fd;

	ASSERT_EQ(0, prepare(&self->w, c, &r));
	ASSERT_EQ(0, vt_ioctl(TARGET, c->cmd, &r.a));
	memcpy(&fd, (char *)&r.a + c->fd, sizeof(fd));
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	ASSERT_EQ(0, undo(&self->w, c, &r, &r.a, true));
}

/* VINE_NONBLOCK, where it is known, and only it, gives O_NONBLOCK. */
TEST_F(makes, nonblock)
{
	const struct call *c = &variant->c;
	int i, fd, want;
	struct ready r;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, prepare(&self->w, c, &r));
		if (c->flags & VINE_NONBLOCK) {
			/* a blocking connection would wait for somebody to accept it */
			r.a.flags = i || c->cmd == VINE_CONNECT ? VINE_NONBLOCK : 0;
		}
		want = r.a.flags & VINE_NONBLOCK ? O_NONBLOCK : 0;
		ASSERT_EQ(0, vt_ioctl(TARGET, c->cmd, &r.a));
		memcpy(&fd, (char *)&r.a + c->fd, sizeof(fd));
		EXPECT_EQ(want, fcntl(fd, F_GETFL) & O_NONBLOCK);
		ASSERT_EQ(0, undo(&self->w, c, &r, &r.a, true));
	}
}

/* The process may have no more descriptors. */
TEST_F(makes, too_many_descriptors)
{
	const struct call *c = &variant->c;
	struct rlimit was, now;
	struct ready r;
	union args a;
	int fd;

	ASSERT_EQ(0, prepare(&self->w, c, &r));
	fd = dup(self->w.mon);
	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &was));
	now = was;
	now.rlim_cur = fd;	/* the lowest that is free */
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &now));
	a = r.a;
	EXPECT_EQ(-EMFILE, vt_ioctl(TARGET, c->cmd, &a));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &was));
	ASSERT_EQ(0, succeed(&self->w, c, &r));
}

/* The machine may have no more open files; root would be let off. */
TEST_F(makes, too_many_files)
{
	const struct call *c = &variant->c;
	char was[32] = { 0 };
	struct ready r;
	union args a;
	ssize_t n;
	int fd, ret;

	fd = open("/proc/sys/fs/file-max", O_RDWR | O_CLOEXEC);
	if (fd < 0 || geteuid())
		SKIP(return, "needs root, to set /proc/sys/fs/file-max");
	n = pread(fd, was, sizeof(was) - 1, 0);
	ASSERT_LT(0, n);
	ASSERT_EQ(0, prepare(&self->w, c, &r));
	a = r.a;
	ASSERT_EQ(2, pwrite(fd, "0\n", 2, 0));
	ret = seteuid(65534) ? -errno : vt_ioctl(TARGET, c->cmd, &a);
	n = seteuid(0) ? -1 : pwrite(fd, was, n, 0);
	EXPECT_LT(0, n);
	EXPECT_EQ(-ENFILE, ret);
	close(fd);
	ASSERT_EQ(0, succeed(&self->w, c, &r));
}

/* ---- descriptors ---- */

VT_FIXTURE(descriptor)

/* Numbers of ours, and of others, that no descriptor of ours has a call for. */
TEST_F(descriptor, unknown_calls)
{
	static char mem[4096];
	unsigned int nr;
	int k;

	for (k = 0; k < VT_KINDS; k++) {
		for (nr = 0; nr < 256; nr++) {
			unsigned int cmd = _IO(VINE_IOC, nr);

			if (nr >= _IOC_NR(VINE_INFO) && nr <= _IOC_NR(VINE_BURY))
				continue;
			mem[0] = 64;
			ASSERT_EQ(-ENOTTY, vt_ioctl(self->w.fd[k], cmd, mem))
				TH_LOG("kind %d, number %#x", k, nr);
		}
		ASSERT_EQ(-ENOTTY, vt_ioctl(self->w.fd[k], 0x5401 /* TCGETS */, mem));
		ASSERT_EQ(-ENOTTY, vt_ioctl(self->w.fd[k], ~0U, mem));
	}
}

/* They are not for reading and writing. */
TEST_F(descriptor, read_and_write)
{
	char c = 0;
	int k;

	for (k = 0; k < VT_KINDS; k++) {
		EXPECT_EQ(-1, read(self->w.fd[k], &c, 1)) TH_LOG("kind %d", k);
		EXPECT_EQ(-1, write(self->w.fd[k], &c, 1)) TH_LOG("kind %d", k);
	}
}

/* Two opens of the node are two descriptors of one device. */
TEST_F(descriptor, another_open)
{
	struct vine_info a, b;
	int other = vt_open(), client, server;

	ASSERT_LE(0, other);
	ASSERT_EQ(0, vt_info(DEV, &a));
	ASSERT_EQ(0, vt_info(other, &b));
	EXPECT_EQ(a.generation, b.generation);
	EXPECT_EQ(a.peer, b.peer);
	EXPECT_EQ(a.incarnation, b.incarnation);
	ASSERT_EQ(0, vt_pair(other, LISTENER, self->w.name, 2, &client, &server));
	/* what was made through it does not need it */
	close(other);
	EXPECT_EQ(1, vt_push_one(client, 1));
	EXPECT_EQ(1, vt_pull_one(server, 1));
	close(client);
	close(server);
}

/* ---- VINE_INFO ---- */

VT_FIXTURE(info)

TEST_F(info, contents)
{
	struct vine_info i;

	memset(&i, 0xa5, sizeof(i));
	i.size = sizeof(i);
	i.flags = 0;
	ASSERT_EQ(0, vt_ioctl(DEV, VINE_INFO, &i));
	EXPECT_EQ(0, i.flags);
	EXPECT_NE(0, i.generation);
	EXPECT_EQ(0, i.chunk_size & (i.chunk_size - 1));
	EXPECT_EQ(0, i.chunk_size % self->w.page);
	EXPECT_LT(0, i.chunks);
	EXPECT_LE(i.chunks * i.chunk_size, i.segment_size);
	EXPECT_LT(i.chunks_free, i.chunks);
	EXPECT_GT(64, i.peer);
	EXPECT_NE(0, i.incarnation);
	EXPECT_GE(64, i.vectors);
	EXPECT_GE(VINE_MEMORY_UNCACHED, i.memory_type);
	EXPECT_GE(VINE_KIND_LOOPBACK, i.kind);
	EXPECT_LE(1, i.peers);
	EXPECT_GE(64, i.peers);
	/* our world: a service, a queue, a region and the rings' */
	EXPECT_LE(1, i.services);
	EXPECT_LE(1, i.own_queues);
	EXPECT_LE(2, i.own_regions);
	EXPECT_LE(i.own_queues, i.queues);
	EXPECT_LE(i.own_regions, i.regions);
	/* no peripheral is needed to poll; without interrupts there are no vectors */
	if (i.kind == VINE_KIND_PLAIN) {
		EXPECT_EQ(0, i.vectors);
	}
	if (i.kind == VINE_KIND_DOORBELL) {
		EXPECT_NE(0, i.vectors);
	}
}

TEST_F(info, follows_what_is_made)
{
	struct vt_counts a, b;
	int region, listener, client;

	ASSERT_EQ(0, vt_count(DEV, &a));
	region = vt_region(DEV, 3 * self->w.chunk);
	ASSERT_LE(0, region);
	ASSERT_EQ(0, vt_count(DEV, &b));
	EXPECT_EQ(a.regions + 1, b.regions);
	EXPECT_EQ(a.own_regions + 1, b.own_regions);
	EXPECT_EQ(a.chunks_free - 3, b.chunks_free);
	listener = vt_listen(DEV, "vt-other", 0);
	ASSERT_LE(0, listener);
	ASSERT_EQ(0, vt_count(DEV, &b));
	EXPECT_EQ(a.services + 1, b.services);
	client = vt_connect(DEV, "vt-other", VINE_NONBLOCK, 0, 2);
	ASSERT_LE(0, client);
	ASSERT_EQ(0, vt_count(DEV, &b));
	EXPECT_EQ(a.queues + 1, b.queues);
	EXPECT_EQ(a.own_queues + 1, b.own_queues);
	close(client);
	close(listener);
	close(region);
	EXPECT_TRUE(vt_all_back(DEV, &a));
}

/* ---- VINE_SERVICES ---- */

VT_FIXTURE(services)

/* The services there are; @room of them at @array. Their number, or -errno. */
static int get_services(int dev, struct vine_service *array, __u32 room)
{
	struct vine_services s = { .size = sizeof(s), .count = room,
				   .array = (uintptr_t)array };
	int err = vt_ioctl(dev, VINE_SERVICES, &s);

	return err ?: (int)s.count;
}

/* Finds one by name. False when there is none. */
static bool find_service(int dev, const char *name, struct vine_service *found)
{
	static struct vine_service array[256];
	int i, n = get_services(dev, array, ARRAY_SIZE(array));

	for (i = 0; i < n && i < (int)ARRAY_SIZE(array); i++) {
		*found = array[i];
		if (!strcmp((char *)found->name, name))
			return true;
	}
	return false;
}

static __u64 service_id(int dev, const char *name)
{
	struct vine_service s;

	return find_service(dev, name, &s) ? s.id : 0;
}

TEST_F(services, contents)
{
	struct vine_listen l = { .size = sizeof(l), .type = 0x123456789abcdef0ULL,
				 .name = "vt-0123456789-0123456789-01234" };
	struct vine_service s, mine;
	struct vine_info info;

	l.name[30] = '5';	/* 31 characters: the longest */
	ASSERT_EQ(0, vt_info(DEV, &info));
	ASSERT_EQ(0, vt_ioctl(DEV, VINE_LISTEN, &l));
	ASSERT_TRUE(find_service(DEV, (char *)l.name, &s));
	EXPECT_EQ(l.type, s.type);
	EXPECT_EQ(info.peer, s.peer);
	EXPECT_EQ(info.incarnation, s.incarnation);
	EXPECT_EQ(0, memcmp(l.name, s.name, sizeof(s.name)));
	EXPECT_NE(0, s.id);
	ASSERT_TRUE(find_service(DEV, self->w.name, &mine));
	EXPECT_NE(s.id, mine.id);
	EXPECT_EQ(0, mine.type);
	EXPECT_TRUE(vt_all_are(mine.name + strlen(self->w.name), 0,
			       sizeof(mine.name) - strlen(self->w.name)));
	close(l.fd);
	EXPECT_FALSE(find_service(DEV, (char *)l.name, &s));
}

/* More than there is room for: their number, and nothing behind the room. */
TEST_F(services, room)
{
	struct vine_service array[4];
	int other = vt_listen(DEV, "vt-other", 0), n, room;

	ASSERT_LE(0, other);
	n = get_services(DEV, NULL, 0);
	ASSERT_LE(2, n);
	for (room = 0; room < 3; room++) {
		memset(array, 0x5a, sizeof(array));
		ASSERT_EQ(n, get_services(DEV, array, room));
		EXPECT_TRUE(vt_all_are(&array[room], 0x5a, sizeof(array[0])));
		if (room) {
			EXPECT_NE(0x5a5a5a5a5a5a5a5aULL, array[room - 1].id);
		}
	}
	close(other);
	EXPECT_EQ(n - 1, get_services(DEV, NULL, 0));
}

/* Room for more than any segment holds, said of memory that ends behind the last. */
TEST_F(services, huge_count)
{
	int n = get_services(DEV, NULL, 0);
	char *end = vt_guarded(8);

	ASSERT_NE(NULL, end);
	ASSERT_LE(1, n);
	end += 8 * self->w.page;
	end -= n * sizeof(struct vine_service);
	EXPECT_EQ(n, get_services(DEV, (void *)end, ~0U));
	EXPECT_EQ(n, get_services(DEV, (void *)end, 0x80000000U));
}

TEST_F(services, bad_array)
{
	char *end = vt_guarded(1);

	ASSERT_NE(NULL, end);
	end += self->w.page;
	EXPECT_EQ(-EFAULT, get_services(DEV, NULL, 1));
	EXPECT_EQ(-EFAULT, get_services(DEV, (void *)end, 1));
	EXPECT_EQ(-EFAULT, get_services(DEV, (void *)(end - 1), 1));
	EXPECT_EQ(-EFAULT, get_services(DEV, (void *)0xffff888000000000UL, 1));
	EXPECT_EQ(-EFAULT, get_services(DEV, (void *)(-1UL - 31), ~0U));
}

/* ---- names ---- */

/* Names that are none. */
static const char bad_names[][VINE_SERVICE_NAME] = {
	"",
	"\0hidden",
	"garbage\0behind",
	"one byte behind\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0x",
	"0123456789012345678901234567890!",	/* not terminated */
};

/* ---- VINE_LISTEN ---- */

VT_FIXTURE(listen)

TEST_F(listen, bad_name)
{
	struct vine_listen l;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad_names); i++) {
		l = (struct vine_listen){ .size = sizeof(l) };
		memcpy(l.name, bad_names[i], sizeof(l.name));
		EXPECT_EQ(-EINVAL, vt_ioctl(DEV, VINE_LISTEN, &l)) TH_LOG("name %u", i);
	}
}

/* Any byte but zero may be in a name, and every bit of it counts. */
TEST_F(listen, any_byte)
{
	char a[] = "vt-\x01\x7f\x80\xff/ %s\n", b[] = "vt-\x01\x7f\x80\xff/ %s\v";
	int one, other;

	one = vt_listen(DEV, a, 0);
	ASSERT_LE(0, one);
	other = vt_listen(DEV, b, 0);
	ASSERT_LE(0, other);
	EXPECT_NE(0, service_id(DEV, a));
	EXPECT_NE(service_id(DEV, a), service_id(DEV, b));
	close(one);
	close(other);
}

TEST_F(listen, name_in_use)
{
	int other = vt_open();

	ASSERT_LE(0, other);
	EXPECT_EQ(-EADDRINUSE, vt_listen(DEV, self->w.name, 0));
	EXPECT_EQ(-EADDRINUSE, vt_listen(DEV, self->w.name, VINE_NONBLOCK));
	EXPECT_EQ(-EADDRINUSE, vt_listen(other, self->w.name, 0));
	close(other);
}

/* When the listener closes, its name is free again at once. */
TEST_F(listen, name_free_again)
{
	__u64 id = service_id(DEV, self->w.name);
	int i;

	for (i = 0; i < 10; i++) {
		vt_drop(&LISTENER);
		EXPECT_EQ(0, service_id(DEV, self->w.name));
		LISTENER = vt_listen(DEV, self->w.name, 0);
		ASSERT_LE(0, LISTENER);
		EXPECT_NE(0, service_id(DEV, self->w.name));
		EXPECT_NE(id, service_id(DEV, self->w.name));
	}
}

/* The table of services is full. */
TEST_F(listen, too_many_services)
{
	int fd[300], n, ret = 0;
	char name[VINE_SERVICE_NAME];
	struct rlimit r = { 1024, 1024 };

	setrlimit(RLIMIT_NOFILE, &r);
	for (n = 0; n < (int)ARRAY_SIZE(fd); n++) {
		snprintf(name, sizeof(name), "vt-many-%d", n);
		ret = vt_listen(DEV, name, 0);
		if (ret < 0)
			break;
		fd[n] = ret;
	}
	EXPECT_EQ(-ENOSPC, ret);
	EXPECT_LT(100, n);
	/* each has its own queue of connections: the first and the last work */
	if (n) {
		int c = vt_connect(DEV, "vt-many-0", VINE_NONBLOCK, 0, 2), s;

		snprintf(name, sizeof(name), "vt-many-%d", n - 1);
		s = vt_connect(DEV, name, VINE_NONBLOCK, 0, 2);
		EXPECT_LE(0, c);
		EXPECT_LE(0, s);
		EXPECT_EQ(POLLIN, vt_poll(fd[0], POLLIN));
		EXPECT_EQ(POLLIN, vt_poll(fd[n - 1], POLLIN));
		if (n > 2) {
			EXPECT_EQ(0, vt_poll_now(fd[1], POLLIN));
		}
		close(c);
		close(s);
		close(fd[--n]);
		ret = vt_listen(DEV, name, 0);
		EXPECT_LE(0, ret);
		close(ret);
	}
	while (n--)
		close(fd[n]);
}

/* ---- VINE_ACCEPT ---- */

VT_FIXTURE(accept)

TEST_F(accept, nobody)
{
	EXPECT_EQ(-EAGAIN, vt_accept(LISTENER, 0, 0));
	EXPECT_EQ(-EAGAIN, vt_accept(LISTENER, VINE_NONBLOCK, 0));
}

/* O_NONBLOCK on the listener: no deadline matters. */
TEST_F(accept, nonblocking_listener)
{
	int queue, client;

	vt_nonblock(LISTENER, true);
	EXPECT_EQ(-EAGAIN, vt_accept(LISTENER, 0, VINE_FOREVER));
	EXPECT_EQ(-EAGAIN, vt_accept(LISTENER, 0, 1));
	client = vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, 2);
	ASSERT_LE(0, client);
	queue = vt_accept(LISTENER, 0, 0);
	EXPECT_LE(0, queue);
	close(client);
	close(queue);
}

TEST_F(accept, timed_out)
{
	__u64 deadline = vt_in(50);

	EXPECT_EQ(-ETIMEDOUT, vt_accept(LISTENER, 0, deadline));
	EXPECT_LE(deadline, vt_now());
	/* one that is over, and the very first nanosecond */
	EXPECT_EQ(-ETIMEDOUT, vt_accept(LISTENER, 0, deadline));
	EXPECT_EQ(-ETIMEDOUT, vt_accept(LISTENER, 0, 1));
}

TEST_F(accept, interrupted)
{
	struct vine_accept a = { .size = sizeof(a), .deadline = VINE_FOREVER };
	struct vt_thread t;
	int fds = vt_count_fds();

	vt_catch_usr1(0);
	ASSERT_EQ(0, vt_thread_start(&t, LISTENER, VINE_ACCEPT, &a));
	ASSERT_TRUE(vt_thread_asleep(&t));
	pthread_kill(t.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, vt_thread_join(&t));
	EXPECT_EQ(fds, vt_count_fds());
}

/* With SA_RESTART the call goes on, and its deadline is what it was. */
TEST_F(accept, restarted)
{
	struct vine_accept a = { .size = sizeof(a), .deadline = VINE_FOREVER };
	struct vt_thread t;
	int client;

	vt_catch_usr1(SA_RESTART);
	ASSERT_EQ(0, vt_thread_start(&t, LISTENER, VINE_ACCEPT, &a));
	ASSERT_TRUE(vt_thread_asleep(&t));
	pthread_kill(t.thread, SIGUSR1);
	ASSERT_TRUE(vt_thread_asleep(&t));
	client = vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, 2);
	ASSERT_LE(0, client);
	EXPECT_EQ(0, vt_thread_join(&t));
	close(client);
	close(a.fd);
}

/* One that waits is woken; the fields say who came. Deadlines that are far away. */
TEST_F(accept, woken)
{
	static const __u64 deadline[] = { VINE_FOREVER, VINE_FOREVER - 1, 1ULL << 63,
					  (1ULL << 63) - 1, 1ULL << 62 };
	struct vine_info info;
	unsigned int i;
	int client;

	ASSERT_EQ(0, vt_info(DEV, &info));
	for (i = 0; i < ARRAY_SIZE(deadline); i++) {
		struct vine_accept a = { .size = sizeof(a), .deadline = deadline[i], .fd = -1 };
		struct vt_thread t;

		ASSERT_EQ(0, vt_thread_start(&t, LISTENER, VINE_ACCEPT, &a));
		ASSERT_TRUE(vt_thread_asleep(&t)) TH_LOG("deadline %llx", deadline[i]);
		client = vt_connect(DEV, self->w.name, 0, vt_patience(), 64);
		ASSERT_LE(0, client);
		ASSERT_EQ(0, vt_thread_join(&t));
		EXPECT_LE(0, a.fd);
		EXPECT_EQ(64, a.depth);
		EXPECT_EQ(info.peer, a.peer);
		EXPECT_EQ(info.incarnation, a.incarnation);
		EXPECT_EQ(1, vt_push_one(client, i));
		EXPECT_EQ(1, vt_pull_one(a.fd, i));
		close(client);
		close(a.fd);
	}
}

/* Two that wait for one listener: each gets a connection of its own. */
TEST_F(accept, two_threads)
{
	struct vine_accept a[2] = { { .size = sizeof(a[0]), .deadline = VINE_FOREVER },
				    { .size = sizeof(a[0]), .deadline = VINE_FOREVER } };
	struct vt_thread t[2];
	int client[2], i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, vt_thread_start(&t[i], LISTENER, VINE_ACCEPT, &a[i]));
		ASSERT_TRUE(vt_thread_asleep(&t[i]));
	}
	for (i = 0; i < 2; i++) {
		client[i] = vt_connect(DEV, self->w.name, 0, vt_patience(), 2);
		ASSERT_LE(0, client[i]);
	}
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, vt_thread_join(&t[i]));
	}
	EXPECT_NE(a[0].fd, a[1].fd);
	for (i = 0; i < 2; i++) {
		EXPECT_LE(0, a[i].fd);
		close(a[i].fd);
		close(client[i]);
	}
}

/* Who has given up waiting is not accepted. */
TEST_F(accept, client_gave_up)
{
	int client[3], queue[3], i;

	for (i = 0; i < 3; i++) {
		client[i] = vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, 2 << i);
		ASSERT_LE(0, client[i]);
	}
	vt_drop(&client[1]);
	for (i = 0; i < 3; i++)
		queue[i] = vt_accept(LISTENER, 0, 0);
	EXPECT_LE(0, queue[0]);
	EXPECT_LE(0, queue[1]);
	EXPECT_EQ(-EAGAIN, queue[2]);
	for (i = 0; i < 3; i++) {
		vt_drop(&client[i]);
		vt_drop(&queue[i]);
	}
}

/* ---- VINE_CONNECT ---- */

VT_FIXTURE(connect)

TEST_F(connect, bad_name)
{
	struct vine_connect c;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad_names); i++) {
		c = (struct vine_connect){ .size = sizeof(c), .depth = 2,
					   .flags = VINE_NONBLOCK };
		memcpy(c.name, bad_names[i], sizeof(c.name));
		EXPECT_EQ(-EINVAL, vt_ioctl(DEV, VINE_CONNECT, &c)) TH_LOG("name %u", i);
	}
}

/* By number or by name; not by both, not even by both of one service. */
TEST_F(connect, number_and_name)
{
	struct vine_connect c = { .size = sizeof(c), .depth = 2, .flags = VINE_NONBLOCK };

	c.id = service_id(DEV, self->w.name);
	ASSERT_NE(0, c.id);
	strcpy((char *)c.name, self->w.name);
	EXPECT_EQ(-EINVAL, vt_ioctl(DEV, VINE_CONNECT, &c));
	memset(c.name, 0, sizeof(c.name));
	c.name[VINE_SERVICE_NAME - 1] = 1;
	EXPECT_EQ(-EINVAL, vt_ioctl(DEV, VINE_CONNECT, &c));
	c.name[VINE_SERVICE_NAME - 1] = 0;
	EXPECT_EQ(0, vt_ioctl(DEV, VINE_CONNECT, &c));
	close(c.fd);
}

TEST_F(connect, bad_depth)
{
	static const __u32 depth[] = { 0, 1, 3, 5, 6, 7, 9, 100, 4095, 4097, 8192,
				       0x10000, 0x80000000, 0x80000002, ~0U };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(depth); i++) {
		EXPECT_EQ(-EINVAL, vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, depth[i]))
			TH_LOG("depth %u", depth[i]);
	}
}

/* Each depth that there is holds so many messages, and no more. */
TEST_F(connect, every_depth)
{
	static struct vine_msg msg[4097], got[4097];
	struct vine_accept a;
	int client, i;
	__u32 depth;

	for (i = 0; i < (int)ARRAY_SIZE(msg); i++)
		msg[i] = vt_msg(i);
	for (depth = 2; depth <= 4096; depth *= 2) {
		client = vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, depth);
		ASSERT_LE(0, client);
		a = (struct vine_accept){ .size = sizeof(a) };
		ASSERT_EQ(0, vt_ioctl(LISTENER, VINE_ACCEPT, &a));
		EXPECT_EQ(depth, a.depth);
		EXPECT_EQ((int)depth, vt_push(client, msg, depth + 1));
		EXPECT_EQ(-EAGAIN, vt_push(client, msg, 1));
		EXPECT_EQ((int)depth, vt_push(a.fd, msg, depth + 1));
		EXPECT_EQ(-EAGAIN, vt_push(a.fd, msg, 1));
		EXPECT_EQ((int)depth, vt_pull(a.fd, got, depth + 1, 0, 0));
		EXPECT_EQ(0, memcmp(msg, got, depth * sizeof(*msg)));
		EXPECT_EQ((int)depth, vt_pull(client, got, depth + 1, 0, 0));
		EXPECT_EQ(0, memcmp(msg, got, depth * sizeof(*msg)));
		close(client);
		close(a.fd);
	}
}

TEST_F(connect, no_service)
{
	struct vine_connect c = { .size = sizeof(c), .depth = 2, .deadline = VINE_FOREVER };

	EXPECT_EQ(-ENOENT, vt_connect(DEV, "vt-none", 0, VINE_FOREVER, 2));
	EXPECT_EQ(-ENOENT, vt_connect(DEV, "vt-none", 0, 0, 2));
	EXPECT_EQ(-ENOENT, vt_connect(DEV, "vt-none", VINE_NONBLOCK, 0, 2));
	/* it returns at once, so there is nothing that it could wait for */
	EXPECT_EQ(-ENOENT, vt_connect(DEV, "vt-none", VINE_NONBLOCK | VINE_WAIT_SERVICE, 0, 2));
	for (c.id = 1; c.id; c.id <<= 1) {
		if (c.id == service_id(DEV, self->w.name))
			continue;
		EXPECT_EQ(-ENOENT, vt_ioctl(DEV, VINE_CONNECT, &c)) TH_LOG("id %llx", c.id);
	}
	c.id = ~0ULL;
	EXPECT_EQ(-ENOENT, vt_ioctl(DEV, VINE_CONNECT, &c));
}

/* A number names one offer: not the next one under the same name. */
TEST_F(connect, old_number)
{
	struct vine_connect c = { .size = sizeof(c), .depth = 2, .flags = VINE_NONBLOCK };

	c.id = service_id(DEV, self->w.name);
	ASSERT_NE(0, c.id);
	vt_drop(&LISTENER);
	EXPECT_EQ(-ENOENT, vt_ioctl(DEV, VINE_CONNECT, &c));
	LISTENER = vt_listen(DEV, self->w.name, 0);
	ASSERT_LE(0, LISTENER);
	EXPECT_EQ(-ENOENT, vt_ioctl(DEV, VINE_CONNECT, &c));
}

/* VINE_WAIT_SERVICE: the service comes while we wait for it. */
TEST_F(connect, wait_for_service)
{
	struct vine_connect c = { .size = sizeof(c), .depth = 4, .name = "vt-later",
				  .flags = VINE_WAIT_SERVICE, .deadline = VINE_FOREVER };
	int listener, server;
	struct vine_info info;
	struct vt_thread t;

	ASSERT_EQ(0, vt_info(DEV, &info));
	ASSERT_EQ(0, vt_thread_start(&t, DEV, VINE_CONNECT, &c));
	ASSERT_TRUE(vt_thread_asleep(&t));
	/* another's coming does not matter */
	listener = vt_listen(DEV, "vt-other", 0);
	ASSERT_LE(0, listener);
	ASSERT_TRUE(vt_thread_asleep(&t));
	close(listener);
	listener = vt_listen(DEV, "vt-later", 0);
	ASSERT_LE(0, listener);
	server = vt_accept(listener, 0, vt_patience());
	ASSERT_LE(0, server);
	ASSERT_EQ(0, vt_thread_join(&t));
	EXPECT_EQ(info.peer, c.peer);
	EXPECT_EQ(info.incarnation, c.incarnation);
	EXPECT_EQ(1, vt_push_one(c.fd, 1));
	EXPECT_EQ(1, vt_pull_one(server, 1));
	close(c.fd);
	close(server);
	close(listener);
}

TEST_F(connect, wait_for_service_in_vain)
{
	__u64 deadline = vt_in(50);

	EXPECT_EQ(-EAGAIN, vt_connect(DEV, "vt-none", VINE_WAIT_SERVICE, 0, 2));
	EXPECT_EQ(-ETIMEDOUT, vt_connect(DEV, "vt-none", VINE_WAIT_SERVICE, deadline, 2));
	EXPECT_LE(deadline, vt_now());
	EXPECT_EQ(-ETIMEDOUT, vt_connect(DEV, "vt-none", VINE_WAIT_SERVICE, 1, 2));
}

/* Not accepted: at once, at the deadline, or when that was over before. */
TEST_F(connect, not_accepted)
{
	__u64 deadline = vt_in(50);

	EXPECT_EQ(-EAGAIN, vt_connect(DEV, self->w.name, 0, 0, 2));
	EXPECT_EQ(-EAGAIN, vt_accept(LISTENER, 0, 0));
	EXPECT_EQ(-ETIMEDOUT, vt_connect(DEV, self->w.name, 0, deadline, 2));
	EXPECT_LE(deadline, vt_now());
	EXPECT_EQ(-EAGAIN, vt_accept(LISTENER, 0, 0));
	EXPECT_EQ(-ETIMEDOUT, vt_connect(DEV, self->w.name, 0, 1, 2));
	EXPECT_EQ(-EAGAIN, vt_accept(LISTENER, 0, 0));
}

/* The listener goes while we wait. */
TEST_F(connect, withdrawn)
{
	struct vine_connect c = { .size = sizeof(c), .depth = 2, .deadline = VINE_FOREVER };
	struct vt_thread t;

	strcpy((char *)c.name, self->w.name);
	ASSERT_EQ(0, vt_thread_start(&t, DEV, VINE_CONNECT, &c));
	ASSERT_TRUE(vt_thread_asleep(&t));
	vt_drop(&LISTENER);
	EXPECT_EQ(-ECONNREFUSED, vt_thread_join(&t));
}

TEST_F(connect, interrupted)
{
	struct vine_connect c = { .size = sizeof(c), .depth = 2, .deadline = VINE_FOREVER };
	struct vt_thread t;

	strcpy((char *)c.name, self->w.name);
	vt_catch_usr1(0);
	ASSERT_EQ(0, vt_thread_start(&t, DEV, VINE_CONNECT, &c));
	ASSERT_TRUE(vt_thread_asleep(&t));
	pthread_kill(t.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, vt_thread_join(&t));
	/* and nobody is left to be accepted */
	EXPECT_EQ(-EAGAIN, vt_accept(LISTENER, 0, 0));

	memset(c.name, 0, sizeof(c.name));
	strcpy((char *)c.name, "vt-none");
	c.flags = VINE_WAIT_SERVICE;
	ASSERT_EQ(0, vt_thread_start(&t, DEV, VINE_CONNECT, &c));
	ASSERT_TRUE(vt_thread_asleep(&t));
	pthread_kill(t.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, vt_thread_join(&t));
}

/* A listener that goes while the others wait does so for all of them. */
TEST_F(connect, nonblocking_refused)
{
	struct vine_msg m = vt_msg(1);
	int fd[3], i;

	for (i = 0; i < 3; i++) {
		fd[i] = vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, 2);
		ASSERT_LE(0, fd[i]);
		EXPECT_EQ(0, vt_poll_now(fd[i], POLLIN | POLLOUT));
	}
	vt_drop(&LISTENER);
	for (i = 0; i < 3; i++) {
		ASSERT_TRUE(vt_poll(fd[i], POLLOUT) & POLLHUP);
		EXPECT_FALSE(vt_poll_now(fd[i], POLLOUT) & POLLOUT);
		EXPECT_EQ(-ECONNREFUSED, vt_push(fd[i], &m, 1));
		EXPECT_EQ(-ECONNREFUSED, vt_pull(fd[i], &m, 1, 1, VINE_FOREVER));
		vt_nonblock(fd[i], false);
		EXPECT_EQ(-ECONNREFUSED, vt_pull(fd[i], &m, 1, 1, VINE_FOREVER));
		/* no server will ever import it */
		EXPECT_EQ(-EPIPE, vt_attach(fd[i], REGION, NULL));
		close(fd[i]);
	}
}

/* Non-blocking: nothing until it is accepted, then EPOLLOUT. */
TEST_F(connect, nonblocking)
{
	struct vine_msg m = vt_msg(1);
	struct vine_connect c = { .size = sizeof(c), .depth = 2, .flags = VINE_NONBLOCK };
	struct vine_info info;
	int server;

	ASSERT_EQ(0, vt_info(DEV, &info));
	strcpy((char *)c.name, self->w.name);
	ASSERT_EQ(0, vt_ioctl(DEV, VINE_CONNECT, &c));
	EXPECT_EQ(info.peer, c.peer);
	EXPECT_EQ(info.incarnation, c.incarnation);
	EXPECT_EQ(0, vt_poll_now(c.fd, POLLIN | POLLOUT));
	EXPECT_EQ(-ENOTCONN, vt_push(c.fd, &m, 1));
	EXPECT_EQ(-ENOTCONN, vt_pull(c.fd, &m, 1, 1, 0));
	vt_nonblock(c.fd, false);
	EXPECT_EQ(-ENOTCONN, vt_pull(c.fd, &m, 1, 1, VINE_FOREVER));
	EXPECT_EQ(POLLIN, vt_poll(LISTENER, POLLIN));
	server = vt_accept(LISTENER, 0, 0);
	ASSERT_LE(0, server);
	EXPECT_EQ(POLLOUT, vt_poll(c.fd, POLLIN | POLLOUT));
	EXPECT_EQ(0, vt_poll_now(LISTENER, POLLIN));
	EXPECT_EQ(1, vt_push_one(c.fd, 1));
	EXPECT_EQ(1, vt_pull_one(server, 1));
	close(c.fd);
	close(server);
}

/* Takes memory until there is none: descriptors, as few as it takes. */
static int take_all(int dev, __u64 chunk, int *fd, int room)
{
	struct vine_info info;
	__u64 bytes;
	int n = 0;

	if (vt_info(dev, &info))
		return -1;
	for (bytes = info.chunks_free * chunk; bytes >= chunk && n < room; ) {
		fd[n] = vt_region(dev, bytes);
		if (fd[n] >= 0)
			n++;
		else
			bytes = bytes / 2 / chunk * chunk;
	}
	return n;
}

/* No memory for the rings. */
TEST_F(connect, no_space)
{
	int fd[200], n, i, last = 0, queue[64];
	struct vt_counts was;

	ASSERT_EQ(0, vt_count(DEV, &was));
	n = take_all(DEV, self->w.chunk, fd, ARRAY_SIZE(fd));
	ASSERT_LT(0, n);
	EXPECT_EQ(-ENOSPC, vt_region(DEV, 1));
	/* there may be room beside other rings of its size */
	for (i = 0; i < (int)ARRAY_SIZE(queue); i++) {
		last = vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, 4096);
		if (last < 0)
			break;
		queue[i] = last;
	}
	EXPECT_EQ(-ENOSPC, last);
	while (i--)
		close(queue[i]);
	while (n--)
		close(fd[n]);
	EXPECT_TRUE(vt_all_back(DEV, &was));
	last = vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, 4096);
	EXPECT_LE(0, last);
	close(last);
}

/* ---- VINE_REGION ---- */

VT_FIXTURE(region)

TEST_F(region, no_bytes)
{
	EXPECT_EQ(-EINVAL, vt_region(DEV, 0));
}

/* What comes back can be mapped: whole chunks. */
TEST_F(region, rounding)
{
	static const struct {
		int chunks, bytes, want;
	} size[] = { { 0, 1, 1 }, { 1, -1, 1 }, { 1, 0, 1 }, { 1, 1, 2 }, { 3, -1, 3 } };
	struct vine_region r;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(size); i++) {
		r = (struct vine_region){ .size = sizeof(r),
			.bytes = size[i].chunks * self->w.chunk + size[i].bytes };
		ASSERT_EQ(0, vt_ioctl(DEV, VINE_REGION, &r));
		EXPECT_EQ(size[i].want * self->w.chunk, r.bytes);
		close(r.fd);
	}
}

TEST_F(region, too_large)
{
	struct vine_info info;
	__u64 bytes[7];
	unsigned int i;

	ASSERT_EQ(0, vt_info(DEV, &info));
	bytes[0] = info.chunks_free * info.chunk_size + 1;
	bytes[1] = info.chunks * info.chunk_size + 1;
	bytes[2] = info.segment_size * 2;
	bytes[3] = 1ULL << 63;
	bytes[4] = ~0ULL;
	bytes[5] = ~0ULL - info.chunk_size + 2;	/* rounds up to 0 */
	bytes[6] = info.chunk_size << 32;	/* 2^32 chunks */
	for (i = 0; i < ARRAY_SIZE(bytes); i++) {
		EXPECT_EQ(-ENOSPC, vt_region(DEV, bytes[i])) TH_LOG("%llx bytes", bytes[i]);
	}
}

/* All there is; then none; then all is back. */
TEST_F(region, no_space)
{
	struct vt_counts was;
	struct vine_info info;
	int fd[200], n;

	ASSERT_EQ(0, vt_count(DEV, &was));
	n = take_all(DEV, self->w.chunk, fd, ARRAY_SIZE(fd));
	ASSERT_LT(0, n);
	ASSERT_EQ(0, vt_info(DEV, &info));
	EXPECT_EQ(0, info.chunks_free);
	EXPECT_EQ(-ENOSPC, vt_region(DEV, 1));
	while (n--)
		close(fd[n]);
	EXPECT_TRUE(vt_all_back(DEV, &was));
	ASSERT_LE(0, fd[0] = vt_region(DEV, 1));
	close(fd[0]);
}

/* ---- VINE_ATTACH ---- */

VT_FIXTURE(attach)

/* The number is the region's: the same on every queue, and again. */
TEST_F(attach, number)
{
	int region = vt_region(DEV, 1), client, server;
	__u64 id, again = 0;

	ASSERT_LE(0, region);
	ASSERT_EQ(0, vt_attach(CLIENT, region, &id));
	EXPECT_NE(self->w.id, id);
	EXPECT_EQ(0, vt_attach(CLIENT, region, &again));
	EXPECT_EQ(id, again);
	ASSERT_EQ(0, vt_pair(DEV, LISTENER, self->w.name, 2, &client, &server));
	EXPECT_EQ(0, vt_attach(client, region, &again));
	EXPECT_EQ(id, again);
	close(client);
	close(server);
	close(region);
}

TEST_F(attach, no_descriptor)
{
	int fd = dup(REGION);

	ASSERT_LE(0, fd);
	close(fd);
	EXPECT_EQ(-EBADF, vt_attach(CLIENT, fd, NULL));
	EXPECT_EQ(-EBADF, vt_attach(CLIENT, -1, NULL));
	EXPECT_EQ(-EBADF, vt_attach(CLIENT, INT_MAX, NULL));
	EXPECT_EQ(-EBADF, vt_attach(CLIENT, INT_MIN, NULL));
}

TEST_F(attach, not_a_region)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), k;

	ASSERT_LE(0, null);
	EXPECT_EQ(-EINVAL, vt_attach(CLIENT, null, NULL));
	for (k = 0; k < VT_KINDS; k++)
		if (k != VT_REGION && k != VT_IMPORT) {
			EXPECT_EQ(-EINVAL, vt_attach(CLIENT, self->w.fd[k], NULL))
				TH_LOG("kind %d", k);
		}
	close(null);
}

/* What another has let us import is not ours to let others import. */
TEST_F(attach, imported_region)
{
	EXPECT_EQ(-EINVAL, vt_attach(CLIENT, IMPORT, NULL));
	/* nor when the owner's own descriptor is gone */
	vt_drop(&REGION);
	EXPECT_EQ(-EINVAL, vt_attach(CLIENT, IMPORT, NULL));
}

/* Finds another vine device than ours. -ENODEV when there is none. */
static int open_other_device(void)
{
	struct stat ours, st;
	char path[32];
	int i;

	if (stat(vt_path(), &ours))
		return -errno;
	for (i = 0; i < 64; i++) {
		snprintf(path, sizeof(path), "/dev/vine%d", i);
		if (!stat(path, &st) && st.st_rdev != ours.st_rdev)
			return open(path, O_RDWR | O_CLOEXEC);
	}
	return -ENODEV;
}

TEST_F(attach, region_of_another_device)
{
	int dev = open_other_device(), region;

	if (dev < 0)
		SKIP(return, "there is no second vine device");
	/* its own test, at the same time, may have filled it for a while */
	ASSERT_TRUE(vt_until((region = vt_region(dev, 1)) != -ENOSPC));
	ASSERT_LE(0, region);
	EXPECT_EQ(-EINVAL, vt_attach(CLIENT, region, NULL));
	close(region);
	close(dev);
}

TEST_F(attach, server_side)
{
	EXPECT_EQ(-EINVAL, vt_attach(SERVER, REGION, NULL));
}

/* 48 regions and no more. One that is closed makes room. */
TEST_F(attach, too_many)
{
	int fd[48], n, ret = 0;

	for (n = 0; n < (int)ARRAY_SIZE(fd); n++) {	/* the world has one attached */
		fd[n] = vt_region(DEV, 1);
		if (fd[n] < 0)
			break;
		ret = vt_attach(CLIENT, fd[n], NULL);
		if (ret) {
			close(fd[n]);
			break;
		}
	}
	if (n < (int)ARRAY_SIZE(fd) && !ret) {
		while (n--)
			close(fd[n]);
		SKIP(return, "the segment has less than 49 chunks");
	}
	EXPECT_EQ(47, n);
	EXPECT_EQ(-ENOSPC, ret);
	/* those that are attached stay so */
	EXPECT_EQ(0, vt_attach(CLIENT, fd[0], NULL));
	EXPECT_EQ(0, vt_attach(CLIENT, REGION, NULL));
	close(fd[3]);
	fd[3] = vt_region(DEV, 1);
	ASSERT_LE(0, fd[3]);
	EXPECT_EQ(0, vt_attach(CLIENT, fd[3], NULL));
	while (n--)
		close(fd[n]);
}

TEST_F(attach, other_side_gone)
{
	int region = vt_region(DEV, 1);

	ASSERT_LE(0, region);
	vt_drop(&SERVER);
	ASSERT_TRUE(vt_poll(CLIENT, 0) & POLLHUP);
	EXPECT_EQ(-EPIPE, vt_attach(CLIENT, region, NULL));
	close(region);
}

/* Before it is accepted a queue can have regions too. */
TEST_F(attach, before_accept)
{
	int client, server, import;
	__u64 id;

	client = vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, 2);
	ASSERT_LE(0, client);
	ASSERT_EQ(0, vt_attach(client, REGION, &id));
	server = vt_accept(LISTENER, 0, vt_patience());
	ASSERT_LE(0, server);
	import = vt_import(server, id);
	EXPECT_LE(0, import);
	close(import);
	close(client);
	close(server);
}

/* ---- VINE_IMPORT ---- */

VT_FIXTURE(import)

TEST_F(import, bytes)
{
	struct vine_import i = { .size = sizeof(i) };
	int region = vt_region(DEV, self->w.chunk + 1);

	ASSERT_LE(0, region);
	ASSERT_EQ(0, vt_attach(CLIENT, region, (__u64 *)&i.id));
	ASSERT_EQ(0, vt_ioctl(SERVER, VINE_IMPORT, &i));
	EXPECT_EQ(2 * self->w.chunk, i.bytes);
	close(i.fd);
	close(region);
}

/* Each import is a descriptor of its own. */
TEST_F(import, twice)
{
	int fd = vt_import(SERVER, self->w.id);

	ASSERT_LE(0, fd);
	EXPECT_NE(IMPORT, fd);
	vt_drop(&IMPORT);
	EXPECT_LE(0, IMPORT = vt_import(SERVER, self->w.id));
	close(fd);
}

TEST_F(import, client_side)
{
	EXPECT_EQ(-EINVAL, vt_import(CLIENT, self->w.id));
}

TEST_F(import, no_such_region)
{
	int region = vt_region(DEV, 1), bit;
	__u64 id;

	EXPECT_EQ(-ENOENT, vt_import(SERVER, 0));
	EXPECT_EQ(-ENOENT, vt_import(SERVER, ~0ULL));
	for (bit = 0; bit < 64; bit++) {
		EXPECT_EQ(-ENOENT, vt_import(SERVER, self->w.id ^ 1ULL << bit))
			TH_LOG("bit %d", bit);
	}
	/* attached, but dead: to any queue, for the number tells nothing */
	ASSERT_LE(0, region);
	ASSERT_EQ(0, vt_attach(CLIENT, region, &id));
	close(region);
	EXPECT_EQ(-ENOENT, vt_import(SERVER, id));
}

/* Attached, but to another queue. */
TEST_F(import, of_another_queue)
{
	int client, server, region = vt_region(DEV, 1), fd;
	__u64 id;

	ASSERT_LE(0, region);
	ASSERT_EQ(0, vt_pair(DEV, LISTENER, self->w.name, 2, &client, &server));
	ASSERT_EQ(0, vt_attach(client, region, &id));
	EXPECT_EQ(-ENOENT, vt_import(SERVER, id));
	EXPECT_EQ(-ENOENT, vt_import(server, self->w.id));
	ASSERT_EQ(0, vt_attach(CLIENT, region, &id));
	fd = vt_import(SERVER, id);
	EXPECT_LE(0, fd);
	close(fd);
	close(client);
	close(server);
	close(region);
}

/* ---- VINE_TRANSFER ---- */

VT_FIXTURE(transfer)

TEST_F(transfer, order)
{
	struct vine_msg msg[11], got[11];
	__u64 sent = 0, seen = 0;
	int way, i, n;

	for (way = 0; way < 2; way++) {
		int from = way ? SERVER : CLIENT, to = way ? CLIENT : SERVER;

		for (sent = 0, seen = 0; seen < 1000; ) {
			n = 1 + sent % ARRAY_SIZE(msg);
			for (i = 0; i < n; i++)
				msg[i] = vt_msg(sent + i);
			n = vt_push(from, msg, n);
			ASSERT_TRUE(n > 0 || n == -EAGAIN);
			sent += n > 0 ? n : 0;
			n = vt_pull(to, got, 1 + seen % 7, 1, vt_patience());
			ASSERT_LT(0, n);
			for (i = 0; i < n; i++) {
				ASSERT_TRUE(vt_is_msg(&got[i], seen + i));
			}
			seen += n;
			ASSERT_LE(seen, sent);
		}
		while (seen < sent) {
			ASSERT_EQ(1, vt_pull_one(to, seen++));
		}
		EXPECT_EQ(-EAGAIN, vt_pull(to, got, 1, 0, 0));
		EXPECT_EQ(-EAGAIN, vt_pull(from, got, 1, 0, 0));
	}
}

/* Every length; what lies behind it in the sender's structure stays there. */
TEST_F(transfer, every_length)
{
	struct vine_msg m, got;
	__u32 len;

	for (len = 0; len <= VINE_MSG_DATA; len++) {
		memset(&m, 0x80 + len, sizeof(m));
		m.len = len;
		m.reserved = 0;
		memset(&got, 0x11, sizeof(got));
		ASSERT_EQ(1, vt_push(CLIENT, &m, 1));
		ASSERT_EQ(1, vt_pull(SERVER, &got, 1, 1, vt_patience()));
		EXPECT_EQ(len, got.len);
		EXPECT_EQ(0, got.reserved);
		EXPECT_EQ(0, memcmp(m.data, got.data, len));
		EXPECT_TRUE(vt_all_are(got.data + len, 0, sizeof(got.data) - len));
	}
}

TEST_F(transfer, too_long)
{
	static const __u32 len[] = { 57, 64, 0x100, 0x138, 0x80000000, ~0U };
	struct vine_msg m[3];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(len); i++) {
		m[0] = vt_msg(i);
		m[1] = vt_msg(i + 1);
		m[2] = vt_msg(i + 2);
		m[2].len = len[i];
		/* those before it are pushed */
		EXPECT_EQ(2, vt_push(CLIENT, m, 3));
		EXPECT_EQ(-EMSGSIZE, vt_push(CLIENT, m + 2, 1)) TH_LOG("len %u", len[i]);
		EXPECT_EQ(1, vt_pull_one(SERVER, i));
		EXPECT_EQ(1, vt_pull_one(SERVER, i + 1));
		EXPECT_EQ(-EAGAIN, vt_pull(SERVER, m, 1, 0, 0));
	}
}

TEST_F(transfer, reserved_in_message)
{
	struct vine_msg m[2] = { vt_msg(1), vt_msg(2) };
	int bit;

	for (bit = 0; bit < 32; bit++) {
		m[1].reserved = 1U << bit;
		EXPECT_EQ(-EINVAL, vt_push(CLIENT, m + 1, 1)) TH_LOG("bit %d", bit);
	}
	EXPECT_EQ(1, vt_push(CLIENT, m, 2));
	EXPECT_EQ(1, vt_pull_one(SERVER, 1));
	EXPECT_EQ(-EAGAIN, vt_pull(SERVER, m, 1, 0, 0));
}

/* A full ring: part of a batch, then EAGAIN, whatever the deadline. */
TEST_F(transfer, full)
{
	struct vine_msg msg[VT_DEPTH + 3], got[VT_DEPTH];
	struct vine_transfer t = { .size = sizeof(t), .push = (uintptr_t)msg,
				   .push_count = 1, .deadline = VINE_FOREVER };
	int i;

	for (i = 0; i < (int)ARRAY_SIZE(msg); i++)
		msg[i] = vt_msg(i);
	EXPECT_EQ(5, vt_push(CLIENT, msg, 5));
	EXPECT_EQ(VT_DEPTH - 5, vt_push(CLIENT, msg + 5, ARRAY_SIZE(msg) - 5));
	EXPECT_EQ(-EAGAIN, vt_push(CLIENT, msg, 1));
	EXPECT_EQ(-EAGAIN, vt_ioctl(CLIENT, VINE_TRANSFER, &t));
	/* what is pulled makes room at once, be it a single message */
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(1, vt_pull_one(SERVER, i));
		EXPECT_EQ(1, vt_push(CLIENT, msg + VT_DEPTH + i, 1));
		EXPECT_EQ(-EAGAIN, vt_push(CLIENT, msg, 1));
	}
	EXPECT_EQ(VT_DEPTH, vt_pull(SERVER, got, VT_DEPTH, VT_DEPTH, vt_patience()));
	for (i = 0; i < VT_DEPTH; i++) {
		EXPECT_TRUE(vt_is_msg(&got[i], i + 3));
	}
	EXPECT_EQ(VT_DEPTH, vt_push(CLIENT, msg, ARRAY_SIZE(msg)));
}

/* One call does both; being unable to push does not keep it from pulling. */
TEST_F(transfer, both_ways)
{
	struct vine_msg msg[VT_DEPTH], got[VT_DEPTH];
	struct vine_transfer t;
	int i;

	for (i = 0; i < VT_DEPTH; i++)
		msg[i] = vt_msg(i);
	ASSERT_EQ(3, vt_push(SERVER, msg, 3));
	t = (struct vine_transfer){ .size = sizeof(t), .push = (uintptr_t)msg,
		.push_count = VT_DEPTH, .pull = (uintptr_t)got, .pull_count = VT_DEPTH };
	ASSERT_EQ(0, vt_ioctl(CLIENT, VINE_TRANSFER, &t));
	EXPECT_EQ(VT_DEPTH, t.push_count);
	EXPECT_EQ(3, t.pull_count);
	EXPECT_TRUE(vt_is_msg(&got[2], 2));
	/* full now */
	ASSERT_EQ(2, vt_push(SERVER, msg, 2));
	t.push_count = 1;
	t.pull_count = VT_DEPTH;
	t.pull_min = 1;
	t.deadline = VINE_FOREVER;
	ASSERT_EQ(0, vt_ioctl(CLIENT, VINE_TRANSFER, &t));
	EXPECT_EQ(0, t.push_count);
	EXPECT_EQ(2, t.pull_count);
	EXPECT_EQ(VT_DEPTH, vt_pull(SERVER, got, VT_DEPTH, VT_DEPTH, vt_patience()));
	EXPECT_EQ(0, memcmp(msg, got, sizeof(msg)));
}

/* A round trip is one call. */
TEST_F(transfer, round_trip)
{
	struct vine_msg ask = vt_msg(1), answer;
	struct vine_transfer t = { .size = sizeof(t), .push = (uintptr_t)&ask,
		.push_count = 1, .pull = (uintptr_t)&answer, .pull_count = 1,
		.pull_min = 1, .deadline = VINE_FOREVER };
	struct vt_thread thread;

	ASSERT_EQ(0, vt_thread_start(&thread, CLIENT, VINE_TRANSFER, &t));
	EXPECT_EQ(1, vt_pull_one(SERVER, 1));
	ASSERT_TRUE(vt_thread_asleep(&thread));
	EXPECT_EQ(1, vt_push_one(SERVER, 2));
	EXPECT_EQ(0, vt_thread_join(&thread));
	EXPECT_EQ(1, t.push_count);
	EXPECT_EQ(1, t.pull_count);
	EXPECT_TRUE(vt_is_msg(&answer, 2));
}

TEST_F(transfer, min_above_count)
{
	struct vine_msg m = vt_msg(1);
	struct vine_transfer t = { .size = sizeof(t), .push = (uintptr_t)&m, .push_count = 1,
				   .pull = (uintptr_t)&m, .pull_count = 1, .pull_min = 2 };

	EXPECT_EQ(-EINVAL, vt_ioctl(CLIENT, VINE_TRANSFER, &t));
	t.pull_count = 0;
	t.pull_min = 1;
	EXPECT_EQ(-EINVAL, vt_ioctl(CLIENT, VINE_TRANSFER, &t));
	t.pull_count = ~0U - 1;
	t.pull_min = ~0U;
	EXPECT_EQ(-EINVAL, vt_ioctl(CLIENT, VINE_TRANSFER, &t));
	/* nothing was pushed */
	EXPECT_EQ(-EAGAIN, vt_pull(SERVER, &m, 1, 0, 0));
}

/* Nothing to do is done. */
TEST_F(transfer, no_counts)
{
	struct vine_transfer t = { .size = sizeof(t), .deadline = VINE_FOREVER,
				   .push = 1, .pull = ~0ULL };

	EXPECT_EQ(0, vt_ioctl(CLIENT, VINE_TRANSFER, &t));
	EXPECT_EQ(0, t.push_count);
	EXPECT_EQ(0, t.pull_count);
}

/* Counts beyond all memory: what there is room for, of what is there. */
TEST_F(transfer, huge_counts)
{
	struct vine_transfer t = { .size = sizeof(t) };
	struct vine_msg *msg;
	char *end = vt_guarded(1);
	int i;

	ASSERT_NE(NULL, end);
	msg = (struct vine_msg *)(end + self->w.page) - VT_DEPTH;
	for (i = 0; i < VT_DEPTH; i++)
		msg[i] = vt_msg(i);
	t.push = (uintptr_t)msg;
	t.push_count = ~0U;
	ASSERT_EQ(0, vt_ioctl(CLIENT, VINE_TRANSFER, &t));
	EXPECT_EQ(VT_DEPTH, t.push_count);
	memset(msg, 0, VT_DEPTH * sizeof(*msg));
	t.push_count = 0;
	t.pull = (uintptr_t)msg;
	t.pull_count = ~0U;
	t.pull_min = ~0U;
	ASSERT_EQ(0, vt_ioctl(SERVER, VINE_TRANSFER, &t));
	EXPECT_EQ(VT_DEPTH, t.pull_count);
	for (i = 0; i < VT_DEPTH; i++) {
		EXPECT_TRUE(vt_is_msg(&msg[i], i));
	}
}

/* Nothing there, and not to wait. */
TEST_F(transfer, nothing_there)
{
	struct vine_msg m;

	EXPECT_EQ(-EAGAIN, vt_pull(CLIENT, &m, 1, 0, 0));
	EXPECT_EQ(-EAGAIN, vt_pull(CLIENT, &m, 1, 1, 0));
	EXPECT_EQ(-EAGAIN, vt_pull(CLIENT, &m, 1, 0, VINE_FOREVER));
	vt_nonblock(CLIENT, true);
	EXPECT_EQ(-EAGAIN, vt_pull(CLIENT, &m, 1, 1, VINE_FOREVER));
	EXPECT_EQ(-EAGAIN, vt_pull(CLIENT, &m, 1, 1, 1));
}

/* O_NONBLOCK: what is there, be it less than the minimum. */
TEST_F(transfer, nonblocking)
{
	struct vine_msg m[4];

	vt_nonblock(SERVER, true);
	ASSERT_EQ(1, vt_push_one(CLIENT, 1));
	ASSERT_EQ(1, vt_push_one(CLIENT, 2));
	EXPECT_EQ(2, vt_pull(SERVER, m, 4, 4, VINE_FOREVER));
	vt_nonblock(SERVER, false);
	ASSERT_EQ(1, vt_push_one(CLIENT, 3));
	EXPECT_EQ(1, vt_pull(SERVER, m, 4, 4, 0));
}

TEST_F(transfer, timed_out)
{
	__u64 deadline = vt_in(50);
	struct vine_msg m[4];
	struct vine_transfer t = { .size = sizeof(t), .push = (uintptr_t)m, .push_count = 1,
				   .pull = (uintptr_t)m, .pull_count = 1, .pull_min = 1 };

	EXPECT_EQ(-ETIMEDOUT, vt_pull(SERVER, m, 4, 1, deadline));
	EXPECT_LE(deadline, vt_now());
	EXPECT_EQ(-ETIMEDOUT, vt_pull(SERVER, m, 4, 1, deadline));
	EXPECT_EQ(-ETIMEDOUT, vt_pull(SERVER, m, 4, 4, 1));
	/* some is progress, and no error */
	ASSERT_EQ(1, vt_push_one(CLIENT, 1));
	deadline = vt_in(50);
	EXPECT_EQ(1, vt_pull(SERVER, m, 4, 2, deadline));
	EXPECT_LE(deadline, vt_now());
	/* and so is a push */
	t.deadline = vt_in(50);
	EXPECT_EQ(0, vt_ioctl(SERVER, VINE_TRANSFER, &t));
	EXPECT_EQ(1, t.push_count);
	EXPECT_EQ(0, t.pull_count);
	EXPECT_LE(t.deadline, vt_now());
}

/* Waits for as many as it was told to, and until deadlines that are far away. */
TEST_F(transfer, minimum)
{
	static const __u64 deadline[] = { VINE_FOREVER, VINE_FOREVER - 1, 1ULL << 63,
					  (1ULL << 63) - 1, 1ULL << 62 };
	struct vine_msg m[5];
	struct vt_thread t;
	unsigned int i, k;

	for (i = 0; i < ARRAY_SIZE(deadline); i++) {
		struct vine_transfer x = { .size = sizeof(x), .pull = (uintptr_t)m,
			.pull_count = 5, .pull_min = 3, .deadline = deadline[i] };

		ASSERT_EQ(0, vt_thread_start(&t, SERVER, VINE_TRANSFER, &x));
		for (k = 0; k < 3; k++) {
			ASSERT_TRUE(vt_thread_asleep(&t)) TH_LOG("deadline %llx", deadline[i]);
			ASSERT_EQ(1, vt_push_one(CLIENT, k));
		}
		ASSERT_EQ(0, vt_thread_join(&t));
		EXPECT_EQ(3, x.pull_count);
		for (k = 0; k < 3; k++) {
			EXPECT_TRUE(vt_is_msg(&m[k], k));
		}
	}
}

/* What was sent before the other side went is pulled before EPIPE. */
TEST_F(transfer, drained_before_hang_up)
{
	struct vine_msg m[VT_DEPTH];
	__u64 i;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(1, vt_push_one(SERVER, i));
	}
	vt_drop(&SERVER);
	ASSERT_TRUE(vt_poll(CLIENT, 0) & POLLHUP);
	EXPECT_EQ(1, vt_pull_one(CLIENT, 0));
	/* two, and no more to wait for */
	EXPECT_EQ(2, vt_pull(CLIENT, m, VT_DEPTH, VT_DEPTH, VINE_FOREVER));
	EXPECT_TRUE(vt_is_msg(&m[0], 1));
	EXPECT_TRUE(vt_is_msg(&m[1], 2));
	EXPECT_EQ(-EPIPE, vt_pull(CLIENT, m, 1, 1, VINE_FOREVER));
	EXPECT_EQ(-EPIPE, vt_pull(CLIENT, m, 1, 0, 0));
	vt_nonblock(CLIENT, true);
	EXPECT_EQ(-EPIPE, vt_pull(CLIENT, m, 1, 1, VINE_FOREVER));
}

/* The same on the server's side, and pushes, which have nobody to go to. */
TEST_F(transfer, other_side_gone)
{
	struct vine_msg m = vt_msg(1);
	struct vine_transfer t = { .size = sizeof(t), .push = (uintptr_t)&m, .push_count = 1,
				   .pull = (uintptr_t)&m, .pull_count = 1, .pull_min = 1,
				   .deadline = VINE_FOREVER };

	ASSERT_EQ(1, vt_push_one(CLIENT, 1));
	vt_drop(&CLIENT);
	ASSERT_TRUE(vt_poll(SERVER, 0) & POLLHUP);
	EXPECT_EQ(-EPIPE, vt_push(SERVER, &m, 1));
	/* one call that cannot push any more still pulls */
	EXPECT_EQ(0, vt_ioctl(SERVER, VINE_TRANSFER, &t));
	EXPECT_EQ(0, t.push_count);
	EXPECT_EQ(1, t.pull_count);
	t.push_count = 1;
	EXPECT_EQ(-EPIPE, vt_ioctl(SERVER, VINE_TRANSFER, &t));
}

/* A sleeper is woken by the hang-up. */
TEST_F(transfer, hang_up_wakes)
{
	struct vine_msg m;
	struct vine_transfer t = { .size = sizeof(t), .pull = (uintptr_t)&m,
		.pull_count = 1, .pull_min = 1, .deadline = VINE_FOREVER };
	struct vt_thread thread;

	ASSERT_EQ(0, vt_thread_start(&thread, CLIENT, VINE_TRANSFER, &t));
	ASSERT_TRUE(vt_thread_asleep(&thread));
	vt_drop(&SERVER);
	EXPECT_EQ(-EPIPE, vt_thread_join(&thread));
}

TEST_F(transfer, interrupted)
{
	struct vine_msg m;
	struct vine_transfer t = { .size = sizeof(t), .pull = (uintptr_t)&m,
		.pull_count = 1, .pull_min = 1, .deadline = VINE_FOREVER };
	struct vt_thread thread;

	vt_catch_usr1(0);
	ASSERT_EQ(0, vt_thread_start(&thread, CLIENT, VINE_TRANSFER, &t));
	ASSERT_TRUE(vt_thread_asleep(&thread));
	pthread_kill(thread.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, vt_thread_join(&thread));
	/* and goes on working */
	EXPECT_EQ(1, vt_push_one(SERVER, 1));
	EXPECT_EQ(1, vt_pull_one(CLIENT, 1));
}

/* A call that has done nothing may be restarted, and then waits as before. */
TEST_F(transfer, restarted)
{
	struct vine_msg m;
	struct vine_transfer t = { .size = sizeof(t), .pull = (uintptr_t)&m,
		.pull_count = 1, .pull_min = 1, .deadline = VINE_FOREVER };
	struct vt_thread thread;

	vt_catch_usr1(SA_RESTART);
	ASSERT_EQ(0, vt_thread_start(&thread, CLIENT, VINE_TRANSFER, &t));
	ASSERT_TRUE(vt_thread_asleep(&thread));
	pthread_kill(thread.thread, SIGUSR1);
	ASSERT_TRUE(vt_thread_asleep(&thread));
	EXPECT_EQ(1, vt_push_one(SERVER, 1));
	EXPECT_EQ(0, vt_thread_join(&thread));
	EXPECT_EQ(1, t.pull_count);
	EXPECT_TRUE(vt_is_msg(&m, 1));
}

/* One that has pushed is not: it would push again. */
TEST_F(transfer, signal_after_push)
{
	static const int flags[] = { 0, SA_RESTART };
	struct vine_msg m, got[4];
	struct vt_thread thread;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		struct vine_transfer t = { .size = sizeof(t), .push = (uintptr_t)&m,
			.push_count = 1, .pull = (uintptr_t)got, .pull_count = 1,
			.pull_min = 1, .deadline = VINE_FOREVER };

		m = vt_msg(7);
		vt_catch_usr1(flags[i]);
		ASSERT_EQ(0, vt_thread_start(&thread, CLIENT, VINE_TRANSFER, &t));
		ASSERT_TRUE(vt_thread_asleep(&thread));
		pthread_kill(thread.thread, SIGUSR1);
		EXPECT_EQ(0, vt_thread_join(&thread));
		EXPECT_EQ(1, t.push_count);
		EXPECT_EQ(0, t.pull_count);
		EXPECT_EQ(1, vt_pull(SERVER, got, 4, 0, 0));
		EXPECT_TRUE(vt_is_msg(&got[0], 7));
	}
}

/* Nor one that has pulled. */
TEST_F(transfer, signal_after_pull)
{
	struct vine_msg got[4];
	struct vine_transfer t = { .size = sizeof(t), .pull = (uintptr_t)got,
		.pull_count = 4, .pull_min = 4, .deadline = VINE_FOREVER };
	struct vt_thread thread;

	vt_catch_usr1(SA_RESTART);
	ASSERT_EQ(0, vt_thread_start(&thread, CLIENT, VINE_TRANSFER, &t));
	ASSERT_TRUE(vt_thread_asleep(&thread));
	ASSERT_EQ(1, vt_push_one(SERVER, 1));
	/* asleep again, with the message */
	ASSERT_TRUE(vt_until(got[0].len == vt_msg(1).len));
	ASSERT_TRUE(vt_thread_asleep(&thread));
	pthread_kill(thread.thread, SIGUSR1);
	EXPECT_EQ(0, vt_thread_join(&thread));
	EXPECT_EQ(1, t.pull_count);
	EXPECT_TRUE(vt_is_msg(&got[0], 1));
}

/* A message that does not reach the caller is not lost. */
TEST_F(transfer, pull_to_bad_pointer)
{
	char *end = vt_guarded(1);
	struct vine_msg *msg;
	unsigned int i;

	ASSERT_NE(NULL, end);
	end += self->w.page;
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(1, vt_push_one(CLIENT, i));
	}
	for (i = 0; i < ARRAY_SIZE(nowhere); i++) {
		EXPECT_EQ(-EFAULT, vt_pull(SERVER, nowhere[i], 4, 4, VINE_FOREVER));
	}
	EXPECT_EQ(-EFAULT, vt_pull(SERVER, (void *)end, 4, 0, 0));
	EXPECT_EQ(-EFAULT, vt_pull(SERVER, (void *)(end - 63), 4, 0, 0));
	/* two fit, then comes the bad page */
	msg = (struct vine_msg *)end - 2;
	EXPECT_EQ(2, vt_pull(SERVER, msg, 4, 4, VINE_FOREVER));
	EXPECT_TRUE(vt_is_msg(&msg[0], 0));
	EXPECT_TRUE(vt_is_msg(&msg[1], 1));
	/* read-only memory is as bad */
	EXPECT_EQ(0, mprotect(end - self->w.page, self->w.page, PROT_READ));
	EXPECT_EQ(-EFAULT, vt_pull(SERVER, msg, 2, 0, 0));
	EXPECT_EQ(1, vt_pull_one(SERVER, 2));
	EXPECT_EQ(1, vt_pull_one(SERVER, 3));
	/* an empty ring has nothing to copy */
	EXPECT_EQ(-EAGAIN, vt_pull(SERVER, NULL, 4, 0, 0));
}

TEST_F(transfer, push_from_bad_pointer)
{
	char *end = vt_guarded(1);
	struct vine_msg *msg, got;
	unsigned int i;

	ASSERT_NE(NULL, end);
	end += self->w.page;
	for (i = 0; i < ARRAY_SIZE(nowhere); i++) {
		EXPECT_EQ(-EFAULT, vt_push(CLIENT, nowhere[i], 2));
	}
	EXPECT_EQ(-EFAULT, vt_push(CLIENT, (void *)end, 1));
	EXPECT_EQ(-EFAULT, vt_push(CLIENT, (void *)(end - 63), 1));
	/* three are there, then comes the bad page: in one batch, and across batches */
	msg = (struct vine_msg *)end - 3;
	for (i = 0; i < 3; i++)
		msg[i] = vt_msg(i);
	EXPECT_EQ(3, vt_push(CLIENT, msg, VT_DEPTH));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(1, vt_pull_one(SERVER, i));
	}
	EXPECT_EQ(-EAGAIN, vt_pull(SERVER, &got, 1, 0, 0));
}

/* Bad to pull to: then what was pushed counts, and the message stays. */
TEST_F(transfer, push_then_bad_pull)
{
	struct vine_msg m = vt_msg(1);
	struct vine_transfer t = { .size = sizeof(t), .push = (uintptr_t)&m, .push_count = 1,
				   .pull = 1, .pull_count = 1 };

	ASSERT_EQ(1, vt_push_one(SERVER, 2));
	EXPECT_EQ(0, vt_ioctl(CLIENT, VINE_TRANSFER, &t));
	EXPECT_EQ(1, t.push_count);
	EXPECT_EQ(0, t.pull_count);
	EXPECT_EQ(1, vt_pull_one(CLIENT, 2));
	EXPECT_EQ(1, vt_pull_one(SERVER, 1));
}

/* ---- several threads ---- */

#define PER_THREAD	1000

struct worker {
	pthread_t thread;
	int fd;
	__u64 base;
	int bad;
	__u64 seen[2 * PER_THREAD];
	int count;
};

static void *pusher(void *arg)
{
	struct worker *w = arg;
	int i, ret;

	for (i = 0; i < PER_THREAD; ) {
		ret = vt_push_one(w->fd, w->base + i);
		if (ret == -EAGAIN)
			vt_poll(w->fd, POLLOUT);
		else if (ret == 1)
			i++;
		else
			w->bad = ret;
		if (w->bad)
			break;
	}
	return NULL;
}

static void *puller(void *arg)
{
	struct worker *w = arg;
	struct vine_msg m[3];
	int i, n;

	while ((n = vt_pull(w->fd, m, 3, 1, vt_patience())) > 0) {
		for (i = 0; i < n; i++) {
			__u64 k;

			memcpy(&k, m[i].data, sizeof(k));
			if (!vt_is_msg(&m[i], k) || w->count >= 2 * PER_THREAD)
				w->bad = -EBADMSG;
			else
				w->seen[w->count++] = k;
		}
	}
	if (n != -EPIPE)
		w->bad = n;
	return NULL;
}

/*
 * Two threads push on one descriptor, two pull on one: each message comes once, and
 * those of one sender to one receiver come in their order.
 */
TEST_F(transfer, two_threads_each)
{
	static struct worker in[2], out[2];
	static char times[2 * PER_THREAD];
	int i, k;

	for (i = 0; i < 2; i++) {
		in[i].fd = CLIENT;
		in[i].base = i * PER_THREAD;
		out[i].fd = SERVER;
		ASSERT_EQ(0, pthread_create(&out[i].thread, NULL, puller, &out[i]));
		ASSERT_EQ(0, pthread_create(&in[i].thread, NULL, pusher, &in[i]));
	}
	for (i = 0; i < 2; i++)
		pthread_join(in[i].thread, NULL);
	vt_drop(&CLIENT);
	for (i = 0; i < 2; i++) {
		pthread_join(out[i].thread, NULL);
		EXPECT_EQ(0, in[i].bad);
		EXPECT_EQ(0, out[i].bad);
	}
	for (i = 0; i < 2; i++) {
		__u64 last[2] = { 0, 0 };

		for (k = 0; k < out[i].count; k++) {
			__u64 n = out[i].seen[k];
			int from = n / PER_THREAD;

			ASSERT_GT(2, from);
			times[n]++;
			ASSERT_LE(last[from], n % PER_THREAD + 1);
			last[from] = n % PER_THREAD + 1;
		}
	}
	EXPECT_EQ(2 * PER_THREAD, out[0].count + out[1].count);
	EXPECT_TRUE(vt_all_are(times, 1, sizeof(times)));
}

/* One that sleeps in a pull keeps nobody from pushing, or from looking. */
TEST_F(transfer, sleeper_holds_nothing)
{
	struct vine_msg m, got;
	struct vine_transfer t = { .size = sizeof(t), .pull = (uintptr_t)&m,
		.pull_count = 1, .pull_min = 1, .deadline = VINE_FOREVER };
	struct vt_thread thread;

	ASSERT_EQ(0, vt_thread_start(&thread, CLIENT, VINE_TRANSFER, &t));
	ASSERT_TRUE(vt_thread_asleep(&thread));
	EXPECT_EQ(1, vt_push_one(CLIENT, 1));
	EXPECT_EQ(1, vt_pull_one(SERVER, 1));
	EXPECT_EQ(-EAGAIN, vt_pull(CLIENT, &got, 1, 0, 0));
	EXPECT_EQ(POLLOUT, vt_poll_now(CLIENT, POLLIN | POLLOUT));
	EXPECT_EQ(0, vt_attach(CLIENT, REGION, NULL));
	ASSERT_TRUE(vt_thread_asleep(&thread));
	EXPECT_EQ(1, vt_push_one(SERVER, 2));
	EXPECT_EQ(0, vt_thread_join(&thread));
	EXPECT_TRUE(vt_is_msg(&m, 2));
}

/* Two that sleep for one message each get one each. */
TEST_F(transfer, two_sleepers)
{
	struct vine_msg m[2];
	struct vine_transfer t[2];
	struct vt_thread thread[2];
	int i;

	for (i = 0; i < 2; i++) {
		t[i] = (struct vine_transfer){ .size = sizeof(t[i]), .pull = (uintptr_t)&m[i],
			.pull_count = 1, .pull_min = 1, .deadline = VINE_FOREVER };
		ASSERT_EQ(0, vt_thread_start(&thread[i], CLIENT, VINE_TRANSFER, &t[i]));
		ASSERT_TRUE(vt_thread_asleep(&thread[i]));
	}
	EXPECT_EQ(1, vt_push_one(SERVER, 1));
	EXPECT_EQ(1, vt_push_one(SERVER, 2));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, vt_thread_join(&thread[i]));
		EXPECT_EQ(1, t[i].pull_count);
	}
	EXPECT_TRUE((vt_is_msg(&m[0], 1) && vt_is_msg(&m[1], 2)) ||
		    (vt_is_msg(&m[0], 2) && vt_is_msg(&m[1], 1)));
}

/* ---- copies of descriptors ---- */

/* A queue lives until its last descriptor is closed. */
TEST_F(transfer, duplicate)
{
	int fd = dup(CLIENT);

	ASSERT_LE(0, fd);
	EXPECT_EQ(1, vt_push_one(CLIENT, 1));
	vt_drop(&CLIENT);
	EXPECT_EQ(0, vt_poll_now(SERVER, 0));
	EXPECT_EQ(1, vt_push_one(fd, 2));
	EXPECT_EQ(1, vt_pull_one(SERVER, 1));
	EXPECT_EQ(1, vt_pull_one(SERVER, 2));
	EXPECT_EQ(1, vt_push_one(SERVER, 3));
	EXPECT_EQ(1, vt_pull_one(fd, 3));
	close(fd);
	EXPECT_TRUE(vt_poll(SERVER, 0) & POLLHUP);
}

/* A child has it too, and uses it, and keeps it when we have closed ours. */
TEST_F(transfer, in_a_child)
{
	int go[2], ret;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	pid = vt_fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		vt_drop(&SERVER);
		close(go[1]);
		if (read(go[0], &c, 1) != 0)
			_exit(1);
		if (vt_pull_one(CLIENT, 1) != 1 || vt_push_one(CLIENT, 2) != 1)
			_exit(2);
		_exit(vt_pull_one(CLIENT, 3) == 1 ? 0 : 3);
	}
	vt_drop(&CLIENT);
	EXPECT_EQ(1, vt_push_one(SERVER, 1));
	EXPECT_EQ(0, vt_poll_now(SERVER, 0));
	close(go[0]);
	close(go[1]);
	EXPECT_EQ(1, vt_pull_one(SERVER, 2));
	EXPECT_EQ(1, vt_push_one(SERVER, 3));
	ret = vt_reap(pid);
	EXPECT_EQ(0, ret);
	EXPECT_TRUE(vt_poll(SERVER, 0) & POLLHUP);
}

/* ---- poll ---- */

VT_FIXTURE(polls)

TEST_F(polls, in_and_out)
{
	struct vine_msg m[VT_DEPTH];
	int i;

	EXPECT_EQ(POLLOUT, vt_poll_now(SERVER, POLLIN | POLLOUT));
	EXPECT_EQ(POLLOUT, vt_poll_now(CLIENT, POLLIN | POLLOUT));
	EXPECT_EQ(1, vt_push_one(CLIENT, 0));
	EXPECT_EQ(POLLIN, vt_poll(SERVER, POLLIN));
	EXPECT_EQ(POLLIN | POLLOUT, vt_poll_now(SERVER, POLLIN | POLLOUT));
	/* it stays so until it is pulled */
	EXPECT_EQ(POLLIN, vt_poll_now(SERVER, POLLIN));
	for (i = 1; i < VT_DEPTH; i++) {
		ASSERT_EQ(1, vt_push_one(CLIENT, i));
	}
	EXPECT_EQ(0, vt_poll_now(CLIENT, POLLIN | POLLOUT));
	EXPECT_EQ(1, vt_pull_one(SERVER, 0));
	EXPECT_EQ(POLLOUT, vt_poll(CLIENT, POLLOUT));
	EXPECT_EQ(VT_DEPTH - 1, vt_pull(SERVER, m, VT_DEPTH, 0, 0));
	EXPECT_EQ(POLLOUT, vt_poll_now(SERVER, POLLIN | POLLOUT));
}

/* The other side gone: HUP, asked for or not, and IN, for there is EPIPE to read. */
TEST_F(polls, hang_up)
{
	EXPECT_EQ(0, vt_poll_now(CLIENT, POLLIN));
	vt_drop(&SERVER);
	EXPECT_EQ(POLLHUP, vt_poll(CLIENT, 0));
	EXPECT_EQ(POLLHUP | POLLIN, vt_poll_now(CLIENT, POLLIN));
	EXPECT_EQ(POLLHUP | POLLIN, vt_poll_now(CLIENT, POLLIN));
}

TEST_F(polls, hang_up_of_the_client)
{
	vt_drop(&CLIENT);
	EXPECT_EQ(POLLHUP, vt_poll(SERVER, 0));
	EXPECT_EQ(POLLHUP | POLLIN, vt_poll_now(SERVER, POLLIN));
}

TEST_F(polls, listener)
{
	int client, server;

	EXPECT_EQ(0, vt_poll_now(LISTENER, POLLIN | POLLOUT));
	client = vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, 2);
	ASSERT_LE(0, client);
	EXPECT_EQ(POLLIN, vt_poll(LISTENER, POLLIN | POLLOUT));
	EXPECT_EQ(POLLIN, vt_poll_now(LISTENER, POLLIN));
	server = vt_accept(LISTENER, 0, 0);
	ASSERT_LE(0, server);
	EXPECT_EQ(0, vt_poll_now(LISTENER, POLLIN));
	close(client);
	close(server);
}

struct poller {
	pthread_t thread;
	atomic_int tid;
	int fd, events, revents;
};

static void *poller(void *arg)
{
	struct poller *p = arg;

	p->tid = syscall(SYS_gettid);
	p->revents = vt_poll(p->fd, p->events);
	return NULL;
}

/* Is the poller asleep in poll(), whatever the machine calls it? */
static bool poller_asleep(struct poller *p)
{
	char path[64], line[128];
	unsigned long nr, a0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", p->tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
	close(fd);
	if (!p->tid || n <= 0)
		return false;
	line[n] = 0;
	if (sscanf(line, "%lu %lx", &nr, &a0) != 2)
		return false;
#ifdef SYS_poll
	if (nr == SYS_poll)
		return true;
#endif
	return nr == SYS_ppoll;
}

/* One that sleeps in poll() is woken by what it waits for. */
TEST_F(polls, woken)
{
	struct vine_msg m[VT_DEPTH];
	struct poller p;
	int what, i, client = -1;

	for (what = 0; what < 4; what++) {
		p = (struct poller){ .fd = SERVER, .events = POLLIN };
		if (what == 1) {
			for (i = 0; i < VT_DEPTH; i++) {
				ASSERT_EQ(1, vt_push_one(SERVER, i));
			}
			p.events = POLLOUT;
		} else if (what == 2) {
			p.fd = LISTENER;
		}
		ASSERT_EQ(0, pthread_create(&p.thread, NULL, poller, &p));
		ASSERT_TRUE(vt_until(poller_asleep(&p)));
		switch (what) {
		case 0:
			EXPECT_EQ(1, vt_push_one(CLIENT, 1));
			break;
		case 1:
			EXPECT_EQ(VT_DEPTH, vt_pull(CLIENT, m, VT_DEPTH, 0, 0));
			break;
		case 2:
			client = vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, 2);
			EXPECT_LE(0, client);
			break;
		case 3:
			vt_drop(&CLIENT);
			break;
		}
		pthread_join(p.thread, NULL);
		if (what == 3) {
			EXPECT_TRUE(p.revents & POLLHUP);
		} else {
			EXPECT_EQ(p.events, p.revents) TH_LOG("case %d", what);
		}
		if (what == 0) {
			EXPECT_EQ(1, vt_pull_one(SERVER, 1));
		}
	}
	close(client);
}

/* A poll() that finds the ring full hears of room, each time: no push has failed before. */
TEST_F(polls, woken_by_room)
{
	struct vine_msg m[VT_DEPTH];
	struct poller p;
	int round, i;

	for (round = 0; round < 5; round++) {
		for (i = 0; i < VT_DEPTH; i++) {
			ASSERT_EQ(1, vt_push_one(CLIENT, i));
		}
		p = (struct poller){ .fd = CLIENT, .events = POLLOUT };
		ASSERT_EQ(0, pthread_create(&p.thread, NULL, poller, &p));
		ASSERT_TRUE(vt_until(poller_asleep(&p)));
		ASSERT_EQ(VT_DEPTH, vt_pull(SERVER, m, VT_DEPTH, 0, 0));
		pthread_join(p.thread, NULL);
		EXPECT_EQ(POLLOUT, p.revents) TH_LOG("round %d", round);
	}
}

/* ---- edge-triggered epoll ---- */

static int watch(int fd, __u32 events)
{
	struct epoll_event e = { .events = events | EPOLLET };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (ep >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e)) {
		close(ep);
		return -errno;
	}
	return ep;
}

/* What it says, waiting until it says something; 0 when it says nothing. */
static int edge(int ep)
{
	struct epoll_event e = { 0 };

	return epoll_wait(ep, &e, 1, VT_PATIENCE * 1000) == 1 ? (int)e.events : 0;
}

/*
 * Whatever call has seen the ring empty, the next message makes an event. Nothing but
 * that call looks at the ring in between: another look would arm it too.
 */
FIXTURE(edge) { struct vt_world w; };
FIXTURE_VARIANT(edge) { int how; };
FIXTURE_SETUP(edge) { ASSERT_EQ(0, vt_world_open(&self->w)); }
FIXTURE_TEARDOWN(edge) { EXPECT_TRUE(vt_world_close(&self->w)); }

enum {
	JUST_ADDED, TO_THE_END, ONE_TOO_MANY, NOTHING_THERE, NONBLOCKING, TIMED_OUT,
	AT_DEADLINE, INTERRUPTED, POLLED,
};
FIXTURE_VARIANT_ADD(edge, just_added)	{ .how = JUST_ADDED };
FIXTURE_VARIANT_ADD(edge, to_the_end)	{ .how = TO_THE_END };
FIXTURE_VARIANT_ADD(edge, one_too_many)	{ .how = ONE_TOO_MANY };
FIXTURE_VARIANT_ADD(edge, nothing_there)	{ .how = NOTHING_THERE };
FIXTURE_VARIANT_ADD(edge, nonblocking)	{ .how = NONBLOCKING };
FIXTURE_VARIANT_ADD(edge, timed_out)	{ .how = TIMED_OUT };
FIXTURE_VARIANT_ADD(edge, at_deadline)	{ .how = AT_DEADLINE };
FIXTURE_VARIANT_ADD(edge, interrupted)	{ .how = INTERRUPTED };
FIXTURE_VARIANT_ADD(edge, polled)	{ .how = POLLED };

TEST_F(edge, next_message)
{
	struct vine_msg m[VT_DEPTH];
	struct vine_transfer x = { .size = sizeof(x), .pull = (uintptr_t)m,
		.pull_count = 1, .pull_min = 1, .deadline = VINE_FOREVER };
	struct vt_thread t;
	int ep = watch(SERVER, EPOLLIN), i, n = 0;

	ASSERT_LE(0, ep);
	vt_catch_usr1(0);
	for (i = 0; i < 20; i++) {
		switch (variant->how) {
		case JUST_ADDED:	/* by epoll_ctl */
			close(ep);
			ep = watch(SERVER, EPOLLIN);
			ASSERT_LE(0, ep);
			break;
		case TO_THE_END:	/* as many as there are, of more that may come */
			break;
		case ONE_TOO_MANY:	/* one by one, until there are none */
		case NOTHING_THERE:
			ASSERT_EQ(-EAGAIN, vt_pull(SERVER, m, 1, 0, 0));
			break;
		case NONBLOCKING:
			vt_nonblock(SERVER, true);
			ASSERT_EQ(-EAGAIN, vt_pull(SERVER, m, 1, 1, VINE_FOREVER));
			break;
		case TIMED_OUT:
			ASSERT_EQ(-ETIMEDOUT, vt_pull(SERVER, m, 1, 1, 1));
			break;
		case AT_DEADLINE:
			ASSERT_EQ(-ETIMEDOUT, vt_pull(SERVER, m, 1, 1, vt_in(2)));
			break;
		case INTERRUPTED:
			ASSERT_EQ(0, vt_thread_start(&t, SERVER, VINE_TRANSFER, &x));
			ASSERT_TRUE(vt_thread_asleep(&t));
			pthread_kill(t.thread, SIGUSR1);
			ASSERT_EQ(-EINTR, vt_thread_join(&t));
			break;
		case POLLED:
			ASSERT_EQ(0, vt_poll_now(SERVER, POLLIN));
			break;
		}
		for (n = 1 + i % 3; n; n--) {
			ASSERT_EQ(1, vt_push_one(CLIENT, n));
		}
		ASSERT_EQ(EPOLLIN, edge(ep)) TH_LOG("round %d", i);
		n = 1 + i % 3;
		if (variant->how != ONE_TOO_MANY) {
			ASSERT_EQ(n, vt_pull(SERVER, m, VT_DEPTH, 0, 0));
			continue;
		}
		while (n--) {
			ASSERT_EQ(1, vt_pull(SERVER, m, 1, 0, 0));
		}
	}
	close(ep);
}

/* Room: whoever has seen the ring full hears of it. */
TEST_F(polls, edge_of_room)
{
	struct vine_msg m[VT_DEPTH];
	int ep = watch(CLIENT, EPOLLOUT), i, n;

	ASSERT_LE(0, ep);
	EXPECT_EQ(EPOLLOUT, edge(ep));
	for (i = 0; i < 20; i++) {
		for (n = 0; (n = vt_push_one(CLIENT, i)) == 1; )
			;
		ASSERT_EQ(-EAGAIN, n);
		/* all of it, or a few: either is room */
		n = i % 2 ? VT_DEPTH : 3;
		ASSERT_EQ(n, vt_pull(SERVER, m, n, 0, 0));
		ASSERT_EQ(EPOLLOUT, edge(ep)) TH_LOG("round %d", i);
	}
	close(ep);
}

TEST_F(polls, edge_of_hang_up)
{
	int ep = watch(CLIENT, EPOLLIN | EPOLLRDHUP);

	ASSERT_LE(0, ep);
	vt_drop(&SERVER);
	EXPECT_EQ(EPOLLHUP, edge(ep) & EPOLLHUP);
	close(ep);
}

/* Accepted, or refused. */
TEST_F(polls, edge_of_connecting)
{
	int client, server, ep;

	client = vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, 2);
	ASSERT_LE(0, client);
	ep = watch(client, EPOLLIN | EPOLLOUT);
	ASSERT_LE(0, ep);
	server = vt_accept(LISTENER, 0, 0);
	ASSERT_LE(0, server);
	EXPECT_EQ(EPOLLOUT, edge(ep));
	close(ep);
	close(client);
	close(server);

	client = vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, 2);
	ASSERT_LE(0, client);
	ep = watch(client, EPOLLIN | EPOLLOUT);
	ASSERT_LE(0, ep);
	vt_drop(&LISTENER);
	EXPECT_EQ(EPOLLHUP, edge(ep) & (EPOLLHUP | EPOLLOUT));
	close(ep);
	close(client);
}

TEST_F(polls, edge_of_listener)
{
	int ep = watch(LISTENER, EPOLLIN), client[2], server, i;

	ASSERT_LE(0, ep);
	for (i = 0; i < 20; i++) {
		client[0] = vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, 2);
		client[1] = vt_connect(DEV, self->w.name, VINE_NONBLOCK, 0, 2);
		ASSERT_LE(0, client[0]);
		ASSERT_LE(0, client[1]);
		ASSERT_EQ(EPOLLIN, edge(ep)) TH_LOG("round %d", i);
		while ((server = vt_accept(LISTENER, 0, 0)) >= 0)
			close(server);
		ASSERT_EQ(-EAGAIN, server);
		close(client[0]);
		close(client[1]);
	}
	close(ep);
}

/* One epoll over many queues names those that have news, and no others. */
TEST_F(polls, many_queues)
{
	struct epoll_event e, got[64];
	int client[32], server[32], ep = epoll_create1(EPOLL_CLOEXEC), i, n, seen = 0;

	ASSERT_LE(0, ep);
	for (i = 0; i < 32; i++) {
		ASSERT_EQ(0, vt_pair(DEV, LISTENER, self->w.name, 2, &client[i], &server[i]));
		e.events = EPOLLIN;
		e.data.u32 = i;
		ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, server[i], &e));
	}
	EXPECT_EQ(0, epoll_wait(ep, got, 64, 0));
	for (i = 0; i < 32; i += 5) {
		ASSERT_EQ(1, vt_push_one(client[i], i));
	}
	while (seen < 7) {
		n = epoll_wait(ep, got, 64, VT_PATIENCE * 1000);
		ASSERT_LT(0, n);
		while (n--) {
			i = got[n].data.u32;
			EXPECT_EQ(EPOLLIN, got[n].events);
			EXPECT_EQ(0, i % 5);
			EXPECT_EQ(1, vt_pull_one(server[i], i));
			seen++;
		}
	}
	EXPECT_EQ(0, epoll_wait(ep, got, 64, 0));
	for (i = 0; i < 32; i++) {
		close(client[i]);
		close(server[i]);
	}
	close(ep);
}

/* ---- a peer that lies, and one that dies ---- */

/*
 * What only another machine can do to us, done in the segment itself: $VINE_SEGMENT.
 * Little-endian machines only, as all of vine.
 */
FIXTURE(peer) {
	struct vt_world w;
	char *segment;
	struct vine_info info;
	struct vine_wire_queue *queue;	/* the world's entry */
	struct vine_wire_ring *submit;	/* and its ring from the client to the server */
};

static void *segment_entry(char *segment, size_t table, size_t size, __u32 index)
{
	return segment + table + size * index;
}

#define SEGMENT_QUEUE(i)	\
	segment_entry(self->segment, VINE_OFF_QUEUES, sizeof(struct vine_wire_queue), i)
#define SEGMENT_REGION(i)	\
	segment_entry(self->segment, VINE_OFF_REGIONS, sizeof(struct vine_wire_region), i)
#define SEGMENT_PEER(i)		\
	segment_entry(self->segment, VINE_OFF_PEERS, sizeof(struct vine_wire_peer), i)
#define SEGMENT_SERVICE(i)	\
	segment_entry(self->segment, VINE_OFF_SERVICES, sizeof(struct vine_wire_service), i)

FIXTURE_SETUP(peer)
{
	struct vine_wire_region *rings;
	__u64 at;
	int i;

	ASSERT_EQ(0, vt_world_open(&self->w));
	ASSERT_EQ(0, vt_info(DEV, &self->info));
	self->segment = vt_segment(self->info.segment_size);
	if (!self->segment)
		SKIP(return, "VINE_SEGMENT names no file that is the device's memory");
	/* the queue that has our region attached */
	for (i = 0; i < VINE_MAX_QUEUES && !self->queue; i++) {
		self->queue = SEGMENT_QUEUE(i);
		if (self->queue->attach[0] != self->w.id ||
		    VINE_CTL_STATE(self->queue->ctl) != VINE_QUEUE_ACCEPTED)
			self->queue = NULL;
	}
	ASSERT_NE(NULL, self->queue);
	rings = SEGMENT_REGION(VINE_REGION_INDEX(self->queue->region));
	at = VINE_OFF_CHUNKMAP + 8ULL * self->info.chunks;
	at = (at + self->w.chunk - 1) / self->w.chunk * self->w.chunk;
	at += VINE_EXTENT_FIRST(rings->extent) * self->w.chunk;
	self->submit = (void *)(self->segment + at + VINE_RINGS_OFFSET(self->queue->rings));
}

FIXTURE_TEARDOWN(peer)
{
	if (self->segment)
		munmap(self->segment, self->info.segment_size);
	EXPECT_TRUE(vt_world_close(&self->w));
}

/* The queue is broken, for good; nothing else is. */
static void is_broken(struct __test_metadata *_metadata, int queue, struct vt_world *w)
{
	struct vine_msg m = vt_msg(1);
	int client, server;

	EXPECT_EQ(-EIO, vt_pull(queue, &m, 1, 1, VINE_FOREVER));
	EXPECT_EQ(-EIO, vt_push(queue, &m, 1));
	EXPECT_EQ(POLLERR, vt_poll_now(queue, 0) & POLLERR);
	EXPECT_EQ(0, vt_pair(w->fd[VT_DEV], w->fd[VT_LISTENER], w->name, 2, &client, &server));
	EXPECT_EQ(1, vt_push_one(client, 1));
	EXPECT_EQ(1, vt_pull_one(server, 1));
	close(client);
	close(server);
}

/* A message whose number cannot be. */
TEST_F(peer, impossible_message)
{
	struct vine_wire_cell *cell;
	struct vine_msg m;
	int ret;

	if (!self->segment)
		return;
	cell = (struct vine_wire_cell *)(self->submit + 1);
	EXPECT_EQ(1, vt_push_one(CLIENT, 1));
	vt_poke(&cell[1].head, VINE_CELL_HEAD(7, 8));
	/* what was good before it is had first */
	ret = vt_pull(SERVER, &m, 4, 0, 0);
	EXPECT_EQ(1, ret);
	EXPECT_TRUE(vt_is_msg(&m, 1));
	is_broken(_metadata, SERVER, &self->w);
	/* it does not get well when it looks so */
	vt_poke(&cell[1].head, 0);
	is_broken(_metadata, SERVER, &self->w);
}

/* One that is longer than messages are. */
TEST_F(peer, impossible_length)
{
	struct vine_wire_cell *cell;

	if (!self->segment)
		return;
	cell = (struct vine_wire_cell *)(self->submit + 1);
	vt_poke(&cell[0].head, VINE_CELL_HEAD(1, VINE_CELL_PAYLOAD + 1));
	is_broken(_metadata, SERVER, &self->w);
}

/* A receiver that has taken more than was sent. */
TEST_F(peer, impossible_index)
{
	int i;

	if (!self->segment)
		return;
	for (i = 0; i < VT_DEPTH; i++) {
		EXPECT_EQ(1, vt_push_one(CLIENT, i));
	}
	vt_poke(&self->submit->consumed, VT_DEPTH + 1);
	EXPECT_EQ(-EIO, vt_push_one(CLIENT, 1));
	is_broken(_metadata, CLIENT, &self->w);
}

/* Another device on the same memory is another machine. -ENODEV when there is none. */
static int open_remote(const struct vine_info *us)
{
	struct vine_info info;
	char path[32];
	int i, fd;

	for (i = 0; i < 64; i++) {
		snprintf(path, sizeof(path), "/dev/vine%d", i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (!vt_info(fd, &info) && info.generation == us->generation &&
		    info.peer != us->peer)
			return fd;
		close(fd);
	}
	return -ENODEV;
}

/* A client that lets us import what it does not own, or what is not bulk data. */
TEST_F(peer, memory_not_its_own)
{
	int remote, client, server, region, import, i;
	struct vine_wire_queue *q = NULL;
	struct vine_wire_region *r;
	__u64 id, extent, ours;
	__le64 *tag;

	if (!self->segment)
		return;
	remote = open_remote(&self->info);
	if (remote < 0)
		SKIP(return, "there is no second vine device on the same memory");
	ASSERT_EQ(0, vt_pair(remote, LISTENER, self->w.name, 2, &client, &server));
	region = vt_region(remote, 1);
	ASSERT_LE(0, region);
	ASSERT_EQ(0, vt_attach(client, region, &id));
	for (i = 0; i < VINE_MAX_QUEUES; i++) {
		q = SEGMENT_QUEUE(i);
		if (VINE_CTL_STATE(q->ctl) == VINE_QUEUE_ACCEPTED && q->attach[0] == id)
			break;
	}
	ASSERT_GT(VINE_MAX_QUEUES, i);
	r = SEGMENT_REGION(VINE_REGION_INDEX(id));
	extent = vt_peek(&r->extent);
	tag = (__le64 *)(self->segment + VINE_OFF_CHUNKMAP) + VINE_EXTENT_FIRST(extent);
	ours = ((struct vine_wire_region *)SEGMENT_REGION(VINE_REGION_INDEX(self->w.id)))->extent;

	/* memory that bears another's name */
	vt_poke(tag, self->w.id);
	EXPECT_EQ(-EBADE, vt_import(server, id));
	vt_poke(tag, id);
	/* our own memory; memory that is not there */
	vt_poke(&r->extent, ours);
	EXPECT_EQ(-EBADE, vt_import(server, id));
	vt_poke(&r->extent, VINE_EXTENT(self->info.chunks, 1));
	EXPECT_EQ(-EBADE, vt_import(server, id));
	vt_poke(&r->extent, VINE_EXTENT(self->info.chunks - 1, 2));
	EXPECT_EQ(-EBADE, vt_import(server, id));
	vt_poke(&r->extent, extent);
	/* the rings of this very queue */
	vt_poke(&q->attach[1], vt_peek(&q->region));
	EXPECT_EQ(-EBADE, vt_import(server, vt_peek(&q->region)));
	vt_poke(&q->attach[1], 0);
	/* and what is true is believed */
	import = vt_import(server, id);
	EXPECT_LE(0, import);
	close(import);
	close(region);
	close(client);
	close(server);
	close(remote);
}

/*
 * A machine that offers a service, and then is not heard of any more. Its words are put
 * where the last of 64 machines would have them.
 */
TEST_F(peer, dies_while_we_connect)
{
	const __u32 inc = 77, slot = VINE_MAX_PEERS - 1, index = VINE_MAX_SERVICES - 1;
	struct vine_wire_service *s;
	struct vine_wire_peer *p;
	int client;

	if (!self->segment)
		return;
	p = SEGMENT_PEER(slot);
	s = SEGMENT_SERVICE(index);
	ASSERT_EQ(VINE_PEER_FREE, VINE_PEER_STATE(vt_peek(&p->word)));
	ASSERT_EQ(VINE_SERVICE_FREE, VINE_CTL_STATE(vt_peek(&s->ctl)));
	vt_name(s->name, "vt-remote");
	vt_poke(&p->word, VINE_PEER(inc, 63, 0, VINE_PEER_LIVE));
	vt_poke(&s->ctl, VINE_CTL(9, inc, slot, VINE_SERVICE_LIVE));
	EXPECT_EQ(-ECONNREFUSED, vt_connect(DEV, "vt-remote", 0, vt_patience(), 2));
	EXPECT_EQ(VINE_PEER_SUSPECT, VINE_PEER_STATE(vt_peek(&p->word)));
	/* nobody connects to what may be dead */
	EXPECT_EQ(-ENOENT, vt_connect(DEV, "vt-remote", 0, vt_patience(), 2));
	/* it wakes up, and goes for good */
	vt_poke(&p->word, VINE_PEER(inc, 63, 0, VINE_PEER_LIVE));
	client = vt_connect(DEV, "vt-remote", VINE_NONBLOCK, 0, 2);
	EXPECT_LE(0, client);
	vt_poke(&p->word, VINE_PEER(inc, 63, 0, VINE_PEER_GONE));
	EXPECT_EQ(POLLHUP, vt_poll(client, POLLOUT) & (POLLHUP | POLLOUT));
	EXPECT_EQ(-ECONNREFUSED, vt_push_one(client, 1));
	close(client);
	EXPECT_TRUE(vt_until(VINE_PEER_STATE(vt_peek(&p->word)) == VINE_PEER_FREE));
	EXPECT_EQ(VINE_SERVICE_FREE, VINE_CTL_STATE(vt_peek(&s->ctl)));
}

TEST_HARNESS_MAIN
