// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * hostile.c - a segment whose words change between two reads, as the input says
 *
 * vine_step() runs before each access of the core. It looks whether the access is one
 * that the victim may make, counts it, and applies the changes that are due.
 */
#include <stdarg.h>
#include <stdio.h>
#include "fuzz.h"

#define PAGE		4096
#define MAX_CHANGES	8
#define MAX_PROTECTED	16
#define MAX_AGAIN	200	/* a call has no longer loop that such a lie keeps alive */

struct change {
	struct insn insn;
	u32 wait;		/* matching accesses that it still lets pass */
	u32 times;		/* that it still happens */
	u64 at;			/* of the word that it changed, when it goes on changing it */
};

struct range {
	u64 from, to;
};

struct world *world;
bool lied;

static u8 *dirty;
static struct change change[MAX_CHANGES];
static u32 changes;
static struct range protected[MAX_PROTECTED];
static u32 protections;
static struct {
	u64 at, value;
} last;				/* what the last change overwrote */

static struct victim *caller;
static struct range caller_rings;
static u64 left, chunks_left, total;	/* accesses that the call may still make */

void finding(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fprintf(stderr, "finding: ");
	vfprintf(stderr, fmt, args);
	fprintf(stderr, "\n");
	va_end(args);
	abort();
}

void segment_dirty(u64 at, u64 bytes)
{
	u64 page;

	for (page = at / PAGE; page <= (at + bytes - 1) / PAGE; page++)
		dirty[page] = 1;
}

void segment_reset(void)
{
	u64 page;

	if (!dirty) {
		dirty = malloc(world->size / PAGE);
		memset(dirty, 1, world->size / PAGE);
	}
	for (page = 0; page < world->size / PAGE; page++) {
		if (dirty[page])
			memset(world->base + page * PAGE, 0, PAGE);
		dirty[page] = 0;
	}
	changes = protections = 0;
	memset(&last, 0, sizeof(last));
	caller = NULL;
	total = 0;
	lied = false;
}

void segment_protect(u64 at, u64 bytes)
{
	if (protections == MAX_PROTECTED)
		finding("too many protected ranges");
	protected[protections++] = (struct range){ at, at + bytes };
}

void segment_call(struct victim *v, struct vine_queue *q, u64 most, u64 most_chunks)
{
	caller = v;
	left = most;
	chunks_left = most_chunks;
	caller_rings = (struct range){ 0 };
	if (q)
		queue_rings(q, &caller_rings.from, &caller_rings.to);
}

void segment_called(void)
{
	caller = NULL;
	changes = 0;
}

u64 segment_accesses(void)
{
	return total;
}

static enum kind kind_of(u64 at)
{
	if (at >= VINE_OFF_CHUNKMAP)
		return at < world->geo.chunk_off ? CHUNKS : RINGS;
	if (at >= VINE_OFF_REGIONS)
		return (at - VINE_OFF_REGIONS) % sizeof(struct vine_wire_region) <
			offsetof(struct vine_wire_region, hold) ? REGION_WORDS : HOLDS;
	if (at >= VINE_OFF_QUEUES)
		return QUEUE_ENTRIES;
	if (at >= VINE_OFF_SERVICES)
		return SERVICES;
	return at >= VINE_OFF_PEERS ? PEERS : HEADER;
}

static const struct {
	u64 off, entry, n;
} table[] = {
	[HEADER] = { VINE_OFF_HEADER, 8, 3 },
	[PEERS] = { VINE_OFF_PEERS, sizeof(struct vine_wire_peer), VINE_MAX_PEERS },
	[SERVICES] = { VINE_OFF_SERVICES, sizeof(struct vine_wire_service), VINE_MAX_SERVICES },
	[QUEUE_ENTRIES] = { VINE_OFF_QUEUES, sizeof(struct vine_wire_queue), VINE_MAX_QUEUES },
	[REGION_WORDS] = { VINE_OFF_REGIONS, sizeof(struct vine_wire_region), VINE_MAX_REGIONS },
	[HOLDS] = { VINE_OFF_REGIONS, sizeof(struct vine_wire_region), VINE_MAX_REGIONS },
	[CHUNKS] = { VINE_OFF_CHUNKMAP, 8, 16 },
};

