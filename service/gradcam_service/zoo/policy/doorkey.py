"""MiniGrid's DoorKey: the environment, where things are in it, and what a planner that sees them would do.

The world is 8 × 8 cells. A wall with a locked door parts it in two rooms; the agent has to pick up the key, open the
door and reach the goal in the other room (https://minigrid.farama.org/environments/minigrid/DoorKeyEnv). Its
observation is the picture of the whole world, nothing else. MiniGrid itself (Apache-2.0) is needed to train alone, and
is imported where it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from heapq import heapify, heappop, heappush
from typing import Any

from gradcam_service.zoo.policy.network import ACTIONS, TILE

Cell = tuple[int, int]
Pose = tuple[Cell, int]

_AHEAD = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""(dx, dy) of MiniGrid's directions: east, south, west, north."""

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(len(ACTIONS))


@dataclass(frozen=True)
class World:
    """What is where. Cells are (x, y) from the upper left.

    Attributes:
        floor: cells without a wall or a door; what lies on one is no matter.
        door: the door's cell.
        goal: the cell to reach.
        key: where the key lies; None where the agent has it.
        opened: whether the door is open.
        locked: whether it needs the key.
    """

    floor: frozenset[Cell]
    door: Cell
    goal: Cell
    key: Cell | None
    opened: bool
    locked: bool


@dataclass(frozen=True)
class State:
    """A world and the agent in it."""

    world: World
    agent: Cell
    direction: int

    def things(self) -> dict[str, Cell]:
        """The cell of everything that matters: agent, key (where it lies), door and goal."""
        placed = {"agent": self.agent, "key": self.world.key, "door": self.world.door, "goal": self.world.goal}
        return {name: cell for name, cell in placed.items() if cell is not None}


def make() -> Any:  # noqa: ANN401  a gymnasium.Env, which is not there without the extra `zoo`
    """The environment, whose observations are uint8 (64, 64, 3); no arrangement of it is one that is held out."""
    import gymnasium
    from minigrid.wrappers import ImgObsWrapper, RGBImgObsWrapper

    class Seen(gymnasium.Wrapper):  # type: ignore[misc]  # untyped, or not there
        def reset(self, **options: Any) -> Any:  # noqa: ANN401
            return reset(self.env, options.get("seed"))

    inner = gymnasium.make("MiniGrid-DoorKey-8x8-v0", highlight=False)
    return Seen(ImgObsWrapper(RGBImgObsWrapper(inner, tile_size=TILE)))


def reset(environment: Any, seed: int | None = None, unseen: bool = False) -> tuple[Any, Any]:  # noqa: ANN401
    """Reset until the arrangement is one that training sees, or with ``unseen`` one that it never does."""
    answer = environment.reset(seed=seed)
    while held_out(state(environment).world) != unseen:
        answer = environment.reset()
    return answer  # type: ignore[no-any-return]


def held_out(world: World) -> bool:
    """Whether the arrangement of wall, door and key is one of the eighth that training never sees."""
    return zlib.crc32(bytes((*world.door, *(world.key or ())))) % 8 == 0


def state(environment: Any) -> State:  # noqa: ANN401
    """What the environment knows, and its picture shows."""
    inner = environment.unwrapped
    found = {(x, y): inner.grid.get(x, y) for x in range(inner.width) for y in range(inner.height)}
    kinds = {cell: "floor" if thing is None else thing.type for cell, thing in found.items()}
    places = {kind: cell for cell, kind in kinds.items()}
    door = found[places["door"]]
    floor = frozenset(cell for cell, kind in kinds.items() if kind not in ("wall", "door"))
    world = World(floor, places["door"], places["goal"], places.get("key"), door.is_open, door.is_locked)
    x, y = inner.agent_pos
    return State(world, (int(x), int(y)), int(inner.agent_dir))


@dataclass(frozen=True)
class Plan:
    """What a planner would do.

    Attributes:
        actions: those that begin a shortest way to the goal; none where there is no way.
        steps: how long that is, in actions.
        towards: what the agent has to go to next: key, door or goal.
    """

    actions: list[int]
    steps: int
    towards: str


def plan(now: State) -> Plan:
    """The shortest way to the goal from here."""
    stage = _stage(now.world)
    here = (now.agent, now.direction)
    if here not in _costs(now.world, stage) and now.world.key is not None:  # a key that was dropped in the way
        stage = "key"
    costs = _costs(now.world, stage)
    if here not in costs:
        return Plan([], 10 * len(now.world.floor), stage)
    if costs[here] == _ends(now.world, stage).get(here):
        return Plan([PICKUP if stage == "key" else TOGGLE], costs[here], stage)
    actions = [action for action, pose in _moves(here).items() if costs.get(pose) == costs[here] - 1]
    return Plan(actions, costs[here], stage)


def _stage(world: World) -> str:
    """What the agent has to go to next."""
    if world.opened:
        return "goal"
    return "door" if world.key is None or not world.locked else "key"


@lru_cache(maxsize=1024)
def _costs(world: World, stage: str) -> Mapping[Pose, int]:
    """How many actions it takes from each pose to the goal, by way of what ``stage`` names."""
    free = world.floor - ({world.key} if world.key else set())
    if world.opened:
        free |= {world.door}
    costs: dict[Pose, int] = {}
    waiting = [(cost, pose) for pose, cost in _ends(world, stage).items() if pose[0] in free]
    heapify(waiting)
    while waiting:
        cost, pose = heappop(waiting)
        if pose in costs:
            continue
        costs[pose] = cost
        for before in _before(pose):
            if before[0] in free and before not in costs:
                heappush(waiting, (cost + 1, before))
    return costs


@lru_cache(maxsize=1024)
def _ends(world: World, stage: str) -> Mapping[Pose, int]:
    """The poses at which a stage ends, and how many actions it takes from each to the goal."""
    if stage == "goal":
        return {(world.goal, direction): 0 for direction in range(4)}
    if stage == "door":
        after, place = replace(world, opened=True, locked=False), world.door
    else:
        assert world.key is not None
        after, place = replace(world, key=None), world.key
    costs = _costs(after, _stage(after))
    return {pose: 1 + costs[pose] for pose in _facing(place) if pose in costs}


def _facing(cell: Cell) -> Iterable[Pose]:
    return (((cell[0] - dx, cell[1] - dy), direction) for direction, (dx, dy) in enumerate(_AHEAD))


def _moves(pose: Pose) -> dict[int, Pose]:
    """Where turning and going lead to, a wall or not."""
    (x, y), direction = pose
    dx, dy = _AHEAD[direction]
    return {
        LEFT: ((x, y), (direction - 1) % 4),
        RIGHT: ((x, y), (direction + 1) % 4),
        FORWARD: ((x + dx, y + dy), direction),
    }


def _before(pose: Pose) -> list[Pose]:
    """The poses that turning or going leads from to ``pose``."""
    (x, y), direction = pose
    dx, dy = _AHEAD[direction]
    return [((x, y), (direction + 1) % 4), ((x, y), (direction - 1) % 4), ((x - dx, y - dy), direction)]
