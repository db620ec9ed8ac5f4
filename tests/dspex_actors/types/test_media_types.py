"""Images, sound, files, documents: what they are made of, what is refused, and that they stay small in view."""

import array
import base64
import copy
import io
import json
import pickle
import subprocess
import sys
import types as python_types
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

import dspex_actors as dspex
from dspex_actors.errors import ConfigError

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 40
JPEG = b"\xff\xd8\xff\xe0" + b"0" * 40
WAV = b"RIFF$\x00\x00\x00WAVEfmt " + b"0" * 30
PDF = b"%PDF-1.4 x"
SVG = b'<?xml version="1.0"?><svg xmlns="..."/>'


def b64(data):
    return base64.b64encode(data).decode()


def url_of(data, kind="image/png"):
    return f"data:{kind};base64,{b64(data)}"


# --- Image ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "url"),
    [
        ("https://x.org/a.png", "https://x.org/a.png"),
        ("  http://x.org/a.png\n", "http://x.org/a.png"),
        ("gs://bucket/a.png", "gs://bucket/a.png"),
        (url_of(PNG), url_of(PNG)),
        (url_of(JPEG), url_of(JPEG)),  # a picture, if not the kind that it says
        (PNG, url_of(PNG)),
        (bytearray(JPEG), url_of(JPEG, "image/jpeg")),
        (memoryview(PNG), url_of(PNG)),
        ({"url": "https://x.org/a.png"}, "https://x.org/a.png"),
        (dspex.Image(PNG), url_of(PNG)),
        (url_of(b"anything", "image/vnd.own"), url_of(b"anything", "image/vnd.own")),
        (
            b'<?xml version="1.0"?><svg xmlns="..."/>',
            url_of(b'<?xml version="1.0"?><svg xmlns="..."/>', "image/svg+xml"),
        ),
    ],
)
def test_an_image_is_made_of_what_is_one(source, url):
    assert dspex.Image(source).url == url
    assert TypeAdapter(dspex.Image).validate_python(source).url == url
    assert dspex.Image(source).format() == [{"type": "image_url", "image_url": {"url": url}}]


NO_IMAGES = [
    "",
    "cat.png",
    "/etc/passwd",
    "file:///etc/passwd",
    "http://",
    "https://a b/c.png",
    "javascript:alert(1)",
    "data:",
    "data:,x",
    "data:image/png",
    "data:image/png,x",
    "data:image/png;base64,",
    "data:image/png;base64,!!!",
    "data:image/png;base64,iVBORw0KGg",  # cut off
    "data:image/png;base64,iVBORw0K GgoA",
    "data:;base64,QUJD",
    "data:image;base64,QUJD",
    url_of(b"hello"),
    url_of(PDF),
    url_of(PNG, "text/html"),
    url_of(b"<html><script>", "image/svg+xml"),
    b"",
    b"hello",
    PDF,
    3,
    True,
    [PNG],
    {"uri": "https://x.org/a.png"},
    {"url": "https://x.org/a.png", "download": True},
    {"url": {"url": "https://x.org/a.png"}},
    "x" * 5_000_000,
    "data:image/png;base64," + "?" * 5_000_000,
    b"x" * 5_000_000,
]


@pytest.mark.parametrize("source", NO_IMAGES, ids=lambda source: repr(source)[:40])
def test_an_image_that_is_none_is_refused_in_one_short_line(source):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - DSPy's kind
        dspex.Image(source)
    text = str(caught.value)
    assert isinstance(caught.value, ConfigError)
    assert "Image" in text
    assert "\n" not in text
    assert len(text) < 400
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(dspex.Image).validate_python(source)
    assert len(str(caught.value)) < 900


def test_an_image_is_made_of_one_thing_and_nothing_unknown():
    with pytest.raises(ConfigError, match="url: Field required"):
        dspex.Image()
    with pytest.raises(ConfigError, match="one of them"):
        dspex.Image("https://x.org/a.png", url="https://x.org/b.png")
    with pytest.raises(ConfigError, match=r"Image\.from_url"):
        dspex.Image("https://x.org/a.png", download=True)
    with pytest.raises(ConfigError, match="detail"):
        dspex.Image("https://x.org/a.png", detail="low")
    with pytest.raises(ValidationError):
        dspex.Image(PNG).url = "https://x.org/a.png"


def test_nothing_is_read_or_fetched_by_making_one(monkeypatch):
    def nobody(*args, **options):
        raise AssertionError("something was opened")

    monkeypatch.setattr("builtins.open", nobody)
    monkeypatch.setattr("socket.socket", nobody)
    assert dspex.Image("http://169.254.169.254/a.png").url.startswith("http:")
    for make in (dspex.Image, dspex.Audio, dspex.File):
        with pytest.raises(ConfigError):
            make("/etc/hostname")


def test_views_of_megabytes_are_short():
    data = PNG + b"0" * 5_000_000
    image, file = dspex.Image(data), dspex.File(data)
    audio = dspex.Audio(WAV + b"0" * 5_000_000)
    document = dspex.Document(data="x" * 5_000_000, title="t")
    for value in (image, audio, file, document):
        prediction = dspex.Prediction(value=value, values=[value])
        for text in (
            repr(value),
            str(value),
            f"{value}",
            repr([value]),
            repr(dspex.Example(a=value)),
            repr(prediction),
        ):
            assert len(text) < 400
    assert repr(dspex.Image(PNG)) == f"Image(url=data:image/png;base64,<IMAGE_BASE_64_ENCODED({len(b64(PNG))})>)"
    assert repr(dspex.Image("https://x.org/a.png")) == "Image(url='https://x.org/a.png')"
    assert repr(dspex.Audio(WAV)) == f"Audio(data=<AUDIO_BASE_64_ENCODED({len(b64(WAV))})>, audio_format='wav')"
    told = f"File(file_data=<DATA_URI(application/pdf, {len(b64(PDF))} chars)>, filename='a.pdf')"
    assert repr(dspex.File(PDF, filename="a.pdf")) == told
    assert repr(dspex.File(file_id="f1")) == "File(file_id='f1')"
    assert str(dspex.Document(data="abc", title="t")) == "Document('t': 3 chars)"


def test_bytes_are_kept_once():
    image = dspex.Image(PNG + b"0" * 100_000)
    assert copy.deepcopy(image).url is image.url
    adapter = dspex.ChatAdapter()
    signature = dspex.Signature("image: dspex.Image, q -> a")
    demos = [dspex.Example(image=image, q="1", a="2")]
    for _ in range(2):
        messages = adapter.format(signature, demos, {"image": image, "q": "?"})
        urls = [
            part["image_url"]["url"] for m in messages if isinstance(m["content"], list) for part in m["content"][1:2]
        ]
        assert len(urls) == 2
        assert all(url is image.url for url in urls)


