"""A line on standard output for each step that is logged."""

from collections.abc import Sequence

from stepjax.console.progress import say
from stepjax.console.terminal import figure
from stepjax.workdir.sink import Row, Watched, numbers


class ConsoleSink:
    """Prints the figures that `log.console` names, "ppo 12: true/accuracy 0.53 · kl/reference 0.01"."""

    def __init__(self, watched: Watched):
        self._stage = watched.stage
        self._shown = [name for name in map(str.strip, watched.log.console.split(",")) if name]

    def resume(self, step: int) -> None:
        if step > 0:
            say(f"{self._stage} goes on after step {step}")

    def write(self, step: int, values: Row) -> None:
        chosen = [f"{name} {figure(value)}" for name, value in numbers(values) if self._is_shown(name)]
        say(f"{self._stage} {step}: {' · '.join(chosen)}")

    def samples(self, step: int, rows: Sequence[Row]) -> None:
        right = sum(bool(row.get("correct")) for row in rows)
        say(f"{self._stage} {step}: {right} of {len(rows)} samples right (samples.jsonl)")

    def sync(self) -> None:
        """Each line is printed at once."""

    def close(self) -> None:
        """Nothing is open."""

    def _is_shown(self, name: str) -> bool:
        return any(name == shown or name.startswith(f"{shown}/") for shown in self._shown)
