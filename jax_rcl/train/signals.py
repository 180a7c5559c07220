"""Stopping on request: SIGTERM and Ctrl-C are noted for the loop to act on."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupted(Exception):
    """A run stopped by signal `number`, after a checkpoint of `step` was written."""

    def __init__(self, number: int, step: int) -> None:
        """Says which signal stopped the run, and where."""
        self.number, self.step = number, step
        name = signal.Signals(number).name
        super().__init__(f"{name}: saved step {step}; the same command continues")


class Asked(KeyboardInterrupt):
    """What `Signals.at_once` raises where the signal comes."""


class Signals(contextlib.ExitStack):
    """Within its `with` block, the first SIGTERM or Ctrl-C is only noted.

    Within `at_once` it raises `Asked` as well. A second one acts as usual, for whoever
    cannot wait. Outside the main thread, where Python allows no handlers, nothing is
    caught.

    Attributes:
      number: of the signal that came, or None.
    """

    caught = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        super().__init__()
        self.number: int | None = None
        self._raises = False

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in self.caught:
                before = signal.signal(number, self._note)
                self.callback(signal.signal, number, before)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self.close()  # restores the earlier handlers
        if self._raises:
            raise Asked

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """What is within is left when a signal comes, or has come before.

        Raises:
          Asked: one did.
        """
        self._raises = True
        try:
            if self.number is not None:
                raise Asked
            yield
        finally:
            self._raises = False
