"""Bad input: exit code 2, one line that names the value and what is allowed, nothing written."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from lossbench.cli import main

TRAIN = "train data=digits trainer.max_epochs=1"
FASHION = "train data=fashion_mnist"

BAD = {
    # what the config alone can tell
    "command": ("trian", "unknown command 'trian'; did you mean 'train'?"),
    "loss": (f"{TRAIN} loss=focall", "unknown loss 'focall'; did you mean 'focal'?"),
    "dataset": (f"{TRAIN} data=fashionmnist", "'fashionmnist'; did you mean 'fashion_mnist'?"),
    "model": (f"{TRAIN} model=convnett", "unknown model 'convnett'; did you mean 'convnet'?"),
    "imbalance": (f"{TRAIN} imbalance=exp", "unknown imbalance 'exp'; did you mean 'exponential'?"),
    "experiment": (
        "train experiment=digits_quickstrat",
        "unknown experiment 'digits_quickstrat'; did you mean 'digits_quickstart'?",
    ),
    "loss parameter": (
        f"{TRAIN} loss=focal loss.gama=1",
        "unknown parameter of loss 'gama'; did you mean 'gamma'?",
    ),
    "parameter with a plus": (f"{TRAIN} loss=focal +loss.gama=1", "'gama'; did you mean 'gamma'?"),
    "config key": (f"{TRAIN} sed=1", "unknown config key 'sed'; did you mean 'seed'?"),
    "config key with a plus": (f"{TRAIN} +sed=1", "unknown config key 'sed'; did you mean 'seed'?"),
    "nested key": (f"{TRAIN} trainer.max_epoch=1", "'max_epoch'; did you mean 'max_epochs'?"),
    "argument of the dataset": (
        f"{TRAIN} +data.colour=red",
        "unknown parameter of data 'colour' (allowed: none)",
    ),
    "argument of the model": (
        f"{TRAIN} +model.depht=3",
        "unknown parameter of model 'depht' (allowed: hidden)",
    ),
    "gamma": (f"{TRAIN} loss=focal loss.gamma=-1", "loss.gamma=-1"),
    "gamma text": (f"{TRAIN} loss=focal loss.gamma=high", "loss.gamma='high'"),
    "smoothing": (f"{TRAIN} loss=label_smoothing loss.smoothing=1.5", "loss.smoothing=1.5"),
    "temperature": (f"{TRAIN} loss=temperature_scaled loss.temperature=0", "loss.temperature=0"),
    "lr 0": (f"{TRAIN} optimizer.lr=0", "optimizer.lr=0 is not allowed: a finite number, above 0"),
    "lr negative": (f"{TRAIN} optimizer.lr=-0.1", "optimizer.lr=-0.1"),
    "lr infinite": (f"{TRAIN} optimizer.lr=inf", "optimizer.lr=inf"),
    "lr text": (f"{TRAIN} optimizer.lr=fast", "optimizer.lr='fast'"),
    "epochs": ("train data=digits trainer.max_epochs=0", "trainer.max_epochs=0"),
    "epochs fraction": ("train data=digits trainer.max_epochs=1.5", "trainer.max_epochs=1.5"),
    "factor": (f"{TRAIN} imbalance=exponential imbalance.factor=0.5", "imbalance.factor=0.5"),
    "seed negative": (f"{TRAIN} seed=-1", "seed=-1 is not allowed: a whole number, at least 0"),
    "seed fraction": (f"{TRAIN} seed=1.5", "seed=1.5"),
    "seed null": (f"{TRAIN} seed=null", "seed=null"),
    "experiment null": (f"{TRAIN} experiment=null", "digits_quickstart"),
    "batch size": (f"{TRAIN} data.batch_size=0", "data.batch_size=0"),
    "threads": (f"{TRAIN} trainer.threads=0", "trainer.threads=0"),
    "weight of another length": (f"{TRAIN} loss.weight=[1,2,3]", "weight"),
    "betas": (f"{TRAIN} optimizer=adamw optimizer.betas=[2,2]", "beta"),
    "half precision": (f"{TRAIN} trainer.precision=16-mixed", "16-mixed needs a GPU"),
    "head": (f"{TRAIN} model.head=round", "model.head='round' is not allowed: linear or cosine"),
    "head of the loss": (
        f"{TRAIN} model.head=cosine",
        "model.head=cosine is not allowed for loss=",
    ),
    "loss without a scale on cosines": (
        f"{TRAIN} loss=focal model.head=cosine",
        "loss=focal: it needs a linear head; add model.head=linear, or compare on it with "
        "loss=norm_softmax",
    ),
    "margin loss on a linear head": (
        f"{TRAIN} loss=ldam",
        "model.head=linear is not allowed for loss=ldam: it needs a cosine head; add "
        "model.head=cosine; to sweep losses with different heads name arms",
    ),
    "loss scale": (
        f"{TRAIN} loss_scale=match",
        "loss_scale='match' is not allowed: none or match_ce",
    ),
    "loss scale null": (f"{TRAIN} loss_scale=null", "loss_scale=null is not allowed"),
    "loss scale misspelt": (f"{TRAIN} los_scale=match_ce", "'los_scale'; did you mean"),
    "study": (f"{TRAIN} study=../elsewhere", "study='../elsewhere' is not allowed"),
    "several values": (f"{TRAIN} loss=focal,cross_entropy", "use `lossbench sweep`"),
    "not an override": (f"{TRAIN} focal", "'focal' cannot be read; write KEY=VALUE"),
    "config dir": (
        f"{TRAIN} --config-dir nowhere",
        "--config-dir nowhere: there is no such folder",
    ),
    "custom without target": (f"{TRAIN} loss=custom", "loss._target_"),
    "target": (
        f"{TRAIN} loss=custom loss._target_=torch.nn.NoSuchLoss",
        "torch.nn.NoSuchLoss cannot be imported",
    ),
    # what the data tells
    "counts too many": (
        f"{TRAIN} imbalance=counts imbalance.counts=[1,1,1,1,1,1,1,1,1,1,1]",
        "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]",
    ),
    "counts larger than available": (
        f"{TRAIN} imbalance=counts imbalance.counts=[9999,1,1,1,1,1,1,1,1,1]",
        "has too few images: the imbalance wants 9999",
    ),
    "class without an image": (
        f"{TRAIN} imbalance=counts imbalance.counts=[5,1,1,1,1,1,1,1,1,0]",
        "imbalance.counts[9]=0 is not allowed: a list of whole numbers, at least 1",
    ),
    "counts missing": (f"{TRAIN} imbalance=counts", "imbalance.counts"),
    "validation": (f"{TRAIN} data.validation_per_class=500", "data.validation_per_class=500"),
    "archive missing": (f"{FASHION} data.archive=no_such_folder", "data.archive=no_such_folder"),
    # the other commands
    "sweep loss": ("sweep loss=focal,focall", "unknown loss 'focall'; did you mean 'focal'?"),
    "sweep seed": ("sweep seed=0,-1", "seed=-1"),
    "sweep parameter": ("sweep loss=focal loss.gamma=1,-1", "loss.gamma=-1"),
    "sweep workers": ("sweep workers=0 seed=0,1", "workers=0"),
    "sweep devices": ("sweep trainer.devices=0 seed=0,1", "trainer.devices=0 is not allowed"),
    "plan threads": ("sweep --plan trainer.threads=a", "trainer.threads='a' is not allowed"),
    "sweep search space": ("sweep search=focal", "search is no choice of a run"),
    "sweep counts": ("sweep imbalance=counts imbalance.counts=[7] seed=0,1", "[7]"),
    "sweep random order": (
        "sweep imbalance=counts imbalance.counts=[125,1,1,1,1,1,1,1,1,1] seed=range(0,9) "
        "imbalance.class_order=random",
        "has too few images: the imbalance wants 125",
    ),
    "inspect without key": ("inspect digits", "'digits' cannot be read; write KEY=VALUE"),
    "sweep arms and loss": ("sweep experiment=digits_quickstart loss=focal", "add arms=null"),
    "inspect": ("inspect data=digts", "unknown data 'digts'; did you mean 'digits'?"),
    "losses": ("losses focall", "unknown loss 'focall'; did you mean 'focal'?"),
    "compare without study": ("compare", "say which study to compare"),
    "compare study": ("compare study=nothing", "unknown study in runs 'nothing'"),
    "compare key": ("compare stdy=x", "'stdy'; did you mean 'study'?"),
    "power": ("power", "either study=NAME, a pilot of two or more seeds, or spread=0.01"),
    "power losses": ("power spread=0.01", "losses= is missing"),
    "power spread": ("power spread=0 losses=3", "spread=0.0 is not allowed"),
    "power study": ("power study=x", "unknown study in runs 'x'"),
    "status key": ("status studdy=x", "'studdy'; did you mean 'study'?"),
    "status study": ("status study=x", "unknown study in runs 'x'"),
    "board": ("board runs_dir=nowhere", "nowhere"),
    "board port": ("board port=http", "port=http"),
    "a look at a sweep's config": ("sweep --cfg=job seed=0", "--cfg is for lossbench train"),
    "too many seeds": ("sweep data=digits seeds=1000000000", "seeds=1000000000 is not allowed"),
    "several studies": ("sweep data=digits seed=0 study=a,b", "study has one"),
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def assert_refused(command: str, expected: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("lossbench: ")
    assert expected in err
    assert not any(Path().iterdir()), "something was written"


@pytest.mark.parametrize(("command", "expected"), BAD.values(), ids=BAD.keys())
def test_refused_in_one_line(command: str, expected: str, capfd) -> None:
    assert_refused(command, expected, capfd)


@pytest.mark.parametrize("damage", ["truncated", "another file", "not gzip"])
def test_a_damaged_archive_is_named(damage: str, tmp_path: Path, capfd, monkeypatch) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    debian = Path("/usr/share/datasets/fashion-mnist")
    for path in debian.iterdir():
        (archive / path.name).symlink_to(path)
    target = archive / "train-labels-idx1-ubyte.gz"
    content = target.read_bytes()
    target.unlink()
    target.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "another file": gzip.compress(b"\0\0\x08\x01\0\0\0\x02\1\2"),
            "not gzip": b"<html>404</html>",
        }[damage]
    )
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    assert_refused(f"{FASHION} data.archive={archive}", "train-labels-idx1-ubyte", capfd)


def test_a_runs_folder_that_cannot_be_written(tmp_path: Path, capfd, monkeypatch) -> None:
    (tmp_path / "file").write_text("in the way")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    assert_refused(f"{TRAIN} runs_dir={tmp_path / 'file'}", "runs_dir", capfd)
    assert_refused(f"sweep data=digits seed=0,1 runs_dir={tmp_path / 'file'}", "runs_dir", capfd)
    if os.geteuid() != 0:
        os.chmod(work, 0o500)
        assert_refused(f"{TRAIN} runs_dir={work / 'runs'}", "runs_dir", capfd)


BROKEN = {
    "not YAML": ("_target_: [my.loss", "loss/broken.yaml"),
    "without name and target": ("nam: focal", "loss config has neither a name nor a _target_"),
    "a text": ("just words", "loss config has neither a name nor a _target_"),
}


@pytest.mark.parametrize(("content", "expected"), BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("command", ["train", "sweep seed=0,1"])
def test_a_broken_config_of_ones_own_is_one_line(
    content: str, expected: str, command: str, tmp_path: Path, capfd, monkeypatch
) -> None:
    own = tmp_path / "own" / "loss"
    own.mkdir(parents=True)
    (own / "broken.yaml").write_text(content)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    assert main([*command.split(), "--config-dir", str(own.parent), "loss=broken"]) == 2
    out, err = capfd.readouterr()
    assert err.count("\n") == 1, err
    assert expected in err
    assert not list(work.iterdir())


def test_a_loss_of_ones_own_with_the_name_of_one_of_ours(
    tmp_path: Path, capfd, monkeypatch
) -> None:
    """Hydra would take ours, and say nothing."""
    (tmp_path / "own" / "loss").mkdir(parents=True)
    (tmp_path / "own" / "loss" / "focal.yaml").write_text("_target_: torch.nn.CrossEntropyLoss")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for command in (TRAIN, "sweep data=digits seed=0,1", "inspect data=digits"):
        given = f"{command} --config-dir {tmp_path / 'own'}"
        assert_refused(given, "focal is the name of a loss of lossbench; rename the file", capfd)


def test_status_of_an_empty_folder_is_no_error(capfd) -> None:
    assert main(["status"]) == 0
    assert "no studies in runs" in capfd.readouterr().out
