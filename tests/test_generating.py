"""`fineface generate`: what is drawn, what the files are called, and what they say of themselves; with the shipped
adapter at one or two steps."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fineface_train.aus import au_steps, format_au_range, format_aus, parse_au_range, parse_aus
from fineface_train.cli import main
from fineface_train.compose import load_config
from fineface_train.files import sha256
from fineface_train.methods.au_diffusion.base import load_base
from fineface_train.methods.protocol import Request
from fineface_train.pictures import GAP, HEAD, to_picture
from fineface_train.verbs.generators import load_generator
from fineface_train.verbs.picture_files import NAME_BYTES, made_already, new_picture, read_facts, save_png, slug

BUNDLE = "data/toyfacs/bundle"
DRAW = ["generate", f"bundle={BUNDLE}", "prompt=a person with red hair", "method.sampling.steps=1"]


def drawn(*arguments: str, capsys: pytest.CaptureFixture[str]) -> list[Path]:
    """The files that a command says it has made."""
    capsys.readouterr()
    assert main([*DRAW, *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [
        Path(line.removesuffix(" (made before, in the same way)")) for line in lines if not line.startswith("note: ")
    ]


def test_exploring_never_stops_and_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What differs from the first picture is in the name."""
    out, made = f"out={tmp_path}", []
    for changes, ending in (
        ([], "seed0"),
        (["method.sampling.guidance=2"], "seed0_guidance=2.0"),
        (["scale=0.5"], "seed0_scale=0.5"),
        (["method.sampling.steps=2", "method.sampling.guidance=2"], "seed0_guidance=2.0_steps=2"),
        (["method.sampling.negative=zero"], "seed0_negative=zero"),
        (["method.sampling.au_guidance=2"], "seed0_au_guidance=2.0"),
        (["seed=1"], "seed1"),
    ):
        (path,) = drawn("aus=AU12=5", out, *changes, capsys=capsys)
        assert path == tmp_path / f"a_person_with_red_hair_AU12=5_{ending}.png"
        made.append(path)
    before = {path: path.read_bytes() for path in made}
    assert len(before) == len(made)
    assert drawn("aus=AU12=5", out, "method.sampling.guidance=2", capsys=capsys) == [made[1]]  # again: as it is
    assert drawn("aus=AU12=5", out, "n=3", capsys=capsys)[:2] == [made[0], made[6]]  # the third is new
    assert before == {path: path.read_bytes() for path in made}


def test_another_file_of_the_name_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "a_person_with_red_hair_neutral_seed0.png"
    mine.write_bytes(b"my notes")
    (path,) = drawn(f"out={tmp_path}", capsys=capsys)
    assert path != mine
    assert mine.read_bytes() == b"my notes"


