/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* phases.pml: the phases of both ends from beginning to end, for spin, with what each says of the guest.
 *
 * Embedders answer in their own time, late, or with an error, and carry out what they were asked in the order they were asked; every wait has a
 * deadline; cancel, a link that breaks, and an operator may come at any step. What reconnecting looks like on the wire is handoff.pml's:
 * here a lost link is followed by a new one on which the destination has repeated its last word, RECONNECTIONS times at most.
 *
 * How device I/O comes to rest is drain.pml's: here a window opens and ends as it will, and the last look may find something in flight.
 *
 * What is under #ifdef is broken on purpose; `run` lists it. */

#ifndef RECONNECTIONS
#define RECONNECTIONS 2
#endif

mtype = { NONE, INCOMING, SETUP, ACTIVE, DRAINING, PRE_SWITCHOVER, DEVICE, COMPLETED, CANCELLING, CANCELLED, FAILED, IN_DOUBT };  /* phases */
mtype = { HELLO, WELCOME, REFUSE, STREAMS_UP, SWITCHOVER, READY, GO, RUNNING, NEVER, DONE, CANCEL, BYE, ANSWER };
mtype = { NOTHING, PAUSE, SAVE, RELEASE, RESUME, GUEST, LOAD, ACQUIRE };                                /* asked of embedders */
mtype = { NEW, OFFERED, GATHERING, ROUND, PAUSING, HOLDING, CHECKING, SAVING, LAST_ROUND, WAIT_READY, RELEASING, WAIT_RUNNING, TURNING_BACK, GIVING_UP,
	  TELLING, LINGERING, DOUBT, ANSWERED, RECLAIMING, ENDED,                                       /* states of the source */
	  LISTENING, ASKING, LANDING, LOADING, IS_READY, ACQUIRING, RESUMING, WAIT_DONE };              /* and of the destination */

chan s2d = [4] of { mtype };
chan d2s = [4] of { mtype };
chan ask_source = [3] of { mtype };
chan ask_destination = [3] of { mtype };
chan source_done = [3] of { mtype, bool };      /* what, well */
chan destination_done = [3] of { mtype, bool };

mtype source = NEW, source_phase = NONE, source_pending = NOTHING, source_ends_in = FAILED;
mtype destination = NEW, destination_phase = NONE, destination_pending = NOTHING, destination_ends_in = FAILED;
bool cut = false, source_up = false, destination_up = false;
byte reconnections = RECONNECTIONS;
bool calm = false;                              /* nobody cancels, breaks a link or is late any more */
bool asked_again = false;                       /* this link was dialled to ask */
bool guest_stopped = false;                     /* as the source knows it: a pause was asked for and not undone */
bool source_runs = true, destination_runs = false;

/* Laws by name; no part of a state. `run` sets all but one: a broken model must be refuted by the one that it breaks. */
hidden byte two, none, alone, early, phase, way, frame, ends;
#define LAW(name, holds) assert(name || (holds))

bool go_handed = false, running_read = false, never_read = false, told_source = false, told_destination = false;
bool cannot_resume = false, late = false;       /* the source's embedder failed to resume, or took too long */

/* ---------------------------------------------------------------- what a phase says */

