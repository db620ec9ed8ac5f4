"""Values of types of ours in saved programs (DSPy's and ours), labels, identities of runs and keys of caches."""

import json
import subprocess
import sys
from decimal import Decimal

import pytest

import dspex_actors as dspex
from dspex_actors.adapters.labels import same
from dspex_actors.errors import ConfigError
from dspex_actors.programs.rebuild import rebuild
from dspex_actors.runs.identity.canon import Canon

PNG = "data:image/png;base64,iVBORw0KGgo="
URL = "https://x.org/a.png"


def search(q: str) -> str:
    """Search."""
    return q


def program():
    fields = "image: dspex.Image, pages: list[dspex.Image], tools: list[dspex.Tool], history: dspex.History"
    made = dspex.Predict(f"{fields} -> code: dspex.Code['java'], calls: dspex.ToolCalls, why: dspex.Reasoning")
    calls = dspex.ToolCalls.from_dict_list([{"name": "search", "args": {"q": "x"}}])
    made.demos = [
        dspex.Example(
            image=dspex.Image(PNG),
            pages=[dspex.Image(URL), dspex.Image(PNG)],
            tools=[dspex.Tool(search)],
            history=dspex.History(messages=[{"code": "x", "why": "y"}]),
            code=dspex.Code["java"](code="int x;"),
            calls=calls,
            why=dspex.Reasoning(content="so"),
        ),
        {"image": URL, "code": "int y;"},
    ]
    return made


def inputs():
    history = dspex.History(messages=[])
    return {"image": dspex.Image(URL), "pages": [], "tools": [dspex.Tool(search)], "history": history}


def test_a_saved_program_has_its_values_again(tmp_path):
    before = program()
    before.save(tmp_path / "p.json")
    state = json.loads((tmp_path / "p.json").read_text())
    part = json.dumps([{"type": "image_url", "image_url": {"url": PNG}}])
    # As DSPy writes it.
    assert state["demos"][0]["image"] == f"<<CUSTOM-TYPE-START-IDENTIFIER>>{part}<<CUSTOM-TYPE-END-IDENTIFIER>>"
    after = program()
    after.demos = []
    after.load(tmp_path / "p.json")
    demo = after.demos[0]
    assert demo["image"] == dspex.Image(PNG)
    assert demo["pages"] == [dspex.Image(URL), dspex.Image(PNG)]
    assert demo["history"].messages == [{"code": "x", "why": "y"}]
    assert demo["code"] == dspex.Code["java"](code="int x;")
    assert demo["why"] == "so"
    assert demo["calls"] == before.demos[0].calls
    for adapter in (dspex.ChatAdapter(), dspex.JSONAdapter()):
        told = [adapter.format(one.signature, one.demos, inputs()) for one in (before, after)]
        assert told[0] == told[1]
    after.save(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text())["demos"][0] == state["demos"][0]


def test_what_an_image_is_made_of_is_saved_as_one(tmp_path):
    made = dspex.Predict("image: dspex.Image, pages: list[dspex.Image] -> label")
    made.demos = [dspex.Example(image=b"\x89PNG\r\n\x1a\n", pages=[URL, b"\xff\xd8\xff"], label="a")]
    made.save(tmp_path / "p.json")
    made.load(tmp_path / "p.json")
    jpeg = dspex.Image(b"\xff\xd8\xff")
    assert made.demos == [{"image": dspex.Image(PNG), "pages": [dspex.Image(URL), jpeg], "label": "a"}]


def test_a_program_of_plain_types_of_ours_is_rebuilt_from_its_state(tmp_path):
    made = dspex.ChainOfThought("image: dspex.Image, pages: list[dspex.Image], chat: dspex.History -> label")
    made.save(tmp_path / "p.json")
    again = rebuild(tmp_path / "p.json")
    kinds = [field.annotation for field in again.predict.signature.fields.values()]
    assert kinds == [dspex.Image, list[dspex.Image], dspex.History, str, str]


