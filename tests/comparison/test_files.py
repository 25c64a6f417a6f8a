"""results.csv, results.tex and the folder of figures, read back as others would read them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import multiprocessing
import re
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lossbench.comparison import drawing, figure_files, looks, pictures
from lossbench.comparison.across_cells import across_data
from lossbench.comparison.aggregate import context_data
from lossbench.comparison.compare import Comparison, evaluate
from lossbench.comparison.export import write_csv
from lossbench.comparison.figure_files import WRITTEN, figure_csv, write_figures
from lossbench.comparison.labels import slugs
from lossbench.comparison.latex import escape, write_latex
from lossbench.comparison.panels import CUMULATIVE, panels
from lossbench.comparison.posthoc import with_posthoc
from lossbench.comparison.selection import read_selection
from lossbench.records import read_study

from .synthetic import write_synthetic_study, write_tuning

METRIC = "test/cls/balanced_accuracy"
EVIL = r"[a*] \input{x} $y_{ & <b>%^~ }} #1 é→"
BETTER, DERIVED = "balanced_softmax", "cross_entropy + logit adjustment"
ARMS = {"cross_entropy": 0.0, EVIL: 0.059, BETTER: 0.06}
CELL = "digits | factor 10 | mlp | 5 epochs"
SVG = "{http://www.w3.org/2000/svg}"


OVER_CELLS = {"ranks", "profiles", "aggregates"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    study = tmp_path_factory.mktemp("files") / "study"
    write_synthetic_study(study, ARMS, range(4), cells=[CELL], methods=["logit_adjustment"])
    write_tuning(study, {arm: [0.5, None, 0.6, 0.4] for arm in ARMS})
    records = with_posthoc(read_study(study), ["logit_adjustment"], "cross_entropy")
    return evaluate(
        records, baseline="cross_entropy", metric=METRIC, by="arm", margin=0.02,
        selection=read_selection(study),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(found: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("out") / "figures"
    write_figures(found, path)
    return path


def texts(path: Path) -> list[str]:
    """The words of an SVG, as a reader's program finds them."""
    root = ElementTree.parse(path).getroot()
    return [part.text or "" for part in root.iter() if part.tag in (f"{SVG}text", f"{SVG}tspan")]


def test_csv_tells_trained_runs_from_derived_ones(found: Comparison, tmp_path: Path) -> None:
    table = pd.read_csv(write_csv(found, tmp_path / "results.csv"))
    assert table.groupby("arm")["trained"].unique().map(list).to_dict() == {
        **{arm: [True] for arm in ARMS},
        DERIVED: [False],
    }


def test_every_figure_is_a_picture_with_words(found: Comparison, folder: Path) -> None:
    start = slugs(found.ranked)[CELL]
    assert start == "digits-factor-10-mlp-5-epochs"
    names = {path.name.removeprefix(f"{start}-") for path in folder.glob("*.svg")}
    figures = set(pictures.FIGURES) - OVER_CELLS
    assert names == {f"{figure}.svg" for figure in figures}
    shown = {"differences": {EVIL, BETTER, DERIVED}, "scatter": {*ARMS, DERIVED}}
    for figure in figures:
        path = folder / f"{start}-{figure}.svg"
        root = ElementTree.parse(path).getroot()
        assert CELL in (root.findtext(f"{SVG}title") or "")
        assert len(root.findtext(f"{SVG}desc") or "") > 40
        assert set(texts(path)) >= shown.get(figure, set(ARMS)), figure
        assert not re.search(r"<script|href=|url\(http", path.read_text(encoding="utf-8"))


