#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""handoff.py: real migrations whose last messages are cut, delayed, lost or come too late, at each of their bytes.

A proxy between two migperfs knows link frames. In each run it lets one frame of the handoff, or the greeting by which a source asks on a
later link, through up to one byte: each byte of each of them has its run, and at the end it says which were met. There it cuts both
connections, drops one direction or both without a word, waits, or cuts one side and gives the rest to the other later. New
connections are then refused for good, for a while, or let through at once. Whatever it does: the guest never runs on both sides; it
is whole on one of them, or a side says that it is in doubt and what to check where; nothing hangs. If connections get through
again, a doubt ends by itself. Every byte of every frame of the handoff is cut in one run, and waited at in another, in which all frames are late.

Verdicts are by what is so, not by when: a run that came to nothing, or to another end, because this machine was too slow for its dead-peer times
decides nothing of these, and is done again with more time, alone. What may never be is not forgiven for that: it is looked at in each try.

  handoff.py [--short] [--runs N]    several at a time; each is drawn from SEED (environment; default random). Without N: a run a byte
  handoff.py --run N [--trace]       that one; a failed run prints this line
  handoff.py --list                  what each run does"""
import asyncio
import collections
import concurrent.futures
import os
import random
import shlex
import signal
import struct
import sys
import threading
import time

from migperf import (CANCELLED, COMPLETED, DIFFERS, FAILED, IN_DOUBT, MIGPERF, NEWS, REFUSED, SANITIZED, SHORT, Checks, Process, Server, completed,
                     run, sane)

FRAMES = {"SWITCHOVER": 7, "READY": 8, "GO": 9, "RUNNING": 10, "NEVER": 11, "DONE": 12, "CANCEL": 13, "BYE": 15, "ANSWER": 16}
NAMES = {number: name for name, number in FRAMES.items()}
FROM = {"SWITCHOVER": "S", "READY": "D", "GO": "S", "RUNNING": "D", "NEVER": "D", "DONE": "S", "CANCEL": "S", "BYE": "SD", "ANSWER": "D", "QUESTION": "S"}  # the greeting of a later link
HEAD, GREETING = 24, 48
# Bytes of each as migperf's guest has them (CANCEL, NEVER: as long as their text). The untouched run checks them.
LENGTH = {"SWITCHOVER": HEAD + 8 + 2 * 76, "READY": HEAD + 12, "GO": HEAD + 12, "RUNNING": HEAD + 12, "DONE": HEAD + 12, "ANSWER": HEAD + 20,
          "CANCEL": HEAD + 25, "NEVER": HEAD + 45, "BYE": HEAD, "QUESTION": GREETING}

# What is done at the byte.
RST, FIN, HALF, HOLE, LATE, DELAY = "rst", "fin", "half", "hole", "late", "delay"
CUTS = (RST, FIN, HALF, HOLE, LATE)
# What becomes of connections made afterwards.
REFUSE, LET, RESET_A_WHILE, HOLE_A_WHILE = "refuse", "let", "reset a while", "hole a while"
AFTERS = (LET, REFUSE, RESET_A_WHILE, LET, REFUSE, HOLE_A_WHILE)

LANES = 2 if SANITIZED else 20  # mostly they wait
HANG_S = 40       # beyond what its deadlines allow
BUDGET_S = 240    # on a machine that is too slow to do all runs in that time, the others are left out, and that is said
REMEMBERS_S = 10  # SLUICE_REMEMBER_MS: how long a session that is over answers, or asks
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))


# All frames of a run are late: in the plain one, in one that is stopped between READY and GO, and in one that asks again. Runs of each, so that
# the longest frame there is waited at before each of its bytes and behind the last.
DELAYS = {"SWITCHOVER": LENGTH["SWITCHOVER"] + 1, "CANCEL": LENGTH["NEVER"] + 1, "QUESTION": LENGTH["QUESTION"] + 1}


def positions():
    """Where runs cut: before each byte of each frame, and behind the last. Or, True: waits there, at all frames of such a run."""
    cuts = [(frame, at, False) for frame, length in LENGTH.items() for at in range(length + 1)]
    return cuts + [(frame, at, True) for frame, count in DELAYS.items() for at in range(count)]


RUNS = int(sys.argv[sys.argv.index("--runs") + 1]) if "--runs" in sys.argv else 30 if SANITIZED else 60 if SHORT else len(positions())
TRIES = (1, 4, 16)  # times as long as planned: dead peers and doubts


class Plan:
    """What a run does; all of it follows from SEED and its number."""

    def __init__(self, number):
        rng = random.Random(f"{SEED} {number}")
        # The same order for all numbers, so that as many runs as there are positions visit each once, with ever other actions.
        order = positions()
        random.Random(SEED).shuffle(order)
        self.number = number
        self.frame, self.at, self.all_late = order[number % len(order)]
        turn = number // len(order)
        self.action = DELAY if self.all_late else CUTS[(number + turn) % len(CUTS)]
        self.after = AFTERS[rng.randrange(len(AFTERS))]
        self.all_connections = self.action in (RST, FIN) and rng.random() < 0.5  # the data streams too
        self.dead_peer_ms = rng.choice((700, 1000, 1500))
        self.delay_s = rng.uniform(0.02, 0.15) if self.all_late else rng.uniform(0.05, 0.8)  # how late; else how long "a while" is
        self.guest = ["-m", rng.choice(("4M", "8M")), "-P", str(rng.randrange(1, 4)), "--dirty-rate", rng.choice(("0", "1M", "4M")),
                      "--downtime", "20000"]  # so that it converges, however slow the machine
        # A later link only comes after a cut: the proxy makes one in place of one of these.
        self.first_cut = rng.choice(("RUNNING", "GO", "READY")) if self.frame in ("QUESTION", "ANSWER") else None
        # CANCEL and NEVER come when the source is stopped between READY and GO: READY is held back meanwhile.
        self.stops = self.frame in ("CANCEL", "NEVER") or (self.frame == "BYE" and rng.random() < 0.5)
        if self.stops or self.first_cut:
            self.after = rng.choice((LET, RESET_A_WHILE)) if self.action != DELAY else LET
        # Doubt can only end where connections get through; the source redials after 0.25, 0.5, 1, 2, 4 s.
        self.heals = self.action == DELAY or self.after != REFUSE
        self.in_doubt_ms = 300 if not self.heals else 12000 if self.first_cut or SANITIZED else 6000

    def __str__(self):
        text = f"run {self.number}: {'all like ' if self.all_late else ''}{self.frame}@{self.at} {self.action}"
        if self.action in (DELAY, LATE):
            text += f" {self.delay_s * 1000:.0f} ms"
        if self.action != DELAY:
            text += f", then {self.after}" + (f" ({self.delay_s:.2f} s)" if "while" in self.after else "")
        return text + f", {'all connections, ' if self.all_connections else ''}dead peer {self.dead_peer_ms} ms, {' '.join(self.guest)}"

    def replay(self):
        return f"MIGPERF={shlex.quote(MIGPERF)} SEED={SEED} tests/e2e/handoff.py --run {self.number} --trace"


# ---------------------------------------------------------------- the proxy, in one thread for all runs

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def in_loop(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)


class Slowness:
    """How slow this machine is, all the time: by how much the proxy's loop, through which all frames go, comes late, and how many threads want
    to run."""

    LATE_S, TICK_S = 0.1, 0.05

    def __init__(self):
        self.samples = []  # (when, late by, wanting to run for each core)
        in_loop(self.begin())

    async def begin(self):
        self.task = asyncio.ensure_future(self.tick())

    async def tick(self):
        while True:
            due = time.monotonic() + self.TICK_S
            await asyncio.sleep(self.TICK_S)
            with open("/proc/loadavg") as load:
                running = int(load.read().split()[3].split("/")[0])
            self.samples.append((due, time.monotonic() - due, running / os.cpu_count()))

    def since(self, when):
        """Was it too slow since then to judge by clocks?"""
        seen = [sample for sample in self.samples if sample[0] >= when]
        return not seen or max(late for _, late, _ in seen) > self.LATE_S or sum(running for _, _, running in seen) / len(seen) > 2


slowness = Slowness()


class Pair:
    """One connection of the source and its other half towards the destination."""

    def __init__(self, near, far):
        self.near, self.far = near, far  # (reader, writer) of the source's and of the destination's side
        self.link = False
        self.swallowed = ()  # directions in which nothing arrives any more

    def ends(self, direction):
        return (self.near, self.far) if direction == "S" else (self.far, self.near)

    def abort(self, writer, rst):
        sock = writer.get_extra_info("socket")
        if rst and sock is not None:
            sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER: close() sends RST
        writer.transport.abort()

    def cut(self, rst):
        self.abort(self.near[1], rst)
        self.abort(self.far[1], rst)


class Proxy:
    """Carries out a plan once; afterwards new connections meet what the plan says. plan None: only watches."""

    def __init__(self, port, plan):
        self.port, self.plan = port, plan
        self.began = time.monotonic()
        self.pairs, self.tasks, self.log = [], set(), []
        self.lengths, self.sent, self.passed = {}, [], []  # of frames; which came here; which went on whole
        self.struck = self.struck_at = self.cut_at = None  # when the plan was carried out, and at which byte; when connections were last cut
        self.waited = set()                                # (frame, byte) at which a frame was held up
        self.stop_source = None                            # called while READY is held back
        self.came_back = False                             # the first cut was made: what comes now is after it
        self.server = None

    async def open(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.uri = f"tcp:127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def close(self):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        for pair in self.pairs:
            pair.cut(False)

    def note(self, text):
        self.log.append(f"{time.monotonic() - self.began:7.3f} {text}")

    async def accept(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        pair = None
        try:
            if self.cut_at is not None and not await self.let_in(reader, writer):
                return
            try:
                far = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionRefusedError:
                self.server.close()  # so that the next one is refused as it would be without a proxy
                raise
            pair = Pair((reader, writer), far)
            self.pairs.append(pair)
            greeting = await reader.readexactly(GREETING)
            pair.link = greeting[10] == 1
            if self.cut_at is not None or self.came_back:
                self.note(f"connected again, {'link' if pair.link else 'stream'}, epoch {struct.unpack_from('<I', greeting, 16)[0]}")
            if not await self.greet(pair, greeting):
                return
            await asyncio.gather(self.pump(pair, "S"), self.pump(pair, "D"))
            if not pair.swallowed:  # else nobody is told
                pair.cut(False)
        except (OSError, EOFError):
            writer.transport.abort()
            if pair:
                pair.cut(False)
        except asyncio.CancelledError:  # close(); asyncio would report it as an error
            pass

    async def greet(self, pair, greeting):
        """Forward a greeting; False: that was all."""
        if pair.link and self.came_back and self.plan.all_late:
            return await self.hold(pair, "QUESTION", "S", greeting, pair.far[1])
        if pair.link and self.came_back and self.plan.frame == "QUESTION" and self.struck is None:
            return await self.strike(pair, "S", greeting, pair.far[1])
        pair.far[1].write(greeting)
        return True

    async def let_in(self, reader, writer):
        """A connection after the cut; True: it may go on."""
        plan, left = self.plan, self.cut_at + self.plan.delay_s - time.monotonic()
        if plan.after == RESET_A_WHILE and left > 0:
            Pair(None, None).abort(writer, True)
            return False
        if plan.after == HOLE_A_WHILE and left > 0:
            await asyncio.sleep(left)  # accepted, but nothing comes of it; then it is lost
            Pair(None, None).abort(writer, True)
            return False
        return True

    async def pump(self, pair, direction):
        (reader, _), (_, writer) = pair.ends(direction)
        try:
            if pair.link:
                while await self.frame(pair, direction, reader, writer):
                    pass
                return
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            raise EOFError
        except EOFError as end:  # a frame may be cut off by it
            if direction not in pair.swallowed:
                writer.write(getattr(end, "partial", b""))
                writer.write_eof()
        except OSError:
            if direction not in pair.swallowed:
                pair.abort(writer, True)

    async def frame(self, pair, direction, reader, writer):
        """Forward one frame; False: this direction is at its end."""
        head = await reader.readexactly(HEAD)
        kind, length = struct.unpack_from("<4xH2xI", head)
        data = head + await reader.readexactly(length)
        name = NAMES.get(kind)
        if name:
            self.note(f"{direction} {name} ({len(data)} bytes){' swallowed' if direction in pair.swallowed else ''}")
            self.lengths[name] = len(data)
            self.sent.append(name)
        if direction in pair.swallowed:
            return True
        plan = self.plan
        if name and plan:
            if name == plan.first_cut and not self.came_back:
                return self.first(pair)
            if name == "READY":
                await self.stop()
            if plan.all_late and direction in FROM[name] and (not plan.first_cut or self.came_back):
                return await self.hold(pair, name, direction, data, writer)
            if name == plan.frame and self.struck is None and direction in FROM[name] and (not plan.first_cut or self.came_back):
                return await self.strike(pair, direction, data, writer)
        writer.write(data)
        await writer.drain()
        if name:
            self.passed.append(name)
        return True

    async def stop(self):
        """READY is held back until the source, which is told to stop, has heard of it."""
        if self.plan.stops and self.stop_source:
            self.note("  stops the source")
            self.stop_source()
            self.stop_source = None
            await asyncio.sleep(0.1)

    async def hold(self, pair, name, direction, data, writer):
        """Wait at the plan's byte of this frame, as of all others."""
        at = self.plan.at % (len(data) + 1)
        self.struck, self.struck_at = time.monotonic(), at
        self.waited.add((name, at))
        self.note(f"  {name} waits at byte {at}")
        if at:
            writer.write(data[:at])
            await writer.drain()
        await asyncio.sleep(self.plan.delay_s)
        writer.write(data[at:])
        await writer.drain()
        self.passed.append(name)
        return True

    def first(self, pair):
        self.came_back = True
        self.note("  first cut")
        pair.cut(True)
        return False

    async def strike(self, pair, direction, data, writer):
        """Do what the plan says at its byte of this frame."""
        plan, other = self.plan, "D" if direction == "S" else "S"
        at = min(plan.at, len(data))
        self.struck, self.struck_at = time.monotonic(), at
        self.note(f"  {plan.action} at byte {at}")
        if at:
            writer.write(data[:at])
            await writer.drain()
        if at == len(data) or plan.action in (DELAY, LATE):
            self.passed.append(plan.frame)
        if plan.action == DELAY:
            await asyncio.sleep(plan.delay_s)
            writer.write(data[at:])
            await writer.drain()
            return True
        self.cut_at = time.monotonic()
        if plan.after == REFUSE:
            self.server.close()
        if plan.action in (RST, FIN):
            for one in self.pairs if plan.all_connections else [pair]:
                one.cut(plan.action == RST)
        elif plan.action == HALF:
            pair.swallowed = {direction}
        elif plan.action == HOLE:
            pair.swallowed = {direction, other}
        elif plan.action == LATE:
            # The sender learns of it at once; what it has sent lies in the network and comes late.
            pair.swallowed = {direction, other}
            pair.abort(pair.ends(direction)[0][1], True)
            await asyncio.sleep(plan.delay_s)
            self.note("  what was cut off arrives")
            if at < len(data):
                writer.write(data[at:])
                await writer.drain()
        return plan.action in (HALF, HOLE)


