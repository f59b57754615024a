// SPDX-License-Identifier: GPL-2.0-only
/*
 * query.c - VINE_QUERY: the tables, for people; VINE_BURY: an administrator's word
 *
 * core/query.c says what is in the tables; here is who made what, and who may be told.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/nospec.h>
#include <linux/pid.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "driver.h"

/* ---- whose things are ---- */

void vine_maker_set(struct vine_maker *maker)
{
	maker->pid = get_pid(task_tgid(current));
	maker->uid = current_euid();
}

void vine_maker_drop(struct vine_maker *maker)
{
	put_pid(maker->pid);
}

/* What the caller may be told. */
struct vine_asker {
	bool all;
	kuid_t uid;
};

static bool vine_may_know(const struct vine_asker *asker, const struct vine_maker *maker)
{
	return asker->all || uid_eq(asker->uid, maker->uid);
}

/* The process as the caller knows it; 0 when it has ended, or is none of its business. */
static u32 vine_maker_pid(const struct vine_asker *asker, const struct vine_maker *maker)
{
	u32 pid = 0;

	rcu_read_lock();
	if (vine_may_know(asker, maker) && pid_task(maker->pid, PIDTYPE_TGID))
		pid = pid_vnr(maker->pid);
	rcu_read_unlock();
	return pid;
}

/* ---- the tables: functions below are entered, under control ---- */

/*
 * Our side of a queue, or NULL; our listener of a service, or NULL. Those who free
 * them take the control lock after they have taken them off these tables, or have it
 * then: what is found stays as long as we have it.
 */
static struct vine_queue_file *vine_find_queue(struct vine_dev *vdev, u32 side, u32 i)
{
	struct vine_queue_file *qf;

	spin_lock_irq(&vdev->ready);
	qf = vdev->queues[side][i];
	spin_unlock_irq(&vdev->ready);
	return qf;
}

static struct vine_listener_file *vine_find_listener(struct vine_dev *vdev, u32 i)
{
	struct vine_listener_file *lf;

	spin_lock_irq(&vdev->ready);
	lf = vdev->listeners[i];
	spin_unlock_irq(&vdev->ready);
	return lf;
}

union vine_record {
	struct vine_query_peer peer;
	struct vine_query_service service;
	struct vine_query_queue queue;
	struct vine_query_region region;
};

static bool vine_query_peer(struct vine_dev *vdev, u32 i, const struct vine_asker *asker,
			    union vine_record *record)
{
	return vine_describe_peer(vdev->core, i, VINE_TICK_MS, &record->peer);
}

static bool vine_query_service(struct vine_dev *vdev, u32 i, const struct vine_asker *asker,
			       union vine_record *record)
{
	struct vine_listener_file *lf = vine_find_listener(vdev, i);

	if (!vine_describe_service(vdev->core, i, lf ? &lf->listener : NULL, &record->service))
		return false;
	if (lf)
		record->service.pid = vine_maker_pid(asker, &lf->maker);
	return true;
}

/* The messages that wait in the two directions of a queue, as our side @qf sees them. */
static void vine_count_messages(struct vine_queue_file *qf, u32 *to_us, u32 *from_us)
{
	struct vine_queue *q = &qf->queue;
	int space;

	spin_lock(&qf->rx);
	*to_us = vine_ring_waiting(&q->rx);
	spin_unlock(&qf->rx);
	spin_lock(&qf->tx);
	space = vine_ring_space(&q->tx, q->tx.depth);
	*from_us = space < 0 ? VINE_QUERY_UNKNOWN : q->tx.depth - space;
	spin_unlock(&qf->tx);
}

static bool vine_query_queue(struct vine_dev *vdev, u32 i, const struct vine_asker *asker,
			     union vine_record *record)
{
	struct vine_queue_file *client = vine_find_queue(vdev, VINE_SIDE_CLIENT, i);
	struct vine_queue_file *server = vine_find_queue(vdev, VINE_SIDE_SERVER, i);
	struct vine_query_queue *r = &record->queue;
	u32 waiting;

