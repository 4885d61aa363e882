#!/usr/bin/env python3
"""The check of the dashboards, tried on a dashboard with one fault each."""

import copy
import sys

from check import Dashboard, context, current, generator, words
from dashboards import FILES, load

MODULE = generator()
TOLD = context(MODULE)
CONTENTS = {path.name: load(path) for path in FILES}
OTHERS = {content["uid"]: content for content in CONTENTS.values()}


def panel(content, title):
    return next(panel for panel in content["panels"] if panel["title"] == title)


def target(content, title="Units in trouble"):
    return panel(content, title)["targets"][0]


def put(expr):
    return lambda content: target(content).update(expr=expr)


SELECTED = '{job=~"$job", instance=~"$instance"}'
# What is done to the deployment's dashboard, and a part of what has to be found.
FAULTS = [
    (put("sum(systemd_unit_state"), "does not parse"),
    (put(f"sum(systemd_unit_status{SELECTED})"), "no such metric: systemd_unit_status"),
    (put(f"sum by (unit) (systemd_unit_need_daemon_reload{SELECTED})"), "label that is not there: unit"),
    (put('systemd_unit_state{job=~"$job", instance=~"$instance", state="broken"}'), "never has state='broken'"),
    (put('sum(up{instance=~"$instance"})'), 'up lacks job=~"$job"'),
    (put('sum(up{job=~"$job", instance="$instance"})'), 'up lacks instance=~"$instance"'),
    (put(f"sum(systemd_service_failures_total{SELECTED})"), "is a counter"),
    (put(f"rate(systemd_service_failures_total{SELECTED}[5m])"), "rate over 5m"),
    (lambda content: target(content).update(legendFormat="{{name}}"), "legend of name"),
    (lambda content: panel(content, "Tickets").update(description=""), "no description"),
    (lambda content: panel(content, "Tickets").update(gridPos={"x": 20, "y": 0, "w": 5, "h": 5}), "out of the grid"),
    (lambda content: panel(content, "Tickets")["gridPos"].update(x=0), "overlap"),
    (lambda content: panel(content, "Tickets").update(id=1), "id 1 is there 2 times"),
    (lambda content: panel(content, "Tickets")["fieldConfig"]["defaults"].update(unit="seconds"), "the unit 'seconds'"),
    (lambda content: panel(content, "Tickets")["fieldConfig"]["defaults"].pop("noValue"), "does not say what it means"),
    (
        lambda content: panel(content, "Tickets").update(datasource={"uid": "prometheus"}),
        "names a data source: prometheus",
    ),
    (lambda content: content["annotations"]["list"].clear(), "alerts as annotations"),
    (lambda content: content.update(editable=True), "editable"),
    (lambda content: content.update(__inputs=[]), "only an export has"),
    (lambda content: content["templating"]["list"][2].update(multi=False), "no variable instance"),
    (lambda content: content["templating"]["list"][3].update(refresh=1), "variable unit is not loaded anew"),
    (lambda content: content["templating"]["list"].pop(0), "no variable datasource"),
    (
        lambda content: panel(content, "The checks")["transformations"][2]["options"]["include"]["names"].append(
            "path"
        ),
        "shows path",
    ),
    (
        lambda content: panel(content, "The checks")["fieldConfig"]["overrides"][0]["matcher"].update(options="Reply"),
        "override for Reply",
    ),
    (
        lambda content: panel(content, "The checks")["transformations"].append({"id": "limit", "options": {}}),
        "transforms by limit",
    ),
    (
        lambda content: panel(content, "Units, trouble on top")["fieldConfig"]["defaults"]["color"].update(
            mode="thresholds"
        ),
        "lose the colours",
    ),
    (
        lambda content: panel(content, "Units, trouble on top")["fieldConfig"]["defaults"]["mappings"][0]["options"][
            "18"
        ].update(text=""),
        "colour alone",
    ),
    (
        lambda content: panel(content, "Units, trouble on top")["fieldConfig"]["defaults"]["mappings"][0]["options"][
            "18"
        ].update(color="red"),
        "none of the palette",
    ),
    (
        lambda content: panel(content, "Units, trouble on top")["fieldConfig"]["defaults"]["links"][0].update(
            url="/d/other?x"
        ),
        "other, which does not exist",
    ),
    (
        lambda content: panel(content, "Units, trouble on top")["fieldConfig"]["defaults"]["links"][0].update(
            url="/d/baseline-unit?var-host=x"
        ),
        "variable host",
    ),
]


def main():
    failed = []
    for number, (fault, part) in enumerate(FAULTS):
        content = copy.deepcopy(CONTENTS["deployment.json"])
        fault(content)
        findings = list(Dashboard("deployment.json", content, OTHERS, *TOLD).findings())
        if not any(part in finding for finding in findings):
            failed.append(f"fault {number}: nobody says {part!r}, only: {findings}")
    MODULE.DEVIATIONS["vanished"] = MODULE.DEVIATIONS.pop("stopped")
    findings = list(words(MODULE))
    if findings != ["DEVIATIONS lacks stopped", "DEVIATIONS has vanished, which nothing says"]:
        failed.append(f"other words: {findings}")
    if len(list(current(MODULE))) < 2:
        failed.append("files that another script wrote are taken for current")
    print("\n".join(failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
