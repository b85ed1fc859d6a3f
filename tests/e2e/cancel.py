#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""cancel.py: giving up at any moment leaves the guest whole at the source; and a guest that does not converge in time too."""
import re
import signal
import time

from migperf import CANCELLED, COMPLETED, FAILED, SANITIZED, SHORT, Checks, Process, Server, completed, kept, sane, seeded, source

checks = Checks()
rng = seeded()

for i in range(2 if SHORT else 8):
    # Limited, so that it lasts about two seconds wherever it runs.
    with Server() as server:
        after = rng.uniform(0, 2.5)
        with Process("-c", server.uri, "-J", "-m", "128M", "-b", "60M", "--dirty-rate", "10M", "--vcpus", "2") as client:
            time.sleep(after)
            client.send(signal.SIGINT)
            result = client.wait(15)
        label = f"SIGINT after {after:.3f} s"
        # It may have been too late, or the guest be on its way out already: then it must complete.
        if result.rc == COMPLETED:
            completed(checks, result, label)
        elif "still being filled" in result.err:
            checks.equal((result.rc, result.json), (CANCELLED, None), f"{label}: filling", result)
        elif result.rc == -signal.SIGINT and after < 0.2:
            pass # it had not come as far as listening for signals
        else:
            kept(checks, result, label, (CANCELLED,))
        # The server is there for the next one at once.
        completed(checks, source(server.uri, "-m", "16M"), f"{label}: the next migration")
        sane(checks, server.stop(), f"{label}: server")

# SIGTERM is the same wish.
with Server() as server:
    with Process("-c", server.uri, "-J", "-m", "256M", "-b", "40M") as client:
        checks.check(client.wait_for("migration started"), "the migration starts", client.stderr())
        time.sleep(0.3)
        client.send(signal.SIGTERM)
        kept(checks, client.wait(10), "SIGTERM", (CANCELLED,), within=8)

# A server that is stopped while idle ends at once and says nothing wrong.
with Server() as server:
    result = server.stop(timeout=5)
    sane(checks, result, "idle server, SIGINT")
    checks.check(result.rc in (COMPLETED, CANCELLED), "idle server, SIGINT: exit status", result)

# Never converging: written faster than the wire takes it.
with Server() as server:
    result = source(server.uri, "-m", "64M", "-b", "30M", "--dirty-rate", "200M", "--timeout", "4", "--downtime", "50", timeout=20)
    kept(checks, result, "--timeout 4", (FAILED,), within=10)
    if result.json:
        checks.check(result.seconds >= 4, "--timeout 4: gave up early", result)
        # It says how far apart what the wire takes and what the guest writes are.
        said = re.search(r"gave up after (4\.\d) s .* (\d+) MB/s got through, the guest dirties about (\d+) MB/s; allow more time", result.error_line())
        if checks.check(said, "--timeout 4: the error does not say it with figures", result):
            through, dirtied = int(said[2]), int(said[3])
            checks.check(15 <= through <= 45, "--timeout 4: what got through of 30 MiB/s", result)
            # Different pages, that is: a page written twice between two looks counts once.
            checks.check(SANITIZED or 0.8 * through < dirtied <= 300, "--timeout 4: what the guest dirties", result)
        # The guest ran all the time but while it was stopped for a try, and on after giving up.
        ran = result.json["guest"]["ran_ns"]
        stopped = sum(b[0] - a[1] for a, b in zip(ran, ran[1:])) / 1e9
        checks.check((ran[-1][1] - ran[0][0]) / 1e9 > 4 and stopped < 1, "--timeout 4: the guest did not run on", ran)
    completed(checks, source(server.uri, "-m", "16M"), "--timeout 4: the next migration")
    sane(checks, server.stop(), "--timeout 4: server")
checks.done()
