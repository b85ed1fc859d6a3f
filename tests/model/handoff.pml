/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* handoff.pml: who owns the guest, for spin: both ends from the stop of the source's guest on, over a link that breaks at any moment and is
 * dialled again.
 *
 * What can happen: a link breaks one way or both, with or without what it holds, and each side notices in its own time (the other may go on
 * on it for long: half-open); an old link's words arrive late; a dial arrives after a later one; deadlines; cancel; embedders that cannot
 * load, release, acquire or resume; a crash of either side (-DBOTH_CRASH: of both) at any moment, with or without a restart that knows
 * nothing; a destination's listener that forgets; a source that stops telling; and an operator who looks at both sides, one after the
 * other, and later says the word that follows from what he saw.
 *
 * Faults of the link and deadlines are FAULTS in all; each costs one dial at most, and so does a crash: that is asserted, and shows that
 * the ends do not dial in circles.
 *
 * -DUNNUMBERED: the operator's word does not name the doubt that it is for. That holds only for an operator who tells a side to run when
 * the other is over, not when it is in doubt: he discards there first.
 * -DLAST_COPY adds a law: a source that gives up and then cannot resume has not made the destination discard a guest that was ready to
 * run. It holds only with -DRESUMES_FIRST: CANCEL is sent once the guest runs at the source; where it cannot, nothing is told and the
 * destination's operator decides.
 *
 * What else is under #ifdef is broken on purpose; `run` lists it, and what each must be refuted for. */

#ifndef FAULTS
#define FAULTS 2 /* 0 to 3 */
#endif
#define LINKS (FAULTS + 2) /* the first, one for each fault, and one for a crash */

mtype = { SWITCHOVER, READY, GO, RUNNING, NEVER, DONE, CANCEL, BYE, DIAL, ANSWER, REFUSE };
mtype = { ACTIVE, COMPLETED, FAILED, DOUBT, GONE, /* of either; source: */
		WAIT_READY, RELEASING, WAIT_RUNNING, ASKING, ANSWERED, GIVING_UP, RECLAIMING, TELLING, /* destination: */
		LOADING, IS_READY, ACQUIRING, RESUMING, WAIT_DONE };

/* Link n is the n-th dial; its epoch and its dial number are n. */
chan s2d[LINKS] = [3] of { mtype };
chan d2s[LINKS] = [3] of { mtype };
bool cut_s2d[LINKS], cut_d2s[LINKS]; /* nothing more gets in; what is there arrives, or the rest of it is lost */

mtype source = ACTIVE, destination = ACTIVE;
byte source_link = 0, destination_link = 0;                     /* the last one dialled, answered */
bool source_up = true, destination_up = true;                   /* not noticed as lost and not closed, by that side */
byte source_doubt = 0, destination_doubt = 0;                   /* which one it is */
bool source_runs = true, destination_runs = false;

byte faults = FAULTS;
bool calm = false;                                              /* the world does no more harm */
bool restarted = false, forgotten = false, stopped_telling = false, crashed = false;

/* For the laws. */
bool go_handed = false, never_read = false, running_read = false, destination_ever_ran = false;
bool told_source = false, told_destination = false, source_cannot = false; /* resume */
#ifdef LAST_COPY
bool discarded_ready = false;
#else
#define discarded_ready skipped /* costs states */
hidden byte skipped;
#endif

#define SOURCE_IN_DOUBT (source == DOUBT || source == ASKING)   /* until ANSWER came */
#define OVER(x) (x == COMPLETED || x == FAILED || x == GONE)
#define FROM_DESTINATION d2s[source_link]
#define FROM_SOURCE s2d[destination_link]
#define ANSWERS (destination != GONE || restarted)              /* someone listens there */

/* A frame that its receiver has no place for ends the link (Law 7): with two honest ends there is none. */
inline unexpected()
{
	assert(false)
}

inline empty_out(channel)
{
	do
	:: nempty(channel) -> channel?_
	:: empty(channel) -> break
	od
}

inline source_sends(message)
{
	if
	:: source_up && !cut_s2d[source_link] -> assert(nfull(s2d[source_link])); s2d[source_link]!message
	:: else -> skip
	fi
}

inline destination_sends(message)
{
	if
	:: destination_up && !cut_d2s[destination_link] -> assert(nfull(d2s[destination_link])); d2s[destination_link]!message
	:: else -> skip
	fi
}

