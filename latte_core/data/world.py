"""The captioned world: subjects move through a scene, and a sentence says so.

A clip is described by a `ClipSpec`, drawn by `render_clip` and told by `captions`; all three
depend on nothing but their arguments, so a seed names a clip for ever. `World` fixes which
subjects, motions and scenes exist and draws random specs from them; a tenth of all (subject,
motion, scene) combinations is held out of training, for tests of what was never seen.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

from latte_core.data.motions import MOTIONS, Mover
from latte_core.data.scenes import COLOURS, SCENES, Rng
from latte_core.data.sprites import SUBJECTS
from latte_core.errors import DataError

SPOKEN = ("en", "ru")  # languages that `captions` can write
DRAWS = 20_000  # attempts at a combination of the wanted split; one in ten is held out

# What a clip may have beyond one subject in one place, and the share of clips that are asked for
# it: a second subject, a camera that pans, day or night of one place. Where the place does not
# allow it, the clip stays as it is.
COMPOSITIONS: dict[str, float] = {"pair": 0.3, "camera": 0.3, "light": 0.5}
ANY = "any"  # in place of one of them: whatever the world shows, as often as it does
ALIKE = 0.3  # of the pairs do the same thing
CAMERA = ("left", "right")
LIGHT = ("day", "night", "night")  # a place that nothing is said of is seen by day


@dataclass(frozen=True)
class ClipSpec:
    """Everything that a clip shows. `colour` matters only when `scene` is "plain".

    `partner` is a second subject with a motion of its own, "" if there is none; `camera` says which
    way the camera pans; `light` that a place is seen by "day" or "night", "" if that is not said.
    """

    subject: str
    motion: str
    scene: str
    colour: str
    size: str
    seed: int
    partner: str = ""
    partner_motion: str = ""
    camera: str = ""
    light: str = ""

    @property
    def movers(self) -> tuple[Mover, ...]:
        """The subjects, from left to right."""
        if not self.partner:
            return (Mover(self.subject, self.motion, self.size),)
        return (
            Mover(self.subject, self.motion, "", -1),
            Mover(self.partner, self.partner_motion, "", 1),
        )

    @property
    def place(self) -> str:
        """The scene, or the colour of a plain ground."""
        return self.colour if self.scene == "plain" else self.scene

    def has(self, composition: str) -> bool:
        """Say whether the clip is composed in this way, a key of COMPOSITIONS."""
        parts = {"pair": self.partner, "camera": self.camera, "light": self.light}
        return bool(parts[composition])


@dataclass(frozen=True)
class World:
    """Which subjects, motions, scenes and plain colours exist, and the languages of captions.

    `compositions` are keys of COMPOSITIONS; without them a clip has one subject and a still
    camera. Raises DataError for a name that the renderer does not know.
    """

    subjects: tuple[str, ...] = tuple(SUBJECTS)
    motions: tuple[str, ...] = tuple(MOTIONS)
    scenes: tuple[str, ...] = ("plain", *SCENES)
    colours: tuple[str, ...] = tuple(COLOURS)
    languages: tuple[str, ...] = ("en",)
    compositions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse names that cannot be drawn."""
        known = {
            "subjects": tuple(SUBJECTS),
            "motions": tuple(MOTIONS),
            "scenes": ("plain", *SCENES),
            "colours": tuple(COLOURS),
            "languages": SPOKEN,
            "compositions": tuple(COMPOSITIONS),
        }
        for field, names in known.items():
            unknown = set(getattr(self, field)) - set(names)
            if unknown or not (getattr(self, field) or field == "compositions"):
                raise DataError(
                    f"World.{field} has unknown or no names {sorted(unknown)}; "
                    f"choose from {', '.join(names)}."
                )

    @property
    def plainly(self) -> World:
        """The same world without compositions."""
        return replace(self, compositions=())

    @property
    def names(self) -> set[str]:
        """What a clip may show: subjects, motions, scenes, compositions, and plain colours."""
        colours = self.colours if "plain" in self.scenes else ()
        places = {*self.scenes, *colours} - {"plain"}
        return {*self.subjects, *self.motions, *places, *self.compositions}

    def is_held_out(self, spec: ClipSpec) -> bool:
        """Say whether a combination of subject, motion and place in it is never trained on."""
        return any(
            zlib.crc32(f"{mover.subject}/{mover.motion}/{spec.place}".encode()) % 10 == 0
            for mover in spec.movers
        )

    def draw(self, rng: Rng, held_out: bool = False) -> ClipSpec:
        """Draw a random clip, from the training combinations or from the held-out ones.

        Raises DataError if the world is too small to have such combinations.
        """
        for _ in range(DRAWS):
            spec = self._draw(rng)
            if self.is_held_out(spec) == held_out:
                return spec
        raise DataError(
            f"This world of {len(self.subjects)} subjects and {len(self.motions)} motions has no "
            f"{'held-out' if held_out else 'training'} combinations; give it more names."
        )

    def draw_composed(self, rng: Rng, composition: str, held_out: bool = False) -> ClipSpec:
        """Draw a clip that has one of the compositions, and no other; with ANY what `draw` draws.

        Raises DataError if the world has no such composition, or no place that allows it.
        """
        if composition == ANY:
            return self.draw(rng, held_out)
        if composition not in self.compositions:
            known = ", ".join(self.compositions) or "none"
            raise DataError(
                f"This world has no {composition!r}, only {known}: take a model and a probe that "
                "learned it."
            )
        world = replace(self, compositions=(composition,))
        for _ in range(DRAWS):
            if (spec := world.draw(rng, held_out)).has(composition):
                return spec
        raise DataError(f"No place of this world allows {composition!r}; give it other scenes.")

    def _draw(self, rng: Rng) -> ClipSpec:
        plain = "plain" in self.scenes and rng.random() < 0.4
        spec = ClipSpec(
            subject=str(rng.choice(self.subjects)),
            motion=str(rng.choice(self.motions)),
            scene="plain" if plain else str(rng.choice(self.scenes)),
            colour=str(rng.choice(self.colours)),
            size=str(rng.choice(["", "", "small", "big"])),
            seed=int(rng.integers(1 << 31)),
        )
        wanted = [name for name in self.compositions if rng.random() < COMPOSITIONS[name]]
        return self._compose(spec, wanted, rng) if wanted else spec

    def _compose(self, spec: ClipSpec, wanted: list[str], rng: Rng) -> ClipSpec:
        """Add to a clip of one subject what is wanted and goes together; a pair has no camera."""
        scene = SCENES.get(spec.scene)
        if "light" in wanted and scene and scene.nights:
            spec = replace(spec, light=str(rng.choice(LIGHT)))
        others = [name for name in self.subjects if name != spec.subject]
        if "pair" in wanted and others:
            alike = rng.random() < ALIKE
            motion = spec.motion if alike else str(rng.choice(self.motions))
            return replace(spec, partner=str(rng.choice(others)), partner_motion=motion, size="")
        if "camera" in wanted and scene and scene.still:
            side = str(rng.choice(CAMERA))
            if spec.motion in CAMERA:  # the camera goes along; against it the subject would be gone
                side = spec.motion
            return replace(spec, camera=side)
        return spec
