"""A static program that makes every system call of this machine with arguments that do nothing, and
prints what each returned: what a container's filter lets through, seen from inside."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.kernel import bpf

# Calls that would end or stop the program, or change it so that it cannot go on. Descriptor and
# address -1 make nearly everything else fail before it does anything.
LEFT_OUT = set(
    "exit exit_group pause rt_sigreturn rt_sigsuspend fork vfork execve execveat select pselect6 "
    "poll ppoll read epoll_wait brk munmap mremap sched_yield vhangup kill tkill tgkill alarm "
    "sync setsid restart_syscall wait4 waitid getpgrp rseq set_tid_address set_robust_list "
    "shutdown uretprobe uprobe reboot seccomp setuid setgid setreuid setregid setresuid setresgid "
    "setfsuid setfsgid munlockall mlockall prctl arch_prctl modify_ldt iopl personality unshare "
    "clone umask close_range setpgid landlock_restrict_self swapoff swapon kexec_load sethostname "
    "setdomainname setpriority ioprio_set nice pidfd_send_signal write getrandom mprotect "
    "sigaltstack close rt_sigprocmask rt_sigaction sched_setparam sched_setscheduler "
    "sched_setaffinity".split()
)
# Calls whose answer depends on an argument, with one that a filter may refuse and no harm follows.
CHOSEN = {
    "unshare": [(0,)],
    "personality": [(0xFFFFFFFF,), (0xFFFFFFFF00000000 | 4,), (0x0040000,)],
    "clone": [(0x10000000 | 0x00000200,)],  # CLONE_NEWUSER with CLONE_FS, which the kernel refuses
    "socket": [(family, 9999, 0) for family in (0, 1, 2, 10, 12, 16, 17, 19, 38, 40, 44, 46)],
    "reboot": [(0, 0, 0)],
    "prctl": [(9999,)],
    "swapon": [(2**64 - 1,)],
    "swapoff": [(2**64 - 1,)],
    "sethostname": [(2**64 - 1, 5)],
    "iopl": [(99,)],
    "kexec_load": [(0, 99, 0, 0)],
}


def calls() -> list[tuple[str, str, tuple[int, ...]]]:
    """(label, name, arguments) of all calls."""
    minus = (2**64 - 1,) * 6
    found = [(name, name, minus) for name in sorted(bpf.TABLES["x86_64"]) if name not in LEFT_OUT]
    for name, several in CHOSEN.items():
        found = [entry for entry in found if entry[0] != name]
        found += [(f"{name}({args[0]:#x})", name, args) for args in several]
    return found


def build(target: Path) -> None:
    """Compile the program, without a C library."""
    rows = ",\n".join(
        f'{{"{label}", {bpf.TABLES["x86_64"][name]}, '
        f"{{{', '.join(f'{value}ul' for value in (*args, *(0,) * (6 - len(args))))}}}}}"
        for label, name, args in calls()
    )
    source = target.with_suffix(".c")
    source.write_text(
        f"""
static const struct {{ const char *name; long number; unsigned long a[6]; }} calls[] = {{
{rows}
}};
static long call(long n, unsigned long *a) {{
    register unsigned long r10 __asm__("r10") = a[3], r8 __asm__("r8") = a[4],
        r9 __asm__("r9") = a[5];
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "0"(n), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10),
                     "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return r;
}}
static void say(const char *text, unsigned long size) {{
    unsigned long a[6] = {{1, (unsigned long)text, size}};
    call(1, a);
}}
void _start(void) {{
    for (unsigned long i = 0; i < sizeof calls / sizeof *calls; i++) {{
        unsigned long a[6], size = 0;
        for (int k = 0; k < 6; k++) a[k] = calls[i].a[k];
        long r = call(calls[i].number, a);
        char digits[8];
        int at = 8;
        digits[--at] = '\\n';
        r = r < 0 && r > -4096 ? -r : 0;
        do digits[--at] = '0' + r % 10; while (r /= 10);
        while (calls[i].name[size]) size++;
        say(calls[i].name, size);
        say(" ", 1);
        say(digits + at, 8 - at);
    }}
    unsigned long none[6] = {{0}};
    call(231, none);
}}
"""
    )
    subprocess.run(
        ["cc", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-O1", "-o",
         target, source],
        check=True,
    )  # fmt: skip
    source.unlink()


def read(output: str) -> dict[str, int]:
    """{label: errno, 0 for none} of what the program printed."""
    rows = (line.rsplit(" ", 1) for line in output.splitlines())
    return {label: int(number) for label, number in rows}
