// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * work.c - a worker's own side: it maps what its tasks need, runs handlers, and answers
 *
 * It has nothing of the appliance's but its socket and what comes over it. Around each
 * mapping there are pages that cannot be touched.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "serve/work.h"

struct slot {
	char *address;		/* NULL: nothing */
	uint64_t bytes, client;
	const struct vine_compiler *compiler;	/* of @compiled, which may be NULL */
	void *compiled;
};

union request {
	uint32_t op;
	struct work_run run;
	struct work_forget forget;
};

static struct slot slots[WORK_SLOTS];
static size_t page;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* ---- memory ---- */

static size_t whole_pages(uint64_t bytes)
{
	return (bytes + page - 1) & ~(page - 1);
}

static void unmap(struct slot *slot)
{
	if (!slot->address)
		return;
	if (slot->compiled)
		slot->compiler->release(slot->compiled);
	munmap(slot->address - page, whole_pages(slot->bytes) + 2 * page);
	*slot = (struct slot){ 0 };
}

static int map(const struct work_map *m, int fd)
{
	struct slot *slot = &slots[m->slot];
	size_t bytes = whole_pages(m->bytes);
	char *room;

	unmap(slot);
	room = mmap(NULL, bytes + 2 * page, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return -1;
	if (mmap(room + page, bytes, m->read_only ? PROT_READ : PROT_READ | PROT_WRITE,
		 /* kernels before 6.7 share what is sealed with nobody, to be read neither */
		 (m->read_only ? MAP_PRIVATE : MAP_SHARED) | MAP_FIXED, fd,
		 m->beginning) == MAP_FAILED) {
		munmap(room, bytes + 2 * page);
		return -1;
	}
	slot->address = room + page;
	slot->bytes = m->bytes;
	slot->client = m->client;
	return 0;
}

/*
 * Other clients' memory is out of reach while a task runs. It costs some microseconds a region,
 * and more for large ones: so it stays as it is until the client changes.
 */
static int turn_to(uint64_t client)
{
	static uint64_t now_for;
	unsigned int i;
	int ret = 0;

	if (client == now_for)
		return 0;
	for (i = 0; i < WORK_SLOTS; i++) {
		struct slot *slot = &slots[i];

		if (!slot->address || (slot->client != client && slot->client != now_for))
			continue;
		if (mprotect(slot->address, whole_pages(slot->bytes),
			     slot->client == client ? PROT_READ | PROT_WRITE : PROT_NONE))
			ret = -1;
	}
	now_for = client;
	return ret;
}

/* @code: that of the bytes stays open, and is this. */
static int map_all(const struct work_run *run, const int *fds, int *code)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < run->maps; i++) {
		if (map(&run->map[i], fds[i]))
			ret = -1;
		if (code && run->map[i].slot == run->bytes_slot)
			*code = fds[i];
		else if (fds[i] >= 0)
			close(fds[i]);
	}
	return ret;
}

/* ---- redzones ---- */

static bool redzone_is_whole(const struct vine_buffer *out)
{
	const volatile uint8_t *zone = (const uint8_t *)out->address + out->size;
	unsigned int i;

	for (i = 0; i < TALK_REDZONE; i++)
		if (zone[i] != TALK_REDZONE_BYTE)
			return false;
	return true;
}

/* A bit for each output that is followed by a whole redzone. */
static uint64_t whole_redzones(const struct vine_call *call)
{
	uint64_t whole = 0;
	unsigned int i;

	for (i = 0; i < call->out_count; i++)
		if (redzone_is_whole(&call->out[i]))
			whole |= 1ULL << i;
	return whole;
}

/* ---- tasks ---- */

/* The source is made something to run, if it is not yet. False: @done says why not. */
static bool compile(const struct work_run *run, const struct vine_call *call,
		    struct work_done *done)
{
	struct slot *slot = &slots[run->bytes_slot];

	_Static_assert(WORK_WHY >= PLUGIN_ERROR && WORK_WHY >= VINE_COMPILER_TEXT, "why");
	if (!slot->compiled) {
		slot->compiler = run->compiler;
		slot->compiled = run->compiler->compile(call, done->why);
	}
	if (!slot->compiled)
		done->reason = vine_reason_not_compiled;
	return slot->compiled;
}

/* There is one task for this process: the code stays loaded until its end. */
static bool load(struct plugin_code *code, int fd, struct work_done *done)
{
	int err;

	if (sandbox_close())
		_exit(WORK_UNFIT);
	err = plugin_code_open_file(code, fd, done->why);
	if (err)
		done->reason = err == -ENOMEM ? vine_reason_no_memory : vine_reason_no_procedure;
	return !err;
}

static int run_handler(const struct work_run *run, const struct plugin_code *code,
		       const struct vine_call *call)
{
	if (run->handler)
		return run->handler->run(call);
	if (run->compiler)
		return run->compiler->run(slots[run->bytes_slot].compiled, call);
	return code->run(call);
}

