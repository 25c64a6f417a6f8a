"""Time and memory of every loss against `F.cross_entropy`, on the same logits in one run.

    python scripts/bench_losses.py [--shape 4096,1000] [--only focal,ldam] [--rounds 15]
                                   [--no-compile] [--threads 1] [--device cpu] [--json FILE]

A step is forward, mean, and the gradient with respect to the logits. A loss and cross-entropy take
turns, so that a drifting machine slows both; a ratio is the median over the rounds of the ratio of
neighbours. One CPU thread is timed by the process's own clock, which stands still while others run.
Losses have the catalogue's defaults, three quarters through training, with class counts that fall
exponentially by 100; those for a cosine head get cosines.

- eager: loss / cross-entropy, neither compiled.
- compiled: compiled loss / compiled cross-entropy. The target is read as this one: who compiles a
  training step compiles cross-entropy too, so this is what the choice of the loss costs. "to eager"
  beside it is compiled loss / eager cross-entropy. A ~ marks a loss that is not one graph.
- memory: most bytes allocated at once during a step, beyond what was there before, over
  cross-entropy's; on the CPU from the profiler's record of the allocator, so that temporaries
  inside an operator count. "saved": what autograd keeps for the backward pass, likewise.

Targets follow from the formula of a loss (`KINDS`). Times have theirs at (4096, 1000), eager ones
also at (128, 10); memory from 1000 classes on. Indented rows are other libraries' versions of the
loss above, without a target; those that take (N, C) targets get them ready-made.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # no banner from the profiler; read with torch

import torch
import torch.nn.functional as F
from torch import Tensor

from lossbench.losses import create_loss, list_losses
from lossbench.losses.catalogue import facts

SHAPES = [(128, 10), (4096, 10), (4096, 1000), (512, 21843)]
FEATURES = 64

# What the formula of a loss needs, for class indices as targets, beside one log-softmax:
KINDS = {
    # log p_y alone, with factors that depend on y and p_y; l1 is 2(1 - p_y)
    "column": "cross_entropy focal focal_flsd poly1 mae gce reverse_ce sce l1 inverse_frequency "
    "class_balanced",
    # other logits go into it, or all of z, log p or p is read beside it
    "pass": "label_smoothing temperature_scaled multi_margin mse smooth_l1 huber dual_focal mbls "
    "asymmetric confidence_penalty maxsup logit_norm label_aware_smoothing ldam balanced_softmax "
    "logit_adjusted vs cdt norm_softmax am_softmax arcface",
    # no softmax: at least a logarithm and an exponential of every logit
    "one-vs-rest": "binary_cross_entropy sigmoid_focal asymmetric_ovr class_balanced_bce "
    "class_balanced_focal",
    "normalised": "nce nce_rce nce_mae normalized_focal",  # over its sum for every possible label
    "reported": "bi_tempered",  # no softmax but the fixed point of an iteration
}
KIND = {name: kind for kind, names in KINDS.items() for name in names.split()}
# Reported too: what couples or counts samples or reads features does more than pass over logits.
REPORTED_NEEDS = frozenset({"batch", "state", "features"})
EAGER_TARGETS = {"column": 1.3, "pass": 2.5, "one-vs-rest": 2.5, "normalised": 2.5}
COMPILED_TARGETS = {"column": 1.5, "pass": 1.5, "one-vs-rest": 5.0, "normalised": 5.0}
SMALL_TARGET, MEMORY_TARGET = 3.0, 2.0
HEADER = (
    f"{'loss':38}{'kind':12}{'ms':>8}{'eager':>9}{'target':>7}{'memory':>15}{'target':>7}"
    f"{'saved':>12}{'compiled':>9}{'target':>7}{'to eager':>15}{'memory':>9}"
)

OUTSIDE: list[tuple[str, str, str, dict[str, Any], bool]] = [  # the last: (N, C) targets
    ("label_smoothing", "timm.loss", "LabelSmoothingCrossEntropy", {}, False),
    ("binary_cross_entropy", "timm.loss", "BinaryCrossEntropy", {"smoothing": 0.0}, False),
    ("poly1", "timm.loss", "PolyCrossEntropy", {}, False),
    ("asymmetric", "timm.loss", "AsymmetricLossSingleLabel", {"gamma_pos": 0}, False),
    ("asymmetric_ovr", "timm.loss", "AsymmetricLossMultiLabel", {}, True),
    ("focal", "kornia.losses", "FocalLoss", {"alpha": None, "reduction": "mean"}, False),
    ("focal", "imbalanced_losses", "SoftmaxFocalLoss", {}, False),
    ("sigmoid_focal", "torchvision.ops", "sigmoid_focal_loss", {"reduction": "mean"}, True),
    ("sigmoid_focal", "imbalanced_losses", "SigmoidFocalLoss", {}, True),
]


def kind_of(loss: str) -> str:
    return "reported" if facts(loss).needs & REPORTED_NEEDS else KIND[loss]


def targets_of(loss: str, samples: int, classes: int) -> dict[str, float]:
    """The bounds that hold for ``loss`` at this shape."""
    if (kind := kind_of(loss)) == "reported":
        return {}
    targets = {"memory": MEMORY_TARGET} if classes >= 1000 else {}
    if (samples, classes) == (128, 10):
        targets["eager"] = SMALL_TARGET
    if (samples, classes) == (4096, 1000):
        targets |= {"eager": EAGER_TARGETS[kind], "compiled": COMPILED_TARGETS[kind]}
    return targets


@dataclass(frozen=True)
class Case:
    """Something to measure: ``function(logits, *arguments)`` is a scalar."""

    name: str
    loss: str
    function: Callable[..., Tensor]
    logits: Tensor
    arguments: tuple[Tensor, ...]

    def step(self) -> Tensor:
        return torch.autograd.grad(self.function(self.logits, *self.arguments), self.logits)[0]


class Batch:
    """One batch for all: features (N, F) and weight (C, F) of a head, its logits, of standard
    deviation 3, its cosines, and targets drawn with the shares of the class counts."""

    def __init__(self, samples: int, classes: int, device: str) -> None:
        random = torch.Generator().manual_seed(0)
        counts = (50000 * 0.01 ** (torch.arange(classes) / (classes - 1))).long()
        self.class_counts = counts.tolist()
        self.target = torch.multinomial(counts.double(), samples, True, generator=random).to(device)
        self.features = torch.randn(samples, FEATURES, generator=random).to(device)
        weight = torch.randn(classes, FEATURES, generator=random) * 3 / FEATURES**0.5
        self.weight = weight.to(device)
        self.logits = (self.features @ self.weight.T).requires_grad_()
        cosines = F.normalize(self.features) @ F.normalize(self.weight).T
        self.cosines = cosines.requires_grad_()

    def case(self, name: str) -> Case:
        """The catalogue's loss ``name`` on this batch."""
        loss = create_loss(name, class_counts=self.class_counts).to(self.logits.device)
        loss.set_epoch(3, 4)
        logits = self.cosines if facts(name).heads == "cosine" else self.logits
        extra = (self.features, self.weight) if "features" in facts(name).needs else ()
        return Case(name, name, loss, logits, (self.target, *extra))

    def outside(self, name: str) -> Iterator[Case]:
        """Other libraries' versions of the loss ``name``, with the catalogue's parameters."""
        for loss, module, attribute, keywords, dense in OUTSIDE:
            if loss == name and imported(module):
                found = getattr(imported(module), attribute)
                build = found(**keywords) if isinstance(found, type) else partial(found, **keywords)
                dense_target = F.one_hot(self.target, self.logits.shape[1]).to(self.logits.dtype)
                target = dense_target if dense else self.target
                label = f"  {module.split('.')[0]} {attribute}"
                yield Case(label, name, build, self.logits, (target,))


