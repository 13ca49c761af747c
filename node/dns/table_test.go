package dns

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// put puts a Service with its slices into a network and returns its key.
func put(n *link.Network, svc *corev1.Service, slices ...*discoveryv1.EndpointSlice) types.NamespacedName {
	key := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
	n.Services[key] = svc
	n.Slices[key] = map[string]*discoveryv1.EndpointSlice{}
	for _, s := range slices {
		n.Slices[key][s.Name] = s
	}
	return key
}

func serviceOf(namespace, name, ip string, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: ports},
	}
}

func external(name, target string) *corev1.Service {
	svc := serviceOf("default", name, "")
	svc.Spec.Type, svc.Spec.ExternalName = corev1.ServiceTypeExternalName, target
	return svc
}

func slice(name string, ports []discoveryv1.EndpointPort, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: name}, Ports: ports, Endpoints: endpoints}
}

func endpoint(address, hostname string) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}}
	if hostname != "" {
		e.Hostname = &hostname
	}
	return e
}

func notReady(e discoveryv1.Endpoint) discoveryv1.Endpoint {
	e.Conditions.Ready = ptr.To(false)
	return e
}

// example is a network with something of everything.
func example() *link.Network {
	n := link.NewNetwork()
	n.Ranges.Services = "10.96.0.0/16"
	n.Peers["a"] = link.Peer{Name: "a", PodCIDR: "10.244.0.0/24"}
	n.Peers["b"] = link.Peer{Name: "b", PodCIDR: "10.244.1.0/24"}
	n.Peers["new"] = link.Peer{Name: "new"}
	put(n, serviceOf("default", "kubernetes", "10.96.0.1", corev1.ServicePort{Name: "https", Port: 443}))
	put(n, serviceOf("shop", "web", "10.96.0.2", corev1.ServicePort{Port: 80},
		corev1.ServicePort{Name: "Dns", Port: 53, Protocol: corev1.ProtocolUDP}, corev1.ServicePort{Name: "dns", Port: 53}))
	http := []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To(int32(8080))}, {Name: ptr.To(""), Port: ptr.To(int32(1))}}
	put(n, serviceOf("shop", "db", corev1.ClusterIPNone),
		slice("db-1", http, endpoint("10.244.0.5", "db-0"), endpoint("10.244.1.5", ""), notReady(endpoint("10.244.1.6", "db-2"))),
		slice("db-2", http, endpoint("10.244.0.5", "db-0"), endpoint("10.244.1.7", "db-0")))
	early := serviceOf("shop", "early", corev1.ClusterIPNone)
	early.Spec.PublishNotReadyAddresses = true
	put(n, early, slice("early-1", nil, notReady(endpoint("10.244.1.6", "db-2"))))
	put(n, serviceOf("shop", "nobody", corev1.ClusterIPNone), slice("nobody-1", http, notReady(endpoint("10.244.1.8", "n"))))
	put(n, external("out", "www.Example.com"))
	put(n, external("in", "web.shop.svc.cluster.local"))
	put(n, external("round", "round.default.svc.cluster.local."))
	put(n, external("lost", "nobody.shop.svc.cluster.local"))
	return n
}

func tableOf(n *link.Network) *table {
	t := newTable()
	t.update(n, link.NetworkChange{Whole: true})
	return t
}

// text writes an answer's records in an order of their own, without TTLs and classes.
func text(rrs []dns.RR) (lines []string) {
	for _, rr := range rrs {
		fields := strings.Fields(rr.String())
		lines = append(lines, fields[0]+" "+strings.Join(fields[3:], " "))
	}
	slices.Sort(lines)
	return lines
}

