"""Reward streams."""

from dataclasses import dataclass

from stepjax.config.option import option


@dataclass(frozen=True)
class StreamOptions:
    """A reward stream: a signal (what was earned, where), a horizon (how far back it is credited), a weight."""

    signal: str = option(
        "prm",
        "what is earned: prm (learned step scores), orm (the learned score of the last step alone), verifier (the "
        "task's exact rating of a step), outcome (graded answer, at the last token), finish (good: the response "
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
        "step", "length, format: what is rated, each step or the whole response", choices=("step", "response")
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