# ---------------------------------------------------------------- what must hold

checks = Checks()
outcomes = collections.Counter()
met = collections.defaultdict(set)     # the bytes of each frame at which it was cut
waited = collections.defaultdict(set)  # and at which it waited
again = collections.Counter()          # runs that were done again, by what was too slow
alone = threading.Lock()
seconds = {}  # that runs took
STATUS = {COMPLETED: "completed", DIFFERS: "completed", FAILED: "failed", REFUSED: "failed", IN_DOUBT: "in-doubt", CANCELLED: "cancelled"}
FOREVER = 1 << 63


def ran(result):
    """When the guest ran there, by the clock of this host."""
    return [(start, end or FOREVER) for start, end in (result.json or {}).get("guest", {}).get("ran_ns", [])]


def told(result, label, *words):
    """Status and exit status agree, and what went wrong is one line that has these words."""
    good = checks.equal((result.json or {}).get("status"), STATUS.get(result.rc), f"{label}: status beside exit status {result.rc}", result)
    if result.rc == COMPLETED:
        return good
    lines = [line for line in result.err.splitlines() if line.strip() and not NEWS.match(line)]
    good &= checks.equal(len(lines), 1, f"{label}: lines of error", result)
    for word in words if result.rc == IN_DOUBT else ():
        good &= checks.check(word in lines[-1], f"{label}: in doubt, and the message does not say {word!r}", result)
    return good


