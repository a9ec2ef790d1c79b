"""An HTTP server that answers as no service should: endless, slow, or with a page of somebody else's."""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<html><body>Please log in to the hotel's network</body></html>"
LISTING = b"""<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>
<Prefix></Prefix><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated><Contents>
<Key>%s</Key><LastModified>2024-05-09T14:00:00.000Z</LastModified><ETag>"e"</ETag><Size>%d</Size></Contents>
</ListBucketResult>"""


class Evil:
    """`with Evil(answer) as evil`: `answer(request)` is given the handler of each request."""

    def __init__(self, answer):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self):
                length = int(self.headers.get("Content-Length") or 0)
                self.body = self.rfile.read(length)
                with contextlib.suppress(OSError):
                    answer(self)
                self.close_connection = True

            do_GET = do_POST = do_PUT = do_HEAD = _any  # noqa: N815 - http.server's names

            def log_message(self, *_):
                """Be quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def send(request, body, status=200, **headers):
    request.send_response(status)
    for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def endless(request, status=200, limit=3 << 30, **headers):
    """Bytes without end; `limit` only protects the machine of the tests."""
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("Content-Length", str(1 << 50))
    request.end_headers()
    sent, chunk = 0, b"a" * (1 << 20)
    while sent < limit:
        request.wfile.write(chunk)
        sent += len(chunk)


def trickle(request, seconds=60):
    """A header that never ends, byte by byte."""
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        request.wfile.write(b"a")
        time.sleep(0.1)
