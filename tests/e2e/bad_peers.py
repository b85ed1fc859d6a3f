#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""bad_peers.py: peers that are not there, are something else, talk rubbish, fall silent, are killed or stopped; options that make
no sense. Each gives one line that says what to do, the exit status of the contract, no hang, and the guest whole at the source."""
import contextlib
import os
import shlex
import signal
import socket
import struct
import sys
import tempfile
import threading
import time

from migperf import (COMPLETED, FAILED, IN_DOUBT, REFUSED, SANITIZED, SHORT, USAGE, Checks, Process, Server, completed, free_port, kept, run, sane,
                     seeded, source)

checks = Checks()
rng = seeded()
SMALL = ("-m", "32M", "--dirty-rate", "5M")


# ---------------------------------------------------------------- a source and something that is no sluice


@contextlib.contextmanager
def fake(behave):
    """A TCP server that does `behave(connection)` with each connection, in a thread of its own. Yields its URI."""
    listener = socket.create_server(("127.0.0.1", 0))
    held = []

    def serve(connection):
        with contextlib.suppress(OSError):
            behave(connection)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                held.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"tcp:127.0.0.1:{listener.getsockname()[1]}"
    finally:
        # shutdown() wakes the thread in accept(); close() alone would not.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in held:
            connection.close()


def http(c):
    c.recv(4096)
    c.sendall(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    c.close()


def tls(c):
    c.recv(4096)
    c.sendall(bytes.fromhex("15030300020246"))  # a TLS alert: protocol version
    c.close()


def ssh(c):
    c.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
    time.sleep(20)


def rubbish(c):
    c.sendall(rng.randbytes(100000))
    time.sleep(20)


def endless(c):
    while True:
        c.sendall(rng.randbytes(65536))


def silent(c):
    time.sleep(60)


def reads_only(c):
    while c.recv(65536):
        pass


def closes(c):
    c.close()


def resets(c):
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()


def one_byte(c):
    c.recv(4096)
    c.sendall(b"S")
    c.close()


def echo(c):
    while data := c.recv(65536):
        c.sendall(data)


def no_sluice():
    kept(checks, source(f"tcp:127.0.0.1:{free_port()}", *SMALL), "no server", (REFUSED,), within=8)
    kept(checks, source("unix:/nonexistent/socket", *SMALL), "no socket", (REFUSED,), within=8)
    kept(checks, source("tcp:no-such-host.invalid:4747", "--insecure", *SMALL, timeout=40), "no such host", (REFUSED,), within=20)
    behaviours = (http, silent) if SHORT else (http, tls, ssh, rubbish, endless, silent, reads_only, closes, resets, one_byte, echo)
    for behave in behaviours:
        with fake(behave) as uri:
            result = source(uri, *SMALL)
        kept(checks, result, f"a server that is {behave.__name__}", (REFUSED,), within=10)
        named = {"http": "HTTP", "tls": "TLS"}.get(behave.__name__)
        if named:
            checks.check(named in result.error_line(), f"the error does not say that the server talks {named}", result)
    # A full backlog: the connection is neither accepted nor refused.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = []
        for _ in range(4):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(listener.getsockname())
            fillers.append(s)
        kept(checks, source(f"tcp:127.0.0.1:{listener.getsockname()[1]}", *SMALL), "a server that never accepts", (REFUSED,), within=12)
        for s in fillers:
            s.close()


# ---------------------------------------------------------------- a server and clients that are no sluice


def connect(server):
    s = socket.create_connection(("127.0.0.1", int(server.uri.rsplit(":", 1)[1])), timeout=5)
    return s


def still_serves(server, label):
    completed(checks, source(server.uri, "-m", "16M", timeout=20), f"{label}: the next migration")
    checks.check(server.running(), f"{label}: the server lives")


def rubbish_clients():
    with Server() as server:
        still_serves(server, "before all")
        time.sleep(0.3)  # the session for the next one has all its threads then
        descriptors, threads = server.descriptors(), server.threads()
        for length in (0, 1, 8, 47, 48, 49, 1000, 100000):
            with contextlib.suppress(OSError), connect(server) as s:
                s.sendall(rng.randbytes(length))
                if length > 47:
                    s.settimeout(5)
                    with contextlib.suppress(ConnectionError):
                        checks.check(s.recv(100000) is not None, "unreachable")
        for text in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes.fromhex("1603010200010001fc0303") + rng.randbytes(300), b"\n" * 200,
                     b"\0" * 200, b"\xff" * 4096, b"SLUICE\x1a\n" + rng.randbytes(40), b"SLUICE\x1a\n" + b"\0" * 40):
            with contextlib.suppress(OSError), connect(server) as s:
                s.sendall(text)
                s.settimeout(5)
                with contextlib.suppress(ConnectionError):
                    while s.recv(4096):
                        pass
        still_serves(server, "after rubbish")

        # A half greeting, then silence; a greeting byte by byte. Closed after two seconds, and in nobody's way until then.
        half, slow = connect(server), connect(server)
        half.sendall(b"SLUICE\x1a\n\1\0")
        stop = threading.Event()

        def drip():
            with contextlib.suppress(OSError):
                for byte in b"SLUICE\x1a\n\1\0\1\0" + b"\0" * 36:
                    if stop.wait(0.4):
                        return
                    slow.sendall(bytes([byte]))

        dripper = threading.Thread(target=drip, daemon=True)
        dripper.start()
        still_serves(server, "beside a half greeting and a slow one")
        for s, what in ((half, "a half greeting"), (slow, "a slow greeting")):
            began = time.monotonic()
            s.settimeout(10)
            try:
                ended = s.recv(4096) == b""
            except ConnectionError:
                ended = True
            except TimeoutError:
                ended = False
            checks.check(ended, f"{what} is never closed", f"after {time.monotonic() - began:.1f} s")
            s.close()
        stop.set()
        dripper.join()

        crowd = []
        for _ in range(100 if SHORT else 1000):
            try:
                crowd.append(connect(server))
            except OSError:
                break
        checks.check(len(crowd) >= 100, f"connections made: {len(crowd)}")
        still_serves(server, f"beside {len(crowd)} silent connections")
        for s in crowd:
            s.close()

        deadline = time.monotonic() + 8
        while time.monotonic() < deadline and (server.descriptors() > descriptors or server.threads() > threads):
            time.sleep(0.1)
        checks.check(server.descriptors() <= descriptors, f"descriptors leak: {descriptors} before, {server.descriptors()} after")
        checks.check(server.threads() <= threads, f"threads leak: {threads} before, {server.threads()} after")
        sane(checks, server.stop(), "server after rubbish")


# ---------------------------------------------------------------- both are sluice, one dies or stops

# About three seconds of migration, wherever it runs.
LONG = ("-m", "96M", "-b", "30M", "--dirty-rate", "5M", "--vcpus", "2", "--in-doubt", "500")


def destination_goes():
    for number, name in ((signal.SIGKILL, "killed"), (signal.SIGSTOP, "stopped")):
        for _ in range(1 if SHORT else 4):
            after = rng.uniform(0, 3)
            label = f"destination {name} after {after:.3f} s"
            with Server() as server, Process("-c", server.uri, "-J", *LONG) as client:
                time.sleep(after)
                server.send(number)
                result = client.wait(20)
                left = result.seconds - after
                if result.rc == COMPLETED:  # it was over before
                    completed(checks, result, label)
                    continue
                # In doubt only where GO was on its way: rare, and right.
                kept(checks, result, label, (FAILED, REFUSED, IN_DOUBT))
                checks.check(left < (10 if SANITIZED else 7), f"{label}: noticed after {left:.1f} s", result)


def source_goes():
    with Server("--in-doubt", "500") as server:
        for number, name in ((signal.SIGKILL, "killed"), (signal.SIGSTOP, "stopped")):
            for _ in range(1 if SHORT else 4):
                after = rng.uniform(0, 3)
                label = f"source {name} after {after:.3f} s"
                with Process("-c", server.uri, "-J", *LONG) as client:
                    time.sleep(after)
                    client.send(number)
                    # 3 s until a silent peer is dead, and a little.
                    time.sleep(0.5 if number == signal.SIGKILL else 4.5 * (2 if SANITIZED else 1))
                    still_serves(server, label)
                    if number == signal.SIGSTOP:
                        client.send(signal.SIGCONT)
                        result = client.wait(20)
                        if result.rc == COMPLETED:
                            completed(checks, result, label)
                        else:
                            kept(checks, result, f"{label}, then continued", (FAILED, REFUSED, IN_DOUBT), within=15)
        sane(checks, server.stop(), "server whose sources went")


def busy():
    """A second source while a migration is under way is told so, and does not disturb it."""
    with Server() as server, Process("-c", server.uri, "-J", *LONG) as first:
        checks.check(first.wait_for("migration started"), "the first migration starts", first.stderr())
        result = source(server.uri, *SMALL)
        kept(checks, result, "second source", (REFUSED,), within=8)
        checks.check("under way" in result.error_line(), "second source: the error does not say that another is under way", result)
        completed(checks, first.wait(30), "first source beside a second")


def too_little_memory():
    if SANITIZED:
        checks.skip_part("ulimit -v: sanitizers reserve terabytes")
        return
    limited = ("bash", "-c", 'ulimit -v 600000; exec "$0" "$@"')
    with Server(prefix=limited) as server:
        result = source(server.uri, "-m", "2G", "--touched", "1", timeout=40)
        kept(checks, result, "destination without the memory", (REFUSED,), within=15)
        checks.check("memory" in result.error_line().lower(), "the error does not name memory", result)
        still_serves(server, "after a guest that was too big")
    with Server() as server:
        result = source(server.uri, "-m", "16M", "--backing", "hugetlb:1G", timeout=20)
        checks.check(result.rc in (FAILED, USAGE, REFUSED), "hugetlb:1G where there is none: exit status", result)
        sane(checks, result, "hugetlb:1G where there is none")


# ---------------------------------------------------------------- options

ABSURD = """
-m 0|-m -1|-m abc|-m 1|-m 4097|-m 99999999T|-m 1Q|-m|-m 1e9|-m 0x|-m " "
-P 0|-P 65|-P -1|-P 4294967297|-P four|--streams 0|--streams 1000000
--vcpus 0|--vcpus -1|--vcpus 1000000|--downtime -5|--downtime abc|--downtime 99999999999999999999
--touched 101|--touched -1|--touched x|--backing cheese|--backing hugetlb:3M|--fill water|--pattern plaid|--mode time-travel
--compress zip|-b -1|-b 1X|--dirty-rate -1|--dirty-rate 1X|--wss -4K|--wss 1X|-i -1|-i x|--timeout -1|--timeout x
--tracker fox|--io-engine steam|--cpus 99999|--cpus x-y|--cpus 3-1|--verify maybe|--numa perhaps|--guest ghost|-n 0|-n -1
--no-such-option|stray other|--downtime=|--memory=""
"""
BAD_URIS = ("tcp:127.0.0.1:99999", "tcp:127.0.0.1:-1", "tcp:127.0.0.1:http", "tcp:[::1:4747", "unix:", "unix:" + "x" * 200, "fd:",
            "fd:-1", "fd:999", "carrier-pigeon:coop", "127.0.0.1:4747:4747", "", "rdma:127.0.0.1:4747")


def usage(args, statuses=(USAGE,)):
    label = "migperf " + " ".join(args)
    result = run(*args, timeout=10)
    if not sane(checks, result, label):
        return
    checks.check(result.rc in statuses, f"{label}: exit status {result.rc}, not {statuses}", result)
    checks.check(len(result.error_line()) > 15, f"{label}: no line that says what is wrong", result)
    checks.check(len(result.err.strip().splitlines()) <= 2, f"{label}: more than a line and a hint", result)


def absurd_options():
    cases = [shlex.split(case) for line in ABSURD.strip().splitlines() for case in line.split("|")]
    for case in cases[::8] if SHORT else cases:
        usage(["--loopback", *case])
    for uri in BAD_URIS:
        usage(["-c", uri, "-m", "16M"], (USAGE, REFUSED))
        usage(["-s", uri, "-1"], (USAGE, REFUSED))
    usage([])
    usage(["-s", "-c", "tcp:127.0.0.1:1"])
    usage(["-c"])
    usage(["--loopback", "-s"])
    # Not absurd, but not to be had: no crash, no hang, one line.
    result = run("--loopback", "-m", "100T", "--touched", "0", "-J", timeout=20)
    sane(checks, result, "-m 100T")
    if result.rc != COMPLETED:
        checks.check(result.rc in (FAILED, USAGE, REFUSED) and len(result.error_line()) > 20, "-m 100T", result)
    # An address in use.
    with Server() as server:
        usage(["-s", server.uri, "-1"], (USAGE, REFUSED, FAILED))
    # A socket's path that is something else is not removed.
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/precious"
        with open(path, "w") as file:
            file.write("data")
        usage(["-s", f"unix:{path}", "-1"], (USAGE, REFUSED, FAILED))
        checks.check(os.path.isfile(path) and os.path.getsize(path) == 4, "listening on a file's path destroys the file")


def advised():
    """What is wrong with a place to listen at, or is lacking, is said with what to do about it."""
    def says(args, status, *words, prefix=()):
        result = run(*args, timeout=15, prefix=prefix)
        label = " ".join([*prefix, *args])
        if sane(checks, result, label):
            checks.equal(result.rc, status, f"{label}: exit status", result)
            for word in words:
                checks.check(word in result.error_line(), f"{label}: the error does not say {word!r}", result)

    with tempfile.TemporaryDirectory() as directory:
        says(["-s", "fd:999", "-1"], USAGE, "fd:999", "no such descriptor is open")
        says(["-s", "fd:9", "-1"], USAGE, "no socket", prefix=("bash", "-c", 'exec "$0" "$@" 9< /dev/null'))
        says(["-s", f"unix:{directory}/none/socket", "-1"], REFUSED, "no such directory: make it")
        says(["-s", f"unix:{__file__}/socket", "-1"], REFUSED, "part of the path is a file")
        says(["-s", "unix:" + "x" * 200, "-1"], USAGE, "at most 107", "shorter")
        says(["-c", f"unix:{directory}/nobody", "-m", "4M"], REFUSED, "nobody listens")
        if os.getuid():  # root may write anywhere
            os.chmod(directory, 0o500)
            says(["-s", f"unix:{directory}/socket", "-1"], REFUSED, "may not write there")
            os.chmod(directory, 0o700)
    opened = "import os, socket, sys; s = socket.socket(); os.dup2(s.fileno(), 9); os.execv(sys.argv[1], sys.argv[1:])"
    says(["-s", "fd:9", "-1"], USAGE, "listen(2)", prefix=(sys.executable, "-c", opened))
    with Server() as server:
        few = ("bash", "-c", 'ulimit -n 24; exec "$0" "$@"')
        says(["-c", server.uri, "-m", "4M", "-P", "32"], FAILED, "Too many open files", "ulimit -n", prefix=few)
        still_serves(server, "after a source without descriptors")
        sane(checks, server.stop(), "server of a source without descriptors")


no_sluice()
rubbish_clients()
busy()
destination_goes()
source_goes()
too_little_memory()
absurd_options()
advised()
checks.done()
