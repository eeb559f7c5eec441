"""Shows the commands that could not be carried out, and why. They stay in the queue, unless --replay or --discard.

With the same request id nothing is sent twice. So --replay leaves a command without one (message_id) in the queue, and one with
the reason DELIVERY_LIMIT or the header smsbridge-in-doubt, of which something may have been sent: exit status 1. --force replays
them, too.
"""

import datetime
import sys

import pika

import broker

# Of a copy that the bridge published: a new command begins without them.
OWN = "smsbridge-"


def doubt(properties) -> str | None:
    """Why a replay may send something a second time."""
    if not properties.message_id:
        return "it has no request id"
    headers = properties.headers or {}
    if headers.get("smsbridge-reason") == "DELIVERY_LIMIT" or "smsbridge-in-doubt" in headers:
        return "something may have been sent before it was given up"
    return None


def replay(channel, args, properties, body) -> None:
    """Publishes the command again, as its publisher did."""
    headers = properties.headers or {}
    broker.publish(
        channel,
        args.timeout,
        exchange=f"{args.prefix}.commands",
        routing_key=headers.get("smsbridge-routing-key", "sms.send"),
        body=body,
        properties=pika.BasicProperties(
            content_type=properties.content_type,
            content_encoding=properties.content_encoding,
            delivery_mode=pika.DeliveryMode.Persistent,
            type=properties.type,
            message_id=properties.message_id,
            app_id=properties.app_id,
            reply_to=properties.reply_to,
            correlation_id=properties.correlation_id,
            headers={name: value for name, value in headers.items() if not name.startswith((OWN, "x-"))},
        ),
    )


def show(properties) -> str:
    """The letter in one line. One that the bridge did not publish has none of its headers."""
    headers = properties.headers or {}
    header = {name: headers.get(OWN + name, "-") for name in ("died-at", "application", "routing-key", "reason", "detail")}
    died = header["died-at"]
    if isinstance(died, int):
        died = f"{datetime.datetime.fromtimestamp(died / 1000, datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    return (
        f"{died}  {header['application']}  {header['routing-key']}  "
        f"request {properties.message_id or '(none)'}  {header['reason']}: {header['detail']}"
    )


def main() -> bool:
    parser = broker.arguments(__doc__)
    parser.add_argument("--json", action="store_true", help="show the bodies, too")
    after = parser.add_mutually_exclusive_group()
    after.add_argument("--replay", action="store_true", help="publish each again, then remove it")
    after.add_argument("--discard", action="store_true", help="remove each")
    parser.add_argument("--force", action="store_true", help="replay also what may be sent twice")
    args = parser.parse_args()

    connection = broker.connect(args)
    channel = connection.channel()
    channel.confirm_delivery()
    queue = f"{args.prefix}.dead"
    # What is there now: a replayed command may come back.
    count = channel.queue_declare(queue, passive=True).method.message_count
    shown = skipped = 0
    while shown < count:
        method, properties, body = channel.basic_get(queue)
        if method is None:
            break
        shown += 1
        print(show(properties))
        if args.json:
            print(f"  {body.decode(errors='replace')}")
        if args.replay and not args.force and (reason := doubt(properties)):
            print(f"  not replayed: {reason}")
            skipped += 1
            continue
        if args.replay:
            replay(channel, args, properties, body)
        if args.replay or args.discard:
            channel.basic_ack(method.delivery_tag)
    if not shown:
        print("no dead letters")
    connection.close()  # what was not acknowledged goes back to the queue
    if skipped:
        print(f"{skipped} of {shown} not replayed: look for their events first, then use --force", file=sys.stderr)
    return not skipped


broker.run(main)
