#!/usr/bin/env python3
"""Writes the dashboards below grafana/dashboards/. Change them here, not there: what a panel shows is
a few lines here and hundreds there, and all three share the same words, colours and links.

    grafana/dashboards.py
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Okabe and Ito's colours, which the colour-blind tell apart. No state is told by its colour alone.
GOOD, BAD, WARN = "#0072B2", "#D55E00", "#E69F00"
UNKNOWN, MOVING, REST = "#CC79A7", "#56B4E9", "#7F7F7F"
OTHER, FADING = "#009E73", "#F0E442"

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# In every selector: what the variables choose.
HOST = 'job=~"$job", instance=~"$instance"'
UNIT = HOST + ', name=~"$unit"'
PER_UNIT = "by (job, instance, name)"

# The words for what the exporter emits. A test holds them against its sources.
# Of each check: what is counted, and the column of the fleet.
CHECKS = {
    "failed_units": ("failed on the host", "Failed"),
    "running_units": ("services running", "Running"),
    "active_units": ("units active", "Active"),
    "bad_states": ("failing, looping, stuck", "Bad states"),
    "absent_units": ("absent on purpose", "Absent"),
    "disabled_units": ("disabled on purpose", "Disabled"),
    "references": ("dangling references", "References"),
    "hostnames": ("hostnames right", "Hostnames"),
    "redis": ("Redis answering", "Redis"),
    "write_paths": ("paths writable", "Write paths"),
    "unit_files": ("files as in snapshot", "Unit files"),
}
STATUS = {0: ("✔ holds", GOOD), 1: ("? unknown", UNKNOWN), 2: ("✖ violated", BAD), 3: ("✖ no answer", BAD)}
# ActiveState, where nothing is wrong with it.
STATES = {
    "active": (1, "✔ active", GOOD),
    "reloading": (2, "↻ reloading", OTHER),
    "inactive": (3, "– inactive", REST),
    "activating": (4, "↗ activating", MOVING),
    "deactivating": (5, "↘ deactivating", FADING),
    "failed": (6, "✖ failed", BAD),
}
OTHER_STATE = (7, "… another state", WARN)
DEVIATIONS = {
    "enabled": (10, "▲ enabled, should not be", WARN),
    "present": (11, "▲ present, should not be", WARN),
    "running": (12, "▲ runs, should not", WARN),
    "masked": (13, "✖ masked", BAD),
    "missing": (14, "✖ missing", BAD),
    "stopped": (15, "✖ stopped", BAD),
    "activating_too_long": (16, "✖ stuck starting", BAD),
    "restarting": (17, "✖ restart loop", BAD),
    "failed": (18, "✖ failed", BAD),
}
# Of each cause: what it means, before what it is about; and the section of the runbook.
CAUSES = {
    "dependency": ("depends on", "BaselineUnitDown"),
    "hostname": ("hostname", "BaselineHostnameUnresolved"),
    "redis": ("Redis", "BaselineRedisDown"),
    "write_path": ("cannot write", "BaselineWritePathDenied"),
    "read_only": ("read-only file system", "BaselineWritePathDenied"),
    "permission_denied": ("not permitted to open", "BaselineWritePathDenied"),
    "out_of_space": ("file system full", "BaselineDiskFull"),
    "start_limit": ("started too often", "BaselineUnitGivenUp"),
    "missing_module": ("module missing", "BaselineUnitFailed"),
    "missing_file": ("file missing", "BaselineUnitFailed"),
    "missing_executable": ("cannot run ExecStart=", "BaselineUnitFailed"),
    "working_directory": ("no WorkingDirectory=", "BaselineUnitFailed"),
    "user": ("no such User=, Group=", "BaselineUnitFailed"),
    "namespace": ("no sandbox possible", "BaselineUnitFailed"),
    "out_of_memory": ("out of memory", "BaselineUnitFailed"),
    "address_in_use": ("address is taken", "BaselineUnitFailed"),
    "too_many_files": ("too many open files", "BaselineUnitFailed"),
    "connection_refused": ("connection refused", "BaselineUnitFailed"),
}
HOSTNAME_REASONS = {
    "not_found": "no such name",
    "temporary": "resolver cannot tell now",
    "timeout": "no answer in time",
    "no_data": "no address",
    "refused": "resolver refuses",
    "invalid": "answer makes no sense",
}
REDIS_REASONS = {
    "resolve": "its name has no address",
    "refused": "nobody listens there",
    "unreachable": "no way there",
    "timeout": "no answer in time",
    "tls": "TLS handshake failed",
    "auth": "password or user refused",
    "loading": "still reads its data",
    "read_only": "takes no writes (replica)",
    "misconf": "cannot save (MISCONF)",
    "max_clients": "too many clients",
    "out_of_memory": "out of memory",
    "protocol": "no Redis answers there",
}
PATH_REASONS = {
    "ok": ("✔ can be written", GOOD),
    "denied": ("✖ permission denied", BAD),
    "read_only": ("✖ read-only for the unit", BAD),
    "missing": ("✖ missing", BAD),
    "not_dir": ("✖ not a directory", BAD),
    "is_dir": ("✖ is a directory", BAD),
    "loop": ("✖ links in a circle", BAD),
    "immutable": ("✖ immutable (chattr)", BAD),
    "no_space": ("✖ no space left", BAD),
    "no_inodes": ("✖ no inodes left", BAD),
    "start_fails": ("✖ unit cannot start", BAD),
    "starting": ("? only just starting", UNKNOWN),
    "timeout": ("? no answer in time", UNKNOWN),
    "unknown": ("? cannot be told", UNKNOWN),
}
VANTAGES = {"process": "asked its process", "predicted": "judged from its settings"}
DRIFTS = {"modified": ("▲ modified", WARN), "missing": ("✖ missing", BAD), "extra": ("▲ extra", WARN)}
EFFECTS = {"blocks": ("✖ blocks its start", BAD), "clutter": ("▲ clutter", WARN)}
PROBES = {
    "units": "units (systemd)",
    "hostnames": "hostnames",
    "redis": "Redis",
    "write_paths": "write paths",
    "unit_files": "unit files",
}
SEVERITIES = {"critical": ("✖ page", BAD), "warning": ("▲ ticket", WARN), "info": ("○ info", REST)}
# What stands where a query has no answer: never that all is well.
NO_ANSWER = "? unknown: the exporter gives no answer"
NOT_NAMED = "none: not in the baseline, or unknown (see the checks)"


def alerts():
    """The names of the alerts, which are the sections of the runbook."""
    rules = (HERE / "../rules/baseline.rules.yml").read_text()
    return sorted(set(re.findall(r"- alert: (\w+)", rules)))


# Mappings, links, queries


def mapped(words):
    """A value mapping: value to text, or to text and colour."""
    options = {}
    for index, (value, told) in enumerate(words.items()):
        text, color = (told, None) if isinstance(told, str) else told
        options[str(value)] = {"index": index, "text": text} | ({"color": color} if color else {})
    return [{"type": "value", "options": options}]


def unknown(text="? unknown", color=UNKNOWN):
    """The mapping of no value."""
    result = {"color": color, "index": 99, "text": text}
    return [{"type": "special", "options": {"match": "null+nan", "result": result}}]


def coded(*sets):
    """The mapping of sets of words to (code, text, colour)."""
    return mapped({code: (text, color) for words in sets for code, text, color in words.values()})


UNIT_CODES = coded(STATES, {"other": OTHER_STATE}, DEVIATIONS)


def link(title, url, new_tab=False):
    return {"title": title, "url": url, "targetBlank": new_tab}


def to_dashboard(uid, title, **variables):
    chosen = {"datasource": "${datasource}"} | variables
    query = "&".join(
        value if value.endswith(":queryparam}") else f"var-{name}={value}" for name, value in chosen.items()
    )
    return link(title, f"/d/{uid}?{query}&${{__url_time_range}}")


ROW_HOST = {"job": "${__data.fields.job:percentencode}", "instance": "${__data.fields.instance:percentencode}"}
SERIES_HOST = {"job": "${__field.labels.job:percentencode}", "instance": "${__field.labels.instance:percentencode}"}
UNIT_OF_SERIES = to_dashboard(
    "baseline-unit", "All about ${__field.labels.name}", **SERIES_HOST, unit="${__field.labels.name:percentencode}"
)
HOST_OF_ROW = to_dashboard("baseline-deployment", "This host", **ROW_HOST)
RUNBOOK = link("Runbook: what to do", "${runbook:raw}#${__data.fields.section}", new_tab=True)


def unit_of_row(field="name"):
    return to_dashboard(
        "baseline-unit", "All about this unit", **ROW_HOST, unit=f"${{__data.fields.{field}:percentencode}}"
    )


def query(expr, legend="", ref="A", kind="range"):
    """kind: range, instant (a value for each series) or table (a row for each series)."""
    target = {"datasource": DATASOURCE, "expr": expr, "refId": ref, "legendFormat": legend or "__auto"}
    target |= {"range": kind == "range", "instant": kind != "range"}
    return target | {"format": "table" if kind == "table" else "time_series"}


def fold(*terms):
    """Series that are 1 where something is so, folded into one code for each unit."""
    coded_terms = "\n  or ".join(f"({selector} == 1) * {code}" for selector, code in terms)
    return f"max {PER_UNIT} (\n  {coded_terms}\n)"


def deviations(matchers):
    return [
        (f'baseline_unit_deviation{{{matchers}, deviation="{word}"}}', code) for word, (code, *_) in DEVIATIONS.items()
    ]


def state_code(matchers):
    """One code for each unit: what is wrong with it, else its ActiveState. The codes of what is wrong
    are the higher ones."""
    named = [(f'systemd_unit_state{{{matchers}, state="{word}"}}', code) for word, (code, *_) in STATES.items()]
    rest = (f'systemd_unit_state{{{matchers}, state!~"{"|".join(STATES)}"}}', OTHER_STATE[0])
    return fold(*named, rest, *deviations(matchers))


def or_none(expr, known, of="job, instance", **labels):
    """A row that says so where there is nothing to show, but only for hosts of which that is known."""
    none = f"({known}) * 0"
    for label, value in labels.items():
        none = f'label_replace({none}, "{label}", "{value}", "", "")'
    return f"{expr}\nor on ({of})\n{none}"


def known(check):
    """Hosts that could tell how this check stands, without other labels."""
    return f'max by (job, instance) (baseline_check{{{HOST}, check="{check}", status="unknown"}}) == 0'


def worst(labels):
    """The worst answer of the checks: 0 holds, 1 unknown, 2 violated."""
    violated, unsure = (f'baseline_check{{{HOST}, status="{status}"}}' for status in ("violated", "unknown"))
    return f"max by ({labels}) (\n  {violated} * 2\n  or {unsure}\n)"


CONNECTED = f"max by (job, instance) (baseline_exporter_bus_connected{{{HOST}}}) == 1"
# Exists only where the rules are loaded and the exporter answers.
RULES_LOADED = f"max by (job, instance) (instance:baseline_check:worst{{{HOST}}}) >= 0"
# And 3 where nothing was said.
VERDICT = f"""{worst("job, instance")}
or on (job, instance)
up{{{HOST}}} * 0 + 3"""


# Panels


def panel(kind, title, description, targets, unit="none", mappings=(), options=None, custom=None, **more):
    defaults = {
        "color": {"mode": "thresholds"},
        "unit": unit,
        "mappings": list(mappings),
        "links": more.pop("links", []),
    }
    defaults["thresholds"] = {"mode": "absolute", "steps": more.pop("steps", [{"color": REST, "value": None}])}
    defaults |= {key: more.pop(key) for key in ("noValue", "decimals", "min", "max", "color") if key in more}
    defaults["custom"] = custom or {}
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": more.pop("overrides", [])},
        "options": options or {},
    } | more


def stat(title, description, expr, legend="{{instance}}", text="auto", background=True, **more):
    options = {
        "colorMode": "background" if background else "none",
        "graphMode": "none",
        "justifyMode": "center",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showPercentChange": False,
        "textMode": text,
        "wideLayout": True,
        "percentChangeColorMode": "standard",
    }
    targets = expr if isinstance(expr, list) else [query(expr, legend, kind="instant")]
    more.setdefault("noValue", "? unknown")
    more.setdefault("steps", [{"color": UNKNOWN, "value": None}])
    return panel("stat", title, description, targets, options=options, **more)


# Of a number of things that should not be there.
COUNTED = [{"color": UNKNOWN, "value": None}, {"color": GOOD, "value": 0}, {"color": BAD, "value": 1}]
TICKETS = [{"color": UNKNOWN, "value": None}, {"color": GOOD, "value": 0}, {"color": WARN, "value": 1}]
NONE = mapped({0: "✔ none"}) + unknown()


def by_name(name, **properties):
    """What holds for one column or series only."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key.replace("_", "."), "value": value} for key, value in properties.items()],
    }


