// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * vine_kill.c - processes that are killed in the middle of it all leave nothing behind
 *
 * A pair is a client and a server, each a process, that go from session to session:
 * connect and accept, a region that both map and write, messages, the end. The parent
 * kills one of them again and again, in a state that it has not been killed in often
 * enough, and forks another. Who survives must see the hang-up, and go on with the
 * next one; what it has mapped must stay.
 *
 * Between two machines each side has a parent of its own, and one of them kills.
 */
#define _GNU_SOURCE
#include "common.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static const char usage[] =
"Usage: vine_kill --both | --client | --server [OPTION]...\n"
"Kills clients and servers in the middle of connect, accept, transfer and mapped I/O,\n"
"and looks whether the other side notices and everything comes back.\n"
"\n"
"  --both            client and server of each pair are here; both are killed\n"
"  --client          only the clients are here; the servers are on another machine\n"
"  --server          only the servers are here\n"
"  --survive         with --client or --server: ours are not killed; the other side's are\n"
"  --hits N          kills in each state (default 5)\n"
"  --pairs N         at a time (default 2); both sides must be told the same\n"
"  --name NAME       of the services begins so (default: kill)\n"
"  --device PATH     default: $VINE_DEVICE, or /dev/vine0\n"
"  --server-device PATH  with --both: another device for the servers\n"
"  --timeout SECONDS default 180\n";

enum role { CLIENT, SERVER };
static const char *const role_name[] = { "client", "server" };

enum state { IDLE, CONNECT, ACCEPT, TRANSFER, MAPPED, REGION, IMPORT, STATES };
static const char *const state_name[] = {
	"elsewhere", "connect", "accept", "transfer", "mapped I/O", "region", "import",
};

/* What the test demands to be hit; the others are hit as they come. */
static const bool demanded[2][STATES] = {
	[CLIENT] = { [CONNECT] = true, [TRANSFER] = true, [MAPPED] = true },
	[SERVER] = { [ACCEPT] = true, [TRANSFER] = true, [MAPPED] = true },
};

#define BYTES		(128 << 10)	/* of a region */
#define PATIENCE	60		/* seconds, for what must happen */
#define KILLS_MAX	400

/* Shared between the parent and one place for a worker. It outlives the worker. */
struct report {
	atomic_int state;
	atomic_ulong sessions;		/* begun */
	atomic_ulong in_session;	/* its number, or 0 */
	atomic_ulong hangups, farewells, errors;
	char error[128];		/* the first */
};

struct place {
	pid_t pid;
	enum role role;
	int pair;
	struct report *report;
};

static const char *device_path, *server_path, *prefix = "kill";
static bool both, only_client, only_server, survive;
static long hits = 5, pairs = 2, time_limit = 180;

/* ---- a worker ---- */

static struct report *report;
static int device;
static char service[VINE_SERVICE_NAME];
static uint64_t rnd;

static void state(enum state s)
{
	atomic_store(&report->state, s);
}

static void worker_error(const char *what, int err)
{
	if (!atomic_fetch_add(&report->errors, 1))
		snprintf(report->error, sizeof(report->error), "%s: %s", what, strerror(-err));
}

enum { OFFER = 1, TAKEN, FAREWELL, FAREWELL_TOO };

struct note {
	uint64_t what, region, value;
};

/* Sends a note; by poll and push, or by one call. 0 or -errno. */
static int send_note(int queue, struct note n)
{
	struct vine_msg m = { .len = sizeof(n) };
	int ret;

	memcpy(m.data, &n, sizeof(n));
	state(TRANSFER);
	ret = vine_push(queue, &m, 1);
	state(IDLE);
	return ret == 1 ? 0 : ret;
}

