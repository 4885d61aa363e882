#!/usr/bin/env python3
"""Finds in the dashboards what Grafana shows only to who opens them.

    check.py

Prints one line for each finding; the exit status is 1 if there is one.
"""

import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/rules")]

from dashboards import FILES, expand, load, panels  # noqa: E402
from lint import Expression, Metrics  # noqa: E402

# Those that the dashboards use, of Grafana's catalogue.
UNITS = {"none", "short", "s", "bytes", "percentunit", "dateTimeFromNow"}
TRANSFORMATIONS = {"merge", "groupingToMatrix", "sortBy", "filterFieldsByName", "organize"}
# Sets of words: name in grafana/dashboards.py, file, what is cut out of the file, what is a word in it.
CLOSED_SETS = [
    ("DEVIATIONS", "src/findings.rs", r"impl Deviation \{.*?\n\}", r'=> "(\w+)"'),
    ("CAUSES", "src/findings.rs", r"fn tell_cause.*?\n\}", r'^        "(\w+)" =>'),
    ("CAUSES", "src/journal/signatures.rs", r"pub fn word\(self\).*?\n    \}", r'=> "(\w+)"'),
    ("HOSTNAME_REASONS", "src/probe/hostname.rs", r"impl Reason \{.*?\n\}", r'=> "(\w+)"'),
    ("REDIS_REASONS", "src/probe/redis.rs", r"impl Reason \{.*?\n\}", r'=> "(\w+)"'),
    ("PATH_REASONS", "src/probe/write_path.rs", r"impl Reason \{.*?\n\}", r'=> "(\w+)"'),
    ("DRIFTS", "src/probe/unit_files/drift.rs", r"pub fn word\(self\).*?\n    \}", r'=> "(\w+)"'),
    ("EFFECTS", "src/probe/unit_files.rs", r"impl Effect \{.*?\n\}", r'=> "(\w+)"'),
    ("CHECKS", "tests/golden/metrics.txt", r"# TYPE baseline_check gauge.*?# HELP", r'check="(\w+)"'),
    ("STATES", "tests/golden/metrics.txt", r"# TYPE systemd_unit_state_entries_total.*?# HELP", r'state="(\w+)"'),
    ("PROBES", "tests/golden/metrics.txt", r"# TYPE baseline_exporter_probe_success.*", r'probe="(\w+)"'),
    ("VANTAGES", "src/metrics/dependencies.rs", r"let vantage = .*?;", r'"(\w+)"'),
    ("SEVERITIES", "rules/baseline.rules.yml", r".*", r"(?:severity: |\}\})(critical|warning|info)\b"),
]
# What alerts have that the dashboards show.
ALERT_LABELS = {"alertname", "severity", "job", "instance"}
# Rarer states have one word together.
BESIDE = {"STATES": {"maintenance"}}


