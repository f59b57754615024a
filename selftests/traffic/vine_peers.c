// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * vine_peers.c - a machine that is paused, rebooted or killed, as another one sees it
 *
 * The witness stays; the victim has whatever the witness tells it to have done to it
 * next. The host pauses, resumes and kills the victim when it reads "EVENT ..." in one
 * of the outputs. Before each of these, the two are connected both ways, and each maps
 * memory of the other.
 */
#define _GNU_SOURCE
#include "common.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <termios.h>

static const char usage[] =
"Usage: vine_peers --witness | --victim [OPTION]...\n"
"One machine watches how another one is paused, rebooted and killed.\n"
"\n"
"  --witness         watches; ends when all is over\n"
"  --victim          has the next thing done to it: run it again and again\n"
"  --device PATH     default: $VINE_DEVICE, or /dev/vine0\n"
"  --last-words TEXT printed right before a reboot, and before it is killed\n"
"  --patience S      for what must happen soon (default 90)\n"
"  --timeout SECONDS default 240\n"
"The host must pause the victim when the victim prints 'EVENT pause', let it go on when\n"
"the witness prints 'EVENT resume', and kill it when it prints 'EVENT kill'.\n";

static const char *device_path, *last_words = "";
static bool witness, victim;
static long patience = 90, time_limit = 240;
static int device;

enum fate { PAUSE, REBOOT, KILL };

#define BYTES_IMPORTED	(256 << 10)
#define BYTES_PRIVATE	(1 << 20)

/* What the two tell each other. */
struct note {
	uint64_t what;		/* a fate; the victim: its IVPosition */
	uint64_t region;	/* the sender's, attached */
	uint64_t incarnation;
};

static void event(const char *what)
{
	printf("EVENT %s\n", what);
	fflush(stdout);
	tcdrain(1);
}

static bool send_note(int queue, uint64_t what, uint64_t region, uint64_t incarnation)
{
	struct note n = { what, region, incarnation };
	struct vine_msg m = { .len = sizeof(n) };

	memcpy(m.data, &n, sizeof(n));
	return vine_push(queue, &m, 1) == 1;
}

static bool get_note(int queue, struct note *n)
{
	struct vine_msg m;

	if (vine_pull(queue, &m, 1, 1, vine_deadline_ms(patience * 1000)) != 1)
		return false;
	memcpy(n, m.data, sizeof(*n));
	return m.len == sizeof(*n);
}

/* ---- marked memory ---- */

/* Whose store is it? The upper half says so; the lower half counts. */
#define MARK_VICTIM	0x76696374ULL
#define MARK_WITNESS	0x7769746eULL

static void mark(uint64_t *at, uint64_t bytes, uint64_t who, uint32_t n)
{
	uint64_t i;

	for (i = 0; i < bytes / 8; i++)
		store(&at[i], who << 32 | n);
}

static bool is_marked(const uint64_t *at, uint64_t bytes, uint64_t who)
{
	uint64_t i;

	for (i = 0; i < bytes / 8; i++)
		if (at[i] >> 32 != who) {
			tap_note("word %llu is %#llx", (unsigned long long)i,
				 (unsigned long long)at[i]);
			return false;
		}
	return true;
}

struct memory {
	int fd;
	uint64_t id, bytes, *at;
};

static bool map_memory(struct memory *m, int fd, uint64_t bytes)
{
	void *at;
	int err;

	m->fd = fd;
	m->bytes = bytes;
	err = fd < 0 ? fd : vine_map(fd, bytes, &at);
	if (err < 0) {
		tap_note("memory: %s", strerror(-err));
		return false;
	}
	m->at = at;
	return true;
}

static void drop_memory(struct memory *m)
{
	munmap(m->at, m->bytes);
	close(m->fd);
}

/* ---- the witness ---- */

static int listener;

/* One stay of the victim, from its connection to its end. */
struct stay {
	int from_it, to_it;	/* queues: it is the client, the server */
	struct vine_accept who;
	uint64_t ivposition;
	struct memory its, ours;
};

static bool begin_stay(struct stay *s)
{
	struct note n;

	s->from_it = vine_accept(listener, 0, vine_deadline_ms(patience * 1000), &s->who);
	if (s->from_it < 0) {
		tap_note("the victim does not come: %s", strerror(-s->from_it));
		return false;
	}
	if (!get_note(s->from_it, &n))
		return false;
	s->ivposition = n.what;
	return true;
}

