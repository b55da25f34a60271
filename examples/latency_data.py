"""Two small data sets as spike latencies: Yin-Yang, and handwritten digits.

A value between 0 and 1 becomes one spike, the later the larger it is; a value that sends no spike
has the latency infinity. Both have a part to train on, one to choose by, and one for the test.
"""

import math
from typing import Any, NamedTuple

import numpy as np

WINDOW = 26.0  # ms in which all spikes come

PARTS = ("train", "validation", "test")
YIN_YANG_SIZES = {"train": 5000, "validation": 1000, "test": 1000}
YIN_YANG_SEEDS = {"train": 42, "validation": 41, "test": 40}
DIGITS_SIZES = {"train": 1200, "validation": 200, "test": 397}
DIGITS_SEED = 0  # of which images are in which part
R_SMALL, R_BIG = 0.1, 0.5


class Samples(NamedTuple):
    """`latencies` (ms) `[n, n_inputs]`, of which some are infinite, and `labels` `[n]`, 0 to
    `n_classes` - 1."""

    latencies: np.ndarray
    labels: np.ndarray
    n_classes: int

    def first(self, n: int) -> "Samples":
        return self._replace(latencies=self.latencies[:n], labels=self.labels[:n])


def yin_yang() -> dict[str, Samples]:
    """The Yin-Yang data set (Kriener, Goeltz and Petrovici 2022, NICE): points of a disc, in the
    yin, the yang, or one of the dots, of which each has as many.

    The inputs are x, y, 1 - x and 1 - y, and a bias that spikes at 0.
    """
    made = {}
    for part in PARTS:
        points, labels = yin_yang_points(YIN_YANG_SIZES[part], YIN_YANG_SEEDS[part])
        made[part] = Samples(point_latencies(points), labels, 3)
    return made


def yin_yang_points(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n points `[n, 2]` between 0 and 1, and their classes `[n]`, as published for this seed."""
    rng = np.random.RandomState(seed)
    points, classes = np.empty((n, 2)), np.empty(n, int)
    for i in range(n):  # in the order published: a class, then points until one is of it
        classes[i] = rng.randint(3)
        found = -1
        while found != classes[i]:
            points[i] = 2 * R_BIG * rng.rand(2)
            found = yin_yang_class(*points[i])
    return points, classes


def yin_yang_class(x: float, y: float) -> int:
    """0 or 1 in the halves of the disc, 2 in the dots, and -1 beyond."""
    x, y = x - R_BIG, y - R_BIG
    left, right = math.hypot(x + R_BIG / 2, y), math.hypot(x - R_BIG / 2, y)
    if math.hypot(x, y) > R_BIG:
        return -1
    if min(left, right) < R_SMALL:
        return 2
    return int(left <= R_BIG / 2 or (y > 0 and right > R_BIG / 2))


def point_latencies(points: np.ndarray) -> np.ndarray:
    """Of points `[n, 2]` the latencies of the five inputs, `[n, 5]` (ms)."""
    return WINDOW * np.hstack([points, 1 - points, np.zeros((len(points), 1))])


def digits() -> dict[str, Samples]:
    """The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn (Alpaydin and
    Kaynak 1998): the brighter a pixel, the earlier its spike, and none where it is dark."""
    images, labels = digit_images()
    values = images.reshape(len(images), -1)
    latencies = np.where(values > 0, WINDOW * (1 - values), np.inf)
    order = np.random.default_rng(DIGITS_SEED).permutation(len(labels))
    ends = np.cumsum([DIGITS_SIZES[part] for part in PARTS])
    parts = np.split(order, ends[:-1])
    return {
        part: Samples(latencies[own], labels[own], 10)
        for part, own in zip(PARTS, parts, strict=True)
    }


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """All images `[1797, 8, 8]`, 0 (dark) to 1 in steps of 1/16, and what they show `[1797]`."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError(
            'the digits come with scikit-learn; install it: pip install "jsnn[examples]", or '
            'pip install -e ".[examples]" in a checkout'
        ) from None
    found: Any = load_digits()
    return found.images / 16, found.target


DATA = {"yinyang": yin_yang, "digits": digits}
