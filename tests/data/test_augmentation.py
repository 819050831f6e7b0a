"""Mirrored images and other colours: views with caches of their own, and which of them an example takes."""

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageStat

from fineface_train.cli import main
from fineface_train.compose import load_config
from fineface_train.data.augmentation import AS_IT_IS, Augmentation, View, mirrorable
from fineface_train.data.cache import LatentCache, TextCache, latent_cache, load_image, text_cache
from fineface_train.data.conditioning import ConditioningConfig
from fineface_train.data.config import DataConfig, ImageTransform
from fineface_train.data.contents import image_contents
from fineface_train.data.crew import Crew
from fineface_train.data.examples import ExampleDataset, ShareOfBatches, example_batches
from fineface_train.data.labels import LabelsConfig
from fineface_train.data.mixture import Mixture
from fineface_train.data.prepare import prepare
from fineface_train.data.table import SampleTable
from fineface_train.data.views import Views, open_views, rows_of_view
from fineface_train.loop.tracking import read_metrics
from tests.conftest import tiny_pipeline
from tests.data.conftest import affectnet_config, no_models, read_affectnet
from tests.data.crews import run_crew

QUIET = Crew(quiet=True)
BOTH = Augmentation(flip=0.5, colour=0.3, variants=3, seed=7)
WEIGHTS = {"affectnet": 1.0}


@dataclasses.dataclass
class Made:
    """A table with caches of its images, under `root`."""

    table: SampleTable
    contents: list[str]
    root: Path
    vae: torch.nn.Module
    latents: LatentCache
    text: TextCache

    def posteriors(self, rows: np.ndarray, view: View, crew: Crew = QUIET) -> LatentCache:
        contents = [self.contents[row] for row in rows]
        table = SampleTable(self.table.frame.iloc[rows])
        return latent_cache(table, contents, self.vae, "vae", self.root, 16, ImageTransform.crop, view=view, crew=crew)

    def views(self, augmentation: Augmentation) -> Views | None:
        return open_views(augmentation, self.table, WEIGHTS, self.latents, self.posteriors, silent=False)

    def dataset(self, views: Views | None, seed: int = 0) -> ExampleDataset:
        return ExampleDataset(
            self.table.aus(),
            Mixture(self.table, WEIGHTS, 0.0, seed),
            LabelsConfig(),
            ConditioningConfig(),
            self.latents,
            self.text,
            views=views,
            timesteps=1000,
            rounding_group=4,
            seed=seed,
        )


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    root, pipe = tmp_path_factory.mktemp("views"), tiny_pipeline()
    table = read_affectnet(affectnet_config(corpus), seed=0, stages=no_models(root / "prepared")).table
    frame = table.frame.copy()
    first = np.flatnonzero(frame["split"] == "train")[:2]
    frame.loc[first, "caption"] = ["a man who looks to his Left", "a woman on the right-hand side"]
    table = SampleTable(frame)
    contents = image_contents(table.frame["image"], root / "contents.parquet", progress=False)
    latents = latent_cache(table, contents, pipe.vae, "vae", root, 16, ImageTransform.crop, crew=QUIET)
    text = text_cache(frame["caption"].tolist(), pipe, "text", root, crew=QUIET)
    return Made(table, contents, root, pipe.vae, latents, text)


def photograph() -> Image.Image:
    """Bright and dark, grey and coloured parts, but nothing that is clipped by small factors."""
    rng = np.random.default_rng(0)
    return Image.fromarray((60 + 90 * rng.random((32, 32, 3))).astype(np.uint8))


def test_a_mirrored_view_is_the_image_mirrored(made: Made) -> None:
    path = made.table.frame["image"][0]
    plain, mirrored = (load_image(path, 64, ImageTransform.crop, None, View(one)) for one in (False, True))
    assert np.array_equal(mirrored, plain[:, :, ::-1])
    assert not np.array_equal(mirrored, plain)


