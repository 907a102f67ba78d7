"""Counter-based random numbers for compiled kernels: a stream depends on its key alone.

SplitMix64: the state is a counter, the output a hash of it, so that sample i of a seed has its own
stream whatever thread draws it, and however many samples were drawn before.
"""

import math

import numpy as np

from dgn_tf.compiled import kernel

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_S16, _S32, _S48 = np.uint64(16), np.uint64(32), np.uint64(48)
_LOW16 = np.uint64(0xFFFF)


@kernel
def _mix(value):
    value = (value ^ (value >> _S30)) * _MIX_A
    value = (value ^ (value >> _S27)) * _MIX_B
    return value ^ (value >> _S31)


@kernel
def stream(seed, index, attempt, purpose):
    """[1] uint64 state of the stream of one sample, attempt and purpose (all integers >= 0)."""
    state = np.empty(1, np.uint64)
    key = _mix(np.uint64(seed) + _GOLDEN)
    key = _mix(key + np.uint64(index) * _GOLDEN + _GOLDEN)
    key = _mix(key + np.uint64(attempt) * _GOLDEN + _GOLDEN)
    state[0] = _mix(key + np.uint64(purpose) * _GOLDEN + _GOLDEN)
    return state


@kernel
def _bits(state):
    state[0] = state[0] + _GOLDEN
    return _mix(state[0])


@kernel
def uniform(state, low, high):
    """A number of [low, high)."""
    return low + (high - low) * ((_bits(state) >> _S11) * (1.0 / 9007199254740992.0))


@kernel
def log_uniform(state, low, high):
    """A number of [low, high), uniform in its logarithm; both bounds positive."""
    return math.exp(uniform(state, math.log(low), math.log(high)))


@kernel
def normal(state):
    """A standard normal number (Box-Muller)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(state, 0.0, 1.0)))
    return radius * math.cos(uniform(state, 0.0, 2.0 * math.pi))


@kernel
def clipped_normal(state, sigma, clip):
    """A normal number of deviation `sigma`, clipped to +-`clip`."""
    return min(max(sigma * normal(state), -clip), clip)


@kernel
def quick_normal(state):
    """Nearly standard normal, |x| < 3.5: a sum of four 16-bit uniforms out of one draw.

    One multiplication chain instead of a logarithm and a cosine: for noise on every pixel.
    """
    bits = _bits(state)
    total = (
        np.float64(bits & _LOW16)
        + np.float64((bits >> _S16) & _LOW16)
        + np.float64((bits >> _S32) & _LOW16)
        + np.float64(bits >> _S48)
    )
    # Sum of four uniforms: mean 2, variance 1/3.
    return (total / 65536.0 - 2.0 + 2.0 / 65536.0) * 1.7320508075688772


@kernel
def quick_pair(state):
    """Two numbers of a bell-shaped distribution, deviation 1, |x| < 2.5, out of one draw."""
    bits = _bits(state)
    a = np.float64(bits & _LOW16) + np.float64((bits >> _S16) & _LOW16)
    b = np.float64((bits >> _S32) & _LOW16) + np.float64(bits >> _S48)
    # Sums of two uniforms: mean 1, variance 1/6.
    scale = 2.449489742783178
    return (a / 65535.0 - 1.0) * scale, (b / 65535.0 - 1.0) * scale


@kernel
def choice(state, shares):
    """Index drawn in proportion to `shares`, a tuple or array of weights >= 0."""
    total = 0.0
    for i in range(len(shares)):
        total += shares[i]
    left = uniform(state, 0.0, total)
    for i in range(len(shares)):
        left -= shares[i]
        if left < 0.0:
            return i
    return len(shares) - 1


@kernel
def random_rotation(state, rotation):
    """Fills `rotation` [3, 3], uniform over SO(3) (Shoemake's quaternion)."""
    u = uniform(state, 0.0, 1.0)
    a = uniform(state, 0.0, 2.0 * math.pi)
    b = uniform(state, 0.0, 2.0 * math.pi)
    x, y = math.sqrt(1.0 - u) * math.sin(a), math.sqrt(1.0 - u) * math.cos(a)
    z, w = math.sqrt(u) * math.sin(b), math.sqrt(u) * math.cos(b)
    rotation[0, 0] = 1.0 - 2.0 * (y * y + z * z)
    rotation[0, 1] = 2.0 * (x * y - z * w)
    rotation[0, 2] = 2.0 * (x * z + y * w)
    rotation[1, 0] = 2.0 * (x * y + z * w)
    rotation[1, 1] = 1.0 - 2.0 * (x * x + z * z)
    rotation[1, 2] = 2.0 * (y * z - x * w)
    rotation[2, 0] = 2.0 * (x * z - y * w)
    rotation[2, 1] = 2.0 * (y * z + x * w)
    rotation[2, 2] = 1.0 - 2.0 * (x * x + y * y)
