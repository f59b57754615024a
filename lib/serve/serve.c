// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * serve.c - the calls of vine_serve.h, and the loop
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "host/host.h"
#include "serve/serve.h"
#include "talk/trace.h"

#define EXPORT __attribute__((visibility("default")))

#define EVENTS		64	/* of one round */
#define ACCEPT_MS	100	/* when descriptors are short, or the service cannot be offered */
#define BYTES_MAX	(16U << 20)

static int fail(char *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(char *error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, VINE_SERVE_ERROR, format, args);
	va_end(args);
	return -1;
}

uint64_t serve_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

void serve_deadline(struct vine_serve *s, uint64_t *deadline, uint64_t when)
{
	*deadline = when;
	if (when < s->next_deadline)
		s->next_deadline = when;
}

/* ---- the log ---- */

struct serve_text serve_text(const char *text)
{
	struct serve_text t;
	unsigned int i;

	for (i = 0; i < sizeof(t.text) - 1 && text[i]; i++)
		t.text[i] = text[i] < ' ' || text[i] > '~' ? '?' : text[i];
	t.text[i] = 0;
	return t;
}

static void write_line(struct vine_serve *s, const char *format, va_list args)
{
	char line[640];

	vsnprintf(line, sizeof(line), format, args);
	if (s->log)
		s->log(line);
	else
		fprintf(stderr, "vine: %s\n", line);
}

void serve_log(struct vine_serve *s, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	write_line(s, format, args);
	va_end(args);
}

void serve_log_client(struct vine_serve *s, unsigned int machine, struct session *session,
		      const char *format, ...)
{
	va_list args;

	if (!limit_log(s, machine, session ? &session->pace : NULL))
		return;
	va_start(args, format);
	write_line(s, format, args);
	va_end(args);
}

/* ---- what is offered ---- */

static int copy_options(struct vine_serve *s, const struct vine_serve_options *options,
			char *error)
{
	struct vine_serve_options o = { 0 };
	const struct passwd *user;

	if (options && options->size > sizeof(o))
		return fail(error, "this program was built for a newer libvine");
	if (options)
		memcpy(&o, options, options->size);
	if (!o.name)
		o.name = "vinetalk";
	if (!*o.name || strlen(o.name) >= sizeof(s->name))
		return fail(error, "the service's name must have 1 to %zu bytes",
			    sizeof(s->name) - 1);
	strcpy(s->name, o.name);
	if (o.device) {
		s->device_path = strdup(o.device);
		if (!s->device_path)
			return fail(error, "no memory");
	}
	s->time_limit = o.time_limit_ms * 1000000ULL;
	s->allow_code = o.allow_code;
	s->allow_source = o.allow_source;
	s->once = o.once;
	s->bytes_max = o.bytes_max ? o.bytes_max : BYTES_MAX;
	s->log = o.log;
	if (o.code_user && geteuid())
		return fail(error, "uploaded code can run as the user %.100s only when root starts "
			    "the appliance", o.code_user);
	s->code_uid = geteuid();
	s->code_gid = getegid();
	if ((!s->allow_code && !s->allow_source) || s->code_uid)
		return 0;
	user = getpwnam(o.code_user ? o.code_user : "nobody");
	if (!user || !user->pw_uid)
		return fail(error, "uploaded code cannot run as the user %.100s: %s",
			    o.code_user ? o.code_user : "nobody",
			    user ? "it is root" : "there is none");
	s->code_uid = user->pw_uid;
	s->code_gid = user->pw_gid;
	return 0;
}

