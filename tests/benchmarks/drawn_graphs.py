"""Graphs that draw their weights while they are loaded, beside graphs that hold them: bytes, logits, accuracy, time.

    python tests/benchmarks/drawn_graphs.py DATA_DIR FOLDER BANK TASK... [--web NODE_MODULES]

Each TASK of BANK is exported twice and asked by onnxruntime, which is not told what it is asked of: accuracy on the
test images, how far logits are from the bank's, and the time to load and to answer one image, as ratios of the same
run. With --web, the folder `node_modules` that has onnxruntime-web, a page asks the drawn graph in headless Chromium.
"""

from __future__ import annotations

import argparse
import http.server
import json
import queue
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

from impress_learn import export_weights, load_bank
from impress_learn.streams.load import load_task
from impress_learn.streams.reference import parse_reference

REPEATS = 5
PAGE = """<script src="ort.wasm.min.js"></script><script>
const say = text => fetch("said", {method: "POST", body: text});
ort.env.wasm.numThreads = 1;
(async () => {
  const asked = await (await fetch("asked.json")).json(), begun = performance.now();
  const session = await ort.InferenceSession.create("drawn.onnx", {executionProviders: ["wasm"]});
  const loaded = performance.now();
  const {logits} = await session.run({images: new ort.Tensor("float32", Float32Array.from(asked.images), asked.shape)});
  const ran = performance.now();
  let apart = 0, largest = 0;
  logits.data.forEach((found, place) => {
    apart = Math.max(apart, Math.abs(found - asked.logits[place]));
    largest = Math.max(largest, Math.abs(asked.logits[place]));
  });
  say(JSON.stringify({apart: apart / largest, load_ms: loaded - begun, run_ms: ran - loaded}));
})().catch(error => say(String(error)));
</script>"""


def session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def seconds(file: Path, image: np.ndarray) -> tuple[float, float]:
    """To load a graph, and to answer one image."""
    loads, runs = [], []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        opened = session(file)
        loads.append(time.perf_counter() - begun)
        for _ in range(20):
            begun = time.perf_counter()
            opened.run(["logits"], {"images": image})
            runs.append(time.perf_counter() - begun)
    return statistics.median(loads), statistics.median(runs)


def in_chromium(folder: Path, modules: Path, file: Path, images: np.ndarray, logits: np.ndarray) -> str:
    """What a page says that asks the graph."""
    page = folder / "page"
    shutil.copytree(modules / "onnxruntime-web" / "dist", page, dirs_exist_ok=True)
    shutil.copy(file, page / "drawn.onnx")
    asked = {"images": images.ravel().tolist(), "shape": images.shape, "logits": logits.ravel().tolist()}
    (page / "asked.json").write_text(json.dumps(asked))
    (page / "index.html").write_text(PAGE)
    said: queue.Queue[str] = queue.Queue()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            said.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Handler, directory=str(page))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with tempfile.TemporaryDirectory() as profile:
            options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
            address = f"http://127.0.0.1:{server.server_port}/index.html"
            browser = subprocess.Popen(
                ["chromium", *options, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                return said.get(timeout=60)
            finally:
                browser.kill()
                browser.wait()
                server.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("bank", type=Path)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--web", type=Path)
    asked = parser.parse_args()
    loaded = load_bank(asked.bank)
    asked.folder.mkdir(parents=True, exist_ok=True)
    print("onnxruntime", onnxruntime.__version__)
    for task in asked.tasks:
        name = loaded.bank.find_task(task)
        files = {kind: asked.folder / f"{name}.{kind}.onnx" for kind in ("onnx", "onnx-drawn")}
        for kind, file in files.items():
            file.unlink(missing_ok=True)
            export_weights(asked.bank, name, file, file_format=kind)  # type: ignore[arg-type]
        reference = parse_reference(loaded.bank.read_task_record(name).task)
        test = load_task(reference, data_dir=asked.data_dir, view=loaded.bank.manifest.preprocess).test
        inputs, labels = test.batch(slice(None))
        images = inputs.numpy()
        expected = loaded.module(name)(inputs[:64]).detach().numpy()
        found = session(files["onnx-drawn"]).run(["logits"], {"images": images})[0]
        apart = np.abs(found[:64] - expected).max() / np.abs(expected).max()
        (plain_load, plain_run), (load, run) = (seconds(file, images[:1]) for file in files.values())
        sizes = [file.stat().st_size for file in files.values()]
        right = (found.argmax(1) == labels.numpy()).mean()
        print(
            f"{name}: {sizes[1]:,} bytes ({sizes[0]:,} with weights), accuracy {right:.4f}, "
            f"logits {apart:.1e} apart; load {load:.2f} s ({load / plain_load:.0f} x), one image {1e3 * run:.2f} ms "
            f"({run / plain_run:.2f} x)",
            flush=True,
        )
        if asked.web:
            print("  in Chromium:", in_chromium(asked.folder, asked.web, files["onnx-drawn"], images[:8], found[:8]))


if __name__ == "__main__":
    main()
