// SPDX-License-Identifier: GPL-2.0-only
/*
 * device.c - the life of a device: join, tick, wake, fence, stop
 */
#include <linux/module.h>
#include <linux/sched/signal.h>

#include "driver.h"

#define VINE_POLL_MIN_NS	(50 * NSEC_PER_USEC)
#define VINE_POLL_MAX_NS	(10 * NSEC_PER_MSEC)

/* ---- entering ---- */

int vine_control_enter(struct vine_dev *vdev, u32 session, int *srcu)
{
	int err;

	if (mutex_lock_interruptible(&vdev->control))
		return -ERESTARTSYS;
	err = vine_enter(vdev, session, srcu);
	if (err)
		mutex_unlock(&vdev->control);
	return err;
}

void vine_control_exit(struct vine_dev *vdev, int srcu)
{
	vine_exit(vdev, srcu);
	mutex_unlock(&vdev->control);
}

bool vine_control_enter_release(struct vine_dev *vdev, u32 session, int *srcu)
{
	mutex_lock(&vdev->control);
	if (!vine_enter(vdev, session, srcu))
		return true;
	mutex_unlock(&vdev->control);
	return false;
}

/* ---- waking ---- */

static void vine_wake_listener(struct vine_listener_file *lf)
{
	WRITE_ONCE(lf->news, lf->news + 1);	/* under vdev->ready */
	wake_up_all(&lf->wait);
}

/* The core says which bits are marked. Under a vector lock. */
static void vine_marked(void *arg, u32 leaf, u64 bits)
{
	struct vine_dev *vdev = arg;
	struct vine_listener_file *lf;
	struct vine_queue_file *qf;
	bool tidy = false;
	u32 i, side;

	if (leaf >= VINE_LEAF_TABLES) {
		WRITE_ONCE(vdev->tables_news, true);
		schedule_work(&vdev->tidy);
		return;
	}
	spin_lock(&vdev->ready);
	for (; bits; bits &= bits - 1) {
		i = __ffs64(bits);
		if (leaf >= VINE_LEAF_SERVICE) {
			lf = vdev->listeners[(leaf - VINE_LEAF_SERVICE) * 64 + i];
			if (lf)
				vine_wake_listener(lf);
			continue;
		}
		side = leaf >= VINE_LEAF_SERVER ? VINE_SIDE_SERVER : VINE_SIDE_CLIENT;
		qf = vdev->queues[side][leaf % 64 * 64 + i];
		if (qf)
			wake_up_all(&qf->wait);
		else	/* of a queue that we have closed: the other side has too? */
			tidy = true;
	}
	spin_unlock(&vdev->ready);
	if (tidy)
		schedule_work(&vdev->tidy);
	WRITE_ONCE(vdev->poll_ns, VINE_POLL_MIN_NS);
}

/* Wakes everybody who waits for anything: peers, or the device, have changed. */
static void vine_wake_all(struct vine_dev *vdev)
{
	unsigned long flags;
	u32 i;

	spin_lock_irqsave(&vdev->ready, flags);
	for (i = 0; i < VINE_MAX_QUEUES; i++) {
		if (vdev->queues[VINE_SIDE_CLIENT][i])
			wake_up_all(&vdev->queues[VINE_SIDE_CLIENT][i]->wait);
		if (vdev->queues[VINE_SIDE_SERVER][i])
			wake_up_all(&vdev->queues[VINE_SIDE_SERVER][i]->wait);
	}
	for (i = 0; i < VINE_MAX_SERVICES; i++)
		if (vdev->listeners[i])
			vine_wake_listener(vdev->listeners[i]);
	WRITE_ONCE(vdev->tables_seq, vdev->tables_seq + 1);
	spin_unlock_irqrestore(&vdev->ready, flags);
	wake_up_all(&vdev->tables);
}

/* Interrupt, tick and poll timer: any context. */
void vine_dev_drain(struct vine_dev *vdev, u32 vector)
{
	unsigned long flags;

	spin_lock_irqsave(&vdev->vector[vector], flags);
	if (smp_load_acquire(&vdev->joined))	/* pairs with vine_dev_join() */
		vine_drain(vdev->core, vector, vine_marked, vdev);
	spin_unlock_irqrestore(&vdev->vector[vector], flags);
}

static void vine_drain_all(struct vine_dev *vdev)
{
	u32 v;

	for (v = 0; v < max(vdev->bus.vectors, 1U); v++)
		vine_dev_drain(vdev, v);
}

static void vine_ring(struct vine_core *core, u32 ivpos, u32 vector)
{
	struct vine_dev *vdev = container_of(core->ops, struct vine_dev, ops);

	vdev->bus.doorbell(vdev, ivpos, vector);
}

