// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * profile_test.c - the profile of the back end local: its table and its JSON
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/wait.h>

#include "subject.h"

/* @expression: of Python, about what it reads from profile.json as p. */
static bool json_says(const char *expression)
{
	char command[2000];

	snprintf(command, sizeof(command), "python3 -c '"
		 "import json\n"
		 "p = json.load(open(\"profile.json\", encoding=\"utf-8\"))\n"
		 "by = {(q[\"name\"], q[\"type\"]): q for q in p[\"procedures\"]}\n"
		 "assert %s, p'", expression);
	return system(command) == 0;
}

static void run(vine_accel_type_e type, const char *name, size_t in_size, size_t out_size)
{
	vine_proc *proc = vine_proc_register(ANY, name, NULL, 0);
	vine_data *in = subject_data(in_size, 1), *out = subject_data(out_size, 0);
	vine_task *task;

	task = vine_task_issue(subject_accel[type], proc, in, 0, NULL, 1, &out);
	EXPECT(vine_task_wait(task) != task_issued);
	vine_task_free(task);
	vine_data_free(in);
	vine_data_free(out);
	EXPECT(vine_proc_put(proc));
}

static void some_tasks(void)
{
	int i;

	for (i = 0; i < 5; i++)
		run(CPU, "noop", 100, 10);
	run(GPU, "noop", 1, 2);
	run(CPU, "fail", 8, 64);
}

static void quiet_without(void)
{
	subject_begin("local", "");
	some_tasks();
	subject_end();
	EXPECT(subject_lines() == 0);
}

static void as_json(void)
{
	subject_begin("local", "profile profile.json\n");
	some_tasks();
	subject_end();
	EXPECT(json_says("p[\"backend\"] == \"local\" and len(by) == len(p[\"procedures\"]) == 3"
			 " and [by[\"noop\", \"cpu\"][k] for k in (\"calls\", \"failed\", "
			 "\"in_bytes\", \"out_bytes\")] == [5, 0, 500, 50]"
			 " and by[\"noop\", \"gpu\"][\"calls\"] == 1"
			 " and by[\"fail\", \"cpu\"][\"calls\"] == 1"
			 " and by[\"fail\", \"cpu\"][\"failed\"] == 1"));
	EXPECT(json_says("all(q[\"min_ns\"] <= q[\"mean_ns\"] <= q[\"max_ns\"] <= q[\"total_ns\"]"
			 " and q[\"mean_ns\"] == q[\"total_ns\"] // q[\"calls\"]"
			 " for q in by.values())"));
	EXPECT(json_says("[q[\"total_ns\"] for q in p[\"procedures\"]] == "
			 "sorted((q[\"total_ns\"] for q in by.values()), reverse=True)"));
}

/* The row of a procedure: it must be there once. */
static const char *row(const char *table, const char *name, const char *type)
{
	char begin[100];
	const char *at;

	snprintf(begin, sizeof(begin), "\n%-9s %-8s ", name, type);
	at = strstr(table, begin);
	return at && !strstr(at + 1, begin) ? at + 1 : "";
}

static void as_a_table(void)
{
	const char *table, *line;
	unsigned long calls, failed, in, out;
	size_t width;

	subject_begin("local", "profile -\n");
	some_tasks();
	subject_end();
	table = subject_said();
	EXPECT(!strncmp(table, "vine: profile of process ", 25));
	EXPECT(access("-", F_OK));
	line = strchr(table, '\n') + 1;
	EXPECT(!strncmp(line, "procedure type          calls   failed       bytes in", 53));
	width = strcspn(line, "\n");
	EXPECT(strcspn(row(table, "noop", "cpu"), "\n") == width);
	EXPECT(strcspn(row(table, "noop", "gpu"), "\n") == width);
	EXPECT(sscanf(row(table, "noop", "cpu"), "noop cpu %lu %lu %lu %lu", &calls, &failed, &in,
		      &out) == 4);
	EXPECT(calls == 5 && failed == 0 && in == 500 && out == 50);
	EXPECT(sscanf(row(table, "fail", "cpu"), "fail cpu %lu %lu", &calls, &failed) == 2);
	EXPECT(calls == 1 && failed == 1);
}

