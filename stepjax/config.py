"""Every option: its default, its unit, its meaning. This is the only place where options are declared.

A config file is a Python file with `get_config()` that returns `stepjax.config.recipe()` with some fields changed;
`--config.a.b=value` on the command line changes one more (`options.py` reads both).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from stepjax.option import option, section
from stepjax.tasks.register_chain.config import RegisterChainConfig

FLOATS = ("float32", "bfloat16")


@dataclass(frozen=True)
class JsonlOptions:
    """Problems of the user's own: one JSON object a line."""

    train: str = option("", "JSONL file of training problems")
    test: str = option("", "JSONL file of test problems; empty: a share of the training file is held out")
    held_out: float = option(0.1, "that share, chosen by a hash of the problem, where `test` is empty")
    problem: str = option("problem", "field with the problem's text")
    answer: str = option("answer", "field with the right final answer")
    solution: str = option("solution", "optional field with a worked solution, its steps divided by the separator")
    prompt: str = option("{problem}\n", "how the policy reads a problem")
    answer_prefix: str = option("", "text that precedes the final answer; empty: `####` and `\\boxed{}` only")


@dataclass(frozen=True)
class TaskOptions:
    name: str = option(
        "register_chain",
        "problem source: register_chain, gsm8k, jsonl or labelled (the problems of `prm.data`, its right solutions as "
        "demonstrations)",
    )
    separator: str = option("", "text between two steps; empty: the task's own")
    register_chain: RegisterChainConfig = section(RegisterChainConfig, "options of register_chain")
    gsm8k: str = option("data/gsm8k", "folder with GSM8K's train.jsonl and test.jsonl")
    jsonl: JsonlOptions = section(JsonlOptions, "options of jsonl")


@dataclass(frozen=True)
class TokenizerOptions:
    path: str = option("", "Hugging Face tokenizer (folder or hub name); empty: the task's own, or one trained on it")
    vocab: int = option(1024, "entries of the byte-level BPE that is trained where the task has no tokenizer")


@dataclass(frozen=True)
class ModelOptions:
    """Shape of the decoder that policy, critic and process reward model share."""

    path: str = option(
        "",
        "Hugging Face checkpoint that the policy starts from (folder or hub name); it decides shape and tokenizer, and "
        "stage sft may then be left out",
    )
    vocab: int = option(
        0,
        "rows of the embedding, at least the tokenizer's entries; 0: as many as it has, rounded up to a multiple of 8",
        least=0,
    )
    layers: int = option(2, "transformer layers", least=1)
    width: int = option(64, "hidden size", least=1)
    heads: int = option(4, "query heads", least=1)
    kv_heads: int = option(4, "key and value heads", least=1)
    head_dim: int = option(16, "size of a head", least=1)
    mlp: int = option(192, "inner size of the gated MLP", least=1)
    rope_theta: float = option(10_000.0, "base of the rotary positions", above=0)
    qkv_bias: bool = option(False, "biases on query, key and value, as in Qwen2")
    qk_norm: bool = option(True, "norms on query and key, as in Qwen3")
    tied: bool = option(False, "one table for input and output embedding")
    dtype: str = option("float32", "dtype of the computation: float32 or bfloat16", choices=FLOATS)
    param_dtype: str = option("float32", "dtype of the stored parameters", choices=FLOATS)
    unroll: int = option(
        1, "layers in one turn of the layer loop: more compile longer and, on a CPU, run faster", least=1
    )
    cache_dtype: str = option(
        "",
        "keys and values that the rollout remembers: bfloat16, int8 (with a scale a token and head) or empty, those of "
        "`dtype`",
        choices=("", "bfloat16", "int8"),
        resumable=True,
    )
    remat: bool = option(False, "recompute a layer's activations in the backward pass")
    remat_policy: str = option(
        "full",
        "with remat, what is recomputed: full (all of a layer), dots (all but its matrix products) or weight_dots (all "
        "but its products with weights)",
        choices=("full", "dots", "weight_dots"),
        resumable=True,
    )
    attention: str = option(
        "auto",
        "kernel of attention over whole rows: xla, splash (TPU), cudnn (NVIDIA GPU, bfloat16) or auto (the one for the "
        "devices)",
        choices=("auto", "xla", "splash", "cudnn"),
        resumable=True,
    )


