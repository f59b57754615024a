// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * wipe.c - makes a segment blank that vine refuses
 *
 * Such a device has no /dev/vineN: its memory is reached through sysfs (BAR 2 of the PCI
 * function), or on the host as the file that it is. What vine reads as tables is zeroed;
 * chunks behind them may keep what they hold, for vine zeroes memory that it gives out.
 *
 * A memory may have several segments. Which one is meant is said as in the name of an endpoint.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <host/endpoint.h>

#include "vinectl.h"

#define DEVICES		"/sys/bus/pci/devices"
#define DRIVER		"/sys/bus/pci/drivers/vine"
#define IVSHMEM		"0x1af4 0x1110"
#define MEMORY		"resource2"

/* Living peers beat four times a second; a machine may be too busy to, for a while. */
#define WATCH_MS	1500
#define WATCH_PEERS_MS	5000	/* some say that they live */
#define WATCH_STEP_MS	100

/* What is wiped. */
struct target {
	const char *name;	/* as the user gave it */
	char address[16];	/* of the PCI function; "": a file */
	int fd;			/* of the memory, with our locks; -1: none */
	uint64_t off, size;	/* of the segment in the memory */
	bool endpoint;		/* named as one */
	uint8_t *memory;	/* mapped, up to the end of the tables */
	uint8_t *base;		/* the segment */
	uint64_t tables;	/* bytes */
	bool enabled;		/* the PCI function, by us: give it back */
};

/* ---- sysfs ---- */

/* The first line of a file of the PCI function, or "". */
static const char *read_attribute(const char *address, const char *name, char line[64])
{
	char path[PATH_MAX];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), DEVICES "/%s/%s", address, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, line, 63);
	if (fd >= 0)
		close(fd);
	line[n < 0 ? 0 : n] = 0;
	line[strcspn(line, "\n")] = 0;
	return line;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

static int enable(const char *address, const char *value)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), DEVICES "/%s/enable", address);
	return write_file(path, value);
}

static bool is_ivshmem(const char *address)
{
	char vendor[64], device[64], both[130];

	snprintf(both, sizeof(both), "%s %s", read_attribute(address, "vendor", vendor),
		 read_attribute(address, "device", device));
	return !strcmp(both, IVSHMEM);
}

/* The driver that is bound to it, or "". */
static const char *driver_of(const char *address, char target[PATH_MAX])
{
	char path[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), DEVICES "/%s/driver", address);
	n = readlink(path, target, PATH_MAX - 1);
	target[n < 0 ? 0 : n] = 0;
	return n < 0 ? target : strrchr(target, '/') + 1;
}

/* Names the devices that could be meant. */
static void list_devices(void)
{
	char driver[PATH_MAX];
	glob_t g;
	size_t i;
	char *a;

	if (glob(DEVICES "/*", 0, NULL, &g))
		return;
	for (i = 0; i < g.gl_pathc; i++) {
		a = strrchr(g.gl_pathv[i], '/') + 1;
		if (is_ivshmem(a) && !*driver_of(a, driver))
			fprintf(stderr, "vinectl: an ivshmem device without a driver: %s\n", a);
	}
	globfree(&g);
}

/* ---- opening ---- */

