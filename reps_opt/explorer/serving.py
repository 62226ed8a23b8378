"""Serving the explorer's page on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reps_opt.explorer.asking import Explorer, Question
from reps_opt.processes.mdp import MDP

ADDRESS = "127.0.0.1"
"""Loopback: no other machine sees the page."""


def explore(
    source: MDP | Callable[[float], MDP] | Explorer,
    question: Question | None = None,
    *,
    port: int = 0,
    show: bool = True,
) -> None:
    """Serve a page on this machine whose sliders ask what if, until interrupted.

    The page shows value, policy, state distribution, weights, eta against epsilon and the certificate, and answers as a
    slider moves. It is bound to the loopback address, so that no other machine sees it.

    Parameters
    ----------
    source
        An :class:`~reps_opt.MDP`, a function of slip that makes one, or an ``Explorer``.
    question
        What the page asks first.
    port
        Port on the loopback address; 0 takes a free one.
    show
        Open the page in the browser.

    Raises
    ------
    ImportError
        Where Bokeh is not installed: it is the extra ``explore``.
    """
    try:
        from bokeh.server.server import Server
    except ImportError as error:
        raise ImportError('the explorer needs Bokeh: pip install "reps_opt[explore]"') from error
    from reps_opt.explorer.page import Page

    explorer, first = source if isinstance(source, Explorer) else Explorer(source), question or Question()
    explorer.answer(first)  # so that what cannot be asked is said here rather than in the server's log
    pages = {"/": lambda document: Page(replace(explorer), first).lay_out(document)}
    origins = [f"localhost:{port}", f"{ADDRESS}:{port}"] if port else None
    server = Server(pages, address=ADDRESS, port=port, allow_websocket_origin=origins)
    server.start()
    print(f"explorer of {explorer.name}: http://localhost:{server.port}/   (Ctrl-C ends it)", flush=True)
    if show:
        server.io_loop.add_callback(server.show, "/")
    try:
        server.io_loop.start()
    except KeyboardInterrupt:
        server.stop()
