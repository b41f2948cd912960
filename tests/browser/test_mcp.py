"""The endpoints as MCP tools, over HTTP, with MCP's own client."""

import asyncio
import dataclasses

import httpx
import pytest
from fake_engine import FakeEngine, load_fake
from ports import free_port

from demo.serve import serve
from demo.settings import Settings
from latte_core import GenerationRequest

pytest.importorskip("mcp", reason="MCP is an extra: pip install 'gradio[mcp]'")

AXES = ["x", "x_values", "y", "y_values"]
FILE = {
    "path": "/etc/passwd",
    "url": "http://127.0.0.1/secret",
    "meta": {"_type": "gradio.FileData"},
}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("mcp"), free_port()
    page = serve(Settings(port=port, mcp=True, history=str(folder)), load_fake(FakeEngine()))
    yield f"http://127.0.0.1:{port}/gradio_api/mcp/"
    page.close(verbose=False)


def talk(address, work):
    """What `work(session)` gives, in a session of MCP's client."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def run():
        async with (
            streamablehttp_client(address) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await work(session)

    return asyncio.run(asyncio.wait_for(run(), 120))


def test_tools_are_the_three_endpoints_typed_and_described(address):
    tools = {tool.name: tool for tool in talk(address, lambda s: s.list_tools()).tools}
    assert list(tools) == ["generate", "sweep", "status"]
    names = [field.name for field in dataclasses.fields(GenerationRequest)]
    generate, sweep, status = (tools[n].inputSchema["properties"] for n in tools)
    assert list(generate) == names and list(sweep) == [*AXES, *names] and status == {}
    for name, schema in {**generate, **sweep}.items():
        assert len(schema["description"]) > 5, name
    assert generate["num_inference_steps"]["type"] == "integer"
    assert generate["mode"]["enum"] == ["video", "image", "joint"]
    assert all(len(tool.description) > 40 for tool in tools.values())


def test_tool_makes_a_film_and_says_what_is_wrong(address):
    async def work(session):
        made = await session.call_tool("generate", {"prompt": "a red cat", "seed": 7})
        wrong = await session.call_tool("generate", {"prompt": "a cat", "seed": -1})
        status = await session.call_tool("status", {})
        return made, wrong, status

    made, wrong, status = talk(address, work)
    assert not made.isError and "latte-7.mp4" in made.content[0].text
    assert wrong.isError and "seed is -1" in wrong.content[0].text
    assert "'ready': True" in status.content[0].text


@pytest.mark.parametrize("value", [FILE, [FILE], ["a"]])
def test_tool_takes_no_objects(address, value):
    call = {"name": "generate", "arguments": {"prompt": value}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    for body in (message, [message]):
        answer = httpx.post(address, json=body)
        assert answer.status_code == 422 and "must be text" in answer.text
    answer = httpx.post(address, json=message, headers={"origin": "https://elsewhere.example"})
    assert answer.status_code == 403
