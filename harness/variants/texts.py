"""The texts that a variant brings: what a run keeps of them, so that its report can show what was compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from harness.text import keep_start
from harness.variants.variant import Overlay, Text, Variant

_MOST = 100_000
"""The most characters of a text, and bytes of an overlay's file, that are kept."""
_MOST_FILES = 50
_KEYS = ("claude_md", "agents_md", "system_prompt", "append_system_prompt")


def texts_of(variant: Variant) -> dict[str, str]:
    """Each text by its key; those of an overlay's files by `overlay: PATH`, as they were when it was read."""
    texts = {key: text.text for key in _KEYS if isinstance(text := getattr(variant, key), Text)}
    kept = {key: keep_start(text, _MOST) for key, text in texts.items()}
    return kept | (dict(_files(variant.overlay)) if variant.overlay else {})


def _files(overlay: Overlay) -> Iterator[tuple[str, str]]:
    """The files that are text, small, and as they were."""
    for name in sorted(overlay.files)[:_MOST_FILES]:
        path = overlay.path / name
        try:
            if path.stat().st_size > _MOST:
                continue
            data = path.read_bytes()
            text = data.decode()
        except (OSError, UnicodeDecodeError):
            continue
        if hashlib.sha256(data).hexdigest() == overlay.files[name] and "\0" not in text:
            yield f"overlay: {name}", text
