"""The last act of a start: a sealed file of 300 bytes executes the program, and Python never does.

While a process executes a file, /proc/self/exe is that file. The process that we confine is the
host's own /usr/bin/python3, right up to its execve(2): an image whose program is
`#!/proc/self/exe` would execute the host's interpreter once more, now inside, and root in there
could open it for writing through /proc/PID/exe and own the host (CVE-2019-5736, which was runc's).
runc executes a sealed copy of itself first. For Python that is a copy of 7 MB and a second start of
the interpreter, 12 ms. We execute a sealed file that only knows how to call execve: 0.2 ms.

    error_fd                        a pipe's end; end of file on the other end: the program runs
    stub = exec_stub(error_fd)      or init_stub(error_fd), for run --init
    os.set_inheritable(error_fd, True)
    os.execve(stub, [path, *arguments], environment)

`path` is the file to execute, `arguments` the program's whole argv, its name included. A failure
comes through error_fd as errno in four bytes, little-endian; the stub then ends with 127. The
program inherits neither descriptor. Signals must have their default actions: an ignored SIGCHLD
would leave init_stub without news of its children (signal(7), process.reset_signals).

The machine code below is stub_*.s beside this file, assembled: a user's machine has no assembler.
tests/kernel/test_stubs.py assembles the sources again and compares each byte.

What it does not cover: as long as Python itself is in the container, before it executes the stub,
it must not be dumpable (PR_SET_DUMPABLE). On other machines than these two `available` is false,
and the program has to be executed by Python, as above.
"""

from __future__ import annotations

import fcntl
import os
import struct
from errno import EACCES, EFBIG, EINVAL

from ..errors import EngineError
from . import syscalls

CHAPTER = 17

# stub_exec.*.s. It ends in front of error_fd: the number follows as four bytes, little-endian.
_EXEC = {
    "x86_64": bytes.fromhex(
        """
        8b3d57000000be02000000ba01000000b8480000000f0585c07836488b7c2408488d742410488b04
        24488d14c6b83b0000000f05f7d8894424f88b3d1d000000488d7424f8ba04000000b8010000000f
        05bf7f000000b8e70000000f05
        """
    ),
    "aarch64": bytes.fromhex(
        """
        c0020018410080d2220080d2280380d2010000d4c001f837e00740f9e1430091e20340f9220c028b
        a81b80d2010000d4e003004be0831fb800010018e12300d1820080d2080880d2010000d4e00f80d2
        c80b80d2010000d4
        """
    ),
}

# stub_init.*.s, up to where it includes stub_exec.
_INIT = {
    "x86_64": bytes.fromhex(
        """
        48c74424f8ffffffffbf02000000488d7424f8488d5424f041ba08000000b80e0000000f05bf1100
        000031f631d24531d24531c0b8380000000f0585c00f880b0100000f848f00000089c38b3d260100
        00b8030000000f05bf03000000beffffffff31d2b8b40100000f05488d7c24f831f631d241ba0800
        0000b8800000000f0583f811741185c078e189df89c6b83e0000000f05ebd4bfffffffff488d7424
        e8ba010000004531d2b83d0000000f0539d8740685c07fdfebb18b4424e889c783e77f740b81c780
        000000e9a00000000fb6fce99800000031ff31f6b86d0000000f05b8270000000f05894424e831ff
        be10540000488d5424e8b8100000000f05bf02000000488d7424f031d241ba08000000b80e000000
        0f05
        """
    ),
    "aarch64": bytes.fromhex(
        """
        00008092e0831ff8400080d2e12300d1e24300d1030180d2e81080d2010000d4200280d2010080d2
        020080d2030080d2040080d2881b80d2010000d42009f83740050034f303002a000a0018280780d2
        010000d4600080d201008012020080d2883680d2010000d4e02300d1010080d2020080d2030180d2
        281180d2010000d41f440071e000005400ffff37e103002ae003132a281080d2010000d4f3ffff17
        00008092e16300d1220080d2030080d2882080d2010000d41f00136b800000541f000071ecfeff54
        e8ffff17e1835eb820180072600000540000021129000014203c085327000014000080d2010080d2
        481380d2010000d4881580d2010000d4e0831eb8000080d201828ad2e26300d1a80380d2010000d4
        400080d2e14300d1020080d2030180d2e81080d2010000d4
        """
    ),
}

# stub_join.*.s, up to where it includes stub_exec.
_JOIN = {
    "x86_64": bytes.fromhex(
        """
        8b3db3000000be02000000ba01000000b8480000000f0585c00f888e000000bf1180000031f631d2
        4531d24531c0b8380000000f0585c07557b8700000000f058b3d7700000085ff7812be0e54000031
        d2b8100000000f0585c07834
        """
    ),
    "aarch64": bytes.fromhex(
        """
        a0050018410080d2220080d2280380d2010000d4a004f837200290d2010080d2020080d2030080d2
        040080d2881b80d2010000d4c0020035a81380d2010000d4c0030018c000f837c1818ad2020080d2
        a80380d2010000d4a001f837
        """
    ),
}

