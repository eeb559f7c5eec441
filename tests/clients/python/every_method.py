"""Calls methods by the stubs that grpcio-tools generates: every_method.py ADDRESS FILE

FILE has a list of {"method": "package.Service/Method", "requests": [proto JSON...]}. Prints a list of
{"code": name, "answers": [proto JSON...]} in the same order. tests/it/every_method.rs starts it and judges the answers.
"""

import importlib
import json
import pkgutil
import sys

import grpc
import smsbridge.v1
from google.protobuf import json_format, message_factory


def services():
    """Each service's descriptor and stub class, by full name."""
    found = {}
    for module in pkgutil.iter_modules(smsbridge.v1.__path__, "smsbridge.v1."):
        if not module.name.endswith("_service_pb2"):
            continue
        stubs = importlib.import_module(module.name + "_grpc")
        for name, service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.items():
            found[service.full_name] = (service, getattr(stubs, name + "Stub"))
    return found


def call(channel, service, stub, name, bodies):
    method = service.methods_by_name[name]
    kind = message_factory.GetMessageClass(method.input_type)
    requests = [json_format.ParseDict(body, kind()) for body in bodies]
    asked = iter(requests) if method.client_streaming else requests[0]
    try:
        answer = getattr(stub(channel), name)(asked, timeout=30)
        answers = list(answer) if method.server_streaming else [answer]
    except grpc.RpcError as error:
        return {"code": error.code().name, "answers": [error.details()]}
    return {"code": "OK", "answers": [json_format.MessageToDict(answer) for answer in answers]}


def main():
    address, file = sys.argv[1:]
    known = services()
    results = []
    with grpc.insecure_channel(address) as channel, open(file, encoding="utf-8") as calls:
        for one in json.load(calls):
            service, name = one["method"].split("/")
            results.append(call(channel, *known[service], name, one["requests"]))
    print(json.dumps(results))


main()
