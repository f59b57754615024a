// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * segment.c - the file behind an endpoint: opening, what it holds, growing, mapping
 */
#include "host/endpoint.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct host_segment *segments;

void host_segments_lock(void)
{
	pthread_mutex_lock(&lock);
}

void host_segments_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

int host_reopen(int fd)
{
	char path[40];
	int copy;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	copy = open(path, O_RDWR | O_CLOEXEC);
	return copy < 0 ? -errno : copy;
}

/* A signal would end it, and it would have to begin anew. */
static int allocate(int fd, int mode, uint64_t first, uint64_t bytes)
{
	sigset_t every, old;
	int err;

	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &old);
	err = fallocate(fd, mode, first, bytes) ? -errno : 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err;
}

/* Not by ftruncate(): others may have made it longer in between. It takes a page. */
static int grow(int fd, uint64_t end)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	return (uint64_t)st.st_size < end ? allocate(fd, 0, end - 1, 1) : 0;
}

/* ---- what is there ---- */

/* Large pages: a region is not mapped alone, and 4K of them not replaced on SIGBUS. */
static int check_file_system(int fd, const struct host_name *name)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) || fs.f_type != HUGETLBFS_MAGIC)
		return 0;
	return host_fail(-EOPNOTSUPP, "%s is on hugetlbfs, which processes on the host cannot use; use tmpfs, with huge=always for large pages",
			 name->path);
}

/* Its size: to the end. */
static int see_size(int fd, struct host_name *name)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (!name->size && (uint64_t)st.st_size > name->off)
		name->size = (st.st_size - name->off) & ~4095ULL;
	return 0;
}

int host_refused(const struct host_name *name, uint64_t format, int err)
{
	switch (err) {
	case -EINVAL:
		return host_fail(-EUCLEAN, "%s holds somebody else's data; to use it, %s", name->path,
				 name->kind == HOST_SERVER ?
				 "stop vine-server and its VMs, and start it anew, or vinectl wipe its --file" :
				 "clear it (trunc=1)");
	case -EPROTONOSUPPORT:
		return host_fail(err, "%s has wire version %u, or features, that this library does not know (it knows version %u)",
				 name->path, VINE_FORMAT_VERSION(format), VINE_WIRE_VERSION);
	case -EFBIG:
		return host_fail(err, "%s was made larger than the %llu bytes that are seen of it, or is damaged",
				 name->path, (unsigned long long)name->size);
	case -ENOSPC:
		return host_fail(err, "%s: there are %llu bytes: too few; a segment needs %u at least",
				 name->path, (unsigned long long)name->size, VINE_MIN_SEGMENT);
	default:
		return err;
	}
}

/* As much as there is. */
static void read_file(int fd, uint8_t *bytes, uint64_t size, uint64_t off)
{
	uint64_t at;
	ssize_t n;

	for (at = 0; at < size; at += n) {
		n = pread(fd, bytes + at, size - at, off + at);
		if (n <= 0)
			return;
	}
}

/* What the core would refuse is not made longer, and no memory is given to it. */
static int check_contents(int fd, const struct host_name *name)
{
	uint8_t *tables = calloc(1, VINE_OFF_CHUNKMAP);
	uint64_t format;
	int err;

	if (!tables)
		return -ENOMEM;
	/* before the header, which who begins meanwhile writes first */
	if (!host_format_at(fd, name->off))
		read_file(fd, tables + VINE_OFF_PEERS, VINE_OFF_CHUNKMAP - VINE_OFF_PEERS,
			  name->off + VINE_OFF_PEERS);
	read_file(fd, tables, sizeof(struct vine_wire_header), name->off);
	format = vine_ld64((__le64 *)tables);
	err = vine_segment_check(tables, name->size);
	free(tables);
	return err ? host_refused(name, format, err) : 0;
}

int host_segment_begin(int fd, int lock_fd, struct host_name *name)
{
	int err = check_file_system(fd, name);

	if (!err && !name->trunc)
		err = host_begin(lock_fd, name);
	if (!err)
		err = see_size(fd, name);
	if (!err && name->size < VINE_MIN_SEGMENT)
		err = host_refused(name, 0, -ENOSPC);
	if (!err)
		err = name->trunc ? host_truncate(fd, lock_fd, name) :
			host_check_overlap(lock_fd, name, true);
	if (!err && !name->trunc)
		err = check_contents(fd, name);
	if (err)
		return err;
	err = grow(fd, name->off + name->size);
	if (err)
		return host_fail(err, "cannot make %s longer: %s", name->path, strerror(-err));
	return 0;
}