/* Nothing more is read from it; what was written to it may still arrive. */
inline source_closes()
{
	source_up = false;
	cut_s2d[source_link] = true;
	cut_d2s[source_link] = true;
#ifndef OLD_READY_ACCEPTED
	empty_out(d2s[source_link])
#endif
}

inline destination_closes()
{
	destination_up = false;
	cut_s2d[destination_link] = true;
	cut_d2s[destination_link] = true;
#ifndef OLD_GO_ACCEPTED
	empty_out(s2d[destination_link])
#endif
}

/* Silence: also where the dial was lost, so that there is nobody at the other end. */
#define UNHEARD (cut_s2d[source_link] && empty(s2d[source_link]) && destination_link != source_link)
#define SOURCE_NOTICES (source_up && empty(d2s[source_link]) && (cut_d2s[source_link] || UNHEARD))
#define DESTINATION_NOTICES (destination_up && cut_s2d[destination_link] && empty(s2d[destination_link]))

inline run_source()
{
	assert(!destination_runs);                                      /* Law 5: never two */
	assert(!go_handed || never_read || told_source);                /* nor by itself where it may not be the last */
	assert(!destination_ever_ran || told_source);
	source_runs = true
}

inline run_destination()
{
	assert(!source_runs);
	destination_runs = true;
	destination_ever_ran = true
}

inline source_doubts()
{
	source_closes();
	source_doubt++;
	source = DOUBT
}

/* Leave, with the guest running here. Whoever the word reaches says NEVER. */
inline give_up()
{
#ifndef RESUMES_FIRST
	source_sends(CANCEL);
#endif
	source = GIVING_UP
}

inline source_ends()
{
	source_closes();
	source = FAILED
}

inline source_dials()
{
	assert(source_link < FAULTS + crashed);                         /* not in circles: each dial is for a fault */
	source_link++;
	source_up = true;
	s2d[source_link]!DIAL
}

inline source_takes_never()
{
	never_read = true;
	source_sends(BYE);
	source_closes();
	source = GIVING_UP
}

inline source_takes_running()
{
	running_read = true;
	source_sends(DONE);
	source = COMPLETED
}

