// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * peer.c - an appliance in a process of its own, and a client; see peer.h
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fake_vine.h"
#include "peer.h"

#define LINES	1024

/* Without fake_vine.c there is a device. */
#pragma weak fake_vine_error

struct shared {
	atomic_uint lines;
	char line[LINES][256];
};

static struct shared *shared;
static struct vine_serve *served;	/* in the appliance */
static pid_t running;
unsigned int appliance_files;
bool appliance_small_kernel;

void peer_nap(void)
{
	const struct timespec nap = { 0, 500000 };

	nanosleep(&nap, NULL);
}

/* ---- the appliance ---- */

const char *peer_file(const char *name)
{
	static char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash;

	path[n < 0 ? 0 : n] = 0;
	slash = strrchr(path, '/');
	if (!slash || slash + 1 - path + strlen(name) >= sizeof(path))
		exit(2);
	strcpy(slash + 1, name);
	return path;
}

static void log_line(const char *line)
{
	unsigned int n = shared->lines;

	if (n == LINES)
		return;
	snprintf(shared->line[n], sizeof(shared->line[n]), "%s", line);
	shared->lines = n + 1;
}

unsigned int appliance_said(const char *text)
{
	unsigned int i, n = 0;

	for (i = 0; i < shared->lines; i++)
		n += !text || strstr(shared->line[i], text);
	return n;
}

static void stop(int sig)
{
	(void)sig;
	vine_serve_stop(served);
}

bool peer_fake(void)
{
	return &fake_vine_error;
}

bool peer_endpoint(void)
{
	int device = vine_open(NULL);
	struct vine_info info;
	bool is = !vine_info(device, &info) && info.kind == VINE_KIND_HOST;

	vine_close(device);
	return is;
}

static void lose_device(int sig)
{
	fake_vine_error = sig == SIGUSR1 ? ENOTCONN : ENODEV;
}

#define LOAD(what)	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, what))
#define IS(value, yes, no)	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define RETURN(what)	BPF_STMT(BPF_RET | BPF_K, what)

static int lose_features(void)
{
	struct sock_filter filter[] = {
		LOAD(nr), IS(SYS_landlock_create_ruleset, 0, 1), RETURN(SECCOMP_RET_ERRNO | ENOSYS),
		IS(SYS_prctl, 0, 3), LOAD(args[0]), IS(PR_GET_TID_ADDRESS, 0, 1),
		RETURN(SECCOMP_RET_ERRNO | EINVAL), RETURN(SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int appliance(const struct vine_serve_options *options)
{
	const struct rlimit files = { appliance_files, appliance_files };
	struct vine_serve_options o = *options;
	char error[VINE_SERVE_ERROR] = "";
	int ret = 1;

	if (appliance_files)
		setrlimit(RLIMIT_NOFILE, &files);
	if (appliance_small_kernel && lose_features())
		return 1;
	o.size = sizeof(o);
	o.log = log_line;
	served = vine_serve_new(&o, error);
	if (!served) {
		log_line(error);
		return 1;
	}
	signal(SIGTERM, stop);
	if (peer_fake()) {
		signal(SIGUSR1, lose_device);
		signal(SIGUSR2, lose_device);
	}
	if (vine_serve_plugin(served, peer_file("plugins/handlers.so"), error) ||
	    vine_serve_plugin(served, peer_file("faults/faults.so"), error) ||
	    vine_serve_plugin(served, peer_file("shipped/add.so"), error) ||
	    vine_serve_accelerator(served, "cpu0", CPU, 1, NULL, error) ||
	    vine_serve_accelerator(served, "cpu1", CPU, 1, NULL, error) ||
	    vine_serve_accelerator(served, "gpu0", GPU, 2, "0000:01:00.0", error) ||
	    vine_serve_accelerator(served, "fpga0", FPGA, 1, NULL, error) ||
	    vine_serve_run(served, error))
		log_line(error);
	else
		ret = 0;
	signal(SIGTERM, SIG_IGN);
	vine_serve_free(served);
	return ret;
}

/* One fake device for this program, and no other program. */
static void set_device(void)
{
	char path[] = "/tmp/vine-test-XXXXXX";
	int fd;

	if (shared)
		return;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		exit(2);
	if (!peer_fake())
		return;
	fd = mkstemp(path);
	if (fd < 0)
		exit(2);
	/* it stays a device as long as somebody has it open, and leaves nothing behind */
	unlink(path);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), fd);
	setenv("VINE_DEVICE", path, 1);
}

pid_t appliance_start(const struct vine_serve_options *options)
{
	pid_t pid;

	set_device();
	/* that of a test that failed */
	if (running) {
		kill(running, SIGKILL);
		appliance_wait(running);
	}
	shared->lines = 0;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		exit(appliance(options));
	}
	if (!EVENTUALLY(appliance_said("offers vinetalk") || waitpid(pid, NULL, WNOHANG)))
		kill(pid, SIGKILL);
	/* two to fork workers, and 5 of those */
	EVENTUALLY(count_children(pid) == 7 || !process_state(pid));
	running = pid;
	return pid;
}

