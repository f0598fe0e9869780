"""The Penn Treebank tokenizer of caption evaluation, without Java.

Published caption scores are computed on the tokens of Stanford's `PTBTokenizer` 3.4.1 with
`-preserveLines -lowerCase`, from which coco-caption then drops a list of punctuation marks. This
module gives the same tokens. It is a small lexer: at every position all rules are tried and the
longest match wins, the earlier rule where two are equally long. A match may take in what follows
the token; such right context counts towards its length, which is how "do" + "n't" beats "don".

All captions of COCO val2017 and of Flickr8k come out as from the Java program. Known to differ:
telephone numbers with brackets, "@" inside odd strings, runs of different quotation marks.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mmattn.metrics.ptb_words import (
    CAPITALISED,
    FINAL_ABBREVIATIONS,
    NUMBERED,
    SENTENCE_OPENERS,
    TITLES,
    any_of,
)

# What coco-caption drops. Its list says "-LRB-" but the tokens are lower case by then, so
# brackets stay, as "-lrb-": published scores contain them.
PUNCTUATION = frozenset({"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"})

# A letter: no digit, underscore, superscript, vulgar fraction, Roman or circled number; or an
# accent that follows one.
L = r"(?:[^\W\d_²³¹¼-¾⁰-₟⅐-↏①-⓿❶-➓]|[\u0300-\u036f])"
LD = rf"(?:{L}|\d)"
APOSTROPHE = "['’`]"
HYPHEN = "[-‐‑]"
NAME = rf"{LD}+(?:_{LD}+)*"
WORD = rf"{L}{LD}*(?:[.!?]{L}{LD}*)*"
SUFFIX = "(?i:[sdm]|ll|re|ve)"  # dog's, he'd, I'm, we'll, they're, I've
PREFIX = "[dlnoA-HJ-XZ]"  # d'oeuvre, o'clock
TAG = r"(?:</?[A-Za-z][-A-Za-z0-9:._]*(?:\s[^<>]*)?/?>|<[!?][-A-Za-z][^<>]*>)"  # <unk>
SLASHED = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"


class Rule(NamedTuple):
    """A pattern, and how its token is written. A group, if one matched, is the token alone."""

    pattern: re.Pattern[str]
    write: Callable[[str], str]


def rule(pattern: str, write: Callable[[str], str] = str.lower) -> Rule:
    """Compile one rule; tokens are written in lower case unless `write` says otherwise."""
    return Rule(re.compile(pattern), write)


def straighten(token: str) -> str:
    """Lower case, with the typewriter's apostrophe."""
    return token.lower().replace("’", "'")


def name_brackets(token: str) -> str:
    """Lower case, with round brackets written as the Penn Treebank writes them."""
    return token.lower().replace("(", "-lrb-").replace(")", "-rrb-")


def shorten_dash(token: str) -> str:
    """Two to four hyphens are one dash."""
    return "--" if 2 <= len(token) <= 4 else token


WORD_RULES = [
    rule(r"(?i:(can)not|(gon|wan)na|(got)ta|(gim|lem)me(?=\s|\.))"),  # can|not, gon|na
    rule(rf"([A-Za-z]+)[nN]{APOSTROPHE}[tT]"),  # do|n't
    rule(rf"[nN]{APOSTROPHE}[tT]", straighten),
    rule(rf"({WORD})['’]{SUFFIX}(?:(?!{L}).|$)"),  # dog|'s
    rule(rf"((?i:{any_of(FINAL_ABBREVIATIONS)})\.)(?:.|$)"),
    rule(rf"((?=[A-Z])(?i:{any_of(CAPITALISED)})\.)(?:.|$)"),
    rule(WORD),
    # A lone letter that ends a sentence is no initial: "the letter B." but "B. Goode".
    rule(rf"({L})\.(?:\s*$|\s+(?:{any_of(SENTENCE_OPENERS)}(?!{LD})|M[rs]\.|{TAG}))"),
    rule(rf"(?:{L}\.)+"),  # U.S., J.R.R.
    rule(rf"(?i:{any_of(TITLES)})\."),
    rule(rf"((?i:{any_of(NUMBERED)})\.)\s*\d"),  # no. 5
    rule(r"[A-Z]+(?:[+&][A-Z]+)+"),  # AT&T
    rule(r"[cC](?:\+\+|#)|[fF]#"),
    rule(r"[A-Z]{1,3}\$"),  # US$
]

