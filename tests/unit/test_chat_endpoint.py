"""The client of a chat endpoint against a server on this machine that misbehaves by plan."""

import datetime as dt
import email.utils
import errno
import http.server
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cesrec_core.actors.chat_endpoint import (
    MAX_ANSWER_BYTES,
    MAX_FAILURES_IN_A_ROW,
    ChatEndpoint,
    Ledger,
    Usage,
    api_key,
    read_usage,
)
from cesrec_core.config import EndpointSection, load_config
from cesrec_core.constructor.construction import Construction
from cesrec_core.constructor.decoding import ConstructionRequest
from cesrec_core.constructor.titles import TitleDecoder, Titles
from cesrec_core.errors import ConfigError
from cesrec_core.feedback.personas import Persona
from cesrec_core.feedback.prompted_simulator import PromptedSimulator
from cesrec_core.feedback.simulated_users import Situation
from cesrec_core.rewriting.fallbacks import (
    BUDGET_EXHAUSTED,
    ENDPOINT_FAILED,
    ENDPOINT_REFUSED,
    NOT_A_CANDIDATE,
    TRUNCATED_ANSWER,
)

KEY = "not-to-be-seen-anywhere"
TITLES = Titles(["Alien", "Big", "Up"])


def completion(text: str | None, finish: str = "stop", tokens: int | None = 10) -> bytes:
    body: dict[str, Any] = {"choices": [{"message": {"content": text}, "finish_reason": finish}]}
    return json.dumps(body | ({"usage": {"total_tokens": tokens}} if tokens is not None else {})).encode()


class Reply:
    """What the server does with one request."""

    def __init__(
        self,
        status: int = 200,
        body: bytes = b"{}",
        seconds: float = 0.0,
        dribbles: bool = False,
        head: bytes = b"",
        **headers: str,
    ) -> None:
        """`head` is sent letter by letter, for two seconds, in the stead of a reply."""
        self.head = head
        self.status, self.body, self.seconds, self.headers = status, body, seconds, headers
        self.dribbles = dribbles


UP = Reply(body=completion("Up"))


class Server:
    """Replies by plan, and by its last reply once the plan is at its end; keeps what it was sent."""

    def __init__(self) -> None:
        self.plan: list[Reply] = []
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.num_at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.requests.append((self.path, dict(self.headers), body))
                    reply = server.plan.pop(0) if len(server.plan) > 1 else server.plan[0]
                    server.num_at_once += 1
                    server.most_at_once = max(server.most_at_once, server.num_at_once)
                time.sleep(reply.seconds)
                with server.lock:
                    server.num_at_once -= 1
                try:
                    for letter in map(bytes, zip(reply.head * 200, strict=True)) if reply.head else ():
                        self.wfile.write(letter)
                        time.sleep(2.0 / (200 * len(reply.head)))
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name.replace("_", "-"), value)
                    self.end_headers()
                    for piece in map(bytes, zip(reply.body, strict=True)) if reply.dribbles else (reply.body,):
                        self.wfile.write(piece)
                        self.wfile.flush()
                        time.sleep(0.005 * reply.dribbles)
                except OSError:  # whoever asked has gone
                    pass

            def log_message(self, *args: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("TEST_KEY", KEY)
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now, self.waits, self.lock = 100.0, list[float](), threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.now += seconds
            if seconds > 0:
                self.waits.append(seconds)


@pytest.fixture
def ask(server: Server, tmp_path: Path) -> Callable[..., list[Construction]]:
    """Have so many users' masked title written, where Up and Big are candidates."""

    def run(plan: Sequence[Reply], users: int = 1, clock: Clock | None = None, **settings: Any) -> list[Construction]:
        server.plan = list(plan)
        clock = clock or Clock()
        values = {"base_url": f"http://127.0.0.1:{server.http.server_port}/v1/", "model": "m", "api_key_variable": "TEST_KEY"}
        values |= {"requests_per_minute": 6e6, "max_concurrent_requests": 1, **settings}
        section = EndpointSection(**values)
        ledger = Ledger(tmp_path / "usage.jsonl", section.max_requests, section.max_tokens)
        endpoint = ChatEndpoint(section, 16, ledger, clock, clock.sleep)
        request = ConstructionRequest(np.array([0, 1]), [1], "not this \u202e\x00one", np.array([False, True, True]))
        return TitleDecoder(TITLES, endpoint, 20).construct([request] * users)

    return run


def reasons(answers: Sequence[Construction]) -> list[str | None]:
    return [answer.fallback_reason for answer in answers]


def test_what_is_asked_and_what_comes_of_it(ask: Any, server: Server, tmp_path: Path) -> None:
    (done,) = ask([UP], options={"seed": 3, "temperature": None})
    assert (done.item_codes.tolist(), done.fallback_reason) == ([0, 2], None)
    ((path, headers, body),) = server.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    message = body.pop("messages")
    assert body == {"model": "m", "max_tokens": 16, "seed": 3}
    assert [part["role"] for part in message] == ["user"]
    assert '"not this one"' in message[0]["content"] and "\nAlien\n[MASK]\n" in message[0]["content"]
    assert "\nBig\nUp\n" in message[0]["content"]
    assert read_usage(tmp_path / "usage.jsonl") == Usage(1, 10)


def test_a_title_that_is_no_candidates_keeps_the_history(ask: Any) -> None:
    (done,) = ask([Reply(body=completion("Alien"))])
    assert (done.item_codes.tolist(), done.fallback_reason, done.rejected) == ([0, 1], NOT_A_CANDIDATE, ("Alien",))


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_passes_is_tried_again_with_growing_waits(ask: Any, server: Server, status: int) -> None:
    clock = Clock()
    (done,) = ask([Reply(status), Reply(status), Reply(status), UP], clock=clock)
    assert (done.fallback_reason, len(server.requests)) == (None, 4)
    backoff = [wait for wait in clock.waits if wait > 0.1]
    # 1, 2 and 4 seconds, each and up to one more.
    assert [int(wait) for wait in backoff] in [[a, b, c] for a in (1, 2) for b in (2, 3) for c in (4, 5)]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_heeded(ask: Any, form: str) -> None:
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30)
    told = "30" if form == "seconds" else email.utils.format_datetime(moment, usegmt=True)
    clock = Clock()
    (done,) = ask([Reply(429, Retry_After=told), UP], clock=clock)
    assert done.fallback_reason is None
    assert sum(clock.waits) == pytest.approx(30, abs=3)


