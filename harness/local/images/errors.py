"""The errors of images."""

from __future__ import annotations


class ImageError(Exception):
    """The image cannot be had or used. The message says why, and what would help."""
