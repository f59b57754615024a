/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * seeds_c99.c - a program written against the header of VineTalk (2016-06) alone: every call,
 *               type and constant of it, in C99
 *
 * Runs on whatever back end is configured, which must have a procedure "add"; nobody else may
 * use its accelerators meanwhile. Prints what is wrong, and how many checks there were; exit
 * status 0 when all were right.
 */
#include <vine_talk.h>

#include <stdlib.h>
#include <string.h>

static int checks, wrong;

static int check(int is_right, int line, const char *what)
{
	checks++;
	if (!is_right) {
		wrong++;
		printf("seeds_c99: line %d: false: %s\n", line, what);
	}
	return is_right;
}

#define CHECK(what)	check(!!(what), __LINE__, #what)

/* A buffer that holds a string; NULL: @room zeros. */
static vine_data *buffer(const char *string, size_t room, vine_data_alloc_place_e place)
{
	vine_data *data = vine_data_alloc(string ? strlen(string) + 1 : room, place);

	if (!CHECK(data))
		exit(1);
	if (string)
		strcpy(vine_data_deref(data), string);
	else
		memset(vine_data_deref(data), 0, room);
	vine_data_mark_ready(data);
	return data;
}

/* ---- constants ---- */

static void constants(void)
{
	CHECK(ANY == 0 && GPU == 1 && GPU_SOFT == 2 && CPU == 3 && FPGA == 4);
	CHECK(VINE_ACCEL_TYPES == 5);
	CHECK(accel_failed == 0 && accel_idle == 1 && accel_busy == 2);
	CHECK(task_failed == 0 && task_issued == 1 && task_completed == 2);
	CHECK(HostOnly == 1 && AccelOnly == 2 && Both == 3);
}

/* ---- accelerators ---- */

static void states(vine_accel *accel)
{
	struct vine_accel_stats stats;
	enum vine_accel_state state = vine_accel_stat(accel, &stats);
	vine_accel_state_e again = vine_accel_stat(accel, NULL);

	CHECK(state == accel_idle || state == accel_busy);
	CHECK(again == accel_idle || again == accel_busy);
}

static void exclusive(vine_accel *physical)
{
	vine_accel *accel = physical;
	vine_accel *virtual_one;

	CHECK(vine_accel_release(&accel) == 0);
	CHECK(accel == physical);
	if (!CHECK(vine_accel_acquire(&accel) == 1))
		return;
	CHECK(accel && accel != physical);
	CHECK(vine_accel_type(accel) == vine_accel_type(physical));
	CHECK(vine_accel_stat(accel, NULL) != accel_failed);
	virtual_one = accel;
	CHECK(vine_accel_acquire(&accel) == 0);
	CHECK(accel == virtual_one);
	CHECK(vine_accel_release(&accel) == 1);
	CHECK(!accel);
	CHECK(vine_accel_type(virtual_one) == ANY);
	CHECK(vine_accel_stat(virtual_one, NULL) == accel_failed);
}

static int accelerators(vine_accel ***all)
{
	int count = vine_accel_list(ANY, NULL), sum = 0, i, j, n;
	enum vine_accel_type type;
	vine_accel **some;
	vine_accel_loc_s location;
	struct vine_accel_loc again;

	CHECK(count > 0);
	CHECK(vine_accel_list(ANY, all) == count);
	for (type = GPU; type < VINE_ACCEL_TYPES; type = (vine_accel_type_e)(type + 1)) {
		n = vine_accel_list(type, &some);
		for (i = 0; i < n; i++) {
			CHECK(vine_accel_type(some[i]) == type);
			for (j = 0; j < count && (*all)[j] != some[i]; j++)
				;
			CHECK(j < count);
		}
		sum += n;
		free(some);
	}
	CHECK(sum == count);
	for (i = 0; i < count; i++) {
		location = vine_accel_location((*all)[i]);
		again = vine_accel_location((*all)[i]);
		CHECK(!memcmp(&location, &again, sizeof(location)));
		states((*all)[i]);
		exclusive((*all)[i]);
	}
	return count;
}

/* ---- procedures ---- */

