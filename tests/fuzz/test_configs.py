"""Every option with values of wrong types and out of bounds: accepted, or refused in one line that names it.

The commands stop before they compile anything: they find an empty work directory, where an earlier stage is missing.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from fuzz.commands import Said, assert_readable, command, elsewhere, refused
from fuzz.fuzzing import Fuzz
from fuzz.junk import ODD_TEXTS, TEXT
from hypothesis import strategies as st
from runs.tiny_run import OPTIONS, write_config

from stepjax.cli import COMMANDS
from stepjax.config import Config, StreamOptions, default_option, options_of
from stepjax.errors import UserError
from stepjax.options import parse
from stepjax.runs.opening import open_run
from stepjax.runs.stages import check_stages

FUZZ = Fuzz(share=0.25)

EARLY = ("prm", "ppo", "eval", "export", "label", "data", "bench", "report")
"""Commands that end early here: without an earlier stage, a source or a program's name."""

FIELDS = {**dict(options_of(Config)), **dict(options_of(StreamOptions, "ppo.streams.process."))}

ODD_WORDS = tuple(text for text in ODD_TEXTS if ".." not in text)  # nothing outside of the test's folder is touched
WORDS = st.sampled_from(ODD_WORDS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/."), max_size=20
)
VALUES = (
    *(
        "nan",
        "inf",
        "-inf",
        "1e999",
        "1e-400",
        "0",
        "-0.0",
        "-1",
        "1",
        "2",
        ".5",
        "1.0",
        "1.5",
        "0x10",
        "1_000",
        "0777",
    ),
    *("9" * 5000, "-" + "9" * 30, "1e308", "2147483648", "True", "False", "None", "many", "'a'", '"', "()", "(1,)"),
    *("(1, 2, 3)", "('a',)", "('ppo', 'sft')", "[1", "(((", "{'a': 1}", "{}", "[]", "lambda: 1", "a=b", "a,b", "step"),
    *("prm", "response", "package.module:name", "json:loads", "nowhere.nothing:name", "os", "clip:0.5", "-", "--", "ü"),
)
SOURCES = (
    *("None", "True", "-1", "0", "1", "1.5", "float('nan')", "float('-inf')", "1e999", "10**400", "10**5000", "1j"),
    *("'text'", "''", "b'bytes'", "'\\ud800'", "'\\x00\\n'", "'x' * 10**6", "()", "[]", "{}", "set()", "(1, 2, 3)"),
    *("('a', None)", "[[], [[]]]", "{'a': 1}", "{1: 2}", "{None: {}}", "{'process': None}", "{'a': {'b': {'c': 1}}}"),
    *("lambda: 1", "object()", "type('X', (), {})", "range(3)", "iter([])", "...", "print", "recipe()", "stream()"),
    *("config", "config.ppo", "__import__('numpy').float32(0.5)", "__import__('numpy').zeros(3)", "1 / 0"),
    *("__import__('fractions').Fraction(1, 3)", "__import__('decimal').Decimal('NaN')", "undefined", "config.nothing"),
    *("open('nowhere')", "exit(3)", "(_ for _ in ()).throw(Exception())", "[1] * 10**5"),
    *("stream(signal=1)", "stream(sgnal='prm')", "recipe(ppo={})", "recipe(nothing=1)", "int('x')"),
    *("{'a': stream(), 'b': stream(signal='outcome', horizon='response')}", "{'': stream()}", "{'a.b': stream()}"),
    *("{'process': stream(horizon=-1)}", "{'process': [stream()]}", "{'x': stream(weight='1')}", "('sft', 'ppp')"),
)


