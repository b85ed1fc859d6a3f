/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* handoff.pml: who owns the guest, for spin: both ends from the stop of the source's guest on, a link that breaks at any moment with or
 * without what it holds, crashes, embedders that fail, deadlines, and an operator who tells the truth.
 *
 * -DRECOVER adds the reconnection of docs/protocol.md (ASK, ANSWER), which the core does not have yet: so the design is checked before.
 * Broken on purpose, each to be refuted: BROKEN=1 source resumes when the link is lost after GO; 2 ready destination takes a lost
 * link for GO; 3 NEVER though resume is still under way; 4 source cancels after GO; 5 destination runs once ready; 6 (RECOVER)
 * answers before the old link is closed; 7 (RECOVER) unknown is taken for never; 8 a guest that fails stays stopped. */

#ifndef BROKEN
#define BROKEN 0
#endif

mtype = { SWITCHOVER, READY, GO, RUNNING, NEVER, DONE, CANCEL, ASK, LOADED, UNKNOWN };
mtype = { ACTIVE, WAIT_READY, RELEASING, WAIT_RUNNING, GIVING_UP, DOUBT, COMPLETED, FAILED, GONE, LOADING, IS_READY, ACQUIRING, RESUMING, WAIT_DONE };

chan s2d = [3] of { mtype };
chan d2s = [3] of { mtype };
chan ask = [1] of { mtype };       /* the second link */
chan answer = [1] of { mtype };

mtype source = ACTIVE, destination = ACTIVE;
bool source_runs = true, destination_runs = false;
bool destination_ever_ran = false, go_handed = false, never_read = false, told_source = false, told_destination = false;
bool source_crashed = false, destination_crashed = false, resume_failed = false;
bool broken_link = false;          /* from now on nothing is sent, and what is there may be lost */
bool source_lost = false, destination_lost = false; /* that side has noticed, or closed it */
bool asked = false;

#define SETTLED(x) (x == COMPLETED || x == FAILED || x == DOUBT || x == GONE)

inline run_source()
{
	assert(!destination_runs);                                        /* Law 5: never two */
	assert(!go_handed || never_read || told_source);                  /* nor by itself after GO */
	assert(!destination_ever_ran || told_source);                     /* nor after the other was the last to run */
	source_runs = true
}

inline run_destination()
{
	assert(!source_runs);
	assert(destination != FAILED);
	destination_runs = true;
	destination_ever_ran = true
}

inline send(channel, message)
{
	if
	:: broken_link -> skip
	:: !broken_link && nfull(channel) -> channel!message
	fi
}

proctype Source() provided (source != GONE)
{
	do
	:: source == ACTIVE -> atomic { source_runs = false; send(s2d, SWITCHOVER); source = WAIT_READY }
	:: source == WAIT_READY && !source_lost ->
		if
		:: d2s?READY -> source = RELEASING
		:: d2s?NEVER -> source = GIVING_UP
		:: d2s?CANCEL -> source = GIVING_UP
		:: atomic { send(s2d, CANCEL); source = GIVING_UP }       /* cancelled, or waited too long */
		:: broken_link && empty(d2s) -> source_lost = true
		fi
	:: source == RELEASING && !source_lost ->
		if
		:: atomic { go_handed = true; send(s2d, GO); source = WAIT_RUNNING }
		:: atomic { send(s2d, CANCEL); source = GIVING_UP }       /* release failed, cancelled */
		:: d2s?NEVER -> source = GIVING_UP
		:: broken_link && empty(d2s) -> source_lost = true
		fi
	:: (source == WAIT_READY || source == RELEASING) && source_lost -> source = GIVING_UP
	:: source == WAIT_RUNNING && !source_lost ->
		if
		:: atomic { d2s?RUNNING -> send(s2d, DONE); source = COMPLETED }
		:: atomic { d2s?NEVER -> never_read = true; source = GIVING_UP }
		:: d2s?CANCEL -> source = DOUBT
		:: source = DOUBT                                         /* waited too long */
		:: broken_link && empty(d2s) -> source_lost = true
#if BROKEN == 4
		:: atomic { send(s2d, CANCEL); source = GIVING_UP }
#endif
		fi
#if BROKEN == 1
	:: source == WAIT_RUNNING && source_lost -> source = GIVING_UP
#else
	:: source == WAIT_RUNNING && source_lost -> source = DOUBT
#endif
	:: source == GIVING_UP ->
#if BROKEN == 8
		source = FAILED
#else
		if
		:: atomic { run_source(); source = FAILED }
		:: atomic { resume_failed = true; source = FAILED }
		fi
#endif
#ifdef RECOVER
	:: source == DOUBT && !asked -> atomic { asked = true; source_lost = true; broken_link = true; ask!ASK }
	:: source == DOUBT && asked && nempty(answer) ->
		if
		:: atomic { answer?RUNNING -> source = COMPLETED }
		:: atomic { answer?NEVER -> never_read = true; source = GIVING_UP }
		:: answer?LOADED -> skip                                  /* and ask the operator */
#if BROKEN == 7
		:: atomic { answer?UNKNOWN -> never_read = true; source = GIVING_UP }
#else
		:: answer?UNKNOWN -> skip
#endif
		fi
#endif
	:: SETTLED(source) && SETTLED(destination) && source != DOUBT -> break
	:: told_source && source == FAILED -> break
	od
}

