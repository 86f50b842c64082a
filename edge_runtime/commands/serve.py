"""A local web page and HTTP API."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import ipaddress
import os
import socket

from edge_runtime.basics.install import install_extra
from edge_runtime.basics.processors import default_threads
from edge_runtime.commands.options import (
    add_screening_options,
    open_audit_log,
    port,
    positive_int,
    seconds,
    whole,
)
from edge_runtime.commands.running import (
    Log,
    StopSignal,
    add_log_option,
    load_tested_screener,
    quiet_libraries,
)
from edge_runtime.errors import InvalidValueError

EXTRA = "serve"
_MODULES = ("starlette", "uvicorn", "python_multipart")


def is_available() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in _MODULES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Serves a page for people and an API for programs, on this machine alone "
        "unless told otherwise. On any other address it demands a token."
    )
    parser.epilog = "example: cxr-edge serve --port 8080"
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine)")
    parser.add_argument("--port", type=port, default=8080, help="0: any free one")
    parser.add_argument("--token", help="what clients must show; better: --token-file")
    parser.add_argument("--token-file", metavar="FILE", help="its first line is the token")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="served under this name"
    )
    parser.add_argument(
        "--queue", type=whole(0, 100_000), default=32, metavar="N", help="images that may wait"
    )
    parser.add_argument(
        "--max-bytes", type=positive_int, default=64_000_000, metavar="N", help="of one upload"
    )
    parser.add_argument(
        "--timeout", type=seconds, default=30.0, metavar="S", help="of one request, upload included"
    )
    parser.add_argument(
        "--label", metavar="DIR", help="label the films of DIR on the page /label, for `adapt`"
    )
    parser.add_argument(
        "--labels", metavar="CSV", help="where labels are kept; default: labels.csv in that folder"
    )
    add_log_option(parser)
    add_screening_options(parser)


def run(arguments: argparse.Namespace) -> int:
    if not is_available():
        raise InvalidValueError(f"serve needs: {install_extra(EXTRA)}")
    token = _token(arguments)
    if not _is_loopback(arguments.host) and not token:
        raise InvalidValueError(
            f"--host {arguments.host} can be reached from other machines: give --token-file, or "
            "serve this machine alone"
        )
    import uvicorn

    from edge_runtime.services.web.app import ServeSettings, make_app
    from edge_runtime.services.web.connections import (
        LimitedLog,
        bounded_protocol,
        most_connections,
    )
    from edge_runtime.services.web.labelling import LabelDesk

    if arguments.labels and not arguments.label:
        raise InvalidValueError("--labels goes with --label")
    desk = LabelDesk(arguments.label, arguments.labels) if arguments.label else None
    log = Log(arguments.log_json)
    quiet_libraries(log)
    workers = arguments.threads or default_threads()
    screener = load_tested_screener(arguments, workers)
    hosts = {"127.0.0.1", "localhost", "[::1]", *map(str.lower, arguments.allow_host)}
    if arguments.host not in ("0.0.0.0", "::"):
        hosts.add(f"[{arguments.host}]" if ":" in arguments.host else arguments.host.lower())
    settings = ServeSettings(
        workers, arguments.queue, arguments.max_bytes, arguments.timeout, token, tuple(hosts)
    )
    audit = open_audit_log(arguments)
    if audit is None:
        app = make_app(screener, settings, desk=desk)
    else:
        app = make_app(screener, settings, audit.record, audit.check_writable, desk)
    family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((arguments.host, arguments.port))
        except OSError as error:
            raise InvalidValueError(
                f"cannot listen on {arguments.host}:{arguments.port}: {error.strerror or error}"
            ) from error
        listener.listen(128)  # who connects from now on is answered as soon as the server runs
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{port}/"
        log.say(
            "ready",
            f"{url} with {screener.engine_name}. Screening support, not a diagnosis.",
            url=url,
        )
        config = uvicorn.Config(
            app,
            http=bounded_protocol(most_connections()),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=int(arguments.timeout) + 5,
        )
        LimitedLog(lambda text: log.say("server", text)).attach()
        server = uvicorn.Server(config)
        stop = StopSignal(lambda: setattr(server, "should_exit", True))
        # uvicorn would raise the signal again at its end, and the exit code would be the signal's.
        server.capture_signals = contextlib.nullcontext
        if not stop.is_set:
            server.run(sockets=[listener])
    log.say("stopped", "stopped; every accepted image was answered")
    return 0


def _token(arguments: argparse.Namespace) -> str | None:
    token: str | None = arguments.token or os.environ.get("CXR_EDGE_TOKEN")
    if arguments.token_file:
        with open(arguments.token_file, encoding="utf-8") as file:
            token = file.readline().strip()
    if token is not None and len(token) < 8:
        raise InvalidValueError("the token must have at least 8 characters")
    return token


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
