"""Compiles the contract (proto/) into Python modules: make_stubs.py FOLDER

The examples find them by PYTHONPATH=FOLDER. No protoc is needed: grpcio-tools brings its own.
"""

import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[2] / "proto"


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 64
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(str(file) for file in PROTO.glob("smsbridge/v1/*.proto"))
    includes = [PROTO, resources.files("grpc_tools") / "_proto"]
    options = [f"--proto_path={include}" for include in includes]
    options += [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    return protoc.main(["protoc", *options, *files])


if __name__ == "__main__":
    sys.exit(main())
