// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * plugin_test.c - the registry of procedures, plugins, and uploaded code
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "serve/plugin.h"
#include "tap.h"

#define HANDLERS	PLUGINS "/handlers.so"
#define VARIANT(name)	VARIANTS "/" name ".so"

static struct plugins plugins;
static char error[PLUGIN_ERROR];

static int noop(const struct vine_call *call)
{
	(void)call;
	return 0;
}

static int other(const struct vine_call *call)
{
	(void)call;
	return 1;
}

/* ---- the registry ---- */

static const struct vine_procedure mine = { "mine", VINE_TYPE(CPU) | VINE_TYPE(GPU), noop, "" };
static const struct vine_procedure fpga = { "mine", VINE_TYPE(FPGA), other, "" };
static const struct vine_procedure same = { "mine", VINE_TYPE(GPU) | VINE_TYPE(GPU_SOFT), other,
					    "" };
static const struct vine_procedure all = { "*", VINE_TYPE(CPU), other, "" };

static void by_name_and_type(void)
{
	CHECK(!plugins_find(&plugins, ANY, "mine"));
	CHECK(!plugins_add(&plugins, &mine, error));
	CHECK(!plugins_add(&plugins, &fpga, error));
	CHECK(plugins_find(&plugins, CPU, "mine") == &mine);
	CHECK(plugins_find(&plugins, GPU, "mine") == &mine);
	CHECK(plugins_find(&plugins, FPGA, "mine") == &fpga);
	CHECK(!plugins_find(&plugins, GPU_SOFT, "mine"));
	CHECK(plugins_find(&plugins, ANY, "mine") == &mine);
	CHECK(!plugins_find(&plugins, ANY, "min"));
	CHECK(!plugins_find(&plugins, ANY, "mine "));
	plugins_free(&plugins);
	CHECK(!plugins_find(&plugins, ANY, "mine"));
}

static void same_type_is_refused(void)
{
	CHECK(!plugins_add(&plugins, &mine, error));
	CHECK(plugins_add(&plugins, &same, error) == -1);
	CHECK(strstr(error, "mine: there is one already"));
	CHECK(!plugins_find(&plugins, GPU_SOFT, "mine"));
	plugins_free(&plugins);
}

static void wildcard_comes_last(void)
{
	CHECK(!plugins_add(&plugins, &all, error));
	CHECK(!plugins_add(&plugins, &mine, error));
	CHECK(plugins_find(&plugins, CPU, "mine") == &mine);
	CHECK(plugins_find(&plugins, CPU, "whatever") == &all);
	CHECK(plugins_find(&plugins, ANY, "whatever") == &all);
	CHECK(!plugins_find(&plugins, GPU, "whatever"));
	CHECK(plugins_find(&plugins, CPU, "*") == &all);
	CHECK(!plugins_named(&plugins, CPU, "whatever"));
	CHECK(!plugins_named(&plugins, CPU, "*"));
	CHECK(plugins_named(&plugins, CPU, "mine") == &mine);
	plugins_free(&plugins);
}

static void null_name(void)
{
	const struct vine_procedure nameless = { NULL, VINE_TYPES_ALL, noop, "" };

	CHECK(plugins_add(&plugins, &nameless, error) == -1);
	CHECK(strstr(error, "it must have 1 to 48 bytes"));
}

/* ---- plugins ---- */

static void a_plugin(void)
{
	const struct vine_procedure *p;

	CHECK(!plugins_load(&plugins, HANDLERS, error));
	p = plugins_find(&plugins, GPU, "copy");
	CHECK(p && p->run && p->types == VINE_TYPES_ALL);
	CHECK(plugins_find(&plugins, CPU, "cpu only"));
	CHECK(!plugins_find(&plugins, GPU, "cpu only"));
	CHECK(!plugins_load(&plugins, VARIANT("other_type"), error));
	CHECK(plugins_find(&plugins, GPU, "cpu only"));
	CHECK(!plugins_load(&plugins, VARIANT("wildcard"), error));
	CHECK(!plugins_load(&plugins, VARIANT("longest_name"), error));
	CHECK(plugins_named(&plugins, CPU, "a name of forty-eight bytes, as many as allowed."));
	plugins_free(&plugins);
}

