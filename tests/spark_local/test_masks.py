from pyspark.sql import SparkSession

from cesrec_core.frames.masks import mask_pairs

MASKS = "user_id string, masked_positions array<int>, similarities array<float>"


def test_pairs_are_of_users_whose_history_did_not_grow_and_some_of_whose_items_are_masked(spark: SparkSession) -> None:
    three, four = [0.1, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4]
    then = [
        ("same", [1], three),
        ("moved", [1], three),
        ("whole now", [1], three),
        ("whole", [], three),
        ("grew", [1], three),
        ("left", [1], three),
    ]
    now = [
        ("same", [1], three),
        ("moved", [2], three),
        ("whole now", [], three),
        ("whole", [], three),
        ("grew", [1], four),
        ("new", [1], three),
    ]
    pairs = mask_pairs(spark.createDataFrame(now, MASKS), spark.createDataFrame(then, MASKS))
    assert {row["user_id"]: row["is_same"] for row in pairs.collect()} == {"same": True, "moved": False, "whole now": False}