/* ---- lies ---- */

static u64 load(u64 at)
{
	if (kind_of(at) == HOLDS)
		return vine_ld32((__le32 *)(world->base + at));
	return vine_ld64((__le64 *)(world->base + at));
}

static void store(u64 at, u64 value)
{
	u32 i;

	for (i = 0; i < protections; i++)
		if (at + 8 > protected[i].from && at < protected[i].to)
			return;
	last.at = at;
	last.value = load(at);
	lied = true;
	segment_dirty(at, 8);
	if (kind_of(at) == HOLDS)
		vine_st32((__le32 *)(world->base + at), (u32)value);
	else
		vine_st64((__le64 *)(world->base + at), value);
}

/* The @n-th region that @v uses. */
static const struct vine_use *nth_use(const struct victim *v, u32 n)
{
	static const struct vine_use none;
	const struct vine_use *found = &none;
	u32 i;

	for (i = 0; i < 64; i++) {
		if (!v->peer->core.use[i].id)
			continue;
		found = &v->peer->core.use[i];
		if (!n--)
			break;
	}
	return found;
}

/* A word of the same kind in another entry. */
static u64 neighbour(u64 at, u32 n)
{
	enum kind kind = kind_of(at);
	u64 in;

	if (kind == RINGS)
		return load(world->geo.chunk_off + (at - world->geo.chunk_off + n * 64) % 65536);
	in = (at - table[kind].off) % table[kind].entry;
	return load(table[kind].off + n % 16 % table[kind].n * table[kind].entry + in);
}

static u64 lie(u64 at, u8 how, u8 aux, u32 v)
{
	const struct victim *about = &victim[aux % (VICTIMS + 1)];
	const struct vine_core *c = &about->peer->core;
	const struct vine_listener *l;
	const struct vine_use *use;
	u64 now = load(at);

	switch (how % 18) {
	case 0:
		return v;
	case 1:
		return ~(u64)v;
	case 2:
		return now + (u64)(s64)(int32_t)v;
	case 3:
		return now ^ 1ULL << v % 64;
	case 4:		/* another state */
		return (now & ~0xffULL) | (v & 7);
	case 5:
		return (now & ~0xffffffffULL) | v;
	case 6:
		return (now & 0xffffffff) | (u64)v << 32;
	case 7:
		return (u64)v << aux % 64;
	case 8:
		return neighbour(at, v);
	case 9:		/* somebody else's */
		return VINE_CTL(VINE_CTL_GEN(now) + (v >> 8 & 1), c->inc, c->slot, v & 7);
	case 10:
		return nth_use(about, v % 8)->id;
	case 11:	/* as it was */
		return last.value;
	case 12:
		use = nth_use(about, v % 8);
		return VINE_EXTENT(use->first + (v >> 8 & 3), use->count + (v >> 16 & 3));
	case 13:
		return (now & ~(0xffULL << aux % 8 * 8)) | (u64)(v & 0xff) << aux % 8 * 8;
	case 14:
		return VINE_PEER(v >> 8, v % 4, aux & 0x3f, aux >> 6) |
			(v & 4 ? VINE_PEER_UNIQUE : 0);
	case 15:
		l = &about->listener[v % LISTENERS];
		return VINE_SERVER(l->gen, c->inc, c->slot, l->index);
	case 16:	/* a hold: ours */
		return c->inc;
	default:
		return VINE_RINGS(v & 0xff, (u64)(v >> 8) * 64);
	}
}

