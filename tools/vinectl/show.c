// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * show.c - info, peers, services, queues, regions: as columns for people, as JSON for
 * programs
 *
 * Much of what is shown was written by other machines. Names may hold any bytes.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vine.h>

#include "vinectl.h"

#define LENGTH(array)	(sizeof(array) / sizeof((array)[0]))

/* ---- words ---- */

static const char *const peer_states[] = { "free", "live", "suspect", "gone" };
static const char *const service_states[] = { "free", "claim", "live" };
static const char *const queue_states[] = {
	"free", "claim", "connecting", "accepted", "refused", "cancelled",
};
static const char *const region_states[] = { "free", "claim", "live", "dying" };

#define STATE(states, state)	state_name(states, LENGTH(states), state)

static const char *state_name(const char *const *names, size_t count, uint32_t state)
{
	return state < count ? names[state] : "damaged";
}

/* What is not printable ASCII becomes \xNN: fit for terminals and for JSON. */
static const char *name_text(const uint8_t *name, char text[4 * VINE_SERVICE_NAME])
{
	char *at = text;
	size_t i;

	for (i = 0; i < VINE_SERVICE_NAME - 1 && name[i]; i++) {
		if (name[i] > ' ' && name[i] < 0x7f && name[i] != '\\')
			*at++ = (char)name[i];
		else
			at += sprintf(at, "\\x%02x", name[i]);
	}
	*at = 0;
	return text;
}

static const char *ago(uint64_t ms, char text[32])
{
	uint64_t s = ms / 1000;

	if (s < 1)
		return "just now";
	if (s < 60)
		snprintf(text, 32, "%" PRIu64 " s ago", s);
	else if (s < 3600)
		snprintf(text, 32, "%" PRIu64 " min %" PRIu64 " s ago", s / 60, s % 60);
	else
		snprintf(text, 32, "%" PRIu64 " h %" PRIu64 " min ago", s / 3600, s / 60 % 60);
	return text;
}

/* A number, or "-" when there is none. */
static void cell_unless(uint32_t none, uint32_t n)
{
	if (n == none)
		table_cell("-");
	else
		table_cell("%u", n);
}

/* ---- JSON ---- */

static void put(json_object *o, const char *key, uint64_t value)
{
	json_object_object_add(o, key, json_object_new_uint64(value));
}

