// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * vine-appliance.c - offers accelerators to VineTalk's clients: the command line of what
 *                    lib/serve does
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vine_serve.h>

#define EXIT_USAGE	2
#define WORKERS_MAX	64	/* of one accelerator; vine_serve.h */

static const char help[] =
	"Usage: vine-appliance [OPTION]...\n"
	"Offers accelerators to VineTalk's clients (vine_talk.h).\n"
	"\n"
	"  --device PATH, --endpoint NAME\n"
	"                    one option of two names: a device, or shm:NAME, shm:/path or\n"
	"                    server:/socket: a process on the host, see libvine(7); default:\n"
	"                    $VINE_DEVICE, or /dev/vine0\n"
	"  --name NAME       of the service, 1 to 31 bytes; default: vinetalk\n"
	"  --accelerator NAME:TYPE[:WORKERS[:PCI]]\n"
	"                    offers one; may be given several times. TYPE: GPU, GPU_SOFT, CPU\n"
	"                    or FPGA; WORKERS: tasks it runs at a time, 1 to 64, default 1;\n"
	"                    PCI: its address, 0000:01:00.0, for people. Without: cpu0, a CPU\n"
	"                    with a worker per processor\n"
	"  --plugins FOLDER  the handlers of all *.so there; default: $VINE_PLUGINS, or the\n"
	"                    folder that libvine was installed with, unless --plugin is given\n"
	"  --plugin FILE     the handlers of one; may be given several times\n"
	"  --time-limit MS   for a task, after which it has failed; default: none\n"
	"  --allow-code      clients may upload code. Each task of it runs in a process of its own,\n"
	"                    with few system calls, as --code-user when root starts the appliance\n"
	"  --allow-source    clients may register source, where a plugin has a compiler for it\n"
	"                    (opencl). It runs in processes of its own as well, with more rights\n"
	"                    than code: see vine-appliance(8)\n"
	"  --code-user USER  of code and source; default: nobody. Only when root starts the\n"
	"                    appliance\n"
	"  --once            end when there were clients and the last one has gone\n"
	"  --list            print the procedures that would be offered, and exit\n"
	"  -h, --help        this text\n"
	"  -V, --version     the version\n"
	"\n"
	"When it serves, a line on standard error says so. SIGINT or SIGTERM ends it; tasks\n"
	"that run are lost. Exit status: 0 as asked, 1 it failed, 2 the command line was wrong.\n";

static const char *const types[] = { "ANY", "GPU", "GPU_SOFT", "CPU", "FPGA" };

/* What the command line says; the lists are of pointers into it. */
struct settings {
	struct vine_serve_options serve;
	const char **accelerators, **plugins;
	int accelerator_count, plugin_count;
	const char *folder;
	bool list;
};

static struct vine_serve *served;

static void say(const char *line)
{
	fprintf(stderr, "vine-appliance: %s\n", line);
}

static _Noreturn void __attribute__((format(printf, 2, 3))) end(int status, const char *format,
								...)
{
	char line[VINE_SERVE_ERROR + 128];	/* an error, and what it is about */
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	say(line);
	exit(status);
}

#define refuse(format, ...)	end(EXIT_USAGE, format " (see vine-appliance --help)", ##__VA_ARGS__)

static unsigned int parse_number(const char *what, const char *s, unsigned int min,
				 unsigned int max)
{
	unsigned long n;
	char *rest;

	errno = 0;
	n = strtoul(s, &rest, 10);
	if (!isdigit((unsigned char)*s) || *rest || errno || n < min || n > max)
		refuse("%s %.40s: give a number from %u to %u", what, s, min, max);
	return n;
}

/* ---- accelerators ---- */

static vine_accel_type_e parse_type(const char *all, const char *s)
{
	int type;

	for (type = ANY + 1; type < VINE_ACCEL_TYPES; type++)
		if (!strcasecmp(s, types[type]))
			return type;
	refuse("--accelerator %.80s: %.20s is none of GPU, GPU_SOFT, CPU, FPGA", all, s);
}

