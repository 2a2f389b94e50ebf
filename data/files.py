"""Files that are never half there."""

import contextlib
import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file to be written -> another one beside it, which takes its place if nothing is raised.

    So that it is whole, or as it was before.
    """
    other = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield other
        other.replace(path)
    finally:
        other.unlink(missing_ok=True)


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file beside its place, then renames it."""
    try:
        with beside(path) as other:
            other.write_bytes(content)
    except OSError as error:
        raise OSError(
            f"{path} cannot be written: {error.strerror or error}. Is the disk full, or the folder "
            "read-only?"
        ) from error


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes text as write_bytes does."""
    write_bytes(path, text.encode())


def write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    """Writes JSON as write_text does."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def between_markers(text: str, part: str, markers: tuple[str, str]) -> str:
    """A page of Markdown -> the same page with another part between its markers.

    Raises ValueError where it does not have each marker once.
    """
    first, last = markers
    if text.count(first) != 1 or text.count(last) != 1:
        raise ValueError(f"The page must hold each of these lines once:\n{first}\n{last}")
    pattern = f"{re.escape(first)}.*{re.escape(last)}"
    return re.sub(pattern, lambda _: f"{first}\n\n{part}\n\n{last}", text, flags=re.DOTALL)
