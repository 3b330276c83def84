"""The autoscaler as a policy of the scoreboard's simulator (`../shared/autoscale/run.py` says what that is)."""

from typing import Any

from streamflow.runtime import autoscaler
from streamflow.runtime.autoscaler import Memory, Observation, WorkerSeen, decide


class Policy:
    """Built for a scenario, of which it uses what an operator knows: the objective, the most workers, and how long
    starting and moving take."""

    def __init__(self, scenario: Any) -> None:
        self.scenario = scenario
        self.policy = autoscaler.Policy(1, scenario.nmax or scenario.P, scenario.slo)
        self.memory = Memory()

    def decide(self, m: dict[str, Any]) -> int:
        self.memory, decision = decide(self.memory, self._seen(m), self.policy)
        self.decision = decision
        return decision.workers

    def _seen(self, m: dict[str, Any]) -> Observation:
        workers = zip(m["ids"], m["proc"], m["busy"], m["up"], strict=True)
        nobodys = [-1] * len(m["back_p"])
        return Observation(
            now_s=m["t"],
            span_s=m["tau"],
            wanted=m["want"],
            workers=tuple(WorkerSeen(str(i), float(done), float(busy), float(up)) for i, done, busy, up in workers),
            starting=tuple(max(0.0, float(s)) for s in m["pend"]),
            arrivals=tuple(map(float, m["lam_p"])),
            backlog=tuple(map(float, m["back_p"])),
            owners=tuple(map(int, nobodys if m["own"] is None else m["own"])),
            age_s=float(m["age"]),
            paused=float(m["paused"]),
            start_s=self.scenario.D,
            pause_s=self.scenario.R,
        )
