"""A web server on this machine, for what is fetched."""

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tedloc.data import fetching


class Site(dict):
    """Files by name, as they follow the host in an address, served on 127.0.0.1.

    cut: close the connection after so many bytes, once; cuts: likewise, by name; asked: ranges; pages: names that are
    answered as web pages are
    """

    def __init__(self):
        self.cut, self.cuts, self.asked, self.whole_only, self.pages = None, {}, [], False, set()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def instead_of(self, archive: fetching.Archive, content: bytes | None, checksum: bool) -> fetching.Archive:
        """An archive of ours: at the official one's first address, but for the host, where there is content to serve.
        checksum: whether one is published"""
        names = [urlsplit(url)._replace(scheme="", netloc="").geturl().lstrip("/") for url in archive.urls]
        if content is not None:
            self[names[0]] = content
        known = f"sha256:{hashlib.sha256(content).hexdigest()}" if checksum and content is not None else None
        return replace(archive, urls=tuple(map(self.url, names)), size=len(content or b""), checksum=known)

    def archive(self, path: Path, checksum: str | None = "right", **changes) -> fetching.Archive:
        self[path.name] = path.read_bytes()
        known = f"sha256:{hashlib.sha256(self[path.name]).hexdigest()}" if checksum == "right" else checksum
        urls = (self.url(path.name),)
        made = fetching.Archive(path.name, urls, len(self[path.name]), known, "https://page")
        return replace(made, **changes)


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def log_message(self, *args):
            pass

        def do_GET(self):
            content = served.get(self.path[1:])
            if content is None:
                return self.send_error(404)
            served.asked.append(self.headers.get("Range"))
            start = 0
            if self.headers.get("Range") and not served.whole_only:
                start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            page = self.path.endswith("html") or self.path[1:] in served.pages
            kind = "text/html" if page else "application/x-tar"
            self.send_header("Content-Type", kind)
            self.end_headers()
            stop, served.cut = served.cuts.pop(self.path[1:], served.cut), None
            self.wfile.write(content[start:stop])
            self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield served
        server.shutdown()
