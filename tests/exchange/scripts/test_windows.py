"""Scripts of Windows' shells, and how they are told from those of others."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.scripts.script import calls_quantize, decoded, read_script


def words(text: str, file: str = "c.txt") -> list[list[str]]:
    return [[word.text for word in call.words] for call in read_script(text, file).calls]


@pytest.mark.parametrize(
    ("text", "dialect", "wanted"),
    [
        (
            r"C:\llama.cpp\bin\llama-quantize.exe --tensor-type blk\.0=q8_0 C:\m\in.gguf C:\m\o.gguf Q4_K_M",
            "cmd",
            ["--tensor-type", r"blk\.0=q8_0", r"C:\m\in.gguf", r"C:\m\o.gguf", "Q4_K_M"],
        ),
        (
            'llama-quantize.exe ^\r\n  --tensor-type "blk\\.(0|1)^x=q8_0" ^\r\n'
            '  "C:\\my m\\in.gguf" o.gguf Q4_0\r\n',
            "cmd",
            ["--tensor-type", r"blk\.(0|1)^x=q8_0", r"C:\my m\in.gguf", "o.gguf", "Q4_0"],
        ),
        (
            "llama-quantize.exe `\n  --tensor-type 'blk\\.0=q8_0' `\n  \"in `$x.gguf\" o`\"p.gguf Q4_0",
            "powershell",
            ["--tensor-type", r"blk\.0=q8_0", "in $x.gguf", 'o"p.gguf', "Q4_0"],
        ),
        (r'& "C:\Program Files\llama\llama-quantize.exe" in.gguf Q4_0', "powershell", ["in.gguf", "Q4_0"]),
        (r".\llama-quantize.exe in.gguf ..\o.gguf Q4_0 8 > l 2>&1", "cmd", ["in.gguf", r"..\o.gguf", "Q4_0", "8"]),
        (r'llama-quantize.exe "C:\m\\" o.gguf Q4_0 & pause', "cmd", ["C:\\m\\", "o.gguf", "Q4_0"]),
        (r'llama-quantize.exe "a\"b" ^"c^" 100%% Q4_0', "cmd", ['a"b', "c", "100%", "Q4_0"]),
        (r"\\server\share\llama-quantize in.gguf Q4_0", "cmd", ["in.gguf", "Q4_0"]),
        ("start \"\" /wait llama-quantize.exe in.gguf Q4_0", "cmd", ["in.gguf", "Q4_0"]),
        (
            'Start-Process -FilePath ".\\llama-quantize.exe" -ArgumentList "--pure", "in.gguf", "Q4_0" -Wait',
            "powershell",
            ["--pure", "in.gguf", "Q4_0"],
        ),
        (
            "Start-Process llama-quantize.exe -ArgumentList '--pure \"a b.gguf\" Q4_0'",
            "powershell",
            ["--pure", "a b.gguf", "Q4_0"],
        ),
        (r"PS C:\Users\me> .\llama-quantize.exe in.gguf Q4_0", "cmd", ["in.gguf", "Q4_0"]),
        (r"C:\Users\me>llama-quantize.exe in.gguf Q4_0", "sh", ["in.gguf", "Q4_0"]),
        ("$ ./llama-quantize in.gguf Q4_0", "sh", ["in.gguf", "Q4_0"]),
        ("!./llama.cpp/llama-quantize in.gguf Q4_0", "sh", ["in.gguf", "Q4_0"]),
        ("./llama-quantize.exe \\\n  'C:/m/in.gguf' Q4_0", "sh", ["C:/m/in.gguf", "Q4_0"]),
    ],
)  # fmt: skip
def test_one_command(text: str, dialect: str, wanted: list[str]) -> None:
    script = read_script(text, "c.txt")
    assert words(text) == [wanted]
    assert script.dialect == dialect or dialect == "sh"


def test_a_batch_file() -> None:
    text = (
        "@echo off\r\nrem llama-quantize a b Q4_0\r\n:: llama-quantize a b Q4_0\r\nset MODEL=C:\\m\\a b\r\n"
        'set "OUT=o"\r\nfor %%q in (Q4_K_M, Q5_K_M) do (\r\n  echo %%q\r\n  llama-quantize.exe ^\r\n'
        '    --imatrix "%IM%" "%MODEL%.gguf" ^\r\n    %OUT%-%%q.gguf %%q > log 2>&1\r\n)\r\n'
        'if not exist "x y.gguf" (\r\n  llama-quantize a %1 Q4_0\r\n) else llama-quantize b c Q5_0\r\n'
        "convert.py & llama-quantize d e Q6_K || exit /b 1\r\n"
    )
    script = read_script(text, "release.bat")
    assert script.dialect == "cmd"
    found = words(text)
    assert found[0] == ["--imatrix", "%IM%", r"C:\m\a b.gguf", "o-Q4_K_M.gguf", "Q4_K_M"]
    assert found[1][-2:] == ["o-Q5_K_M.gguf", "Q5_K_M"]
    assert found[2:] == [["a", "%1", "Q4_0"], ["b", "c", "Q5_0"], ["d", "e", "Q6_K"]]
    assert script.calls[0].words[1].missing == ("%IM%",)
    assert script.calls[2].words[1].missing == ("%1",)
    assert [call.line for call in script.calls] == [8, 8, 13, 14, 15]
    assert script.others == (("convert.py", 15),)


def test_what_is_set_in_several_ways_is_not_known() -> None:
    script = read_script("set Q=Q4_0\nif exist x set Q=Q5_0\nllama-quantize a %Q%\n", "c.bat")
    assert script.calls[0].words[1].missing == ("%Q%",)
    script = read_script("$q = 'a'\nif ($x) { $q = 'b' }\nllama-quantize a $q\n", "c.ps1")
    assert script.calls[0].words[1].missing == ("$q",)


def test_what_a_line_of_powershell_sets_the_next_one_knows() -> None:
    script = read_script(
        '$type = "q8_0"\n$rule = "attn_v=$type"\n'
        'llama-quantize --tensor-type "$rule" --tensor-type "ffn_up=$type" in.gguf out.gguf Q4_K_M; $type = "q6_K"\n'
        'llama-quantize "$type" out.gguf Q4_K_M',
        "quantize.ps1",
    )
    first, second = ([word.text for word in call.words] for call in script.calls)
    assert first[:4] == ["--tensor-type", "attn_v=q8_0", "--tensor-type", "ffn_up=q8_0"]
    assert second[0] == "q6_K"


def test_a_script_of_powershell() -> None:
    text = r"""
