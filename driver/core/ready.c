// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * ready.c - readiness: leaf words, summaries, drain_seq and doorbells
 *
 *   producer                          drain
 *   --------                          -----
 *   set leaf bit                      drain_seq++
 *   set summary bit                   MB                            (D)
 *   MB                          (D)   take summary, then leaf words
 *   s = drain_seq
 *     s not rung yet? ring
 *
 * Either the drain sees the bits, or the producer sees the new drain_seq and
 * rings: one drain answers one value of drain_seq. A doorbell may be dropped on
 * the way (nobody promises more), so the tick drains too.
 */
#include "core.h"

static struct vine_wire_vector *vine_vector(struct vine_core *c, u32 slot, u32 v)
{
	return &vine_peer(c, slot)->vector[vine_nospec(v, 64)];
}

void vine_ready_mark(struct vine_core *c, u32 slot, u32 leaf, u32 bit)
{
	u64 word = vine_ld64(&vine_peer(c, slot)->word);
	u32 vectors = VINE_PEER_VECTORS(word);
	u32 v = vectors ? leaf % vectors : 0;
	/* two processes of one host: without any device */
	bool host = word & VINE_PEER_HOST && c->ops->wake;
	struct vine_rung *dst = &c->dst[slot];
	__le64 *bell;
	u64 seq, now;

	vine_set_bit64(&vine_peer(c, slot)->leaf[leaf], bit);
	/*
	 * Always: that the leaf was set already says nothing of its summary bit.
	 * The read-modify-write is barrier (D).
	 */
	vine_set_bit64(&vine_vector(c, slot, v)->summary[leaf / 64], leaf % 64);
	if (!vectors && !host)
		return;		/* it polls */
	/* "already rung" rests on our own doorbells only: others may be paused */
	vine_lock(&dst->lock);
	seq = vine_ld64_acquire(&vine_vector(c, slot, v)->drain_seq);
	/*
	 * Read after it: if this is the successor of the peer that we marked, then the
	 * one has drained without us, and a doorbell to the other was not rung.
	 */
	now = vine_ld64(&vine_peer(c, slot)->word);
	if (VINE_PEER_INC(now) == VINE_PEER_INC(word) && seq != dst->rung[v]) {
		dst->rung[v] = seq;
		if (host) {
			bell = &vine_vector(c, slot, 0)->bell;
			/* when another one is faster it has changed as well */
			now = vine_ld64(bell);
			vine_cas64(bell, now, now + 1);
			c->ops->wake(c, bell);
		} else {
			c->ops->doorbell(c, VINE_PEER_IVPOS(word), v);
		}
	}
	vine_unlock(&dst->lock);
}

void vine_ready_tables(struct vine_core *c)
{
	u32 i;

	for (i = 0; i < VINE_MAX_PEERS; i++)
		if (VINE_PEER_STATE(vine_ld64(&vine_peer(c, i)->word)) == VINE_PEER_LIVE)
			vine_ready_mark(c, i, VINE_LEAF_TABLES, 0);
}

void vine_drain(struct vine_core *c, u32 vector, vine_ready_fn fn, void *arg)
{
	struct vine_wire_vector *vec = vine_vector(c, c->slot, vector);
	struct vine_wire_peer *self = vine_peer(c, c->slot);
	u64 leaves, bits;
	u32 i, leaf;

	vine_st64(&vec->drain_seq, ++c->drain_seq[vector]);
	vine_mb();	/* D */
	for (i = 0; i < VINE_SUMMARIES; i++) {
		if (!vine_ld64(&vec->summary[i]))
			continue;
		leaves = vine_xchg64(&vec->summary[i], 0);
		while (leaves) {
			leaf = i * 64 + vine_lowest_bit(leaves);
			leaves &= leaves - 1;
			bits = vine_xchg64(&self->leaf[leaf], 0);
			if (bits)
				fn(arg, leaf, bits);
		}
	}
}
