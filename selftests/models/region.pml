/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Regions: their words, their holders, their chunks, and every death.
 *
 * Two peers (slots 0 and 1) each do OPS operations: be the owner of a region, from its
 * claim to its end, or import one. Both may die at any step; the death becomes GONE at
 * any later time; the slot, once reaped, is claimed by the next incarnation, which goes
 * on with what operations are left. Two reapers: one may stop at any step for ever, one
 * lives. Every access to shared memory is one step (one "atomic"), and so is a CAS; what
 * else stands in an atomic is private to the process or to the model.
 *
 * Words that change by CAS are compared whole. Generation and state of a ctl determine
 * its slot and incarnation, so comparing those two is comparing the word.
 *
 * The names are those of protocol.md: ctl, hold, chunk, finish, reap, sweep.
 */

#ifndef NREG
#define NREG	1
#endif
#ifndef NCHUNK
#define NCHUNK	2		/* a region is one run of all of them */
#endif
#ifndef OPS
#define OPS	2
#endif
#ifndef ACTS
#define ACTS	1		/* of the reaper that may stop */
#endif
#ifndef DEATHS
#define DEATHS	2
#endif
#define NPEER	2

/* states of a slot; nothing of a SUSPECT is reused, so for these words it is LIVE */
#define S_FREE	0
#define S_LIVE	1
#define S_GONE	2

/* states of a region */
#define R_FREE	0
#define R_CLAIM	1
#define R_LIVE	2
#define R_DYING	3

#define TAG(r, g)	((r) * 16 + (g))	/* never 0: generations start at 1 */
#define HOLD(r, p)	hold[(r) * NPEER + (p)]

#ifdef TWIN_HOLD_BITMAP
#define HOLDER(i)	1		/* somebody in that slot, no matter who */
#else
#define HOLDER(i)	(i)
#endif

/* shared memory; all zero is the initial state */
byte slot_state[NPEER], slot_inc[NPEER];
byte ctl_gen[NREG], ctl_state[NREG], ctl_slot[NREG], ctl_inc[NREG];
byte hold[NREG * NPEER];
byte chunk[NCHUNK];

/* what the model knows and nobody else: chunks that a peer may touch, one bit each */
byte may_map[NPEER];
byte peers_done, deaths;

/* the properties; each is asserted under the name that the runner looks for */
bool no_chunk_is_free_or_reclaimed_while_mapped = true;
bool nothing_is_leaked = true;
bool a_claim_is_its_owners = true;
bool no_garbage_is_made = true;

inline check_unmapped(c)
{
	no_chunk_is_free_or_reclaimed_while_mapped =
		(((may_map[0] | may_map[1]) >> (c)) & 1) == 0;
	assert(no_chunk_is_free_or_reclaimed_while_mapped)
}

/*
 * Every step begins so: here a peer may die. A reaper needs no such thing. One that is
 * not scheduled again has stopped, and the end of the model does not wait for it.
 */
#define DIE	if :: mortal && deaths < DEATHS -> deaths++; goto dead :: true fi

#define IS(r, g, s)	(ctl_gen[r] == (g) && ctl_state[r] == (s))
#define SOME_GONE	(slot_state[0] == S_GONE || slot_state[1] == S_GONE)

/*
 * finish: anyone, at any time, as often as he likes. "k" counts the holds looked at,
 * then the chunks freed: CAS {region, gen} -> 0, then CAS DYING -> FREE.
 */
inline finish(r)
{
	do
	:: atomic { k < NPEER -> DIE;
		if
		:: HOLD(r, k) == 0 -> k++
		:: else -> k = 0; fg = 0; break
		fi
	   }
#ifdef TWIN_CHUNK_PLAIN_STORE
	:: atomic { k >= NPEER && k < NPEER + NCHUNK && !mine -> DIE;
		if
		:: chunk[k - NPEER] == TAG(r, fg) -> mine = 1
		:: else -> k++
		fi
	   }
	:: atomic { k >= NPEER && k < NPEER + NCHUNK && mine -> DIE;
		check_unmapped(k - NPEER);
		chunk[k - NPEER] = 0;
		mine = 0;
		k++
	   }
#else
	:: atomic { k >= NPEER && k < NPEER + NCHUNK -> DIE;
		if
		:: chunk[k - NPEER] == TAG(r, fg) ->
			check_unmapped(k - NPEER);
			chunk[k - NPEER] = 0
		:: else
		fi;
		k++
	   }
#endif
	:: atomic { k == NPEER + NCHUNK -> DIE;
		if
		:: IS(r, fg, R_DYING) ->
			ctl_state[r] = R_FREE; ctl_slot[r] = 0; ctl_inc[r] = 0
		:: else
		fi;
		k = 0; fg = 0; break
	   }
	od
}

#ifdef TWIN_SLOT_FREED_FIRST
#define EARLY	1
#else
#define EARLY	0
#endif

