// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * appliance.c - sessions with appliances: found, asked on their control queues, lost
 *
 * An appliance that comes back after it was lost is a new session, with new accelerators.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "talk/device.h"

#define ACCELS_MAX	4096

static pthread_mutex_t search = PTHREAD_MUTEX_INITIALIZER;	/* one thread looks for them */
static _Atomic(struct appliance *) all;		/* only ever grows, at its head */

static const char *why(int error)
{
	switch (error) {
	case -ETIMEDOUT:
		return "it does not answer";
	case -EPROTO:
		return "it sends nonsense";
	case -EACCES:
		return "it speaks another version of the protocol";
	case -ENOSPC:
		return "no room for a queue in the shared memory";
	case -EPIPE:
	case -ECONNREFUSED:
	case -ENOENT:
		return "it has ended";
	case -ENOTCONN:
		return "this machine was taken for dead";
	case -ENODEV:
		return "the device is gone";
	default:
		return strerror(-error);
	}
}

/* ---- asking ---- */

int appliance_ask(struct appliance *a, const struct heap_block *block,
		  const struct vine_msg *msgs, unsigned int n, uint8_t op, void *answer,
		  size_t size)
{
	struct talk_head head, asked;
	struct vine_msg msg;
	int ret = -EPIPE;

	pthread_mutex_lock(&a->request);
	if (!a->lost)
		ret = connection_request(a->control, block, msgs, n, &msg, 1);
	pthread_mutex_unlock(&a->request);
	if (!ret) {
		memcpy(&asked, msgs->data, sizeof(asked));
		memcpy(&head, msg.data, sizeof(head));
		if (msg.len == size && head.op == op && head.tag == asked.tag && !head.b && !head.c) {
			memcpy(answer, msg.data, size);
			return 0;
		}
		ret = -EPROTO;
	}
	if (ret != -EPROTO && !a->lost && !a->control->dead)
		return ret;
	appliance_lost(a, ret);
	return -EPIPE;
}

int appliance_nonsense(struct appliance *a)
{
	appliance_lost(a, -EPROTO);
	return -EPIPE;
}

void appliance_lost(struct appliance *a, int error)
{
	if (atomic_exchange(&a->lost, true))
		return;
	talk_warn("appliance %s is lost: %s", a->name, why(error));
	if (error == -ETIMEDOUT || error == -EPROTO)
		a->retry = vine_deadline_ms(device_patience_ms);
	connections_fail(a);
}

/* ---- finding ---- */

/* What its accelerator number @i is. */
static int ask_accel(struct appliance *a, unsigned int i)
{
	struct talk_accel_get get = { .head = { .op = TALK_ACCEL, .tag = i } };
	struct device_accel *accel = &a->accels[i];
	struct talk_accel answer;
	struct vine_msg msg;
	int ret;

	message_set(&msg, &get, sizeof(get));
	ret = appliance_ask(a, NULL, &msg, 1, TALK_ACCEL, &answer, sizeof(answer));
	if (ret)
		return ret;
	if (answer.head.a == ANY || answer.head.a >= VINE_ACCEL_TYPES || answer.reserved ||
	    !memchr(answer.name, 0, sizeof(answer.name)))
		return appliance_nonsense(a);
	accel->appliance = a;
	accel->id = answer.id;
	accel->pci = answer.pci;
	memcpy(accel->name, answer.name, sizeof(accel->name));
	accel->obj.type = answer.head.a;
	accel->obj.name = accel->name;
	return 0;
}

static void accel_destroy(struct handle *h)
{
	(void)h;	/* it is a part of its appliance, and goes with that */
}

/* Accelerators that have handles are @count; all of them when this gives 0. */
static int open_handles(struct appliance *a, unsigned int accels)
{
	int ret = 0;

	while (a->count < accels && !ret) {
		ret = handle_open(&a->accels[a->count].obj.h, HANDLE_ACCEL, accel_destroy);
		a->count += !ret;
	}
	return ret;
}

/* Begins a session. All answers together may take as long as one does elsewhere. */
static int greet(struct appliance *a)
{
	uint64_t deadline = vine_deadline_ms(device_patience_ms);
	struct greeting g = { .service = a->service };
	struct vine_info own;
	unsigned int i;
	int ret;

	ret = device_info(&own);
	if (!ret)
		ret = connection_open(a, &g, &a->control);
	if (ret)
		return ret;
	if (g.accels > ACCELS_MAX)
		return -EPROTO;
	memcpy(a->host, g.host, sizeof(a->host));
	memcpy(a->token, g.token, sizeof(a->token));
	a->peer = g.peer;
	a->incarnation = g.incarnation;
	clock_init(&a->clock, g.peer == own.peer && g.incarnation == own.incarnation);
	clock_sample(&a->clock, g.pushed, g.received, g.sent, g.pulled);
	a->accels = calloc(g.accels, sizeof(*a->accels));
	if (g.accels && !a->accels)
		return -ENOMEM;
	for (i = 0; i < g.accels && !ret; i++)
		ret = talk_now() < deadline ? ask_accel(a, i) : -ETIMEDOUT;
	return ret ? ret : open_handles(a, g.accels);
}

