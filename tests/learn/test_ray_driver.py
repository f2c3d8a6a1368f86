"""What a command does with workers of a Ray cluster, with a stand-in for Ray in which each call is answered at once."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from PIL import Image
from small_bank import known

from impress_format.bank import open_bank
from impress_format.errors import ClusterError, DataError, FormatError, TrainingDiverged, UsageError, WorkerLost
from impress_format.operations.pack import pack_tasks
from impress_format.operations.verify import verify_bank
from impress_learn import (
    MaskTraining,
    OwnData,
    Parts,
    Progress,
    TaskTraining,
    Workers,
    add_dataset,
    add_tasks,
    create_bank,
    evaluate,
    extend_bank,
)
from impress_learn.engines import machine, ray_cluster, ray_pool, ray_worker
from impress_learn.engines.ray_cluster import connected, count_places, reach
from impress_learn.engines.scatter import check_engine
from impress_learn.plan.asked_tasks import AskedTasks, plan_requests
from impress_learn.streams.reference import parse_references

MASKS = MaskTraining(epochs=2)
QUICK = TaskTraining(epochs=2)
TWO = ["rotated-digits/0", "rotated-digits/90"]
OVER_RAY = Workers(2, engine="ray")


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class RuntimeEnvSetupError(RayError):
    pass


class ActorDiedError(RayError):
    pass


@dataclass(eq=False)
class Ref:
    """An answer, or what went wrong."""

    name: str
    value: Any = None
    error: Exception | None = None


@dataclass(eq=False)
class Actor:
    """An object whose methods are called by `.remote`."""

    stand_in: StandIn
    thing: Any

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *given: self.stand_in.call(self, name, given))


@dataclass(eq=False)
class StandIn:
    """As much of the module `ray` as the driver uses.

    Attributes:
        waits: how many times no worker answers yet.
        only_first: how many times after that only the call that was made first is answered.
        meddle: told of each call of a worker (method, arguments); may raise what the caller then gets to see, or
            answer in the worker's place with something other than None.
    """

    nodes_there: Sequence[Mapping[str, Any]] = ({"Alive": True, "Resources": {"CPU": 2.0}},)
    meddle: Callable[[str, Sequence[Any]], Any] = lambda *_: None
    waits: int = 0
    only_first: int = 0
    taken: list[Mapping[str, Any]] = field(default_factory=list)
    actors: list[Actor] = field(default_factory=list)
    killed: list[Actor] = field(default_factory=list)

    @property
    def exceptions(self) -> Any:
        kinds = (RayError, RayTaskError, RuntimeEnvSetupError)
        return SimpleNamespace(**{kind.__name__: kind for kind in kinds})

    def is_initialized(self) -> bool:
        return True

    def nodes(self) -> Sequence[Mapping[str, Any]]:
        return self.nodes_there

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **taken: Any) -> Callable[[type], Any]:
        def hire(kind: type) -> Any:
            def start() -> Actor:
                self.taken.append(taken)
                self.actors.append(Actor(self, kind()))
                return self.actors[-1]

            return SimpleNamespace(remote=start)

        return hire

    def call(self, actor: Actor, name: str, given: Sequence[Any]) -> Ref:
        try:
            other = self.meddle(name, given)
            return Ref(name, getattr(actor.thing, name)(*given) if other is None else other)
        except RayError as error:
            return Ref(name, error=error)

    def wait(self, refs: Sequence[Ref], num_returns: int, timeout: float) -> tuple[list[Ref], list[Ref]]:
        if self.waits and refs[0].name != "take":
            self.waits -= 1
            return [], list(refs)
        if self.only_first:
            self.only_first -= 1
            return list(refs[:1]), list(refs[1:])
        return list(refs), []

    def get(self, ref: Ref, timeout: float | None = None) -> Any:
        if ref.error is not None:
            raise ref.error
        return ref.value

    def kill(self, actor: Actor) -> None:
        self.killed.append(actor)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The stand-in, in place of a cluster."""
    stand_in = StandIn()

    monkeypatch.setattr(ray_cluster, "reach", lambda address: (stand_in, "auto"))
    return stand_in


