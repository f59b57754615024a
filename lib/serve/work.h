/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * work.h - what the appliance and a worker say to each other
 *
 * Over a SEQPACKET socket: a request, then its answer. The worker may be running uploaded
 * code, so its answers are checked like a stranger's.
 *
 * A worker keeps what it has mapped in numbered slots, which the appliance hands out: the
 * clients' regions, and the bytes of procedures.
 */
#ifndef SERVE_WORK_H
#define SERVE_WORK_H

#include <stdbool.h>
#include <sys/types.h>

#include "serve/plugin.h"
#include "talk/protocol.h"

#define WORK_SLOTS	512
#define WORK_WHY	256	/* bytes of a sentence, with its zero */

/* Exit status of a worker that could not become what it has to be. */
#define WORK_UNFIT	126

enum work_op {
	WORK_RUN = 1,		/* -> work_done */
	WORK_FORGET,		/* -> work_done, of which only @serial means anything */
	WORK_PROBE,		/* a work_run up to @compiler -> work_done: none, and what it is */
};

/* To be mapped; its descriptor comes along, in the same order. */
struct work_map {
	uint32_t slot;
	uint32_t read_only;
	uint64_t beginning;	/* of it, in the file that the descriptor is */
	uint64_t bytes;
	uint64_t client;	/* whose; 0: everybody's */
};

struct work_buffer {
	uint32_t slot;
	uint32_t reserved;
	uint64_t offset, size;
};

/* Sent up to its last buffer. */
struct work_run {
	uint32_t op;
	uint32_t maps;
	uint64_t serial;
	uint64_t client;			/* who alone is within reach meanwhile */
	const struct vine_procedure *handler;	/* NULL: what is uploaded, in @bytes_slot */
	const struct vine_compiler *compiler;	/* NULL: and it is a shared object */
	uint64_t bytes_size;			/* 0: no bytes */
	uint32_t bytes_slot;
	uint8_t has_args, redzones, in_count, out_count;
	char name[TALK_NAME + 1];
	struct work_map map[TALK_BUFFERS + 1];	/* all buffers in different ones, the bytes */
	struct work_buffer buffer[TALK_BUFFERS];	/* args, inputs, outputs */
};

/* Sent up to its last slot. */
struct work_forget {
	uint32_t op;
	uint32_t slots;
	uint64_t serial;
	uint16_t slot[WORK_SLOTS];
};

/*
 * @reason: none, handler, overrun, no_memory; or no_procedure (it cannot be loaded) or
 * not_compiled, and @why
 */
struct work_done {
	uint64_t serial;
	int32_t reason, detail;
	uint64_t started, ended;
	char why[WORK_WHY];
};

/*
 * Who a worker is. @code: it runs uploaded code, as @uid and @gid; @source: what a compiler makes
 * of a client's source, likewise.
 */
struct work_self {
	int socket;
	const char *accelerator;
	vine_accel_type_e type;
	bool code, source;
	uid_t uid;
	gid_t gid;
};

/*
 * A forked process becomes one of its own: nothing stays open but 0 to 2 and @socket. 0, or -1:
 * something may have stayed open.
 */
int work_begin(int socket);

/* Standard input, output and errors lead nowhere. Each 0 or -1. */
int work_silence(void);
/* root becomes the user whom @self names; others stay who they are. */
int work_change_user(const struct work_self *self);
int work_drop_capabilities(void);

/*
 * Of a worker of uploaded code: takes away rights when it begins; and memory and system calls
 * before it loads the code, when all is mapped that it will need. 0 or -1.
 */
int sandbox_rights(const struct work_self *self);
int sandbox_close(void);
/* False: on this kernel it can read all files that its user may. */
bool sandbox_keeps_files(void);

/* Of a worker of source: what it is to be forked into (flags of clone3()). */
uint64_t source_namespaces(void);
/* Takes away what it does not need. 0 or -1. */
int confine_source(const struct work_self *self);

/* The rest of a worker's life. */
_Noreturn void work(const struct work_self *self);

#endif /* SERVE_WORK_H */
