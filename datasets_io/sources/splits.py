"""Choose one of the splits of a data set, such as train and test."""

from collections.abc import Collection

from datasets_io.errors import UnknownName
from datasets_io.source import Source
from datasets_io.storage import Place


def choose_split(source: Source, given: str | None, names: Collection[str], root: Place) -> str:
    """Return the name of the split that is read: the given one, else train, else the only one.

    The splits that are not read are noted in the source.

    Args:
        source: The source.
        given: Name that the user gave.
        names: Names of the splits that there are.
        root: Folder of the data set, for the message.

    Raises:
        UnknownName: There is no such split, or no train among several.
    """
    name = given or ("train" if "train" in names or len(names) != 1 else next(iter(names)))
    if name not in names:
        raise UnknownName(
            f"{root} has no split {name!r}.",
            f"There are: {' '.join([*names][:50]) or 'none'}; choose by split=NAME.",
            given=name,
            known=names,
        )
    if others := [other for other in names if other != name]:
        source.note("splits", "", f"{name} was read; other splits: {', '.join(others[:10])}")
    return name
