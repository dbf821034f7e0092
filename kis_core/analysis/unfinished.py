"""What was asked for and is not finished: kept on disk, so that after a crash or a restart it can be taken up again."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from kis_core.errors import KisError
from kis_core.read_only import read_only
from kis_core.request import Request
from kis_core.store.store import Store, key_of

KIND = "asked"  # of the keys they are stored under


@dataclass(frozen=True, slots=True)
class UnfinishedRequest:
    """An analysis that was begun.

    Attributes:
        request: what was asked for.
        device: where it was to run.
        when: it was begun last, in seconds since 1970; None if that is not known.
    """

    request: Request
    device: str = "auto"
    when: float | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """What tells it from any other, whether or not its model is on this machine yet."""
        return key_of(KIND, asdict(self.request))


def remember(store: Store, begun: UnfinishedRequest) -> None:
    """Keep it until it is finished.

    Raises:
        StoreError: the store cannot be written to.
    """
    store.put(begun.key, {"request": asdict(begun.request), "device": begun.device, "when": time.time()}, {})


def forget(store: Store, request: Request) -> None:
    """It is finished, or no longer wanted; what was computed of it stays."""
    store.delete(UnfinishedRequest(request).key)


def unfinished(store: Store) -> list[UnfinishedRequest]:
    """What was begun and neither finished nor dropped, on this cache folder by any process.

    In read-only mode there is none, as none can be resumed.
    """
    requests: list[UnfinishedRequest] = []
    if read_only():
        return requests
    for meta in store.listed(KIND).values():
        with suppress(KeyError, TypeError, ValueError, AttributeError, KisError):  # written by another version
            requests.append(_read(meta))
    return sorted(requests, key=lambda begun: (begun.request.model, begun.key))


def _read(meta: dict[str, Any]) -> UnfinishedRequest:
    layers = meta["request"]["layers"]
    request = Request(**meta["request"] | {"layers": layers and tuple(layers)})
    names = (request.model, request.facts, request.corpus, request.revision or "", meta["device"])
    if not all(isinstance(name, str) for name in names):
        raise TypeError("a name is text")
    when = meta.get("when")
    return UnfinishedRequest(request, meta["device"], float(when) if isinstance(when, int | float) else None)
