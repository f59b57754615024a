// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * sockets.c - round trips of 64 bytes through two pipes, and through an AF_UNIX socket
 */
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

#define MESSAGE	64

/* Descriptors to read from and to write to. */
struct state {
	int here[2], there[2];
};

static void move(ssize_t n)
{
	if (n != MESSAGE)
		die_errno("a message of %d bytes was not moved whole", MESSAGE);
}

static void round_trip(void *state, uint64_t count)
{
	struct state *s = state;
	char message[MESSAGE] = "";

	for (; count; count--) {
		move(write(s->here[1], message, MESSAGE));
		move(read(s->here[0], message, MESSAGE));
	}
}

static void send_back(void *state, uint64_t count)
{
	struct state *s = state;
	char message[MESSAGE];

	for (; count; count--) {
		move(read(s->there[0], message, MESSAGE));
		move(write(s->there[1], message, MESSAGE));
	}
}

static double measure(const struct bench *b, struct state *s)
{
	struct duel d = { round_trip, send_back, s };

	return fight(b, &d);
}

double pipe_rtt(const struct bench *b, bool relaxed)
{
	struct state s;
	int to[2], back[2];
	double ns;

	(void)relaxed;
	if (pipe(to) || pipe(back))
		die_errno("no pipe");
	s = (struct state){ { back[0], to[1] }, { to[0], back[1] } };
	ns = measure(b, &s);
	close(to[0]);
	close(to[1]);
	close(back[0]);
	close(back[1]);
	return ns;
}

double unix_rtt(const struct bench *b, bool relaxed)
{
	struct state s;
	int pair[2];
	double ns;

	(void)relaxed;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		die_errno("no socket");
	s = (struct state){ { pair[0], pair[0] }, { pair[1], pair[1] } };
	ns = measure(b, &s);
	close(pair[0]);
	close(pair[1]);
	return ns;
}
