// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * log.c - what vine-server says, on stderr, one line at a time. systemd adds the time.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "server.h"

enum log_level log_level = LOG_INFO;

int say(enum log_level level, const char *fmt, ...)
{
	int saved = errno;
	char line[512];
	va_list ap;

	if (level > log_level)
		return -1;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	/* One write a line, so that the lines of several servers do not mix. */
	dprintf(2, "vine-server: %s\n", line);
	errno = saved;
	return -1;
}