/* "00:04.0" or "0000:00:04.0": the address as sysfs has it. False when it is none. */
static bool parse_address(const char *text, char address[16])
{
	unsigned int domain = 0, bus, slot, function;
	int end = 0;

	if (sscanf(text, "%4x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &end) != 4 ||
	    text[end]) {
		domain = 0;
		if (sscanf(text, "%2x:%2x.%1x%n", &bus, &slot, &function, &end) != 3 || text[end])
			return false;
	}
	snprintf(address, 16, "%04x:%02x:%02x.%x", domain & 0xffff, bus & 0xff, slot & 0xff,
		 function & 0xf);
	return true;
}

static int open_function(struct target *t)
{
	char path[PATH_MAX], line[PATH_MAX];
	const char *driver;
	int fd;

	snprintf(path, sizeof(path), DEVICES "/%s", t->address);
	if (access(path, F_OK)) {
		fail("%s: there is no such PCI device", t->name);
		list_devices();
		return -1;
	}
	if (!is_ivshmem(t->address)) {
		fail("%s: is not an ivshmem device", t->name);
		list_devices();
		return -1;
	}
	driver = driver_of(t->address, line);
	if (!strcmp(driver, "vine")) {
		fail("%s: vine uses it: nothing needs to be wiped. To start anew all the same, stop vine in all machines and 'echo %s >" DRIVER "/unbind'",
		     t->name, t->address);
		return -1;
	}
	if (*driver) {
		fail("%s: the driver %s uses it. If it is to be vine's: echo %s >/sys/bus/pci/drivers/%s/unbind",
		     t->name, driver, t->address, driver);
		return -1;
	}
	if (!strcmp(read_attribute(t->address, "enable", line), "0"))
		t->enabled = !enable(t->address, "1");
	snprintf(path, sizeof(path), DEVICES "/%s/" MEMORY, t->address);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 && errno == EACCES)
		fail("%s: only root may: use sudo", t->name);
	else if (fd < 0)
		fail("%s: its memory cannot be opened: %s", t->name, strerror(errno));
	return fd;
}

/* The file is looked at once it is open: a name may lead elsewhere the next time. */
static int open_file(const char *path, bool shm)
{
	const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	int fd = shm ? shm_open(path, flags, 0) : open(path, flags);
	struct statfs fs;
	struct stat st;

	if (fd < 0) {
		fail("%s: %s", path, errno == ELOOP ? "a link: give the file itself" :
		     errno == EISDIR ? "is not a regular file" : strerror(errno));
		list_devices();
		return -1;
	}
	if (!fstatfs(fd, &fs) && fs.f_type == SYSFS_MAGIC)
		fail("%s: give the PCI address of the device instead", path);
	else if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		fail("%s: is not a regular file", path);
	else
		return fd;
	close(fd);
	return -1;
}

/* ---- one of several segments ---- */

static uint64_t format_at(const struct target *t, uint64_t at)
{
	return vine_ld64((const __le64 *)(t->memory + at));
}

/* Refused when ours begins within another one, by what the tables before it say. */
static int check_before(const struct target *t)
{
	struct vine_geometry geo;
	uint64_t at = 0;
	off_t data;

	while (at < t->off) {
		/* a sparse file stays sparse */
		data = *t->address ? (off_t)at : lseek(t->fd, (off_t)at, SEEK_DATA);
		if (data < 0 || (uint64_t)data >= t->off)
			break;
		at = (uint64_t)data & -VINE_PLACE;
		if (vine_geometry_of(format_at(t, at), UINT64_MAX, &geo))
			geo.size = VINE_PLACE;
		if (geo.size > t->off - at)
			return fail("%s: lies within the segment at byte %" PRIu64 ", which has %" PRIu64 " bytes",
				    t->name, at, geo.size);
		at += geo.size;
	}
	return DONE;
}

/* Refused when another one begins in what would be zeroed. */
static int check_behind(const struct target *t)
{
	uint64_t at;

	for (at = t->off + VINE_PLACE; at < t->off + t->tables; at += VINE_PLACE)
		if (VINE_FORMAT_MAGIC(format_at(t, at)) == VINE_WIRE_MAGIC)
			return fail("%s: another segment begins at byte %" PRIu64 ": say how large this one is, with ?size=",
				    t->name, at);
	return DONE;
}

/*
 * Processes on this host have a lock on a byte of the file, also while they are stopped:
 * see endpoint.h. With one on all of them nobody comes in between.
 */