#define MAY(from, to) (phase_now == from && next == to)
inline source_enters(next)
{
	phase_now = source_phase;
	LAW(way, MAY(NONE, SETUP) || MAY(SETUP, ACTIVE) || MAY(ACTIVE, DEVICE) || MAY(DEVICE, ACTIVE) || MAY(DEVICE, COMPLETED) ||
	       MAY(ACTIVE, DRAINING) || MAY(DRAINING, ACTIVE) || MAY(DRAINING, DEVICE) || MAY(DRAINING, FAILED) || MAY(DRAINING, CANCELLING) ||
	       ((phase_now == ACTIVE || phase_now == DRAINING) && next == PRE_SWITCHOVER) || MAY(PRE_SWITCHOVER, DEVICE) || MAY(PRE_SWITCHOVER, ACTIVE) ||
	       MAY(PRE_SWITCHOVER, FAILED) || MAY(PRE_SWITCHOVER, CANCELLING) ||
	       MAY(DEVICE, IN_DOUBT) || MAY(IN_DOUBT, DEVICE) || MAY(IN_DOUBT, COMPLETED) || MAY(IN_DOUBT, FAILED) ||
	       MAY(SETUP, FAILED) || MAY(ACTIVE, FAILED) || MAY(DEVICE, FAILED) || MAY(CANCELLING, FAILED) ||
	       MAY(SETUP, CANCELLING) || MAY(ACTIVE, CANCELLING) || MAY(DEVICE, CANCELLING) || MAY(CANCELLING, CANCELLED));
	LAW(early, next != COMPLETED || running_read || told_source);
	LAW(way, next != CANCELLING || !go_handed);
	LAW(way, next != IN_DOUBT || go_handed);
	source_phase = next
}

inline destination_enters(next)
{
	phase_now = destination_phase;
	LAW(way, MAY(NONE, INCOMING) || MAY(INCOMING, SETUP) || MAY(SETUP, ACTIVE) || MAY(ACTIVE, DEVICE) || MAY(DEVICE, COMPLETED) ||
	       MAY(DEVICE, IN_DOUBT) || MAY(IN_DOUBT, DEVICE) || MAY(IN_DOUBT, COMPLETED) || MAY(IN_DOUBT, FAILED) ||
	       ((phase_now == INCOMING || phase_now == SETUP || phase_now == ACTIVE || phase_now == DEVICE) &&
		(next == FAILED || next == CANCELLED)));
	LAW(early, next != COMPLETED || destination_runs);
	destination_phase = next
}

/* Broken at any step, this is seen at that step. A guest that runs is in the phases before the stop, and where it stood still and could be resumed. */
#define RESUME_TROUBLE (cannot_resume || late)
#define STOPPED_THERE (source == PAUSING || source == TURNING_BACK || source == GIVING_UP)
#define SOURCE_IS_OTHERWISE ((source_phase == SETUP && !source_runs) || \
			(source_phase == PRE_SWITCHOVER && source_runs && !STOPPED_THERE) || \
			((source_phase == ACTIVE || source_phase == DRAINING) && !source_runs && !STOPPED_THERE && !RESUME_TROUBLE) || \
			(source_phase == DEVICE && source_runs && !STOPPED_THERE) || \
			((source_phase == CANCELLED || source_phase == FAILED) && !source_runs && !RESUME_TROUBLE) || \
			(source_phase == COMPLETED && source_runs) || (source_phase == IN_DOUBT && source_runs && !told_source))
#define DESTINATION_IS_OTHERWISE ((destination_phase == COMPLETED) != destination_runs && destination_phase != DEVICE && !told_destination)
proctype Laws()
{
	end: do
	:: atomic { source_runs && destination_runs && !two -> LAW(two, false) }
	:: atomic { (SOURCE_IS_OTHERWISE || DESTINATION_IS_OTHERWISE) && !phase -> LAW(phase, false) }
	:: atomic { source_runs && go_handed && !never_read && !told_source && !alone -> LAW(alone, false) }
	od
}

/* ---------------------------------------------------------------- the wire and the embedders */

inline source_sends(message)
{
	if
	:: source_up && !cut -> assert(nfull(s2d)); s2d!message
	:: else -> skip
	fi
}

inline destination_sends(message)
{
	if
	:: destination_up && !cut -> assert(nfull(d2s)); d2s!message
	:: else -> skip
	fi
}

inline ask(state, request)
{
	source_pending = request;
	ask_source!request;
	source = state
}

inline ask_there(state, request)
{
	destination_pending = request;
	ask_destination!request;
	destination = state
}

