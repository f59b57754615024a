// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * source.c - the process that runs what a compiler makes of a client's source
 *
 * Compilers and drivers want threads, children, files and devices: so less can be taken away than
 * from uploaded code. What is taken away: all files are there to be read only, but for a /tmp
 * of the process's own, which ends with it; there is no network; and it is another user when the
 * appliance is root, with no capabilities. Other clients' compilers find nothing of what is left in
 * caches there, and cannot be debugged, nor can their children: they are in another namespace of
 * users. Nor can they be named: it begins a namespace of processes, so that signals, limits and
 * priorities reach its own children alone; and those end with it, whatever it dies of.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "serve/work.h"

/* Root alone needs no namespace of users for that; it gets one when it is another user. */
uint64_t source_namespaces(void)
{
	return geteuid() ? CLONE_NEWPID | CLONE_NEWUSER : CLONE_NEWPID;
}

/* Namespaces of our own. In that of users we are root, for as long as it takes. */
static int unshare_all(int users, uid_t uid, gid_t gid)
{
	char maps[3][40];
	static const char *const files[3] = {
		"/proc/self/setgroups", "/proc/self/uid_map", "/proc/self/gid_map",
	};
	int i, fd;

	if (unshare(users | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC))
		return -1;
	snprintf(maps[0], sizeof(maps[0]), "deny");
	snprintf(maps[1], sizeof(maps[1]), "%u %u 1", uid, uid);
	snprintf(maps[2], sizeof(maps[2]), "%u %u 1", gid, gid);
	for (i = 0; i < 3; i++) {
		fd = open(files[i], O_WRONLY | O_CLOEXEC);
		if (fd < 0 || dprintf(fd, "%s", maps[i]) < 0)
			return -1;
		close(fd);
	}
	return 0;
}

/* Sockets and shared memory that others have there can be used even on what is read-only. */
static int hide(const char *folder)
{
	return mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, "mode=0555") &&
	       errno != ENOENT;
}

static int mount_all(uid_t uid, gid_t gid)
{
	struct mount_attr read_only = { .attr_set = MOUNT_ATTR_RDONLY };
	char options[80];

	snprintf(options, sizeof(options), "size=%u,mode=0700,uid=%u,gid=%u", VINE_SOURCE_TMP, uid,
		 gid);
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	       mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &read_only, sizeof(read_only)) ||
	       mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, options) ||
	       hide("/run") || hide("/dev/shm") || chdir("/tmp") ? -1 : 0;
}

/* Libraries keep what they find of it: a folder that they may write to. */
static int set_environment(void)
{
	return setenv("HOME", "/tmp", 1) || setenv("TMPDIR", "/tmp", 1) ||
	       setenv("XDG_CACHE_HOME", "/tmp", 1) ? -1 : 0;
}

int confine_source(const struct work_self *self)
{
	bool root = geteuid() == 0;
	uid_t uid = self->uid;
	gid_t gid = self->gid;
	struct rlimit none = { 0, 0 };

	if (work_silence() || setrlimit(RLIMIT_CORE, &none) || work_change_user(self))
		return -1;
	/* a change of user makes it 0, and then /proc/self is not ours */
	if (prctl(PR_SET_DUMPABLE, 1) || unshare_all(root ? CLONE_NEWUSER : 0, uid, gid) ||
	    mount_all(uid, gid))
		return -1;
	return work_drop_capabilities() || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_DUMPABLE, 0) || set_environment() ? -1 : 0;
}