static int lock_out(const struct target *t)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	uint64_t slot, word;

	l.l_start = (off_t)t->off;
	l.l_len = (off_t)t->tables;
	if (!fcntl(t->fd, F_OFD_SETLK, &l) || (errno != EAGAIN && errno != EACCES))
		return DONE;	/* or without locks, where no process can live */
	if (fcntl(t->fd, F_OFD_GETLK, &l) || l.l_type == F_UNLCK)
		l.l_start = (off_t)t->off + VINE_MAX_PEERS;	/* it has gone meanwhile */
	slot = (uint64_t)l.l_start - t->off;
	if (slot >= VINE_MAX_PEERS)
		return fail("%s: is in use: a process begins, or lives in, a segment at byte %llu",
			    t->name, (unsigned long long)l.l_start & -VINE_PLACE);
	word = format_at(t, t->off + VINE_OFF_PEERS + slot * sizeof(struct vine_wire_peer));
	return fail("%s: is in use: peer %u.%u, a process on this host, is alive. Stop that first",
		    t->name, (unsigned int)slot, VINE_PEER_INC(word));
}

/* ---- what is meant ---- */

static int map_tables(struct target *t)
{
	struct vine_geometry geo;
	struct stat st;
	uint64_t bytes;

	if (fstat(t->fd, &st))
		return fail("%s: %s", t->name, strerror(errno));
	bytes = (uint64_t)st.st_size;
	/* PCI memory is; and hardly any other file that a slip of the keyboard names */
	if (!t->endpoint && (bytes < VINE_MIN_SEGMENT || bytes & (bytes - 1)))
		return fail("%s: has %" PRIu64 " bytes: the memory of an ivshmem device for vine is a power of two, and at least 8 MiB",
			    t->name, bytes);
	bytes = bytes > t->off ? bytes - t->off : 0;
	if (bytes < VINE_MIN_SEGMENT || bytes < t->size)
		return fail("%s: there are %" PRIu64 " bytes: too few", t->name, bytes);
	if (t->size && t->size < VINE_MIN_SEGMENT)
		return fail("%s: a segment has at least 8 MiB", t->name);
	bytes = t->size ? t->size : bytes & ~4095ULL;
	vine_geometry_of(vine_format_for(bytes), bytes, &geo);
	t->tables = geo.chunk_off;
	t->memory = mmap(NULL, t->off + t->tables, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd, 0);
	if (t->memory == MAP_FAILED) {
		t->memory = NULL;
		if (errno == EPERM && *t->address)
			return fail("%s: the kernel does not let user space map PCI memory (lockdown, for Secure Boot): wipe the file of the memory on the host",
				    t->name);
		return fail("%s: cannot map it: %s", t->name, strerror(errno));
	}
	t->base = t->memory + t->off;
	if (*t->address && format_at(t, t->off) == ~0ULL)
		return fail("%s: the device does not answer", t->name);
	if (check_before(t) || (!t->size && check_behind(t)))
		return FAILED;
	t->size = bytes;
	return *t->address ? DONE : lock_out(t);
}

/* What the user named, and with which words: as an endpoint, or a file or device alone. */
static int parse_target(struct target *t, struct host_name *name)
{
	bool shm = !strncmp(t->name, "shm:", 4);
	char *text;
	int err;

	if (!strncmp(t->name, "server:", 7)) {
		fail("%s: name the file that the server was given", t->name);
		return USAGE;
	}
	if (asprintf(&text, shm ? "%s" : "shm:/%s", t->name) < 0)
		return fail("%s", strerror(ENOMEM));
	err = host_name_parse(text, name);
	free(text);
	if (err || name->trunc) {
		fail("%s: %s", t->name, err ? host_why() : "trunc is not for wiping");
		return USAGE;
	}
	t->endpoint = shm || strchr(t->name, '?');
	if (!shm)
		memmove(name->path, name->path + 1, strlen(name->path));
	if (!strchr(name->path, '/') && !shm)
		parse_address(name->path, t->address);
	t->off = name->off;
	t->size = name->size;
	return DONE;
}

static int open_target(struct target *t)
{
	struct host_name *name = malloc(sizeof(*name));
	int status;

	if (!name)
		return fail("%s", strerror(ENOMEM));
	status = parse_target(t, name);
	if (!status) {
		t->fd = *t->address ? open_function(t) : open_file(name->path, name->kind == HOST_SHM);
		status = t->fd < 0 ? FAILED : map_tables(t);
	}
	free(name);
	return status;
}

