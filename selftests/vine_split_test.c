// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * vine_split_test.c - the memory of a device, split into parts
 *
 * Each test gives the module's parameter "split" a value and binds the device anew; in
 * the end it is as it was.
 */
#include "vine_test.h"
#include "vine_sysfs.h"

#include <stdarg.h>

#define PARAMETER	"/sys/module/vine/parameters/split"
#define OTHER		"ffff:00:00.0"	/* the name of no device here */

/* ---- the parameter, and the nodes ---- */

/* A line of a file, or "". */
static const char *read_line(const char *path, char line[1024])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, line, 1023);

	if (fd >= 0)
		close(fd);
	line[n < 0 ? 0 : n] = 0;
	line[strcspn(line, "\n")] = 0;
	return line;
}

/* 0 or -errno */
static int set_split(const char *value)
{
	int fd = open(PARAMETER, O_WRONLY | O_CLOEXEC), err = 0;
	char line[1024];
	int n = snprintf(line, sizeof(line), "%s\n", value);

	if (fd < 0)
		return -errno;
	if (write(fd, line, n) < 0)
		err = -errno;
	close(fd);
	return err;
}

/* Splits the device so. 0 or -errno, of the parameter or of binding. */
static int __attribute__((format(printf, 1, 2))) split_as(const char *format, ...)
{
	char value[1024];
	va_list ap;
	int err;

	va_start(ap, format);
	vsnprintf(value, sizeof(value), format, ap);
	va_end(ap);
	tell_driver("unbind");	/* it may not be bound */
	err = set_split(value);
	return err ?: tell_driver("bind");
}

static __u64 attribute(const char *node, const char *name)
{
	char path[2 * PATH_MAX], line[1024];

	snprintf(path, sizeof(path), "%s/vine/%s/%s", device_dir, node, name);
	return strtoull(read_line(path, line), NULL, 10);
}

/*
 * How many nodes the device has. The one of the part at @offset becomes vt_path(), and
 * its size is in *@size; 0 when there is none.
 */
static int find_part(__u64 offset, __u64 *size)
{
	char path[PATH_MAX + 16];
	struct dirent *e;
	int nodes = 0;
	DIR *d;

	*size = 0;
	snprintf(path, sizeof(path), "%s/vine", device_dir);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		nodes++;
		if (attribute(e->d_name, "offset") != offset)
			continue;
		*size = attribute(e->d_name, "size");
		snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		setenv("VINE_DEVICE", path, 1);
	}
	if (d)
		closedir(d);
	return nodes;
}

/* A world in the part at @offset. 0 or -errno. */
static int world_at(struct vt_world *w, __u64 offset)
{
	__u64 size;

	find_part(offset, &size);
	return size ? vt_world_open(w) : -ENODEV;
}

FIXTURE(split) {
	char was[1024];		/* the parameter */
	__u64 memory, half;	/* bytes */
};
FIXTURE_SETUP(split)
{
	read_line(PARAMETER, self->was);
	if (no_unbind())
		SKIP(return, "%s", no_unbind());
	ASSERT_EQ(0, split_as("%s", ""));
	ASSERT_EQ(1, find_part(0, &self->memory));
	self->half = self->memory / 2;
	ASSERT_LE(VINE_MIN_SEGMENT, self->half);
}
FIXTURE_TEARDOWN(split)
{
	if (self->half)
		EXPECT_EQ(0, split_as("%s", self->was));
}

#define HALVES	"%llu,%llu", self->half, self->half

/* ---- tests ---- */

/* Each is a segment, and ends where the part does. */
TEST_F(split, halves)
{
	struct vine_info a, b;
	__u64 size;
	int dev;

	ASSERT_EQ(0, split_as(HALVES));
	EXPECT_EQ(2, find_part(0, &size));
	EXPECT_EQ(self->half, size);
	dev = vt_open();
	EXPECT_EQ(0, vt_info(dev, &a));
	close(dev);
	EXPECT_EQ(2, find_part(self->half, &size));
	EXPECT_EQ(self->half, size);
	dev = vt_open();
	EXPECT_EQ(0, vt_info(dev, &b));
	close(dev);
	EXPECT_GE(self->half, a.segment_size);
	EXPECT_GE(self->half, b.segment_size);
	EXPECT_EQ(a.chunks, b.chunks);
	EXPECT_NE(a.generation, b.generation);
	EXPECT_EQ(1, a.peers);
	EXPECT_EQ(1, b.peers);
}

