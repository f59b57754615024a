// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * segment.c - the file behind an endpoint: opening, locking, clearing, mapping, SIGBUS
 *
 * Locks are those of open file descriptions: they go with the process, and two endpoints
 * of one process have one each.
 */
#include "host/endpoint.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BEGIN_LOCK	VINE_MAX_PEERS	/* the byte after those of the slots */
#define BEGIN_TRIES	500		/* of 10 ms: how long somebody else may take to begin */
#define MOST_RANGES	65536

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

/* ---- locks ---- */

/* @type: F_RDLCK, F_WRLCK or F_UNLCK. 0, or -EAGAIN: somebody else has it. */
static int lock_byte(int fd, uint64_t byte, short type)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	if (!fcntl(fd, F_OFD_SETLK, &l))
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
}

/* The slot whose process lives, or -1. */
static int living_process(int fd, uint64_t off)
{
	struct flock l = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = off, .l_len = VINE_MAX_PEERS,
	};

	if (fcntl(fd, F_OFD_GETLK, &l) || l.l_type == F_UNLCK)
		return -1;
	return (int)(l.l_start - off);
}

/* The slot of a peer without a lock that beats, or -1. Takes a second. */
static int beating_peer(int fd, uint64_t off)
{
	uint64_t word[VINE_MAX_PEERS], beat[VINE_MAX_PEERS], now, format;
	unsigned int i, tries;
	off_t at;
	bool any = false;

	if (pread(fd, &format, 8, off) != 8 || VINE_FORMAT_MAGIC(format) != VINE_WIRE_MAGIC)
		return -1;
	for (i = 0; i < VINE_MAX_PEERS; i++) {
		at = off + VINE_OFF_PEERS + i * sizeof(struct vine_wire_peer);
		if (pread(fd, &word[i], 8, at) != 8 || pread(fd, &beat[i], 8, at + 64) != 8)
			return -1;
		any |= VINE_PEER_STATE(word[i]) == VINE_PEER_LIVE &&
			!(word[i] & VINE_PEER_HOST);
	}
	for (tries = 0; any && tries < 4 * HOST_TICK_MS / 10; tries++) {
		nap();
		for (i = 0; i < VINE_MAX_PEERS; i++) {
			at = off + VINE_OFF_PEERS + i * sizeof(struct vine_wire_peer);
			if (VINE_PEER_STATE(word[i]) == VINE_PEER_LIVE &&
			    !(word[i] & VINE_PEER_HOST) && pread(fd, &now, 8, at + 64) == 8 &&
			    now != beat[i])
				return (int)i;
		}
	}
	return -1;
}

/* All zero, and as long as is wanted. Never shorter: others may have parts behind this one. */
static int clear(int fd, uint64_t off, uint64_t size, uint64_t length)
{
	static const char zeroes[65536];
	uint64_t end = off + size, at;

	if (end < length ? 0 : ftruncate(fd, end))
		return -errno;
	if (!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, size))
		return 0;
	for (at = off; at < end; at += sizeof(zeroes))
		if (pwrite(fd, zeroes, min_t(uint64_t, sizeof(zeroes), end - at), at) < 0)
			return -errno;
	return 0;
}

/* With the lock that nobody else begins. */
static int truncate_segment(int fd, int lock_fd, const struct host_name *name)
{
	uint64_t size = name->size;
	struct stat st;
	int slot;

	slot = living_process(lock_fd, name->off);
	if (slot >= 0)
		return host_fail(-EBUSY, "%s is in use: the process that is peer %d lives; not truncated",
				 name->path, slot);
	if (fstat(fd, &st))
		return -errno;
	if (!size && (uint64_t)st.st_size > name->off)
		size = st.st_size - name->off;
	slot = beating_peer(fd, name->off);
	if (slot >= 0)
		return host_fail(-EBUSY, "%s is in use: the machine that is peer %d lives; not truncated",
				 name->path, slot);
	return clear(fd, name->off, size, st.st_size);
}

/* Shares the byte of those who begin, or gets it alone. */
static int begin(int lock_fd, const struct host_name *name, short type)
{
	unsigned int tries;
	int err;

	for (tries = 0; tries < BEGIN_TRIES; tries++) {
		err = lock_byte(lock_fd, name->off + BEGIN_LOCK, type);
		if (err != -EAGAIN)
			return err;
		/* of two who truncate one is enough, or neither knows what it has */
		if (type == F_WRLCK)
			break;
		nap();
	}
	return host_fail(-EBUSY, "%s is being opened or truncated by another process", name->path);
}

int host_lock_file(int fd, const struct host_name *name)
{
	int lock_fd = host_reopen(fd), err;

	if (lock_fd < 0)
		return host_fail(lock_fd, "cannot open %s again through /proc: %s", name->path,
				 strerror(-lock_fd));
	err = begin(lock_fd, name, name->trunc ? F_WRLCK : F_RDLCK);
	if (!err && name->trunc) {
		err = truncate_segment(fd, lock_fd, name);
		if (!err)
			err = begin(lock_fd, name, F_RDLCK);
	}
	if (!err)
		return lock_fd;
	close(lock_fd);
	return err;
}

