"""The tables of the study of labels."""

from typing import Any

from stepjax.console.progress import table

KINDS = ("hard", "soft", "omegaprm")


def show_study(found: dict[str, Any]) -> None:
    """The study's tables, for the run's own world and for longer chains."""
    show_world(f"{found['solutions']} solutions, {found['wrong']} with a wrong step", found["completers"])
    chains = found["chains"]
    title = f"{chains['operations']} operations: {chains['solutions']} solutions, {chains['wrong']} with a wrong step"
    show_world(title, chains["completers"])


def show_world(title: str, completers: dict[str, Any]) -> None:
    """Strength; first errors and cost by N; errors of labels by N; labels by place of the step."""
    strength = [[name, f"{of['strength']:.1%}"] for name, of in completers.items()]
    table(f"{title}: completers", ["", "right from the prompt"], strength)
    rows: list[list[Any]] = []
    for name, of in completers.items():
        for n, at in of["by_n"].items():
            used = [f"{at['cost'][method]['completions']:.1f}" for method in ("monte_carlo", "omegaprm")]
            found = [at[kind][what] for what in ("f1", "error") for kind in KINDS]
            rows.append([name, int(n), *map(_share, found), *used])
    # F1 of first errors, exact places on wrong solutions, completions a solution; m: Monte Carlo, o: OmegaPRM.
    names = ["F1 h", "F1 s", "F1 o", "at h", "at s", "at o", "used m", "used o"]
    table(f"{title}: first errors", ["by", "N", *names], rows)
    rows = []
    for name, of in completers.items():
        for n, at in of["by_n"].items():
            hard, soft = at["steps"]["hard"], at["steps"]["soft"]
            figures = [hard[what] for what in ("accuracy", "f1_wrong", "wrong_called_right", "right_called_wrong")]
            rows.append([name, int(n), *map(_share, (*figures, soft["accuracy"], soft["f1_wrong"]))])
    names = ["hard", "F1", "bad→good", "good→bad", "soft", "F1"]
    table(f"{title}: steps", ["by", "N", *names], rows)
    rows = []
    for name, of in completers.items():
        n = min(of["by_n"], key=lambda n: abs(int(n) - 8))
        at = of["by_n"][n]
        steps = zip(at["steps"]["hard"]["by_place"], at["steps"]["soft"]["by_place"], strict=True)
        for k, (hard, soft) in enumerate(steps):
            places = [at[kind]["by_place"][k]["found"] for kind in KINDS]
            if hard["steps"]:
                figures = [hard["accuracy"], soft["accuracy"], *places]
                rows.append([name, int(n), k + 1, hard["steps"], *map(_share, figures)])
    names = ["steps", "hard", "soft", "at h", "at s", "at o"]
    table(f"{title}: by place of the step", ["by", "N", "k", *names], rows)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
