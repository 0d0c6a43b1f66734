"""Chapter 10: there is a filter; it refuses what nobody needs, and nothing that programs need."""

from __future__ import annotations

from chapters.ch10_seccomp.attack import LAST, NUMBERS, Program
from chapters.conftest import Container


def test_the_kernel_says_that_there_is_a_filter(stage: Container) -> None:
    with stage.start() as container:
        assert container.status("Seccomp") == "2"
        assert int(container.status("Seccomp_filters")) >= 1


def test_it_holds_for_all_descendants(stage: Container) -> None:
    script = "sh -c 'sh -c \"grep Seccomp: /proc/self/status\"'"
    assert stage.output(script).split() == ["Seccomp:", "2"]


def test_no_namespace_can_be_made(stage: Container) -> None:
    """Neither by unshare, nor by the bits of clone."""
    assert "not permitted" in stage.output("unshare -U true").lower()
    assert "not permitted" in stage.output("unshare -U -r -m true").lower()


def errno_of(stage: Container, name: str, *arguments: int) -> int:
    """The errno of one system call, made inside; 0 for none."""
    program = Program()
    program.call(name, *arguments)
    program.call("exit_group", LAST)
    program.write(stage.rootfs / "bin" / "one-call")
    code = stage.run("/bin/one-call").returncode
    return 256 - code if code > 128 else 0


def test_keys_are_not_reached(stage: Container) -> None:
    """add_key and keyctl with arguments that mean nothing: not EINVAL or EFAULT, but EPERM."""
    assert errno_of(stage, "keyctl", 9999, 0, 0, 0, 0) == 1
    assert errno_of(stage, "add_key", 0, 0, 0, 0, 0) == 1


def test_sockets_by_their_family(stage: Container) -> None:
    """AF_VSOCK is refused, whatever stands above the 32 bits that socket(2) reads."""
    assert "socket" in NUMBERS
    for family in (40, 40 | 1 << 32, 38):
        assert errno_of(stage, "socket", family, 1, 0) == 1
    for family in (1, 2, 10):
        assert errno_of(stage, "socket", family, 1, 0) != 1


def test_programs_go_on(stage: Container) -> None:
    script = """
        (sleep 0.01; echo child) & wait
        echo piped | cat
        touch /tmp/x && chmod 600 /tmp/x && chown 1 /tmp/x && ls -ln /tmp/x | cut -c 1-10
        kill -0 $$ && echo signalled
    """
    assert stage.output(script).split() == ["child", "piped", "-rw-------", "signalled"]
