"""The forecast of memory follows the request, and the model goes where a smaller plan wants it."""

import pytest
from tiny_requests import ask, same

from latte_core import Engine, MemoryPlanError
from latte_core.engine.plans import GIB, choose_plan, needed_bytes, rungs


@pytest.fixture(scope="module")
def engine(tiny_folder):
    with Engine.load(tiny_folder) as loaded:
        yield loaded


def sizes(engine):
    return engine._pipeline.parts.sizes


def test_forecast_of_the_models_own_size_is_the_plans_own_figure(engine):
    (now, *smaller) = engine.describe().memory.needs(ask(guidance_scale=4))
    plan = choose_plan(sizes(engine), {"cpu": 64 * GIB})
    assert now.plan == plan.name == "resident" and now.needed_gib == needed_bytes(plan) / GIB
    assert now.fits and [need.plan for need in smaller][:1] == ["split"]
    amounts = [now.needed_gib, *(need.needed_gib for need in smaller)]
    assert amounts == sorted(amounts, reverse=True) and len(set(amounts)) == len(amounts)


def test_forecast_follows_size_stills_and_guidance_but_not_length(engine):
    def need(**fields):
        request = ask(**{"guidance_scale": 4, **fields})
        return engine.describe().memory.needs(request)[0].needed_gib

    plain = need()
    assert need(height=128, width=128) > need(height=128) > plain > need(guidance_scale=1)
    assert need(mode="joint", num_images=4) > plain
    assert need(num_frames=32) == plain  # in windows of the trained length


def test_rungs_end_where_nothing_is_smaller(engine):
    last = rungs(engine._pipeline.parts.plan, sizes(engine), {"cpu": GIB})[-1]
    assert [plan.name for plan in rungs(last, sizes(engine), {"cpu": GIB})] == [last.name]


def test_model_is_placed_by_a_smaller_plan_and_no_other(engine):
    memory = engine.describe().memory
    before = engine.generate(ask())
    for name in ("streamed", "nonsense"):
        with pytest.raises(MemoryPlanError, match="no smaller memory plan than resident"):
            list(memory.place(name).events())
    assert same(engine.generate(ask()), before)
    list(memory.place("split").events())
    made = engine.generate(ask())
    assert made.recipe["memory"] == "split" and memory.sentence.startswith("split on cpu")
    with pytest.raises(MemoryPlanError, match="resident is no smaller"):
        list(memory.place("resident").events())
