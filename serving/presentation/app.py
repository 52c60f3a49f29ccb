"""The Flask app: routes over use cases, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flask import Blueprint, Flask, Response, request

from serving.application.access import Keys, SingleKey
from serving.application.canary import Canary
from serving.application.feedback import FeedbackStore
from serving.application.media import OpenMedia
from serving.application.ports import ModelCatalog
from serving.application.timing import HttpTiming
from serving.application.voice import Voice
from serving.presentation.admin import admin_blueprint
from serving.presentation.attention import attention
from serving.presentation.audio import audio_blueprint
from serving.presentation.browsers import register_browsers
from serving.presentation.chat import chat_completions
from serving.presentation.completions import completions
from serving.presentation.embeddings import embeddings
from serving.presentation.engine_events import engine_blueprint
from serving.presentation.errors import register_errors
from serving.presentation.feedback import feedback_blueprint
from serving.presentation.guard import register_guard
from serving.presentation.logs import register_request_log
from serving.presentation.model_admin import model_admin_blueprint
from serving.presentation.models import list_models, show_model
from serving.presentation.openapi import openapi_blueprint
from serving.presentation.operations import operations_blueprint
from serving.presentation.page import page_blueprint
from serving.presentation.peer import limit_silence
from serving.presentation.realtime import realtime_blueprint
from serving.presentation.registry import registry_blueprint
from serving.presentation.responses import responses_blueprint
from serving.presentation.state import HttpConfig, ServerState
from serving.presentation.streaming import ClientGone
from serving.presentation.tokens import detokenize, render_chat, tokenize


def create_app(
    catalog: ModelCatalog,
    config: HttpConfig | None = None,
    *,
    keys: Sequence[Keys] = (),
    feedback: FeedbackStore | None = None,
    media: OpenMedia | None = None,
    voice: Voice | None = None,
    canary: Canary | None = None,
    trace: Callable[[HttpTiming], None] | None = None,
) -> Flask:
    """An app that answers for the models of a catalog. `app.extensions["serving"]` is its `ServerState`.

    `keys` are welcome beside `config.api_key`; without any, everybody is. Without `feedback` nobody is asked for it,
    without `media` nothing is shown to a model, and without `voice` nobody hears or speaks. `canary` routes requests to a
    version on trial, and `trace` is told about every answer when its last byte is written.
    """
    config = config or HttpConfig()
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.json.sort_keys = False
    single = [SingleKey(config.api_key)] if config.api_key else []
    state = app.extensions["serving"] = ServerState(catalog, config, (*single, *keys), media, voice, canary=canary)
    app.before_request(lambda: limit_silence(request.environ))
    register_request_log(app, trace)
    register_errors(app)
    register_browsers(app, state)
    register_guard(app, state)

    @app.errorhandler(ClientGone)
    def client_gone(_: ClientGone) -> tuple[str, int]:
        return "", 499  # nginx's number; nobody reads it

    app.register_blueprint(openai_blueprint(state))
    app.register_blueprint(tokens_blueprint(state))
    app.register_blueprint(responses_blueprint(state))
    app.register_blueprint(audio_blueprint(state))
    app.register_blueprint(realtime_blueprint(state, voice))
    app.register_blueprint(openapi_blueprint())
    app.register_blueprint(operations_blueprint(state))
    app.register_blueprint(admin_blueprint(state))
    app.register_blueprint(model_admin_blueprint(state))
    app.register_blueprint(page_blueprint(state))
    if feedback is not None:
        app.register_blueprint(feedback_blueprint(state, feedback))
    app.register_blueprint(engine_blueprint(state))
    if config.registry is not None:
        app.register_blueprint(registry_blueprint(state, config.registry))
    return app


def tokens_blueprint(state: ServerState) -> Blueprint:
    """Between text and tokens, at vLLM's addresses."""
    routes = Blueprint("tokens", __name__)

    @routes.post("/tokenize")
    def text_to_tokens() -> Response:
        return tokenize(state)

    @routes.post("/detokenize")
    def tokens_to_text() -> Response:
        return detokenize(state)

    return routes


def openai_blueprint(state: ServerState) -> Blueprint:
    """The OpenAI-compatible routes."""
    routes = Blueprint("openai", __name__, url_prefix="/v1")

    @routes.post("/chat/completions")
    def chat() -> Response:
        return chat_completions(state)

    @routes.post("/completions")
    def text() -> Response:
        return completions(state)

    @routes.post("/chat/render")
    def render() -> Response:
        return render_chat(state)

    @routes.post("/chat/attention")
    def looked() -> Response:
        return attention(state)

    @routes.post("/embeddings")
    def vectors() -> Response:
        return embeddings(state)

    @routes.get("/models")
    def models() -> Response:
        return list_models(state)

    @routes.get("/models/<path:name>")
    def model(name: str) -> Response:
        return show_model(state, name)

    return routes
