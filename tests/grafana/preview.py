#!/usr/bin/env python3
"""Draws a dashboard with the data of a Prometheus: a preview for who changes the dashboards, for
there is no Grafana on the machines that test them. It knows what these dashboards use, no more.

    preview.py PROMETHEUS DASHBOARD OUTPUT [--at SECONDS] [--range SECONDS] [--width PIXELS] [--height PIXELS]
               [--scrape SECONDS] [--instance INSTANCE] [--unit UNIT]

PROMETHEUS is its address, which scrapes every 15 or so many seconds, DASHBOARD the JSON file, OUTPUT a .html
or a .png; the latter needs Chromium.
Without a height the picture holds the whole dashboard.
"""

import argparse
import html
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dashboards import Prometheus, load, span

CELL, GAP, TOP = 38, 8, 62
INK, DIM, LINES = "#ccccdc", "#8e8e99", "#2c3235"
PALETTE = ["#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00", "#999999"]
CHROMIUM = (
    "chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
)
CHROMIUM += " --disable-component-update --disable-sync --hide-scrollbars"
STYLE = f"""
  body {{ margin: 0; background: #111217; color: {INK}; font: 13px/1.35 "DejaVu Sans", sans-serif }}
  header {{ padding: 6px 12px; height: 50px; box-sizing: border-box; border-bottom: 1px solid {LINES} }}
  header b {{ font-size: 15px }} header em {{ float: right; color: #E69F00; font-style: normal }} header span {{ color: {DIM} }}
  section {{ position: absolute; background: #181b1f; border: 1px solid {LINES}; border-radius: 3px; overflow: hidden }}
  h2 {{ margin: 0; padding: 6px 8px 2px; font-size: 13px; font-weight: 600; height: 20px; white-space: nowrap }}
  .row {{ background: none; border: none; font-weight: 600; padding: 8px 4px }}
  .stats {{ display: flex; height: calc(100% - 34px); padding: 4px; gap: 4px }}
  .stat {{ flex: 1; display: flex; flex-direction: column; align-items: center; justify-content: center; border-radius: 3px; text-align: center }}
  .stat b {{ font-weight: 600 }} .stat small {{ opacity: .85 }}
  table {{ border-collapse: collapse; width: 100%; table-layout: fixed; font-size: 12px }}
  th, td {{ box-sizing: border-box; padding: 5px 6px; text-align: left; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; border-bottom: 1px solid {LINES} }}
  th {{ color: #6e9fff; font-weight: 600 }} td.link {{ color: #6e9fff }}
  .empty {{ color: {DIM}; text-align: center; padding-top: 24px }}
  .chart {{ display: flex }} .legend {{ width: 210px; font-size: 11px; padding: 2px 6px; overflow: hidden }} .legend div {{ white-space: nowrap }}
  i {{ display: inline-block; width: 9px; height: 9px; margin-right: 5px; border-radius: 2px }}
  svg text {{ font-size: 11px; fill: {INK} }} .text {{ padding: 0 10px; font-size: 12px }} code {{ background: #22252b; padding: 1px 4px }}
"""


def esc(text):
    return html.escape(str(text))


class Look:
    """How the values of one field are shown: its defaults and overrides."""

    def __init__(self, panel, *names):
        config = panel["fieldConfig"]
        self.properties = dict(config["defaults"])
        self.custom = dict(self.properties.get("custom", {}))
        for override in config["overrides"]:
            if override["matcher"]["options"] in names:
                for each in override["properties"]:
                    if each["id"].startswith("custom."):
                        self.custom[each["id"].removeprefix("custom.")] = each["value"]
                    else:
                        self.properties[each["id"]] = each["value"]

    def show(self, value, now):
        """The text and the colour of a value; the latter is None where neither mapping nor threshold tells."""
        color = None
        number = as_number(value)
        if number is not None and self.properties["color"]["mode"] == "thresholds":
            for step in self.properties["thresholds"]["steps"]:
                if step["value"] is None or number >= step["value"]:
                    color = step["color"]
        for mapping in self.properties.get("mappings", []):
            options = mapping["options"]
            if mapping["type"] == "special":
                result = options["result"] if number is None and not value else None
            else:
                key = f"{number:g}" if number is not None and str(value) not in options else str(value)
                result = options.get(key)
            if result:
                return result["text"], result.get("color", color)
        return self.format(value, number, now), color

    def format(self, value, number, now):
        if number is None:
            return "" if value is None else str(value)
        unit, decimals = self.properties["unit"], self.properties.get("decimals")
        if unit == "dateTimeFromNow":
            return ago(now - number / 1000)
        if unit == "percentunit":
            return f"{100 * number:.{1 if decimals is None else decimals}f}%"
        if unit == "bytes":
            for word in ("B", "KiB", "MiB", "GiB", "TiB"):
                if number < 1024 or word == "TiB":
                    return f"{number:.3g} {word}"
                number /= 1024
        if unit == "s":
            return (
                f"{number:.3g} s"
                if number >= 1
                else f"{1000 * number:.3g} ms"
                if number >= 1e-3
                else f"{1e6 * number:.3g} µs"
            )
        return f"{number:.{decimals}f}" if decimals is not None else f"{number:.4g}"


