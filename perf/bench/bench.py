# SPDX-License-Identifier: LGPL-2.1-or-later
"""bench.py: what the benchmarks share: the programs under test, medians, a table."""
import json
import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def migperf_path():
    path = os.environ.get("MIGPERF") or f"{ROOT}/build/release/perf/migperf"
    if not os.access(path, os.X_OK):
        sys.exit(f"{path} is not there: build it (perf/demo does), or set MIGPERF")
    return path


def compile_raw_copy():
    """The floor, compiled anew: no build directory is needed for it."""
    directory = tempfile.mkdtemp(prefix="sluice-bench-")
    subprocess.check_call(shlex.split(os.environ.get("CC", "cc")) + ["-O2", f"{HERE}/raw_copy.c", "-o", f"{directory}/raw_copy", "-lpthread"])
    return f"{directory}/raw_copy", lambda: shutil.rmtree(directory, ignore_errors=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def median(values):
    values = sorted(value for value in values if value is not None)
    if not values:
        return None
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def migrate(*args, server_args=(), timeout=300):
    """One migration between two processes, -s and -c. Returns (source's JSON, destination's JSON, seconds, CPU seconds of both):
    seconds by this script's own clock, between the lines in which the source says that it started and completed."""
    migperf = migperf_path()
    server_said = tempfile.TemporaryFile("w+")
    server = subprocess.Popen([migperf, "-s", "tcp:127.0.0.1:0", "-1", "-J", *server_args], stdout=subprocess.PIPE, stderr=server_said, text=True)
    client = None
    try:
        uri = wait_listening(server, server_said)
        client = subprocess.Popen([migperf, "-c", uri, "-J", *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        marks, said = {}, b""
        deadline = time.monotonic() + timeout
        # The lines are read as they come, unbuffered: a buffered reader would hide their moment.
        while "completed" not in marks and time.monotonic() < deadline:
            if not select.select([client.stderr], [], [], 0.5)[0]:
                continue
            part = os.read(client.stderr.fileno(), 65536)
            now = time.monotonic()
            if not part:
                break
            said += part
            for name in ("started", "completed"):
                if name not in marks and re.search(rb"migperf: migration " + name.encode(), said):
                    marks[name] = (now, cpu_s(client.pid), cpu_s(server.pid))
        out, rest = client.communicate(timeout=max(1, deadline - time.monotonic()))
        server_out, _ = server.communicate(timeout=30)
    finally:
        for process in (client, server):
            if process and process.poll() is None:
                process.kill()
                process.wait()
    if client.returncode or len(marks) < 2:
        sys.exit(f"migperf -c {shlex.join(map(str, args))}: status {client.returncode}\n{(said + (rest or b'')).decode()}{read(server_said)}")
    seconds = marks["completed"][0] - marks["started"][0]
    cpu = sum(marks["completed"][i] - marks["started"][i] for i in (1, 2))
    return json.loads(out), json.loads(server_out) if server_out.strip() else None, seconds, cpu


def expected_well(expected_ms, downtime_ms):
    return abs(expected_ms - downtime_ms) <= max(5, 0.2 * downtime_ms)


def read(file):
    # Not seek(): the offset is shared with the program that writes.
    return os.pread(file.fileno(), 1 << 20, 0).decode(errors="replace")


def wait_listening(process, said):
    """Where it listens, once it does: populating memory comes first."""
    for _ in range(12000):
        found = re.search(r"listening on (\S+)\n", read(said))
        if found:
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.01)
    process.kill()
    sys.exit(f"migperf -s does not listen: {read(said)}")


def table(rows, head):
    rows = [head] + [[text(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))), flush=True)


def text(value):
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
