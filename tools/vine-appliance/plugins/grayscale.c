// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * grayscale - makes a picture gray
 *
 * args: width, height, channels: three uint32_t, little-endian; channels: 3 RGB, 4 RGBA
 * in 0: width * height pixels, row by row without gaps, one byte per channel
 * out 0: as many bytes, one per pixel: (77 * R + 150 * G + 29 * B + 128) / 256, rounded down;
 *        alpha is not looked at
 *
 * Errors: EINVAL the number of buffers, or arguments that cannot be; ENOSPC a buffer is
 * smaller than the picture.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include <vine_serve.h>

static int grayscale(const struct vine_call *call)
{
	uint64_t pixels, i;
	uint32_t args[3], channels;
	const uint8_t *from;
	uint8_t *to;

	if (call->in_count != 1 || call->out_count != 1 || call->args.size != sizeof(args))
		return EINVAL;
	memcpy(args, call->args.address, sizeof(args));
	pixels = (uint64_t)le32toh(args[0]) * le32toh(args[1]);
	channels = le32toh(args[2]);
	if (!pixels || (channels != 3 && channels != 4))
		return EINVAL;
	if (call->out[0].size < pixels || call->in[0].size / channels < pixels)
		return ENOSPC;
	from = call->in[0].address;
	to = call->out[0].address;
	for (i = 0; i < pixels; i++, from += channels)
		to[i] = (77 * from[0] + 150 * from[1] + 29 * from[2] + 128) / 256;
	return 0;
}

static const struct vine_procedure procedures[] = {
	{ "grayscale", VINE_TYPES_ALL, grayscale,
	  "width, height, 3 or 4; RGB or RGBA in; gray out" },
	{ NULL, 0, NULL, NULL },
};

const struct vine_plugin vine_plugin = {
	.size = sizeof(vine_plugin), .name = "grayscale", .procedures = procedures,
};
