"""The registry, with packages that are really installed: what works is there, what doesn't harms nobody else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.distributions import FORMAT, install, run_python

import quantrecipe
from quantrecipe import load_registry
from quantrecipe.errors import PluginError
from quantrecipe.missing_formats import explain_missing_format
from quantrecipe.plugin_loader import PluginInfo, PluginSource

RETURNS_HALF = """
@hookimpl
def quantrecipe_formats():
    return [Half()]
"""

LOAD = """
import json
from quantrecipe import load_registry
from quantrecipe.errors import PluginError
try:
    registry = load_registry()
    print(json.dumps({
        "formats": list(registry.formats),
        "analyses": list(registry.analyses),
        "folders": {prefix: str(folder) for prefix, folder in registry.recipe_folders.items()},
        "plugins": {p.distribution: [p.name, p.version, p.module, p.status, p.cause] for p in registry.plugins},
        "missing": {name: str(registry.missing_format(name)) for name in ("Q4_XYZ", "IQ4_KS", "HALF")},
    }))
except PluginError as error:
    print(json.dumps({"error": str(error)}))
"""


def load(site: Path) -> Any:
    return run_python(LOAD, site=site)


class TestBuiltIn:
    def test_comes_through_the_hooks(self) -> None:
        registry = load_registry(plugins=False)
        (builtin,) = registry.plugins
        assert (builtin.name, builtin.distribution, builtin.status) == ("builtin", "quantrecipe", "ok")
        assert builtin.version == quantrecipe.__version__
        assert set(builtin.formats) == set(registry.formats) >= {"F32", "F16", "BF16"}
        assert set(builtin.analyses) == set(registry.analyses) >= {"error", "imatrix"}

    def test_is_there_once_with_plugins(self) -> None:
        names = [(plugin.distribution, plugin.name) for plugin in load_registry().plugins]
        assert names.count(("quantrecipe", "builtin")) == 1

    def test_values_can_not_be_changed(self) -> None:
        registry = load_registry(plugins=False)
        with pytest.raises(TypeError):
            registry.formats["X"] = registry.formats["F32"]  # type: ignore[index]  # the point of the test

    def test_each_call_makes_its_own(self) -> None:
        assert load_registry(plugins=False) is not load_registry(plugins=False)

    def test_finds_specs_by_type_id(self) -> None:
        assert load_registry(plugins=False).by_ggml_type[30].name == "BF16"

    def test_ships_recipes(self) -> None:
        folders = load_registry(plugins=False).recipe_folders
        assert (folders["quantrecipe"] / "presets").is_dir()
        assert any(prefix.startswith("llama.cpp@") for prefix in folders)
        assert all(folder.is_dir() for folder in folders.values())


class TestChain:
    @pytest.mark.parametrize(
        ("fallbacks", "chain"),
        [
            ({"a": "b", "b": "c", "c": None}, ["a", "b", "c"]),
            ({"a": None}, ["a"]),
            ({}, []),
            ({"a": "b"}, ["a"]),  # b is of a plugin that isn't installed
            ({"a": "b", "b": "c", "c": "b"}, ["a", "b", "c"]),
            ({"a": "a"}, ["a"]),
        ],
    )
    def test_it_ends_where_it_comes_round(self, fallbacks: dict[str, str | None], chain: list[str]) -> None:
        formats: dict[str, Any] = {
            name: SimpleNamespace(spec=SimpleNamespace(name=name, fallback=fallback))
            for name, fallback in fallbacks.items()
        }
        registry = replace(load_registry(plugins=False), formats=formats)
        assert [fmt.spec.name for fmt in registry.chain("a")] == chain


class TestGoodPlugin:
    def test_adds_formats_analyses_and_recipes(self, tmp_path: Path) -> None:
        (tmp_path / "their_recipes").mkdir()
        install(
            tmp_path,
            "quantrecipe-good",
            FORMAT
            + """
