#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""loopback.py: small guests of every kind over --loopback: each must complete, verify, and be told as the contract says."""
import os
import tempfile

import migperf
from migperf import SHORT, Checks, completed, loopback

checks = Checks()


def case(*args, uri=None):
    label = " ".join(map(str, args)) + (f" {uri}" if uri else "")
    result = loopback(*args, uri=uri)
    completed(checks, result, label)
    return result.json if result.json and result.rc == 0 else None


def hugetlb_free(size):
    try:
        with open("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages") as f:
            return int(f.read()) * 2 << 20 >= size
    except OSError:
        return False


# One of each first: what breaks here breaks everywhere.
j = case("-m", "64M")
if j:
    checks.equal(j["memory_bytes"], 64 << 20, "memory_bytes")
    checks.equal(j["streams"], 4, "streams by default")
    checks.equal(j["time"]["downtime_limit_ms"], 300, "downtime limit by default")
    checks.check(j["bytes"]["guest"] >= 64 << 20, "all of random memory moves", j["bytes"])
    checks.check(j["bytes"]["wire"] >= 64 << 20, "random memory does not shrink", j["bytes"])
case("-m", "64M", "--dirty-rate", "20M", "--vcpus", "2")

# A guest that writes nothing is sent once.
j = case("-m", "128M", "--dirty-rate", "0")
if j:
    second = [r for r in j["rounds"] if r["n"] == 2]
    pages = (128 << 20) // 4096
    checks.check(not second or second[0]["pages"] <= pages // 100, "dirty-rate 0: the second round is over 1 %", j["rounds"])

# Zero pages cost next to nothing on the wire; text shrinks, and only when it may.
j = case("-m", "64M", "--fill", "zero")
if j:
    checks.check(j["bytes"]["wire"] < 2 << 20, "an all zero guest fills the wire", j["bytes"])
    checks.check(j["bytes"]["zero"] >= 60 << 20 or j["bytes"]["guest"] < 4 << 20, "zero pages are not counted", j["bytes"])
j = case("-m", "64M", "--fill", "text", "--compress", "lz4")
if j:
    checks.check(j["bytes"]["lz4_in"] > 60 << 20 and j["bytes"]["wire"] < 48 << 20, "text does not shrink with lz4", j["bytes"])
j = case("-m", "64M", "--fill", "text", "--compress", "none")
if j:
    checks.check(j["bytes"]["lz4_in"] == 0 and j["bytes"]["wire"] >= 64 << 20, "compressed though told not to", j["bytes"])

if not SHORT:
    case("-m", "64M", "--fill", "random", "--compress", "lz4")
    case("-m", "64M", "--fill", "text", "--compress", "auto")
    j = case("-m", "64M", "--fill", "text", "--compress", "auto", "-b", "40M")
    if j:
        checks.check(j["bytes"]["lz4_in"] > 0, "auto does not compress text on a slow wire", j["bytes"])
        rate = j["bytes"]["wire"] / (j["time"]["total_ms"] - j["time"]["setup_ms"]) * 1000
        checks.check(rate < 48 << 20, "bandwidth limit of 40M", f"{rate / 1e6:.1f} MB/s")

    for backing in ("anon", "memfd"):
        for tracker in ("pagemap", "marks"):
            case("-m", "64M", "--backing", backing, "--tracker", tracker, "--dirty-rate", "30M")
            case("-m", "64M", "--backing", backing, "--tracker", tracker, "--touched", "10", "--prealloc")
    if hugetlb_free(512 << 20):
        case("-m", "128M", "--backing", "hugetlb:2M", "--dirty-rate", "30M")
    else:
        checks.skip_part("hugetlb: no huge pages reserved here")

    for streams in (1, 2, 3, 8, 16, 64):
        case("-m", "96M", "-P", streams, "--dirty-rate", "40M")
    for vcpus in (2, 4, 8):
        for pattern in ("seq", "rand", "zipf"):
            case("-m", "64M", "--vcpus", vcpus, "--pattern", pattern, "--dirty-rate", "50M", "--wss", "16M")

    # Sizes that are no multiple of a granule; one page.
    for size in ("4K", "8K", "1M", "2044K", "2052K", "33333K" if 33333 % 4 == 0 else "33332K"):
        case("-m", size)
    case("-m", "256M", "--touched", "0")
    case("-m", "256M", "--touched", "50", "--dirty-rate", "100M", "--verify", "full")
    j = loopback("-m", "64M", "--verify", "off").json
    checks.check(j and j["verify"] == "skipped", "--verify off says skipped", j and j["verify"])

case("-m", "64M", "--io-engine", "plain", "--dirty-rate", "20M")
case("-m", "64M", "--io-engine", "uring", "--dirty-rate", "20M")
with tempfile.TemporaryDirectory() as directory:
    case("-m", "64M", "--dirty-rate", "20M", uri=f"unix:{directory}/socket")
    checks.equal(os.listdir(directory), [], "the socket is removed")
case("-m", "64M", uri=f"tcp:127.0.0.1:{migperf.free_port()}")
checks.done()
