#!/usr/bin/env python3
"""Prints the promtool tests that would be long by hand: many units that fail of one cause, and loops
of many periods.

    scenarios.py RULES >FILE
"""

import json
import math
import sys

# Prometheus scrapes and evaluates every 15 s: four samples a minute.
PER_MINUTE = 4

# Stands for the instance until the test that the series are for is known.
INSTANCE = "INSTANCE"
TARGET = {"job": "baseline", "instance": INSTANCE}

# Which deviations the exporter shows of a unit in this state. A loop that has ended is remembered.
STATES = {
    "runs": (),
    "loops": ("restarting",),
    "recovers": ("restarting",),
    "failed": ("failed",),
    "given up": ("failed",),
    "stopped": ("stopped",),
    "stuck": ("activating_too_long",),
}
DEVIATIONS = ("failed", "restarting", "activating_too_long", "stopped")


def timeline(*phases):
    """The samples of phases, each of so many minutes and a value. None is no series: Prometheus
    marks it stale with the first scrape that lacks it."""
    samples, before = [], None
    for minutes, value in phases:
        for _ in range(round(minutes * PER_MINUTE)):
            gone = "stale" if before is not None else "_"
            samples.append(gone if value is None else str(value))
            before = value
    return " ".join(samples)


def series(metric, phases, **labels):
    labels = ",".join(f'{label}="{value}"' for label, value in (TARGET | labels).items())
    return {"series": f"{metric}{{{labels}}}", "values": timeline(*phases)}


def exporter(*phases):
    """An exporter; where it does not answer, the phase is None."""
    build = {"version": "0.1.0", "revision": "abc", "target": "x86_64"}
    return [
        series("up", [(minutes, 0 if up is None else 1) for minutes, up in phases]),
        series("baseline_exporter_build_info", phases, **build),
        series("baseline_exporter_bus_connected", phases),
    ]


def unit(name, tier, *phases, expected="running"):
    """A unit; each phase is so many minutes, a state and its causes, "CAUSE DETAIL". Without a state
    the exporter does not answer."""
    phases = [(minutes, state, causes) for minutes, state, *causes in phases]

    def where(value_of):
        return [(m, None if state is None else value_of(state, causes)) for m, state, causes in phases]

    kind = name.rpartition(".")[2]
    result = [
        series("baseline_unit_expected", where(lambda *_: 1), name=name, expected=expected, tier=tier),
        series(
            "systemd_unit_state",
            where(lambda state, _: int(state in ("runs", "recovers"))),
            name=name,
            type=kind,
            state="active",
        ),
        series(
            "systemd_service_restart_total",
            where(lambda state, _: 5 if state in ("loops", "recovers", "given up") else 0),
            name=name,
        ),
    ]
    for deviation in DEVIATIONS:
        shown = where(lambda state, _: int(deviation in STATES[state]))
        result.append(series("baseline_unit_deviation", shown, name=name, deviation=deviation))
    for told in sorted({cause for _, _, causes in phases for cause in causes}):
        cause, _, detail = told.partition(" ")
        shown = where(lambda _, causes: 1 if told in causes else None)
        result.append(series("baseline_unit_cause", shown, name=name, cause=cause, detail=detail))
    return result


TWELVE = [f"shop-{letter}.service" for letter in "abcdefghijkl"]


def twelve(*phases, tier=1):
    return [one for name in TWELVE for one in unit(name, tier, *phases)]


def redis(*phases):
    return [series("baseline_redis_up", phases, endpoint="queue")]


def hostname(deviation, *phases):
    return [series("baseline_hostname_deviation", phases, hostname="shop_redis", deviation=deviation)]


def full_disk(name, *phases):
    where = {"name": name, "path": "/srv/shop"}
    full = [(minutes, 1 if full else None) for minutes, full in phases]
    vantage = [(minutes, 1) for minutes, _ in phases]
    return [
        series("baseline_write_path_reason", full, **where, reason="no_space"),
        series("baseline_write_path_vantage", vantage, **where, vantage="process"),
    ]


def alerts(since, until, *expected, severity="critical"):
    """From minute to minute (to the scrape before it) exactly these alerts fire, each "ALERT" or "ALERT
    UNIT"."""
    samples = []
    for alert in expected:
        alertname, _, name = alert.partition(" ")
        labels = f'alertname="{alertname}"' + (f', name="{name}"' if name else "")
        samples.append({"labels": f"{{{labels}}}", "value": 1})
    firing = f'alertstate="firing", instance="{INSTANCE}", severity=~"{severity}"'
    expr = f"count by (alertname, name) (ALERTS{{{firing}}})"
    first, last = math.ceil(since * PER_MINUTE), math.ceil(until * PER_MINUTE) - 1
    return [
        {"eval_time": f"{moment * 15}s", "expr": expr, "exp_samples": samples}
        for moment in [*range(first, last, PER_MINUTE), last]
    ]