def test_colours_stay_in_their_range_and_are_a_function_of_seed_image_and_variant() -> None:
    image, contents = photograph(), [f"{number:064x}" for number in range(2, 400)]
    view = View(False, 1, 0.3, 7)
    factors = np.array([view.factors(one) for one in contents])
    assert factors.min() >= 0.7
    assert factors.max() <= 1.3
    assert np.allclose([factors.min(), factors.max()], [0.7, 1.3], atol=0.01)
    assert len(np.unique(factors)) == factors.size
    assert np.array_equal(view.factors(contents[0]), View(True, 1, 0.3, 7).factors(contents[0]))
    for other in (View(False, 2, 0.3, 7), View(False, 1, 0.3, 8)):
        assert not np.array_equal(view.factors(contents[0]), other.factors(contents[0]))
    for one, (brightness, contrast, saturation) in list(zip(contents, factors, strict=True))[:20]:
        changed = view.of(image, one)
        assert changed.size == image.size
        assert ImageStat.Stat(changed).mean[0] == pytest.approx(brightness * ImageStat.Stat(image).mean[0], rel=0.1)
        grey, before = (np.asarray(each.convert("L"), dtype=float) for each in (changed, image))
        assert grey.std() == pytest.approx(brightness * contrast * before.std(), rel=0.1)
        colour, plain = (np.asarray(each, dtype=float).std(axis=2).mean() for each in (changed, image))
        assert colour == pytest.approx(brightness * contrast * saturation * plain, rel=0.1)
    assert AS_IT_IS.of(image, None) is image


def test_captions_that_tell_a_side_are_found() -> None:
    told = ["looks left", "the RIGHT eye", "his left-hand side", "leftmost", "right."]
    untold = ["a bright room", "a man who is upright", "a cleft chin", "", "frightened", "alright"]
    assert mirrorable([*told, *untold]).tolist() == [False] * len(told) + [True] * len(untold)


