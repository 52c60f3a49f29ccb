"""One replica without Ray: what it tells is what its engine said, however seldom it speaks."""

from __future__ import annotations

import pytest

from serving.composition import build_engine
from serving.domain.errors import InvalidRequest
from serving.domain.events import Finished, TokensGenerated
from serving.infrastructure.cluster.replica import EngineReplica
from tests.serving.cluster.conftest import CONFIG
from tests.serving.engine.support import collect, prompts, request


@pytest.mark.parametrize("pace", [0.0, 0.05])
def test_all_news_of_all_requests_arrive_in_order(checkpoint, alone, pace):
    expected = {f"told-{n}": collect(alone.submit(request(f"told-{n}", prompt))) for n, prompt in enumerate(prompts(0, 6))}
    models = []
    replica = EngineReplica(1, None, pace)

    def build(delivered):
        models.append(build_engine(checkpoint, CONFIG, delivered=delivered))
        return models[0]

    replica.start(build)
    try:
        for name, prompt in zip(expected, prompts(0, 6), strict=True):
            assert replica.submit(request(name, prompt)) is None
        assert isinstance(replica.submit(request("empty", [])), InvalidRequest)
        told, ended = {name: [] for name in expected}, {}
        for batch in replica.batches():
            assert batch.healthy
            for event in batch.events:
                assert event.request_id not in ended
                if isinstance(event, TokensGenerated):
                    told[event.request_id] += event.tokens
                elif isinstance(event, Finished):
                    ended[event.request_id] = event.reason
            if len(ended) == len(expected):
                break
    finally:
        models[0].engine.close()
    assert told == {name: answer.tokens for name, answer in expected.items()}
    assert ended == {name: answer.end.reason for name, answer in expected.items()}
