from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastspan.benchmarks.questions.evaluation_set import open_data
from fastspan.benchmarks.questions.squad_files import Question, load_questions, read_squad
from fastspan.errors import DataError, InputError, MissingDependency
from support.packages import hide, put_in_place_of
from support.paths import SQUAD_PART

CONTEXT = "Rollo led the Norse, who settled in Normandy."
ANSWERED = {
    "id": "a",
    "question": "Who led the Norse?",
    "answers": [{"text": "Rollo", "answer_start": 0}, {"text": "Rollo led", "answer_start": 0}],
}
UNANSWERED = {"id": "b", "question": "Who led the Danes?", "answers": [], "is_impossible": True}


def squad(*qas: object, context: object = CONTEXT) -> dict[str, object]:
    return {
        "version": "v2.0",
        "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(qas)}]}],
    }


def write(folder: Path, content: object, name: str = "dev.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def write_lines(folder: Path, *records: object) -> Path:
    return write(folder, "\n".join(json.dumps(record) for record in records), "dev.jsonl")


def answered(**changes: object) -> dict[str, object]:
    return {**ANSWERED, **changes}


@pytest.mark.skipif(not SQUAD_PART.exists(), reason="needs the part of SQuAD 2.0's dev set")
def test_reads_the_official_file_in_its_order():
    questions = read_squad(SQUAD_PART)
    assert len(questions) == 2828
    assert sum(q.is_impossible for q in questions) == 1529
    assert all(q.is_impossible == (not q.answers) for q in questions)
    first = questions[0]
    assert (first.id, first.question) == ("5725b33f6a3fe71400b8952d", "When did the 1973 oil crisis begin?")
    assert first.answers == ("October 1973", "October 1973", "October 1973", "October", "1973")
    assert first.answer_starts == (29, 29, 29, 29, 37)
    assert first.context[29:41] == "October 1973"


def test_squad_1_has_no_flag_and_repeated_answers_are_kept(tmp_path):
    repeated = answered(answers=[{"text": "Rollo", "answer_start": 0}] * 2)
    assert read_squad(write(tmp_path, squad(repeated))) == [
        Question("a", "Who led the Norse?", CONTEXT, ("Rollo", "Rollo"), (0, 0), is_impossible=False)
    ]


def test_all_layouts_of_answers_mean_the_same(tmp_path):
    columns = {"text": ["Rollo", "Rollo led"], "answer_start": [0, 0]}
    from_squad = read_squad(write(tmp_path, squad(ANSWERED, UNANSWERED)))
    from_columns = read_squad(
        write_lines(
            tmp_path,
            answered(answers=columns, context=CONTEXT),
            {**UNANSWERED, "answers": {"text": [], "answer_start": []}, "context": CONTEXT},
        )
    )
    from_rows = read_squad(
        write_lines(tmp_path, answered(context=CONTEXT), {**UNANSWERED, "context": CONTEXT})
    )
    assert from_squad == from_columns == from_rows

    (texts_only,) = read_squad(write_lines(tmp_path, answered(answers=["Rollo"], context=CONTEXT)))
    assert (texts_only.answers, texts_only.answer_starts) == (("Rollo",), ())


def test_json_lines_are_split_at_line_feeds_alone(tmp_path):
    context = CONTEXT + "\u2028\x85 Then it ends."
    line = json.dumps(answered(context=context), ensure_ascii=False)
    (question,) = read_squad(write(tmp_path, f"{line}\r\n\n", "dev.jsonl"))
    assert question.context == context


def test_a_byte_order_mark_is_no_error(tmp_path):
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(squad(ANSWERED)), encoding="utf-8-sig")
    assert [q.id for q in read_squad(path)] == ["a"]