/* NAME:TYPE[:WORKERS[:PCI]]; the address has colons of its own. */
static void add_accelerator(const char *all)
{
	char *copy = strdup(all), *rest = copy, *name, *type, *workers, error[VINE_SERVE_ERROR];
	unsigned int n = 1;

	if (!copy)
		end(EXIT_FAILURE, "no memory");
	name = strsep(&rest, ":");
	type = strsep(&rest, ":");
	workers = strsep(&rest, ":");
	if (!type)
		refuse("--accelerator %.80s: expected NAME:TYPE[:WORKERS[:PCI]]", all);
	if (workers)
		n = parse_number("--accelerator: WORKERS", workers, 1, WORKERS_MAX);
	if (vine_serve_accelerator(served, name, parse_type(all, type), n, rest, error))
		refuse("--accelerator %.80s: %s", all, error);
	free(copy);
}

static void add_accelerators(const struct settings *set)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	char error[VINE_SERVE_ERROR];
	int i;

	for (i = 0; i < set->accelerator_count; i++)
		add_accelerator(set->accelerators[i]);
	if (i)
		return;
	n = n < 1 ? 1 : n > WORKERS_MAX ? WORKERS_MAX : n;
	if (vine_serve_accelerator(served, "cpu0", CPU, n, NULL, error))
		end(EXIT_FAILURE, "%s", error);
}

/* ---- procedures ---- */

static void add_plugins(const struct settings *set)
{
	char error[VINE_SERVE_ERROR];
	int i;

	for (i = 0; i < set->plugin_count; i++)
		if (vine_serve_plugin(served, set->plugins[i], error))
			end(EXIT_FAILURE, "%s", error);
	if ((set->folder || !i) && vine_serve_plugins(served, set->folder, error) < 0)
		end(EXIT_FAILURE, "%s", error);
	if (!vine_serve_procedures(served, NULL, 0) && !set->serve.allow_code &&
	    !set->serve.allow_source)
		end(EXIT_FAILURE, "there is no procedure to offer: give --plugins or --plugin");
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct vine_procedure *const *)a)->name,
		      (*(const struct vine_procedure *const *)b)->name);
}

static void print_types(unsigned int mask)
{
	char line[40] = "";
	int type;

	if (mask == VINE_TYPES_ALL)
		strcpy(line, "any");
	for (type = ANY + 1; mask != VINE_TYPES_ALL && type < VINE_ACCEL_TYPES; type++)
		if (mask & VINE_TYPE(type))
			sprintf(line + strlen(line), "%s%s", *line ? "," : "", types[type]);
	printf("  %-8s", line);
}

/* Each once: a compiler may be that of several types. */
static void print_compilers(void)
{
	const struct vine_compiler *c;
	unsigned int done = 0;
	int type;

	for (type = ANY + 1; type < VINE_ACCEL_TYPES; type++) {
		c = vine_serve_compiler(served, type);
		if (!c || (done & VINE_TYPE(type)))
			continue;
		done |= c->types;
		printf("(%s)%*s", c->name, 14 - (int)strlen(c->name), "");
		print_types(c->types);
		printf("  %s\n", c->about ? c->about : "");
	}
}

static void print_procedures(void)
{
	unsigned int n = vine_serve_procedures(served, NULL, 0), i;
	const struct vine_procedure **p = calloc(n + 1, sizeof(*p));

	if (!p)
		end(EXIT_FAILURE, "no memory");
	vine_serve_procedures(served, p, n);
	qsort(p, n, sizeof(*p), by_name);
	for (i = 0; i < n; i++) {
		printf("%-16s", p[i]->name);
		print_types(p[i]->types);
		printf("  %s\n", p[i]->about ? p[i]->about : "");
	}
	free(p);
	print_compilers();
	if (fflush(stdout))
		end(EXIT_FAILURE, "cannot print: %m");
}