/* GONE -> FREE; the incarnation stays, so that the next one is another */
inline free_slot(p)
{
	if
	:: slot_state[p] == S_GONE && slot_inc[p] == ri -> slot_state[p] = S_FREE
	:: else
	fi
}

/*
 * reap: the peer's LIVE|CLAIM regions -> DYING; clear its holds; finish; only then its
 * slot -> FREE. "n" counts: the regions, then the holds, then the regions to finish.
 */
#define FINISHING	(n >= 2 * NREG && n < 3 * NREG)

inline reap(p)
{
	do
	:: atomic { n < NREG && fg == 0 -> DIE;
		if
		:: (ctl_state[n] == R_LIVE || ctl_state[n] == R_CLAIM) &&
		   ctl_slot[n] == p && ctl_inc[n] == ri ->
			fg = ctl_gen[n]; fs = ctl_state[n]
		:: else -> n++
		fi
	   }
	:: atomic { n < NREG && fg != 0 -> DIE;
		if
		:: IS(n, fg, fs) -> ctl_state[n] = R_DYING
		:: else
		fi;
		fg = 0; fs = 0; n++
	   }
	:: atomic { n >= NREG && n < 2 * NREG -> DIE;
		if
		:: HOLD(n - NREG, p) == HOLDER(ri) -> HOLD(n - NREG, p) = 0
		:: else
		fi;
		n++
	   }
	:: atomic { FINISHING && ctl_state[n - 2 * NREG] != R_DYING -> DIE; n++ }
	:: atomic { FINISHING && ctl_state[n - 2 * NREG] == R_DYING -> DIE;
		fg = ctl_gen[n - 2 * NREG]
	   };
	   finish(n - 2 * NREG);
	   n++
	:: atomic { n == 3 * NREG -> DIE;
		if
		:: !EARLY -> free_slot(p)
		:: else
		fi;
		n = 0; ri = 0; break
	   }
	od
}

/*
 * sweep: a tag whose generation is not current is garbage. The tag is read first and
 * the ctl after it, or a tag would be judged by a ctl that is older than itself.
 */
inline sweep(c)
{
#ifdef TWIN_SWEEP_CTL_FIRST
	atomic { lives && !last -> fg = ctl_gen[0]; fs = ctl_state[0] };
	atomic {
		tag = chunk[c];
		mine = (tag != 0 && (tag % 16 != fg || fs == R_FREE));
		fg = 0; fs = 0
	};
#else
	atomic { lives && !last && chunk[c] != 0 -> tag = chunk[c] };
	mine = (ctl_gen[tag / 16] != tag % 16 || ctl_state[tag / 16] == R_FREE);
#endif
	atomic {
		if
		:: mine && chunk[c] == tag ->
			check_unmapped(c);
			no_garbage_is_made = false;
			assert(no_garbage_is_made);
			chunk[c] = 0
		:: else
		fi;
		mine = 0; tag = 0
	}
}

#define FIRST	(me == 0 || ops > 1)	/* the first owner is called peer 0 */

