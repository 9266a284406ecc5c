# Databricks notebook source
# MAGIC %md
# MAGIC # 1 · Look at the data
# MAGIC
# MAGIC CESRec reads two things: what people **did** (a history of items for each person) and what they **said** about
# MAGIC yesterday's recommendations. Before a model sees either, look at them. Most bad recommendations begin here: with
# MAGIC histories that are too short to show a taste, a handful of items that everybody has, or attributes that hardly
# MAGIC any item carries.
# MAGIC
# MAGIC **Parameters**: `config`, a YAML file; `run_date`; and `set`, what jobs are told by `--set`, such as
# MAGIC `warehouse.schema_name=main.cesrec warehouse.path=/Volumes/main/cesrec/warehouse` where the job of the bundle
# MAGIC has run. On Databricks they are widgets above; elsewhere the environment variables `CESREC_CONFIG`,
# MAGIC `CESREC_RUN_DATE` and `CESREC_SET`. Without them: `conf/databricks.yaml` there, `conf/local.yaml` here.

# COMMAND ----------

from cesrec_core.report.data_figures import (
    activity_figure,
    attributes_figure,
    density_figure,
    feedback_figure,
    history_lengths_figure,
    popularity_figure,
)
from cesrec_core.report.run_figures import counts_figure, tallies_figure
from cesrec_core.stages.data_profile import read_profile
from cesrec_core.stages.notebook import open_notebook

notebook = open_notebook("look at the data", globals().get("dbutils"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Ingest, and build the histories
# MAGIC
# MAGIC `ingest` reads the sources as they are, cleans them, and refuses what cannot be used. `build_sequences` sorts
# MAGIC each person's items by time. Both are the very stages of the nightly job; where nothing has changed since they
# MAGIC last ran, they are skipped and what is there is read.

# COMMAND ----------

ingested = notebook.run_stage("ingest")
built = notebook.run_stage("build_sequences")
counts_figure({**ingested, **built}, "What came in")

# COMMAND ----------

# MAGIC %md
# MAGIC **Refused rows** lie in the table `quarantine`, each with its reason. A few are normal. A reason that appears
# MAGIC overnight, or a share that grows, means that somebody upstream changed a format.

# COMMAND ----------

tallies_figure(list(notebook.reader().quarantine()), "Refused rows, by source and reason", "Nothing was refused.")

# COMMAND ----------

# MAGIC %md
# MAGIC ## How much is known of each person
# MAGIC
# MAGIC The method masks the few items of a history that lie far from a person's **core taste**, the mean of all of
# MAGIC them. Of five items there is hardly a core to be far from. So look at the left end: people with fewer than
# MAGIC `mask_outliers.num_masked + mask_outliers.min_kept_items` items are never masked, and their words count in the
# MAGIC ranking alone.
# MAGIC
# MAGIC *Suspicious:* a spike at one length (an export that was cut off), or a few histories of thousands (a robot, or a
# MAGIC shop's own account).

# COMMAND ----------

profile = read_profile(notebook.warehouse)
history_lengths_figure(profile)

# COMMAND ----------

activity_figure(profile)

# COMMAND ----------

# MAGIC %md
# MAGIC A gap in time is a delivery that failed; a jump is a new source or a campaign. If everything lies on one day,
# MAGIC the timestamps are those of an export, and the order of the histories means nothing.
# MAGIC
# MAGIC ## How unequal items are
# MAGIC
# MAGIC The curve starts with the most popular item and adds the others one by one. The more it bulges, the more of what
# MAGIC happens is about few items. Recommending just those is then hard to beat, which is why the audit compares the
# MAGIC base recommender with popularity (`audit.min_ndcg_over_popularity`).

# COMMAND ----------

popularity_figure(profile)

# COMMAND ----------

# MAGIC %md
# MAGIC ## How empty the table is
# MAGIC
# MAGIC Think of a table with a row for each person and a column for each item. Nearly all of it is empty, and not
# MAGIC evenly so: each cell below tells which share is filled for histories of one size and items of one popularity. At
# MAGIC the lower left the recommender has next to nothing to go by. That is where the **text** of an item helps: the
# MAGIC Adapter (notebook 2) places items by what is written about them into the space that the recommender learned from
# MAGIC behaviour.

# COMMAND ----------

density_figure(profile)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What can be asked for
# MAGIC
# MAGIC Words are understood in terms of the catalogue's own attributes: "something lighter" helps only if some
# MAGIC attribute says *light*. Compare both bars. Where the blue one is longer, people take more of it than the
# MAGIC catalogue offers; such an attribute tells two items apart less well. An attribute that four of five items carry
# MAGIC tells nothing at all.

# COMMAND ----------

attributes_figure(profile)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What has been said
# MAGIC
# MAGIC `human` are people's own words, `rating` and `review` are derived from what they gave to items, and
# MAGIC `simulated_...` are utterances that the job makes up for demonstration and measurement. A run with
# MAGIC `simulate_feedback.num_users: 0` never listens to those.

# COMMAND ----------

feedback_figure(profile)

# COMMAND ----------

notebook.close()

# COMMAND ----------

# MAGIC %md
# MAGIC **Next:** 2, the nightly job step by step.
