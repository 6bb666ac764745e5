"""Data files: fetched, resumed, checked, unpacked; and archives that are not what they should be."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from spikeloom.announce import SpikeloomWarning
from spikeloom.data import DataError, archive, digest, fetch
from spikeloom.data.archive import Folder, Zip, unpack
from spikeloom.data.files import Files
from spikeloom.data.info import File, Info

CONTENT = bytes(range(256)) * 12_000  # 3 MB, three chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT at any path; how, says the path. It remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str | None]] = []

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        content = b"another file altogether" if "wrong" in self.path else CONTENT
        if "absent" in self.path:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and "norange" not in self.path else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            shown = start + 1 if "shifted" in self.path else start
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        # "cut": the connection breaks off after 1,000,000 bytes more, each time
        body = content[start : start + 1_000_000] if "cut" in self.path else content[start:]
        if "never" in self.path:
            body = b""
        self.wfile.write(body)
        if len(body) < len(content) - start:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server()
    thread = threading.Thread(
        target=functools.partial(serving.serve_forever, poll_interval=0.01), daemon=True
    )
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def toy(*addresses: str, sha256: str | None = SHA256, size: int | None = len(CONTENT)) -> File:
    return File(name="toy/a.bin", addresses=addresses, sha256=sha256, size=size)


def test_download(server: Server, tmp_path: Path) -> None:
    path = fetch.download(toy(server.address("a")), tmp_path / "toy/a.bin")
    assert path.read_bytes() == CONTENT
    assert sorted(os.listdir(tmp_path / "toy")) == ["a.bin", "a.bin.lock"]
    assert fetch.download(toy(), path) == path  # it is there, and right
    path.write_bytes(b"no")
    with pytest.raises(DataError, match="remove the file"):
        fetch.download(toy(), path)


def test_a_cut_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    path = fetch.download(toy(server.address("cut")), tmp_path / "a.bin")
    assert path.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [
        None,
        "bytes=1000000-",
        "bytes=2000000-",
        "bytes=3000000-",
    ]


def test_a_part_of_an_earlier_run_is_resumed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:777])
    assert fetch.download(toy(server.address("a")), tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == [("/a", "bytes=777-")]


def test_a_server_without_ranges_starts_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:777])
    assert fetch.download(toy(server.address("norange")), tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_wrong_part_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(b"x" * 777)
    assert fetch.download(toy(server.address("a")), tmp_path / "a.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ["bytes=777-", None]


@pytest.mark.parametrize("extra", [b"", b"too much"])
def test_a_part_that_is_whole_or_too_long(server: Server, tmp_path: Path, extra: bytes) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT + extra)
    assert fetch.download(toy(server.address("a")), tmp_path / "a.bin").read_bytes() == CONTENT


def test_another_range_than_asked_for_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:777])
    with pytest.raises(DataError, match="another range"):
        fetch.download(toy(server.address("shifted")), tmp_path / "a.bin")


def test_addresses_are_tried_in_turn(server: Server, tmp_path: Path) -> None:
    addresses = [server.address(path) for path in ("absent", "wrong", "a")]
    nowhere = "http://127.0.0.1:1/a"
    path = fetch.download(toy(nowhere, *addresses, size=None), tmp_path / "a.bin")
    assert path.read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["/absent", "/wrong", "/a"]
    with pytest.raises(DataError) as error:
        fetch.download(toy(nowhere, *addresses[:2]), tmp_path / "b.bin")
    for part in (nowhere, addresses[0], "404", addresses[1], "23 bytes, not the published 3,072,000"):
        assert part in str(error.value)
    assert not (tmp_path / "b.bin").exists()


def test_wrong_bytes_are_never_used(server: Server, tmp_path: Path) -> None:
    wrong = toy(server.address("a"), sha256="0" * 64)
    with pytest.raises(DataError, match=f"its sha256 is {SHA256}; expected sha256 {'0' * 64}"):
        fetch.download(wrong, tmp_path / "a.bin")
    assert sorted(os.listdir(tmp_path)) == ["a.bin.lock", "cache"]


def test_a_server_that_sends_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="broke off after 0 of"):
        fetch.download(toy(server.address("never")), tmp_path / "a.bin")
    assert len(server.asked) == 1


def test_what_cannot_be_verified_is_refused_unless_accepted(server: Server, tmp_path: Path) -> None:
    unknown = toy(server.address("a"), sha256=None)
    with pytest.raises(DataError, match=r"no checksum of it is published.*verify=False"):
        fetch.download(unknown, tmp_path / "a.bin")
    assert not server.asked
    with pytest.warns(SpikeloomWarning, match="could not be verified"):
        fetch.download(unknown, tmp_path / "a.bin", verify=False)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_what_cannot_be_verified_is_not_mixed(server: Server, tmp_path: Path) -> None:
    """A part that an earlier run, or another address, has left might be of another file."""
    (tmp_path / "a.bin.part").write_bytes(b"x" * 777)
    unknown = toy(server.address("never"), server.address("cut"), sha256=None)
    with pytest.warns(SpikeloomWarning, match="could not be verified"):
        fetch.download(unknown, tmp_path / "a.bin", verify=False)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked][:3] == [None, None, "bytes=1000000-"]


def _fetched(address: str, to: str) -> int:
    return len(fetch.download(toy(address), Path(to)).read_bytes())


def test_two_processes_fetch_once(server: Server, tmp_path: Path) -> None:
    with get_context("fork").Pool(3) as pool:
        calls = [(server.address("cut"), str(tmp_path / "a.bin"))] * 3
        assert pool.starmap(_fetched, calls) == [len(CONTENT)] * 3
    assert len(server.asked) == 4  # one transfer, three times resumed


def info(*files: File, obtain: str = "") -> Info:
    return Info(
        name="toy",
        title="a toy",
        kind="text",
        splits={"train": None},
        licence="none",
        citation="nobody",
        homepage="https://example.org/toy",
        files=files,
        obtain=obtain,
    )


def test_data_folder_then_cache_then_address(server: Server, tmp_path: Path) -> None:
    files = Files(info(toy(server.address("a"))))
    assert not files.has("toy/a.bin")
    fetched = files.path("toy/a.bin")
    assert fetched == tmp_path / "cache/spikeloom/toy/a.bin"
    assert files.has("toy/a.bin")
    (tmp_path / "data/toy").mkdir(parents=True)
    mine = tmp_path / "data/toy/a.bin"
    mine.write_bytes(CONTENT)
    assert Files(info(toy())).path("toy/a.bin") == mine
    mine.write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match="remove the file, and it will be fetched again") as error:
        Files(info(toy())).path("toy/a.bin")
    assert str(mine) in str(error.value)
    assert Files(info(toy()), verify=False).path("toy/a.bin") == mine
    assert len(server.asked) == 1


def test_what_is_nowhere_says_where_to_get_it_and_where_to_put_it(server: Server, tmp_path: Path) -> None:
    address = server.address("absent")
    with pytest.raises(DataError) as error:
        Files(info(toy(address))).path("toy/a.bin")
    place = str(tmp_path / "cache/spikeloom/toy/a.bin")
    for part in (address, "404", SHA256, "SPIKELOOM_DATA", place, str(tmp_path / "data/toy/a.bin")):
        assert part in str(error.value)
    with pytest.raises(DataError) as error:
        Files(info(toy(address)), fetch=False).path("toy/a.bin")
    assert "nothing is to be downloaded" in str(error.value)
    assert address in str(error.value)
    archive = File(name="toy/b.rar", unpacked="b")
    with pytest.raises(DataError, match=r"ask the authors; put the file at .*toy/b.rar, or toy/b, unpacked"):
        Files(info(archive, obtain="ask the authors")).path("toy/b.rar")


def test_a_checksum_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(CONTENT)
    assert digest.digest(path, "sha256") == SHA256
    computed = digest._digest
    monkeypatch.setattr(digest, "_digest", lambda *_: pytest.fail("it is computed again"))
    assert digest.digest(path, "sha256") == SHA256
    monkeypatch.setattr(digest, "_digest", computed)
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(1, 1))
    assert digest.digest(path, "sha256") == hashlib.sha256(CONTENT[::-1]).hexdigest()
    for note in (tmp_path / "cache/spikeloom/digests").iterdir():
        note.write_text("{damaged")
    assert digest.digest(path, "sha256") == hashlib.sha256(CONTENT[::-1]).hexdigest()


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def make_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


MEMBERS = {"in/a.txt": b"one", "in/b/c.txt": b"two"}


def test_zip_tar_and_folder_are_read_alike(tmp_path: Path) -> None:
    found = []
    for i, make in enumerate((make_zip, make_tar, None)):
        file = File(name=f"t{i}/a.{'zip' if i == 0 else 'tar.gz'}", unpacked="in")
        if make is not None:
            make(tmp_path / "data" / file.name, MEMBERS)
        else:
            unpack(make_zip(tmp_path / "x.zip", MEMBERS), tmp_path / "data/t2")
        files = Files(info(file))
        tree = files.tree(file.name)
        found.append((tree.names, tree.read("in/b/c.txt"), tree.below("in/b/", ".txt")))
        with tree.path("in/a.txt") as path:
            assert path.name.endswith("a.txt")
            assert path.read_bytes() == b"one"
        with pytest.raises(DataError, match="it has no file in/d"):
            tree.read("in/d")
        assert (files.folder(file.name) / "in/a.txt").read_bytes() == b"one"
    assert found == [(["in/a.txt", "in/b/c.txt"], b"two", ["in/b/c.txt"])] * 3


def _read(tree: Zip, count: int) -> bool:
    return all(tree.read(f"{i}") == bytes([i]) * 5000 for _ in range(count) for i in range(50))


def test_a_zip_is_read_by_many_processes_at_once(tmp_path: Path) -> None:
    tree = Zip(make_zip(tmp_path / "a.zip", {f"{i}": bytes([i]) * 5000 for i in range(50)}))
    with get_context("fork").Pool(3) as pool:  # the archive is open here already
        assert pool.starmap(_read, [(tree, 20)] * 6) == [True] * 6


@pytest.mark.parametrize(
    "name", ["../out.txt", "/tmp/out.txt", "in/../../out.txt", "..\\out.txt", "C:/out.txt"]
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_members_that_point_outside(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    path = make(tmp_path / ("a.zip" if make is make_zip else "a.tar.gz"), {"in.txt": b"1", name: b"2"})
    with pytest.raises(DataError, match="points outside"):
        unpack(path, tmp_path / "deep/to")
    assert os.listdir(tmp_path / "deep") == ["to.lock"]
    assert not list(tmp_path.rglob("out.txt"))


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        member = tarfile.TarInfo("in/link")
        member.type, member.linkname = kind, "/etc/passwd"
        with tarfile.open(tmp_path / "a.tar", "w") as file:
            file.addfile(member)
        with pytest.raises(DataError, match="'in/link' is no plain file"):
            unpack(tmp_path / "a.tar", tmp_path / "to")
    link = zipfile.ZipInfo("in/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="'in/link' is no plain file"):
        unpack(tmp_path / "a.zip", tmp_path / "to")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_bomb_is_not_unpacked(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "SPARE", 1 << 20)
    path = make(tmp_path / ("a.zip" if make is make_zip else "a.tar.gz"), {"zeros": bytes(30_000_000)})
    assert path.stat().st_size < 40_000
    with pytest.raises(DataError, match="far more than its size"):
        unpack(path, tmp_path / "to")
    assert not (tmp_path / "to").exists()
    monkeypatch.setattr(archive, "SPARE", 1 << 28)
    monkeypatch.setattr(archive, "COUNT", 3)
    many = make(tmp_path / ("b.zip" if make is make_zip else "b.tar.gz"), {f"{i}": b"" for i in range(5)})
    with pytest.raises(DataError, match="far more than its size"):
        unpack(many, tmp_path / "to")


def test_two_members_of_one_name(tmp_path: Path) -> None:
    for names in (("in/a", "in/a"), ("in", "in/a")):
        with tarfile.open(tmp_path / "a.tar", "w") as file:
            for name in names:
                file.addfile(tarfile.TarInfo(name))
        with pytest.raises(DataError, match="two members"):
            unpack(tmp_path / "a.tar", tmp_path / "to")


def test_damaged_archives(tmp_path: Path) -> None:
    whole = make_zip(tmp_path / "a.zip", MEMBERS).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    with pytest.raises(DataError, match="no whole zip archive"):
        Zip(tmp_path / "cut.zip")
    changed = bytearray(make_zip(tmp_path / "b.zip", {"a": os.urandom(9000)}).read_bytes())
    changed[4000] ^= 1
    (tmp_path / "b.zip").write_bytes(changed)
    with pytest.raises(DataError, match="cannot be unpacked"):
        Zip(tmp_path / "b.zip").read("a")
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "b.zip", tmp_path / "to")
    cut = make_tar(tmp_path / "a.tar.gz", {"a": os.urandom(9000)}).read_bytes()[:5000]
    (tmp_path / "a.tar.gz").write_bytes(cut)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "to")
    assert not (tmp_path / "to").exists()
    assert Folder(tmp_path).names  # what was there is there still


def test_an_archive_that_is_not_unpacked_here(tmp_path: Path) -> None:
    path = tmp_path / "data/toy/a.rar"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"Rar!")
    with pytest.raises(DataError, match=r"unpack it beside itself, so that .*toy/films exists"):
        Files(info(File(name="toy/a.rar", unpacked="films"))).tree("toy/a.rar")
