"""A study as one file: for another person to extend, and from a person who means harm."""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
import stat
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import yaml

from lossbench.cli import main
from lossbench.config import Run
from lossbench.errors import InputError
from lossbench.records import RunLock, read_study, studies, unpacking
from lossbench.records.archive import export_study
from lossbench.records.unpacking import import_study
from lossbench.training.run import execute
from tests.conftest import run_of

ARMS = ("cross_entropy", "focal")


def train(runs_dir: Path, loss: str, seed: int, study: str = "s") -> Run:
    quick = ("trainer.max_epochs=1", f"study={study}")
    run = run_of(runs_dir, *quick, f"loss={loss}", f"seed={seed}")
    run.config["new"] = execute(run).new
    return run


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms with two seeds, trained; with a plan and a tuning of one trial."""
    runs_dir = tmp_path_factory.mktemp("exporting") / "runs"
    for loss in ARMS:
        for seed in (0, 1):
            train(runs_dir, loss, seed)
    overrides = ["loss=focal", f"runs_dir={runs_dir}", "study=s", "allow=[evil]"]
    plan = {"schema": 1, "runs": [{"folder": "f", "overrides": overrides}]}
    (runs_dir / "s" / "plan.json").write_text(json.dumps(plan))
    train(runs_dir / "s", "focal", 7, "tuning")
    (runs_dir / "s" / "tuning" / "tuning.json").write_text("{}")
    (runs_dir / "s" / "tuning" / "optuna.log").write_text("{}\n")
    return runs_dir / "s"


@pytest.fixture(scope="module")
def archive(study: Path) -> Path:
    export_study(study, study.parents[1] / "s.zip")
    return study.parents[1] / "s.zip"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_an_archive_has_all_that_others_need_and_says_nothing_of_this_machine(
    study: Path, archive: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.zip"
    export_study(study, again)
    assert again.read_bytes() == archive.read_bytes()
    with zipfile.ZipFile(archive) as opened:
        found = {name: opened.read(name) for name in opened.namelist()}
    ends = {name.rpartition("/")[2].partition(".")[0] for name in found}
    assert ends == {
        *("manifest", "plan", "tuning", "optuna", "record", "config"),
        *("history", "arrays", "outputs", "events"),
    }
    assert sum(name.endswith("record.json") for name in found) == 5
    for text in (str(study.parents[1]), str(Path.home()), f".{socket.gethostname()}.", "evil"):
        assert not any(text in name or text.encode() in found[name] for name in found), text


def test_an_imported_study_is_compared_and_extended(
    study: Path, archive: Path, tmp_path: Path, monkeypatch, capfd
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["import", str(archive), "study=theirs", "runs_dir=elsewhere"]) == 0
    theirs = tmp_path / "elsewhere" / "theirs"
    before, originals = read_study(theirs), read_study(study)
    assert [record.metrics for record in before] == [record.metrics for record in originals]
    assert [record.folder.name for record in before] == [r.folder.name for r in originals]
    for record, original in zip(before, originals, strict=True):
        assert (record.study, record.config()["study"]) == ("theirs", "theirs")
        for name in ("history.csv", "arrays.npz", "outputs.npz"):
            assert (record.folder / name).read_bytes() == (original.folder / name).read_bytes()
    kept = contents(theirs)
    capfd.readouterr()
    for loss in ARMS:  # what a sweep over these seeds asks for
        found = [train(tmp_path / "elsewhere", loss, seed, "theirs") for seed in (0, 1, 2)]
        assert [run.config["new"] for run in found] == [False, False, True]
    now = contents(theirs)
    assert kept == {name: now[name] for name in kept}
    records = read_study(theirs)
    assert len(records) == 6
    for seed in (0, 1, 2):
        assert len({str(r.fingerprints) for r in records if r.seed == seed}) == 1
    assert main(["status", "study=theirs", "runs_dir=elsewhere"]) == 0
    assert main(["compare", "study=theirs", "runs_dir=elsewhere"]) == 0
    assert "focal" in capfd.readouterr().out
    assert main(["import", str(archive), "study=theirs", "runs_dir=elsewhere"]) == 2
    assert "another name with study=NEWNAME" in capfd.readouterr().err


def test_runs_that_have_not_ended_are_left_out_by_name(
    archive: Path, tmp_path: Path, monkeypatch, capfd
) -> None:
    monkeypatch.chdir(tmp_path)
    import_study(archive, None, Path("runs"))
    running, interrupted, edited, *_ = sorted(path.parent for path in Path("runs/s").glob("*/r*"))
    content = json.loads((interrupted / "record.json").read_text())
    (interrupted / "record.json").write_text(json.dumps(content | {"status": "running"}))
    config = yaml.safe_load((edited / "config.yaml").read_text())
    config["optimizer"]["lr"] = 0.5
    (edited / "config.yaml").write_text(yaml.safe_dump(config))
    with RunLock(running / "lock"):
        assert main(["export", "study=s", "out=part.zip"]) == 0
    said = capfd.readouterr().out
    assert f"left out: {running.name}: running" in said
    assert f"left out: {interrupted.name}: interrupted" in said
    assert f"left out: {edited.name}: {edited.name}: config.yaml is not the config" in said
    assert import_study(Path("part.zip"), "part", Path("runs")).runs == 2
    assert main(["export", "study=s", "out=nowhere/part.zip"]) == 2
    assert sorted(path.name for path in Path().iterdir()) == ["part.zip", "runs"]


class Forged:
    """An archive taken apart, changed and put together again, manifest and all."""

    def __init__(self, archive: Path) -> None:
        with zipfile.ZipFile(archive) as opened:
            self.files = {name: opened.read(name) for name in opened.namelist()}
        self.manifest = json.loads(self.files.pop("manifest.json"))
        self.extra: list[tuple[zipfile.ZipInfo, bytes]] = []
        self.run = next(n.rpartition("/")[0] for n in self.files if n.endswith("record.json"))
        self.fix = True  # let the manifest agree with what is there

    def add(self, name: str, content: bytes = b"x", mode: int = 0o100644) -> None:
        info = zipfile.ZipInfo("x" * len(name))
        info.filename = name  # as it stands, for ZipInfo would mend some names
        info.create_system, info.external_attr = 3, mode << 16
        self.extra.append((info, content))

    def edit(self, name: str, change: Callable[[dict], object]) -> None:
        yaml_file = name.endswith("yaml")
        path = f"{self.run}/{name}"
        content = yaml.safe_load(self.files[path])
        change(content)
        text = yaml.safe_dump(content) if yaml_file else json.dumps(content)
        self.files[path] = text.encode()

    def write(self, path: Path) -> Path:
        everything = [(zipfile.ZipInfo(name), text) for name, text in self.files.items()]
        everything += self.extra
        if self.fix:
            self.manifest["files"] = {
                info.filename: {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
                for info, text in everything
            }
        manifest = (zipfile.ZipInfo("manifest.json"), json.dumps(self.manifest).encode())
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
            for info, text in (*everything, manifest):
                opened.writestr(info, text, compress_type=zipfile.ZIP_DEFLATED)
        return path


def forge_checksum(forged: Forged) -> None:
    forged.fix = False
    path = f"{forged.run}/history.csv"
    forged.files[path] = forged.files[path][:-2] + b"9\n"


def forge_length(forged: Forged) -> None:
    forged.fix = False
    forged.manifest["files"][f"{forged.run}/history.csv"]["bytes"] += 1


def forge_missing(forged: Forged) -> None:
    forged.fix = False
    del forged.files[f"{forged.run}/history.csv"]


def forge_unlisted(forged: Forged) -> None:
    forged.fix = False
    forged.add(f"{forged.run}/suspicious_labels.csv")


def forge_bomb(forged: Forged) -> None:
    forged.files = {name: text for name, text in forged.files.items() if "outputs" not in name}
    forged.files[f"{forged.run}/sample_history.npz"] = bytes(300_000_000)


def arrays(header: dict, content: bytes = b"") -> Callable[[Forged], None]:
    """In place of the outputs of a run, one array with ``header`` and ``content``."""

    def forge(forged: Forged) -> None:
        packed, member = BytesIO(), BytesIO()
        np.lib.format.write_array_header_1_0(member, header)
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as npz:
            npz.writestr("val_true.npy", member.getvalue() + content)
        forged.files[f"{forged.run}/outputs.npz"] = packed.getvalue()

    return forge


def header(descr: str, *shape: int) -> dict:
    return {"descr": descr, "fortran_order": False, "shape": shape}


def forge_aliases(forged: Forged) -> None:
    lines = [b"a0: &a0 [x, x]"]
    lines += [b"a%d: &a%d [%s]" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 9)]
    forged.files[f"{forged.run}/config.yaml"] += b"\n".join(lines) + b"\n"


def without_record(forged: Forged) -> None:
    del forged.files[f"{forged.run}/record.json"]


def relabel(key: str, value: object, name: str = "record.json") -> Callable[[Forged], None]:
    return lambda forged: forged.edit(name, lambda content: content.update({key: value}))


def plan(folder: str) -> Callable[[Forged], None]:
    text = json.dumps({"schema": 2, "runs": [{"folder": folder}]}).encode()
    return lambda forged: forged.files.update({"plan.json": text})


def nested(depth: int) -> list:
    return [nested(depth - 1)] if depth else []


def cased(forged: Forged) -> None:
    forged.add(f"{forged.run.replace('digits', 'DIGITS')}/record.json")


LINK, DEVICE = stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o666
HOSTILE: dict[str, tuple[Callable[[Forged], object], str]] = {
    "a path up": (lambda f: f.add("../evil.txt"), "'../evil.txt' is refused: a study has no"),
    "a path up, later": (lambda f: f.add(f"{f.run}/../../../evil/record.json"), "has no file of"),
    "absolute": (lambda f: f.add("/evil.txt"), "has no file of that name"),
    "a drive": (lambda f: f.add("C:/evil.txt"), "has no file of that name"),
    "backslashes": (lambda f: f.add("..\\evil.txt"), "has no file of that name"),
    "a null byte": (lambda f: f.add("plan.json\0.txt"), "has no file of that name"),
    "a link": (lambda f: f.add(f"{f.run}/suspicious_labels.csv", b"/etc", LINK), "it is a link"),
    "a device": (lambda f: f.add(f"{f.run}/suspicious_labels.csv", b"", DEVICE), "or a device"),
    "a folder": (lambda f: f.add(f"{f.run}/tensorboard/"), "has no file of that name"),
    "twice": (lambda f: f.add(f"{f.run}/record.json"), "the archive has it twice"),
    "but for capitals twice": (cased, "the archive has it twice"),
    "code": (lambda f: f.add(f"{f.run}/my_losses.py"), "has no file of that name"),
    "a checkpoint": (lambda f: f.add(f"{f.run}/checkpoint.ckpt"), "has no file of that name"),
    "hidden": (lambda f: f.add(".bashrc"), "has no file of that name"),
    "checksum": (forge_checksum, "is not what its checksum says"),
    "length": (forge_length, "bytes, and"),
    "missing": (forge_missing, "history.csv', which is in manifest.json"),
    "unlisted": (forge_unlisted, "it is not in manifest.json"),
    "bomb": (forge_bomb, "more than 100 times its own length"),
    "a bomb in the arrays": (
        arrays(header("|u1", 300_000_000), bytes(300_000_000)),
        "bytes of arrays, 100 times",
    ),
    "an array longer than its file": (arrays(header("<f4", 10**12)), "no array of numbers of that"),
    "an array of objects": (arrays(header("|O", 1), b"cposix\nsystem\n"), "no array of numbers"),
    "no array": (
        lambda f: f.files.update({f"{f.run}/outputs.npz": b"PK"}),
        "outputs.npz is missing or not readable",
    ),
    "schema": (lambda f: f.manifest.update(schema=2), "schema 2; this lossbench reads 1"),
    "study": (lambda f: f.manifest.update(study="../up"), "study='../up' is not allowed"),
    "no mapping": (lambda f: f.files.update({"plan.json": b"[]"}), "plan.json is not what lossb"),
    "deep": (lambda f: f.files.update({"plan.json": b"[" * 99999}), "plan.json is not JSON"),
    "aliases": (forge_aliases, "has aliases"),
    "an object of Python": (
        lambda f: f.files.update({f"{f.run}/config.yaml": b"!!python/object/apply:os.system [id]"}),
        "config.yaml is not YAML",
    ),
    "identity": (relabel("identity", "0" * 64), "their identities differ"),
    "seed": (relabel("seed", 5), "their identities differ"),
    "another config": (relabel("loss", {"name": "mae"}, "config.yaml"), "their identities differ"),
    "no config": (relabel("model", 5, "config.yaml"), "the model config has neither a name"),
    "another schema": (relabel("schema", 9), "has schema 9"),
    "not ended": (relabel("status", "running"), "no run of 's' that has ended"),
    "another study": (relabel("study", "other"), "no run of 's'"),
    "metrics": (relabel("metrics", {"a": "b"}), "metrics must be numbers"),
    "escapes": (relabel("arm", "\x1b]0;evil\x07"), "has control characters"),
    "escapes in the plan": (plan("\x1b[2J"), "plan.json has control characters"),
    "a plan for folders elsewhere": (plan("../../other/run"), "is no folder of a run"),
    "not a number": (relabel("metrics", {"a": math.nan}), "metrics must be numbers"),
    "no float": (relabel("metrics", {"a": 10**400}), "metrics must be numbers"),
    "a number for a list": (relabel("class_names", 5), "class_names is of the wrong type"),
    "a number in a list": (relabel("notes", [5]), "notes is of the wrong type"),
    "a text for a number": (relabel("seconds", "a"), "seconds is of the wrong type"),
    "a list for a text": (relabel("cell", ["x"]), "cell is of the wrong type"),
    "a text for a seal": (relabel("sealed", "no"), "sealed is of the wrong type"),
    "openings": (lambda f: f.files.update({"unsealed.json": b"{}"}), "unsealed.json cannot be"),
    "without record": (without_record, "has no record.json in"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("forge", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_archive_is_refused_in_one_line_and_writes_nothing(
    forge: Callable[[Forged], object], reason: str, archive: Path, tmp_path: Path
) -> None:
    forged = Forged(archive)
    forge(forged)
    where = tmp_path / "where"
    where.mkdir()
    file = forged.write(tmp_path / "forged.zip")
    with pytest.raises(InputError) as refused:
        import_study(file, None, where / "deep" / "runs")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).isprintable()
    assert not list(where.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"where", "forged.zip"}


def test_what_is_too_deep_to_be_renamed(archive: Path, tmp_path: Path) -> None:
    forged = Forged(archive)
    relabel("hardware", {"gpu": nested(700)})(forged)
    with pytest.raises(InputError, match="nested too deeply"):
        import_study(forged.write(tmp_path / "f.zip"), "other", tmp_path / "runs")


def test_the_forger_forges_nothing_by_itself(archive: Path, tmp_path: Path) -> None:
    file = Forged(archive).write(tmp_path / "forged.zip")
    assert import_study(file, None, tmp_path / "runs").runs == 5


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_archive(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"not a readable zip|is incomplete, or not what"):
        import_study(tmp_path / "a.zip", None, tmp_path / "runs")


def test_a_broken_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    for number, place in enumerate(range(1000, len(whole) - 200, len(whole) // 9)):
        file = tmp_path / f"{number}.zip"
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(InputError):
            import_study(file, None, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_foreign_code_is_named_and_not_imported(archive: Path, tmp_path: Path) -> None:
    forged = Forged(archive)
    forged.edit("config.yaml", lambda c: c.update(loss={"_target_": "hostile_module.Loss"}))
    found = import_study(forged.write(tmp_path / "f.zip"), None, tmp_path / "runs")
    assert (found.unproved, found.foreign) == (1, ["hostile_module.Loss"])


def test_an_import_that_was_killed_leaves_no_study_and_goes_again(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = os.fork()
    if child == 0:
        unpacking._sync = lambda folder: os._exit(9)  # type: ignore[assignment]
        import_study(archive, None, tmp_path / "runs")
    os.waitpid(child, 0)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".tmp-import-s"]
    assert studies(tmp_path / "runs") == []
    assert import_study(archive, None, tmp_path / "runs").runs == 5
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["s"]
