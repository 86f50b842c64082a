"""HTTP API and page around one `Screener`.

    POST /v1/screen    image bytes, or multipart with one file -> the result record
    POST /v1/heatmap   the same -> JPEG of the overlay; ?layer=image or ?layer=map for the parts
    GET  /healthz /readyz /metrics /openapi.json /v1/info, and / for people

At most `workers` images are screened at once and `queue` wait; whoever comes then gets 503 with
Retry-After at once. Requests must name a host that is allowed (against DNS rebinding).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_runtime import __version__
from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import CxrEdgeError, ImageError, InvalidValueError
from edge_runtime.records.heatmap import has_heatmap, heat_png, overlay_jpeg, plain_jpeg
from edge_runtime.records.messages import LANGUAGES, accepted_language, catalogue
from edge_runtime.records.record import Examination, Record
from edge_runtime.screener import Screener
from edge_runtime.services.web.counters import Metrics
from edge_runtime.services.web.labelling import LabelDesk, LabelError, parse_label
from edge_runtime.services.web.openapi import describe_api

_STATIC = os.path.join(os.path.dirname(__file__), "static")
_PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
}
_LABEL_PAGES = {
    "/label": ("label.html", "text/html; charset=utf-8"),
    "/label.js": ("label.js", "text/javascript; charset=utf-8"),
}
_SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_RETRY_SECONDS = 1
_MOST_OF_A_LABEL = 100  # bytes
_MOST_UPLOADED = 96_000_000  # bytes of all uploads at the same time


@frozen
class ServeSettings:
    workers: int = 2
    queue: int = 32
    max_bytes: int = 64_000_000
    timeout: float = 30.0  # seconds for one request, upload included
    token: str | None = None
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")


class ApiError(Exception):
    """A request that is refused."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def make_app(
    screener: Screener,
    settings: ServeSettings,
    before_record: Callable[[Record], None] = lambda record: None,
    check_writable: Callable[[], None] = lambda: None,
    desk: LabelDesk | None = None,
) -> Starlette:
    """The ASGI application.

    Args:
        screener: Judges the images.
        settings: Limits, token and names.
        before_record: Sees every record before its answer (an audit log); what it raises is
            answered with 503, and the application is not ready until `check_writable` returns.
        check_writable: Raises while `before_record` cannot work.
        desk: Films to be labelled on the page /label; without it there is no such page.
    """
    manifest = screener.bundle.manifest
    metrics = Metrics(manifest.name, manifest.version, screener.engine_name)
    service = _Service(screener, settings, metrics, before_record, check_writable)
    pages = {**_PAGES, **(_LABEL_PAGES if desk else {})}
    static = {path: _static(*page) for path, page in pages.items()}

    async def page(request: Request) -> Response:
        return static[request.url.path]()

    async def info(request: Request) -> Response:
        point = screener.operating_point
        return JSONResponse(
            {
                "cxr-edge": __version__,
                "model": {"name": manifest.name, "version": manifest.version},
                "engine": screener.engine_name,
                "operating_point": point.name,
                "threshold": point.threshold,
                "uncertain": point.uncertain,
                "population": screener.population,
                "populations": {
                    name: {"threshold": each.threshold, "uncertain": each.uncertain}
                    for name, each in screener.points_by_population.items()
                },
                "site": screener.site_name,
                "positive": manifest.positive,
                "findings": [finding.name for finding in manifest.findings],
                "intended_use": manifest.intended_use,
                "translations": dict(manifest.translations),
                "max_bytes": settings.max_bytes,
            }
        )

    async def messages(request: Request) -> Response:
        language = request.query_params.get("lang")
        if language is None:
            language = accepted_language(request.headers.get("accept-language", ""))
        if language not in LANGUAGES:
            raise ApiError(400, "bad_request", f"lang must be one of {', '.join(LANGUAGES)}")
        return JSONResponse({"language": language, "messages": dict(catalogue(language))})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.ready = True
        yield
        service.close()

    routes = [
        *(Route(path, page, methods=["GET"]) for path in pages),
        *(_label_routes(desk, settings.timeout) if desk else ()),
        Route("/v1/screen", service.screen, methods=["POST"]),
        Route("/v1/heatmap", service.heatmap, methods=["POST"]),
        Route("/v1/info", info, methods=["GET"]),
        Route("/v1/messages", messages, methods=["GET"]),
        Route("/healthz", lambda request: PlainTextResponse("ok\n"), methods=["GET"]),
        Route("/readyz", service.readiness, methods=["GET"]),
        Route("/metrics", lambda request: PlainTextResponse(metrics.text()), methods=["GET"]),
        Route(
            "/openapi.json",
            lambda request: JSONResponse(
                describe_api(settings.max_bytes, bool(settings.token), desk is not None)
            ),
            methods=["GET"],
        ),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(_Guard, settings=settings, metrics=metrics)],
        exception_handlers={
            ApiError: _refuse,
            404: lambda request, error: _problem(404, "not_found", "no such page"),
            405: lambda request, error: _problem(
                405, "method_not_allowed", "no such method here", getattr(error, "headers", None)
            ),
        },
    )


