package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// shown is one line for each route: frontend, source, endpoints; and those for clients within the cluster.
func shown(routes []route) []string {
	lines := []string{}
	for _, r := range routes {
		if r.protocol == "" {
			continue
		}
		line := fmt.Sprint(r.key(), " ", r.source, " ", r.endpoints)
		if r.inside != nil {
			line += fmt.Sprint(" inside ", r.inside.source, " ", r.inside.endpoints)
		}
		if r.refusal != "" {
			line += " " + r.refusal
		}
		if r.affinity > 0 {
			line += fmt.Sprint(" for ", r.affinity)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestRoutesSayWhatAServiceAsksFor(t *testing.T) {
	here, there := at("10.244.7.2"), at("10.244.8.2", elsewhere)
	local := corev1.ServiceInternalTrafficPolicyLocal
	for name, tc := range map[string]struct {
		change    func(*corev1.ServiceSpec)
		endpoints []discoveryv1.Endpoint
		want      []string
	}{
		"cluster address": {plain, []discoveryv1.Endpoint{there, here}, []string{"10.96.0.50 . tcp . 80 pods [10.244.7.2:8080 10.244.8.2:8080]"}},
		"nobody":          {plain, nil, []string{"10.96.0.50 . tcp . 80 pods [] goto rejected"}},
		"nobody is ready": {plain, []discoveryv1.Endpoint{at("10.244.7.2", unready)}, []string{"10.96.0.50 . tcp . 80 pods [] goto rejected"}},
		"headless":        {func(s *corev1.ServiceSpec) { s.ClusterIP = corev1.ClusterIPNone }, []discoveryv1.Endpoint{here}, []string{}},
		"not allocated":   {func(s *corev1.ServiceSpec) { s.ClusterIP = "" }, []discoveryv1.Endpoint{here}, []string{}},
		"external name":   {func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeExternalName }, []discoveryv1.Endpoint{here}, []string{}},
		"internal local": {func(s *corev1.ServiceSpec) { s.InternalTrafficPolicy = &local }, []discoveryv1.Endpoint{there, here},
			[]string{"10.96.0.50 . tcp . 80 pods [10.244.7.2:8080]"}},
		"internal local, none here": {func(s *corev1.ServiceSpec) { s.InternalTrafficPolicy = &local }, []discoveryv1.Endpoint{there},
			[]string{"10.96.0.50 . tcp . 80 pods [] drop"}},
		"node port": {nodePort, []discoveryv1.Endpoint{here}, []string{
			"10.96.0.50 . tcp . 80 pods [10.244.7.2:8080]", "tcp . 30080 none [10.244.7.2:8080]"}},
		"a node port of a Service that had one": {func(s *corev1.ServiceSpec) { s.Ports[0].NodePort = 30080 }, []discoveryv1.Endpoint{here},
			[]string{"10.96.0.50 . tcp . 80 pods [10.244.7.2:8080]"}},
		"external local": {func(s *corev1.ServiceSpec) {
			nodePort(s)
			s.ExternalTrafficPolicy, s.ExternalIPs = corev1.ServiceExternalTrafficPolicyLocal, []string{"192.0.2.7"}
		}, []discoveryv1.Endpoint{there}, []string{
			"10.96.0.50 . tcp . 80 pods [10.244.8.2:8080]",
			"192.0.2.7 . tcp . 80 all [] inside pods [10.244.8.2:8080] drop",
			"tcp . 30080 all [] inside pods [10.244.8.2:8080] drop"}},
		"affinity": {func(s *corev1.ServiceSpec) { s.SessionAffinity = corev1.ServiceAffinityClientIP }, []discoveryv1.Endpoint{here},
			[]string{"10.96.0.50 . tcp . 80 pods [10.244.7.2:8080] for 10800"}},
	} {
		t.Run(name, func(t *testing.T) {
			svc := service(corev1.ProtocolTCP, tc.change)
			got := shown(routesOf(svc, []*discoveryv1.EndpointSlice{sliceOf(svc, tc.endpoints...)}, "n1"))
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestNewConnectionsGoToReadyEndpointsElseToThoseThatServeToTheEnd(t *testing.T) {
	silent := func(e *discoveryv1.Endpoint) { *e.Conditions.Serving = false }
	unsaid := func(e *discoveryv1.Endpoint) { e.Conditions = discoveryv1.EndpointConditions{} }
	for name, tc := range map[string]struct {
		endpoints []discoveryv1.Endpoint
		want      []string
	}{
		"ready before terminating":  {[]discoveryv1.Endpoint{at("10.0.0.1"), at("10.0.0.2", terminating)}, []string{"10.0.0.1:8080"}},
		"terminating at the end":    {[]discoveryv1.Endpoint{at("10.0.0.1", unready), at("10.0.0.2", terminating)}, []string{"10.0.0.2:8080"}},
		"not if it fails its probe": {[]discoveryv1.Endpoint{at("10.0.0.2", terminating, silent)}, nil},
		"unsaid is ready":           {[]discoveryv1.Endpoint{at("10.0.0.3", unsaid)}, []string{"10.0.0.3:8080"}},
		"named twice":               {[]discoveryv1.Endpoint{at("10.0.0.1"), at("10.0.0.1")}, []string{"10.0.0.1:8080"}},
		"no address of ours":        {[]discoveryv1.Endpoint{at("fd00::1"), at("nonsense")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			svc := service(corev1.ProtocolTCP, plain)
			found := endpointsOf(&svc.Spec.Ports[0], []*discoveryv1.EndpointSlice{sliceOf(svc, tc.endpoints...)}, "n1")
			var got []string
			for _, a := range usable(found) {
				got = append(got, a.String())
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestPortsAreMatchedByNameAndProtocol(t *testing.T) {
	svc := service(corev1.ProtocolTCP, func(s *corev1.ServiceSpec) {
		s.Ports = []corev1.ServicePort{{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}, {Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53}}
	})
	slice := func(name string, protocol corev1.Protocol, number int32, ip string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{at(ip)},
			Ports: []discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &number}}}
	}
	got := shown(routesOf(svc, []*discoveryv1.EndpointSlice{
		slice("dns", corev1.ProtocolUDP, 5353, "10.0.0.1"), slice("dns-tcp", corev1.ProtocolTCP, 5354, "10.0.0.1"),
		slice("dns-tcp", corev1.ProtocolTCP, 5355, "10.0.0.2"), slice("dns", corev1.ProtocolTCP, 1, "10.0.0.3"),
	}, "n1"))
	want := []string{"10.96.0.50 . udp . 53 pods [10.0.0.1:5353]", "10.96.0.50 . tcp . 53 pods [10.0.0.1:5354 10.0.0.2:5355]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestOnlyOurConnectionsToWhatIsGoneEnd(t *testing.T) {
	tcp := frontend{netip.MustParseAddr(clusterIP), "tcp", 80}
	udp := frontend{netip.MustParseAddr(clusterIP), "udp", 80}
	old := frontend{netip.MustParseAddr(clusterIP), "tcp", 81}
	port := frontend{protocol: "tcp", port: 30080}
	viaNode := frontend{netip.MustParseAddr(nodeIP), "tcp", 30080}
	one, two, three := netip.MustParseAddrPort("10.0.0.1:8080"), netip.MustParseAddrPort("10.0.0.2:8080"), netip.MustParseAddrPort("10.0.0.3:8080")
	known := []endpoint{{address: one, ready: true, serving: true}, {address: two}}
	v := verdictsOn([]route{{frontend: old}}, []route{{frontend: tcp, known: known}, {frontend: udp, known: known}, {frontend: port, known: known}},
		netip.MustParsePrefix("10.96.0.0/16"))
	foreign := frontend{netip.MustParseAddr("198.51.100.1"), "udp", 53}
	deleted := frontend{netip.MustParseAddr("10.96.9.9"), "tcp", 80}
	for name, tc := range map[string]struct {
		flow flow
		want bool
	}{
		"tcp to an endpoint":                  {flow{tcp, one, true, true}, false},
		"tcp to one that is not ready":        {flow{tcp, two, true, true}, false},
		"tcp unanswered by an endpoint":       {flow{tcp, one, true, false}, false},
		"tcp unanswered by one not ready":     {flow{tcp, two, true, false}, true},
		"tcp to one that is gone":             {flow{tcp, three, true, true}, true},
		"udp to an endpoint":                  {flow{udp, one, true, false}, false},
		"udp to one that does not serve":      {flow{udp, two, true, false}, true},
		"udp that nobody answered":            {flow{udp, netip.AddrPortFrom(udp.address, 80), false, false}, true},
		"udp that somebody else translated":   {flow{udp, three, false, false}, false},
		"tcp that somebody else translated":   {flow{tcp, three, false, true}, false},
		"by a node port":                      {flow{viaNode, one, true, true}, false},
		"by a node port to one that is gone":  {flow{viaNode, three, true, true}, true},
		"by a port that is gone to one alive": {flow{old, one, true, true}, false},
		"by a port that is gone to one gone":  {flow{old, three, true, true}, true},
		"by a Service deleted long ago":       {flow{deleted, three, true, true}, true},
		"by another cluster's frontend":       {flow{foreign, three, true, true}, false},
		"udp of others":                       {flow{foreign, netip.MustParseAddrPort("198.51.100.1:53"), false, false}, false},
	} {
		if got := v.ends(tc.flow); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
