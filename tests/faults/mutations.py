"""Random damage of bytes, the same for a seed; how much of it a test tries."""

import pytest

SMALL, LONG = 12, 200
# Of each fuzzer: some in `make test`, all that the bar asks for under `long`.
HOW_MANY = [SMALL, pytest.param(LONG, marks=pytest.mark.long)]


def mutated(content: bytes, rng) -> bytes:
    """One flipped bit, some overwritten or repeated bytes, or a cut.

    Args:
        content: what is damaged.
        rng: a `random.Random`.

    Returns:
        Bytes that differ from `content`.
    """
    while True:
        data = bytearray(content)
        place = rng.randrange(len(data))
        kind = rng.choice(["flip"] * 6 + ["write", "cut", "repeat", "zero"])
        length = rng.randrange(1, 64)
        if kind == "flip":
            data[place] ^= 1 << rng.randrange(8)
        elif kind == "write":
            data[place : place + length] = rng.randbytes(length)
        elif kind == "zero":
            data[place : place + length] = bytes(length)
        elif kind == "cut":
            del data[place:]
        else:
            data[place:place] = data[place : place + length]
        if bytes(data) != content:
            return bytes(data)
