"""The loop on a tiny pipeline and a small corpus, through the real readers and caches."""

import contextlib
import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline
from torch.optim.optimizer import register_optimizer_step_pre_hook

from fineface_train.data.cache import LatentCache, TextCache, latent_cache, load_image, text_cache
from fineface_train.data.conditioning import ConditioningConfig, Entry
from fineface_train.data.config import ImageTransform
from fineface_train.data.contents import image_contents
from fineface_train.data.crew import Crew
from fineface_train.data.examples import ExampleDataset, ShareOfBatches, collate, example_batches
from fineface_train.data.labels import LabelsConfig, Scope
from fineface_train.data.mixture import Mixture
from fineface_train.data.table import SampleTable
from fineface_train.loop.averages import in_place
from fineface_train.loop.checkpoint import TrainingState, latest_state
from fineface_train.loop.config import Precision, Schedule, TrainerConfig, learning_rate
from fineface_train.loop.trainer import fit
from fineface_train.methods.au_diffusion.config import EncoderConfig, FinetuneConfig, ObjectiveConfig
from fineface_train.methods.au_diffusion.model import AUDiffusion, batch_to
from tests.conftest import tiny_pipeline
from tests.data.conftest import affectnet_config, no_models, read_affectnet

STEPS = 6


@pytest.fixture(scope="module")
def table(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    return read_affectnet(affectnet_config(corpus), seed=0, stages=no_models(tmp_path_factory.mktemp("prepared"))).table


@pytest.fixture(scope="module")
def caches(table: SampleTable, tmp_path_factory: pytest.TempPathFactory) -> tuple[LatentCache, TextCache]:
    pipe, root = tiny_pipeline(), tmp_path_factory.mktemp("cache")
    crew = Crew(quiet=True)
    contents = image_contents(table.frame["image"], root / "contents.parquet", progress=False)
    return latent_cache(table, contents, pipe.vae, "vae", root, 16, ImageTransform.crop, crew=crew), text_cache(
        table.frame["caption"].tolist(), pipe, "text", root, crew=crew
    )


MakeDataset = Callable[..., ExampleDataset]


@pytest.fixture(scope="module")
def make_dataset(table: SampleTable, caches: tuple[LatentCache, TextCache]) -> MakeDataset:
    def make(
        seed: int = 0,
        batch_size: int = 4,
        labels: LabelsConfig | None = None,
        conditioning: ConditioningConfig | None = None,
    ) -> ExampleDataset:
        mixture = Mixture(table, {"affectnet": 1.0}, 0.0, seed)
        return ExampleDataset(
            table.aus(),
            mixture,
            labels or LabelsConfig(),
            conditioning or ConditioningConfig(),
            *caches,
            timesteps=1000,
            rounding_group=batch_size,
            seed=seed,
        )

    return make


def make_model(
    pipe: StableDiffusionPipeline | None = None, checkpointing: bool = False, compiled: bool = False
) -> AUDiffusion:
    parts = Entry.adapter, EncoderConfig(), FinetuneConfig(lora_rank=4, lora_alpha=4), ObjectiveConfig()
    return AUDiffusion(pipe or tiny_pipeline(), *parts, seed=0, gradient_checkpointing=checkpointing, compiled=compiled)


def train(
    folder: Path,
    dataset: ExampleDataset,
    stop_after: int | None = None,
    model: AUDiffusion | None = None,
    **changes: object,
) -> tuple[AUDiffusion, list[dict]]:
    """Fit a tiny model; with `stop_after`, stop as if killed after that many logged steps."""
    values: dict = {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-3, "checkpoint_every": 2, "sample_every": 0}
    config = TrainerConfig(**(values | changes))
    config.validate("trainer")
    model = model or make_model()
    lines: list[dict] = []

    def ignore(step: int) -> None:
        pass

    class StoppedError(Exception):
        pass

    def log(step: int, values: dict[str, float]) -> None:
        lines.append({"step": step, **values})
        if step == stop_after:
            raise StoppedError

    dtype = torch.float64 if config.precision is Precision.fp64 else torch.float32
    model.to(dtype)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=config.accumulation)
    with contextlib.suppress(StoppedError):
        fit(
            model,
            dataset,
            config,
            accelerator,
            folder,
            collate=collate,
            to_device=lambda b: batch_to(b, accelerator.device, dtype),
            log=log,
            resumed=ignore,
            pauses=[],
            log_every=1,
        )
    return model, lines


def test_examples_are_pure_functions_of_seed_and_index(make_dataset: MakeDataset) -> None:
    one, two, other = make_dataset(0), make_dataset(0), make_dataset(1)
    for index in (0, 7, 10_000_000):
        first, second = one[index], two[index]
        assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in vars(first) if name != "prior")
    assert not torch.equal(one[3].noise, other[3].noise)
    assert not torch.equal(one[3].noise, one[4].noise)
    assert not torch.equal(one[3].noise, one[3].posterior_noise)


def test_processes_accumulation_and_workers_share_the_same_examples(make_dataset: MakeDataset) -> None:
    whole = [index for batch in ShareOfBatches(range(3), 8, 1, 0, 1) for index in batch]
    assert whole == list(range(24))
    for accumulation, processes in ((2, 1), (1, 2), (2, 2)):
        parts = [list(ShareOfBatches(range(3), 8, accumulation, process, processes)) for process in range(processes)]
        steps = [
            sorted(i for p in range(processes) for a in range(accumulation) for i in parts[p][step * accumulation + a])
            for step in range(3)
        ]
        assert steps == [list(range(8 * step, 8 * step + 8)) for step in range(3)]
    dataset = make_dataset()
    loaders = [list(example_batches(dataset, ShareOfBatches(range(2), 4, 1, 0, 1), workers)) for workers in (0, 2)]
    assert all(
        torch.equal(getattr(a, name), getattr(b, name))
        for a, b in zip(*loaders, strict=True)
        for name in vars(a)
        if name != "prior"
    )
    with pytest.raises(ValueError, match=r"trainer\.batch_size=8 cannot be divided among 3 processes"):
        ShareOfBatches(range(1), 8, 1, 0, 3)


def test_rounding_of_a_whole_batch_is_one_draw(make_dataset: MakeDataset) -> None:
    labels = LabelsConfig(std=0.3, rounding_probability=0.5, scope=Scope.batch)
    dataset = make_dataset(labels=labels, batch_size=4)
    rounded = [
        [bool((dataset[4 * batch + place].aus == dataset[4 * batch + place].aus.round()).all()) for place in range(4)]
        for batch in range(12)
    ]
    assert all(len(set(batch)) == 1 for batch in rounded)
    assert {batch[0] for batch in rounded} == {True, False}


def test_dropout_hides_captions_and_aus(make_dataset: MakeDataset) -> None:
    always = make_dataset(conditioning=ConditioningConfig(caption_dropout=1.0, au_dropout=1.0))
    never = make_dataset(conditioning=ConditioningConfig(caption_dropout=0.0))
    assert all(
        np.array_equal(always[i].text.numpy(), always.text.empty) and always[i].aus.isnan().all() for i in range(5)
    )
    assert all(np.array_equal(never[i].text.numpy(), never.text[int(never[i].row)]) for i in range(5))
    half = make_dataset(conditioning=ConditioningConfig(caption_dropout=0.5))
    share = np.mean([np.array_equal(half[i].text.numpy(), half.text.empty) for i in range(200)])
    assert 0.35 < share < 0.65


def test_resuming_is_exact_to_the_bit(tmp_path: Path, make_dataset: MakeDataset) -> None:
    whole, lines = train(tmp_path / "whole", make_dataset(), ema_decay=0.9)
    train(tmp_path / "cut", make_dataset(), stop_after=5, ema_decay=0.9)
    resumed, rest = train(tmp_path / "cut", make_dataset(), ema_decay=0.9)
    assert [line["step"] for line in rest] == [5, 6]
    assert all(torch.equal(value, resumed.trainable[name]) for name, value in whole.trainable.items())
    assert [line["loss"] for line in lines[4:]] == [line["loss"] for line in rest]


def test_accumulation_changes_rounding_only(tmp_path: Path, make_dataset: MakeDataset) -> None:
    """Not to be had with loss means over unequal parts, a missed division or a step per micro-batch."""
    runs = [
        train(tmp_path / str(k), make_dataset(), accumulation=k, precision=Precision.fp64, learning_rate=1e-4)[0]
        for k in (1, 2, 4)
    ]
    for name, value in runs[0].trainable.items():
        for other in runs[1:]:
            torch.testing.assert_close(value, other.trainable[name], atol=1e-9, rtol=0)


def test_gradient_checkpointing_changes_rounding_only(tmp_path: Path, make_dataset: MakeDataset) -> None:
    plain, _ = train(tmp_path / "a", make_dataset(), precision=Precision.fp64)
    thrifty, _ = train(tmp_path / "b", make_dataset(), precision=Precision.fp64, model=make_model(checkpointing=True))
    for name, value in plain.trainable.items():
        torch.testing.assert_close(value, thrifty.trainable[name], atol=1e-9, rtol=0)


@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler: apt install g++")
def test_compiling_changes_rounding_only(tmp_path: Path, make_dataset: MakeDataset) -> None:
    model, lines = train(tmp_path / "a", make_dataset(), precision=Precision.fp64)
    compiled, same = train(tmp_path / "b", make_dataset(), precision=Precision.fp64, model=make_model(compiled=True))
    assert [line["loss"] for line in lines] == pytest.approx([line["loss"] for line in same], rel=1e-7)
    assert set(compiled.state_dict()) == set(model.state_dict())
    for name, value in model.trainable.items():
        torch.testing.assert_close(value, compiled.trainable[name], atol=1e-7, rtol=0)


def test_clipping_clips_and_logs_the_norm_before(tmp_path: Path, make_dataset: MakeDataset) -> None:
    """Adam's first step does not depend on the size of a gradient, so look at the gradients themselves."""
    seen: dict[str, list[float]] = {}
    for limit in (None, 1e-3):
        model = make_model()
        norms: list[float] = []

        def watch(
            optimiser: torch.optim.Optimizer, *_: object, norms: list[float] = norms, model: AUDiffusion = model
        ) -> None:
            norms.append(
                float(torch.stack([p.grad.norm() for p in model.trainable.values() if p.grad is not None]).norm())
            )

        handle = register_optimizer_step_pre_hook(watch)
        _, lines = train(tmp_path / str(limit), make_dataset(), model=model, steps=1, max_gradient_norm=limit)
        handle.remove()
        seen[str(limit)] = [norms[0], lines[0]["gradient_norm"]]
    assert seen["None"][0] == pytest.approx(seen["None"][1], rel=1e-5)
    assert seen["0.001"][0] == pytest.approx(1e-3, rel=1e-2)
    assert seen["0.001"][1] == pytest.approx(seen["None"][1], rel=1e-5)
    assert seen["None"][1] > 1e-2


def test_schedules() -> None:
    constant = TrainerConfig(learning_rate=1.0, warmup_steps=4, steps=104)
    assert [learning_rate(constant, step, 104) for step in (0, 1, 3, 50)] == [0.25, 0.5, 1.0, 1.0]
    cosine = TrainerConfig(learning_rate=1.0, warmup_steps=4, steps=104, schedule=Schedule.cosine)
    assert learning_rate(cosine, 4, 104) == 1.0
    assert learning_rate(cosine, 54, 104) == pytest.approx(0.5)
    assert 0 < learning_rate(cosine, 103, 104) < 1e-3


def test_averages_are_what_the_bundle_gets_and_state_has_both(tmp_path: Path, make_dataset: MakeDataset) -> None:
    from safetensors.torch import load_file

    model, _ = train(tmp_path, make_dataset(), ema_decay=0.5)
    state = tmp_path / "state" / f"step_{STEPS:08d}"
    raw, average = load_file(state / "state.safetensors"), load_file(state / "averages.safetensors")
    assert all(torch.equal(average[name], value) for name, value in model.trainable.items())
    assert any(not torch.equal(raw[name], average[name]) for name in raw)
    progress = json.loads((state / "progress.json").read_text())
    assert (progress["run"], progress["step"]) == (tmp_path.name, STEPS)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["step_00000004", "step_00000006"]
    before = copy.deepcopy(dict(model.trainable))
    with in_place(model, {name: torch.zeros_like(value) for name, value in model.trainable.items()}):
        assert all(value.abs().sum() == 0 for value in model.trainable.values())
    assert all(torch.equal(before[name], value) for name, value in model.trainable.items())


def test_a_loss_that_is_not_finite_stops_and_names_the_examples(tmp_path: Path, make_dataset: MakeDataset) -> None:
    model = make_model()
    with torch.no_grad():
        next(iter(model.trainable.values())).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"step 1: loss nan.*examples \[0, 1, 2, 3\]"):
        train(tmp_path, make_dataset(), model=model)


def test_a_gradient_that_is_not_finite_can_be_left_out_and_counted(tmp_path: Path, make_dataset: MakeDataset) -> None:
    model = make_model()
    steps: list[int] = []

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        steps.append(len(steps) + 1)
        return gradient * float("inf") if steps[-1] == 2 else gradient

    name, parameter = next(iter(model.trainable.items()))
    parameter.register_hook(spoil)
    _, lines = train(tmp_path, make_dataset(), model=model, steps=3, skip_nonfinite=True)
    assert [line.get("skipped_steps", 0) for line in lines] == [0, 1, 1]
    assert torch.isfinite(parameter).all(), name


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove", "exchange"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    harm: str, tmp_path: Path, make_dataset: MakeDataset, caplog: pytest.LogCaptureFixture
) -> None:
    whole, lines = train(tmp_path / "whole", make_dataset(), ema_decay=0.9)
    train(tmp_path / "cut", make_dataset(), stop_after=5, ema_decay=0.9)
    state = tmp_path / "cut" / "state"
    file = state / "step_00000004" / "state.safetensors"
    data = file.read_bytes()
    if harm == "flip":
        file.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    elif harm == "truncate":
        file.write_bytes(data[: len(data) // 2])
    elif harm == "remove":
        file.unlink()
    else:
        file.write_bytes((state / "step_00000002" / "state.safetensors").read_bytes())
    resumed, rest = train(tmp_path / "cut", make_dataset(), ema_decay=0.9)
    assert [line["step"] for line in rest] == [3, 4, 5, 6]
    assert "step_00000004/state.safetensors is" in caplog.text
    assert (state / "step_00000004.damaged").is_dir()
    assert all(torch.equal(value, resumed.trainable[name]) for name, value in whole.trainable.items())
    assert [line["loss"] for line in lines[2:]] == [line["loss"] for line in rest]


def test_the_loss_scale_of_fp16_is_kept(tmp_path: Path) -> None:
    model = make_model()
    optimiser = torch.optim.AdamW(model.trainable.values())
    scaler, other = (torch.amp.GradScaler("cpu", init_scale=scale) for scale in (1024.0, 8.0))
    scaler.scale(torch.ones(()))
    other.scale(torch.ones(()))
    TrainingState(model, {}, {"adapter": optimiser}, scaler).save(tmp_path, 3)
    assert TrainingState(model, {}, {"adapter": optimiser}, other).load(tmp_path / "step_00000003") == 3
    assert other.get_scale() == 1024.0


def test_training_lowers_the_loss_on_what_it_saw(tmp_path: Path, make_dataset: MakeDataset) -> None:
    dataset = make_dataset()
    batch = collate([dataset[index] for index in range(16)])
    model = make_model()
    before = model(batch)["loss"].item()
    model, _ = train(tmp_path, dataset, model=model, steps=40, learning_rate=3e-3)
    assert model(batch)["loss"].item() < 0.9 * before


def test_a_checkpoint_of_another_run_or_step_is_set_aside(
    tmp_path: Path, make_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    train(mine, make_dataset())
    train(other, make_dataset(seed=1))
    newest = mine / "state" / "step_00000006"
    for intruder in (other / "state" / "step_00000006", mine / "state" / "step_00000004"):
        shutil.rmtree(newest)
        shutil.copytree(intruder, newest)
        assert latest_state(mine / "state") == mine / "state" / "step_00000004"
        assert newest.with_name(newest.name + ".damaged").is_dir()
        shutil.copytree(newest.with_name(newest.name + ".damaged"), newest)


def test_a_cache_holds_what_the_base_says_of_the_image(
    table: SampleTable, caches: tuple[LatentCache, TextCache]
) -> None:
    """Image by image and caption by caption, not in the cache's batches."""
    pipe, (latents, text) = tiny_pipeline(), caches
    for row in (0, 7, len(table) - 1):
        image = torch.from_numpy(load_image(table.frame["image"][row], 16, ImageTransform.crop))[None]
        ids = pipe.tokenizer(
            table.frame["caption"][row], padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            posterior, embedding = pipe.vae.encode(image).latent_dist, pipe.text_encoder(ids)[0]
        for cached, computed in zip(
            (*latents[row], text[row]), (posterior.mean, posterior.std, embedding), strict=True
        ):
            torch.testing.assert_close(torch.from_numpy(cached), computed[0], atol=1e-5, rtol=0)
