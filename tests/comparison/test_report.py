from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import vl_convert

from lossbench.comparison import report
from lossbench.comparison.across_cells import across_sheets
from lossbench.comparison.audit import audit_sheets
from lossbench.comparison.compare import Comparison, compare
from lossbench.comparison.export import escape
from lossbench.comparison.tables import sheets
from lossbench.errors import InputError
from lossbench.records import read_study

from .synthetic import edit_record, runs_of, write_synthetic_study

FIGURES = {"differences", "recall", "losses", "overfitting", "curves", "reliability", "scatter"}
METRIC = "test/cls/balanced_accuracy"
EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What a browser would see: tags with attributes, text by element, scripts by type."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag  # well nested

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open and self.open[-1] == "script" else self.text).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A study whose labels are made to break pages, tables and terminals."""
    arms = {"cross_entropy": 0.0, EVIL: 0.05, "[red]a|b*": -0.05, "</script>&amp;": 0.0}
    cells = ["digits | <b>10</b> | mlp | 5 epochs", "plain | none | mlp | 5 epochs"]
    folder = tmp_path_factory.mktemp("evil")
    write_synthetic_study(folder / "study", arms, range(4), cells=cells)
    failed = runs_of(folder / "study", EVIL, 3)[0]
    edit_record(failed, status="failed", reason=f"boom {EVIL}")
    return compare(read_study(folder / "study"), metric=METRIC, out=folder / "out")


def page_of(comparison: Comparison) -> tuple[str, Page]:
    text = comparison.files[2].read_text(encoding="utf-8")
    return text, Page(text)


def test_the_page_is_one_small_file_that_asks_for_nothing(evil: Comparison) -> None:
    text, page = page_of(evil)
    assert len(text.encode()) < 8_000_000
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith("#")
    (policy,) = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:|connect-src|url\(", policy)
    own = page.scripts[-1]
    assert "vegaEmbed" in own
    assert not re.search(r"fetch|XMLHttpRequest|import\s*\(|https?:", own)
    style = text[text.index("<style>") : text.index("</style>")]
    assert not re.search(r"url\(|@import", style)
    assert "prefers-color-scheme: dark" in style


def test_labels_are_text_and_never_markup(evil: Comparison) -> None:
    text, page = page_of(evil)
    assert EVIL not in text
    kinds = [attributes.get("id") for attributes in page.all("script")]
    assert kinds == ["content", "data-0", "data-1", "data-2", "vega", None]
    assert not page.all("b")
    assert EVIL in page.text
    content = json.loads(page.scripts[0])
    assert content["labels"] == evil.labels
    assert EVIL in content["labels"]


def test_every_figure_has_words_and_every_input_a_label(evil: Comparison) -> None:
    text, page = page_of(evil)
    figures = page.all("figure")
    over_cells = {"ranks", "profiles", "aggregates"}
    assert {figure["data-figure"] for figure in figures} == FIGURES | over_cells
    assert len(figures) == 2 * len(FIGURES) + len(over_cells)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for chart in (a for a in page.all("div") if a.get("role") == "img"):
        assert {chart["aria-labelledby"], chart["aria-describedby"]} <= set(ids)
    assert text.count("<figcaption>") == len(figures)
    inputs = [a for a in page.all("input") if a.get("type") != "hidden"]
    assert len(re.findall(r"<label( class=.find.)?>(\w+ )?<input", text)) == len(inputs) > 0
    assert page.all("html") == [{"lang": "en"}]
    names = [attributes["name"] for attributes in page.all("meta") if "name" in attributes]
    assert "viewport" in names
    regions = [a for a in page.all("div") if a.get("class") == "scroll"]
    assert regions
    assert all(
        a["tabindex"] == "0" and a["aria-labelledby"] for a in regions
    )  # keyboard scrolls them


def test_verdicts_tables_and_gaps_are_on_the_page(evil: Comparison) -> None:
    _, page = page_of(evil)
    shown = " ".join(page.text)
    assert evil.headline in shown
    assert len(evil.verdicts) == 6
    for entry in evil.verdicts:
        assert entry.sentence in shown
    assert f"{EVIL}: 1 run failed: boom {EVIL} (seed 3)" in shown
    assert "balanced validation (oracle)" in shown
    assert "The test set was evaluated once per run" in shown
    assert "Equal in the pairs: subset, init, batches" in shown
    assert "n is 3 to 4 finished runs" in shown


def test_the_data_names_every_arm_and_specification(evil: Comparison) -> None:
    _, page = page_of(evil)
    content = json.loads(page.scripts[0])
    across, data, _ = map(json.loads, page.scripts[1:4])
    assert set(across["ranks"]["arm"]) == set(range(4))
    assert set(data["losses"]["split"]) == {"train", "val", "test", "reweighted"}
    assert set(data["losses"]["arm"]) == set(range(4))
    for name, specification in content["specifications"].items():
        assert specification["width"] == "container"
        # the libraries accept it, with rows in place
        rows = {"rows": [], "marks": []}
        filled = specification | {
            "width": 300,
            "datasets": specification.get("datasets", {}) | rows,
        }
        assert vl_convert.vegalite_to_vega(filled)["marks"], name


def test_a_page_over_budget_keeps_tables_and_says_so(
    evil: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, shown, tables = 70_000, [], []  # style, scripts and specifications, whatever the study
    for budget in (1_000, 200_000, 400_000):
        monkeypatch.setattr(report, "BUDGET", budget)
        text = report.render(evil, "bundle")
        page = Page(text)
        shown.append(len(page.all("figure")))
        tables.append(len(page.all("table")))
        assert ("larger than 8 MB" in " ".join(page.text)) == (budget < 400_000)
        if budget > 1_000:
            assert len(text.encode()) < budget + frame
    assert shown == [3, 3 + len(FIGURES), 3 + 2 * len(FIGURES)]  # those over all cells are small
    assert tables == [tables[0], tables[0] + 2, tables[0] + 4]  # every metric, the cross-loss table


def test_the_vega_script_is_made_once_and_closes_no_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def bundle() -> str:
        made.append(1)
        return "let a = '</script>';"

    monkeypatch.setattr(vl_convert, "javascript_bundle", bundle)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert report.vega_bundle() == report.vega_bundle() == "let a = '<\\/script>';"
    assert len(made) == 1
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made there
    assert report.vega_bundle() == "let a = '<\\/script>';"


def test_csv_has_a_row_per_run_and_metric(evil: Comparison) -> None:
    table = pd.read_csv(evil.files[0])
    done = table[table["status"] == "done"]
    runs = [record for record in evil.records if record.status == "done"]
    assert len(done) == sum(len(record.metrics) for record in runs)
    for record in runs[:3]:
        rows = done[
            (done["cell"] == record.cell)
            & (done["arm"] == record.arm)
            & (done["seed"] == record.seed)
        ]
        assert dict(zip(rows["metric"], rows["value"], strict=True)) == record.metrics
    failed = table[table["status"] == "failed"]
    assert failed[["arm", "seed"]].values.tolist() == [[EVIL, 3]]


def test_markdown_tables_read_back(evil: Comparison) -> None:
    text = evil.files[1].read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<", text)
    tables, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            rows.append([re.sub(r"\\(.)", r"\1", cell) for cell in cells])
        elif rows:
            assert len({len(row) for row in rows}) == 1
            tables.append(rows)
            rows = []
    over_all = len(across_sheets(evil))
    of_cells = [[*sheets(evil, name), *audit_sheets(evil, name)] for name in evil.ranked]
    assert len(tables) == over_all + sum(map(len, of_cells))
    assert over_all
    tables = tables[over_all:]
    context = next(iter(evil.ranked))
    assert [row[0] for row in tables[0][2:]] == evil.ranked[context]
    summary = evil.summary[evil.summary["context"] == context].set_index(["label", "metric"])
    for row in tables[0][2:]:
        expected = summary.loc[(row[0], METRIC)]
        mean, error = map(float, row[2].split(" ± "))
        assert mean == pytest.approx(expected["mean"], abs=5e-4)
        assert error == pytest.approx(expected["standard_error"], abs=5e-4)
    verdicts = {row[0]: row[-1] for row in tables[1][2:]}
    expected = {e.label: e.word for e in evil.verdicts if e.context == context}
    assert verdicts == expected


def test_markdown_signs_are_escaped() -> None:
    assert escape("a|b <i> *x* `c` [d](e)") == r"a\|b \<i> \*x\* \`c\` \[d\](e)"
    assert escape("balanced_softmax _b_\nc") == r"balanced_softmax \_b\_ c"


def test_bad_input_writes_nothing(study: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        compare(read_study(study), baseline="nobody", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_second_comparison_replaces_the_first(study: Path, tmp_path: Path) -> None:
    records = read_study(study)
    (tmp_path / "out" / "figures").mkdir(parents=True)  # no pictures in these tests
    compare(records, out=tmp_path / "out")
    before = (tmp_path / "out" / "results.md").read_text()
    found = compare(records, metric="test/cls/accuracy", out=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        path.name for path in found.files
    )
    assert (tmp_path / "out" / "results.md").read_text() != before


def test_no_validation_no_histograms_one_seed(tmp_path: Path) -> None:
    arms = {"cross_entropy": 0.0, "focal": 0.0}
    write_synthetic_study(tmp_path / "s", arms, [0], validation=False)
    records = read_study(tmp_path / "s")
    for folder in (tmp_path / "s").iterdir():
        np.savez(folder / "arrays.npz", edges=np.zeros(101))
    found = compare(records, out=tmp_path / "out")
    _, page = page_of(found)
    assert found.verdicts[0].word == "not judged"
    assert "There is no validation set" in " ".join(page.text)
    names = {figure["data-figure"] for figure in page.all("figure")}
    assert names == {"differences", "recall", "curves", "scatter"}


def test_neither_torch_nor_evaluation_is_imported(study: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from lossbench.records import read_study\n"
        "from lossbench.comparison.compare import compare\n"
        "from lossbench.comparison.terminal import show\n"
        "show(compare(read_study(Path(sys.argv[1])), out=Path(sys.argv[2])))\n"
        "heavy = {'torch', 'lossbench.evaluation', 'sklearn', 'lightning'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, study, tmp_path / "out"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_page_of_a_thousand_runs_is_below_eight_megabytes(tmp_path: Path) -> None:
    arms = {"cross_entropy": 0.0} | {f"arm_{place}": 0.01 * place for place in range(9)}
    cells = [f"digits | exponential {place} | mlp | 15 epochs" for place in range(10)]
    write_synthetic_study(tmp_path / "study", arms, range(10), cells=cells)
    compare(read_study(tmp_path / "study"), out=tmp_path / "out")
    assert (tmp_path / "out" / "report.html").stat().st_size < 8_000_000
