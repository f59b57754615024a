// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * foreign-server.c - an ivshmem server that has never heard of vine: QEMU's protocol and
 * no more. Tests use it to show that vine needs nothing of its own server.
 *
 * IDs only grow. It blocks on a client that does not read and trusts everybody: for
 * tests only.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <err.h>
#include <getopt.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PEERS 64
#define VECTORS 64

static struct pollfd sock[PEERS + 1];	/* the last one listens */
static int id[PEERS], event[PEERS][VECTORS], vectors = 1;

static void tell(int to, int64_t value, int fd)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr hdr;
	} control = { .hdr = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	uint64_t wire = htole64(value);
	struct iovec iov = { &wire, sizeof(wire) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control.room);
		memcpy(CMSG_DATA(&control.hdr), &fd, sizeof(fd));
	}
	sendmsg(sock[to].fd, &msg, MSG_NOSIGNAL);	/* poll tells of a client that left */
}

static void tell_vectors(int to, int about)
{
	for (int v = 0; v < vectors; v++)
		tell(to, id[about], event[about][v]);
}

static void join(int mem)
{
	static int next_id;
	int new = accept4(sock[PEERS].fd, NULL, NULL, SOCK_CLOEXEC), p = 0;

	while (p < PEERS && sock[p].fd >= 0)
		p++;
	if (new < 0 || p == PEERS || next_id > UINT16_MAX) {
		close(new);
		return;
	}
	sock[p].fd = new;
	id[p] = next_id++;
	for (int v = 0; v < vectors; v++) {
		event[p][v] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (event[p][v] < 0)
			err(1, "eventfd");
	}
	tell(p, 0, -1);
	tell(p, id[p], -1);
	tell(p, -1, mem);
	for (int q = 0; q < PEERS; q++) {
		if (q == p || sock[q].fd < 0)
			continue;
		tell_vectors(q, p);
		tell_vectors(p, q);
	}
	tell_vectors(p, p);
}

static void leave(int p)
{
	close(sock[p].fd);
	sock[p].fd = -1;
	for (int v = 0; v < vectors; v++)
		close(event[p][v]);
	for (int q = 0; q < PEERS; q++)
		if (sock[q].fd >= 0)
			tell(q, id[p], -1);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "size", required_argument, NULL, 'm' },
		{ "vectors", required_argument, NULL, 'n' },
		{ "ready-fd", required_argument, NULL, 'r' },
		{ }
	};
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int c, mem, ready = -1;
	long long size = 4 << 20;	/* bytes, no suffixes */
	struct rlimit r;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			strncpy(addr.sun_path, optarg, sizeof(addr.sun_path) - 1);
		else if (c == 'm')
			size = atoll(optarg);
		else if (c == 'n')
			vectors = atoi(optarg);
		else if (c == 'r')
			ready = atoi(optarg);
		else
			return 2;
	}
	if (!*addr.sun_path || vectors < 1 || vectors > VECTORS)
		errx(2, "--socket PATH [--size BYTES] [--vectors 1..64] [--ready-fd N]");
	getrlimit(RLIMIT_NOFILE, &r);
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
	for (int p = 0; p <= PEERS; p++)
		sock[p] = (struct pollfd){ -1, POLLIN, 0 };
	mem = memfd_create("foreign", MFD_CLOEXEC);
	if (mem < 0 || ftruncate(mem, size))
		err(1, "memory");
	sock[PEERS].fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(sock[PEERS].fd, (struct sockaddr *)&addr, sizeof(addr)) ||
	    listen(sock[PEERS].fd, PEERS))
		err(1, "%s", addr.sun_path);
	if (ready >= 0 && (write(ready, "\n", 1) != 1 || close(ready)))
		err(1, "--ready-fd");

	while (poll(sock, PEERS + 1, -1) > 0) {
		for (int p = 0; p < PEERS; p++)
			if (sock[p].fd >= 0 && sock[p].revents)
				leave(p);
		if (sock[PEERS].revents)
			join(mem);
	}
	err(1, "poll");
}
