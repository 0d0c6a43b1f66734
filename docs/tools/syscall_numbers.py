"""Write minicontainer/kernel/seccomp_numbers.txt from the kernel's headers.

    python3 docs/tools/syscall_numbers.py [--arm64 DIR] [--arm DIR] > FILE

x86-64, i386 and x32 are read from <asm/unistd_*.h> (linux-libc-dev, or --x86 DIR). The headers of
the two ARMs are in Debian's linux-libc-dev-arm64-cross and linux-libc-dev-armhf-cross: --arm64 and
--arm name their include folders; without them the numbers stay those that are there.
Calls that are newer than these headers are in NEWER.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

X86 = Path("/usr/include/x86_64-linux-gnu")
X32_BIT = 0x40000000
# From here on a call has the same number everywhere.
COMMON = 424

# Linux 6.5 to 7.0 (arch/x86/entry/syscalls/syscall_64.tbl), from 451 on.
NEWER = dict(
    enumerate(
        "cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount "
        "listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat "
        "getxattrat listxattrat removexattrat open_tree_attr file_getattr file_setattr listns "
        "rseq_slice_yield".split(),
        start=451,
    )
)
NEWER_X86_64 = {335: "uretprobe", 336: "uprobe"}


def definitions(header: str, include: Path, *defines: str) -> dict[str, int]:
    """{name: number} of all __NR_ macros after the preprocessor has read a header."""
    done = subprocess.run(
        ["cc", "-E", "-dM", "-nostdinc", f"-I{include}", *(f"-D{d}" for d in defines), "-"],
        input=f"#include <{header}>\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    macros = dict(
        match.groups() for match in re.finditer(r"^#define (\w+) +(.+)$", done.stdout, re.M)
    )
    found = {}
    for name, value in macros.items():
        if re.fullmatch(r"__(ARM_)?NR_[a-z_]\w*", name) and not name.endswith("_specific_syscall"):
            number = evaluate(value, macros)
            if number is not None:
                found[re.sub(r"^__(ARM_)?NR_", "", name)] = number
    return found


def evaluate(text: str, macros: dict[str, str]) -> int | None:
    """The number of a macro: a number, another macro, or the sum of two."""
    total = 0
    for part in text.strip("()").split("+"):
        word = part.strip(" ()")
        if re.fullmatch(r"0x[0-9a-fA-F]+|[0-9]+", word):
            total += int(word, 0)
        elif word in macros:
            inner = evaluate(macros[word], macros)
            if inner is None:
                return None
            total += inner
        else:
            return None
    return total


def x86(include: Path = X86) -> dict[str, dict[str, int]]:
    """The tables of x86-64, i386 and x32 as the headers have them, x32's without its bit."""
    x32 = {
        name: number - X32_BIT
        for name, number in definitions(
            "asm/unistd_x32.h", include, "__X32_SYSCALL_BIT=0x40000000"
        ).items()
    }
    return {
        "x86_64": definitions("asm/unistd_64.h", include),
        "i386": definitions("asm/unistd_32.h", include),
        "x32": x32,
    }


def arm(include: Path, name: str) -> dict[str, int]:
    """The table of one of the ARMs."""
    extra = ("__ARM_EABI__",) if name == "arm" else ("__LP64__",)
    found = definitions("asm/unistd.h", include, *extra)
    # BASE is the number that the private calls are counted from; syscalls, how many there are.
    return {k: v for k, v in found.items() if k not in ("BASE", "syscalls", "SYSCALL_BASE")}


def words(table: dict[int, str]) -> Iterable[str]:
    """Numbers and names in the order of the numbers: a number only where it is not the next."""
    following = None
    for number in sorted(table):
        if number != following:
            yield str(number)
        yield table[number]
        following = number + 1


def text(name: str, comment: str, table: dict[int, str]) -> str:
    """One table of the file."""
    body = textwrap.fill(" ".join(words(table)), 100, break_long_words=False)
    return f"\n# {comment}\n{name}:\n{body}\n"


HEAD = """\
# The numbers of Linux's system calls. Made by docs/tools/syscall_numbers.py from the kernel's
# headers; do not edit. In each table the names stand in the order of their numbers, and a number is
# written where the count jumps. Those of x32 are without its bit (0x40000000).
"""


def generate(tables: dict[str, dict[str, int]]) -> str:
    """The whole file."""
    by_number = {abi: {n: name for name, n in table.items()} for abi, table in tables.items()}
    common = {n: name for n, name in by_number["aarch64"].items() if n >= COMMON} | NEWER
    by_number["x86_64"] |= NEWER_X86_64
    by_number["x32"] |= NEWER_X86_64
    parts = [HEAD]
    for abi, comment in (
        ("x86_64", "x86-64"),
        ("i386", "i386: 32-bit programs on x86-64"),
        ("x32", "x32: x86-64 with pointers of 32 bits"),
        ("aarch64", "aarch64"),
        ("arm", "arm (EABI): 32-bit programs on aarch64"),
    ):
        own = {n: name for n, name in by_number[abi].items() if common.get(n) != name}
        parts.append(text(abi, comment, own))
    parts.append(text("common", "From 424 on a number means the same everywhere.", common))
    return "".join(parts)


def main() -> None:
    """Write the file to the standard output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--x86", type=Path, default=X86)
    parser.add_argument("--arm64", type=Path)
    parser.add_argument("--arm", type=Path)
    given = parser.parse_args()
    tables = x86(given.x86)
    for abi, include in (("aarch64", given.arm64), ("arm", given.arm)):
        if include is None:
            from minicontainer.kernel import seccomp_numbers

            tables[abi] = seccomp_numbers.tables()[abi]
        else:
            tables[abi] = arm(include, abi)
    sys.stdout.write(generate(tables))


if __name__ == "__main__":
    main()
