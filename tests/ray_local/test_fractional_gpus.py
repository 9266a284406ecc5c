"""Several actors on one GPU. Ray counts GPUs that it is told of, so the machine need not have one."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

THREE_HALVES = """
import os, sys, time
from pathlib import Path
import pyarrow as pa
import ray
from cesrec_core.actors.pool import map_shards
from cesrec_core.config import RaySection

class MeetsAnother:
    def __init__(self, folder):
        self.folder = folder
    def setup(self):
        self.begun = time.time()
        (self.folder / ray.get_runtime_context().get_actor_id()).touch()
    def process(self, shard):
        deadline = time.monotonic() + 60
        while len(list(self.folder.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1.5)  # long enough for a third, were there room for it
        devices = os.environ.get("CUDA_VISIBLE_DEVICES")
        return pa.table({"devices": [devices], "begun": [self.begun], "done": [time.time()], "process": [os.getpid()]})

source, target, meeting = map(Path, sys.argv[1:])
ray.init(num_cpus=4, num_gpus=1, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
section = RaySection(num_actors=3, num_cpus_per_actor=0.5, num_gpus_per_actor=0.5)
map_shards(source, target, MeetsAnother(meeting), section)
"""


def test_two_actors_share_a_gpu_and_a_third_waits(tmp_path: Path) -> None:
    source, target, meeting = (tmp_path / name for name in ("in", "out", "meeting"))
    source.mkdir()
    meeting.mkdir()
    for number in range(3):
        pq.write_table(pa.table({"number": [number]}), source / f"part-{number}.parquet")
    command = [sys.executable, "-c", THREE_HALVES, str(source), str(target), str(meeting)]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    subprocess.run(command, check=True, timeout=240, env=environment)
    answers = [pq.read_table(file).to_pylist()[0] for file in sorted(target.glob("*.parquet"))]
    assert [answer["devices"] for answer in answers] == ["0"] * 3
    assert len({answer["process"] for answer in answers}) == 3
    first, second, third = sorted(answers, key=lambda answer: answer["begun"])
    assert second["begun"] < first["done"]
    # Only when one had gone was there room again.
    assert third["begun"] > min(first["done"], second["done"])