/* An idle device polls less and less; anything that is marked resets that. */
static enum hrtimer_restart vine_poll_timer(struct hrtimer *timer)
{
	struct vine_dev *vdev = container_of(timer, struct vine_dev, poll);
	u64 ns = READ_ONCE(vdev->poll_ns);

	if (!READ_ONCE(vdev->polling))
		return HRTIMER_NORESTART;
	WRITE_ONCE(vdev->poll_ns, min_t(u64, ns + ns / 4, VINE_POLL_MAX_NS));
	vine_drain_all(vdev);
	hrtimer_forward_now(timer, ns_to_ktime(READ_ONCE(vdev->poll_ns)));
	return HRTIMER_RESTART;
}

/* Polls if we get no interrupts, or a peer cannot send any. */
static void vine_poll_if_needed(struct vine_dev *vdev)
{
	bool need = vdev->bus.kind == VINE_KIND_PLAIN || vdev->core->polled_peers;

	if (need == vdev->polling)
		return;
	WRITE_ONCE(vdev->polling, need);
	if (need)
		hrtimer_start(&vdev->poll, ns_to_ktime(VINE_POLL_MIN_NS),
			      HRTIMER_MODE_REL);
	else
		hrtimer_cancel(&vdev->poll);
}

/* ---- joining and being fenced ---- */

/* Private memory for the geometry at hand: a wiped segment may come back larger. */
static int vine_dev_size(struct vine_dev *vdev)
{
	u32 *chunk_use;

	if (vdev->chunks_room >= vdev->geo.chunks)
		return 0;
	chunk_use = kvcalloc(vdev->geo.chunks, sizeof(*chunk_use), GFP_KERNEL);
	if (!chunk_use)
		return -ENOMEM;
	kvfree(vdev->chunk_use);
	vdev->chunk_use = chunk_use;
	vdev->chunks_room = vdev->geo.chunks;
	return 0;
}

/* Under control; nothing of an earlier session is in use. */
static int vine_dev_join(struct vine_dev *vdev)
{
	unsigned int ticks = max(vine_peer_timeout_ms / VINE_TICK_MS, 2U);
	int err;

	err = vine_segment_open(vdev->base, vdev->size, &vdev->geo);
	if (!err)
		err = vine_dev_size(vdev);
	if (err)
		return err;
	vine_core_init(vdev->core, vdev->base, &vdev->geo, vdev->chunk_use,
		       &vdev->ops);
	err = vine_join(vdev->core, vdev->bus.ivposition, vdev->bus.vectors,
			vdev->bus.unique, ticks);
	if (err)
		return err;
	smp_store_release(&vdev->joined, true);	/* the core and the session are ready */
	vine_drain_all(vdev);
	return 0;
}

/* No call, drain or fault touches the segment any more. Under control. */
static void vine_dev_quiesce(struct vine_dev *vdev)
{
	unsigned long flags;
	u32 v;

	/* pairs with vine_enter(): who sees this sees vdev->dead too, and says ENODEV */
	smp_store_release(&vdev->session, vdev->session + 1 ?: 1);
	/* the same */
	smp_store_release(&vdev->joined, false);
	synchronize_srcu(&vdev->srcu);
	for (v = 0; v < ARRAY_SIZE(vdev->vector); v++) {
		spin_lock_irqsave(&vdev->vector[v], flags);
		spin_unlock_irqrestore(&vdev->vector[v], flags);
	}
	unmap_mapping_range(vdev->inode->i_mapping, 0, 0, 1);
	vine_wake_all(vdev);
}

static void vine_forget_all(struct vine_dev *vdev)
{
	struct hlist_node *node, *next;
	unsigned long flags;
	u32 i;

	for (i = 0; i < VINE_MAX_REGIONS; i++)
		hlist_for_each_safe(node, next, &vdev->regions[i])
			hlist_del_init(node);
	spin_lock_irqsave(&vdev->ready, flags);
	memset(vdev->queues, 0, sizeof(vdev->queues));
	memset(vdev->listeners, 0, sizeof(vdev->listeners));
	spin_unlock_irqrestore(&vdev->ready, flags);
}

/*
 * Others count us out: we were paused for too long. They have reused nothing yet
 * and wait for us to say that we have stopped. What was made is lost.
 */
static void vine_dev_fence(struct vine_dev *vdev)
{
	dev_warn_ratelimited(&vdev->dev,
			     "taken for dead by its peers: all queues fail, joining anew\n");
	vine_dev_quiesce(vdev);
	vine_forget_all(vdev);
	vine_leave(vdev->core);
}