static const struct {
	const char *path, *says;
} bad[] = {
	{ VARIANT("no_symbol"), "it exports no vine_plugin: see vine_serve.h" },
	{ VARIANT("other_size"), "it was built for another version of vine" },
	{ VARIANT("no_procedures"), "it has no procedures" },
	{ VARIANT("long_name"), "too many bytes: it must have 1 to 48 bytes" },
	{ VARIANT("empty_name"), "no bytes: it must have 1 to 48 bytes" },
	{ VARIANT("no_types"), "procedure typeless: the types 0x0 are no mask of VINE_TYPE()s" },
	{ VARIANT("type_any"), "procedure any: the types 0x9 are no mask of VINE_TYPE()s" },
	{ VARIANT("no_handler"), "procedure idle has no handler" },
	{ VARIANT("twice"), "procedure noop: there is one already, for the same type" },
	{ VARIANT("undefined"), "undefined symbol: not_defined_anywhere" },
	{ HANDLERS, "there is one already" },
	{ "/nowhere/x.so", "No such file" },
	{ "nowhere.so", "./nowhere.so: " },
	{ "/dev/null", "file too short" },
	{ PLUGINS, "Is a directory" },
};

/* One that is refused leaves nothing behind. */
static void bad_plugins(void)
{
	unsigned int before;
	size_t i;

	CHECK(!plugins_load(&plugins, HANDLERS, error));
	before = plugins.count;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		*error = '\0';
		EXPECT(plugins_load(&plugins, bad[i].path, error) == -1);
		if (!EXPECT(strstr(error, bad[i].says)) || !EXPECT(strstr(error, bad[i].path)))
			printf("# %s -> %s\n", bad[i].path, error);
		EXPECT(plugins.count == before && plugins.opened_count == 1);
	}
	EXPECT(!plugins_find(&plugins, ANY, "good"));
	EXPECT(!plugins_find(&plugins, ANY, "new"));
	plugins_free(&plugins);
}

static void long_path(void)
{
	char path[8192];

	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	CHECK(plugins_load(&plugins, path, error) == -1);
	CHECK(strstr(error, "File name too long"));
	path[0] = '/';
	CHECK(plugins_load(&plugins, path, error) == -1);
	CHECK(memchr(error, 0, sizeof(error)));
}

/* ---- folders ---- */

static char folder[] = "/tmp/vine-plugins-XXXXXX";

static void link_to(const char *target, const char *name)
{
	char path[100];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (symlink(target, path))
		abort();
}

static void unlink_all(void)
{
	static const char *const names[] = { "a.so", "b.so", ".so", ".c.so", "so", "x.so.old" };
	char path[100];
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
}

static void a_folder(void)
{
	link_to(VARIANT("twice"), "a.so");
	link_to(VARIANT("other_type"), "b.so");
	link_to("/dev/null", ".so");
	link_to("/dev/null", ".c.so");
	link_to("/dev/null", "so");
	link_to("/dev/null", "x.so.old");
	EXPECT(plugins_load_folder(&plugins, folder, error) == 2);
	EXPECT(plugins_find(&plugins, ANY, "new"));
	EXPECT(plugins_find(&plugins, ANY, "cpu only"));
	plugins_free(&plugins);
	unlink_all();
}

static void first_stands(void)
{
	link_to(HANDLERS, "a.so");
	link_to(VARIANT("twice"), "b.so");
	EXPECT(plugins_load_folder(&plugins, folder, error) == -1);
	EXPECT(strstr(error, "/b.so: procedure noop: there is one already"));
	EXPECT(plugins_find(&plugins, ANY, "noop"));
	EXPECT(!plugins_find(&plugins, ANY, "new"));
	plugins_free(&plugins);
	unlink_all();
}

