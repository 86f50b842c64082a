"""JSON-lines request and response over two streams, for programs in any language.

    request   {"id": 7, "path": "ward3/0001.jpeg"}   or   {"id": 8, "base64": "/9j/4AAQ…"}
              optional: "source" (what the record calls it), "heatmap": true,
              "population": "children" or "adults" (whose threshold decides)
    response  {"id": 7, "result": {record}}, with "heatmap_jpeg_base64" where it was asked for
              {"id": 8, "error": {"code": "bad_request", "message": "…"}}
              code: bad_request, not_recorded (the audit log cannot be written), internal

Responses come as they are ready, so `id` (any JSON value) tells which is which. No more requests
are read than can be worked on: a writer that is faster waits in its own write. A large film
is best given by its path.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.strict_json import strict_loads
from edge_runtime.errors import CxrEdgeError, InvalidValueError
from edge_runtime.records.record import Examination, Record
from edge_runtime.screener import Screener

MAX_LINE_BYTES = 64_000_000
_LARGE_LINE = 4_000_000
_AHEAD_PER_WORKER = 2
_KEYS = ("id", "path", "base64", "source", "heatmap", "population")
_OUR_FAULT = frozenset({"not_recorded", "internal"})


class BadRequestError(Exception):
    """A line that is no request."""


@frozen
class Answered:
    results: int  # answers that hold a record, or say what was wrong with the request
    failed: int  # requests whose answer says that we could not, or that got no answer at all


def serve_pipe(
    screener: Screener,
    source: BinaryIO,
    target: BinaryIO,
    workers: int,
    stopped: Callable[[], bool] = lambda: False,
    before_record: Callable[[Record], None] = lambda record: None,
) -> Answered:
    """Answer requests until the stream ends or `stopped`; every accepted one is answered.

    Where answers cannot be written any more, nothing more is read.
    """
    waiting = threading.Semaphore(workers * _AHEAD_PER_WORKER)
    lock = threading.Lock()
    results = failed = 0
    broken = threading.Event()

    def respond(response: dict[str, Any]) -> None:
        nonlocal results, failed
        line = json.dumps(response, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        ours = response.get("error", {}).get("code") in _OUR_FAULT
        with lock:
            try:
                if not broken.is_set():
                    target.write(line)
                    target.flush()
            except (OSError, ValueError):  # nobody reads any more
                broken.set()
            if ours or broken.is_set():
                failed += 1
            else:
                results += 1

    def work(lines: list[bytes]) -> None:
        try:
            # Taken out of the list, so that nobody else holds it: it can be large.
            respond(_answer(screener, lines.pop(), before_record))
        finally:
            waiting.release()

    with ThreadPoolExecutor(workers, thread_name_prefix="pipe") as pool:
        while not stopped() and not broken.is_set():
            waiting.acquire()
            line = source.readline(MAX_LINE_BYTES + 1)
            if not line:
                break
            if not line.strip():
                waiting.release()
                continue
            if len(line) > MAX_LINE_BYTES:
                _skip_line(source, line)
                respond(_error(None, f"a line of more than {MAX_LINE_BYTES} bytes; give a path"))
                waiting.release()
                continue
            is_large = len(line) > _LARGE_LINE
            lines = [line]
            del line
            answering = pool.submit(work, lines)
            if is_large:  # a film as text takes thrice its size: one at a time
                answering.result()
    return Answered(results, failed)


def _skip_line(source: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = source.readline(1 << 20)


def _answer(
    screener: Screener, line: bytes, before_record: Callable[[Record], None]
) -> dict[str, Any]:
    identity: object = None
    try:
        request = _parse(line)
        del line
        identity = request.get("id")
        image, source = _image(request), _text(request, "source")
        population = _text(request, "population")
        try:
            screener.check_population(population)
        except InvalidValueError as error:
            raise BadRequestError(str(error)) from error
        request.pop("base64", None)  # not three times in memory while it is screened
        examination = screener.examine(image, source, population=population)
        before_record(examination.record)
        response: dict[str, Any] = {
            "id": identity,
            "result": json.loads(examination.record.to_json()),
        }
        if request.get("heatmap") is True:
            response["heatmap_jpeg_base64"] = _heatmap(examination)
        return response
    except BadRequestError as error:
        return _error(identity, str(error))
    except CxrEdgeError as error:
        return _error(identity, str(error), "not_recorded")
    except Exception as error:  # a defect of ours: said, and the next request is answered
        return _error(identity, type(error).__name__, "internal")


def _parse(line: bytes) -> dict[str, Any]:
    try:
        request = strict_loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"not JSON: {error}") from error
    if not isinstance(request, dict):
        raise BadRequestError("a request is a JSON object with id and path or base64")
    unknown = sorted(set(request) - set(_KEYS))
    if unknown:
        raise BadRequestError(f"unknown keys {unknown}; {', '.join(_KEYS)} are known")
    return request


def _image(request: dict[str, Any]) -> str | bytes:
    path, text = request.get("path"), request.get("base64")
    if isinstance(path, str) and text is None:
        return path
    if isinstance(text, str) and path is None:
        try:
            return binascii.a2b_base64(text, strict_mode=True)
        except (binascii.Error, ValueError) as error:
            raise BadRequestError(f"base64 is damaged: {error}") from error
    raise BadRequestError("a request needs either path or base64, a string")


def _text(request: dict[str, Any], key: str) -> str | None:
    value = request.get(key)
    if value is not None and not isinstance(value, str):
        raise BadRequestError(f"{key} must be a string")
    return value


def _heatmap(examination: Examination) -> str | None:
    from edge_runtime.records.heatmap import overlay_jpeg

    picture = overlay_jpeg(examination)
    return None if picture is None else base64.b64encode(picture).decode()


def _error(identity: object, message: str, code: str = "bad_request") -> dict[str, Any]:
    return {"id": identity, "error": {"code": code, "message": message}}