def test_each_view_is_encoded_by_itself_and_found_again(made: Made) -> None:
    """Posteriors are of the view's own picture: a VAE is not exactly equivariant."""
    views = made.views(BOTH)
    assert views is not None
    assert len(views.of_view) == 5
    training = np.flatnonzero(made.table.frame["split"] == "train")
    for view, (rows, latents) in views.of_view.items():
        assert rows.tolist() == [row for row in training if not view.mirrored or row not in training[:2]]
        row = int(rows[3])
        path, contents = made.table.frame["image"][row], made.contents[row]
        pixels = torch.from_numpy(load_image(path, 16, ImageTransform.crop, contents, view))[None]
        with torch.no_grad():
            wanted = made.vae.encode(pixels).latent_dist
        torch.testing.assert_close(torch.from_numpy(latents[3][0]), wanted.mean[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(torch.from_numpy(latents[3][1]), wanted.std[0], atol=1e-6, rtol=1e-5)
        assert not np.allclose(latents[3][0], made.latents[row][0], atol=1e-3)
        if view.mirrored and not view.variant:
            assert not np.allclose(latents[3][0], made.latents[row][0][:, :, ::-1], atol=1e-4)
    folders = {latents.folder for _, latents in views.of_view.values()}
    assert len(folders | {made.latents.folder}) == 6
    before = {path: path.stat().st_mtime_ns for path in made.root.glob("latents-*/mean.npy")}
    again = made.views(BOTH)
    assert again is not None
    assert {latents.folder for _, latents in again.of_view.values()} == folders
    assert {path: path.stat().st_mtime_ns for path in made.root.glob("latents-*/mean.npy")} == before
    mirrored_alone = made.views(Augmentation(flip=1.0))
    assert mirrored_alone is not None
    assert {latents.folder for _, latents in mirrored_alone.of_view.values()} < folders


def test_two_processes_build_the_same_views(made: Made, tmp_path: Path) -> None:
    rows = rows_of_view(made.table, WEIGHTS, View(True))
    other = dataclasses.replace(made, root=tmp_path)
    by_two = run_crew(2, lambda crew: other.posteriors(rows, View(True), crew))
    assert np.array_equal(by_two[0].mean, made.posteriors(rows, View(True)).mean)


def test_off_nothing_changes(made: Made) -> None:
    assert made.views(Augmentation()) is None
    assert Augmentation().identity() == {}
    config = DataConfig()
    assert (config.flip, config.colour, config.augmentation.views) == (0.0, 0.0, [])


def test_only_the_posterior_of_an_example_changes(made: Made) -> None:
    plain, augmented = made.dataset(None), made.dataset(made.views(BOTH))
    changed = []
    for index in range(24):
        one, other = plain[index], augmented[index]
        for name in vars(one):
            if name not in ("prior", "latent_mean", "latent_std"):
                assert torch.equal(getattr(one, name), getattr(other, name)), name
        changed.append(not torch.equal(one.latent_mean, other.latent_mean))
    assert set(changed) == {True, False}


def test_views_are_as_frequent_as_asked_and_sided_images_are_never_mirrored(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="fineface_train"):
        views = made.views(BOTH)
    training = np.flatnonzero(made.table.frame["split"] == "train")
    assert f"2 of {len(training)} training images are never mirrored" in caplog.text
    assert "'a man who looks to his Left'" in caplog.text
    assert views is not None
    rng = np.random.default_rng(0)
    chosen = [BOTH.choose(rng, mirrorable=True) for _ in range(3000)]
    assert np.mean([view.mirrored for view in chosen]) == pytest.approx(0.5, abs=0.03)
    for variant in range(3):
        assert np.mean([view.variant == variant for view in chosen]) == pytest.approx(1 / 3, abs=0.03)
    always = Views(dataclasses.replace(BOTH, flip=1.0, colour=0.0, variants=1), made.latents, views.of_view)
    for row in training:
        mean = always.posterior(int(row), rng)[0]
        assert np.array_equal(mean, made.latents[row][0]) == (row in training[:2])


def test_which_view_an_example_takes_is_a_function_of_seed_and_index(made: Made) -> None:
    """Whatever the processes, workers and accumulation, and in any order."""
    views = made.views(BOTH)
    one, two, other = made.dataset(views), made.dataset(views), made.dataset(views, seed=1)
    wanted = [one[index].latent_mean for index in range(16)]
    assert all(torch.equal(two[index].latent_mean, wanted[index]) for index in reversed(range(16)))
    assert not all(torch.equal(other[index].latent_mean, wanted[index]) for index in range(16))
    for accumulation, processes, workers in ((1, 1, 2), (2, 1, 0), (2, 2, 0)):
        seen = {}
        for process in range(processes):
            shares = ShareOfBatches(range(2), 8, accumulation, process, processes)
            for batch in example_batches(one, shares, workers):
                seen |= dict(zip(batch.index.tolist(), batch.latent_mean, strict=True))
        assert all(torch.equal(seen[index], wanted[index]) for index in range(16))


SMALL = [
    *("data.toyfacs.disfa_subjects=3", "data.toyfacs.disfa_frames=12", "data.toyfacs.affectnet_images=60"),
    *("trainer.steps=2", "trainer.batch_size=4", "trainer.sample_every=0", "evaluation.after_training=false"),
    *("tracking.wandb=false", "tracking.log_every=1", "judge=none", "trainer.validate_every=1"),
]


def test_a_run_with_augmentation_is_another_run(tmp_path: Path, saved_base: Path) -> None:
    """Its loss is another, its validation examples are the same; data that is prepared stays prepared."""
    where = [f"method.base.path={saved_base}", "method.base.resolution=16", f"data.root={tmp_path / 'data'}"]
    line = ["train", *SMALL, *where, "trainer.learning_rate=1e-12"]
    found = {}
    for name, changes in {
        "off": [],
        "off again": ["data.flip=0", "data.colour=0"],
        "flip": ["data.flip=0.5"],
        "colour": ["data.colour=0.2", "data.colour_variants=2"],
    }.items():
        assert main([*line, f"run.root={tmp_path / name}", *changes]) == 0
        (run,) = tmp_path.joinpath(name).glob("toyfacs-*")
        losses = [values["loss"] for values in read_metrics(run / "metrics.jsonl") if "loss" in values]
        found[name] = (run.name, losses, json.loads((run / "validation.json").read_text())["errors"])
    assert found["off"] == found["off again"]
    assert len({found[name][0] for name in ("off", "flip", "colour")}) == 3
    assert found["flip"][1] != found["off"][1] != found["colour"][1]
    assert found["flip"][2] == pytest.approx(found["off"][2], rel=1e-6)
    assert len(list((tmp_path / "data" / "cache").glob("latents-*"))) == 3


def test_prepared_data_is_current_whatever_the_augmentation(tmp_path: Path) -> None:
    config = load_config([*SMALL, f"data.root={tmp_path}"]).data
    prepare(config, crew=QUIET)
    written = (tmp_path / "manifest.json").stat().st_mtime_ns
    prepare(dataclasses.replace(config, flip=0.5, colour=0.2, colour_variants=6), crew=QUIET)
    assert (tmp_path / "manifest.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["data.flip=1.5"], "data.flip=1.5: must be a share, from 0"),
        (["data.colour=0.6"], "data.colour=0.6: must lie in 0..0.5"),
        (["data.colour=0.2", "data.colour_variants=1"], "data.colour_variants=1: must lie in 2..16"),
        (["data.colour_variants=6"], "nothing reads data.colour_variants with data.colour=0"),
        (["method=sd", "data.flip=0.5"], "nothing reads data.flip with method.conditioning.enters=text"),
    ],
)
def test_what_is_wrong_is_refused(given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *given]) == 2
    assert message in capsys.readouterr().err
