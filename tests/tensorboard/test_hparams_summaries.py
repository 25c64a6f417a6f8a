"""The HParams summaries; how TensorBoard shows them is in test_tensorboard_server.py."""

import pytest
from tensorboard.plugins.hparams import api_pb2, metadata

from lossbench.errors import InputError
from lossbench.tensorboard.hparams import (
    COLUMNS,
    hparams_summary,
    session_end_summary,
    session_group,
)


def started(values: dict, columns=COLUMNS):
    summary = hparams_summary(values, group="g", metrics=["a/b"], columns=columns, start_time=5.0)
    content = {value.tag: value.metadata.plugin_data.content for value in summary.value}
    return metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])


def kinds(values: dict, columns=COLUMNS) -> dict[str, str]:
    hparams = started(values, columns).hparams
    return {name: hparams[name].WhichOneof("kind") for name in hparams}


def test_a_column_has_one_type_whatever_the_value_is_and_none_is_left_out() -> None:
    values = {"factor": 100, "learning_rate": 1e-3, "epochs": "15", "loss": 3, "head": None}
    assert kinds(values) == {
        "factor": "number_value",
        "learning_rate": "number_value",
        "epochs": "number_value",
        "loss": "string_value",
    }
    assert kinds({"factor": 2.5, "weight_decay": float("nan")}) == {"factor": "number_value"}
    assert started({"epochs": "15"}).hparams["epochs"].number_value == 15


def test_more_columns_can_be_declared() -> None:
    assert kinds({"loss.gamma": 2}, {**COLUMNS, "loss.gamma": float}) == {
        "loss.gamma": "number_value"
    }


def test_a_value_without_a_column_is_refused_because_tensorboard_would_hide_it() -> None:
    with pytest.raises(InputError, match=r"unknown HParams column 'los'; did you mean 'loss'"):
        started({"los": "focal"})


@pytest.mark.parametrize("value", ["auto", [1.0, 2.0]])
def test_a_value_that_is_no_number_is_refused_in_a_column_of_numbers(value: object) -> None:
    with pytest.raises(InputError, match="'factor' holds numbers"):
        started({"factor": value})


def test_only_the_seed_may_differ_within_a_group() -> None:
    groups = {
        session_group(study, arm, cell)
        for study in ("s", "t")
        for arm in ("focal", "ldam")
        for cell in ("digits", "fashion")
    }
    assert len(groups) == 8
    assert session_group("s", "focal", "digits") == session_group("s", "focal", "digits")
    assert session_group("a", "b c", "d") != session_group("a b", "c", "d")


@pytest.mark.parametrize(
    ("success", "status"), [(True, api_pb2.STATUS_SUCCESS), (False, api_pb2.STATUS_FAILURE)]
)
def test_the_end_holds_status_and_time(success: bool, status: int) -> None:
    (value,) = session_end_summary(success=success, end_time=9.0).value
    end = metadata.parse_session_end_info_plugin_data(value.metadata.plugin_data.content)
    assert (value.tag, end.status, end.end_time_secs) == (
        metadata.SESSION_END_INFO_TAG,
        status,
        9.0,
    )