proctype Embedders()
{
	mtype what;
	bool well;
	end: do
	:: atomic { ask_source?what ->
		    if
		    :: well = true
		    :: well = false
		    fi;
		    if
		    :: well && what == PAUSE -> source_runs = false
		    :: well && what == RESUME -> source_runs = true
		    :: !well && what == RESUME -> cannot_resume = true
		    :: else -> skip
		    fi;
		    source_done!what, well;
		    what = NOTHING;
		    well = false }
	:: atomic { ask_destination?what ->
		    if
		    :: well = true
		    :: well = false
		    fi;
		    if
		    :: well && what == RESUME -> destination_runs = true
		    :: else -> skip
		    fi;
		    destination_done!what, well;
		    what = NOTHING;
		    well = false }
	od
}

/* ---------------------------------------------------------------- source */

inline source_ends(next)
{
	if
	:: source_phase != next -> source_enters(next)
	:: else -> skip
	fi;
	source_up = false;
	cut = true;
	source = ENDED
}

/* The guest is accounted for: end, but where the destination may be ready see to it that it is not left in doubt. */
inline source_leaves(next)
{
	source_enters(next);
	if
	:: switchover_handed && !never_read && !guest_stopped -> source_sends(CANCEL); source = TELLING /* once it runs, not before */
	:: else -> source_ends(next)
	fi
}

inline give_up(next)
{
	if
	:: !switchover_handed -> source_sends(CANCEL)
	:: else -> skip
	fi;
	source_ends_in = next;
	if
	:: next == CANCELLED ->
		source_enters(CANCELLING)
#ifdef CANCELLED_TOO_EARLY
		; source_enters(CANCELLED)
#endif
	:: else -> skip
	fi;
	if
#ifdef ENDS_WHILE_ASKED
	:: source_pending != NOTHING -> source_leaves(next)
#else
	:: source_pending != NOTHING -> source = GIVING_UP              /* its answer first */
#endif
#ifdef LEFT_STOPPED
	:: source_pending == NOTHING -> source_leaves(next)
#else
	:: source_pending == NOTHING && guest_stopped -> ask(GIVING_UP, RESUME)
	:: source_pending == NOTHING && !guest_stopped -> source_leaves(next)
#endif
	fi
}

inline source_doubts()
{
	source_up = false;
	cut = true;
	source_enters(IN_DOUBT);
	source = DOUBT
}

#define BEFORE_SWITCHOVER (source == OFFERED || source == GATHERING || source == ROUND || source == PAUSING || source == HOLDING || source == CHECKING || source == SAVING || \
			   source == LAST_ROUND || source == TURNING_BACK)
#define CANCELLABLE (BEFORE_SWITCHOVER || source == WAIT_READY || source == RELEASING)
#define DONE_WITH(request) (source_pending == request && source_done?[request, true])

