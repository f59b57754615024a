/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * vine_sysfs.h - the device that carries the node: found, bound and unbound
 */
#ifndef VINE_SYSFS_H
#define VINE_SYSFS_H

#include "vine_test.h"

static char device_dir[PATH_MAX];	/* /sys/devices/... of what carries the node */
static char driver_dir[PATH_MAX];	/* /sys/bus/.../drivers/... */

static void __attribute__((constructor)) find_device(void)
{
	char path[PATH_MAX + 16];
	struct stat st;

	if (stat(vt_path(), &st))
		return;
	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/device", major(st.st_rdev),
		 minor(st.st_rdev));
	if (!realpath(path, device_dir)) {
		device_dir[0] = 0;
		return;
	}
	snprintf(path, sizeof(path), "%s/driver", device_dir);
	if (!realpath(path, driver_dir))
		driver_dir[0] = 0;
}

/* Makes vt_path() name the node that our device has now. False when it has none. */
static inline bool find_node(void)
{
	char path[PATH_MAX + 16];
	struct dirent *e;
	bool found = false;
	DIR *d;

	if (!device_dir[0])
		return true;	/* no sysfs: the one that was named */
	snprintf(path, sizeof(path), "%s/vine", device_dir);
	d = opendir(path);
	while (d && !found && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		setenv("VINE_DEVICE", path, 1);
		found = !access(path, F_OK);
	}
	if (d)
		closedir(d);
	return found;
}

/* Says the name of our device to the driver's file "bind" or "unbind". 0 or -errno. */
static inline int tell_driver(const char *file)
{
	const char *name = strrchr(device_dir, '/') + 1;
	char path[PATH_MAX + 16];
	int fd, err = 0;

	snprintf(path, sizeof(path), "%s/%s", driver_dir, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, name, strlen(name)) < 0)
		err = -errno;
	close(fd);
	return err;
}

/* Why it cannot be unbound, or NULL. */
static inline const char *no_unbind(void)
{
	char path[PATH_MAX + 16];

	if (!device_dir[0] || !driver_dir[0])
		return "the device was not found in sysfs";
	snprintf(path, sizeof(path), "%s/unbind", driver_dir);
	return access(path, W_OK) ? "needs root, to unbind the driver" : NULL;
}

#endif /* VINE_SYSFS_H */
