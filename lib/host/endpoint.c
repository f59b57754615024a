// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * endpoint.c - the life of an endpoint: open, join, beat, wake, be fenced, end
 *
 * One thread for each beats, takes what is marked, and wakes. It sleeps on the endpoint's
 * bell; when there is a peer that cannot ring that, it looks again and again.
 */
#include "host/endpoint.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#define POLL_MIN_NS	50000
#define POLL_MAX_NS	10000000
#define LATE_NS		10000000	/* until what could not be shown is tried again */

static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static struct host_endpoint *all;

static struct host_endpoint *endpoint_of(struct vine_core *core)
{
	return (struct host_endpoint *)((char *)core - offsetof(struct host_endpoint, core));
}

/* ---- entering ---- */

int host_entered(struct host_endpoint *ep, unsigned int session)
{
	if (atomic_load_explicit(&ep->dead, memory_order_relaxed) ||
	    atomic_load_explicit(&ep->segment->dead, memory_order_relaxed))
		return -ENODEV;
	if (!atomic_load_explicit(&ep->joined, memory_order_acquire) ||
	    (session && session != atomic_load_explicit(&ep->session, memory_order_acquire)))
		return -ENOTCONN;
	return 0;
}

int host_control(struct host_endpoint *ep, unsigned int session)
{
	int err;

	/* before it is waited for: in a fork's child nobody gives it back */
	if (atomic_load(&ep->dead))
		return -ENODEV;
	pthread_mutex_lock(&ep->control);
	err = host_entered(ep, session);
	if (err)
		pthread_mutex_unlock(&ep->control);
	return err;
}

bool host_control_end(struct host_endpoint *ep, unsigned int session)
{
	return session && !host_control(ep, session);
}

/* ---- the core's calls ---- */

static void op_doorbell(struct vine_core *core, u32 ivpos, u32 vector)
{
	struct host_endpoint *ep = endpoint_of(core);

	/* without a server there is none: who talks to us polls */
	if (ep->server)
		host_server_ring(ep->server, ivpos, vector);
}

static void op_wake(struct vine_core *core, __le64 *bell)
{
	(void)core;
	host_bell_wake(bell);
}

static bool op_lock(struct vine_core *core, u32 slot, bool on)
{
	struct host_endpoint *ep = endpoint_of(core);
	struct flock l = {
		.l_type = on ? F_WRLCK : F_UNLCK, .l_whence = SEEK_SET,
		.l_start = ep->off + slot, .l_len = 1,
	};

	if (!fcntl(ep->lock_fd, F_OFD_SETLK, &l))
		return true;
	if (errno != EAGAIN && errno != EACCES)
		ep->lock_error = -errno;
	return false;
}

bool host_locked(struct host_endpoint *ep, u64 byte)
{
	struct flock l = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = ep->off + byte, .l_len = 1,
	};

	return fcntl(ep->lock_fd, F_OFD_GETLK, &l) || l.l_type != F_UNLCK;
}

/* Nor are there processes to which it has given what it had imported. */
static bool op_dead(struct vine_core *core, u32 slot)
{
	struct host_endpoint *ep = endpoint_of(core);

	return !host_locked(ep, slot) && !host_locked(ep, HOST_HOLDS + slot);
}

static int op_room(struct vine_core *core, u64 offset, u64 bytes)
{
	return host_segment_room(endpoint_of(core)->segment, offset, bytes);
}

static const struct vine_ops ops = {
	.doorbell = op_doorbell, .wake = op_wake, .lock = op_lock, .dead = op_dead,
	.room = op_room,
};

/* ---- waking ---- */

