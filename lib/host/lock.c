// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * lock.c - who is there: locks on bytes of the file, segments that overlap, truncation
 *
 * Locks are those of open file descriptions: they go with the process, and two endpoints
 * of one process have one each.
 */
#include "host/endpoint.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#define BEGIN_LOCK	VINE_MAX_PEERS	/* the byte after those of the slots */
#define BEGIN_TRIES	500		/* of 10 ms: how long somebody else may take to begin */

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

static int not_ready(const struct host_name *name, uint64_t at)
{
	return host_fail(-EBUSY, "%s is in use: something begins at byte %llu there, and does not get ready; how far it reaches is not known",
			 name->path, (unsigned long long)at);
}

uint64_t host_format_at(int fd, uint64_t at)
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

int host_begin(int lock_fd, const struct host_name *name)
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
 * Does a living segment that begins in [first, end) reach into ours? One that has a lock and no
 * format yet is waited for, if @wait: its size is not known. 0 or -EBUSY.
 */
static int check_before(int fd, const struct host_name *name, uint64_t first, uint64_t end,
			bool wait)
{
	struct vine_geometry geo;
	unsigned int tries;
	uint64_t at, behind;
	struct flock l;
	int err;

	while (find_lock(fd, first, end, &l)) {
		at = ((uint64_t)l.l_start > first ? (uint64_t)l.l_start : first) & -VINE_PLACE;
		behind = (l.l_start + l.l_len + VINE_PLACE - 1) & -VINE_PLACE;
		/* more than slots: somebody truncates, of whose range we are not */
		for (tries = 0; behind == at + VINE_PLACE && !host_format_at(fd, at); tries++) {
			if (!wait || tries == BEGIN_TRIES)
				return not_ready(name, at);
			nap();
			if (!find_lock(fd, at, behind, &l))
				break;
		}
		if (!vine_geometry_of(host_format_at(fd, at), UINT64_MAX, &geo) &&
		    at + geo.size > name->off)
			return in_use(name, at);
		err = check_before(fd, name, first, at, wait);
		if (err)
			return err;
		first = behind;
	}
	return 0;
}

/* The first format in [at, end), where segments may begin; @end when there is none. */
static uint64_t next_format(int fd, uint64_t at, uint64_t end, struct vine_geometry *geo)
{
	off_t data;

	for (; at < end; at += VINE_PLACE) {
		data = lseek(fd, at, SEEK_DATA);	/* most of it may be a hole */
		if (data < 0 ? errno == ENXIO : (uint64_t)data >= end)
			return end;
		if (data > (off_t)at)
			at = data & -VINE_PLACE;
		if (!vine_geometry_of(host_format_at(fd, at), UINT64_MAX, geo))
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
		at += geo.size;
	}
	if (name->trunc || host_format_at(fd, name->off))
		return 0;
	at = next_format(fd, name->off + VINE_PLACE, end, &geo);
	/* or somebody has begun ours meanwhile, and that lies within it */
	return at < end && !host_format_at(fd, name->off) ? shares(name, at, geo.size) : 0;
}

/* Does nobody live in another segment that shares bytes with ours? Its own bytes are others'. */
int host_check_overlap(int lock_fd, const struct host_name *name, bool wait)
{
	uint64_t end = name->off + name->size;
	struct vine_geometry geo;
	struct flock l;
	int err;

	/* what is there already may be shorter than what we were told, or can see */
	if (!vine_geometry_of(host_format_at(lock_fd, name->off), name->size, &geo))
		end = name->off + geo.size;
	if (find_lock(lock_fd, name->off + VINE_PLACE, end, &l))
		return in_use(name, l.l_start & -VINE_PLACE);
	err = check_before(lock_fd, name, 0, name->off, wait);
	return err ? err : check_formats(lock_fd, name);
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

	for (at = off; at < end; at += VINE_PLACE) {
		if (VINE_FORMAT_MAGIC(host_format_at(fd, at)) != VINE_WIRE_MAGIC)
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

static int clear(int fd, uint64_t off, uint64_t size)
{
	static const char zeroes[65536];
	uint64_t end = off + size;
	ssize_t n;

	if (!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, size))
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
	uint64_t slot = at % VINE_PLACE;

	if (slot >= VINE_MAX_PEERS)
		return host_fail(-EBUSY, "%s is in use: a process begins or truncates the segment at byte %llu, or has regions of it; not truncated",
				 name->path, (unsigned long long)(at - slot));
	return host_fail(-EBUSY, "%s is in use: the process that is peer %u of the segment at byte %llu lives; not truncated",
			 name->path, (unsigned int)slot, (unsigned long long)(at - slot));
}

/*
 * With all bytes of the range locked, those of segments that begin behind this one too: who
 * lives there has one, and who wants to begin waits. In the end only the byte of those who
 * begin is kept, for ourselves: who waits finds our format, and makes none of its own.
 */
int host_truncate(int fd, int lock_fd, const struct host_name *name)
{
	uint64_t off = name->off, size = name->size;
	struct flock l;
	int err;

	err = lock_bytes(lock_fd, off, size, F_WRLCK);
	if (err && err != -EAGAIN)
		return host_no_lock(name, err);
	if (err) {
		/* it may have gone meanwhile, or be a lock of somebody who is no endpoint */
		if (!find_lock(lock_fd, off, off + size, &l) || (uint64_t)l.l_start < off)
			l.l_start = off + BEGIN_LOCK;
		return lives(name, l.l_start);
	}
	err = check_before(lock_fd, name, 0, off, true);
	if (!err)
		err = check_formats(fd, name);
	if (!err)
		err = no_machine(fd, name);
	if (!err)
		err = clear(fd, off, size);
	if (err)
		return err;
	err = lock_bytes(lock_fd, off, BEGIN_LOCK, F_UNLCK);
	if (!err)
		err = lock_bytes(lock_fd, off + BEGIN_LOCK + 1, size - BEGIN_LOCK - 1, F_UNLCK);
	return err;
}