@pytest.mark.parametrize(
    "changes",
    [
        [
            "aus=AU12=4.25,AU1=0.123456789",
            "n=3",
            "seed=5",
            "evaluation.batch_size=2",
            "method.sampling.guidance=2.5",
            "scale=0.7",
        ],
        ["aus=AU12=0..5,AU4=1", "n=2", "columns=3", "frames=3", "beside_base=true", "method.sampling.au_guidance=1.5"],
        [
            "prompt=a \"quoted\" person and 'others', $HOME, 100 % {braces} = é 日本",
            "method.sampling.negative=no_control",
        ],
        ['prompt="quoted as a whole"'],
        ["prompt=~a 'tilde"],
        ["prompt='"],
        ["method.sampling.guidance=1"],
    ],
    ids=["singles", "sheet", "odd prompt", "quoted prompt", "tilde", "one quote", "no guidance"],
)
def test_a_picture_can_be_made_again_from_what_it_says(
    changes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the byte."""
    paths = drawn(*changes, f"out={tmp_path / 'first'}", capsys=capsys)
    facts = read_facts(next(path for path in reversed(paths) if path.suffix == ".png"))
    assert facts["bundle_sha256"] == sha256(Path(BUNDLE) / "checksums.json")
    assert {
        "prompt",
        "aus",
        "seed",
        "guidance",
        "au_guidance",
        "negative",
        "steps",
        "scale",
        "calibrated",
        "base",
        "versions",
        "bundle",
    } <= set(facts)
    program, *arguments = shlex.split(facts["command"])
    assert program == "fineface"
    assert main([*arguments, f"out={tmp_path / 'again'}"]) == 0
    again = sorted((tmp_path / "again").iterdir())
    assert again
    assert {path.name for path in again} <= {path.name for path in paths}
    for path in again:
        assert path.read_bytes() == (tmp_path / "first" / path.name).read_bytes(), path


def test_a_range_is_a_strip_and_an_animation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strip, animation = drawn("aus=AU12=0..5,AU6=3..0,AU4=2", "n=2", "frames=6", f"out={tmp_path}", capsys=capsys)
    assert strip.name == "a_person_with_red_hair_AU4=2_AU6=3..0_AU12=0..5_seed0-1.png"
    assert animation == strip.with_suffix(".gif")
    config = load_config([f"bundle={BUNDLE}", "method.sampling.steps=1"])
    generator = load_generator(config, Path(BUNDLE))
    with Image.open(strip) as image:
        assert image.info["aus"] == "AU4=2,AU6=3..0,AU12=0..5"
        head, side = HEAD + 18, 128
        assert image.height == head + 2 * (side + GAP)
        margin = image.width - 6 * (side + GAP)
        assert 0 < margin < 100
        for seed in range(2):
            for column, aus in enumerate(
                ("AU6=3,AU4=2", "AU12=1,AU6=2.4,AU4=2", "AU12=2,AU6=1.8,AU4=2", "AU12=3,AU6=1.2,AU4=2")
            ):
                (face,) = generator.generate([Request("a person with red hair", tuple(parse_aus(aus)), seed)])
                left, top = margin + column * (side + GAP), head + seed * (side + GAP)
                shown = np.asarray(image.convert("RGB").crop((left, top, left + side, top + side)), dtype=int)
                expected = np.asarray(to_picture(face).resize((side, side), Image.Resampling.LANCZOS), dtype=int)
                assert np.abs(shown - expected).max() <= 3
    with Image.open(animation) as image:
        assert image.n_frames == 2 * 6 - 2  # there and back, each end once
        frames = []
        for place in range(image.n_frames):
            image.seek(place)
            frames.append(np.asarray(image.convert("RGB"), dtype=int))
        assert image.info["loop"] == 0
        assert json.loads(image.info["comment"])["aus"] == "AU4=2,AU6=3..0,AU12=0..5"
    assert all(np.abs(frames[place] - frames[-place]).mean() < 1 for place in range(1, 6))
    assert np.abs(frames[0] - frames[5]).mean() > 2
    before = strip.read_bytes()
    assert drawn("aus=AU12=0..5,AU6=3..0,AU4=2", "n=2", "frames=6", f"out={tmp_path}", capsys=capsys) == [
        strip,
        animation,
    ]
    assert strip.read_bytes() == before
    assert drawn("aus=AU12=0..5,AU6=3..0,AU4=2", "n=2", "frames=0", f"out={tmp_path}", capsys=capsys) == [
        strip.with_name(f"{strip.stem}_frames=0.png"),
    ]


def test_the_base_stands_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it is without adapter, from the same prompt and noise."""
    (sheet,) = drawn("aus=AU12=5", "beside_base=true", "seed=4", f"out={tmp_path}", capsys=capsys)
    assert sheet.name == "a_person_with_red_hair_AU12=5_beside_base_seed4.png"
    config = load_config(["method.sampling.steps=1"])
    pipe = load_base(config.method.base)
    import torch

    noise = torch.randn(1, pipe.unet.config.in_channels, 16, 16, generator=torch.Generator().manual_seed(4))
    options = {
        "num_inference_steps": 1,
        "guidance_scale": config.method.sampling.guidance,
        "height": 64,
        "width": 64,
        "output_type": "pt",
    }
    expected = to_picture(pipe("a person with red hair", latents=noise, **options).images[0].detach()).resize(
        (128, 128), Image.Resampling.LANCZOS
    )
    with Image.open(sheet) as image:
        left = image.width - 2 * (128 + GAP)
        shown = image.convert("RGB").crop((left, HEAD, left + 128, HEAD + 128))
        assert np.abs(np.asarray(shown, dtype=int) - np.asarray(expected, dtype=int)).max() <= 3
        other = image.convert("RGB").crop((left + 128 + GAP, HEAD, left + 2 * 128 + GAP, HEAD + 128))
        assert np.abs(np.asarray(other, dtype=int) - np.asarray(expected, dtype=int)).mean() > 1


def test_out_may_be_the_name_of_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = tmp_path / "new" / "smile.PNG"
    assert drawn("aus=AU12=5", f"out={wanted}", capsys=capsys) == [wanted]
    assert read_facts(wanted)["aus"] == "AU12=5"
    before = wanted.read_bytes()
    assert main([*DRAW, f"out={wanted}"]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert wanted.read_bytes() == before
    assert drawn("aus=AU12=0..5", "n=2", "columns=2", "frames=2", f"out={tmp_path / 'strip.png'}", capsys=capsys) == [
        tmp_path / "strip.png",
        tmp_path / "strip.gif",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "strip.gif", "strip.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out=x.png", "n=2"], r"out=x\.png: is one picture, and n=2 are wanted; give a folder, such as out=x"),
        (["out=x.jpg"], r"out=x\.jpg: pictures are PNG files.*give out=x\.png or a folder"),
        (["out=x.gif", "aus=AU12=0..5"], r"give out=x\.png or a folder"),
        (["out=taken.png", "aus=AU12=0..5"], r"taken\.gif exists already; nothing is overwritten"),
        (["prompt=   "], "prompt is empty"),
        (["prompt=a\0b"], "holds a control character"),
        (
            ["aus=AU12=0..5..3"],
            r"'0\.\.5\.\.3' is not a number in 'AU12=0\.\.5\.\.3'; a range is written like AU12=0\.\.5",
        ),
        (["aus=AU12=0...5"], r"'AU12=0\.\.\.5' can be read in two ways.*AU12=0\.\.5, AU12=0\.\.0\.5"),
        (["out=face.txt"], r"out=face\.txt: reads like a file's name; give a folder, such as out=face"),
        (["aus=AU12=0-5"], r"a range is written like AU12=0\.\.5"),
        (["aus=AU12=..5"], "a range is written like"),
        (["aus=AU12=3..3"], "AU12 goes from 3 to itself"),
        (["aus=AU12=0..1e999"], "not finite"),
        (["aus=AU12=0..5", "columns=1"], "columns=1: a range has at least 2"),
        (["aus=AU12=0..5", "frames=1"], "frames=1: an animation has at least 2"),
        (
            ["aus=AU12=1e20"],
            r"the picture of 'a person with red hair' with AU12=1e\+20, seed 0, is not finite.*lower what drives it: "
            r"the AUs, asked for up to 1e\+20",
        ),
        (["aus=AU12=5", "scale=1e30"], r"is not finite.*lower what drives it: scale=1e\+30"),
        (
            ["aus=AU12=5", "method.sampling.guidance=1e30"],
            r"is not finite.*lower what drives it: method\.sampling\.guidance=1e\+30",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import re

    (tmp_path / "taken.gif").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert main([*DRAW, "out=there", *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert [path.name for path in tmp_path.rglob("*")] == ["taken.gif"]


def test_far_outside_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert main([*DRAW, "aus=AU12=20", "scale=9", "method.sampling.guidance=50", f"out={tmp_path}"]) == 0
    assert (
        "note: AU12 lies outside 0..5: the adapter extrapolates beyond its training; of what lies beyond -10..10 "
        "nothing is known" in capsys.readouterr().out
    )
    assert any("scale=9: the adapter was trained at 1" in record.message for record in caplog.records)
    assert any(
        "method.sampling.guidance=50: far beyond what is in use (1 to 7.5)" in record.message
        for record in caplog.records
    )


@pytest.mark.parametrize(
    "prompt", ["面" * 60, "é" * 100, "a\nb\tc", "x" * 5000, "...", "क्षि" * 30, "👩‍👩‍👧" * 30, 'a/b\\c:d*?"<>|']
)
def test_any_prompt_has_a_name_that_is_whole(prompt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main([*DRAW, f"prompt={prompt}", f"out={tmp_path}"]) == 0
    (path,) = tmp_path.iterdir()
    assert len(path.name.encode()) < 120
    assert read_facts(path)["prompt"] == prompt


@given(st.text())
def test_any_text_is_part_of_a_name(text: str) -> None:
    name = slug(text)
    assert len(name.encode()) <= NAME_BYTES
    assert not set(name) & set('/\\:*?"<>|\0\n ')


def test_a_name_is_cut_between_letters() -> None:
    assert slug("面" * 60) == "面" * 20
    assert slug("abc" + "é" * 40) == "abc" + "é" * 28
    assert slug("कि" * 30) == "कि" * 10  # a vowel sign stays with its letter
    assert slug("x" * 58 + "कि") == "x" * 58


def test_places_of_pictures(tmp_path: Path) -> None:
    def save(facts: dict[str, str]) -> str:
        with new_picture(None, tmp_path, "face", facts) as path:
            save_png(Image.new("RGB", (2, 2)), path, facts)
        return path.name

    first = {"steps": "5", "prompt": "a", "command": "x"}
    assert save(first) == "face.png"
    assert save(first | {"prompt": "b"}) == "face_2.png"  # not in names
    assert save(first | {"steps": "6"}) == "face_steps=6.png"
    assert save(first | {"steps": "6", "prompt": "b"}) == "face_steps=6_2.png"
    assert made_already(tmp_path, "face", first | {"command": "y"}) == tmp_path / "face.png"
    assert made_already(tmp_path, "face", first | {"prompt": "b"}) == tmp_path / "face_2.png"
    assert made_already(tmp_path, "face", first | {"prompt": "c"}) is None
    assert made_already(tmp_path, "other", first) is None


def test_two_that_draw_the_same_at_once_have_a_name_each(tmp_path: Path) -> None:
    own = tmp_path / "own.png"
    with (
        new_picture(None, tmp_path, "face", {}) as one,
        new_picture(None, tmp_path, "face", {}) as other,
        new_picture(own, tmp_path, "", {}),
    ):
        assert (one.name, other.name) == ("face.png", "face_2.png")
        with (
            pytest.raises(ValueError, match=r"own\.png exists already; nothing is overwritten"),
            new_picture(own, tmp_path, "", {}),
        ):
            pass
        save_png(Image.new("RGB", (2, 2)), other, {})
    assert list(tmp_path.iterdir()) == [other]  # the others were not saved


@given(st.dictionaries(st.sampled_from(["AU1", "AU12", "AU26"]), st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))))
def test_ranges_survive_being_written_and_read(wanted: dict[str, tuple[float, float]]) -> None:
    wanted = {key: both for key, both in wanted.items() if both[0] != both[1]}
    first, last = parse_au_range(",".join(f"{key}={start!r}..{end!r}" for key, (start, end) in wanted.items()))
    text = format_au_range(first, last)
    assert parse_au_range("" if text == "neutral" else text) == (first, last)
    assert parse_aus("" if format_aus(last) == "neutral" else format_aus(last), allow_beyond_range=True) == last


def test_steps_of_a_range_are_equal_and_share_their_values() -> None:
    first, last = parse_au_range("AU12=0..5,AU6=3..0,AU1=2")
    six, many = au_steps(first, last, 6), au_steps(first, last, 21)
    assert [vector[6] for vector in six] == [0, 1, 2, 3, 4, 5]
    assert [vector[4] for vector in six] == [3, 2.4, 1.8, 1.2, 0.6, 0]
    assert {vector[0] for vector in six} == {2}
    assert set(six) <= set(many)


def test_nothing_below_nothing_is_nothing() -> None:
    assert format_aus(parse_aus("AU12=-0")) == "neutral"


def test_a_range_is_for_pictures_only() -> None:
    with pytest.raises(ValueError, match="AU12 has a range, which only `fineface generate` draws"):
        parse_aus("AU12=0..5")
