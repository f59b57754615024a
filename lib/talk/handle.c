// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * handle.c - handles: opaque numbers instead of pointers, so that stale ones are seen
 *
 * A handle is a tag and the index of a slot in a table. The slot has the tag too, and
 * changes it when the handle is closed; so a number that is no handle, or no more, matches
 * no slot. A tag begins with the kind, 1 to 4 in its upper three bits: no address of this
 * process looks like that.
 *
 * Tag and references of a slot are one word, so that a reference is taken only of what is
 * open, with one compare-and-swap. Nothing of the table is ever freed: any index below
 * @used may be looked at, at any time.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "talk/talk.h"

#define CHUNK		4096u	/* slots allocated at a time */
#define CHUNKS		4096u	/* 16 million handles */
#define COUNT_BITS	29	/* of the tag: how often the slot was opened and closed */

_Static_assert(sizeof(void *) == 8, "a handle is a tag and an index of 32 bits each");

struct slot {
	_Atomic(uint64_t) word;		/* tag << 32 | references */
	_Atomic(struct handle *) object;
	atomic_uint next;		/* in the list of free slots */
};

static _Atomic(struct slot *) chunks[CHUNKS];
static atomic_uint used;		/* slots that were ever used */
static _Atomic(uint64_t) free_list;	/* changes << 32 | index + 1 of the first; 0: none */
static uint32_t first;			/* those below are a parent's: see handle_forked() */

static uint32_t tag_of(uint64_t word_or_value)
{
	return word_or_value >> 32;
}

static uint32_t kind_of(uint32_t tag)
{
	return tag >> COUNT_BITS;	/* 0: closed */
}

static uint32_t next_tag(uint32_t tag, uint32_t kind)
{
	return kind << COUNT_BITS | ((tag + 1) & ((1u << COUNT_BITS) - 1));
}

static uint64_t value_of(const void *value)
{
	return (uintptr_t)value;
}

/* NULL: there is no such slot. */
static struct slot *slot_at(uint32_t index)
{
	struct slot *chunk;

	if (index < first || index >= CHUNK * CHUNKS)
		return NULL;
	chunk = atomic_load_explicit(&chunks[index / CHUNK], memory_order_acquire);
	return chunk ? &chunk[index % CHUNK] : NULL;
}

static struct slot *slot_of(struct handle *h)
{
	return slot_at((uint32_t)value_of(h->value));
}

/* ---- free slots ---- */

static void give_back(struct slot *slot, uint32_t index)
{
	uint64_t old = atomic_load_explicit(&free_list, memory_order_relaxed), new;

	do {
		atomic_store_explicit(&slot->next, (uint32_t)old, memory_order_relaxed);
		new = (old & ~0xffffffffULL) + (1ULL << 32) + index + 1;
	} while (!atomic_compare_exchange_weak_explicit(&free_list, &old, new,
							memory_order_release,
							memory_order_relaxed));
}

/*
 * The number of changes in @free_list keeps a slot that came and went from being taken for one
 * that stayed.
 */
static struct slot *take_freed(uint32_t *index)
{
	uint64_t old = atomic_load_explicit(&free_list, memory_order_acquire), new;
	struct slot *slot;

	do {
		if (!(uint32_t)old)
			return NULL;
		*index = (uint32_t)old - 1;
		slot = slot_at(*index);
		new = (old & ~0xffffffffULL) + (1ULL << 32) +
		      atomic_load_explicit(&slot->next, memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(&free_list, &old, new,
							memory_order_acquire,
							memory_order_acquire));
	return slot;
}

static struct slot *take_new(uint32_t *index)
{
	struct slot *chunk, *none = NULL;
	uint32_t i = atomic_load_explicit(&used, memory_order_relaxed);

	do {
		if (i == CHUNK * CHUNKS)
			return NULL;
		if (atomic_load_explicit(&chunks[i / CHUNK], memory_order_acquire))
			continue;
		chunk = calloc(CHUNK, sizeof(*chunk));
		if (!chunk)
			return NULL;
		none = NULL;
		if (!atomic_compare_exchange_strong(&chunks[i / CHUNK], &none, chunk))
			free(chunk);	/* another thread was faster */
	} while (!atomic_compare_exchange_weak(&used, &i, i + 1));
	*index = i;
	return slot_at(i);
}

/* ---- handles ---- */

int handle_open(struct handle *h, enum handle_kind kind, void (*destroy)(struct handle *h))
{
	uint32_t index, tag;
	struct slot *slot;

	slot = take_freed(&index);
	if (!slot)
		slot = take_new(&index);
	if (!slot)
		return -ENOMEM;
	tag = next_tag(tag_of(atomic_load_explicit(&slot->word, memory_order_relaxed)), kind);
	h->value = (void *)(uintptr_t)((uint64_t)tag << 32 | index);
	h->destroy = destroy;
	atomic_store_explicit(&slot->object, h, memory_order_relaxed);
	atomic_store_explicit(&slot->word, (uint64_t)tag << 32 | 1, memory_order_release);
	return 0;
}

void *handle_get(enum handle_kind kind, const void *value)
{
	uint32_t tag = tag_of(value_of(value));
	struct slot *slot = slot_at((uint32_t)value_of(value));
	uint64_t word;

	if (!slot || kind_of(tag) != kind)
		return NULL;
	word = atomic_load_explicit(&slot->word, memory_order_relaxed);
	do {
		if (tag_of(word) != tag)
			return NULL;
	} while (!atomic_compare_exchange_weak_explicit(&slot->word, &word, word + 1,
							memory_order_acquire,
							memory_order_relaxed));
	return atomic_load_explicit(&slot->object, memory_order_relaxed);
}

void handle_hold(struct handle *h)
{
	atomic_fetch_add_explicit(&slot_of(h)->word, 1, memory_order_relaxed);
}

static void destroy(struct slot *slot, uint32_t index)
{
	struct handle *h = atomic_load_explicit(&slot->object, memory_order_relaxed);

	h->destroy(h);
	give_back(slot, index);
}

void handle_put(struct handle *h)
{
	uint32_t index = (uint32_t)value_of(h->value);
	struct slot *slot = slot_at(index);
	uint64_t word = atomic_fetch_sub_explicit(&slot->word, 1, memory_order_acq_rel);

	if ((uint32_t)word == 1)
		destroy(slot, index);
}

bool handle_close(enum handle_kind kind, const void *value)
{
	uint32_t index = (uint32_t)value_of(value), tag = tag_of(value_of(value));
	struct slot *slot = slot_at(index);
	uint64_t word, closed;

	if (!slot || kind_of(tag) != kind)
		return false;
	word = atomic_load_explicit(&slot->word, memory_order_relaxed);
	do {
		if (tag_of(word) != tag)
			return false;
		closed = (uint64_t)next_tag(tag, 0) << 32 | ((uint32_t)word - 1);
	} while (!atomic_compare_exchange_weak_explicit(&slot->word, &word, closed,
							memory_order_acq_rel,
							memory_order_relaxed));
	if (!(uint32_t)closed)
		destroy(slot, index);
	return true;
}

void handle_close_all(enum handle_kind kind)
{
	uint32_t i, n = atomic_load(&used);

	for (i = first; i < n; i++) {
		uint64_t tag = tag_of(atomic_load(&slot_at(i)->word));

		handle_close(kind, (void *)(uintptr_t)(tag << 32 | i));
	}
}

/*
 * The parent's slots stay as they are, in memory that need not be copied for it, and are
 * not used again: no handle of the child can look like one of them.
 */
void handle_forked(void)
{
	first = atomic_load(&used);
	atomic_store(&free_list, 0);
}