def never_both(source, destination, label):
    overlaps = [(a, b) for a in ran(source) for b in ran(destination) if a[0] < b[1] and b[0] < a[1]]
    good = checks.check(not overlaps, f"{label}: BOTH RAN THE GUEST", (overlaps, str(source), str(destination)))
    if source.rc in (COMPLETED, DIFFERS) and ran(source) and ran(destination):
        good &= checks.check(ran(source)[-1][1] < ran(destination)[0][0], f"{label}: the source ran on", (ran(source), ran(destination)))
    return good


def never_none(source, destination, label):
    """The guest is whole on one side, or a side says that it is in doubt."""
    here = source.rc in (FAILED, REFUSED, CANCELLED) and source.json.get("verify") == "ok"
    there = destination.rc == COMPLETED and destination.json.get("verify") == "ok"
    seen = (str(source), str(destination))
    good = checks.check(not (here and there), f"{label}: BOTH SIDES HAVE THE GUEST", seen)
    good &= checks.check(here or there or IN_DOUBT in (source.rc, destination.rc), f"{label}: NO SIDE HAS THE GUEST, and none is in doubt", seen)
    if source.rc in (COMPLETED, DIFFERS):
        good &= checks.check(there, f"{label}: the source let go, but the guest is not there", seen)
    if source.rc == DIFFERS:
        good &= checks.equal(source.json.get("verify"), "skipped", f"{label}: the source's word about memory", seen)
    return good


