// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * vine_traffic.c - messages: what is sent comes back, once, in order, as it was
 *
 * Message SEQ of queue Q is known from (seed, Q, SEQ) alone: its length, 0 to 56
 * bytes, and its bytes. So both sides know of each message what it must be, also of
 * those that are too short to bear a number.
 */
#define _GNU_SOURCE
#include "common.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/resource.h>

static const char usage[] =
"Usage: vine_traffic --serve | --drive [OPTION]...\n"
"Sends messages through many queues, has them sent back, and checks each.\n"
"\n"
"  --serve           accept the queues, send back what comes: one thread, one epoll set\n"
"  --drive           connect the queues, send, and check what comes back\n"
"  --device PATH     default: $VINE_DEVICE, or /dev/vine0\n"
"  --name NAME       of the service (default: echo)\n"
"  --queues N        default 4; both sides must be told the same\n"
"  --timeout SECONDS default 120\n"
"  --alone           nobody else uses the segment: in the end all of it must be free\n"
"Of --serve:\n"
"  --edge            edge-triggered epoll (default: level-triggered)\n"
"Of --drive:\n"
"  --threads N       default 1; each has an equal share of the queues\n"
"  --messages N      of all queues together (default 100000)\n"
"  --pings N         afterwards N times: one message through each queue, one queue\n"
"                    after the other in random order, all asleep (default 0)\n"
"  --depth N         of the queues (default 64)\n"
"  --seed N          default 1\n";

#define BATCH		32
#define MAX_QUEUES	4096
#define HELLO		0x76696e6568656c6fULL

/* The first message of a queue. */
struct hello {
	uint64_t magic, queue, seed, total;
};

static const char *device_path, *service = "echo";
static bool serve, drive, edge, alone;
static long queues = 4, threads = 1, messages = 100000, pings, depth = 64, seed = 1;
static long time_limit = 120;
static int device;

static struct vine_msg message(uint64_t seed, uint64_t queue, uint64_t seq)
{
	uint64_t h = mix(seed ^ queue << 40 ^ mix(seq));
	struct vine_msg m = { .len = h % (VINE_MSG_DATA + 1) };
	uint64_t word[VINE_MSG_DATA / 8] = { seq, h };
	int i;

	for (i = 2; i < VINE_MSG_DATA / 8; i++)
		word[i] = h * (2 * i + 1) + seq;
	memcpy(m.data, word, m.len);
	return m;
}

/* Bytes behind the length are zero too: nothing else may travel along. */
static bool is_message(const struct vine_msg *m, uint64_t seed, uint64_t queue, uint64_t seq)
{
	struct vine_msg want = message(seed, queue, seq);

	return !memcmp(m, &want, sizeof(want));
}

/* What is wrong with @m, which should be message @seq? */
static void tell_wrong(const char *who, const struct vine_msg *m, uint64_t seed,
		       uint64_t queue, uint64_t seq)
{
	struct vine_msg want = message(seed, queue, seq);
	uint64_t word[2] = { 0 };
	const char *what = "corrupted";

	memcpy(word, m->data, m->len < 16 ? m->len : 16);
	if (m->len >= 16 && is_message(m, seed, queue, word[0]))
		what = word[0] < seq ? "one that came before" : "one that comes later";
	tap_note("%s: queue %llu: in place of message %llu (%u bytes) %s: %u bytes, %#llx %#llx",
		 who, (unsigned long long)queue, (unsigned long long)seq, want.len, what,
		 m->len, (unsigned long long)word[0], (unsigned long long)word[1]);
}

/* ---- the server ---- */

struct served {
	int fd;			/* -1: it hung up */
	bool greeted, want_out;
	struct hello hello;
	uint64_t seq;		/* of the next message */
	uint32_t held;		/* messages to be sent back */
	uint64_t woken;		/* times that epoll named it */
	struct vine_msg hold[2 * BATCH];
};

static struct served *served;
static unsigned long server_wrong, server_broken, server_early, server_rounds;

static void check_served(struct served *s, const struct vine_msg *m)
{
	if (!s->greeted) {
		memcpy(&s->hello, m->data, sizeof(s->hello));
		s->greeted = true;
		if (m->len != sizeof(s->hello) || s->hello.magic != HELLO)
			server_wrong++;
		return;
	}
	if (!is_message(m, s->hello.seed, s->hello.queue, s->seq) && server_wrong++ < 5)
		tell_wrong("server", m, s->hello.seed, s->hello.queue, s->seq);
	s->seq++;
}

/*
 * One call: sends back what is held, takes more if there is room for it. False when
 * nothing can be done now, or ever.
 */