def test_figures_over_all_cells_are_pictures_too(tmp_path: Path) -> None:
    cells = [f"plain | factor {factor} | mlp | 5 epochs" for factor in range(10)]
    write_synthetic_study(tmp_path / "study", ARMS, range(2), cells=cells)
    records = read_study(tmp_path / "study")
    many = evaluate(records, baseline="cross_entropy", metric=METRIC, by="arm")
    found = across_data(many)
    for figure in OVER_CELLS:
        svg = drawing.svg(pictures.job(many, pictures.ALL_CELLS, figure, found))
        said = {part.text or "" for part in ElementTree.fromstring(svg).iter(f"{SVG}text")}
        assert said >= set(ARMS), figure
        assert "10 cells" in said
        assert ("critical difference" in said) == (figure == "ranks")
        rows = list(csv.DictReader(io.StringIO(figure_csv(figure, found, many.labels))))
        assert {row["arm"] for row in rows} == set(ARMS)


def test_the_same_comparison_gives_the_same_bytes(found: Comparison, folder: Path) -> None:
    for path in folder.glob("*scatter.svg"):
        data = context_data(found, CELL)
        assert drawing.svg(pictures.job(found, CELL, "scatter", data)) == path.read_text("utf-8")


def test_a_figures_csv_is_its_data(found: Comparison, folder: Path) -> None:
    data = context_data(found, CELL)
    for figure in ("differences", "curves", "recall", "reliability", "scatter", "cross_loss"):
        text = (folder / f"{slugs(found.ranked)[CELL]}-{figure}.csv").read_text("utf-8")
        head, *rows = csv.reader(io.StringIO(text))
        columns = data[figure]
        assert head == list(columns)
        assert [row[0] for row in rows] == [found.labels[arm] for arm in columns["arm"]]
        for name, written in zip(head[1:], list(zip(*rows, strict=True))[1:], strict=True):
            for text, value in zip(written, columns[name], strict=True):
                if isinstance(value, list):
                    assert [float(part) for part in text.split()] == value
                elif isinstance(value, float):
                    assert float(text) == value
                else:
                    assert text == ("" if value is None else str(value))


def test_the_csv_of_the_histograms_has_a_row_per_bin(found: Comparison, folder: Path) -> None:
    table = pd.read_csv(folder / f"{slugs(found.ranked)[CELL]}-losses.csv")
    chosen = table[(table["arm"] == EVIL) & (table["split"] == "test")]
    chosen = chosen[(chosen["group"] == "tail") & (chosen["outcome"] == "wrong")]
    expected = sum(
        record.arrays()["histogram/cross_entropy_of_errors/test"][7:].sum(axis=0)
        for record in found.records
        if record.arm == EVIL
    )
    assert set(chosen["samples"]) == {expected.sum()}
    for row in chosen.itertuples():
        place = round(10 * row.log10_to) + 80 if row.log10_to < 2.05 else 101
        assert np.isnan(row.log10_to) or row.log10_to == pytest.approx(row.log10_from + 0.1)
        assert row.fraction == pytest.approx(expected[place] / expected.sum(), rel=1e-3, abs=1e-12)
    assert chosen["fraction"].sum() == pytest.approx(1, abs=1e-3)


def test_a_second_comparison_clears_up_after_the_first_and_nobody_else(
    found: Comparison, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "FIGURES", {"scatter": pictures.FIGURES["scatter"]})
    out = tmp_path / "figures"
    out.mkdir()
    (tmp_path / "outside.svg").write_text("not in the folder")
    for name in ("mine.svg", "digits-recall.svg"):
        (out / name).write_text("not ours")
    stale = ["old-losses.svg", "old-losses.csv"]
    for name in stale:
        (out / name).write_text("ours, of a former comparison")
    (out / WRITTEN).write_text("\n".join([*stale, "../outside.svg", "gone.csv", ""]))
    write_figures(found, out)
    left = {path.name for path in out.iterdir()}
    ours = {f"digits-factor-10-mlp-5-epochs-scatter.{ending}" for ending in ("svg", "csv")}
    assert left == {WRITTEN, "mine.svg", "digits-recall.svg", *ours}
    assert (tmp_path / "outside.svg").exists()
    assert set((out / WRITTEN).read_text().split()) == ours


