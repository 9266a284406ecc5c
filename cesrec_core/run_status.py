"""What may stand in the column `status` of the table `runs`."""

RUNNING, REFUSED, FAILED = "running", "refused", "failed"
# Through all stages and read by consumers; through all and not published; through single stages only.
PUBLISHED, FINISHED, PARTIAL = "published", "finished", "partial"
ALL = (RUNNING, PUBLISHED, FINISHED, PARTIAL, REFUSED, FAILED)
# All stages have been through it, so that it may be published again.
DONE = (PUBLISHED, FINISHED)
# All stages but publishing have been through it.
AT_AN_END = (*DONE, REFUSED)
