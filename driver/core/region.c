// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * region.c - chunks, regions, holds
 *
 * A region goes FREE -> CLAIM -> LIVE -> DYING -> FREE, by CAS on its control
 * word. Its chunks bear its identifier, which names its generation; so a slow
 * peer that frees a chunk by CAS can only free what is no longer in use. A peer
 * that uses a region holds it with its incarnation; a DYING region is finished,
 * by anybody, once nobody holds it.
 *
 * What this machine uses stands in core->use and core->chunk_use and decides,
 * whatever the tables in the segment say.
 */
#include "core.h"

static u64 vine_id_of(u32 index, u64 ctl)
{
	return VINE_REGION_ID(VINE_CTL_GEN(ctl), index);
}

static struct vine_use *vine_use_of(struct vine_core *c, u64 id)
{
	u32 index = VINE_REGION_INDEX(id);
	struct vine_use *use;

	if (!id || index >= VINE_MAX_REGIONS)
		return NULL;
	use = &c->use[vine_nospec(index, VINE_MAX_REGIONS)];
	return use->id == id ? use : NULL;
}

const struct vine_use *vine_region_use(struct vine_core *c, u64 id)
{
	return vine_use_of(c, id);
}

/* Reads an extent that another machine wrote; an impossible one has no chunks. */
static u32 vine_extent(struct vine_core *c, struct vine_wire_region *r, u32 *first)
{
	u64 extent = vine_ld64(&r->extent);
	u32 count = VINE_EXTENT_COUNT(extent);

	*first = VINE_EXTENT_FIRST(extent);
	if (*first >= c->geo.chunks || count > c->geo.chunks - *first)
		return 0;
	return count;
}

/* Does a peer that may still write hold the region? Drops all that the dead held. */
static bool vine_region_held(struct vine_core *c, struct vine_wire_region *r)
{
	bool held = false;
	u32 i, inc;

	for (i = 0; i < VINE_MAX_PEERS; i++) {
		/* before its slot: else a newcomer's hold meets its predecessor's word */
		inc = vine_ld32_acquire(&r->hold[i]);
		if (!inc)
			continue;
		if (vine_peer_current(c, i, inc))
			held = true;
		else
			vine_cas32(&r->hold[i], inc, 0);
	}
	return held;
}

/* The region dies, if it is @ctl still. */
static void vine_region_kill(struct vine_core *c, u32 index, u64 ctl)
{
	vine_cas64(&vine_region_entry(c, index)->ctl, ctl,
		   (ctl & ~0xffULL) | VINE_REGION_DYING);
}

/* Is it in use by an owner that can use it no more? */
static bool vine_region_orphan(struct vine_core *c, u64 ctl)
{
	u32 state = VINE_CTL_STATE(ctl);

	return state != VINE_REGION_FREE && state != VINE_REGION_DYING &&
		!vine_peer_current(c, VINE_CTL_SLOT(ctl), VINE_CTL_INC(ctl));
}

/*
 * Frees region @index if it is DYING, or its owner GONE, and nobody holds it. *@budget: the
 * chunks that may still be looked at.
 */
static void vine_region_finish(struct vine_core *c, u32 index, u32 *budget)
{
	struct vine_wire_region *r = vine_region_entry(c, index);
	u64 ctl = vine_ld64_acquire(&r->ctl);
	u64 id = vine_id_of(index, ctl);
	u32 i, first, count;

	if (vine_region_orphan(c, ctl)) {
		vine_region_kill(c, index, ctl);
		ctl = vine_ld64_acquire(&r->ctl);
		id = vine_id_of(index, ctl);
	}
	if (VINE_CTL_STATE(ctl) != VINE_REGION_DYING || vine_region_held(c, r))
		return;
	count = vine_extent(c, r, &first);
	if (count > *budget)
		return;		/* extents that overlap are lies; another time */
	*budget -= count;
	for (i = 0; i < count; i++)
		if (vine_ld64(vine_chunk_word(c, first + i)) == id)
			vine_cas64(vine_chunk_word(c, first + i), id, 0);
	vine_cas64(&r->ctl, ctl, VINE_CTL(VINE_CTL_GEN(ctl), 0, 0, VINE_REGION_FREE));
}

/* We let go of a region of @count chunks; one that says that it has more is for the tick. */
static void vine_hold_drop(struct vine_core *c, u32 index, u32 count)
{
	vine_cas32(&vine_region_entry(c, index)->hold[c->slot], c->inc, 0);
	vine_region_finish(c, index, &count);
}

