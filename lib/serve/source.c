// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * source.c - the process that runs what a compiler makes of a client's source
 *
 * Compilers and drivers want threads, children, files and devices: so less can be taken away than
 * from uploaded code. What is taken away: all files are there to be read only, but for a /tmp
 * of the process's own, which ends with it; there is no network; and it is another user when the
 * appliance is root. Other clients' compilers find nothing of what is left in caches there.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "serve/work.h"

/* Namespaces of our own. Who is not root is it in one of users, for as long as it takes. */
static int unshare_all(uid_t uid, gid_t gid)
{
	int flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC;
	char maps[3][40];
	static const char *const files[3] = {
		"/proc/self/setgroups", "/proc/self/uid_map", "/proc/self/gid_map",
	};
	int i, fd;

	if (!geteuid())
		return unshare(flags);
	if (unshare(flags | CLONE_NEWUSER))
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

static int mount_all(uid_t uid, gid_t gid)
{
	struct mount_attr read_only = { .attr_set = MOUNT_ATTR_RDONLY };
	char options[80];

	snprintf(options, sizeof(options), "size=%u,mode=0700,uid=%u,gid=%u", VINE_SOURCE_TMP, uid,
		 gid);
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	       mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &read_only, sizeof(read_only)) ||
	       mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, options) ||
	       chdir("/tmp") ? -1 : 0;
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
	uid_t uid = root ? self->uid : geteuid();
	gid_t gid = root ? self->gid : getegid();
	struct rlimit none = { 0, 0 };

	if (work_silence() || setrlimit(RLIMIT_CORE, &none) || unshare_all(uid, gid) || mount_all(uid, gid))
		return -1;
	if (root && (setgroups(0, NULL) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid)))
		return -1;
	return work_drop_capabilities() || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_DUMPABLE, 0) || set_environment() ? -1 : 0;
}
