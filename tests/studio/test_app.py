"""The studio's routes: what they answer, and what keeps strangers out."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from support.pages import read_page
from support.studio import PORT, TOKEN, Page, size_goal

from quantrecipe import __version__
from quantrecipe.cli import main
from quantrecipe.recipe.budget import KV_TYPES
from quantrecipe.studio.app import MAX_BODY, TOKEN_HEADER

ROUTES = {
    "model": {"model": "shapes/qwen3-0.6b"},
    "move": {"model": "m1", "goal": {"kind": "bits", "value": 5}},
    "freeze": {"model": "m1", "goal": {"kind": "bits", "value": 5}},
    "recipe": {"model": "m1", "text": "quantrecipe: 1"},
    "complete": {"model": "m1", "text": "", "line": 1, "column": 1},
    "download": {"model": "m1", "text": "quantrecipe: 1", "what": "recipe"},
}
"""A request for each route that takes one."""

EXAMPLE = Path(__file__).parents[2] / "examples/tiny-code"
Shared = tuple[Page, dict[str, Any]]
Output = pytest.CaptureFixture[str]


class TestStrangers:
    @pytest.mark.parametrize("name", ["start", *ROUTES])
    @pytest.mark.parametrize("headers", [{}, {TOKEN_HEADER: "the-tokeN"}, {TOKEN_HEADER: "clé"}], ids=str)
    def test_data_needs_the_token(self, page: Page, name: str, headers: dict[str, str]) -> None:
        sent = {key: value.encode() for key, value in headers.items()}
        response = (
            page.client.get("/api/start", headers=sent)
            if name == "start"
            else page.client.post(f"/api/{name}", json=ROUTES[name], headers=sent)
        )
        assert response.status_code == 403
        assert "token" in response.json()["error"]["message"]

    def test_two_tokens_are_none(self, page: Page) -> None:
        response = page.client.get("/api/start", headers=[(TOKEN_HEADER, TOKEN), (TOKEN_HEADER, TOKEN)])
        assert response.status_code == 403

    @pytest.mark.parametrize("path", ["/", "/static/shades.css", "/api/start"])
    @pytest.mark.parametrize(
        "host",
        ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", f"0.0.0.0:{PORT}"],
    )
    def test_other_hosts_are_refused(self, page: Page, path: str, host: str) -> None:
        """A name that a stranger's server resolves to 127.0.0.1."""
        response = page.get(path, Host=host)
        assert response.status_code == 403
        assert response.json()["error"]["remedy"] == f"open http://127.0.0.1:{PORT}"

    @pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}"])
    def test_both_names_of_this_machine(self, page: Page, host: str) -> None:
        assert page.get("/api/start", Host=host, Origin=f"http://{host}").status_code == 200

    @pytest.mark.parametrize(
        "origin",
        ["https://evil.example", "null", f"https://127.0.0.1:{PORT}", f"http://localhost:{PORT}", ""],
    )
    def test_other_origins_are_refused(self, page: Page, origin: str) -> None:
        response = page.get("/api/start", Origin=origin)
        assert response.status_code == 403
        assert response.json()["error"]["message"] == "the request comes from another page"

    def test_no_page_elsewhere_may_read_or_ask_first(self, page: Page) -> None:
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        response = page.client.options("/api/model", headers=asked)
        assert response.status_code == 403
        assert not [name for name in response.headers if name.startswith("access-control")]

    @pytest.mark.parametrize(
        "path", ["/?token=the-token", "/", "/static/shades.css", "/api/start", "/nowhere"]
    )
    def test_every_answer_says_what_browsers_may_do(self, page: Page, path: str) -> None:
        headers = page.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers

    @pytest.mark.parametrize("query", ["", "?token=", "?token=the-toke", "?token=the-token2", "?token=%FF"])
    def test_the_page_opens_with_its_token_alone(self, page: Page, query: str) -> None:
        response = page.client.get(f"/{query}")
        assert response.status_code == 403
        assert "the address that" in response.text
        assert "the-token" not in response.text
        assert read_page(response.text).problems == []

    @pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd"])
    def test_static_files_are_those_of_the_page(self, page: Page, path: str) -> None:
        assert page.client.get(path).status_code == 404


