"""The e-mail address in what people really type.

``read_answer`` reads a message of a contact who was asked for an address, ``normalise_email`` an address out of a
contact's record. The library email-validator decides whether something is an address; what stands here only finds
the piece of text to show it. What an answer leads to is decided elsewhere.

Two rules come before all convenience. A local part is never shortened: the rest would be another person's address,
so where its beginning is doubtful there is no address and the contact is asked again. And no text costs more than a
bounded time: it is cut first, every step is linear in what is left, and the validator (quadratic on some inputs)
sees at most ``TOKENS_MAX`` pieces of bounded length.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from unicodedata import category, name

from email_validator import EmailNotValidError, validate_email
from msgspec import Struct

from routing.inputs import Found

TEXT_CHARS_MAX = 4_096  #: nothing after it is read
TOKENS_MAX = 3  #: distinct pieces of a text that are shown to the validator
LOCAL_CHARS_MAX = 64  #: RFC 5321, 4.5.3.1.1
DOMAIN_CHARS_MAX = 253  #: RFC 1035, 2.3.4, less the root
ADDRESS_CHARS_MAX = 254  #: RFC 5321, 4.5.3.1.3, less the angle brackets

_PLAIN_LOCAL = re.compile(r"[A-Za-z0-9_+&'-]+(?:\.[A-Za-z0-9_+&'-]+)*").fullmatch

_LOCAL_CHARS = string.ascii_letters + string.digits + "._+'&-"  # of all that RFC 5322 allows: what people have
_DOMAIN_CHARS = string.ascii_letters + string.digits + "._-"  # "_" is there to be refused, not to end a domain
_EDGE_ASCII = frozenset(".!?*~`'_")  # punctuation and markdown that may stand beside an address
_AFTER_ASCII = frozenset("?!'/&#")  # what may follow an address without a space: a query, "'s", "&gt"
_CASELESS_LM = frozenset("\u0640\u0e46\u0ec6\u3005\u303b\u309d\u309e\u30fc\u30fd\u30fe\uff70")  # e.g. tatweel, 30fc
_CASELESS_FIRST = "\u0590"  # what Unicode calls caseless below it (ordinal signs, phonetic letters) is Latin
_KEYCAP = "\u20e3"

_INVISIBLE = (
    *(0x00AD, 0x061C, 0x180E, 0xFEFF),
    *range(0x200B, 0x2010),  # zero-width, LRM, RLM
    *range(0x202A, 0x202F),  # bidi embeddings
    *range(0x2060, 0x2065),
    *range(0x2066, 0x206A),  # bidi isolates
    *range(0xFE00, 0xFE10),  # variation selectors, as in emoji
    *range(0xE0000, 0xE0080),  # tags
)
_FOLD: dict[int, str | None] = {
    **dict.fromkeys(_INVISIBLE),
    **{wide: chr(wide - 0xFEE0) for wide in range(0xFF01, 0xFF5F)},  # full-width ASCII
    **dict.fromkeys((0x3002, 0xFF61, 0xFE52), "."),  # ideographic and small full stops
    0xFE6B: "@",
    **dict.fromkeys((0x2018, 0x2019), "'"),  # keyboards turn "o'brien" typographic
    **dict.fromkeys((0x2010, 0x2011), "-"),
}
_SEPARATORS = re.compile(
    r"""[\s()\[\]{}<>",;:|\\"""
    r"\u00ab\u00bb\u201c-\u201f\u2039\u203a"  # quotes: guillemets, curly, single guillemets
    r"\u060c\u061b\u06d4"  # Arabic comma, semicolon, full stop
    r"\u3001\uff64\ufe50\ufe51\u3008-\u3011\u3014-\u301b]+"  # CJK commas and brackets
)


class Reading(Struct, frozen=True, kw_only=True):
    """What an answer holds. ``email`` is set if and only if ``found`` is ``address``."""

    found: Found
    email: str | None = None


