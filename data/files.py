"""Files that are never half there."""

import contextlib
import json
import os
import pathlib
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
