// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * peer.c - peer slots: joining, beating, suspecting, reaping
 *
 * A slot goes FREE -> LIVE -> SUSPECT -> GONE -> FREE, by CAS on its one word. A
 * silent peer is only suspect: a paused machine goes on writing when it wakes, so
 * nothing of it is reused until somebody who knows says that it is GONE.
 */
#include "core.h"

static u64 vine_with_state(u64 word, u32 state)
{
	return (word & ~0xffULL) | state;
}

bool vine_peer_live(struct vine_core *c, u32 slot, u32 inc)
{
	u64 word = vine_ld64_acquire(&vine_peer(c, slot % VINE_MAX_PEERS)->word);

	return slot < VINE_MAX_PEERS && VINE_PEER_INC(word) == inc &&
		VINE_PEER_STATE(word) == VINE_PEER_LIVE;
}

bool vine_peer_current(struct vine_core *c, u32 slot, u32 inc)
{
	u64 word = vine_ld64_acquire(&vine_peer(c, slot % VINE_MAX_PEERS)->word);

	return slot < VINE_MAX_PEERS && VINE_PEER_INC(word) == inc &&
		(VINE_PEER_STATE(word) == VINE_PEER_LIVE ||
		 VINE_PEER_STATE(word) == VINE_PEER_SUSPECT);
}

/*
 * Hands back all that the GONE had (and whatever else belongs to nobody), then their
 * slots. Everybody may, at the same time: each step names the incarnation, and the
 * slots come last. Once for all of them: a liar may say GONE of every slot.
 * Their readiness words are not touched: a slow reaper would wipe their successors'.
 */
static void vine_reap(struct vine_core *c)
{
	u64 gone[VINE_MAX_PEERS];
	bool any = false;
	u32 slot;

	for (slot = 0; slot < VINE_MAX_PEERS; slot++) {
		gone[slot] = vine_ld64_acquire(&vine_peer(c, slot)->word);
		any |= VINE_PEER_STATE(gone[slot]) == VINE_PEER_GONE;
	}
	if (!any)
		return;
	vine_service_sweep(c);
	vine_queue_sweep(c);
	vine_region_reap(c);
	for (slot = 0; slot < VINE_MAX_PEERS; slot++)
		if (VINE_PEER_STATE(gone[slot]) == VINE_PEER_GONE)
			vine_cas64(&vine_peer(c, slot)->word, gone[slot],
				   vine_with_state(gone[slot], VINE_PEER_FREE));
	vine_ready_tables(c);
}

/* Declares the peer in @slot, last seen as @word, gone. The caller reaps. */
static void vine_bury(struct vine_core *c, u32 slot, u64 word)
{
	u32 inc = VINE_PEER_INC(word), tries;
	u64 now;

	/* it may become suspect, or GONE, under our hands */
	for (tries = 0; tries < 3; tries++) {
		if (VINE_PEER_INC(word) != inc || VINE_PEER_STATE(word) == VINE_PEER_FREE)
			return;
		now = vine_cas64(&vine_peer(c, slot)->word, word,
				 vine_with_state(word, VINE_PEER_GONE));
		if (now == word)
			return;
		word = now;
	}
}

int vine_peer_bury(struct vine_core *c, u32 slot, u32 inc)
{
	u64 word = vine_ld64_acquire(&vine_peer(c, slot % VINE_MAX_PEERS)->word);
	u32 state = VINE_PEER_STATE(word);

	if (slot >= VINE_MAX_PEERS || VINE_PEER_INC(word) != inc || state == VINE_PEER_FREE)
		return -ENOENT;
	/* ourselves: others may suspect us, but we have not stopped */
	if (slot == c->slot || (state != VINE_PEER_SUSPECT && state != VINE_PEER_GONE))
		return -EBUSY;
	c->budget = c->geo.chunks;
	vine_bury(c, slot, word);
	vine_reap(c);
	return 0;
}

/* Is @word that of a process on the host, and are we another one, that can see its lock? */
static bool vine_sees_lock(struct vine_core *c, u64 word)
{
	u32 state = VINE_PEER_STATE(word);

	/* the lock came before this word, and goes after it */
	return (state == VINE_PEER_LIVE || state == VINE_PEER_SUSPECT) &&
		word & VINE_PEER_HOST && c->ops->dead;
}

static bool vine_host_dead(struct vine_core *c, u32 slot, u64 word)
{
	return vine_sees_lock(c, word) && c->ops->dead(c, slot);
}

/* Claims @slot if it is free, and sets the word. */
static bool vine_claim_slot(struct vine_core *c, u32 slot, u64 fields)
{
	__le64 *p = &vine_peer(c, slot)->word;
	u64 old = vine_ld64_acquire(p);

	if (VINE_PEER_STATE(old) != VINE_PEER_FREE)
		return false;
	/* the lock first: without it others take us for dead */
	if (c->ops->lock && !c->ops->lock(c, slot, true))
		return false;
	c->word = fields | (u64)vine_next(VINE_PEER_INC(old)) << 32;
	if (vine_cas64(p, old, c->word) == old)
		return true;
	if (c->ops->lock)
		c->ops->lock(c, slot, false);
	return false;
}

