// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * config_test.c - ~/.vinetalk: what it may say, and what is said about what it may not
 */
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

#include "subject.h"
#include "talk/talk.h"

static char folder[] = "/tmp/vine-config-XXXXXX";
static char file[64];			/* in @folder; $VINE_CONFIG */
static struct talk_config config;
static char error[10000];

static void write_config(const char *path, const char *text, size_t size)
{
	FILE *f = fopen(path, "w");

	if (!f || fwrite(text, 1, size, f) != size || fclose(f))
		abort();
}

static int read_config(const char *text)
{
	write_config(file, text, strlen(text));
	*error = '\0';
	return talk_config_read(&config, error, sizeof(error));
}

static void fresh(void)
{
	setenv("VINE_CONFIG", file, 1);
	setenv("HOME", "/nowhere", 1);
	unsetenv("VINE_TRACE");
	unsetenv("VINE_DEVICE");
}

/* ---- what is right ---- */

static void all_keys(void)
{
	fresh();
	CHECK(!read_config("backend device\n"
			   "shm_file /dev/zero\n"
			   "shm_size 18446744073709551615\n"
			   "shm_off 0\n"
			   "shm_trunc 1\n"
			   "shm_ivshmem 0\n"
			   "trace 1\n"
			   "trace_dir /tmp/traces\n"
			   "log_buffer_size 1\n"
			   "plugins /tmp/plugins\n"
			   "profile -\n"));
	CHECK(!strcmp(config.file, file));
	CHECK(!strcmp(config.backend, "device"));
	CHECK(!strcmp(config.shm_file, "/dev/zero"));
	CHECK(config.shm_size == UINT64_MAX);
	CHECK(config.shm_off == 0);
	CHECK(config.shm_trunc && !config.shm_ivshmem && config.trace);
	CHECK(!strcmp(config.trace_dir, "/tmp/traces"));
	CHECK(config.log_buffer_size == 1);
	CHECK(!strcmp(config.plugins, "/tmp/plugins"));
	CHECK(!strcmp(config.profile, "-"));
}

static void lines(void)
{
	fresh();
	CHECK(!read_config("# a comment\n\n   \t \n  # another\r\nbackend\tnull \t\r\n"
			   "  plugins   /a folder/with # spaces  \n"
			   "profile x"));
	CHECK(!strcmp(config.backend, "null"));
	CHECK(!strcmp(config.plugins, "/a folder/with # spaces"));
	CHECK(!strcmp(config.profile, "x"));
}

static void empty(void)
{
	fresh();
	CHECK(!read_config(""));
	CHECK(!*config.backend && !*config.shm_file && !*config.profile);
	CHECK(!config.trace && !config.log_buffer_size);
}

static void longest(void)
{
	char text[sizeof("plugins ") + sizeof(config.plugins)] = "plugins ";

	fresh();
	memset(text + strlen(text), 'x', sizeof(config.plugins) - 1);
	CHECK(!read_config(text));
	CHECK(strlen(config.plugins) == sizeof(config.plugins) - 1);
}

/* ---- what is wrong ---- */

#define KEY32	"abcdefghijklmnopqrstuvwxyz012345"