@dataclass(frozen=True)
class LoRAOptions:
    """Low-rank adapters: the base stands still; adapters and heads alone are trained and saved."""

    rank: int = option(0, "columns of an adapter; 0: no adapters, all parameters are trained", least=0)
    alpha: float = option(16.0, "what an adapter adds is scaled by alpha / rank", above=0)
    modules: tuple[str, ...] = option(
        ("query", "key", "value", "output", "gate", "up", "down"), "the projections of each layer that are adapted"
    )
    stages: tuple[str, ...] = option(
        ("prm", "ppo"), "stages that train adapters; those before them train all parameters, and so make the base"
    )
    path: str = option(
        "", "folder of a PEFT adapter that the policy starts with, on the checkpoint of model.path; empty: a fresh one"
    )


@dataclass(frozen=True)
class MeshOptions:
    data: int = option(-1, "devices along the batch (-1: all that the other axes leave)", resumable=True)
    fsdp: int = option(1, "devices along the batch over which parameters are also sharded", resumable=True)
    tensor: int = option(1, "devices along heads, MLP and vocabulary", resumable=True)
    gather_to_decode: bool = option(
        True,
        "a rollout gathers the policy's parameters over fsdp once, in the dtype of the computation, and keeps that "
        "copy until it ends; without, it gathers them at every step",
        resumable=True,
    )


@dataclass(frozen=True)
class DistributedOptions:
    """Several processes of one run, and how a process ends that was told to or that lost another."""

    start: str = option(
        "auto",
        "auto (join the other processes that the options below, $STEPJAX_COORDINATOR, $STEPJAX_PROCESSES and "
        "$STEPJAX_PROCESS, SLURM, Open MPI, GKE or a TPU pod speak of) or never (run alone)",
        choices=("auto", "never"),
        resumable=True,
    )
    coordinator: str = option("", "host:port of process 0; empty: as the environment says", resumable=True)
    processes: int = option(0, "how many processes; 0: as the environment says", least=0, resumable=True)
    process: int = option(-1, "which one this is, from 0; -1: as the environment says", least=-1, resumable=True)
    join_timeout: float = option(300.0, "seconds that the processes have to come together", above=0, resumable=True)
    timeout: float = option(
        60.0,
        "seconds without a sign of life after which a process counts as lost and the run ends",
        above=0,
        resumable=True,
    )
    stall: float = option(
        1800.0, "seconds that a process may let the others wait before the run ends; 0: any", least=0, resumable=True
    )
    grace: float = option(
        25.0,
        "seconds from SIGTERM or a notice of maintenance to the end, by which a step is done and saved",
        above=0,
        resumable=True,
    )


@dataclass(frozen=True)
class OptimizerOptions:
    """AdamW with a warm-up, a schedule and global-norm clipping."""

    lr: float = option(1e-3, "peak learning rate", least=0)
    warmup: int = option(20, "updates of linear warm-up", least=0)
    schedule: str = option(
        "cosine",
        "after the warm-up: constant, linear or cosine (down to `final` × lr)",
        choices=("constant", "linear", "cosine"),
    )
    final: float = option(0.1, "share of the peak learning rate at the end of the schedule", least=0)
    weight_decay: float = option(0.0, "AdamW's decoupled weight decay", least=0)
    b1: float = option(0.9, "decay of the first moment", least=0, below=1)
    b2: float = option(0.95, "decay of the second moment", least=0, below=1)
    eps: float = option(1e-8, "AdamW's epsilon", above=0)
    clip: float = option(1.0, "largest global norm of a gradient", above=0)


@dataclass(frozen=True)
class SFTOptions:
    """Supervised fine-tuning (or training from scratch) on the task's demonstrations."""

    updates: int = option(600, "optimiser updates", least=1)
    rows: int = option(64, "packed rows an update", least=1)
    row_tokens: int = option(128, "tokens a packed row; longer examples are left out and counted", least=1)
    prompt_loss: bool = option(False, "train on the prompt's tokens too")
    optimizer: OptimizerOptions = section(OptimizerOptions, "optimiser", lr=3e-3)
    log_every: int = option(20, "updates between two logged steps", least=1, resumable=True)
    checkpoint_every: int = option(200, "updates between two checkpoints", least=1, resumable=True)
    valid_rows: int = option(64, "packed rows of held-out demonstrations for `valid/loss`", least=0)


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
        "a public process reward model (Hugging Face folder or hub name) that judges the steps instead of one that is "
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


