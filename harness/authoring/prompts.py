"""A draft of a prompt from a commit's message, which says what is wanted and not how it was done."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TRAILER = re.compile(
    r"^(signed-off-by|co-authored-by|reviewed-by|acked-by|change-id|cc|tested-by|closes?|fixes|fixed|resolves?|refs?|see)\b"
    r"[ :#]",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"\s*\((?:#|gh-)\d+\)|\s*(?:closes?|fixes|fixed|resolves?) #\d+\.?", re.IGNORECASE)
_PREFIX = re.compile(
    r"^(feat|fix|bug|refactor|perf|chore|tests?|docs|build|ci|style)(\([^)]*\))?!?:\s*", re.IGNORECASE
)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{3,}")
_DEFINED = re.compile(
    r"^\+\s*(?:export\s+)?(?:default\s+)?(?:async\s+)?(?:def|class|function\*?|const|let|var|func|fn)\s+([A-Za-z_]\w*)"
    r"|^\+([A-Z_a-z]\w*)\s*(?::[^=]*)?=(?!=)",
    re.MULTILINE,
)


_GIVEN = re.compile(r"[({,]\s*[\"']?([A-Za-z_]\w*)[\"']?\s*(?::(?!:)|=(?![=>]))|[\"']([A-Za-z_]\w*)[\"']\]")
"""What a test gives or reads by name: keys and keywords."""


def draft_prompt(message: str, source_patch: str, test_patch: str, known: str, tests: Sequence[str]) -> str:
    """The prompt.

    Args:
        message: the commit's.
        source_patch: what it does to all but the tests.
        test_patch: what it does to the tests.
        known: the text of the files before it, as far as it changes them.
        tests: the names of the tests that the work has to pass.
    """
    new = _new_words(source_patch, known)
    given = {name for line in _added(test_patch) for found in _GIVEN.findall(line) for name in found if name}
    public = sorted(
        name
        for name in _defined(source_patch) | (given & new)
        if _has_word(test_patch, name) and not _has_word(known, name)
    )
    modules = [
        name
        for name in _new_modules(source_patch)
        if _has_word(test_patch, name.rpartition("/")[2].partition(".")[0])
    ]
    kept = [part for part in _paragraphs(message) if not _tells(part, new - set(public))]
    text = "\n\n".join(kept) if kept else "Some behaviour is missing or wrong here."
    cases = [_readable(name) for name in tests]
    wanted = "".join(f"- {case}\n" for case in dict.fromkeys(cases[:12]) if case)
    parts = [f"{text}\n"]
    if wanted:
        parts.append(f"Afterwards this should hold, among other things:\n\n{wanted}")
    if public or modules:
        names = ", ".join(f"`{name}`" for name in [*modules, *public])
        parts.append(f"Others rely on these names: {names}.\n")
    return "\n".join(parts)


def _paragraphs(message: str) -> list[str]:
    """The message without trailers, references and code; its first line as a sentence."""
    subject, _, body = message.strip().partition("\n")
    found = [_sentence(_PREFIX.sub("", _REFERENCE.sub("", subject)))]
    body = re.sub(r"```.*?```", "", body, flags=re.DOTALL)
    for block in re.split(r"\n\s*\n", body):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        lines = [
            _REFERENCE.sub("", line)
            for line in lines
            if not _TRAILER.match(line) and line[:1] not in "+-@<>$"
        ]
        if lines:
            found.append(" ".join(lines) if not block.lstrip().startswith(("*", "-")) else "\n".join(lines))
    return [part for part in found if part]


def _sentence(text: str) -> str:
    text = text.strip()
    return text + ("" if text.endswith((".", "!", "?")) or not text else ".")


def _tells(part: str, new: set[str]) -> bool:
    """True for a text that says what the commit wrote, and not only what it is for."""
    # A plain English word says little, also where it is a name in the code.
    words = {
        word for word in _IDENTIFIER.findall(part) if re.search(r"[_A-Z0-9]", word[1:]) or f"`{word}`" in part
    }
    return bool(words & new) or any(f"{word}(" in part for word in new)


def _added(patch: str) -> list[str]:
    return [line[1:] for line in patch.splitlines() if line[:1] == "+" and line[:3] != "+++"]


def _new_words(patch: str, known: str) -> set[str]:
    return set(_IDENTIFIER.findall("\n".join(_added(patch)))) - set(_IDENTIFIER.findall(known))


def _defined(patch: str) -> set[str]:
    return {name for found in _DEFINED.finditer(patch) for name in found.groups() if name}


def _new_modules(patch: str) -> list[str]:
    return re.findall(r"^diff --git a/\S+ b/(\S+)\nnew file", patch, re.MULTILINE)


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def _readable(name: str) -> str:
    """A test's name as words."""
    last = re.split(r"::|\s>\s", re.sub(r"\[.*\]$", "", name))[-1]
    last = last.rpartition(".")[2] if re.fullmatch(r"[\w.]+", last) else last
    return " ".join(re.sub(r"^test_?|^test(?=[A-Z])", "", last).replace("_", " ").split())
