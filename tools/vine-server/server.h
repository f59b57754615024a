/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * server.h - what the files of vine-server offer to each other.
 */
#ifndef VINE_SERVER_H
#define VINE_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MAX_PEERS 64
#define MAX_VECTORS 64
#define IN_FLIGHT 48	/* descriptors sent to a peer and not yet received */
#define MAX_ID 65535	/* QEMU's; a doorbell has 16 bits for it */

enum { EXIT_CLEAN = 0, EXIT_RUNTIME = 1, EXIT_USAGE = 2 };

/*
 * log.c: says one line on stderr if @level is to be heard. errno survives; returns -1,
 * so that what fails can say so and return at once.
 */
enum log_level { LOG_ERROR, LOG_INFO, LOG_DETAIL };
extern enum log_level log_level;
int say(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define error(...) say(LOG_ERROR, __VA_ARGS__)
#define info(...) say(LOG_INFO, __VA_ARGS__)
#define detail(...) say(LOG_DETAIL, __VA_ARGS__)

/*
 * options.c: the command line. options_parse() does not return if there is anything
 * wrong with it. The strings live for ever.
 */
struct options {
	const char *socket;
	const char *file;	/* NULL: anonymous memory */
	const char *pidfile;	/* NULL: none */
	uint64_t size;
	unsigned int vectors;
	bool hugepages;
	int ready_fd;		/* -1: none */
};

void options_parse(struct options *o, int argc, char **argv);

/* memory.c: the memory that the VMs share. Returns a descriptor or -1. */
int memory_open(const struct options *o);

/*
 * ids.c: the IDs (IVPositions) that peer slots bear which are not FREE. Their memory may
 * still be written by the VM whose ID it is, and a driver that finds its own ID in a slot
 * takes the former owner for dead. So such an ID is not handed out again.
 */
void ids_in_memory(int mem_fd, bool ids[MAX_ID + 1]);

/*
 * places.c: the names in the file system that the server takes and gives back.
 * socket_take() binds a socket, which does not listen yet; pidfile_take() writes the
 * process ID and keeps a lock. Both return a descriptor or -1. place_leave() removes
 * what was put there, unless somebody else has put something there since.
 */
struct place {
	const char *path;
	dev_t dev;
	ino_t ino;
};

int socket_take(struct place *p, const char *path);
int pidfile_take(struct place *p, const char *path);
void place_leave(const struct place *p);

/*
 * peers.c: the connected VMs and what each is told of the others. peers_add() takes
 * over a non-blocking connection. peers_event() hears what epoll says of the peer whose
 * ID is the event's data. peers_settle() is to be called after every such call; it
 * returns true if something must be tried again later without any event to say when,
 * and @retry says that it is later now.
 */
void peers_init(int epoll_fd, int mem_fd, unsigned int vectors);
void peers_add(int sock);
void peers_event(uint16_t id, uint32_t events);
bool peers_settle(bool retry);
void peers_exit(void);

#endif
