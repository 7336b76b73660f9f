"""CloudCruise's own Python SDK as a program.

It reads one command per line on standard input and prints one answer per line on standard output.

    {"op": "client", "base_url": "http://127.0.0.1:9000", "api_key": "sk_...", "encryption_key": "..."}
        -> {"ok": true, "result": null}
    {"op": "vault.get", "filters": {"domain": "https://acme.com"}}
        -> {"ok": false, "error": {"name": "RuntimeError", "message": "..."}}

The process ends with its standard input.
"""

import dataclasses
import json
import sys

from cloudcruise import CloudCruise, CloudCruiseParams
from cloudcruise.vault.types import GetVaultEntriesFilters, VaultEntryInput

client = None


def start(**params):
    global client
    client = CloudCruise(CloudCruiseParams(**params))


COMMANDS = {
    "client": start,
    "vault.create": lambda entry: client.vault.create(VaultEntryInput(**entry)),
    "vault.get": lambda filters=None: client.vault.get(GetVaultEntriesFilters(**filters) if filters else None),
    "vault.update": lambda entry: client.vault.update(VaultEntryInput(**entry)),
    "vault.delete": lambda params: client.vault.delete(params),
    "vault.tfaCode": lambda permissioned_user_id, domain: client.vault.get_tfa_code(permissioned_user_id, domain),
    "secretProviders.list": lambda: client.secret_providers.list(),
    "secretProviders.items": lambda id: client.secret_providers.list_items(id),
}


def plain(result):
    """The JSON form of the SDK's dataclasses."""
    if isinstance(result, list):
        return [plain(entry) for entry in result]
    return dataclasses.asdict(result) if dataclasses.is_dataclass(result) else result


def answer(line):
    try:
        command = json.loads(line)
        return {"ok": True, "result": plain(COMMANDS[command.pop("op")](**command))}
    except Exception as error:
        return {"ok": False, "error": {"name": type(error).__name__, "message": str(error)}}


for line in sys.stdin:
    if line.strip():
        print(json.dumps(answer(line)), flush=True)
