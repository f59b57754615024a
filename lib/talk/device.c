// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * device.c - the back end "device": work for the appliances behind /dev/vineN; and "shm",
 *            which is the same behind an endpoint of this process
 *
 * device.h says what lies behind it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/host.h"
#include "talk/device.h"

int device = -1;
bool device_spins;

static struct descriptor descriptor = { .fd = -1 };
static char path[4096 + 128];

/* ---- the device ---- */

/* Opens @name, and @path from then on. */
static int open_name(const char *name)
{
	struct vine_info info;
	int ret;

	if (connections_open() || descriptors_init()) {
		talk_warn("no memory");
		return -ENOMEM;
	}
	descriptors_lock();
	ret = vine_open(name);
	descriptor_is(&descriptor, ret);
	descriptors_unlock();
	if (ret < 0 && host_name(name)) {
		talk_warn("cannot open %s: %s", name, host_why());
		return ret;
	}
	if (ret < 0) {
		talk_warn("cannot open %s: %s%s", name, strerror(-ret),
			  ret == -ENOENT ? " (is the module vine loaded?)" : "");
		return ret;
	}
	device = ret;
	ret = device_info(&info);
	if (ret) {
		talk_warn("%s: %s", path, ret == -ENOTTY ? "this is no vine device" : strerror(-ret));
		descriptor_close(&descriptor);
	}
	device_spins = !ret && info.kind == VINE_KIND_HOST;
	return ret;
}

static int device_open(const struct talk_config *config)
{
	const char *name = *config->shm_file ? config->shm_file : secure_getenv("VINE_DEVICE");

	snprintf(path, sizeof(path), "%s", name && *name ? name : "/dev/vine0");
	return open_name(path);
}

/*
 * The seeds' keys as the name of an endpoint. shm_file is a file's path, or a name for
 * shm_open(3), which may begin with a slash and has no other. Truncated once at most.
 */
static int shm_open_file(const struct talk_config *config)
{
	const char *file = config->shm_file;
	char name[sizeof(path) + sizeof("&trunc=1")];

	if (host_name(file))
		return device_open(config);
	if (!*file) {
		talk_warn("shm_file is missing: the back end shm needs it");
		return -EINVAL;
	}
	if (*file != '/' && strchr(file, '/')) {
		talk_warn("shm_file is %s: expected an absolute path, or a name without a slash",
			  file);
		return -EINVAL;
	}
	if (*file == '/' && !strchr(file + 1, '/'))
		file++;
	snprintf(path, sizeof(path), "shm:%s?off=%llu", file,
		 (unsigned long long)config->shm_off);
	if (config->shm_size)
		snprintf(path + strlen(path), sizeof(path) - strlen(path), "&size=%llu",
			 (unsigned long long)config->shm_size);
	strcpy(name, path);
	if (config->shm_trunc)
		strcat(name, "&trunc=1");
	return open_name(name);
}

int device_reopen(void)
{
	int fd, ret = 0;

	heap_check();
	descriptors_lock();
	fd = vine_open(path);
	/* others are using the number */
	if (fd >= 0)
		ret = host_move(fd, device);
	descriptors_unlock();
	return fd < 0 ? fd : ret;
}

static void device_close(void)
{
	appliances_fail();
	procedures_close();
	connections_close();
	heap_close();
	appliances_free();
	descriptor_close(&descriptor);
}

static void device_forked(void)
{
	descriptors_forked();
	connections_forked();
	heap_forked();
	appliances_forked();
	procedures_forked();
}

/* ---- accelerators ---- */

static int device_accel_list(vine_accel_type_e type, struct talk_accel_obj **list, int room)
{
	struct appliance *a;
	unsigned int i;
	int n = 0;

	appliances_find();
	for (a = appliance_next(NULL); a; a = appliance_next(a)) {
		for (i = 0; i < a->count; i++) {
			if (type != ANY && a->accels[i].obj.type != type)
				continue;
			if (n < room)
				list[n] = &a->accels[i].obj;
			n++;
		}
	}
	return n;
}

