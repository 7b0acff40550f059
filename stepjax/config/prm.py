"""Stage prm."""

from dataclasses import dataclass

from stepjax.config.optimizer import OptimizerOptions
from stepjax.config.option import option, section


@dataclass(frozen=True)
class PRMOptions:
    """Training of the process reward model on labelled steps."""

    updates: int = option(400, "optimiser updates", least=1)
    rows: int = option(64, "packed rows per update", least=1)
    row_tokens: int = option(128, "tokens per packed row; longer examples are left out and counted", least=1)
    data: str = option(
        "",
        "dataset of step-labelled solutions to train on (a folder or JSONL file that `stepjax data` or `stepjax label` "
        "wrote), instead of the task's demonstrations and samples; {workdir} stands for the work directory, as in "
        "{workdir}/labels/monte_carlo.jsonl",
    )
    held_out: float = option(
        0.1,
        "with `data`: fraction of its problems to measure on, where it has no split valid",
        above=0,
        below=1,
    )
    target: str = option(
        "step",
        "what good and bad mean: step (the step's own rating), prefix (all steps so far are right), value (the "
        "response ends in the right answer, so that P(good) is the prefix's value under the SFT policy; with `data`, "
        "its values) or outcome (with `data`: whether the solution ends in the right answer, at its last step only)",
        choices=("step", "prefix", "value", "outcome"),
    )
    run: str = option(
        "",
        "another run's work directory, whose process reward model scores the steps here, in place of that of `base`; "
        "it may have learned another task with the same tokenizer",
    )
    path: str = option(
        "",
        "a public process reward model (Hugging Face folder or hub name) that scores the steps instead of one that is "
        "trained here; it reads packed rows of `row_tokens` of its own tokens, `rows` at a time",
    )
    convention: str = option(
        "",
        "input format of that model: qwen (Qwen2.5-Math-PRM), math_shepherd, rlhflow, skywork (Skywork-o1-Open-PRM) or "
        "trl (models of TRL's PRMTrainer)",
        choices=("", "qwen", "math_shepherd", "rlhflow", "skywork", "trl"),
    )
    separator: str = option(
        "", "skywork, trl: the text after each step in the model's training data; empty: a line break"
    )
    classes: int = option(
        3, "3: bad, neutral, good; 2: only bad and good (the neutral class has probability 0)", least=2, below=4
    )
    objective: str = option(
        "class",
        "with `data`: class (cross-entropy of the hard class), bce (cross-entropy of P(good) against the soft label or "
        "value) or mse (squared error of P(good)); bce and mse need classes=2",
        choices=("class", "bce", "mse"),
    )
    neutral: str = option(
        "own",
        "with `data`: the class of a neutral rating: own (a class of its own; in a prefix it counts as right), good, "
        "bad or skip (it is not trained on)",
        choices=("own", "good", "bad", "skip"),
    )
    head_first: int = option(
        0, "with `data`: number of first updates in which the trunk is frozen and only the layers on it learn", least=0
    )
    demonstrations: int = option(4096, "labelled demonstrations", least=0)
    samples: int = option(8192, "responses sampled from the SFT policy, and labelled", least=0)
    every_token: bool = option(
        False,
        "train on a step's label at each of its tokens, not only at its last one, and with target=value also at the "
        "prompt's last token: a token-level verifier, which can be a critic (critic_trunk=prm)",
    )
    from_sft: bool = option(True, "start from the SFT policy's trunk instead of random parameters")
    reader_layers: int = option(
        0,
        "layers on top of the trunk that read each token's probability under the model's own language-model head; "
        "0: only a head on the trunk",
        least=0,
    )
    lm_loss: float = option(
        1.0, "with reader layers: weight of the language-model loss on steps that are not bad", least=0
    )
    optimizer: OptimizerOptions = section(OptimizerOptions, "optimiser", lr=2e-3)
    log_every: int = option(20, "updates between two logged steps", least=1, resumable=True)
    checkpoint_every: int = option(200, "updates between two checkpoints", least=1, resumable=True)
    valid_samples: int = option(512, "held-out responses (on valid problems) for `valid/macro_f1`", least=0)
