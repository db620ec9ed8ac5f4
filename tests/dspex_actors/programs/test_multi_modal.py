"""MultiModal: whom it asks for which part, at once or apart, and what it refuses."""

import asyncio
import threading

import cloudpickle
import pytest

import dspex_actors as dspex
from dspex_actors.lm.capabilities import Capabilities
from tests.dspex_actors.program_fakes import chat

PNG = "data:image/png;base64,iVBORw0KGgo="
SOUND = dspex.Audio(data="UklGRiQAAABXQVZF", audio_format="wav")
PHOTO = dspex.Image(PNG)


class Model(dspex.BaseLM):
    def __init__(self, model, **takes):
        super().__init__(model)
        self.takes, self.asked = takes, []

    @property
    def capabilities(self):
        return Capabilities(**self.takes)

    def forward(self, messages, **params):
        content = messages[-1]["content"]
        self.asked.append(content)
        text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        if "`[[ ## findings ## ]]`" in text:
            return chat(findings=f"{self.model} has looked")
        return chat(answer=f"by {self.model}")


def seeing():
    return Model("eyes", images=True, audio=False, files=False)


def hearing():
    return Model("ears", images=False, audio=True, files=False)


SIGNATURE = "question, photo: Image, call: Audio -> answer"
GIVEN = {"question": "?", "photo": PHOTO, "call": SOUND}


def call(way, program, **inputs):
    return program(**inputs) if way == "sync" else asyncio.run(program.acall(**inputs))


def kinds(content):
    return [part["type"] for part in content] if isinstance(content, list) else ["text"]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_parts_that_no_model_takes_all_of_are_asked_apart_and_fused(way):
    eyes, ears = seeing(), hearing()
    found = call(way, dspex.MultiModal(SIGNATURE, lms=[eyes, ears]), **GIVEN)
    assert found.answer == "by eyes"
    assert found.findings == {"image": "eyes has looked", "audio": "ears has looked"}
    assert found.asked == {"image": "eyes", "audio": "ears", "fusion": "eyes"}
    assert "image_url" in kinds(eyes.asked[0])
    assert "input_audio" not in kinds(eyes.asked[0])
    assert "input_audio" in kinds(ears.asked[0])
    assert '{"image": "eyes has looked", "audio": "ears has looked"}' in eyes.asked[1]
    assert len(ears.asked) == 1


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_model_that_takes_all_is_asked_once(way):
    eyes, both = seeing(), Model("both", images=True, audio=True)
    found = call(way, dspex.MultiModal(SIGNATURE, lms=[eyes, both]), **GIVEN)
    assert (found.answer, found.asked) == ("by both", {"image": "both", "audio": "both"})
    assert "findings" not in found
    assert (len(eyes.asked), len(both.asked)) == (0, 1)


def test_what_is_not_given_is_left_out():
    eyes, ears = seeing(), hearing()
    program = dspex.MultiModal("question, photo: Optional[Image], call: Optional[Audio] -> answer", lms=[ears, eyes])
    assert program(question="?", photo=PHOTO, call=None).asked == {"image": "eyes"}
    assert program(question="?", photo=None, call=None).asked == {"text": "ears"}


def test_a_model_of_which_nothing_is_known_is_asked_after_those_that_are_known():
    unknown, eyes = Model("unknown"), seeing()
    program = dspex.MultiModal("photos: list[Image] -> answer", lms=[unknown, eyes])
    assert program(photos=[PHOTO, PHOTO]).asked == {"image": "eyes"}
    with dspex.context(lm=unknown):
        assert dspex.MultiModal("photo: Image -> answer")(photo=PHOTO).answer == "by unknown"


def test_late_fusion_asks_apart_at_the_same_time():
    both_are_asked = threading.Barrier(2)

    class Waits(Model):
        def forward(self, messages, **params):
            if len(self.asked) < 2:
                self.asked.append("")
                both_are_asked.wait(60)
            return super().forward(messages, **params)

    both = Waits("both", images=True, audio=True)
    found = dspex.MultiModal(SIGNATURE, lms=[both], fusion="late")(**GIVEN)
    assert list(found.findings) == ["image", "audio"]


def test_nothing_is_asked_where_no_model_takes_a_part():
    eyes, ears = seeing(), hearing()
    with pytest.raises(dspex.ConfigError, match="no LM takes audio: there is eyes; give one that does"):
        dspex.MultiModal(SIGNATURE, lms=[eyes])(**GIVEN)
    with pytest.raises(dspex.ConfigError, match="no LM takes image and audio: there is eyes, ears"):
        dspex.MultiModal(SIGNATURE, lms=[eyes, ears], fusion="early")(**GIVEN)
    assert eyes.asked == ears.asked == []


def test_models_of_providers_are_chosen_by_what_is_known_of_them():
    blind, sharp = dspex.LM("openai/gpt-3.5-turbo"), dspex.LM("openai/gpt-4o")
    program = dspex.MultiModal("photo: Image -> answer", lms=[blind, sharp])
    assert program._chosen(["image"], required=True) is sharp
    assert program._chosen([], required=True) is blind


def test_it_has_its_predictors_and_travels():
    program = cloudpickle.loads(cloudpickle.dumps(dspex.MultiModal(SIGNATURE, lms=[seeing(), hearing()])))
    assert [name for name, _ in program.named_predictors()] == ["together", "looks['image']", "looks['audio']", "fuse"]
    assert program.deepcopy()(**GIVEN).asked["fusion"] == "eyes"


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"fusion": "middle"}, "fusion is invalid"),
        ({"lms": []}, "lms is invalid"),
        ({"lms": "openai/gpt-4o"}, "lms is invalid"),
        ({"lms": ["openai/gpt-4o"]}, "an LM is needed"),
        ({"lms": [None]}, "lms is invalid"),
        ({"signature": "findings, photo: Image -> answer"}, "'findings' of its own"),
        ({"signature": "photo: Image -> asked"}, "'asked' of its own"),
    ],
)
def test_settings_that_are_no_use_are_refused(how, told):
    with pytest.raises(dspex.ConfigError, match=told):
        dspex.MultiModal(**{"signature": SIGNATURE, **how})