def test_a_file_names_types_of_ours_and_no_others(tmp_path):
    made = dspex.Predict("image: dspex.Image -> label")
    made.save(tmp_path / "p.json")
    state = json.loads((tmp_path / "p.json").read_text())
    for text in ("image: os.PathLike -> label", "image: dspex.Image -> label", "image: Gone -> label"):
        state["metadata"]["dspex"]["signature"] = text
        (tmp_path / "p.json").write_text(json.dumps(state))
        with pytest.raises(ConfigError, match="nothing is imported"):
            rebuild(tmp_path / "p.json")


def test_a_saved_demo_that_is_no_image_is_refused_when_it_is_shown(tmp_path):
    made = dspex.Predict("image: dspex.Image -> label")
    made.save(tmp_path / "p.json")
    state = json.loads((tmp_path / "p.json").read_text())
    state["demos"] = [{"image": "file:///etc/passwd", "label": "x"}]
    made.load_state(state)
    with pytest.raises(ConfigError, match=r"input 'image' of .* is invalid"):
        dspex.ChatAdapter().format(made.signature, made.demos, {"image": dspex.Image(URL)})


@pytest.mark.parametrize(
    ("got", "label", "is_same"),
    [
        (dspex.Reasoning(content="So it is."), "so it is.", True),
        (dspex.Reasoning(content="[1] is first"), "[1] is first", True),
        (dspex.Code(code="x = 1"), "x = 1", True),
        (dspex.Code["java"](code="x"), "y", False),
        (dspex.Image(URL), URL, True),
        (dspex.Image(URL), PNG, False),
        (dspex.ToolCalls.from_dict_list([{"name": "a", "args": {"x": 1}}]), [{"name": "a", "args": {"x": 1}}], True),
        (dspex.ToolCalls.from_dict_list([{"name": "a", "args": {"x": 1}}]), [{"name": "a", "args": {"x": 2}}], False),
        (Decimal(1), "1", True),
    ],
)
def test_labels_are_compared_as_the_type(got, label, is_same):
    assert same(got, label, str.lower) is is_same


def test_what_a_run_is_has_images_by_their_bytes_and_tools_by_their_source():
    told = Canon().text

    def other(q: str) -> str:
        """Search."""
        return q + "!"

    assert told(dspex.Image(PNG)) == told(dspex.Image(PNG))
    assert told(dspex.Image(PNG)) != told(dspex.Image(URL))
    assert told(dspex.Code["java"]) != told(dspex.Code["c++"])
    assert told(dspex.Tool(search)) == told(dspex.Tool(search))
    assert told(dspex.Tool(search)) != told(dspex.Tool(other, name="search"))
    large = dspex.Image("data:image/png;base64,iVBORw0KGgo" + "A" * 400_000 + "=")
    assert len(told(large)) < 400


def test_what_a_run_is_is_the_same_in_every_process():
    code = (
        "import dspex_actors as dspex; from dspex_actors.runs.identity.canon import Canon; "
        "s = dspex.Signature('image: dspex.Image, history: dspex.History -> code: dspex.Code[\"java\"]'); "
        f"v = [dspex.Image({PNG!r}), dspex.Code['java'](code='x'), dspex.Reasoning(content='r'), "
        "dspex.History(messages=[{'a': 1}]), dspex.ToolCalls.from_dict_list([{'name': 'a', 'args': {}}])]; "
        "print(Canon().text([s, v]), Canon().text([dspex.ChatAdapter(), dspex.JSONAdapter()]))"
    )
    told = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in "ab"]
    assert told[0].stdout == told[1].stdout
    assert len(told[0].stdout) > 20


def test_a_cache_tells_pictures_apart():
    lm = dspex.LM("openai/gpt-4o-mini")

    def key(image):
        return lm.request([{"role": "user", "content": image.format()}], {}).cache_key

    assert key(dspex.Image(PNG)) == key(dspex.Image(PNG))
    assert key(dspex.Image(PNG)) != key(dspex.Image(URL))
