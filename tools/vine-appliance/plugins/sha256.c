// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * sha256 - SHA-256 of a buffer, by OpenSSL
 *
 * in 0: any bytes
 * out 0: the digest, 32 bytes
 *
 * Errors: EINVAL the number of buffers; ENOSPC the output is too small; EIO OpenSSL's.
 */
#include <errno.h>
#include <openssl/sha.h>

#include <vine_serve.h>

static int sha256(const struct vine_call *call)
{
	if (call->in_count != 1 || call->out_count != 1)
		return EINVAL;
	if (call->out[0].size < SHA256_DIGEST_LENGTH)
		return ENOSPC;
	return SHA256(call->in[0].address, call->in[0].size, call->out[0].address) ? 0 : EIO;
}

static const struct vine_procedure procedures[] = {
	{ "sha256", VINE_TYPES_ALL, sha256, "bytes in; their SHA-256 out, 32 bytes" },
	{ NULL, 0, NULL, NULL },
};

const struct vine_plugin vine_plugin = {
	.size = sizeof(vine_plugin), .name = "sha256", .procedures = procedures,
};