/* Others may have begun a segment meanwhile, in what ours was. */
static void vine_dev_join_again(struct vine_dev *vdev)
{
	int err = vine_part_check(vdev, vdev->join_error != -EBUSY);

	if (!err)
		err = vine_dev_join(vdev);
	if (err && err != vdev->join_error)
		dev_warn_ratelimited(&vdev->dev, "cannot join again (%d), trying on\n", err);
	vdev->join_error = err;
}

static void vine_tick_work(struct work_struct *work)
{
	struct vine_dev *vdev = container_of(to_delayed_work(work), struct vine_dev, tick);
	unsigned int what = 0;

	mutex_lock(&vdev->control);
	if (vdev->dead)
		goto out;
	if (vdev->joined)
		what = vine_tick(vdev->core);
	if (what & VINE_TICK_FENCED)
		vine_dev_fence(vdev);
	if (!vdev->joined)
		vine_dev_join_again(vdev);
	if (vdev->joined) {
		vine_poll_if_needed(vdev);
		vine_drain_all(vdev);	/* a doorbell may have been dropped */
	}
	if (what & VINE_TICK_CHANGED)
		vine_wake_all(vdev);
	schedule_delayed_work(&vdev->tick, msecs_to_jiffies(VINE_TICK_MS));
out:
	mutex_unlock(&vdev->control);
}

/* Peers or services changed, or a queue that we had closed has news. */
static void vine_tidy_work(struct work_struct *work)
{
	struct vine_dev *vdev = container_of(work, struct vine_dev, tidy);

	mutex_lock(&vdev->control);
	if (!vdev->dead && vdev->joined) {
		vine_queue_sweep(vdev->core);
		if (xchg(&vdev->tables_news, false))
			vine_wake_all(vdev);
	}
	mutex_unlock(&vdev->control);
}

/* ---- life ---- */

static void vine_dev_release(struct device *dev)
{
	struct vine_dev *vdev = container_of(dev, struct vine_dev, dev);

	if (!IS_ERR_OR_NULL(vdev->inode))
		iput(vdev->inode);
	kvfree(vdev->chunk_use);
	kvfree(vdev->core);
	cleanup_srcu_struct(&vdev->srcu);
	vine_devt_put(vdev->dev.devt);
	kvfree(vdev);
}

static ssize_t offset_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", container_of(dev, struct vine_dev, dev)->offset);
}
static DEVICE_ATTR_RO(offset);

static ssize_t size_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", container_of(dev, struct vine_dev, dev)->size);
}
static DEVICE_ATTR_RO(size);

static struct attribute *vine_dev_attrs[] = {
	&dev_attr_offset.attr,
	&dev_attr_size.attr,
	NULL
};
ATTRIBUTE_GROUPS(vine_dev);

/**
 * vine_dev_alloc() - a device that is not known to anybody yet
 * @parent: the PCI or platform device
 * @offset: of the segment, in its memory
 * @size: of the segment
 *
 * Return: the device, to be given back by vine_dev_free(), or an error pointer.
 */
struct vine_dev *vine_dev_alloc(struct device *parent, u64 offset, u64 size)
{
	struct vine_dev *vdev;
	dev_t devt;
	int err;
	u32 v;

