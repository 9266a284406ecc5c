"""Runs stages in order: plans each one from what changed, resumes after a crash, and sums the run up."""

import dataclasses
import datetime as dt
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from cesrec_core import __version__, logs, run_status
from cesrec_core.actors.session import RaySession
from cesrec_core.config import Config
from cesrec_core.delta_io.runs import Run, find_run, latest_begun, latest_published, write_run
from cesrec_core.delta_io.session import refuse_pattern, spark_session
from cesrec_core.delta_io.warehouse import Warehouse
from cesrec_core.errors import (
    BusyError,
    CesrecError,
    ConfigError,
    InputDataError,
    QualityGateError,
    StageError,
    attach_run,
)
from cesrec_core.hashing import short_hash
from cesrec_core.run_dates import lies_ahead
from cesrec_core.schemas import FEEDBACK, RUNS, TABLES
from cesrec_core.stages.context import (
    ARTIFACT_STAGES,
    RunContext,
    Stage,
    StageResult,
    StageState,
    read_record,
    read_state,
    write_record,
    write_state,
    writing_to,
)
from cesrec_core.stages.ingest import locate_sources, pin_sources
from cesrec_core.stages.journal import FAILED, RAN, SKIPPED, note, read_journal
from cesrec_core.stages.report import report_of_run, why_not
from cesrec_core.stages.tracking import track_run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """Whether a stage runs, and why."""

    is_needed: bool
    reason: str


def open_run(
    config: Config,
    spark: SparkSession,
    ray: RaySession,
    today: dt.date,
    goes_on_with_begun: bool = False,
    or_ended: bool = False,
) -> RunContext:
    """Pin the inputs and name the run. Nothing is written. What is logged from here on names the run, too.

    Args:
        goes_on_with_begun: for the jobs of later stages. Where inputs have changed since an unfinished run of this date,
            configuration and code began, go on with that one and its pins.
        or_ended: or with one that has ended, if none has begun since: for who publishes, and may have been lost right after it.

    Raises:
        ConfigError, InputDataError: a source is not configured, missing, or cannot be pinned; or the warehouse's folder cannot
            be written to.
    """
    warehouse = Warehouse(spark, config.warehouse)
    run_date = dt.date.fromisoformat(config.run.run_date) if config.run.run_date else today
    if lies_ahead(run_date, dt.datetime.combine(today, dt.time())):
        log.warning("%s lies ahead. Once that is published, no night before it is, unless by jobs/roll_back.py.", run_date)
    check_warehouse_folder(warehouse.path)
    try:
        sources = locate_sources(config.dataset)
        inputs = pin_sources(spark, sources)
    except OSError as error:
        raise InputDataError(
            f"{error.filename} cannot be read: {error.strerror}. Give this user the right to read the dataset, or name another."
        ) from None
    inputs["feedback_table"] = str(warehouse.version_by_others(FEEDBACK) if warehouse.exists(FEEDBACK) else 0)
    run_id = short_hash([run_date.isoformat(), inputs, config.result_hash(), __version__])
    if goes_on_with_begun and (begun := _begun_before(warehouse, config, run_id, run_date, or_ended)) is not None:
        moved = sorted(
            name for name in begun.input_versions.keys() | inputs if begun.input_versions.get(name) != inputs.get(name)
        )
        log.info("Run %s began before %s changed: this job goes on with it.", begun.run_id, ", ".join(moved))
        run_id, inputs = begun.run_id, begun.input_versions
    logs.enter_run(run_id)
    return RunContext(config, spark, warehouse, ray, run_id, run_date, sources, inputs)


def _begun_before(warehouse: Warehouse, config: Config, run_id: str, run_date: dt.date, or_ended: bool) -> Run | None:
    """The run that began last, unfinished unless `or_ended`; None where the run `run_id` has begun itself."""
    if not warehouse.exists(RUNS) or find_run(warehouse, run_id) is not None:
        return None
    return latest_begun(warehouse, run_date, config.result_hash(), __version__, or_ended)


def check_warehouse_folder(path: Path) -> None:
    """Refuse a folder that the run could not write to, before any work is done.

    Raises:
        ConfigError: a part of the path is a file, or this user may not write there.
    """
    try:
        existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    except OSError as error:
        raise ConfigError(f"warehouse.path is {path}, which cannot be made: {error.strerror}. Name another folder.") from None
    if not existing.is_dir():
        raise ConfigError(f"warehouse.path is {path}, but {existing} is a file. Name a folder.")
    refuse_pattern("warehouse.path", path)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"warehouse.path is {path}, and this user may not write to {existing}. Name a folder that it may.")


