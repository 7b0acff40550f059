"""Public benchmarks by name: where their test problems are, on this machine or on the hub."""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stepjax.data.rows import Row
from stepjax.data.sources import HUB
from stepjax.errors import UserError, nearest
from stepjax.tasks.base import Problem
from stepjax.tasks.graders import AnswerGrader
from stepjax.tasks.math import MathProblems
from stepjax.tasks.problem_rows import marked

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
"""What a chat model that was not trained here is asked, so that its answer can be found."""

_ENDINGS = (".jsonl", ".json", ".parquet")
_SPLITS = ("test", "train", "valid")
_NAMED = re.compile(r"([\w.-]+)=(.+)")


@dataclass(frozen=True)
class Benchmark:
    """A public set of problems.

    Attributes:
      hub: its data set there, as `task.files.test` names one.
      split: that data set's split with the problems.
      tokens: of the longest response, where the options do not say.
    """

    hub: str
    split: str
    tokens: int


BENCHMARKS = {
    "gsm8k": Benchmark("hub:openai/gsm8k:main", "test", 512),
    "math500": Benchmark("hub:HuggingFaceH4/MATH-500", "test", 2048),
    "aime24": Benchmark("hub:HuggingFaceH4/aime_2024", "train", 8192),
    "aime25": Benchmark("hub:math-ai/aime25", "test", 8192),
    "amc23": Benchmark("hub:math-ai/amc23", "test", 4096),
}


@dataclass(frozen=True)
class Member:
    """One entry of a suite.

    Attributes:
      name: what its figures are called.
      source: where its problems are.
      split: of a hub data set; "": test.
      tokens: of the longest response; 0: not known.
      absent: it is not on this machine, so that the source is its data set on the hub.
    """

    name: str
    source: str
    split: str = ""
    tokens: int = 0
    absent: bool = False


class BenchmarkProblems(MathProblems):
    """The problems of a member, read as MATH's are: fields of other names are known, and answers may be marked."""

    def __init__(self, member: Member, *, template: str, separator: str, grader: AnswerGrader):
        """Reads nothing yet. `template`: of the policy's prompts; `separator`: of the steps of solutions."""
        source = member.source
        super().__init__(source, source, test_split=member.split, prompt=template, separator=separator, grader=grader)
        self.name = member.name
        self._member = member

    def all(self) -> list[Problem]:
        """Every problem. UserError names a source, or a row, that cannot be read, and where the source may be put."""
        try:
            return list(self.problems("test"))
        except UserError as error:
            if not self._member.absent:
                raise
            put = (
                f"name a file of its problems, --config.suite={self.name}=FILE, or the folder that has one, suite_data"
            )
            raise UserError(f"config.eval.suite: {self.name} is not on this machine, and {error}; {put}") from None

    def _problem(self, row: Row, name: str) -> Problem:
        problem = super()._problem(row, name)
        # Also for a grader of the user's: what is marked in GSM8K's solutions, not all of them.
        return dataclasses.replace(problem, answer=marked(problem.answer))


def members_of(suite: str, folder: str) -> list[Member]:
    """The entries of `eval.suite`; benchmarks are looked for in `folder`.

    UserError where there is none, one is not known, or two have the same name.
    """
    found = [_member(part, Path(folder).expanduser()) for part in map(str.strip, suite.split(",")) if part]
    if not found:
        raise UserError(f"config.eval.suite: names no benchmark; known are {', '.join(BENCHMARKS)}, and files by path")
    names = [member.name for member in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"config.eval.suite: two entries are called {twice}; name one otherwise, as in NAME=SOURCE")
    return found


def _member(part: str, folder: Path) -> Member:
    """A name, `NAME=SOURCE`, or a source."""
    if match := _NAMED.fullmatch(part):
        name, source = match[1], match[2].strip()
    elif part in BENCHMARKS:
        known = BENCHMARKS[part]
        here = next((path for path in _places(part, folder) if path.is_file()), None)
        if here is None:
            return Member(part, known.hub, known.split, known.tokens, absent=True)
        name, source = part, str(here)
    elif part.startswith(HUB) or "/" in part or part.endswith(_ENDINGS) or Path(part).exists():
        name, source = _called(part), part
    else:
        raise UserError(
            f"config.eval.suite: no benchmark {part!r}{nearest(part, BENCHMARKS)}; one of your own: NAME=FILE"
        )
    tokens = BENCHMARKS[name].tokens if name in BENCHMARKS else 0
    return Member(name, source, tokens=tokens)


def _places(name: str, folder: Path) -> Iterator[Path]:
    """Where a folder may have a benchmark, the likeliest first."""
    for ending in _ENDINGS:
        yield folder / f"{name}{ending}"
        yield folder / name / f"test{ending}"
        yield from sorted(folder.glob(f"*/{name}{ending}"))


def _called(source: str) -> str:
    """The name of a source: its last part that says something, "gsm8k" of data/gsm8k/test.jsonl."""
    parts = [re.sub(r"[^\w.-]+", "-", part) for part in source.removeprefix(HUB).split("/") if part]
    last = parts[-1].removesuffix(".gz")
    last = next((last.removesuffix(ending) for ending in _ENDINGS if last.endswith(ending)), last)
    return parts[-2] if last in _SPLITS and len(parts) > 1 else last