def _label_routes(desk: LabelDesk, timeout: float) -> list[Route]:
    async def state(request: Request) -> Response:
        return JSONResponse(desk.state())

    async def film(request: Request) -> Response:
        try:
            jpeg = await asyncio.to_thread(desk.film, request.path_params["number"])
        except InvalidValueError as error:
            raise ApiError(404, "not_found", str(error)) from error
        except ImageError as error:
            raise ApiError(422, error.code.value, str(error)) from error
        return Response(jpeg, media_type="image/jpeg")

    async def label(request: Request) -> Response:
        body = b""
        try:
            async with asyncio.timeout(timeout):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > _MOST_OF_A_LABEL:
                        raise ApiError(413, "too_large", "a label is a few bytes")
        except TimeoutError as error:
            raise ApiError(408, "timeout", f"not sent within {timeout:g} seconds") from error
        except ClientDisconnect as error:
            raise ApiError(400, "disconnected", "the label ended early") from error
        try:
            given = parse_label(body)
            await asyncio.to_thread(desk.label, request.path_params["number"], given)
        except InvalidValueError as error:
            raise ApiError(400, "bad_request", str(error)) from error
        except LabelError as error:
            raise ApiError(503, "not_recorded", str(error)) from error
        return JSONResponse({"label": given})

    return [
        Route("/v1/labels", state, methods=["GET"]),
        Route("/v1/labels/{number:int}/film", film, methods=["GET"]),
        Route("/v1/labels/{number:int}", label, methods=["PUT"]),
    ]


class _Service:
    """The two verbs that need the model."""

    def __init__(
        self,
        screener: Screener,
        settings: ServeSettings,
        metrics: Metrics,
        before_record: Callable[[Record], None],
        check_writable: Callable[[], None],
    ) -> None:
        self._screener, self._settings, self._metrics = screener, settings, metrics
        self._before_record, self._check_writable = before_record, check_writable
        self._recording = True  # until the audit log says otherwise
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="serve")
        self._held = 0  # images being received, waiting or being screened
        self._bytes = 0  # of them
        self.ready = False

    def close(self) -> None:
        self._pool.shutdown(wait=True)

    async def readiness(self, request: Request) -> Response:
        full = self._held >= self._settings.workers + self._settings.queue
        state = "ready" if self.ready and not full else "busy" if self.ready else "starting"
        if not self._recording:
            # In a thread of its own: a disk that does not answer must not stop everything.
            self._recording = await asyncio.to_thread(_works, self._check_writable)
            state = state if self._recording else "not recording"
        return PlainTextResponse(state + "\n", 200 if state == "ready" else 503)

    async def screen(self, request: Request) -> Response:
        examination = await self._examine(request)
        text = examination.record.to_json()
        return Response(text + "\n", media_type="application/json")

    async def heatmap(self, request: Request) -> Response:
        layer = request.query_params.get("layer", "overlay")
        if layer not in ("overlay", "image", "map"):
            raise ApiError(400, "bad_request", "layer must be overlay, image or map")
        finding = request.query_params.get("finding") or None
        known = [each.name for each in self._screener.bundle.manifest.findings]
        if finding is not None and finding not in known:
            told = ", ".join(known) or "none by itself"
            raise ApiError(400, "bad_request", f"finding: this model tells {told}")
        examination = await self._examine(request)
        if error := examination.record.error:
            raise ApiError(422, error.code, error.message)
        if layer != "image" and not has_heatmap(examination):
            raise ApiError(422, "rejected", "the quality gate refused it: there is no evidence")
        loop = asyncio.get_running_loop()
        content, kind = await loop.run_in_executor(self._pool, _draw, examination, layer, finding)
        return Response(content, media_type=kind)

    async def _examine(self, request: Request) -> Examination:
        settings = self._settings
        population = request.query_params.get("population") or None
        try:
            self._screener.check_population(population)
        except InvalidValueError as error:
            raise ApiError(400, "bad_request", str(error)) from error
        # Counted from the first byte: an upload in progress holds memory too.
        if self._held >= settings.workers + settings.queue:
            raise ApiError(503, "overloaded", "too many images are waiting; try again")
        self._held += 1
        reserved = 0

        def reserve(count: int) -> None:
            nonlocal reserved
            if self._bytes + count > max(_MOST_UPLOADED, settings.max_bytes):
                raise ApiError(503, "overloaded", "too many bytes are waiting; try again")
            self._bytes += count
            reserved += count

        try:
            async with asyncio.timeout(settings.timeout):
                name, data = await _read_image(request, settings.max_bytes, reserve)
                return await self._run(name, data, population)
        except TimeoutError as error:
            raise ApiError(
                408, "timeout", f"not done within {settings.timeout:g} seconds"
            ) from error
        except ClientDisconnect as error:
            raise ApiError(400, "disconnected", "the upload ended early") from error
        finally:
            self._held -= 1
            self._bytes -= reserved

    async def _run(self, name: str, data: bytes, population: str | None) -> Examination:
        metrics = self._metrics

        def work() -> Examination:
            metrics.waiting -= 1
            metrics.in_progress += 1
            start = time.perf_counter()
            try:
                examination = self._screener.examine(data, name, population=population)
            finally:
                metrics.in_progress -= 1
            record = examination.record
            metrics.result(record.status, record.decision, time.perf_counter() - start)
            try:
                self._before_record(record)
            except CxrEdgeError as error:
                self._recording = False
                raise ApiError(
                    503, "not_recorded", f"screened, but not recorded: {error}"
                ) from error
            self._recording = True
            return examination

        metrics.waiting += 1
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _works(check: Callable[[], None]) -> bool:
    try:
        check()
    except CxrEdgeError:
        return False
    return True


