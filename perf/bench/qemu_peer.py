#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measure QEMU's own live migration on this machine, so that a ratio can be taken in the same run.

  qemu_peer.py saturate --mem 4096 --channels 4 [--prealloc]   paused guest, random RAM (a shared file)
  qemu_peer.py sparse   --mem 65536 --channels 4               paused guest that never touched its RAM
  qemu_peer.py dirty    --mem 1024 --channels 2 --wss 256      KVM guest dirtying WSS MiB as fast as it can
  qemu_peer.py postcopy --mem 1024 --wss 256 --bandwidth 100   the same guest, postcopy after 0.3 s

Needs qemu-system-x86 (Debian package); $QEMU names another binary. Prints one JSON object.
Figures: GB are 1e9 bytes; cpu is user+system of each QEMU process while migrating.
"""
import argparse, json, os, shutil, socket, subprocess, sys, tempfile, time

BOOT = r"""
.code16
.globl _start
_start: cli
 xorw %ax,%ax
 movw %ax,%ds
 inb $0x92,%al
 orb $2,%al
 outb %al,$0x92
 lgdt gdtr
 movl %cr0,%eax
 orl $1,%eax
 movl %eax,%cr0
 ljmp $8,$pm
.code32
pm: movw $16,%ax
 movw %ax,%ds
 movw %ax,%es
 movw %ax,%ss
 xorl %edx,%edx
outer: incl %edx
 movl %edx,0x9000
 movl $0x1000000,%edi
 movl $SPANP,%ecx
one: movl %edx,(%edi)
 addl $4096,%edi
 decl %ecx
 jnz one
 jmp outer
.align 8
gdt: .quad 0
 .quad 0x00cf9a000000ffff
 .quad 0x00cf92000000ffff
gdtr: .word 23
 .long gdt
