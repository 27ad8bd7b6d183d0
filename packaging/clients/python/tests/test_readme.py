"""Runs the programs of the README, as their reader would, with `README_PYTHON` if it is set."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from world import PATIENCE, Server

from triggerd import Client, operations

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_producer_and_the_consumer_of_the_readme_run(server: Server, tmp_path: Path) -> None:
    producer, consumer = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    for program in (producer, consumer):
        assert len([line for line in program.splitlines() if line]) <= 10
    admin = Client(server.url, server.admin_token)
    made = admin.request(operations.generate_key({"organization": "README", "tier": "pro"}))
    python = [os.environ.get("README_PYTHON", sys.executable), "-u"]
    environment = {**os.environ, "TRIGGERD_URL": server.url, "TRIGGERD_API_KEY": made["key"]}
    environment.pop("PYTHONPATH", None)
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE}
    sent = subprocess.run([*python, "-c", producer], check=True, timeout=PATIENCE, **options)
    assert re.fullmatch(rb"stored evt_\w{26}\n100 accepted\n", sent.stdout)
    consuming = subprocess.Popen([*python, "-c", consumer], **options)
    assert consuming.stdout
    got = [consuming.stdout.readline() for _ in range(101)]
    consuming.kill()
    consuming.wait()
    consuming.stdout.close()
    assert got[0] == b"got order.created 1017\n"
    assert got[1:] == [f"got order.paid {order}\n".encode() for order in range(100)]
