/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* handoff.pml: who owns the guest, for spin: both ends from the stop of the source's guest on, over a link that breaks at any moment and is
 * dialled again. States and steps are those of core/decide/source.c, source_leave.c, destination.c and of core/run/admit.c, under the same names:
 * who changes one changes the other.
 *
 * What can happen: a link breaks one way or both, with or without what it holds, and each side notices in its own time (the other may go on
 * on it for long: half-open); an old link's words arrive late; a dial arrives after a later one; deadlines; cancel; embedders that cannot
 * load, release, acquire or resume, or resume so late that nobody waits any more; a crash of either side (-DBOTH_CRASH: of both) at any moment,
 * with or without a restart that knows nothing; a destination's listener that forgets; a source that stops telling; and an operator who
 * looks at both sides, one after the other, and later says the word that follows from what he saw. His word does not name the doubt that it
 * is for (sluice_resolve() does not): so he tells a side to run only when the other is over, and where it is in doubt discards there first.
 *
 * Nobody's link ends but for a reason: FAULTS are what breaks links and lets deadlines pass, in all. Each costs one dial at most, and so does a crash,
 * and an operator's word: that is asserted, and shows that the ends do not dial in circles. A side that ends closes its link once what it
 * said was read.
 *
 * What is under #ifdef is broken on purpose; `run` lists it, and which law each must be refuted by. */

#ifndef FAULTS
#define FAULTS 2 /* 0 to 4 */
#endif
#define LINKS (FAULTS + 3) /* the first, one for each fault, for a crash, and for an operator's word */

mtype = { SWITCHOVER, READY, GO, RUNNING, NEVER, DONE, CANCEL, BYE, DIAL, ANSWER, REFUSE };
mtype = { ACTIVE, COMPLETED, FAILED, GONE, /* of either: the middle two are also ENDED; source: */
		WAIT_READY, RELEASING, WAIT_RUNNING, GIVING_UP, RECLAIMING, TELLING, APART, ASKING, /* destination: */
		LANDING, LOADING, IS_READY, ACQUIRING, RESUMING, WAIT_DONE, D_DOUBT, D_TELLING };

/* Laws by name; no part of a state. `run` sets all but one: a broken model must be refuted by the one that it breaks. */
hidden byte two, none, alone, kept, whole, disks, early, word, lost, doubt, circles, frame, ends;
#define LAW(name, holds) assert(name || (holds))

/* Link n is the n-th dial; its epoch and its dial number are n. */
chan s2d[LINKS] = [3] of { mtype };
chan d2s[LINKS] = [3] of { mtype };
bool cut_s2d[LINKS], cut_d2s[LINKS]; /* nothing more gets in; what is there arrives, or the rest of it is lost */

mtype source = ACTIVE, destination = ACTIVE;
byte source_link = 0, destination_link = 0;                     /* the last one dialled, taken */
bool source_up = true, destination_up = true;                   /* it may send and is listened to, on that side */
bool may_be_ready = false, asked_anew = false, tells = false;   /* struct source; tells: tell_until_ns */
bool back = false;                                              /* the door has taken a later link, and control does not know yet */
bool source_runs = true, destination_runs = false;
bool source_disk = true, destination_disk = false;

byte faults = FAULTS;
bool calm = false;                                              /* the world does no more harm */
bool restarted = false, forgotten = false, stopped_telling = false, crashed = false;

/* For the laws. */
bool go_handed = false, never_read = false, running_read = false, destination_ever_ran = false, landed = false;
bool may_run = false;                                           /* READY was said, and nothing since that could take the guest away */
bool told_source = false, told_destination = false;
bool source_cannot = false;                                     /* resume; or not in time, */
bool resumes_late = false;                                      /* and then it may yet */

#define SOURCE_IN_DOUBT ((source == APART || source == ASKING) && !tells) /* source_in_doubt() */
#define SOURCE_ENDED (source == COMPLETED || source == FAILED || source == GONE)
#define DESTINATION_ENDED (destination == COMPLETED || destination == FAILED || destination == GONE)
#define OVER_THERE (destination == D_TELLING || destination == FAILED || destination == COMPLETED)
#define FROM_DESTINATION d2s[source_link]
#define FROM_SOURCE s2d[destination_link]
#define SOMEONE_LISTENS (destination != GONE || restarted)

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
#define SOURCE_HEARS(word) (source_up && FROM_DESTINATION?[word])
#define DESTINATION_HEARS(word) (destination_up && FROM_SOURCE?[word])
#define A_DEADLINE_PASSES (faults > 0 && !calm)

