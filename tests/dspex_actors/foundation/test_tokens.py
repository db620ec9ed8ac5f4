from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.foundation import tokens


@given(st.text(alphabet=st.sampled_from("ab  \t\n\x0b\x1c\x1f\x85\u2003é")) | st.text())
def test_a_text_has_a_token_for_four_characters_and_at_least_one_for_each_word(text: str) -> None:
    assert tokens.count(text) == max(-(-len(text) // 4), len(text.split()))


def test_every_blank_of_ascii_separates_words() -> None:
    assert {chr(code) for code in range(128) if chr(code).isspace()} == set(tokens._BLANKS.decode())
