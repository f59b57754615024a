// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * variants.c - shared objects that something is wrong with, or right: one for each IS_...
 */
#include <string.h>

#include <vine_serve.h>

static int noop(const struct vine_call *call)
{
	(void)call;
	return 0;
}

#if defined(IS_upload_a) || defined(IS_upload_b) || defined(IS_upload_stays)

#ifdef IS_upload_b
#define BYTE 'b'
#else
#define BYTE 'a'
#endif

/* Uploaded code: fills its outputs. */
int vine_procedure(const struct vine_call *call)
{
	unsigned int i;

	for (i = 0; i < call->out_count; i++)
		memset(call->out[i].address, BYTE, call->out[i].size);
	return noop(call);
}

#elif defined(IS_no_symbol)

int something_else(const struct vine_call *call)
{
	return noop(call);
}

#else

#ifdef IS_undefined
int not_defined_anywhere(const struct vine_call *call);
#define noop not_defined_anywhere
#endif

static const struct vine_procedure procedures[] = {
#if defined(IS_long_name)
	{ "good", VINE_TYPES_ALL, noop, "" },
	{ "a name of forty-nine bytes, one more than allowed.", VINE_TYPES_ALL, noop, "" },
#elif defined(IS_longest_name)
	{ "a name of forty-eight bytes, as many as allowed.", VINE_TYPES_ALL, noop, "" },
#elif defined(IS_empty_name)
	{ "", VINE_TYPES_ALL, noop, "" },
#elif defined(IS_no_types)
	{ "good", VINE_TYPES_ALL, noop, "" },
	{ "typeless", 0, noop, "" },
#elif defined(IS_type_any)
	{ "any", VINE_TYPE(ANY) | VINE_TYPE(CPU), noop, "" },
#elif defined(IS_no_handler)
	{ "idle", VINE_TYPES_ALL, NULL, "" },
#elif defined(IS_twice)
	{ "new", VINE_TYPES_ALL, noop, "" },
	{ "noop", VINE_TYPE(FPGA), noop, "" },
#elif defined(IS_other_type)
	{ "cpu only", VINE_TYPE(GPU), noop, "" },
#elif defined(IS_wildcard)
	{ "*", VINE_TYPE(CPU), noop, "" },
#elif defined(IS_undefined)
	{ "undefined", VINE_TYPES_ALL, noop, "" },
#endif
	{ NULL, 0, NULL, NULL },
};

const struct vine_plugin vine_plugin = {
#ifdef IS_other_size
	.size = sizeof(vine_plugin) + 8,
#else
	.size = sizeof(vine_plugin),
#endif
	.name = "variant",
#ifndef IS_no_procedures
	.procedures = procedures,
#endif
};

#endif
