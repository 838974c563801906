"""Winning moves of TextArena's games, from hidden state: for checkers, tests and levels 4 and 5.

Each solver examines the game's own object at the beginning and returns moves. Left out: Blackjack,
where most deals cannot be won.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from resd_envs.textarena.engine import Engine, Game

Moves = list[str]
WAYS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
MOST_STATES = 400_000
"""States of a puzzle that are examined before the solver gives up."""
MOST_TILE_MOVES = 3000
TILE_WAYS = ("Down", "Left", "Right", "Up")


def solve(game: Game) -> Moves:
    """Moves that win; NotImplementedError if none are known."""
    solver = SOLVERS.get(game.name.partition("-v0")[0])
    if solver is None:
        raise NotImplementedError(f"no solver for {game.name}")
    engine = Engine()
    engine.start(game)
    moves = solver(engine)
    if moves is None:
        raise NotImplementedError(f"no moves are found that win {game.name} with seed {game.seed}")
    return moves


def _crosswords(engine: Engine) -> Moves:
    board = engine.env.state.game_state["board"]
    solution = engine.env.state.game_state["solution"]
    return [f"[{r} {c} {solution[r][c]}]" for r, c in _cells(board) if board[r][c] == "_"]


def _frozen_lake(engine: Engine) -> Moves | None:
    state = engine.env.state.game_state
    grid, goal = state["grid"], tuple(state["goal_pos"])

    def steps(at: tuple[int, int]) -> Iterable[tuple[str, tuple[int, int]]]:
        for word, (dr, dc) in WAYS.items():
            to = (at[0] + dr, at[1] + dc)
            if all(0 <= x < len(grid) for x in to) and grid[to[0]][to[1]] != "H":
                yield f"[{word}]", to

    return _search(tuple(state["player_pos"]), steps, lambda at: at == goal)


def _guess_the_number(engine: Engine) -> Moves:
    return [f"[{engine.env.game_number}]"]


def _lights_out(engine: Engine) -> Moves | None:
    """The presses in the first row determine the rest: each row turns off the one above it."""
    size, grid = engine.env.size, engine.env.state.game_state["grid"]
    found: list[list[tuple[int, int]]] = []
    for first in itertools.product((False, True), repeat=size):
        lights = [row[:] for row in grid]
        pressed: list[tuple[int, int]] = []
        for r in range(size):
            for c in range(size):
                if first[c] if r == 0 else lights[r - 1][c]:
                    engine.env._toggle_lights(lights, r, c)
                    pressed.append((r, c))
        if not any(map(any, lights)):
            found.append(pressed)
    return [f"[{r} {c}]" for r, c in min(found, key=len)] if found else None


def _logic_puzzle(engine: Engine) -> Moves:
    return [
        f"[{row} {column} {mark}]"
        for rows in engine.env.game_board_solution.values()
        for row, columns in rows.items()
        for column, mark in columns.items()
    ]


def _mastermind(engine: Engine) -> Moves:
    return [f"[{' '.join(map(str, engine.env.state.game_state['secret_code']))}]"]


def _minesweeper(engine: Engine) -> Moves:
    """The mines are laid after the first move, so it is made on a copy."""
    played = engine.fork()
    moves: Moves = []
    while True:
        env = played.env
        hidden = [
            (r, c) for r, c in _cells(env.grid) if not env.revealed[r][c] and env.grid[r][c] != -1
        ]
        if not hidden:
            return moves
        # Fields without a number open their neighbours too.
        r, c = min(hidden, key=lambda cell: (env.grid[cell[0]][cell[1]] != 0, cell))
        moves.append(f"[{r} {c}]")
        if played.act(moves[-1]).over:
            return moves


def _rush_hour(engine: Engine) -> Moves | None:
    cars = engine.env.state.game_state["vehicles"]
    names = sorted(cars)
    size = engine.env.BOARD_SIZE

    def cells(name: str, at: int) -> list[tuple[int, int]]:
        car = cars[name]
        if car.horizontal:
            return [(car.row, at + k) for k in range(car.length)]
        return [(at + k, car.col) for k in range(car.length)]

    def steps(places: tuple[int, ...]) -> Iterable[tuple[str, tuple[int, ...]]]:
        taken = {cell for name, at in zip(names, places, strict=True) for cell in cells(name, at)}
        for number, name in enumerate(names):
            own = set(cells(name, places[number]))
            for sign, word in ((1, "+"), (-1, "-")):
                to = places[number] + sign
                new = set(cells(name, to)) - own
                if all(0 <= x < size for cell in new for x in cell) and not new & taken:
                    yield f"[{name}{word}]", (*places[:number], to, *places[number + 1 :])

    begin = tuple(cars[n].col if cars[n].horizontal else cars[n].row for n in names)
    red = names.index("X")
    return _search(begin, steps, lambda places: places[red] >= size - cars["X"].length)


def _secretary(engine: Engine) -> Moves:
    draws = engine.env.state.game_state["draws"]
    return ["[continue]"] * draws.index(max(draws)) + ["[accept]"]


def _set(engine: Engine) -> Moves | None:
    """One set wins; the remaining turns must be used up."""
    from textarena.envs.Set.env import _is_set

    played, moves, found = engine.fork(), list[str](), False
    while True:
        board = played.env.state.game_state["board"]
        sets = (
            trio
            for trio in itertools.combinations(range(len(board)), 3)
            if not found and _is_set(tuple(board[k] for k in trio))
        )
        trio = next(sets, None)
        found = found or trio is not None
        moves.append("[" + ", ".join(str(k + 1) for k in trio or (0, 1, 2)) + "]")
        state = played.act(moves[-1])
        if state.over:
            return moves if state.won else None


def _slitherlink(engine: Engine) -> Moves | None:
    """The game draws rectangles only."""
    env = engine.env
    for top, bottom in itertools.combinations(range(env.R + 1), 2):
        for left, right in itertools.combinations(range(env.C + 1), 2):
            across = [(r, c) for r in (top, bottom) for c in range(left, right)]
            down = [(r, c) for c in (left, right) for r in range(top, bottom)]
            if all(
                env.clues[r][c] in (None, _edges(set(across), set(down), r, c))
                for r, c in _cells(env.clues)
            ):
                return [f"[h {r} {c}]" for r, c in across] + [f"[v {r} {c}]" for r, c in down]
    return None


def _edges(across: set[tuple[int, int]], down: set[tuple[int, int]], r: int, c: int) -> int:
    return sum([(r, c) in across, (r + 1, c) in across, (r, c) in down, (r, c + 1) in down])


def _sokoban(engine: Engine) -> Moves | None:
    env = engine.env
    floor = {(r, c) for r, c in _cells(env.room_fixed) if env.room_fixed[r][c] != 0}
    goals = {(r, c) for r, c in floor if env.room_fixed[r][c] == 2}
    boxes = frozenset((r, c) for r, c in floor if env.room_state[r][c] in (3, 4))
    Place = tuple[tuple[int, int], frozenset[tuple[int, int]]]

    def steps(place: Place) -> Iterable[tuple[str, Place]]:
        (r, c), there = place
        for word, (dr, dc) in WAYS.items():
            to, beyond = (r + dr, c + dc), (r + 2 * dr, c + 2 * dc)
            if to not in floor or (to in there and (beyond not in floor or beyond in there)):
                continue
            yield f"[{word}]", (to, there - {to} | {beyond} if to in there else there)

    begin = (int(env.player_position[0]), int(env.player_position[1]))
    # The game wants every box on a goal, and may have more goals than boxes.
    return _search((begin, boxes), steps, lambda place: place[1] <= goals)


def _sudoku(engine: Engine) -> Moves:
    env = engine.env
    return [
        f"[{r + 1} {c + 1} {env.full_grid[r][c]}]"
        for r, c in _cells(env.game_board)
        if env.game_board[r][c] == 0
    ]


def _three_cups(engine: Engine) -> Moves:
    return [f"[{engine.env.ball_pos}]"]


def _tiles(engine: Engine) -> Moves | None:
    """Slide into a corner, with the order of directions that gets there soonest."""
    found = (_slide(engine, order) for order in itertools.permutations(TILE_WAYS))
    return min((moves for moves in found if moves), key=len, default=None)


def _slide(engine: Engine, order: tuple[str, ...]) -> Moves | None:
    """Always the first direction in `order` that moves anything; None if that does not win."""
    played, moves = engine.fork(), list[str]()
    while len(moves) < MOST_TILE_MOVES:
        word = next((w for w in order if _slides(played, w)), None)
        if word is None:
            return None
        moves.append(f"[{word}]")
        state = played.act(moves[-1])
        if state.over:
            return moves if state.won else None
    return None


def _slides(engine: Engine, word: str) -> bool:
    """Whether anything moves; the board is not changed."""
    env, state = engine.env, engine.env.state.game_state
    board = state["board"]
    state["board"] = [row[:] for row in board]
    moved = bool(env._apply_move(env._parse_action(f"[{word}]"))[0])
    state["board"] = board
    return moved


def _search(
    begin: Any,
    steps: Callable[[Any], Iterable[tuple[str, Hashable]]],
    done: Callable[[Any], bool],
) -> Moves | None:
    """The shortest path to a state that is `done`, breadth first."""
    came: dict[Hashable, tuple[Hashable, str]] = {begin: (None, "")}
    queue = deque([begin])
    while queue and len(came) < MOST_STATES:
        state = queue.popleft()
        if done(state):
            moves: Moves = []
            while state != begin:
                state, move = came[state]
                moves.append(move)
            return moves[::-1]
        for move, after in steps(state):
            if after not in came:
                came[after] = (state, move)
                queue.append(after)
    return None


def _cells(grid: Any) -> Iterable[tuple[int, int]]:
    return [(r, c) for r in range(len(grid)) for c in range(len(grid[r]))]


SOLVERS: Mapping[str, Callable[[Engine], Moves | None]] = {
    "2048": _tiles,
    "Crosswords": _crosswords,
    "FrozenLake": _frozen_lake,
    "GuessTheNumber": _guess_the_number,
    "LightsOut": _lights_out,
    "LogicPuzzle": _logic_puzzle,
    "Mastermind": _mastermind,
    "Minesweeper": _minesweeper,
    "RushHour": _rush_hour,
    "Secretary": _secretary,
    "Set": _set,
    "Slitherlink": _slitherlink,
    "Sokoban": _sokoban,
    "Sudoku": _sudoku,
    "ThreeCardMonte": _three_cups,
}
