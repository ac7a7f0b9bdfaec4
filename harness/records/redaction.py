"""Secrets, taken out of everything on its way to a file or a screen, in each form in which programs write them."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from html.entities import codepoint2name
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

from harness.tasks.secret_names import is_secret_name
from harness.text import CUT_AFTER, CUT_BEFORE

SHORTEST_SECRET = 8
"""A shorter value would hit innocent text; no real credential is that short."""
_SHORTEST_REST = 4
"""What is left of a secret at a cut is taken out from so many bytes on."""
_DOTS = (re.escape(b"..."), "\N{HORIZONTAL ELLIPSIS}".encode())
"""Marks of others at what they cut, such as pytest's own at long values."""
_MARKS_BEFORE = re.compile(b"|".join((re.escape(CUT_BEFORE.encode()), *_DOTS, rb"(?i:truncated)\]")))
_MARKS_AFTER = re.compile(
    b"|".join((re.escape(CUT_AFTER.encode()), *_DOTS, rb"\[(?i:(?:[a-z]+ )?truncated)"))
)
_SPACES = re.compile(rb"(?:[ \t\r\n]|\\++[nrt])*+")
"""What may stand between a mark and what is cut: Claude Code's stands on a line of its own."""
_SPACES_AT_END = re.compile(_SPACES.pattern + rb"\Z")
_MOST_SPACES = 64
_PIECE_BYTES = 1024 * 1024
_LONGEST = 6
"""So many times its longest plain form a secret may have when several programs have spelt it."""
_NESTED = 3
"""JSON may stand in a string of JSON: so many times it is looked for."""
_DOUBLED = 64
"""As many backslashes may stand for one, or before a character: JSON in JSON doubles them each time."""
_BREAKS = (b"\r", b"\n", b"\\r", b"\\n", b'",')
_BREAK = rb"(?:\r|\n|\\++[rn]|\\*+\",\s*+\\*+\")(?:[ \t>|]|\\++t)*+(?:\d++(?:\xe2\x86\x92|\\++u2192|\\++t|[\t:|]) *+)?+"
_MARKED_BREAK = _BREAK + b"[+-]?"
"""A line's end (in a list of JSON too), and what stands before the next one: indented, quoted, numbered, of a diff."""