def promised(plan, proxy, source, destination, label):
    """Nobody is in doubt before it promised anything; who knows agrees with the other."""
    seen = (proxy.passed, str(source), str(destination))
    good = True
    if "READY" not in proxy.passed:
        good &= checks.check(source.rc in (FAILED, REFUSED, CANCELLED), f"{label}: the source had no READY and does not go on", seen)
    if "SWITCHOVER" not in proxy.passed:
        good &= checks.check(destination.rc in (FAILED, REFUSED), f"{label}: the destination was not READY and does not just fail", seen)
    if "GO" not in proxy.passed:
        good &= checks.check(not ran(destination), f"{label}: the destination ran the guest without GO", seen)
    if "GO" not in proxy.sent:
        good &= checks.check(source.rc != IN_DOUBT or "READY" in proxy.passed, f"{label}: the source is in doubt and sent no GO", seen)
    if plan.heals and IN_DOUBT not in (source.rc, destination.rc):
        good &= checks.equal(source.rc in (COMPLETED, DIFFERS), destination.rc == COMPLETED, f"{label}: the two sides disagree", seen)
    return good


def too_slow(plan, proxy, source, destination):
    """What did not come about in the time that there was for it; or None."""
    if proxy.struck is None:
        return "its moment never came"
    if plan.action == DELAY and not plan.first_cut and not plan.stops and (source.rc, destination.rc) != (COMPLETED, COMPLETED):
        return "slow is not dead"
    if plan.heals and IN_DOUBT in (source.rc, destination.rc):
        return "connections get through, and doubt does not end"
    return None


