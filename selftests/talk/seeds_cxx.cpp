// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * seeds_cxx.cpp - a program written against the header of VineTalk (2016-06) alone: every
 *                 call, type and constant of it, in C++
 *
 * Runs on whatever back end is configured, which must have a procedure "add"; nobody else may
 * use its accelerators meanwhile. Prints what is wrong, and how many checks there were; exit
 * status 0 when all were right.
 */
#include <vine_talk.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace {

int checks, wrong;

bool check(bool is_right, int line, const char *what)
{
	checks++;
	if (!is_right) {
		wrong++;
		std::cout << "seeds_cxx: line " << line << ": false: " << what << std::endl;
	}
	return is_right;
}

#define CHECK(what)	check(what, __LINE__, #what)

class Session {
public:
	Session() { vine_talk_init(); }
	~Session() { vine_talk_exit(); }
};

typedef std::vector<vine_accel *> Accelerators;

Accelerators list(vine_accel_type_e type)
{
	vine_accel **array;
	int n = vine_accel_list(type, &array);
	Accelerators accels(array, array + n);

	std::free(array);
	CHECK(vine_accel_list(type, NULL) == n);
	return accels;
}

/* A string in a buffer, with its zero. */
class Buffer {
public:
	explicit Buffer(const std::string &s, vine_data_alloc_place_e place = Both)
		: data(vine_data_alloc(s.size() + 1, place))
	{
		if (!CHECK(data && vine_data_size(data) == s.size() + 1))
			std::exit(1);
		std::copy(s.c_str(), s.c_str() + s.size() + 1, bytes());
		vine_data_mark_ready(data);
	}
	~Buffer() { vine_data_free(data); }
	std::string string() const { return bytes(); }

	vine_data *const data;

private:
	Buffer(const Buffer &);
	Buffer &operator=(const Buffer &);
	char *bytes() const { return static_cast<char *>(vine_data_deref(data)); }
};

class Procedure {
public:
	Procedure(vine_accel_type_e type, const char *name, const std::string &bytes = "")
		: proc(vine_proc_register(type, name, bytes.data(), bytes.size()))
	{
		CHECK(proc);
	}
	~Procedure() { CHECK(vine_proc_put(proc) == 1); }

	vine_proc *const proc;

private:
	Procedure(const Procedure &);
	Procedure &operator=(const Procedure &);
};

/* Two buffers in, the second and the first out. */
class Addition {
public:
	Addition(vine_accel *accel, const Procedure &add, const std::string &a,
		 const std::string &b)
		: first(a), second(b), out(std::string(a.size() + b.size(), '.')), expected(b + a)
	{
		vine_data *in[] = { first.data, second.data };
		vine_data *output = out.data;

		task = vine_task_issue(accel, add.proc, NULL, 2, in, 1, &output);
		CHECK(task);
	}
	void verify()
	{
		vine_task_stats_s stats;
		vine_task_state_e state = vine_task_wait(task);

		CHECK(state == task_completed);
		CHECK(vine_task_stat(task, &stats) == state);
		CHECK(out.string() == expected);
	}

private:
	Buffer first, second, out;
	std::string expected;
	vine_task *task;
};

void constants()
{
	vine_accel_type_e types[VINE_ACCEL_TYPES] = { ANY, GPU, GPU_SOFT, CPU, FPGA };
	vine_accel_state_e accel_states[] = { accel_failed, accel_idle, accel_busy };
	vine_task_state_e task_states[] = { task_failed, task_issued, task_completed };
	vine_data_alloc_place_e places[] = { HostOnly, AccelOnly, Both };

	for (int i = 0; i < VINE_ACCEL_TYPES; i++)
		CHECK(types[i] == i);
	for (int i = 0; i < 3; i++)
		CHECK(accel_states[i] == i && task_states[i] == i && places[i] == i + 1);
	CHECK((HostOnly | AccelOnly) == Both);
}