	vdev = kvzalloc(sizeof(*vdev), GFP_KERNEL);
	if (!vdev)
		return ERR_PTR(-ENOMEM);
	err = init_srcu_struct(&vdev->srcu);
	if (err)
		goto free;
	err = vine_devt_get(&devt);
	if (err)
		goto srcu;
	mutex_init(&vdev->control);
	spin_lock_init(&vdev->ready);
	for (v = 0; v < ARRAY_SIZE(vdev->vector); v++)
		spin_lock_init(&vdev->vector[v]);
	vdev->session = 1;
	vdev->offset = offset;
	vdev->size = size;
	init_waitqueue_head(&vdev->tables);
	INIT_DELAYED_WORK(&vdev->tick, vine_tick_work);
	INIT_WORK(&vdev->tidy, vine_tidy_work);
	hrtimer_setup(&vdev->poll, vine_poll_timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	vdev->poll_ns = VINE_POLL_MIN_NS;
	vdev->ops.doorbell = vine_ring;

	device_initialize(&vdev->dev);
	vdev->dev.class = &vine_class;
	vdev->dev.parent = parent;
	vdev->dev.devt = devt;
	vdev->dev.groups = vine_dev_groups;
	vdev->dev.release = vine_dev_release;
	/* from here on vine_dev_free() undoes everything */
	vdev->inode = vine_inode_new();
	if (IS_ERR(vdev->inode))
		err = PTR_ERR(vdev->inode);
	else
		err = dev_set_name(&vdev->dev, "vine%d", MINOR(devt));
	if (err) {
		vine_dev_free(vdev);
		return ERR_PTR(err);
	}
	return vdev;
srcu:
	cleanup_srcu_struct(&vdev->srcu);
free:
	kvfree(vdev);
	return ERR_PTR(err);
}

void vine_dev_free(struct vine_dev *vdev)
{
	put_device(&vdev->dev);
}

static void vine_explain(struct vine_dev *vdev, int err)
{
	struct device *dev = vdev->dev.parent;
	u64 format = le64_to_cpu(READ_ONCE(*(__le64 *)vdev->base));

	switch (err) {
	case -ENOSPC:
		dev_err(dev, "the segment has %llu bytes; vine needs at least %u: left alone\n",
			vdev->size, VINE_MIN_SEGMENT);
		break;
	case -EINVAL:
		dev_err(dev, "the segment holds somebody else's data: left alone; to use it, zero it first\n");
		break;
	case -EPROTONOSUPPORT:
		dev_err(dev, "the segment has wire version %u, or features, that this vine does not know (it knows version %u): left alone; update vine\n",
			VINE_FORMAT_VERSION(format), VINE_WIRE_VERSION);
		break;
	case -EFBIG:
		dev_err(dev, "the segment was made larger than the %llu bytes that this device shows, or is damaged: left alone\n",
			vdev->size);
		break;
	case -EUSERS:
		dev_err(dev, "all %u peer slots of the segment are taken; on another machine, vinectl peers shows them, and vinectl bury frees those of machines that are dead\n", VINE_MAX_PEERS);
		break;
	default:
		dev_err(dev, "cannot start: error %d\n", err);
	}
}

/* Can it be started, as things are? Says why not, and touches nothing. */
int vine_dev_check(struct vine_dev *vdev)
{
	int err = vine_segment_check(vdev->base, vdev->size);

	if (err)
		vine_explain(vdev, err);
	return err;
}

/**
 * vine_dev_start() - join the segment, then make the node appear
 * @vdev: from vine_dev_alloc(), with .bus and .base filled in and interrupts that work
 *
 * Undone by vine_dev_stop() and vine_dev_leave(), with the interrupts freed in
 * between.
 */
int vine_dev_start(struct vine_dev *vdev)
{
	int err;

	vdev->memory_type = vine_memory_type(vdev->base);
	vdev->core = kvzalloc(sizeof(*vdev->core), GFP_KERNEL);
	if (!vdev->core)
		return -ENOMEM;
	mutex_lock(&vdev->control);
	err = vine_dev_join(vdev);
	mutex_unlock(&vdev->control);
	if (err) {
		vine_explain(vdev, err);
		return err;
	}
	schedule_delayed_work(&vdev->tick, 0);
	cdev_init(&vdev->cdev, &vine_node_fops);
	vdev->cdev.owner = THIS_MODULE;
	err = cdev_device_add(&vdev->cdev, &vdev->dev);
	if (err) {
		vine_dev_stop(vdev);
		vine_dev_leave(vdev);
		return err;
	}
	dev_info(&vdev->dev, "peer %u.%u, %llu MiB at offset %llu, %u chunks of %llu KiB, %u vectors, memory %s\n",
		 vdev->core->slot, vdev->core->inc, vdev->size >> 20, vdev->offset, vdev->geo.chunks,
		 1ULL << vdev->geo.shift >> 10, vdev->bus.vectors,
		 vdev->memory_type == VINE_MEMORY_CACHED ? "cached" :
		 vdev->memory_type == VINE_MEMORY_UNCACHED ? "uncached" : "of unknown type");
	if (vdev->memory_type == VINE_MEMORY_UNCACHED)
		dev_warn(&vdev->dev, "shared memory is mapped uncached and slow: its PCI window lies in an uncached range; give the VM UEFI firmware or a segment of 4 GiB, so that it lies above 4 GiB\n");
	return 0;
}

/* No new call, no work, no timer; those who wait are woken with ENODEV. */
void vine_dev_stop(struct vine_dev *vdev)
{
	if (device_is_registered(&vdev->dev))
		cdev_device_del(&vdev->cdev, &vdev->dev);
	mutex_lock(&vdev->control);
	WRITE_ONCE(vdev->dead, true);
	vdev->must_leave = vdev->joined;
	vine_dev_quiesce(vdev);
	mutex_unlock(&vdev->control);
	cancel_delayed_work_sync(&vdev->tick);
	cancel_work_sync(&vdev->tidy);
	WRITE_ONCE(vdev->polling, false);
	hrtimer_cancel(&vdev->poll);
}

/* Interrupts are off: tell the others, and never touch the segment again. */
void vine_dev_leave(struct vine_dev *vdev)
{
	mutex_lock(&vdev->control);
	if (vdev->must_leave)
		vine_leave(vdev->core);
	mutex_unlock(&vdev->control);
}
