"""What was seen of a lake as a whole: claims, objects, letters, jumps, what is wrong with its chains, what it cost."""

from msgspec import Struct, field


class Lake(Struct, kw_only=True):
    """The part of a report that only a lake has."""

    alone: bool = True
    """Proved from the bucket alone: no topic was read."""
    lanes: int = 0
    claims: int = 0
    windows: int = 0
    """Claims with a range of records; the others move a lane, or renew its newest claim."""
    objects: int = 0
    """Objects that the claims name."""
    objects_lost: int = 0
    objects_changed: int = 0
    """Their rows are not those of the claim, or cannot be read."""
    objects_misplaced: int = 0
    """Their rows lie under another name."""
    objects_unexpected: int = 0
    """Objects that no claim names; `phantom` and `duplicate` have their rows."""
    objects_outside: int = 0
    """Objects of windows that are not judged: their claims have expired, or are older than `--since`."""
    objects_newer: int = 0
    """Objects of windows that were claimed while we looked."""
    chain_faults: int = 0
    chain: list[str] = field(default_factory=list)
    """The first of them, in words."""
    replays: int = 0
    """Dead letters that were replayed into it."""
    compactions: int = 0
    open: int = 0
    """Windows at the head whose objects are not all there yet: in flight."""
    jumps: list[str] = field(default_factory=list)
    """Where lanes moved without rows, and why."""
    jumped: dict[str, int] = field(default_factory=dict)
    """The same, counted by reason."""
    letters: dict[str, int] = field(default_factory=dict)
    """Records with a dead letter, by reason."""
    unexpected: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    """Keys of the first 1,000 objects that have other rows than their claim says, and are to be made again."""
    copies: list[str] = field(default_factory=list)
    """Row ids that landed twice."""
    records_told_apart: bool = True
    """False where there were too many records to see whether rows of one lie in two windows."""
    dimensions: int = 0
    """Dimension rows that landed, in all windows."""
    dimensions_wrong: int = 0
    """Of those that claims name: lost, changed or under another name."""
    orphans: int = 0
    """Rows with a key that no dimension row in their own hour and organization explains."""
    orphan_rows: list[str] = field(default_factory=list)
    """The first of them."""
    compared: int = 0
    """Windows whose rows were made again from the topic."""
    not_compared: dict[str, int] = field(default_factory=dict)
    """Windows of the topic whose rows were not, by reason."""
    bytes: int = 0
    """Read, of objects and claims."""
    list_requests: int = 0
    get_requests: int = 0
    """GET and HEAD."""
    dollars: float | None = None
    """What they cost, by the table of prices; None for a folder."""

    @property
    def ok(self) -> bool:
        """Whether the chains are whole, and every row can be read."""
        return not (self.chain_faults or self.dimensions_wrong or self.orphans)

    @property
    def lines(self) -> list[str]:
        """The walk in words."""
        letters = ", ".join(f"{reason} {count:,}" for reason, count in sorted(self.letters.items())) or "none"
        some = (
            (self.objects_lost, "lost"),
            (self.objects_changed, "changed"),
            (self.objects_misplaced, "under another name"),
            (self.objects_unexpected, "that no claim names"),
            (self.objects_outside, "of older windows, not judged"),
            (self.objects_newer, "of windows claimed meanwhile"),
        )
        more = "".join(f", {count:,} {what}" for count, what in some if count)
        cost = "" if self.dollars is None else f", about ${self.dollars:,.4f}"
        chain = f"{self.lanes:,} lanes, {self.claims:,} claims, {self.windows:,} windows, {self.open:,} open"
        chain += f", {self.replays:,} replays, {self.compactions:,} compactions"
        lines = [
            f"chain: {chain}, {self.chain_faults:,} faults",
            f"objects: {self.objects:,} named by claims{more}",
            f"records in dead letters: {letters}",
            f"read: {self.bytes:,} bytes by {self.get_requests:,} GET and {self.list_requests:,} LIST requests{cost}",
        ]
        if self.dimensions or self.dimensions_wrong or self.orphans:
            said = f"dimension rows: {self.dimensions:,} landed, {self.dimensions_wrong:,} lost or changed"
            lines.append(f"{said}; {self.orphans:,} rows without theirs")
        if not self.alone:
            rest = "".join(f", {count:,} not: {why}" for why, count in sorted(self.not_compared.items()))
            lines.append(f"against the topic: {self.compared:,} windows compared{rest}")
        return lines
