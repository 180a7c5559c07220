"""Stopping on request: SIGTERM and Ctrl-C are noted for the loop to act on."""

import contextlib
import signal
import threading
from types import FrameType


class Interrupted(Exception):
    """A run stopped by signal `number`, after a checkpoint of `step` was written."""

    def __init__(self, number: int, step: int) -> None:
        """Says which signal stopped the run, and where."""
        self.number, self.step = number, step
        name = signal.Signals(number).name
        super().__init__(f"{name}: saved step {step}; the same command continues")


class Signals(contextlib.ExitStack):
    """Within its `with` block, the first SIGTERM or Ctrl-C is only noted.

    A second one acts as usual, for whoever cannot wait. Outside the main thread, where
    Python allows no handlers, nothing is caught.

    Attributes:
      number: of the signal that came, or None.
    """

    caught = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        super().__init__()
        self.number: int | None = None

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in self.caught:
                before = signal.signal(number, self._note)
                self.callback(signal.signal, number, before)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self.close()  # restores the earlier handlers