@dataclass(frozen=True)
class StreamOptions:
    """A reward stream: a signal (what was earned, where), a horizon (how far back it is credited), a weight."""

    signal: str = option(
        "prm",
        "what is earned: prm (learned step scores), orm (the learned score of the last step alone), verifier (the "
        "task's exact judgement of a step), outcome (graded answer, at the last token), finish (good: the response "
        "ended by itself; bad: it was cut off), kl (minus the divergence from the reference, every token), length "
        "(tokens outside a band cost), limit (keeping a step limit that the prompt states), format (matching a "
        "pattern) or function (a Python function of the user's)",
    )
    horizon: str = option(
        "step",
        "how far back: step (credit resets at step ends), turn (where an environment writes), response (ordinary GAE), "
        "or a number in [0, 1], the discount across a step's end",
    )
    estimator: str = option(
        "gae",
        "gae (rewards against a critic's values), return (discounted rewards to come), value (a step's score on all of "
        "its tokens), progress (its score minus the score before; the last one gives way to the outcome, worth `good` "
        "or `bad`), group (GRPO: each score normalised over the responses to the problem, then summed) or rloo "
        "(rewards to come minus the mean of the problem's other responses)",
        choices=("gae", "return", "value", "progress", "group", "rloo"),
    )
    first: float = option(0.0, "progress: the value of a prompt, before any step")
    gamma: float = option(1.0, "discount a token")
    lam: float = option(0.95, "GAE's λ; other estimators have none")
    weight: float = option(1.0, "weight of this stream's advantages in a token's policy weight")
    whiten: bool = option(True, "subtract the mean and divide by the spread of the advantages over all tokens")
    critic: bool = option(True, "a critic head of its own; without one the baseline is 0; only gae has one")
    critic_trunk: str = option(
        "shared",
        "what that head stands on: shared (one trunk for all such streams), own (a trunk of its own), both starting "
        "from the reference's with a head that says 0, or prm (the process reward model, whole: the value is the "
        "expected worth of its classes, so that one trained with prm.target=value starts as the stream's critic)",
        choices=("shared", "own", "prm"),
    )
    good: float = option(
        1.0, "worth of a good step (prm, verifier), a right answer (outcome), a kept limit, a match (format)"
    )
    neutral: float = option(0.0, "worth of a neutral step (prm, verifier)")
    bad: float = option(
        -1.0, "worth of a bad step (prm, verifier), a wrong answer (outcome), a broken limit, no match (format)"
    )
    shaping: tuple[str, ...] = option(
        (),
        "what is done to the scores of a response's steps, in this order: clip:ETA, delta, min_form:TEMPERATURE or "
        "bound:LOW:HIGH (units of the score)",
    )
    kl_kind: str = option("k1", "kl: the estimator, k1, k2 or k3", choices=("k1", "k2", "k3"))
    kl_target: float = option(
        0.0,
        "kl: divergence from the reference, nats a token, that the stream's weight is adapted to after each round (by "
        "ppo.kl_gain); 0: the weight is fixed",
        least=0,
    )
    per: str = option(
        "step", "length, format: what is judged, each step or the whole response", choices=("step", "response")
    )
    least: int = option(0, "length: fewest tokens that cost nothing", least=0)
    most: int = option(0, "length: most tokens that cost nothing; 0: no bound", least=0)
    token_cost: float = option(0.01, "length: cost of each token below `least` or above `most`", least=0)
    pattern: str = option("", "format: regular expression that all of a step's or response's stripped text must match")
    function: str = option(
        "",
        "function: `package.module:name` of a function (prompts, responses, steps) -> rewards; lists of texts in, one "
        "number a response or one list a response (a number a step) out",
    )


