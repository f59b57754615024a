/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * tap.h - a test program is a table of functions; this prints TAP version 13
 *
 * A test ends at its first failing CHECK(). EXPECT() notes a failure and goes on:
 * for helpers and threads. A test that hangs is killed by its alarm, and named.
 */
#ifndef TAP_H
#define TAP_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tap_test {
	const char *says;	/* what is true when it passes */
	void (*run)(void);
};

extern int tap_failed;	/* has this test failed? */
void tap_fail(const char *file, int line, const char *what);

/* How much of the full work a slower build does, in percent. */
#ifndef UNIT_PERCENT
#define UNIT_PERCENT	100
#endif
#define SCALED(n)	((n) * UNIT_PERCENT / 100)

#define EXPECT(cond)								\
	((cond) ? 1 : (tap_fail(__FILE__, __LINE__, #cond), 0))
#define CHECK(cond)								\
	do {									\
		if (!EXPECT(cond))						\
			return;							\
	} while (0)

int tap_main(const struct tap_test *tests, int n);

#define TAP_MAIN(tests)								\
	int main(void)								\
	{									\
		return tap_main(tests, (int)(sizeof(tests) / sizeof((tests)[0])));	\
	}

#endif /* TAP_H */
