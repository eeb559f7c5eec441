// The google.rpc details of a gRPC error. grpc-js gives them as bytes only, so the few messages are declared here, as in
// google/rpc/status.proto and google/rpc/error_details.proto.

import protobuf from "protobufjs";

const { root } = protobuf.parse(`
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message BadRequest {
    message FieldViolation { string field = 1; string description = 2; }
    repeated FieldViolation field_violations = 1;
  }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }
`);

const decode = (name, bytes) => root.lookupType(name).decode(bytes);

/** The stable reason with its metadata, the mistakes of the request, and the seconds to wait; each where there is one. */
export function details(error) {
  const found = { info: undefined, mistakes: [], retryAfter: undefined };
  const [status] = error.metadata?.get("grpc-status-details-bin") ?? [];
  for (const { type_url: url, typeUrl, value } of status ? decode("Status", status).details : []) {
    switch ((url ?? typeUrl).split("/").pop()) {
      case "google.rpc.ErrorInfo":
        found.info = decode("ErrorInfo", value);
        break;
      case "google.rpc.BadRequest":
        found.mistakes = decode("BadRequest", value).fieldViolations;
        break;
      case "google.rpc.RetryInfo": {
        const { seconds, nanos } = decode("RetryInfo", value).retryDelay;
        found.retryAfter = Number(seconds) + nanos / 1e9;
        break;
      }
    }
  }
  return found;
}
