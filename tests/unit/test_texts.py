"""What the bot says: complete in every language, well formed with and without a name."""

from __future__ import annotations

import re
from typing import Any

import pytest

from routing import texts
from routing.policy import Policy
from routing.policy_file import parse_policy
from routing.policy_template import template_text

LANGUAGES = ["en", "fr", "pt", "id", "ar"]
KINDS = ["ask", "retry", "success", "escalated"]
PERSON_TAKES_OVER = {
    "en": "will take over",
    "fr": "prendra le relais",
    "pt": "vai assumir",
    "id": "akan mengambil alih",
    "ar": "سيتولى",
}


@pytest.fixture(scope="module")
def policy() -> Policy:
    return parse_policy(template_text(), source="template")


def all_of(language: str) -> list[str]:
    found = texts.DEFAULTS[language]
    return [found.ask, *found.retry, found.success, found.escalated, found.closed]


def test_there_are_five_languages() -> None:
    assert list(texts.DEFAULTS) == LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_says_something_of_its_own(language: str) -> None:
    found = all_of(language)
    assert len(found) == 7
    assert all(len(text) > 40 for text in found)
    assert len(set(found)) == 7
    assert len({text for other in LANGUAGES for text in all_of(other)}) == 35


@pytest.mark.parametrize("language", LANGUAGES)
def test_retries_grow_more_concrete_and_the_last_promises_a_person(language: str) -> None:
    first, second, third = texts.DEFAULTS[language].retry
    assert len({first, second, third}) == 3
    assert all("@example.com" in text for text in (first, second, third))
    assert PERSON_TAKES_OVER[language] in third
    assert PERSON_TAKES_OVER[language] not in first + second
    assert len(third) > max(len(first), len(second))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("retries", [0, 1, 2, 3, 5, 10])
def test_only_the_last_of_any_number_of_retries_promises_a_person(language: str, retries: int) -> None:
    found = texts.retry_texts(language, retries)
    assert len(found) == max(retries, 1)
    assert [PERSON_TAKES_OVER[language] in text for text in found] == [False] * (len(found) - 1) + [True]
    assert retries == 1 or found[0] == texts.DEFAULTS[language].retry[0 if retries else 2]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attempt", [1, 2, 3])
@pytest.mark.parametrize("name", [None, "", "  ", "Zoë", "علي"])
def test_no_message_shows_a_placeholder_or_a_gap(
    policy: Policy, language: str, kind: Any, attempt: int, name: str | None
) -> None:
    text = policy.message(kind, language=language, attempt=attempt, name=name)
    assert text == text.strip() != ""
    assert "{" not in text
    assert not re.search(r"[ ][,.!?;:،؛؟]|[,،]\s*[,،.!?]|[ ]{2}|^[,،]", text)
    messages = policy.email.messages[language]
    template = messages.retry[attempt - 1] if kind == "retry" else getattr(messages, kind)
    shown = (name or "").strip()
    assert (shown in text) == (shown == "" or "{name}" in template)


def test_every_language_has_texts_with_and_without_a_name(policy: Policy) -> None:
    for language in LANGUAGES:
        named = policy.message("success", language=language, attempt=1, name="Zoë")
        assert "Zoë" in named
        assert len(policy.message("success", language=language, attempt=1, name=None)) < len(named)