@pytest.fixture(autouse=True)
def folders_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers' folders, which a worker would clear when it ends, are here."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(ray_worker, "clear_at_end", lambda folder: None)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def train(path: Path, device: Workers | None) -> None:
    """A bank with all that workers may be asked for."""
    create_bank(path, TWO, fit=MASKS, device=device)
    extend_bank(path, ["rotated-digits/200", "rotated-digits/240"], fit=MASKS, device=device)
    add_tasks(path, ["rotated-digits/100:340:40"], fit=QUICK, device=device)
    add_tasks(path, ["rotated-digits/40:73:1"], fit=QUICK, device=device)  # so many are learned together
    add_tasks(path, ["permuted-digits/1", "permuted-digits/2"], fit=QUICK, parts=Parts(bytes=700), device=device)
    pack_tasks(open_bank(path))
    add_tasks(path, ["rotated-digits/101"], fit=QUICK, name="again", warm_start="rotated-digits-180", device=device)
    open_bank(path).remove_task("rotated-digits-140")  # which leaves a mark
    few = TaskTraining(epochs=2, shots=3)
    add_tasks(path, ["rotated-digits/10:50:20"], fit=few, parts=Parts(vote=False), device=device)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("alone") / "a.impress"
    train(path, None)
    return path


def test_workers_of_a_cluster_make_the_files_that_one_process_makes(ray: StandIn, alone: Path, tmp_path: Path) -> None:
    train(tmp_path / "a.impress", OVER_RAY)
    assert contents(tmp_path / "a.impress") == contents(alone)
    assert set(ray.killed) == set(ray.actors)
    assert {"num_cpus": 1, "num_gpus": 0.0, "max_restarts": 0} in ray.taken


def test_steps_of_workers_are_told(ray: StandIn, tmp_path: Path) -> None:
    steps: list[None] = []
    told: list[int] = []
    progress = Progress(begin=told.append, step=lambda: steps.append(None))
    create_bank(tmp_path / "a.impress", TWO, fit=MASKS, device=OVER_RAY, progress=progress)
    assert len(steps) == sum(told)


def test_what_two_workers_remark_is_told_once(
    ray: StandIn, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "_LOOK_EVERY", 0.0)
    remarks: list[str] = []

    def meddle(name: str, given: Sequence[Any]) -> None:
        if name == "begin":
            given[3].remark.remote("two classes are rare")
            ray.waits = 1

    ray.meddle = meddle
    path = Path(shutil.copytree(alone, tmp_path / "b.impress"))
    asked = [f"rotated-digits/{angle}" for angle in range(3, 9)]
    add_tasks(path, asked, fit=QUICK, device=OVER_RAY, progress=Progress(remark=remarks.append))
    assert remarks == ["two classes are rare"]