proctype Source()
{
	mtype m, phase_now;
	bool well, switchover_handed = false, holds = false;
	end: do
	:: atomic { source == NEW && destination == LISTENING -> source_enters(SETUP); source_up = true; source_sends(HELLO); source = OFFERED }
	:: atomic { source == OFFERED && source_up && d2s?[WELCOME] -> d2s?WELCOME; source = GATHERING }
	:: atomic { source == OFFERED && source_up && d2s?[REFUSE] -> d2s?REFUSE; source_up = false; give_up(FAILED) }
	:: atomic { source == GATHERING && source_up && d2s?[STREAMS_UP] -> d2s?STREAMS_UP; source_enters(ACTIVE); source = ROUND }
	:: atomic { source == ROUND && source_phase == ACTIVE -> source_enters(DRAINING) }      /* a window */
	:: atomic { source == ROUND && source_phase == DRAINING && !calm -> source_enters(ACTIVE) }
	:: atomic { source == ROUND -> guest_stopped = true;                                    /* little enough is dirty */
		    if
		    :: source_enters(DEVICE)
		    :: holds = true
		    fi;
		    ask(PAUSING, PAUSE) }
	:: atomic { source == PAUSING && DONE_WITH(PAUSE) -> source_done?PAUSE, _; source_pending = NOTHING;
		    if
		    :: holds -> holds = false; source_enters(PRE_SWITCHOVER); source = HOLDING
		    :: holds -> holds = false; source_enters(DEVICE); source = CHECKING /* it was not to hold any more */
		    :: !holds -> source = CHECKING
		    fi }
	:: atomic { source == HOLDING -> source = CHECKING }                                    /* the embedder continues */
	:: atomic { source == CHECKING ->
		    if
		    :: source_phase == PRE_SWITCHOVER -> source_enters(DEVICE); ask(SAVING, SAVE)
		    :: source_phase != PRE_SWITCHOVER -> ask(SAVING, SAVE)
		    :: !calm -> ask(TURNING_BACK, RESUME)               /* something is in flight */
		    fi }
	:: atomic { source == SAVING && DONE_WITH(SAVE) -> source_done?SAVE, _; source_pending = NOTHING;
		    if
		    :: source = LAST_ROUND
		    :: ask(TURNING_BACK, RESUME)                        /* the downtime guard */
#ifdef TURNS_BACK_STOPPED
		    :: source_enters(ACTIVE); source = ROUND
#endif
		    fi }
	:: atomic { source == TURNING_BACK && DONE_WITH(RESUME) -> source_done?RESUME, _; source_pending = NOTHING;
		    guest_stopped = false; source_enters(ACTIVE); source = ROUND }
	:: atomic { source == LAST_ROUND -> switchover_handed = true; source_sends(SWITCHOVER); source = WAIT_READY }
	:: atomic { source == WAIT_READY && source_up && d2s?[READY] -> d2s?READY; ask(RELEASING, RELEASE) }
	:: atomic { source == RELEASING && DONE_WITH(RELEASE) -> source_done?RELEASE, _; source_pending = NOTHING;
		    go_handed = true; source_sends(GO); source = WAIT_RUNNING }

	/* Until GO, every way back ends with the guest running here. */
	:: atomic { CANCELLABLE && source_pending != NOTHING && nempty(source_done) && !source_done?[_, true] ->
		    source_done?m, _; source_pending = NOTHING; give_up(FAILED) }
	:: atomic { CANCELLABLE && !calm -> give_up(CANCELLED) }
	:: atomic { CANCELLABLE && !calm -> give_up(FAILED) }   /* waited too long, a stream is lost, I/O never at rest */
	:: atomic { CANCELLABLE && source_up && d2s?[CANCEL] -> d2s?CANCEL; source_up = false; never_read = true; give_up(FAILED) }
	:: atomic { CANCELLABLE && source_up && d2s?[NEVER] -> LAW(frame, false) }
	:: atomic { CANCELLABLE && source_up && cut && empty(d2s) -> source_up = false; give_up(FAILED) }
#ifdef CANCEL_AFTER_GO
	:: atomic { source == WAIT_RUNNING && !calm -> give_up(CANCELLED) }
#endif
	:: atomic { source == GIVING_UP && nempty(source_done) ->
		    source_done?m, well;
		    if
		    :: m == RESUME && well -> guest_stopped = false
		    :: else -> skip
		    fi;
		    if
		    :: m != source_pending -> skip                      /* late */
		    :: m == source_pending && m != RESUME && guest_stopped -> ask(GIVING_UP, RESUME)
		    :: else ->
			    source_pending = NOTHING;
			    source_leaves((guest_stopped -> FAILED : source_ends_in))
		    fi }
	:: atomic { source == GIVING_UP && !calm && !late && source_pending != RESUME && guest_stopped -> ask(GIVING_UP, RESUME) } /* took too long */
	:: atomic { source == GIVING_UP && !calm && source_pending == RESUME -> late = true; source_leaves(FAILED) }
	:: atomic { source == GIVING_UP && source_up && d2s?[CANCEL] -> d2s?CANCEL; source_up = false; never_read = true }
	:: atomic { source == GIVING_UP && source_up && nempty(d2s) && !d2s?[CANCEL] -> LAW(frame, !d2s?[NEVER] && !d2s?[RUNNING]); d2s?_ } /* late words */
	:: atomic { source == GIVING_UP && source_up && cut && empty(d2s) -> source_up = false }
	:: atomic { source == TELLING && source_up && nempty(d2s) ->
		    d2s?m;
		    if
		    :: m == NEVER || m == CANCEL -> source_sends(BYE); source_ends(source_phase)
		    :: m == READY && asked_again -> source_sends(CANCEL)
		    :: m == READY && !asked_again -> skip               /* it crossed our CANCEL */
		    :: else -> LAW(frame, m == ANSWER)
		    fi;
		    m = 0 }
	:: atomic { source == TELLING && source_up && cut && empty(d2s) -> source_up = false }
	:: atomic { source == TELLING && !source_up && (!reconnections || destination == NEW) -> source_ends(source_phase) }

	/* After GO: RUNNING, NEVER, or an operator. */
	:: atomic { (source == WAIT_RUNNING || source == ANSWERED) && source_up && nempty(d2s) ->
		    d2s?m;
		    if
		    :: m == RUNNING -> running_read = true; source_sends(DONE); source_enters(COMPLETED); source = LINGERING
		    :: m == NEVER -> never_read = true; source_sends(BYE); give_up(FAILED)
		    :: m == ANSWER && source == ANSWERED -> skip
		    :: m == READY && source == ANSWERED -> source_sends(GO); source = WAIT_RUNNING
		    :: else -> LAW(frame, false)
		    fi }
#ifdef FAILS_AFTER_GO
	:: atomic { source == WAIT_RUNNING && source_up && cut && empty(d2s) -> source_up = false; give_up(FAILED) }
#endif
#ifdef COMPLETED_ON_GO
	:: atomic { source == WAIT_RUNNING -> source_enters(COMPLETED); source = LINGERING }
#endif
	:: atomic { (source == WAIT_RUNNING || source == ANSWERED) && source_up && cut && empty(d2s) -> source_doubts() }
	:: atomic { (source == WAIT_RUNNING || source == ANSWERED) && !calm -> source_doubts() } /* waited too long */
	:: atomic { source == DOUBT && source_up -> source_enters(DEVICE); source = ANSWERED }
	:: atomic { source == RECLAIMING && nempty(source_done) ->
		    source_done?m, well; source_pending = NOTHING; source_ends(FAILED) }
	:: atomic { source == LINGERING && !calm -> source_sends(BYE); source_ends(COMPLETED) }
	:: atomic { source == LINGERING && source_up && d2s?[BYE] -> d2s?BYE; source_ends(COMPLETED) }
	:: atomic { source == LINGERING && cut -> source_ends(COMPLETED) }
	:: atomic { source == ENDED && nempty(source_done) -> source_done?_, _ }
	od
}

