"""The page /label: labels are kept at once and taken back, and nothing of the model is shown."""

from __future__ import annotations

import csv
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from edge_runtime import Screener
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.services.web.app import ServeSettings, make_app
from edge_runtime.services.web.labelling import LabelDesk, LabelError
from edge_runtime.services.web.openapi import describe_api
from tests.edge_runtime.services.conftest import check_api, running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films")
    (path / "ward").mkdir()
    for i in range(4):
        (path / "ward" / f"{i}.jpg").write_bytes(phantom_jpeg(i, False, 300, 320))
    (path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    with running("serve", "--port", 0, "--bundle", "tiny", "--label", folder) as process:
        yield process.ready["url"]  # type: ignore[attr-defined]


def kept(folder: Path) -> dict[str, str]:
    with open(folder / "labels.csv", encoding="utf-8", newline="") as file:
        return {row["file"]: row["label"] for row in csv.DictReader(file)}


def test_labels_are_kept_and_taken_back(server: str, folder: Path) -> None:
    state = httpx.get(f"{server}v1/labels").json()
    assert sorted(state["films"]) == ["broken.jpg", *(f"ward/{i}.jpg" for i in range(4))]
    number = state["films"].index("ward/2.jpg")
    assert httpx.put(f"{server}v1/labels/{number}", json={"label": "1"}).status_code == 200
    assert kept(folder) == {"ward/2.jpg": "1"}
    assert httpx.get(f"{server}v1/labels").json()["labels"][number] == "1"
    assert httpx.put(f"{server}v1/labels/{number}", json={"label": ""}).status_code == 200
    assert kept(folder) == {}


def test_a_film_is_shown_without_the_models_opinion(server: str, folder: Path) -> None:
    films = httpx.get(f"{server}v1/labels").json()["films"]
    answer = httpx.get(f"{server}v1/labels/{films.index('ward/1.jpg')}/film")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
    broken = httpx.get(f"{server}v1/labels/{films.index('broken.jpg')}/film")
    assert broken.status_code == 422 and broken.json()["error"]["code"] == "corrupt_image"
    page = httpx.get(f"{server}label").text + httpx.get(f"{server}label.js").text
    assert "v1/screen" not in page and "probability" not in page


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("0", b'{"label": "maybe"}', 400),
        ("0", b'{"label": 1}', 400),
        ("0", b"[]", 400),
        ("0", b"\xff" * 50, 400),
        ("0", b"[" * 99, 400),
        ("0", b"x" * 1000, 413),
        ("99", b'{"label": "1"}', 400),
        ("-1", b'{"label": "1"}', 404),
        ("../0", b'{"label": "1"}', 404),
    ],
)
def test_what_is_no_label_changes_nothing(
    server: str, folder: Path, path: str, content: bytes, status: int
) -> None:
    answer = httpx.put(f"{server}v1/labels/{path}", content=content)
    assert answer.status_code == status
    assert httpx.get(f"{server}v1/labels/99/film").status_code == 404
    foreign = {"origin": "http://evil.example"}
    refused = httpx.put(f"{server}v1/labels/0", json={"label": "1"}, headers=foreign)
    assert refused.status_code == 403
    assert not any(httpx.get(f"{server}v1/labels").json()["labels"])