static void close_target(struct target *t)
{
	if (t->memory)
		munmap(t->memory, t->off + t->tables);
	t->memory = NULL;
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
	if (t->enabled)
		enable(t->address, "0");
	t->enabled = false;
}

/* ---- what is there ---- */

static uint64_t word_at(const struct target *t, uint64_t offset)
{
	return vine_ld64((const __le64 *)(t->base + offset));
}

static uint64_t peer_word(const struct target *t, unsigned int slot)
{
	return word_at(t, VINE_OFF_PEERS + slot * sizeof(struct vine_wire_peer));
}

/* Where the first byte is that is not zero, to 8 bytes; t->tables when there is none. */
static uint64_t first_data(const struct target *t)
{
	uint64_t at;

	for (at = 0; at < t->tables && !word_at(t, at); at += 8)
		;
	return at;
}

static bool is_vine(const struct target *t)
{
	uint64_t format = word_at(t, 0);

	return VINE_FORMAT_MAGIC(format) == VINE_WIRE_MAGIC &&
		VINE_FORMAT_VERSION(format) == VINE_WIRE_VERSION;
}

/* What it holds, in words. */
static void describe(const struct target *t, char *text, size_t size)
{
	uint64_t format = word_at(t, 0), features = word_at(t, 8), at = first_data(t);
	struct vine_geometry geo;
	char bytes[9] = "";
	unsigned int i;

	if (VINE_FORMAT_MAGIC(format) == VINE_WIRE_MAGIC && !is_vine(t)) {
		snprintf(text, size, "a segment of another vine: wire version %u, not %u",
			 VINE_FORMAT_VERSION(format), VINE_WIRE_VERSION);
	} else if (is_vine(t) && vine_geometry_of(format, t->size, &geo)) {
		snprintf(text, size, "a damaged segment of vine, or one of another size");
	} else if (is_vine(t) && features >> 32) {
		snprintf(text, size, "a segment of a newer vine, with features %#" PRIx64,
			 features >> 32);
	} else if (is_vine(t)) {
		snprintf(text, size, "a segment of this vine, which could be used as it is");
	} else {
		for (i = 0; i < 8 && at < t->tables && isprint(t->base[at + i]); i++)
			bytes[i] = (char)t->base[at + i];
		snprintf(text, size, "somebody else's data, at %#" PRIx64 "%s%s%s", t->off + at,
			 *bytes ? ": \"" : "", bytes, *bytes ? "\"" : "");
	}
}

/* Do any peers of a vine segment say that they live? */
static bool has_live_peers(const struct target *t)
{
	unsigned int i;

	for (i = 0; i < VINE_MAX_PEERS; i++)
		if (VINE_PEER_STATE(peer_word(t, i)) == VINE_PEER_LIVE)
			return true;
	return false;
}

/* Who writes there, if it is a peer of vine's: its slot. -1 when it is not. */
static int whose(const struct target *t, uint64_t offset)
{
	if (!is_vine(t) || offset < VINE_OFF_PEERS || offset >= VINE_OFF_SERVICES)
		return -1;
	return (int)((offset - VINE_OFF_PEERS) / sizeof(struct vine_wire_peer));
}

/*
 * Is anybody there? Watches all that vine reads, for whatever it is: peers of vine beat
 * in it.
 */
static int watch(const struct target *t)
{
	unsigned int ms = is_vine(t) && has_live_peers(t) ? WATCH_PEERS_MS : WATCH_MS;
	const struct timespec step = { .tv_nsec = WATCH_STEP_MS * 1000000L };
	uint64_t *was, at;
	int slot;

	was = malloc(t->tables);
	if (!was)
		return fail("%s", strerror(ENOMEM));
	for (at = 0; at < t->tables; at += 8)
		was[at / 8] = word_at(t, at);
	for (at = t->tables; at == t->tables && ms; ms -= WATCH_STEP_MS) {
		nanosleep(&step, NULL);
		for (at = 0; at < t->tables && word_at(t, at) == was[at / 8]; at += 8)
			;
	}
	free(was);
	if (at == t->tables)
		return DONE;
	slot = whose(t, at);
	if (slot >= 0)
		return fail("%s: is in use: peer %u.%u (IVPosition %u) is alive. Unload vine there, or stop that machine",
			    t->name, slot, VINE_PEER_INC(peer_word(t, slot)),
			    VINE_PEER_IVPOS(peer_word(t, slot)));
	return fail("%s: is in use: somebody writes at %#" PRIx64 ". Stop that first", t->name,
		    t->off + at);
}

