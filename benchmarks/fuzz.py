"""Malformed inputs: damaged videos, images, models and long jobs, and arguments that nobody should give.

    python benchmarks/fuzz.py [--only KIND ...] [--count 10000] [--seed 0] [--workers 2] [--json FILE]
    python benchmarks/fuzz.py --case read 0-17          # one of them again, with all that it says

What counts as a fault: an exception that is no DuoVsrError, a crash, a hang, memory that grows out of bounds, a partial
or unreadable file under the output's name, anything left behind, an undocumented exit code, an error of more than one
line. Each input follows from the seed and its number. They are tried in worker processes, which may die of them.
"""

import argparse
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import environment
from arguments import RESULTS
from child import variables
from fuzz_worker import MAKING
from tables import table

HERE = Path(__file__).resolve().parent
SHARES = {"read": 0.4, "odd": 0.1, "command": 0.15, "model": 0.13, "job": 0.05, "arguments": 0.17}
"""Kind of input -> its part of all."""
MEANING = {
    "read": "damaged videos and images: reader, packet table, facts, streams, frames",
    "odd": "sound videos with strange tags, chapters, sizes, timestamps: the same",
    "command": "both kinds through the whole command line",
    "model": "damaged model files: loaded, described, self-tested, used",
    "job": "damaged folders of long jobs, taken up again",
    "arguments": "arguments of all commands",
}
SECONDS = 60.0
"""After so long an input hangs; --seconds gives a machine that is busy with other work more."""
SLOW = 10.0
"""Seconds from which an input is told of."""
GROWTH = 1.5e9
"""Bytes by which a process may grow over one input, all of which are tiny."""
FRESH = 400
"""Inputs after which a worker is replaced."""


@dataclass(frozen=True, slots=True)
class Case:
    """One input: its kind, and the text that it follows from."""

    kind: str
    seed: str


@dataclass(slots=True)
class Found:
    """What became of all inputs."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[dict[str, Any]] = field(default_factory=list)
    slowest: float = 0.0
    most: int = 0

    def add(self, case: Case, word: str, fault: str | None, seconds: float = 0.0, grown: int = 0) -> None:
        """One more."""
        if fault is None and grown > GROWTH:
            word, fault = "memory", f"the process grew by {grown / 1e9:.1f} GB"
        self.counts.setdefault(case.kind, Counter())[word] += 1
        if seconds > SLOW:
            say(f"slow {case.kind} {case.seed}: {seconds:.1f} s")
        self.slowest, self.most = max(self.slowest, seconds), max(self.most, grown)
        if fault is not None:
            self.faults.append(asdict(case) | {"fault": fault})
            say(f"FAULT {case.kind} {case.seed}: {fault}")

    def add_record(self, record: dict[str, Any], first: int) -> float:
        """Add what an earlier run has written down of the first inputs; the seconds it took."""
        if record["inputs"] != first:
            raise ValueError(f"--first {first}: the record is of {record['inputs']} inputs")
        for kind, counts in record["counts"].items():
            self.counts.setdefault(kind, Counter()).update(counts)
        self.faults[:0] = record["faults"]
        self.slowest = max(self.slowest, record["slowest_seconds"])
        self.most = max(self.most, record["most_growth_bytes"])
        return float(record["seconds"])


class Worker:
    """One process that tries inputs; replaced when it dies or hangs."""

    def __init__(self, corpus: Path, folder: Path, patience: float):
        self._patience = patience
        self._making = folder / MAKING
        self._command = [sys.executable, str(HERE / "fuzz_worker.py"), str(corpus), str(folder)]
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._tried = 0

    def tried(self, case: Case, found: Found, lock: threading.Lock) -> None:
        """Try one input, and write down what became of it."""
        if self._process is None or self._tried >= FRESH:
            self._begin()
        assert self._process is not None and self._process.stdin is not None
        self._tried += 1
        self._process.stdin.write(f"{case.kind} {case.seed}\n")
        self._process.stdin.flush()
        try:
            line = self._answers.get(timeout=self._patience)
        except queue.Empty:
            self.end()
            with lock:
                found.add(case, "hang", f"no answer after {self._patience:g} s", self._patience)
            return
        if line is None:
            code = self._process.wait()
            self.end()
            made = not self._making.exists()
            self._making.unlink(missing_ok=True)
            with lock:
                if made:
                    found.add(case, "crash", f"the process ended with code {code}")
                else:
                    found.add(case, "not made", None)
            return
        with lock:
            found.add(case, **json.loads(line))

    def end(self) -> None:
        """The process is gone when this returns."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                with suppress(OSError):
                    assert stream is not None
                    stream.close()
        self._process = None

    def _begin(self) -> None:
        self.end()
        self._tried, self._answers = 0, queue.Queue()
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=variables(), cwd=HERE,
        )  # fmt: skip
        threading.Thread(target=self._listen, args=(self._process, self._answers), daemon=True).start()
        self._answers.get(timeout=600)  # it has imported everything

    @staticmethod
    def _listen(process: subprocess.Popen[str], answers: "queue.Queue[str | None]") -> None:
        assert process.stdout is not None
        with suppress(OSError, ValueError):
            for line in process.stdout:
                answers.put(line)
        answers.put(None)