static void vine_use_set(struct vine_core *c, u64 id, u32 first, u32 count, u32 slot,
			 u32 inc)
{
	struct vine_use *use = &c->use[VINE_REGION_INDEX(id)];
	u32 i;

	memset(use, 0, sizeof(*use));
	use->id = id;
	use->refs = 1;
	use->first = first;
	use->count = count;
	use->slot = slot;
	use->inc = inc;
	use->own = slot == c->slot;
	for (i = 0; i < count; i++)
		c->chunk_use[first + i] = VINE_REGION_INDEX(id) + 1;
}

static void vine_use_put(struct vine_core *c, struct vine_use *use)
{
	u32 i, index = VINE_REGION_INDEX(use->id);

	if (--use->refs)
		return;
	for (i = 0; i < use->count; i++)
		c->chunk_use[use->first + i] = 0;
	use->id = 0;
	vine_hold_drop(c, index, use->count);
}

/* Claims a FREE entry, held by us. False when there is none. */
static bool vine_claim_entry(struct vine_core *c, u32 *index, u64 *ctl)
{
	struct vine_wire_region *r;
	u64 old, new;
	u32 i;

	for (i = 0; i < VINE_MAX_REGIONS; i++) {
		r = vine_region_entry(c, i);
		old = vine_ld64_acquire(&r->ctl);
		if (VINE_CTL_STATE(old) != VINE_REGION_FREE || c->use[i].id)
			continue;
		new = VINE_CTL(vine_next(VINE_CTL_GEN(old)), c->inc, c->slot,
			       VINE_REGION_CLAIM);
		if (vine_cas64(&r->ctl, old, new) != old)
			continue;
		if (vine_cas32(&r->hold[c->slot], 0, c->inc) == 0) {
			*index = i;
			*ctl = new;
			return true;
		}
		/* somebody wrote there who should not: leave this entry alone */
		vine_region_kill(c, i, new);
	}
	return false;
}

#define VINE_MAX_ROLLBACKS	64

static bool vine_chunk_free(struct vine_core *c, u32 chunk)
{
	return !c->chunk_use[chunk] && !vine_ld64(vine_chunk_word(c, chunk));
}

/*
 * Tags a run of @count free chunks. One pass: who loses a race for a chunk rolls
 * back and goes on behind it; not for ever, for a hostile peer could make us lose
 * every one.
 */
static bool vine_claim_run(struct vine_core *c, u32 index, u64 id, u32 count, u32 *first)
{
	struct vine_wire_region *r = vine_region_entry(c, index);
	u32 at = 0, n = 0, lost = 0;

	while (at < c->geo.chunks && lost < VINE_MAX_ROLLBACKS) {
		if (!vine_chunk_free(c, at)) {
			at++;
			n = 0;
			continue;
		}
		at++;
		if (++n < count)
			continue;
		*first = at - count;
		/* before the tags: whoever finishes us must find them */
		vine_st64_release(&r->extent, VINE_EXTENT(*first, count));
		for (n = 0; n < count; n++)
			if (vine_cas64(vine_chunk_word(c, *first + n), 0, id))
				break;
		if (n == count)
			return true;
		at = *first + n + 1;
		while (n--)
			vine_cas64(vine_chunk_word(c, *first + n), id, 0);
		n = 0;
		lost++;
	}
	return false;
}

int vine_region_claim(struct vine_core *c, u64 bytes, u64 *id)
{
	u64 count = (bytes >> c->geo.shift) +
		    !!(bytes & ((1ULL << c->geo.shift) - 1));
	u32 index, first, tries;
	u64 ctl;

	if (!bytes)
		return -EINVAL;
	if (count > c->geo.chunks || !vine_claim_entry(c, &index, &ctl))
		return -ENOSPC;
	*id = vine_id_of(index, ctl);
	/* twice: a rival that rolled back may have hidden a free run */
	for (tries = 0; tries < 2; tries++) {
		if (vine_claim_run(c, index, *id, (u32)count, &first)) {
			vine_st64(&vine_region_entry(c, index)->bytes, bytes);
			vine_use_set(c, *id, first, (u32)count, c->slot, c->inc);
			return 0;
		}
	}
	vine_region_kill(c, index, ctl);
	vine_hold_drop(c, index, (u32)count);
	return -ENOSPC;
}

int vine_region_publish(struct vine_core *c, u64 id)
{
	u32 index = VINE_REGION_INDEX(id);
	u64 claim = VINE_CTL(VINE_REGION_GEN(id), c->inc, c->slot, VINE_REGION_CLAIM);
	u64 live = (claim & ~0xffULL) | VINE_REGION_LIVE;

	return vine_cas64(&vine_region_entry(c, index)->ctl, claim, live) == claim ?
		0 : -ENOSPC;
}

