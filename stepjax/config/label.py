"""`stepjax label`."""

from dataclasses import dataclass

from stepjax.config.option import option, section
from stepjax.config.policies import POLICIES


@dataclass(frozen=True)
class OmegaOptions:
    """Tree search for first errors [Luo 2024, 2406.06592]; the defaults are the paper's."""

    searches: int = option(
        0,
        "binary searches per problem after those of the given solutions; each searches a wrong completion of the tree, "
        "which becomes a labelled solution too",
        least=0,
        resumable=True,
    )
    alpha: float = option(0.5, "α of a rollout's score α^(1 − MC) · β^(tokens / L)", above=0, resumable=True)
    beta: float = option(0.9, "β of that score", above=0, resumable=True)
    length: int = option(500, "L of that score, in tokens", least=1, resumable=True)
    explore: float = option(0.125, "c_puct: weight of the exploration term", least=0, resumable=True)


@dataclass(frozen=True)
class JudgeOptions:
    """A prompted model as annotator: a policy of a run, or any server of the chat-completions protocol."""

    url: str = option(
        "",
        "address of an OpenAI-compatible server, ending in /v1; empty: the policy of `label.stage` is the judge",
        resumable=True,
    )
    model: str = option("", "name of the model on the server", resumable=True)
    key: str = option(
        "OPENAI_API_KEY",
        "environment variable with the server's key; the key is never written to a file",
        resumable=True,
    )
    rubric: str = option(
        "detailed", "the judge's instructions: coarse, detailed, or a file with a jinja2 template", resumable=True
    )
    tell_answer: bool = option(True, "show the judge the right final answer, where it is known", resumable=True)
    concurrency: int = option(8, "concurrent requests to the server", least=1, below=1000, resumable=True)
    timeout: float = option(120.0, "seconds until a request is abandoned and sent again", above=0, resumable=True)
    retries: int = option(
        6, "how often a request is sent again after an error of the server or the network", least=0, resumable=True
    )
    backoff: float = option(
        1.0, "seconds before the first retry; each later wait is twice as long, up to 60", above=0, resumable=True
    )
    asks: int = option(
        3, "how often a solution is put to the judge in total, while its reply is malformed", least=1, resumable=True
    )
    temperature: float = option(0.0, "sampling temperature of the judge", least=0, resumable=True)
    prompt_tokens: int = option(2048, "the run's policy as judge: longest prompt, tokens", least=1, resumable=True)
    answer_tokens: int = option(
        512, "longest reply, tokens; a judge that thinks before it answers needs more", least=1, resumable=True
    )
    extra_body: str = option(
        "",
        "JSON object that is merged into every request to the server, such as "
        '{"chat_template_kwargs": {"enable_thinking": false}}; a null takes a field of the request away',
        resumable=True,
    )
    price_in: float = option(0.0, "price per million input tokens, in any currency", least=0, resumable=True)
    price_out: float = option(0.0, "price per million output tokens", least=0, resumable=True)


@dataclass(frozen=True)
class LabelOptions:
    """`stepjax label`: automatic step labels."""

    method: str = option(
        "monte_carlo",
        "monte_carlo (completions from the end of each step), omegaprm (binary search for the first error), judge (a "
        "prompted language model) or consensus (of two files of labels)",
        choices=("monte_carlo", "omegaprm", "judge", "consensus"),
        resumable=True,
    )
    data: str = option(
        "",
        "solutions to label: JSONL files as `stepjax data` writes them, separated by commas; empty: sample responses "
        "to the task's problems",
        resumable=True,
    )
    out: str = option(
        "", "JSONL file to append the labels to; empty: labels/METHOD.jsonl in the work directory", resumable=True
    )
    split: str = option("train", "sampled solutions: the split that the problems come from", resumable=True)
    problems: int = option(256, "sampled solutions: number of problems", least=1, resumable=True)
    samples: int = option(4, "sampled solutions: responses per problem", least=1, resumable=True)
    solver: str = option(
        "sft", "sampled solutions: the stage whose policy writes them", choices=POLICIES, resumable=True
    )
    stage: str = option(
        "sft", "the stage whose policy writes the completions, or judges", choices=POLICIES, resumable=True
    )
    completer: str = option(
        "", "another work directory, with the same tokenizer and model, to take this stage from", resumable=True
    )
    kind: str = option(
        "hard",
        "monte_carlo, omegaprm: hard (some completion is right), soft (the fraction that is) or advances (the sign of "
        "the fraction's change over the step)",
        choices=("hard", "soft", "advances"),
        resumable=True,
    )
    completions: int = option(8, "completions per prefix; N, or k of omegaprm", least=1, resumable=True)
    interval: float = option(
        0.0,
        "monte_carlo: sample `completions` more at a time until the Wilson interval of the fraction is at most this "
        "wide; 0: N is fixed",
        least=0,
        below=1,
        resumable=True,
    )
    most: int = option(64, "monte_carlo: most completions per prefix where N is not fixed", least=1, resumable=True)
    confidence: float = option(0.9, "level of that interval", above=0, below=1, resumable=True)
    margin: float = option(
        0.0, "advances: a change of the fraction up to this counts as none (neutral)", least=0, resumable=True
    )
    temperature: float = option(1.0, "sampling temperature of solutions and completions", least=0, resumable=True)
    rows: int = option(256, "completions sampled at once", least=1, resumable=True)
    seed: int = option(0, "seed of the sampling; training has its own", least=0, below=2**31, resumable=True)
    first: str = option("", "consensus: the file of the labels that are kept where `second` agrees", resumable=True)
    second: str = option("", "consensus: the file of the labels to compare with", resumable=True)
    classes: int = option(
        2,
        "consensus: 2 (they agree where both call a step wrong, or both do not) or 3 (good, neutral, bad)",
        least=2,
        below=4,
        resumable=True,
    )
    omega: OmegaOptions = section(OmegaOptions, "the tree search", resumable=True)
    judge: JudgeOptions = section(JudgeOptions, "the judge", resumable=True)
