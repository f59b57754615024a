// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * table.c - aligned columns
 */
#define _GNU_SOURCE
#include <err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vinectl.h"

static char **cells;
static size_t count, room;
static unsigned int columns;
static unsigned int right;	/* bit per column */

static void add(char *cell)
{
	if (count == room) {
		room = room ? 2 * room : 64;
		cells = reallocarray(cells, room, sizeof(*cells));
	}
	if (!cell || !cells)
		err(FAILED, NULL);
	cells[count++] = cell;
}

void table_begin(const char *const *heads, unsigned int n)
{
	unsigned int i;

	columns = n;
	for (i = 0; i < n; i++) {
		right |= (heads[i][0] == '>') << i;
		add(strdup(heads[i] + (heads[i][0] == '>')));
	}
}

void table_cell(const char *fmt, ...)
{
	char *cell;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&cell, fmt, ap) < 0)
		cell = NULL;
	va_end(ap);
	add(cell);
}

void table_print(void)
{
	int width[32] = { 0 }, w;
	unsigned int c;
	size_t i;

	for (i = 0; i < count; i++) {
		c = i % columns;
		w = (int)strlen(cells[i]);
		if (w > width[c])
			width[c] = w;
	}
	for (i = 0; i < count; i++) {
		c = i % columns;
		if (right >> c & 1)
			printf("%*s", width[c], cells[i]);
		else if (c == columns - 1)
			printf("%s", cells[i]);		/* no blanks at the end */
		else
			printf("%-*s", width[c], cells[i]);
		fputs(c == columns - 1 ? "\n" : "  ", stdout);
		free(cells[i]);
	}
	free(cells);
	cells = NULL;
	count = room = 0;
	right = 0;
}
