"""The verdict of `verify` as one page of HTML: for a ticket, an audit, or whoever asks whether anything was lost."""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from lmstream import __version__
from lmstream.verification.report import BAD, FIELDS, Report, Tally


def page(report: Report, what: dict[str, str], at: str = "") -> str:
    """The page; `what` says what was compared, name and value, and `at` when: now, unless it is given."""
    word = _word(report)
    body = f"""<h1>lmstream verify</h1>{_verdict(report)}
{_details(report)}<h2>What was compared</h2><ul>{_compared(what)}{_notes(report)}</ul>"""
    return _framed(f"verify: {word.lower()}", body, at)


def repair_page(before: Report, after: Report, done: Sequence[str], what: dict[str, str], at: str = "") -> str:
    """The page of a repair: its last verdict, what was `done`, and both verdicts in full."""
    steps = "".join(f"<li>{escape(each)}</li>" for each in done)
    body = f"""<h1>lmstream verify --repair</h1>{_verdict(after)}
<h2>What was repaired</h2><ul>{steps}</ul>
<h1>Before</h1>{_verdict(before)}
{_details(before)}<ul>{_notes(before)}</ul>
<h1>After</h1>{_verdict(after)}
{_details(after)}<ul>{_notes(after)}</ul>
<h2>What was compared</h2><ul>{_compared(what)}</ul>"""
    return _framed(f"verify --repair: {_word(after).lower()}", body, at)


def _framed(title: str, body: str, at: str) -> str:
    at = at or datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    style = Path(__file__).with_name("report.css").read_text("utf-8")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>lmstream {title}</title><style>
{style}</style></head><body><main>
{body}
<footer>{at}, lmstream {__version__}. Duplicates are copies with the same rowId: the view
<code>rows</code> leaves them out.
</footer></main></body></html>
"""


def _word(report: Report) -> str:
    if not report.ok:
        return "Not verified"
    word = "Nothing is lost, by ids only" if report.ids_only else "Nothing is lost"
    word = word if report.settled else "Not settled"
    return word + (", proved from the bucket alone" if report.lake is not None and report.lake.alone else "")


def _verdict(report: Report) -> str:
    """The one word, and the sentence below it."""
    good, total = report.ok, report.total
    bad = (
        f", {total.dead_letters:,} records are in dead letters ({total.undecodable:,} undecodable, with"
        f" {total.rejected:,} points rejected)"
        if report.letters_checked
        else ""
    )
    sentence = (
        f"{total.landed:,} of {total.expected:,} expected rows landed{bad}"
        if good
        else f"{total.lost:,} rows lost, {total.changed:,} changed, {total.misplaced:,} misplaced, {total.phantom:,}"
        f" unexpected, {total.in_error_prefix:,} in the error prefix, {total.letters_missing:,} dead letters missing"
        " (LMS-5001). What to do: lmstream explain LMS-5001"
    )
    if not good and report.lake is not None:
        faults = f"{report.lake.chain_faults:,} faults of the chains of claims, {total.duplicate:,} rows twice"
        sentence = f"{faults}, {sentence}"
    return f'<p class="verdict {"good" if good else "bad"}">{_word(report)}</p><p class="sub">{sentence}</p>'


def _details(report: Report) -> str:
    """The bar, all counts, and what is wrong by name."""
    total = report.total
    cards = "".join(_card(total, name, label) for name, label in FIELDS.items())
    rows = "".join(_row(name, tally) for name, tally in sorted(report.partitions.items())) + _row(
        "total", total, "total"
    )
    heads = "".join(f"<th>{label}</th>" for label in FIELDS.values())
    lists = "".join(
        _list(title, names, count)
        for title, names, count in (
            ("Lost rows", report.lost, total.lost),
            ("Rows with other bytes", report.changed, total.changed),
            ("Rows under another path", report.misplaced, total.misplaced),
            ("Unexpected rows (phantom)", report.phantom, total.phantom),
            ("Dead letters that are missing", report.letters_missing, total.letters_missing),
            ("Rows whose keys no dimension row explains", report.orphan_rows, report.orphans),
            *_of_lake(report),
        )
    )
    return f"""{_bar(total)}<div class="cards">{cards}</div>
