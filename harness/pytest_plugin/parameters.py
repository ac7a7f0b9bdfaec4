"""The values of a test's parameters as texts: the same in every process, wherever there is such a text."""

from __future__ import annotations

import dataclasses
import enum
import functools
import re
import types

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_ADDRESS = re.compile(r"\bat 0x[0-9A-Fa-f]+|\bid='[0-9]+'")


class UnstableError(Exception):
    """A value has no text that says what it is, or one that another process would not find again."""


def stable_text(value: object) -> str:
    """Say what a value is: its `repr`, where that has no address and leaves nothing out.

    Raises:
        UnstableError: when it has no such text.
    """
    try:
        return _text(value)
    except UnstableError:
        raise
    except Exception as error:
        # Somebody else's repr may raise anything, and what contains itself has no end.
        raise UnstableError(f"a {_name(type(value))} has no repr: {type(error).__name__}") from error


def _text(value: object) -> str:
    if type(value) in _PLAIN:
        return repr(value)
    if isinstance(value, enum.Enum):
        return f"{_name(type(value))}.{value.name}({_text(value.value)})"
    if isinstance(value, type):
        return _name(value)
    if isinstance(value, types.FunctionType):
        return _function(value)
    return f"{_name(type(value))}({_content(value)})"


def _content(value: object) -> str:
    """The content of an object of a known kind, else its own `repr`."""
    if isinstance(value, set | frozenset):
        return ", ".join(sorted(map(_text, value)))
    if isinstance(value, dict):
        return ", ".join(f"{_text(key)}: {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    if isinstance(value, functools.partial):
        return ", ".join(map(_text, (value.func, value.args, value.keywords)))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ", ".join(
            f"{field.name}={_text(getattr(value, field.name))}" for field in dataclasses.fields(value)
        )
    text = repr(value)
    if type(value).__repr__ is object.__repr__ or _ADDRESS.search(text) or "..." in text:
        raise UnstableError(f"the repr of a {_name(type(value))} does not say what it holds")
    return text


def _function(function: types.FunctionType) -> str:
    """A function's name, if another process finds the same function by it."""
    if "<" in function.__qualname__:
        raise UnstableError(f"the function {function.__qualname__} has no name of its own")
    return f"{function.__module__}.{function.__qualname__}"


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
