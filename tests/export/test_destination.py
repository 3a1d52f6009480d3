"""Every source, revision and choice of variants has a folder of its own by default."""

from __future__ import annotations

import pytest

from fastspan.errors import InputError
from fastspan.export.destination import default_destination, main
from fastspan.export.options import ExportOptions

BUNDLED = "models/exported/minilm-l6-squad2"


@pytest.mark.parametrize(
    ("source", "options", "folder"),
    [
        ("models/minilm-l6-squad2", {}, BUNDLED),
        ("models/minilm-l6-squad2/", {}, BUNDLED),
        ("./models/minilm-l6-squad2", {}, BUNDLED),
        ("models/minilm-l6-squad2", {"variants": ("fp32",)}, "models/exported/models--minilm-l6-squad2-fp32"),
        ("models/minilm-l6-squad2", {"revision": "v1"}, "models/exported/models--minilm-l6-squad2@v1"),
        ("/x/minilm-l6-squad2", {}, "models/exported/x--minilm-l6-squad2"),
        ("deepset/tinyroberta-squad2", {}, "models/exported/deepset--tinyroberta-squad2"),
        ("other/tinyroberta-squad2/", {}, "models/exported/other--tinyroberta-squad2"),
        ("my models/a b//", {}, "models/exported/my_models--a_b"),
        ("../other/model", {}, "models/exported/up--other--model"),
        ("~/model", {}, "models/exported/home--model"),
        ("C:\\models\\mine", {}, "models/exported/C--models--mine"),
        ("x/y", {"revision": "refs/pr/1"}, "models/exported/x--y@refs--pr--1"),
        ("x/y", {"variants": ("fp32", "int8")}, "models/exported/x--y-fp32-int8"),
    ],
)
def test_every_choice_has_a_folder_of_its_own(source, options, folder):
    assert default_destination(source, ExportOptions(**options)).as_posix() == folder


def test_a_dot_is_named_for_its_folder(tmp_path, monkeypatch):
    (tmp_path / "my-model").mkdir()
    monkeypatch.chdir(tmp_path / "my-model")
    assert default_destination(".", ExportOptions()).as_posix() == "models/exported/my-model"


def test_no_other_model_takes_the_bundled_ones_folder():
    with pytest.raises(InputError, match="is kept for the checkpoint that comes with FastSpan"):
        default_destination("minilm-l6-squad2", ExportOptions())


def test_the_makefile_is_told(capsys):
    assert main(["x/y", "fp32,fp16,int8", ""]) == 0
    assert main(["x/y", "int8,fp32", "v1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "models/exported/x--y",
        "models/exported/x--y-fp32-int8@v1",
    ]
    assert main(["minilm-l6-squad2", "fp32,fp16,int8", ""]) == 1
    assert main(["x/y", "", ""]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("options", [{"variants": ()}, {"variants": ("int4",)}, {"threads": 0}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(InputError):
        ExportOptions(**options)