# llama-quantize a b Q4_0
<# llama-quantize
   a b Q4_0 #>
$models = "D:\models"
$options = @("--imatrix", "$models\im.dat",
             '--pure')
$rules = @'
# attention
blk\..*\.attn_v=q8_0
'@
foreach ($q in 'Q4_K_M', 'Q5_K_M') {
  & "$models\bin\llama-quantize.exe" @options `
    --custom-q (@('a=b', 'c=d') -join ',') `
    "$models\in.gguf" "$models\out-$q.gguf" $q
}
"Q8_0" | ForEach-Object { llama-quantize "$env:USERPROFILE\in.gguf" $_ }
function q { llama-quantize in.gguf Q4_0 }
llama-quantize $(Get-Item in.gguf) @more Q5_0; python convert.py
"""
    script = read_script(text, "release.txt")
    assert script.dialect == "powershell"
    found = words(text)
    assert found[0] == [
        *("--imatrix", r"D:\models\im.dat", "--pure", "--custom-q", "a=b,c=d", r"D:\models\in.gguf"),
        *(r"D:\models\out-Q4_K_M.gguf", "Q4_K_M"),
    ]
    assert found[1][-1] == "Q5_K_M"
    assert found[2:4] == [[r"$env:USERPROFILE\in.gguf", "Q8_0"], ["in.gguf", "Q4_0"]]
    assert script.calls[4].words[0].missing == ("$(Get-Item in.gguf)",)
    assert script.calls[4].words[1].missing == ("@more",)
    assert script.others == (("python", 19),)
    assert script.notes == ((9, "# attention\nblk\\..*\\.attn_v=q8_0"),)
    assert [word.line for word in script.calls[0].words][-3:] == [15, 15, 15]


@pytest.mark.parametrize(
    ("text", "file", "cut"),
    [
        (
            "llama-quantize.exe ^\n --pure ^ \n in.gguf Q4_0",
            "c.bat",
            "a space stands behind the ^ at the end of line 2",
        ),
        (
            "llama-quantize.exe `\n --pure ` \n in.gguf Q4_0",
            "c.ps1",
            "a space stands behind the ` at the end of line 2",
        ),
    ],
)
def test_why_a_command_ends_early(text: str, file: str, cut: str) -> None:
    (call,) = read_script(text, file).calls
    assert call.cut.startswith(cut)


@pytest.mark.parametrize(
    ("text", "file", "what"),
    [
        ('llama-quantize "a b', "c.bat", 'c.bat:1: the quotation " is opened here'),
        ("\nllama-quantize 'a b", "c.ps1", "c.ps1:2: the quotation ' is opened here"),
        ("$a = @(1", "c.ps1", "c.ps1:1: the bracket @( is opened here"),
        ("$a = @'\nx", "c.ps1", "c.ps1:1: the text @' is opened here"),
    ],
)
def test_what_is_not_closed(text: str, file: str, what: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_script(text, file)
    assert what in str(caught.value)


def test_only_code_of_a_page_is_read() -> None:
    page = "# Model\nIt's made with llama-quantize a b.\n\n```bash\nllama-quantize a b Q4_0\n```\n\nDon't.\n"
    script = read_script(page, "README.md")
    assert [call.line for call in script.calls] == [5]


@pytest.mark.parametrize(
    "data",
    [
        "llama-quantize a Q4_0\r\n".encode("utf-16"),
        b"\xfe\xff" + "llama-quantize a Q4_0".encode("utf-16-be"),
        b"\xef\xbb\xbfllama-quantize a Q4_0\n",
        b"llama-quantize a Q4_0",
    ],
)
def test_files_as_windows_writes_them(data: bytes) -> None:
    assert words(decoded(data)) == [["a", "Q4_0"]]


def test_lists_are_no_scripts() -> None:
    assert calls_quantize("x\n./build/bin/llama-quantize a b\n")
    assert calls_quantize('"C:\\x\\llama-quantize.exe" a b')
    assert not calls_quantize("# llama-quantize a b\nblk.0=q8_0\n")
    assert not calls_quantize("quantized_by=q8_0\n")


PARTS = (
    *(
        "llama-quantize ",
        "set a=",
        "%a%",
        "%%q",
        "for %%q in (a b) do ",
        "if exist x ",
        "(",
        ")",
        "else ",
        "^",
        "\n",
        '"',
        "&",
    ),
    *(
        "$a",
        " = ",
        "@(",
        "'",
        "`",
        "{",
        "}",
        "foreach ($q in ",
        "-join ",
        ",",
        "@'\n",
        "\n'@",
        "$(",
        "|",
        ";",
        "#",
        "<#",
        ">",
    ),
)


@settings(max_examples=examples(300), deadline=None)
@given(
    st.lists(st.sampled_from(PARTS), max_size=25).map("".join), st.sampled_from(("c.bat", "c.ps1", "c.txt"))
)
def test_any_script_is_read_or_refused(text: str, file: str) -> None:
    try:
        read_script(text, file)
    except RecipeError as error:
        assert str(error)


@pytest.mark.parametrize(
    "before",
    [
        'if exist "a(b" (\n  echo x\n)\n',
        'if exist x (\n  echo "("\n)\n',
        "echo (\nif exist x echo y\n",
        "if exist x (\n  for %%q in (1 2) do (\n    echo %%q\n  )\n)\n",
    ],
)
def test_commands_behind_a_block_stand_alone(before: str) -> None:
    """A bracket counts outside of quotes, and each command has its own."""
    text = f"{before}llama-quantize a.gguf Q4_0\nllama-quantize b.gguf Q5_0\n"
    assert words(text, "c.bat") == [["a.gguf", "Q4_0"], ["b.gguf", "Q5_0"]]
