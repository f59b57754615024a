// SPDX-License-Identifier: GPL-2.0-only
/*
 * query.c - VINE_QUERY: the tables, for people; VINE_BURY: an administrator's word
 *
 * Other machines write the tables while they are read: each word is read once, and
 * passed on as it is. What is ours, and who made it, stands in private records.
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

static_assert(VINE_QUERY_PEER_LIVE == VINE_PEER_LIVE);
static_assert(VINE_QUERY_PEER_SUSPECT == VINE_PEER_SUSPECT);
static_assert(VINE_QUERY_PEER_GONE == VINE_PEER_GONE);

static bool vine_query_peer(struct vine_dev *vdev, u32 i, const struct vine_asker *asker,
			    union vine_record *record)
{
	struct vine_query_peer *r = &record->peer;
	struct vine_core *c = vdev->core;
	u64 word = vine_ld64_acquire(&vine_peer(c, i)->word);

	if (VINE_PEER_STATE(word) == VINE_PEER_FREE)
		return false;
	r->peer = i;
	r->incarnation = VINE_PEER_INC(word);
	r->state = VINE_PEER_STATE(word);
	r->ivposition = VINE_PEER_IVPOS(word);
	r->vectors = VINE_PEER_VECTORS(word);
	r->beats = vine_ld64(&vine_peer(c, i)->beat);
	if (i == c->slot && r->incarnation == c->inc)
		r->flags |= VINE_QUERY_OWN;
	else if (VINE_PEER_INC(c->seen[i].word) == r->incarnation)
		r->silent_ms = (u64)c->seen[i].idle * VINE_TICK_MS;
	return true;
}

static_assert(VINE_QUERY_SERVICE_CLAIM == VINE_SERVICE_CLAIM);
static_assert(VINE_QUERY_SERVICE_LIVE == VINE_SERVICE_LIVE);

/*
 * How many of 64 queues, of which some have a bit in the backlog, wait for @server? Bits
 * outlive those who have given up.
 */
static u32 vine_count_waiting(struct vine_core *c, u32 first, u64 bits, u64 server)
{
	struct vine_wire_queue *e;
	u32 count = 0;

	for (; bits; bits &= bits - 1) {
		e = vine_queue_entry(c, first + __ffs64(bits));
		count += VINE_CTL_STATE(vine_ld64_acquire(&e->ctl)) == VINE_QUEUE_CONNECTING &&
			vine_ld64(&e->server) == server;
	}
	return count;
}

static bool vine_query_service(struct vine_dev *vdev, u32 i, const struct vine_asker *asker,
			       union vine_record *record)
{
	struct vine_query_service *r = &record->service;
	struct vine_wire_service *s = vine_service(vdev->core, i);
	struct vine_listener_file *lf = vine_find_listener(vdev, i);
	u64 ctl = vine_ld64_acquire(&s->ctl), server, bits;
	u32 n;

	if (VINE_CTL_STATE(ctl) == VINE_SERVICE_FREE)
		return false;
	r->id = vine_service_id(i, VINE_CTL_GEN(ctl));
	r->type = vine_ld64(&s->type);
	r->peer = VINE_CTL_SLOT(ctl);
	r->incarnation = VINE_CTL_INC(ctl);
	r->state = VINE_CTL_STATE(ctl);
	for (n = 0; n < VINE_SERVICE_NAME - 1; n++)
		r->name[n] = READ_ONCE(s->name[n]);
	server = VINE_SERVER(VINE_CTL_GEN(ctl), r->incarnation, r->peer, i);
	for (n = 0; n < ARRAY_SIZE(s->backlog); n++) {
		bits = vine_ld64(&s->backlog[n]);
		if (lf)
			bits |= lf->listener.pending[n];
		r->waiting += vine_count_waiting(vdev->core, n * 64, bits, server);
	}
	if (lf) {
		r->flags |= VINE_QUERY_OWN;
		r->pid = vine_maker_pid(asker, &lf->maker);
	}
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

static_assert(VINE_QUERY_QUEUE_CLAIM == VINE_QUEUE_CLAIM);
static_assert(VINE_QUERY_QUEUE_CONNECTING == VINE_QUEUE_CONNECTING);
static_assert(VINE_QUERY_QUEUE_ACCEPTED == VINE_QUEUE_ACCEPTED);
static_assert(VINE_QUERY_QUEUE_REFUSED == VINE_QUEUE_REFUSED);
static_assert(VINE_QUERY_QUEUE_CANCELLED == VINE_QUEUE_CANCELLED);

static bool vine_query_queue(struct vine_dev *vdev, u32 i, const struct vine_asker *asker,
			     union vine_record *record)
{
	struct vine_queue_file *client = vine_find_queue(vdev, VINE_SIDE_CLIENT, i);
	struct vine_queue_file *server = vine_find_queue(vdev, VINE_SIDE_SERVER, i);
	struct vine_wire_queue *e = vine_queue_entry(vdev->core, i);
	struct vine_query_queue *r = &record->queue;
	u64 ctl = vine_ld64_acquire(&e->ctl), word;
	u32 shift, n;