func TestNamesAreKubernetes(t *testing.T) {
	table := tableOf(example())
	for question, want := range map[string][]string{
		"A kubernetes.default.svc.cluster.local.":               {"kubernetes.default.svc.cluster.local. A 10.96.0.1"},
		"A WEB.shop.SVC.Cluster.local.":                         {"WEB.shop.SVC.Cluster.local. A 10.96.0.2"},
		"AAAA web.shop.svc.cluster.local.":                      nil,
		"TXT web.shop.svc.cluster.local.":                       nil,
		"SRV _https._tcp.kubernetes.default.svc.cluster.local.": {"_https._tcp.kubernetes.default.svc.cluster.local. SRV 0 100 443 kubernetes.default.svc.cluster.local."},
		"SRV _dns._udp.web.shop.svc.cluster.local.":             {"_dns._udp.web.shop.svc.cluster.local. SRV 0 100 53 web.shop.svc.cluster.local."},
		"A _dns._udp.web.shop.svc.cluster.local.":               nil,
		"SRV _udp.web.shop.svc.cluster.local.":                  nil,
		"PTR 1.0.96.10.in-addr.arpa.":                           {"1.0.96.10.in-addr.arpa. PTR kubernetes.default.svc.cluster.local."},
		"A db.shop.svc.cluster.local.": {
			"db.shop.svc.cluster.local. A 10.244.0.5", "db.shop.svc.cluster.local. A 10.244.1.5", "db.shop.svc.cluster.local. A 10.244.1.7"},
		"A db-0.db.shop.svc.cluster.local.":       {"db-0.db.shop.svc.cluster.local. A 10.244.0.5", "db-0.db.shop.svc.cluster.local. A 10.244.1.7"},
		"A 10-244-1-5.db.shop.svc.cluster.local.": {"10-244-1-5.db.shop.svc.cluster.local. A 10.244.1.5"},
		"A db-2.early.shop.svc.cluster.local.":    {"db-2.early.shop.svc.cluster.local. A 10.244.1.6"},
		"SRV _http._tcp.db.shop.svc.cluster.local.": {
			"_http._tcp.db.shop.svc.cluster.local. SRV 0 100 8080 10-244-1-5.db.shop.svc.cluster.local.",
			"_http._tcp.db.shop.svc.cluster.local. SRV 0 100 8080 db-0.db.shop.svc.cluster.local."},
		"PTR 5.0.244.10.in-addr.arpa.":         {"5.0.244.10.in-addr.arpa. PTR db-0.db.shop.svc.cluster.local."},
		"PTR 5.1.244.10.in-addr.arpa.":         {"5.1.244.10.in-addr.arpa. PTR 10-244-1-5.db.shop.svc.cluster.local."},
		"CNAME out.default.svc.cluster.local.": {"out.default.svc.cluster.local. CNAME www.example.com."},
		"A in.default.svc.cluster.local.":      {"in.default.svc.cluster.local. CNAME web.shop.svc.cluster.local.", "web.shop.svc.cluster.local. A 10.96.0.2"},
		"TXT dns-version.cluster.local.":       {`dns-version.cluster.local. TXT "1.1.0"`},
		"A 10-244-1-9.shop.pod.cluster.local.": {"10-244-1-9.shop.pod.cluster.local. A 10.244.1.9"},
		"A shop.svc.cluster.local.":            nil,
		"A shop.pod.cluster.local.":            nil,
		"A svc.cluster.local.":                 nil,
		"SOA cluster.local.":                   {"cluster.local. SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"},
	} {
		a := ask(t, table, question)
		if diff := cmp.Diff(want, text(a.records)); diff != "" || a.rcode != dns.RcodeSuccess || a.alias != "" {
			t.Errorf("%s: %s %q -want +got:\n%s", question, dns.RcodeToString[a.rcode], a.alias, diff)
		}
		if soa := len(a.authority) == 1; soa != (want == nil) {
			t.Errorf("%s: authority %v", question, a.authority)
		}
	}
}

func ask(t *testing.T, table *table, question string) answer {
	t.Helper()
	kind, name, _ := strings.Cut(question, " ")
	if !table.holds(dns.CanonicalName(name)) {
		t.Fatalf("%s is not held", name)
	}
	return table.answer(dns.Question{Name: name, Qtype: dns.StringToType[kind], Qclass: dns.ClassINET})
}

func TestNamesThatDoNotExist(t *testing.T) {
	table := tableOf(example())
	for name, authority := range map[string]string{
		"absent.shop.svc.cluster.local.":             "cluster.local.",
		"absent.default.":                            "",
		"x.cluster.local.":                           "cluster.local.",
		"nowhere.svc.cluster.local.":                 "cluster.local.",
		"sho.svc.cluster.local.":                     "cluster.local.",
		"x.web.shop.svc.cluster.local.":              "cluster.local.",
		"_http._tcp.web.shop.svc.cluster.local.":     "cluster.local.",
		"_sctp.web.shop.svc.cluster.local.":          "cluster.local.",
		"x._dns._udp.web.shop.svc.cluster.local.":    "cluster.local.",
		"nobody.shop.svc.cluster.local.":             "cluster.local.",
		"db-2.db.shop.svc.cluster.local.":            "cluster.local.",
		"192-0-2-1.shop.pod.cluster.local.":          "cluster.local.",
		"x.10-244-1-9.shop.pod.cluster.local.":       "cluster.local.",
		"www.example.com.default.svc.cluster.local.": "cluster.local.",
		"lost.default.svc.cluster.local.":            "cluster.local.",
		"9.1.244.10.in-addr.arpa.":                   "1.244.10.in-addr.arpa.",
		"9.0.96.10.in-addr.arpa.":                    "96.10.in-addr.arpa.",
		`sho\.p.svc.cluster.local.`:                  "cluster.local.",
		`web/shop.svc.cluster.local.`:                "cluster.local.",
	} {
		if authority == "" {
			if table.holds(name) {
				t.Errorf("%s is held", name)
			}
			continue
		}
		a := ask(t, table, "A "+name)
		if a.rcode != dns.RcodeNameError || len(a.authority) != 1 || a.authority[0].Header().Name != authority {
			t.Errorf("%s: %s %v, authority %v", name, dns.RcodeToString[a.rcode], a.records, a.authority)
		}
	}
}

func TestOthersNamesAreNotHeld(t *testing.T) {
	table := tableOf(example())
	for _, name := range []string{
		".", "local.", "example.com.", "notcluster.local.", "7.2.244.10.in-addr.arpa.", "9.0.97.10.in-addr.arpa.", "244.10.in-addr.arpa.",
	} {
		if table.holds(name) {
			t.Errorf("%s is held", name)
		}
	}
	if a := ask(t, table, "A out.default.svc.cluster.local."); a.alias != "www.example.com." || len(a.records) != 1 {
		t.Errorf("an outside name is left to others as %+v", a)
	}
	if a := ask(t, table, "A round.default.svc.cluster.local."); a.rcode != dns.RcodeServerFailure {
		t.Errorf("a name that stands for itself: %+v", a)
	}
}
