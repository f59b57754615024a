// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * bells.c - how many doorbells this guest's kernel rings: a probe counts the calls of the
 *           function that does it
 *
 * Interrupts would not do: those that come while one is pending are one.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"

#define TRACING	"/sys/kernel/tracing/"

static bool put(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_APPEND | O_CLOEXEC);
	bool good;

	if (fd < 0)
		return false;
	good = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return good;
}

bool bells_count(void)
{
	return put(TRACING "kprobe_events", "p:vine_bell vine:vine_pci_doorbell") &&
		put(TRACING "events/kprobes/vine_bell/enable", "1");
}

uint64_t bells_rung(void)
{
	FILE *f = fopen(TRACING "kprobe_profile", "re");
	unsigned long long hits = 0;
	char line[256];

	if (!f)
		die_errno(TRACING "kprobe_profile");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, " vine_bell %llu", &hits) == 1)
			break;
	fclose(f);
	return hits;
}

void bells_stop(void)
{
	put(TRACING "events/kprobes/vine_bell/enable", "0");
	put(TRACING "kprobe_events", "-:vine_bell");
}