@st.composite
def options(draw: st.DrawFn) -> tuple[str, str]:
    """The name of an option, now and then a wrong one or a section's, and a text as its value."""
    name = draw(st.sampled_from(sorted(FIELDS)))
    field = FIELDS[name]
    near = [str(x) for bound in ("least", "above", "below", "most") if (b := field.metadata.get(bound)) is not None
            for x in (b, b - 1, b + 1, b - 1e-9)]  # fmt: skip
    likely = [*near, *field.metadata.get("choices", ()), str(default_option(name))]
    value = draw(st.sampled_from(VALUES) | WORDS | st.sampled_from(likely)
                 | st.integers().map(str) | st.floats().map(str))  # fmt: skip
    change = draw(st.integers(0, 9))
    if change == 0:
        at = draw(st.integers(0, len(name)))
        name = name[:at] + draw(st.sampled_from(["", "x", ".", "..", "é", "=", "-", "[0]", " "])) + name[at + 1 :]
    elif change == 1:
        name = draw(
            st.sampled_from(
                [name.rpartition(".")[0] or "ppo", f"{name}.deeper", f"ppo.streams.{name}", "ppo.streams.new"]
            )
        )
    return name, value


@pytest.fixture(scope="module", autouse=True)
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config of a tiny run, read by every command of this file."""
    global CONFIG, UNCHANGED
    CONFIG = write_config(tmp_path_factory.mktemp("fuzz") / "tiny.py", OPTIONS)
    UNCHANGED = {name: run(name, []).errors for name in EARLY}
    return CONFIG


CONFIG = Path()
UNCHANGED: dict[str, list[str]] = {}


def run(name: str, changes: Sequence[str], config: Path | None = None) -> Said:
    """A command in an empty folder. Where it fails, the same folder still takes the plain config's run."""
    with elsewhere() as folder:
        argv = [name, f"--config={config or CONFIG}", *changes]
        if name != "bench":
            argv.append(f"--workdir={folder / 'run'}")
        said = command(*argv)
        if said.status == 2 and name in ("ppo", "eval"):
            again = command(name, f"--config={CONFIG}", f"--workdir={folder / 'run'}")
            assert again.status == 2 and "stage sft has no checkpoint" in again.errors[0], (said.errors, again.errors)
    return said._replace(errors=[line.replace(str(folder), "FOLDER") for line in said.errors])


def assert_names(said: Said, names: Sequence[str], name: str) -> None:
    """The line names one of the options, as far as it is not what the command says without them."""
    if said.status == 0 or said.errors == UNCHANGED[name]:
        return
    if "no checkpoint" in said.errors[0] or "name a work directory" in said.errors[0]:  # as far as the command comes
        return
    line = said.errors[0].lower()
    if re.search(r"changed\.py:\d+: ", line):
        return
    names = [n.partition("=")[0] for n in names]
    parts = {part for n in names for part in n.lower().split(".")[-2:]} | {n.lower() for n in names}
    assert any(part in line for part in parts), (said.errors, names)


@FUZZ.holds(few=60, name=st.sampled_from(EARLY), changes=st.lists(options(), min_size=1, max_size=3))
def an_option_on_the_command_line(name: str, changes: list[tuple[str, str]]) -> None:
    said = run(name, [f"--config.{option}={value}" for option, value in changes])
    assert_names(said, [option for option, _ in changes], name)


DEEPER = {
    "data": ["--config.source=trl", "--config.path=rows.jsonl"],
    "eval": ["--config.kind=labels", "--config.eval.data=records.jsonl", "--config.eval.gold=records.jsonl"],
    "label": ["--config.method=consensus", "--config.data=records.jsonl,records.jsonl", "--config.out=out.jsonl"],
}


@FUZZ.holds(few=30, name=st.sampled_from(sorted(DEEPER)), changes=st.lists(options(), min_size=1, max_size=2))
def an_option_of_a_command_that_runs(name: str, changes: list[tuple[str, str]]) -> None:
    """To the command's end: on files, without a model."""
    own = [n for n in FIELDS if n.startswith((f"{name}.", "data."))]
    changes = [(option if option in own else own[i % len(own)], value) for i, (option, value) in enumerate(changes)]
    with elsewhere() as folder:
        record = {"problem": "p", "steps": ["s", "t"], "ratings": [1, -1], "id": "a"}
        (folder / "records.jsonl").write_text(json.dumps(record) + "\n")
        (folder / "rows.jsonl").write_text('{"prompt": "p", "completions": ["s"], "labels": [true]}\n')
        argv = [name, f"--config={CONFIG}", *DEEPER[name], "--workdir=run"]
        said = command(*argv, *(f"--config.{option}={value}" for option, value in changes))
    # A file is named instead of its option, and one option may need another.
    known = r"config\.|records|rows|o such file|no checkpoint"
    assert said.status == 0 or re.search(known, said.errors[0]), said.errors


