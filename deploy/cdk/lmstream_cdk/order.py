"""The order in which stacks can follow one another without an export being dropped that another one imports."""

from collections.abc import Mapping

from lmstream_cdk.parts import Template, exports, imports, references


class Order:
    """The order in which stacks can be updated without dropping an export that a deployed one imports."""

    def __init__(
        self, before: Mapping[str, Template], after: Mapping[str, Template], moved: set[tuple[str, str]]
    ) -> None:
        self._deployed, self._after, self._moved = dict(before), after, moved

    def first(self) -> tuple[list[str], list[str]]:
        """Stacks that must go before their turn, and sentences of what cannot be ordered."""
        early: list[str] = []
        stuck: list[str] = []
        for stack in self._by_dependency():
            for user, names in self._in_use(stack).items():
                if user not in self._after:
                    what = f"{user} is no longer in the settings and still imports {', '.join(sorted(names))}"
                    stuck.append(f"{stack}: {what}: delete that stack first")
                elif self._can_go_before(user, names):
                    early.append(user)
                    self._deployed[user] = self._after[user]
                else:
                    what = f"{user} imports {', '.join(sorted(names))}, which goes, and cannot be updated before it"
                    stuck.append(f"{stack}: {what}: change one setting at a time")
            self._deployed[stack] = self._after[stack]
        return early, stuck

    def _can_go_before(self, user: str, names: set[str]) -> bool:
        """Whether a stack can be updated now, and lets go of these exports by it."""
        needs = imports(self._after[user])
        return not needs & names and needs <= self._offered() and not self._in_use(user)

    def _by_dependency(self) -> list[str]:
        left, sorted_out = dict(self._after), []
        while left:
            offered = {name for stack in left for name in exports(left[stack])}
            free = [stack for stack in left if not imports(left[stack]) & (offered - exports(left[stack]).keys())]
            for stack in free or list(left):
                sorted_out.append(stack)
                del left[stack]
        return sorted_out

    def _offered(self) -> set[str]:
        return {name for template in self._deployed.values() for name in exports(template)}

    def _in_use(self, stack: str) -> dict[str, set[str]]:
        """Exports that an update of the stack would drop or change, by the deployed stacks that import them."""
        was, wanted = exports(self._deployed.get(stack, {})), exports(self._after[stack])
        gone = {
            name
            for name, value in was.items()
            if wanted.get(name) != value or any((stack, target) in self._moved for _, target in references(value))
        }
        users = {user: imports(template) & gone for user, template in self._deployed.items() if user != stack}
        return {user: names for user, names in users.items() if names}