/* ---------------------------------------------------------------- who runs, and who has the disks */

inline run_source()
{
	LAW(two, !destination_runs);
	LAW(alone, !go_handed || never_read || told_source);
	LAW(alone, !destination_ever_ran || told_source);
	LAW(disks, !destination_disk);
	source_disk = true;
	source_runs = true
}

inline run_destination()
{
	LAW(two, !source_runs);
	LAW(whole, landed);
	LAW(disks, destination_disk);
	destination_runs = true;
	destination_ever_ran = true
}

/* ---------------------------------------------------------------- source */

inline source_await_running()                                   /* go() */
{
	go_handed = true;
	source_sends(GO);
	source = WAIT_RUNNING
}

inline source_doubts()
{
	source_closes();
	source = APART
}

inline source_ends(how)
{
	source_closes();
	tells = false;
	asked_anew = false;
	source = how
}

inline tell()
{
	source_sends(CANCEL);
	source = TELLING
}

inline source_dials()
{
	LAW(circles, source_link < FAULTS + crashed + told_source); /* each dial is for a fault, or for an operator's word */
	source_link++;
	source_up = true;
	asked_anew = false;
	s2d[source_link]!DIAL;
	source = ASKING
}

/* The embedder resumes the guest, cannot, or not in time: then nobody waits any more. */
inline let_know()
{
	if
#ifdef STAYS_STOPPED
	:: skip
#else
	:: run_source()
	:: source_cannot = true
	:: source_cannot = true; resumes_late = true
#endif
	fi;
	if
#ifdef DOES_NOT_TELL
	:: true -> source_ends(FAILED)
#elif defined(TELLS_THOUGH_IT_CANNOT)
	:: may_be_ready && source_up -> tells = true; tell()
	:: may_be_ready && !source_up -> tells = true; source = APART
#else
	:: may_be_ready && source_runs && source_up -> tells = true; tell()
	:: may_be_ready && source_runs && !source_up -> tells = true; source = APART
#endif
	:: else -> source_ends(FAILED)                              /* the destination's operator may want it */
	fi
}

/* Leave, with the guest running here: whoever the word reaches says NEVER. Not before the guest runs: let_know(). */
inline give_up()
{
#ifdef CANCELS_FIRST
	source_sends(CANCEL);
#endif
	source = GIVING_UP
}

/* Its ready state is destroyed, so it will not run it later either. */
#define NEVER_IS_TRUE (destination == D_TELLING || destination == FAILED || destination == GONE)
inline source_takes_never()
{
	LAW(word, NEVER_IS_TRUE);
	never_read = true;
	may_be_ready = false;
	source_sends(BYE);
	source_closes();
	source = GIVING_UP
}

