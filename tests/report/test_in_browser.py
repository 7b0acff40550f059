"""The report and the comparison as Chromium draws them: nothing wider than the screen, no text too faint to read."""

import json
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from report.report_fixture import write_comparison_of_two, write_held_out, write_outcome_only, write_workdir

from stepjax.report.page import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]
CONTRAST = 4.5  # WCAG 2.2, AA, of text below 24 px
WIDTHS = (1280, 390)
HEIGHT = 1500

# Runs in the page: opens what is folded, then measures. A text's background is what its ancestors paint, one over the
# other; where one of them paints a picture (a gradient), its text is not measured.
PROBE = """
<script>
addEventListener("load", () => {
  const parts = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
  const over = (top, below) => {
    const alpha = top.length > 3 ? top[3] : 1;
    return below.map((c, i) => alpha * top[i] + (1 - alpha) * c);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const page = matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  const faint = [];
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const style = getComputedStyle(element);
    if (!node.data.trim() || !element.getClientRects().length || style.visibility === "hidden") continue;
    if (element.closest("script, style, [aria-hidden=true], .unseen")) continue;
    const chain = [];
    for (let at = element; at; at = at.parentElement) chain.unshift(getComputedStyle(at));
    if (chain.some((of) => of.backgroundImage !== "none")) continue;
    let ground = page;
    let alpha = 1;
    for (const of of chain) {
      ground = over(parts(of.backgroundColor).length ? parts(of.backgroundColor) : [0, 0, 0, 0], ground);
      alpha *= Number(of.opacity);
    }
    const color = parts(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const ratio = contrast(over([...color.slice(0, 3), alpha * (color.length > 3 ? color[3] : 1)], ground), ground);
    texts += 1;
    if (ratio < CONTRAST) faint.push(ratio.toFixed(2) + " " + node.data.trim().slice(0, 40) + " ." + element.className);
  }
  const wide = [...document.querySelectorAll("body *")]
    .filter((of) => of.getBoundingClientRect().right > innerWidth + 1 && !of.closest(".scroll, .charts, .text, svg"))
    .map((of) => of.tagName + "." + of.className);
  const found = { width: innerWidth, page: document.documentElement.scrollWidth, texts, faint, wide };
  parent.postMessage(JSON.stringify(found), "*");
});
</script>
"""


# Chooses filters as a reader does, and counts what is left: of the script's words, and of what can be seen.
CHOICES = """
<script>
addEventListener("load", () => {
  const choose = (...ids) => {
    for (const id of ids) document.querySelector(`[for="${id}"]`).click();
    const seen = (name) => [...document.querySelectorAll(name)].filter((card) => card.offsetParent);
    const told = [...document.querySelectorAll("[data-counts]")].map((of) => of.textContent);
    return { pairs: seen(".pair").map((of) => of.className), samples: seen(".sample").map((of) => of.className), told };
  };
  const found = {
    plain: choose("held-all"),
    wrong: choose("held-wrong"),
    after: choose("in-after"),
    logged: choose("logged-disagrees"),
  };
  parent.postMessage(JSON.stringify(found), "*");
});
</script>
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages that are looked at, by name."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "whole": write_report(write_held_out(write_workdir(folder / "whole", gamed=True))),
        "outcome": write_report(write_outcome_only(folder / "outcome")),
        "comparison": write_comparison_of_two(folder),
    }


def chromium(page: Path, *options: str, dark: bool) -> str:
    """Runs Chromium on a page until it is quiet; what it prints."""
    assert CHROMIUM is not None
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    profile = page.parent / "profile"
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={profile}",
    ]
    command += [*scheme, "--virtual-time-budget=5000", *options, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout


def framed(page: Path, folder: Path, width: int, head: str = "") -> Path:
    """A page that shows a copy of the report in a frame of that width: a window cannot be as narrow as a telephone."""
    copy, frame = folder / "copy.html", folder / "frame.html"
    text = page.read_text(encoding="utf-8")
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    assert policy.search(text)
    copy.write_text(policy.sub("", text).replace("</head>", f"{head}</head>", 1), encoding="utf-8")
    frame.write_text(
        "<!doctype html><meta name='color-scheme' content='light dark'><body style='margin:0'><pre id=found></pre>"
        "<script>onmessage = (told) => { document.getElementById('found').textContent = told.data; };</script>"
        f"<iframe src='copy.html' style='border:0;display:block;width:{width}px;height:{HEIGHT}px'></iframe>"
    )
    return frame


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["whole", "outcome", "comparison"])
def test_it_fits_the_screen_and_can_be_read(pages, tmp_path, name, width, dark):
    probe = PROBE.replace("CONTRAST", str(CONTRAST))
    dom = chromium(framed(pages[name], tmp_path, width, probe), "--dump-dom", dark=dark)
    found = json.loads(re.search(r"<pre id=\"found\">(.*?)</pre>", dom, re.S)[1].replace("&gt;", ">"))
    assert found["width"] == width and found["texts"] > 100
    assert found["page"] <= width, found["wide"][:8]
    assert not found["wide"]
    assert not found["faint"], "\n".join(found["faint"][:20])


def test_filters_leave_what_they_name(pages, tmp_path):
    dom = chromium(framed(pages["whole"], tmp_path, 1280, CHOICES), "--dump-dom", dark=False)
    found = json.loads(re.search(r"<pre id=\"found\">(.*?)</pre>", dom, re.S)[1].replace("&gt;", ">"))
    cards = re.findall(r'<article class="(card pair[^"]*)">', pages["whole"].read_text(encoding="utf-8"))
    assert found["plain"]["pairs"] == [card for card in cards if "extra" not in card.split()]
    assert found["plain"]["told"][0] == "" and len(found["plain"]["samples"]) == 8, "one iteration"
    wrong = [card for card in cards if {"before-wrong", "after-wrong"} & set(card.split())]
    assert found["wrong"]["pairs"] == wrong and found["wrong"]["told"][0] == f"{len(wrong)} shown"
    assert found["after"]["pairs"] == [card for card in cards if "after-wrong" in card.split()] != wrong
    samples = found["logged"]["samples"]
    assert len(samples) > 8 and all("is-disagrees" in card.split() for card in samples), "of all iterations"


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_a_picture_of_it_is_not_empty(pages, tmp_path, width, dark):
    picture = tmp_path / "page.png"
    frame = framed(pages["whole"], tmp_path, width)
    chromium(frame, f"--screenshot={picture}", f"--window-size=1280,{HEIGHT}", dark=dark)
    content = picture.read_bytes()
    assert struct.unpack(">II", content[16:24]) == (1280, HEIGHT)
    assert len(content) > 40_000, "a blank page is smaller"


def test_a_text_that_is_too_faint_would_be_seen(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<!doctype html><html><head><meta http-equiv="Content-Security-Policy" content="default-src *"></head>'
        '<body style="background:#fff"><p style="color:#999">faint</p><p style="color:#333">plain</p>'
        '<p style="width:900px;background:#eee;color:#333">wide</p></body></html>'
    )
    frame = framed(page, tmp_path, 390, PROBE.replace("CONTRAST", str(CONTRAST)))
    dom = chromium(frame, "--dump-dom", dark=False)
    found = json.loads(re.search(r"<pre id=\"found\">(.*?)</pre>", dom, re.S)[1])
    assert [line.split()[1] for line in found["faint"]] == ["faint"]
    assert found["page"] > 390 and found["wide"]
