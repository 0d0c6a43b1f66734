// The last act of a start, for aarch64: run the container's program, or say why that failed.
//
// Started as      argv = [path, arg0, arg1, ...], envp = the program's environment
// runs            execve(path, [arg0, arg1, ...], envp)
// on failure      writes errno to error_fd as four bytes, little-endian, and exits with 127
//
// stubs.py puts an ELF header in front and the number of error_fd behind. System calls: the number
// is in x8, the arguments are in x0 to x5; x0 comes back, as -errno on failure, and all other
// registers are kept (syscall(2)).

        .equ    SYS_fcntl, 25
        .equ    SYS_write, 64
        .equ    SYS_exit_group, 94
        .equ    SYS_execve, 221
        .equ    F_SETFD, 2
        .equ    FD_CLOEXEC, 1

exec:   // error_fd had to survive our own execve. It must not survive the next one: that closes it,
        // and the engine reads end of file as "the program runs".
        ldr     w0, error_fd
        mov     x1, F_SETFD
        mov     x2, FD_CLOEXEC
        mov     x8, SYS_fcntl
        svc     0
        // It is gone already: then an image whose program is /proc/self/exe, or "#!/proc/self/exe",
        // has started us a second time. Here that is the end; it could go round forever.
        tbnz    w0, 31, fail

        // A new process finds on its stack: argc, argv[0], ..., argv[argc-1], 0, envp[0], ..., 0.
        ldr     x0, [sp, 8]                     // path = argv[0]
        add     x1, sp, 16                      // the program's argv = &argv[1]
        ldr     x2, [sp]
        add     x2, x1, x2, lsl 3               // envp: argc entries after &argv[1]
        mov     x8, SYS_execve
        svc     0                               // comes back only on failure

report: // Nothing handles a signal here, so no one else writes below the stack pointer.
        neg     w0, w0
        str     w0, [sp, -8]
        ldr     w0, error_fd
        sub     x1, sp, 8
        mov     x2, 4
        mov     x8, SYS_write
        svc     0

fail:   mov     x0, 127
exit:   mov     x8, SYS_exit_group
        svc     0
error_fd:                                       // .int, appended by stubs.py
