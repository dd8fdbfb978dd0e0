"""Prepares a bench for gates: the environment of a case, and the tree that would land.

Invariant: a unit is the suspect of a failed setup only if trunk's setup works on the same bench.
"""

from factory.judging import rewrites
from factory.judging.case import Case
from factory.judging.environments import Environments
from factory.judging.setups import SetupFailed, Suspect
from factory.judging.standing import Asked, Ready


class Preparation:
    """Makes environments for gates."""

    def __init__(self, environments: Environments) -> None:
        self._environments = environments

    async def ready(self, case: Case) -> tuple[Ready, bool] | SetupFailed:
        """Return the environment, and whether the bench already shows the tree that would land."""
        setup = case.rules.setup
        await case.bench.show(case.commit, keeps=setup.dependencies)
        ready = await self._environments.found(case.place, setup)
        if ready is None:
            made = await self._make_environment(case)
            if isinstance(made, SetupFailed):
                return made
            ready = made
        if not setup.builds:
            return ready, not ready.built
        # Setup may overwrite files that git tracks.
        if ready.built:
            await case.lay_out(ready)
        over = await case.changed()
        if over:
            return SetupFailed(sentence=rewrites.built_over(over), suspect=Suspect.UNIT)
        return ready, True

    async def _make_environment(self, case: Case) -> Ready | SetupFailed:
        """Return a new environment. Trunk's code makes it if trunk needs the same one.

        If trunk's code made an environment, other candidates can use it too.
        """
        setup = case.rules.setup
        if case.trunk_tree and case.place.candidate:
            await self._make_by_trunk(case)
        return await self._environments.ready(case.place, setup)

    async def _make_by_trunk(self, case: Case) -> None:
        environments, setup = self._environments, case.rules.setup
        asked = await environments.asked(case.place, setup)
        if await environments.lacks_only_its_build(case.place, setup, asked):
            return
        asked_by_trunk = await self._asked_by_trunk(case)
        if asked_by_trunk.dependencies == asked.dependencies:
            # A failure here is ignored: it occurs again when the case's own environment is made.
            await environments.ready(case.by_trunk.place, setup)
        await case.bench.show(case.commit, keeps=setup.dependencies)

    async def _asked_by_trunk(self, case: Case) -> Asked:
        """Show trunk's tree, and return what its environment is made from."""
        setup = case.rules.setup
        await case.bench.show(case.trunk, keeps=setup.dependencies)
        return await self._environments.asked(case.by_trunk.place, setup)

    # ── after a setup failed ──

    async def may_be_broken(self, case: Case) -> bool:
        """Whether the tree has changed what setup reads, and trunk's setup works on this bench.

        Trunk's setup runs now and as the tree's did: with a copy of the same dependencies, or
        without any. So it needs the network if the tree's setup needs the network.
        """
        environments, setup = self._environments, case.rules.setup
        await case.bench.show(case.commit, keeps=setup.dependencies)
        asked = await environments.asked(case.place, setup)
        by_trunk = await self._asked_by_trunk(case)
        if by_trunk.dependencies != asked.dependencies:
            made = await environments.building(case.by_trunk.place, setup).build_afresh(by_trunk)
        elif by_trunk.build == asked.build or not setup.reads_tree:
            return False
        else:
            made = await environments.ready(case.by_trunk.place, setup)
        return isinstance(made, Ready)