@pytest.mark.parametrize(
    ("content", "record", "complaint"),
    [
        ("", "", "empty"),
        (" \n", "", "empty"),
        ("{", "", "not JSON"),
        ('{"id": "a"}\n{"id": "b"}', "question 'a'", 'has no "answers"'),
        ('{"id": "a"} no', "line 1", "not JSON"),
        ([1, 2], r"\[0\]", "must be an object, not int"),
        ("3", "", "not a file of questions"),
        ({"data": {}}, "", "not a file of questions"),
        ({"question": ["?", "?"], "id": ["a"]}, "", 'column "id" must be a list of 2'),
        ({"data": []}, "", "no questions"),
        (squad(), "", "no questions"),
        ({"data": [3]}, r"data\[0\]", "must be an object, not int"),
        ({"data": [{"title": "t"}]}, r"data\[0\]", 'has no "paragraphs"'),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, r"data\[0\]\.paragraphs\[0\]", 'has no "context"'),
        (squad(ANSWERED, context=None), r"paragraphs\[0\]", '"context" must be a string'),
        (squad(answered(id=1.5)), r"qas\[0\]", '"id" must be a string or a whole number, not float'),
        (squad(answered(id=True)), r"qas\[0\]", '"id" must be a string or a whole number, not bool'),
        (squad(answered(id=7), answered(id="7")), r"qas\[1\]", "'7' is already taken by"),
        (squad(answered(id="a\ud800")), r"qas\[0\]", '"id" holds half of a surrogate pair at character 1'),
        (squad(answered(question="\udfff?")), "question 'a'", '"question" holds half of a surrogate'),
        (squad(ANSWERED, context="\ud800"), "", '"context" holds half of a surrogate'),
        (squad({"id": "a", "question": "?"}), "question 'a'", 'has no "answers"'),
        (squad({"id": "a", "answers": []}), "question 'a'", 'has no "question"'),
        (squad(answered(answers="Rollo")), "question 'a'", '"answers" must be'),
        (squad(answered(answers=[{"text": "Rollo"}])), "question 'a'", 'has no "answer_start"'),
        (squad(answered(answers=[{"text": "Rollo", "answer_start": True}])), "question 'a'", "whole number"),
        (squad(answered(answers=["Rollo", 3])), r"question 'a', answers\[0\]", "must be an object"),
        (
            squad(answered(answers={"text": ["a", "b"], "answer_start": [0]})),
            "question 'a'",
            "2 answer texts",
        ),
        (squad(answered(answers={"text": [3], "answer_start": [0]})), "question 'a'", "a text and a whole"),
        (squad(answered(is_impossible=True)), "question 'a'", "is true, and yet there are answers"),
        (squad({**UNANSWERED, "is_impossible": False}), "question 'b'", "is false, and yet there are no"),
        (squad({**UNANSWERED, "is_impossible": "yes"}), "question 'b'", "must be true or false"),
        (squad(ANSWERED, UNANSWERED, ANSWERED), r"qas\[2\]", r"'a' is already taken by .*qas\[0\]"),
        (squad(answered(answers=[{"text": "Rolf", "answer_start": 0}])), "question 'a'", "'Rolf' does not"),
    ],
)
def test_wrong_data_is_named_with_its_file_and_record(tmp_path, content, record, complaint):
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=f"{record}.*{complaint}") as caught:
        read_squad(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message


def test_wrong_lines_are_named(tmp_path):
    with pytest.raises(DataError, match="line 2: not JSON"):
        read_squad(write(tmp_path, json.dumps(answered(context=CONTEXT)) + "\nno", "dev.jsonl"))
    with pytest.raises(DataError, match="line 1: must be an object, not list"):
        read_squad(write_lines(tmp_path, []))
    with pytest.raises(DataError, match="question 'a': has no \"context\""):
        read_squad(write_lines(tmp_path, ANSWERED))


def test_files_that_cannot_be_read_are_data_errors(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_squad(tmp_path / "absent.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_squad(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"data": "\xe9"}')
    with pytest.raises(DataError, match="byte 10 is not UTF-8"):
        read_squad(tmp_path / "latin.json")


@pytest.mark.parametrize(
    ("text", "start", "stands"),
    [
        ("Norse", 14, 14),
        ("Norse", 13, 14),
        ("Norse", 15, 14),
        ("the\n Norse", 10, None),
        ("Norse ", 14, None),
        ("norse", 14, None),
        ("Rollo", -1, 0),
        ("Normandy.", -9, 36),
        ("Normandy", 500, 36),
        ("Normandy", 10**4000, 36),
        ("or", 15, 15),
        ("or", 37, 37),
        ("or", 16, None),
        ("or", -1, None),
    ],
)
def test_a_wrong_offset_is_put_right_where_there_is_one_other(tmp_path, text, start, stands):
    path = write(tmp_path, squad(answered(answers=[{"text": text, "answer_start": start}])))
    if stands is not None:
        assert read_squad(path)[0].answer_starts == (stands,)
    else:
        with pytest.raises(DataError, match=r"question 'a': the answer .* does not stand"):
            read_squad(path)


def test_occurrences_that_overlap_are_two(tmp_path):
    ambiguous = answered(answers=[{"text": "aa", "answer_start": 5}])
    with pytest.raises(
        DataError, match=r"question 'a': .* offset 5, and stands at several others, first at 0"
    ):
        read_squad(write(tmp_path, squad(ambiguous, context="aaa and so on")))


def test_data_as_tools_write_it(tmp_path):
    """Ids of whole numbers or none, impossible questions without answers or with a blank one."""
    nameless = {key: value for key, value in ANSWERED.items() if key != "id"}
    impossible = {"question": "Who led the Danes?", "is_impossible": True}
    questions = read_squad(
        write(
            tmp_path,
            squad(
                answered(id=262),
                nameless,
                {**nameless, "id": None},
                {**impossible, "id": "c"},
                {**impossible, "id": "d", "answers": None},
                {**impossible, "id": "e", "answers": [{"text": "", "answer_start": -1}]},
                {**impossible, "id": "f", "answers": {"text": [""], "answer_start": [0]}},
                {**impossible, "id": "g", "answers": [" "]},
            ),
        )
    )
    assert [q.id for q in questions] == [
        "262",
        "data[0].paragraphs[0].qas[1]",
        "data[0].paragraphs[0].qas[2]",
        *"cdefg",
    ]
    assert [q.is_impossible for q in questions] == [False] * 3 + [True] * 5
    assert all((q.answers, q.answer_starts) == ((), ()) for q in questions[3:])


def test_every_layout_of_a_file_means_the_same(tmp_path):
    one, two = answered(context=CONTEXT), {**UNANSWERED, "context": CONTEXT}
    expected = read_squad(write(tmp_path, squad(ANSWERED, UNANSWERED)))
    columns = {name: [one.get(name), two.get(name)] for name in {**one, **two}}
    for layout in (
        {"data": [one, two]},
        {
            "version": "v2.0",
            "data": [{"title": "t", "paragraphs": squad(ANSWERED)["data"][0]["paragraphs"]}, two],
        },
        [one, two],
        columns,
        f"{json.dumps(one)}\n{json.dumps(two)}\n",
    ):
        assert read_squad(write(tmp_path, layout)) == expected
    assert read_squad(write(tmp_path, one)) == expected[:1]


def test_parquet_is_read_with_pyarrow(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"text": ["Rollo", "Rollo led"], "answer_start": [0, 0]}
    rows = [
        {"id": "a", "question": "Who led the Norse?", "context": CONTEXT, "answers": columns},
        {
            "id": "b",
            "question": "Who led the Danes?",
            "context": CONTEXT,
            "answers": {"text": [], "answer_start": []},
        },
    ]
    path = tmp_path / "dev.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert load_questions(str(path)) == read_squad(write(tmp_path, squad(ANSWERED, UNANSWERED)))
    path.write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"dev\.parquet: cannot be read as Parquet"):
        read_squad(path)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    hide(monkeypatch, "pyarrow.parquet")
    path = tmp_path / "dev.parquet"
    path.write_bytes(b"")
    with pytest.raises(MissingDependency, match=r"pip install 'fastspan\[parquet\]'"):
        read_squad(path)
    with pytest.raises(DataError, match="no such file"):
        load_questions("absent.parquet")


def test_answers_without_offsets_stand_somewhere_in_the_passage(tmp_path):
    path = write_lines(tmp_path, answered(answers=["Rollo", "the Danes"], context=CONTEXT))
    with pytest.raises(DataError, match="question 'a': the answer 'the Danes' does not stand in the context"):
        read_squad(path)


@pytest.mark.parametrize("blank", ["", " \n"])
@pytest.mark.parametrize("offset", [{"answer_start": 0}, None])
def test_a_blank_answer_is_none(tmp_path, blank, offset):
    answers = [{"text": blank, **offset}] if offset else [blank]
    path = write_lines(tmp_path, answered(answers=answers, context=f" \n{CONTEXT}"))
    with pytest.raises(DataError, match=r"question 'a': the answer .* is blank; .* empty list"):
        read_squad(path)


@pytest.mark.parametrize("name", ["dev.json", "dev.jsonl"])
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[" * 100_000, "nested too deeply"),
        # Python 3.10's first releases read such a number, and then it is no object.
        ("9" * 5_000, "number too long|must be an object|not a file of questions"),
    ],
)
def test_json_that_python_gives_up_on_is_a_data_error(tmp_path, name, content, complaint):
    path = write(tmp_path, content, name)
    with pytest.raises(DataError, match=complaint) as caught:
        read_squad(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < len(str(path)) + 150


def test_a_limit_keeps_the_first_questions(tmp_path):
    path = write(tmp_path, squad(*(answered(id=str(n)) for n in range(5))))
    assert [q.id for q in load_questions(path, limit=2)] == ["0", "1"]
    assert len(load_questions(str(path), limit=99)) == len(load_questions(path)) == 5
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(InputError, match="limit"):
            load_questions(path, limit=wrong)


def test_a_hub_data_set_is_loaded_with_its_split(monkeypatch):
    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        return [answered(context=CONTEXT, answers={"text": ["Rollo"], "answer_start": [0]})]

    put_in_place_of(monkeypatch, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert load_questions("squad_v2")[0].answers == ("Rollo",)
    load_questions("rajpurkar/squad_v2:train")
    assert asked == [("squad_v2", "validation"), ("rajpurkar/squad_v2", "train")]


def test_what_the_hub_refuses_is_a_data_error(monkeypatch):
    def load_dataset(name, split):
        raise ConnectionError("offline")

    put_in_place_of(monkeypatch, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(DataError, match=r"squad_v2: neither a file here nor .*ConnectionError: offline"):
        load_questions("squad_v2")


def test_a_hub_data_set_without_the_package_says_what_to_install(monkeypatch):
    hide(monkeypatch, "datasets")
    with pytest.raises(MissingDependency, match=r"'squad_v2' is not a file.*pip install datasets"):
        load_questions("squad_v2")


def test_a_missing_file_is_not_looked_for_on_the_hub(monkeypatch):
    hide(monkeypatch, "datasets")
    for source in ("absent.json", "absent.JSONL", Path("absent")):
        with pytest.raises(DataError, match="no such file"):
            load_questions(source)


def test_a_pipe_is_read_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    rows = [{"id": str(n), "question": "who?", "context": "Rollo.", "answers": ["Rollo"]} for n in range(3)]
    writer = threading.Thread(target=pipe.write_text, args=(json.dumps(rows),))
    writer.start()
    data = open_data(pipe, 2)
    writer.join()
    assert [question.id for question in data.questions] == ["0", "1"]
