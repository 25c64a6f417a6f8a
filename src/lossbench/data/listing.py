"""Which images there are and how they are labelled: from folders, or from list files."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lossbench.data.decoding import SUFFIXES
from lossbench.errors import InputError


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of one part.

    Attributes:
        source: the folder or the list file.
        paths: relative to the archive, or absolute.
        labels: the name of the class of each.
        class_names: by class index.
        lines: where each image stands in the list file, from 1; none of a folder.
        ignored: files that are no images.
    """

    source: Path
    paths: Sequence[str]
    labels: Sequence[str]
    class_names: tuple[str, ...]
    lines: Sequence[int] = ()
    ignored: int = 0

    def place(self, at: int) -> str:
        """Where the image ``at`` is listed, as the beginning of a message; empty for a folder."""
        return f"{self.source} line {self.lines[at]}: " if self.lines else ""


def place_in(folder: Path, part: str) -> Path:
    """The folder or file called ``part``, relative to ``folder`` unless it is absolute."""
    return folder / Path(part).expanduser()


def list_folder(folder: Path, part: str) -> Listing:
    """The images below ``folder/part/CLASS``, sorted as torchvision's ImageFolder sorts them.

    Raises `InputError` where there is no such folder, no class, or a class without an image.
    """
    root = place_in(folder, part)
    if not root.is_dir():
        raise InputError(f"there is no folder {root}; it must hold a folder for each class")
    names = sorted(x.name for x in os.scandir(root) if x.is_dir() and x.name[0] != ".")
    if not names:
        raise InputError(f"{root} holds no folders; it must hold one for each class")
    paths, labels, ignored = [], [], 0
    for name in names:
        found = list(_files_below(root / name))
        images = [path for path in found if path.lower().endswith(SUFFIXES)]
        if not images:
            raise InputError(
                f"the class folder {root / name} holds no image ({', '.join(SUFFIXES)}); add some"
                " or remove it"
            )
        ignored += len(found) - len(images)
        paths += [os.path.relpath(path, folder) for path in images]
        labels += [name] * len(images)
    return Listing(root, paths, labels, tuple(names), ignored=ignored)


def _files_below(folder: Path) -> Iterator[str]:
    for place, _, files in sorted(os.walk(folder, followlinks=True)):
        yield from (os.path.join(place, name) for name in sorted(files) if name[0] != ".")


def list_file(folder: Path, part: str) -> Listing:
    """The images in a list file: lines ``path label``, or ``path,label`` in a ``.csv``.

    Empty lines, and those that begin with #, are passed over. A CSV may have a header: a first row
    whose path has no suffix. Labels are whole numbers where most of them are.

    Raises `InputError` that names file and line of the first bad row, and counts them.
    """
    source = place_in(folder, part)
    rows: list[tuple[int, str, str]] = []
    bad: list[tuple[int, str]] = []
    read = _csv_rows if source.suffix.lower() == ".csv" else _text_rows
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            for line, fields in read(file):
                if len(fields) == 2 and all(fields):
                    rows.append((line, *fields))
                else:
                    bad.append((line, f"{' '.join(fields)!r} is not a path and a label"))
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"cannot read the list {source} ({error})") from error
    whole = [_is_whole(label) for _, _, label in rows]
    numbered = 2 * sum(whole) > len(whole)
    if numbered:
        bad += [
            (line, f"the label {label!r} is not a whole number, as others are")
            for (line, _, label), good in zip(rows, whole, strict=True)
            if not good
        ]
    if bad:
        line, what = min(bad)
        raise InputError(
            f"{source} line {line}: {what}; {len(bad)} of {len(rows)} rows are bad; correct them"
        )
    if not rows:
        raise InputError(f"the list {source} has no rows; write lines such as: dog/3.jpg 7")
    labels = [str(int(label)) if numbered else label for _, _, label in rows]
    return Listing(
        source,
        [os.path.relpath(path, folder) if os.path.isabs(path) else path for _, path, _ in rows],
        labels,
        _numbers(labels) if numbered else tuple(sorted(set(labels))),
        [line for line, _, _ in rows],
    )


def _text_rows(file: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    for line, text in enumerate(file, start=1):
        if text.strip() and not text.startswith("#"):
            yield line, text.strip().rsplit(maxsplit=1)


def _csv_rows(file: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(file, skipinitialspace=True)
    for number, fields in enumerate(reader):
        header = number == 0 and len(fields) == 2 and not Path(fields[0]).suffix
        if fields and not header and not fields[0].startswith("#"):
            yield reader.line_num, [field.strip() for field in fields]


def _is_whole(label: str) -> bool:
    return label.isascii() and label.isdigit()


def _numbers(labels: Sequence[str]) -> tuple[str, ...]:
    """The class names "0" to "C - 1"."""
    return tuple(str(label) for label in range(max(int(label) for label in labels) + 1))


def check_classes(train: Listing, test: Listing | None) -> None:
    """Raises `InputError` for a class without a training image, and a label that test alone has.

    Of folders, both parts must have the same classes.
    """
    present = set(train.labels)
    for name in train.class_names:
        if name not in present:
            raise InputError(
                f"class {name!r} has no image in {train.source}; labels are 0 to"
                f" {len(train.class_names) - 1} without gaps"
            )
    if test is None:
        return
    unseen = [at for at, label in enumerate(test.labels) if label not in present]
    if unseen:
        label = test.labels[unseen[0]]
        raise InputError(
            f"{test.place(unseen[0])}the class {label!r} of {test.source} is not one of the"
            f" {len(train.class_names)} of {train.source} ({len(unseen)} test images are of such"
            " classes); take them out, or add training images"
        )
    if not train.lines and (missing := sorted(present - set(test.labels))):
        raise InputError(
            f"{test.source} has no folder for the class {missing[0]!r} of {train.source}; both"
            " parts must have the same classes"
        )