# Longer things that start with a letter or a digit. Where one may start at every character of a
# long text without spaces, {0,60} keeps the time from growing with the square of the length.
THING_RULES = [
    rule(NAME),  # 5th, 4x4, night_stand
    rule(rf"{LD}(?:{LD}|[.,_]){{0,60}}(?:{HYPHEN}(?:(?:{L}\.){{2,}}|{NAME}))+"),  # 1.5-inch
    rule(rf"{SLASHED}(?:/{SLASHED}){{1,2}}"),  # and/or
    rule(rf"({LD}+(?:[-.]{LD}+)*\.)[,;:]"),  # an abbreviation in no list: "approx.,"
    rule(rf"(?:{LD}+-)*{PREFIX}{APOSTROPHE}{L}{L}{LD}*(?:-{LD}+)*"),  # five-o'clock
    rule(rf"{L}+[aeiouyAEIOUY]{APOSTROPHE}[aeiouA-Z][A-Za-z]*"),  # ma'am, hawai'i
    rule(rf"(?i:[djl]|ol|dunkin|somethin){APOSTROPHE}|(?i:nat){APOSTROPHE}l"),
    rule(rf"([yY]{APOSTROPHE}){L}"),  # y'|all
    rule(r"\d{1,4}-\d{1,4}/\d{1,4}"),  # 1-1/2
    rule(rf'{LD}[^\s"<>|()@]{{0,60}}@(?:[^\s"<>|().@]+\.)*[^\s"<>|().@]+'),
    rule(r'https?://[^\s"<>|()]+[^\s"<>|().!?,;:-]'),
    rule(r'www\.(?:[^\s"<>|.!?(){},]+\.)+[A-Za-z]{2,4}'),
]

NUMBER_RULES = [rule(r"[-+]?\d*(?:[.:,]\d+)+|[-+]?\d+")]  # 3.5, 1,000, 12:43, -5

APOSTROPHE_RULES = [
    rule(rf"('{SUFFIX})(?![A-Za-z])|’{SUFFIX}", straighten),
    rule(r"'[nN](?:'|(?=\s|$))|’[nN]’?"),  # rock 'n' roll
    rule(r"['’](?i:em|cause|till?)"),
    rule(r"('[tT])(?i:is|was)"),  # 't|is
    rule(r"['’](?:\d\d(?=\s|$)|[2-9]0s)"),  # the '90s
]

# Strings that always become the same token.
FIXED = {
    "(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-",
    "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "''", "&apos;": "'", "&nbsp;": "",
    "½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3",
    "¢": "cents", "£": "#", "€": "$", "…": "...", "–": "--", "—": "--", "―": "--",
    **dict.fromkeys(["''", *'"“”«»'], "''"), **dict.fromkeys("‘’‛‹›", "'"),
}  # fmt: skip

SYMBOL_RULES = [
    rule("|".join(map(re.escape, FIXED)), FIXED.__getitem__),
    rule(rf"[<>]?[:;=][-o*']?[()\\{{@|\[\]dDpPO](?!{LD})", name_brackets),  # :-)
    rule("-+", shorten_dash),
    rule(r"\.{3,}", lambda _: "..."),
    rule(r"[!?]+|\*+|#+|@+|_+|<<|>>"),
    rule(rf"#{L}+|@[A-Za-z]{LD}*(?:_{LD}+)*"),  # a hash tag, a user's name
    rule(TAG),
    rule("[!-~¡-¬®-×÷;·‖-‣‰-₎₤℀-⅄⅕-⅞←-⯿、。〒・！-￦]"),  # any other mark that is kept
]

LETTER_OR_DIGIT_FIRST = WORD_RULES + THING_RULES + NUMBER_RULES
MARK_FIRST = NUMBER_RULES + APOSTROPHE_RULES + SYMBOL_RULES

# Nine tokens in ten are plain words between spaces. The lexer would find just them; this is faster.
SPLIT_WORD = r"(?i:cannot|gonna|gotta|wanna|gimme|lemme)\b"
STOPPED = rf"(?!(?i:{any_of(TITLES + FINAL_ABBREVIATIONS + CAPITALISED)})\.)[A-Za-z]{{2,}}\.\s*$"
PLAIN = rf"(?!{SPLIT_WORD})(?:[A-Za-z]+(?:,?\s+|$)|[.,](?:\s+|$)|{STOPPED})"
PLAIN_RUN = re.compile(rf"(?:{PLAIN}|\s+)+")
PLAIN_MARKS = str.maketrans(",.", "  ")


def longest_match(text: str, start: int) -> tuple[str, int]:
    """The token at `start` and where it ends; a character that nothing matches is dropped."""
    first = text[start]
    rules = LETTER_OR_DIGIT_FIRST if first.isalpha() or first.isdecimal() else MARK_FIRST
    longest, token, end = start, "", start + 1
    for pattern, write in rules:
        match = pattern.match(text, start)
        if match and match.end() > longest:
            group = match.lastindex or 0
            longest, token, end = match.end(), write(match.group(group)), match.end(group)
    return token, end


def lex(text: str) -> Iterator[str]:
    """The tokens of `text`, with some of the punctuation."""
    position = 0
    while position < len(text):
        if run := PLAIN_RUN.match(text, position):
            yield from run.group().lower().translate(PLAIN_MARKS).split()
            position = run.end()
        else:
            token, position = longest_match(text, position)
            yield from token.split()


def tokenize(text: str) -> list[str]:
    """The tokens of one caption, lower-case, as `pycocoevalcap.tokenizer.PTBTokenizer` gives them.

    The end of the caption counts as the end of a sentence. Contractions and possessives are split
    ("do n't", "dog 's"), hyphenated words are not; punctuation marks are dropped.
    """
    text = text.replace("\u00ad", "").rstrip()
    return [token for token in lex(text) if token not in PUNCTUATION]
