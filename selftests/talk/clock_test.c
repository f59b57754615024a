// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * clock_test.c - the appliance's time in ours: the stated error holds, whatever was measured
 */
#include <stdint.h>

#include "tap.h"

#include "talk/device.h"

#define MS	1000000ULL
#define SECOND	1000000000ULL

/* Another clock: at our time @t it shows this. Slewed by @ppm since 0. */
static int64_t offset;
static int ppm;

static uint64_t theirs(uint64_t t)
{
	return t + offset + (int64_t)t / 1000000 * ppm;
}

static uint64_t random_number(void)
{
	static uint64_t x = 88172645463325252ULL;

	x ^= x << 13;
	x ^= x >> 7;
	return x ^= x << 17;
}

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

/* A question that took these times on its way, at the other side, and back. */
static uint64_t sample(struct talk_clock *c, uint64_t at, uint64_t there, uint64_t stay,
		       uint64_t back)
{
	clock_sample(c, at, theirs(at + there), theirs(at + there + stay),
		     at + there + stay + back);
	return at + there + stay + back;
}

/* What a task that truly ran from @start to @end is said to have done, known at @done. */
static vine_task_stats_s convert(struct talk_clock *c, uint64_t issue, uint64_t start,
				 uint64_t end, uint64_t done)
{
	vine_task_stats_s s = { .issue_ns = issue };

	clock_convert(c, theirs(start), theirs(end), done, &s);
	return s;
}

static int in_order(const vine_task_stats_s *s, uint64_t done)
{
	return s->issue_ns <= s->start_ns && s->start_ns <= s->end_ns && s->end_ns <= done;
}

static void symmetric(void)
{
	struct talk_clock c;
	vine_task_stats_s s;

	offset = 5 * SECOND;
	ppm = 0;
	clock_init(&c, false);
	sample(&c, SECOND, 1000, 5000, 1000);
	s = convert(&c, SECOND, SECOND + 2000, SECOND + 4000, SECOND + 7000);
	CHECK(distance(s.start_ns, SECOND + 2000) <= 10);
	CHECK(distance(s.end_ns, SECOND + 4000) <= 10);
	CHECK(s.error_ns >= 1000 && s.error_ns <= 1100);
}

static void lopsided(void)
{
	struct talk_clock c;
	vine_task_stats_s s;

	offset = -3 * (int64_t)SECOND;
	ppm = 0;
	clock_init(&c, false);
	sample(&c, 10 * SECOND, 100, 0, 9900);	/* all the delay on one way */
	s = convert(&c, 10 * SECOND, 10 * SECOND + 5000, 10 * SECOND + 6000, 10 * SECOND + 20000);
	CHECK(distance(s.start_ns, 10 * SECOND + 5000) <= s.error_ns);
	CHECK(distance(s.end_ns, 10 * SECOND + 6000) <= s.error_ns);
}

/* Two samples, each with a short way on the other side: together they are exact. */
static void intersection(void)
{
	struct talk_clock c;
	vine_task_stats_s s;
	uint64_t now;

	offset = SECOND;
	ppm = 0;
	clock_init(&c, false);
	now = sample(&c, SECOND, 10, 0, 1000000);
	now = sample(&c, now, 1000000, 0, 10);
	s = convert(&c, now - 100000, now - 50000, now - 40000, now);
	CHECK(distance(s.start_ns, now - 50000) <= s.error_ns);
	CHECK(s.error_ns < 3000);	/* one of them alone: 500000 */
}

static void holds(void)
{
	struct talk_clock c;
	vine_task_stats_s s;
	int round, i, wrong = 0, disorder = 0;

	for (round = 0; round < 50; round++) {
		uint64_t now = SECOND;

		offset = (int64_t)(random_number() % (200 * SECOND) + 100 * SECOND);
		ppm = (int)(random_number() % 1001) - 500;
		clock_init(&c, false);
		for (i = 0; i < 200; i++) {
			uint64_t pause = random_number() % 20 ? MS : 2 * SECOND;
			uint64_t issue = now + random_number() % pause;
			uint64_t there = random_number() % 50000, stay = random_number() % (20 * MS);
			uint64_t start = issue + there + stay / 4, end = issue + there + stay / 2;

			now = sample(&c, issue, there, stay,
				     random_number() % (random_number() % 9 ? 50000 : 100 * MS));
			s = convert(&c, issue, start, end, now);
			disorder += !in_order(&s, now);
			wrong += distance(s.start_ns, start) > s.error_ns ||
				 distance(s.end_ns, end) > s.error_ns;
		}
	}
	CHECK(!wrong);
	CHECK(!disorder);
}

static void ages(void)
{
	struct talk_clock c;
	vine_task_stats_s s;
	uint64_t now;

	offset = SECOND;
	ppm = 500;
	clock_init(&c, false);
	now = sample(&c, SECOND, 500, 0, 500);
	/* a bad sample a minute later: the old one is worth 60 ms by now, as bad as this */
	now = sample(&c, now + 60 * SECOND, 100 * MS, 0, 100 * MS);
	s = convert(&c, now - 10 * MS, now - 6 * MS, now - 5 * MS, now);
	CHECK(distance(s.start_ns, now - 6 * MS) <= s.error_ns);
	CHECK(c.high - c.low >= (int64_t)(100 * MS));
}

