"""Where a run stands: refreshed in place on a terminal, a plain line every few seconds elsewhere."""

import contextlib
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final

from lmstream.cli import terminal
from lmstream.cli.standing import Standing
from lmstream.observability.readings import Readings
from lmstream.runtime import Progress
from lmstream.settings import MIB, human

_WINDOW: Final = 5.0  # seconds over which rates are taken
_BAR: Final = 24  # characters of the bar of bytes in flight
_FULL: Final = 0.6  # of the budget, of which records leave some free: then it is the sink that sets the pace
_WIDE: Final = 88  # columns of the view at most
_ROOM: Final = 56  # of the values in it, on a terminal of 80


class Reporter:
    """Receives the progress of a run, or the standing of several workers, and shows it."""

    def __init__(self, every: float) -> None:
        """`every` is in seconds, for plain lines."""
        self.readings: Readings | None = None
        """Set it to see lag, concurrency, and what the run waits for."""
        self._every = every
        self._next = every
        self._since = 0.0
        self._last = 0
        self._seen: deque[tuple[float, Progress]] = deque()
        self._live: Any = None
        self._pump: threading.Thread | None = None

    def __enter__(self) -> None:
        if terminal.shows_panels() and terminal.redraws() and not terminal.loudness.quiet:
            from rich.live import Live

            self._live = Live(console=terminal.console(sys.stderr), refresh_per_second=4, transient=True)
            self._live.start()

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        if self._pump is not None:  # the last words of the workers
            self._pump.join(1.0)
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    @property
    def live(self) -> bool:
        """Whether a view is refreshed in place."""
        return self._live is not None

    @contextlib.contextmanager
    def lines_of_others(self) -> Iterator[None]:
        """Show above the view what processes that are started meanwhile write to standard error: written past it their
        lines would tear it."""
        if self._live is None:
            yield
            return
        self._live.stop()  # it writes there too
        reading, writing = os.pipe()
        before = os.dup(2)
        os.dup2(writing, 2)
        os.close(writing)
        self._pump = threading.Thread(target=self._show_lines, args=(reading,), daemon=True, name="lmstream-lines")
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            self._live.start()
            self._pump.start()

    def _show_lines(self, reading: int) -> None:
        from rich.text import Text

        live = self._live
        with open(reading, encoding="utf-8", errors="backslashreplace") as lines:
            for line in lines:
                live.console.print(Text(line.rstrip("\n")), soft_wrap=True)

    def __call__(self, progress: Progress) -> None:
        """Take note of where the run stands."""
        if self._live is not None or progress.duration >= self._next:
            self.show(Standing.of(progress, self.readings))

    def show(self, standing: Standing) -> None:
        """The same, of workers too."""
        progress = standing.progress
        if self._live is not None:
            self._seen.append((progress.duration, progress))
            while len(self._seen) > 2 and self._seen[1][0] < progress.duration - _WINDOW:  # noqa: PLR2004 - a span
                self._seen.popleft()
            self._live.update(self.view(standing))
        elif progress.duration >= self._next:
            terminal.say(self._line(standing))
            self._next = progress.duration + self._every
            self._since, self._last = progress.duration, progress.rows

    def _line(self, standing: Standing) -> str:
        progress = standing.progress
        rate = (progress.rows - self._last) / max(progress.duration - self._since, 1e-9)
        trouble = progress.fatal or progress.trouble
        lag = f", lag {_records(standing)}, {human(standing.behind)} behind" if standing.partitions else ""
        return (
            f"{progress.duration:,.0f} s: "
            + (f"{len(standing.workers):,} workers, " if len(standing.workers) > 1 else "")
            + f"{progress.records:,} records, {progress.rows:,} rows, {rate:,.0f} rows/s, "
            f"{progress.unacked:,} records ({progress.in_flight_bytes / MIB:.1f} MiB) in flight, "
            f"{progress.dead_letters:,} dead letters{lag}"
            + "".join(f", {text}" for text in _states(standing))
            + (f", retrying: {terminal.clean(f'{trouble.code} {trouble.message}')}" if trouble else "")
        )

    def view(self, standing: Standing) -> Any:
        """The panel of a terminal."""
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        progress = standing.progress
        at, before = self._seen[0] if self._seen else (0.0, Progress())
        span = max(progress.duration - at, 1e-9)
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", justify="right")
        table.add_column()

        def row(name: str, text: str, style: str = "") -> None:
            table.add_row(name, Text(text, style=style))

        for number, text in enumerate(_states(standing)):
            row("" if number else "state", text, "yellow" if text.startswith(_ODD) else "")
        records, rows = progress.records - before.records, progress.rows - before.rows
        row("records", f"{progress.records:,}   {records / span:,.0f}/s")
        size = (progress.bytes - before.bytes) / span / MIB
        row("rows", f"{progress.rows:,}   {rows / span:,.0f}/s   {size:,.1f} MiB/s")
        _lag(row, standing)
        _flight(row, standing)
        if standing.budget:
            outcomes = "   ".join(f"{count:,} {name}" for name, count in sorted(standing.requests.items()))
            tail = f"{progress.retried_packs:,} packs retried   {standing.concurrency} at once"
            row("requests", f"{outcomes or 'none yet'}   {tail}")
        _counts(row, progress)
        trouble = progress.fatal or progress.trouble
        if trouble is not None:
            row("retrying", terminal.clean(f"{trouble.code} {trouble.message}")[:300], "red")
        many = f" · {len(standing.workers):,} workers" if len(standing.workers) > 1 else ""
        title = f"lmstream{many}" + (" · paused until an operator acts" if progress.fatal else "")
        border = "red" if progress.fatal else "yellow" if trouble else "green"
        up = time.strftime("%H:%M:%S", time.gmtime(progress.duration))
        width = min(_WIDE, terminal.columns_of_stderr() or _WIDE)
        return Panel(table, title=title, subtitle=f"up {up} · Ctrl-C stops cleanly", border_style=border, width=width)


