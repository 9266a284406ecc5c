# Databricks notebook source
# MAGIC %md
# MAGIC # 2 · The nightly job, step by step
# MAGIC
# MAGIC The job is fourteen stages in a row. Here each runs alone, and you look at what it wrote before the next one
# MAGIC reads it. It is the real thing: at the end a run is published in the warehouse of the configuration. Use one of
# MAGIC your own.
# MAGIC
# MAGIC **The idea in four sentences.** A *sequential recommender* predicts from a history what comes next. When
# MAGIC somebody says "not another horror film", their history still says otherwise. CESRec therefore *rewrites* it: the
# MAGIC few items that do not fit the rest are masked, and a language model, the *Constructor*, fills the gaps with
# MAGIC items that fit both the words and the rest. The recommender then reads this **pseudo-sequence**, a history that
# MAGIC the person might as well have had, and needs no change to listen.
# MAGIC
# MAGIC **Parameters**: `config`, `run_date` and `set`, as in notebook 1.

# COMMAND ----------

from cesrec_core.report.data_figures import exposure_figure, history_lengths_figure
from cesrec_core.report.pictures import HtmlTable
from cesrec_core.report.run_figures import (
    checks_figure,
    counts_figure,
    histogram_figure,
    picture_of_file,
    stages_figure,
    tallies_figure,
)
from cesrec_core.report.story_figures import rewrites_table, said_table
from cesrec_core.report.vector_figures import item_map
from cesrec_core.stages.catalogue_features import assemble_features
from cesrec_core.stages.data_profile import read_exposure, read_profile
from cesrec_core.stages.notebook import open_notebook
from cesrec_core.stages.runner import tell_of_run
from cesrec_core.stages.user_story import intents_in_run, said_in_run

notebook = open_notebook("the nightly job step by step", globals().get("dbutils"))
run = notebook.run

# COMMAND ----------

# MAGIC %md
# MAGIC Opening the run has **pinned its inputs**: the version of each table, a hash of each file. Their hash, with that
# MAGIC of the configuration and the code, is the run's name. Starting the same run twice therefore does the work once,
# MAGIC and a stage whose inputs are what they were is skipped.

# COMMAND ----------

HtmlTable.of(("what", "pinned to"), [("run", run.run_id), ("date", run.run_date), *run.inputs.items()], "This run")

# COMMAND ----------

# MAGIC %md
# MAGIC ## 1 · ingest, 2 · build_sequences
# MAGIC
# MAGIC Raw rows become clean tables, and these become histories. Notebook 1 looks at them closely.

# COMMAND ----------

counts_figure(notebook.run_stage("ingest"), "ingest: rows")

# COMMAND ----------

notebook.run_stage("build_sequences")
history_lengths_figure(read_profile(notebook.warehouse))

# COMMAND ----------

# MAGIC %md
# MAGIC ## 3 · train_recommender
# MAGIC
# MAGIC The base recommender learns to predict each item from those before it. It never sees a word, and nothing later
# MAGIC in the method changes it. Training stops where validation stops rising. *Suspicious:* a validation curve that
# MAGIC still rises at the right edge (`train_recommender.max_epochs` is too small), or one that falls from the start
# MAGIC (it learns by heart).

# COMMAND ----------

