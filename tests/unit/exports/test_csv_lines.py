"""Tables that run nothing."""

from __future__ import annotations

import csv
import io

import pytest

from services.exports import csv_lines


def read(line: bytes) -> list[str]:
    [values] = csv.reader(io.StringIO(line.decode(), newline=""))
    return values


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "＠x", '=HYPERLINK("http://x.example")'],
)
def test_text_that_would_be_a_formula_is_text(text):
    [cell] = read(csv_lines.line([text]))
    assert (cell[0], cell.replace("'", "")) == ("'", text)


@pytest.mark.parametrize(
    "text", ["x;=1+1", "x; @SUM(A1)", 'x;"=1+1', 'x;""=1+1"', "x\t=1", "x\r\n+1", "x;＝1", 'x;=1,"y"', "x;;\t;-1;=2"]
)
def test_nor_does_a_formula_begin_where_other_countries_separate_cells(text):
    line = csv_lines.line(["first", text, "last"]).decode("utf-8")
    for separator in ";\t":
        for cells in csv.reader(io.StringIO(line, newline=""), delimiter=separator):
            assert not [cell for cell in cells[1:] if cell.lstrip(' "').startswith(tuple("=+-@＝＋－＠"))], cells
    assert read(line.encode())[1].replace("'", "") == text


@pytest.mark.parametrize("text", ["A film", "", "a=b", "'quoted'", 'says "x", then\r\ny', "日本 🎬", "1-2", "a;b"])
def test_other_text_comes_back_as_it_was(text):
    assert read(csv_lines.line(["x", text])) == ["x", text]


def test_numbers_are_numbers_and_nothing_is_nothing():
    assert csv_lines.line([-1, 0.5, -0.25, None, 7]) == b"-1,0.5,-0.25,,7\r\n"
