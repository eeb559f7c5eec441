{{/*
The configuration file.

smsbridge.config is the configuration as YAML: `config` of the values, and the keys that the chart sets (listen addresses,
paths of secrets, the grace period, the simulator). smsbridge.toml writes it as TOML; Helm's toToml would write 100 as 100.0.
*/}}

{{- define "smsbridge.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- range $section := list "infobip" "grpc" "http" "admin" "events" "shutdown" "amqp" -}}
{{- $_ := set $config $section (default dict (get $config $section)) -}}
{{- end -}}
{{- $_ := set $config.grpc "listen" "0.0.0.0:50051" -}}
{{- $_ := set $config.http "listen" "0.0.0.0:8080" -}}
{{- $_ := set $config.admin "listen" "0.0.0.0:9090" -}}
{{- $_ := set $config.events "data_dir" "/var/lib/smsbridge" -}}
{{- $_ := set $config.shutdown "grace" (printf "%ds" (sub (int .Values.terminationGracePeriodSeconds) 5)) -}}
{{- range $secret := include "smsbridge.secrets" . | fromYamlArray -}}
{{- $_ := set (get $config $secret.section) (printf "%s_file" $secret.name) (printf "/etc/smsbridge/secrets/%s" $secret.file) -}}
{{- end -}}
{{- if .Values.simulator.enabled -}}
{{- $_ := set $config.infobip "base_url" (printf "http://%s-simulator:8090" (include "smsbridge.fullname" .)) -}}
{{- $_ := set $config.infobip "username" .Values.simulator.username -}}
{{- end -}}
{{- if not $config.http.public_url -}}
{{- if and .Values.ingress.enabled .Values.ingress.host -}}
{{- $_ := set $config.http "public_url" (printf "https://%s" .Values.ingress.host) -}}
{{- else if .Values.simulator.enabled -}}
{{- $_ := set $config.http "public_url" (printf "http://%s-http:%d" (include "smsbridge.fullname" .) (int .Values.service.http.port)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{- /* The engine of the event log: "broker" or "embedded". */ -}}
{{- define "smsbridge.engine" -}}
{{- $engine := dig "events" "engine" "auto" .Values.config -}}
{{- if eq $engine "auto" -}}
{{- ternary "broker" "embedded" (hasKey .Values.secrets.amqp "url") -}}
{{- else -}}
{{- $engine -}}
{{- end -}}
{{- end -}}

{{- /* Writes one table, given {path, table}: first its keys, then its sub-tables. */ -}}
{{- define "smsbridge.toml" -}}
{{- range $key := keys .table | sortAlpha -}}
{{- $value := get $.table $key -}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "smsbridge.tomlKey" $key }} = {{ include "smsbridge.tomlValue" $value }}
{{- end -}}
{{- end -}}
{{- range $key := keys .table | sortAlpha -}}
{{- $value := get $.table $key -}}
{{- if kindIs "map" $value -}}
{{- $path := append $.path (include "smsbridge.tomlKey" $key) }}
{{- if $value }}

[{{ join "." $path }}]
{{- include "smsbridge.toml" (dict "path" $path "table" $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "smsbridge.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . -}}{{- . -}}{{- else -}}{{- toRawJson . -}}{{- end -}}
{{- end -}}

{{- /* A JSON string is also a valid TOML string. */ -}}
{{- define "smsbridge.tomlValue" -}}
{{- if kindIs "slice" . -}}
{{- $items := list -}}
{{- range . -}}{{- $items = append $items (include "smsbridge.tomlValue" .) -}}{{- end -}}
[{{ join ", " $items }}]
{{- else if kindIs "map" . -}}
{{- $items := list -}}
{{- range $key := keys . | sortAlpha -}}
{{- $items = append $items (printf "%s = %s" (include "smsbridge.tomlKey" $key) (include "smsbridge.tomlValue" (get $ $key))) -}}
{{- end -}}
{ {{- join ", " $items -}} }
{{- else if kindIs "float64" . -}}
{{- if eq . (floor .) -}}{{- int64 . -}}{{- else -}}{{- . -}}{{- end -}}
{{- else -}}
{{- toRawJson . -}}
{{- end -}}
{{- end -}}
