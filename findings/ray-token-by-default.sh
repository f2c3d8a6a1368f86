#!/bin/sh
# Ray 2.60.0: where there is a token `ray start --head` asks for it, and a driver that names the address does not send it.
#
# Guess before the first run: a driver of the same user and machine gets in, by "auto" and by address alike; a wrong
# token is an AuthenticationError at once.
# Seen 2026-11-29, Linux x86-64, Python 3.11: by address it gets in only with RAY_AUTH_MODE=token set before Ray is
# imported, though ~/.ray/auth_token is there. Else, and with a wrong token, it waits for 20 s and raises a
# ConnectionError that names neither token nor authentication.
#
#   auto                           connected
#   HOST:PORT                      ConnectionError after 20 s, names a token: False
#   HOST:PORT, mode set before     connected
#   HOST:PORT, wrong token         ConnectionError after 20 s, names a token: False
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0
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
import json, os, pathlib, re, signal, subprocess, sys
folder = pathlib.Path(sys.argv[1])
plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
plain.update(HOME=str(folder), RAY_TMPDIR="/tmp", RAY_USAGE_STATS_ENABLED="0", PYTHONUNBUFFERED="1")
(folder / ".ray").mkdir()
(folder / ".ray/auth_token").write_text("ab" * 32)  # as `ray get-auth-token --generate` leaves one
head = subprocess.Popen(
    [folder / "venv/bin/ray", "start", "--head", "--port", "6397", "--num-cpus", "1", "--include-dashboard", "false",
     "--block"], env=plain, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
address, lines = None, []
for line in head.stdout:
    lines.append(line)
    if found := re.search(r"--address='(\S+:\d+)'", line):
        address = found[1]
    if address and "ray status" in line:
        break
assert address, "".join(lines)
def drive(address, **env):
    done = subprocess.run([sys.executable, folder / "driver.py", address], env={**plain, **env},
                          capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])
seen = {
    "auto": drive("auto"),
    "HOST:PORT": drive(address),
    "HOST:PORT, mode set before": drive(address, RAY_AUTH_MODE="token"),
    "HOST:PORT, wrong token": drive(address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="cd" * 32),
}
os.killpg(head.pid, signal.SIGTERM)
head.wait()
import ray
print("ray", ray.__version__)
for name, (kind, text, seconds) in seen.items():
    names = "token" in text.lower() or "auth" in text.lower()
    print(f"{name:30} {kind}" + (f" after {seconds:.0f} s, names a token: {names}" if text else ""))
    if name in ("auto", "HOST:PORT, mode set before"):
        assert kind == "connected", (name, kind, text)
    else:
        assert kind == "ConnectionError" and seconds > 10 and not names, (name, kind, text)
PYTHON
"$folder/venv/bin/python" "$folder/finding.py" "$folder" || exit 1