def cases(count: int, seed: int, kinds: Iterable[str]) -> list[Case]:
    """`count` inputs of those kinds in their shares, mixed so that a part of the run tells of all."""
    chosen = {kind: share for kind, share in SHARES.items() if kind in set(kinds)}
    total = sum(chosen.values())
    lists = {kind: round(count * share / total) for kind, share in chosen.items()}
    placed = [((n + 0.5) / many, Case(kind, f"{seed}-{n}")) for kind, many in lists.items() for n in range(many)]
    return [case for _, case in sorted(placed, key=lambda one: (one[0], one[1].kind))]


def corpus(folder: Path) -> Path:
    """The sound files, made in a process of its own. RuntimeError when that fails."""
    made = subprocess.run(
        [sys.executable, str(HERE / "fuzz_corpus.py"), str(folder)], capture_output=True, text=True, env=variables()
    )
    if made.returncode:
        raise RuntimeError(f"the sound files could not be made: {made.stderr.strip()[-300:]}")
    return folder


def try_all(
    todo: list[Case], sound: Path, folder: Path, workers: int, tell: bool = False, seconds: float = 1e9,
    patience: float = SECONDS,
) -> Found:  # fmt: skip
    """All inputs, or those that can be begun in so many seconds, in so many processes.

    patience: seconds after which an input hangs.
    """
    found, lock, left, until = Found(), threading.Lock(), iter(todo), time.monotonic() + seconds

    def take() -> Iterator[Case]:
        while True:
            with lock:
                case = next(left, None)
            if case is None or time.monotonic() > until:
                return
            yield case

    def work(number: int) -> None:
        worker = Worker(sound, folder / f"worker{number}", patience)
        try:
            for case in take():
                worker.tried(case, found, lock)
        finally:
            worker.end()

    threads = [threading.Thread(target=work, args=(n,), name=f"fuzz{n}") for n in range(workers)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(10)
        if tell:
            done = sum(sum(count.values()) for count in found.counts.values())
            say(f"{done} of {len(todo)} inputs, {len(found.faults)} faults")
    return found


def say(text: str) -> None:
    """Progress, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def report(found: Found, seconds: float) -> str:
    """All that is printed."""
    rows = []
    for kind in SHARES:
        if kind in found.counts:
            counts = found.counts[kind]
            faults = sum(fault["kind"] == kind for fault in found.faults)
            words = ", ".join(f"{word} {count}" for word, count in counts.most_common())
            rows.append([MEANING[kind], str(sum(counts.values())), str(faults), words])
    total = sum(sum(counts.values()) for counts in found.counts.values())
    rows.append(["all", str(total), str(len(found.faults)), ""])
    lines = table(["malformed inputs", "tried", "faults", "what became of them"], rows)
    lines += ["", f"{seconds:.0f} s; the slowest took {found.slowest:.1f} s, the most memory {found.most / 1e6:.0f} MB"]
    return "\n".join([*lines, *(f"FAULT {one['kind']} {one['seed']}: {one['fault']}" for one in found.faults)])


def parse(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", nargs="+", choices=tuple(SHARES), default=list(SHARES), help="kinds of input (all)")
    add("--count", type=int, default=10_000, help="inputs in all (10000)")
    add("--seed", type=int, default=0, help="other inputs (0)")
    add("--workers", type=int, default=2, help="processes at once (2)")
    add("--minutes", type=float, default=1e6, help="stop after so long; --first goes on from there")
    add("--seconds", type=float, default=SECONDS, help="an input that takes longer hangs (60)")
    add("--first", type=int, default=0, help="leave so many inputs out, and add to what the record holds of them")
    add("--corpus", type=Path, help="a folder in which to make the sound files, or where they are already")
    add("--case", nargs=2, metavar=("KIND", "SEED"), help="try one input in this process")
    add("--json", type=Path, default=RESULTS / "fuzz.json", help="file for the record")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    args = parse(given)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="duovsr-fuzz-") as place:
        sound = args.corpus or Path(place) / "corpus"
        if not (sound / "media").is_dir():
            sound.mkdir(parents=True, exist_ok=True)
            corpus(sound)
        if args.case:
            return one(*args.case, sound, Path(place))
        todo = cases(args.count, args.seed, args.only)[args.first :]
        found = try_all(todo, sound, Path(place), args.workers, True, 60 * args.minutes, args.seconds)
    seconds = time.monotonic() - began
    if args.first:
        seconds += found.add_record(json.loads(args.json.read_text()), args.first)
    print(report(found, seconds))
    counts = {kind: dict(counter) for kind, counter in found.counts.items()}
    total = sum(sum(counter.values()) for counter in found.counts.values())
    record = {"machine": environment.describe(), "seed": args.seed, "inputs": total, "counts": counts}
    record |= {"faults": found.faults, "seconds": round(seconds), "slowest_seconds": round(found.slowest, 1)}
    record |= {"limits": {"seconds": args.seconds, "growth_bytes": GROWTH}, "most_growth_bytes": found.most}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if found.faults else 0


def one(kind: str, seed: str, sound: Path, place: Path) -> int:
    """Try one input here, and keep what it made for a look."""
    import av.logging
    from fuzz_targets import Fault, run

    av.logging.set_level(None)
    folder = place / "case"
    folder.mkdir()
    try:
        print(run(kind, seed, sound, folder))
    except Fault as fault:
        print(f"FAULT {fault}")
        raise
    finally:
        for name in ("log.txt", "out.txt"):
            if (place / name).exists():
                print((place / name).read_text(errors="replace")[-3000:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
