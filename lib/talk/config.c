// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * config.c - ~/.vinetalk
 *
 * A line is KEY VALUE. The key ends at white space, the value runs to the end of the line,
 * without the white space around it. Empty lines and those that begin with # say nothing.
 * The first thing that is wrong ends it: the file, the line, and what was expected.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/host.h"
#include "talk/talk.h"

#define KEY_LENGTH	32
#define FILE_SIZE	65536	/* a longer one is no configuration */
#define DEVICE		"/dev/vine0"

enum value_kind { TEXT, BYTES, OFFSET, SWITCH };

#define KEY(name, kind)	{ #name, kind, offsetof(struct talk_config, name),		\
			  sizeof(((struct talk_config *)0)->name) }
static const struct key {
	const char *name;
	enum value_kind kind;
	size_t offset, room;	/* in struct talk_config */
} keys[] = {
	KEY(backend, TEXT),
	KEY(shm_file, TEXT),
	KEY(shm_size, BYTES),
	KEY(shm_off, OFFSET),
	KEY(shm_trunc, SWITCH),
	KEY(shm_ivshmem, SWITCH),
	KEY(trace, SWITCH),
	KEY(trace_dir, TEXT),
	KEY(log_buffer_size, BYTES),
	KEY(plugins, TEXT),
	KEY(profile, TEXT),
};
#define KEYS		(sizeof(keys) / sizeof(keys[0]))
#define KEY_NAMES	"backend, shm_file, shm_size, shm_off, shm_trunc, shm_ivshmem, trace, " \
			"trace_dir, log_buffer_size, plugins or profile"

/* Where what is wrong is said. */
struct complaint {
	const char *file;
	char *text;
	size_t room;
};

struct parser {
	struct talk_config *config;
	struct complaint complaint;
	unsigned int line;
	unsigned int said[KEYS];	/* in which line; 0: nowhere */
};

static int complain(const struct complaint *c, unsigned int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Returns -1. @line: 0: it is about the file. */
static int complain(const struct complaint *c, unsigned int line, const char *format, ...)
{
	va_list args;
	size_t n;

	if (line)
		snprintf(c->text, c->room, "%s:%u: ", c->file, line);
	else
		snprintf(c->text, c->room, "%s: ", c->file);
	n = strlen(c->text);
	va_start(args, format);
	vsnprintf(c->text + n, c->room - n, format, args);
	va_end(args);
	return -1;
}

/* ---- values ---- */

static int set_number(struct parser *p, const struct key *key, const char *value)
{
	uint64_t *number = (uint64_t *)((char *)p->config + key->offset);
	uint64_t least = key->kind == BYTES;
	char *end;

	errno = 0;
	*number = strtoull(value, &end, 10);
	/* strtoull() would take a sign too */
	if (!isdigit((unsigned char)*value) || *end || errno || *number < least)
		return complain(&p->complaint, p->line,
				"%s is \"%.40s\": expected a number of bytes, %u to %llu",
				key->name, value, (unsigned int)least, (unsigned long long)UINT64_MAX);
	return 0;
}

static int set_switch(struct parser *p, const struct key *key, const char *value)
{
	bool *is_on = (bool *)((char *)p->config + key->offset);

	if (strcmp(value, "0") && strcmp(value, "1"))
		return complain(&p->complaint, p->line, "%s is \"%.40s\": expected 0 or 1",
				key->name, value);
	*is_on = *value == '1';
	return 0;
}

static int set_text(struct parser *p, const struct key *key, const char *value)
{
	size_t length = strlen(value);

	if (length >= key->room)
		return complain(&p->complaint, p->line,
				"the value of %s has %zu bytes: expected at most %zu", key->name,
				length, key->room - 1);
	memcpy((char *)p->config + key->offset, value, length + 1);
	return 0;
}

static int set(struct parser *p, const struct key *key, const char *value)
{
	if (key->kind == TEXT)
		return set_text(p, key, value);
	if (key->kind == SWITCH)
		return set_switch(p, key, value);
	return set_number(p, key, value);
}

/* ---- lines ---- */

static size_t find_key(const char *name)
{
	size_t i;

	for (i = 0; i < KEYS && strcmp(keys[i].name, name); i++)
		;
	return i;
}

static int parse_line(struct parser *p, char *line)
{
	static const char white[] = " \t\r\v\f";
	char *key = line + strspn(line, white), *value;
	size_t length = strcspn(key, white), i;

	if (!length || *key == '#')
		return 0;
	if (length > KEY_LENGTH)
		return complain(&p->complaint, p->line,
				"the key %.*s... has %zu bytes: expected at most %d", KEY_LENGTH,
				key, length, KEY_LENGTH);
	value = key + length;
	if (*value)
		*value++ = '\0';
	value += strspn(value, white);
	for (length = strlen(value); length && strchr(white, value[length - 1]);)
		value[--length] = '\0';

	i = find_key(key);
	if (i == KEYS)
		return complain(&p->complaint, p->line,
				"unknown key \"%s\": expected " KEY_NAMES, key);
	if (p->said[i])
		return complain(&p->complaint, p->line,
				"%s again, after line %u: expected it once", key, p->said[i]);
	if (!length)
		return complain(&p->complaint, p->line, "%s alone: expected KEY VALUE", key);
	p->said[i] = p->line;
	return set(p, &keys[i], value);
}

static int parse(struct parser *p, char *text, size_t size)
{
	char *line, *end;

	for (line = text; line < text + size; line = end + 1) {
		p->line++;
		end = strchrnul(line, '\n');
		if (!*end && end != text + size)
			return complain(&p->complaint, p->line, "a zero byte: expected text");
		*end = '\0';
		if (parse_line(p, line))
			return -1;
	}
	return 0;
}

/* What goes together. */
static int check(struct parser *p)
{
	static const char *const parts[] = { "shm_size", "shm_off", "shm_trunc", "shm_ivshmem" };
	static const char *const options[] = { "size", "off", "trunc", NULL };
	const char *name = p->config->backend;
	unsigned int line;
	size_t i;

	line = p->said[find_key("backend")];
	if (line && strcmp(name, "device") && strcmp(name, "shm") && strcmp(name, "local") &&
	    strcmp(name, "null"))
		return complain(&p->complaint, line,
				"backend is \"%s\": expected device, shm, local or null", name);

	p->config->shm_file_line = p->said[find_key("shm_file")];
	if (line && !strcmp(name, "shm") && !p->config->shm_file_line)
		return complain(&p->complaint, line, "backend shm without shm_file: expected both");
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		line = p->said[find_key(parts[i])];
		if (line && !p->config->shm_file_line)
			return complain(&p->complaint, line,
					"%s without shm_file: expected both", parts[i]);
		if (line && options[i] && host_name(p->config->shm_file))
			return complain(&p->complaint, line,
					"%s with shm_file %.80s: write it into the name, ?%s=",
					parts[i], p->config->shm_file, options[i]);
	}
	return 0;
}

