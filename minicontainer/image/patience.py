"""How long to wait for a host, and how often to ask it again."""

from __future__ import annotations

import random

from ..errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

# A download that came this much further since it last broke off may break off again.
HEADWAY = 1 << 20


class Transient(EngineError):
    """A failure that may be gone in a moment.

    refused: nobody listens there at all. after: seconds that the host asked us to wait.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, refused: bool = False, after: float = 0
    ) -> None:
        super().__init__(message, hint=hint)
        self.refused = refused
        self.after = after


class Cancelled(EngineError):
    """The work was given up: another part of it failed, or the user pressed Ctrl-C."""

    def __init__(self) -> None:
        super().__init__("cancelled", exit_code=130)


class Patience:
    """How long to wait, in seconds, and how often to try.

    connect: for a connection and its TLS handshake. stall: for the next page of an answer.
    attempts: of one request, with pauses of `pause`, twice that, and so on in between.
    longest: the longest of these pauses, and the longest that a host may ask us to wait.
    """

    __slots__ = ("connect", "stall", "attempts", "pause", "longest")

    def __init__(
        self,
        connect: float = 15,
        stall: float = 30,
        attempts: int = 5,
        pause: float = 0.5,
        longest: float = 60,
    ) -> None:
        self.connect = connect
        self.stall = stall
        self.attempts = attempts
        self.pause = pause
        self.longest = longest


def persist(
    action: Callable[[], T],
    patience: Patience,
    stop: threading.Event,
    headway: Callable[[], int] = int,
    new: bool = False,
) -> T:
    """Do it, and again after each Transient failure, until patience ends: then raise that.

    stop: ends the waiting (Cancelled). headway: bytes that earlier attempts have brought; real
    headway renews the patience, so that a long download survives many short breaks. new: it is
    the first contact, and where nobody listens there is nobody: a wrong name does not mend.
    """
    attempt, reached = 1, 0
    while True:
        try:
            return action()
        except Transient as error:
            if headway() >= reached + HEADWAY:
                attempt, reached = 1, headway()
            hopeless = error.after > patience.longest or (new and error.refused)
            if hopeless or attempt >= patience.attempts:
                if attempt > 1:
                    error.message += f" (tried {attempt} times)"
                raise
            pause = min(patience.pause * 2 ** (attempt - 1), patience.longest)
            # Jitter: a thousand clients that one overload turned away must not return as one.
            pause = max(pause * random.uniform(0.5, 1), error.after)  # noqa: S311
            attempt += 1
        if stop.wait(pause):
            raise Cancelled
