"""A Ray cluster of two nodes with a CPU each, on this machine: prints its address, ends when stdin does. Not on
127.0.0.1: in its place Ray takes the machine's own address."""

from __future__ import annotations

import sys
from typing import Any

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False}, connect=False)
    cluster.add_node(**node)
    print(cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()
