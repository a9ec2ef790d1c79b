"""What a Firehose can do to its callers, as values: a plan of faults, one used up by each PutRecordBatch call."""

import random
from typing import Literal, Self

from msgspec import Struct


class Fault(Struct, frozen=True, kw_only=True):
    """One answer out of the ordinary. Build it with the class methods; combine fields by hand for rarer ones."""

    latency: float = 0.0
    """Seconds before anything else happens. Longer than the caller's patience it is accept-then-hang: the records are
    taken although the caller has gone."""
    status: int = 0
    """Refuse the whole call with this HTTP status, and `code` and `message`."""
    code: str = ""
    message: str = ""
    fail: tuple[int, ...] = ()
    """Indices of the records to refuse inside a 200."""
    fail_ratio: float = 0.0
    """Refuse each record with this probability, drawn from `seed`."""
    seed: int = 0
    fail_code: Literal["ServiceUnavailableException", "InternalFailure"] = "ServiceUnavailableException"
    """ErrorCode of the refused records: the service documents these two."""
    cut: Literal["", "before", "after"] = ""
    """Reset the connection before the records are taken, or after: the second leaves the outcome unknown."""
    body: bytes | None = None
    """Answer 200 with these bytes, and take nothing."""
    drop: int = 0
    """Leave the last records out: neither taken nor answered for, in a 200 that says that nothing failed."""

    def failing(self, count: int) -> frozenset[int]:
        """Which of `count` records to refuse."""
        drawn = random.Random(self.seed)  # noqa: S311 - a repeatable plan, not a secret
        by_chance = [n for n in range(count) if drawn.random() < self.fail_ratio] if self.fail_ratio else []
        return frozenset(n for n in (*self.fail, *by_chance) if n < count)

    @classmethod
    def partial(
        cls, *indices: int, code: Literal["ServiceUnavailableException", "InternalFailure"] | None = None
    ) -> Self:
        """Refuse these records in a 200."""
        return cls(fail=indices, fail_code=code or "ServiceUnavailableException")

    @classmethod
    def some(cls, ratio: float, seed: int = 0) -> Self:
        """Refuse about this share of the records in a 200; the same ones for the same seed."""
        return cls(fail_ratio=ratio, seed=seed)

    @classmethod
    def unavailable(cls) -> Self:
        """503, the service's own throttling of a stream: "Slow down."."""
        return cls(status=503, code="ServiceUnavailableException", message="Slow down.")

    @classmethod
    def throttled(cls) -> Self:
        """400 ThrottlingException, the throttling of the API in front of the service."""
        return cls(status=400, code="ThrottlingException", message="Rate exceeded")

    @classmethod
    def server_error(cls) -> Self:
        """500 InternalFailure."""
        return cls(status=500, code="InternalFailure", message="The request processing has failed.")

    @classmethod
    def reset(cls) -> Self:
        """TCP reset; nothing was taken."""
        return cls(cut="before")

    @classmethod
    def accept_then_reset(cls) -> Self:
        """TCP reset after everything was taken: sending again makes duplicates, not sending again may lose."""
        return cls(cut="after")

    @classmethod
    def slow(cls, seconds: float) -> Self:
        """Answer late."""
        return cls(latency=seconds)

    @classmethod
    def html(cls) -> Self:
        """200 with a page of some proxy; nothing was taken. botocore reports success."""
        return cls(body=b"<html><body>Welcome to the guest network</body></html>")

    @classmethod
    def short_answer(cls) -> Self:
        """200 with one RequestResponses entry too few; the last record was not taken."""
        return cls(drop=1)

    @classmethod
    def denied(cls) -> Self:
        """400 AccessDeniedException."""
        return cls(
            status=400, code="AccessDeniedException", message="not authorized to perform: firehose:PutRecordBatch"
        )

    @classmethod
    def missing(cls) -> Self:
        """400 ResourceNotFoundException, as for a stream that was deleted."""
        return cls(
            status=400, code="ResourceNotFoundException", message="Firehose not found under account 000000000000."
        )

    @classmethod
    def expired(cls) -> Self:
        """400 ExpiredTokenException: the caller's credentials ran out."""
        return cls(
            status=400, code="ExpiredTokenException", message="The security token included in the request is expired"
        )

    @classmethod
    def kms(cls) -> Self:
        """400 InvalidKMSResourceException: the stream's key is disabled, or the caller may not use it."""
        return cls(status=400, code="InvalidKMSResourceException", message="KMS key is disabled or access is denied")
