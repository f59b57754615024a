// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * producer-consumer.c - a pipe between two virtual machines, over a plain vine queue
 *
 *	cc producer-consumer.c -o producer-consumer $(pkg-config --cflags --libs libvine)
 *	producer-consumer consume >copy		(in one machine)
 *	producer-consumer produce <file		(in another, or in the same)
 *
 * The producer puts its standard input into shared memory, block by block, and tells the
 * consumer of each; the consumer writes it to its standard output and sends the message
 * back, and with it the block.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vine.h>

#define SERVICE	"producer-consumer"
#define BLOCK	(64 << 10)
#define BLOCKS	16		/* on their way at a time: as many as the queue holds */

struct news {
	uint64_t region;	/* from vine_attach() */
	uint32_t block;		/* number in the region */
	uint32_t bytes;		/* that it holds; 0: the end */
};

/* A result of libvine; it ends the program when it is an error. */
static int check(int ret, const char *what)
{
	if (ret >= 0)
		return ret;
	fprintf(stderr, "producer-consumer: cannot %s: %s\n", what, strerror(-ret));
	exit(1);
}

static void send(int queue, struct news news)
{
	struct vine_msg msg = { .len = sizeof(news) };

	memcpy(msg.data, &news, sizeof(news));
	check(vine_push(queue, &msg, 1), "send");
}

/* Another machine sent it: it is checked before it is used. */
static struct news receive(int queue)
{
	struct news news = { .block = BLOCKS };
	struct vine_msg msg;

	check(vine_pull(queue, &msg, 1, 1, VINE_FOREVER), "receive");
	if (msg.len == sizeof(news))
		memcpy(&news, msg.data, sizeof(news));
	if (news.block >= BLOCKS || news.bytes > BLOCK)
		check(-EBADMSG, "understand the other side");
	return news;
}

static void produce(int device)
{
	struct news news = { .bytes = 1 };
	unsigned int sent, back;
	int queue, region;
	void *memory;

	queue = check(vine_connect(device, SERVICE, BLOCKS, VINE_WAIT_SERVICE, VINE_FOREVER,
				   NULL), "connect");
	region = check(vine_region(device, BLOCKS * BLOCK, NULL), "get shared memory");
	check(vine_map(region, BLOCKS * BLOCK, &memory), "map it");
	check(vine_attach(queue, region, &news.region), "share it");

	for (sent = 0; news.bytes; sent++) {
		/* All blocks are new at first, and then those that come back. */
		news.block = sent < BLOCKS ? sent : receive(queue).block;
		news.bytes = fread((char *)memory + news.block * BLOCK, 1, BLOCK, stdin);
		if (ferror(stdin))
			check(-EIO, "read standard input");
		send(queue, news);
	}
	for (back = sent < BLOCKS ? sent : BLOCKS; back; back--)
		receive(queue);
}

static void consume(int device)
{
	struct news news;
	int listener, queue, region;
	uint64_t bytes;
	void *memory;

	listener = check(vine_listen(device, SERVICE, 0, 0), "offer " SERVICE);
	queue = check(vine_accept(listener, 0, VINE_FOREVER, NULL), "accept");
	news = receive(queue);
	region = check(vine_import(queue, news.region, &bytes), "import the memory");
	if (bytes < BLOCKS * BLOCK)
		check(-EBADMSG, "use so little memory");
	check(vine_map(region, BLOCKS * BLOCK, &memory), "map it");

	for (; news.bytes; news = receive(queue)) {
		fwrite((char *)memory + news.block * BLOCK, 1, news.bytes, stdout);
		send(queue, news);
	}
	if (fflush(stdout) || ferror(stdout))
		check(-EIO, "write standard output");
	send(queue, news);	/* not before all is written: the producer waits for it */
}

int main(int argc, char **argv)
{
	const char *role = argc == 2 ? argv[1] : "";
	int device;

	if (strcmp(role, "produce") && strcmp(role, "consume")) {
		fputs("Usage: producer-consumer produce <FILE\n"
		      "       producer-consumer consume >FILE\n", stderr);
		return 2;
	}
	device = check(vine_open(NULL), "open the device");
	if (!strcmp(role, "produce"))
		produce(device);
	else
		consume(device);
	return 0;
}
