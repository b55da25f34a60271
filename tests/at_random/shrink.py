"""Fewer and fewer lines that still fail."""

import copy
from collections.abc import Callable, Iterator

from structure import Call, Structure

PARTS = ("projections", "inputs", "couplings", "options", "record", "populations")


def shrunk(structure: Structure, fails: Callable[[Structure], bool]) -> Structure:
    """What is left when nothing more can be taken away: parts first, then options of calls."""
    again = True
    while again:
        again = False
        for smaller in _smaller(structure):
            if fails(smaller):
                structure, again = smaller, True
                break
    return structure


def _smaller(structure: Structure) -> Iterator[Structure]:
    for part in PARTS:
        for name in getattr(structure, part):
            own = copy.deepcopy(structure)
            del getattr(own, part)[name]
            if part == "populations":  # with what stands on it
                for other in PARTS[:-1]:
                    calls = getattr(own, other)
                    for key in [k for k, call in calls.items() if _names(call, name)]:
                        del calls[key]
            yield own
    count = len(list(_calls(structure)))
    for k in range(count):
        for option in list(list(_calls(structure))[k].options):
            own = copy.deepcopy(structure)
            del list(_calls(own))[k].options[option]
            yield own


def _calls(structure: Structure) -> Iterator[Call]:
    for part in PARTS:
        for call in getattr(structure, part).values():
            yield from call.inner()


def _names(call: Call, population: str) -> bool:
    text = str(call)
    return any(f"{quote}{population}{end}" in text for quote in "'\"" for end in "'\".")
