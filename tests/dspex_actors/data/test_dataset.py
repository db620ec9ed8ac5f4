import gzip
import json

import pytest

import dspex_actors as dspex
from dspex_actors.client.inputs import dataset_inputs, with_inputs
from dspex_actors.data.fields import unpack_example
from dspex_actors.data.opening import from_descriptor, open_dataset
from dspex_actors.data.spool import spool
from dspex_actors.errors import ConfigError
from dspex_actors.example import Example
from dspex_actors.teleprompt.trainset import read_trainset

ROWS = [{"ticket": f"no {i}, 'ü' \u2028 x", "team": "bugs" if i % 2 else "billing"} for i in range(50)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
CSV = "ticket,team\n" + "".join(f'"{row["ticket"]}",{row["team"]}\n' for row in ROWS)


def write(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.jsonl", LINES),
        ("t.NDJSON", LINES),
        ("t.json", LINES),
        ("t.jsonl.gz", LINES),
        ("t.jsonl", b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n\r\n")),
        ("t.jsonl", LINES.rstrip()),
        ("t.csv", CSV.encode()),
        ("t.csv.gz", CSV.encode()),
        ("t.csv", b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode() + b"\r\n"),
    ],
)
def test_every_kind_of_file_gives_the_same_examples(tmp_path, name, data):
    dataset = open_dataset(str(write(tmp_path, name, data)), input_names=["ticket"])
    assert list(dataset) == ROWS
    assert dataset.count() == 50
    assert list(dataset.iter_from(47)) == ROWS[47:]
    assert list(dataset.iter_from(60)) == []
    assert unpack_example(next(dataset.iter_packed(3))) == ({"ticket": ROWS[3]["ticket"]}, {"team": "bugs"})
    again = from_descriptor(json.loads(json.dumps(dataset.descriptor)))
    assert (again.digest, list(again)) == (dataset.digest, ROWS)


def test_a_limit_cuts_and_belongs_to_the_digest(tmp_path):
    path = write(tmp_path, "t.jsonl", LINES)
    dataset = open_dataset(path, limit=5)
    assert (list(dataset), dataset.count(), list(dataset.iter_from(4))) == (ROWS[:5], 5, ROWS[4:5])
    assert dataset.digest != open_dataset(path).digest
    before = open_dataset(path).digest
    path.write_bytes(LINES.replace(b"bugs", b"BUGS"))
    assert open_dataset(path).digest != before


@pytest.mark.parametrize("limit", [0, -1, "3", 2.5])
def test_a_limit_that_is_no_number_of_examples_is_refused(tmp_path, limit):
    with pytest.raises(ConfigError, match=f"limit is a number of examples, 1 or more; got {limit!r}"):
        open_dataset(write(tmp_path, "t.jsonl", LINES), limit=limit)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        (
            "t.jsonl",
            b'{"ticket": 1}\n\n{"ticket" 2}\n',
            r"t\.jsonl line 3: not valid JSON: .*; fix it, or pass",
        ),
        (
            "t.jsonl",
            b'{"ticket": 1}\n[1]\n',
            "line 2: expected an object .* got an array .*a line of its own",
        ),
        ("t.jsonl", b'{"ticket": 1}\nnull\n', "line 2: expected an object .* got null"),
        (
            "t.jsonl",
            b'{"ticket": 1}\n{"text": 2, "team": 3}\n',
            "line 2: no field 'ticket', .* it has: text, team",
        ),
        ("t.jsonl", b'{"ticket": 1}\n{"ticket": "\xff"}\n', "line 2: not UTF-8"),
        ("t.jsonl", b'{"ticket": 1}\n{"ticket": ' + b"9" * 5000 + b"}\n", "line 2: not usable JSON"),
        ("t.csv", b"ticket,team\na,b\n\nc\n", "t.csv line 4: expected 2 columns as in the header, got 1"),
        ("t.csv", b'ticket,team\n"a\nb",c\n"d"x,e\n', "line 4: not valid CSV"),
        ("t.csv", b'ticket,team\na,b\n"c,d\n', "line 3: not valid CSV: unexpected end of data"),
        ("t.csv", b"ticket,team\na,b\n\xff,b\n", "line 3: not valid CSV: not UTF-8"),
    ],
)
def test_a_bad_line_is_named_or_skipped(tmp_path, name, data, words):
    path = write(tmp_path, name, data)
    with pytest.raises(ConfigError, match=words):
        list(open_dataset(path, input_names=["ticket"]))
    lenient = open_dataset(path, input_names=["ticket"], on_bad_line="skip")
    assert lenient.count() == len(list(lenient)) == 1
    assert lenient.skipped.count == len(lenient.skipped.first) == 1