/* Both ways; each maps a region of the other. */
static bool set_up(struct stay *s, enum fate fate)
{
	struct note n;

	if (!send_note(s->from_it, fate, 0, 0) || !get_note(s->from_it, &n) ||
	    !map_memory(&s->its, vine_import(s->from_it, n.region, NULL), BYTES_IMPORTED))
		return false;
	s->to_it = vine_connect(device, "victim", 8, VINE_WAIT_SERVICE,
				vine_deadline_ms(patience * 1000), NULL);
	if (s->to_it < 0 ||
	    !map_memory(&s->ours, vine_region(device, BYTES_IMPORTED, NULL), BYTES_IMPORTED))
		return false;
	mark(s->ours.at, s->ours.bytes, MARK_WITNESS, 0);
	return !vine_attach(s->to_it, s->ours.fd, &s->ours.id) &&
		send_note(s->to_it, 0, s->ours.id, 0) && get_note(s->from_it, &n) &&
		is_marked(s->its.at, s->its.bytes, MARK_VICTIM);
}

static bool hangs_up(int queue)
{
	struct pollfd p = { .fd = queue };
	struct vine_msg m = { .len = 0 };
	int push, pull;

	if (poll(&p, 1, patience * 1000) != 1)
		return false;
	push = vine_push(queue, &m, 1);
	pull = vine_pull(queue, &m, 1, 1, VINE_FOREVER);
	if (p.revents & POLLHUP && !(p.revents & POLLERR) && push == -EPIPE && pull == -EPIPE)
		return true;
	tap_note("poll %#x, push: %s, pull: %s", p.revents, strerror(-push), strerror(-pull));
	return false;
}

static void end_stay(struct stay *s)
{
	drop_memory(&s->its);
	drop_memory(&s->ours);
	close(s->from_it);
	close(s->to_it);
}

/* All that there is, in marked regions. */
struct hoard {
	struct memory *m;
	int count;
	uint64_t chunks;
};

static void claim_all(struct hoard *h)
{
	struct vine_info i = device_info(device);
	uint64_t run = i.chunks, bytes;
	int fd;

	h->m = calloc(i.chunks, sizeof(*h->m));
	h->count = 0;
	h->chunks = 0;
	while (h->m && run) {
		fd = vine_region(device, run * i.chunk_size, &bytes);
		if (fd == -ENOSPC) {
			run /= 2;
			continue;
		}
		if (!map_memory(&h->m[h->count], fd, bytes))
			break;
		mark(h->m[h->count++].at, bytes, MARK_WITNESS, 1);
		h->chunks += bytes / i.chunk_size;
	}
}

static bool hoard_is_ours(struct hoard *h)
{
	bool good = true;
	int i;

	for (i = 0; i < h->count; i++)
		good = is_marked(h->m[i].at, h->m[i].bytes, MARK_WITNESS) && good;
	return good;
}

static void drop_hoard(struct hoard *h)
{
	while (h->count--)
		drop_memory(&h->m[h->count]);
	free(h->m);
}

static bool is_only(unsigned int queues, struct vine_info *i)
{
	*i = device_info(device);
	return i->queues == queues && i->regions == queues &&
		i->chunks - i->chunks_free == queues;
}

/* Waits until there is nothing but @queues queues and the regions of their rings. */
static bool nothing_but(unsigned int queues)
{
	struct vine_info i;

	if (until(is_only(queues, &i), patience))
		return true;
	tap_note("in use: %u queues, %u regions, %u chunks", i.queues, i.regions,
		 i.chunks - i.chunks_free);
	return false;
}

/* The victim is silent: nothing of it may be reused. */
static void check_silent(struct stay *s, struct hoard *h, const char *what)
{
	struct vine_info before = device_info(device), after;
	int queue;

	claim_all(h);
	after = device_info(device);
	tap_ok(h->chunks == before.chunks_free && !after.chunks_free &&
	       before.chunks - before.chunks_free >=
		       (BYTES_PRIVATE + 2 * BYTES_IMPORTED) / before.chunk_size,
	       "%s: nothing of it can be claimed: %llu chunks can, of %u", what,
	       (unsigned long long)h->chunks, before.chunks);
	tap_ok(is_marked(s->its.at, s->its.bytes, MARK_VICTIM),
	       "%s: what it had written is there, for who maps it", what);
	queue = vine_connect(device, "victim", 8, 0, vine_deadline_ms(1000), NULL);
	tap_ok(queue == -ENOENT, "%s: its service is not there", what);
	if (queue >= 0)
		close(queue);
}

#define WITNESS_TESTS	19

