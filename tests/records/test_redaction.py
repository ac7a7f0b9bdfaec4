"""No secret stays in what is written, in whatever form a program has put it, and wherever it was cut."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.redaction import NO_REDACTION, Redactor
from harness.text import CUT_AFTER, CUT_BEFORE, decode_end, keep_end, keep_start

TOKEN = 'sk-"tést"/+&<\\key>\n second line of it ==\n'
PEM = (
    "-----BEGIN PRIVATE KEY-----\n"
    + "\n".join(base64.b64encode(bytes(range(n, n + 48))).decode() for n in range(5))
    + "\n-----END PRIVATE KEY-----\n"
)
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": json.dumps,
    "JSON in JSON": lambda value: json.dumps({"a": json.dumps([value])}),
    "JSON in JSON in JSON": lambda value: json.dumps(json.dumps(json.dumps(value, ensure_ascii=False))),
    "JSON five times over": lambda value: over_and_over(value, 5),
    "JSON with its slashes escaped": lambda value: json.dumps(value).replace("/", "\\/"),
    "a URL": lambda value: f"https://host/?key={urllib.parse.quote(value, safe='')}&b=1",
    "a form": lambda value: urllib.parse.urlencode({"key": value}),
    "a URL in lower case": lambda value: re.sub(
        "%..", lambda code: code[0].lower(), urllib.parse.quote_plus(value)
    ),
    "XML": lambda value: f"<a>{value.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}</a>",
    "repr": repr,
    "JSON as Go writes it": lambda value: escaped_as_go(json.dumps(value)),
    "Go's JSON of JSON": lambda value: escaped_as_go(json.dumps(json.dumps(value))),
    "repr of JSON": lambda value: repr(json.dumps(value, ensure_ascii=False)),
    "JSON of HTML": lambda value: json.dumps(html.escape(value)),
    "HTML of HTML": lambda value: html.escape(html.escape(html.escape(value))),
    "HTML of JSON": lambda value: html.escape(json.dumps(value)).replace("&quot;", "&#34;"),
    "a URL in a URL": lambda value: urllib.parse.quote(urllib.parse.quote(value, safe=""), safe=""),
    "encodeURI": lambda value: urllib.parse.quote(value, safe=";,/?:@&=+$-_.!~*'()#"),
    "a shell's word": shlex.quote,
    "JSON of a shell's word": lambda value: json.dumps(f"echo {shlex.quote(value)}"),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 of more": lambda value: base64.b64encode(f"user:{value}!".encode()).decode(),
    "base64 for URLs": lambda value: base64.urlsafe_b64encode(f"a{value}".encode()).decode(),
    "base64 in lines": lambda value: base64.encodebytes(f"it is {value} and more".encode()).decode(),
    "base64 in lines in JSON": lambda value: json.dumps(
        base64.encodebytes(f"its {value}.".encode()).decode()
    ),
}


def over_and_over(value: str, times: int) -> str:
    for _ in range(times):
        value = json.dumps(value)
    return value


def escaped_as_go(text: str) -> str:
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def leaves(secret: str, shown: str) -> list[str]:
    """The pieces of eight characters of a secret that are still to be read, also once decoded."""
    texts = [shown, urllib.parse.unquote_plus(shown), urllib.parse.unquote(urllib.parse.unquote(shown))]
    texts += [html.unescape(text) for text in texts]
    texts += [re.sub(r"\\u00(..)", lambda code: chr(int(code[1], 16)), text) for text in texts]
    texts += [text.replace("\\", "") for text in texts]
    for start in range(4):
        digits = (
            "".join(shown.split())
            .replace("\\n", "")
            .replace("-", "+")
            .replace("_", "/")
            .split("[redacted")[0][start:]
        )
        digits = "".join(char for char in digits if char.isalnum() or char in "+/")
        texts.append(base64.b64decode(digits[: len(digits) // 4 * 4]).decode("utf-8", "replace"))
    pieces = {secret[at : at + 8] for at in range(len(secret) - 7) if "\n" not in secret[at : at + 8]}
    pieces = {piece for piece in pieces if not set(piece) <= set("- BEGINDPRVATKY")}
    return sorted(piece for piece in pieces if any(piece in text for text in texts))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", ["sk-ant-api03-abcdefgh", TOKEN, "it's 'quoted' $5 `x`", PEM])
def test_each_form_of_a_secret_goes(form: str, secret: str) -> None:
    shown = Redactor({"KEY": secret}).text(f"before {FORMS[form](secret)} after")
    assert "[redacted:KEY]" in shown
    assert leaves(secret, shown) == []


MARKS = ["+", "-", "     7\u2192", "        ", "> ", "\t", "12:"]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("secret", [TOKEN, PEM])
def test_base64_in_lines_goes_whatever_marks_them(mark: str, secret: str) -> None:
    """In a diff, in numbered lines, in a quotation; as text, and in JSON."""
    lines = base64.encodebytes(b"x" * 50 + secret.encode()).decode().splitlines()
    text = "\n".join(mark + line for line in lines)
    redact = Redactor({"KEY": secret})
    for shown in (
        redact.text(text),
        redact.text(json.dumps(text)),
        redact.text(json.dumps({"a": json.dumps(text)})),
        redact.text(json.dumps({"a": text.splitlines()})),
        redact.text(text.replace("\n", "\r\n")),
        redact.text(text.replace("\n", "\r")),
    ):
        assert lines[0][-8:] not in shown
        assert lines[1][:40] not in shown


@pytest.mark.parametrize("mark", MARKS)
def test_a_secret_of_several_lines_goes_line_by_line(mark: str) -> None:
    """In a diff, in numbered lines, in indented XML."""
    shown = Redactor({"KEY": PEM}).text("\n".join(mark + line for line in PEM.splitlines()))
    assert leaves(PEM, shown) == []
    assert shown.count("[redacted:KEY]") == 5
    for line in PEM.splitlines()[1:-1]:
        assert (
            Redactor({"KEY": PEM}).text(base64.b64encode(line.encode()).decode()).startswith("[redacted:KEY]")
        )


def test_the_secrets_inside_of_one_go_too() -> None:
    """A service account's file is one value; its key is written by itself."""
    account = json.dumps({"type": "service_account", "private_key": PEM, "client_email": "robot@example.com"})
    shown = Redactor({"ACCOUNT": account}).text(f"{PEM} robot@example.com service_account")
    assert leaves(PEM, shown) == []
    assert shown.endswith(" robot@example.com service_account")


