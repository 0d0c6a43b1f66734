"""Calls that this project does not make, each with its reason.

A line that has to break a rule says why in a comment: `# allowed: <reason>`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import source
from tests.support.engine import ROOT

ENGINE = ("minicontainer",)
BOOK = ("chapters", "docs/tools")
TESTS = ("tests",)

# What a container's root directory is called in this code.
ROOT_NAMES = {"rootfs", "rootfs_path", "root_path", "merged", "new_root"}

Rule = Callable[[ast.AST], bool]


def _name(node: ast.AST) -> str:
    """`os.path.join` for the expression of that name; empty for what is no plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return ""


def calls(*names: str) -> Rule:
    """A call of one of these names; `.extractall` is that method of anything."""

    def rule(node: ast.AST) -> bool:
        if not isinstance(node, ast.Call):
            return False
        called = _name(node.func)
        method = f".{node.func.attr}" if isinstance(node.func, ast.Attribute) else ""
        return called in names or method in names

    return rule


def imports(*modules: str) -> Rule:
    def rule(node: ast.AST) -> bool:
        if isinstance(node, ast.ImportFrom):
            return node.module in modules
        return isinstance(node, ast.Import) and any(a.name in modules for a in node.names)

    return rule


def keyword(name: str) -> Rule:
    """A keyword argument that is anything but the constant False or None."""

    def rule(node: ast.AST) -> bool:
        return (
            isinstance(node, ast.keyword)
            and node.arg == name
            and not (isinstance(node.value, ast.Constant) and not node.value.value)
        )

    return rule


def silent_except(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    if node.type is None:
        return True
    silent = all(
        isinstance(statement, (ast.Pass, ast.Continue))
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in node.body
    )
    types = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return silent and any(_name(kind) in ("Exception", "BaseException") for kind in types)


def _is_root(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and _name(node.func).rpartition(".")[2] in ("Path", "str"):
        return bool(node.args) and _is_root(node.args[0])
    return _name(node).rpartition(".")[2] in ROOT_NAMES


def joins_below_root(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        called = _name(node.func).rpartition(".")[2]
        return called in ("join", "joinpath") and (
            bool(node.args and _is_root(node.args[0]))
            or (isinstance(node.func, ast.Attribute) and _is_root(node.func.value))
        )
    if isinstance(node, ast.JoinedStr):
        return any(
            isinstance(part, ast.FormattedValue) and _is_root(part.value)
            and not (isinstance(after, ast.Constant) and not str(after.value).startswith("/"))
            for part, after in zip(node.values, node.values[1:], strict=False)
        )  # fmt: skip
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, (ast.Add, ast.Div))
        and _is_root(node.left)
    )


def clone_through_cdll(tree: ast.AST) -> bool:
    """clone3 called by a library object that gives the GIL away (CDLL), not PyDLL."""
    if not isinstance(tree, ast.Module):
        return False
    libraries = {
        _name(target)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        and _name(node.value.func).endswith("CDLL")
        for target in node.targets
    }  # fmt: skip

    def is_clone(node: ast.Call) -> bool:
        first = node.args[0] if node.args else None
        number = isinstance(first, ast.Constant) and first.value in (56, 220, 435)
        return number or (first is not None and "clone" in _name(first).lower())

    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("syscall", "clone", "clone3")
        and (_name(node.func.value) in libraries
             or (isinstance(node.func.value, ast.Call)
                 and _name(node.func.value.func).endswith("CDLL")))
        and (node.func.attr != "syscall" or is_clone(node))
        for node in ast.walk(tree)
    )  # fmt: skip


