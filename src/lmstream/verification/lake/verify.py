"""The verdict on a lake: one report, in the words of every other `verify`."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from lmstream.lake.claims import Buried
from lmstream.model import DeadLetter
from lmstream.storage.by_key import Keyed
from lmstream.verification.lake.judgement import Judgement, sample
from lmstream.verification.lake.remade import Remade
from lmstream.verification.lake.walk import Walk, Watch
from lmstream.verification.report import BAD, SAMPLES, Report, Tally


def verify_lake(
    rows: Keyed,
    claims: Keyed,
    topic: Remade | None = None,
    letters: Iterable[DeadLetter] | None = None,
    *,
    since: float = 0.0,
    settle: float = 0.0,
    wait: Callable[[float], None] | None = None,
    without: Sequence[str] = (),
    watch: Watch = iter,
) -> Report:
    """Compare the objects at `rows` with the claims at `claims`, and both with the topic if there is one.

    Claims written before `since` (seconds since 1970) are left out. Windows at the head of a lane whose objects are not
    all there are in flight; after `settle` seconds, for which `wait` is called, what is missing of them is lost.
    Without `letters`, missing ones are not judged. Keys that begin with one of `without` are no rows. `watch` passes
    the objects through, for a progress bar.

    Raises ConfigError where there is no claim, SourceError for what cannot be read, BoundError for what is too large.
    """
    walk = Walk(rows, claims, topic, watch)
    if topic is not None:
        topic.layouts = walk.reader.layout
    lanes = walk.claimed(since)
    walk.finish(settle, wait)
    _rest(walk, rows, claims, without, settle, wait)
    judgement = walk.judgement
    if topic is not None:
        topic.finish(lanes, judgement)
    if letters is not None:
        _letters(walk.buried, letters, judgement)
    return _verdict(walk, rows, claims, topic, letters_checked=letters is not None)


def walked(
    rows: Keyed,
    claims: Keyed,
    begin: Mapping[str, int],
    *,
    since: float = 0.0,
    whole: bool = True,
    without: Sequence[str] = (),
    watch: Watch = iter,
) -> tuple[Report, Mapping[str, int]]:
    """The verdict on the claims of each lane from `begin` on, by its folder, and on all that they name; of a lane that
    is not there on those that were written since. And where to begin the next time: what is below was judged, and is
    not under way any more. Unless it is `whole`, replays, compactions and what no claim names are left out, for which
    the whole place has to be listed. Raises as `verify_lake`."""
    walk = Walk(rows, claims, None, watch)
    lanes = walk.claimed(since, begin)
    walk.finish(0.0, None)
    if whole:
        _rest(walk, rows, claims, without, 0.0, None)
    # The last that is done is looked at again: the next one has to follow it.
    after = {lane.folder: max(0, lane.head.done - 1) for lane in lanes if lane.head is not None}
    return _verdict(walk, rows, claims, None, letters_checked=False), after


def _rest(
    walk: Walk,
    rows: Keyed,
    claims: Keyed,
    without: Sequence[str],
    settle: float,
    wait: Callable[[float], None] | None,
) -> None:
    """Look at what lies beside the windows."""
    walk.beside(settle, wait)
    inside = claims.name.startswith(rows.name)
    walk.unexpected([*without, *([claims.name.removeprefix(rows.name)] if inside else [])])


def _verdict(walk: Walk, rows: Keyed, claims: Keyed, topic: Remade | None, *, letters_checked: bool) -> Report:
    judgement = walk.judgement
    judgement.end({key: rows.meta(key) or {} for key in judgement.short})
    sums = judgement.sums
    _dimensions(walk, rows)
    sums.chain_faults = walk.faults.count + (topic.faults.count if topic else 0)
    sums.chain = [*walk.faults.named, *(topic.faults.named if topic else ())][:SAMPLES]
    sums.alone = topic is None
    sums.records_told_apart = walk.told_apart and not walk.orphans.untold
    asked = {id(each.asked): each.asked for each in (rows, claims)}.values()
    sums.bytes = sum(each.bytes for each in asked)
    sums.get_requests = sum(each.gets for each in asked)
    sums.list_requests = sum(each.lists for each in asked)
    return _report(judgement, letters_checked=letters_checked)


def _dimensions(walk: Walk, rows: Keyed) -> None:
    """Judge what rows need beside themselves."""
    sums, dimensions, orphans = walk.judgement.sums, walk.dimensions, walk.orphans
    dimensions.end({key: rows.meta(key) or {} for key in dimensions.short})
    orphans.end()
    tallies = dimensions.tallies.values()
    sums.objects += dimensions.sums.objects
    sums.dimensions = sum(each.landed for each in tallies)
    sums.dimensions_wrong = sum(each.lost + each.changed + each.misplaced for each in tallies)
    sums.orphans, sums.orphan_rows = orphans.count, orphans.named
    sums.damaged += dimensions.sums.damaged
    for samples, more in (
        (walk.judgement.lost, [*dimensions.lost, *orphans.named]),
        (walk.judgement.changed, dimensions.changed),
        (walk.judgement.misplaced, dimensions.misplaced),
    ):
        samples.extend(more[: SAMPLES - len(samples)])


def _report(judgement: Judgement, *, letters_checked: bool) -> Report:
    tallies = judgement.tallies
    total = Tally(**{f: sum(getattr(t, f) for t in tallies.values()) for f in Tally.__struct_fields__})
    # A lake promises each row once: a copy is a broken promise here, and not what a view takes care of.
    good = judgement.sums.ok and not total.duplicate and not any(getattr(total, name) for name in BAD)
    return Report(
        ok=good,
        total=total,
        sums=total.sums,
        partitions=tallies,
        lost=judgement.lost,
        phantom=judgement.phantom,
        changed=judgement.changed,
        misplaced=judgement.misplaced,
        letters_missing=judgement.letters_missing,
        letters_checked=letters_checked,
        settled=not judgement.sums.open,
        lake=judgement.sums,
    )


def _letters(buried: Sequence[tuple[str, str, Buried]], letters: Iterable[DeadLetter], judgement: Judgement) -> None:
    """See that each letter which a claim lists is there."""
    owed: dict[tuple[str, int, int], tuple[str, set[object]]] = {}
    for topic, lane, each in buried:
        what: set[object] = {*each.parts, *(each.ordinals or ())} or {"whole"}
        owed[topic, each.partition, each.offset] = lane, what
    for letter in letters:
        where = letter.record().listed_at
        at = where.tp.topic, where.tp.partition, where.offset
        if (found := owed.get(at)) is None:
            continue
        lane, what = found
        whole = not letter.rejected and not letter.parts
        what -= what if whole else {n for n, _ in letter.rejected} | {path for path, _ in letter.parts}
        if not what:
            del owed[at]
            judgement.tally(lane).letters += 1
    for (topic, partition, offset), (lane, what) in sorted(owed.items()):
        judgement.tally(lane).letters_missing += len(what)
        sample(judgement.letters_missing, f"{topic}/{partition}/{offset}: {', '.join(map(str, what))}")
