"""``serve`` in this process with its probes asked over real sockets: what they say when something goes wrong."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from consumers.lane import Lane
from consumers.serve import serve
from consumers.settings import Address, ServeSettings, SettingsError, parse_address
from events.log import LogUnavailableError
from tests.processes import policy_text

PATIENCE_S = 20.0


class Probed:
    """A ``serve`` on a log in memory."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        (folder / "p.toml").write_text(policy_text("http://127.0.0.1:1"), encoding="utf-8")
        self.stop = asyncio.Event()
        self.told: asyncio.Queue[str] = asyncio.Queue()
        self._settings = ServeSettings(
            policy=folder / "p.toml",
            log_url="memory://",
            roles=("router", "assigner"),
            metrics=Address("127.0.0.1", 0),
            **settings,
        )
        self.port = 0

    def start(self) -> asyncio.Task[Any]:
        return asyncio.create_task(serve(self._settings, self.stop, tell=self.told.put_nowait))

    async def until_told(self, text: str) -> str:
        async with asyncio.timeout(PATIENCE_S):
            while text not in (sentence := await self.told.get()):
                pass
        return sentence

    async def until_listening(self) -> None:
        self.port = int((await self.until_told("metrics on")).rsplit(":", 1)[1].removesuffix("/metrics"))

    async def probe(self, path: str) -> tuple[int, dict[str, Any]]:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
            answer = await reader.read()
            writer.close()
        return int(answer.split()[1]), json.loads(answer.partition(b"\r\n\r\n")[2])


async def test_a_failed_lane_makes_the_process_not_alive_while_the_others_end(tmp_path, monkeypatch):
    fail, let_go = asyncio.Event(), asyncio.Event()

    async def run(lane: Lane, stop: asyncio.Event) -> None:
        del stop
        lane.is_ready = True
        if lane._spec.role == "router":
            await fail.wait()
            raise LogUnavailableError("the disk is full")
        try:
            await asyncio.Event().wait()
        finally:
            await let_go.wait()

    monkeypatch.setattr(Lane, "run", run)
    probed = Probed(tmp_path, partitions=1)
    serving = probed.start()
    await probed.until_listening()
    await probed.until_told("ready")
    assert (await probed.probe("/livez"))[0] == (await probed.probe("/readyz"))[0] == 200
    fail.set()
    while (await probed.probe("/livez"))[0] == 200:  # each probe gives the loop its turns
        assert not serving.done()
    assert await probed.probe("/livez") == (503, {"status": "failed", "failed": {"router": "LogUnavailableError"}})
    assert (await probed.probe("/readyz"))[1]["status"] == "failed"
    let_go.set()
    with pytest.raises(LogUnavailableError):
        await serving
    with pytest.raises(ConnectionRefusedError):
        await probed.probe("/livez")


async def test_a_process_that_takes_over_for_long_is_alive_and_not_ready(tmp_path, monkeypatch):
    go_on = asyncio.Event()
    taking_over = Lane._take_over

    async def slowly(lane: Lane) -> Any:
        await go_on.wait()
        return await taking_over(lane)

    monkeypatch.setattr(Lane, "_take_over", slowly)
    probed = Probed(tmp_path)
    serving = probed.start()
    await probed.until_listening()
    while (found := await probed.probe("/readyz"))[1]["status"] == "starting":
        assert found[0] == 503
    assert (found[0], found[1]["status"]) == (503, "taking-over")
    assert (await probed.probe("/livez"))[0] == 200
    go_on.set()
    await probed.until_told("ready")
    assert (await probed.probe("/readyz"))[0] == 200
    probed.stop.set()
    await serving


async def test_a_process_that_is_stopping_is_not_ready_any_more_but_alive(tmp_path, monkeypatch):
    let_go = asyncio.Event()
    finishing = Lane._finish

    async def slowly(lane: Lane, publishing: asyncio.Task[None]) -> bool:
        await let_go.wait()
        return await finishing(lane, publishing)

    monkeypatch.setattr(Lane, "_finish", slowly)
    probed = Probed(tmp_path)
    serving = probed.start()
    await probed.until_listening()
    await probed.until_told("ready")
    probed.stop.set()
    found = await probed.probe("/readyz")
    assert (found[0], found[1]["status"]) == (503, "stopping")
    assert (await probed.probe("/livez"))[0] == 200
    let_go.set()
    await serving


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", Address("127.0.0.1", 9464)),
        ("0", Address("127.0.0.1", 0)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("metrics.local:65535", Address("metrics.local", 65535)),
        ("[::1]:9464", Address("::1", 9464)),
    ],
)
def test_an_address_is_a_port_on_this_machine_unless_a_host_is_named(text, address):
    assert parse_address(text, "--metrics") == address
    assert parse_address(str(address), "--metrics") == address


@pytest.mark.parametrize(
    "text", ["", "x", ":1", "h:", "65536", "1:2:3", "::1:9464", "[::1]", "9464\n1", "٩", "-1", "h/x:1"]
)
def test_what_is_no_address_is_refused_by_the_settings_name(text):
    with pytest.raises(SettingsError, match=r"^--metrics: write PORT or HOST:PORT"):
        parse_address(text, "--metrics")