class Redactor:
    """Replaces secret values by their names, in bytes on their way to disk.

    A value is found as it is, as JSON, URLs, HTML, shells and base64 spell it, also one within another, and, where it
    has several lines, line by line. What a cut (`harness.text`) has left of one is found too.
    """

    def __init__(self, secrets_by_name: Mapping[str, str]) -> None:
        self._secrets = dict(secrets_by_name)
        self._names: dict[bytes, bytes] = {}
        self._encoded: list[bytes] = []
        parts: dict[str, bytes] = {}
        for name, value in secrets_by_name.items():
            shown = f"[redacted:{name}]".encode()
            for part in _parts(value):
                parts.setdefault(part, shown)
                encoded = list(_base64_forms(part))
                self._encoded += encoded
                for form in (*_forms(part), *encoded):
                    self._names.setdefault(form, shown)
        # One secret may be a part of another: the longest goes first, and what was replaced is not looked at again.
        self._parts = [_part(value, parts[value]) for value in sorted(parts, key=len, reverse=True)]
        self._encoded.sort(key=len, reverse=True)
        self._forms = tuple(self._names)
        self._pieces = {form[at : at + _SHORTEST_REST] for form in self._forms for at in range(len(form))}

    def __call__(self, data: bytes) -> bytes:
        """The data, with every secret replaced."""
        if not self._forms:
            return data
        parts = [part for part in self._parts if part.core in data]
        if parts:
            spelt = re.compile(b"|".join(part.spelt for part in parts))
            data = spelt.sub(lambda match: parts[(match.lastindex or 1) - 1].shown, data)
        encoded = [form for form in self._encoded if form in data]
        if encoded:
            pattern = re.compile(b"|".join(map(re.escape, encoded)))
            data = pattern.sub(lambda match: self._names[match[0]], data)
        return self._without_rests(self._without_wrapped(data))

    @property
    def longest(self) -> int:
        """As many bytes as a secret has at most, in lines too. Pieces of data that are looked at overlap by it."""
        return _LONGEST * max(map(len, self._forms), default=0)

    def is_in(self, file: Path) -> bool:
        """True if a file holds a secret. It is read piece by piece."""
        if not self._forms:
            return False
        with file.open("rb") as content:
            kept = b""
            while piece := content.read(_PIECE_BYTES):
                data = kept + piece
                if self(data) != data:
                    return True
                kept = data[-self.longest :]
        return False

    def knowing(self, secrets_by_name: Mapping[str, str]) -> Redactor:
        """One that knows further secrets."""
        return Redactor({**self._secrets, **secrets_by_name})

    def text(self, text: str) -> str:
        """The same for text."""
        return self(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def _without_wrapped(self, data: bytes) -> bytes:
        """Without base64 that is broken into lines, which a diff, a quotation or numbers may have marked."""
        if not any(end in data for end in _BREAKS):
            return data
        # A line that begins with + may be marked, or base64.
        wholes = {re.sub(_BREAK, b"", data), re.sub(_MARKED_BREAK, b"", data)}
        for form in self._encoded:
            if any(form in whole for whole in wholes):
                broken = b"(?:%s)*" % _MARKED_BREAK
                data = self._names[form].join(
                    re.split(broken.join(re.escape(form[at : at + 1]) for at in range(len(form))), data)
                )
        return data

    def _without_rests(self, data: bytes) -> bytes:
        """Without what a cut has left of a secret, on either side of its mark."""
        data = _replace_rests(data, _MARKS_BEFORE, self._rest_after, is_after=True)
        return _replace_rests(data, _MARKS_AFTER, self._rest_before, is_after=False)

    def _rest_after(self, data: bytes, at: int) -> tuple[int, int, bytes] | None:
        """The place of the longest end of a secret that stands right there, and its name."""
        if data[at : at + _SHORTEST_REST] not in self._pieces:
            return None
        sizes = ((size, form) for form in self._forms for size in _rests(form))
        found = ((size, form) for size, form in sizes if data.startswith(form[-size:], at))
        size, form = max(found, default=(0, b""))
        return (at, at + size, self._names[form]) if size else None

    def _rest_before(self, data: bytes, at: int) -> tuple[int, int, bytes] | None:
        """The place of the longest start of a secret that ends right there, and its name."""
        if data[max(0, at - _SHORTEST_REST) : at] not in self._pieces:
            return None
        sizes = ((size, form) for form in self._forms for size in _rests(form))
        found = ((size, form) for size, form in sizes if data.endswith(form[:size], 0, at))
        size, form = max(found, default=(0, b""))
        return (at - size, at, self._names[form]) if size else None


NO_REDACTION = Redactor({})


def _rests(form: bytes) -> range:
    return range(len(form) - 1, _SHORTEST_REST - 1, -1)


def _replace_rests(
    data: bytes,
    marks: re.Pattern[bytes],
    rest: Callable[[bytes, int], tuple[int, int, bytes] | None],
    *,
    is_after: bool,
) -> bytes:
    pieces, done = [], 0
    for mark in marks.finditer(data):
        found = rest(
            data, _after_spaces(data, mark.end()) if is_after else _before_spaces(data, mark.start())
        )
        if found and found[0] >= done:
            pieces += [data[done : found[0]], found[2]]
            done = found[1]
    return b"".join((*pieces, data[done:])) if pieces else data


def _after_spaces(data: bytes, at: int) -> int:
    spaces = _SPACES.match(data, at, at + _MOST_SPACES)
    return spaces.end() if spaces else at


def _before_spaces(data: bytes, at: int) -> int:
    start = max(0, at - _MOST_SPACES)
    spaces = _SPACES_AT_END.search(data[start:at])
    return start + spaces.start() if spaces else at


def _parts(value: str) -> Iterator[str]:
    """The value itself, its lines, and what it says itself to be secret; of a URL's part, what that means."""
    if len(value.strip()) < SHORTEST_SECRET:
        return
    yield value
    yield value.strip()
    if "%" in value:
        yield unquote(value).strip() or value
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1:
        # The frame of a key in PEM is everywhere the same.
        yield from (line for line in lines if len(line) >= SHORTEST_SECRET and not line.startswith("-----"))
    for inner in _inside(value):
        yield from _parts(inner)


def _inside(value: str) -> list[str]:
    """The values of a JSON object that its keys call secret, such as a service account's private key."""
    if not value.lstrip().startswith("{"):
        return []
    try:
        table = json.loads(value)
    except ValueError:
        return []
    return [inner for key, inner in table.items() if isinstance(inner, str) and is_secret_name(key)]


def _forms(value: str) -> set[bytes]:
    """The spellings of a value, as bytes."""
    spelt = {value, html.escape(value), html.escape(value, quote=False), repr(value)[1:-1]}
    spelt |= {quote(value), quote(value, safe=""), quote_plus(value)}
    spelt |= {re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), form) for form in spelt}
    for ensure_ascii in (True, False):
        text = value
        for _ in range(_NESTED):
            text = json.dumps(text, ensure_ascii=ensure_ascii)[1:-1]
            spelt |= {text, text.replace("/", "\\/")}
    return {form.encode("utf-8", "surrogateescape") for form in spelt}


