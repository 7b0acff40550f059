"""Stage prm."""

from dataclasses import dataclass

from stepjax.config.optimizer import OptimizerOptions
from stepjax.config.option import option, section


@dataclass(frozen=True)
class PRMOptions:
    """Training of the three-class process reward model on labelled steps."""

    updates: int = option(400, "optimiser updates", least=1)
    rows: int = option(64, "packed rows an update", least=1)
    row_tokens: int = option(128, "tokens a packed row; longer examples are left out and counted", least=1)
    data: str = option(
        "",
        "dataset of step-labelled solutions to learn from (a folder or JSONL file that `stepjax data` wrote), instead "
        "of the task's demonstrations and samples",
    )
    held_out: float = option(
        0.1,
        "with `data`: share of its problems that the figures are measured on, where it has no split valid",
        above=0,
        below=1,
    )
    target: str = option(
        "step",
        "what good and bad mean: step (the step's own rating), prefix (all steps so far are right), value (the "
        "response ends in the right answer, so that P(good) is the prefix's value under the SFT policy; with `data`, "
        "its values) or outcome (with `data`: whether the solution ends in the right answer, at its last step alone)",
        choices=("step", "prefix", "value", "outcome"),
    )
    path: str = option(
        "",
        "a public process reward model (Hugging Face folder or hub name) that rates the steps instead of one that is "
        "trained here; read in packed rows of `row_tokens` of its own tokens, `rows` at a time",
    )
    convention: str = option(
        "",
        "how that model is asked: qwen (Qwen2.5-Math-PRM), math_shepherd, rlhflow, skywork (Skywork-o1-Open-PRM) or "
        "trl (what TRL's PRMTrainer wrote)",
        choices=("", "qwen", "math_shepherd", "rlhflow", "skywork", "trl"),
    )
    separator: str = option(
        "", "skywork, trl: the text after each step that the model was trained with; empty: a line end"
    )
    classes: int = option(
        3, "3: bad, neutral, good; 2: bad and good alone (the neutral class is impossible)", least=2, below=4
    )
    objective: str = option(
        "class",
        "with `data`: class (cross-entropy of the hard class), bce (cross-entropy of P(good) against the soft label or "
        "value) or mse (its square error); the last two need classes=2",
        choices=("class", "bce", "mse"),
    )
    neutral: str = option(
        "own",
        "with `data`: what a neutral rating is learned as: own (a class of its own; in a prefix it is right), good, "
        "bad or skip (not at all)",
        choices=("own", "good", "bad", "skip"),
    )
    head_first: int = option(
        0, "with `data`: first updates, in which only what stands on the trunk is trained, not the trunk", least=0
    )
    demonstrations: int = option(4096, "labelled demonstrations", least=0)
    samples: int = option(8192, "labelled responses sampled from the SFT policy", least=0)
    every_token: bool = option(
        False,
        "a step's label stands on each of its tokens, not on its last one alone, and with target=value on the prompt's "
        "last token too: a token-level verifier, fit to be a critic (critic_trunk=prm)",
    )
    from_sft: bool = option(True, "start from the SFT policy's trunk instead of random parameters")
    reader_layers: int = option(
        0,
        "layers on top of the trunk that read how likely each token was to the model's own language model; "
        "0: a plain head on the trunk",
        least=0,
    )
    lm_loss: float = option(
        1.0, "weight of the language-model loss on steps that are not bad, where there are reader layers", least=0
    )
    optimizer: OptimizerOptions = section(OptimizerOptions, "optimiser", lr=2e-3)
    log_every: int = option(20, "updates between two logged steps", least=1, resumable=True)
    checkpoint_every: int = option(200, "updates between two checkpoints", least=1, resumable=True)
    valid_samples: int = option(512, "held-out responses (on valid problems) for `valid/macro_f1`", least=0)
