/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * protocol.h - what the demo's application and its appliance say to each other
 *
 * Service "sha256" writes the 32 bytes of the input's digest, service "deflate" a gzip
 * member of the input. One message is one task or one reply; input and output lie in
 * regions that the application has attached to the queue. A task is answered exactly
 * once, in any order. Both sides are little-endian, as all of vine is.
 */
#ifndef DEMO_PROTOCOL_H
#define DEMO_PROTOCOL_H

#include <stdint.h>

#include "vine.h"

#define DEMO_SHA256	"sha256"
#define DEMO_DEFLATE	"deflate"
#define DEMO_TYPE	3		/* VineTalk's CPU */
#define DEMO_INPUT_MAX	(16U << 20)	/* bytes of one task's input: it holds the others up */

/*
 * @tag: comes back in the reply; means nothing to the appliance
 * @in_region, @out_region: from vine_attach(), on this queue
 * @in_offset, @in_bytes: the input; 1 to DEMO_INPUT_MAX bytes
 * @out_offset, @out_room: where the output goes; not where the input is
 */
struct demo_task {
	uint64_t tag;
	uint64_t in_region;
	uint64_t in_offset;
	uint64_t out_region;
	uint64_t out_offset;
	uint32_t in_bytes;
	uint32_t out_room;
};

/*
 * @status: enum demo_status
 * @out_bytes: of the output; 0 unless @status is DEMO_OK
 */
struct demo_reply {
	uint64_t tag;
	uint32_t status;
	uint32_t out_bytes;
};

enum demo_status {
	DEMO_OK,
	DEMO_BAD_LENGTH,	/* the message is no task */
	DEMO_BAD_REGION,	/* it cannot be imported */
	DEMO_BAD_RANGE,		/* not within the region, or no or too many bytes */
	DEMO_BAD_OVERLAP,	/* the output would go over the input */
	DEMO_NO_ROOM,		/* the output is larger than @out_room */
	DEMO_FAILED,		/* the accelerator failed */
};

static inline const char *demo_status_text(uint32_t status)
{
	static const char *const text[] = {
		[DEMO_OK] = "done",
		[DEMO_BAD_LENGTH] = "the message is no task",
		[DEMO_BAD_REGION] = "the region cannot be imported",
		[DEMO_BAD_RANGE] = "input or output is not within its region",
		[DEMO_BAD_OVERLAP] = "the output overlaps the input",
		[DEMO_NO_ROOM] = "the output does not fit",
		[DEMO_FAILED] = "the accelerator failed",
	};

	return status < sizeof(text) / sizeof(*text) ? text[status] : "an unknown status";
}

_Static_assert(sizeof(struct demo_task) <= VINE_MSG_DATA, "a task is one message");
_Static_assert(sizeof(struct demo_reply) <= VINE_MSG_DATA, "a reply is one message");

#endif