def generator():
    """grafana/dashboards.py, which has no name that could be imported beside ours."""
    spec = importlib.util.spec_from_file_location("generator", ROOT / "grafana/dashboards.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def current(module):
    """The files are what the script writes."""
    for path, text in module.written().items():
        if not path.exists() or path.read_text() != text:
            yield f"{path.name} is not what grafana/dashboards.py writes: run it"


def words(module):
    """Each word that the exporter can say has its text, and no text is for a word that it cannot say."""
    said = {}
    for name, path, part, word in CLOSED_SETS:
        cut = re.search(part, (ROOT / path).read_text(), re.S)
        found = set(re.findall(word, cut[0], re.M)) if cut else set()
        if not found:
            yield f"{path} has no words of {name}: look for them elsewhere"
        said[name] = said.get(name, set()) | found
    for name, found in said.items():
        told, beside = set(getattr(module, name)), BESIDE.get(name, set())
        yield from (f"{name} lacks {word}" for word in sorted(found - told - beside))
        yield from (f"{name} has {word}, which nothing says" for word in sorted(told - found - beside))
    codes = Counter(code for told in (module.STATES, module.DEVIATIONS) for code, *_ in told.values())
    codes[module.OTHER_STATE[0]] += 1
    yield from (f"{code} stands for {count} states" for code, count in codes.items() if count > 1)


def recorded(metrics):
    """What the rules record, with its labels."""
    found = {}
    for group in yaml.safe_load((ROOT / "rules/baseline.rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                expression = Expression(rule["expr"], metrics, {rule["record"]: None} | found)
                if expression.labels is not None:
                    found[rule["record"]] = expression.labels | set(rule.get("labels", {}))
    return found


def nodes(node):
    """An expression and all its parts, each with what it stands in."""
    stack = [(node, None)]
    while stack:
        node, outer = stack.pop()
        yield node, outer
        for part in ("expr", "lhs", "rhs", "vector_selector", "param"):
            if (inner := getattr(node, part, None)) is not None:
                stack.append((inner, node))
        stack += [(argument, node) for argument in getattr(node, "args", None) or ()]


class Dashboard:
    def __init__(self, name, content, others, metrics, rules, anchors, palette):
        self.name, self.content, self.others = name, content, others
        self.metrics, self.rules, self.anchors, self.palette = metrics, rules, anchors, palette
        self.variables = {variable["name"]: variable for variable in content["templating"]["list"]}

    def findings(self):
        for finding in [*self.whole(), *self.of_variables()]:
            yield f"{self.name}: {finding}"
        for panel in panels(self.content):
            for finding in [*self.of_panel(panel), *self.of_links(panel), *self.of_mappings(panel)]:
                yield f"{self.name}: {panel['title'] or panel['id']}: {finding}"

    def whole(self):
        content = self.content
        if content["editable"] or content["refresh"] != "30s" or content["schemaVersion"] != 39:
            yield "is editable, is not refreshed every 30s, or has another schemaVersion than 39"
        if {"__inputs", "__requires", "id"} & set(content):
            yield "has what only an export has"
        for what, values in {"id": [each["id"] for each in content["panels"]]}.items():
            yield from (
                f"{what} {value} is there {count} times" for value, count in Counter(values).items() if count > 1
            )
        taken = Counter()
        for panel in content["panels"]:
            grid = panel["gridPos"]
            taken.update(
                (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
            )
            if grid["x"] + grid["w"] > 24:
                yield f"{panel['title']} is out of the grid"
        if taken and max(taken.values()) > 1:
            yield "panels overlap"
        annotations = content["annotations"]["list"]
        if not any("ALERTS{" in annotation["expr"] for annotation in annotations):
            yield "does not show alerts as annotations"
        for annotation in annotations:
            expression, problems = self.expression(annotation["expr"])
            yield from problems
            yield from self.selectors(expression)
        for where in sources(content):
            if where != "${datasource}":
                yield f"names a data source: {where}"

    def of_variables(self):
        source = self.variables.get("datasource", {})
        if (source.get("type"), source.get("query"), source.get("label")) != (
            "datasource",
            "prometheus",
            "Data source",
        ):
            yield "has no variable datasource of type prometheus, labelled Data source"
        for name in ("job", "instance"):
            variable = self.variables.get(name, {})
            wanted = {"type": "query", "multi": True, "allValue": ".+", "label": name.capitalize()}
            if any(variable.get(key) != value for key, value in wanted.items()):
                yield f"has no variable {name} that is {wanted}"
        for variable in self.variables.values():
            if variable["type"] != "query":
                continue
            call = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            if variable["refresh"] != 2 or not call:
                yield f"variable {variable['name']} is not loaded anew with the time, or is no label_values(...)"
                continue
            expression, problems = self.expression(call[1])
            yield from problems
            if expression.labels is not None and call[2] not in expression.labels:
                yield f"variable {variable['name']} asks for the label {call[2]}, which is not there"

    def expression(self, text):
        chosen = {name: [".+"] for name in self.variables}
        expression = Expression(expand(text, chosen, 3600), self.metrics, self.rules, may_select_job=True)
        # What any value may match is no word of a closed set, and alerts have labels of their own.
        beside = re.compile(r"ALERTS|.*='\.\+'$")
        return expression, [finding for finding in expression.findings if not beside.match(finding)]

    def selectors(self, expression):
        """Each selector takes what the variables choose."""
        for node, outer in nodes(expression.parsed):
            if type(node).__name__ != "VectorSelector":
                continue
            matchers = {matcher.name: matcher for matcher in node.matchers.matchers}
            for label in ("job", "instance"):
                if label not in matchers or matchers[label].value != ".+" or "Re" not in str(matchers[label].op):
                    yield f'{node.name} lacks {label}=~"${label}"'
            if self.metrics.kinds.get(node.name) == "counter" and type(outer).__name__ != "MatrixSelector":
                yield f"{node.name} is a counter, and is not in rate() or increase()"

    def of_panel(self, panel):
        if not panel["title"] or not panel.get("description"):
            yield "has no title or no description"
        if panel["type"] == "text":
            return
        defaults = panel["fieldConfig"]["defaults"]
        if defaults["unit"] not in UNITS:
            yield f"has the unit {defaults['unit']!r}"
        if not defaults.get("noValue") or defaults["noValue"] == "No data":
            yield "does not say what it means that there is nothing"
        if panel["type"] == "state-timeline" and defaults["color"]["mode"] == "thresholds":
            yield "would lose the colours of its mappings"
        if not panel["targets"]:
            yield "asks for nothing"
        for step in panel.get("transformations", []):
            if step["id"] not in TRANSFORMATIONS:
                yield f"transforms by {step['id']}, which the preview does not know"
        labels = set()
        for target in panel["targets"]:
            expression, problems = self.expression(target["expr"])
            yield from problems
            yield from self.selectors(expression)
            yield from self.ranges(target["expr"])
            if "ALERTS" in target["expr"]:
                labels |= set(ALERT_LABELS)
            if expression.labels is not None:
                # Of alternatives one may have labels that the others lack.
                labels |= expression.labels | expression.seen | set(re.findall(r',\s*"(\w+)", "', target["expr"]))
                for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                    if label not in expression.labels:
                        yield f"has a legend of {label}, which is not there"
            if "$__range" in target["expr"] and not target["instant"] and "@ end()" not in target["expr"]:
                yield "asks for $__range at each step"
        yield from self.columns(panel, labels)

    def ranges(self, expr):
        for function, inside in re.findall(r"\b(i?rate|increase)\([^\[]*\[([^\]]*)\]", expr):
            if inside != "$__rate_interval" and not (function == "increase" and inside == "$__range"):
                yield f"{function} over {inside}"

    def columns(self, panel, labels):
        """Each column of a table exists, and each override is for one."""
        if panel["type"] != "table":
            return
        steps = {step["id"]: step["options"] for step in panel["transformations"]}
        refs = {target["refId"] for target in panel["targets"]}
        known = labels | ({"Value"} if len(refs) == 1 else {f"Value #{ref}" for ref in refs})
        if matrix := steps.get("groupingToMatrix"):
            told = set(re.findall(r'"check", "(\w+)"', panel["targets"][0]["expr"])) | set(generator().CHECKS)
            known = told | {f"{matrix['rowField']}\\{matrix['columnField']}"}
        names = steps["filterFieldsByName"]["include"]["names"]
        yield from (f"shows {name}, which is not there" for name in names if name not in known)
        if steps.get("sortBy") and steps["sortBy"]["sort"][0]["field"] not in known:
            yield "is sorted by what is not there"
        titles = set(steps["organize"]["renameByName"].values()) | set(names)
        for override in panel["fieldConfig"]["overrides"]:
            if override["matcher"]["options"] not in titles:
                yield f"has an override for {override['matcher']['options']}, which it does not show"

    def of_links(self, panel):
        for told in each(panel, "links"):
            for address in (link["url"] for link in told):
                for fragment in re.findall(r"#(\w+)$", address):
                    if fragment not in self.anchors:
                        yield f"links to #{fragment}, which the runbook does not have"
                for field in re.findall(r"__data\.fields\.(\w+)", address):
                    names = [
                        step["options"]["include"]["names"]
                        for step in panel["transformations"]
                        if "include" in step["options"]
                    ]
                    if field not in names[0]:
                        yield f"a link reads the field {field}, which is not there"
                if target := re.match(r"/d/([\w-]+)\?", address):
                    other = self.others.get(target[1])
                    if other is None:
                        yield f"links to the dashboard {target[1]}, which does not exist"
                        continue
                    known = {variable["name"] for variable in other["templating"]["list"]}
                    for name in re.findall(r"var-(\w+)=", address):
                        if name not in known:
                            yield f"links with the variable {name}, which {target[1]} does not have"

    def of_mappings(self, panel):
        for mappings in each(panel["fieldConfig"] if panel["type"] != "text" else {}, "mappings", "mappings"):
            for mapping in mappings:
                options = mapping["options"]
                for result in [options["result"]] if mapping["type"] == "special" else options.values():
                    if not result["text"]:
                        yield "tells a state by its colour alone"
                    if result.get("color", self.palette[0]) not in self.palette:
                        yield f"has the colour {result['color']}, which is none of the palette"
                    section = result["text"]
                    if section.startswith("baseline") and section not in self.anchors:
                        yield f"maps to #{section}, which the runbook does not have"


def each(node, key, override=None):
    """Every value of that key, at any depth, and of the overrides that set it."""
    if isinstance(node, dict):
        if override and node.get("id") == override or node.get("id") == key:
            yield node["value"]
        for name, value in node.items():
            if name == key and isinstance(value, list):
                yield value
            else:
                yield from each(value, key, override)
    elif isinstance(node, list):
        for value in node:
            yield from each(value, key, override)


def sources(node):
    """The data source of everything that has one."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "datasource":
                yield value["uid"] if isinstance(value, dict) else value
            else:
                yield from sources(value)
    elif isinstance(node, list):
        for value in node:
            yield from sources(value)


def context(module):
    """What a dashboard is held against."""
    metrics = Metrics.read()
    metrics.kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", (ROOT / "tests/golden/metrics.txt").read_text(), re.M))
    runbook = (ROOT / "rules/runbook.md").read_text()
    anchors = {heading.lower() for heading in re.findall(r"^#+ (Baseline\w+)\s*$", runbook, re.M)}
    palette = [
        module.GOOD,
        module.BAD,
        module.WARN,
        module.UNKNOWN,
        module.MOVING,
        module.REST,
        module.OTHER,
        module.FADING,
    ]
    return metrics, recorded(metrics), anchors, palette


def main():
    module = generator()
    contents = {path.name: load(path) for path in FILES}
    others = {content["uid"]: content for content in contents.values()}
    findings = [*current(module), *words(module)]
    if len(others) < len(contents) or len({content["title"] for content in contents.values()}) < len(contents):
        findings.append("two dashboards have the same uid or title")
    told = context(module)
    for name, content in contents.items():
        findings += Dashboard(name, content, others, *told).findings()
    print("\n".join(findings))
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