proctype peer(byte me)
{
	byte inc, ops, r, g, i, fg, k;
	bit mine, mortal = 1;

join:
	/* FREE -> LIVE(inc + 1) */
	atomic {
		slot_state[me] == S_FREE ->
		slot_inc[me]++;
		slot_state[me] = S_LIVE;
		inc = slot_inc[me]
	};

next:
	atomic {
		r = 0; g = 0; i = 0;
		if
		:: ops == OPS -> goto out
		:: ops < OPS -> ops++
		fi;
#if NREG > 1
		if
		:: r = 0
		:: r = 1
		fi
#endif
	};
	if
	:: atomic { FIRST && ctl_state[r] == R_FREE -> DIE; g = ctl_gen[r] + 1 }; goto own
	:: atomic { ctl_state[r] == R_LIVE -> DIE; g = ctl_gen[r] }; goto import
	:: goto out						/* no more to do */
	fi;

	/* the owner */
own:
	atomic { DIE;		/* FREE -> CLAIM(gen + 1) */
		if
		:: IS(r, g - 1, R_FREE) ->
			ctl_gen[r] = g; ctl_state[r] = R_CLAIM;
			ctl_slot[r] = me; ctl_inc[r] = inc
		:: else -> goto next
		fi
	};
	do			/* from its claim on a chunk is being zeroed: that is a use */
	:: atomic { i < NCHUNK && chunk[i] == 0 -> DIE;
		check_unmapped(i);
		chunk[i] = TAG(r, g);
		may_map[me] = may_map[me] | (1 << i);
		i++
	   }
	:: atomic { i < NCHUNK && chunk[i] != 0 -> DIE; goto back }
	:: atomic { i == NCHUNK && HOLD(r, me) == 0 -> DIE;
		HOLD(r, me) = HOLDER(inc); break
	   }
	:: atomic { i == NCHUNK && HOLD(r, me) != 0 -> DIE; goto back }
	od;
	atomic { DIE;		/* CLAIM -> LIVE; nobody else changes a living peer's claim */
		i = 0;
		a_claim_is_its_owners = IS(r, g, R_CLAIM);
		assert(a_claim_is_its_owners);
		ctl_state[r] = R_LIVE
	};
	atomic { DIE;		/* free: LIVE -> DYING, while still mapped */
		a_claim_is_its_owners = IS(r, g, R_LIVE);
		assert(a_claim_is_its_owners);
		ctl_state[r] = R_DYING;
		goto drop
	};
back:				/* roll-back is a free, too */
	atomic { DIE; may_map[me] = 0; ctl_state[r] = R_DYING; goto done };

	/* the importer: a message has named him the region and its generation */
import:
	atomic { DIE;
		if
		:: HOLD(r, me) == 0 -> HOLD(r, me) = HOLDER(inc)
		:: else -> goto next
		fi
	};
	atomic { DIE;		/* full barrier; the second look */
#ifndef TWIN_NO_SECOND_LOOK
		if
		:: IS(r, g, R_LIVE)
		:: else -> goto drop
		fi;
#endif
		may_map[me] = (1 << NCHUNK) - 1;
		do
		:: i < NCHUNK ->
			no_chunk_is_free_or_reclaimed_while_mapped = (chunk[i] == TAG(r, g));
			assert(no_chunk_is_free_or_reclaimed_while_mapped);
			i++
		:: else -> i = 0; break
		od
	};

drop:
	atomic { DIE;		/* unmap; drop own hold; finish */
		may_map[me] = 0;
		if
		:: HOLD(r, me) == HOLDER(inc) -> HOLD(r, me) = 0
		:: else
		fi
	};
done:
	if
	:: atomic { ctl_state[r] == R_DYING -> DIE; fg = ctl_gen[r] };
	   finish(r)
	:: atomic { ctl_state[r] != R_DYING -> DIE }
	fi;
	goto next;

dead:
	/*
	 * Nothing more is written. Only now may somebody who knows say GONE, and only
	 * from then on the mappings of this peer do not count.
	 */
	atomic {
		r = 0; g = 0; i = 0; fg = 0; k = 0; mine = 0;
		may_map[me] = 0;
		slot_state[me] = S_GONE
	};
	if
	:: ops < OPS -> goto join
	:: else
	fi;
out:
	peers_done++
}

/*
 * The tick. A look that finds nothing to do changes nothing, so it is left out: reap,
 * finish and sweep begin with the look that found something. The reaper that lives makes
 * a last round when both peers have come to an end.
 */
proctype reaper(bit lives)
{
	byte acts, p, r, ri, n, fg, fs, k, tag;
	bit mine, mortal, last;

	do
	:: atomic { SOME_GONE && (lives || acts < ACTS) ->
		if
		:: slot_state[0] == S_GONE -> p = 0
		:: slot_state[1] == S_GONE -> p = 1
		fi;
		ri = slot_inc[p];
		if
		:: lives
		:: else -> acts++
		fi;
		if
		:: EARLY -> free_slot(p)
		:: else
		fi
	   };
	   reap(p);
	   p = 0
	:: atomic { lives && !last && ctl_state[0] == R_DYING -> fg = ctl_gen[0] };
	   finish(0)
#if NREG > 1
	:: atomic { lives && !last && ctl_state[1] == R_DYING -> fg = ctl_gen[1] };
	   finish(1)
#endif
#ifdef SWEEP
	:: sweep(0)
#if NCHUNK > 1
	:: sweep(1)
#endif
#endif
	:: atomic { lives && !last && peers_done == NPEER -> last = 1 }
	:: atomic { last && !SOME_GONE && r < NREG && ctl_state[r] == R_DYING ->
		fg = ctl_gen[r]
	   };
	   finish(r);
	   r++
	:: atomic { last && !SOME_GONE && r < NREG && ctl_state[r] != R_DYING -> r++ }
	:: atomic { last && !SOME_GONE && r == NREG -> r = 0; break }
	:: atomic { !lives && (acts == ACTS || peers_done == NPEER) -> acts = 0; goto dead }
	od;
	atomic {
		do
		:: n < NCHUNK -> nothing_is_leaked = nothing_is_leaked && chunk[n] == 0; n++
		:: else -> n = 0; break
		od;
		do
		:: n < NREG -> nothing_is_leaked = nothing_is_leaked &&
			ctl_state[n] == R_FREE && HOLD(n, 0) == 0 && HOLD(n, 1) == 0; n++
		:: else -> n = 0; break
		od;
		assert(nothing_is_leaked)
	};
dead:
	skip
}

init {
	atomic {
		run peer(0);
		run peer(1);
		run reaper(0);
		run reaper(1)
	}
}
