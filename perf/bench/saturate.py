#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""saturate.py: how much of what this machine can carry does a migration carry?

In turn, N times over: raw_copy (the same bytes over the same loopback, nothing of a migration in it), migperf (source and
destination as two processes), and QEMU's own migration where it is installed. Random memory, a populated destination, real TCP.
Figures of different runs on a machine vary, ratios within a round much less: so ratios are taken per round, and their median.

migperf's time is this script's own, between its lines "migration started" and "migration completed"; so it contains set-up,
switchover and handoff, which raw_copy does not have. Also: how late an event loop beside it is, against a ticker beside raw_copy that
runs as long; the longest hold of the big lock; CPU seconds per GB (1e9 bytes) of both ends together."""
import argparse
import json
import shutil
import subprocess

from bench import HERE, compile_raw_copy, free_port, median, migrate, table


def raw(program, o, repeat=1):
    out = subprocess.check_output([program, str(o.memory), str(o.streams), "--prealloc", "--repeat", str(repeat)], text=True)
    j = json.loads(out)
    return {"gb_per_s": j["guest_gb_per_s"], "cpu_s_per_gb": sum(j["cpu_s"].values()) / ((o.memory << 20) * repeat / 1e9),
            "late_p999_us": j["ticker_late_us"]["p999"], "late_max_us": j["ticker_late_us"]["max"]}


def sluice(o):
    # The destination is told the size, too: so its memory is there before the source comes.
    memory = ("--prealloc", "-m", f"{o.memory}M")
    j, _, seconds, cpu = migrate(*memory, "-P", o.streams, "--fill", "random", *o.migperf, server_args=memory)
    if j["status"] != "completed" or j["verify"] == "mismatch":
        raise SystemExit(f"migperf: {j['status']}, verify {j['verify']}: {j['error']}")
    gb = j["bytes"]["guest"] / 1e9
    return {"gb_per_s": (o.memory << 20) / 1e9 / seconds, "by_json_gb_per_s": j["throughput_bytes_per_s"] / 1e9, "seconds": seconds,
            "cpu_s_per_gb": cpu / gb, "setup_ms": j["time"]["setup_ms"], "downtime_ms": j["time"]["downtime_ms"],
            "late_p999_us": j["big_lock"]["late_us"]["p999"], "late_max_us": j["big_lock"]["late_us"]["max"],
            "lock_held_max_us": j["big_lock"]["held_us"]["max"], "rounds": len(j["rounds"])}


def qemu(o):
    for _ in range(3):
        out = subprocess.check_output([f"{HERE}/qemu_peer.py", "saturate", "--mem", str(o.memory), "--channels", str(o.streams), "--prealloc",
                                       "--port", str(free_port())], text=True)
        j = json.loads(out)
        gb = (o.memory << 20) / 1e9
        # Asked at the wrong moment, QEMU 7.2 says "completed" before it says in what time.
        if "guest_gb_per_s" in j:
            return {"gb_per_s": j["guest_gb_per_s"], "cpu_s_per_gb": sum(j["cpu_s"].values()) / gb, "downtime_ms": j["downtime_ms"],
                    "peer": j["peer"]}
    raise SystemExit("QEMU does not say how long its migration took")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("-m", "--memory", type=int, default=4096, help="MiB (default 4096)")
    parser.add_argument("-P", "--streams", type=int, default=4)
    parser.add_argument("-n", "--rounds", type=int, default=3)
    parser.add_argument("--no-qemu", action="store_true", help="leave QEMU out")
    parser.add_argument("--json", metavar="FILE", help="write all figures there too")
    parser.add_argument("migperf", nargs="*", help="options for migperf -c, after --")
    o = parser.parse_args()
    with_qemu = not o.no_qemu and bool(shutil.which("qemu-system-x86_64"))
    program, clean = compile_raw_copy()
    rounds = []
    try:
        for n in range(o.rounds):
            r = {"raw": raw(program, o), "sluice": sluice(o)}
            # The ticker beside raw_copy for as long as migperf's event loop ran.
            repeat = max(1, round(r["sluice"]["seconds"] * r["raw"]["gb_per_s"] * 1e9 / (o.memory << 20)))
            r["ticker"] = raw(program, o, repeat)
            if with_qemu:
                r["qemu"] = qemu(o)
            rounds.append(r)
            print(f"round {n + 1}: raw_copy {r['raw']['gb_per_s']:.2f} GB/s, migperf {r['sluice']['gb_per_s']:.2f}"
                  + (f", QEMU {r['qemu']['gb_per_s']:.2f}" if with_qemu else ""), flush=True)
    finally:
        clean()

    def ratio(what, over, key):
        return median([r[what][key] / r[over][key] for r in rounds if r[over][key]])

    summary = {
        "sluice_over_raw": ratio("sluice", "raw", "gb_per_s"),
        "sluice_over_qemu": ratio("sluice", "qemu", "gb_per_s") if with_qemu else None,
        "late_p999_over_ticker": ratio("sluice", "ticker", "late_p999_us"),
        "lock_held_max_us": max(r["sluice"]["lock_held_max_us"] for r in rounds),
        "setup_ms_max": max(r["sluice"]["setup_ms"] for r in rounds),
    }
    columns = ("gb_per_s", "cpu_s_per_gb", "late_p999_us", "late_max_us", "downtime_ms")
    names = [("raw", "raw_copy"), ("ticker", "raw_copy, as long"), ("sluice", "migperf")] + ([("qemu", rounds[0]["qemu"]["peer"])] if with_qemu else [])
    print(f"\n{o.memory} MiB of random memory, {o.streams} streams, populated destination; medians of {o.rounds}")
    table([[title] + [median([r[name].get(column) for r in rounds]) for column in columns] for name, title in names],
          ["", "GB/s", "CPU-s/GB", "late p99.9 us", "late max us", "downtime ms"])
    print()
    table([
        ["migperf / raw_copy, GB/s", summary["sluice_over_raw"], ">= 0.85"],
        ["migperf / QEMU, GB/s", summary["sluice_over_qemu"], ">= 1.15"],
        ["event loop / ticker, lateness p99.9", summary["late_p999_over_ticker"], "<= 1.3"],
        ["longest hold of the big lock, us", summary["lock_held_max_us"], "<= 200"],
        ["longest set-up, ms", summary["setup_ms_max"], "<= 50"],
    ], ["", "median", "goal"])
    if not with_qemu:
        print("QEMU left out" if o.no_qemu else "no qemu-system-x86_64 here: left out")
    figures = {"memory_mib": o.memory, "streams": o.streams, "rounds": rounds, "summary": summary}
    if o.json:
        with open(o.json, "w") as file:
            json.dump(figures, file, indent=1)
    else:
        print(json.dumps(figures))


main()
