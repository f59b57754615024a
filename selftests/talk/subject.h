/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * subject.h - what the tests of vine_talk.h have in common: a configuration, what was said
 *             on standard error, a clock, tasks
 */
#ifndef SUBJECT_H
#define SUBJECT_H

#include <vine_talk.h>

#include "tap.h"

/* Runs the tests in a folder of their own, which is the working folder. */
int subject_main(const struct tap_test *tests, int n);

/* Writes a configuration: a back end, the tests' plugin, and more lines. */
void subject_config(const char *backend, const char *more);

/* Opens VineTalk, with nothing said before; with a configuration; closes it. */
void subject_open(void);
void subject_begin(const char *backend, const char *more);
void subject_end(void);

/* What was said on standard error since the last call of this or of subject_open(). */
const char *subject_said(void);
int subject_lines(void);	/* how many lines that was */

/* A second passes: warnings are said again. */
void subject_second(void);

extern vine_accel *subject_accel[VINE_ACCEL_TYPES];	/* by type */

vine_data *subject_data(size_t size, int byte);
vine_data *subject_bytes(const void *bytes, size_t size);

/* Waits until another thread sleeps in a system call, or is gone. */
void subject_sleeps(pid_t tid);

#endif /* SUBJECT_H */
