#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""many.py [kvm] N: N migrations in a row, each of a random guest (kvm: a virtual machine of 1 to 32 vCPUs) over random streams; all must
verify. SEED=... replays."""
import os
import sys
import tempfile

from migperf import SHORT, Checks, completed, loopback, seeded, skip

checks = Checks()
rng = seeded()
count = int(next((word for word in sys.argv[1:] if word.isdigit()), 12))


def process():
    """Arguments of a random guest and how to move it."""
    size_k = 4 * (rng.randrange(1, 512) if rng.random() < 0.15 else rng.randrange(1, (16 if SHORT else 65) << 10))
    args = ["-m", f"{size_k}K"]
    args += ["--streams", rng.randrange(1, 17), "--vcpus", min(rng.randrange(1, 9), size_k // 4)]  # a page for each
    args += ["--backing", rng.choice(["memfd", "memfd", "anon"]), "--fill", rng.choice(["random", "random", "text", "zero"])]
    args += ["--pattern", rng.choice(["seq", "rand", "zipf"]), "--compress", rng.choice(["none", "lz4", "auto"])]
    args += ["--tracker", rng.choice(["auto", "auto", "marks"]), "--io-engine", rng.choice(["uring", "uring", "plain"])]
    args += ["--touched", rng.choice([100, 100, 50, 10, 0]), "--dirty-rate", rng.choice(["0", "1M", "20M", "100M", "300M"])]
    if rng.random() < 0.3 and size_k >= 64:
        args += ["--wss", f"{max(32, size_k // rng.randrange(2, 16) // 4 * 4)}K"]
    if rng.random() < 0.3:
        args += ["--prealloc"]
    if rng.random() < 0.2:
        # A guest that writes faster than it may be sent does not have to converge.
        args += ["-b", f"{rng.randrange(500, 800)}M", "--downtime", "1000"]
    return args


def kvm():
    """Likewise of a virtual machine. What it writes at most fits the downtime limit on any machine that is not overloaded."""
    size_m, vcpus = rng.randrange(4, 24 if SHORT else 97), rng.choice([1, 2, 4, rng.randrange(1, 33)])
    args = ["--guest", "kvm", "-m", f"{size_m}M", "--vcpus", vcpus, "--streams", rng.randrange(1, 17), "--downtime", rng.choice([300, 300, 1000])]
    args += ["--tracker", rng.choice(["auto", "kvm-log", "kvm-ring", "pagemap", "log"]), "--pattern", rng.choice(["seq", "rand", "zipf", "gc"])]
    args += ["--fill", rng.choice(["random", "random", "text", "zero", "guest"]), "--backing", rng.choice(["memfd", "memfd", "anon"])]
    args += ["--compress", rng.choice(["none", "lz4", "auto"]), "--io-engine", rng.choice(["uring", "uring", "plain"])]
    args += ["--dirty-rate", rng.choice(["0", "4M", "40M", "200M", "1T", "1T"])]
    if "guest" not in args:
        args += ["--touched", rng.choice([100, 100, 50, 10, 0])]
    if rng.random() < 0.3:
        args += ["--wss", f"{max(1, size_m // rng.randrange(2, 16))}M"]
    if rng.random() < 0.2:
        args += ["--prealloc"]
    if rng.random() < 0.1:
        args += ["--hold", rng.randrange(1, 300)]
    if vcpus > 8:
        args += ["--throttle", 90]  # so many leave a migration next to no time of few processors, and only that gets it back
    elif rng.random() < 0.2:
        args += ["--throttle", rng.randrange(20, 99)]
    if rng.random() < 0.2:
        args += ["-b", f"{rng.randrange(300, 800)}M"]
    return args


guest = kvm if "kvm" in sys.argv else process
if guest is kvm and not os.access("/dev/kvm", os.R_OK | os.W_OK):
    skip("no KVM here: /dev/kvm")
with tempfile.TemporaryDirectory() as directory:
    for i in range(count):
        args = guest()
        uri = f"unix:{directory}/{i}" if rng.random() < 0.3 else "tcp:127.0.0.1:0"
        label = f"{i + 1} of {count}: {uri.split(':')[0]} {' '.join(map(str, args))}"
        result = loopback(*args, uri=uri, timeout=60)
        good = completed(checks, result, label)
        if not good or "-v" in sys.argv or os.isatty(1):
            print(f"{'ok' if good else 'FAILED'} {label} ({result.seconds:.1f} s)", flush=True)
checks.done()
