// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * appliance.c - the demo's appliance: offers two accelerators to applications in other
 * virtual machines
 *
 * One loop accepts connections, takes tasks, checks them and sends replies; each
 * accelerator works in a thread of its own. Nothing that an application sends is
 * believed: a task names regions and ranges, and is refused when they are not its own.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "accelerator.h"
#include "protocol.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define CLIENTS_MAX	64	/* more wait to be accepted */
#define REGIONS_MAX	48	/* as many as can be attached to a queue */
#define BATCH		32
#define NEWS_PER_SECOND	20	/* messages about clients; more are left out */

static const char help[] =
	"Usage: appliance [OPTION]...\n"
	"Offers the accelerators sha256 and deflate over vine, until SIGTERM or SIGINT.\n"
	"\n"
	"  --device PATH   default: $VINE_DEVICE, or /dev/vine0\n"
	"  --once          end when there were clients and the last one has gone\n"
	"  --help          this text\n"
	"\n"
	"Exit status: 0 as asked, 1 it failed, 2 wrong usage.\n";

/* A region of a client; it stays mapped as long as the client is here. */
struct mapping {
	uint64_t id;
	uint64_t bytes;
	uint8_t *address;
};

/*
 * A queue. Each of its tasks is in one of three places: in the ring, with the
 * accelerator (@busy), or answered but not sent (@replies). The latter two together
 * never exceed @depth, so a client that does not read its replies fills its own ring
 * and nothing else.
 */
struct client {
	struct client *next;
	struct accelerator *accelerator;
	int queue;
	bool gone;		/* freed when nothing is busy */
	uint32_t events;	/* that epoll watches */
	unsigned int depth;
	unsigned int busy;
	unsigned int answered;
	struct vine_msg *replies;
	struct job *jobs;
	struct jobs idle;
	unsigned int mapped;
	struct mapping mappings[REGIONS_MAX];
};

static struct accelerator accelerators[] = {
	{ .name = DEMO_SHA256, .run = accelerator_sha256 },
	{ .name = DEMO_DEFLATE, .run = accelerator_deflate },
};

static int listeners[ARRAY_SIZE(accelerators)];
static struct done done = { .lock = PTHREAD_MUTEX_INITIALIZER };
static struct client *clients;
static unsigned int client_count;
static bool served;		/* there were clients */
static int epoll, signals;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void vsay(const char *format, va_list ap)
{
	char line[256];

	vsnprintf(line, sizeof(line), format, ap);
	fprintf(stderr, "appliance: %s\n", line);
}

static void say(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsay(format, ap);
	va_end(ap);
}

static _Noreturn void die(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsay(format, ap);
	va_end(ap);
	exit(1);
}

/* About clients, who could otherwise fill the log. */
static __attribute__((format(printf, 1, 2))) void news(const char *format, ...)
{
	static unsigned int count;
	static time_t second;
	struct timespec now;
	va_list ap;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec != second)
		count = 0;
	second = now.tv_sec;
	if (++count > NEWS_PER_SECOND)
		return;
	va_start(ap, format);
	vsay(format, ap);
	va_end(ap);
}

static void watch(int op, int fd, uint32_t events, void *what)
{
	struct epoll_event ev = { .events = events, .data.ptr = what };

	if (epoll_ctl(epoll, op, fd, &ev))
		die("cannot watch a descriptor: %m");
}

static void watch_listeners(int op, uint32_t events)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(accelerators); i++)
		watch(op, listeners[i], events, &accelerators[i]);
}

/* ---- clients ---- */

static struct client *client_new(struct accelerator *a, int queue, unsigned int depth)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->accelerator = a;
	c->queue = queue;
	c->depth = depth;
	c->replies = calloc(depth, sizeof(*c->replies));
	c->jobs = calloc(depth, sizeof(*c->jobs));
	if (!c->replies || !c->jobs) {
		free(c->replies);
		free(c->jobs);
		free(c);
		return NULL;
	}
	for (unsigned int i = 0; i < depth; i++) {
		c->jobs[i].owner = c;
		jobs_add(&c->idle, &c->jobs[i]);
	}
	return c;
}

static void client_free(struct client *c)
{
	for (unsigned int i = 0; i < c->mapped; i++)
		munmap(c->mappings[i].address, c->mappings[i].bytes);
	close(c->queue);
	free(c->replies);
	free(c->jobs);
	free(c);
}

static void accept_client(struct accelerator *a)
{
	struct vine_accept accepted;
	struct client *c;
	int queue;

	queue = vine_accept(listeners[a - accelerators], VINE_NONBLOCK, 0, &accepted);
	if (queue == -EAGAIN || queue == -EINTR)
		return;
	if (queue < 0)
		die("cannot accept a connection to %s: %s", a->name, strerror(-queue));
	c = client_new(a, queue, accepted.depth);
	if (!c) {
		news("no memory for a client of %s: turned away", a->name);
		close(queue);
		return;
	}
	c->next = clients;
	clients = c;
	c->events = EPOLLIN;
	watch(EPOLL_CTL_ADD, queue, c->events, c);
	served = true;
	if (++client_count == CLIENTS_MAX)
		watch_listeners(EPOLL_CTL_MOD, 0);
	news("machine %u connected to %s", accepted.peer, a->name);
}