static bool serve_once(struct served *s, bool *hung)
{
	struct vine_msg in[BATCH];
	struct vine_transfer t = {
		.push = (uintptr_t)s->hold, .push_count = s->held,
		.pull = (uintptr_t)in, .pull_count = s->held <= BATCH ? BATCH : 0,
	};
	uint32_t i;
	int err;

	err = vine_transfer(s->fd, &t);
	server_rounds++;
	if (err == -EAGAIN)
		return false;
	if (err) {
		if (err != -EPIPE && server_broken++ < 5)
			tap_note("server: queue %llu: %s", (unsigned long long)s->hello.queue,
				 strerror(-err));
		if (s->held && server_early++ < 5)
			tap_note("server: queue %llu hung up, and %u messages are left",
				 (unsigned long long)s->hello.queue, s->held);
		*hung = true;
		return false;
	}
	s->held -= t.push_count;
	memmove(s->hold, s->hold + t.push_count, s->held * sizeof(*in));
	for (i = 0; i < t.pull_count; i++)
		check_served(s, &in[i]);
	memcpy(s->hold + s->held, in, t.pull_count * sizeof(*in));
	s->held += t.pull_count;
	return true;
}

static bool serve_queue(int ep, struct served *s)
{
	struct epoll_event e = { .data.ptr = s };
	bool hung = false, want_out;

	s->woken++;
	if (edge) {
		while (serve_once(s, &hung))
			;
	} else {
		serve_once(s, &hung);	/* pulls */
		if (!hung && s->held)
			serve_once(s, &hung);
	}
	if (hung) {
		close(s->fd);
		s->fd = -1;
		return true;
	}
	want_out = s->held;
	if (!edge && want_out != s->want_out) {
		s->want_out = want_out;
		e.events = want_out ? EPOLLOUT : EPOLLIN;
		if (epoll_ctl(ep, EPOLL_CTL_MOD, s->fd, &e))
			tap_bail("epoll_ctl: %s", strerror(errno));
	}
	return false;
}

static int accept_all(int ep, int listener, int have)
{
	struct epoll_event e = { .events = EPOLLIN | (edge ? EPOLLOUT | EPOLLET : 0) };
	int fd;

	while (have < queues) {
		fd = vine_accept(listener, VINE_NONBLOCK, 0, NULL);
		if (fd == -EAGAIN)
			break;
		if (fd < 0)
			tap_bail("accept: %s", strerror(-fd));
		served[have].fd = fd;
		e.data.ptr = &served[have++];
		if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e))
			tap_bail("epoll_ctl: %s", strerror(errno));
	}
	return have;
}

static int do_serve(void)
{
	struct epoll_event e = { .events = EPOLLIN | (edge ? EPOLLET : 0) }, events[64];
	int ep = epoll_create1(EPOLL_CLOEXEC), listener, accepted = 0, gone = 0, n, i;
	uint64_t total = 0, least = ~0ULL, most = 0;
	long complete = 0, unserved = 0;
	struct served *s;

	tap_plan(5);
	served = calloc(queues, sizeof(*served));
	device = open_device(device_path);
	listener = vine_listen(device, service, 0, VINE_NONBLOCK);
	if (listener < 0 || ep < 0 || !served)
		tap_bail("cannot offer %s: %s", service, strerror(-listener));
	if (epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e))
		tap_bail("epoll_ctl: %s", strerror(errno));
	while (gone < queues) {
		n = epoll_wait(ep, events, 64, -1);
		for (i = 0; i < n; i++) {
			s = events[i].data.ptr;
			if (!s)
				accepted = accept_all(ep, listener, accepted);
			else if (serve_queue(ep, s))
				gone++;
		}
		if (listener >= 0 && accepted == queues) {
			close(listener);
			listener = -1;
		}
	}
	for (s = served; s < served + queues; s++) {
		complete += s->greeted && s->seq == s->hello.total;
		unserved += !s->seq && s->hello.total;
		total += s->seq;
		least = s->seq < least ? s->seq : least;
		most = s->seq > most ? s->seq : most;
	}
	tap_note("server: %llu messages, %llu to %llu a queue; %lu transfers",
		 (unsigned long long)total, (unsigned long long)least,
		 (unsigned long long)most, server_rounds);
	tap_ok(!unserved, "server: every one of %ld queues in the %s-triggered set was served",
	       queues, edge ? "edge" : "level");
	tap_ok(!server_wrong, "server: every message came in order and as it was sent");
	tap_ok(complete == queues, "server: as many messages came as were sent (%ld of %ld queues)",
	       complete, queues);
	tap_ok(!server_broken && !server_early,
	       "server: every queue ended with a hang-up, after its last message");
	tap_ok(all_back(device, alone, 60), "server: all queues and memory came back");
	return tap_end();
}

