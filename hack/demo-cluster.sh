#!/usr/bin/env bash
# Starts or stops the cluster demo: three servers and three nodes on this machine, each in a network namespace of its own and the
# nodes with a Docker Engine of their own; then one node dies while requests go on, and then the server that leads. Nothing of
# the machine's own engine, firewall or network is touched. Usage: hack/demo-cluster.sh start|stop
set -euo pipefail
cd "$(dirname "$0")/.."
demo=$PWD/.demo-cluster
mainstay=$PWD/bin/mainstay
run=/run/mainstay-demo          # short paths: a unix socket's may have 107 characters
net=10.98.0                     # .1 is this machine, .11 to .13 the nodes, .21 to .23 the servers
nodes="1 2 3"
servers="1 2 3"
all_servers=$net.21:7443,$net.22:7443,$net.23:7443
export MAINSTAY_KUBECONFIG=$demo/s1/kubeconfig

bold= plain=
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
on() { nsenter --net="/run/netns/msdemo-$1" "${@:2}"; }
engine() { docker -H "unix://$run/n$1.sock" "${@:2}"; }

# A switch in a namespace of its own, so that no rule of this machine's firewall sees the traffic, and one port for each host.
switch() {
	ip netns add msdemo-switch
	ip -n msdemo-switch link add br0 type bridge
	ip -n msdemo-switch link set br0 up
	ip link add msdemo type veth peer name up0 netns msdemo-switch
	ip -n msdemo-switch link set up0 master br0 up
	ip addr add $net.1/24 dev msdemo
	ip link set msdemo up
}

host() { # NAME LAST-PART-OF-ADDRESS
	ip netns add "msdemo-$1"
	ip link add "p-$1" netns msdemo-switch type veth peer name eth0 netns "msdemo-$1"
	ip -n msdemo-switch link set "p-$1" master br0 up
	ip -n "msdemo-$1" addr add "$net.$2/24" dev eth0
	ip -n "msdemo-$1" link set eth0 up
	ip -n "msdemo-$1" link set lo up
	ip -n "msdemo-$1" route add default via $net.1
}

start_engine() { # NUMBER
	local dir=$demo/n$1
	mkdir -p "$dir"
	echo '{}' >"$dir/daemon.json" # not this machine's own
	on "n$1" setsid dockerd --config-file "$dir/daemon.json" --data-root "$dir/engine" --exec-root "$run/n$1" -H "unix://$run/n$1.sock" \
		--pidfile "$run/n$1.pid" --bip "172.29.$1.1/24" --live-restore --containerd-namespace "msdemo-n$1" \
		--containerd-plugins-namespace "msdemo-n$1-plugins" >"$dir/engine.log" 2>&1 </dev/null &
}

await_engine() { # NUMBER
	for _ in $(seq 300); do
		engine "$1" version >/dev/null 2>&1 && return
		sleep 0.1
	done
	echo "error: the engine of node n$1 does not answer; its log is .demo-cluster/n$1/engine.log" >&2
	exit 1
}

# One static binary is the whole image, so no registry is needed.
image() { # VERSION
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$1" -o "$demo/hello" ./examples/hello
	for i in $nodes; do
		tar -C "$demo" -c hello | engine "$i" import --change 'ENTRYPOINT ["/hello"]' - "hello:$1" >/dev/null
	done
	rm "$demo/hello"
}

# The same shop as in examples/repo, with a port on every node, and a cluster that waits seconds, not minutes, for a lost node.
repository() {
	cp -r examples/repo "$demo/repo"
	sed -i '/^  selector: {app: web}/i\  type: NodePort' "$demo/repo/apps/web.yaml"
	sed -i 's/^  - {name: http, port: 80, targetPort: http}/  - {name: http, port: 80, targetPort: http, nodePort: 30080}/' "$demo/repo/apps/web.yaml"
	printf 'spec:\n  evictAfter: 10s\n' >>"$demo/repo/mainstay.yaml"
	git -C "$demo/repo" init -q -b main
	git -C "$demo/repo" config user.name "${USER:-you}"
	git -C "$demo/repo" config user.email "${USER:-you}@localhost"
	git -C "$demo/repo" add mainstay.yaml namespaces.yaml
	git -C "$demo/repo" commit -q -m "A cluster"
}