/* Waits for a note, asleep in poll or in the transfer itself. */
static int get_note(int queue, struct note *n)
{
	struct pollfd p = { .fd = queue, .events = POLLIN };
	struct vine_msg m;
	int ret;

	state(TRANSFER);
	if (next_random(&rnd) & 1) {
		ret = poll(&p, 1, PATIENCE * 1000);
		ret = ret < 0 ? -errno : !ret ? -ETIMEDOUT : vine_pull(queue, &m, 1, 0, 0);
	} else {
		ret = vine_pull(queue, &m, 1, 1, vine_deadline_ms(PATIENCE * 1000));
	}
	state(IDLE);
	if (ret != 1)
		return ret;
	memcpy(n, m.data, sizeof(*n));
	return m.len == sizeof(*n) ? 0 : -EBADMSG;
}

static void fill(uint64_t *map, uint64_t value)
{
	unsigned int i;

	state(MAPPED);
	for (i = 0; i < BYTES / 8; i++)
		store(&map[i], value);
	state(IDLE);
}

/*
 * Is every word @value? After a hang-up, the writer may have died in the middle of
 * the one after it, or of its answer: but nothing that is not of this session.
 */
static bool is_filled(const uint64_t *map, uint64_t value, bool hung)
{
	unsigned int i;
	uint64_t w;
	bool good = true;

	state(MAPPED);
	for (i = 0; i < BYTES / 8 && good; i++) {
		w = load(&map[i]);
		good = w == value || (hung && (w == ~value || w == value + 1));
	}
	state(IDLE);
	if (!good && !atomic_fetch_add(&report->errors, 1))
		snprintf(report->error, sizeof(report->error), "word %u is %#llx, not %#llx%s",
			 i - 1, (unsigned long long)w, (unsigned long long)value,
			 hung ? ", after a hang-up" : "");
	return good;
}

/* The session ended with @err: did the other side hang up? */
static void judge_end(int queue, int err, const char *where)
{
	struct pollfd p = { .fd = queue };
	struct vine_msg m = { .len = 0 };

	atomic_store(&report->in_session, 0);
	if (!err) {
		atomic_fetch_add(&report->farewells, 1);
		return;
	}
	/* whatever the error was, its cause must be a hang-up that poll sees too */
	if (poll(&p, 1, PATIENCE * 1000) != 1 || !(p.revents & POLLHUP) || (p.revents & POLLERR)) {
		worker_error(where, err);
		return;
	}
	while ((err = vine_pull(queue, &m, 1, 0, 0)) == 1)
		;
	if (err != -EPIPE)
		worker_error("pull after the hang-up", err);
	m = (struct vine_msg){ .len = 0 };
	err = vine_push(queue, &m, 1);
	if (err != -EPIPE)
		worker_error("push after the hang-up", err);
	atomic_fetch_add(&report->hangups, 1);
}

static int client_session(int queue, uint64_t value, const char **where)
{
	unsigned int rounds = 1 + next_random(&rnd) % 8, i;
	struct note n;
	uint64_t *map, id;
	void *at;
	int fd, err;

	*where = "region";
	state(REGION);
	fd = vine_region(device, BYTES, NULL);
	state(IDLE);
	if (fd < 0)
		return fd;
	*where = "map";
	err = vine_map(fd, BYTES, &at);
	if (err)
		goto close;
	map = at;
	*where = "attach";
	err = vine_attach(queue, fd, &id);
	for (i = 0; i < rounds && !err; i++, value++) {
		*where = "offer";
		fill(map, value);
		err = send_note(queue, (struct note){ OFFER, id, value });
		if (!err)
			err = get_note(queue, &n);
		if (!err && (n.what != TAKEN || n.value != value || !is_filled(map, ~value, false)))
			err = -EBADMSG;
	}
	if (!err) {
		*where = "farewell";
		err = send_note(queue, (struct note){ FAREWELL, id, value });
	}
	if (!err)	/* the server closes right behind it: it must come all the same */
		err = get_note(queue, &n);
	if (!err && n.what != FAREWELL_TOO)
		err = -EBADMSG;
	munmap(at, BYTES);
close:
	close(fd);
	return err;
}

