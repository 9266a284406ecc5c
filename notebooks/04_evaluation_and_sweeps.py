# Databricks notebook source
# MAGIC %md
# MAGIC # 4 · Evaluation and sweeps
# MAGIC
# MAGIC Does listening help, and which part of it? Of every history the newest item is held back. Somebody who *wants*
# MAGIC that item says so in terms of its attributes, and we ask at which rank each variant puts it among **all** items
# MAGIC of the catalogue.
# MAGIC
# MAGIC Three rules keep this honest, and you should ask for them wherever you see such figures:
# MAGIC
# MAGIC 1. **Every variant hears the same words.** A method that gets to know more wins for that reason alone. So the
# MAGIC    plain recommender with the words in its ranking ("base + re-rank") is a row of its own, and the one to beat.
# MAGIC 2. **Choose on validation, report on test, once.** Weights and sweeps below look at validation items only.
# MAGIC 3. **No mean without its interval.** Two hundred users leave NDCG@10 uncertain by several hundredths.
# MAGIC
# MAGIC So the models must not have learned the items that are held back: it takes models that were trained with
# MAGIC `dataset.split=leave_one_out`, as the demo's are and those of a `config` for every night (`all`) are not.
# MAGIC
# MAGIC **Parameters**: `config`, `run_date` and `set` as in notebook 1, and `max_users`, a seeded sample: more users,
# MAGIC narrower intervals, more minutes.

# COMMAND ----------

from cesrec_core.evaluation.sweeps import sweep_num_masked, sweep_weight
from cesrec_core.evaluation.variants import VARIANTS, choose_weights
from cesrec_core.report.evaluation_figures import differences_figure, rounds_figure, sweep_figure, variants_figure
from cesrec_core.stages.evaluate import evaluate, open_evaluator
from cesrec_core.stages.notebook import open_notebook

notebook = open_notebook(
    "evaluation and sweeps", globals().get("dbutils"), {"max_users": "evaluate.max_users"}, max_users="200"
)
evaluator, histories = open_evaluator(notebook.run)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What a weight is worth
# MAGIC
# MAGIC The re-ranking adds `attribute_weight` times the match of an item's attributes with the words. At 0 the words do
# MAGIC not count in the ranking; where it is very large, the history breaks ties at most. Simulated users name the
# MAGIC target's own attributes, so large weights look better here than they are with people, who are vague and change
# MAGIC their minds.

# COMMAND ----------

validation = evaluator.parts(evaluator.cases(histories, "validation"))
rerank = next(variant for variant in VARIANTS if variant.name == "base + re-rank")
grid = notebook.config.evaluate.weight_grid
chosen = choose_weights(validation, rerank, grid)
weights = sweep_weight(validation, rerank, "attribute", grid, chosen)
sweep_figure(weights)

# COMMAND ----------

# MAGIC %md
# MAGIC The dotted line is what `choose_weights` takes: the best mean, and among equals the smallest. A curve within its
# MAGIC own intervals all along says: *it does not matter much, leave it.*
# MAGIC
# MAGIC ## How many items to mask
# MAGIC
# MAGIC "mask only" drops the masked items and puts nothing there; "CESRec" fills the places. The gap between the two is
# MAGIC what the Constructor adds. If "mask only" falls with every masked item, those items carried something that the
# MAGIC recommender needs.

# COMMAND ----------

masks = sweep_num_masked(evaluator, validation.cases, [1, 2, 3])
sweep_figure(masks)

# COMMAND ----------

# MAGIC %md
# MAGIC ## The table: test items, once
# MAGIC
# MAGIC Green intervals lie above the base recommender's mean, red ones below it. The controls are there to disappoint
# MAGIC you: "random mask" fills random places, "popular items" fills the right places without reading, "feedback alone"
# MAGIC never looks at the history.

# COMMAND ----------

evaluated = evaluate(evaluator, histories)
variants_figure(evaluated.rows, evaluated.num_users)

# COMMAND ----------

# MAGIC %md
# MAGIC Intervals of two variants may overlap although one beats the other for nearly every user: the users are the
# MAGIC same. So differences are tested in pairs. What is grey may well be an accident.

# COMMAND ----------

differences_figure(evaluated.tests)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Another round of words
# MAGIC
# MAGIC After the first list the same users speak again of what they are shown, up to three times. A method that listens
# MAGIC should rise from left to right.

# COMMAND ----------

rounds_figure(evaluated.rounds)

# COMMAND ----------

notebook.close()

# COMMAND ----------

# MAGIC %md
# MAGIC `jobs/evaluate.py` measures the same for `evaluate.max_users` users and writes it down, where the page of a run
# MAGIC finds it.
# MAGIC
# MAGIC **Next:** 5, the nights as an operator sees them.