/* ---- the client ---- */

struct driven {
	int fd;
	struct hello hello;
	uint64_t sent, received;	/* messages; the hello's number is 0 */
	uint64_t bulk;			/* as many before the pings */
};

struct driver {
	pthread_t thread;
	struct driven *first;
	int count;
	uint64_t random;
};

static struct driven *driven;
static atomic_ulong client_wrong, client_failed;

static struct vine_msg driven_message(struct driven *d, uint64_t n)
{
	struct vine_msg m = { .len = sizeof(d->hello) };

	if (n)
		return message(d->hello.seed, d->hello.queue, n - 1);
	memcpy(m.data, &d->hello, sizeof(d->hello));
	return m;
}

static void failed(struct driven *d, const char *what, int err)
{
	if (client_failed++ < 5)
		tap_note("client: queue %llu: %s: %s, after %llu sent, %llu back",
			 (unsigned long long)d->hello.queue, what, strerror(-err),
			 (unsigned long long)d->sent, (unsigned long long)d->received);
}

static void check_driven(struct driven *d, const struct vine_msg *m)
{
	struct vine_msg want = driven_message(d, d->received);

	if (memcmp(m, &want, sizeof(want)) && client_wrong++ < 5)
		tell_wrong("client", m, d->hello.seed, d->hello.queue, d->received - 1);
	d->received++;
}

/*
 * Sends up to @n more, takes what comes; waits for some when @wait. Returns the
 * progress, or -errno.
 */
static int drive_once(struct driven *d, uint32_t n, bool wait, uint64_t *random)
{
	struct vine_msg out[BATCH], in[BATCH];
	struct vine_transfer t = {
		.push = (uintptr_t)out, .push_count = n,
		.pull = (uintptr_t)in, .pull_count = BATCH,
		.deadline = wait ? vine_deadline_ms(60000) : 0,
	};
	uint64_t flying;
	uint32_t i;
	int err;

	for (i = 0; i < n; i++)
		out[i] = driven_message(d, d->sent + i);
	if (wait) {
		/* what comes back surely: not more than what was sent already */
		flying = d->sent - d->received;
		t.pull_min = flying > 1 ? 1 + next_random(random) % (flying < BATCH ? flying : BATCH) : 1;
	}
	err = vine_transfer(d->fd, &t);
	if (err)
		return err == -EAGAIN ? 0 : err;
	d->sent += t.push_count;
	if (d->received + t.pull_count > d->sent) {
		tap_note("client: queue %llu: more came back than was sent",
			 (unsigned long long)d->hello.queue);
		client_wrong++;
	}
	for (i = 0; i < t.pull_count; i++)
		check_driven(d, &in[i]);
	return t.push_count + t.pull_count;
}

static uint32_t batch_of(struct driven *d, uint64_t *random)
{
	uint64_t left = d->bulk - d->sent, n = next_random(random);

	/* now and then one alone */
	n = n & 0x700 ? 1 + n % BATCH : 1;
	return n < left ? n : left;
}

/* Waits until something can be done for one of the queues. */
static bool wait_any(struct driver *dr, struct pollfd *set)
{
	int i;

	for (i = 0; i < dr->count; i++) {
		set[i].fd = dr->first[i].received < dr->first[i].bulk ? dr->first[i].fd : -1;
		set[i].events = POLLIN | (dr->first[i].sent < dr->first[i].bulk ? POLLOUT : 0);
	}
	return poll(set, dr->count, 60000) > 0;
}

static void *drive_thread(void *arg)
{
	struct driver *dr = arg;
	struct pollfd *set = calloc(dr->count, sizeof(*set));
	struct driven *d;
	int left, progress, n;

	do {
		left = progress = 0;
		for (d = dr->first; d < dr->first + dr->count; d++) {
			if (d->received == d->bulk)
				continue;
			left++;
			n = drive_once(d, batch_of(d, &dr->random), dr->count == 1, &dr->random);
			if (n < 0) {
				failed(d, "transfer", n);
				goto out;
			}
			progress += n;
		}
		if (left && !progress && !wait_any(dr, set)) {
			failed(dr->first, "poll", -ETIMEDOUT);
			break;
		}
	} while (left && !client_wrong);
out:
	free(set);
	return NULL;
}

