"""Whatever the records are: a run, `dlq stats` and `verify` count the same of them."""

import asyncio
import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from lmstream import Engine, Record, Settings
from lmstream.dead_letters.counting import LetterCounts
from lmstream.delivery import BreakerPolicy, Pipeline, process
from lmstream.interfaces import Batch
from lmstream.model import Failure, Kind
from lmstream.rules import Conditions, Rule
from lmstream.testing import Memory, ScriptedLetters
from lmstream.verification import Checker, expectation
from support import odd, strategies

RULES = (
    Rule(name="numbers", unless=Conditions(type=("gauge", "sum")), drop=True),
    Rule(name="by-point", when=Conditions(attributes={"hostName": "*"}), drop=True),
)
ENGINES = [Engine(Settings(org_id="acme")), Engine(Settings(org_id="acme", rules=RULES))]


def damaged(bundle, seed):
    rng = random.Random(seed)
    tree = strategies.to_plain(bundle, rng)
    odd.damage(tree, rng)
    return strategies.written(tree, rng)


VALUES = st.lists(
    st.one_of(
        st.none(),
        st.binary(max_size=20),
        st.just(b'{"resourceMetrics":[]}'),
        st.builds(damaged, strategies.bundles(), st.integers(0, 2**32)),
    ),
    max_size=6,
)


@settings(deadline=None)
@given(VALUES, st.booleans(), st.sampled_from(ENGINES))
def test_a_run_its_letters_and_verify_count_the_same(values, refused, engine):
    """With `refused` the sink takes no row: then letters hold understood records whole, and name no point."""
    records = [Record(topic="t", partition=0, offset=n, timestamp=5, value=value) for n, value in enumerate(values)]
    letters = ScriptedLetters()
    sink = Memory(judge=lambda _: Failure(Kind.PERMANENT, "no") if refused else None)

    async def run():
        pipeline = Pipeline(
            engine,
            sink,
            letters,
            clock=time.monotonic,
            sleep=asyncio.sleep,
            random=random.Random(1).random,
            breaker=BreakerPolicy(records=0),
        )
        assert (await process(pipeline, Batch(records))).complete
        assert pipeline.balanced
        await pipeline.close()
        return pipeline.counts

    counts = asyncio.run(run())
    checker, told = Checker(), LetterCounts()
    for record in records:
        checker.expect(expectation(engine, record, ""))
    for line in sink.lines:
        checker.found(line[:-1])
    for letter in letters.letters:
        told.add(letter)
        checker.dead(letter, expectation(engine, letter.record(), "").bundle_id)
    report = checker.report()

    assert counts.sums == report.sums
    assert counts.sums.right
    assert report.ok, report.verdict
    assert counts.dead_letters == told.dead_letters == report.total.dead_letters
    assert counts.undecodable == told.undecodable == report.sums.undecodable
    assert (counts.accepted, counts.rows_dead) == (report.total.landed, report.total.dead_lettered)
    if not refused:
        assert counts.rejected == told.rejected
        assert counts.parts_undecodable == told.parts_undecodable