def attempt(plan, times, trace):
    """Once, with so many times as much time. Whether all was as it must always be, and what took too long."""
    dead_peer_ms, in_doubt_ms = min(plan.dead_peer_ms * times, 60000), plan.in_doubt_ms * times
    dead_peer = ("--dead-peer", dead_peer_ms, "--in-doubt", in_doubt_ms)
    limit = HANG_S + dead_peer_ms / 1000 + in_doubt_ms / 1000 + plan.delay_s + REMEMBERS_S
    label = str(plan) + (f", {times} times as much time" if times > 1 else "")
    with Server("-1", *dead_peer) as server:
        proxy = Proxy(int(server.uri.rsplit(":", 1)[1]), plan)
        in_loop(proxy.open())
        try:
            with Process("-c", proxy.uri, "-J", *plan.guest, *dead_peer) as client:
                proxy.stop_source = lambda: client.send(signal.SIGINT)
                source, pid = client.wait(limit), client.pid
            destination = server.wait(limit)
        finally:
            in_loop(proxy.close())
    if trace:
        print("\n".join(proxy.log))
        print(f"source {source}\ndestination {destination}\nran {ran(source)} {ran(destination)}", flush=True)
    seconds[plan.number] = max(source.seconds, destination.seconds)
    good = sane(checks, source, f"{label}: source") and sane(checks, destination, f"{label}: destination")
    if good:
        allowed = (COMPLETED, DIFFERS, FAILED, REFUSED, IN_DOUBT, CANCELLED)
        good &= checks.check(source.rc in allowed and destination.rc in allowed, f"{label}: exit status", (str(source), str(destination)))
        good &= told(source, f"{label}: source", proxy.uri, "migperf -s", "stopped here")
        good &= told(destination, f"{label}: destination", f"process {pid} of host", "migperf -c", "stopped here")
        good &= never_both(source, destination, label) and never_none(source, destination, label)
        good &= promised(plan, proxy, source, destination, label)
    slow = too_slow(plan, proxy, source, destination) if good else None
    if good and not slow:
        outcomes[STATUS.get(source.rc), STATUS.get(destination.rc)] += 1
        for frame, at in proxy.waited or {(plan.frame, proxy.struck_at)}:
            (waited if plan.all_late else met)[frame].add(at)
    return good, slow, (proxy.log, str(source), str(destination))


