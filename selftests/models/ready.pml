/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Readiness: no wake-up is lost, without the tick; at most one doorbell per producing
 * peer and drain.
 *
 * Memory. Every process that stores has a store buffer. A store goes into the own
 * buffer and reaches memory later, at any time; a load is satisfied from memory at once
 * (nobody here loads what he stores, so there is nothing to forward); MB waits until the
 * own buffer is empty. By default stores to different words may reach memory in any
 * order, as on arm64; -DTSO makes the buffer a FIFO. Everything a FIFO can do, the
 * default can do, too.
 *
 * Set-bit and increment return nothing and are *posted*: they go into the buffer, and the
 * read-modify-write is done in memory, atomically, when they leave it. That is the
 * weakest thing sync_set_bit may be (arm64: unordered), and makes every MB of
 * protocol.md necessary. xchg is done in memory at once, but does not empty the buffer.
 * -DX86 makes all of them wait for an empty buffer, as a lock prefix does; the variants
 * in the runner say which MB is then redundant.
 *
 * A doorbell is a device write, which is ordered after the stores before it (writel).
 * Doorbells are not dropped here: when they are, only the tick helps.
 *
 * Two producers (one peer each, or with -DSAMEPEER two threads of one), a queue and a
 * sleeping consumer thread for each, one handler. N0 and N1 cells. -DSPACE: one producer,
 * ring of RING cells, and the space event with a readiness path of its own back.
 */

#ifndef N0
#define N0	2
#endif
#ifndef N1
#define N1	1
#endif
#ifndef RING
#define RING	1
#endif

/* words in shared memory that are stored to through a buffer */
#define CELL	0		/* + queue: cells written (sequence, last, release) */
#define EVENT	2		/* + queue: event index */
#define LEAF	4		/* + queue: set that queue's leaf bit */
#define SUMM	6		/* + queue: set the summary bit of its leaf word */
#define DRAIN	8		/* + dst: drain_seq++ */
#define CONS	10		/* the published consumer index */
#define SPEV	11		/* the space event */
#define SLEAF	12		/* the same words of the producing peer, for -DSPACE */
#define SSUMM	13

/* the owners of store buffers */
#define B_PROD	0		/* + queue */
#define B_CONS	2		/* + queue */
#define B_HAND	4		/* + dst */
#define B_TICK	5		/* not with -DSPACE */
#define NBUF	6
#ifndef CAP
#define CAP	4
#endif

byte buf[NBUF * CAP], fill[NBUF];

/* shared memory */
byte cell[2], event[2];
byte leaf[2], summary;		/* of the consuming peer */
byte drain_seq[2];		/* of the consuming peer; of the producing one, for SPACE */
byte cons, space_event, sleaf, ssummary;

/* MSI-X: a pending bit per destination */
bool irq[2];

/* private to one machine, guarded by its locks */
bool joined[2], woken[2];	/* wait queues of the consumers */
bool sjoined, swoken;		/* of the producer that waits for space */
byte rung[3];			/* rung[dst,vec] of each peer + 1, so that 0 is "never" */
bool lock;
byte consumed[2];

/* what the model knows */
byte rings[2];			/* doorbells rung by each peer */
bool dead[2];

/* the properties; each is asserted under the name that the runner looks for */
bool no_sleeper_sleeps_with_an_unconsumed_cell = true;
bool no_producer_sleeps_while_there_is_room = true;
bool one_doorbell_per_peer_and_drain = true;

#ifdef TWO_LEAVES
#define WORD(q)	(q)		/* two leaf words, two summary bits */
#else
#define WORD(q)	0		/* two bits of one leaf word */
#endif

inline apply(e)
{
	if
	:: e / 8 < EVENT -> cell[e / 8 - CELL] = e % 8
	:: e / 8 >= EVENT && e / 8 < LEAF -> event[e / 8 - EVENT] = e % 8
	:: e / 8 >= LEAF && e / 8 < SUMM ->
		leaf[WORD(e / 8 - LEAF)] = leaf[WORD(e / 8 - LEAF)] | (1 << (e / 8 - LEAF))
	:: e / 8 >= SUMM && e / 8 < DRAIN -> summary = summary | (1 << WORD(e / 8 - SUMM))
#ifdef TWIN_PLAIN_INCREMENT
	:: e / 8 >= DRAIN && e / 8 < CONS -> drain_seq[e / 8 - DRAIN] = e % 8
#else
	:: e / 8 >= DRAIN && e / 8 < CONS -> drain_seq[e / 8 - DRAIN]++
#endif
	:: e / 8 == CONS -> cons = e % 8
	:: e / 8 == SPEV -> space_event = e % 8
	:: e / 8 == SLEAF -> sleaf = 1
	:: e / 8 == SSUMM -> ssummary = 1
	fi
}

