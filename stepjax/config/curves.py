"""`stepjax eval` of searches: methods × budgets × scorers."""

from dataclasses import dataclass

from stepjax.config.option import option


@dataclass(frozen=True)
class CurveOptions:
    """The options of kind search."""

    search_methods: str = option(
        "best_of_n,beam,dvts,puct,sequential",
        "search: methods of `search.method`, separated by commas; best_of_n, with which the others are compared, is "
        "always among them; what else a search depends on (width, choose, temperature, problems, stage …) is as in "
        "`search`",
        resumable=True,
    )
    search_budgets: str = option(
        "1,4,16",
        "search: how much each method may do, separated by commas: `search.n`, of puct `search.sims`; where n is below "
        "search.width, the width is n",
        resumable=True,
    )
    search_prms: str = option(
        "",
        "search: scorers of `search.prm`, separated by commas; empty: learned where the run has a process reward "
        "model, uniform, and exact where the task rates steps",
        resumable=True,
    )