from pathlib import Path
from quantrecipe.api import RecipeFolder, TensorAnalysis

class Nothing(TensorAnalysis):
    name = "nothing"
    summary = "always 0"

    def row_losses(self, rows, fmt, importance=None):
        return np.zeros(len(rows)), np.ones(len(rows))

@hookimpl
def quantrecipe_formats():
    yield Half()

@hookimpl
def quantrecipe_analyses():
    return [Nothing()]

@hookimpl
def quantrecipe_recipes():
    return [RecipeFolder(prefix="theirs", folder=Path(__file__).parent / "their_recipes")]
""",
            version="2.3",
            name="good",
        )
        found = load(tmp_path)
        assert found["plugins"]["quantrecipe-good"] == ["good", "2.3", "quantrecipe_good", "ok", ""]
        assert "HALF" in found["formats"]
        assert found["analyses"][-1] == "nothing"
        assert found["folders"]["theirs"] == str(tmp_path / "their_recipes")

    def test_is_not_imported_without_plugins(self, tmp_path: Path) -> None:
        install(tmp_path, "quantrecipe-good", FORMAT + RETURNS_HALF)
        code = """
            import json, sys
            from quantrecipe import load_registry
            formats = list(load_registry(plugins=False).formats)
            print(json.dumps(["HALF" in formats, "quantrecipe_good" in sys.modules]))
        """
        assert run_python(code, site=tmp_path) == [False, False]


ANALYSIS = """
from quantrecipe.api import Analysis, TensorAnalysis, hookimpl

class Nothing(TensorAnalysis):
    name = "nothing"
    summary = "always 0"

    def row_losses(self, rows, fmt, importance=None):
        return 0 * rows[:, 0], rows[:, 0] ** 2
