"""What CloudFormation's own schemas say of a resource type: what can never change, and what its name is.

The schemas are those that cfn-lint carries; nothing is asked of AWS.
"""

from functools import cache
from typing import Any, Final, NamedTuple

from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

_NAMES: Final = {
    "AWS::Budgets::Budget": "Budget/BudgetName",
    "AWS::Glue::Database": "DatabaseInput/Name",
    "AWS::Glue::Table": "TableInput/Name",
    "AWS::EC2::SecurityGroup": "GroupName",
    # Two at a time of these cannot be, whatever they are called: networks overlap, private names are taken.
    "AWS::EC2::Subnet": "CidrBlock",
    "AWS::EC2::VPCEndpoint": "ServiceName",
}
_NAMELESS: Final = {"AWS::Lambda::Version"}


class Kind(NamedTuple):
    """One resource type."""

    create_only: tuple[tuple[str, ...], ...]
    """Paths of properties whose change replaces the resource."""
    name: tuple[str, ...]
    """Path of the property that is its name; empty when there is none."""


@cache
def kind(region: str, resource_type: str) -> Kind:
    """What the schema of a type says in a region; nothing for types without one."""
    try:
        schema: dict[str, Any] = PROVIDER_SCHEMA_MANAGER.get_resource_schema(region, resource_type).schema
    except Exception:  # noqa: BLE001 - cfn-lint has errors of its own for custom types and for regions without a type
        return Kind((), ())
    listed = [*schema.get("createOnlyProperties", ()), *schema.get("conditionalCreateOnlyProperties", ())]
    paths = tuple(tuple(each.removeprefix("/properties/").split("/")) for each in listed)
    short = resource_type.rpartition("::")[2]
    name = _NAMES.get(resource_type)
    if name is None and resource_type not in _NAMELESS:
        name = next((each for each in (f"{short}Name", "Name") if each in schema.get("properties", {})), None)
    return Kind(paths, tuple(name.split("/")) if name else ())
