"""Tables: features against scikit-learn, and every way in which a file can be wrong."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from lossbench.data.configured import load_dataset, prepared_data
from lossbench.data.datamodule import LossbenchDataModule
from lossbench.data.table import Table, table
from lossbench.errors import InputError

NUMBERS, KINDS = ["amount", "age", "steady"], ["colour", "shop"]


def make_frame(rows: int = 200) -> pd.DataFrame:
    draws = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "amount": draws.normal(1e6, 3, rows),
            "colour": draws.choice(["red", "green", None], rows),
            "age": draws.integers(18, 90, rows).astype(float),
            "steady": np.full(rows, 0.1),
            "shop": draws.choice(["a", "b", "c"], rows),
            "label": draws.choice(["ok", "fraud"], rows, p=[0.8, 0.2]),
            "id": np.arange(rows),
        }
    )
    frame.loc[frame.index % 7 == 3, "age"] = np.nan
    return frame


@pytest.fixture
def frame() -> pd.DataFrame:
    load_dataset.cache_clear()
    return make_frame()


@pytest.fixture
def written(frame: pd.DataFrame, tmp_path: Path) -> Path:
    frame.to_csv(tmp_path / "all.csv", index=False)
    return tmp_path / "all.csv"


def config(file: Path, **data: object) -> dict:
    return {
        "seed": 0,
        "data": {
            "_target_": "lossbench.data.table.table",
            "archive": str(file),
            **{"target": "label", "drop": ["id"], "batch_size": 16, "validation_per_class": 5},
            "validation_prior": "balanced",
            **data,
        },
        "imbalance": {
            "_target_": "lossbench.data.imbalance.exponential",
            **{"factor": 4, "class_order": "given", "subset_order": "seeded"},
        },
    }


def test_features_are_those_of_scikit_learn_fitted_on_the_training_subset(
    frame: pd.DataFrame, written: Path, tmp_path: Path
) -> None:
    other = make_frame(90).sample(frac=1, random_state=1)
    other.loc[other.index[:4], "shop"] = "new"
    other.loc[other.index[2:6], "colour"] = "blue"
    other.to_csv(tmp_path / "other.csv", index=False)
    prepared, settings = prepared_data(config(written, test="other.csv"))
    assert prepared.class_names == ("fraud", "ok")
    assert prepared.class_counts[0] > 3 * prepared.class_counts[1]  # the tail is made
    subset = frame.loc[prepared.train.ids]
    expected = make_column_transformer(
        (make_pipeline(StandardScaler(), SimpleImputer(strategy="mean")), NUMBERS),
        (MissingIndicator(), ["age"]),
    ).fit(subset)
    categories = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(
        frame[KINDS].fillna("~missing")
    )
    for split, rows in (
        (prepared.train, subset),
        (prepared.validation, frame.loc[prepared.validation.ids]),
        (prepared.test, other),
    ):
        one_hot = categories.transform(rows[KINDS].fillna("~missing"))
        features = np.hstack([expected.transform(rows), one_hot])
        assert split.inputs.dtype == np.float32
        np.testing.assert_allclose(split.inputs, features, atol=2e-6)
        np.testing.assert_array_equal(split.targets, rows["label"] == "ok")
    assert prepared.train.inputs[:, 2].any() == 0  # a constant column, whatever rounding says
    assert prepared.input_shape == (10,)
    assert prepared.origin.endswith("; 6 test rows hold categories that training rows do not")
    names = load_dataset.__wrapped__(
        "lossbench.data.table.table",
        f'{{"archive": "{written}", "target": "label", "drop": ["id"], "test": "other.csv"}}',
    ).feature_names
    assert names == (
        *NUMBERS,
        "age missing",
        *("colour=green", "colour=red", "colour missing", "shop=a", "shop=b", "shop=c"),
    )
    data = LossbenchDataModule(prepared, settings, 0)
    ((features, targets, ids),) = data.train_evaluation_loader()
    np.testing.assert_array_equal(features, prepared.train.inputs)
    for features, targets, ids in data.train_dataloader():
        places = [prepared.train.ids.tolist().index(i) for i in ids]
        np.testing.assert_array_equal(features, prepared.train.inputs[places])
        np.testing.assert_array_equal(targets, prepared.train.targets[places])


def test_the_test_share_is_fixed_and_the_fingerprint_is_of_the_content(
    frame: pd.DataFrame, written: Path, tmp_path: Path
) -> None:
    made = table(written, "label", test_share=0.3, drop=["id"])
    counts = frame["label"].value_counts()
    expected = [int(0.3 * counts["fraud"]), int(0.3 * counts["ok"])]
    assert np.bincount(made.test_targets).tolist() == expected
    first = prepared_data(config(written))[0]
    moved = tmp_path / "moved.csv"
    frame.to_csv(moved, index=False)
    assert prepared_data(config(moved))[0].subset_fingerprint == first.subset_fingerprint
    frame.loc[5, "amount"] += 1
    frame.to_csv(tmp_path / "changed.csv", index=False)
    changed = prepared_data(config(tmp_path / "changed.csv"))[0]
    assert changed.subset_fingerprint != first.subset_fingerprint
    other_seed = prepared_data(config(written) | {"seed": 1})[0]
    assert other_seed.subset_fingerprint != first.subset_fingerprint
    np.testing.assert_array_equal(other_seed.test.ids, first.test.ids)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([10, 9, 10, 9], ("9", "10")),
        ([1.0, 0.0, 0.0, 1.0], ("0", "1")),
        ([True, False, False, True], ("False", "True")),
        (["b", "a", "b", "a"], ("a", "b")),
        (pd.to_datetime(["2020-01-02", "2020-01-01"] * 2), None),
    ],
)
def test_labels_of_every_type_become_sorted_names(
    labels: list, names: tuple[str, ...] | None, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"x": [1.0, 2, 3, 4], "y": labels})
    frame.to_csv(tmp_path / "t.csv", index=False)
    made = table(tmp_path / "t.csv", "y", test="t.csv")
    assert made.class_names == (names or ("2020-01-01", "2020-01-02"))
    order = sorted(set(frame["y"]))
    assert made.train_targets.tolist() == [order.index(value) for value in frame["y"]]
    assert made.test_targets.tolist() == made.train_targets.tolist()


def test_columns_of_codes_can_be_named_as_categories(written: Path, frame: pd.DataFrame) -> None:
    made = table(
        written, "label", drop=["id", "colour"], categorical=["shop", "age"], test_share=0.5
    )
    whole = [f"age={age:.0f}" for age in sorted(frame["age"].dropna().unique())]
    ages = [name for name in made.feature_names if name.startswith("age")]
    assert set(ages) <= {*whole, "age missing"}
    assert made.numbers.shape[1] == 2
    with pytest.raises(
        InputError, match=r"all\.csv row \d+: colour=\w+ is not a finite number; \d+"
    ):
        table(written, "label", drop=["id"], categorical=["shop"])


def break_label(frame: pd.DataFrame) -> None:
    frame.loc[[7, 9], "label"] = None


def infinite(frame: pd.DataFrame) -> None:
    frame.loc[4, "amount"] = -np.inf


def single(frame: pd.DataFrame) -> None:
    frame.loc[3, "label"] = "other"


def words(frame: pd.DataFrame) -> None:
    frame["shop"] = [f"shop {index}" for index in range(len(frame))]


@pytest.mark.parametrize(
    ("damage", "arguments", "message"),
    [
        (None, {"target": "lable"}, r"unknown data\.target 'lable'; did you mean 'label'\?"),
        (None, {"drop": ["idd"]}, r"unknown data\.drop 'idd'; did you mean 'id'\?"),
        (None, {"drop": "id"}, r"data\.drop=id must be null or a list of columns, such as \[id\]"),
        (None, {"categorical": ["id"]}, r"unknown data\.categorical 'id'"),
        (None, {"test_share": 0}, r"data\.test_share=0 must be a number above 0 and below 1"),
        (None, {"test": "none.csv"}, r"cannot read \S+none\.csv \(.*No such file"),
        (
            None,
            {"drop": ["id", "amount", "colour", "age", "steady", "shop"]},
            r"\S+all\.csv has no column beside data\.target=label and those of drop",
        ),
        (
            break_label,
            {},
            r"\S+all\.csv row 8 has no label in the column 'label'; 2 of 200 rows have none",
        ),
        (infinite, {}, r"\S+all\.csv row 5: amount=-inf is not a finite number; 1 rows of this"),
        (single, {}, "class 'other' has 1 sample and data.test_share=0.2 takes it"),
        (words, {"limit": 50}, r"the column 'shop' has 161 categories, more than 50; leave it out"),
    ],
)
def test_a_wrong_table_is_one_line(
    frame: pd.DataFrame,
    tmp_path: Path,
    damage: object,
    arguments: dict,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if damage is not None:
        damage(frame)
    monkeypatch.setattr("lossbench.data.table.MOST_CATEGORIES", arguments.pop("limit", 1000))
    frame.to_csv(tmp_path / "all.csv", index=False)
    with pytest.raises(InputError, match=f"^{message}") as caught:
        table(tmp_path / "all.csv", **{"target": "label", "drop": ["id"], **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "new"}, r"\S+t\.csv row 1: the label 'new' is not one of .*\(fraud, ok\)"),
        ({"amount": "much"}, r"\S+t\.csv row 1: amount=much is not a finite number; 200 rows"),
        ({"amount": None}, r"\S+t\.csv has no column 'amount', which \S+all\.csv has"),
    ],
)
def test_a_test_file_that_does_not_fit_is_one_line(
    frame: pd.DataFrame, written: Path, change: dict, message: str
) -> None:
    ((column, value),) = change.items()
    changed = frame.drop(columns=column) if value is None else frame.assign(**change)
    changed.to_csv(written.parent / "t.csv", index=False)
    with pytest.raises(InputError, match=f"^{message}"):
        table(written, "label", test="t.csv", drop=["id"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xlsx", b"", r"\S+t\.xlsx is not a table that can be read: give a \.csv or \.parquet"),
        ("t.csv", b"", r"cannot read \S+t\.csv \(No columns to parse"),
        ("t.csv", b"a,b\n", r"\S+t\.csv has no rows"),
        ("t.csv", b"a,b\n1,2\n1,2,3,4\n", r"cannot read \S+t\.csv \(.*Expected 2 fields in line 3"),
    ],
)
def test_a_file_that_is_no_table_is_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"^{message}"):
        table(tmp_path / name, "b")


def test_parquet_is_read_like_csv(frame: pd.DataFrame, written: Path) -> None:
    pytest.importorskip("pyarrow")
    frame.astype({"shop": "category"}).to_parquet(written.with_suffix(".parquet"))
    ours, theirs = (
        prepared_data(config(path))[0] for path in (written.with_suffix(".parquet"), written)
    )
    assert ours.subset_fingerprint == theirs.subset_fingerprint
    written.with_suffix(".parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"^cannot read \S+all\.parquet \("):
        table(written.with_suffix(".parquet"), "label")


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)  # as where it is not installed
    with pytest.raises(
        InputError, match=r"t\.parquet: Parquet files need pyarrow: pip install 'los"
    ):
        table(tmp_path / "t.parquet", "label")


def test_augmentation_of_a_table_is_refused(written: Path) -> None:
    with pytest.raises(InputError, match=r"^data\.augmentation is for images"):
        prepared_data(config(written, augmentation={"flip": True}))


def test_a_table_of_categories_alone_has_no_numbers(written: Path) -> None:
    made = table(written, "label", drop=["id", *NUMBERS])
    assert isinstance(made, Table)
    features = made.select(np.arange(50), np.arange(0)).train
    assert set(np.unique(features)) == {0, 1}
    np.testing.assert_array_equal(features.sum(axis=1), 2)


def features_of(path: Path, **arguments: object) -> tuple[str, ...]:
    return table(path, **{"target": "y", **arguments}).feature_names


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1"] * 11 + ["oops"], r"\S+t\.csv row 12: x=oops is not a finite number; 1 rows"),
        (["2,5", "1.5"] * 6, r"\S+t\.csv row 1: x=2,5 is not a finite number; 6 rows"),
        (["2020-01-31", "2021-02-01"] * 6, r"\S+t\.csv: the column 'x' holds dates or times; make"),
        (["31/01/2020 10:30"] * 12, r"\S+t\.csv: the column 'x' holds dates or times; make"),
        (["10:30"] * 12, r"\S+t\.csv: the column 'x' holds dates .*; make numbers .*data\.drop=\["),
        (["1e39"] * 12, r"\S+t\.csv row 1: x=1e\+39 is beyond the range of float32; 12 rows"),
    ],
)
def test_numbers_and_dates_never_become_categories_unasked(
    values: list[str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    pd.DataFrame({"x": values, "y": ["a", "b"] * 6}).to_csv(path, index=False)
    with pytest.raises(InputError, match=f"^{message}") as caught:
        features_of(path, test="t.csv")
    assert "\n" not in str(caught.value)
    names = features_of(path, test="t.csv", categorical=["x"])
    assert all(name.startswith("x=") for name in names)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([Decimal("1.5"), None], ("x", "x missing")),
        ([True, None], ("x", "x missing")),
        (["1", "b"], ("x=1", "x=b")),  # half is not most
        (pd.Categorical(["1", "2"]), ("x=1", "x=2")),
        ([pd.Timestamp(2020, 1, 1), None], r"\S+ the column 'x' holds dates or times"),
        ([pd.Timedelta(1), None], r"\S+ the column 'x' holds dates or times"),
        ([[1, 2], None], r"\S+t\.parquet row 1: the column 'x' holds a ndarray; make columns"),
        ([None, {"a": 1}], r"\S+t\.parquet row 2: the column 'x' holds a dict; make columns"),
    ],
)
def test_columns_of_parquet_types(values: list, expected: object, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "t.parquet"
    pd.DataFrame({"x": values, "y": ["a", "b"]}).to_parquet(path)
    if isinstance(expected, tuple):
        assert features_of(path, test="t.parquet") == expected
        return
    with pytest.raises(InputError, match=f"^{expected}"):
        features_of(path, test="t.parquet")


def test_a_missing_category_is_not_the_word_missing(tmp_path: Path) -> None:
    train = {"k": ["missing", "q", None, "q"], "y": ["a", "b"] * 2}
    pd.DataFrame(train).to_csv(tmp_path / "t.csv", index=False)
    pd.DataFrame({"k": [None, "missing", "q"], "y": "a"}).to_csv(tmp_path / "u.csv", index=False)
    made = table(tmp_path / "t.csv", "y", test="u.csv")
    assert made.feature_names == ("k=missing", "k=q", "k missing")
    assert made.categories[:, 0].tolist() == [0, 1, 2, 1, 2, 0, 1]
    pd.DataFrame(train).dropna().to_csv(tmp_path / "t.csv", index=False)
    assert table(tmp_path / "t.csv", "y", test="u.csv").categories[-3:, 0].tolist() == [-1, 0, 1]


def test_labels_may_be_words_that_stand_for_missing_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,1,2\n1,NA,0\nNA,None,0\n3,7,0\n")
    made = table(path, 1, test="t.csv", drop=[2])  # names that YAML takes for numbers
    assert made.class_names == ("7", "NA", "None")
    assert made.feature_names == ("x", "x missing")
    path.write_text("x,1\n1,NA\n2,\n")
    with pytest.raises(InputError, match=r"t\.csv row 2 has no label in the column '1'; 1 of 2"):
        table(path, 1, test="t.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n7,1,a\n8,2,b\n", r"\S+t\.csv row 1 has more fields than the header; give"),
        ("x,x,y\n1,2,a\n3,4,b\n", r"\S+t\.csv has more than one column 'x'; rename"),
    ],
)
def test_columns_never_shift_nor_share_a_name(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=f"^{message}"):
        features_of(tmp_path / "t.csv", test="t.csv")


def test_two_columns_of_one_name_in_parquet_are_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = [pyarrow.array(["a", "b"])] * 3
    parquet.write_table(
        pyarrow.Table.from_arrays(columns, names=["x", "y", "y"]), tmp_path / "t.parquet"
    )
    with pytest.raises(InputError, match=r"^\S+t\.parquet has more than one column 'y'; rename"):
        features_of(tmp_path / "t.parquet")


def test_an_outlier_of_the_test_part_is_named_with_its_row(tmp_path: Path) -> None:
    pd.DataFrame({"x": [1e-30, 2e-30], "y": ["a", "b"]}).to_csv(tmp_path / "t.csv", index=False)
    pd.DataFrame({"x": [0, 1e20], "y": ["a", "b"]}).to_csv(tmp_path / "u.csv", index=False)
    made = table(tmp_path / "t.csv", "y", test="u.csv")
    with pytest.raises(
        InputError, match=r"^row 2 of the file of the test part: x=1e\+20 is beyond"
    ):
        made.select(np.arange(2), np.arange(0))


def test_numbers_missing_in_test_rows_alone_add_no_feature(tmp_path: Path) -> None:
    pd.DataFrame({"x": [1.0, 2], "y": ["a", "b"]}).to_csv(tmp_path / "t.csv", index=False)
    pd.DataFrame({"x": [None, 5], "y": ["a", "b"]}).to_csv(tmp_path / "u.csv", index=False)
    made = table(tmp_path / "t.csv", "y", test="u.csv")
    selection = made.select(np.arange(2), np.arange(0))
    assert selection.input_shape == (len(made.feature_names),) == (1,)
    assert selection.test.tolist() == [[0], [7]]
