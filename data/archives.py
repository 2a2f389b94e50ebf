"""Archives of originals: fetched from several hosts, checked, and unpacked."""

import gzip
import hashlib
import http
import http.client
import pathlib
import shutil
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request
import zlib
from typing import NamedTuple

from data.terminal import Progress

CHUNK = 1 << 20  # Bytes.
TIMEOUT = 30  # Seconds without a byte.


class Archive(NamedTuple):
    """A file that several hosts have."""

    name: str
    size: int  # Bytes.
    sha256: str
    urls: tuple[str, ...]  # In the order in which they are tried.


def fetch(archive: Archive, folder: pathlib.Path) -> pathlib.Path:
    """An archive -> its file in folder, whole and checked; what was cut off goes on where it was.

    Raises OSError where no host gave it, with what each one answered, or where the disk is too
    small.
    """
    file, partial = folder / archive.name, folder / f"{archive.name}.part"
    if file.exists():
        check(archive, file)
        return file
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for url in archive.urls:
        host = urllib.parse.urlsplit(url).netloc
        missing = archive.size - (partial.stat().st_size if partial.exists() else 0)
        if missing > shutil.disk_usage(folder).free:
            raise OSError(
                f"{archive.name} takes {missing / 1e9:.1f} GB more, but {folder} has "
                f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free. Make room, or name another "
                "place with --data_dir."
            )
        try:
            _download(url, partial, archive)
            check(archive, partial)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if partial.exists() and partial.stat().st_size >= archive.size:
                partial.unlink()  # All came, but it is something else.
            failures.append(f"  {host}: {error}")
            print(f"{archive.name} from {host}: {error}", file=sys.stderr, flush=True)
            continue
        partial.rename(file)
        return file
    raise OSError(
        f"No host gave {archive.name}:\n" + "\n".join(failures) + "\nThe same command tries again, "
        "and goes on where the download was cut off. Or get the file in another way, and put it "
        f"into {folder}."
    )


def check(archive: Archive, file: pathlib.Path) -> None:
    """Raises ValueError where a file is not the archive, to the byte."""
    size = file.stat().st_size
    if size != archive.size:
        raise ValueError(
            f"{file} has {size} bytes, but {archive.name} has {archive.size}. Fetch it again."
        )
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != archive.sha256:
        raise ValueError(
            f"{file} has the sha256 {digest}, but {archive.name} {archive.sha256}. Fetch it again."
        )


def _download(url, partial, archive):
    """Appends to partial what it lacks, or all where the host cannot begin in the middle."""
    begin = partial.stat().st_size if partial.exists() else 0
    if begin >= archive.size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={begin}-"} if begin else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            begin = 0
        length = answer.headers.get("Content-Length")
        if length != str(archive.size - begin):  # An error page, say: keep what there is.
            raise ValueError(f"it has {length} bytes to send, not {archive.size - begin}")
        host = urllib.parse.urlsplit(url).netloc
        progress = Progress(f"{archive.name} from {host}: MB", archive.size // 10**6)
        with partial.open("ab" if begin else "wb") as file:
            while chunk := answer.read(min(CHUNK, archive.size - file.tell())):
                file.write(chunk)
                if progress.due(megabytes := file.tell() // 10**6):
                    progress.show(megabytes)


def unpack(file: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """A tar archive -> a folder in `folder` with what it holds; not unpacked twice.

    Raises ValueError, which names the archive and leaves nothing behind, where it is damaged or
    would write outside.
    """
    target = folder / file.name.split(".")[0]
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Unpacking {file} ...", flush=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking_") as beside:
        unpacked = pathlib.Path(beside) / "new"
        unpacked.mkdir()
        try:
            with tarfile.open(file) as archive:
                archive.extractall(unpacked, filter="data")
        except tarfile.FilterError as error:
            raise ValueError(
                f"{file} would write outside its folder, which the original does not: {error}. "
                "Get it from another place."
            ) from error
        except OSError as error:
            if isinstance(error, gzip.BadGzipFile):
                raise ValueError(f"{file} is damaged: {error}. Fetch it again.") from error
            raise OSError(
                f"{file} cannot be unpacked into {folder}: {error}. Is the disk full?"
            ) from error
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise ValueError(
                f"{file} is damaged or cut short: {error}. Delete it, and fetch it again."
            ) from error
        unpacked.rename(target)
    return target
