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

    Links are followed, but not to a folder that is read anyway, nor to one above.

    Raises `InputError` where there is no such folder, no class, a class without an image, a class
    whose name is not UTF-8, or a folder that cannot be read.
    """
    root = place_in(folder, part)
    if not root.is_dir():
        raise InputError(f"there is no folder {root}; it must hold a folder for each class")
    try:
        return _list_classes(root, folder)
    except OSError as error:
        raise InputError(
            f"cannot read the folder {error.filename} ({error.strerror}); make it readable, or take"
            " it out"
        ) from error


def _list_classes(root: Path, folder: Path) -> Listing:
    names = sorted(x.name for x in os.scandir(root) if x.is_dir() and x.name[0] != ".")
    if not names:
        raise InputError(f"{root} holds no folders; it must hold one for each class")
    above = os.path.relpath(root, folder)
    real = root.resolve()
    seen = {_file_id(place) for place in (real, *real.parents, *(root / name for name in names))}
    paths, labels, ignored = [], [], 0
    for name in names:
        if name.encode(errors="ignore").decode() != name:
            raise InputError(f"{root} has a class folder {name!r}, which is not UTF-8; rename it")
        found = list(_files_below(root / name, seen))
        images = [path for path in found if path.lower().endswith(SUFFIXES)]
        if not images:
            raise InputError(
                f"the class folder {root / name} holds no image ({', '.join(SUFFIXES)}); add some"
                " or remove it"
            )
        ignored += len(found) - len(images)
        below = len(str(root)) + 1
        paths += [path[below:] if above == "." else f"{above}/{path[below:]}" for path in images]
        labels += [name] * len(images)
    return Listing(root, paths, labels, tuple(names), ignored=ignored)


def _files_below(folder: Path, seen: set[tuple[int, int]]) -> Iterator[str]:
    """The files below ``folder`` in every folder that is not ``seen``, hidden ones left out."""
    found = []
    for place, inside, files in os.walk(folder, followlinks=True, onerror=_raise):
        found.append((place, files))
        named = sorted(name for name in inside if name[0] != ".")
        inside.clear()  # os.walk enters what is put in here
        for name in named:
            if (file_id := _file_id(os.path.join(place, name))) not in seen:
                seen.add(file_id)
                inside.append(name)
    for place, files in sorted(found):
        yield from (os.path.join(place, name) for name in sorted(files) if name[0] != ".")


def _file_id(place: str | Path) -> tuple[int, int]:
    status = os.stat(place)
    return status.st_dev, status.st_ino


def _raise(error: OSError) -> None:
    raise error


def list_file(folder: Path, part: str) -> Listing:
    """The images in a list file: lines ``path label``, or ``path,label`` in a ``.csv``.

    Empty lines, and those that begin with #, are passed over. A CSV may have a header: a first row
    ``path,label``, or any without the suffix of an image whose label alone is no whole number.
    Labels are whole numbers where most of them are.

    Raises `InputError` that names file and line of the first bad row, and counts them.
    """
    source = place_in(folder, part)
    rows: list[tuple[int, str, str]] = []
    bad: list[tuple[int, str]] = []
    count = 0
    read = _csv_rows if source.suffix.lower() == ".csv" else _text_rows
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            for line, fields in read(file):
                count += 1
                if len(fields) == 2 and all(fields):
                    rows.append((line, fields[0], fields[1]))
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
            f"{source} line {line}: {what}; {len(bad)} of {count} rows are bad; correct them"
        )
    if not rows:
        raise InputError(f"the list {source} has no rows; write lines such as: dog/3.jpg 7")
    labels = [str(int(label)) if numbered else label for _, _, label in rows]
    return Listing(
        source,
        [os.path.relpath(path, folder) if os.path.isabs(path) else path for _, path, _ in rows],
        labels,
        tuple(sorted(set(labels), key=int if numbered else None)),
        [line for line, _, _ in rows],
    )


def _text_rows(file: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    for line, text in enumerate(file, start=1):
        if text.strip() and not text.startswith("#"):
            yield line, text.strip().rsplit(maxsplit=1)


def _csv_rows(file: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(file, skipinitialspace=True)
    rows = [
        (reader.line_num, [field.strip() for field in fields])
        for fields in reader
        if fields and not fields[0].startswith("#")
    ]
    yield from rows[_has_header([fields for _, fields in rows]) :]


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    if not rows or len(rows[0]) != 2:
        return False
    (path, label), others = rows[0], rows[1:]
    only_words = not path.lower().endswith(SUFFIXES) and not _is_whole(label)
    numbered = bool(others) and all(_is_whole(fields[-1]) for fields in others)
    return (path, label) == ("path", "label") or (only_words and numbered)


def _is_whole(label: str) -> bool:
    return label.isascii() and label.isdigit()


def check_classes(train: Listing, test: Listing | None) -> None:
    """Raises `InputError` for a gap in numbered labels, one class, and a label only test has.

    Of folders, both parts must have the same classes.
    """
    names = train.class_names
    if train.lines and all(_is_whole(name) for name in names):
        count = int(names[-1]) + 1
        if count > len(names):
            first = next(at for at, name in enumerate(names) if int(name) != at)
            raise InputError(
                f"class '{first}' has no image in {train.source}; labels must be 0 to {count - 1}"
                f" without gaps, and {count - len(names)} of these {count} are missing"
            )
    if len(names) < 2:
        raise InputError(
            f"{train.source} has one class, {names[0]!r}; classification needs at least two"
        )
    present = set(names)
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
