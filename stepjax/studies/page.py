"""The page of a study: charts under headings, without scripts."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from markupsafe import Markup

from stepjax.errors import UserError
from stepjax.report.charts import Chart, draw


def write_charts(path: Path, heading: str, parts: Sequence[tuple[str, Sequence[Chart]]]) -> Path:
    """Writes the page, each of its parts a heading and charts; UserError where it cannot be written."""
    style = resources.files("stepjax.report").joinpath("page.css").read_text(encoding="utf-8")
    body = Markup("<h1>{}</h1>").format(heading)
    for title, charts in parts:
        drawn = Markup("").join(draw(chart) for chart in charts)
        body += Markup('\n<h2>{}</h2><div class="charts">{}</div>').format(title, drawn)
    head = Markup("<!doctype html><html lang='en'><meta charset='utf-8'><title>{}</title><style>{}</style>")
    page = head.format(heading, Markup(style)) + Markup("<main>{}</main></html>").format(body)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    return path