/* ---------------------------------------------------------------- destination */

inline destination_ends(next)
{
	if
	:: destination_phase != next -> destination_enters(next)
	:: else -> skip
	fi;
	destination = ENDED                                                 /* its listener remembers: see Reconnecting */
}

inline fails(next, word)
{
	destination_sends(word);
	destination_ends_in = next;
	if
	:: destination_pending == NOTHING -> destination_ends(next)
	:: else -> destination = GIVING_UP
	fi
}

inline destination_doubts()
{
	destination_up = false;
	cut = true;
	destination_enters(IN_DOUBT);
	destination = DOUBT
}

#define BEFORE_READY (destination == ASKING || destination == GATHERING || destination == ACTIVE || destination == LANDING || destination == LOADING)
#define DONE_THERE(request) (destination_pending == request && destination_done?[request, true])

proctype Destination()
{
	mtype m, phase_now;
	end: do
	:: atomic { destination == NEW -> destination_enters(INCOMING); destination = LISTENING }
	:: atomic { destination == LISTENING && s2d?[HELLO] -> s2d?HELLO; destination_up = true; ask_there(ASKING, GUEST) }
	:: atomic { destination == ASKING && DONE_THERE(GUEST) -> destination_done?GUEST, _; destination_pending = NOTHING;
		    destination_enters(SETUP); destination_sends(WELCOME); destination = GATHERING }
	:: atomic { destination == GATHERING -> destination_sends(STREAMS_UP); destination_enters(ACTIVE); destination = ACTIVE }
	:: atomic { destination == ACTIVE && destination_up && s2d?[SWITCHOVER] -> s2d?SWITCHOVER; destination = LANDING }
	:: atomic { destination == LANDING -> destination_enters(DEVICE); ask_there(LOADING, LOAD) }
	:: atomic { destination == LOADING && DONE_THERE(LOAD) -> destination_done?LOAD, _; destination_pending = NOTHING;
		    destination_sends(READY); destination = IS_READY }
	:: atomic { destination == ASKING && destination_done?[GUEST, false] -> destination_done?GUEST, _; destination_pending = NOTHING;
		    fails(FAILED, REFUSE) }
	:: atomic { destination == LOADING && destination_done?[LOAD, false] -> destination_done?LOAD, _; destination_pending = NOTHING;
		    fails(FAILED, CANCEL) }
	:: atomic { BEFORE_READY && destination != ASKING && !calm -> fails(CANCELLED, CANCEL) }
	:: atomic { destination == ASKING && !calm -> fails(CANCELLED, REFUSE) }
	:: atomic { destination == ASKING && !calm -> fails(FAILED, REFUSE) }
	:: atomic { BEFORE_READY && destination != ASKING && !calm -> fails(FAILED, CANCEL) } /* waited too long, or a stream is lost */
	:: atomic { (BEFORE_READY || destination == IS_READY) && destination_up && s2d?[CANCEL] -> s2d?CANCEL;
		    if
		    :: destination == ASKING || destination == GATHERING || destination == ACTIVE -> destination_up = false /* it does not wait for our word */
		    :: else -> skip
		    fi;
		    fails(CANCELLED, NEVER) }
	:: atomic { BEFORE_READY && cut && empty(s2d) -> destination_up = false; fails(FAILED, CANCEL) }
	:: atomic { destination == LISTENING && source == ENDED && empty(s2d) -> destination_ends(CANCELLED) } /* nobody else comes */
	:: atomic { destination == GIVING_UP && nempty(destination_done) -> destination_done?_, _; destination_pending = NOTHING;
		    destination_ends(destination_ends_in) }

	:: atomic { destination == IS_READY && destination_up && s2d?[GO] -> s2d?GO; ask_there(ACQUIRING, ACQUIRE) }
	:: atomic { destination == IS_READY && destination_up && cut && empty(s2d) -> destination_doubts() }
	:: atomic { destination == IS_READY && !calm -> destination_doubts() } /* waited too long */
#ifdef RUNS_IN_DOUBT
	:: atomic { destination == DOUBT -> ask_there(ACQUIRING, ACQUIRE) }
#endif
	:: atomic { destination == DOUBT && destination_up -> destination_enters(DEVICE); destination = IS_READY }
	:: atomic { destination == ACQUIRING && DONE_THERE(ACQUIRE) -> destination_done?ACQUIRE, _; ask_there(RESUMING, RESUME) }
	:: atomic { destination == RESUMING && DONE_THERE(RESUME) -> destination_done?RESUME, _; destination_pending = NOTHING;
		    destination_sends(RUNNING); destination = WAIT_DONE }
	:: atomic { (destination == ACQUIRING || destination == RESUMING) && nempty(destination_done) && !destination_done?[_, true] ->
		    destination_done?m, _; destination_pending = NOTHING; fails(FAILED, NEVER) }
	:: atomic { destination == WAIT_DONE && destination_up && s2d?[DONE] -> s2d?DONE; destination_enters(COMPLETED); destination = LINGERING }
	:: atomic { destination == WAIT_DONE && ((cut && empty(s2d)) || !destination_up || !calm) -> destination_ends(COMPLETED) }
	:: atomic { destination == LINGERING && !calm -> destination_sends(BYE); destination_ends(COMPLETED) }
	:: atomic { destination == LINGERING && (s2d?[BYE] || (cut && empty(s2d))) -> destination_ends(COMPLETED) }
	:: atomic { (destination == ACQUIRING || destination == RESUMING || destination == WAIT_DONE) && s2d?[CANCEL] -> s2d?_ }
	:: atomic { (destination == ENDED || destination == GIVING_UP) && nempty(s2d) -> s2d?_ }
	od
}

