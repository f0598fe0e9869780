"""Which of a run's validations are drawn."""


class EveryNth:
    """Counts validations: the first is drawn, and every n-th after it; none if `n` is None or 0.

    `seen` is how many there were. It belongs in a callback's state, so that a resumed run draws
    every n-th of all.
    """

    def __init__(self, n: int | None):
        self.n, self.seen = n, 0

    def next(self) -> bool:
        """Count one more, and return whether it is drawn."""
        self.seen += 1
        return bool(self.n) and (self.seen - 1) % self.n == 0
