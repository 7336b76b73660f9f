"""Uses the client that openapi-python-client generated from the server's own document.

It binds, resolves, rotates and provokes errors, and prints the results as one JSON object. mypy
checks this file in its strict mode: a match that must be exhaustive decides what a program does
about each error code.
"""

import json
import os
import sys
from typing import assert_never
from uuid import UUID

from keyway_client import AuthenticatedClient
from keyway_client.api.rotations import begin_rotation, commit_rotation
from keyway_client.api.secret_providers import create_secret_provider, list_items
from keyway_client.api.vault import create_entry, delete_entry, get_entries, resolve
from keyway_client.models.begun_rotation import BegunRotation
from keyway_client.models.error import Error
from keyway_client.models.error_code import ErrorCode
from keyway_client.models.error_reason import ErrorReason
from keyway_client.models.new_rotation import NewRotation
from keyway_client.models.new_secret_provider import NewSecretProvider
from keyway_client.models.new_secret_provider_settings_type_0 import NewSecretProviderSettingsType0
from keyway_client.models.new_vault_entry import NewVaultEntry
from keyway_client.models.resolved import Resolved
from keyway_client.models.resolved_value import ResolvedValue
from keyway_client.models.rotation import Rotation
from keyway_client.models.secret_item import SecretItem
from keyway_client.models.to_resolve import ToResolve
from keyway_client.models.vault_entry import VaultEntry
from keyway_client.models.vault_entry_name import VaultEntryName

DOMAIN = "https://portal.example"
URL = os.environ["KEYWAY_URL"]
CONNECTION = UUID(os.environ["KEYWAY_CONNECTION"])
TITLE = os.environ["KEYWAY_ITEM"]


def client(key: str) -> AuthenticatedClient:
    return AuthenticatedClient(base_url=URL, token=key, prefix="", auth_header_name="cc-key")


KEYWAY = client(os.environ["KEYWAY_KEY"])


def whose_turn(code: ErrorCode) -> str:
    """Who has to act on an error."""
    match code:
        case (
            ErrorCode.BAD_REQUEST
            | ErrorCode.VALIDATION_FAILED
            | ErrorCode.NOT_ENCRYPTED
            | ErrorCode.UNAUTHENTICATED
            | ErrorCode.FORBIDDEN
            | ErrorCode.NOT_FOUND
            | ErrorCode.CONFLICT
            | ErrorCode.PAYLOAD_TOO_LARGE
            | ErrorCode.UNSUPPORTED_MEDIA_TYPE
            | ErrorCode.METHOD_NOT_ALLOWED
            | ErrorCode.UNSUPPORTED
        ):
            return "caller"
        case ErrorCode.RATE_LIMITED | ErrorCode.PROVIDER_PAUSED | ErrorCode.PROVIDER_UNAVAILABLE:
            return "time"
        case ErrorCode.BUSY | ErrorCode.ENDING | ErrorCode.TIMEOUT | ErrorCode.NOT_READY | ErrorCode.KEYS_UNAVAILABLE:
            return "time"
        case ErrorCode.PROVIDER_REFUSED:
            return "secret manager's administrator"
        case ErrorCode.PROVIDER_FAULT | ErrorCode.PROVIDER_NOT_INSTALLED:
            return "operator"
        case ErrorCode.AUDIT_UNAVAILABLE | ErrorCode.INTERNAL_ERROR:
            return "operator"
        case _:
            assert_never(code)


def failed(answer: object) -> list[str]:
    assert isinstance(answer, Error), answer
    reason = [answer.reason.value] if isinstance(answer.reason, ErrorReason) else []
    return [answer.code, whose_turn(answer.code), *reason]


def value(of: object) -> str | None:
    return of.value if isinstance(of, ResolvedValue) and isinstance(of.value, str) else None


def main() -> None:
    items = list_items.sync(id=CONNECTION, client=KEYWAY)
    assert isinstance(items, list), items
    item: SecretItem = next(item for item in items if item.title == TITLE)
    entry = NewVaultEntry(
        permissioned_user_id="generated",
        domain=DOMAIN,
        secret_provider_id=CONNECTION,
        secret_ref=item.ref,
    )
    bound = create_entry.sync(client=KEYWAY, body=entry)
    assert isinstance(bound, VaultEntry), bound
    name = ToResolve(permissioned_user_id="generated", domain=DOMAIN)
    first = resolve.sync(client=KEYWAY, body=name)
    assert isinstance(first, Resolved), first

    rotation = NewRotation(permissioned_user_id="generated", domain=DOMAIN)
    begun = begin_rotation.sync(client=KEYWAY, body=rotation)
    assert isinstance(begun, BegunRotation), begun
    second = begin_rotation.sync(client=KEYWAY, body=rotation)
    done = commit_rotation.sync(id=begun.id, client=KEYWAY)
    assert isinstance(done, Rotation), done
    rotated = resolve.sync(client=KEYWAY, body=name)
    assert isinstance(rotated, Resolved), rotated

    listed = get_entries.sync(client=KEYWAY)
    assert isinstance(listed, list), listed
    settings = NewSecretProviderSettingsType0()
    settings["token"] = "ops_no_token"
    wrong_token = NewSecretProvider(name="x", provider_type="1password", settings=settings)
    unknown_type = NewSecretProvider(name="x", provider_type="nobody", settings=settings)
    errors = {
        "rotation open": failed(second),
        "no key": failed(resolve.sync(client=client("sk_nobody"), body=name)),
        "no scope": failed(resolve.sync(client=client(os.environ["KEYWAY_NARROW_KEY"]), body=name)),
        "no entry": failed(resolve.sync(client=KEYWAY, body=ToResolve(permissioned_user_id="nobody", domain=DOMAIN))),
        "no name": failed(resolve.sync(client=KEYWAY, body=ToResolve())),
        "twice": failed(create_entry.sync(client=KEYWAY, body=entry)),
        "in the clear": failed(
            create_entry.sync(
                client=KEYWAY, body=NewVaultEntry(permissioned_user_id="own", domain=DOMAIN, password="plain")
            )
        ),
        "wrong token": failed(create_secret_provider.sync(client=KEYWAY, body=wrong_token)),
        "unknown type": failed(create_secret_provider.sync(client=KEYWAY, body=unknown_type)),
    }
    removed = delete_entry.sync(client=KEYWAY, body=VaultEntryName(permissioned_user_id="generated", domain=DOMAIN))
    assert not isinstance(removed, Error), removed
    json.dump(
        {
            "user name": value(first.username),
            "password": value(first.password),
            "state": done.state,
            "new password": begun.password,
            "rotated password": value(rotated.password),
            "entries": len(listed),
            "errors": errors,
        },
        sys.stdout,
    )


main()