/* ---------------------------------------------------------------- the world */

/* Break the link; what it holds arrives or is lost. A source that is in doubt, or has to tell, gets another one. */
proctype World()
{
	end: do
	:: atomic { !calm && source_up && !cut -> cut = true }
	:: atomic { cut && nempty(s2d) -> s2d?_ }
	:: atomic { cut && nempty(d2s) -> d2s?_ }
	:: atomic { (source == DOUBT || source == TELLING) && !source_up && cut && reconnections > 0 && destination != NEW ->
		    do
		    :: nempty(s2d) -> s2d?_
		    :: nempty(d2s) -> d2s?_
		    :: empty(s2d) && empty(d2s) -> break
		    od;
		    reconnections--;
		    cut = false;
		    source_up = true;
		    destination_up = true;
		    asked_again = true;
		    d2s!ANSWER;
		    if
		    :: destination == IS_READY || destination == DOUBT -> d2s!READY
		    :: destination == WAIT_DONE || destination == LINGERING || destination_phase == COMPLETED -> d2s!RUNNING
		    :: destination == ACQUIRING || destination == RESUMING -> skip
		    :: destination == GIVING_UP || (destination == ENDED && destination_phase != COMPLETED) -> d2s!NEVER
		    :: else -> s2d!CANCEL; d2s!NEVER                    /* it had not said READY: it fails */
		    fi }
	:: atomic { !calm -> calm = true }
	od
}

