"""Archives of originals: downloaded from one of several hosts, verified and unpacked."""

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

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30  # Without receiving a byte.


class Archive(NamedTuple):
    """A file that several hosts offer."""

    name: str
    size: int  # Bytes.
    sha256: str
    urls: tuple[str, ...]  # Tried in this order.


def fetch(archive: Archive, folder: pathlib.Path) -> pathlib.Path:
    """An archive -> its file in folder, complete and verified. Resumes a partial download.

    Args:
      archive: the file to download.
      folder: where to put it; created if necessary.

    Returns:
      The path of the file.

    Raises:
      OSError: No host provided the file (the message lists each host's error), or the disk is too
        small.
      ValueError: The file was already in folder, but its size or checksum is wrong.
    """
    file, partial = folder / archive.name, folder / f"{archive.name}.part"
    if file.exists():
        check_archive(archive, file)
        return file
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for url in archive.urls:
        host = urllib.parse.urlsplit(url).netloc
        missing = archive.size - (partial.stat().st_size if partial.exists() else 0)
        if missing > shutil.disk_usage(folder).free:
            raise OSError(
                f"{archive.name} needs {missing / 1e9:.1f} GB more, but {folder} has "
                f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free. Free some space, or choose "
                "another folder with --data_dir."
            )
        try:
            _download(url, partial, archive)
            check_archive(archive, partial)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if partial.exists() and partial.stat().st_size >= archive.size:
                partial.unlink()  # Complete, but not the archive.
            failures.append(f"  {host}: {error}")
            print(f"{archive.name} from {host}: {error}", file=sys.stderr, flush=True)
            continue
        partial.rename(file)
        return file
    raise OSError(
        f"No host provided {archive.name}:\n" + "\n".join(failures) + "\nRun the same command "
        "again to resume the download, or get the file elsewhere and put it into "
        f"{folder}."
    )


def check_archive(archive: Archive, file: pathlib.Path) -> None:
    """Raises ValueError unless the file has the archive's size and checksum."""
    size = file.stat().st_size
    if size != archive.size:
        raise ValueError(
            f"{file} has {size} bytes, but {archive.name} has {archive.size}. Download it again."
        )
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != archive.sha256:
        raise ValueError(
            f"{file} has the sha256 {digest}, but {archive.name} has {archive.sha256}. "
            "Download it again."
        )


def _download(url, partial, archive):
    """Appends the missing bytes to partial; starts over if the host does not support ranges."""
    begin = partial.stat().st_size if partial.exists() else 0
    if begin >= archive.size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={begin}-"} if begin else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            begin = 0
        length = answer.headers.get("Content-Length")
        if length != str(archive.size - begin):  # Such as an error page: keep the partial file.
            raise ValueError(f"the response has {length} bytes, not {archive.size - begin}")
        host = urllib.parse.urlsplit(url).netloc
        progress = Progress(f"{archive.name} from {host}: MB", archive.size // 10**6)
        with partial.open("ab" if begin else "wb") as file:
            while chunk := answer.read(min(CHUNK_BYTES, archive.size - file.tell())):
                file.write(chunk)
                if progress.due(megabytes := file.tell() // 10**6):
                    progress.show(megabytes)


def unpack(file: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """A tar archive -> a folder in `folder` with its contents; skipped if that folder exists.

    Args:
      file: the archive.
      folder: the parent of the new folder; created if necessary.

    Returns:
      The new folder, named after the archive.

    Raises:
      ValueError: The archive is damaged, or has members outside its folder. Leaves nothing behind.
      OSError: Writing failed.
    """
    target = folder / file.name.split(".")[0]
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Unpacking {file} ...", flush=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking_") as temporary:
        unpacked = pathlib.Path(temporary) / "new"
        unpacked.mkdir()
        try:
            with tarfile.open(file) as archive:
                archive.extractall(unpacked, filter="data")
        except tarfile.FilterError as error:
            raise ValueError(
                f"{file} would write outside its folder, so it is not the original: {error}. "
                "Download it from another host."
            ) from error
        except OSError as error:
            if isinstance(error, gzip.BadGzipFile):
                raise ValueError(f"{file} is damaged: {error}. Download it again.") from error
            raise OSError(
                f"{file} cannot be unpacked into {folder}: {error}. Is the disk full?"
            ) from error
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise ValueError(
                f"{file} is damaged or truncated: {error}. Delete it and download it again."
            ) from error
        unpacked.rename(target)
    return target
