#!/usr/bin/env python3
"""Finds in the alert rules what promtool does not.

    lint.py

Prints one line for each finding; the exit status is 1 if there is one.
"""

import re
import sys
from pathlib import Path

import promql_parser
import yaml

ROOT = Path(__file__).resolve().parents[2]

SEVERITIES = {"critical", "warning", "info"}
TIERS = ("1", "2", "3")
LABELS = ("severity", "component", "service")
ANNOTATIONS = ("summary", "description", "runbook_url")
# What Prometheus itself puts on each series that it scrapes.
SCRAPED = {"job", "instance"}
# What our samples put on targets besides.
TARGETS = {"scraped_by"}
# Metrics of Prometheus and of its scrapes.
FOREIGN = {
    "up": SCRAPED,
    "scrape_duration_seconds": SCRAPED,
    "prometheus_notifications_errors_total": SCRAPED | {"alertmanager"},
    "prometheus_notifications_alertmanagers_discovered": SCRAPED,
    "prometheus_rule_evaluation_failures_total": SCRAPED | {"rule_group"},
}
# Labels whose values come from the baseline, the host or Prometheus: not of a closed set.
OPEN = {"job", "instance", "name", "detail", "path", "hostname", "address", "endpoint", "to", "from", "file"}
OPEN |= {"alertname", "alertstate", "rule_group"} | TARGETS
# They silence others, and what is over must not.
AT_ONCE = {"BaselineExporterDown", "BaselineExporterBlind"}
COMPARISONS = {"==", "!=", ">", "<", ">=", "<="}


class Metrics:
    """Every metric that the exporter has, with its labels, and the words that it may use in them."""

    def __init__(self, table, golden, sources):
        self.labels = dict(FOREIGN)
        for name, labels in re.findall(r"^\| `(\w+)` \| \w+ \| ([\w, ]*) \|", table, re.M):
            self.labels[name] = {label for label in labels.split(", ") if label.strip()} | SCRAPED
        self.built = set(re.findall(r"^# TYPE (\w+)", golden, re.M)) | set(FOREIGN)
        self.words = set(re.findall(r'"([\w-]+)"', golden + sources))

    @classmethod
    def read(cls):
        sources = "".join(path.read_text() for path in sorted((ROOT / "src").rglob("*.rs")))
        golden = (ROOT / "tests/golden/metrics.txt").read_text()
        return cls((ROOT / "README.md").read_text(), golden, sources)


class Expression:
    """One expression: what is wrong in it, and the labels of its result."""

    def __init__(self, text, metrics, recorded, may_select_job=False):
        self.metrics = metrics
        self.recorded = recorded
        self.may_select_job = may_select_job
        self.findings = []
        self.ranges = set()
        self.offsets = set()
        self.numbers = set()
        self.compares = False
        # Those that some of its series have, at least within it.
        self.seen = set()
        # Those that all series of the result have. None: not known.
        self.labels = set()
        # None: it does not parse.
        self.parsed = None
        try:
            self.parsed = promql_parser.parse(text)
            self.labels = self.visit(self.parsed)
        except ValueError as error:
            self.findings.append(f"does not parse: {error}")

    def visit(self, node):
        kind = type(node).__name__
        if kind == "NumberLiteral":
            self.numbers.add(node.val)
            return set()
        if kind == "StringLiteral":
            return set()
        if kind in ("ParenExpr", "UnaryExpr"):
            return self.visit(node.expr)
        if kind == "MatrixSelector":
            self.ranges.add(in_seconds(node.range))
            return self.visit(node.vector_selector)
        if kind == "SubqueryExpr":
            self.ranges.add(in_seconds(node.range))
            return self.visit(node.expr)
        return getattr(self, kind)(node)

    def VectorSelector(self, node):
        labels = self.labels_of(node.name)
        if node.offset:
            self.offsets.add(in_seconds(node.offset))
        for matcher in node.matchers.matchers:
            if matcher.name == "job" and not self.may_select_job:
                self.findings.append(f"selects a job: {node.name}")
            if matcher.name not in TARGETS:
                self.has(labels, matcher.name, f"{node.name} selects by")
            if matcher.name not in OPEN:
                for word in matcher.value.split("|"):
                    if word not in self.metrics.words | TIERS_AS_WORDS:
                        self.findings.append(f"{node.name} never has {matcher.name}={word!r}")
        self.seen |= labels or set()
        return labels

    def labels_of(self, name):
        if name in ("ALERTS", "ALERTS_FOR_STATE"):
            return None
        if name in self.recorded:
            return self.recorded[name]
        if name not in self.metrics.labels or name not in self.metrics.built:
            self.findings.append(f"no such metric: {name}")
            return None
        return self.metrics.labels[name]

    def has(self, labels, label, what):
        if labels is not None and label not in labels:
            self.findings.append(f"{what} a label that is not there: {label}")

    def Call(self, node):
        of_arguments = [self.visit(argument) for argument in node.args]
        name = node.func.name
        if name == "label_replace":
            labels, (_, target, _, source, _) = of_arguments[0], node.args
            if source.val:
                self.has(labels, source.val, "label_replace reads")
            return labels if labels is None else labels | {target.val}
        if name in ("vector", "time"):
            return set()
        if name == "absent":
            # Only a plain selector passes labels on: those that it asks for.
            argument = node.args[0]
            if type(argument).__name__ != "VectorSelector":
                return set()
            return {matcher.name for matcher in argument.matchers.matchers}
        # Of the others one argument is a vector; quantile_over_time has a number before it.
        return next((labels for labels in of_arguments if labels is None or labels), set())

    def AggregateExpr(self, node):
        labels = self.visit(node.expr)
        if node.param is not None:
            # How many, not a threshold.
            return labels
        if node.modifier is None:
            return set()
        named = set(node.modifier.labels)
        if str(node.modifier).startswith("by"):
            for label in sorted(named):
                self.has(labels, label, f"{node.op} by")
            return named
        return labels if labels is None else labels - named

    def BinaryExpr(self, node):
        left, right = self.visit(node.lhs), self.visit(node.rhs)
        operator = str(node.op)
        self.compares |= operator in COMPARISONS
        matching = node.modifier and node.modifier.matching
        named = set(matching.labels) if matching else set()
        on = matching is not None and str(matching).startswith("on")
        for label in sorted(named):
            # A rule without a job matches where neither side has one.
            if label not in SCRAPED:
                self.has(left, label, f"{operator} matches on")
            if label not in SCRAPED and on:
                self.has(right, label, f"{operator} matches on")
        if operator in ("and", "unless"):
            return left
        if operator == "or":
            return left if right is None else right if left is None else left & right
        if left is None or right is None:
            return None
        if not left or not right:
            # A number on one side.
            return left or right
        cardinality = node.modifier and node.modifier.card
        if cardinality == promql_parser.VectorMatchCardinality.ManyToOne:
            more = set(node.modifier.group_labels or ())
            for label in more:
                self.has(right, label, "group_left takes")
            return left | more
        if on:
            return named
        return left - named