void segment_poke(const struct insn *insn)
{
	enum kind kind = insn->a % KINDS;
	u64 n = world->geo.chunks, at;

	if (!n && (kind == RINGS || kind == CHUNKS))
		return;
	if (kind == RINGS) {
		at = world->geo.chunk_off + (u64)insn->b % n * 65536 +
			(u64)insn->c % 16 * 64 + (insn->a >> 4) % 8 * 8;
		if (at + 8 > world->geo.size)
			return;
	} else if (kind == CHUNKS) {
		at = VINE_OFF_CHUNKMAP + insn->b % n * 8;
	} else {
		/* the first entries are those in use */
		at = table[kind].off + insn->b % 32 % table[kind].n * table[kind].entry;
		if (kind == REGION_WORDS)
			at += insn->c % 8 * 8;
		else if (kind == HOLDS)
			at += offsetof(struct vine_wire_region, hold) + insn->c % 64 * 4;
		else if (kind != HEADER)
			at += insn->c * 8 % table[kind].entry;
	}
	store(at, lie(at, insn->op & 0x3f, insn->a >> 4, insn->v));
}

void segment_arm(const struct insn *insn)
{
	bool again = insn->op & (AGAIN_HERE | AGAIN_ALL);

	if (changes == MAX_CHANGES)
		return;
	change[changes++] = (struct change){
		.insn = *insn, .wait = insn->a, .times = again ? MAX_AGAIN : 1,
	};
}

static void apply(u64 at, u64 now, bool write)
{
	struct change *ch;
	enum kind filter;

	for (ch = change; ch < change + changes; ch++) {
		if (!ch->times)
			continue;
		filter = FILTER(ch->insn.op) - 2;
		if (ch->at ? ch->at != at :
		    FILTER(ch->insn.op) == 0 ? !now && !write :
		    FILTER(ch->insn.op) > 1 && filter % KINDS != kind_of(at))
			continue;
		if (ch->wait) {
			ch->wait--;
			continue;
		}
		store(at, lie(at, ch->insn.b, ch->insn.c, ch->insn.v));
		ch->times--;
		if (ch->insn.op & AGAIN_HERE)
			ch->at = at;
	}
}

/* ---- accesses ---- */

/* Ring memory: of the queue that the call is about; else of any ring region in use here. */
static void check_ring_access(u64 at)
{
	const struct vine_core *c = &caller->peer->core;
	u32 chunk = (u32)((at - world->geo.chunk_off) >> world->geo.shift), use;

	if (at >= caller_rings.from && at + 8 <= caller_rings.to)
		return;
	use = caller->peer->chunk_use[chunk];
	if (caller_rings.to || !use || !c->use[use - 1].rings)
		finding("access to chunk %u at %#llx, which is not in this queue's rings", chunk,
			(unsigned long long)at);
}

void vine_step(const void *p, u64 now, bool write)
{
	u64 at = world ? (u64)((const u8 *)p - world->base) : 0;

	if (!caller) {		/* to set things up */
		if (write && dirty)
			segment_dirty(at, 8);
		return;
	}
	total++;
	if (at >= world->geo.size)
		finding("access outside of the segment, at %#llx", (unsigned long long)at);
	if (at >= VINE_OFF_CHUNKMAP && at < world->geo.chunk_off) {
		if (!chunks_left--)
			finding("too many looks at the chunk map in one call");
		if (at >= VINE_OFF_CHUNKMAP + 8ULL * world->geo.chunks)
			finding("access behind the chunk map, at %#llx", (unsigned long long)at);
	} else if (!left--) {
		finding("too many accesses in one call");
	} else if (at >= world->geo.chunk_off) {
		check_ring_access(at);
	}
	if (at % 8 && (at % 4 || kind_of(at) != HOLDS))
		finding("unaligned access at %#llx", (unsigned long long)at);
	if (write)
		segment_dirty(at, 8);
	if (changes)
		apply(at, now, write);
}

void vine_step_byte(const void *p, bool write)
{
	u64 at = (u64)((const u8 *)p - world->base);

	if (at >= world->size)	/* private */
		return;
	if (caller && kind_of(at) != SERVICES)
		finding("access to a byte at %#llx", (unsigned long long)at);
	vine_step(world->base + at / 8 * 8, *(const u8 *)p, write);
}
