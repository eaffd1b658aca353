"""The planner finds shortest ways, and MiniGrid is what the planner takes it for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gradcam_service.zoo.policy import doorkey
from gradcam_service.zoo.policy.doorkey import DONE, DROP, FORWARD, LEFT, PICKUP, RIGHT, TOGGLE, State, World, plan

AHEAD = {0: (1, 0), 1: (0, 1), 2: (-1, 0), 3: (0, -1)}


def world(rows: str) -> World:
    """A world as a drawing: # wall, . floor, K key, D locked door, G goal."""
    cells = {(x, y): mark for y, row in enumerate(rows.split()) for x, mark in enumerate(row)}
    at = {mark: cell for cell, mark in cells.items()}
    floor = frozenset(cell for cell, mark in cells.items() if mark in ".KG")
    return World(floor, at["D"], at["G"], at.get("K"), opened=False, locked=True)


def after(now: State, action: int) -> State:
    """MiniGrid's rules, written down once more."""
    here, of = now.world, AHEAD[now.direction]
    ahead = (now.agent[0] + of[0], now.agent[1] + of[1])
    if action in (LEFT, RIGHT):
        return replace(now, direction=(now.direction + (1 if action == RIGHT else 3)) % 4)
    if action == FORWARD and ahead != here.key and (ahead in here.floor or (ahead == here.door and here.opened)):
        return replace(now, agent=ahead)
    if action == PICKUP and ahead == here.key:
        return replace(now, world=replace(here, key=None))
    if action == DROP and here.key is None and ahead in here.floor - {here.goal}:
        return replace(now, world=replace(here, key=ahead))
    if action == TOGGLE and ahead == here.door and (here.key is None or not here.locked):
        return replace(now, world=replace(here, opened=not here.opened, locked=False))
    return now


def shortest(start: State) -> int:
    """Breadth first through everything that can be done."""
    seen, ring, steps = {start}, [start], 0
    while all(now.agent != now.world.goal for now in ring):
        following = {after(now, action) for now in ring for action in range(DONE)} - seen
        seen |= following
        ring, steps = list(following), steps + 1
    return steps


def walk(start: State, steps: int, seed: int) -> Iterator[State]:
    rng, now = random.Random(seed), start
    for _ in range(steps):
        if now.agent != now.world.goal:
            yield now
            now = after(now, rng.choice([LEFT, RIGHT, FORWARD, FORWARD, PICKUP, DROP, TOGGLE]))


SMALL = "###### #.#..# #K#..# #.D..# #.#.G# ######"


def test_a_plan_counted_by_hand():
    """South and the key is taken; two ahead, turn left, the door; through it and on, two more to the right of it."""
    plans = plan(State(world(SMALL), (1, 1), 1))
    assert (plans.actions, plans.towards) == ([PICKUP], "key")
    # pickup, forward, forward, left, toggle, 3 × forward, right, forward
    assert plans.steps == 10


@pytest.mark.parametrize("seed", range(6))
def test_every_plan_is_as_short_as_any_way(seed: int):
    """Also where the key has been dropped in the way or the door was shut again; and following it shortens the way."""
    for now in walk(State(world(SMALL), (1, 1), 0), 25, seed):
        found = plan(now)
        assert found.steps == shortest(now), now
        for action in range(DONE):
            assert (action in found.actions) == (shortest(after(now, action)) == found.steps - 1), (now, action)


def test_an_eighth_of_the_arrangements_is_held_out():
    """Each in 64 places of the door and 64 of the key, the agent's place not being looked at."""
    empty = World(frozenset(), (0, 0), (6, 6), None, opened=False, locked=True)
    places = [(x, y) for x in range(8) for y in range(8)]
    held = [doorkey.held_out(replace(empty, door=door, key=key)) for door in places for key in places]
    assert 0.11 < sum(held) / len(held) < 0.14


@pytest.mark.exhaustive
def test_minigrid_keeps_the_rules_that_are_planned_by():
    environment, rng = doorkey.make(), random.Random(0)
    for seed in range(20):
        environment.reset(seed=seed)
        assert not doorkey.held_out(doorkey.state(environment).world)
        for _ in range(100):
            before, action = doorkey.state(environment), rng.choice([LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE])
            _, reward, done, _, _ = environment.step(action)
            assert doorkey.state(environment) == after(before, action)
            assert done == (doorkey.state(environment).agent == before.world.goal) == (reward > 0)
            if done:
                break


@pytest.mark.exhaustive
def test_following_the_plan_reaches_the_goal_in_as_many_steps():
    environment = doorkey.make()
    for seed in range(50):
        environment.reset(seed=seed)
        for left in range(plan(doorkey.state(environment)).steps, 0, -1):
            now = plan(doorkey.state(environment))
            assert now.steps == left
            _, _, done, _, _ = environment.step(now.actions[-1])
        assert done
