"""What the model really reads: POST /tokenize, /detokenize and /v1/chat/render."""

from __future__ import annotations

from typing import Any

from flask import Response, g, jsonify, request

from serving.application.ports import ServedModel
from serving.domain.errors import InvalidRequest
from serving.presentation.body import read_json
from serving.presentation.hearing import hear
from serving.presentation.schemas.chat import ChatCompletionRequest
from serving.presentation.schemas.tokens import DetokenizeRequest, TokenizeRequest
from serving.presentation.schemas.translate import read
from serving.presentation.seeing import large_body, look
from serving.presentation.state import ServerState


def tokenize(state: ServerState) -> Response:
    """A text, or messages through the chat template, as token ids."""
    with large_body(state, request):
        asked, _ = hear(state, read(TokenizeRequest, read_json(request)))
        media = look(state, asked.model, asked.sources())
    model = state.model(asked.model)
    g.answering = model.version
    tokens = asked.render(media).tokens(model) if asked.prompt is None else model.tokenizer.encode(asked.prompt)
    body = tokens_json(model, tokens)
    if asked.return_token_strs:
        body["token_strs"] = [model.tokenizer.decode((token,)) for token in tokens]
    return jsonify(body)


def detokenize(state: ServerState) -> Response:
    """Token ids as a text, without special tokens."""
    asked = read(DetokenizeRequest, read_json(request))
    model = state.model(asked.model)
    g.answering = model.version
    most = model.tokenizer.vocab_size
    if wrong := [at for at, token in enumerate(asked.tokens) if token >= most]:
        raise InvalidRequest(f'"tokens[{wrong[0]}]" must be below {most}', param=f"tokens[{wrong[0]}]")
    return jsonify({"prompt": model.tokenizer.decode(asked.tokens)})


def render_chat(state: ServerState) -> Response:
    """The exact prompt of a chat request, which is checked like one; nothing is generated."""
    with large_body(state, request):
        asked, _ = hear(state, read(ChatCompletionRequest, read_json(request)))
        prompt = asked.prompt(look(state, asked.model, asked.sources()))
    model = state.model(asked.model)
    g.answering = model.version
    return jsonify({"model": model.name, "prompt": prompt.text(model), **tokens_json(model, prompt.tokens(model))})


def tokens_json(model: ServedModel, tokens: Any) -> dict[str, Any]:
    """Token ids, how many, and how many the model takes."""
    return {"tokens": list(tokens), "count": len(tokens), "max_model_len": model.tokenizer.context_length}