	if (VINE_CTL_STATE(ctl) == VINE_QUEUE_FREE)
		return false;
	if (!asker->all && !(client && vine_may_know(asker, &client->maker)) &&
	    !(server && vine_may_know(asker, &server->maker)))
		return false;
	r->queue = i;
	r->state = VINE_CTL_STATE(ctl);
	r->client = VINE_CTL_SLOT(ctl);
	r->client_incarnation = VINE_CTL_INC(ctl);
	word = vine_ld64(&e->server);
	r->server = VINE_SERVER_SLOT(word);
	r->server_incarnation = VINE_SERVER_INC(word);
	r->service = vine_service_id(VINE_SERVER_SERVICE(word), VINE_SERVER_GEN(word));
	shift = VINE_RINGS_SHIFT(vine_ld64(&e->rings));
	if (shift < 32 && 1U << shift >= VINE_MIN_DEPTH && 1U << shift <= VINE_MAX_DEPTH)
		r->depth = 1U << shift;
	for (n = 0; n < VINE_MAX_ATTACH; n++)
		r->attached += !!vine_ld64(&e->attach[n]);
	r->to_server = VINE_QUERY_UNKNOWN;
	r->to_client = VINE_QUERY_UNKNOWN;
	if (client) {
		r->flags |= VINE_QUERY_CLIENT;
		r->client_pid = vine_maker_pid(asker, &client->maker);
		vine_count_messages(client, &r->to_client, &r->to_server);
	}
	if (server) {
		r->flags |= VINE_QUERY_SERVER;
		r->server_pid = vine_maker_pid(asker, &server->maker);
		vine_count_messages(server, &r->to_server, &n);
		if (!client)
			r->to_client = n;
	}
	if ((client && READ_ONCE(client->queue.broken)) ||
	    (server && READ_ONCE(server->queue.broken)))
		r->flags |= VINE_QUERY_BROKEN;
	return true;
}

static_assert(VINE_QUERY_REGION_CLAIM == VINE_REGION_CLAIM);
static_assert(VINE_QUERY_REGION_LIVE == VINE_REGION_LIVE);
static_assert(VINE_QUERY_REGION_DYING == VINE_REGION_DYING);

static bool vine_query_region(struct vine_dev *vdev, u32 i, const struct vine_asker *asker,
			      union vine_record *record)
{
	struct vine_query_region *r = &record->region;
	struct vine_core *c = vdev->core;
	struct vine_wire_region *e = vine_region_entry(c, i);
	const struct vine_use *use = &c->use[i];
	u64 ctl = vine_ld64_acquire(&e->ctl), count;
	struct vine_region_file *rf;
	bool known = asker->all;
	u32 n;

	if (VINE_CTL_STATE(ctl) == VINE_REGION_FREE)
		return false;
	hlist_for_each_entry(rf, &vdev->regions[i], node) {
		known |= vine_may_know(asker, &rf->maker);
		if (!r->pid)
			r->pid = vine_maker_pid(asker, &rf->maker);
	}
	if (!known)
		return false;
	r->id = VINE_REGION_ID(VINE_CTL_GEN(ctl), i);
	r->peer = VINE_CTL_SLOT(ctl);
	r->incarnation = VINE_CTL_INC(ctl);
	r->state = VINE_CTL_STATE(ctl);
	count = VINE_EXTENT_COUNT(vine_ld64(&e->extent));
	if (count <= c->geo.chunks)
		r->bytes = count << c->geo.shift;
	for (n = 0; n < VINE_MAX_PEERS; n++)
		if (vine_ld32(&e->hold[n]))
			r->holders |= 1ULL << n;
	if (use->id == r->id) {
		r->users = use->refs;
		r->flags |= use->own ? VINE_QUERY_OWN : 0;
		r->flags |= use->rings ? VINE_QUERY_RINGS : 0;
	}
	return true;
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
