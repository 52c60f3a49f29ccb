"""/v1/realtime: the OpenAI Realtime protocol over a WebSocket. This file lets people in, or says why not."""

from __future__ import annotations

import threading

from flask import Blueprint, Response, g, request

from serving.application.voice import Voice
from serving.domain.errors import QueueFull, SpeechMissing
from serving.presentation.state import ServerState

PATH = "/v1/realtime"
MOST_MESSAGE_BYTES = 16 * 2**20
"""Of one event; as in OpenAI's."""
PING_SECONDS = 20
SUBPROTOCOL = "realtime"
MISSING = "this server neither hears nor speaks: pip install -c constraints.txt -e '.[voice]', then lifecycle voice setup, and start it again"


def realtime_blueprint(state: ServerState, voice: Voice | None) -> Blueprint:
    """The route. Without a voice, or where what it needs is missing, whoever comes gets 501."""
    routes = Blueprint("realtime", __name__)
    try:
        from flask_sock import Sock

        from serving.presentation.realtime_connection import Connection
    except ImportError:
        voice = None
    if voice is None:

        @routes.get(PATH)
        def missing() -> Response:
            raise SpeechMissing(MISSING)

        return routes

    places = threading.BoundedSemaphore(state.config.realtime_sessions)

    @routes.before_request
    def admit() -> None:
        state.model(request.args.get("model"))
        for load in (voice.engines.to_text, voice.engines.to_speech, voice.engines.activity):
            load()
        if not places.acquire(blocking=False):
            raise QueueFull(
                f"{state.config.realtime_sessions} conversations are live, which is as many as this server holds", retry_after=5
            )
        g.live = True

    @routes.teardown_request
    def leave(_: BaseException | None) -> None:
        if g.pop("live", False):
            places.release()

    @routes.record_once
    def configure(setup) -> None:
        setup.app.config["SOCK_SERVER_OPTIONS"] = {
            "subprotocols": [SUBPROTOCOL], "max_message_size": MOST_MESSAGE_BYTES, "ping_interval": PING_SECONDS,
        }

    @Sock().route(PATH, bp=routes)
    def realtime(socket) -> None:
        Connection(socket, state, voice, state.caller(request), request.args.get("model")).run()

    return routes
