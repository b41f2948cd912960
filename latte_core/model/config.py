"""What a Latte is built from: `ModelConfig`, the presets, and both of its JSON forms."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from latte_core.errors import ConfigError

Conditioning = Literal["class", "text", "none"]
Injection = Literal["adaln_zero", "adaln_single", "all_tokens"]
TemporalPositions = Literal["absolute", "rope"]
Images = Literal["bypass", "length_one"]
ChainModulation = Literal["shared", "own"]
SumHeads = Literal["half", "full"]

# name: (depth of variant 1, hidden_size, num_heads). Source: arXiv 2401.03048, table of sizes.
SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}
PATCH_SIZES = (2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Every choice that shapes a Latte. Raises ConfigError for values that cannot be built.

    `depth` counts blocks: the text-to-video model with 28 space and 28 time blocks has depth 56.
    `out_channels` is `in_channels`, or twice that with a learned variance. `sample_size` is the
    side of the square latents that the space table is made for; other sizes are scaled to it.
    `patch_frames` above 1 is the compression patch: tubes of so many frames, which a transposed
    convolution takes apart again after the head.

    `images` says what time attention does for still images: `bypass` leaves them out of it, and
    out of purely temporal blocks altogether (joint training of the paper); `length_one` makes each
    a sequence of length 1 (image mode of Latte-1). A video of one frame is an image.

    The paper leaves two points open; both readings can be built:
    `chain_modulation` (variant 3): "shared" uses one shift, scale and gate for both attentions,
    because at 23 blocks that is the published count (676.33 M); "own" gives each its own three.
    `sum_heads` (variant 4): "half" splits the heads between space and time, because the text of
    the paper says so; "full" gives each axis all heads, near the published 676.44 M at 23 blocks.
    """

    hidden_size: int
    depth: int
    num_heads: int
    in_channels: int = 4
    out_channels: int = 8
    sample_size: int = 32
    num_frames: int = 16
    patch_size: int = 2
    patch_frames: int = 1
    mlp_ratio: int = 4
    variant: int = 1
    conditioning: Conditioning = "none"
    injection: Injection = "adaln_zero"
    temporal_positions: TemporalPositions = "absolute"
    images: Images = "bypass"
    num_classes: int = 0
    caption_channels: int = 0
    chain_modulation: ChainModulation = "shared"
    sum_heads: SumHeads = "half"

    def __post_init__(self) -> None:
        _check_types(self)
        _check_sizes(self)
        _check_conditioning(self)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def learned_variance(self) -> bool:
        """True if the second half of the output channels is a variance."""
        return self.out_channels == 2 * self.in_channels

    @property
    def interpolation(self) -> int:
        """Divisor of the space coordinates; diffusers' T2V model stretches its table above 64."""
        return max(self.sample_size // 64, 1) if self.conditioning == "text" else 1

    @property
    def is_t2v(self) -> bool:
        """True if diffusers' LatteTransformer3DModel can hold this model."""
        wanted = {
            "variant": 1,
            "conditioning": "text",
            "injection": "adaln_single",
            "temporal_positions": "absolute",
            "patch_frames": 1,
            "mlp_ratio": 4,
        }
        return all(getattr(self, name) == value for name, value in wanted.items())

    def to_json(self) -> dict[str, Any]:
        """`config.json` as a dictionary: diffusers' own keys for the T2V layout, ours otherwise."""
        if not self.is_t2v:
            return {"_class_name": "Latte", **asdict(self)}
        return {
            "_class_name": "LatteTransformer3DModel",
            "_diffusers_version": "0.42.0",
            **_T2V_CONSTANTS,
            "num_attention_heads": self.num_heads,
            "attention_head_dim": self.head_dim,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "num_layers": self.depth // 2,
            "cross_attention_dim": self.hidden_size,
            "sample_size": self.sample_size,
            "patch_size": self.patch_size,
            "caption_channels": self.caption_channels,
            "video_length": self.num_frames,
            # A leading underscore: stock diffusers passes over such keys without a warning.
            "_latte_images": self.images,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ModelConfig:
        """Read either form of `to_json`, and the `config.json` of the public Latte-1.

        Raises ConfigError for a missing or unknown key and for a T2V option that Latte never used.
        """
        if "attention_head_dim" in data:  # the class name differs between releases
            return _from_t2v_json(data)
        known = {field.name for field in fields(cls)}
        given = {name: value for name, value in data.items() if not name.startswith("_")}
        if unknown := sorted(given.keys() - known):
            raise ConfigError(f"Unknown model settings: {', '.join(unknown)}.")
        if missing := sorted({"hidden_size", "depth", "num_heads"} - given.keys()):
            raise ConfigError(f"The model configuration lacks {', '.join(missing)}.")
        return cls(**given)


# Options of LatteTransformer3DModel that have one value in every Latte.
_T2V_CONSTANTS: dict[str, Any] = {
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "num_embeds_ada_norm": 1000,
    "dropout": 0.0,
}


def _from_t2v_json(data: dict[str, Any]) -> ModelConfig:
    """Read the configuration of diffusers' LatteTransformer3DModel."""
    # num_embeds_ada_norm sizes nothing in this layout, so its value is free.
    for name in _T2V_CONSTANTS.keys() - {"num_embeds_ada_norm", "dropout"}:
        if name in data and data[name] != _T2V_CONSTANTS[name]:
            raise ConfigError(
                f"{name} is {data[name]!r}; Latte for text has {_T2V_CONSTANTS[name]!r}."
            )
    try:
        heads, head_dim, layers = (
            data[name] for name in ("num_attention_heads", "attention_head_dim", "num_layers")
        )
        config = ModelConfig(
            hidden_size=heads * head_dim,
            depth=2 * layers,
            num_heads=heads,
            in_channels=data["in_channels"],
            out_channels=data.get("out_channels") or data["in_channels"],
            sample_size=data["sample_size"],
            num_frames=data["video_length"],
            patch_size=data["patch_size"],
            conditioning="text",
            injection="adaln_single",
            images=data.get("_latte_images", "length_one"),
            caption_channels=data["caption_channels"],
        )
    except KeyError as error:
        raise ConfigError(f"The transformer's config.json lacks {error}.") from error
    except TypeError as error:
        raise ConfigError(
            f"A size in the transformer's config.json is no number: {error}."
        ) from error
    cross_width = data.get("cross_attention_dim", config.hidden_size)
    if cross_width != config.hidden_size:
        raise ConfigError(
            f"cross_attention_dim is {cross_width}; it has to be heads x head width = "
            f"{config.hidden_size}, because prompts are projected to that width first."
        )
    return config


def preset(name: str, **overrides: Any) -> ModelConfig:
    """A published size, S, B, L or XL with patch 2, 4 or 8, such as "XL/2", fields overridden.

    Blocks with two full attentions (variant 3, and variant 4 with `sum_heads="full"`) hold 22 D^2
    weights against 18 D^2, so their depth is scaled by 18/22 to keep the size's parameter count, as
    the paper did: 23 blocks for XL. Give `depth` to choose otherwise.
    """
    size, _, patch = name.partition("/")
    if size not in SIZES or patch not in {str(p) for p in PATCH_SIZES}:
        raise ConfigError(
            f"There is no preset {name!r}; sizes are {', '.join(SIZES)}, each with /2, /4 or /8."
        )
    depth, hidden_size, num_heads = SIZES[size]
    variant = overrides.get("variant", 1)
    if variant == 3 or (variant == 4 and overrides.get("sum_heads") == "full"):
        depth = round(depth * 18 / 22)
    values: dict[str, Any] = {
        "hidden_size": hidden_size,
        "depth": depth,
        "num_heads": num_heads,
        "patch_size": int(patch),
    }
    if unknown := sorted(overrides.keys() - {field.name for field in fields(ModelConfig)}):
        raise ConfigError(f"Unknown model settings: {', '.join(unknown)}.")
    return ModelConfig(**(values | overrides))


def _check_types(config: ModelConfig) -> None:
    """Whole numbers are positive ints (classes and captions may be 0), words are known."""
    hints = get_type_hints(ModelConfig)
    for field in fields(config):
        value, choices = getattr(config, field.name), get_args(hints[field.name])
        if choices:
            if value not in choices:
                raise ConfigError(f"{field.name} is {value!r}; it can be {', '.join(choices)}.")
            continue
        least = 0 if field.name in ("num_classes", "caption_channels") else 1
        if type(value) is not int or value < least:
            raise ConfigError(f"{field.name} is {value!r}; it has to be a whole number >= {least}.")


def _check_sizes(config: ModelConfig) -> None:
    """Widths divide as heads, tables and patches need it."""
    half = config.variant == 4 and config.sum_heads == "half"
    rules = [
        (config.variant in (1, 2, 3, 4), f"variant is {config.variant}; it can be 1, 2, 3 or 4"),
        (
            config.variant > 2 or config.depth % 2 == 0,
            f"depth is {config.depth}; variants 1 and 2 need an even number of blocks",
        ),
        (
            config.hidden_size % config.num_heads == 0,
            f"hidden_size {config.hidden_size} is not a multiple of num_heads {config.num_heads}",
        ),
        (
            config.hidden_size % 4 == 0,
            f"hidden_size {config.hidden_size} is not a multiple of 4, which the space table needs",
        ),
        (
            not half or config.num_heads % 2 == 0,
            f"num_heads is {config.num_heads}; variant 4 splits the heads, so it has to be even",
        ),
        (
            config.temporal_positions != "rope" or config.head_dim % 2 == 0,
            f"head width {config.head_dim} is odd; rope turns pairs, so it has to be even",
        ),
        (
            config.out_channels in (config.in_channels, 2 * config.in_channels),
            f"out_channels is {config.out_channels}; it can be in_channels or twice in_channels",
        ),
        (
            config.sample_size % config.patch_size == 0,
            f"sample_size {config.sample_size} is not a multiple of patch_size {config.patch_size}",
        ),
        (
            config.num_frames % config.patch_frames == 0,
            f"num_frames {config.num_frames} is not a multiple of patch_frames "
            f"{config.patch_frames}",
        ),
    ]
    _raise_first(rules)


def _check_conditioning(config: ModelConfig) -> None:
    """Class and text models say how many classes, how wide captions."""
    rules = [
        (
            (config.conditioning == "class") == (config.num_classes > 0),
            f"num_classes is {config.num_classes} with conditioning {config.conditioning!r}; it "
            "has to be above 0 for 'class' and 0 otherwise",
        ),
        (
            (config.conditioning == "text") == (config.caption_channels > 0),
            f"caption_channels is {config.caption_channels} with conditioning "
            f"{config.conditioning!r}; it has to be above 0 for 'text' and 0 otherwise",
        ),
    ]
    _raise_first(rules)


def _raise_first(rules: list[tuple[bool, str]]) -> None:
    """Raise ConfigError with the text of the first rule that does not hold."""
    for holds, text in rules:
        if not holds:
            raise ConfigError(f"{text}.")


# The public text-to-video model, 1,057,246,880 parameters.
# Source: transformer/config.json of the Latte-1 release.
LATTE_1 = preset(
    "XL/2",
    depth=56,
    sample_size=64,
    conditioning="text",
    injection="adaln_single",
    images="length_one",
    caption_channels=4096,
)
