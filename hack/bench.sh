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
	# What has nothing to run need not be built.
	grep -hoE '^func Benchmark[A-Za-z0-9_]*' "$package"/*_test.go | cut -d' ' -f2 | grep -qE -- "${which%%/*}" || continue
	case $package in
	./e2e | ./node | ./node/docker) slow+=("$package") ;;
	*) fast+=("$package") ;;
	esac
done
if [ ${#fast[@]} -eq 0 ] && [ ${#slow[@]} -eq 0 ]; then
	echo "no benchmark is called $which" >&2
	exit 1
fi
[ ${#fast[@]} -eq 0 ] || go test -run '^$' -bench "$which" -timeout 30m "${fast[@]}"
[ ${#slow[@]} -eq 0 ] || go test -tags docker -run '^$' -bench "$which" -benchtime 3x -timeout 30m "${slow[@]}"
