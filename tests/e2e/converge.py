#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""converge.py: a guest that dirties more than the wire takes is told of and runs on; with --throttle it converges, and writes at full
speed again whatever the end; --hold keeps it stopped for so long, which counts against nothing, and can be cancelled."""
import os
import re
import signal
import threading
import time

from migperf import CANCELLED, FAILED, SANITIZED, SHORT, USAGE, Checks, Process, Server, completed, kept, loopback, run, sane

checks = Checks()
WARNING = re.compile(r"warning: the guest does not converge: it dirties ([\d.]+) MB/s, ([\d.]+) MB/s get through, so another round leaves about as much; "
                     r"stopped now it would stand still for ([\d.]+) ms, the limit is (\d+) ms")


def warned(result, label, limit_ms):
    said = WARNING.findall(result.err)
    if checks.equal(len(said), 1, f"{label}: warnings", result):
        dirties, through, downtime, limit = map(float, said[0])
        checks.check(dirties > 0 and through > 0 and dirties >= 0.74 * through and downtime > limit == limit_ms, f"{label}: figures of the warning", said)


def full_speed(guest, mib_per_s, label):
    """Once it was over, the guest wrote as much as it was told to."""
    rate, full = guest["run_on_pages_per_s"], mib_per_s * 256
    if not SANITIZED:
        # A KVM guest takes a fault for each page again when tracking has ended, for a while.
        least = 0.4 if label.startswith("kvm") else 0.7
        checks.check(least * full < rate < 1.5 * full, f"{label}: writes {rate:.0f} pages/s afterwards, not {full}", guest)


def stops(guest):
    """For how long each time it stood still at the source and ran on there, ms."""
    ran = guest["ran_ns"]
    return [(b[0] - a[1]) / 1e6 for a, b in zip(ran, ran[1:])]


def struggling(kind):
    """More is dirtied than the wire takes."""
    hard = ("--guest", kind, "-m", "16M", "-b", "30M", "--dirty-rate", "60M", "--downtime", "50")

    label = f"{kind}: unthrottled"
    result = loopback(*hard, "--timeout", "3")
    if kept(checks, result, label, (FAILED,), within=8):
        guest = result.json["guest"]
        warned(result, label, 50)
        checks.check(result.json["time"]["total_ms"] >= 2990, f"{label}: gave up early", result.json["time"])
        checks.equal(guest["throttle_max_percent"], 0, f"{label}: throttled unasked")
        checks.check(sum(stops(guest)) < 1000, f"{label}: the guest did not run on", guest)
        full_speed(guest, 60, label)

    label = f"{kind}: --throttle 80"
    result = loopback(*hard, "--throttle", "80", "--timeout", "30", timeout=40)
    if completed(checks, result, label):
        guest = result.json["guest"]
        warned(result, label, 50)
        checks.check(0 < guest["throttle_max_percent"] <= 80, f"{label}: throttle_max_percent", guest)
        full_speed(guest, 60, label)

    # Not enough to converge: so it is at the most that it was allowed when it is cancelled.
    label = f"{kind}: cancelled at --throttle 60"
    with Process("--loopback", "-J", "--guest", kind, "-m", "8M", "-b", "16M", "--dirty-rate", "80M", "--downtime", "20",
                 "--throttle", "60") as process:
        if checks.check(process.wait_for("does not converge"), f"{label}: the warning", process.stderr()):
            time.sleep(6)
        process.send(signal.SIGINT)
        result = process.wait(10)
    if kept(checks, result, label, (CANCELLED,)):
        guest = result.json["guest"]
        warned(result, label, 20)
        checks.check(SANITIZED or guest["throttle_max_percent"] == 60, f"{label}: throttle_max_percent", guest)
        written = guest["pages_written"] / result.json["time"]["total_ms"] * 1e3
        checks.check(written < 0.85 * 80 * 256, f"{label}: the guest was not slowed down: {written:.0f} pages/s", guest)
        full_speed(guest, 80, label)

    # The destination dies while the guest is slowed down so much that one that still is does not pass for one at full speed.
    label = f"{kind}: destination killed at --throttle 95"
    with Server() as server:
        with Process("-c", server.uri, "-J", "--guest", kind, "-m", "8M", "-b", "16M", "--dirty-rate", "80M", "--downtime", "5",
                     "--throttle", "95", "--dead-peer", "700") as process:
            if checks.check(process.wait_for("does not converge"), f"{label}: the warning", process.stderr()):
                time.sleep(6)
            server.send(signal.SIGKILL)
            result = process.wait(15)
    if kept(checks, result, label, (FAILED,)):
        guest = result.json["guest"]
        checks.check(SANITIZED or guest["throttle_max_percent"] >= 70, f"{label}: throttle_max_percent", guest)
        full_speed(guest, 80, label)


def held(kind):
    easy = ("--guest", kind, "-m", "16M", "--dirty-rate", "20M", "--downtime", "100")

    label = f"{kind}: --hold 500"
    result = loopback(*easy, "--hold", "500")
    if completed(checks, result, label):
        at, guest = result.json["time"], result.json["guest"]
        parts = at["downtime_parts_ms"]
        checks.check(499 <= parts["hold"] < 500 + (1000 if SANITIZED else 100), f"{label}: held for", parts)
        checks.check(abs(sum(parts.values()) - at["downtime_ms"]) < 1, f"{label}: parts of the downtime", at)
        checks.check(SANITIZED or at["downtime_ms"] - parts["hold"] < 100, f"{label}: downtime but for that", at)
        checks.check(at["downtime_expected_ms"] < 100, f"{label}: the hold is expected as downtime", at)
        checks.check(guest["switchover_gap_ms"] >= 500, f"{label}: the guest did not stand still", guest)
        # A guard that counted it would have let the guest run on for another try.
        checks.equal(len(guest["ran_ns"]), 1, f"{label}: tries", guest)
        checks.equal(result.err.count("holding the stopped guest for 500 ms"), 1, f"{label}: what it says", result)

    label = f"{kind}: the phase of --hold"
    result = run("--loopback", *easy, "--hold", "500", "-i", "0.1")
    sane(checks, result, label)
    checks.check(re.search(r"pre-switchover\n.*completed\n", result.out, re.S), label, result)

    label = f"{kind}: cancelled during --hold"
    with Process("--loopback", "-J", *easy, "--hold", "20000") as process:
        checks.check(process.wait_for("holding the stopped guest"), f"{label}: it is held", process.stderr())
        time.sleep(0.5)
        process.send(signal.SIGINT)
        result = process.wait(10)
    if kept(checks, result, label, (CANCELLED,), within=8):
        standing = stops(result.json["guest"])
        checks.check(len(standing) == 1 and 450 < standing[0] < 3000 * (10 if SANITIZED else 1), f"{label}: it stood still for", standing)
        full_speed(result.json["guest"], 20, label)

    label = f"{kind}: --timeout during --hold"
    result = loopback(*easy, "--hold", "20000", "--timeout", "1")
    if kept(checks, result, label, (FAILED,), within=8):
        checks.equal(len(stops(result.json["guest"])), 1, f"{label}: the guest runs on", result.json["guest"])
        full_speed(result.json["guest"], 20, label)


for args in (("-c", "host", "--throttle", "100"), ("-c", "host", "--throttle", "-1"), ("-c", "host", "--hold", "50001"),
             ("-s", "--throttle", "50"), ("-s", "--hold", "50")):
    result = run(*args, timeout=5)
    checks.equal(result.rc, USAGE, f"{args}: exit status", result)
    checks.check(args[-2] in result.error_line(), f"{args}: the error names no option", result)

kinds = ["process"]
try:
    os.close(os.open("/dev/kvm", os.O_RDWR))
    kinds.append("kvm")
except OSError as error:
    checks.skip_part(f"KVM guests: /dev/kvm: {error.strerror}")
# They wait most of the time.
threads = [threading.Thread(target=part, args=(kind,)) for part in ((struggling,) if SHORT else (struggling, held)) for kind in kinds]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if SHORT:
    held("process")
checks.done()
