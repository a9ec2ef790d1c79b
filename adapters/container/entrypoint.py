"""What the image starts: `lmstream` with what a container needs by default. Any variable that is set wins."""

import os
import sys

from lmstream.cli import main

DEFAULTS = {
    "LMSTREAM_LOGS__FORMAT": "json",
    # All interfaces: probes and Prometheus come from outside of the container. Keep the port off the internet.
    "LMSTREAM_ENDPOINTS__ADDRESS": "0.0.0.0:9464",
    "LMSTREAM_RUN__REPORT_SECONDS": "60",
}

if __name__ == "__main__":
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    sys.exit(main(sys.argv[1:] or ["run"]))
