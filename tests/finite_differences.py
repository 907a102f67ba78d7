"""Central differences: what gradients are checked against."""

import numpy as np


def finite_differences(value, at, step=1e-5):
    """Slope of `value` (an array to a number) at each entry of the array `at`, float64."""
    slope = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        moved = at.copy()
        moved[place] += step
        high = value(moved)
        moved[place] -= 2 * step
        slope[place] = (high - value(moved)) / (2 * step)
    return slope
