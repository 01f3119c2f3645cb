"""The arguments, variables and headers of an entry, filled in with what is given: words, never lines for a shell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from ..outcome import Outcome, RefusalError
from .entry import Argument, Input, KeyValue
from .values import Given, Place, Text, Wanted, usable, wanted

CURLY = re.compile(r"\{([^{}]+)\}")
"""A variable in a value: `{name}`. One that is not declared stays as it is written."""

Word = tuple[Text, ...]
"""One word of a command line, or one value, in pieces: some of the entry's, some given, some secret."""


class Asked:
    """What one package or remote asks for, by the names it has in `settings`."""

    def __init__(self) -> None:
        self.wanted: dict[str, Wanted] = {}

    def add(
        self, name: str, place: Place, asked: Input, *, required: bool = False, repeated: bool = False
    ) -> str:
        """Note that a value can be given. The same name at two places is the same value.

        Returns:
            The name.
        """
        new = wanted(name, place, asked, required=required, repeated=repeated)
        old = self.wanted.get(name)
        if old is not None:
            # A variable of the environment stays one, so that it can be given as such.
            place = "environment" if "environment" in (old.place, place) else old.place
            new = Wanted(
                name=name,
                place=place,
                description=old.description or new.description,
                required=old.required or new.required,
                secret=old.secret or new.secret,
                format=old.format if old.format != "string" else new.format,
                default=old.default if old.default is not None else new.default,
                choices=old.choices or new.choices,
                placeholder=old.placeholder or new.placeholder,
                repeated=old.repeated and new.repeated,
            )
        self.wanted[name] = new
        return name


def key_of(argument: Argument, index: int) -> str:
    """Give the name an argument has in `settings`: without dashes, or its hint, or its place."""
    if argument.type == "named":
        return flag_of(argument).lstrip("-").rstrip("=") or f"argument{index + 1}"
    return argument.value_hint or f"argument{index + 1}"


def flag_of(argument: Argument) -> str:
    """Give the option itself; some write what its value is behind it, as in `--dir <path>`."""
    return ((argument.name or "").split() or [""])[0]


def is_flag(argument: Argument) -> bool:
    """Tell an option that takes no value, and that nobody has to be asked about."""
    says = (
        argument.default,
        argument.description,
        argument.placeholder,
        argument.choices,
        argument.is_required,
        argument.is_secret,
        argument.value_hint,
        argument.variables,
    )
    return (
        argument.type == "named"
        and not argument.value
        and not any(says)
        and not argument.is_repeated
        and argument.format == "string"
    )


def ask_arguments(asked: Asked, arguments: Sequence[Argument]) -> None:
    """Note what a list of arguments asks for."""
    leading = _leading(arguments)
    for index, argument in enumerate(arguments):
        if _fixed(argument):
            _ask_variables(
                asked, "argument", argument, required=index in leading, repeated=argument.is_repeated
            )
        elif not is_flag(argument) and not _inline(argument):
            # A value that is there to stay and cannot be used has to be given.
            needed = bool(argument.value) or index in leading
            asked.add(
                key_of(argument, index),
                "argument",
                argument,
                required=needed,
                repeated=argument.is_repeated,
            )


def _leading(arguments: Sequence[Argument]) -> set[int]:
    """Find the places of arguments that cannot be left out: one behind them that is passed would move into theirs."""
    found: set[int] = set()
    waiting: list[int] = []
    option = False
    for index, argument in enumerate(arguments):
        if argument.type == "named":
            option = False
            continue
        passed = _is_passed(argument)
        dashed = passed and (argument.value or argument.default or "").startswith("-")
        if (
            passed and not dashed and not option
        ):  # an option and its value may be written so, and stand anywhere
            found.update(waiting)
            waiting = []
        elif not passed and not argument.is_repeated:  # of which there may be none
            waiting.append(index)
        option = dashed
    return found


