// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * profile.c - how often each procedure ran, on how much data, and for how long
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "talk/profile.h"
#include "talk/text.h"

struct record {
	struct record *next;
	vine_accel_type_e type;
	uint64_t calls, failed;
	uint64_t in_bytes, out_bytes;
	uint64_t total_ns, min_ns, max_ns;
	char name[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct record *) records;	/* atomic: a fork may come at any time */
static unsigned int count;
static atomic_bool on;
static char json_file[sizeof(((struct talk_config *)0)->profile)];

static void forget_records(void)
{
	struct record *r;

	while (records) {
		r = records;
		records = r->next;
		free(r);
	}
	count = 0;
}

void profile_open(const char *file)
{
	forget_records();	/* a parent's */
	strcpy(json_file, file);
	atomic_store(&on, *file != '\0');
}

/* With the lock held. NULL: no memory. */
static struct record *find_record(const char *name, vine_accel_type_e type)
{
	struct record *r;

	for (r = records; r; r = r->next) {
		if (r->type == type && !strcmp(r->name, name))
			return r;
	}
	r = calloc(1, sizeof(*r) + strlen(name) + 1);
	if (!r)
		return NULL;
	strcpy(r->name, name);
	r->type = type;
	r->min_ns = UINT64_MAX;
	r->next = records;
	records = r;
	count++;
	return r;
}

void profile_add(const struct talk_task_obj *task, uint64_t ns, bool failed)
{
	struct record *r;

	if (!atomic_load_explicit(&on, memory_order_relaxed))
		return;
	pthread_mutex_lock(&lock);
	r = find_record(task->proc->name, task->accel->type);
	if (r) {
		r->calls++;
		r->failed += failed;
		r->in_bytes += task->stats.in_bytes;
		r->out_bytes += task->stats.out_bytes;
		r->total_ns += ns;
		r->min_ns = ns < r->min_ns ? ns : r->min_ns;
		r->max_ns = ns > r->max_ns ? ns : r->max_ns;
	}
	pthread_mutex_unlock(&lock);
}

/* ---- the end ---- */

static int by_time(const void *a, const void *b)
{
	const struct record *x = *(struct record *const *)a, *y = *(struct record *const *)b;

	return (x->total_ns < y->total_ns) - (x->total_ns > y->total_ns);
}

static void print_table(FILE *f, struct record *const *r)
{
	int width = strlen("procedure");
	unsigned int i;

	for (i = 0; i < count; i++) {
		if ((int)strlen(r[i]->name) > width)
			width = strlen(r[i]->name);
	}
	fprintf(f, "vine: profile of process %d, times in microseconds\n", (int)getpid());
	fprintf(f, "%-*s %-8s %10s %8s %14s %14s %14s %10s %10s %10s\n", width, "procedure",
		"type", "calls", "failed", "bytes in", "bytes out", "total", "mean", "min", "max");
	for (i = 0; i < count; i++)
		fprintf(f, "%-*s %-8s %10" PRIu64 " %8" PRIu64 " %14" PRIu64 " %14" PRIu64
			" %14.3f %10.3f %10.3f %10.3f\n", width, r[i]->name,
			talk_type_names[r[i]->type], r[i]->calls, r[i]->failed, r[i]->in_bytes,
			r[i]->out_bytes, r[i]->total_ns / 1e3,
			r[i]->total_ns / 1e3 / r[i]->calls, r[i]->min_ns / 1e3,
			r[i]->max_ns / 1e3);
}

static void write_json(FILE *f, struct record *const *r)
{
	unsigned int i;

	fprintf(f, "{\n\"backend\": \"local\",\n\"pid\": %d,\n\"procedures\": [", (int)getpid());
	for (i = 0; i < count; i++) {
		char name[8 * TEXT_LONGEST];
		struct text t = { name, name + sizeof(name) - 1, false };

		text_json(&t, "", r[i]->name);
		*t.at = '\0';
		fprintf(f, "%s\n{\"name\": %s, \"type\": \"%s\", \"calls\": %" PRIu64
			", \"failed\": %" PRIu64 ", \"in_bytes\": %" PRIu64 ", \"out_bytes\": %"
			PRIu64 ", \"total_ns\": %" PRIu64 ", \"mean_ns\": %" PRIu64
			", \"min_ns\": %" PRIu64 ", \"max_ns\": %" PRIu64 "}", i ? "," : "", name,
			talk_type_names[r[i]->type], r[i]->calls, r[i]->failed, r[i]->in_bytes,
			r[i]->out_bytes, r[i]->total_ns, r[i]->total_ns / r[i]->calls,
			r[i]->min_ns, r[i]->max_ns);
	}
	fprintf(f, "\n]\n}\n");
}

static void save_json(struct record *const *r)
{
	FILE *f = fopen(json_file, "we");
	bool bad;

	if (!f) {
		talk_warn("profile %s: %s", json_file, strerror(errno));
		return;
	}
	write_json(f, r);
	bad = ferror(f);
	if (fclose(f) || bad)
		talk_warn("profile %s: it could not be written whole", json_file);
}

/* Their array, longest in all first; NULL: no memory. */
static struct record **sorted(void)
{
	struct record **array = malloc((count + 1) * sizeof(*array)), *r;
	unsigned int i = 0;

	if (!array)
		return NULL;
	for (r = records; r; r = r->next)
		array[i++] = r;
	qsort(array, count, sizeof(*array), by_time);
	return array;
}

void profile_close(void)
{
	struct record **array;

	if (!atomic_exchange(&on, false))
		return;
	pthread_mutex_lock(&lock);
	array = sorted();
	if (array) {
		print_table(stderr, array);
		if (strcmp(json_file, "-"))
			save_json(array);
		free(array);
	}
	forget_records();
	pthread_mutex_unlock(&lock);
}

static void __attribute__((destructor)) at_exit(void)
{
	profile_close();
}

void profile_forked(void)
{
	pthread_mutex_init(&lock, NULL);
	atomic_store(&on, false);
}
