"""The methods of search by name, and which options they can do with."""

import dataclasses
from collections.abc import Callable

from stepjax.config import SearchOptions
from stepjax.errors import UserError
from stepjax.search.ask import Search
from stepjax.search.beam import Beams, Candidate, beam_search, best_of, revisions
from stepjax.search.explorer import Explorer
from stepjax.search.puct import Puct, puct_search
from stepjax.search.ties import Ties

Candidates = Search[list[Candidate]]


@dataclasses.dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
      search: from a problem's explorer, the options and random choices.
      stepwise: it rates prefixes that have not ended, where `several`.
      several: whether it needs different samples of one prefix.
      divided: whether `width` divides n.
      visits: whether it counts visits, and backs values up.
    """

    search: Callable[[Explorer, SearchOptions, Ties], Candidates]
    stepwise: bool
    several: Callable[[SearchOptions], bool]
    divided: bool = False
    visits: bool = False


def _best_of_n(explorer: Explorer, options: SearchOptions, ties: Ties) -> Candidates:
    return best_of(explorer, options.n)


def _sequential(explorer: Explorer, options: SearchOptions, ties: Ties) -> Candidates:
    return revisions(explorer, options.n)


def _beam(explorer: Explorer, options: SearchOptions, ties: Ties) -> Candidates:
    return beam_search(explorer, Beams(1, options.width, options.n // options.width), ties)


def _dvts(explorer: Explorer, options: SearchOptions, ties: Ties) -> Candidates:
    return beam_search(explorer, Beams(options.n // options.width, options.width, 1), ties)


def _puct(explorer: Explorer, options: SearchOptions, ties: Ties) -> Candidates:
    names = {field.name for field in dataclasses.fields(Puct)}
    chosen = {name: value for name, value in dataclasses.asdict(options).items() if name in names}
    return puct_search(explorer, Puct(**chosen), ties)


METHODS = {
    "best_of_n": Method(_best_of_n, stepwise=False, several=lambda o: o.n > 1),
    "beam": Method(_beam, stepwise=True, several=lambda o: o.n > 1, divided=True),
    "dvts": Method(_dvts, stepwise=True, several=lambda o: o.n > 1, divided=True),
    "puct": Method(_puct, stepwise=True, several=lambda o: o.width > 1 or o.widen > 0, visits=True),
    "sequential": Method(_sequential, stepwise=True, several=lambda o: o.n > 1),
}
"""By `search.method`."""


def check_method(options: SearchOptions, longest: int) -> Method:
    """The method. UserError where the options contradict each other; `longest`: tokens of the longest response."""
    method = METHODS[options.method]
    if options.temperature == 0 and method.several(options):
        raise UserError(
            f"config.search.temperature: at 0 all samples of a prefix are the same, and method={options.method} needs "
            "several; raise it"
        )
    if method.divided and options.n % options.width:
        raise UserError(
            f"config.search.n={options.n}: must be a multiple of config.search.width={options.width} for "
            f"method={options.method}, which keeps n / width lines"
        )
    if 0 < options.budget < longest:
        raise UserError(
            f"config.search.budget={options.budget}: one response may take {longest} tokens (ppo.max_new_tokens); "
            "raise it, or name a smaller config.search.max_new_tokens"
        )
    return method


def searched(explorer: Explorer, options: SearchOptions, ties: Ties) -> Candidates:
    """The method's search, which at its end forgets what it asked about."""
    found = yield from METHODS[options.method].search(explorer, options, ties)
    yield from explorer.closed()
    return found