void accelerators(const Accelerators &all)
{
	std::size_t sum = 0;

	for (int type = GPU; type < VINE_ACCEL_TYPES; type++) {
		Accelerators some = list(static_cast<vine_accel_type_e>(type));

		for (std::size_t i = 0; i < some.size(); i++) {
			CHECK(vine_accel_type(some[i]) == type);
			CHECK(std::count(all.begin(), all.end(), some[i]) == 1);
		}
		sum += some.size();
	}
	CHECK(sum == all.size());
	for (std::size_t i = 0; i < all.size(); i++) {
		vine_accel_loc_s location = vine_accel_location(all[i]);
		vine_accel_stats_s stats;

		CHECK(sizeof(location) > 0);
		CHECK(vine_accel_stat(all[i], &stats) != accel_failed);
	}
}

void exclusive(vine_accel *accel, const Procedure &add)
{
	vine_accel *held = accel;

	if (!CHECK(vine_accel_acquire(&held) == 1))
		return;
	CHECK(held != accel);
	CHECK(vine_accel_acquire(&held) == 0);
	Addition(held, add, "exclusive", "very ").verify();
	CHECK(vine_accel_release(&held) == 1);
	CHECK(held == NULL);
	CHECK(vine_accel_release(&held) == 0);
}

void procedures(vine_accel_type_e type)
{
	Procedure one(type, "seeds in C++", "bytes"), same(type, "seeds in C++", "bytes");
	vine_proc *got = vine_proc_get(type, "seeds in C++");

	CHECK(one.proc == same.proc);
	CHECK(got == one.proc);
	CHECK(vine_proc_put(got) == 1);
	CHECK(!vine_proc_register(type, "seeds in C++", "other", 5));
	CHECK(!vine_proc_get(type, "nobody has registered this"));
	CHECK(vine_proc_put(NULL) == 0);
}

void tasks(const Accelerators &all, const Procedure &add)
{
	std::vector<Addition *> flight;

	for (std::size_t i = 0; i < 10 * all.size(); i++) {
		std::ostringstream a, b;

		a << i;
		b << std::string(i, '+');
		flight.push_back(new Addition(all[i % all.size()], add, a.str(), b.str()));
	}
	for (std::size_t i = 0; i < flight.size(); i++) {
		flight[i]->verify();
		delete flight[i];
	}
}

/* Buffers are let go while a task uses them. */
void early_free(vine_accel *accel, const Procedure &add)
{
	vine_task *task;

	{
		Buffer first("first"), second("second"), out("           ");
		vine_data *in[] = { first.data, second.data }, *output = out.data;

		task = vine_task_issue(accel, add.proc, NULL, 2, in, 1, &output);
	}
	CHECK(vine_task_wait(task) == task_completed);
}

void refusals(vine_accel *accel, const Procedure &add)
{
	Buffer in("x"), only_there("x");
	vine_data *input = in.data, *gone = vine_data_alloc(1, AccelOnly);

	CHECK(gone && !vine_data_deref(gone));
	vine_data_free(gone);
	CHECK(!vine_task_issue(accel, add.proc, NULL, 1, &input, 1, &gone));
	CHECK(!vine_task_issue(accel, input, NULL, 1, &input, 0, NULL));
	CHECK(!vine_task_issue(add.proc, add.proc, NULL, 1, &input, 0, NULL));
	CHECK(vine_task_wait(input) == task_failed);
	CHECK(vine_accel_type(input) == ANY);
	CHECK(!vine_data_alloc(0, HostOnly));
}

} // namespace

int main()
{
	{
		Session session, another;
		Accelerators all = list(ANY);

		constants();
		if (CHECK(!all.empty())) {
			Procedure add(ANY, "add");

			accelerators(all);
			procedures(vine_accel_type(all[0]));
			tasks(all, add);
			exclusive(all[0], add);
			early_free(all[0], add);
			refusals(all[0], add);
		}
	}
	std::cout << "seeds_cxx: " << checks << " checks, " << wrong << " wrong" << std::endl;
	return wrong ? 1 : 0;
}
