#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""bad_kvm.py: no KVM, no permission to use it, not enough of it: one line says what to do, at the source before anything is begun, at
the destination with the guest whole and running at the source."""
import os

from migperf import FAILED, REFUSED, Checks, Server, completed, kept, run, sane, skip, source

if os.geteuid():
    skip("only root can take /dev/kvm away from a process")
checks = Checks()

HIDDEN = ("unshare", "-m", "bash", "-c",
          'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9 && exec "$0" "$@"')
CLOSED = ("unshare", "-m", "bash", "-c",
          'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9 && mknod -m 600 /dev/kvm c 10 232 && '
          'exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0" "$@"')
FEW = ("prlimit", "--nofile=40")
GUEST = ("--guest", "kvm", "-m", "16M", "--vcpus", "32", "--dirty-rate", "4M")


def works(prefix):
    return run("--version", prefix=prefix).rc == 0


# ("what", how, what the error says, whether it takes a KVM here to see it)
cases = [("no /dev/kvm", HIDDEN, ("/dev/kvm", "No such file", "load KVM's module", "--guest process"), False),
         ("no permission", CLOSED, ("/dev/kvm", "Permission denied", "group"), False),
         ("fewer vCPUs", FEW, ("vCPU", "--vcpus"), True)]
here = os.access("/dev/kvm", os.R_OK | os.W_OK)
for label, prefix, words, takes_kvm in cases:
    if (takes_kvm and not here) or not works(prefix):
        checks.skip_part(f"{label}: {' '.join(prefix[:2])} does not work here")
        continue
    # The source: nothing is begun.
    if not takes_kvm:
        result = run("-c", "tcp:127.0.0.1:1", "-J", *GUEST, prefix=prefix)
        sane(checks, result, f"{label}, source")
        checks.equal(result.rc, FAILED, f"{label}, source: exit status", result)
        for word in words:
            checks.check(word in result.error_line(), f"{label}, source: the error does not say \"{word}\"", result)
    # The destination: it refuses, the guest runs on at the source, and the destination serves the next.
    if not here:
        continue
    with Server(prefix=prefix) as server:
        result = source(server.uri, *GUEST)
        if kept(checks, result, f"{label}, destination", (REFUSED,)):
            for word in words:
                checks.check(word in result.error_line(), f"{label}, destination: the error does not say \"{word}\"", result)
            checks.check(result.json["guest"]["run_on_pages_per_s"] > 0, f"{label}, destination: the guest stands still", result)
        completed(checks, source(server.uri, "-m", "8M"), f"{label}: a guest that needs no KVM")
        sane(checks, server.stop(), f"{label}: server")
checks.done()
