import pytest

from cesrec_core.sequences import input_and_target, observed_part, training_part

HISTORY = ["a", "b", "c", "d"]


def test_leave_one_out() -> None:
    assert training_part(HISTORY, "leave_one_out") == ["a", "b"]
    assert observed_part(HISTORY, "leave_one_out") == ["a", "b", "c"]
    assert input_and_target(HISTORY, "validation") == (["a", "b"], "c")
    assert input_and_target(HISTORY, "test") == (["a", "b", "c"], "d")


def test_split_all_hides_nothing() -> None:
    assert training_part(HISTORY, "all") == HISTORY
    assert observed_part(HISTORY, "all") == HISTORY


@pytest.mark.parametrize("length", [0, 1, 2])
def test_short_histories_are_training_data_only(length: int) -> None:
    short = HISTORY[:length]
    assert training_part(short, "leave_one_out") == short
    assert observed_part(short, "leave_one_out") == short
    assert input_and_target(short, "validation") is None
    assert input_and_target(short, "test") is None


@pytest.mark.parametrize("length", range(3, 8))
def test_no_model_is_trained_on_what_it_is_judged_by(length: int) -> None:
    history = list(range(length))
    trained_on = training_part(history, "leave_one_out")
    for moment in ("validation", "test"):
        case = input_and_target(history, moment)  # type: ignore[arg-type]
        assert case is not None
        inputs, target = case
        assert target not in trained_on
        assert target not in inputs
        assert list(inputs) == history[:target]
