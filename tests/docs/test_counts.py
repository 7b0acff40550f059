"""Numbers and lists that the pages state are those of the code: arms, signals, families, formats, shapes, choices."""

import re
import runpy
from collections.abc import Callable

import pytest
from credit.test_turn_bias import moments
from docs.pages import PAGES, ROOT, code_in, table_rows, text_of

from stepjax.bench.shapes import SHAPES
from stepjax.chips import CHIPS
from stepjax.config import Config, PPOOptions, StreamOptions, options_of
from stepjax.credit.estimators import ESTIMATORS
from stepjax.data.readers import READERS
from stepjax.hacks.edits import EDITS
from stepjax.learners.ppo import CREDITED
from stepjax.measures import AGGREGATORS
from stepjax.models.families import FAMILIES
from stepjax.pipeline import KINDS
from stepjax.rewards.conventions import CONVENTIONS
from stepjax.rewards.shaping_chain import VALUES
from stepjax.rewards.signals import SIGNALS
from stepjax.runs.alarms import WATCHED
from stepjax.search import targets
from stepjax.search.methods import METHODS
from stepjax.search.scorers import SCORERS
from stepjax.studies.prm_study import KINDS as LABEL_KINDS
from stepjax.tasks.benchmarks import BENCHMARKS
from stepjax.workdir.sinks import SINKS

ARMS = runpy.run_path(str(ROOT / "configs" / "credit_arms.py"))["ARMS"]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
NUMBERS += [f"{unit}teen" for unit in ("thir", "four", "fif", "six", "seven", "eigh", "nine")]
DOCS = ROOT / "docs"


def arms_compared() -> set[str]:
    rows = table_rows(DOCS / "results.md", "arm of `credit_arms`")
    return {code for row in rows for code in code_in(row[0])}


COUNTS: dict[str, Callable[[], int]] = {
    r"arms, each": lambda: len(ARMS),
    r"ways to credit in `configs": lambda: len(ARMS),
    r"ways to credit, each": lambda: len(arms_compared()),
    r"arms\]\(docs/results": lambda: len(arms_compared()),
    r"of the arms": lambda: len(arms_compared()),
    r"signals\b": lambda: len(SIGNALS),
    r"kinds of shaping": lambda: len(VALUES),
    r"estimators\b": lambda: len(ESTIMATORS),
    r"families\b": lambda: len(FAMILIES),
    r"conventions\b": lambda: len(CONVENTIONS),
    r"formats\b": lambda: len(READERS),
    r"kinds of measurement": lambda: len(KINDS),
    r"aggregators\b": lambda: len(AGGREGATORS),
    r"kinds of labels": lambda: len(LABEL_KINDS),
    r"monitors\b": lambda: len(WATCHED),
    r"ways that add nothing": lambda: len(EDITS),
    r"projections\b": lambda: len(Config().lora.modules),
}
"""What follows a number word, and how many there are."""


def stated(text: str, what: str) -> list[int]:
    """The numbers, as words, that stand before the pattern `what`; line ends count as spaces."""
    text = re.sub(r"\n(?!\n)", " ", text)
    words = re.findall(rf"\b({'|'.join(NUMBERS)}) {what}", text, re.I | re.M)
    return [NUMBERS.index(word.lower()) for word in words]


@pytest.mark.parametrize("what", COUNTS)
def test_stated_numbers_are_those_of_the_code(what):
    found = {page.name: numbers for page in PAGES if (numbers := stated(text_of(page), what))}
    assert found, f"no page states how many: {what}"
    actual = COUNTS[what]()
    assert all(number == actual for numbers in found.values() for number in numbers), (what, actual, found)


def test_a_wrong_number_would_be_seen():
    assert stated("There are Seventeen\narms, each one way.", "arms, each") == [17]
    assert stated("seven chains", "arms, each") == []


def choices_of(option: str, cls: type = StreamOptions) -> set[str]:
    return set(dict(options_of(cls))[option].metadata["choices"])


def test_the_parts_of_a_stream():
    parts = {code_in(row[0])[0]: set(code_in(row[1])) for row in table_rows(DOCS / "streams.md", "part")}
    assert parts["signal"] == {*SIGNALS, "package.module:name"}
    assert parts["shaping"] == {":".join((name, *values)) for name, values in VALUES.items()}
    assert parts["estimator"] == set(ESTIMATORS) == choices_of("estimator")
    assert parts["critic_trunk"] - {"prm.target=value"} == choices_of("critic_trunk")
    assert parts["horizon"] == {"step", "response", "turn"}


def test_arms():
    described = [code for row in table_rows(DOCS / "streams.md", "arm") for code in code_in(row[0])]
    assert sorted(described) == sorted(ARMS)
    assert arms_compared() < set(ARMS)


