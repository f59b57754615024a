/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * One queue entry, from claim to reuse, its ring memory, and every death.
 *
 * A client (slot C) connects OPS times through the one entry; a server (slot S) accepts
 * or refuses. Both may die at any step; the death becomes GONE at any later time; the
 * slot, once reaped, is claimed by the next incarnation, which goes on. Two reapers: one
 * may stop at any step for ever, one lives. Every access to shared memory is one step
 * (one "atomic"), and so is a CAS; what else stands in an atomic is private.
 *
 * Words:
 *   q       {generation, state, client's incarnation}, one word, CAS only. The identity
 *           of the client must be in the word that is claimed (see the twin).
 *   q_srv, q_ring   plain, written by the client while it is CLAIM: which incarnation
 *           of the server is meant, which generation of the ring region is used
 *   closed[side]    the generation that this side has closed; single writer
 *   r, r_hold[side] the ring region and its holds, as in region.pml, its chunks left out
 *
 * PACKED: the ring lies in a ring chunk that the client's kernel keeps for its whole
 * life; its memory is used again as soon as the entry is. Otherwise the queue is direct:
 * its ring region is claimed and freed with it, and anybody may claim the memory next.
 */

#ifndef OPS
#define OPS	2
#endif
#ifndef ACTS
#define ACTS	1		/* of the reaper that may stop */
#endif
#ifndef DEATHS
#define DEATHS	2
#endif

#if defined(TWIN_HOLD_AFTER_ACCEPT) || defined(VARIANT_IMPORT_AFTER_ACCEPT)
#define HOLD_LATE
#endif

#define C	0
#define S	1

#define S_FREE	0
#define S_LIVE	1
#define S_GONE	2

#define R_FREE	0
#define R_LIVE	1
#define R_DYING	2

#define Q_FREE		0
#define Q_CLAIM		1
#define Q_CONNECTING	2
#define Q_ACCEPTED	3
#define Q_REFUSED	4
#define Q_CANCELLED	5

/* shared memory; all zero is the initial state */
byte slot_state[2], slot_inc[2];
byte q_gen, q_state, q_inc;
byte q_srv, q_ring;
byte closed[2];
byte r_gen, r_state, r_inc, r_hold[2];

/* what the model knows and nobody else */
bool may_write[2];		/* this side may write the ring memory */
byte cancelled, accepted;	/* the generation that was last cancelled, accepted */
bool client_out;
byte peers_done, deaths;

/* the properties; each is asserted under the name that the runner looks for */
bool nobody_accepts_a_cancelled_connection = true;
bool ring_memory_is_not_reused_while_the_other_side_writes = true;
bool no_closed_word_of_an_earlier_generation_is_acted_on = true;
bool client_sees_exactly_one_outcome = true;
bool a_claim_is_its_owners = true;
bool nothing_is_leaked = true;

/*
 * Every step begins so: here a peer may die. A reaper needs no such thing. One that is
 * not scheduled again has stopped, and the end of the model does not wait for it.
 */
#define DIE	if :: mortal && deaths < DEATHS -> deaths++; goto dead :: true fi

#define Q_IS(g, s)	(q_gen == (g) && q_state == (s))
#define R_IS(g, s)	(r_gen == (g) && r_state == (s))
#define ALIVE(p, i)	(slot_state[p] == S_LIVE && slot_inc[p] == (i))
#define SOME_GONE	(slot_state[C] == S_GONE || slot_state[S] == S_GONE)

/* finish of the ring region: if DYING and all holds are 0, DYING -> FREE */
inline finish_region()
{
	do
	:: atomic { k < 2 -> DIE;
		if
		:: r_hold[k] == 0 -> k++
		:: else -> k = 0; rg = 0; break
		fi
	   }
	:: atomic { k == 2 -> DIE;
		if
		:: R_IS(rg, R_DYING) ->
			ring_memory_is_not_reused_while_the_other_side_writes =
				!may_write[C] && !may_write[S];
			assert(ring_memory_is_not_reused_while_the_other_side_writes);
			r_state = R_FREE; r_inc = 0
		:: else
		fi;
		k = 0; rg = 0; break
	   }
	od
}

/* drop own hold; finish */
inline drop_hold(side, i)
{
	atomic { DIE;
		if
		:: r_hold[side] == i -> r_hold[side] = 0
		:: else
		fi
	};
	if
	:: atomic { r_state == R_DYING -> DIE; rg = r_gen };
	   finish_region()
	:: atomic { r_state != R_DYING -> DIE }
	fi
}

/* closed[side]: a flag that is never cleared, or one that the next claim clears */
#ifdef VARIANT_CLOSED_RESET_BY_CLAIM
#define TWIN_CLOSED_WITHOUT_GENERATION
#endif
#ifdef TWIN_CLOSED_WITHOUT_GENERATION
#define CLOSED(side, g)	(closed[side] != 0)
#else
#define CLOSED(side, g)	(closed[side] == (g))
#endif

/*
 * finish of the entry: anyone, at any time, as often as he likes. "f" says what is
 * looked at next: the client's closed word (0), its slot (1), the server's closed word
 * (2), who the server is (3), its slot (4); then (5) CAS to FREE of the generation that
 * was looked at.
 */
#define STOP	f = 0; fg = 0; fq = 0; who = 0; break

inline finish_queue()
{
	do
	:: atomic { f == 0 -> DIE;
		if
		:: fq == Q_ACCEPTED && CLOSED(C, fg) ->
#ifdef TWIN_RECYCLED_WHEN_CLIENT_CLOSED
			f = 5
#else
			f = 2; who = 0
#endif
		:: else -> f = 1
		fi
	   }
	:: atomic { f == 1 -> DIE;
		if
		:: who != 0 && !ALIVE(C, who) -> f = (fq == Q_ACCEPTED -> 2 : 5); who = 0
#ifdef TWIN_RECYCLED_WHEN_SERVER_CLOSED
		:: ALIVE(C, who) && fq == Q_ACCEPTED -> f = 2
#endif
		:: else -> STOP
		fi
	   }
	:: atomic { f == 2 -> DIE; f = (CLOSED(S, fg) -> 5 : 3) }
	:: atomic { f == 3 -> DIE; who = q_srv; f = 4 }
	:: atomic { f == 4 -> DIE;
		if
		:: ALIVE(S, who) -> STOP
		:: else -> f = 5
		fi
	   }
	:: atomic { f == 5 -> DIE;
		if
		:: Q_IS(fg, fq) ->
#if !defined(TWIN_RECYCLED_WHEN_CLIENT_CLOSED) && !defined(TWIN_RECYCLED_WHEN_SERVER_CLOSED)
			no_closed_word_of_an_earlier_generation_is_acted_on =
				(fq != Q_ACCEPTED ||
				 ((closed[C] == fg || !ALIVE(C, q_inc)) &&
				  (closed[S] == fg || !ALIVE(S, q_srv))));
			assert(no_closed_word_of_an_earlier_generation_is_acted_on);
#endif
			q_state = Q_FREE; q_inc = 0
		:: else
		fi;
		STOP
	   }
	od
}

#define LOOK	fg = q_gen; fq = q_state; who = q_inc

inline zero_ring()
{
	ring_memory_is_not_reused_while_the_other_side_writes = !may_write[S];
	assert(ring_memory_is_not_reused_while_the_other_side_writes)
}

proctype client()
{
	byte inc, ops, g, k, rg, f, fg, fq, who;
	bit mortal = 1;

join:
	atomic {
		slot_state[C] == S_FREE ->
		slot_inc[C]++;
		slot_state[C] = S_LIVE;
		inc = slot_inc[C]
	};
#ifdef PACKED
	/* the ring chunk; the old one may still be held by a server */
	atomic { r_state == R_FREE -> DIE;
		r_gen++; r_state = R_LIVE; r_inc = inc; r_hold[C] = inc
	};
#endif

next:
	atomic {
		g = 0;
		if
		:: ops < OPS -> ops++
		:: true -> goto leave
		fi
	};
#ifndef PACKED
	atomic { r_state == R_FREE -> DIE;
		r_gen++; r_state = R_LIVE; r_inc = inc; r_hold[C] = inc
	};
#endif
	/* FREE -> CLAIM(gen + 1); nobody else claims this entry, so the look and CAS are one */
	atomic { q_state == Q_FREE -> DIE;
		q_gen++; q_state = Q_CLAIM; g = q_gen;
#ifndef TWIN_CLAIM_WITHOUT_IDENTITY
		q_inc = inc
	};
#else
	};
	atomic { DIE; q_inc = inc };
#endif
#ifdef VARIANT_CLOSED_RESET_BY_CLAIM
	atomic { DIE; closed[C] = 0 };
	atomic { DIE; closed[S] = 0 };
#endif
	atomic { slot_state[S] == S_LIVE -> DIE; q_srv = slot_inc[S] };
	atomic { DIE; zero_ring(); q_ring = r_gen };
	atomic { DIE;
		a_claim_is_its_owners = Q_IS(g, Q_CLAIM);
		assert(a_claim_is_its_owners);
		q_state = Q_CONNECTING
	};

	/* wait for the outcome until the deadline */
	if
	:: atomic { q_gen != g || q_state != Q_CONNECTING -> DIE }
	:: atomic { DIE;		/* the deadline: CONNECTING -> CANCELLED */
		if
		:: Q_IS(g, Q_CONNECTING) ->
			q_state = Q_CANCELLED;
			cancelled = g;
			client_sees_exactly_one_outcome = (accepted != g);
			assert(client_sees_exactly_one_outcome);
			goto failed
		:: else
		fi
	   }
	fi;
	atomic { DIE;
		client_sees_exactly_one_outcome =
			(Q_IS(g, Q_ACCEPTED) || Q_IS(g, Q_REFUSED) && accepted != g);
		assert(client_sees_exactly_one_outcome);
		if
		:: q_state == Q_REFUSED -> goto failed
		:: else
		fi
	};
	atomic { DIE;			/* connected, until it closes */
		ring_memory_is_not_reused_while_the_other_side_writes =
			(r_state == R_LIVE && r_inc == inc);
		assert(ring_memory_is_not_reused_while_the_other_side_writes);
		may_write[C] = 1
	};
	atomic { DIE;			/* close: no more writes, then say so */
		may_write[C] = 0;
		closed[C] = g
	};
	if
	:: atomic { q_state != Q_FREE -> DIE; LOOK };
	   finish_queue()
	:: atomic { q_state == Q_FREE -> DIE }
	fi;
	goto free_ring;
failed:
	atomic { DIE;			/* REFUSED|CANCELLED -> FREE; the client's alone */
		a_claim_is_its_owners = (Q_IS(g, Q_REFUSED) || Q_IS(g, Q_CANCELLED));
		assert(a_claim_is_its_owners);
		q_state = Q_FREE; q_inc = 0
	};
free_ring:
#ifdef PACKED
	goto next;
leave:
#endif
	atomic { DIE; g = 0; r_state = R_DYING };
	drop_hold(C, inc);
#ifndef PACKED
	goto next;
leave:
#endif
	goto out;

dead:
	/* nothing more is written; only now may somebody who knows say GONE */
	atomic {
		g = 0; k = 0; rg = 0; f = 0; fg = 0; fq = 0; who = 0;
		may_write[C] = 0;
		slot_state[C] = S_GONE
	};
	if
	:: ops < OPS -> goto join
	:: else
	fi;
out:
	atomic { client_out = 1; peers_done++ }
}

