"""A hub on loopback: as much of the Hugging Face Hub's protocol as a download needs, with faults on demand."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
LARGE = 500_000


class Hub:
    """Serves `repos`, {name: {file: bytes}}. Use with `with`; `requests` are (method, path, Range header) as they came.

    `cut` {file: bytes} ends the connection so early, for files in `once` only the first time, with `stalls` only once
    `go_on` is set; `lies` {file: bytes} gives other content; `refused` are statuses per repository, as {name: 403}.
    `failing` are [method, end of the path, times]: so often it is overloaded, and asks to be tried again at once.
    """

    def __init__(self, repos):
        self.repos = repos
        self.requests = []
        self.cut, self.once = {}, set()
        self.stalls = False
        self.stalled, self.go_on = threading.Event(), threading.Event()
        self.lies = {}
        self.refused = {}
        self.failing = []
        self.commit = COMMIT

    def __enter__(self):
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked(self, method, file):
        """The Range headers (None: without) of the requests for a file's content."""
        return [given for how, path, given in self.requests if how == method and path.endswith(f"/{file}")]


def checksum(content):
    """What the hub names a file by: SHA-256 of a large one, git's object id of a small one."""
    if len(content) >= LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub = None

    def log_message(self, *_args):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        for each in self.hub.failing:
            if each[2] and self.command == each[0] and path.endswith(each[1]):
                each[2] -= 1
                self._send(503, {"Retry-After": "0"})
                return
        if path.startswith("/api/models/"):
            self._list(path.removeprefix("/api/models/"), parse_qs(url.query))
            return
        is_content = path.startswith("/cdn/")
        name, _, rest = path.removeprefix("/cdn").strip("/").partition("/resolve/")
        _, _, file = rest.partition("/")
        content = self.hub.repos.get(name, {}).get(file)
        if content is None:
            code = "EntryNotFound" if name in self.hub.repos else "RepoNotFound"
            self._send(404, {"X-Error-Code": code, "X-Repo-Commit": self.hub.commit})
        elif is_content or len(content) < LARGE:
            self._content(file, content)
        else:
            # Large files lie elsewhere: the hub tells their checksum and size, and where.
            linked = {"X-Linked-ETag": f'"{checksum(content)}"', "X-Linked-Size": str(len(content))}
            place = {"Location": f"{self.hub.url}/cdn/{name}/resolve/{rest}", "X-Repo-Commit": self.hub.commit}
            self._send(302, linked | place)

    def _list(self, rest, query):
        name, _, revision = rest.partition("/revision/")
        if (status := self.hub.refused.get(name)) is not None:
            code = {401: "RepoNotFound", 403: "GatedRepo"}.get(status, "")
            self._send(status, {"X-Error-Code": code, "X-Error-Message": "no access", "Retry-After": "0"})
            return
        files = self.hub.repos.get(name)
        if files is None or revision != "main":
            self._send(404, {"X-Error-Code": "RepoNotFound"})
            return
        siblings = []
        for file, content in files.items():
            entry = {"rfilename": file}
            if "blobs" in query:
                entry |= {"size": len(content), "blobId": checksum(content) if len(content) < LARGE else "0" * 40}
                if len(content) >= LARGE:
                    entry["lfs"] = {"sha256": checksum(content), "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        document = {
            "id": name,
            "modelId": name,
            "sha": self.hub.commit,
            "private": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "cardData": {"license": "apache-2.0"},
            "siblings": siblings,
        }
        self._send(200, {"Content-Type": "application/json"}, json.dumps(document).encode())

    def _content(self, file, content):
        etag = {"ETag": f'"{checksum(content)}"', "X-Repo-Commit": self.hub.commit, "Accept-Ranges": "bytes"}
        content = self.hub.lies.get(file, content)
        given, status = self.headers.get("Range"), 200
        if given is not None:
            first = int(given.removeprefix("bytes=").rstrip("-"))
            if first >= len(content):
                self._send(416, {"Content-Range": f"bytes */{len(content)}"})
                return
            etag["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            content, status = content[first:], 206
        if self.command == "GET" and file in self.hub.cut:
            self._head(status, etag, len(content))
            self.wfile.write(content[: self.hub.cut[file]])
            if file in self.hub.once:
                del self.hub.cut[file]
            self.wfile.flush()
            if self.hub.stalls:
                self.hub.stalled.set()
                self.hub.go_on.wait(60)
            self.close_connection = True
            return
        self._send(status, etag, content)

    def _send(self, status, headers, content=b""):
        self._head(status, headers, len(content))
        if self.command == "GET":
            self.wfile.write(content)

    def _head(self, status, headers, length):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
