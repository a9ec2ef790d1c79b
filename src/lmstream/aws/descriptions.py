"""What the SDK knows of services and endpoints, without the endpoints of services that lmstream never asks."""

import functools
from pathlib import Path
from typing import Any, Final

import msgspec
from botocore.loaders import JSONFileLoader, Loader, create_loader

ASKED: Final[tuple[str, ...]] = ("firehose", "s3", "secretsmanager", "sts", "sso", "portal.sso", "oidc", "signin")
"""By the names of their endpoints: services that lmstream calls, and those from which the SDK has credentials. Of any
other the SDK takes the endpoint to be `service.region.amazonaws.com`, which most have."""

_Members = dict[str, msgspec.Raw]
_MEMBERS: Final = msgspec.json.Decoder(_Members)
_PARTITIONS: Final = msgspec.json.Decoder(list[_Members])


class _Files(JSONFileLoader):  # type: ignore[misc]  # botocore has no types
    """The SDK's files. Its endpoints are 7 MiB of objects, 6.7 of which are about three hundred other services."""

    def load_file(self, file_path: str) -> Any:
        """As the SDK's own, but for the one file. None where there is no such file."""
        path = Path(f"{file_path}.json")
        if path.stem == "endpoints" and path.is_file():
            return asked(path.read_bytes())
        return super().load_file(file_path)


@functools.cache
def loader(folders: str | None) -> Loader:
    """Reads descriptions for all clients of the process: once, not once a client. `folders` is the SDK's own setting
    `data_path`."""
    made: Loader = create_loader(folders)
    made.file_loader = _Files()
    return made


def asked(data: bytes) -> dict[str, Any]:
    """What the SDK's `endpoints.json` says, of each partition only about the services that are asked."""
    whole = _MEMBERS.decode(data)
    partitions = []
    for partition in _PARTITIONS.decode(whole.pop("partitions")):
        services = _MEMBERS.decode(partition.pop("services"))
        kept = {name: services[name] for name in ASKED if name in services}
        partitions.append(_decoded(partition) | {"services": _decoded(kept)})
    return _decoded(whole) | {"partitions": partitions}


def _decoded(members: _Members) -> dict[str, Any]:
    return {name: msgspec.json.decode(raw) for name, raw in members.items()}