/* Line 0: the message names the file alone. */
static const struct bad {
	const char *text;
	unsigned int line;
	const char *says;
} bad[] = {
	{ "colour blue\n", 1, "unknown key \"colour\": expected backend, shm_file, " },
	{ "# 1\n\ncolour blue\n", 3, "unknown key \"colour\"" },
	{ "BACKEND null\n", 1, "unknown key \"BACKEND\"" },
	{ "backend=null\n", 1, "unknown key \"backend=null\"" },
	{ KEY32 " 1\n", 1, "unknown key \"" KEY32 "\"" },
	{ KEY32 "6 1\n", 1, "the key " KEY32 "... has 33 bytes: expected at most 32" },
	{ "backend\n", 1, "backend alone: expected KEY VALUE" },
	{ "trace 1\nbackend  \t\n", 2, "backend alone: expected KEY VALUE" },
	{ "trace 1\nbackend null\ntrace 1\n", 3, "trace again, after line 1: expected it once" },
	{ "backend cloud\n", 1, "backend is \"cloud\": expected device, shm, local or null" },
	{ "backend a-very-long-back-end\n", 1, "backend has 20 bytes: expected at most 15" },
	{ "trace 1\nbackend shm\n", 2, "backend shm without shm_file: expected both" },
	{ "trace yes\n", 1, "trace is \"yes\": expected 0 or 1" },
	{ "trace 2\n", 1, "trace is \"2\": expected 0 or 1" },
	{ "trace 01\n", 1, "trace is \"01\": expected 0 or 1" },
	{ "shm_file x\nshm_trunc -1\n", 2, "shm_trunc is \"-1\": expected 0 or 1" },
	{ "shm_file x\nshm_ivshmem on\n", 2, "shm_ivshmem is \"on\": expected 0 or 1" },
	{ "log_buffer_size 0\n", 1, "log_buffer_size is \"0\": expected a number of bytes, 1 to" },
	{ "log_buffer_size 64k\n", 1, "log_buffer_size is \"64k\": expected a number of bytes" },
	{ "log_buffer_size 0x100\n", 1, "is \"0x100\": expected a number of bytes" },
	{ "log_buffer_size -5\n", 1, "is \"-5\": expected a number of bytes" },
	{ "log_buffer_size +5\n", 1, "is \"+5\": expected a number of bytes" },
	{ "log_buffer_size 1 2\n", 1, "is \"1 2\": expected a number of bytes" },
	{ "log_buffer_size many\n", 1, "is \"many\": expected a number of bytes" },
	{ "log_buffer_size 18446744073709551616\n", 1,
	  "is \"18446744073709551616\": expected a number of bytes, 1 to 18446744073709551615" },
	{ "shm_file x\nshm_size 0\n", 2, "shm_size is \"0\": expected a number of bytes, 1 to" },
	{ "shm_file x\nshm_off no\n", 2, "shm_off is \"no\": expected a number of bytes, 0 to" },
	{ "trace 1\nshm_size 4096\n", 2, "shm_size without shm_file: expected both" },
	{ "shm_file server:/x\nshm_off 65536\n", 2,
	  "shm_off with shm_file server:/x: write it into the name, ?off=" },
	{ "shm_file shm:x\nshm_size 65536\n", 2,
	  "shm_size with shm_file shm:x: write it into the name, ?size=" },
	{ "shm_trunc 1\nshm_file shm:x\n", 1,
	  "shm_trunc with shm_file shm:x: write it into the name, ?trunc=" },
	{ "shm_off 4096\n", 1, "shm_off without shm_file: expected both" },
	{ "shm_trunc 1\n", 1, "shm_trunc without shm_file: expected both" },
	{ "shm_ivshmem 1\n", 1, "shm_ivshmem without shm_file: expected both" },
};

static void errors(void)
{
	char where[100];
	size_t i;

	fresh();
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(where, sizeof(where), "%s:%u: ", file, bad[i].line);
		if (!EXPECT(read_config(bad[i].text) == -1) ||
		    !EXPECT(!strncmp(error, where, strlen(where))) ||
		    !EXPECT(strstr(error, bad[i].says)))
			printf("# %s# -> %s\n", bad[i].text, error);
	}
}

static void too_long(void)
{
	char text[sizeof("profile ") + sizeof(config.profile) + 1] = "profile ";

	fresh();
	memset(text + strlen(text), 'x', sizeof(config.profile));
	CHECK(read_config(text) == -1);
	CHECK(strstr(error, ":1: the value of profile has 4096 bytes: expected at most 4095"));
}

static void zero_byte(void)
{
	fresh();
	write_config(file, "trace 1\nback\0end null\n", 22);
	CHECK(talk_config_read(&config, error, sizeof(error)) == -1);
	CHECK(strstr(error, ":2: a zero byte: expected text"));
}

static void too_big(void)
{
	size_t size = 65537;
	char *text = malloc(size);

	fresh();
	memset(text, '\n', size);
	write_config(file, text, size - 1);
	EXPECT(!talk_config_read(&config, error, sizeof(error)));
	write_config(file, text, size);
	EXPECT(talk_config_read(&config, error, sizeof(error)) == -1);
	EXPECT(strstr(error, file) == error);
	EXPECT(strstr(error, ": File too large: expected a configuration of at most 65536 bytes"));
	free(text);
}

