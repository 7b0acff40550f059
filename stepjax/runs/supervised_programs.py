"""The programs of the supervised stages, built from shapes and options only: no parameter is read and no device
computes. The stages train with them, the plan compiles them."""

import copy
import functools
from typing import Self

import optax

from stepjax.config import ImproveOptions, PRMOptions, SFTOptions
from stepjax.learners.finite import finite_program
from stepjax.learners.optimizers import abstract_state, head_first, make_optimizer
from stepjax.learners.supervised import (
    LossSums,
    prm_sums,
    reader_sums,
    sft_sums,
    train_program,
    valid_program,
    weighted_sums,
)
from stepjax.models import Definition
from stepjax.programs import Program
from stepjax.runs.setup import Run


class SupervisedPrograms:
    """The update of a stage that learns from packed rows, its held-out loss, and the shape of the state it trains.

    Attributes:
      run: as the stage sees it (`Run.of_stage`).
      stage: names its checkpoints and metrics.
      soft: whether its batches carry soft labels or weights (`values`).
      trainable: the parameters that are trained.
      abstract_state: shapes, dtypes and shardings of what is trained.
      update: `(state, batch) -> (state, metrics)`; frozen parameters are a third argument, a reference the last.
      finite: `(state) -> bool`, whether the state may be saved.
    """

    def __init__(
        self,
        run: Run,
        stage: str,
        definition: Definition,
        sums: LossSums,
        options: SFTOptions | PRMOptions | ImproveOptions,
        *,
        optimizer: optax.GradientTransformation | None = None,
        soft: bool = False,
        reference: bool = False,
    ):
        """`optimizer` replaces that of the options; `reference`: as of `train_program`."""
        self.run, self.stage, self.definition = run, stage, definition
        self.options, self.soft = options, soft
        self._sums = sums
        self.optimizer = optimizer or make_optimizer(options.optimizer, options.updates)
        self.trainable = run.trainable(stage, definition)
        self.abstract_state = abstract_state(self.trainable, self.optimizer, run.mesh)
        self.finite = finite_program(self.abstract_state, run.mesh)
        self.update = train_program(
            stage,
            sums,
            definition,
            self.optimizer,
            run.mesh,
            rows=options.rows,
            width=options.row_tokens,
            values=soft,
            trainable=self.trainable,
            reference=reference,
        )

    def under(self, stage: str) -> Self:
        """The same programs, compiled once for both, for a stage that differs from this one by its name alone."""
        other = copy.copy(self)
        other.stage = stage
        return other

    @functools.cached_property
    def valid(self) -> Program:
        """`(params, batch) -> metrics` of held-out rows."""
        rows, width = self.options.rows, self.options.row_tokens
        return valid_program(self.stage, self._sums, self.definition, self.run.mesh, rows=rows, width=width)


def sft_programs(run: Run) -> SupervisedPrograms:
    """Of stage sft: the policy is trained on the next token of demonstrations."""
    run = run.of_stage("sft")
    return SupervisedPrograms(run, "sft", run.policy, sft_sums, run.config.sft)


def improve_programs(run: Run) -> SupervisedPrograms:
    """Of stage improve: the policy is trained on weighted tokens, near where it began with `improve.kl`."""
    run = run.of_stage("improve")
    options = run.config.improve
    sums: LossSums = functools.partial(weighted_sums, kl=options.kl) if options.kl else weighted_sums
    return SupervisedPrograms(run, "improve", run.policy, sums, options, soft=True, reference=options.kl > 0)


def prm_programs(run: Run, stage: str = "prm") -> SupervisedPrograms:
    """Of stage prm: the process reward model is trained on classes of steps, or on soft labels (`prm.objective`).

    `stage`: under another name, where a run trains several.
    """
    run = run.of_stage(stage)
    options = run.config.prm
    sums: LossSums = functools.partial(prm_sums, objective=options.objective)
    if options.reader_layers:
        sums = functools.partial(reader_sums, lm_loss=options.lm_loss, objective=options.objective)
    optimizer = make_optimizer(options.optimizer, options.updates)
    if options.head_first:
        optimizer = head_first(optimizer, options.head_first, "language" if options.reader_layers else "trunk")
    soft = options.objective != "class"
    return SupervisedPrograms(run, stage, run.prm, sums, options, optimizer=optimizer, soft=soft)
