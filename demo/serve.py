"""From settings to a running page server."""

from __future__ import annotations

import atexit
import importlib.util
import logging
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from demo.auth import Auth
from demo.executors import LoadEngine, LocalExecutor, engine_loader
from demo.files import Files
from demo.gate import Events, Gate
from demo.handlers import Handlers
from demo.history import History
from demo.language import Language
from demo.models import Guests, guest_loader
from demo.outputs import Outputs
from demo.recording import RECORDING
from demo.regions.studio import Start
from demo.settings import Settings
from demo.strings import DEFAULT_LANGUAGE, Texts, languages, load_texts
from demo.theme import latte_theme
from demo.ui import STATIC, STYLES, build
from demo.visitors import Visitors
from demo.zero import ZeroExecutor
from latte_core import LatteError, MediaError, checkpoints

log = logging.getLogger("latte_studio")


def serve(settings: Settings, load: LoadEngine | None = None) -> gr.Blocks:
    """Open the page, then load the model behind it. Returns once the page answers.

    `load` replaces the loading of the engine. Raises OSError when the port cannot be used.
    """
    spoken = {language: load_texts(language) for language in languages()}
    texts = spoken[DEFAULT_LANGUAGE]
    outputs = Outputs()
    atexit.register(outputs.remove)
    executor = _executor(settings, load or engine_loader(settings), texts)
    history = _open_history(settings, outputs, texts)
    handlers = {name: Handlers(executor, outputs, words, history) for name, words in spoken.items()}
    page = build(handlers, _start_of(settings.model))
    page.queue(max_size=4 * settings.queue + 64, default_concurrency_limit=8, api_open=False)
    mcp = _offers_mcp(settings, texts)
    language = Middleware(Language, languages=tuple(spoken))
    gate = Middleware(
        Gate,
        events=lambda: events_of(page),
        ready=lambda: executor.readiness().info is not None,
        own=Files(history, texts).router(),
        mcp=mcp,
    )
    executor.before_launch()
    visitors = [Middleware(Visitors)] if settings.public else []
    door = [Middleware(Auth, credentials=settings.auth)] if settings.auth else []
    page.launch(
        server_name=settings.host,
        server_port=settings.port,
        share=settings.share,
        app_kwargs={"middleware": [*door, language, *visitors, gate], "openapi_url": None},
        allowed_paths=[str(outputs.root), str(RECORDING)],
        max_threads=settings.queue + 64,
        mcp_server=mcp,
        **_launch_options(),
    )
    url = f"http://{settings.host}:{settings.port}/"
    log.info(texts("serve.ready", url=url))
    if settings.share:
        _say_share(page.share_url, url, texts)
    executor.start()
    return page


def _executor(settings: Settings, load: LoadEngine, texts: Texts) -> LocalExecutor:
    """Where jobs run. A lent device holds the page's own model alone."""
    if settings.zero_gpu:
        return ZeroExecutor(load, settings.queue, texts)
    guests = Guests(guest_loader(settings), settings.also)
    return LocalExecutor(load, settings.queue, texts, guests)


def _say_share(link: str | None, url: str, texts: Texts) -> None:
    """Tell who may now come in, or that Gradio's server gave no link, which it does quietly."""
    log.warning(texts("share.online" if link else "share.offline", url=link or url))


def _open_history(settings: Settings, outputs: Outputs, texts: Texts) -> History:
    """Where the settings say, or, if the disk refuses that, among the files of this server."""
    if settings.history:
        try:
            return History(Path(settings.history).expanduser(), private=settings.public)
        except MediaError as error:
            log.warning(texts("history.temporary", reason=error))
    return History(outputs.root / "history", private=settings.public)


def _offers_mcp(settings: Settings, texts: Texts) -> bool:
    """Whether the endpoints are MCP tools too; says so when they were wanted and cannot be."""
    if settings.mcp and importlib.util.find_spec("mcp") is None:
        log.warning(texts("serve.no_mcp"))
        return False
    return settings.mcp


def events_of(page: gr.Blocks) -> Events:
    """What the gate has to know of the page's events."""
    by_index, by_name = {}, {}
    for index, event in page.fns.items():
        names = tuple(str(getattr(field, "label", None) or "value") for field in event.inputs)
        by_index[index] = names
        if event.fn and event.api_visibility == "public":
            by_name[str(event.api_name)] = names
    return Events(by_index, by_name)


def _start_of(model: str) -> Start:
    """What the manifest of a local folder says; a fault in it is the engine's to report."""
    try:
        manifest = checkpoints.read_manifest(Path(model))
    except LatteError:
        manifest = None
    if manifest is None:
        return Start()
    defaults = manifest.defaults
    return Start(defaults.num_inference_steps, defaults.guidance_scale, manifest.card)


def _head() -> str:
    """Our styles, as they are: given to Gradio as `css` they would be prefixed and doubled."""
    styles = "\n".join(path.read_text(encoding="utf-8") for path in STYLES)
    return f"<style>{styles}</style>"


def _launch_options() -> dict[str, Any]:
    """Everything that Gradio would offer beyond this page is off."""
    return {
        "prevent_thread_lock": True,
        "quiet": True,
        "inbrowser": False,
        "show_error": False,
        "enable_monitoring": False,
        "run_history": False,
        "ssr_mode": False,
        "pwa": False,
        "strict_cors": True,
        "max_file_size": "1kb",
        "footer_links": [],
        "favicon_path": str(STATIC / "favicon.svg"),
        "theme": latte_theme(),
        "head": _head(),
        "js": (STATIC / "page.js").read_text(encoding="utf-8"),
    }
