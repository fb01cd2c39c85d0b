"""Lines of logs: one record each, whatever is in it."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.logs.lines import Access, AccessJSON, AccessText, JSONFormatter, Origin, TextFormatter, field

REPLICA = Origin("replica", "shop#Model#1", "shop", "Model")
PROXY = Origin("proxy", "4711")


def access(**changes: Any) -> Access:
    details: dict[str, Any] = {
        "time": 1_700_000_000.25,
        "method": "GET",
        "raw_path": b"/x/1%0a",
        "route": "/x/{n}",
        "status": 200,
        "sent": 12,
        "seconds": 0.00123,
        "client": ("127.0.0.1", 4711),
        "request_id": "abc",
        "application": "shop",
    }
    return Access(**{**details, **changes})


def record(message: str, *args: Any, exc_info: Any = None, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("ray.serve", logging.INFO, "/app/model.py", 7, message, args, exc_info)
    made.__dict__.update(extra)
    return made


def test_an_access_line_for_people() -> None:
    line = AccessText(REPLICA).line(access())
    assert line.startswith("INFO 20")
    assert line.endswith(",250 replica shop#Model#1 abc -- GET /x/1%0a 200 1.2ms 12B 127.0.0.1:4711 /x/{n}")


def test_an_access_line_of_a_proxy_names_the_replica() -> None:
    line = AccessText(PROXY).line(access(replica="shop#Model#1", client=("::1", 80)))
    assert line.endswith(" [::1]:80 /x/{n} shop#Model#1")
    entry = json.loads(AccessJSON(PROXY).line(access(replica="shop#Model#1")))
    assert (entry["component_name"], entry["replica"], entry["application"]) == ("proxy", "shop#Model#1", "shop")


def test_an_access_line_for_collectors() -> None:
    entry = json.loads(AccessJSON(REPLICA).line(access()))
    entry.pop("asctime")
    assert entry == {
        "levelname": "INFO",
        "message": "GET /x/1%0a 200 1.2ms",
        "component_name": "replica",
        "component_id": "shop#Model#1",
        "application": "shop",
        "deployment": "Model",
        "replica": "shop#Model#1",
        "request_id": "abc",
        "route": "/x/{n}",
        "method": "GET",
        "path": "/x/1%0a",
        "status": 200,
        "latency_ms": 1.23,
        "bytes": 12,
        "client": "127.0.0.1:4711",
    }


def test_what_was_refused_says_why() -> None:
    refused = access(method="-", raw_path=b"-", route="", status=400, client=None, request_id="", reason="no Host\n")
    assert AccessText(REPLICA).line(refused).endswith("- -- - - 400 1.2ms 12B - - no Host\\n")
    assert json.loads(AccessJSON(REPLICA).line(refused))["reason"] == "no Host\n"


#: what splitlines() and terminals take for more than text
texts = st.text(st.sampled_from('a \n\r\t\x0b\x0c\x1b\x1c\x85\u2028\u2029\xa0é\x00"\\'), max_size=12)


@given(texts, st.binary(max_size=12), texts)
def test_clients_cannot_begin_a_line_or_a_field(request_id: str, path: bytes, route: str) -> None:
    forged = access(request_id=request_id, raw_path=path, route=route)
    line = AccessText(REPLICA).line(forged)
    assert len(line.splitlines()) == 1
    assert len(line.split()) == 14
    assert len(line.split(" ")) == 14
    entry_line = AccessJSON(REPLICA).line(forged)
    assert "\n" not in entry_line
    assert json.loads(entry_line)["request_id"] == request_id


@given(texts, texts)
def test_users_messages_cannot_pass_for_other_records(message: str, request_id: str) -> None:
    lines = TextFormatter(REPLICA, []).format(record("%s", message, request_id=request_id)).splitlines()
    assert lines[0].startswith("INFO 20")
    assert all(line.startswith("    ") for line in lines[1:])
    line = JSONFormatter(REPLICA, []).format(record("%s", message, request_id=request_id))
    assert "\n" not in line
    assert json.loads(line)["message"] == message


def test_a_record_has_its_request_its_attributes_and_its_traceback() -> None:
    try:
        raise ValueError("bad\nluck")
    except ValueError:
        made = record("it is %d", 5, exc_info=sys.exc_info(), request_id="abc", shape=(2, 3))
    text = TextFormatter(REPLICA, ["lineno"]).format(made)
    first, *rest = text.splitlines()
    assert first.endswith(" replica shop#Model#1 abc 7 -- it is 5")
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-2:] == ["    ValueError: bad", "    luck"]
    entry = json.loads(JSONFormatter(REPLICA, ["name"]).format(made))
    assert entry["message"] == "it is 5"
    assert (entry["name"], entry["lineno"], entry["shape"], entry["request_id"]) == ("ray.serve", 7, [2, 3], "abc")
    assert "ValueError: bad\nluck" in entry["exc_text"]


def test_what_json_does_not_know_is_shown_as_python_does() -> None:
    entry = json.loads(JSONFormatter(REPLICA, []).format(record("hello", what=object)))
    assert entry["what"] == "<class 'object'>"


def test_lost_lines_are_named() -> None:
    assert "5 lines are missing here" in AccessText(REPLICA).gap(5)
    assert "5 lines are missing here" in json.loads(AccessJSON(REPLICA).gap(5))["message"]


@pytest.mark.parametrize(
    ("text", "shown"), [("", "-"), ("a b", "a\\x20b"), ("é\x85", "é\\x85"), ("a\u2028", "a\\u2028")]
)
def test_fields(text: str, shown: str) -> None:
    assert field(text) == shown
