"""Files that hold keys as they were called before a method's parts moved below `method`."""

import json
from pathlib import Path

import pytest
import yaml

from fineface_train.compose import load_config
from fineface_train.config import training_values
from fineface_train.earlier_keys import as_before, of_run, renamed
from fineface_train.loop.earlier_runs import nearest_run
from fineface_train.reports.run import write_report
from fineface_train.reports.run_folder import read_run
from fineface_train.reports.sweep_records import read_records
from fineface_train.verbs.base_of_bundle import read_run_config
from fineface_train.verbs.evaluation_folder import read_evaluation

EARLIER = {
    "seed": 3,
    "protocol": "paper",
    "base": {"name": "toyfacs", "resolution": 64},
    "encoder": {"name": "mlp", "hidden": 8},
    "sampling": {"steps": 15, "guidance": 3.0},
    "trainer": {"steps": 5},
}
"""What a run of that time has in its config.yaml, in part."""


@pytest.mark.parametrize(
    ("earlier", "now"),
    [
        ("encoder.hidden=3 seed=1", "method.encoder.hidden=3 seed=1"),
        ("encoder=mlp sampling.au_guidance=2", "encoder=mlp method.sampling.au_guidance=2"),
        (
            "fineface evaluate 'base.path=/a b' sampling.steps=3",
            "fineface evaluate 'method.base.path=/a b' method.sampling.steps=3",
        ),
        ("data.base.x=1 out=/x/base.path=3", "data.base.x=1 out=/x/base.path=3"),
        ("finetune.train=lora\nfinetune=lora", "method.finetune.train=lora\nfinetune=lora"),
    ],
)
def test_overrides_are_renamed_and_back(earlier: str, now: str) -> None:
    assert renamed(earlier) == now
    assert renamed(now) == now
    assert as_before(now) == earlier


@pytest.mark.parametrize(
    ("override", "now"),
    [
        ("encoder.hidden=3", "encoder.hidden is now method.encoder.hidden"),
        ("sampling.guidance=2", "sampling.guidance is now method.sampling.guidance"),
        ("base.path=x", "base.path is now method.base.path"),
        ("++finetune.lora_rank=2", "finetune.lora_rank is now method.finetune.lora_rank"),
    ],
)
def test_an_earlier_key_is_refused_with_its_new_name(override: str, now: str) -> None:
    for verb in ("train", "evaluate"):
        with pytest.raises(ValueError, match=f"^{now}; write"):
            load_config([override], verb)


def test_the_command_of_an_earlier_evaluation(tmp_path: Path) -> None:
    written = {"judge_it": "fineface evaluate bundle=b 'base.path=/a b' sampling.guidance=2", "images": 270}
    (tmp_path / "pictures.json").write_text(json.dumps(written | {"protocol": "quick", "bundle": "b", "prompts": 5}))
    read = read_evaluation(tmp_path)
    assert read["judge_it"] == "fineface evaluate bundle=b 'method.base.path=/a b' method.sampling.guidance=2"
    write_report(read_run(tmp_path))
    assert read["judge_it"] in (tmp_path / "report.md").read_text()


def test_a_runs_config_is_read_by_the_present_names(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(EARLIER))
    read = read_run_config(tmp_path)
    assert read["method"]["encoder"] == {"name": "mlp", "hidden": 8}
    assert read["method"]["sampling"]["steps"] == 15
    assert read["trainer"] == {"steps": 5}
    assert not {"base", "encoder", "sampling"} & set(read)
    assert of_run(read) == read


def test_an_earlier_run_is_a_neighbour(tmp_path: Path) -> None:
    """A run that was begun before differs from the new one in a value, and not in the names of all keys."""
    config = training_values(load_config(["method.encoder.hidden=9", "judge=none"]))
    earlier = {key: value for key, value in config.items() if key != "method"} | {
        key: value for key, value in config["method"].items() if key != "family"
    }
    earlier["encoder"] = earlier["encoder"] | {"hidden": 8}
    (tmp_path / "toyfacs-mlp-1111").mkdir()
    (tmp_path / "toyfacs-mlp-1111" / "config.yaml").write_text(yaml.safe_dump(earlier))
    near = nearest_run(tmp_path / "toyfacs-mlp-2222", config)
    assert near is not None
    assert near.differences == {"method.encoder.hidden": (9, 8)}


def test_the_records_of_an_earlier_sweep(tmp_path: Path) -> None:
    record = {
        "arm": "encoder.hidden=3 trainer.steps=5",
        "seed": 0,
        "place": [0, 0],
        "overrides": ["encoder=mlp", "encoder.hidden=3", "trainer.steps=5"],
        "reference": "encoder.hidden=3 trainer.steps=5",
    }
    (tmp_path / "arm_1.json").write_text(json.dumps(record))
    (read,) = read_records(tmp_path)
    assert read["arm"] == read["reference"] == "method.encoder.hidden=3 trainer.steps=5"
    assert read["overrides"] == ["encoder=mlp", "method.encoder.hidden=3", "trainer.steps=5"]
    load_config(read["overrides"], "train")
