"""A model behind an OpenAI-compatible chat endpoint, that writes titles or speaks for simulated users: bounded in requests,
tokens, time and attempts.

Nothing that was sent or came back is logged, and neither is the key; messages name the kind of a failure alone.
"""

import email.utils
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from urllib3.exceptions import HTTPError

from cesrec_core.config import EndpointSection
from cesrec_core.constructor.titles import Question, Written
from cesrec_core.errors import ConfigError
from cesrec_core.feedback.prompted_simulator import Message
from cesrec_core.rewriting.fallbacks import BUDGET_EXHAUSTED, ENDPOINT_FAILED, ENDPOINT_REFUSED, TRUNCATED_ANSWER

log = logging.getLogger(__name__)

# After so many questions in a row that no attempt got an answer to, the endpoint is taken for gone.
MAX_FAILURES_IN_A_ROW = 10
# Also the greatest number of tokens that an endpoint is believed to have used for one answer.
MAX_ANSWER_BYTES = 1 << 20
# Nothing is known of the endpoint's tokenizer; where it does not say what it counted, this errs to the high side.
CHARACTERS_PER_TOKEN = 3
_FIRST_WAIT_SECONDS = 1.0
_TEMPORARY_STATUSES = (408, 409, 425, 429)
_SETTING = "construct_pseudo_sequences.endpoint"


class _TemporaryError(Exception):
    """Worth another attempt, after `wait_seconds` where the endpoint says so."""

    def __init__(self, kind: str, wait_seconds: float | None = None) -> None:
        super().__init__(kind)
        self.wait_seconds = wait_seconds


class _RefusedError(Exception):
    """The endpoint will not answer this question."""


class _BudgetError(Exception):
    """The run has spent what it may."""


@dataclass(frozen=True)
class Usage:
    """What a run has asked of an endpoint."""

    requests: int = 0
    tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.requests + other.requests, self.tokens + other.tokens)


class Ledger:
    """A run's budget, kept in a file that a worker which is started again goes on with.

    What a request may cost at most is entered before it is sent, and corrected by what it did cost.
    """

    def __init__(self, file: Path, max_requests: int, max_tokens: int) -> None:
        self._file = file
        self._limit = Usage(max_requests, max_tokens)
        self._spent = read_usage(file)
        self._lock = threading.Lock()

    def spend(self, tokens: int) -> None:
        """Enter one request.

        Raises:
            _BudgetError: it would go beyond the budget.
        """
        with self._lock:
            after = self._spent + Usage(1, tokens)
            if after.requests > self._limit.requests or after.tokens > self._limit.tokens:
                raise _BudgetError
            self._enter(Usage(1, tokens))

    def correct(self, tokens: int) -> None:
        """Enter so many tokens more, or fewer, than were thought."""
        with self._lock:
            self._enter(Usage(0, tokens))

    def _enter(self, usage: Usage) -> None:
        self._spent += usage
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # One line that is replaced, since volumes of object stores refuse to append.
        scratch = self._file.with_name(f"{self._file.name}.unfinished")
        scratch.write_text(json.dumps(vars(self._spent)) + "\n", encoding="utf-8")
        scratch.replace(self._file)


def read_usage(file: Path) -> Usage:
    """What a ledger's file says in all; nothing where there is none.

    Earlier versions appended a line for each entry. One that was cut off or is damaged does not count, and is warned of.
    """
    usage = Usage()
    for line in file.read_bytes().splitlines() if file.exists() else []:
        try:
            told = Usage(**json.loads(line))
            if not all(type(number) is int for number in vars(told).values()):
                raise TypeError
        except (ValueError, TypeError):
            log.warning("%s is damaged: more may have been asked of the endpoint than counts against its budget", file)
            continue
        usage += told
    return usage


class _Pace:
    """Evenly spaced moments at which requests may be sent, put off for all while the endpoint asks to wait."""

    def __init__(self, per_minute: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._seconds_between = 60.0 / per_minute
        self._clock, self._sleep = clock, sleep
        self._next = clock()
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            now = self._clock()
            start = max(now, self._next)
            self._next = start + self._seconds_between
        self._sleep(start - now)

    def put_off(self, seconds: float) -> None:
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)


