"""What the bot says when a policy says nothing else, in five languages, and how a text is chosen and filled in.

The last retry promises that a person takes over otherwise, because after it the conversation is escalated.
Which text is due is the conversation's business, sending it that of whoever owns the channel.
"""

from __future__ import annotations

import re
from functools import lru_cache, reduce
from typing import Final, NamedTuple

NAME_CHARS_MAX: Final = 80  #: of a contact's name no more is shown
TAG_CHARS_MAX: Final = 64  #: of a language tag no more is looked at; RFC 5646 asks for at least 35

_COMMAS: Final = ",\u060c\uff0c\u3001"  # Latin, Arabic, and two CJK ones
_STOPS: Final = ".!?;:\u2026\u061f\u061b\u3002\uff01\uff1f"  # ... Arabic question mark and semicolon, CJK
_JOINERS: Final = frozenset("\u200c\u200d")  # Persian names and emoji need them
_TAG: Final = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*")
_TOKEN: Final = re.compile(r"\{\{|\}\}|\{name\}|[{}]")
_SENTENCE_BEGINS: Final = re.compile(r"(?:^|[.!?\u2026\u061f\u3002\uff01\uff1f]\s|\n)\s*\Z")
_COMMA_ENDS: Final = re.compile(rf"[{_COMMAS}]\s*\Z")
_MARKS: Final = re.compile(rf"[{_COMMAS}{_STOPS}]*\s*")
_PAUSE: Final = re.compile(rf"\s*(?:[{_COMMAS}{_STOPS}]|\Z)")
_SPACE_OR_PAUSE: Final = re.compile(rf"\s|[{_COMMAS}{_STOPS}]|\Z")


class DefaultTexts(NamedTuple):
    """The texts of one language."""

    ask: str
    retry: tuple[str, str, str]
    success: str
    escalated: str
    closed: str


