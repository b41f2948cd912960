"""The commands of README.md that are marked to be run."""

import re
from dataclasses import dataclass

MARKED = re.compile(
    r"^<!-- run(?: with (?P<changes>.+?))? -->\n+```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A marked block, made small: its language, the text to run, the line where it stands."""

    language: str
    text: str
    line: int


def marked_blocks(readme: str) -> list[Block]:
    """Find blocks behind `<!-- run -->` or `<!-- run with --steps 20 => --steps 2; a => b -->`.

    Each change replaces text of the block, so that a command runs at a test's scale.
    Raises ValueError if the text to be replaced is not there.
    """
    blocks = []
    for match in MARKED.finditer(readme):
        text = match["text"]
        for change in filter(None, (match["changes"] or "").split("; ")):
            old, new = change.split(" => ")
            if old not in text:
                raise ValueError(f"{old!r} is not in the block that should run with {new!r}")
            text = text.replace(old, new)
        blocks.append(Block(match["language"], text, readme[: match.start()].count("\n") + 1))
    return blocks