"""
RETURNS_NOTHING = "@hookimpl\ndef quantrecipe_analyses():\n    return [Nothing()]"

BROKEN = {
    "raises at import": ("raise RuntimeError('no GPU here')", "RuntimeError: no GPU here"),
    "lacks a dependency": ("import not_there_at_all", "No module named 'not_there_at_all'"),
    "exits at import": ("import sys; sys.exit(3)", "sys.exit(3)"),
    "has a syntax error": ("def broken(:", "SyntaxError"),
    "hook takes an argument": (
        FORMAT + "@hookimpl\ndef quantrecipe_formats(config):\n    return [Half()]",
        "hooks take no arguments",
    ),
    "generator raises halfway": (
        FORMAT + "@hookimpl\ndef quantrecipe_formats():\n    yield Half()\n    raise ValueError('second')",
        "ValueError: second",
    ),
    "returns the class": (
        FORMAT + "@hookimpl\ndef quantrecipe_formats():\n    return [Half]",
        "returned the class Half; return an instance: Half()",
    ),
    "returns something else": (
        FORMAT + "@hookimpl\ndef quantrecipe_formats():\n    return ['HALF']",
        "'HALF', which is no QuantFormat",
    ),
    "returns no list": (
        FORMAT + "@hookimpl\ndef quantrecipe_formats():\n    return Half()",
        "return a list of QuantFormat objects",
    ),
    "forgets to return": (
        FORMAT + "@hookimpl\ndef quantrecipe_formats():\n    [Half()]",
        "quantrecipe_formats returned None",
    ),
    "misspells a hook": (
        FORMAT + "@hookimpl\ndef quantrecipe_fromats():\n    return [Half()]",
        "quantrecipe_fromats, which is no hook; did you mean quantrecipe_formats?",
    ),
    "forgets the marker": (
        FORMAT + "def quantrecipe_formats():\n    return [Half()]",
        "implements no hook",
    ),
    "returns a format twice": (
        FORMAT + "@hookimpl\ndef quantrecipe_formats():\n    return [Half(), Half()]",
        "format 'HALF' twice",
    ),
    "has an impossible block": (
        FORMAT.replace("block=1", "block=0") + RETURNS_HALF,
        "the numbers of format HALF make no sense",
    ),
    "has a name that recipes can't write": (
        FORMAT.replace('"HALF"', '"HALF SIZE"') + RETURNS_HALF,
        "'HALF SIZE' is no name",
    ),
    "has no spec": (FORMAT.replace("spec:", "other:") + RETURNS_HALF, "which is no FormatSpec"),
    "ships no recipes": (
        "from pathlib import Path\nfrom quantrecipe.api import RecipeFolder, hookimpl\n"
        "@hookimpl\ndef quantrecipe_recipes():\n    return [RecipeFolder(prefix='x', folder=Path('/nowhere'))]",
        "doesn't exist",
    ),
    "has an analysis of no kind": (
        ANALYSIS.replace("TensorAnalysis", "Analysis") + RETURNS_NOTHING,
        "neither a TensorAnalysis nor a ModelAnalysis",
    ),
    "has an analysis without a summary": (
        ANALYSIS.replace("summary =", "title =") + RETURNS_NOTHING,
        "analysis nothing has no summary",
    ),
    "is from the future": (
        "QUANTRECIPE_API = 99\n" + FORMAT + RETURNS_HALF,
        "version 99 of the plugin interface",
    ),
}


class TestBrokenPlugin:
    def test_each_way_is_recorded_and_harms_nobody_else(self, tmp_path: Path) -> None:
        """All at once, in one process, with a good one among them."""
        install(tmp_path, "quantrecipe-good", FORMAT + RETURNS_HALF)
        for number, (source, _) in enumerate(BROKEN.values()):
            install(tmp_path, f"quantrecipe-broken-{number}", source, version="0.9")
        found = load(tmp_path)
        assert found["plugins"]["quantrecipe"][3] == found["plugins"]["quantrecipe-good"][3] == "ok"
        assert {"F32", "HALF"} <= set(found["formats"])
        for number, (how, (_, cause)) in enumerate(BROKEN.items()):
            name, version, module, status, said = found["plugins"][f"quantrecipe-broken-{number}"]
            assert (name, version, module, status) == ("it", "0.9", f"quantrecipe_broken_{number}", "failed")
            assert cause in said, how

    def test_is_named_where_a_format_is_missed(self, tmp_path: Path) -> None:
        install(tmp_path, "quantrecipe-wreck", "raise RuntimeError('no GPU here')", version="0.4")
        missing = load(tmp_path)["missing"]["HALF"]
        assert "'it' of quantrecipe-wreck 0.4" in missing
        assert "no GPU here" in missing


class TestInterfaceVersion:
    """A plugin may be written for an older version, as long as that one is supported."""

    CODE = """
        import json
        from quantrecipe import api
        api.API_VERSION, api.OLDEST_API_VERSION = {newest}, {oldest}
        from quantrecipe import load_registry
        (found,) = [p for p in load_registry().plugins if p.distribution == "quantrecipe-good"]
        print(json.dumps([found.status, found.cause, found.notes]))
    """

    def found(self, site: Path, said: str, *, newest: int, oldest: int) -> Any:
        install(site, "quantrecipe-good", f"QUANTRECIPE_API = {said}\n" + FORMAT + RETURNS_HALF)
        return run_python(self.CODE.format(newest=newest, oldest=oldest), site=site)

    def test_of_an_older_version_loads_with_a_note(self, tmp_path: Path) -> None:
        status, _, notes = self.found(tmp_path, "2", newest=3, oldest=2)
        assert status == "ok"
        (note,) = notes
        assert note.startswith("it is written for version 2 of the plugin interface, and 3 is the newest")

    def test_of_the_newest_has_no_notes(self, tmp_path: Path) -> None:
        assert self.found(tmp_path, "3", newest=3, oldest=2) == ["ok", "", []]

    def test_of_one_that_is_no_longer_supported_is_refused(self, tmp_path: Path) -> None:
        status, cause, _ = self.found(tmp_path, "1", newest=3, oldest=2)
        assert status == "failed"
        assert "this quantrecipe has 3, and 2 at least; ask its author for a newer version" in cause

    def test_that_is_no_number_is_refused(self, tmp_path: Path) -> None:
        status, cause, _ = self.found(tmp_path, "'1.0'", newest=3, oldest=2)
        assert status == "failed"
        assert "QUANTRECIPE_API is '1.0'; write the number" in cause


class TestCollision:
    def test_of_format_names_names_both_plugins(self, tmp_path: Path) -> None:
        install(tmp_path, "quantrecipe-one", FORMAT + RETURNS_HALF)
        install(tmp_path, "quantrecipe-two", FORMAT.replace("901", "902") + RETURNS_HALF, version="7")
        error = load(tmp_path)["error"]
        assert "format 'HALF' is claimed by plugin 'it' of quantrecipe-one 1.0 and by" in error
        assert "plugin 'it' of quantrecipe-two 7" in error
        assert "pip uninstall quantrecipe-two" in error
        assert "--no-plugins" in error

    def test_with_a_built_in_format(self, tmp_path: Path) -> None:
        install(tmp_path, "quantrecipe-one", FORMAT.replace('"HALF"', '"BF16"') + RETURNS_HALF)
        error = load(tmp_path)["error"]
        assert "'builtin' of quantrecipe" in error
        assert "quantrecipe-one" in error

    def test_of_type_ids_in_one_dialect(self, tmp_path: Path) -> None:
        install(tmp_path, "quantrecipe-one", FORMAT + RETURNS_HALF)
        install(tmp_path, "quantrecipe-two", FORMAT.replace('"HALF"', '"HALB"') + RETURNS_HALF)
        assert "type id 901 of dialect 'test'" in load(tmp_path)["error"]

    def test_of_type_ids_in_two_dialects_is_none(self, tmp_path: Path) -> None:
        foreign = FORMAT.replace("901", "30")  # BF16's in mainline
        install(tmp_path, "quantrecipe-one", foreign + RETURNS_HALF)
        code = """
            import json
            from quantrecipe import load_registry
            registry = load_registry()
            print(json.dumps([registry.by_ggml_type[30].name, "HALF" in registry.formats]))
        """
        assert run_python(code, site=tmp_path) == ["BF16", True]


EXECUTOR = """
    from quantrecipe.api import Executor, hookimpl


    class Queue(Executor):
        name, summary = "queue", "a queue"

        def open(self, order):
            raise NotImplementedError


    @hookimpl
    def quantrecipe_executors():
        return [Queue()]