int vine_join(struct vine_core *c, u32 ivpos, u32 vectors, bool unique, u32 timeout_ticks)
{
	u64 fields = VINE_PEER(0, ivpos, vectors, VINE_PEER_LIVE) |
		     (unique ? VINE_PEER_UNIQUE : 0) | (c->ops->wake ? VINE_PEER_HOST : 0);
	struct vine_wire_peer *p;
	u32 slot, state, i;
	u64 old;

	c->budget = c->geo.chunks;
	for (slot = 0; slot < VINE_MAX_PEERS; slot++) {
		old = vine_ld64_acquire(&vine_peer(c, slot)->word);
		state = VINE_PEER_STATE(old);
		if (vine_host_dead(c, slot, old)) {
			vine_bury(c, slot, old);
		} else if (state != VINE_PEER_FREE && unique && old & VINE_PEER_UNIQUE &&
			   VINE_PEER_IVPOS(old) == ivpos) {
			/* it lives: who gave us the ID had forgotten that */
			if (vine_sees_lock(c, old))
				return -EADDRINUSE;
			vine_bury(c, slot, old);
		}
	}
	vine_reap(c);
	for (slot = 0; slot < VINE_MAX_PEERS; slot++)
		if (vine_claim_slot(c, slot, fields))
			break;
	if (slot == VINE_MAX_PEERS)
		return -EUSERS;
	p = vine_peer(c, slot);
	c->slot = slot;
	c->inc = VINE_PEER_INC(c->word);
	c->vectors = vectors;
	c->timeout_ticks = timeout_ticks;
	/* what our predecessor was told; nobody talks to us yet */
	for (i = 0; i < ARRAY_SIZE(p->vector); i++) {
		u32 k;

		for (k = 0; k < VINE_SUMMARIES; k++)
			vine_st64(&p->vector[i].summary[k], 0);
		c->drain_seq[i] = vine_ld64(&p->vector[i].drain_seq);
	}
	for (i = 0; i < VINE_LEAVES; i++)
		vine_st64(&p->leaf[i], 0);
	vine_mb();
	return 0;
}

/* Is it still the segment that we joined? */
static bool vine_same_segment(struct vine_core *c)
{
	struct vine_wire_header *h = vine_header(c);

	return vine_ld64(&h->format) == c->geo.format &&
		vine_ld64(&h->generation) == c->generation;
}

void vine_leave(struct vine_core *c)
{
	u64 word = vine_ld64(&vine_peer(c, c->slot)->word);

	/*
	 * Unless somebody said so before us, and perhaps gave the slot away; or the
	 * segment was wiped, and a newcomer's word looks just like ours.
	 */
	if (!vine_same_segment(c) || VINE_PEER_INC(word) != c->inc)
		return;
	c->budget = c->geo.chunks;
	vine_bury(c, c->slot, word);
	vine_reap(c);
}

/* Can the peer with this slot word ring us? Otherwise we have to look by ourselves. */
static bool vine_rings_us(struct vine_core *c, u64 word)
{
	if (word & VINE_PEER_HOST && c->ops->wake)
		return true;
	return VINE_PEER_VECTORS(word) && c->vectors;
}

/* One look at another peer's slot. Has it changed? */
static bool vine_watch(struct vine_core *c, u32 slot)
{
	struct vine_wire_peer *p = vine_peer(c, slot);
	struct vine_seen *seen = &c->seen[slot];
	u64 word = vine_ld64_acquire(&p->word);
	u64 beat = vine_ld64(&p->beat);
	bool changed = word != seen->word;

	if (vine_host_dead(c, slot, word)) {
		vine_bury(c, slot, word);
		changed = true;
	} else if (VINE_PEER_STATE(word) == VINE_PEER_LIVE) {
		c->polled_peers |= !vine_rings_us(c, word);
		if (changed || beat != seen->beat) {
			seen->idle = 0;
		} else if (++seen->idle >= c->timeout_ticks) {
			u64 suspect = vine_with_state(word, VINE_PEER_SUSPECT);

			if (vine_cas64(&p->word, word, suspect) == word) {
				word = suspect;
				changed = true;
				vine_ready_tables(c);
			}
		}
	} else if (VINE_PEER_STATE(word) == VINE_PEER_SUSPECT) {
		seen->idle = beat == seen->beat ? seen->idle + 1 : 0;	/* for people */
	}
	seen->word = word;
	seen->beat = beat;
	return changed;
}

unsigned int vine_tick(struct vine_core *c)
{
	struct vine_wire_peer *self = vine_peer(c, c->slot);
	bool changed = false;
	u32 slot;

	if (vine_ld64(&self->word) != c->word || !vine_same_segment(c))
		return VINE_TICK_FENCED;
	c->budget = c->geo.chunks;
	vine_st64(&self->beat, vine_ld64(&self->beat) + 1);
	c->polled_peers = false;
	for (slot = 0; slot < VINE_MAX_PEERS; slot++)
		if (slot != c->slot)
			changed |= vine_watch(c, slot);
	vine_reap(c);
	vine_service_sweep(c);
	vine_queue_sweep(c);
	vine_region_sweep(c);
	return changed ? VINE_TICK_CHANGED : 0;
}
