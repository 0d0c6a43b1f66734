# The init of a container (run --init), for x86-64: starts the program as its child, passes every
# signal on to it, reaps every orphan, and ends as the program ends.
#
# Arguments and error report are those of stub_exec, which this file ends in: the child runs it.
# rbx holds the child's pid.

        .intel_syntax noprefix
        .equ    SYS_close, 3
        .equ    SYS_rt_sigprocmask, 14
        .equ    SYS_ioctl, 16
        .equ    SYS_getpid, 39
        .equ    SYS_clone, 56
        .equ    SYS_wait4, 61
        .equ    SYS_kill, 62
        .equ    SYS_setpgid, 109
        .equ    SYS_rt_sigtimedwait, 128
        .equ    SYS_close_range, 436
        .equ    SIG_SETMASK, 2
        .equ    SIGCHLD, 17
        .equ    TIOCSPGRP, 0x5410
        .equ    WNOHANG, 1

        # Below the stack pointer, which stays where stub_exec wants it:
        .equ    every, -8                       # the set of all signals
        .equ    before, -16                     # the signals that were blocked before us
        .equ    scratch, -24                    # a wait status, a process group

init:   # A blocked signal waits for us, and one for PID 1 is not thrown away (signal(7) lets the
        # kernel drop what PID 1 has no handler for). So the whole program is one loop without any
        # handler, and there is no moment in which a signal could be missed.
        mov     qword ptr [rsp + every], -1
        mov     edi, SIG_SETMASK
        lea     rsi, [rsp + every]
        lea     rdx, [rsp + before]
        mov     r10d, 8
        mov     eax, SYS_rt_sigprocmask
        syscall

        # clone, as libc's fork does: what lets a shell start a command lets us (seccomp).
        mov     edi, SIGCHLD
        xor     esi, esi
        xor     edx, edx
        xor     r10d, r10d
        xor     r8d, r8d
        mov     eax, SYS_clone
        syscall
        test    eax, eax
        js      report
        jz      child
        mov     ebx, eax

        # Now only the child holds error_fd, so that its execve ends the file. We keep 0, 1 and 2:
        # images write to /proc/1/fd/1 to reach the container's log. All else goes.
        mov     edi, [rip + error_fd]
        mov     eax, SYS_close
        syscall
        mov     edi, 3
        mov     esi, -1
        xor     edx, edx
        mov     eax, SYS_close_range
        syscall

listen: lea     rdi, [rsp + every]
        xor     esi, esi
        xor     edx, edx
        mov     r10d, 8
        mov     eax, SYS_rt_sigtimedwait
        syscall
        cmp     eax, SIGCHLD
        je      reap
        test    eax, eax
        js      listen                          # EINTR: we were stopped, or traced
        mov     edi, ebx
        mov     esi, eax
        mov     eax, SYS_kill
        syscall
        jmp     listen

reap:   # Several children may stand behind one SIGCHLD: standard signals do not queue.
        mov     edi, -1
        lea     rsi, [rsp + scratch]
        mov     edx, WNOHANG
        xor     r10d, r10d
        mov     eax, SYS_wait4
        syscall
        cmp     eax, ebx
        je      over
        test    eax, eax
        jg      reap                            # an orphan: it is gone now, as it should be
        jmp     listen

over:   # The program is gone: leave with its exit code, or with 128 + the signal that killed it
        # (wait(2): signal in bits 0-6, core dump 7, code 8-15). The kernel kills whoever is left
        # in a PID namespace when its PID 1 ends (pid_namespaces(7)).
        mov     eax, [rsp + scratch]
        mov     edi, eax
        and     edi, 0x7f
        jz      exited
        add     edi, 128
        jmp     exit
exited: movzx   edi, ah
        jmp     exit

child:  # A process group of its own, and the foreground of the terminal if there is one: Ctrl-C
        # is for the program alone, and we do not pass on what it has got already. SIGTTOU would
        # stop us for taking the terminal from behind, but it is still blocked like all others.
        xor     edi, edi
        xor     esi, esi
        mov     eax, SYS_setpgid
        syscall
        mov     eax, SYS_getpid
        syscall
        mov     [rsp + scratch], eax
        xor     edi, edi
        mov     esi, TIOCSPGRP
        lea     rdx, [rsp + scratch]
        mov     eax, SYS_ioctl
        syscall                                 # ENOTTY: no terminal, nothing to do

        mov     edi, SIG_SETMASK
        lea     rsi, [rsp + before]
        xor     edx, edx
        mov     r10d, 8
        mov     eax, SYS_rt_sigprocmask
        syscall

        .include "stub_exec.x86_64.s"