EXPORT struct vine_serve *vine_serve_new(const struct vine_serve_options *options,
					 char *error)
{
	struct vine_serve *s = calloc(1, sizeof(*s));

	if (!s) {
		fail(error, "no memory");
		return NULL;
	}
	s->device = -1;
	s->listener = -1;
	s->epoll = -1;
	s->signals = -1;
	s->stop = -1;
	s->forker[0].socket = -1;
	s->forker[1].socket = -1;
	list_init(&s->connections);
	list_init(&s->gone);
	list_init(&s->dirty);
	list_init(&s->strangers);
	list_init(&s->sessions);
	list_init(&s->procedures);
	s->next_deadline = VINE_FOREVER;
	if (copy_options(s, options, error))
		goto free;
	s->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->stop < 0) {
		fail(error, "cannot make an eventfd: %m");
		goto free;
	}
	return s;

free:
	vine_serve_free(s);
	return NULL;
}

EXPORT int vine_serve_plugin(struct vine_serve *s, const char *path, char *error)
{
	return plugins_load(&s->plugins, path, error);
}

EXPORT int vine_serve_plugins(struct vine_serve *s, const char *folder, char *error)
{
	return plugins_load_folder(&s->plugins, folder, error);
}

EXPORT int vine_serve_procedure(struct vine_serve *s, const struct vine_procedure *procedure,
				char *error)
{
	return plugins_add(&s->plugins, procedure, error);
}

EXPORT unsigned int vine_serve_procedures(const struct vine_serve *s,
					  const struct vine_procedure **array,
					  unsigned int room)
{
	unsigned int n = s->plugins.count;

	if (room)
		memcpy(array, s->plugins.procedures, (n < room ? n : room) * sizeof(*array));
	return n;
}

EXPORT const struct vine_compiler *vine_serve_compiler(const struct vine_serve *s,
						       vine_accel_type_e type)
{
	return type > ANY && type < VINE_ACCEL_TYPES ? s->plugins.compilers[type] : NULL;
}

static int parse_pci(const char *text, uint64_t *pci)
{
	unsigned int domain, bus, dev, fn;
	int end = 0;

	if (sscanf(text, "%4x:%2x:%2x.%1x%n", &domain, &bus, &dev, &fn, &end) != 4 ||
	    text[end] || strspn(text, "0123456789abcdefABCDEF:.") != strlen(text) ||
	    dev > 31 || fn > 7)
		return -1;
	*pci = 1ULL << 63 | (uint64_t)domain << 16 | bus << 8 | dev << 3 | fn;
	return 0;
}

static void worker_init(struct vine_serve *s, struct worker *w, struct lane *lane)
{
	w->lane = lane;
	w->socket = -1;
	w->deadline = VINE_FOREVER;
	w->number = s->worker_count;
	s->workers[s->worker_count++] = w;
}

static void accelerator_free(struct accelerator *a)
{
	if (a)
		free(a->lane);
	free(a);
}

EXPORT int vine_serve_accelerator(struct vine_serve *s, const char *name,
				  vine_accel_type_e type, unsigned int workers,
				  const char *pci, char *error)
{
	struct accelerator *a, **accelerators;
	struct worker **all;
	unsigned int i;

	if (!name || !*name || strlen(name) >= sizeof(a->name))
		return fail(error, "an accelerator's name must have 1 to %zu bytes",
			    sizeof(a->name) - 1);
	for (i = 0; i < s->accelerator_count; i++)
		if (!strcmp(s->accelerators[i]->name, name))
			return fail(error, "there are two accelerators %s", name);
	if (type <= ANY || type >= VINE_ACCEL_TYPES)
		return fail(error, "accelerator %s: %d is no type of an accelerator", name, type);
	if (!workers || workers > WORKERS_MAX)
		return fail(error, "accelerator %s: it must have 1 to %d workers", name,
			    WORKERS_MAX);
	a = calloc(1, sizeof(*a));
	if (!a)
		return fail(error, "no memory");
	if (pci && parse_pci(pci, &a->pci)) {
		free(a);
		return fail(error, "accelerator %s: %.40s is no PCI address such as 0000:01:00.0",
			    name, pci);
	}
	strcpy(a->name, name);
	a->type = type;
	list_init(&a->flows);
	a->lane_count = workers;
	a->lane = calloc(workers, sizeof(*a->lane));
	accelerators = realloc(s->accelerators,
			       (s->accelerator_count + 1) * sizeof(*accelerators));
	if (accelerators)
		s->accelerators = accelerators;
	all = realloc(s->workers, (s->worker_count + 2 * workers) * sizeof(*all));
	if (all)
		s->workers = all;
	if (!a->lane || !accelerators || !all) {
		accelerator_free(a);
		return fail(error, "no memory");
	}
	s->accelerators[s->accelerator_count++] = a;
	for (i = 0; i < workers; i++) {
		a->lane[i].accelerator = a;
		worker_init(s, &a->lane[i].plain, &a->lane[i]);
		worker_init(s, &a->lane[i].code, &a->lane[i]);
	}
	return 0;
}