static void client(void)
{
	const char *where = "connect";
	uint64_t value;
	int queue, err;

	for (;;) {
		state(CONNECT);
		queue = vine_connect(device, service, 8, VINE_WAIT_SERVICE,
				     vine_deadline_ms(PATIENCE * 1000), NULL);
		state(IDLE);
		if (queue == -ECONNREFUSED)
			continue;	/* it died, or was withdrawn, before it accepted */
		if (queue < 0) {
			worker_error("connect", queue);
			_exit(1);
		}
		atomic_store(&report->in_session, atomic_fetch_add(&report->sessions, 1) + 1);
		value = next_random(&rnd) & ~0xffULL;
		err = client_session(queue, value, &where);
		judge_end(queue, err, where);
		close(queue);
	}
}

static int server_session(int queue, uint64_t **map, uint64_t *value, const char **where)
{
	struct note n;
	uint64_t id = 0;
	void *at;
	int fd, err;

	for (;;) {
		*where = "request";
		err = get_note(queue, &n);
		if (err)
			return err;
		if (n.what == FAREWELL) {
			*where = "farewell";
			return send_note(queue, (struct note){ FAREWELL_TOO, 0, 0 });
		}
		if (n.region != id) {
			*where = "import";
			state(IMPORT);
			fd = vine_import(queue, n.region, NULL);
			state(IDLE);
			if (fd < 0)
				return fd;
			err = vine_map(fd, BYTES, &at);
			close(fd);
			if (err)
				return err;
			*map = at;
			id = n.region;
		}
		*value = n.value;
		*where = "answer";
		if (!is_filled(*map, n.value, false)) {
			/* a client that was killed meanwhile changes nothing, so: wrong */
			worker_error("content", -EBADMSG);
			return -EBADMSG;
		}
		fill(*map, ~n.value);
		err = send_note(queue, (struct note){ TAKEN, id, n.value });
		if (err)
			return err;
	}
}

static void server(void)
{
	const char *where = "";
	uint64_t *map, value;
	int listener, queue, err;

	listener = vine_listen(device, service, 0, 0);
	if (listener < 0) {
		worker_error("listen", listener);
		_exit(1);
	}
	for (;;) {
		state(ACCEPT);
		queue = vine_accept(listener, 0, vine_deadline_ms(PATIENCE * 1000), NULL);
		state(IDLE);
		if (queue < 0) {
			worker_error("accept", queue);
			_exit(1);
		}
		atomic_store(&report->in_session, atomic_fetch_add(&report->sessions, 1) + 1);
		map = NULL;
		err = server_session(queue, &map, &value, &where);
		judge_end(queue, err, where);
		close(queue);
		/* nobody takes it from us: not the death of its owner, nor the queue's end */
		if (map) {
			is_filled(map, value, true);
			munmap(map, BYTES);
		}
	}
}

static void bus_error(int sig)
{
	(void)sig;
	worker_error("SIGBUS", -EFAULT);
	_exit(1);
}

static void worker(struct place *p)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGBUS, bus_error);
	alarm(0);
	report = p->report;
	rnd = getpid() * 77ULL + p->pair;
	snprintf(service, sizeof(service), "%s-%d", prefix, p->pair);
	device = vine_open(p->role == SERVER && server_path ? server_path : device_path);
	if (device < 0) {
		worker_error("open", device);
		_exit(1);
	}
	if (p->role == CLIENT)
		client();
	else
		server();
}

/* ---- the parent ---- */

static int mon, mon_server = -1;
static struct place *places;
static int count;		/* of places */
static unsigned long histogram[2][STATES], kills, in_session_kills, unnoticed, stuck;

static void start(struct place *p)
{
	fflush(stdout);
	atomic_store(&p->report->state, IDLE);
	atomic_store(&p->report->in_session, 0);
	p->pid = fork();
	if (p->pid < 0)
		tap_bail("fork: %s", strerror(errno));
	if (!p->pid)
		worker(p);	/* does not return */
}

static void kill_place(struct place *p)
{
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
}

/* Has any worker failed by itself, or ended? */
static bool anything_wrong(void)
{
	int i;

	for (i = 0; i < count; i++)
		if (atomic_load(&places[i].report->errors) ||
		    waitpid(places[i].pid, NULL, WNOHANG) != 0)
			return true;
	return false;
}

