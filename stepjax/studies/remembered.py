"""Cached completions: a repeated request for the same prefix samples nothing."""

from collections.abc import Sequence

from stepjax.labels.solution import Complete, Completion, Prefix, Request


class Remembered:
    """A completer that samples each numbered completion of a prefix once.

    With it one set of completions serves many numbers N and several methods of labelling, as if each had sampled its
    own: a completion depends only on its prefix and number.
    """

    def __init__(self, complete: Complete):
        self._complete = complete
        self._known: dict[Prefix, list[Completion]] = {}

    def __call__(self, requests: Sequence[Request]) -> list[list[Completion]]:
        wanted: dict[Prefix, int] = {}
        for request in requests:
            wanted[request.prefix] = max(wanted.get(request.prefix, 0), request.first + request.count)
        missing = []
        for prefix, count in wanted.items():
            known = self._known.setdefault(prefix, [])
            if count > len(known):
                missing.append(Request(prefix, count - len(known), len(known)))
        if missing:
            for request, found in zip(missing, self._complete(missing), strict=True):
                self._known[request.prefix] += found
        return [self._known[r.prefix][r.first : r.first + r.count] for r in requests]
