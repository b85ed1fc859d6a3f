#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""kvm.py: real KVM guests: every tracker, pattern and number of vCPUs arrives whole, by the guest's own counts; giving up, a dead
destination and a guest that cannot converge leave it running at the source; downtime keeps to its limit by the guest's heartbeats."""
import os
import time

from migperf import CANCELLED, DIFFERS, FAILED, SANITIZED, SHORT, USAGE, Checks, Process, Server, completed, kept, loopback, run, sane, skip, source

try:
    os.close(os.open("/dev/kvm", os.O_RDWR))
except OSError as error:
    skip(f"no KVM here: /dev/kvm: {error.strerror}")

checks = Checks()
FULL = ("--dirty-rate", "1T")  # full speed: more than any guest does


def case(*args):
    label = " ".join(map(str, args))
    result = loopback("--guest", "kvm", *args, timeout=30)
    if not completed(checks, result, label):
        return None
    guest = result.json["guest"]
    checks.check(guest["checked_pages"] > 0, f"{label}: the guest checked none of its pages", guest)
    checks.check(guest["vcpu_gap_ms"] > 0, f"{label}: vCPUs have no heartbeats", guest)
    if "1T" in args:
        checks.check(guest["pages_written"] > 0, f"{label}: the guest wrote nothing", guest)
        checks.check(guest["throttle_max_percent"] == 0, f"{label}: throttled unasked", guest)
    # How long it stood still is what the destination was told when it resumed the guest; the guest's clocks have gone on meanwhile.
    held = float(args[args.index("--hold") + 1]) if "--hold" in args else 0
    checks.check(held <= guest["stopped_ms"] <= guest["switchover_gap_ms"] + 5, f"{label}: how long it stood still", guest)
    if not SANITIZED:
        errors = guest["clock_errors_ms"]
        checks.check(errors and max(map(abs, errors.values())) < 20, f"{label}: the guest's clocks are wrong", guest)
    return result.json


# Trackers by vCPUs and patterns.
trackers = ("kvm-log", "kvm-ring", "pagemap", "log")
patterns = ("seq", "rand", "zipf", "gc")
for i, tracker in enumerate(trackers):
    for vcpus in (1, 4):
        for j, pattern in enumerate(patterns):
            if (i + j) % (4 if SHORT else 2) == (vcpus == 4):
                case("-m", "48M", "--tracker", tracker, "--vcpus", vcpus, "--pattern", pattern, *FULL)

# It has filled its memory itself.
for pattern in patterns[:1 if SHORT else 4]:
    case("-m", "32M", "--fill", "guest", "--vcpus", "3", "--pattern", pattern, *FULL)

# Stopped for long, by somebody's wish: its clocks have not stood still.
for vcpus in (1, 4):
    case("-m", "32M", "--vcpus", vcpus, "--hold", "600", "--dirty-rate", "1M")

# Without being asked: KVM's log. Paced as asked.
j = case("-m", "64M", "--dirty-rate", "20M")
if j:
    rate = j["guest"]["pages_written"] * 4096 / j["time"]["total_ms"] * 1000
    checks.check(rate < 60 << 20, "a guest told to write 20M/s", f"{rate / (1 << 20):.0f} MiB/s")
if not SHORT:
    # What it is made of: backings, contents, sizes; two regions, with the hole below 4 GiB between them.
    case("-m", "64M", "--backing", "anon", *FULL)
    case("-m", "64M", "--backing", "anon", "--tracker", "pagemap", *FULL)
    case("-m", "64M", "--fill", "zero", "--prealloc", *FULL)
    case("-m", "64M", "--fill", "text", "--compress", "lz4", *FULL)
    case("-m", "1M", "--wss", "64K", *FULL)
    case("-m", "33332K", "--vcpus", "3", *FULL)
    case("-m", "3200M", "--touched", "1", "--vcpus", "2", "--pattern", "rand", "--dirty-rate", "40M")
    case("-m", "3200M", "--touched", "1", "--vcpus", "2", "--pattern", "rand", "--dirty-rate", "40M", "--tracker", "kvm-ring")
    case("-m", "16G", "--touched", "0", "--wss", "16M", "--vcpus", "32", *FULL)
    # One guest, three migrations: the tracker is started anew each time.
    for tracker in trackers[1:]:
        result = loopback("--guest", "kvm", "-m", "32M", "-n", "3", "--tracker", tracker, *FULL, timeout=30)
        if sane(checks, result, f"-n 3, {tracker}"):
            checks.equal([j["verify"] for j in result.objects], ["ok"] * 3, f"-n 3, {tracker}", result)

