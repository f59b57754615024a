// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * segment.c - the file behind an endpoint: opening, locking, clearing, mapping, SIGBUS
 *
 * Locks are those of open file descriptions: they go with the process, and two endpoints
 * of one process have one each.
 */
#include "host/endpoint.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define BEGIN_LOCK	VINE_MAX_PEERS	/* the byte after those of the slots */
#define BEGIN_TRIES	500		/* of 10 ms: how long somebody else may take to begin */
#define PLACE		(1ULL << VINE_MIN_CHUNK_SHIFT)	/* segments begin at multiples of it */
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

/* @type: F_RDLCK, F_WRLCK or F_UNLCK. 0, or -EAGAIN: somebody else has one of them. */
static int lock_bytes(int fd, uint64_t first, uint64_t count, short type)
{
	struct flock l = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = first, .l_len = count,
	};

	if (!fcntl(fd, F_OFD_SETLK, &l))
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

/* A lock of somebody else's in [first, end); not necessarily the first of them. */
static bool find_lock(int fd, uint64_t first, uint64_t end, struct flock *l)
{
	*l = (struct flock){
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = end - first,
	};
	if (first >= end || fcntl(fd, F_OFD_GETLK, l) || l->l_type == F_UNLCK)
		return false;
	if (!l->l_len)		/* to the end, wherever that is */
		l->l_len = INT64_MAX - l->l_start;
	return true;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
}

int host_no_lock(const struct host_name *name, int err)
{
	return host_fail(err, "cannot lock bytes of %s, by which others see that this process lives: %s; use a local file system",
			 name->path, strerror(-err));
}

static int in_use(const struct host_name *name, uint64_t at)
{
	return host_fail(-EBUSY, "%s is in use: a segment begins at byte %llu there, and this one, at %llu, would overlap it",
			 name->path, (unsigned long long)at, (unsigned long long)name->off);
}

/* 0: nothing there. */
static uint64_t format_at(int fd, uint64_t at)
{
	uint64_t format;

	return pread(fd, &format, sizeof(format), at) == sizeof(format) ? format : 0;
}

/* Shares the byte of those who begin. -EAGAIN: somebody truncates. */
int host_lock_begin(int lock_fd, uint64_t off)
{
	return lock_bytes(lock_fd, off + BEGIN_LOCK, 1, F_RDLCK);
}

void host_lock_ready(int lock_fd, uint64_t off)
{
	lock_bytes(lock_fd, off + BEGIN_LOCK, 1, F_UNLCK);
}

static int begin(int lock_fd, const struct host_name *name)
{
	unsigned int tries;
	int err;

	for (tries = 0; tries < BEGIN_TRIES; tries++) {
		err = host_lock_begin(lock_fd, name->off);
		if (!err)
			return 0;
		if (err != -EAGAIN)
			return host_no_lock(name, err);
		nap();
	}
	return host_fail(-EBUSY, "%s is being truncated by another process", name->path);
}

/* ---- overlaps ---- */

/*
 * The living segment that begins in [first, off) and reaches beyond @off, or -1. One that has
 * a lock and no format yet is waited for: its size is not known.
 */
static int64_t reaching(int fd, uint64_t first, uint64_t off)
{
	struct vine_geometry geo;
	unsigned int tries;
	uint64_t at, end;
	int64_t found;
	struct flock l;

	while (find_lock(fd, first, off, &l)) {
		at = ((uint64_t)l.l_start > first ? (uint64_t)l.l_start : first) & -PLACE;
		end = (l.l_start + l.l_len + PLACE - 1) & -PLACE;
		/* more than slots: somebody truncates, of whose range we are not */
		for (tries = 0; end == at + PLACE && !format_at(fd, at); tries++) {
			if (tries == BEGIN_TRIES)
				return at;
			nap();
			if (!find_lock(fd, at, end, &l))
				break;
		}
		if (!vine_geometry_of(format_at(fd, at), UINT64_MAX, &geo) && at + geo.size > off)
			return at;
		found = reaching(fd, first, at);
		if (found >= 0)
			return found;
		first = end;
	}
	return -1;
}

