"""Stage ppo."""

from dataclasses import dataclass

from stepjax.config.optimizer import OptimizerOptions
from stepjax.config.option import option, section
from stepjax.config.streams import StreamOptions


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
        "rollouts that a round's responses are divided among: the host rates one while the next decodes",
        least=1,
        resumable=True,
    )
    stale: bool = option(
        False,
        "start each rollout before the update of the round before it, with parameters that are one update old, so that "
        "rating and grading cost no time; give it an importance_cap",
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