async def _read_image(
    request: Request, limit: int, reserve: Callable[[int], None]
) -> tuple[str, bytes]:
    """(source, bytes) of the one image in a request; `reserve` is told of bytes as they come."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise ApiError(413, "file_too_large", f"more than the limit of {limit} bytes")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_form(request, limit, reserve)
    data = bytearray()
    async for part in request.stream():
        reserve(len(part))
        data += part
        if len(data) > limit:
            raise ApiError(413, "file_too_large", f"more than the limit of {limit} bytes")
    name = unquote(request.headers.get("x-source", "")) or "-"
    return name[:500], bytes(data)


async def _read_form(
    request: Request, limit: int, reserve: Callable[[int], None]
) -> tuple[str, bytes]:
    async def limited() -> AsyncGenerator[bytes, None]:
        total = 0
        async for part in request.stream():
            total += len(part)
            reserve(len(part))
            if total > limit + 65_536:
                raise ApiError(413, "file_too_large", f"more than the limit of {limit} bytes")
            yield part

    try:
        parser = MultiPartParser(request.headers, limited(), max_files=1, max_fields=8)
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError, LookupError, AssertionError) as error:
        raise ApiError(400, "bad_request", f"multipart form: {error}") from error
    files = [value for value in form.values() if not isinstance(value, str)]
    try:
        if len(files) != 1:
            raise ApiError(400, "bad_request", f"send exactly one file, got {len(files)}")
        return (files[0].filename or "-")[:500], await files[0].read()
    finally:
        await form.close()


def _draw(examination: Examination, layer: str, finding: str | None) -> tuple[bytes, str]:
    if layer == "map":
        return heat_png(examination, finding=finding), "image/png"
    if layer == "image":
        return plain_jpeg(examination), "image/jpeg"
    return overlay_jpeg(examination, finding=finding) or b"", "image/jpeg"


_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})


class _Guard:
    """Host header, token, security headers, and the count of responses."""

    _OPEN = frozenset({*_PAGES, *_LABEL_PAGES, "/healthz", "/readyz", "/v1/messages"})

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.response(message["status"])
                message["headers"] = [
                    *message.get("headers", []),
                    *((k.encode(), v.encode()) for k, v in _SECURITY_HEADERS.items()),
                ]
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        host = headers.get("host", "")
        if _host_name(host) not in self._settings.hosts:
            return _problem(421, "wrong_host", "this name is not served; see --allow-host")
        if scope["method"] not in _HARMLESS and not self._from_here(headers, host):
            return _problem(
                403,
                "foreign_origin",
                "a page of another site may not send images here; see --allow-host",
            )
        token = self._settings.token
        if token and scope["path"] not in self._OPEN:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), token.encode()):
                return _problem(401, "unauthorised", "a token is needed: Authorization: Bearer …",
                                {"www-authenticate": "Bearer"})  # fmt: skip
        return None

    def _from_here(self, headers: Mapping[str, str], host: str) -> bool:
        """Whether a browser sends this for one of our own pages; programs tell no origin.

        Source: Fetch Metadata Request Headers (W3C), and the Origin header (RFC 6454).
        """
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = headers.get("origin")
        if origin is None:
            return True
        scheme, separator, place = origin.partition("://")
        # The very server, or a proxy before it that serves it under an allowed name.
        return (
            bool(separator)
            and scheme in ("http", "https")
            and (place == host or _host_name(place) in self._settings.hosts)
            and _same_port(place, host)
        )


def _host_name(place: str) -> str:
    """Without the port, in lower case."""
    name = place[: place.rfind("]") + 1] if place.startswith("[") else place.partition(":")[0]
    return name.lower()


def _same_port(place: str, host: str) -> bool:
    """Whether two HOST:PORT have the same port; another one is another program's."""
    return place[len(_host_name(place)) :] == host[len(_host_name(host)) :]


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    # The rest of an upload that is refused is not waited for.
    headers = {"connection": "close"} if error.status in (408, 413) else {}
    if error.status == 503:
        headers["retry-after"] = str(_RETRY_SECONDS)
    return _problem(error.status, error.code, str(error), headers)


def _problem(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    body = json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False)
    return Response(body + "\n", status, headers, "application/json")


def _static(name: str, kind: str) -> Callable[[], Response]:
    with open(os.path.join(_STATIC, name), "rb") as file:
        content = file.read()
    return lambda: Response(content, headers={"content-type": kind})
