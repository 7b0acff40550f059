"""The plan of a run: every program's memory, work and time on a topology, and the verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stepjax.chips import REACHED, Chip
from stepjax.config import Config
from stepjax.plan.compiled import USABLE, ProgramPlan


@dataclass(frozen=True)
class Plan:
    """Of a run. `fits`: None where the compiler failed on a program, and nothing says that another does not fit."""

    topology: str
    mesh: dict[str, int]
    chips: int
    hbm: float
    fits: bool | None
    programs: tuple[ProgramPlan, ...]
    tokens_per_second: float | None
    chip_hours: float | None
    assumptions: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"programs": [p.as_json() for p in self.programs]}


def make_plan(
    config: Config,
    topology: str,
    chip: Chip,
    chips: int,
    mesh: dict[str, int],
    programs: Sequence[ProgramPlan],
    *,
    whole: bool = True,
) -> Plan:
    """Puts the programs' plans together. `whole`: these are all programs of the run, so that times can be summed."""
    fits = None if any(p.fits is None for p in programs) else True
    if any(p.fits is False for p in programs):
        fits = False
    times = [p.seconds for p in programs if p.seconds is not None]
    known = whole and len(times) == len(programs)
    a_round = sum(p.seconds or 0.0 for p in programs if p.stage == "ppo")
    tokens = config.ppo.prompts * config.ppo.samples * config.ppo.max_new_tokens
    spent = sum(p.runs * (p.seconds or 0.0) for p in programs)
    return Plan(
        topology=topology,
        mesh=mesh,
        chips=chips,
        hbm=chip.hbm_bytes,
        fits=fits,
        programs=tuple(programs),
        tokens_per_second=tokens / a_round if known and a_round else None,
        chip_hours=spent * chips / 3600 if known else None,
        assumptions=tuple(_assumptions(config, chip, programs)),
    )


def _assumptions(config: Config, chip: Chip, programs: Sequence[ProgramPlan]) -> list[str]:
    found = [
        f"a chip reaches {REACHED['compute']:.0%} of {chip.flops / 1e12:g} TFLOP/s (bfloat16), "
        f"{REACHED['memory']:.0%} of {chip.hbm / 1e9:g} GB/s (HBM), {REACHED['network']:.0%} of "
        f"{chip.network / 1e9:g} GB/s (all links, sending)",
        "a program takes the longest of its three times; the host and the input of data take no time",
        "a branch costs as much as its most expensive side",
        f"a program may take {USABLE:.0%} of {chip.hbm_bytes / 2**30:g} GiB HBM",
    ]
    if any(p.host_bytes_per_chip for p in programs):
        share = "is not known" if chip.host_bytes is None else f"is {chip.host_bytes / 2**30:.3g} GiB, all of it usable"
        found.append(f"the memory of a chip's host, divided by its chips, {share}")
    if any(p.stage == "ppo" for p in programs):
        found.append(f"every response is {config.ppo.max_new_tokens} tokens long, and every prompt as wide as allowed")
    if config.ppo.cache_tokens and not config.ppo.slots and any(p.name == "rollout" for p in programs):
        found.append("the rollout of the first round: later ones have as many slots as their responses' lengths allow")
    if config.ppo.environment and any(p.stage == "ppo" for p in programs):
        found.append(f"rollout without ppo.environment={config.ppo.environment}: its tokens come from the host")
    if config.ppo.carry and any(p.name == "rollout" for p in programs):
        found.append(
            f"rollout without ppo.carry={config.ppo.carry}: a run's rollout also samples from half as many further "
            "problems, prefills what goes on, and ends when enough responses have"
        )
    if config.environment.name and any(p.stage == "ppo" for p in programs):
        found.append(
            f"rollout without environment.name={config.environment.name}: what it takes longer depends on its replies"
        )
    if config.prm.path:
        found.append(f"the public model of prm.path={config.prm.path} is not in the plan: neither memory nor time")
    for p in programs:
        if p.note:
            found.append(f"{p.name}: {p.note}")
        if p.guessed_loops:
            loops = "a loop that ends" if p.guessed_loops == 1 else f"{p.guessed_loops} loops that end"
            inside = " (once a turn inside another)" if p.guessed_loops > 1 else ""
            found.append(f"{p.name}: {loops} by the data, counted with {p.turns} turns{inside}, the most there can be")
        if p.opaque_kernels:
            found.append(f"{p.name}: {p.opaque_kernels} kernels do not state their FLOPs, which are not counted")
    return found


def advice(config: Config, plan: Plan) -> list[str]:
    """Changes that reduce the memory of the programs that do not fit: options by name, the most effective first."""
    found: list[str] = []
    for p in plan.programs:
        if p.fits is not False:
            continue
        if p.host_bytes_per_chip and (p.hbm_bytes_per_chip or 0.0) <= USABLE * plan.hbm:  # it is the host that is full
            found.append("model.remat_policy=full keeps the layers' inputs in the chips' memory")
            found += _smaller_work(config, p.name)
            continue
        if p.arguments is None or p.temporaries is None:
            found += _smaller_state(config) + _smaller_work(config, p.name)
        elif p.arguments + p.beside > p.temporaries:
            found += _smaller_state(config)
        else:
            found += _smaller_work(config, p.name)
    return list(dict.fromkeys(found))


def _smaller_state(config: Config) -> list[str]:
    found = ["parameters and moments are divided by mesh.fsdp × mesh.tensor: raise mesh.fsdp, or take more chips"]
    if config.model.param_dtype == "float32":
        found.append("model.param_dtype=bfloat16 halves the parameters (moments stay float32)")
    if not config.lora.rank:
        found.append("lora.rank=16 trains only adapters: no moments, and one base for policy, critic and reference")
    return found


def _smaller_work(config: Config, program: str) -> list[str]:
    model, found = config.model, []
    if model.dtype == "float32":
        found.append("model.dtype=bfloat16 halves activations")
    if program == "rollout":
        ppo = config.ppo
        fewer = f"slots={(ppo.slots or ppo.prompts * ppo.samples) // 2}"
        if ppo.cache_tokens and not ppo.slots:  # the cache says how many there are
            fewer = f"cache_tokens={ppo.cache_tokens // 2}"
        found.append(f"fewer responses at once: ppo.{fewer}; model.cache_dtype=int8 halves the cache")
        if config.mesh.gather_to_decode and config.mesh.fsdp != 1:
            found.append("mesh.gather_to_decode=False keeps no gathered copy of the policy's parameters, and is slower")
    elif program in ("sft_update", "prm_update"):
        section = program.removesuffix("_update")
        found.append(f"fewer rows an update: {section}.rows={getattr(config, section).rows // 2 or 1}")
    else:
        found.append(f"smaller micro-batches: ppo.micro_tokens={_micro_tokens(config)}")
    if program != "rollout" and not model.remat:
        found.append("model.remat=True recomputes a layer's activations instead of keeping them")
    found.append("mesh.tensor divides what is wide: MLP, heads, logits")
    return found


def _micro_tokens(config: Config) -> int:
    """One response per device, or half of what was asked for."""
    one = max(config.ppo.row_tokens, config.ppo.prompt_tokens + config.ppo.max_new_tokens)
    return max(config.ppo.micro_tokens // 2, one)