	if (!asker->all && !(client && vine_may_know(asker, &client->maker)) &&
	    !(server && vine_may_know(asker, &server->maker)))
		return false;
	if (!vine_describe_queue(vdev->core, i, r))
		return false;
	if (client) {
		r->flags |= VINE_QUERY_CLIENT;
		r->client_pid = vine_maker_pid(asker, &client->maker);
		vine_count_messages(client, &r->to_client, &r->to_server);
	}
	if (server) {
		r->flags |= VINE_QUERY_SERVER;
		r->server_pid = vine_maker_pid(asker, &server->maker);
		vine_count_messages(server, &r->to_server, &waiting);
		if (!client)
			r->to_client = waiting;
	}
	if ((client && READ_ONCE(client->queue.broken)) ||
	    (server && READ_ONCE(server->queue.broken)))
		r->flags |= VINE_QUERY_BROKEN;
	return true;
}

static bool vine_query_region(struct vine_dev *vdev, u32 i, const struct vine_asker *asker,
			      union vine_record *record)
{
	struct vine_query_region *r = &record->region;
	struct vine_region_file *rf;
	bool known = asker->all;

	hlist_for_each_entry(rf, &vdev->regions[i], node) {
		known |= vine_may_know(asker, &rf->maker);
		if (!r->pid)
			r->pid = vine_maker_pid(asker, &rf->maker);
	}
	return known && vine_describe_region(vdev->core, i, r);
}

/* ---- calls ---- */

static const struct vine_table {
	u32 entries;
	u32 size;	/* of a record */
	/* False: entry @i is free, or none of the caller's business. @record is zeroed. */
	bool (*read)(struct vine_dev *vdev, u32 i, const struct vine_asker *asker,
		     union vine_record *record);
} vine_tables[] = {
	[VINE_QUERY_PEERS] = {
		VINE_MAX_PEERS, sizeof(struct vine_query_peer), vine_query_peer
	},
	[VINE_QUERY_SERVICES] = {
		VINE_MAX_SERVICES, sizeof(struct vine_query_service), vine_query_service
	},
	[VINE_QUERY_QUEUES] = {
		VINE_MAX_QUEUES, sizeof(struct vine_query_queue), vine_query_queue
	},
	[VINE_QUERY_REGIONS] = {
		VINE_MAX_REGIONS, sizeof(struct vine_query_region), vine_query_region
	},
};

int vine_do_query(struct file *file, void *arg, struct vine_new *new)
{
	struct vine_asker asker = { .uid = current_euid() };
	struct vine_dev *vdev = file->private_data;
	struct vine_query *q = arg;
	void __user *to = u64_to_user_ptr(q->array);
	u32 room = q->count, count = 0, i;
	const struct vine_table *table;
	union vine_record record;
	int err, srcu;
	bool told;

	if (q->flags)
		return -EOPNOTSUPP;
	if (!q->what || q->what >= ARRAY_SIZE(vine_tables))
		return -EINVAL;
	table = &vine_tables[array_index_nospec(q->what, ARRAY_SIZE(vine_tables))];
	/* who has not got it is told less, and has done nothing wrong */
	asker.all = ns_capable_noaudit(&init_user_ns, CAP_SYS_ADMIN);
	for (i = 0; i < table->entries; i++) {
		err = vine_control_enter(vdev, VINE_SESSION_ANY, &srcu);
		if (err)
			return err;
		memset(&record, 0, sizeof(record));
		told = table->read(vdev, i, &asker, &record);
		vine_control_exit(vdev, srcu);
		if (!told)
			continue;
		if (count < room && copy_to_user(to + (size_t)count * table->size, &record,
						 table->size))
			return -EFAULT;
		count++;
	}
	q->count = count;
	return 0;
}

int vine_do_bury(struct file *file, void *arg, struct vine_new *new)
{
	struct vine_dev *vdev = file->private_data;
	struct vine_bury *b = arg;
	int err, srcu;

	if (b->flags)
		return -EOPNOTSUPP;
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	err = vine_control_enter(vdev, VINE_SESSION_ANY, &srcu);
	if (err)
		return err;
	err = vine_peer_bury(vdev->core, b->peer, b->incarnation);
	if (!err)
		dev_notice(&vdev->dev, "peer %u.%u was declared gone by %s (%d)\n", b->peer,
			   b->incarnation, current->comm, task_tgid_nr(current));
	vine_control_exit(vdev, srcu);
	return err;
}
