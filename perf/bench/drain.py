#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""drain.py: what bringing a guest's disk to rest costs the guest, and the migration.

N migrations of a guest that writes memory and keeps a disk busy: the gap in its I/O across the switchover, beyond the gap of its heart, which is
the downtime. Beside each, the same guest for as long without a migration: its longest I/O gap there is what machine and disk do by themselves, and
goals are judged by the ratio to that too, since both may be busy. Then short migrations, of which windows must be as small a share; tries that
are given up, after which the disk must work as usual at once; a request that hangs for a while, or for ever; and the same guest without a disk."""
import argparse
import json
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("-m", "--memory", type=int, default=256, help="MiB (default 256)")
    parser.add_argument("-n", "--runs", type=int, default=50)
    parser.add_argument("--guest", choices=("process", "kvm"), default="process")
    parser.add_argument("--dirty-rate", default="20M")
    parser.add_argument("--io-depth", type=int, default=32)
    parser.add_argument("--hang", type=int, default=10000, help="ms (default 10000)")
    parser.add_argument("--folder", default=None, help="for the disk (default: where temporary files are)")
    parser.add_argument("--json", metavar="FILE", help="write all figures there too")
    parser.add_argument("migperf", nargs="*", help="options for migperf, after --")
    o = parser.parse_args()
    o.stalls = 0
    folder = tempfile.mkdtemp(prefix="sluice-drain-", dir=o.folder)
    guest = ["--guest", o.guest, "--dirty-rate", o.dirty_rate]
    disk = ["--disk", f"{folder}/disk", "--io-depth", o.io_depth]
    base = ["-m", f"{o.memory}M", *guest, *disk]
    try:
        runs = switchovers(o, base)
        short = [run(o, "-m", "16M", *guest, *disk) for _ in range(max(3, o.runs // 5))]
        plain = [run(o, "-m", f"{o.memory}M", *guest) for _ in range(max(3, o.runs // 5))]
        # The request hangs for less than what the device takes for hopeless, so that each window lasts as long as it may.
        vain = run(o, *base, "--io-fault", "hang:1500", "--drain-window", WINDOW_MS)
        hang = run(o, *base, "--io-fault", f"hang:{o.hang}")
        ever = run(o, *base, "--io-fault", "hang:0", "--drain-tries", "3", "--drain-fail", "fail", statuses=("failed",))
    finally:
        shutil.rmtree(folder)
    beyond = [r["io_gap_ms"] - r["downtime_ms"] for r in runs]
    shares = [r["share"] for r in runs] + [j["drain"]["quiesced_ms"] / j["time"]["total_ms"] for j in short]
    late = median([r["late_us"] for r in runs]) / 1e3
    goals = [
        ["I/O gap - downtime, ms, p99", percentile(beyond, 0.99), "<= 10", percentile(beyond, 0.99) <= 10],
        ["the same, median", median(beyond), "", None],
        ["longest I/O gap without a migration, ms, p99", percentile([r["alone_ms"] for r in runs], 0.99), "", None],
        ["the first / the last", percentile(beyond, 0.99) / percentile([r["alone_ms"] for r in runs], 0.99), "", None],
        ["quiesced, longest share of a migration", max(shares), "<= 0.05", max(shares) <= 0.05],
        ["window in vain beyond its length, ms, longest", vain["disk"]["quiet_ms"]["max"] - WINDOW_MS, "<= 10", vain["disk"]["quiet_ms"]["max"] - WINDOW_MS <= 10],
        [f"hang of {o.hang} ms: completed after it, ms", hang["time"]["total_ms"] - o.hang, "<= 2000", hang["time"]["total_ms"] - o.hang <= 2000],
        ["its longest gap between heartbeats, ms", hang["guest"]["gap_ms"], f"<= {hang['time']['downtime_limit_ms']:.0f}", hang["guest"]["gap_ms"] <= hang["time"]["downtime_limit_ms"]],
        ["event loop late, ms: then / without the hang (median)", hang["big_lock"]["late_us"]["max"] / 1e3 / late, "", None],
        ["the same, p999 of its ticks, ms", hang["big_lock"]["late_us"]["p999"] / 1e3, "", None],
        ["hang for ever, 3 tries: failed after, ms", ever["time"]["total_ms"], "<= 5000", ever["time"]["total_ms"] <= 5000 and ever["drain"]["gave_up"] == 1],
    ]
    if o.stalls:
        goals.append(["runs left out: a request took the host 10 s", o.stalls, "= 0", False])
    delays, rounds = [r["delay_ms"] for r in runs], [r["delay_rounds"] for r in runs]
    print(f"{o.guest} guest, {o.memory} MiB, {o.dirty_rate}/s, depth {o.io_depth}, {len(runs)} runs; {median([r['requests'] / r['total_ms'] for r in runs]):.1f} requests a ms")
    table([["with the disk", median([r["total_ms"] for r in runs]), median([r["rounds"] for r in runs])],
           ["less what coming to rest cost", median([r["total_ms"] - r["delay_ms"] for r in runs]), median([r["rounds"] - r["delay_rounds"] for r in runs])],
           ["what it cost", median(delays), median(rounds)],
           ["without a disk", median([j["time"]["total_ms"] for j in plain]), median([len(j["rounds"]) for j in plain])]], ["", "total ms", "rounds"])
    print()
    table([[title, float(f"{value:.3g}"), goal, "" if reached is None else "ok" if reached else "MISSED"] for title, value, goal, reached in goals], ["", "", "goal", ""])
    if o.json:
        with open(o.json, "w") as file:
            json.dump({"guest": o.guest, "runs": runs, "shares": shares, "goals": goals}, file, indent=1)
    return 0 if all(goal[3] is not False for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