# The first server begins the cluster; the others join it.
start_server() { # NUMBER
	local how=(--repo "$demo/repo") token
	if [ "$1" != 1 ]; then
		token=$("$mainstay" token create --role server --once --ttl 10m --data-dir "$demo/s1")
		how=(--join "$net.21:7443" --token "$token")
	fi
	on "s$1" setsid "$mainstay" server "${how[@]}" --name "s$1" --data-dir "$demo/s$1" --listen "$net.2$1:7443" --advertise "$net.2$1:7443" \
		>"$demo/s$1.log" 2>&1 </dev/null &
	for _ in $(seq 600); do
		[ "$("$mainstay" server list --data-dir "$demo/s$1" 2>/dev/null | awk -v name="s$1" '$1 == name { print $3 }')" = Voter ] && return
		sleep 0.1
	done
	tail -5 "$demo/s$1.log" >&2
	echo "error: server s$1 is no member; its log is .demo-cluster/s$1.log" >&2
	exit 1
}

start_agent() { # NUMBER
	local token
	token=$("$mainstay" token create --role agent --once --ttl 10m --data-dir "$demo/s1")
	on "n$1" setsid "$mainstay" agent --server "$all_servers" --token "$token" --data-dir "$demo/n$1/agent" --docker-host "unix://$run/n$1.sock" \
		--node-name "n$1" >"$demo/n$1/agent.log" 2>&1 </dev/null &
}

# The processes of a host: what names it on its command line, and all their children, the containers among them.
processes() { # NAME
	local found more
	found=$(pgrep -f -- "msdemo-$1( |$)|$run/$1[./]|$demo/$1(/| |$)" | tr '\n' ' ')
	more=$found
	while [ -n "$more" ]; do
		more=$(pgrep -P "$(tr -s ' ' , <<<"$more" | sed 's/,$//')" | tr '\n' ' ') || true
		found+=$more
	done
	echo "$found"
}

await_nodes() {
	local ready
	for _ in $(seq 300); do
		ready=$("$mainstay" get nodes 2>/dev/null | grep -c ' Ready ') || true
		[ "$ready" = "$(wc -w <<<"$nodes")" ] && return
		sleep 0.1
	done
	"$mainstay" get nodes >&2 || true
	echo "error: not every node joined; their logs are .demo-cluster/n*/agent.log" >&2
	exit 1
}

# Everything on a host at once, as if its power was cut.
kill_host() { # NAME
	local pids
	ip -n "msdemo-$1" link set eth0 down 2>/dev/null || true
	for _ in $(seq 20); do
		pids=$(processes "$1")
		[ -n "${pids// /}" ] || return 0
		# shellcheck disable=SC2086 # many pids
		kill -9 $pids 2>/dev/null || true
		sleep 0.1
	done
}

ask() { curl -s -o /dev/null -m 2 "http://$net.12:30080/"; }

# Asks for the page ten times a second, through a node that lives, and counts.
probe() {
	local ok=0 failed=0
	trap 'echo "$ok $failed" >"$demo/probe"; exit' TERM
	while :; do
		if ask; then ok=$((ok + 1)); else failed=$((failed + 1)); fi
		sleep 0.1
	done
}

start() {
	[ ! -e "$demo" ] || { echo "error: the demo is there already: make demo-cluster-stop removes it" >&2; exit 1; }
	hack/prerequisites.sh demo-cluster
	mkdir -p "$demo" "$run"
	say "Making three servers and three nodes: network namespaces on one switch, a Docker Engine on each node"
	switch
	for i in $servers; do host "s$i" $((20 + i)); done
	for i in $nodes; do
		host "n$i" $((10 + i))
		start_engine "$i"
	done
	for i in $nodes; do await_engine "$i"; done
	image 1.0
	image 2.0
	repository
	say "mainstay server --repo .demo-cluster/repo --listen $net.21:7443"
	start_server 1
	say "mainstay token create --role server --once; mainstay server --join $net.21:7443 --token …   (twice)"
	start_server 2
	start_server 3
	"$mainstay" server list --data-dir "$demo/s1"
	say "mainstay token create --role agent --once; mainstay agent --server $all_servers --token …   (three times)"
	for i in $nodes; do start_agent "$i"; done
	await_nodes
	say "git commit: the shop, three web servers and what they need"
	git -C "$demo/repo" add -A
	git -C "$demo/repo" commit -q -m "The shop"
	"$mainstay" wait --commit "$(git -C "$demo/repo" rev-parse HEAD)" --timeout 3m
	"$mainstay" get nodes -o wide
	"$mainstay" get pods -A -o wide
	say "Every node answers for the Service, wherever its Pods are: curl http://$net.12:30080/"
	for _ in 1 2 3; do curl -s -m 2 "http://$net.12:30080/"; done
	lose
	behead
	next
}