<h2>By partition</h2><div class="wide"><table><thead><tr><th>partition</th>{heads}</tr></thead><tbody>{rows}</tbody>
</table></div>{lists}"""


def _compared(what: dict[str, str]) -> str:
    return "".join(f"<li>{escape(name)}: <code>{escape(value)}</code></li>" for name, value in what.items())


def _notes(report: Report) -> str:
    """What the counts do not say by themselves, and the sums."""
    total = report.total
    letters = "" if report.letters_checked else "<li>Dead letters were not looked at.</li>"
    letters += "<li>Bytes and paths of rows were not compared: the log has no digests.</li>" if report.ids_only else ""
    letters += "".join(
        f"<li>{count:,} rows {what}.</li>"
        for count, what in (
            (total.in_flight, "are of records that the group has read and not committed"),
            (total.not_read, "are of records that the group has not read yet"),
            (
                total.buffered,
                "are committed and have not landed; Firehose may still buffer them"
                if report.lake is None
                else "are of claimed windows whose objects are not all there yet: in flight",
            ),
            (total.outside, "are of records outside the range, or older than what the topic still has"),
            (total.older_contract, "are as an older row contract writes them"),
            (total.older_skipped, "were points that an older row contract skipped: no reason to act"),
        )
        if count
    )
    if report.lake is not None:
        letters += "".join(f"<li>{escape(line[0].upper() + line[1:])}.</li>" for line in report.lake.lines)
    if report.lake is None or not report.lake.alone:
        letters += "".join(f"<li>{line[0].upper()}{line[1:]}.</li>" for line in report.sums.lines)
    return letters


def _of_lake(report: Report) -> list[tuple[str, list[str], int]]:
    """Lists that only a lake has."""
    lake = report.lake
    if lake is None:
        return []
    return [
        ("Faults of the chains of claims", lake.chain, lake.chain_faults),
        ("Objects that no claim names", lake.unexpected, lake.objects_unexpected),
        ("Rows that landed twice", lake.copies, len(lake.copies)),
        ("Where lanes moved without rows", lake.jumps, sum(lake.jumped.values())),
    ]


def _card(total: Tally, name: str, label: str) -> str:
    count = getattr(total, name)
    style = ' class="bad"' if name in BAD and count else ""
    return f'<div class="card"><b{style}>{count:,}</b><span>{label}</span></div>'


def _row(name: str, tally: Tally, style: str = "") -> str:
    cells = "".join(
        f'<td class="{_class(field, getattr(tally, field))}">{getattr(tally, field):,}</td>' for field in FIELDS
    )
    return f'<tr class="{style}"><td>{escape(name)}</td>{cells}</tr>'


def _class(field: str, count: int) -> str:
    if not count:
        return "zero"
    return "bad" if field in BAD else ""


def _bar(total: Tally) -> str:
    """The expected rows as one bar: landed, in dead letters, not there."""
    parts = (
        ("landed", "landed", total.landed),
        ("dead", "in dead letters", total.dead_lettered),
        (
            "gone",
            "in the error prefix, changed, misplaced or lost",
            max(0, total.expected - total.landed - total.dead_lettered - total.older_skipped),
        ),
    )
    shares = "".join(
        f'<i class="{name}" style="flex:{count}" title="{count:,} {what}"></i>' for name, what, count in parts if count
    )
    return f'<div class="bar">{shares}</div>'


def _list(title: str, names: list[str], count: int) -> str:
    if not count:
        return ""
    items = "".join(f"<li><code>{escape(name)}</code></li>" for name in names)
    more = f"<li>and {count - len(names):,} more</li>" if count > len(names) else ""
    return f"<h2>{title}</h2><ul>{items}{more}</ul>"
