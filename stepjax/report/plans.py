"""The plan of the report's charts: which metric is drawn where, in reading order."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Plan:
    """One planned chart.

    Attributes:
      stage: whose records it draws.
      title: what is measured.
      keys: metric → name of the line. A key that ends in "/*" stands for every metric of the group.
      each: one chart per metric instead of one line per metric; the line's name follows the title.
      unit, hint, log, zero: as in `Chart`. Shares always start at zero.
    """

    stage: str
    title: str
    keys: dict[str, str]
    each: bool = False
    unit: str = ""
    hint: str = ""
    log: bool = False
    zero: bool = False


def _ppo(name: str, keys: dict[str, str] | str, **options: Any) -> Plan:
    return Plan("ppo", name, {keys: ""} if isinstance(keys, str) else keys, **options)


PLANS: tuple[tuple[str, str, str, tuple[Plan, ...]], ...] = (
    (
        "outcome", "Right answers and rewards",
        "The graded answers and every reward that the policy is trained on (means a response), over the same "
        "iterations. A reward that rises while right answers do not is no progress.",
        (
            _ppo("Right answers", "true/accuracy", unit="share"),
            _ppo("Reward", "reward/*", each=True),
        ),
    ),
    (
        "spread", "What rewards tell apart",
        "Where all responses earn the same, there is nothing to learn from.",
        (
            _ppo("Problems whose responses all earn the same", "reward_flat/*", unit="share"),
            _ppo("Standard deviation of the rewards", "reward_std/*", zero=True),
        ),
    ),
    (
        "kl", "Distance and speed of the policy",
        "",
        (
            _ppo("Distance from the reference", "kl/reference", unit="KL, nats"),
            _ppo("Moved in one iteration", "kl/update", unit="KL, nats"),
            _ppo("Entropy of the policy", "entropy", unit="nats a token", zero=True),
            _ppo("Norm of the gradient", "grad_norm/*", zero=True),
        ),
    ),
    (
        "length", "Length of responses",
        "",
        (
            _ppo("Tokens a response", "length/tokens", zero=True),
            _ppo("Steps a response", "length/steps", zero=True),
            _ppo("Responses cut off at the limit", "length/truncated", unit="share"),
        ),
    ),
    (
        "update", "Policy updates",
        "Sampler and learner should give a token the same log-probability; what differs biases the policy gradient.",
        (
            _ppo("Sampler against learner", {"mismatch/mean": "mean", "mismatch/max": "largest"},
                 unit="difference of log-probabilities, log axis", log=True),
            _ppo("Policy loss", "policy/loss"),
            _ppo("Tokens clipped by PPO", "policy/clip_fraction", unit="share"),
            _ppo("Largest ratio, new to old", "policy/ratio_max", log=True, unit="of probabilities, log axis"),
        ),
    ),
    (
        "steps", "Quality of single steps",
        "Exact ratings are the task's own verifier, which the policy is not trained on unless a reward says so; the "
        "reward model's are its predictions.",
        (
            _ppo("Steps by exact rating", {"true/good": "good", "true/neutral": "neutral", "true/bad": "bad"},
                 unit="share"),
            _ppo("Steps as the reward model rates them",
                 {"prm/good": "good", "prm/neutral": "neutral", "prm/bad": "bad"}, unit="share"),
            _ppo("Reward model agrees with the exact rating", "prm/agreement", unit="share"),
            _ppo("Right answers with a wrong step", "true/trace_error", unit="share", hint="The trace error."),
            _ppo("Steps with a calculation, and calculations that hold",
                 {"true/calculation": "steps with one", "true/holds": "of these, it holds"}, unit="share"),
            _ppo("Errors put right, and what was right taken back",
                 {"true/recovery": "false registers put right", "true/false_repairs": "true ones taken back",
                  "true/dead_ends_left": "dead ends left"}, unit="share"),
            _ppo("Repeated steps", {"true/repeated": "repeated", "repeat/steps": "repeated"}, unit="share"),
        ),
    ),
    (
        "hack", "Signs of reward hacking",
        "Ways to earn more reward without solving more problems. None of these is proof; a monitor raises an alarm "
        "when "
        "it drifts from its values in the first rounds.",
        (
            _ppo("Steps that say little",
                 {"hack/repeated": "repeated", "hack/near_repeated": "nearly repeated", "hack/neutral": "neutral",
                  "hack/empty": "empty", "hack/trivial": "trivial calculations"}, unit="share"),
            _ppo("Responses of one step, or cut off", {"hack/one_step": "one step", "hack/truncated": "cut off"},
                 unit="share"),
            _ppo("Steps a response, tokens a step", {"hack/steps": "steps", "hack/step_tokens": "tokens"}, zero=True),
            _ppo("Learned reward minus exact reward", "hack/proxy_gap", hint="Rewards between 0 and 1 a response."),
            _ppo("Monitors in alarm", "hack/alarms", zero=True),
        ),
    ),
    (
        "critic", "Critic",
        "",
        (
            _ppo("Variance of returns explained", "explained_variance/*",
                 hint="1 is perfect, 0 no better than a constant."),
            _ppo("Spread of advantages", "advantage_std/*", unit="standard deviation", zero=True),
            _ppo("Mean return of a token", "return_mean/*"),
            _ppo("Correlation of two streams' advantages", "advantage_corr/*",
                 hint="1: both push the same way; below 0: against each other."),
            _ppo("Critic loss", "value_loss/*", zero=True),
        ),
    ),
    (
        "sft", "SFT: learning from demonstrations",
        "",
        (
            Plan("sft", "Loss of SFT", {"loss": "training", "valid/loss": "validation"}, unit="nats a token"),
            Plan("sft", "Norm of the gradient", {"grad_norm": "norm"}, zero=True),
            Plan("sft", "Speed", {"tokens_per_second": "speed"}, unit="tokens a second", zero=True),
            Plan("sft", "Tokens learned from, an update", {"tokens": "tokens"}, zero=True),
        ),
    ),
    (
        "improve", "Expert iteration: learning from searches",
        "Each round searches other problems with its policy, and trains the next one on what it found.",
        (
            Plan("improve", "Right answers",
                 {"valid/accuracy": "policy, held out", "search/accuracy": "search, training problems",
                  "search/any_right": "any of a search", "search/learned": "learned from"}, unit="share"),
            Plan("improve", "Loss", {"loss": "loss", "target_loss": "of the targets"}, unit="nats a token"),
            Plan("improve", "Divergence from the first policy", {"kl": "KL"}, unit="nats a token", zero=True),
            Plan("improve", "Targets a round", {"search/targets": "targets"}, zero=True),
            Plan("improve", "Tokens of searches, so far",
                 {"search/generated_tokens": "written", "search/read_tokens": "read by the reward model"}, zero=True),
            Plan("improve", "Round", {"round": "round"}, zero=True),
            Plan("improve", "Weight learned, an update", {"tokens": "tokens"}, zero=True),
            Plan("improve", "Norm of the gradient", {"grad_norm": "norm"}, zero=True),
        ),
    ),
    (
        "prm", "Reward model: learning from rated steps",
        "",
        (
            Plan("prm", "Loss of the reward model", {"loss": "training", "valid/loss": "validation"},
                 unit="nats a step"),
            Plan("prm", "Ratings predicted",
                 {"accuracy": "accuracy", "valid/accuracy": "validation", "valid/macro_f1": "macro F1, validation"},
                 unit="share"),
            Plan("prm", "Norm of the gradient", {"grad_norm": "norm"}, zero=True),
            Plan("prm", "Speed", {"tokens_per_second": "speed"}, unit="tokens a second", zero=True),
            Plan("prm", "Steps learned from, an update", {"tokens": "steps"}, zero=True),
        ),
    ),
)  # fmt: skip


def named(stage: str, metric: str) -> tuple[str, str]:
    """Title and unit of a metric that is drawn alone; an unplanned one has its own name."""
    for plan in (plan for _, _, _, plans in PLANS for plan in plans if plan.stage == stage):
        for key, name in plan.keys.items():
            if metric == key or (key.endswith("/*") and metric.startswith(key[:-1])):
                name = name or (metric.removeprefix(key[:-1]) if key.endswith("/*") else "")
                return f"{plan.title}: {name}" if name else plan.title, plan.unit
    return metric, ""
