/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * text.h - text into a given piece of memory: numbers, fields of CSV, strings of JSON
 *
 * Without locale and allocation, and async-signal-safe.
 */
#ifndef TALK_TEXT_H
#define TALK_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What does not fit is left out, and @full says so. */
struct text {
	char *at;
	char *end;
	bool full;
};

void text_put(struct text *t, const char *string);
void text_number(struct text *t, uint64_t number);
void text_signed(struct text *t, int64_t number);
void text_hex(struct text *t, uint64_t number);		/* 0x1f */
void text_micros(struct text *t, uint64_t ns);		/* as microseconds: 12.345 */

/*
 * A string of unknown bytes: what is no UTF-8 becomes U+FFFD; what is longer than
 * TEXT_LONGEST bytes is cut, and "..." says so.
 *
 * text_csv() writes a whole field, quoted when need be, text_json() a string with its
 * quotes. @before comes first in it, as it is.
 */
#define TEXT_LONGEST	128
void text_csv(struct text *t, const char *before, const char *string);
void text_json(struct text *t, const char *before, const char *string);

#endif /* TALK_TEXT_H */