/* The first format in [at, end), where segments may begin; @end when there is none. */
static uint64_t next_format(int fd, uint64_t at, uint64_t end, struct vine_geometry *geo)
{
	off_t data;

	for (; at < end; at += PLACE) {
		data = lseek(fd, at, SEEK_DATA);	/* most of it may be a hole */
		if (data < 0 ? errno == ENXIO : (uint64_t)data >= end)
			return end;
		if (data > (off_t)at)
			at = data & -PLACE;
		if (!vine_geometry_of(format_at(fd, at), UINT64_MAX, geo))
			return at;
	}
	return end;
}

static int shares(const struct host_name *name, uint64_t at, uint64_t bytes)
{
	return host_fail(-EBUSY, "%s holds a segment of %llu bytes at byte %llu, and this one, at %llu, would share bytes with it; if nobody needs that, make it blank first (vinectl wipe)",
			 name->path, (unsigned long long)bytes, (unsigned long long)at,
			 (unsigned long long)name->off);
}

/*
 * Is there another segment that shares bytes with ours? Machines have no locks, and who is not
 * there now may come back: what is written there decides. What lies within a segment is its
 * users', and says nothing.
 */
static int check_formats(int fd, const struct host_name *name)
{
	uint64_t end = name->off + name->size, at = 0;
	struct vine_geometry geo;

	while ((at = next_format(fd, at, name->off, &geo)) < name->off) {
		if (geo.size > name->off - at)
			return shares(name, at, geo.size);
		at += (geo.size + PLACE - 1) & -PLACE;
	}
	if (name->trunc || format_at(fd, name->off))
		return 0;
	at = next_format(fd, name->off, end, &geo);
	return at < end ? shares(name, at, geo.size) : 0;
}

/* Does nobody live in another segment that shares bytes with ours? Its own bytes are others'. */
static int alone(int lock_fd, const struct host_name *name)
{
	uint64_t end = name->off + name->size;
	struct vine_geometry geo;
	struct flock l;
	int64_t at;

	/* what is there already may be shorter than what we were told, or can see */
	if (!vine_geometry_of(format_at(lock_fd, name->off), name->size, &geo))
		end = name->off + geo.size;
	if (find_lock(lock_fd, name->off + PLACE, end, &l))
		return in_use(name, l.l_start & -PLACE);
	at = reaching(lock_fd, 0, name->off);
	return at < 0 ? check_formats(lock_fd, name) : in_use(name, at);
}

/* ---- truncation ---- */

/* A machine's slot, in any segment of the range that is to go. */
struct machine {
	uint64_t segment, beat;
	unsigned int slot;
};

static bool read_slot(int fd, uint64_t segment, unsigned int slot, uint64_t *word, uint64_t *beat)
{
	off_t at = segment + VINE_OFF_PEERS + slot * sizeof(struct vine_wire_peer);

	return pread(fd, word, 8, at) == 8 && pread(fd, beat, 8, at + 64) == 8;
}

/* Those that may live: 0 or -ENOMEM. @machines is the caller's in any case. */
static int find_machines(int fd, uint64_t off, uint64_t end, struct machine **machines,
			 unsigned int *count)
{
	struct machine *more;
	uint64_t at, word, beat;
	unsigned int i;

	for (at = off; at < end; at += PLACE) {
		if (VINE_FORMAT_MAGIC(format_at(fd, at)) != VINE_WIRE_MAGIC)
			continue;
		for (i = 0; i < VINE_MAX_PEERS && read_slot(fd, at, i, &word, &beat); i++) {
			if (VINE_PEER_STATE(word) != VINE_PEER_LIVE || word & VINE_PEER_HOST)
				continue;
			more = realloc(*machines, (*count + 1) * sizeof(*more));
			if (!more)
				return -ENOMEM;
			*machines = more;
			more[(*count)++] = (struct machine){ at, beat, i };
		}
	}
	return 0;
}