"""


class TestExecutors:
    CODE = """
        import json
        from quantrecipe import load_registry
        registry = load_registry()
        causes = [p.cause for p in registry.failed]
        print(json.dumps([sorted(registry.executors), [p.executors for p in registry.plugins], causes]))
    """

    def test_a_plugin_s_stand_beside_the_built_in_ones(self, tmp_path: Path) -> None:
        install(tmp_path, "quantrecipe-one", EXECUTOR)
        names, by_plugin, causes = run_python(self.CODE, site=tmp_path)
        assert (names, causes) == (["processes", "queue", "threads"], [])
        assert by_plugin == [["threads", "processes"], ["queue"]]

    @pytest.mark.parametrize(
        ("old", "new", "cause"),
        [
            (', "a queue"', ", None", "executor queue has no summary"),
            ('"queue",', "7,", "7 is no name for the executor of Queue"),
            ("[Queue()]", "[Queue]", "quantrecipe_executors returned the class Queue"),
            ("[Queue()]", "[Queue(), Queue()]", "it returns executor 'queue' twice"),
        ],
    )
    def test_what_is_wrong_with_one_is_told(self, tmp_path: Path, old: str, new: str, cause: str) -> None:
        install(tmp_path, "quantrecipe-one", EXECUTOR.replace(old, new))
        names, _, causes = run_python(self.CODE, site=tmp_path)
        assert names == ["processes", "threads"]
        assert cause in causes[0]

    def test_two_of_one_name_are_refused(self, tmp_path: Path) -> None:
        install(tmp_path, "quantrecipe-one", EXECUTOR)
        install(tmp_path, "quantrecipe-two", EXECUTOR)
        assert "executor 'queue' is claimed by plugin 'it' of quantrecipe-one" in load(tmp_path)["error"]


def plugin(distribution: str, status: Any = "ok", cause: str = "") -> PluginInfo:
    source = PluginSource(distribution=distribution, name="it", module="m", version="0.2")
    return PluginInfo(source=source, status=status, cause=cause)


def explain(name: str, *plugins: PluginInfo, plugins_on: bool = True) -> str:
    available = ("F32", "Q8_0", "Q4_K", "Q5_K")
    return str(explain_missing_format(name, available, plugins, plugins_on=plugins_on))


class TestMissingFormat:
    @pytest.mark.parametrize("typo", ["Q4K", "Q4-K", "4_K"])
    def test_typo(self, typo: str) -> None:
        said = explain(typo)
        assert said.startswith(f"there is no format {typo!r}; did you mean Q4_K")

    def test_case(self) -> None:
        assert "did you mean Q8_0? (names are case-sensitive)" in explain("q8_0")

    def test_plugin_that_is_not_installed(self) -> None:
        assert explain("IQ4_KS") == (
            "format 'IQ4_KS' is not available; it comes with quantrecipe-ik (not installed); "
            "pip install ./plugins/quantrecipe-ik in a clone of quantrecipe: it isn't on PyPI"
        )

    def test_plugin_that_failed(self) -> None:
        said = explain("IQ4_KS", plugin("quantrecipe_ik", "failed", "ImportError: no module x"))
        assert "it comes with quantrecipe-ik 0.2, which failed to load: ImportError: no module x" in said

    def test_plugin_that_is_too_old(self) -> None:
        assert "pip install --upgrade ./plugins/quantrecipe-ik in a clone" in explain(
            "IQ4_KS", plugin("quantrecipe-ik")
        )

    def test_plugins_switched_off(self) -> None:
        assert "leave out --no-plugins" in explain("IQ4_KS", plugins_on=False)
        assert "leave out --no-plugins" in explain("WHATEVER", plugins_on=False)

    @pytest.mark.parametrize("name", ["Q8_1", "Q8_K"])
    def test_run_time_types(self, name: str) -> None:
        assert "exists only at run time" in explain(name)

    def test_removed_types(self) -> None:
        assert "was removed from ggml" in explain("Q4_0_4_4")

    def test_mixtures(self) -> None:
        assert "extends: llama.cpp/Q4_K_M" in explain("Q4_K_M")

    def test_types_that_are_still_to_come(self) -> None:
        assert "ggml has it, this version of quantrecipe doesn't" in explain("IQ2_XXS")

    def test_nonsense(self) -> None:
        assert explain("WHATEVER") == "there is no format 'WHATEVER'; use one of F32, Q8_0, Q4_K, Q5_K"

    def test_registry_raises_it(self) -> None:
        with pytest.raises(PluginError, match="did you mean BF16"):
            load_registry(plugins=False).format("bf16")


def test_analyses_are_asked_for_by_name_and_kind() -> None:
    registry = load_registry(plugins=False)
    assert registry.tensor_analysis("imatrix").name == "imatrix"
    assert registry.model_analysis("probe").name == "probe"
    with pytest.raises(PluginError, match=r"there is no such analysis 'probe'; known are error, imatrix"):
        registry.tensor_analysis("probe")
    with pytest.raises(PluginError, match=r"there is no such analysis 'error'; known are .*probe"):
        registry.model_analysis("error")
