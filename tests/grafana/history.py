#!/usr/bin/env python3
"""Prints a history as OpenMetrics text: what the exporter of tests/golden/metrics.txt would have shown
over a day on which all was well, then over one on which much was broken, then for twenty minutes each
while it could not ask systemd, and while it did not answer.

    history.py >FILE
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERIES = re.compile(r"^(\w+)\{(.*)\} (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# Shortly after the moments that the golden text tells of.
START, STEP, DAY = 1_700_006_400, 120, 86400
# When to look, in seconds since the epoch: at the end of each of the four times.
HEALTHY, BROKEN, BLIND, DOWN = START + DAY, START + 2 * DAY, START + 2 * DAY + 1200, START + 2 * DAY + 2400
TARGET = {"job": "baseline-exporter", "instance": "vps-1:20107"}
# What the golden text leaves out, and what Prometheus adds.
BUILD = ("baseline_exporter_build_info", {"version": "0.1.0", "revision": "0123abcd", "target": "x86_64"})
ALERTS = [
    {
        "alertname": "BaselineUnitRestartLoop",
        "severity": "warning",
        "name": "loops.service",
        "tier": "2",
        "service": "loops",
    },
    {"alertname": "BaselineRedisDown", "severity": "critical", "endpoint": "queue", "service": "redis"},
    {"alertname": "BaselineHostnameUnexpected", "severity": "critical", "hostname": "db_alias", "service": "hostname"},
]
# What is otherwise on a day on which all is well: the value, by the metric and labels.
WELL = {
    "baseline_check": lambda labels: labels["status"] == "holds",
    "baseline_unit_deviation": lambda labels: False,
    "baseline_unit_starts_at_boot": lambda labels: True,
    "baseline_unit_file_drift": lambda labels: False,
    "baseline_hostname_as_expected": lambda labels: labels["resolver"] != "dns",
    "baseline_hostname_deviation": lambda labels: False,
    "baseline_hostname_persistent": lambda labels: True,
    "baseline_redis_up": lambda labels: True,
    "baseline_redis_failure": lambda labels: False,
    "baseline_exporter_probe_success": lambda labels: True,
    "systemd_manager_state": lambda labels: labels["state"] == "running",
}
# The words that are otherwise.
WELL_WORDS = {
    "systemd_unit_sub_state": {"auto-restart": "running", "cleaning": "running"},
    "systemd_service_last_result": {"exit-code": "success"},
    "baseline_write_path_reason": {"unknown": "ok", "read_only": "ok"},
    "baseline_write_path_next_start_reason": {"unknown": "ok"},
    "baseline_write_path_vantage": {"predicted": "process"},
}
ONLY_IN_TROUBLE = {"baseline_unit_cause", "baseline_reference_dangling", "systemd_failed_unit"}
BROKEN_STATES = {"activating": "active", "maintenance": "active"}


def golden():
    """Each series: metric, labels, value; and the type of each metric."""
    text = (ROOT / "tests/golden/metrics.txt").read_text()
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
    series = []
    for line in text.splitlines():
        if found := SERIES.match(line):
            series.append((found[1], dict(LABEL.findall(found[2])), float(found[3])))
    return series, types


def well(series):
    """The series of a day on which all is well, made from those of the golden text."""
    expected = {labels["check"]: value for metric, labels, value in series if metric == "baseline_check_expected"}
    # The state that each unit is in.
    states = {
        labels["name"]: labels["state"] for metric, labels, value in series if metric == "systemd_unit_state" and value
    }
    for metric, labels, value in series:
        if metric in ONLY_IN_TROUBLE or labels.get("state") == "maintenance":
            continue
        if metric in WELL:
            value = float(WELL[metric](labels))
        if metric == "baseline_check_seen":
            value = expected[labels["check"]]
        if metric == "baseline_units_running":
            value = expected["running_units"]
        if metric == "systemd_unit_state":
            state = states[labels["name"]]
            value = float(labels["state"] == BROKEN_STATES.get(state, state))
        if metric == "baseline_write_path_writable":
            value = 1.0
        words = WELL_WORDS.get(metric, {})
        yield metric, {label: words.get(word, word) for label, word in labels.items()}, value
        # What the golden text has only of the Redis that answers.
        if labels.get("endpoint") == "cache" and metric in (
            "baseline_redis_writable",
            "baseline_redis_connected_clients",
        ):
            yield metric, labels | {"endpoint": "queue"}, value


def blind(series):
    """While systemd cannot be asked: its facts have no series, and what rests on them is unknown."""
    of_systemd = re.compile(r"systemd_|baseline_unit_(?!file)|baseline_units_running$|baseline_write_path")
    unknown = {
        "failed_units",
        "running_units",
        "active_units",
        "bad_states",
        "absent_units",
        "disabled_units",
        "write_paths",
    }
    for metric, labels, value in series:
        if of_systemd.match(metric) or metric == "baseline_check_seen" and labels["check"] in unknown:
            continue
        if metric == "baseline_check" and labels["check"] in unknown:
            value = float(labels["status"] == "unknown")
        if metric == "baseline_exporter_bus_connected":
            value = 0.0
        yield metric, labels, value


def recorded(series):
    """What the rules make of it, as far as dashboards read it."""
    counts = {}
    for metric, labels, value in series:
        if metric == "baseline_check":
            counts[labels["status"]] = counts.get(labels["status"], 0) + value
    if counts:
        yield "instance:baseline_check:worst", {}, 2 if counts["violated"] else 1 if counts["unknown"] else 0
    for status, value in counts.items():
        yield "instance:baseline_check:count", {"status": status}, value


class History:
    """Values over times by metric and series: how OpenMetrics wants them."""

    def __init__(self, types):
        self.types = types
        self.samples = {}

    def add(self, metric, labels, times, value):
        shown = ",".join(f'{label}="{word}"' for label, word in labels.items())
        self.samples.setdefault(metric, {}).setdefault(shown, []).append((times, value))

    def phase(self, series, times, target=TARGET, moving=None):
        """All series of one exporter over some time. moving: by how much a counter rises in a second."""
        series = list(series)
        for metric, labels, value in [
            *series,
            *recorded(series),
            (*BUILD, 1.0),
            ("up", {}, 1.0),
            ("scrape_duration_seconds", {}, 0.004),
        ]:
            rise = (moving or {}).get((metric, labels.get("name"), labels.get("state")), 0)
            rising = (lambda moment, value=value, rise=rise: value + rise * (moment - START)) if rise else value
            self.add(metric, labels | target, times, rising)

    def write(self, out):
        for metric, series in self.samples.items():
            kind = self.types.get(metric, "gauge")
            out.write(f"# TYPE {metric.removesuffix('_total') if kind == 'counter' else metric} {kind}\n")
            for labels, phases in series.items():
                for times, value in phases:
                    if callable(value):
                        out.writelines(f"{metric}{{{labels}}} {value(moment):.10g} {moment}\n" for moment in times)
                    else:
                        start = f"{metric}{{{labels}}} {value:.10g} "
                        out.writelines(f"{start}{moment}\n" for moment in times)
        out.write("# EOF\n")


def one_host(out):
    series, types = golden()
    history = History(types)
    units = {labels["name"] for metric, labels, _ in series if metric == "systemd_unit_state"}
    healthy = {("systemd_unit_state_seconds_total", unit, "active"): 1 for unit in units}
    healthy |= {("systemd_unit_cpu_seconds_total", unit, None): 0.05 for unit in units}
    broken = healthy | {
        ("systemd_unit_state_seconds_total", "loops.service", "active"): 0.2,
        ("systemd_unit_state_seconds_total", "loops.service", "activating"): 0.8,
        ("systemd_service_auto_restarts_total", "loops.service", None): 0.05,
        ("systemd_service_failures_total", "loops.service", None): 0.05,
        ("systemd_unit_activations_total", "loops.service", None): 0.05,
    }
    history.phase(well(series), range(START, HEALTHY + 1, STEP), moving=healthy)
    history.phase(series, range(HEALTHY + STEP, BROKEN + 1, STEP), moving=broken)
    history.phase(blind(well(series)), range(BROKEN + STEP, BLIND + 1, STEP))
    history.add("up", TARGET, range(BLIND + STEP, DOWN + 1, STEP), 0)
    for alert in ALERTS:
        labels = alert | {"component": "baseline"} | TARGET
        history.add("ALERTS", {"alertstate": "firing"} | labels, range(HEALTHY + STEP, BROKEN + 1, STEP), 1)
        history.add("ALERTS_FOR_STATE", labels, range(HEALTHY + STEP, BROKEN + 1, STEP), HEALTHY + STEP)
    history.add("baseline:runbook:info", {"base": "https://runbook.example/"}, range(START, DOWN + 1, STEP), 1)
    # Another target, that no panel must show.
    history.add("up", {"job": "node", "instance": "vps-1:9100"}, range(START, DOWN + 1, STEP), 1)
    history.write(out)


def many_hosts(out, hosts, end):
    """What the dashboard of many hosts reads of so many, scraped every 15 s: a day of what it shows
    over time, half an hour of the rest. Of a hundred hosts two are down, and ten are broken."""
    series, types = golden()
    read = ("baseline_check", "baseline_info", "systemd_version_info")
    broken = [each for each in series if each[0] in read]
    healthy = [each for each in well(series) if each[0] in read]
    history = History(types)
    day, lately = range(end - DAY, end + 1, 15), range(end - 1800, end + 1, 15)
    for number in range(hosts):
        target = {"job": "baseline-exporter", "instance": f"host-{number:04}.example.org:20107"}
        down, in_trouble = number % 50 == 0, number % 10 == 1
        history.add("up", target, day, 0 if down else 1)
        if down:
            continue
        shown = broken if in_trouble else healthy
        for metric, labels, value in [*recorded(shown), *shown, (*BUILD, 1.0)]:
            history.add(metric, labels | target, day if metric.endswith(":worst") else lately, value)
        for alert in ALERTS if in_trouble else ():
            labels = alert | {"component": "baseline"} | target
            history.add("ALERTS", {"alertstate": "firing"} | labels, lately, 1)
            history.add("ALERTS_FOR_STATE", labels, lately, end - 1800)
    history.write(out)


if __name__ == "__main__":
    one_host(sys.stdout)
