"""Edits of programs and data in other languages than Python, by their words: what does not parse is left out later."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.authoring.edits import Edit

_C_LIKE = ("javascript", "typescript", "c-like")
_TURNED_IN_C = {
    "===": "!==",
    "!==": "===",
    "==": "!=",
    "!=": "==",
    "<=": ">",
    ">=": "<",
    "&&": "||",
    "||": "&&",
    " < ": " >= ",
    " > ": " <= ",
}
_TURNED_IN_SHELL = {
    " -eq ": " -ne ",
    " -ne ": " -eq ",
    " -lt ": " -ge ",
    " -ge ": " -lt ",
    " -gt ": " -le ",
    " -le ": " -gt ",
    " -z ": " -n ",
    " -n ": " -z ",
    " == ": " != ",
    " != ": " == ",
    " = ": " != ",
    "&&": "||",
    "||": "&&",
}
_SHELL_TEST = re.compile(r"(?:^|(?<=[\s(;&|]))(if|elif|while|until)\s+(?!!)")
_JS_IF = re.compile(r"\bif \((.+)\) (?=\{|return|throw)")
_SHELL_IF = re.compile(r"(?:^|(?<=[\s;]))(?:el)?if (.+?); then")
_NUMBER = re.compile(r"(?<![\w.$#-])\d+(?![\w.])")
_SHELL_NUMBER = re.compile(r"(?:(?<=[\s=(,])|^)\d+(?=[\s;),]|$)")
_SETS_MODE = re.compile(r"\b(chmod|umask|mkdir -m|install -m|set)\b")
_WORD = re.compile(r"\b(true|false)\b")


@dataclass(frozen=True)
class _Stretch:
    """A stretch of a text: `code`, a `string` or a `comment`."""

    kind: str
    start: int
    end: int


def meaning(text: str, language: str) -> str:
    """The text without its comments and the room around its lines: what is equal in this does the same."""
    if language == "text":
        return text
    kept = "".join(text[part.start : part.end] for part in _parts(text, language) if part.kind != "comment")
    return "\n".join(line.strip() for line in kept.splitlines() if line.strip())


def edits(text: str, language: str) -> Iterator[Edit]:
    """All edits."""
    line_of = _line_numbers(text)
    for part in _parts(text, language):
        if part.kind == "code" and language != "text":
            yield from _in_code(text, part, language, line_of)
        elif part.kind == "string":
            yield from _in_string(text, part, language, line_of)
    if language in (*_C_LIKE, "shell"):
        yield from _always_holding(text, language, line_of)
        yield from _statements_dropped(text, language)
    elif language in ("text", "settings", "toml"):
        yield from _lines_changed(text)


def _in_code(text: str, part: _Stretch, language: str, line_of: list[int]) -> Iterator[Edit]:
    code = text[part.start : part.end]
    turned = _TURNED_IN_SHELL if language == "shell" else _TURNED_IN_C if language in _C_LIKE else {}
    if turned:
        either = re.compile("|".join(re.escape(word) for word in sorted(turned, key=len, reverse=True)))
        for found in either.finditer(code):
            start, word = part.start + found.start(), found.group()
            if language == "shell" and word == " = " and "[" not in _line_around(text, start):
                continue
            yield Edit(start, start + len(word), turned[word], line_of[start], "a condition is turned")
    if language == "shell":
        for found in _SHELL_TEST.finditer(code):
            end = part.start + found.end()
            yield Edit(end, end, "! ", line_of[part.start + found.start()], "a condition is turned")
    for found in (_SHELL_NUMBER if language == "shell" else _NUMBER).finditer(code):
        if language == "shell" and _SETS_MODE.search(_line_around(text, part.start + found.start())):
            continue
        start = part.start + found.start()
        number = str(int(found.group()) + 1)
        yield Edit(start, part.start + found.end(), number, line_of[start], "a constant is changed")
    for found in _WORD.finditer(code) if language != "shell" else ():
        start, other = part.start + found.start(), "false" if found.group() == "true" else "true"
        yield Edit(start, part.start + found.end(), other, line_of[start], "a constant is changed")


def _in_string(text: str, part: _Stretch, language: str, line_of: list[int]) -> Iterator[Edit]:
    """A word with a character more. Sentences are for people; in shell, quotes hold code, too."""
    inner = text[part.start + 1 : part.end - 1]
    is_import = re.search(r"\b(import|from|require)\b[^;=]*$", _line_before(text, part.start)) is not None
    if not re.fullmatch(r"\S+", inner) or is_import or (language == "shell" and re.search(r"[$`\\]", inner)):
        return
    end = part.end - 1
    yield Edit(end, end, "x", line_of[part.start], "a constant is changed")


def _always_holding(text: str, language: str, line_of: list[int]) -> Iterator[Edit]:
    """An `if` on one line whose branch is always taken."""
    for found in (_SHELL_IF if language == "shell" else _JS_IF).finditer(text):
        yield Edit(found.start(1), found.end(1), "true", line_of[found.start()], "a condition always holds")


def _statements_dropped(text: str, language: str) -> Iterator[Edit]:
    """Whole lines that are a statement; a `return` returns nothing."""
    start = 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        bare = line.strip()
        end = start + len(line.rstrip("\n"))
        begin = start + len(line) - len(line.lstrip())
        if language == "shell":
            if re.match(r"[a-z_][\w./-]*(\s|=)", bare) and not _ends_open(bare) and not _begins_block(bare):
                yield Edit(begin, end, ":", number, "a statement is dropped")
        elif re.fullmatch(r"return\s+(?!null;|undefined;|false;)[^;]+;", bare):
            yield Edit(begin, end, "return undefined;", number, "nothing is returned")
        elif re.fullmatch(r"(?!return|import|export|const|let|var|break|case)[\w.$\[\]]+\s*[^{}]*;", bare):
            yield Edit(begin, end, ";", number, "a statement is dropped")
        start += len(line)


def _ends_open(line: str) -> bool:
    return line.endswith(("\\", "|", "&&", "||", "(", "{", "then", "do", "in"))


def _begins_block(line: str) -> bool:
    words = (
        "set",
        "if",
        "then",
        "else",
        "elif",
        "fi",
        "for",
        "while",
        "until",
        "do",
        "done",
        "case",
        "esac",
        "function",
    )
    return line.split()[0].rstrip(";") in words or "()" in line or "<<" in line


def _lines_changed(text: str) -> Iterator[Edit]:
    """Data and prose: a line dropped, or longer by a letter."""
    start = 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if line.strip() and not line.lstrip().startswith(("#", ";")):
            yield Edit(start, start + len(line), "", number, "a line is dropped")
            end = start + len(line.rstrip())
            yield Edit(end, end, "x", number, "a line is changed")
        start += len(line)


def _line_around(text: str, place: int) -> str:
    end = text.find("\n", place)
    return _line_before(text, place) + text[place : end if end >= 0 else len(text)]


def _line_before(text: str, place: int) -> str:
    return text[text.rfind("\n", 0, place) + 1 : place]


def _line_numbers(text: str) -> list[int]:
    """The line (from 1) of each character, and of the end."""
    numbers, line = [], 1
    for char in text:
        numbers.append(line)
        line += char == "\n"
    return [*numbers, line]


_SYNTAX = {
    "shell": re.compile(r"(?P<comment>(?:^|(?<=\s))\#[^\n]*)|(?P<string>'[^']*'|\"(?:\\.|[^\"\\])*\")", re.M),
    "json": re.compile(r"(?P<comment>(?!))|(?P<string>\"(?:\\.|[^\"\\\n])*\")"),
    "c-like": re.compile(
        r"(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<string>\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)",
        re.S,
    ),
    "text": re.compile(r"(?P<comment>(?!))|(?P<string>(?!))"),
}
_SYNTAX["javascript"] = _SYNTAX["typescript"] = _SYNTAX["c-like"]
_SYNTAX["toml"] = _SYNTAX["settings"] = _SYNTAX["ruby"] = _SYNTAX["perl"] = _SYNTAX["shell"]


def _parts(text: str, language: str) -> Iterator[_Stretch]:
    """The text as code, strings and comments, as far as a pattern can tell them."""
    last = 0
    for found in _SYNTAX[language].finditer(text):
        if found.start() > last:
            yield _Stretch("code", last, found.start())
        yield _Stretch(str(found.lastgroup), found.start(), found.end())
        last = found.end()
    if last < len(text):
        yield _Stretch("code", last, len(text))
