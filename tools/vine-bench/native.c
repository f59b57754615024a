// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * native.c - the measurements between two processes of this machine: one sample of each
 *            subject named
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

static const struct {
	const char *name;
	double (*measure)(const struct bench *b, bool relaxed);
	bool relaxed;
} subjects[] = {
	{ "pingpong_one_line", pingpong_one_line, false },
	{ "pingpong_one_line.relaxed", pingpong_one_line, true },
	{ "pingpong_two_lines", pingpong_two_lines, false },
	{ "pingpong_two_lines.relaxed", pingpong_two_lines, true },
	{ "ring_rtt", ring_rtt, false },
	{ "ring_rtt.relaxed", ring_rtt, true },
	{ "pipe_rtt", pipe_rtt, false },
	{ "unix_rtt", unix_rtt, false },
	{ "ring_b1", ring_one, false },
	{ "ring_b1.relaxed", ring_one, true },
	{ "ring_b1_untold", ring_one_untold, false },
	{ "ring_b1_untold.relaxed", ring_one_untold, true },
#ifdef BENCH_RTE
	{ "rte_b1", rte_one, false },
	{ "rte_b1.relaxed", rte_one, true },
#endif
	{ "boost_b1", boost_one, false },
	{ "boost_b1.relaxed", boost_one, true },
	{ "ring_b32", ring_batch, false },
	{ "ring_b32.relaxed", ring_batch, true },
	{ "ring_b32_untold", ring_batch_untold, false },
	{ "ring_b32_untold.relaxed", ring_batch_untold, true },
#ifdef BENCH_RTE
	{ "rte_b32", rte_batch, false },
	{ "rte_b32.relaxed", rte_batch, true },
#endif
	{ "boost_b32", boost_batch, false },
	{ "boost_b32.relaxed", boost_batch, true },
};

#define SUBJECTS	(sizeof(subjects) / sizeof(subjects[0]))

static void usage(FILE *to)
{
	fputs("Usage: vine-bench-native --list\n"
	      "       vine-bench-native CPU CPU SAMPLE_US SUBJECT...\n"
	      "\n"
	      "Measures each subject once, for so many microseconds, between two processes\n"
	      "on these two processors; prints \"SUBJECT NANOSECONDS\" for each, a time.\n"
	      "tools/vine-bench/vine-bench makes sense of it.\n", to);
}

static void measure(const struct bench *b, const char *name)
{
	unsigned int i;

	for (i = 0; i < SUBJECTS; i++) {
		if (strcmp(subjects[i].name, name))
			continue;
		say_sample(name, subjects[i].measure(b, subjects[i].relaxed));
		return;
	}
	die("no subject '%s'", name);
}

int main(int argc, char **argv)
{
	struct bench b;
	unsigned int n;
	int i;

	if (argc == 2 && !strcmp(argv[1], "--list")) {
		for (n = 0; n < SUBJECTS; n++)
			puts(subjects[n].name);
		return 0;
	}
	if (argc < 5) {
		usage(argc == 2 && !strcmp(argv[1], "--help") ? stdout : stderr);
		return argc == 2 && !strcmp(argv[1], "--help") ? 0 : 2;
	}
	b.cpu[0] = atoi(argv[1]);
	b.cpu[1] = atoi(argv[2]);
	b.sample_ns = strtoull(argv[3], NULL, 10) * 1000;
	for (i = 4; i < argc; i++)
		measure(&b, argv[i]);
	return 0;
}