DEFAULTS: Final[dict[str, DefaultTexts]] = {
    "en": DefaultTexts(
        ask="Hi {name}! So that we can put you in touch with the right person, could you please send us your e-mail "
        "address?",
        retry=(
            (
                "Thanks! We could not find your e-mail address in that message. Could you send it once more, please? "
                "It looks like this: name@example.com"
            ),
            (
                "No worries, this happens a lot. Please write just your e-mail address, all of it including the @ "
                "sign, and nothing else. For example: anna.smith@example.com"
            ),
            (
                "Almost there, {name}. Let's try one last time: copy your address (such as anna.smith@example.com) "
                "from your e-mail app and paste it here. If it does not work out, no problem at all: one of our "
                "colleagues will take over and help you."
            ),
        ),
        success="Thank you, {name}! We have your e-mail address and are connecting you with the right person.",
        escalated="Thank you for your patience, {name}. One of our colleagues will take over here and help you "
        "personally.",
        closed="Thank you for your message, {name}. Our team is not here at the moment. We have kept your place, and "
        "one of us will answer as soon as we are back.",
    ),
    "fr": DefaultTexts(
        ask="Bonjour {name}\u00a0! Pour vous mettre en relation avec la bonne personne, pourriez-vous nous envoyer "
        "votre adresse e-mail\u00a0?",
        retry=(
            (
                "Merci\u00a0! Nous n'avons pas trouvé votre adresse e-mail dans ce message. Pourriez-vous nous la "
                "renvoyer, s'il vous plaît\u00a0? Elle ressemble à ceci\u00a0: nom@example.com"
            ),
            (
                "Pas de souci, cela arrive souvent. Écrivez simplement votre adresse e-mail complète, avec le signe @, "
                "et rien d'autre. Par exemple\u00a0: anne.martin@example.com"
            ),
            (
                "Nous y sommes presque, {name}. Essayons une dernière fois\u00a0: copiez votre adresse (comme "
                "anne.martin@example.com) depuis votre messagerie et collez-la ici. Si cela ne marche pas, aucun "
                "problème\u00a0: un membre de notre équipe prendra le relais et vous aidera."
            ),
        ),
        success="Merci {name}\u00a0! Nous avons bien reçu votre adresse e-mail et nous vous mettons en relation avec "
        "la bonne personne.",
        escalated="Merci de votre patience, {name}. Un membre de notre équipe prend le relais et vous aidera "
        "personnellement.",
        closed="Merci de votre message, {name}. Notre équipe est absente pour le moment. Votre demande est bien "
        "enregistrée\u00a0: l'un de nous vous répondra dès notre retour.",
    ),
    "pt": DefaultTexts(
        ask="Olá, {name}! Para encaminhar a conversa à pessoa certa, poderia informar o seu endereço de e-mail?",
        retry=(
            (
                "Obrigado pela mensagem! Não encontramos nela o seu endereço de e-mail. Poderia enviar mais uma vez, "
                "por favor? Ele tem este formato: nome@example.com"
            ),
            (
                "Não se preocupe, isso acontece com frequência. Escreva apenas o seu endereço de e-mail completo, "
                "com o sinal @, e nada mais. Por exemplo: ana.silva@example.com"
            ),
            (
                "Falta pouco, {name}. Vamos tentar uma última vez: copie o seu endereço (como ana.silva@example.com) "
                "do aplicativo de e-mail e cole aqui. Se não der certo, não tem problema: uma pessoa da nossa equipe "
                "vai assumir a conversa e ajudar."
            ),
        ),
        success="Obrigado, {name}! Recebemos o seu endereço de e-mail e já vamos encaminhar a conversa à pessoa certa.",
        escalated="Obrigado pela paciência, {name}. Uma pessoa da nossa equipe vai assumir a conversa e ajudar "
        "pessoalmente.",
        closed="Obrigado pela mensagem, {name}. Neste momento a nossa equipe não está disponível. A sua conversa está "
        "guardada, e alguém responderá assim que voltarmos.",
    ),
    "id": DefaultTexts(
        ask="Halo, {name}! Agar kami dapat menghubungkan Anda dengan orang yang tepat, bolehkah kami meminta alamat "
        "email Anda?",
        retry=(
            (
                "Terima kasih! Kami belum menemukan alamat email di pesan Anda. Bolehkah dikirim sekali lagi? "
                "Bentuknya seperti ini: nama@example.com"
            ),
            (
                "Tidak apa-apa, ini sering terjadi. Cukup tulis alamat email Anda saja secara lengkap dengan tanda @, "
                "tanpa kata lain. Contohnya: budi.santoso@example.com"
            ),
            (
                "Sedikit lagi, {name}. Mari kita coba untuk terakhir kalinya: salin alamat Anda (seperti "
                "budi.santoso@example.com) dari aplikasi email lalu tempel di sini. Kalau belum berhasil juga, tidak "
                "masalah: rekan kami akan mengambil alih dan membantu Anda."
            ),
        ),
        success="Terima kasih, {name}! Alamat email Anda sudah kami terima, dan kami segera menghubungkan Anda dengan "
        "orang yang tepat.",
        escalated="Terima kasih atas kesabaran Anda, {name}. Rekan kami akan mengambil alih percakapan ini dan "
        "membantu Anda secara langsung.",
        closed="Terima kasih atas pesan Anda, {name}. Saat ini tim kami sedang tidak di tempat. Percakapan Anda sudah "
        "kami simpan, dan rekan kami akan membalas begitu kami kembali.",
    ),
    "ar": DefaultTexts(
        ask="مرحبًا {name}، كي نوصلك بالشخص المناسب، هل يمكنك إرسال عنوان بريدك الإلكتروني؟",
        retry=(
            (
                "شكرًا لك! لم نجد عنوان بريدك الإلكتروني في هذه الرسالة. هل يمكنك إرساله مرة أخرى من فضلك؟ "
                "يكون العنوان بهذا الشكل: name@example.com"
            ),
            (
                "لا بأس، هذا يحدث كثيرًا. يكفي أن نستلم عنوان بريدك الإلكتروني وحده، كاملًا مع علامة @، دون أي كلام "
                "آخر. على سبيل المثال: sara.ahmad@example.com"
            ),
            (
                "اقتربنا كثيرًا، {name}. لنحاول مرة أخيرة: يمكنك نسخ العنوان (مثل sara.ahmad@example.com) من تطبيق "
                "بريدك الإلكتروني ولصقه هنا. وإن لم ينجح ذلك فلا مشكلة على الإطلاق: سيتولى أحد زملائنا المحادثة "
                "ويساعدك."
            ),
        ),
        success="شكرًا لك، {name}! وصلنا عنوان بريدك الإلكتروني، وسنوصلك الآن بالشخص المناسب.",
        escalated="شكرًا على صبرك، {name}. سيتولى أحد زملائنا هذه المحادثة ويساعدك شخصيًا.",
        closed="شكرًا على رسالتك، {name}. فريقنا غير متواجد في هذا الوقت. حفظنا محادثتك، وسيرد عليك أحد زملائنا فور "
        "عودتنا.",
    ),
}


