"""BouncingSim as an environment: tiers, splits, wordings.

Where things move is in `physics.py`, how scenes are drawn in `scenes.py`, how they are posed in
`wording.py`, how an answer is marked in `verifier.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.sandbox import shared
from resd_bench.seeds import stream
from resd_bench.types import Dialect, Feedback, Split, Task, was_cut_off
from resd_envs.bouncingsim.oracle import room_solution, solution
from resd_envs.bouncingsim.scenes import (
    DIFFICULTIES,
    TIMES,
    Difficulty,
    Room,
    draw_room,
    generate,
)
from resd_envs.bouncingsim.verifier import TAG, VERIFY_SECONDS, right_positions, verify
from resd_envs.bouncingsim.wording import (
    WORDINGS,
    Wording,
    compact_prompt,
    full_prompt,
    room_prompt,
)
from resd_envs.bouncingsim.world import Positions, Scene

SIZES: Mapping[Difficulty, tuple[int, int, int]] = {
    "basic": (640, 64, 100),
    "easy": (640, 64, 100),
    "medium": (320, 64, 100),
    "hard": (320, 64, 100),
    "extreme": (320, 64, 100),
}
"""Training, validation and test tasks; easy and medium have the paper's numbers (table 1)."""
TRANSFER_SIZES = (64, 16, 32)
"""The same for scenes of other letters than G."""
SEED = 0


