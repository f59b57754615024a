// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * vinectl.c - looks into a vine device, buries dead peers, wipes foreign segments: the
 * command line, and how it talks to people
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vinectl.h"

static const char help[] =
	"Usage: vinectl [--device PATH] COMMAND [OPTION]...\n"
	"Looks into a vine device: memory and queues shared by virtual machines.\n"
	"\n"
	"  info      what the device is, and how full its segment is\n"
	"  peers     the machines\n"
	"  services  what can be connected to\n"
	"  queues    the connections\n"
	"  regions   the shared memory in use\n"
	"  bury      declare a machine gone that is known to be dead\n"
	"  wipe      make a segment blank that vine refuses to use\n"
	"\n"
	"  --device PATH  the node (default: $VINE_DEVICE, or /dev/vine0)\n"
	"                 or an endpoint: shm:NAME, shm:/path, server:/socket (libvine(7))\n"
	"  --json         for programs: info, peers, services, queues, regions\n"
	"  -y, --yes      do not ask: bury, wipe\n"
	"  -h, --help     this text; 'vinectl COMMAND --help' says more of a command\n"
	"  -V, --version  the version\n"
	"\n"
	"Exit status: 0 done, 1 it failed or was not wanted, 2 the command line was wrong.\n";

static const char help_info[] =
	"Usage: vinectl info [--device PATH] [--json]\n"
	"Says who this machine is in the segment, and how full the segment is.\n";

static const char help_peers[] =
	"Usage: vinectl peers [--device PATH] [--json]\n"
	"Lists the machines that share the segment, as this one sees them. A peer is named\n"
	"SLOT.INCARNATION.\n"
	"\n"
	"  live       it beats\n"
	"  suspect    it has not for peer_timeout_ms: dead, or paused. Nothing of it is used\n"
	"             again until somebody knows: see 'vinectl bury --help'\n"
	"  gone       what it had is being handed back\n";

static const char help_services[] =
	"Usage: vinectl services [--device PATH] [--json]\n"
	"Lists the services on offer. WAITING: connections that are not accepted yet. PID: of\n"
	"the process that offers it, if that is on this machine; of other users' it is told\n"
	"to root only, and of an endpoint to nobody.\n";

static const char help_queues[] =
	"Usage: vinectl queues [--device PATH] [--json]\n"
	"Lists the connections: all of the segment for root, your own for others; of an\n"
	"endpoint, all. A client and a server are peers, with the process that has that side\n"
	"if it is on this machine. TO SERVER, TO CLIENT: messages that wait, if this machine\n"
	"has a side of the queue. REGIONS: how many are attached.\n";

static const char help_regions[] =
	"Usage: vinectl regions [--device PATH] [--json]\n"
	"Lists the memory in use: all of the segment for root, your own for others; of an\n"
	"endpoint, all. HELD BY: the slots of the peers that use it; a dying region comes back\n"
	"when there are none. USES: how often it is in use on this machine. Rings are memory of\n"
	"queues.\n";

static const char help_bury[] =
	"Usage: vinectl bury PEER[.INCARNATION] [--yes] [--device PATH]\n"
	"Declares a suspect peer gone, so that its memory can be used again. Do so only when\n"
	"you know that its machine is dead: one that is merely paused goes on writing when it\n"
	"wakes, into memory that is others' by then. Needs root; of an endpoint, the owner\n"
	"of its file may too.\n";

static const char help_wipe[] =
	"Usage: vinectl wipe PCI-ADDRESS | FILE | shm:NAME [--yes]\n"
	"       vinectl wipe '...?off=BYTES&size=BYTES' [--yes]\n"
	"Makes a segment blank that vine refuses because it holds somebody else's data, or that\n"
	"of a newer or damaged vine. PCI-ADDRESS is that of an ivshmem device without a driver\n"
	"in this machine (dmesg | grep vine names it); FILE is the file of the memory, on the\n"
	"host. A memory with several segments: off and size say which, as in the name of an\n"
	"endpoint (libvine(7)); without them it is the one at byte 0. The others are not touched.\n"
	"Zeroes what vine reads as tables (the first 4 MiB, and 8 bytes for each 64 KiB);\n"
	"memory behind them is zeroed when it is given out. Refuses while anybody beats or\n"
	"writes there. If vine is loaded, it is given the device afterwards. Needs root.\n";