def _is_passed(argument: Argument) -> bool:
    """Tell a positional argument that is passed also where nobody gives anything."""
    if not _fixed(argument) or argument.is_required:
        return argument.is_required or usable(argument.default) is not None
    variables = [argument.variables[name] for name in composing(argument)]
    return all(one.is_required or usable(one.value) or usable(one.default) for one in variables)


def outline(argument: Argument, given: Given, asked: Mapping[str, Wanted]) -> str:
    """Show an argument whose value is not complete, as `--mount src=<src>`; in brackets where it may be left out."""
    found = {name: given.of(name) for name in composing(argument)}
    names = [name for name, texts in found.items() if not texts]
    shown = {name: Text(texts[0].text if texts else f"<{name}>") for name, texts in found.items()}
    value = "".join(piece.text for piece in fill(argument.value or "", shown))
    flag = flag_of(argument) if argument.type == "named" else ""
    text = f"{flag}{'' if not flag or flag.endswith('=') else ' '}{value}"
    return text if all(asked[name].required for name in names) else f"[{text}]"


def ask_values(asked: Asked, place: Place, pairs: Sequence[KeyValue]) -> None:
    """Note what variables of the environment or headers ask for."""
    for pair in pairs:
        if not _fixed(pair):
            asked.add(pair.name, place, pair, required=bool(pair.value))
            continue
        _ask_variables(asked, place, pair)
        if place == "environment":  # also where its value is settled: whose machine it is has the last word
            secret = pair.is_secret or any(
                asked.wanted[name].secret for name in composing(pair) if name in asked.wanted
            )
            asked.add(pair.name, place, Input(description=pair.description, is_secret=secret))


def composing(pair: KeyValue | Argument) -> list[str]:
    """Give the names of the variables a fixed value is composed of."""
    value = pair.value if _fixed(pair) else None
    return [name for name in CURLY.findall(value or "") if name in pair.variables]


def needless(given: Given, pairs: Sequence[KeyValue], others: Sequence[KeyValue | Argument]) -> set[str]:
    """Give the names of variables that nobody has to give, as all they are for was given whole."""
    whole = [pair for pair in pairs if pair.name not in pair.variables and given.has(pair.name)]
    rest = [*(pair for pair in pairs if pair not in whole), *others]
    used = {name for one in rest for name in composing(one)}
    return {name for pair in whole for name in composing(pair)} - used


def fill_arguments(arguments: Sequence[Argument], given: Given, asked: Mapping[str, Wanted]) -> list[Word]:
    """Make the words of a command line.

    Raises:
        RefusalError: If a value cannot be passed so that it surely is one.
    """
    words: list[Word] = []
    skipped = ""
    for index, argument in enumerate(arguments):
        key = key_of(argument, index)
        if argument.type == "named":
            words += _named(argument, key, given, asked)
            continue
        found = list(_values(argument, key, given))
        if not found:
            skipped = skipped or key
            continue
        if skipped and given.has(key):
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS, f"{key} comes after {skipped}, and cannot be given without it."
            )
        for value in found:
            # What the entry itself says may be an option, and so may a choice it offers.
            fixed = not value[0].given or value[0].text in argument.choices or argument.format == "number"
            if value[0].text.startswith("-") and not fixed:
                raise _dashed(key)
            words.append(value)
    return words


def _named(argument: Argument, key: str, given: Given, asked: Mapping[str, Wanted]) -> Iterator[Word]:
    flag = flag_of(argument)
    if is_flag(argument) or (_inline(argument) and not _fixed(argument)):
        yield (Text(flag),)
        return
    takes_value = flag.endswith("=") or bool(argument.choices)
    if not _fixed(argument) and argument.format in ("boolean", "string") and not takes_value:
        # Most programs know a yes or no as an option that is there or not.
        if key in given.off or (not given.has(key) and asked[key].default == "false"):
            return
        if key in given.bare:
            yield (Text(flag),)
            return
    for value in _values(argument, key, given):
        if argument.format == "boolean" and not takes_value and (said := _yes_or_no(value)) is not None:
            if said:
                yield (Text(flag),)
        elif flag.endswith("="):
            yield (Text(flag), *value)
        elif value[0].text.startswith("-") and flag.startswith("--"):
            yield (Text(f"{flag}="), *value)  # as one word it is no option of its own
        elif value[0].text.startswith("-") and value[0].given and argument.format != "number":
            raise _dashed(key)
        else:
            yield (Text(flag),)
            yield value


