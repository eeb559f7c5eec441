{{/*
The secrets as the templates use them.

smsbridge.secrets is a YAML list, in a fixed order, of {section, name, file, value | secretName, secretKey}: what the values
ask for, and what the simulator adds.
*/}}

{{- define "smsbridge.secrets" -}}
{{- $secrets := list -}}
{{- $sections := deepCopy .Values.secrets -}}
{{- if .Values.simulator.enabled -}}
{{- $sections = set $sections "infobip" (dict "password" (dict "value" .Values.simulator.password)) -}}
{{- end -}}
{{- range $section := keys $sections | sortAlpha -}}
{{- range $name := keys (get $sections $section) | sortAlpha -}}
{{- $secret := get (get $sections $section) $name -}}
{{- $file := printf "%s-%s" $section ($name | replace "_" "-") -}}
{{- $secrets = append $secrets (merge (dict "section" $section "name" $name "file" $file) $secret) -}}
{{- end -}}
{{- end -}}
{{- toYaml $secrets -}}
{{- end -}}

{{- /* The name of the Secret and the key in it, for one entry: {root, secret}. */ -}}
{{- define "smsbridge.secretName" -}}
{{- default (include "smsbridge.fullname" .root) .secret.secretName -}}
{{- end -}}
{{- define "smsbridge.secretKey" -}}
{{- default .secret.file .secret.secretKey -}}
{{- end -}}
