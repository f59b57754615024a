/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * picture.h - PNG files, row by row, as the demo wants them: read as 8-bit RGB, written as
 * 8-bit gray
 *
 * Whatever goes wrong ends the program, with a message and status 1.
 */
#ifndef DEMO_PICTURE_H
#define DEMO_PICTURE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define RGB	3		/* bytes of a pixel */

struct picture;

/* Opens a PNG for reading. */
struct picture *picture_open(const char *path);

/* Creates one. @bytes of a pixel: RGB, or 1: gray. */
struct picture *picture_create(const char *path, uint32_t width, uint32_t height, int bytes);

uint32_t picture_width(const struct picture *p);
uint32_t picture_height(const struct picture *p);

/* The next @count rows, without gaps. */
void picture_read(struct picture *p, uint8_t *to, uint32_t count);
void picture_write(struct picture *p, const uint8_t *from, uint32_t count);

/* Also completes the file. */
void picture_close(struct picture *p);

#endif