def retry_texts(language: str, retries: int) -> tuple[str, ...]:
    """Our re-asks in one of ``DEFAULTS``, as many as there are to be (at least one).

    The last re-ask promises a person, so that text stands last whatever the number; the middle one repeats.
    """
    first, middle, last = DEFAULTS[language].retry
    if retries <= 1:
        return (last,)
    return (first, *[middle] * (retries - 2), last)


def is_tag(text: str) -> bool:
    """Whether the text has the form of a language tag (BCP 47), such as ``pt`` or ``pt-BR``."""
    return _TAG.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def look_up(tag: str | None, languages: tuple[str, ...]) -> str | None:
    """The one of ``languages`` that RFC 4647 look-up (section 3.4) finds for ``tag``; None: none of them.

    Case does not matter and ``_`` is read as ``-``. The answer is spelled as in ``languages``.
    """
    if not tag:
        return None
    spelled = {language.casefold(): language for language in languages}
    subtags = tag[:TAG_CHARS_MAX].strip().replace("_", "-").casefold().split("-")
    while subtags:
        found = spelled.get("-".join(subtags))
        if found is not None:
            return found
        subtags.pop()
        if subtags and len(subtags[-1]) == 1:  # a single letter only introduces what followed it
            subtags.pop()
    return None


@lru_cache(maxsize=4096)
def with_wider(languages: tuple[str, ...]) -> tuple[str, ...]:
    """The languages, and what each is a variety of: who speaks ``pt-BR`` speaks ``pt``."""
    wider: dict[str, None] = {}
    for language in languages:
        subtags = language.replace("_", "-").split("-")
        wider |= dict.fromkeys("-".join(subtags[:count]) for count in range(len(subtags), 0, -1))
    return tuple(wider)


@lru_cache(maxsize=1024)
def pieces(template: str) -> tuple[str, ...]:
    """The text around each ``{name}``, with ``{{`` and ``}}`` made braces.

    Raises ``ValueError`` with a sentence if there is any other brace in it.
    """
    found = [""]
    end = 0
    for token in _TOKEN.finditer(template):
        found[-1] += template[end : token.start()]
        end = token.end()
        if token[0] == "{name}":
            found.append("")
        elif len(token[0]) == 2:  # noqa: PLR2004  a doubled brace
            found[-1] += token[0][0]
        else:
            shown = template[token.start() : token.start() + 24]
            raise ValueError(
                f"{shown!r} begins no placeholder: {{name}} is the only one, write {{{{ or }}}} for a brace"
            )
    found[-1] += template[end:]
    return tuple(found)


def fill(template: str, name: str | None) -> str:
    """The template with ``name`` in it; white space in the name is one space, at most 80 characters are shown.

    Without a name, the placeholder vanishes with what belongs to it: ``Hi {name}!`` is ``Hi!``, ``Thanks, {name}!`` is
    ``Thanks!``, ``{name}, please write`` is ``Please write``. Arabic and CJK commas count as commas.
    """
    shown = _shown(name)
    return shown.join(pieces(template)) if shown else _nameless(template)


def _shown(name: str | None) -> str:
    """The name as it may stand in a message: one line, nothing invisible that could turn the text around."""
    if not name:
        return ""
    if len(name) <= NAME_CHARS_MAX and name.isascii() and name.isprintable() and "  " not in name:
        return name.strip(" ")
    words = name[: NAME_CHARS_MAX * 4].split()
    visible = "".join(c for c in " ".join(words) if c.isprintable() or c in _JOINERS)
    return visible[:NAME_CHARS_MAX].strip(" " + "".join(_JOINERS))


@lru_cache(maxsize=1024)
def _nameless(template: str) -> str:
    around = pieces(template)
    return around[0] if len(around) == 1 else reduce(_close_gap, around).strip()


def _close_gap(left: str, right: str) -> str:
    """Join the texts on both sides of a missing name."""
    if _SENTENCE_BEGINS.search(left):
        rest = right[_MARKS.match(right).end() :]  # type: ignore[union-attr]  # it matches the empty text too
        return left + rest[:1].upper() + rest[1:]
    comma = _COMMA_ENDS.search(left)
    if comma is not None and _PAUSE.match(right):
        return left[: comma.start()].rstrip() + right
    if left[-1:].isspace() and _SPACE_OR_PAUSE.match(right):
        return left.rstrip() + right
    return left + right
