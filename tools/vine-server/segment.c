// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * segment.c - what the server knows of the contents of the memory.
 */
#include <endian.h>
#include <unistd.h>

#include <linux/vine_wire.h>

#include "server.h"

/*
 * A slot that is not FREE may still have its memory written by the VM whose ID it
 * bears, and a driver that finds its own ID in a slot takes the former owner for dead.
 * So such an ID is not handed out again.
 */
bool id_in_segment(int mem_fd, uint16_t id)
{
	uint64_t word;
	unsigned int i;

	if (pread(mem_fd, &word, sizeof(word), VINE_OFF_HEADER) != sizeof(word) ||
	    VINE_FORMAT_MAGIC(le64toh(word)) != VINE_WIRE_MAGIC ||
	    VINE_FORMAT_VERSION(le64toh(word)) != VINE_WIRE_VERSION)
		return false;	/* blank, or somebody else's: it bears no ID */
	for (i = 0; i < VINE_MAX_PEERS; i++) {
		if (pread(mem_fd, &word, sizeof(word),
			  VINE_OFF_PEERS + i * sizeof(struct vine_wire_peer)) != sizeof(word))
			return false;
		word = le64toh(word);
		if (VINE_PEER_STATE(word) != VINE_PEER_FREE && VINE_PEER_IVPOS(word) == id)
			return true;
	}
	return false;
}
