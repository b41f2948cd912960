"""Latte Studio: `python app.py` opens the page and loads the model behind it."""

from __future__ import annotations

import logging
import os
import signal
import sys

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from demo.serve import serve
from demo.settings import parse_settings


def main() -> int:
    """Run the app until it is interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("latte_studio").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl+C: tidily
    settings = parse_settings(sys.argv[1:], os.environ)
    try:
        page = serve(settings)
    except OSError as error:
        reason = f"{settings.host}:{settings.port} cannot be used ({error})."
        logging.getLogger("latte_studio").error("%s Choose another --port.", reason)
        return 1
    page.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