@pytest.mark.slow
def test_the_api_is_described_and_keeps_to_it(folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "l.csv"
    arguments = ("--port", 0, "--bundle", "tiny", "--label", folder, "--labels", labels)
    with running("serve", *arguments) as process:
        url = process.ready["url"]  # type: ignore[attr-defined]
        paths = httpx.get(f"{url}openapi.json").json()["paths"]
        assert {"/v1/labels", "/v1/labels/{number}", "/v1/labels/{number}/film"} <= set(paths)
        check_api(url)


def test_a_label_that_never_comes_is_not_waited_for(folder: Path, tmp_path: Path) -> None:
    arguments = ("--port", 0, "--bundle", "tiny", "--label", folder, "--timeout", 1)
    with running("serve", *arguments, "--labels", tmp_path / "l.csv") as process:
        url = httpx.URL(process.ready["url"])  # type: ignore[attr-defined]
        with socket.create_connection((url.host, url.port), timeout=20) as slow:
            slow.sendall(
                b'PUT /v1/labels/0 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 14\r\n\r\n{"label'
            )
            assert b" 408 " in slow.recv(1000).split(b"\r\n")[0] + b" "
        assert not any(httpx.get(f"{url}v1/labels").json()["labels"])


def test_every_route_of_the_api_is_described(folder: Path, tmp_path: Path) -> None:
    screener = Screener.load("tiny")
    for desk in (None, LabelDesk(str(folder), str(tmp_path / "l.csv"))):
        app = make_app(screener, ServeSettings(), desk=desk)
        routed = {
            (route.path.replace(":int", ""), method.lower())
            for route in app.routes
            if isinstance(route, Route) and route.path.startswith("/v1/")
            for method in (route.methods or set()) - {"HEAD"}
        }
        described = {
            (path, method)
            for path, operations in describe_api(10, False, desk is not None)["paths"].items()
            for method in operations
            if path.startswith("/v1/")
        }
        assert routed == described


def test_without_the_option_there_is_no_such_page() -> None:
    with running("serve", "--port", 0, "--bundle", "tiny") as process:
        url = process.ready["url"]  # type: ignore[attr-defined]
        assert httpx.get(f"{url}label").status_code == 404
        assert httpx.get(f"{url}v1/labels").status_code == 404


def test_columns_of_others_stay(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("file,label,patient\nward/0.jpg,,p7\ngone.jpg,1,p8\n")
    desk = LabelDesk(str(folder), str(file))
    number = list(desk.names).index("ward/0.jpg")
    desk.label(number, "0")
    desk.label(number, "")
    desk.label(number, "?")
    assert file.read_text() == "file,label,patient\nward/0.jpg,?,p7\ngone.jpg,1,p8\n"
    assert LabelDesk(str(folder), str(file)).state()["labels"][number] == "?"


def test_labels_from_many_threads_are_all_kept(folder: Path, tmp_path: Path) -> None:
    desk = LabelDesk(str(folder), str(tmp_path / "l.csv"))
    threads = [
        threading.Thread(target=desk.label, args=(i, label))
        for i in range(len(desk.names))
        for label in ("0", "1")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = LabelDesk(str(folder), str(tmp_path / "l.csv")).state()["labels"]
    assert again == desk.state()["labels"] and all(again)


def test_what_cannot_be_kept_is_said(folder: Path, tmp_path: Path) -> None:
    desk = LabelDesk(str(folder), str(tmp_path / "no" / "such" / "l.csv"))
    with pytest.raises(LabelError, match="cannot be written"):
        desk.label(0, "1")
    assert not any(desk.state()["labels"])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for films, file, told in (
        (folder, tmp_path / "other.csv", "no columns"),
        (tmp_path / "gone", None, "no such folder"),
    ):
        with pytest.raises(InvalidValueError, match=told):
            LabelDesk(str(films), str(file) if file else None)


def test_by_keys_in_a_browser(browser: Any, server: str, folder: Path) -> None:
    expect = pytest.importorskip("playwright.sync_api").expect
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 844}, locale="en")
        faults: list[str] = []
        page.on("pageerror", lambda error, faults=faults: faults.append(str(error)))
        page.goto(f"{server}label")
        films = httpx.get(f"{server}v1/labels").json()["films"]
        for key, label in (("p", "1"), ("n", "0"), ("u", "?")):
            expect(page.locator("#name")).not_to_be_empty()  # the page asks for the films first
            name = page.inner_text("#name")
            if name == "broken.jpg":
                expect(page.locator("#status")).not_to_be_empty()
            else:
                expect(page.locator("#picture")).to_have_attribute("src", re.compile("blob:"))
            page.wait_for_timeout(200)
            page.keyboard.press(key)
            expect(page.locator("#name")).not_to_have_text(name)
            assert kept(folder)[name] == label
        for left in (2, 1, 0):
            page.keyboard.press("z")
            expect(page.locator("#progress")).to_contain_text(f"Labelled: {left} ")
        assert kept(folder) == {} and page.inner_text("#name") == films[0]
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width and not faults
        page.close()


def test_two_that_label_at_once_lose_nothing(folder: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "l.csv")
    one, two = LabelDesk(str(folder), file), LabelDesk(str(folder), file)
    one.label(0, "1")
    with pytest.raises(LabelError, match="another process"):
        two.label(1, "0")
    one.close()
    two.label(1, "0")  # with what the other wrote
    assert two.state()["labels"][:2] == ["1", "0"]
    assert LabelDesk(str(folder), file).state()["labels"][:2] == ["1", "0"]
    two.close()


def test_a_pipe_in_place_of_the_labels_makes_nobody_wait(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "l.csv")
    with pytest.raises(InvalidValueError, match="not a regular file"):
        LabelDesk(str(folder), str(tmp_path / "l.csv"))
