"""A web server on the loopback address that knows ranges, breaks off where told, and remembers what it was asked."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Site:
    """What a server serves. Tests change it between requests."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)  # by path
    tags: dict[str, str] = field(default_factory=dict)  # ETag by path
    breaks_at: list[int] = field(default_factory=list)  # byte of the file where the next answers break off
    knows_ranges: bool = True
    asked: list[str] = field(default_factory=list)  # ranges of the requests for files, "" for the whole

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, site)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            _answer(self, site)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    path = handler.path.partition("?")[0]
    content = site.files.get(path)
    if content is None:
        handler.send_error(404)
        return
    wanted = handler.headers.get("Range", "") if site.knows_ranges else ""
    site.asked.append(wanted)
    begin = int(found[1]) if (found := re.fullmatch(r"bytes=(\d+)-", wanted)) else 0
    if begin >= len(content) and wanted:
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(content)}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    handler.send_response(206 if wanted else 200)
    if wanted:
        handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
    handler.send_header("Accept-Ranges", "bytes" if site.knows_ranges else "none")
    handler.send_header("Content-Length", str(len(content) - begin))
    handler.send_header("Content-Type", "application/json" if path.endswith("files") else "application/zip")
    if path in site.tags:
        handler.send_header("ETag", site.tags[path])
    handler.end_headers()
    end = site.breaks_at.pop(0) if site.breaks_at else len(content)
    handler.wfile.write(content[begin:end])
