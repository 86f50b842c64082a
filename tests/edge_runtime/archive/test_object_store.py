"""Films and rows in an object store: a server of S3's protocol on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_runtime.archive.plan import Plan
from edge_runtime.archive.sources import list_inputs, parse_source
from edge_runtime.archive.supervisor import Settings
from edge_runtime.errors import InvalidValueError
from tests.edge_runtime.archive.conftest import rows_of, small_films
from tests.edge_runtime.archive.test_archive import tar_of

Screen = Callable[..., Plan]


@dataclasses.dataclass(frozen=True)
class Bucket:
    options: str

    def url(self, path: str) -> str:
        return f"s3://films/{path}?{self.options}"

    def write(self, path: str, data: bytes) -> None:
        from pyarrow import fs

        filesystem, _ = fs.FileSystem.from_uri(f"s3://films?{self.options}")
        with filesystem.open_output_stream(f"films/{path}") as stream:
            stream.write(data)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    server_module = pytest.importorskip("moto.server")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    from pyarrow import fs

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    there = f"{host}:{port}"
    fs.S3FileSystem(endpoint_override=there, scheme="http", region="us-east-1",
                    allow_bucket_creation=True).create_dir("films")  # fmt: skip
    yield Bucket(f"scheme=http&endpoint_override={there}&region=us-east-1")
    server.stop()


def test_films_and_rows_in_an_object_store(
    tmp_path: Path, screen_here: Screen, bucket: Bucket
) -> None:
    films = [p.read_bytes() for p in small_films(tmp_path, [f"{i}.png" for i in range(4)])]
    for number, data in enumerate(films):
        bucket.write(f"ward/{number}.png", data)
    bucket.write("ward/.hidden/x.png", b"not listed")
    bucket.write("ward/deep/er/empty.png", b"")
    shard = tar_of(tmp_path / "s.tar", [("1.png", films[0]), ("2.png", films[1])])
    bucket.write("ward/s.tar", shard.read_bytes())
    out = bucket.url("rows/here")
    plan = screen_here(out, bucket.url("ward"))
    assert (plan.inputs, plan.shards) == (6, 1)
    rows = rows_of(out)
    assert [row["source"].removeprefix("s3://films/ward/") for row in rows] == [
        "0.png", "1.png", "2.png", "3.png", "deep/er/empty.png", "s.tar#1.png", "s.tar#2.png",
    ]  # fmt: skip
    assert {row["origin"] for row in rows} == {"ward"}
    assert [row["size"] for row in rows][:4] == [len(data) for data in films]
    assert screen_here(out, bucket.url("ward")).parts == 0
    bucket.write("ward/1.png", films[0] + b"\n")
    bucket.write("ward/new.png", films[1])
    assert screen_here(out, bucket.url("ward")).inputs == 2
    assert len(rows_of(out)) == 9

    # Of a list nothing is asked in advance; what is not there is an input like any other.
    lines = [bucket.url("ward/0.png"), bucket.url("ward/none.png"), str(tmp_path / "0.png")]
    (tmp_path / "list").write_text("\n".join(lines))
    screen_here(str(tmp_path / "out"), f"ward=@{tmp_path / 'list'}")
    found = {row["source"].rpartition("/")[2]: row for row in rows_of(tmp_path / "out")}
    assert len(rows_of(tmp_path / "out")) == 3
    assert found["none.png"]["error_code"] == "unreadable_file"
    assert found["none.png"]["source"] == "s3://films/ward/none.png", "without options"


def test_what_is_not_there_is_said(bucket: Bucket, screen_here: Screen) -> None:
    with pytest.raises(InvalidValueError, match="nothing"):
        [*list_inputs([parse_source(bucket.url("nothing/here"))])]
    with pytest.raises(InvalidValueError, match="other files"):
        bucket.write("ward/x.png", b"x")
        screen_here(bucket.url("ward"), "x")


def test_other_schemes_are_those_of_fsspec(
    tmp_path: Path, screen_here: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_films(tmp_path / "films", ["a.png", "b.png"])
    tar_of(tmp_path / "films" / "s.tar", [("c.png", (tmp_path / "films" / "a.png").read_bytes())])
    monkeypatch.chdir(tmp_path)  # its scheme of local files takes them from here
    screen_here(str(tmp_path / "out"), "local://films")
    assert [row["status"] for row in rows_of(tmp_path / "out")] == ["ok"] * 3
    assert screen_here(str(tmp_path / "out"), "local://films").parts == 0
    screen_here((tmp_path / "plain").as_uri(), (tmp_path / "films").as_uri())
    assert len(rows_of(tmp_path / "plain")) == 3


def test_rows_are_the_same_wherever_films_lie(
    tmp_path: Path, screen_here: Screen, bucket: Bucket, settings: Settings
) -> None:
    (film,) = small_films(tmp_path / "films", ["a.png"])
    bucket.write("a.png", film.read_bytes())
    tar_of(tmp_path / "a.tar", [("a.png", film.read_bytes())])
    sources = [str(film), bucket.url("a.png"), str(tmp_path / "a.tar")]
    screen_here(str(tmp_path / "out"), *sources)
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 3
    own = {"source", "origin", "shard", "stamp", "run"}
    told = [{k: v for k, v in row.items() if k not in own} for row in rows]
    assert told[0] == told[1] == told[2]
    assert told[0]["size"] == film.stat().st_size
