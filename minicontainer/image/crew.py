"""A few threads that work while one waits, and that the waiting one can drop at any moment."""

from __future__ import annotations

import queue
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


class Outcome:
    """What became of a task: its value, or the exception that ended it."""

    __slots__ = ("task", "_value", "_error")

    def __init__(self, task: object, value: Any, error: BaseException | None) -> None:
        self.task = task
        self._value = value
        self._error = error

    def get(self) -> Any:
        """The value; raises the task's exception in the thread that waits."""
        if self._error is not None:
            raise self._error
        return self._value


class Crew:
    """One daemon thread per tool; each task is a function that is given the thread's tool.

    Daemons, since concurrent.futures would make the interpreter's exit wait for a thread that
    sits in connect(2) or in getaddrinfo(3), and Ctrl-C with it. Outcomes arrive in `outcomes`,
    whose get() a signal interrupts; several crews may share one queue.
    """

    def __init__(self, tools: Sequence[Any], outcomes: queue.SimpleQueue[Outcome]) -> None:
        self._tasks: queue.SimpleQueue[tuple[object, Callable[[Any], Any]] | None]
        self._tasks = queue.SimpleQueue()
        self._outcomes = outcomes
        self._threads = [
            threading.Thread(target=self._work, args=(tool,), daemon=True) for tool in tools
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, task: object, function: Callable[[Any], Any]) -> None:
        """Have a thread call the function; task: how the Outcome will be known."""
        self._tasks.put((task, function))

    def _work(self, tool: Any) -> None:
        while (job := self._tasks.get()) is not None:
            task, function = job
            try:
                outcome = Outcome(task, function(tool), None)
            except BaseException as error:  # Outcome.get raises it again
                outcome = Outcome(task, None, error)
            self._outcomes.put(outcome)

    def dismiss(self, seconds: float) -> None:
        """Begin no further task, and wait that long for all that are in the middle of one."""
        try:
            while True:
                self._tasks.get_nowait()
        except queue.Empty:
            pass
        for _ in self._threads:
            self._tasks.put(None)
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
