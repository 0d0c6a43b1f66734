// The init of a container (run --init), for aarch64: starts the program as its child, passes every
// signal on to it, reaps every orphan, and ends as the program ends.
//
// Arguments and error report are those of stub_exec, which this file ends in: the child runs it.
// w19 holds the child's pid.

        .equ    SYS_ioctl, 29
        .equ    SYS_close, 57
        .equ    SYS_kill, 129
        .equ    SYS_rt_sigprocmask, 135
        .equ    SYS_rt_sigtimedwait, 137
        .equ    SYS_setpgid, 154
        .equ    SYS_getpid, 172
        .equ    SYS_clone, 220
        .equ    SYS_wait4, 260
        .equ    SYS_close_range, 436
        .equ    SIG_SETMASK, 2
        .equ    SIGCHLD, 17
        .equ    TIOCSPGRP, 0x5410
        .equ    WNOHANG, 1

        // Below the stack pointer, which stays where stub_exec wants it:
        .equ    every, 8                        // the set of all signals
        .equ    before, 16                      // the signals that were blocked before us
        .equ    scratch, 24                     // a wait status, a process group

init:   // A blocked signal waits for us, and one for PID 1 is not thrown away (signal(7) lets the
        // kernel drop what PID 1 has no handler for). So the whole program is one loop without any
        // handler, and there is no moment in which a signal could be missed.
        mov     x0, -1
        str     x0, [sp, -every]
        mov     x0, SIG_SETMASK
        sub     x1, sp, every
        sub     x2, sp, before
        mov     x3, 8
        mov     x8, SYS_rt_sigprocmask
        svc     0

        // clone, as libc's fork does: what lets a shell start a command lets us (seccomp).
        mov     x0, SIGCHLD
        mov     x1, 0
        mov     x2, 0
        mov     x3, 0
        mov     x4, 0
        mov     x8, SYS_clone
        svc     0
        tbnz    w0, 31, report
        cbz     w0, child
        mov     w19, w0

        // Now only the child holds error_fd, so that its execve ends the file. We keep 0, 1 and 2:
        // images write to /proc/1/fd/1 to reach the container's log. All else goes.
        ldr     w0, error_fd
        mov     x8, SYS_close
        svc     0
        mov     x0, 3
        mov     w1, -1
        mov     x2, 0
        mov     x8, SYS_close_range
        svc     0

listen: sub     x0, sp, every
        mov     x1, 0
        mov     x2, 0
        mov     x3, 8
        mov     x8, SYS_rt_sigtimedwait
        svc     0
        cmp     w0, SIGCHLD
        b.eq    reap
        tbnz    w0, 31, listen                  // EINTR: we were stopped, or traced
        mov     w1, w0
        mov     w0, w19
        mov     x8, SYS_kill
        svc     0
        b       listen

reap:   // Several children may stand behind one SIGCHLD: standard signals do not queue.
        mov     x0, -1
        sub     x1, sp, scratch
        mov     x2, WNOHANG
        mov     x3, 0
        mov     x8, SYS_wait4
        svc     0
        cmp     w0, w19
        b.eq    over
        cmp     w0, 0
        b.gt    reap                            // an orphan: it is gone now, as it should be
        b       listen

over:   // The program is gone: leave with its exit code, or with 128 + the signal that killed it
        // (wait(2): signal in bits 0-6, core dump 7, code 8-15). The kernel kills whoever is left
        // in a PID namespace when its PID 1 ends (pid_namespaces(7)).
        ldr     w1, [sp, -scratch]
        ands    w0, w1, 0x7f
        b.eq    exited
        add     w0, w0, 128
        b       exit
exited: ubfx    w0, w1, 8, 8
        b       exit

child:  // A process group of its own, and the foreground of the terminal if there is one: Ctrl-C
        // is for the program alone, and we do not pass on what it has got already. SIGTTOU would
        // stop us for taking the terminal from behind, but it is still blocked like all others.
        mov     x0, 0
        mov     x1, 0
        mov     x8, SYS_setpgid
        svc     0
        mov     x8, SYS_getpid
        svc     0
        str     w0, [sp, -scratch]
        mov     x0, 0
        mov     x1, TIOCSPGRP
        sub     x2, sp, scratch
        mov     x8, SYS_ioctl
        svc     0                               // ENOTTY: no terminal, nothing to do

        mov     x0, SIG_SETMASK
        sub     x1, sp, before
        mov     x2, 0
        mov     x3, 8
        mov     x8, SYS_rt_sigprocmask
        svc     0

        .include "stub_exec.aarch64.s"
