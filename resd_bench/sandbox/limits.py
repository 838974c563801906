"""Resource limits of one program. The defaults suit answers of a few dozen lines."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one program; processor time decides, wall time is only a backstop."""

    call_cpu_s: float = 2.0
    """Processor time of one call or one stdin case, on a clock that the parent reads. Give at least
    five times what a reference solution needs."""
    call_wall_s: float | None = None
    """Wall time of one call; None: three times the processor time plus two seconds."""
    total_cpu_s: float = 10.0
    """Processor time of the whole program."""
    total_wall_s: float | None = None
    """Wall time of the whole program; None: three times the processor time plus five seconds."""
    memory_mb: int = 512
    """Address space on top of the bare interpreter's."""
    stack_mb: int = 256
    """Stack of the main thread; more than the default has no effect."""
    output_bytes: int = 1 << 20
    """Size of one returned value on the wire, or of the standard output of one case."""
    total_output_bytes: int = 8 << 20
    """Total size of all returned values."""
    max_values: int = 200_000
    """Number of numbers, strings and containers in one returned value."""
    code_bytes: int = 1 << 18
    """Length of the program in UTF-8."""
    descriptors: int = 64
    """Open files, pipes and sockets."""
    threads: int = 64
    """Threads at once; a program with more is ended."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{field.name} = {value!r}: give a finite number above 0")

    @property
    def call_wall(self) -> float:
        """Wall time of one call, in seconds."""
        return 3 * self.call_cpu_s + 2 if self.call_wall_s is None else self.call_wall_s

    @property
    def total_wall(self) -> float:
        """Wall time of the whole program, in seconds."""
        return 3 * self.total_cpu_s + 5 if self.total_wall_s is None else self.total_wall_s