/* the import of the ring region: CAS own hold; full barrier; look at r again */
inline take_hold()
{
	atomic { DIE;
		if
		:: r_hold[S] == 0 -> r_hold[S] = inc
		:: else -> goto next
		fi
	};
#if !defined(TWIN_HOLD_AFTER_ACCEPT) && !defined(TWIN_HOLD_WITHOUT_SECOND_LOOK)
	atomic { DIE;
		if
		:: R_IS(gr, R_LIVE)
#ifndef HOLD_LATE
		:: else -> goto drop
#else
		:: else -> goto close
#endif
		fi
	}
#endif
}

proctype server()
{
	byte inc, g, gr, ci, k, rg, f, fg, fq, who;
	bit mortal = 1;

join:
	atomic {
		slot_state[S] == S_FREE ->
		slot_inc[S]++;
		slot_state[S] = S_LIVE;
		inc = slot_inc[S]
	};
next:
	atomic { g = 0; gr = 0; ci = 0 };
	if
	:: atomic { q_state == Q_CONNECTING -> DIE; g = q_gen; ci = q_inc }
	:: atomic { client_out -> goto out }
	fi;
	atomic { DIE;
		if
		:: q_srv == inc
		:: else -> goto next
		fi
	};
	if
	:: atomic { DIE;		/* refuse */
		if
		:: Q_IS(g, Q_CONNECTING) -> q_state = Q_REFUSED
		:: else
		fi;
		goto next
	   }
	:: atomic { DIE; gr = q_ring }
	fi;
#ifndef HOLD_LATE
	take_hold();
#endif
	atomic { DIE;			/* accept */
#ifdef TWIN_ACCEPT_PLAIN_STORE
		q_gen = g; q_state = Q_ACCEPTED; q_inc = ci;
#else
		if
#ifdef TWIN_ACCEPT_IGNORES_GENERATION
		:: q_state == Q_CONNECTING -> q_state = Q_ACCEPTED
#else
		:: Q_IS(g, Q_CONNECTING) -> q_state = Q_ACCEPTED
#endif
#ifndef HOLD_LATE
		:: else -> goto drop
#else
		:: else -> goto next
#endif
		fi;
#endif
		nobody_accepts_a_cancelled_connection = (cancelled != g);
		assert(nobody_accepts_a_cancelled_connection);
		accepted = g; ci = 0
	};
#ifdef HOLD_LATE
	take_hold();
#endif
	atomic { DIE;			/* connected, until it closes */
		ring_memory_is_not_reused_while_the_other_side_writes =
			(r_gen == gr && r_state != R_FREE);
		assert(ring_memory_is_not_reused_while_the_other_side_writes);
		may_write[S] = 1
	};
close:
	atomic { DIE; may_write[S] = 0; closed[S] = g };
	if
	:: atomic { q_state != Q_FREE -> DIE; LOOK };
	   finish_queue()
	:: atomic { q_state == Q_FREE -> DIE }
	fi;
drop:
	drop_hold(S, inc);
	goto next;

dead:
	atomic {
		g = 0; gr = 0; ci = 0; k = 0; rg = 0; f = 0; fg = 0; fq = 0; who = 0;
		may_write[S] = 0;
		slot_state[S] = S_GONE
	};
	goto join;
out:
	peers_done++
}

