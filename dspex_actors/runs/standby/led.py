"""The runs that a node coordinates, and those that it did and that go on elsewhere."""

from __future__ import annotations

from dspex_actors.runs.standby.coordination import Coordination


class Led:
    """Runs, and those of their steps → who keeps them in sync: the same one for all of an optimisation."""

    def __init__(self) -> None:
        """Have none."""
        self._runs: dict[str, Coordination] = {}
        self._lost: set[str] = set()

    def __contains__(self, run_id: object) -> bool:
        """Whether a run is coordinated here."""
        return run_id in self._runs

    def get(self, run_id: str) -> Coordination | None:
        """Return who keeps a run in sync; None: nobody here."""
        return self._runs.get(run_id)

    @property
    def run_ids(self) -> list[str]:
        """All runs that are coordinated here."""
        return list(self._runs)

    @property
    def heads(self) -> list[Coordination]:
        """Each coordination once."""
        return [run for run_id, run in self._runs.items() if run.run_id == run_id]

    def add(self, run: Coordination) -> None:
        """Have a run, and those of its steps so far, be coordinated here."""
        self._runs.update(dict.fromkeys(run.run_ids, run))
        self._lost.difference_update(run.run_ids)

    def add_part(self, run_id: str, run: Coordination) -> None:
        """Have a run of a step be kept in sync with the whole."""
        self._runs[run_id] = run
        run.add(run_id)

    def forget(self, run: Coordination) -> None:
        """Have a run, and those of its steps, be coordinated here no more."""
        for run_id in run.run_ids:
            if self._runs.get(run_id) is run:
                del self._runs[run_id]

    def lose(self, run: Coordination) -> None:
        """Take note that a run goes on elsewhere: who writes it here is refused for good."""
        self.forget(run)
        self._lost.update(run.run_ids)
        run.fence()

    def is_lost(self, run_id: str) -> bool:
        """Whether a run was coordinated here and goes on elsewhere."""
        return run_id in self._lost
