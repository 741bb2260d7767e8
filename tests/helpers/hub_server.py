"""A small server on loopback that speaks as much of the Hugging Face Hub's protocol as publishing and pulling need.

It keeps repositories in memory, tells users by their tokens, notes what it was asked, and misbehaves when told to.
`Client` runs the command against it.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

_COUNTER = itertools.count()
LFS_FROM_BYTES = 20_000
LFS_SUFFIXES = (".safetensors", ".png")


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    owner: str
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        sha = hashlib.sha1(f"commit {next(_COUNTER)}".encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.refs[branch] = sha
        return sha

    def is_large(self, name: str, content: bytes) -> bool:
        return name in self.large or name.endswith(LFS_SUFFIXES) or len(content) > LFS_FROM_BYTES


@dataclass
class Hub:
    """The state of the server. ``tamper`` changes the body of a file on its way, ``cuts`` ends transfers early:
    bytes to give of each of the next requests for a file; ``listing`` changes what a repository's listing says."""

    users: dict[str, str] = field(default_factory=dict)
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    tamper: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    listing: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None
    failing: int | None = None
    url: str = ""

    def calm(self) -> None:
        """Behave again."""
        self.tamper, self.cuts, self.listing, self.failing = {}, {}, None, None
        self.log.clear()
        self.ranges.clear()