def decide(stage: Stage, context: RunContext, changing: frozenset[str] = frozenset(), is_resuming: bool = True) -> Decision:
    """Whether `stage` has to run in this run.

    Args:
        changing: outputs of earlier stages that are going to change: for plans made ahead of the work.
        is_resuming: whether what this run did before it was interrupted still holds. It does not once an earlier stage had
            to run, or another run has overtaken this one.
    """
    if is_resuming and read_record(context.stage_path(stage.name) / "done.json") is not None:
        return Decision(False, "done already in this run")
    if stage.fingerprint is None:
        return Decision(True, "every run writes its own rows")
    state = read_state(context.warehouse.path, stage.name)
    if state is None:
        return Decision(True, "has not run in this warehouse yet")
    ahead = [name for name in stage.reads if name in changing]
    # Data may move on without an artifact; another artifact before it is always a reason.
    if ahead and (stage.good_enough is None or not ARTIFACT_STAGES.keys().isdisjoint(ahead)):
        return Decision(True, f"{' and '.join(ahead)} will change")
    current = _fingerprint(stage, context)
    changed = sorted(name for name in current if current[name] != state.fingerprint.get(name))
    if not changed:
        return Decision(False, f"nothing it reads changed since run {state.run_id}")
    kept = stage.good_enough(context) if stage.good_enough is not None else None
    if kept is not None:
        return Decision(False, kept)
    before = ", ".join(f"{name} ({state.fingerprint.get(name, 'new')} -> {current[name]})" for name in changed)
    return Decision(True, f"changed: {before}")


def was_overtaken(context: RunContext) -> bool:
    """Whether another run wrote shared tables or artifacts after this one, unfinished, had begun: its work is of two worlds."""
    ours = [record.stat().st_mtime for record in context.work_path.glob("*/done.json")]
    if not ours or _is_done(context):
        return False
    for record in (context.warehouse.path / "state").glob("*.json"):
        state = read_state(context.warehouse.path, record.stem)
        # Without a fingerprint a stage writes rows of its own run alone.
        is_shared_and_anothers = state is not None and bool(state.fingerprint) and state.run_id != context.run_id
        if is_shared_and_anothers and record.stat().st_mtime > min(ours):
            return True
    return False


def _is_done(context: RunContext) -> bool:
    run = find_run(context.warehouse, context.run_id) if context.warehouse.exists(RUNS) else None
    return run is not None and run.status in run_status.DONE


def _fingerprint(stage: Stage, context: RunContext) -> dict[str, str]:
    """Another version of this code may clean, cut or embed in another way."""
    return {**stage.fingerprint(context), "code": __version__} if stage.fingerprint is not None else {}


def lost_outputs(stages: Sequence[Stage], context: RunContext) -> list[str]:
    """Tables and artifacts that the stages' records say were written, and that somebody has since removed."""
    lost = []
    for stage in stages:
        state = read_state(context.warehouse.path, stage.name)
        if state is None:
            continue
        lost += [name for name in stage.writes if name in TABLES and not context.warehouse.exists(TABLES[name])]
        kinds = [kind for kind, maker in ARTIFACT_STAGES.items() if maker == stage.name and state.artifact_id]
        lost += [kind for kind in kinds if not context.artifact_path(kind, str(state.artifact_id)).is_dir()]
    return sorted(set(lost))


def check_wiring(stages: Sequence[Stage]) -> None:
    """Refuse a list of stages in which something is read that no stage before it writes, or the run is never published.

    Raises:
        ConfigError: names the stage and what it lacks.
    """
    written: set[str] = set()
    for stage in stages:
        missing = [name for name in stage.reads if name not in written]
        if missing:
            raise ConfigError(
                f"Stage {stage.name} reads {missing[0]}, which no stage before it writes. Put its writer before it."
            )
        written.update(stage.writes)
    unwritten = [name for name in (*TABLES, *ARTIFACT_STAGES) if name not in written]
    if unwritten:
        raise ConfigError(f"No stage writes {unwritten[0]}. Put its writer into the list.")


def check_all(stages: Sequence[Stage], context: RunContext) -> None:
    """Find out now what would stop a stage later, when tables have been changed and hours gone."""
    for stage in stages:
        if stage.check is not None:
            stage.check(context)


