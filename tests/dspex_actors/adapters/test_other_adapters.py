"""XMLAdapter, TwoStepAdapter, BAMLAdapter: messages as DSPy 3.4.1's, answers read, and an adapter of the user's own."""

import asyncio
import json
from pathlib import Path

import pytest

import dspex_actors as dspex
from dspex_actors.adapters import baml, xml
from dspex_actors.adapters.base import INCOMPLETE_DEMO, MISSING_OUTPUT
from dspex_actors.programs.streaming.xml_finder import XMLFinder
from tests.dspex_actors.adapters import adapter_cases
from tests.dspex_actors.adapters.adapter_cases import Person, Street
from tests.dspex_actors.program_fakes import FakeLM, chat

RECORDED = json.loads((Path(__file__).parent / "dspy_adapters.json").read_text())
CASES = adapter_cases.cases(dspex)
#: DSPy's XML and BAML show a model's fields by their names; ours as they are written in JSON, by their aliases.
ALIASED = ("nick", "nickname")


def _named(message):
    return {**message, "content": message["content"].replace(*reversed(ALIASED))}


def adapter(name):
    return dspex.TwoStepAdapter(FakeLM("")) if name == "TwoStepAdapter" else getattr(dspex, name)()


@pytest.mark.parametrize("case", RECORDED["messages"])
def test_messages_are_dspys(case):
    kind, name = case.split(": ")
    signature, inputs, demos = CASES[name]
    made = adapter(kind)
    sentences = {INCOMPLETE_DEMO: "<PARTIAL>", MISSING_OUTPUT: "<MISSING>", MISSING_OUTPUT.strip(): "<MISSING>"}
    sentences[made.format_request(signature)] = "<REQUEST>"
    for _ in range(2):  # the second time demos come from what is kept of them
        told = adapter_cases.marked(made.format(signature, demos, inputs), sentences)
        assert [_named(message) for message in told] == [_named(message) for message in RECORDED["messages"][case]]


@pytest.mark.parametrize("name", RECORDED["baml"])
def test_types_in_short_are_dspys(name):
    assert baml.type_text(adapter_cases.TYPES[name]) == RECORDED["baml"][name]


@pytest.mark.parametrize("name", adapter_cases.TYPES)
def test_layouts_of_xml_are_dspys(name):
    kind = adapter_cases.TYPES[name]
    assert xml.is_nested(kind) == (name in RECORDED["xml"])
    if name in RECORDED["xml"]:
        assert xml._layout("x", kind).replace(*reversed(ALIASED)) == RECORDED["xml"][name]


def test_a_model_that_is_in_itself_or_twice_has_a_short_form():
    assert "children: Tree[]," in baml.type_text(adapter_cases.Tree)
    assert baml.type_text(tuple[Street, Street]).startswith("tuple")
    assert baml.type_text(dict[str, Street] | Street).count("number: int") == 2


ROWS = dspex.Signature(
    "q -> answer: str, people: list[Person], counts: dict[str, int], at: Optional[Street]",
    custom_types={"Person": Person, "Street": Street},
)
PERSON = {"name": "Ä & <b>", "home": {"name": "s", "number": 3}, "friends": [], "tags": {"a b": [1, 2]}}


def test_what_xml_shows_it_reads():
    made = dspex.XMLAdapter()
    given = {
        "answer": "a < b && <c>d</c>",
        "people": [Person(**PERSON), Person(name="x", age=3)],
        "counts": {"a": 1, "b c": 2},
        "at": None,
    }
    text = made.format_assistant_message_content(ROWS, given)
    assert made.parse(ROWS, f"Sure!\n{text}\nThat is all.") == given
    assert made.parse(ROWS, f"<think><answer>no</answer></think>{text}") == given


