"""report.html in a real browser: what is clicked does what it says, and nothing else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from .conftest import HOSTILE, Opened

METRICS = "#tab-every-metric"
HEADS = ["metric", "split", "arm", "mean", "95 % interval", "difference"]


def column(opened: Opened, place: int) -> list[str]:
    cells = opened.page.locator(f"{METRICS} tbody tr > :nth-child({place + 1})")
    return cells.all_text_contents()


def rows_of(opened: Opened) -> list[dict[str, Any]]:
    """The rows of the table of every metric, from the data."""
    columns = opened.data["every_metric"]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    labels, metrics = opened.content["labels"], opened.data["metrics"]
    return [row | {"label": labels[row["arm"]]} | metrics[row["metric"]] for row in rows]


def show_all(opened: Opened) -> None:
    opened.page.locator(f"{METRICS} select").select_option("")
    opened.page.get_by_role("button", name="Show all").click()


def test_heads_sort_by_mouse_and_by_keyboard(opened: Opened) -> None:
    show_all(opened)
    rows = rows_of(opened)
    assert len(column(opened, 0)) == len(rows)
    head = opened.page.locator(f"{METRICS} thead th").nth(HEADS.index("mean"))
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    shown = [float(text) for text in column(opened, HEADS.index("mean"))]
    assert shown == sorted(shown)
    assert shown == pytest.approx(sorted(row["mean"] for row in rows), abs=5.1e-4)

    head = opened.page.locator(f"{METRICS} thead th").nth(HEADS.index("difference"))
    for direction in ("ascending", "descending"):
        head.get_by_role("button").focus()
        opened.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == direction
    assert opened.page.locator(f"{METRICS} [aria-sort=descending]").count() == 1
    known = [row["difference"] for row in rows if row["difference"] is not None]
    shown = column(opened, HEADS.index("difference"))
    assert shown[len(known) :] == ["–"] * (len(rows) - len(known))  # undefined is last either way
    values = [float(text) for text in shown[: len(known)]]
    assert values == pytest.approx(sorted(known, reverse=True), abs=5.1e-4)


def test_the_table_is_filtered_by_words_and_group(opened: Opened) -> None:
    rows = rows_of(opened)
    summary = [opened.data["metrics"][place]["tag"] for place in opened.data["summary"]]
    assert summary[0] == "test/cls/balanced_accuracy"
    first = opened.content["labels"][opened.content["order"][1]]  # the best
    assert column(opened, 0)[0].startswith("balanced accuracy")
    assert column(opened, 2)[:2] == ["cross_entropy", first]
    expect(opened.page.locator(f"{METRICS} .count")).to_contain_text(
        f"of {len(summary) * len(opened.content['labels'])}"
    )
    show_all(opened)
    opened.page.locator(f"{METRICS} input").fill('recall a,"B"')
    wanted = [
        row for row in rows if "recall" in row["tag"] + row["name"] and row["label"] == 'a,"b"'
    ]
    expect(opened.page.locator(f"{METRICS} tbody tr")).to_have_count(len(wanted))
    assert set(column(opened, 2)) == {'a,"b"'}
    opened.page.locator(f"{METRICS} select").select_option("test/cal")
    expect(opened.page.locator(f"{METRICS} .count")).to_have_text("no row matches the filter")
    opened.page.locator(f"{METRICS} input").fill("")
    wanted = [row for row in rows if row["tag"].startswith("test/cal/")]
    expect(opened.page.locator(f"{METRICS} tbody tr")).to_have_count(len(wanted))


def test_pages_of_rows_show_every_row_once(opened: Opened) -> None:
    opened.page.locator(f"{METRICS} select").select_option("test/recall")
    seen = []
    while True:
        seen += zip(column(opened, 0), column(opened, 1), column(opened, 2), strict=True)
        following = opened.page.get_by_role("button", name="Next")
        if following.is_disabled():
            break
        following.click()
    wanted = [row for row in rows_of(opened) if row["tag"].startswith("test/recall/")]
    assert len(seen) == len(set(seen)) == len(wanted) > 100


def steps(data: dict[str, Any], wanted: dict[str, str], arm: int) -> dict[float, float]:
    """The fraction of the samples in each filled bin, by the left end of the bin."""
    losses = data["losses"]
    for line, found in enumerate(losses["arm"]):
        if found == arm and all(losses[key][line] == value for key, value in wanted.items()):
            start = losses["first"][line]
            values = losses["values"][line]
            return {round(-8.1 + (start + k) / 10, 1): value for k, value in enumerate(values)}
    return {}


def test_the_histogram_follows_every_switch(opened: Opened) -> None:
    figure = opened.page.locator("#fig-losses")
    opened.drawn("fig-losses")
    pictures = set()
    for values in (
        *(("train", "all", "all"), ("test", "tail", "all")),
        *(("val", "head", "correct"), ("test", "all", "wrong")),
    ):
        wanted = dict(zip(("split", "group", "outcome"), values, strict=True))
        for key, value in wanted.items():
            figure.locator(f"input[data-key={key}][value={value}]").check()
        rows = opened.drawn("fig-losses")
        assert {row["arm"] for row in rows} == set(opened.content["drawn"])
        for arm in opened.content["drawn"]:
            shown = {row["x"]: row["y"] for row in rows if row["arm"] == arm and row["y"]}
            assert shown == {x: y for x, y in steps(opened.data, wanted, arm).items() if y}
        pictures.add(figure.locator("svg.marks").inner_html())
    assert len(pictures) == 4

    figure.locator("input[value=cumulative]").check()
    rows = opened.drawn("fig-losses")
    arm = opened.content["drawn"][1]
    shown = {row["x"]: row["y"] for row in rows if row["arm"] == arm}
    single = steps(opened.data, wanted, arm)
    for x, y in shown.items():  # the share of samples below x
        expected = sum(value for left, value in single.items() if left + 0.05 < x)
        assert y == pytest.approx(expected, abs=0.01)
    assert "share of samples below" in figure.locator("figcaption").text_content()
    assert "gets wrong" in figure.locator("figcaption").text_content()


def test_every_download_is_the_data_behind_the_figure(opened: Opened) -> None:
    labels = opened.content["labels"]
    head, *rows = opened.download("tab-every-metric")
    wanted = rows_of(opened)
    assert head == list(opened.data["every_metric"])
    for row, expected in zip(rows, wanted, strict=True):
        found = dict(zip(head, row, strict=True))
        assert (found["arm"], found["metric"]) == (expected["label"], expected["tag"])
        for name in ("mean", "low", "high", "difference"):
            value = expected[name]
            assert found[name] == "" if value is None else float(found[name]) == value

    head, *rows = opened.download("fig-losses")
    losses = opened.data["losses"]
    assert len(rows) == sum(map(len, losses["values"]))
    sums: dict[tuple[str, ...], float] = {}
    for row in rows:
        sums[tuple(row[:4])] = sums.get(tuple(row[:4]), 0) + float(row[-1])
    assert len(sums) == len(losses["arm"])
    assert all(math.isclose(total, 1, abs_tol=0.01) for total in sums.values())
    assert {row[0] for row in rows} == set(labels)

    for name in ("differences", "curves", "recall", "reliability", "scatter"):
        head, *rows = opened.download(f"fig-{name}")
        columns = opened.data[name]
        assert head == list(columns)
        assert [row[0] for row in rows] == [labels[arm] for arm in columns["arm"]]
    table = opened.page.locator("#tab-summary tr")
    shown = [row.locator("th, td").all_text_contents() for row in table.all()]
    assert opened.download("tab-summary") == shown


def test_arms_are_drawn_or_not_as_chosen(opened: Opened) -> None:
    page, drawn = opened.page, opened.content["drawn"]
    labels, order = opened.content["labels"], opened.content["order"]
    assert len(drawn) == 8 < len(labels)
    assert {row["arm"] for row in opened.drawn("fig-scatter")} == set(drawn)
    page.locator(".arms").get_by_label(labels[drawn[1]], exact=True).uncheck()
    assert {row["arm"] for row in opened.drawn("fig-scatter")} == set(drawn) - {drawn[1]}
    # a figure with a row per arm leaves none out
    assert {row["arm"] for row in opened.drawn("fig-differences")} == set(order) - {0}
    assert page.locator(f".panel[data-arm='{drawn[1]}']").is_hidden()
    last = labels[order[-1]]
    box = page.locator(".arms").get_by_label(last, exact=True)
    assert box.is_hidden()
    page.locator(".arms .more").press("Enter")
    page.keyboard.type(last.upper())  # the field is focused
    assert page.locator(".arms .list label:visible").count() == 1
    box.check()
    page.locator(".arms .more").click()
    assert box.is_visible()
    assert order[-1] in {row["arm"] for row in opened.drawn("fig-scatter")}
    place = order.index(order[-1])
    assert {row["arm"] for row in opened.drawn("fig-overfitting", place)} == {order[-1]}


@pytest.mark.parametrize(("scheme", "rules"), [("light", None), ("dark", ["color-contrast"])])
def test_nothing_is_in_the_way_of_anybody(
    opened: Opened, scheme: str, rules: list[str] | None
) -> None:
    opened.page.emulate_media(color_scheme=scheme)
    opened.drawn("fig-losses")
    opened.drawn("fig-scatter")
    opened.page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true })")
    found = Axe().run(opened.page, options={"runOnly": rules} if rules else None)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_the_page_never_scrolls_sideways(opened: Opened, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 800})
    for name in ("differences", "losses", "recall", "scatter"):
        opened.drawn(f"fig-{name}")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_paper_has_every_figure_whole_tables_and_no_controls(opened: Opened) -> None:
    page = opened.page
    page.emulate_media(media="print", color_scheme="dark")
    charts = page.locator(".panel:not([hidden]) .chart, figure > .chart")
    for chart in charts.all():
        chart.locator("svg.marks").wait_for(state="attached")
    summary = len(opened.data["summary"]) * len(opened.content["labels"])
    assert page.locator(f"{METRICS} tbody tr").count() == summary
    controls = page.locator("button:visible, input:visible, select:visible")
    assert controls.count() == page.locator("thead button").count()  # the heads of the columns
    assert page.locator("details.grade:not([open])").count() == 0
    cells = page.locator("td, th")
    assert cells.evaluate_all("all => all.every(cell => cell.offsetWidth > 0)")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(255, 255, 255)"
    assert page.locator("#fig-losses .key span").count() == 8  # on paper each figure has its key
    assert page.locator("#fig-losses .key b").text_content() == "8 of 11 are drawn"
    said = page.locator("#fig-curves .choices").inner_text().split()
    assert " ".join(said) == f"curve {opened.data['curves']['curve'][0]}"  # what is chosen alone
    heads = page.locator("thead button").evaluate_all("all => all.map(each => each.offsetWidth)")
    assert set(heads) == {0}  # a head with a box to focus is not repeated on the next page


def test_names_are_text_and_run_nothing(opened: Opened) -> None:
    show_all(opened)
    opened.drawn("fig-differences")
    page = opened.page
    assert page.evaluate("window.broken") is None
    assert page.locator("img").count() == 0
    legend = page.locator(".arms label").all_text_contents()
    for name in HOSTILE:
        assert name in legend
        assert name in column(opened, HEADS.index("arm"))
        assert name in page.locator("#tab-summary tbody th").all_text_contents()


def test_figures_say_their_numbers_in_words(opened: Opened) -> None:
    page = opened.page
    for chart in page.locator("[role=img]").all():
        words = page.locator(f"#{chart.get_attribute('aria-describedby')}").text_content()
        assert all(opened.content["labels"][arm] in words for arm in opened.content["drawn"][1:])
    arm = opened.content["drawn"][1]
    label = opened.content["labels"][arm]
    words = page.locator("#fig-differences-words").text_content()
    mean = opened.data["differences"]["mean"][opened.data["differences"]["arm"].index(arm)]
    assert f"{label}: {mean:+.3f} (" in words
    single = steps(opened.data, {"split": "test", "group": "all", "outcome": "all"}, arm)
    edges, shares = np.array([*single, max(single) + 0.1]), np.cumsum([0, *single.values()])
    half = np.interp(opened.data["marks"]["half"], edges, shares)
    middle = 10 ** np.interp(0.5, shares, edges)
    words = page.locator("#fig-losses-words").text_content()
    assert (
        f"{label}: median {float(f'{middle:.2g}'):g} nats, {100 * half:.0f} % below log 2" in words
    )


def test_everything_can_be_cited(opened: Opened) -> None:
    page = opened.page
    numbers = page.locator(".item .number").all_text_contents()
    for word in ("Figure", "Table"):
        found = [number for number in numbers if number.startswith(word)]
        assert found == [f"{word} {place + 1}" for place in range(len(found))]
    links = page.locator(".item a.self")
    assert links.count() == len(numbers) == page.locator(".item").count()
    for link in links.all():
        target = link.get_attribute("href")
        assert page.locator(target).count() == 1
        assert target.startswith(("#fig-", "#tab-"))
    assert "lossbench 0.1.0" in page.locator("#cite").text_content()
