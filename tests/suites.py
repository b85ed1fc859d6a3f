# SPDX-License-Identifier: LGPL-2.1-or-later
"""suites.py: the second half of tests/run: build each configuration, run its suites, say how each went.

meson runs the tests and enforces their time limits; this reads its log as it grows, because meson itself prints neither why
a test was skipped nor what a failed one said last."""
import json
import os
import subprocess
import sys
import time

# name: (compiler, meson arguments, how much slower tests may be). Both compilers build everything once.
BUILDS = {
    "release": ("gcc", ["--buildtype=release"], 1),
    "asan": ("gcc", ["--buildtype=debugoptimized", "-Db_sanitize=address,undefined"], 2),
    # b_lundef: clang links the sanitizer's symbols into programs only, not into a shared library.
    "tsan": ("clang", ["--buildtype=debugoptimized", "-Db_sanitize=thread", "-Db_lundef=false"], 3),
}
LOGS = "build/logs"
TAIL_LINES = 25
STARTED = time.monotonic()
BUDGET_S = float(os.environ.get("SLUICE_BUDGET_S", "1800"))


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def line(self, verdict, label, seconds, remark=""):
        print(f"{verdict:<5} {label:<34} {seconds:6.1f} s{'  ' + remark if remark else ''}", flush=True)

    def ok(self, label, seconds, remark=""):
        self.passed += 1
        self.line("ok", label, seconds, remark)

    def fail(self, label, seconds, remark, log):
        self.failed += 1
        self.line("FAIL", label, seconds, remark)
        lines = log.rstrip().splitlines()
        if len(lines) > TAIL_LINES:
            print(f"      | ... {len(lines) - TAIL_LINES} lines more in {LOGS}/{label.replace('/', '-')}.log")
        for line in lines[-TAIL_LINES:]:
            print(f"      | {line}", flush=True)

    def skip(self, label, seconds, reason):
        self.skipped += 1
        self.line("skip", label, seconds, reason)


def left_s():
    return BUDGET_S - (time.monotonic() - STARTED)


def logged(command, log, **env):
    """Run a command with its output in a log; True if it succeeded."""
    with open(log, "w") as out:
        return subprocess.call(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **env}) == 0


def configure(name):
    compiler, arguments, _ = BUILDS[name]
    directory = f"build/{name}"
    arguments = arguments + ["-Dwerror=true", "-Dtests=enabled"]
    log = f"{LOGS}/{name}-configure.log"
    if not os.path.exists(f"{directory}/build.ninja"):
        return logged(["meson", "setup", directory] + arguments, log, CC=compiler)
    # Then what changed in meson.build, or the list of tests below would be yesterday's.
    return logged(["meson", "configure", directory] + arguments, log) and logged(["ninja", "-C", directory, "build.ninja"], log)


def registered(name):
    """The tests of a build: its name for meson, "suite-name", -> our label, "build/suite/name"."""
    out = subprocess.check_output(["meson", "introspect", "--tests", f"build/{name}"], text=True)
    return {test["name"]: f"{name}/{test['name'].replace('-', '/', 1)}" for test in json.loads(out)}


def reasons(text):
    return "; ".join(line[len("skipped: "):] for line in text.splitlines() if line.startswith("skipped: "))


def report(tally, label, entry):
    text = entry.get("stdout", "") + entry.get("stderr", "")
    with open(f"{LOGS}/{label.replace('/', '-')}.log", "w") as out:
        out.write(f"# {' '.join(entry['command'])}\n{text}\n# {entry['result']}, status {entry['returncode']}\n")
    seconds, result, why = entry["duration"], entry["result"], reasons(text)
    if result == "OK":
        tally.ok(label, seconds, f"(skipped within: {why})" if why else "")
    elif result == "SKIP" and why:
        tally.skip(label, seconds, why)
    else:
        remark = {"TIMEOUT": "out of its time budget", "SKIP": "skipped without a reason"}.get(result, f"status {entry['returncode']}")
        tally.fail(label, seconds, remark, text)


def run(tally, name, tests):
    """Run `tests` (meson name -> label) of a build."""
    _, _, slower = BUILDS[name]
    directory = f"build/{name}"
    log = f"{directory}/meson-logs/testlog.json"
    if os.path.exists(log):
        os.unlink(log)
    # One more than there are cores: some tests mostly wait.
    command = ["meson", "test", "-C", directory, "--no-rebuild", f"--timeout-multiplier={slower}", f"--num-processes={os.cpu_count() + 1}"]
    command += list(tests)
    with open(f"{LOGS}/{name}-meson.log", "w") as out:
        meson = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    waiting, at, ended = dict(tests), 0, False
    try:
        while True:
            ended = meson.poll() is not None
            if os.path.exists(log):
                with open(log) as lines:
                    lines.seek(at)
                    for line in iter(lines.readline, ""):
                        if not line.endswith("\n"):
                            break
                        at += len(line.encode())
                        entry = json.loads(line)
                        test = entry["name"].split(" / ")[-1]
                        if test in waiting:
                            report(tally, waiting.pop(test), entry)
            if ended:
                break
            if left_s() < 0:
                break
            time.sleep(0.2)
    finally:
        if not ended:
            meson.terminate()
            try:
                meson.wait(20)
            except subprocess.TimeoutExpired:
                meson.kill()
    for label in waiting.values():
        why = "not run" if ended else "no time left for it"
        tally.fail(label, 0, why, open(f"{LOGS}/{name}-meson.log").read() if ended else "")


def main():
    words = sys.argv[1:]
    listing = "--list" in words
    words = [word for word in words if word != "--list"]
    tally, matched = Tally(), False
    for name in BUILDS:
        began = time.monotonic()
        label = f"{name}/build"
        if not configure(name):
            tally.fail(label, time.monotonic() - began, "cannot configure", open(f"{LOGS}/{name}-configure.log").read())
            continue
        tests = registered(name)
        wanted = {test: of for test, of in tests.items() if wants(words, of)}
        if listing:
            print("\n".join(wanted.values()))
        if not wanted or listing:
            continue
        matched = True
        if not logged(["ninja", "-C", f"build/{name}"], f"{LOGS}/{name}-build.log"):
            tally.fail(label, time.monotonic() - began, "does not build", open(f"{LOGS}/{name}-build.log").read())
            continue
        tally.ok(label, time.monotonic() - began)
        run(tally, name, wanted)
    if listing:
        return 0
    if words and not matched and not tally.failed:
        print(f"tests/run: nothing matches {' '.join(words)}; tests/run --list says what there is", file=sys.stderr)
        return 2
    print(f"{tally.passed} passed, {tally.failed} failed" + (f", {tally.skipped} skipped" if tally.skipped else ""))
    return 1 if tally.failed else 0


def wants(words, label):
    """Words that name builds choose among builds, the others among suites."""
    builds = [word for word in words if word in BUILDS]
    others = [word for word in words if word not in BUILDS]
    return (not builds or label.split("/")[0] in builds) and (not others or any(word in label for word in others))


if __name__ == "__main__":
    sys.exit(main())