proctype Source()
{
	mtype m;
	bool asked = false;                                             /* TELLING: this link was dialled for it */
	bool refused = false;                                           /* keeps asking, but nothing will change that answer */
	bool nothing_there = false;                                     /* it is known that the destination has nothing to be in doubt of */
	do
	:: atomic { source == ACTIVE -> source_runs = false; source_sends(SWITCHOVER); source = WAIT_READY }

	/* Before GO: whatever happens, the guest runs here again. */
	:: atomic { source == WAIT_READY && source_up && FROM_DESTINATION?[READY] -> FROM_DESTINATION?READY; source = RELEASING }
	:: atomic { (source == WAIT_READY || source == RELEASING) && source_up && FROM_DESTINATION?[CANCEL] -> /* it could not load */
		    assert(source == WAIT_READY); FROM_DESTINATION?CANCEL; nothing_there = true; source_closes(); source = GIVING_UP }
	:: atomic { source == RELEASING && source_up -> go_handed = true; source_sends(GO); source = WAIT_RUNNING }
	:: atomic { source == WAIT_READY || source == RELEASING -> give_up() } /* cancelled, too late, or cannot release */
	:: atomic { (source == WAIT_READY || source == RELEASING) && SOURCE_NOTICES -> source_closes(); source = GIVING_UP }
	:: atomic { source == GIVING_UP ->
#ifndef STAYS_STOPPED
		    if
		    :: run_source()
		    :: source_cannot = true                             /* its embedder cannot resume */
		    fi;
#endif
		    if
		    :: nothing_there || never_read -> source_ends()
		    :: else ->
#if defined(DOES_NOT_TELL)
			    source_ends()
#elif defined(RESUMES_FIRST)
			    if
			    :: source_runs -> source_sends(CANCEL); source = TELLING
			    :: else -> source_ends()                    /* the destination's operator may want it */
			    fi
#else
			    source = TELLING
#endif
		    fi }

	/* The guest is accounted for; the destination is not to stay in doubt. */
	:: atomic { source == TELLING && source_up && nempty(FROM_DESTINATION) ->
		    FROM_DESTINATION?m;
		    if
		    :: m == ANSWER -> skip
		    :: m == READY && !asked -> skip                     /* it crossed our CANCEL */
		    :: m == READY && asked -> source_sends(CANCEL)
		    :: m == NEVER || m == CANCEL || m == REFUSE -> source_ends()
		    :: m == RUNNING -> assert(told_destination); source_ends()
		    :: else -> unexpected()
		    fi }
	:: atomic { source == TELLING && SOURCE_NOTICES -> source_closes() }
	:: atomic { source == TELLING && !source_up && ANSWERS -> asked = true; source_dials() }
	:: atomic { source == TELLING && (!calm || (!source_up && !ANSWERS)) -> stopped_telling = true; source_ends() }

	/* After GO: only RUNNING, NEVER or an operator decide. */
	:: atomic { source == WAIT_RUNNING && source_up && nempty(FROM_DESTINATION) ->
		    FROM_DESTINATION?m;
		    if
		    :: m == RUNNING -> source_takes_running()
		    :: m == NEVER -> source_takes_never()
#ifdef READY_AGAIN_VOIDS_GO
		    :: m == READY -> give_up()
#endif
		    :: else -> unexpected()
		    fi }
	:: atomic { source == WAIT_RUNNING && faults > 0 && !calm -> faults--; source_doubts() } /* waited too long */
#ifdef RESUMES_ON_LOSS_AFTER_GO
	:: atomic { source == WAIT_RUNNING && SOURCE_NOTICES -> give_up() }
#elif defined(LETS_GO_ON_LOSS)
	:: atomic { source == WAIT_RUNNING && SOURCE_NOTICES -> source_closes(); source = COMPLETED }
#else
	:: atomic { (source == WAIT_RUNNING || source == ANSWERED) && SOURCE_NOTICES -> source_doubts() }
#endif
#ifdef CANCELS_AFTER_GO
	:: atomic { source == WAIT_RUNNING -> give_up() }
#endif

	/* In doubt: asks until it knows, or is told. */
	:: atomic { source == DOUBT && ANSWERS && !refused -> source_dials(); source = ASKING }
	:: atomic { source == ASKING && SOURCE_NOTICES -> source_closes(); source = DOUBT } /* the same doubt */
	:: atomic { source == ASKING && nempty(FROM_DESTINATION) ->
		    FROM_DESTINATION?m;
		    if
		    :: m == ANSWER -> source = ANSWERED
#ifdef UNKNOWN_IS_NEVER
		    :: m == REFUSE -> source_takes_never()
#else
		    :: m == REFUSE -> refused = true; source_closes(); source = DOUBT
#endif
		    :: else -> unexpected()
		    fi }
#ifdef OLD_READY_ACCEPTED
	:: atomic { source == ASKING && d2s[source_link - 1]?[ANSWER] -> d2s[source_link - 1]?ANSWER }
	:: atomic { source == ASKING && d2s[source_link - 1]?[READY] ->
		    d2s[source_link - 1]?READY; source_sends(GO); source = WAIT_RUNNING }
#endif
	:: atomic { source == ANSWERED && source_up && nempty(FROM_DESTINATION) ->
		    FROM_DESTINATION?m;
		    if
		    :: m == READY -> source_sends(GO); source = WAIT_RUNNING /* the old GO is void */
		    :: m == RUNNING -> source_takes_running()
		    :: m == NEVER -> source_takes_never()
		    :: else -> unexpected()
		    fi }
	:: atomic { source == ANSWERED && faults > 0 && !calm -> faults--; source_doubts() }
	:: atomic { source == RECLAIMING ->
		    if
		    :: run_source()
		    :: source_cannot = true
		    fi;
		    source_ends() }
#ifdef TOLD_AND_GOES_ON
	/* Told to run, and yet it goes on reconnecting. */
	:: atomic { (source == RECLAIMING || source == FAILED) && told_source && source_up && nempty(FROM_DESTINATION) ->
		    FROM_DESTINATION?m;
		    if
		    :: m == READY -> source_sends(GO)
		    :: else -> skip
		    fi }
#endif
	od
}

#ifdef ANSWERS_BEFORE_CLOSING
byte half_closed = LINKS;
#endif

inline destination_doubts()
{
	destination_closes();
	destination_doubt++;
	destination = DOUBT
}

inline destination_never()
{
	destination_sends(NEVER);
	destination = FAILED
}