def column(title, width=None, mappings=None, unit=None, links=None, colored=False, decimals=None):
    """How one column of a table is shown."""
    properties = {}
    if width:
        properties["custom_width"] = width
    if mappings:
        properties["mappings"] = mappings
    if unit:
        properties["unit"] = unit
    if decimals is not None:
        properties["decimals"] = decimals
    if links:
        properties["links"] = links
    if colored:
        properties["custom_cellOptions"] = {"type": "color-background", "mode": "basic"}
    return by_name(title, **properties)


def table(title, description, exprs, columns, hidden=(), sort=None, descending=True, transformations=None, **more):
    """exprs: one query, or several whose rows are merged by the labels that they share. columns: field
    to how it is shown, in their order; hidden: fields that only links need."""
    many = isinstance(exprs, list)
    targets = [
        query(expr, ref=chr(ord("A") + index), kind="table") for index, expr in enumerate(exprs if many else [exprs])
    ]
    titles = {field: shown["matcher"]["options"] for field, shown in columns.items()}
    wanted = [*columns, *hidden]
    only = {"id": "filterFieldsByName", "options": {"include": {"names": wanted}}}
    organize = {
        "id": "organize",
        "options": {
            "excludeByName": {},
            "indexByName": {field: index for index, field in enumerate(wanted)},
            "renameByName": titles,
        },
    }
    if transformations is None:
        transformations = [{"id": "merge", "options": {}}] if many else []
    in_order = (
        [{"id": "sortBy", "options": {"fields": {}, "sort": [{"field": sort, "desc": descending}]}}] if sort else []
    )
    # Until Grafana 11, and since 12.
    hide = {"custom_hidden": True, "custom_hideFrom": {"legend": False, "tooltip": False, "viz": True}}
    overrides = list(columns.values()) + [by_name(field, **hide) for field in hidden]
    options = {
        "cellHeight": "sm",
        "showHeader": True,
        "sortBy": [],
    }
    custom = {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": False, "inspect": False}
    more.setdefault("noValue", NO_ANSWER)
    overrides += more.pop("overrides", [])
    return panel(
        "table",
        title,
        description,
        targets,
        options=options,
        custom=custom,
        overrides=overrides,
        transformations=[*transformations, *in_order, only, organize],
        **more,
    )


def timeseries(title, description, targets, unit, stacked=False, bars=False, fixed=(), **more):
    custom = {
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 60 if stacked or bars else 0,
        "lineWidth": 1 if stacked else 2,
        "showPoints": "never",
        "spanNulls": False,
        "insertNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "axisSoftMin": 0,
    }
    options = {
        "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "right", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    overrides = [by_name(name, color={"fixedColor": color, "mode": "fixed"}) for name, color in dict(fixed).items()]
    more.setdefault("noValue", NO_ANSWER)
    more.setdefault("color", {"mode": "palette-classic-by-name"})
    more.setdefault("min", 0)
    return panel(
        "timeseries", title, description, targets, unit, options=options, custom=custom, overrides=overrides, **more
    )


def timeline(title, description, targets, mappings, **more):
    options = {
        "alignValue": "left",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "mergeValues": True,
        "rowHeight": 0.85,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    # Mappings give the colours; by thresholds, merged values would lose them. No value is drawn longer
    # than it was seen.
    custom = {"fillOpacity": 85, "lineWidth": 0, "insertNulls": 300000, "spanNulls": False}
    more.setdefault("noValue", NO_ANSWER)
    return panel(
        "state-timeline",
        title,
        description,
        targets,
        mappings=mappings,
        options=options,
        custom=custom,
        color={"mode": "fixed", "fixedColor": REST},
        **more,
    )


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "size": (24, 1)}


def note(title, description, content, size):
    return {
        "type": "text",
        "title": title,
        "description": description,
        "options": {
            "code": {"language": "plaintext", "showLineNumbers": False, "showMiniMap": False},
            "content": content,
            "mode": "markdown",
        },
        "size": size,
    }


# Columns that several tables have.
HOST_COLUMN = column("Host", 110, links=[HOST_OF_ROW])
UNIT_COLUMN = column("Unit", 230, links=[unit_of_row()])
SECTIONS = mapped({name: name.lower() for name in alerts()})
CAUSE_SECTIONS = mapped({cause: section.lower() for cause, (_, section) in CAUSES.items()})


def sectioned(expr, label):
    """With the section of the runbook beside the label that tells it."""
    return f'label_replace(\n{expr},\n"section", "$1", "{label}", "(.+)")'


def trouble(matchers, size):
    """What is wrong with which unit, and each suspected cause."""
    wrong = fold(*deviations(matchers))
    causes = sectioned(f"baseline_unit_cause{{{matchers}}} * on (job, instance, name) group_left () {wrong}", "cause")
    listed = or_none(f"{causes}\nor on (job, instance, name)\n{wrong}", CONNECTED, name="–")
    return table(
        "Units in trouble, and why",
        "Units that are not as the baseline wants them, and what probably caused it: the cause and what it is about. "
        "Follow the cause to the runbook.",
        listed,
        {
            "name": UNIT_COLUMN,
            "Value": column(
                "What is wrong", 135, mapped({0: ("✔ none in trouble", GOOD)}) + coded(DEVIATIONS), colored=True
            ),
            "cause": column(
                "Suspected cause", 150, mapped({cause: text for cause, (text, _) in CAUSES.items()}), links=[RUNBOOK]
            ),
            "detail": column("About"),
            "instance": HOST_COLUMN,
        },
        hidden=["job", "section"],
        sort="Value",
        overrides=[by_name("section", mappings=CAUSE_SECTIONS)],
        size=size,
    )


def firing(title, description, matchers, evaluated, of, size):
    """Alerts that fire, with what they are about; since when is what Prometheus remembers of them."""
    about = '"about", " ", "name", "hostname", "endpoint", "path", "from", "to", "file", "check"'
    alert = f'ALERTS_FOR_STATE{{{matchers}}} and ignoring (alertstate) ALERTS{{{matchers}, alertstate="firing"}}'
    told = sectioned(f"label_join(({alert}) * 1000, {about})", "alertname")
    listed = or_none(told, evaluated, of, alertname="–", severity="none")
    columns = {
        "severity": column("Severity", 100, mapped({"none": ("✔ none fires", GOOD)} | SEVERITIES), colored=True),
        "alertname": column("Alert", 215, links=[RUNBOOK]),
        "about": column("About"),
        "instance": HOST_COLUMN,
        "Value": column("Since", 110, mapped({0: "–"}), unit="dateTimeFromNow"),
    }
    return table(
        title,
        description,
        listed,
        columns,
        hidden=["job", "section"],
        # critical comes first by the alphabet, too.
        sort="severity",
        descending=False,
        overrides=[by_name("section", mappings=SECTIONS)],
        noValue="? unknown: Prometheus does not evaluate the alert rules, or the exporter gives no answer",
        size=size,
    )


def write_paths(title, description, size):
    of_path = "max by (job, instance, name, path"
    next_start = f'label_replace(baseline_write_path_next_start_reason{{{UNIT}}} == 1, "next", "$1", "reason", "(.+)")'
    return table(
        title,
        description,
        [
            f"{of_path}, reason) (baseline_write_path_reason{{{UNIT}}} == 1)",
            f"{of_path}, next) ({next_start})",
            f"{of_path}, vantage) (baseline_write_path_vantage{{{UNIT}}} == 1)",
            f"{of_path}) (baseline_write_path_free_bytes{{{UNIT}}})",
        ],
        {
            "reason": column("Now", 170, mapped(PATH_REASONS), colored=True),
            "name": UNIT_COLUMN,
            "path": column("Path"),
            "next": column("After its next start", 170, mapped(PATH_REASONS)),
            "Value #D": column("Free", 85, unit="bytes"),
            "vantage": column("How told", 170, mapped(VANTAGES)),
            "instance": HOST_COLUMN,
        },
        hidden=["job"],
        noValue=NOT_NAMED,
        size=size,
    )


def references(matchers, hosts, size):
    return table(
        "References to units that do not exist",
        "A unit file names a unit that has no unit file, is masked or is retired. One that blocks keeps its unit from "
        "starting.",
        or_none(f"baseline_reference_dangling{{{matchers}}} == 1", hosts, **{"from": "–", "effect": "none"}),
        {
            "effect": column("Effect", 140, mapped({"none": ("✔ none", GOOD)} | EFFECTS), colored=True),
            "from": column("Unit", 190, links=[unit_of_row("from")]),
            "directive": column("Names in", 85),
            "to": column("What does not exist"),
            "instance": HOST_COLUMN,
        },
        hidden=["job"],
        size=size,
    )


def drift(matchers, hosts, size):
    return table(
        "Unit files that differ from the snapshot",
        "Against the golden snapshot: modified, missing here, or extra here.",
        or_none(f"baseline_unit_file_drift{{{matchers}}} == 1", hosts, file="–", drift="none"),
        {
            "drift": column("Difference", 130, mapped({"none": ("✔ none", GOOD)} | DRIFTS), colored=True),
            "file": column("File"),
            "instance": HOST_COLUMN,
        },
        hidden=["job"],
        noValue=NOT_NAMED,
        size=size,
    )


# Dashboards


def variable(name, label, arguments, many=True, hide=0, every=False):
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {
            "qryType": 1,
            "query": f"label_values({arguments})",
            "refId": "PrometheusVariableQueryEditor-VariableQuery",
        },
        "multi": many,
        "includeAll": every,
        "allValue": ".+",
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "hide": hide,
        "skipUrlSync": False,
        "current": {},
        "options": [],
    }


def variables(every_host, unit=None, every_unit=False):
    hosts = 'baseline_exporter_build_info{job=~"$job"}'
    listed = [
        {
            "type": "datasource",
            "name": "datasource",
            "label": "Data source",
            "query": "prometheus",
            "regex": "",
            "multi": False,
            "includeAll": False,
            "refresh": 1,
            "hide": 0,
            "skipUrlSync": False,
            "current": {},
            "options": [],
        },
        # Not all at once: that would choose targets that are no exporters, too.
        variable("job", "Job", "baseline_exporter_build_info, job"),
        variable("instance", "Instance", f"{hosts}, instance", every=every_host),
    ]
    if unit:
        listed.append(variable("unit", "Unit", f"baseline_unit_expected{{{HOST}}}, name", every=every_unit))
    return [*listed, variable("runbook", "Runbook", "baseline:runbook:info, base", many=False, hide=2)]


def dashboard(uid, title, description, variables, rows, since):
    """rows: of panels, or of lists of panels that stand upon each other; they fill 24 columns."""
    panels, y = [], 0
    for line in rows:
        x, bottom = 0, y
        for stack in line:
            top = y
            for each in stack if isinstance(stack, list) else [stack]:
                width, height = each.pop("size")
                panels.append({"id": len(panels) + 1, "gridPos": {"x": x, "y": top, "w": width, "h": height}} | each)
                top += height
            x, bottom = x + width, max(bottom, top)
        y = bottom
    links = [
        {
            "title": "Baseline dashboards",
            "type": "dashboards",
            "tags": ["baseline-exporter"],
            "asDropdown": True,
            "includeVars": True,
            "keepTime": True,
            "targetBlank": False,
            "icon": "external link",
            "tooltip": "",
            "url": "",
        }
    ]
    annotation = {
        "name": "Firing alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": BAD,
        "expr": f'ALERTS{{{HOST}, component="baseline", alertstate="firing", severity=~"critical|warning"}}',
        "step": "30s",
        "titleFormat": "{{alertname}}",
        "textFormat": "{{severity}} {{instance}} {{name}}{{hostname}}{{endpoint}} {{path}}",
        "tagKeys": "severity",
    }
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["baseline-exporter", "systemd"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": since, "to": "now"},
        "timezone": "browser",
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "weekStart": "",
        "timepicker": {},
        "annotations": {"list": [annotation]},
        "links": links,
        "templating": {"list": variables},
        "panels": panels,
    }


def deployment():
    in_trouble = f"max {PER_UNIT} (baseline_unit_deviation{{{UNIT}}}) == 1"
    # Of one moment, the end: rows do not move while one looks.
    was_in_trouble = f"max {PER_UNIT} (max_over_time(baseline_unit_deviation{{{UNIT}}}[$__range] @ end())) == 1"
    absent = f'baseline_unit_expected{{{UNIT}, expected="absent"}}'
    fires = 'count by (job, instance) (ALERTS{%s, component="baseline", alertstate="firing", severity="%s"})'
    restarts = "systemd_service_auto_restarts_total"
    failures = "systemd_service_failures_total"
    seconds = "systemd_unit_state_seconds_total"
    of_hostname = "max by (job, instance, hostname)"
    of_redis = "max by (job, instance, endpoint)"
    rows = [
        [
            stat(
                "Is it at its baseline?",
                "The worst of all checks. No answer: the exporter could not be scraped, so nothing is known.",
                VERDICT,
                mappings=mapped(
                    {
                        0: ("✔ at its baseline", GOOD),
                        1: ("? unknown", UNKNOWN),
                        2: ("✖ not at its baseline", BAD),
                        3: ("✖ no answer", BAD),
                    }
                )
                + unknown("✖ no answer"),
                noValue="✖ no answer",
                size=(7, 5),
            ),
            stat(
                "Units in trouble",
                "Watched units that differ from what the baseline wants of them; they are listed below.",
                or_none(f"count by (job, instance) ({in_trouble})", CONNECTED),
                mappings=NONE,
                steps=COUNTED,
                size=(4, 5),
            ),
            stat(
                "Services that run",
                "Services that the baseline wants running, and those of them that run.",
                [
                    query(f"baseline_units_running{{{HOST}}}", "run", kind="instant"),
                    query(f"baseline_units_running_expected{{{HOST}}}", "should", ref="B", kind="instant"),
                ],
                text="value_and_name",
                background=False,
                size=(4, 5),
            ),
            stat(
                "Pages",
                "Firing alerts of severity critical.",
                or_none(fires % (HOST, "critical"), RULES_LOADED),
                mappings=NONE,
                steps=COUNTED,
                size=(4, 5),
            ),
            stat(
                "Tickets",
                "Firing alerts of severity warning.",
                or_none(fires % (HOST, "warning"), RULES_LOADED),
                mappings=NONE,
                steps=TICKETS,
                size=(5, 5),
            ),
        ],
        [
            table(
                "The checks",
                "Each documented check: how many the baseline wants, how many were seen. Unknown: it could not be told.",
                [
                    worst("job, instance, check"),
                    f"max by (job, instance, check) (baseline_check_expected{{{HOST}}})",
                    f"max by (job, instance, check) (baseline_check_seen{{{HOST}}})",
                ],
                {
                    "Value #A": column("Answer", 100, mapped(STATUS), colored=True),
                    "check": column(
                        "Check", mappings=mapped({check: counted for check, (counted, _) in CHECKS.items()})
                    ),
                    "Value #B": column("Expected", 75),
                    "Value #C": column("Seen", 55, unknown("?")),
                    "instance": HOST_COLUMN,
                },
                hidden=["job"],
                sort="Value #A",
                size=(10, 14),
            ),
            [
                trouble(UNIT, size=(14, 7)),
                firing(
                    "Alerts that fire",
                    "Each alert leads to its section of the runbook: what it means, what to type, how to tell that it worked.",
                    f'{HOST}, component="baseline"',
                    RULES_LOADED,
                    "job, instance",
                    size=(14, 7),
                ),
            ],
        ],
        [row("Over the time shown")],
        [
            timeline(
                "Units, trouble on top",
                "What is wrong with each unit, else its state (ActiveState). First those that were in trouble at any time "
                "shown. Units that are absent on purpose are left out.",
                [
                    query(f"{state_code(UNIT)}\nand on (job, instance, name) ({was_in_trouble})", "{{name}}"),
                    query(
                        f"{state_code(UNIT)}\nunless on (job, instance, name) ({was_in_trouble})\n"
                        f"unless on (job, instance, name) {absent}",
                        "{{name}}",
                        ref="B",
                    ),
                ],
                UNIT_CODES,
                links=[UNIT_OF_SERIES],
                size=(24, 14),
            ),
        ],
        [
            timeseries(
                "Restarts and failures",
                "Automatic restarts and endings other than success, of all units, in each interval.",
                [
                    query(f"sum by (job, instance) (increase({restarts}{{{UNIT}}}[$__rate_interval]))", "restarts"),
                    query(
                        f"sum by (job, instance) (increase({failures}{{{UNIT}}}[$__rate_interval]))",
                        "failures",
                        ref="B",
                    ),
                ],
                "short",
                bars=True,
                fixed={"restarts": WARN, "failures": BAD},
                decimals=0,
                size=(12, 9),
            ),
            table(
                "Restarts and failures of each unit",
                "In the time shown: automatic restarts, endings other than success, and the share of the time that it was active, of that while it was watched.",
                [
                    f"sum {PER_UNIT} (increase({restarts}{{{UNIT}}}[$__range]))",
                    f"sum {PER_UNIT} (increase({failures}{{{UNIT}}}[$__range]))",
                    f'sum {PER_UNIT} (increase({seconds}{{{UNIT}, state="active"}}[$__range]))'
                    f"\n/\n(sum {PER_UNIT} (increase({seconds}{{{UNIT}}}[$__range])) > 0)"
                    f'\nand on (job, instance, name) systemd_unit_info{{{UNIT}, type="service"}}',
                ],
                {
                    "name": UNIT_COLUMN,
                    "Value #A": column("Restarts", 80, decimals=0),
                    "Value #B": column("Failures", 80, decimals=0),
                    "Value #C": column("Active", 75, unit="percentunit", decimals=1),
                    "instance": HOST_COLUMN,
                },
                hidden=["job"],
                sort="Value #A",
                size=(12, 9),
            ),
        ],
        [row("What the services depend on")],
        [
            table(
                "Hostnames",
                "What the services get for each name (getaddrinfo), why if nothing, and where it stands. An alias need not be in DNS.",
                [
                    f'max by (job, instance, hostname) (baseline_hostname_deviation{{{HOST}, deviation="unresolved"}} * 2'
                    f' or baseline_hostname_deviation{{{HOST}, deviation="unexpected"}})',
                    f'max by (job, instance, hostname, reason) (baseline_hostname_failure{{{HOST}, resolver="nss"}} == 1)',
                    f'{of_hostname} (baseline_hostname_resolves{{{HOST}, resolver="hosts"}})',
                    f'{of_hostname} (baseline_hostname_resolves{{{HOST}, resolver="dns"}})',
                    f"{of_hostname} (baseline_hostname_persistent{{{HOST}}})",
                    f'{of_hostname} (baseline_hostname_lookup_seconds{{{HOST}, resolver="nss"}})',
                ],
                {
                    "Value #A": column(
                        "For services",
                        150,
                        mapped({0: ("✔ as expected", GOOD), 1: ("✖ other address", BAD), 2: ("✖ unresolved", BAD)})
                        + unknown(),
                        colored=True,
                    ),
                    "hostname": column("Name"),
                    "reason": column("Why", 170, mapped(HOSTNAME_REASONS)),
                    "Value #C": column("Hosts file", 95, mapped({0: "not there", 1: "there"}) + unknown()),
                    "Value #D": column("DNS", 95, mapped({0: "not there", 1: "there"}) + unknown()),
                    "Value #E": column(
                        "After a rebuild",
                        125,
                        mapped({0: ("▲ lost", WARN), 1: ("✔ kept", GOOD)}) + unknown(),
                        colored=True,
                    ),
                    "Value #F": column("Look-up", 90, unit="s"),
                    "instance": HOST_COLUMN,
                },
                hidden=["job"],
                sort="Value #A",
                noValue=NOT_NAMED,
                size=(24, 5),
            ),
        ],
        [
            table(
                "Redis",
                "Whether each server answers PING and takes writes, and why not. Writable is unknown while it does not answer.",
                [
                    f"{of_redis} (baseline_redis_up{{{HOST}}})",
                    f"{of_redis} (baseline_redis_writable{{{HOST}}})",
                    f"max by (job, instance, endpoint, reason) (baseline_redis_failure{{{HOST}}} == 1)",
                    f"{of_redis} (baseline_redis_connected_clients{{{HOST}}})",
                    f"{of_redis} (baseline_redis_start_time_seconds{{{HOST}}}) * 1000",
                ],
                {
                    "Value #A": column(
                        "Answers", 95, mapped({0: ("✖ no", BAD), 1: ("✔ yes", GOOD)}) + unknown(), colored=True
                    ),
                    "Value #B": column(
                        "Takes writes",
                        100,
                        mapped({0: ("✖ no", BAD), 1: ("✔ yes", GOOD)}) + unknown(),
                        colored=True,
                    ),
                    "endpoint": column("Redis"),
                    "reason": column("Why", 175, mapped(REDIS_REASONS)),
                    "Value #D": column("Clients", 65),
                    "Value #E": column("Started", 110, unit="dateTimeFromNow"),
                    "instance": HOST_COLUMN,
                },
                hidden=["job"],
                noValue=NOT_NAMED,
                size=(12, 7),
            ),
            timeseries(
                "How long Redis takes, by phase",
                "The time of each phase of asking: resolve, connect, TLS, authenticate, ping, role. The last one may have failed.",
                [
                    query(
                        f"sum by (endpoint, phase) (baseline_redis_phase_seconds{{{HOST}}})",
                        "{{endpoint}} {{phase}}",
                    )
                ],
                "s",
                stacked=True,
                noValue=NOT_NAMED,
                size=(12, 7),
            ),
        ],
        [
            write_paths(
                "Write paths",
                "Whether each service can write its paths: as its running process finds them, or where none runs as its settings say.",
                size=(24, 7),
            ),
        ],
        [row("Unit files")],
        [
            references(HOST, known("references"), size=(12, 6)),
            drift(HOST, known("unit_files"), size=(8, 6)),
            stat(
                "Snapshot taken",
                "When the golden snapshot was taken.",
                f"max by (job, instance) (baseline_snapshot_timestamp_seconds{{{HOST}}}) * 1000",
                unit="dateTimeFromNow",
                background=False,
                noValue="none, or unknown",
                size=(4, 6),
            ),
        ],
        [row("The exporter")],
        [
            table(
                "What the exporter could look at",
                "Whether each look gave an answer, whatever it was, and how long it took.",
                [
                    f"max by (job, instance, probe) (baseline_exporter_probe_success{{{HOST}}})",
                    f"max by (job, instance, probe) (baseline_exporter_probe_duration_seconds{{{HOST}}})",
                ],
                {
                    "Value #A": column(
                        "Answer",
                        110,
                        mapped({0: ("? none", UNKNOWN), 1: ("✔ yes", GOOD)}) + unknown(),
                        colored=True,
                    ),
                    "probe": column("Look at", mappings=mapped(PROBES)),
                    "Value #B": column("Took", 100, unit="s"),
                    "instance": HOST_COLUMN,
                },
                hidden=["job"],
                size=(12, 6),
            ),
            timeseries(
                "How long looking takes",
                "The time of each look, and of the whole scrape.",
                [
                    query(f"max by (probe) (baseline_exporter_probe_duration_seconds{{{HOST}}})", "{{probe}}"),
                    query(f"max(scrape_duration_seconds{{{HOST}}})", "the whole scrape", ref="B"),
                ],
                "s",
                size=(12, 6),
            ),
        ],
    ]
    return dashboard(
        "baseline-deployment",
        "Baseline / Deployment",
        "Is the deployment of a host at its baseline, and if not, what broke and why?",
        variables(every_host=False, unit=True, every_unit=True),
        rows,
        "now-6h",
    )


def unit():
    of_unit = f"max {PER_UNIT}"

    def word(title, description, metric, legend, **more):
        expr = f"{metric}{{{UNIT}}} == 1"
        return stat(title, description, expr, legend, text="name", background=False, **more)

    rows = [
        [
            stat(
                "Is it as it should be?",
                "What is wrong with the unit, else its state (ActiveState).",
                state_code(UNIT),
                "{{name}} {{instance}}",
                mappings=UNIT_CODES + unknown(),
                size=(6, 4),
            ),
            word(
                "Sub-state",
                "SubState of systemd; auto-restart is a loop that waits.",
                "systemd_unit_sub_state",
                "{{sub_state}}",
                size=(3, 4),
            ),
            stat(
                "In this state since",
                "When the current state was entered; never changed, where it did not since the boot.",
                f"systemd_unit_state_change_timestamp_seconds{{{UNIT}}} * 1000",
                "{{name}} {{instance}}",
                unit="dateTimeFromNow",
                background=False,
                mappings=mapped({0: "never changed"}) + unknown(),
                size=(4, 4),
            ),
            word(
                "Expected",
                "What the baseline expects of the unit, and its tier: 1 pages, 2 opens a ticket, 3 only shows here.",
                "baseline_unit_expected",
                "{{expected}} (tier {{tier}})",
                size=(4, 4),
            ),
            word(
                "Enablement",
                "The state of its unit file; none without a unit file.",
                "systemd_unit_file_state",
                "{{file_state}}",
                noValue="no unit file, or unknown",
                size=(3, 4),
            ),
            stat(
                "After a reboot",
                "Whether the next boot starts it. Told only of units that should run or be active.",
                f"baseline_unit_starts_at_boot{{{UNIT}}}",
                "{{name}} {{instance}}",
                mappings=mapped({0: ("▲ would not start", WARN), 1: ("✔ starts", GOOD)}) + unknown(),
                noValue="not told of this unit",
                size=(4, 4),
            ),
        ],
        [
            word(
                "Last result",
                "How its last run ended; success while it runs.",
                "systemd_service_last_result",
                "{{result}}",
                noValue="no service, or unknown",
                size=(3, 4),
            ),
            word(
                "Last exit",
                "How its main process last ended, as systemd names it.",
                "systemd_service_last_exit",
                "{{code}} {{status}}",
                noValue="it never ended, or unknown",
                size=(4, 4),
            ),
            word("Unit file", "LoadState of systemd.", "systemd_unit_load_state", "{{load_state}}", size=(3, 4)),
            stat(
                "As systemd read it",
                "Whether systemd has read the unit file as it is on disk.",
                f"systemd_unit_need_daemon_reload{{{UNIT}}}",
                "{{name}} {{instance}}",
                mappings=mapped({0: ("✔ as on disk", GOOD), 1: ("▲ reload needed", WARN)}) + unknown(),
                noValue="no unit file, or unknown",
                size=(3, 4),
            ),
            note(
                "Look there",
                "What to type on the host.",
                "`systemctl status $unit`\n\n`journalctl --unit=$unit --lines=50`\n\n`systemctl cat $unit`",
                size=(11, 4),
            ),
        ],
        [trouble(UNIT, size=(24, 5))],
        [
            timeline(
                "State",
                "What is wrong with it, else its state (ActiveState).",
                [query(state_code(UNIT), "{{name}} {{instance}}")],
                UNIT_CODES,
                size=(12, 6),
            ),
            timeseries(
                "Restarts, failures, starts",
                "Automatic restarts, endings other than success, and starts of any kind, in each interval.",
                [
                    query(
                        f"sum(increase(systemd_service_auto_restarts_total{{{UNIT}}}[$__rate_interval]))",
                        "restarts",
                    ),
                    query(
                        f"sum(increase(systemd_service_failures_total{{{UNIT}}}[$__rate_interval]))",
                        "failures",
                        ref="B",
                    ),
                    query(
                        f"sum(increase(systemd_unit_activations_total{{{UNIT}}}[$__rate_interval]))",
                        "starts",
                        ref="C",
                    ),
                ],
                "short",
                bars=True,
                fixed={"restarts": WARN, "failures": BAD, "starts": MOVING},
                decimals=0,
                noValue="none: it never started while watched, or unknown",
                size=(12, 6),
            ),
        ],
        [
            timeline(
                "Sub-state",
                "Which SubState it was in, one line for each.",
                [query(f"max by (name, sub_state) (systemd_unit_sub_state{{{UNIT}}})", "{{sub_state}}")],
                mapped({1: ("in it", GOOD)}),
                size=(12, 7),
            ),
            timeseries(
                "Time in each state",
                "The share of the time that the unit spent in each ActiveState.",
                [
                    query(
                        f"sum by (state) (rate(systemd_unit_state_seconds_total{{{UNIT}}}[$__rate_interval]))",
                        "{{state}}",
                    )
                ],
                "percentunit",
                stacked=True,
                fixed={word: color for word, (_, _, color) in STATES.items()},
                size=(12, 7),
            ),
        ],
        [row("What it uses")],
        [
            timeseries(
                "CPU",
                "CPU time of the unit's cgroup: 1 is one core.",
                [
                    query(
                        f"sum {PER_UNIT} (rate(systemd_unit_cpu_seconds_total{{{UNIT}}}[$__rate_interval]))",
                        "{{name}} {{instance}}",
                    )
                ],
                "none",
                decimals=3,
                noValue="none: it does not run, or has no cgroup",
                size=(8, 8),
            ),
            timeseries(
                "Memory against its limit",
                "Memory of the unit's cgroup, and MemoryMax= where it has one.",
                [
                    query(f"{of_unit} (systemd_unit_memory_bytes{{{UNIT}}})", "{{name}} {{instance}}"),
                    query(
                        f"{of_unit} (systemd_unit_memory_max_bytes{{{UNIT}}})",
                        "limit of {{name}} {{instance}}",
                        ref="B",
                    ),
                ],
                "bytes",
                noValue="none: it does not run, or has no cgroup",
                size=(8, 8),
            ),
            timeseries(
                "Tasks against their limit",
                "Processes and threads of the unit's cgroup, and TasksMax= where it has one.",
                [
                    query(f"{of_unit} (systemd_unit_tasks_current{{{UNIT}}})", "{{name}} {{instance}}"),
                    query(f"{of_unit} (systemd_unit_tasks_max{{{UNIT}}})", "limit of {{name}} {{instance}}", ref="B"),
                ],
                "short",
                noValue="none: it does not run, or has no cgroup",
                size=(8, 8),
            ),
        ],
        [row("What it depends on")],
        [
            write_paths(
                "Paths that it writes",
                "Whether it can write them now and after its next start, and how that was told.",
                size=(24, 6),
            ),
        ],
        [
            references(f'{HOST}, from=~"$unit"', known("references"), size=(12, 6)),
            drift(f'{HOST}, file=~"($unit)([.]d/.*)?"', known("unit_files"), size=(12, 6)),
        ],
    ]
    return dashboard(
        "baseline-unit",
        "Baseline / Unit",
        "Everything about one unit, or the same unit on several hosts.",
        variables(every_host=False, unit=True),
        rows,
        "now-6h",
    )


def fleet():
    def count(status):
        return f'max by (job, instance) (instance:baseline_check:count{{{HOST}, status="{status}"}})'

    # Of each: how many hosts; none where no host answers, which is not zero.
    verdict = f"instance:baseline_check:worst{{{HOST}}}"
    holding, unsure, violated = (f"sum({verdict} == bool {code})" for code in (0, 1, 2))
    silent = f"sum(up{{{HOST}}} == bool 0)"
    # For the order of the hosts: no answer before a violation, a violation before an unknown.
    order = f"""{count("violated")} * 100 + on (job, instance) {count("unknown")}
  or on (job, instance)
  (max by (job, instance) (up{{{HOST}}}) == 0) + 10000"""
    matrix = f"""{worst("job, instance, check")}
or
label_replace((max by (job, instance) (up{{{HOST}}}) == bool 0) * 3, "check", "scrape", "", "")
or
label_replace({order}, "check", "order", "", "")"""
    # Without an answer, or without that check: the first column tells which.
    nothing = unknown("–", REST)
    answers = mapped({0: ("✔", GOOD), 1: ("? unknown", UNKNOWN), 2: ("✖ violated", BAD), 3: ("✖ no answer", BAD)})
    alerts = f'ALERTS{{{HOST}, component="baseline", alertstate="firing"}}'
    host = column(
        "Host",
        185,
        links=[
            to_dashboard(
                "baseline-deployment", "This host", job="${job:queryparam}", instance="${__value.text:percentencode}"
            )
        ],
    )
    evaluated = f"max by (job) (instance:baseline_check:worst{{{HOST}}}) >= 0"
    rows = [
        [
            stat(
                "Hosts",
                "Hosts whose exporter Prometheus scrapes or should.",
                f"count(up{{{HOST}}})",
                "hosts",
                background=False,
                size=(4, 4),
            ),
            stat(
                "At their baseline",
                "Hosts of which every check holds.",
                holding,
                "hosts",
                steps=[{"color": UNKNOWN, "value": None}, {"color": BAD, "value": 0}, {"color": GOOD, "value": 1}],
                size=(5, 4),
            ),
            stat(
                "Not at their baseline",
                "Hosts of which a check is violated.",
                violated,
                "hosts",
                mappings=NONE,
                steps=COUNTED,
                size=(5, 4),
            ),
            stat(
                "Unknown",
                "Hosts of which no check is violated, but one cannot be told.",
                unsure,
                "hosts",
                mappings=NONE,
                steps=[
                    {"color": UNKNOWN, "value": None},
                    {"color": GOOD, "value": 0},
                    {"color": UNKNOWN, "value": 1},
                ],
                size=(5, 4),
            ),
            stat(
                "No answer",
                "Hosts whose exporter cannot be scraped: nothing is known of them.",
                silent,
                "hosts",
                mappings=NONE,
                steps=COUNTED,
                size=(5, 4),
            ),
        ],
        [
            table(
                "Hosts and checks, worst first",
                "Each host with the answer of each check. Hosts without an answer come first, then those with most violations. "
                "An empty cell: the baseline of that host does not have the check.",
                matrix,
                {"instance\\check": host}
                | {"scrape": column("Answers", 80, mapped({0: ("✔", GOOD), 3: ("✖ no", BAD)}) + nothing, colored=True)}
                | {check: column(title, 88, answers + nothing, colored=True) for check, (_, title) in CHECKS.items()},
                sort="order",
                transformations=[
                    {
                        "id": "groupingToMatrix",
                        "options": {
                            "columnField": "check",
                            "rowField": "instance",
                            "valueField": "Value",
                            "emptyValue": "null",
                        },
                    }
                ],
                size=(24, 12),
            ),
        ],
        [
            table(
                "Incidents",
                "Which alerts fire, and on how many hosts.",
                or_none(
                    sectioned(f"count by (job, alertname, severity) ({alerts})", "alertname"),
                    evaluated,
                    "job",
                    alertname="–",
                    severity="none",
                ),
                {
                    "severity": column(
                        "Severity", 110, mapped({"none": ("✔ none fires", GOOD)} | SEVERITIES), colored=True
                    ),
                    "alertname": column("Alert", links=[RUNBOOK]),
                    "Value": column("How many", 100),
                },
                hidden=["section"],
                sort="Value",
                overrides=[by_name("section", mappings=SECTIONS)],
                noValue="? unknown: Prometheus does not evaluate the alert rules, or no exporter answers",
                size=(10, 10),
            ),
            firing(
                "Which incident is where",
                "Each alert that fires, with its host; pages and tickets.",
                f'{HOST}, component="baseline", severity=~"critical|warning"',
                evaluated,
                "job",
                size=(14, 10),
            ),
        ],
        [
            timeseries(
                "Hosts over the time shown",
                "How many hosts are at their baseline, are not, are unknown, give no answer.",
                [
                    query(holding, "at their baseline"),
                    query(violated, "not at their baseline", ref="B"),
                    query(unsure, "unknown", ref="C"),
                    query(silent, "no answer", ref="D"),
                ],
                "short",
                # Of a thousand hosts a day costs less than a second so.
                interval="5m",
                stacked=True,
                decimals=0,
                fixed={
                    "at their baseline": GOOD,
                    "not at their baseline": BAD,
                    "unknown": UNKNOWN,
                    "no answer": REST,
                },
                size=(24, 8),
            ),
        ],
        [
            table(
                "Exporters",
                "How many hosts run which version of the exporter.",
                f"count by (version, revision) (baseline_exporter_build_info{{{HOST}}})",
                {"version": column("Version"), "revision": column("Revision"), "Value": column("Hosts", 80)},
                sort="Value",
                size=(8, 8),
            ),
            table(
                "Baselines",
                "How many hosts are compared with which baseline; the version is a checksum of its text.",
                f"count by (deployment, version) (baseline_info{{{HOST}}})",
                {
                    "deployment": column("Deployment"),
                    "version": column("Version", 100),
                    "Value": column("Hosts", 80),
                },
                sort="Value",
                size=(8, 8),
            ),
            table(
                "systemd",
                "How many hosts run which version of systemd.",
                f"count by (version) (systemd_version_info{{{HOST}}})",
                {"version": column("Version"), "Value": column("Hosts", 80)},
                sort="Value",
                size=(8, 8),
            ),
        ],
    ]
    return dashboard(
        "baseline-fleet",
        "Baseline / Fleet",
        "Many hosts: which are not at their baseline, which incident is where, which versions run.",
        variables(every_host=True),
        rows,
        "now-24h",
    )


def written():
    """The text of each file."""
    dashboards = {"deployment": deployment(), "unit": unit(), "fleet": fleet()}
    return {
        HERE / f"dashboards/{name}.json": json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        for name, content in dashboards.items()
    }


def main():
    for path, text in written().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
