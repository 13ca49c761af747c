#!/usr/bin/env bash
# Runs every fuzz target for a while. Usage: hack/fuzz.sh 60s
set -euo pipefail
cd "$(dirname "$0")/.."
git grep -l '^func Fuzz' -- '*_test.go' | while read -r file; do
	grep -o '^func Fuzz[A-Za-z0-9_]*' "$file" | cut -c6- | while read -r target; do
		echo "== $target in ./$(dirname "$file") for $1"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "./$(dirname "$file")"
	done
done
