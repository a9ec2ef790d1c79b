"""A view of a run that cannot end it: its first error is logged, and the run continues without it."""

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from lmstream.errors import coded
from lmstream.hosts.container.observer import Observer
from lmstream.runtime import Progress

_log: Final = logging.getLogger("lmstream.run")


class Unfailing:
    """`with Unfailing(view) as view: view(progress)`. Stands for a view that may raise anything."""

    def __init__(self, view: Observer | None = None) -> None:
        """Without a `view`: for `attempt` alone."""
        self._view = view
        self.failed = False

    def __enter__(self) -> Self:
        if self._view is not None:
            self.attempt(self._view.__enter__)
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        if (view := self._view) is not None:
            self.attempt(lambda: view.__exit__(kind, e, trace), closing=True)

    def __call__(self, progress: Progress) -> None:
        if (view := self._view) is not None:
            self.attempt(lambda: view(progress))

    def attempt(self, work: Callable[[], object], *, closing: bool = False) -> None:
        """Do this for the view, unless it has failed; `closing` is done even then."""
        if self.failed and not closing:
            return
        try:
            work()
        except Exception as e:  # noqa: BLE001 - whatever a view raises, rows are worth more
            if not self.failed:
                self.failed = True
                text = "the view of the run failed, and the run continues without it: %s: %s"
                _log.warning(text, type(e).__name__, e, extra=coded("bug.unexpected"), exc_info=_debugging())


def _debugging() -> bool:
    return _log.isEnabledFor(logging.DEBUG)