static void device_accel_location(struct talk_accel_obj *obj, vine_accel_loc_s *loc)
{
	struct device_accel *accel = (struct device_accel *)obj;
	struct appliance *a = accel->appliance;
	unsigned int pci = accel->pci;

	snprintf(loc->segment, sizeof(loc->segment), "%.63s", path);
	snprintf(loc->appliance, sizeof(loc->appliance), "%s", a->name);
	snprintf(loc->name, sizeof(loc->name), "%s", accel->name);
	snprintf(loc->host, sizeof(loc->host), "%s", a->host);
	if (accel->pci >> 63)
		snprintf(loc->pci, sizeof(loc->pci), "%04x:%02x:%02x.%x", pci >> 16 & 0xffff,
			 pci >> 8 & 0xff, pci >> 3 & 0x1f, pci & 7);
	loc->peer = a->peer;
	loc->incarnation = a->incarnation;
}

/* STAT, ACQUIRE, RELEASE */
static int ask(const struct device_accel *accel, uint8_t op, void *answer, size_t size)
{
	struct talk_accel_op request = { .head = { .op = op }, .id = accel->id };
	struct vine_msg msg;

	message_set(&msg, &request, sizeof(request));
	return appliance_ask(accel->appliance, NULL, &msg, 1, op, answer, size);
}

static vine_accel_state_e device_accel_stat(struct talk_accel_obj *obj,
					    vine_accel_stats_s *stats)
{
	struct device_accel *accel = (struct device_accel *)obj;
	struct talk_stat s;

	if (ask(accel, TALK_STAT, &s, sizeof(s)))
		return accel_failed;
	if (s.head.a > accel_busy) {
		appliance_nonsense(accel->appliance);
		return accel_failed;
	}
	if (s.head.a == accel_failed)
		return accel_failed;
	*stats = (vine_accel_stats_s){
		.queued = s.queued, .running = s.running, .done = s.done, .failed = s.failed,
		.busy_ns = s.busy_ns,
	};
	return s.head.a;
}

static void virtual_destroy(struct handle *h)
{
	free(h);
}

static int release(const struct device_accel *accel)
{
	struct talk_acquired answer;
	int ret;

	ret = ask(accel, TALK_RELEASE, &answer, sizeof(answer));
	if (ret)
		return ret;
	if (answer.head.a > 1 || answer.reserved)
		return appliance_nonsense(accel->appliance);
	return answer.head.a ? -EINVAL : 0;
}

static int device_accel_acquire(struct talk_accel_obj *obj, struct talk_accel_obj **acquired)
{
	struct device_accel *accel = (struct device_accel *)obj, *virtual;
	struct talk_acquired answer;
	int ret;

	virtual = malloc(sizeof(*virtual));
	if (!virtual)
		return -ENOMEM;
	ret = ask(accel, TALK_ACQUIRE, &answer, sizeof(answer));
	if (!ret && (answer.head.a > 1 || answer.reserved))
		ret = appliance_nonsense(accel->appliance);
	if (!ret && answer.head.a)
		ret = -EBUSY;
	if (ret)
		goto fail;
	*virtual = *accel;
	virtual->id = answer.id;
	virtual->obj.virtual = true;
	virtual->obj.name = virtual->name;
	ret = handle_open(&virtual->obj.h, HANDLE_ACCEL, virtual_destroy);
	if (ret) {
		release(virtual);
		goto fail;
	}
	*acquired = &virtual->obj;
	return 0;
fail:
	free(virtual);
	return ret;
}

static int device_accel_release(struct talk_accel_obj *obj)
{
	return release((struct device_accel *)obj);
}

/* ---- buffers ---- */

static int device_data_alloc(size_t size, struct talk_data_obj **data)
{
	struct device_data *d = calloc(1, sizeof(*d));
	int ret;

	if (!d)
		return -ENOMEM;
	ret = heap_alloc(size, &d->block);
	if (ret) {
		free(d);
		return ret;
	}
	d->obj.address = d->block->address;
	*data = &d->obj;
	return 0;
}

