"""The values that pass between the stages of a run.

    Task -> Turn -> Trajectory -> Group -> Example -> Metrics

Everything here is frozen, holds no tensors and does not import torch. A stage without a result
returns nothing: a sample without privileged context gives no `Example`, not a masked one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Any, ClassVar, Literal, get_args

from resd_bench.errors import UsageError

Metrics = dict[str, float]
"""Numbers to log, keyed `area/name`; each is explained where it is written."""

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Dialect = Literal["full", "compact"]
"""How environments word what they say: `full` for real language models, `compact` for the embedded
one."""
PromptDialect = Literal["full", "compact", "plain"]
"""How methods word their prompts: also `plain`, short and without JSON, for small language models,
to which environments speak as to large ones."""
Content = Literal["real", "shuffled", "blank"]
"""What a text that is shown says: its own content, that of another of its kind, or nothing."""


def env_dialect(dialect: PromptDialect) -> Dialect:
    """How environments speak to a model whose prompts are worded in `dialect`."""
    return "compact" if dialect == "compact" else "full"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat, before any template."""

    role: Role
    content: str


Messages = tuple[Message, ...]


def user(content: str) -> Messages:
    """A chat of one user message."""
    return (Message("user", content),)


@dataclass(frozen=True, slots=True)
class Task:
    """One problem: its prompt, and what verifies an answer."""

    id: str
    """Stable across runs and machines; unique in its environment."""
    split: Split
    prompt: str
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What the verifier needs; no prompt, observation, info or feedback may show it."""


class FeedbackLevel(IntEnum):
    """How much an environment says about a failure; the levels are the same everywhere."""

    NOTHING = 0
    BINARY = 1
    """That it failed."""
    COUNTS = 2
    """How many cases passed, and the class of error."""
    FAILURES = 3
    """Failing inputs with what the answer did on them. The default."""
    EXPECTED = 4
    """The expected outputs of those inputs too."""
    SOLUTION = 5
    """A correct answer."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One test case of one attempt."""

    name: str
    passed: bool
    kind: str = ""
    """Class of the outcome, e.g. `wrong_answer`, `parse_error`; `pass` if it passed."""
    detail: str = ""
    """The input and what the answer did on it, for a reader; shown from level 3."""
    expected: str = ""
    """The correct outcome; shown from level 4."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What the verifier says about an attempt."""

    reward: float
    """0 or 1, unless an environment says otherwise."""
    success: bool
    score: float
    """Fraction of cases passed, in [0, 1] (per-test-case accuracy of the paper)."""
    cases: tuple[CaseResult, ...] = ()
    text: str = ""
    """What the model reads, at the level the environment was made with. Empty on success."""
    kind: str = ""
    """Class of the failure as a whole; shown from level 2."""
    shown: tuple[int, ...] = ()
    """Indices into `cases` that level 3 shows, the most informative first."""
    solution: str = ""
    """A correct answer if the verifier knows one; shown at level 5."""
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Other measurements of the attempt, by name. Logged, never shown to a model."""

    MAX_CHARS: ClassVar[int] = 2000

    def render(self, level: int) -> str:
        """The feedback at `level` (0 to 5, see `FeedbackLevel`), at most `MAX_CHARS` long."""
        level = FeedbackLevel(level)
        if self.success or level == FeedbackLevel.NOTHING:
            return ""
        lines = ["wrong"]
        if level >= FeedbackLevel.COUNTS:
            passed = sum(case.passed for case in self.cases)
            lines = [f"passed {passed} of {len(self.cases)}: {self.kind or 'wrong_answer'}"]
        if level >= FeedbackLevel.FAILURES:
            for index in self.shown:
                case = self.cases[index]
                tail = ""
                if level >= FeedbackLevel.EXPECTED and case.expected:
                    tail = f" expected: {case.expected}"
                lines.append(case.detail + tail)
        if level >= FeedbackLevel.SOLUTION and self.solution:
            lines.append(f"solution:\n{self.solution}")
        return "\n".join(lines)[: self.MAX_CHARS]

    def at_level(self, level: int) -> Feedback:
        """This feedback as an environment at `level` returns it, with the rest removed."""
        level = FeedbackLevel(level)
        cases = tuple(
            replace(
                case,
                detail=case.detail if level >= FeedbackLevel.FAILURES else "",
                expected=case.expected if level >= FeedbackLevel.EXPECTED else "",
            )
            for case in self.cases
        )
        solution = self.solution if level >= FeedbackLevel.SOLUTION else ""
        return replace(self, cases=cases, solution=solution, text=self.render(level))


TurnKind = Literal["changed", "wasted", "invalid"]


@dataclass(frozen=True, slots=True)
class TurnFeedback:
    """What an environment says about one turn, besides the observation that follows."""

    kind: TurnKind
    """Whether the action `changed` anything, was carried out in vain (`wasted`), or could not be
    carried out (`invalid`). Measured, never shown to a model."""
    text: str = ""
    """What was wrong with it, for somebody who knows what had happened by then; from level 3."""


class Stop(StrEnum):
    """Why a completion or a trajectory ended."""

    EOS = "eos"
    """The model ended its turn; for a trajectory: the environment ended the episode."""
    LENGTH = "length"
    """The token limit was reached: the answer is truncated."""
    TURNS = "turns"
    """The turn limit was reached."""
    ERROR = "error"
    """The environment failed; the trajectory has no reward and is not trained on."""


class Answer(str):
    """An action as an environment receives it: the text, and why it ended.

    It is a `str` in every respect; strings computed from it are plain ones.
    """

    __slots__ = ("stop",)

    stop: Stop

    def __new__(cls, text: str, stop: Stop = Stop.EOS) -> Answer:
        answer = super().__new__(cls, text)
        answer.stop = stop
        return answer

    def __reduce__(self) -> tuple[type[Answer], tuple[str, Stop]]:
        return Answer, (str(self), self.stop)


def was_cut_off(action: str) -> bool:
    """Whether an action hit its token limit; false for text that does not say."""
    return getattr(action, "stop", None) == Stop.LENGTH


@dataclass(frozen=True, slots=True)
class Completion:
    """What the policy sampled: the text, and the tokens that were actually sampled."""

    text: str
    """Decoded, without special tokens. Training never tokenizes it again."""
    token_ids: tuple[int, ...] = ()
    """Sampled ids, including the end-of-turn token if it was sampled."""
    logprobs: tuple[float, ...] = ()
    """Log-probability of each id under the distribution it was drawn from (nats)."""
    stop: Stop = Stop.EOS
    count: int | None = None
    """Number of sampled tokens where their ids are unknown: a server told only the text."""

    @property
    def tokens(self) -> int:
        """Number of sampled tokens."""
        return len(self.token_ids) if self.count is None else self.count

    @property
    def sampled(self) -> bool:
        """Whether the policy took this turn: false if no token fitted into its context."""
        return bool(self.tokens or self.text) or self.stop is not Stop.LENGTH


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample completions."""

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = 0
    """Sample j of prompt i draws from its own stream, named by (seed, i, j)."""
    streams: tuple[int, ...] = ()
    """Numbers that name the streams of the prompts in place of i, one for each; () for none. Calls
    that have them may take turns between groups of episodes (`rollout/slots.py`)."""

    def numbers(self, prompts: int) -> Sequence[int]:
        """What names the streams of so many prompts; UsageError if `streams` are for others."""
        named = self.streams or range(prompts)
        if len(named) != prompts:
            raise UsageError(
                f"the method asked its policy {prompts} prompts in place of the {len(named)} that "
                "it was given, whose random streams have names: leave out --rollout-slots"
            )
        return named


