"""Asks what is known of numbers. Exit status 0 if each number has an answer."""

import bridge
from smsbridge.v1 import lookup_service_pb2, lookup_service_pb2_grpc


def main() -> bool:
    parser = bridge.arguments(__doc__)
    parser.add_argument("numbers", nargs="+")
    args = parser.parse_args()

    with bridge.connect(args) as channel:
        lookup = lookup_service_pb2_grpc.LookupServiceStub(channel)
        response = lookup.LookupNumbers(
            lookup_service_pb2.LookupNumbersRequest(to=args.numbers),
            timeout=args.timeout,
            metadata=bridge.metadata(args),
        )
    for result in response.results:
        network = result.original_network
        print(f"{result.to}  {result.status.name}  {result.mcc_mnc}  {network.network_name} {network.country_name}")
    return len(response.results) == len(args.numbers)


bridge.run(main)