static void no_folder(void)
{
	CHECK(plugins_load_folder(&plugins, "/nowhere", error) == -1);
	CHECK(!strcmp(error, "folder of plugins /nowhere: No such file or directory"));
	CHECK(plugins_load_folder(&plugins, HANDLERS, error) == -1);
	CHECK(strstr(error, "Not a directory"));
	CHECK(plugins_load_folder(&plugins, folder, error) == 0);
}

/* The folder can be read, but none of its files named. */
static void long_folder(void)
{
	char path[PATH_MAX];
	size_t length;

	link_to(HANDLERS, "a.so");
	strcpy(path, folder);
	for (length = strlen(path); length < sizeof(path) - 3; length += 2)
		strcpy(path + length, "/.");
	EXPECT(plugins_load_folder(&plugins, path, error) == -1);
	EXPECT(strstr(error, "File name too long"));
	plugins_free(&plugins);
	unlink_all();
}

static void usual_folder(void)
{
	unsetenv("VINE_PLUGINS");
	CHECK(plugins_load_folder(&plugins, NULL, error) == 0);
	setenv("VINE_PLUGINS", "", 1);
	CHECK(plugins_load_folder(&plugins, NULL, error) == 0);
	setenv("VINE_PLUGINS", PLUGINS, 1);
	CHECK(plugins_load_folder(&plugins, NULL, error) == 1);
	CHECK(plugins_find(&plugins, ANY, "copy"));
	plugins_free(&plugins);
	setenv("VINE_PLUGINS", "/nowhere", 1);
	CHECK(plugins_load_folder(&plugins, NULL, error) == -1);
	CHECK(plugins_load_folder(&plugins, PLUGINS, error) == 1);
	plugins_free(&plugins);
	unsetenv("VINE_PLUGINS");
}

/* ---- uploaded code ---- */

static void *contents(const char *path, size_t *size)
{
	FILE *f = fopen(path, "re");
	void *bytes = malloc(1 << 20);

	if (!f || !bytes)
		abort();
	*size = fread(bytes, 1, 1 << 20, f);
	fclose(f);
	return bytes;
}

static int open_file(struct plugin_code *code, const char *path)
{
	size_t size;
	void *bytes = contents(path, &size);
	int ret = plugin_code_open(code, bytes, size, error);

	free(bytes);
	return ret;
}

/* What the code fills its output with. */
static int output_of(const struct plugin_code *code)
{
	char byte = 0;
	struct vine_buffer out = { &byte, 1 };
	struct vine_call call = { .size = sizeof(call), .out_count = 1, .out = &out };

	return code->run(&call) ? -1 : byte;
}

static void code_runs(void)
{
	struct plugin_code a, b;

	CHECK(!open_file(&a, VARIANT("upload_a")));
	CHECK(!open_file(&b, VARIANT("upload_b")));
	CHECK(output_of(&a) == 'a');
	CHECK(output_of(&b) == 'b');
	plugin_code_close(&a);
	CHECK(output_of(&b) == 'b');
	plugin_code_close(&b);
}

/* dlopen() goes by the path, which has the number of the descriptor in it. */
static void next_code_is_another(void)
{
	struct plugin_code a, b;
	int fd;

	CHECK(!open_file(&a, VARIANT("upload_a")));
	fd = a.fd;
	plugin_code_close(&a);
	CHECK(fcntl(fd, F_GETFD) < 0);
	CHECK(!open_file(&b, VARIANT("upload_b")));
	CHECK(output_of(&b) == 'b');
	plugin_code_close(&b);

	CHECK(!open_file(&a, VARIANT("upload_stays")));
	plugin_code_close(&a);
	CHECK(!open_file(&b, VARIANT("upload_b")));
	CHECK(output_of(&b) == 'b');
	plugin_code_close(&b);
}

