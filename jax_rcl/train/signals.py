"""Stopping on request: SIGTERM and Ctrl-C are noted for the loop to act on."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupted(Exception):
    """A run stopped on request, after a checkpoint was written.

    Attributes:
      number: of the signal, such as `signal.SIGTERM`.
      step: updates made; the run continues from there.
    """

    def __init__(self, number: int, step: int) -> None:
        """Says which signal stopped the run, and where."""
        self.number, self.step = number, step
        name = signal.Signals(number).name
        super().__init__(f"{name}: saved step {step}; the same command continues")


class Signals:
    """Within its `with` block, the first SIGTERM or Ctrl-C is only noted.

    A second one acts as usual, for whoever cannot wait. Outside the main thread, where
    Python allows no handlers, nothing is caught.

    Attributes:
      number: of the signal that came, or None.
    """

    caught = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        """No signal came yet."""
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        """Starts to listen."""
        if threading.current_thread() is threading.main_thread():
            for number in self.caught:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restores the earlier handlers."""
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
