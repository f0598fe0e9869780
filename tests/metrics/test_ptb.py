import gzip
import hashlib
import importlib.util
import json
import random
import re
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.metrics import ptb
from mmattn.metrics.ptb import PUNCTUATION, tokenize
from mmattn.metrics.ptb_words import CAPITALISED, FINAL_ABBREVIATIONS, TITLES

# Every row was checked against the Java tokenizer; test_the_table_is_the_reference does it again.
TABLE = [
    (
        "Two dogs run along the beach, and a third one sleeps.",
        "two dogs run along the beach and a third one sleeps",
    ),
    ("  Tabs\tand   spaces  are one  gap .  ", "tabs and spaces are one gap"),
    (
        "I don't think it can't fly; it won't, isn't and DIDN'T.",
        "i do n't think it ca n't fly it wo n't is n't and did n't",
    ),
    ("The cat’s toys weren’t hers.", "the cat 's toys were n't hers"),
    (
        "Kids cannot stop, they're gonna climb and wanna swim.",
        "kids can not stop they 're gon na climb and wan na swim",
    ),
    (
        "He'd said I'm late, we'll wait, they've left: she's here.",
        "he 'd said i 'm late we 'll wait they 've left she 's here",
    ),
    ("'Tis the season and 'twas the night.", "'t is the season and 't was the night"),
    (
        "Ma'am, y'all saw rock 'n' roll 'em at five o'clock.",
        "ma'am y' all saw rock 'n' roll 'em at five o'clock",
    ),
    ("An hors d'oeuvre by O'Neill from Hawai'i", "an hors d'oeuvre by o'neill from hawai'i"),
    ("The players' shirts and the boss's hat", "the players shirts and the boss 's hat"),
    ("A wood-fired, state-of-the-art pizza oven", "a wood-fired state-of-the-art pizza oven"),
    ("A half-eaten t-shirt on a 12-foot pole", "a half-eaten t-shirt on a 12-foot pole"),
    (
        "He has pre- and post-war stamps - all of them -- mint.",
        "he has pre and post-war stamps all of them mint",
    ),
    ("Rows of buses—red ones–wait", "rows of buses red ones wait"),
    ("A \"sold\" sign in 'quotes' and “curly” ‘ones’", "a sold sign in quotes and curly ones"),
    (
        "A man (left) holds a [red] {ball}",
        "a man -lrb- left -rrb- holds a -lsb- red -rsb- -lcb- ball -rcb-",
    ),
    ("The U.S. flag and the U.K. one", "the u.s. flag and the u.k. one"),
    ("Built in the U.S.A. by J. R. R. Smith, Ph.D.", "built in the u.s.a. by j. r. r. smith ph.d."),
    (
        "Mr. and Mrs. Jones met Dr. Wu on Main St. near 5th Ave.",
        "mr. and mrs. jones met dr. wu on main st. near 5th ave.",
    ),
    ("Open from 8 a.m. to 5 p.m. daily", "open from 8 a.m. to 5 p.m. daily"),
    ("She wears the letter B.", "she wears the letter b"),
    (
        "A jersey with the letter C. The other has none",
        "a jersey with the letter c the other has none",
    ),
    ("The bus to Mass. and the wet mass. It stops", "the bus to mass. and the wet mass it stops"),
    ("Seat no. 12 is free, they said no. Really", "seat no. 12 is free they said no really"),
    ("Apples, pears, etc., in a bowl", "apples pears etc. in a bowl"),
    ("A clock that reads 10:08 or 9:45pm", "a clock that reads 10:08 or 9:45 pm"),
    (
        "It weighs 3.5 kg, costs 1,200.50 and has .5 left.",
        "it weighs 3.5 kg costs 1,200.50 and has .5 left",
    ),
    ("Add 3/4 cup, 1 1/2 spoons and ½ lemon", "add 3/4 cup 1 1/2 spoons and 1/2 lemon"),
    ("A $5 bill, £20, 30€ and 15¢ at 50% off", "a $ 5 bill # 20 30 $ and 15 cents at 50 % off"),
    ("Flight no.7 on 11-02-2015 or 3/4/2016", "flight no. 7 on 11-02-2015 or 3/4/2016"),
    ("The '90s cars and 1950s diners of '68", "the '90s cars and 1950s diners of '68"),
    ("Black/white photo, w/ him and/or her", "black/white photo w / him and/or her"),
    (
        "Salt & pepper, B&B sign, an AT&T shop, fish&chips",
        "salt & pepper b&b sign an at&t shop fish & chips",
    ),
    ("Player #9 kicks @home with #teamwork", "player # 9 kicks @home with #teamwork"),
    ("Wait... what?! No way!! Really? Yes!", "wait what ?! no way !! really yes"),
    ("So it goes . . . and on.... and on…", "so it goes and on and on"),
    ("A dog.It barks loudly.", "a dog.it barks loudly"),
    (
        "Visit www.example.com or mail me@example.org today",
        "visit www.example.com or mail me@example.org today",
    ),
    ("A cake with + and = and * and ~ on it", "a cake with + and = and * and ~ on it"),
    ("A toy_box beside img_2", "a toy_box beside img_2"),
    ("A 4x4 truck, a 747-400 and an F-16", "a 4x4 truck a 747-400 and an f-16"),
    ("A sign saying :) or ;-) here", "a sign saying :-rrb- or ;--rrb- here"),
    ("a <unk> token and 3 < 5", "a <unk> token and 3 < 5"),
    ("Café crème, jalapeño, Zoë's Straße", "café crème jalapeño zoë 's straße"),
    ("Ein Bär, 北京 und Москва", "ein bär 北京 und москва"),
    ("20° C outside, 2 × 4 boards", "20 ° c outside 2 × 4 boards"),
    ("A smile 😀 and a heart ♥", "a smile and a heart ♥"),
    ("Temperature of -5 or +10", "temperature of -5 or +10"),
    ("semi\u00adcolon; co‑op", "semicolon co‑op"),
    ("Tom's mother-in-law's house", "tom 's mother-in-law 's house"),
    ('"Let\'s go," she said.', "let 's go she said"),
    ("C++ and C# books", "c++ and c# books"),
    ("x", "x"),
    ("", ""),
    ("...", ""),
]