class Refusal(Exception):  # noqa: N818
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_arguments: Any) -> None:
        pass

    def handle_any(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.log.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if self.hub.failing is not None:
                raise Refusal(self.hub.failing)
            self.route(path, body)
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            content = json.dumps({"error": refusal.message}).encode()
            self.answer(content, refusal.status, {k: v for k, v in headers.items() if v})

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

    def answer(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def say(self, **content: Any) -> None:
        self.answer(json.dumps(content).encode())

    def user(self) -> str | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.hub.users:
            raise Refusal(401, message="Invalid credentials in Authorization header")
        return self.hub.users.get(token)

    def readable(self, name: str) -> Repo:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self.user() != repo.owner):
            raise Refusal(401 if self.user() is None else 404, "RepoNotFound", "Repository not found")
        return repo

    def writable(self, name: str) -> Repo:
        repo = self.readable(name)
        if self.user() != repo.owner:
            raise Refusal(403, message="You have no right to write here")
        return repo

    def resolved(self, repo: Repo, revision: str) -> str:
        sha = repo.refs.get(revision, revision)
        if sha not in repo.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def route(self, path: str, body: bytes) -> None:
        table: list[tuple[str, str, Callable[..., None]]] = [
            ("POST", r"/api/repos/create", self.create),
            ("POST", r"/api/validate-yaml", self.validate),
            ("POST", r"/api/models/([^/]+/[^/]+)/preupload/(.+)", self.preupload),
            ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.batch),
            ("PUT", r"/lfs/([0-9a-f]{64})", self.put),
            ("POST", r"/api/models/([^/]+/[^/]+)/commit/(.+)", self.commit),
            ("GET", r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self.info),
            ("GET", r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", self.tree),
            ("GET", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.resolve),
            ("HEAD", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.resolve),
        ]
        for command, pattern, handle in table:
            match = re.fullmatch(pattern, path)
            if command == self.command and match is not None:
                handle(body, *match.groups())
                return
        raise Refusal(404, message=f"no such route: {self.command} {path}")

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        user = self.user()
        if user is None:
            raise Refusal(401, message="Unauthorized")
        owner = asked.get("organization") or user
        if owner != user:
            raise Refusal(403, message=f"You don't have the rights to create a model under the namespace {owner}")
        name = f"{owner}/{asked['name']}"
        if name in self.hub.repos:
            content = {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}
            self.answer(json.dumps(content).encode(), 409)
            return
        self.hub.repos[name] = Repo(owner, asked.get("visibility") == "private" or asked.get("private") is True)
        self.hub.repos[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        self.say(url=f"{self.hub.url}/{name}", name=name)

    def validate(self, body: bytes) -> None:
        parts = json.loads(body)["content"].split("---\n", 2)
        errors = []
        try:
            metadata = yaml.safe_load(parts[1])
            if not isinstance(metadata.get("license"), str):
                errors.append({"message": '"license" must be a string'})
            for model in metadata.get("model-index", []):
                for result in model["results"]:
                    if not {"type", "name"} <= set(result["dataset"]) or "type" not in result["task"]:
                        errors.append({"message": '"model-index" lacks a dataset or a task'})
                    if any(not {"type", "value"} <= set(metric) for metric in result["metrics"]):
                        errors.append({"message": '"model-index" has a metric without type or value'})
        except (yaml.YAMLError, IndexError, KeyError, AttributeError) as error:
            errors.append({"message": str(error)})
        content = json.dumps({"errors": errors, "warnings": []}).encode()
        self.answer(content, 400 if errors else 200)

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        repo = self.writable(name)
        self.resolved(repo, revision)
        files = []
        for file in json.loads(body)["files"]:
            large = file["size"] > LFS_FROM_BYTES or file["path"].endswith(LFS_SUFFIXES)
            files.append({"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False})
        self.say(files=files)

    def batch(self, body: bytes, name: str) -> None:
        self.writable(name)
        objects = []
        for wanted in json.loads(body)["objects"]:
            found = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.objects:
                found["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}", "header": {}}}
            objects.append(found)
        self.say(transfer="basic", objects=objects)

    def put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise Refusal(400, message="the object is not what its id says")
        self.hub.objects[oid] = body
        self.answer(b"")

    def commit(self, body: bytes, name: str, branch: str) -> None:
        repo = self.writable(name)
        files = dict(repo.commits[self.resolved(repo, branch)])
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise Refusal(400, message="a large file was not uploaded")
                files[value["path"]] = self.hub.objects[value["oid"]]
                repo.large.add(value["path"])
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
        sha = repo.commit(files, branch)
        self.say(commitUrl=f"{self.hub.url}/{name}/commit/{sha}", commitOid=sha, success=True)

    def tree(self, _body: bytes, name: str, revision: str) -> None:
        repo = self.readable(name)
        found = []
        for file, content in sorted(repo.commits[self.resolved(repo, revision)].items()):
            entry: dict[str, Any] = {"type": "file", "path": file, "size": len(content), "oid": blob_id(content)}
            if repo.is_large(file, content):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
            found.append(entry)
        self.answer(json.dumps(found).encode())

    def info(self, _body: bytes, name: str, revision: str | None) -> None:
        repo = self.readable(name)
        sha = self.resolved(repo, revision or "main")
        siblings = []
        for file, content in sorted(repo.commits[sha].items()):
            sibling: dict[str, Any] = {"rfilename": file, "size": len(content), "blobId": blob_id(content)}
            if repo.is_large(file, content):
                digest = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
            siblings.append(sibling)
        if self.hub.listing is not None:
            siblings = self.hub.listing(siblings)
        self.say(id=name, modelId=name, sha=sha, private=repo.private, siblings=siblings, tags=[])

    def resolve(self, _body: bytes, name: str, revision: str, file: str) -> None:
        repo = self.readable(name)
        sha = self.resolved(repo, revision)
        if file not in repo.commits[sha]:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        content = repo.commits[sha][file]
        large = repo.is_large(file, content)
        etag = hashlib.sha256(content).hexdigest() if large else blob_id(content)
        headers = {"X-Repo-Commit": sha, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if large:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        if self.command == "GET":
            content = self.hub.tamper.get(file, lambda same: same)(content)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        status = 200
        if wanted is not None:
            self.hub.ranges.append(f"{file} from {wanted[1]}")
            headers["Content-Range"] = f"bytes {wanted[1]}-{len(content) - 1}/{len(content)}"
            content, status = content[int(wanted[1]) :], 206
        if self.command == "GET" and self.hub.cuts.get(file):
            self.cut(content, self.hub.cuts[file].pop(0), status, headers)
        else:
            self.answer(content, status, headers)

    def cut(self, content: bytes, give: int, status: int, headers: dict[str, str]) -> None:
        """Promise everything, give the first bytes, hang up."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:give])
        self.wfile.flush()
        self.close_connection = True


class Client:
    """A process that has huggingface_hub pointed at the server."""

    def __init__(self, url: str, cache: Path) -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "MRSR_BENCH_"))}
        env |= {"HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1"}
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "hub_client.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        self.said = ""
        self.env: dict[str, str | None] = {}

    def _ask(self, **asked: Any) -> dict[str, Any]:
        self.process.stdin.write(json.dumps({"env": self.env, **asked}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.said += answer["out"] + answer["err"] + str(answer["result"])
        return answer

    def run(self, *argv: Any, **env: str | None) -> Any:
        """The command; returns its JSON."""
        answer = self._ask(argv=[str(a) for a in argv], env={**self.env, **env})
        assert answer["code"] == 0, answer["err"]
        return json.loads(answer["out"].splitlines()[-1]) if "--json" in argv else answer["out"]

    def refused(self, *argv: Any, **env: str | None) -> str:
        """The command; returns the one sentence it ended in."""
        answer = self._ask(argv=[str(a) for a in argv], env={**self.env, **env})
        assert answer["code"] == 2, answer
        assert "Traceback" not in answer["err"]
        return answer["err"].splitlines()[-1]

    def python(self, code: str) -> Any:
        answer = self._ask(code=code)
        assert answer["code"] == 0, answer
        return answer["result"]

    def close(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(60)
        finally:
            self.process.kill()


def serve() -> tuple[Hub, ThreadingHTTPServer]:
    """Start a server on a free port of loopback; shut it down by its ``shutdown``."""
    hub = Hub()
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return hub, server