/*
 * reap: the peer's ring region -> DYING; clear its hold; finish the region; only then
 * its slot -> FREE. The entry needs no place in this order, since a slot that is free or
 * bears another incarnation says as much as one that is GONE. "n" counts the steps.
 */
inline reap(p)
{
	do
	:: atomic { n == 0 && rg == 0 && p == C ->
		if
		:: r_state == R_LIVE && r_inc == ri -> rg = r_gen
		:: else -> n++
		fi
	   }
	:: atomic { n == 0 && rg != 0 ->
		if
		:: R_IS(rg, R_LIVE) -> r_state = R_DYING
		:: else
		fi;
		rg = 0; n++
	   }
	:: atomic { (n == 1 || p == S && n == 0) ->
		n = 1;
		if
		:: r_hold[p] == ri -> r_hold[p] = 0
		:: else
		fi;
		n++
	   }
	:: atomic { n == 2 && r_state != R_DYING -> n++ }
	:: atomic { n == 2 && r_state == R_DYING -> rg = r_gen };
	   finish_region();
	   n++
	:: atomic { n == 3 ->
		if
		:: slot_state[p] == S_GONE && slot_inc[p] == ri -> slot_state[p] = S_FREE
		:: else
		fi;
		n = 0; ri = 0; break
	   }
	od
}