/* a plain store */
inline store(b, loc, val)
{
	fill[b] < CAP ->
	buf[(b) * CAP + fill[b]] = (loc) * 8 + (val);
	fill[b]++
}

/* a read-modify-write that returns nothing */
#ifdef X86
#define post(b, loc, val)	fill[b] == 0 -> apply(((loc) * 8 + (val)))
#else
#define post(b, loc, val)	store(b, loc, val)
#endif

#define EMPTY(b)	(fill[b] == 0)

/* the barriers by name; a twin takes one away */
#ifdef TWIN_NO_MB_EVENT
#define MB_EVENT(b)	true		/* producer: cells | event */
#else
#define MB_EVENT(b)	EMPTY(b)
#endif
#ifdef TWIN_NO_MB_LEAF
#define MB_LEAF(b)	true		/* producer: leaf bit | summary bit */
#else
#define MB_LEAF(b)	EMPTY(b)
#endif
#ifdef TWIN_NO_MB_RING
#define MB_RING(b)	true		/* producer: summary bit | drain_seq */
#else
#define MB_RING(b)	EMPTY(b)
#endif
#ifdef TWIN_NO_MB_DRAIN
#define MB_DRAIN(b)	true		/* interrupt: drain_seq++ | xchg */
#else
#define MB_DRAIN(b)	EMPTY(b)
#endif
#ifdef TWIN_NO_MB_SLEEP
#define MB_SLEEP(b)	true		/* sleeper: event | second look */
#else
#define MB_SLEEP(b)	EMPTY(b)
#endif
#ifdef TWIN_NO_MB_SPACE_CONSUMER
#define MB_PUBLISH(b)	true		/* consumer: its index | space event */
#else
#define MB_PUBLISH(b)	EMPTY(b)
#endif
#ifdef TWIN_NO_MB_SPACE_PRODUCER
#define MB_SPACE(b)	true		/* producer: space event | consumer's index */
#else
#define MB_SPACE(b)	EMPTY(b)
#endif
#ifdef X86
#define XCHG(b)		EMPTY(b)
#else
#define XCHG(b)		true
#endif

/* what may leave a buffer next: the oldest store of all, or the oldest to its word */
#define WORDOF(b, k)	(buf[(b) * CAP + (k)] / 8)
#define OLDEST(b, k)	(fill[b] > (k) && \
	((k) < 1 || WORDOF(b, k) != WORDOF(b, 0)) && \
	((k) < 2 || WORDOF(b, k) != WORDOF(b, 1)) && \
	((k) < 3 || WORDOF(b, k) != WORDOF(b, 2)))

#ifdef TSO
#define CHOOSE(n)	:: fill[n] > 0 -> b = n
#else
#define CHOOSE(n)	:: OLDEST(n, 0) -> b = n \
			:: OLDEST(n, 1) -> b = n; k = 1 \
			:: OLDEST(n, 2) -> b = n; k = 2 \
			:: OLDEST(n, 3) -> b = n; k = 3
#endif

proctype memory()
{
	byte b, k, e;

end:
	do
	:: atomic {
		if
		CHOOSE(0) CHOOSE(1) CHOOSE(2) CHOOSE(3) CHOOSE(4) CHOOSE(5)
		fi;
		e = buf[b * CAP + k];
		do
		:: k + 1 < fill[b] -> buf[b * CAP + k] = buf[b * CAP + k + 1]; k++
		:: else -> break
		od;
		buf[b * CAP + k] = 0;
		fill[b]--;
		apply(e);
		b = 0; k = 0; e = 0
	   }
	od
}

#define CELLS(q)	(q == 0 -> N0 : N1)

#ifdef SAMEPEER
#define PEER(q)		0
#define LOCK		!lock
#define SETLOCK(v)	lock = v
#else
#define PEER(q)		(q)
#define LOCK		true
#define SETLOCK(v)	skip
#endif

#ifdef TWIN_RUNG_SHARED
#define RUNG(q)		0
#else
#define RUNG(q)		PEER(q)
#endif

#ifdef MORTAL			/* producer 0 may stop for ever, its peer is dead or paused */
#define STOP		if :: q == 0 -> dead[0] = 1; goto out :: true fi
#else
#define STOP		skip
#endif

