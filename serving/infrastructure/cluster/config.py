"""How many replicas there are, and what each of them gets. Imports no Ray."""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle.errors import LifecycleError

MISSING = "replicas run on Ray, which is not installed: pip install -e '.[ray]', or leave --replicas out"


@dataclass(frozen=True)
class ReplicaConfig:
    """Raises LifecycleError for values that cannot work."""

    replicas: int = 0
    """Engines in processes of their own, with one gateway before them; 0 runs one engine in this process."""
    max_replicas: int = 0
    """More are started up to so many while requests queue, and stopped again when they do not; 0: always `replicas`."""
    requests_per_replica: int = 0
    """Requests that run or wait for which one replica is enough; 0: as many as it runs, `max_num_seqs`."""
    replica_patience: float = 60.0
    """Seconds for which fewer replicas would have done before one is stopped."""
    replica_pace: float = 0.05
    """Seconds between two messages of a replica: the first news goes out at once, what comes meanwhile goes together."""
    replica_threads: int = 1
    """Threads that a replica computes with; on a cluster it is put where so many CPUs are free."""
    replica_gpus: float = 0
    """GPUs of each replica; on a machine with GPUs, 1."""
    pin_replicas: bool = False
    """On one machine: each replica computes on CPUs of its own, in order."""
    ray_address: str = ""
    """HOST:PORT of a Ray cluster that is there already; empty starts one on this machine, for itself."""

    def __post_init__(self) -> None:
        for name in ("replicas", "max_replicas", "requests_per_replica", "replica_patience", "replica_pace", "replica_gpus"):
            if getattr(self, name) < 0:
                raise LifecycleError(f"{name} must be at least 0, not {getattr(self, name)}; change it with --set KEY=VALUE")
        if self.replica_threads < 1:
            raise LifecycleError(f"replica_threads must be at least 1, not {self.replica_threads}; change it with --set KEY=VALUE")
        if self.max_replicas and not 1 <= self.replicas <= self.max_replicas:
            raise LifecycleError(
                f"max_replicas ({self.max_replicas}) needs replicas between 1 and itself to start with, not {self.replicas}: add "
                "--replicas 1"
            )
        if self.ray_address and not self.replicas:
            raise LifecycleError("ray_address is where replicas run, and there are none: add --replicas 2")
