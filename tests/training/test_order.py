"""The text encoder is taught which subject comes first, and keeps what else it says."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_training import tiny_loop, tiny_recipe_data

from latte_core import cli
from latte_core.data.captions import LEFT, RIGHT
from latte_core.errors import ConfigError
from latte_core.training import stages
from latte_core.training.budget import measure
from latte_core.training.curves import read_curves
from latte_core.training.loop import Trainer
from latte_core.training.order import SIDES, CaptionBatches, OrderTask
from latte_core.training.recipe import parse_recipe

ORDER = {"captions": 16, "loop": {"steps": 3, "workers": 0, "learning_rate": 0.01}}


def recipe_data():
    data = tiny_recipe_data()
    data["world"] |= {"subjects": ["cat", "rocket", "star"], "compositions": ["pair"]}
    return data | {"order": ORDER}


RECIPE = parse_recipe(recipe_data())


def new_task(captions=16, seed=0):
    torch.manual_seed(0)
    text_encoder = stages.make_text_encoder(RECIPE)
    return OrderTask(text_encoder, CaptionBatches(RECIPE.world, text_encoder, captions, 16, seed))


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A task after 400 updates."""
    task = new_task()
    loop = tiny_loop(steps=400, learning_rate=0.01, warmup_steps=20, decay_share=1.0, beta2=0.98)
    loop = replace(loop, log_every=50, save_every=400, picture_every=400)
    trainer = Trainer(task, loop, tmp_path_factory.mktemp("order"))
    task.text_encoder.model.load_state_dict(trainer.run().state_dict())
    return task, trainer.folder


def state_of(encoder, caption, word):
    ids, _ = encoder.tokenize([caption])
    (own,) = encoder.tokenizer(word, add_special_tokens=False)["input_ids"]
    return encoder.encode(caption)[0, ids[0].tolist().index(own)]


def swap(encoder, word, one, other):
    """How far a word's state moves when it is told second, in its own length."""
    first, second = (state_of(encoder, caption, word) for caption in (one, other))
    return float((first - second).norm() / first.norm())


def near(colours, wanted):
    return any(max(map(abs, np.subtract(colour, wanted))) < 60 for colour in colours)


def test_batches_mark_the_words_of_either_subject():
    task = new_task()
    batch = task.batches[0]
    assert batch["ids"].shape == batch["mask"].shape == batch["sides"].shape == (16, 16)
    assert not batch["sides"][batch["mask"] == 0].any()
    of_two = batch["sides"][::2]
    assert ((of_two == LEFT).any(1) & (of_two == RIGHT).any(1)).all()
    assert (batch["sides"][1::2] == 0).all(1).any()
    again = new_task().batches[0]
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(task.batches[1]["ids"], batch["ids"])
    vocabulary = task.text_encoder.tokenizer.get_vocab()
    nouns = {vocabulary[f"\u2581{noun}"] for noun in ("cat", "rocket", "star")}
    first = [ids[sides == LEFT] for ids, sides in zip(batch["ids"], batch["sides"], strict=True)]
    assert nouns & {int(token) for tokens in first for token in tokens}


def test_vectors_are_at_right_angles_and_as_long_as_asked():
    task = new_task()
    neither, left, right = task.vectors
    assert not neither.any()
    assert float(left @ right) == pytest.approx(0, abs=1e-4 * task.size**2)
    for vector in (left, right):
        assert float(vector.norm()) == pytest.approx(0.6 * task.size, rel=1e-5)
    assert torch.equal(new_task().vectors, task.vectors)
    assert not torch.equal(new_task(seed=1).vectors, task.vectors)


