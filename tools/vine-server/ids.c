// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * ids.c - which IDs are in use, by the contents of the memory.
 */
#define _GNU_SOURCE
#include <core.h>

#include <endian.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server.h"

/*
 * A limit: a VM that writes such words is not to use up all IDs, or our time. Machines that split
 * the memory differently can make more: IDs in what lies beyond the 64th are not seen.
 */
#define MAX_SEGMENTS	64

/* 0 when it cannot be read, which is blank. */
static uint64_t word_at(int mem_fd, off_t at)
{
	uint64_t word;

	return pread(mem_fd, &word, sizeof(word), at) == sizeof(word) ? le64toh(word) : 0;
}

static void ids_in_segment(int mem_fd, off_t at, bool *ids)
{
	uint64_t word;
	unsigned int i;

	for (i = 0; i < VINE_MAX_PEERS; i++) {
		word = word_at(mem_fd, at + VINE_OFF_PEERS + i * sizeof(struct vine_wire_peer));
		if (VINE_PEER_STATE(word) != VINE_PEER_FREE)
			ids[VINE_PEER_IVPOS(word)] = true;
	}
}

/*
 * The VMs may have split the memory. What lies within a segment is its users', and says
 * nothing.
 */
void ids_in_memory(int mem_fd, bool ids[MAX_ID + 1])
{
	struct vine_geometry geo;
	unsigned int segments = 0;
	struct stat st;
	off_t at = 0;

	memset(ids, 0, MAX_ID + 1);
	if (fstat(mem_fd, &st))
		return;
	/* most of it may be a hole */
	while (segments < MAX_SEGMENTS && (at = lseek(mem_fd, at, SEEK_DATA)) >= 0) {
		at &= -VINE_PLACE;
		if (vine_geometry_of(word_at(mem_fd, at), st.st_size - at, &geo)) {
			at += VINE_PLACE;
			continue;
		}
		ids_in_segment(mem_fd, at, ids);
		segments++;
		at += geo.size;
	}
}