.org 510
.word 0xaa55
"""


class Qmp:
    def __init__(self, path):
        for _ in range(400):
            try:
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.connect(path)
                break
            except OSError:
                time.sleep(0.05)
        self.file = self.sock.makefile("rw")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            reply = json.loads(self.file.readline())
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                raise RuntimeError(f"{command}: {reply['error']}")


def cpu_seconds(process):
    fields = open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentiles(values):
    values = sorted(values)
    at = lambda q: values[min(len(values) - 1, int(len(values) * q))]
    return {"count": len(values), "p50": at(0.5), "p99": at(0.99), "max": values[-1]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["saturate", "sparse", "dirty", "postcopy"])
    parser.add_argument("--mem", type=int, default=4096, help="MiB")
    parser.add_argument("--channels", type=int, default=4, help="multifd channels, 0: none")
    parser.add_argument("--wss", type=int, default=256, help="MiB dirtied over and over")
    parser.add_argument("--downtime", type=int, default=300, help="ms")
    parser.add_argument("--bandwidth", type=int, default=1 << 20, help="MiB/s")
    parser.add_argument("--prealloc", action="store_true")
    parser.add_argument("--zero-copy", action="store_true")
    parser.add_argument("--port", type=int, default=4448)
    o = parser.parse_args()
    qemu = os.environ.get("QEMU", "qemu-system-x86_64").split()
    tmp = tempfile.mkdtemp()
    real = o.what in ("dirty", "postcopy")
    boot = f"{tmp}/boot.bin"
    if real:
        open(f"{tmp}/b.S", "w").write(BOOT)
        subprocess.check_call(["as", "--32", "--defsym", f"SPANP={o.wss << 8}", f"{tmp}/b.S", "-o", f"{tmp}/b.o"])
        subprocess.check_call(["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", f"{tmp}/b.o", "-o", boot])
    ram = {"source": f"/dev/shm/sluice-peer-{os.getpid()}-s", "destination": f"/dev/shm/sluice-peer-{os.getpid()}-d"}
    if o.what == "saturate":
        with open(ram["source"], "wb") as f:
            for _ in range(o.mem // 64):
                f.write(os.urandom(64 << 20))
            f.truncate(o.mem << 20)

    def start(name, extra):
        memory = {
            "saturate": f"memory-backend-file,id=ram,mem-path={ram[name]},size={o.mem}M,share=on,prealloc={'on' if o.prealloc else 'off'}",
            "sparse": f"memory-backend-ram,id=ram,size={o.mem}M,reserve=off",
        }.get(o.what, f"memory-backend-ram,id=ram,size={o.mem}M")
        args = qemu + ["-accel", "kvm" if real else "tcg", "-machine", "pc,memory-backend=ram", "-object", memory,
                       "-m", str(o.mem), "-nographic", "-nodefaults", "-qmp", f"unix:{tmp}/{name},server=on,wait=off"] + extra
        if real:
            args += ["-drive", f"file={boot},format=raw,if=ide,file.locking=off"]
        else:
            args += ["-S"]
        process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return process, Qmp(f"{tmp}/{name}")

    sp, s = start("source", [])
    dp, d = start("destination", ["-incoming", "defer"])
    capabilities = ["events"] + (["multifd"] if o.channels and o.what != "postcopy" else [])
    if o.what == "postcopy":
        capabilities += ["postcopy-ram", "postcopy-preempt"]
        try:
            d("migrate-set-capabilities", capabilities=[{"capability": "postcopy-blocktime", "state": True}])
        except RuntimeError:
            pass
    for q in (s, d):
        q("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in capabilities])
        p = {"max_bandwidth": o.bandwidth << 20, "downtime_limit": o.downtime}
        if o.channels:
            p["multifd_channels"] = o.channels
        q("migrate-set-parameters", **p)
    if o.zero_copy:
        s("migrate-set-capabilities", capabilities=[{"capability": "zero-copy-send", "state": True}])
    d("migrate-incoming", uri=f"tcp:127.0.0.1:{o.port}")

    def passes(q):  # the guest counts its passes over the working set at 0x9000
        if not real:
            return 0
        q("pmemsave", val=0x9000, size=4, filename=f"{tmp}/count")
        return int.from_bytes(open(f"{tmp}/count", "rb").read(), "little")

    # Its firmware takes some seconds, where KVM emulates many; and it is to have touched its working set.
    booted = time.time()
    while real and passes(s) < 3:
        if time.time() - booted > 60:
            sys.exit("the guest does not run: no pass over its working set in 60 s")
        time.sleep(0.1)
    before_s = 1.0
    first = passes(s), time.time()
    time.sleep(before_s if real else 0)
    idle_rate = (passes(s) - first[0]) * (o.wss << 8) / (time.time() - first[1]) if real else None
    passed = passes(s)
    before = cpu_seconds(sp), cpu_seconds(dp)
    began = time.time()
    s("migrate", uri=f"tcp:127.0.0.1:{o.port}")
    if o.what == "postcopy":
        time.sleep(0.3)
        s("migrate-start-postcopy")
    waits, r = [], {"status": "none"}
    while time.time() - began < 120:
        t = time.time()
        r = s("query-migrate")
        waits.append((time.time() - t) * 1e3)
        if r["status"] in ("completed", "failed"):
            break
        time.sleep(0.002 if o.what != "saturate" else 0.02)
    wall = (time.time() - began) * 1e3
    after = cpu_seconds(sp), cpu_seconds(dp)
    gb = (o.mem << 20) / 1e9
    passed = passes(d) - passed if r["status"] == "completed" else 0
    out = {"peer": subprocess.check_output(qemu + ["--version"], text=True).splitlines()[0], "what": o.what,
           "status": r["status"], "wall_ms": wall, "total_ms": r.get("total-time"), "setup_ms": r.get("setup-time"), "downtime_ms": r.get("downtime"),
           "rounds": r.get("ram", {}).get("dirty-sync-count"), "wire_bytes": r.get("ram", {}).get("transferred"),
           "guest_pages_written": passed * (o.wss << 8), "guest_pages_per_s_before": idle_rate,
           "monitor_wait_ms": percentiles(waits),
           "cpu_s": {"source": after[0] - before[0], "destination": after[1] - before[1]}}
    if r.get("total-time"):
        out["guest_gb_per_s"] = gb / (r["total-time"] / 1e3)
    if o.what == "postcopy":
        x = d("query-migrate")
        out["postcopy"] = {"requests": r["ram"].get("postcopy-requests"), "latency_ns_mean": x.get("postcopy-latency"),
                           "latency_log2_us": x.get("postcopy-latency-dist")}
    for q, p in ((s, sp), (d, dp)):
        try:
            q("quit")
        except Exception:
            pass
        p.wait()
    for path in ram.values():
        if os.path.exists(path):
            os.unlink(path)
    shutil.rmtree(tmp)
    print(json.dumps(out, indent=1))
    return r["status"] != "completed"


sys.exit(main())