/* A message that does not fit is cut. */
static void little_room(void)
{
	char small[20];
	size_t room;

	fresh();
	for (room = 1; room <= sizeof(small); room++) {
		memset(small, 1, sizeof(small));
		EXPECT(read_config("colour blue\n") == -1);
		EXPECT(talk_config_read(&config, small, room) == -1);
		EXPECT(strnlen(small, room) == room - 1);
		EXPECT(!strncmp(small, file, room - 1));
	}
}

/* ---- which file ---- */

static void named_must_be_there(void)
{
	fresh();
	setenv("VINE_CONFIG", "/tmp/vine no such file", 1);
	CHECK(talk_config_read(&config, error, sizeof(error)) == -1);
	CHECK(!strcmp(error, "/tmp/vine no such file: No such file or directory: "
			     "expected a configuration"));
	setenv("VINE_CONFIG", folder, 1);
	CHECK(talk_config_read(&config, error, sizeof(error)) == -1);
	CHECK(strstr(error, "Is a directory"));
}

static pthread_t reader;
static int pipe_end;

static void nothing(int sig)
{
	(void)sig;
}

/* A signal while the reader waits, then a configuration in two pieces. */
static void *interrupt(void *arg)
{
	(void)arg;
	subject_sleeps(getpid());
	pthread_kill(reader, SIGUSR1);
	subject_sleeps(getpid());
	if (write(pipe_end, "backend nu", 10) != 10)
		abort();
	subject_sleeps(getpid());
	if (write(pipe_end, "ll\n", 3) != 3)
		abort();
	close(pipe_end);
	return NULL;
}

static void from_a_pipe(void)
{
	struct sigaction action = { .sa_handler = nothing };
	pthread_t thread;
	char path[40];
	int fds[2];

	fresh();
	if (pipe(fds))
		abort();
	pipe_end = fds[1];
	reader = pthread_self();
	sigaction(SIGUSR1, &action, NULL);
	snprintf(path, sizeof(path), "/dev/fd/%d", fds[0]);
	setenv("VINE_CONFIG", path, 1);
	pthread_create(&thread, NULL, interrupt, NULL);
	EXPECT(!talk_config_read(&config, error, sizeof(error)));
	EXPECT(!strcmp(config.backend, "null"));
	pthread_join(thread, NULL);
	close(fds[0]);
}

static void home(void)
{
	char path[100];

	fresh();
	unsetenv("VINE_CONFIG");
	setenv("HOME", folder, 1);
	CHECK(!talk_config_read(&config, error, sizeof(error)));
	CHECK(!*config.file && !*config.backend);

	snprintf(path, sizeof(path), "%s/.vinetalk", folder);
	write_config(path, "backend null\n", 13);
	EXPECT(!talk_config_read(&config, error, sizeof(error)));
	EXPECT(!strcmp(config.file, path));
	EXPECT(!strcmp(config.backend, "null"));

	/* empty counts as not set */
	setenv("VINE_CONFIG", "", 1);
	EXPECT(!talk_config_read(&config, error, sizeof(error)));
	EXPECT(!strcmp(config.backend, "null"));
	unlink(path);
}

static void unreadable_home(void)
{
	char path[100];

	fresh();
	unsetenv("VINE_CONFIG");
	setenv("HOME", folder, 1);
	snprintf(path, sizeof(path), "%s/.vinetalk", folder);
	if (symlink(path, path))
		abort();
	EXPECT(talk_config_read(&config, error, sizeof(error)) == -1);
	EXPECT(strstr(error, "/.vinetalk: Too many levels of symbolic links: expected a config"));
	unlink(path);
}

static void no_home(void)
{
	fresh();
	unsetenv("VINE_CONFIG");
	unsetenv("HOME");
	CHECK(!talk_config_read(&config, error, sizeof(error)));
	setenv("HOME", "", 1);
	CHECK(!talk_config_read(&config, error, sizeof(error)));
	setenv("HOME", "/dev/null", 1);
	CHECK(!talk_config_read(&config, error, sizeof(error)));
	CHECK(!*config.file);
}

/* ---- the environment ---- */

static void trace_from_environment(void)
{
	static const struct {
		const char *value, *text;
		bool trace;
		const char *folder;
	} rows[] = {
		{ "1", "", true, "" },
		{ "0", "trace 1\n", false, "" },
		{ "", "trace 1\n", false, "" },
		{ "/tmp/a", "", true, "/tmp/a" },
		{ "/tmp/a", "trace 1\ntrace_dir /tmp/b\n", true, "/tmp/a" },
		{ "1", "trace_dir /tmp/b\n", true, "/tmp/b" },
	};
	size_t i;

	fresh();
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		setenv("VINE_TRACE", rows[i].value, 1);
		EXPECT(!read_config(rows[i].text));
		EXPECT(config.trace == rows[i].trace);
		if (config.trace)
			EXPECT(!strcmp(config.trace_dir, rows[i].folder));
	}
}