proctype Source()
{
	bool refused = false;                                           /* keeps asking, but nothing will change that answer */
	do
#ifdef GO_WITHOUT_READY
	:: atomic { source == WAIT_READY -> source_disk = false; source_await_running() }
#endif
	:: atomic { source == ACTIVE -> source_runs = false; may_be_ready = true; source_sends(SWITCHOVER); source = WAIT_READY }

	:: atomic { source == ACTIVE && SOURCE_HEARS(CANCEL) -> FROM_DESTINATION?CANCEL; source_ends(FAILED) }
	:: atomic { source == ACTIVE && SOURCE_NOTICES -> source_ends(FAILED) }

	/* Before GO: whatever happens, the guest runs here again. */
	:: atomic { source == WAIT_READY && SOURCE_HEARS(READY) -> FROM_DESTINATION?READY;
#ifdef GO_BEFORE_RELEASE
		    source_await_running()
#else
		    source = RELEASING
#endif
		  }
	:: atomic { source == WAIT_READY && SOURCE_HEARS(CANCEL) -> FROM_DESTINATION?CANCEL; /* it could not load */
		    may_be_ready = false; source_closes(); source = GIVING_UP }
	:: atomic { source == RELEASING -> source_disk = false; source_await_running() }
	:: atomic { source == WAIT_READY || source == RELEASING -> give_up() } /* cancelled, too late, no stream, or cannot release */
	:: atomic { (source == WAIT_READY || source == RELEASING) && SOURCE_NOTICES -> source_closes(); source = GIVING_UP }

	:: atomic { source == GIVING_UP -> let_know() }
	:: atomic { source == GIVING_UP && SOURCE_HEARS(CANCEL) -> FROM_DESTINATION?CANCEL; may_be_ready = false; source_closes() }
	:: atomic { source == GIVING_UP && SOURCE_HEARS(READY) -> FROM_DESTINATION?READY }   /* a late word */
	:: atomic { source == GIVING_UP && SOURCE_NOTICES -> source_closes() }
	:: atomic { source == FAILED && resumes_late -> resumes_late = false; run_source() }

	/* The guest is accounted for; the destination is not to stay in doubt. */
	:: atomic { source == TELLING && SOURCE_HEARS(READY) -> FROM_DESTINATION?READY;
		    if
		    :: asked_anew -> tell()
		    :: else -> skip                                 /* it crossed our CANCEL */
		    fi }
	:: atomic { source == TELLING && SOURCE_HEARS(NEVER) -> FROM_DESTINATION?NEVER;
		    LAW(word, NEVER_IS_TRUE);
		    source_sends(BYE);
		    source_ends(FAILED) }
	:: atomic { source == TELLING && SOURCE_HEARS(CANCEL) -> FROM_DESTINATION?CANCEL; source_ends(FAILED) }
	:: atomic { source == TELLING && SOURCE_NOTICES -> source_closes(); source = APART }
	:: atomic { tells && !calm -> stopped_telling = true; source_ends(FAILED) }          /* tell_until_ns */
	:: atomic { source == APART && tells && !SOMEONE_LISTENS -> source_ends(FAILED) }    /* -ECONNREFUSED */

	/* After GO: only RUNNING, NEVER or an operator decide. */
	:: atomic { source == WAIT_RUNNING && SOURCE_HEARS(RUNNING) -> FROM_DESTINATION?RUNNING;
		    LAW(word, destination_ever_ran);
		    running_read = true; source_sends(DONE); asked_anew = false; source = COMPLETED }
	:: atomic { source == WAIT_RUNNING && SOURCE_HEARS(NEVER) -> FROM_DESTINATION?NEVER; source_takes_never() }
	:: atomic { source == WAIT_RUNNING && asked_anew && SOURCE_HEARS(READY) -> FROM_DESTINATION?READY; asked_anew = false;
#ifdef READY_IS_NEVER
		    give_up()
#else
		    source_await_running()                          /* the old GO is void */
#endif
		  }
#ifdef READY_AGAIN_VOIDS_GO
	:: atomic { source == WAIT_RUNNING && !asked_anew && SOURCE_HEARS(READY) -> FROM_DESTINATION?READY; give_up() }
#endif
#ifdef RESUMES_ON_DEADLINE_AFTER_GO
	:: atomic { source == WAIT_RUNNING && A_DEADLINE_PASSES -> faults--; give_up() }
#else
	:: atomic { source == WAIT_RUNNING && A_DEADLINE_PASSES -> faults--; source_doubts() }
#endif
#ifdef RESUMES_ON_LOSS_AFTER_GO
	:: atomic { source == WAIT_RUNNING && SOURCE_NOTICES -> source_closes(); source = GIVING_UP }
#elif defined(LETS_GO_ON_LOSS)
	:: atomic { source == WAIT_RUNNING && SOURCE_NOTICES -> source_closes(); source = COMPLETED }
#else
	:: atomic { source == WAIT_RUNNING && SOURCE_NOTICES -> source_doubts() }
#endif
#ifdef CANCELS_AFTER_GO
	:: atomic { source == WAIT_RUNNING -> give_up() }
#endif

	/* No link: in doubt, or having to tell. Asks until it knows, or is told. */
	:: atomic { source == APART && SOMEONE_LISTENS && !refused -> source_dials() }
	:: atomic { source == ASKING && SOURCE_NOTICES -> source_closes(); source = APART }
	:: atomic { source == ASKING && A_DEADLINE_PASSES -> faults--; source_closes(); source = APART }
	:: atomic { source == ASKING && SOURCE_HEARS(ANSWER) -> FROM_DESTINATION?ANSWER; asked_anew = true; may_be_ready = true;
		    if
		    :: tells -> source = TELLING
		    :: else -> source = WAIT_RUNNING
		    fi }
	:: atomic { source == ASKING && SOURCE_HEARS(REFUSE) -> FROM_DESTINATION?REFUSE;
#ifdef UNKNOWN_IS_NEVER
		    source_takes_never()
#else
		    may_be_ready = false;
		    if
		    :: tells -> source_ends(FAILED)
		    :: else -> refused = true; source_closes(); source = APART
		    fi
#endif
		  }
#ifdef OLD_READY_ACCEPTED
	:: atomic { source == ASKING && d2s[source_link - 1]?[ANSWER] -> d2s[source_link - 1]?ANSWER }
	:: atomic { source == ASKING && d2s[source_link - 1]?[READY] -> d2s[source_link - 1]?READY; source_await_running() }
#endif
	:: atomic { source == RECLAIMING -> let_know() }                /* the operator said run */
	od
}

