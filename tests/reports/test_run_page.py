import json
import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from fineface_train.aus import AU_KEYS
from fineface_train.reports.faces import image_uri
from fineface_train.reports.headline import headline_table
from fineface_train.reports.run import PARTS, write_report
from fineface_train.reports.run_folder import read_run
from fineface_train.reports.words import compact, number
from tests.reports.page_parser import Page
from tests.reports.run_fixture import build_run

SECTIONS = {
    "headline",
    "grid",
    "sweeps",
    "combinations",
    "response",
    "leakage",
    "per-au",
    "training",
    "audit",
    "provenance",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_run(tmp_path_factory.mktemp("runs") / "demo")
    write_report(read_run(folder))
    return folder


def test_the_page_has_every_section(run: Path) -> None:
    page = Page((run / "report.html").read_text())
    assert page.sections == SECTIONS
    assert page.open == []
    # 2 prompts: a grid of 13 faces each; a sweep of 12 AUs x (0, 1, 5); 4 pairs; 2 sheets of training samples.
    assert page.tags.count("img") == 2 * 13 + 12 * 3 + 4 * 2 + 2
    assert page.tags.count("svg") == 12 + 4


def test_the_page_needs_nothing_outside_itself(run: Path) -> None:
    text = (run / "report.html").read_text()
    page = Page(text)
    assert all(reference.startswith(("data:image/", "data:text/csv", "#")) for reference in page.references)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "@import" not in text
    assert "url(" not in text


def test_every_link_leads_to_a_section(run: Path) -> None:
    page = Page((run / "report.html").read_text())
    assert {reference[1:] for reference in page.references if reference.startswith("#")} == SECTIONS


def test_numbers_shown_are_the_numbers_measured(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    text = (run / "report.html").read_text()
    error = metrics["individual"]["au_mse_active"]
    assert f"<b>{number(error['value'])}</b>" in text
    assert f'<div class="big">{number(error["value"] ** 0.5)}</div>' in text
    assert f"always says 0: {number(error['always_zero'] ** 0.5)}" in text
    second = metrics["judges"]["wide_cnn"]["individual"]["au_mse_active"]["value"]
    assert f"<td>{number(second)}</td>" in text
    for row in metrics["leakage_matrix"]:
        assert all(f">{number(cell)}</td>" in text for cell in row)


def test_grid_shows_the_files_of_the_requested_aus(run: Path) -> None:
    frame = pd.read_parquet(run / "images.parquet")
    strongest = frame[(frame["kind"] == "individual") & (frame["prompt_index"] == 1) & (frame["AU12"] == 5)]
    text = (run / "report.html").read_text()
    assert text.count(image_uri(run / strongest["path"].item())) == 2  # in the grid and at the end of the sweep
    assert text.index(image_uri(run / strongest["path"].item())) > text.index('id="grid"')


def test_html_in_texts_is_escaped(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "a<b>")
    frame = pd.read_parquet(folder / "images.parquet")
    evil = '"><script>alert(1)</script>'
    frame["prompt"] = evil
    frame.to_parquet(folder / "images.parquet")
    (folder / "config.yaml").write_text(f"prompt: {evil}\n")
    (folder / "provenance.json").write_text(json.dumps({"machine": evil}))
    text = write_report(read_run(folder)).read_text()
    assert "script" not in Page(text).tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


@pytest.mark.parametrize("part", [part for part in PARTS if part != "samples"])
def test_a_missing_part_is_named_with_its_command(tmp_path: Path, part: str) -> None:
    folder = build_run(tmp_path / "run")
    (folder / part).unlink()
    text = write_report(read_run(folder)).read_text()
    page = Page(text)
    assert "missing" in page.sections
    assert f"<code>{part}</code>" in text
    assert ("fineface evaluate bundle=" if part in ("metrics.json", "images.parquet") else "fineface train") in text
    gone = {"metrics.json": "headline", "images.parquet": "grid", "audit.json": "audit"}
    assert gone.get(part) not in page.sections


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path: Path) -> None:
    page = Page(write_report(read_run(tmp_path)).read_text())
    assert page.sections == {"missing"}
    assert "Not evaluated yet" in (tmp_path / "report.md").read_text()


def test_no_folder_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder"):
        read_run(tmp_path / "nowhere")


def test_undefined_numbers_and_lost_images_do_not_break_the_page(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["individual"]["slope"] = {"value": None, "low": None, "high": None, "always_zero": None}
    metrics["per_au"]["AU1"]["slope"] = None
    metrics["leakage_matrix"][0][0] = None
    metrics["response_curve"]["AU1"].update(measured_mean=[0.1, None, 4.5], low=[None] * 3, high=[None] * 3)
    metrics["attributes"] = None
    (folder / "metrics.json").write_text(json.dumps(metrics))
    for path in sorted((folder / "images").iterdir())[:3]:
        path.unlink()
    page = Page(write_report(read_run(folder)).read_text())
    assert page.sections == SECTIONS


def test_the_label_tool_as_judge_is_said(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run")
    assert "The judge is the label tool" not in write_report(read_run(folder)).read_text()
    path = folder / "metrics.json"
    path.write_text(path.read_text().replace("small_cnn", "libreface"))
    assert "The judge is the label tool" in write_report(read_run(folder)).read_text()
    path = folder / "provenance.json"
    for labels, said in (
        (["disfa: ActionUnit_Labels", "affectnet: affecnet_metadata.csv, corrected (paper)"], True),
        (["affectnet: LibreFace 0.0.20, corrected (paper)"], True),
        (["disfa: ActionUnit_Labels", "affectnet: OpenFace files, corrected (paper)"], False),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": labels}))
        assert ("The judge is the label tool" in write_report(read_run(folder)).read_text()) is said


def test_the_page_says_whose_numbers_these_are(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run")
    text = write_report(read_run(folder)).read_text()
    assert "Identities that training never saw" in text
    assert text.count(f">{number(0.8765)}</td>") >= 2  # the ceiling, of both kinds
    assert "mean squared difference 0.052" in text
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["subset"] = "all"
    del metrics["ceiling"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    text = write_report(read_run(folder)).read_text()
    assert "never saw" not in text
    assert "true drawings" not in text
    assert "all prompts" in (folder / "report.md").read_text()


def test_headline_table_is_markdown(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    text = headline_table(read_run(run))
    assert text in (run / "report.md").read_text()
    words, asked, first, second = text.split("\n\n")[1:]
    assert words.startswith("12 of 12 AUs move in proportion.\n")
    assert max(map(len, text.splitlines())) <= 120
    for table, rows in ((asked, 5), (first, 10), (second, 12)):
        lines = table.strip().splitlines()
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        assert len(lines) == rows + 2
        assert len({len(row) for row in cells}) == len({len(line) for line in lines}) == 1
        assert all(re.fullmatch(r"-+:?", cell) for cell in cells[1])
    per_au = {row.split("|")[1].strip(): row.split("|")[3].strip() for row in second.strip().splitlines()[2:]}
    assert per_au == {key: number(metrics["per_au"][key]["slope"]) for key in AU_KEYS}


def test_large_images_are_shrunk(tmp_path: Path) -> None:
    Image.effect_noise((512, 384), 60).save(tmp_path / "large.png")
    uri = image_uri(tmp_path / "large.png")
    assert uri.startswith("data:image/webp;base64,")
    assert len(uri) < 60_000


def test_numbers_for_people() -> None:
    assert [number(value) for value in (None, float("nan"), 1.005, -0.5, -0.001)] == ["–", "–", "1.00", "−0.50", "0.00"]
    assert [compact(value) for value in (0, 0.0003, 0.5, 200, 12000, 3.2e6)] == [
        "0",
        "3e-4",
        "0.5",
        "200",
        "12k",
        "3.2M",
    ]
