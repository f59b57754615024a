// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * tcp.c - the same between two guests over TCP
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest.h"

#define PORT	7654

static struct sockaddr_in address_of(const char *text)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(PORT) };

	if (inet_pton(AF_INET, text, &a.sin_addr) != 1)
		die("not an address: %s", text);
	return a;
}

static int no_delay(int fd)
{
	int on = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		die_errno("TCP_NODELAY");
	return fd;
}

int tcp_accept(void)
{
	struct sockaddr_in a = address_of("0.0.0.0");
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;

	if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof(a)) ||
	    listen(listener, 1))
		die_errno("cannot listen");
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		die_errno("cannot accept");
	close(listener);
	return no_delay(fd);
}

int tcp_connect(const char *address)
{
	struct sockaddr_in a = address_of(address);
	uint64_t until = now_ns() + 60000000000;
	int fd;

	for (;;) {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			die_errno("no socket");
		if (!connect(fd, (struct sockaddr *)&a, sizeof(a)))
			return no_delay(fd);
		if (now_ns() > until)
			die_errno("cannot connect to %s", address);
		close(fd);
		usleep(100000);		/* the other guest still boots */
	}
}

static void send_all(int fd, const void *from, size_t bytes)
{
	const char *p = from;
	ssize_t n;

	for (; bytes; bytes -= (size_t)n, p += n) {
		n = send(fd, p, bytes, MSG_NOSIGNAL);
		if (n <= 0)
			die_errno("cannot send");
	}
}

static void receive_all(int fd, void *to, size_t bytes)
{
	char *p = to;
	ssize_t n;

	for (; bytes; bytes -= (size_t)n, p += n) {
		n = recv(fd, p, bytes, 0);
		if (n <= 0)
			die_errno("cannot receive");
	}
}

void tcp_ping(struct link *l, uint64_t count, uint64_t *each)
{
	char message[MESSAGE] = "", back[MESSAGE];
	uint64_t i, begin, end;

	begin = now_ns();
	for (i = 0; i < count; i++) {
		memcpy(message, &i, sizeof(i));
		send_all(l->tcp, message, MESSAGE);
		receive_all(l->tcp, back, MESSAGE);
		if (memcmp(message, back, MESSAGE))
			die("TCP brought another message back");
		end = now_ns();
		each[i] = end - begin;
		begin = end;
	}
}

void tcp_pong(struct link *l, uint64_t count)
{
	char message[MESSAGE];

	for (; count; count--) {
		receive_all(l->tcp, message, MESSAGE);
		send_all(l->tcp, message, MESSAGE);
	}
}

static void *buffer(void)
{
	static void *b;

	if (!b)
		b = aligned_alloc(4096, MIB);
	if (!b)
		die("no memory");
	return b;
}

void tcp_send(struct link *l, uint64_t count)
{
	uint64_t i, expected = 0, sum;

	for (i = 0; i < count; i++) {
		data_fill(buffer(), MIB, i);
		expected += data_expected(MIB, i);
		send_all(l->tcp, buffer(), MIB);
	}
	receive_all(l->tcp, &sum, sizeof(sum));
	if (sum != expected)
		die("TCP has changed the data");
}

void tcp_receive(struct link *l, uint64_t count)
{
	uint64_t sum = 0;

	for (; count; count--) {
		receive_all(l->tcp, buffer(), MIB);
		sum += data_sum(buffer(), MIB);
	}
	send_all(l->tcp, &sum, sizeof(sum));
}
