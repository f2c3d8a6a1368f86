#!/bin/sh
# Ray 2.60.0: a driver with a wrong token waits for 20 s and raises an error that says nothing of tokens.
#
# Guess before the first run: an AuthenticationError at once, as where no token is found at all.
# Seen 2026-11-29, Linux x86-64, Python 3.11: ConnectionError "Failed to connect to Ray cluster at HOST:PORT" after 20 s;
# the reason stands only in warnings on stderr, one a second. With no token at all it is an AuthenticationError after
# some milliseconds.
#
#   no token      AuthenticationError after  0 s
#   wrong token   ConnectionError     after 20 s   names a token: False
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0
cat > "$folder/cluster.py" <<'PYTHON'
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, connect=False, head_node_args={"num_cpus": 1})
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
PYTHON
cat > "$folder/driver.py" <<'PYTHON'
import json, sys, time
import ray
started = time.time()
try:
    ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
    kind, text = "connected", ""
except Exception as error:
    kind, text = type(error).__name__, str(error)
print(json.dumps([kind, text, time.time() - started]))
PYTHON
cat > "$folder/finding.py" <<'PYTHON'
import json, os, pathlib, subprocess, sys
folder = pathlib.Path(sys.argv[1])
plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
plain.update(HOME=str(folder), RAY_TMPDIR="/tmp", RAY_AUTH_MODE="token")
cluster = subprocess.Popen([sys.executable, folder / "cluster.py"], env={**plain, "RAY_AUTH_TOKEN": "ab" * 32},
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
address = cluster.stdout.readline().strip()
def drive(**more):
    done = subprocess.run([sys.executable, folder / "driver.py", address], env={**plain, **more},
                          capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])
none, wrong = drive(), drive(RAY_AUTH_TOKEN="cd" * 32)
cluster.stdin.close()
cluster.wait()
import ray
print("ray", ray.__version__)
print(f"no token      {none[0]} after {none[2]:.0f} s")
names = "token" in wrong[1].lower() or "auth" in wrong[1].lower()
print(f"wrong token   {wrong[0]} after {wrong[2]:.0f} s   names a token: {names}")
assert none[0] == "AuthenticationError" and none[2] < 5
assert wrong[0] == "ConnectionError" and wrong[2] > 10 and not names
PYTHON
"$folder/venv/bin/python" "$folder/finding.py" "$folder" || exit 1
