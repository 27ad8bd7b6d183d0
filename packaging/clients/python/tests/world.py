"""The surroundings of the tests: the real server, a proxy that breaks connections, a receiver."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import queue
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from typing_extensions import Self

CLIENTS = Path(__file__).resolve().parents[2]
SCENARIO: dict[str, Any] = json.loads((CLIENTS / "scenario.json").read_text())
DEBUG_BINARY = CLIENTS.parents[1] / "target" / "debug" / "triggerd"
PATIENCE = 180.0


class Server:
    """The real binary, running `serve` on a directory of its own."""

    def __init__(self, directory: Path) -> None:
        (directory / "triggerd.toml").write_text("\n".join(SCENARIO["config"]))
        binary = os.environ.get("TRIGGERD_TEST_BINARY") or str(DEBUG_BINARY)
        environment = {**os.environ, "TRIGGERD__RETENTION__KEEP_FREE_SHARE": "0"}
        self.process = subprocess.Popen(
            [binary, "serve", "--config", "triggerd.toml"],
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = f"http://{self.address()}"
        self.admin_token = (directory / "data" / "admin.token").read_text().strip()

    def address(self) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            if (entry := json.loads(line))["message"] == "triggerd is ready":
                threading.Thread(target=self.process.stdout.read, daemon=True).start()
                return str(entry["address"])
        raise AssertionError("the server ended")

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0


class HttpServer:
    """Serves with a handler on threads until the end of a `with`."""

    def __init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if self.raw_requestline and self.parse_request():
                    body = self.rfile.read(int(self.headers.get("content-length") or 0))
                    outer.serve(self, body)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def serve(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()


class BreakingProxy(HttpServer):
    """Each request has a connection of its own. One in ten breaks, another one in ten is late.

    A connection breaks before the request, before the answer or within the answer.
    """

    def __init__(self, to: str) -> None:
        super().__init__()
        self.to = to.removeprefix("http://")
        self.count = itertools.count()
        self.broken = 0

    def serve(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        number = next(self.count)
        breaks = (number // 10) % 3 if number % 10 == 3 else None
        if breaks is not None:
            self.broken += 1
        if breaks == 0:
            return
        if number % 10 == 7:
            time.sleep(0.05)
        upstream = http.client.HTTPConnection(self.to, timeout=PATIENCE)
        upstream.request(request.command, request.path, body or None, dict(request.headers))
        response = upstream.getresponse()
        answer = response.read()
        upstream.close()
        if breaks == 1:
            return
        request.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() != "transfer-encoding":
                request.send_header(name, value)
        request.end_headers()
        request.wfile.write(answer[: len(answer) // 2] if breaks == 2 else answer)


class Receiver(HttpServer):
    """Keeps each request to `/`, and refuses those to `/refuse`."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()

    def serve(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        if request.path == "/refuse":
            request.send_error(500)
            return
        self.requests.put((dict(request.headers), body))
        request.send_response(204)
        request.end_headers()
