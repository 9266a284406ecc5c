"""Several actors on one GPU. Ray counts GPUs that it is told of, so the machine need not have one."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TWO_ON_ONE = """
import sys, time
from pathlib import Path
import pyarrow as pa
import ray
from cesrec_core.actors.pool import map_shards
from cesrec_core.config import RaySection

class MeetsAnother:
    def __init__(self, folder):
        self.folder = folder
    def setup(self):
        (self.folder / ray.get_runtime_context().get_actor_id()).touch()
    def process(self, shard):
        deadline = time.monotonic() + 60
        while len(list(self.folder.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        return pa.table({"gpu": [str(gpu) for gpu in ray.get_gpu_ids()], "actors": [len(list(self.folder.iterdir()))]})

source, target, meeting = map(Path, sys.argv[1:])
ray.init(num_cpus=4, num_gpus=1, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
section = RaySection(num_actors=3, num_cpus_per_actor=0.5, num_gpus_per_actor=float("0.5"))
map_shards(source, target, MeetsAnother(meeting), section)
"""


def test_two_actors_share_a_gpu_and_a_third_waits(tmp_path: Path) -> None:
    source, target, meeting = (tmp_path / name for name in ("in", "out", "meeting"))
    source.mkdir()
    meeting.mkdir()
    for number in range(3):
        pq.write_table(pa.table({"number": [number]}), source / f"part-{number}.parquet")
    command = [sys.executable, "-c", TWO_ON_ONE, str(source), str(target), str(meeting)]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    subprocess.run(command, check=True, timeout=240, env=environment)
    answers = [pq.read_table(file).to_pylist()[0] for file in sorted(target.glob("*.parquet"))]
    assert {answer["gpu"] for answer in answers} == {"0"}
    # Two shards were on the GPU together; had a third actor been let on to it, three would have met.
    assert sorted(answer["actors"] for answer in answers)[:2] == [2, 2]
