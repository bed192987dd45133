"""Tables and paragraphs: nothing is lost, nothing looks alike, nothing is longer than a line."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.text import Text

from quantrecipe.cli.context import UNLIMITED
from quantrecipe.cli.tables import Kind, Paragraph, Table, shared_parts, shorten, within_folder
from quantrecipe.cli.tables.markup import breakable, html_of, html_table, markdown_table


def shown(what: RenderableType, width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, soft_wrap=True, highlight=False).print(what)
    return file.getvalue().splitlines()


FILES = [
    f"out/Qwen3-30B-A3B-Instruct-2507-{kind}-imatrix.gguf" for kind in ("Q4_K_M", "IQ4_XS", "UD-Q4_K_XL")
]
LETTERS = st.text("abc語é-_. ", min_size=1, max_size=40).map(str.strip).filter(bool)


class TestTable:
    def test_what_fits_is_whole(self) -> None:
        table = Table({"type": "word", "size": "number"}, [("Q4_K", "9 B"), (("IQ4_XS", "bold"), "10 B")])
        assert shown(table, 80) == ["type    size", "────────────", "Q4_K     9 B", "IQ4_XS  10 B", ""]

    def test_without_headings_it_is_rows_alone(self) -> None:
        assert shown(Table(("word", "text"), [("a", "x y"), ("bc", "z")]), 80) == ["a   x y", "bc  z"]

    def test_what_names_share_is_said_once(self) -> None:
        table = Table({"file": "name", "size": "number"}, [(file, "123.45 MiB") for file in FILES])
        lines = shown(table, 54)
        said = "file: out/Qwen3-30B-A3B-Instruct-2507-*-imatrix.gguf; below is what stands for *"
        assert " ".join(" ".join(lines[:2]).split()) == said
        assert [line.split()[0] for line in lines[4:7]] == ["Q4_K_M", "IQ4_XS", "UD-Q4_K_XL"]

    def test_headings_wrap_before_anything_else(self) -> None:
        rows = [("blk.61.ffn_gate_inp_shexp.weight", "4.50", "91.23")]
        table = Table({"tensor": "name", "bits/weight": "number", "same top-1 %": "number"}, rows)
        assert shown(table, 49)[:4] == [
            *(
                "                                   bits/     same",
                "tensor                            weight  top-1 %",
            ),
            "─" * 49,
            "blk.61.ffn_gate_inp_shexp.weight    4.50    91.23",
        ]

    def test_a_text_without_room_stands_below_its_row(self) -> None:
        path = "recipes/mine.yaml:14 (x y)"
        table = Table({"tensor": "name", "size": "number", "decided by": "text"}, [("attn_q", "1 B", path)])
        assert shown(table, 37) == [
            "tensor  size",
            "    decided by",
            "────────────",
            "attn_q   1 B",
            f"    {path}",
            "",
        ]

    def test_a_text_stands_where_it_takes_fewer_lines(self) -> None:
        long, short = "word " * 20, "word"
        assert (
            len(shown(Table({"recipe": "word", "why": "text"}, [("r" * 30, long)] * 3), 60)) == 3 + 3 * 3 + 1
        )
        assert (
            len(shown(Table({"recipe": "word", "why": "text"}, [("r" * 30, short)] * 3 + [("", long)]), 60))
            == 10
        )

    def test_what_does_not_fit_follows_below_with_the_columns_that_tell_rows_apart(self) -> None:
        rows = [("ffn_down", "0", "1" * 12, "2" * 12), ("ffn_down", "1", "3" * 12, "4" * 12)]
        columns = {"tensor": "name", "layer": "number", "first": "number", "second": "number"}
        lines = shown(Table(columns, rows), 34)
        assert [line.split() for line in lines] == [
            *(
                ["tensor", "layer", "first"],
                ["─" * 29],
                ["ffn_down", "0", "1" * 12],
                ["ffn_down", "1", "3" * 12],
                [],
            ),
            *(
                ["tensor", "layer", "second"],
                ["─" * 29],
                ["ffn_down", "0", "2" * 12],
                ["ffn_down", "1", "4" * 12],
                [],
            ),
        ]

    def test_a_heading_longer_than_the_terminal_is_folded(self) -> None:
        lines = shown(Table({"": "word", "x" * 70: "number"}, [("median", "1")]), 40)
        assert sum(line.count("x") for line in lines) == 70
        assert max(map(len, lines)) <= 40

    def test_an_empty_column_is_no_text_below(self) -> None:
        assert shown(Table(("word", "text"), [("", "why"), ("", "not")]), 80) == ["   why", "   not"]

    def test_a_table_without_rows_is_its_headings(self) -> None:
        assert shown(Table({"file": "name", "why": "text"}, []), 80) == ["file  why", "─────────", ""]

    def test_in_a_pipe_a_row_is_a_line_and_ends_with_its_text(self) -> None:
        rows = [("n" * 300, Text("one\ntwo"), "w " * 300), ("m", "", "")]
        lines = shown(Table({"file": "name", "layers": "list", "why": "text"}, rows), UNLIMITED)
        assert lines[2:4] == [f"{'n' * 300}  one; two  {'w ' * 299}w", "m"]
        assert len(lines) == 5
        assert len(lines[1]) < 330

    def test_wide_characters_stay_in_line(self) -> None:
        lines = shown(Table({"model": "name", "size": "number"}, [("日本語", "1 B"), ("abc", "10 B")]), 80)
        assert [cell_len(line) for line in lines[:4]] == [12, 12, 12, 12]

    def test_nothing_from_a_file_drives_the_terminal(self) -> None:
        assert "\x1b" not in "".join(shown(Table({"a\x1b[31m": "word"}, [("\x1b[2J",)]), 80))

    @given(
        st.lists(
            st.tuples(LETTERS, LETTERS, LETTERS, LETTERS),
            min_size=1,
            max_size=5,
            unique_by=lambda row: row[0],
        ),
        st.integers(24, 120),
    )
    def test_no_line_is_too_long_and_no_character_is_lost(
        self, rows: list[tuple[str, str, str, str]], width: int
    ) -> None:
        columns = {"list": "list", "name": "name", "another": "name", "text": "text"}
        lines = shown(Table(columns, rows), width)
        assert max(map(cell_len, lines)) <= width
        if not any("…" in line or "below is what stands for" in line for line in lines):
            output = "".join("".join(lines).split())
            for row in rows:
                for cell in row:
                    assert all(letter in output for letter in cell.replace(" ", ""))


class TestNames:
    @pytest.mark.parametrize(
        ("names", "shared"),
        [
            (FILES, ("out/Qwen3-30B-A3B-Instruct-2507-", "-imatrix.gguf")),
            (["model.gguf", "model-2.gguf"], ("", ".gguf")),
            (["a/model.gguf", "b/model.gguf"], ("", "/model.gguf")),
            (["m-Q4_K_M", "m-Q5_K_M"], ("m-", "")),
            (["a-b", "a-b-c"], ("a-", "")),
            (["a-", "a-b"], ("", "")),
            (["one.gguf", "one.gguf"], ("", "")),
            ([], ("", "")),
        ],
    )
    def test_what_all_share_in_whole_words(self, names: list[str], shared: tuple[str, str]) -> None:
        assert shared_parts(names) == shared

    def test_the_middle_gives_way(self) -> None:
        assert shorten(["blk.61.ffn_gate_inp_shexp.weight", "output"], 16) == ["blk.61.f….weight", "output"]
        assert shorten(["日本語日本語日本語"], 8) == ["日本…語"]

    def test_what_differs_is_kept_wherever_it_is(self) -> None:
        for at in range(1, 30):
            names = ["x" * at + letter + "x" * (30 - at) for letter in "ab"]
            short = shorten(names, 16)
            assert short is None or len(set(short)) == 2
        assert shorten(["x" * 15 + letter + "x" * 15 for letter in "ab"], 12) is None

    @given(st.lists(LETTERS, min_size=1, max_size=6), st.integers(4, 30))
    def test_short_names_fit_and_differ(self, names: list[str], width: int) -> None:
        short = shorten(names, width)
        assert short is None or (
            max(map(cell_len, short)) <= width
            and len(set(short)) == len(set(names))
            and len(short) == len(names)
        )

    def test_names_that_can_not_be_cut_are_whole_on_several_lines(self) -> None:
        names = ["x" * 25 + letter + "x" * 25 for letter in "ab"]
        lines = shown(Table({"file": "name", "size": "number"}, [(name, "1 B") for name in names]), 30)
        assert sum(line.count("a") + line.count("b") for line in lines[2:]) == 2
        assert "…" not in "".join(lines)

    def test_files_are_named_from_the_folder_that_they_share(self) -> None:
        assert within_folder([Path("out/a.gguf"), Path("out/b.gguf")]) == ("out", ["a.gguf", "b.gguf"])
        assert within_folder([Path("a/m.gguf"), Path("b/m.gguf")]) == ("", ["a/m.gguf", "b/m.gguf"])
        assert within_folder([Path("/x/a/m"), Path("b/m")]) == ("", ["/x/a/m", "b/m"])
        assert within_folder([Path("/x/a/m"), Path("/x/b/m")]) == ("/x", ["a/m", "b/m"])
        assert within_folder([]) == ("", [])


class TestParagraph:
    def test_lines_end_between_words_and_are_indented(self) -> None:
        assert shown(Paragraph("error: one two three four"), 14) == ["error: one two", "  three four"]

    def test_a_pipe_has_one_line(self) -> None:
        assert shown(Paragraph("word " * 400), UNLIMITED) == [("word " * 400).rstrip()]

    @pytest.mark.parametrize(
        "command",
        ["`quantrecipe inspect MODEL`", "pip install 'quantrecipe[plots]'", "pip install quantrecipe-ik"],
    )
    def test_commands_are_not_broken(self, command: str) -> None:
        for width in range(8, 60):
            assert command in "\n".join(shown(Paragraph(f"it isn't here; run {command} to have it"), width))

    def test_a_path_with_spaces_is_not_broken(self) -> None:
        path = "a folder/of mine/a recipe.yaml:12"
        for width in range(8, 60):
            assert path in "\n".join(shown(Paragraph(f"error: {path}: no such type", whole=path), width))

    def test_a_stray_backtick_is_a_letter(self) -> None:
        assert shown(Paragraph("a ` b c"), 5) == ["a ` b", "  c"]


class TestOtherForms:
    def test_a_line_across_stands_between_the_rows(self) -> None:
        table = Table(
            {"a": "word", "b": "number"}, [("x", "1"), Paragraph("across all", start=2), ("y", "20")]
        )
        assert shown(table, 40) == ["a   b", "─────", "x   1", "  across all", "y  20", ""]

    def test_within_a_text_there_is_no_rule(self) -> None:
        assert shown(Table({"a": "word", "b": "number"}, [("x", "1")], ruled=False), 40) == ["a  b", "x  1"]

    def test_spare_columns_go_first_and_in_their_order(self) -> None:
        columns: dict[str, Kind] = {"a": "word", "long one": "word", "long two": "word"}
        table = Table(columns, [("x", "y" * 8, "z" * 8)], ruled=False, spare=("long two", "long one"))
        assert shown(table, 21) == ["a  long one  long two", "x  yyyyyyyy  zzzzzzzz"]
        assert shown(table, 20) == ["a  long one", "x  yyyyyyyy"]
        assert shown(table, 10) == ["a", "x"]

    def test_markdown(self) -> None:
        columns: dict[str, Kind] = {"name": "name", "size": "number", "said": "text", "by": "code"}
        table = Table(
            columns,
            [("a|b", "1", ("*no*", "red"), "x.yaml:1"), Paragraph("not shown"), ("", "2", "@me", "`")],
        )
        assert markdown_table(table).splitlines() == [
            "| name | size | said | by |",
            "| --- | ---: | --- | --- |",
            "| `a\\|b` | 1 | **\\*no\\*** | `x.yaml:1` |",
            "|  | 2 | @\u200bme | `'` |",
        ]

    def test_html_shows_what_is_in_a_file_as_text(self) -> None:
        table = Table({"name": "name", "size": "number"}, [("<b>", "1"), Paragraph("a & b")])
        assert html_table(table).splitlines() == [
            "<table>",
            '<thead><tr><th scope="col">name</th><th scope="col" class="number">size</th></tr></thead>',
            "<tbody>",
            '<tr><td>&lt;b&gt;</td><td class="number">1</td></tr>',
            '<tr><td colspan="2">a &amp; b</td></tr>',
            "</tbody></table>",
        ]

    def test_html_says_what_a_table_is_and_what_its_rows_are_about(self) -> None:
        table = Table({"": "name", "why": "text"}, [("a", "b")])
        assert html_table(table, caption="1 < 2", row_headings=True).splitlines() == [
            "<table><caption>1 &lt; 2</caption>",
            '<thead><tr><td></td><th scope="col" class="text">why</th></tr></thead>',
            "<tbody>",
            '<tr><th scope="row">a</th><td class="text">b</td></tr>',
            "</tbody></table>",
        ]

    def test_html_of_what_a_command_shows(self) -> None:
        second = Table({"x": "word"}, [("  f",)])
        tables = Table(("word",), [("e",)]), Table(("word",), []), second
        shown = Group(Text("a < b"), Group(Paragraph("c & d"), Text()), *tables)
        assert html_of(shown, caption="it's").splitlines() == [
            "<p>a &lt; b</p>",
            "<p>c &amp; d</p>",
            '<div class="wide" role="region" aria-label="it&#x27;s" tabindex="0"><table><caption>it&#x27;s</caption>',
            "<tbody>",
            "<tr><td>e</td></tr>",
            "</tbody></table></div>",
            '<div class="wide" role="region" aria-label="it&#x27;s (2)" tabindex="0">'
            "<table><caption>it&#x27;s (2)</caption>",
            '<thead><tr><th scope="col">x</th></tr></thead>',
            "<tbody>",
            "<tr><td>\N{NO-BREAK SPACE}\N{NO-BREAK SPACE}f</td></tr>",
            "</tbody></table></div>",
        ]
        with pytest.raises(TypeError, match="str has no HTML"):
            html_of("a text that nobody wrapped", caption="c")

    def test_a_long_name_may_end_a_line_behind_each_of_its_parts(self) -> None:
        assert breakable("blk.0.ffn_<b>__x") == "blk.<wbr>0.<wbr>ffn_<wbr>&lt;b&gt;__<wbr>x"
        long, short = "a_name_of_more_than_twenty_letters", "a_short_name"
        shown = html_table(Table(("name",), [(long,), (short,)]))
        assert breakable(long) in shown
        assert f"<td>{short}</td>" in shown
