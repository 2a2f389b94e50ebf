"""Files that are never half there."""

import json
import os
import pathlib
import tempfile
from typing import Any


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file beside its place, then renames it, so that it is whole or as it was before."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(content)
            file.flush()
        except OSError as error:
            os.unlink(file.name)
            raise OSError(f"{path} cannot be written: {error}. Is the disk full?") from error
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes text as write_bytes does."""
    write_bytes(path, text.encode())


def write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    """Writes JSON as write_text does."""
    write_text(path, json.dumps(value, indent=2) + "\n")
