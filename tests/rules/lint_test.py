#!/usr/bin/env python3
"""The lint of the alert rules, tried on rules that are good, and on those rules with one fault each."""

import sys

import yaml

from lint import Metrics, lint

METRICS = Metrics(
    table="""
| `shop_up` | gauge | name, state | |
| `shop_tier` | gauge | name, tier | |
| `shop_share` | gauge | name | |
""",
    golden="""
# TYPE shop_up gauge
# TYPE shop_tier gauge
# TYPE shop_share gauge
shop_up{name="a",state="open"} 1
""",
    sources='const SHUT: &str = "shut";',
)

RULES = """
#   interval 15s         often
#   for 1m               four scrapes
#   keep_firing_for 5m   longer
#   range 5m             a while
#   value 0.5            half

groups:
  - name: shop
    interval: 15s
    rules:
      - record: name:shop_share:max
        expr: max without (tier) (max_over_time(shop_share[5m]) * on (job, instance, name) group_left (tier) shop_tier)
      - alert: BaselineShopShut
        expr: |
          max without (state) (shop_up{state=~"open|shut"}) * on (job, instance, name) group_left (tier) shop_tier == 0
            unless on (job, instance, name) name:shop_share:max > 0.5
          or
          shop_tier == 1 and on (job, instance, name) ALERTS{alertname="BaselineShopShut", alertstate="firing"}
        for: 1m
        keep_firing_for: 5m
        labels:
          severity: '{{ if eq $labels.tier "1" }}critical{{ else if eq $labels.tier "2" }}warning{{ else }}info{{ end }}'
          component: baseline
          service: '{{ $labels.name }}'
        annotations:
          summary: A shop is shut.
          description: >-
            {{ $labels.name }} is shut{{ with $labels.state }} ({{ . }}){{ end }}
            {{ range $i, $s := query (printf `shop_up{job=%q,name=%q} == 1` $labels.job $labels.name) | sortByLabel "state" }}{{ if $i }}, {{ end }}{{ $s.Labels.state }}{{ .Labels.name }}{{ end }}
            {{ range query "shop_share" }}{{ .Value | humanizePercentage }}{{ end }}.
          runbook_url: file:///runbook.md#baselineshopshut
"""

TESTS = """
evaluation_interval: 15s
tests:
  - alert_rule_test:
      - {eval_time: 1m45s, alertname: BaselineShopShut}
      - eval_time: 2m
        alertname: BaselineShopShut
        exp_alerts: [{exp_labels: {severity: critical}}]
      - {eval_time: 3m, alertname: BaselineShopShut}
"""

RUNBOOK = """
## BaselineShopShut
"""