/* ---- the listener ---- */

int serve_watch(struct vine_serve *s, int fd, uint32_t events, struct source *source)
{
	struct epoll_event ev = { .events = events, .data.ptr = source };

	return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

bool serve_lost(struct vine_serve *s, int err)
{
	if (err == -ENODEV)
		s->failed = "the device is gone";
	else if (err == -ENOTCONN)
		s->rejoin = true;
	else
		return false;
	return true;
}

/* @events: EPOLLIN or 0 */
static void want_connections(struct vine_serve *s, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = &s->listener_source };

	epoll_ctl(s->epoll, EPOLL_CTL_MOD, s->listener, &ev);
}

/* Not for a while: what is waiting would be reported at once, again and again. */
static void pause_connections(struct vine_serve *s)
{
	s->next_accept = serve_now() + ACCEPT_MS * 1000000ULL;
	want_connections(s, 0);
}

static void listener_ready(struct vine_serve *s, struct source *source, uint32_t events)
{
	struct vine_accept accepted;
	int i, queue;

	(void)source;
	(void)events;
	for (i = 0; i < BATCH; i++) {
		queue = vine_accept(s->listener, VINE_NONBLOCK, 0, &accepted);
		if (queue == -EAGAIN || queue == -EINTR || serve_lost(s, queue))
			return;
		if (queue < 0) {
			serve_log(s, "cannot accept a connection: %s", strerror(-queue));
			pause_connections(s);
			return;
		}
		connection_new(s, queue, accepted.peer);
	}
}

/* 0 or -errno */
static int offer(struct vine_serve *s)
{
	int err;

	s->listener = vine_listen(s->device, s->name, TALK_SERVICE, VINE_NONBLOCK);
	if (s->listener < 0)
		return s->listener;
	s->listener_source.ready = listener_ready;
	err = serve_watch(s, s->listener, EPOLLIN, &s->listener_source);
	if (err) {
		vine_close(s->listener);
		s->listener = -1;
	}
	return err;
}

static void withdraw(struct vine_serve *s)
{
	if (s->listener < 0)
		return;
	epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->listener, NULL);
	vine_close(s->listener);
	s->listener = -1;
}

/* It is time to try again. */
static void retry(struct vine_serve *s)
{
	int err = 0;

	s->next_accept = 0;
	if (s->listener < 0)
		err = offer(s);
	else
		want_connections(s, EPOLLIN);
	if (err) {
		/* not joined yet: workers may still have memory of before */
		if (err != -ENOTCONN && !serve_lost(s, err))
			serve_log(s, "cannot offer %s: %s", s->name, strerror(-err));
		s->next_accept = serve_now() + ACCEPT_MS * 1000000ULL;
	}
}

/* ---- the loop ---- */

static void sweep(struct vine_serve *s)
{
	struct list *item, *next;

	list_each(item, next, &s->gone) {
		struct connection *c = container_of(item, struct connection, link);

		if (!c->running)
			connection_free(s, c);
	}
}

static void close_connections(struct vine_serve *s)
{
	struct list *item, *next;

	list_each(item, next, &s->connections)
		connection_close(s, container_of(item, struct connection, link), NULL);
}