_ODD: Final = ("paused", "waiting for dead letters", "waiting for topics", "retrying", "joining again")


def _states(standing: Standing) -> list[str]:
    """What is waited for; of several workers once, with how many and which."""
    texts = Counter(text for text in standing.workers.values() if text)
    if len(standing.workers) < 2:  # noqa: PLR2004 - one run
        return [terminal.clean(text) for text in texts]
    found = []
    for text, many in texts.most_common():
        which = (
            "all" if many == len(standing.workers) else ", ".join(n for n, t in standing.workers.items() if t == text)
        )
        found.append(terminal.clean(f"{which}: {text}"))
    return found


def _records(standing: Standing) -> str:
    """How many wait; unknown until a partition has answered."""
    return "unknown" if standing.lag is None else f"{standing.lag:,} records"


def _lag(row: Any, standing: Standing) -> None:
    if standing.partitions:
        behind = f"{human(standing.behind)} behind"
        row("lag", f"{_records(standing)} in {standing.partitions:,} partitions   {behind}")
        if standing.warning:
            row("", standing.warning, "red" if standing.soon else "")


def _flight(row: Any, standing: Standing) -> None:
    progress, budget = standing.progress, standing.budget
    share = min(1.0, progress.in_flight_bytes / budget) if budget else 0.0
    full = round(share * _BAR)
    there, free = "█░" if terminal.shows("█░", sys.stderr) else "#."
    bar = there * full + free * (_BAR - full)
    text = f"{bar}  {progress.in_flight_bytes / MIB:,.1f} of {budget / MIB:,.0f} MiB   {progress.unacked:,} records"
    row("in flight", text, "yellow" if share > _FULL else "")


def _counts(row: Any, progress: Progress) -> None:
    row("dead letters", f"{progress.dead_letters:,}", "yellow" if progress.dead_letters else "")
    kinds = (
        ("without a row", {**progress.rejected, **progress.skipped}),
        ("dropped by rule", progress.dropped),
        ("records without", {"empty": progress.empty, "all points skipped": progress.all_skipped}),
        ("noted", progress.noted),
    )
    for name, counts in kinds:
        most = [(what, count) for what, count in counts.items() if count]
        most = sorted(most, key=lambda each: -each[1])[:4] if name != "records without" else most
        if most:
            row(name, _together([f"{count:,} {terminal.clean(what)}" for what, count in most]))


def _together(items: list[str]) -> str:
    """Items in lines; none is broken between its number and its name."""
    lines = [items[0]]
    for each in items[1:]:
        if len(lines[-1]) + 3 + len(each) <= _ROOM:
            lines[-1] += f"   {each}"
        else:
            lines.append(each)
    return "\n".join(lines)
