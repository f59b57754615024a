// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * source_test.c - procedures whose bytes are source: who runs them, and where
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compiler.h"
#include "peer.h"
#include "sources.h"
#include "tap.h"

#define PLUGIN	"faults/compiler.so"

static const struct vine_serve_options allowed = { .allow_source = 1 };

static bool swaps(vine_accel *gpu, vine_proc *proc)
{
	vine_data *in = sources_data("abcd", 4), *out = sources_data(NULL, 4);
	bool right = sources_run(gpu, proc, NULL, 1, &in, 1, &out, NULL) == vine_reason_none &&
		     !memcmp(vine_data_deref(out), "dcba", 4);

	vine_data_free(in);
	vine_data_free(out);
	return right;
}

/* @other: what it tries to reach; 0: nothing. */
static bool sees_of(vine_accel *gpu, uint32_t other, struct compiler_facts *facts)
{
	vine_proc *proc = sources_register("eyes", "see");
	vine_data *in = sources_data(&other, sizeof(other));
	vine_data *out = sources_data(NULL, sizeof(*facts));
	bool right = proc && sources_run(gpu, proc, NULL, !!other, &in, 1, &out, NULL) ==
			     vine_reason_none;

	memcpy(facts, vine_data_deref(out), sizeof(*facts));
	vine_data_free(in);
	vine_data_free(out);
	return right;
}

static bool sees(vine_accel *gpu, struct compiler_facts *facts)
{
	return sees_of(gpu, 0, facts);
}

static void runs(vine_accel *gpu)
{
	vine_proc *proc = sources_register("mirror", "swap");
	struct compiler_facts facts;

	CHECK(swaps(gpu, proc) && swaps(gpu, proc));
	CHECK(sees(gpu, &facts) && facts.compiled == 2);
	/* when it is forgotten and comes back it is compiled again */
	CHECK(swaps(gpu, proc) && vine_proc_put(proc));
	CHECK(swaps(gpu, sources_register("mirror", "swap")));
	CHECK(sees(gpu, &facts) && facts.compiled >= 3);
}

static void test_runs(void)
{
	CHECK(sources_start(PLUGIN, &allowed));
	CHECK(sources_said("gpu0 runs two words: two words for gpu0") == 1);
	CHECK(sources_client("device", runs));
	CHECK(sources_stop());
}

static void shut_in(vine_accel *gpu)
{
	struct compiler_facts facts, again;

	CHECK(sees(gpu, &facts));
	CHECK(facts.uid && (geteuid() == 0) == (facts.uid != geteuid()));
	CHECK(facts.files == 0 && facts.shared == 0 && facts.can_write_tmp && facts.home_is_tmp);
	CHECK(!facts.can_write && !facts.has_network && facts.can_fork);
	/* the same process, and what it has left there */
	CHECK(sees(gpu, &again) && again.pid == facts.pid && again.files == 1);
}

static void test_shut_in(void)
{
	CHECK(sources_start(PLUGIN, &allowed));
	CHECK(sources_client("device", shut_in));
	/* another client: nothing of the first one is there */
	CHECK(sources_client("device", shut_in));
	CHECK(sources_stop());
}

static void other_client(vine_accel *gpu)
{
	struct compiler_facts facts;

	CHECK(sees(gpu, &facts) && facts.files == 0 && facts.compiled == 1);
}

static void one_client(vine_accel *gpu)
{
	struct compiler_facts facts;

	CHECK(sees(gpu, &facts));
	CHECK(sources_client("device", other_client));
	CHECK(sees(gpu, &facts) && facts.files == 0);
}

static void test_two_clients(void)
{
	CHECK(sources_start(PLUGIN, &allowed));
	CHECK(sources_client("device", one_client));
	CHECK(sources_stop());
}

static uint32_t *shared;	/* among this process and its clients */

/* Of the same user as what source runs in. */
static pid_t make_victim(void)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	if (geteuid() == 0 && (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)))
		_exit(1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	*shared = geteuid();
	for (;;)
		pause();
}

static pid_t victim;

static void reaches(vine_accel *gpu)
{
	struct compiler_facts facts;

	CHECK(sees_of(gpu, victim, &facts));
	if (facts.can_reach)
		printf("# ways: %#x\n", facts.can_reach);
	CHECK(facts.uid == *shared && !facts.can_reach);
}

static void test_reach(void)
{
	*shared = 0;
	victim = make_victim();
	CHECK(EVENTUALLY(*(volatile uint32_t *)shared));
	CHECK(sources_start(PLUGIN, &allowed));
	CHECK(sources_client("device", reaches));
	CHECK(sources_stop());
	kill(victim, SIGKILL);
	waitpid(victim, NULL, 0);
}

static vine_task_reason_e make_child(vine_accel *gpu, const char *word)
{
	static const uint32_t none;
	vine_data *out = sources_data(&none, sizeof(none));
	vine_proc *proc = sources_register(word, word);
	vine_task_reason_e reason = sources_run(gpu, proc, NULL, 0, NULL, 1, &out, NULL);

	memcpy(shared, vine_data_deref(out), sizeof(*shared));
	vine_data_free(out);
	return reason;
}

static bool child_ends(void)
{
	return *shared && EVENTUALLY(!process_state(*shared) || process_state(*shared) == 'Z');
}