/* 0, or -EBUSY: a peer without a lock beats. Takes a second if there may be one. */
static int no_machine(int fd, const struct host_name *name)
{
	struct machine *machines = NULL, *m;
	unsigned int count = 0, tries;
	uint64_t word, beat;
	int err;

	err = find_machines(fd, name->off, name->off + name->size, &machines, &count);
	for (tries = 0; !err && count && tries < 4 * HOST_TICK_MS / 10; tries++) {
		nap();
		for (m = machines; m < machines + count; m++) {
			if (!read_slot(fd, m->segment, m->slot, &word, &beat) || beat == m->beat)
				continue;
			err = host_fail(-EBUSY, "%s is in use: the machine that is peer %u of the segment at byte %llu lives; not truncated",
					name->path, m->slot, (unsigned long long)m->segment);
			break;
		}
	}
	free(machines);
	return err;
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

static int clear(int fd, uint64_t off, uint64_t size)
{
	static const char zeroes[65536];
	uint64_t end = off + size;
	ssize_t n;

	if (!size || !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, size))
		return 0;
	for (; off < end; off += n) {
		n = pwrite(fd, zeroes, min_t(uint64_t, sizeof(zeroes), end - off), off);
		if (n <= 0)
			return n ? -errno : -EIO;
	}
	return 0;
}

/* @at: a byte that is locked. */
static int lives(const struct host_name *name, uint64_t at)
{
	uint64_t slot = at % PLACE;

	if (slot >= VINE_MAX_PEERS)
		return host_fail(-EBUSY, "%s is in use: a process begins or truncates the segment at byte %llu, or has regions of it; not truncated",
				 name->path, (unsigned long long)(at - slot));
	return host_fail(-EBUSY, "%s is in use: the process that is peer %u of the segment at byte %llu lives; not truncated",
			 name->path, (unsigned int)slot, (unsigned long long)(at - slot));
}

/*
 * With all bytes of the range locked, those of segments that begin behind this one too: who
 * lives there has one, and who wants to begin waits. In the end only the byte of those who
 * begin is kept.
 */
static int truncate_segment(int fd, int lock_fd, const struct host_name *name)
{
	uint64_t off = name->off, span = name->size > PLACE ? name->size : PLACE;
	struct flock l;
	int64_t at;
	int err;

	err = lock_bytes(lock_fd, off, span, F_WRLCK);
	if (err && err != -EAGAIN)
		return host_no_lock(name, err);
	if (err) {
		/* it may have gone meanwhile, or be a lock of somebody who is no endpoint */
		if (!find_lock(lock_fd, off, off + span, &l) || (uint64_t)l.l_start < off)
			l.l_start = off + BEGIN_LOCK;
		return lives(name, l.l_start);
	}
	at = reaching(lock_fd, 0, off);
	err = at < 0 ? check_formats(fd, name) : in_use(name, at);
	if (!err)
		err = no_machine(fd, name);
	if (!err)
		err = clear(fd, off, name->size);
	if (err)
		return err;
	err = host_lock_begin(lock_fd, off);
	if (!err)
		err = lock_bytes(lock_fd, off, BEGIN_LOCK, F_UNLCK);
	if (!err)
		err = lock_bytes(lock_fd, off + BEGIN_LOCK + 1, span - BEGIN_LOCK - 1, F_UNLCK);
	return err;
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
	if (!format_at(fd, name->off))
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
		err = begin(lock_fd, name);
	if (!err)
		err = see_size(fd, name);
	if (!err && name->size < VINE_MIN_SEGMENT)
		err = host_refused(name, 0, -ENOSPC);
	if (!err)
		err = name->trunc ? truncate_segment(fd, lock_fd, name) : alone(lock_fd, name);
	if (!err && !name->trunc)
		err = check_contents(fd, name);
	if (err)
		return err;
	err = name->size ? grow(fd, name->off + name->size) : 0;
	if (err)
		return host_fail(err, "cannot make %s longer: %s", name->path, strerror(-err));
	return 0;
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
	int fd = open_file(name);
	struct stat st;

	if (fd < 0)
		return fd;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	return host_fail(-EINVAL, "%s is no file", name->path);
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
 * free when its end is 0.
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
