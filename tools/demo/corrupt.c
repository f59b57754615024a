// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * corrupt.c - for the tests of the demo: a plugin that wraps another one, the file that
 * $DEMO_CORRUPT names, and spoils one byte of the first result of each worker
 *
 * So the appliance, which knows nothing of this, gives wrong results.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vine_serve.h>

#define BYTE	20	/* in a digest, behind the header of a gzip member, in a picture */

static struct vine_procedure procedures[8];	/* the last one's name is NULL */
static vine_handler real[8];

static int run(const struct vine_call *call)
{
	static bool done;
	int ret, i = 0;

	while (strcmp(procedures[i].name, call->procedure))
		i++;
	ret = real[i](call);
	if (!ret && !done && call->out[0].size > BYTE) {
		((uint8_t *)call->out[0].address)[BYTE] ^= 0xff;
		done = true;
	}
	return ret;
}

static __attribute__((constructor)) void wrap(void)
{
	const char *path = getenv("DEMO_CORRUPT");
	void *plugin = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
	const struct vine_plugin *wrapped = plugin ? dlsym(plugin, "vine_plugin") : NULL;

	if (!wrapped) {
		fprintf(stderr, "corrupt: DEMO_CORRUPT=%s: no plugin\n", path ? path : "");
		abort();
	}
	for (int i = 0; wrapped->procedures[i].name && i < 7; i++) {
		procedures[i] = wrapped->procedures[i];
		real[i] = procedures[i].run;
		procedures[i].run = run;
	}
}

const struct vine_plugin vine_plugin = {
	.size = sizeof(vine_plugin), .name = "corrupt", .procedures = procedures,
};
