"""The conformance kit: what the contract promises, as checks that every plugin can run.

A plugin's whole test file:

    from quantrecipe.testing import parametrize_with_checks
    from quantrecipe_mine import Mine

    @parametrize_with_checks([Mine()])
    def test_contract(check):
        check()

`quantrecipe check-plugin quantrecipe-mine` runs the same checks on what is installed. Each check is also a function
of its own (`check_splits(fmt, seed)`), which raises CheckFailure: an AssertionError whose text names the row, the
block and the bits. Everything is seeded: the same seed gives the same rows on every machine.
"""

from __future__ import annotations

from quantrecipe.testing.analyses import (
    MODEL_CHECKS,
    TENSOR_CHECKS,
    check_finer_is_better,
    check_input_kept,
    check_losses,
    check_lossless,
    check_not_finite,
    check_rows_apart,
    check_weights,
    check_words,
)
from quantrecipe.testing.architectures import (
    ARCHITECTURE_CHECKS,
    check_architecture,
    check_folder,
    check_layout,
    check_rules,
)
from quantrecipe.testing.calls import (
    check_layouts,
    check_out,
    check_repeats,
    check_shapes,
    check_splits,
    check_threads,
)
from quantrecipe.testing.checks import (
    FORMAT_CHECKS,
    Check,
    Result,
    checks_of,
    parametrize_with_checks,
    run_check,
)
from quantrecipe.testing.encoders import (
    ENCODER_CHECKS,
    check_bytes,
    check_rows_alone,
    check_settled,
    check_side_by_side,
    check_unsuitable,
)
from quantrecipe.testing.executors import (
    EXECUTOR_CHECKS,
    check_closing,
    check_lost_tasks,
    check_lost_workers,
    check_memory,
    check_opened_once,
    check_order_refused,
    check_results,
    check_task_errors,
    check_width,
)
from quantrecipe.testing.facts import check_accepts, check_factor, check_options, check_sizes, check_spec
from quantrecipe.testing.failure import CheckFailure, same_bytes, same_values
from quantrecipe.testing.grids import check_grid
from quantrecipe.testing.plugin import plugin_checks
from quantrecipe.testing.sample import nasty_importance, nasty_rows, ordinary_rows
from quantrecipe.testing.speed import Speed, compare
from quantrecipe.testing.surroundings import check_fallback_ends, check_light_import, check_unique
from quantrecipe.testing.values import (
    check_error_bound,
    check_importance,
    check_nasty_rows,
    check_non_finite,
    check_random_bytes,
    check_twice,
    check_uniform_importance,
    check_zeros,
)

__all__ = [
    "ARCHITECTURE_CHECKS",
    "ENCODER_CHECKS",
    "EXECUTOR_CHECKS",
    "FORMAT_CHECKS",
    "MODEL_CHECKS",
    "TENSOR_CHECKS",
    "Check",
    "CheckFailure",
    "Result",
    "Speed",
    "check_accepts",
    "check_architecture",
    "check_bytes",
    "check_closing",
    "check_error_bound",
    "check_factor",
    "check_fallback_ends",
    "check_finer_is_better",
    "check_folder",
    "check_grid",
    "check_importance",
    "check_input_kept",
    "check_layout",
    "check_layouts",
    "check_light_import",
    "check_losses",
    "check_lossless",
    "check_lost_tasks",
    "check_lost_workers",
    "check_memory",
    "check_nasty_rows",
    "check_non_finite",
    "check_not_finite",
    "check_opened_once",
    "check_options",
    "check_order_refused",
    "check_out",
    "check_random_bytes",
    "check_repeats",
    "check_results",
    "check_rows_alone",
    "check_rows_apart",
    "check_rules",
    "check_settled",
    "check_shapes",
    "check_side_by_side",
    "check_sizes",
    "check_spec",
    "check_splits",
    "check_task_errors",
    "check_threads",
    "check_twice",
    "check_uniform_importance",
    "check_unique",
    "check_unsuitable",
    "check_weights",
    "check_width",
    "check_words",
    "check_zeros",
    "checks_of",
    "compare",
    "nasty_importance",
    "nasty_rows",
    "ordinary_rows",
    "parametrize_with_checks",
    "plugin_checks",
    "run_check",
    "same_bytes",
    "same_values",
]