@pytest.mark.parametrize(
    ("signature", "text", "fields"),
    [
        ("q -> answer", "<answer>\n a \n</answer>", {"answer": "a"}),
        ("q -> answer", "<answer>a & b < c</answer>", {"answer": "a & b < c"}),
        ("q -> answer", "x < y, so <answer>1 &lt; 2</answer>", {"answer": "1 < 2"}),
        ("q -> answer", "<answer>use <b>bold</b> type</answer>", {"answer": "use <b>bold</b> type"}),
        ("q -> answer", "<answer></answer>", {"answer": ""}),
        ("q -> answer", "<answer>one</answer><answer>two</answer>", {"answer": "one"}),
        ("q -> n: int, ok: bool", "<n> 3 </n><ok>True</ok>", {"n": 3, "ok": True}),
        ("q -> n: int, t", "<n>3</n> & <t>x</t>", {"n": 3, "t": "x"}),
        ("q -> items: list[str]", "<items><item>a</item><item>b</item></items>", {"items": ["a", "b"]}),
        ("q -> items: list[str]", "<items>a</items><items>b</items>", {"items": ["a", "b"]}),
        ("q -> items: list[int]", "<items>[1, 2]</items>", {"items": [1, 2]}),
        ("q -> items: list[int]", "<items />", {"items": []}),
        ("q -> items: list[list[int]]", "<items><item><item>1</item></item><item /></items>", {"items": [[1], []]}),
        ("q -> d: dict[str, int]", '<d><a>1</a><entry key="b c">2</entry></d>', {"d": {"a": 1, "b c": 2}}),
        ("q -> d: dict[str, int]", '<d>{"a": 1}</d>', {"d": {"a": 1}}),
        ("q -> d: dict[str, int]", "<d></d>", {"d": {}}),
        ("q -> x: Optional[int]", "<x />", {"x": None}),
        ("q -> x: Optional[int]", "nothing", {"x": None}),
    ],
)
def test_answers_in_xml_are_read(signature, text, fields):
    assert dspex.XMLAdapter().parse(dspex.Signature(signature), text) == fields


@pytest.mark.parametrize(
    ("signature", "text"),
    [
        ("q -> answer, n: int", "<answer>a</answer>"),
        ("q -> n: int", "<n>three</n>"),
        ("q -> answer", "no tags"),
        ("q -> answer", "<answer>no end"),
        ("q -> d: dict[str, int]", "<d><a>x</a></d>"),
        ("q -> answer", "<a>" * 3000),
    ],
)
def test_answers_that_are_no_xml_of_the_outputs_are_an_error(signature, text):
    with pytest.raises(dspex.AdapterParseError) as refused:
        dspex.XMLAdapter().parse(dspex.Signature(signature), text)
    assert refused.value.adapter == "XMLAdapter"


def test_an_unreadable_answer_to_xml_is_asked_for_in_json_unless_that_is_off():
    lm = FakeLM("no tags", '{"answer": "a"}')
    with dspex.context(lm=lm, adapter=dspex.XMLAdapter()):
        assert dspex.Predict("q -> answer")(q="?").answer == "a"
    lm = FakeLM("no tags")
    off = dspex.context(lm=lm, adapter=dspex.XMLAdapter(use_json_adapter_fallback=False))
    with off, pytest.raises(dspex.AdapterParseError):
        dspex.Predict("q -> answer")(q="?")
    assert len(lm.asked) == 1


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "text",
    ["<answer>\n a &lt; b &amp;&amp; c </b> \n\nd \n</answer> x", "<answer>no end &am", "pre <ans <answer>a</answer>"],
)
def test_a_field_in_xml_is_found_as_it_comes(text, cut):
    finder = XMLFinder("answer")
    found = "".join(finder.feed(text[at : at + cut]) for at in range(0, len(text), cut)) + finder.end()
    expected = {"p": "a", "<": "a < b && c </b> \n\nd" if "lt" in text else "no end &am"}[text[0]]
    assert found == expected


def test_streamify_follows_xml():
    class Streamed(dspex.BaseLM):
        def forward(self, messages, **params):
            return "<answer>a &amp; b</answer>"

    program = dspex.streamify(
        dspex.Predict("q -> answer"),
        stream_listeners=[dspex.streaming.StreamListener("answer")],
        async_streaming=False,
    )
    with dspex.context(lm=Streamed("s"), adapter=dspex.XMLAdapter()):
        pieces = list(program(q="?"))
    assert "".join(piece.chunk for piece in pieces[:-1]) == "a & b"
    assert pieces[-1].answer == "a & b"


@pytest.mark.parametrize("way", ["sync", "async"])
def test_two_steps_ask_two_lms(way):
    main, second = FakeLM("It is 7, surely."), FakeLM(chat(answer="7", score="0.5"))
    two = dspex.TwoStepAdapter(second)
    predict = dspex.Predict("question -> answer: int, score: float", temperature=0.3)
    with dspex.context(lm=main, adapter=two):
        found = predict(question="?") if way == "sync" else asyncio.run(predict.acall(question="?"))
    assert dict(found) == {"answer": 7, "score": 0.5}
    [(messages, params)], [(asked, asked_params)] = main.asked, second.asked
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[1]["content"] == "question: ?"
    assert (params, asked_params) == ({"temperature": 0.3}, {})
    assert "[[ ## text ## ]]\nIt is 7, surely." in asked[-1]["content"]
    assert found.get_lm_usage()["fake"]["prompt_tokens"] == 20  # both calls


