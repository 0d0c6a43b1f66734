# The last act of `exec`, for x86-64: give birth to the program inside the container's PID namespace.
#
# setns(2) into a PID namespace moves only the children. So the process that has joined a container
# is in there with all but its number, and nobody inside can name it, trace it or read it, whatever
# powers they have. It must not fork before it is confined and this file is all that it consists
# of: the child is visible from birth.
#
# Arguments and error report are those of stub_exec, which this file ends in: the child runs it.
# Behind error_fd, which stubs.py appends, comes a second number: the descriptor of the terminal
# that the program is to control, or -1. The parent writes the child's pid to error_fd, negative
# (no errno is), as four bytes; the child is not ours but our parent's, who waits for it.

        .intel_syntax noprefix
        .equ    SYS_ioctl, 16
        .equ    SYS_clone, 56
        .equ    SYS_fcntl, 72
        .equ    SYS_setsid, 112
        .equ    SIGCHLD, 17
        .equ    CLONE_PARENT, 0x8000
        .equ    F_SETFD, 2
        .equ    FD_CLOEXEC, 1
        .equ    TIOCSCTTY, 0x540e

join:   # As in stub_exec: a program that is /proc/self/exe ends here, before it has children.
        mov     edi, [rip + error_fd]
        mov     esi, F_SETFD
        mov     edx, FD_CLOEXEC
        mov     eax, SYS_fcntl
        syscall
        test    eax, eax
        js      fail

        mov     edi, CLONE_PARENT + SIGCHLD
        xor     esi, esi
        xor     edx, edx
        xor     r10d, r10d
        xor     r8d, r8d
        mov     eax, SYS_clone
        syscall
        test    eax, eax
        jnz     report                          # the parent: -pid, or the errno

        # A session of its own, as every start has, and the terminal if there is one.
        mov     eax, SYS_setsid
        syscall
        mov     edi, [rip + error_fd + 4]
        test    edi, edi
        js      exec
        mov     esi, TIOCSCTTY
        xor     edx, edx
        mov     eax, SYS_ioctl
        syscall
        test    eax, eax
        js      report

        .include "stub_exec.x86_64.s"