static const struct command {
	const char *name;
	int (*run)(const struct options *o);
	const char *help;
	bool shows;		/* --json, no --yes, no argument */
	bool no_device;
} commands[] = {
	{ "info", show_info, help_info, .shows = true },
	{ "peers", show_peers, help_peers, .shows = true },
	{ "services", show_services, help_services, .shows = true },
	{ "queues", show_queues, help_queues, .shows = true },
	{ "regions", show_regions, help_regions, .shows = true },
	{ "bury", bury, help_bury, .shows = false },
	{ "wipe", wipe, help_wipe, .no_device = true },
};

int fail(const char *fmt, ...)
{
	va_list ap;

	fputs("vinectl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return FAILED;
}

int ask(const struct options *o, const char *fmt, ...)
{
	char answer[16] = "";
	va_list ap;

	if (o->yes)
		return DONE;
	if (!isatty(STDIN_FILENO)) {
		fail("there is nobody to ask: say --yes");
		return USAGE;
	}
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs(" [y/N] ", stderr);
	if (fgets(answer, sizeof(answer), stdin) &&
	    (!strcasecmp(answer, "y\n") || !strcasecmp(answer, "yes\n")))
		return DONE;
	return fail("nothing was done");
}

const char *bytes_text(uint64_t bytes, char text[32])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	unsigned int i = 0, shift = 0;

	while (i < 4 && bytes >> shift >= 1024) {
		i++;
		shift += 10;
	}
	if (bytes & ((1ULL << shift) - 1))
		snprintf(text, 32, "%.1f %s", (double)bytes / (1ULL << shift), units[i]);
	else
		snprintf(text, 32, "%llu %s", (unsigned long long)(bytes >> shift), units[i]);
	return text;
}

static _Noreturn void __attribute__((format(printf, 1, 2))) refuse(const char *fmt, ...)
{
	char line[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fail("%s (see vinectl --help)", line);
	exit(USAGE);
}

static const struct command *find_command(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	refuse("%s: no such command", name);
}

/* What the command does not know. */
static void check(const struct command *c, const struct options *o, bool device, int args)
{
	if (o->json && !c->shows)
		refuse("%s: knows no --json", c->name);
	if (o->yes && c->shows)
		refuse("%s: asks nothing, so there is no --yes", c->name);
	if (device && c->no_device)
		refuse("%s: knows no --device: such memory has no node", c->name);
	if (args > (c->shows ? 0 : 1))
		refuse("%s: too many arguments", c->name);
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "device", required_argument, NULL, 'd' },
		{ "json", no_argument, NULL, 'j' },
		{ "yes", no_argument, NULL, 'y' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ }
	};
	struct options o = { .device = secure_getenv("VINE_DEVICE") };
	const struct command *command;
	bool device = false, wants_help = false;
	int c, status;

	if (!o.device || !*o.device)
		o.device = "/dev/vine0";
	while ((c = getopt_long(argc, argv, "yhV", long_options, NULL)) != -1) {
		switch (c) {
		case 'd':
			o.device = optarg;
			device = true;
			break;
		case 'j':
			o.json = true;
			break;
		case 'y':
			o.yes = true;
			break;
		case 'h':
			wants_help = true;
			break;
		case 'V':
			puts("vinectl " VINE_VERSION);
			return DONE;
		default:	/* getopt has named the option */
			return USAGE;
		}
	}
	if (optind == argc && wants_help) {
		fputs(help, stdout);
		return DONE;
	}
	if (optind == argc)
		refuse("no command is given");
	command = find_command(argv[optind++]);
	if (wants_help) {
		fputs(command->help, stdout);
		return DONE;
	}
	check(command, &o, device, argc - optind);
	o.argument = argv[optind];
	status = command->run(&o);
	/* a full disk, a reader that left */
	if (fflush(stdout) || ferror(stdout))
		return fail("cannot write: %s", strerror(errno));
	return status;
}
