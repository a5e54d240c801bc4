"""A process's telemetry as ``serve`` uses it: opened before the log, told later what to watch, closed last.

Where no address is given it costs nothing: no server, no library, and what is passed through comes back as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

import orjson

from consumers.settings import Address, SettingsError
from consumers.telemetry.health import Health, liveness, readiness
from consumers.telemetry.http import HttpServer, Response
from consumers.telemetry.readings import AGE_MAX_S, Lately, Reading, read_answer, read_lags
from consumers.telemetry.views import LookUpFigures, Watched
from events.log import Log

if TYPE_CHECKING:
    from consumers.telemetry.metrics import Metrics
    from consumers.telemetry.watching import LooksUp

AskT = TypeVar("AskT")
PolicyT = TypeVar("PolicyT")
OutcomeT = TypeVar("OutcomeT")

JSON: Final = "application/json"


class Telemetry:
    """``/livez``, ``/readyz`` and ``/metrics`` at ``address``; None: nowhere.

    ``stop`` is the process's: once it is set, the process is no longer ready. ``clock`` gives Unix milliseconds;
    ``tell`` gets the sentence that says where it listens.
    """

    def __init__(
        self, address: Address | None, stop: asyncio.Event, *, clock: Callable[[], int], tell: Callable[[str], None]
    ) -> None:
        self._address = address
        self._stop = stop
        self._clock = clock
        self._tell = tell
        self._metrics: Metrics | None = None
        self._server: HttpServer | None = None
        self._watched: Watched | None = None
        self._look_ups: LookUpFigures | None = None
        self._answer: Lately[Reading] | None = None
        self._lags: Lately[Reading] | None = None
        self._desks: Lately[bytes] | None = None

    async def __aenter__(self) -> Self:
        """Listen. Raises ``SettingsError`` where that is not possible."""
        if self._address is None:
            return self
        from consumers.telemetry.metrics import Metrics  # noqa: PLC0415  # 0.2 s that only this needs

        self._metrics = Metrics(self._clock)
        self._server = HttpServer({"/livez": self._livez, "/readyz": self._readyz, "/metrics": self._scrape})
        host, port = self._address
        try:
            port = await self._server.start(host, port)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SettingsError(
                f"--metrics: nothing can listen on {self._address} ({reason}): "
                "give another port, or 0 for any free one, and a host of this machine"
            ) from None
        self._tell(f"metrics on http://{Address(host, port)}/metrics")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            await self._server.close()

    def watched_log(self, log: Log, role: str) -> Log:
        """``log`` for the lanes of ``role``, with what they append seen."""
        if self._metrics is None:
            return log
        from consumers.telemetry.watching import watched_log  # noqa: PLC0415  # as above

        return watched_log(log, role, self._metrics.timings, self._clock)

    def watched_look_ups(self, client: LooksUp[AskT, PolicyT, OutcomeT]) -> LooksUp[AskT, PolicyT, OutcomeT]:
        """A CRM client, with its look-ups seen."""
        if self._metrics is None:
            return client
        from consumers.telemetry.watching import WatchedLookUps  # noqa: PLC0415  # as above

        seen = WatchedLookUps(client, self._metrics.timings)
        self._look_ups = seen
        return seen

    def watch(self, watched: Watched) -> None:
        """From now on tell of these; the log is open."""
        self._answer = Lately(lambda: read_answer(watched.log), age_max_s=AGE_MAX_S)
        self._lags = Lately(lambda: read_lags(watched), age_max_s=AGE_MAX_S)
        self._watched = watched
        if self._metrics is not None:
            self._desks = Lately(lambda: self._read_desks(watched), age_max_s=AGE_MAX_S)

    async def _read_desks(self, watched: Watched) -> bytes:
        from consumers.telemetry.desks import desk_text, read_desks  # noqa: PLC0415  # as above

        return await desk_text(await read_desks(watched.roles), self._clock())

    async def _livez(self) -> Response:
        return _response(liveness(self._watched))

    async def _readyz(self) -> Response:
        reading = None if self._answer is None else await self._answer.get()
        return _response(readiness(self._watched, reading, self._stop))

    async def _scrape(self) -> Response:
        from consumers.telemetry.metrics import CONTENT_TYPE  # noqa: PLC0415  # as above

        assert self._metrics is not None
        reading = None if self._lags is None else await self._lags.get()
        desks = b"" if self._desks is None else await self._desks.get()
        text = self._metrics.text(self._watched, self._look_ups, reading)
        return Response(HTTPStatus.OK, CONTENT_TYPE, text + desks)


def _response(health: Health) -> Response:
    return Response(health.status, JSON, orjson.dumps(health.body, option=orjson.OPT_APPEND_NEWLINE))
