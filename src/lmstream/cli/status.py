"""Where a run stands: refreshed in place on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections import deque
from types import TracebackType
from typing import Any, Final

from lmstream.behind import Behind, taken, worst
from lmstream.cli import terminal
from lmstream.observability.readings import Readings
from lmstream.runtime import Progress
from lmstream.settings import MIB, human

_WINDOW: Final = 5.0  # seconds over which rates are taken
_BAR: Final = 24  # characters of the bar of bytes in flight
_OLD: Final = 5.0  # seconds behind from which on it is of interest when retention takes it
_FULL: Final = 0.6  # of the budget, of which records leave some free: then it is the sink that sets the pace


class Reporter:
    """Receives the progress and shows it."""

    def __init__(self, every: float) -> None:
        """`every` is in seconds, for plain lines."""
        self.readings: Readings | None = None
        """Set it to see lag and concurrency too."""
        self._every = every
        self._next = every
        self._since = 0.0
        self._last = 0
        self._seen: deque[tuple[float, Progress]] = deque()
        self._live: Any = None

    def __enter__(self) -> None:
        if terminal.shows_panels() and terminal.redraws() and not terminal.loudness.quiet:
            from rich.live import Live

            self._live = Live(console=terminal.console(sys.stderr), refresh_per_second=4, transient=True)
            self._live.start()

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def __call__(self, progress: Progress) -> None:
        """Take note of where the run stands."""
        if self._live is not None:
            self._seen.append((progress.duration, progress))
            while len(self._seen) > 2 and self._seen[1][0] < progress.duration - _WINDOW:  # noqa: PLR2004 - a span
                self._seen.popleft()
            self._live.update(self.view(progress))
        elif progress.duration >= self._next:
            self._line(progress)

    def _line(self, progress: Progress) -> None:
        rate = (progress.rows - self._last) / max(progress.duration - self._since, 1e-9)
        self._next = progress.duration + self._every
        self._since, self._last = progress.duration, progress.rows
        trouble = progress.fatal or progress.trouble
        terminal.say(
            f"{progress.duration:,.0f} s: {progress.records:,} records, {progress.rows:,} rows, {rate:,.0f} rows/s, "
            f"{progress.unacked:,} records ({progress.in_flight_bytes / MIB:.1f} MiB) in flight, "
            f"{progress.dead_letters:,} dead letters{self._behind()}"
            + (f", retrying: {terminal.clean(f'{trouble.code} {trouble.message}')}" if trouble else "")
        )

    def view(self, progress: Progress) -> Any:
        """The panel of a terminal."""
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        at, before = self._seen[0] if self._seen else (0.0, Progress())
        span = max(progress.duration - at, 1e-9)
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", justify="right")
        table.add_column()

        def row(name: str, text: str, style: str = "") -> None:
            table.add_row(name, Text(text, style=style))

        records, rows = progress.records - before.records, progress.rows - before.rows
        row("records", f"{progress.records:,}   {records / span:,.0f}/s")
        size = (progress.bytes - before.bytes) / span / MIB
        row("rows", f"{progress.rows:,}   {rows / span:,.0f}/s   {size:,.1f} MiB/s")
        self._lag(row)
        self._flight(row, progress)
        self._sink(row, progress)
        style = "yellow" if progress.dead_letters else ""
        odd = {**progress.rejected, **progress.skipped}
        most = sorted(odd.items(), key=lambda each: -each[1])[:4]
        reasons = "   ".join(f"{count:,} {terminal.clean(reason)}" for reason, count in most)
        row("dead letters", f"{progress.dead_letters:,}", style)
        if reasons:
            row("without a row", reasons)
        none = {"empty": progress.empty, "all points skipped": progress.all_skipped}
        if any(none.values()):
            row("records without", "   ".join(f"{count:,} {what}" for what, count in none.items() if count))
        tolerated = sorted(progress.noted.items(), key=lambda each: -each[1])[:4]
        if tolerated:
            row("noted", "   ".join(f"{count:,} {terminal.clean(what)}" for what, count in tolerated))
        trouble = progress.fatal or progress.trouble
        if trouble is not None:
            row("retrying", terminal.clean(f"{trouble.code} {trouble.message}")[:300], "red")
        title = "lmstream" + (" · paused until an operator acts" if progress.fatal else "")
        border = "red" if progress.fatal else "yellow" if trouble else "green"
        up = time.strftime("%H:%M:%S", time.gmtime(progress.duration))
        return Panel(table, title=title, subtitle=f"up {up} · Ctrl-C stops cleanly", border_style=border, width=88)

    def _lag(self, row: Any) -> None:
        partitions = self.readings.partitions() if self.readings is not None else []
        if not partitions:
            return
        known = [each.records for each in partitions if each.records is not None]
        first = worst(partitions)
        row("lag", f"{sum(known):,} records in {len(partitions):,} partitions   {human(_age(partitions))} behind")
        if first is not None and (first.soon or (first.seconds or 0.0) >= _OLD):
            row("", taken(first, time.time()), "red" if first.soon else "")

    def _behind(self) -> str:
        partitions = self.readings.partitions() if self.readings is not None else []
        return f", {human(_age(partitions))} behind" if partitions else ""

    def _flight(self, row: Any, progress: Progress) -> None:
        budget = self.readings.runtime.pipeline.load().budget if self.readings is not None else 0
        share = min(1.0, progress.in_flight_bytes / budget) if budget else 0.0
        full = round(share * _BAR)
        there, free = "█░" if terminal.shows("█░", sys.stderr) else "#."
        bar = there * full + free * (_BAR - full)
        text = f"{bar}  {progress.in_flight_bytes / MIB:,.1f} of {budget / MIB:,.0f} MiB   {progress.unacked:,} records"
        row("in flight", text, "yellow" if share > _FULL else "")

    def _sink(self, row: Any, progress: Progress) -> None:
        if self.readings is None:
            return
        seen = self.readings.runtime.pipeline.snapshot()
        outcomes = "   ".join(f"{count:,} {name}" for name, count in sorted(seen.counts.requests.items()))
        row(
            "requests",
            f"{outcomes or 'none yet'}   {progress.retried_packs:,} packs retried   {seen.concurrency} at once",
        )


def _age(partitions: list[Behind]) -> float | None:
    """Answer the age of the oldest record that is not settled; None when it is not known of any partition."""
    return max((each.seconds for each in partitions if each.seconds is not None), default=None)
