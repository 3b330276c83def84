"""The HTTP end of a supervisor: a thread that answers four paths on one port."""

import errno
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from streamflow.base.clock import Clock
from streamflow.base.errors import ConflictError
from streamflow.engine.plan import Plan
from streamflow.runtime.hints import os_reason, sentence
from streamflow.runtime.pipeline import result_of
from streamflow.runtime.processes import is_alive
from streamflow.runtime.progress import backlog_events
from streamflow.topics.protocol import Log
from streamflow.web.collector import PipelineCollector

PORT = 9464
_PORTS_TRIED = 20


class MetricsServer:
    """Serves until closed. `/healthz`: this process answers. `/readyz`: at least one worker runs and every task has
    an owner.

    ConflictError if the port is taken; `port` None takes the first free one from 9464 on."""

    def __init__(
        self, plan: Plan, log: Log, clock: Clock, wanted: Callable[[], int], host: str, port: int | None
    ) -> None:
        self.plan, self.log = plan, log
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(PipelineCollector(plan, log, clock, wanted))
        self._server = _bind(host, port, self._handler())
        self.url = f"http://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def metrics(self) -> bytes:
        return generate_latest(self.registry)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, path: str) -> tuple[int, str, bytes]:
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, self.metrics()
        if path == "/healthz":
            return 200, "text/plain", b"ok\n"
        if path == "/readyz":
            reason = self._not_ready()
            return (200, "text/plain", b"ok\n") if reason is None else (503, "text/plain", f"{reason}\n".encode())
        if path == "/status":
            return 200, "application/json", orjson.dumps(self._status())
        if path == "/":
            return 200, "text/plain", b"StreamFlow supervisor: /metrics /healthz /readyz /status\n"
        return 404, "text/plain", b"not found; try /metrics /healthz /readyz /status\n"

    def _not_ready(self) -> str | None:
        snapshot = self.log.snapshot(self.plan.pipeline)
        if not any(map(is_alive, snapshot.workers.values())):
            return "no worker has joined yet"
        free = sum(state.owner is None for state in snapshot.tasks.values())
        return f"{free} of {len(snapshot.tasks)} tasks have no owner yet" if free else None

    def _status(self) -> dict[str, object]:
        snapshot = self.log.snapshot(self.plan.pipeline)
        return {
            "pipeline": self.plan.pipeline,
            "workers": [{"id": w.id, "pid": w.pid} for w in snapshot.workers.values() if is_alive(w)],
            "backlog_events": backlog_events(snapshot, self.plan.stages),
            "counters": {
                stage: {name: int(value) for name, value in counts.items() if not _is_histogram(name)}
                for stage, counts in result_of(self.plan.pipeline, snapshot).counters.items()
            },
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = answer(self.path.split("?")[0])
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """A scrape each few seconds is no news."""

        return Handler


def _is_histogram(counter: str) -> bool:
    """Part of one of the histograms of `/metrics`, which mean nothing one by one."""
    return "_le:" in counter or counter.endswith(("_sum", "_count"))


def _bind(host: str, port: int | None, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    for candidate in range(PORT, PORT + _PORTS_TRIED) if port is None else (port,):
        try:
            return ThreadingHTTPServer((host, candidate), handler)
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                hint = "Choose --host 127.0.0.1, or 0.0.0.0 for all of this machine's addresses."
                raise ConflictError(f"'{host}' is no IPv4 address of this machine. {hint}") from error
            if error.errno != errno.EADDRINUSE:
                reason = sentence(os_reason(error))
                raise ConflictError(
                    f"port {candidate} on {host} can't be used: {reason} Choose another --port."
                ) from error
            if port is not None:
                raise ConflictError(f"port {port} on {host} is taken. Choose another --port.") from error
    raise ConflictError(f"ports {PORT} to {PORT + _PORTS_TRIED - 1} on {host} are all taken. Choose one with --port.")