def _yes_or_no(word: Word) -> bool | None:
    """Read a yes or no, whoever says it and whether as a text or not."""
    return {"true": True, "false": False}.get("".join(piece.text for piece in word).lower())


def _dashed(key: str) -> RefusalError:
    return RefusalError(
        Outcome.INVALID_ARGUMENTS,
        f"{key} begins with a dash, so that the server would take it for an option. Options go into args.",
    )


def fill_value(pair: KeyValue, given: Given, asked: Mapping[str, Wanted]) -> Word | None:
    """Make the value of a variable of the environment or a header; `None` where it is left out."""
    if _fixed(pair) and pair.name not in pair.variables and pair.name in asked and given.has(pair.name):
        return given.of(pair.name)
    return next(_values(pair, pair.name, given), None)


def _values(argument: Argument | KeyValue, key: str, given: Given) -> Iterator[Word]:
    """Give the values of one argument; several if it is repeated, none if there is nothing to pass."""
    if not _fixed(argument):
        for text in given.of(key) or ():
            yield (text,)
        return
    assert argument.value is not None
    columns: dict[str, tuple[Text, ...]] = {}
    for name in CURLY.findall(argument.value):
        if name in argument.variables:
            found = given.of(name)
            if found is None:
                return
            columns[name] = found
    rows = max(map(len, columns.values()), default=1)
    for name, column in columns.items():
        if len(column) not in (1, rows):
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS,
                f"{name} has {len(column)} values, and what goes with it {rows}; give as many of each.",
            )
    for row in range(rows):
        yield fill(argument.value, {name: column[row % len(column)] for name, column in columns.items()})


def fill(template: str, values: Mapping[str, Text]) -> Word:
    """Put values in the place of `{name}`, in one look: what is in a value is not looked at again."""
    pieces: list[Text] = []
    end = 0
    for match in CURLY.finditer(template):
        if match[1] in values:
            pieces += [Text(template[end : match.start()]), values[match[1]]]
            end = match.end()
    pieces.append(Text(template[end:]))
    return tuple(piece for piece in pieces if piece.text) or (Text(""),)


def templated(word: Word) -> bool:
    """Tell whether a text has a `${` that nobody gave: the entry's own, or made where two pieces meet."""
    stand_ins = ("{$" if one.text.endswith("$") else "{" for one in word if one.given)
    return "${" in "".join(next(stand_ins) if one.given else one.text for one in word)


def _fixed(asked: Input) -> bool:
    return bool(asked.value) and usable(asked.value) is not None


def _inline(argument: Argument) -> bool:
    """Tell an option that has its value in its name, as `--transport=stdio`."""
    return (
        argument.type == "named" and re.search(r"=.", flag_of(argument)) is not None and not argument.default
    )


def _ask_variables(
    asked: Asked,
    place: Place,
    argument: Argument | KeyValue,
    *,
    required: bool = False,
    repeated: bool = False,
) -> None:
    assert argument.value is not None
    names = [name for name in CURLY.findall(argument.value) if name in argument.variables]
    for name in names:
        variable = argument.variables[name]
        if variable.value:
            variable = variable.model_copy(update={"default": variable.value})
        secret = variable.is_secret or (argument.is_secret and len(names) == 1)
        # Not "environment": by its own name it is no variable of the environment.
        asked.add(
            name,
            "argument" if place == "environment" else place,
            variable.model_copy(update={"is_secret": secret}),
            required=argument.is_required or required,
            repeated=repeated,
        )
