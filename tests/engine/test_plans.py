"""The choice of a memory plan as a pure function, on sizes of machines that we do not have."""

from dataclasses import replace

import pytest

from latte_core.engine.plans import GIB, PLANS, ModelSizes, choose_plan, next_plan
from latte_core.errors import MemoryPlanError

# The public Latte-1, from the shapes of its published files.
LATTE_1 = ModelSizes(
    text=4_762_310_656,
    text_packed=4_630_511_616 - 1_006_632_960,
    transformer=1_057_246_880,
    vae=83_653_863,
    hidden_size=1152,
    tokens=16 * 1024,
    decoder_elements=256 * 512 * 512,
    blocks=56,
)
TINY = ModelSizes(200_000, 100_000, 3_000_000, 500_000, 192, 16 * 64, 32 * 64 * 64)


def plan(cuda_gib=None, cpu_gib=64, **options):
    free = {"cpu": int(cpu_gib * GIB)}
    if cuda_gib is not None:
        free["cuda"] = int(cuda_gib * GIB)
    return choose_plan(LATTE_1, free, **options)


# Peaks in GB as published for these plans, or added up from published parts.
@pytest.mark.parametrize(
    "name,published",
    [
        ("resident", 9.52 + 2.114 + 0.167 + 0.98),
        ("offload", 9.52),
        ("offload-8bit", 5.90 + 3.1),
        ("offload-4bit", 4.31 + 3.1),
        ("text-on-cpu", 3.1),
        ("split", 3.1 - 0.98 / 2),
    ],
)
def test_peaks_agree_with_published_figures(name, published):
    peak = plan(80, memory=name).peak_bytes / 1e9
    assert peak == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize(
    "card_gib,name",
    [
        (80, "resident"),
        (24, "resident"),
        (15, "resident"),
        (12, "offload"),
        (10.5, "offload"),
        (9.6, "offload-8bit"),
        (8.2, "offload-4bit"),
        (6, "text-on-cpu"),
        (4, "text-on-cpu"),
        (3.5, "split"),
        (3, "streamed"),
        (2, "streamed"),
    ],
)
def test_auto_fits_the_card(card_gib, name):
    chosen = plan(card_gib)
    assert (chosen.device, chosen.name) == ("cuda", name)
    assert chosen.peak_bytes < card_gib * GIB


def test_auto_never_exceeds_and_never_falls_with_more_memory():
    order = {name: rank for rank, name in enumerate(PLANS)}
    ranks = []
    for tenths in range(20, 300):
        chosen = plan(tenths / 10)
        assert chosen.peak_bytes < tenths / 10 * GIB
        ranks.append(order[chosen.name])
    assert ranks == sorted(ranks, reverse=True)
    assert set(ranks) == set(order.values())


def test_a_card_that_is_too_small_falls_to_the_cpu_and_says_so():
    chosen = plan(1)
    assert chosen.device == "cpu"
    assert "streamed on cuda needs" in chosen.sentence
    assert "1.0 GiB" in chosen.sentence


@pytest.mark.parametrize(
    "host_gib,name",
    [(64, "resident"), (28, "resident"), (24, "offload-8bit"), (14, "offload-4bit")],
)
def test_auto_on_the_cpu(host_gib, name):
    chosen = plan(cpu_gib=host_gib)
    assert (chosen.device, chosen.name, chosen.transformer_dtype) == ("cpu", name, "float32")


def test_nothing_fits_is_said_with_figures_and_a_remedy():
    with pytest.raises(MemoryPlanError, match=r"GiB of 8\.0 GiB free.*Close other programs"):
        plan(cpu_gib=8)
    with pytest.raises(MemoryPlanError, match="resident on cuda needs"):
        plan(8, memory="resident", device="cuda")


def test_offloaded_parts_need_room_in_main_memory():
    assert plan(12, cpu_gib=64).name == "offload"
    assert plan(12, cpu_gib=8).name == "offload-8bit"


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_may_be_fixed(name):
    assert plan(80, memory=name).name == name


@pytest.mark.parametrize(
    "options,word",
    [
        ({"memory": "lots"}, "auto or one of: resident"),
        ({"device": "cuda"}, "this machine has: auto, cpu"),
        ({"device": "tpu"}, "this machine has: auto, cpu"),
        ({"memory": "text-on-cpu"}, "does not exist"),
    ],
)
def test_unknown_words_are_refused_with_the_options(options, word):
    with pytest.raises(MemoryPlanError, match=word):
        plan(**options)


def test_dtypes_follow_device_and_part():
    card = plan(80)
    assert (card.text_dtype, card.transformer_dtype) == ("bfloat16", "float16")
    host = plan()
    assert (host.text_dtype, host.transformer_dtype) == ("float32", "float32")
    own = plan(cpu_bf16_pays=True)
    assert (own.text_dtype, own.transformer_dtype) == ("bfloat16", "bfloat16")
    assert plan(6, cpu_bf16_pays=True).text_dtype == "bfloat16"
    assert plan(6).text_device == "cpu"


def test_a_small_model_is_resident_everywhere_and_mps_comes_before_the_cpu():
    assert choose_plan(TINY, {"cpu": GIB}).name == "resident"
    chosen = choose_plan(TINY, {"cpu": 8 * GIB, "mps": 5 * GIB})
    assert (chosen.device, chosen.name) == ("mps", "resident")


def test_the_sentence_names_plan_device_and_gib():
    sentence = plan(12).sentence
    for word in ("offload on cuda", "GiB of 12.0 GiB free", "Chosen because resident on cuda"):
        assert word in sentence


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_every_plan_leads_down_to_one_that_needs_less(device):
    at, names = plan(80, device=device), []
    while at is not None:
        names.append(at.name)
        lower = next_plan(at, LATTE_1, {"cpu": GIB, "cuda": GIB})
        if lower is not None:
            assert lower.device == device and lower.peak_bytes < at.peak_bytes
            for word in (f"memory ran out with {at.name}", "GiB", "close other programs"):
                assert word in lower.sentence
        at = lower
    expected = {"cuda": list(PLANS), "cpu": ["resident", "split", "offload-8bit", "offload-4bit"]}
    assert names == expected[device]


def test_a_model_without_text_leads_past_the_plans_about_text():
    classes = replace(LATTE_1, text=0, text_packed=0)
    first = choose_plan(classes, {"cuda": 40 * GIB, "cpu": 64 * GIB})
    names = [first.name]
    while (first := next_plan(first, classes, {"cuda": GIB})) is not None:
        names.append(first.name)
    assert names == ["resident", "offload", "split", "streamed"]