/* What it still has with the accelerator is done first: that is work on its memory. */
static void client_gone(struct client *c)
{
	if (c->gone)
		return;
	c->gone = true;
	epoll_ctl(epoll, EPOLL_CTL_DEL, c->queue, NULL);
	news("a client of %s has gone", c->accelerator->name);
}

/* Between two rounds of the loop: no event of a freed client is left over then. */
static void sweep_clients(void)
{
	struct client **link = &clients, *c;

	while ((c = *link)) {
		if (!c->gone || c->busy) {
			link = &c->next;
			continue;
		}
		*link = c->next;
		client_free(c);
		if (client_count-- == CLIENTS_MAX)
			watch_listeners(EPOLL_CTL_MOD, EPOLLIN);
	}
}

/* ---- tasks ---- */

/* The client's region @id, imported at its first use; NULL when it cannot be. */
static const struct mapping *region(struct client *c, uint64_t id)
{
	struct mapping *m;
	void *address;
	uint64_t bytes;
	int fd, ret;

	for (m = c->mappings; m < c->mappings + c->mapped; m++)
		if (m->id == id)
			return m;
	if (c->mapped == REGIONS_MAX)
		return NULL;
	fd = vine_import(c->queue, id, &bytes);
	if (fd < 0)
		return NULL;
	ret = vine_map(fd, bytes, &address);
	close(fd);	/* the mapping holds the region */
	if (ret)
		return NULL;
	*m = (struct mapping){ .id = id, .bytes = bytes, .address = address };
	c->mapped++;
	return m;
}

/* Whether @bytes, not none, from @offset on are within @m. */
static bool within(const struct mapping *m, uint64_t offset, uint32_t bytes)
{
	return bytes && bytes <= m->bytes && offset <= m->bytes - bytes;
}

static enum demo_status check_task(struct client *c, const struct vine_msg *msg,
				   const struct demo_task *t, struct job *job)
{
	const struct mapping *in, *out;

	if (msg->len != sizeof(*t))
		return DEMO_BAD_LENGTH;
	in = region(c, t->in_region);
	out = region(c, t->out_region);
	if (!in || !out)
		return DEMO_BAD_REGION;
	if (t->in_bytes > DEMO_INPUT_MAX || !within(in, t->in_offset, t->in_bytes) ||
	    !within(out, t->out_offset, t->out_room))
		return DEMO_BAD_RANGE;
	if (in == out && t->in_offset < t->out_offset + t->out_room &&
	    t->out_offset < t->in_offset + t->in_bytes)
		return DEMO_BAD_OVERLAP;
	job->in = in->address + t->in_offset;
	job->in_bytes = t->in_bytes;
	job->out = out->address + t->out_offset;
	job->out_room = t->out_room;
	return DEMO_OK;
}

static void answer(struct client *c, uint64_t tag, uint32_t status, uint32_t out_bytes)
{
	struct demo_reply reply = { .tag = tag, .status = status, .out_bytes = out_bytes };
	struct vine_msg *msg = &c->replies[c->answered++];

	*msg = (struct vine_msg){ .len = sizeof(reply) };
	memcpy(msg->data, &reply, sizeof(reply));
}

static void take_task(struct client *c, const struct vine_msg *msg)
{
	struct demo_task task = { };
	enum demo_status status;
	struct job *job = jobs_take(&c->idle);	/* there is one: see serve() */

	memcpy(&task, msg->data, msg->len < sizeof(task) ? msg->len : sizeof(task));
	status = check_task(c, msg, &task, job);
	if (status == DEMO_OK) {
		job->tag = task.tag;
		c->busy++;
		accelerator_give(c->accelerator, job);
		return;
	}
	jobs_add(&c->idle, job);
	news("refused a task for %s: %s", c->accelerator->name, demo_status_text(status));
	answer(c, task.tag, status, 0);
}

/* Sends what replies there is room for, and watches for what is to be done next. */
static void flush(struct client *c)
{
	uint32_t events;
	int sent = 0;

	if (c->gone)
		return;
	if (c->answered)
		sent = vine_push(c->queue, c->replies, c->answered);
	if (sent > 0) {
		c->answered -= sent;
		memmove(c->replies, c->replies + sent, c->answered * sizeof(*c->replies));
	} else if (sent < 0 && sent != -EAGAIN && sent != -EINTR) {
		client_gone(c);
		return;
	}
	events = (c->answered ? EPOLLOUT : 0) |
		(c->busy + c->answered < c->depth ? EPOLLIN : 0);
	if (events != c->events) {
		c->events = events;
		watch(EPOLL_CTL_MOD, c->queue, events, c);
	}
}