def test_formats_families_conventions_and_kinds():
    def first_cells(page: str, header: str) -> list[str]:
        return [code for row in table_rows(DOCS / page, header) for code in code_in(row[0])]

    assert sorted(first_cells("data.md", "`source`")) == sorted(READERS)
    assert first_cells("models.md", "family (`model_type`)") == list(FAMILIES)
    assert first_cells("models.md", "`prm.convention`") == list(CONVENTIONS)
    assert sorted(first_cells("evaluation.md", "kind")) == sorted(KINDS)
    assert set(first_cells("speed.md", "shape")) == {*SHAPES, "own"}


def test_benchmarks_and_sinks():
    rows = table_rows(DOCS / "evaluation.md", "benchmark")
    told = {code_in(row[0])[0]: (f"hub:{code_in(row[1])[0]}", int(row[2])) for row in rows}
    assert told == {name: (known.hub, known.tokens) for name, known in BENCHMARKS.items()}
    helped = dict(options_of(Config))["eval.suite_tokens"].metadata["doc"]
    assert all(str(known.tokens) in helped and name in helped for name, known in BENCHMARKS.items())
    assert all(name in dict(options_of(Config))["eval.suite"].metadata["doc"] for name in BENCHMARKS)
    assert [code_in(row[0])[0] for row in table_rows(DOCS / "watching.md", "sink")] == list(SINKS)
    assert all(name in dict(options_of(Config))["log.sinks"].metadata["doc"] for name in SINKS)


def test_sizes_of_the_benchmarks_shapes():
    rows = {code_in(row[0])[0]: row[1:6] for row in table_rows(DOCS / "speed.md", "shape")}
    for name, s in SHAPES.items():
        heads = f"{s.heads} ({s.kv_heads}) of {s.head_dim}"
        assert rows[name] == [str(s.layers), str(s.width), heads, str(s.mlp), str(s.vocab)]


def test_choices_of_the_reward_models_options():
    rows = {code_in(row[0])[0]: row[1] for row in table_rows(DOCS / "data.md", "option")}
    for name in ("prm.target", "prm.objective", "prm.neutral"):
        assert set(code_in(rows[name])) == choices_of(name, Config), name


def test_kinds_of_chips():
    row = next(row for row in table_rows(DOCS / "plan.md", "option") if row[0].startswith("`--topology"))
    assert {code.split(":")[0] for code in code_in(row[1])} == set(CHIPS)


def test_defaults_that_the_pages_state():
    hosts, hacking = text_of(DOCS / "hosts.md"), text_of(DOCS / "hacking.md")
    distributed = Config().distributed
    assert f"`--config.distributed.timeout` ({distributed.timeout:g} s;" in hosts
    assert f"`distributed.stall` ({distributed.stall / 60:g} min)" in hosts
    assert f"`distributed.grace` ({distributed.grace:g} s)" in hosts
    assert f"(first {Config().ppo.alarm_rounds} rounds)" in hacking


def test_methods_and_scorers_of_a_search():
    page = DOCS / "search.md"
    for name, registry in (("method", METHODS), ("prm", SCORERS)):
        assert [code_in(row[0])[0] for row in table_rows(page, f"`{name}`")] == list(registry) == [*choices(name)]
    functions = [code_in(row[0])[0] for row in table_rows(page, "function")]
    assert all(hasattr(targets, name) for name in functions) and len(functions) == 3


def choices(name: str) -> tuple[str, ...]:
    return dict(options_of(Config))[f"search.{name}"].metadata["choices"]


def test_published_rules():
    described = [code_in(row[0])[0] for row in table_rows(DOCS / "credit.md", "rule")]
    assert sorted(described) == sorted(file.stem for file in (ROOT / "configs" / "rules").glob("*.py"))


def test_parts_of_credit_and_of_the_loss():
    page = DOCS / "credit.md"
    named = {code for row in table_rows(page, "order") for code in code_in(row[1])}
    credited = set(CREDITED) | {"signal", "shaping", "horizon"} - {"critic"}
    told = {"estimator", "critic", "scale", "among", "when", "prompt_value", "last"}  # in the text and other tables
    assert {name.split("=")[0] for name in named} | told == credited
    losses = {code_in(row[0])[0].removeprefix("ppo."): set(code_in(row[1])) for row in table_rows(page, "option")}
    for name in ("ratio", "loss", "reduce"):
        assert choices_of(name, PPOOptions) <= losses[name]
    assert {code_in(row[0])[0] for row in table_rows(page, "`among`")} == choices_of("among")
    estimators = {code for row in table_rows(page, "`estimator`") for code in code_in(row[0])}
    assert estimators == set(ESTIMATORS)


def test_the_figures_of_the_bias():
    """The page's table is what the exact world gives."""
    rows = table_rows(DOCS / "credit.md", "baseline")
    for form, row in zip(("score", "return", "rloo", "none"), rows, strict=True):
        mean, variance = moments(form)
        assert row[1:] == [f"{mean:.3f}", f"{variance:.2f}"]
