// SPDX-License-Identifier: GPL-2.0-only
/*
 * calls.c - ioctl dispatch: sizes, copies, new descriptors
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/uaccess.h>

#include "driver.h"

int vine_new_file(struct vine_new *new, struct vine_dev *vdev, const char *name,
		  const struct file_operations *fops, void *priv, unsigned int flags)
{
	struct file *file;
	int fd;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	file = anon_inode_getfile(name, fops, priv, O_RDWR | flags);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	/* anonymous inodes share one address space: mappings need our own */
	file->f_mapping = vdev->inode->i_mapping;
	new->file = file;
	new->fd = fd;
	return 0;
}

long vine_call(struct file *file, unsigned int cmd, unsigned long arg,
	       const struct vine_call *calls, size_t count)
{
	void __user *user = (void __user *)arg;
	union {
		struct vine_info info;
		struct vine_services services;
		struct vine_listen listen;
		struct vine_accept accept;
		struct vine_connect connect;
		struct vine_region region;
		struct vine_attach attach;
		struct vine_import import;
		struct vine_transfer transfer;
		struct vine_query query;
		struct vine_bury bury;
	} u;
	const struct vine_call *call;
	struct vine_new new = {};
	u32 size;
	int err;

	for (call = calls; call < calls + count; call++)
		if (call->cmd == cmd)
			break;
	if (call == calls + count)
		return -ENOTTY;
	if (get_user(size, (u32 __user *)user))
		return -EFAULT;
	if (size < call->min_size)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	err = copy_struct_from_user(&u, call->size, user, size);
	if (err)
		return err;
	/* will the answer find its place? Asked before anything is done. */
	if (copy_to_user(user, &u, min(size, call->size)))
		return -EFAULT;
	err = call->fn(file, &u, &new);
	if (!err && copy_to_user(user, &u, min(size, call->size)))
		err = -EFAULT;
	if (!new.file)
		return err;
	if (!err) {
		fd_install(new.fd, new.file);
	} else {
		put_unused_fd(new.fd);
		fput(new.file);
	}
	return err;
}
