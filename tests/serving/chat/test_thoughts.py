"""What is thought stands beside the answer in a terminal, on lines of its own, and goes back with it."""

from serving.chat.client import ChatClient
from serving.chat.conversation import Conversation
from serving.chat.terminal import Terminal
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread
from tests.serving.http.scripted_engine import Catalog, scripted_model


def test_a_thought_is_no_part_of_what_can_be_piped(capsys):
    model = scripted_model("<think>One and one.</think>Two.", (4,))
    with run_in_thread(create_app(Catalog(model))) as server:
        talk = Conversation(ChatClient(server.url), "parrot")
        Terminal(talk)._say("1 + 1?")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("Two.\n", "One and one.\n")
    assert talk.messages[-1] == {"role": "assistant", "content": "Two.", "reasoning_content": "One and one."}