static void code_is_closed_on_exec(void)
{
	struct plugin_code a;

	CHECK(!open_file(&a, VARIANT("upload_a")));
	CHECK(fcntl(a.fd, F_GETFD) & FD_CLOEXEC);
	CHECK(pwrite(a.fd, "x", 1, 0) < 0);
	CHECK(ftruncate(a.fd, 0) < 0);
	plugin_code_close(&a);
}

static int lowest_descriptor(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

static void bad_code(void)
{
	int before = lowest_descriptor();
	struct plugin_code code;

	CHECK(open_file(&code, VARIANT("no_symbol")) == -1);
	CHECK(strstr(error, "it exports no vine_procedure()"));
	CHECK(plugin_code_open(&code, "\177ELF", 4, error) == -1);
	CHECK(strstr(error, "file too short"));
	CHECK(plugin_code_open(&code, "", 0, error) == -1);
	CHECK(plugin_code_open(&code, "#!/bin/sh\nexit\n", 15, error) == -1);
	CHECK(lowest_descriptor() == before);
}

/* No descriptor; no file so large. */
static void code_that_does_not_fit(void)
{
	struct rlimit before, limit;
	struct plugin_code code;
	void (*handler)(int);
	void *bytes;
	size_t size;

	bytes = contents(VARIANT("upload_a"), &size);
	getrlimit(RLIMIT_NOFILE, &before);
	limit = (struct rlimit){ lowest_descriptor(), before.rlim_max };
	setrlimit(RLIMIT_NOFILE, &limit);
	EXPECT(plugin_code_open(&code, bytes, size, error) == -ENOMEM);
	setrlimit(RLIMIT_NOFILE, &before);
	EXPECT(!strcmp(error, "memfd: Too many open files"));
	/* one for its copy, and none for the loader */
	limit.rlim_cur++;
	setrlimit(RLIMIT_NOFILE, &limit);
	EXPECT(plugin_code_open(&code, bytes, size, error) == -ENOMEM);
	setrlimit(RLIMIT_NOFILE, &before);
	EXPECT(strstr(error, "Too many open files"));

	handler = signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	limit = (struct rlimit){ size / 2, before.rlim_max };
	setrlimit(RLIMIT_FSIZE, &limit);
	EXPECT(plugin_code_open(&code, bytes, size, error) == -1);
	setrlimit(RLIMIT_FSIZE, &before);
	signal(SIGXFSZ, handler);
	EXPECT(!strcmp(error, "memfd: File too large"));
	free(bytes);
}

static const struct tap_test tests[] = {
	{ "a procedure is found by name and type", by_name_and_type },
	{ "the same name for a common type is refused", same_type_is_refused },
	{ "a handler of * comes last", wildcard_comes_last },
	{ "a procedure has a name", null_name },
	{ "a plugin is loaded", a_plugin },
	{ "a bad plugin is refused whole, and the message names it", bad_plugins },
	{ "a path that is too long", long_path },
	{ "a folder's *.so are loaded", a_folder },
	{ "they are loaded by name, and the first stands", first_stands },
	{ "a folder that is none", no_folder },
	{ "a folder whose path is almost too long", long_folder },
	{ "the usual folder need not exist; that of $VINE_PLUGINS must", usual_folder },
	{ "uploaded code runs", code_runs },
	{ "uploaded code is not taken for what was there before", next_code_is_another },
	{ "uploaded code is sealed, and closed on exec", code_is_closed_on_exec },
	{ "bad code is refused and leaves no descriptor", bad_code },
	{ "code for which there is no descriptor, or no room", code_that_does_not_fit },
};

int main(void)
{
	int ret;

	if (!mkdtemp(folder))
		return 2;
	ret = tap_main(tests, sizeof(tests) / sizeof(tests[0]));
	rmdir(folder);
	return ret;
}