/* The state in which @role was hit least, of those that are not done; or any. */
static enum state next_state(enum role role, uint64_t *random)
{
	enum state s, best = IDLE;

	for (s = CONNECT; s < STATES; s++)
		if (demanded[role][s] && histogram[role][s] < (unsigned long)hits &&
		    (best == IDLE || histogram[role][s] < histogram[role][best]))
			best = s;
	return best == IDLE ? CONNECT + next_random(random) % (STATES - 1) : best;
}

static bool all_hit(void)
{
	enum role r;
	enum state s;

	for (r = CLIENT; r <= SERVER; r++) {
		if (!both && (r == CLIENT) != only_client)
			continue;
		for (s = CONNECT; s < STATES; s++)
			if (demanded[r][s] && histogram[r][s] < (unsigned long)hits)
				return false;
	}
	return true;
}

static struct place *other_side(struct place *p)
{
	int i;

	for (i = 0; i < count; i++)
		if (places[i].pair == p->pair && places[i].role != p->role)
			return &places[i];
	return NULL;
}

/* One kill, and what must follow from it. */
static bool kill_one(uint64_t *random)
{
	struct place *p = &places[next_random(random) % count], *peer = other_side(p);
	enum state want = next_state(p->role, random);
	unsigned long session, sessions = atomic_load(&p->report->sessions);
	uint64_t stop;

	/* first it must have got into a session: so its predecessor's end was noticed */
	if (!until(atomic_load(&p->report->sessions) > sessions || anything_wrong() ||
		   atomic_load(&p->report->in_session), PATIENCE)) {
		tap_note("the %s of pair %d does not get into a session (it is in: %s)",
			 role_name[p->role], p->pair, state_name[atomic_load(&p->report->state)]);
		stuck++;
		return false;
	}
	stop = now_ns() + 2000000000ULL;
	while (atomic_load(&p->report->state) != (int)want && now_ns() < stop)
		sched_yield();
	/* a little later, not always at the state's very beginning */
	stop = now_ns() + next_random(random) % 300000;
	while (atomic_load(&p->report->state) == (int)want && now_ns() < stop)
		;
	session = peer ? atomic_load(&peer->report->in_session) : 0;
	kill_place(p);
	histogram[p->role][atomic_load(&p->report->state)]++;
	in_session_kills += atomic_load(&p->report->in_session) != 0;
	kills++;
	if (session && !until(atomic_load(&peer->report->in_session) != session, PATIENCE)) {
		tap_note("a %s was killed in %s, and its %s has not noticed",
			 role_name[p->role], state_name[atomic_load(&p->report->state)],
			 role_name[peer->role]);
		unnoticed++;
	}
	start(p);
	return true;
}

static void print_histogram(enum role role)
{
	char line[256];
	int at = 0;
	enum state s;

	for (s = 0; s < STATES; s++)
		if (histogram[role][s])
			at += snprintf(line + at, sizeof(line) - at, ", %s %lu", state_name[s],
				       histogram[role][s]);
	if (at)
		tap_note("%s killed in: %s", role_name[role], line + 2);
}

static void *wait_for_killer(void *arg)
{
	uint64_t their_kills;
	char name[VINE_SERVICE_NAME];

	snprintf(name, sizeof(name), "%s-end", prefix);
	if (meet(mon, true, name, 0, &their_kills, time_limit))
		tap_note("the other side has killed %llu", (unsigned long long)their_kills);
	atomic_store((atomic_bool *)arg, true);
	return NULL;
}

/* Ours are not killed: they go on until the other side has had enough. */
static bool be_there(void)
{
	static atomic_bool done;
	pthread_t thread;
	bool good;

	if (pthread_create(&thread, NULL, wait_for_killer, &done))
		return false;
	good = until(atomic_load(&done) || anything_wrong(), time_limit);
	good = good && !anything_wrong();
	if (atomic_load(&done))
		pthread_join(thread, NULL);
	return good;
}

