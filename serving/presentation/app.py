"""The Flask app: routes over use cases, nothing else."""

from __future__ import annotations

from flask import Blueprint, Flask, Response, request

from serving.application.ports import ModelCatalog
from serving.presentation.admin import admin_blueprint
from serving.presentation.chat import chat_completions
from serving.presentation.completions import completions
from serving.presentation.embeddings import embeddings
from serving.presentation.errors import register_errors
from serving.presentation.models import list_models, show_model
from serving.presentation.openapi import openapi_blueprint
from serving.presentation.operations import operations_blueprint
from serving.presentation.page import page_blueprint
from serving.presentation.responses import responses_blueprint
from serving.presentation.state import HttpConfig, ServerState
from serving.presentation.streaming import ClientGone
from serving.presentation.tokens import detokenize, render_chat, tokenize


def create_app(catalog: ModelCatalog, config: HttpConfig | None = None) -> Flask:
    """An app that answers for the models of a catalog. `app.extensions["serving"]` is its `ServerState`."""
    config = config or HttpConfig()
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.json.sort_keys = False
    state = app.extensions["serving"] = ServerState(catalog, config)
    register_errors(app)

    @app.errorhandler(ClientGone)
    def client_gone(_: ClientGone) -> tuple[str, int]:
        return "", 499  # nginx's number; nobody reads it

    app.register_blueprint(openai_blueprint(state))
    app.register_blueprint(tokens_blueprint(state))
    app.register_blueprint(responses_blueprint(state))
    app.register_blueprint(openapi_blueprint())
    app.register_blueprint(operations_blueprint(state))
    app.register_blueprint(admin_blueprint(state))
    app.register_blueprint(page_blueprint(state))
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

    @routes.post("/embeddings")
    def vectors() -> Response:
        return embeddings(state)

    @routes.get("/models")
    def models() -> Response:
        state.tenant(request)
        return list_models(state)

    @routes.get("/models/<path:name>")
    def model(name: str) -> Response:
        state.tenant(request)
        return show_model(state, name)

    return routes
