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
{{- with regexFind "[\"']<[a-z][^<>\"']*>[\"']" (include "fallgate.config" .) }}{{ fail (printf "config: %s is left to be filled in" .) }}{{ end }}
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
{{- $names := list }}
{{- range (include "fallgate.read" . | fromJson).listeners }}
{{- $protocol := ternary "UDP" "TCP" (eq .protocol "udp") }}
{{- $name := regexReplaceAll "[_-]+" .name "-" | trimSuffix "-" }}
{{- if has $name $names }}{{ fail (printf "config: listeners[%s].name: a Service calls another one %q too" .name $name) }}{{ end }}
{{- $names = append $names $name }}
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

{{- /* The ports of the nodes, of data as many as a listener of the upstream has, as JSON: {"ports": [{"name", "port", "protocol"}, ...]}. */ -}}
{{- define "fallgate.nodePorts" -}}
{{- $all := list }}
{{- $names := list }}
{{- $config := include "fallgate.read" . | fromJson }}
{{- range $config.upstreams }}
{{- $upstream := .name }}
{{- $count := 1 }}
{{- range $config.listeners }}
{{- if and (eq .protocol "udp") (eq (toString .upstream) $upstream) }}
{{- $count = max $count (len (include "fallgate.portsOf" (dict "of" (printf "listeners[%s].address" .name) "address" .address) | fromJson).ports) }}
{{- end }}
{{- end }}
{{- $of := list }}
{{- range .nodes }}{{ $of = append $of .ports }}{{ end }}
{{- with .discovery }}{{ $of = append $of (.ports | default dict) }}{{ end }}
{{- range $of }}
{{- range $kind, $first := . }}
{{- $protocol := ternary "UDP" "TCP" (eq $kind "udp") }}
{{- range $port := untilStep (int $first) (int (add $first (ternary $count 1 (eq $kind "udp")))) 1 }}
{{- $name := printf "%s-%d" $kind (int $port) }}
{{- $seen := printf "%s-%d" $protocol (int $port) }}
{{- if not (has $seen $names) }}
{{- $all = append $all (dict "name" (ternary $name $kind (has $kind $names)) "port" (int $port) "protocol" $protocol) }}
{{- $names = concat $names (list $kind $seen) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- dict "ports" $all | toJson }}
{{- end }}

{{- /* Fails where the config has nodes on a port that nobody knows here, or a file of which no secret is mounted. */ -}}
{{- define "fallgate.complete" -}}
{{- $values := .Values }}
{{- range (include "fallgate.read" . | fromJson).upstreams }}
{{- $told := default (.scheme | default "http") (.discovery | default dict).srv_port }}
{{- with .discovery }}
{{- $kind := .type | default "auto" }}
{{- $is_srv := or (eq $kind "srv") (and (eq $kind "auto") (hasPrefix "_" (toString .dns))) }}
{{- if and $is_srv (not (hasKey (.ports | default dict) $told)) $values.networkPolicy.enabled (not $values.networkPolicy.egress) }}
{{- fail (printf "config: discovery of %s: its SRV records alone tell the port of %s, which the NetworkPolicy must let out to: give it in discovery.ports, or a rule in networkPolicy.egress" .dns $told) }}
{{- end }}
{{- end }}
{{- end }}
{{- range regexFindAll "/etc/fallgate/[a-z0-9-]+/" (regexReplaceAll "(?m)(^|\\s)#.*$" (include "fallgate.config" .) "") -1 }}
{{- $folder := . | trimPrefix "/etc/fallgate/" | trimSuffix "/" }}
{{- if not (or (eq $folder "config") (and (eq $folder "tls") $values.tls.secretName) (hasKey $values.secrets $folder)) }}
{{- fail (printf "config: nothing is mounted at %s: give %s" . (ternary "tls.secretName" (printf "secrets.%s" $folder) (eq $folder "tls"))) }}
{{- end }}
{{- end }}
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
