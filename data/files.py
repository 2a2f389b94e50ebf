"""Atomic writes: a file is either complete or unchanged."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file to be written -> a temporary file beside it, which replaces it unless an error occurs.

    So the file is complete, or as it was before.
    """
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()  # The name may have no room left.
    temporary = path.with_name(f".{digest[:16]}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file atomically. Raises OSError, which names it, if it cannot be written."""
    try:
        with beside(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise OSError(
            f"{path} cannot be written: {error.strerror or error}. Is the disk full, or the folder "
            "read-only?"
        ) from error


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes text atomically."""
    write_bytes(path, text.encode())


def write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    """Writes JSON atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def between_markers(text: str, part: str, markers: tuple[str, str]) -> str:
    """A page of Markdown -> the same page with a new part between its markers.

    Raises ValueError unless it has each marker exactly once.
    """
    first, last = markers
    if text.count(first) != 1 or text.count(last) != 1:
        raise ValueError(f"The page must have each of these lines exactly once:\n{first}\n{last}")
    pattern = f"{re.escape(first)}.*{re.escape(last)}"
    return re.sub(pattern, lambda _: f"{first}\n\n{part}\n\n{last}", text, flags=re.DOTALL)
