{{- /* The name of everything: of the release, and of the program where the release is called otherwise. */ -}}
{{- define "fallgate.name" -}}
{{- if contains "fallgate" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-fallgate" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- /* The pods of this release. */ -}}
{{- define "fallgate.selector" -}}
app.kubernetes.io/name: fallgate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "fallgate.labels" -}}
{{ include "fallgate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* The text of the config. */ -}}
{{- define "fallgate.config" -}}
{{- .Values.config | default (.Files.Get "fallgate.yaml") }}
{{- end }}

{{- /* The config as JSON, once it is one. */ -}}
{{- define "fallgate.read" -}}
{{- $config := include "fallgate.config" . | fromYaml }}
{{- if $config.Error }}{{ fail (printf "config: it is no YAML: %s" $config.Error) }}{{ end }}
{{- if not $config.listeners }}{{ fail "config: it has no listeners; give a whole fallgate.yaml: --set-file config=fallgate.yaml" }}{{ end }}
{{- toJson $config }}
{{- end }}

{{- /* The ports of an address, or of a range, as JSON: {"ports": [...]}. */ -}}
{{- define "fallgate.portsOf" -}}
{{- $tail := regexFind ":[0-9]+(-[0-9]+)?$" (toString .address) | trimPrefix ":" }}
{{- if or (not $tail) (eq $tail "0") }}{{ fail (printf "config: %s: %q has no fixed port, and a Service needs one" .of (toString .address)) }}{{ end }}
{{- $ends := splitList "-" $tail }}
{{- $from := first $ends | int }}
{{- $to := last $ends | int }}
{{- if gt (sub $to $from) 99 }}{{ fail (printf "config: %s: %q has more ports than a Service should have" .of (toString .address)) }}{{ end }}
{{- dict "ports" (untilStep $from (int (add1 $to)) 1) | toJson }}
{{- end }}

{{- /* What clients connect to, as JSON: {"ports": [{"name", "port", "protocol"}, ...]}. */ -}}
{{- define "fallgate.ports" -}}
{{- $all := list }}
{{- range (include "fallgate.read" . | fromJson).listeners }}
{{- $protocol := ternary "UDP" "TCP" (eq .protocol "udp") }}
{{- $name := .name | replace "_" "-" }}
{{- $ports := (include "fallgate.portsOf" (dict "of" (printf "listeners[%s].address" .name) "address" .address) | fromJson).ports }}
{{- range $ports }}
{{- $all = append $all (dict "name" (ternary $name (printf "%s-%d" $name (int .)) (eq (len $ports) 1)) "port" (int .) "protocol" $protocol) }}
{{- end }}
{{- end }}
{{- dict "ports" $all | toJson }}
{{- end }}

{{- /* The port of the admin door. */ -}}
{{- define "fallgate.admin" -}}
{{- $address := ((include "fallgate.read" . | fromJson).admin | default dict).address | default "127.0.0.1:9180" | toString }}
{{- if or (eq $address "false") (hasPrefix "127." $address) (hasPrefix "[::1]" $address) }}
{{- fail (printf "config: admin.address: probes do not reach %s; write \"0.0.0.0:9180\"" $address) }}
{{- end }}
{{- first (include "fallgate.portsOf" (dict "of" "admin.address" "address" $address) | fromJson).ports }}
{{- end }}

{{- /* A duration of the config in seconds, rounded up. */ -}}
{{- define "fallgate.seconds" -}}
{{- $sum := 0 }}
{{- range regexFindAll "[0-9]+(ms|s|m|h|d)" (toString .) -1 }}
{{- $number := regexFind "^[0-9]+" . | int }}
{{- $unit := trimPrefix (toString $number) . }}
{{- if eq $unit "ms" }}{{ $sum = add $sum (div (add $number 999) 1000) }}
{{- else }}{{ $sum = add $sum (mul $number (get (dict "s" 1 "m" 60 "h" 3600 "d" 86400) $unit)) }}{{ end }}
{{- end }}
{{- $sum }}
{{- end }}

{{- /* How long a pod may take to end: pre_drain and drain of the config, and a little. */ -}}
{{- define "fallgate.grace" -}}
{{- $timeouts := (include "fallgate.read" . | fromJson).timeouts | default dict }}
{{- $before := include "fallgate.seconds" ($timeouts.pre_drain | default "0s") }}
{{- $drain := include "fallgate.seconds" ($timeouts.drain | default "24h") }}
{{- add $before $drain .Values.extraGrace }}
{{- end }}

{{- /* The ports of the nodes, as JSON: {"ports": [{"name", "port", "protocol"}, ...]}. */ -}}
{{- define "fallgate.nodePorts" -}}
{{- $all := list }}
{{- $names := list }}
{{- range (include "fallgate.read" . | fromJson).upstreams }}
{{- $of := list }}
{{- range .nodes }}{{ $of = append $of .ports }}{{ end }}
{{- with .discovery }}{{ $of = append $of (.ports | default dict) }}{{ end }}
{{- range $of }}
{{- range $kind, $port := . }}
{{- $protocol := ternary "UDP" "TCP" (eq $kind "udp") }}
{{- $name := printf "%s-%d" $kind (int $port) }}
{{- $seen := printf "%s-%d" $protocol (int $port) }}
{{- if not (has $seen $names) }}
{{- $all = append $all (dict "name" (ternary $name $kind (has $kind $names)) "port" (int $port) "protocol" $protocol) }}
{{- $names = concat $names (list $kind $seen) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- dict "ports" $all | toJson }}
{{- end }}

{{- /* The ports of the Redis that replicas share, as JSON: {"ports": [...]}. */ -}}
{{- define "fallgate.redisPorts" -}}
{{- $state := (include "fallgate.read" . | fromJson).state }}
{{- $urls := list }}
{{- if kindIs "map" $state }}
{{- with $state.redis }}{{ $urls = ternary . (list .) (kindIs "slice" .) }}{{ end }}
{{- end }}
{{- $ports := list }}
{{- range $urls }}
{{- $ports = append $ports (regexFind ":[0-9]+$" (urlParse .).host | default ":6379" | trimPrefix ":" | int) }}
{{- end }}
{{- dict "ports" (uniq $ports) | toJson }}
{{- end }}
