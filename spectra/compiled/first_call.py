"""Says when loops are compiled, which only a first run does: later ones find them on disk."""

from __future__ import annotations

import logging
from typing import Any

from numba.core import event

_LOG = logging.getLogger("mambascope")


class _Listener(event.Listener):  # type: ignore[misc]
    """Hears of every compilation; one that is read from disk is none."""

    def __init__(self) -> None:
        self.told = False

    def on_start(self, event: Any) -> None:
        function = getattr(event.data.get("dispatcher"), "py_func", None)
        module = getattr(function, "__module__", None) or ""
        if not self.told and module.startswith("mambascope."):
            self.told = True
            _LOG.warning(  # shown without any set-up too: half a minute of silence looks like a fault
                "compiling loops for this processor (up to half a minute); kept on disk where that can be written"
            )

    def on_end(self, event: Any) -> None:
        """Nothing is said at the end."""


def listen() -> None:
    """Log one line when the first of our loops is compiled in this process."""
    event.register("numba:compile", _Listener())
