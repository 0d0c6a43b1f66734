// The last act of `exec`, for aarch64: give birth to the program inside the container's PID
// namespace.
//
// setns(2) into a PID namespace moves only the children. So the process that has joined a container
// is in there with all but its number, and nobody inside can name it, trace it or read it, whatever
// powers they have. It must not fork before it is confined and this file is all that it consists
// of: the child is visible from birth.
//
// Arguments and error report are those of stub_exec, which this file ends in: the child runs it.
// Behind error_fd, which stubs.py appends, comes a second number: the descriptor of the terminal
// that the program is to control, or -1. The parent writes the child's pid to error_fd, negative
// (no errno is), as four bytes; the child is not ours but our parent's, who waits for it.

        .equ    SYS_fcntl, 25
        .equ    SYS_ioctl, 29
        .equ    SYS_setsid, 157
        .equ    SYS_clone, 220
        .equ    SIGCHLD, 17
        .equ    CLONE_PARENT, 0x8000
        .equ    F_SETFD, 2
        .equ    FD_CLOEXEC, 1
        .equ    TIOCSCTTY, 0x540e

join:   // As in stub_exec: a program that is /proc/self/exe ends here, before it has children.
        ldr     w0, error_fd
        mov     x1, F_SETFD
        mov     x2, FD_CLOEXEC
        mov     x8, SYS_fcntl
        svc     0
        tbnz    w0, 31, fail

        mov     x0, CLONE_PARENT + SIGCHLD
        mov     x1, 0
        mov     x2, 0
        mov     x3, 0
        mov     x4, 0
        mov     x8, SYS_clone
        svc     0
        cbnz    w0, report                      // the parent: -pid, or the errno

        // A session of its own, as every start has, and the terminal if there is one.
        mov     x8, SYS_setsid
        svc     0
        ldr     w0, error_fd + 4
        tbnz    w0, 31, exec
        mov     x1, TIOCSCTTY
        mov     x2, 0
        mov     x8, SYS_ioctl
        svc     0
        tbnz    w0, 31, report

        .include "stub_exec.aarch64.s"
