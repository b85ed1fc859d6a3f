# SPDX-License-Identifier: LGPL-2.1-or-later
"""migperf.py: run migperf from outside: processes with hard time limits, its JSON, and checks that count.

Environment: MIGPERF, the program (default: the release build's); SLUICE_SANITIZE, the sanitizer it was built with."""
import json
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MIGPERF = os.environ.get("MIGPERF", f"{ROOT}/build/release/perf/migperf")
SANITIZE = os.environ.get("SLUICE_SANITIZE", "none")
SANITIZED = SANITIZE != "none"
SLOWER = 10 if SANITIZED else 1  # how much longer anything may take
SHORT = "--short" in sys.argv

# Exit status of the contract.
COMPLETED, FAILED, USAGE, DIFFERS, REFUSED, IN_DOUBT, CANCELLED = range(7)
SKIPPED = 77


# ---------------------------------------------------------------- checks


class Checks:
    """Counts checks; the failed ones are printed with what was seen. Ends the program by done()."""

    def __init__(self):
        self.passed = self.failed = 0
        self.lock = threading.Lock()

    def check(self, good, what, seen=None):
        with self.lock:
            if good:
                self.passed += 1
            else:
                self.failed += 1
                print(f"FAILED: {what}" + (f"\n  seen: {seen}" if seen is not None else ""), flush=True)
        return bool(good)

    def equal(self, got, want, what, seen=None):
        return self.check(got == want, f"{what}: {got!r}, not {want!r}", seen)

    def skip_part(self, reason):
        """One part cannot run here. tests/run shows the reason."""
        print(f"skipped: {reason}", flush=True)

    def done(self):
        print(f"{self.passed} checks passed, {self.failed} failed", flush=True)
        sys.exit(1 if self.failed or not self.passed else 0)


def skip(reason):
    print(f"skipped: {reason}", flush=True)
    sys.exit(SKIPPED)


# ---------------------------------------------------------------- processes


class Result:
    """How a migperf ended. json: the object it printed last, None without one."""

    def __init__(self, args, rc, out, err, seconds, hung):
        self.args, self.rc, self.out, self.err, self.seconds, self.hung = args, rc, out, err, seconds, hung
        self.objects, self.json_error = parse(out)
        self.json = self.objects[-1] if self.objects else None

    def error_line(self):
        """What it said about its failure: the last line of standard error that is neither progress nor a phase."""
        lines = [line for line in self.err.splitlines() if line.strip() and not NEWS.match(line)]
        return lines[-1] if lines else ""

    def __str__(self):
        text = f"{shlex.join(self.args)}\n  status {self.rc}{' (killed: it hung)' if self.hung else ''} after {self.seconds:.1f} s"
        for name, stream in (("out", self.out), ("err", self.err)):
            stream = stream.strip()
            text += f"\n  {name}: {stream[:300]}{' ... ' + stream[-700:] if len(stream) > 1000 else stream[300:]}"
        return text


# Lines of standard error that are no errors.
NEWS = re.compile(r"^(migperf: (migration (started|completed|failed|cancelled|in-doubt|in doubt)|warning|holding the stopped guest|too late to cancel)|listening on )")


def parse(text):
    """All JSON objects that follow one another in text, and why it is not that."""
    decoder, objects, at = json.JSONDecoder(), [], 0
    text = text.strip()
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError as error:
            return objects, f"{error} in {text[at:at + 80]!r}"
        objects.append(value)
        while at < len(text) and text[at].isspace():
            at += 1
    return objects, None