def perform(plan, trace=False):
    """One run. True if all was well."""
    began = time.monotonic()
    good, slow, seen = attempt(plan, TRIES[0], trace)
    for times in TRIES[1:]:
        if not good or not slow or not slowness.since(began):
            break
        began = time.monotonic()
        again[slow] += 1
        with alone:
            good, slow, seen = attempt(plan, times, trace)
    good = checks.check(not slow, f"{plan}: {slow}, and this machine was not too slow for it, or had {TRIES[-1]} times as much time", seen) and good
    if not good:
        print(f"replay: {plan.replay()}", flush=True)
    return good


def untouched():
    """With nobody in the way the handoff is what the plans take it for."""
    with Server("-1") as server:
        proxy = Proxy(int(server.uri.rsplit(":", 1)[1]), None)
        in_loop(proxy.open())
        result = run("-c", proxy.uri, "-J", "-m", "8M")
        in_loop(proxy.close())
        completed(checks, result, "untouched")
        sane(checks, server.wait(20), "untouched: destination")
    checks.equal(proxy.sent, ["SWITCHOVER", "READY", "GO", "RUNNING", "DONE", "BYE"], "frames of the handoff")
    checks.equal(proxy.lengths, {name: LENGTH[name] for name in proxy.lengths}, "their lengths")


def in_time(began, number):
    """Perform it; or return its number, if there is no time left, and this machine is why."""
    if time.monotonic() > began + BUDGET_S and slowness.since(began):
        return number
    perform(Plan(number))
    return None


def main():
    if "--list" in sys.argv:
        for number in range(RUNS):
            print(Plan(number))
        return
    if "--run" in sys.argv:
        perform(Plan(int(sys.argv[sys.argv.index("--run") + 1])), "--trace" in sys.argv)
        checks.done()
    print(f"SEED={SEED}", flush=True)
    untouched()
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(LANES) as lanes:
        left_out = [number for number in lanes.map(lambda number: in_time(began, number), range(RUNS)) if number is not None]
    if left_out:
        checks.skip_part(f"this machine is too slow: {len(left_out)} of {RUNS} runs were left out")
    print(f"{RUNS - len(left_out)} runs in {time.monotonic() - began:.1f} s: " +
          "; ".join(f"{n} x source {a}, destination {b}" for (a, b), n in outcomes.most_common()), flush=True)
    for what, where in (("cut", met), ("waited at", waited)):
        print(f"bytes {what}: " + ", ".join(f"{frame} {len(where[frame])} of {length + 1}" for frame, length in LENGTH.items()), flush=True)
        for frame, length in LENGTH.items() if RUNS >= len(positions()) and not left_out else ():
            checks.equal(sorted(set(range(length + 1)) - where[frame]), [], f"bytes of {frame} that were not {what}")
    if again:
        print("done again with more time: " + ", ".join(f"{n} x {what}" for what, n in again.items()), flush=True)
    print("the slowest: " + "; ".join(f"{seconds[n]:.1f} s {Plan(n)}" for n in sorted(seconds, key=seconds.get)[:-4:-1]), flush=True)
    checks.done()


if __name__ == "__main__":
    main()