/* ---------------------------------------------------------------- destination */

#ifdef ANSWERS_BEFORE_CLOSING
byte half_closed = LINKS;
#endif

#define BEFORE_READY (destination == ACTIVE || destination == LANDING || destination == LOADING)
#define OURS (destination == ACQUIRING || destination == RESUMING || destination == WAIT_DONE)

inline destination_doubts()
{
	destination_closes();
	destination = D_DOUBT
}

/* A link that the door has just taken ends unanswered, which costs a dial: such a moment is a fault. */
#define MAY_END (!back || A_DEADLINE_PASSES)
inline destination_ends(how)
{
	if
	:: back -> back = false; faults--; destination_closes()
	:: else -> skip
	fi;
	destination = how
}

/* It was loaded, and does not run and never will. Its embedder has let go of what it took. */
inline says_never()
{
#ifndef NEVER_KEEPS_DISKS
	destination_disk = false;
#endif
	destination_sends(NEVER);
#ifdef NEVER_KEEPS_GUEST
	destination = IS_READY
#else
	destination = D_TELLING
#endif
}

inline repeat_last_word()                                       /* back() */
{
	destination_sends(ANSWER);
	if
	:: destination == ACTIVE || destination == LANDING || destination == LOADING -> destination_sends(NEVER); destination = FAILED
	:: destination == IS_READY || destination == D_DOUBT -> destination = IS_READY; destination_sends(READY)
#ifdef NEVER_WHILE_DECIDING
	:: destination == ACQUIRING || destination == RESUMING -> destination_sends(NEVER)
#elif defined(READY_WHILE_DECIDING)
	:: destination == ACQUIRING || destination == RESUMING -> destination_sends(READY)
#else
	:: destination == ACQUIRING || destination == RESUMING -> skip  /* not decided: said when it is */
#endif
	:: destination == WAIT_DONE || destination == COMPLETED -> destination_sends(RUNNING)
	:: destination == D_TELLING || destination == FAILED -> destination_sends(NEVER)
	fi
}