@given(st.text(min_size=8, alphabet="ab\\\"/'<&%\u202e\n-"), st.text(alphabet="\\\"/u-n'"), st.text())
def test_json_without_its_secrets_is_json(secret: str, before: str, after: str) -> None:
    """Whatever stands beside them."""
    line = json.dumps({"key": before + secret + after})
    json.loads(Redactor({"KEY": secret}).text(line))


def test_no_backslash_is_left_before_a_secret() -> None:
    """Of more than anybody has counted, and of a line's end before all of a secret but its first letter."""
    deep = over_and_over("\\" * 40 + '"quoted secret', 2)
    assert "redacted" in json.loads(json.loads(Redactor({"KEY": '"quoted secret'}).text(deep)))
    json.loads(Redactor({"KEY": "nabcdefghi"}).text(json.dumps("\nabcdefghi")))


@given(limit=st.integers(1, 60))
def test_what_a_cut_leaves_of_a_secret_goes(limit: int) -> None:
    """Text is cut before anybody knows its secrets."""
    secret = "sk-ant-abcdefghijklmnop"
    redact = Redactor({"KEY": secret})
    text = f"it is {secret} and goes on"
    for cut in (keep_end(text, limit), keep_start(text, limit), keep_end(f"x {secret}", limit)):
        shown = redact.text(cut)
        assert not any(secret[at : at + 4] in shown for at in range(len(secret) - 3))


def test_a_cut_is_told_and_is_between_characters() -> None:
    assert keep_end("abcdef", 3) == f"{CUT_BEFORE}def"
    assert keep_start("abcdef", 3) == f"abc{CUT_AFTER}"
    assert keep_end("abc", 3) == keep_start("abc", 3) == "abc"
    assert decode_end("aé☃".encode(), 4) == f"{CUT_BEFORE}☃"
    assert decode_end("aé☃".encode(), 6) == "aé☃"


def test_innocent_text_stays() -> None:
    """What is like a secret, or a short one, is none."""
    redact = Redactor({"KEY": "abcdefghij", "SHORT": "abc", "PEM": PEM, "EMPTY": " " * 20})
    text = "abcdefghi abc -----BEGIN PRIVATE KEY----- [what came before is cut] x"
    assert redact.text(text) == text
    assert NO_REDACTION.text("anything") == "anything"


def test_the_longest_goes_first() -> None:
    redact = Redactor({"SHORT": "secret-value", "LONG": "secret-value-of-more"})
    assert redact.text("secret-value-of-more secret-value") == "[redacted:LONG] [redacted:SHORT]"
    encoded = [base64.b64encode(value).decode() for value in (b"secret-value-of-more!", b"secret-value")]
    assert redact.text(" ".join(encoded)) == "[redacted:LONG]Uh [redacted:SHORT]"


def test_a_value_with_two_names_has_the_first() -> None:
    """In each form."""
    redact = Redactor({"ONE": "secret-value", "TWO": "secret-value"})
    assert (
        redact.text("secret-value c2VjcmV0LXZhbHVl x...ret-value")
        == "[redacted:ONE] [redacted:ONE] x...[redacted:ONE]"
    )


@given(st.binary(max_size=200))
def test_bytes_without_a_secret_are_as_they_were(data: bytes) -> None:
    assert Redactor({"KEY": "sk-ant-abcdefghijklmnop"})(data) == data