@dataclass(frozen=True)
class PPOOptions:
    iterations: int = option(60, "rounds of rollout and update", least=1, resumable=True)
    prompts: int = option(128, "problems a round", least=1)
    samples: int = option(1, "responses a problem", least=1)
    prompt_tokens: int = option(48, "widest prompt; longer ones are left out and counted", least=1)
    max_new_tokens: int = option(
        80, "longest response; a longer one is truncated (and bootstrapped, not terminated)", least=1
    )
    slots: int = option(
        0,
        "responses that decode at once; one that ends makes room for the next of the round. 0: all of a round",
        least=0,
        resumable=True,
    )
    prefill_rows: int = option(
        0, "prompts whose keys and values are computed at once; 0: all of a round", least=0, resumable=True
    )
    halvings: int = option(
        1,
        "how often the slots are halved (not 8 a device and fewer; 2 are the least) when no response waits and half of "
        "them are empty; each makes the rollout longer to compile",
        least=0,
        resumable=True,
    )
    growths: int = option(
        0,
        "how often the cache of keys and values is doubled until it has room for the longest response: until then each "
        "step reads so much less; each makes the rollout longer to compile",
        least=0,
        resumable=True,
    )
    waves: int = option(
        1,
        "rollouts that a round's responses are divided among: the host judges one while the next decodes",
        least=1,
        resumable=True,
    )
    stale: bool = option(
        False,
        "start each rollout before the update of the round before it, with parameters that are one update old, so that "
        "judging and grading cost no time; give it an importance_cap",
    )
    importance_cap: float = option(
        0.0,
        "a token's weight is multiplied with its probability under the learner's policy over that under which it was "
        "sampled, at most this (truncated importance sampling); 0: no such factor",
        least=0,
    )
    temperature: float = option(1.0, "sampling temperature; the learner divides its logits by it too", above=0)
    top_k: int = option(
        0,
        "sampling: the k likeliest tokens alone (ties with the k-th too); 0: all. What filters leave out the learner "
        "still counts in its own log-probabilities: `mismatch/mean` tells by how much the two differ",
        least=0,
    )
    top_p: float = option(
        1.0, "sampling: the likeliest tokens alone, until they have this probability together; 1: all", above=0, most=1
    )
    min_p: float = option(
        0.0, "sampling: tokens at least this share as likely as the likeliest one alone; 0: all", least=0, most=1
    )
    min_new_tokens: int = option(0, "tokens that a response has before it may end", least=0)
    environment: str = option(
        "",
        "what may write into a response: calculator (after `<<48/2=` it writes `24>>`); its tokens are not trained on",
        choices=("", "calculator"),
    )
    reply_tokens: int = option(16, "longest reply of the environment, tokens; a longer one is not given", least=1)
    epochs: int = option(3, "passes over a round's responses", least=1)
    minibatches: int = option(4, "updates a pass", least=1)
    row_tokens: int = option(
        0,
        "tokens of a packed row, in which responses stand side by side with their prompts; 0: prompt_tokens + "
        "max_new_tokens, the least",
        least=0,
        resumable=True,
    )
    micro_tokens: int = option(
        0,
        "tokens of a micro-batch on a device: what a pass of the score and update programs holds in memory (one packed "
        "row is the least); 0: an eighth of what the responses could have",
        least=0,
        resumable=True,
    )
    loss: str = option("ppo", "ppo (clipped ratio) or reinforce (−A log π)", choices=("ppo", "reinforce"))
    reduce: str = option(
        "token",
        "mean of the policy's loss over: token (all tokens), step (all steps, the mean of each one's tokens) or "
        "sequence (all responses, the mean of each one's tokens)",
        choices=("token", "step", "sequence"),
    )
    clip_low: float = option(0.2, "ε below 1 of the clipped ratio", least=0)
    clip_high: float = option(0.2, "ε above 1 of the clipped ratio", least=0)
    dual_clip: float = option(0.0, "bound c of the dual clip for negative advantages; 0: none", least=0)
    kl_stop: float = option(
        0.0,
        "divergence from the sampling policy, nats a token (k3): the first minibatch above it, and all after it in the "
        "round, change nothing; 0: none",
        least=0,
    )
    ratio_guard: float = option(0.0, "a minibatch with a token whose ratio is above it is skipped; 0: none", least=0)
    mean_ratio_guard: float = option(
        0.0, "a minibatch whose mean ratio over tokens is above it is skipped; 0: none", least=0
    )
    value_clip: float = option(0.2, "clip of the critic's change; 0: none", least=0)
    critic_frozen: bool = option(False, "the critic is not trained")
    critic_warmup: int = option(0, "first rounds in which the critic alone is trained", least=0)
    critic_refit: int = option(
        0,
        "the critic is re-fitted on fresh responses: the first of every so many rounds trains it alone, and no other "
        "round trains it; 0: it learns in every round",
        least=0,
    )
    kl: float = option(0.0, "coefficient of the divergence from the reference in the loss", least=0)
    kl_kind: str = option("k3", "estimator of that divergence: k1, k2 or k3", choices=("k1", "k2", "k3"))
    kl_target: float = option(
        0.0, "divergence from the reference, nats a token, that `kl` is adapted to after each round; 0: fixed", least=0
    )
    kl_gain: float = option(
        0.1, "with a `kl_target`: relative change of the coefficient a round, a relative error (cut to ±0.2)", least=0
    )
    entropy: float = option(0.0, "coefficient of the entropy bonus")
    streams: dict[str, StreamOptions] = option({"process": StreamOptions()}, "reward streams by name")
    policy: OptimizerOptions = section(
        OptimizerOptions, "optimiser of the policy", lr=1e-3, warmup=5, schedule="constant"
    )
    critic: OptimizerOptions = section(
        OptimizerOptions, "optimiser of the critic", lr=1e-3, warmup=5, schedule="constant"
    )
    alarm: float = option(
        4.0,
        "a monitor of gaming (`hack/…`) rings when the mean of its last rounds differs from that of its first ones by "
        "more than so many standard deviations of the first ones, and by more than its floor; 0: none rings",
        least=0,
        resumable=True,
    )
    alarm_rounds: int = option(5, "how many first and how many last rounds that compares", least=2, resumable=True)
    log_samples: int = option(8, "responses kept in samples.jsonl each time", least=0, resumable=True)
    samples_every: int = option(5, "iterations between two entries in samples.jsonl", least=1, resumable=True)
    checkpoint_every: int = option(10, "iterations between two checkpoints", least=1, resumable=True)