def as_number(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def rank(value):
    """By number, then by text."""
    number = as_number(value)
    return (number or 0, str(value) if number is None else "")


def ago(seconds):
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "a few seconds ago"


def legend(target, labels):
    text = target["legendFormat"]
    if text == "__auto":
        return next(iter(labels.values()), "Value")
    for label in set(labels) | {word.split("}}")[0] for word in text.split("{{")[1:]}:
        text = text.replace("{{" + label + "}}", labels.get(label, ""))
    return text.strip()


def rows_of(panel, answers):
    """The rows of a table, after the transformations of the panel."""
    frames = []
    told = [answer for answer in answers if answer[1]]
    for target, series in told:
        value = "Value" if len(told) == 1 else f"Value #{target['refId']}"
        frames.append([labels | {"Time": "", value: samples[-1][1]} for labels, samples in series])
    rows = [row for frame in frames for row in frame]
    columns = {}
    for step in panel.get("transformations", []):
        options = step["options"]
        if step["id"] == "merge":
            rows = merge(frames)
        elif step["id"] == "groupingToMatrix":
            row_field, column = options["rowField"], options["columnField"]
            matrix = {}
            for row in rows:
                key = f"{row_field}\\{column}"
                matrix.setdefault(row[row_field], {key: row[row_field]})[row[column]] = row[options["valueField"]]
            rows = list(matrix.values())
        elif step["id"] == "sortBy":
            sort = options["sort"][0]
            rows.sort(key=lambda row: rank(row.get(sort["field"])), reverse=sort["desc"])
        elif step["id"] == "filterFieldsByName":
            rows = [{name: row[name] for name in row if name in options["include"]["names"]} for row in rows]
        elif step["id"] == "organize":
            columns = {name: options["renameByName"].get(name, name) for name in options["indexByName"]}
        else:
            raise ValueError(f"no such transformation here: {step['id']}")
    return rows, {name: title for name, title in columns.items() if any(name in row for row in rows)}


def merge(frames):
    """Rows of several frames in one where what they share is equal."""
    frames = [frame for frame in frames if frame]
    shared = set.intersection(*(set(row) for frame in frames for row in frame)) if frames else set()
    merged = {}
    for frame in frames:
        for row in frame:
            key = tuple(sorted((name, row[name]) for name in shared))
            merged[key] = merged.get(key, {}) | row
    return list(merged.values())


class Page:
    def __init__(self, prometheus, dashboard, at, seconds, given, scrape=15):
        self.prometheus, self.dashboard, self.at, self.seconds = prometheus, dashboard, at, seconds
        self.chosen = prometheus.choose(dashboard, at, given)
        self.scrape, self.step = scrape, max(scrape, seconds // 300)

    def draw(self, width):
        sections = []
        column = width / 24
        bottom = 0
        for panel in self.dashboard["panels"]:
            grid = panel["gridPos"]
            x, y = grid["x"] * column + GAP / 2, TOP + grid["y"] * CELL
            w, h = grid["w"] * column - GAP, grid["h"] * CELL - GAP
            bottom = max(bottom, y + h + GAP)
            if panel["type"] == "row":
                body, kind = esc(panel["title"]), "row"
            else:
                body, kind = f"<h2>{esc(panel['title'])}</h2>" + self.body(panel, w, h), "panel"
            place = f"left: {x:.0f}px; top: {y:.0f}px; width: {w:.0f}px; height: {h:.0f}px"
            sections.append(f'<section class="{kind}" style="{place}">{body}</section>')
        variables = " · ".join(
            f"{name}: {', '.join(values)}" for name, values in self.chosen.items() if name != "runbook"
        )
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.at))
        head = f"<em>Preview by tests/grafana/preview.py — not Grafana</em><b>{esc(self.dashboard['title'])}</b>"
        head += f"<br><span>{esc(variables)} · {self.seconds // 60} minutes until {when}</span>"
        page = f"<!doctype html><meta charset=utf-8><title>Preview</title><style>{STYLE}</style><header>{head}</header>"
        return page + "".join(sections), int(bottom)

    def body(self, panel, w, h):
        if panel["type"] == "text":
            text = panel["options"]["content"]
            for name, values in self.chosen.items():
                text = text.replace(f"${name}", ",".join(values))
            lines = [part.strip("`") for part in text.split("\n\n")]
            return '<div class="text">' + "".join(f"<p><code>{esc(line)}</code>" for line in lines) + "</div>"
        answers = [
            (target, self.prometheus.run(target, self.chosen, self.at, self.seconds, self.step, self.scrape)[0])
            for target in panel["targets"]
        ]
        if not any(series for _, series in answers) and panel["type"] != "stat":
            return f'<div class="empty">{esc(panel["fieldConfig"]["defaults"].get("noValue", "No data"))}</div>'
        return getattr(self, panel["type"].replace("-", "_"))(panel, answers, w, h)

    def stat(self, panel, answers, w, h):
        tiles = []
        mode, background = panel["options"]["textMode"], panel["options"]["colorMode"] == "background"
        found = [(legend(target, labels), samples[-1][1]) for target, series in answers for labels, samples in series]
        for name, value in found or [("", None)]:
            look = Look(panel, name)
            text, color = look.show(value, self.at)
            if value is None:
                text, color = (
                    panel["fieldConfig"]["defaults"]["noValue"],
                    look.properties["thresholds"]["steps"][0]["color"],
                )
            if mode == "name" and value is not None:
                text = name
            small = name if mode == "value_and_name" or (mode == "auto" and len(found) > 1) else ""
            size = max(13, min(34, w / len(found or [1]) / max(4, len(text)) * 1.5))
            style = f"background: {color}; color: {contrast(color)}" if background and color else ""
            tiles.append(
                f'<div class="stat" style="{style}"><b style="font-size: {size:.0f}px">{esc(text)}</b><small>{esc(small)}</small></div>'
            )
        return f'<div class="stats">{"".join(tiles)}</div>'

    def table(self, panel, answers, w, h):
        rows, columns = rows_of(panel, answers)
        looks = {name: Look(panel, title, name) for name, title in columns.items()}
        shown = [name for name in columns if not looks[name].custom.get("hidden")]
        head = "".join(
            f'<th style="width: {looks[name].custom.get("width", "auto")}px">{esc(columns[name])}</th>'
            for name in shown
        )
        body = []
        for row in rows[: int(h / 28) + 1]:
            cells = []
            for name in shown:
                text, color = looks[name].show(row.get(name), self.at)
                colored = looks[name].custom.get("cellOptions", {}).get("type") == "color-background" and color
                style = f' style="background: {color}; color: {contrast(color)}"' if colored else ""
                linked = ' class="link"' if looks[name].properties.get("links") and not colored else ""
                cells.append(f"<td{linked}{style}>{esc(text)}</td>")
            body.append(f"<tr>{''.join(cells)}</tr>")
        return f"<table><tr>{head}</tr>{''.join(body)}</table>"

    def state_timeline(self, panel, answers, w, h):
        series = [(legend(target, labels), samples) for target, found in answers for labels, samples in found]
        left, tall = (
            min(0.45 * w, 12 + 7 * max(len(name) for name, _ in series)),
            min(26, (h - 50) / max(1, len(series))),
        )
        scale = (w - left - 16) / self.seconds
        start, look = self.at - self.seconds, Look(panel)
        gap = panel["fieldConfig"]["defaults"]["custom"]["insertNulls"] / 1000
        shapes, texts = [], {}
        for index, (name, samples) in enumerate(series):
            y = 4 + index * tall
            shapes.append(f'<text x="{left - 6}" y="{y + tall * 0.65:.0f}" text-anchor="end">{esc(name)}</text>')
            for begin, end, value in spans(samples, max(gap, 2 * self.step), self.at):
                text, color = look.show(value, self.at)
                texts[text] = color
                x, wide = left + (begin - start) * scale, max(1, (end - begin) * scale)
                shapes.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall * 0.85:.1f}" fill="{color}"/>'
                )
                if wide > 7 * len(text):
                    shapes.append(
                        f'<text x="{x + 4:.1f}" y="{y + tall * 0.65:.0f}" style="fill: {contrast(color)}">{esc(text)}</text>'
                    )
        key = " &nbsp; ".join(
            f'<span><i style="background: {color}"></i>{esc(text)}</span>' for text, color in texts.items()
        )
        return f'<svg width="{w:.0f}" height="{h - 54:.0f}">{"".join(shapes)}</svg><div class="legend" style="width: auto">{key}</div>'

    def timeseries(self, panel, answers, w, h):
        series = [
            (legend(target, labels), [(t, float(v)) for t, v in samples])
            for target, found in answers
            for labels, samples in found
        ]
        custom = panel["fieldConfig"]["defaults"]["custom"]
        stacked = custom["stacking"]["mode"] == "normal"
        width, height = w - 230, h - 60
        start = self.at - self.seconds
        below, drawn = {}, []
        for index, (name, samples) in enumerate(series):
            look = Look(panel, name)
            color = look.properties["color"].get("fixedColor") or PALETTE[index % len(PALETTE)]
            points = []
            for moment, value in samples:
                base = below.get(moment, 0) if stacked else 0
                below[moment] = base + value
                points.append((moment, base, base + value))
            drawn.append((name, color, points, look))
        highest = max((top for _, _, points, _ in drawn for _, _, top in points), default=0) or 1

        def place(moment, value):
            return f"{50 + (moment - start) / self.seconds * (width - 60):.1f},{8 + (1 - value / highest) * (height - 20):.1f}"

        look = Look(panel)
        shapes = [
            f'<text x="46" y="{12 + part * (height - 20):.0f}" text-anchor="end">{esc(look.format(0, highest * (1 - part), self.at))}</text>'
            f'<line x1="50" x2="{width - 10}" y1="{8 + part * (height - 20):.0f}" y2="{8 + part * (height - 20):.0f}" stroke="{LINES}"/>'
            for part in (0, 0.5, 1)
        ]
        keys = []
        for name, color, points, look in drawn:
            for piece in pieces(points, 3 * self.step):
                line = " ".join(place(moment, top) for moment, _, top in piece)
                if stacked or custom["drawStyle"] == "bars":
                    back = " ".join(place(moment, base) for moment, base, _ in reversed(piece))
                    shapes.append(f'<polygon points="{line} {back}" fill="{color}" fill-opacity=".6"/>')
                shapes.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.5"/>')
            last = points[-1][2] - points[-1][1]
            keys.append(
                f'<div><i style="background: {color}"></i>{esc(name)} — {esc(look.format(last, last, self.at))}</div>'
            )
        return f'<div class="chart"><svg width="{width:.0f}" height="{height:.0f}">{"".join(shapes)}</svg><div class="legend">{"".join(keys)}</div></div>'