def test_a_secret_in_a_file_is_seen_across_its_pieces(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * (1024 * 1024 - 5) + b"sk-ant-abcdefghijklmnop" + b"y" * 10)
    assert Redactor({"KEY": "sk-ant-abcdefghijklmnop"}).is_in(file)
    assert not Redactor({"KEY": "sk-ant-another-of-these"}).is_in(file)
    assert not NO_REDACTION.is_in(file)
    nested = over_and_over('"""""sk-ant-abcdefghijklmnop', 5)
    file.write_bytes(b"x" * (1024 * 1024 - len(nested) + 10) + nested.encode())
    assert Redactor({"KEY": '"""""sk-ant-abcdefghijklmnop'}).is_in(file)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "HTML": html.escape,
    "HTML's text": lambda value: html.escape(value, quote=False),
    "repr": lambda value: repr(value)[1:-1],
    "a path": urllib.parse.quote,
    "a URL's part": lambda value: urllib.parse.quote(value, safe=""),
    "a form": urllib.parse.quote_plus,
    "a URL in lower case": lambda value: re.sub(
        "%..", lambda code: code[0].lower(), urllib.parse.quote(value)
    ),
    "JSON": lambda value: json.dumps(value)[1:-1],
    "JSON in UTF-8": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    "JSON with its slashes escaped": lambda value: json.dumps(value)[1:-1].replace("/", "\\/"),
    "JSON in JSON": lambda value: json.dumps(json.dumps(value)[1:-1])[1:-1],
    "JSON in JSON in JSON": lambda value: json.dumps(json.dumps(json.dumps(value)[1:-1])[1:-1])[1:-1],
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    "mark", ["{}...", "{}\n...\n</persisted-output>", "{}\\\\n[OUTPUT TRUNCATED - at {{}}"]
)
def test_what_is_cut_of_each_spelling_goes(spelling: str, mark: str) -> None:
    """Its start before a mark of others, and its end after one; Claude Code has its marks on lines of their own."""
    secret = """kéy/ab "c'd" <e>&f \\g%41 hijk"""
    redact, spelt = Redactor({"KEY": secret}), SPELLINGS[spelling](secret)
    assert redact.text(mark.format(f"x {spelt[:-2]}")) == mark.format("x [redacted:KEY]")
    assert (
        redact.text(f"[9 lines truncated] ...\\n\\n{spelt[2:]}")
        == "[9 lines truncated] ...\\n\\n[redacted:KEY]"
    )
    assert redact.text(f"...[truncated]\n{spelt[2:]}") == "...[truncated]\n[redacted:KEY]"


@pytest.mark.parametrize("dots", ["...", "\N{HORIZONTAL ELLIPSIS}"])
def test_what_another_program_has_cut_has_no_rest(dots: str) -> None:
    """As pytest cuts long values, in the middle."""
    secret = "sk-ant-api03-abcdefgh"
    assert Redactor({"KEY": secret}).text(f"x='aaa{secret[:12]}{dots}{secret[9:]}bbb'") == (
        f"x='aaa[redacted:KEY]{dots}[redacted:KEY]bbb'"
    )


def test_a_part_of_a_url_is_found_as_what_it_means() -> None:
    """A proxy's password is written with its codes, and printed without them."""
    assert Redactor({"P": "canaryProxy%2FPass5DfG"})(b"by canaryProxy/Pass5DfG.") == b"by [redacted:P]."


def test_rarer_spellings_go() -> None:
    """An apostrophe's name in XML, a carriage return, two backslashes in a row by their numbers."""
    secret = "it's\r\\\\a\tlong one"
    spelt = [secret.replace("'", "&apos;"), json.dumps(secret)[1:-1], urllib.parse.quote(secret, safe="")]
    spelt += [secret.replace("\\", "&#92;"), secret.replace("\\", "\\u005c"), secret.replace("\\", "\\\\x5C")]
    assert [Redactor({"KEY": secret}).text(each) for each in spelt] == ["[redacted:KEY]"] * len(spelt)


def test_the_edges_of_a_secret_go() -> None:
    """Backslashes at its end, spaces around it and its lines, the two digits that URLs have of their own in base64."""
    shown = "[redacted:KEY]"
    assert Redactor({"KEY": "abcdefgh\\"}).text("abcdefgh\\") == shown
    assert Redactor({"KEY": "abcdefgh\\"}).text('["abcdefgh\\\\"]') == f'["{shown}"]'
    assert Redactor({"KEY": "  abcdefgh "}).text("abcdefgh") == shown
    assert Redactor({"KEY": "  line of one\n  line of two"}).text("line of two") == shown
    odd = "???>>>~~~\xff\xfe\xfd"
    assert base64.urlsafe_b64encode(odd.encode()) != base64.b64encode(odd.encode())
    assert Redactor({"KEY": odd}).text(base64.urlsafe_b64encode(odd.encode()).decode()) == shown
