"""A real ComfyUI, run as a server of its own on an empty folder, and what a test says to it. COMFYUI_DIR names it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMFYUI = os.environ.get("COMFYUI_DIR", "")
PYTHON = os.environ.get("COMFYUI_PYTHON", sys.executable)
WHY_NOT = "" if COMFYUI else "COMFYUI_DIR names no checkout of ComfyUI"
START_SECONDS = 300
LISTENER = """
import asyncio, json, sys, aiohttp
async def listen(url):
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
        async for told in socket:
            if told.type == aiohttp.WSMsgType.TEXT:
                print(told.data, flush=True)
            else:
                kind, text = told.data[:4].hex(), told.data[4:].decode(errors="replace")
                data = {"size": len(told.data), "text": text if kind == "00000003" else ""}
                print(json.dumps({"type": "bytes", "data": data}), flush=True)
asyncio.run(listen(sys.argv[1]))
"""
"""Runs in ComfyUI's Python, which has a library for web sockets, and prints a line per message."""


class RefusedError(Exception):
    """The server did not take a prompt; the answer is the argument."""


class Server:
    """ComfyUI with this checkout as the pack `name`, on a folder `base` of its own."""

    def __init__(self, base: Path, name: str = "duovsr", pages: Path | None = None, options: tuple[str, ...] = ()):
        """pages: a front end to serve; None: an empty page."""
        self.base, self.client, self.messages = base, uuid.uuid4().hex, list[dict[str, Any]]()
        for folder in ("custom_nodes", "input", "output", "models/duovsr", "pages"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        (base / "pages" / "index.html").write_text("<!doctype html><title>ComfyUI</title>")
        (base / "custom_nodes" / name).symlink_to(ROOT)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = base / "log.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    PYTHON, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self.port),
                    "--base-directory", str(base), "--database-url", "sqlite:///:memory:", "--disable-auto-launch",
                    "--disable-api-nodes", "--disable-all-custom-nodes", "--whitelist-custom-nodes", name,
                    "--front-end-root", str(pages or base / "pages"), *options,
                ],
                cwd=COMFYUI, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip
        self._listener: subprocess.Popen[str] | None = None
        try:
            self._wait()
            self._listen()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.get("/system_stats")
            except OSError:
                time.sleep(0.5)
            else:
                return
        raise RuntimeError(f"ComfyUI did not start; it said:\n{self.log.read_text()[-4000:]}")

    def _listen(self) -> None:
        url = f"ws://127.0.0.1:{self.port}/ws?clientId={self.client}"
        self._listener = subprocess.Popen([PYTHON, "-c", LISTENER, url], stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._note, daemon=True)
        self._reader.start()
        self.until(lambda told: told["type"] == "status")

    def _note(self) -> None:
        assert self._listener is not None and self._listener.stdout is not None
        for line in self._listener.stdout:
            self.messages.append({**json.loads(line), "at": time.monotonic()})

    def stop(self) -> None:
        """End the server and what listens to it."""
        for process in (self._listener, self.process):
            if process is not None:
                process.terminate()
                process.wait(60)
        if self._listener is not None and self._listener.stdout is not None:
            self._reader.join(60)
            self._listener.stdout.close()

    def get(self, path: str) -> Any:
        """JSON that the server answers; text where it is none."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            text = answer.read().decode()
        try:
            return json.loads(text)
        except ValueError:
            return text

    def post(self, path: str, content: Any) -> Any:
        """JSON for JSON; RefusedError with the answer of a status of 400."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise RefusedError(json.loads(error.read())) from error
        return json.loads(text) if text else None

    def until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 300, start: int = 0) -> dict[str, Any]:
        """The first message from number `start` on that is wanted."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for n in range(start, len(self.messages)):
                if wanted(self.messages[n]):
                    return self.messages[n]
            time.sleep(0.01)
        raise AssertionError(f"not told within {seconds} s; the last was {self.messages[-3:]}")

    def queue(self, prompt: dict[str, Any]) -> str:
        """The number of a prompt that was queued. RefusedError if it was not."""
        return str(self.post("/prompt", {"prompt": prompt, "client_id": self.client})["prompt_id"])

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """What the history says of a prompt when it has ended, well or not."""
        number = self.queue(prompt)
        ends = ("execution_success", "execution_error", "execution_interrupted")
        self.until(lambda told: told["type"] in ends and told["data"]["prompt_id"] == number)
        end = time.monotonic() + 30
        while number not in (history := self.get(f"/history/{number}")):
            assert time.monotonic() < end
            time.sleep(0.05)
        return dict(history[number])

    def error(self, prompt: dict[str, Any]) -> str:
        """The message of a prompt that must fail."""
        ended = self.run(prompt)
        assert ended["status"]["status_str"] == "error", ended["status"]
        return str(next(data["exception_message"] for kind, data in ended["status"]["messages"] if "error" in kind))

    def temporary(self) -> list[Path]:
        """Files of the pack in ComfyUI's temporary folder."""
        return sorted((self.base / "temp").rglob("duovsr_*"))

    def memory(self, what: str = "VmRSS") -> int:
        """Bytes that the server holds (Linux); VmHWM: at most so far."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))


def ran(ended: dict[str, Any]) -> dict[str, Any]:
    """The outputs of a prompt that must have succeeded, by the number of the node."""
    assert ended["status"]["status_str"] == "success", ended["status"]["messages"]
    return dict(ended["outputs"])


def as_prompt(workflow: dict[str, Any], nodes: dict[str, Any]) -> dict[str, Any]:
    """What the front end sends for a workflow (UI JSON 0.4). nodes: the answer of /object_info."""
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] not in nodes or node["mode"] in (2, 4):  # notes; muted or bypassed
            continue
        values = iter(node.get("widgets_values", []))
        linked = {given["name"]: sources[given["link"]] for given in node["inputs"] if given["link"] is not None}
        asked = nodes[node["type"]]["input"]
        inputs = _widgets({**asked.get("required", {}), **asked.get("optional", {})}, values)
        assert next(values, None) is None, f"{node['type']} has more widget values than widgets"
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": {**inputs, **linked}}
    return prompt


def _widgets(asked: dict[str, Any], values: Any, prefix: str = "") -> dict[str, Any]:
    """Values of the widgets, in the order of the schema. A combo may bring further ones with the option chosen."""
    inputs: dict[str, Any] = {}
    for name, (kind, *more) in asked.items():
        facts = more[0] if more else {}
        is_widget = isinstance(kind, list) or "default" in facts or "options" in facts
        if facts.get("hidden") or facts.get("forceInput") or not is_widget:
            continue
        inputs[prefix + name] = value = next(values, facts.get("default"))
        if kind == "COMFY_DYNAMICCOMBO_V3":
            chosen = next(option for option in facts["options"] if option["key"] == value)["inputs"]
            inner = {**chosen.get("required", {}), **chosen.get("optional", {})}
            inputs |= _widgets(inner, values, f"{prefix}{name}.")
        if facts.get("control_after_generate") or facts.get("image_upload") or facts.get("video_upload"):
            next(values, None)  # a widget of the front end alone
    return inputs
