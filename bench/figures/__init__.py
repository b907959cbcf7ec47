"""What is measured beside connections per CPU second: memory, pauses, times, mails a second; one study a module, `ALL` has them by name."""

from bench.figures import at_rest, first_time, held, million, relayed, two_workers
from bench.figures.figure import Study

ALL: dict[str, Study] = {
    study.NAME: study for study in (million, at_rest, held, two_workers, relayed, first_time)
}