/* All queues are asleep, and one after the other is woken. How many answered? */
static long ping_all(void)
{
	uint64_t random = seed * 31;
	int *order = calloc(queues, sizeof(*order));
	long round, i, j, answered = 0;
	int n;

	for (i = 0; i < queues; i++)
		order[i] = i;
	for (round = 0; round < pings; round++) {
		for (i = queues - 1; i > 0; i--) {
			j = next_random(&random) % (i + 1);
			n = order[i];
			order[i] = order[j];
			order[j] = n;
		}
		for (i = 0; i < queues; i++) {
			n = drive_once(&driven[order[i]], 1, true, &random);
			if (n != 2) {
				failed(&driven[order[i]], "ping", n < 0 ? n : -ENODATA);
				goto out;
			}
			answered++;
		}
	}
out:
	free(order);
	return answered;
}

static bool connect_all(void)
{
	uint64_t deadline = vine_deadline_ms(120000);
	struct driven *d;
	long i;

	for (i = 0; i < queues; i++) {
		d = &driven[i];
		d->bulk = messages / queues + (i < messages % queues) + 1;
		d->hello = (struct hello){ HELLO, i, seed, d->bulk - 1 + pings };
		d->fd = vine_connect(device, service, depth, VINE_WAIT_SERVICE, deadline, NULL);
		if (d->fd < 0) {
			failed(d, "connect", d->fd);
			return false;
		}
	}
	return true;
}

static int do_drive(void)
{
	struct driver *drivers = calloc(threads, sizeof(*drivers));
	uint64_t begin, end, received = 0;
	struct vine_msg m;
	long i, answered, silent = 0;
	int err;

	tap_plan(5);
	driven = calloc(queues, sizeof(*driven));
	if (!driven || !drivers)
		tap_bail("no memory");
	device = open_device(device_path);
	if (!connect_all())
		tap_bail("cannot connect");
	begin = now_ns();
	for (i = 0; i < threads; i++) {
		drivers[i].first = driven + i * queues / threads;
		drivers[i].count = (i + 1) * queues / threads - i * queues / threads;
		drivers[i].random = seed * 1000 + i;
		err = pthread_create(&drivers[i].thread, NULL, drive_thread, &drivers[i]);
		if (err)
			tap_bail("thread: %s", strerror(err));
	}
	for (i = 0; i < threads; i++)
		pthread_join(drivers[i].thread, NULL);
	end = now_ns();
	for (i = 0; i < queues; i++)
		received += driven[i].received ? driven[i].received - 1 : 0;
	tap_note("client: %llu messages there and back in %.2f s, %.0f a second",
		 (unsigned long long)received, (end - begin) / 1e9,
		 received * 1e9 / (end - begin));
	tap_ok(!client_failed && received == (uint64_t)messages,
	       "client: %ld messages through %ld queues, all back", messages, queues);
	tap_ok(!client_wrong, "client: none lost, doubled, reordered or corrupted");

	begin = now_ns();
	answered = client_failed || client_wrong ? 0 : ping_all();
	end = now_ns();
	if (pings && answered)
		tap_note("client: a round trip took %.1f us", (end - begin) / 1e3 / answered);
	tap_ok(answered == pings * queues, "client: %ld of %ld single messages woke a sleeping server",
	       answered, pings * queues);

	for (i = 0; i < queues; i++)
		silent += vine_pull(driven[i].fd, &m, 1, 0, 0) == -EAGAIN;
	tap_ok(silent == queues, "client: nothing more comes than was sent");
	for (i = 0; i < queues; i++)
		close(driven[i].fd);
	tap_ok(all_back(device, alone, 60), "client: all queues and memory came back");
	return tap_end();
}

int main(int argc, char **argv)
{
	const struct option_value options[] = {
		{ .name = "--serve", .flag = &serve },
		{ .name = "--drive", .flag = &drive },
		{ .name = "--edge", .flag = &edge },
		{ .name = "--level", .flag = &(bool){ false } },
		{ .name = "--alone", .flag = &alone },
		{ .name = "--device", .text = &device_path },
		{ .name = "--name", .text = &service },
		{ .name = "--queues", .number = &queues },
		{ .name = "--threads", .number = &threads },
		{ .name = "--messages", .number = &messages },
		{ .name = "--pings", .number = &pings },
		{ .name = "--depth", .number = &depth },
		{ .name = "--seed", .number = &seed },
		{ .name = "--timeout", .number = &time_limit },
		{ }
	};

	parse_options(argc, argv, usage, options);
	if (serve == drive || queues < 1 || queues > MAX_QUEUES || threads < 1 ||
	    threads > queues) {
		fputs("wrong usage; see --help\n", stderr);
		return 2;
	}
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){ MAX_QUEUES + 64, MAX_QUEUES + 64 });
	limit_time(time_limit);
	return serve ? do_serve() : do_drive();
}