/* Anybody may have written the shared table: what moves a terminal's cursor becomes '?'. */
static void set_name(struct appliance *a, const uint8_t *name)
{
	unsigned int i;

	for (i = 0; i < sizeof(a->name) - 1 && name[i]; i++)
		a->name[i] = name[i] >= ' ' && name[i] < 0x7f ? name[i] : '?';
}

static struct appliance *appliance_new(const struct vine_service *s)
{
	struct appliance *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->service = s->id;
	set_name(a, s->name);
	pthread_mutex_init(&a->request, NULL);
	pthread_mutex_init(&a->clock_lock, NULL);
	return a;
}

static void appliance_free(struct appliance *a)
{
	pthread_mutex_destroy(&a->request);
	pthread_mutex_destroy(&a->clock_lock);
	free(a->accels);
	free(a);
}

/* Whoever offers a service and then has none is not asked again at once: it would be asked often. */
static bool its_fault(int error)
{
	switch (error) {
	case -ETIMEDOUT:
	case -EPROTO:
	case -EACCES:
	case -EPIPE:
	case -ECONNREFUSED:
		return true;
	default:
		return false;
	}
}

/* Ends a session that did not begin: nobody has heard of it. */
static void give_up(struct appliance *a, int error)
{
	if (!a->control) {
		a->lost = true;
		talk_warn("cannot connect to appliance %s: %s", a->name, why(error));
		return;
	}
	appliance_lost(a, error);
	while (a->count)
		handle_close(HANDLE_ACCEL, a->accels[--a->count].obj.h.value);
	connection_put(a->control);
	a->control = NULL;
	free(a->accels);
	a->accels = NULL;
}

/* The latest session with a service; NULL: there was none. */
static struct appliance *known(uint64_t service)
{
	struct appliance *a, *found = NULL;

	for (a = all; a; a = a->next) {
		if (a->service == service)
			found = a;
	}
	return found;
}

static void add(struct appliance *a)
{
	_Atomic(struct appliance *) *link = &all;

	while (*link)
		link = &(*link)->next;
	*link = a;
}

static void open_session(const struct vine_service *s)
{
	struct appliance *before = known(s->id), *a;
	uint64_t retry = 0;
	int ret;

	if (before && (!before->lost || talk_now() < before->retry))
		return;
	a = appliance_new(s);
	if (!a)
		return;
	ret = greet(a);
	if (!ret) {
		add(a);
		return;
	}
	if (a->control || its_fault(ret))
		retry = vine_deadline_ms(device_patience_ms);
	give_up(a, ret);
	/* kept when nothing else would tell when to try again */
	a->retry = retry;
	if (before)
		before->retry = retry;
	if (retry && !before)
		add(a);
	else
		appliance_free(a);
}

/* Services, in an array to be freed. -errno */
static int list_services(struct vine_service **array)
{
	struct vine_service *grown;
	int room = 0, n;

	*array = NULL;
	for (;;) {
		n = vine_services(device, *array, room);
		if (n == -EINTR)
			continue;
		if (n <= room)
			break;
		room = n + 8;
		grown = realloc(*array, room * sizeof(*grown));
		if (!grown) {
			n = -ENOMEM;
			break;
		}
		*array = grown;
	}
	if (n >= 0)
		return n;
	free(*array);
	*array = NULL;
	return n;
}

/* Notices which have ended. One that is being asked something will be noticed by that. */
static void check(struct appliance *a)
{
	int ret;

	if (pthread_mutex_trylock(&a->request))
		return;
	ret = connection_check(a->control);
	pthread_mutex_unlock(&a->request);
	if (ret)
		appliance_lost(a, ret);
}

void appliances_find(void)
{
	struct vine_service *services;
	struct appliance *a;
	int i, n;

	pthread_mutex_lock(&search);
	for (a = appliance_next(NULL); a; a = appliance_next(a))
		check(a);
	connections_poll();
	n = list_services(&services);
	if (n == -ENODEV && !device_reopen())
		n = list_services(&services);
	if (n < 0)
		talk_warn("cannot look for appliances: %s", strerror(-n));
	for (i = 0; i < n; i++) {
		if (services[i].type == TALK_SERVICE)
			open_session(&services[i]);
	}
	free(services);
	pthread_mutex_unlock(&search);
}

struct appliance *appliance_next(struct appliance *a)
{
	a = a ? a->next : all;
	while (a && a->lost)
		a = a->next;
	return a;
}

bool appliance_has(const struct appliance *a, vine_accel_type_e type)
{
	unsigned int i;

	for (i = 0; i < a->count; i++) {
		if (type == ANY || a->accels[i].obj.type == type)
			return true;
	}
	return false;
}

/* ---- the end ---- */

void appliances_fail(void)
{
	struct appliance *a;

	for (a = all; a; a = a->next) {
		a->lost = true;
		connections_fail(a);
	}
}

void appliances_free(void)
{
	struct appliance *a;

	while ((a = all)) {
		all = a->next;
		appliance_free(a);
	}
}

void appliances_forked(void)
{
	all = NULL;
	pthread_mutex_init(&search, NULL);
}