static void procedures(vine_accel_type_e type)
{
	static const char bytes[] = "the same as always";
	vine_proc *add, *again;

	CHECK(!vine_proc_get(type, "not registered by anybody"));
	add = vine_proc_register(type, "seeds", bytes, sizeof(bytes));
	if (!CHECK(add))
		return;
	again = vine_proc_register(type, "seeds", bytes, sizeof(bytes));
	CHECK(again == add);
	CHECK(!vine_proc_register(type, "seeds", "others", 6));
	CHECK(!vine_proc_register(type, "seeds", bytes, sizeof(bytes) - 1));
	CHECK(!vine_proc_register(type, "seeds", NULL, 0));
	CHECK(vine_proc_get(type, "seeds") == add);
	CHECK(vine_proc_put(add) == 1);
	CHECK(vine_proc_put(add) == 1);
	CHECK(vine_proc_get(type, "seeds") == add);
	CHECK(vine_proc_put(add) == 1);
	CHECK(vine_proc_put(add) == 1);
	CHECK(vine_proc_put(add) == 0);
	CHECK(!vine_proc_get(type, "seeds"));
}

/* ---- data ---- */

static void data(void)
{
	static const size_t sizes[] = { 1, 63, 64, 65, 4096, 1000000 };
	const vine_data_alloc_place_e places[] = { HostOnly, AccelOnly, Both };
	enum vine_data_alloc_place place;
	vine_data *d;
	char *bytes;
	size_t i, j;

	CHECK(!vine_data_alloc(0, Both));
	CHECK(!vine_data_alloc((size_t)-1, Both));
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (j = 0; j < 3; j++) {
			place = places[j];
			d = vine_data_alloc(sizes[i], place);
			if (!CHECK(d))
				continue;
			CHECK(vine_data_size(d) == sizes[i]);
			bytes = vine_data_deref(d);
			CHECK(!bytes == (place == AccelOnly));
			if (bytes)
				memset(bytes, 0x5a, sizes[i]);
			vine_data_mark_ready(d);
			vine_data_free(d);
			CHECK(vine_data_size(d) == 0);
			CHECK(!vine_data_deref(d));
		}
	}
}

/* ---- tasks ---- */

static void one_task(vine_accel *accel, vine_proc *add)
{
	vine_data *in[2], *out, *args;
	enum vine_task_state_e state;
	struct vine_task_stats stats;
	vine_task *task;

	in[0] = buffer("world", 0, HostOnly);
	in[1] = buffer("hello ", 0, Both);
	out = buffer(NULL, sizeof("hello world"), Both);
	args = buffer("none", 0, Both);

	task = vine_task_issue(accel, add, NULL, 2, in, 1, &out);
	if (CHECK(task)) {
		CHECK(vine_task_wait(task) == task_completed);
		CHECK(vine_task_stat(task, NULL) == task_completed);
		CHECK(!strcmp(vine_data_deref(out), "hello world"));
	}
	memset(vine_data_deref(out), 0, vine_data_size(out));
	task = vine_task_issue(accel, add, args, 2, in, 1, &out);
	if (CHECK(task)) {
		do {
			state = vine_task_stat(task, &stats);
		} while (state == task_issued);
		CHECK(state == task_completed);
		CHECK(!strcmp(vine_data_deref(out), "hello world"));
	}
	vine_data_free(in[0]);
	vine_data_free(in[1]);
	vine_data_free(out);
	vine_data_free(args);
}

#define FLIGHT	40

/* Many are issued before one is waited for; the last is waited for first. */
static void many_tasks(vine_accel *accel, vine_proc *add)
{
	vine_data *in[FLIGHT][2], *out[FLIGHT];
	vine_task *task[FLIGHT];
	char string[40];
	int i;

	for (i = 0; i < FLIGHT; i++) {
		sprintf(string, "<%d", i);
		in[i][0] = buffer(string, 0, Both);
		sprintf(string, "%d>", i * i);
		in[i][1] = buffer(string, 0, Both);
		out[i] = buffer(NULL, sizeof(string), Both);
		task[i] = vine_task_issue(accel, add, NULL, 2, in[i], 1, &out[i]);
		CHECK(task[i]);
	}
	for (i = FLIGHT; i-- > 0;) {
		sprintf(string, "%d><%d", i * i, i);
		CHECK(vine_task_wait(task[i]) == task_completed);
		CHECK(!strcmp(vine_data_deref(out[i]), string));
		vine_data_free(in[i][0]);
		vine_data_free(in[i][1]);
		vine_data_free(out[i]);
	}
}

