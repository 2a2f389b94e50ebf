"""Archives come whole, from whichever host has them, or not at all."""

import contextlib
import hashlib
import http.server
import io
import tarfile
import threading

import numpy as np
import pytest

from data import archives
from data.archives import Archive, check_archive, fetch, unpack

CONTENT = np.random.default_rng(0).bytes(300_000)


class Host(http.server.BaseHTTPRequestHandler):
    """A web server that has CONTENT at /whole; the other paths each have a fault."""

    requests: list[tuple[str, str | None]] = []

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.requests.append((self.path, wanted))
        if self.path == "/missing":
            return self.send_error(404)
        content = {"/other": CONTENT[::-1], "/page": b"<html>Log in</html>"}.get(self.path, CONTENT)
        if self.path == "/page":
            wanted = None
        begin = int(wanted[len("bytes=") : -1]) if wanted and self.path != "/no_ranges" else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        end = 100_000 if self.path == "/cut" else None
        self.wfile.write(content[begin:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def host():
    Host.requests = []
    server = http.server.ThreadingHTTPServer(("localhost", 0), Host)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


def archive(host, *paths):
    digest = hashlib.sha256(CONTENT).hexdigest()
    return Archive("a.tar", len(CONTENT), digest, tuple(f"{host}/{path}" for path in paths))


def test_what_comes_is_whole_and_is_not_fetched_twice(host, tmp_path):
    for _ in range(2):
        assert fetch(archive(host, "whole"), tmp_path).read_bytes() == CONTENT
    assert Host.requests == [("/whole", None)]


def test_what_was_cut_off_goes_on_at_the_next_host(host, tmp_path):
    assert fetch(archive(host, "cut", "whole"), tmp_path).read_bytes() == CONTENT
    assert Host.requests == [("/cut", None), ("/whole", "bytes=100000-")]


def test_a_host_that_cannot_begin_in_the_middle_sends_all(host, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:5000])
    assert fetch(archive(host, "no_ranges"), tmp_path).read_bytes() == CONTENT


def test_another_content_is_thrown_away_and_the_next_host_asked(host, tmp_path):
    assert fetch(archive(host, "other", "whole"), tmp_path).read_bytes() == CONTENT
    assert Host.requests == [("/other", None), ("/whole", None)]


def test_an_error_page_does_not_take_the_place_of_what_came(host, tmp_path):
    """As some hosts and networks send, as if all were well."""
    assert fetch(archive(host, "cut", "page", "whole"), tmp_path).read_bytes() == CONTENT
    assert Host.requests[-1] == ("/whole", "bytes=100000-")


def test_each_host_that_failed_is_named_and_what_came_is_kept(host, tmp_path):
    closed = "http://localhost:9"
    urls = archive(host, "missing", "cut").urls
    with pytest.raises(OSError, match="No host provided a.tar") as error:
        fetch(archive(host)._replace(urls=(f"{closed}/a.tar", *urls)), tmp_path)
    said = str(error.value)
    assert "localhost:9: " in said and "404" in said and "has 100000 bytes" in said
    assert f"put it into {tmp_path}" in said
    assert (tmp_path / "a.tar.part").read_bytes() == CONTENT[:100_000]
    assert not (tmp_path / "a.tar").exists()


def test_a_disk_that_is_too_small_is_named_before_anything_is_fetched(host, tmp_path, monkeypatch):
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: free)
    with pytest.raises(OSError, match="GB more, but .* GB free.*--data_dir"):
        fetch(archive(host, "whole"), tmp_path)
    assert not Host.requests


def test_a_wrong_size_or_checksum_is_told(host, tmp_path):
    file = tmp_path / "mine.tar"
    file.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match="mine.tar has 299999 bytes"):
        check_archive(archive(host), file)
    file.write_bytes(CONTENT[::-1])
    with pytest.raises(ValueError, match="mine.tar has the sha256"):
        check_archive(archive(host), file)


def write_tar(file, **members):
    with tarfile.open(file, "w:gz" if file.suffix == ".tgz" else "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
def test_an_archive_is_unpacked_once(name, tmp_path):
    write_tar(tmp_path / name, folder__file=b"content")
    for _ in range(2):
        folder = unpack(tmp_path / name, tmp_path / "to")
        assert (folder / "folder" / "file").read_bytes() == b"content"


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
def test_a_cut_archive_is_named_and_leaves_nothing(name, tmp_path):
    write_tar(tmp_path / name, folder__file=CONTENT, folder__other=CONTENT)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{name} is damaged or truncated.*download it again"):
        unpack(tmp_path / name, tmp_path / "to")
    assert not list((tmp_path / "to").iterdir())


def test_an_archive_that_would_write_outside_is_refused(tmp_path):
    write_tar(tmp_path / "a.tar", **{"..__outside": b"content"})
    with pytest.raises(ValueError, match="a.tar would write outside its folder"):
        unpack(tmp_path / "a.tar", tmp_path / "to")
    with contextlib.suppress(StopIteration):
        raise AssertionError(next((tmp_path / "to").rglob("outside")))
    assert not (tmp_path / "outside").exists()