@dataclass(frozen=True, slots=True)
class Turn:
    """One action and the messages it answered."""

    messages: Messages
    completion: Completion
    feedback: TurnFeedback | None = None
    """What the environment says about the action, if it says anything."""

    @property
    def in_vain(self) -> bool:
        """Whether the environment says that the action was wasted or invalid."""
        return self.feedback is not None and self.feedback.kind != "changed"


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One attempt at one task."""

    task: Task
    turns: tuple[Turn, ...]
    feedback: Feedback
    stop: Stop = Stop.EOS
    error: str = ""
    """Why the environment failed, if `stop` is `error`."""
    unanswered: bool = False
    """Whether it ended because the policy had no room for a further turn; `stop` is `length`."""
    unread: str = ""
    """What the environment said after the last turn, if it is `unanswered`."""

    @property
    def response(self) -> str:
        """Text of the last turn; "" if there was none."""
        return self.turns[-1].completion.text if self.turns else ""


@dataclass(frozen=True, slots=True)
class Group:
    """Every attempt at one task in one step."""

    task: Task
    trajectories: tuple[Trajectory, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One training datum, the same for every method."""

    messages: Messages
    """What the student sees."""
    completion: Completion
    """The tokens whose probability is trained."""
    teacher_messages: Messages | None = None
    """The same question with privileged context; None if the method has no teacher."""
    advantage: float = 0.0
    weight: float = 1.0
    """Multiplies this sequence's loss (e.g. success-rate rebalancing, Eq. 2)."""
    shorter_teachers: tuple[Messages, ...] = ()
    """`teacher_messages` with one more section dropped each time, for contexts that are short."""
    token_advantages: tuple[float, ...] = ()
    """One for each token of the completion, in place of `advantage`; () where they are equal."""


@dataclass(frozen=True, slots=True)
class Step:
    """The position of an update in a run."""

    update: int
    """Number of this update, from 0."""
    batch: int
    """Number of the task batch, from 0."""
    inner: int
    """Number of this inner iteration on the batch, from 0 to K - 1."""
    sampling: Sampling
    """How the rollouts of this step were sampled; methods sample their own text the same way."""
    seed: int
    """Seed of any randomness that the method itself needs in this step."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds that a token takes."""

    read: float
    """Of a prompt."""
    sampled: float
    """Of an answer, with as many answers at once as in an update."""
