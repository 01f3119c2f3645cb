"""Settings: where values come from, which wins, and what an error tells."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from toolscore.sandbox.isolation import Tier
from toolscore.sandbox.settings import SandboxSettings
from toolscore.server.python_executor import sandbox_settings
from toolscore.server.settings import SettingsError, load, options, template
from toolscore.server.settings_hot import HOT, apply


def home(tmp_path: Path, text: str | None = None, name: str = "config.toml") -> str:
    if text is not None:
        (tmp_path / name).write_text(text)
    return str(tmp_path)


def problems(**kwargs: object) -> tuple[str, ...]:
    overrides = kwargs.pop("overrides", {})
    with pytest.raises(SettingsError) as caught:
        load(overrides, **{"environ": {}, **kwargs})  # type: ignore[arg-type]
    assert str(caught.value).splitlines() == list(caught.value.problems)
    return caught.value.problems


def test_defaults_hold_where_nothing_is_set(tmp_path: Path) -> None:
    loaded = load({}, home=home(tmp_path), config=None, environ={})
    process = loaded.settings.process
    assert (process.timeout, process.start_timeout, process.stop_grace) == (300, 30, 2)
    assert (process.port_range_start, process.port_range_end) == (41000, 41999)
    assert (process.max_memory, process.start_concurrency, process.restart_limit) == (0, 8, 5)
    assert process.pass_env == ()
    assert loaded.settings.log.level == "info"
    assert (loaded.settings.install.timeout, loaded.settings.tools.page_size) == (900, 50)
    assert {origin for key, origin in loaded.origins.items() if key != "home"} == {"default"}
    assert not loaded.config_exists


def test_each_source_wins_over_the_one_before_it(tmp_path: Path) -> None:
    where = home(tmp_path, "[process]\ntimeout = 1\nstart_timeout = 1\nstop_grace = 1\n")
    environ = {"TOOLSCORE_PROCESS_START_TIMEOUT": "2", "TOOLSCORE_PROCESS_STOP_GRACE": "2.5"}
    loaded = load({"process.stop_grace": "3"}, home=where, environ=environ)
    process = loaded.settings.process
    assert (process.timeout, process.start_timeout, process.stop_grace) == (1, 2, 3)
    assert loaded.origins["process.timeout"] == f"file {tmp_path}/config.toml, [process] timeout"
    assert loaded.origins["process.start_timeout"] == "environment variable TOOLSCORE_PROCESS_START_TIMEOUT"
    assert loaded.origins["process.stop_grace"] == "command line --set"


def test_the_home_comes_from_the_command_line_then_the_environment_then_the_platform(tmp_path: Path) -> None:
    environ = {"TOOLSCORE_HOME": str(tmp_path / "b")}
    first = load({}, home=str(tmp_path / "a"), environ=environ)
    assert (first.settings.home, first.origins["home"]) == (tmp_path / "a", "command line --home")
    second = load({}, environ=environ)
    assert second.origins["home"] == "environment variable TOOLSCORE_HOME"
    assert second.settings.home == tmp_path / "b"
    third = load({}, environ={}, config=str(_empty(tmp_path)))
    assert third.origins["home"] == "default"
    assert third.settings.home.is_absolute()
    assert third.settings.home.name == "toolscore"


def _empty(tmp_path: Path) -> Path:
    (tmp_path / "empty.toml").touch()
    return tmp_path / "empty.toml"


def test_a_relative_home_is_made_absolute_and_a_tilde_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert load({}, home="x/../y", environ={}).settings.home == tmp_path / "y"
    assert load({}, home="~/z", environ={}).settings.home == tmp_path / "me/z"


def test_the_short_names_of_the_process_group_work_and_the_long_ones_win(tmp_path: Path) -> None:
    environ = {
        "PROCESS_TIMEOUT": "10",
        "PROCESS_MAX_MEMORY": "512",
        "PROCESS_PORT_RANGE_START": "5000",
        "PROCESS_PORT_RANGE_END": "5010",
        "TOOLSCORE_PROCESS_TIMEOUT": "20",
    }
    loaded = load({}, home=home(tmp_path), environ=environ)
    process = loaded.settings.process
    assert (process.timeout, process.max_memory) == (20, 512)
    assert (process.port_range_start, process.port_range_end) == (5000, 5010)
    assert loaded.origins["process.max_memory"] == "environment variable PROCESS_MAX_MEMORY"
    assert loaded.origins["process.timeout"] == "environment variable TOOLSCORE_PROCESS_TIMEOUT"


FITTING = {
    "network.listen": "ws://[::1]:0",
    "gateway.url": "wss://one.example:8770",
    "network.allowed_origins": "https://app.example",
    "sandbox.cluster_labels": "sandbox=true",
    "catalog.headers": "https://registry.example Authorization: Bearer ${REGISTRY_TOKEN}",
    "process.roots": "/srv",
    "journal.otlp_endpoint": "http://127.0.0.1:4318",
    "journal.otlp_headers": "Authorization: Bearer ${COLLECTOR_TOKEN}",
}
"""A value for each setting that is empty by default and does not take any text."""


@pytest.mark.parametrize("key", options())
def test_every_setting_has_its_environment_variable(tmp_path: Path, key: str) -> None:
    option = options()[key]
    name = "TOOLSCORE_" + key.replace(".", "_").upper()
    assert name == option.environment[0]
    text = option.written(option.default) or FITTING.get(key, "x")
    loaded = load({}, home=home(tmp_path), environ={name: text})
    assert loaded.origins[key] == f"environment variable {name}"


def test_lists_from_the_environment_are_comma_separated(tmp_path: Path) -> None:
    loaded = load({}, home=home(tmp_path), environ={"TOOLSCORE_PROCESS_PASS_ENV": "A, B_C,,D "})
    assert loaded.settings.process.pass_env == ("A", "B_C", "D")


@pytest.mark.parametrize("key", [key for key, one in options().items() if one.kind == "list"])
def test_a_list_may_be_written_as_in_a_file_or_is_refused(tmp_path: Path, key: str) -> None:
    group, name = key.split(".")
    read = options()[key].read
    assert read('["a b", "c,d"]') == ["a b", "c,d"]
    assert read("[]") == []
    for wrong in ("['owner']", "[owner]", '["owner",]', '["owner"'):
        (told,) = problems(home=home(tmp_path), overrides={key: wrong})
        assert f"--set {key}=" in told
    (told,) = problems(home=home(tmp_path), environ={f"TOOLSCORE_{group}_{name}".upper(): "[1]"})
    assert key in told


def test_a_host_in_brackets_is_no_list(tmp_path: Path) -> None:
    for text in ("[::1], tools.example,[fe80::1]", '["[::1]", "tools.example", "[fe80::1]"]'):
        loaded = load(
            {"network.allowed_hosts": text, "sandbox.tools": '["owner"]'}, home=home(tmp_path), environ={}
        )
        assert loaded.settings.network.allowed_hosts == ("[::1]", "tools.example", "[fe80::1]")
        assert loaded.settings.sandbox.tools == ("owner",)


def test_folders_of_the_catalog_begin_where_the_file_is_or_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "conf").mkdir()
    file = tmp_path / "conf" / "mine.toml"
    address = "https://registry.example"
    file.write_text(f'[catalog]\nsources = ["./a", "b/../c.json", "{address}", "/d", "~/e"]\n')
    found = load({}, home=home(tmp_path), config=str(file), environ={}).settings.catalog.sources
    assert found == (f"{tmp_path}/conf/a", f"{tmp_path}/conf/c.json", address, "/d", "~/e")
    set_here = load({"catalog.sources": f"./a,{address}"}, home=home(tmp_path), config=str(file), environ={})
    assert set_here.settings.catalog.sources == (f"{tmp_path}/a", address)


def test_empty_environment_values_count_as_unset(tmp_path: Path) -> None:
    environ = {
        "TOOLSCORE_HOME": "",
        "TOOLSCORE_CONFIG": " ",
        "PROCESS_TIMEOUT": "",
        "TOOLSCORE_LOG_LEVEL": "",
        "TOOLSCORE_NONSENSE": "",
    }
    loaded = load({}, home=home(tmp_path), environ=environ)
    assert loaded.settings.process.timeout == 300


def test_an_empty_long_name_does_not_hide_the_short_one(tmp_path: Path) -> None:
    environ = {"PROCESS_TIMEOUT": "7", "TOOLSCORE_PROCESS_TIMEOUT": ""}
    assert load({}, home=home(tmp_path), environ=environ).settings.process.timeout == 7


def test_a_log_level_may_be_written_in_capitals(tmp_path: Path) -> None:
    loaded = load({}, home=home(tmp_path), environ={"TOOLSCORE_LOG_LEVEL": "WARNING"})
    assert loaded.settings.log.level == "warning"


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = load({}, home=home(tmp_path), environ={}).settings
    with pytest.raises(ValidationError):
        settings.process.timeout = 1  # type: ignore[misc]


# --- the file ------------------------------------------------------------------------------------------


def test_a_json_file_is_read_by_its_name(tmp_path: Path) -> None:
    where = home(tmp_path, '{"process": {"timeout": 4, "pass_env": ["A"]}}', "s.json")
    loaded = load({}, home=where, config=str(tmp_path / "s.json"), environ={})
    assert (loaded.settings.process.timeout, loaded.settings.process.pass_env) == (4, ("A",))


def test_a_file_may_be_named_by_the_environment_and_better_by_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("tools.page_size = 1")
    (tmp_path / "b.toml").write_text("tools.page_size = 2")
    environ = {"TOOLSCORE_CONFIG": str(tmp_path / "a.toml")}
    assert load({}, home=home(tmp_path), environ=environ).settings.tools.page_size == 1
    named = load({}, home=home(tmp_path), config=str(tmp_path / "b.toml"), environ=environ)
    assert named.settings.tools.page_size == 2


def test_a_named_file_that_is_missing_is_an_error_the_default_one_is_not(tmp_path: Path) -> None:
    load({}, home=home(tmp_path), environ={})
    (text,) = problems(home=home(tmp_path), config=str(tmp_path / "no.toml"))
    assert "no.toml does not exist (command line --config)" in text
    (text,) = problems(home=home(tmp_path), environ={"TOOLSCORE_CONFIG": str(tmp_path / "no.toml")})
    assert "environment variable TOOLSCORE_CONFIG" in text


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xef\xbb\xbf[tools]\npage_size = 3\n")
    assert load({}, home=str(tmp_path), environ={}).settings.tools.page_size == 3


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("config.toml", b"[process\n", "is not valid TOML"),
        ("config.toml", b"[process]\ntimeout = \n", "line 2"),
        ("c.json", b"{", "is not valid JSON"),
        ("c.json", b"[]", "must hold an object"),
        ("c.json", b"[" * 100_000, "nested too deeply"),
        ("config.toml", b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_a_malformed_file_is_named_with_what_is_wrong(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(content)
    (text,) = problems(home=str(tmp_path), config=str(tmp_path / name))
    assert f"file {tmp_path / name} " in text
    assert expected in text


def test_a_folder_in_the_files_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()
    (text,) = problems(home=str(tmp_path))
    assert "cannot be read: Is a directory" in text


def test_the_home_cannot_be_set_in_the_file(tmp_path: Path) -> None:
    (text,) = problems(home=home(tmp_path, 'home = "/x"'))
    assert "home cannot be set in a file" in text
    assert "--home or TOOLSCORE_HOME" in text


def test_the_home_cannot_be_set_with_set(tmp_path: Path) -> None:
    (text,) = problems(home=home(tmp_path), overrides={"home": "/x"})
    assert "Use --home." in text


# --- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("process.timeot", "process.timeout"),
        ("proces.max_memory", "process.max_memory"),
        ("page_size", "tools.page_size"),
        ("log.levle", "log.level"),
        ("server.stop_grace", "process.stop_grace"),
    ],
)
def test_an_unknown_key_is_an_error_with_the_nearest_name(tmp_path: Path, key: str, meant: str) -> None:
    (text,) = problems(home=home(tmp_path, f"{key} = 1"))
    assert f"{key} is not a setting (file {tmp_path}/config.toml, " in text
    assert f"Did you mean {meant}" in text
    (text,) = problems(home=home(tmp_path, ""), overrides={key: "1"})
    assert f"Did you mean {meant}" in text


def test_an_unknown_variable_is_an_error_unless_it_is_reserved(tmp_path: Path) -> None:
    fine = {"TOOLSCORE_TEST_X": "1", "TOOLSCORE_CHILD_MARK": "1", "TOOLSCOREX": "1", "PROCESS_X": "1"}
    load({}, home=home(tmp_path), environ=fine)
    (text,) = problems(home=home(tmp_path), environ={"TOOLSCORE_PROCESS_TIMEOT": "1"})
    assert text.startswith("TOOLSCORE_PROCESS_TIMEOT (environment variable")
    assert "Did you mean TOOLSCORE_PROCESS_TIMEOUT?" in text


def test_a_bad_value_names_setting_source_and_fix(tmp_path: Path) -> None:
    (text,) = problems(home=home(tmp_path), environ={"PROCESS_TIMEOUT": "30s"})
    assert "process.timeout = '30s' (environment variable PROCESS_TIMEOUT)" in text
    assert "must be a number of seconds above 0" in text
    assert "Set PROCESS_TIMEOUT=300 or the like, or unset it." in text

    (text,) = problems(home=home(tmp_path), overrides={"log.level": "loud"})
    assert "(command line --set)" in text
    assert "Pass --set log.level=info" in text

    (text,) = problems(home=home(tmp_path, '[process]\npass_env = "A"'))
    assert f"(file {tmp_path}/config.toml, [process] pass_env)" in text
    assert 'Write pass_env = ["NAME"] or the like there' in text


@pytest.mark.parametrize(
    "line",
    [
        "process.timeout = true",
        'process.timeout = "300"',
        "process.timeout = 0",
        "process.timeout = nan",
        "process.timeout = inf",
        "process.max_memory = -1",
        "process.max_memory = 1.5",
        "process.port_range_start = 80",
        "process.port_range_end = 70000",
        "process.start_concurrency = 0",
        "process.pass_env = ['A=B']",
        "process.pass_env = [1, 2]",
        "tools.page_size = 0",
        "tools.page_size = 1001",
        "tools.expose = []",
        "tools.expose = ['']",
        "tools.expose = ['time__*', ' ']",
        "tools.expose = ['server:']",
        "tools.expose = ['server:time', 'own']",
        "tools.expose = ['own', 'server:time']",
        "network.listen = ['127.0.0.1:8765']",
        "network.listen = ['ws://127.0.0.1:8765/mcp', 'ws://127.0.0.1/health']",
        "network.max_message = 0",
        "network.max_message = 1025",
        "network.max_connections = 0",
        "network.idle_timeout = -1",
        "network.ping_timeout = 0",
        "network.slow_timeout = 0",
        "network.rights = ['call', 'install']",
        "network.allowed_hosts = ['tools.example:80']",
        "network.allowed_hosts = ['*']",
        "network.allowed_origins = ['app.example']",
        "network.allowed_origins = ['https://app.example/path']",
        "network.allowed_origins = ['null']",
        "install.python = 3.12",
        "process.timeout.deep = 1",
    ],
)
def test_a_value_out_of_its_limits_is_one_error(tmp_path: Path, line: str) -> None:
    (text,) = problems(home=home(tmp_path, line))
    assert text.startswith(line.partition(" =")[0].removesuffix(".deep") + " = ")


def test_the_network_is_closed_and_only_own_tools_are_shown_unless_something_is_set(tmp_path: Path) -> None:
    settings = load({}, home=home(tmp_path), environ={}).settings
    assert (settings.network.listen, settings.network.rights) == ((), ("call",))
    assert (settings.network.max_message, settings.network.max_connections) == (64, 5000)
    assert settings.tools.expose == ("own",)


def test_network_settings_are_read_from_file_and_environment(tmp_path: Path) -> None:
    where = home(tmp_path, "[network]\nlisten = ['ws://127.0.0.1:1/x', 'unix:/a.sock']")
    environ = {
        "TOOLSCORE_NETWORK_RIGHTS": "call, register",
        "TOOLSCORE_NETWORK_ALLOWED_HOSTS": "tools.example,[fe80::1],10.0.0.1",
        "TOOLSCORE_TOOLS_EXPOSE": "server:time",
    }
    settings = load({}, home=where, environ=environ).settings
    assert settings.network.listen == ("ws://127.0.0.1:1/x", "unix:/a.sock")
    assert settings.network.rights == ("call", "register")
    assert settings.network.allowed_hosts == ("tools.example", "[fe80::1]", "10.0.0.1")
    assert settings.tools.expose == ("server:time",)


def test_a_setting_in_a_groups_place_is_told(tmp_path: Path) -> None:
    (text,) = problems(home=home(tmp_path, "process = 5"))
    assert "must be a table. Write [process]" in text


def test_a_port_range_that_ends_before_it_starts_names_both_sources(tmp_path: Path) -> None:
    (text,) = problems(home=home(tmp_path, "process.port_range_start = 50000"))
    assert "process.port_range_end = 41999 (default)" in text
    assert f"which is 50000 (file {tmp_path}/config.toml, [process] port_range_start)" in text


def test_several_errors_are_reported_together(tmp_path: Path) -> None:
    found = problems(
        home=home(tmp_path, "stray = 1\n[process]\ntimeout = -1\n"),
        environ={"TOOLSCORE_STRAY": "1", "TOOLSCORE_LOG_LEVEL": "x"},
        overrides={"tools.page_size": "many", "no.such": "1"},
    )
    assert len(found) == 6


def test_a_bad_value_that_is_overridden_does_no_harm(tmp_path: Path) -> None:
    where = home(tmp_path, "[process]\ntimeout = -1\n")
    assert load({"process.timeout": "5"}, home=where, environ={}).settings.process.timeout == 5


@pytest.mark.parametrize("bad", ["", "  ", "a\0b", "~nobody-of-that-name/x"])
def test_an_impossible_home_is_an_error(bad: str) -> None:
    (text,) = problems(home=bad)
    assert "command line --home" in text


# --- template and cost ---------------------------------------------------------------------------------


def _uncommented() -> str:
    return "\n".join(
        line.removeprefix("#") if line.startswith("#") and not line.startswith(("# ", "#\n")) else line
        for line in template().splitlines()
    )


def test_the_template_as_it_is_sets_nothing(tmp_path: Path) -> None:
    loaded = load({}, home=home(tmp_path, template()), environ={})
    assert loaded.config_exists
    assert all(origin == "default" for key, origin in loaded.origins.items() if key != "home")


def test_the_template_uncommented_loads_to_the_defaults(tmp_path: Path) -> None:
    plain = load({}, home=home(tmp_path), environ={}).settings
    loaded = load({}, home=home(tmp_path, _uncommented()), environ={})
    assert loaded.settings == plain
    assert all(origin.startswith("file ") for key, origin in loaded.origins.items() if key != "home")
    assert set(tomllib.loads(_uncommented())) == {key.partition(".")[0] for key in options()}


def test_the_template_names_each_environment_variable_and_description() -> None:
    text = " ".join(template().replace("\n# ", " ").split())
    for option in options().values():
        assert option.description in text
        assert all(name in text for name in option.environment)


@pytest.mark.parametrize("name", ["config.toml", "desktop.json"])
def test_servers_are_declared_beside_settings_or_alone(tmp_path: Path, name: str) -> None:
    texts = {
        "config.toml": '[log]\nlevel = "debug"\n[mcpServers.a]\ncommand = "x"\nicon = "i"\n[mcpServers.b]\nurl = "ws://y"\n',
        "desktop.json": '{"mcpServers": {"a": {"command": "x", "icon": "i"}, "b": {"url": "ws://y"}}}',
    }
    where = home(tmp_path, texts[name], name)
    loaded = load({}, home=where, config=str(tmp_path / name), environ={})
    assert sorted(loaded.declared) == ["a", "b"]
    assert loaded.remarks == ("mcpServers.a: icon means nothing to ToolScore and is left out",)
    assert loaded.settings.log.level == ("debug" if name == "config.toml" else "info")


def test_what_is_wrong_with_servers_and_settings_is_told_at_once(tmp_path: Path) -> None:
    where = home(tmp_path, '[log]\nlevel = 1\n[mcpServers.a]\ncomand = "x"\n[mcp_servers.b]\ncommand = "x"\n')
    told = "\n".join(problems(home=where))
    assert "mcpServers.a.comand" in told
    assert "mcpServers.a (file" in told
    assert "mcp_servers.b is not a setting" in told
    assert "Did you mean mcpServers?" in told
    assert "log.level = 1" in told


def test_the_same_can_be_loaded_again(tmp_path: Path) -> None:
    where = home(tmp_path, "[tools]\npage_size = 1\n")
    loaded = load({"process.timeout": "5"}, home=where, environ={"TOOLSCORE_LOG_LEVEL": "error"})
    (tmp_path / "config.toml").write_text("[tools]\npage_size = 2\n[process]\ntimeout = 9\n")
    assert loaded.again is not None
    again = loaded.again()
    settings = again.settings
    assert (settings.tools.page_size, settings.process.timeout, settings.log.level) == (2, 5, "error")


def test_changed_settings_are_applied_where_that_is_possible(tmp_path: Path) -> None:
    before = load({}, home=home(tmp_path), environ={}).settings
    changed = {
        "tools.page_size": "7",
        "process.timeout": "8",
        "process.max_memory": "9",
        "shared.linger": "1",
    }
    after = load(changed, home=home(tmp_path), environ={}).settings
    taken: list[str] = []
    setters = {part: lambda _settings, part=part: taken.append(part) for part in ("servers", "tools")}
    done = apply(before, after, setters)
    assert {change.key for change in done.applied} == changed.keys() - {"shared.linger"}
    assert [(change.key, change.before, change.after) for change in done.deferred] == [
        ("shared.linger", 60, 1)
    ]
    assert sorted(taken) == ["servers", "tools"]
    assert (done.settings.process.timeout, done.settings.shared.linger) == (8, 60)
    assert set(HOT) <= set(options())


def test_loading_settings_imports_nothing_heavy() -> None:
    program = (
        "import sys; from toolscore.server.settings import load; load({}, home='/tmp', environ={});"
        "heavy = {'mcp', 'anyio', 'asyncio', 'rich', 'platformdirs', 'psutil'} & set(sys.modules);"
        "print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_switch_is_written_in_words_in_the_environment_and_as_a_boolean_in_a_file(tmp_path: Path) -> None:
    for word, meant in {"off": False, "No": False, "0": False, "TRUE": True, "1": True}.items():
        loaded = load({}, home=home(tmp_path), environ={"TOOLSCORE_SANDBOX_ENABLED": word})
        assert loaded.settings.sandbox.enabled is meant
    assert (
        load({"sandbox.enabled": "false"}, home=home(tmp_path), environ={}).settings.sandbox.enabled is False
    )
    (text,) = problems(home=home(tmp_path), environ={"TOOLSCORE_SANDBOX_ENABLED": "perhaps"})
    assert "must be true or false" in text


def test_sandbox_settings_are_given_on_in_the_sandboxs_own_units(tmp_path: Path) -> None:
    given = {"sandbox.memory": "64", "sandbox.disk": "2", "sandbox.output": "3", "sandbox.minimum": "full"}
    given |= {"sandbox.packages": "numpy,pandas==2.3.0", "sandbox.warm": "0"}
    told = sandbox_settings(load(given, home=home(tmp_path), environ={}).settings)
    assert (told.limits.memory, told.limits.disk, told.limits.output) == (64 << 20, 2 << 20, 3 << 10)
    assert (told.minimum, told.packages, told.warm) == (Tier.FULL, ("numpy", "pandas==2.3.0"), 0)
    assert type(told).from_json(told.to_json()) == told


def test_the_sandboxs_defaults_are_the_same_on_both_floors(tmp_path: Path) -> None:
    assert sandbox_settings(load({}, home=home(tmp_path), environ={}).settings) == SandboxSettings()


def test_the_password_of_a_shared_database_is_not_shown(tmp_path: Path) -> None:
    url = "postgresql+psycopg://user:hush@127.0.0.1/db"
    loaded = load({}, home=home(tmp_path), environ={"TOOLSCORE_DATABASE_URL": url})
    assert loaded.settings.database.url == url
    assert options()["database.url"].shown(url) == "postgresql+psycopg://user:***@127.0.0.1/db"
    (said,) = problems(
        home=home(tmp_path), environ={"TOOLSCORE_DATABASE_URL": "postgresql://user:hush@127.0.0.1"}
    )
    assert "must name a database" in said
    assert "hush" not in said


@pytest.mark.parametrize(
    "url", ["${DATABASE}", "postgresql://u:${secret:PASSWORD}@h/d", "postgres://h:5432/${NAME}"]
)
def test_the_url_of_a_shared_database_may_be_a_template(tmp_path: Path, url: str) -> None:
    loaded = load({}, home=home(tmp_path), environ={"TOOLSCORE_DATABASE_URL": url})
    assert loaded.settings.database.url == url
