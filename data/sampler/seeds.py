"""Counter-based random numbers: every draw is a hash of what it is for.

A hash instead of a generator's stream has no state to save, gives the same numbers for any
number of processes, and does not change with the version of a library. The mixer is splitmix64
(Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15


def _mix(state: int) -> int:
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


def hashed(*words: int) -> int:
    """A number in [0, 2**63) that depends on all `words` (integers) and their order."""
    state = 0
    for word in words:
        state = _mix((state + _GAMMA + (word & _MASK)) & _MASK)
    return state >> 1


def permutation(num: int, *words: int) -> npt.NDArray[np.int64]:
    """A random order of 0..num-1, int64 [num]: indices sorted by their hash with `words`."""
    state = np.arange(num, dtype=np.uint64) + np.uint64(2 * hashed(*words) + 1)
    with np.errstate(over="ignore"):
        state = state * np.uint64(_GAMMA)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(state ^ (state >> np.uint64(31)), kind="stable").astype(np.int64)