proctype producer(byte q)
{
	byte i, old, s;
#ifdef SPACE
	byte c;
#endif

	do
	:: i < CELLS(q) ->
#ifdef SPACE
		if
		:: i - c == RING ->
			if
			:: atomic { cons != c -> c = cons }
			:: atomic { cons == c };
			   atomic { sjoined = 1; swoken = 0 };	/* join the wait queue */
			   atomic { store(B_PROD, SPEV, c) };	/* arm */
			   atomic { MB_SPACE(B_PROD) ->		/* look again */
#ifndef TWIN_NO_SPACE_LOOK
				if
				:: cons != c -> swoken = 1
				:: else
				fi
#endif
			   };
end:			   atomic { swoken -> sjoined = 0; swoken = 0 }
			fi;
			goto next
		:: else
		fi;
#endif
		atomic { STOP; i++; store(B_PROD + q, CELL + q, i) };
		/* a batch: the check comes after its last cell */
		if
#ifndef SPACE
		:: i < CELLS(q) -> goto next
#else
		:: i < CELLS(q) && i - c < RING -> goto next
#endif
		:: true
		fi;
		atomic { MB_EVENT(B_PROD + q) -> STOP;
#ifdef TWIN_OLD_IS_LAST_CELL
			old = i - 1;
#endif
			if
			:: event[q] >= old && event[q] < i -> old = i
			:: else -> old = i; goto next
			fi
		};
#ifdef TWIN_SUMMARY_IF_LEAF_CLEAR
		/* needs the old word, hence an ordered read-modify-write */
		atomic { EMPTY(B_PROD + q) -> STOP;
			s = leaf[WORD(q)];
			leaf[WORD(q)] = leaf[WORD(q)] | (1 << q)
		};
		if
		:: s == 0 -> atomic { STOP; post(B_PROD + q, SUMM + q, 1) }
		:: else -> s = 0
		fi;
#else
		atomic { STOP; post(B_PROD + q, LEAF + q, 1) };
		atomic { MB_LEAF(B_PROD + q) -> STOP; post(B_PROD + q, SUMM + q, 1) };
#endif
#if defined(TWIN_READ_BEFORE_LOCK)
		atomic { MB_RING(B_PROD + q) -> s = drain_seq[0] + 1 };
		atomic { LOCK -> SETLOCK(1);
#elif defined(TWIN_NO_PRIVATE_LOCK)
		atomic { MB_RING(B_PROD + q) -> s = drain_seq[0] + 1 };
		if
		:: s != rung[RUNG(q)]
		:: else -> s = 0; goto next
		fi;
		atomic { true ->
#else
		atomic { MB_RING(B_PROD + q) && LOCK -> STOP;
			SETLOCK(1);
			s = drain_seq[0] + 1;
#endif
#ifdef TWIN_RUNG_STARTS_AT_ZERO
			s--;
#endif
#ifdef TWIN_NO_PRIVATE_LOCK
			rung[RUNG(q)] = s; s = 0
#else
			if
			:: s != rung[RUNG(q)] -> rung[RUNG(q)] = s; s = 0
			:: else -> s = 0; SETLOCK(0); goto next
			fi
#endif
		};
		atomic { EMPTY(B_PROD + q) -> STOP;	/* the doorbell */
			irq[0] = 1;
			rings[PEER(q)]++;
#if !defined(TWIN_PLAIN_INCREMENT) && !defined(DOORBELLS_NOT_COUNTED)
			one_doorbell_per_peer_and_drain = (rings[PEER(q)] <= drain_seq[0] + 1);
			assert(one_doorbell_per_peer_and_drain);
#endif
			SETLOCK(0)
		};
next:		skip
	:: else -> break
	od;
out:
	skip
}

proctype consumer(byte q)
{
#ifdef SPACE
	byte pub, oldpub;
#endif

	do
	:: consumed[q] < CELLS(q) ->
		if
		:: atomic { cell[q] > consumed[q] -> consumed[q]++ };
#ifdef SPACE
		   if
		   :: true -> goto next		/* publish lazily */
		   :: true
		   fi
#else
		   goto next
#endif
		:: atomic { cell[q] <= consumed[q] ->
#ifdef SPACE
			if
			:: pub == consumed[q]
			:: else -> goto publish
			fi
#endif
		   };
		   atomic { joined[q] = 1; woken[q] = 0 };	/* join the wait queue */
		   atomic { store(B_CONS + q, EVENT + q, consumed[q]) };
		   atomic { MB_SLEEP(B_CONS + q) ->
#ifndef TWIN_NO_SECOND_LOOK
			if
			:: cell[q] > consumed[q] -> woken[q] = 1
			:: else
			fi
#endif
		   };
end:		   atomic { woken[q] -> joined[q] = 0; woken[q] = 0 };
		   goto next
		fi;
#ifdef SPACE
publish:
		atomic { store(B_CONS, CONS, consumed[q]); pub = consumed[q] };
		atomic { MB_PUBLISH(B_CONS) ->
			if
			:: space_event >= oldpub && space_event < pub -> oldpub = pub
			:: else -> oldpub = pub; goto next
			fi
		};
		atomic { post(B_CONS, SLEAF, 1) };
		atomic { MB_LEAF(B_CONS) -> post(B_CONS, SSUMM, 1) };
		atomic { MB_RING(B_CONS) ->
			if
			:: drain_seq[1] + 1 != rung[2] -> rung[2] = drain_seq[1] + 1
			:: else -> goto next
			fi
		};
		atomic { EMPTY(B_CONS) -> irq[1] = 1 };
#endif
next:		skip
	:: else -> break
	od
#ifdef SPACE
	;
	if
	:: pub != consumed[q] -> goto publish	/* at the end of every call */
	:: else
	fi
#endif
}

/*
 * A drain: drain_seq++; MB; xchg(summary, 0); xchg(leaf, 0); wake. Those of the tick may
 * run beside the handler: drain_seq++ is atomic, or (the twin) drain_seq goes backwards.
 */
inline drain_words(b, d)
{
#ifdef TWIN_PLAIN_INCREMENT
	atomic { store(b, DRAIN + d, drain_seq[d] + 1) };
#elif !defined(TWIN_DRAIN_SEQ_LAST)
	atomic { post(b, DRAIN + d, 0) };
#endif
#ifdef TWIN_LEAF_BEFORE_SUMMARY
	atomic { MB_DRAIN(b) -> x = summary };
	atomic {
		if
		:: x & 1 -> l = leaf[0]; leaf[0] = 0
		:: else
		fi;
		if
		:: x & 2 -> l = l | leaf[1]; leaf[1] = 0
		:: else
		fi
	};
	atomic { summary = 0 };
#else
	atomic { MB_DRAIN(b) && XCHG(b) -> x = summary; summary = 0 };
	if
	:: x & 1 -> atomic { l = leaf[0]; leaf[0] = 0 }
	:: else
	fi;
#ifdef TWO_LEAVES
	if
	:: x & 2 -> atomic { l = l | leaf[1]; leaf[1] = 0 }
	:: else
	fi;
#endif
#endif
#ifdef TWIN_DRAIN_SEQ_LAST
	atomic { post(b, DRAIN + d, 0) };
#endif
	x = 0;
	if
	:: l & 1 -> atomic { woken[0] = joined[0] }
	:: else
	fi;
	if
	:: l & 2 -> atomic { woken[1] = joined[1] }
	:: else
	fi;
	l = 0
}

/* the interrupt handler: one pass only. The pending bit falls before anything else. */
proctype handler()
{
	byte x, l;

end:
	do
	:: atomic { irq[0] -> irq[0] = 0 };
	   drain_words(B_HAND, 0)
	od
}

#ifdef TICKS
/* a drain that no doorbell asked for: the tick, enabling a vector, resume */
proctype tick()
{
	byte x, l, n;

	do
	:: n < TICKS -> n++; drain_words(B_TICK, 0)
	:: else -> break
	od
}
#endif

#ifdef SPACE
/* the handler of the producing peer */
proctype shandler()
{
	bit x;

end:
	do
	:: atomic { irq[1] -> irq[1] = 0 };
	   atomic { post(B_HAND + 1, DRAIN + 1, 0) };
	   atomic { MB_DRAIN(B_HAND + 1) && XCHG(B_HAND + 1) -> x = ssummary; ssummary = 0 };
	   if
	   :: x -> atomic { x = sleaf; sleaf = 0 }
	   :: else
	   fi;
	   if
	   :: x -> atomic { swoken = sjoined; x = 0 }
	   :: else
	   fi
	od
}
#endif

/* when nothing can happen any more */
proctype monitor()
{
	timeout ->
	no_sleeper_sleeps_with_an_unconsumed_cell =
		(cell[0] == consumed[0] || dead[0]) && (cell[1] == consumed[1] || dead[1]);
	assert(no_sleeper_sleeps_with_an_unconsumed_cell);
	no_producer_sleeps_while_there_is_room = !sjoined;
	assert(no_producer_sleeps_while_there_is_room)
}

init {
	atomic {
		run memory();
		run producer(0);
		run consumer(0);
#ifndef SPACE
		if
		:: N1 > 0 -> run producer(1); run consumer(1)
		:: else
		fi;
#else
		run shandler();
#endif
#ifdef TICKS
		run tick();
#endif
		run handler();
		run monitor()
	}
}
