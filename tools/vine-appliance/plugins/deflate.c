// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * deflate - compresses a buffer, by zlib
 * inflate - the reverse
 *
 * in 0: any bytes; of inflate: a member of a gzip file, or a zlib stream; bytes that follow
 *       it are not looked at
 * out 0: a member of a gzip file, compressed as gzip -6 does; of inflate: what was compressed
 * out 1: optional: how many bytes of out 0 were written, 8 bytes, little-endian
 *
 * Errors: EINVAL the number of buffers, or out 1 has not 8 bytes; ENOSPC out 0 is too small;
 * EBADMSG what came in is not compressed, or not whole; ENOMEM.
 */
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <zlib.h>

#include <vine_serve.h>

#define GZIP		(15 + 16)	/* windowBits: the largest window, gzip's header */
#define GZIP_OR_ZLIB	(15 + 32)
#define MEM_LEVEL	8		/* zlib's default */

static uInt piece(size_t left)
{
	return left < UINT_MAX ? left : UINT_MAX;
}

/*
 * @step: deflate() or inflate(), which take 4 GiB at a time at most; @last: with the last of
 * them. Returns what it gave in the end: Z_STREAM_END when it is done.
 */
static int run(int (*step)(z_stream *z, int flush), int last, z_stream *z,
	       const struct vine_call *call, uint64_t *written)
{
	size_t in = call->in[0].size, out = call->out[0].size;
	uInt fed, room;
	int ret;

	z->next_in = call->in[0].address;
	z->next_out = call->out[0].address;
	do {
		fed = piece(in);
		room = piece(out);
		z->avail_in = fed;
		z->avail_out = room;
		ret = step(z, fed == in ? last : Z_NO_FLUSH);
		in -= fed - z->avail_in;
		out -= room - z->avail_out;
		/* without any progress it gives Z_BUF_ERROR */
	} while (ret == Z_OK);
	*written = call->out[0].size - out;
	return ret;
}

static int check(const struct vine_call *call)
{
	if (call->in_count != 1 || call->out_count < 1 || call->out_count > 2)
		return EINVAL;
	if (call->out_count == 2 && call->out[1].size != sizeof(uint64_t))
		return EINVAL;
	return 0;
}

static void tell(const struct vine_call *call, uint64_t written)
{
	written = htole64(written);
	if (call->out_count == 2)
		memcpy(call->out[1].address, &written, sizeof(written));
}

static int run_deflate(const struct vine_call *call)
{
	z_stream z = { .zalloc = NULL };
	uint64_t written;
	int ret;

	ret = check(call);
	if (ret)
		return ret;
	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP, MEM_LEVEL,
			 Z_DEFAULT_STRATEGY) != Z_OK)
		return ENOMEM;
	ret = run(deflate, Z_FINISH, &z, call, &written);
	deflateEnd(&z);
	if (ret != Z_STREAM_END)
		return ENOSPC;
	tell(call, written);
	return 0;
}

/* inflate() has stopped without an end: would more room help? */
static bool wants_room(z_stream *z)
{
	Bytef more;

	z->next_out = &more;
	z->avail_out = 1;
	inflate(z, Z_NO_FLUSH);
	return !z->avail_out;
}

static int run_inflate(const struct vine_call *call)
{
	z_stream z = { .zalloc = NULL };
	uint64_t written;
	int ret;

	ret = check(call);
	if (ret)
		return ret;
	if (inflateInit2(&z, GZIP_OR_ZLIB) != Z_OK)
		return ENOMEM;
	ret = run(inflate, Z_NO_FLUSH, &z, call, &written);
	if (ret == Z_STREAM_END) {
		tell(call, written);
		ret = 0;
	} else if (ret == Z_MEM_ERROR) {
		ret = ENOMEM;
	} else {
		ret = ret == Z_BUF_ERROR && wants_room(&z) ? ENOSPC : EBADMSG;
	}
	inflateEnd(&z);
	return ret;
}

static const struct vine_procedure procedures[] = {
	{ "deflate", VINE_TYPES_ALL, run_deflate, "bytes in; a gzip member out, [its length]" },
	{ "inflate", VINE_TYPES_ALL, run_inflate, "gzip or zlib in; bytes out, [their number]" },
	{ NULL, 0, NULL, NULL },
};

const struct vine_plugin vine_plugin = {
	.size = sizeof(vine_plugin), .name = "deflate", .procedures = procedures,
};