@dataclass(frozen=True)
class EvalOptions:
    kind: str = option(
        "policies",
        "what is measured: policies (each stage's, on held-out problems), hacks (whether edits that add nothing to a "
        "solution raise what the process reward model and lists of reward streams pay for it), labels (`data` against "
        "`gold`), prm (the process reward model against step truth), processbench (its first errors, on `data`), "
        "prmbench (planted errors, on `data`) or best_of_n (what its choice among sampled responses is worth)",
        choices=("policies", "hacks", "labels", "prm", "processbench", "prmbench", "best_of_n"),
        resumable=True,
    )
    data: str = option(
        "",
        "labels, prm, processbench, prmbench: step-labelled solutions, one file or several with commas between; prm: "
        "empty for responses to the task's held-out problems",
        resumable=True,
    )
    source: str = option(
        "records",
        "format of `data` and `gold`: records (a folder that `stepjax data` wrote, or stepjax's own JSONL), "
        "processbench, prmbench, prm800k, math_shepherd, omegaprm or trl",
        choices=("records", "processbench", "prmbench", "prm800k", "math_shepherd", "omegaprm", "trl"),
        resumable=True,
    )
    data_split: str = option("train", "the split of a folder in `data` and `gold` that is read", resumable=True)
    gold: str = option("", "labels: the file with the labels that those of `data` are held against", resumable=True)
    stage: str = option(
        "sft", "prm, best_of_n: the stage whose policy is sampled", choices=("sft", "ppo"), resumable=True
    )
    pool: int = option(64, "best_of_n: responses a problem, the largest N", least=1, resumable=True)
    resamples: int = option(400, "best_of_n: random subsets of the pool for each N", least=1, resumable=True)
    threshold: float = option(0.5, "P(right) below which a step is taken for wrong", least=0, resumable=True)
    tuning: float = option(
        0.3,
        "share of the problems on which a threshold is tuned; its figures are for the others",
        least=0,
        below=1,
        resumable=True,
    )
    bins: int = option(10, "bins of the calibration error and its diagram", least=1, resumable=True)
    problems: int = option(512, "held-out problems", least=1, resumable=True)
    split: str = option("test", "the split that they come from", resumable=True)
    temperature: float = option(1.0, "sampling temperature; 0: greedy", least=0, resumable=True)
    top_k: int = option(0, "as ppo.top_k, where responses are measured", least=0, resumable=True)
    top_p: float = option(1.0, "as ppo.top_p, where responses are measured", above=0, most=1, resumable=True)
    min_p: float = option(0.0, "as ppo.min_p, where responses are measured", least=0, most=1, resumable=True)
    min_new_tokens: int = option(0, "as ppo.min_new_tokens, where responses are measured", least=0, resumable=True)
    rows: int = option(128, "responses sampled at once", least=1, resumable=True)
    seed: int = option(0, "seed of the sampling, apart from the training's", least=0, below=2**31, resumable=True)


