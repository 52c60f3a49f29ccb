"""Of a story with questions only the answers are learnt; of every other document everything."""

from lifecycle.world.config import WorldConfig
from lifecycle.world.corpus import pretraining_corpus


def test_stories_and_questions_are_read_and_answers_are_learnt():
    train, validation, _ = pretraining_corpus(WorldConfig(documents=300))
    asked = [row for row in train if row["read"]]
    assert 0.2 < len(asked) / len(train) < 0.4
    for row in asked:
        story, *questions = [row["text"][start:end] for start, end in row["read"]]
        assert row["text"].startswith(story) and story.endswith("\n")
        lines = row["text"].split("\n")
        assert [question.rstrip("\n") for question in questions] == lines[1::2]
        assert all(question.endswith("\n") for question in questions)
    assert validation.column_names == ["text"]
