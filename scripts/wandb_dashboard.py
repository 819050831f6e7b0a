#!/usr/bin/env python
"""Build a wandb workspace for a project's sweeps: control, trade-off, faces, training. Needs a wandb server and `pip
install -e '.[dashboard]'`.

    python scripts/wandb_dashboard.py --entity TEAM [--project fineface-train] [--sweep table2]

Prints the address of the saved view. Every run carries its arm, its table and its seed; the view groups runs by arm, so
that each curve is an arm's mean over its seeds.
"""

import argparse
import sys


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entity", required=True, help="user or team on the server")
    parser.add_argument("--project", default="fineface-train")
    parser.add_argument("--sweep", help="show one sweep only, e.g. table2")
    arguments = parser.parse_args()
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as workspaces
    except ImportError:
        print("wandb-workspaces is not installed: pip install -e '.[dashboard]'", file=sys.stderr)
        return 2

    def curve(title: str, key: str) -> panels.LinePlot:
        return panels.LinePlot(title=title, x="Step", y=[key])

    sections = [
        workspaces.Section(
            name="Control, while training goes on (evaluation.every)",
            panels=[
                curve("AU error, commanded AUs", "glance/au_mse_active"),
                curve("Slope (1 is ideal)", "glance/slope"),
                curve("CLIP-I to neutral", "glance/clip_i"),
                curve("Leakage", "glance/leakage"),
            ],
            is_open=True,
        ),
        workspaces.Section(
            name="Control, at the end",
            panels=[
                panels.ScatterPlot(
                    title="AU error against CLIP-I",
                    x="evaluation/individual/clip_i",
                    y="evaluation/individual/au_mse_active",
                ),
                panels.BarPlot(title="AU error, commanded AUs", metrics=["evaluation/individual/au_mse_active"]),
                panels.BarPlot(title="AU error, combinations", metrics=["evaluation/combination/au_mse_mean"]),
                panels.BarPlot(title="Leakage", metrics=["evaluation/individual/leakage"]),
            ],
            is_open=True,
        ),
        workspaces.Section(
            name="Faces", panels=[panels.MediaBrowser(title="Samples", media_keys=["samples"])], is_open=True
        ),
        workspaces.Section(
            name="Training",
            panels=[
                curve("Loss", "train/loss"),
                curve("Gradient norm", "train/gradient_norm"),
                curve("Examples/s", "train/examples_per_second"),
            ],
        ),
    ]
    filters = [workspaces.Metric("Group") == arguments.sweep] if arguments.sweep else []
    runs = workspaces.RunsetSettings(groupby=[workspaces.Config("arm")], filters=filters)
    view = workspaces.Workspace(
        entity=arguments.entity,
        project=arguments.project,
        name=arguments.sweep or "Sweeps",
        sections=sections,
        runset_settings=runs,
    )
    print(view.save().url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
