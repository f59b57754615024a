/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * fuzz.h - victims on a hostile segment
 *
 * victim.c runs the input, hostile.c changes words between two reads and watches
 * each access, check.c looks at the victim's private records after each call.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "../unit/world.h"

#define VICTIMS		2
#define BYSTANDER	VICTIMS		/* a peer whose queue with victim 0 nobody touches */
#define QUEUES		6
#define LISTENERS	3
#define GRANTS		6

/* An input is a head and a list of these. */
struct insn {
	u8 op, a, b, c;
	u32 v;
};

struct head {
	u8 flags;
	u8 prologue;	/* so many steps of an honest beginning */
	u8 size;	/* pages that the segment is larger than the smallest */
	u8 shift;	/* HEAD_FORMAT(): of its chunks */
	u32 chunks;
};

/* Calls: .op says which, .a of whom, .b of what, the rest more of that. */
enum call {
	DO_JOIN, DO_LEAVE, DO_CRASH, DO_TICK, DO_TICK_2, DO_DRAIN, DO_BURY, DO_USAGE, DO_OFFER,
	DO_WITHDRAW, DO_WAITING, DO_CONNECT, DO_CONNECT_2, DO_RESULT, DO_CANCEL, DO_ACCEPT,
	DO_ACCEPT_2, DO_ATTACH, DO_IMPORT, DO_IMPORT_2, DO_PUSH, DO_PUSH_2, DO_PULL, DO_PULL_2,
	DO_POLL, DO_COUNT, DO_CLOSE, DO_CLAIM, DO_CLAIM_2, DO_PUBLISH, DO_RETIRE, DO_PUT,
	DO_SWEEP, DO_DESCRIBE, DO_CALLS,
};

/* The kinds of words in a segment. */
enum kind { HEADER, PEERS, SERVICES, QUEUE_ENTRIES, REGION_WORDS, HOLDS, CHUNKS, RINGS, KINDS };

/* A change in the next call: .op says of which access, .b how, .c and .v more of that. */
#define FILTER(op)	((op) & 0xf)	/* 0: what is something, 1: any, 2 + kind */
#define AGAIN_HERE	0x10		/* at further accesses to this word */
#define AGAIN_ALL	0x20		/* at further accesses that match */

/* What takes long is rare. */
#define HEAD_BYSTANDER(flags)	((flags) & 1)
/* opened with some format, and lied about while it is opened */
#define HEAD_FORMAT(flags)	(((flags) & 0x06) == 0x06)
/* all leave in the end */
#define HEAD_LEAVE(flags)	(((flags) & 0x18) == 0x18)
/* opened blank, and lied about while it is opened */
#define HEAD_BLANK(flags)	(((flags) & 0xe0) == 0xe0)

/* A region that the shell would let a process map. */
struct grant {
	u64 id;			/* 0: none */
	u32 first, count;
	u32 slot, inc;
};

struct victim {
	struct peer *peer;
	bool joined;
	bool offers[LISTENERS];
	struct vine_listener listener[LISTENERS];
	/* freed when closed, as a shell's are; the last is the bystander's */
	struct vine_queue *queue[QUEUES + 1];
	bool up[QUEUES + 1];			/* accepted */
	struct grant own[GRANTS], import[GRANTS];
};

extern struct victim victim[VICTIMS + 1];

/* Says what was found, and aborts: libFuzzer, or replay.c, keeps the input. */
void finding(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#define MUST(cond, what)	((cond) ? (void)0 : finding("%s: %s", what, #cond))

/* ---- hostile.c ---- */

extern struct world *world;
extern bool lied;	/* a word has changed that nobody of the victims changed */

/* All zero, nothing armed. */
void segment_reset(void);

/* One of these words has been written without a hook. */
void segment_dirty(u64 at, u64 bytes);

/* From here to the end of the input, nobody lies about these. */
void segment_protect(u64 at, u64 bytes);

/*
 * @v makes a call of at most so many accesses to the chunk map, and to the rest. Of ring
 * memory it may touch @q's alone.
 */
void segment_call(struct victim *v, struct vine_queue *q, u64 most, u64 most_chunks);
void segment_called(void);

/* All accesses of this input so far. */
u64 segment_accesses(void);

/* In the next call: a change of a word just before its access. Between calls: at once. */
void segment_arm(const struct insn *insn);
void segment_poke(const struct insn *insn);

/* ---- check.c ---- */

/* Do the records of @v agree with themselves, and with what it was given? */
void check_victim(struct victim *v);

/* The chunks of its rings are the bystander's and victim 0's: nobody else uses them. */
void check_bystander(const struct vine_use *rings);

/* Has it let go of everything? */
void check_empty(struct victim *v);

/* Nobody has lied and all have left: is everything free? */
void check_clean(void);

/* First and last + 1 byte of both rings of @q in the segment. */
void queue_rings(const struct vine_queue *q, u64 *from, u64 *to);

/* ---- victim.c ---- */

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#endif /* FUZZ_H */