/*
 * This machine was taken for dead and has joined anew: no queue and no region of before is of
 * any use. On an endpoint it joins when no worker maps what was imported: retry() has patience.
 */
static void rejoin(struct vine_serve *s)
{
	unsigned int i;

	serve_log(s, "this machine was taken for dead: %s is offered anew as soon as it has joined",
		  s->name);
	s->rejoin = false;
	withdraw(s);
	close_connections(s);
	for (i = 0; i < s->worker_count; i++)
		if (s->workers[i]->task)
			worker_kill(s, s->workers[i], vine_reason_lost);
	retry(s);
}

static void end_round(struct vine_serve *s)
{
	struct list *item, *next;
	uint64_t now = serve_now();
	unsigned int i;

	s->copied = 0;
	if (s->rejoin)
		rejoin(s);
	if (s->next_accept && now >= s->next_accept)
		retry(s);
	if (now >= s->next_deadline) {
		s->next_deadline = VINE_FOREVER;
		workers_expire(s, now);
		forker_expire(s, now);
	}
	connections_expire(s, now);
	while (s->work) {
		s->work = false;
		for (i = 0; i < s->accelerator_count; i++)
			scheduler_run(s, s->accelerators[i]);
	}
	list_each(item, next, &s->dirty) {
		list_del(item);
		connection_flush(s, container_of(item, struct connection, dirty));
	}
	sweep(s);
	if (s->once && s->served && !s->used[LIMIT_QUEUES])
		s->stopped = true;
}

/* Milliseconds until something is to be done that no descriptor tells of. */
static int timeout(const struct vine_serve *s)
{
	uint64_t then = s->next_deadline, hello = connections_deadline(s), now;

	if (s->work || s->rejoin)
		return 0;
	if (hello < then)
		then = hello;
	if (s->next_accept && s->next_accept < then)
		then = s->next_accept;
	if (then == VINE_FOREVER)
		return -1;
	now = serve_now();
	if (then <= now)
		return 0;
	then = (then - now) / 1000000 + 1;
	return then < 1000000 ? then : 1000000;
}

static void children_died(struct vine_serve *s, struct source *source, uint32_t events)
{
	struct signalfd_siginfo info;

	(void)source;
	(void)events;
	if (read(s->signals, &info, sizeof(info)) != sizeof(info))
		return;
	workers_reap(s);
}

static void stop(struct vine_serve *s, struct source *source, uint32_t events)
{
	(void)source;
	(void)events;
	s->stopped = true;
}

static int loop(struct vine_serve *s, char *error)
{
	struct epoll_event events[EVENTS];
	int i, n;

	while (!s->stopped && !s->failed) {
		n = epoll_wait(s->epoll, events, EVENTS, timeout(s));
		if (n < 0 && errno != EINTR)
			return fail(error, "cannot wait: %m");
		for (i = 0; i < n; i++) {
			struct source *source = events[i].data.ptr;

			source->ready(s, source, events[i].events);
		}
		end_round(s);
	}
	return s->failed ? fail(error, "%s", s->failed) : 0;
}

/* ---- start and end ---- */

static void raise_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l))
		return;
	l.rlim_cur = l.rlim_max;
	setrlimit(RLIMIT_NOFILE, &l);
}

static int open_device(struct vine_serve *s, char *error)
{
	const char *path = s->device_path;
	int err;

	if (!path)
		path = secure_getenv("VINE_DEVICE");
	if (!path || !*path)
		path = "/dev/vine0";
	s->device = vine_open(path);
	if (s->device < 0 && host_name(path))
		return fail(error, "cannot open %.300s: %s", path, host_why());
	if (s->device < 0)
		return fail(error, "cannot open %.150s: %s%s", path, strerror(-s->device),
			    s->device == -ENOENT ? " (is the module vine loaded?)" : "");
	err = offer(s);
	switch (err) {
	case 0:
		serve_log(s, "offers %s: accelerators: %u, procedures: %u", s->name,
			  s->accelerator_count, s->plugins.count);
		return 0;
	case -ENOTTY:
		return fail(error, "%.200s is no device of vine", path);
	case -EADDRINUSE:
		return fail(error, "this machine offers a service %s already", s->name);
	default:
		return fail(error, "cannot offer %s on %.150s: %s", s->name, path, strerror(-err));
	}
}

