"""Files that are never half there."""

import json
import os
import pathlib
from typing import Any


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file beside its place, then renames it, so that it is whole or as it was before."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
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
