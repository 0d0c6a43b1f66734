"""The numbers of the system calls, for the machines that a filter is compiled for.

They lie in seccomp_numbers.txt beside this file, which docs/tools/syscall_numbers.py writes. Only
the compiler reads them, and only when it compiles.
"""

from __future__ import annotations

import os

CHAPTER = 10

FILE = os.path.join(os.path.dirname(__file__), "seccomp_numbers.txt")
ABIS = ("x86_64", "i386", "x32", "aarch64", "arm")


def tables() -> dict[str, dict[str, int]]:
    """{table: {name: number}} for all of ABIS; the numbers of x32 are without its bit."""
    found: dict[str, dict[str, int]] = {}
    number = 0
    with open(FILE, encoding="utf-8") as file:
        for line in file:
            words = [] if line.startswith("#") else line.split()
            for word in words:
                if word.endswith(":"):
                    table = found[word[:-1]] = {}
                elif word.isdigit():
                    number = int(word)
                else:
                    table[word] = number
                    number += 1
    common = found.pop("common")
    return {abi: {**found[abi], **common} for abi in ABIS}
