"""Templates: what is replaced, what stays as it is, and what is said when there is no value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolscore.runners.errors import MissingVariableError, StartError
from toolscore.runners.spec import ServerSpec
from toolscore.runners.template import MissingSecretError, expand, expand_spec, is_template, secret_names

VARIABLES = {"NAME": "value", "EMPTY": "", "_x1": "under", "PORT": "from the environment", "DEEP": "${NAME}"}
SECRETS = {"gh/env/KEY": "s3cret", "gh/env/A B": "blank", "empty": ""}
EXTRA = {"PORT": "4711"}


def filled(text: str) -> str:
    return expand(text, "args[0]", VARIABLES.get, SECRETS.get, EXTRA)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${NAME}", "value"),
        ("a-${NAME}-b${NAME}", "a-value-bvalue"),
        ("${_x1}", "under"),
        ("${EMPTY}", ""),
        ("${NAME:-other}", "value"),
        ("${UNSET:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${UNSET:-}", ""),
        ("${UNSET:-a:-b c/ü$d}", "a:-b c/ü$d"),
        ("${env:NAME}", "value"),
        ("${env:UNSET:-other}", "other"),
        ("${secret:gh/env/KEY}", "s3cret"),
        ("${secret:empty}", ""),
        ("Bearer ${secret:gh/env/KEY}", "Bearer s3cret"),
        ("http://localhost:${PORT}/mcp", "http://localhost:4711/mcp"),
        ("${env:PORT}", "from the environment"),
        ("${PORT:-80}", "4711"),
        ("$${NAME}", "$value"),
        ("{${NAME}}", "{value}"),
    ],
)
def test_what_is_replaced(text: str, result: str) -> None:
    assert filled(text) == result
    assert is_template(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "plain",
            "$",
            "$$",
            "$NAME",
            "${",
            "${}",
            "${NAME",
            "${ NAME }",
            "${1A}",
            "${NAME-x}",
            "${NÄME}",
        ),
        *("${input:}", "${input:1a}", "${secret:}", "${secret:a{b}", "${NAME:-${NAME}}", "${UNSET:-{}}"),
        *("${secret:${NAME}}", "${NAME:-a${secret:gh/env/KEY}b}"),
    ],
)
def test_what_stays_as_it_is(text: str) -> None:
    assert filled(text) == text
    assert not is_template(text)


def test_what_follows_something_malformed_is_replaced_all_the_same() -> None:
    assert filled("${A:-${B}} ${NAME} ${oops ${NAME}") == "${A:-${B}} value ${oops value"


def test_a_value_that_was_put_in_is_not_looked_at_again() -> None:
    assert filled("${DEEP}") == "${NAME}"


@pytest.mark.parametrize("text", ["${UNSET}", "x${env:UNSET}"])
def test_an_unset_variable_is_named_with_its_place_and_what_to_do(text: str) -> None:
    with pytest.raises(
        MissingVariableError, match=r"args\[0\].*set the environment variable UNSET"
    ) as caught:
        filled(text)
    assert caught.value.variable == "UNSET"


def test_a_missing_secret_is_named_with_its_place_and_what_to_do() -> None:
    with pytest.raises(
        MissingVariableError, match=r"secret gh/env/NO .*args\[0\].*install or register"
    ) as caught:
        filled("${secret:gh/env/NO}")
    assert isinstance(caught.value, MissingSecretError)
    assert caught.value.variable == "secret:gh/env/NO"


@given(st.text("${}:-ANMEenvsecret/ \n", max_size=40))
def test_any_text_is_either_filled_or_lacks_a_value(text: str) -> None:
    try:
        result = filled(text)
    except MissingVariableError:
        assert is_template(text)
    else:
        assert is_template(text) or result == text


SPEC = ServerSpec(
    command="${NAME}",
    args=("a", "${PORT}"),
    env={"KEY": "${secret:gh/env/KEY}", "${NAME}": "x"},
    cwd="/srv/${NAME}",
    url="http://h:${PORT}/",
    headers={"Authorization": "Bearer ${env:NAME}"},
)


def test_every_part_of_a_spec_is_filled_but_names() -> None:
    assert expand_spec(SPEC, VARIABLES.get, SECRETS.get, EXTRA) == ServerSpec(
        command="value",
        args=("a", "4711"),
        env={"KEY": "s3cret", "${NAME}": "x"},
        cwd="/srv/value",
        url="http://h:4711/",
        headers={"Authorization": "Bearer value"},
    )
    assert SPEC.command == "${NAME}"


@pytest.mark.parametrize(
    ("part", "where"),
    [
        ({"command": "${UNSET}"}, "command"),
        ({"args": ("a", "b", "${UNSET}")}, r"args\[2\]"),
        ({"env": {"API_KEY": "${UNSET}"}}, "env.API_KEY"),
        ({"cwd": "${UNSET}"}, "cwd"),
        ({"url": "http://${UNSET}/"}, "url"),
        ({"headers": {"Authorization": "${UNSET}"}}, "headers.Authorization"),
    ],
)
def test_the_part_that_lacks_a_value_is_named(part: dict[str, object], where: str) -> None:
    spec = ServerSpec.model_validate({"command": "x", **part})
    with pytest.raises(MissingVariableError, match=rf"and {where} uses it"):
        expand_spec(spec, VARIABLES.get, SECRETS.get, {})


@pytest.mark.parametrize("name", ["X\r\nEvil: 1", "X\n", "X Y", "", "X:", "\u00e9"])
def test_a_header_has_a_name_that_cannot_begin_another_one(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a header"):
        ServerSpec(url="ws://127.0.0.1/mcp", headers={"Authorization": "a", name: "x"})


def test_a_spec_that_becomes_impossible_is_refused_without_its_values() -> None:
    spec = ServerSpec(command="${EMPTY}", env={"KEY": "${secret:gh/env/KEY}"})
    with pytest.raises(StartError, match=r"needs a command.*Check the variables") as caught:
        expand_spec(spec, VARIABLES.get, SECRETS.get, {})
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


NOTHING: dict[str, str] = {}
NAMED = {"NAME": "named", "BOTH": "named", "PORT": "named", "the-key": "named key", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${NAME}", "named"),  # before the environment
        ("${PORT}", "4711"),  # behind a value of this start
        ("${_x1}", "under"),  # and the environment where there is none
        ("${env:NAME}", "value"),
        ("${input:NAME}", "named"),
        ("${input:the-key}", "named key"),
        ("${input:nope:-other}", "other"),
        ("${input:EMPTY:-other}", "other"),
        ("${secret:the-key}", "named key"),
        ("${secret:gh/env/KEY}", "s3cret"),
    ],
)
def test_a_named_secret_comes_behind_this_start_and_before_the_environment(text: str, result: str) -> None:
    assert expand(text, "args[0]", VARIABLES.get, SECRETS.get, EXTRA, NAMED.get) == result
    assert is_template(text)


@pytest.mark.parametrize("text", ["${input:PATH_OF_IT}", "${secret:PATH_OF_IT}", "${PATH_OF_IT}"])
def test_what_is_missing_is_named_with_the_command_that_sets_it(text: str) -> None:
    with pytest.raises(MissingVariableError) as error:
        expand(text, "env.KEY", NOTHING.get, NOTHING.get, {}, NAMED.get)
    assert text in error.value.message
    assert "env.KEY uses it" in error.value.message
    assert "`toolscore secret set PATH_OF_IT`" in error.value.message


def test_a_secret_is_not_taken_for_a_variable_nor_the_other_way_round() -> None:
    with pytest.raises(MissingVariableError, match="set the environment variable BOTH") as error:
        expand("${env:BOTH}", "env.KEY", NOTHING.get, NOTHING.get, {}, NAMED.get)
    assert "secret set" not in error.value.message
    with pytest.raises(MissingSecretError):
        expand("${input:_x1}", "env.KEY", VARIABLES.get, NOTHING.get, {}, NAMED.get)
    with pytest.raises(MissingSecretError, match="install or register"):
        expand("${secret:other/env/KEY}", "env.KEY", VARIABLES.get, NOTHING.get, {}, NAMED.get)


def test_a_spec_says_which_secrets_it_may_want() -> None:
    spec = ServerSpec(
        command="x",
        args=("${A} ${env:B}", "${input:c-d:-e}"),
        env={"K": "${secret:F}${secret:s/env/K}", "L": "${G:-${H}}"},
    )
    assert secret_names(spec) == {"A", "c-d", "F"}
