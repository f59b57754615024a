// SPDX-License-Identifier: GPL-2.0-only
/*
 * node.c - /dev/vineN: open, VINE_INFO, VINE_SERVICES
 */
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>
#include <linux/uaccess.h>

#include "driver.h"

/* ---- an inode per device, for its address space ---- */

static int vine_fs_context(struct fs_context *fc)
{
	return init_pseudo(fc, 0x76696e65) ? 0 : -ENOMEM;	/* "vine" */
}

/* No .owner: our own mount must not keep the module from being removed. */
static struct file_system_type vine_fs = {
	.name = "vine",
	.init_fs_context = vine_fs_context,
	.kill_sb = kill_anon_super,
};

static struct vfsmount *vine_mount;

int vine_inodes_init(void)
{
	vine_mount = kern_mount(&vine_fs);
	return PTR_ERR_OR_ZERO(vine_mount);
}

void vine_inodes_exit(void)
{
	kern_unmount(vine_mount);
}

struct inode *vine_inode_new(void)
{
	return alloc_anon_inode(vine_mount->mnt_sb);
}

/* ---- calls ---- */

static int vine_do_info(struct file *file, void *arg, struct vine_new *new)
{
	struct vine_dev *vdev = file->private_data;
	struct vine_info *info = arg;
	struct vine_core *core = vdev->core;
	struct vine_usage usage;
	u32 size = info->size;
	int err, srcu;

	if (info->flags)
		return -EOPNOTSUPP;
	err = vine_control_enter(vdev, VINE_SESSION_ANY, &srcu);
	if (err)
		return err;
	vine_usage(core, &usage);
	memset(info, 0, sizeof(*info));
	info->size = size;
	info->segment_size = vdev->geo.size;
	info->generation = core->generation;
	info->chunk_size = 1ULL << vdev->geo.shift;
	info->chunks = usage.chunks;
	info->chunks_free = usage.chunks_free;
	info->peer = core->slot;
	info->incarnation = core->inc;
	info->vectors = core->vectors;
	info->ivposition = vdev->bus.ivposition;
	info->memory_type = vdev->memory_type;
	info->kind = vdev->bus.kind;
	info->peers = usage.peers;
	info->services = usage.services;
	info->queues = usage.queues;
	info->regions = usage.regions;
	info->own_queues = usage.own_queues;
	info->own_regions = usage.own_regions;
	vine_control_exit(vdev, srcu);
	return 0;
}

static int vine_do_services(struct file *file, void *arg, struct vine_new *new)
{
	struct vine_dev *vdev = file->private_data;
	struct vine_services *s = arg;
	struct vine_service __user *to = u64_to_user_ptr(s->array);
	u32 room = s->count, count = 0, i;
	struct vine_service_seen seen;
	struct vine_service one;
	bool live;
	int err, srcu;

	if (s->flags)
		return -EOPNOTSUPP;
	if (s->reserved)
		return -EINVAL;
	for (i = 0; i < VINE_MAX_SERVICES; i++) {
		err = vine_control_enter(vdev, VINE_SESSION_ANY, &srcu);
		if (err)
			return err;
		live = vine_service_read(vdev->core, i, &seen);
		vine_control_exit(vdev, srcu);
		if (!live)
			continue;
		if (count < room) {
			memset(&one, 0, sizeof(one));
			one.id = vine_service_id(seen.index, seen.gen);
			one.type = seen.type;
			one.peer = seen.slot;
			one.incarnation = seen.inc;
			strscpy(one.name, seen.name, sizeof(one.name));
			if (copy_to_user(to + count, &one, sizeof(one)))
				return -EFAULT;
		}
		count++;
	}
	s->count = count;
	return 0;
}

static const struct vine_call vine_node_calls[] = {
	VINE_CALL(VINE_INFO, vine_info, own_regions, vine_do_info),
	VINE_CALL(VINE_SERVICES, vine_services, array, vine_do_services),
	VINE_CALL(VINE_LISTEN, vine_listen, reserved, vine_do_listen),
	VINE_CALL(VINE_CONNECT, vine_connect, incarnation, vine_do_connect),
	VINE_CALL(VINE_REGION, vine_region, reserved, vine_do_region),
	VINE_CALL(VINE_QUERY, vine_query, array, vine_do_query),
	VINE_CALL(VINE_BURY, vine_bury, incarnation, vine_do_bury),
};

static long vine_node_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return vine_call(file, cmd, arg, vine_node_calls, ARRAY_SIZE(vine_node_calls));
}

static int vine_node_open(struct inode *inode, struct file *file)
{
	struct vine_dev *vdev = container_of(inode->i_cdev, struct vine_dev, cdev);

	if (READ_ONCE(vdev->dead))
		return -ENODEV;
	get_device(&vdev->dev);
	file->private_data = vdev;
	return nonseekable_open(inode, file);
}

static int vine_node_release(struct inode *inode, struct file *file)
{
	struct vine_dev *vdev = file->private_data;

	put_device(&vdev->dev);
	return 0;
}

static __poll_t vine_node_poll(struct file *file, poll_table *wait)
{
	struct vine_dev *vdev = file->private_data;

	poll_wait(file, &vdev->tables, wait);
	return READ_ONCE(vdev->dead) ? EPOLLERR | EPOLLHUP : 0;
}

const struct file_operations vine_node_fops = {
	.owner = THIS_MODULE,
	.open = vine_node_open,
	.release = vine_node_release,
	.poll = vine_node_poll,
	.unlocked_ioctl = vine_node_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