@pytest.mark.parametrize(("gpus", "device"), [(0.0, "cpu"), (0.5, "cuda")])
def test_a_worker_computes_on_what_the_cluster_gives_it_whatever_the_command_has(
    ray: StandIn, gpus: float, device: str, alone: Path, tmp_path: Path
) -> None:
    ray.nodes_there = [{"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}}]
    asked: list[Sequence[Any]] = []

    def meddle(name: str, given: Sequence[Any]) -> Any:
        asked.append(given)
        if name == "greet":
            return "node", None, "nothing: this is enough"
        return None

    ray.meddle = meddle
    path = Path(shutil.copytree(alone, tmp_path / "b.impress"))
    workers = Workers(1, device=lambda: torch.device("meta"), engine="ray", gpus_per_worker=gpus)
    with pytest.raises(ClusterError, match="nothing: this is enough"):
        extend_bank(path, ["rotated-digits/5"], fit=MASKS, device=workers)
    assert asked == [(device,)]
    assert ray.taken[-1]["num_gpus"] == gpus


def dying(at: str, times: int) -> Callable[[str, Sequence[Any]], Any]:
    """A worker that ends at the call of a method, so many times."""
    left = [times]

    def meddle(name: str, given: Sequence[Any]) -> None:
        if name == at and left[0]:
            left[0] -= 1
            raise ActorDiedError("The actor died.\nSome common causes include: the node died")

    return meddle


@pytest.mark.parametrize("at", ["greet", "begin", "do"])
def test_another_worker_takes_the_place_of_one_that_ended(ray: StandIn, at: str, alone: Path, tmp_path: Path) -> None:
    ray.meddle = dying(at, 2)
    remarks: list[str] = []
    create_bank(tmp_path / "a.impress", TWO, fit=MASKS, device=OVER_RAY, progress=Progress(remark=remarks.append))
    assert contents(tmp_path / "a.impress" / "masks").items() <= contents(alone / "masks").items()
    assert len(contents(tmp_path / "a.impress" / "masks")) == 2
    assert [one for one in remarks if "ended while it was at mask" in one and "begun again" in one] == remarks
    assert bool(remarks) == (at == "do")


def test_steps_of_an_item_that_is_begun_again_are_taken_back(
    ray: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "_LOOK_EVERY", 0.0)
    told, lost, steps = list[int](), list[int](), list[None]()

    def meddle(name: str, given: Sequence[Any]) -> None:
        if name == "do" and given[0] == (0, 1):
            teller = next(one.thing for one in ray.actors if hasattr(one.thing, "take"))
            teller.tell(given[0], 7)
            ray.waits = 2  # the driver looks at the bar before it hears what became of this
            raise ActorDiedError("died")

    ray.meddle = meddle
    progress = Progress(begin=told.append, step=lambda: steps.append(None), again=lost.append)
    create_bank(tmp_path / "a.impress", TWO[:1], fit=MASKS, device=OVER_RAY, progress=progress)
    assert lost == [7]
    assert len(steps) - 7 == sum(told)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("do", r"while it was at mask \d, for the third time. What was finished is stored: .* fewer `workers`"),
        ("begin", "before it had begun, the third in a row: The actor died"),
        ("greet", "before it had begun, the third in a row: The actor died"),
    ],
)
def test_workers_that_end_each_time_are_given_up(ray: StandIn, at: str, words: str, tmp_path: Path) -> None:
    ray.meddle = dying(at, 100)
    with pytest.raises(WorkerLost, match=words):
        create_bank(tmp_path / "a.impress", TWO, fit=MASKS, device=OVER_RAY)
    assert set(ray.killed) == set(ray.actors)
    assert open_bank(tmp_path / "a.impress").missing_masks() == [0, 1]


def test_a_worker_killed_for_memory_is_told_as_such(ray: StandIn, tmp_path: Path) -> None:
    def meddle(name: str, given: Sequence[Any]) -> None:
        if name == "do":
            raise ActorDiedError("Task was killed due to the node running low on memory.")

    ray.meddle = meddle
    with pytest.raises(WorkerLost, match="was ended for memory while it was at mask"):
        create_bank(tmp_path / "a.impress", TWO, fit=MASKS, device=OVER_RAY)


def other_machine(**other: str) -> Callable[[str], Any]:
    ours = machine.this_machine("cpu")
    return lambda device: msgspec.structs.replace(ours, **other)