static void run_task(const struct work_self *self, const struct work_run *run,
		     const int *fds, struct work_done *done)
{
	struct vine_buffer buffers[TALK_BUFFERS], *b = buffers;
	struct vine_call call = {
		.size = sizeof(call), .procedure = run->name, .accelerator = self->accelerator,
		.type = self->type,
	};
	bool uploaded = !run->handler && !run->compiler;
	struct plugin_code code;
	uint64_t damaged = 0;
	int fd = -1, ret;
	unsigned int i;

	done->started = now();
	if (turn_to(run->client) || map_all(run, fds, uploaded ? &fd : NULL)) {
		done->reason = vine_reason_no_memory;
		goto out;
	}
	if (run->bytes_size) {
		call.bytes = slots[run->bytes_slot].address;
		call.bytes_size = run->bytes_size;
	}
	if ((run->compiler && !compile(run, &call, done)) || (uploaded && !load(&code, fd, done)))
		goto out;
	for (i = 0; i < (unsigned int)run->has_args + run->in_count + run->out_count; i++)
		buffers[i] = (struct vine_buffer){
			slots[run->buffer[i].slot].address + run->buffer[i].offset,
			run->buffer[i].size,
		};
	if (run->has_args)
		call.args = *b++;
	call.in_count = run->in_count;
	call.out_count = run->out_count;
	call.in = b;
	call.out = b + run->in_count;
	/* what the client has damaged itself is not held against the handler */
	if (run->redzones)
		damaged = whole_redzones(&call);
	ret = run_handler(run, &code, &call);
	if (run->redzones)
		damaged &= ~whole_redzones(&call);
	if (damaged) {
		done->reason = vine_reason_overrun;
		done->detail = __builtin_ctzll(damaged);
	} else if (ret) {
		done->reason = vine_reason_handler;
		done->detail = ret;
	}
out:
	done->ended = now();
}

static void probe(const struct work_self *self, const struct work_run *run,
		  struct work_done *done)
{
	const struct vine_call call = {
		.size = sizeof(call), .accelerator = self->accelerator, .type = self->type,
	};

	if (run->compiler->probe(&call, done->why))
		done->reason = vine_reason_not_compiled;
}

/* ---- requests ---- */

/* Descriptors come in @fds; -1: there was no room for one. False: the appliance is no more. */
static bool receive(int socket, union request *request, int *fds)
{
	char control[CMSG_SPACE(sizeof(int) * (TALK_BUFFERS + 1))];
	struct iovec v = { request, sizeof(*request) };
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return false;
	memset(fds, 0xff, sizeof(int) * (TALK_BUFFERS + 1));
	c = CMSG_FIRSTHDR(&m);
	if (c)
		memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	return true;
}

static void serve(const struct work_self *self)
{
	static union request request;
	int fds[TALK_BUFFERS + 1];
	unsigned int i;

	while (receive(self->socket, &request, fds)) {
		struct work_done done = { .serial = request.run.serial };

		if (request.op == WORK_RUN)
			run_task(self, &request.run, fds, &done);
		else if (request.op == WORK_PROBE)
			probe(self, &request.run, &done);
		else
			for (i = 0; i < request.forget.slots; i++)
				unmap(&slots[request.forget.slot[i]]);
		if (send(self->socket, &done, sizeof(done), MSG_NOSIGNAL) < 0)
			return;
		/* something has eaten this process's memory or descriptors: a new one, please */
		if (done.reason == vine_reason_no_memory)
			return;
	}
}

/* ---- birth ---- */

/* Who calls exit() must not run what the appliance has registered for its own end. */
static void leave(void)
{
	_exit(1);
}

static void reset_signals(void)
{
	sigset_t none;
	int i;

	for (i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int work_silence(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), i;

	if (null < 0)
		return -1;
	for (i = 0; i <= 2; i++)
		if (dup2(null, i) < 0)
			return -1;
	close(null);
	return 0;
}

/*
 * Not the C library's calls, which have all its threads change: it would wait for those of the
 * process that we were cloned from, of whose end it does not know.
 */
int work_change_user(const struct work_self *self)
{
	uid_t uid = self->uid;
	gid_t gid = self->gid;

	if (geteuid())
		return 0;
	return syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setresgid, gid, gid, gid) ||
	       syscall(SYS_setresuid, uid, uid, uid) ? -1 : 0;
}

int work_drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	return syscall(SYS_capset, &header, none);
}

int work_begin(int socket)
{
	setpgid(0, 0);
	reset_signals();
	return (socket > 3 && close_range(3, socket - 1, 0)) ||
	       close_range(socket + 1, ~0U, 0) ? -1 : 0;
}

/* The appliance is no more, and may have gone before it was asked that its death kill us. */
static bool deserted(int socket)
{
	struct pollfd p = { .fd = socket };

	return poll(&p, 1, 0) != 0;
}

_Noreturn void work(const struct work_self *self)
{
	page = sysconf(_SC_PAGESIZE);
	if (work_begin(self->socket))
		_exit(WORK_UNFIT);
	prctl(PR_SET_NAME, self->source ? "vine-source" : self->code ? "vine-code" : "vine-worker");
	if (self->source ? confine_source(self) : self->code ? sandbox_rights(self) : 0)
		_exit(WORK_UNFIT);
	/* not before: a change of user takes it back */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || atexit(leave))
		_exit(WORK_UNFIT);
	if (!deserted(self->socket))
		serve(self);
	_exit(0);
}