def imported(module: str) -> Any:
    with suppress(ImportError):
        return import_module(module)


def seconds(case: Case, repeats: int) -> float:
    """Time of one step, the mean over ``repeats`` without a pause."""
    alone = not case.logits.is_cuda and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    wait = torch.cuda.synchronize if case.logits.is_cuda else lambda: None
    wait()
    began = clock()
    for _ in range(repeats):
        case.step()
    wait()
    return (clock() - began) / repeats


def ratios(case: Case, references: list[Case], rounds: int) -> tuple[float, list[float]]:
    """Median seconds of ``case``, and its median ratio to each reference, taking turns."""
    everyone = [case, *references]
    for each in everyone:
        seconds(each, 3)
    repeats = max(1, int(0.002 / seconds(references[0], 3)))  # turns of 2 ms at least
    times = [[seconds(each, repeats) for each in everyone] for _ in range(rounds)]
    others = range(1, len(everyone))
    middle = [statistics.median(row[0] / row[other] for row in times) for other in others]
    return statistics.median(row[0] for row in times), middle


def peak_bytes(case: Case) -> int:
    """Most bytes that one step holds at once, beyond what was allocated before it."""
    case.step()
    if case.logits.is_cuda:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        case.step()
        return torch.cuda.max_memory_allocated() - before
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
        case.step()
    results = profile.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()  # negative where memory is freed
        peak = max(peak, live)
    return peak


