"""Reward streams."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol

from stepjax.config.option import option
from stepjax.errors import UserError


@dataclass(frozen=True)
class StreamOptions:
    """A reward stream: a signal (the rewards and their places), a horizon (how far credit reaches), a weight."""

    signal: str = option(
        "prm",
        "source of the rewards: prm (learned step scores), orm (only the learned score of the last step), verifier "
        "(the task's exact rating of a step), outcome (the graded answer, at the last token), finish (good: the "
        "response ended by itself; bad: it was truncated), kl (minus the divergence from the reference, at every "
        "token), length (tokens outside a band cost), limit (keeping a step limit that the prompt states), format "
        "(matching a pattern), mc (the share of right answers among fresh completions of the policy behind each step, "
        "ppo.mc), implicit (the log-ratio to the reference of a model that is trained on the run's outcomes, "
        "ppo.implicit), judge (a prompted model on a server, ppo.judge, rates each step), environment (the reward of "
        "each turn by the environment of environment.name) or function (a Python function of the user's)",
    )
    horizon: str = option(
        "step",
        "how far back rewards are credited: step (credit resets at step ends), turn (where an environment writes), "
        "response (ordinary GAE), or a number in [0, 1], the discount across a step's end",
    )
    estimator: str = option(
        "gae",
        "a name for what is credited and compared with what: gae (generalised advantage estimation with a critic), "
        "return (discounted rewards-to-go), value (a step's "
        "score at all of its tokens), progress (its score minus that of the step before; the outcome, `good` or `bad`, "
        "takes the place of the last step's score), group (GRPO: each score normalised over the responses to the "
        "problem, then summed) or rloo (rewards-to-go minus the mean of the problem's other responses)",
        choices=("gae", "return", "value", "progress", "group", "rloo"),
    )
    first: float = option(0.0, "progress: the value of a prompt, before any step")
    prompt_value: str = option(
        "first",
        "progress: the value of a prompt: the number in `first`, or the mean outcome of the problem's other responses "
        "(others)",
        choices=("first", "others"),
    )
    last: str = option(
        "outcome",
        "progress: the score of the last step is replaced by the outcome, or stays (score)",
        choices=("outcome", "score"),
    )
    baseline: str = option(
        "",
        "what is subtracted, in place of the estimator's: none, critic (learned values), others (the mean of the "
        "problem's other responses) or mean (that of all of them); empty: the estimator's (gae: critic; group: mean; "
        "rloo: others; the others: none)",
        choices=("", "none", "critic", "others", "mean"),
    )
    scale: str = option(
        "",
        "what a baseline of others or mean divides by: none, std (of what it compares) or sample_std (over n − 1); "
        "empty: the estimator's (group: std)",
        choices=("", "none", "std", "sample_std"),
    )
    among: str = option(
        "problem",
        "what a baseline of others or mean compares: everything of the problem's responses, only units at the same "
        "state (the same tokens before them), only those of the same index, or the mean score of each response, so "
        "that long ones weigh no more. A mean subtracted from each score "
        "favours longer or shorter responses, since the response's own end sets how many means are subtracted; "
        "baseline=others with among=index and when=return is free of this bias",
        choices=("problem", "state", "index", "response"),
    )
    when: str = option(
        "",
        "whether that baseline is subtracted from each score, before they are summed, or from each return; empty: the "
        "estimator's (rloo: return; the others: score)",
        choices=("", "score", "return"),
    )
    sum: str = option(
        "ahead", "a token is credited with the rewards ahead of it, or with those so_far", choices=("ahead", "so_far")
    )
    gate: str = option(
        "all",
        "responses whose scores are read, before any statistics: all, or only right or wrong ones (a truncated one is "
        "neither)",
        choices=("all", "right", "wrong"),
    )
    pay: str = option(
        "all",
        "what is credited after the statistics: all, only right or wrong responses, or only advantages that are "
        "positive or negative",
        choices=("all", "right", "wrong", "positive", "negative"),
    )
    times: str = option("", "name of a stream whose advantages (before its pay and whiten) multiply this one's")
    join: str = option(
        "",
        "name of a stream to whose rewards this one's, times its weight, are added before its statistics; this one "
        "then has no credit of its own",
    )
    unit: str = option(
        "token",
        "where γ and λ act: at every token, or at the ends of each step, turn or segment (cut:P:N: a token with a "
        "probability below P opens one, and each N-th such token after it)",
    )
    hold: bool = option(
        False, "a unit is one action: the value of its first token holds for all, its rewards are earned at its end"
    )
    gamma: float = option(1.0, "discount per unit")
    lam: float = option(0.95, "λ of GAE per unit; read with a critic")
    boundary_lam: float = option(1.0, "factor of λ at a step's end, apart from the discount of the horizon")
    weight: float = option(1.0, "weight of this stream's advantages in a token's policy weight")
    whiten: bool = option(True, "normalise the advantages to mean 0 and standard deviation 1 over all tokens")
    critic: bool = option(True, "gae: learn a value head for this stream; False: the baseline is 0")
    critic_trunk: str = option(
        "shared",
        "trunk of that value head: shared (one trunk for all such streams), own (a trunk for this stream), both "
        "starting from the reference's trunk with values of 0, or prm (the whole process reward model: the value is "
        "the expected reward over its classes, so that one trained with prm.target=value starts as the stream's "
        "critic)",
        choices=("shared", "own", "prm"),
    )
    good: float = option(
        1.0, "reward of a good step (prm, verifier, judge), a right answer (outcome), a kept limit, a match (format)"
    )
    neutral: float = option(0.0, "reward of a neutral step (prm, verifier, judge)")
    bad: float = option(
        -1.0, "reward of a bad step (prm, verifier, judge), a wrong answer (outcome), a broken limit, no match (format)"
    )
    shaping: tuple[str, ...] = option(
        (),
        "transformations of the scores of a response's steps, applied in order: clip:ETA, delta, min_form:TEMPERATURE, "
        "bound:LOW:HIGH (units of the score), best_of:K, early or share",
    )
    kl_kind: str = option("k1", "kl: estimator of the divergence, k1, k2 or k3", choices=("k1", "k2", "k3"))
    kl_target: float = option(
        0.0,
        "kl: target divergence from the reference, nats per token, to which the stream's weight is adapted after each "
        "round (with ppo.kl_gain); 0: the weight is fixed",
        least=0,
    )
    per: str = option(
        "step",
        "length, format, implicit: the unit that is rewarded, each step, the whole response or (implicit) each token",
        choices=("step", "response", "token"),
    )
    least: int = option(0, "length: fewest tokens without a cost", least=0)
    most: int = option(0, "length: most tokens without a cost; 0: no bound", least=0)
    token_cost: float = option(0.01, "length: cost of each token below `least` or above `most`", least=0)
    pattern: str = option(
        "", "format: regular expression that the whole stripped text of a step or response must match"
    )
    function: str = option(
        "",
        "function: `package.module:name` of a function (or coroutine) that returns one number per response, or one "
        "list per response (one number per step); it gets by name what its signature asks for: prompts, responses, "
        "steps, problems, answers, solutions, finished, correct, tokens, or a column of the problems' rows",
    )
    timeout: float = option(
        600.0, "function, format: seconds that rating a round's responses may take; 0: as long as it likes", least=0
    )


class ReadsOptions(Protocol):
    """A row of a registry of signals or estimators: `options` are those fields of a stream that only some rows read."""

    @property
    def options(self) -> tuple[str, ...]: ...


def check_unread(options: StreamOptions, choice: str, rows: Mapping[str, ReadsOptions], where: str) -> None:
    """UserError where an option is set that only other rows of a registry read: it would be ignored in silence.

    `choice` is the option that names the stream's row, "signal" or "estimator"; `where` the stream's section.
    """
    chosen = getattr(options, choice)
    for field in fields(StreamOptions):
        readers = [name for name, row in rows.items() if field.name in row.options]
        if readers and chosen not in readers and getattr(options, field.name) != field.default:
            raise UserError(f"{where}.{field.name}: only {choice} {' or '.join(readers)} reads it, not {chosen}")
