"""Stage ppo."""

from dataclasses import dataclass

from stepjax.config.implicit import ImplicitOptions
from stepjax.config.optimizer import OptimizerOptions
from stepjax.config.option import option, section
from stepjax.config.step_judge import StepJudgeOptions
from stepjax.config.streams import StreamOptions


@dataclass(frozen=True)
class MonteCarloOptions:
    """Values of step ends by completions of the policy, for streams with signal=mc."""

    completions: int = option(9, "completions from the end of each step but the last", least=1)
    rows: int = option(
        256, "completions decoded at once; more are rounded up to whole branches", least=1, resumable=True
    )


@dataclass(frozen=True)
class PPOOptions:
    iterations: int = option(
        60, "iterations; each is a rollout (a round of responses) and its updates", least=1, resumable=True
    )
    prompts: int = option(128, "problems per round", least=1)
    samples: int = option(1, "responses per problem", least=1)
    prompt_tokens: int = option(48, "longest prompt, tokens; longer ones are left out and counted", least=1)
    max_new_tokens: int = option(
        80, "longest response, tokens; a longer one is truncated (and bootstrapped, not terminated)", least=1
    )
    slots: int = option(
        0,
        "responses decoded at once; when one ends, the next one of the round takes its slot. 0: all of a round, or as "
        "many as ppo.cache_tokens allows",
        least=0,
        resumable=True,
    )
    prefill_rows: int = option(0, "prompts prefilled at once; 0: all of a round", least=0, resumable=True)
    halvings: int = option(
        -1,
        "how often the number of slots is halved once no response waits and half of the slots are empty (only from "
        "more than 8 per device); each halving makes the rollout take longer to compile. -1: once; on CPUs with long "
        "responses, whose cache is in blocks, by four steps at most down to one slot. Evaluation and labels take -1",
        least=-1,
        resumable=True,
    )
    cache_tokens: int = option(
        0,
        "tokens that the key-value cache of a device holds, at most; a response that finds no room is put back, and "
        "drawn again, the same, when there is some. 0: 2,048 a slot, or a quarter of prompt_tokens + max_new_tokens "
        "where that is more",
        least=0,
        resumable=True,
    )
    block: int = option(
        0,
        "tokens of a block of the key-value cache; 0: what suits the devices and max_new_tokens",
        least=0,
        resumable=True,
    )
    waves: int = option(
        1,
        "rollouts that a round's responses are divided among: the host rates one while the next one decodes",
        least=1,
        resumable=True,
    )
    stale: bool = option(
        False,
        "start each rollout before the update of the previous round, with parameters that are one update old, so that "
        "rating and grading take no extra time; use it with an importance_cap",
    )
    carry: int = option(
        0,
        "partial rollouts: a round ends as soon as it has enough whole responses, of half as many problems again as it "
        "trains on; the others go on in the next rounds, at most this many rounds older than their first token; use "
        "it with an importance_cap. 0: a round waits for all of its responses",
        least=0,
    )
    importance_cap: float = option(
        0.0,
        "a token's weight is multiplied by the ratio of its probability under the learner's policy to that under the "
        "sampling policy, at most this (truncated importance sampling); 0: no such factor",
        least=0,
    )
    temperature: float = option(1.0, "sampling temperature; the learner divides its logits by it too", above=0)
    top_k: int = option(
        0,
        "sampling: only the k likeliest tokens (and ties with the k-th); 0: all",
        least=0,
    )
    top_p: float = option(
        1.0, "sampling: only the likeliest tokens that together have this probability; 1: all", above=0, most=1
    )
    min_p: float = option(
        0.0, "sampling: only tokens at least this fraction as likely as the likeliest one; 0: all", least=0, most=1
    )
    min_new_tokens: int = option(0, "fewest tokens of a response before it may end", least=0)
    replay: bool = option(
        True,
        "where such filters (top_k, top_p, min_p, min_new_tokens) are on: record what they kept when each token was "
        "drawn, and take the learner's probabilities, the reference's and the entropy over the same tokens, so that "
        "the ratio before an update is 1; False: over the whole vocabulary",
    )
    environment: str = option(
        "",
        "environment that writes into a response: calculator (after `<<48/2=` it writes `24>>`); its tokens are not "
        "trained on",
        choices=("", "calculator"),
    )
    reply_tokens: int = option(16, "longest reply of the environment, tokens; a longer one is not written", least=1)
    epochs: int = option(3, "passes over a round's responses", least=1)
    minibatches: int = option(4, "updates per pass", least=1)
    row_tokens: int = option(
        0,
        "tokens per packed row, which holds responses with their prompts; 0: prompt_tokens + max_new_tokens, the least",
        least=0,
        resumable=True,
    )
    micro_tokens: int = option(
        0,
        "tokens per micro-batch and device, which bounds the memory of the score and update programs (one packed row "
        "is the least); 0: an eighth of the most tokens that the responses can have",
        least=0,
        resumable=True,
    )
    whiten: bool = option(
        False,
        "normalise the weighted sum of the streams' advantages to mean 0 and standard deviation 1 over all tokens that "
        "train (a stream's own `whiten` normalises it before it is weighted)",
    )
    train_on: tuple[str, ...] = option(
        (),
        "tokens that train the policy, and that whitening runs over: empty: all; below:P: only those with a "
        "probability of at most P; informative: only those of problems that some responses solve and others do not",
    )
    refill: int = option(
        0,
        "dynamic sampling: problems that all or none of their responses solve leave the round, and others are sampled "
        "for them until the round is full, with at most this many further rollouts of a round's size; what is then "
        "left of them stays. 0: none leave",
        least=0,
    )
    loss: str = option(
        "ppo",
        "ppo (clipped ratio), reinforce (−A log π), cispo (reinforce times the clipped ratio, as a constant), sapo (a "
        "sigmoid of the ratio in place of its clip) or dppo (reinforce times the ratio, without the tokens whose "
        "probability has moved by more than clip_low or clip_high)",
        choices=("ppo", "reinforce", "cispo", "sapo", "dppo"),
    )
    ratio: str = option(
        "token",
        "ratio of the new to the old policy, of each token, of each turn (the product over its tokens) or of each "
        "sequence (the geometric mean over its tokens: GSPO)",
        choices=("token", "turn", "sequence"),
    )
    sapo_rise: float = option(1.0, "sapo: τ for advantages above 0", above=0)
    sapo_fall: float = option(1.05, "sapo: τ for other advantages", above=0)
    reduce: str = option(
        "token",
        "mean of the policy's loss over: token (all tokens), step (all steps, each with the mean of its tokens), "
        "sequence (all responses, each with the mean of its tokens) or fixed (responses × max_new_tokens, whatever "
        "their lengths)",
        choices=("token", "step", "sequence", "fixed"),
    )
    clip_low: float = option(0.2, "ε below 1 of the clipped ratio (dppo: most that a probability may fall)", least=0)
    clip_high: float = option(0.2, "ε above 1 of the clipped ratio (dppo: most that a probability may rise)", least=0)
    dual_clip: float = option(0.0, "bound c of the dual clip for negative advantages; 0: no dual clip", least=0)
    kl_stop: float = option(
        0.0,
        "divergence from the sampling policy, nats per token (k3), that ends a round's updates: the first minibatch "
        "above it and all later ones of the round are skipped; 0: no limit",
        least=0,
    )
    ratio_guard: float = option(0.0, "skip a minibatch with a token whose ratio is above this; 0: skip none", least=0)
    mean_ratio_guard: float = option(
        0.0, "skip a minibatch whose mean ratio over tokens is above this; 0: skip none", least=0
    )
    value_clip: float = option(0.2, "range of the critic's value clip around the old values; 0: no clip", least=0)
    critic_frozen: bool = option(False, "the critic is not trained")
    critic_warmup: int = option(0, "number of first rounds in which only the critic is trained", least=0)
    critic_refit: int = option(
        0,
        "period in rounds of refitting the critic on fresh responses: the first round of each period trains only the "
        "critic, the others only the policy; 0: both are trained in every round",
        least=0,
    )
    kl: float = option(0.0, "coefficient of the divergence from the reference in the loss", least=0)
    kl_kind: str = option("k3", "estimator of that divergence: k1, k2 or k3", choices=("k1", "k2", "k3"))
    kl_target: float = option(
        0.0,
        "target divergence from the reference, nats per token, to which `kl` is adapted after each round; 0: fixed",
        least=0,
    )
    kl_gain: float = option(
        0.1,
        "with a `kl_target`: relative change of the coefficient per round and relative error (cut to ±0.2)",
        least=0,
    )
    entropy: float = option(0.0, "coefficient of the entropy bonus")
    streams: dict[str, StreamOptions] = option({"process": StreamOptions()}, "reward streams by name")
    mc: MonteCarloOptions = section(MonteCarloOptions, "completions that value the ends of steps for signal=mc")
    implicit: ImplicitOptions = section(
        ImplicitOptions, "the model that learns from graded answers and pays its log-ratio for signal=implicit"
    )
    judge: StepJudgeOptions = section(StepJudgeOptions, "the server that rates steps for signal=judge")
    policy: OptimizerOptions = section(
        OptimizerOptions, "optimiser of the policy", lr=1e-3, warmup=5, schedule="constant"
    )
    critic: OptimizerOptions = section(
        OptimizerOptions, "optimiser of the critic", lr=1e-3, warmup=5, schedule="constant"
    )
    alarm: float = option(
        4.0,
        "a monitor of reward hacking (`hack/…`) raises an alarm when the mean of its last rounds differs from that of "
        "its first ones by more than this many standard deviations of the first ones, and by more than its floor; 0: "
        "no alarms",
        least=0,
        resumable=True,
    )
    alarm_rounds: int = option(5, "number of first and of last rounds that the alarm compares", least=2, resumable=True)
    log_samples: int = option(8, "responses per entry in samples.jsonl", least=0, resumable=True)
    samples_every: int = option(5, "iterations between two entries in samples.jsonl", least=1, resumable=True)
    checkpoint_every: int = option(10, "iterations between two checkpoints", least=1, resumable=True)
    export_every: int = option(
        0,
        "iterations between two exports of the policy to WORKDIR/exported/ITERATION, which transformers and inference "
        "servers load (adapters merged; the folder appears when it is whole); 0: none",
        least=0,
        resumable=True,
    )
    export_keep: int = option(2, "newest exports that stay; 0: all", least=0, resumable=True)
