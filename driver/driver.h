/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * driver.h - the kernel shell: a segment, its descriptors, and their rules
 *
 * Locks, outermost first:
 *   vdev->control         mutex: the core's [control]; may be held for long
 *   queue->push, ->pull   mutexes: one transfer per direction; held across user
 *                         access, so nothing that tears down ever takes them
 *   vdev->srcu            a read section surrounds each touch of the segment and
 *                         each fault; never held across user access, nor while
 *                         waiting for a lock above. Tearing down forbids, then
 *                         synchronises.
 *   queue->tx, ->rx       spinlocks: the core's ring state
 *   core's rung lock      spinlock: doorbells to one peer
 *   vector lock           spinlock, irqs off: the core's drain of one vector; inside
 *                         the rung lock on loopback
 *   vdev->ready           spinlock, irqs off: who is to be woken
 */
#ifndef VINE_DRIVER_H
#define VINE_DRIVER_H

#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/srcu.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "core/core.h"
#include <linux/vine.h>

#define VINE_TICK_MS		250
#define VINE_MAX_DEVICES	64

struct vine_dev;
struct vine_queue_file;
struct vine_listener_file;

/* What a bus gives, to all parts of a device: filled in before vine_parts_start(). */
struct vine_bus {
	u32 kind;		/* VINE_KIND_* */
	u32 ivposition;
	bool unique;		/* nobody else alive can have that IVPosition */
	u32 vectors;		/* with a working interrupt; 0: poll */
	void *base;		/* the mapped memory, whole */
	/* page frame of a page of the segment */
	unsigned long (*pfn)(struct vine_dev *vdev, pgoff_t page);
	/* raise an interrupt: any context */
	void (*doorbell)(struct vine_dev *vdev, u32 ivposition, u32 vector);
	void *priv;
};

struct vine_dev {
	struct device dev;
	struct cdev cdev;
	int id;
	struct vine_bus bus;
	u64 offset, size;	/* of the segment, in the device's memory */
	void *base;		/* of the segment, mapped */
	struct vine_ops ops;
	struct vine_geometry geo;
	u32 memory_type;
	struct inode *inode;	/* address space of all mappings of this device */

	struct srcu_struct srcu;
	bool dead;		/* unplugged or unbound: for good */
	bool joined;		/* we have a peer slot */
	bool must_leave;	/* we had one when we were stopped */
	int join_error;		/* why we cannot join again: said once */
	u32 session;		/* counts quiesces: what was made before is lost */

	struct mutex control;	/* serialises the core; see core.h */
	struct vine_core *core;
	u32 *chunk_use;
	u32 chunks_room;	/* of chunk_use */
	spinlock_t vector[64];	/* one drain of each at a time */

	struct hlist_head regions[VINE_MAX_REGIONS];	/* under control: who uses each */

	spinlock_t ready;	/* protects the tables below */
	struct vine_queue_file *queues[2][VINE_MAX_QUEUES];
	struct vine_listener_file *listeners[VINE_MAX_SERVICES];
	wait_queue_head_t tables;	/* services or peers changed */
	unsigned int tables_seq;
	bool tables_news;	/* marked: everybody is to be woken */

	struct delayed_work tick;
	struct work_struct tidy;
	struct hrtimer poll;	/* when an interrupt cannot come */
	u64 poll_ns;
	bool polling;
};

/* The process that made a descriptor, for VINE_QUERY. */
struct vine_maker {
	struct pid *pid;
	kuid_t uid;
};

struct vine_listener_file {
	struct vine_dev *vdev;
	struct vine_maker maker;
	u32 session;
	struct vine_listener listener;
	wait_queue_head_t wait;
	unsigned int news;	/* counts marks */
};

struct vine_queue_file {
	struct vine_dev *vdev;
	struct vine_maker maker;
	u32 session;
	struct vine_queue queue;
	bool connected;		/* accepted, as far as we have seen */
	struct mutex push, pull;
	spinlock_t tx, rx;
	wait_queue_head_t wait;
};

struct vine_region_file {
	struct vine_dev *vdev;
	struct vine_maker maker;
	struct hlist_node node;	/* in vdev->regions[] */
	u32 session;
	u64 id;
	bool own;
	pgoff_t first;		/* page in the segment */
	u64 bytes;
};

/* ---- device.c ---- */

struct vine_dev *vine_dev_alloc(struct device *parent, u64 offset, u64 size);
int vine_dev_check(struct vine_dev *vdev);
int vine_dev_start(struct vine_dev *vdev);
void vine_dev_stop(struct vine_dev *vdev);
void vine_dev_leave(struct vine_dev *vdev);
void vine_dev_free(struct vine_dev *vdev);
void vine_dev_drain(struct vine_dev *vdev, u32 vector);

/* sparse cannot follow a section that begins in some cases only: hide it */
static inline int vine_srcu_lock(struct vine_dev *vdev)
{
	int srcu = srcu_read_lock(&vdev->srcu);

	__release(&vdev->srcu);
	return srcu;
}

static inline void vine_exit(struct vine_dev *vdev, int srcu)
{
	__acquire(&vdev->srcu);
	srcu_read_unlock(&vdev->srcu, srcu);
}

#define VINE_SESSION_ANY	0	/* of a device descriptor: the current one */

/**
 * vine_enter() - begin to touch the segment on behalf of something of @session
 *
 * Return: 0 with *@srcu to give to vine_exit(), -ENODEV or -ENOTCONN.
 */