@pytest.mark.parametrize(
    ("template", "without", "named"),
    [
        ("Hi {name}!", "Hi!", "Hi Al!"),
        ("Hi {name}, please", "Hi, please", "Hi Al, please"),
        ("Hi, {name}, please", "Hi, please", "Hi, Al, please"),
        ("Thanks, {name}!", "Thanks!", "Thanks, Al!"),
        ("Thanks, {name}", "Thanks", "Thanks, Al"),
        ("Thanks {name} for this", "Thanks for this", "Thanks Al for this"),
        ("Yes, {name} please", "Yes, please", "Yes, Al please"),
        ("{name}, please write", "Please write", "Al, please write"),
        ("Hi. {name}, please write", "Hi. Please write", "Hi. Al, please write"),
        ("Hi. {name}!", "Hi.", "Hi. Al!"),
        ("Hi\n{name}: write", "Hi\nWrite", "Hi\nAl: write"),
        ("Hi {name}\nwrite", "Hi\nwrite", "Hi Al\nwrite"),
        ("Merci {name}\u00a0!", "Merci\u00a0!", "Merci Al\u00a0!"),
        ("Merci, {name}\u00a0!", "Merci\u00a0!", "Merci, Al\u00a0!"),
        ("مرحبًا {name}، اكتب", "مرحبًا، اكتب", "مرحبًا Al، اكتب"),
        ("شكرًا، {name}!", "شكرًا!", "شكرًا، Al!"),
        ("نعم، {name}، اكتب", "نعم، اكتب", "نعم، Al، اكتب"),
        ("هل ترى {name}؟", "هل ترى؟", "هل ترى Al؟"),
        ("你好\uff0c{name}\uff01", "你好\uff01", "你好\uff0cAl\uff01"),
        ("{name}", "", "Al"),
        ("{{name}} {name}", "{name}", "{name} Al"),
        ("a }} b", "a } b", "a } b"),
        ("", "", ""),
        ("  kept  ", "  kept  ", "  kept  "),
        ("{name} and {name}", "And", "Al and Al"),
    ],
)
def test_a_missing_name_takes_its_comma_or_space_along(template: str, without: str, named: str) -> None:
    assert texts.fill(template, None) == without
    assert texts.fill(template, "Al") == named


@pytest.mark.parametrize("template", ["{email}", "{", "}", "{ name }", "{name", "a {Name}", "{{{", "{name}}"])
def test_other_braces_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match="is the only one"):
        texts.pieces(template)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("  Ann \t\n Lee ", "Ann Lee"),
        ("{name}", "{name}"),
        ("\u202eeilA", "eilA"),
        ("\u200b\u200b", ""),
        ("Al\x00ice", "Alice"),
        ("\ud800Al", "Al"),
        ("x" * 500, "x" * 80),
        ("\u0639\u0644\u06cc\u200c\u0631\u0636\u0627", "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627"),
    ],
)
def test_a_name_is_one_short_visible_line(name: str | None, shown: str) -> None:
    assert texts.fill("[{name}]", name) == f"[{shown}]"


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        ("pt", "pt"),
        ("pt-BR", "pt"),
        ("PT_br", "pt"),
        ("fr-Latn-CA-x-private", "fr"),
        ("zh-Hant-TW", "zh-Hant"),
        ("zh-TW", None),
        ("zh-Hant-x-u", "zh-Hant"),
        ("portuguese", None),
        ("p", None),
        ("*", None),
        ("", None),
        ("-", None),
        (None, None),
        ("fr" + "-a" * 100_000, "fr"),
    ],
)
def test_a_language_is_looked_up_as_rfc_4647_has_it(tag: str | None, found: str | None) -> None:
    assert texts.look_up(tag, ("en", "pt", "fr", "zh-Hant")) == found


def test_a_single_letter_is_no_language_of_its_own() -> None:
    assert texts.look_up("fr-x-private", ("fr-x", "fr")) == "fr"


def test_a_policy_falls_back_to_its_first_language(policy: Policy) -> None:
    assert policy.language("pt-BR") == "pt"
    assert policy.language("de") == "en"
    assert policy.language(None) == "en"
    assert policy.message("ask", language="xx", attempt=1, name=None) == texts.fill(texts.DEFAULTS["en"].ask, None)


def test_the_last_retry_text_repeats(policy: Policy) -> None:
    def retry(attempt: int) -> str:
        return policy.message("retry", language="fr", attempt=attempt, name=None)

    assert len({retry(1), retry(2), retry(3)}) == 3
    assert retry(9) == retry(3)
    assert retry(0) == retry(1)
