// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * tap.c - runs the table of a test program
 */
#include <signal.h>
#include "tap.h"

#ifndef TAP_SECONDS
#define TAP_SECONDS	120	/* of one test; the longest takes about 20 */
#endif

int tap_failed;
static char hung[256];

void tap_fail(const char *file, int line, const char *what)
{
	/* only the first few of a loop's: the rest says nothing new */
	if (__atomic_fetch_add(&tap_failed, 1, __ATOMIC_RELAXED) < 5)
		printf("# %s:%d: false: %s\n", file, line, what);
}

static void timed_out(int sig)
{
	(void)sig;
	if (write(1, hung, strlen(hung)) < 0)
		_exit(2);
	_exit(1);
}

int tap_main(const struct tap_test *tests, int n)
{
	int i, failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGALRM, timed_out);
	printf("TAP version 13\n1..%d\n", n);
	for (i = 0; i < n; i++) {
		tap_failed = 0;
		snprintf(hung, sizeof(hung), "not ok %d - %s\n# timed out\n", i + 1,
			 tests[i].says);
		alarm(TAP_SECONDS);
		tests[i].run();
		failed += !!tap_failed;
		printf("%sok %d - %s\n", tap_failed ? "not " : "", i + 1, tests[i].says);
	}
	alarm(0);
	return failed ? 1 : 0;
}