#if defined(ANSWERS_BEFORE_CLOSING) || defined(OLD_GO_ACCEPTED)
#define LATE_WORD(m) skip
#else
#define LATE_WORD(m) assert(m == CANCEL || m == BYE || (m == SWITCHOVER && destination == FAILED))
#endif

proctype Destination()
{
	mtype m;
	do
	/* Before READY: what came is void if anything goes wrong. */
	:: atomic { destination == ACTIVE && destination_up && FROM_SOURCE?[SWITCHOVER] -> FROM_SOURCE?SWITCHOVER; destination = LOADING }
	:: atomic { destination == LOADING -> destination_sends(READY); destination = IS_READY }
	:: atomic { destination == LOADING && destination_up && FROM_SOURCE?[CANCEL] -> FROM_SOURCE?CANCEL; destination_never() }
	:: atomic { destination == ACTIVE || destination == LOADING -> destination_sends(CANCEL); destination = FAILED }
	:: atomic { (destination == ACTIVE || destination == LOADING) && DESTINATION_NOTICES -> destination_closes(); destination = FAILED }

	/* Ready: only GO or an operator let it run. */
	:: atomic { destination == IS_READY && destination_up && nempty(FROM_SOURCE) ->
		    FROM_SOURCE?m;
		    if
		    :: m == GO -> destination = ACQUIRING
		    :: m == CANCEL -> discarded_ready = true; destination_never()
		    :: else -> unexpected()
		    fi }
	:: atomic { destination == IS_READY && faults > 0 && !calm -> faults--; destination_doubts() } /* waited too long */
#ifdef RUNS_ON_LOST_LINK
	:: atomic { destination == IS_READY && DESTINATION_NOTICES -> destination = ACQUIRING }
#else
	:: atomic { destination == IS_READY && DESTINATION_NOTICES -> destination_doubts() }
#endif
#ifdef RUNS_ONCE_READY
	:: destination == IS_READY -> destination = ACQUIRING
#endif
#ifdef READY_AGAIN_VOIDS_GO
	:: atomic { destination == IS_READY && destination_up && faults > 0 -> faults--; destination_sends(READY) }
#endif

	/* The guest is ours unless we say NEVER. The link does not matter; the word is said when it is decided, on the link there is then. */
	:: atomic { destination == ACQUIRING ->
		    if
		    :: destination = RESUMING
		    :: destination_never()
		    fi }
	:: atomic { destination == RESUMING ->
		    if
		    :: run_destination(); destination_sends(RUNNING); destination = WAIT_DONE
		    :: destination_never()
		    fi }
#ifdef NEVER_WHILE_RESUMING
	:: atomic { destination == RESUMING && !told_destination && faults > 0 -> faults--; destination_sends(NEVER) } /* it takes too long, and goes on */
#endif
	:: atomic { destination == WAIT_DONE && destination_up && FROM_SOURCE?[DONE] -> FROM_SOURCE?DONE; destination = COMPLETED }
	:: atomic { destination == WAIT_DONE && !calm -> destination = COMPLETED } /* the door stays open */
	:: atomic { destination == WAIT_DONE && DESTINATION_NOTICES -> destination_closes(); destination = COMPLETED }
	:: atomic { destination == WAIT_DONE && !destination_up -> destination = COMPLETED }
	:: atomic { (destination == COMPLETED || destination == FAILED || destination == ACQUIRING || destination == RESUMING) &&
		    DESTINATION_NOTICES -> destination_closes() }
	/* Late words change nothing. GO is none of them: who said NEVER or runs has had it, and a link that is asked on carries none before READY. */
	:: atomic { (destination == COMPLETED || destination == FAILED || destination == ACQUIRING || destination == RESUMING ||
		     destination == WAIT_DONE) && destination_up && nempty(FROM_SOURCE) && !FROM_SOURCE?[DONE] ->
		    FROM_SOURCE?m; LATE_WORD(m) }
	:: atomic { (destination == COMPLETED || destination == FAILED) && destination_up && FROM_SOURCE?[DONE] -> FROM_SOURCE?DONE }

#ifdef OLD_GO_ACCEPTED
	:: atomic { destination == IS_READY && destination_link > 0 && s2d[destination_link - 1]?[GO] ->
		    s2d[destination_link - 1]?GO; destination = ACQUIRING }
#endif
#ifdef ANSWERS_BEFORE_CLOSING
	:: atomic { half_closed < LINKS && destination == IS_READY && s2d[half_closed]?[GO] ->
		    s2d[half_closed]?GO; destination = ACQUIRING }
	:: atomic { half_closed < LINKS -> empty_out(s2d[half_closed]); half_closed = LINKS }
#endif
	od
}

