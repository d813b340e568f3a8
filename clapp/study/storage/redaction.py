"""Remove passwords from printed and logged texts: URLs of storages and messages of drivers."""

import re
from itertools import groupby
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from sqlalchemy import dialects
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from clapp.study.storage.place import is_local

HIDDEN = "***"
# Greedy: a password may contain any character, even `@` and `/`, so the last `@` ends it.
_URL = re.compile(r"(?P<scheme>[^:/?#@\s]+:(?://)?)(?:(?P<who>.*)@)?(?P<rest>.*)", re.DOTALL)
_PLAIN = re.compile(r"[\w.-]*")


def redact(url: str) -> str:
    """`url` for display, without its password and the values of its options.

    Of a text that is no URL of a database, the part before the first colon and after the last `@`
    is shown.
    """
    if is_local(url):
        return url  # a path, and nothing secret
    parts = _URL.fullmatch(url)
    if parts is None:
        return HIDDEN if "@" in url else url.partition("?")[0]
    who, place = parts["who"], parts["rest"]
    user, colon, _ = _login(parts)
    user = user if _PLAIN.fullmatch(user) else HIDDEN
    login = "" if who is None else f"{user}:{HIDDEN}@" if colon or user == HIDDEN else f"{user}@"
    if who is not None and "?" in who:
        # The `@` may be one of an option's value: nothing behind the first `?` is safe to show.
        login, place = "", f"{HIDDEN}?"
    place, mark, _ = place.partition("?")
    return f"{parts['scheme']}{login}{place}{mark}{HIDDEN if mark else ''}"


def _login(parts: re.Match[str]) -> tuple[str, str, str]:
    """What stands before the last `@`: a name, a colon if there is one, and what is secret.

    Only in the URL of a database is a name sure to be one. Elsewhere it may be a token.
    """
    who = parts["who"] or ""
    backend = re.split(r"\W", parts["scheme"], maxsplit=1)[0]
    if parts["scheme"].endswith("//") and backend in dialects.__all__:
        return who.partition(":")
    return "", ":", who


def without_secrets(text: str, url: str) -> str:
    """A message about the storage at `url`, without the secrets of the URL."""
    hidden = [False] * len(text)
    for secret in _secrets(url):
        start = text.find(secret)
        while start >= 0:  # where two of them overlap, both go
            hidden[start : start + len(secret)] = [True] * len(secret)
            start = text.find(secret, start + 1)
    runs = groupby(zip(text, hidden, strict=True), key=lambda pair: pair[1])
    return "".join(HIDDEN if secret else "".join(c for c, _ in run) for secret, run in runs)


def _secrets(url: str) -> set[str]:
    """The password and the options: as written, in all ways that drivers quote them, and in pieces.

    A parser may take a character of a password for its end, and print the rest in pieces.
    """
    if is_local(url):
        return set()
    parts = _URL.fullmatch(url)
    hidden = [_login(parts)[2] if parts else url, url.partition("?")[2]]
    found = {url, *hidden}
    for text in [*hidden, *map(unquote_plus, hidden)]:
        found |= {piece for piece in re.split(r"[^\w]", text) if len(piece) > 2}
        found |= {piece for piece in re.split(r"[@/:?&;=\s]", text) if len(piece) > 2}
    try:
        parsed = make_url(url)
        found |= {str(parsed.password or ""), *map(str, parsed.query.values())}
    except (ArgumentError, ValueError):
        pass
    ways = (str, unquote, unquote_plus, quote, quote_plus)
    return {way(secret) for secret in found for way in ways} - {""}
