"""Sends a text and prints the result for each destination. Exit status 0 if all were accepted."""

import uuid

import bridge
from smsbridge.v1 import message_pb2, sms_service_pb2, sms_service_pb2_grpc


def main() -> bool:
    parser = bridge.arguments(__doc__)
    parser.add_argument("to", nargs="+", help="numbers, such as 41793026727 385911234567")
    parser.add_argument("--text", required=True)
    parser.add_argument("--sender", default="", help="default: the application's")
    # With the same id a call can be repeated: nothing is sent twice.
    parser.add_argument("--request-id", default=str(uuid.uuid4()), help="default: a new one")
    args = parser.parse_args()

    request = sms_service_pb2.SendSmsRequest(
        request_id=args.request_id,
        message=message_pb2.OutboundMessage(
            **{"from": args.sender},  # `from` is a word of Python
            destinations=[message_pb2.Destination(to=to) for to in args.to],
            text=args.text,
        ),
    )
    with bridge.connect(args) as channel:
        sms = sms_service_pb2_grpc.SmsServiceStub(channel)
        response = sms.SendSms(request, timeout=args.timeout, metadata=bridge.metadata(args))

    for result in response.results:
        outcome = message_pb2.Outcome.Name(result.outcome)
        why = result.refusal.detail if result.HasField("refusal") else result.status.name
        print(f"{result.to}  {result.message_id}  {outcome}  {why}")
    message_ids = {result.message_id for result in response.results}
    return len(message_ids) == len(args.to) and all(
        result.outcome == message_pb2.OUTCOME_ACCEPTED for result in response.results
    )


bridge.run(main)