static int do_witness(void)
{
	struct stay paused, rebooted, killed;
	struct hoard hoard;
	struct vine_info i;
	uint64_t begin;
	bool good;

	tap_plan(WITNESS_TESTS);
	device = open_device(device_path);
	listener = vine_listen(device, "witness", 0, 0);
	if (listener < 0)
		tap_bail("cannot offer: %s", strerror(-listener));

	good = begin_stay(&paused) && set_up(&paused, PAUSE);
	if (!tap_ok(good, "pause: connected both ways, memory mapped both ways"))
		tap_bail("no victim");
	begin = now_ns();
	good = hangs_up(paused.from_it);
	good = hangs_up(paused.to_it) && good;
	tap_note("pause: the queues hung up after %.1f s", (now_ns() - begin) / 1e9);
	tap_ok(good, "pause: the queues to it hang up");
	check_silent(&paused, &hoard, "pause");
	event("resume");
	if (!tap_ok(begin_stay(&rebooted), "resume: it comes again"))
		tap_bail("no victim");
	tap_ok(rebooted.who.peer != paused.who.peer ||
	       rebooted.who.incarnation != paused.who.incarnation,
	       "resume: it comes as another: %u.%u, not %u.%u", rebooted.who.peer,
	       rebooted.who.incarnation, paused.who.peer, paused.who.incarnation);
	tap_ok(hoard_is_ours(&hoard), "resume: what it went on to store is nowhere but in its own memory");
	tap_ok(is_marked(paused.its.at, paused.its.bytes, MARK_VICTIM),
	       "resume: our mapping of its memory stays");
	drop_hoard(&hoard);
	end_stay(&paused);
	tap_ok(nothing_but(1), "resume: its memory came back");

	if (!tap_ok(set_up(&rebooted, REBOOT), "reboot: connected both ways, memory mapped both ways"))
		tap_bail("no victim");
	send_note(rebooted.from_it, 0, 0, 0);
	begin = now_ns();
	good = hangs_up(rebooted.from_it);
	good = hangs_up(rebooted.to_it) && good;
	tap_note("reboot: the queues hung up after %.1f s", (now_ns() - begin) / 1e9);
	tap_ok(good, "reboot: the queues to it hang up");
	if (!tap_ok(begin_stay(&killed), "reboot: it comes again"))
		tap_bail("no victim");
	tap_ok(killed.ivposition == rebooted.ivposition &&
	       (killed.who.peer != rebooted.who.peer ||
		killed.who.incarnation != rebooted.who.incarnation),
	       "reboot: the same machine (IVPosition %llu), another driver instance",
	       (unsigned long long)killed.ivposition);
	end_stay(&rebooted);
	tap_ok(nothing_but(1), "reboot: its predecessor was buried, the memory came back");

	if (!set_up(&killed, KILL))
		tap_bail("no victim");
	send_note(killed.from_it, 0, 0, 0);
	begin = now_ns();
	good = hangs_up(killed.from_it);
	good = hangs_up(killed.to_it) && good;
	tap_note("kill: the queues hung up after %.1f s", (now_ns() - begin) / 1e9);
	tap_ok(good, "kill: the queues to it hang up");
	check_silent(&killed, &hoard, "kill");
	drop_hoard(&hoard);
	end_stay(&killed);
	i = device_info(device);
	tap_note("kill: %u queues, %u regions, %u chunks stay in use: nobody says that it is gone",
		 i.queues, i.regions, i.chunks - i.chunks_free);
	close(listener);
	return tap_end();
}

/* ---- the victim ---- */

static struct memory imported, exported, hidden;
static sigjmp_buf bus;
static atomic_ulong stores;

static void bus_error(int sig)
{
	(void)sig;
	siglongjmp(bus, 1);
}

/* Stores into all that is mapped until it is taken away. */
static void *store_on(void *arg)
{
	/* these two survive the jump */
	static atomic_int lost;
	static atomic_ulong n;
	struct memory *m[] = { &exported, &hidden, &imported };
	uint64_t who[] = { MARK_VICTIM, MARK_VICTIM, MARK_WITNESS };
	uint64_t end = now_ns() + patience * 4000000000ULL;
	int i;

	(void)arg;
	sigsetjmp(bus, 1);
	/* lost: bits of those that gave SIGBUS; one after the other is looked at */
	while (lost != 7 && now_ns() < end) {
		for (i = 0; i < 3; i++) {
			if (lost >> i & 1)
				continue;
			lost |= 1 << i;
			mark(m[i]->at, m[i]->bytes, who[i], ++n);
			lost &= ~(1 << i);
			stores++;
		}
	}
	return (void *)(long)atomic_load(&lost);
}

