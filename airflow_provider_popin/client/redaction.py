"""Popin's own texts without the people in them.

What Popin writes into an error may echo a name, a phone number or an e-mail address, and when a call is
scheduled the name is not even known here. So words are not searched for personal values alone: only words of
a fixed vocabulary, as error texts of web services use them, pass. Everything else becomes ``***``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

HIDDEN = "***"
_MAX_CHARACTERS = 200

# As services write errors, and people a reason: "seen in the dashboard". No words that are common given or
# family names (mark, will, may, long, page, post, rich, day): they would let a name pass. A few that are rare
# ones stay (field, key, call, date): without them, errors say nothing.
_WORDS = """
    a about above accept accepted access account active address after again against agent agents all
    allowed already also an and another answered any api appointment are array as asked at attempt
    attempts authenticated authentication authorized availability available back bad be because been
    before began begin being below between blank blocked body book booked booking bookings boolean both
    busy but by calendar call called calls campaign can cancelled cannot capture captured change character
    characters check checked choose closed code column confirmed confirms conflict connection contact
    contain contains content could country create created credentials crm custom customer customers
    dashboard database date dates deleted denied detail details did different digit digits disabled does
    domain double doubled down duplicate duration during each either email empty enabled enter entity
    equal error errors event exceed exceeded exceeds exception exist existing exists expected expired
    external failed failure false few field fields file for forbidden format found free from full future
    gateway given greater group has have hour hours id if in inactive incorrect input integer internal
    into invalid is it item its key keys last late least less limit limits link list live locked login
    looked looks lookup made maintenance malformed many match matches max maximum message method minimum
    minute minutes missing mobile month more must name native need needs new next no none not now null
    number numbers object occupied occurred of off on one only open operation optional or other out
    outside own parameter parameters past pending permission permitted phone pin pincode please popin
    postal present problem processed processing product profile prohibited property provide provided queue
    rate reached read record register registered reject rejected request requested requests require
    required reserved resource resubmit retry route routing same saw schedule scheduled scheduling second
    seconds seen selected seller sent server service session should shown shows size slot slots some
    something sorry spoke start started status store string submit submitted success successful
    successfully such support supported sure taken temporarily text than that the their them then there
    these they this time timed timeout times timezone to today token told tomorrow too try trying twice
    type unable unauthenticated unauthorized unavailable unexpected unique unknown unprocessable
    unsupported up url use used user users valid validate validation value values verified version video
    wait was we week were when where which while with within without wrong year yet you your zip zone
"""
VOCABULARY = frozenset(_WORDS.split())
# Short words are names elsewhere (Do, No, An, In, He), so a capital lets them pass only as the first word of
# the text.
_CAPITAL_FIRST_WORDS = frozenset(("a", "all", "no", "not", "that", "the", "this", "too", "you", "your"))
_SHORT = 4

# Every pattern below takes time in proportion to the text: strangers write texts that pass here.
_READ_CHARACTERS = 2_000
# From the beginning of a word, or it would be tried at each character of a long one.
_EMAIL = re.compile(r"(?<!\S)\S+@\S+")
# Groups of digits without a word between them are one number: "(954) 451-0895".
_NUMBER = re.compile(r"\+?\d(?:\W*\d)*")
_TOKEN = re.compile(r"[^\s.,:;!?()\[\]{}\"'/_=\-]+")
_HIDDEN_RUN = re.compile(r"\*{3}(?:[\s.,:;!?()\[\]{}\"'/_=\-]*\*{3})+")


def redact_text(text: str, personal: Sequence[str] = ()) -> str:
    """A text of Popin's that may be logged, stored and shown.

    Own values are hidden wherever they stand, also in several writings of a phone number, then everything
    that is no word of :data:`VOCABULARY` and no number of at most three digits.

    :param text: what Popin wrote
    :param personal: the lead's own values
    :return: at most 200 characters
    """
    own = frozenset(_tokens(personal))
    # Cut twice: one character may become eighteen.
    plain = unicodedata.normalize("NFKC", text[:_READ_CHARACTERS])[:_READ_CHARACTERS]
    plain = _EMAIL.sub(HIDDEN, plain)
    plain = _NUMBER.sub(lambda match: _number(match[0], own), plain)
    beginning = len(plain) - len(plain.lstrip())
    words = _TOKEN.sub(lambda match: _word(match[0], own, first=match.start() == beginning), plain)
    shown = _HIDDEN_RUN.sub(HIDDEN, " ".join(words.split()))
    return shortened(shown)


def shortened(text: str) -> str:
    """A text of at most 200 characters, which ends in ``...`` where more was cut off.

    :param text: any
    """
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 3] + "..."


def _tokens(personal: Iterable[str]) -> Iterable[str]:
    for value in personal:
        plain = unicodedata.normalize("NFKC", value).casefold()
        yield from _TOKEN.findall(plain)
        yield "".join(char for char in plain if char.isdecimal())


def _number(text: str, own: frozenset[str]) -> str:
    digits = "".join(char for char in text if char.isdecimal())
    return HIDDEN if len(digits) > 3 or digits in own else text


def _word(token: str, own: frozenset[str], *, first: bool) -> str:
    if token == HIDDEN:
        return token
    folded = token.casefold()
    if folded in own or not token.isascii():
        return HIDDEN
    if token.isdecimal() and len(token) <= 3:
        return token
    if folded not in VOCABULARY:
        return HIDDEN
    if token != folded and len(token) < _SHORT and not (first and folded in _CAPITAL_FIRST_WORDS):
        return HIDDEN
    return token
