// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * bury.c - declares a silent peer gone, when its administrator says so
 */
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vine.h>

#include "vinectl.h"

#define WATCH_MS	7000	/* longer than an endpoint waits for a beat, which is 5 s */

/* A number of digits alone, up to @most; what follows it is left at @text. */
static bool parse_number(const char **text, unsigned int most, unsigned int *n)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(*text, &end, 10);
	if (!isdigit((unsigned char)**text) || errno || value > most)
		return false;
	*n = (unsigned int)value;
	*text = end;
	return true;
}

/* "PEER" or "PEER.INCARNATION". False when it is neither. */
static bool parse_peer(const char *text, unsigned int *peer, unsigned int *incarnation,
		       bool *has_incarnation)
{
	*has_incarnation = false;
	if (!parse_number(&text, 63, peer))
		return false;
	if (*text == '.') {
		text++;
		*has_incarnation = parse_number(&text, UINT32_MAX, incarnation);
		if (!*has_incarnation)
			return false;
	}
	return !*text;
}

static struct vine_query_peer *find(struct vine_query_peer *peers, int count, unsigned int peer)
{
	int i;

	for (i = 0; i < count; i++)
		if (peers[i].peer == peer)
			return &peers[i];
	return NULL;
}

/* What the table says of it now: 1; 0: there is no such peer any more; -1, and why was said. */
static int look(const struct options *o, int device, struct vine_query_peer *p)
{
	const struct vine_query_peer *now;
	void *peers;
	int count, there;

	count = device_query(o, device, VINE_QUERY_PEERS, sizeof(*p), &peers);
	if (count < 0)
		return -1;
	now = find(peers, count, p->peer);
	there = now && now->incarnation == p->incarnation;
	if (there)
		*p = *now;
	free(peers);
	return there;
}

/*
 * An endpoint has come just now, and finds everybody alive: until it beats, or has not for so
 * long that it is suspect. DONE or FAILED.
 */
static int watch(const struct options *o, int device, struct vine_query_peer *p)
{
	uint64_t beats = p->beats, until = vine_deadline_ms(WATCH_MS);
	int there = 1;

	if (isatty(2))
		fprintf(stderr, "vinectl: watching it for 5 s ...\n");
	while (p->state == VINE_QUERY_PEER_LIVE && p->beats == beats && vine_deadline_ms(1) < until) {
		poll(NULL, 0, 50);
		there = look(o, device, p);
		if (there <= 0)
			break;
	}
	if (!there)
		fail("peer %u.%u is gone: nobody needs to bury it", p->peer, p->incarnation);
	return there > 0 ? DONE : FAILED;
}

/* Why it cannot be buried; DONE when it can. */
static int judge(const struct vine_query_peer *p)
{
	if (p->flags & VINE_QUERY_OWN)
		return fail("peer %u.%u is this machine itself: bury it from another one", p->peer,
			    p->incarnation);
	if (p->state == VINE_QUERY_PEER_LIVE)
		return fail("peer %u.%u is alive: it beat %.1f s ago. Once its machine is stopped, it becomes suspect (after peer_timeout_ms) and can be buried",
			    p->peer, p->incarnation, p->silent_ms / 1000.0);
	return DONE;
}

static int do_bury(const struct options *o, int device, const struct vine_query_peer *p)
{
	int err = vine_bury(device, p->peer, p->incarnation);

	switch (err) {
	case 0:
		printf("peer %u.%u is gone: what it had is free again, but for memory that others still use\n",
		       p->peer, p->incarnation);
		return DONE;
	case -EPERM:
		return fail("only root may bury (CAP_SYS_ADMIN), or on an endpoint who owns its file: use sudo");
	case -ENOENT:
		printf("peer %u.%u is gone: somebody was faster\n", p->peer, p->incarnation);
		return DONE;
	case -EBUSY:
		return fail("peer %u.%u is alive after all%s", p->peer, p->incarnation,
			    device_is_endpoint(device) ?
			    "; a process on this host that is stopped can be killed" : "");
	}
	return device_failed(o, "cannot bury", err);
}

int bury(const struct options *o)
{
	unsigned int peer, incarnation;
	struct vine_query_peer *p;
	void *peers;
	bool has_incarnation;
	int device, count, status = FAILED;

	if (!o->argument) {
		fail("bury: which peer? 'vinectl peers' lists them");
		return USAGE;
	}
	if (!parse_peer(o->argument, &peer, &incarnation, &has_incarnation)) {
		fail("bury %s: not a peer; write for instance 1 or 1.7, as 'vinectl peers' has it",
		     o->argument);
		return USAGE;
	}
	device = device_open(o);
	if (device < 0)
		return FAILED;
	count = device_query(o, device, VINE_QUERY_PEERS, sizeof(*p), &peers);
	if (count < 0)
		goto close;
	p = find(peers, count, peer);
	if (!p) {
		fail("there is no peer %u (any more): 'vinectl peers' lists them", peer);
		goto free;
	}
	if (has_incarnation && p->incarnation != incarnation) {
		fail("there is no peer %u.%u (any more): the slot is %u.%u's", peer, incarnation,
		     peer, p->incarnation);
		goto free;
	}
	if (!(p->flags & VINE_QUERY_OWN) && p->state == VINE_QUERY_PEER_LIVE &&
	    device_is_endpoint(device)) {
		status = watch(o, device, p);
		if (status)
			goto free;
	}
	status = judge(p);
	if (status)
		goto free;
	status = ask(o, "Peer %u.%u (IVPosition %u) has been silent for %.0f s, at least. If its machine is not dead but paused,\nit will write into memory that is others' by then. Bury it?",
		     p->peer, p->incarnation, p->ivposition, p->silent_ms / 1000.0);
	if (!status)
		status = do_bury(o, device, p);
free:
	free(peers);
close:
	vine_close(device);
	return status;
}