FRAGMENTS = """
    don't can't it's dogs' U.S. a.m. St. Mr. No. 5 12 3:30 1/2 $5 # & and/or w/ five-year-old - -- —
    … ... . , ; : ! ?? " ' ` ( ) “ ” ’ é café O'Brien 'n' '90s ½ € % @home #tag x_y dog cat The A K.
    cannot gonna y'all they're 'em 'tis / + = < > ~ 1st 2.5 -5 a b C 7 :) 4x4 etc. <b> 北京 😀
"""
captions = st.lists(st.sampled_from([*FRAGMENTS.split(), " ", " ", "\t"]), max_size=12).map("".join)


@pytest.mark.parametrize(("text", "tokens"), TABLE)
def test_tokens(text, tokens):
    assert tokenize(text) == tokens.split()


def test_a_fraction_after_a_number_is_two_tokens():
    """The reference puts a no-break space between them, at which coco-caption splits again."""
    assert tokenize("2 1/2 pies") == ["2", "1/2", "pies"]


@pytest.mark.parametrize("word", (TITLES + FINAL_ABBREVIATIONS).split())
def test_an_abbreviation_keeps_its_full_stop_in_any_case(word):
    for form in (word, word.capitalize()):
        assert tokenize(f"the {form}. is") == ["the", word + ".", "is"]
        assert tokenize(f"the {form}.") == ["the", word + "."]


@pytest.mark.parametrize("word", CAPITALISED.split())
def test_some_abbreviations_need_a_capital(word):
    assert tokenize(f"in {word}. now") == ["in", word.lower() + ".", "now"]
    assert tokenize(f"in {word.lower()}. now") == ["in", word.lower(), "now"]
    assert tokenize(f"in {word.lower()}.") == ["in", word.lower()]


@given(st.one_of(captions, st.text()))
def test_tokens_are_lower_case_words_without_spaces(text):
    for token in tokenize(text):
        assert token == token.lower()
        assert token.split() == [token]
        assert token not in PUNCTUATION


@given(captions, captions)
def test_the_fast_path_for_plain_words_changes_nothing(first, second):
    text = f"{first} the plain dogs, then Mr. Smith , ran . {second} home."
    fast = tokenize(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ptb, "PLAIN_RUN", re.compile(r"\s+"))
        assert tokenize(text) == fast


def test_spaces_around_and_between_do_not_matter():
    assert tokenize(" a  dog\t's\nbowl ") == tokenize("a dog 's bowl")


@pytest.mark.parametrize("unit", ["a", "a.", "a,", "a-", "<a ", "o'", "1/", "a@", "'n", " ,", "_a"])
def test_long_input_takes_linear_time_or_close(unit):
    assert len(tokenize(unit * 2000)) <= 6000


def reference_tokenizer():
    if importlib.util.find_spec("pycocoevalcap") is None or shutil.which("java") is None:
        pytest.skip("needs METEOR: the extra `coco` and Java")
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    def tokens(sentences):
        # Each is followed by a caption that opens a sentence, as nearly all are in a corpus.
        pairs = [text for sentence in sentences for text in (sentence, "A dog runs.")]
        answer = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(pairs)})
        return [answer[i][0].split() for i in range(0, len(pairs), 2)]

    return tokens


def test_the_table_is_the_reference():
    tokens = reference_tokenizer()([text for text, _ in TABLE])
    assert tokens == [expected.split() for _, expected in TABLE]


def test_sentences_of_random_fragments_agree_with_the_reference():
    reference = reference_tokenizer()
    chance = random.Random(0)
    sentences = [" ".join(chance.choices(FRAGMENTS.split(), k=8)) for _ in range(500)]
    assert [tokenize(sentence) for sentence in sentences] == reference(sentences)


def coco_captions(root):
    with gzip.open(root / "coco-eval" / "captions_val2017.json.gz", "rt", encoding="utf-8") as file:
        return [annotation["caption"] for annotation in json.load(file)["annotations"]]


def flickr_captions(root):
    lines = (root / "flickr8k" / "Flickr8k.token.txt").read_text("utf-8").splitlines()
    return [line.split("\t")[1] for line in lines]


@pytest.mark.parametrize(
    ("captions", "digest"),
    [
        (coco_captions, "eada4f345a6fd168820f77f5a6ffab04c85ea7b8aff985b360cac19c3cb35ccb"),
        (flickr_captions, "97a192e0a93bdb69ceda6188e83ebadc1aba187b6cde43366251bffb8e367482"),
    ],
)
def test_every_caption_of_a_data_set_has_the_tokens_of_the_reference(data_root, captions, digest):
    """The digests are of what the Java tokenizer gives for all captions of the file at once."""
    lines = [" ".join(tokenize(caption)) for caption in captions(data_root)]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest
