"""What the AMQP examples share: the connection to the broker, and how its errors are shown. No stubs are needed."""

import argparse
import os
import signal
import ssl
import sys
import time

import pika
import pika.exceptions


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser for the options that every example has. The variables are those of the bridge itself."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--amqp-url",
        default=os.environ.get("SMSBRIDGE_AMQP__URL", "amqp://guest:guest@127.0.0.1:5672/%2f"),
        help="the broker; amqps:// for TLS (environment: SMSBRIDGE_AMQP__URL)",
    )
    parser.add_argument(
        "--prefix",
        default=os.environ.get("SMSBRIDGE_AMQP__PREFIX", "smsbridge"),
        help="prefix of the bridge's names (environment: SMSBRIDGE_AMQP__PREFIX)",
    )
    parser.add_argument("--ca-file", help="the CA (PEM) that signed the broker's certificate")
    parser.add_argument("--cert-file", help="the client certificate (PEM)")
    parser.add_argument("--key-file", help="the key of the client certificate (PEM)")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds; default 30")
    return parser


class ConsumerCancelled(Exception):
    """The broker ended a consumer: its queue was deleted, or its node went away."""


def connect(args: argparse.Namespace) -> pika.BlockingConnection:
    """A connection to the broker."""
    try:
        if not args.amqp_url.startswith(("amqp://", "amqps://")):
            raise ValueError
        parameters = pika.URLParameters(args.amqp_url)
    except (ValueError, TypeError):  # the URL is not shown: it may have a password
        sys.exit("--amqp-url is not of the form amqp://USER:PASSWORD@HOST:PORT/VHOST")
    # While the broker has an alarm it reads nothing from a connection that has published: this ends every wait for an answer.
    parameters.blocked_connection_timeout = args.timeout
    if args.ca_file or args.cert_file:
        context = ssl.create_default_context(cafile=args.ca_file)
        if args.cert_file:
            context.load_cert_chain(args.cert_file, args.key_file)
        parameters.ssl_options = pika.SSLOptions(context, parameters.host)
    return pika.BlockingConnection(parameters)


class Late(Exception):
    """The time is over."""


class Unconfirmed(Exception):
    """The broker has stored the message or not: the publisher does not know."""


def publish(channel, timeout: float, **message) -> None:
    """Publishes a message, and waits for the confirm: the broker has stored it. The channel is in confirm mode.

    Raises Unconfirmed if no confirm comes. The channel cannot be used then.
    """

    def late(_signal, _frame):
        raise Late(f"{timeout} s are over")

    # basic_publish has no deadline, and pika runs no timer of the program in it. Not on Windows, which has no SIGALRM.
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, max(timeout, 0.001))  # 0 would be no deadline
    try:
        channel.basic_publish(mandatory=True, **message)
    except (Late, pika.exceptions.AMQPConnectionError) as error:
        request_id = message["properties"].message_id
        why = str(error) if isinstance(error, Late) else repr(error)
        raise Unconfirmed(f"no confirm: publish again with the request id {request_id}: {why}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def deliveries(channel, queue: str, timeout: float | None, **consume):
    """Yields (method, properties, body) of each message. Ends after `timeout` seconds; None: never.

    Raises ConsumerCancelled if the broker ends the consumer.
    """
    deadline = time.monotonic() + timeout if timeout is not None else None
    for method, properties, body in channel.consume(queue, inactivity_timeout=0.2, **consume):
        if method is not None:
            yield method, properties, body
        if deadline is not None and time.monotonic() > deadline:
            return
    raise ConsumerCancelled(f"the broker cancelled the consumer of {queue}: was the queue deleted?")


def run(main) -> None:
    """Ends the process: 0 if `main` returned True, 1 if it did not or the broker refused, 130 after Ctrl-C."""
    try:
        sys.exit(0 if main() else 1)
    except pika.exceptions.UnroutableError:
        sys.exit("the broker returned the message: no queue is bound; start a bridge, it declares them")
    except pika.exceptions.NackError:
        sys.exit("the broker refused the message: a queue is full")
    except pika.exceptions.ChannelClosedByBroker as error:
        hint = ": does a bridge with this --prefix run on the broker?" if error.reply_code == 404 else ""
        sys.exit(f"{error.reply_text}{hint}")
    except pika.exceptions.AMQPConnectionError as error:
        sys.exit(f"no connection to the broker: {error!r}")
    except (ConsumerCancelled, Unconfirmed) as error:
        sys.exit(str(error))
    except OSError as error:  # a certificate file
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
