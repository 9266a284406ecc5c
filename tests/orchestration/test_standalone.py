"""The part of `make standalone` that there is time for in the suite: a stage, and who runs which library."""

from pathlib import Path

import pytest
from standalone import (
    CORES_PER_WORKER,
    JOBS,
    MARK,
    ask,
    build_wheel,
    check_libraries,
    check_nothing_goes_on,
    cluster,
    on_cluster,
    submit,
)
from tiny_world import NUM_ITEMS, RUN_DATE, write_tiny_world


@pytest.mark.slow
def test_a_master_and_two_workers_run_a_stage_from_the_wheel_and_so_does_ray_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, str(tmp_path))
    wheel = build_wheel(tmp_path / "tree")
    config = write_tiny_world(tmp_path / "world")
    for name in ("events", "empty"):
        (tmp_path / name).mkdir()
    with cluster(tmp_path) as (master, page):
        ingest = JOBS / "ingest.py"
        summary = submit(tmp_path, wheel, ingest, on_cluster(tmp_path, master), ["--config", config, "--run-date", RUN_DATE])
        (application,) = ask(page)["completedapps"]
        check_libraries(tmp_path, wheel, master, config)
    assert summary["status"] == "done" and summary["counts"]["ingest"]["items"] == NUM_ITEMS, summary
    assert (application["cores"], application["state"]) == (2 * CORES_PER_WORKER, "FINISHED")
    check_nothing_goes_on(str(tmp_path))