def plan(stages: Sequence[Stage], context: RunContext) -> list[tuple[Stage, Decision]]:
    """What a run would do, without doing it."""
    changing: set[str] = set()
    decisions = []
    lost = lost_outputs(stages, context)
    is_resuming = not was_overtaken(context)
    for stage in stages:
        try:
            decision = decide(stage, context, frozenset(changing), is_resuming and not changing)
            if lost and not context.is_kept_when_forgetting(stage.name):
                decision = Decision(True, f"{lost[0]} was written by an earlier run, and is not there any more")
        except CesrecError:
            # What it reads does not exist yet: an earlier stage of this run makes it.
            decision = Decision(True, "what it reads is made by this run")
        if decision.is_needed:
            changing.update(stage.writes)
        decisions.append((stage, decision))
    return decisions


def describe_plan(decisions: Sequence[tuple[Stage, Decision]], context: RunContext) -> str:
    """The plan as text: one line per stage, with its rows and its time in the last run that needed it."""
    lines = [f"Plan of run {context.run_id} for {context.run_date.isoformat()}"]
    for stage, decision in decisions:
        work = _estimate(stage, context) if decision.is_needed else ""
        lines.append(f"  {'run ' if decision.is_needed else 'skip'}  {stage.name:<28}{decision.reason}{work}")
    return "\n".join(lines)


def _estimate(stage: Stage, context: RunContext) -> str:
    tables = [TABLES[name] for name in stage.reads if name in TABLES and not TABLES[name].is_per_run]
    rows = [f"{context.warehouse.num_rows(table)} rows of {table.name}" for table in tables if context.warehouse.exists(table)]
    state = read_state(context.warehouse.path, stage.name)
    before = [f"{state.seconds:.0f} s last time"] if state is not None else []
    return f" ({', '.join([*rows, *before])})" if rows or before else ""


def run_stage(stage: Stage, context: RunContext) -> float:
    """Run one stage, remember that it is done, and return its seconds."""
    started = time.monotonic()
    fingerprint = _fingerprint(stage, context)
    context.num_tokens = 0
    result = stage.run(context)
    if context.num_tokens:
        result = dataclasses.replace(result, metrics={**result.metrics, "model_tokens": context.num_tokens})
    seconds = time.monotonic() - started
    context.results[stage.name] = result
    state = StageState(
        fingerprint,
        context.run_id,
        round(seconds, 2),
        dict(result.counts),
        dict(result.metrics),
        result.artifact_id,
        dict(result.notes),
    )
    write_state(context.warehouse.path, stage.name, state)
    write_record(context.stage_path(stage.name) / "done.json", state)
    return seconds


def execute(stages: Sequence[Stage], context: RunContext, earlier: Sequence[Stage] = ()) -> dict[str, Any]:
    """Run the stages that have to run, and return the summary that a job prints last.

    Args:
        earlier: stages of the nightly job before these, which jobs of their own have run.

    Raises:
        BusyError: another run is writing to this warehouse.
        InputDataError: an earlier stage whose rows belong to this run has not been run.
        CesrecError: a stage failed; the run can be started again and resumes there.
    """
    with writing_to(context.warehouse.path):
        return _execute(stages, context, earlier)


