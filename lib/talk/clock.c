// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * clock.c - the appliance's time in ours, with a bound of the error
 *
 * A message cannot come before it was sent. So each question and answer bound the difference
 * D of the clocks, theirs minus ours, from both sides:
 *
 *	sent - pulled <= D <= received - pushed
 *
 * The bounds of many samples are intersected; they widen with their age by what two clocks
 * can drift apart. D is taken to be in the middle.
 */
#include "talk/device.h"

/* Each clock is slewed by at most 500 ppm: two drift apart by a thousandth. */
#define DRIFT(ns)	(((ns) + 999) / 1000)

/* Beyond it a difference is nonsense: 73 years. Keeps the sums from overflowing. */
#define DIFFERENCE_MAX	(INT64_MAX / 4)

static bool sensible(int64_t difference)
{
	return difference >= -DIFFERENCE_MAX && difference <= DIFFERENCE_MAX;
}

static int64_t min(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t max(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* How much older than @now something is; never too much to be added. */
static int64_t age(uint64_t at, uint64_t now)
{
	return now > at ? min(now - at, DIFFERENCE_MAX) : 0;
}

void clock_init(struct talk_clock *c, bool same_machine)
{
	*c = (struct talk_clock){ .same = same_machine };
}

void clock_sample(struct talk_clock *c, uint64_t pushed, uint64_t received, uint64_t sent,
		  uint64_t pulled)
{
	int64_t low = (int64_t)(sent - pulled), high = (int64_t)(received - pushed);
	int64_t wider;

	if (!sensible(low) || !sensible(high) || sent < received || pulled < pushed)
		return;
	high += DRIFT(age(pushed, pulled));	/* it is that old already */
	if (low > high)
		return;
	/* the same machine, and yet another clock: a time namespace */
	if (low > 0 || high < 0)
		c->same = false;
	if (c->known) {
		wider = DRIFT(age(c->at, pulled));
		/* when they have nothing in common, a clock was set: believe the newer */
		if (c->low - wider <= high && c->high + wider >= low) {
			low = max(low, c->low - wider);
			high = min(high, c->high + wider);
		}
	}
	c->known = true;
	c->low = low;
	c->high = high;
	c->at = pulled;
}

/* Their @time in ours, but in [@first, @last]: it was then, whatever they say. */
static uint64_t convert(uint64_t time, int64_t difference, uint64_t first, uint64_t last)
{
	uint64_t ours = time - (uint64_t)difference;

	/* as signed differences: @ours may be before 0 */
	if ((int64_t)(ours - first) < 0)
		return first;
	return (int64_t)(last - ours) < 0 ? last : ours;
}

void clock_convert(const struct talk_clock *c, uint64_t started, uint64_t ended, uint64_t done,
		   vine_task_stats_s *stats)
{
	uint64_t issue = stats->issue_ns, error;
	int64_t difference = 0, half = 0;

	stats->start_ns = stats->end_ns = stats->error_ns = 0;
	if (!started)
		return;
	if (!c->same) {
		difference = c->low + (c->high - c->low) / 2;
		half = (c->high - c->low + 1) / 2;
	}
	stats->start_ns = convert(started, difference, issue, done);
	if (ended)
		stats->end_ns = convert(ended, difference, stats->start_ns, done);
	if (c->same)
		return;
	/* in any case it was between issue and done */
	error = half + DRIFT(age(c->at, done)) + DRIFT(done - stats->start_ns);
	stats->error_ns = c->known && error < done - issue ? error : done - issue;
}
