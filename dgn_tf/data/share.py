"""Which frames of every batch a process makes, where several train together."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Share:
    """One of `parts` equal runs of neighbouring frames, the same of every batch.

    The parts of a batch have no frame in common and are together the batch that a single process
    makes.

    Attributes:
        part: number of this one, from 0.
        parts: of how many.
    """

    part: int = 0
    parts: int = 1

    def rows(self, batch_size: int) -> range:
        """Places in the batch of this part's frames.

        Raises:
            ValueError: the batch can't be cut in equal parts.
        """
        if batch_size % self.parts:
            raise ValueError(f"{batch_size} frames can't be cut in {self.parts} equal parts.")
        count = batch_size // self.parts
        return range(self.part * count, (self.part + 1) * count)


WHOLE = Share()
