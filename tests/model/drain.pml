/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* drain.pml: bringing device I/O to rest, for spin: the source's windows, calls that wait in the embedder's loop, and a device whose requests
 * end in their own time, or never. States and steps are those of core/decide/drain.c and of what source.c asks it.
 *
 * What the embedder is told goes through one queue, in order; of a depth that waits there only the newest value counts. The source asks
 * again only when it was answered. The embedder may say at once that waiting is of no use, or fail to take a depth. What is under #ifdef
 * is broken on purpose; `run` lists it. */

#ifndef TRIES
#define TRIES 3 /* windows in vain before the migration fails: SLUICE_DRAIN_TRIES */
#endif
#define USUAL 2 /* requests in flight at most */
#define SHORT 1

mtype = { FLOWING, SHALLOW, QUIET, DRAINED };           /* the drain */
mtype = { PRECOPY, PAUSING, HOLDING, CHECKING, SAVED, TURNING_BACK, GIVING_UP, OVER }; /* the migration */
mtype = { DEPTH, TRY, STOP, GO_ON };                    /* calls */
mtype = { AT_REST, AGAIN, BUSY };                       /* answers to TRY */

/* Laws by name; no part of a state. `run` sets all but one: a broken model must be refuted by the one that it breaks. */
hidden byte io, shut, rest, ends;
#define LAW(name, holds) assert(name || (holds))

mtype drain = FLOWING, migration = PRECOPY;
chan calls = [4] of { mtype };
chan answers = [2] of { mtype };
bool asked = false, depth_waits = false;
bool depth_failed = false, failed_to_take = false;      /* ever; and the source does not know yet */
bool stopped = false, resumed = false;                  /* done: pause, resume */
byte told = USUAL, depth = USUAL;                       /* the newest value; what the device keeps to */
bool guest_runs = true;
byte in_flight = 0, busy = 0;                           /* windows in vain */
bool strayed = false;                                   /* a request came in though nothing was picked up */

inline tell(value)
{
	told = value;
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
	:: drain != FLOWING -> drain = FLOWING; tell(USUAL)
	:: else -> skip
	fi
}

/* The window is over, and was in vain; perhaps that was enough of them. */
inline in_vain()
{
	release();
	busy++;
	if
	:: busy >= TRIES && migration == PRECOPY -> migration = OVER
	:: else -> skip
	fi
}

inline resume()
{
#ifndef LEFT_SHUT
	release();
#endif
	calls!GO_ON
}