static void overstays(vine_accel *gpu)
{
	/* the time that it takes to begin counts, too */
	do
		EXPECT(make_child(gpu, "cling") == vine_reason_timeout);
	while (!*shared && !tap_failed);
	CHECK(child_ends());
}

static void goes(vine_accel *gpu)
{
	CHECK(make_child(gpu, "leave") == vine_reason_none && process_state(*shared));
}

static void end_appliance(vine_accel *gpu)
{
	goes(gpu);
	sources_stop();
	CHECK(child_ends());
}

static void kill_appliance(vine_accel *gpu)
{
	goes(gpu);
	sources_kill();
	CHECK(child_ends());
}

static void test_children(void)
{
	const struct vine_serve_options limited = { .allow_source = 1, .time_limit_ms = 1000 };

	CHECK(sources_start(PLUGIN, &limited));
	CHECK(sources_client("device", overstays));
	CHECK(sources_stop());
	CHECK(sources_start(PLUGIN, &allowed));
	CHECK(sources_client("device", goes) && child_ends());
	CHECK(sources_client("device", end_appliance));
	CHECK(sources_stop());
	CHECK(sources_start(PLUGIN, &allowed));
	CHECK(sources_client("device", kill_appliance));
	sources_stop();
}

static void wrong(vine_accel *gpu)
{
	vine_proc *proc = sources_register("wrong", "what?");

	CHECK(sources_run(gpu, proc, NULL, 0, NULL, 0, NULL, NULL) == vine_reason_not_compiled);
	CHECK(swaps(gpu, sources_register("mirror", "swap")));
	CHECK(!sources_register("mirror", "swap it"));
	/* what has no bytes is nothing that could be compiled */
	proc = vine_proc_register(GPU, "empty", NULL, 0);
	CHECK(proc && sources_run(gpu, proc, NULL, 0, NULL, 0, NULL, NULL) ==
			      vine_reason_no_procedure);
}

static void test_wrong(void)
{
	CHECK(sources_start(PLUGIN, &allowed));
	CHECK(sources_client("device", wrong));
	CHECK(sources_said("procedure wrong") == 1 &&
	      sources_said("does not compile: no word:??what?") == 1);
	CHECK(sources_stop());
}

static void refused(vine_accel *gpu)
{
	vine_proc *proc = sources_register("mirror", "swap");

	CHECK(proc && sources_run(gpu, proc, NULL, 0, NULL, 0, NULL, NULL) ==
			      vine_reason_not_allowed);
}

static void test_not_allowed(void)
{
	const struct vine_serve_options code = { .allow_code = 1 };

	CHECK(sources_start(PLUGIN, &code));
	CHECK(!sources_said("runs two words"));
	CHECK(sources_client("device", refused));
	CHECK(sources_stop());
}

static void code_refused(vine_accel *gpu)
{
	vine_proc *proc = sources_register("code", "\177ELF...");

	CHECK(proc && sources_run(gpu, proc, NULL, 0, NULL, 0, NULL, NULL) ==
			      vine_reason_not_allowed);
}

static void test_code(void)
{
	CHECK(sources_start(PLUGIN, &allowed));
	CHECK(sources_client("device", code_refused));
	CHECK(sources_stop());
}

static void test_broken(void)
{
	setenv("COMPILER_BROKEN", "out of order", 1);
	EXPECT(!sources_start(PLUGIN, &allowed));
	unsetenv("COMPILER_BROKEN");
	CHECK(sources_said("gpu0 runs no source: out of order for gpu0"));
	CHECK(sources_said("no accelerator can run source"));
	CHECK(!sources_start("shipped/add.so", &allowed));
	CHECK(sources_said("no plugin has a compiler"));
}

/* Its compiler says that it was asked, and then nothing more. */
static void test_stopped(void)
{
	char address[32];

	*shared = 0;
	snprintf(address, sizeof(address), "%p", (void *)shared);
	setenv("COMPILER_SLEEPS", address, 1);
	sources_fork(PLUGIN, &allowed);
	unsetenv("COMPILER_SLEEPS");
	CHECK(EVENTUALLY(*(volatile uint32_t *)shared));
	CHECK(sources_stop());
	CHECK(!sources_said("gpu0") && !sources_said("offers"));
}

static const struct tap_test tests[] = {
	{ "source is compiled once, until it is forgotten", test_runs },
	{ "it can write to a /tmp of its own, and has no network", test_shut_in },
	{ "it reaches no other process of its user", test_reach },
	{ "what it has forked ends with its task, its client and the appliance", test_children },
	{ "two clients at once see nothing of each other", test_two_clients },
	{ "what does not compile fails, and the log says why, in a printable line", test_wrong },
	{ "source does not run when only code is allowed", test_not_allowed },
	{ "code does not run when only source is allowed", test_code },
	{ "an appliance whose compiler does not work does not start", test_broken },
	{ "while its compiler is asked it can be stopped, and ends well", test_stopped },
};

int main(void)
{
	bool serves;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	serves = sources_start(PLUGIN, &allowed);
	if (serves)
		sources_stop();
	if (serves || !sources_said("this system refuses"))
		return tap_main(tests, sizeof(tests) / sizeof(tests[0]));
	printf("TAP version 13\n1..1\nok 1 - source # SKIP this system has no namespaces for us\n");
	return 0;
}