/*
 * The tick. A look that finds nothing to do changes nothing, so it is left out. The
 * reaper that lives makes a last round when both peers have come to an end.
 */
proctype reaper(bit lives)
{
	byte acts, p, ri, n, k, rg, f, fg, fq, who;
	bit mortal, last;

	do
	:: atomic { SOME_GONE && (lives || acts < ACTS) ->
		if
		:: slot_state[C] == S_GONE -> p = C
		:: slot_state[S] == S_GONE -> p = S
		fi;
		ri = slot_inc[p];
		if
		:: lives
		:: else -> acts++
		fi
	   };
	   reap(p);
	   p = 0
	:: atomic { lives && !last && q_state != Q_FREE -> LOOK };
	   finish_queue()
	:: atomic { lives && !last && peers_done == 2 -> last = 1 }
	:: atomic { last && !SOME_GONE && n == 0 -> n = 1;
		if
		:: q_state == Q_FREE -> goto end
		:: else -> LOOK
		fi
	   };
	   finish_queue()
	:: atomic { last && !SOME_GONE && n == 1 -> goto end }
	:: atomic { !lives && (acts == ACTS || peers_done == 2) -> acts = 0; goto dead }
	od;
end:
	atomic {
		n = 0;
		nothing_is_leaked = (q_state == Q_FREE && r_state == R_FREE &&
				     r_hold[C] == 0 && r_hold[S] == 0);
		assert(nothing_is_leaked)
	};
dead:
	skip
}

init {
	atomic {
		run client();
		run server();
		run reaper(0);
		run reaper(1)
	}
}