proctype Source()
{
	mtype answer;
	end: do
	:: atomic { migration == PRECOPY && drain == FLOWING && !asked -> drain = SHALLOW; tell(SHORT) }        /* the end is near */
	:: atomic { migration == PRECOPY && drain == SHALLOW -> release() }                                      /* no good moment came */
#ifdef STALE_ANSWER
	:: atomic { migration == PRECOPY && (drain == FLOWING || drain == SHALLOW) && nfull(calls) ->
#else
	:: atomic { migration == PRECOPY && (drain == FLOWING || drain == SHALLOW) && !asked ->
#endif
		    drain = QUIET;
#ifdef ASKS_FIRST
		    try();
		    tell(0)
#else
		    tell(0);
		    try()
#endif
		    }
	:: atomic { migration == PRECOPY && drain == QUIET && !asked -> try() }
	:: atomic { migration != CHECKING && nempty(answers) ->
		    answers?answer;
		    asked = false;
		    if
		    :: migration == PRECOPY && drain == QUIET && answer == AT_REST -> drain = DRAINED
		    :: migration == PRECOPY && drain == QUIET && answer == BUSY -> in_vain()
		    :: else -> skip                                                 /* the window is over */
		    fi;
		    answer = 0 }
	:: atomic { failed_to_take -> failed_to_take = false;
		    if
		    :: migration == PRECOPY && drain == QUIET -> in_vain()
		    :: else -> skip
		    fi }
	/* The window is over, also while the destination lands what was sent. Not once the guest is being stopped. */
#ifdef WINDOW_ENDS_WHILE_STOPPING
	:: atomic { (migration == PRECOPY || migration == PAUSING) && (drain == QUIET || drain == DRAINED) -> in_vain() }
#else
	:: atomic { migration == PRECOPY && (drain == QUIET || drain == DRAINED) -> in_vain() }
#endif
	:: atomic { migration == PRECOPY && drain == DRAINED -> migration = PAUSING; calls!STOP }
	:: atomic { migration == PAUSING && stopped -> stopped = false; migration = HOLDING }                   /* for sluice_continue(), or not */
	:: atomic { migration == HOLDING && !asked ->
#ifdef NO_LAST_LOOK
		    LAW(io, !in_flight);
		    migration = SAVED
#else
		    migration = CHECKING;
		    try()
#endif
		    }
	:: atomic { migration == CHECKING && nempty(answers) ->
		    answers?answer;
		    asked = false;
		    if
		    :: answer == AT_REST -> LAW(io, !in_flight); migration = SAVED
		    :: else -> migration = TURNING_BACK; in_vain(); resume()
		    fi;
		    answer = 0 }
	:: atomic { migration == SAVED -> migration = TURNING_BACK; resume() }                                  /* the downtime guard */
	:: atomic { migration == TURNING_BACK && resumed -> resumed = false; migration = PRECOPY;
		    if
		    :: busy >= TRIES -> migration = OVER
		    :: else -> skip
		    fi }
	/* Cancelled, a lost link, ... A guest that is being stopped is let go once it has been. */
	:: atomic { migration == PRECOPY ->
#ifndef LEFT_SHUT
		    release();
#endif
		    migration = OVER }
	:: atomic { (migration == PAUSING && stopped) || migration == HOLDING || migration == CHECKING || migration == SAVED ->
		    stopped = false;
		    migration = GIVING_UP;
		    resume() }
	:: atomic { (migration == GIVING_UP || migration == TURNING_BACK) && resumed -> resumed = false; migration = OVER }
	od
}

proctype Embedder()
{
	mtype what;
	end: do
	:: atomic { calls?what ->
		    if
		    :: what == DEPTH -> depth_waits = false; depth = told
		    :: what == DEPTH && !depth_failed -> depth_waits = false; depth_failed = true; failed_to_take = true
		    :: what == TRY && in_flight == 0 -> answers!AT_REST
		    :: what == TRY && in_flight -> answers!AGAIN
		    :: what == TRY && in_flight -> answers!BUSY
		    :: what == STOP -> LAW(io, !in_flight || strayed || depth_failed); guest_runs = false; stopped = true /* vCPUs stop after the I/O */
		    :: what == GO_ON -> guest_runs = true; resumed = true
		    fi;
		    what = 0 }
	od
}

proctype Device()
{
	end: do
	:: atomic { guest_runs && in_flight < depth -> LAW(rest, drain != DRAINED || depth_failed); in_flight++ }
	:: atomic { in_flight > 0 -> in_flight-- }
	:: atomic { drain == DRAINED && migration == PRECOPY && !strayed -> strayed = true; in_flight++ }
	od
}

/* Whatever can still happen, this holds from here on. */
proctype Laws()
{
	end: do
	:: atomic { migration == SAVED && in_flight && !io -> LAW(io, false) }
	:: atomic { migration == SAVED && depth && !depth_failed && !rest -> LAW(rest, false) }
	:: atomic { (migration == OVER || (migration == PRECOPY && drain == FLOWING)) && empty(calls) && !shut &&
		    ((depth != USUAL && !depth_failed) || !guest_runs) -> LAW(shut, false) }
	:: atomic { busy > TRIES && !ends -> LAW(ends, false) }
	od
}

init
{
	atomic { run Source(); run Embedder(); run Device(); run Laws() }
}
