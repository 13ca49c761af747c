#!/usr/bin/env bash
# Starts or stops the demo: Mainstay on this machine's Docker Engine, following a Git copy of examples/repo in .demo/repo.
set -euo pipefail
cd "$(dirname "$0")/.."
demo=$PWD/.demo
mainstay=$PWD/bin/mainstay
export MAINSTAY_KUBECONFIG=$demo/data/kubeconfig

bold= plain=
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# The lock holds the process that uses the data directory, whoever started it.
process() { cat "$demo/data/lock" 2>/dev/null; }
running() {
	local pid
	pid=$(process)
	[ -n "$pid" ] && [ "$(readlink "/proc/$pid/exe")" = "$mainstay" ]
}

# One static binary is the whole image: no registry, no base.
image() {
	docker image inspect "hello:$1" >/dev/null 2>&1 && return
	say "Building the image hello:$1 from examples/hello"
	dir=$(mktemp -d)
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$1" -o "$dir/hello" ./examples/hello
	tar -C "$dir" -c hello | docker import --change 'ENTRYPOINT ["/hello"]' - "hello:$1" >/dev/null
	rm -r "$dir"
}

repository() {
	[ -d "$demo/repo/.git" ] && return
	say "Making a Git copy of examples/repo in .demo/repo"
	mkdir -p "$demo"
	cp -r examples/repo "$demo/repo"
	git -C "$demo/repo" init -q -b main
	git -C "$demo/repo" config user.name "${USER:-you}"
	git -C "$demo/repo" config user.email "${USER:-you}@localhost"
	git -C "$demo/repo" add -A
	git -C "$demo/repo" commit -q -m "The shop: web, orders and payment"
}

up() {
	if running; then
		say "Mainstay runs already (process $(process))"
		return
	fi
	say "Starting: mainstay up --repo .demo/repo --data-dir .demo/data   (log: .demo/mainstay.log)"
	setsid "$mainstay" up --repo "$demo/repo" --data-dir "$demo/data" >"$demo/mainstay.log" 2>&1 </dev/null &
	local started=$!
	for _ in $(seq 600); do
		kill -0 "$started" 2>/dev/null || { cat "$demo/mainstay.log" >&2; exit 1; }
		running && "$mainstay" version 2>/dev/null | grep -q Server && return
		sleep 0.1
	done
	tail -5 "$demo/mainstay.log"
	echo "error: Mainstay did not answer within a minute; its log is .demo/mainstay.log" >&2
	exit 1
}

start() {
	hack/prerequisites.sh demo
	image 1.0
	image 2.0
	repository
	up
	"$mainstay" wait --commit "$(git -C "$demo/repo" rev-parse HEAD)" --timeout 3m
	say "The Pods that are running"
	"$mainstay" get pods -A -o wide
	say "The revision that put them there"
	"$mainstay" history
	local ip
	ip=$("$mainstay" get pods -n shop -l app=web -o json | sed -n 's/.*"podIP": "\([0-9.]*\)".*/\1/p' | head -1)
	local from=1.0 to=2.0
	grep -q hello:1.0 "$demo/repo/apps/web.yaml" || { from=2.0 to=1.0; }
	cat <<-NEXT

		Every Pod answers on its own address:      curl http://$ip:8080
		Now change something, and watch it roll:

		  export MAINSTAY_KUBECONFIG=$demo/data/kubeconfig KUBECONFIG=$demo/data/kubeconfig PATH=\$PATH:$PWD/bin
		  sed -i s/hello:$from/hello:$to/ .demo/repo/apps/web.yaml
		  mainstay plan .demo/repo                 # what would happen, before anything does
		  git -C .demo/repo commit -am 'web $to'
		  mainstay wait --commit \$(git -C .demo/repo rev-parse HEAD)
		  mainstay status
		  kubectl get pods -n shop -w              # kubectl reads, too; Ctrl-C ends it

		When you have seen enough: make demo-stop
	NEXT
}

stop() {
	if [ ! -d "$demo" ]; then
		say "No demo runs here"
		return
	fi
	if running; then
		say "Stopping Mainstay"
		kill "$(process)"
		for _ in $(seq 100); do
			running || break
			sleep 0.1
		done
	fi
	say "Removing the containers and networks it made"
	"$mainstay" up --cleanup --repo "$demo/repo" --data-dir "$demo/data"
	rm -rf "$demo"
	docker image rm hello:1.0 hello:2.0 >/dev/null 2>&1 || true
	say "Nothing of the demo is left"
}

case ${1:-} in
start | stop) "$1" ;;
*) echo "usage: hack/demo.sh start|stop" >&2; exit 2 ;;
esac
