"""The default policy: which system calls a container may make when nobody says otherwise.

It is docker's, rule for rule: moby/profiles, seccomp/default_linux.go at commit 02e898b (2026),
written anew by what the calls are for. A container of the default capabilities, its root too, is
refused 70 of the 385 calls of x86-64 with EPERM, and told of 6 more that there are none (ENOSYS):

- always: the kernel's keys (add_key, keyctl, request_key), loading another kernel (kexec), swap,
  io_uring, userfaultfd, pivot_root, nfsservctl, moving pages between processes and nodes, and old
  calls that nothing needs (uselib, ustat, sysfs, _sysctl, vm86);
- without the capability that they need in the kernel (CAPABILITIES): mount and its kin, new
  namespaces (unshare, setns, clone with a CLONE_NEW flag), bpf, perf_event_open, modules, the
  clock, reboot, chroot, iopl. The kernel would refuse most of these by itself, but for code that it
  has to run first, which has had its bugs; and a user namespace gives such capabilities to anyone;
- clone3 says ENOSYS: its flags lie behind a pointer, where no filter can see them, and a C library
  that is told so uses clone. So do the five that are newer than the newest of docker's list;
- socket of the address families that are not in FAMILIES, above all AF_VSOCK, which reaches the
  hypervisor past all network namespaces, and AF_ALG, the kernel's cryptography. What 32-bit
  programs ask of socketcall(2) cannot be told apart, and is allowed, as in docker;
- personality other than Linux's own: another one switches protections off;
- ptrace and process_vm_* before Linux 4.8, where a tracer could get around the filter.

All the capabilities in the world do not open what is not named here. What a call does to which file
is not for a filter to say.
"""

from __future__ import annotations

from . import flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHAPTER = 10

ALLOWED = {
    "files": """
        open openat openat2 creat close close_range dup dup2 dup3 fcntl fcntl64 flock
        read readv pread64 preadv preadv2 readahead write writev pwrite64 pwritev pwritev2
        lseek _llseek truncate truncate64 ftruncate ftruncate64 fallocate fadvise64 fadvise64_64
        copy_file_range sendfile sendfile64 splice tee vmsplice ioctl cachestat
        sync syncfs fsync fdatasync sync_file_range
        """,
    "names and attributes": """
        access faccessat faccessat2 stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat
        statx statfs statfs64 fstatfs fstatfs64 statmount listmount name_to_handle_at
        getcwd chdir fchdir mkdir mkdirat rmdir getdents getdents64 mknod mknodat umask
        link linkat symlink symlinkat readlink readlinkat unlink unlinkat
        rename renameat renameat2 chmod fchmod fchmodat fchmodat2
        chown chown32 lchown lchown32 fchown fchown32 fchownat
        utime utimes futimesat utimensat utimensat_time64
        getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat
        listxattr llistxattr flistxattr listxattrat
        removexattr lremovexattr fremovexattr removexattrat
        inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark
        """,
    "waiting": """
        poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64
        epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old
        epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4 pipe pipe2
        io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64
        """,
    "memory": """
        brk mmap mmap2 munmap mremap mprotect madvise mincore msync remap_file_pages
        mlock mlock2 mlockall munlock munlockall membarrier memfd_create memfd_secret mseal
        pkey_alloc pkey_free pkey_mprotect map_shadow_stack
        """,
    "processes": """
        fork vfork execve execveat exit exit_group wait4 waitid waitpid
        getpid getppid gettid getpgid getpgrp setpgid getsid setsid
        pidfd_open pidfd_send_signal process_mrelease prctl
        getpriority setpriority getrlimit setrlimit ugetrlimit prlimit64 getrusage
        ioprio_get ioprio_set getcpu sched_yield sched_getaffinity sched_setaffinity
        sched_getattr sched_setattr sched_getparam sched_setparam
        sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min
        sched_rr_get_interval sched_rr_get_interval_time64
        """,
    "threads": """
        futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue
        get_robust_list set_robust_list get_thread_area set_thread_area set_tid_address rseq
        """,
    "users": """
        getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32
        getresuid getresuid32 getresgid getresgid32 getgroups getgroups32
        setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32
        setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32
        setgroups setgroups32 capget capset
        """,
    "signals": """
        kill tkill tgkill pause alarm sigaltstack sigprocmask sigreturn restart_syscall
        rt_sigaction rt_sigprocmask rt_sigpending rt_sigreturn rt_sigsuspend
        rt_sigtimedwait rt_sigtimedwait_time64 rt_sigqueueinfo rt_tgsigqueueinfo
        """,
    # adjtimex and its kin also read; to set they want CAP_SYS_TIME.
    "time": """
        time times gettimeofday nanosleep clock_getres clock_getres_time64
        clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
        adjtimex clock_adjtime clock_adjtime64 getitimer setitimer
        timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64
        timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
        timerfd_settime timerfd_settime64
        """,
    "sockets": """
        socketpair socketcall bind connect listen accept accept4 shutdown
        getsockname getpeername getsockopt setsockopt send sendto sendmsg sendmmsg
        recv recvfrom recvmsg recvmmsg recvmmsg_time64
        """,
    "between processes": """
        ipc semget semop semctl semtimedop semtimedop_time64 shmget shmat shmctl shmdt
        msgget msgsnd msgrcv msgctl mq_open mq_unlink mq_getsetattr mq_notify
        mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64
        """,
    "the system": "uname sysinfo getrandom uretprobe riscv_hwprobe",
    "confining oneself further": """
        seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
        """,
}

