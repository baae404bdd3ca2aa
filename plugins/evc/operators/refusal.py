"""Which failures of ours a retry can mend."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from evc.errors import (
    BuildFailed,
    ContainerFailed,
    EvcError,
    HostKeyChanged,
    ImageNotFound,
    InputError,
    LoginRefused,
    RegistryRefused,
    RolloutFailed,
    ScenarioFailed,
    SchemaMismatch,
)

log = logging.getLogger(__name__)

_FINAL = (
    InputError,
    HostKeyChanged,
    LoginRefused,
    SchemaMismatch,
    ImageNotFound,
    RegistryRefused,
    RolloutFailed,
    ScenarioFailed,
    BuildFailed,
    ContainerFailed,
)


@contextmanager
def one_line() -> Iterator[None]:
    """Let an error of ours reach the task log as its one line; where a retry can't help, there is none."""
    from evc.store.database import reporting

    try:
        with reporting():
            yield
    except _FINAL as error:
        log.error("%s", error)
        raise AirflowFailException(str(error)) from None
    except EvcError as error:
        log.error("%s", error)
        raise AirflowException(str(error)) from None
