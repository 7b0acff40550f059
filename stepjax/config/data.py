"""`stepjax data`."""

from dataclasses import dataclass

from stepjax.config.option import option


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
