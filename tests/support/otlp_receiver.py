"""A collector for tests: an HTTP server on 127.0.0.1 that takes OTLP and decodes it, or behaves as badly as it is told."""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TYPES = {"/v1/metrics": ExportMetricsServiceRequest, "/v1/traces": ExportTraceServiceRequest}


class Receiver:
    """What it got, decoded: `metrics` and `spans`, and (path, headers) of each request."""

    def __init__(self):
        self.mode = "ok"
        """Or: 503, reset, hang, trickle."""
        self.exports = []
        self.batches = []
        self.requests = []
        self.closing = threading.Event()

    @property
    def spans(self):
        found = []
        for request in self.batches:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    found += scope.spans
        return found

    def metrics(self, at=-1):
        """The metrics of one export, by name."""
        (resource,) = self.exports[at].resource_metrics
        (scope,) = resource.scope_metrics
        found = {metric.name: metric for metric in scope.metrics}
        assert len(found) == len(scope.metrics)
        return found

    def resource(self):
        (resource,) = self.exports[-1].resource_metrics
        return attributes(resource.resource)


def attributes(of):
    """Attributes of a point, span or resource as Python has them."""
    return {each.key: _value(each.value) for each in of.attributes}


def _value(value):
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


@contextlib.contextmanager
def receiving():
    """A Receiver with its `endpoint`, until the end of the block."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.requests.append((self.path, dict(self.headers)))
            if receiver.mode == "hang":
                receiver.closing.wait(30)
            elif receiver.mode == "trickle":
                with contextlib.suppress(OSError):
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
                    while not receiver.closing.wait(0.05):
                        self.wfile.write(b"x")
            elif receiver.mode == "503":
                self.answer(503, b"the queue is full\x1b[2J")
            elif receiver.mode == "ok":
                made = TYPES[self.path].FromString(body)
                (receiver.exports if self.path == "/v1/metrics" else receiver.batches).append(made)
                self.answer(200, b"")
            self.close_connection = True  # reset: without a word

        def answer(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    receiver.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield receiver
    finally:
        receiver.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def wait_until(condition, seconds=10.0):
    """The same as support.wait, for tests without a loop."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.01)
