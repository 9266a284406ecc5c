# Databricks notebook source
# MAGIC %md
# MAGIC # 5 · Operations
# MAGIC
# MAGIC What happened in the last nights, whether anything drifts, what was refused, and how to let consumers read an
# MAGIC older run again. Everything here is read from what the nights have written: their tables (`runs`, `metrics`,
# MAGIC `quarantine`, ...) and the records of their stages. No stage is run.
# MAGIC
# MAGIC **Parameters**: `config` and `set` as in notebook 1, `run_id` of the run to look at (without it: the one that
# MAGIC began last), and `roll_back_to`, the id of a run to publish again. **As long as that is empty, this notebook
# MAGIC changes nothing.**

# COMMAND ----------

from cesrec_core.delta_io.runs import newest_run
from cesrec_core.report.pictures import HtmlTable
from cesrec_core.report.run_figures import checks_figure, runs_figure, stages_figure, tallies_figure, trends_figure
from cesrec_core.report.verdict import verdict
from cesrec_core.stages.maintain import roll_back
from cesrec_core.stages.notebook import open_notebook
from cesrec_core.stages.report_contents import run_lines

notebook = open_notebook("operations", globals().get("dbutils"), run_id="", roll_back_to="")
run_id = notebook.parameters["run_id"] or newest_run(notebook.warehouse)
report = notebook.reader(run_id).contents()

# COMMAND ----------

# MAGIC %md
# MAGIC ## The runs
# MAGIC
# MAGIC *published* were seen by consumers, *finished* passed every stage but stand for an older date, *refused* were
# MAGIC stopped by the audit, *failed* can be started again and go on where they stopped, *partial* are single stages.
# MAGIC The one in bold is read now. A run that resumed after a crash has its pause in its length.

# COMMAND ----------

runs_figure(run_lines(notebook.warehouse))

# COMMAND ----------

# MAGIC %md
# MAGIC ## The ten seconds at 8 a.m.

# COMMAND ----------

judged = verdict(report)
HtmlTable.of(("how serious", "what"), [(finding.level, finding.text) for finding in judged.findings], judged.headline)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Numbers from night to night
# MAGIC
# MAGIC The first row is what consumers notice. In the others look for *steps*, not for slopes: a step on a night on
# MAGIC which nothing was trained means that data or texts have changed. After a training steps are expected, and the
# MAGIC verdict above names what is new.

# COMMAND ----------

trends_figure([trend for trend in report.tiles if trend.points], "What consumers notice")

# COMMAND ----------

trends_figure(report.quality, "Quality, alignment and masks")

# COMMAND ----------

# MAGIC %md
# MAGIC **Drift.** *Alignment error* creeping up: new items read differently from those that the Adapter has learned
# MAGIC from; it is trained again above `train_adapter.max_alignment_drift`. *Masks that stayed* falling: the vectors
# MAGIC move so much that other items count as strays every night. *People with masked items* jumping: a length or space
# MAGIC has changed.
# MAGIC
# MAGIC ## Room to the limits
# MAGIC
# MAGIC A run is published only where every bar ends before the red line. What is close today is refused next week:
# MAGIC raise the limit on purpose or find the cause, before 2 a.m.

# COMMAND ----------

checks_figure(report.checks)

# COMMAND ----------

stages_figure(report.stages)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What was refused

# COMMAND ----------

tallies_figure(report.quarantine, "Refused rows, by source and reason", "Nothing was refused.")

# COMMAND ----------

tallies_figure(report.clarifications, "People who are asked what they meant, by reason", "Nobody needs to be asked.")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Roll back
# MAGIC
# MAGIC Publishing an older run again is one commit to `runs`, so consumers move from one whole run to another. No row
# MAGIC of any other table changes, and the newer run stays where it is: rolling forward is the same command with its
# MAGIC id. Only runs that passed their audit and whose rows `jobs/maintain.py` has not dropped can be read again.

# COMMAND ----------

if notebook.parameters["roll_back_to"]:
    roll_back(notebook.config, notebook.parameters["roll_back_to"])
runs_figure(run_lines(notebook.warehouse))

# COMMAND ----------

notebook.close()
