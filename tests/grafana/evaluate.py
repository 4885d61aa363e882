#!/usr/bin/env python3
"""Asks every generation of Prometheus every query of the dashboards, over a history of healthy and
broken days, and looks at what an operator would see of it.

    evaluate.py GENERATION...

Each GENERATION is a directory with a prometheus and a promtool. Prints one line for each finding; the
exit status is 1 if there is one.
"""

import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import history
import preview
import yaml
from check import generator
from dashboards import FILES, Prometheus, expand, load, panels

TIMES = {"healthy": history.HEALTHY, "broken": history.BROKEN, "blind": history.BLIND, "down": history.DOWN}
# The unit whose page is looked at: it has all that a unit can have.
GIVEN = {"unit": {"unit": ["runs.service"]}}
GENERAL = {generator().NO_ANSWER, "? unknown"}
# What the first panel says at each of these times.
VERDICTS = {
    "healthy": "✔ at its baseline",
    "broken": "✖ not at its baseline",
    "blind": "? unknown",
    "down": "✖ no answer",
}
TROUBLE = re.compile(r"[✖▲]|>\?")


def blocks(promtool, directory):
    text = directory / "history.txt"
    with text.open("w") as out:
        history.one_host(out)
    command = [
        promtool,
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        "--max-block-duration=96h",
        "--quiet",
        text,
        directory / "data",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    text.unlink()


@contextmanager
def serving(program, data):
    """A Prometheus over these blocks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = data / "prometheus.yml"
    config.write_text("global: {}\n")
    options = [f"--config.file={config}", f"--storage.tsdb.path={data}", "--storage.tsdb.retention.time=100y"]
    log = (data / "log").open("w+")
    server = subprocess.Popen([program, *options, f"--web.listen-address=127.0.0.1:{port}"], stderr=log, stdout=log)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5)
                break
            except OSError:
                if server.poll() is not None:
                    raise SystemExit(f"{program} ended: {(data / 'log').read_text()}") from None
                time.sleep(0.05)
        yield Prometheus(f"http://127.0.0.1:{port}", server.pid)
    finally:
        server.terminate()
        server.wait()


def parsed(promtool, directory):
    """What promtool has against the expressions, each as a rule."""
    chosen = {"job": ["a"], "instance": ["b"], "unit": ["c"]}
    expressions = {}
    for path in FILES:
        for panel in panels(load(path)):
            for target in panel.get("targets", []):
                name = f"{path.stem}:{panel['id']}:{target['refId']}"
                expressions[name] = expand(target["expr"], chosen, 21600)
    rules = [{"record": name, "expr": expr} for name, expr in expressions.items()]
    file = directory / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", "--lint=none", file], capture_output=True, text=True)
    if done.returncode != 0:
        yield f"{promtool}: {done.stderr.strip() or done.stdout.strip()}"
    elif f"{len(rules)} rules found" not in done.stdout:
        yield f"{promtool} read other rules than the {len(rules)} given: {done.stdout}"


def asked(prometheus, name):
    """Every query, at each of the times."""
    for path in FILES:
        dashboard = load(path)
        for when, at in TIMES.items():
            # An hour, every ten minutes: it is the answers that count, not the picture.
            chosen = prometheus.choose(dashboard, at, GIVEN.get(path.stem))
            for panel in panels(dashboard):
                answered = False
                for target in panel.get("targets", []):
                    where = f"{name}: {path.name}: {panel['title']} ({target['refId']}), {when}"
                    try:
                        series, remarks = prometheus.run(target, chosen, at, 3600, 600, history.STEP)
                    except ValueError as error:
                        yield f"{where}: {error}"
                        continue
                    answered |= bool(series)
                    yield from (f"{where}: {remark}" for remark in remarks)
                nothing_told = panel["type"] != "text" and panel["fieldConfig"]["defaults"]["noValue"] in GENERAL
                if when == "healthy" and not answered and nothing_told:
                    yield f"{name}: {path.name}: {panel['title']}: nothing to see on a healthy day"


def seen(prometheus):
    """What the dashboards say at each of the times: nothing healthy is in trouble, nothing unknown healthy."""
    for path in FILES:
        dashboard = load(path)
        for when, at in TIMES.items():
            page, _ = preview.Page(prometheus, dashboard, at, 600, GIVEN.get(path.stem), history.STEP).draw(1280)
            # Without what the picture says of itself, and without the addresses of links.
            said = re.sub(r"<header>.*?</header>|<style>.*?</style>", "", page, flags=re.S)
            if "No data" in said:
                yield f"{path.name}, {when}: a panel says No data"
            if when == "healthy" and (found := TROUBLE.search(said)):
                yield f"{path.name}, {when}: shows trouble: {said[found.start() - 200 : found.end() + 60]}"
            if when == "down" and "✔" in said:
                yield f"{path.name}, {when}: shows something as healthy: {said[said.index('✔') - 200 : said.index('✔') + 60]}"
            if path.stem == "deployment":
                if VERDICTS[when] not in said:
                    yield f"{path.name}, {when}: does not say {VERDICTS[when]}"
                wrong = [
                    verdict
                    for other, verdict in VERDICTS.items()
                    if other != when and other != "blind" and verdict in said
                ]
                yield from (f"{path.name}, {when}: says {verdict}" for verdict in wrong)
                if when == "broken" and not all(
                    word in said for word in ("restart loop", "cannot run ExecStart=", "BaselineRedisDown")
                ):
                    yield f"{path.name}, {when}: lacks what is wrong, why, or the alert"
                if when in ("blind", "down") and "none in trouble" in said:
                    yield f"{path.name}, {when}: says that no unit is in trouble, of which nothing is known"


def main():
    generations = [Path(argument).resolve() for argument in sys.argv[1:]]
    findings = []
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        blocks(generations[0] / "promtool", directory)
        for generation in generations:
            findings += parsed(generation / "promtool", directory)
            data = directory / generation.name
            shutil.copytree(directory / "data", data)
            with serving(generation / "prometheus", data) as prometheus:
                findings += asked(prometheus, generation.name)
                if generation == generations[-1]:
                    findings += seen(prometheus)
    print("\n".join(findings))
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
