"""Prompt templates: what a text means, what is refused, what is learnt from records."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex_actors as dspex
from dspex_actors.programs.prompt_records import Demo
from dspex_actors.programs.prompt_text import Block, Mark, Variable, parse

create = dspex.PromptTemplate.create


def test_variables_are_found_once_in_their_order_and_filled_in():
    template = create("a", 'Answer {question} in {{"style": {style}}} for {question}.')
    assert template.variables == ("question", "style")
    assert template.render(question="why?", style="prose") == 'Answer why? in {"style": prose} for why?.'


def test_values_are_never_read_as_text_of_a_template():
    template = create("a", "{a} {b}")
    assert template.render(a="{b} {% demos %} {{", b='{"k": 1}') == '{b} {% demos %} {{ {"k": 1}'
    assert template.render(a=["é", 1], b=2.5) == '["é", 1] 2.5'
    assert create("a", "{self} {name}").render(self=1, name=2) == "1 2"


@given(st.text(), st.text(alphabet="{}ab%\n "))
def test_whatever_is_written_with_doubled_braces_is_rendered_as_it_was(words, braces):
    text = words + braces
    assert create("a", text.replace("{", "{{").replace("}", "}}")).render() == text


@given(st.text(alphabet="{}% abcdemos\nlockparent", max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text):
    refused = None
    try:
        template = create("a", text)
    except dspex.ConfigError as error:
        refused = str(error)
    else:
        assert "{" not in template.render(**dict.fromkeys(template.variables, "x")).replace("{", "", text.count("{{"))
    assert refused is None or refused.startswith("the template 'a' is invalid in line ")
    assert "\n" not in (refused or "")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "got missing a, b; expected a, b"),
        ({"a": 1, "b": 2, "c": 3}, "got unknown c"),
        ({"a": None, "b": 2}, "None as a"),
        ({"b": 2, "aa": 1}, "got missing a; unknown aa"),
    ],
)
def test_missing_and_unknown_values_are_told_in_one_line(values, told):
    with pytest.raises(dspex.ConfigError, match=told) as caught:
        create("x", "{a} {b}").render(**values)
    assert isinstance(caught.value, KeyError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\nb {", "in line 2: got '{', expected a {variable}"),
        ("}", "expected a {variable}"),
        ("{a.b}", r"got '{a.b}'"),
        ("{0}", "got '{0}'"),
        ("{a!r}", "got '{a!r}'"),
        ("{}", "got '{}'"),
        ("{% block a %}x", "in line 1: the block a has no {% endblock %}"),
        ("{% endblock %}", "expected {% block NAME %}"),
        ("{% block %}x{% endblock %}", "expected {% block NAME %}"),
        ("{% block a %}{% endblock b %}", "expected {% block NAME %}"),
        ("{% if x %}", "expected {% block NAME %}"),
        ("{% block a %}{% endblock %}{% block a %}{% endblock %}", "two blocks called a"),
        ("{% parent %}", "{% block NAME %}"),
        ("{% block a %}{% parent %}{% endblock %}", "it has no parent"),
        ("{% demos %}{% demos %}", "{% demos %} twice"),
        (b"x", "got bytes, expected a str"),
    ],
)
def test_a_text_that_is_none_is_refused_with_its_line(text, told):
    with pytest.raises(dspex.ConfigError) as caught:
        create("x", text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", " ", 3, None, "a\nb", "x" * 201])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(dspex.ConfigError, match="the name of the template is invalid"):
        create(name, "x")


def test_a_tag_alone_on_its_line_takes_the_line_with_it():
    assert create("a", "{% block role %}\nBe {how}.\n{% endblock %}\nGo").render(how="kind") == "Be kind.\nGo"
    assert create("a", "A {% block r %}b{% endblock %}\nc").render() == "A b\nc"


def test_children_write_blocks_anew_and_add_to_them():
    base = create("base", "{% block role %}Answer{% block tone %} well{% endblock %}.{% endblock %}\nQ: {q}")
    kind = create("kind", "{% block tone %}{% parent %} and kindly{% endblock %}", parent=base)
    short = create("short", "{% block role %}Be brief, {who}.{% endblock %}", parent=kind)
    assert base.blocks == ("role", "tone")
    assert kind.render(q=1) == "Answer well and kindly.\nQ: 1"
    assert short.variables == ("who", "q")
    assert short.render(q=1, who="Ann") == "Be brief, Ann.\nQ: 1"
    with pytest.raises(dspex.ConfigError, match="got a block tone, its parent has role"):
        create("again", "{% block tone %}x{% endblock %}", parent=short)


def test_what_a_child_says_outside_of_blocks_follows_its_parents_text():
    base = create("base", "{% block role %}Answer.{% endblock %}\n")
    child = create("child", "{% block role %}Sort.{% endblock %}\n\nThe ticket: {ticket}", parent=base)
    assert child.render(ticket="late") == "Sort.\n\nThe ticket: late"


def test_a_loop_of_parents_is_refused():
    a = create("a", "x")
    b = create("b", "y", parent=a)
    with pytest.raises(dspex.ConfigError, match="its parents are a loop: a -> b -> a"):
        create("a", "z", parent=b)
    with pytest.raises(dspex.ConfigError, match="a loop: a -> b -> a"):
        dspex.PromptTemplate.family({"c": "x", "a": {"text": "", "parent": "b"}, "b": {"text": "", "parent": "a"}})
    with pytest.raises(dspex.ConfigError, match="a loop: a -> a"):
        dspex.PromptTemplate.family({"a": {"text": "", "parent": "a"}})


def test_a_family_is_made_in_whatever_order_it_is_told():
    made = dspex.PromptTemplate.family(
        {
            "kind": {"text": "{% block tone %}kind{% endblock %}", "parent": "base"},
            "base": "{% block tone %}{% endblock %}!",
        }
    )
    assert list(made) == ["kind", "base"]
    assert made["kind"].render() == "kind!"
    assert made["kind"].parent is made["base"]


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        ({"a": {"text": "", "parent": "b"}}, "'b' is invalid: nobody is called that; there are a"),
        ({"a": 3}, "expected a text, or a dict"),
        ({"a": {"txt": ""}}, "expected a text, or a dict"),
        ([], "got list, expected a dict by name"),
    ],
)
def test_a_family_that_is_none_is_refused(given_, told):
    with pytest.raises(dspex.ConfigError, match=told):
        dspex.PromptTemplate.family(given_)


def test_a_parent_that_is_none_is_refused():
    with pytest.raises(dspex.ConfigError, match="got str, expected a PromptTemplate; templates that name each other"):
        create("a", "x", parent="base")


def test_composed_templates_are_paragraphs_and_share_variables():
    both = create("a", "Role: {who}\n").compose(create("b", "Task for {who}: {task}"))
    assert (both.name, both.variables) == ("a+b", ("who", "task"))
    assert both.render(who="Ann", task="sort") == "Role: Ann\n\nTask for Ann: sort"
    block = create("a", "{% block x %}\n{{1}}\n{% endblock %}")
    assert block.compose(both).render(who=1, task=2).startswith("{1}\n\nRole")
    assert create("c", "{% block x %}2{% endblock %}", parent=block.compose(both)).render(who=1, task=2).startswith("2")
    with pytest.raises(dspex.ConfigError, match="both have a block x"):
        block.compose(block)
    with pytest.raises(dspex.ConfigError, match=r"{% demos %} twice"):
        create("a", "{% demos %}").compose(create("b", "{% demos %}"))
    with pytest.raises(dspex.ConfigError, match="got str, expected another PromptTemplate"):
        block.compose("x")


def record(question, answer, score, **more):
    return {"inputs": {"question": question}, "output": answer, "score": score, **more}


def test_the_best_records_become_demonstrations():
    template = create("qa", "Answer.\n{% demos %}\n\nQ: {question}")
    records = [
        record("1?", "one", 0.5),
        record("2?", "two", 1),
        record("1?", "won", 0.9),
        record("3?", "no", 0.0),
        record("4?", "four", True),
        {"inputs": {"question": "5?"}, "output": "x", "score": None},
    ]
    better = template.optimize(records)
    assert [demo.outputs["output"] for demo in better.demos] == ["two", "four", "won"]
    assert better.render(question="6?").startswith("Answer.\nquestion: 2?\noutput: two\n\nquestion: 4?")
    assert template.demos == ()
    assert [demo.outputs["output"] for demo in template.optimize(records, max_demos=1).demos] == ["two"]
    assert len(template.optimize(records, threshold=1.0).demos) == 2
    assert better.optimize([record("9?", "bad", 0.0)]).demos == better.demos
    assert better == pickle.loads(pickle.dumps(better)) != template


def test_without_a_place_demonstrations_stand_before_everything():
    template = create("qa", "Q: {question}").optimize([record("1?", {"answer": "one"}, 1)])
    assert template.render(question="2?") == "question: 1?\nanswer: one\n\nQ: 2?"


def test_the_wording_that_did_best_is_taken_and_one_lucky_record_is_not_enough():
    template = create("qa", "Q: {question}")
    better, other = "Think. Q: {question}", "Q: {question} {more}"
    usual = [record("1?", "a", 0.4), record("2?", "b", 0.5), record("3?", "c", 0.5)]
    assert template.optimize([*usual, *(record("1?", "x", 0.9, text=better) for _ in range(3))]).text == better
    assert (
        template.optimize([record("1?", "a", 0.5)] * 50 + [record("1?", "x", 0.5, text=better)]).text == template.text
    )
    assert template.optimize([*usual, record("1?", "x", 1.0, text=other)]).text == template.text
    assert template.optimize([*usual, record("1?", "x", 1.0, text="{")]).text == template.text
    lucky = [record(f"{n}?", "a", 0.9) for n in range(20)] + [record("1?", "x", 1.0, text=better)]
    assert template.optimize(lucky).text == template.text


def test_results_of_an_evaluation_are_records():
    example = dspex.Example(question="1?", answer="one").with_inputs("question")
    rows = [(example, dspex.Prediction(answer="one"), 1.0), (example, dspex.Prediction(), 0.0)]
    better = create("qa", "{question}").optimize(rows)
    assert better.demos == (Demo({"question": "1?"}, {"answer": "one"}),)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([], "got no record with a score"),
        ([{"inputs": {"question": "a"}, "output": "b", "score": None}], "got no record with a score"),
        ("x", "got str, expected an EvaluationResult"),
        ({"a": 1}, "got dict, expected"),
        (None, "got NoneType"),
        ([3], "record 0 of the performance data is invalid: got 3"),
        ([record("1?", "a", 1), record("1?", "a", float("nan"))], "record 1 of the performance data is invalid"),
        ([record("1?", "a", "good")], "record 0"),
        ([record("1?", "a", 1, text=3)], "its text is a int"),
    ],
)
def test_records_that_are_none_are_refused(data, told):
    with pytest.raises(dspex.ConfigError, match=told) as caught:
        create("qa", "{question}").optimize(data)
    assert "\n" not in str(caught.value)


def test_parts_of_a_text():
    assert parse("t", "a{b}{% block c %}d{% endblock c %}{% demos %}") == (
        "a",
        Variable("b"),
        Block("c", ("d",)),
        Mark("demos"),
    )


NESTED = create("base", "{% block a %}A{% block b %}B{% endblock %}{% endblock %}")


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{% block b %}X{% endblock %}", "AX"),
        ("{% block a %}<{% parent %}>{% endblock %}{% block b %}X{% endblock %}", "<AX>"),
        ("{% block b %}[{% parent %}]{% endblock %}{% block a %}<{% parent %}>{% endblock %}", "<A[B]>"),
        ("{% block a %}<{% block b %}[{% parent %}]{% endblock %}>{% endblock %}", "<[B]>"),
        ("{% block a %}<{% block new %}{% parent %}{% endblock %}>{% endblock %}", "<AB>"),
    ],
)
def test_blocks_in_blocks_are_written_anew_each(text, rendered):
    assert create("child", text, parent=NESTED).render() == rendered


def test_blocks_that_are_too_deep_and_parents_that_are_no_names_are_refused():
    deep = "".join(f"{{% block b{number} %}}" for number in range(2000)) + "{% endblock %}" * 2000
    with pytest.raises(dspex.ConfigError, match="in line 1: blocks stand in blocks, more than 50 deep"):
        create("x", deep)
    with pytest.raises(dspex.ConfigError, match=r"the template 'a' is invalid: got the parent \['b'\]"):
        dspex.PromptTemplate.family({"a": {"text": "x", "parent": ["b"]}})


def test_families_that_are_too_long_or_say_their_parents_words_too_often_are_refused():
    long = {f"t{number}": {"text": "x", "parent": f"t{number + 1}"} for number in range(2000)} | {"t2000": {"text": ""}}
    with pytest.raises(dspex.ConfigError, match="the template 't100' is invalid: more than 100 follow it"):
        dspex.PromptTemplate.family(long)
    made, twice = create("t", "{% block a %}{x}{% endblock %}"), "{% block a %}{% parent %}{% parent %}{% endblock %}"
    for number in range(13):
        made = create(f"t{number}", twice, parent=made)
    assert made.render(x="a") == "a" * 2**13
    with pytest.raises(dspex.ConfigError, match=r"has more than 10,000 parts; does each take {% parent %} twice\?"):
        create("one more", twice, parent=made)
