"""What a card says of memory, uses and origins, of models that are as large as real ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli.context import Context
from quantrecipe.cli.release.card import Facts, card_body
from quantrecipe.cli.release.charts import draw_losses, draw_spending
from quantrecipe.cli.release.front_matter import front_matter, origin_of
from quantrecipe.cli.release.job import Figures, Item, Job, Made, Measured
from quantrecipe.cli.release.modelfile import why_not_ollama
from quantrecipe.cli.release.parts import Opening
from quantrecipe.cli.release.uses import Uses, uses_of
from quantrecipe.gguf.values import GGUFValue
from quantrecipe.memory.device import Settings, reserved
from quantrecipe.memory.footprint import Room, Runs
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.model.pairs import text, texts
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry
from quantrecipe.release.record import Record
from quantrecipe.release.release import Release
from quantrecipe.release.release_file import parse_release
from quantrecipe.speed.clock import Pace

REGISTRY = load_registry(plugins=False)
GIB = 1 << 30
LOSSES = {"Q3_K_M": 0.08, "Q4_K_M": 0.03, "Q5_K_M": 0.012, "Q8_0": 0.001}


def release(text: str = "") -> Release:
    text = f"release: 1\nfiles: [Q8_0]\n{text}"
    return parse_release(text, file="release.yaml", folder=Path(), registry=REGISTRY)


def job(model: Model, text: str = "") -> Job:
    return Job(
        ctx=Context(plugins=False),
        release=release(text),
        registry=REGISTRY,
        model=model,
        opening=Opening(path=model.path, registry=REGISTRY),
        folder=Path("nowhere"),
        record=Record(Path("nowhere")),
    )


def items(model: Model, names: Mapping[str, float] = LOSSES) -> list[Item]:
    found = []
    for name in names:
        recipe = load_recipe(f"llama.cpp/{name}", registry=REGISTRY)
        plan = make_plan(recipe, model, registry=REGISTRY)
        wish = release().files[0]
        found.append(Item(wish=wish, label=name, name=f"m-{name}", part="model", recipe=recipe, plan=plan))
    return found


def figures(kld: float) -> Figures:
    return Figures(kld=kld, kld_error=kld / 50, kld_99=5 * kld, top1=0.9, perplexity=9.0, reference=8.9)


def measured(losses: Mapping[str, float] = LOSSES, **by_text: Mapping[str, float]) -> Measured:
    return Measured(
        files={
            f"m-{name}": (figures(kld), {text: figures(its[name]) for text, its in by_text.items()})
            for name, kld in losses.items()
        },
        chunks=dict.fromkeys(by_text, 10),
        n_ctx=512,
    )


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model("shapes/qwen3-14b", registry=REGISTRY)


@pytest.fixture(scope="module")
def its(model: Model) -> list[Item]:
    return items(model)


def picks(uses: Uses) -> dict[int, dict[str, str]]:
    return {
        take.card // GIB: {use: option.name.removeprefix("m-") for use, option in take.picks.items()}
        for take in uses.takes
    }


def test_memory_is_what_llama_cpp_would_take(model: Model, its: list[Item]) -> None:
    uses = uses_of(job(model, "memory: {context: 16k, kv: q8_0}\n"), its, measured())
    settings = Settings(context=16384, kv="q8_0")
    for it in its:
        tensors = [(a.tensor, a.nbytes) for a in it.plan.assignments]
        expected = Runs(model, Room(gpu=0, ram=0)).footprint(tensors, settings).gpu.total
        found = uses.memory[it.name]
        assert found.total == expected
        assert found.card is not None
        assert found.total + reserved(found.card) <= found.card
    cards = {name: it.card and it.card // GIB for name, it in uses.memory.items()}
    assert cards == {"m-Q3_K_M": 10, "m-Q4_K_M": 12, "m-Q5_K_M": 12, "m-Q8_0": 16}


def test_larger_cards_get_better_files(model: Model, its: list[Item]) -> None:
    uses = uses_of(job(model), its, measured())
    found = picks(uses)
    assert list(found) == sorted(found)
    assert {it["chat"] for it in found.values()} == {"Q4_K_M"}
    assert {it["code"] for it in found.values()} == {"Q8_0"}
    ways = {take.card // GIB: take.picks["code"].way for take in uses.takes}
    assert ways == {12: "some layers", 16: "gpu"}


def test_experts_may_stay_in_main_memory() -> None:
    moe = open_model("shapes/qwen3-30b-a3b", registry=REGISTRY)
    uses = uses_of(job(moe), items(moe), measured())
    assert uses.takes[0].picks["chat"].way == "experts beside it"
    assert uses.takes[-1].picks["code"].way == "gpu"
    assert all(it.picks["chat"].name == "m-Q4_K_M" for it in uses.takes)


def test_a_text_of_a_use_decides_for_it(model: Model, its: list[Item]) -> None:
    """On code, the 5-bit file is as good as the largest; in chats, 3 bits are enough."""
    code = LOSSES | {"Q5_K_M": 0.0005}
    chat = LOSSES | {"Q3_K_M": 0.04}
    found = picks(uses_of(job(model), its, measured(code=code, chats=chat)))
    assert found[max(found)]["code"] == "Q5_K_M"
    assert found[max(found)]["chat"] == "Q3_K_M"
    without = picks(uses_of(job(model), its, measured(prose=code)))
    assert without[max(without)] == picks(uses_of(job(model), its, measured()))[max(without)]


def test_without_measurements_estimates_decide(model: Model, its: list[Item]) -> None:
    uses = uses_of(job(model), its, Measured())
    assert uses.measured is False
    found = picks(uses)
    assert found[max(found)]["code"] == "Q8_0"


def test_the_context_is_no_longer_than_the_model_s(model: Model, its: list[Item]) -> None:
    trained = model.number("context_length")
    assert trained == 40960
    assert uses_of(job(model, "memory: {context: 128k}\n"), its[:1], Measured()).settings.context == trained
    assert uses_of(job(model), its[:1], Measured()).settings.context == 8192


def test_a_model_whose_caches_cannot_have_the_type(tmp_path: Path) -> None:
    """Its memory is left out, and nothing else."""
    write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1, heads=16, kv_heads=1), llama_metadata())
    narrow = open_model(tmp_path / "m.gguf", registry=REGISTRY)
    plans = items(narrow, {"Q8_0": 0.1})
    uses = uses_of(job(narrow, "memory: {kv: q4_0}\n"), plans, Measured())
    assert (uses.memory, list(uses.takes)) == ({}, [])
    assert uses_of(job(narrow), plans, Measured()).memory


def test_speed_where_it_was_measured(model: Model, its: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    assert uses_of(job(model), its, Measured()).paces == {}
    here = {"gpu": SimpleNamespace(where="a card, all layers")}
    monkeypatch.setattr("quantrecipe.cli.release.uses.speeds_here", lambda model: here)

    def pace(written: Model, mix: list[tuple[object, int, str]], speeds: object) -> Pace:
        unknown = any(type_ == "Q3_K" for _, _, type_ in mix)
        return Pace(token=None if unknown else 1e12 / sum(nbytes for _, nbytes, _ in mix), prompt=None)

    monkeypatch.setattr("quantrecipe.cli.release.uses.pace_here", pace)
    uses = uses_of(job(model), its, Measured())
    assert list(uses.paces) == ["m-Q4_K_M", "m-Q5_K_M", "m-Q8_0"]
    made = {it.name: Made(sums={f"{it.name}.gguf": "0"}) for it in its}
    facts = Facts(
        job=job(model),
        items=its,
        made=made,
        matrix=None,
        own_matrices={},
        measured=Measured(),
        uses=uses,
        origin=("", ""),
        charts=[],
        modelfiles=[],
        parts=[],
    )
    card = card_body(facts)
    rows = [line for line in card.splitlines() if line.startswith("| [m-")]
    assert [row.rstrip(" |").rpartition("| ")[2] for row in rows] == [
        "–",
        *(f"{uses.paces[name].token:.1f}" for name in ("m-Q4_K_M", "m-Q5_K_M", "m-Q8_0")),
    ]
    assert "Tokens/s: of answers, as measured on a card, all layers." in card
    assert "quantrecipe release MODEL release.yaml --to ." in card


def test_charts_are_pictures_and_always_the_same(model: Model, its: list[Item]) -> None:
    found = measured(code=LOSSES, prose=LOSSES)
    losses = draw_losses(its, found, model="$\\frac{1}{0}$ <b>")
    assert losses.startswith(b"\x89PNG")
    assert draw_losses(its, found, model="$\\frac{1}{0}$ <b>") == losses
    assert draw_spending(its, model="Qwen").startswith(b"\x89PNG")


def told(**metadata: GGUFValue) -> Model:
    model = open_model("shapes/qwen3-0.6b", registry=REGISTRY)
    named = {f"general.{key.replace('__', '.')}": value for key, value in metadata.items()}
    return replace(model, metadata={**model.metadata, **named})


def test_front_matter_from_the_model() -> None:
    model = told(
        license=text("other"),
        license__name=text("qwen"),
        license__link=text("https://x.y/LICENSE"),
        tags=texts(["chat", "text-generation"]),
        languages=texts(["en", "zh"]),
    )
    said = yaml.safe_load(front_matter(release(), model, ("", ""), imatrix=False))
    assert said == {
        "license": "other",
        "license_name": "qwen",
        "license_link": "https://x.y/LICENSE",
        "language": ["en", "zh"],
        "pipeline_tag": "text-generation",
        "tags": ["gguf", "quantized", "quantrecipe", "chat"],
    }


def test_what_the_release_says_goes_before() -> None:
    model = told(license=text("mit"), languages=texts(["en"]))
    wish = release(
        "license: apache-2.0\nlanguage: de\ntags: [mine, gguf]\nbase_model: a/b\nquantized_by: 'on: off'\n"
    )
    said = yaml.safe_load(front_matter(wish, model, origin_of(wish, model), imatrix=True))
    assert (said["license"], said["language"], said["base_model"]) == ("apache-2.0", ["de"], "a/b")
    assert (said["base_model_relation"], said["quantized_by"]) == ("quantized", "on: off")
    assert said["tags"] == ["gguf", "quantized", "quantrecipe", "imatrix", "mine"]


def test_where_a_model_on_the_hub_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123abcd" * 5
    file = SimpleNamespace(identity=f"owner/Name@{commit}/model.safetensors")
    monkeypatch.setattr("quantrecipe.cli.release.front_matter.remote_file", lambda path: file)
    assert origin_of(release(), replace(told(), files=(Path("x"),))) == ("owner/Name", commit)


def test_where_a_model_comes_from(tmp_path: Path) -> None:
    model = told(source__repo_url=text("https://huggingface.co/owner/Name"))
    assert origin_of(release(), model) == ("owner/Name", "")
    assert origin_of(release(), told(repo_url=text("https://example.com/owner/Name"))) == ("", "")
    folder = tmp_path / f"models--owner--Other/snapshots/{'0123abcd' * 5}"
    folder.mkdir(parents=True)
    cached = replace(model, path=folder)
    assert origin_of(release(), cached) == ("owner/Other", "0123abcd" * 5)
    assert origin_of(release("base_model: owner/Other\n"), cached) == ("owner/Other", "0123abcd" * 5)
    assert origin_of(release("base_model: me/Mine\n"), cached) == ("me/Mine", "")


def test_what_ollama_cannot_run(its: list[Item]) -> None:
    one, two = Made(sums={"a.gguf": "0"}), Made(sums={"a-1.gguf": "0", "a-2.gguf": "1"})
    assert why_not_ollama(its[0], one) == ""
    assert "it is split" in why_not_ollama(its[0], two)
