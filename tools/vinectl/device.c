// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * device.c - opens the device and asks it, and says what to do when that fails
 */
#define _GNU_SOURCE
#include <errno.h>
#include <glob.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vine.h>

#include "vinectl.h"

/* There is no such node: is there another, and is vine loaded at all? */
static int no_node(const char *path)
{
	glob_t others;
	int status;

	if (access("/sys/module/vine", F_OK))
		return fail("%s: there is no such device, for vine is not loaded: modprobe vine (in a machine without an ivshmem device, to try it: modprobe vine loopback=1)",
			    path);
	if (!glob("/dev/vine[0-9]*", 0, NULL, &others)) {
		status = fail("%s: there is no such device, but %s: give --device", path,
			      others.gl_pathv[0]);
		globfree(&others);
		return status;
	}
	return fail("%s: there is no such device: vine is loaded, but has found none that it could use; 'dmesg | grep vine' says why",
		    path);
}

static int no_access(const char *path)
{
	struct group *group;
	struct stat st;

	if (!stat(path, &st) && st.st_gid && (st.st_mode & 0060) == 0060) {
		group = getgrgid(st.st_gid);
		if (group)
			return fail("%s: permission denied: be a member of the group %s, or root",
				    path, group->gr_name);
	}
	return fail("%s: permission denied: be root (sudo), or give the device to a group with a udev rule: SUBSYSTEM==\"vine\", GROUP=\"...\", MODE=\"0660\"",
		    path);
}

int device_open(const struct options *o)
{
	int fd = vine_open(o->device);

	if (fd < 0 && *vine_why()) {	/* an endpoint, which vinectl is for as long as it looks */
		fail("%s: %s", o->device, vine_why());
		return -1;
	}
	switch (fd) {
	case -ENOENT:
	case -ENXIO:
	case -ENODEV:
		no_node(o->device);
		return -1;
	case -EACCES:
	case -EPERM:
		no_access(o->device);
		return -1;
	}
	if (fd < 0)
		fail("%s: %s", o->device, strerror(-fd));
	return fd < 0 ? -1 : fd;
}

bool device_is_endpoint(int device)
{
	struct vine_info info;

	return !vine_info(device, &info) && info.kind == VINE_KIND_HOST;
}

int device_failed(const struct options *o, const char *what, int err)
{
	struct vine_info info;
	int device;

	if (err == -ENODEV)
		return fail("%s: the device was taken away just now", o->device);
	if (err == -ENOTCONN)
		return fail("%s: this machine was taken for dead by the others, and joins anew just now: try again",
			    o->device);
	if (err != -ENOTTY)
		return fail("%s: %s: %s", o->device, what, strerror(-err));
	device = vine_open(o->device);
	err = device < 0 ? device : vine_info(device, &info);
	if (device >= 0)
		vine_close(device);
	if (err == -ENOTTY || err == -EINVAL)
		return fail("%s: is no vine device", o->device);
	return fail("%s: the vine that is loaded is older than vinectl, and cannot tell", o->device);
}

int device_query(const struct options *o, int device, unsigned int what, size_t size,
		 void **records)
{
	int n = 0, room;
	void *array;

	/* they come and go meanwhile: again, until there was room for all */
	do {
		room = n + 16;
		array = calloc(room, size);
		if (!array) {
			fail("%s", strerror(ENOMEM));
			return -1;
		}
		n = vine_query(device, what, array, room);
		if (n >= 0 && n <= room)
			break;
		free(array);
	} while (n >= 0);
	if (n < 0) {
		device_failed(o, "cannot ask it", n);
		return -1;
	}
	*records = array;
	return n;
}