def test_a_picture_as_png_has_its_size(found: Comparison) -> None:
    data = context_data(found, CELL)
    svg = drawing.svg(pictures.job(found, CELL, "differences", data))
    root = ElementTree.fromstring(svg)
    png, width, height = drawing.figure_png(svg, scale=2)
    assert png.startswith(b"\x89PNG")
    assert (width, height) == (2 * float(root.attrib["width"]), 2 * float(root.attrib["height"]))


def test_file_names_are_safe_and_different() -> None:
    contexts = ["../../etc | x", "Ä/\\:*?", "a | b", "a - b", "x" * 300]
    names = list(slugs(contexts).values())
    assert len(set(names)) == len(contexts)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,81}", name) for name in names)


def balanced(text: str) -> bool:
    """Whether braces close and no other sign of TeX is left but those of a table."""
    depth = 0
    for sign in re.findall(r"\\.|[{}]", text):
        depth += (sign == "{") - (sign == "}")
        if depth < 0:
            return False
    return depth == 0


def test_labels_cannot_speak_tex() -> None:
    text = escape(f"{EVIL}\n\\\\ \\end{{tabular}}")
    assert balanced(text)
    commands = set(re.findall(r"\\([a-zA-Z]+|.)", text))
    assert commands <= {
        *("textbackslash", "textless", "textgreater", "textasciicircum", "textasciitilde"),
        *("{", "}", "$", "_", "&", "%", "#", "'"),
    }
    plain = re.sub(r"\\[a-zA-Z]+\{\}|\\.", "", text)
    assert not re.search(r"[\\$&#^_%~<>|\n]|[^\x00-\x7f]", plain)
    assert not re.search(r"(?<!\{)[\[*]", plain)  # neither begins an argument of a row's end
    assert "U+2192" in text


