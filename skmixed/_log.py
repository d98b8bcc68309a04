"""What happens, for the log of a service and for those who watch."""

from __future__ import annotations

import logging

log = logging.getLogger("skmixed")


def tell(text: str, shown, level: int = logging.INFO) -> None:
    """A line for the logger ``skmixed``, printed too where the user asked to see it."""
    log.log(level, "%s", text)
    if shown:
        print(text, flush=True)
