"""The shared page: a column holds what each worker has written, whoever maps it."""

from __future__ import annotations

import os

from postwarden_sidecar.ipc.page import CELLS, SCREENING, SUPERVISOR, Page


def test_a_column_is_of_the_workers_that_there_are() -> None:
    page = Page.create(3)
    theirs = Page(page.descriptor)  # as a worker has it
    column = theirs.column(SCREENING)
    assert list(column) == [0, 0, 0]
    for writer in (0, 2, SUPERVISOR):
        with page.slot(writer) as cells:
            cells[CELLS[SCREENING]] = 7
    assert list(column) == [7, 0, 7]
    assert sum(column) == page.total(SCREENING) - 7
    theirs.close()
    page.close()
    os.close(page.descriptor)
