#!/usr/bin/env python3
"""Holds the dashboards against the types of Grafana's own package @grafana/schema, by TypeScript.

    check.py DIRECTORY

DIRECTORY is where the packages of package-lock.json are kept, and installed by npm if they are not.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from dashboards import FILES, load, panels  # noqa: E402

PACKAGES = ("package.json", "package-lock.json")
# The types of a panel's options, and of what its fields have besides.
PANELS = {
    "stat": ("stat", "StatPanelCfg", "Options", None),
    "table": ("table", "TablePanelCfg", "Options", "FieldConfig"),
    "timeseries": ("timeseries", "TimeSeriesPanelCfg", "Options", "FieldConfig"),
    "state-timeline": ("statetimeline", "StateTimelinePanelCfg", "Options", "FieldConfig"),
    "text": ("text", "TextPanelCfg", "Options", None),
}
# JSON has the values of enumerations, not their names. Its dashboards state less than what the
# package requires of a program that makes one.
HEAD = """
import type { Dashboard, Panel, RowPanel, VariableModel, AnnotationQuery } from "@grafana/schema";
type Plain<T> = T extends string ? `${T}`
  : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> }
  : T;
"""


def typescript():
    lines = [HEAD]
    for directory, module, *_ in PANELS.values():
        path = f"@grafana/schema/dist/esm/raw/composable/{directory}/panelcfg/x/{module}_types.gen"
        lines.append(f'import type * as {directory} from "{path}";')
    number = 0

    def declare(name, value):
        nonlocal number
        number += 1
        lines.append(f"export const v{number}: Plain<{name}> = {json.dumps(value)};")

    for path in FILES:
        dashboard = load(path)
        lines.append(f"// {path.name}")
        # Each part by itself: of a union TypeScript does not tell which keys are too many.
        for panel in dashboard["panels"]:
            declare("RowPanel" if panel["type"] == "row" else "Panel", panel)
        for panel in panels(dashboard):
            directory, _, options, custom = PANELS[panel["type"]]
            declare(f"Partial<{directory}.{options}>", panel["options"])
            if custom:
                # The state timeline reads two of the time series' that its type does not know.
                own = ("insertNulls", "spanNulls") if directory == "statetimeline" else ()
                fields = panel["fieldConfig"]["defaults"]["custom"]
                declare(
                    f"Partial<{directory}.{custom}>", {key: value for key, value in fields.items() if key not in own}
                )
        for variable in dashboard["templating"]["list"]:
            # Nothing is chosen yet: Grafana takes the first, the type wants one.
            declare("VariableModel", {key: value for key, value in variable.items() if value != {}})
        for annotation in dashboard["annotations"]["list"]:
            # What Prometheus reads of it, which the type does not know.
            own = ("expr", "step", "titleFormat", "textFormat", "tagKeys")
            declare("AnnotationQuery", {key: value for key, value in annotation.items() if key not in own})
        rest = dashboard | {"panels": [], "templating": {}, "annotations": {}}
        declare("Dashboard", rest)
    return "\n".join(lines) + "\n"


def main():
    directory = Path(sys.argv[1])
    lock = (HERE / "package-lock.json").read_text()
    installed = directory / "package-lock.json"
    if not installed.exists() or installed.read_text() != lock:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        shutil.copy(HERE / "package.json", directory)
        (directory / "npm-ci").mkdir()
        for name in PACKAGES:
            shutil.copy(HERE / name, directory / "npm-ci")
        subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=directory / "npm-ci", check=True
        )
        (directory / "npm-ci/node_modules").rename(directory / "node_modules")
        # The last step: an installation that was interrupted is begun anew.
        shutil.copy(HERE / "package-lock.json", directory)
    source = directory / "dashboards.ts"
    source.write_text(typescript())
    options = "--noEmit --strict --skipLibCheck --module esnext --moduleResolution bundler --target esnext"
    sys.exit(
        subprocess.run(
            ["node", "node_modules/typescript/bin/tsc", *options.split(), source.name], cwd=directory
        ).returncode
    )


if __name__ == "__main__":
    main()
