"""What becomes of model versions: `stories.txt`, played without threads, and walks at random."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from gradcam_service.errors import ModelFailed, UnknownModel
from gradcam_service.registry.card import Card
from gradcam_service.registry.listing import version_order
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry, Listing
from gradcam_service.registry.spec import Preprocess
from gradcam_service.worker import steps, table
from gradcam_service.worker.poller import Snapshot
from gradcam_service.worker.steps import Accelerate, Complete, Drop, Load
from gradcam_service.worker.table import Table

Event = Callable[[Table, float], Table]


def card(memory: int = 10, runtime: str = "eager") -> Card:
    preprocess = Preprocess((0, 0, 0), (1, 1, 1), pad=8)
    return Card("sha256:0", "zoo", "", memory, "classification", "softmax", [], preprocess, 8, runtime, "", [], [])


def listed(*words: str) -> Event:
    """The repository of model ``a`` and others, as `stories.txt` writes it."""
    entries, demand, aliases, default = [], set[str](), dict[str, str](), ""
    unusable = dict[str, str]()
    for word in words:
        if word.startswith("default="):
            default = word.removeprefix("default=")
            continue
        if word == "unusable":
            unusable["a"] = "aliases.yaml is wrong"
            continue
        if ":" in word:
            alias, _, of = word.partition(":")
            aliases[alias] = of
            continue
        key, _, content = word.rstrip("?").partition("=")
        name, _, number = key.partition("@")
        entries.append(Entry(name, number, LocalPlace(Path("/")), (("model.yaml", content),)))
        if word.endswith("?"):
            demand.add(key)
    snapshot = Snapshot(
        Listing(tuple(entries), {"a": aliases} if aliases else {}, unusable), frozenset(demand), default
    )
    return lambda known, now: table.found(known, snapshot)


def asked(key: str) -> Event:
    return lambda known, now: table.asked(known, key, False, now)


def reloaded(key: str) -> Event:
    return lambda known, now: table.asked(known, key, True, now)


def unloaded(key: str) -> Event:
    return lambda known, now: table.unloaded(known, key)


def loaded(token: str, memory: str = "10") -> Event:
    return lambda known, now: table.ended(known, int(token), card(int(memory)), now)


def failed(token: str) -> Event:
    return lambda known, now: table.ended(known, int(token), "it is broken", now)


def faster(token: str) -> Event:
    return lambda known, now: table.accelerated(known, int(token), card(runtime="onnxruntime"))


def no_faster(token: str) -> Event:
    return lambda known, now: table.accelerated(known, int(token), None)


def needed_whole(key: str) -> Event:
    return lambda known, now: table.needed_whole(known, key, now)


def whole(token: str, more: str = "10") -> Event:
    return lambda known, now: table.completed(known, int(token), int(more), now)


def not_whole(token: str) -> Event:
    return lambda known, now: table.completed(known, int(token), "it is broken", now)


def outdated(token: str) -> Event:
    return lambda known, now: table.outdated(known, int(token), "it is another model's", now)


def used(key: str) -> Event:
    return lambda known, now: table.used(known, key, now)


def wait(seconds: str) -> Event:
    return lambda known, now: known


def refused(*words: str) -> Event:
    """An event that is refused, and changes nothing."""
    event = event_of(words)

    def refuse(known: Table, now: float) -> Table:
        with pytest.raises((ModelFailed, UnknownModel)):
            event(known, now)
        return known

    return refuse


EVENTS = (
    *(listed, asked, reloaded, unloaded, loaded, failed, faster, no_faster),
    *(needed_whole, whole, not_whole, outdated, used, wait, refused),
)


def event_of(words: tuple[str, ...] | list[str]) -> Event:
    by_name: dict[str, Callable[..., Event]] = {event.__name__: event for event in EVENTS}
    return by_name[words[0]](*words[1:])


def told(step: Load | Accelerate | Complete | Drop) -> str:
    match step:
        case Load(token, entry):
            content = dict(entry.stamps)["model.yaml"]
            return f"load {entry.key}{content and '='}{content} #{token}"
        case Accelerate(token, version):
            return f"speed up {version.entry.key} #{token}"
        case Complete(token, entry):
            return f"complete {entry.key} #{token}"
        case Drop(token, version):
            return f"drop {version.entry.key} #{token}"


@dataclass
class Story:
    """One of `stories.txt`: its name, its steps as (what happens, what is done), and how it ends."""

    name: str
    steps: list[tuple[str, str]]
    end: str
    budget: int = 0


def stories() -> list[Story]:
    blocks = Path(__file__).with_name("stories.txt").read_text().split("\n\n")
    return [story(block.splitlines()) for block in blocks if not block.startswith("#")]


def story(lines: list[str]) -> Story:
    found = Story(lines[0], [], "")
    for line in lines[1:]:
        happens, arrow, done = (part.strip() for part in line.partition("->"))
        if arrow:
            found.steps.append((happens, done))
        elif happens.startswith("budget"):
            found.budget = int(happens.split()[1])
        else:
            found.end = happens.removeprefix("end:").strip()
    return found


def test_there_are_stories():
    assert len(stories()) > 50


@pytest.mark.parametrize("story", stories(), ids=lambda story: story.name)
def test_what_becomes_of_versions(story: Story):
    known, now = Table(budget=story.budget), 0.0
    for happens, done in story.steps:
        words = happens.split()
        now += float(words[1]) if words[0] == "wait" else 1.0
        after = table.reconcile(event_of(words)(known, now))
        assert ", ".join(told(step) for step in steps.todo(known, after)) == done, happens
        known = after
    states = [f"{key} {version.state}" for key, version in known.versions.items()]
    aliases = [f"{alias}:{version}" for alias, version in known.aliases.get("a", {}).items()]
    assert sorted([*states, *aliases]) == sorted(filter(None, story.end.split(", ")))


def test_what_is_said_of_a_version_whose_newer_content_fails():
    known = Table()
    for event in (listed("a@1", "stable:1"), loaded("1"), faster("1"), listed("a@1=new"), failed("2")):
        known = table.reconcile(event(known, 0.0))
    (model,) = known.status()
    assert (model.state, model.aliases) == ("ready", [])
    assert model.reason == "the newer content can't be loaded: it is broken"
    assert model.card is not None
    assert model.card.runtime == "onnxruntime"  # of the older content, which answers


def test_what_a_load_waits_for_is_told_until_it_ends():
    def waiting(token: str) -> Event:
        return lambda known, now: table.waits(known, int(token), "its predictor")

    def reasons(*events: Event) -> list[str]:
        known, said = Table(), []
        for event in events:
            known = table.reconcile(event(known, 0.0))
            said.append(known.status()[0].reason)
        return said

    assert reasons(listed("a@1"), waiting("1"), loaded("1")) == ["", "it waits for its predictor", ""]
    assert reasons(listed("a@1"), waiting("1"), failed("1"))[1:] == ["it waits for its predictor", "it is broken"]
    assert reasons(listed("a@1"), waiting("1"), unloaded("a@1"), waiting("1"))[2:] == ["", ""]
    newer = reasons(listed("a@1"), loaded("1"), listed("a@1=new"), waiting("2"), loaded("2"))
    assert newer[2:] == ["", "the newer content is not loaded yet: it waits for its predictor", ""]
    whole_one = [listed("a@1"), loaded("1"), needed_whole("a@1"), waiting("1")]
    for end in (whole("1"), not_whole("1")):
        assert reasons(*whole_one, end)[2:] == ["", "the full model waits for its predictor", ""]
    both = reasons(*whole_one[:3], listed("a@1=new"), waiting("1"), waiting("2"), failed("2"))
    assert both[3:5] == ["", ""]
    assert both[5:] == [newer[3], "the newer content can't be loaded: it is broken"]


def test_an_alias_that_can_not_move_says_where_it_stays_and_why():
    known, at = Table(), "a@1"

    def become(*events: Event) -> None:
        nonlocal known
        for event in events:
            known = table.reconcile(event(known, 0.0))

    def said() -> dict[str, list[str]]:
        return {model.key: model.notes for model in known.status() if model.notes}

    become(listed(at, "stable:2"))
    assert said() == {at: ["alias stable names nothing: version 2, which it should name, is not there"]}
    become(loaded("1"), listed(at, "stable:1"))
    assert said() == {}
    become(listed(at, "stable:3"))
    assert said() == {at: ["alias stable stays at 1: version 3, which it should name, is not there"]}
    become(listed(at, "a@3", "stable:3"))
    assert said() == {}  # it is being loaded
    become(failed("2"))
    assert said() == {at: ["alias stable stays at 1: version 3, which it should name, can't be loaded"]}
    become(listed(at, "a@3=new", "stable:3"), asked("a@3"), loaded("3"))
    assert said() == {}


def test_no_other_makes_room_for_a_model_to_become_faster():
    known = Table(budget=25)
    for event in (listed("a@1", "b@1"), loaded("1"), loaded("2")):
        known = table.reconcile(event(known, 0.0))
    assert table.no_room(known, 1, card(memory=15)) == ""
    assert table.no_room(known, 1, card(memory=16)) == "it takes 16 bytes there; GRADCAM_MEMORY_BUDGET leaves 15"
    assert table.no_room(Table(), 1, card(memory=10**12)) == ""
    for event in (needed_whole("b@1"), whole("2", "5")):  # which counts, be it its own or another's
        known = table.reconcile(event(known, 0.0))
    for token, most in ((1, 10), (2, 10)):
        assert table.no_room(known, token, card(memory=most)) == ""
        assert table.no_room(known, token, card(memory=most + 1)).endswith("leaves 10")


def test_the_full_model_counts_beside_its_form_whichever_is_there_first():
    known = Table()
    for event in (listed("a@1"), loaded("1"), needed_whole("a@1"), whole("1", "20"), faster("1")):
        known = table.reconcile(event(known, 0.0))
    (model,) = known.status()
    assert model.card is not None
    assert (model.card.runtime, model.card.memory) == ("onnxruntime", 30)


def test_aliases_that_can_not_be_read_stay_and_every_version_says_so():
    known = Table()
    for event in (listed("a@1", "stable:1"), loaded("1"), listed("a@1", "a@2", "b@1", "unusable"), loaded("2")):
        known = table.reconcile(event(known, 0.0))
    note = ["aliases stay as they are: aliases.yaml is wrong"]
    assert {model.key: model.notes for model in known.status()} == {"a@1": note, "a@2": note, "b@1": []}


def test_a_move_of_an_alias_is_told_with_both_versions():
    none, one, two = (Table(aliases={"a": aliases}) for aliases in ({}, {"stable": "1"}, {"stable": "2", "next": "2"}))
    assert table.moves(none, one) == [("a@stable", None, "1")]
    assert sorted(table.moves(one, two)) == [("a@next", None, "2"), ("a@stable", "1", "2")]
    assert sorted(table.moves(two, none)) == [("a@next", "2", None), ("a@stable", "2", None)]
    assert table.moves(two, two) == []


def an_event(chance: random.Random, known: Table, under_way: list[int]) -> Event:
    """Whatever can happen next."""
    keys = ["a@1", "a@2", "a@3", "b@1"]
    choices: list[Callable[[], Event]] = [
        lambda: listed(
            *(
                f"{key}={chance.choice('xy')}{chance.choice('???    ').strip()}"
                for key in keys
                if chance.random() < 0.7
            ),
            *(f"stable:{version}" for version in chance.choice((*"1234", ""))),
            *(["unusable"] if chance.random() < 0.1 else []),
        ),
        lambda: no_faster(str(chance.randrange(1, known.loads + 2))),
    ]
    if known.versions:
        key = chance.choice(sorted(known.versions))
        choices += [lambda: asked(key), lambda: reloaded(key), lambda: unloaded(key), lambda: used(key)]
        choices += [lambda: needed_whole(key), lambda: not_whole(str(chance.randrange(1, known.loads + 2)))]
        choices += [lambda: whole(str(chance.randrange(1, known.loads + 2)), chance.choice(("5", "40")))]
    if under_way:
        token = str(under_way.pop(chance.randrange(len(under_way))))
        choices = [lambda: loaded(token, chance.choice(("5", "10", "40"))), lambda: failed(token)]
    return chance.choice(choices)()


@pytest.mark.parametrize("seed", range(200))
def test_whatever_happens_nothing_is_stuck_lost_or_too_much(seed: int):
    """A walk of 60 events; then every load ends, and what is wanted is there."""
    chance = random.Random(seed)
    known, under_way, held, begun = Table(budget=35), list[int](), set[int](), set[int]()
    for second in range(400):
        if second >= 60 and not under_way:
            break
        event = an_event(chance, known, under_way if second >= 60 or chance.random() < 0.4 else [])
        after = known
        with suppress(ModelFailed):  # it failed a moment ago
            after = table.reconcile(event(known, float(second)))
        for step in steps.todo(known, after):
            match step:
                case Load(token):
                    assert token not in begun
                    begun.add(token)
                    under_way.append(token)
                case Accelerate(token):
                    held.add(token)
                case Drop(token):
                    held.remove(token)
        assert held == set(after.models)
        assert {v.load for v in after.versions.values() if v.load is not None} <= set(under_way)
        assert sum(v.card.memory for v in after.models.values() if v.card) <= 35
        assert table.reconcile(after) == after, "what was decided would be decided otherwise a moment later"
        known = after
    assert not any(version.state == "loading" for version in known.versions.values())
    for name in {version.entry.name for version in known.versions.values()}:
        wanted = [
            version
            for key, version in known.versions.items()
            if version.entry.name == name
            and key not in known.snapshot.on_demand
            and (version.model is not None or not version.failure)  # what was before answers where newer content fails
        ]
        highest = max(wanted, key=lambda version: version_order(version.entry.version), default=None)
        assert highest is None or highest.state == "ready" or highest.evicted