@dataclass(frozen=True)
class DataOptions:
    """`stepjax data`: step-labelled files of any public format to one dataset."""

    source: str = option(
        "",
        "format of the files: prm800k, math_shepherd, omegaprm, trl, processbench, prmbench, gsm8k, math or records "
        "(stepjax's own JSONL)",
        resumable=True,
    )
    path: str = option(
        "", "a file, or a folder whose .jsonl, .jsonl.gz, .json and .parquet files are read", resumable=True
    )
    out: str = option(
        "", "the TFDS folder to write, or a file ending in .jsonl; empty: only statistics are printed", resumable=True
    )
    shards: int = option(8, "files a split is written to", least=1, below=10_000, resumable=True)
    held_out: float = option(
        0.0,
        "share of the problems, chosen by a hash of each, that becomes the split valid",
        least=0,
        below=1,
        resumable=True,
    )
    overwrite: bool = option(False, "replace a dataset that is already at `out`", resumable=True)
    skip_bad: str = option(
        "",
        "file that malformed rows are set aside in (one JSON object each); empty: the first one stops",
        resumable=True,
    )
    tokenizer: str = option(
        "", "Hugging Face tokenizer for statistics in tokens; empty: in characters only", resumable=True
    )
    neutral: str = option(
        "own",
        "what a neutral rating becomes: own (it stays a class), good, bad or unlabelled",
        choices=("own", "good", "bad", "unlabelled"),
        resumable=True,
    )
    leave_out: tuple[str, ...] = option(
        (),
        "PRM800K rows and completions that are dropped and counted: screening, quality_control, give_up, bad_problem, "
        "found_error, solution (by how the labelling ended), flagged",
        resumable=True,
    )
    alternatives: bool = option(
        True,
        "PRM800K: each completion off the chosen path becomes a solution of its own, after the chosen steps",
        resumable=True,
    )
    shared_labels: str = option(
        "once",
        "where solutions share their first steps: once (each label stands in one record) or all (in every record)",
        choices=("once", "all"),
        resumable=True,
    )
    human: str = option(
        "unlabelled",
        "PRM800K steps written by an annotator, which have no rating: unlabelled, good, or cut (the solution ends "
        "before)",
        choices=("unlabelled", "good", "cut"),
        resumable=True,
    )
    originals: bool = option(True, "PRMBench: the solutions without planted errors too, each once", resumable=True)
    useless: str = option(
        "bad",
        "PRMBench's redundant and circular steps, true but useless: bad (as the benchmark has it) or neutral",
        choices=("bad", "neutral"),
        resumable=True,
    )
    references: str = option(
        "unlabelled",
        "steps of GSM8K's and MATH's reference solutions: unlabelled or good",
        choices=("unlabelled", "good"),
        resumable=True,
    )
    kind: str = option(
        "",
        "what the labels of trl say: step, prefix or value; empty: step",
        choices=("", "step", "prefix", "value"),
        resumable=True,
    )


@dataclass(frozen=True)
class OmegaOptions:
    """Tree search for first errors [Luo 2024, 2406.06592]; the defaults are the paper's."""

    searches: int = option(
        0,
        "binary searches a problem beyond those of the given solutions; each is of a wrong completion that the tree "
        "holds, and becomes a labelled solution too",
        least=0,
        resumable=True,
    )
    alpha: float = option(0.5, "α: a rollout's score falls by it where completions are wrong", above=0, resumable=True)
    beta: float = option(0.9, "β: … and by it for every `length` tokens of the rollout", above=0, resumable=True)
    length: int = option(500, "L, in tokens", least=1, resumable=True)
    explore: float = option(0.125, "c_puct, weight of states seldom chosen", least=0, resumable=True)