proctype Operator()
{
	mtype phase_now;
	do
	:: atomic { source == DOUBT && !source_up && destination == ENDED && destination_phase != COMPLETED ->
		    told_source = true; ask(RECLAIMING, RESUME) }
	:: atomic { source == DOUBT && !source_up && destination_runs ->
		    told_source = true; source_enters(COMPLETED); source = ENDED }
	/* Both in doubt: one is discarded first, then the other runs. */
	:: atomic { source == DOUBT && !source_up && destination == DOUBT && !destination_up ->
		    if
		    :: told_source = true; source_enters(COMPLETED); source = ENDED
		    :: told_destination = true; destination_ends(FAILED)
		    fi }
	:: atomic { destination == DOUBT && !destination_up && source == ENDED && source_phase == FAILED && !source_runs && !late ->
		    told_destination = true; ask_there(ACQUIRING, ACQUIRE) }
	:: atomic { destination == DOUBT && !destination_up && source_runs -> told_destination = true; destination_ends(FAILED) }
	:: atomic { destination == DOUBT && !destination_up && source == ENDED && source_phase == COMPLETED ->
		    told_destination = true; ask_there(ACQUIRING, ACQUIRE) }
	:: timeout -> break
	od;
	/* Nothing can happen any more: every run has come to an end, but where the operator waits for a source that may yet resume. */
	LAW(ends, source == ENDED || source == LINGERING);
	LAW(ends, destination == ENDED || destination == LINGERING || (destination == DOUBT && late && !source_runs));
	LAW(ends, source != ENDED || source_phase == COMPLETED || source_phase == CANCELLED || source_phase == FAILED);
	LAW(none, source_runs || destination_runs || destination == DOUBT || RESUME_TROUBLE || told_source)
}

init
{
	atomic { run Source(); run Destination(); run Embedders(); run World(); run Laws(); run Operator() }
}
