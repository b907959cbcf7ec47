{{/* The operator's settings: POSTWARDEN_X is its flag --x. */}}
{{- define "postwarden.environment" -}}
{{- $fullname := include "postwarden.fullname" . -}}
{{- $host := include "postwarden.host" . -}}
- {name: POSTWARDEN_LISTEN, value: "0.0.0.0:8443"}
- {name: POSTWARDEN_HEALTH, value: "0.0.0.0:8081"}
- {name: POSTWARDEN_METRICS, value: "0.0.0.0:8080"}
- {name: POSTWARDEN_LOG_LEVEL, value: {{ .Values.operator.logLevel }}}
{{- with .Values.operator.otlpEndpoint }}
- {name: POSTWARDEN_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- if .Values.certManager.enabled }}
- {name: POSTWARDEN_TLS_CERT, value: /tls/tls.crt}
- {name: POSTWARDEN_TLS_KEY, value: /tls/tls.key}
- {name: POSTWARDEN_TLS_CA, value: /tls/ca.crt}
{{- else }}
- {name: POSTWARDEN_CA_SECRET, value: {{ printf "%s/%s" .Release.Namespace (include "postwarden.caSecret" .) }}}
- {name: POSTWARDEN_SERVER_NAMES, value: {{ printf "%s %s" $host (include "postwarden.peersHost" .) }}}
{{- end }}
- {name: POSTWARDEN_LEASE, value: {{ printf "%s/%s-operator" .Release.Namespace $fullname }}}
- {name: POSTWARDEN_PEERS, value: {{ printf "%s:8443" (include "postwarden.peersHost" .) | quote }}}
- {name: POSTWARDEN_PEERS_TOKEN, value: /var/run/secrets/postwarden-peers/token}
{{- if .Values.webhook.enabled }}
- {name: POSTWARDEN_WEBHOOK, value: "0.0.0.0:9443"}
{{- if not .Values.certManager.enabled }}
- {name: POSTWARDEN_WEBHOOK_CONFIGURATION, value: {{ $fullname }}}
{{- end }}
- {name: POSTWARDEN_SIDECAR_IMAGE, value: {{ include "postwarden.image" (dict "image" .Values.sidecar.image "context" $) | quote }}}
- {name: POSTWARDEN_SIDECAR_PULL_POLICY, value: {{ .Values.sidecar.image.pullPolicy }}}
- {name: POSTWARDEN_SIDECAR_CONTROL, value: {{ printf "%s:8443" $host | quote }}}
- {name: POSTWARDEN_SIDECAR_RESOURCES, value: {{ .Values.sidecar.resources | default dict | toJson | quote }}}
{{- with .Values.sidecar.otlpEndpoint }}
- {name: POSTWARDEN_SIDECAR_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- with .Values.operator.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