/* The core says which bits are marked. With drain. */
static void marked(void *arg, u32 leaf, u64 bits)
{
	struct host_endpoint *ep = arg;
	struct host_listener *lf;
	struct host_queue *q;
	u32 i, side;

	if (leaf >= VINE_LEAF_TABLES) {
		atomic_store(&ep->tables_news, true);
		atomic_store(&ep->tidy, true);
		return;
	}
	pthread_mutex_lock(&ep->ready);
	for (; bits; bits &= bits - 1) {
		i = vine_lowest_bit(bits);
		if (leaf >= VINE_LEAF_SERVICE) {
			lf = ep->listeners[(leaf - VINE_LEAF_SERVICE) * 64 + i];
			if (lf)
				host_listener_news(lf);
			continue;
		}
		side = leaf >= VINE_LEAF_SERVER ? VINE_SIDE_SERVER : VINE_SIDE_CLIENT;
		q = ep->queues[side][leaf % 64 * 64 + i];
		if (q)
			host_queue_refresh(q);
		else	/* of a queue that we have closed: the other side has too? */
			atomic_store(&ep->tidy, true);
	}
	pthread_mutex_unlock(&ep->ready);
	atomic_store(&ep->poll_ns, POLL_MIN_NS);
}

/* Everybody looks again: peers, or the endpoint, have changed. With control. */
static void wake_all(struct host_endpoint *ep)
{
	u32 i;

	pthread_mutex_lock(&ep->ready);
	for (i = 0; i < VINE_MAX_QUEUES; i++) {
		if (ep->queues[VINE_SIDE_CLIENT][i])
			host_queue_refresh(ep->queues[VINE_SIDE_CLIENT][i]);
		if (ep->queues[VINE_SIDE_SERVER][i])
			host_queue_refresh(ep->queues[VINE_SIDE_SERVER][i]);
	}
	for (i = 0; i < VINE_MAX_SERVICES; i++)
		if (ep->listeners[i])
			host_listener_refresh(ep->listeners[i]);
	if (ep->device && host_entered(ep, 0) == -ENODEV)
		host_poll_fail(&ep->device->poll);
	pthread_mutex_unlock(&ep->ready);
	atomic_fetch_add(&ep->tables, 1);
	host_wake(&ep->tables);
}

/* Peers or services changed, or a queue that we had closed has news. */
static void tidy(struct host_endpoint *ep)
{
	if (!atomic_exchange(&ep->tidy, false) || host_control(ep, 0))
		return;
	vine_queue_sweep(&ep->core);
	if (atomic_exchange(&ep->tables_news, false))
		wake_all(ep);
	pthread_mutex_unlock(&ep->control);
}

void host_take_marks(struct host_endpoint *ep, u32 vector)
{
	u32 v;

	pthread_mutex_lock(&ep->drain);
	if (!host_entered(ep, 0)) {
		if (vector < VINE_MAX_VECTORS)
			vine_drain(&ep->core, vector, marked, ep);
		for (v = 0; vector == VINE_MAX_VECTORS && (v < ep->vectors || !v); v++)
			vine_drain(&ep->core, v, marked, ep);
	}
	pthread_mutex_unlock(&ep->drain);
}

void host_drain(struct host_endpoint *ep, u32 vector)
{
	host_queues_late(ep);
	host_take_marks(ep, vector);
	tidy(ep);
}

/* ---- joining and being fenced ---- */

/* Private memory for the geometry at hand: a cleared segment may come back larger. */
static int make_room(struct host_endpoint *ep)
{
	if (ep->chunks_room >= ep->geo.chunks)
		return 0;
	free(ep->chunk_use);
	ep->chunks_room = 0;
	ep->chunk_use = calloc(ep->geo.chunks, sizeof(*ep->chunk_use));
	if (!ep->chunk_use)
		return -ENOMEM;
	ep->chunks_room = ep->geo.chunks;
	return 0;
}

/* With control; nothing of an earlier session is in use. */
static int join(struct host_endpoint *ep)
{
	u64 size = vine_ld64((__le64 *)ep->segment->base) ? ep->segment->size : ep->size;
	int err;

	err = vine_segment_open(ep->segment->base, size, &ep->geo);
	if (!err)
		err = make_room(ep);
	if (err)
		return err;
	vine_core_init(&ep->core, ep->segment->base, &ep->geo, ep->chunk_use, &ep->ops);
	ep->lock_error = 0;
	err = vine_join(&ep->core, ep->ivposition, ep->vectors, ep->server != NULL,
			HOST_TIMEOUT_MS / HOST_TICK_MS);
	if (err == -EUSERS && ep->lock_error)
		err = -ENOLCK;
	if (err)
		return err;
	memset(ep->unput, 0, sizeof(ep->unput));
	ep->unputs = 0;
	atomic_store_explicit(&ep->joined, true, memory_order_release);
	return 0;
}