void host_lock_ready(int lock_fd, uint64_t off)
{
	lock_byte(lock_fd, off + BEGIN_LOCK, F_UNLCK);
}

/* ---- the file ---- */

static int open_file(const struct host_name *name)
{
	int flags = O_RDWR | O_CLOEXEC | (name->size ? O_CREAT : 0), fd;
	char shm[sizeof(name->path) + 1];

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
	int fd = open_file(name), err;
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st))
		goto fail;
	if (!S_ISREG(st.st_mode)) {
		close(fd);
		return host_fail(-EINVAL, "%s is no file", name->path);
	}
	/* what is added is zero, and takes memory when it is touched */
	if (name->size && (uint64_t)st.st_size < name->off + name->size &&
	    ftruncate(fd, name->off + name->size))
		goto fail;
	return fd;
fail:
	err = host_fail(-errno, "%s: %m", name->path);
	close(fd);
	return err;
}

/* Zeroed memory of the process's own. Not by mmap(), which TSan takes for a write to it. */
bool host_replace(void *address, uint64_t bytes)
{
	return syscall(SYS_mmap, address, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != -1;
}

/* ---- SIGBUS ---- */

/*
 * Ranges that are watched, for a signal handler: no lock, no memory that goes. A place is
 * free when its first byte is 0.
 */
static struct range {
	atomic_uintptr_t first, end;
	_Atomic(struct host_segment *) segment;
} *ranges;
static atomic_uint range_count;	/* places that were ever used */
static pthread_mutex_t range_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction before;

/*
 * The file has become shorter under a mapping of ours: memory of its own takes the page's
 * place, so that whoever touches it goes on, and the endpoint is dead.
 */
static void bus_error(int number, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr, page = sysconf(_SC_PAGESIZE);
	unsigned int i, n = atomic_load(&range_count);
	struct host_segment *s;
	int saved = errno;

	for (i = 0; i < n && info->si_code > 0; i++) {
		if (at < atomic_load(&ranges[i].first) || at >= atomic_load(&ranges[i].end))
			continue;
		s = atomic_load(&ranges[i].segment);
		if (!host_replace((void *)(at & ~(page - 1)), page))
			break;
		atomic_store(&s->dead, true);
		errno = saved;
		return;
	}
	errno = saved;
	if (before.sa_flags & SA_SIGINFO) {
		before.sa_sigaction(number, info, context);
	} else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
		signal(number, SIG_DFL);	/* it comes again */
		if (info->si_code <= 0)		/* somebody has sent it */
			raise(number);
	} else {
		before.sa_handler(number);
	}
}

static void watch_bus_errors(void)
{
	struct sigaction action = { .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };

	action.sa_sigaction = bus_error;
	sigaction(SIGBUS, &action, &before);
}

int host_guard(void *address, uint64_t bytes, struct host_segment *s)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	unsigned int i, n;
	void *room;

	pthread_mutex_lock(&range_lock);
	if (!ranges) {
		room = mmap(NULL, MOST_RANGES * sizeof(*ranges), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (room == MAP_FAILED) {
			pthread_mutex_unlock(&range_lock);
			return -ENOMEM;
		}
		ranges = room;
	}
	n = atomic_load(&range_count);
	for (i = 0; i < n && atomic_load(&ranges[i].end); i++)
		;
	if (i < MOST_RANGES) {
		atomic_store(&ranges[i].segment, s);
		atomic_store(&ranges[i].end, (uintptr_t)address + bytes);
		atomic_store(&ranges[i].first, (uintptr_t)address);
		if (i == n)
			atomic_store(&range_count, n + 1);
	}
	pthread_mutex_unlock(&range_lock);
	pthread_once(&once, watch_bus_errors);
	return i < MOST_RANGES ? 0 : -ENOMEM;
}

void host_unguard(void *address)
{
	unsigned int i, n;

	pthread_mutex_lock(&range_lock);
	n = atomic_load(&range_count);
	for (i = 0; i < n; i++) {
		if (atomic_load(&ranges[i].first) != (uintptr_t)address)
			continue;
		atomic_store(&ranges[i].first, UINTPTR_MAX);
		atomic_store(&ranges[i].end, 0);
		break;
	}
	pthread_mutex_unlock(&range_lock);
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
	if (!size && (uint64_t)st.st_size > off)
		size = (st.st_size - off) & ~4095ULL;
	if (size < VINE_MIN_SEGMENT || off + size > (uint64_t)st.st_size)
		return host_fail(-ENOSPC, "there are %llu bytes: too few; a segment needs %u at least",
				 (unsigned long long)size, VINE_MIN_SEGMENT);
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
	unsigned int i, n = atomic_load(&range_count);

	for (i = 0; i < n; i++) {
		atomic_store(&ranges[i].first, UINTPTR_MAX);
		atomic_store(&ranges[i].end, 0);
	}
	for (; segments; segments = segments->next)
		close(segments->fd);
	pthread_mutex_unlock(&lock);
	pthread_mutex_init(&range_lock, NULL);
}