/* ---- the file ---- */

static int open_file(const struct host_name *name)
{
	int flags = O_RDWR | O_CLOEXEC | (name->size ? O_CREAT : 0), fd;
	char shm[sizeof(name->path) + 1];

	if (name->size && name->size < VINE_MIN_SEGMENT)
		return host_refused(name, 0, -ENOSPC);	/* nothing is made */
	if (name->kind == HOST_FILE) {
		/* not a FIFO that nobody reads, nor a device that does things */
		fd = open(name->path, flags | O_NONBLOCK, 0600);
	} else {
		snprintf(shm, sizeof(shm), "/%s", name->path);
		fd = shm_open(shm, flags, 0600);
	}
	if (fd >= 0)
		return fd;
	if (errno == ENOENT && !name->size)
		return host_fail(-ENOENT, "there is no %s; with a size it is made", name->path);
	return host_fail(-errno, "cannot open %s: %m", name->path);
}

int host_segment_file(const struct host_name *name)
{
	int fd = open_file(name);
	struct stat st;

	if (fd < 0)
		return fd;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	return host_fail(-EINVAL, "%s is no file", name->path);
}

/* ---- mappings ---- */

static struct host_segment *segment_find(const struct stat *st, uint64_t off, uint64_t size)
{
	struct host_segment *s;

	for (s = segments; s; s = s->next)
		if (s->dev == st->st_dev && s->ino == st->st_ino && s->off == off &&
		    s->size == size && !atomic_load(&s->dead))
			break;
	return s;
}

static int segment_map(struct host_segment *s)
{
	void *base = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			  s->fd, s->off);
	int err;

	if (base == MAP_FAILED)
		return -errno;
	/* a child that wrote on would outlive what says that we live */
	madvise(base, s->size, MADV_DONTFORK);
	madvise(base, s->size, MADV_DONTDUMP);
	s->base = base;
	err = host_guard(base, s->size, s);
	if (err)
		munmap(base, s->size);
	return err;
}

int host_segment_get(int fd, uint64_t off, uint64_t size, struct host_segment **segment)
{
	struct host_segment *s;
	struct stat st;
	int err = 0;

	if (fstat(fd, &st))
		return -errno;
	if (off + size > (uint64_t)st.st_size)
		return -ENODEV;		/* it was truncated meanwhile */
	pthread_mutex_lock(&lock);
	s = segment_find(&st, off, size);
	if (s) {
		s->references++;
		close(fd);
		goto out;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		err = -ENOMEM;
		goto out;
	}
	*s = (struct host_segment){
		.references = 1, .dev = st.st_dev, .ino = st.st_ino, .off = off, .size = size,
		.fd = fd,
	};
	err = segment_map(s);
	if (err) {
		free(s);
		goto out;
	}
	s->next = segments;
	segments = s;
out:
	pthread_mutex_unlock(&lock);
	if (!err)
		*segment = s;
	return err;
}

int host_segment_room(struct host_segment *s, uint64_t first, uint64_t bytes)
{
	int err = allocate(s->fd, FALLOC_FL_KEEP_SIZE, s->off + first, bytes);

	/* what cannot be asked for is found out by touching it */
	return err == -ENOSPC || err == -EDQUOT ? -ENOSPC : 0;
}

void host_segment_put(struct host_segment *s)
{
	struct host_segment **at;

	pthread_mutex_lock(&lock);
	if (--s->references) {
		pthread_mutex_unlock(&lock);
		return;
	}
	for (at = &segments; *at != s; at = &(*at)->next)
		;
	*at = s->next;
	host_unguard(s->base);
	pthread_mutex_unlock(&lock);
	munmap(s->base, s->size);
	close(s->fd);
	free(s);
}

/* The child has no mapping of any. */
void host_segments_forked(void)
{
	host_guards_forked();
	for (; segments; segments = segments->next)
		close(segments->fd);
	pthread_mutex_unlock(&lock);
}