def read_answer(text: str | None, *, stop_words: frozenset[str]) -> Reading:
    """What ``text`` holds: one address, none, two different ones, a stop word and nothing else, or no text at all.

    The address is as typed with its domain in lower case (an international domain in its own letters). Two that
    differ only in case are one, in the first spelling. ``stop_words`` are casefolded and stripped. Never raises.
    """
    shown = _fold((text or "")[:TEXT_CHARS_MAX])
    whole = len(text or "") <= TEXT_CHARS_MAX
    if not shown.strip():
        return Reading(found="no-text")
    if whole and _is_stop_word(shown.strip(), stop_words):
        return Reading(found="stop")
    emails: dict[str, str] = {}
    for local, domain in _candidates(shown, whole=whole) if "@" in shown else ():
        if (email := _validated(local, domain)) is not None:
            emails.setdefault(email[: len(local)].lower() + email[len(local) :], email)
    if len(emails) > 1:
        return Reading(found="two")
    return Reading(found="address", email=next(iter(emails.values()))) if emails else Reading(found="none")


def normalise_email(text: str | None) -> str | None:
    """An address as ``read_answer`` would return it, if ``text`` is one and nothing else but white space; or None."""
    if text is None or len(text) > TEXT_CHARS_MAX:
        return None
    local, _, domain = _fold(text).strip().rpartition("@")
    if not 0 < len(local) <= LOCAL_CHARS_MAX or not 0 < len(domain) <= DOMAIN_CHARS_MAX:
        return None
    return _validated(local, domain)


def _fold(text: str) -> str:
    return text if text.isascii() else text.translate(_FOLD)


def _is_stop_word(shown: str, stop_words: frozenset[str]) -> bool:
    if shown.casefold() in stop_words:
        return True
    start, end = 0, len(shown)
    while start < end and _is_edge(shown[start]):
        start += 1
    while start < end and _is_edge(shown[end - 1]):
        end -= 1
    return shown[start:end].casefold() in stop_words


def _is_edge(char: str) -> bool:
    return char.isspace() or char in string.punctuation or category(char).startswith("P")


def _candidates(shown: str, *, whole: bool) -> Iterator[tuple[str, str]]:
    """The first ``TOKENS_MAX`` distinct (local part, domain) that have the shape of an address."""
    tokens = _SEPARATORS.split(shown)
    if not whole:
        tokens.pop()  # the cut may have gone through it: half an address is another address
    seen: set[tuple[str, str]] = set()
    for token in tokens:
        parts = _parts(token) if token.count("@") == 1 else None
        if parts is None:
            continue
        key = (parts[0].lower(), parts[1].lower())  # no casefold: "ß" and "ss" are two domains
        if key not in seen:
            seen.add(key)
            yield parts
        if len(seen) == TOKENS_MAX:
            return


def _parts(token: str) -> tuple[str, str] | None:
    before, _, after = token.partition("@")
    typed = _domain(after)
    local = _local(before)
    if typed is None or local is None:
        return None
    if typed.endswith("_") and local.startswith("_"):  # markdown: _ann@acme.com_
        local = local.lstrip("_")
    domain = typed.rstrip("._-")
    return (local, domain) if local and "." in domain else None


def _local(before: str) -> str | None:
    """The local part at the end of ``before``; None where it does not surely begin where its characters do."""
    head = before.rstrip(_LOCAL_CHARS)
    local = before[len(head) :].lstrip(".'")
    if not 0 < len(local) <= LOCAL_CHARS_MAX:
        return None
    last = next((char for char in reversed(head) if not _is_skipped(char)), None)
    begins = local[0] not in "&-" if last is None else _ends_word(last) and local[0].isalnum()
    return local if begins else None


def _is_skipped(char: str) -> bool:
    """Whether ``char``, before a local part, says nothing about where it begins."""
    if char.isascii():
        return char in _EDGE_ASCII
    return char != _KEYCAP and category(char) != "So" and category(char)[0] in "PSM"


