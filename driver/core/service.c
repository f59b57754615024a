// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * service.c - services and their backlogs
 *
 * A service goes FREE -> CLAIM -> LIVE -> CLAIM -> FREE. A client that has set its
 * backlog bit looks again whether the service is LIVE; a server that withdraws looks
 * at the backlog when it is LIVE no more. Each access is a read-modify-write or has a full
 * barrier before it, so one of them sees the other.
 */
#include "core.h"

static u64 vine_service_ctl(struct vine_core *c, u32 gen, u32 state)
{
	return VINE_CTL(gen, c->inc, c->slot, state);
}

/* Another offerer may be writing it: vine_service_read() then drops what this got. */
static void vine_service_name(struct vine_wire_service *s, char *name)
{
	u32 i;

	for (i = 0; i < VINE_NAME_SIZE - 1; i++)
		name[i] = (char)READ_ONCE(s->name[i]);
	name[i] = 0;
}

static void vine_service_set_name(struct vine_wire_service *s, const char *name)
{
	size_t i, n = strnlen(name, VINE_NAME_SIZE - 1);

	for (i = 0; i < VINE_NAME_SIZE; i++)
		WRITE_ONCE(s->name[i], i < n ? (u8)name[i] : 0);
}

bool vine_service_read(struct vine_core *c, u32 index, struct vine_service_seen *seen)
{
	struct vine_wire_service *s = vine_service(c, index);
	u64 ctl = vine_ld64_acquire(&s->ctl);

	if (VINE_CTL_STATE(ctl) != VINE_SERVICE_LIVE ||
	    VINE_CTL_SLOT(ctl) >= VINE_MAX_PEERS)
		return false;
	seen->index = index;
	seen->gen = VINE_CTL_GEN(ctl);
	seen->slot = VINE_CTL_SLOT(ctl);
	seen->inc = VINE_CTL_INC(ctl);
	seen->type = vine_ld64(&s->type);
	vine_service_name(s, seen->name);
	/* withdrawn or offered anew meanwhile: the name may be half of each */
	vine_mb();
	return vine_ld64(&s->ctl) == ctl && vine_peer_live(c, seen->slot, seen->inc);
}

bool vine_service_find(struct vine_core *c, u64 id, const u8 *name,
		       struct vine_service_seen *found)
{
	struct vine_service_seen seen;
	bool any = false;
	u32 i;

	for (i = 0; i < VINE_MAX_SERVICES; i++) {
		if (!vine_service_read(c, i, &seen))
			continue;
		if (id ? id != vine_service_id(i, seen.gen) :
			 strncmp(seen.name, (const char *)name, VINE_NAME_SIZE))
			continue;
		if (!any || seen.slot < found->slot)
			*found = seen;
		any = true;
	}
	return any;
}

int vine_check_name(const u8 *name)
{
	size_t n = strnlen((const char *)name, VINE_NAME_SIZE), i;

	if (!n || n == VINE_NAME_SIZE)
		return -EINVAL;
	for (i = n; i < VINE_NAME_SIZE; i++)
		if (name[i])
			return -EINVAL;
	return 0;
}

int vine_service_offer(struct vine_core *c, struct vine_listener *l, const char *name,
		       u64 type)
{
	struct vine_wire_service *s;
	struct vine_service_seen seen;
	u64 old, claim;
	u32 i;

	for (i = 0; i < VINE_MAX_SERVICES; i++)
		if (vine_service_read(c, i, &seen) && seen.slot == c->slot &&
		    !strncmp(seen.name, name, VINE_NAME_SIZE))
			return -EADDRINUSE;
	for (i = 0; i < VINE_MAX_SERVICES; i++) {
		s = vine_service(c, i);
		old = vine_ld64_acquire(&s->ctl);
		if (VINE_CTL_STATE(old) != VINE_SERVICE_FREE)
			continue;
		memset(l, 0, sizeof(*l));
		l->index = i;
		l->gen = vine_next(VINE_CTL_GEN(old));
		claim = vine_service_ctl(c, l->gen, VINE_SERVICE_CLAIM);
		if (vine_cas64(&s->ctl, old, claim) != old)
			continue;
		vine_service_set_name(s, name);
		vine_st64(&s->type, type);
		vine_cas64(&s->ctl, claim,
			   vine_service_ctl(c, l->gen, VINE_SERVICE_LIVE));
		vine_ready_tables(c);
		return 0;
	}
	return -ENOSPC;
}

bool vine_service_waiting(struct vine_core *c, struct vine_listener *l)
{
	struct vine_wire_service *s = vine_service(c, l->index);
	u64 any = 0;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(l->pending); i++) {
		if (vine_ld64(&s->backlog[i]))
			l->pending[i] |= vine_xchg64(&s->backlog[i], 0);
		any |= l->pending[i];
	}
	return any;
}

/* Refuses queue @index if it asks for this service still. */
static void vine_service_refuse(struct vine_core *c, struct vine_listener *l, u32 index)
{
	struct vine_wire_queue *e = vine_queue_entry(c, index);
	u64 ctl = vine_ld64_acquire(&e->ctl);
	u32 slot = VINE_CTL_SLOT(ctl);

	if (VINE_CTL_STATE(ctl) != VINE_QUEUE_CONNECTING || slot >= VINE_MAX_PEERS ||
	    vine_ld64(&e->server) != VINE_SERVER(l->gen, c->inc, c->slot, l->index))
		return;
	if (vine_cas64(&e->ctl, ctl, (ctl & ~0xffULL) | VINE_QUEUE_REFUSED) == ctl)
		vine_ready_mark(c, slot, VINE_LEAF_CLIENT + index / 64, index % 64);
}

void vine_service_withdraw(struct vine_core *c, struct vine_listener *l)
{
	u64 live = vine_service_ctl(c, l->gen, VINE_SERVICE_LIVE);
	u64 claim = vine_service_ctl(c, l->gen, VINE_SERVICE_CLAIM);
	__le64 *ctl = &vine_service(c, l->index)->ctl;
	u32 i;

	/* not FREE yet: a successor's backlog is not ours to take */
	vine_cas64(ctl, live, claim);
	vine_service_waiting(c, l);
	for (i = 0; i < VINE_MAX_QUEUES; i++)
		if (l->pending[i / 64] >> (i % 64) & 1)
			vine_service_refuse(c, l, i);
	vine_cas64(ctl, claim, VINE_CTL(l->gen, 0, 0, VINE_SERVICE_FREE));
	vine_ready_tables(c);
}

void vine_service_sweep(struct vine_core *c)
{
	struct vine_wire_service *s;
	u64 ctl;
	u32 i;

	for (i = 0; i < VINE_MAX_SERVICES; i++) {
		s = vine_service(c, i);
		ctl = vine_ld64_acquire(&s->ctl);
		if (VINE_CTL_STATE(ctl) != VINE_SERVICE_FREE &&
		    !vine_peer_current(c, VINE_CTL_SLOT(ctl), VINE_CTL_INC(ctl)))
			vine_cas64(&s->ctl, ctl, VINE_CTL(VINE_CTL_GEN(ctl), 0, 0,
							  VINE_SERVICE_FREE));
	}
}