static int pause_here(int queue, int service, int to_us, struct vine_info *before)
{
	struct pollfd p = { .fd = queue, .events = POLLIN };
	struct vine_msg m = { .len = 0 };
	struct vine_info after = { 0 };
	unsigned long stored;
	pthread_t thread;
	int pull, push, err;
	uint64_t id;
	void *lost;

	signal(SIGBUS, bus_error);
	if (pthread_create(&thread, NULL, store_on, NULL))
		tap_bail("no thread");
	if (!until(stores > 3, patience))
		tap_bail("cannot store");
	stored = stores;
	event("pause");
	pull = vine_pull(queue, &m, 1, 1, VINE_FOREVER);
	tap_ok(pull == -ENOTCONN, "pause: who slept in a call gets ENOTCONN (%s)", strerror(-pull));
	pthread_join(thread, &lost);
	tap_note("%lu rounds of stores after the announcement", stores - stored);
	tap_ok(lost == (void *)7L, "pause: all its mappings give SIGBUS (%ld)", (long)lost);
	push = vine_push(to_us, &m, 1);
	tap_ok(push == -ENOTCONN && poll(&p, 1, 0) == 1 && p.revents & POLLHUP && p.revents & POLLERR,
	       "pause: its queues give ENOTCONN and poll HUP and ERR");
	push = vine_accept(service, 0, VINE_FOREVER, NULL);
	err = vine_attach(queue, exported.fd, &id);
	tap_ok(push == -ENOTCONN && err == -ENOTCONN,
	       "pause: its listener and its queue's other calls give ENOTCONN");
	/* joining anew takes until the next tick */
	until(!vine_info(device, &after), patience);
	tap_ok((after.incarnation != before->incarnation || after.peer != before->peer) &&
	       !after.own_queues && !after.own_regions,
	       "pause: it has joined as another, %u.%u, with nothing", after.peer,
	       after.incarnation);
	return tap_end();
}

static int do_victim(void)
{
	struct vine_info info;
	int queue, service, to_us;
	struct note n;

	device = open_device(device_path);
	info = device_info(device);
	queue = vine_connect(device, "witness", 8, VINE_WAIT_SERVICE,
			     vine_deadline_ms(patience * 1000), NULL);
	if (queue < 0 || !send_note(queue, info.ivposition, 0, info.incarnation) ||
	    !get_note(queue, &n))
		tap_bail("no witness: %s", strerror(-queue));
	tap_plan(n.what == PAUSE ? 6 : 1);
	service = vine_listen(device, "victim", 0, 0);
	if (service < 0 ||
	    !map_memory(&exported, vine_region(device, BYTES_IMPORTED, NULL), BYTES_IMPORTED) ||
	    !map_memory(&hidden, vine_region(device, BYTES_PRIVATE, NULL), BYTES_PRIVATE) ||
	    vine_attach(queue, exported.fd, &exported.id))
		tap_bail("cannot set up");
	mark(exported.at, exported.bytes, MARK_VICTIM, 0);
	mark(hidden.at, hidden.bytes, MARK_VICTIM, 0);
	if (!send_note(queue, 0, exported.id, 0))
		tap_bail("no witness");
	to_us = vine_accept(service, 0, vine_deadline_ms(patience * 1000), NULL);
	if (to_us < 0)
		tap_bail("no witness: %s", strerror(-to_us));
	switch (n.what) {
	case PAUSE:
	case REBOOT:
	case KILL: {
		enum fate fate = n.what;

		if (!get_note(to_us, &n) ||
		    !map_memory(&imported, vine_import(to_us, n.region, NULL), BYTES_IMPORTED))
			tap_bail("cannot import");
		tap_ok(is_marked(imported.at, imported.bytes, MARK_WITNESS),
		       "connected both ways, memory mapped both ways");
		send_note(queue, 0, 0, 0);
		if (fate == PAUSE)
			return pause_here(queue, service, to_us, &info);
		if (!get_note(queue, &n))
			tap_bail("no witness");
		puts(last_words);
		event(fate == KILL ? "kill" : "reboot");
		if (fate == REBOOT)
			reboot(RB_AUTOBOOT);
		for (;;)
			pause();
	}
	}
	tap_bail("an unknown fate");
}

int main(int argc, char **argv)
{
	const struct option_value options[] = {
		{ .name = "--witness", .flag = &witness },
		{ .name = "--victim", .flag = &victim },
		{ .name = "--device", .text = &device_path },
		{ .name = "--last-words", .text = &last_words },
		{ .name = "--patience", .number = &patience },
		{ .name = "--timeout", .number = &time_limit },
		{ }
	};

	parse_options(argc, argv, usage, options);
	if (witness == victim) {
		fputs("wrong usage; see --help\n", stderr);
		return 2;
	}
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 4096, 4096 });
	limit_time(time_limit);
	return witness ? do_witness() : do_victim();
}
