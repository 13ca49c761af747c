#!/usr/bin/env bash
# Runs every benchmark and says on what machine: those that start containers three rounds each, the others a second each.
# With an argument, only those whose names match it: hack/bench.sh FiftyReplicas
set -euo pipefail
cd "$(dirname "$0")/.."
which=${1:-.}
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -trimpath"

echo "# $(date -u +%F) commit $(git rev-parse --short HEAD 2>/dev/null || echo none), $(go version | cut -d' ' -f3-)"
echo "# $(nproc) cores of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), Linux $(uname -r)"
echo "# $(dockerd --version), load $(cut -d' ' -f1-3 /proc/loadavg)"

mapfile -t packages < <(grep -rl --include='*_test.go' '^func Benchmark' . | xargs -n1 dirname | sort -u)
fast=() slow=()
for package in "${packages[@]}"; do
	case $package in
	./e2e | ./node | ./node/docker) slow+=("$package") ;;
	*) fast+=("$package") ;;
	esac
done
go test -run '^$' -bench "$which" -timeout 30m "${fast[@]}"
go test -tags docker -run '^$' -bench "$which" -benchtime 3x -timeout 30m "${slow[@]}"
