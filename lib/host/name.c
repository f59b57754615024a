// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * name.c - names of endpoints: shm:NAME, shm:/path, server:/socket, and ?options
 */
#include "host/endpoint.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

static _Thread_local char why[512];

const char *host_why(void)
{
	return why;
}

int host_fail(int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	return err;
}

bool host_name(const char *name)
{
	return !strncmp(name, "shm:", 4) || !strncmp(name, "server:", 7);
}

/* Digits and perhaps a K, M or G. 0 or -EINVAL. */
static int parse_bytes(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMG";
	const char *unit;
	char *end;

	errno = 0;
	*bytes = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || errno)
		return -EINVAL;
	if (!*end)
		return 0;
	unit = strchr(units, toupper((unsigned char)*end));
	if (!unit || end[1] || *bytes >> (64 - 10 * (unit - units + 1)))
		return -EINVAL;
	*bytes <<= 10 * (unit - units + 1);
	return 0;
}

static int parse_option(char *option, struct host_name *name)
{
	char *value = strchr(option, '=');

	if (!value)
		return host_fail(-EINVAL, "the option \"%.40s\": expected KEY=VALUE", option);
	*value++ = '\0';
	if (!strcmp(option, "trunc")) {
		name->trunc = *value == '1';
		if (strcmp(value, "0") && strcmp(value, "1"))
			return host_fail(-EINVAL, "trunc is \"%.40s\": expected 0 or 1", value);
		return 0;
	}
	if (strcmp(option, "off") && strcmp(option, "size"))
		return host_fail(-EINVAL, "the option \"%.40s\" is unknown: expected off, size or trunc",
				 option);
	if (parse_bytes(value, *option == 'o' ? &name->off : &name->size))
		return host_fail(-EINVAL, "%s is \"%.40s\": expected bytes, as 1048576 or 1M", option,
				 value);
	return 0;
}

int host_name_parse(const char *text, struct host_name *name)
{
	char *options, *option, *save;
	int err;

	*name = (struct host_name){ .kind = HOST_SERVER };
	if (!strncmp(text, "shm:", 4))
		name->kind = text[4] == '/' ? HOST_FILE : HOST_SHM;
	text = strchr(text, ':') + 1;
	if (strlen(text) >= sizeof(name->path))
		return host_fail(-EINVAL, "the name of the endpoint is too long");
	strcpy(name->path, text);
	options = strchr(name->path, '?');
	if (options)
		*options++ = '\0';
	for (option = options ? strtok_r(options, "&", &save) : NULL; option;
	     option = strtok_r(NULL, "&", &save)) {
		err = parse_option(option, name);
		if (err)
			return err;
	}
	if (!*name->path || (name->kind == HOST_SHM && strchr(name->path, '/')))
		return host_fail(-EINVAL, "expected shm:NAME, shm:/path or server:/socket");
	if (name->kind == HOST_SERVER && (name->size || name->trunc))
		return host_fail(-EINVAL, "leave out size= and trunc=: the server's memory is as large as the server made it, and is not begun anew by one of its users");
	if (name->off % (1U << VINE_MIN_CHUNK_SHIFT) || name->size % 4096 ||
	    name->off + name->size < name->off || (int64_t)(name->off + name->size) < 0)
		return host_fail(-EINVAL, "off must be a multiple of 64K, and size one of 4K");
	return 0;
}