@dataclass(frozen=True)
class JudgeOptions:
    """A prompted model as annotator: a policy of a run, or any server of the chat-completions protocol."""

    url: str = option(
        "",
        "address of an OpenAI-compatible server, up to and with its /v1; empty: the policy of `label.stage` judges",
        resumable=True,
    )
    model: str = option("", "the server's name of the model", resumable=True)
    key: str = option(
        "OPENAI_API_KEY", "environment variable with the server's key, which is written nowhere", resumable=True
    )
    rubric: str = option(
        "detailed", "what the judge is told: coarse, detailed, or a file with a jinja2 template", resumable=True
    )
    tell_answer: bool = option(True, "the judge is told the right final answer, where it is known", resumable=True)
    concurrency: int = option(8, "questions to the server at once", least=1, below=1000, resumable=True)
    timeout: float = option(120.0, "seconds until a question is given up and asked again", above=0, resumable=True)
    retries: int = option(
        6, "how often a question is asked again after an error of the server or the network", least=0, resumable=True
    )
    backoff: float = option(
        1.0, "seconds before the first of these; each later wait is twice as long, up to 60", above=0, resumable=True
    )
    asks: int = option(
        3, "how often in all a solution is put to the judge while its reply is malformed", least=1, resumable=True
    )
    temperature: float = option(0.0, "sampling temperature of the judge", least=0, resumable=True)
    prompt_tokens: int = option(2048, "the run's policy as judge: widest question", least=1, resumable=True)
    answer_tokens: int = option(512, "longest reply, tokens", least=1, resumable=True)
    price_in: float = option(0.0, "price of a million tokens read, in any currency", least=0, resumable=True)
    price_out: float = option(0.0, "price of a million tokens written", least=0, resumable=True)


@dataclass(frozen=True)
class LabelOptions:
    """`stepjax label`: step labels without people."""

    method: str = option(
        "monte_carlo",
        "monte_carlo (completions from the end of each step), omegaprm (binary search for the first error), judge (a "
        "prompted model) or consensus (of two files of labels)",
        choices=("monte_carlo", "omegaprm", "judge", "consensus"),
        resumable=True,
    )
    data: str = option(
        "",
        "solutions to label, JSONL as `stepjax data` writes it, with commas between files; empty: responses to the "
        "task's problems are sampled",
        resumable=True,
    )
    out: str = option("", "JSONL file that labels are appended to; empty: labels/METHOD.jsonl here", resumable=True)
    split: str = option("train", "sampled solutions: the split that the problems come from", resumable=True)
    problems: int = option(256, "sampled solutions: how many problems", least=1, resumable=True)
    samples: int = option(4, "sampled solutions: responses a problem", least=1, resumable=True)
    solver: str = option(
        "sft", "sampled solutions: the stage whose policy writes them", choices=("sft", "ppo"), resumable=True
    )
    stage: str = option("sft", "the stage whose policy completes, or judges", choices=("sft", "ppo"), resumable=True)
    completer: str = option(
        "", "another work directory, with the same tokenizer and model, that this stage is taken from", resumable=True
    )
    kind: str = option(
        "hard",
        "monte_carlo, omegaprm: hard (some completion is right), soft (the share that is) or advances (the sign of "
        "the share's change over the step)",
        choices=("hard", "soft", "advances"),
        resumable=True,
    )
    completions: int = option(8, "completions of a prefix; N, or k of omegaprm", least=1, resumable=True)
    interval: float = option(
        0.0,
        "monte_carlo: more completions are sampled, so many at a time, until the Wilson interval of the share is no "
        "wider than this; 0: N is fixed",
        least=0,
        below=1,
        resumable=True,
    )
    most: int = option(64, "monte_carlo: most completions of a prefix where N is not fixed", least=1, resumable=True)
    confidence: float = option(0.9, "level of that interval", above=0, below=1, resumable=True)
    margin: float = option(
        0.0, "advances: a change of the share that is no larger counts as none (neutral)", least=0, resumable=True
    )
    temperature: float = option(1.0, "sampling temperature of solutions and completions", least=0, resumable=True)
    rows: int = option(256, "completions sampled at once", least=1, resumable=True)
    seed: int = option(0, "seed of the sampling, apart from the training's", least=0, below=2**31, resumable=True)
    first: str = option("", "consensus: the labels that are kept where the others agree", resumable=True)
    second: str = option("", "consensus: those others", resumable=True)
    classes: int = option(
        2,
        "consensus: 2 (they agree where both call a step wrong, or both do not) or 3 (good, neutral, bad)",
        least=2,
        below=4,
        resumable=True,
    )
    omega: OmegaOptions = section(OmegaOptions, "the tree search", resumable=True)
    judge: JudgeOptions = section(JudgeOptions, "the judge", resumable=True)


@dataclass(frozen=True)
class ExportOptions:
    """`stepjax export`: a stage's policy as a Hugging Face folder."""

    stage: str = option("ppo", "the stage whose policy is written", choices=("sft", "ppo"), resumable=True)
    out: str = option("", "the folder to write, new or empty", resumable=True)
    adapter: bool = option(
        False,
        "write the adapters alone, as a PEFT adapter, instead of the weights with the adapters added to them",
        resumable=True,
    )


