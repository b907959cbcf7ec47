{{/* The prefix of all names. 50 characters leave room for the longest suffix in the 63 of a Service's name. */}}
{{- define "postwarden.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "postwarden.serviceAccount" -}}
{{ include "postwarden.fullname" . }}-operator
{{- end -}}

{{/* What sidecars and the API server call the operator; its certificate is for this name. */}}
{{- define "postwarden.host" -}}
{{ include "postwarden.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{/* All replicas, for each other. */}}
{{- define "postwarden.peersHost" -}}
{{ include "postwarden.fullname" . }}-peers.{{ .Release.Namespace }}.svc
{{- end -}}

{{/* By which the operator's pods are selected; never changed, for a Deployment's selector can't be. */}}
{{- define "postwarden.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Kubernetes' recommended labels. */}}
{{- define "postwarden.labels" -}}
{{ include "postwarden.selector" . }}
app.kubernetes.io/part-of: postwarden
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* Of (dict "image" VALUES "context" $): an image's full name. */}}
{{- define "postwarden.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .context.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end -}}

{{/* The Secret that holds ca.crt. */}}
{{- define "postwarden.caSecret" -}}
{{ include "postwarden.fullname" . }}-{{ .Values.certManager.enabled | ternary "tls" "ca" }}
{{- end -}}

{{/* What Pod Security `restricted` asks of a container. */}}
{{- define "postwarden.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end -}}

{{/* … and of a pod. 65532 is the image's own user; named, so that kubelet makes tokens that it can read. */}}
{{- define "postwarden.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}
