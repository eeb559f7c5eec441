"""Sends a text through the broker, and reads from a queue of its own what became of it.

Nothing but AMQP is needed: no stubs. Exit status 0 if each destination was accepted and delivered within --timeout.
"""

import argparse
import json
import os
import sys
import time
import uuid

import pika
import pika.exceptions


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("to", nargs="+", help="numbers, such as 41793026727 385911234567")
    parser.add_argument("--text", required=True)
    parser.add_argument("--sender", default="", help="default: the application's")
    parser.add_argument(
        "--amqp-url",
        default=os.environ.get("SMSBRIDGE_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f"),
        help="the broker (environment: SMSBRIDGE_AMQP_URL)",
    )
    parser.add_argument("--prefix", default="smsbridge", help="what the bridge's names begin with")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds; default 30")
    args = parser.parse_args()

    connection = pika.BlockingConnection(pika.URLParameters(args.amqp_url))
    channel = connection.channel()
    channel.confirm_delivery()

    # The routing key of an event is its type and the application, here the one of senders that name none.
    events = channel.queue_declare(queue="", exclusive=True).method.queue
    for routing_key in ("send.*.default", "report.*.default"):
        channel.queue_bind(queue=events, exchange=f"{args.prefix}.events", routing_key=routing_key)

    # The same message as in gRPC's SendSms, as proto JSON.
    request_id = str(uuid.uuid4())
    body = {
        "message": {
            "from": args.sender,
            "destinations": [{"to": to} for to in args.to],
            "text": args.text,
        }
    }
    channel.basic_publish(
        exchange=f"{args.prefix}.commands",
        routing_key="sms.send",
        body=json.dumps(body),
        properties=pika.BasicProperties(
            content_type="application/json",
            delivery_mode=pika.DeliveryMode.Persistent,
            # The request id: with it the command has exactly-once effect.
            message_id=request_id,
        ),
        mandatory=True,
    )
    print(f"published {request_id}")

    missing = {(event, to) for event in ("send.accepted", "report.delivered") for to in args.to}
    deadline = time.monotonic() + args.timeout
    mine = set()
    reports = []
    for method, properties, content in channel.consume(events, auto_ack=True, inactivity_timeout=1):
        if time.monotonic() > deadline:
            print(f"within {args.timeout} s there was no {sorted(missing)}", file=sys.stderr)
            return 1
        if method is None:
            continue
        event = json.loads(content)
        if "report" in event:
            reports.append(event)
        elif properties.correlation_id == request_id:
            result = event["result"]
            mine.add(result["messageId"])
            print(f"{event['type']}  {result['to']}  {result['messageId']}")
            if event["type"] != "send.accepted":
                print(json.dumps(result), file=sys.stderr)
                return 1
            missing.discard((event["type"], result["to"]))
        # A report may overtake the result of its message, and those of others come along.
        for event in [event for event in reports if event["report"]["messageId"] in mine]:
            reports.remove(event)
            report = event["report"]
            print(f"{event['type']}  {report['to']}  {report['messageId']}  {report['status']['name']}")
            missing.discard((event["type"], report["to"]))
        if not missing:
            break
    channel.cancel()
    connection.close()
    return 0


try:
    sys.exit(main())
except pika.exceptions.AMQPConnectionError as error:
    sys.exit(f"can't reach the broker: {error!r}")
except pika.exceptions.ChannelClosedByBroker as error:
    sys.exit(f"{error.reply_text}: does a bridge with this prefix run on the broker?")
except pika.exceptions.UnroutableError:
    sys.exit("nobody takes commands: does a bridge with this prefix run on the broker?")
