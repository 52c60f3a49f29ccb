"""`lifecycle top` shows what a real server says of itself."""

import pytest
from click.testing import CliRunner

from lifecycle.errors import LifecycleError
from serving.top.commands import top
from serving.top.scrape import Interval, Reading

PAGE = """# HELP serving:generation_tokens_total Tokens generated.
serving:num_requests_running{model_name="a\\"b"} 2
serving:generation_tokens_total{model_name="a\\"b"} 40
serving:first_bucket{model_name="a\\"b",le="0.1"} 1
serving:first_bucket{model_name="a\\"b",le="0.5"} 9
serving:first_bucket{model_name="a\\"b",le="+Inf"} 10
serving:canary_share 0.25
"""


def test_two_readings_are_rates_and_quantiles():
    early = Reading.of(PAGE.replace(" 40", " 10").replace(" 9", " 1").replace(' 10\nserving:canary', ' 1\nserving:canary'), 0.0)
    late = Reading.of(PAGE, 2.0)
    assert late.models() == ['a"b'] and late.value("canary_share") == 0.25
    assert Interval(late, early).rate("generation_tokens_total") == 15.0
    assert Interval(late).rate("generation_tokens_total") is None and Interval(late, late).rate("x") is None
    assert Interval(early, late).grown("generation_tokens_total") == 10.0, "a counter that fell began again"
    assert Interval(late, early).quantile("first", 0.5) == 0.5
    assert Interval(late, early).quantile("first", 0.99) == float("inf") and Interval(late, late).quantile("first", 0.5) is None


def test_a_picture_of_a_server_in_a_pipe(server, client):
    client.chat.completions.create(model="production", messages=[{"role": "user", "content": "hi"}], max_tokens=4)
    done = CliRunner().invoke(top, ["--once", "--interval", "0.1", "--url", server.url, "--api-key", "any"], catch_exceptions=False)
    lines = done.output.splitlines()
    assert done.exit_code == 0 and lines[:2] == [server.url, "ready, 1 engine(s)"]
    assert lines[3].startswith("MODEL") and lines[4].split()[:2] == ["tiny", "tiny/1"] and "\x1b" not in done.output


def test_nobody_there_is_one_line_that_says_what_to_type():
    with pytest.raises(LifecycleError, match="no server answers at http://127.0.0.1:1 .*lifecycle serve.*--url"):
        CliRunner().invoke(top, ["--once", "--url", "http://127.0.0.1:1"], catch_exceptions=False)
