"""An embedding provider on the loopback, which answers as it is told to and remembers what it was asked."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

DIM = 16


def vector(text, dim=DIM):
    """A vector that only the text decides; not of unit length."""
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
    return (np.random.default_rng(seed).standard_normal(dim) * 3).astype("<f4")


def unit(text, dim=DIM):
    row = vector(text, dim).astype(np.float64)
    return row / np.linalg.norm(row)


def item(index, text, dim=DIM):
    coded = base64.b64encode(vector(text, dim).tobytes()).decode()
    return {"object": "embedding", "index": index, "embedding": coded}


def answer(texts, dim=DIM):
    data = [item(index, text, dim) for index, text in enumerate(texts)]
    return {"object": "list", "model": "m", "data": data, "usage": {"total_tokens": sum(map(len, texts))}}


class Provider:
    """Use it as a context. `behave(number, texts)` gives (status, headers, document or raw bytes) of each request.

    Requests are numbered from 1. `requests` are the texts of each, `keys` the Authorization headers.
    """

    def __init__(self, behave: Callable | None = None) -> None:
        self.behave = behave or (lambda _number, texts: (200, {}, answer(texts)))
        self.requests = []
        self.bodies = []
        self.keys = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    def __enter__(self):
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else the body waits 40 ms for the headers to be acknowledged

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status, headers, document = provider._take(self.path, self.headers, body)
                raw = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                for name, value in {"content-type": "application/json", "content-length": len(raw), **headers}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                try:
                    self.wfile.write(raw)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def texts(self):
        return [text for texts in self.requests for text in texts]

    def _take(self, path, headers, body):
        assert path == "/v1/embeddings"
        with self._lock:
            self.requests.append(body["input"])
            self.bodies.append(body)
            self.keys.append(headers.get("authorization"))
            number = len(self.requests)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            return self.behave(number, body["input"])
        finally:
            with self._lock:
                self._now -= 1