class BouncingSimEnv(TextEnv):
    """Write Python that predicts where several bouncing polygons are.

    ## Description
    Regular polygons fly about in a container with polygonal walls and bounce off the walls and
    each other without loss. The answer is a Python function `predict_position(t)` that returns the
    centres of all balls; it is called with t = 0.1, 0.2, ..., 1.5 s. These are the tasks of arXiv
    2605.12741 (scene letter G, `easy` with 640 training and 100 test scenes, `medium` with 320 and
    100); the scenes are drawn again by the released recipe, from a separate stream for each split.
    The correct positions come from an exact simulation of contacts, which is within 0.4 m of the
    engine behind the released ones. Other letters make scenes with balls that rotate (A), a
    turning (B) or moving (C) container, gravity (D) or several containers (F); they combine.

    In the dialect `compact` the tier `basic` poses scenes for the embedded model instead: one ball
    under gravity in a square room, all seven numbers multiples of ten.

    ## Action Space
    Any string (`Utf8Text`). The program is the last fenced block; a block may be tagged `python`.
    It runs in the sandbox, newly defined for each time, with one second of processor time per call.

    ## Observation Space
    Any string (`Utf8Text`). First the prompt: a manual and the scene in words (`full`), or one line
    per body (`compact`). Last the feedback.

    ## Rewards
    1 if every test passes, else 0. A test passes if the distance between predicted and correct
    centres, averaged over the balls, is at most 50 m. `info["score"]` is the fraction of tests
    passed; straight lines without any wall pass about a quarter of the tests of `easy`.

    ## Episode End
    After one action.

    ## Information
    `task_id`, `split`, `feedback_level`; after the action `feedback`, `success`, `score`,
    `stop_reason`. The ladder of feedback: 0 nothing, 1 that it failed, 2 how many tests passed and
    the class of error, 3 the first error, or up to three wrong predictions with their distances
    from the correct positions and what is impossible about them, 4 also the correct positions (the
    released feedback), 5 also a program that looks them up.

    ## Arguments
    - `dialect`: `full` or `compact`, the wording of prompts and feedback.
    - `feedback_level`: 0 to 5.
    - `difficulty`: `basic`, `easy`, `medium`, `hard` or `extreme`.
    - `prompt`: `released` leaves out, as the paper's prompt does, that balls collide with each
      other, what they weigh, that they do not rotate, and how answers are graded: a program that
      follows it to the letter solves about half of `easy` and little of `medium`. `complete` says
      all of that.
    - `letters`: features of the scenes, `G` for the paper's; one or more of A, B, C, D, F, G.

    ## Version History
    - v0: first version.
    """

    name = "bouncingsim-easy"
    verify_seconds = VERIFY_SECONDS
    concurrent = True
    release_reads_reasoning = True

    def __init__(
        self,
        *,
        dialect: Dialect = "full",
        feedback_level: int = 3,
        difficulty: Difficulty = "easy",
        prompt: Wording = "released",
        letters: str = "G",
    ) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level)
        if difficulty not in DIFFICULTIES:
            known = ", ".join(DIFFICULTIES)
            raise UsageError(f"difficulty {difficulty!r} is not a tier: give one of {known}")
        if prompt not in WORDINGS:
            raise UsageError(f"unknown prompt {prompt!r}: give 'released' or 'complete'")
        # A machine that cannot grade answers should say so before any is sampled.
        shared()
        self.difficulty, self.wording, self.letters = difficulty, prompt, letters
        tier = difficulty if letters == "G" else f"{letters.lower()}-{difficulty}"
        # One class serves all tiers, so the name belongs to the instance.
        self.name = f"bouncingsim-{tier}"
        self.in_rooms = dialect == "compact" and difficulty == "basic" and letters == "G"
        self._tasks = self.shared_tasks(difficulty, prompt, letters)
        self._right: dict[str, Positions] = {}

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of `split`; their scenes are drawn at the first call."""
        if split not in self._tasks:
            if self.in_rooms:
                tasks = [self._room(split, n, room) for n, room in enumerate(rooms(split))]
            else:
                scenes = scenes_of(self.letters, self.difficulty, split)
                tasks = [self._scene(split, n, scene) for n, scene in enumerate(scenes)]
            self._tasks[split] = tuple(tasks)
        return self._tasks[split]

    def _room(self, split: Split, number: int, room: Room) -> Task:
        data = {"scene": room.scene(), "room": room}
        return Task(f"{self.name}/{split}/room-{number:04d}", split, room_prompt(room), data)

    def _scene(self, split: Split, number: int, scene: Scene) -> Task:
        compact = self.dialect == "compact"
        text = compact_prompt(scene) if compact else full_prompt(scene, self.wording)
        return Task(f"{self.name}/{split}/{number:04d}", split, text, {"scene": scene})

    def verify(self, task: Task, action: str) -> Feedback:
        """Run the answer's program at every test time."""
        right = self._positions(task)
        return verify(
            action,
            task.data["scene"],
            right,
            dialect=self.dialect,
            truncated=was_cut_off(action),
            grade=self.grade,
            solution=lambda: self._program(task),
        )

    def oracle(self, task: Task) -> str:
        """A fenced program that solves `task`."""
        return f"```{TAG}\n{self._program(task)}\n```"

    def _program(self, task: Task) -> str:
        if "room" in task.data:
            return room_solution(task.data["room"])
        return solution(TIMES, self._positions(task))

    def _positions(self, task: Task) -> Positions:
        if task.id not in self._right:
            self._right[task.id] = right_positions(task.data["scene"])
        return self._right[task.id]


@cache
def scenes_of(letters: str, difficulty: Difficulty, split: Split) -> tuple[Scene, ...]:
    """The scenes of a split."""
    sizes = SIZES[difficulty] if letters == "G" else TRANSFER_SIZES
    size = sizes[_PLACE[split]]
    names = ("bouncingsim", letters, difficulty, split)
    return tuple(generate(letters, difficulty, stream(SEED, *names, n)) for n in range(size))


@cache
def rooms(split: Split) -> tuple[Room, ...]:
    """The rooms of a split, none of which is in another split."""
    taken = {room for earlier in _EARLIER[split] for room in rooms(earlier)}
    found: dict[Room, None] = {}
    rng = stream(SEED, "bouncingsim", "room", split)
    while len(found) < SIZES["basic"][_PLACE[split]]:
        room = draw_room(rng)
        if room not in taken:
            found[room] = None
    return tuple(found)


_PLACE: Mapping[Split, int] = {"train": 0, "validation": 1, "test": 2}
_EARLIER: Mapping[Split, tuple[Split, ...]] = {
    "train": (),
    "validation": ("train",),
    "test": ("train", "validation"),
}
