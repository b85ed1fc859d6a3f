#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""prealloc.py: --prealloc has the destination populate its memory before the clock starts, and that is no migration: it is not
counted, not printed, leaves nothing behind when its source is gone, and its errors are the usual ones."""
import re
import signal
import tempfile
import time

import migperf
from migperf import (CANCELLED, COMPLETED, REFUSED, SANITIZED, SHORT, SLOWER, USAGE, Checks, Process, Server, available, completed,
                     free_port, kept, loopback, run, sane, source)

# News of --prealloc, which is no error.
migperf.NEWS = re.compile(migperf.NEWS.pattern + r"|^migperf: preparing the destination's memory$")
SETUP_MS = 50 * SLOWER  # set-up of a migration whose memory is there; populating 1 GiB takes several times as long
BIG = "256M" if SANITIZED else "1G"
checks = Checks()


def news(result):
    return re.findall(r"migperf: (preparing|migration \w+)", result.err)


def shared_mib(server):
    """Memory of a guest that a server holds: memfds count as shared."""
    with open(f"/proc/{server.pid}/status") as status:
        return int(re.search(r"RssShmem:\s+(\d+) kB", status.read()).group(1)) >> 10


def frees(server):
    """It lets go of the last guest's memory; its source may be gone before that."""
    until = time.monotonic() + 3
    while shared_mib(server) >= 16 and time.monotonic() < until:
        time.sleep(0.05)
    return shared_mib(server) < 16


def each(result, count, label):
    """`count` migrations, each verified and set up in no time."""
    if not (sane(checks, result, label) and checks.equal(result.rc, COMPLETED, f"{label}: exit status", result)):
        return
    if not checks.equal(len(result.objects), count, f"{label}: JSON objects", result):
        return
    for j in result.objects:
        checks.equal((j["status"], j["error"], j["verify"]), ("completed", None, "ok"), f"{label}: result", j)
    # The median of several: one may have lost its processor.
    times = sorted(j["time"]["setup_ms"] for j in result.objects)
    checks.check(times[len(times) // 2] <= SETUP_MS, f"{label}: set-up populates", times)
    if "-c" in result.args or "--loopback" in result.args:
        checks.equal(news(result), ["preparing", "migration started", "migration completed"] * count, f"{label}: news", result)


each(loopback("-m", BIG, "--touched", "10", "--prealloc", "-n", "3"), 3, "loopback -n 3")

# A server that serves as many as it should: preparing does not count, and is not printed.
with tempfile.TemporaryDirectory() as directory:
    for uri in (f"tcp:127.0.0.1:{free_port()}", f"unix:{directory}/socket"):
        for backing in ("memfd", "anon"):
            label = f"{uri.split(':')[0]} {backing}"
            with Server("-n", "2", uri=uri) as server:
                each(source(uri, "-m", "128M", "--backing", backing, "--prealloc", "-n", "2", "--dirty-rate", "20M"), 2, label)
                each(server.wait(10), 2, f"{label}: server")
with Server("-1", "--prealloc", "-m", "32M") as server:  # accepted there, too; the source chooses
    each(source(server.uri, "-m", "64M", "--prealloc", "--tracker", "marks", "--dirty-rate", "20M"), 1, "-s -1")
    each(server.wait(10), 1, "-s -1: server")

with Server() as server:
    # Every source gets what it asks for, whatever the one before it prepared.
    for args in (("-m", "64M", "--prealloc"), ("-m", "96M", "--prealloc"), ("-m", "64M"),
                 ("-m", "64M", "--backing", "anon", "--prealloc")):
        completed(checks, source(server.uri, *args), f"one server: {' '.join(args)}")
        checks.check(frees(server), "the server keeps memory that nobody wants", f"{shared_mib(server)} MiB")

    # A destination with too little memory refuses as it does without --prealloc.
    # Not many times too little: under ThreadSanitizer the source's addresses do not hold a terabyte.
    gib = 2 * available() // (1 << 30) + 1
    result = source(server.uri, "-m", f"{gib}G", "--touched", "0", "--verify", "sample", "--prealloc", timeout=60)
    kept(checks, result, "too little memory", (REFUSED,))
    checks.check("available" in result.error_line() and f"{gib}.0 GiB" in result.error_line(), "too little memory: the error", result)
    checks.equal(news(result), ["preparing", "migration failed"], "too little memory: news", result)

    # A source that goes away meanwhile.
    for number in (signal.SIGKILL, signal.SIGINT):
        for delay in (0,) if SHORT else (0, 0.05, 0.15):
            label = f"{number.name} {delay} s into preparing"
            with Process("-c", server.uri, "-J", "-m", BIG, "--touched", "0", "--prealloc") as client:
                checks.check(client.wait_for("preparing"), f"{label}: it prepares", client.stderr())
                time.sleep(delay)
                client.send(number)
                result = client.wait(15)
            if number == signal.SIGINT and result.rc != COMPLETED: # it may have been done
                kept(checks, result, label, (CANCELLED,))
            completed(checks, source(server.uri, "-m", "32M", "--prealloc"), f"{label}: the next migration")
            checks.check(frees(server), f"{label}: the server keeps memory", f"{shared_mib(server)} MiB")
    sane(checks, server.stop(), "server")

# Where nobody listens, and where no session comes to be.
result = source(f"tcp:127.0.0.1:{free_port()}", "-m", "16M", "--prealloc")
kept(checks, result, "nobody listens", (REFUSED,))
for args in (("-m", "16M", "--prealloc"), ("-m", "16M")):
    result = run("-c", "tcp:192.0.2.1:4747", *args)
    checks.equal((result.rc in (USAGE, REFUSED), news(result)), (True, []), f"{args}: a URI that is refused", result)

# The engine that carried it is told.
for engine in ("plain", "uring"):
    j = loopback("-m", "16M", "--io-engine", engine).json
    told = j and (j["engine"]["asked"], j["engine"]["io"], j["engine"]["io_uring"], {s["io_uring"] for s in j["per_stream"]})
    wanted = [("plain", "plain", False, {False})]
    if engine == "uring":  # where the kernel does not allow it, plain sockets do it
        wanted = [("uring", "io_uring", True, {True}), ("uring", "plain", False, {False})]
    checks.check(told in wanted, f"--io-engine {engine}: engine", told)
checks.done()