def saved_bytes(case: Case) -> int:
    """Bytes that autograd keeps for the backward pass; a storage counts once, inputs do not."""
    kept: dict[int, Tensor] = {}  # holds the tensors, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        case.function(case.logits, *case.arguments)
    for given in (case.logits, *case.arguments):
        kept.pop(given.untyped_storage().data_ptr(), None)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def measure(case: Case, target: Tensor, rounds: int, compiling: bool) -> dict[str, Any]:
    """A row: everything about one case, beside cross-entropy of its logits and ``target``."""
    reference = replace(case, function=F.cross_entropy, arguments=(target,))
    took, (eager,) = ratios(case, [reference], rounds)
    shape, ours = tuple(case.logits.shape), case.name == case.loss
    row: dict[str, Any] = {
        **{"shape": shape, "name": case.name, "loss": case.loss, "milliseconds": 1000 * took},
        "kind": kind_of(case.loss) if ours else "",
        "targets": targets_of(case.loss, *shape) if ours else {},
        "eager": eager,
        "memory": peak_bytes(case) / peak_bytes(reference),
        "saved": saved_bytes(case) / saved_bytes(reference),
    }
    row |= measure_compiled(case, reference, rounds) if compiling else {"compiled": None}
    worst = {
        key: row.get(key, float("inf")) or 0 for key in row["targets"]
    }  # inf: does not compile
    return row | {"missed": [key for key in worst if worst[key] > row["targets"][key]]}


def measure_compiled(case: Case, reference: Case, rounds: int) -> dict[str, Any]:
    """What torch.compile makes of the case and of cross-entropy."""
    reason = ""
    for fullgraph in (True, False):
        torch._dynamo.reset()  # all losses share one forward, whose graphs are limited in number
        make = partial(torch.compile, fullgraph=fullgraph, dynamic=False)
        compiled = replace(case, function=make(case.function))
        compiled_reference = replace(reference, function=make(reference.function))
        try:
            compiled.step()
        except Exception as error:  # whatever the compiler stumbles over
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            continue
        _, (to_compiled, to_eager) = ratios(compiled, [compiled_reference, reference], rounds)
        return {
            "compiled": to_compiled,
            "to eager": to_eager,
            "compiled memory": peak_bytes(compiled) / peak_bytes(compiled_reference),
            "one graph": fullgraph,
        }
    return {"compile error": reason}


def line(row: dict[str, Any]) -> str:
    """A row as a line of the table."""

    def judged(key: str) -> str:
        target = row["targets"].get(key)
        verdict = "" if target is None else "MISS" if key in row["missed"] else "ok"
        return f"{row[key]:9.2f}{target or '-':>7} {verdict:5}"

    text = f"{row['name']:38}{row['kind']:12}{row['milliseconds']:8.3f}"
    text += f"{judged('eager')}{judged('memory')}{row['saved']:6.2f}"
    if row.get("compiled"):
        text += f"{judged('compiled')}{' ' if row['one graph'] else '~'}"
        text += f"{row['to eager']:8.2f}{row['compiled memory']:9.2f}"
    return text + f"  {row.get('compile error', '')[:80]}".rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--shape", action="append", help="samples,classes; may be given again")
    parser.add_argument("--only", help="names of losses, with commas between")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", type=Path, help="a file for all numbers")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(given.threads)
    names = given.only.split(",") if given.only else list_losses()
    print(
        f"torch {torch.__version__} {given.device}, threads {given.threads}, rounds {given.rounds}"
    )
    for module in sorted({module for _, module, *_ in OUTSIDE if not imported(module)}):
        print(f"{module} cannot be imported: its rows are left out")
    rows = []
    shapes = [tuple(map(int, text.split(","))) for text in given.shape or []]
    for samples, classes in shapes or SHAPES:
        print(f"\n({samples}, {classes}): time and memory over those of F.cross_entropy\n{HEADER}")
        batch = Batch(samples, classes, given.device)
        for name in names:
            for case in (batch.case(name), *batch.outside(name)):
                rows.append(measure(case, batch.target, given.rounds, not given.no_compile))
                print(line(rows[-1]), flush=True)
    missed, bounds = (sum(len(row[key]) for row in rows) for key in ("missed", "targets"))
    print(f"\n{missed} of {bounds} targets missed")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