/* ---- the program ---- */

static void read_options(struct settings *set, int argc, char **argv)
{
	enum { DEVICE = 256, NAME, ACCELERATOR, PLUGIN, PLUGINS, TIME_LIMIT, ALLOW_CODE,
	       ALLOW_SOURCE, CODE_USER, ONCE, LIST };
	static const struct option options[] = {
		{ "device", required_argument, NULL, DEVICE },
		{ "endpoint", required_argument, NULL, DEVICE },
		{ "name", required_argument, NULL, NAME },
		{ "accelerator", required_argument, NULL, ACCELERATOR },
		{ "plugin", required_argument, NULL, PLUGIN },
		{ "plugins", required_argument, NULL, PLUGINS },
		{ "time-limit", required_argument, NULL, TIME_LIMIT },
		{ "allow-code", no_argument, NULL, ALLOW_CODE },
		{ "allow-source", no_argument, NULL, ALLOW_SOURCE },
		{ "code-user", required_argument, NULL, CODE_USER },
		{ "once", no_argument, NULL, ONCE },
		{ "list", no_argument, NULL, LIST },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ }
	};
	int c;

	/* at most one for each argument */
	set->accelerators = calloc(argc, sizeof(*set->accelerators));
	set->plugins = calloc(argc, sizeof(*set->plugins));
	if (!set->accelerators || !set->plugins)
		end(EXIT_FAILURE, "no memory");
	while ((c = getopt_long(argc, argv, "hV", options, NULL)) != -1) {
		switch (c) {
		case DEVICE:
			set->serve.device = optarg;
			break;
		case NAME:
			set->serve.name = optarg;
			break;
		case ACCELERATOR:
			set->accelerators[set->accelerator_count++] = optarg;
			break;
		case PLUGIN:
			set->plugins[set->plugin_count++] = optarg;
			break;
		case PLUGINS:
			set->folder = optarg;
			break;
		case TIME_LIMIT:
			set->serve.time_limit_ms = parse_number("--time-limit", optarg, 1, INT_MAX);
			break;
		case ALLOW_CODE:
			set->serve.allow_code = 1;
			break;
		case ALLOW_SOURCE:
			set->serve.allow_source = 1;
			break;
		case CODE_USER:
			set->serve.code_user = optarg;
			break;
		case ONCE:
			set->serve.once = 1;
			break;
		case LIST:
			set->list = true;
			break;
		case 'h':
			fputs(help, stdout);
			exit(0);
		case 'V':
			puts("vine-appliance " VINE_VERSION);
			exit(0);
		default:	/* getopt has said why */
			exit(EXIT_USAGE);
		}
	}
	if (optind < argc)
		refuse("%.80s: not understood", argv[optind]);
	if (set->serve.code_user && !set->serve.allow_code && !set->serve.allow_source)
		refuse("--code-user is of no use without --allow-code or --allow-source");
}

static void stop(int sig)
{
	(void)sig;
	vine_serve_stop(served);
}

int main(int argc, char **argv)
{
	struct settings set = { .serve = { .size = sizeof(set.serve), .log = say } };
	struct sigaction act = { .sa_handler = stop };
	char error[VINE_SERVE_ERROR];

	read_options(&set, argc, argv);
	served = vine_serve_new(&set.serve, error);
	if (!served)
		refuse("%s", error);
	add_accelerators(&set);
	add_plugins(&set);
	if (set.list) {
		print_procedures();
	} else {
		sigaction(SIGTERM, &act, NULL);
		sigaction(SIGINT, &act, NULL);
		if (vine_serve_run(served, error))
			end(EXIT_FAILURE, "%s", error);
		/* it ends already, and there is nothing to be stopped any more */
		signal(SIGTERM, SIG_IGN);
		signal(SIGINT, SIG_IGN);
	}
	vine_serve_free(served);
	free(set.accelerators);
	free(set.plugins);
	return 0;
}
