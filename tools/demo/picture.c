// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * picture.c - PNG files, row by row; see picture.h
 */
#include <errno.h>
#include <png.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "picture.h"

struct picture {
	const char *path;
	FILE *file;
	png_structp png;
	png_infop info;
	bool writing;
	uint32_t width, height;
	size_t row_bytes;
};

static _Noreturn void fail(const struct picture *p, const char *what)
{
	fprintf(stderr, "picture %s: %s\n", p->path, what);
	_exit(1);	/* other threads may use what exit handlers end */
}

/* libpng calls this, and relies on it that it does not return. */
static _Noreturn void on_error(png_structp png, const char *what)
{
	char line[128];

	snprintf(line, sizeof(line), "libpng says: %s", what);
	fail(png_get_error_ptr(png), line);
}

static void on_warning(png_structp png, const char *what)
{
	(void)png;
	(void)what;
}

static struct picture *new(const char *path, bool writing)
{
	struct picture *p = calloc(1, sizeof(*p));

	if (!p)
		abort();
	p->path = path;
	p->writing = writing;
	p->file = fopen(path, writing ? "wbe" : "rbe");
	if (!p->file)
		fail(p, strerror(errno));
	p->png = (writing ? png_create_write_struct : png_create_read_struct)
		(PNG_LIBPNG_VER_STRING, p, on_error, on_warning);
	if (p->png)
		p->info = png_create_info_struct(p->png);
	if (!p->info)
		fail(p, "libpng does not start");
	png_init_io(p->png, p->file);
	return p;
}

struct picture *picture_open(const char *path)
{
	struct picture *p = new(path, false);

	png_read_info(p->png, p->info);
	if (png_get_interlace_type(p->png, p->info) != PNG_INTERLACE_NONE)
		fail(p, "it is interlaced; the demo takes rows as they come");
	p->width = png_get_image_width(p->png, p->info);
	p->height = png_get_image_height(p->png, p->info);
	png_set_expand(p->png);
	png_set_scale_16(p->png);
	png_set_strip_alpha(p->png);
	png_set_gray_to_rgb(p->png);
	png_read_update_info(p->png, p->info);
	p->row_bytes = png_get_rowbytes(p->png, p->info);
	if (p->row_bytes != (size_t)p->width * RGB)
		fail(p, "it does not become RGB");
	return p;
}

struct picture *picture_create(const char *path, uint32_t width, uint32_t height, int bytes)
{
	struct picture *p = new(path, true);

	p->width = width;
	p->height = height;
	p->row_bytes = (size_t)width * bytes;
	png_set_IHDR(p->png, p->info, width, height, 8,
		     bytes == RGB ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY,
		     PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
	png_write_info(p->png, p->info);
	return p;
}

uint32_t picture_width(const struct picture *p)
{
	return p->width;
}

uint32_t picture_height(const struct picture *p)
{
	return p->height;
}

void picture_read(struct picture *p, uint8_t *to, uint32_t count)
{
	for (; count; count--, to += p->row_bytes)
		png_read_row(p->png, to, NULL);
}

void picture_write(struct picture *p, const uint8_t *from, uint32_t count)
{
	for (; count; count--, from += p->row_bytes)
		png_write_row(p->png, from);
}

void picture_close(struct picture *p)
{
	if (p->writing) {
		png_write_end(p->png, NULL);
		png_destroy_write_struct(&p->png, &p->info);
	} else {
		png_destroy_read_struct(&p->png, &p->info, NULL);
	}
	if (fclose(p->file) && p->writing)
		fail(p, strerror(errno));
	free(p);
}
