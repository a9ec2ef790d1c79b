"""The codec keeps what codecs promise; `pytest -q` says which promise it does not."""

from lmstream.settings import Settings
from lmstream.testing import CodecConformance

import acme_csv


class TestCodec(CodecConformance):
    def make(self, settings: Settings) -> acme_csv.Codec:
        return acme_csv.Codec(settings)

    def samples(self) -> dict[bytes, int]:
        """Payloads that it reads, and the data points in each: the more kinds, the more is tried."""
        return {
            b"web-1,cpu,1715263558,1.5\nweb-1,cpu,1715263559,2\nweb-2,disk,1715263559,nan\n": 3,
            b"web-1,cpu,soon,1.5\nweb-1,cpu\n": 2,
            "wéb,\u2028,1715263558,-1e300".encode(): 1,
        }
