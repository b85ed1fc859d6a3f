#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""bench.py: the benchmark scripts still run: small and once. What they measure is no matter here."""
import json
import subprocess
import sys
import tempfile

from migperf import ROOT, Checks

checks = Checks()
with tempfile.NamedTemporaryFile("r", suffix=".json") as figures:
    for script, *args in (("saturate.py", "-m", "128", "-n", "1", "--no-qemu"), ("downtime.py", "-m", "64", "-n", "2", "--highest", "0.2")):
        done = subprocess.run([sys.executable, f"{ROOT}/perf/bench/{script}", *args, "--json", figures.name], capture_output=True, text=True,
                              check=False, timeout=50)
        # downtime.py also fails on figures, which a busy machine may spoil.
        checks.check(done.returncode in (0, 1) and "Traceback" not in done.stderr, script, done.stdout + done.stderr)
        with open(figures.name) as file:
            checks.check(json.load(file), f"{script} writes its figures")
checks.done()