# What is wrong, where: what stands there instead of what, and what the lint says of it.
FAULTS = [
    ("rules", "severity: '{{ if", "urgency: '{{ if", "lacks the label severity"),
    ("rules", "          component: baseline\n", "", "lacks the label component"),
    ("rules", "component: baseline", "component: shop", "its component is not baseline"),
    ("rules", "summary: A shop is shut.", "title: A shop is shut.", "lacks the annotation summary"),
    ("rules", "description: >-", "text: >-", "lacks the annotation description"),
    ("rules", "runbook_url:", "url:", "lacks the annotation runbook_url"),
    ("rules", "}}critical{{", "}}page{{", "severity can be page"),
    ("rules", "{{ else }}info{{ end }}", "{{ end }}", "severity can be nothing"),
    ("rules", "        keep_firing_for: 5m\n", "", "pages, and has no keep_firing_for"),
    ("rules", "summary: A shop", "summary: A {{ $labels.name }}", "summary has a template"),
    ("rules", "service: '{{ $labels.name }}'", "service: '{{ $value | humanize }}'", "label service has a value in it"),
    ("rules", "{{ .Value | humanizePercentage }}", "{{ .Value }}", "a value that is not humanized"),
    ("rules", "}} is shut{{", "}} is shut {{ $value }}{{", "a value that is not humanized"),
    ("rules", "}} is shut{{", '}} is shut {{ with query "shop_up" }}{{ . | first | value }}{{ end }}{{', "not humanized"),
    ("rules", "{{ $labels.name }} is", "{{ $labels.nmae }} is", "description: $labels.nmae: the expression drops"),
    ("rules", "{{ $labels.name }} is", "{{ $labels.state }} is", "description: $labels.state: the expression drops"),
    ("rules", "with $labels.state", "with $labels.stat", "description: $labels.stat: the expression drops"),
    ("rules", "max without (state)", "max by (job, instance)", "service: $labels.name: the expression drops"),
    ("rules", "group_left (tier) shop_tier == 0", "shop_tier == 0", "severity: $labels.tier: the expression drops"),
    ("rules", "shop_tier == 1 and", "shop_share == 1 and", "severity: $labels.tier: the expression drops"),
    ("rules", "shop_tier == 1 and", "absent(shop_tier) == 1 and", "service: $labels.name: the expression drops"),
    ("rules", "$s.Labels.state", "$s.Labels.tier", ".Labels.tier: the expression drops"),
    ("rules", "{{ .Labels.name }}", "{{ .Labels.nmae }}", ".Labels.nmae: the expression drops"),
    ("rules", 'sortByLabel "state"', 'sortByLabel "tier"', "sorts by tier: the expression drops"),
    ("rules", "$labels.job $labels.name) |", "$labels.job) |", "a query wants 2 labels and is given 1"),
    ("rules", "printf `shop_up{", "printf `shop_down{", "description: no such metric: shop_down"),
    ("rules", "printf `shop_up{job=%q,", "printf `shop_up{job=%q ", "description: does not parse"),
    ("rules", 'query "shop_share"', 'query "shop_shares"', "description: no such metric: shop_shares"),
    ("rules", "shop_tier == 1 and", "shop_tier1 == 1 and", "no such metric: shop_tier1"),
    ("rules", "name:shop_share:max > ", "name:shop_share:min > ", "no such metric: name:shop_share:min"),
    ("rules", 'shop_up{state=~"open|shut"}', 'shop_up{stat=~"open|shut"}', "a label that is not there: stat"),
    ("rules", '=~"open|shut"', '=~"open|shot"', "shop_up never has state='shot'"),
    ("rules", '{state=~"open|shut"}', '{job="baseline"}', "selects a job: shop_up"),
    ("rules", "unless on (job, instance, name)", "unless on (job, instance, nmae)", "a label that is not there: nmae"),
    ("rules", "group_left (tier) shop_tier)", "group_left (size) shop_tier)", "group_left takes a label that is not there"),
    ("rules", "max without (tier) (max", "max by (job, size) (max", "max by a label that is not there: size"),
    ("rules", "shop_tier == 1 and", 'label_replace(shop_tier, "a", "$1", "b", "(.+)") == 1 and', "label_replace reads a"),
    ("rules", "shop_tier == 1 and", "shop_tier == == 1 and", "does not parse"),
    ("rules", "name:shop_share:max\n", "shop_share_max\n", "is not named level:metric:operations"),
    ("rules", "#baselineshopshut", "#baselineshop", "runbook_url ends in #baselineshop"),
    ("rules", "        for: 1m", "        for: 2m", "table: lacks for 120"),
    ("rules", "        for: 1m", "        for: 2m", "table: has for 60"),
    ("rules", "#   for 1m  ", "#   for 3m  ", "table: has for 180"),
    ("rules", "keep_firing_for: 5m", "keep_firing_for: 6m", "table: lacks keep_firing_for 360"),
    ("rules", "    interval: 15s", "    interval: 30s", "table: lacks interval 30"),
    ("rules", "shop_share[5m]", "shop_share[7m]", "table: lacks range 420"),
    ("rules", "max > 0.5", "max > 0.25", "table: lacks value 0.25"),
    ("tests", "severity: critical", "severity: page", "no test sees it firing as critical or info or warning"),
    ("tests", "eval_time: 1m45s", "eval_time: 1m30s", "no test sees it pending at the evaluation before it fires"),
    ("tests", "      - {eval_time: 3m, alertname: BaselineShopShut}\n", "", "no test sees it quiet after it fires"),
    ("runbook", "## BaselineShopShut", "## BaselineShopOpen", "BaselineShopShut: has no section in the runbook"),
    ("runbook", "## BaselineShopShut", "## BaselineShopOpen", "BaselineShopOpen: a section of the runbook without"),
]
# Nothing in them is compared.
WITHOUT_COMPARISON = """
groups:
  - name: shop
    rules:
      - {alert: BaselineShopShut, expr: shop_up}
"""


def findings(rules=RULES, tests=TESTS, runbook=RUNBOOK):
    return list(lint(rules, [yaml.safe_load(tests)], runbook, METRICS))


failures = [f"of good rules it says: {finding}" for finding in findings()]
if not any("compares with nothing" in finding for finding in findings(WITHOUT_COMPARISON)):
    failures.append("it misses that nothing is compared")
good = {"rules": RULES, "tests": TESTS, "runbook": RUNBOOK}
for where, right, wrong, said in FAULTS:
    if right not in good[where]:
        failures.append(f"not in the good {where}: {right}")
    found = findings(**good | {where: good[where].replace(right, wrong)})
    if not any(said in finding for finding in found):
        failures.append(f"{wrong!r} for {right!r}: it does not say {said!r}, but {found}")
print("\n".join(failures))
sys.exit(1 if failures else 0)
