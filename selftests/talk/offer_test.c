// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * offer_test.c - what vine_serve.h refuses before anything is served, and the reason given
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vine.h>
#include <vine_serve.h>

#include "peer.h"
#include "tap.h"

static char error[VINE_SERVE_ERROR];

static int nothing(const struct vine_call *call)
{
	(void)call;
	return 0;
}

static const struct vine_procedure noop = { "noop", VINE_TYPES_ALL, nothing, "nothing" };

static bool said(const char *text)
{
	bool is = strstr(error, text);

	if (!is)
		printf("# said: %s\n", error);
	memset(error, 0, sizeof(error));
	return is;
}

static bool refused(const struct vine_serve_options *options, const char *why)
{
	struct vine_serve *serve = vine_serve_new(options, error);

	vine_serve_free(serve);
	return !serve && said(why);
}

static void test_options(void)
{
	struct vine_serve_options newer[2] = { { .size = sizeof(newer) } };
	struct vine_serve_options none = { .size = sizeof(none), .name = "" };
	struct vine_serve_options longer = { .size = sizeof(longer),
		.name = "12345678901234567890123456789012" };
	struct vine_serve_options user = { .size = sizeof(user), .allow_code = 1,
		.code_user = "no such user" };
	struct vine_serve_options root = { .size = sizeof(root), .allow_code = 1,
		.code_user = "root" };
	struct vine_serve_options smaller = { .size = sizeof(size_t) };
	struct vine_serve *serve;
	bool is_root = false;

	CHECK(refused(newer, "newer libvine"));
	CHECK(refused(&none, "1 to 31 bytes"));
	CHECK(refused(&longer, "1 to 31 bytes"));
	if (!geteuid()) {
		CHECK(refused(&user, "there is none"));
		CHECK(refused(&root, "it is root"));
		CHECK(!seteuid(65534));
		is_root = true;
	}
	CHECK(refused(&user, "only when root starts"));
	CHECK(!is_root || !seteuid(0));
	serve = vine_serve_new(&smaller, error);
	CHECK(serve);
	vine_serve_free(serve);
	vine_serve_free(NULL);
}

static void test_accelerators(void)
{
	struct vine_serve *serve = vine_serve_new(NULL, error);
	static const char *const no_pci[] = { "", "x", "0000:01:00", "0000:01:20.0", "0000:01:00.8",
		"0000:01:00.0 ", "0000:01:00.00", "-000:01:00.0" };
	unsigned int i;

	CHECK(serve);
	CHECK(vine_serve_accelerator(serve, NULL, CPU, 1, NULL, error) == -1 && said("1 to 31"));
	CHECK(vine_serve_accelerator(serve, "", CPU, 1, NULL, error) == -1 && said("1 to 31"));
	CHECK(vine_serve_accelerator(serve, "12345678901234567890123456789012", CPU, 1, NULL,
				     error) == -1 && said("1 to 31"));
	CHECK(vine_serve_accelerator(serve, "a", ANY, 1, NULL, error) == -1 && said("no type"));
	CHECK(vine_serve_accelerator(serve, "a", VINE_ACCEL_TYPES, 1, NULL, error) == -1);
	CHECK(said("no type"));
	CHECK(vine_serve_accelerator(serve, "a", CPU, 0, NULL, error) == -1 && said("1 to 64"));
	CHECK(vine_serve_accelerator(serve, "a", CPU, 65, NULL, error) == -1 && said("1 to 64"));
	for (i = 0; i < sizeof(no_pci) / sizeof(no_pci[0]); i++)
		CHECK(vine_serve_accelerator(serve, "a", CPU, 1, no_pci[i], error) == -1 &&
		      said("no PCI address"));
	CHECK(vine_serve_accelerator(serve, "a", CPU, 64, "00ff:ff:1f.7", error) == 0);
	CHECK(vine_serve_accelerator(serve, "a", GPU, 1, NULL, error) == -1 && said("two"));
	vine_serve_free(serve);
}

static void test_procedures(void)
{
	static const struct vine_procedure other = { "noop", VINE_TYPE(CPU), nothing, "other" };
	const struct vine_procedure *list[3] = { NULL };
	struct vine_serve *serve = vine_serve_new(NULL, error);

	CHECK(serve && vine_serve_procedures(serve, NULL, 0) == 0);
	CHECK(vine_serve_procedure(serve, &noop, error) == 0);
	CHECK(vine_serve_procedure(serve, &other, error) == -1 && said("noop"));
	CHECK(vine_serve_procedures(serve, list, 3) == 1 && list[0] == &noop && !list[1]);
	CHECK(vine_serve_plugin(serve, "/no/such.so", error) == -1 && said("/no/such.so"));
	CHECK(vine_serve_plugins(serve, "/no/such", error) == -1 && said("/no/such"));
	vine_serve_free(serve);
}

static int run(const char *device, const char *name, bool accelerator)
{
	const struct vine_serve_options options = { .size = sizeof(options), .device = device,
		.name = name };
	struct vine_serve *serve = vine_serve_new(&options, error);
	int ret;

	if (!EXPECT(serve) || !EXPECT(!vine_serve_procedure(serve, &noop, error)))
		return 0;
	if (accelerator)
		EXPECT(!vine_serve_accelerator(serve, "cpu0", CPU, 1, NULL, error));
	ret = vine_serve_run(serve, error);
	vine_serve_free(serve);
	return ret;
}

static void test_run(void)
{
	char file[] = "/tmp/vine-offer-XXXXXX", *path = peer_fake() ? file : getenv("VINE_DEVICE");
	int fd = mkstemp(file), device, listener;
	bool endpoint = peer_endpoint();

	path = strdup(path ? path : "/dev/vine0");
	CHECK(fd >= 0 && path);
	CHECK(run(path, "mine", false) == -1 && said("no accelerator"));
	CHECK(run("/no/such/device", "mine", true) == -1 && said("/no/such/device"));
	unsetenv("VINE_DEVICE");
	if (access("/dev/vine0", F_OK))
		CHECK(run(NULL, "mine", true) == -1 && said("/dev/vine0"));
	CHECK(!setenv("VINE_DEVICE", path, 1));
	device = vine_open(path);
	listener = vine_listen(device, "mine", 0, 0);
	CHECK(listener >= 0);
	/* an endpoint is a machine of its own */
	CHECK(endpoint || (run(path, "mine", true) == -1 && said("already")));
	vine_close(listener);
	vine_close(device);
	close(fd);
	unlink(file);
	free(path);
}

/* An endpoint's sentence ends with what to do. */
static void test_remedy(void)
{
	char device[256], *path = device + strlen("shm:");
	int fd;

	if (!peer_endpoint())
		return;
	snprintf(device, sizeof(device), "shm:/dev/shm/vine-offer-%d-%0180d", getpid(), 0);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && !ftruncate(fd, 16 << 20) && write(fd, "mine", 4) == 4);
	EXPECT(run(device, "mine", true) == -1 && said("clear it (trunc=1)"));
	close(fd);
	unlink(path);
}

static const struct tap_test tests[] = {
	{ "options that cannot be are refused, and smaller ones taken", test_options },
	{ "accelerators that cannot be are refused, with the reason", test_accelerators },
	{ "a procedure is offered once, and a plugin that is none is named", test_procedures },
	{ "nothing is served without an accelerator, a device, or a free name", test_run },
	{ "why an endpoint cannot be opened is said to the end", test_remedy },
};

TAP_MAIN(tests)
