"""What a config may name, and what is refused before it is imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lossbench import targets
from lossbench.cli import main
from lossbench.config import folder
from lossbench.errors import InputError
from lossbench.training import rescore

SOURCE = Path(targets.__file__).parent
TRAIN = ("train", "data=digits", "trainer.max_epochs=1")


def test_all_that_our_configs_name_is_allowed_and_there() -> None:
    found = 0
    for file in folder("configs").glob("*/*.yaml"):
        target = yaml.safe_load(file.read_text()).get("_target_", "???")
        if target != "???":
            targets.find(target, file.parent.name)
            found += 1
    assert found > 30


PROMISED = {
    "loss": (
        *("torch.nn.CrossEntropyLoss", "torch.nn.MultiMarginLoss", "torch.nn.modules.loss.NLLLoss"),
        *("torch.nn.functional.cross_entropy", "torchvision.ops.sigmoid_focal_loss"),
    ),
    "optimizer": ("torch.optim.Adam", "torch.optim.Muon", "timm.optim.Lion"),
}


@pytest.mark.parametrize(("part", "names"), PROMISED.items())
def test_losses_and_optimisers_of_torch_and_timm_need_no_leave(part, names) -> None:
    for name in names:
        assert callable(targets.find(name, part))


REFUSED = {
    "loss": (
        *("os.system", "subprocess.Popen", "builtins.eval", "functools.partial", "torch.load"),
        *("torch.hub.load", "torch.utils.collect_env.run", "torch.utils.cpp_extension.load"),
        *("torch.nn.__init__", "torch.nn.functional.__dict__.get", "torch.nn._reduction.warnings"),
        *("torch.nn.functional.handle_torch_function", "torch.nn.functional.torch.os.system"),
        *("torch.nn.attention.register_flash_attention_fa4", "torch.nn.Linear"),
        *("lossbench.records.files.write_text", "torchvision.datasets.utils.download_url"),
    ),
    "data": (
        *("lossbench.records.files.write_text", "lossbench.training.outcome.clear"),
        *("lossbench.data.sources.published.Path", "lossbench.data.sources.cifar.read_batch"),
        *("torchvision.datasets.CIFAR10", "sklearn.datasets.fetch_openml", "pandas.read_pickle"),
    ),
    "model": ("timm.create_model", "torch.hub.load", "lossbench.models.backbones.timm.InputError"),
    "regime": ("lossbench.training.outcome.make_folder", "lossbench.training.run.execute"),
    "optimizer": ("torch.optim.optimizer.defaultdict", "torch.distributed.rpc.rpc_sync"),
    "schedule": ("lossbench.training.schedules.math.cos", "math.pow"),
    "imbalance": ("lossbench.data.imbalance.InputError", "numpy.fromfile"),
    "label_noise": ("lossbench.data.label_noise.files", "numpy.save"),
    "data.augmentation": ("torch.nn.ReLU",),
}


@pytest.mark.parametrize(
    ("part", "name"), [(part, name) for part, names in REFUSED.items() for name in names]
)
def test_everything_else_is_refused_in_one_line(part: str, name: str) -> None:
    with pytest.raises(InputError) as refused:
        targets.find(name, part)
    assert f"{part}._target_={name}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name", [5, None, ["torch.nn.ReLU"], "system", "torch.nn.", "a..b", "a b.c"]
)
def test_what_is_no_name_is_refused(name: object) -> None:
    with pytest.raises(InputError, match="is not a name such as"):
        targets.check_name(name, "loss", ["a"])


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `hostile_of_test` that writes the file ``imported`` when it is imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "imported"
    (tmp_path / "hostile_of_test.py").write_text(
        f"from os import system\nfrom functools import partial\nopen({str(mark)!r}, 'w').close()\n"
        "from torch.nn import CrossEntropyLoss\n"
        "def loss(logits, target):\n    return logits.sum()\n"
        "made = partial(loss)\n"
    )
    sys.modules.pop("hostile_of_test", None)
    return mark


def test_a_module_is_refused_before_it_is_imported_and_allowed_by_name(
    hostile: Path, capfd: pytest.CaptureFixture
) -> None:
    custom = (*TRAIN, "loss=custom", "loss._target_=hostile_of_test.loss")
    for given, wanted in {
        (): "add allow=[hostile_of_test]",
        ("allow=[other]",): "add allow=[other,hostile_of_test]",
        ("allow=[hostile]",): "add allow=[hostile,hostile_of_test]",  # no prefix of a text
    }.items():
        for command in (custom, ("sweep", *custom[1:], "seed=0,1"), ("inspect", *custom[1:])):
            assert main([*command, *given]) == 2
            said = capfd.readouterr().err
            assert said.count("\n") == 1
            assert wanted in said
    assert not hostile.exists()
    assert not (hostile.parent / "runs").exists()
    allow = ["hostile_of_test"]
    for name in ("loss", "made", "CrossEntropyLoss"):  # torch's are a loss's without leave
        targets.find(f"hostile_of_test.{name}", "loss", allow)
    assert hostile.exists()
    with pytest.raises(InputError, match=r"defined in posix, .* allow=\[hostile_of_test,posix\]"):
        targets.find("hostile_of_test.system", "loss", allow)


def test_what_a_record_allows_is_not_what_the_user_allows(hostile: Path) -> None:
    config = {"seed": 0, "trainer": {"max_epochs": 1}, "allow": ["hostile_of_test"]}
    config["loss"] = {"_target_": "hostile_of_test.loss"}
    with pytest.raises(InputError, match="is not allowed"):
        rescore.loss_prior(config, [5, 5])
    assert not hostile.exists()
    rescore.loss_prior(config, [5, 5], ["hostile_of_test"])


CUSTOM = ("loss=custom", "loss._target_=hostile_of_test.loss")
SELF_ALLOWING = {
    "allow: [hostile_of_test]": CUSTOM,
    "arms: {a: {loss: custom, loss._target_: hostile_of_test.loss, allow: [hostile_of_test]}}": (),
    "hydra: {sweeper: {params: {allow: '[hostile_of_test],null'}}}": CUSTOM,
}

COMMANDS = (
    "hydra: {launcher: {python: touch imported; python}}",
    "hydra: {launcher: {_target_: lossbench.sweeps.cluster_launchers.RayLauncher}}",
    "hydra: {sweeper: {params: {}, _target_: hydra._internal.BasicSweeper}}",
    "hydra: {sweeper: {params: {}}, callbacks: {}}",
    "hydra: [launcher]",
)


@pytest.mark.parametrize("experiment", COMMANDS)
def test_an_experiment_sets_no_launcher(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "theirs.yaml").write_text(experiment)
    assert main(["sweep", "--config-dir", ".", "experiment=theirs", "data=digits"]) == 2
    assert "of hydra an experiment may say sweeper.params alone" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["experiments"]


@pytest.mark.parametrize(("experiment", "given"), SELF_ALLOWING.items())
def test_an_experiment_does_not_allow_itself(
    experiment: str,
    given: tuple[str, ...],
    hostile: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    own = hostile.parent / "own"
    (own / "experiments").mkdir(parents=True)
    (own / "experiments" / "theirs.yaml").write_text(experiment)
    theirs = ("--config-dir", str(own), "experiment=theirs", "data=digits", *given)
    for command in ("sweep", "inspect") if given else ("sweep", "tune"):
        assert main([command, *theirs]) == 2
        said = capfd.readouterr().err
        assert "allow" in said
        assert said.count("\n") == 1
    assert not hostile.exists()
    if given:
        assert main(["sweep", "--plan", *theirs, "allow=[hostile_of_test]"]) == 0
        assert hostile.exists()


@pytest.mark.parametrize("allow", ["os", "[5]", "['']", "['*']", "['a.']", "{a: b}"])
def test_allow_is_a_list_of_modules(allow: str, tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*TRAIN, f"allow={allow}"]) == 2
    assert "a list of modules, as in allow=[my_losses]" in capfd.readouterr().err


HYDRA = {
    "callback": ("+hydra.callbacks.x._target_=os.system", "+hydra.callbacks.x.command='touch m'"),
    "our file writer": (
        *("+hydra.callbacks.x._target_=lossbench.records.files.write_text",),
        *("+hydra.callbacks.x.path=m", "+hydra.callbacks.x.content=m"),
    ),
    "launcher": ("-m", "hydra.launcher._target_=os.system", "+hydra.launcher.command='touch m'"),
    "an argument": ("-m", "+hydra.launcher.python=touch"),
    "sweeper": ("-m", "hydra.sweeper._target_=lossbench.training.outcome.clear"),
}


@pytest.mark.parametrize("overrides", HYDRA.values(), ids=HYDRA.keys())
def test_hydra_makes_nothing_but_its_own_plugins(overrides, tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*TRAIN, *overrides]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1, said
    assert any(words in said for words in ("whitelist", "no launcher or sweeper", "unexpected"))
    assert not list(tmp_path.iterdir())


def unsafe_calls(text: str) -> list[str]:
    """Calls that unpickle, or build Python objects of YAML, in the source ``text``."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "marshal", "shelve"):
            found.append(f"from {node.module}")
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        keys = {key.arg: ast.unparse(key.value) for key in node.keywords}
        safe = keys.get("weights_only") == "True"
        loader = keys.get("Loader", ast.unparse(node.args[1]) if len(node.args) > 1 else "")
        found += {
            "unpickles": name.endswith(
                ("pickle.load", "pickle.loads", "read_pickle", "joblib.load")
            ),
            "may unpickle": keys.get("allow_pickle", "False") != "False",
            "weights": keys.get("weights_only", "True") != "True"
            or (name == "torch.load" and not safe),
            "yaml": name == "yaml.load" and "SafeLoader" not in loader and loader != "loader",
            "yaml objects": name in ("yaml.unsafe_load", "yaml.full_load", "yaml.load_all"),
            "eval": name in ("eval", "exec"),
        }.items()
    return [str(entry) for entry in found if not isinstance(entry, tuple) or entry[1]]


def test_nothing_in_the_source_unpickles() -> None:
    checked = 0
    for file in SOURCE.rglob("*.py"):
        assert not unsafe_calls(file.read_text()), file
        checked += 1
    assert checked > 100
    for bad in (
        *("pickle.load(f)", "torch.load(f)", "torch.load(f, weights_only=False)", "yaml.load(t)"),
        *("np.load(f, allow_pickle=True)", "yaml.load(t, yaml.Loader)", "from pickle import load"),
    ):
        assert unsafe_calls(bad), bad


def test_refusing_imports_no_torch() -> None:
    code = (
        "import sys\nfrom lossbench.cli import main\n"
        "assert main(['reproduce', 'nowhere']) == 2\nassert main(['import', 'nowhere.zip']) == 2\n"
        "assert main(['train', 'data=digits', 'loss=custom', 'loss._target_=os.system']) == 2\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 3
