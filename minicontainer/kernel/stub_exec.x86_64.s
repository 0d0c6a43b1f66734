# The last act of a start, for x86-64: run the container's program, or say why that failed.
#
# Started as      argv = [path, arg0, arg1, ...], envp = the program's environment
# runs            execve(path, [arg0, arg1, ...], envp)
# on failure      writes errno to error_fd as four bytes, little-endian, and exits with 127
#
# stubs.py puts an ELF header in front and the number of error_fd behind. System calls: the number
# is in rax, the arguments are in rdi, rsi, rdx, r10, r8, r9; rax comes back as -errno on failure,
# and rcx and r11 are lost (syscall(2)).

        .intel_syntax noprefix
        .equ    SYS_write, 1
        .equ    SYS_execve, 59
        .equ    SYS_fcntl, 72
        .equ    SYS_exit_group, 231
        .equ    F_SETFD, 2
        .equ    FD_CLOEXEC, 1

exec:   # error_fd had to survive our own execve. It must not survive the next one: that closes it,
        # and the engine reads end of file as "the program runs".
        mov     edi, [rip + error_fd]
        mov     esi, F_SETFD
        mov     edx, FD_CLOEXEC
        mov     eax, SYS_fcntl
        syscall
        # It is gone already: then an image whose program is /proc/self/exe, or "#!/proc/self/exe",
        # has started us a second time. Here that is the end; it could go round forever.
        test    eax, eax
        js      fail

        # A new process finds on its stack: argc, argv[0], ..., argv[argc-1], 0, envp[0], ..., 0.
        mov     rdi, [rsp + 8]                  # path = argv[0]
        lea     rsi, [rsp + 16]                 # the program's argv = &argv[1]
        mov     rax, [rsp]
        lea     rdx, [rsi + 8 * rax]            # envp: argc entries after &argv[1]
        mov     eax, SYS_execve
        syscall                                 # comes back only on failure

report: # Nothing handles a signal here, so no one else writes below the stack pointer.
        neg     eax
        mov     [rsp - 8], eax
        mov     edi, [rip + error_fd]
        lea     rsi, [rsp - 8]
        mov     edx, 4
        mov     eax, SYS_write
        syscall

fail:   mov     edi, 127
exit:   mov     eax, SYS_exit_group
        syscall
error_fd:                                       # .int, appended by stubs.py