static void serve(struct client *c, uint32_t events)
{
	unsigned int room = c->depth - c->busy - c->answered;
	struct vine_msg msgs[BATCH];
	int n = 0;

	/* Tasks of somebody who is gone are of no use to anybody. */
	if (events & (EPOLLHUP | EPOLLERR)) {
		client_gone(c);
		return;
	}
	if (room && events & EPOLLIN)
		n = vine_pull(c->queue, msgs, room < BATCH ? room : BATCH, 0, 0);
	if (n < 0 && n != -EAGAIN && n != -EINTR) {
		client_gone(c);
		return;
	}
	for (int i = 0; i < n; i++)
		take_task(c, &msgs[i]);
	flush(c);
}

static void collect_done(void)
{
	struct jobs jobs;
	struct client *c;
	struct job *job;
	eventfd_t count;

	eventfd_read(done.event, &count);
	pthread_mutex_lock(&done.lock);
	jobs = done.jobs;
	done.jobs = (struct jobs){ };
	pthread_mutex_unlock(&done.lock);

	while ((job = jobs_take(&jobs))) {
		c = job->owner;
		c->busy--;
		answer(c, job->tag, job->status, job->out_bytes);
		jobs_add(&c->idle, job);
		flush(c);
	}
}

/* ---- the loop ---- */

static void run(bool once)
{
	struct epoll_event ev[BATCH];
	bool stop = false;
	void *what;
	int n;

	while (!stop) {
		n = epoll_wait(epoll, ev, BATCH, -1);
		if (n < 0 && errno != EINTR)
			die("cannot wait: %m");
		for (int i = 0; i < n; i++) {
			what = ev[i].data.ptr;
			if (what == &signals)
				stop = true;
			else if (what == &done)
				collect_done();
			else if (what >= (void *)accelerators &&
				 what < (void *)(accelerators + ARRAY_SIZE(accelerators)))
				accept_client(what);
			else if (!((struct client *)what)->gone)
				serve(what, ev[i].events);
		}
		sweep_clients();
		if (once && served && !clients)
			stop = true;
	}
}

static void start(const char *path)
{
	int device, err;
	sigset_t set;

	device = vine_open(path);
	if (device < 0)
		die("cannot open %s: %s", path ? path : "vine's device", strerror(-device));

	/* Before the threads are made: they inherit it. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	done.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (signals < 0 || done.event < 0 || epoll < 0)
		die("cannot start: %m");
	watch(EPOLL_CTL_ADD, signals, EPOLLIN, &signals);
	watch(EPOLL_CTL_ADD, done.event, EPOLLIN, &done);

	for (unsigned int i = 0; i < ARRAY_SIZE(accelerators); i++) {
		struct accelerator *a = &accelerators[i];

		err = accelerator_start(a, &done);
		if (err)
			die("cannot start %s: %s", a->name, strerror(err));
		listeners[i] = vine_listen(device, a->name, DEMO_TYPE, VINE_NONBLOCK);
		if (listeners[i] < 0)
			die("cannot offer %s: %s", a->name, strerror(-listeners[i]));
		say("offers %s", a->name);
	}
	watch_listeners(EPOLL_CTL_ADD, EPOLLIN);
	close(device);
}

static void finish(void)
{
	struct client *c;

	for (unsigned int i = 0; i < ARRAY_SIZE(accelerators); i++) {
		close(listeners[i]);
		accelerator_stop(&accelerators[i]);
	}
	while ((c = clients)) {
		clients = c->next;
		client_free(c);
	}
	close(epoll);
	close(done.event);
	close(signals);
}

static void usage(const char *what, const char *value)
{
	fprintf(stderr, "appliance: %s %s (see appliance --help)\n", what, value);
	exit(2);
}

static void corrupt(const char *name)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(accelerators); i++) {
		if (!strcmp(accelerators[i].name, name)) {
			accelerators[i].corrupt = true;
			return;
		}
	}
	usage("no such accelerator:", name);
}

int main(int argc, char **argv)
{
	enum { DEVICE = 256, ONCE, CORRUPT, HELP };
	static const struct option options[] = {
		{ "device", required_argument, NULL, DEVICE },
		{ "once", no_argument, NULL, ONCE },
		/* Not in the help: spoils one result, to test that the demo notices. */
		{ "corrupt", required_argument, NULL, CORRUPT },
		{ "help", no_argument, NULL, HELP },
		{ }
	};
	const char *device = NULL;
	bool once = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case DEVICE:
			device = optarg;
			break;
		case ONCE:
			once = true;
			break;
		case CORRUPT:
			corrupt(optarg);
			break;
		case HELP:
			fputs(help, stdout);
			return 0;
		default:
			return 2;
		}
	}
	if (optind < argc)
		usage("not understood:", argv[optind]);

	start(device);
	run(once);
	finish();
	return 0;
}
