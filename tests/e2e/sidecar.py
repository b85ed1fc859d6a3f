#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""sidecar.py: the example of a migration outside the VMM: a guest arrives whole, its VMM's device included; sidecars are killed while
the guest runs and while it stands still for them, and it runs on, is migrated by the next one, and once another may run it, stays stopped.

sidecar.py VMM SIDECAR: the two programs of docs/example/."""
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

VMM, SIDECAR = sys.argv[1:3]
PATIENCE_S = 60
PAUSE, RELEASE, RESUME = 4, 6, 8  # sidecar.h
ASK = struct.Struct("=IiQQ")

failed = 0


def check(good, what):
    global failed
    if not good:
        failed += 1
        print(f"FAILED: {what}", flush=True)


class Program:
    def __init__(self, *args):
        self.name = " ".join(map(str, args))
        self.process = subprocess.Popen(list(map(str, args)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.seen = b""

    def line(self, beginning):
        """Wait for a line of its output; what came before it is dropped."""
        until = time.monotonic() + PATIENCE_S
        while True:
            *lines, self.seen = self.seen.split(b"\n")
            for i, text in enumerate(lines):
                if text.startswith(beginning.encode()):
                    self.seen = b"\n".join(lines[i + 1:] + [self.seen])
                    return text.decode()
            if not select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))[0]:
                break
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                break
            self.seen += more
        check(False, f"{self.name}: did not say \"{beginning}\"")
        return ""

    def quiet(self, seconds):
        return not select.select([self.process.stdout], [], [], seconds)[0]

    def ends(self, status):
        try:
            got = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            got = "nothing: it hangs"
        check(got == status, f"{self.name}: exit status {got}, not {status}")

    def kill(self):
        self.process.kill()
        self.process.wait()


def ask(at, *ops):
    """Be a sidecar that says these and is gone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as log:
        s.settimeout(PATIENCE_S)
        s.connect(at)
        log.connect(at)
        for op in ops:
            s.send(ASK.pack(op, 0, 0, 0))
            answer = s.recv(4096)
            check(ASK.unpack_from(answer)[:2] == (op, 0), f"the VMM's answer to {op}: {answer[:24]}")


def destination(at):
    vmm = Program(VMM, at)
    vmm.line("ready")
    sidecar = Program(SIDECAR, at)
    return vmm, sidecar, sidecar.line("tcp:")


try:
    os.close(os.open("/dev/kvm", os.O_RDWR))
except OSError as error:
    print(f"skipped: no KVM here: /dev/kvm: {error.strerror}", flush=True)
    sys.exit(77)

with tempfile.TemporaryDirectory() as folder:
    here, there = f"{folder}/here", f"{folder}/there"
    vmm = Program(VMM, here, "guest")
    vmm.line("ready")
    # Killed while the guest runs, and while it stands still; and one that hangs then, which its VMM ends.
    for how, phase, number in ((("200000",), "active", signal.SIGKILL), (("0", "hold"), "pre-switchover", signal.SIGKILL),
                               (("0", "hold"), "pre-switchover", signal.SIGSTOP)):
        arriving, receiver, uri = destination(there)
        sidecar = Program(SIDECAR, here, uri, *how)
        sidecar.line(phase)
        sidecar.process.send_signal(number)
        sidecar.ends(-signal.SIGKILL)
        vmm.line("the sidecar is gone, the guest runs on")
        receiver.ends(1)
        arriving.ends(3)
        os.unlink(there)
    # The next one migrates it.
    arriving, receiver, uri = destination(there)
    sidecar = Program(SIDECAR, here, uri)
    sidecar.line("completed")
    sidecar.ends(0)
    receiver.ends(0)
    vmm.ends(0)
    said = arriving.line("arrived: ")
    check(said.endswith(" 0 wrong pages"), f"the destination: {said}")
    arriving.ends(0)
    print(said, flush=True)
    os.unlink(here)
    # Once the other side may run the guest, nothing but a word runs it here.
    vmm = Program(VMM, here, "guest")
    vmm.line("ready")
    ask(here, PAUSE, RELEASE)
    vmm.line("in doubt")
    check(vmm.quiet(1), "in doubt, the VMM does something by itself")
    ask(here, RESUME)
    vmm.line("the sidecar is gone, the guest runs on")
    vmm.kill()
print(f"{'FAILED' if failed else 'ok'}: {failed} checks failed", flush=True)
sys.exit(1 if failed else 0)