def test_latex_tables(found: Comparison, tmp_path: Path) -> None:
    text = write_latex(found, tmp_path / "results.tex").read_text("utf-8")
    assert balanced(text)
    opened = re.findall(r"\\begin\{(\w+)\}", text)
    assert sorted(opened) == sorted(re.findall(r"\\end\{(\w+)\}", text))
    assert opened.count("table") == 1
    blocks = re.findall(r"\\begin\{tabular\}\{(\w+)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL)
    marks = {}
    for columns, block in blocks:
        assert [block.count(rf"\{rule}rule") for rule in ("top", "mid", "bottom")] == [1, 1, 1]
        head, *rows = [line for line in block.splitlines() if line.endswith(r"\\")]
        assert {len(re.split(r"(?<!\\)&", row)) for row in (head, *rows)} == {len(columns)}
        names = [re.split(r"(?<!\\)&", row)[0].strip() for row in rows]
        assert names == [escape(label) for label in found.ranked[CELL]]
        for row in rows:
            label, _, *cells = re.split(r"(?<!\\)&", row.removesuffix(r"\\"))
            marks.setdefault(label.strip(), []).extend(cell.strip() for cell in cells)
    first = {label: cells[0] for label, cells in marks.items()}
    values = {
        label: {r.seed: r.metrics[METRIC] for r in found.records if r.arm == label}
        for label in [*ARMS, DERIVED]
    }
    mean = np.mean(list(values[BETTER].values()))
    error = stats.sem(list(values[BETTER].values()))
    best = max(values, key=lambda label: np.mean(list(values[label].values())))
    for label, cell in first.items():
        bold = cell.startswith(r"\textbf{")
        assert bold == (label == escape(best))
    assert f"{mean:.3f} $\\pm$ {error:.3f}" in first[escape(BETTER)]
    other = EVIL if best == BETTER else BETTER
    assert stats.ttest_rel(list(values[best].values()), list(values[other].values())).pvalue > 0.05
    assert first[escape(other)].startswith(r"\underline{")
    assert re.fullmatch(r"[\d.]+ \$\\pm\$ [\d.e-]+", first["cross\\_entropy"])  # told from the best
    for column, head in enumerate(re.findall(r"\$\\(up|down)arrow\$", text)):
        column_of = {label: cells[column] for label, cells in marks.items()}
        shown = {label: float(re.findall(r"\d\.\d+", cell)[0]) for label, cell in column_of.items()}
        (bold,) = (label for label, cell in column_of.items() if cell.startswith(r"\textbf{"))
        assert shown[bold] == (max if head == "up" else min)(shown.values())


def test_the_share_below_a_loss_is_that_at_the_end_of_its_bin() -> None:
    line = {"arm": [0], "split": ["test"], "group": ["all"], "outcome": ["all"]}
    look = {"arm": 0, "label": "focal", "colour": "#000000", "dash": [1, 0], "shape": "circle"}
    data = {"losses": line | {"samples": [8], "first": [81], "values": [[0.25, 0.75]]}}
    (panel,) = (p for p in panels("losses", data, [look]) if p.title == CUMULATIVE)
    shown = [(row["x"], row["y"]) for row in panel.rows]
    assert shown == [(-8.1, 0), (0.1, 0.25), (0.2, 1), (2.1, 1)]


def test_pictures_and_page_give_an_arm_one_look() -> None:
    labels = ["cross_entropy", *(f"arm {place}" for place in range(24))]
    many = SimpleNamespace(labels=labels, ranked={"one": labels, "other": labels[::-1]})
    found = looks.looks(many)  # type: ignore[arg-type]
    assert [look["label"] for look in found] == many.labels
    assert len({(look["colour"], str(look["dash"])) for look in found}) == 25
    without_colour = {(str(look["dash"]), look["shape"]) for look in found[1:]}
    assert len(without_colour) == 24  # all that share a figure's legend but the baseline
    templates = Path(looks.__file__).parent / "templates"
    script = (templates / "page.js").read_text("utf-8")
    dashes = re.search(r"const DASHES = (.*);", script)
    assert dashes
    assert json.loads(dashes[1]) == list(looks.DASHES)
    places = [
        script.index(f"{shape}:" if f"{shape}:" in script else f'"{shape}"')
        for shape in looks.SHAPES
    ]
    assert places == sorted(places)
    light = (templates / "report.css").read_text("utf-8").split("@media")[0]
    colours = dict(re.findall(r"--arm-(\d): (#\w+)", light))
    assert [colours[str(place)] for place in range(7)] == [looks.BASELINE, *looks.HUES]


def test_a_kill_while_figures_are_written_leaves_no_orphans(
    found: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "figures"
    drawn = []

    def quick(job: drawing.Job) -> drawing.Picture:
        drawn.append(job.title)
        if start == "second" and len(drawn) > 10:
            raise KeyboardInterrupt
        return drawing.Picture("<svg/>", b"", 1, 1)

    monkeypatch.setattr(drawing, "draw", quick)
    for start in ("first", "second", "third"):
        names = {context: f"{start}-{context}"[:12] for context in (CELL, pictures.ALL_CELLS)}
        monkeypatch.setattr(figure_files, "slugs", lambda contexts, names=names: names)
        with contextlib.suppress(KeyboardInterrupt):
            write_figures(found, out)
    assert len(drawn) > 18
    assert {path.name.partition("-")[0] for path in out.glob("*.*g")} == {"third"}


def test_several_processes_draw_the_same_pictures_and_end(
    found: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "WORTH", 1)
    data = context_data(found, CELL)
    jobs = [pictures.job(found, CELL, name, data) for name in ("differences", "recall", "scatter")]
    drawn = drawing.draw_all(jobs, len(jobs), 2)
    first = next(drawn)
    assert len(multiprocessing.active_children()) == 2
    assert [first, *drawn] == [drawing.draw(job) for job in jobs]
    assert multiprocessing.active_children() == []