@dataclass(frozen=True)
class BenchOptions:
    """`stepjax bench`: what a run's programs take, with random parameters. 0: as the workload of the shape has it."""

    shape: str = option(
        "1m",
        "model and workload: 1m, 30m, 0.5b (Qwen2.5-0.5B), or own (config.model and config.ppo as they are)",
        choices=("1m", "30m", "0.5b", "own"),
        resumable=True,
    )
    dtype: str = option("", "dtype of the computation; empty: float32", choices=("", *FLOATS), resumable=True)
    mean_length: int = option(
        0,
        "mean tokens of a response before the cut at new_tokens, lengths being geometric; 0: all have new_tokens",
        least=0,
        resumable=True,
    )
    rows: int = option(0, "responses a round", least=0, resumable=True)
    samples: int = option(0, "responses to each prompt", least=0, resumable=True)
    slots: int = option(0, "responses that decode at once", least=0, resumable=True)
    prompt_tokens: int = option(0, "tokens of each prompt", least=0, resumable=True)
    new_tokens: int = option(0, "tokens of the longest response", least=0, resumable=True)
    unroll: int = option(
        0, "layers in one turn of the layer loop; 0: all, with shape own as in config.model", least=0, resumable=True
    )
    prm: bool = option(False, "a process reward model of the same shape scores the steps", resumable=True)
    repeats: int = option(3, "timed runs after one that warms up; the figure is their median", least=1, resumable=True)


@dataclass(frozen=True)
class Config:
    """A whole run: `stepjax quickstart` goes through `stages` in order, the other commands do one of them."""

    seed: int = option(0, "seed of everything random in the run", least=0, below=2**31)
    stages: tuple[str, ...] = option(("sft", "prm", "ppo"), "stages of quickstart, in order")
    base: str = option("", "another run's work directory: its tokenizer and the stages that are not trained here")
    profile: str = option(
        "",
        "START:STOP: the updates or rounds of each stage (from 1; STOP is left out) that are traced into "
        "WORKDIR/profile, for TensorBoard, XProf or Perfetto; empty: none",
        resumable=True,
    )
    task: TaskOptions = section(TaskOptions, "where problems come from")
    tokenizer: TokenizerOptions = section(TokenizerOptions, "text to tokens")
    model: ModelOptions = section(ModelOptions, "shape of the decoder")
    lora: LoRAOptions = section(LoRAOptions, "low-rank adapters")
    mesh: MeshOptions = section(MeshOptions, "how devices share the work")
    distributed: DistributedOptions = section(DistributedOptions, "several processes, and the end of one")
    sft: SFTOptions = section(SFTOptions, "supervised training on demonstrations")
    prm: PRMOptions = section(PRMOptions, "process reward model")
    ppo: PPOOptions = section(PPOOptions, "step-level PPO")
    export: ExportOptions = section(ExportOptions, "writing a policy for other software (stepjax export)")
    eval: EvalOptions = section(EvalOptions, "measuring before and after")
    data: DataOptions = section(DataOptions, "reading step-labelled files (stepjax data)")
    label: LabelOptions = section(LabelOptions, "step labels without people (stepjax label)")
    bench: BenchOptions = section(BenchOptions, "timing the programs of a run (stepjax bench)")


def options_of(cls: type, prefix: str = "") -> list[tuple[str, dataclasses.Field]]:
    """Every option below a section: dotted name and field, in order of declaration."""
    found: list[tuple[str, dataclasses.Field]] = []
    for f in dataclasses.fields(cls):
        kind = f.type if isinstance(f.type, type) else None
        if kind is not None and dataclasses.is_dataclass(kind):
            found += options_of(kind, f"{prefix}{f.name}.")
        else:
            found.append((prefix + f.name, f))
    return found


def resumable_options() -> set[str]:
    """Dotted names of the options that may change when a work directory is continued."""
    return {name for name, f in options_of(Config) if f.metadata["resumable"]}


def default_option(name: str) -> Any:
    """The default of an option by its dotted name, a stream's by any stream's name; KeyError: there is none."""
    value: Any = Config()
    parts = name.split(".")
    if parts[:2] == ["ppo", "streams"] and len(parts) == 4:
        value, parts = StreamOptions(), parts[3:]
    for part in parts:
        if not dataclasses.is_dataclass(value) or not hasattr(value, part):
            raise KeyError(name)
        value = getattr(value, part)
    return value
