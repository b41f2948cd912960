from types import SimpleNamespace

from demo.markup import about_model, model_line, model_name
from demo.regions.ask import pick_examples
from demo.strings import load_texts

EVIL = '<img src=x onerror="alert(1)">'
TEXTS = load_texts()


def info(**card):
    return SimpleNamespace(model="/models/tiny", plan=EVIL, card=card, memory=None)


def test_markup_escapes_whatever_comes_from_a_model():
    shown = about_model(
        info(description=EVIL, vocabulary={EVIL: [EVIL, "cat"], "scenes": EVIL}), TEXTS
    )
    assert "<img" not in shown + model_line(EVIL, "failed")
    assert shown.count("&lt;img") == 5


def test_markup_lists_the_words_that_a_model_knows():
    kinds = about_model(info(vocabulary={"subjects": ["cat", "dog"]}), TEXTS)
    assert "<dt>subjects</dt><dd>cat, dog</dd>" in kinds
    assert "cat, dog" in about_model(info(vocabulary=["cat", "dog"]), TEXTS)
    assert "<details>" not in about_model(info(), TEXTS)


def test_card_speaks_the_language_of_the_page_where_it_can():
    russian = {"vocabulary": {"subjects": ["кот"]}, "examples": ["кот прыгает"]}
    card = {"vocabulary": {"subjects": ["cat"]}, "examples": ["a cat hops"], "name": "tiny"}
    card["translations"] = {"ru": russian}
    shown = {name: about_model(info(**card), load_texts(name)) for name in ("en", "ru", "zh")}
    assert "<dt>subjects</dt><dd>cat</dd>" in shown["en"]
    assert "<dt>герои</dt><dd>кот</dd>" in shown["ru"]
    assert "<dt>主角</dt><dd>cat</dd>" in shown["zh"]
    for name, first in (("en", "a cat hops"), ("ru", "кот прыгает"), ("zh", "a cat hops")):
        chips = pick_examples(load_texts(name), card)
        assert chips[0] == first and len(chips) == len(load_texts(name).many("examples"))


def test_markup_names_a_model_by_its_card_else_by_its_folder():
    assert model_name(info(name="Latte World")) == "Latte World"
    assert model_name(info()) == "tiny"