def spans(samples, gap, until):
    """From when to when a series had which value."""
    result = []
    for index, (moment, value) in enumerate(samples):
        following = samples[index + 1][0] if index + 1 < len(samples) else until
        end = following if following - moment <= gap else moment + gap / 2
        if result and result[-1][2] == value and result[-1][1] >= moment:
            result[-1][1] = end
        else:
            result.append([moment, end, value])
    return result


def pieces(points, gap):
    """A line where samples follow each other, another one after a gap."""
    result = []
    for point in points:
        if result and point[0] - result[-1][-1][0] <= gap:
            result[-1].append(point)
        else:
            result.append([point])
    return result


def contrast(color):
    """Black or white, whichever can be read on it."""
    if not color:
        return INK
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return "#000" if 0.3 * red + 0.59 * green + 0.11 * blue > 125 else "#fff"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("prometheus")
    arguments.add_argument("dashboard", type=Path)
    arguments.add_argument("output", type=Path)
    arguments.add_argument("--at", type=float, default=time.time())
    arguments.add_argument("--range", type=int)
    arguments.add_argument("--width", type=int, default=1280)
    arguments.add_argument("--height", type=int)
    arguments.add_argument("--scrape", type=int, default=15)
    for name in ("instance", "unit"):
        arguments.add_argument(f"--{name}")
    asked = arguments.parse_args()
    dashboard = load(asked.dashboard)
    given = {name: [value] for name in ("instance", "unit") if (value := getattr(asked, name))}
    page = Page(Prometheus(asked.prometheus), dashboard, asked.at, asked.range or span(dashboard), given, asked.scrape)
    page, bottom = page.draw(asked.width)
    if asked.output.suffix == ".html":
        asked.output.write_text(page)
        return
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "page.html")
        source.write_text(page)
        size = f"--window-size={asked.width},{asked.height or bottom}"
        options = [
            size,
            f"--user-data-dir={scratch}/profile",
            f"--screenshot={asked.output.resolve()}",
            source.as_uri(),
        ]
        done = subprocess.run([*CHROMIUM.split(), *options], capture_output=True, text=True)
    if done.returncode != 0 or not asked.output.exists():
        sys.exit(f"chromium drew no picture: {done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
