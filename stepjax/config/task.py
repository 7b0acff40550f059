"""Where problems come from, and how their text becomes tokens."""

from dataclasses import dataclass

from stepjax.config.countdown import CountdownConfig
from stepjax.config.option import option, section
from stepjax.config.register_chain import RegisterChainConfig


@dataclass(frozen=True)
class JsonlOptions:
    """Problems of the user's own, by the first name of task `files`."""

    train: str = option("", "training problems, from anywhere that task.files.train names")
    test: str = option("", "test problems, likewise; empty: a fraction of the training problems is held out")
    held_out: float = option(0.1, "that fraction, chosen by a hash of the problem, where `test` is empty")
    problem: str = option("problem", "field with the problem's text; `a.b` is field b of the object a")
    answer: str = option("answer", "field with the right final answer")
    solution: str = option("solution", "optional field with a worked solution, its steps separated by the separator")
    prompt: str = option("{problem}\n", "template of the policy's prompt")
    answer_prefix: str = option(
        "", "text that precedes the final answer where no mark does (`####`, `\\boxed{}`, `<answer>`)"
    )


@dataclass(frozen=True)
class FilesOptions(JsonlOptions):
    """Problems of the user's own, from where they are."""

    train: str = option(
        "",
        "training problems: a JSONL, .json or .parquet file (JSON also as .gz), a glob, a TFDS folder, a folder laid "
        "out as on the hub, hub:owner/name (@revision and :subset may follow), or several of these, by commas",
    )
    train_split: str = option(
        "", "split of a folder or hub data set, or key of the list in a JSON object; empty: train"
    )
    test_split: str = option("", "the same for `test`; empty: test")
    solution_pattern: str = option(
        "",
        "regular expression that finds the answer in the solution, by its last match (its first group, if it has one), "
        "in place of the field `answer`",
    )


@dataclass(frozen=True)
class MathOptions:
    """MATH and its like: solutions that end in a box, answers in LaTeX."""

    train: str = option("data/math/train.jsonl", "training problems, from anywhere that task.files.train names")
    test: str = option(
        "data/math/test.jsonl", "test problems, likewise: those of MATH, MATH-500 or AIME; empty: a tenth is held out"
    )
    train_split: str = option("", "split of a folder or hub data set; empty: train")
    test_split: str = option("", "the same for `test`; empty: test")
    prompt: str = option("{problem}\n", "template of the policy's prompt")


TASK_NAMES = ("register_chain", "countdown", "gsm8k", "math", "files", "jsonl", "labelled", "guess")
"""The modules of `stepjax.tasks` that have a `TASK`."""


@dataclass(frozen=True)
class TaskOptions:
    name: str = option(
        "register_chain",
        "problem source: register_chain, countdown, gsm8k, math, files (problems of your own), jsonl (its first name), "
        "labelled (the problems of `prm.data`, its right solutions as demonstrations) or guess (a number, for "
        "environment.name=guess)",
    )
    grader: str = option(
        "",
        "grader of your own for final answers: `package.module:name` of a function (response, answer) -> bool, called "
        "in a process of its own; empty: the library's",
    )
    grader_seconds: float = option(10.0, "longest call of that grader; a longer one counts as wrong", above=0)
    grader_processes: int = option(
        1, "processes that call it at a time for a batch of responses", least=1, resumable=True
    )
    answer_pattern: str = option(
        "",
        "regular expression; the first group of its last match is a response's final answer; empty: `####`, "
        '`\\boxed{}`, `<answer>` or a last line "Answer: …"',
    )
    separator: str = option(
        "", "text between two steps, whose line ends may be \\n or \\r\\n in a response; empty: the task's default"
    )
    register_chain: RegisterChainConfig = section(RegisterChainConfig, "options of register_chain")
    countdown: CountdownConfig = section(CountdownConfig, "options of countdown")
    gsm8k: str = option("data/gsm8k", "folder with GSM8K's train.jsonl and test.jsonl")
    gsm8k_steps: int = option(
        0, "gsm8k: most steps of a problem's published solution; 0: problems of any number of steps", least=0
    )
    math: MathOptions = section(MathOptions, "options of math")
    files: FilesOptions = section(FilesOptions, "options of files")
    jsonl: JsonlOptions = section(JsonlOptions, "options of jsonl")


@dataclass(frozen=True)
class TokenizerOptions:
    path: str = option(
        "", "Hugging Face tokenizer (folder, hub name or .gguf file); empty: the task's own, or one trained on it"
    )
    vocab: int = option(1024, "entries of the byte-level BPE tokenizer that is trained where the task has none")