proctype Destination()
{
#ifdef RUNNING_BEFORE_IT_RUNS
	bool said = false;
#endif
	do
	/* Before READY: what came is void if anything goes wrong. */
	:: atomic { destination == ACTIVE && DESTINATION_HEARS(SWITCHOVER) -> FROM_SOURCE?SWITCHOVER;
#ifdef READY_ON_SWITCHOVER
		    destination_sends(READY);
		    destination = IS_READY
#else
		    destination = LANDING
#endif
		  }
	:: atomic { destination == LANDING -> landed = true; destination = LOADING }
	:: atomic { destination == LOADING -> may_run = true; destination_sends(READY); destination = IS_READY }
	:: atomic { (destination == LANDING || destination == LOADING) && DESTINATION_HEARS(CANCEL) -> FROM_SOURCE?CANCEL;
		    LAW(lost, source_runs || source == GONE);
		    destination_sends(NEVER);
		    destination_ends(FAILED) }
	:: atomic { BEFORE_READY && MAY_END -> destination_sends(CANCEL); destination_ends(FAILED) } /* cancelled, too late, cannot load, no stream */
	:: atomic { BEFORE_READY && DESTINATION_NOTICES && MAY_END -> destination_closes(); destination_ends(FAILED) }

	/* Ready: only GO or an operator let it run. */
	:: atomic { destination == IS_READY && DESTINATION_HEARS(GO) -> FROM_SOURCE?GO; destination = ACQUIRING }
	:: atomic { destination == IS_READY && DESTINATION_HEARS(CANCEL) -> FROM_SOURCE?CANCEL;
		    LAW(lost, source_runs || source == GONE);
		    may_run = false;
		    says_never() }
	:: atomic { destination == IS_READY && A_DEADLINE_PASSES -> faults--; destination_doubts() }
#ifdef RUNS_ON_LOST_LINK
	:: atomic { destination == IS_READY && DESTINATION_NOTICES -> destination_closes(); destination = ACQUIRING }
#elif defined(DISCARDS_ON_LOST_LINK)
	:: atomic { destination == IS_READY && DESTINATION_NOTICES -> destination_closes(); says_never() }
#else
	:: atomic { destination == IS_READY && DESTINATION_NOTICES -> destination_doubts() }
#endif
#ifdef RUNS_ONCE_READY
	:: atomic { destination == IS_READY -> destination = ACQUIRING }
#endif
#ifdef READY_AGAIN_VOIDS_GO
	:: atomic { destination == IS_READY && destination_up && faults > 0 -> faults--; destination_sends(READY) }
#endif

	/* The guest is ours unless we say NEVER. The link does not matter; the word is said when it is decided, on the link there is then. */
	:: atomic { destination == ACQUIRING ->
		    if
		    :: LAW(disks, !source_disk); destination_disk = true; destination = RESUMING
		    :: may_run = false; says_never()                /* the embedder cannot */
		    fi }
#ifdef RUNNING_BEFORE_IT_RUNS
	:: atomic { destination == RESUMING && !said -> destination_sends(RUNNING); said = true }
#endif
	:: atomic { destination == RESUMING ->
		    if
		    :: run_destination(); destination_sends(RUNNING); destination = WAIT_DONE
		    :: may_run = false; says_never()
		    fi }
#ifdef NEVER_WHILE_RESUMING
	:: atomic { destination == RESUMING && !told_destination && faults > 0 -> faults--; destination_sends(NEVER) } /* it takes too long, and goes on */
#endif
	:: atomic { destination == WAIT_DONE && DESTINATION_HEARS(DONE) -> FROM_SOURCE?DONE; destination_ends(COMPLETED) } /* LINGERING */
	:: atomic { destination == WAIT_DONE && destination_up && A_DEADLINE_PASSES -> faults--; destination_closes() }
	:: atomic { destination == WAIT_DONE && !destination_up && MAY_END -> destination_ends(COMPLETED) } /* remembered for long enough */
	:: atomic { destination == D_TELLING && DESTINATION_HEARS(BYE) -> FROM_SOURCE?BYE; destination_closes(); destination_ends(FAILED) }
	:: atomic { destination == D_TELLING && DESTINATION_HEARS(CANCEL) -> FROM_SOURCE?CANCEL; destination_closes(); destination_ends(FAILED) }
	:: atomic { destination == D_TELLING && destination_up && A_DEADLINE_PASSES -> faults--; destination_closes(); destination_ends(FAILED) }
	:: atomic { destination == D_TELLING && !destination_up && MAY_END -> destination_ends(FAILED) }
	:: atomic { (OURS || OVER_THERE) && DESTINATION_NOTICES -> destination_closes() }
	/* Who ended closes once what it said was read, and reads on until then. */
	:: atomic { (destination == FAILED || destination == COMPLETED) && destination_up && empty(s2d[destination_link]) && empty(d2s[destination_link]) ->
		    destination_closes() }
	:: atomic { destination == FAILED && DESTINATION_HEARS(SWITCHOVER) -> FROM_SOURCE?SWITCHOVER }
	:: atomic { (destination == FAILED || destination == COMPLETED) && DESTINATION_HEARS(CANCEL) -> FROM_SOURCE?CANCEL }
	:: atomic { (destination == FAILED || destination == COMPLETED) && DESTINATION_HEARS(BYE) -> FROM_SOURCE?BYE }
	:: atomic { (destination == FAILED || destination == COMPLETED) && DESTINATION_HEARS(DONE) -> FROM_SOURCE?DONE }

	:: atomic { back -> back = false; destination_up = true; repeat_last_word() } /* INPUT_LINK_BACK */

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

/* A frame that its receiver has no place for ends the link (Law 7): with two honest ends there is none. */
#define SOURCE_HAS_A_PLACE ( \
	((source == WAIT_READY || source == GIVING_UP || source == TELLING || (source == WAIT_RUNNING && asked_anew)) && FROM_DESTINATION?[READY]) || \
	((source == ACTIVE || source == WAIT_READY || source == GIVING_UP || source == TELLING) && FROM_DESTINATION?[CANCEL]) || \
	((source == TELLING || source == WAIT_RUNNING) && FROM_DESTINATION?[NEVER]) || (source == WAIT_RUNNING && FROM_DESTINATION?[RUNNING]) || \
	(source == ASKING && (FROM_DESTINATION?[ANSWER] || FROM_DESTINATION?[REFUSE])))