notebook.run_stage("train_recommender")
picture_of_file(
    run.artifact("recommender")[0] / "learning_curve.png", "Loss and validation NDCG@10 of the recommender by epoch"
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## 4 · embed_items
# MAGIC
# MAGIC A language model reads each item's text once and gives it a vector: the **semantic** embedding. Items whose
# MAGIC texts are alike lie together, whoever takes them. The map shows the two directions in which the vectors differ
# MAGIC most. Colours should form patches; a single grey-and-coloured fog means that the texts say little about the
# MAGIC items.

# COMMAND ----------

notebook.run_stage("embed_items")
item_map(assemble_features(run, with_aligned=False), ["semantic"])

# COMMAND ----------

# MAGIC %md
# MAGIC ## 5 · train_adapter, 6 · project_items
# MAGIC
# MAGIC The recommender has vectors of its own, learned from behaviour: the **collaborative** embeddings. The two spaces
# MAGIC have nothing to do with each other until the *Adapter*, a small network, learns to turn the first into the
# MAGIC second. The result, the **aligned** embedding, exists for every item that has a text, also for those nobody has
# MAGIC taken yet.

# COMMAND ----------

notebook.run_stage("train_adapter")
picture_of_file(run.artifact("adapter")[0] / "learning_curve.png", "Error of the Adapter by epoch")

# COMMAND ----------

# MAGIC %md
# MAGIC An error near 1 (relative to the variance) would be no better than giving every item the mean. Below, both kinds
# MAGIC of vectors are seen from the same side: patches of one colour should lie in the same corner. Aligned points
# MAGIC usually lie closer together, since a text does not tell everything about who takes an item.

# COMMAND ----------

notebook.run_stage("project_items")
item_map(assemble_features(run, with_aligned=True), ["collaborative", "aligned"])

# COMMAND ----------

# MAGIC %md
# MAGIC ## 7 · mask_outliers
# MAGIC
# MAGIC In the aligned space the mean of a history is the person's core taste. The `num_masked` items farthest from it
# MAGIC are **masked**: they are the ones that may be replaced. Why those? A one-off, a gift, a mistake: they tell least
# MAGIC about the taste, so changing them costs least, and they are where the recommender is led astray most easily.
# MAGIC Masking the items that fit would destroy what makes the person recognisable.
# MAGIC
# MAGIC Masked items should lie clearly to the left. *Suspicious:* two humps on top of each other. Then the spaces are
# MAGIC not aligned, and the masks are as good as random.

# COMMAND ----------

notebook.run_stage("mask_outliers")
histogram_figure(notebook.reader().masks())

# COMMAND ----------

# MAGIC %md
# MAGIC ## 8 · finetune_constructor
# MAGIC
# MAGIC The Constructor is a language model with a few trainable weights (LoRA). It reads the words, the kept items and
# MAGIC the empty places, and learns to put items there. Training hides known items and makes up the words that would
# MAGIC have asked for them, so no human labels are needed. The loss should fall in steps and then flatten; what it is
# MAGIC worth is measured in notebook 4.

# COMMAND ----------

notebook.run_stage("finetune_constructor")
picture_of_file(run.artifact("constructor")[0] / "losses.png", "Losses of the Constructor by step")

# COMMAND ----------

# MAGIC %md
# MAGIC ## 9 · simulate_feedback, 10 · understand_feedback
# MAGIC
# MAGIC Where people have not said anything yet, simulated users speak of the item that was held back, in terms of its
# MAGIC attributes and never by its title. Then every utterance, simulated or not, is read: *what does it want, what
# MAGIC does it turn down, and is there anything to act on?*

# COMMAND ----------

notebook.run_stage("simulate_feedback")
notebook.run_stage("understand_feedback")
said_table(said_in_run(run, 12), "Twelve of the utterances, and how they were understood")

# COMMAND ----------

# MAGIC %md
# MAGIC Read them. This table is the cheapest quality check of the whole night: an utterance that you understand and the
# MAGIC job does not is a word that the vocabulary lacks.

# COMMAND ----------

counts_figure(intents_in_run(run), "Intents: what people do with their words")

# COMMAND ----------

# MAGIC %md
# MAGIC ## 11 · construct_pseudo_sequences
# MAGIC
# MAGIC For each person who spoke, round by round: masked places are filled, the result is checked (no unknown item,
# MAGIC none that was turned down, none twice), and kept only if it holds. Otherwise the history stays as it was, under
# MAGIC a reason.

# COMMAND ----------

notebook.run_stage("construct_pseudo_sequences")
rewrites_table(list(notebook.reader().rewrites()), "Rewrites, with the words that caused them")

# COMMAND ----------

# MAGIC %md
# MAGIC A **probability** near 1 means that the Constructor saw no alternative; a small lead over the runner-up that
# MAGIC either would have done. What came should fit the words *and* the kept items. If the same item comes for
# MAGIC everybody, the Constructor has fallen back on popularity.

# COMMAND ----------

num_changed, kept = notebook.reader().rounds()
tallies_figure(kept, f"{num_changed:,} rounds changed a history; why the others did not", "Every round changed a history.")

# COMMAND ----------

# MAGIC %md
# MAGIC ## 12 · recommend
# MAGIC
# MAGIC Those who spoke are scored on their pseudo-sequence, and their words count once more in the ranking; everybody
# MAGIC else gets the base recommender on their own history. Below each dot is an item: how often it was taken, and on
# MAGIC how many lists it stands. Dots along the bottom are never shown to anyone. If only the right edge is shown, the
# MAGIC night recommends what is popular.

# COMMAND ----------

notebook.run_stage("recommend")
exposure_figure(read_exposure(notebook.warehouse, run.run_id))

# COMMAND ----------

# MAGIC %md
# MAGIC ## 13 · audit, 14 · publish
# MAGIC
# MAGIC The audit counts what must never happen (a duplicate, an item that was turned down) and measures what may move
# MAGIC only so far. If anything is over its limit, the stage stops with an error and nobody sees this run: consumers go
# MAGIC on reading the one before. Orange is close to a limit, red is over it; a thin grey line was not measured.

# COMMAND ----------

notebook.run_stage("audit")
checks_figure(list(notebook.reader().checks()))

# COMMAND ----------

# MAGIC %md
# MAGIC Publishing is **one commit** to the table `runs`. Before it consumers see nothing of this run, after it all of
# MAGIC it.

# COMMAND ----------

notebook.run_stage("publish")
told = tell_of_run(run)
stages_figure(list(notebook.reader().stages()))

# COMMAND ----------

# MAGIC %md
# MAGIC The same as one page to keep and mail: `told["report"]` says where it lies.

# COMMAND ----------

notebook.close()

# COMMAND ----------

# MAGIC %md
# MAGIC **Next:** 3, what all this did for one person.
