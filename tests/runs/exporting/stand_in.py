"""A hub on this machine that answers what an upload asks, and keeps what it was sent."""

from __future__ import annotations

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub(ThreadingHTTPServer):
    """Its repositories, and how it behaves.

    Attributes:
        token: the only one it knows.
        may_write: whether the token does.
        public, private: name of a repository -> path in it -> content.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.token, self.may_write = "hf_good", True
        self.public, self.private = {}, {}

    @property
    def repositories(self):
        return self.public | self.private


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        kind, name, *rest = self._parts()
        if self.headers["Authorization"] != f"Bearer {self.server.token}":
            return self._say(401, {"error": "Invalid credentials in Authorization header"})
        if kind != "models" or name not in self.server.repositories:
            return self._say(404, {"error": "Repository not found"})
        files = self.server.repositories[name]
        if rest[:1] == ["tree"]:
            return self._say(200, [_entry(path, text) for path, text in files.items()])
        is_private = name in self.server.private
        return self._say(200, {"id": name, "sha": "0" * 40, "private": is_private, "siblings": []})

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        kind, name, *rest = self._parts()
        if (kind, name) == ("validate-yaml", ""):
            return self._say(200, {"warnings": [], "errors": []})
        if self.headers["Authorization"] != f"Bearer {self.server.token}":
            return self._say(401, {"error": "Invalid username or password."})
        if not self.server.may_write:
            return self._say(403, {"error": "You don't have the rights to write here"})
        if (kind, name) == ("repos", "create"):
            return self._create(json.loads(sent))
        if rest[0] == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(sent)["files"]
            ]
            return self._say(200, {"files": files})
        assert rest == ["commit", "main"]
        for line in map(json.loads, sent.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.repositories[name][line["value"]["path"]] = content
            elif line["key"] == "deletedFile":
                del self.server.repositories[name][line["value"]["path"]]
        return self._say(200, {"commitUrl": f"{self.server.url}/{name}", "commitOid": "1" * 40})

    def _create(self, wanted):
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.server.repositories:
            return self._say(409, {"error": "exists", "url": f"{self.server.url}/{name}"})
        is_private = wanted.get("visibility") == "private" or wanted.get("private")
        (self.server.private if is_private else self.server.public)[name] = {}
        return self._say(200, {"url": f"{self.server.url}/{name}"})

    def _parts(self):
        """`models`, `ORG/NAME`, and what follows; `repos`, `create`."""
        _, api, kind, *rest = self.path.partition("?")[0].split("/")
        assert api == "api"
        return (kind, "/".join(rest[:2]), *rest[2:])

    def _say(self, status, plain):
        body = json.dumps(plain).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


def _entry(path, content):
    return {"type": "file", "path": path, "size": len(content), "oid": "2" * 40}
