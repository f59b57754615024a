/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * profile.h - how often each procedure ran, on how much data, and for how long
 */
#ifndef TALK_PROFILE_H
#define TALK_PROFILE_H

#include "talk/talk.h"

/*
 * Begins one. @file: where profile_close() writes it as JSON; "-": nowhere; empty: there is
 * no profile. Without profile_close(), exit() writes it.
 */
void profile_open(const char *file);

/* A task has ended, in @ns. Does nothing without a profile. */
void profile_add(const struct talk_task_obj *task, uint64_t ns, bool failed);

/* Prints it as a table to standard error, writes the JSON, and forgets it. */
void profile_close(void);

/* In the child of a fork: there is no profile. */
void profile_forked(void);

#endif /* TALK_PROFILE_H */
