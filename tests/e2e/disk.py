#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""disk.py [RUNS]: a guest of either kind that keeps a real disk busy migrates, and no request is lost, doubled or torn: with faults, when it is
cancelled, when the destination dies; a device that does not say what it writes is found out.

RUNS migrations (default 12) with faults, drawn at random (SEED=...), half of them of KVM guests where there is KVM. With RUNS, these only."""
import fcntl
import os
import re
import shutil
import signal
import struct
import sys
import tempfile
import time

from migperf import (CANCELLED, COMPLETED, DIFFERS, FAILED, REFUSED, SANITIZED, SHORT, SLOWER, USAGE, Checks, Process, Server, completed, kept,
                     run, sane, seeded, source)

UNMARKED = os.environ["MIGPERF_UNMARKED"]
ASKED = next((int(a) for a in sys.argv[1:] if a.isdigit()), 0)
RUNS = ASKED or (2 if SHORT else 12)
GUESTS = ["process", "kvm"] if os.access("/dev/kvm", os.R_OK | os.W_OK) else ["process"]
checks = Checks()
rng = seeded()
FOLDER = tempfile.mkdtemp(prefix="migperf-disk-")
DISK = f"{FOLDER}/disk"


def loopback(*args, disk=DISK, timeout=60, program=None):
    return run("--loopback", "-J", "-i", 0, "-m", "32M", "--disk", disk, *args, timeout=timeout, program=program)


def disk_is(result, label, hanging=0):
    """What is told of the disk is in itself right."""
    if not checks.check(result.json and "disk" in result.json and "drain" in result.json, f"{label}: no disk in the JSON", result):
        return
    disk, drain = result.json["disk"], result.json["drain"]
    checks.check(disk["requests"] > 0 and disk["bytes"] >= 4096 * disk["requests"], f"{label}: the guest's requests", disk)
    checks.check(disk["checked_blocks"] > 0 and disk["checked_buffer_blocks"] > 0, f"{label}: what was checked", disk)
    checks.check(disk["run_on_requests"] > 0, f"{label}: the disk did not run on", disk)
    checks.equal(disk["hanging"], hanging, f"{label}: requests that hang", disk)
    checks.check(drain["io_gap_ms"]["count"] > 0 and disk["gap_ms"] >= drain["io_gap_ms"]["max"] - 1e-3, f"{label}: gaps", (disk, drain))


def stays_locked():
    """Whether a process has the disk."""
    with open(DISK, "r+b") as file:
        try:
            fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLK
            return False
        except OSError:
            return True


def plain_migrations():
    for guest in GUESTS:
        label = f"a {guest} guest's disk"
        result = loopback("--guest", guest)
        if completed(checks, result, label):
            disk_is(result, label)
            disk, drain = result.json["disk"], result.json["drain"]
            checks.equal(disk["errors"], 0, f"{label}: errors")
            checks.check(disk["switchover_gap_ms"] > 0, f"{label}: the gap across the switchover", disk)
            checks.check(drain["tries"] >= 1, f"{label}: tries", drain)
            # Every window is within its share when it opens, and ends in time but for what a busy machine puts between.
            checks.check(SANITIZED or drain["quiesced_ms"] <= 0.05 * result.json["time"]["total_ms"] + 20, f"{label}: quiesced", (drain, result.json["time"]))
        # One after the other: the disk goes there and comes back.
        result = loopback("--guest", guest, "-n", 3, "--dirty-rate", "20M", *(["--tracker", "marks"] if guest == "process" else []))
        checks.equal([(j["status"], j["verify"]) for j in result.objects], [("completed", "ok")] * 3, f"{label}: -n 3", result)
        sane(checks, result, f"{label}: -n 3")
        checks.check(not stays_locked(), f"{label} stays locked")


def random_migrations():
    """What the issue is about: many runs with faults."""
    for i in range(RUNS):
        guest = GUESTS[i % len(GUESTS)]
        fault = rng.choice(["hang:%d" % rng.choice([1, 20, 100, 400]), "fail:%d" % rng.choice([2, 3, 17, 1000]),
                            "slow:%d" % rng.choice([1, 5, 30]), "burst:%d" % rng.choice([1, 32, 500])])
        args = ["--guest", guest, "--io-fault", fault, "--io-depth", rng.choice([1, 2, 3, 7, 32, 128, 256]), "-P", rng.choice([1, 4]),
                "--tracker", rng.choice(["auto", "marks"] if guest == "process" else ["kvm-log", "kvm-ring", "pagemap", "log"]),
                "--vcpus", rng.choice([1, 2, 8]), "--backing", rng.choice(["memfd", "anon"]),
                "--dirty-rate", rng.choice(["0", "30M"]), "--seed", rng.randrange(1 << 40)]
        result = loopback(*args)
        label = f"run {i}: {' '.join(map(str, args))}"
        if completed(checks, result, label):
            disk_is(result, label)
            disk, n = result.json["disk"], int(fault.split(":")[1])
            # One of n of all that the device picked; what it picked and the guest did not see yet when that was counted is no more than the depth.
            expected = (disk["requests"] + disk["errors"]) / n if fault.startswith("fail") else 0
            checks.check(abs(disk["errors"] - expected) <= (disk["depth"] + 1 if expected else 0), f"{label}: errors", disk)


def hangs_for_a_while():
    """The guest runs while the disk hangs, the migration completes when that is over, and no thread waits for it: whatever would, would do so for seconds."""
    for guest in GUESTS[-1:] if SHORT else GUESTS:
        label = f"hang:4000, {guest}"
        result = loopback("--io-fault", "hang:4000", "--dirty-rate", "10M", "--guest", guest)
        if not completed(checks, result, label):
            continue
        j = result.json
        disk_is(result, label)
        checks.check(4000 <= j["time"]["total_ms"] < 4000 + 2000 * (10 if SANITIZED else 1), f"{label}: took", j["time"])
        checks.check(j["drain"]["tries"] > j["drain"]["busy"] >= 1, f"{label}: drain", j["drain"])
        checks.check(SANITIZED or j["drain"]["quiesced_ms"] < 0.06 * j["time"]["total_ms"] + 50, f"{label}: quiesced", j["drain"])
        checks.check(SANITIZED or j["guest"]["gap_ms"] < 1000, f"{label}: the guest stood still for it", j["guest"])
        most_ms = 3000 if SANITIZED else 1000
        lock = j["big_lock"]
        checks.check(lock["late_us"]["count"] > 500, f"{label}: the event loop's ticks", lock["late_us"])
        for what, hist_ms in (("event loop late", lock["late_us"]["max"] / 1e3), ("event loop waits for its lock", lock["waited_us"]["max"] / 1e3),
                              ("lock held", lock["held_us"]["max"] / 1e3), ("control's step", j["steps_ms"]["max"])):
            checks.check(hist_ms < most_ms, f"{label}: {what}: {hist_ms:.0f} ms", j["drain"])


def hangs_for_ever():
    """Nothing but giving up helps; at once, and the guest and its disk run on."""
    cases = (("hang:0, cancelled", [], (CANCELLED,), signal.SIGINT, None),
             ("hang:0 --timeout", ["--timeout", 2], (FAILED,), None, (2000, 3500)),
             ("hang:0 --drain-fail fail", ["--drain-tries", 2, "--drain-fail", "fail"], (FAILED,), None, (100, 4000)))
    for guest, (case, args, statuses, number, took) in [(guest, case) for guest in GUESTS for case in cases][:1 if SHORT else None]:
        what = f"{case}, {guest}"
        with Process("--loopback", "-J", "-i", 0, "-m", "32M", "--guest", guest, "--disk", DISK, "--io-fault", "hang:0", *args) as client:
            checks.check(client.wait_for("migration started"), f"{what}: the migration starts")
            if number:
                time.sleep(1)
                checks.check(client.running(), f"{what}: it ends by itself")
                os.kill(client.pid, number)
            result = client.wait(20)
        if not kept(checks, result, what, statuses, within=12):
            continue
        drain, total_ms = result.json["drain"], result.json["time"]["total_ms"]
        disk_is(result, what, hanging=1)
        checks.equal(drain["gave_up"], int("fail" in case), f"{what}: gave up", drain)
        checks.check(drain["busy"] == 2 if "fail" in case else drain["busy"] >= 1, f"{what}: tries in vain", drain)
        checks.check(not took or took[0] <= total_ms < took[1] * SLOWER, f"{what}: took {total_ms:.0f} ms, not {took}", drain)


def cancelled():
    """At any moment."""
    for i in range(1 if SHORT else 6):
        after = rng.uniform(0, 0.9)  # 64 MiB take a second at least
        with Server() as server:
            with Process("-c", server.uri, "-J", "-i", 0, "-m", "64M", "-b", "60M", "--disk", DISK, "--io-fault", "slow:3") as client:
                if client.wait_for("migration started"):
                    time.sleep(after)
                client.send(signal.SIGINT)
                result = client.wait(20)
            label = f"cancelled after {after:.3f} s"
            if result.rc == COMPLETED:
                completed(checks, result, label)
            else:
                kept(checks, result, label, (CANCELLED,))
            disk_is(result, label)
            sane(checks, server.stop(), f"{label}: server")


def destination_dies():
    for i in range(1 if SHORT else 4):
        after = rng.uniform(0.1, 0.6)
        with Server() as server:
            with Process("-c", server.uri, "-J", "-i", 0, "-m", "64M", "-b", "60M", "--disk", DISK, "--dirty-rate", "5M") as client:
                checks.check(client.wait_for("migration started"), "killed: the migration starts", client.stderr())
                time.sleep(after)
                server.send(signal.SIGKILL)
                result = client.wait(30)
            server.kill()
        label = f"destination killed after {after:.3f} s"
        if kept(checks, result, label, (FAILED,)):
            disk_is(result, label)


def mutant_is_found():
    """A device that writes into guest memory and does not say so. With so many buffers, and a second in which nothing else
    is left to move, dozens of them were sent before a read filled them for the last time. Where trackers see what the device's
    thread writes (pagemap) only what the disk itself wrote is stale; where they do not, the rings are too."""
    cases = [("process", "auto"), *[(guest, tracker) for guest in GUESTS[1:] for tracker in ("pagemap", "kvm-log")]]
    for guest, tracker in cases[:1 if SHORT else None]:
        label = f"unmarked, {guest}, {tracker}"
        result = loopback("--guest", guest, "--tracker", tracker, "--io-fault", "hang:1000", "--io-depth", 256, program=UNMARKED)
        sane(checks, result, label)
        checks.equal(result.rc, DIFFERS, f"{label}: exit status", result)
        if result.json:
            checks.equal(result.json["verify"], "mismatch", f"{label}: verify", result)
            checks.check(re.match(r"disk (buffer|read): block|disk: " if tracker == "kvm-log" else r"disk (buffer|read): block", result.json["verify_first"] or ""),
                         f"{label}: what is wrong", result)


def refusals():
    """Each with one line that says what to do."""
    foreign = f"{FOLDER}/letters"
    with open(foreign, "w") as file:
        file.write("somebody's letters")
    for args, rc, said in (
            (["--disk", foreign], FAILED, "holds something that is not migperf's"),
            (["--disk", "/dev/null"], FAILED, "is no regular file"),
            (["--disk", f"{FOLDER}/no/such"], FAILED, "cannot open|is not"),
            (["--disk", ""], USAGE, "needs a path"),
            (["--disk", "x" * 300], USAGE, "needs a path"),
            (["--io-depth", "8"], USAGE, "needs --disk"),
            (["--io-fault", "slow:1"], USAGE, "needs --disk"),
            (["--disk", DISK, "--io-depth", "0"], USAGE, "out of range"),
            (["--disk", DISK, "--io-depth", "257"], USAGE, "out of range"),
            (["--disk", DISK, "--io-fault", "fail:1"], USAGE, "not known"),
            (["--drain-window", "0"], USAGE, "out of range"),
            (["--drain-window", "30001"], USAGE, "out of range"),
            (["--drain-fail", "postcopy"], USAGE, "not in this version"),
            (["--disk", DISK, "-m", "1M"], USAGE, "too small"),
            (["--disk", DISK, "--wss", "16M", "-m", "16M"], USAGE, "too small"),
            (["--disk", DISK, "--io-fault", "burst:0"], USAGE, "not known")):
        result = run("--loopback", "-J", *(["-m", "16M"] if "-m" not in args else []), *args)
        kept(checks, result, shown(args), (rc,), verified=False)
        checks.check(re.search(said, result.error_line()), f"{shown(args)}: does not say {said!r}", result)
    with open(foreign) as file:
        checks.equal(file.read(), "somebody's letters", "a file that is not migperf's")
    # A source whose disk is not here, and one whose disk is elsewhere.
    other = f"{FOLDER}/other"
    with Server() as server, Server("--disk", other) as renamed:
        loopback(disk=other)
        wrong = source(renamed.uri, "-m", "16M", "--disk", DISK)
        kept(checks, wrong, "another disk there", (REFUSED,))
        checks.check("the source's disk is not" in wrong.error_line(), "another disk there: what it says", wrong)
        os.link(DISK, f"{FOLDER}/same")
        os.rename(f"{FOLDER}/same", other)  # now it is the same
        completed(checks, source(renamed.uri, "-m", "16M", "--disk", DISK), "the disk by another name")
        completed(checks, source(server.uri, "-m", "16M", "--disk", DISK), "the disk by its own name")
        for each in (server, renamed):
            sane(checks, each.stop(), "servers with disks")


def shown(args):
    return " ".join(args)[:60]


def in_use():
    with Server() as server:
        with Process("-c", server.uri, "-J", "-m", "64M", "-b", "10M", "--disk", DISK) as client:
            checks.check(client.wait_for("migration started"), "in use: the migration starts")
            checks.check(stays_locked(), "in use: the disk is not locked")
            second = loopback(timeout=20)
            kept(checks, second, "in use by another", (FAILED,), verified=False)
            checks.check("another process uses it" in second.error_line(), "in use: what it says", second)
            client.send(signal.SIGINT)
            kept(checks, client.wait(20), "in use: the first", (CANCELLED,))


try:
    random_migrations()
    if ASKED:
        checks.done()
    plain_migrations()
    hangs_for_a_while()
    hangs_for_ever()
    cancelled()
    destination_dies()
    mutant_is_found()
    if not SHORT:
        refusals()
        in_use()
finally:
    shutil.rmtree(FOLDER)
checks.done()