static void end_all(void)
{
	int i;

	for (i = 0; i < count; i++)
		kill_place(&places[i]);
}

static bool report_errors(unsigned long *hangups, unsigned long *farewells)
{
	bool good = true;
	struct report *r;
	int i;

	*hangups = *farewells = 0;
	for (i = 0; i < count; i++) {
		r = places[i].report;
		*hangups += atomic_load(&r->hangups);
		*farewells += atomic_load(&r->farewells);
		if (!atomic_load(&r->errors))
			continue;
		good = false;
		tap_note("%s of pair %d: %s (%lu errors)", role_name[places[i].role],
			 places[i].pair, r->error, atomic_load(&r->errors));
	}
	return good;
}

static void make_places(void)
{
	struct report *reports;
	enum role role;
	int pair;

	places = calloc(2 * pairs, sizeof(*places));
	reports = mmap(NULL, 2 * pairs * sizeof(*reports), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!places || reports == MAP_FAILED)
		tap_bail("no memory");
	for (pair = 0; pair < pairs; pair++)
		for (role = CLIENT; role <= SERVER; role++)
			if (both || (role == CLIENT) == only_client) {
				places[count].role = role;
				places[count].pair = pair;
				places[count].report = &reports[count];
				count++;
			}
}

static void run_killer(void)
{
	uint64_t random = 4711 + hits;
	char name[VINE_SERVICE_NAME];

	while (!all_hit() && kills < KILLS_MAX && !anything_wrong() && kill_one(&random))
		;
	print_histogram(CLIENT);
	print_histogram(SERVER);
	tap_note("%lu kills, %lu of them in a session", kills, in_session_kills);
	tap_ok(all_hit(), "each of connect, accept, transfer and mapped I/O that we do was killed %ld times",
	       hits);
	tap_ok(!stuck && !unnoticed, "after each kill the other side hung up and took the next one");
	if (!both) {
		snprintf(name, sizeof(name), "%s-end", prefix);
		tap_ok(meet(mon, false, name, kills, NULL, PATIENCE), "the other side is still there");
	}
}

int main(int argc, char **argv)
{
	const struct option_value options[] = {
		{ .name = "--both", .flag = &both },
		{ .name = "--client", .flag = &only_client },
		{ .name = "--server", .flag = &only_server },
		{ .name = "--survive", .flag = &survive },
		{ .name = "--hits", .number = &hits },
		{ .name = "--pairs", .number = &pairs },
		{ .name = "--name", .text = &prefix },
		{ .name = "--device", .text = &device_path },
		{ .name = "--server-device", .text = &server_path },
		{ .name = "--timeout", .number = &time_limit },
		{ }
	};
	unsigned long hangups, farewells;
	bool good;
	int i;

	parse_options(argc, argv, usage, options);
	if (both + only_client + only_server != 1 || (both && survive) || pairs < 1) {
		fputs("wrong usage; see --help\n", stderr);
		return 2;
	}
	limit_time(time_limit);
	tap_plan(survive ? 4 : both ? 4 : 5);
	mon = open_device(device_path);
	if (server_path)
		mon_server = open_device(server_path);
	make_places();
	for (i = 0; i < count; i++)
		start(&places[i]);
	if (survive)
		tap_ok(be_there(), "survived all that the other side killed");
	else
		run_killer();
	/* before we kill them all: what they have seen so far */
	good = report_errors(&hangups, &farewells);
	end_all();
	tap_note("sessions ended by %lu hang-ups and %lu farewells", hangups, farewells);
	if (survive)
		tap_ok(hangups, "hang-ups were seen");
	tap_ok(good, "sessions ended with a farewell or a hang-up; mapped memory stayed as it was");
	/* the other machine's processes hold what they import: they end as well */
	good = all_back(mon, true, PATIENCE);
	if (mon_server >= 0)
		good = all_back(mon_server, true, PATIENCE) && good;
	tap_ok(good, "every queue, region and chunk came back");
	return tap_end();
}
