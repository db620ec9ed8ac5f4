"""Whether two texts that mean nearly the same may have the same answer; pure.

Vectors of texts that differ in a number, a "not" or a name are close. So the numbers, the negations, the words that
have an opposite, the names and what is quoted have to be the same, in the same order. Who is refused here is asked
anew: that costs a call, and a wrong answer costs more.
"""

from __future__ import annotations

import re
from collections import Counter

_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?%?|[¹²³¼½¾]")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_QUOTED = re.compile(r"\"([^\"]{1,200})\"|“([^”]{1,200})”|`([^`]{1,200})`|(?<!\w)'([^']{1,200})'(?!\w)")
#: A token with a digit, a sign or a capital inside: an identifier, an address, a unit, a formula.
_IDENTIFIER = re.compile(r"\S*(?:[A-Za-z]\d|\d[A-Za-z]|[_/@#$€£<>=+*^~\\|&]|[a-z][A-Z]|\w\.\w)\S*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMBER_WORDS = _words(
    """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion dozen half
    third quarter first second fourth fifth sixth seventh eighth ninth tenth once twice thrice single double triple both
    null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf"""
)
_NEGATIONS = _words(
    """no not never none nobody nothing nowhere neither nor without cannot hardly barely scarcely rarely seldom except
    unless lack lacks lacking fail fails failed refuse refuses deny denies stop stops avoid
    nicht kein keine keinen keinem keiner nie niemals ohne weder ne pas jamais sans nunca sin não"""
)
#: Words whose place another one may take and turn the meaning round.
_POLAR = _words(
    """more less fewer most least greater smaller larger bigger higher lower above below over under before after
    since until maximum minimum max min highest lowest largest smallest longest shortest oldest newest best
    worst good bad better worse increase decrease rise fall up down left right north south east west buy sell
    bought sold lend borrow enable disable on off open close opened closed start end begin finish last previous
    next past future yesterday today tomorrow always sometimes all any every some only include exclude including
    excluding add remove added removed allow forbid allowed forbidden legal illegal true false valid invalid yes
    or if but than from to into out against why who whom whose when where he she him her his hers male female
    man woman men women mother father son daughter husband wife brother sister positive negative advantages
    disadvantages pros cons cause effect input output source target sender receiver active passive ascending
    descending import export encrypt decrypt encode decode push pull read write old new early late earlier later
    day night morning evening hot cold possible impossible likely unlikely safe unsafe dangerous accept reject
    accepted rejected approve approved"""
)
#: What follows these may not be another word: from Paris to London.
_LEADING = _words("from to than before after into against")
_AFFIXES = ("un", "non", "dis", "im", "ir", "il", "in", "anti", "mis")


def may_be_same(one: str, other: str) -> bool:
    """Say whether two texts whose vectors are close may be answered alike.

    Args:
        one: a text.
        other: a text.
    """
    if one == other:
        return True
    return (
        _numbers(one) == _numbers(other)
        and _QUOTED.findall(one) == _QUOTED.findall(other)
        and _identifiers(one) == _identifiers(other)
        and _names(one) == _names(other)
        and _turns(one) == _turns(other)
        and not _differ_in_an_affix(one, other)
    )


def _numbers(text: str) -> list[str]:
    """Return the numbers in their order, words among them."""
    found = [(match.start(), _plain(match[0])) for match in _NUMBER.finditer(text)]
    found += [(match.start(), match[0].lower()) for match in _WORD.finditer(text) if match[0].lower() in _NUMBER_WORDS]
    return [number for _, number in sorted(found)]


def _plain(number: str) -> str:
    digits = number.replace(",", "").lstrip("+")
    if digits.endswith("%"):
        return _plain(digits[:-1]) + "%"
    try:
        return repr(float(digits))
    except ValueError:
        return digits


def _identifiers(text: str) -> list[str]:
    return [match[0].strip("?!,;:.()[]") for match in _IDENTIFIER.finditer(text)]


def _names(text: str) -> list[str]:
    """Return the words with a capital in their order, in lower case, but for those that begin a sentence."""
    names = []
    for match in _WORD.finditer(text):
        before = text[: match.start()].rstrip()
        begins = not before or before[-1] in ".!?:\n"
        word = match[0]
        if word[0].isupper() and (not begins or word.isupper()) and word != "I":
            names.append(word.lower())
    return names


def _turns(text: str) -> list[str]:
    """Return the words that turn a meaning: negations as one, and words with an opposite; in their order."""
    turns = []
    for match in _WORD.finditer(text):
        word = match[0].lower().replace("’", "'")
        if word in _NEGATIONS or word.endswith("n't"):
            turns.append("not")
        elif word in _POLAR or (turns and turns[-1] in _LEADING):
            turns.append(word)
    return turns


def _differ_in_an_affix(one: str, other: str) -> bool:
    """Say whether a word of one text is that of the other with a syllable before it that turns it: unsafe, illegal."""
    mine, theirs = (Counter(match[0].lower() for match in _WORD.finditer(text)) for text in (one, other))
    only_mine, only_theirs = (mine - theirs), (theirs - mine)
    for words, others in ((only_mine, only_theirs), (only_theirs, only_mine)):
        for word in words:
            if any(affix + word in others for affix in _AFFIXES):
                return True
            if word.endswith("ful") and word[:-3] + "less" in others:
                return True
    return False
