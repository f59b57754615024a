// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * digest.cpp - sha256sum, by accelerators: a VineTalk program in C++, several tasks in flight
 *
 *	c++ -std=c++17 digest.cpp -o digest $(pkg-config --cflags --libs libvine)
 *	digest FILE...
 *
 * Where the work goes is configured: see vine_talk(3). In a virtual machine with vine, to an
 * appliance; elsewhere "backend local" in ~/.vinetalk does it in this process.
 */
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

#include <vine_talk.h>

namespace {

constexpr std::size_t in_flight = 8, digest_bytes = 32;

// The handles of VineTalk, each with the call that ends it.
template <auto end> struct Ends {
	void operator()(void *handle) const { end(handle); }
};
using Proc = std::unique_ptr<vine_proc, Ends<vine_proc_put>>;
using Data = std::unique_ptr<vine_data, Ends<vine_data_free>>;
using Task = std::unique_ptr<vine_task, Ends<vine_task_free>>;

struct Talk {
	Talk() { vine_talk_init(); }
	~Talk() { vine_talk_exit(); }
	Talk(const Talk &) = delete;
};

// An accelerator that runs a procedure.
struct Runs {
	vine_accel *accel;
	Proc proc;
};

Runs find(const char *name)
{
	vine_accel **list;
	int count = vine_accel_list(ANY, &list);
	std::unique_ptr<vine_accel *, Ends<std::free>> freed(list);

	for (int i = 0; i < count; i++)
		if (Proc proc{vine_proc_get(vine_accel_type(list[i]), name)})
			return {list[i], std::move(proc)};
	throw std::runtime_error(std::string("no accelerator runs ") + name);
}

Data buffer(std::size_t size)
{
	Data data(vine_data_alloc(size, Both));

	if (!data)
		throw std::runtime_error("no memory for " + std::to_string(size) + " bytes");
	return data;
}

// A file on its way: it is read straight into memory that the accelerator sees.
struct Job {
	std::string name;
	Data in, out;
	Task task;

	Job(const Runs &runs, const char *path) : name(path), out(buffer(digest_bytes))
	{
		std::uintmax_t size = std::filesystem::file_size(path);
		std::ifstream file(path, std::ios::binary);

		if (size == 0)
			throw std::runtime_error(name + ": it is empty");
		in = buffer(size);
		if (!file.read(static_cast<char *>(vine_data_deref(in.get())), size))
			throw std::runtime_error(name + ": cannot be read");

		vine_data *input = in.get(), *output = out.get();
		task.reset(vine_task_issue(runs.accel, runs.proc.get(), nullptr, 1, &input, 1,
					   &output));
		if (!task)
			throw std::runtime_error(name + ": no accelerator takes it");
	}

	void finish()
	{
		static const char hex[] = "0123456789abcdef";
		auto *bytes = static_cast<const unsigned char *>(vine_data_deref(out.get()));
		vine_task_stats_s stats;

		if (vine_task_wait(task.get()) != task_completed) {
			vine_task_stat(task.get(), &stats);
			throw std::runtime_error(name + ": " + vine_task_reason_text(stats.reason));
		}
		for (std::size_t i = 0; i < digest_bytes; i++)
			std::cout << hex[bytes[i] >> 4] << hex[bytes[i] & 15];
		std::cout << "  " << name << '\n';
	}
};

} // namespace

int main(int argc, char **argv)
try {
	Talk talk;
	Runs sha256 = find("sha256");
	std::deque<Job> jobs;

	for (int i = 1; i < argc; i++) {
		if (jobs.size() == in_flight) {
			jobs.front().finish();
			jobs.pop_front();
		}
		jobs.emplace_back(sha256, argv[i]);
	}
	for (Job &job : jobs)
		job.finish();
	return 0;
} catch (const std::exception &e) {
	std::cerr << "digest: " << e.what() << '\n';
	return 1;
}
