#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""bench.py: the benchmark scripts still run: small and once. What they measure is no matter here."""
import json
import os
import subprocess
import sys
import tempfile

from migperf import MIGPERF, ROOT, Checks

checks = Checks()
with tempfile.NamedTemporaryFile("r", suffix=".json") as figures:
    for script, *args in (("saturate.py", "-m", "128", "-n", "1", "--no-qemu"), ("downtime.py", "-m", "64", "-n", "2", "--highest", "0.2"),
                         ("dirty.py", "-m", "64", "--wss", "16", "-n", "1", "--warm-up", "200", "--no-qemu"),
                         ("drain.py", "-m", "32", "-n", "1", "--hang", "200")):
        if script == "dirty.py" and not os.access("/dev/kvm", os.W_OK):
            continue
        done = subprocess.run([sys.executable, f"{ROOT}/perf/bench/{script}", *args, "--json", figures.name], capture_output=True, text=True,
                              check=False, timeout=50)
        # downtime.py also fails on figures, which a busy machine may spoil.
        checks.check(done.returncode in (0, 1) and "Traceback" not in done.stderr, script, done.stdout + done.stderr)
        with open(figures.name) as file:
            checks.check(json.load(file), f"{script} writes its figures")
for name, *args in (("dirty_log", "-m", "1", "-n", "2"), ("pause", "-v", "2", "-n", "3")):
    done = subprocess.run([f"{os.path.dirname(MIGPERF)}/bench_{name}", *args, "-J"], capture_output=True, text=True, check=False, timeout=50)
    if done.returncode == 77:
        checks.skip_part(done.stdout.removeprefix("skipped: ").strip())
    elif checks.check(done.returncode in (0, 1) and not done.stderr, name, done.stdout + done.stderr):
        checks.check(json.loads(done.stdout)["runs"] == int(args[-1]), f"{name} says its figures", done.stdout)
checks.done()
