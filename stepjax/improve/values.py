"""Values of a round's trees as labels of steps, and a value model that is trained on them."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from stepjax.data.packing import PackedBatches
from stepjax.data.schema import LabelledSolution
from stepjax.distributed.agree import agree
from stepjax.improve.rounds import read_round
from stepjax.parallel import is_main_process
from stepjax.runs.prm_records import Examples
from stepjax.runs.setup import Run
from stepjax.runs.stages import prm_start_params
from stepjax.runs.supervised import train
from stepjax.runs.supervised_programs import SupervisedPrograms, prm_programs
from stepjax.search.targets import value_records
from stepjax.tasks.encoding import solution_encoder
from stepjax.workdir.json_lines import JsonLines


def values_file(run: Run, number: int) -> Path:
    return run.workdir / "search" / f"improve-{number}-values.jsonl"


def values_of(run: Run, number: int) -> Iterator[LabelledSolution]:
    """A record of values for each response that ended in a tree of the round."""
    for one in read_round(run, number):
        yield from value_records(one.record, one.tree, one.right, run.splitter.texts, run.config.search.backup)


def write_values(run: Run, number: int) -> None:
    """Writes the round's values to a file that `config.prm.data` reads, where it is not there yet."""
    path = values_file(run, number)
    if is_main_process() and not path.is_file():
        partial = path.with_name(f"{path.name}.partial")
        partial.unlink(missing_ok=True)
        lines = JsonLines(partial)
        lines.append([record.to_json() for record in values_of(run, number)])
        lines.close()
        partial.replace(path)
    agree(0)


def value_stage(number: int) -> str:
    """The stage of the value model that is trained on the rounds up to this one; before the first, stage prm."""
    return f"prm_improve{number}" if number else "prm"


def value_programs(run: Run) -> SupervisedPrograms:
    """What the value models of all rounds are trained with.

    Values are soft labels of a cross-entropy: as classes, all that are above 0 would be good.
    """
    prm = dataclasses.replace(run.config.prm, objective="bce")
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, prm=prm))
    return prm_programs(run, "prm_improve")


def train_values(programs: SupervisedPrograms, number: int) -> None:
    """Trains (or continues, or finds finished) a value model on all values that were found up to this round."""
    programs = programs.under(value_stage(number))
    run, options = programs.run, programs.options

    def batches() -> PackedBatches:
        records = [record for i in range(1, number + 1) for record in values_of(run, i)]
        examples = Examples(run, records, solution_encoder(run.prompt, run.splitter))
        rows, width, seed = options.rows, options.row_tokens, run.config.seed + 1
        return PackedBatches(examples, len(records), rows=rows, width=width, seed=seed, values=programs.soft)

    label = f"Improve round {number}: values"
    train(programs, label, batches=batches, initial=lambda: prm_start_params(run), valid=lambda params: {})
