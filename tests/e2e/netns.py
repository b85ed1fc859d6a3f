#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""netns.py: two hosts on one machine: network namespaces joined by a veth pair, plain and with a shaped link."""
import contextlib
import os
import shutil
import subprocess
import sys
import time

import migperf
from migperf import REFUSED, USAGE, Checks, Process, Server, completed, kept, run, sane, skip

PORT = 4747
NAMES = {side: f"sluice-{os.getpid()}-{side}" for side in "ab"}
ADDRESSES = {"a": "192.0.2.1", "b": "192.0.2.2"}
# Interface names hold 15 characters.
LINKS = {side: f"sl{os.getpid() % 10000000}{side}" for side in "ab"}


def sh(*words):
    subprocess.run(words, check=True, capture_output=True, text=True)


def inside(side):
    return ("ip", "netns", "exec", NAMES[side])


@contextlib.contextmanager
def two_hosts():
    try:
        for name in NAMES.values():
            sh("ip", "netns", "add", name)
        sh("ip", "link", "add", LINKS["a"], "netns", NAMES["a"], "type", "veth", "peer", "name", LINKS["b"], "netns", NAMES["b"])
        for side in "ab":
            sh(*inside(side), "ip", "address", "add", f"{ADDRESSES[side]}/24", "dev", LINKS[side])
            sh(*inside(side), "ip", "link", "set", LINKS[side], "up")
            sh(*inside(side), "ip", "link", "set", "lo", "up")
        yield
    finally:
        for name in NAMES.values():
            subprocess.run(("ip", "netns", "delete", name), capture_output=True, check=False)


def become_root():
    """Without root, a user namespace gives a root of our own; /run needs to be ours for `ip netns`."""
    if os.geteuid() == 0 or os.environ.get("SLUICE_NETNS_AGAIN"):
        return
    command = ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c",
               'mount -t tmpfs none /run && exec "$@"', "sh", sys.executable, *sys.argv]
    probe = subprocess.run(command[:-len(sys.argv) - 1] + ["true"], capture_output=True, text=True)
    if probe.returncode:
        skip(f"no root, and no user namespace: {probe.stderr.strip()}")
    os.environ["SLUICE_NETNS_AGAIN"] = "1"
    os.execvp(command[0], command)


def migrate(*args, timeout=60):
    return run("-c", f"tcp:{ADDRESSES['b']}:{PORT}", "-J", *args, prefix=inside("a"), timeout=timeout)


def main():
    if not shutil.which("ip") or not shutil.which("unshare"):
        skip("no iproute2 or util-linux here")
    become_root()
    checks = Checks()
    try:
        hosts = two_hosts()
        hosts.__enter__()
    except (subprocess.CalledProcessError, OSError) as error:
        skip(f"no network namespaces here: {getattr(error, 'stderr', None) or error}")
    try:
        secure = f"tcp:{ADDRESSES['b']}:{PORT}"
        # Plain text beyond loopback only by name, on either side.
        result = run("-s", secure, "-1", prefix=inside("b"), timeout=10)
        sane(checks, result, "-s without --insecure")
        checks.check(result.rc in (USAGE, REFUSED) and "--insecure" in result.error_line(), "-s without --insecure", result)
        with Server("--insecure", uri=secure, prefix=inside("b")) as server:
            result = migrate("-m", "16M", timeout=10)
            sane(checks, result, "-c without --insecure")
            checks.check(result.rc in (USAGE, REFUSED) and "--insecure" in result.error_line(), "-c without --insecure", result)

            completed(checks, migrate("-m", "256M", "--dirty-rate", "50M", "--insecure"), "over veth")
            completed(checks, migrate("-m", "64M", "--dirty-rate", "10M", "-P", "16", "--io-engine", "plain", "--insecure"), "over veth, plain")

            # 200 Mbit/s: the wire is the limit; it is filled, and lz4 makes more of it.
            try:
                sh(*inside("a"), "tc", "qdisc", "add", "dev", LINKS["a"], "root", "tbf", "rate", "200mbit", "burst", "128k", "latency", "50ms")
            except (subprocess.CalledProcessError, OSError) as error:
                checks.skip_part(f"no tc tbf here: {getattr(error, 'stderr', '') or error}")
            else:
                shaped(checks)
            sane(checks, server.stop(), "server")
        cut(checks, secure)
    finally:
        hosts.__exit__(None, None, None)
    checks.done()


def shaped(checks):
    limit = 200e6 / 8
    result = migrate("-m", "64M", "--insecure")
    if completed(checks, result, "200 Mbit/s, random"):
        j = result.json
        rate = j["bytes"]["wire"] / (j["time"]["total_ms"] - j["time"]["setup_ms"]) * 1e3
        checks.check(0.75 * limit < rate < 1.1 * limit, "200 Mbit/s are used", f"{rate / limit:.2f} of it")
    result = migrate("-m", "64M", "--fill", "text", "--compress", "auto", "--insecure")
    if completed(checks, result, "200 Mbit/s, text"):
        checks.check(result.json["bytes"]["wire"] < 48 << 20, "auto does not compress on a slow wire", result.json["bytes"])
    # Dirtied at 60 % of what the wire carries: converges, and within the limit.
    result = migrate("-m", "64M", "--dirty-rate", "14M", "--wss", "32M", "--compress", "none", "--downtime", "500", "--insecure")
    if completed(checks, result, "200 Mbit/s, written at 60 %"):
        checks.check(result.json["guest"]["gap_ms"] <= 500, "downtime over its limit", result.json["time"])


def cut(checks, uri):
    """The wire is cut: no packet comes, nobody says so. Both ends notice by themselves in 3 s."""
    with Server("--insecure", uri=uri, prefix=inside("b")) as server:
        with Process("-c", uri, "-J", "-m", "256M", "-b", "40M", "--insecure", prefix=inside("a")) as client:
            checks.check(client.wait_for("migration started"), "migration starts", client.stderr())
            time.sleep(1)
            sh(*inside("b"), "ip", "link", "set", LINKS["b"], "down")
            began = time.monotonic()
            result = client.wait(15)
            took = time.monotonic() - began
            kept(checks, result, "wire cut")
            checks.check(2 < took < 7 * migperf.SLOWER, f"wire cut: noticed after {took:.1f} s")
        sh(*inside("b"), "ip", "link", "set", LINKS["b"], "up")
        time.sleep(1)
        completed(checks, migrate("-m", "16M", "--insecure"), "after the cut")
        sane(checks, server.stop(), "server after the cut")


main()