@dataclass(frozen=True)
class _Spellings:
    """A value in all spellings at once: a pattern with one group. Its `core` is in each, and quick to look for."""

    core: bytes
    spelt: bytes
    shown: bytes


def _part(value: str, shown: bytes) -> _Spellings:
    core = max(re.findall("[A-Za-z0-9]+", value), key=len, default="")
    # All backslashes before it go: one that is left over would spoil the JSON around, also where it and the secret's
    # first letter were a line's end.
    before = rb"(?<!\\)\\*"
    body = value.rstrip("\\")
    tail = _last_backslashes(len(value) - len(body))
    spelt = b"".join(map(_spellings, re.findall(r"\\+|[^\\]", body)))
    return _Spellings(core.encode(), b"(%s%s%s)" % (before, spelt, tail), shown)


def _last_backslashes(count: int) -> bytes:
    """A pattern for backslashes at a value's end: of more than an even number the last may escape what comes next."""
    return rb"(?:(?:\\\\){%d,%d}|\\{%d})" % (count, _DOUBLED * count, count) if count else b""


def _is_plain(char: str) -> bool:
    return char.isascii() and char.isalnum()


def _spellings(char: str) -> bytes:
    """A pattern for all that programs write for a character, with the backslashes that others put before it.

    Backslashes in a row are one pattern: one for each would be tried in all ways of sharing a longer row.
    """
    if _is_plain(char):
        return char.encode()
    if len(char) > 1:
        coded = rb"%s|\\{1,%d}(?:%s)" % (b"|".join(_codes("\\")), _DOUBLED, b"|".join(_escapes("\\")))
        return rb"(?:\\{%d,%d}|(?:%s){%d})" % (len(char), _DOUBLED * len(char), coded, len(char))
    plain = (re.escape(char.encode("utf-8", "surrogateescape")), *_SHORT.get(char, ()), *_codes(char))
    escaped = (*_ESCAPED.get(char, ()), *_escapes(char))
    return rb"(?:\\{0,%d}(?:%s)|\\{1,%d}(?:%s))" % (_DOUBLED, b"|".join(plain), _DOUBLED, b"|".join(escaped))


def _codes(char: str) -> tuple[bytes, ...]:
    """Patterns for a character by its number: in URLs, in HTML."""
    data, name = char.encode("utf-8", "surrogateescape"), codepoint2name.get(ord(char), "#").encode()
    return (
        b"".join(rb"%%(?:25){0,3}(?i:%02x)" % byte for byte in data),
        b"&(?:amp;){0,2}(?:#0*%d|#[xX]0*(?i:%x)|%s);" % (ord(char), ord(char), name),
    )


def _escapes(char: str) -> tuple[bytes, ...]:
    """Patterns for a character by its number, after a backslash: in JSON, in repr."""
    data, units = char.encode("utf-8", "surrogateescape"), char.encode("utf-16-be", "surrogatepass")
    again = rb"\\{1,%d}" % _DOUBLED
    return (
        again.join(b"u(?i:%s)" % units[at : at + 2].hex().encode() for at in range(0, len(units), 2)),
        again.join(b"x(?i:%02x)" % byte for byte in data),
    )


_SHORT = {
    "\n": (rb"\r\n",),
    " ": (rb"\+",),
    "'": (rb"""'\\{0,8}"'\\{0,8}"'""", rb"'\\{1,8}''", b"&apos;"),
}
"""What is written for some characters beside their codes: `'"'"'` is a quote within quotes of a shell."""
_ESCAPED = {"\n": (b"n", rb"r\\{1,64}n"), "\r": (b"r",), "\t": (b"t",)}
"""What is written for some characters after backslashes."""


def _base64_forms(value: str) -> Iterable[bytes]:
    """The spellings of a value in base64, wherever in the encoded bytes it begins."""
    data = value.encode("utf-8", "surrogateescape")
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data)
        # The first and the last digits depend on what stands beside it.
        start = -(-before * 8 // 6)
        end = (before + len(data)) * 8 // 6
        core = encoded[start:end]
        if len(core) >= SHORTEST_SECRET:
            yield core
            yield core.translate(bytes.maketrans(b"+/", b"-_"))