static void pass(pthread_mutex_t *mutex)
{
	pthread_mutex_lock(mutex);
	pthread_mutex_unlock(mutex);
}

/* No call and no drain touches the segment any more. With control. */
static void quiesce(struct host_endpoint *ep)
{
	unsigned int session = atomic_load(&ep->session) + 1;
	u32 i, side;

	atomic_store(&ep->session, session ? session : 1);
	atomic_store(&ep->joined, false);
	pass(&ep->drain);
	pthread_mutex_lock(&ep->ready);
	for (side = 0; side < 2; side++) {
		for (i = 0; i < VINE_MAX_QUEUES; i++) {
			if (!ep->queues[side][i])
				continue;
			pass(&ep->queues[side][i]->tx);
			pass(&ep->queues[side][i]->rx);
		}
	}
	pthread_mutex_unlock(&ep->ready);
	host_regions_lost(ep);
	wake_all(ep);
	pthread_mutex_lock(&ep->ready);
	memset(ep->queues, 0, sizeof(ep->queues));
	memset(ep->listeners, 0, sizeof(ep->listeners));
	pthread_mutex_unlock(&ep->ready);
}

/*
 * What we had becomes others', unless somebody can write there still: us, or who has got a
 * descriptor of an import from us. Until then our slot keeps it.
 */
static void leave(struct host_endpoint *ep)
{
	u32 slot = ep->core.slot;

	if (!host_regions_lost(ep) || host_locked(ep, HOST_HOLDS + slot))
		return;
	vine_leave(&ep->core);
	op_lock(&ep->core, slot, false);
	ep->fenced = false;
}

/* Unless somebody truncates it, or has begun another one in what it was: then at the next beat. */
static void join_anew(struct host_endpoint *ep)
{
	struct host_name name = { .off = ep->off, .size = ep->size };

	if (host_lock_begin(ep->lock_fd, ep->off))
		return;
	if (!host_check_overlap(ep->lock_fd, &name, false))
		join(ep);
	host_lock_ready(ep->lock_fd, ep->off);
}

static void beat(struct host_endpoint *ep)
{
	unsigned int what = 0;

	pthread_mutex_lock(&ep->control);
	if (atomic_load(&ep->segment->dead) && !atomic_load(&ep->dead)) {
		atomic_store(&ep->dead, true);
		quiesce(ep);
	}
	if (atomic_load(&ep->dead))
		goto out;
	if (atomic_load(&ep->joined)) {
		host_regions_unmapped(ep);
		what = vine_tick(&ep->core);
	}
	/* others count us out: we were stopped for too long, or the segment was cleared */
	if (what & VINE_TICK_FENCED) {
		quiesce(ep);
		ep->fenced = true;
	}
	if (ep->fenced)
		leave(ep);
	if (!atomic_load(&ep->joined) && !ep->fenced)
		join_anew(ep);
	ep->polling = atomic_load(&ep->joined) && ep->core.polled_peers;
	if (what & VINE_TICK_CHANGED)
		wake_all(ep);
out:
	pthread_mutex_unlock(&ep->control);
}

/* ---- the thread ---- */