def test_loss_is_nothing_for_states_that_are_as_asked():
    task = new_task()
    batch = task.batches[0]

    class Perfect(torch.nn.Module):
        def forward(self, input_ids, attention_mask):
            made = task.before(input_ids=input_ids, attention_mask=attention_mask)
            added = {LEFT: 1, RIGHT: 2, 0: 0}
            rows = [[added[int(side)] for side in sides] for sides in batch["sides"]]
            made.last_hidden_state = made.last_hidden_state + task.vectors[torch.tensor(rows)]
            return made

    loss, figures = task.loss(Perfect(), batch, torch.Generator())
    assert float(loss) == pytest.approx(0, abs=1e-9)
    assert figures == {"told": pytest.approx(1), "kept": pytest.approx(0, abs=1e-6)}
    loss, figures = task.loss(task.before, batch, torch.Generator())
    marked = int((batch["sides"] != 0).sum()) / int(batch["mask"].sum())
    assert float(loss) == pytest.approx(0.6**2 * marked, rel=1e-4)
    assert figures == {"told": 0, "kept": 0}


def test_a_word_says_whether_it_was_told_first(taught):
    task, _ = taught
    one, other = "a cat and a star go left at night", "a star and a cat go left at night"
    untaught = new_task().text_encoder
    for word in ("cat", "star"):
        assert swap(untaught, word, one, other) < 0.2
        assert swap(task.text_encoder, word, one, other) > 0.4


def test_other_captions_keep_their_states(taught):
    task, folder = taught
    untaught = new_task().text_encoder
    for caption in ("a cat moves left at night", "a rocket goes right on a red background"):
        moved = (task.text_encoder.encode(caption) - untaught.encode(caption)).norm(dim=-1)
        assert float(moved.mean()) < 0.3 * task.size
    rows = np.genfromtxt(folder / "log.csv", delimiter=",", names=True)
    assert rows["told"][0] < 0.4 and rows["told"][-1] > 0.5
    assert rows["kept"][-1] < 0.3


def test_the_sheet_shows_words_in_the_colour_of_their_side(taught):
    task, _ = taught
    colours = {colour for _, colour in task.picture(task.model).getcolors(1 << 20)}
    assert near(colours, SIDES[LEFT]) and near(colours, SIDES[RIGHT])
    untaught = new_task()
    colours = {colour for _, colour in untaught.picture(untaught.model).getcolors(1 << 20)}
    assert not near(colours, SIDES[LEFT]) and not near(colours, SIDES[RIGHT])


def test_the_stage_changes_the_text_encoder_and_the_next_begins_with_it(bundle, tmp_path):
    run = stages.Run(RECIPE, tmp_path, {"device": "cpu"}, start_from=bundle)
    before, _ = stages._starting(run, "order")
    assert stages.last_stage(tmp_path) is None
    stages.train_order(run)
    assert stages.last_stage(tmp_path) == stages.last_stage(tmp_path, before="stills") == "order"
    after, _ = stages._starting(run, "video")
    for name, value in after.latte.state_dict().items():
        assert torch.equal(value, before.latte.state_dict()[name]), name
    pairs = zip(after.text_encoder.parameters(), before.text_encoder.parameters(), strict=True)
    assert not all(itertools.starmap(torch.equal, pairs))
    assert any(curve.stage == "order" for curve in read_curves(tmp_path))


def test_the_budget_counts_the_stage(tmp_path):
    run = stages.Run(RECIPE, tmp_path, {"device": "cpu"})
    assert measure(run)["order"] > 0
    assert RECIPE.trained.index("order") < RECIPE.trained.index("stills")
    assert "order" not in parse_recipe(tiny_recipe_data()).trained


def test_an_order_needs_two_subjects_and_settings(tmp_path, capsys):
    with pytest.raises(ConfigError, match=r'world shows one subject.*"pair"'):
        parse_recipe(tiny_recipe_data() | {"order": ORDER})
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(tiny_recipe_data()))
    line = ["train", str(path), "--folder", str(tmp_path / "run"), "--stage", "order"]
    assert cli.main([*line, "--device", "cpu"]) != 0
    assert 'no "order"' in capsys.readouterr().err