def test(name, input_series, *expected):
    """The series and the checks of one test, whose name is the instance: that keeps it apart from the
    others, and says which one failed."""
    return [
        [dict(series, series=series["series"].replace(INSTANCE, name)) for series in input_series],
        [dict(check, expr=check["expr"].replace(INSTANCE, name)) for checks in expected for check in checks],
    ]


UP = exporter((60, 1))
# A unit notices first; the exporter sees why with the next scrape.
REDIS = [(2, "runs"), (0.25, "loops"), (19.75, "loops", "redis queue"), (1, "recovers"), (60, "runs")]
REDIS_DOWN = redis((2.25, 1), (19.75, 0), (60, 1))


def one_cause():
    yield test(
        "Redis stops, twelve units loop, and heal when it is back.",
        UP + REDIS_DOWN + twelve(*REDIS),
        alerts(0, 3.25, severity=".*ing|critical"),
        alerts(3.25, 27, "BaselineRedisDown", severity="warning|critical"),
        alerts(27, 40, severity="warning|critical"),
    )
    for period in (1, 3, 5):
        # Its last restart is the one that succeeds; for two periods and a half minute it still counts.
        restarts = [(2 + period, 0)] + [(period, count) for count in range(1, 20 // period)]
        restarts.append((60, 20 // period))
        yield test(
            f"A unit that restarts each {period} minutes heals when Redis is back.",
            UP
            + REDIS_DOWN
            + unit("a.service", 1, (2, "runs"), (20, "loops", "redis queue"), (3 * period + 0.5, "recovers"), (60, "runs"))
            + [series("systemd_service_auto_restarts_total", restarts, name="a.service")],
            alerts(3.5, 27, "BaselineRedisDown", severity="warning|critical"),
            alerts(27.5, 50, severity="warning|critical"),
        )
    yield test(
        "Redis stops, and units loop, are given up, are stopped, hang; two of them stay broken.",
        UP
        + REDIS_DOWN
        + unit("a.service", 1, (2, "runs"), (5, "loops", "redis queue"), (15, "given up", "redis queue"), (50, "runs"))
        + unit("b.service", 1, (2, "runs"), (5, "stuck", "redis queue"), (15, "stopped", "redis queue"), (50, "runs"))
        + unit("c.service", 1, (2, "runs"), (5, "loops", "redis queue"), (15, "given up", "redis queue"), (50, "given up"))
        + unit("d.service", 2, (2, "runs"), (20, "loops", "redis queue"), (50, "loops")),
        alerts(3.25, 27, "BaselineRedisDown", severity="warning|critical"),
        alerts(28.5, 40, "BaselineUnitGivenUp c.service"),
        alerts(33.5, 40, "BaselineUnitRestartLoop d.service", severity="warning"),
    )
    yield test(
        "While Redis is down, a unit fails of something else, and one that looped before loops on.",
        UP
        + REDIS_DOWN
        + twelve(*REDIS)
        + unit("early.service", 1, (2.25, "loops"), (19.75, "loops", "redis queue"), (8, "loops"), (50, "runs"))
        + unit("other.service", 1, (10, "runs"), (50, "failed", "missing_module requests")),
        alerts(1, 3.25, "BaselineUnitRestartLoop early.service"),
        alerts(3.25, 11, "BaselineUnitRestartLoop early.service", "BaselineRedisDown"),
        alerts(
            11,
            27,
            "BaselineUnitRestartLoop early.service",
            "BaselineRedisDown",
            "BaselineUnitFailed other.service",
        ),
        alerts(27, 35, "BaselineUnitRestartLoop early.service", "BaselineUnitFailed other.service"),
        alerts(35, 40, "BaselineUnitFailed other.service"),
    )
    yield test(
        "Another Redis than that which is down is no excuse.",
        UP + REDIS_DOWN + unit("a.service", 1, (2, "runs"), (20, "failed", "redis cache")),
        alerts(3.25, 20, "BaselineRedisDown", "BaselineUnitFailed a.service"),
    )
    yield test(
        "Redis stops, and a job fails of it; it fails again when Redis is back.",
        UP
        + REDIS_DOWN
        + unit("job.service", 1, (3, "runs"), (19, "failed", "redis queue"), (40, "failed"), expected="watched")
        + [
            series(
                "systemd_unit_info",
                [(90, 1)],
                name="job.service",
                type="service",
                service_type="oneshot",
                mount_type="",
            )
        ],
        alerts(3.25, 27, "BaselineRedisDown"),
        alerts(28.5, 40, "BaselineJobFailed job.service"),
    )
    for deviation in ("unresolved", "unexpected"):
        yield test(
            f"A hostname is {deviation}, and twelve units loop.",
            UP
            + hostname(deviation, (2, 0), (20, 1), (60, 0))
            + twelve((2, "runs"), (20, "loops", "hostname shop_redis"), (1, "recovers"), (60, "runs")),
            alerts(0, 3),
            alerts(3, 27, f"BaselineHostname{deviation.title()}", severity="warning|critical"),
            alerts(27, 40, severity="warning|critical"),
        )
    yield test(
        "A disk is full: units say so, or cannot write a path, and get one page.",
        UP
        + full_disk(TWELVE[0], (2, 0), (20, 1), (60, 0))
        + unit(TWELVE[0], 1, (2, "runs"), (20, "loops", "write_path /srv/shop"), (1, "recovers"), (60, "runs"))
        + [
            one
            for name in TWELVE[1:]
            for one in unit(name, 1, (2, "runs"), (20, "loops", "out_of_space "), (1, "recovers"), (60, "runs"))
        ],
        alerts(3, 27, "BaselineDiskFull", severity="warning|critical"),
        alerts(27, 40, severity="warning|critical"),
    )
    where = {"name": "a.service", "path": "/srv/a"}
    yield test(
        "A unit fails because it cannot write a path: the path has the page.",
        UP
        + unit("a.service", 1, (2, "runs"), (20, "failed", "write_path /srv/a"), (60, "runs"))
        + [
            series("baseline_write_path_reason", [(2, None), (20, 1), (1, None)], **where, reason="read_only"),
            series("baseline_write_path_vantage", [(90, 1)], **where, vantage="predicted"),
        ],
        alerts(3, 27, "BaselineWritePathDenied a.service", severity="warning|critical"),
        alerts(27, 40, severity="warning|critical"),
    )
    yield test(
        "A target of tier 2 is stopped, and with it twelve services of tier 1: the target pages.",
        UP
        + unit("shop.target", 2, (2, "runs"), (20, "stopped"), (60, "runs"), expected="active")
        + twelve((2, "runs"), (20, "stopped", "dependency shop.target"), (60, "runs")),
        alerts(0, 4),
        alerts(4, 27, "BaselineUnitInactive shop.target", severity="warning|critical"),
        alerts(27, 40, severity="warning|critical"),
    )
    yield test(
        "The target is started again, and its services stay down: then they page.",
        UP
        + unit("shop.target", 2, (2, "runs"), (20, "stopped"), (60, "runs"), expected="active")
        + twelve((2, "runs"), (80, "stopped", "dependency shop.target")),
        alerts(4, 23.75, "BaselineUnitInactive shop.target", severity="warning|critical"),
        alerts(24.5, 26.75, "BaselineUnitInactive shop.target", *(f"BaselineUnitDown {name}" for name in TWELVE)),
        alerts(27.5, 40, *(f"BaselineUnitDown {name}" for name in TWELVE)),
    )
    for tier in (1, 2, 3):
        yield test(
            f"A unit of tier {tier} fails, and twelve of tier 1 depend on it.",
            UP
            + unit("db.service", tier, (2, "runs"), (20, "failed"), (60, "runs"))
            + twelve((2, "runs"), (20, "stopped", "dependency db.service"), (60, "runs")),
            alerts(3.25, 27, "BaselineUnitFailed db.service"),
            alerts(3.25, 27, severity="warning|info"),
            alerts(27, 40, severity="warning|critical"),
        )
    yield test(
        "A unit of tier 2 fails, and twelve of tier 2 depend on it: one ticket.",
        UP
        + unit("db.service", 2, (2, "runs"), (20, "failed"), (60, "runs"))
        + twelve((2, "runs"), (20, "stopped", "dependency db.service"), (60, "runs"), tier=2),
        alerts(3.25, 27, "BaselineUnitFailed db.service", severity="warning"),
        alerts(3.25, 27),
    )


def nothing_is_silenced():
    """What its cause does not page for, a unit pages for itself."""
    flapping = [(0.75, 0), (0.5, 1)] * 24
    yield test(
        "Redis comes and goes faster than its alert takes to fire: it pages all the same, alone.",
        UP + redis((2, 1), *flapping) + twelve((2, "runs"), (30, "loops", "redis queue"), (30, "runs")),
        alerts(12, 31, "BaselineRedisDown", severity="warning|critical"),
    )
    yield test(
        "A hostname comes and goes: it pages all the same, alone.",
        UP
        + hostname("unresolved", (2, 0), *[(minutes, 1 - value) for minutes, value in flapping])
        + twelve((2, "runs"), (30, "loops", "hostname shop_redis"), (30, "runs")),
        alerts(12, 31, "BaselineHostnameUnresolved", severity="warning|critical"),
    )
    yield test(
        "What a unit depends on fails and runs in turns, and is never told of: the unit pages.",
        UP
        + unit("db.service", 1, (2, "runs"), *[(0.75, "failed"), (0.5, "runs")] * 24)
        + unit("a.service", 1, (2, "runs"), (40, "stopped", "dependency db.service")),
        alerts(10, 31, "BaselineUnitDown a.service"),
    )
    yield test(
        "A unit fails of a full disk, and what is full is a path that nobody needs: the unit pages.",
        UP
        + [
            series("baseline_write_path_reason", [(60, 1)], name="idle.service", path="/backup", reason="no_space"),
            series("baseline_write_path_vantage", [(60, 1)], name="idle.service", path="/backup", vantage="predicted"),
        ]
        + unit("idle.service", 2, (60, "stopped"), expected="watched")[:2]
        + unit("a.service", 1, (2, "runs"), (50, "failed", "out_of_space ")),
        alerts(3.25, 40, "BaselineUnitFailed a.service"),
    )
    yield test(
        "While Redis is down a unit seems to fail of it, and then is seen to lack its program.",
        UP + REDIS_DOWN
        + unit("a.service", 1, (4, "runs"), (0.5, "loops", "redis queue"), (50, "loops", "missing_executable ")),
        alerts(6, 27, "BaselineRedisDown", "BaselineUnitRestartLoop a.service"),
    )
    yield test(
        "A oneshot that nobody wants running is restarted again and again: a ticket.",
        UP
        + unit("job.service", 2, (2, "runs"), (50, "loops"), expected="watched")
        + [series("systemd_unit_info", [(60, 1)], name="job.service", service_type="oneshot")],
        alerts(3.25, 40, "BaselineJobFailed job.service", severity="warning|critical"),
    )
    yield test(
        "Redis is restarted, and not all of its clients come back at once: a ticket until they have.",
        exporter((60, 1))
        + unit("a.service", 1, (60, "runs"))
        + [
            series("systemd_unit_start_time_seconds", [(60, 100)], name="a.service"),
            series("baseline_redis_start_time_seconds", [(30, 50), (30, 1800)], endpoint="queue"),
            series("baseline_redis_connected_clients", [(30, 10), (8, 4), (22, 10)], endpoint="queue"),
        ],
        alerts(35.25, 42.75, "BaselineRedisClientsLost", severity="warning"),
        alerts(43.25, 59, severity="warning"),
    )
    yield test(
        "A label of the target takes the place of the tier: everything pages.",
        UP + unit("a.service", "prod", (2, "runs"), (50, "failed")),
        alerts(3.25, 40, "BaselineUnitFailed a.service"),
    )


def transitions():
    yield test(
        "A loop is given up, the unit is stopped by hand, and loops anew: one alert, the first one.",
        UP + unit("a.service", 1, (2, "runs"), (8, "loops"), (10, "given up"), (10, "stopped"), (5, "loops"), (60, "runs")),
        alerts(0, 3),
        alerts(3, 40, "BaselineUnitRestartLoop a.service", severity="warning|critical"),
        alerts(40, 45, severity="warning|critical"),
    )
    yield test(
        "A unit that is down for less than five minutes in between is the same trouble.",
        UP + unit("a.service", 1, (2, "runs"), (5, "failed"), (4, "runs"), (5, "failed"), (60, "runs")),
        alerts(3, 21, "BaselineUnitFailed a.service"),
        alerts(21, 40),
    )
    yield test(
        "Deaths that last less than a minute, and a restart by hand, wake nobody.",
        UP
        + unit("a.service", 1, (2, "runs"), (0.75, "failed"), (20, "runs"), (0.75, "loops"), (60, "runs"))
        + unit("b.service", 1, (2, "runs"), (1.75, "stopped"), (60, "runs")),
        alerts(0, 40, severity="warning|critical"),
    )


def restarts_of_the_exporter():
    gap = 0.75
    yield test(
        "The exporter is restarted while a unit is broken and Redis is down: nothing changes.",
        exporter((20, 1), (gap, None), (60, 1))
        + redis((2, 1), (18, 0), (gap, None), (60, 0))
        + unit("a.service", 1, (2, "runs"), (18, "failed"), (gap, None), (60, "failed"))
        + unit("b.service", 1, (2, "runs"), (18, "loops", "redis queue"), (gap, None), (60, "loops", "redis queue"))
        + unit("c.service", 1, (20, "runs"), (gap, None), (60, "runs"))
        + [
            series("baseline_exporter_resync_corrections_total", [(20, 0), (gap, None), (60, 0)]),
            series("baseline_hostname_persistent", [(20, 1), (gap, None), (60, 1)], hostname="shop_redis"),
        ],
        alerts(3, 40, "BaselineUnitFailed a.service", "BaselineRedisDown", severity="warning|critical"),
    )
    # The first look at a unit in a loop may be short of its causes.
    yield test(
        "The exporter is restarted while a unit loops because of Redis, and needs a scrape to see why.",
        exporter((20, 1), (gap, None), (60, 1))
        + redis((2, 1), (18, 0), (gap + 0.25, None), (60, 0))
        + unit(
            "b.service",
            1,
            (2, "runs"),
            (18, "loops", "redis queue"),
            (gap, None),
            (0.25, "loops"),
            (60, "loops", "redis queue"),
        ),
        alerts(3, 40, "BaselineRedisDown", severity="warning|critical"),
    )
    yield test(
        "The exporter is down for ten minutes: that pages, and no alert about units resolves.",
        exporter((20, 1), (10, None), (60, 1))
        + redis((2, 1), (18, 0), (10, None), (60, 1))
        + unit("a.service", 1, (2, "runs"), (18, "failed"), (10, None), (60, "failed"))
        + unit("b.service", 1, (20, "runs"), (10, None), (60, "runs")),
        alerts(3, 22, "BaselineUnitFailed a.service", "BaselineRedisDown"),
        alerts(22, 25, "BaselineUnitFailed a.service", "BaselineRedisDown", "BaselineExporterDown"),
        alerts(25, 29.75, "BaselineExporterDown", "BaselineUnitFailed a.service"),
        alerts(30.25, 35, "BaselineUnitFailed a.service"),
        alerts(35, 40, "BaselineUnitFailed a.service", severity="warning|critical"),
    )


def loops():
    """A unit fails at 1:00 and is restarted at once, from then on in each period, and looks as if it
    ran. From the second restart on the exporter calls it a loop."""
    for period in (1, 5, 30, 60, 90, 100, 120, 180, 300):
        last = 60 + 180 + 6 * period
        scrapes = range(0, last + 15, 15)
        restarts = [max(0, 1 + (moment - 60) // period) for moment in scrapes]
        looping = [int(count >= 2) for count in restarts]

        def of(metric, values, **labels):
            return series(metric, [(0.25, value) for value in values], name="a.service", **labels)

        always = [1 for _ in scrapes]
        input_series = [
            of("baseline_unit_expected", always, expected="running", tier=1),
            of("systemd_unit_state", always, type="service", state="active"),
            of("baseline_unit_deviation", looping, deviation="restarting"),
            of("systemd_service_auto_restarts_total", restarts),
            of("systemd_service_restart_total", restarts),
        ]
        paged = 60 + 180 + 2 * period
        yield test(
            f"A loop of {period} s pages within three minutes and two periods, and goes on.",
            UP + input_series,
            alerts(0, 1 + period / 60),
            alerts(paged / 60, last / 60, "BaselineUnitRestartLoop a.service"),
        )


tests = [*one_cause(), *nothing_is_silenced(), *transitions(), *restarts_of_the_exporter(), *loops()]
# All of them at once: each evaluation of the rules costs, hardly what is in it. JSON is YAML.
together = {
    "interval": "15s",
    "input_series": [series for input_series, _ in tests for series in input_series],
    "promql_expr_test": [check for _, checks in tests for check in checks],
}
# Prometheus evaluates groups beside each other; here always in the same order.
order = [f"baseline-{group}" for group in ("settings", "units", "dependencies", "files", "exporter")]
head = {"rule_files": sys.argv[1:], "evaluation_interval": "15s", "group_eval_order": order}
json.dump(head | {"tests": [together]}, sys.stdout)
