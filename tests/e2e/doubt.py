#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""doubt.py: who is in doubt is told what to look at and where, and an operator ends the doubt either way at either side, of real processes."""
import os
import re
import signal
import sys

sys.argv[1:] = [word for word in sys.argv[1:] if word == "--short"]
from handoff import REFUSE, RST, Plan, Proxy, in_loop, never_both, ran  # noqa: E402
from migperf import COMPLETED, FAILED, IN_DOUBT, Checks, Process, Server, sane  # noqa: E402

checks = Checks()
PATIENCE = ("--dead-peer", 20000, "--in-doubt", 120000)  # nothing here ends by a clock


def cut(frame, at):
    """A plan: both connections end at that byte, and no other gets through."""
    plan = Plan(0)
    plan.frame, plan.at, plan.action, plan.after = frame, at, RST, REFUSE
    plan.all_connections, plan.all_late, plan.stops, plan.first_cut, plan.delay_s = True, False, False, None, 0
    return plan


def advised(process, where, label):
    """It says that it is in doubt, where to look, and the command that runs the guest here. The process that it names."""
    if not checks.check(process.wait_for(r"migration in doubt: .*\n", timeout=60), f"{label}: is in doubt, and says so", process.stderr()):
        return 0
    line = re.search(r"migration in doubt: .*\n", process.stderr())[0]
    checks.check(where in line, f"{label}: does not say where to look: {where}", line)
    said = {name: int(pid) for name, pid in re.findall(r"kill -(INT|USR2) (\d+)", line)}
    checks.equal(said, {"INT": process.pid, "USR2": process.pid}, f"{label}: names the signals and the process", line)
    return said.get("USR2", 0)


def resolved(label, plan, resolve, source_ends, destination_ends, runs):
    """Cut; `resolve(client, server)`; then how both ended, and which side ran the guest last, whole."""
    with Server("-1", *PATIENCE) as server:
        proxy = Proxy(int(server.uri.rsplit(":", 1)[1]), plan)
        in_loop(proxy.open())
        try:
            with Process("-c", proxy.uri, "-J", "-m", "8M", "--dirty-rate", "1M", *PATIENCE) as client:
                resolve(client, server, proxy)
                source = client.wait(60)
            destination = server.wait(60)
        finally:
            in_loop(proxy.close())
    checks.check(not source.hung and not destination.hung, f"{label}: does not end", (str(source), str(destination)))
    checks.equal((source.rc, destination.rc), (source_ends, destination_ends), f"{label}: exit status", (str(source), str(destination)))
    never_both(source, destination, label)
    if runs == "source":
        sane(checks, source, f"{label}: source")
        checks.equal(len(ran(source)), 2, f"{label}: the source runs its guest again", source)
        checks.check(not ran(destination), f"{label}: the destination did not run it", destination)
        checks.equal((source.json or {}).get("verify"), "ok", f"{label}: it is whole", source)
    if runs == "destination":
        sane(checks, destination, f"{label}: destination")
        checks.check(ran(destination), f"{label}: the destination runs the guest", destination)
        checks.equal((destination.json or {}).get("verify"), "ok", f"{label}: it is whole", destination)


def both(client, server, proxy):
    advised(client, proxy.uri, "source")
    advised(server, f"process {client.pid} of host", "destination")


def run_at_source(client, server, proxy):
    both(client, server, proxy)
    os.kill(server.pid, signal.SIGINT)
    server.process.wait(60)
    os.kill(client.pid, signal.SIGUSR2)


def run_at_destination_after(number):
    def acts(client, server, proxy):
        both(client, server, proxy)
        os.kill(client.pid, number)
        client.process.wait(60)
        os.kill(server.pid, signal.SIGUSR2)

    return acts


def discard_at_source(client, server, proxy):
    advised(client, proxy.uri, "source")
    os.kill(client.pid, signal.SIGINT)


def discard_at_destination(client, server, proxy):
    advised(server, f"process {client.pid} of host", "destination")
    os.kill(server.pid, signal.SIGINT)


# GO does not get through: both are in doubt, and the word goes either way.
resolved("run at the source", cut("GO", 0), run_at_source, FAILED, IN_DOUBT, "source")
resolved("the source is gone", cut("GO", 0), run_at_destination_after(signal.SIGKILL), -signal.SIGKILL, COMPLETED, "destination")
resolved("run at the destination", cut("GO", 0), run_at_destination_after(signal.SIGINT), IN_DOUBT, COMPLETED, "destination")
# One knows, and the other is told to let go.
resolved("discard at the source", cut("RUNNING", 0), discard_at_source, IN_DOUBT, COMPLETED, "destination")
resolved("discard at the destination", cut("READY", 0), discard_at_destination, FAILED, IN_DOUBT, "source")

# Where nobody is in doubt the word does nothing.
with Server("-1") as server, Process("-c", server.uri, "-J", "-m", "64M", "-b", "30M") as client:
    checks.check(client.wait_for("migration started", 60), "started", client.stderr())
    for process in (client, server):
        os.kill(process.pid, signal.SIGUSR2)
        checks.check(process.wait_for("SIGUSR2 is for a migration in doubt, and this one is not", 60), "says that it does nothing", process.stderr())
    checks.equal((client.wait(60).rc, server.wait(60).rc), (COMPLETED, COMPLETED), "and it does nothing")
checks.done()
