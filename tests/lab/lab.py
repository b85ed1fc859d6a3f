# SPDX-License-Identifier: LGPL-2.1-or-later
"""lab.py: boot the lab machine, run migrations in it, judge their JSON out here. Exit status travels over the console: the last line."""
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{ROOT}/tests/e2e")
from migperf import MIGPERF, Checks, mismatches, skip  # noqa: E402

LAB = f"{ROOT}/build/lab"
BOOT_S = 150  # once in a while it does not get past the firmware: a deadline, and one retry
NODES = 2

# What runs inside, and what is expected of it.
RUNS = {
    "auto": "--loopback -m 48M --dirty-rate 2M --vcpus 2 --downtime 2000",
    "marks": "--loopback -m 48M --dirty-rate 2M --tracker marks --downtime 2000",
    "anon": "--loopback -m 32M --backing anon --dirty-rate 1M --downtime 2000",
    "unix": "--loopback unix:/tmp/socket -m 32M --streams 2 --fill text --compress lz4 --downtime 2000",
    "no-numa": "--loopback -m 32M --numa off --downtime 2000",
    "plain": "--loopback -m 32M --io-engine plain --downtime 2000",
}
REFUSED = "--loopback -m 32M --tracker pagemap"


def kernel():
    """Debian's kernel, downloaded once. Returns the path of its image."""
    os.makedirs(LAB, exist_ok=True)
    found = glob.glob(f"{LAB}/kernel/boot/vmlinuz-*")
    if not found:
        out = subprocess.check_output(["apt-cache", "depends", "linux-image-amd64"], text=True)
        package = re.search(r"Depends: (linux-image-\S+)", out)
        done = package and subprocess.run(["apt-get", "download", package[1]], cwd=LAB, capture_output=True, text=True, check=False)
        if not package or done.returncode:
            skip("the kernel cannot be downloaded: " + (done.stderr.strip().splitlines() or ["no reason"])[-1] if done else "no such package")
        subprocess.check_call(["dpkg", "-x", glob.glob(f"{LAB}/linux-image-*.deb")[0], f"{LAB}/kernel"])
        found = glob.glob(f"{LAB}/kernel/boot/vmlinuz-*")
    return found[0]


def image():
    """An initial file system: busybox, migperf with its libraries, and a script."""
    path = f"{LAB}/image.cpio.gz"
    with tempfile.TemporaryDirectory() as root:
        def put(source, target=None):
            target = f"{root}{target or source}"
            os.makedirs(os.path.dirname(target), exist_ok=True)
            subprocess.check_call(["cp", "-L", source, target])

        for directory in ("proc", "sys", "dev", "tmp"):
            os.makedirs(f"{root}/{directory}")
        put("/bin/busybox")
        put(MIGPERF, "/migperf")
        for library in re.findall(r"(/\S+) \(0x", subprocess.check_output(["ldd", MIGPERF], text=True)):
            put(library)
        with open(f"{root}/init", "w") as init:
            init.write("#!/bin/busybox sh\n/bin/busybox --install -s /bin\nmount -t proc none /proc\nmount -t sysfs none /sys\n"
                       "mount -t devtmpfs none /dev\nmount -t tmpfs none /tmp\nip link set lo up || ifconfig lo up\n"
                       "echo; echo \"LAB kernel $(uname -r)\"\necho \"LAB nodes $(ls -d /sys/devices/system/node/node* | wc -l)\"\n")
            for name, arguments in {**RUNS, "refused": REFUSED}.items():
                init.write(f"timeout 60 /migperf {arguments} -J >/tmp/out 2>/tmp/err; status=$?\n"
                           f'echo; echo "LAB {name} $status $(cat /tmp/out)"; echo "LABERR {name} $(grep -v "migration \\(started\\|completed\\|failed\\)" /tmp/err | tr "\\n" " ")"\n')
            init.write('echo "LAB end"\npoweroff -f\n')
        os.chmod(f"{root}/init", 0o755)
        subprocess.check_call(f"cd {root} && mkdir -p bin && find . | cpio -o -H newc --quiet | gzip -1 >{path}", shell=True)
    return path


def boot(vmlinuz, initrd):
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"]
    for node in range(NODES):
        command += ["-object", f"memory-backend-ram,id=m{node},size=1G", "-numa", f"node,nodeid={node},cpus={node},memdev=m{node}"]
    command += ["-kernel", vmlinuz, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1", "-nographic", "-no-reboot"]
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=BOOT_S, check=False).stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode(errors="replace")


def main():
    checks = Checks()
    vmlinuz, initrd = kernel(), image()
    console = boot(vmlinuz, initrd)
    if "LAB end" not in console:
        print("the first boot did not get to its end; once more", flush=True)
        console = boot(vmlinuz, initrd)
    lines = console.replace("\r", "").splitlines()
    if not checks.check("LAB end" in lines, "the lab machine does not get to its end", "\n".join(lines[-30:])):
        checks.done()
    print("\n".join(line for line in lines if line.startswith(("LAB kernel", "LAB nodes"))), flush=True)
    checks.check(f"LAB nodes {NODES}" in lines, "NUMA nodes")
    said = {line.split(" ", 2)[1]: line.split(" ", 2)[2] for line in lines if line.startswith("LABERR ")}
    results = {line.split(" ", 3)[1]: line.split(" ", 3)[2:] for line in lines if line.startswith("LAB ") and len(line.split(" ", 3)) == 4}
    for name in RUNS:
        status, out = results.get(name, ("none", ""))
        if not checks.equal(status, "0", f"{name}: status", f"{out} {said.get(name)}"):
            continue
        j = json.loads(out)
        checks.equal((j["status"], j["verify"]), ("completed", "ok"), f"{name}: status, verify")
        checks.equal(mismatches(j), [], f"{name}: JSON against the contract")
        nodes = {stream["node"] for stream in j["per_stream"]}
        if name == "no-numa":
            checks.equal(nodes, {-1}, f"{name}: nodes of the streams")
        elif len(j["per_stream"]) >= NODES:
            checks.equal(nodes, set(range(NODES)), f"{name}: nodes of the streams")
        print(f"{name}: {j['time']['total_ms']:.0f} ms, downtime {j['time']['downtime_ms']:.0f} ms, {said.get(name, '')}", flush=True)
    # Asked for by name, what the kernel lacks is refused, with a line that says so.
    status = results.get("refused", ("none", ""))[0]
    checks.check(status in ("1", "2", "4") and len(said.get("refused", "")) > 20, "--tracker pagemap on a kernel without it", (status, said.get("refused")))
    print(f"refused: {said.get('refused', '')}", flush=True)
    checks.done()


main()
