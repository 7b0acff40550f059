"""Tables and charts of searches, from made-up figures."""

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from stepjax.measures.search_curves import Pool, search_report
from stepjax.report.charts import Chart, Line, draw
from stepjax.report.measures import measures
from stepjax.report.tables import TABLES, show_measure
from stepjax.workdir.json_file import plain

METHODS, BUDGETS, PRMS = ("best_of_n", "beam"), (1, 4), ("learned", "exact")
COSTS = {"generated": 20.0, "prefilled": 25.0, "computed_again": 0.0, "read": 40.0, "flops": 3e6}


@pytest.fixture(scope="module")
def found() -> dict:
    """As eval.json has it: beam is right at n = 4, best-of-N never."""
    cells = {}
    for method, n, prm in itertools.product(METHODS, BUDGETS, PRMS):
        right = np.full(16, float(method == "beam" and n == 4))
        other = dict.fromkeys(("any_right", "score", "tokens", "steps"), right)
        cells[method, n, prm] = {"right": right} | other | {k: np.full(16, n * v) for k, v in COSTS.items()}
    slots = np.tile([0.9, 0.1, 0.2, 0.3], (16, 2))
    pools = {prm: Pool(slots, (slots < 0.5).astype(float), 160.0) for prm in PRMS}
    report = search_report(cells, pools, reference="best_of_n", rated=["learned"])
    about = {"problems": 16, "split": "test", "stage": "sft", "methods": list(METHODS), "prms": list(PRMS)}
    about |= {"oracles": ["exact"], "scored": list(PRMS)}
    return plain(about | report)


def test_tables_tell_accuracy_cost_and_differences(found, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "240")
    tables = {title: (columns, rows) for title, columns, rows in TABLES["search"](found)}
    _, rows = tables["prm=exact: an oracle run, which knows what is right: 16 test problems from sft"]
    assert rows[-1] == ["beam", "4", "100.0", "100.0 to 100.0", "+100.0", "100.0 to 100.0", "100.0", "1.00"]
    _, rows = tables["Tokens a problem, prm=exact; length and steps of the chosen response"]
    assert rows[-1] == ["beam", "4", "1.0", "1.0", "80", "100", "0", "160", "1.2e+07"]
    _, least = tables["The least n with 90.0 % right, and the tokens written"]
    assert least == [["best_of_n", "–", "–"], ["beam", "4 (80)", "4 (80)"]]
    _, score = tables["The highest score of N whole responses, prm=learned: score and truth"]
    assert score[0] == ["KL, at most", "0.000", "0.193", "0.636", "1.204"]
    assert score[2][-1] == "0.000", "the best score is wrong"
    _, worth = tables["The best method of each level by the mean score, prm=learned, chosen on other problems"]
    assert [row[0] for row in worth] == ["1", "4"] and worth[1][4] == "+100.0"
    show_measure("search", found)
    assert "an oracle run" in capsys.readouterr().out


def test_every_row_is_as_wide_as_its_table(found):
    for title, columns, rows in TABLES["search"](found):
        assert rows and all(len(row) == len(columns) for row in rows), title


def test_the_page_draws_accuracy_against_tokens_and_flops(found):
    (part,) = measures({"search": found})
    assert part.title == "Searches" and len(part.charts) == 2 * len(PRMS) + 1
    words = " ".join(re.findall(r'aria-label="([^"]*)"', "".join(map(str, part.charts))))
    assert "beam: 0.0% at tokens written a problem 20, 100.0% at tokens written a problem 80" in words
    assert "right: 75.0% at ln N − (N − 1)/N 0, 0.0% at ln N − (N − 1)/N 1.204" in words


def test_a_horizontal_axis_may_be_logarithmic_or_of_any_numbers():
    def ticks(**options) -> list[str]:
        figure = ElementTree.fromstring(draw(Chart("t", (Line("a", [(20.5, 0.1), (900.0, 0.2)]),), **options)))
        return [e.text for e in figure.iter("text") if e.get("class") == "tick" and e.get("text-anchor") == "middle"]

    assert ticks(x_scale="log") == ["10", "100", "1000"]
    assert ticks(x_scale="value")[0] == "0" and ticks()[0] == "250", "counts end where they end"
    assert ticks(x_scale="log", x_range=(0, 0)), "zeros have no logarithm: the axis is linear"
