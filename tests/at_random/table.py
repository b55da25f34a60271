"""Which features, and which pairs of them, networks that count have had."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any


def table(done: Sequence[dict[str, Any]]) -> str:
    """A line for each feature, and how many pairs of features there were."""
    done = [own for own in done if own["counts"]]
    draws, structures, partners = Counter(), {}, {}
    for own in done:
        for name in own["features"]:
            draws[name] += 1
            structures.setdefault(name, set()).add(own["structure"])
            partners.setdefault(name, set()).update(own["features"])
    pairs = {pair for own in done for pair in itertools.combinations(sorted(own["features"]), 2)}
    lines = [f"{'feature':32}{'structures':>11}{'draws':>8}{'partners':>10}"]
    for name in sorted(draws):
        lines.append(
            f"{name:32}{len(structures[name]):11d}{draws[name]:8d}{len(partners[name]) - 1:10d}"
        )
    possible = len(draws) * (len(draws) - 1) // 2
    lines.append(
        f"{len(draws)} features, {len(pairs)} of {possible} pairs of them (some exclude each other)"
    )
    return "\n".join(lines)
