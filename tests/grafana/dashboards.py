"""Reads the dashboards, and asks a Prometheus what Grafana would ask it for them."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "grafana/dashboards").glob("*.json"))


def load(path):
    return json.loads(path.read_text())


def panels(dashboard):
    """Every panel but the headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def span(dashboard):
    """The range that the dashboard shows by default, in seconds."""
    number, unit = re.fullmatch(r"now-(\d+)([mhd])", dashboard["time"]["from"]).groups()
    return int(number) * {"m": 60, "h": 3600, "d": 86400}[unit]


def expand(text, chosen, seconds, rate_interval="1m"):
    """With the variables of Grafana replaced: chosen is name to values."""
    text = text.replace("$__rate_interval", rate_interval)
    text = text.replace("$__range", f"{seconds}s")
    for name, values in chosen.items():
        # As Grafana does it in PromQL: each value escaped for a regular expression within quotes.
        escaped = [re.sub(r"([\\^$*+?.()|\[\]{}])", r"\\\\\1", value) for value in values if value != ".+"]
        one = ".+" if not escaped else escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
        text = text.replace(f"${name}", one)
    return text


class Prometheus:
    """A Prometheus at this address, and its process where it is one of ours."""

    def __init__(self, address, process=None):
        self.address, self.process = address.rstrip("/"), process

    def ask(self, path, **parameters):
        """The data of the answer, and its warnings and infos."""
        body = urllib.parse.urlencode(parameters, doseq=True).encode()
        try:
            with urllib.request.urlopen(f"{self.address}/api/v1/{path}", body, timeout=60) as answer:
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            raise ValueError(f"{self.address} says: {json.load(error).get('error')}") from error
        return told["data"], told.get("warnings", []) + told.get("infos", [])

    def choose(self, dashboard, at, given=None):
        """What the variables are when the dashboard is opened, at this time: the first value, or all."""
        chosen = {}
        for variable in dashboard["templating"]["list"]:
            if variable["type"] != "query":
                continue
            name = variable["name"]
            selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
            selector = expand(selector, chosen, 0)
            found, _ = self.ask("series", **{"match[]": selector, "start": at - span(dashboard), "end": at})
            values = sorted({series[label] for series in found if label in series})
            chosen[name] = (given or {}).get(name) or ([".+"] if variable["includeAll"] else values[:1])
        return chosen

    def run(self, target, chosen, at, seconds, step, scrape=15):
        """The answer to one query of a panel: [(labels, [(time, value)...])], and what was remarked; scrape
        is the interval of scrapes."""
        expr = expand(target["expr"], chosen, seconds, f"{max(4 * scrape, step + scrape)}s")
        if target["instant"]:
            data, remarks = self.ask("query", query=expr, time=at)
            return [(series["metric"], [series["value"]]) for series in data["result"]], remarks
        data, remarks = self.ask("query_range", query=expr, start=at - seconds, end=at, step=step)
        return [(series["metric"], series["values"]) for series in data["result"]], remarks