# <elf.h>: e_machine
_EM = {"x86_64": 62, "aarch64": 183}

# Any address that is free at the start and whole in pages of 64 KiB (aarch64 may have them).
_ADDRESS = 0x400000
_PAGE = 0x10000

# memfd_create(2), Linux 6.3: says that the file is meant to be executed (see vm.memfd_noexec)
MFD_EXEC = 0x10
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def available() -> bool:
    """Whether there are stubs for this machine."""
    return os.uname().machine in _EM


def exec_stub(error_fd: int) -> int:
    """Make the stub that becomes the program; the descriptor of a sealed file, to execve.

    error_fd: the number that the pipe's end will have in the process that executes the stub.
    Make the stub before limits and seccomp are set: a limit on file sizes counts here too.
    Raises EngineError where there is no stub for this machine or memfds may not be executed.
    """
    return _seal("start", program(os.uname().machine, error_fd))


def init_stub(error_fd: int) -> int:
    """Make the stub that stays as PID 1 and runs the program as its child (run --init): passes
    signals on, reaps orphans, and ends as the program ends. Otherwise like `exec_stub`.

    It is docker's tini in 600 bytes, with one difference: a SIGTTIN or SIGTTOU that somebody
    sends is passed on too (gunicorn counts its workers up and down by them).
    """
    return _seal("init", program(os.uname().machine, error_fd, init=True))


def join_stub(error_fd: int, terminal: int = -1) -> int:
    """Make the stub that has the program born as a sibling, in the PID namespace that was joined:
    the end of `exec`. Otherwise like `exec_stub`.

    Nothing that holds more than the program will have is ever visible inside (CVE-2016-9962).
    terminal: the descriptor, in that process, of the terminal to control; -1 for none. Beside an
    errno, error_fd gets the program's pid as a negative number.
    """
    return _seal("join", program(os.uname().machine, error_fd, join=terminal))


def program(machine: str, error_fd: int, *, init: bool = False, join: int | None = None) -> bytes:
    """The whole file of a stub: an ELF header, the code, and the number of error_fd.

    machine: as uname(2) names it; EngineError for one that we have no code for. join: the terminal
    of a `join_stub`, None for another.
    """
    if machine not in _EM:
        raise EngineError(
            f"no start stub for the machine {machine!r}",
            hint="minicontainer knows x86_64 and aarch64, and runs without --init elsewhere",
        )
    if join is not None:
        return _executable(
            _EM[machine], _JOIN[machine] + _EXEC[machine] + struct.pack("<ii", error_fd, join)
        )
    code = (_INIT[machine] if init else b"") + _EXEC[machine]
    return _executable(_EM[machine], code + struct.pack("<i", error_fd))


def _executable(machine: int, code: bytes) -> bytes:
    """The smallest honest ELF file: one segment, which is the file itself, and no stack that can
    be executed (elf(5)). The code's first byte is where it starts."""
    ehdr, phdr = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
    start = ehdr.size + 2 * phdr.size
    size = start + len(code)
    return b"".join(
        (
            ehdr.pack(
                b"\x7fELF\x02\x01\x01",  # 64 bits, little-endian, version 1
                2,  # e_type: ET_EXEC, stays where it says
                machine,
                1,  # e_version
                _ADDRESS + start,  # e_entry
                ehdr.size,  # e_phoff: the program headers follow
                *(0, 0),  # e_shoff, e_flags: sections are for linkers
                *(ehdr.size, phdr.size, 2),  # e_ehsize, e_phentsize, e_phnum
                *(0, 0, 0),  # e_shentsize, e_shnum, e_shstrndx
            ),
            # p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
            phdr.pack(1, 5, 0, _ADDRESS, _ADDRESS, size, size, _PAGE),  # PT_LOAD, R+X
            phdr.pack(0x6474E551, 6, 0, 0, 0, 0, 0, 16),  # PT_GNU_STACK, R+W
            code,
        )
    )


def _seal(name: str, content: bytes) -> int:
    """A file in memory that no one, root included, can change any more (fcntl(2), "File sealing").

    Each start has its own: even a hole in the seal would spoil nothing that anyone else executes.
    """
    how = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        stub: int = syscalls.through("memfd_create", os.memfd_create, name, how | MFD_EXEC)
    except OSError as error:
        if error.errno == EACCES:
            raise EngineError(
                f"cannot make the start stub: {error}",
                hint="set the sysctl vm.memfd_noexec to 0 or 1",
            )
        if error.errno != EINVAL:
            raise
        stub = syscalls.through("memfd_create", os.memfd_create, name, how)  # before Linux 6.3
    try:
        if os.write(stub, content) != len(content):  # RLIMIT_FSIZE cuts, silently
            raise OSError(EFBIG, "cannot write the start stub: the limit on file sizes is too low")
        syscalls.through("fcntl", fcntl.fcntl, stub, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(stub)
        raise
    return stub