# name: (rule, where, reason, a sample that breaks it, a sample that keeps it)
RULES: dict[str, tuple[Rule, tuple[str, ...], str, str, str]] = {
    "tarfile extraction": (
        calls(".extractall", "tarfile.extract", "tar.extract", "archive.extract"),
        ENGINE + BOOK,
        "names, links and devices in a layer are hostile, and tarfile's filters are no boundary: "
        "image/layer.py places every entry by descriptor",
        "archive.extractall(target)",
        "archive.extractfile(member)",
    ),
    "path below a root": (
        joins_below_root,
        ENGINE,
        "a symbolic link inside leads the joined path to the host's file: "
        "use kernel/paths.open_in_root (openat2, RESOLVE_IN_ROOT)",
        'open(f"{rootfs}/etc/passwd")',
        "open_in_root(root_fd, 'etc/passwd', os.O_RDONLY)",
    ),
    "path below a root, joined": (
        joins_below_root,
        ENGINE,
        "the same, by os.path.join",
        "os.path.join(self.rootfs, name)",
        'os.path.join(directory, "rootfs")',
    ),
    "path below a root, by pathlib": (
        joins_below_root,
        ENGINE,
        "the same, by /",
        "Path(rootfs) / name",
        "total / name",
    ),
    "a shell": (
        keyword("shell"),
        ENGINE + BOOK + TESTS,
        "an argument with a space or a semicolon becomes a command: pass a list",
        "subprocess.run(line, shell=True)",
        "subprocess.run([program, argument], shell=False)",
    ),
    "a shell, by os": (
        calls("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
        ENGINE + BOOK + TESTS,
        "these always start a shell: pass a list to subprocess.run",
        "os.system(line)",
        "os.execv(path, arguments)",
    ),
    "preexec_fn": (
        keyword("preexec_fn"),
        ENGINE + BOOK + TESTS,
        "it runs Python between fork and exec with locks that no thread will free, "
        "and its error is lost: use kernel/process.spawn",
        "subprocess.Popen(command, preexec_fn=os.setsid)",
        "subprocess.Popen(command, start_new_session=True)",
    ),
    "silence": (
        silent_except,
        ENGINE + BOOK + TESTS,
        "a container whose protection failed in silence still runs: name the exception, "
        "or let it go up (fail closed)",
        "try: f()\nexcept Exception: pass",
        "try: f()\nexcept FileNotFoundError: pass",
    ),
    "bare except": (
        silent_except,
        ENGINE + BOOK + TESTS,
        "it also catches KeyboardInterrupt and SystemExit",
        "try: f()\nexcept: raise",
        "try: f()\nexcept BaseException: raise",
    ),
    "clone3 through CDLL": (
        clone_through_cdll,
        ENGINE + BOOK,
        "CDLL releases the GIL around the call, so the child may wait for ever for a lock that "
        "another thread of the parent held: use PyDLL (kernel/syscalls.py)",
        "libc = ctypes.CDLL(None)\nlibc.syscall(435, args, size)",
        "libc = ctypes.PyDLL(None)\nlibc.syscall(435, args, size)",
    ),
    "pickle": (
        imports("pickle", "marshal", "shelve", "dill"),
        ENGINE + BOOK + TESTS,
        "reading one runs what its writer wished, as root: use jsonio",
        "import pickle",
        "from minicontainer import jsonio",
    ),
    "eval": (
        calls("eval", "exec", "compile"),
        ENGINE,
        "text that arrives from an image or a user must never become code",
        "eval(text)",
        "int(text)",
    ),
    "mktemp": (
        calls("tempfile.mktemp", "os.tempnam"),
        ENGINE + BOOK + TESTS,
        "another user can make the name first, between the choice and the use",
        "tempfile.mktemp()",
        "tempfile.mkdtemp()",
    ),
    "sleep in a test": (
        calls("time.sleep", "sleep"),
        (*TESTS, "chapters"),
        "too short on a slow machine, too long on a fast one: wait for the event (a pidfd, a "
        "line of output, end of file)",
        "time.sleep(1)",
        "process.wait()",
    ),
}  # fmt: skip


def breaches(rule: Rule, text: str) -> Iterator[int]:
    """The lines that break the rule and do not say why they may."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if rule(node):
            first = getattr(node, "lineno", None) or getattr(
                getattr(node, "value", None), "lineno", 1
            )
            if "# allowed: " not in lines[first - 1]:
                yield first


@pytest.mark.parametrize("name", RULES)
def test_the_code_keeps_the_rule(name: str) -> None:
    rule, folders, reason, _, _ = RULES[name]
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in source.files(*folders)
        for line in breaches(rule, path.read_text())
    ]
    assert not found, f"{name}: {reason}"


@pytest.mark.parametrize("name", RULES)
def test_the_rule_sees_a_breach_and_only_that(name: str) -> None:
    rule, _, _, bad, good = RULES[name]
    assert list(breaches(rule, bad))
    assert not list(breaches(rule, good))


def test_a_reason_in_the_line_allows_it() -> None:
    rule = RULES["sleep in a test"][0]
    assert not list(breaches(rule, "time.sleep(1)  # allowed: the clock is what is tested"))
    assert list(breaches(rule, "time.sleep(1)  # allowed"))


def test_the_launcher_keeps_the_rules_too() -> None:
    text = Path(ROOT / "bin" / "minicontainer").read_text()
    for rule, folders, reason, _, _ in RULES.values():
        if ENGINE[0] in folders:
            assert not list(breaches(rule, text)), reason