static void put_text(json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

static void put_bool(json_object *o, const char *key, bool value)
{
	json_object_object_add(o, key, json_object_new_boolean(value));
}

/* 64 bits that are a name, not a number: JSON's numbers may have 53. */
static void put_id(json_object *o, const char *key, uint64_t id)
{
	char text[20];

	snprintf(text, sizeof(text), "0x%016" PRIx64, id);
	put_text(o, key, text);
}

/* null when there is none. */
static void put_unless(json_object *o, const char *key, uint32_t none, uint32_t value)
{
	json_object_object_add(o, key, value == none ? NULL : json_object_new_uint64(value));
}

static int print_json(json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
					    JSON_C_TO_STRING_SPACED |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
	return DONE;
}

/* ---- info ---- */

static const char *const kinds[] = { "doorbell", "plain", "loopback", "host" };
static const char *const memories[] = { "unknown", "cached", "uncached" };

static const char *word(const char *const *words, size_t count, uint32_t n)
{
	return n < count ? words[n] : "unknown";
}

static json_object *info_json(const struct options *o, const struct vine_info *i)
{
	json_object *j = json_object_new_object();

	put_text(j, "device", o->device);
	put_text(j, "kind", word(kinds, LENGTH(kinds), i->kind));
	put(j, "peer", i->peer);
	put(j, "incarnation", i->incarnation);
	put(j, "ivposition", i->ivposition);
	put(j, "vectors", i->vectors);
	put_text(j, "memory", word(memories, LENGTH(memories), i->memory_type));
	put_id(j, "generation", i->generation);
	put(j, "segment_bytes", i->segment_size);
	put(j, "chunk_bytes", i->chunk_size);
	put(j, "chunks", i->chunks);
	put(j, "chunks_free", i->chunks_free);
	put(j, "peers", i->peers);
	put(j, "services", i->services);
	put(j, "queues", i->queues);
	put(j, "own_queues", i->own_queues);
	put(j, "regions", i->regions);
	put(j, "own_regions", i->own_regions);
	return j;
}

int show_info(const struct options *o)
{
	static const char *const what[] = {
		"ivshmem-doorbell", "ivshmem without interrupts: polled", "loopback",
		"a process on the host",
	};
	char a[32], b[32], c[32];
	struct vine_info i;
	int device, err;

	device = device_open(o);
	if (device < 0)
		return FAILED;
	err = vine_info(device, &i);
	vine_close(device);
	if (err)
		return device_failed(o, "cannot ask it", err);
	if (o->json)
		return print_json(info_json(o, &i));
	printf("device    %s (%s)\n", o->device, word(what, LENGTH(what), i.kind));
	printf("peer      %u.%u, IVPosition %u, %u vector%s\n", i.peer, i.incarnation,
	       i.ivposition, i.vectors, i.vectors == 1 ? "" : "s");
	printf("segment   %s, generation %016" PRIx64 ", memory %s%s\n",
	       bytes_text(i.segment_size, a), (uint64_t)i.generation,
	       word(memories, LENGTH(memories), i.memory_type),
	       i.memory_type == VINE_MEMORY_UNCACHED ? " (slow)" : "");
	printf("memory    %s of %s free, in chunks of %s\n",
	       bytes_text(i.chunks_free * i.chunk_size, a),
	       bytes_text(i.chunks * i.chunk_size, b), bytes_text(i.chunk_size, c));
	printf("peers     %u\n", i.peers);
	printf("services  %u\n", i.services);
	printf("queues    %u, %u made by this machine\n", i.queues, i.own_queues);
	printf("regions   %u, %u made by this machine\n", i.regions, i.own_regions);
	return DONE;
}

/* ---- the tables ---- */

/* Two kinds of records at most: the second is looked up from the first. */
struct records {
	void *array, *others;
	int count, other_count;
	bool watched;		/* false: by an endpoint, which has only just come */
};

/* How to get a table, and to show one of its records. */
struct view {
	const char *const *heads;
	unsigned int columns;
	unsigned int what, other_what;		/* VINE_QUERY_*; 0: no others */
	size_t size, other_size;
	void (*row)(const void *record, const struct records *all);
	json_object *(*json)(const void *record, const struct records *all);
};

static int show(const struct options *o, const struct view *v)
{
	struct records all = { 0 };
	json_object *list;
	int device, i;

	device = device_open(o);
	if (device < 0)
		return FAILED;
	all.watched = !device_is_endpoint(device);
	all.count = device_query(o, device, v->what, v->size, &all.array);
	if (all.count >= 0 && v->other_what)
		all.other_count = device_query(o, device, v->other_what, v->other_size,
					       &all.others);
	vine_close(device);
	if (all.count < 0 || all.other_count < 0) {
		free(all.array);
		return FAILED;
	}
	if (o->json) {
		list = json_object_new_array();
		for (i = 0; i < all.count; i++)
			json_object_array_add(list, v->json((char *)all.array + i * v->size,
							    &all));
		print_json(list);
	} else {
		table_begin(v->heads, v->columns);
		for (i = 0; i < all.count; i++)
			v->row((char *)all.array + i * v->size, &all);
		table_print();
	}
	free(all.array);
	free(all.others);
	return DONE;
}

/* ---- peers ---- */

static void peer_row(const void *record, const struct records *all)
{
	const struct vine_query_peer *p = record;
	char text[32];

	table_cell("%u.%u", p->peer, p->incarnation);
	table_cell("%s", STATE(peer_states, p->state));
	table_cell("%u", p->ivposition);
	table_cell("%u", p->vectors);
	table_cell("%s", p->flags & VINE_QUERY_OWN ? "this machine" :
		   all->watched ? ago(p->silent_ms, text) : "-");
}

static json_object *peer_json(const void *record, const struct records *all)
{
	const struct vine_query_peer *p = record;
	json_object *j = json_object_new_object();

	put(j, "peer", p->peer);
	put(j, "incarnation", p->incarnation);
	put_text(j, "state", STATE(peer_states, p->state));
	put_bool(j, "own", p->flags & VINE_QUERY_OWN);
	put(j, "ivposition", p->ivposition);
	put(j, "vectors", p->vectors);
	put(j, "beats", p->beats);
	if (all->watched || p->flags & VINE_QUERY_OWN)
		put(j, "silent_ms", p->silent_ms);
	else
		json_object_object_add(j, "silent_ms", NULL);
	return j;
}

int show_peers(const struct options *o)
{
	static const char *const heads[] = {
		"PEER", "STATE", ">IVPOSITION", ">VECTORS", "LAST BEAT",
	};
	static const struct view view = {
		.heads = heads, .columns = LENGTH(heads),
		.what = VINE_QUERY_PEERS, .size = sizeof(struct vine_query_peer),
		.row = peer_row, .json = peer_json,
	};

	return show(o, &view);
}

/* ---- services ---- */

/* The state of the peer that offers it: a suspect's services cannot be connected to. */
static const char *peer_state(const struct records *all, uint32_t peer, uint32_t incarnation)
{
	const struct vine_query_peer *p = all->others;
	int i;

	for (i = 0; i < all->other_count; i++)
		if (p[i].peer == peer && p[i].incarnation == incarnation)
			return STATE(peer_states, p[i].state);
	return "gone";
}

static void service_row(const void *record, const struct records *all)
{
	const struct vine_query_service *s = record;
	const char *peer = peer_state(all, s->peer, s->incarnation);
	char text[4 * VINE_SERVICE_NAME];

	table_cell("%s", name_text(s->name, text));
	table_cell("%" PRIu64, (uint64_t)s->type);
	table_cell("%u.%u", s->peer, s->incarnation);
	if (strcmp(peer, "live"))
		table_cell("peer is %s", peer);
	else
		table_cell("%s", STATE(service_states, s->state));
	table_cell("%u", s->waiting);
	cell_unless(0, s->pid);
}

static json_object *service_json(const void *record, const struct records *all)
{
	const struct vine_query_service *s = record;
	json_object *j = json_object_new_object();
	char text[4 * VINE_SERVICE_NAME];

	put_text(j, "name", name_text(s->name, text));
	put_id(j, "id", s->id);
	put(j, "type", s->type);
	put(j, "peer", s->peer);
	put(j, "incarnation", s->incarnation);
	put_text(j, "state", STATE(service_states, s->state));
	put_text(j, "peer_state", peer_state(all, s->peer, s->incarnation));
	put_bool(j, "own", s->flags & VINE_QUERY_OWN);
	put(j, "waiting", s->waiting);
	put_unless(j, "pid", 0, s->pid);
	return j;
}

int show_services(const struct options *o)
{
	static const char *const heads[] = {
		"NAME", ">TYPE", "PEER", "STATE", ">WAITING", ">PID",
	};
	static const struct view view = {
		.heads = heads, .columns = LENGTH(heads),
		.what = VINE_QUERY_SERVICES, .size = sizeof(struct vine_query_service),
		.other_what = VINE_QUERY_PEERS, .other_size = sizeof(struct vine_query_peer),
		.row = service_row, .json = service_json,
	};

	return show(o, &view);
}

/* ---- queues ---- */

/* The name of a service that is still there, or "". */
static const char *service_name(const struct records *all, uint64_t id,
				char text[4 * VINE_SERVICE_NAME])
{
	const struct vine_query_service *s = all->others;
	int i;

	for (i = 0; i < all->other_count; i++)
		if (s[i].id == id)
			return name_text(s[i].name, text);
	return "";
}

static void queue_row(const void *record, const struct records *all)
{
	const struct vine_query_queue *q = record;
	char text[4 * VINE_SERVICE_NAME];
	const char *name = service_name(all, q->service, text);

	table_cell("%u", q->queue);
	table_cell("%s", *name ? name : "-");
	table_cell("%u.%u", q->client, q->client_incarnation);
	cell_unless(0, q->client_pid);
	table_cell("%u.%u", q->server, q->server_incarnation);
	cell_unless(0, q->server_pid);
	table_cell("%s", q->flags & VINE_QUERY_BROKEN ? "broken" :
			 STATE(queue_states, q->state));
	table_cell("%u", q->depth);
	cell_unless(VINE_QUERY_UNKNOWN, q->to_server);
	cell_unless(VINE_QUERY_UNKNOWN, q->to_client);
	table_cell("%u", q->attached);
}

static json_object *queue_json(const void *record, const struct records *all)
{
	const struct vine_query_queue *q = record;
	json_object *j = json_object_new_object();
	char text[4 * VINE_SERVICE_NAME];

	put(j, "queue", q->queue);
	put_text(j, "service", service_name(all, q->service, text));
	put_id(j, "service_id", q->service);
	put(j, "client", q->client);
	put(j, "client_incarnation", q->client_incarnation);
	put_bool(j, "own_client", q->flags & VINE_QUERY_CLIENT);
	put_unless(j, "client_pid", 0, q->client_pid);
	put(j, "server", q->server);
	put(j, "server_incarnation", q->server_incarnation);
	put_bool(j, "own_server", q->flags & VINE_QUERY_SERVER);
	put_unless(j, "server_pid", 0, q->server_pid);
	put_text(j, "state", STATE(queue_states, q->state));
	put_bool(j, "broken", q->flags & VINE_QUERY_BROKEN);
	put(j, "depth", q->depth);
	put_unless(j, "to_server", VINE_QUERY_UNKNOWN, q->to_server);
	put_unless(j, "to_client", VINE_QUERY_UNKNOWN, q->to_client);
	put(j, "attached", q->attached);
	return j;
}

int show_queues(const struct options *o)
{
	static const char *const heads[] = {
		">QUEUE", "SERVICE", "CLIENT", ">PID", "SERVER", ">PID", "STATE", ">DEPTH",
		">TO SERVER", ">TO CLIENT", ">REGIONS",
	};
	static const struct view view = {
		.heads = heads, .columns = LENGTH(heads),
		.what = VINE_QUERY_QUEUES, .size = sizeof(struct vine_query_queue),
		.other_what = VINE_QUERY_SERVICES,
		.other_size = sizeof(struct vine_query_service),
		.row = queue_row, .json = queue_json,
	};

	return show(o, &view);
}

/* ---- regions ---- */

static void region_row(const void *record, const struct records *all)
{
	const struct vine_query_region *r = record;
	char text[32], held[4 * 64] = "-", *at = held;
	unsigned int p;

	(void)all;
	for (p = 0; p < 64; p++)
		if (r->holders >> p & 1)
			at += sprintf(at, "%s%u", at == held ? "" : ",", p);
	table_cell("%016" PRIx64, (uint64_t)r->id);
	table_cell("%u.%u", r->peer, r->incarnation);
	table_cell("%s", STATE(region_states, r->state));
	table_cell("%s", r->bytes ? bytes_text(r->bytes, text) : "-");
	table_cell("%s", !r->users ? "-" : r->flags & VINE_QUERY_RINGS ? "rings" : "data");
	table_cell("%s", held);
	table_cell("%u", r->users);
	cell_unless(0, r->pid);
}

static json_object *region_json(const void *record, const struct records *all)
{
	const struct vine_query_region *r = record;
	json_object *j = json_object_new_object(), *holders = json_object_new_array();
	unsigned int p;

	(void)all;
	for (p = 0; p < 64; p++)
		if (r->holders >> p & 1)
			json_object_array_add(holders, json_object_new_uint64(p));
	put_id(j, "id", r->id);
	put(j, "peer", r->peer);
	put(j, "incarnation", r->incarnation);
	put_text(j, "state", STATE(region_states, r->state));
	put(j, "bytes", r->bytes);
	put_bool(j, "own", r->flags & VINE_QUERY_OWN);
	put_bool(j, "rings", r->flags & VINE_QUERY_RINGS);
	json_object_object_add(j, "holders", holders);
	put(j, "users", r->users);
	put_unless(j, "pid", 0, r->pid);
	return j;
}

int show_regions(const struct options *o)
{
	static const char *const heads[] = {
		"REGION", "OWNER", "STATE", ">SIZE", "KIND", "HELD BY", ">USES", ">PID",
	};
	static const struct view view = {
		.heads = heads, .columns = LENGTH(heads),
		.what = VINE_QUERY_REGIONS, .size = sizeof(struct vine_query_region),
		.row = region_row, .json = region_json,
	};

	return show(o, &view);
}
