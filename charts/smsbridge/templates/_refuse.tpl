{{/* Rejects values that cannot work, and says what to set; otherwise the pod would crash later. */}}

{{- define "smsbridge.refuse" -}}
{{- $config := .Values.config -}}
{{- $secrets := .Values.secrets -}}
{{- $engine := include "smsbridge.engine" . -}}
{{- $broker := hasKey $secrets.amqp "url" -}}

{{- if and (gt (int .Values.replicas) 1) (eq $engine "embedded") -}}
{{- fail "replicas: more than one replica needs the broker for the event log: set secrets.amqp.url (and leave config.events.engine at auto), or set replicas to 1; only one process can use the embedded event log" -}}
{{- end -}}
{{- if and (eq $engine "broker") (not $broker) -}}
{{- fail "config.events.engine: the engine `broker` needs a RabbitMQ broker: set secrets.amqp.url" -}}
{{- end -}}

{{- if .Values.simulator.enabled -}}
{{- if or $secrets.infobip (dig "infobip" "base_url" "" $config) (dig "infobip" "username" "" $config) -}}
{{- fail "simulator.enabled: the simulator takes the place of Infobip: remove secrets.infobip, config.infobip.base_url and config.infobip.username" -}}
{{- end -}}
{{- else if hasKey $secrets.infobip "api_key" -}}
{{- if or (hasKey $secrets.infobip "password") (dig "infobip" "username" "" $config) -}}
{{- fail "secrets.infobip: set either api_key, or password with config.infobip.username" -}}
{{- end -}}
{{- else if not (and (hasKey $secrets.infobip "password") (dig "infobip" "username" "" $config)) -}}
{{- fail "secrets.infobip: set api_key, or password with config.infobip.username; simulator.enabled=true needs no account" -}}
{{- end -}}

{{- if not (or (hasKey $secrets.grpc "tokens") (hasKey $secrets.grpc "tls_client_ca") (dig "grpc" "allow_insecure" false $config)) -}}
{{- fail "secrets.grpc: anyone in the cluster could send SMS: set secrets.grpc.tokens or secrets.grpc.tls_client_ca; to allow it, set config.grpc.allow_insecure to true" -}}
{{- end -}}
{{- if ne (hasKey $secrets.grpc "tls_cert") (hasKey $secrets.grpc "tls_key") -}}
{{- fail "secrets.grpc: set both tls_cert and tls_key, or neither" -}}
{{- end -}}
{{- if ne (hasKey $secrets.amqp "tls_cert") (hasKey $secrets.amqp "tls_key") -}}
{{- fail "secrets.amqp: set both tls_cert and tls_key, or neither" -}}
{{- end -}}
{{- if and (hasKey $secrets.grpc "tls_client_ca") (not (hasKey $secrets.grpc "tls_cert")) -}}
{{- fail "secrets.grpc: tls_client_ca (mutual TLS) needs tls_cert and tls_key" -}}
{{- end -}}

{{- if not (or (hasKey $secrets.http "secret") (hasKey $secrets.http "basic_password") (dig "http" "allow_insecure" false $config)) -}}
{{- fail "secrets.http: anyone who reaches the port could forge reports: set secrets.http.secret, or secrets.http.basic_password with config.http.basic_username; to allow it, set config.http.allow_insecure to true" -}}
{{- end -}}
{{- if ne (hasKey $secrets.http "basic_password") (ne "" (dig "http" "basic_username" "" $config)) -}}
{{- fail "secrets.http: set both basic_password and config.http.basic_username, or neither" -}}
{{- end -}}

{{- if ne (hasKey $secrets.http "hmac_key") (ne "" (dig "http" "hmac_header" "" $config)) -}}
{{- fail "secrets.http: set both hmac_key and config.http.hmac_header, or neither" -}}
{{- end -}}
{{- if and (hasKey $secrets.http "hmac_previous_key") (not (hasKey $secrets.http "hmac_key")) -}}
{{- fail "secrets.http: hmac_previous_key needs hmac_key, which replaces it" -}}
{{- end -}}

{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.host: the ingress needs the host name that Infobip calls" -}}
{{- end -}}
{{- end -}}