/* The same names in both: nobody meets anybody of the other part. */
TEST_F(split, strangers)
{
	struct vt_world a, b;
	struct vine_msg m;

	ASSERT_EQ(0, split_as(HALVES));
	ASSERT_EQ(0, world_at(&a, 0));
	ASSERT_EQ(0, world_at(&b, self->half));
	EXPECT_EQ(1, vt_query(a.mon, VINE_QUERY_PEERS, NULL, 0));
	EXPECT_EQ(1, vt_query(b.mon, VINE_QUERY_PEERS, NULL, 0));
	EXPECT_EQ(1, vt_query(a.mon, VINE_QUERY_SERVICES, NULL, 0));
	EXPECT_EQ(1, vt_query(b.mon, VINE_QUERY_SERVICES, NULL, 0));
	EXPECT_EQ(1, vt_push_one(a.fd[VT_CLIENT], 1));
	EXPECT_EQ(-EAGAIN, vt_pull(b.fd[VT_SERVER], &m, 1, 1, 0));
	EXPECT_EQ(1, vt_push_one(b.fd[VT_CLIENT], 2));
	EXPECT_EQ(1, vt_pull_one(a.fd[VT_SERVER], 1));
	EXPECT_EQ(1, vt_pull_one(b.fd[VT_SERVER], 2));
	EXPECT_EQ(-EINVAL, vt_attach(a.fd[VT_CLIENT], b.fd[VT_REGION], NULL));
	EXPECT_EQ(-EINVAL, vt_attach(b.fd[VT_CLIENT], a.fd[VT_REGION], NULL));
	/* what is offered in one alone */
	vt_drop(&b.fd[VT_LISTENER]);
	EXPECT_EQ(-ENOENT, vt_connect(b.fd[VT_DEV], b.name, 0, vt_patience(), 2));
	EXPECT_TRUE(vt_world_close(&b));
	EXPECT_EQ(1, vt_push_one(a.fd[VT_SERVER], 3));
	EXPECT_EQ(1, vt_pull_one(a.fd[VT_CLIENT], 3));
	EXPECT_TRUE(vt_world_close(&a));
}

/* All memory that each part gives out is other memory. */
TEST_F(split, memory)
{
	__u64 at[2] = { 0, self->half }, size, k;
	struct vine_info info[2], now;
	int dev[2], region[2], i;
	__u64 *p[2], bytes[2];

	ASSERT_EQ(0, split_as(HALVES));
	for (i = 0; i < 2; i++) {
		find_part(at[i], &size);
		dev[i] = vt_open();
		ASSERT_EQ(0, vt_info(dev[i], &info[i]));
		bytes[i] = info[i].chunks_free * info[i].chunk_size;
		region[i] = vt_region(dev[i], bytes[i]);
		ASSERT_LE(0, region[i]);
		p[i] = vt_map(region[i], bytes[i]);
		ASSERT_NE(NULL, p[i]);
	}
	for (i = 0; i < 2; i++)
		for (k = 0; k < bytes[i] / 8; k++)
			p[i][k] = i ? ~k : k;
	for (i = 0; i < 2; i++) {
		for (k = 0; k < bytes[i] / 8 && p[i][k] == (i ? ~k : k); k++)
			;
		EXPECT_EQ(bytes[i] / 8, k) TH_LOG("part %d", i);
		EXPECT_EQ(MAP_FAILED, mmap(NULL, bytes[i] + 1, PROT_READ, MAP_SHARED,
					   region[i], 0));
		EXPECT_EQ(0, vt_info(dev[i], &now));
		EXPECT_EQ(info[i].generation, now.generation);
		EXPECT_EQ(0, now.chunks_free);
	}
}

/* The rest of the memory belongs to somebody else, or to nobody. */
TEST_F(split, one_part)
{
	struct vt_world w;
	__u64 size;

	ASSERT_EQ(0, split_as("%llu@%llu", self->half, self->half));
	EXPECT_EQ(1, find_part(self->half, &size));
	EXPECT_EQ(self->half, size);
	ASSERT_EQ(0, vt_world_open(&w));
	EXPECT_EQ(1, vt_push_one(w.fd[VT_CLIENT], 1));
	EXPECT_EQ(1, vt_pull_one(w.fd[VT_SERVER], 1));
	EXPECT_TRUE(vt_world_close(&w));
}

