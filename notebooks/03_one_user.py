# Databricks notebook source
# MAGIC %md
# MAGIC # 3 · One user
# MAGIC
# MAGIC Averages hide what a method does. Here is one person in the published run, from the history to the list: which
# MAGIC items were masked and why, what they said, how it was understood, what was put into their history, and what they
# MAGIC are recommended with and without their words.
# MAGIC
# MAGIC **Parameters**: `config`, `run_date` and `set` as in notebook 1, and `user_id`. Without one, somebody whose
# MAGIC history was rewritten. What you see is about a person: do not copy it elsewhere.

# COMMAND ----------

from cesrec_core.report.story_figures import (
    history_figure,
    lists_figure,
    masked_table,
    parts_figure,
    rewrite_figure,
    said_figure,
)
from cesrec_core.stages.notebook import open_notebook
from cesrec_core.stages.user_story import read_story, somebody_rewritten

notebook = open_notebook("one user", globals().get("dbutils"), user_id="")
user_id = notebook.parameters["user_id"] or somebody_rewritten(notebook.run)
story = read_story(notebook.run, user_id)

# COMMAND ----------

# MAGIC %md
# MAGIC ## The history, and what is masked
# MAGIC
# MAGIC Each line is an item, the oldest on top; it reaches as far to the right as the item is like the **core taste**,
# MAGIC the mean of all of them in the aligned space. Orange items are masked: the farthest away. A *deviation* is a
# MAGIC robust standard deviation of this person's own angles to it. Four and more is an item that does not belong;
# MAGIC below one the mask had to take something, because the paper's method always masks the same number.
# MAGIC `mask_outliers.is_adaptive` leaves such histories alone.

# COMMAND ----------

history_figure(story)

# COMMAND ----------

masked_table(story)

# COMMAND ----------

# MAGIC %md
# MAGIC The last column shows the items of the history that are most like the masked one. If those are many and close,
# MAGIC there is a *second taste*, and masking it is a loss. If they are not, it was a stray.
# MAGIC
# MAGIC ## What they said, and how it was understood
# MAGIC
# MAGIC Green is asked for, red turned down. The rest are the intents, and how sure the reading is. Vague or
# MAGIC contradictory words change nothing; they lead to a question instead.

# COMMAND ----------

said_figure(story)

# COMMAND ----------

# MAGIC %md
# MAGIC ## The rewrite
# MAGIC
# MAGIC On the left what left the history, in blue what came in its place with the Constructor's probability, and in
# MAGIC grey the runner-up. Ask three things: does what came fit the words? Does it fit the items that stayed? Was it a
# MAGIC clear decision?

# COMMAND ----------

rewrite_figure(story)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Recommendations, before and after
# MAGIC
# MAGIC Left: what the same models recommend from the history as it was, as if nothing had been said. Right: what was
# MAGIC published. Lines join what is on both lists. A good rewrite brings green items up without throwing the whole
# MAGIC list away: the person is still themselves.

# COMMAND ----------

lists_figure(story)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What put them there
# MAGIC
# MAGIC A score is a sum, in nats: the log-probability by the (rewritten) history, which is negative, and what the words
# MAGIC add. What was turned down takes away, in red. Where the green part is much longer than all others, words alone
# MAGIC decide, and the history hardly counts: `recommend.attribute_weight` is what to look at, in notebook 4.

# COMMAND ----------

parts_figure(story)

# COMMAND ----------

notebook.close()

# COMMAND ----------

# MAGIC %md
# MAGIC `jobs/explain_recommendation.py --user-id ... --item-id ...` says in one sentence why one item stands where it
# MAGIC does, also for items that are not on the list.
# MAGIC
# MAGIC **Next:** 4, whether it helps on average, and what the settings are worth.
