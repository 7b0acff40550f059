"""The continuations of a run's policy, from live caches."""

from collections.abc import Sequence

from stepjax.models.definition import Params
from stepjax.parallel import batch_devices, key_on
from stepjax.rollout.pausable import PausableRollout
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.stops import StepEnds
from stepjax.runs.setup import Run
from stepjax.search.live import LiveAnswers
from stepjax.search.live_sizes import LiveSizes
from stepjax.tasks.encoding import WIDTH_UNIT

HELD = 4
"""Rows for each one that decodes: the prefixes that are held beside them."""


Programs = dict[LiveSizes, PausableRollout]
"""Compiled for earlier searches of one run, by their sizes."""


def live_answers(
    run: Run, params: Params, prompts: Sequence[Sequence[int]], longest: int, programs: Programs | None = None
) -> LiveAnswers:
    """Answers by `config.search`. `prompts`: token ids of each problem's; `longest`: tokens of the longest response;
    `programs`: used where they have the sizes, else added to."""
    options, ppo, devices = run.config.search, run.config.ppo, batch_devices(run.mesh)
    slots = -(-options.rows // devices) * devices
    sizes = LiveSizes(
        -(-max(map(len, prompts)) // WIDTH_UNIT) * WIDTH_UNIT,
        longest,
        slots,
        HELD * slots,
        block=ppo.block,
        cache_tokens=ppo.cache_tokens,
    )
    answers = LiveAnswers(
        run.policy,
        run.mesh,
        params,
        prompts,
        sizes,
        key=key_on(run.mesh, options.seed, 40),
        ends=run.framing.ends,
        sampler=Sampler(options.temperature),
        steps=StepEnds(run.splitter),
        gather=run.config.mesh.gather_to_decode,
        rollout=None if programs is None else programs.get(sizes),
    )
    if programs is not None:
        programs[sizes] = answers.rollout
    return answers