def _ends_word(char: str) -> bool:
    """Whether an address may follow ``char`` without a space: after an emoji, or in a script that has no ASCII."""
    return char == _KEYCAP or category(char) == "So" or _is_caseless(char)


def _is_caseless(char: str) -> bool:
    return char >= _CASELESS_FIRST and (category(char) == "Lo" or char in _CASELESS_LM)


def _domain(after: str) -> str | None:
    """The domain at the beginning of ``after``, with what edge punctuation a domain may hold; None if it has none."""
    end = len(after) - len(after.lstrip(_DOMAIN_CHARS)) if after.isascii() else _domain_end(after)
    typed, rest = after[:end], after[end:]
    if not typed or len(typed) > DOMAIN_CHARS_MAX or not _may_follow(rest):
        return None
    return typed if typed.isascii() or not _mixes_scripts(typed) else None


def _domain_end(after: str) -> int:
    """Where the domain ends: at what is no part of one, or where a script without case follows ASCII."""
    previous = ""
    for place, char in enumerate(after):
        if not (char.isalnum() or char in "._-" or category(char).startswith("M")):
            return place
        if _is_caseless(char) and previous.isascii() and previous.isalnum():
            return place
        previous = char
    return len(after)


def _may_follow(rest: str) -> bool:
    return not rest or not rest[0].isascii() or rest[0] in _AFTER_ASCII or all(char in _EDGE_ASCII for char in rest)


def _mixes_scripts(typed: str) -> bool:
    """Whether an ASCII letter touches a letter of Greek, Cyrillic ...: a look-alike, or a word glued to the domain."""
    pairs = [*pairwise(typed), *pairwise(reversed(typed))]
    return any(_is_ascii_letter(char) and _is_foreign(other) for char, other in pairs)


def _is_ascii_letter(char: str) -> bool:
    return char.isascii() and char.isalpha()


def _is_foreign(char: str) -> bool:
    return char.lower() != char.upper() and not name(char, "").startswith("LATIN")


def _validated(local: str, domain: str) -> str | None:
    """The address if it is valid; its local part is kept as typed, "INFO" included.

    What the validator says of a domain is remembered: most contacts share a few, and nearly all local parts are of a
    form that it takes at any domain (a property test holds the short cut equal to the whole way).
    """
    if len(local) <= LOCAL_CHARS_MAX and _PLAIN_LOCAL(local) is not None:
        found = _known_domain(domain)
        if found is None:
            return None
        if len(local) + 1 + found.ascii_chars <= ADDRESS_CHARS_MAX:
            return f"{local}@{found.shown}"
    return _validated_whole(local, domain)


class _Domain(NamedTuple):
    shown: str
    ascii_chars: int


@lru_cache(maxsize=4096)
def _known_domain(domain: str) -> _Domain | None:
    whole = _validated_whole("a", domain)
    if whole is None:
        return None
    shown = whole.removeprefix("a@")
    return _Domain(shown, len(shown) if shown.isascii() else DOMAIN_CHARS_MAX)  # an IDN's length is seldom the matter


def _validated_whole(local: str, domain: str) -> str | None:
    try:
        valid = validate_email(
            f"{local}@{domain}",
            allow_smtputf8=False,
            allow_empty_local=False,
            allow_quoted_local=False,
            allow_domain_literal=False,
            allow_display_name=False,
            strict=True,
            check_deliverability=False,
            test_environment=False,
            globally_deliverable=True,
        )
    except EmailNotValidError:
        return None
    top_level = (valid.ascii_domain or "").rpartition(".")[2]
    if not (top_level.startswith("xn--") or (top_level.isalpha() and len(top_level) > 1)):
        return None  # "acme.c" and "acme.com-thanks": the root zone has only letters, two or more, and xn--
    return f"{local}@{valid.domain}"