/* Compilers that cannot do their work are found now, and not by clients. */
static int start_compilers(struct vine_serve *s, char *error)
{
	bool asked = false, ready = false;
	unsigned int i;

	for (i = 0; s->allow_source && !s->stopped && i < s->accelerator_count; i++) {
		if (!plugins_compiler(&s->plugins, s->accelerators[i]->type))
			continue;
		asked = true;
		ready |= !worker_probe(s, s->accelerators[i]);
	}
	if (!s->allow_source || ready || s->stopped)
		return 0;
	return fail(error, asked ? "no accelerator can run source, as said above" :
		    "source is allowed, but no plugin has a compiler for these accelerators");
}

static int start(struct vine_serve *s, char *error)
{
	sigset_t child;
	unsigned int i;
	int err;

	if (!s->accelerator_count)
		return fail(error, "there is no accelerator to offer");
	if (s->allow_code && !sandbox_keeps_files())
		serve_log(s, "uploaded code can read all files that its user may: this kernel has "
			  "no Landlock");
	if (!forker_numbers())
		serve_log(s, "in handlers the first thread's own clock and affinity are another "
			  "process's: this kernel was built without CHECKPOINT_RESTORE");
	gethostname(s->host, sizeof(s->host) - 1);
	raise_limit();
	limits_init(s);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	s->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	s->signal_source.ready = children_died;
	s->stop_source.ready = stop;
	if (s->epoll < 0 || s->signals < 0 ||
	    serve_watch(s, s->signals, EPOLLIN, &s->signal_source) ||
	    serve_watch(s, s->stop, EPOLLIN, &s->stop_source))
		return fail(error, "cannot make an epoll set: %m");
	err = forker_start(s);
	for (i = 0; i < s->worker_count && !err; i += 2)	/* every other is for code */
		err = worker_start(s, s->workers[i]);
	if (err)
		return fail(error, "cannot start a worker: %s", strerror(-err));
	if (start_compilers(s, error))
		return -1;
	return s->stopped ? 0 : open_device(s, error);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void end(struct vine_serve *s)
{
	withdraw(s);
	close_connections(s);
	workers_end(s);
	sweep(s);
	if (s->device >= 0)
		vine_close(s->device);
	s->device = -1;
	close_fd(&s->signals);
	close_fd(&s->epoll);
}

EXPORT int vine_serve_run(struct vine_serve *s, char *error)
{
	struct sigaction old_child, old_pipe, act = { .sa_handler = SIG_DFL };
	struct talk_config config = { .trace = false };
	sigset_t child, old;
	int ret;

	talk_config_environment(&config);
	trace_open(config.trace, config.trace_dir, 0);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, &old);
	sigaction(SIGCHLD, &act, &old_child);
	act.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &act, &old_pipe);

	ret = start(s, error);
	if (!ret)
		ret = loop(s, error);
	end(s);

	sigaction(SIGPIPE, &old_pipe, NULL);
	sigaction(SIGCHLD, &old_child, NULL);
	sigprocmask(SIG_SETMASK, &old, NULL);
	trace_close();
	return ret;
}

EXPORT void vine_serve_stop(struct vine_serve *s)
{
	uint64_t one = 1;
	int old = errno;

	while (write(s->stop, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	errno = old;
}

EXPORT void vine_serve_free(struct vine_serve *s)
{
	unsigned int i;

	if (!s)
		return;
	for (i = 0; i < s->accelerator_count; i++)
		accelerator_free(s->accelerators[i]);
	free(s->accelerators);
	free(s->workers);
	plugins_free(&s->plugins);
	close_fd(&s->stop);
	free(s->device_path);
	free(s);
}
