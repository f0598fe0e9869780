"""The words that the Penn Treebank tokenizer treats specially when a full stop is near."""

# These keep their full stop, in any case. Some stand before a name ...
TITLES = """
    adj adm adv alex asst atty ave brig capt cf cie cmdr col cpl dept det dr drs elec ens ft gen gov
    govs hon insp invt jos lt maj mfg mlle mme mr mrs ms msgr mt mtg natl pfc ph pres prof pvt rep
    reps rev sen sens sfc sgt spc st ste supt vs wm
"""

# ... and some can end a sentence.
FINAL_ABBREVIATIONS = """
    al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc
    ext feb fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb
    nev nov oct okla penn ph.d plc ppte ppty pte ptes pty ptys rd rt sep sept seq sq sr sys tel tenn
    thu thurs tue tues univ va vt wed wis wisc wyo
"""

# These keep it only where they are written with a capital: "Mass." but "a wet mass."
CAPITALISED = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"

# These keep it only before a number: "no. 5" but "they say no."
NUMBERED = "art ca fig figs no nos op pp prop"

# Before one of these, capitalised, a single letter and a full stop are the end of a sentence.
SENTENCE_OPENERS = """
    A About According Additionally After An As At But Earlier He Her Here However If In It Last Many
    More Now Once One Other Our She Since So Some Such That The Their Then There These They This We
    What When While Yet You
"""


def any_of(words: str) -> str:
    """The regular expression that matches any word of a space-separated list, longest first."""
    ordered = sorted(words.split(), key=len, reverse=True)
    return "(?:" + "|".join(word.replace(".", r"\.") for word in ordered) + ")"