#ifdef NO_TOMBSTONES
#define FORGOTTEN true
#else
#define FORGOTTEN forgotten
#endif

/* A later link comes. It is answered also for a session that is over (the listener remembers it), and by a process that knows nothing. */
proctype Door(byte n)
{
	atomic {
		ANSWERS && s2d[n]?[DIAL] -> s2d[n]?DIAL;
		if
#ifndef LATE_DIAL_ACCEPTED
		:: destination != GONE && n <= destination_link ->          /* comes after a later dial */
			cut_s2d[n] = true;
			cut_d2s[n] = true;
			empty_out(s2d[n])
#endif
		:: destination == GONE || (FORGOTTEN && OVER(destination)) ->
			destination_link = n;
			destination_up = true;
#ifdef FORGOTTEN_IS_NEVER
			destination_sends(ANSWER);
			destination_sends(NEVER)
#else
			destination_sends(REFUSE)
#endif
		:: else ->
#ifdef ANSWERS_BEFORE_CLOSING
			half_closed = (destination_up -> destination_link : half_closed);
#else
			destination_closes();                               /* a GO may sit in it */
#endif
			destination_link = n;
			destination_up = true;
			destination_sends(ANSWER);
			if
			:: destination == ACTIVE || destination == LOADING -> destination_never()
			:: destination == IS_READY || destination == DOUBT -> destination = IS_READY; destination_sends(READY)
#ifdef NEVER_WHILE_DECIDING
			:: destination == ACQUIRING || destination == RESUMING -> destination_sends(NEVER)
#elif defined(READY_WHILE_DECIDING)
			:: destination == ACQUIRING || destination == RESUMING -> destination_sends(READY)
#else
			:: destination == ACQUIRING || destination == RESUMING -> skip /* not decided: said when it is */
#endif
			:: destination == WAIT_DONE || destination == COMPLETED -> destination_sends(RUNNING)
			:: destination == FAILED -> destination_sends(NEVER)
			fi
		fi
	}
}

#define LOSE(channel, cut) :: atomic { cut && nempty(channel) -> empty_out(channel) }

#ifdef BOTH_CRASH
#define MAY_CRASH true
#else
#define MAY_CRASH !crashed
#endif

/* What the world does to them. */
proctype World()
{
	byte i = 0;
	do
	:: atomic { !calm && faults > 0 ->                              /* a link breaks, one way or both */
		    faults--;
		    do
		    :: i < source_link -> i++
		    :: break
		    od;
		    if
		    :: cut_s2d[i] = true
		    :: cut_d2s[i] = true
		    :: cut_s2d[i] = true; cut_d2s[i] = true
		    fi;
		    i = 0 }
	/* What it holds, or the rest of that, is lost. Or it is not, and arrives, however late. */
	LOSE(s2d[0], cut_s2d[0])
	LOSE(d2s[0], cut_d2s[0])
	LOSE(s2d[1], cut_s2d[1])
	LOSE(d2s[1], cut_d2s[1])
#if FAULTS > 0
	LOSE(s2d[2], cut_s2d[2])
	LOSE(d2s[2], cut_d2s[2])
#endif
#if FAULTS > 1
	LOSE(s2d[3], cut_s2d[3])
	LOSE(d2s[3], cut_d2s[3])
#endif
#if FAULTS > 2
	LOSE(s2d[4], cut_s2d[4])
	LOSE(d2s[4], cut_d2s[4])
#endif
	:: atomic { !calm && MAY_CRASH && !OVER(source) -> crashed = true; source_closes(); source = GONE; source_runs = false }
	:: atomic { !calm && MAY_CRASH && destination != GONE ->
		    crashed = true;
		    do
		    :: i <= source_link -> cut_s2d[i] = true; cut_d2s[i] = true; empty_out(s2d[i]); i++
		    :: i > source_link -> break
		    od;
		    i = 0;
		    destination_up = false;
		    destination = GONE;
		    destination_runs = false }
	:: atomic { !calm && destination == GONE && !restarted -> restarted = true }
	:: atomic { !calm && OVER(destination) && !forgotten -> forgotten = true }
	:: atomic { !calm -> calm = true }
	od
}

