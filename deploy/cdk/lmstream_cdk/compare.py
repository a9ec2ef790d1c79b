"""Compare what is deployed with what was synthesized: what AWS would refuse, and in which order stacks can follow.

CloudFormation finds these out in the middle of an update, after an hour perhaps, and rolls back. Here they are
sentences before anything is asked.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lmstream_cdk.order import Order
from lmstream_cdk.parts import Template, at, exports, references, resolved
from lmstream_cdk.refused import RULES, SETTINGS, cluster_requests
from lmstream_cdk.schemas import kind

_KEPT: Final = ("Retain", "RetainExceptOnCreate", "Snapshot")


@dataclass
class Plan:
    """What an update would come to."""

    refused: list[str] = field(default_factory=list)
    """One sentence each: why AWS would refuse it, and what to do. Nothing may be deployed unless this is empty."""
    first: list[str] = field(default_factory=list)
    """Stacks to be updated by themselves before the rest: they give up what another one drops."""
    notes: list[str] = field(default_factory=list)
    """What stays behind, or is made again."""


@dataclass(frozen=True)
class Change:
    """One resource that would be replaced."""

    stack: str
    logical_id: str
    kind: str
    path: tuple[str, ...]
    """The property that cannot change."""
    direct: bool
    """Whether the property itself changed, and not only what it refers to."""


def settled(templates: Mapping[str, Template], region: str, account: str) -> dict[str, Template]:
    """Templates with what is known of the account filled in: a name is the same however it is put together."""
    if isinstance(templates, Settled):
        return templates
    known = {"AWS::AccountId": account, "AWS::Region": region, "AWS::Partition": "aws"}
    return Settled({name: resolved(each, known) for name, each in templates.items()})


class Settled(dict[str, Template]):
    """Templates that have been through `settled`, which need not go through it again."""


def compare(before: Mapping[str, Template], after: Mapping[str, Template], region: str, account: str) -> Plan:
    """Templates by stack name, deployed and synthesized. What is not deployed yet can only be made."""
    plan = Plan()
    before, after = (settled(side, region, account) for side in (before, after))
    plan.refused += _other_path(before, after)
    shared = [name for name in after if name in before]
    replaced = _replaced(before, after, shared, region)
    plan.refused += _replacements(before, after, replaced, region)
    for stack in shared:
        old, new = _resources(before[stack]), _resources(after[stack])
        plan.refused += _types(stack, old, new)
        plan.refused += _beyond(stack, old, new)
        plan.notes += [
            f"{stack}: {name} ({old[name]['Type']}) is no longer in the settings; it stays, and costs what it costs"
            for name in old
            if name not in new and old[name].get("DeletionPolicy") in _KEPT
        ]
    plan.refused += _taken(before, after, region)
    plan.notes += [
        f"{stack} is no longer in the settings; it stays until `make destroy` with the settings it was deployed with"
        for stack in before
        if stack not in after
    ]
    if not plan.refused:  # an order of what cannot be would only repeat it
        moved = {(each.stack, each.logical_id) for each in replaced}
        plan.first, plan.refused = Order(before, after, moved).first()
    return plan


def _other_path(before: Mapping[str, Template], after: Mapping[str, Template]) -> Iterator[str]:
    """Between Firehose and objects of its own a deployment cannot change: the table's rows and the group's members
    would be of both kinds for a while, and what the other path has would go or stay by chance."""
    for stack, kept in (("transform", "firehose"), ("container", "direct")):
        for name in before:
            if name.endswith(f"-{stack}") and name not in after and f"{name.rpartition('-')[0]}-data" in after:
                yield (
                    f'path: "{kept}" is deployed, and a deployment keeps its path: set it back, and make another '
                    "deployment beside it, with a name and a group of its own (docs/deploy.md, From Firehose to a lake)"
                )


def _resources(template: Template) -> dict[str, Any]:
    found: dict[str, Any] = template.get("Resources", {})
    return found


def _replaced(
    before: Mapping[str, Template], after: Mapping[str, Template], stacks: list[str], region: str
) -> list[Change]:
    """Resources of which a property that cannot change did change, or refers to one that is replaced itself."""
    found: dict[tuple[str, str], Change] = {}
    sources = {name: (stack, value) for stack in after for name, value in exports(after[stack]).items()}
    while True:
        size = len(found)
        for stack in stacks:
            old, new = _resources(before[stack]), _resources(after[stack])
            for name in old.keys() & new.keys():
                if (stack, name) in found or old[name]["Type"] != new[name]["Type"]:
                    continue
                change = _change(stack, name, old[name], new[name], region, found, sources)
                if change:
                    found[stack, name] = change
        if len(found) == size:
            return sorted(found.values(), key=lambda each: (not each.direct, each.stack, each.logical_id))


def _change(
    stack: str,
    name: str,
    old: dict[str, Any],
    new: dict[str, Any],
    region: str,
    found: Mapping[tuple[str, str], Change],
    sources: Mapping[str, tuple[str, Any]],
) -> Change | None:
    was, wanted = old.get("Properties", {}), new.get("Properties", {})
    if was == wanted and not found:
        return None
    for path in kind(region, new["Type"]).create_only:
        if at(was, path) != at(wanted, path):
            return Change(stack, name, new["Type"], path, direct=True)
        for how, other in references(at(wanted, path)):
            place, value = (stack, {"Ref": other}) if how == "Ref" else sources.get(other, ("", None))
            if any((place, target) in found for _, target in references(value)):
                return Change(stack, name, new["Type"], path, direct=False)
    return None


def _replacements(
    before: Mapping[str, Template], after: Mapping[str, Template], replaced: list[Change], region: str
) -> Iterator[str]:
    """Replacements that AWS refuses, or that would leave data behind."""
    told: dict[str, list[str]] = {}
    for each in replaced:
        old, new = (_resources(side[each.stack])[each.logical_id] for side in (before, after))
        name = kind(region, each.kind).name
        fixed = at(new.get("Properties", {}), name) if name else None
        kept = new.get("UpdateReplacePolicy") in _KEPT or old.get("DeletionPolicy") in _KEPT
        same = fixed is not None and fixed == at(old.get("Properties", {}), name)
        if each.kind == "AWS::Lambda::EventSourceMapping" or not (kept or same):
            continue  # a mapping has rules of its own
        why = "holds what must not be lost" if kept else "has a name that is taken until it is gone"
        was = _quoted(at(old.get("Properties", {}), each.path))
        told.setdefault(_setting(each) if each.direct else "", []).append(
            f"{each.logical_id}{was} of {each.stack} {why}"
        )
    # What only refers to something that is replaced is told when nothing else is, with what it goes back to.
    roots = ", ".join(dict.fromkeys(_setting(each) for each in replaced if each.direct))
    for setting in [key for key in told if key] or list(told):
        said = "; ".join(told[setting])
        yield f"{setting or roots}: AWS would have to replace what is deployed. Set it back: {said}"


def _setting(change: Change) -> str:
    return SETTINGS.get(f"{change.kind}/{change.path[0]}", f"{change.kind}, {'/'.join(change.path)}")


def _quoted(value: Any) -> str:
    return f" ({json.dumps(value)})" if isinstance(value, str | int) else ""


def _types(stack: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in old.keys() & new.keys():
        if old[name]["Type"] != new[name]["Type"]:
            yield f"{stack}: {name} is {old[name]['Type']}, and cannot become {new[name]['Type']} under the same name"


def _beyond(stack: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """What AWS refuses beyond the schemas."""
    for name in old.keys() & new.keys():
        was, wanted = old[name].get("Properties", {}), new[name].get("Properties", {})
        rule = RULES.get(new[name]["Type"])
        if rule is not None and old[name]["Type"] == new[name]["Type"]:
            yield from (
                f"{setting}: {what.replace('NAME', stack.rpartition('-')[0])}" for setting, what in rule(was, wanted)
            )
        if new[name]["Type"] == "AWS::MSK::Cluster":
            owner = [at(each, ("ConfigurationInfo", "Arn")) for each in (was, wanted)]
            pairs = [
                [side.get(target, {}).get("Properties", {}) for _, target in references(ref)]
                for side, ref in zip((old, new), owner, strict=True)
            ]
            made = cluster_requests(was, wanted, properties_changed=pairs[0] != pairs[1])
            if len(made) > 1:
                yield f"{', '.join(made)}: MSK takes one of these changes at a time; deploy them one after the other"


def _taken(before: Mapping[str, Template], after: Mapping[str, Template], region: str) -> Iterator[str]:
    """Resources to be made whose name something deployed has already: CloudFormation makes before it deletes."""
    names: dict[str, str] = {}
    for stack, template in before.items():
        for logical_id, resource in _resources(template).items():
            key = _identity(resource, region)
            if key:
                names[key] = f"{logical_id} of {stack}"
    for stack, template in after.items():
        old = _resources(before.get(stack, {}))
        for logical_id, resource in _resources(template).items():
            key = _identity(resource, region)
            if logical_id not in old and key in names:
                yield f"{stack}: {logical_id} would get a name that {names[key]} still has; deploy without it first"


def _identity(resource: Mapping[str, Any], region: str) -> str:
    name = kind(region, resource["Type"]).name
    value = at(resource.get("Properties", {}), name) if name else None
    # Networks of a subnet are those of one VPC, and an endpoint's name is its service.
    return json.dumps([resource["Type"], value]) if value is not None and "EC2" not in resource["Type"] else ""