def test_a_worker_with_other_releases_is_refused(ray: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = re.escape(torch.__version__)
    monkeypatch.setattr(machine, "this_machine", other_machine(torch="2.6.0+elsewhere", cpu="NOTHING"))
    with pytest.raises(ClusterError, match=rf"has torch 2\.6\.0\+elsewhere \(not {here}\), cpu NOTHING .*`mixed`"):
        create_bank(tmp_path / "a.impress", TWO, fit=MASKS, device=OVER_RAY)
    assert open_bank(tmp_path / "a.impress").missing_masks() == [0, 1]


def test_with_mixed_it_trains_and_its_files_say_where(
    ray: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, remarks, mixed = tmp_path / "a.impress", list[str](), Workers(2, engine="ray", mixed=True)
    monkeypatch.setattr(machine, "this_machine", other_machine(torch="2.6.0"))
    create_bank(path, TWO, fit=MASKS, device=mixed, progress=Progress(remark=remarks.append))
    add_tasks(path, ["rotated-digits/10:50:20"], fit=QUICK, device=mixed)
    assert len([one for one in remarks if "torch 2.6.0" in one]) == 1
    bank = open_bank(path)
    records = [bank.read_mask_record(0).elsewhere, known(bank.read_task_record("rotated-digits-10").fit).elsewhere]
    assert records == [machine.this_machine("cpu")] * 2
    assert verify_bank(path).ok
    again: list[str] = []
    add_tasks(path, ["rotated-digits/10:50:20"], fit=QUICK, progress=Progress(remark=again.append))
    assert again == ["2 of 2 tasks are there already"]


def test_another_impress_is_refused_whatever_is_allowed(
    ray: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "this_machine", other_machine(impress="9.9"))
    with pytest.raises(ClusterError, match=r"has impress 9\.9 .*: have the same impress everywhere"):
        create_bank(tmp_path / "a.impress", TWO, fit=MASKS, device=Workers(2, engine="ray", mixed=True))


@pytest.mark.parametrize("missing", ["impress_learn", "torch"])
def test_a_worker_that_lacks_a_package_says_which(ray: StandIn, missing: str, tmp_path: Path) -> None:
    ray.meddle = lambda name, given: ("node-7", None, missing) if name == "greet" else None
    with pytest.raises(ClusterError, match=rf"a worker on node-7 has no {missing}: install impresslearn there"):
        create_bank(tmp_path / "a.impress", TWO, fit=MASKS, device=OVER_RAY)


def test_what_a_worker_raises_is_raised_here_and_data_are_its_own(ray: StandIn, alone: Path, tmp_path: Path) -> None:
    ray.meddle = lambda name, given: (None, {}, 0, (DataError, "MNIST is not in /x")) if name == "do" else None
    with pytest.raises(DataError, match=r"on the worker .*, whose folders and environment are its own: MNIST is not"):
        create_bank(tmp_path / "a.impress", TWO, fit=MASKS, device=OVER_RAY)
    ray.meddle = lambda *_: None
    path = Path(shutil.copytree(alone, tmp_path / "b.impress"))
    before = contents(path)
    with pytest.raises(TrainingDiverged, match=r"task rotated-digits-(11|13): "):
        add_tasks(
            path, ["rotated-digits/11", "rotated-digits/13"], fit=TaskTraining(epochs=2, lr=1e30), device=OVER_RAY
        )
    assert contents(path) == before


def sending(change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> Callable[[Any, Any], Any]:
    """A worker whose files are changed on their way."""
    do = ray_worker.BankCopy.do

    def changed(copy: Any, item: Any) -> Any:
        result, files, steps, failed = do(copy, item)
        return result, change(dict(files)), steps, failed

    return changed


def flipped(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:] for name, content in files.items()}


def test_a_file_that_arrives_damaged_is_not_stored(
    ray: StandIn, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(alone, tmp_path / "b.impress"))
    before = contents(path)
    monkeypatch.setattr(ray_worker.BankCopy, "do", sending(flipped))
    with pytest.raises(FormatError, match="what a worker sent "):
        add_tasks(path, ["rotated-digits/11", "rotated-digits/13"], fit=QUICK, device=OVER_RAY)
    assert contents(path) == before
    with pytest.raises(FormatError, match="what a worker sent "):
        create_bank(tmp_path / "c.impress", TWO, fit=MASKS, device=OVER_RAY)
    assert open_bank(tmp_path / "c.impress").missing_masks() == [0, 1]


def test_a_task_that_nobody_asked_for_is_not_stored(
    ray: StandIn, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(alone, tmp_path / "b.impress"))
    before = contents(path)
    other = (alone / "tasks" / "rotated-digits-10.safetensors").read_bytes()
    monkeypatch.setattr(ray_worker.BankCopy, "do", sending(lambda files: dict.fromkeys(files, other)))
    with pytest.raises(FormatError, match="what a worker sent is another task than was asked for"):
        add_tasks(path, ["rotated-digits/11"], fit=QUICK, device=OVER_RAY)
    assert contents(path) == before


def test_an_interrupt_ends_all_workers(ray: StandIn, tmp_path: Path) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_bank(tmp_path / "a.impress", TWO, fit=MASKS, device=OVER_RAY, progress=Progress(describe=interrupt))
    assert set(ray.killed) == set(ray.actors)


def test_many_tasks_that_are_asked_for_share_what_is_said_of_them(alone: Path) -> None:
    asked = AskedTasks(("permuted-digits/0:2000:1",), QUICK, None, Parts(), None, None)
    requests = plan_requests(open_bank(alone), asked, Progress())
    assert len({id(request.beside) for request in requests}) == 1
    assert requests[0].beside == {request.name for request in requests}


def test_what_was_learned_beside_a_task_that_diverges_is_stored(
    ray: StandIn, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from impress_learn.tasks import learn

    add_task = learn.add_task

    def diverging(loaded: Any, request: Any, **more: Any) -> Any:
        if request.name == "rotated-digits-13":
            raise TrainingDiverged("task rotated-digits-13: the loss is infinite")
        return add_task(loaded, request, **more)

    monkeypatch.setattr(learn, "add_task", diverging)
    path = Path(shutil.copytree(alone, tmp_path / "b.impress"))
    with pytest.raises(TrainingDiverged, match="rotated-digits-13: the loss is infinite"):
        add_tasks(path, [f"rotated-digits/{angle}" for angle in (12, 13, 14, 15)], fit=QUICK, device=OVER_RAY)
    bank = open_bank(path)
    # Two each: what was learned before it, and what the other worker sent at the same time.
    assert [bank.tasks.has(f"rotated-digits-{angle}") for angle in (12, 13, 14, 15)] == [True, False, True, True]


def test_a_worker_that_differs_is_left_out_once_others_are_at_work(ray: StandIn, tmp_path: Path) -> None:
    remarks: list[str] = []
    greeted = [0]

    def meddle(name: str, given: Sequence[Any]) -> Any:
        greeted[0] += name == "greet"
        return ("late", None, "torch") if name == "greet" and greeted[0] == 2 else None

    ray.meddle, ray.only_first = meddle, 4  # the first worker is greeted, and begins
    create_bank(tmp_path / "a.impress", TWO, fit=MASKS, device=OVER_RAY, progress=Progress(remark=remarks.append))
    assert len(contents(tmp_path / "a.impress" / "masks")) == 2
    assert len(remarks) == 1
    assert remarks[0].startswith("a worker on late has no torch")
    assert remarks[0].endswith("the others go on")


def test_a_cluster_that_has_no_room_any_more_is_told_of(
    ray: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "_PATIENCE", 0.0)

    def meddle(name: str, given: Sequence[Any]) -> None:
        if name == "do":
            ray.nodes_there = [{"Alive": False, "Resources": {"CPU": 2.0}}]
            raise ActorDiedError("The node died")
        if name == "greet" and not ray.nodes_there[0]["Alive"]:
            ray.waits = 9

    ray.meddle = meddle
    with pytest.raises(ClusterError, match="no node of the cluster has 1 CPU for a worker"):
        create_bank(tmp_path / "a.impress", TWO[:1], fit=MASKS, device=OVER_RAY)


def test_a_busy_cluster_is_waited_for(ray: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_pool, "_PATIENCE", 0.0)
    remarks: list[str] = []
    ray.waits = 3
    create_bank(tmp_path / "a.impress", TWO, fit=MASKS, device=OVER_RAY, progress=Progress(remark=remarks.append))
    assert remarks == ["no worker is at work: others have the cluster's CPUs, or its nodes are still to come"]


def test_images_that_workers_cannot_have_are_refused(
    ray: StandIn, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (tmp_path / "pets" / kind / f"{number}.png" for kind in "ab" for number in range(3)):
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28)).save(place)
    monkeypatch.chdir(tmp_path)
    check_engine(OVER_RAY, None, parse_references([f"folder:{tmp_path}/pets"]), 1)
    with pytest.raises(UsageError, match=r"folder:.* is named from the current folder on, and a worker"):
        check_engine(OVER_RAY, None, parse_references(["folder:pets"]), 1)
    data = [(Image.new("L", (28, 28), shade), shade % 2) for shade in range(40)]
    with pytest.raises(UsageError, match="the images of dataset:own are in this process"):
        add_dataset(alone, "own", OwnData(data, classes=["even", "odd"]), device=OVER_RAY)


def test_what_is_not_scattered_takes_no_workers_of_a_cluster(alone: Path) -> None:
    with pytest.raises(UsageError, match="workers of a cluster train masks and new tasks, nothing else"):
        evaluate(alone, ["rotated-digits-100"], device=OVER_RAY)


def node(cpus: float, gpus: float = 0.0, *, alive: bool = True) -> Mapping[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpus, **({"GPU": gpus} if gpus else {})}}


@pytest.mark.parametrize(
    ("nodes", "threads", "gpus", "places"),
    [
        ([node(4), node(3)], 2, 0, 3),
        ([node(64, 4), node(8)], 1, 0.25, 16),
        ([node(64, 4)], 1, 1, 4),
        ([node(8), node(8, alive=False)], 1, 0, 8),
    ],
)
def test_places_are_counted_node_by_node(nodes: Sequence[Any], threads: int, gpus: float, places: int) -> None:
    assert count_places(nodes, threads, gpus) == places


@pytest.mark.parametrize(("threads", "gpus", "demand"), [(8, 0, "8 CPUs"), (1, 2, "1 CPU and 2 GPUs")])
def test_a_demand_that_no_node_meets_is_refused_before_anything_waits(threads: int, gpus: float, demand: str) -> None:
    with pytest.raises(
        ClusterError, match=rf"no node of the cluster has {demand} for a worker .*4 CPU, 0 GPU; 4 CPU, 1"
    ):
        count_places([node(4), node(4, 1)], threads, gpus)


def test_an_address_where_nothing_listens_is_told_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{free.getsockname()[1]}"  # bound, and nobody listens
        for given in (dead, f"ray://{dead}"):
            with pytest.raises(ClusterError, match=rf"nothing answers at `ray_address` {given} \(Connection refused\)"):
                reach(given)
        free.listen()
        with pytest.raises(ClusterError, match=rf"nothing answers at .*, which Ray takes for `ray_address` {dead}"):
            reach(dead)  # it listens on loopback alone, in whose place Ray takes the machine's own address
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(ClusterError, match="nothing answers"):
            reach(None)
    for wrong in ("here", "127.0.0.1:", ":6379", "127.0.0.1:0", "127.0.0.1:99999", "a:b", "a:²", "local"):
        with pytest.raises(ClusterError, match="expected HOST:PORT"):
            reach(wrong)
    with pytest.raises(ClusterError, match=r"nothing answers at `ray_address` a\.\.b:6379"):
        reach("a..b:6379")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"needs the package ray: pip install 'impresslearn\[ray\]'"):
        create_bank(tmp_path / "a.impress", TWO, fit=MASKS, device=OVER_RAY)
    assert not (tmp_path / "a.impress").exists()
    with pytest.raises(UsageError), connected(None):
        pass