@FUZZ.holds(few=20, changes=st.lists(options(), min_size=1, max_size=2))
def an_option_of_a_run_that_opens(changes: list[tuple[str, str]]) -> None:
    """As far as a stage's models are described: what comes next is compiled."""
    with elsewhere() as folder:
        try:
            config, _ = parse([f"--config={CONFIG}", *(f"--config.{option}={value}" for option, value in changes)])
            with open_run(config, folder / "run") as run:
                check_stages(run, [*config.stages, "eval"])
                for model in (run.policy, run.prm, run.critic):
                    assert model is None or model.shapes
        except UserError as error:
            assert_readable(refused(error))


@FUZZ.holds(
    few=60, name=st.sampled_from(EARLY), option=st.sampled_from(sorted(FIELDS)), source=st.sampled_from(SOURCES)
)
def an_option_in_a_config_file(name: str, option: str, source: str) -> None:
    with elsewhere() as folder:
        target = option.replace("ppo.streams.process", "ppo.streams['process']")
        text = CONFIG.read_text().replace("    return config", f"    config.{target} = {source}\n    return config")
        (folder / "changed.py").write_text(text)
        said = run(name, [], folder / "changed.py")
    assert_names(said, [option], name)


@FUZZ.holds(few=20, value=st.sampled_from(SOURCES), option=st.sampled_from([n for n in sorted(FIELDS) if "." in n]))
def a_section_in_a_config_file(value: str, option: str) -> None:
    with elsewhere() as folder:
        section = option.rpartition(".")[0].replace("ppo.streams.process", "ppo.streams")
        text = CONFIG.read_text().replace("    return config", f"    config.{section} = {value}\n    return config")
        (folder / "changed.py").write_text(text)
        assert_names(run("ppo", [], folder / "changed.py"), [section], "ppo")


@FUZZ.holds(
    few=20, value=st.sampled_from(SOURCES) | TEXT.map(repr), whole=st.sampled_from(["return", "raise", "yield", "del"])
)
def a_config_file_of_another_kind(value: str, whole: str) -> None:
    with elsewhere() as folder:
        path = folder / "changed.py"
        path.write_text(
            f"from stepjax.options import recipe, stream\nconfig = 1\ndef get_config():\n    {whole} {value}\n"
        )
        said = run("ppo", [], path)
        line = said.errors[0]
        assert "changed.py" in line or "config" in line or said.errors == UNCHANGED["ppo"] or "no checkpoint" in line, (
            line
        )


@FUZZ.holds(few=30, content=st.binary(max_size=60) | TEXT.map(lambda t: t.encode()))
def any_file_as_a_config(content: bytes) -> None:
    with elsewhere() as folder:
        (folder / "changed.py").write_bytes(content)
        said = run("ppo", [], folder / "changed.py")
        assert said.status == 2 and ("changed.py" in said.errors[0] or "config" in said.errors[0]), said.errors


ARGUMENTS = (
    "config",
    "workdir",
    "help",
    "json",
    "sweep",
    "topology",
    "mesh",
    "programs",
    "markdown",
    "v",
    "",
)
WHOLE = st.sampled_from([*(f"--{name}" for name in ARGUMENTS), *COMMANDS, "options", "prompt", "-h", "v5e:2x2"])


@FUZZ.holds(
    few=60,
    argv=st.lists(
        st.tuples(WHOLE | WORDS, st.sampled_from(["", "="]), st.sampled_from(VALUES) | WORDS).map("".join)
        | WHOLE
        | WORDS,
        max_size=4,
    ),
)
def any_words(argv: list[str]) -> None:
    while argv and argv[0] in ("quickstart", "sft", "plan"):
        argv = argv[1:]  # these would start to train or to compile
    with elsewhere():
        command(*argv)


@pytest.mark.parametrize("name", FUZZ.names)
def test_a_few(name: str) -> None:
    FUZZ.few(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZ.names)
def test_for_minutes(name: str) -> None:
    FUZZ.minutes(name)