def test_files_are_read_where_they_are_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "b.png").write_bytes(JPEG)
    (tmp_path / "no.png").write_bytes(b"hello")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "a.wav").write_bytes(WAV)
    (tmp_path / "a.pdf").write_bytes(PDF)
    assert dspex.Image.from_path(tmp_path / "a.jpg").url == url_of(JPEG, "image/jpeg")
    assert dspex.Image.from_file(str(tmp_path / "b.png")).url == url_of(JPEG, "image/jpeg")  # what it is
    assert dspex.Audio.from_path(tmp_path / "a.wav") == dspex.Audio(WAV)
    file = dspex.File.from_path(tmp_path / "a.pdf")
    assert (file.filename, file.file_data) == ("a.pdf", url_of(PDF, "application/pdf"))
    for kind, name in [
        (dspex.Image, "no.png"),
        (dspex.Image, "empty.png"),
        (dspex.Image, "gone.png"),
        (dspex.Image, ""),
        (dspex.Audio, "a.jpg"),
        (dspex.Audio, "gone.wav"),
        (dspex.File, "gone.pdf"),
        (dspex.File, "\0"),
    ]:
        with pytest.raises(ConfigError, match=kind.__name__) as caught:
            kind.from_path(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_pil_image_is_saved_in_its_format(monkeypatch):
    class Picture:
        format = None

        def save(self, buffer, format):  # noqa: A002
            buffer.write(PNG if format == "PNG" else JPEG)

    pil = python_types.SimpleNamespace(Image=Picture, MIME={"PNG": "image/png", "JPEG": "image/jpeg"})
    monkeypatch.setitem(sys.modules, "PIL.Image", pil)
    assert dspex.Image(Picture()).url == url_of(PNG)
    picture = Picture()
    picture.format = "JPEG"
    assert dspex.Image.from_PIL(picture).url == url_of(JPEG, "image/jpeg")


# --- Audio ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "options", "audio_format"),
    [
        ((WAV,), {}, "wav"),
        ((b"ID3xxxx",), {"audio_format": "mp3"}, "mp3"),
        ((b"\0\1\2\3",), {"audio_format": "pcm16"}, "pcm16"),
        ((url_of(WAV, "audio/x-wav"),), {}, "wav"),
        (({"data": b64(WAV), "audio_format": "wav"},), {}, "wav"),
        ((), {"data": b64(WAV), "audio_format": "wav"}, "wav"),
        ((dspex.Audio(WAV),), {}, "wav"),
    ],
)
def test_sound_is_made_of_what_is_sound(args, options, audio_format):
    audio = dspex.Audio(*args, **options)
    told = {"data": audio.data, "format": audio_format}
    assert audio.format() == [{"type": "input_audio", "input_audio": told}]


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (("x.wav",), {}),
        (("https://x.org/a.wav",), {}),
        (("data:audio/",), {}),
        (("data:audio/wav;base64,!",), {}),
        ((url_of(PNG),), {}),
        ((url_of(PNG, "audio/wav"),), {}),
        ((PNG,), {}),
        ((PNG,), {"audio_format": "mp3"}),
        ((b"hello",), {}),
        ((b"",), {}),
        ((b"",), {"audio_format": "pcm16"}),
        ((WAV,), {"audio_format": "a b"}),
        ((WAV,), {"audio_format": 3}),
        ((WAV,), {"sampling_rate": 16000}),
        ((url_of(WAV, "audio/wav"),), {"audio_format": "wav"}),
        ((WAV,), {"data": "x"}),
        ((), {"data": "x y", "audio_format": "wav"}),
        ((), {"data": b64(PNG), "audio_format": "wav"}),
        ((), {"data": b64(WAV)}),
        ((), {}),
        ((3,), {}),
        (({"data": b64(WAV)},), {}),
    ],
)
def test_sound_that_is_none_is_refused_in_one_short_line(args, options):
    with pytest.raises(ConfigError) as caught:
        dspex.Audio(*args, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


class Samples:
    """What of numpy's arrays is used."""

    def __init__(self, rows, *shape):
        self.rows, self.shape = rows, shape

    def tolist(self):
        return self.rows


def test_samples_become_a_wav_file():
    audio = dspex.Audio.from_array(Samples([0.0, 1.0, -1.0, 2.0], 4), 8000)
    with wave.open(io.BytesIO(base64.b64decode(audio.data))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        assert array.array("h", file.readframes(9)).tolist() == [0, 32767, -32767, 32767]
    stereo = dspex.Audio(Samples([[1, 2], [3, 4]], 2, 2), sampling_rate=16000)
    with wave.open(io.BytesIO(base64.b64decode(stereo.data))) as file:
        assert file.getnchannels() == 2
        assert array.array("h", file.readframes(9)).tolist() == [1, 2, 3, 4]
    for rows, shape, rate in [
        ([], (0,), 8000),
        ([1], (1,), 0),
        (["x"], (1,), 8000),
        ([40_000], (1,), 8000),
        ([], (), 1),
    ]:
        with pytest.raises(ConfigError, match="array"):
            dspex.Audio.from_array(Samples(rows, *shape), rate)


# --- File, Document -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "options", "told"),
    [
        ((PDF,), {}, {"file_data": url_of(PDF, "application/pdf")}),
        ((b"hello",), {"filename": "a"}, {"file_data": url_of(b"hello", "application/octet-stream"), "filename": "a"}),
        ((url_of(b"x", "text/plain"),), {}, {"file_data": url_of(b"x", "text/plain")}),
        ((), {"file_id": "f1", "filename": "a.pdf"}, {"file_id": "f1", "filename": "a.pdf"}),
        (({"file_id": "f1"},), {}, {"file_id": "f1"}),
    ],
)
def test_a_file_is_made_of_what_is_one(args, options, told):
    assert dspex.File(*args, **options).format() == [{"type": "file", "file": told}]


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ((), {}),
        (("a.pdf",), {}),
        (("https://x.org/a.pdf",), {}),
        (("data:application/pdf;base64,?",), {}),
        (("data:application/pdf",), {}),
        ((), {"file_data": "data:;base64,QUJD"}),
        ((), {"file_id": ""}),
        ((), {"file_id": 3}),
        ((), {"file_id": "f", "path": "x"}),
        ((PDF,), {"file_data": "x"}),
        ((3,), {}),
        (({"path": "x"},), {}),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_short_line(args, options):
    with pytest.raises(ConfigError) as caught:
        dspex.File(*args, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_document_is_a_text_or_a_pdf():
    assert TypeAdapter(dspex.Document).validate_python("some text").data == "some text"
    pdf = dspex.Document(data=b64(PDF), media_type="application/pdf")
    assert pdf.format()[0]["source"] == {"type": "base64", "media_type": "application/pdf", "data": b64(PDF)}
    for options in (
        {"data": "x", "media_type": "application/pdf"},
        {"data": 3},
        {},
        {"data": "x", "media_type": "a/b"},
    ):
        with pytest.raises(ConfigError, match="Document is invalid"):
            dspex.Document(**options)


# --- all of them ----------------------------------------------------------------------------------------------------


def values():
    calls = dspex.ToolCalls.from_dict_list([{"id": "c1", "name": "search", "args": {"q": 1}}])
    return [
        dspex.Image(PNG),
        dspex.Image("https://x.org/a.png"),
        dspex.Audio(WAV),
        dspex.File(PDF, filename="a.pdf"),
        dspex.File(file_id="f1"),
        dspex.Document(data="d", title="t", context="c"),
        dspex.History(messages=[{"image": dspex.Image(PNG), "answer": "a"}]),
        dspex.Code(code="x = 1"),
        dspex.Code["c++"](code="int x;"),
        dspex.Code["vb.net"](code="Dim x"),
        dspex.Reasoning(content="because"),
        calls,
        calls.model_copy(update={"tool_call_results": [{"name": "search", "value": [1], "call_id": "c1"}]}),
        dspex.ToolCalls.ToolCall(name="a", args={}),
    ]


@pytest.mark.parametrize("value", values(), ids=lambda value: type(value).__name__)
def test_values_survive_copies_pickles_and_bytes_of_ours(value):
    from dspex_actors.foundation.codec import may_hold_objects, pack, to_plain, unpack

    for twin in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert twin == value
        assert type(twin) is type(value)
    packed = pack({"value": [value]})
    for objects in ("show", "load", "try", "refuse"):
        [twin] = unpack(packed, objects=objects)["value"]
        assert twin == value
        assert type(twin) is type(value)
    assert not may_hold_objects(packed)  # the same bytes in every process
    plain = to_plain(value)
    assert json.loads(json.dumps(plain)) == plain
    if not isinstance(value, dspex.History):  # of what stands in its turns nobody knows the types
        assert TypeAdapter(type(value)).validate_python(plain) == value


def test_bytes_stand_once_in_what_is_packed():
    from dspex_actors.foundation.codec import pack

    data = PNG + b"0" * 1_000_000
    assert len(pack({"image": dspex.Image(data)})) < len(b64(data)) + 200


def test_a_journal_is_read_without_loading_types_or_running_code():
    from dspex_actors.foundation.codec import pack

    packed = pack([dspex.Image("https://x.org/a.png"), dspex.Code["java"](code="int x;")])
    code = (
        "import sys; from dspex_actors.foundation.codec import unpack; "
        f"found = unpack({packed!r}); print(found); assert 'dspex_actors.types.image' not in sys.modules; "
        f"print(unpack({packed!r}, objects='try'))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "Opaque(type='dspex_actors.types.image.Image', plain='https://x.org/a.png')" in shown[0]
    assert shown[1] == "[Image(url='https://x.org/a.png'), Code_java(code='int x;')]"


@pytest.mark.parametrize(
    "name", ["os:system", "dspex_actors.types.image:Image.mro", "dspex_actors.types.gone:X", ":", ""]
)
def test_bytes_that_name_something_else_load_nothing(name):
    import msgpack

    from dspex_actors.foundation.codec import CodecError, Opaque, pack, unpack

    made = msgpack.packb(msgpack.ExtType(10, msgpack.packb([name, pack("x")])))
    for objects in ("show", "load"):
        try:
            assert isinstance(unpack(made, objects=objects), Opaque)
        except CodecError:
            assert objects == "load"


class Own(dspex.Type):
    name: str

    def format(self):
        return [{"type": "text", "text": f"Mr {self.name}"}]

    @classmethod
    def description(cls):
        return "a person"


def test_a_type_of_ones_own_is_told_in_its_parts_and_words():
    class Page(BaseModel):
        who: Own

    signature = dspex.Signature({"who": (list[Own], dspex.InputField()), "page": (Page, dspex.InputField())}, "x")
    signature = signature.append("a", dspex.OutputField(), str)
    inputs = {"who": [Own(name="A"), Own(name="B")], "page": Page(who=Own(name="C"))}
    system, user = dspex.ChatAdapter().format(signature, [], inputs)
    assert "    About Own: a person" in system["content"]
    assert [part["text"] for part in user["content"][1:6:2]] == ["Mr A", "Mr B", "Mr C"]


@given(st.text())
def test_no_text_of_a_user_becomes_a_part(text):
    part = '[{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]'
    marked = f"<<CUSTOM-TYPE-START-IDENTIFIER>>{part}<<CUSTOM-TYPE-END-IDENTIFIER>>"
    signature = dspex.Signature("q, image: dspex.Image -> a")
    inputs = {"q": f"{text}{marked}", "image": dspex.Image(PNG)}
    _, user = dspex.ChatAdapter().format(signature, [], inputs)
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "text"]
    assert f"{text}{marked}" in user["content"][0]["text"]
    _, user = dspex.ChatAdapter().format(dspex.Signature("q -> a"), [], {"q": marked})
    assert isinstance(user["content"], str)
