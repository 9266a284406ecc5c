"""The worker of construct_pseudo_sequences with decoders of titles: rows of the table, whatever was written."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from test_chat_endpoint import KEY, Reply, Server, completion, server  # noqa: F401
from tiny_features import ITEM_IDS, tiny_features
from tiny_llama import write_tiny_llama

from cesrec_core.actors import construct_pseudo_sequences
from cesrec_core.actors.chat_endpoint import Usage, read_usage
from cesrec_core.actors.construct_pseudo_sequences import ConstructPseudoSequences
from cesrec_core.config import parse_config
from cesrec_core.schemas import PSEUDO_SEQUENCES

SHARD = pa.Table.from_pylist(
    [
        {
            "user_id": user,
            "item_ids": ITEM_IDS[:4],
            "masked_positions": [1],
            "said": [
                {
                    "feedback_id": f"said by {user}",
                    "utterance": "something red",
                    "is_vague": False,
                    "unwanted_item_ids": [],
                    "unwanted_attributes": [],
                    "wanted_item_ids": [],
                    "wanted_attributes": ["Red"],
                }
            ],
        }
        for user in ("a", "b")
    ]
)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(construct_pseudo_sequences, "device_of_worker", lambda: "cpu")
    tiny_features(inactive=(1,)).save(tmp_path / "catalogue")

    def run(**section: Any) -> list[dict[str, Any]]:
        base = {"model_path": str(write_tiny_llama(tmp_path / "llama"))}
        config = parse_config({"finetune_constructor": base, "construct_pseudo_sequences": section}, "test")
        nowhere = tmp_path / "nowhere"
        worker = ConstructPseudoSequences(nowhere, nowhere, tmp_path / "catalogue", config, "run", tmp_path / "usage.jsonl")
        worker.setup()
        answer = worker.process(SHARD)
        assert answer.schema == PSEUDO_SEQUENCES.arrow_schema()
        return answer.to_pylist()

    return run


def test_a_local_model_writes_rows_of_the_table(rows: Any) -> None:
    for row in rows(decoder="titles"):
        assert row["item_ids"][1] in {"i4", "i5", "i6", "i7"} and row["replaced_item_ids"] == ["i1"]
        assert 0 < row["probabilities"][0] <= 1
        assert (row["margins"], row["runner_up_item_ids"], row["rejected_titles"]) == ([None], [None], None)
        assert row["constructor_id"].startswith("titles-")
    for row in rows(decoder="titles", title_trie=False):
        assert row["is_fallback"] and row["item_ids"] == ITEM_IDS[:4]
        assert row["rejected_titles"] or row["fallback_reason"] == "wrong_number_of_titles"


def test_an_endpoint_writes_rows_of_the_table(rows: Any, server: Server, tmp_path: Path) -> None:  # noqa: F811
    server.plan = [Reply(body=completion("Thing 5")), Reply(body=completion("Thing 1"))]
    url = f"http://127.0.0.1:{server.http.server_port}/v1"
    endpoint = {"base_url": url, "model": "m", "api_key_variable": "TEST_KEY", "max_concurrent_requests": 1}
    good, bad = rows(decoder="endpoint", endpoint={**endpoint, "requests_per_minute": 6e6})
    assert (good["item_ids"], good["probabilities"], good["rejected_titles"]) == (["i0", "i5", "i2", "i3"], [None], None)
    assert (bad["item_ids"], bad["fallback_reason"], bad["rejected_titles"]) == (
        ITEM_IDS[:4],
        "not_a_candidate",
        ["Thing 1"],
    )
    assert {good["constructor_id"], bad["constructor_id"]} == {"endpoint-m"}
    assert read_usage(tmp_path / "usage.jsonl") == Usage(2, 20)
    sent = str([body for _, _, body in server.requests])
    assert not any(secret in sent for secret in (KEY, "said by", '"a"', "i0"))