__le64 *host_bell(struct host_endpoint *ep)
{
	return &vine_peer(&ep->core, ep->core.slot)->vector[0].bell;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void *endpoint_thread(void *arg)
{
	struct host_endpoint *ep = arg;
	uint64_t next = 0, until, ns;	/* it may have to poll from the first */
	u32 seen;

	pthread_setname_np(pthread_self(), "vine");
	for (;;) {
		if (host_now() >= next) {
			beat(ep);
			next = host_now() + HOST_TICK_MS * 1000000ULL;
		}
		seen = (u32)vine_ld64_acquire(host_bell(ep));	/* before the look */
		if (atomic_load(&ep->quit))
			return NULL;
		host_drain(ep, VINE_MAX_VECTORS);
		until = next;
		if (atomic_load(&ep->late))
			until = earlier(until, host_now() + LATE_NS);
		if (ep->polling) {	/* less and less, until something is marked */
			ns = atomic_load(&ep->poll_ns);
			atomic_store(&ep->poll_ns, earlier(ns + ns / 4, POLL_MAX_NS));
			until = earlier(until, host_now() + ns);
		}
		host_bell_sleep(host_bell(ep), seen, until);
	}
}

/* Wakes our own thread. When the segment is gone, it looks by itself in a while. */
static void nudge(struct host_endpoint *ep)
{
	u64 bell;

	if (host_control(ep, 0))
		return;
	bell = vine_ld64(host_bell(ep));
	vine_cas64(host_bell(ep), bell, bell + 1);
	host_bell_wake(host_bell(ep));
	pthread_mutex_unlock(&ep->control);
}

static int start_thread(struct host_endpoint *ep)
{
	sigset_t every, old;
	int err;

	sigfillset(&every);
	sigdelset(&every, SIGBUS);	/* ours, when the file is truncated */
	pthread_sigmask(SIG_SETMASK, &every, &old);
	err = pthread_create(&ep->thread, NULL, endpoint_thread, ep);
	ep->running = !err;
	if (!err && ep->server)
		err = -host_server_start(ep->server, ep);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -err;
}

/* ---- forks ---- */

static void fork_prepare(void)
{
	struct host_endpoint *ep;

	pthread_mutex_lock(&all_lock);
	host_maps_lock();
	host_segments_lock();
	host_table_lock();
	for (ep = all; ep; ep = ep->next)
		if (ep->server)
			host_server_lock(ep->server);
	host_polls_lock();
}

static void fork_parent(void)
{
	struct host_endpoint *ep;

	host_polls_unlock();
	for (ep = all; ep; ep = ep->next)
		if (ep->server)
			host_server_unlock(ep->server);
	host_table_unlock();
	host_segments_unlock();
	host_maps_unlock();
	pthread_mutex_unlock(&all_lock);
}

/* The child has no mapping, no thread and no lock; its copies must not keep ours alive. */
static void fork_child(void)
{
	host_polls_forked();
	host_table_forked();
	for (; all; all = all->next) {
		atomic_store(&all->dead, true);
		if (all->lock_fd >= 0)	/* else it is only just being opened */
			close(all->lock_fd);
		if (all->server)
			host_server_forked(all->server);
	}
	host_segments_forked();
	host_maps_forked();
	pthread_mutex_unlock(&all_lock);
}

/*
 * Before those of lib/talk, which call us under their locks: then a fork takes ours after
 * theirs.
 */
static int fork_error;
static __attribute__((constructor(101))) void watch_forks(void)
{
	fork_error = pthread_atfork(fork_prepare, fork_parent, fork_child);
}

/* ---- life ---- */

static void end(struct host_endpoint *ep)
{
	struct host_endpoint **at;

	atomic_store(&ep->quit, true);
	if (ep->running) {
		nudge(ep);
		pthread_join(ep->thread, NULL);
	}
	if (ep->server)
		host_server_stop(ep->server);
	/* rings the others; who cannot leave now is found by its locks, when they are gone */
	if (ep->segment && (ep->fenced ? host_entered(ep, 0) != -ENODEV : !host_entered(ep, 0)))
		leave(ep);
	/* until they are closed, a fork's child has them to close */
	pthread_mutex_lock(&all_lock);
	for (at = &all; *at && *at != ep; at = &(*at)->next)
		;
	if (*at)
		*at = ep->next;
	if (ep->server)
		host_server_close(ep->server);
	if (ep->lock_fd >= 0)
		close(ep->lock_fd);
	pthread_mutex_unlock(&all_lock);
	if (ep->segment)
		host_segment_put(ep->segment);
	free(ep->chunk_use);
	pthread_mutex_destroy(&ep->control);
	pthread_mutex_destroy(&ep->drain);
	pthread_mutex_destroy(&ep->ready);
	free(ep);
}

void host_endpoint_put(struct host_endpoint *ep)
{
	if (atomic_fetch_sub(&ep->references, 1) == 1)
		end(ep);
}

static int explain(struct host_endpoint *ep, const struct host_name *name, int err)
{
	switch (err) {
	case -EINVAL:
	case -EPROTONOSUPPORT:
	case -EFBIG:	/* since we have looked */
		return host_refused(name, vine_ld64((__le64 *)ep->segment->base), err);
	case -ENOLCK:
		return host_no_lock(name, ep->lock_error);
	case -EADDRINUSE:
		return host_fail(err, "the server at %s gives out the ID of a process that lives: was it started anew?",
				 name->path);
	case -EUSERS:
		return host_fail(err, "all %u peer slots of %s are taken", VINE_MAX_PEERS, name->path);
	default:
		return err;
	}
}

/* Memory for all tables: the core looks at them, and there is no half of a segment. */
static int tables_room(struct host_endpoint *ep, const struct host_name *name)
{
	struct vine_geometry geo;
	int err;

	err = vine_geometry_of(vine_format_for(ep->segment->size), ep->segment->size, &geo);
	if (!err)
		err = host_segment_room(ep->segment, 0, geo.chunk_off);
	if (err == -ENOSPC)
		return host_fail(err, "the file system of %s is full: no room for a segment's tables",
				 name->path);
	return err;
}

/* A fork's child closes it, whenever that comes: under the lock that forks take. */
static int open_lock(struct host_endpoint *ep, int fd, const struct host_name *name)
{
	int lock_fd;

	pthread_mutex_lock(&all_lock);
	lock_fd = host_reopen(fd);
	if (lock_fd >= 0)
		ep->lock_fd = lock_fd;
	pthread_mutex_unlock(&all_lock);
	if (lock_fd >= 0)
		return 0;
	return host_fail(lock_fd, "cannot open %s again through /proc: %s", name->path,
			 strerror(-lock_fd));
}

/* A fork's child closes whatever the server has given us by then. The memory, or -errno. */
static int open_server(struct host_endpoint *ep, const char *path)
{
	struct host_server *s = host_server_new();

	if (!s)
		return -ENOMEM;
	pthread_mutex_lock(&all_lock);
	ep->server = s;
	pthread_mutex_unlock(&all_lock);
	return host_server_open(s, path, &ep->ivposition, &ep->vectors);
}

/* The file, its locks, its mapping, and a slot. */
static int endpoint_begin(struct host_endpoint *ep, struct host_name *name)
{
	int fd, err;

	fd = name->kind == HOST_SERVER ? open_server(ep, name->path) : host_segment_file(name);
	if (fd < 0)
		return fd;
	ep->off = name->off;
	err = open_lock(ep, fd, name);
	if (!err)
		err = host_segment_begin(fd, ep->lock_fd, name);
	if (!err)
		err = host_segment_get(fd, name->off, name->size, &ep->segment);
	if (err) {
		close(fd);
		return err;
	}
	err = tables_room(ep, name);
	if (err)
		return err;
	ep->size = name->size;
	pthread_mutex_lock(&ep->control);
	err = join(ep);
	/* what lies behind it is others', also when it has been cleared */
	ep->size = ep->geo.size;
	pthread_mutex_unlock(&ep->control);
	if (!err && atomic_load(&ep->segment->dead))
		err = -ENODEV;
	host_lock_ready(ep->lock_fd, ep->off);
	return err ? explain(ep, name, err) : 0;
}

static struct host_endpoint *endpoint_new(void)
{
	struct host_endpoint *ep = calloc(1, sizeof(*ep));

	if (!ep)
		return NULL;
	ep->references = 1;
	ep->lock_fd = -1;
	ep->ops = ops;
	ep->session = 1;
	ep->poll_ns = POLL_MIN_NS;
	atomic_flag_clear(&ep->heard);
	pthread_mutex_init(&ep->control, NULL);
	pthread_mutex_init(&ep->drain, NULL);
	pthread_mutex_init(&ep->ready, NULL);
	return ep;
}

/* ---- its descriptor ---- */

static int device_new(struct host_endpoint *ep)
{
	struct host_device *d = (struct host_device *)host_object_new(ep, HOST_DEVICE);
	int err;

	if (!d)
		return -ENOMEM;
	err = host_poll_open(&d->poll, true, false);
	if (err) {
		host_put(&d->o);
		return err;
	}
	pthread_mutex_lock(&ep->ready);
	ep->device = d;
	pthread_mutex_unlock(&ep->ready);
	err = host_install(&d->o, d->poll.user);
	if (!err)
		return d->poll.user;
	host_discard(&d->o, d->poll.user);
	return err;
}

static void device_renumber(struct host_object *o, int fd)
{
	struct host_device *d = (struct host_device *)o;

	pthread_mutex_lock(&o->ep->ready);
	d->poll.user = fd;
	pthread_mutex_unlock(&o->ep->ready);
}

static void device_end(struct host_object *o)
{
	struct host_device *d = (struct host_device *)o;

	pthread_mutex_lock(&o->ep->ready);
	if (o->ep->device == d)
		o->ep->device = NULL;
	pthread_mutex_unlock(&o->ep->ready);
	host_poll_close(&d->poll);
}

const struct host_class host_device_class = { device_renumber, device_end };

int host_open(const char *text)
{
	struct host_name *name = malloc(sizeof(*name));
	struct host_endpoint *ep = endpoint_new();
	int err = -ENOMEM;

	host_fail(0, "%s", "");
	if (!name || !ep || fork_error)
		goto out;
	err = host_name_parse(text, name);
	if (err)
		goto out;
	pthread_mutex_lock(&all_lock);
	ep->next = all;
	all = ep;
	pthread_mutex_unlock(&all_lock);
	err = endpoint_begin(ep, name);
	if (!err)
		err = start_thread(ep);
	if (!err)
		err = device_new(ep);
out:
	if (err < 0 && !*host_why())
		host_fail(err, "%s: %s", text, strerror(-err));
	free(name);
	if (ep)
		host_endpoint_put(ep);
	return err;
}

/* ---- calls ---- */

static int device_call(struct host_endpoint *ep, unsigned long request, void *arg)
{
	switch (request) {
	case VINE_INFO:
		return host_do_info(ep, arg);
	case VINE_SERVICES:
		return host_do_services(ep, arg);
	case VINE_LISTEN:
		return host_do_listen(ep, arg);
	case VINE_CONNECT:
		return host_do_connect(ep, arg);
	case VINE_REGION:
		return host_do_region(ep, arg);
	case VINE_QUERY:
		return host_do_query(ep, arg);
	case VINE_BURY:
		return host_do_bury(ep, arg);
	default:
		return -ENOTTY;
	}
}

static int queue_call(struct host_queue *q, unsigned long request, void *arg)
{
	switch (request) {
	case VINE_TRANSFER:
		return host_do_transfer(q, arg);
	case VINE_ATTACH:
		return host_do_attach(q, arg);
	case VINE_IMPORT:
		return host_do_import(q, arg);
	default:
		return -ENOTTY;
	}
}

int host_call(struct host_object *o, unsigned long request, void *arg)
{
	int ret = -ENOTTY;

	if (o->kind == HOST_QUEUE)
		ret = queue_call((struct host_queue *)o, request, arg);
	else if (o->kind == HOST_DEVICE)
		ret = device_call(o->ep, request, arg);
	else if (o->kind == HOST_LISTENER && request == VINE_ACCEPT)
		ret = host_do_accept((struct host_listener *)o, arg);
	host_put(o);
	return ret;
}