static void trace_without_a_file(void)
{
	fresh();
	unsetenv("VINE_CONFIG");
	setenv("VINE_TRACE", "1", 1);
	CHECK(!talk_config_read(&config, error, sizeof(error)));
	CHECK(config.trace);
}

/* ---- which back end ---- */

/* @device: $VINE_DEVICE. NULL @says: it is an error, that ends with @backend. */
static const struct choice {
	const char *text, *device;
	const char *backend;
	const char *error;
} choices[] = {
	{ "backend null\n", "/dev/null", "null", NULL },
	{ "backend local\nshm_file /tmp\n", "/dev/null", "local", NULL },
	{ "backend device\n", "/nowhere", "device", NULL },
	{ "", "/dev/null", "device", NULL },
	{ "", "/nowhere", "device", NULL },
	{ "trace 0\nshm_file /dev/null\n", "/nowhere", "device", NULL },
	{ "shm_ivshmem 1\nshm_file /dev/null\n", "/nowhere", "device", NULL },
	{ "shm_ivshmem 1\nshm_file /tmp\n", "/dev/null", NULL,
	  ":2: shm_file is /tmp, which is no device: expected one, such as /dev/vine0" },
	{ "shm_file /nowhere\nbackend device\n", "/dev/null", NULL,
	  ":1: shm_file is /nowhere, which is no device: expected one, such as /dev/vine0" },
	{ "shm_size 4096\nshm_file /tmp/shm\n", "/dev/null", "shm", NULL },
	{ "backend shm\nshm_file vine\n", "/dev/null", "shm", NULL },
	{ "shm_file shm:vine\n", "/dev/null", "device", NULL },
	{ "", "server:/run/vine.sock", "device", NULL },
};

static void choice(void)
{
	const char *got, *usual = access("/dev/vine0", F_OK) ? "local" : "device";
	size_t i;

	fresh();
	for (i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
		const struct choice *c = &choices[i];

		setenv("VINE_DEVICE", c->device, 1);
		EXPECT(!read_config(c->text));
		got = talk_config_backend(&config, error, sizeof(error));
		if (c->backend)
			EXPECT(got && !strcmp(got, c->backend));
		else if (!EXPECT(!got) || !EXPECT(!strncmp(error, file, strlen(file))) ||
			 !EXPECT(!strcmp(error + strlen(file), c->error)))
			printf("# %s\n", error);
	}
	EXPECT(!read_config(""));
	setenv("VINE_DEVICE", "", 1);
	EXPECT(!strcmp(talk_config_backend(&config, error, sizeof(error)), usual));
	unsetenv("VINE_DEVICE");
	EXPECT(!strcmp(talk_config_backend(&config, error, sizeof(error)), usual));
}

static const struct tap_test tests[] = {
	{ "every key is read", all_keys },
	{ "comments, empty lines, white space; a value runs to the end of its line", lines },
	{ "an empty file says nothing", empty },
	{ "the longest value fits", longest },
	{ "each error names the file, the line, and what was expected", errors },
	{ "a value that is too long", too_long },
	{ "a zero byte", zero_byte },
	{ "a file that is too big", too_big },
	{ "a message is cut to the room for it", little_room },
	{ "the file that $VINE_CONFIG names must be one", named_must_be_there },
	{ "it may be a pipe, and reading it be interrupted", from_a_pipe },
	{ "~/.vinetalk", home },
	{ "~/.vinetalk that cannot be read", unreadable_home },
	{ "no home, no configuration", no_home },
	{ "$VINE_TRACE has the last word", trace_from_environment },
	{ "$VINE_TRACE alone", trace_without_a_file },
	{ "which back end it means", choice },
};

int main(void)
{
	int ret;

	if (!mkdtemp(folder))
		return 2;
	snprintf(file, sizeof(file), "%s/config", folder);
	ret = tap_main(tests, sizeof(tests) / sizeof(tests[0]));
	unlink(file);
	rmdir(folder);
	return ret;
}
