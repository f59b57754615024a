/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The readiness words of a slot that is used again.
 *
 * The first incarnation may die at any step. Two reapers find it GONE, each as slow as it
 * likes. The second incarnation claims the slot, enables its vector, drains once, and
 * sleeps for what comes. Two threads of a producing peer signal the first incarnation
 * while it is LIVE (and may be slow in that, too) and the second one once it is LIVE.
 * Every access to shared memory is one step; ready.pml is about store buffers. Leaf word
 * and summary are one bit here, "ready".
 *
 * What works, and each part of it is needed:
 * - nobody resets the readiness words of a slot, ever. A bit that is left over is a
 *   spurious wake-up, and drain_seq only goes up;
 * - who claims a slot enables its vector and *then* drains. The xchg finds what was
 *   signalled while its doorbells went nowhere, and the drain_seq++ makes them void;
 * - rung[dst,vec] names the incarnation that was rung, beside the drain_seq. A thread
 *   that is still busy with the first incarnation may read the drain_seq of the second,
 *   and its doorbell goes to the dead. Or (the variant) it reads the slot's word, for the
 *   IVPosition, after drain_seq: then it rings the second one.
 *
 * -DTWIN_REAPER_RESETS is what protocol.md says: "its readiness words are reset before it
 * becomes FREE". A reset is a plain store of somebody who cannot know whether the slot is
 * still the one he found GONE.
 */

#ifndef REAPERS
#define REAPERS	2
#endif
#ifndef EARLY
#define EARLY	2		/* signals to the first incarnation */
#endif
#ifndef CELLS
#define CELLS	2		/* for the second one */
#endif

#define S_FREE	0
#define S_LIVE	1
#define S_GONE	2

/* shared memory */
byte slot_state = S_LIVE, slot_inc = 1;
bool ready;
byte drain_seq;
byte cells;

/* the vectors of the two incarnations: each has an IVPosition of its own */
bool irq[3], vector_on[3];

/* private */
bool joined, woken;		/* wait queue of the second incarnation */
byte rung, rung_inc;		/* of the producing peer; rung_inc 0 is "never" */
byte consumed;
byte early;

bool no_sleeper_sleeps_with_an_unconsumed_cell = true;

#if defined(TWIN_RUNG_WITHOUT_INCARNATION) || defined(VARIANT_WORD_AFTER_DRAIN_SEQ)
#define RUNG_INC(i)	1
#else
#define RUNG_INC(i)	(i)
#endif

proctype producer()
{
	byte to;

next:
	if
	:: atomic { slot_state == S_LIVE && slot_inc == 1 && early < EARLY -> early++; to = 1 }
	:: atomic { slot_state == S_LIVE && slot_inc == 2 && cells < CELLS -> to = 2; cells++ }
	:: atomic { cells == CELLS -> to = 0; goto out }
	fi;
	atomic { ready = 1 };
	atomic {			/* MB; private lock; s = drain_seq; if s != rung */
		if
		:: rung != drain_seq || rung_inc != RUNG_INC(to) ->
			rung = drain_seq; rung_inc = RUNG_INC(to)
		:: else -> goto next
		fi
	};
#ifdef VARIANT_WORD_AFTER_DRAIN_SEQ
	atomic { to = slot_inc };	/* read the slot's word only now: whom to ring */
#endif
	atomic { irq[to] = vector_on[to]; goto next };	/* lost, if nobody is there */
out:
	skip
}

#define DIE	if :: true -> goto dead :: true fi

/* the handler of the first incarnation, until it dies */
proctype first()
{
end:
	do
	:: atomic { irq[1] -> irq[1] = 0; DIE };
	   atomic { DIE; drain_seq++ };
	   atomic { DIE; ready = 0 }
	:: goto dead
	od;
dead:
	atomic { irq[1] = 0; vector_on[1] = 0 };
	slot_state = S_GONE
}

proctype reaper()
{
end:
	atomic { slot_state == S_GONE };
	/* regions, holds, finish: region.pml */
#ifdef TWIN_REAPER_RESETS
	atomic { ready = 0 };
	atomic { drain_seq = 0 };
#endif
	atomic {
		if
		:: slot_state == S_GONE -> slot_state = S_FREE
		:: else
		fi
	}
}

/* drain_seq++; MB; xchg; wake */
inline drain()
{
	atomic { drain_seq++ };
	atomic { x = ready; ready = 0 };
	if
	:: x -> atomic { woken = joined; x = 0 }
	:: else
	fi
}

proctype handler()
{
	bit x;
end:
	do
	:: atomic { irq[2] -> irq[2] = 0 };
	   drain()
	od
}

/* claims the slot, then waits for cells */
proctype second()
{
	bit x;
end:
	atomic { slot_state == S_FREE -> slot_state = S_LIVE; slot_inc = 2 };
#ifdef TWIN_DRAIN_BEFORE_ENABLE
	drain();
	vector_on[2] = 1;
#else
	vector_on[2] = 1;
#ifndef TWIN_NO_DRAIN_AT_JOIN
	drain();
#endif
#endif
	do
	:: consumed < CELLS ->
		if
		:: atomic { cells > consumed -> consumed = cells }
		:: atomic { cells == consumed -> joined = 1; woken = 0 };
		   atomic {		/* arm; MB; look again */
			if
			:: cells > consumed -> woken = 1
			:: else
			fi
		   };
end2:		   atomic { woken -> joined = 0; woken = 0 }
		fi
	:: else -> break
	od
}

proctype monitor()
{
	timeout ->
	no_sleeper_sleeps_with_an_unconsumed_cell = (cells == consumed);
	assert(no_sleeper_sleeps_with_an_unconsumed_cell)
}

init {
	atomic {
		vector_on[1] = 1;
		run producer();
		run producer();
		run first();
		run reaper();
		if
		:: REAPERS > 1 -> run reaper()
		:: else
		fi;
		run second();
		run handler();
		run monitor()
	}
}
