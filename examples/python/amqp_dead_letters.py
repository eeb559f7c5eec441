"""Shows the commands that could not be carried out, and why. They stay in the queue, unless --replay or --discard."""

import datetime

import pika

import broker

# Of a copy that the bridge published: a new command begins without them.
OWN = "smsbridge-"


def replay(channel, args, properties, body) -> None:
    """Publishes the command again, as its publisher did: with the same request id nothing is sent twice."""
    headers = properties.headers or {}
    channel.basic_publish(
        exchange=f"{args.prefix}.commands",
        routing_key=headers["smsbridge-routing-key"],
        body=body,
        properties=pika.BasicProperties(
            content_type=properties.content_type,
            content_encoding=properties.content_encoding,
            delivery_mode=pika.DeliveryMode.Persistent,
            type=properties.type,
            message_id=properties.message_id,
            app_id=properties.app_id,
            headers={name: value for name, value in headers.items() if not name.startswith((OWN, "x-"))},
        ),
        mandatory=True,
    )


def main() -> bool:
    parser = broker.arguments(__doc__)
    parser.add_argument("--json", action="store_true", help="show the bodies, too")
    after = parser.add_mutually_exclusive_group()
    after.add_argument("--replay", action="store_true", help="publish each again, then remove it")
    after.add_argument("--discard", action="store_true", help="remove each")
    args = parser.parse_args()

    connection = broker.connect(args)
    channel = connection.channel()
    channel.confirm_delivery()
    queue = f"{args.prefix}.dead"
    # What is there now: a replayed command may come back.
    count = channel.queue_declare(queue, passive=True).method.message_count
    shown = 0
    while shown < count:
        method, properties, body = channel.basic_get(queue)
        if method is None:
            break
        shown += 1
        headers = properties.headers or {}
        died = datetime.datetime.fromtimestamp(headers["smsbridge-died-at"] / 1000, datetime.timezone.utc)
        print(
            f"{died:%Y-%m-%dT%H:%M:%SZ}  {headers['smsbridge-application']}  {headers['smsbridge-routing-key']}  "
            f"request {properties.message_id or '(none)'}  {headers['smsbridge-reason']}: {headers['smsbridge-detail']}"
        )
        if args.json:
            print(f"  {body.decode(errors='replace')}")
        if args.replay:
            replay(channel, args, properties, body)
        if args.replay or args.discard:
            channel.basic_ack(method.delivery_tag)
    if not shown:
        print("no dead letters")
    connection.close()  # what was not acknowledged goes back to the queue
    return True


broker.run(main)