def test_no_wait_is_longer_than_allowed(ask: Any) -> None:
    clock = Clock()
    (done,) = ask([Reply(429, Retry_After="86400"), Reply(429, Retry_After="soon"), UP], clock=clock, max_wait_seconds=7)
    assert done.fallback_reason is None
    assert max(clock.waits) == pytest.approx(7) and sum(clock.waits) < 11


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        b'{"choices": [',
        b"{}",
        b"[]",
        b'{"choices": []}',
        b'{"choices": [1]}',
        completion(None),
        b"[" * 100_000,
        b" " * (MAX_ANSWER_BYTES + 1),
    ],
    ids=range(10),
)
def test_a_body_that_is_no_completion_is_tried_again(ask: Any, server: Server, body: bytes) -> None:
    (done,) = ask([Reply(body=body), UP])
    assert (done.fallback_reason, len(server.requests)) == (None, 2)
    (done,) = ask([Reply(body=body)], max_attempts=2)
    assert (done.item_codes.tolist(), done.fallback_reason) == ([0, 1], ENDPOINT_FAILED)


def test_an_answer_that_was_cut_off_is_not_used(ask: Any, server: Server) -> None:
    (done,) = ask([Reply(body=completion("Up", finish="length"))])
    assert (done.item_codes.tolist(), done.fallback_reason, len(server.requests)) == ([0, 1], TRUNCATED_ANSWER, 1)


