// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * uploaded.c - a procedure that a test uploads: it says who it is, or crashes
 */
#include <string.h>
#include <unistd.h>
#include <sys/types.h>

#include <vine_serve.h>

/* Out: its user, its process, and whether it can make another process. */
__attribute__((visibility("default")))
int vine_procedure(const struct vine_call *call)
{
	unsigned int facts[3] = { getuid(), getpid(), 0 };
	pid_t pid;

	if (call->in_count && *(volatile char *)call->in[0].address == 'c')
		__builtin_trap();
	pid = fork();
	if (pid == 0)
		_exit(0);
	facts[2] = pid > 0;
	if (call->out[0].size < sizeof(facts))
		return 1;
	memcpy(call->out[0].address, facts, sizeof(facts));
	return 0;
}
