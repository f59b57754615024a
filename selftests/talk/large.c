// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * large.c - a procedure that a test uploads: more than uploaded code may have, so the loader finds
 *           no room for it
 */
extern char vine_procedure[];

__attribute__((visibility("default")))
char vine_procedure[3UL << 29];
