// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * options.c - reads the command line of vine-server and refuses what cannot work.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vine_wire.h>

#include "server.h"

#define MIN_SIZE VINE_MIN_SEGMENT
#define DEFAULT_SIZE (4ULL << 30)
#define MAX_PATH (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

static const char help[] =
	"Usage: vine-server [OPTION]...\n"
	"Gives up to 64 virtual machines, and processes of the host that open server:PATH\n"
	"(libvine(7)), one shared memory and doorbells (QEMU's ivshmem).\n"
	"\n"
	"  --socket PATH     listen here (default: /run/vine.sock for root, otherwise\n"
	"                    $XDG_RUNTIME_DIR/vine.sock); only the user who runs the server\n"
	"                    may connect (mode 0600), so run it as the user of the VMs\n"
	"  --size SIZE       size of the memory, a power of two from 8M up; K, M, G, T are\n"
	"                    understood (default: 4G; a page costs memory only once it is\n"
	"                    used. Firmware may put a small memory where VMs cannot cache\n"
	"                    it: 4G and more is safe from that)\n"
	"  --vectors N       doorbells of each peer, 1 to 64 (default: 1, as QEMU's); QEMU's\n"
	"                    vectors=N must be the same\n"
	"  --file PATH       keep the memory in this file instead of anonymous memory; an\n"
	"                    existing file of the right size is used as it is\n"
	"  --hugepages       take anonymous memory from the huge page pool, all at once\n"
	"  --pidfile PATH    write the process ID here\n"
	"  --ready-fd N      write a newline to descriptor N when listening, and close it\n"
	"  --foreground      accepted; there is no other mode\n"
	"  -q, --quiet       say only what went wrong\n"
	"  -v, --verbose     say more\n"
	"  -h, --help        this text\n"
	"  -V, --version     the version\n"
	"\n"
	"In QEMU: -chardev socket,path=PATH,id=vine\n"
	"         -device ivshmem-doorbell,chardev=vine,vectors=N\n"
	"Each QEMU opens VMs * N files and crashes when it may not: raise its limit, too.\n"
	"SIGINT, SIGTERM or SIGHUP stops the server. VMs cannot rejoin a new server: restart\n"
	"them with it. Exit status: 0 stopped, 1 it failed, 2 the command line was wrong.\n";

static _Noreturn void __attribute__((format(printf, 1, 2))) refuse(const char *fmt, ...)
{
	char line[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	error("%s (see vine-server --help)", line);
	exit(EXIT_USAGE);
}

static unsigned long long number(const char *s, char **end)
{
	errno = 0;
	if (!isdigit((unsigned char)*s)) {	/* strtoull would take a sign or a blank */
		*end = (char *)s;
		errno = EINVAL;
		return 0;
	}
	return strtoull(s, end, 10);
}

static uint64_t parse_size(const char *s)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	unsigned int shift = 0;
	unsigned long long n;
	char *end;

	n = number(s, &end);
	suffix = *end ? strchr(suffixes, toupper((unsigned char)*end)) : NULL;
	if (suffix) {
		shift = 10 * (suffix - suffixes + 1);
		end++;
	}
	/* A size is an off_t to the kernel, hence the sign bit that must stay free. */
	if (errno || *end || n > (uint64_t)INT64_MAX >> shift)
		refuse("--size %.40s: not a size; write for instance 64M or 4G", s);
	n <<= shift;
	if (n < MIN_SIZE || n & (n - 1))
		refuse("--size %.40s: QEMU makes a PCI BAR of it, so it must be a power of two and at least 8M",
		       s);
	return n;
}

static unsigned int parse_number(const char *option, const char *s, unsigned int min,
				 unsigned int max)
{
	char *end;
	unsigned long long n = number(s, &end);

	if (errno || *end || n < min || n > max)
		refuse("--%s %.40s: give a number from %u to %u", option, s, min, max);
	return n;
}

static const char *default_socket(void)
{
	static char path[PATH_MAX];
	const char *dir = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0)
		return "/run/vine.sock";
	if (!dir || !*dir)
		refuse("XDG_RUNTIME_DIR is not set: say with --socket PATH where to listen");
	snprintf(path, sizeof(path), "%s/vine.sock", dir);
	return path;
}

void options_parse(struct options *o, int argc, char **argv)
{
	enum { SOCKET = 256, SIZE, VECTORS, FILE_, HUGEPAGES, PIDFILE, FOREGROUND, READY_FD };
	static const struct option options[] = {
		{ "socket", required_argument, NULL, SOCKET },
		{ "size", required_argument, NULL, SIZE },
		{ "vectors", required_argument, NULL, VECTORS },
		{ "file", required_argument, NULL, FILE_ },
		{ "hugepages", no_argument, NULL, HUGEPAGES },
		{ "pidfile", required_argument, NULL, PIDFILE },
		{ "foreground", no_argument, NULL, FOREGROUND },
		{ "ready-fd", required_argument, NULL, READY_FD },
		{ "quiet", no_argument, NULL, 'q' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ }
	};
	int c, index;

	*o = (struct options){ .size = DEFAULT_SIZE, .vectors = 1, .ready_fd = -1 };

	while (index = -1, (c = getopt_long(argc, argv, "qvhV", options, &index)) != -1) {
		if (optarg && !*optarg)
			refuse("--%s: its value is empty", options[index].name);
		switch (c) {
		case SOCKET:
			o->socket = optarg;
			break;
		case SIZE:
			o->size = parse_size(optarg);
			break;
		case VECTORS:
			o->vectors = parse_number("vectors", optarg, 1, MAX_VECTORS);
			break;
		case FILE_:
			o->file = optarg;
			break;
		case HUGEPAGES:
			o->hugepages = true;
			break;
		case PIDFILE:
			o->pidfile = optarg;
			break;
		case FOREGROUND:
			break;
		case READY_FD:
			o->ready_fd = parse_number("ready-fd", optarg, 0, INT_MAX);
			if (fcntl(o->ready_fd, F_GETFD) < 0)
				refuse("--ready-fd %s: no such descriptor is open", optarg);
			break;
		case 'q':
			log_level = LOG_ERROR;
			break;
		case 'v':
			log_level = LOG_DETAIL;
			break;
		case 'h':
			fputs(help, stdout);
			exit(EXIT_CLEAN);
		case 'V':
			puts("vine-server " VINE_VERSION);
			exit(EXIT_CLEAN);
		default:	/* getopt has named the option */
			exit(EXIT_USAGE);
		}
	}
	if (optind < argc)
		refuse("%s: not an option", argv[optind]);
	if (o->file && o->hugepages)
		refuse("--hugepages is for anonymous memory: without --file, or with a --file on a hugetlbfs mount and no --hugepages");
	if (!o->socket)
		o->socket = default_socket();
	if (strlen(o->socket) > MAX_PATH)
		refuse("--socket %.40s...: %zu bytes are too long for a socket's path, %zu are the most; give a shorter or a relative one",
		       o->socket, strlen(o->socket), MAX_PATH);
}
