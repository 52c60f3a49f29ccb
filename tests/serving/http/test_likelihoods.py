"""`lifecycle evaluate`: likelihoods through the real server are those of the model itself."""

import json

import pytest
import torch
from click.testing import CliRunner

from lifecycle.errors import LifecycleError
from lifecycle.evaluation import choices, sets
from lifecycle.evaluation.commands import evaluate
from lifecycle.evaluation.endpoint import AT_ONCE, Endpoint
from lifecycle.model.loading import load_causal_lm
from lifecycle.model.tokenizer import load_tokenizer

ASKED = [{"role": "user", "content": "Who has the fox?"}]
ANSWERS = ["It is nobody.", "It is the lazy dog.", " 42", "né 🦊"]


@pytest.fixture
def endpoint(server) -> Endpoint:
    return Endpoint(server.url, "tiny")


@pytest.fixture(scope="module")
def direct(registry):
    """ln P(continuation | context) computed from the model's own logits, one text after the other."""
    path = registry.load("tiny/1").path
    model, tokenizer = load_causal_lm(path, dtype=torch.float32).eval(), load_tokenizer(path)

    @torch.inference_mode()
    def log_likelihoods(context, continuations):
        if isinstance(context, str):
            prefix = tokenizer.encode(context, add_special_tokens=False)
        else:
            prefix = tokenizer.apply_chat_template(context, add_generation_prompt=True, return_dict=False)
        found = []
        for continuation in continuations:
            end = tokenizer.encode(continuation, add_special_tokens=False)
            logits = model(torch.tensor([prefix + end])).logits[0, len(prefix) - 1 : -1]
            found.append(logits.log_softmax(-1).gather(1, torch.tensor(end)[:, None]).sum().item())
        return found

    return log_likelihoods


@pytest.mark.parametrize("context", [ASKED, "the quick brown fox"], ids=["chat", "text"])
def test_a_served_likelihood_is_the_models(endpoint, direct, context):
    assert endpoint.log_likelihoods(context, ANSWERS) == pytest.approx(direct(context, ANSWERS), abs=2e-3)


def test_more_answers_than_fit_in_a_request_keep_their_order(endpoint):
    answers = [str(number) for number in range(AT_ONCE + 3)]
    together = endpoint.log_likelihoods(ASKED, answers)
    assert together[-1:] == pytest.approx(endpoint.log_likelihoods(ASKED, answers[-1:]), abs=1e-3)
    assert together[:2] == pytest.approx(endpoint.log_likelihoods(ASKED, answers[:2]), abs=1e-3)


@pytest.mark.parametrize("skill", choices.SKILLS)
def test_an_evaluation_through_the_server_is_the_one_without(endpoint, direct, skill):
    questions = choices.from_tasks(sets.load(skill))[:6]
    served = choices.evaluate(skill, questions, endpoint.log_likelihoods)
    assert served == choices.evaluate(skill, questions, direct)
    assert served.n == 6 and 0 <= served.low <= served.accuracy <= served.high <= 1 and 0 < served.chance <= 0.5


def test_the_command_takes_a_file_of_ones_own(server, direct, tmp_path):
    file, written = tmp_path / "mine.jsonl", tmp_path / "out.json"
    best = max(range(len(ANSWERS)), key=direct("the fox", ANSWERS).__getitem__)
    rows = [{"context": "the fox", "answers": ANSWERS, "right": right} for right in (best, (best + 1) % len(ANSWERS))]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--url", server.url + "/v1", "--model", "tiny", "--file", str(file), "--json", str(written)]
    result = CliRunner().invoke(evaluate, words, catch_exceptions=False)
    assert result.stdout.startswith("| skill | accuracy") and "| mine | 50% " in result.stdout
    assert json.loads(written.read_text())[0]["accuracy"] == 0.5


@pytest.mark.parametrize(
    "row", ["{", "{}", '{"context": "a", "answers": ["b"], "right": 0}', '{"context": "a", "answers": ["b", "c"], "right": 2}']
)
def test_a_line_that_is_no_question_is_named(tmp_path, row):
    file = tmp_path / "bad.jsonl"
    file.write_text(row + "\n")
    with pytest.raises(LifecycleError, match="bad.jsonl, line 1"):
        choices.read(file)


def test_troubles_say_what_to_do(server):
    with pytest.raises(LifecycleError, match="lifecycle serve"):
        Endpoint("http://127.0.0.1:9", "tiny", timeout=2).tokenize("a")
    with pytest.raises(LifecycleError, match="no answer from"):
        Endpoint("http://127.0.0.1:9/a b", "tiny", timeout=2).tokenize("a")
    with pytest.raises(LifecycleError, match="404.*nobody"):
        Endpoint(server.url, "nobody").log_likelihoods("the fox", ["jumps"])
    with pytest.raises(LifecycleError, match="must not be empty"):
        Endpoint(server.url, "tiny").log_likelihoods("", ["jumps"])
