"""Publishes a command by AMQP 1.0, and reads the events about it from the stream of all events. Needs RabbitMQ 4.

    venv/bin/python send_and_listen.py --text Hello 41793026727 385911234567

Exit status 0 if each destination was accepted and delivered within --timeout, else 1; 130 after Ctrl-C or SIGTERM.
The broker is SMSBRIDGE_AMQP__URL, the prefix of the bridge's names SMSBRIDGE_AMQP__PREFIX.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
import uuid
from urllib.parse import quote, unquote, urlsplit

from proton import Delivery, Described, Message, ProtonException, Timeout, symbol
from proton.reactor import Filter
from proton.utils import BlockingConnection

PREFETCH = 100
CLOSE_TIMEOUT = 5.0  # seconds
OUTCOMES = {
    Delivery.RELEASED: "the broker released the command: no queue is bound; start a bridge, it declares them",
    Delivery.REJECTED: "the broker rejected the command: a queue is full",
}


class Failed(Exception):
    """What went wrong, in one line."""


def connect(timeout: float) -> BlockingConnection:
    """A connection to the virtual host of the URL. AMQP 1.0 names it in the field `hostname`."""
    try:
        url = urlsplit(os.environ.get("SMSBRIDGE_AMQP__URL", "amqp://guest:guest@127.0.0.1:5672/%2f"))
        port = url.port or (5671 if url.scheme == "amqps" else 5672)
        if url.scheme not in ("amqp", "amqps") or not url.hostname:
            raise ValueError
    except ValueError:  # the URL is not shown: it may have a password
        raise Failed("SMSBRIDGE_AMQP__URL is not of the form amqp://USER:PASSWORD@HOST:PORT/VHOST") from None
    return BlockingConnection(
        f"{url.scheme}://{url.hostname}:{port}",
        timeout=timeout,
        heartbeat=10,
        # Apart from the URL, which the errors of proton show.
        user=unquote(url.username or "guest"),
        password=unquote(url.password or "guest"),
        virtual_host=f"vhost:{unquote(url.path[1:]) or '/'}",
    )


def publish(connection: BlockingConnection, prefix: str, args: argparse.Namespace) -> None:
    """Publishes the command, and waits for its outcome: `accepted` means that the broker has stored it."""
    command = {"message": {"text": args.text, "destinations": [{"to": to} for to in args.to]}}
    message = Message(
        # Bytes, as a data section (`inferred`). RabbitMQ would pass on a string as an encoded AMQP value, which is no JSON.
        body=json.dumps(command).encode(),
        inferred=True,
        durable=True,
        content_type="application/json",
        id=args.request_id,
        group_id=args.application,
        # Of a bulk: annotations={symbol("x-basic-type"): "smsbridge.v1.SendSmsBulkRequest"}
    )
    sender = connection.create_sender(f"/exchanges/{quote(f'{prefix}.commands', safe='')}/sms.send")
    try:
        outcome = sender.send(message, error_states=[]).remote_state
    except ProtonException as error:  # too late, or the connection was lost
        raise Failed(f"no confirm: publish again with --request-id {args.request_id}: {error}") from None
    if outcome != Delivery.ACCEPTED:
        raise Failed(OUTCOMES.get(outcome, f"the broker answered {outcome}"))


def listen(receiver, args: argparse.Namespace, deadline: float) -> None:
    """Reads events until each destination has been delivered."""
    seen, mine, delivered, reports = set(), set(), set(), []
    while len(delivered) < len(args.to):
        try:
            message = receiver.receive(timeout=max(0.0, deadline - time.monotonic()))
        except Timeout:
            raise Failed(
                f"{len(mine)} accepted and {len(delivered)} delivered of {len(args.to)} in {args.timeout} s"
            ) from None
        event = json.loads(bytes(message.body))
        # An event may come twice, with the same id. A real consumer keeps the ids with what it stored.
        if event["id"] not in seen:
            seen.add(event["id"])
            if "report" in event:
                reports.append(event)
            # Not the property correlation_id: the broker makes a UUID of an id that begins with urn:uuid:.
            elif event.get("requestId") == args.request_id and event["application"] == args.application:
                show(event)
                if event["type"] != "send.accepted":
                    raise Failed("the command was not accepted")
                mine.add(event["result"]["messageId"])
            # A report may come before the result of its message. The stream also has the reports of other messages.
            for report in [report for report in reports if report["report"]["messageId"] in mine]:
                reports.remove(report)
                show(report)
                if report["type"] == "report.delivered":
                    delivered.add(report["report"]["messageId"])
        receiver.accept()  # removes nothing from a stream, and lets the broker deliver more


def show(event: dict) -> None:
    """One line for an event."""
    columns = [event["time"], event["type"], event["application"]]
    if payload := event.get("result") or event.get("report"):
        why = payload.get("refusal", {}).get("reason") or payload.get("status", {}).get("name", "")
        columns += [payload.get("to", ""), payload.get("messageId", ""), why]
    elif invalid := event.get("invalidCommand"):
        columns.append(f"{invalid['reason']}: {invalid['detail']}")
    print("  ".join(columns), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("to", nargs="+", help="numbers, such as 41793026727")
    parser.add_argument("--text", required=True)
    parser.add_argument("--application", default="default", help="who sends; default `default`")
    # With the same id a command can be repeated: nothing is sent twice.
    parser.add_argument("--request-id", default=str(uuid.uuid4()), help="default: a new one")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds; default 30")
    args = parser.parse_args()
    prefix = os.environ.get("SMSBRIDGE_AMQP__PREFIX") or "smsbridge"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C

    deadline = time.monotonic() + args.timeout
    connection = connect(args.timeout)
    try:
        # Attached before the command is published, so that no event is missed. A queue has an address of the same form.
        offset = symbol("rabbitmq:stream-offset-spec")
        receiver = connection.create_receiver(
            f"/queues/{quote(f'{prefix}.events.log', safe='')}",
            credit=PREFETCH,
            options=Filter({offset: Described(offset, "next")}),
        )
        publish(connection, prefix, args)
        print(f"published {args.request_id}", flush=True)
        listen(receiver, args, deadline)
    finally:
        # It waits for the broker, too. What failed before is shown, not that the broker does not answer this.
        connection.timeout = min(args.timeout, CLOSE_TIMEOUT)
        with contextlib.suppress(ProtonException):
            connection.close()


try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
except (Failed, ProtonException, OSError) as error:
    sys.exit(str(error))
