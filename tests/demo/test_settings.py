from pathlib import Path

import pytest

from demo.settings import Settings, parse_settings


def test_settings_without_flags_are_the_defaults():
    settings = parse_settings([], {"LATTE_STUDIO_HISTORY": ""})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.memory) == ("127.0.0.1", 7860, "auto")
    assert Path(settings.model).parts[-2:] == ("assets", "latte-world")


def test_settings_take_every_flag():
    flags = "--model m --memory offload --device cpu --share --host 0.0.0.0 --port 80 --queue 3"
    flags += " --history h --mcp"
    assert parse_settings(flags.split(), {}) == Settings(
        model="m",
        memory="offload",
        device="cpu",
        share=True,
        host="0.0.0.0",
        port=80,
        queue=3,
        history="h",
        mcp=True,
    )


@pytest.mark.parametrize(
    ("argv", "environ", "port"),
    [
        ([], {"GRADIO_SERVER_PORT": "8001"}, 8001),
        (["--port", "8002"], {"GRADIO_SERVER_PORT": "8001"}, 8002),
        ([], {}, 7860),
    ],
)
def test_settings_port_comes_from_flag_then_environment_then_default(argv, environ, port):
    assert parse_settings(argv, environ).port == port


@pytest.mark.parametrize("port", ["0", "65536", "-1", "80.5", "http", "", "٣"])
def test_settings_refuse_a_port_that_is_none(port, capsys):
    with pytest.raises(SystemExit):
        parse_settings(["--port", port], {})
    assert "whole number from 1 to 65535" in capsys.readouterr().err


def test_settings_refuse_a_port_of_the_environment_that_is_none(capsys):
    with pytest.raises(SystemExit):
        parse_settings([], {"GRADIO_SERVER_PORT": "many"})
    assert "'many'" in capsys.readouterr().err


def test_settings_take_mcp_from_flag_or_environment():
    assert not parse_settings([], {}).mcp
    assert parse_settings([], {"GRADIO_MCP_SERVER": "True"}).mcp


def test_settings_keep_the_history_where_a_desktop_keeps_data():
    home = parse_settings([], {}).history
    assert home.endswith("/.local/share/latte-studio/history")
    assert parse_settings([], {"XDG_DATA_HOME": "/d"}).history == "/d/latte-studio/history"
    given = {"XDG_DATA_HOME": "/d", "LATTE_STUDIO_HISTORY": "/h"}
    assert parse_settings([], given).history == "/h"
    assert parse_settings(["--history", ""], given).history == ""


@pytest.mark.parametrize(
    ("flags", "environ", "public"),
    [
        ([], {}, False),
        (["--host", "localhost"], {}, False),
        (["--host", "0.0.0.0"], {}, True),
        (["--share"], {}, True),
        ([], {"SPACE_ID": "someone/latte"}, True),
        ([], {"GRADIO_SERVER_NAME": "0.0.0.0"}, True),
    ],
)
def test_settings_know_whether_others_can_reach_the_page(flags, environ, public):
    assert parse_settings(flags, environ).public is public
