"""A real S3 over HTTP for tests, with one bucket, that can go away and come back with its objects."""

import urllib.request

import msgspec
from moto.backends import get_backend
from moto.server import ThreadedMotoServer

from lmstream.model import DeadLetter


class S3:
    def __init__(self, bucket="dlq"):
        self.bucket, self._port = bucket, 0
        self.start()
        self._call("POST", "/moto-api/reset")
        self._call("PUT", f"/{bucket}")

    def start(self):
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self.server.start()
        self._port = self.server.get_host_and_port()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    def stop(self):
        self.server.stop()

    close = stop

    def _call(self, method, path, data=None):
        headers = {"Content-Type": "application/octet-stream"} if data is not None else {}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        urllib.request.urlopen(request, timeout=10).close()

    def put(self, key, data):
        """An object of somebody else's."""
        self._call("PUT", f"/{self.bucket}/{key}", data)

    @property
    def objects(self):
        (backends,) = get_backend("s3").values()
        return {key: each.value for key, each in backends["aws"].buckets[self.bucket].keys.items()}

    def letters(self):
        """Every letter there, by key."""
        return {
            key: msgspec.json.decode(data, type=DeadLetter)
            for key, data in self.objects.items()
            if key.endswith(".json")
        }
