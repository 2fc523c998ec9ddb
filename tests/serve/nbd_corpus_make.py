#!/usr/bin/python3
"""nbd_corpus_make.py DIRECTORY - writes the inputs that the fuzzer of the NBD server begins with; see nbd_fuzz.c.

Beside them is kept what libFuzzer found to lead somewhere else.
"""
import pathlib
import struct
import sys

FIXED = struct.pack(">I", 3)
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)


def option(number, data=b""):
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def go(name=b"", infos=()):
    return struct.pack(">I", len(name)) + name + struct.pack(">H", len(infos)) + b"".join(struct.pack(">H", i) for i in infos)


def queries(name, *texts):
    data = struct.pack(">I", len(name)) + name + struct.pack(">I", len(texts))
    return data + b"".join(struct.pack(">I", len(text)) + text for text in texts)


def request(kind, offset, length, flags=0, cookie=1, payload=b""):
    return struct.pack(">IHHQQI", 0x25609513, flags, kind, cookie, offset, length) + payload


INPUTS = {
    "handshake-options": b"\0" + FIXED + option(3) + option(8) + option(6, go(b"disk", (0, 1, 2, 3))) + option(99, b"what?") + option(2),
    "handshake-contexts": b"\0" + FIXED + option(8) + option(9, queries(b"")) + option(9, queries(b"", b"base:", b"qemu:"))
    + option(10, queries(b"", b"base:allocation", b"qemu:allocation-depth", b"qemu:dirty-bitmap:since-7")) + option(7, go()),
    "handshake-name": b"\0" + FIXED + option(1, b"disk") + request(FLUSH, 0, 0) + request(DISC, 0, 0),
    "handshake-old": b"\4" + struct.pack(">I", 0) + option(1, b"") + request(READ, 0, 512),
    "handshake-simple": b"\0" + FIXED + option(7, go(b"disk")) + request(WRITE, 5, 20, payload=b"twenty bytes of this") + request(READ, 0, 64),
    "tls": b"\2" + FIXED + option(3) + option(5) + bytes.fromhex("160301") + b"\0\5hello",
    "tls-abort": b"\2" + FIXED + option(7, go()) + option(2),
    "read-write": b"\1" + request(WRITE, 4096, 512, 1, 1, bytes(512)) + request(READ, 0, 16384) + request(READ, 4000, 300, 4) + request(FLUSH, 0, 0),
    "zero-trim": b"\1" + request(ZEROES, 0, 65536, 2) + request(ZEROES, 100, 5000, 16) + request(TRIM, 0, 65536) + request(CACHE, 0, 65536),
    "status": b"\1" + request(WRITE, 8192, 16, payload=bytes(16)) + request(STATUS, 0, 65536) + request(STATUS, 100, 60000, 8),
    "refused": b"\5" + request(WRITE, 65536, 8, payload=bytes(8)) + request(READ, 1 << 63, 1) + request(9, 0, 0) + request(STATUS, 0, 0),
    "many": b"\1" + b"".join(request(READ, 512 * i, 4096, cookie=i) for i in range(100)) + request(DISC, 0, 0),
    "cut": b"\1" + request(WRITE, 0, 65536, payload=bytes(1000)),
    "large": b"\1" + request(WRITE, 0, 33 << 20, payload=bytes(3000)),
}


def main():
    directory = pathlib.Path(sys.argv[1])
    for name, content in INPUTS.items():
        (directory / name).write_bytes(content)


if __name__ == "__main__":
    main()