int appliance_wait(pid_t pid)
{
	int status = 0;

	waitpid(pid, &status, 0);
	running = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int appliance_stop(pid_t pid)
{
	kill(pid, SIGTERM);
	return appliance_wait(pid);
}


char process_state(pid_t pid)
{
	char path[64], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 0;
	fclose(f);
	return state;
}

static pid_t parent_of(const char *pid)
{
	char path[300], line[512], *name;
	int parent = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	/* PID (NAME) STATE PARENT, and a name may hold anything */
	if (fgets(line, sizeof(line), f)) {
		name = strrchr(line, ')');
		if (name)
			sscanf(name, ") %*c %d", &parent);
	}
	fclose(f);
	return parent;
}

/* The kernel's own list of children is a matter of its configuration. */
unsigned int each_child(pid_t pid, unsigned int (*see)(pid_t child))
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	unsigned int n = 0;

	while (dir && (entry = readdir(dir)))
		if (atoi(entry->d_name) > 0 && parent_of(entry->d_name) == pid)
			n += see(atoi(entry->d_name));
	if (dir)
		closedir(dir);
	return n;
}

static unsigned int one(pid_t pid)
{
	(void)pid;
	return 1;
}

unsigned int count_children(pid_t pid)
{
	return each_child(pid, one);
}

unsigned int count_fds(pid_t pid)
{
	unsigned int n = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n - count_children(pid);
}

/* ---- messages ---- */

bool peer_send(int queue, const void *message, size_t size)
{
	struct vine_msg msg = { .len = size };
	uint64_t until = vine_deadline_ms(PATIENCE_MS);
	int n;

	memcpy(msg.data, message, size);
	while ((n = vine_push(queue, &msg, 1)) == -EAGAIN && vine_deadline_ms(1) < until)
		peer_nap();
	return n == 1;
}

bool peer_receive(int queue, void *message, size_t size)
{
	struct vine_msg msg;

	if (vine_pull(queue, &msg, 1, 1, vine_deadline_ms(PATIENCE_MS)) != 1 || msg.len != size)
		return false;
	memcpy(message, msg.data, size);
	return true;
}

bool peer_ask(int queue, const void *request, size_t size, void *answer, size_t answer_size)
{
	return peer_send(queue, request, size) && peer_receive(queue, answer, answer_size);
}

bool peer_closed(int queue)
{
	struct vine_msg msg;
	int n;

	do
		n = vine_pull(queue, &msg, 1, 1, vine_deadline_ms(PATIENCE_MS));
	while (n == 1);
	return n == -EPIPE;
}

/* ---- a client ---- */

int peer_queue(const struct peer *p, const uint64_t token[2], struct talk_welcome *welcome)
{
	struct talk_hello hello = {
		.head = { .op = TALK_HELLO }, .version = TALK_VERSION, .pid = getpid(),
	};
	struct talk_host host;
	int queue;

	queue = vine_connect(p->device, "vinetalk", TALK_DEPTH, 0, vine_deadline_ms(PATIENCE_MS),
			     NULL);
	if (queue < 0)
		return -1;
	if (token)
		memcpy(hello.token, token, sizeof(hello.token));
	if (!peer_ask(queue, &hello, sizeof(hello), welcome, sizeof(*welcome)) ||
	    !peer_receive(queue, &host, sizeof(host)) || welcome->head.op != TALK_WELCOME ||
	    host.head.op != TALK_HOST) {
		vine_close(queue);
		return -1;
	}
	return queue;
}

bool peer_attach(const struct peer *p, int queue, unsigned int index)
{
	struct talk_region region = { .head = { .op = TALK_REGION, .tag = index } };

	return !vine_attach(queue, p->region, &region.id) &&
		peer_send(queue, &region, sizeof(region));
}

static bool open_on_device(struct peer *p, uint64_t bytes)
{
	struct talk_welcome welcome;

	p->region = vine_region(p->device, bytes, &p->bytes);
	if (p->device < 0 || p->region < 0 || vine_map(p->region, p->bytes, (void **)&p->base))
		return false;
	p->control = peer_queue(p, NULL, &welcome);
	if (p->control < 0 || welcome.head.a)
		return false;
	memcpy(p->token, welcome.token, sizeof(p->token));
	p->accels = welcome.accels;
	p->queue = peer_queue(p, p->token, &welcome);
	return p->queue >= 0 && !welcome.head.a && peer_attach(p, p->control, 0) &&
		peer_attach(p, p->queue, 0);
}

bool peer_open(struct peer *p, uint64_t bytes)
{
	*p = (struct peer){ .device = vine_open(NULL), .control = -1, .queue = -1, .region = -1 };
	return open_on_device(p, bytes);
}

bool peer_open_beside(struct peer *p, const struct peer *other, uint64_t bytes)
{
	*p = (struct peer){ .device = other->device, .beside = true, .control = -1, .queue = -1,
			    .region = -1 };
	return open_on_device(p, bytes);
}

