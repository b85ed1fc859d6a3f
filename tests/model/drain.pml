/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* drain.pml: bringing device I/O to rest, for spin: the source's windows, calls that wait in the embedder's loop, and a device whose requests
 * end in their own time, or never.
 *
 * What the embedder is told goes through one queue, in order; of a depth that waits there only the newest value counts. The source asks
 * again only when it was answered. What is under #ifdef is broken on purpose; `run` lists it. */

#ifndef WINDOWS
#define WINDOWS 3
#endif

mtype = { FLOWING, QUIET, DRAINED };                    /* the drain */
mtype = { PRECOPY, CHECKING, SAVED, OVER };             /* the migration */
mtype = { DEPTH, TRY };                                 /* calls */

mtype drain = FLOWING, migration = PRECOPY;
chan calls = [3] of { mtype };
chan answers = [2] of { bool };                         /* at rest? */
bool asked = false, depth_waits = false;
bool told_picking = true;                               /* the newest value */
bool picking = true, guest_runs = true;
byte in_flight = 0, windows = WINDOWS;
bool strayed = false;                                   /* a request came in though nothing was picked up */

inline tell(value)
{
	told_picking = value;
	if
	:: !depth_waits -> depth_waits = true; assert(nfull(calls)); calls!DEPTH
	:: else -> skip
	fi
}

inline try()
{
	asked = true;
	assert(nfull(calls));
	calls!TRY
}

inline release()
{
	if
	:: drain != FLOWING -> drain = FLOWING; tell(true)
	:: else -> skip
	fi
}

proctype Source()
{
	bool at_rest;
	end: do
#ifdef STALE_ANSWER
	:: atomic { migration == PRECOPY && drain == FLOWING && windows > 0 && nfull(calls) ->
#else
	:: atomic { migration == PRECOPY && drain == FLOWING && windows > 0 && !asked ->
#endif
		    windows--;
		    drain = QUIET;
#ifdef ASKS_FIRST
		    try();
		    tell(false)
#else
		    tell(false);
		    try()
#endif
		    }
	:: atomic { migration == PRECOPY && drain == QUIET && !asked -> try() }
	:: atomic { migration == PRECOPY && nempty(answers) ->
		    answers?at_rest;
		    asked = false;
		    if
		    :: drain == QUIET && at_rest -> drain = DRAINED
		    :: else -> skip
		    fi;
		    at_rest = false }
	:: atomic { migration == PRECOPY && drain != FLOWING -> release() }             /* the window is over */
	:: atomic { migration == PRECOPY && drain == DRAINED ->
		    assert(!in_flight || strayed);                                  /* vCPUs stop after the I/O */
		    guest_runs = false;
#ifdef NO_LAST_LOOK
		    assert(!in_flight);
		    migration = SAVED
#else
		    migration = CHECKING;
		    try()
#endif
		    }
	:: atomic { migration == CHECKING && nempty(answers) ->
		    answers?at_rest;
		    asked = false;
		    if
		    :: at_rest -> assert(!in_flight); migration = SAVED
		    :: else -> release(); guest_runs = true; migration = PRECOPY
		    fi;
		    at_rest = false }
	:: atomic { migration == PRECOPY || migration == CHECKING ->                    /* cancelled, a lost link, ... */
#ifndef LEFT_SHUT
		    release();
#endif
		    guest_runs = true;
		    migration = OVER }
	od
}

proctype Embedder()
{
	mtype what;
	end: do
	:: atomic { calls?what ->
		    if
		    :: what == DEPTH -> depth_waits = false; picking = told_picking
		    :: what == TRY -> answers!(in_flight == 0)
		    fi;
		    what = 0 }
	od
}

proctype Device()
{
	end: do
	:: atomic { guest_runs && picking && in_flight < 2 -> in_flight++ }
	:: atomic { in_flight > 0 -> in_flight-- }
	:: atomic { drain == DRAINED && migration == PRECOPY && !strayed -> strayed = true; in_flight++ }
	od
}

/* Whatever can still happen, this holds from here on. */
proctype Laws()
{
	end: atomic { (migration == SAVED && (in_flight || picking)) ||
		      (migration == OVER && empty(calls) && (!picking || !guest_runs)) -> assert(false) }
}

init
{
	atomic { run Source(); run Embedder(); run Device(); run Laws() }
}
