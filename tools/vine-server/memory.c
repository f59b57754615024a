// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * memory.c - the memory that the VMs share: anonymous, from huge pages, or a named file.
 *
 * It starts as zeros and its size never changes: a VM that touched memory cut off under
 * it would be killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "server.h"

static int open_anonymous(const struct options *o)
{
	int fd = memfd_create("vine", MFD_CLOEXEC | MFD_ALLOW_SEALING |
			      (o->hugepages ? MFD_HUGETLB : 0));

	if (fd < 0)
		return error("cannot create the memory: %m%s",
			     o->hugepages ? "; try without --hugepages" : "");
	if (ftruncate(fd, o->size)) {
		error("cannot give the memory %" PRIu64 " bytes: %m; give another --size", o->size);
		goto close_fd;
	}
	/* Huge pages are few: take them now, or a VM is killed when it touches the memory. */
	if (o->hugepages && fallocate(fd, 0, 0, o->size)) {
		error("--hugepages: there are no %" PRIu64 " MiB of free huge pages (%m): see HugePages_Free in /proc/meminfo and raise vm.nr_hugepages (sysctl), or give a smaller --size",
		      o->size >> 20);
		goto close_fd;
	}
	/* Every VM gets this descriptor; none may cut the memory off under the others. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		error("cannot seal the memory's size: %m");
		goto close_fd;
	}
	return fd;

close_fd:
	close(fd);
	return -1;
}

static int create_file(int fd, const struct options *o)
{
	struct statvfs fs;

	/* A VM is killed when the file system fills up. Some (hugetlbfs) do not know. */
	if (!fstatvfs(fd, &fs) && fs.f_blocks && fs.f_bavail < o->size / fs.f_frsize)
		return error("--file %s: its file system has no room for %" PRIu64 " MiB; give a smaller --size or another place",
			     o->file, o->size >> 20);
	if (ftruncate(fd, o->size))
		return error("--file %s: cannot give it %" PRIu64 " bytes: %m; give another --size or place",
			     o->file, o->size);
	return 0;
}

static int check_file(int fd, const struct options *o)
{
	struct stat st;

	if (fstat(fd, &st))
		return error("--file %s: %m", o->file);
	if (!S_ISREG(st.st_mode))
		return error("--file %s: not a regular file; give another name", o->file);
	if ((uint64_t)st.st_size != o->size)
		return error("--file %s: it has %jd bytes and --size says %" PRIu64 "; give the --size it has, or another name, or remove it",
			     o->file, (intmax_t)st.st_size, o->size);
	return 0;
}

static int open_file(const struct options *o)
{
	const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
	bool created = true;
	int fd;

	/* Only a file that was not there before is ever given a size. */
	fd = open(o->file, flags | O_CREAT | O_EXCL, 0600);
	if (fd < 0 && errno == EEXIST) {
		created = false;
		fd = open(o->file, flags | O_NONBLOCK);
	}
	if (fd < 0)
		return error("--file %s: cannot open it: %m%s", o->file,
			     errno == ELOOP ? "; give the file itself, not a symbolic link" : "");
	/*
	 * The lock goes with the descriptor to every VM, so it lasts until the last one
	 * has let go of the memory, even if the server dies: a second server would give
	 * other VMs the same IDs.
	 */
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		error("--file %s: in use by another server, or by VMs that a former one left; stop them first",
		      o->file);
		goto close_fd;
	}
	if (created ? create_file(fd, o) : check_file(fd, o))
		goto remove_file;
	return fd;

remove_file:
	if (created)
		unlink(o->file);
close_fd:
	close(fd);
	return -1;
}

int memory_open(const struct options *o)
{
	return o->file ? open_file(o) : open_anonymous(o);
}