#define DESTINATION_IS_OVER (destination == FAILED || destination == GONE)
#define SOURCE_IS_OVER (source == GONE || source == COMPLETED || (source == FAILED && !source_runs))
#if defined(UNNUMBERED)
#define SAME_DOUBT(seen, now) true
#define DESTINATION_WILL_NOT DESTINATION_IS_OVER
#define SOURCE_WILL_NOT SOURCE_IS_OVER
#elif defined(WORD_FOR_ANOTHER_DOUBT)
#define SAME_DOUBT(seen, now) true
#define DESTINATION_WILL_NOT (DESTINATION_IS_OVER || destination == DOUBT)
#define SOURCE_WILL_NOT SOURCE_IS_OVER
#elif defined(NOT_YET_IS_NEVER)
#define SAME_DOUBT(seen, now) (seen == now)
#define DESTINATION_WILL_NOT (!destination_runs)
#define SOURCE_WILL_NOT SOURCE_IS_OVER
#else
#define SAME_DOUBT(seen, now) (seen == now)
#define DESTINATION_WILL_NOT (DESTINATION_IS_OVER || destination == DOUBT)
#define SOURCE_WILL_NOT (SOURCE_IS_OVER || SOURCE_IN_DOUBT)
#endif
#ifdef WORD_AFTER_DOUBT
#define SOURCE_TAKES_WORDS (SOURCE_IN_DOUBT || source == ANSWERED || source == WAIT_RUNNING)
#else
#define SOURCE_TAKES_WORDS SOURCE_IN_DOUBT
#endif

#ifdef RESUMES_FIRST
#define NOT_TOLD source_cannot
#else
#define NOT_TOLD false
#endif

/* Sees that a side is in doubt, then looks at the other, then says what follows; in between anything can happen. A side that answers or decides
 * (ready, acquiring, resuming) does not run yet: that is nothing to conclude from, so he looks again later. */
proctype Operator()
{
	byte seen;
	bool there;
	if
	:: there = true
	:: there = false
	fi;
	do
	:: there && SOURCE_IN_DOUBT ->
		seen = source_doubt;
		if
		:: DESTINATION_WILL_NOT ->
			if
			:: atomic { SOURCE_TAKES_WORDS && SAME_DOUBT(seen, source_doubt) ->
				    told_source = true;
#ifndef TOLD_AND_GOES_ON
				    source_closes();                    /* and so asks no more */
#endif
				    source = RECLAIMING }
			:: else -> skip                                     /* refused */
			fi
		:: destination_runs ->
			if
			:: atomic { SOURCE_IN_DOUBT -> told_source = true; source_closes(); source = COMPLETED }
			:: else -> skip
			fi
		:: !SOURCE_IN_DOUBT -> skip
		fi;
		seen = 0
	:: there && destination == DOUBT ->
		seen = destination_doubt;
		if
		:: SOURCE_WILL_NOT ->
			if
			:: atomic { destination == DOUBT && SAME_DOUBT(seen, destination_doubt) ->
				    told_destination = true;
				    destination = ACQUIRING }
			:: else -> skip
			fi
		:: source_runs || SOURCE_IN_DOUBT ->
			if
			:: atomic { destination == DOUBT -> told_destination = true; destination = FAILED }
			:: else -> skip
			fi
		:: destination != DOUBT -> skip
		fi;
		seen = 0
	:: timeout -> break                                                 /* nothing can happen any more */
	od;
	assert(OVER(source) || source == DOUBT);
	assert(OVER(destination) || destination == DOUBT);
	/* Doubt ends by itself where there is someone to ask who remembers, else by the operator. */
	assert((!there && (crashed || forgotten || stopped_telling || NOT_TOLD)) || (source != DOUBT && destination != DOUBT));
	/* There is a guest, but where the host that had it is gone or cannot run it. */
	assert(source_runs || destination_runs || source == DOUBT || destination == DOUBT || source_cannot || source == GONE ||
	       (destination == GONE && destination_ever_ran));
	assert(source != COMPLETED || running_read || told_source);
#ifdef LAST_COPY
	assert(!(discarded_ready && source_cannot))
#endif
}

init
{
	atomic {
		run Source();
		run Destination();
		run Door(1);
#if FAULTS > 0
		run Door(2);
#endif
#if FAULTS > 1
		run Door(3);
#endif
#if FAULTS > 2
		run Door(4);
#endif
		run World();
		run Operator()
	}
}
