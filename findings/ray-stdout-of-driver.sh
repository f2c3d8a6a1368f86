#!/bin/sh
# Ray 2.60.0: log_to_driver=False does not keep Ray's own messages off the driver's stdout.
#
# Guess before the first run: with log_to_driver=False, and logging at ERROR, nothing of a cluster reaches stdout.
# Seen 2026-11-29, Linux x86-64, Python 3.11: when a worker is killed, the raylet's message of 1,100 characters is
# printed on stdout (not stderr), between whatever the program prints there; a JSON document on stdout is broken by it.
#
#   stdout   (raylet) A worker died or was killed while executing a task by an unexpected system error. ...
#   stderr   nothing
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0
cat > "$folder/driver.py" <<'PYTHON'
import os, signal, time
import ray
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

@ray.remote(max_restarts=0)
class Worker:
    def end(self):
        os.kill(os.getpid(), signal.SIGKILL)

try:
    ray.get(Worker.remote().end.remote())
except ray.exceptions.RayActorError:
    time.sleep(3)
ray.shutdown()
PYTHON
RAY_AUTH_MODE=disabled RAY_TMPDIR=/tmp "$folder/venv/bin/python" "$folder/driver.py" > "$folder/out" 2> "$folder/err"
"$folder/venv/bin/python" -c 'import ray; print("ray", ray.__version__)'
echo "stdout   $(cut -c1-120 "$folder/out" | head -1)"
echo "stderr   $(head -1 "$folder/err")"
grep -q "raylet" "$folder/out" || exit 1
grep -q "A worker died" "$folder/out" || exit 1
! grep -q "A worker died" "$folder/err" || exit 1