class Process:
    """A migperf in the background. Use as a context manager: it never outlives the block."""

    def __init__(self, *args, prefix=(), program=None):
        self.args = [*prefix, program or MIGPERF, *map(str, args)]
        # Files, not pipes: nothing here can then block it, and it can be killed without losing what it said.
        self.out, self.err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        self.began = time.monotonic()
        self.process = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err, start_new_session=True)
        self.pid = self.process.pid
        self.result = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.result is None:
            self.kill()

    def send(self, number):
        """To the whole session: with --loopback there are two processes."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def running(self):
        return self.process.poll() is None

    def stderr(self):
        return self.read(self.err)

    @staticmethod
    def read(file):
        # Not seek(): the offset is shared with the program that writes.
        size = os.fstat(file.fileno()).st_size
        return os.pread(file.fileno(), size, 0).decode(errors="replace")

    def wait_for(self, text, timeout=10):
        """Until standard error has `text` (a regular expression); False: it ended, or did not say so in time."""
        deadline = time.monotonic() + timeout * SLOWER
        while time.monotonic() < deadline:
            ended = not self.running()
            if re.search(text, self.stderr()):
                return True
            if ended:
                return False
            time.sleep(0.005)
        return False

    def wait(self, timeout=30):
        hung = False
        try:
            self.process.wait(timeout * SLOWER)
        except subprocess.TimeoutExpired:
            hung = True
            # Ask where it hangs before killing it: SIGUSR1 dumps every wait.
            self.send(signal.SIGCONT)
            self.send(signal.SIGUSR1)
            time.sleep(0.5)
        return self.end(hung)

    def stop(self, number=signal.SIGINT, timeout=10):
        """End a server in the orderly way."""
        self.send(number)
        return self.wait(timeout)

    def kill(self):
        return self.end(False)

    def end(self, hung):
        if self.result is None:
            seconds = time.monotonic() - self.began
            self.send(signal.SIGKILL)
            rc = self.process.wait()
            self.result = Result(self.args, rc, self.read(self.out), self.read(self.err), seconds, hung)
            self.out.close()
            self.err.close()
        return self.result

    def cpu_s(self):
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(*args, timeout=30, prefix=(), program=None):
    with Process(*args, prefix=prefix, program=program) as process:
        return process.wait(timeout)


def loopback(*args, timeout=20, uri=None):
    return run("--loopback", *([uri] if uri else []), "-J", *args, timeout=timeout)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def available():
    """Memory that processes can still take, in bytes."""
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


class Server(Process):
    """`migperf -s URI -J`, listening when the constructor returns; uri is where, with the port that the kernel chose."""

    def __init__(self, *args, uri="tcp:127.0.0.1:0", prefix=()):
        super().__init__("-s", uri, "-J", *args, prefix=prefix)
        if not self.wait_for(r"listening on \S+\n"):
            raise RuntimeError(f"the server does not listen\n{self.kill()}")
        self.uri = re.search(r"listening on (\S+)", self.stderr())[1]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))


def source(uri, *args, timeout=30, prefix=()):
    return run("-c", uri, "-J", *args, timeout=timeout, prefix=prefix)


# ---------------------------------------------------------------- what a result must be

NUMBER, TEXT, HIST = (int, float), (str,), "histogram"

# The contract's keys. A key that ends in ? belongs to a mode and may be left out.
SCHEMA = {
    "status": TEXT, "error": (str, type(None)), "uri": TEXT, "streams": NUMBER, "memory_bytes": NUMBER, "touched_bytes": NUMBER,
    "mode": TEXT,
    "time": {"setup_ms": NUMBER, "total_ms": NUMBER, "downtime_ms": NUMBER, "downtime_limit_ms": NUMBER,
             "downtime_expected_ms": NUMBER,
             "downtime_parts_ms": {"pause": NUMBER, "save": NUMBER, "last_round": NUMBER, "state": NUMBER, "handoff": NUMBER}},
    "bytes": {"guest": NUMBER, "wire": NUMBER, "zero": NUMBER, "lz4_in": NUMBER, "lz4_out": NUMBER},
    "throughput_bytes_per_s": NUMBER,
    "rounds": [{"n": NUMBER, "ms": NUMBER, "pages": NUMBER, "dirty_pages": NUMBER, "sync_ms": NUMBER}],
    "cpu": {"source_s": NUMBER, "destination_s": NUMBER},
    "guest": {"gap_ms": NUMBER, "stopped_ms": NUMBER, "pages_written": NUMBER, "throttle_max_percent": NUMBER},
    "big_lock": {"held_us": HIST, "waited_us": HIST, "late_us": HIST},
    "sync": {"ms": HIST},
    "steps_ms": HIST,
    "drain?": {"tries": NUMBER, "busy": NUMBER, "quiesced_ms": NUMBER, "gave_up": NUMBER, "io_gap_ms": HIST},
    "postcopy?": {"faults": NUMBER, "latency_us": HIST, "paused": NUMBER, "recovered": NUMBER},
    "per_stream": [{"node": NUMBER, "bytes": NUMBER, "stalled_ms": NUMBER, "cpu_s": NUMBER}],
    "verify": TEXT, "verify_mismatches": NUMBER,
}
HIST_KEYS = ("count", "min", "mean", "p50", "p90", "p99", "p999", "max")


def mismatches(value, schema=None, at="."):
    """What of a result does not follow the contract, as a list of texts."""
    schema = SCHEMA if schema is None else schema
    if schema == HIST:
        schema = {key: NUMBER for key in HIST_KEYS}
    if isinstance(schema, tuple):
        good = isinstance(value, schema) and not isinstance(value, bool)
        return [] if good else [f"{at} is {value!r}"]
    if isinstance(schema, list):
        if not isinstance(value, list):
            return [f"{at} is no list"]
        return [wrong for i, entry in enumerate(value) for wrong in mismatches(entry, schema[0], f"{at}[{i}]")]
    if not isinstance(value, dict):
        return [f"{at} is no object"]
    found = []
    for key, inner in schema.items():
        name = key.rstrip("?")
        if name in value:
            found += mismatches(value[name], inner, f"{at}{name}" + ("." if isinstance(inner, dict) or inner == HIST else ""))
        elif not key.endswith("?"):
            found.append(f"{at}{name} is missing")
    return found


def sane(checks, result, label):
    """What holds of every end: no hang, no crash, no sanitizer's report, JSON and nothing else on standard output."""
    good = checks.check(not result.hung, f"{label}: hangs", result)
    good &= checks.check(result.rc >= 0, f"{label}: died of signal {-result.rc}", result)
    good &= checks.check(result.rc != 99 and "Sanitizer" not in result.err, f"{label}: a sanitizer's report", result.err[:3000])
    good &= checks.check("Assertion" not in result.err, f"{label}: an assertion failed", result)
    good &= checks.check("-J" not in result.args or not result.json_error, f"{label}: standard output is not JSON: {result.json_error}", result)
    return good


