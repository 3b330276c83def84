"""A plant for the autoscaler: workers that share partitions, second by second, with the time they take to start."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from streamflow.runtime.autoscaler import Decision, Memory, Observation, Policy, WorkerSeen, decide

START_S, PAUSE_S = 2.0, 1.0


@dataclass
class Plant:
    """`rate`: events/s of one worker by itself; each further one slows all by `contention` of that. Decisions are
    followed. `history`: (seconds, workers wanted, age of the oldest event)."""

    policy: Policy
    rate: float = 100.0
    partitions: int = 16
    weights: Sequence[float] = ()
    contention: float = 0.0
    wanted: int = 1
    memory: Memory = field(default_factory=Memory)
    now_s: float = 0.0
    workers: list[tuple[str, float]] = field(default_factory=list)
    starting: list[float] = field(default_factory=list)
    paused_s: float = 0.0
    queues: list[float] = field(default_factory=list)
    history: list[tuple[float, int, float]] = field(default_factory=list)
    decision: Decision = field(default_factory=lambda: Decision(0, ""))
    worker_s: float = 0.0

    def __post_init__(self) -> None:
        self.queues = [0.0] * self.partitions
        self.weights = self.weights or [1.0] * self.partitions
        self.workers = [(f"w{i}", -1e6) for i in range(self.wanted)]

    def run(self, seconds: int, load: float | Callable[[float], float]) -> list[Decision]:
        """The decisions that changed the number of workers."""
        changes = []
        for _ in range(seconds):
            before = self.wanted
            decision = self.second(load(self.now_s) if callable(load) else load)
            changes += [decision] if decision.workers != before else []
        return changes

    def second(self, load: float) -> Decision:
        self.now_s += 1
        self._start()
        arrivals = [load * weight / sum(self.weights) for weight in self.weights]
        self.queues = [queue + new for queue, new in zip(self.queues, arrivals, strict=True)]
        paused = min(1.0, self.paused_s)
        self.paused_s -= paused
        rate = self.rate / (1 + self.contention * max(0, len(self.workers) - 1))
        done = self._serve(rate * (1 - paused))
        ages = [queue / new for queue, new in zip(self.queues, arrivals, strict=True) if new > 0]
        self.worker_s += len(self.workers) + len(self.starting)
        seen = Observation(
            now_s=self.now_s,
            span_s=1.0,
            wanted=self.wanted,
            workers=tuple(
                WorkerSeen(name, events, events / rate, self.now_s - since_s)
                for (name, since_s), events in zip(self.workers, done, strict=True)
            ),
            starting=tuple(at_s - self.now_s for at_s in self.starting),
            arrivals=tuple(arrivals),
            backlog=tuple(self.queues),
            owners=tuple(p % len(self.workers) if self.workers else -1 for p in range(self.partitions)),
            age_s=max(ages, default=0.0),
            paused=paused,
            start_s=START_S,
            pause_s=PAUSE_S,
            idle=not load and not sum(self.queues),
            bottleneck="sink write",
        )
        self.memory, self.decision = decide(self.memory, seen, self.policy)
        self.history.append((self.now_s, self.decision.workers, seen.age_s))
        self._follow(self.decision.workers)
        return self.decision

    def over_s(self, since_s: float = 0.0) -> int:
        """Seconds since then in which the oldest event was older than the objective."""
        return sum(age_s > self.policy.latency_s for at_s, _, age_s in self.history if at_s > since_s)

    def _start(self) -> None:
        for _ in [at_s for at_s in self.starting if at_s <= self.now_s]:
            self.workers.append((f"w{self.now_s}/{len(self.workers)}", self.now_s))
            self.paused_s = PAUSE_S
        self.starting = [at_s for at_s in self.starting if at_s > self.now_s]

    def _follow(self, wanted: int) -> None:
        self.wanted = wanted
        while len(self.workers) + len(self.starting) > wanted:
            self.starting.pop() if self.starting else self.workers.pop()
            self.paused_s = PAUSE_S
        while len(self.workers) + len(self.starting) < wanted:
            self.starting.append(self.now_s + START_S)

    def _serve(self, each: float) -> list[float]:
        done = []
        for worker in range(len(self.workers)):
            held = range(worker, self.partitions, len(self.workers))
            waiting = sum(self.queues[p] for p in held)
            served = min(waiting, each)
            for p in held:
                self.queues[p] *= 1 - served / waiting if waiting else 1.0
            done.append(served)
        return done
