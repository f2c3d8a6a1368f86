#!/bin/sh
# Ray 2.60.0: ray.init("127.0.0.1:PORT") does not go to 127.0.0.1, but to the machine's own address.
#
# Guess before the first run: it connects to the address that it is given, or fails there.
# Seen 2026-11-29, Linux x86-64, Python 3.11: a cluster that was started on 127.0.0.1 and prints 127.0.0.1:PORT as its
# address is looked for at the machine's outward address; no error within 20 s (and none within minutes).
#
#   the cluster prints       127.0.0.1:41875
#   the driver connects to   192.0.2.2:41875
#   after 20 s               still waiting
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0
cat > "$folder/cluster.py" <<'PYTHON'
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, connect=False, head_node_args={"num_cpus": 1, "node_ip_address": "127.0.0.1"})
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
PYTHON
cat > "$folder/driver.py" <<'PYTHON'
import sys
import ray
ray.init(sys.argv[1], log_to_driver=False)
print("connected")
PYTHON
cat > "$folder/finding.py" <<'PYTHON'
import pathlib, re, subprocess, sys
folder = pathlib.Path(sys.argv[1])
cluster = subprocess.Popen([sys.executable, folder / "cluster.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True)
address = cluster.stdout.readline().strip()
import ray
own = ray.util.get_node_ip_address()
try:
    done = subprocess.run([sys.executable, folder / "driver.py", address], capture_output=True, text=True, timeout=20)
    said, ended = done.stdout + done.stderr, True
except subprocess.TimeoutExpired as waiting:
    said, ended = ((waiting.stdout or b"") + (waiting.stderr or b"")).decode(), False
cluster.stdin.close()
cluster.wait()
found = re.search(r"cluster at address: (\S+:\d+)", said)
print("ray", ray.__version__)
print("the cluster prints      ", address)
print("the driver connects to  ", found and found[1])
print("after 20 s              ", "ended" if ended else "still waiting")
if own.startswith("127."):
    raise SystemExit("this machine has no address but a loopback one: nothing to see here")
assert address.startswith("127.0.0.1:")
assert found and found[1] == address.replace("127.0.0.1", own)
assert not ended
PYTHON
RAY_AUTH_MODE=disabled RAY_TMPDIR=/tmp "$folder/venv/bin/python" "$folder/finding.py" "$folder" || exit 1
