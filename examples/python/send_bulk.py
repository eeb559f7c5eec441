"""Sends many messages in one call and prints the result for each destination. Exit status 0 if all were accepted.

An invalid message is rejected alone: the others are sent.
"""

import uuid

import bridge
from smsbridge.v1 import message_pb2, sms_service_pb2, sms_service_pb2_grpc


def message(pair: str) -> message_pb2.OutboundMessage:
    """From NUMBER=TEXT."""
    to, _, text = pair.partition("=")
    return message_pb2.OutboundMessage(destinations=[message_pb2.Destination(to=to)], text=text)


def main() -> bool:
    parser = bridge.arguments(__doc__)
    parser.add_argument("messages", nargs="+", metavar="NUMBER=TEXT", help="such as 41793026727=Hello")
    # With the same id a call can be repeated: nothing is sent twice.
    parser.add_argument("--request-id", default=str(uuid.uuid4()), help="default: a new one")
    parser.add_argument("--bulk-id", default="", help="names the bulk, to reschedule or cancel it later")
    args = parser.parse_args()

    request = sms_service_pb2.SendSmsBulkRequest(
        request_id=args.request_id,
        bulk_id=args.bulk_id,
        messages=[message(pair) for pair in args.messages],
    )
    with bridge.connect(args) as channel:
        sms = sms_service_pb2_grpc.SmsServiceStub(channel)
        response = sms.SendSmsBulk(request, timeout=args.timeout, metadata=bridge.metadata(args))

    # In the order of the messages and their destinations.
    for result in response.results:
        outcome = message_pb2.Outcome.Name(result.outcome)
        why = result.refusal.detail if result.HasField("refusal") else result.status.name
        print(f"{result.to}  {result.message_id}  {outcome}  {why}")
        for mistake in result.refusal.violations:
            print(f"  {mistake.field}: {mistake.description}")
    return all(result.outcome == message_pb2.OUTCOME_ACCEPTED for result in response.results)


bridge.run(main)
