"""The one error that a user sees: what was being done, to what, why it failed, what to try."""

from __future__ import annotations


class EngineError(Exception):
    """A failure that has a sentence for the user.

    message: one line, lower case, no full stop; names the act, its object and the reason.
    hint: what a person can do about it, or None.
    exit_code: what the command ends with. Docker's meaning (docker run reference, "Exit status"):
    125 the engine failed, 126 the command cannot be run, 127 the command is not found.
    """

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int = 125) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def render(self) -> str:
        """The error as it is printed: one line, and a second one where there is a hint."""
        text = f"minicontainer: {self.message}"
        return f"{text}\nhint: {self.hint}" if self.hint else text
