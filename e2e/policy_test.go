package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// locks are policies of two namespaces. The egress of all Pods of one and the ingress of all of the other is denied but for what is named.
const locks = `apiVersion: v1
kind: Namespace
metadata: {name: locked}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-egress, namespace: locked}
spec: {podSelector: {}, policyTypes: [Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-dns, namespace: locked}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}]
    ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
---
apiVersion: v1
kind: Namespace
metadata: {name: guarded}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-ingress, namespace: guarded}
spec: {podSelector: {}, policyTypes: [Ingress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-some, namespace: guarded}
spec:
  podSelector: {matchLabels: {app: open}}
  policyTypes: [Ingress]
  ingress:
  - from: [{ipBlock: {cidr: 10.0.0.0/8, except: [%s]}}]
    ports: [{protocol: TCP, port: 9000, endPort: 9005}]
`

// servingPod serves at three ports, and has a name.
func servingPod(name, node string) string {
	var containers strings.Builder
	for _, port := range []int{9000, 9005, 9010} {
		fmt.Fprintf(&containers, "  - {name: at-%[1]d, image: \"probe:1.0\", args: [\":%[1]d\"]}\n", port)
	}
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: guarded, labels: {app: %[1]s}}
spec:
  nodeName: %[2]s
  containers:
%[3]s---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: guarded}
spec: {clusterIP: None, selector: {app: %[1]s}, ports: [{port: 9000}]}
`, name, node, containers.String())
}

// locked checks what NetworkPolicies let through between hosts: with every egress denied but names, a Pod learns addresses and
// reaches none; and with every ingress denied, a Pod is reached by whom and where another policy says.
func (f *fleet) locked(t *testing.T) {
	n1, n2, n3 := f.nodes[0], f.nodes[1], f.nodes[2]
	web, open, far, closed, shut := "http://web.default/", "http://open.guarded:9000/", "http://open.guarded:9005/", "http://open.guarded:9010/", "http://shut.guarded:9000/"
	all := []string{web, open, far, closed, shut}
	f.converge(t, f.commit(t, "policies", map[string]string{"policies.yaml": fmt.Sprintf(locks, f.podRange(t, n1)) +
		servingPod("open", n3.name) + servingPod("shut", n3.name) +
		strings.Replace(probePod("inmate", "nodeName: n3", "9020", all), "{name: inmate,", "{name: inmate, namespace: locked,", 1) +
		probePod("excepted", "nodeName: n1", "9021", all) + probePod("let-in", "nodeName: n2", "9022", all)}))
	for _, tc := range []struct {
		who     string
		at      prober
		reaches []string
	}{
		{"a Pod that may only ask for names", prober{at: n3.host.IP.String() + ":9020"}, nil},
		{"a Pod of the excepted node", prober{at: n1.host.IP.String() + ":9021"}, []string{web}},
		{"a Pod of another node", prober{at: n2.host.IP.String() + ":9022"}, []string{web, open, far}},
	} {
		f.reachesOnly(t, tc.who, tc.at, all, tc.reaches)
	}
	f.converge(t, f.commit(t, "no policies", map[string]string{"policies.yaml": ""}))
	f.eventually(t, "what policies were about is gone", func() error {
		if n := len(f.everywhere(t, f.nodes...)); n != shopPods*2 {
			return fmt.Errorf("%d containers", n)
		}
		return nil
	})
}

// podRange is a node's range of Pod addresses.
func (f *fleet) podRange(t *testing.T, m *member) string {
	t.Helper()
	var node struct{ Spec struct{ PodCIDR string } }
	if err := json.Unmarshal([]byte(f.mainstay(t, "get", "node", m.name, "-o", "json")), &node); err != nil || node.Spec.PodCIDR == "" {
		t.Fatalf("the range of %s: %q, %v", m.name, node.Spec.PodCIDR, err)
	}
	return node.Spec.PodCIDR
}

// reachesOnly waits until, of many requests for each of all URLs, all for those of reaches are answered and none for the others: these
// end in silence, at an address, which was found.
func (f *fleet) reachesOnly(t *testing.T, who string, p prober, all, reaches []string) {
	t.Helper()
	const many = 30
	want := map[string]string{}
	for _, url := range all {
		want[url] = "silence"
	}
	for _, url := range reaches {
		want[url] = "answers"
	}
	before := p.look(t)
	f.eventually(t, who, func() error {
		after, got := p.look(t), map[string]string{}
		for _, url := range all {
			got[url] = verdict(before[url], after[url], many)
		}
		diff := cmp.Diff(want, got)
		if diff == "" {
			return nil
		}
		for _, said := range got {
			if strings.HasPrefix(said, "both") { // of before the policies were known: count anew
				before = after
			}
		}
		return fmt.Errorf("-want +got:\n%s", diff)
	})
}

// verdict says what came of at least so many requests.
func verdict(before, after tally, many int) string {
	answered, failed := after.OK-before.OK, after.Failed-before.Failed
	_, dialled, dialling := strings.Cut(after.Error, "dial tcp ")
	switch {
	case answered > 0 && failed > 0:
		return fmt.Sprintf("both: %d answers and %d failures, the last: %s", answered, failed, after.Error)
	case answered >= many:
		return "answers"
	case failed < many:
		return "too few requests"
	case dialling && !strings.HasPrefix(dialled, "lookup") && strings.HasSuffix(after.Error, "i/o timeout"):
		return "silence"
	}
	return after.Error
}