def _execute(stages: Sequence[Stage], context: RunContext, earlier: Sequence[Stage]) -> dict[str, Any]:
    started = time.monotonic()
    lost = lost_outputs(stages, context)
    if stages[-1].name == "publish" and not lost and _is_done(context):
        return _nothing_to_do(context, time.monotonic() - started)
    check_all(stages, context)
    if lost:
        log.warning("%s: written by an earlier run, and not there any more. What depends on it is made again.", ", ".join(lost))
        context.forget()
    if was_overtaken(context):
        if earlier:
            # The records stay, so that every later stage of this run is told the same.
            raise InputDataError(
                f"Another run has written to this warehouse since run {context.run_id} began, whose stages would go on with "
                "data of both. Begin it again: run jobs/ingest.py with the same date and configuration, then the others."
            )
        log.warning("Another run has written to this warehouse since run %s was interrupted. It begins anew.", context.run_id)
        context.begin_anew()
    _recall_earlier(earlier, stages, context)
    seconds: dict[str, float] = {}
    skipped: dict[str, str] = {}
    started_at = dt.datetime.now(dt.UTC)
    has_begun = bool(earlier)
    if has_begun:
        _mark(context, started_at, run_status.RUNNING)
    try:
        for number, stage in enumerate(stages, start=1):
            logs.enter_stage(stage.name)
            stage_started = time.monotonic()
            decision = decide(stage, context, is_resuming=not seconds)
            verb = "run " if decision.is_needed else "skip"
            log.info("[%d/%d] %s %s: %s", number, len(stages), verb, stage.name, decision.reason)
            if decision.is_needed:
                seconds[stage.name] = round(run_stage(stage, context), 2)
                note(context, stage.name, RAN, decision.reason)
                counts = context.results[stage.name].counts
                fields = {"seconds": seconds[stage.name], "counts": dict(counts)}
                log.info("      %s in %.1f s%s", stage.name, seconds[stage.name], _as_text(counts), extra={"fields": fields})
            else:
                skipped[stage.name] = decision.reason
                note(context, stage.name, SKIPPED, decision.reason, stands_on=_recall(stage, context).run_id)
            if not has_begun:
                _mark(context, started_at, run_status.RUNNING)
                has_begun = True
    except BaseException as error:
        # What the first stage of all refuses has changed no table, and that shall stay so.
        _record_end(stage, context, started_at if has_begun else None, error, time.monotonic() - stage_started)
        raise
    logs.enter_stage(None)
    if stages[-1].name != "publish":
        _mark(context, started_at, run_status.PARTIAL)
    seconds["total"] = round(time.monotonic() - started, 2)
    return {
        "run_id": context.run_id,
        "status": run_status.PUBLISHED if _is_published(context, stages) else "done",
        "counts": {name: dict(result.counts) for name, result in context.results.items() if result.counts and name in seconds},
        "skipped": skipped,
        "seconds": seconds,
        "metrics": {stage.name: dict(of.metrics) for stage in stages if (of := context.results[stage.name]).metrics},
    }


def _nothing_to_do(context: RunContext, seconds: float) -> dict[str, Any]:
    """The summary of a run that is done already; it names the run that consumers read, which may be another."""
    published = latest_published(context.warehouse)
    if published is not None:
        # Whoever published it may not have had the right to.
        context.warehouse.create_published_views(published)
    log.info("Run %s is done already: same date, inputs, configuration and code. Nothing to do.", context.run_id)
    if published != context.run_id:
        log.info(
            "Consumers read run %s. To let them read this one: jobs/roll_back.py --run-id %s",
            published or "none",
            context.run_id,
        )
    return {
        "run_id": context.run_id,
        "status": "nothing_to_do",
        "published_run_id": published,
        "seconds": {"total": round(seconds, 2)},
    }


def _is_published(context: RunContext, stages: Sequence[Stage]) -> bool:
    result = context.results.get(stages[-1].name)
    return stages[-1].name == "publish" and result is not None and bool(result.counts.get("published"))


def run_job(
    config: Config, stages: Sequence[Stage], is_dry_run: bool, app_name: str, earlier: Sequence[Stage] = ()
) -> dict[str, Any]:
    """A whole job: session, plan, work, summary. Ray is shut down in any case.

    Args:
        earlier: stages of the nightly job before these; see `execute`.
    """
    spark = spark_session(config.spark, app_name)
    with RaySession(config.ray) as ray:
        publishes_alone = bool(earlier) and stages[0].name == "publish"
        context = open_run(config, spark, ray, dt.datetime.now(dt.UTC).date(), bool(earlier), or_ended=publishes_alone)
        if not is_dry_run:
            return _execute_and_tell(stages, context, earlier)
        check_all(stages, context)
        decisions = plan(stages, context)
        print(describe_plan(decisions, context), flush=True)
        planned = [stage.name for stage, decision in decisions if decision.is_needed]
        return {"run_id": context.run_id, "status": "dry_run", "stages": planned}


def _execute_and_tell(stages: Sequence[Stage], context: RunContext, earlier: Sequence[Stage] = ()) -> dict[str, Any]:
    """The work, and where it has come to the run's end, well or not, the page about it and the tracking server's record."""
    is_at_the_end = stages[-1].name == "publish"
    started_at = dt.datetime.now(dt.UTC)
    try:
        summary = execute(stages, context, earlier)
    except BaseException as error:
        # Of a run that is another process's work now, that process tells; who is asked to end has no time to.
        is_ours = isinstance(error, Exception) and not isinstance(error, BusyError)
        attach_run(error, context.run_id, _tell_of_end(context, stages[0], started_at) if is_ours else {})
        raise
    return summary | tell_of_run(context, keeps_page=summary["status"] == "nothing_to_do") if is_at_the_end else summary


