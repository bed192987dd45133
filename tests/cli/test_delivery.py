"""apply -o s3://…: what people type and see, and what an upload that fails leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import object_server
from support.elsewhere import example_in_store
from support.models import llama_tensors, write_gguf
from support.object_server import ObjectServer

from quantrecipe.cli import main
from quantrecipe.output.uploads import by_executor, staging, upload
from quantrecipe.output.uploads.into_upload import UploadedUnit

Output = pytest.CaptureFixture[str]
OUT = "bucket/made/out.gguf"
STAGED = "out.gguf.quantrecipe-upload"
example = pytest.fixture(example_in_store)


@pytest.fixture(autouse=True)
def store(example: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectServer:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    write_gguf(work / "model.gguf", llama_tensors(layers=1))
    return example


def apply(*more: str, out: str = f"s3://{OUT}") -> int:
    return main(["--no-plugins", "apply", "llama.cpp/Q4_K_M", "model.gguf", "-o", out, *more])


def in_peace(*more: str) -> bytes:
    line = ["--no-plugins", "apply", "llama.cpp/Q4_K_M", "model.gguf", "-o", "peace.gguf", "--force"]
    assert main([*line, *more]) == 0
    return Path("peace.gguf").read_bytes()


def here() -> list[str]:
    return sorted(it.name for it in Path().iterdir())


def test_the_file_is_there_and_nothing_is_left_here(store: ObjectServer, capsys: Output) -> None:
    assert apply() == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "uploaded s3://bucket/made/out.gguf (" in out
    assert "compared by the store's MD5 of its parts)" in out
    assert here() == ["model.gguf"]
    assert store.objects[OUT].data == in_peace()


@pytest.mark.parametrize(
    "more", [(), ("--executor", "threads"), ("--executor", "threads", "--pieces", "pieces")], ids=str
)
def test_the_summary_as_json(more: tuple[str, ...], store: ObjectServer, capsys: Output) -> None:
    assert apply("--json", *more) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["output"] == f"s3://{OUT}"
    assert told["files"] == [f"s3://{OUT}"]
    assert told["uploaded"] == [
        {
            "address": f"s3://{OUT}",
            "nbytes": len(store.objects[OUT].data),
            "compared": "the store's MD5 of its parts",
        }
    ]
    assert store.objects[OUT].data == in_peace()


def test_shards_of_several_recipes_go_to_a_folder(store: ObjectServer) -> None:
    line = ["--no-plugins", "apply", "llama.cpp/Q4_K_M", "Q8_0", "model.gguf", "--split-max-size", "400K"]
    assert main([*line, "--out-dir", "s3://bucket/release"]) == 0
    assert main([*line, "--out-dir", "release"]) == 0
    made = {path.name: path.read_bytes() for path in Path("release").iterdir()}
    assert len(made) == 3
    for name, data in made.items():
        assert store.objects[f"bucket/release/{name}"].data == data
    assert here() == ["model.gguf", "release"]


def test_an_upload_that_fails_is_done_again_without_the_work(
    store: ObjectServer, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trouble(asked: object) -> str | None:
        return "AccessDenied" if (Path(STAGED) / "out.gguf").exists() else None

    store.trouble = trouble
    assert apply() == 1
    err = " ".join(capsys.readouterr().err.split())
    assert f"all is written, and kept in {STAGED}; the same command uploads it" in err
    assert (OUT in store.objects, store.uploads) == (False, {})
    assert here() == ["model.gguf", STAGED]
    store.trouble = lambda asked: None
    with monkeypatch.context() as patched:
        patched.setattr("quantrecipe.output.apply.apply_plans", None)
        assert apply("--json") == 0
    assert [it["address"] for it in json.loads(capsys.readouterr().out)["uploaded"]] == [f"s3://{OUT}"]
    assert here() == ["model.gguf"]
    assert store.objects[OUT].data == in_peace()


def test_finished_files_of_another_run_are_in_the_way(store: ObjectServer, capsys: Output) -> None:
    store.trouble = lambda asked: "AccessDenied" if (Path(STAGED) / "out.gguf").exists() else None
    assert apply() == 1
    store.trouble = lambda asked: None
    capsys.readouterr()
    assert apply("--no-provenance") == 1
    err = " ".join(capsys.readouterr().err.split())
    assert f"{STAGED} holds finished files of another run, which weren't uploaded; move them away" in err
    assert (Path(STAGED) / "out.gguf").exists()


def test_ctrl_c_during_the_upload_keeps_what_is_written(
    store: ObjectServer, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(upload, "wait", interrupted)
        assert apply() == 130
    assert f"all is written, and kept in {STAGED}" in " ".join(capsys.readouterr().err.split())
    assert (OUT in store.objects, store.uploads) == (False, {})
    assert apply() == 0
    assert store.objects[OUT].data == in_peace()
    assert here() == ["model.gguf", "peace.gguf"]


def test_what_was_sent_before_the_end_isn_t_sent_again(
    store: ObjectServer, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One shard got its name, and is whole; then the command was killed. Another file in its place is in the way."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    split = ("--split-max-size", "200K")
    with monkeypatch.context() as patch:
        patch.setattr(upload, "compared", killed)
        assert apply(*split) == 130
    shards = sorted(path for path in store.objects if path.startswith("bucket/made/"))
    assert len(shards) > 1
    data = {path: store.objects[path].data for path in shards}
    del store.objects[shards[0]]
    store.put(shards[1], data[shards[1]][:-1] + b"!")
    capsys.readouterr()
    store.asked.clear()
    assert apply(*split) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert f"s3://{shards[1]} exists; say --force to replace it" in err
    assert f"all is written, and kept in {STAGED}" in err
    assert not [it for it in store.asked if it.method == "PUT" and shards[0] in it.path]
    store.put(shards[1], data[shards[1]])
    store.asked.clear()
    assert apply(*split, "--json") == 0
    assert {it.path for it in store.asked if it.method == "PUT"} & set(shards) == {shards[0]}
    told = json.loads(capsys.readouterr().out)["uploaded"]
    assert [it["address"] for it in told] == [f"s3://{path}" for path in shards]
    assert {path: store.objects[path].data for path in shards} == data
    assert here() == ["model.gguf"]


def test_what_is_there_is_kept_and_told_before_the_work(
    store: ObjectServer, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(OUT, b"precious")
    with monkeypatch.context() as patched:
        patched.setattr("quantrecipe.output.apply.apply_plans", None)
        assert apply() == 1
    assert "s3://bucket/made/out.gguf exists; say --force" in capsys.readouterr().err
    assert here() == ["model.gguf"]
    assert apply("--force") == 0
    assert store.objects[OUT].data == in_peace()


def test_work_that_fails_leaves_no_folder(store: ObjectServer) -> None:
    weights = llama_tensors(layers=1)
    weights["blk.0.ffn_up.weight"][3, 7] = float("nan")
    write_gguf(Path("nan.gguf"), weights)
    line = ["--no-plugins", "apply", "llama.cpp/Q4_K_M", "nan.gguf", "-o", f"s3://{OUT}"]
    assert main(line) == 1
    assert here() == ["model.gguf", "nan.gguf"]
    assert OUT not in store.objects


def test_parts_put_pieces_on_a_folder_and_assemble_uploads(store: ObjectServer, capsys: Output) -> None:
    assert apply("--part", "1/1") == 2
    assert "name the folder of the pieces with --pieces" in " ".join(capsys.readouterr().err.split())
    assert apply("--part", "1/1", "--pieces", "pieces") == 0
    assert here() == ["model.gguf", "pieces"]
    assert apply("--assemble") == 2
    store.trouble = lambda asked: "AccessDenied" if asked.query.get("partNumber") == "1" else None
    assert apply("--assemble", "--pieces", "pieces") == 1
    store.trouble = lambda asked: None
    assert here() == ["model.gguf", "pieces"]
    capsys.readouterr()
    assert apply("--assemble", "--no-make", "--pieces", "pieces", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["output"], len(told["uploaded"])) == (f"s3://{OUT}", 1)
    assert here() == ["model.gguf"]
    assert store.objects[OUT].data == in_peace()


def test_a_dry_run_names_the_address_and_asks_nothing(store: ObjectServer, capsys: Output) -> None:
    assert apply("--dry-run") == 0
    assert f"would write s3://{OUT}" in capsys.readouterr().out
    assert (here(), store.asked) == (["model.gguf"], [])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("apply llama.cpp/Q4_K_M model.gguf -o s3://bucket/made/", "is a folder: name a file in it"),
        ("apply llama.cpp/Q4_K_M model.gguf -o s3://bucket", "s3://bucket names no file"),
        ("apply llama.cpp/Q4_K_M model.gguf -o hf://owner/name/x.gguf", "`quantrecipe publish`"),
        ("apply llama.cpp/Q4_K_M model.gguf -o https://host/x.gguf", "isn't a place to write to"),
        ("lock llama.cpp/Q4_K_M model.gguf -o s3://bucket/x.lock", "is written to a file of this machine"),
    ],
)
def test_places_that_can_t_be_written_to(line: str, said: str, capsys: Output) -> None:
    assert main(["--no-plugins", *line.split()]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_weights_that_aren_t_finite_are_told_of_pieces_too(store: ObjectServer, capsys: Output) -> None:
    weights = llama_tensors(layers=1)
    weights["blk.0.ffn_up.weight"][3, 7] = float("nan")
    write_gguf(Path("model.gguf"), weights)
    assert apply("--part", "1/1", "--pieces", "pieces", "--nan", "allow") == 0
    assert apply("--assemble", "--pieces", "pieces", "--nan", "allow") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "blk.0.ffn_up.weight: 1 weight is NaN or Inf, and 0 in out.gguf" in out
    assert store.objects[OUT].data == in_peace("--nan", "allow")


class TestInParts:
    """With --executor, the workers send what they make."""

    @pytest.fixture(autouse=True)
    def small_parts(self, store: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(object_server, "LEAST_PART", 0)
        monkeypatch.setattr(by_executor, "block_bytes", lambda nbytes: 30_000)
        monkeypatch.setattr(by_executor, "unit_bytes", lambda plan, workers: 60_000)

    def interrupted(self, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
        """Ctrl-C when the fifth unit is done."""
        add_unit = by_executor.KeptParts.add_unit

        def interrupting(kept: by_executor.KeptParts, done: UploadedUnit) -> None:
            if len(kept.made) == 4:
                raise KeyboardInterrupt
            add_unit(kept, done)

        with monkeypatch.context() as patch:
            patch.setattr(by_executor.KeptParts, "add_unit", interrupting)
            return apply("--executor", "threads", *more)

    def test_no_file_lies_here(
        self, store: ObjectServer, capsys: Output, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("quantrecipe.output.shares.by_executor.apply_by", None)
        monkeypatch.setattr("quantrecipe.output.uploads.upload.upload", None)
        assert apply("--executor", "threads") == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "bits per weight" in out
        assert f"uploaded s3://{OUT} (" in out
        assert here() == ["model.gguf"]
        assert store.objects[OUT].data == in_peace()

    def test_ctrl_c_keeps_what_is_sent_if_it_is_to_be_kept(
        self, store: ObjectServer, capsys: Output, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.interrupted(monkeypatch, "--keep-part") == 130
        err = " ".join(capsys.readouterr().err.split())
        assert f"% of the work is kept in {STAGED}; the same command goes on with it" in err
        assert len(store.uploads) == 1
        # Without workers nobody can go on with it, and it isn't thrown away.
        assert apply() == 1
        err = " ".join(capsys.readouterr().err.split())
        assert (
            f"{STAGED} lists what workers of an earlier run have sent already; run it with --executor" in err
        )
        assert len(store.uploads) == 1
        assert apply("--executor", "threads", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert told["resumed_weights"] > 0
        assert told["uploaded"][0]["compared"] == "the store's MD5 of its parts"
        assert here() == ["model.gguf"]
        assert store.objects[OUT].data == in_peace()

    def test_a_run_that_was_killed_at_the_end_is_ended(
        self, store: ObjectServer, capsys: Output, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file has its name, and the folder is still here: what has that name isn't in the way."""
        with monkeypatch.context() as patch:
            patch.setattr(by_executor.KeptParts, "remove", lambda kept, give_up: kept.keep())
            patch.setattr(staging.Staging, "remove", lambda staging: None)
            assert apply("--executor", "threads") == 0
        assert here() == ["model.gguf", STAGED]
        assert apply("--executor", "threads") == 0
        assert here() == ["model.gguf"]
        assert store.objects[OUT].data == in_peace()

    def test_ctrl_c_leaves_nothing_otherwise(
        self, store: ObjectServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.interrupted(monkeypatch) == 130
        assert store.uploads == {}
        assert here() == ["model.gguf"]

    def test_what_lies_here_of_a_run_without_workers_is_gone_on_with_here(
        self, store: ObjectServer, capsys: Output, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.trouble = lambda asked: "AccessDenied" if (Path(STAGED) / "out.gguf").exists() else None
        assert apply() == 1
        store.trouble = lambda asked: None
        capsys.readouterr()
        assert apply("--executor", "threads", "--json") == 0
        assert list(json.loads(capsys.readouterr().out)) == ["uploaded"]
        assert here() == ["model.gguf"]
        assert store.objects[OUT].data == in_peace()

    def test_an_unfinished_part_of_a_run_without_workers_is_gone_on_with_here(
        self, store: ObjectServer, capsys: Output
    ) -> None:
        Path(STAGED).mkdir()
        (Path(STAGED) / "out.gguf.quantrecipe-part").write_bytes(b"")
        assert apply("--executor", "threads") == 0
        assert [it.query["partNumber"] for it in store.asked if "partNumber" in it.query][-1] == "1"
        assert store.objects[OUT].data == in_peace()
        assert here() == ["model.gguf", "peace.gguf"]
