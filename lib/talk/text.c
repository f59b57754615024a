// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * text.c - text into a given piece of memory: numbers, fields of CSV, strings of JSON
 */
#include <string.h>

#include "text.h"

static void put(struct text *t, const char *bytes, size_t n)
{
	if (n > (size_t)(t->end - t->at)) {
		t->full = true;
		t->at = t->end;		/* nothing shorter follows what was left out */
		return;
	}
	memcpy(t->at, bytes, n);
	t->at += n;
}

void text_put(struct text *t, const char *string)
{
	put(t, string, strlen(string));
}

static void digits(struct text *t, uint64_t number, unsigned int base, unsigned int least)
{
	char buffer[20];		/* of 2^64 - 1 */
	size_t at = sizeof(buffer);

	do {
		buffer[--at] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number || sizeof(buffer) - at < least);
	put(t, buffer + at, sizeof(buffer) - at);
}

void text_number(struct text *t, uint64_t number)
{
	digits(t, number, 10, 1);
}

void text_signed(struct text *t, int64_t number)
{
	if (number < 0)
		text_put(t, "-");
	digits(t, number < 0 ? -(uint64_t)number : (uint64_t)number, 10, 1);
}

void text_hex(struct text *t, uint64_t number)
{
	text_put(t, "0x");
	digits(t, number, 16, 1);
}

void text_micros(struct text *t, uint64_t ns)
{
	digits(t, ns / 1000, 10, 1);
	text_put(t, ".");
	digits(t, ns % 1000, 10, 3);
}

/*
 * Bytes of the UTF-8 character at @s, which a zero byte ends; 0: it is none. The second
 * byte's range is what rules out overlong forms, surrogates, and beyond U+10FFFF.
 */
static size_t character(const unsigned char *s)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t i, n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	switch (s[0]) {
	case 0xe0: low = 0xa0; break;
	case 0xed: high = 0x9f; break;
	case 0xf0: low = 0x90; break;
	case 0xf4: high = 0x8f; break;
	}
	if (s[1] < low || s[1] > high)
		return 0;
	for (i = 2; i < n; i++)
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	return n;
}

/* Calls @one for each character, with what stands for those that are none. */
static void characters(struct text *t, const char *string,
		       void (*one)(struct text *t, const char *s, size_t n))
{
	size_t i, n;

	for (i = 0; string[i]; i += n ? n : 1) {
		if (i >= TEXT_LONGEST) {
			text_put(t, "...");
			return;
		}
		n = character((const unsigned char *)string + i);
		if (n)
			one(t, string + i, n);
		else
			put(t, "\xef\xbf\xbd", 3);
	}
}

static void csv_one(struct text *t, const char *s, size_t n)
{
	if (*s == '"')
		put(t, s, 1);
	put(t, s, n);
}

void text_csv(struct text *t, const char *before, const char *string)
{
	bool quoted = strpbrk(string, "\",\r\n");

	if (quoted)
		text_put(t, "\"");
	text_put(t, before);
	characters(t, string, csv_one);
	if (quoted)
		text_put(t, "\"");
}

static void json_one(struct text *t, const char *s, size_t n)
{
	if ((unsigned char)*s < 0x20) {
		text_put(t, "\\u");
		digits(t, (unsigned char)*s, 16, 4);
		return;
	}
	if (*s == '"' || *s == '\\')
		text_put(t, "\\");
	put(t, s, n);
}

void text_json(struct text *t, const char *before, const char *string)
{
	text_put(t, "\"");
	text_put(t, before);
	characters(t, string, json_one);
	text_put(t, "\"");
}
