"""`--dataset`: its rows are written as task folders, which pytest then collects like any others."""

from __future__ import annotations

from typing import Any, cast

import pytest

from harness.errors import HarnessError
from harness.pytest_plugin.options import DATASET, options_of
from harness.sandboxes.userstate import state_folder
from harness.tasks.formats.dataset import Wanted, write_dataset


def name_dataset(config: pytest.Config) -> None:
    """Add the dataset's tasks to what pytest was asked to run; where nothing was, they are all.

    The folder that they were written to stays in `config.stash` for xdist's workers, which get it and read no dataset.

    Raises:
        pytest.UsageError: when it cannot be used.
    """
    is_worker = hasattr(config, "workerinput")
    folder = cast(Any, config).workerinput["harness"]["dataset"] if is_worker else _write_rows(config)
    config.stash[DATASET] = folder
    is_named = config.args_source is pytest.Config.ArgsSource.ARGS
    config.args = [*(config.args if is_named else ()), folder]
    config.args_source = pytest.Config.ArgsSource.ARGS


def _write_rows(config: pytest.Config) -> str:
    options = options_of(config)
    assert options.dataset, "it is asked for"
    wanted = Wanted(options.dataset, options.limit, options.sample)
    try:
        return str(write_dataset(wanted, state_folder() / "datasets", config.invocation_params.dir))
    except (HarnessError, OSError) as error:
        raise pytest.UsageError(str(error)) from error