/* ---- the file ---- */

/* Returns its size, and a zero after it; -1 with errno, which is EFBIG if there is more. */
static ssize_t read_file(int fd, char *text, size_t room)
{
	size_t size = 0;
	ssize_t n;

	while (size < room) {
		n = read(fd, text + size, room - size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0) {
			text[size] = '\0';
			return size;
		}
		size += n;
	}
	errno = EFBIG;
	return -1;
}

/* The name of the file, empty if there is none; true: it must be there. */
static bool name_file(char *file, size_t room)
{
	const char *named = secure_getenv("VINE_CONFIG"), *home = secure_getenv("HOME");

	if (named && *named) {
		snprintf(file, room, "%s", named);
		return true;
	}
	if (home && *home)
		snprintf(file, room, "%s/.vinetalk", home);
	return false;
}

void talk_config_environment(struct talk_config *config)
{
	const char *trace = secure_getenv("VINE_TRACE");

	if (!trace)
		return;
	config->trace = *trace && strcmp(trace, "0");
	if (config->trace && strcmp(trace, "1"))
		snprintf(config->trace_dir, sizeof(config->trace_dir), "%s", trace);
}

int talk_config_read(struct talk_config *config, char *error, size_t room)
{
	struct parser p = { .config = config, .complaint = { config->file, error, room } };
	bool must_be;
	ssize_t size;
	char *text;
	int fd, ret;

	*config = (struct talk_config){ .file = "" };
	must_be = name_file(config->file, sizeof(config->file));
	fd = *config->file ? open(config->file, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0 && (must_be || (*config->file && errno != ENOENT && errno != ENOTDIR)))
		return complain(&p.complaint, 0, "%s: expected a configuration", strerror(errno));
	if (fd < 0) {
		*config->file = '\0';
		talk_config_environment(config);
		return 0;
	}

	text = malloc(FILE_SIZE + 1);
	size = text ? read_file(fd, text, FILE_SIZE + 1) : -1;
	if (size < 0)
		ret = complain(&p.complaint, 0, "%s: expected a configuration of at most %d bytes",
			       strerror(errno), FILE_SIZE);
	else
		ret = parse(&p, text, size);
	if (!ret)
		ret = check(&p);
	if (!ret)
		talk_config_environment(config);
	free(text);
	close(fd);
	return ret;
}

/* ---- which back end it means ---- */

/* A device, or the name of an endpoint: vine_open() takes either. */
static bool is_device(const char *path)
{
	struct stat s;

	if (host_name(path))
		return true;
	return !stat(path, &s) && S_ISCHR(s.st_mode);
}

const char *talk_config_backend(const struct talk_config *config, char *error, size_t room)
{
	const struct complaint c = { config->file, error, room };
	const char *device = secure_getenv("VINE_DEVICE");

	if (*config->backend && strcmp(config->backend, "device"))
		return config->backend;
	if (*config->shm_file && is_device(config->shm_file))
		return "device";
	if (*config->shm_file && (config->shm_ivshmem || *config->backend)) {
		complain(&c, config->shm_file_line,
			 "shm_file is %s, which is no device: expected one, such as " DEVICE,
			 config->shm_file);
		return NULL;
	}
	if (*config->shm_file)
		return "shm";
	if (*config->backend)
		return "device";
	if (*VINE_BACKEND)
		return VINE_BACKEND;
	/* who names one means it, and hears of what it is not */
	return (device && *device) || is_device(DEVICE) ? "device" : "local";
}
