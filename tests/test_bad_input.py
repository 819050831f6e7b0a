"""What users get wrong: one clear line that names the key or file and the remedy, exit status 2, never a traceback."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fineface_train.aus import AU_COUNT, AU_KEYS, format_aus, parse_aus
from fineface_train.cli import main
from fineface_train.compose import load_config
from fineface_train.data.affectnet.metadata import read_metadata
from fineface_train.data.disfa.labels import read_labels
from fineface_train.files import flat, plain
from fineface_train.loop.accelerator import make_accelerator
from fineface_train.loop.config import Precision, TrainerConfig

SMALL_DATA = ["data.toyfacs.disfa_subjects=3", "data.toyfacs.disfa_frames=12", "data.toyfacs.affectnet_images=60"]


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith("fineface")]
    assert line.startswith((f"fineface {arguments[0]}: ", "fineface: "))
    assert error.endswith(f"{line}\n")
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        # Verbs, keys and choices.
        (["trian"], "no verb 'trian'.*did you mean train"),
        (["evalute"], "did you mean evaluate"),
        (["frobnicate"], "there are prepare, train, generate, evaluate, judge, calibrate, doctor, report"),
        (["train", "encoder=res_mlp46"], "encoder=res_mlp46: no such choice.*did you mean res_mlp64"),
        (["train", "base=sd12"], "base=sd12: no such choice; there are sd15, sd15_random, sd21"),
        (["train", "data=toyfac"], "did you mean toyfacs"),
        (["train", "labels=finface"], "did you mean fineface"),
        (["train", "experiment=quick"], "did you mean quickstart"),
        (["train", "objective=snr"], "objective=snr: no such choice"),
        (
            ["train", "finetune=lorra"],
            "finetune=lorra: no such choice; there are everything, lora, lora_fast_adapter, nothing; did you mean lora",
        ),
        (["train", "judge=openface"], "judge=openface: no such choice"),
        (["train", "trainer=fast"], "trainer=fast: no such choice"),
        (["train", "trainer.step=5"], r"trainer\.step: no such config key; did you mean trainer\.steps"),
        (["train", "+sed=1"], "sed: no such config key; did you mean seed"),
        (["train", "++trainer.step=5"], r"trainer\.step: no such config key; did you mean trainer\.steps"),
        (["train", "sed=1"], "sed: no such config key; did you mean seed"),
        (["train", "lables.std=1"], "lables: no such config key; did you mean labels"),
        (["train", "encoder.hiden=8"], r"encoder\.hiden: no such config key; did you mean method\.encoder\.hidden"),
        (["train", "steps"], "'steps' cannot be read; write key=value"),
        (["train", "trainer.steps=1", "=3"], "'=3' cannot be read; write key=value"),
        (["train", "seed=\x1e0"], "'seed=.*0' cannot be read; put text with signs in quotes"),
        (["train", "-m", "seed=1,{"], "'seed=1,{' cannot be read; put text with signs in quotes"),
        # Types.
        (["train", "trainer.steps=abc"], r"trainer\.steps: Value 'abc'"),
        (["train", "trainer.steps=1.5"], r"trainer\.steps: Value '1.5'"),
        (["train", "trainer.learning_rate=fast"], r"trainer\.learning_rate: Value 'fast'"),
        (["train", "seed=one"], "seed: Value 'one'"),
        (["train", "run.fresh=perhaps"], r"run\.fresh: Value 'perhaps'"),
        (["train", "trainer.betas=0.9"], r"trainer\.betas"),
        (["train", "method.encoder.name=foo"], r"method\.encoder\.name: Invalid value 'foo', expected one of"),
        (["train", "trainer.schedule=linear"], r"trainer\.schedule: Invalid value 'linear', expected one of"),
        (["train", "trainer.precision=int8"], r"trainer\.precision: Invalid value 'int8', expected one of"),
        (["train", "image_transform=stretch"], "image_transform: Invalid value 'stretch', expected one of"),
        (["evaluate", "protocol=slow"], "protocol.*expected one of"),
        # Ranges.
        (["train", "trainer.steps=0"], r"trainer\.steps=0: must be at least 1"),
        (["train", "trainer.steps=-5"], r"trainer\.steps=-5: must be at least 1"),
        (["train", "trainer.batch_size=0"], r"trainer\.batch_size=0: must be at least 1"),
        (["train", "trainer.learning_rate=inf"], r"trainer\.learning_rate=inf: must be positive and finite"),
        (["train", "seed=99999999999999999999"], "seed=99999999999999999999: must lie in 0"),
        (["train", "evaluation.seed=99999999999999999999"], r"evaluation\.seed=.*must lie in 0"),
        (["train", "data.name=../../evil"], r"data\.name='../../evil': use letters"),
        (["train", "method.sampling.steps=100000"], r"method\.sampling\.steps=100000: must lie in 1..1000"),
        (["report", "out=/"], "out=/: no run or evaluation lies there"),
        (["train", "trainer.learning_rate=0"], r"trainer\.learning_rate=0\.0: must be positive"),
        (["train", "trainer.learning_rate=nan"], r"trainer\.learning_rate=nan: must be positive"),
        (["train", "trainer.betas=[0.9,1.5]"], r"trainer\.betas=.*must be two numbers in \[0, 1\)"),
        (["train", "trainer.betas=[0.9]"], r"trainer\.betas=.*must be two numbers"),
        (["train", "trainer.ema_decay=1"], r"trainer\.ema_decay=1\.0: must lie between 0 and 1, or be null"),
        (["train", "trainer.max_gradient_norm=0"], r"trainer\.max_gradient_norm=0\.0: must be positive, or null"),
        (["train", "trainer.workers=-1"], r"trainer\.workers=-1: must not be negative"),
        (["train", "trainer.batch_size=5", "trainer.accumulation=2"], "not a multiple"),
        (["train", "seed=-1"], "seed=-1: must lie in 0"),
        (["train", "labels.std=-1"], r"labels\.std=-1\.0: must lie in 0\.\.5"),
        (["train", "labels.std=9"], r"labels\.std=9\.0: must lie in 0\.\.5"),
        (["train", "labels.rounding_probability=2"], r"labels\.rounding_probability=2\.0: must be a probability"),
        (
            ["train", "method.conditioning.au_dropout=1.5"],
            r"method\.conditioning\.au_dropout=1\.5: must be a probability",
        ),
        (
            ["train", "method.finetune.lora_rank=0"],
            r"method\.finetune\.lora_rank=0: must be at least 1 \(finetune=nothing trains without LoRA\)",
        ),
        (["train", "method.finetune.lora_alpha=0"], r"method\.finetune\.lora_alpha=0\.0: must be positive"),
        (["train", "method.objective.gamma=0"], r"method\.objective\.gamma=0\.0: must be positive"),
        (["train", "method.base.resolution=63"], r"method\.base\.resolution=63: must be a positive multiple of 8"),
        (["train", "method.sampling.steps=0"], r"method\.sampling\.steps=0: must lie in 1..1000"),
        (["train", "method.sampling.guidance=0"], r"method\.sampling\.guidance=0\.0: must be at least 1"),
        (
            ["train", "method.sampling.au_guidance=4"],
            r"method\.sampling\.au_guidance=4\.0: must lie in 1\.\.3 \(method\.sampling\.guidance\), or be null",
        ),
        (["train", "method.sampling.au_guidance=nan"], r"method\.sampling\.au_guidance=nan: must lie in 1\.\.3"),
        (
            ["train", "method.sampling.au_guidance=2", "method.sampling.negative=no_control"],
            r"method\.sampling\.negative cannot be no_control",
        ),
        (["train", "evaluation.batch_size=0"], r"evaluation\.batch_size=0: must be at least 1"),
        (["train", "data.rarity_weighting=3"], r"data\.rarity_weighting=3\.0: must lie in 0\.\.2"),
        (["train", "judge.face_threshold=2"], r"judge\.face_threshold is 2\.0"),
        (["train", "run.name=a/b"], r"run\.name='a/b': use letters, digits"),
        # What does not go together.
        (["train", "base=sd21_random", "judge=toyfacs"], "judge=toyfacs reads drawn faces.*choose judge=none"),
        (["evaluate", "-m", "seed=0,1"], "-m sweeps over trainings"),
        (["train", "-m", "encoder=none,res_mlp64", "trainer.step=1"], r"trainer\.step: no such config key"),
        (["train", "-m", "encoder=none,res_mlp46"], "encoder=res_mlp46: no such choice.*did you mean res_mlp64"),
        (["train", "-m", "seed=0,x"], "seed"),
        (["train", "-m", "seed=interval(0,1)"], r"seed=interval\(0,1\)"),
        (
            ["train", "-m", "trainer.accumulation=1,3"],
            r"trainer\.batch_size=32 is not a multiple of trainer\.accumulation=3",
        ),
        (
            ["train", "data.affectnet.min_sid=1"],
            r"data\.affectnet\.min_sid: no such config key; did you mean data\.affectnet\.min_side",
        ),
        (["train", "evaluation.seed=-1"], r"evaluation\.seed=-1: must lie in 0"),
        (["train", "data.affectnet.weight=-1"], r"data\.affectnet\.weight=-1\.0: must be 0 or more, or null"),
        (["prepare", "data.disfa.weight=inf"], r"data\.disfa\.weight=inf: must be 0 or more"),
        (["train", "trainer.weight_decay=nan"], r"trainer\.weight_decay=nan: must not be negative"),
        (["train", "method.finetune.lora_alpha=nan"], r"method\.finetune\.lora_alpha=nan: must be positive"),
        (["train", "method.finetune.adapter_scale=inf"], r"method\.finetune\.adapter_scale=inf: must be a number"),
        (["train", "method.objective.gamma=nan"], r"method\.objective\.gamma=nan: must be positive"),
        (["generate", "prompt=a person", "scale=nan"], "scale=nan: must be a number"),
        (
            ["generate", "prompt=a person", "method.sampling.guidance=nan"],
            r"method\.sampling\.guidance=nan: must be at least 1",
        ),
        # Missing files.
        (
            ["train", "method.base.path=nowhere", *SMALL_DATA],
            r"method\.base\.path=nowhere: no such folder, and no hub name",
        ),
        (
            ["train", "method.base.path=some/where", *SMALL_DATA],
            r"method\.base\.path=some/where: neither a folder here nor",
        ),
        (["train", "method.base.path=tests", *SMALL_DATA], r"method\.base\.path=tests: holds no model_index\.json"),
        (["train", "data=disfa"], "DISFA_ROOT"),
        (["prepare", "data=affectnet"], "AFFECTNET_ROOT"),
        (["prepare", "data=disfa", "data.disfa.root=nowhere"], r"nowhere.* does not exist; set data\.disfa\.root"),
        (["train", "judge.one=nowhere"], "nowhere"),
        (["generate", "prompt=a person", "bundle=nowhere"], "bundle=nowhere: no config.json there"),
        (["evaluate", "bundle=nowhere"], "bundle=nowhere: no config.json there"),
        (["report", "out=nowhere"], "out=nowhere: no run or evaluation lies there"),
        (["generate"], "prompt is empty"),
        (["generate", "prompt=a person"], "bundle is empty"),
        (["evaluate"], "bundle is empty"),
        # AUs.
        (["generate", "prompt=a person", "aus=AU3=2"], "AU3 is not one of AU1"),
        (["generate", "prompt=a person", "aus=AU122=2"], "AU122 is not one of.*did you mean AU12"),
        (["generate", "prompt=a person", "aus=AU12=x"], "cannot read 'AU12=x'"),
        (["generate", "prompt=a person", "aus=AU12"], "cannot read 'AU12'; write it like AU12=5,AU6=2.5"),
        (["generate", "prompt=a person", "aus=smile=5"], "cannot read 'smile=5'"),
        (["generate", "prompt=a person", "aus=AU12=1e999"], "AU12=1e999 is not finite"),
        (["generate", "prompt=a person", "aus=AU12=1-2"], "'1-2' is not a number"),
        (["generate", "prompt=a person", "aus=AU12=5,AU12=1"], "given twice"),
        (["generate", "prompt=a person", "n=0"], "n=0: must be at least 1"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_mistakes_on_the_command_line(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("DISFA_ROOT", "AFFECTNET_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    if len(arguments) > 1:
        arguments = [*arguments, f"data.root={tmp_path}", f"run.root={tmp_path}"]
    assert re.search(message, complaint(arguments, capsys))


def _first(folder: Path, pattern: str) -> Path:
    return sorted(folder.rglob(pattern))[0]


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _intensity(value: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = _first(root / "disfa", "*_au12.txt")
        lines = path.read_text().splitlines()
        path.write_text("\n".join([f"1,{value}", *lines[1:]]) + "\n")

    return change


def _drop_last_label(root: Path) -> None:
    path = _first(root / "disfa", "*_au12.txt")
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def _lead_out(root: Path) -> None:
    path = _first(root / "affectnet", "*.csv")
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows.assign(ImageName="../" + rows["ImageName"]).to_csv(path, index=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_intensity("7"), r"_au12\.txt, line 1: '1,7': the intensity must lie in 0\.\.5"),
        (_intensity("-1"), "the intensity must lie in 0..5"),
        (_intensity("nan"), "the intensity must lie in 0..5"),
        (_intensity("strong"), "'1,strong': must read frame,intensity"),
        (_drop_last_label, "the label files disagree on the number of frames"),
        (lambda root: sorted((root / "disfa").rglob("*.png"))[3].unlink(), "11 images, but the labels have 12 frames"),
        (
            lambda root: _first(root / "disfa", "*_au12.txt").unlink(),
            r"_au12\.txt: missing; a subject needs the labels",
        ),
        (
            lambda root: _first(root / "disfa", "*_au12.txt").write_text(""),
            "disagree on the number of frames|holds no frames",
        ),
        (lambda root: _first(root / "affectnet", "*.png").unlink(), r"1 of \d+ images are missing, the first is"),
        (lambda root: _replace(_first(root / "affectnet", "*.csv"), "AU12_rec", "AU12"), "columns missing: AU12_rec"),
        (lambda root: _first(root / "disfa", "*.csv").unlink(), r"does not exist; set data\.disfa\.root"),
        (_lead_out, r"ImageName='\.\./.*': must lie below the images' folder"),
    ],
)
def test_mistakes_in_datasets(
    change: Callable[[Path], None], message: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    change(tmp_path / "corpus")
    arguments = ["prepare", "data.toyfacs=null", f"data.root={tmp_path}"]
    assert re.search(message, complaint(arguments, capsys))


def test_broken_images_are_skipped_and_counted_where_that_is_asked_for(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fineface_train.data.prepare import read_manifest

    shutil.copytree(corpus, tmp_path / "corpus")
    victim = sorted((tmp_path / "corpus" / "affectnet").rglob("*.png"))[-1]
    assert main(["prepare", "data.toyfacs=null", f"data.root={tmp_path}"]) == 0
    names = set(_table(tmp_path)["image"])
    victim = Path(sorted(name for name in names if "affectnet" in name)[-1])
    victim.write_bytes(victim.read_bytes()[:200])
    assert main(["prepare", "data.toyfacs=null", f"data.root={tmp_path}", "data.skip_broken=true"]) == 0
    assert f"skipped: {victim}" in capsys.readouterr().err
    assert names - set(_table(tmp_path)["image"]) == {str(victim)}
    counts = read_manifest(tmp_path)["sources"]["affectnet"]
    assert counts["dropped: image cannot be read"] == 1
    assert counts["kept"] == sum("affectnet" in name for name in names) - 1


def test_a_source_that_keeps_nothing_to_train_on_is_told(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    assert (
        main(["prepare", "data.toyfacs=null", f"data.root={tmp_path}", "data.affectnet.validation_share=0.999999"]) == 0
    )
    assert "data.affectnet: none of its rows is left to train on" in capsys.readouterr().err


@pytest.mark.parametrize("sharding", ["fsdp", "deepspeed", "megatron_lm"])
def test_sharding_is_refused_before_anything_is_read(
    sharding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `accelerate launch` asks for it; on a CPU accelerate itself would leave FSDP out without a word."""
    monkeypatch.setenv(f"ACCELERATE_USE_{sharding.upper()}", "true")
    line = complaint(["train", f"data.root={tmp_path / 'data'}", f"run.root={tmp_path}"], capsys)
    assert f"Launch without --use_{sharding}" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("run.root=/etc/passwd", r"run\.root=/etc/passwd: /etc/passwd is a file; give a folder"),
        ("data.root=/etc/passwd/x", r"data\.root=/etc/passwd/x: /etc/passwd is a file; give a folder"),
        ("data.root=", r"data\.root is empty"),
        ("out=/etc/passwd", "out=/etc/passwd: /etc/passwd is a file; give a folder"),
        ("out=x.png", r"out=x\.png: reads like a file's name; give a folder, such as out=x$"),
        ("out=pages/report.HTML", r"give a folder, such as out=pages/report$"),
        ("run.root=runs.json", r"run\.root=runs\.json: reads like a file's name"),
        ("data.root=table.parquet", r"data\.root=table\.parquet: reads like a file's name"),
        ("run.root=${oc.env:HOME}/x", r"is not replaced on the command line; leave that to the shell"),
    ],
)
def test_folders_that_cannot_be_ones(argument: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.search(message, complaint(["train", argument], capsys))


@pytest.mark.parametrize("verb", ["evaluate", "report", "train", "doctor"])
def test_a_picture_is_no_folder(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "out=" in complaint([verb, f"out={tmp_path / 'x.png'}"], capsys)
    assert not list(tmp_path.iterdir())
    (tmp_path / "v1.md").mkdir()
    load_config([f"out={tmp_path / 'v1.md'}"], verb)  # who has such a folder knows it


@pytest.mark.parametrize(
    "value",
    ["nan", *(pytest.param(value, marks=pytest.mark.slow) for value in ("inf", "-inf"))],  # as long, by the same check
)
def test_every_number_is_finite(value: str) -> None:
    """Whatever its own check says: every float of the config, those of a field that is added later too."""
    floats = [
        key
        for key, number in flat(plain(load_config(["data=disfa_affectnet", "data.manipulation={}", "data.toyfacs={}"])))
        if isinstance(number, float)
    ]
    floats += ["scale", "trainer.ema_decay", "method.sampling.au_guidance", "data.disfa.weight"]
    assert len(floats) > 30
    for key in floats:
        with pytest.raises(ValueError, match=re.escape(key) + r"\b.*nan|" + re.escape(key) + r"\b.*inf"):
            load_config(["data=disfa_affectnet", "data.manipulation={}", "data.toyfacs={}", f"{key}={value}"])


def test_compiling_without_a_compiler_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    line = complaint(
        ["train", f"data.root={tmp_path / 'data'}", f"run.root={tmp_path}", "trainer.compile=true"], capsys
    )
    assert "trainer.compile=true: no C++ compiler 'no-such-compiler'" in line


@pytest.mark.parametrize("verb", ["train", "doctor"])
def test_fp16_on_a_cpu_is_refused_before_anything_is_read(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = complaint([verb, f"data.root={tmp_path / 'data'}", f"run.root={tmp_path}", "trainer.precision=fp16"], capsys)
    assert "trainer.precision=fp16: on a CPU nothing trains in it; choose bf16 or fp32" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "trainer.compile"),
        ("ACCELERATE_DYNAMO_BACKEND", "no such backend", "trainer.compile"),
        ("ACCELERATE_MIXED_PRECISION", "fp16", "trainer.precision"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "trainer.accumulation"),
    ],
)
def test_what_is_trained_is_decided_by_the_config_alone(
    variable: str, value: str, key: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(variable, value)
    accelerator = make_accelerator(TrainerConfig(accumulation=2, precision=Precision.fp32))
    assert f"{variable}={value.lower()} is left out of account: the config decides ({key})" in caplog.text
    assert (accelerator.mixed_precision, accelerator.gradient_accumulation_steps) == ("no", 2)
    assert accelerator.state.dynamo_plugin.backend.value == "NO"


@pytest.mark.parametrize("setting", ["ACCELERATE_USE_CPU=maybe", "WORLD_SIZE=two"])
def test_an_environment_that_accelerate_cannot_read_is_named(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(*setting.split("="))
    line = complaint(["train", f"data.root={tmp_path / 'data'}", f"run.root={tmp_path}"], capsys)
    assert re.search(rf"accelerate cannot start .*; mend or unset what the environment says: .*{setting}", line)


def test_a_python_without_docstrings_is_refused() -> None:
    command = [sys.executable, "-OO", "-m", "fineface_train", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("fineface doctor: PYTHONOPTIMIZE=2 (python -OO) takes away the docstrings")


def test_what_accelerate_launch_sets_by_default_is_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for variable, value in (
        ("DYNAMO_BACKEND", "NO"),
        ("MIXED_PRECISION", "bf16"),
        ("GRADIENT_ACCUMULATION_STEPS", "1"),
    ):
        monkeypatch.setenv(f"ACCELERATE_{variable}", value)
    assert make_accelerator(TrainerConfig(accumulation=2, precision=Precision.bf16)).gradient_accumulation_steps == 2
    assert not caplog.text


def _table(root: Path) -> pd.DataFrame:
    return pd.read_parquet(root / "table.parquet")


@given(st.text(max_size=40))
def test_any_override_composes_or_is_one_line(text: str) -> None:
    try:
        load_config([text])
    except ValueError as error:
        assert len(str(error).splitlines()) <= 1


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=20), max_size=5))
def test_any_label_file_reads_or_is_named(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "SN001_au12.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        intensities, findings = read_labels(path, first_label=1)
        assert all(str(path) in fault.text for fault in [*findings.wrong, *findings.unequal])
        assert findings.wrong or ((intensities >= 0) & (intensities <= 5)).all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_cell_of_the_metadata_reads_or_is_named(data: st.DataObject, corpus: Path) -> None:
    path = _first(corpus / "affectnet", "*.csv")
    rows = pd.read_csv(path, dtype=str, keep_default_na=False).head(5)
    column = data.draw(st.sampled_from(sorted(rows.columns)))
    rows.loc[data.draw(st.integers(0, 4)), column] = data.draw(
        st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
    )
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / "metadata.csv"
        rows.to_csv(changed, index=False)
        try:
            read = read_metadata(changed)
        except ValueError as error:
            assert str(changed) in str(error)
        else:
            assert len(read) == 5


@given(st.text(max_size=40))
def test_any_text_for_aus_parses_or_is_a_value_error(text: str) -> None:
    try:
        values = parse_aus(text)
    except ValueError:
        return
    assert len(values) == AU_COUNT
    assert all(0 <= value <= 5 for value in values)


@given(st.dictionaries(st.sampled_from(AU_KEYS), st.floats(0.001, 5).map(lambda value: float(f"{value:g}"))))
def test_aus_survive_being_written_and_read(wanted: dict[str, float]) -> None:
    values = [wanted.get(key, 0.0) for key in AU_KEYS]
    text = format_aus(values)
    assert parse_aus("" if text == "neutral" else text) == values
