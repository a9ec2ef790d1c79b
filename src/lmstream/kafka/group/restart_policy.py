"""When a lost member is replaced, and when new members no longer help. No clock: each call is told the time."""

from collections import deque

from lmstream.kafka.settings import Settings


class RestartPolicy:
    """Back-off, window and limit of one source (`restart_...`). Times are seconds of one monotonic clock."""

    def __init__(self, settings: Settings) -> None:
        """Nothing was lost yet, and the first member is due at once."""
        self._first, self._most = settings.restart_backoff_ms / 1000, settings.restart_backoff_max_ms / 1000
        self._limit, self._window = settings.restart_limit, settings.restart_window_ms / 1000
        self.delay: float = 0.0
        """Seconds between the last loss, or failed start, and the next member."""
        self._due = 0.0
        self._losses: deque[float] = deque()
        self._well_since = 0.0  # since when the member has been started, or has had an assignment
        self._lost_at: float | None = None  # when the one was lost since whose end none has had an assignment

    def wait(self, now: float) -> float:
        """Seconds until a new member is due; it is when there is none left."""
        return self._due - now

    def started(self, now: float) -> None:
        """A member has connected."""
        self._well_since = now

    def joined(self, now: float) -> float | None:
        """A member has its first assignment. Answer the seconds that there was none; None when none was ever lost."""
        self._well_since = now
        lost_at, self._lost_at = self._lost_at, None
        return None if lost_at is None else now - lost_at

    def lost(self, now: float, *, assigned: bool) -> bool:
        """A member is lost; whether another one may help. `assigned`: whether any has had an assignment yet."""
        if self._lost_at is None:
            self._lost_at = now
        if assigned and now - self._well_since >= self._most:
            self.delay = 0.0  # it ran well for long: this is another story
        return self.failed(now)

    def failed(self, now: float) -> bool:
        """A member is lost, or could not start; whether another one may help.

        It does not when these come too often, or when no member has had an assignment for a whole window.
        """
        self._losses.append(now)
        while self._losses[0] < now - self._window:
            self._losses.popleft()
        return len(self._losses) <= self._limit and (self._lost_at is None or now - self._lost_at <= self._window)

    def back_off(self, now: float) -> None:
        """Let the next member wait: twice as long as the one before, up to the most there is."""
        self.delay = min(self._most, 2 * self.delay or self._first)
        self._due = now + self.delay
