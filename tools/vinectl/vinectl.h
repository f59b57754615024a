/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * vinectl.h - what the files of vinectl offer to each other
 */
#ifndef VINECTL_H
#define VINECTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DONE = 0, FAILED = 1, USAGE = 2 };	/* exit status */

/* The command line. */
struct options {
	const char *device;	/* the node, as libvine would choose it */
	bool json;
	bool yes;
	const char *argument;	/* of bury and wipe; NULL: none was given */
};

/* vinectl.c: one line on stderr; FAILED, so that what fails can say so and return. */
int fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/*
 * Asks on the terminal, "QUESTION [y/N] ". DONE: go on (or --yes was given); FAILED: no;
 * USAGE: there is nobody to ask.
 */
int ask(const struct options *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "64 KiB": the largest unit; one digit behind the point if it needs one. */
const char *bytes_text(uint64_t bytes, char text[32]);

/* device.c: a device descriptor; -1 when it has said why not. */
int device_open(const struct options *o);
/* Is it one of our own, which has come just now and has not seen anybody beat? */
bool device_is_endpoint(int device);
/* Says why a call on it failed; FAILED. */
int device_failed(const struct options *o, const char *what, int err);
/*
 * All records of a kind (VINE_QUERY_*), for free(). Their number, or -1 when it has said
 * why not.
 */
int device_query(const struct options *o, int device, unsigned int what, size_t size,
		 void **records);

/* show.c, bury.c, wipe.c: the commands; exit status. */
int show_info(const struct options *o);
int show_peers(const struct options *o);
int show_services(const struct options *o);
int show_queues(const struct options *o);
int show_regions(const struct options *o);
int bury(const struct options *o);
int wipe(const struct options *o);

/*
 * table.c: columns for people. A head that begins with '>' stands above numbers: flush
 * right. Cells are added row by row; table_print() ends the table.
 */
void table_begin(const char *const *heads, unsigned int columns);
void table_cell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void table_print(void);

#endif /* VINECTL_H */