def _tell_of_end(context: RunContext, first: Stage, started_at: dt.datetime) -> dict[str, Any]:
    """Page and record of a run that has ended badly, and of one that its first stage stopped the page alone.

    What is refused before any work leaves a run as it was, and its page.
    """
    try:
        run = find_run(context.warehouse, context.run_id) if context.warehouse.exists(RUNS) else None
    except Exception:
        # Whoever writes the page is told the same, and says so.
        return tell_of_run(context)
    if run is not None:
        return tell_of_run(context) if run.status in (run_status.FAILED, run_status.REFUSED) else {}
    entry = read_journal(context.work_path).get(first.name)
    if entry is None or entry.outcome != FAILED:
        return {}
    unrecorded = _row(context, started_at, run_status.FAILED)
    return report_of_run(context.warehouse, context.config, context.run_id, unrecorded=unrecorded)


def tell_of_run(context: RunContext, keeps_page: bool = False) -> dict[str, Any]:
    """What comes after the last commit, and can fail the run no more.

    Args:
        keeps_page: a page that is there says all already.
    """
    page = report_of_run(context.warehouse, context.config, context.run_id, keeps_page)
    return page | track_run(context.warehouse, context.config, context.run_id)


def _recall(stage: Stage, context: RunContext) -> StageState:
    """Let later stages see what a skipped stage measured when it ran."""
    state = read_record(context.stage_path(stage.name) / "done.json") or read_state(context.warehouse.path, stage.name)
    if state is None:
        raise StageError(
            f"Stage {stage.name} was skipped, but nothing is known of its last run. Remove the state folder and run again."
        )
    context.results[stage.name] = _result_of(state)
    return state


def _result_of(state: StageState) -> StageResult:
    return StageResult(state.counts, state.metrics, state.artifact_id, state.notes)


def _recall_earlier(earlier: Sequence[Stage], stages: Sequence[Stage], context: RunContext) -> None:
    """Let the stages see what those before them measured, in jobs of their own.

    Raises:
        InputDataError: one of those writes rows of its run that these read, and has not been run in this one.
    """
    read = {name for stage in stages for name in stage.reads}
    for stage in earlier:
        state = read_record(context.stage_path(stage.name) / "done.json")
        if state is None and stage.fingerprint is not None:
            state = read_state(context.warehouse.path, stage.name)
        if state is not None:
            context.results[stage.name] = _result_of(state)
        elif stage.fingerprint is None and not read.isdisjoint(stage.writes):
            raise InputDataError(
                f"Run {context.run_id} of {context.run_date.isoformat()} has not been through {stage.name}, which "
                f"{stages[0].name} needs. Run jobs/{stage.name}.py with the same date and configuration first."
            )


def _record_end(
    stage: Stage, context: RunContext, started_at: dt.datetime | None, error: BaseException, seconds: float
) -> None:
    """Journal and, where it has begun, status of a run that any error stopped. What cannot be recorded does not hide it."""
    status = run_status.REFUSED if isinstance(error, QualityGateError) else run_status.FAILED
    records: list[Callable[[], None]] = [lambda: note(context, stage.name, FAILED, why_not(error), seconds=seconds)]
    if started_at is not None:
        records.append(lambda: _mark(context, started_at, status))
    for record in records:
        try:
            record()
        except Exception as another:
            log.warning("The end of run %s could not be recorded: %s", context.run_id, why_not(another))


def _mark(context: RunContext, started_at: dt.datetime, status: str) -> None:
    """Record the run's status, where there are tables to record it in. A run that is done stays so, whatever is retried."""
    if not context.warehouse.exists(RUNS):
        return
    before = find_run(context.warehouse, context.run_id)
    if before is not None and before.status in run_status.DONE:
        return
    row = _row(context, before.started_at if before is not None else started_at, status)
    if status == run_status.REFUSED:
        # What the audit refuses was made by these; a run that stops before it may not know all of its own yet.
        row = dataclasses.replace(row, artifact_ids={kind: context.artifact_id(kind) for kind in ARTIFACT_STAGES})
    write_run(context.warehouse, row)


def _row(context: RunContext, started_at: dt.datetime, status: str) -> Run:
    return Run(
        run_id=context.run_id,
        run_date=context.run_date,
        status=status,
        input_versions=context.inputs,
        config_hash=context.config.result_hash(),
        code_version=__version__,
        started_at=started_at,
        finished_at=None if status == run_status.RUNNING else dt.datetime.now(dt.UTC),
    )


def _as_text(counts: Mapping[str, int]) -> str:
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f" ({text})" if text else ""