static void anew_each_time(void)
{
	subject_begin("local", "profile profile.json\n");
	some_tasks();
	subject_end();
	subject_begin("local", "profile profile.json\n");
	run(CPU, "noop", 1, 1);
	subject_end();
	EXPECT(json_says("len(by) == 1 and by[\"noop\", \"cpu\"][\"calls\"] == 1"));
	subject_begin("local", "profile profile.json\n");
	subject_end();
	EXPECT(json_says("by == {}"));
}

/* With a handler for every name. */
static void begin_for_any_name(const char *file)
{
	char command[1000];

	snprintf(command, sizeof(command),
		 "mkdir -p wild && ln -sf " VARIANTS "/wildcard.so wild/ && "
		 "printf 'backend local\nplugins wild\nprofile %s\n' >config", file);
	if (system(command))
		abort();
	subject_open();
}

static void any_name(void)
{
	static const char *const names[] = { "\"quoted\"", "back\\slash", "new\nline\ttab\x01\x1f",
					     "\xe2\x82\xac", "bad \xff\xc3( \xed\xa0\x80" };
	vine_proc *proc;
	vine_accel *held;
	size_t i;

	begin_for_any_name("profile.json");
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		run(CPU, names[i], 1, 1);
	held = subject_accel[CPU];
	EXPECT(vine_accel_acquire(&held));
	proc = vine_proc_register(ANY, "virtual", NULL, 0);
	EXPECT(vine_task_issue(held, proc, NULL, 0, NULL, 0, NULL));
	subject_end();
	EXPECT(json_says("{n for n, t in by} >= {\"\\\"quoted\\\"\", \"back\\\\slash\", "
			 "\"new\\nline\\ttab\\x01\\x1f\", \"\\u20ac\", \"virtual\"} and "
			 "len(by) == 6 and {t for n, t in by} == {\"cpu\"}"));
}

static void files_that_cannot_be(void)
{
	char name[20];
	int i, n;

	subject_begin("local", "profile /nowhere/profile.json\n");
	some_tasks();
	subject_end();
	EXPECT(strstr(subject_said(), "vine: profile /nowhere/profile.json: No such file or "
				      "directory\n"));
	/* so little that it is written at the end, and more */
	for (n = 1; n <= 100; n += 99) {
		begin_for_any_name("/dev/full");
		for (i = 0; i < n; i++) {
			snprintf(name, sizeof(name), "number %d", i);
			run(CPU, name, 1, 1);
		}
		subject_end();
		EXPECT(strstr(subject_said(),
			      "vine: profile /dev/full: it could not be written whole\n"));
	}
}

static int status_of(pid_t pid)
{
	int status = -1;

	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static void at_exit(void)
{
	pid_t pid = fork();

	if (!pid) {
		subject_begin("local", "profile profile.json\n");
		some_tasks();
		exit(0);
	}
	EXPECT(status_of(pid) == 0);
	EXPECT(strstr(subject_said(), "vine: profile of process "));
	EXPECT(json_says("len(by) == 3"));
}

static void not_a_childs(void)
{
	pid_t pid;

	subject_begin("local", "profile profile.json\n");
	some_tasks();
	unlink("profile.json");
	pid = fork();
	if (!pid)
		exit(0);
	EXPECT(status_of(pid) == 0);
	EXPECT(subject_lines() == 0);
	EXPECT(access("profile.json", F_OK));
	subject_end();
	EXPECT(json_says("by[\"noop\", \"cpu\"][\"calls\"] == 5"));
}

static const struct tap_test tests[] = {
	{ "without the key there is no profile", quiet_without },
	{ "JSON: calls, bytes and time by procedure and type", as_json },
	{ "a table with aligned columns", as_a_table },
	{ "each opening begins a new one", anew_each_time },
	{ "any name is one in JSON", any_name },
	{ "files that cannot be written", files_that_cannot_be },
	{ "exit() without vine_talk_exit() writes it", at_exit },
	{ "a child does not write its parent's", not_a_childs },
};

int main(void)
{
	return subject_main(tests, sizeof(tests) / sizeof(tests[0]));
}
