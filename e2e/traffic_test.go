package e2e

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// programmed is how long nodes may take to do as a commit says once it is active.
const programmed = time.Second

// probePod is a Pod of the probe's image that asks for URLs and says at a port of its node, too, what came of it.
func probePod(name, spec, port string, urls []string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  %[2]s
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: probe:1.0
    args: ["%[4]s"]
    ports: [{name: http, containerPort: %[3]s, hostPort: %[3]s}]
    readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}
`, name, spec, port, strings.Join(append([]string{":" + port}, urls...), `", "`))
}

// ways lead to Pods and matter by who asks, or who is asked: URLs, and what is special about each.
func (f *fleet) ways() (fromPod, fromHost map[string]string) {
	n1, n2, n3 := f.nodes[0], f.nodes[1], f.nodes[2]
	fromPod = map[string]string{
		"http://self.default/": "its own Service",
		"http://host/":         "a Service of a Pod on a host's network",
		"http://one.parts.default.svc.cluster.local:9012/": "a Pod by its hostname",
		"http://parts:9012/":                       "a headless Service",
		"http://alias/":                            "another name of a Service",
		"http://" + n3.host.IP.String() + ":9012/": "another node's host port",
		"http://" + n1.host.IP.String() + ":9010/": "its own node's host port",
		n3.url(): "another node's node port",
	}
	fromHost = map[string]string{
		"http://" + webAddress + "/":                       "a cluster address",
		"http://web.default/":                              "a Service's name",
		"http://host/":                                     "its own Service",
		"http://one.parts.default.svc.cluster.local:9012/": "a Pod by its hostname",
		"http://" + n1.host.IP.String() + ":9010/":         "another node's host port",
		n2.url(): "its own node's node port",
	}
	return fromPod, fromHost
}

// waysServices are the Services that ways need besides those of the Pods that ask.
const waysServices = `---
apiVersion: v1
kind: Service
metadata: {name: parts}
spec: {clusterIP: None, selector: {app: one}, ports: [{port: 9012}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
`

// waysToPods tries every way all the time for a while.
func (f *fleet) waysToPods(t *testing.T) {
	fromPod, fromHost := f.ways()
	defer func() { f.converge(t, f.commit(t, "no more ways", map[string]string{"ways.yaml": ""})) }()
	f.converge(t, f.commit(t, "ways", map[string]string{"ways.yaml": waysServices +
		probePod("self", "nodeName: n1", "9010", slices.Collect(maps.Keys(fromPod))) + service("self", "ClusterIP", "", "") +
		probePod("host", "nodeName: n2\n  hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet", "9011", slices.Collect(maps.Keys(fromHost))) + service("host", "ClusterIP", "", "") +
		probePod("one", "nodeName: n3\n  hostname: one\n  subdomain: parts", "9012", nil)}))
	for _, from := range []struct {
		who, at string
		ways    map[string]string
	}{{"a Pod", f.nodes[0].host.IP.String() + ":9010", fromPod}, {"a host", f.nodes[1].host.IP.String() + ":9011", fromHost}} {
		p := prober{at: from.at}
		before := p.steady(t, patience)
		time.Sleep(time.Second) // of requests
		after := p.look(t)
		for url, way := range from.ways {
			if after[url].OK == before[url].OK || after[url].Failed > before[url].Failed {
				t.Errorf("from %s to %s, %s: %d answered, %d failed: %s", from.who, way, url, after[url].OK-before[url].OK, after[url].Failed-before[url].Failed, after[url].Error)
			}
		}
	}
}

// walls are what stands between Pods, by commit.
const (
	shut = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut, namespace: walled}
spec: {podSelector: {}, policyTypes: [Ingress]}
`
	door = `---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: door, namespace: walled}
spec:
  podSelector: {matchLabels: {app: vault}}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}, podSelector: {matchLabels: {app: visitor}}}]
    ports: [{port: http}]
`
)

// vault is a Deployment and its Service in a namespace of their own, on the third node.
func vault() string {
	manifest := strings.Replace(deployment("vault", "hello:1.0", 1), "    spec:\n", "    spec:\n      nodeName: n3\n", 1) + service("vault", "ClusterIP", "", "")
	inside := strings.NewReplacer("  name: vault\n", "  name: vault\n  namespace: walled\n", "{name: vault}", "{name: vault, namespace: walled}")
	return "apiVersion: v1\nkind: Namespace\nmetadata: {name: walled}\n---\n" + inside.Replace(manifest)
}

// walled shuts a namespace to a Pod on another node, and opens it to that one again.
func (f *fleet) walled(t *testing.T) {
	const url = "http://vault.walled/"
	f.converge(t, f.commit(t, "a vault", map[string]string{"vault.yaml": vault(), "visitor.yaml": probePod("visitor", "nodeName: n1", "9013", []string{url})}))
	visitor := prober{at: f.nodes[0].host.IP.String() + ":9013"}
	visitor.steady(t, patience)

	f.converge(t, f.commit(t, "shut", map[string]string{"walls.yaml": shut}))
	f.reachesOnly(t, "a visitor of a vault that is shut", visitor, []string{url}, nil)
	f.converge(t, f.commit(t, "a door", map[string]string{"walls.yaml": shut + door}))
	f.reachesOnly(t, "a visitor of a vault with a door", visitor, []string{url}, []string{url})
	f.converge(t, f.commit(t, "no vault", map[string]string{"vault.yaml": "", "visitor.yaml": "", "walls.yaml": ""}))
	f.eventually(t, "the vault is gone", func() error {
		for name := range f.nodes[2].containers(t) {
			if strings.Contains(name, "_vault-") {
				return errors.New(name)
			}
		}
		return nil
	})
}
