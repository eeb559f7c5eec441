"""Publishes a command to the broker, and consumes the events about it from a queue of its own.

Exit status 0 if each destination was accepted and delivered within --timeout.
"""

import json
import sys
import uuid

import pika

import broker
import events


def main() -> bool:
    parser = broker.arguments(__doc__)
    parser.add_argument("to", nargs="+", help="numbers, such as 41793026727 385911234567")
    parser.add_argument(
        "--text", action="append", required=True, help="the text; repeated: a bulk, each text is a message to all numbers"
    )
    parser.add_argument("--sender", default="", help="default: the application's")
    parser.add_argument("--application", default="", help="who sends (property app_id); default: `default`")
    parser.add_argument("--urgent", action="store_true", help="send before everything that is not urgent")
    parser.add_argument("--expires", type=float, metavar="SECONDS", help="do not send later than this")
    # With the same id a command can be repeated: nothing is sent twice.
    parser.add_argument("--request-id", default=str(uuid.uuid4()), help="default: a new one")
    args = parser.parse_args()

    # The bodies are the same messages as in gRPC, as proto JSON.
    destinations = [{"to": to} for to in args.to]
    messages = [{"from": args.sender, "destinations": destinations, "text": text} for text in args.text]
    if len(messages) == 1:
        command, body = "smsbridge.v1.SendSmsRequest", {"message": messages[0]}
    else:
        command, body = "smsbridge.v1.SendSmsBulkRequest", {"messages": messages}

    connection = broker.connect(args)
    channel = connection.channel()
    channel.confirm_delivery()

    # Bound before the command is published, so that no event is missed. The routing key is {type}.{application}.
    queue = channel.queue_declare(queue="", exclusive=True).method.queue
    application = args.application or "default"
    for event_type in ("send.*", "report.*", "command.invalid"):
        channel.queue_bind(queue, exchange=f"{args.prefix}.events", routing_key=f"{event_type}.{application}")

    broker.publish(
        channel,
        args.timeout,
        exchange=f"{args.prefix}.commands",
        routing_key="sms.send.urgent" if args.urgent else "sms.send",
        body=json.dumps(body),
        properties=pika.BasicProperties(
            content_type="application/json",
            delivery_mode=pika.DeliveryMode.Persistent,
            type=command,
            message_id=args.request_id,  # the request id
            app_id=args.application or None,
            expiration=str(int(args.expires * 1000)) if args.expires is not None else None,
        ),
    )
    print(f"published {args.request_id}", flush=True)

    expected = len(args.to) * len(messages)
    mine, delivered, reports = set(), set(), []
    for _, properties, content in broker.deliveries(channel, queue, args.timeout, auto_ack=True):
        event = json.loads(content)
        if "report" in event:
            reports.append(event)
        elif properties.correlation_id == args.request_id:
            print(events.show(event), flush=True)
            if event["type"] != "send.accepted":
                return False
            mine.add(event["result"]["messageId"])
        # A report may come before the result of its message. The queue also has the reports of other messages.
        for event in [event for event in reports if event["report"]["messageId"] in mine]:
            reports.remove(event)
            print(events.show(event), flush=True)
            if event["type"] == "report.delivered":
                delivered.add(event["report"]["messageId"])
        if len(delivered) == expected:
            return True
    print(f"{len(mine)} accepted and {len(delivered)} delivered of {expected} in {args.timeout} s", file=sys.stderr)
    return False


broker.run(main)
