"""`lmstream bench`: measure this checkout, or draw what was measured. The benchmarks are no part of the wheel."""

import importlib
import sys
from pathlib import Path

from lmstream.errors import ConfigError


def bench(*, report: Path | None = None, results: Path | None = None, quick: bool = False) -> int:
    """Measure the engine against straightforward code; or, with --report, draw the recorded runs. In a checkout only.

    Parameters
    ----------
    report
        Write one self-contained HTML page here, and PNG charts beside it.
    results
        With --report: folder of the recorded runs. Default: benchmarks/results of the checkout.
    quick
        Without --report: a few rounds, no gates.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / "benchmarks" / "__main__.py").exists():
        what = "the benchmarks and their corpus are in the repository, not in the wheel: run `make bench` in a checkout"
        raise ConfigError("config.invalid", what)
    sys.path.insert(0, str(root))
    try:
        if report is not None:
            drawn = importlib.import_module("benchmarks.report")
            return int(drawn.main([str(report), *(["--results", str(results)] if results else [])]))
        measured = importlib.import_module("benchmarks.__main__")
        return int(measured.main(["--quick", "--no-gate"] if quick else []))
    except OSError as e:
        if report is None:
            raise
        raise ConfigError("config.invalid", f"--report {report}: {e.strerror or e}") from e
    except ImportError as e:
        raise ConfigError("config.extra", f"the benchmarks need {e.name}: `make setup` installs it") from e
