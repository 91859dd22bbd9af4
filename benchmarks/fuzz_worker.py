"""A process in which malformed inputs are tried one after another: `python fuzz_worker.py CORPUS FOLDER`.

Each line on stdin is a kind and a seed, each line on stdout a JSON object: what became of it, the fault or null,
seconds, and the growth of the process in bytes. Whoever started it learns the rest from its silence or its death.
"""

import json
import os
import resource
import shutil
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

MAKING = "making"
"""A file beside the input's folder while libav writes a strange video: if it dies of that, there was no input yet."""
ADDRESS_SPACE = 24 * 2**30
"""Bytes that the process may reserve; a MemoryError is the answer to more, the machine is not to suffer."""


def peak() -> int:
    """Most resident memory since the last `reset_peak`, in bytes; 0 where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def reset_peak() -> int:
    """Begin to measure the peak anew; what is resident now, in bytes."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def main(corpus: Path, folder: Path) -> None:
    out = os.fdopen(os.dup(1), "w")
    orders = os.fdopen(os.dup(0))
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")

    import av.logging
    import torch
    from fuzz_targets import Fault, run

    torch.set_num_threads(1)
    av.logging.set_level(None)
    print(json.dumps({"ready": True}), file=out, flush=True)
    for order in orders:
        kind, seed = order.split()
        place = folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        before, began, fault, word = reset_peak(), time.monotonic(), None, "fault"
        try:
            word = run(kind, seed, corpus, place)
        except Fault as found:
            fault = str(found)
        grown = max(0, peak() - before)
        answer = {"word": word, "fault": fault, "seconds": time.monotonic() - began, "grown": grown}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