proctype Destination() provided (destination != GONE)
{
	do
	:: destination == ACTIVE && !destination_lost ->
		if
		:: s2d?SWITCHOVER -> destination = LOADING
		:: s2d?CANCEL -> destination = FAILED
		:: atomic { send(d2s, CANCEL); destination = FAILED }
		:: broken_link && empty(s2d) -> destination_lost = true
		fi
	:: destination == LOADING && !destination_lost ->
		if
		:: atomic { send(d2s, READY); destination = IS_READY }
		:: atomic { send(d2s, CANCEL); destination = FAILED }
		:: s2d?CANCEL -> destination = FAILED
		:: broken_link && empty(s2d) -> destination_lost = true
		fi
	:: atomic { (destination == ACTIVE || destination == LOADING) && destination_lost -> destination = FAILED }
	:: destination == IS_READY && !destination_lost ->
		if
		:: atomic { s2d?GO -> destination = ACQUIRING }
		:: atomic { s2d?CANCEL -> destination = FAILED }
		:: atomic { destination == IS_READY -> destination = DOUBT } /* waited too long */
		:: destination != IS_READY -> skip
		:: broken_link && empty(s2d) -> destination_lost = true
#if BROKEN == 5
		:: destination = ACQUIRING
#endif
		fi
#if BROKEN == 2
	:: atomic { destination == IS_READY && destination_lost -> destination = ACQUIRING }
#else
	:: atomic { destination == IS_READY && destination_lost -> destination = DOUBT }
#endif
	:: destination == ACQUIRING ->
		if
		:: destination = RESUMING
		:: atomic { send(d2s, NEVER); destination = FAILED }
		fi
	:: destination == RESUMING ->
		if
		:: atomic { run_destination(); destination = WAIT_DONE }
		:: atomic { send(d2s, NEVER); resume_failed = true; destination = FAILED }
#if BROKEN == 3
		:: send(d2s, NEVER)                                       /* it took too long, and goes on */
#endif
		fi
	:: destination == WAIT_DONE -> atomic { send(d2s, RUNNING); destination = COMPLETED }
	:: SETTLED(destination) && SETTLED(source) && destination != DOUBT -> break
	:: destination == FAILED && told_destination -> break
	od
}

#ifdef RECOVER
#define UNDECIDED (destination == ACQUIRING || destination == RESUMING || destination == WAIT_DONE)
/* Who answers at the door, also after a restart. */
proctype Door()
{
	do
	:: nempty(ask) && !UNDECIDED ->
#if BROKEN != 6
		atomic {                                                  /* first the old link is closed: a GO may sit in it */
			destination_lost = true;
			do
			:: nempty(s2d) -> s2d?_
			:: empty(s2d) -> break
			od
		};
		!UNDECIDED;
#endif
		if
		:: atomic { destination_crashed -> ask?ASK; answer!UNKNOWN }
		:: atomic { !destination_crashed && destination == COMPLETED -> ask?ASK; answer!RUNNING }
		:: atomic { !destination_crashed && destination == FAILED -> ask?ASK; answer!NEVER }
		:: atomic { !destination_crashed && (destination == IS_READY || destination == DOUBT) -> ask?ASK; answer!LOADED }
#if BROKEN == 6
		:: !destination_crashed && (destination == IS_READY || destination == DOUBT) -> ask?ASK; answer!NEVER;
			if
			:: atomic { destination == IS_READY || destination == DOUBT -> destination = FAILED }
			:: else -> skip
			fi
#else
		:: atomic { !destination_crashed && (destination == IS_READY || destination == DOUBT) -> ask?ASK; answer!NEVER;
			    destination = FAILED }
#endif
		fi
	od
}
#endif

/* What the world does to them. */
proctype World()
{
	bool crash_left = true;
	do
	:: atomic { !broken_link -> broken_link = true }
	:: atomic { broken_link && nempty(s2d) -> s2d?_ }                 /* lost on the way */
	:: atomic { broken_link && nempty(d2s) -> d2s?_ }
	:: crash_left && source != GONE && !SETTLED(source) -> atomic { source = GONE; source_runs = false; source_crashed = true;
									broken_link = true; crash_left = false }
	:: crash_left && destination != GONE -> atomic { destination = GONE; destination_runs = false; destination_crashed = true;
							 broken_link = true; crash_left = false }
	:: SETTLED(source) && SETTLED(destination) -> break
	od
}

/* Looks at both sides and tells the truth: who is told to run knows that the other does not and will not. */
proctype Operator()
{
	do
	:: atomic { source == DOUBT && destination_runs && SETTLED(destination) -> source = COMPLETED }
	:: atomic { source == DOUBT && (destination == FAILED || destination == GONE) && !destination_runs && empty(ask) && empty(answer) ->
		    told_source = true; run_source(); source = FAILED }
	:: atomic { source == DOUBT && destination == DOUBT && empty(ask) && empty(answer) -> told_destination = true; destination = FAILED }
	:: atomic { destination == DOUBT && source == GONE -> told_destination = true; run_destination(); destination = COMPLETED }
	:: atomic { destination == DOUBT && source_runs -> told_destination = true; destination = FAILED }
	:: atomic { destination == DOUBT && source == FAILED && !source_runs -> told_destination = true; run_destination(); destination = COMPLETED }
	:: timeout ->
		/* Nothing can happen any more: both have come to an end, none is in doubt, and there is a guest, but where the host that
		 * had it is gone or could not run it. */
		assert(SETTLED(source) && SETTLED(destination) && source != DOUBT && destination != DOUBT);
		assert(source_runs || destination_runs || source_crashed || destination_crashed || resume_failed);
		break
	od
}

init
{
#ifdef RECOVER
	run Door();
#endif
	atomic { run Source(); run Destination(); run World(); run Operator() }
}