def api_key(section: EndpointSection, setting: str = _SETTING) -> str | None:
    """The key in the environment; None where the endpoint asks for none.

    Args:
        setting: name of the section, for messages.

    Raises:
        ConfigError: the variable is not set.
    """
    if section.api_key_variable is None:
        return None
    key = os.environ.get(section.api_key_variable, "").strip()
    if not key:
        raise ConfigError(
            f"The environment variable {section.api_key_variable}, which {setting}.api_key_variable names, is not set or "
            "empty. Set it where the workers run, or set the setting to null for an endpoint that asks for no key."
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"The environment variable {section.api_key_variable} holds something that is no key: a line break, or a letter "
            "that no header may hold. Set it to the key alone."
        )
    return key


class ChatEndpoint:
    """A `TitleWriter`, and a `ChatModel`, behind HTTP. Questions are sent in order, `max_concurrent_requests` at a time.

    Args:
        max_title_tokens: of an answer, for each title; a conversation is answered in as many.
        clock, sleep: seconds; tests bring their own.
        setting: name of the section, for messages.
    """

    def __init__(
        self,
        section: EndpointSection,
        max_title_tokens: int,
        ledger: Ledger,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        setting: str = _SETTING,
    ) -> None:
        self._section = section
        self._setting = setting
        self._max_title_tokens = max_title_tokens
        self._ledger = ledger
        self._clock, self._sleep = clock, sleep
        self._pace = _Pace(section.requests_per_minute, clock, sleep)
        self._key = api_key(section, setting)
        self._num_failures = 0
        self._has_told_refusal = False
        self._telling = threading.Lock()

    def write(self, questions: Sequence[Question]) -> list[Written]:
        """See `TitleWriter`. Where the budget ends, or the endpoint is gone, the questions that are left have no answer.

        Raises:
            ConfigError: the endpoint does not know the address, the model or the key.
        """
        return self._answers(
            self._body(
                [{"role": "user", "content": "".join(piece.text for piece in question.prompt)}],
                len(question.places) * self._max_title_tokens,
            )
            for question in questions
        )

    def complete(self, conversations: Sequence[Sequence[Message]]) -> list[str | None]:
        """See `ChatModel`; an answer that was cut off is one.

        Raises:
            ConfigError: the endpoint does not know the address, the model or the key.
        """
        written = self._answers(self._body(list(messages), self._max_title_tokens) for messages in conversations)
        return [answer.text if answer.reason in (None, TRUNCATED_ANSWER) else None for answer in written]

    def _answers(self, bodies: Iterable[dict[str, Any]]) -> list[Written]:
        pool = ThreadPoolExecutor(self._section.max_concurrent_requests, "chat-endpoint")
        try:
            return list(pool.map(self._answer, bodies))
        finally:
            pool.shutdown(cancel_futures=True)

    def _answer(self, body: dict[str, Any]) -> Written:
        if self._num_failures >= MAX_FAILURES_IN_A_ROW:
            return Written("", ENDPOINT_FAILED)
        attempts = Retrying(
            stop=stop_after_attempt(self._section.max_attempts),
            retry=retry_if_exception_type(_TemporaryError),
            wait=self._seconds_to_wait,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            written = attempts(self._ask, body)
        except _BudgetError:
            return Written("", BUDGET_EXHAUSTED)
        except _RefusedError:
            return Written("", ENDPOINT_REFUSED)
        except _TemporaryError as error:
            self._num_failures += 1
            log.warning("The endpoint did not answer in %d attempts: %s", self._section.max_attempts, error)
            return Written("", ENDPOINT_FAILED)
        self._num_failures = 0
        return written

    def _seconds_to_wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        told = error.wait_seconds if isinstance(error, _TemporaryError) else None
        longest = self._section.max_wait_seconds
        backoff: float = wait_exponential_jitter(_FIRST_WAIT_SECONDS, longest, jitter=_FIRST_WAIT_SECONDS)(state)
        return backoff if told is None else told

    def _body(self, messages: Sequence[Message], max_tokens: int) -> dict[str, Any]:
        body = {
            "model": self._section.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": max_tokens,
            **self._section.options,
        }
        return {key: value for key, value in body.items() if value is not None}

    def _ask(self, body: dict[str, Any]) -> Written:
        """One attempt."""
        asked = sum(len(message["content"]) for message in body["messages"]) // CHARACTERS_PER_TOKEN
        most = asked + max(int(body.get(name, 0)) for name in ("max_tokens", "max_completion_tokens"))
        self._ledger.spend(most)
        self._pace.wait()
        answer = _Answer.of(self._post(body))
        if answer.num_tokens is not None:
            self._ledger.correct(answer.num_tokens - most)
        if answer.finish_reason == "content_filter":
            raise _RefusedError
        return Written(answer.text, TRUNCATED_ANSWER if answer.finish_reason == "length" else None)

    def _post(self, body: dict[str, Any]) -> bytes:
        """Send it, and wait for `timeout_seconds` at most.

        In a thread of its own, which is left alone then: the library's timeout is between two pieces of what arrives, and the
        head of an answer, too, may dribble in for ever. Questions end after MAX_FAILURES_IN_A_ROW, so that few are left.
        """
        outcome: queue.SimpleQueue[_Response | Exception] = queue.SimpleQueue()

        def send() -> None:
            try:
                outcome.put(self._send(body))
            except Exception as error:
                outcome.put(error)

        threading.Thread(target=send, name="chat-endpoint-request", daemon=True).start()
        try:
            answer = outcome.get(timeout=self._section.timeout_seconds)
        except queue.Empty:
            raise _TemporaryError("Timeout") from None
        if isinstance(answer, Exception):
            raise answer
        self._check_status(answer)
        return answer.content

    def _send(self, body: dict[str, Any]) -> "_Response":
        url = self._section.base_url.rstrip("/") + "/chat/completions"
        deadline = self._clock() + self._section.timeout_seconds
        try:
            # Not followed to other places: the key is for this one.
            with requests.post(
                url,
                json=body,
                auth=self._sign,
                timeout=self._section.timeout_seconds,
                allow_redirects=False,
                stream=True,
            ) as response:
                status = response.status_code
                content = self._content(response, deadline) if status == 200 else b""
                return _Response(status, response.headers.get("Retry-After"), content)
        except (requests.RequestException, HTTPError) as error:
            raise _TemporaryError(type(error).__name__) from None

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """As a function, so that a password in somebody's .netrc does not take the key's place."""
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _content(self, response: requests.Response, deadline: float) -> bytes:
        """The timeout of the library is between two pieces; an answer may not dribble in for ever, or have no end."""
        content = b""
        # What has arrived, however little: a whole block of a slow answer may take for ever.
        while part := response.raw.read1(1 << 14, decode_content=True):
            content += part
            if len(content) > MAX_ANSWER_BYTES:
                raise _TemporaryError("an answer without end")
            if self._clock() > deadline:
                raise _TemporaryError("Timeout")
        return content

    def _check_status(self, response: "_Response") -> None:
        status = response.status
        if status == 200:
            return
        if status in _TEMPORARY_STATUSES or status >= 500:
            told = _retry_after(response.retry_after)
            if told is not None:
                told = min(told, self._section.max_wait_seconds)
                self._pace.put_off(told)
            raise _TemporaryError(f"HTTP {status}", told)
        if status in (400, 413, 422):
            self._tell_refusal(status)
            raise _RefusedError
        self._num_failures = MAX_FAILURES_IN_A_ROW  # and questions that wait are not sent
        raise ConfigError(
            f"{self._section.base_url} answered with HTTP {status}. Check {self._setting}.base_url, .model, and the key in the "
            f"environment variable that .api_key_variable names ({self._section.api_key_variable})."
        )

    def _tell_refusal(self, status: int) -> None:
        """Once: one question may be too long, but where a field of the request is not taken, every question is refused."""
        with self._telling:
            if self._has_told_refusal:
                return
            self._has_told_refusal = True
        log.warning(
            "The endpoint refused a question with HTTP %d; it is not asked again, and later refusals are not told. If it "
            "refuses all, see what its model takes, and set %s.options: fields there replace those of a request, and null "
            "leaves one out, such as {max_tokens: null, max_completion_tokens: 200} where max_tokens is not taken.",
            status,
            self._setting,
        )


@dataclass(frozen=True)
class _Response:
    """What came back; `content` only of a success."""

    status: int
    retry_after: str | None
    content: bytes


@dataclass(frozen=True)
class _Answer:
    text: str
    finish_reason: str | None
    num_tokens: int | None

    @classmethod
    def of(cls, content: bytes) -> "_Answer":
        """Read an answer.

        Raises:
            _TemporaryError: it is no chat completion.
        """
        try:
            body = json.loads(content)
            choice = body["choices"][0]
            text = choice["message"]["content"]
            total = (body.get("usage") or {}).get("total_tokens")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise _TemporaryError("an answer that is no chat completion") from None
        if not isinstance(text, str) and choice.get("finish_reason") not in ("content_filter", "length"):
            raise _TemporaryError("an answer without text")
        is_count = isinstance(total, int) and not isinstance(total, bool) and 0 <= total <= MAX_ANSWER_BYTES
        return cls(text if isinstance(text, str) else "", choice.get("finish_reason"), total if is_count else None)


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number of them or a date; None where it is neither."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
