// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * limits.c - what clients may use of what all of them need
 *
 * The figures are here, and nowhere else. What a machine may have depends on what is left: it
 * gets more as long as it has, then, no more than remains for all others. So one machine gets at
 * most half of everything, two a third each, and however many ask, the next one finds something.
 */
#include <sys/resource.h>

#include "serve/serve.h"

#define DESCRIPTORS_OWN	64	/* of the appliance itself, besides its workers' */
#define LOG_SESSION	10	/* lines in a second */
#define LOG_MACHINE	20

void limits_init(struct vine_serve *s)
{
	struct rlimit files = { .rlim_cur = 1024 };
	uint64_t own = DESCRIPTORS_OWN + s->worker_count;

	getrlimit(RLIMIT_NOFILE, &files);
	s->limits = (struct limits){
		.all = {
			[LIMIT_QUEUES] = 4096,
			[LIMIT_STRANGERS] = 1024,
			[LIMIT_DESCRIPTORS] = files.rlim_cur > own ? files.rlim_cur - own : 0,
			[LIMIT_PROCEDURES] = 4096,
			[LIMIT_BYTES] = 16 * (uint64_t)s->bytes_max,
		},
		.session_queues = 1024,
		.session_regions = 4 * TALK_REGIONS,
		.session_procedures = 256,
		.session_bytes = 4 * (uint64_t)s->bytes_max,
		.hello_ms = 10000,
	};
}

/* @mine for the machine, where 0 always fits; @all of it is not in use yet. */
static bool fits(const struct vine_serve *s, unsigned int machine, enum limited what, uint64_t mine,
		 uint64_t all)
{
	uint64_t left = s->limits.all[what] - s->used[what];

	return !mine || (all <= left && s->machines[machine].used[what] + mine <= left - all);
}

bool limit_take(struct vine_serve *s, unsigned int machine, enum limited what)
{
	if (!fits(s, machine, what, 1, 1))
		return false;
	s->machines[machine].used[what]++;
	s->used[what]++;
	return true;
}

void limit_give(struct vine_serve *s, unsigned int machine, enum limited what)
{
	s->machines[machine].used[what]--;
	s->used[what]--;
}

bool limit_take_procedure(struct vine_serve *s, unsigned int machine, uint64_t bytes, bool fresh)
{
	uint64_t *used = s->machines[machine].used;

	if (!fits(s, machine, LIMIT_PROCEDURES, 1, fresh) ||
	    !fits(s, machine, LIMIT_BYTES, bytes, fresh ? bytes : 0) ||
	    !fits(s, machine, LIMIT_DESCRIPTORS, !!bytes, fresh && bytes))
		return false;
	used[LIMIT_PROCEDURES]++;
	used[LIMIT_BYTES] += bytes;
	used[LIMIT_DESCRIPTORS] += !!bytes;
	if (fresh) {
		s->used[LIMIT_PROCEDURES]++;
		s->used[LIMIT_BYTES] += bytes;
		s->used[LIMIT_DESCRIPTORS] += !!bytes;
	}
	return true;
}

void limit_give_procedure(struct vine_serve *s, unsigned int machine, uint64_t bytes, bool last)
{
	uint64_t *used = s->machines[machine].used;

	used[LIMIT_PROCEDURES]--;
	used[LIMIT_BYTES] -= bytes;
	used[LIMIT_DESCRIPTORS] -= !!bytes;
	if (last) {
		s->used[LIMIT_PROCEDURES]--;
		s->used[LIMIT_BYTES] -= bytes;
		s->used[LIMIT_DESCRIPTORS] -= !!bytes;
	}
}

static bool spend(struct pace *pace, uint64_t second, unsigned int most)
{
	if (pace->second != second)
		*pace = (struct pace){ .second = second };
	return pace->lines++ < most;
}

bool limit_log(struct vine_serve *s, unsigned int machine, struct pace *session)
{
	uint64_t second = serve_now() / 1000000000;

	return (!session || spend(session, second, LOG_SESSION)) &&
	       spend(&s->machines[machine].pace, second, LOG_MACHINE);
}
