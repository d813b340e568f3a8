"""Passwords kept out of what is printed and logged: in URLs of storages and words of drivers."""

import re
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

HIDDEN = "***"
# Greedy: a password may hold any character, `@` and `/` too, so the last `@` ends it.
_URL = re.compile(r"(?P<scheme>[^:/?#@\s]+:(?://)?)(?:(?P<who>.*)@)?(?P<rest>.*)", re.DOTALL)
_PLAIN = re.compile(r"[\w.-]*")


def redact(url: str) -> str:
    """`url` for people: without its password and without the values of its options.

    What is no URL shows what stands before its first colon and behind its last `@`.
    """
    if url.startswith("sqlite:"):
        return url  # a path, and nothing secret
    parts = _URL.fullmatch(url)
    if parts is None:
        return HIDDEN if "@" in url else url.partition("?")[0]
    who, place = parts["who"], parts["rest"]
    if who is not None and not parts["scheme"].endswith("//"):
        who = f":{who}"  # nobody's name stands there
    user, colon, _ = (who or "").partition(":")
    user = user if _PLAIN.fullmatch(user) else HIDDEN
    login = "" if who is None else f"{user}:{HIDDEN}@" if colon or user == HIDDEN else f"{user}@"
    if who is not None and "?" in who:
        # The `@` may be one of an option's value: nothing behind the first `?` is safe to show.
        login, place = "", f"{HIDDEN}?"
    place, mark, _ = place.partition("?")
    return f"{parts['scheme']}{login}{place}{mark}{HIDDEN if mark else ''}"


def without_secrets(text: str, url: str) -> str:
    """A message about the storage at `url` without what is secret in that."""
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets(url: str) -> set[str]:
    """The password and the values of options, as written and in every way that drivers quote."""
    if url.startswith("sqlite:"):
        return set()
    found = {url}
    parts = _URL.fullmatch(url)
    if parts is not None:
        login, _, options = url.partition("?")
        found |= {login.partition("://")[2].rpartition("@")[0].partition(":")[2]}
        found |= {(parts["who"] or "").partition(":")[2]}
        found |= {pair.partition("=")[2] for pair in re.split("[&;]", options)}
        if "@" in options:  # the parser takes the end of an option for the host
            found |= set(re.split("[@/:&;=]", options))
        found |= set(re.split(r"\s", (parts["who"] or "").partition(":")[2]))
    try:
        parsed = make_url(url)
        found |= {str(parsed.password or ""), *map(str, parsed.query.values())}
        # Of a password with an unquoted `@`, the parser takes the end for a part of the host.
        found |= {(parsed.host or "").rpartition("@")[0]}
    except (ArgumentError, ValueError):
        pass
    ways = (str, unquote, unquote_plus, quote, quote_plus)
    return {way(secret) for secret in found for way in ways} - {""}
