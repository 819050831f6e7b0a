"""The scripts around a sweep, on the shipped base with one step of training and one of sampling; and the attention that
they draw."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from fineface_train.cli import main
from fineface_train.compose import load_config
from fineface_train.data.conditioning import Entry
from fineface_train.data.formats.images import image_size, read_image
from fineface_train.files import read_json
from fineface_train.methods.au_diffusion.adapter import adapt, cross_attention_names
from fineface_train.methods.au_diffusion.config import EncoderConfig, FinetuneConfig
from tests.conftest import WIDTH, tiny_unet
from tests.scripts import script

SMALL = [
    "data.toyfacs.disfa_subjects=3",
    "data.toyfacs.disfa_frames=12",
    "data.toyfacs.affectnet_images=60",
    "trainer.batch_size=4",
    "tracking.wandb=false",
]


@pytest.mark.slow  # minutes: two arms are evaluated, calibrated, extrapolated; what the scripts call has its own tests
def test_from_a_sweep_to_its_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train and evaluate two arms, compare them, then at another scale and beyond the range of training."""
    where = [
        f"data.root={tmp_path / 'data'}",
        f"run.root={tmp_path / 'runs'}",
        "method.sampling.steps=1",
        "protocol=quick",
    ]
    arms = ["+sweep=table1", "method=sd,fineface", "seed=0"]
    assert main(["train", "-m", *arms, *SMALL, *where, "trainer.steps=1", "trainer.sample_every=0"]) == 0
    assert "compare them: fineface report " in capsys.readouterr().out
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert main(["report", f"out={folder}", "tracking.wandb=false"]) == 0
    assert "| `method=sd`" in capsys.readouterr().out

    monkeypatch.setattr(sys, "argv", ["publish_results.py", f"out={folder}", "--out", str(tmp_path / "kept" / "mine")])
    publish = script("publish_results")
    publish.main()
    kept = tmp_path / "kept" / "mine"
    assert {path.name for path in kept.iterdir()} == {"report.md", "comparison.json", "figures", "configs"}
    assert read_json(kept / "comparison.json") == read_json(folder / "comparison.json")
    rows = publish.published_rows(kept)
    assert set(rows) == {"method=sd", "method=fineface"}
    for arm, seeds in rows.items():
        run = Path(read_json(kept / "comparison.json")["folders"][arm]["0"])
        assert seeds[0]["clip_i"].tolist() == pd.read_parquet(run / "images.parquet")["clip_i"].tolist()

    monkeypatch.setattr(
        sys,
        "argv",
        ["pareto.py", f"out={folder}", *where, "--scales", "0.5", "--guidances", "--out", str(tmp_path / "pareto")],
    )
    script("pareto").main()
    points = read_json(folder / "comparison.json")["trade_off"]
    assert [point["scale"] for point in points["method=fineface"]] == [0.5]
    assert points["method=sd"] == []
    assert read_json(tmp_path / "pareto" / "trade_off.json") == points
    assert "CLIP-I" in (tmp_path / "pareto" / "trade_off.md").read_text()
    assert (tmp_path / "pareto" / "trade_off.svg").is_file()

    monkeypatch.setattr(
        sys, "argv", ["calibrate_sweep.py", f"out={folder}", *where, "--out", str(tmp_path / "calibrated")]
    )
    script("calibrate_sweep").main()
    gained = read_json(tmp_path / "calibrated" / "calibration.json")
    assert set(gained) == {"method=sd", "method=fineface"}
    assert "difference" in gained["method=sd"]["calibrated"]["individual/au_mse_active"]

    monkeypatch.setattr(
        sys, "argv", ["extrapolate.py", "sweep=table1", f"out={folder}", *where, "--out", str(tmp_path / "beyond")]
    )
    script("extrapolate").main()
    assert {path.name for path in (tmp_path / "beyond").iterdir()} == {
        "extrapolation.md",
        "extrapolation.json",
        "method_sd.webp",
        "method_fineface.webp",
    }
    assert {row["level"] for row in read_json(tmp_path / "beyond" / "extrapolation.json")["method=fineface"]} == {
        -10,
        -5,
        5,
        7.5,
        10,
    }


def test_bench_prepare_times_the_frames_of_a_video_of_drawn_faces(tmp_path: Path) -> None:
    bench = script("bench_prepare")
    config = load_config([f"data.root={tmp_path}", "data.disfa=null", *SMALL[:3]])
    assert "video frames" in bench.stages_of(config)
    bench.run_stage(bench.DRAW, config)
    images, seconds = bench.run_stage("video frames", config)
    frames = sorted((tmp_path / "bench" / "frames" / "video").glob("*.jpg"))
    assert images == len(frames) == 60
    assert seconds > 0
    assert {image_size(frame) for frame in frames} == {(640, 480)}
    one, other = (np.asarray(read_image(frame), dtype=float) for frame in frames[:2])
    assert np.abs(one - other).mean() > 1


def test_bench_prepare_ends_with_the_line_of_a_stage_that_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_prepare.py", "--images", "7", "--times", "1", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        script("bench_prepare").main()
    printed = capfd.readouterr().err
    assert "Traceback" not in printed
    assert printed.splitlines()[-1].startswith("bench_prepare.py: data.toyfacs.affectnet_images=7: must be at least 50")
    monkeypatch.setattr(sys, "argv", ["bench_prepare.py", "data.toyfacs.resolution=none"])
    assert script("bench_prepare").main() == 2
    assert capfd.readouterr().err.splitlines()[-1].startswith("bench_prepare.py: data.toyfacs.resolution")


def test_the_attention_drawn_is_the_adapters_own() -> None:
    """The weights that the script recomputes, times the adapter's values, are what the adapter adds to each
    cross-attention."""
    unet = tiny_unet()
    torch.manual_seed(0)
    adapt(unet, Entry.adapter, EncoderConfig(), FinetuneConfig())
    attention = unet.get_submodule(cross_attention_names(unet)[0].removesuffix(".processor"))
    hidden, text, tokens = (
        torch.randn(2, 16, attention.to_q.in_features),
        torch.randn(2, 5, WIDTH),
        torch.randn(2, 1, 13, WIDTH),
    )
    module = script("attention_maps")
    with torch.no_grad(), module.recorded(unet) as maps:
        whole = attention(hidden, encoder_hidden_states=(text, [tokens]))
        attention.processor.scale = [0.0]
        without = attention(hidden, encoder_hidden_states=(text, [tokens]))
        q, k = (
            x.unflatten(2, (attention.heads, -1)).transpose(1, 2)
            for x in (attention.to_q(hidden), attention.processor.to_k_ip[0](tokens[:, 0]))
        )
        v = attention.processor.to_v_ip[0](tokens[:, 0]).unflatten(2, (attention.heads, -1)).transpose(1, 2)
        weights = (q @ k.transpose(2, 3) * attention.scale).softmax(-1)
        added = (weights @ v).transpose(1, 2).flatten(2) @ attention.to_out[0].weight.T
    torch.testing.assert_close(whole - without, added, atol=1e-4, rtol=1e-3)
    shown = weights[1:].mean(1).transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(maps[0], F.interpolate(shown, size=(64, 64), mode="bilinear", align_corners=False))
