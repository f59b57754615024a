// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * places.c - the names in the file system that the server takes and gives back: its
 * socket and its pid file. What is not ours is never removed or overwritten.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "server.h"

static void remember(struct place *p, const char *path, const struct stat *st)
{
	*p = (struct place){ .path = path, .dev = st->st_dev, .ino = st->st_ino };
}

void place_leave(const struct place *p)
{
	struct stat st;

	if (p->path && !lstat(p->path, &st) && st.st_dev == p->dev && st.st_ino == p->ino)
		unlink(p->path);
}

/*
 * Two servers that start at once must not both find the same stale socket, for the
 * slower one would remove the faster one's new one. A lock on the directory prevents it
 * and leaves no file behind. Anybody who may read the directory may hold that lock, so
 * after a second we go on without it.
 */
static int lock_directory(const char *path)
{
	char copy[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int fd, tries;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (tries = 50; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) && tries; tries--)
		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	return fd;
}

/*
 * Makes room for a socket at @addr. Whether somebody lives there is asked with a
 * datagram socket: connecting it to a stream socket fails with EPROTOTYPE if that is
 * open and with ECONNREFUSED if not, and a server that lives does not notice, while a
 * stream connection would have cost it an ID and told all its VMs of a new peer.
 */
static int clear_stale(const struct sockaddr_un *addr)
{
	const char *path = addr->sun_path;
	struct stat st;
	int fd, ret;

	if (lstat(path, &st)) {
		if (errno == ENOENT)
			return 0;
		return error("--socket %s: %m", path);
	}
	if (!S_ISSOCK(st.st_mode))
		return error("--socket %s: something that is not a socket is there; remove it or give another path",
		      path);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error("cannot create a socket: %m");
	ret = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) ? errno : 0;
	close(fd);
	switch (ret) {
	case ECONNREFUSED:
		if (unlink(path) && errno != ENOENT)
			return error("--socket %s: cannot remove the stale socket there: %m", path);
		info("replaced the stale socket %s", path);
		return 0;
	case ENOENT:
		return 0;
	case 0:
	case EPROTOTYPE:
		return error("another server is listening on %s; stop it or give another --socket", path);
	default:
		return error("--socket %s: cannot tell whether another server is listening there: %s; give another path",
		      path, strerror(ret));
	}
}

int socket_take(struct place *p, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat st;
	mode_t mask;
	int fd, lock, ret;

	/* The options have made sure that it fits. */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error("cannot create a socket: %m");
	lock = lock_directory(path);
	if (clear_stale(&addr))
		goto unlock;
	mask = umask(0177);
	ret = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	umask(mask);
	if (ret || lstat(path, &st)) {
		error("--socket %s: cannot create it: %m", path);
		goto unlock;
	}
	remember(p, path, &st);
	if (lock >= 0)
		close(lock);
	return fd;

unlock:
	if (lock >= 0)
		close(lock);
	close(fd);
	return -1;
}

/* Does the file hold nothing, or a number and a newline? */
static bool looks_like_pidfile(int fd)
{
	char text[32];
	ssize_t i, n = pread(fd, text, sizeof(text), 0);

	for (i = 0; i < n && isdigit((unsigned char)text[i]); i++)
		;
	return n == 0 || (n > 0 && i > 0 && (i == n || (i == n - 1 && text[i] == '\n')));
}

int pidfile_take(struct place *p, const char *path)
{
	struct stat st;
	int fd;

	fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
	if (fd < 0 || fstat(fd, &st)) {
		error("--pidfile %s: cannot create it: %m", path);
		goto close_fd;
	}
	if (!S_ISREG(st.st_mode) || !looks_like_pidfile(fd)) {
		error("--pidfile %s: something that is not a pid file is there; remove it or give another path",
		      path);
		goto close_fd;
	}
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		error("--pidfile %s: another server holds it; stop it or give another path", path);
		goto close_fd;
	}
	if (ftruncate(fd, 0) || dprintf(fd, "%d\n", getpid()) < 0) {
		error("--pidfile %s: cannot write it: %m", path);
		goto close_fd;
	}
	remember(p, path, &st);
	return fd;

close_fd:
	if (fd >= 0)
		close(fd);
	return -1;
}
