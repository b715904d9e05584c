#!/usr/bin/env python3
"""What a breaker adds to a program: sizes.py DIRECTORY SUFFIX "BYTES...".

Compares programs that make one call through a breaker with one (`bare`) that makes it without: the sections with code
and constants of an ELF file, the code section of a WebAssembly module. A breaker in a `static` is not among them: it
takes BYTES of RAM, and as many of flash, from which it is initialized.
"""
import struct
import sys


def elf(data):
    """The bytes of all sections that are in flash (SHF_ALLOC) and never written (no SHF_WRITE)."""
    shoff, shentsize, shnum = struct.unpack_from("<I", data, 32)[0], *struct.unpack_from("<HH", data, 46)
    total = 0
    for section in range(shnum):
        _, kind, flags, _, _, size = struct.unpack_from("<6I", data, shoff + section * shentsize)
        if kind == 1 and flags & 2 and not flags & 1:
            total += size
    return total


def wasm(data):
    def number(at):
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                return value, at

    at = 8
    while at < len(data):
        kind = data[at]
        size, at = number(at + 1)
        if kind == 10:
            return size
        at += size
    raise SystemExit("no code section")


def size(directory, name, suffix):
    with open(f"{directory}/{name}{suffix}", "rb") as file:
        data = file.read()
    return (elf if data[:4] == b"\x7fELF" else wasm)(data)


directory, suffix, numbers = sys.argv[1:]
bare = size(directory, "bare", suffix)
policies = {"consecutive": "Consecutive", "last_calls": "LastCalls<20>", "last_time": "LastTime<10>"}
for (name, policy), numbers in zip(policies.items(), numbers.split()):
    print(f"{policy:<14} code {size(directory, name, suffix) - bare:>6} bytes, each breaker {numbers:>4} bytes")