#define DESTINATION_HAS_A_PLACE ( \
	((destination == ACTIVE || destination == FAILED) && FROM_SOURCE?[SWITCHOVER]) || (destination == IS_READY && FROM_SOURCE?[GO]) || \
	((destination == WAIT_DONE || destination == COMPLETED || destination == FAILED) && FROM_SOURCE?[DONE]) || \
	((BEFORE_READY || destination == IS_READY || OVER_THERE) && FROM_SOURCE?[CANCEL]) || (OVER_THERE && FROM_SOURCE?[BYE]))
proctype Frames()
{
	end: atomic {
		(source_up && nempty(FROM_DESTINATION) && !SOURCE_ENDED && !SOURCE_HAS_A_PLACE) ||
			(destination_up && nempty(FROM_SOURCE) && destination != GONE && !DESTINATION_HAS_A_PLACE) ->
			LAW(frame, false)
	}
}

#ifdef NO_TOMBSTONES
#define FORGOTTEN true
#else
#define FORGOTTEN forgotten
#endif

/* A later link comes: the link thread's, admit.c. It is answered also for a session that is over (the listener remembers it), and by a process
 * that knows nothing. A session that lives hears of it a moment later. */
proctype Door(byte n)
{
	atomic {
		SOMEONE_LISTENS && s2d[n]?[DIAL] -> s2d[n]?DIAL;
		if
#ifndef LATE_DIAL_ACCEPTED
		:: destination != GONE && n <= destination_link ->          /* comes after a later dial */
			cut_s2d[n] = true;
			cut_d2s[n] = true;
			empty_out(s2d[n])
#endif
		:: destination == GONE || (FORGOTTEN && (destination == COMPLETED || destination == FAILED)) ->
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
			destination_up = false;
#else
			destination_closes();                               /* a GO may sit in it */
#endif
			destination_link = n;
			if
			:: destination == COMPLETED || destination == FAILED -> destination_up = true; repeat_last_word() /* its tombstone */
			:: else -> back = true
			fi
		fi
	}
}

/* ---------------------------------------------------------------- the world */

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
	LOSE(s2d[2], cut_s2d[2])
	LOSE(d2s[2], cut_d2s[2])
#if FAULTS > 0
	LOSE(s2d[3], cut_s2d[3])
	LOSE(d2s[3], cut_d2s[3])
#endif
#if FAULTS > 1
	LOSE(s2d[4], cut_s2d[4])
	LOSE(d2s[4], cut_d2s[4])
#endif
#if FAULTS > 2
	LOSE(s2d[5], cut_s2d[5])
	LOSE(d2s[5], cut_d2s[5])
#endif
#if FAULTS > 3
	LOSE(s2d[6], cut_s2d[6])
	LOSE(d2s[6], cut_d2s[6])