/* Parts behind a name are of that device; those before any name, of the others. */
TEST_F(split, by_name)
{
	const char *us = strrchr(device_dir, '/') + 1;
	__u64 size;

	ASSERT_EQ(0, split_as("%s=%llu,%llu", us, self->half, self->half));
	EXPECT_EQ(2, find_part(self->half, &size));
	EXPECT_EQ(self->half, size);
	ASSERT_EQ(0, split_as("%llu,%s=%llu,%s=8M", self->half, OTHER, self->half, us));
	EXPECT_EQ(1, find_part(0, &size));
	EXPECT_EQ(8 << 20, size);
	ASSERT_EQ(0, split_as("%llu,%s=8M", self->half, OTHER));
	EXPECT_EQ(1, find_part(0, &size));
	EXPECT_EQ(self->half, size);
	ASSERT_EQ(0, split_as("%s=8M", OTHER));
	EXPECT_EQ(1, find_part(0, &size));
	EXPECT_EQ(self->memory, size);
}

/* A value that makes no sense changes nothing. */
TEST_F(split, nonsense)
{
	static const char *const nonsense[] = {
		",", "8M,", ",8M", "8M,,8M", "much", "8Mx", "8M 8M", "8M;8M", "-8M", "8M@", "8M@x",
		"@8M", "=8M", "0", "1M", "8388607", "8388609", "8392704", "8M@1", "8M@4096",
		"8M@0xfffffffffffff000", "00:04.0=8M", "0:0:4.0=8M", "0000:00:04=8M", "vine0=8M",
		"vine_loopback", "vine_loopback=", "vine_loopback=8M=8M", "0000:00:04.0=,8M",
	};
	char line[1024];
	__u64 size;
	size_t i;

	ASSERT_EQ(0, split_as(HALVES));
	snprintf(self->was, sizeof(self->was), HALVES);
	for (i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
		EXPECT_EQ(-EINVAL, set_split(nonsense[i])) TH_LOG("split=%s", nonsense[i]);
		EXPECT_STREQ(self->was, read_line(PARAMETER, line));
	}
	EXPECT_EQ(2, find_part(0, &size));
	self->was[0] = 0;
}

/* Parts overlap nobody, not even in part. */
TEST_F(split, overlap)
{
	EXPECT_EQ(-EINVAL, set_split("16M,16M@12M"));
	EXPECT_EQ(-EINVAL, set_split("16M@8M,8M@0"));
}

/* Parts that do not all fit into the memory: no node at all. */
TEST_F(split, beyond_the_end)
{
	__u64 size;

	EXPECT_GT(0, split_as("%llu,%llu", self->half, self->half + (64 << 10)));
	EXPECT_EQ(0, find_part(0, &size));
	EXPECT_GT(0, split_as("8M@%llu", self->memory));
	EXPECT_EQ(0, find_part(0, &size));
	EXPECT_EQ(0, split_as("8M@%llu", self->memory - (8 << 20)));
	EXPECT_EQ(1, find_part(self->memory - (8 << 20), &size));
}

/* Descriptors and mappings of one part alone outlive the device, which comes back whole. */
TEST_F(split, unbound)
{
	struct vt_world held, w;
	struct vine_info info;
	struct vine_msg m;
	__u64 size, at;
	char *p;

	ASSERT_EQ(0, split_as(HALVES));
	ASSERT_EQ(0, world_at(&held, self->half));
	p = vt_map(held.fd[VT_REGION], held.chunk);
	ASSERT_NE(NULL, p);
	p[0] = 1;
	ASSERT_EQ(0, tell_driver("unbind"));
	EXPECT_EQ(0, find_part(0, &size));
	EXPECT_EQ(256 + SIGBUS, touch(p, true));
	EXPECT_EQ(-ENODEV, vt_info(held.fd[VT_DEV], &info));
	EXPECT_EQ(-ENODEV, vt_pull(held.fd[VT_SERVER], &m, 1, 1, VINE_FOREVER));
	ASSERT_EQ(0, tell_driver("bind"));
	for (at = 0; at <= self->half; at += self->half) {
		EXPECT_EQ(2, find_part(at, &size));
		ASSERT_EQ(0, world_at(&w, at));
		EXPECT_EQ(1, vt_push_one(w.fd[VT_CLIENT], 1));
		EXPECT_EQ(1, vt_pull_one(w.fd[VT_SERVER], 1));
		EXPECT_EQ(-ENODEV, vt_info(held.fd[VT_DEV], &info));
		EXPECT_TRUE(vt_world_close(&w));
	}
	munmap(p, held.chunk);
}

TEST_HARNESS_MAIN