void vine_region_retire(struct vine_core *c, u64 id)
{
	struct vine_use *use = vine_use_of(c, id);
	u64 ctl = VINE_CTL(VINE_REGION_GEN(id), c->inc, c->slot, VINE_REGION_LIVE);

	if (!use)
		return;
	vine_region_kill(c, VINE_REGION_INDEX(id), ctl);
	vine_region_kill(c, VINE_REGION_INDEX(id),
			 (ctl & ~0xffULL) | VINE_REGION_CLAIM);
	vine_use_put(c, use);
}

/* More than the deepest pair of rings takes is no honest ring region. */
static u32 vine_most_ring_chunks(const struct vine_core *c)
{
	return (u32)(2 * VINE_RING_BYTES(VINE_MAX_DEPTH) >> c->geo.shift) + 1;
}

/* Are the chunks really @id's, and none of them in other use here? */
static int vine_check_chunks(struct vine_core *c, u64 id, u32 first, u32 count)
{
	u32 i;

	if (!count)
		return -EBADE;
	for (i = 0; i < count; i++)
		if (c->chunk_use[first + i] ||
		    vine_ld64(vine_chunk_word(c, first + i)) != id)
			return -EBADE;
	return 0;
}

int vine_region_import(struct vine_core *c, u64 id, u32 slot, u32 inc, bool rings)
{
	u32 most = rings ? vine_most_ring_chunks(c) : c->geo.chunks;
	u32 index = VINE_REGION_INDEX(id), first, count;
	u64 live = VINE_CTL(VINE_REGION_GEN(id), inc, slot, VINE_REGION_LIVE);
	struct vine_wire_region *r;
	struct vine_use *use;
	int err = -ENOENT;

	if (index >= VINE_MAX_REGIONS || id != VINE_REGION_ID(VINE_REGION_GEN(id), index))
		return -ENOENT;
	r = vine_region_entry(c, index);
	if (vine_ld64_acquire(&r->ctl) != live)
		return -ENOENT;
	use = vine_use_of(c, id);
	if (use) {
		/* the owner as we know it, not as the segment says now */
		if (use->slot != slot || use->inc != inc || use->rings != rings)
			return -EBADE;
		use->refs++;
		return 0;
	}
	/* in use under another identity, or a hold that is not ours: a liar */
	if (c->use[index].id || vine_cas32(&r->hold[c->slot], 0, c->inc) != 0)
		return -EBADE;
	/* the CAS is the full barrier: a finisher sees our hold, or we see DYING */
	if (vine_ld64_acquire(&r->ctl) == live) {
		count = vine_extent(c, r, &first);
		if (count > most)
			err = -EBADE;
		else
			err = vine_check_chunks(c, id, first, count);
		if (!err) {
			vine_use_set(c, id, first, count, slot, inc);
			c->use[index].rings = rings;
			return 0;
		}
	}
	vine_hold_drop(c, index, most);
	return err;
}

void vine_region_put(struct vine_core *c, u64 id)
{
	struct vine_use *use = vine_use_of(c, id);

	if (use)
		vine_use_put(c, use);
}

/* What the GONE own dies, and what they hold they let go, LIVE regions too. */
void vine_region_reap(struct vine_core *c)
{
	u32 i;

	for (i = 0; i < VINE_MAX_REGIONS; i++) {
		vine_region_held(c, vine_region_entry(c, i));
		vine_region_finish(c, i, &c->budget);
	}
}

#define VINE_SWEEP_CHUNKS	1024	/* per tick */

/* Finishes what others left, and frees garbage chunks. */
void vine_region_sweep(struct vine_core *c)
{
	u32 i, at, index;
	__le64 *word;
	u64 tag, ctl;

	for (i = 0; i < VINE_MAX_REGIONS; i++)
		vine_region_finish(c, i, &c->budget);
	for (i = 0; i < min_t(u32, c->geo.chunks, VINE_SWEEP_CHUNKS); i++) {
		at = c->sweep_at;
		c->sweep_at = at + 1 < c->geo.chunks ? at + 1 : 0;
		word = vine_chunk_word(c, at);
		tag = vine_ld64_acquire(word);	/* before the region's word */
		if (!tag || c->chunk_use[at])
			continue;
		index = VINE_REGION_INDEX(tag);
		if (index < VINE_MAX_REGIONS) {
			ctl = vine_ld64_acquire(&vine_region_entry(c, index)->ctl);
			if (vine_id_of(index, ctl) == tag &&
			    VINE_CTL_STATE(ctl) != VINE_REGION_FREE)
				continue;
		}
		vine_cas64(word, tag, 0);
	}
}
