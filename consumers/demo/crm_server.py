"""A small CRM as a real HTTP server in a process of its own, for the demo and the tests.

``python -m consumers.demo.crm_server --data FILE --port 0`` prints its URL as the first line on stdout and serves
``GET /v1/contacts?email=...`` to whoever brings ``Authorization: Bearer demo-token``: on the loopback interface, unless
``--host`` says otherwise (a container listens on ``0.0.0.0``: what reaches it is the container network's business).
FILE is a JSON object: an address, and what the CRM knows of it. An address may also tell the server how to behave:
``"__delay_s": 30`` answers late, ``"__status": 500`` with that status, and ``"__times": 2`` does so twice only.

It ends on SIGTERM, on Ctrl-C, and when its standard input, if that is a pipe, is closed: with its parent. Requests are
logged on stderr without addresses. Standard library only; not meant for anything but trying the router out.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import signal
import stat
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

LOOPBACK: Final = "127.0.0.1"
TOKEN: Final = "demo-token"  # noqa: S105  # it is no secret: it guards invented data
CONTACTS_PATH: Final = "/v1/contacts"
IDLE_S: Final = 30.0  #: a connection without a request ends after this long
WAITING_MAX: Final = 512  #: connections that wait to be accepted


class CrmServer(ThreadingHTTPServer):
    """The server and what it knows. ``stopping`` cuts delays short, so that it ends at once."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = WAITING_MAX

    def __init__(self, contacts: dict[str, dict[str, Any]], *, port: int, host: str = LOOPBACK) -> None:
        super().__init__((host, port), _Handler)
        self.contacts = {address.casefold(): contact for address, contact in contacts.items()}
        self.stopping = threading.Event()
        self._misbehaved: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def answer(self, address: str) -> tuple[int, dict[str, Any]]:
        """Status and body for an address; waits if the data says so."""
        contact = self.contacts.get(address.casefold())
        if contact is None:
            return HTTPStatus.NOT_FOUND, {"error": "no such contact"}
        fields = {name: value for name, value in contact.items() if not name.startswith("__")}
        if not self._misbehaves(address.casefold(), contact.get("__times")):
            return HTTPStatus.OK, fields
        self.stopping.wait(contact.get("__delay_s", 0))
        status = contact.get("__status", HTTPStatus.OK)
        return status, fields if status == HTTPStatus.OK else {"error": "as the data file asks"}

    def _misbehaves(self, address: str, times: int | None) -> bool:
        """Whether this request is still one of those that the data spoils; all are, if it does not say how many."""
        if times is None:
            return True
        with self._lock:
            self._misbehaved[address] += 1
            return self._misbehaved[address] <= times

    def stop(self) -> None:
        """End ``serve_forever``, from any thread but that one's."""
        self.stopping.set()
        self.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: CrmServer
    protocol_version = "HTTP/1.1"
    server_version = "demo-crm"
    sys_version = ""
    timeout = IDLE_S

    def do_GET(self) -> None:
        """Answer ``GET``, the only method there is."""
        started_s = time.monotonic()
        url = urlsplit(self.path)
        status, body = self._answer(url.path, url.query)
        try:
            self._send(status, body)
        except OSError:
            sys.stderr.write(f"GET {CONTACTS_PATH} {int(status)} the client had gone\n")
            self.close_connection = True
            return
        waited_ms = (time.monotonic() - started_s) * 1000
        sys.stderr.write(f"GET {CONTACTS_PATH} {int(status)} {waited_ms:.0f} ms\n")

    def _answer(self, path: str, query: str) -> tuple[int, dict[str, Any]]:
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), f"Bearer {TOKEN}".encode()):
            return HTTPStatus.UNAUTHORIZED, {"error": "Authorization: Bearer demo-token is wanted"}
        if path != CONTACTS_PATH:
            return HTTPStatus.NOT_FOUND, {"error": f"only {CONTACTS_PATH} is served"}
        addresses = parse_qs(query, max_num_fields=10).get("email", [])
        if len(addresses) != 1:
            return HTTPStatus.BAD_REQUEST, {"error": "give email exactly once"}
        return self.server.answer(addresses[0])

    def _send(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the library's lines hold whole URLs, and so addresses."""


def load_contacts(path: Path) -> dict[str, dict[str, Any]]:
    """The data file; raises ``ValueError`` with a sentence if it is no object of objects."""
    try:
        contacts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(contacts, dict) or not all(isinstance(contact, dict) for contact in contacts.values()):
        raise ValueError(f'{path}: write an object of objects, {{"ann@example.com": {{"customerType": "VIP"}}}}')
    return contacts


def _stop_with_parent(server: CrmServer) -> None:
    """Read standard input until its end; whoever started us holds the other end of the pipe."""
    while os.read(0, 4096):
        pass
    server.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(prog="crm_server", description="A small CRM for trying vip-router out.")
    parser.add_argument("--data", type=Path, required=True, help="JSON file of the contacts")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--host", default=LOOPBACK, help="IPv4 address to listen on (default %(default)s)")
    options = parser.parse_args(arguments)
    try:
        server = CrmServer(load_contacts(options.data), port=options.port, host=options.host)
    except (ValueError, OSError, OverflowError) as error:
        sys.stderr.write(f"crm_server: {error}\n")
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        # The handler runs in the thread that serves, which ``shutdown`` waits for: hence another one.
        signal.signal(number, lambda *_: threading.Thread(target=server.stop).start())
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_stop_with_parent, args=(server,), daemon=True).start()
    sys.stdout.write(f"{server.url}\n")
    sys.stdout.flush()
    server.serve_forever(poll_interval=0.05)
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
