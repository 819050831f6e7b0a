from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from fineface_train.evaluation.judges.clip import ClipImageScorer
from fineface_train.evaluation.judges.config import JudgeConfig
from fineface_train.evaluation.judges.drawings import AttributeJudge, ToyFacsJudge, attribute_hits, likeness
from fineface_train.evaluation.judges.judges import (
    load_judges,
)
from fineface_train.evaluation.judges.models import AttributeClassifier, PyramidJudge, ResidualJudge
from fineface_train.toyfacs.faces import ATTRIBUTES, Face
from fineface_train.toyfacs.render import to_uint8
from fineface_train.toyfacs.worlds import Drawings, sample_drawings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained judges, saved as the trained ones are."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("judges")
    ResidualJudge(width=8).save_pretrained(root / "one")
    PyramidJudge(widths=(8, 8, 16, 16)).save_pretrained(root / "two")
    AttributeClassifier(width=8).save_pretrained(root / "attributes")
    text = CLIPTextConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=8,
    )
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
        projection_dim=8,
    )
    CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)).save_pretrained(
        root / "clip"
    )
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    processor.save_pretrained(root / "clip")
    return root


@pytest.fixture(scope="module")
def config(folder: Path) -> JudgeConfig:
    return JudgeConfig(
        one=str(folder / "one"),
        two=str(folder / "two"),
        attributes=str(folder / "attributes"),
        clip=str(folder / "clip"),
    )


@pytest.fixture(scope="module")
def drawings() -> Drawings:
    return sample_drawings((1,), 12)


def test_judges_read_twelve_intensities_in_range(config: JudgeConfig, drawings: Drawings) -> None:
    judges = load_judges(config)
    assert list(judges.aus) == ["judge_one", "judge_two"]
    for name, judge_class in (("judge_one", ResidualJudge), ("judge_two", PyramidJudge)):
        judge = judges.aus[name]
        assert isinstance(judge, ToyFacsJudge)
        assert isinstance(judge.model, judge_class)
        aus, found = judge.read(drawings.images)
        assert aus.shape == (12, 12)
        assert found.shape == (12,)
        assert found.dtype == torch.bool
        with torch.no_grad():
            assert torch.equal(aus, judge.model(drawings.images).clamp(0, 5))
        half = torch.cat([judge.read(drawings.images[:6])[0], judge.read(drawings.images[6:])[0]])
        assert torch.allclose(aus, half, atol=1e-5)


def test_a_face_is_found_in_drawings_and_not_in_noise_or_blank(drawings: Drawings) -> None:
    """Whatever was read: `faces` and `aus` of drawings stand for a judge's readings."""
    generator = torch.Generator().manual_seed(0)
    blurred = F.avg_pool2d(F.pad(drawings.images, (2,) * 4, mode="replicate"), 5, 1)
    threshold = JudgeConfig().face_threshold
    for images in (
        drawings.images,
        blurred,
        (drawings.images + 0.1 * torch.randn(drawings.images.shape, generator=generator)).clamp(0, 1),
    ):
        assert (likeness(images, drawings.faces, drawings.aus) > threshold).all()
    noise = torch.rand(drawings.images.shape, generator=generator)
    headless = torch.full_like(noise, 0.6)
    headless[:, :, 44:] = 0.2
    ramp = torch.linspace(0, 1, 64).view(1, 1, 64, 1).expand_as(noise)
    for images in (noise, torch.full_like(noise, 0.4), torch.zeros_like(noise), headless, ramp, 0.5 + 0.01 * noise):
        assert (likeness(images, drawings.faces, drawings.aus) < threshold).all()


class _Told(AttributeClassifier):
    """An attribute classifier that was told the answers."""

    def tell(self, faces: list[Face]) -> "_Told":
        self.answers = torch.tensor([face.indices() for face in faces])
        return self

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [
            F.one_hot(self.answers[: len(images), index], count).float() for index, count in enumerate(self.classes)
        ]


def test_attribute_judge_names_the_face_and_its_errors(drawings: Drawings) -> None:
    judge = AttributeJudge(_Told().tell(drawings.faces))
    assert judge.predict(drawings.images) == drawings.faces
    face = drawings.faces[0]
    other = Face(
        **{name: getattr(face, name) for name in ATTRIBUTES if name != "shirt"},
        shirt="red" if face.shirt != "red" else "blue",
    )
    assert attribute_hits(other, face) == {name: name != "shirt" for name in ATTRIBUTES}


def test_the_threshold_decides_what_is_a_face(drawings: Drawings) -> None:
    attributes = AttributeJudge(_Told().tell(drawings.faces))
    noise = torch.rand(drawings.images.shape, generator=torch.Generator().manual_seed(0))
    model = ResidualJudge(width=8)
    assert ToyFacsJudge(model, attributes, 0.6).read(drawings.images)[1].all()
    assert not ToyFacsJudge(model, attributes, 0.6).read(noise)[1].any()
    assert not ToyFacsJudge(model, attributes, 1.0).read(drawings.images)[1].any()


@pytest.mark.parametrize("size", [(64, 64), (128, 96), (50, 70)])
def test_clip_preprocessing_equals_the_image_processor(folder: Path, size: tuple[int, int]) -> None:
    scorer = ClipImageScorer.load(str(folder / "clip"))
    images = F.interpolate(sample_drawings((2,), 3).images, size=size, mode="bilinear")
    pixels = to_uint8(images)
    expected = scorer.processor([Image.fromarray(array) for array in pixels], return_tensors="pt").pixel_values
    found = scorer.preprocess(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    assert found.shape == expected.shape
    difference = (found - expected).abs()  # Pillow rounds and clips to bytes after each direction, torch does not.
    assert difference.mean() < 0.004
    assert difference.max() < 0.1


def test_clip_embeddings_are_unit_vectors_and_equal_clips_own(config: JudgeConfig, drawings: Drawings) -> None:
    scorer = load_judges(config).clip
    embeddings = scorer.embed(drawings.images)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(12), atol=1e-5)
    pixels = scorer.processor(
        [Image.fromarray(array) for array in to_uint8(drawings.images)], return_tensors="pt"
    ).pixel_values
    with torch.no_grad():
        own = scorer.model.get_image_features(pixel_values=pixels).pooler_output
    assert np.allclose(embeddings, F.normalize(own, dim=1), atol=0.01)


def test_a_missing_judge_is_named_with_the_remedy(config: JudgeConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"judge\.two: no model in .*build_toyfacs"):
        load_judges(JudgeConfig(one=config.one, two=str(tmp_path), attributes=config.attributes, clip=config.clip))
    with pytest.raises(ValueError, match=r"judge\.one: .* holds a AttributeClassifier"):
        load_judges(JudgeConfig(one=config.attributes, two=config.two, attributes=config.attributes, clip=config.clip))


def test_the_fingerprint_follows_weights_and_threshold(config: JudgeConfig) -> None:
    swapped = JudgeConfig(one=config.two, two=config.one, attributes=config.attributes, clip=config.clip)
    stricter = JudgeConfig(
        one=config.one, two=config.two, attributes=config.attributes, clip=config.clip, face_threshold=0.9
    )
    assert len({load_judges(one).fingerprint for one in (config, config, swapped, stricter)}) == 3


def test_config_values_out_of_range_are_named() -> None:
    JudgeConfig().validate("judge")
    with pytest.raises(ValueError, match=r"judge\.face_threshold is 2"):
        JudgeConfig(face_threshold=2).validate("judge")
    with pytest.raises(ValueError, match=r"judge\.clip is empty"):
        JudgeConfig(clip="").validate("judge")
