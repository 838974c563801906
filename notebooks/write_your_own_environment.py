# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Write your own environment
#
# An environment needs two methods: `tasks` and `verify`. We write one, let the harness prove what it relies on, break it on purpose to see what the
# proof is worth, and measure a policy that knows nothing. Everything runs in seconds.
#
# The task: close the brackets. `{[(` wants `)]}`.

# %%
from collections.abc import Sequence
from functools import cache

import matplotlib.pyplot as plt

from resd_bench.budget import Ledger
from resd_bench.env import TextEnv
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.seeds import stream
from resd_bench.stats import success_interval
from resd_bench.testing import ScriptedPolicy, check_env
from resd_bench.types import CaseResult, Feedback, Sampling, Split, Task

CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}
SIZES = {"train": 200, "validation": 40, "test": 40}


class BracketsEnv(TextEnv):
    """Close a row of brackets, innermost first.

    ## Description
    Four to nine opening brackets of four kinds are to be closed in the right order.

    ## Action Space
    Any string (`Utf8Text`); blanks at its ends are ignored.

    ## Observation Space
    Any string (`Utf8Text`): the brackets, and last the feedback.

    ## Rewards
    1 if every bracket is right and none too many, else 0; the score is the share that is right.

    ## Episode End
    After one action.

    ## Information
    `task_id`, `split`, `feedback_level`; after the action `feedback`, `success`, `score`, `stop_reason`.

    ## Arguments
    - `dialect`: `full` or `compact`.
    - `feedback_level`: 0 to 5.

    ## Version History
    - v0: first version.
    """

    name = "brackets"

    def tasks(self, split: Split) -> Sequence[Task]:
        """200 training, 40 validation and 40 test tasks."""
        return _tasks(split, self.dialect)

    def verify(self, task: Task, action: str) -> Feedback:
        """A case for each place; one more says whether the length is right."""
        wanted, given = task.data["answer"], action.strip()
        right = [i < len(given) and given[i] == char for i, char in enumerate(wanted)]
        cases = [
            CaseResult(
                f"place {i + 1}",
                good,
                "pass" if good else "wrong_bracket",
                f"place {i + 1}: you closed it with {given[i : i + 1] or 'nothing'}.",
                wanted[i],
            )
            for i, good in enumerate(right)
        ]
        fits = len(given) == len(wanted)
        cases.append(
            CaseResult(
                "length",
                fits,
                "pass" if fits else "wrong_length",
                f"you wrote {len(given)} characters.",
            )
        )
        failed = tuple(i for i, case in enumerate(cases) if not case.passed)
        return Feedback(
            reward=float(not failed),
            success=not failed,
            score=1 - len(failed) / len(cases),
            cases=tuple(cases),
            kind=cases[failed[0]].kind if failed else "",
            shown=failed,
            solution=wanted,
        )

    def oracle(self, task: Task) -> str:
        """The right answer; for checkers and tests only."""
        return task.data["answer"]


@cache
def _tasks(split: Split, dialect: str) -> tuple[Task, ...]:
    draw, used, found = stream(0, "brackets"), set(), {}
    for part, size in SIZES.items():
        found[part] = []
        while len(found[part]) < size:
            row = "".join(draw.choice(list(CLOSING), size=int(draw.integers(4, 10))))
            if row not in used:
                used.add(row)
                answer = "".join(CLOSING[char] for char in reversed(row))
                prompt = (
                    f"close {row}"
                    if dialect == "compact"
                    else f"Write what closes these brackets, and nothing else: {row}"
                )
                found[part].append(
                    Task(
                        f"brackets/{part}/{len(found[part]):03d}", part, prompt, {"answer": answer}
                    )
                )
    return tuple(found[split])


# %% [markdown]
# `Feedback` carries everything the verifier knows; the base class decides how much of it is told. `detail` says what went wrong and never what would have
# been right, which belongs in `expected` and is told from level 4 only.

# %%
env = BracketsEnv()
task = env.tasks("test")[1]
print(task.prompt, "\n")
for level in range(6):
    print(level, repr(env.verify(task, ")>)").render(level)))

# %% [markdown]
# ## Proof
#
# `check_env` proves what the harness relies on: equal seeds give equal episodes, splits share no task, any text is an answer, the oracle wins and policies that know nothing do
# not, no feedback below level 4 holds the answer, and more. It raises `AssertionError` where something does not hold.

# %%
check_env(env)
print("brackets keeps its promises")

# %% [markdown]
# Is the check worth anything? Here is a mistake that is easily made: feedback that says what would have been right, in the place that is for what went wrong.


# %%
class LeakyEnv(BracketsEnv):
    """As above, with a leak."""

    name = "leaky-brackets"

    def verify(self, task: Task, action: str) -> Feedback:
        """As above; the detail of each case gives the whole answer away."""
        feedback = super().verify(task, action)
        leak = f"not quite: {task.data['answer']}"
        cases = tuple(
            CaseResult(c.name, c.passed, c.kind, leak, c.expected) for c in feedback.cases
        )
        return Feedback(
            feedback.reward,
            feedback.success,
            feedback.score,
            cases,
            kind=feedback.kind,
            shown=feedback.shown,
            solution=feedback.solution,
        )


try:
    check_env(LeakyEnv())
except AssertionError as error:
    print(error)

# %% [markdown]
# ## How hard is it?
#
# Before a model is trained on a task one wants to know that chance does not solve it. `ScriptedPolicy` stands in for a model: its answers are a function of
# the prompt. This one knows how many brackets there are, and closes them in the order in which they were opened.


# %%
def in_order(prompt: str, seed: int, sample: int) -> str:
    """Close brackets, first opened first: right only for rows that read alike from both ends."""
    return "".join(CLOSING[char] for char in prompt.rpartition(" ")[2])


policy = ScriptedPolicy(in_order)
groups = roll_out(
    policy.sample,
    EnvPool(BracketsEnv),
    env.tasks("test"),
    n=1,
    sampling=Sampling(max_new_tokens=32),
    purpose="evaluation",
    ledger=Ledger(),
    seed=0,
)
attempts = [attempt for group in groups for attempt in group.trajectories]
rate = success_interval([[float(attempt.feedback.success)] for attempt in attempts])
print(
    f"success {100 * rate.mean:.1f}%, 95% [{100 * rate.low:.1f}, {100 * rate.high:.1f}], {rate.n:.0f} tasks"
)

figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
axes.scatter(
    [len(a.task.data["answer"]) for a in attempts],
    [a.feedback.score for a in attempts],
    alpha=0.5,
    color="#0072B2",
)
axes.set(xlabel="brackets to close", ylabel="score", ylim=(-0.05, 1.05))
axes.set_title("it never wins, and its scores still tell answers apart", fontsize=10)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## Plug it in
#
# `resd-bench init env brackets` writes a small package to put the class into. One line in its `pyproject.toml` makes the environment known to every command:
#
# ```toml
# [project.entry-points."resd_bench.envs"]
# brackets = "brackets:BracketsEnv"
# ```
#
# After `pip install -e brackets`, `resd-bench envs check brackets` proves the same properties on all tasks, in a process of its own, and
# `resd-bench run --env brackets --model PATH` trains on it. Next: [a method of your own](write_your_own_method.ipynb).