class TestRequests:
    @pytest.mark.parametrize("name", ROUTES)
    def test_a_body_that_is_too_large(self, page: Page, name: str) -> None:
        document = ROUTES[name] | {"text": "x" * MAX_BODY}
        assert page.error(name, document) == (413, "the request has more than 4 MiB")

    @pytest.mark.parametrize("name", ROUTES)
    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
    )
    def test_what_forms_of_other_pages_can_send_is_refused(self, page: Page, name: str, kind: str) -> None:
        headers = {TOKEN_HEADER: TOKEN, "Content-Type": kind}
        response = page.client.post(f"/api/{name}", content=json.dumps(ROUTES[name]), headers=headers)
        assert response.status_code == 415

    @pytest.mark.parametrize(
        "raw",
        [b"", b"{", b"[]", b"\xff", b'{"model": "a", "model": "b"}', b'{"model": NaN}', b"[" * 100_000],
    )
    def test_what_is_no_json_object(self, page: Page, raw: bytes) -> None:
        headers = {TOKEN_HEADER: TOKEN, "Content-Type": "application/json; charset=utf-8"}
        response = page.client.post("/api/model", content=raw, headers=headers)
        assert response.status_code == 422
        assert response.json()["error"]["message"].startswith("the request can't be understood: ")

    @pytest.mark.parametrize(
        ("name", "changed", "said"),
        [
            ("model", {"model": 3}, "model: expected `str`, got `int`"),
            ("model", {"model": "x" * 1001}, "model: expected `str` of length <= 1000"),
            ("model", {"other": 1}, "Object contains unknown field `other`"),
            ("move", {"goal": None}, "goal: expected `object`, got `null`"),
            ("move", {"goal": {"kind": "weight", "value": 1}}, "goal.kind: invalid enum value 'weight'"),
            ("move", {"goal": {"kind": "bits", "value": 0}}, "goal.value: expected `float` > 0.0"),
            ("move", {"goal": {"kind": "bits", "value": "5"}}, "goal.value: expected `float`, got `str`"),
            (
                "move",
                {"goal": {"kind": "bits", "value": 5, "context": -1}},
                "goal.context: expected `int` >= 1",
            ),
            ("move", {"base": "/etc/passwd"}, "'/etc/passwd' is nothing to compare with"),
            ("complete", {"line": 0}, "line: expected `int` >= 1"),
            ("download", {"what": "file"}, "what: invalid enum value 'file'"),
        ],
    )
    def test_values_of_the_wrong_kind(self, page: Page, name: str, changed: Any, said: str) -> None:
        status, message = page.error(name, ROUTES[name] | changed)
        assert status == 422
        assert said in message

    def test_what_is_left_out(self, page: Page) -> None:
        status, message = page.error("move", {"model": "m1"})
        assert (status, "Object missing required field `goal`" in message) == (422, True)

    @pytest.mark.parametrize("name", sorted(ROUTES.keys() - {"model"}))
    def test_a_model_that_is_not_open(self, page: Page, name: str) -> None:
        status, message = page.error(name, ROUTES[name] | {"model": "m9"})
        assert (status, message) == (404, "no model is open under this name")

    @pytest.mark.parametrize("path", ["/api/model", "/api/move"])
    def test_data_is_asked_for_by_post(self, page: Page, path: str) -> None:
        assert page.get(path).status_code == 405
        assert page.get("/api/nothing").status_code == 404

    def test_a_bug_says_so_and_is_told_in_the_terminal(
        self, page: Page, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(name: str) -> None:
            raise RuntimeError("secret")

        monkeypatch.setattr(page.session, "open", fail)
        response = page.ask("model", {"model": "x"})
        assert response.status_code == 500
        assert "secret" not in response.text
        assert response.headers["x-content-type-options"] == "nosniff"


class TestStart:
    def test_what_there_is(self, page: Page) -> None:
        found = page.get("/api/start").json()
        assert found["version"] == __version__
        assert found["model"] is found["recipe"] is found["base"] is None
        assert found["imatrix"] is False
        assert {"name": "shapes/qwen3-0.6b", "label": "qwen3 0.6b", "parameters": 751_632_384} in found[
            "shapes"
        ]
        assert found["bases"][0] == "llama.cpp/IQ1_S"
        assert {"llama.cpp/Q4_K_M", "quantrecipe/chat"} <= set(found["bases"])
        assert found["kv_types"] == [name.upper() for name in KV_TYPES]
        assert 4096 in found["contexts"]

    def test_what_the_command_line_named(self, page: Page) -> None:
        page.session.model, page.session.base = "shapes/qwen3-14b", "mine/base.yaml"
        page.session.recipe = "mine.yaml", "quantrecipe: 1\n"
        found = page.get("/api/start").json()
        assert (found["model"], found["base"], found["bases"][0]) == (
            "shapes/qwen3-14b",
            "mine/base.yaml",
            "mine/base.yaml",
        )
        assert found["recipe"] == {"name": "mine.yaml", "text": "quantrecipe: 1\n"}

    def test_colours(self, page: Page) -> None:
        response = page.client.get("/static/shades.css")
        assert response.headers["content-type"].startswith("text/css")
        assert ".bits0{background:#440154;color:#ffffff}" in response.text


class TestModel:
    def test_what_there_is_to_know(self, shared: Shared) -> None:
        _, model = shared
        assert (model["name"], model["architecture"], model["layers"]) == ("shapes/qwen3-0.6b", "qwen3", 28)
        assert (model["tensors"], model["parameters"], model["bytes"]) == (311, 751_632_384, 1_503_395_840)
        assert {"name": "attn_q", "tensors": 28, "parameters": 58_720_256} in model["roles"]
        assert sum(role["tensors"] for role in model["roles"]) == 311
        names = [mix["name"] for mix in model["stock"]]
        assert "Q4_K_M" in names and "IQ2_XS" not in names  # which needs a matrix
        assert [mix["bytes"] for mix in model["stock"]] == sorted(mix["bytes"] for mix in model["stock"])
        assert model["knows"] == {"loss": "prior", "speed": None}
        assert "Without an importance matrix" in model["notes"][0]

    def test_a_model_that_is_not_there(self, page: Page) -> None:
        status, message = page.error("model", {"model": "nowhere/model.gguf"})
        assert status == 400
        assert message.startswith("nowhere/model.gguf: ")

    @pytest.mark.parametrize("name", ["", " ", "a\x00b", "a\nb"])
    def test_what_is_no_name(self, page: Page, name: str) -> None:
        assert page.error("model", {"model": name})[0] == 400

    def test_errors_do_not_quote_files(self, page: Page, tmp_path: Path) -> None:
        secret = tmp_path / "passwords.txt"
        secret.write_text("root:hunter2\n")
        response = page.ask("model", {"model": str(secret)})
        assert response.status_code == 400
        assert "hunter2" not in response.text
        assert page.ask("model", {"model": str(tmp_path)}).status_code == 400


def planned(text: str, model: str, folder: Path, capsys: Output) -> dict[str, Any]:
    """What `quantrecipe plan --json` says of a text that was downloaded."""
    path = folder / f"{Path(model).name}.yaml"
    path.write_text(text)
    with chdir(folder):
        assert main(["plan", path.name, model, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize(
    ("kind", "value", "more"),
    [
        ("size", 420_000_000, {}),
        ("bits", 5.25, {}),
        ("vram", 1_200_000_000, {"context": 8192, "kv": "Q8_0"}),
    ],
)
def test_what_is_shown_is_what_the_commands_say(
    kind: str, value: float, more: dict[str, Any], shared: Shared, tmp_path: Path, capsys: Output
) -> None:
    """From the slider to the recipe to `plan`: one mix, to the byte."""
    page, model = shared
    asked = {
        "model": model["model"],
        "goal": {"kind": kind, "value": value, **more},
        "base": "llama.cpp/Q4_K_M",
    }
    mix, frozen = page.answer("move", asked), page.answer("freeze", asked)
    said = planned(frozen["text"], "shapes/qwen3-0.6b", tmp_path, capsys)
    plan = frozen["plan"]
    assert plan["bytes"] == said["nbytes"]
    assert round(plan["bits"], 4) == round(said["bits_per_weight"], 4)
    for shown in (mix, plan):
        types: dict[str, int] = {}
        for tensor in said["tensors"]:
            types[tensor["type"]] = types.get(tensor["type"], 0) + tensor["nbytes"]
        assert {it["type"]: it["bytes"] for it in shown["types"]} == types
    assert [it["cells"] for it in mix["map"]["rows"]] == [it["cells"] for it in plan["map"]["rows"]]
    assert mix["limit"] is plan["limit"] is None
    assert mix["loss"] == plan["loss"]
    if kind == "size":
        assert plan["bytes"] <= value
    if kind == "bits":
        assert plan["bits"] <= value
    if kind == "vram":
        assert mix["memory"]["fits"] is True
        assert mix["memory"]["total"] <= value
        assert (mix["memory"]["context"], mix["memory"]["kv"]) == (8192, "Q8_0")
    edited = page.answer("recipe", asked | {"text": frozen["text"]})
    assert {it["severity"] for it in edited["problems"]} <= {"note"}
    of_goal = {"limit": None, "rival": None, "milliseconds": 0}
    assert edited["plan"] | of_goal == plan | of_goal


def test_the_example_model_from_its_folder(page: Page, tmp_path: Path, capsys: Output) -> None:
    model = page.open(str(EXAMPLE))
    asked = {"model": model["model"], "goal": size_goal(model, 0.4)}
    frozen = page.answer("freeze", asked)
    said = planned(frozen["text"], str(EXAMPLE), tmp_path, capsys)
    assert frozen["plan"]["bytes"] == said["nbytes"] <= asked["goal"]["value"]
    assert {it["type"] for it in page.answer("move", asked)["types"]} == {
        it["type"] for it in said["tensors"]
    }


def test_a_budget_that_can_not_be_kept(shared: Shared) -> None:
    """The nearest mix is shown, with a sentence that says what stopped it; its recipe is that mix."""
    page, model = shared
    for value, said in ((1000, "the budget can't be kept"), (10**15, "leaves nothing to choose")):
        asked = {"model": model["model"], "goal": {"kind": "size", "value": value}}
        mix = page.answer("move", asked)
        assert said in mix["limit"]
        frozen = page.answer("freeze", asked)
        assert frozen["plan"]["types"] == mix["types"]
        assert said in frozen["plan"]["limit"]


def test_a_cache_of_a_type_that_there_is_not(shared: Shared) -> None:
    page, model = shared
    goal = {"kind": "vram", "value": 10**9, "kv": "q9_9"}
    status, message = page.error("move", {"model": model["model"], "goal": goal})
    assert (status, message) == (400, "the KV cache can't be q9_9")


def place(line: int, column: int, end: int) -> dict[str, int]:
    return {"line": line, "column": column, "end_line": line, "end_column": end}


def test_a_text_with_mistakes(shared: Shared) -> None:
    page, model = shared
    text = "quantrecipe: 1\ndefault: Q4_K\nrules:\n  - {tensors: attn_v, typ: Q6_K}\n"
    found = page.answer("recipe", {"model": model["model"], "text": text})
    assert found["plan"] is None
    assert found["problems"] == [
        {
            "severity": "error",
            "code": "QR001",
            "message": "this rule has no `type`",
            "remedy": "name a format, or `keep`; or a list of formats to `choose` from",
        }
        | place(4, 5, 33),
        {
            "line": 4,
            "column": 23,
            "end_line": 4,
            "end_column": 33,
            "severity": "error",
            "code": "QR002",
            "message": "unknown key 'typ' in a rule",
            "remedy": "did you mean 'type'?",
        }
        | place(4, 23, 33),
    ]


def test_completion(shared: Shared) -> None:
    page, model = shared
    text = "quantrecipe: 1\nrules:\n  - {tensors: attn_v, type: Q6"
    asked = {"model": model["model"], "text": text, "line": 3, "column": 31}
    found = page.answer("complete", asked)
    assert (found["line"], found["from"], found["to"]) == (3, 29, 31)
    assert found["items"][0] | {"detail": ""} == {"label": "Q6_K", "insert": "Q6_K", "detail": ""}
    assert page.answer("complete", asked | {"model": None})["items"][0]["label"] == "Q6_K"
    roles = asked | {"text": "rules:\n  - {tensors: attn_", "line": 2, "column": 21}
    assert "attn_q_norm" in {it["label"] for it in page.answer("complete", roles)["items"]}
    assert "ssm_out" not in {it["label"] for it in page.answer("complete", roles | {"column": 15})["items"]}


class TestDownload:
    TEXT = "quantrecipe: 1\nname: my mix/<b>\ndefault: Q4_K\n"

    def ask(self, shared: Shared, what: str) -> dict[str, Any]:
        page, model = shared
        return page.answer("download", {"model": model["model"], "text": self.TEXT, "what": what})

    def test_the_recipe(self, shared: Shared) -> None:
        assert self.ask(shared, "recipe") == {"name": "my-mix--b.yaml", "text": self.TEXT}

    def test_the_lock_is_that_of_the_command(self, shared: Shared, tmp_path: Path, capsys: Output) -> None:
        path = tmp_path / "recipe.yaml"
        path.write_text(self.TEXT)
        assert main(["lock", str(path), "shapes/qwen3-0.6b"]) == 0
        assert self.ask(shared, "lock")["text"] == capsys.readouterr().out

    def test_the_command(self, shared: Shared, tmp_path: Path, capsys: Output) -> None:
        path = tmp_path / "recipe.yaml"
        path.write_text(self.TEXT)
        line = ["export", str(path), "--model", "shapes/qwen3-0.6b", "--to", "llama-quantize"]
        assert main(line) == 0
        found = self.ask(shared, "llama-quantize")
        assert found["name"] == "my-mix--b.sh"
        commands = [it for it in found["text"].splitlines(keepends=True) if not it.startswith("#")]
        assert "".join(commands) == capsys.readouterr().out

    def test_a_text_that_makes_nothing(self, shared: Shared) -> None:
        page, model = shared
        asked = {"model": model["model"], "text": "nonsense: 1", "what": "lock"}
        status, message = page.error("download", asked)
        assert (status, message.startswith("recipe.yaml: ")) == (400, True)
