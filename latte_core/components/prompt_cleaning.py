"""Clean a prompt as the captions of Latte-1's training data were cleaned.

The rules and their order are those of the DeepFloyd caption cleaner, which the stock pipeline
applies twice; a text encoder that saw such captions expects prompts in the same form.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from urllib.parse import unquote_plus

_DOMAIN = r"[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b\/?(?!@)"
_DASHES = (
    "\u002d\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030"
    "\u30a0\ufe31\ufe32\ufe58\ufe63\uff0d"
)
_FILE_TYPES = "png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4"

Rules = tuple[tuple[re.Pattern[str], str], ...]


def _rules(*pairs: tuple[str, str]) -> Rules:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in pairs)


# Before markup is read: placeholders and addresses.
_ADDRESSES = _rules(
    (r"<person>", "person"),
    (rf"\b((?:https?:(?:\/{{1,3}}|[a-zA-Z0-9%])|{_DOMAIN}))", ""),
    (rf"\b((?:www:(?:\/{{1,3}}|[a-zA-Z0-9%])|{_DOMAIN}))", ""),
)
# After markup: names, scripts that the vocabulary lacks, punctuation, numbers, file names.
_NOISE = _rules(
    (r"@[\w\d]+\b", ""),
    (r"[\u31c0-\u31ef\u31f0-\u31ff\u3200-\u32ff\u3300-\u33ff]+", ""),
    (r"[\u3400-\u4dbf\u4dc0-\u4dff\u4e00-\u9fff]+", ""),
    (rf"[{_DASHES}]+", "-"),
    (r"[`´«»“”¨]", '"'),
    (r"[‘’]", "'"),
    (r"&quot;?", ""),
    (r"&amp", ""),
    (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),
    (r"\d:\d\d\s+$", ""),
    (r"\\n", " "),
    (r"#\d{1,3}\b", ""),
    (r"#\d{5,}\b", ""),
    (r"\b\d{6,}\b", ""),
    (rf"[\S]+\.(?:{_FILE_TYPES})", ""),
    (r"[\"\']{2,}", '"'),
    (r"[\.]{2,}", " "),
    (r"[#®•©™&@·º½¾¿¡§~\)\(\]\[\}\{\|\\/\*]{1,}", " "),
    (r"\s+\.\s+", " "),
)
# After mojibake is repaired: article codes, shop phrases, spacing.
_SHOP = _rules(
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),
    (r"\b\d+[a-zA-Z]+\d+\b", ""),
    (r"(worldwide\s+)?(free\s+)?shipping", ""),
    (r"(free\s)?download(\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (rf"\b(?:{_FILE_TYPES})(\simage[s]?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
    (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),
    (r"\b\s+\:\s+", ": "),
    (r"(\D[,\./])\b", r"\1 "),
    (r"\s+", " "),
    (r"^[\"\']([\w\W]+)[\"\']$", r"\1"),
    (r"^[\'\_,\-\:;]", ""),
    (r"[\'\_,\-\:\-\+]$", ""),
    (r"^\.\S+$", ""),
)
_JOINERS = re.compile(r"[-_]")
_MANY_JOINERS = 3


def clean_prompt(text: str) -> str:
    """Clean a prompt the way the stock Latte pipeline does: the cleaning pass, two times."""
    return _clean_once(_clean_once(text))


def simplify_prompt(text: str, unknown_words: Callable[[str], list[str]]) -> str:
    """Prepare a prompt for a closed vocabulary: lower case, without marks that it lacks.

    Such a mark becomes space, so that "up." is "up", and the Russian letter yo becomes ye, as in
    the vocabulary. `unknown_words` says which words of a text the vocabulary does not hold.
    """
    text = fold_letters(text)
    for mark in {sign for sign in text if unicodedata.category(sign).startswith("P")}:
        if unknown_words(mark):
            text = text.replace(mark, " ")
    return " ".join(text.split())


def fold_letters(text: str) -> str:
    """Lower case, the Russian letter yo as ye: the letters of a closed vocabulary."""
    yo, ye = "\N{CYRILLIC SMALL LETTER IO}", "\N{CYRILLIC SMALL LETTER IE}"
    return text.lower().replace(yo, ye)


def _clean_once(text: str) -> str:
    import ftfy
    from bs4 import BeautifulSoup

    text = _apply(_ADDRESSES, unquote_plus(text).strip().lower())
    text = _apply(_NOISE, BeautifulSoup(text, features="html.parser").text)
    if len(_JOINERS.findall(text)) > _MANY_JOINERS:  # this-is-one-long-file-name
        text = _JOINERS.sub(" ", text)
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return _apply(_SHOP, text).strip()


def _apply(rules: Rules, text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text
