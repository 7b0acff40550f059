"""`stepjax compare`: the tables of several runs, and a page of them."""

import sys
from pathlib import Path

from stepjax.console.progress import say, table
from stepjax.console.terminal import encodable
from stepjax.errors import UserError
from stepjax.options import no_more
from stepjax.report import compare as comparison
from stepjax.report.compare_page import write_comparison


def compare(argv: list[str]) -> None:
    """Prints the tables of the work directories in `argv`; with --html writes the page, too."""
    folders = [Path(a) for a in argv if not a.startswith("-")]
    pages = [a.partition("=")[2] or "compare.html" for a in argv if a.partition("=")[0] == "--html"]
    known = [a for a in argv if a == "--markdown" or a.partition("=")[0] == "--html"]
    no_more([a for a in argv if a.startswith("-") and a not in known], "The options are --markdown and --html=FILE")
    if not folders:
        raise UserError("name the work directories: stepjax compare runs/one0 runs/one1 runs/other0 …")
    rows = comparison.experiments(folders)
    lines, paired = comparison.as_text(comparison.compare(rows)), comparison.differences(rows)
    titles = "mean ± standard deviation over runs", f"differences to {rows[0].name}, by seed: mean [95 % interval]"
    for title, of in zip(titles, (lines, paired), strict=True):
        if "--markdown" in argv and len(of) > 1:
            print(encodable(comparison.as_markdown(of), sys.stdout))
        elif len(of) > 1:
            table(title, of[0], of[1:])
    for line in comparison.unevaluated(rows):
        say(line)
    for page in pages:
        print(write_comparison(rows, Path(page)))