class AuthenticationError(RayError):
    pass


MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.60.0
    Python: 3.11.9
This process on node 192.0.2.7:6379 was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""


@pytest.mark.parametrize(
    ("raised", "address", "words"),
    [
        (ConnectionError("none found"), None, "this machine belongs to no Ray cluster: give `ray_address` HOST:PORT"),
        (ConnectionError("cannot connect"), "a:6379", "a:6379 answers and lets nobody in: .*RAY_AUTH_MODE=token"),
        (AuthenticationError("no token"), "a:6379", "a:6379 answers and lets nobody in"),
        (
            RuntimeError(MISMATCH),
            "a:6379",
            r"the cluster has Ray 2\.60\.0 and Python 3\.11\.9, this process Ray 2\.60\.0 and Python 3\.11\.7",
        ),
        (ValueError("Ray Client requires pip package `ray[client]`."), "ray://a:10001", r"pip install 'ray\[client\]'"),
        (RuntimeError("something\n  else"), "a:6379", "^a:6379: something else$"),
    ],
)
def test_what_ray_says_as_it_connects_is_told_in_one_line(
    raised: Exception, address: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        raise raised

    exceptions = SimpleNamespace(AuthenticationError=AuthenticationError)
    ray = SimpleNamespace(is_initialized=lambda: False, init=init, exceptions=exceptions)
    monkeypatch.setattr(ray_cluster, "reach", lambda _: (ray, address or "auto"))
    with pytest.raises(ClusterError, match=words) as told, connected(address):
        pass
    assert "\n" not in str(told.value)


def test_a_connection_that_is_there_is_used_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = SimpleNamespace(is_initialized=lambda: True)  # it could neither connect nor shut down
    monkeypatch.setattr(ray_cluster, "reach", lambda _: (ray, "auto"))
    with connected(None) as found:
        assert found is ray


@pytest.mark.parametrize(
    ("workers", "words"),
    [
        (Workers(2, ray_address="a:1"), "`ray_address` needs a cluster: give `engine` ray too"),
        (Workers(2, gpus_per_worker=1), "`gpus_per_worker` needs a cluster"),
        (Workers(2, mixed=True), "`mixed` needs a cluster"),
        (Workers(2, engine="dask"), "`engine` dask: expected local or ray"),  # type: ignore[arg-type]
        (Workers(2, engine="ray", gpus_per_worker=-1), "expected 0, or 0.0001 or more"),
        (Workers(2, engine="ray", gpus_per_worker=1e-5), "expected 0, or 0.0001 or more"),
        (Workers(2, engine="ray", gpus_per_worker=float("nan")), "expected 0, or"),
        (Workers(2, engine="ray", gpus_per_worker=1.5), "a whole number, or a part of one GPU"),
        (Workers(0, engine="ray"), "`workers` 0: expected at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(workers: Workers, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        create_bank(tmp_path / "a.impress", TWO, fit=MASKS, device=workers)
    assert not (tmp_path / "a.impress").exists()


def test_what_rays_thread_prints_does_not_reach_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with ray_cluster._raylets_kept_from_stdout():
        thread = threading.Thread(target=print, args=("(raylet) A worker died",), name="ray_listen_error_messages")
        thread.start()
        thread.join()
        print("{}", flush=True)
    assert capsys.readouterr().out == "{}\n"


def test_the_folder_of_a_worker_is_cleared_when_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    (folder / "bank.impress").mkdir(parents=True)
    code = (
        "import os, signal, sys; from pathlib import Path; from impress_learn.engines.ray_worker import clear_at_end\n"
        "clear_at_end(Path(sys.argv[1])); print(os.path.exists(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-u", "-c", code, folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-9, "True\n")
    while folder.exists():  # whoever clears it is no child of ours
        pass