#endif
	:: atomic { !calm && MAY_CRASH && !SOURCE_ENDED ->
		    crashed = true; source_closes(); source = GONE; source_runs = false; source_disk = false; tells = false; asked_anew = false }
	:: atomic { !calm && MAY_CRASH && destination != GONE ->
		    crashed = true;
		    do
		    :: i <= source_link -> cut_s2d[i] = true; cut_d2s[i] = true; empty_out(s2d[i]); i++
		    :: i > source_link -> break
		    od;
		    i = 0;
		    destination_up = false;
		    back = false;
		    destination = GONE;
		    may_run = false;
		    destination_disk = false;
		    destination_runs = false }
	:: atomic { !calm && destination == GONE && !restarted -> restarted = true }
	:: atomic { !calm && (destination == COMPLETED || destination == FAILED) && !forgotten -> forgotten = true }
	:: atomic { !calm -> calm = true }
	od
}

/* ---------------------------------------------------------------- operator */

#define DESTINATION_IS_OVER (destination == D_TELLING || destination == FAILED || destination == GONE)
#define SOURCE_IS_OVER (source == GONE || source == COMPLETED)
#ifdef WORD_FOR_ANOTHER_DOUBT
#define DESTINATION_WILL_NOT (DESTINATION_IS_OVER || destination == D_DOUBT)
#elif defined(NOT_YET_IS_NEVER)
#define DESTINATION_WILL_NOT (!destination_runs)
#else
#define DESTINATION_WILL_NOT DESTINATION_IS_OVER
#endif
#ifdef FAILED_IS_OVER
#define SOURCE_WILL_NOT (SOURCE_IS_OVER || (source == FAILED && !source_runs))
#else
#define SOURCE_WILL_NOT SOURCE_IS_OVER
#endif

/* Sees that a side is in doubt, then looks at the other, then says what follows; in between anything can happen. A side that answers or decides
 * (ready, acquiring, resuming) does not run yet: that is nothing to conclude from, so he looks again later. A source that has failed and does not run
 * its guest may yet do so, and may have its disks: he ends its process before he lets the other run. */
proctype Operator()
{
	bool there;
	if
	:: there = true
	:: there = false
	fi;
	do
	:: there && SOURCE_IN_DOUBT ->
		if
		:: DESTINATION_WILL_NOT ->
			if
			:: atomic { SOURCE_IN_DOUBT ->
				    told_source = true;
				    source_closes();                    /* and so asks no more */
				    source = RECLAIMING }
			:: else -> skip                                     /* refused */
			fi
		:: destination_runs ->
			if
			:: atomic { SOURCE_IN_DOUBT -> told_source = true; source_ends(COMPLETED) }
			:: else -> skip
			fi
		:: !SOURCE_IN_DOUBT -> skip
		fi
	:: there && destination == D_DOUBT ->
		if
		:: SOURCE_WILL_NOT ->
			if
			:: atomic { destination == D_DOUBT -> told_destination = true; destination = ACQUIRING }
			:: else -> skip
			fi
		:: atomic { source == FAILED && !source_runs -> resumes_late = false; source_disk = false; source = GONE }
		:: source_runs || SOURCE_IN_DOUBT ->
			if
			:: atomic { destination == D_DOUBT -> told_destination = true; may_run = false; says_never() }
			:: else -> skip
			fi
		:: destination != D_DOUBT -> skip
		fi
	:: timeout -> break                                                 /* nothing can happen any more */
	od;
	LAW(ends, SOURCE_ENDED || source == APART);
	LAW(ends, DESTINATION_ENDED || destination == D_DOUBT);
	/* Doubt ends by itself where there is someone to ask who remembers, else by the operator; or where nobody can be told, as there was no guest to run. */
	LAW(doubt, (!there && (crashed || forgotten || stopped_telling || source_cannot)) || (source != APART && destination != D_DOUBT));
	/* There is a guest, but where the host that had it is gone or cannot run it. */
	LAW(none, source_runs || destination_runs || source == APART || destination == D_DOUBT || source_cannot || source == GONE ||
	       (destination == GONE && destination_ever_ran));
	LAW(kept, !may_run || destination == D_DOUBT || destination_ever_ran);
	LAW(early, source != COMPLETED || running_read || told_source)
}

init
{
	atomic {
		run Source();
		run Destination();
		run Frames();
		run Door(1);
		run Door(2);
#if FAULTS > 0
		run Door(3);
#endif
#if FAULTS > 1
		run Door(4);
#endif
#if FAULTS > 2
		run Door(5);
#endif
#if FAULTS > 3
		run Door(6);
#endif
		run World();
		run Operator()
	}
}
