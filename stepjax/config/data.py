"""`stepjax data`."""

from dataclasses import dataclass

from stepjax.config.option import option


@dataclass(frozen=True)
class DataOptions:
    """`stepjax data`: convert step-labelled files of a public format to one dataset."""

    source: str = option(
        "",
        "format of the files: prm800k, math_shepherd, omegaprm, trl, processbench, prmbench, gsm8k, math or records "
        "(stepjax's own JSONL)",
        resumable=True,
    )
    path: str = option(
        "",
        "a file, or a folder whose .jsonl, .json (also .gz) and .parquet files are read; files with test or valid in "
        "their names become these splits",
        resumable=True,
    )
    out: str = option(
        "", "the TFDS folder to write, or a file ending in .jsonl; empty: only print statistics", resumable=True
    )
    shards: int = option(8, "files per split", least=1, below=10_000, resumable=True)
    held_out: float = option(
        0.0,
        "fraction of the problems of train, chosen by hash, that becomes the split valid",
        least=0,
        below=1,
        resumable=True,
    )
    overwrite: bool = option(False, "replace a dataset that is already at `out`", resumable=True)
    skip_bad: str = option(
        "",
        "file to which malformed rows are written (one JSON object per row); empty: stop at the first one",
        resumable=True,
    )
    tokenizer: str = option(
        "", "Hugging Face tokenizer for statistics in tokens; empty: statistics in characters only", resumable=True
    )
    neutral: str = option(
        "own",
        "what a neutral rating becomes: own (a class of its own), good, bad or unlabelled",
        choices=("own", "good", "bad", "unlabelled"),
        resumable=True,
    )
    leave_out: tuple[str, ...] = option(
        (),
        "PRM800K rows and completions to drop, which are counted: screening, quality_control, flagged, or how the "
        "labelling ended (give_up, bad_problem, found_error, solution)",
        resumable=True,
    )
    alternatives: bool = option(
        True,
        "PRM800K: each completion that was not chosen becomes a solution of its own, after the steps chosen so far",
        resumable=True,
    )
    shared_labels: str = option(
        "once",
        "where solutions share their first steps: once (each label is kept in one record) or all (in every record)",
        choices=("once", "all"),
        resumable=True,
    )
    human: str = option(
        "unlabelled",
        "PRM800K steps written by an annotator, which have no rating: unlabelled, good, or cut (the solution ends "
        "before them)",
        choices=("unlabelled", "good", "cut"),
        resumable=True,
    )
    originals: bool = option(
        True, "PRMBench: also keep the solutions without planted errors, each once", resumable=True
    )
    useless: str = option(
        "bad",
        "PRMBench's redundant and circular steps, which are true but useless: bad (as in the benchmark) or neutral",
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
        "what the labels of trl mean: step, prefix or value; empty: step",
        choices=("", "step", "prefix", "value"),
        resumable=True,
    )
