#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""wire.py: a man in the middle between two real ends, who reads the protocol as docs/protocol.md has it and changes one thing:
a token, a version, a length, a count, a check sum; loses, doubles, cuts, delays. What is damaged ends the migration with one line
and the guest whole at the source; what is merely slow or unknown does not."""
import concurrent.futures
import contextlib
import os
import ctypes
import socket
import struct
import threading
import time

from migperf import CANCELLED, COMPLETED, FAILED, IN_DOUBT, REFUSED, SANITIZED, SHORT, Checks, Server, completed, kept, sane, seeded, skip, source

checks = Checks()
rng = seeded()
try:
    XXHASH = ctypes.CDLL("libxxhash.so.0")
except OSError:
    skip("no libxxhash.so.0 here")
XXHASH.XXH3_64bits.restype = XXHASH.XXH3_64bits_withSeed.restype = ctypes.c_uint64


def xxh3(data, seed=0):
    return XXHASH.XXH3_64bits_withSeed(bytes(data), ctypes.c_size_t(len(data)), ctypes.c_uint64(seed))


(HELLO, WELCOME, REFUSE, STREAMS_UP, HEARTBEAT, LANDED, SWITCHOVER, READY, GO, RUNNING, NEVER, DONE, CANCEL, MESSAGE, BYE) = range(1, 16)
NAMES = ("", "HELLO", "WELCOME", "REFUSE", "STREAMS_UP", "HEARTBEAT", "LANDED", "SWITCHOVER", "READY", "GO", "RUNNING", "NEVER", "DONE", "CANCEL",
         "MESSAGE", "BYE")
REQUIRED = 1
PAGES, STATE, MARK = 1, 2, 3
ZERO, RAW, LZ4 = 0, 1, 2
PAYLOAD_CHECK = 1


# ---------------------------------------------------------------- what travels


class Unit:
    """A greeting, frame or batch: fields by name, to be changed at will. seal=False leaves its check sum as it is."""

    layout, fields = "", ()

    def __init__(self, data):
        self.seal = True
        for name, value in zip(self.fields, struct.unpack_from(self.layout, data)):
            setattr(self, name, value)

    def head(self):
        return struct.pack(self.layout, *(getattr(self, name) for name in self.fields))


class Greeting(Unit):
    layout = "<QHBBIII16sII"
    fields = ("magic", "version", "type", "flags", "stream", "epoch", "check", "token", "dial", "reserved")
    size = struct.calcsize(layout)

    def pack(self):
        if self.seal:
            self.check = 0
            self.check = xxh3(self.head()) & 0xFFFFFFFF
        return self.head()


class Frame(Unit):
    layout, fields = "<4sHHIIII", ("magic", "type", "flags", "length", "epoch", "seq", "check")
    size = struct.calcsize(layout)

    def __init__(self, data):
        super().__init__(data)
        self.payload = data[self.size:]

    @classmethod
    def make(cls, number, payload=b"", flags=REQUIRED, epoch=0):
        frame = cls(struct.pack(cls.layout, b"SLNK", number, flags, len(payload), epoch, 0, 0))
        frame.payload = payload
        return frame

    def resize(self, payload):
        self.payload, self.length = payload, len(payload)

    def sum(self):
        return xxh3(self.payload, xxh3(self.head()[:20])) & 0xFFFFFFFF

    def pack(self):
        if self.seal:
            self.check = self.sum()
        return self.head() + self.payload


class Batch(Unit):
    layout = "<4sBBHIIIIQQQQQ"
    fields = ("magic", "type", "flags", "extents", "epoch", "stream", "round", "length", "seq", "bytes", "payload_check", "reserved", "check")
    size, entry = struct.calcsize(layout), 24

    def __init__(self, data):
        super().__init__(data)
        end = self.size + self.extents * self.entry
        self.table = bytearray(data[self.size:end])
        self.payload = data[end:]
        self.seal_payload = True

    def extent(self, i=0):
        return list(struct.unpack_from("<QIIHBBI", self.table, i * self.entry))

    def set_extent(self, extent, i=0):
        struct.pack_into("<QIIHBBI", self.table, i * self.entry, *extent)

    def set_state(self, *fields):
        struct.pack_into("<QQIHH", self.table, 0, *fields)

    def pack(self):
        if self.seal:
            if self.flags & PAYLOAD_CHECK and self.seal_payload:
                self.payload_check = xxh3(self.payload, self.seq)
            self.check = 0
            self.check = xxh3(self.head() + self.table)
        return self.head() + bytes(self.table) + self.payload


# ---------------------------------------------------------------- the man in the middle


class Cut(Exception):
    """Close this connection."""


class Proxy:
    """Between a source and a destination. `change(unit, proxy)` may alter a unit and returns what to forward: the unit, a list of
    units and bytes, or nothing. It may raise Cut, or call cut_all()."""

    def __init__(self, port, change):
        self.port, self.change = port, change
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"tcp:127.0.0.1:{self.listener.getsockname()[1]}"
        self.lock = threading.Lock()
        self.sockets, self.threads = [], []
        self.done = False       # the one change was made
        self.seen = []          # names of link frames, in order, with their direction
        self.faults = []        # where the document and the bytes differ
        self.frozen = {}        # (direction, is the link) -> time until which nothing moves
        self.spawn(self.accept)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut_all()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(5)

    def spawn(self, body, *args):
        thread = threading.Thread(target=body, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def cut_all(self):
        with self.lock:
            for s in self.sockets:
                with contextlib.suppress(OSError):
                    s.shutdown(socket.SHUT_RDWR)

    def once(self):
        """True the first time."""
        with self.lock:
            first, self.done = not self.done, True
        return first

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.port))
                for s in (near, far):
                    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self.lock:
                    self.sockets += [near, far]
                self.spawn(self.forward, near, far)

    def read(self, s, size):
        data = bytearray()
        while len(data) < size:
            part = s.recv(size - len(data))
            if not part:
                raise Cut
            data += part
        return bytes(data)

    def put(self, s, unit, state):
        """Forward what change() made of a unit."""
        changed = self.change(unit, self)
        for piece in changed if isinstance(changed, list) else [changed]:
            if piece is None:
                continue
            if isinstance(piece, Frame) and piece.seal and not getattr(piece, "keep_seq", False):
                # What was put in or left out must not show by its number: that is a change of its own.
                piece.seq = state["seq"]
                state["seq"] += 1
            data = piece if isinstance(piece, bytes) else piece.pack()
            step = 1 if getattr(piece, "drip", False) else len(data)
            for at in range(0, len(data), step or 1):
                s.sendall(data[at:at + step])

    def wait_frozen(self, direction, link):
        until = self.frozen.get((direction, link), 0)
        while time.monotonic() < until:
            time.sleep(0.02)

    def forward(self, near, far):
        """A connection from the source: its greeting, then what its kind carries, both ways."""
        try:
            data = self.read(near, Greeting.size)
            greeting = Greeting(data)
            if greeting.pack() != data:
                self.faults.append("a greeting's check")
            link = greeting.type == 1
            self.put(far, greeting, {"seq": 0})
            self.spawn(self.pump, far, near, "D", link)
            self.pump(near, far, "S", link)
        except (Cut, OSError):
            self.close(near, far)

    def pump(self, a, b, direction, link):
        state = {"seq": 0}
        try:
            if not link and direction == "D":
                while data := a.recv(65536):  # streams go one way; RST or nothing comes back
                    b.sendall(data)
            while link or direction == "S":
                unit = self.read_frame(a, direction) if link else self.read_batch(a)
                self.wait_frozen(direction, link)
                self.put(b, unit, state)
        except (Cut, OSError):
            pass
        self.close(a, b)

    def close(self, *sockets):
        for s in sockets:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def read_frame(self, s, direction):
        head = self.read(s, Frame.size)
        frame = Frame(head)
        frame.payload = self.read(s, frame.length)
        frame.direction = direction
        if frame.magic != b"SLNK" or frame.check != frame.sum():
            self.faults.append(f"frame {frame.type}'s magic or check")
        if frame.type < len(NAMES):
            self.seen.append(direction + NAMES[frame.type])
        return frame

    def read_batch(self, s):
        head = self.read(s, Batch.size)
        batch = Batch(head)
        batch.table = bytearray(self.read(s, batch.extents * Batch.entry))
        batch.payload = self.read(s, batch.length)
        checks_ = batch.check, batch.payload_check
        batch.pack()
        if batch.magic != b"SBAT" or (batch.check, batch.payload_check) != checks_:
            self.faults.append(f"batch type {batch.type}'s magic or check")
        return batch


# ---------------------------------------------------------------- cases

IMPATIENT = ("--in-doubt", "500")
GUEST = ("-m", "16M", "-P", "3", "--dirty-rate", "2M", "-b", "40M", *IMPATIENT)
# For what can only be seen while it lasts.
LASTING = ("-m", "48M", "-P", "3", "--dirty-rate", "2M", "-b", "16M", *IMPATIENT)
LANES = 4
cases = []  # (label, change, expectation, arguments)


def case(label, expect, args=GUEST):
    def add(change):
        cases.append((label, change, expect, args))
        return change
    return add


def on(kind, number, field_changes, label, expect, first=True, direction=None):
    """A case that changes fields of the first unit of a kind and type."""
    def change(unit, proxy):
        if isinstance(unit, kind) and unit.type == number and (direction is None or getattr(unit, "direction", "S") == direction):
            if kind == Frame and not under_way(unit, proxy):
                return unit
            if not first or proxy.once():
                field_changes(unit)
        return unit
    cases.append((label, change, expect, GUEST))


def setting(**fields):
    def change(unit):
        for name, value in fields.items():
            setattr(unit, name, value)
    return change


SETUP = (REFUSED, FAILED)     # nothing agreed yet: no connection, or refused
NO = (REFUSED,)
BROKEN = (FAILED,)
GOOD = (COMPLETED,)
LATE = (FAILED, IN_DOUBT)     # near the handoff

# -- greetings
for name, value in {"magic": 0x1122334455667788, "version": 2, "type": 9, "flags": 1, "epoch": 5, "stream": 3, "reserved": 1,
                    "token": b"t" * 16}.items():
    on(Greeting, 1, setting(**{name: value}), f"link greeting with {name} {value!r}", SETUP)
on(Greeting, 1, setting(seal=False, check=12345), "link greeting with a wrong check", SETUP)
for name, value in {"token": b"\0" * 16, "epoch": 77, "stream": 63, "version": 2, "flags": 1, "reserved": 1}.items():
    on(Greeting, 2, setting(**{name: value}), f"stream greeting with {name} {value!r}", SETUP)


@case("stream greeting whose token is wrong in its last bit", SETUP)
def _(unit, proxy):
    if isinstance(unit, Greeting) and unit.type == 2 and proxy.once():
        unit.token = unit.token[:-1] + bytes([unit.token[-1] ^ 1])
    return unit


def stranger(changes):
    """While a migration goes on, one more connection greets wrongly: it is closed, and changes nothing."""
    def change(unit, proxy):
        if isinstance(unit, Greeting) and unit.type == 2:
            proxy.last_greeting = unit.pack()
        if isinstance(unit, Batch) and unit.seq == 3 and proxy.once():
            greeting = Greeting(proxy.last_greeting)
            setting(**changes)(greeting)
            with socket.create_connection(("127.0.0.1", proxy.port)) as s:
                s.sendall(greeting.pack() + rng.randbytes(2000))
                s.settimeout(8)
                try:
                    closed = s.recv(1) == b""
                except ConnectionError:
                    closed = True
                except TimeoutError:
                    closed = False
            if not closed:
                proxy.faults.append(f"a stranger with {changes} stays connected")
        return unit
    return change


for changes in ({"token": b"0123456789abcdef"}, {"stream": 60}, {"epoch": 9}, {}):
    cases.append((f"a stranger beside a migration, {changes or 'the token, a stream that is there already'}", stranger(changes), GOOD, LASTING))


# -- HELLO and what answers it
def hello(layout, at, value):
    def change(frame):
        payload = bytearray(frame.payload)
        struct.pack_into(layout, payload, at, value)
        frame.resize(bytes(payload))
    return change


def with_feature(name, required):
    def change(frame):
        n, = struct.unpack_from("<I", frame.payload, 24)
        entry = struct.pack("<32sBH", name, required, 0)
        frame.resize(frame.payload[:24] + struct.pack("<I", n + 1) + entry + frame.payload[28:])
    return change


def regions_at(frame):
    """Where the number of regions is; behind it each has 64 + 8 + 4 bytes."""
    n, = struct.unpack_from("<I", frame.payload, 24)
    at = 28
    for _ in range(n):
        at += 35 + struct.unpack_from("<H", frame.payload, at + 33)[0]
    return at


def in_region(layout, at, value):
    return lambda frame: hello(layout, regions_at(frame) + 4 + at, value)(frame)


on(Frame, HELLO, lambda f: (hello("<H", 0, 2)(f), hello("<H", 2, 9)(f)), "HELLO of versions 2 to 9", NO)
on(Frame, HELLO, lambda f: (hello("<H", 0, 5)(f), hello("<H", 2, 1)(f)), "HELLO of versions 5 to 1", SETUP)
on(Frame, HELLO, lambda f: hello("<H", 2, 9)(f), "HELLO of versions 1 to 9", GOOD)
on(Frame, HELLO, hello("<I", 4, 16384), "HELLO with 16 KiB pages", NO)
on(Frame, HELLO, hello("<I", 8, 1), "HELLO with a dead-peer time of 1 ms", NO)
on(Frame, HELLO, hello("<I", 8, 1 << 31), "HELLO with a dead-peer time of 2^31 ms", NO)
on(Frame, HELLO, hello("<H", 12, 0), "HELLO that wants no stream", SETUP)
on(Frame, HELLO, hello("<H", 12, 65535), "HELLO that wants 65535 streams", SETUP)
on(Frame, HELLO, hello("<I", 24, 1 << 30), "HELLO with 2^30 features", SETUP)
on(Frame, HELLO, with_feature(b"teleport", 1), "HELLO that requires teleport", NO)
on(Frame, HELLO, with_feature(b"teleport", 0), "HELLO that would like teleport", GOOD)
on(Frame, HELLO, with_feature(b"\x1b[31mred", 1), "HELLO that requires an escape sequence", SETUP)
on(Frame, HELLO, in_region("<Q", 64, 32 << 20), "HELLO whose region is larger than the guest", SETUP)
on(Frame, HELLO, in_region("<Q", 64, 1 << 63), "HELLO with a region of 2^63 bytes", SETUP)
on(Frame, HELLO, in_region("<Q", 64, 4097), "HELLO with a region of 4097 bytes", SETUP)
on(Frame, HELLO, in_region("<I", 72, 2 << 20), "HELLO with other host pages", SETUP)
on(Frame, HELLO, in_region("<I", 72, 3), "HELLO with host pages of 3 bytes", SETUP)
on(Frame, HELLO, in_region("64s", 0, b"other-name"), "HELLO whose region has another name", SETUP)
on(Frame, HELLO, in_region("64s", 0, b"x" * 64), "HELLO whose region's name has no end", SETUP)
on(Frame, HELLO, lambda f: hello("<I", regions_at(f), 0)(f), "HELLO without regions", SETUP)
on(Frame, HELLO, lambda f: hello("<I", regions_at(f), 1 << 30)(f), "HELLO with 2^30 regions", SETUP)
on(Frame, HELLO, lambda f: f.resize(f.payload[:-1]), "HELLO one byte short", SETUP)
on(Frame, HELLO, lambda f: f.resize(f.payload + b"\0"), "HELLO one byte long", SETUP)
on(Frame, HELLO, lambda f: f.resize(b""), "empty HELLO", SETUP)
on(Frame, HELLO, setting(length=1 << 31), "HELLO of 2^31 bytes", SETUP)
on(Frame, HELLO, setting(length=65537), "HELLO of 65537 bytes", SETUP)
on(Frame, HELLO, setting(type=GO), "GO instead of HELLO", SETUP)
on(Frame, HELLO, setting(type=99), "frame 99 instead of HELLO", SETUP)
on(Frame, HELLO, setting(type=0), "frame 0 instead of HELLO", SETUP)
on(Frame, HELLO, setting(epoch=3), "HELLO of epoch 3", SETUP)
on(Frame, HELLO, setting(magic=b"slnk"), "HELLO with a wrong magic", SETUP)
on(Frame, HELLO, setting(seal=False, check=1), "HELLO with a wrong check", SETUP)
on(Frame, HELLO, setting(keep_seq=True, seq=7), "HELLO with number 7", SETUP)

on(Frame, WELCOME, hello("<H", 0, 7), "WELCOME with version 7", SETUP)
on(Frame, WELCOME, hello("<I", 2, 0), "WELCOME with a dead-peer time of 0", SETUP)
on(Frame, WELCOME, hello("<I", 6, 0), "WELCOME with epoch 0", SETUP)
on(Frame, WELCOME, hello("<H", 10, 0), "WELCOME that grants no stream", SETUP)
on(Frame, WELCOME, hello("<H", 10, 64), "WELCOME that grants more streams than asked for", SETUP)
on(Frame, WELCOME, lambda f: f.resize(f.payload[:-1]), "WELCOME one byte short", SETUP)
on(Frame, WELCOME, lambda f: f.resize(f.payload + b"\1"), "WELCOME one byte long", SETUP)
on(Frame, WELCOME, lambda f: hello("<I", 54, 1 << 20)(f), "WELCOME with 2^20 features", SETUP)
on(Frame, WELCOME, setting(type=RUNNING, payload=bytes(12), length=12), "RUNNING instead of WELCOME", SETUP)


def word(code, text=b""):
    """The payload of REFUSE, NEVER and CANCEL."""
    return struct.pack("<IIiI", 0, 0, code, len(text)) + text


def refusal(text):
    return lambda f: (setattr(f, "type", REFUSE), f.resize(word(-1, text)))


on(Frame, WELCOME, refusal(b"go away"), "REFUSE", NO)
on(Frame, WELCOME, refusal(b"\x1b[2J\x07wiped\r\n your screen"), "REFUSE with control characters", NO)
on(Frame, WELCOME, refusal(b"%s%s%s%n%n"), "REFUSE with a format", NO)
on(Frame, WELCOME, refusal(b"x" * 255), "REFUSE at its longest", NO)
on(Frame, WELCOME, refusal(b"x" * 60000), "REFUSE far too long", SETUP)
on(Frame, WELCOME, refusal(b"\xff\xfe\x80"), "REFUSE that is not UTF-8", NO)
on(Frame, WELCOME, refusal(b""), "REFUSE without a word", NO)


def under_way(unit, proxy):
    """A heartbeat in phase `active`, at both sides: something has landed. On a busy machine the first ones come while connections are made."""
    return unit.type != HEARTBEAT or "DLANDED" in proxy.seen


# -- frames where they do not belong
def inject(after, *frames, before=False):
    """With the first frame of the type `after` in its direction, these too."""
    def change(unit, proxy):
        if isinstance(unit, Frame) and unit.direction + NAMES[unit.type] == after and under_way(unit, proxy) and proxy.once():
            extra = [Frame.make(number, payload, flags, unit.epoch) for number, payload, flags in frames]
            return [*extra, unit] if before else [unit, *extra]
        return unit
    return change


def plain(number, payload=b"", flags=REQUIRED):
    return (number, payload, flags)


# The destination's words that come too early, to a source in `active`: LANDED comes often and early there.
for number, payload in ((WELCOME, b""), (REFUSE, word(-1)), (STREAMS_UP, struct.pack("<I", 3)), (READY, bytes(12)), (RUNNING, bytes(12)),
                        (GO, bytes(12)), (DONE, bytes(12)), (BYE, b""), (LANDED, struct.pack("<II", 0, 65)), (LANDED, struct.pack("<II", 9999, 0)),
                        (NEVER, word(-1)), (HEARTBEAT, b"x"), (99, b"x"), (MESSAGE, struct.pack("<I", 99))):
    cases.append((f"{NAMES[number] if number < len(NAMES) else 'required frame 99'} ({len(payload)} bytes) out of place to the source",
                  inject("DLANDED", plain(number, payload)), BROKEN, LASTING))
cases.append(("frame 99, not required, to the source", inject("DLANDED", plain(99, b"hello", 0)), GOOD, GUEST))
cases.append(("CANCEL to the source", inject("DLANDED", plain(CANCEL, word(-125, b"stop"))), BROKEN, LASTING))
# The source's, to a destination in `active`.
for number, payload in ((HELLO, b""), (WELCOME, b""), (GO, bytes(12)), (DONE, bytes(12)), (READY, bytes(12)), (LANDED, struct.pack("<II", 1, 0)), (BYE, b""),
                        (SWITCHOVER, struct.pack("<II", 1, 65)), (SWITCHOVER, b"\1"), (HEARTBEAT, b""), (99, b""), (40, b"")):
    cases.append((f"{NAMES[number] if number < len(NAMES) else f'required frame {number}'} ({len(payload)} bytes) out of place to the destination",
                  inject("SHEARTBEAT", plain(number, payload)), BROKEN, LASTING))
cases.append(("frame 99, not required, to the destination", inject("SHEARTBEAT", plain(99, b"hello" * 1000, 0)), GOOD, LASTING))
for name, fields in {"a number twice": {"keep_seq": True, "seq": 0}, "a wrong check": {"seal": False, "check": 3}, "another epoch": {"epoch": 2},
                     "a wrong magic": {"magic": b"GET "}, "a length of 2^32 - 1": {"length": (1 << 32) - 1}}.items():
    on(Frame, HEARTBEAT, setting(**fields), f"HEARTBEAT with {name} to the destination", BROKEN, direction="S")
    on(Frame, LANDED, setting(**fields), f"LANDED with {name} to the source", BROKEN, direction="D")
    cases[-2:] = [(*entry[:3], LASTING) for entry in cases[-2:]]


@case("a frame cut off in its middle", BROKEN, LASTING)
def _(unit, proxy):
    if isinstance(unit, Frame) and unit.type == LANDED and proxy.once():
        proxy.cut_later = True
        return [unit.pack()[:30]]
    if getattr(proxy, "cut_later", False):
        raise Cut
    return unit


# -- batches
def of_pages(unit):
    return isinstance(unit, Batch) and unit.type == PAGES and unit.seq >= 2


def damaged(label, change, expect=BROKEN, wanted=of_pages, args=GUEST):
    def apply(unit, proxy):
        if wanted(unit) and proxy.once():
            changed = change(unit)
            return unit if changed is None else changed
        return unit
    cases.append((f"batch: {label}", apply, expect, args))


def extent(**fields):
    names = ("page", "count", "bytes", "region", "encoding", "flags", "reserved")

    def change(batch):
        values = batch.extent()
        for name, value in fields.items():
            values[names.index(name)] = value
        batch.set_extent(values)
    return change


for name, value in {"magic": b"SBAD", "type": 9, "epoch": 4, "stream": 30, "round": 0xFFFFFFFF, "seq": 1, "bytes": 17,
                    "reserved": 1, "extents": 513, "length": (512 << 10) + 1}.items():
    damaged(f"{name} {value!r}", setting(**{name: value}))
damaged("round 0", setting(round=0))
damaged("seq 2^64 - 1", setting(seq=(1 << 64) - 1))
damaged("a wrong check", setting(seal=False, check=5))
damaged("a flag that is not known", setting(flags=128))
damaged("payload check without its flag", setting(payload_check=1))
damaged("payload of 2^32 - 1", setting(length=(1 << 32) - 1))
damaged("payload one page short", lambda b: (setattr(b, "payload", b.payload[4096:]), setattr(b, "length", len(b.payload)), None)[-1])
damaged("no extents", lambda b: (setattr(b, "extents", 0), setattr(b, "table", bytearray()), setattr(b, "payload", b""), setattr(b, "length", 0), None)[-1])
damaged("page at the region's end", extent(page=(16 << 20) // 4096))
damaged("page 2^64 - 1", extent(page=(1 << 64) - 1))
damaged("page 2^52", extent(page=1 << 52))
damaged("no page", extent(count=0))
damaged("513 pages", extent(count=513))
damaged("2^32 - 1 pages", extent(count=(1 << 32) - 1))
damaged("region 1", extent(region=1))
damaged("region 65535", extent(region=65535))
damaged("encoding 3", extent(encoding=3))
damaged("encoding 255", extent(encoding=255))
damaged("extent flags", extent(flags=1))
damaged("extent reserved", extent(reserved=1))
damaged("raw of other bytes than pages", extent(bytes=4095))
damaged("zero with bytes", extent(encoding=ZERO, bytes=4096))


def crossing(batch):
    """Pages over a granule's border."""
    page, count, size, *rest = batch.extent()
    batch.set_extent([page // 512 * 512 + 511, max(count, 2), size, *rest])


def as_lz4(payload, bytes_=None):
    def change(batch):
        page, _, _, region, *_ = batch.extent()
        batch.extents, batch.table, batch.payload = 1, bytearray(24), payload
        batch.set_extent([page, 4, len(payload) if bytes_ is None else bytes_, region, LZ4, 0, 0])
        batch.length = len(payload)
    return change


damaged("pages over a granule's border", crossing)
damaged("lz4 of rubbish", as_lz4(bytes(rng.randbytes(3000))))
damaged("lz4 of no bytes", as_lz4(b""))
damaged("lz4 as long as its pages", as_lz4(bytes(16384)))
damaged("lz4 that inflates to too little", as_lz4(bytes([0x40]) + b"abcd"))
# 15 + 255 * n literal-less match bytes: inflates to far more than four pages.
damaged("lz4 bomb", as_lz4(bytes([0x1F, 0x41, 1, 0]) + b"\xff" * 1000 + b"\0" + bytes([0x50]) + b"AAAAA"))
damaged("twice", lambda b: [b, Batch(b.pack())])
damaged("lost", lambda b: [])
damaged("rubbish behind it", lambda b: [b, rng.randbytes(100)])
damaged("a greeting behind it", lambda b: [b, b"SLUICE\x1a\n" + bytes(40)])


def cut_stream(unit, proxy):
    if of_pages(unit) and unit.seq == 4 and proxy.once():
        proxy.cut_stream = unit.stream
        return [unit.pack()[:-1000]]
    if isinstance(unit, Batch) and unit.stream == getattr(proxy, "cut_stream", -1):
        raise Cut
    return unit


cases.append(("one of three streams cut in the middle of a batch", cut_stream, BROKEN, LASTING))


def is_mark(unit):
    return isinstance(unit, Batch) and unit.type == MARK


def is_state(unit):
    return isinstance(unit, Batch) and unit.type == STATE


damaged("a mark of round 0", setting(round=0), wanted=is_mark)
damaged("a mark of round 7", setting(round=7), wanted=is_mark)
damaged("a mark twice", lambda b: [b, Batch(b.pack())], wanted=is_mark)
damaged("a mark that counts one batch more", lambda b: setattr(b, "seq", b.seq + 1), wanted=is_mark)
damaged("a mark that counts one byte more", lambda b: setattr(b, "bytes", b.bytes + 1), wanted=is_mark)
damaged("a mark with a payload", lambda b: (setattr(b, "payload", b"x"), setattr(b, "length", 1), None)[-1], wanted=is_mark)
damaged("state damaged on its way", lambda b: (setattr(b, "payload", bytes([b.payload[0] ^ 1]) + b.payload[1:]), setattr(b, "seal_payload", False),
                                               None)[-1], LATE, is_state)
damaged("state without its payload check", lambda b: (setattr(b, "flags", 0), setattr(b, "payload_check", 0), None)[-1], LATE, is_state)
damaged("state at an odd offset", lambda b: b.set_state(4096, 4096 + len(b.payload), len(b.payload), 0, 0), LATE, is_state)
damaged("state of section 64", lambda b: b.set_state(0, len(b.payload), len(b.payload), 64, 0), LATE, is_state)
damaged("state beyond its total", lambda b: b.set_state(100, len(b.payload), len(b.payload), 0, 0), LATE, is_state)
damaged("state at 2^64 - 1", lambda b: b.set_state((1 << 64) - 1, (1 << 64) - 1, len(b.payload), 0, 0), LATE, is_state)
damaged("state of 2^62 bytes", lambda b: b.set_state(0, 1 << 62, len(b.payload), 0, 0), LATE, is_state)
damaged("state of no bytes", lambda b: (b.set_state(0, 1, 0, 0, 0), setattr(b, "payload", b""), setattr(b, "length", 0), None)[-1], LATE, is_state)
damaged("state without a piece", lambda b: (setattr(b, "extents", 0), setattr(b, "table", bytearray()), setattr(b, "payload", b""),
                                            setattr(b, "length", 0), None)[-1], LATE, is_state)


# -- a destination with fewer vCPUs than the guest has
if os.access("/dev/kvm", os.R_OK | os.W_OK):
    @case("a destination that makes 2 vCPUs for a guest of 4", BROKEN, ("--guest", "kvm", "--vcpus", "4", *GUEST))
    def _(unit, proxy):
        if isinstance(unit, Frame) and unit.type == HELLO and b'"vcpus":4' in unit.payload and proxy.once():
            unit.payload = unit.payload.replace(b'"vcpus":4', b'"vcpus":2')
        return unit


# -- slow is not dead
LINK, DATA = True, False


def freeze(seconds, *what):
    def change(unit, proxy):
        if isinstance(unit, Batch) and unit.seq >= 2 and proxy.once():
            proxy.frozen = {one: time.monotonic() + seconds for one in what}
        return unit
    return change


cases.append(("data stands still for 5 s, the link lives", freeze(5, ("S", DATA)), GOOD, LASTING))
cases.append(("the link stands still for 5 s towards the destination, data flows", freeze(5, ("S", LINK)), GOOD, ("-m", "96M", *LASTING[2:])))
cases.append(("all stands still for 20 s", freeze(20, ("S", LINK), ("D", LINK), ("S", DATA)), BROKEN, LASTING))
cases.append(("all stands still for 1 s", freeze(1, ("S", LINK), ("D", LINK), ("S", DATA)), GOOD, LASTING))


@case("everything is late by 30 ms", GOOD)
def _(unit, proxy):
    if not isinstance(unit, Batch):
        proxy.once()
        time.sleep(0.03)
    return unit


@case("one byte at a time until WELCOME", GOOD)
def _(unit, proxy):
    if isinstance(unit, Frame) and unit.type in (HELLO, WELCOME):
        proxy.once()
        unit.drip = True
    return unit


# ---------------------------------------------------------------- running them


SETUP_TRIES = 8
slower = 1.0  # than a machine with nothing else to do: an untouched migration takes about a second there


def free_again(server, label):
    """The server takes the next one within two seconds."""
    deadline = time.monotonic() + 2 * slower * (10 if SANITIZED else 1)
    while True:
        result = source(server.uri, "-m", "4M", "--verify", "sample")
        if result.rc == COMPLETED or "under way" not in result.err or time.monotonic() > deadline:
            return completed(checks, result, f"{label}: the next migration")
        time.sleep(0.05)


def through(server, change, args):
    """A migration through the proxy. A connection has 2 s to greet and 2 s to offer, which a proxy on a busy machine may not keep: what ends
    before the moment of the case has come says nothing of it."""
    for _ in range(SETUP_TRIES):
        with Proxy(int(server.uri.rsplit(":", 1)[1]), change) as proxy:
            result = source(proxy.uri, *args, timeout=40 * slower)
        if proxy.done or result.rc != REFUSED or "closed the connection" not in result.err:
            break
    return result, proxy


def untouched(server):
    """The document and the bytes agree."""
    global slower
    result, proxy = through(server, lambda unit, proxy: unit, GUEST)
    slower = max(1.0, result.seconds / 2)
    completed(checks, result, "untouched")
    checks.equal(proxy.faults, [], "what the document says of check sums")
    seen = [name for name in proxy.seen if name[1:] not in ("HEARTBEAT", "LANDED", "MESSAGE", "BYE")]
    checks.equal(seen, ["SHELLO", "DWELCOME", "DSTREAMS_UP", "SSWITCHOVER", "DREADY", "SGO", "DRUNNING", "SDONE"], "the order of frames")


def judge(case, server):
    """One case; True if the server may take the next."""
    label, change, expect, args = case
    result, proxy = through(server, change, args)
    checks.check(proxy.done, f"{label}: the moment for it never came", proxy.seen)
    if expect == GOOD:
        good = completed(checks, result, label)
    else:
        good = kept(checks, result, label, expect, within=12 * slower)
        line = result.error_line() + str((result.json or {}).get("error"))
        checks.check(all(c.isprintable() for c in line), f"{label}: control characters reach the terminal", result)
    checks.equal(proxy.faults, [], f"{label}: seen on the way")
    return good and server.running() and (expect == GOOD or free_again(server, label))


def lane(mine):
    """Cases one after the other against one server. One that was left in doubt, or worse, must not spoil the next."""
    server = Server(*IMPATIENT)
    try:
        for case in mine:
            if not judge(case, server):
                sane(checks, server.stop(), f"{case[0]}: server")
                server = Server(*IMPATIENT)
        sane(checks, server.stop(), "server at the end")
    finally:
        server.kill()


def changed():
    with Server() as server:
        untouched(server)
    wanted = [c for i, c in enumerate(cases) if not SHORT or i % 4 == 0]
    # Mostly they wait for a bandwidth limit: several side by side.
    with concurrent.futures.ThreadPoolExecutor(LANES) as lanes:
        for done in [lanes.submit(lane, wanted[i::LANES]) for i in range(LANES)]:
            done.result()


def named(change, *words):
    """What was refused is named in the error."""
    with Server() as server:
        result, _ = through(server, change, GUEST)
        for word in words:
            checks.check(word in result.error_line(), f"the error does not say {word!r}", result)


def cut_at(name, keep=False):
    """All connections end with the first frame of that name; `keep`: it gets through."""
    def change(unit, proxy):
        if isinstance(unit, Frame) and unit.direction + NAMES[unit.type] == name and proxy.once():
            if not keep:
                proxy.cut_all()
                raise Cut
            threading.Timer(0.05, proxy.cut_all).start()
        return unit
    return change


def before_handoff():
    """Cut at every frame up to SWITCHOVER: the source keeps the guest, and the destination knows that too. What follows is handoff.py's."""
    # frame lost -> what the source may end with
    for name, expect in (("SHELLO", SETUP), ("DWELCOME", SETUP), ("DSTREAMS_UP", SETUP), ("SSWITCHOVER", BROKEN)):
        label = f"cut at {name[1:]}"
        with Server("-1", *IMPATIENT) as server:
            result, proxy = through(server, cut_at(name), GUEST)
            checks.check(proxy.done, f"{label}: it never came", proxy.seen)
            kept(checks, result, label, expect, within=12 * slower)
            if name == "SHELLO":
                server.send(2)  # SIGINT: who offers nothing is no migration: it goes on listening
            destination = server.wait(15)
            sane(checks, destination, f"{label}: destination")
            wanted = (CANCELLED,) if name == "SHELLO" else (FAILED, REFUSED)
            checks.check(destination.rc in wanted, f"{label}: destination's exit status {destination.rc}, not {wanted}", destination)


changed()
named(lambda u, p: (hello("<H", 0, 2)(u), hello("<H", 2, 9)(u), u)[-1] if isinstance(u, Frame) and u.type == HELLO else u, "version")
named(lambda u, p: (with_feature(b"teleport", 1)(u), u)[-1] if isinstance(u, Frame) and u.type == HELLO else u, "teleport")
named(lambda u, p: (refusal(b"go away")(u), u)[-1] if isinstance(u, Frame) and u.type == WELCOME else u, "go away")
before_handoff()
checks.done()