static inline int vine_enter(struct vine_dev *vdev, u32 session, int *srcu)
{
	int err;

	*srcu = vine_srcu_lock(vdev);
	/* the loads in this order, the stores in the other: dead comes before the rest */
	if (smp_load_acquire(&vdev->joined) &&	/* pairs with vine_dev_join() */
	    (session == VINE_SESSION_ANY ||
	     session == smp_load_acquire(&vdev->session)))	/* and vine_dev_quiesce() */
		err = 0;
	else
		err = -ENOTCONN;
	if (READ_ONCE(vdev->dead))
		err = -ENODEV;
	if (!err)
		return 0;
	vine_exit(vdev, *srcu);
	return err;
}

/* As vine_enter(), with the control lock taken first; interruptible. */
int vine_control_enter(struct vine_dev *vdev, u32 session, int *srcu);
void vine_control_exit(struct vine_dev *vdev, int srcu);
/* The same for a release: cannot fail to lock. True when there is work to do. */
bool vine_control_enter_release(struct vine_dev *vdev, u32 session, int *srcu);

/*
 * Sleeps until @condition or the deadline (absolute ns). 0, -ETIMEDOUT, or
 * -ERESTARTSYS for a signal.
 */
#define vine_wait_until(wq, condition, deadline)				\
({										\
	u64 __dl = (deadline);							\
	ktime_t __at = ns_to_ktime(min_t(u64, __dl, KTIME_MAX));		\
										\
	(int)___wait_event(wq, condition, TASK_INTERRUPTIBLE, 0, 0,		\
		if (!schedule_hrtimeout(__dl > KTIME_MAX ? NULL : &__at,	\
					HRTIMER_MODE_ABS)) {			\
			__ret = (condition) ? 0 : -ETIMEDOUT;			\
			break;							\
		});								\
})

/* ---- parts.c: the segments in one device's memory ---- */

struct vine_parts {
	u32 count;
	struct {
		u64 offset, size;
		struct vine_dev *vdev;
	} part[VINE_MAX_DEVICES];
};

int vine_parts_alloc(struct vine_parts *parts, struct device *parent, u64 size);
int vine_parts_start(struct vine_parts *parts, const struct vine_bus *bus);
int vine_part_check(struct vine_dev *vdev, bool say);
void vine_parts_drain(struct vine_parts *parts, u32 vector);
void vine_parts_stop(struct vine_parts *parts);
void vine_parts_leave(struct vine_parts *parts);
void vine_parts_free(struct vine_parts *parts);

/* ---- calls.c: ioctl ---- */

/* What a call makes: installed once its number has reached the user. */
struct vine_new {
	struct file *file;
	int fd;
};

struct vine_call {
	unsigned int cmd;
	u32 min_size, size;
	int (*fn)(struct file *file, void *arg, struct vine_new *new);
};

#define VINE_CALL(_cmd, _struct, _last, _fn)					\
	{ .cmd = _cmd, .min_size = offsetofend(struct _struct, _last),		\
	  .size = sizeof(struct _struct), .fn = _fn }

long vine_call(struct file *file, unsigned int cmd, unsigned long arg,
	       const struct vine_call *calls, size_t count);

/*
 * Makes a descriptor of @vdev: reserves the number and the file. On success the
 * file owns @priv.
 */
int vine_new_file(struct vine_new *new, struct vine_dev *vdev, const char *name,
		  const struct file_operations *fops, void *priv, unsigned int flags);

/* ---- node.c: /dev/vineN ---- */

extern const struct file_operations vine_node_fops;
int vine_inodes_init(void);
void vine_inodes_exit(void);
/* An inode for the mappings of one device; iput() it. */
struct inode *vine_inode_new(void);

/* ---- listener.c, queue.c, transfer.c, region.c: the calls ---- */

int vine_do_listen(struct file *file, void *arg, struct vine_new *new);
int vine_do_connect(struct file *file, void *arg, struct vine_new *new);
int vine_do_region(struct file *file, void *arg, struct vine_new *new);
int vine_do_attach(struct file *file, void *arg, struct vine_new *new);
int vine_do_import(struct file *file, void *arg, struct vine_new *new);
int vine_do_transfer(struct file *file, void *arg, struct vine_new *new);

struct vine_queue_file *vine_queue_new(struct vine_dev *vdev);
void vine_queue_publish(struct vine_queue_file *qf);
void vine_queue_free(struct vine_queue_file *qf);
extern const struct file_operations vine_queue_fops;
extern const struct file_operations vine_region_fops;

/* Client: has the server accepted? 0, -EINPROGRESS, -ECONNREFUSED, -EIO; entered. */
int vine_queue_connected(struct vine_queue_file *qf);
void vine_queue_break(struct vine_queue_file *qf);
int vine_queue_readable(struct vine_queue_file *qf);
int vine_queue_writable(struct vine_queue_file *qf);

/* ---- query.c: VINE_QUERY, VINE_BURY ---- */

int vine_do_query(struct file *file, void *arg, struct vine_new *new);
int vine_do_bury(struct file *file, void *arg, struct vine_new *new);
void vine_maker_set(struct vine_maker *maker);
void vine_maker_drop(struct vine_maker *maker);

/* ---- the rest ---- */

u32 vine_memory_type(void *base);

extern struct class vine_class;
extern unsigned int vine_peer_timeout_ms;
extern bool vine_plain;
int vine_devt_get(dev_t *devt);
void vine_devt_put(dev_t devt);
int vine_pci_init(void);
void vine_pci_exit(void);
int vine_loopback_init(void);
void vine_loopback_exit(void);

#endif /* VINE_DRIVER_H */
