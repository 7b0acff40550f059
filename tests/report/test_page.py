"""The report: safe with any model text, whole with any part of a run missing, and honest about gaming."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from report.report_fixture import HOSTILE, write_gsm8k, write_held_out, write_workdir

from stepjax.errors import UserError
from stepjax.report.page import write_report
from stepjax.report.read import FILES, read_run
from stepjax.report.text import change, figure, marked, visible
from stepjax.report.verdict import before_after, verdict

VOID = {"meta", "input", "br", "img", "link"}


class Page(HTMLParser):
    """Tags with their attributes, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text, self.script = [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.script += data
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", "".join(self.text))


def report(folder):
    text = write_report(folder).read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    return text, page


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A run of all stages and its report: (folder, text, page)."""
    folder = write_held_out(write_workdir(tmp_path_factory.mktemp("runs") / "chain", iterations=120))
    return folder, *report(folder)


def lines(folder, name, records):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder


# --- the file


def test_report_is_one_self_contained_file(chain):
    folder, text, page = chain
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?://|@import|url\(", text)
    assert not {"link", "iframe", "object", "embed", "base", "form", "img"} & {tag for tag, _ in page.tags}
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json", "eval.json", "metrics.jsonl", "report.html", "responses", "samples.jsonl",
    ]  # fmt: skip
    assert len(text) < 1_000_000


def test_page_allows_only_its_own_script(chain):
    _, _, page = chain
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert sum(tag == "script" for tag, _ in page.tags) == 1


def test_same_files_give_the_same_report(chain):
    folder, text, _ = chain
    assert write_report(folder).read_text(encoding="utf-8") == text


def test_report_holds_every_part_in_order(chain):
    _, _, page = chain
    parts = [
        "chain", "Right answers rose from 42.2% after SFT to 81.6% after PPO on 512 test problems (+39.5 points; the "
        "intervals do not overlap); the share of right answers with a wrong step fell from 29.6% to 11.2%.",
        "PPO: 120 iterations", "19 options differ from the defaults", "rollout.temperature",
        "Before and after", "Held-out problems, before and after", "Right answer with a wrong step 1 → 0", "Curves",
        "Right answers", "Reward: prm", "Reward: outcome", "Reward: length", "Reward: kl", "Tokens a response",
        "by exact rating", "21 more metrics: Distance and speed of the policy", "Distance from the reference",
        "Entropy", "Sampler against learner", "Variance of returns", "Loss of SFT", "Loss of the reward model",
        "Seconds a phase", "Other: PPO · router", "Reward model against exact ratings", "Responses in training",
        "PPO iteration 120", "Options", "rollout.temperature",
    ]  # fmt: skip
    at = 0
    for part in parts:
        at = page.words.index(part, at)
    assert "gaming" not in page.words


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    folder = lines(tmp_path / "run", "metrics.jsonl", [{"step": 1, "stage": "ppo", "true/accuracy": 0.5}])
    (folder / "report.html").write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="No space left"):
        write_report(folder)
    assert [p.name for p in folder.iterdir() if p.name != "metrics.jsonl"] == ["report.html"]
    assert (folder / "report.html").read_text() == "old"


# --- untrusted text


def test_hostile_text_stays_text_in_every_field(tmp_path):
    folder = write_workdir(tmp_path / "run", iterations=30)
    hostile_step = {"text": HOSTILE, "prm": [0.1, 0.2, 0.7], "rewards": {HOSTILE: 1.0}, "advantage": {HOSTILE: -1.0}}
    sample = {
        "step": 3,
        "stage": HOSTILE,
        "problem": HOSTILE,
        "prompt": HOSTILE,
        "answer": HOSTILE,
        "steps": [hostile_step],
    }
    lines(folder, "samples.jsonl", [sample, sample | {"steps": None, "response": HOSTILE}])
    row = {"accuracy": 0.5, HOSTILE: 1.0}
    figures = {"split": HOSTILE, "problems": 3, "rows": {HOSTILE: row, "ppo": row}, "notes": [HOSTILE]}
    (folder / "eval.json").write_text(json.dumps(figures | {"prm": {HOSTILE: {"macro_f1": 0.5}}}))
    (folder / "config.json").write_text(json.dumps({HOSTILE: {HOSTILE: HOSTILE}}))
    metric = {"step": 1, "stage": HOSTILE, HOSTILE: 1.0, "seconds": {HOSTILE: 1.0}}
    lines(folder, "metrics.jsonl", [metric, {"step": 1, "stage": "ppo", f"reward/{HOSTILE}": 2.0}])
    text, page = report(folder)
    assert sum(tag == "script" for tag, _ in page.tags) == 1 and "img" not in {tag for tag, _ in page.tags}
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.words.count("<script>alert('x')</script> \"quoted\" 'single' </style></pre> &amp; {{ 7 * 7 }}") >= 10
    odd = "\x00\x07\x1b\u202e\u202c\u200b\ud800"
    assert not set(odd) & set(text)
    assert not any(set(odd) & set(value or "") for _, attributes in page.tags for value in attributes.values())
    assert "⟨U+202E⟩" in text and "⟨U+D800⟩" in text and "␛" in text


def test_odd_characters_are_spelled_out():
    assert visible("a\u202eb\x00\t\n") == "a⟨U+202E⟩b␀\t\n"
    assert visible("नमस्\u200dते 👩\u200d🚀 שלום") == "नमस्\u200dते 👩\u200d🚀 שלום"  # joiners and scripts stay
    assert str(marked("<b>\u202e")) == '&lt;b&gt;<span class="odd" title="RIGHT-TO-LEFT OVERRIDE">⟨U+202E⟩</span>'
    assert str(marked("abcdef", limit=4)) == 'abcd<span class="odd">… 2 more characters</span>'


# --- incomplete runs


def test_no_work_directory_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(UserError, match="give the work directory"):
            write_report(folder)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("name", FILES)
def test_each_file_alone_makes_a_report(tmp_path, chain, name):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / name).write_bytes((chain[0] / name).read_bytes())
    _, page = report(folder)
    assert ("Nothing has been evaluated yet" in page.words) == (name in ("config.json", "samples.jsonl"))


@pytest.mark.parametrize(
    "content", ["", "[1, 2]", '{"rows": [1], "prm": 3, "notes": {}, "step": "x"}\n', "{" * 9, "[" * 100_000, "\xff"]
)
def test_malformed_files_are_left_out(tmp_path, content, capsys):
    for name in FILES:
        (tmp_path / name).write_bytes(content.encode("latin-1"))
    _, page = report(tmp_path)
    assert "Nothing has been evaluated yet" in page.words
    if content in ("{" * 9, "[" * 100_000):
        assert "eval.json could not be read" in capsys.readouterr().err, "the command says so, too"


def test_values_of_the_wrong_kind_are_left_out(tmp_path):
    folder = lines(
        tmp_path / "run",
        "samples.jsonl",
        [
            {},
            {
                "stage": 3,
                "step": "x",
                "prompt": 5,
                "steps": [3, {"prm": [1, None, 0], "rating": 7, "rewards": {"a": "b"}}],
            },
            {"stage": "ppo", "step": 1, "steps": [{"prm": [0.1], "rewards": [1], "advantage": None, "tokens": "many"}]},
        ],
    )
    row = {"accuracy": "high", "good": True, "bad": float("nan"), "accuracy_interval": [None, 1]}
    rated = {"confusion": [[1, 2], [3, 4]], "f1": 3, "accuracy": None}
    empty = {"confusion": [[0, 0, 0]] * 3}
    figures = {
        "rows": {"sft": row, "ppo": None},
        "prm": {"sft": rated, "ppo": empty},
        "problems": "all",
        "notes": "none",
    }
    (folder / "eval.json").write_text(json.dumps(figures))
    _, page = report(folder)
    assert "3 responses." in page.words and "not rated" not in page.words


def test_a_cut_off_last_line_is_skipped_and_said(tmp_path):
    folder = lines(
        tmp_path / "run", "metrics.jsonl", [{"step": i, "stage": "ppo", "true/accuracy": 0.5} for i in (1, 2)]
    )
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('oops\n{"step": 3, "stage": "ppo", "true/accu')
    run = read_run(folder)
    assert [r["step"] for r in run.metrics] == [1, 2]
    _, page = report(folder)
    assert (
        "the last line is cut off" in page.words and "1 line could not be read and were left out (line 3)" in page.words
    )


def test_a_resumed_run_counts_its_last_word(tmp_path):
    records = [{"step": s, "stage": "ppo", "entropy": e} for s, e in ((1, 0.9), (2, 0.8), (3, 0.7), (2, 0.5), (3, 0.4))]
    records += [{"step": 1, "stage": "sft", "loss": 2.0, "seconds": {"data": {"read": 0.5}}}]
    metrics = read_run(lines(tmp_path / "run", "metrics.jsonl", records)).metrics
    assert [(r["stage"], r["step"], r.get("entropy")) for r in metrics] == [
        ("ppo", 1, 0.9), ("ppo", 2, 0.5), ("ppo", 3, 0.4), ("sft", 1, None),
    ]  # fmt: skip
    assert metrics[-1]["seconds/data/read"] == 0.5


def test_gsm8k_has_neither_trace_error_nor_reward_model(tmp_path):
    _, page = report(write_gsm8k(tmp_path / "run"))
    assert "the intervals overlap); the share of calculations that hold rose from 71.0% to 89.0%." in page.words
    assert "trace error" not in page.words and "Reward model against" not in page.words
    assert "Steps with a calculation, and calculations that hold" in page.words and "gaming" not in page.words


# --- what the figures say


def test_verdict_claims_no_more_than_the_figures():
    assert verdict([], {}) == "Nothing has been evaluated yet, so there is no figure before and after."
    one = {"rows": {"sft": {"accuracy": 0.5}}}
    assert verdict([], one) == "50.0% of answers are right after SFT."
    same = {"problems": 10, "rows": {"ppo": {"accuracy": 0.5}, "sft": {"accuracy": 0.5}}}
    assert verdict([], same) == "Right answers stayed at 50.0% after SFT and after PPO on 10 problems (no change)."
    metrics = [{"step": s, "stage": "ppo", "true/accuracy": a} for s, a in ((1, 0.5), (2, None), (3, 0.25))]
    assert "fell from 50.0% at PPO iteration 1 to 25.0% at iteration 3" in verdict(metrics, {})


def test_table_says_better_only_where_it_is():
    rows = {
        "ppo": {"accuracy": 0.52, "accuracy_interval": [0.48, 0.56], "bad": 0.3, "tokens": 50, "extra_thing": 2.5},
        "sft": {"accuracy": 0.5, "accuracy_interval": [0.46, 0.54], "bad": 0.2, "tokens": 40},
    }
    table = before_after({"rows": rows})
    assert table is not None and table.stages == ["SFT", "PPO"] and table.compared == "SFT → PPO"
    said = {row.name: (row.change, row.trend) for row in table.rows}
    assert said == {
        "Right answers": ("+2.0 points, intervals overlap", ""),
        "Bad steps": ("+10.0 points", "worse"),
        "Tokens a response": ("+10", ""),
        "extra thing": ("", ""),
    }
    assert before_after({}) is None


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"truncated": 1 / 512}, ("+0.2 points, intervals overlap", "")),
        ({"truncated": 16 / 512}, ("+3.1 points", "worse")),
        ({"truncated": 1 / 512, "truncated_interval": [0.001, 0.003]}, ("+0.2 points, intervals overlap", "")),
        ({"truncated": 0.0}, ("no change", "")),
        ({"self_auc": 0.6}, ("+0.1", "")),
        ({"self_auc": 0.6, "self_auc_interval": [0.59, 0.61]}, ("+0.1", "better")),
    ],
)
def test_table_marks_no_change_within_noise(after, said):
    """Without intervals, as earlier versions wrote the file, the number of problems bounds the noise of a share."""
    before = {"truncated": 0.0, "self_auc": 0.5, "self_auc_interval": [0.49, 0.51]}
    before = {name: value for name, value in before.items() if name.removesuffix("_interval") in after}
    table = before_after({"problems": 512, "rows": {"sft": before, "ppo": after}})
    assert table is not None and [(row.change, row.trend) for row in table.rows] == [said]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.5833, "share", "58.3%"), (-0.0, "", "0"), (0.0, "share", "0.0%"), (12345.6, "", "12,346"),
     (-2.5e-5, "", "−2.5e−5"),
     (0.0583, "", "0.0583"), (42.25, "", "42.2"), (3.0, "", "3"), (1e9, "", "1.0e9"), (100.0, "", "100")],
)  # fmt: skip
def test_figures_as_words(value, unit, text):
    assert figure(value, unit) == text


def test_changes_as_words():
    assert change(0.5, 0.4, "share") == "−10.0 points"
    assert change(0.5, 0.5001, "share") == "no change"
    assert change(1, 3) == "+2"


def test_a_gamed_run_is_warned_of(tmp_path):
    _, page = report(write_workdir(tmp_path / "run", gamed=True))
    assert "The policy may be hacking the reward" in page.words
    assert "The reward “prm” rose" in page.words
