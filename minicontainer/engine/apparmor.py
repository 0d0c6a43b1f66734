"""The AppArmor profile of a container: one that was named, or the engine's own, or none.

The engine's own is docker's (moby, profiles/apparmor/template.go), under another name. It forbids
little that the other walls do not forbid too; it stands when one of them is taken away.
"""

from __future__ import annotations

import os

from ..errors import EngineError
from ..kernel import apparmor, users
from ..kernel.apparmor import UNCONFINED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .record import Record

DEFAULT = "minicontainer-default"
PARSERS = ("/sbin/apparmor_parser", "/usr/sbin/apparmor_parser", "/usr/local/sbin/apparmor_parser")
_TUNABLES, _BASE = "tunables/global", "abstractions/base"

# Files of /proc that belong to no process, and those of /proc/sys outside of kernel/shm*, are not
# written; nor is /sys outside of fs/cgroup. AppArmor has no "all but": hence the letters.
PROFILE = """\
%(variables)s
profile %(name)s flags=(attach_disconnected,mediate_deleted) {
  %(base)s
  network,
  capability,
  file,
  umount,

  # The engine stops and kills it; its own processes may signal and trace each other.
  signal (receive) peer=unconfined,
  signal (send,receive) peer=%(name)s,
  ptrace (trace,read,tracedby,readby) peer=%(name)s,

  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  deny mount,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
"""


def choose(record: Record) -> str:
    """The profile of a container: the one that was asked for, else the default where it can be had
    and the container is not privileged (moby, WithApparmor); "" for none."""
    if record.apparmor or record.privileged:
        return record.apparmor
    return "" if unavailable() else DEFAULT


def prepare(record: Record) -> dict[str, str]:
    """`apparmorProfile` for its `process` object; nothing for no profile.

    The default is loaded when the kernel does not have it yet. EngineError when that fails, though
    there is a parser.
    """
    profile = choose(record)
    if profile in ("", UNCONFINED):
        return {}
    if profile == DEFAULT and not record.apparmor and not apparmor.is_loaded(DEFAULT):
        load(_parser())
    return {"apparmorProfile": profile}


def unavailable() -> str:
    """Why containers do not get the default profile on this machine; "" where they do."""
    if not apparmor.is_enabled():
        return "this machine has no AppArmor"
    if users.is_mapped():
        return "only the machine's root may see and load AppArmor profiles"
    try:
        if apparmor.is_loaded(DEFAULT) or _parser():
            return ""
    except OSError:
        return "the AppArmor profiles of this machine cannot be read"
    return f"the AppArmor profile {DEFAULT} is not loaded, and apparmor_parser is not installed"


def load(parser: str) -> None:
    """Have apparmor_parser(8) compile the default profile and put it into the kernel."""
    from subprocess import run

    # The distribution's own, where they are, know what its kernel asks about besides.
    known = all(os.path.exists(f"/etc/apparmor.d/{part}") for part in (_TUNABLES, _BASE))
    variables, base = "@{PROC}=/proc/", ""
    if known:
        variables, base = f"include <{_TUNABLES}>", f"include <{_BASE}>"
    text = PROFILE % {"name": DEFAULT, "variables": variables, "base": base}
    # -K: no compiled copy is left in /var/cache. Another engine may have been quicker: replace.
    done = run([parser, "-Kr"], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise EngineError(
            f"cannot load the AppArmor profile {DEFAULT}: {said}",
            hint="--security-opt apparmor=unconfined does without",
        )


def _parser() -> str:
    return next((path for path in PARSERS if os.access(path, os.X_OK)), "")
