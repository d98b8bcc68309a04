"""Latency of the service at 1, 10 and 100 rows, and its memory after thousands of requests.

    python load_test.py [requests]

The server is started here, on a free port of 127.0.0.1, and ends with the test.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import train

from skmixed.datasets import load_scotssec

HERE = Path(__file__).parent
COLUMNS = ["verbal", "sex", "social", "primary", "second"]


def main(requests=2000):
    """Print latencies and memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        train.main(path)
        port = _free_port()
        command = [sys.executable, "-m", "uvicorn", "service:app", "--log-level", "warning"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(command, cwd=HERE, env=os.environ | {"MODEL": str(path)})
        try:
            _measure(_connected(port), server.pid, int(requests))
        finally:
            server.terminate()
            server.wait()


def _measure(connection, pid, requests):
    rows = json.loads(load_scotssec().frame[COLUMNS].to_json(orient="records"))
    rng = np.random.default_rng(0)
    for n in (1, 10, 100):  # caches fill
        _latencies(connection, rows, n, 200, rng)
    start = _memory(pid)
    print("rows      p50      p99")
    for n in (1, 10, 100):
        times = _latencies(connection, rows, n, requests, rng)
        p50, p99 = np.percentile(times, [50, 99]) * 1e3
        print(f"{n:4d} {p50:5.1f} ms {p99:5.1f} ms")
    end = _memory(pid)
    print(f"memory {start:.1f} MB, after {3 * requests:,} requests {end:.1f} MB")


def _latencies(connection, rows, n, requests, rng):
    """Seconds that every request took."""
    times = []
    for _ in range(requests):
        body = json.dumps([rows[i] for i in rng.integers(0, len(rows), n)])
        begin = time.perf_counter()
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        times.append(time.perf_counter() - begin)
        assert answer.status == 200 and len(json.loads(text)) == n, text
    return times


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _connected(port):
    """A connection, once the server answers."""
    for _ in range(300):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", "/health")
            connection.getresponse().read()
            return connection
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the service has not started")


def _memory(pid):
    """Resident memory of a process in MB (Linux)."""
    [line] = [
        line
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        if line.startswith("VmRSS")
    ]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:2])