static void clock_set(void)
{
	struct talk_clock c;
	vine_task_stats_s s;
	uint64_t now;

	ppm = 0;
	offset = SECOND;
	clock_init(&c, false);
	now = sample(&c, SECOND, 500, 0, 500);
	offset = 50 * SECOND;		/* the other machine was paused, or restored */
	now = sample(&c, now + MS, 500, 0, 500);
	s = convert(&c, now - 1000, now - 600, now - 500, now);
	CHECK(distance(s.start_ns, now - 600) <= s.error_ns);
	CHECK(s.error_ns < 1000);
}

static void same(void)
{
	struct talk_clock c;
	vine_task_stats_s s;

	offset = ppm = 0;
	clock_init(&c, true);
	sample(&c, SECOND, 700, 10, 100);
	s = convert(&c, SECOND, SECOND + 701, SECOND + 705, SECOND + 900);
	CHECK(s.start_ns == SECOND + 701 && s.end_ns == SECOND + 705 && !s.error_ns);
}

static void same_machine_other_clock(void)
{
	struct talk_clock c;
	vine_task_stats_s s;

	offset = 1000 * SECOND;		/* a time namespace */
	ppm = 0;
	clock_init(&c, true);
	sample(&c, SECOND, 500, 0, 500);
	s = convert(&c, SECOND, SECOND + 400, SECOND + 600, SECOND + 1000);
	CHECK(distance(s.start_ns, SECOND + 400) <= s.error_ns && s.error_ns <= 1000);
}

static void nothing_known(void)
{
	struct talk_clock c;
	vine_task_stats_s s;

	offset = -7 * (int64_t)SECOND;
	ppm = 0;
	clock_init(&c, false);
	s = convert(&c, 10 * SECOND, 10 * SECOND + 300, 10 * SECOND + 400, 10 * SECOND + 1000);
	CHECK(in_order(&s, 10 * SECOND + 1000));
	CHECK(s.error_ns == 1000);
}

static void never_began(void)
{
	struct talk_clock c;
	vine_task_stats_s s = { .issue_ns = SECOND, .start_ns = 7, .end_ns = 7, .error_ns = 7 };

	clock_init(&c, false);
	clock_convert(&c, 0, 0, 2 * SECOND, &s);
	CHECK(!s.start_ns && !s.end_ns && !s.error_ns);
	/* began, and was killed */
	offset = ppm = 0;
	sample(&c, SECOND, 500, 0, 500);
	clock_convert(&c, SECOND + 100, 0, SECOND + 1000, &s);
	CHECK(s.start_ns && !s.end_ns);
}

/* Whatever it says: no overflow (UBSan), times in order, and what was known still holds. */
static void nonsense(void)
{
	static const uint64_t odd[] = { 0, 1, INT64_MAX - 1, INT64_MAX, 1ULL << 63,
					(1ULL << 63) + 1, UINT64_MAX - 1, UINT64_MAX, SECOND,
					INT64_MAX / 4, INT64_MAX / 2 };
	const unsigned int n = sizeof(odd) / sizeof(odd[0]);
	vine_task_stats_s s = { .issue_ns = 2 * SECOND };
	struct talk_clock c;
	unsigned int i, j;

	offset = ppm = 0;
	clock_init(&c, false);
	for (i = 0; i < n; i++) {
		for (j = 0; j < n; j++) {
			clock_sample(&c, SECOND, odd[i], odd[j], SECOND + 100);
			clock_sample(&c, odd[i], odd[j], odd[j], odd[i] + 1);
			clock_convert(&c, odd[i], odd[j], 3 * SECOND, &s);
			if (odd[i])
				CHECK(s.start_ns >= s.issue_ns && s.start_ns <= 3 * SECOND);
			if (odd[i] && odd[j])
				CHECK(s.end_ns >= s.start_ns && s.end_ns <= 3 * SECOND);
			CHECK(s.error_ns <= SECOND);
		}
	}
	clock_init(&c, false);
	sample(&c, SECOND, 500, 0, 500);
	clock_sample(&c, 2 * SECOND, 2 * SECOND, 2 * SECOND - 1, 3 * SECOND);	/* sent before */
	clock_sample(&c, 2 * SECOND, 2 * SECOND, 2 * SECOND, 2 * SECOND - 1);
	clock_sample(&c, 2 * SECOND, 2 * SECOND, 5 * SECOND, 3 * SECOND);	/* kept for longer */
	CHECK(c.at == SECOND + 1000);
}

static const struct tap_test tests[] = {
	{ "a question that is as long on its way as the answer gives the offset", symmetric },
	{ "a lopsided one stays within the stated error", lopsided },
	{ "samples bound the offset together", intersection },
	{ "the stated error holds for clocks that are slewed by 500 ppm", holds },
	{ "what is known becomes less certain with its age", ages },
	{ "a clock that was set is believed again", clock_set },
	{ "this machine's own times are not converted", same },
	{ "this machine, but another clock: they are", same_machine_other_clock },
	{ "nothing known: somewhere between issue and end", nothing_known },
	{ "a handler that never began, or never ended, has no times", never_began },
	{ "impossible times are ignored", nonsense },
};

TAP_MAIN(tests)
