"""Looks at the page of a run in a real browser: python tests/browser/check_page.py [PAGE] [--shots FOLDER].

At widths from phone to desktop, in light and in dark: nothing is said on the console, nothing is asked of a network, there is
no script, page and tables are no wider than their window, the page is no taller than a reader would scroll, every text can be
told from what is behind it (WCAG AA), and texts of charts lie within their chart and beside each other.
Without a page: one with hostile text in every place that quotes people.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from devtools import Page, browser, find_browser

from cesrec_core.local_java import as_root

# A phone, the same on its side, the widest at which tables are paragraphs, the narrowest at which they are not, a desktop.
WIDTHS = (390, 844, 1120, 1121, 1280)
SCHEMES = ("light", "dark")
MIN_HEIGHT, MAX_HEIGHT = 1500, 16_000
# Texts and the first background behind them, by the formula of WCAG 2; large text may do with less.
LOW_CONTRAST = """
(() => {
  const parse = text => {
    const numbers = text.match(/[\\d.]+/g).map(Number);
    return {rgb: numbers.slice(0, 3), alpha: numbers.length > 3 ? numbers[3] : 1};
  };
  const light = rgb => rgb.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const paper = parse(getComputedStyle(e).backgroundColor);
      if (paper.alpha === 1) return paper.rgb;
    }
    return [255, 255, 255];
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest(".hidden, svg title")) continue;
    const style = getComputedStyle(element);
    const ink = parse(element.closest("svg") ? style.fill : style.color).rgb;
    const [a, b] = [light(ink), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.5 && style.fontWeight >= 600) ? 3 : 4.5;
    if (ratio < needed) low.push(`${ratio.toFixed(1)}: ${node.data.trim().slice(0, 40)}`);
  }
  return low;
})()
"""

# Half a pixel is lost to rounding and to the room that fonts keep around letters; lines of text may touch.
MISPLACED_IN_CHARTS = """
(() => {
  const slack = 1.5, misplaced = [];
  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map(e => ({words: e.textContent, box: e.getBoundingClientRect()}));
    const chart = svg.querySelector(":scope > title")?.textContent ?? svg.getAttribute("class");
    texts.forEach(({words, box}, number) => {
      if (box.left < frame.left - slack || box.right > frame.right + slack
          || box.top < frame.top - slack || box.bottom > frame.bottom + slack)
        misplaced.push(`"${words.slice(0, 40)}" reaches out of its chart (${chart})`);
      for (const other of texts.slice(number + 1)) {
        const across = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
        const down = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
        if (across > slack && down > slack)
          misplaced.push(`"${words.slice(0, 40)}" overlaps "${other.words.slice(0, 40)}" (${chart})`);
      }
    });
  }
  return misplaced;
})()
"""
# Tables scroll for themselves, which the width of the page does not tell, and nobody looks for what is cut off.
CUT_OFF = """
[...document.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth + 1)
  .map(e => `the table ${e.getAttribute("aria-label")} shows ${e.clientWidth} of ${e.scrollWidth} px`)
"""
# Elements that run something, and attributes and links that would.
SCRIPTS = """
[...document.querySelectorAll("*")].filter(e => ["SCRIPT", "IFRAME", "OBJECT", "EMBED"].includes(e.tagName.toUpperCase())
  || [...e.attributes].some(a => a.name.startsWith("on") || /^\\s*javascript:/i.test(a.value)))
  .map(e => e.outerHTML.slice(0, 60))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", nargs="?", type=Path)
    parser.add_argument("--shots", type=Path, help="keep screenshots here")
    arguments = parser.parse_args()
    path = find_browser() or install()
    if path is None:
        print("There is no Chromium. Install it: sudo apt-get install -y chromium", file=sys.stderr)
        return 1
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder, browser(path) as page:
        file = arguments.page or sample(Path(folder) / "page.html")
        for width in WIDTHS:
            for scheme in SCHEMES:
                page.open(file.resolve().as_uri(), width, scheme)
                found = [f"{width} px, {scheme}: {fault}" for fault in faults_of(page, width)]
                print(f"{width} px, {scheme}: {'ok' if not found else f'{len(found)} faults'}")
                faults += found
                if arguments.shots is not None:
                    arguments.shots.mkdir(parents=True, exist_ok=True)
                    page.photograph(arguments.shots / f"{file.stem}-{width}-{scheme}.png")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def faults_of(page: Page, width: int) -> Iterator[str]:
    """What is wrong with the page that is open."""
    for entry in page.happened("Log.entryAdded"):
        yield f"the browser complains: {entry['entry']['text']}"
    for kind in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
        yield from (f"{kind}: {event}" for event in page.happened(kind))
    # The first request is for the page itself.
    for request in page.happened("Network.requestWillBeSent")[1:]:
        yield f"it asks for {request['request']['url']}"
    wide = page.evaluate("document.documentElement.scrollWidth")
    if wide > width:
        yield f"it is {wide} px wide"
    tall = page.evaluate("document.documentElement.scrollHeight")
    if not MIN_HEIGHT <= tall <= MAX_HEIGHT:
        yield f"it is {tall} px tall"
    yield from (f"it holds a script: {element}" for element in page.evaluate(SCRIPTS))
    yield from page.evaluate(CUT_OFF)
    yield from page.evaluate(MISPLACED_IN_CHARTS)
    yield from (f"contrast {text}" for text in page.evaluate(LOW_CONTRAST))


def sample(file: Path) -> Path:
    from report_values import good_night

    from cesrec_core.report.page import render

    file.write_text(render(good_night()), encoding="utf-8")
    return file


def install() -> str | None:
    """Chromium from the distribution, where there is apt-get and this user may."""
    root = as_root()
    if root is None:
        return None
    for command in (["update", "-qq"], ["install", "-y", "-qq", "chromium"]):
        try:
            subprocess.run([*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *command], check=False)
        except FileNotFoundError:
            return None
    return find_browser()


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1] / "unit"))
    sys.exit(main())
