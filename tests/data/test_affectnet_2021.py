"""AffectNet as it is sent since 2021: small files of numpy for each image, of which the expression tells whether there
is a face."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fineface_train.compose import load_config
from fineface_train.data.affectnet import reader as affectnet
from fineface_train.data.affectnet.config import AffectNetConfig
from fineface_train.data.affectnet.edition_2021 import expression_files, read_annotations
from fineface_train.data.affectnet.layout import find_copy
from fineface_train.data.formats.images import image_size
from tests.data.conftest import no_models, read_affectnet
from tests.data.test_affectnet_official import BY_MODELS, Told, official

EXPRESSIONS = (0, 7, 10, 3)


def copy(root: Path, part: str = "train_set") -> AffectNetConfig:
    official(root / part, [(f"{number}.jpg", 0, (64, 64)) for number in range(len(EXPRESSIONS))])
    (root / part / "training.csv").unlink()
    (root / part / "Manually_Annotated_Images").rename(root / part / "images")
    (root / part / "annotations").mkdir()
    for number, expression in enumerate(EXPRESSIONS):
        for kind, value in (("exp", np.array(str(expression))), ("val", np.array("0.5")), ("lnd", np.zeros(136))):
            np.save(root / part / "annotations" / f"{number}_{kind}.npy", value)
    return AffectNetConfig(str(root), f"{part}/annotations", f"{part}/images", min_side=64, **BY_MODELS)


def test_it_is_read_like_the_list(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    config = copy(tmp_path)
    copy(tmp_path, "val_set")
    told = {f"{number}.jpg": (True, "ok", 1.0 + number, f"person {number}", "ok") for number in range(4)}
    stages = Told(**vars(no_models(tmp_path / "prepared")), told=told)
    frame = read_affectnet(config, 0, stages).table.frame
    assert frame["id"].tolist() == ["affectnet/0.jpg", "affectnet/1.jpg", "affectnet/3.jpg"]
    assert frame["AU12"].tolist() == [1.0, 2.0, 4.0]
    assert frame["caption"].tolist() == ["person 0", "person 1", "person 3"]
    assert [image_size(path) for path in frame["image"]] == [(64, 64)] * 3
    assert (
        f"{tmp_path}/val_set/annotations: is not read: validation is data.affectnet.validation_share of" in caplog.text
    )
    assert "1 images are in no row" not in caplog.text
    inputs = affectnet.input_files(find_copy(config))
    assert sorted(path.name for path in inputs) == ["0_exp.npy", "1_exp.npy", "2_exp.npy", "3_exp.npy"]


def test_the_preset_is_what_the_message_says(tmp_path: Path) -> None:
    root = tmp_path / "AffectNet"
    copy(root)
    chosen = load_config(["data=affectnet_2021", f"data.affectnet.root={root}"]).data.affectnet
    assert chosen is not None
    affectnet.check_list(find_copy(chosen), images=True)
    for data, given, remedy in (
        ("affectnet_official", root, r"`data=affectnet_2021` reads it"),
        ("affectnet", root, r"`data=affectnet_2021` reads it"),
        ("affectnet", tmp_path, rf"`data=affectnet_2021 data\.affectnet\.root={root}` reads it"),
        ("affectnet", root / "train_set", rf"`data=affectnet_2021 data\.affectnet\.root={root}` reads it"),
    ):
        other = load_config([f"data={data}", f"data.affectnet.root={given}"]).data.affectnet
        assert other is not None
        with pytest.raises(ValueError, match=rf"does not exist; this is AffectNet as it is sent since 2021 .*{remedy}"):
            find_copy(other)
    with pytest.raises(
        ValueError, match=r"data\.affectnet\.metadata: .*train_set is a folder; give .*train_set/annotations"
    ):
        find_copy(dataclasses.replace(chosen, metadata="train_set"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array("11"), r"2_exp\.npy: holds '11', which is no expression in 0\.\.10"),
        (np.array("happy"), r"2_exp\.npy: cannot be read as an expression"),
        (np.zeros(3), r"2_exp\.npy: holds"),
        (np.array(1.5), r"holds '1\.5'"),
        (np.array([{}], dtype=object), r"cannot be read as an expression \(Object arrays cannot be loaded"),
    ],
)
def test_what_is_no_expression_is_named(tmp_path: Path, value: np.ndarray, message: str) -> None:
    copy(tmp_path)
    folder = tmp_path / "train_set" / "annotations"
    np.save(folder / "2_exp.npy", value)
    with pytest.raises(ValueError, match=message):
        read_annotations(expression_files(folder))
    (folder / "3_exp.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"bring back whole copies \(2 such files\)"):
        read_annotations(expression_files(folder))