def test_two_steps_say_what_the_first_lm_wrote_when_the_second_finds_nothing():
    second = FakeLM("nothing", "nothing")
    two = dspex.TwoStepAdapter(second)
    with dspex.context(lm=FakeLM("It is 7."), adapter=two), pytest.raises(dspex.AdapterParseError) as refused:
        dspex.Predict("q -> answer: int")(q="?")
    assert (refused.value.adapter, refused.value.completion) == ("TwoStepAdapter", "It is 7.")
    assert len(second.asked) == 2  # its second time in JSON, as ChatAdapter does


def test_two_steps_read_by_hand_and_refuse_what_is_no_lm():
    two = dspex.TwoStepAdapter(FakeLM(chat(answer="7")))
    assert two.parse(dspex.Signature("q -> answer: int"), "It is 7.") == {"answer": 7}
    for none in (None, "openai/gpt-4o-mini", len):
        with pytest.raises(ValueError, match="extraction_model is invalid"):
            dspex.TwoStepAdapter(none)
    with pytest.raises(dspex.ConfigError, match="'text' of its own"):
        two.extractor(dspex.Signature("q -> text"))


def test_baml_reads_json_and_shows_models_as_indented_json():
    signature = dspex.Signature("about: Street -> person: Person", custom_types={"Person": Person, "Street": Street})
    lm = FakeLM(json.dumps({"person": PERSON}))
    with dspex.context(lm=lm, adapter=dspex.BAMLAdapter()):
        found = dspex.Predict(signature)(about=Street(name="s", number=1))
    assert found.person == Person(**PERSON)
    [(messages, _)] = lm.asked
    assert '[[ ## about ## ]]\n{\n  "name": "s",\n  "number": 1\n}' in messages[1]["content"]
    assert "# Full name\n  name: string," in messages[0]["content"]


class Lines(dspex.Adapter):
    """One of the user's own: `name = value`, a line for each."""

    supports_streaming = True
    name = "lines"

    def format_field_structure(self, signature):
        return "\n".join(f"{name} = ..." for name in signature.output_fields)

    def format_request(self, signature):
        return "Write lines."

    def format_section(self, name, text):
        return f"{name} = {text}"

    def format_assistant_message_content(self, signature, outputs, missing_field_message=""):
        return "\n".join(f"{name} = {outputs.get(name, missing_field_message)}" for name in signature.output_fields)

    def parse(self, signature, completion):
        lines = dict(line.split(" = ", 1) for line in completion.splitlines() if " = " in line)
        return self._finish(self._plans.get(signature, self._fill), signature, completion, lines)

    def finder(self, field, outputs):
        return _Line(field)


class _Line:
    def __init__(self, field):
        self.has_begun = self.has_ended = False
        self.text, self.start = "", f"{field} = "

    def feed(self, text):
        self.text += text
        return ""

    def end(self):
        self.has_begun = self.has_ended = True
        return self.text.partition(self.start)[2].partition("\n")[0]


def test_an_adapter_of_ones_own_formats_parses_streams_and_has_a_name():
    lm = FakeLM("answer = 7\nn = 3")
    with dspex.context(lm=lm, adapter=Lines()):
        found = dspex.Predict("q -> answer, n: int")(q="?")
    assert (found.answer, found.n) == ("7", 3)
    assert lm.asked[0][0][-1]["content"] == "q = ?\n\nWrite lines."
    off = dspex.context(lm=FakeLM("none"), adapter=Lines())
    with off, pytest.raises(dspex.AdapterParseError, match="Adapter lines failed"):
        dspex.Predict("q -> answer")(q="?")

    class Streamed(dspex.BaseLM):
        def forward(self, messages, **params):
            return "answer = 7\nn = 3"

    program = dspex.streamify(
        dspex.Predict("q -> answer, n: int"),
        stream_listeners=[dspex.streaming.StreamListener("answer")],
        async_streaming=False,
    )
    with dspex.context(lm=Streamed("s"), adapter=Lines()):
        pieces = list(program(q="?"))
    assert "".join(piece.chunk for piece in pieces[:-1]) == "7"
    assert [dspex.Adapter.supports_streaming, dspex.JSONAdapter().supports_streaming] == [False, True]
    assert dspex.ChatAdapter().name == "ChatAdapter"
