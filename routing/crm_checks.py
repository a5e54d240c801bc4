"""Whether a policy's CRM request can be made, tells contacts apart, and gives no secret away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from routing.crm_networks import is_never_asked, parse_network
from routing.jsonpath import parse_path
from routing.policy import Crm
from routing.policy_lines import dotted
from routing.policy_reader import Document, Remark

PLACEHOLDERS: Final = ("email", "contact_id", "conversation_id")  #: ``{email}`` ..., in URL, headers and body
RESERVED_VARIABLES: Final = ("crm_status", "email_source", "channel_type", "language")  #: the router sets them

SECRET: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")  #: ``${NAME}``: filled in by the CRM consumer alone
PLACEHOLDER: Final = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_OWN_HEADERS: Final = (
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "expect",
    "upgrade",
    "te",
    "trailer",
)
_ADVICE: Final = "{email}, {contact_id} and {conversation_id} are the placeholders"


def check(crm: Crm, document: Document) -> None:
    """Raise ``PolicyError`` for the first thing that cannot work, with its key and line."""
    _check_url(crm.url, document)
    _check_headers(crm.headers, document)
    _check_body(crm, document)
    _check_times(crm, document)
    _check_networks(crm, document)
    _check_variables(crm, document)


def warnings(crm: Crm) -> Iterator[Remark]:
    """What is probably not meant."""
    path = ("crm", "url")
    templates = "".join((crm.url, *crm.headers.values(), crm.body or ""))
    if not set(PLACEHOLDER.findall(templates)) & set(PLACEHOLDERS):
        yield path, f"the look-up is the same for everybody; {_ADVICE}"
    url = urlsplit(crm.url)
    local = url.hostname in ("localhost", "::1") or str(url.hostname).startswith("127.")
    if url.scheme == "http" and not local and SECRET.search("".join(crm.headers.values()) + (crm.body or "")):
        yield path, "http sends the secrets of headers and body in the clear, use https"
    for name, value in parse_qsl(url.query):
        if re.search(r"(key|token|secret|password)$", name, re.IGNORECASE) and not PLACEHOLDER.fullmatch(value):
            yield path, f"{name} looks like a secret in the URL, where logs keep it: send it in a header"


def _check_url(url: str, document: Document) -> None:
    path = ("crm", "url")
    if "${" in url:
        raise document.error(path, "${NAME} stands in headers and body only: URLs end up in logs")
    for name in PLACEHOLDER.findall(url):
        if name not in PLACEHOLDERS:
            raise document.error(path, f"there is no placeholder {{{name}}}: {_ADVICE}")
    plain = PLACEHOLDER.sub("x", url)
    if "{" in plain or "}" in plain:
        raise document.error(path, f"a brace that belongs to no placeholder: write %7B or %7D; {_ADVICE}")
    if not plain.isascii() or not plain.isprintable() or " " in plain or "\\" in plain:
        raise document.error(path, "write white space and characters outside ASCII percent-encoded")
    try:
        parts, asked_host = urlsplit(plain), urlsplit(url).netloc
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise document.error(path, f"it is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise document.error(path, 'it has to be absolute: "https://..." or "http://..."')
    if parts.username is not None or parts.password is not None:
        raise document.error(path, "it names a user: send an Authorization header with ${NAME} instead")
    if "#" in plain:
        raise document.error(path, "the part from # on is never sent: leave it out, or write %23")
    if PLACEHOLDER.search(asked_host):
        raise document.error(path, "a placeholder cannot choose the host: use it in path or query")
    if _is_never_asked(host):
        raise document.error(path, "link-local, multicast and metadata addresses are never asked: name the CRM's host")


def _is_never_asked(host: str) -> bool:
    try:
        return is_never_asked(ip_address(host))
    except ValueError:  # a name: its address is judged when it is connected to
        return False


def _check_headers(headers: dict[str, str], document: Document) -> None:
    seen: set[str] = set()
    for name, value in headers.items():
        path, folded = ("crm", "headers", name), name.casefold()
        if _HEADER_NAME.fullmatch(name) is None:
            raise document.error(path, "this is no header name")
        if folded in seen:
            raise document.error(path, "this header stands here twice: case does not matter")
        if folded in _OWN_HEADERS:
            raise document.error(path, "this header is the HTTP client's to set: leave it out")
        if not value.isascii() or not value.isprintable():
            raise document.error(path, "a header's value is one line of ASCII characters")
        _check_secrets(value, path, document)
        if folded.endswith(("authorization", "-key", "-token")) and not SECRET.search(value):
            raise document.error(path, 'a secret must not stand in the policy: write "${NAME}" and set NAME outside')
        _check_placeholders(value, path, document)
        seen.add(folded)


def _check_secrets(text: str, path: tuple[str, ...], document: Document) -> None:
    if "${" in SECRET.sub("", text):
        raise document.error(path, "${ begins no ${NAME}: a name has letters, digits and _")


def _check_placeholders(text: str, path: tuple[str, ...], document: Document) -> None:
    for name in PLACEHOLDER.findall(text):
        if name not in PLACEHOLDERS:
            hint = "put spaces inside the braces if it is none"
            raise document.error(path, f"there is no placeholder {{{name}}}: {_ADVICE}; {hint}")


def _check_body(crm: Crm, document: Document) -> None:
    if crm.body is None:
        return
    path = ("crm", "body")
    if crm.method == "GET":
        raise document.error(path, 'a GET has no body: set crm.method = "POST", or leave the body out')
    _check_secrets(crm.body, path, document)
    _check_placeholders(crm.body, path, document)
    content_type = next((value for name, value in crm.headers.items() if name.casefold() == "content-type"), "json")
    if "json" not in content_type.casefold():
        return
    try:
        msgspec.json.decode(PLACEHOLDER.sub("x", SECRET.sub("0", crm.body)))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        problem = "it is no JSON once filled in: put placeholders in double quotes, or set a Content-Type header"
        raise document.error(path, problem) from None


def _check_times(crm: Crm, document: Document) -> None:
    """All attempts have to fit into the deadline, or the last ones would never be made."""
    if crm.late_ms is not None and crm.on_failure != "regular":
        raise document.error(("crm", "late"), 'who is escalated is not moved later: set on_failure = "regular"')
    if crm.timeout_ms * crm.attempts <= crm.deadline_ms:
        return
    key = next((key for key in ("deadline", "attempts", "timeout") if document.has(("crm", key))), "deadline")
    needed_s = crm.timeout_ms * crm.attempts // 1000
    problem = f'{crm.attempts} attempts of {crm.timeout_ms // 1000}s need a deadline of "{needed_s}s" at least'
    raise document.error(("crm", key), problem)


def _check_networks(crm: Crm, document: Document) -> None:
    for index, text in enumerate(crm.allow_networks):
        try:
            parse_network(text)
        except ValueError as error:
            raise document.error(("crm", "allow_networks", index), str(error)) from None


def _check_variables(crm: Crm, document: Document) -> None:
    for name, variable in crm.variables.items():
        path = ("crm", "variables", name)
        if _VARIABLE_NAME.fullmatch(name) is None:
            raise document.error(path, "a variable's name has 1 to 64 letters, digits and _, and begins with no digit")
        if name in RESERVED_VARIABLES:
            raise document.error(path, f"{dotted((name,))} is set by the router: choose another name")
        try:
            parse_path(variable.path)
        except ValueError as error:
            raise document.error((*path, "path"), str(error)) from None