TRACING = "ptrace process_vm_readv process_vm_writev"

# A call is allowed to a container whose bounding set has the capability.
CAPABILITIES = {
    "CAP_SYS_ADMIN": """
        mount umount umount2 mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick
        clone clone3 unshare setns sethostname setdomainname bpf perf_event_open
        fanotify_init lookup_dcookie quotactl quotactl_fd syslog
        lsm_get_self_attr lsm_set_self_attr lsm_list_modules
        """,
    "CAP_SYS_PTRACE": f"{TRACING} kcmp pidfd_getfd process_madvise",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_MODULE": "init_module finit_module delete_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy set_mempolicy set_mempolicy_home_node mbind",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
}

# By docker's (Go's) names of machines. A machine's 32-bit programs are meant too.
MACHINES = {
    ("amd64", "x32"): "arch_prctl",
    ("amd64", "x32", "x86"): "modify_ldt",
    ("arm", "arm64"): """
        arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls
        """,
    ("riscv64",): "riscv_flush_icache",
}

# <linux/socket.h>, the families that socket(2) may name. All below 12 (AF_UNIX 1, AF_INET 2,
# AF_INET6 10 and old ones), NETBEUI, SECURITY, KEY, NETLINK, PACKET, ASH, RDS, SNA, PPPOX, LLC, IB,
# MPLS, CAN, TIPC, BLUETOOTH, IUCV, RXRPC, PHONET, IEEE802154, NFC, KCM, QIPCRTR, SMC, XDP, MCTP.
# They are listed one by one because a filter compares 64 bits and socket(2) reads 32: "all but
# AF_VSOCK" would let AF_VSOCK pass with any bit set above.
FIRST_FAMILIES = 12
FAMILIES = (*range(13, 19), 21, 22, 24, *range(26, 34), 35, 36, 39, 41, 42, 43, 44, 45)

# PER_LINUX and PER_LINUX32, each also with UNAME26, and the question what it is (personality(2)).
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

NEW_NAMESPACES = (
    flags.CLONE_NEWNS | flags.CLONE_NEWUTS | flags.CLONE_NEWIPC | flags.CLONE_NEWUSER
    | flags.CLONE_NEWPID | flags.CLONE_NEWNET | flags.CLONE_NEWCGROUP
)  # fmt: skip

EPERM, ENOSYS = 1, 38


def profile() -> dict[str, Any]:
    """The policy in docker's JSON format, for `seccomp_profile.select`."""
    families = [("SCMP_CMP_LT", FIRST_FAMILIES), *(("SCMP_CMP_EQ", n) for n in FAMILIES)]
    no_admin = {"caps": ["CAP_SYS_ADMIN"]}
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "archMap": [
            {
                "architecture": "SCMP_ARCH_X86_64",
                "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            },
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        ],
        "syscalls": [
            _allow(" ".join(ALLOWED.values())),
            _allow(TRACING, includes={"minKernel": "4.8"}),
            *(_allow("socket", args=[_is(*family)]) for family in families),
            *(_allow("personality", args=[_is("SCMP_CMP_EQ", n)]) for n in PERSONALITIES),
            *(_allow(names, includes={"arches": [*m]}) for m, names in MACHINES.items()),
            *(_allow(names, includes={"caps": [cap]}) for cap, names in CAPABILITIES.items()),
            _allow(
                "clone",
                args=[_is("SCMP_CMP_MASKED_EQ", NEW_NAMESPACES, 0)],
                excludes=no_admin,
            ),
            {
                "names": ["clone3"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": ENOSYS,
                "excludes": no_admin,
            },
        ],
    }


def _allow(names: str, **conditions: Any) -> dict[str, Any]:
    return {"names": names.split(), "action": "SCMP_ACT_ALLOW", **conditions}


def _is(operator: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": 0, "op": operator, "value": value, "valueTwo": second}