void peer_close(struct peer *p)
{
	if (p->base)
		vine_unmap(p->base, p->bytes);
	if (p->queue >= 0)
		vine_close(p->queue);
	if (p->control >= 0)
		vine_close(p->control);
	if (p->region >= 0)
		vine_close(p->region);
	if (!p->beside)
		vine_close(p->device);
}

static void set_name(struct talk_name *n, uint8_t op, vine_accel_type_e type, const char *name)
{
	*n = (struct talk_name){ .head = { .op = op, .a = type, .b = strlen(name), .tag = 77 } };
	memcpy(n->name, name, strlen(name));
}

uint32_t peer_get(struct peer *p, vine_accel_type_e type, const char *name, int *status)
{
	struct talk_proc proc = { .head.a = 0xff };
	struct talk_name n;

	set_name(&n, TALK_GET, type, name);
	if (!peer_ask(p->control, &n, sizeof(n), &proc, sizeof(proc)) || proc.head.tag != 77)
		return 0;
	if (status)
		*status = proc.head.a;
	return proc.id;
}

uint32_t peer_register(struct peer *p, vine_accel_type_e type, const char *name,
		       const void *bytes, size_t size, int *status)
{
	struct talk_bytes b = { .head = { .op = TALK_BYTES, .tag = 77 }, .ref = { 0, size } };
	struct talk_proc proc = { .head.a = 0xff };
	struct talk_name n;

	if (size)
		memcpy(p->base, bytes, size);
	set_name(&n, TALK_REGISTER, type, name);
	if (!peer_send(p->control, &n, sizeof(n)) ||
	    !peer_ask(p->control, &b, sizeof(b), &proc, sizeof(proc)) || proc.head.tag != 77)
		return 0;
	if (status)
		*status = proc.head.a;
	return proc.id;
}

uint32_t peer_issue(struct peer *p, uint32_t accel, uint32_t proc, unsigned int flags,
		    unsigned int in_count, unsigned int out_count, const struct talk_ref *ref)
{
	unsigned int left = !!(flags & TALK_ARGS) + in_count + out_count, n;
	struct talk_task task = {
		.head = { .op = TALK_TASK, .a = flags, .b = in_count, .c = out_count,
			  .tag = ++p->tag },
		.accel = accel, .proc = proc,
	};
	struct talk_refs refs;

	n = left < 2 ? left : 2;
	if (n)
		memcpy(task.ref, ref, n * sizeof(*ref));
	if (!peer_send(p->queue, &task, sizeof(task)))
		return 0;
	for (ref += n, left -= n; left; ref += n, left -= n) {
		n = left < 3 ? left : 3;
		refs = (struct talk_refs){ .head = { .op = TALK_REFS, .a = n, .tag = p->tag } };
		memcpy(refs.ref, ref, n * sizeof(*ref));
		if (!peer_send(p->queue, &refs, sizeof(refs)))
			return 0;
	}
	return p->tag;
}

bool peer_done(struct peer *p, struct talk_done *done)
{
	return peer_receive(p->queue, done, sizeof(*done)) && done->head.op == TALK_DONE;
}

bool peer_run(struct peer *p, uint32_t accel, uint32_t proc, unsigned int flags,
	      struct talk_done *done)
{
	const struct talk_ref ref[2] = { { 0, 64 }, { 4096, 64 } };
	uint32_t tag = peer_issue(p, accel, proc, flags, 1, 1, ref);

	return tag && peer_done(p, done) && done->head.tag == tag;
}

bool peer_works(struct peer *p, uint32_t accel, uint32_t add)
{
	const struct talk_ref ref[3] = { { 8192, 16 }, { 8300, 16 }, { 8400, 32 } };
	struct talk_done done;
	uint32_t tag;

	strcpy((char *)p->base + 8192, "world");
	strcpy((char *)p->base + 8300, "hello ");
	memset(p->base + 8400, 0, 32);
	tag = peer_issue(p, accel, add, 0, 2, 1, ref);
	return tag && peer_done(p, &done) && done.head.tag == tag &&
		done.head.a == vine_reason_none && done.received <= done.started &&
		done.started <= done.ended && done.ended <= done.sent &&
		!strcmp((char *)p->base + 8400, "hello world");
}

struct talk_stat peer_stat(struct peer *p, uint32_t accel)
{
	struct talk_accel_op op = { .head = { .op = TALK_STAT, .tag = 5 }, .id = accel };
	struct talk_stat stat = { .head.a = 0xff };

	if (!peer_ask(p->control, &op, sizeof(op), &stat, sizeof(stat)) || stat.head.tag != 5)
		stat.head.a = 0xff;
	return stat;
}

uint32_t peer_hold(struct peer *p, uint8_t op, uint32_t id)
{
	struct talk_accel_op request = { .head = { .op = op, .tag = 6 }, .id = id };
	struct talk_acquired answer = { .id = 0 };

	if (!peer_ask(p->control, &request, sizeof(request), &answer, sizeof(answer)) ||
	    answer.head.tag != 6 || answer.head.a != !answer.id)
		return 0;
	return answer.id;
}