TIERS_AS_WORDS = set(TIERS)


def in_seconds(range):
    return int(range.total_seconds())


def seconds(text):
    """A duration as rules write it."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([smhd])", str(text)))


QUERY = re.compile(r"query \(printf `([^`]*)`([^)]*)\)|query \"([^\"]*)\"")
ACTION = re.compile(r"\{\{-? *(.*?) *-?\}\}", re.S)


def lint_template(where, text, alert, metrics, recorded):
    """What is wrong with the templates of one label or annotation; `alert` is the expression."""

    def has(known, label, what):
        if known is not None and label not in known:
            yield f"{where}: {what}{label}: the expression drops that label"

    # The labels of what the dot is, outermost first; an `if` leaves the dot as it is.
    dots = [None]
    variables = {}
    for action in ACTION.findall(text):
        word = action.split(" ", 1)[0]
        for label in re.findall(r"\$labels\.(\w+)", action):
            # Who asks whether there is one does without, too.
            known = alert.seen if re.match(r"(with|if) \$labels\.\w+$", action) else alert.labels
            yield from has(known, label, "$labels.")
        query = QUERY.search(action)
        found = dots[-1]
        if query:
            expression = Expression(
                (query[1] or query[3]).replace("%q", '"x"'), metrics, recorded, may_select_job=True
            )
            yield from (f"{where}: {finding}" for finding in expression.findings)
            found = expression.labels
            given, wanted = len((query[2] or "").split()), (query[1] or "").count("%q")
            if given != wanted:
                yield f"{where}: a query wants {wanted} labels and is given {given}"
            for label in re.findall(r'sortByLabel "(\w+)"', action):
                yield from has(found, label, "sorts by ")
        for variable, label in re.findall(r"(\$\w+)?\.Labels\.(\w+)", action):
            yield from has(variables.get(variable, dots[-1]), label, ".Labels.")
        if re.search(r"(\.Value|\$value|\bvalue)\b(?! \| humanize)", QUERY.sub("", action)):
            yield f"{where}: a value that is not humanized"
        if word in ("range", "with", "if"):
            dots.append(dots[-1] if word == "if" else found)
            variables |= {name: found for name in re.findall(r"(\$\w+) :=", action)}
        elif action == "end":
            dots.pop()


def severities(text):
    """What a severity can be: it, or for each tier what its template says."""
    if "{{" not in text:
        return {text}
    branches = re.findall(r'\{\{ (?:else )?if eq \$labels\.tier "(\w+)" \}\}(\w+)', text)
    otherwise = re.search(r"\{\{ else \}\}(\w+)\{\{ end \}\}$", text)
    of_tier = dict(reversed(branches))
    return {of_tier.get(tier, otherwise[1] if otherwise else "") for tier in TIERS}


def lint_alert(rule, expression, metrics, recorded):
    labels, annotations = rule.get("labels", {}), rule.get("annotations", {})
    yield from (f"lacks the label {label}" for label in LABELS if not labels.get(label))
    yield from (f"lacks the annotation {name}" for name in ANNOTATIONS if not annotations.get(name))
    possible = severities(labels.get("severity", ""))
    if not possible <= SEVERITIES:
        yield f"severity can be {', '.join(sorted(possible - SEVERITIES)) or 'nothing'}"
    if "critical" in possible and not rule.get("keep_firing_for") and rule["alert"] not in AT_ONCE:
        yield "pages, and has no keep_firing_for"
    if labels.get("component") not in (None, "baseline"):
        yield "its component is not baseline"
    if "{{" in annotations.get("summary", ""):
        yield "summary has a template"
    if not expression.compares:
        yield "compares with nothing"
    for label, text in labels.items():
        if re.search(r"\$value|\.Value", text):
            yield f"label {label} has a value in it: each evaluation would make another alert"
        yield from lint_template(f"label {label}", text, expression, metrics, recorded)
    for name, text in annotations.items():
        yield from lint_template(name, text, expression, metrics, recorded)
    fragment = annotations.get("runbook_url", "").rpartition("#")[2]
    if fragment != rule["alert"].lower():
        yield f"runbook_url ends in #{fragment}"


def lint_table(text, used):
    """The table of thresholds at the head of the rules holds what they use, and nothing else."""
    head = text.split("\ngroups:")[0]
    told = set()
    for word, value in re.findall(r"^#   (interval|for|keep_firing_for|range|offset|value) (\S+)  ", head, re.M):
        told.add((word, float(value) if word == "value" else seconds(value)))
    for word, value in sorted(used - told):
        yield f"table: lacks {word} {value:g} (seconds, if a duration)"
    for word, value in sorted(told - used):
        yield f"table: has {word} {value:g} (seconds, if a duration), which no rule uses"


def lint_tests(alerts, tests):
    """Each alert is seen firing, with each rule that has its name, and in such a test seen pending, which
    is quiet at the very evaluation before, and seen quiet after, as it is over."""
    fires, pending, after = set(), set(), set()
    groups = ((seconds(test["evaluation_interval"]), group) for test in tests for group in test["tests"])
    for interval, group in groups:
        cases = [(seconds(case["eval_time"]), case) for case in group.get("alert_rule_test", [])]
        # The first time that each fires.
        since = {}
        for moment, case in cases:
            for alert in case.get("exp_alerts") or []:
                name = case["alertname"]
                fires.add((name, alert["exp_labels"]["severity"]))
                since[name] = min(moment, since.get(name, moment))
        for moment, case in cases:
            name = case["alertname"]
            if name in since and not case.get("exp_alerts"):
                if moment == since[name] - interval:
                    pending.add(name)
                elif moment > since[name]:
                    after.add(name)
    for name, possible in alerts:
        if not any((name, severity) in fires for severity in possible):
            yield f"{name}: no test sees it firing as {' or '.join(sorted(possible))}"
        # The watchdog never is.
        if name != "BaselineWatchdog":
            if name not in pending:
                yield f"{name}: no test sees it pending at the evaluation before it fires"
            if name not in after:
                yield f"{name}: no test sees it quiet after it fires"


def lint(text, tests, runbook, metrics):
    """Every finding in the rules of `text`."""
    rules, used = [], set()
    for group in yaml.safe_load(text)["groups"]:
        used.add(("interval", seconds(group.get("interval", ""))))
        rules += group["rules"]
    recorded, expressions = {}, []
    for rule in rules:
        # What a rule recorded the last time it may ask for, too.
        itself = {rule["record"]: None} if "record" in rule else {}
        expressions.append(Expression(rule["expr"], metrics, itself | recorded))
        if "record" in rule and expressions[-1].labels is not None:
            recorded[rule["record"]] = expressions[-1].labels | set(rule.get("labels", {}))
    alerts = []
    for rule, expression in zip(rules, expressions):
        name = rule.get("alert") or rule["record"]
        findings = list(expression.findings)
        if "alert" in rule:
            alerts.append((name, severities(rule.get("labels", {}).get("severity", ""))))
            findings += lint_alert(rule, expression, metrics, recorded)
        elif not re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z_]+", name):
            findings.append("is not named level:metric:operations")
        yield from (f"{name}: {finding}" for finding in findings)
        used |= {(word, seconds(rule[word])) for word in ("for", "keep_firing_for") if word in rule}
        used |= {("range", value) for value in expression.ranges}
        used |= {("offset", value) for value in expression.offsets}
        # 0 and 1 are no and yes.
        used |= {("value", value) for value in expression.numbers - {0, 1}}
    yield from lint_table(text, used)
    yield from lint_tests(alerts, tests)
    sections = re.findall(r"^#+ (Baseline\w+)\s*$", runbook, re.M)
    names = {name for name, _ in alerts}
    yield from (f"{name}: has no section in the runbook" for name in sorted(names - set(sections)))
    yield from (f"{name}: a section of the runbook without an alert" for name in sorted(set(sections) - names))


def main():
    runbook = ROOT / "rules/runbook.md"
    tests = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "tests/rules").glob("*.yml"))]
    findings = []
    for path in sorted((ROOT / "rules").glob("*.rules.yml")):
        text = path.read_text()
        findings += lint(text, tests, runbook.read_text(), Metrics.read())
    print("\n".join(findings))
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
