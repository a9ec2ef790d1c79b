"""Dead letters counted by record and by point, in the words of a run and of `verify`."""

from typing import Final

from msgspec import Struct, field

from lmstream.dead_letters import firehose_failures, lambda_failures
from lmstream.model import DeadLetter

_UNJUDGED: Final = {lambda_failures.REASON, firehose_failures.REASON}


class LetterCounts(Struct, kw_only=True):
    """Counts of dead letters: three kinds of records, and what the letters of understood ones name."""

    dead_letters: int = 0
    """Letters: the sum of the three that follow."""
    undecodable: int = 0
    """Of records that were refused as a whole."""
    understood: int = 0
    """Of records with data points: some were rejected, or the sink refused the record's rows."""
    unjudged: int = 0
    """Of records whose retries Lambda used up, and of rows that Firehose could not deliver: no engine refused them."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Points by reason."""
    parts_undecodable: int = 0
    """Parts of bundles in which points could not be counted."""

    def add(self, letter: DeadLetter) -> None:
        """Count one letter."""
        self.dead_letters += 1
        if letter.reason in _UNJUDGED:
            self.unjudged += 1
        elif letter.points or letter.rejected or letter.reason.startswith("sink."):  # 1.0 wrote no `points`
            self.understood += 1
        else:
            self.undecodable += 1
        for _, reason in letter.rejected:
            self.rejected[reason] = self.rejected.get(reason, 0) + 1
        self.parts_undecodable += len(letter.parts)

    @property
    def sentence(self) -> str:
        """The counts in words."""
        said = [f"{self.undecodable:,} records undecodable", f"{self.understood:,} understood"]
        said += [f"{self.unjudged:,} undelivered by Lambda or Firehose"] if self.unjudged else []
        said += [f"rejected {n:,} {reason}" for reason, n in sorted(self.rejected.items())]
        said += [f"{self.parts_undecodable:,} parts undecodable"] if self.parts_undecodable else []
        return f"{self.dead_letters:,} dead letters: {', '.join(said)}"