# Downtime keeps to its limit, by the heartbeats.
for _ in range(1 if SHORT else 5):
    j = case("-m", "128M", "--vcpus", "2", "--downtime", "100", *FULL)
    if j and not SANITIZED:
        checks.check(j["guest"]["switchover_gap_ms"] <= 100, "downtime over its limit", (j["guest"], j["time"]))

def runs_on(result, label, statuses, within=None):
    """Not moved: by its own counters it wrote all the time, writes on, and every page is right."""
    if kept(checks, result, label, statuses, within=within):
        guest = result.json["guest"]
        checks.check(guest["pages_written"] > 0 and guest["run_on_pages_per_s"] > 0, f"{label}: the guest stands still", guest)
        checks.check(guest["checked_pages"] > 0, f"{label}: the guest checked none of its pages", guest)


# Cancelled while it moves: the guest runs on here, and can be migrated at once.
for tracker in trackers[:1 if SHORT else 4]:
    with Server() as server:
        with Process("-c", server.uri, "-J", "--guest", "kvm", "-m", "128M", "-b", "60M", "--vcpus", "2", "--tracker", tracker, *FULL) as client:
            checks.check(client.wait_for("migration started"), f"cancel, {tracker}: it starts", client.stderr())
            time.sleep(0.7)
            client.send(2)
            runs_on(client.wait(15), f"cancel, {tracker}", (CANCELLED,))
        completed(checks, source(server.uri, "--guest", "kvm", "-m", "16M"), f"cancel, {tracker}: the next migration")
        sane(checks, server.stop(), f"cancel, {tracker}: server")

# Interrupted when it is there already: that is no verdict on its memory, and said so.
if not SHORT:
    with Server() as server:
        with Process("-c", server.uri, "-J", "--guest", "kvm", "-m", "256M") as client:
            checks.check(client.wait_for("migration completed"), "interrupted at the end: it completes", client.stderr())
            client.send(2)
            result = client.wait(15)
            if sane(checks, result, "interrupted at the end"):
                checks.equal((result.rc, result.json["status"], result.json["verify"]), (DIFFERS, "completed", "skipped"), "interrupted at the end", result)
                checks.check("interrupted before" in result.error_line(), "interrupted at the end: the error does not say so", result)

# It writes faster than the wire takes: it is told, and keeps running.
with Server() as server:
    result = source(server.uri, "--guest", "kvm", "-m", "128M", "-b", "20M", "--timeout", "2", "--downtime", "20", *FULL, timeout=20)
    runs_on(result, "--timeout 2", (FAILED,), within=10)

# The destination dies, or stands still: noticed, and the guest runs on.
for number, label in ((9, "killed"), (19, "stopped")):
    with Server() as server:
        with Process("-c", server.uri, "-J", "--guest", "kvm", "-m", "128M", "-b", "60M", "--dead-peer", "700", *FULL) as client:
            checks.check(client.wait_for("migration started"), f"{label}: it starts", client.stderr())
            time.sleep(0.5)
            server.send(number)
            runs_on(client.wait(15), f"destination {label}", (FAILED,), within=9)
        server.send(18)

# What makes no sense is refused before anything is made.
for args in (("--guest", "process", "--tracker", "kvm-log"), ("--guest", "kvm", "--tracker", "marks"), ("--guest", "kvm", "--vcpus", "33"),
             ("--guest", "kvm", "-m", "512K"), ("--guest", "kvm", "-m", "1T"), ("--guest", "xen",), ("--fill", "guest"), ("--guest", "kvm", "--fill", "guest", "--touched", "50")):
    result = run("--loopback", *args)
    checks.equal(result.rc, USAGE, f"{args}: exit status", result)
result = run("--loopback", "--guest", "kvm", "-m", "1M", "--vcpus", "32")
checks.equal(result.rc, FAILED, "32 vCPUs in 1M", result)
checks.check("too small" in result.error_line(), "32 vCPUs in 1M: the error does not say why", result)
checks.done()
