// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * noop - does nothing, with any arguments, inputs and outputs: what a task costs by itself
 */
#include <vine_serve.h>

static int noop(const struct vine_call *call)
{
	(void)call;
	return 0;
}

static const struct vine_procedure procedures[] = {
	{ "noop", VINE_TYPES_ALL, noop, "any in; any out, untouched" },
	{ NULL, 0, NULL, NULL },
};

const struct vine_plugin vine_plugin = {
	.size = sizeof(vine_plugin), .name = "noop", .procedures = procedures,
};
