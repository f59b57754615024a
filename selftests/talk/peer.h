/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * peer.h - for tests of the appliance: one in a process of its own, and a client that speaks
 * the protocol message by message
 *
 * On a fake device of the test's own when it is linked with fake_vine.c, else on
 * $VINE_DEVICE or /dev/vine0.
 */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <vine.h>
#include <vine_serve.h>

#include "talk/protocol.h"

#define PATIENCE_MS	60000	/* for what happens at once, on a busy machine too */

bool peer_fake(void);
/* Is each vine_open() an endpoint, with a slot of its own? */
bool peer_endpoint(void);

/* The path of a file in the folder that this program is in. Good until the next call. */
const char *peer_file(const char *name);

/* ---- the appliance ---- */

/*
 * Forks one with the plugins "handlers", "faults" and "add" and these accelerators: cpu0 and cpu1
 * (CPU, 1 worker each), gpu0 (GPU, 2 workers), fpga0 (FPGA, 1 worker). Waits until it serves.
 */
enum { CPU0, CPU1, GPU0, FPGA0, ACCELERATORS };
pid_t appliance_start(const struct vine_serve_options *options);
/* How many descriptors the next one may have; 0: as many as this process. */
extern unsigned int appliance_files;
/* To the next one its kernel looks as if built without CHECKPOINT_RESTORE and Landlock. */
extern bool appliance_small_kernel;
/* Ends it, or waits until it ends. Its exit status; 0: vine_serve_run() gave 0. */
int appliance_stop(pid_t pid);
int appliance_wait(pid_t pid);

/* Lines of its log so far that contain @text, NULL: all. */
unsigned int appliance_said(const char *text);

/* Descriptors of an appliance, but for one per worker; and its workers. */
unsigned int count_fds(pid_t pid);
unsigned int count_children(pid_t pid);
/* 'R', 'S', 'Z' (dead)...; 0: there is none. */
char process_state(pid_t pid);
/* The sum of what @see says of each child of a process. */
unsigned int each_child(pid_t pid, unsigned int (*see)(pid_t child));

/* Looks again and again whether something has become true, for PATIENCE_MS. */
#define EVENTUALLY(cond)							\
	({									\
		uint64_t until_ = vine_deadline_ms(PATIENCE_MS);		\
		bool true_;							\
										\
		while (!(true_ = (cond)) && vine_deadline_ms(1) < until_)	\
			peer_nap();						\
		true_;								\
	})
void peer_nap(void);

/* ---- a client ---- */

struct peer {
	int device, control, queue;	/* queue: of tasks */
	bool beside;			/* the device is another one's */
	int region;
	uint8_t *base;			/* of @region, which both queues know as number 0 */
	uint64_t bytes, id;
	uint64_t token[2];
	unsigned int accels;
	uint32_t tag;			/* of the last task */
};

/* All of it, @bytes of region. False: something went wrong. */
bool peer_open(struct peer *p, uint64_t bytes);
/* The same, of @other's machine: on its device. */
bool peer_open_beside(struct peer *p, const struct peer *other, uint64_t bytes);
void peer_close(struct peer *p);

/* One more queue. @token: NULL: control. Its WELCOME comes in @welcome. -1: failed. */
int peer_queue(const struct peer *p, const uint64_t token[2], struct talk_welcome *welcome);
/* Makes the region known to a queue, as number @index. */
bool peer_attach(const struct peer *p, int queue, unsigned int index);

bool peer_send(int queue, const void *message, size_t size);
/* The next message; false: it has another size, or nothing comes. */
bool peer_receive(int queue, void *message, size_t size);
bool peer_ask(int queue, const void *request, size_t size, void *answer, size_t answer_size);
/* Whether the other side has closed it: all that it sent is pulled. */
bool peer_closed(int queue);

/* GET, or REGISTER with bytes at the region's beginning. 0: failed, and @status says how. */
uint32_t peer_get(struct peer *p, vine_accel_type_e type, const char *name, int *status);
uint32_t peer_register(struct peer *p, vine_accel_type_e type, const char *name,
		       const void *bytes, size_t size, int *status);

/* Sends a task. @ref: args (if TALK_ARGS), inputs, outputs. Its tag, or 0. */
uint32_t peer_issue(struct peer *p, uint32_t accel, uint32_t proc, unsigned int flags,
		    unsigned int in_count, unsigned int out_count, const struct talk_ref *ref);
bool peer_done(struct peer *p, struct talk_done *done);
/* Issues one of 64 bytes in, at 0, and 64 out, at 4096, and waits for it. */
bool peer_run(struct peer *p, uint32_t accel, uint32_t proc, unsigned int flags,
	      struct talk_done *done);
/* Two strings in, one out, checked: is everything as it should be? */
bool peer_works(struct peer *p, uint32_t accel, uint32_t add);

struct talk_stat peer_stat(struct peer *p, uint32_t accel);
/* ACQUIRE, RELEASE. The virtual accelerator's id; 0: no. */
uint32_t peer_hold(struct peer *p, uint8_t op, uint32_t id);

#endif /* PEER_H */
