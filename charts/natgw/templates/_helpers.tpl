{{- define "natgw.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "natgw.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := include "natgw.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "natgw.selectorLabels" -}}
app.kubernetes.io/name: {{ include "natgw.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "natgw.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "natgw.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "natgw.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "natgw.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: name the ServiceAccount, or let the chart create one" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "natgw.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "natgw.leaseNamespace" -}}
{{- default .Release.Namespace .Values.config.leaderElection.namespace }}
{{- end }}

{{- /* The configuration file. What would be refused at start is refused here, where it is cheaper. */ -}}
{{- define "natgw.config" -}}
{{- if .Values.config.credential }}
{{- fail "config.credential: a ConfigMap is no place for keys; put them into a Secret and name it in credentials.accessKeySecret" }}
{{- end }}
{{- $id := required "config.clusterID: set it to the id of the cluster" .Values.config.clusterID }}
{{- $region := required "config.regionID: set it to the region of the cluster, such as cn-hangzhou" .Values.config.regionID }}
{{- $vpc := required "config.vpcID: set it to the VPC of the cluster, vpc-..." .Values.config.vpcID }}
{{- toYaml .Values.config }}
{{- end }}
