// SPDX-License-Identifier: GPL-2.0-only
/*
 * region.c - bulk data: VINE_REGION, VINE_IMPORT, mmap
 *
 * A mapping keeps its file, and the file its hold on the chunks: nobody's death
 * takes memory away from whoever maps it. Mappings are zapped only when the device
 * goes, or when we were taken for dead.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "driver.h"

static void vine_region_free(struct vine_region_file *rf)
{
	struct vine_dev *vdev = rf->vdev;
	int srcu;

	mutex_lock(&vdev->control);
	hlist_del_init(&rf->node);
	mutex_unlock(&vdev->control);
	if (rf->session && vine_control_enter_release(vdev, rf->session, &srcu)) {
		if (rf->own)
			vine_region_retire(vdev->core, rf->id);
		else
			vine_region_put(vdev->core, rf->id);
		vine_control_exit(vdev, srcu);
	}
	vine_maker_drop(&rf->maker);
	put_device(&vdev->dev);
	kfree(rf);
}

static int vine_region_release(struct inode *inode, struct file *file)
{
	vine_region_free(file->private_data);
	return 0;
}

/* ---- mmap ---- */

static vm_fault_t vine_region_fault(struct vm_fault *vmf)
{
	struct vine_region_file *rf = vmf->vma->vm_file->private_data;
	struct vine_dev *vdev = rf->vdev;
	vm_fault_t ret = VM_FAULT_SIGBUS;
	int srcu;

	if (vine_enter(vdev, rf->session, &srcu))
		return VM_FAULT_SIGBUS;
	if (vmf->pgoff >= rf->first && vmf->pgoff - rf->first < rf->bytes >> PAGE_SHIFT)
		ret = vmf_insert_pfn(vmf->vma, vmf->address,
				     vdev->bus.pfn(vdev, vmf->pgoff));
	vine_exit(vdev, srcu);
	return ret;
}

static const struct vm_operations_struct vine_region_vm_ops = {
	.fault = vine_region_fault,
};

/*
 * The mapping's offset is made that of the segment: the device's address space is
 * one for all its regions. Forked children share the mapping, as of any file.
 */
static int vine_region_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vine_region_file *rf = file->private_data;
	unsigned long pages = vma_pages(vma), room = rf->bytes >> PAGE_SHIFT;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_pgoff >= room || pages > room - vma->vm_pgoff)
		return -EINVAL;
	vma->vm_pgoff += rf->first;
	vm_flags_set(vma, VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_ops = &vine_region_vm_ops;
	return 0;
}

const struct file_operations vine_region_fops = {
	.owner = THIS_MODULE,
	.release = vine_region_release,
	.mmap = vine_region_mmap,
};

/* ---- calls ---- */

static struct vine_region_file *vine_region_new(struct vine_dev *vdev, struct vine_new *new)
{
	struct vine_region_file *rf = kzalloc(sizeof(*rf), GFP_KERNEL_ACCOUNT);
	int err;

	if (!rf)
		return ERR_PTR(-ENOMEM);
	rf->vdev = vdev;
	vine_maker_set(&rf->maker);
	get_device(&vdev->dev);
	err = vine_new_file(new, vdev, "[vine-region]", &vine_region_fops, rf, 0);
	if (err) {
		vine_region_free(rf);
		return ERR_PTR(err);
	}
	return rf;
}

/* Under control: @id is ours to use. */
static void vine_region_set(struct vine_region_file *rf, u32 session, u64 id, bool own)
{
	struct vine_dev *vdev = rf->vdev;
	struct vine_core *core = vdev->core;
	const struct vine_use *use = vine_region_use(core, id);

	rf->session = session;
	rf->id = id;
	rf->own = own;
	rf->first = vine_chunk_offset(core, use->first) >> PAGE_SHIFT;
	rf->bytes = (u64)use->count << core->geo.shift;
	hlist_add_head(&rf->node, &vdev->regions[VINE_REGION_INDEX(id)]);
}

/* Nobody reads what was here before. Killable, and holds up nothing. */
static int vine_region_zero(struct vine_region_file *rf)
{
	struct vine_dev *vdev = rf->vdev;
	u64 step = 1 << VINE_MIN_CHUNK_SHIFT, at;
	u8 *base = vdev->base + ((u64)rf->first << PAGE_SHIFT);
	int err, srcu;

	for (at = 0; at < rf->bytes; at += step) {
		if (fatal_signal_pending(current))
			return -EINTR;
		err = vine_enter(vdev, rf->session, &srcu);
		if (err)
			return err;
		memset(base + at, 0, step);
		vine_exit(vdev, srcu);
		cond_resched();
	}
	return 0;
}

int vine_do_region(struct file *file, void *arg, struct vine_new *new)
{
	struct vine_dev *vdev = file->private_data;
	struct vine_region *r = arg;
	struct vine_region_file *rf;
	int err, srcu;
	u64 id;

	if (r->flags)
		return -EOPNOTSUPP;
	if (r->reserved || !r->bytes)
		return -EINVAL;
	rf = vine_region_new(vdev, new);
	if (IS_ERR(rf))
		return PTR_ERR(rf);
	err = vine_control_enter(vdev, VINE_SESSION_ANY, &srcu);
	if (err)
		return err;
	err = vine_region_claim(vdev->core, r->bytes, &id);
	if (!err)
		vine_region_set(rf, vdev->session, id, true);
	vine_control_exit(vdev, srcu);
	if (err)
		return err;
	err = vine_region_zero(rf);
	if (err)
		return err;
	err = vine_control_enter(vdev, rf->session, &srcu);
	if (err)
		return err;
	err = vine_region_publish(vdev->core, id);
	vine_control_exit(vdev, srcu);
	r->bytes = rf->bytes;
	r->fd = new->fd;
	return err;
}

int vine_do_import(struct file *file, void *arg, struct vine_new *new)
{
	struct vine_queue_file *qf = file->private_data;
	struct vine_dev *vdev = qf->vdev;
	struct vine_import *i = arg;
	struct vine_region_file *rf;
	int err, srcu;

	if (i->flags)
		return -EOPNOTSUPP;
	if (i->reserved || qf->queue.side != VINE_SIDE_SERVER)
		return -EINVAL;
	rf = vine_region_new(vdev, new);
	if (IS_ERR(rf))
		return PTR_ERR(rf);
	err = vine_control_enter(vdev, qf->session, &srcu);
	if (err)
		return err;
	err = vine_queue_import(&qf->queue, i->id);
	if (!err)
		vine_region_set(rf, vdev->session, i->id, false);
	vine_control_exit(vdev, srcu);
	i->bytes = rf->bytes;
	i->fd = new->fd;
	return err;
}