/* Each takes what the one before it gives; on all accelerators in turn. */
static void chain(vine_accel **accels, int count, vine_proc *add)
{
	vine_data *link[FLIGHT + 1], *in[2];
	vine_task *task = NULL;
	char string[FLIGHT + 1];
	int i;

	link[0] = buffer("", 0, Both);
	in[1] = buffer("x", 0, Both);
	for (i = 0; i < FLIGHT; i++) {
		link[i + 1] = buffer(NULL, i + 2, Both);
		in[0] = link[i];
		task = vine_task_issue(accels[i % count], add, NULL, 2, in, 1, &link[i + 1]);
		CHECK(task);
	}
	CHECK(vine_task_wait(task) == task_completed);
	memset(string, 'x', FLIGHT);
	string[FLIGHT] = '\0';
	CHECK(!strcmp(vine_data_deref(link[FLIGHT]), string));
	for (i = 0; i <= FLIGHT; i++)
		vine_data_free(link[i]);
	vine_data_free(in[1]);
}

static void failing_tasks(vine_accel *accel, vine_proc *add)
{
	vine_proc *nobodys = vine_proc_register(ANY, "nobody runs this", NULL, 0);
	vine_data *in[2], *out;
	vine_task *task;

	in[0] = buffer("a", 0, Both);
	in[1] = buffer("b", 0, Both);
	out = buffer(NULL, 10, Both);
	CHECK(nobodys);
	task = vine_task_issue(accel, nobodys, NULL, 2, in, 1, &out);
	CHECK(task);
	CHECK(vine_task_wait(task) == task_failed);
	CHECK(vine_task_stat(task, NULL) == task_failed);
	CHECK(vine_proc_put(nobodys) == 1);
	CHECK(!vine_task_issue(NULL, add, NULL, 2, in, 1, &out));
	CHECK(!vine_task_issue(accel, NULL, NULL, 2, in, 1, &out));
	CHECK(!vine_task_issue(accel, add, in, 2, in, 1, &out));
	CHECK(!vine_task_issue(accel, add, NULL, 2, NULL, 1, &out));
	CHECK(!vine_task_issue(accel, add, NULL, 2, in, 1000, &out));
	CHECK(vine_task_wait(NULL) == task_failed);
	CHECK(vine_task_stat(NULL, NULL) == task_failed);
	vine_data_free(in[0]);
	vine_data_free(in[1]);
	vine_data_free(out);
}

static void virtual_task(vine_accel *accel, vine_proc *add)
{
	if (!CHECK(vine_accel_acquire(&accel) == 1))
		return;
	one_task(accel, add);
	CHECK(vine_accel_release(&accel) == 1);
}

static void tasks(vine_accel **accels, int count)
{
	vine_proc *add = vine_proc_register(ANY, "add", NULL, 0);
	int i;

	if (!CHECK(add))
		return;
	for (i = 0; i < count; i++) {
		one_task(accels[i], add);
		many_tasks(accels[i], add);
		virtual_task(accels[i], add);
	}
	chain(accels, count, add);
	failing_tasks(accels[0], add);
	CHECK(vine_proc_put(add) == 1);
}

int main(void)
{
	vine_accel **accels = NULL;
	int count;

	vine_talk_init();
	constants();
	count = accelerators(&accels);
	if (count) {
		procedures(ANY);
		procedures(vine_accel_type(accels[0]));
		data();
		tasks(accels, count);
	}
	free(accels);
	vine_talk_exit();
	printf("seeds_c99: %d checks, %d wrong\n", checks, wrong);
	return wrong ? 1 : 0;
}
