#!/usr/bin/env python3
"""Runs a command and draws what it said as an SVG in which each line appears when it was said.

    docs/record.py docs/tour.sh --netns > docs/tour.svg
"""

import subprocess
import sys
import time
from xml.sax.saxutils import escape

COLUMNS = 92
LINE_PX, CHAR_PX, MARGIN_PX = 17, 7.6, 16
# A long silence is shown shorter, and the recording begins anew some time after its end.
LONGEST_GAP_S, REST_S = 3.0, 6.0

STYLE = """
text { font: 12.6px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre; fill: #24292f }
.said { fill: #57606a } .story { fill: #0a6640; font-style: italic } rect { fill: #f6f8fa; stroke: #d0d7de }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .said { fill: #9198a1 } .story { fill: #6fdd9f } rect { fill: #161b22; stroke: #30363d }
}
@media (prefers-reduced-motion: reduce) { text { animation: none !important } }
"""


def record(command):
    """The lines, each with the seconds after the start at which it is to appear."""
    lines, shown_s, last = [], 0.0, time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        now = time.monotonic()
        shown_s += min(now - last, LONGEST_GAP_S)
        last = now
        lines.append((shown_s, line.rstrip("\n")))
    if process.wait() != 0:
        sys.exit("\n".join(line for _, line in lines) + f"\n{command[0]} failed")
    # Nothing above the first line, and one empty line between two.
    kept = [row for at, row in enumerate(lines) if row[1] or (at > 0 and lines[at - 1][1])]
    return kept[1:] if kept and not kept[0][1] else kept


def kind(line):
    """How a line looks: what the story says, what is typed, what is said."""
    if line.startswith("#"):
        return "story"
    return "typed" if "$ " in line.split(" ", 1)[0] + " " else "said"


def draw(lines):
    """The recording as SVG."""
    whole_s = lines[-1][0] + REST_S
    width, height = COLUMNS * CHAR_PX + 2 * MARGIN_PX, len(lines) * LINE_PX + 2 * MARGIN_PX
    frames, rows = [], []
    for number, (at_s, line) in enumerate(lines):
        percent = 100 * at_s / whole_s
        frames.append(f"@keyframes l{number} {{ 0%, {percent:.3f}% {{ opacity: 0 }} {percent + 0.001:.3f}%, 100% {{ opacity: 1 }} }}")
        text = line if len(line) <= COLUMNS else line[: COLUMNS - 1] + "…"
        y = MARGIN_PX + (number + 0.75) * LINE_PX
        rows.append(
            f'<text class="{kind(line)}" x="{MARGIN_PX}" y="{y:.0f}" style="animation: l{number} {whole_s:.1f}s infinite">{escape(text)}</text>'
        )
    box = f'<rect x=".5" y=".5" width="{width - 1:.0f}" height="{height - 1}" rx="8"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">'
    title = "<title>The 60-second tour: an invite, a download across a move, a file</title>"
    return "\n".join([head, title, f"<style>{STYLE}{chr(10).join(frames)}</style>", box, *rows, "</svg>", ""])


sys.stdout.write(draw(record(sys.argv[1:])))