/* Peers that are silent, but may be paused: a sentence, or "". */
static void describe_silent(const struct target *t, char *text, size_t size)
{
	unsigned int i, state, n = 0;

	for (i = 0; is_vine(t) && i < VINE_MAX_PEERS; i++) {
		state = VINE_PEER_STATE(peer_word(t, i));
		n += state == VINE_PEER_LIVE || state == VINE_PEER_SUSPECT;
	}
	text[0] = 0;
	if (n)
		snprintf(text, size, "\nIts %u peer%s silent: if a machine is not dead but paused, it writes there when it wakes.",
			 n, n > 1 ? "s are" : " is");
}

/* ---- wiping ---- */

/*
 * From the end, and the first word last: until then everybody takes it for foreign, and
 * then it is blank at once.
 */
static void zero(struct target *t)
{
	uint64_t at;

	for (at = t->tables - 8; at; at -= 8)
		if (word_at(t, at))	/* a sparse file stays sparse */
			vine_st64((__le64 *)(t->base + at), 0);
	vine_mb();
	vine_st64((__le64 *)t->base, 0);
}

/* The node that vine made of the device. False when it has none. */
static bool find_node(const char *address, char node[PATH_MAX])
{
	char pattern[PATH_MAX];
	glob_t g;

	snprintf(pattern, sizeof(pattern), DEVICES "/%s/vine/vine*", address);
	if (glob(pattern, 0, NULL, &g))
		return false;
	snprintf(node, PATH_MAX, "/dev/%s", strrchr(g.gl_pathv[0], '/') + 1);
	globfree(&g);
	return true;
}

/* It is blank now: vine can have it. */
static int bind(const struct target *t)
{
	char node[PATH_MAX];
	int err;

	if (!*t->address) {
		printf("%s is blank. In machines where vine has refused it: modprobe -r vine && modprobe vine\n",
		       t->name);
		return DONE;
	}
	if (access(DRIVER, F_OK)) {
		printf("%s is blank. Now load vine: modprobe vine\n", t->name);
		return DONE;
	}
	err = write_file(DRIVER "/bind", t->address);
	if (!err && find_node(t->address, node)) {
		printf("%s is blank, and is %s now\n", t->name, node);
		return DONE;
	}
	return fail("%s is blank, but vine has not taken it: %s; 'dmesg | grep vine' says why",
		    t->name, err ? strerror(-err) : "no node appeared");
}

static int wipe_target(const struct options *o, struct target *t)
{
	char what[128], silent[160], size[32], driver[PATH_MAX];
	int status;

	status = open_target(t);
	if (status)
		return status;
	if (first_data(t) == t->tables) {
		printf("%s is blank already\n", t->name);
		return DONE;
	}
	status = watch(t);
	if (status)
		return status;
	describe(t, what, sizeof(what));
	describe_silent(t, silent, sizeof(silent));
	status = ask(o, "%s (%s) holds %s.%s\nWipe it? That cannot be undone.", t->name,
		     bytes_text(t->size, size), what, silent);
	if (status)
		return status;
	/* the answer took its time */
	status = o->yes ? DONE : watch(t);
	if (status)
		return status;
	if (*t->address && *driver_of(t->address, driver))
		return fail("%s: a driver has taken it meanwhile", t->name);
	zero(t);
	close_target(t);
	return bind(t);
}

int wipe(const struct options *o)
{
	struct target t = { .name = o->argument, .fd = -1 };
	int status;

	if (!t.name) {
		fail("wipe: what? A PCI address, or a file on the host");
		list_devices();
		return USAGE;
	}
	status = wipe_target(o, &t);
	close_target(&t);
	return status;
}
