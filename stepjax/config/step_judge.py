"""`config.ppo.judge`: the judge that rates steps while a policy is trained."""

from dataclasses import dataclass

from stepjax.config.option import option


@dataclass(frozen=True)
class StepJudgeOptions:
    """A prompted model on a server of the chat-completions protocol, for streams with signal=judge."""

    url: str = option("", "address of an OpenAI-compatible server, ending in /v1", resumable=True)
    model: str = option("", "name of the model on the server")
    key: str = option(
        "OPENAI_API_KEY",
        "environment variable with the server's key; the key is never written to a file",
        resumable=True,
    )
    rubric: str = option("detailed", "the judge's instructions: coarse, detailed, or a file with a jinja2 template")
    tell_answer: bool = option(True, "show the judge the right final answer, where it is known")
    temperature: float = option(0.0, "sampling temperature of the judge", least=0)
    answer_tokens: int = option(512, "longest reply, tokens; a judge that thinks before it answers needs more", least=1)
    asks: int = option(
        2,
        "how often a response is put to the judge in total, while its reply is malformed; then its steps earn nothing",
        least=1,
    )
    extra_body: str = option(
        "", "JSON object that is merged into every request to the server, as label.judge.extra_body"
    )
    concurrency: int = option(
        8, "concurrent requests to the server, of each process", least=1, below=1000, resumable=True
    )
    timeout: float = option(60.0, "seconds until a request is abandoned and sent again", above=0, resumable=True)
    retries: int = option(
        3, "how often a request is sent again after an error of the server or the network", least=0, resumable=True
    )
    backoff: float = option(
        1.0, "seconds before the first retry; each later wait is twice as long, up to 60", above=0, resumable=True
    )
    seconds: float = option(
        300.0,
        "longest wait for a round's ratings, from when the devices have scored it; responses without one earn nothing",
        above=0,
        resumable=True,
    )
    price_in: float = option(0.0, "price per million input tokens, in any currency", least=0, resumable=True)
    price_out: float = option(0.0, "price per million output tokens", least=0, resumable=True)
    budget: float = option(
        0.0,
        "money of the whole run; once it is spent nothing more is asked and unrated steps earn nothing; 0: no limit",
        least=0,
        resumable=True,
    )