lose() {
	say "Now node n3 dies: no power, no network. Requests go on, ten a second, through n2"
	probe &
	local prober=$! begun=$SECONDS
	sleep 2
	kill_host n3
	while grep -q ' n3 ' <<<"$("$mainstay" get pods -A -o wide)" || ! "$mainstay" status >/dev/null; do
		[ $((SECONDS - begun)) -lt 120 ] || { "$mainstay" status || true; echo "error: the Pods of n3 were not replaced within two minutes" >&2; exit 1; }
		printf '%4ss  %s\n' $((SECONDS - begun)) "$("$mainstay" get nodes 2>/dev/null | awk 'NR > 1 { printf "%s %s   ", $1, $2 }')"
		sleep 4
	done
	kill "$prober"
	wait "$prober" 2>/dev/null || true
	read -r ok failed <"$demo/probe"
	"$mainstay" get nodes
	"$mainstay" get pods -A -o wide
	say "$((ok + failed)) requests while the node died: $ok answered, $failed not"
}

# Kills the server that leads, and has the others take a commit.
behead() {
	local leader left
	leader=$("$mainstay" server list --data-dir "$demo/s1" | awk '$4 == "yes" { print $1 }')
	say "Now server $leader dies, which leads; and at once a commit wants four web servers"
	kill_host "$leader"
	sed -i 's/^  replicas: 3/  replicas: 4/' "$demo/repo/apps/web.yaml"
	git -C "$demo/repo" commit -qam "Four web servers"
	"$mainstay" wait --commit "$(git -C "$demo/repo" rev-parse HEAD)" --timeout 3m
	left=s1
	[ "$leader" != s1 ] || left=s2
	export MAINSTAY_KUBECONFIG=$demo/$left/kubeconfig
	"$mainstay" server list --data-dir "$demo/$left"
	"$mainstay" status
}

next() {
	cat <<-NEXT

		Look around, and change something:

		  export MAINSTAY_KUBECONFIG=$MAINSTAY_KUBECONFIG KUBECONFIG=$MAINSTAY_KUBECONFIG PATH=\$PATH:$PWD/bin
		  mainstay status
		  mainstay events
		  sed -i s/hello:1.0/hello:2.0/ .demo-cluster/repo/apps/web.yaml
		  mainstay plan .demo-cluster/repo
		  git -C .demo-cluster/repo commit -am 'web 2.0'
		  mainstay wait --commit \$(git -C .demo-cluster/repo rev-parse HEAD)

		When you have seen enough: make demo-cluster-stop
	NEXT
}

stop() {
	if [ ! -e "$demo" ] && [ ! -e "$run" ]; then
		say "No cluster demo runs here"
		return
	fi
	say "Removing the hosts of the cluster demo"
	for h in s1 s2 s3 n1 n2 n3; do kill_host "$h"; done
	for m in $(awk -v d="$demo/" -v r="$run/" 'index($2, d) == 1 || index($2, r) == 1 { print $2 }' /proc/mounts | sort -r); do umount -l "$m" || true; done
	for h in s1 s2 s3 n1 n2 n3 switch; do ip netns del "msdemo-$h" 2>/dev/null || true; done
	ip link del msdemo 2>/dev/null || true
	for id in "$demo"/n?/engine/containers/*; do
		[ ! -d "$id" ] || rmdir /sys/fs/cgroup/*/docker/"${id##*/}" /sys/fs/cgroup/docker/"${id##*/}" 2>/dev/null || true
	done
	rm -rf "$demo" "$run"
	say "Nothing of the cluster demo is left"
}

case ${1:-} in
start | stop) "$1" ;;
*) echo "usage: hack/demo-cluster.sh start|stop" >&2; exit 2 ;;
esac