static void device_data_free(struct talk_data_obj *data)
{
	heap_free(((struct device_data *)data)->block);
	free(data);
}

/* ---- tasks ---- */

static struct talk_task_obj *device_task_new(void)
{
	struct device_task *t = calloc(1, sizeof(*t));

	return t ? &t->obj : NULL;
}

/* Of its own session a thread's queue is refused only when that has ended. */
static bool ends_session(int error)
{
	switch (error) {
	case -ENOENT:
	case -ECONNREFUSED:
	case -EPIPE:
	case -ETIMEDOUT:
	case -EPROTO:
	case -EACCES:
	case -ENOTCONN:
	case -ENODEV:
		return true;
	default:
		return false;
	}
}

static int issue_on_own_queue(struct device_task *t, const struct device_accel *accel,
			      uint32_t proc)
{
	struct connection *c;
	int ret;

	ret = connection_of_thread(accel->appliance, &c);
	if (ret && ends_session(ret)) {
		appliance_lost(accel->appliance, ret);
		return -EPIPE;
	}
	if (ret) {
		talk_warn("no queue to appliance %s: %s", accel->appliance->name, strerror(-ret));
		return ret;
	}
	ret = connection_issue(c, t, accel->id, proc);
	connection_put(c);
	if (ret == -ENOTCONN && !accel->appliance->lost)
		talk_warn("a buffer is lost: this machine was taken for dead since it was made");
	else if (ret && ret != -EPIPE && ret != -ENOTCONN)
		talk_warn("cannot issue a task to appliance %s: %s", accel->appliance->name,
			  strerror(-ret));
	return ret;
}

static int device_task_issue(struct talk_task_obj *task)
{
	struct device_task *t = (struct device_task *)task;
	struct device_accel *accel = (struct device_accel *)task->accel;
	vine_task_reason_e reason;
	unsigned int tries = 3;
	uint32_t proc;
	int ret;

	if (accel->appliance->lost)
		return -EPIPE;
	ret = procedure_number(task->proc, accel->appliance, &proc, &reason);
	if (ret)
		return ret;
	if (reason) {
		talk_task_done(task, reason, 0);
		return 0;
	}
	/* a queue that broke while its session goes on is replaced */
	do
		ret = issue_on_own_queue(t, accel, proc);
	while (ret == -EPIPE && !accel->appliance->lost && --tries);
	return ret;
}

/* There is none when the task never was in flight. */
static struct connection *connection_of(struct talk_task_obj *task)
{
	return atomic_load(&((struct device_task *)task)->connection);
}

static void device_task_poll(struct talk_task_obj *task)
{
	if (connection_of(task))
		connection_poll(connection_of(task));
}

static void device_task_wait(struct talk_task_obj *task)
{
	if (connection_of(task))
		connection_wait(connection_of(task), (struct device_task *)task);
}

static void device_task_free(struct talk_task_obj *task)
{
	if (connection_of(task))
		connection_put(connection_of(task));
	free(task);
}

#define BEHIND_A_DESCRIPTOR							\
	.close = device_close,							\
	.forked = device_forked,						\
	.accel_list = device_accel_list,					\
	.accel_location = device_accel_location,				\
	.accel_stat = device_accel_stat,					\
	.accel_acquire = device_accel_acquire,					\
	.accel_release = device_accel_release,					\
	.proc_register = procedure_register,					\
	.proc_get = procedure_get,						\
	.proc_put = procedure_put,						\
	.data_alloc = device_data_alloc,					\
	.data_free = device_data_free,						\
	.task_new = device_task_new,						\
	.task_issue = device_task_issue,					\
	.task_poll = device_task_poll,						\
	.task_wait = device_task_wait,						\
	.task_free = device_task_free

const struct talk_backend talk_device = {
	.name = "device", .open = device_open, BEHIND_A_DESCRIPTOR
};

const struct talk_backend talk_shm = {
	.name = "shm", .open = shm_open_file, BEHIND_A_DESCRIPTOR
};
