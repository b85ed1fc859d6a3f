#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""drain.py: what bringing a guest's disk to rest costs the guest, and the migration.

N migrations of a guest that writes memory and keeps a disk busy: the gap in its I/O across the switchover, beyond the gap of its heart, which is
the downtime. Beside each, the same guest for as long without a migration: its longest I/O gap there is what machine and disk do by themselves, and
goals are judged by the ratio to that too, since both may be busy. Then short migrations, of which windows must be as small a share; tries that
are given up, after which the disk must work as usual at once; requests that hang for a while, or for ever; and the same guest without a disk.

How late the event loop is at worst grows with the time that it is looked at. So beside each migration in which a request hangs there is as much
without the fault: a migration that completes, and precopy for as long as the request hangs. Whichever is first changes from pair to pair."""
import argparse
import json
import math
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from bench import median, migperf_path, table

WINDOW_MS = 5  # for tries that are given up: each of the same length


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def run(o, *args, timeout=90, statuses=("completed",)):
    done = subprocess.run([migperf_path(), "--loopback", "-J", "-i", "0", *map(str, args), *o.migperf], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                          timeout=timeout)
    j = json.loads(done.stdout) if done.stdout.strip() else {}
    if "did not come to rest" in (j.get("verify_first") or ""): # a host's disk that stands still for 10 s
        o.stalls += 1
        return run(o, *args, timeout=timeout, statuses=statuses) if o.stalls < 10 else sys.exit("the host's disk stands still: --folder on another")
    if j.get("status") not in statuses or j.get("verify") != "ok":
        sys.exit(f"migperf {' '.join(map(str, args))}: {j.get('status')}, verify {j.get('verify')}: {done.stderr}")
    return j


def alone(o, args, ms):
    """The longest I/O gap of a guest that does not migrate: it waits for a destination that never answers, which it then gives up."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(4)
        client = subprocess.Popen([migperf_path(), "-c", f"tcp:127.0.0.1:{silent.getsockname()[1]}", "-J", "-i", "0", *map(str, args), *o.migperf], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
        try:
            client.stderr.readline()
            time.sleep(min(ms, 2500) / 1e3)  # a peer that is silent for longer is dead
            client.send_signal(signal.SIGINT)
            out, said = client.communicate(timeout=60)
        finally:
            if client.poll() is None:
                client.kill()
                client.wait()
    if not out.strip():
        sys.exit(f"migperf that does not migrate: {said}")
    return json.loads(out)["drain"]["io_gap_ms"]["max"]


def switchovers(o, base):
    runs = []
    for _ in range(o.runs):
        j = run(o, *base)
        runs.append({"total_ms": j["time"]["total_ms"], "downtime_ms": j["guest"]["switchover_gap_ms"], "io_gap_ms": j["disk"]["switchover_gap_ms"],
                     "share": j["drain"]["quiesced_ms"] / j["time"]["total_ms"], "tries": j["drain"]["tries"], "quiesced_ms": j["drain"]["quiesced_ms"],
                     "delay_ms": j["drain"]["delay_ms"], "delay_rounds": j["drain"]["delay_rounds"], "rounds": len(j["rounds"]), "requests": j["disk"]["requests"],
                     "late_us": j["big_lock"]["late_us"]["max"], "alone_ms": alone(o, base, j["time"]["total_ms"])})
    return runs


def goal(title, value, most=None):
    return [title, value, "" if most is None else f"<= {most:g}", None if most is None else value <= most]


def around_switchovers(o, base):
    """Gaps across the switchover, and shares."""
    runs = switchovers(o, base)
    short = [run(o, "-m", "16M", *base[2:]) for _ in range(max(3, o.runs // 5))]
    plain = [run(o, *base[:-4]) for _ in range(max(3, o.runs // 5))]
    beyond, alone_ms = [r["io_gap_ms"] - r["downtime_ms"] for r in runs], [r["alone_ms"] for r in runs]
    shares = [r["share"] for r in runs] + [j["drain"]["quiesced_ms"] / j["time"]["total_ms"] for j in short]
    o.figures["runs"], o.figures["shares"] = runs, shares
    print(f"{len(runs)} runs; {median([r['requests'] / r['total_ms'] for r in runs]):.1f} requests a ms")
    table([["with the disk", median([r["total_ms"] for r in runs]), median([r["rounds"] for r in runs])],
           ["less what coming to rest cost", median([r["total_ms"] - r["delay_ms"] for r in runs]), median([r["rounds"] - r["delay_rounds"] for r in runs])],
           ["what it cost", median([r["delay_ms"] for r in runs]), median([r["delay_rounds"] for r in runs])],
           ["without a disk", median([j["time"]["total_ms"] for j in plain]), median([len(j["rounds"]) for j in plain])]], ["", "total ms", "rounds"])
    print()
    return [goal("I/O gap - downtime, ms, p99", percentile(beyond, 0.99), 10),
            goal("the same, median", median(beyond)),
            goal("longest I/O gap without a migration, ms, p99", percentile(alone_ms, 0.99)),
            goal("the first / the last", percentile(beyond, 0.99) / percentile(alone_ms, 0.99)),
            goal("quiesced, longest share of a migration", max(shares), 0.05)]


def given_up(o, base):
    """Tries in vain. A request hangs for less than what the device takes for hopeless, so that each window lasts as long as it may."""
    beyond = [run(o, *base, "--io-fault", "hang:1500", "--drain-window", WINDOW_MS)["disk"]["quiet_ms"]["max"] - WINDOW_MS for _ in range(o.pairs)]
    ever = run(o, *base, "--io-fault", "hang:0", "--drain-tries", 3, "--drain-fail", "fail", statuses=("failed",))
    o.figures["beyond_windows_ms"] = beyond
    return [goal("window in vain beyond its length, ms, longest", max(beyond), 10),
            goal("hang for ever, 3 tries: failed after, ms", ever["time"]["total_ms"] if ever["drain"]["gave_up"] else math.inf, 5000)]


def faulty(o, base):
    j = run(o, *base, "--io-fault", f"hang:{o.hang}")
    return {"after_ms": j["time"]["total_ms"] - o.hang, "gap_ms": j["guest"]["gap_ms"], "limit_ms": j["time"]["downtime_limit_ms"], **lateness([j])}


def faultless(o, base):
    """As much without the fault. The first round of the second takes as long as the request hangs, and is cut off then."""
    slowly = ["-b", f"{o.memory * 1000000 // o.hang}K", "--timeout", math.ceil(o.hang / 1000)]
    return lateness([run(o, *base), run(o, *base, *slowly, statuses=("failed",))])


def lateness(migrations):
    locks = [j["big_lock"] for j in migrations]
    return {"late_ms": max(lock["late_us"]["max"] for lock in locks) / 1e3, "held_ms": max(lock["held_us"]["max"] for lock in locks) / 1e3,
            "ticks": sum(lock["late_us"]["count"] for lock in locks)}


def hanging(o, base):
    """The same distribution would have the median of the one above the longest of the other in less than a tenth of all cases."""
    hung, without = [], []
    for i in range(o.pairs):
        for runs, body in ((hung, faulty), (without, faultless))[:: -1 if i % 2 else 1]:
            runs.append(body(o, base))
    o.figures["hung"], o.figures["without"] = hung, without
    of = lambda runs, key, which: which([r[key] for r in runs])
    table([[title, *(of(runs, key, which) for key in ("late_ms", "held_ms") for which in (median, max)), of(runs, "ticks", median)]
           for title, runs in ((f"a request hangs {o.hang} ms", hung), ("as much without it", without))],
          ["event loop", "late at worst, ms, median", "max", "lock held at worst, median", "max", "ticks"])
    print()
    return [goal(f"hang of {o.hang} ms: completed after it, ms, longest", of(hung, "after_ms", max), 2000),
            goal("its longest gap between heartbeats, ms", of(hung, "gap_ms", max), of(hung, "limit_ms", min)),
            goal("event loop late at worst, ms, median; without: max", of(hung, "late_ms", median), of(without, "late_ms", max))]


PARTS = {"switchovers": around_switchovers, "vain": given_up, "hang": hanging}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("-m", "--memory", type=int, default=256, help="MiB (default 256)")
    parser.add_argument("-n", "--runs", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=5, help="of migrations in which a request hangs and of others (default 5)")
    parser.add_argument("--guest", choices=("process", "kvm"), default="process")
    parser.add_argument("--dirty-rate", default="20M")
    parser.add_argument("--io-depth", type=int, default=32)
    parser.add_argument("--hang", type=int, default=10000, help="ms (default 10000)")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this (more than one: once for each)")
    parser.add_argument("--folder", default=None, help="for the disk (default: where temporary files are)")
    parser.add_argument("--json", metavar="FILE", help="write all figures there too")
    parser.add_argument("migperf", nargs="*", help="options for migperf, after --")
    o = parser.parse_args()
    o.stalls, o.figures = 0, {"guest": o.guest}
    folder = tempfile.mkdtemp(prefix="sluice-drain-", dir=o.folder)
    base = ["-m", f"{o.memory}M", "--guest", o.guest, "--dirty-rate", o.dirty_rate, "--disk", f"{folder}/disk", "--io-depth", o.io_depth]
    print(f"{o.guest} guest, {o.memory} MiB, {o.dirty_rate}/s, depth {o.io_depth}")
    try:
        goals = [each for name, part in PARTS.items() if not o.part or name in o.part for each in part(o, base)]
    finally:
        shutil.rmtree(folder)
    if o.stalls:
        goals.append(goal("runs left out: a request took the host 10 s", o.stalls, 0))
    table([[title, float(f"{value:.3g}"), most, "" if reached is None else "ok" if reached else "MISSED"] for title, value, most, reached in goals], ["", "", "goal", ""])
    if o.json:
        with open(o.json, "w") as file:
            json.dump({**o.figures, "goals": goals}, file, indent=1)
    return 0 if all(each[3] is not False for each in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
