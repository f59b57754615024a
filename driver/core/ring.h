/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * ring.h - a single-producer, single-consumer ring of 64-byte cells
 *
 * Each side has its own position in private memory. What the other side says is
 * accepted only when it is possible; -EIO otherwise, and the queue is broken.
 *
 *   producer                           consumer
 *   --------                           --------
 *   payload                            head == index + 1 ?   acquire  (R1)
 *   head = index + 1     release (R1)  payload
 *   ...                                ...
 *   MB                           (E)   event = consumed
 *   read event                         MB                           (E)
 *     crossed? mark and ring           look at the next head again, sleep
 *
 *   space_event = seen                 consumed = n      release    (R2)
 *   MB                           (S)   MB                           (S)
 *   read consumed again  acquire (R2)  read space_event
 *     none? sleep                        crossed? mark and ring
 *
 * Letters name the pairs; Documentation/barriers.md has the interleavings.
 */
#ifndef VINE_CORE_RING_H
#define VINE_CORE_RING_H

#include "env.h"
#include <linux/vine_wire.h>

struct vine_producer {
	struct vine_wire_ring *ring;
	u32 depth;
	u64 tail;	/* the next cell to write */
	u64 consumed;	/* the consumer's index as last seen */
	u64 told;	/* tail at the last look at the event index */
};

struct vine_consumer {
	struct vine_wire_ring *ring;
	u32 depth;
	u64 head;	/* the next cell to read */
	u64 published;	/* the index that the producer can see */
};

/* A message in private memory. */
struct vine_cell {
	u64 word[VINE_CELL_PAYLOAD / 8];
	u32 bytes;
};

static inline struct vine_wire_cell *vine_ring_cell(struct vine_wire_ring *ring,
						    u32 depth, u64 index)
{
	return (struct vine_wire_cell *)(ring + 1) + (index & (depth - 1));
}

/* Did going from @old to @new cross @event? Indices run free (virtio 1.2, 2.7.10). */
static inline bool vine_crossed(u64 event, u64 new, u64 old)
{
	return new - event - 1 < new - old;
}

/*
 * How many cells can be pushed: at least @want, or all there is. Looks at the
 * shared index only when the cached one is not enough. -EIO when it is impossible.
 */
static inline int vine_ring_space(struct vine_producer *p, u32 want)
{
	u64 consumed;

	if (p->depth - (p->tail - p->consumed) < want) {
		consumed = vine_ld64_acquire(&p->ring->consumed);	/* R2 */
		if (consumed - p->consumed > p->tail - p->consumed)
			return -EIO;
		p->consumed = consumed;
	}
	return (int)(p->depth - (p->tail - p->consumed));
}

/* Writes one cell; there is space for it. */
static inline void vine_ring_push(struct vine_producer *p, const struct vine_cell *m)
{
	struct vine_wire_cell *cell = vine_ring_cell(p->ring, p->depth, p->tail);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(m->word); i++)
		vine_st64(&cell->payload[i], m->word[i]);
	p->tail++;
	vine_st64_release(&cell->head, VINE_CELL_HEAD(p->tail, m->bytes));	/* R1 */
}

/* After a batch of pushes: must the consumer be told? */
static inline bool vine_ring_pushed(struct vine_producer *p)
{
	u64 told = p->told;

	vine_mb();	/* E */
	p->told = p->tail;
	return vine_crossed(vine_ld64(&p->ring->event), p->tail, told);
}

/* Before sleeping for space. True when there is some after all; -EIO as above. */
static inline int vine_ring_arm_space(struct vine_producer *p)
{
	vine_st64(&p->ring->space_event, p->consumed);
	vine_mb();	/* S */
	return vine_ring_space(p, 1);
}

/*
 * Is there a cell @ahead of the next one? It is copied once, then checked.
 * Return: 1, 0, or -EIO.
 */
static inline int vine_ring_peek(const struct vine_consumer *r, u32 ahead,
				 struct vine_cell *m)
{
	u64 index = r->head + ahead;
	struct vine_wire_cell *cell = vine_ring_cell(r->ring, r->depth, index);
	u64 head = vine_ld64_acquire(&cell->head);	/* R1 */
	unsigned int i;

	if (VINE_CELL_SEQ(head) != index + 1) {
		/* then it must be what the producer wrote a round ago */
		u64 last = index >= r->depth ? index + 1 - r->depth : 0;

		return VINE_CELL_SEQ(head) == last ? 0 : -EIO;
	}
	m->bytes = VINE_CELL_BYTES(head);
	if (m->bytes > VINE_CELL_PAYLOAD)
		return -EIO;
	for (i = 0; i < ARRAY_SIZE(m->word); i++)
		m->word[i] = vine_ld64(&cell->payload[i]);
	return 1;
}

/* Is there a cell? As vine_ring_peek(), without the copy. */
static inline int vine_ring_ready(const struct vine_consumer *r)
{
	struct vine_wire_cell *cell = vine_ring_cell(r->ring, r->depth, r->head);
	u64 seq = VINE_CELL_SEQ(vine_ld64(&cell->head));

	if (seq == r->head + 1)
		return 1;
	return seq == (r->head >= r->depth ? r->head + 1 - r->depth : 0) ? 0 : -EIO;
}

/*
 * How many cells wait, for people. Those that were written come first, so it looks for
 * the first that was not; a producer that lies gets some other number up to the depth.
 */
static inline u32 vine_ring_waiting(const struct vine_consumer *r)
{
	u32 low = 0, high = r->depth, mid;
	struct vine_wire_cell *cell;

	while (low < high) {
		mid = low + (high - low) / 2;
		cell = vine_ring_cell(r->ring, r->depth, r->head + mid);
		if (VINE_CELL_SEQ(vine_ld64(&cell->head)) == r->head + mid + 1)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Publishes what was consumed. Must the producer be told? */
static inline bool vine_ring_publish(struct vine_consumer *r)
{
	u64 old = r->published;

	if (r->head == old)
		return false;
	vine_st64_release(&r->ring->consumed, r->head);	/* R2 */
	r->published = r->head;
	vine_mb();	/* S */
	return vine_crossed(vine_ld64(&r->ring->space_event), r->head, old);
}

/* Lets go of @n cells that have been copied. As vine_ring_publish(), if it is time. */
static inline bool vine_ring_consume(struct vine_consumer *r, u32 n)
{
	r->head += n;
	return r->head - r->published >= (r->depth + 3) / 4 && vine_ring_publish(r);
}

/* Before sleeping for cells; all is published. As vine_ring_ready(). */
static inline int vine_ring_arm(struct vine_consumer *r)
{
	vine_st64(&r->ring->event, r->head);
	vine_mb();	/* E */
	return vine_ring_ready(r);
}

#endif /* VINE_CORE_RING_H */