def test_skipped_lines_are_counted_once_and_the_first_are_listed(tmp_path):
    dataset = open_dataset(write(tmp_path, "t.jsonl", LINES[:300] + b"\nx" * 7345 + b"\n" + LINES), on_bad_line="skip")
    for _ in range(2):
        rows = list(dataset.iter_from(1))
    assert rows[-1] == ROWS[-1]
    assert dataset.skipped.count >= 7345
    assert len(dataset.skipped.first) == 20


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("t.jsonl", b"\n\n", "t.jsonl holds no examples"),
        ("t.csv", b"", "t.csv holds no examples"),
        ("t.csv", b"ticket,team\n", "t.csv holds no examples"),
        ("t.csv", b"ticket,team,team\na,b,c\n", "line 1: the header has 'team' more than once"),
        ("t.csv", b"ticket,\na,b\n", "line 1: column 2 of the header has no name"),
        ("t.csv", b"text,team\na,b\n", "no column 'ticket', .*it has: text, team"),
        ("t.csv", b"ticket;team\na;b\n", "separated by commas"),
        ("t.xlsx", b"", "of no known kind"),
        ("t.jsonl", "{}".encode("utf-16"), "is UTF-16; expected UTF-8"),
    ],
)
def test_a_file_that_is_no_dataset_is_refused_at_once(tmp_path, name, data, words):
    with pytest.raises(ConfigError, match=words):
        open_dataset(write(tmp_path, name, data), input_names=["ticket"])


def test_a_gzip_that_is_cut_short_or_none_is_an_error_even_when_lines_are_skipped(tmp_path):
    rows = "".join(json.dumps({"ticket": str(hash((i, "x")))}) + "\n" for i in range(5000)).encode()
    whole = gzip.compress(rows)
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="cut short or damaged after line"):
        list(open_dataset(path, on_bad_line="skip"))
    path.write_bytes(LINES)
    with pytest.raises(ConfigError, match=r"ends in \.gz but is not gzip"):
        open_dataset(path)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no file .*none\.jsonl"):
        open_dataset(tmp_path / "none.jsonl")
    (tmp_path / "d.jsonl").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        open_dataset(tmp_path / "d.jsonl")


def test_large_fields_and_large_integers_are_kept(tmp_path):
    big = {"ticket": "x" * 3_000_000, "id": 12345678901234567890123}
    assert next(iter(open_dataset(write(tmp_path, "t.jsonl", json.dumps(big).encode())))) == big
    assert next(iter(open_dataset(write(tmp_path, "t.csv", b"ticket\n" + b"y" * 3_000_000)))) == {
        "ticket": "y" * 3_000_000
    }


def test_lists_and_generators_are_spooled_and_read_again(tmp_path):
    examples = [Example(q=i, a=-i).with_inputs("q") for i in range(5)]
    for source in (examples, iter(examples), ({"q": i, "a": -i} for i in range(5))):
        dataset = open_dataset(source, input_names=["q"])
        assert dataset.needs_spool
        spooled = from_descriptor(spool(dataset, tmp_path / "s", dataset.input_names))
        assert [unpack_example(data) for data in spooled.iter_packed(2)] == [({"q": i}, {"a": -i}) for i in (2, 3, 4)]
        assert (spooled.count(), spooled.needs_spool) == (5, False)
    assert [unpack_example(data) for data in open_dataset(examples).iter_packed(4)] == [({"q": 4}, {"a": -4})]


@pytest.mark.parametrize(
    ("source", "words"),
    [([], "no examples"), (iter([]), "no examples"), (5, "got int"), ({"q": 1}, "got dict"),
     ([{"q": 1}, "x"], "example 1 .*got str"), ([{"q": 1}, {"a": 1}], "example 1 .*no field 'q'")],
)  # fmt: skip
def test_unusable_sources_are_refused(source, words):
    with pytest.raises(ConfigError, match=words):
        list(open_dataset(source, input_names=["q"]))


def test_an_iterator_is_not_read_twice():
    dataset = open_dataset(iter([{"q": 1}]))
    list(dataset)
    with pytest.raises(ConfigError, match="read once only"):
        list(dataset)


class Desk(dspex.Module):
    async def aforward(self, ticket, lang="en"):
        return dspex.Prediction(team=lang)


@pytest.mark.parametrize(
    ("row", "names"),
    [({"ticket": "x", "team": "a"}, ["ticket"]), ({"ticket": "x", "team": "a", "lang": "de"}, ["ticket", "lang"])],
)
def test_a_parameter_with_a_default_is_an_input_where_the_data_have_it(tmp_path, row, names):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    assert dataset_inputs(path, Desk()) == names
    assert list(with_inputs([row], Desk())[0].inputs().keys()) == names
    assert list(next(with_inputs(iter([row]), Desk())).inputs().keys()) == names
    assert list(read_trainset([row], Desk())[0].inputs().keys()) == names
    assert list(read_trainset(path, Desk())[0].keys())[:1] == ["ticket"]