@pytest.mark.parametrize("reply", [Reply(400), Reply(422), Reply(body=completion(None, finish="content_filter"))])
def test_what_is_refused_is_not_asked_again(ask: Any, server: Server, reply: Reply) -> None:
    answers = ask([reply, UP], users=2)
    assert reasons(answers) == [ENDPOINT_REFUSED, None]
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_is_told_once_with_what_to_look_at_and_nothing_of_what_was_said(
    ask: Any, server: Server, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    with caplog.at_level(logging.WARNING, "cesrec_core"):
        answers = ask([Reply(status, b"unsupported: max_tokens, says the server")], users=6, max_concurrent_requests=3)
    assert reasons(answers) == [ENDPOINT_REFUSED] * 6
    (told,) = caplog.messages
    assert f"HTTP {status}" in told and "construct_pseudo_sequences.endpoint.options" in told
    sent = server.requests[0][2]["messages"][0]["content"]
    assert not [word for word in (KEY, "says the server", "not this", *TITLES.labels, sent) if word in told]


def test_what_the_warning_advises_is_taken(ask: Any, server: Server) -> None:
    ask([UP], options={"max_tokens": None, "max_completion_tokens": 200})
    body = server.requests[0][2]
    assert "max_tokens" not in body and body["max_completion_tokens"] == 200


def test_a_server_that_is_too_slow_or_not_there(ask: Any, server: Server) -> None:
    (done,) = ask([Reply(body=completion("Up"), seconds=0.5), UP], timeout_seconds=0.1)
    assert (done.fallback_reason, len(server.requests)) == (None, 2)
    (done,) = ask([UP], base_url="http://127.0.0.1:9/v1", max_attempts=2)
    assert done.fallback_reason == ENDPOINT_FAILED


def test_an_answer_that_dribbles_in_is_not_waited_for(ask: Any, server: Server) -> None:
    class Ticking(Clock):
        """A second passes whenever somebody looks."""

        def __call__(self) -> float:
            self.now += 1.0
            return self.now

    (done,) = ask([Reply(body=completion("Up"), dribbles=True), UP], clock=Ticking(), timeout_seconds=20.0)
    assert (done.fallback_reason, len(server.requests)) == (None, 2)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK ", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["a line", "lines of waiting"])
def test_a_head_that_dribbles_in_is_not_waited_for(ask: Any, server: Server, head: bytes) -> None:
    """By a real clock: the library reads a head by itself."""
    started = time.monotonic()
    (done,) = ask([Reply(head=head), UP], timeout_seconds=0.3)
    assert (done.fallback_reason, len(server.requests)) == (None, 2)
    assert time.monotonic() - started < 1.5


def test_a_key_that_no_header_can_hold_is_said_to_be_one(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", f"{KEY}\n{KEY}")
    with pytest.raises(ConfigError, match="TEST_KEY holds something that is no key") as caught:
        ask([UP])
    assert KEY not in str(caught.value)


def test_an_endpoint_that_is_gone_is_left_alone(ask: Any, server: Server) -> None:
    answers = ask([Reply(500)], users=MAX_FAILURES_IN_A_ROW + 5, max_attempts=2)
    assert reasons(answers) == [ENDPOINT_FAILED] * (MAX_FAILURES_IN_A_ROW + 5)
    assert len(server.requests) == 2 * MAX_FAILURES_IN_A_ROW


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_a_wrong_key_address_or_model_stops_the_stage_without_a_word_of_the_key(
    ask: Any, server: Server, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigError, match=rf"HTTP {status}.*base_url.*TEST_KEY") as caught:
        ask([Reply(status, KEY.encode(), Location="http://127.0.0.1:9/")], users=3)
    assert KEY not in str(caught.value) + caplog.text
    assert len(server.requests) == 1


def test_a_key_that_is_not_set_is_missed_before_anything_is_sent(
    ask: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", " ")
    with pytest.raises(ConfigError, match="TEST_KEY"):
        ask([UP])
    assert server.requests == []
    ask([UP], api_key_variable=None)
    assert "Authorization" not in server.requests[0][1]


def test_requests_are_counted_attempts_included_and_end_with_the_budget(ask: Any, server: Server, tmp_path: Path) -> None:
    answers = ask([Reply(500), UP], users=4, max_requests=3)
    assert reasons(answers) == [None, None, BUDGET_EXHAUSTED, BUDGET_EXHAUSTED]
    assert answers[2].item_codes.tolist() == [0, 1]
    # A worker that is started again has nothing left.
    assert reasons(ask([UP], max_requests=3)) == [BUDGET_EXHAUSTED]
    assert len(server.requests) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["usage.jsonl"]


def test_what_is_damaged_of_a_budget_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "usage.jsonl"
    file.write_bytes(b'{"requests": 1, "tokens": 5}\n\xff\xfe\n[1]\n{"requests": "two"}\n{"calls": 3}\n')
    assert read_usage(file) == Usage(1, 5)


def test_a_budget_that_an_earlier_version_kept_in_many_lines_is_gone_on_with(ask: Any, tmp_path: Path) -> None:
    """The last one was cut off when its worker died."""
    lines = [
        '{"requests": 1, "tokens": 100}',
        '{"requests": 0, "tokens": -70}',
        '{"requests": 1, "tokens": 5}',
        '{"requests": 1, "tok',
    ]
    (tmp_path / "usage.jsonl").write_text("\n".join(lines))
    assert read_usage(tmp_path / "usage.jsonl") == Usage(2, 35)
    assert reasons(ask([UP], users=2, max_requests=3)) == [None, BUDGET_EXHAUSTED]
    assert read_usage(tmp_path / "usage.jsonl") == Usage(3, 45)


def test_a_volume_that_cannot_append_keeps_the_budget(ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_file = Path.open

    def refuse_appending(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if "a" in mode or "+" in mode:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return open_file(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse_appending)
    assert reasons(ask([UP], users=2)) == [None, None]
    assert (tmp_path / "usage.jsonl").read_text() == '{"requests": 2, "tokens": 20}\n'


def test_tokens_are_counted_by_what_the_endpoint_says(ask: Any, server: Server, tmp_path: Path) -> None:
    """The question is estimated at some 130 tokens and 16 of the answer; 10 are what it then did cost."""
    answers = ask([UP], users=9, max_tokens=200)
    num_answered = reasons(answers).count(None)
    assert reasons(answers) == [None] * num_answered + [BUDGET_EXHAUSTED] * (9 - num_answered)
    assert 4 <= num_answered < 9
    assert read_usage(tmp_path / "usage.jsonl").tokens == 10 * num_answered
    # What is no count, or none that can be true, leaves the estimate in force.
    for number in (None, -1, True, 10**400):
        (tmp_path / "usage.jsonl").unlink()
        silent = ask([Reply(body=completion("Up", tokens=number))], users=3, max_tokens=200)
        assert reasons(silent) == [None, BUDGET_EXHAUSTED, BUDGET_EXHAUSTED]
        assert 100 < read_usage(tmp_path / "usage.jsonl").tokens < 200


def test_requests_keep_their_distance(ask: Any) -> None:
    clock = Clock()
    ask([UP], users=5, clock=clock, requests_per_minute=30)
    assert clock.now - 100 == pytest.approx(4 * 2)


def test_no_more_at_once_than_allowed_and_answers_in_order(ask: Any, server: Server) -> None:
    plan = [Reply(body=completion("Up"), seconds=0.05), *[Reply(body=completion("Big"), seconds=0.02)] * 7]
    answers = ask(plan, users=8, max_concurrent_requests=3)
    assert server.most_at_once == 3
    assert sorted(answer.item_codes[1] for answer in answers) == [1] * 7 + [2]
    assert answers[0].item_codes[1] == 2 or answers[1].item_codes[1] == 2 or answers[2].item_codes[1] == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["decoder=endpoint"], "set both"),
        (["decoder=titles", "decoding=beam"], "set decoding to greedy"),
        (["endpoint.base_url=https://user:secret@example.com"], "endpoint.base_url"),
        (["endpoint.base_url=file:///etc/passwd"], "endpoint.base_url"),
        (["endpoint.api_key_variable=sk-123"], "endpoint.api_key_variable"),
        (["endpoint.max_request=1"], "Did you mean construct_pseudo_sequences.endpoint.max_requests"),
    ],
)
def test_settings_that_cannot_be(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [f"construct_pseudo_sequences.{override}" for override in overrides])


def test_simulated_users_speak_through_it_in_conversations(server: Server, tmp_path: Path) -> None:
    """A conversation is sent as it is; what is refused has no answer, what was cut off has one."""
    server.plan = [
        Reply(body=completion("More trains, please.")),
        Reply(status=400),
        Reply(body=completion("trains, and less of th", finish="length")),
    ]
    url = f"http://127.0.0.1:{server.http.server_port}/v1"
    section = EndpointSection(
        base_url=url, model="m", api_key_variable="TEST_KEY", requests_per_minute=6e6, max_concurrent_requests=1
    )
    clock = Clock()
    endpoint = ChatEndpoint(section, 16, Ledger(tmp_path / "usage.jsonl", 9, 9999), clock, clock.sleep)
    simulator = PromptedSimulator(endpoint, 2, 0.0)
    situation = Situation(("Trains",), (("Craft",),), Persona(), (1,))
    assert simulator.say([situation] * 3) == ["More trains, please.", None, "trains, and less of th"]
    sent = server.requests[0][2]
    assert sent["messages"] == simulator.conversation(situation)
    assert (sent["max_tokens"], sent["temperature"]) == (16, 0)
    assert [message["role"] for message in sent["messages"]] == ["system", *("user", "assistant") * 2, "user"]


def test_the_section_that_a_key_belongs_to_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    section = EndpointSection(base_url="http://127.0.0.1:9/v1", model="m", api_key_variable="NO_KEY")
    with pytest.raises(ConfigError, match=r"simulate_feedback\.endpoint\.api_key_variable"):
        api_key(section, "simulate_feedback.endpoint")
