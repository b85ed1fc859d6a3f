#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""limits.py: guests far larger than this machine's memory: what sluice itself needs is bounded by bits per page and by stream."""
import threading

from migperf import Checks, Server, Process, available, completed, sane

checks = Checks()
PAGE, STREAMS = 4096, 4
GIB, TIB = 1 << 30, 1 << 40


class Peak:
    """The most memory that processes had together, page tables included, seen by a thread."""

    def __init__(self, *processes):
        self.processes, self.bytes, self.ended = processes, 0, threading.Event()
        self.thread = threading.Thread(target=self.look)

    def __enter__(self):
        self.thread.start()
        return self

    def look(self):
        while not self.ended.wait(0.02):
            self.bytes = max(self.bytes, sum(held(process.pid) for process in self.processes))

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def held(pid):
    try:
        with open(f"/proc/{pid}/status") as lines:
            return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("VmRSS", "VmPTE")))
    except OSError:  # it has ended
        return 0


def case(label, memory, *args, timeout):
    """Both ends with -J; returns (source's JSON, destination's JSON, bytes of memory used by both)."""
    with Server("-1") as server, Process("-c", server.uri, "-J", "-m", memory, "-P", STREAMS, *args) as client, Peak(server, client) as peak:
        result = client.wait(timeout)
        good = completed(checks, result, label)
        destination = server.wait(20)
        good &= sane(checks, destination, f"{label}: destination")
        good &= checks.equal(destination.rc, 0, f"{label}: destination's exit status", destination)
    print(f"{label}: {result.seconds:.1f} s, {peak.bytes / 1e6:.0f} MB held by both ends", flush=True)
    return (result.json, destination.json, peak.bytes) if good else (None, None, 0)


def bounded(label, j, side, memory):
    allowed = memory // PAGE * 4 // 8 + STREAMS * (4 << 20)
    own = (j.get("memory") or {}).get("sluice_bytes")
    if checks.check(own is not None, f"{label}: {side} does not report memory.sluice_bytes", j.get("memory")):
        print(f"{label}: {side} {own / 1e6:.1f} MB of {allowed / 1e6:.1f} MB allowed", flush=True)
        checks.check(0 < own <= allowed, f"{label}: {side} takes {own} bytes, {allowed} allowed")


# 1 % of 64 GiB, spread at random: one touched page in every 400 KiB, so almost every page table exists on both sides.
if available() < 4 * GIB:
    checks.skip_part("64 GiB, 1 % touched: needs 4 GiB of memory left")
else:
    j, d, used = case("64 GiB, 1 % touched", "64G", "--touched", "1", "--backing", "memfd", timeout=90)
    if j:
        bounded("64 GiB, 1 % touched", j, "source", 64 * GIB)
        bounded("64 GiB, 1 % touched", d, "destination", 64 * GIB)
        # What was touched at both ends, page tables for all of it and again for sluice's view of it, and the bound.
        checks.check(used < 2 * (64 * GIB // 100) + 4 * (64 * GIB >> 9) + (512 << 20), "64 GiB: memory used", f"{used / 1e6:.0f} MB")
        checks.check(j["bytes"]["wire"] < 1 * GIB, "64 GiB: holes travel", j["bytes"])

j, d, used = case("1 TiB, untouched", "1T", "--touched", "0", "--verify", "sample", timeout=60)
if j:
    bounded("1 TiB, untouched", j, "source", TIB)
    bounded("1 TiB, untouched", d, "destination", TIB)
    checks.check(used < 2 * (TIB // PAGE * 4 // 8) + (512 << 20), "1 TiB: memory used", f"{used / 1e6:.0f} MB")
checks.done()
