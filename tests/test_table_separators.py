"""Tables that are not separated by commas, and spreadsheets, are refused with what to do."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from datasets_io.errors import BadValues, UserError
from datasets_io.sources.catalogue import resolve_source
from datasets_io.sources.tabular import Table

TEXT = "obs;actions;rewards;episode\n0.1;1,5;1;a\n0.2;2,5;2;a\n"


@pytest.mark.parametrize(
    ("text", "named"), [(TEXT, "';'"), (TEXT.replace(",", ".").replace(";", "\t"), "tabs")]
)
def test_the_line_converts_a_table_with_another_separator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log.csv").write_text(text)
    with pytest.raises(BadValues, match=f"log.csv is separated by {named}") as refused:
        [*Table().episodes("log.csv")]
    assert refused.value.expected == "Expected: commas."
    words = shlex.split(refused.value.try_)
    subprocess.run([sys.executable, *words[1:]], check=True)
    (episode,) = Table().episodes("log-commas.csv")
    assert episode.obs.ravel().tolist() == [0.1, 0.2]
    assert episode.actions.ravel().tolist() == [1.5, 2.5]


def test_a_name_with_a_semicolon_among_commas_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("obs;x,actions,rewards,episode\n0,1,1,a\n")
    (episode,) = Table({"obs": "obs;x"}).episodes(tmp_path / "log.csv")
    assert episode.length == 1


@pytest.mark.parametrize("words", [("heater 1.xlsx",), ("mine", "heater 1.xlsx")])
def test_a_spreadsheet_is_to_be_saved_as_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("heater 1.xlsx").write_bytes(b"PK")
    with pytest.raises(UserError, match="Save it as CSV") as refused:
        resolve_source(*words)
    assert refused.value.try_ == "off2on data add 'heater 1.csv' …"