def completed(checks, result, label):
    """The migration came to its good end, verified, and is told as the contract says."""
    if not sane(checks, result, label):
        return False
    if not checks.equal(result.rc, COMPLETED, f"{label}: exit status", result):
        return False
    if not checks.equal(len(result.objects), 1, f"{label}: JSON objects", result):
        return False
    j = result.json
    good = checks.equal(mismatches(j), [], f"{label}: JSON against the contract")
    good &= checks.equal((j.get("status"), j.get("error"), j.get("verify"), j.get("verify_mismatches")),
                         ("completed", None, "ok", 0), f"{label}: status, error, verify, mismatches", result)
    if good:
        good &= checks.equal(len(j["per_stream"]), j["streams"], f"{label}: entries in per_stream")
        good &= checks.equal([r["n"] for r in j["rounds"]], list(range(1, len(j["rounds"]) + 1)), f"{label}: numbers of rounds")
        good &= checks.check(j["time"]["total_ms"] >= j["time"]["setup_ms"] >= 0, f"{label}: times", j["time"])
        good &= checks.check(j["bytes"]["wire"] > 0, f"{label}: bytes on the wire", j["bytes"])
        good &= checks.check(j["guest"]["gap_ms"] > 0, f"{label}: the guest's heartbeats have a gap", j["guest"])
    return good


def kept(checks, result, label, statuses=(FAILED,), within=None, verified=True):
    """The migration did not come about, in good order: one line says what to do, the guest is whole at the source."""
    if not sane(checks, result, label):
        return False
    if not checks.check(result.rc in statuses, f"{label}: exit status {result.rc}, not {statuses}", result):
        return False
    line = result.error_line()
    good = checks.check(len(line) > 20 and line.startswith("migperf: "), f"{label}: no line that says what is wrong", result)
    good &= checks.equal(len([x for x in result.err.splitlines() if x.strip() and not NEWS.match(x)]), 1,
                         f"{label}: lines of error", result)
    if within is not None:
        good &= checks.check(result.seconds <= within * SLOWER, f"{label}: took {result.seconds:.1f} s, not {within}", result)
    if verified and checks.check(result.json is not None, f"{label}: no JSON", result):
        wanted = {FAILED: ("failed",), REFUSED: ("failed",), CANCELLED: ("cancelled",), IN_DOUBT: ("in-doubt",)}.get(result.rc, ())
        good &= checks.check(result.json.get("status") in wanted, f"{label}: status {result.json.get('status')}, not {wanted}", result)
        good &= checks.check(result.json.get("error"), f"{label}: JSON has no error", result)
        if result.rc != IN_DOUBT:
            good &= checks.equal(result.json.get("verify"), "ok", f"{label}: the guest at the source", result)
    return good


def seeded():
    """A generator whose seed is printed; SEED=... replays."""
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"SEED={seed}", flush=True)
    return random.Random(seed)


if not os.access(MIGPERF, os.X_OK):
    sys.exit(f"{MIGPERF} is not there; build it, or say where it is with MIGPERF=...")
