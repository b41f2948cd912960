from types import SimpleNamespace

from demo.markup import about_model, model_line, model_name
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


def test_markup_names_a_model_by_its_card_else_by_its_folder():
    assert model_name(info(name="Latte World")) == "Latte World"
    assert model_name(info()) == "tiny"
