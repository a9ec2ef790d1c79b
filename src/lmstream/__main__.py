"""`python -m lmstream` and the `lmstream` command."""

import sys

from lmstream.cli import main

if __name__ == "__main__":
    sys.exit(main())
