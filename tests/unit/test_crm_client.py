"""The parts of a look-up that need no server: variables, waits, and what an error of the HTTP library stands for."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.crm import endpoint as crm_http
from consumers.crm.client import CrmClient
from consumers.crm.outcomes import REASONS, TroubleError
from consumers.crm.variables import LIST_ITEMS_MAX, VALUE_CHARS_MAX, compile_paths, read_variables
from consumers.secrets import Secrets
from routing.policy import CrmVariable

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=1100),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=50,
)


def value_of(value: Any) -> tuple[Any, str | None]:
    paths = compile_paths({"it": CrmVariable(path="$.it", personal=False)})
    found = read_variables({"it": value}, paths)
    return found.public.get("it"), found.notes.get("it")


@pytest.mark.parametrize("value", ["VIP", "", 0, 7, 1.5, True, False, [], ["a", 1, True], "x" * VALUE_CHARS_MAX])
def test_scalars_and_short_lists_keep_value_and_type(value: Any) -> None:
    kept, note = value_of(value)
    assert (kept, type(kept), note) == (value, type(value), None)


@pytest.mark.parametrize(
    ("value", "note"),
    [
        (None, "null"),
        ({}, "not-scalar"),
        ([{}], "not-scalar"),
        ([["a"]], "not-scalar"),
        ([None], "not-scalar"),
        ("x" * (VALUE_CHARS_MAX + 1), "too-large"),
        (["x"] * (LIST_ITEMS_MAX + 1), "too-large"),
        (["x" * VALUE_CHARS_MAX, "y"], "too-large"),
    ],
)
def test_what_no_condition_can_use_is_absent_and_its_note_says_why(value: Any, note: str) -> None:
    assert value_of(value) == (None, note)


def test_a_path_that_leads_nowhere_is_missing() -> None:
    found = read_variables([], compile_paths({"it": CrmVariable(path="$.a[0].b", personal=True)}))
    assert found == ({}, {}, {"it": "missing"})


@given(document=json_values, personal=st.booleans())
def test_a_variable_is_public_personal_or_noted_and_never_two_of_them(*, document: Any, personal: bool) -> None:
    paths = compile_paths(
        {"all": CrmVariable(path="$", personal=personal), "first": CrmVariable(path="$[0]", personal=not personal)}
    )
    public, private, notes = read_variables(document, paths)
    assert sorted([*public, *private, *notes]) == ["all", "first"]
    assert set(public) <= ({"first"} if personal else {"all"})


def chained(*errors: BaseException) -> httpx.ConnectError:
    """A ``ConnectError`` with these causes, one beneath the other."""
    outer: BaseException = httpx.ConnectError("it holds what nobody may read")
    first = outer
    for error in errors:
        outer.__cause__ = error
        outer = error
    assert isinstance(first, httpx.ConnectError)
    return first


@pytest.mark.parametrize(
    ("error", "reason", "retriable"),
    [
        (chained(OSError("all failed"), socket.gaierror(-2, "unknown")), "dns", True),
        (chained(ConnectionRefusedError(111, "refused")), "refused", True),
        (chained(OSError("all failed"), ExceptionGroup("", [ConnectionRefusedError(111, "r")])), "refused", True),
        (chained(ssl.SSLEOFError(8, "unexpected EOF")), "tls", True),
        (chained(ssl.SSLCertVerificationError(1, "expired")), "tls", False),
        (chained(OSError(113, "no route")), "connection", True),
        (chained(), "connection", True),
        (httpx.ReadError("reset"), "connection", True),
        (httpx.RemoteProtocolError("junk"), "connection", True),
        (httpx.LocalProtocolError("Illegal header value"), "unusable-request", False),
        (httpx.UnsupportedProtocol("ftp"), "unusable-request", False),
        (httpx.ConnectTimeout("slow"), "time-out", True),
    ],
)
def test_the_librarys_errors_are_told_by_what_lies_beneath_them(
    *, error: httpx.HTTPError, reason: str, retriable: bool
) -> None:
    trouble = crm_http.trouble_of(error)
    assert (trouble.reason, trouble.retriable, str(trouble)) == (reason, retriable, reason)
    assert reason in REASONS


def test_errors_that_cause_each_other_end() -> None:
    first, second = OSError("a"), OSError("b")
    first.__context__, second.__cause__ = second, first
    assert crm_http.trouble_of(chained(first)).reason == "connection"


def client_with(fraction: float) -> CrmClient:
    return CrmClient(clock=lambda: 0, secrets=Secrets(environment={}), random_fraction=lambda: fraction)


def test_the_longest_waits_double_up_to_a_bound_and_the_shortest_are_none() -> None:
    trouble = TroubleError("http-503", retriable=True)
    waits_s = [client_with(1.0)._wait_s(trouble, attempts) for attempts in range(1, 9)]
    assert waits_s == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert client_with(0.0)._wait_s(trouble, 5) == 0.0


def test_a_wait_is_never_shorter_than_the_crm_asked_for() -> None:
    trouble = TroubleError("http-429", retriable=True, retry_after_s=1.0)
    assert client_with(0.5)._wait_s(trouble, 1) == 1.0
    assert client_with(1.0)._wait_s(trouble, 5) == 1.6


def test_the_default_tls_context_verifies() -> None:
    client = client_with(0.0)
    assert client._tls.verify_mode is ssl.CERT_REQUIRED
    assert client._tls.check_hostname
